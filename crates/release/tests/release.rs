//! A release of made-up programs, read back with the tools that others read it with.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use strata_oci::Platform;
use strata_store::{Layout, Store};

const ARCHES: [(&str, &str, u16); 2] = [("amd64", "x86-64", 62), ("arm64", "arm64", 183)];
const LOCK: &str = r#"version = 4
[[package]]
name = "app"
version = "0.1.0"
[[package]]
name = "ours"
version = "0.1.0"
[[package]]
name = "theirs"
version = "1.2.3+build"
source = "registry+https://github.com/rust-lang/crates.io-index"
checksum = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
"#;
const CRATES: &str = "0app v0.1.0 (/home/me/app)\tApache-2.0\thttps://example.com/app\t\n\
                      1ours v0.1.0 (/home/me/ours)\tApache-2.0\t\t\n\
                      2theirs v1.2.3+build\tMIT/Apache-2.0\thttps://example.com/theirs\t\n\
                      1theirs v1.2.3+build\tMIT/Apache-2.0\thttps://example.com/theirs\t (*)\n";

/// A header of a program without segments, and something to tell programs apart.
fn program(machine: u16, text: &str) -> Vec<u8> {
    let mut bytes = vec![0; 64];
    bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
    bytes[18..20].copy_from_slice(&machine.to_le_bytes());
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

fn programs(dir: &Path) {
    fs::write(dir.join("Cargo.lock"), LOCK).unwrap();
    for (arch, _, machine) in ARCHES {
        let dir = dir.join(arch);
        fs::create_dir(&dir).unwrap();
        for name in ["lifecycle", "launcher"] {
            fs::write(dir.join(name), program(machine, &format!("{name} for {arch}"))).unwrap();
            fs::write(dir.join(name).with_extension("crates"), CRATES).unwrap();
        }
    }
}

fn release(dir: &Path, output: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_strata-release"))
        .args(["--programs".as_ref(), dir.as_os_str(), "--lock".as_ref(), dir.join("Cargo.lock").as_os_str()])
        .args(arguments)
        .arg(output)
        .output()
        .unwrap()
}

/// A directory with the programs and the release made of them in `out`.
fn released() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    programs(dir.path());
    let output = dir.path().join("out");
    let run = release(dir.path(), &output, &["--version", "0.21.0", "--commit", "abc123"]);
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    (dir, output)
}

fn tool(name: &str, arguments: &[&str], dir: &Path) -> String {
    let run = Command::new(name).args(arguments).current_dir(dir).output().unwrap();
    assert!(run.status.success(), "{name} {arguments:?}: {}", String::from_utf8_lossy(&run.stderr));
    String::from_utf8(run.stdout).unwrap()
}

fn bytes_below(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = PathBuf::from(path.file_name().unwrap());
        if path.is_dir() {
            found.extend(bytes_below(&path).into_iter().map(|(inner, bytes)| (name.join(inner), bytes)));
        } else {
            found.insert(name, fs::read(&path).unwrap());
        }
    }
    found
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let (_one, first) = released();
    let (_two, second) = released();
    let first = bytes_below(&first);
    assert!(first.len() > 10);
    assert_eq!(first, bytes_below(&second));
}

