//! Images under way: what one sees of it, and what comes along.

use crate::bench::{Bench, Done};
use crate::registry::Registry;
use crate::run::probing;
use serde_json::Value;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use strata_oci::Platform;
use strata_store::{Layout, Store, host_architecture, scratch};

/// An image whose layers no pipe has room for.
fn built(bench: &Bench) {
    let mut random = vec![0; 2_000_000];
    File::open("/dev/urandom").unwrap().read_exact(&mut random).unwrap();
    fs::write(bench.path("app/random"), random).unwrap();
    let buildpack = bench.add(&probing());
    bench.build(&["--sbom", "never", "--origins", "never"], &[buildpack]).ok();
}

fn strata(bench: &Bench, args: &[&str]) -> Done {
    Done::of(bench.strata([args, &["--layout-dir", "images"]].concat()))
}

fn json(done: Done) -> Value {
    serde_json::from_str(&done.ok().stdout).unwrap()
}

/// What is said, piece by piece: ended by carriage returns as well as by line feeds.
fn pieces(from: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, pieces) = channel();
    std::thread::spawn(move || {
        let mut from = BufReader::new(from);
        loop {
            let mut piece = Vec::new();
            let ended = from.read_until(b'\r', &mut piece);
            // A terminal that nobody has open any more is an error rather than an end.
            if !ended.is_ok_and(|count| count > 0) {
                return;
            }
            for line in String::from_utf8_lossy(&piece).lines() {
                sender.send(line.to_owned()).unwrap_or_default();
            }
        }
    });
    pieces
}

fn lines(from: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            sender.send(line).unwrap_or_default();
        }
    });
    lines
}

/// Waits for one with this text; all that came before, and it.
#[track_caller]
fn wait_for_text(lines: &Receiver<String>, text: &str) -> Vec<String> {
    let mut seen: Vec<String> = Vec::new();
    while !seen.last().is_some_and(|line| line.contains(text)) {
        let next = lines.recv_timeout(std::time::Duration::from_secs(60));
        seen.push(next.unwrap_or_else(|_| panic!("no '{text}' in {seen:#?}")));
    }
    seen
}

