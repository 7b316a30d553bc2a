//! The program as platforms call it: names, flags, versions, exit codes.

#![expect(clippy::unwrap_used, reason = "tests: the helpers around the test functions, too")]

use std::path::Path;
use std::process::{Command, Output};
use tempfile::TempDir;

const NEWEST: (&str, &str) = ("CNB_PLATFORM_API", "0.15");

/// Runs the program by a name, in an environment of its own.
fn lifecycle(name: &str, arguments: &[&str], env: &[(&str, &str)]) -> (i32, String, String) {
    let dir = TempDir::new().unwrap();
    lifecycle_in(dir.path(), name, arguments, env)
}

fn lifecycle_in(dir: &Path, name: &str, arguments: &[&str], env: &[(&str, &str)]) -> (i32, String, String) {
    let program = dir.join(name);
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_lifecycle"), &program).unwrap();
    let Output { status, stdout, stderr } = Command::new(program)
        .args(arguments)
        .env_clear()
        .env("CNB_NO_COLOR", "true")
        .env("CNB_LAYERS_DIR", dir.join("layers"))
        .envs(env.iter().copied())
        .current_dir(dir)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

#[test]
fn the_name_of_the_program_or_a_subcommand_says_which_phase_it_is() {
    for (name, arguments, phase) in [
        ("analyzer", &["-log-level=debug"][..], "analyzer"),
        ("detector", &["-log-level=debug", "x"], "detector"),
        ("detector.exe", &["-log-level=debug", "x"], "detector"),
        ("detector.v2", &["-log-level=debug", "x"], "detector"),
        ("restorer", &["-log-level=debug", "x"], "restorer"),
        ("builder", &["-log-level=debug", "x"], "builder"),
        ("exporter", &["-log-level=debug"], "exporter"),
        ("creator", &["-log-level=debug"], "creator"),
        ("extender", &["-log-level=debug", "x"], "extender"),
        ("rebaser", &["-log-level=debug"], "rebaser"),
        ("lifecycle", &["detect", "-log-level=debug", "x"], "detect"),
        ("anything", &["some/where/analyze", "-log-level=debug"], "analyze"),
    ] {
        let (code, out, _) = lifecycle(name, arguments, &[NEWEST]);
        assert_eq!(code, 3, "{name}: {out}");
        assert!(out.contains(&format!(
            "Starting {phase}...\nParsing inputs...\nERROR: failed to parse arguments: "
        )));
    }
}

#[test]
fn without_a_phase_there_is_nothing_to_do() {
    let (code, out, _) = lifecycle("lifecycle", &[], &[]);
    assert_eq!((code, out.contains("ERROR: ")), (3, true));
    let (code, out, _) = lifecycle("lifecycle", &["paint"], &[NEWEST]);
    let valid = "detect, analyze, restore, build, export, rebase, create, extend";
    assert_eq!(code, 3);
    assert!(out.ends_with(&format!("failed to recognize phase: paint \nValid phases: {valid}\n")), "{out}");
    // The platform comes first.
    assert_eq!(lifecycle("lifecycle", &["paint"], &[]).0, 11);
    assert_eq!(lifecycle("lifecycle", &["--version"], &[NEWEST]).0, 3);
}

#[test]
fn the_version_is_printed_for_a_known_platform_or_by_the_program_itself() {
    let expected = (0, format!("{}\n", env!("CARGO_PKG_VERSION")));
    for (name, arguments, env) in [
        ("lifecycle", &["-version"][..], &[][..]),
        ("lifecycle", &["detect", "-version"], &[NEWEST]),
        ("detector", &["-version"], &[NEWEST]),
        ("analyzer", &["--version=true", "-daemon"], &[NEWEST]),
    ] {
        let (code, out, _) = lifecycle(name, arguments, env);
        let out = out.split('+').next().map(|text| format!("{}\n", text.trim_end())).unwrap();
        assert_eq!((code, out), expected, "{name} {arguments:?}");
    }
    assert_eq!(lifecycle("detector", &["-version"], &[]).0, 11);
}

#[test]
fn a_platform_must_speak_a_supported_version() {
    let get = "failed to get platform API version; please set 'CNB_PLATFORM_API' to specify the desired platform API \
               version";
    for (asked, expected) in [
        (None, get.to_owned()),
        (Some(""), get.to_owned()),
        (Some("  "), get.to_owned()),
        (Some("abc"), "failed to parse platform API 'abc'".to_owned()),
        (Some("0.9.1"), "failed to parse platform API '0.9.1'".to_owned()),
        (Some(" 0.9"), "failed to parse platform API ' 0.9'".to_owned()),
        (Some("0.6"), incompatible("0.6")),
        (Some("0.16"), incompatible("0.16")),
        (Some("1"), incompatible("1")),
    ] {
        let env: Vec<_> = asked.map(|version| ("CNB_PLATFORM_API", version)).into_iter().collect();
        let (code, out, err) = lifecycle("detector", &["-nonsense"], &env);
        let uncolored = out.replace("\x1b[31;1m", "").replace("\x1b[0m", "");
        assert_eq!((code, uncolored, err), (11, format!("ERROR: {expected}\n"), String::new()));
    }
    for version in ["0.7", "v0.8", "0.9", "0.10", "0.011", "0.12", "0.13", "0.14", "0.15"] {
        assert_eq!(lifecycle("detector", &["-h"], &[("CNB_PLATFORM_API", version)]).0, 0, "{version}");
    }
}

fn incompatible(version: &str) -> String {
    format!("failed to set platform API: platform API version '{version}' is incompatible with the lifecycle")
}

#[test]
fn wrong_flags_show_the_usage_on_standard_error() {
    for (arguments, first_line) in [
        (&["-nope"][..], "flag provided but not defined: -nope"),
        (&["-uid"], "flag needs an argument: -uid"),
        (&["-uid=root"], "invalid value \"root\" for flag -uid: parse error"),
        (&["-daemon=maybe"], "invalid boolean value \"maybe\" for -daemon: parse error"),
    ] {
        let (code, out, err) = lifecycle("analyzer", arguments, &[NEWEST]);
        assert_eq!((code, out.as_str()), (2, ""));
        assert!(
            err.starts_with(&format!("{first_line}\nUsage of lifecycle:\n  -analyzed string\n")),
            "{err}"
        );
    }
    let (code, out, err) = lifecycle("analyzer", &["--help"], &[NEWEST]);
    assert_eq!((code, out.as_str()), (0, ""));
    assert!(err.starts_with("Usage of lifecycle:\n  -analyzed string\n    \t"), "{err}");
}

#[test]
fn flags_depend_on_the_version() {
    let (code, _, err) = lifecycle("analyzer", &["-stack=x"], &[NEWEST]);
    assert_eq!((code, err.lines().next()), (2, Some("flag provided but not defined: -stack")));
    let (code, _, err) = lifecycle("analyzer", &["-run=x"], &[("CNB_PLATFORM_API", "0.11")]);
    assert_eq!((code, err.lines().next()), (2, Some("flag provided but not defined: -run")));
    assert_eq!(lifecycle("analyzer", &["-stack=x"], &[("CNB_PLATFORM_API", "0.11")]).0, 3);
}

#[test]
#[expect(clippy::too_many_lines, reason = "it is a table")]
fn inputs_that_do_not_fit_are_refused_before_anything_is_done() {
    for (name, arguments, env, code, expected) in [
        ("analyzer", &[][..], &[][..], 3, "failed to parse arguments: received 0 arguments, but expected 1"),
        ("creator", &["a", "b"], &[], 3, "failed to parse arguments: received 2 arguments, but expected 1"),
        ("exporter", &[], &[], 3, "failed to parse arguments: at least one image argument is required"),
        ("rebaser", &[], &[], 3, "failed to parse arguments: at least one image argument is required"),
        ("detector", &["x"], &[], 3, "failed to parse arguments: received unexpected arguments"),
        ("restorer", &["x"], &[], 3, "failed to parse arguments: received unexpected Args"),
        ("analyzer", &[""], &[], 3, "failed to resolve inputs: image argument is required"),
        (
            "analyzer",
            &["-run=none.toml", "a"],
            &[],
            3,
            "failed to resolve inputs: -run-image is required when there is no run metadata available",
        ),
        (
            "analyzer",
            &["-stack=none.toml", "a"],
            &[("CNB_PLATFORM_API", "0.11")],
            3,
            "failed to resolve inputs: missing run image metadata (-run-image)",
        ),
        (
            "analyzer",
            &["-run-image=r", "-tag=example.com/b", "a"],
            &[],
            3,
            "failed to resolve inputs: writing to multiple registries is unsupported",
        ),
        ("exporter", &["-run-image=r", "a"], &[], 3, "failed to resolve inputs: -run-image is unsupported"),
        ("exporter", &["-image=r", "a"], &[], 3, "failed to resolve inputs: -image is unsupported"),
        ("exporter", &["a"], &[], 3, "failed to resolve inputs: run image not found in analyzed metadata"),
        (
            "rebaser",
            &["-image=r", "-run-image=s", "a"],
            &[],
            3,
            "failed to resolve inputs: supply only one of -run-image or (deprecated) -image",
        ),
        (
            "restorer",
            &[],
            &[("CNB_USER_ID", "cnb")],
            3,
            "failed to resolve inputs: CNB_USER_ID is 'cnb', which is no user or group; expected a number from 0 to 4294967294",
        ),
        ("detector", &["-log-level=loud"], &[], 1, "failed to parse log level: invalid level"),
        (
            "analyzer",
            &["-layout", "-layout-dir=/nowhere", "-run-image=r", "a"],
            &[],
            1,
            "experimental features are disabled by CNB_EXPERIMENTAL_MODE=error",
        ),
        (
            "exporter",
            &["-layout", "-layout-dir=/nowhere", "-daemon", "a"],
            &[],
            3,
            "failed to resolve inputs: exporting to multiple targets is unsupported",
        ),
        (
            "analyzer",
            &["-layout", "-run-image=r", "a"],
            &[],
            3,
            "failed to resolve inputs: defining a layout directory is required when images are OCI layouts",
        ),
        (
            "extender",
            &["-kind=both"],
            &[],
            3,
            "failed to extend: 'both' is no kind of image; expected build or run",
        ),
    ] {
        let env = [&[NEWEST][..], env].concat();
        let (found, out, err) = lifecycle(name, arguments, &env);
        assert_eq!((found, err.as_str()), (code, ""), "{name} {arguments:?}: {out}");
        assert!(out.contains(&format!("ERROR: {expected}\n")), "{name} {arguments:?}: {out}");
    }
}

#[test]
fn the_analyzed_run_image_and_run_toml_are_read() {
    let dir = TempDir::new().unwrap();
    std::fs::create_dir(dir.path().join("layers")).unwrap();
    std::fs::write(dir.path().join("layers/analyzed.toml"), "[run-image]\nreference = 3\n").unwrap();
    let (code, out, _) = lifecycle_in(dir.path(), "exporter", &["a"], &[NEWEST]);
    assert_eq!(code, 3);
    assert!(out.contains("analyzed.toml is not valid: line 2, column 13"), "{out}");
    std::fs::write(dir.path().join("run.toml"), "[[images]]\nimage = \"BAD:::\"\n").unwrap();
    let layout = ("CNB_USE_OCI", "1");
    let (code, out, _) = lifecycle_in(dir.path(), "analyzer", &["-run=run.toml", "a"], &[NEWEST, layout]);
    assert_eq!(code, 3);
    assert!(out.contains("failed to resolve inputs: cannot parse image name \"BAD:::\""), "{out}");
}

#[test]
fn a_missing_document_is_told_and_the_name_of_the_image_comes_first() {
    let old = ("CNB_PLATFORM_API", "0.11");
    for (name, arguments, api, expected) in [
        (
            "analyzer",
            &["-run=r.toml", "app"][..],
            NEWEST,
            "No run metadata found at path \"r.toml\"\nERROR: ",
        ),
        ("creator", &["-stack=s.toml", "app"], old, "No stack metadata found at path \"s.toml\"\nERROR: "),
        (
            "exporter",
            &["-analyzed=a.toml", "app"],
            old,
            "Warning: No analyzed metadata found at path \"a.toml\"\nERROR: ",
        ),
        (
            "analyzer",
            &["-run=r.toml", "no name"],
            NEWEST,
            "ERROR: failed to resolve inputs: cannot parse image name",
        ),
    ] {
        let (code, out, _) = lifecycle(name, arguments, &[api]);
        assert_eq!(code, 3, "{out}");
        assert!(out.starts_with(expected), "{out}");
    }
}

#[test]
fn flags_after_a_name_are_told_and_the_level_is_kept() {
    let (_, out, _) = lifecycle("exporter", &["a", "-daemon"], &[NEWEST]);
    assert!(
        out.starts_with("Warning: Warning: unconsumed flag-like positional arg: \n\t-daemon\n\t This"),
        "{out}"
    );
    let (code, out, _) = lifecycle("exporter", &["-log-level=fatal", "a", "-daemon"], &[NEWEST]);
    assert_eq!((code, out.as_str()), (3, ""));
}

#[test]
fn errors_have_colors_unless_they_are_turned_off() {
    let (_, out, _) = lifecycle("exporter", &["-no-color=false"], &[NEWEST]);
    assert!(out.starts_with("\x1b[31;1mERROR: \x1b[0mfailed"), "{out:?}");
}

#[test]
fn a_log_that_nobody_reads_does_no_harm() {
    let dir = TempDir::new().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let program = dir.path().join("exporter");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_lifecycle"), &program).unwrap();
    let status = Command::new(program).env_clear().env(NEWEST.0, NEWEST.1).stdout(writer).status().unwrap();
    assert_eq!(status.code(), Some(3));
}
