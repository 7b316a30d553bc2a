//! What people and programs see of a build.

use crate::bench::{Bench, Buildpack, Done, Running};
use crate::run::probing;
use serde_json::Value;

fn events(stdout: &str) -> Vec<Value> {
    stdout.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"))).collect()
}

#[test]
fn what_buildpacks_say_while_they_detect_is_heard_at_once_and_once() {
    let bench = Bench::new();
    std::fs::create_dir(bench.path("share")).unwrap();
    let volume = format!("{}:/share", bench.path("share").display());
    let patient = "echo waits here; until [ -e /share/go ]; do sleep 0.05; done; echo goes on";
    let dir = bench.add(&Buildpack::new("e2e/patient").detect(patient));
    let args = ["-t", "web", "--verbose", "--volume", &volume];
    let mut build = Running::start(bench.build_command(&args, std::slice::from_ref(&dir)));
    build.wait_for_line("[e2e/patient@1.0.0] waits here");
    bench.write("share/go", "");
    build.wait_for_line("[e2e/patient@1.0.0] goes on");
    assert_eq!(build.end(), 0);
    let done = Done::of(bench.build_command(&args, std::slice::from_ref(&dir))).ok();
    assert_eq!(done.stdout.matches("waits here").count(), 1, "{done:#?}");
    assert!(!bench.build(&["--volume", &volume], &[dir]).ok().stdout.contains("waits here"));
    // Where nobody passes, all is told that was said.
    let no = bench.add(&Buildpack::new("e2e/no").detect("echo looked; exit 100"));
    let done = bench.build(&[], &[no]);
    assert_eq!((done.code, done.stdout.matches("looked").count()), (20, 1), "{done:#?}");
}

#[test]
fn events_are_json_lines() {
    let bench = Bench::new();
    let dir = bench.add(
        &probing()
            .detect("echo detects")
            .build("probe; echo 'a \"quoted\" line'; printf '\\xff\\n'; printf 'no end'"),
    );
    let done = bench.build(&["--json"], &[dir]).ok();
    let events = events(&done.stdout);
    let kinds: Vec<&str> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    for kind in [
        "phase-started",
        "detect-output",
        "detected",
        "buildpack-started",
        "output",
        "buildpack-finished",
        "layer",
    ] {
        assert!(kinds.contains(&kind), "{kind}: {kinds:?}");
    }
    // Each is explained.
    let explained = include_str!("../../../../docs/events.md");
    for event in &events {
        let fields: Vec<&String> = event.as_object().unwrap().keys().collect();
        let kind = event["event"].as_str().unwrap();
        let row = explained.lines().find(|line| line.starts_with(&format!("| `{kind}` |")));
        let row = row.unwrap_or_else(|| panic!("{kind} is not explained"));
        let is_explained = |field: &&String| {
            row.contains(&format!("`{field}`")) || explained.contains(&format!("\"{field}\":"))
        };
        let missing: Vec<_> = fields.into_iter().filter(|field| !is_explained(field)).collect();
        assert!(missing.is_empty(), "{kind}: {missing:?} are not explained");
    }
    let images: Vec<&Value> = events.iter().filter(|event| event["event"] == "image").collect();
    assert_eq!(images.len(), 1, "{kinds:?}");
    let lines: Vec<&Value> = events.iter().filter(|e| e["event"] == "output").map(|e| &e["line"]).collect();
    assert_eq!(lines, ["a \"quoted\" line", "\u{fffd}", "no end"]);
    assert_eq!(images[0]["digest"], bench.inspect()["digest"]);
    let (summary, phases) = (events.last().unwrap(), ["detect", "restore", "build", "export", "cache"]);
    assert_eq!((&summary["event"], &summary["digest"]), (&"summary".into(), &images[0]["digest"]));
    let named: Vec<_> = summary["phases"].as_array().unwrap().iter().map(|phase| &phase["phase"]).collect();
    assert_eq!(named, phases);
    let buildpack = &summary["buildpacks"][0];
    assert_eq!(buildpack["layers"]["built"]["count"], 1, "{summary}");
    assert!(buildpack["millis"].as_u64().unwrap() > 0, "{summary}");
    assert_eq!(summary["next"][0], "strata trace web --layout-dir images");
    let again =
        self::events(&bench.build(&["--json"], &[bench.path("buildpacks/e2e_probe@1.0.0")]).ok().stdout);
    let again = again.last().unwrap();
    assert_eq!(again["layers"]["built"]["count"], 0, "{again}");
    assert_eq!(again["layers"]["reused"], summary["layers"]["built"], "{again}");
    assert!(summary["phases"].as_array().unwrap().len() < again["phases"].as_array().unwrap().len());
}

