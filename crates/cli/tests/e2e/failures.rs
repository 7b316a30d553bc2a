//! What goes wrong is said, has its exit code, and leaves nothing behind.

use crate::bench::{Bench, Buildpack, Done};
use std::os::unix::fs::PermissionsExt as _;

/// Builds, and checks everything that holds for each failure.
#[track_caller]
fn fails(bench: &Bench, done: &Done, code: i32, texts: &[&str]) {
    assert_eq!(done.code, code, "{done:#?}");
    assert!(done.stderr.contains("ERROR: "), "{done:#?}");
    for text in texts {
        assert!(done.stderr.contains(text), "no '{text}' in {done:#?}");
    }
    assert!(!done.stderr.contains("panicked"), "{done:#?}");
    assert!(!bench.has_image(), "an image is left");
    bench.is_clean_soon();
}

#[track_caller]
fn build_fails(buildpack: &Buildpack, code: i32, texts: &[&str]) {
    let bench = Bench::new();
    let dir = bench.add(buildpack);
    fails(&bench, &bench.build(&[], &[dir]), code, texts);
}

#[test]
fn no_group_passes() {
    build_fails(&Buildpack::new("e2e/no").detect("exit 100"), 20, &["no buildpacks participating"]);
}

#[test]
fn a_detect_errs() {
    let bench = Bench::new();
    let dir = bench.add(&Buildpack::new("e2e/broken").detect("echo out of luck >&2; exit 4"));
    let done = bench.build(&[], &[dir]);
    let cause = "cause: e2e/broken@1.0.0: bin/detect ended with exit status 4; its last words: out of luck";
    fails(&bench, &done, 21, &["failed with err", cause]);
    let all = format!("{}{}", done.stdout, done.stderr);
    assert!(all.contains("out of luck") && all.contains("e2e/broken"), "{done:#?}");
}

#[test]
fn a_detect_writes_a_broken_plan() {
    build_fails(&Buildpack::new("e2e/plan").detect("echo 'provides = 1' >\"$plan\""), 21, &[]);
}

#[test]
fn a_build_fails() {
    let buildpack = Buildpack::new("e2e/failing").build("echo first; echo the last words >&2; exit 3");
    build_fails(&buildpack, 51, &["e2e/failing@1.0.0", "exit status 3", "the last words"]);
}

#[test]
fn a_build_is_killed() {
    build_fails(&Buildpack::new("e2e/killed").build("kill -9 $$"), 51, &["e2e/killed@1.0.0", "SIGKILL"]);
}

#[test]
fn a_buildpack_lacks_its_programs() {
    let bench = Bench::new();
    let dir = bench.add(&Buildpack::new("e2e/lacking"));
    for (program, code) in [("build", 51), ("detect", 21)] {
        let program = dir.join("bin").join(program);
        std::fs::remove_file(&program).unwrap();
        let done = bench.build(&[], std::slice::from_ref(&dir));
        let missing = format!("{} is not there", program.display());
        fails(&bench, &done, code, &["e2e/lacking@1.0.0", "there is no such file", &missing]);
    }
}

#[test]
fn why_a_program_cannot_be_run_is_said_with_what_to_do() {
    for (program, code) in [("build", 51), ("detect", 21)] {
        for (script, mode, texts) in [
            ("#!/bin/sh", 0o644, ["it is not executable", "chmod +x /"]),
            (
                "#!/no/such/shell",
                0o755,
                ["its interpreter /no/such/shell is not there", "use a builder image"],
            ),
            ("#!/bin/sh\r", 0o755, ["a carriage return", "line ends of Unix"]),
            ("no script", 0o755, ["neither a script", "#!/usr/bin/env bash"]),
        ] {
            let bench = Bench::new();
            let dir = bench.add(&Buildpack::new("e2e/odd"));
            let file = dir.join("bin").join(program);
            std::fs::write(&file, format!("{script}\nexit 0\n")).unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            let done = bench.build(&[], &[dir]);
            fails(&bench, &done, code, &[]);
            let all = format!("{}{}", done.stdout, done.stderr);
            assert!(!all.contains("/cnb/buildpacks/"), "{done:#?}");
            for text in texts.iter().chain(&["e2e/odd@1.0.0"]) {
                assert!(all.contains(text), "no '{text}' in {done:#?}");
            }
        }
    }
    build_fails(
        &Buildpack::new("e2e/lost").build("no-such-program"),
        51,
        &["exit status 127", "no-such-program", "Hint: a program that it calls is not there"],
    );
}