#[test]
fn the_tarball_is_what_platforms_unpack() {
    let (_dir, output) = released();
    for (arch, name, machine) in ARCHES {
        let tarball = format!("strata-lifecycle-v0.21.0+linux.{name}.tgz");
        tool("sha256sum", &["--check", "--strict", &format!("{tarball}.sha256")], &output);
        let listed = tool("tar", &["--utc", "--full-time", "-tvzf", &tarball], &output);
        let lines: Vec<Vec<&str>> = listed.lines().map(|line| line.split_whitespace().collect()).collect();
        let entries: Vec<String> =
            lines.iter().map(|line| format!("{} {}", line[0], line[5..].join(" "))).collect();
        let symlink = |name: &str| format!("lrwxrwxrwx lifecycle/{name} -> lifecycle");
        let bill = |name: &str, format: &str| format!("-rw-r--r-- lifecycle/{name}.sbom.{format}.json");
        let mut expected = vec!["-rw-r--r-- lifecycle.toml".to_owned(), "drwxr-xr-x lifecycle".to_owned()];
        expected.extend(["analyzer", "builder", "creator", "detector", "exporter", "extender"].map(symlink));
        for name in ["launcher", "lifecycle"] {
            expected.push(format!("-rwxr-xr-x lifecycle/{name}"));
            expected.extend(["cdx", "spdx", "syft"].map(|format| bill(name, format)));
        }
        expected.extend(["rebaser", "restorer"].map(symlink));
        assert_eq!(entries, expected);
        assert!(
            lines.iter().all(|line| line[1] == "0/0" && line[3..5] == ["1980-01-01", "00:00:01"]),
            "{listed}"
        );

        let into = tempfile::tempdir().unwrap();
        let tarball = output.join(tarball);
        tool("tar", &["-xzf", tarball.to_str().unwrap()], into.path());
        let detector = fs::read(into.path().join("lifecycle/detector")).unwrap();
        assert_eq!(detector, program(machine, &format!("lifecycle for {arch}")));
        let toml = fs::read_to_string(into.path().join("lifecycle.toml")).unwrap();
        assert!(toml.contains("version = \"0.21.0\""), "{toml}");
    }
}

fn is_ascending(versions: &Value) -> bool {
    let minor = |version: &Value| -> u32 {
        version.as_str().unwrap().split_once('.').map(|(_, minor)| minor.parse().unwrap()).unwrap()
    };
    let versions = versions.as_array().unwrap();
    versions.len() > 5 && versions.windows(2).all(|pair| minor(&pair[0]) < minor(&pair[1]))
}

#[test]
fn one_tag_stands_for_the_image_of_each_architecture() {
    let (_dir, output) = released();
    for (arch, name, _) in ARCHES {
        for tag in ["0.21.0".to_owned(), format!("0.21.0-linux-{name}")] {
            let image = format!("oci:{}:{tag}", output.join("lifecycle-image").display());
            let config = tool("skopeo", &["--override-arch", arch, "inspect", "--config", &image], &output);
            let config: Value = serde_json::from_str(&config).unwrap();
            assert_eq!((&config["architecture"], &config["os"]), (&json!(arch), &json!("linux")));
            assert_eq!(config["created"], "1980-01-01T00:00:01Z");
            assert_eq!(config["config"]["WorkingDir"], "/layers");
            let labels = &config["config"]["Labels"];
            assert_eq!(labels["io.buildpacks.lifecycle.version"], "0.21.0");
            let json = |name: &str| serde_json::from_str::<Value>(labels[name].as_str().unwrap()).unwrap();
            let apis = json("io.buildpacks.lifecycle.apis");
            for kind in ["buildpack", "platform"] {
                assert!(is_ascending(&apis[kind]["supported"]), "{apis}");
                assert_eq!(apis[kind]["deprecated"], json!([]));
            }
            assert_eq!(
                json("io.buildpacks.builder.metadata"),
                json!({"lifecycle": {"version": "0.21.0"}, "api": {"buildpack": "0.7", "platform": "0.7"}})
            );
        }
    }
}

#[test]
fn the_last_layer_holds_the_lifecycle_below_cnb() {
    let (_dir, output) = released();
    for (arch, ..) in ARCHES {
        let layout = Layout::open(output.join("lifecycle-image"))
            .tagged("0.21.0")
            .for_platform(Platform::new("linux", arch));
        let image = layout.read_image().unwrap().unwrap().image;
        strata_oci::validate(&image).unwrap();
        let blob = layout.blob_path(&image.layers().last().unwrap().descriptor.digest);
        let names = tool("tar", &["-tPzf", blob.to_str().unwrap()], &output);
        let names: Vec<&str> = names.lines().collect();
        assert_eq!(names[..3], ["/cnb", "/cnb/lifecycle.toml", "/cnb/lifecycle"]);
        assert!(names[3..].iter().all(|name| name.starts_with("/cnb/lifecycle/")), "{names:?}");
        let into = tempfile::tempdir().unwrap();
        tool("tar", &["-xzf", blob.to_str().unwrap()], into.path());
        let creator = fs::read(into.path().join("cnb/lifecycle/creator")).unwrap();
        assert!(creator.ends_with(format!("lifecycle for {arch}").as_bytes()));
    }
}