/// Copies the image to a pipe that nobody reads until this was said, then to a file. All that was said.
fn stalled(bench: &Bench, args: &[&str], text: &str) -> Vec<String> {
    let args = [&["copy", "web", "oci-archive:-", "--layout-dir", "images"], args].concat();
    let mut child = bench.strata(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let said = lines(child.stderr.take().unwrap());
    let mut seen = wait_for_text(&said, text);
    let mut file = File::create(bench.path("web.tar")).unwrap();
    std::io::copy(child.stdout.as_mut().unwrap(), &mut file).unwrap();
    assert!(child.wait().unwrap().success());
    seen.extend(said);
    strata(bench, &["validate", "oci-archive:web.tar"]).ok().says("0 errors");
    seen
}

#[test]
fn programs_see_a_transfer_as_events() {
    let bench = Bench::new();
    built(&bench);
    let seen = stalled(&bench, &["--json"], "\"event\":\"progress\"");
    let events: Vec<Value> = seen.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let kinds: Vec<&str> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!((kinds[0], *kinds.last().unwrap()), ("transfer-started", "copied"), "{kinds:?}");
    let layers = bench.inspect()["layers"].as_array().unwrap().clone();
    let size: u64 = layers.iter().map(|layer| layer["size"].as_u64().unwrap()).sum();
    assert_eq!((&events[0]["size"], &events[0]["blobs"]), (&size.into(), &layers.len().into()));
    for event in events.iter().filter(|event| event["event"] == "progress") {
        let [done, moved] = ["done", "moved"].map(|key| event[key].as_u64().unwrap());
        assert!(done <= size && moved <= size && event["rate"].is_u64(), "{event}");
    }
    let copied: Vec<_> = events.iter().filter(|event| event["event"] == "blob").collect();
    assert_eq!(copied.len(), layers.len());
    assert!(copied.iter().all(|event| event["how"] == "copied"), "{copied:#?}");
    assert_eq!(events.last().unwrap()["moved"], size);
}

#[test]
fn a_log_has_a_line_now_and_then_and_standard_output_only_the_result() {
    let bench = Bench::new();
    built(&bench);
    let seen = stalled(&bench, &[], " MB, ");
    assert!(seen[0].starts_with("Copying "), "{seen:#?}");
    assert!(seen.iter().any(|line| line.starts_with("  ") && line.ends_with("B/s")), "{seen:#?}");
    assert!(seen.iter().all(|line| !line.contains('\u{1b}')), "{seen:#?}");
    let done = strata(&bench, &["copy", "web", "oci:out"]).ok();
    let words: Vec<_> = done.stdout.lines().map(|line| line.split_whitespace().next().unwrap()).collect();
    assert_eq!(words, ["Image", "digest", "moved"], "{done:#?}");
    assert!(done.stderr.starts_with("Copying ") && done.stderr.lines().count() == 1, "{done:#?}");
    let done = strata(&bench, &["copy", "web", "oci:out", "--verbose"]).ok();
    assert!(done.stderr.contains("  present "), "{done:#?}");
    let done = strata(&bench, &["copy", "web", "oci:quiet", "--quiet"]).ok();
    assert_eq!((done.stdout.trim(), done.stderr.as_str()), (bench.inspect()["digest"].as_str().unwrap(), ""));
}

#[test]
fn a_terminal_shows_bytes_and_rate_on_one_line_that_goes_away() {
    let bench = Bench::new();
    built(&bench);
    let (pipe, file) = (bench.path("pipe"), bench.path("web.tar"));
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let strata = env!("CARGO_BIN_EXE_strata");
    let copy = format!("exec {strata} copy web oci-archive:- --layout-dir images >pipe");
    let mut command = Command::new("script");
    command.args(["--quiet", "--return", "--command", &copy, "/dev/null"]);
    command.current_dir(bench.path("")).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.env("TERM", "xterm").spawn().unwrap_or_else(|e| panic!("needs script: {e}"));
    let said = pieces(child.stdout.take().unwrap());
    let mut read = File::open(&pipe).unwrap();
    let seen = wait_for_text(&said, "B/s");
    assert!(seen.last().unwrap().contains("B of 3."), "{seen:#?}");
    std::io::copy(&mut read, &mut File::create(&file).unwrap()).unwrap();
    assert!(child.wait().unwrap().success());
    let rest: Vec<String> = said.iter().collect();
    // Erased before the result is said.
    let result = rest.iter().position(|line| line.contains("is now")).unwrap();
    assert!(rest[..=result].iter().any(|line| line.contains("\u{1b}[K")), "{rest:#?}");
    let done = Done::of(bench.strata(["validate", "oci-archive:web.tar"]));
    done.ok().says("0 errors");
}

#[test]
fn a_file_is_put_beside_an_image_and_goes_where_it_goes() {
    let bench = Bench::new();
    built(&bench);
    let sbom = "{\"spdxVersion\":\"SPDX-2.3\"}";
    bench.write("sbom.json", sbom);
    let attach = |args: &[&str]| strata(&bench, &[&["attach", "web"], args].concat());
    let attached =
        attach(&["sbom.json", "--type", "application/spdx+json", "--annotation", "by=test"]).ok().digest();
    let mut command = bench.strata(["attach", "web", "-", "--type", "text/plain", "--layout-dir", "images"]);
    let mut piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut piped.stdin.take().unwrap(), b"a note").unwrap();
    let note = Done::from(piped.wait_with_output().unwrap()).ok().digest();
    let registry = Registry::start(&bench);
    let there = format!("registry:{}/team/web:v1", registry.host);
    for (from, to, has_artifacts) in [
        ("web", "oci:out", true),
        ("oci:out", &there, true),
        (&there, "oci-archive:out.tar", true),
        ("oci-archive:out.tar", "again", true),
        ("again", "docker-archive:docker.tar", false),
    ] {
        let said = strata(&bench, &["copy", from, to]).ok().stdout;
        assert_eq!(said.contains("beside  2 "), has_artifacts, "{from} {to}: {said}");
        let seen = json(strata(&bench, &["inspect", to, "--json"]));
        let artifacts = seen["artifacts"].as_array().unwrap();
        let mut digests: Vec<_> = artifacts.iter().map(|one| one["digest"].as_str().unwrap()).collect();
        digests.sort_unstable();
        let mut expected = if has_artifacts { vec![attached.as_str(), &note] } else { vec![] };
        expected.sort_unstable();
        assert_eq!(digests, expected, "{to}");
        if !has_artifacts {
            continue;
        }
        let one = artifacts.iter().find(|one| one["digest"] == attached.as_str()).unwrap();
        assert_eq!(one["artifactType"], "application/spdx+json");
        assert_eq!((&one["subject"], &one["annotations"]["by"]), (&seen["digest"], &"test".into()));
        strata(&bench, &["inspect", to]).ok().says("application/spdx+json");
        for asked in ["application/spdx+json", &attached, one["files"][0]["digest"].as_str().unwrap()] {
            assert_eq!(strata(&bench, &["inspect", to, "--artifact", asked]).ok().stdout, sbom, "{asked}");
        }
        strata(&bench, &["validate", to]).ok().says("0 errors");
    }
    let left = strata(&bench, &["copy", "web", "oci:left", "--no-referrers"]).ok().stdout;
    assert!(!left.contains("beside"), "{left}");
}