#[test]
fn the_log_of_a_failed_build_has_all_of_it_and_no_values() {
    let bench = Bench::new();
    let script = "for i in $(seq 2000); do echo \"line $i\"; done; printf '\\033[31mred\\033[0m\\n'; exit 1";
    let dir = bench.add(&Buildpack::new("e2e/loud").build(script));
    let done = bench.build(&["--env", "SECRET=hidden", "--quiet"], std::slice::from_ref(&dir));
    fails(&bench, &done, 51, &["e2e/loud@1.0.0", "line 2000"]);
    let log = done.stderr.lines().find_map(|line| line.strip_prefix("Log: ")).unwrap();
    let log = log.strip_prefix("~/").unwrap_or_else(|| panic!("{log}"));
    assert!(log.starts_with(".local/state/strata/logs/"), "{log}");
    let text = std::fs::read_to_string(bench.path("home").join(log)).unwrap();
    for expected in
        ["] [e2e/loud@1.0.0] line 1\n", "] [e2e/loud@1.0.0] red\n", "===> DETECTING", "exit status 1"]
    {
        assert!(text.contains(expected), "no '{expected}' in {text}");
    }
    assert!(!text.contains("hidden"), "{text}");
    let state = bench.path("state");
    let mut command = bench.build_command(&["-t", "web"], &[dir]);
    let done = Done::of({
        command.env("XDG_STATE_HOME", &state);
        command
    });
    assert!(done.stderr.contains(&format!("Log: {}/strata/logs/", state.display())), "{done:#?}");
    // What fails before it begins leaves none.
    let logs = || std::fs::read_dir(bench.path("home/.local/state/strata/logs")).unwrap().count();
    let before = logs();
    let done = bench.build(&["--builder", "./nowhere"], &[]);
    assert!(!done.stderr.contains("Log: "), "{done:#?}");
    assert_eq!(logs(), before);
}

#[test]
fn a_launch_toml_is_broken() {
    let script = r#"printf '[[processes]]\ntype = "web"\ncommand = \n' >"$layers/launch.toml""#;
    build_fails(&Buildpack::new("e2e/toml").build(script), 52, &["e2e/toml@1.0.0", "launch.toml", "line 3"]);
}

#[test]
fn a_layer_toml_is_broken() {
    let script = r#"mkdir "$layers/x"; printf 'launch = true\n' >"$layers/x.toml""#;
    build_fails(&Buildpack::new("e2e/layer").build(script), 52, &["e2e/layer@1.0.0", "x.toml", "types"]);
}

#[test]
fn two_processes_are_the_default() {
    let script = r#"for type in a b; do
        printf '[[processes]]\ntype = "%s"\ncommand = ["x"]\ndefault = true\n' $type
    done >"$layers/launch.toml""#;
    build_fails(
        &Buildpack::new("e2e/two").build(script),
        52,
        &["e2e/two@1.0.0", "multiple default process types"],
    );
}

#[test]
fn an_api_is_unknown() {
    build_fails(&Buildpack::new("e2e/api").api("99.0"), 12, &["e2e/api@1.0.0", "99.0"]);
    build_fails(&Buildpack::new("e2e/api").api("new"), 12, &["e2e/api@1.0.0", "new"]);
}