fn sbom(output: &Path, name: &str) -> Value {
    let tarball = output.join("strata-lifecycle-v0.21.0+linux.arm64.tgz");
    let entry = format!("lifecycle/{name}");
    let text = tool("tar", &["-xOzf", tarball.to_str().unwrap(), &entry], output);
    assert!(!text.contains("/home/me"), "paths of the machine are in {name}");
    serde_json::from_str(&text).unwrap()
}

fn texts<'a>(items: &'a Value, key: &str) -> BTreeSet<&'a str> {
    items.as_array().unwrap().iter().map(|item| item[key].as_str().unwrap()).collect()
}

#[test]
fn the_bills_of_materials_name_every_crate_and_how_they_use_each_other() {
    let (_dir, output) = released();
    let git = "vcs_url=git%2Bhttps://github.com/strata-build/strata%40abc123";
    let (launcher, ours) = (format!("pkg:cargo/app@0.21.0?{git}"), format!("pkg:cargo/ours@0.1.0?{git}"));
    let theirs = "pkg:cargo/theirs@1.2.3%2Bbuild";

    let cdx = sbom(&output, "launcher.sbom.cdx.json");
    assert_eq!(cdx["metadata"]["component"]["bom-ref"], launcher);
    assert_eq!(texts(&cdx["components"], "purl"), BTreeSet::from([&*ours, theirs]));
    assert_eq!(cdx["components"][1]["licenses"][0]["expression"], "MIT OR Apache-2.0");
    assert_eq!(cdx["components"][1]["hashes"][0]["content"], "a".repeat(64));
    assert_eq!(
        cdx["dependencies"],
        json!([
            {"ref": launcher, "dependsOn": [ours, theirs]},
            {"ref": ours, "dependsOn": [theirs]},
            {"ref": theirs, "dependsOn": []},
        ])
    );

    let spdx = sbom(&output, "launcher.sbom.spdx.json");
    let ids = texts(&spdx["packages"], "SPDXID");
    assert_eq!(ids.len(), 3);
    assert!(texts(&spdx["relationships"], "relatedSpdxElement").is_subset(&ids));
    assert_eq!(spdx["relationships"].as_array().unwrap().len(), 1 + 3);

    let syft = sbom(&output, "launcher.sbom.syft.json");
    let mut ids = texts(&syft["artifacts"], "id");
    assert_eq!(ids.len(), 3);
    ids.insert(syft["source"]["id"].as_str().unwrap());
    assert!(texts(&syft["artifactRelationships"], "parent").is_subset(&ids));
    assert_eq!(syft["artifactRelationships"].as_array().unwrap().len(), 3 + 3);

    // Two programs are two documents.
    let other = sbom(&output, "lifecycle.sbom.cdx.json");
    assert_ne!(other["serialNumber"], cdx["serialNumber"]);
}

#[test]
fn what_would_not_run_is_not_released() {
    let dir = tempfile::tempdir().unwrap();
    programs(dir.path());
    let output = dir.path().join("out");
    let arm = fs::read(dir.path().join("arm64/launcher")).unwrap();
    let mut large = program(62, "");
    large.resize(700 * 1024 + 1, 0);
    for (launcher, arguments, problem) in [
        (None, ["--version", "0.21"], "three plain numbers"),
        (Some(arm), ["--version", "0.21.0"], "machine 183"),
        (Some(b"#!/bin/sh\n".to_vec()), ["--version", "0.21.0"], "no 64-bit ELF"),
        (Some(large), ["--version", "0.21.0"], "the limit is 716800"),
    ] {
        if let Some(launcher) = launcher {
            fs::write(dir.path().join("amd64/launcher"), launcher).unwrap();
        }
        let run = release(dir.path(), &output, &arguments);
        let stderr = String::from_utf8(run.stderr).unwrap();
        assert!(!run.status.success() && stderr.contains(problem), "{stderr}");
        assert!(!output.exists());
    }
    // The other architecture is as good as before.
    assert!(release(dir.path(), &output, &["--version", "0.21.0", "--arch", "arm64"]).status.success());
}
