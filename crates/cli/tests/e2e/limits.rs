//! Limits on what buildpacks use.

use crate::bench::{Bench, Buildpack, Done, is_root};
use std::process::Command;

#[test]
fn a_buildpack_that_wants_more_memory_than_it_may_have_is_ended_and_named() {
    assert!(is_root(), "only root can make control groups here: run this test as root");
    let bench = Bench::new();
    let hog = bench.add(&Buildpack::new("e2e/hog").build("head -c 400m /dev/zero | tail -c 300m >/dev/null"));
    let done = bench.build(&["--memory", "96m"], &[hog]);
    assert_eq!(done.code, 51, "{done:#?}");
    assert!(done.stderr.contains("bin/build of buildpack e2e/hog@"), "{done:#?}");
    assert!(done.stderr.contains("more memory than the 96 MiB of --memory, and"), "{done:#?}");
    bench.is_clean_soon();
}

#[test]
fn a_fork_bomb_ends_at_the_limit() {
    assert!(is_root(), "only root can make control groups here: run this test as root");
    let bench = Bench::new();
    let bomb =
        bench.add(&Buildpack::new("e2e/bomb").build("bomb() { bomb | bomb & }; bomb; sleep 1; exit 7"));
    let done = bench.build(&["--pids-limit", "64", "--cpus", "1"], &[bomb]);
    assert_eq!(done.code, 51, "{done:#?}");
    assert!(done.stderr.contains("more processes than the 64 of --pids-limit"), "{done:#?}");
    bench.is_clean_soon();
    let fine = bench.add(&Buildpack::new("e2e/fine").build("echo fine"));
    let limits = ["--memory", "1g", "--pids-limit", "200", "--cpus", "1.5"];
    bench.build(&limits, std::slice::from_ref(&fine)).ok().says("fine");
    for (flag, value, word) in [
        ("--memory", "lots", "512m"),
        ("--memory", "1m", "nothing runs in less"),
        ("--cpus", "0", "processors"),
        ("--pids-limit", "63", "less than 64 processes"),
    ] {
        let done = bench.build(&[flag, value], std::slice::from_ref(&fine));
        assert!(done.code == 2 && done.stderr.contains(word), "{done:#?}");
    }
}

#[test]
fn a_buildpack_that_would_fill_the_disk_is_ended_before() {
    assert!(is_root(), "only root can mount a small disk here: run this test as root");
    let bench = Bench::new();
    let build = |script: &str, args: &[&str]| {
        let hog = bench.add(&Buildpack::new("e2e/hog").build(script));
        let strata = bench.build_command(&[&["-t", "web"], args].concat(), &[hog]);
        let mut command = Command::new("unshare");
        // A disk of its own where builds write.
        command.args([
            "--mount",
            "sh",
            "-c",
            "mount -t tmpfs -o size=64m,nr_inodes=4000 none /var/tmp && exec \"$@\"",
            "-",
        ]);
        command.arg(strata.get_program()).args(strata.get_args()).current_dir(bench.path("."));
        for (name, value) in strata.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        Done::of(command)
    };
    let filling = "layer full cache; while head -c 1m /dev/zero >>$layers/full/file; do sleep 0.02; done";
    let done = build(filling, &[]);
    assert!(
        done.code == 52 && done.stderr.contains("ended before it fills the disk: less than 32 MiB"),
        "{done:#?}"
    );
    // Outside its layers as well.
    let elsewhere = filling.replace("$layers/full/file", "/opt/file");
    assert!(build(&elsewhere, &["--keep-free", "16m"]).stderr.contains("less than 16 MiB"));
    let files = "for i in $(seq 20000); do echo >$layers/$i.x || exit 9; ((i % 20)) || sleep 0.02; done";
    assert!(build(files, &[]).stderr.contains("room for less than"));
    // Who wants it can fill the disk, and who leaves enough is not in the way of anybody.
    let full = elsewhere.replace("done", "done; rm /opt/file");
    build(&full, &["--keep-free", "0"]).ok();
    build("head -c 20m /dev/zero >$layers/file; sleep 0.2", &[]).ok();
    bench.is_clean_soon();
}
