//! Names that an image gets, and the flags that pack's users know.

use crate::bench::{Bench, Buildpack, Done, tool};
use crate::registry::Registry;
use serde_json::Value;
use std::fs;
use std::path::PathBuf;

/// Two layers, and an SBOM file for one.
fn maker(bench: &Bench) -> PathBuf {
    bench.add(&Buildpack::new("e2e/makes").toml("sbom-formats = [\"application/vnd.cyclonedx+json\"]\n").build(
        r#"layer one launch; for n in {1..3000}; do echo "$n MARKER"; done >"$layers/one/file"
        layer two launch; echo MARKER >"$layers/two/file"
        echo '{"bomFormat":"CycloneDX","specVersion":"1.4","version":1}' >"$layers/one.sbom.cdx.json"
        { echo '[[processes]]'; for t in web other; do [ $t = web ] || echo '[[processes]]'; echo "type = \"$t\"
command = [\"true\"]"; done; } | tail -n +2 >"$layers/launch.toml""#,
    ))
}

fn digest_in(registry: &str, name: &str) -> Value {
    let place = format!("docker://{registry}/{name}");
    let seen: Value =
        serde_json::from_str(&tool("skopeo", &["inspect", "--tls-verify=false", &place])).unwrap();
    seen["Digest"].clone()
}

#[test]
fn an_image_gets_all_names_and_its_bytes_are_there_once() {
    use std::os::unix::fs::MetadataExt;
    let bench = Bench::new();
    let done = bench.build(&["-t", "web:1.0,example.com/team/web:1.0", "-t", "web"], &[maker(&bench)]).ok();
    done.says(
        "Image   index.docker.io/library/web:latest, index.docker.io/library/web:1.0, example.com/team/web:1.0",
    );
    let dirs =
        ["index.docker.io/library/web/latest", "index.docker.io/library/web/1.0", "example.com/team/web/1.0"];
    for name in ["web", "web:1.0", "example.com/team/web:1.0"] {
        let shown = Done::of(bench.strata(["inspect", name, "--layout-dir", "images", "--json"])).ok();
        let shown: Value = serde_json::from_str(&shown.stdout).unwrap();
        assert_eq!(shown["digest"], done.digest(), "{name}");
        Done::of(bench.strata(["trace", name, "--layout-dir", "images"])).ok().says("e2e/makes");
    }
    for blob in fs::read_dir(bench.path("images").join(dirs[0]).join("blobs/sha256")).unwrap() {
        let name = blob.unwrap().file_name();
        let inodes = dirs.map(|dir| {
            let path = bench.path("images").join(dir).join("blobs/sha256").join(&name);
            path.metadata().map_or(0, |metadata| metadata.ino())
        });
        // Documents are written anew; layers are the same files.
        if bench.path("images").join(dirs[0]).join("blobs/sha256").join(&name).metadata().unwrap().len()
            > 4096
        {
            assert!(inodes.iter().all(|inode| *inode == inodes[0]), "{name:?} {inodes:?}");
        }
    }
    let done = Done::of(bench.build_command(&["-t", "no name"], &[maker(&bench)]));
    assert!(done.code == 3 && done.stderr.contains("'no name' is no image name"), "{done:#?}");
}

#[test]
fn an_image_is_published_under_all_names_and_each_byte_is_sent_once() {
    let bench = Bench::new();
    let registry = Registry::start(&bench);
    let host = registry.host.clone();
    let names = ["team/web:1", "team/web:2", "other/web:1"];
    let mut args: Vec<String> = vec!["--publish".into()];
    names.iter().for_each(|name| args.extend(["-t".to_owned(), format!("{host}/{name}")]));
    let publish = |more: &[&str]| {
        let args: Vec<&str> = args.iter().map(String::as_str).chain(more.iter().copied()).collect();
        Done::of(bench.build_command(&args, &[maker(&bench)]))
    };
    let done = publish(&["--json"]).ok();
    let events: Vec<Value> = done.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |kind: &str| events.iter().filter(|event| event["event"] == kind).cloned().collect::<Vec<_>>();
    let image = &of("image")[0];
    let expected: Vec<String> = names.iter().map(|name| format!("registry:{host}/{name}")).collect();
    assert_eq!(image["names"], serde_json::json!(expected));
    for name in names {
        assert_eq!(digest_in(&host, name), image["digest"], "{name}");
    }
    // Of each layer: sent to the first, there already for the second, shared with the third.
    let mut sent = std::collections::BTreeMap::new();
    for blob in of("blob").iter().chain(&parse(&done.stderr, "blob")) {
        let how = blob["how"].as_str().unwrap().to_owned();
        *sent.entry((blob["digest"].as_str().unwrap().to_owned(), how)).or_insert(0) += 1;
    }
    let twice: Vec<_> = sent.iter().filter(|((_, how), count)| how == "copied" && **count > 1).collect();
    assert!(!sent.is_empty() && twice.is_empty(), "{sent:?}");
    // It is not kept here, and the next build takes its layers from there.
    assert!(!bench.has_image());
    let again = publish(&[]).ok();
    again.says(image["digest"].as_str().unwrap());
    assert!(!bench.has_image());
    drop(registry);
    bench.is_clean_soon();
}

fn parse(text: &str, kind: &str) -> Vec<Value> {
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|event| event["event"] == kind).collect()
}