#[test]
fn a_failure_is_an_event_too() {
    let bench = Bench::new();
    let dir = bench.add(&Buildpack::new("e2e/bad").build("echo why; exit 1"));
    let done = bench.build(&["--json"], &[dir]);
    assert_eq!(done.code, 51);
    let events = events(&done.stdout);
    let last = events.last().unwrap();
    assert_eq!(last["event"], "failed");
    assert!(last["message"].as_str().unwrap().contains("e2e/bad@1.0.0"), "{last}");
}

#[test]
fn a_command_line_that_is_not_understood_is_an_event_too() {
    let bench = Bench::new();
    for (args, message, hint) in [
        (&["build", "app", "--json", "--tagg", "web"][..], "unexpected argument '--tagg' found", "'--tag'"),
        (&["build", "app", "-o", "-", "--json", "--network", "moon"], "invalid value 'moon'", "--help"),
        (&["copy", "--json"], "the following required arguments were not provided: <FROM> <TO>", "--help"),
        (&["rebase", "web", "--json", "-x"], "unexpected argument '-x' found", "-- -x"),
    ] {
        let done = Done::of(bench.strata(args));
        let is_pipe = args.contains(&"-");
        let event = if is_pipe { done.stderr.lines().next().unwrap() } else { &done.stdout };
        let event: Value = serde_json::from_str(event).unwrap_or_else(|error| panic!("{error}: {done:#?}"));
        assert_eq!(
            (done.code, &event["event"], &event["exit"]),
            (2, &"failed".into(), &"flags".into()),
            "{done:#?}"
        );
        assert!(event["message"].as_str().unwrap().contains(message), "{done:#?}");
        assert!(event["hint"].as_str().unwrap().contains(hint), "{done:#?}");
        assert!(done.stderr.contains("error: ") && (!is_pipe || done.stdout.is_empty()), "{done:#?}");
    }
    let done = Done::of(bench.strata(["build", "app", "--nope"]));
    assert_eq!((done.code, done.stdout.as_str()), (2, ""));
}

#[test]
fn quiet_prints_the_digest_alone() {
    let bench = Bench::new();
    let dir = bench.add(&probing());
    let done = bench.build(&["--quiet"], &[dir]).ok();
    assert_eq!(done.stdout.trim_end(), bench.inspect()["digest"].as_str().unwrap());
    assert_eq!(done.stderr, "");
}

#[test]
fn people_see_each_buildpacks_lines() {
    let bench = Bench::new();
    let dir = bench.add(&probing().detect("echo detects").build("probe; echo on stdout; echo on stderr >&2"));
    let done = bench.build(&[], &[dir]).ok();
    for text in ["===> DETECTING", "===> BUILDING", "===> EXPORTING", "] on stdout\n", "] on stderr\n"] {
        done.says(text);
    }
    assert!(!done.stdout.contains('\u{1b}'), "colours without a terminal: {done:#?}");
    done.says("[e2e/probe@1.0.0] on stdout");
}

#[test]
fn an_image_can_also_go_to_a_folder() {
    let bench = Bench::new();
    let dir = bench.add(&probing());
    let digest = bench.build(&["-o", "out"], std::slice::from_ref(&dir)).ok().digest();
    for reference in ["oci:out", "oci:only"] {
        if reference == "oci:only" {
            let only = bench.build_command(&["-o", "only"], std::slice::from_ref(&dir));
            assert_eq!(crate::bench::Done::of(only).ok().digest(), digest);
        }
        let seen = crate::bench::Done::of(bench.strata(["inspect", reference, "--json"])).ok();
        assert_eq!(serde_json::from_str::<Value>(&seen.stdout).unwrap()["digest"], digest);
        let folder = bench.path(reference.trim_start_matches("oci:"));
        let seen = crate::bench::tool("skopeo", &["inspect", &format!("oci:{}", folder.display())]);
        assert_eq!(serde_json::from_str::<Value>(&seen).unwrap()["Digest"], digest);
    }
    // An image that is there is replaced.
    bench.build(&["-o", "out"], &[dir]).ok();
}
