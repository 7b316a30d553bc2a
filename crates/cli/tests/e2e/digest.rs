//! Equal inputs make the same image, whoever builds it, where and when.

use crate::bench::{Bench, Done, is_root};
use crate::image::layers;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::process::Command;

/// The same app and buildpacks in another folder.
fn bench() -> (Bench, std::path::PathBuf) {
    let bench = Bench::new();
    bench.write("app/marker", "the same everywhere");
    bench.write("app/assets/logo", "logo");
    let program = bench.write("app/program", "#!/bin/sh\n");
    fs::set_permissions(program, Permissions::from_mode(0o755)).unwrap();
    let buildpack = bench.add(&layers());
    (bench, buildpack)
}

fn digest_here() -> String {
    let (bench, buildpack) = bench();
    bench.build(&[], &[buildpack]).ok().digest()
}

#[test]
fn neither_folder_nor_umask_nor_time_zone_nor_tag_matters() {
    let expected = digest_here();
    for (umask, zone, tag) in
        [("022", "UTC", "web"), ("077", "Asia/Tokyo", "web"), ("000", "UTC", "other:1.0")]
    {
        let (bench, buildpack) = bench();
        let mut private = fs::metadata(bench.path("app/marker")).unwrap().permissions();
        private.set_mode(0o600);
        fs::set_permissions(bench.path("app/marker"), private).unwrap();
        let strata = bench.build_command(&["-t", tag], &[buildpack]);
        let mut command = Command::new("sh");
        command.args(["-c", &format!("umask {umask}; exec \"$@\""), "sh"]);
        command.arg(strata.get_program()).args(strata.get_args());
        command.env_clear().envs(strata.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.env("TZ", zone).env("LANG", "tr_TR.UTF-8").current_dir(bench.path(""));
        assert_eq!(Done::of(command).ok().digest(), expected, "umask {umask}, TZ {zone}, tag {tag}");
    }
}

#[test]
fn the_user_does_not_matter() {
    assert!(is_root(), "only root can build as another user: run this test as root");
    let (bench, buildpack) = bench();
    for tail in ["", "app", "app/assets", "buildpacks"] {
        fs::set_permissions(bench.path(tail), Permissions::from_mode(0o755)).unwrap();
    }
    let program = bench.path("strata");
    fs::copy(env!("CARGO_BIN_EXE_strata"), &program).unwrap();
    fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    chown(bench.path("home"), Some(4242), Some(4242)).unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "4242", "--regid", "4242", "--clear-groups"]).arg(program);
    command.args(["build", "app", "-t", "web", "--layout-dir", "home/images", "--buildpack"]).arg(buildpack);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", bench.path("home"));
    command.current_dir(bench.path(""));
    assert_eq!(Done::of(command).ok().digest(), digest_here());
}

#[test]
fn a_change_of_the_app_changes_only_the_apps_layer() {
    let (bench, buildpack) = bench();
    let layers = |bench: &Bench| -> Vec<String> {
        bench.inspect()["layers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|layer| layer["digest"].to_string())
            .collect()
    };
    bench.build(&[], std::slice::from_ref(&buildpack)).ok();
    let before = layers(&bench);
    bench.write("app/more", "more");
    bench.build(&[], &[buildpack]).ok();
    let after = layers(&bench);
    assert_eq!(before.len(), after.len());
    assert_eq!(before.iter().zip(&after).filter(|(a, b)| a != b).count(), 1);
}

#[test]
fn the_time_is_what_was_asked_for() {
    let (bench, buildpack) = bench();
    let mut command = bench.build_command(&["-t", "web"], &[buildpack]);
    command.env("SOURCE_DATE_EPOCH", "86400");
    Done::of(command).ok();
    assert_eq!(bench.inspect()["created"], "1970-01-02T00:00:00Z");
}