#[test]
fn a_launch_layer_that_was_published_is_reused_without_a_cache() {
    let bench = Bench::new();
    let registry = Registry::start(&bench);
    let buildpack = bench.add(&Buildpack::new("e2e/keeps").build(
        r#"if [ -e "$layers/kept.toml" ]; then echo "kept is known"; echo "[types]
launch = true" >"$layers/kept.toml"; exit; fi
        layer kept launch; echo MARKER >"$layers/kept/file""#,
    ));
    let name = format!("{}/team/web", registry.host);
    let publish = || {
        let mut command =
            bench.build_command(&["-t", &name, "--publish", "--no-cache"], std::slice::from_ref(&buildpack));
        command.env("XDG_CACHE_HOME", bench.path("cache"));
        Done::of(command).ok()
    };
    let digest = publish().digest();
    fs::remove_dir_all(bench.path("cache")).unwrap_or_default();
    let again = publish();
    again.says("kept is known");
    assert_eq!(again.digest(), digest);
}

#[test]
fn packs_words_are_understood() {
    let bench = Bench::new();
    let maker = maker(&bench);
    let args = [
        "build",
        "web",
        "--path",
        "app",
        "--layout-dir",
        "images",
        "--trust-builder",
        "--interactive",
        "--lifecycle-image",
        "some/image",
        "--docker-host",
        "inherit",
        "--cache",
        "type=build;format=bind;source=cache",
        "-D",
        "other",
        "--creation-time",
        "1700000000",
        "--sbom-output-dir",
        "out/sboms",
        "--report-output-dir",
        "out/report",
        "-b",
    ];
    let mut command = bench.strata(args);
    command.arg(&maker);
    let done = Done::of(command).ok();
    done.says("--trust-builder changes nothing here");
    done.says("--lifecycle-image changes nothing here");
    assert!(!done.stdout.contains("--interactive"), "{done:#?}");
    done.says("starts  other");
    let config = bench.config();
    assert_eq!(config["created"], "2023-11-14T22:13:20Z");
    assert!(
        bench.path("cache/committed").exists() || bench.path("cache").read_dir().unwrap().next().is_some()
    );
    let sbom = fs::read_to_string(bench.path("out/sboms/launch/e2e_makes/one/sbom.cdx.json")).unwrap();
    assert!(sbom.contains("CycloneDX"));
    let report = fs::read_to_string(bench.path("out/report/report.toml")).unwrap();
    assert!(
        report.contains(&done.digest()) && report.contains("index.docker.io/library/web:latest"),
        "{report}"
    );
    // What cannot be had is said.
    for (args, message) in [
        (&["--extension", "a/b"][..], "image extensions are not supported"),
        (&["--platform", "linux/riscv64"], "cannot build for linux/riscv64"),
        (&["--creation-time", "yesterday"], "--creation-time is 'yesterday'"),
        (&["--cache", "type=build;format=tape"], "the format 'tape' is not known"),
        (&["--exec-env", "a b"], "expected letters"),
        (&["--sbom-output-dir", "app/marker"], "cannot make the folder"),
    ] {
        let done = bench.build(args, std::slice::from_ref(&maker));
        assert!((done.code == 3 || done.code == 2) && done.stderr.contains(message), "{args:?}: {done:#?}");
    }
    let done = Done::of(bench.build_command(&[], &[maker]));
    assert!(done.code == 3 && done.stderr.contains("neither --tag nor --output"), "{done:#?}");
}