#[test]
fn an_unmet_name_was_never_asked_for() {
    let script = r#"printf '[[unmet]]\nname = "cheese"\n' >"$layers/build.toml""#;
    build_fails(&Buildpack::new("e2e/unmet").build(script), 52, &["e2e/unmet@1.0.0", "cheese"]);
}

#[test]
fn a_launch_layer_has_no_contents() {
    let script = r#"layer ghost launch; rmdir "$layers/ghost""#;
    build_fails(&Buildpack::new("e2e/ghost").build(script), 62, &["e2e/ghost:ghost"]);
}

#[test]
fn a_process_left_running_is_ended_with_a_warning() {
    let bench = Bench::new();
    let dir = bench.add(&Buildpack::new("e2e/leaver").build("(exec -a MARKER sleep 1000) & echo started"));
    let done = bench.build(&[], &[dir]).ok();
    done.says("Warning: buildpack e2e/leaver@1.0.0 left 1 process(es) running");
    bench.is_clean_soon();
}

#[test]
fn the_asked_process_type_is_unknown() {
    let bench = Bench::new();
    let dir = bench.add(&crate::run::probing());
    let done = bench.build(&["--process-type", "nothing"], &[dir]);
    fails(&bench, &done, 62, &["'nothing'", "web"]);
}

#[test]
fn the_output_is_a_file() {
    let bench = Bench::new();
    let dir = bench.add(&Buildpack::new("e2e/good"));
    bench.write("file", "mine");
    for output in ["file", "file/below"] {
        let done = bench.build(&["-o", output], std::slice::from_ref(&dir));
        fails(&bench, &done, 62, &["file is not a folder"]);
        assert!(!done.stdout.contains("==="), "something was built: {done:#?}");
    }
    assert_eq!(std::fs::read_to_string(bench.path("file")).unwrap(), "mine");
}

#[test]
fn the_output_has_something_else() {
    let bench = Bench::new();
    let dir = bench.add(&Buildpack::new("e2e/good"));
    bench.write("folder/file", "mine");
    let done = bench.build(&["-o", "folder"], &[dir]);
    fails(&bench, &done, 62, &["neither empty nor an OCI layout"]);
    assert_eq!(std::fs::read_dir(bench.path("folder")).unwrap().count(), 1);
}

#[test]
fn the_builder_is_missing() {
    let bench = Bench::new();
    let done = bench.build(&["--builder", "./nowhere"], &[]);
    fails(&bench, &done, 3, &["./nowhere/builder.toml", "Hint: "]);
    let done = bench.build(&["--builder", "oci:nowhere"], &[]);
    fails(&bench, &done, 3, &["cannot open the image 'oci:nowhere'"]);
}

#[test]
fn the_builder_names_what_is_not_there() {
    let bench = Bench::new();
    let good = bench.add(&Buildpack::new("e2e/good"));
    let order = "[[order]]\n[[order.group]]\nid = \"e2e/other\"\nversion = \"1.0.0\"\n";
    let builder = bench.builder(&[good], order);
    let done = bench.build(&["--builder", builder.to_str().unwrap()], &[]);
    fails(&bench, &done, 22, &["e2e/other@1.0.0"]);
}

#[test]
fn the_builder_is_no_toml() {
    let bench = Bench::new();
    bench.write("builder/builder.toml", "[[order]]\n[[order.group]\n");
    let done = bench.build(&["--builder", "builder"], &[]);
    fails(&bench, &done, 3, &["builder.toml", "line 2"]);
}

#[test]
fn the_app_is_missing() {
    let bench = Bench::new();
    let dir = bench.add(&Buildpack::new("e2e/good"));
    std::fs::remove_dir_all(bench.path("app")).unwrap();
    fails(&bench, &bench.build(&[], &[dir]), 3, &["app"]);
}