#[test]
fn what_cannot_be_attached_or_printed_is_said() {
    let bench = Bench::new();
    built(&bench);
    bench.write("file", "text");
    strata(&bench, &["copy", "web", "docker-archive:web.tar"]).ok();
    let attach = |image, file, kind| strata(&bench, &["attach", image, file, "--type", kind]);
    for (done, code, expected) in [
        (attach("web", "absent", "a/b"), 3, "cannot attach absent to 'web'"),
        (attach("oci:other", "file", "a/b"), 3, "cannot open the image 'oci:other': there is none"),
        (attach("docker-archive:web.tar", "file", "a/b"), 3, "copy the image to an OCI layout or a registry"),
        (attach("web", "file", "text"), 2, "media type"),
        (strata(&bench, &["inspect", "web", "--artifact", "a/b"]), 3, "nothing refers to the image"),
    ] {
        assert_eq!(done.code, code, "{done:#?}");
        assert!(done.stderr.contains(expected), "{expected}: {done:#?}");
    }
}

#[test]
fn a_build_goes_straight_to_where_it_is_wanted() {
    let bench = Bench::new();
    let buildpacks = [bench.add(&probing())];
    let registry = Registry::start(&bench);
    let there = format!("registry:{}/team/web:v1", registry.host);
    let build = |output: &str| Done::of(bench.build_command(&["-o", output], &buildpacks));
    let digest = build(&there).ok().digest();
    for output in
        ["oci:many:v1", "oci:many:v2", "oci-archive:web.tar:v1", "docker-archive:web.docker.tar:web"]
    {
        let done = build(output).ok();
        assert_eq!(done.digest(), digest, "{output}");
        assert!(done.stderr.starts_with("Copying "), "{done:#?}");
        done.says(output.trim_end_matches(":v1").trim_end_matches(":v2").split(':').next().unwrap());
    }
    for place in [&there, "oci:many:v1", "oci:many:v2", "oci-archive:web.tar:v1"] {
        assert_eq!(json(strata(&bench, &["inspect", place, "--json"]))["digest"], digest.as_str(), "{place}");
        strata(&bench, &["validate", place]).ok().says("0 errors");
    }
    strata(&bench, &["validate", "docker-archive:web.docker.tar:web"]).ok();
    // It is found out before anything is built.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let nowhere = format!("registry:127.0.0.1:{port}/web");
    for (output, code, expected) in [
        (nowhere.as_str(), 62, "cannot write the image to 'registry:127.0.0.1:"),
        ("registry:UPPER", 3, "cannot write the image to 'registry:UPPER'"),
        ("oci:app:v1", 62, "neither empty nor an OCI layout"),
    ] {
        let done = build(output);
        assert_eq!(done.code, code, "{output}: {done:#?}");
        assert!(done.stderr.contains(expected) && !done.stdout.contains("DETECTING"), "{output}: {done:#?}");
    }
}

#[test]
fn of_an_index_all_platforms_are_copied_or_one() {
    let bench = Bench::new();
    let layout = Layout::open_or_create(bench.path("many")).unwrap();
    let images = ["amd64", "arm64", "s390x"].map(|architecture| {
        let base = scratch::base(architecture, 1000, 1000, "1980-01-01T00:00:01Z").unwrap();
        base.put_in(&layout, &[]).unwrap();
        let platform = Platform::new("linux", architecture);
        layout.clone().for_platform(platform).read_image().unwrap().unwrap().encoded()
    });
    let index = layout.put_images(&images, &["all".to_owned()]).unwrap().to_string();
    let registry = Registry::start(&bench);
    let there = format!("registry:{}/many:v1", registry.host);
    for (from, to) in
        [("oci:many:all", &*there), (&there, "oci-archive:many.tar"), ("oci-archive:many.tar", "kept")]
    {
        assert_eq!(strata(&bench, &["copy", from, to, "--all"]).ok().digest(), index, "{from} {to}");
        for image in &images {
            let platform = format!("{}/{}", image.platform.os, image.platform.architecture);
            let seen = json(strata(&bench, &["inspect", to, "--json", "--platform", &platform]));
            assert_eq!(seen["digest"], image.manifest_digest.to_string(), "{to} {platform}");
        }
        strata(&bench, &["validate", to]).ok().says("0 errors");
    }
    let arm = ["copy", &there, "oci:arm", "--platform", "linux/arm64"];
    assert_eq!(strata(&bench, &arm).ok().digest(), images[1].manifest_digest.to_string());
    // Where there is room for one only, it is the one for this machine, unless another is chosen.
    for (platform, expected) in [(None, host_architecture()), (Some("linux/s390x"), "s390x")] {
        let chosen = platform.map(|platform| ["--platform", platform]);
        let args =
            [&["copy", &there, "docker-archive:one.tar"][..], chosen.as_ref().map_or(&[], |args| &args[..])];
        strata(&bench, &args.concat()).ok();
        let seen = json(strata(&bench, &["inspect", "docker-archive:one.tar", "--json"]));
        assert_eq!(seen["architecture"], expected);
    }
    let refused = strata(&bench, &["copy", &there, "oci:none", "--platform", "linux/riscv64"]);
    assert_eq!(refused.code, 3, "{refused:#?}");
    assert!(refused.stderr.contains("linux/riscv64") && !bench.path("none").exists(), "{refused:#?}");
}
