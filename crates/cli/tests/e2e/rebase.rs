//! A newer run image below an image that is not built again.

use crate::bench::{Bench, Buildpack, Done, is_root};
use crate::docker::Docker;
use crate::registry::Registry;
use serde_json::Value;
use strata_store::{Layout, host_architecture, scratch};

fn strata(bench: &Bench, args: &[&str]) -> Done {
    Done::of(bench.strata([args, &["--layout-dir", "images"]].concat()))
}

fn json(bench: &Bench, args: &[&str]) -> Value {
    serde_json::from_str(&strata(bench, &[args, &["--json"]].concat()).ok().stdout).unwrap()
}

/// Makes the run image `oci:base:v1` anew; `user` is what differs.
fn base(bench: &Bench, user: u32) {
    let layout = Layout::open_or_create(bench.path("base")).unwrap().tagged("v1");
    let image = scratch::base(host_architecture(), user, user, "1980-01-01T00:00:01Z").unwrap();
    image.put_in(&layout, &[]).unwrap();
}

fn diff_ids(image: &Value) -> Vec<String> {
    let layers = image["layers"].as_array().unwrap();
    layers.iter().map(|layer| layer["diffId"].as_str().unwrap().to_owned()).collect()
}

/// The types of what refers to an image.
fn artifacts(bench: &Bench, name: &str) -> Vec<String> {
    let all = json(bench, &["inspect", name])["artifacts"].clone();
    let kind = |artifact: &Value| artifact["artifactType"].as_str().unwrap().to_owned();
    all.as_array().unwrap().iter().map(kind).collect()
}

#[test]
fn an_image_is_put_on_a_newer_run_image_wherever_it_is() {
    let bench = Bench::new();
    base(&bench, 1000);
    let registry = Registry::start(&bench);
    let run_image = format!("registry:{}/team/base:1", registry.host);
    strata(&bench, &["copy", "oci:base:v1", &run_image]).ok();
    let buildpack =
        bench.add(&Buildpack::new("acme/node").build("layer deps launch; cp marker \"$layers/deps/\""));
    bench.build(&["--run-image", &run_image], &[buildpack]).ok();
    let place = format!("registry:{}/team/web:1", registry.host);
    for to in [&place, "oci:layout:v1"] {
        strata(&bench, &["copy", "web", to]).ok();
    }
    let before = json(&bench, &["trace", "web"]);
    base(&bench, 1001);
    strata(&bench, &["copy", "oci:base:v1", &run_image]).ok();
    for (name, args) in [
        ("web", &[][..]),
        (&place, &["--run-image", &run_image]),
        ("oci:layout:v1", &["--run-image", "oci:base:v1", "--force"]),
    ] {
        let note = bench.write("note.txt", "of the image before").display().to_string();
        strata(&bench, &["attach", name, &note, "--type", "text/plain"]).ok();
        let done = strata(&bench, &[&["rebase", name], args].concat()).ok();
        done.says("1 thing of others beside the image is not carried on");
        // No digest is broken where a terminal has 80 columns.
        for words in [vec!["rebase", name], vec!["inspect", name], vec!["copy", name, "oci:copied:x"]] {
            let args = if words[0] == "rebase" { args } else { &[][..] };
            let done = strata(&bench, &[&words[..], args].concat()).ok();
            let mut digests = done.stdout.lines().filter(|line| line.contains("sha256:")).peekable();
            assert!(digests.peek().is_some(), "{done:#?}");
            assert!(digests.all(|line| line.chars().count() <= 80), "{done:#?}");
        }
        assert!(format!("{done:?}").contains("Copying 1 blob"), "{done:#?}");
        // A bill of what it is made of now.
        let kinds = artifacts(&bench, name);
        let has = |kind: &str| kinds.iter().any(|found| found == kind);
        assert!(has("application/vnd.cyclonedx+json") && !has("text/plain"), "{kinds:?}");
        let bill = |args: &[&str]| strata(&bench, &[&["sbom", name], args].concat()).ok().stdout;
        assert_eq!(bill(&[]), bill(&["--fresh"]));
        let after = json(&bench, &["trace", name]);
        done.says(after["digest"].as_str().unwrap());
        assert_ne!(after["digest"], before["digest"], "{name}");
        let (old, new) = (diff_ids(&before), diff_ids(&after));
        assert_ne!(old[0], new[0], "{name}");
        assert_eq!(old[1..], new[1..], "{name}");
        // It is known of both where they come from: the build, and the image before.
        assert_eq!(after["build"]["id"], before["build"]["id"], "{name}");
        assert_eq!(after["rebases"][0]["imageDigest"], before["digest"], "{name}");
        strata(&bench, &["validate", name]).ok();
        let again = strata(&bench, &[&["rebase", name], args].concat()).ok();
        again.says(after["digest"].as_str().unwrap());
    }
    let done = strata(&bench, &["rebase", "web", "--run-image", "oci:base:v1"]);
    assert!(done.code != 0 && done.stderr.contains("Hint: here it is --force"), "{done:#?}");
}

#[test]
fn what_cannot_be_rebased_is_said() {
    let bench = Bench::new();
    bench.build(&[], &[bench.add(&Buildpack::new("acme/none"))]).ok();
    base(&bench, 1001);
    strata(&bench, &["copy", "web", "oci-archive:web.tar"]).ok();
    for (name, args, why) in [
        ("web", &[][..], "it names no run image that could be newer"),
        ("oci-archive:web.tar", &["--run-image", "oci:base:v1"], "an archive is not changed where it is"),
        ("nothing", &["--run-image", "oci:base:v1"], "there is none"),
        ("web", &["--run-image", "oci:nowhere:x"], "there is none"),
        ("oci:base:v1", &["--run-image", "oci:base:v1"], "rebase"),
    ] {
        let done = strata(&bench, &[&["rebase", name], args].concat());
        assert!(done.code != 0 && done.stderr.contains(why), "{name} {args:?}: {done:#?}");
    }
}

#[test]
fn an_image_in_docker_is_put_on_a_newer_run_image() {
    assert!(is_root(), "a private Docker can only be started by root: run this test as root");
    let bench = Bench::new();
    let docker = Docker::start(&bench);
    let strata = |args: &[&str]| {
        let mut command = bench.strata([args, &["--layout-dir", "images"]].concat());
        command.env("DOCKER_HOST", &docker.host);
        Done::of(command).ok()
    };
    base(&bench, 1000);
    strata(&["copy", "oci:base:v1", "docker:base:1"]);
    let buildpack = bench.add(&Buildpack::new("acme/node").build("layer deps launch"));
    let mut command =
        bench.build_command(&["--run-image", "docker:base:1", "-o", "docker:web:1"], &[buildpack]);
    command.env("DOCKER_HOST", &docker.host);
    Done::of(command).ok();
    let trace =
        || -> Value { serde_json::from_str(&strata(&["trace", "docker:web:1", "--json"]).stdout).unwrap() };
    let before = trace();
    base(&bench, 1001);
    strata(&["copy", "oci:base:v1", "docker:base:1"]);
    strata(&["rebase", "docker:web:1", "--run-image", "docker:base:1", "--force"]);
    let after = trace();
    assert_ne!(before["digest"], after["digest"]);
    assert_eq!(after["build"]["id"], before["build"]["id"]);
    assert_eq!(diff_ids(&before)[1..], diff_ids(&after)[1..]);
    assert_eq!(after["rebases"].as_array().map(Vec::len), Some(1));
}