#[test]
fn the_app_is_a_file() {
    let bench = Bench::new();
    let dir = bench.add(&Buildpack::new("e2e/good"));
    std::fs::remove_dir_all(bench.path("app")).unwrap();
    bench.write("app", "a file");
    fails(
        &bench,
        &bench.build(&[], &[dir]),
        3,
        &["cannot take the app from app", "it has to be a folder, a tar archive"],
    );
}

#[test]
fn names_are_checked() {
    let bench = Bench::new();
    let dir = bench.add(&Buildpack::new("e2e/good"));
    for name in ["Web", "we b", "web:", "../web", ""] {
        let done = Done::of(bench.build_command(&["-t", name], std::slice::from_ref(&dir)));
        fails(&bench, &done, 3, &[&format!("'{name}' is no image name")]);
    }
    for variable in ["=x", "A/B=x"] {
        let done = bench.build(&["--env", variable], std::slice::from_ref(&dir));
        fails(&bench, &done, 3, &["is no variable"]);
    }
}

#[test]
fn an_image_survives_a_later_failure() {
    let bench = Bench::new();
    let good = bench.add(&crate::run::probing());
    let digest = bench.build(&[], std::slice::from_ref(&good)).ok().digest();
    let bad = bench.add(&Buildpack::new("e2e/bad").build("exit 1"));
    assert_eq!(bench.build(&[], &[good.clone(), bad]).code, 51);
    assert_eq!(bench.build(&["--process-type", "nothing"], &[good]).code, 62);
    assert_eq!(bench.inspect()["digest"], digest);
    assert_eq!(bench.run(&[]).code, 7);
}

/// What a buildpack leaves is read outside of the sandbox, where a link leads to this machine's own files.
#[test]
fn what_leads_out_of_the_layers_is_refused() {
    const LAUNCH: &str = r#"printf '[types]\nlaunch = true\n'"#;
    for (script, text) in [
        (format!(r#"{LAUNCH} >"$layers/x.toml"; ln -s OUT "$layers/x""#), "a layer is a folder"),
        (r#"rm -rf "$layers"; ln -s OUT "$layers""#.to_owned(), "symbolic link"),
        (format!(r#"{LAUNCH} >"$layers/...toml""#), "no layer can have this name"),
        (r#"ln -s OUT/x.toml "$layers/x.toml""#.to_owned(), "symbolic link"),
        (r#"ln -s OUT/store.toml "$layers/store.toml""#.to_owned(), "symbolic link"),
        (r#"mkfifo "$layers/store.toml""#.to_owned(), "not a regular file"),
        (
            r#"mkdir -p "$layers/x/env"; printf '[types]\nbuild = true\n' >"$layers/x.toml"; ln -s /dev/zero "$layers/x/env/X""#
                .to_owned(),
            "not a regular file",
        ),
    ] {
        let bench = Bench::new();
        bench.write("out/x.toml", "[types]\nlaunch = true\n");
        let out = bench.path("out").display().to_string();
        let dir = bench.add(&Buildpack::new("e2e/evil").build(&script.replace("OUT", &out)));
        fails(&bench, &bench.build(&[], &[dir]), 52, &["e2e/evil@1.0.0", text]);
    }
}

#[test]
fn a_later_buildpack_cannot_put_a_link_in_place_of_an_earlier_ones_layers() {
    let bench = Bench::new();
    let out = bench.path("out");
    bench.write("out/x.toml", "[types]\nlaunch = true\n");
    bench.write("out/x/secret", "secret");
    let first = bench.add(&Buildpack::new("e2e/first"));
    let script = format!("rm -rf /layers/e2e_first; ln -s {} /layers/e2e_first", out.display());
    let second = bench.add(&Buildpack::new("e2e/second").build(&script));
    fails(&bench, &bench.build(&[], &[first, second]), 52, &["e2e/first", "symbolic link"]);
}

#[test]
fn the_folder_of_the_outcome_is_the_lifecycles_own() {
    let bench = Bench::new();
    let script = format!("ln -s {} /layers/config", bench.path("out").display());
    bench.write(
        "out/metadata.toml",
        "[[processes]]\ntype = \"../../etc/evil\"\ncommand = [\"x\"]\ndirect = true\n",
    );
    let dir = bench.add(&Buildpack::new("e2e/config").build(&script));
    bench.build(&[], &[dir]).ok();
    assert_eq!(bench.label("io.buildpacks.build.metadata")["processes"], serde_json::json!([]));

    let reserved = bench.add(&Buildpack::new("config"));
    let done = bench.build(&[], &[reserved]);
    assert_eq!(done.code, 3, "{done:#?}");
    assert!(done.stderr.contains("'config' is not allowed"), "{done:#?}");
}

#[test]
fn a_process_that_writes_on_does_not_hold_the_build_up() {
    let bench = Bench::new();
    let dir = bench.add(&Buildpack::new("e2e/endless").build("yes & exit 0"));
    let done = bench.build(&[], &[dir]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    bench.is_clean_soon();
}

#[test]
fn a_failed_build_keeps_the_users_own_files() {
    let bench = Bench::new();
    let dir = bench.add(&Buildpack::new("e2e/good"));
    let keep = bench.path("keep");
    std::fs::create_dir_all(keep.join("blobs/sha256")).unwrap();
    bench.write("keep/oci-layout", "{\"imageLayoutVersion\": \"1.0.0\"}");
    bench.write("keep/index.json", "{\"schemaVersion\":2,\"manifests\":[]}");
    bench.write("keep/notes", "mine");
    let output = keep.display().to_string();
    let mut command =
        bench.strata(["build", "app", "--output", &output, "--process-type", "none", "--buildpack"]);
    command.arg(dir);
    let done = Done::of(command);
    assert_eq!(done.code, 62, "{done:#?}");
    assert_eq!(std::fs::read_to_string(keep.join("notes")).unwrap(), "mine");
}

#[test]
fn flags_that_are_refused_are_an_event_too() {
    let bench = Bench::new();
    let good = [bench.add(&Buildpack::new("e2e/good"))];
    for (args, message) in [
        (&["--extension", "x"][..], "--extension"),
        (&["--platform", "linux/s390x"], "linux/s390x"),
        (&["-o", "registry:web", "--output-format", "oci"], "--output-format says it again"),
        (&["--publish", "-o", "dir"], "--publish has no name"),
    ] {
        let mut command = bench.build_command(&[&["--json"], args].concat(), &good);
        command.arg("--no-cache");
        let done = Done::of(command);
        assert_eq!(done.code, 3, "{done:#?}");
        let last: serde_json::Value = serde_json::from_str(done.stdout.lines().last().unwrap()).unwrap();
        assert_eq!(last["event"], "failed", "{done:#?}");
        assert!(last["message"].as_str().unwrap().contains(message), "{done:#?}");
    }
    assert!(!bench.has_image() && !bench.path("dir").exists());
    let done = bench.build(&["--dry-run", "--debug-shell"], &good);
    assert!(done.code == 3 && done.stderr.contains("--debug-shell is for builds"), "{done:#?}");
}

#[test]
fn what_flags_name_is_looked_for_before_anything_is_built() {
    let bench = Bench::new();
    let buildpack = bench.add(&Buildpack::new("e2e/one").build("touch \"$platform/../ran\" || echo ran"));
    let broken = bench.write("broken.toml", "[[");
    let broken = broken.to_str().unwrap();
    for (flags, message) in [
        (&["--volume", "/none:/x"][..], "cannot use the volume /none:/x: there is no /none"),
        (&["--report-extra", "none"], "failed to read the table for the report"),
        (&["--report-extra", broken], "failed to read the table for the report"),
        (&["--report", "none/report.toml"], "cannot write the report"),
    ] {
        let done = bench.build(flags, std::slice::from_ref(&buildpack));
        assert!(done.code == 3 && done.stderr.contains(message), "{done:#?}");
        assert!(!done.stdout.contains("ran") && !done.stdout.contains("DETECT"), "{done:#?}");
        assert!(!bench.has_image() && !bench.path("none").exists());
    }
}

#[test]
fn an_image_that_cannot_be_opened_has_one_exit_code() {
    let bench = Bench::new();
    let good = bench.add(&Buildpack::new("e2e/good").build("echo BUILT"));
    let good = good.to_str().unwrap();
    bench.write("file", "{}");
    bench.write("junk.tar", "junk");
    bench.write("builder.toml", "[build]\nimage = \"oci:absent\"\n[[run.images]]\nimage = \"x\"\n");
    let build = ["build", "app", "-t", "new", "-b", good];
    let commands: [(&[&str], &[&str]); 15] = [
        (&["build", "app", "-t", "new", "--builder"], &[]),
        (&[&build[..], &["--run-image"]].concat(), &[]),
        (&[&build[..], &["--previous-image"]].concat(), &[]),
        (&["build", "app", "-t", "new", "-b"], &[]),
        (&["plan", "app", "-b", good, "--run-image"], &[]),
        (&["run"], &[]),
        (&["inspect"], &[]),
        (&["trace"], &[]),
        (&["trace"], &["/file"]),
        (&["diff"], &["oci:absent"]),
        (&["copy"], &["oci:out"]),
        (&["rebase"], &[]),
        (&["attach"], &["file", "--type", "application/json"]),
        (&["sbom"], &[]),
        (&["sbom", "diff"], &["oci:absent"]),
    ];
    let absent =
        ["registry:127.0.0.1:1/absent", "oci:absent", "oci-archive:absent.tar", "oci-archive:junk.tar"];
    for (before, after) in commands {
        for image in absent {
            let args = [before, &[image], after, &["--layout-dir", "images"]].concat();
            let done = Done::of(bench.strata(&args));
            assert!(
                done.code == 3 && done.stderr.contains("absent") | done.stderr.contains("junk"),
                "{args:?}: {done:#?}"
            );
            assert!(!done.stdout.contains("BUILT") && !bench.path("out").exists(), "{args:?}: {done:#?}");
        }
    }
    for image in absent.iter().filter(|image| !image.contains("junk")) {
        // Of an archive that is there, that it is none is the answer.
        assert_eq!(Done::of(bench.strata(["validate", image])).code, 3, "{image}");
    }
    let create = ["builder", "create", "oci:out", "--config", "builder.toml"];
    assert_eq!(Done::of(bench.strata(create)).code, 3);
    assert!(!bench.has_image() && !bench.path("out").exists());
}

#[test]
fn a_failed_build_says_what_one_can_do() {
    let bench = Bench::new();
    let one = |script: &str| bench.add(&Buildpack::new("e2e/one").build(script));
    let done = bench.build(&["--json"], &[one("exit 3")]);
    let failed: serde_json::Value = serde_json::from_str(done.stdout.lines().last().unwrap()).unwrap();
    assert!(failed["hint"].as_str().unwrap().contains("--debug-shell"), "{failed:#}");
    assert!(std::path::Path::new(failed["log"].as_str().unwrap()).is_file(), "{failed:#}");
    let done = bench.build(&[], &[one("echo '[[' >\"$layers/launch.toml\"")]);
    assert!(done.code == 52 && done.stderr.contains("Hint: the buildpack is at fault"), "{done:#?}");
    let done = bench.build(&["--default-process", "zz"], &[one("")]);
    assert!(done.code == 62 && done.stderr.contains("Hint: ask for one that there is"), "{done:#?}");
    bench.builder(&[one("")], "[[order]]\n[[order.group]]\nid = \"e2e/two\"\n");
    let done = bench.build(&["--builder", bench.path("builder").to_str().unwrap()], &[]);
    assert!(done.code == 22 && done.stderr.contains("at hand are e2e_one@1.0.0"), "{done:#?}");
}
