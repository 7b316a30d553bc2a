//! Where images, layers and files come from, as one sees it.

use crate::bench::{Bench, Buildpack, Done, tool};
use crate::registry::Registry;
use crate::source::commit;
use crate::validate::validate;
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

const REPORT: &str = "application/vnd.strata.report.v1+toml";

/// Layers, links and folders of all kinds.
fn acme() -> Buildpack {
    Buildpack::new("acme/node").build(
        r#"
        layer deps launch build cache
        mkdir -p "$layers/deps/bin"
        echo deps >"$layers/deps/bin/tool"
        ln -s bin "$layers/deps/sbin"
        printf '[metadata]\nlock = "abc"\n' >>"$layers/deps.toml"
        layer tools launch
        cp marker "$layers/tools/marker"
        "#,
    )
}

/// An image without a report.
fn built() -> Bench {
    let bench = Bench::new();
    let buildpack = bench.add(&acme());
    bench.build(&["--origins", "never"], &[buildpack]).ok();
    bench
}

fn strata(bench: &Bench, args: &[&str]) -> Done {
    let mut command = bench.strata(args);
    command.args(["--layout-dir", "images"]);
    Done::of(command)
}

fn json_of(bench: &Bench, args: &[&str]) -> Value {
    let done = strata(bench, &[args, &["--json"]].concat());
    serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error}: {done:#?}"))
}

#[test]
fn without_reports_nothing_is_gathered_for_them() {
    let bench = Bench::new();
    let made = "layer deps launch build cache\necho deps >$layers/deps/file";
    let buildpack = [bench.add(&Buildpack::new("acme/node").build(made))];
    let cached = || {
        let file = bench.path("cache/committed/io.buildpacks.lifecycle.cache.metadata");
        serde_json::from_str::<Value>(&std::fs::read_to_string(file).unwrap()).unwrap()
    };
    let build = |args: &[&str]| bench.build(&[&["--cache", "cache"], args].concat(), &buildpack).ok();
    let made = build(&["--origins", "never"]).digest();
    assert!(cached().get("buildpacks").is_some() && cached().get("origins").is_none(), "{:#}", cached());
    // What asks for a report, or for origins, has them all the same, and in no image.
    for args in [&["--report", "report.toml"][..], &["--require-origins=discard"], &[]] {
        let never: &[&str] = if args.is_empty() { &[] } else { &["--origins", "never"] };
        assert_eq!(build(&[args, never].concat()).digest(), made, "{args:?}");
        assert!(cached().get("origins").is_some(), "{args:?}: {:#}", cached());
    }
    assert!(bench.path("report.toml").is_file());
    // A report that lies is nothing to a build that reads none.
    let lie = report(&bench.inspect(), 0).replace("schema-version = 1", "schema-version = 9");
    attach(&bench, "web", &lie);
    assert!(!format!("{:?}", build(&["--origins", "never", "--verbose"])).contains("refused"));
    assert!(cached().get("origins").is_none(), "{:#}", cached());
    bench.write("extra.toml", "a = 1");
    build(&["--origins", "never", "--report-extra", "extra.toml"])
        .says("--report-extra changes nothing here");
}

fn build_id(number: usize) -> String {
    format!("{number:032x}")
}

/// The report of the nth build of an image whose layer `deps` was made by the first.
fn report(image: &Value, number: usize) -> String {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let digest = text(&image["digest"]);
    let (id, first) = (build_id(number), build_id(0));
    let commit = |number: usize| format!("{number:x}").repeat(40);
    let source = |number: usize, table: &str| {
        format!("[{table}]\ntype = \"git\"\n[{table}.version]\ncommit = \"{}\"\n", commit(number))
    };
    let mut all = format!("schema-version = 1\n[image]\ndigest = \"{digest}\"\n");
    let time = |number: usize| format!("2026-03-{:02}T10:00:00Z", number + 1);
    write!(all, "[build]\nid = \"{id}\"\ntime = \"{}\"\n", time(number)).unwrap();
    all += &source(number, "build.application-source");
    all += "[lifecycle]\nname = \"strata\"\nversion = \"0.1.0\"\n";
    if number > 0 {
        let before = build_id(number - 1);
        write!(all, "[restored-image]\ndigest = \"{digest}\"\nbuild = \"{before}\"\n").unwrap();
        write!(all, "[[builds]]\nid = \"{first}\"\ntime = \"{}\"\nimage-digest = \"{digest}\"\n", time(0))
            .unwrap();
        all += &source(0, "builds.application-source");
    }
    for (index, layer) in image["layers"].as_array().unwrap().iter().enumerate() {
        let by = text(&layer["createdBy"]);
        let is_old = by.contains("'deps'") && number > 0;
        let (kind, buildpack, name) = match by.as_str() {
            _ if index == 0 => ("run-image", "", "run-image-1"),
            by if by.contains("'deps'") => ("buildpack", "acme/node", "deps"),
            by if by.contains("'tools'") => ("buildpack", "acme/node", "tools"),
            by if by.contains("Bill") => ("sbom", "", "sbom"),
            by if by.contains("Launcher Config") => ("config", "", "config"),
            by if by.contains("Application Launcher") => ("launcher", "", "launcher"),
            _ => ("app", "", "slice-1"),
        };
        let (digest, diff_id) = (text(&layer["digest"]), text(&layer["diffID"]));
        write!(all, "[[layers]]\nkind = \"{kind}\"\nbuildpack = \"{buildpack}\"\nname = \"{name}\"\n")
            .unwrap();
        write!(all, "digest = \"{digest}\"\ndiff-id = \"{diff_id}\"\n").unwrap();
        writeln!(all, "on-export = \"{}\"", if is_old { "reused" } else { "added" }).unwrap();
        if index == 0 {
            all += "[layers.origin]\nfrom = \"run-image\"\n";
            continue;
        }
        let maker = if is_old { 0 } else { number };
        all += &source(maker, "layers.application-source");
        write!(all, "[layers.reason]\ncode = \"{}\"\n", if is_old { "unchanged" } else { "source-changed" })
            .unwrap();
        let from = if is_old { "cache" } else { "this-build" };
        let generation = if is_old { number } else { 0 };
        write!(
            all,
            "[layers.origin]\nfrom = \"{from}\"\nbuild = \"{}\"\ngeneration = {generation}\n",
            build_id(maker)
        )
        .unwrap();
        if name == "deps" {
            all += "[[layers.present-layers]]\nid = \"acme/node:tools\"\n";
        }
    }
    all
}

fn attach(bench: &Bench, name: &str, report: &str) {
    let file = bench.write("report.toml", report);
    strata(bench, &["attach", name, file.to_str().unwrap(), "--type", REPORT]).ok();
}

/// The line of a table with this word.
#[track_caller]
fn line<'a>(done: &'a Done, word: &str) -> Vec<&'a str> {
    let line = done.stdout.lines().find(|line| line.split_whitespace().any(|found| found == word));
    line.unwrap_or_else(|| panic!("no {word} in {done:#?}")).split_whitespace().collect()
}

#[test]
fn an_image_without_a_report_is_told_apart_all_the_same() {
    let bench = built();
    let done = strata(&bench, &["trace", "web"]).ok();
    assert_eq!(line(&done, "deps")[1..4], ["deps", "acme/node@1.0.0", "?"]);
    done.says("Note: no report lies beside the image");
    let image = json_of(&bench, &["trace", "web"]);
    let ids: Vec<_> = image["layers"].as_array().unwrap().iter().map(|row| &row["id"]).collect();
    assert_eq!(ids[..3], ["run-image-1", "acme/node:deps", "acme/node:tools"]);
    assert_eq!(image["layers"][1]["metadata"], json!({"lock": "abc"}));
    assert_eq!(image["source"]["type"], "content");
    let done = strata(&bench, &["trace", "web", "--layer", "deps"]).ok();
    done.says("Which build made it is unknown: no report lies beside the image");
    let done = strata(&bench, &["trace", "web", "--layer", "nope"]);
    assert!(done.code == 3 && done.stderr.contains("acme/node:tools"), "{done:#?}");
}

#[test]
fn archives_daemons_and_images_of_others_say_what_is_known() {
    let bench = built();
    strata(&bench, &["copy", "web", "docker-archive:web.tar"]).ok();
    let done = strata(&bench, &["trace", "docker-archive:web.tar"]).ok();
    done.says("Note: no report lies beside the image");
    assert_eq!(line(&done, "deps")[2], "acme/node@1.0.0");
    let done = strata(&bench, &["trace", "docker-archive:web.tar", "/workspace/marker"]).ok();
    done.says("made by    the app");
    let docker = crate::docker::Docker::start(&bench);
    docker.run(&["load", "-i", bench.path("web.tar").to_str().unwrap()]).ok();
    let in_docker = |args: &[&str]| {
        let mut command = bench.strata(args);
        command.env("DOCKER_HOST", &docker.host);
        Done::of(command)
    };
    let done = in_docker(&["trace", "docker:web"]).ok();
    assert_eq!(line(&done, "tools")[2], "acme/node@1.0.0");
    in_docker(&["trace", "docker:web", "layers/acme_node/tools/marker"]).ok().says("acme/node:tools");
    let done = in_docker(&["diff", "docker:web", "docker-archive:web.tar"]);
    assert!(!done.stdout.contains('~'), "{done:#?}");
    // An image that no buildpack made.
    tool("umoci", &["init", "--layout", bench.path("bare").to_str().unwrap()]);
    let bare = format!("{}:x", bench.path("bare").display());
    tool("umoci", &["new", "--image", &bare]);
    let file = bench.write("file", "x");
    tool("umoci", &["insert", "--image", &bare, file.to_str().unwrap(), "/a/file"]);
    let done = strata(&bench, &["trace", &format!("oci:{bare}")]).ok();
    done.says("no Cloud Native Buildpacks lifecycle made this image");
    strata(&bench, &["trace", &format!("oci:{bare}"), "/a/file"]).ok().says("layer 1");
}

#[test]
fn what_cannot_be_printed_or_read_is_told_harmlessly() {
    let bench = built();
    let full = || std::fs::File::options().write(true).open("/dev/full").unwrap();
    for args in [
        ["trace", "web", "--json"].as_slice(),
        &["sbom", "web", "--format=spdx"],
        &["trace", "web"],
        &["trace", "web", "--layer", "deps"],
        &["inspect", "web"],
        &["diff", "web", "web"],
    ] {
        let mut command = bench.strata(args);
        let done = Done::from(command.args(["--layout-dir", "images"]).stdout(full()).output().unwrap());
        assert!(done.code != 0 && done.stderr.contains("cannot print"), "{done:#?}");
    }
    // Causes cite what somebody else wrote.
    bench.write("bad.tar", &"\u{1b}[2Jgo\u{9b}1m".repeat(200));
    let done = strata(&bench, &["trace", "oci-archive:bad.tar"]);
    assert!(done.code == 3 && !done.stderr.contains(['\u{1b}', '\u{9b}']), "{done:#?}");
    assert!(!done.stderr.contains("layer"), "{done:#?}");
}

#[test]
fn what_is_known_is_stated_for_whoever_signs_it() {
    let bench = built();
    let done = strata(&bench, &["trace", "web", "--statement"]);
    assert!(done.code == 2 && done.stderr.contains("no report lies beside the image"), "{done:#?}");
    let image = json_of(&bench, &["inspect", "web"]);
    attach(&bench, "web", &report(&image, 1));
    let json = |args: &[&str]| -> Value { serde_json::from_str(&strata(&bench, args).ok().stdout).unwrap() };
    let statement = json(&["trace", "web", "--statement"]);
    let digest = image["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
    assert_eq!(statement["subject"][0]["digest"]["sha256"], digest);
    assert_eq!(statement["predicateType"], "https://slsa.dev/provenance/v1");
    let metadata = &statement["predicate"]["runDetails"]["metadata"];
    assert_eq!(metadata["invocationId"], build_id(1));
    assert_eq!(json(&["trace", "web", "--predicate"]), statement["predicate"]);
}

#[test]
fn a_report_does_not_win_by_its_date() {
    let bench = built();
    let image = json_of(&bench, &["inspect", "web"]);
    let honest = report(&image, 1);
    attach(&bench, "web", &honest);
    let forged = |day: &str, number: usize| {
        let (id, other) = (build_id(1), build_id(number));
        honest.replace("2026-03-02T10:00:00Z", &format!("{day}T10:00:00Z")).replace(&id, &other)
    };
    attach(&bench, "web", &forged("9999-01-01", 7));
    attach(&bench, "web", &forged("2026-03-04", 8).replace("name = \"tools\"", "name = \"evil\""));
    let done = strata(&bench, &["trace", "web"]).ok();
    done.says(&build_id(1));
    done.says("9999-01-01T10:00:00Z, which is yet to come");
    assert!(!done.stdout.contains(&build_id(7)), "{done:#?}");
    // One that the labels agree with as much may be right: that it says otherwise is told.
    attach(&bench, "web", &forged("2026-03-03", 9).replace(&build_id(0), &build_id(6)));
    let done = strata(&bench, &["trace", "web"]).ok();
    done.says(&format!("another report beside the image, of build {}", build_id(1)));
    done.says(&format!("acme/node:deps was made by build {}", build_id(0)));
    done.says("2 more reports lie beside the image");
}

#[test]
fn an_archive_for_other_programs_has_no_report() {
    let bench = Bench::new();
    let buildpack = bench.add(&acme());
    bench.write("app/marker", "1");
    bench.build(&[], &[buildpack]).ok();
    // One thing in it, or skopeo and podman refuse it.
    for (to, tag) in [("oci-archive:plain.tar", ""), ("oci:plain", ", or name a tag")] {
        let done = strata(&bench, &["copy", "web", to]).ok();
        let flags = "--origins always --sbom always to take them along";
        let told =
            format!("{done:?}").matches("the reports of where the image comes from and the bill of").count();
        assert_eq!(told, 1, "{done:#?}");
        done.says(&format!("{to}: {flags}{tag}\n"));
        let done = strata(&bench, &["copy", "web", to, "--json"]).ok();
        let events: Vec<Value> =
            done.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let is_warning = |event: &&Value| event["level"] == "warn";
        assert_eq!(events.iter().filter(is_warning).count(), 1, "{done:#?}");
        assert_eq!(
            (&events[events.len() - 1]["artifacts"], &events[events.len() - 1]["left_behind"]),
            (&json!(0), &json!(4))
        );
        let silent = strata(&bench, &["copy", "web", to, "--origins", "never", "--sbom", "never"]).ok();
        assert!(!format!("{silent:?}").contains("behind"), "{silent:#?}");
        strata(&bench, &["trace", to]).ok().says("with `--origins always` only");
    }
    tool("skopeo", &["inspect", &format!("oci-archive:{}", bench.path("plain.tar").display())]);
    strata(&bench, &["trace", "oci-archive:plain.tar"]).ok().says("no report lies beside the image");
    strata(&bench, &["copy", "web", "oci-archive:whole.tar", "--origins", "always"]).ok();
    let image = json_of(&bench, &["trace", "oci-archive:whole.tar"]);
    assert_eq!(image["layers"][1]["from"], "this-build", "{image:#}");
}

#[test]
fn what_is_in_docker_is_called_as_docker_calls_it() {
    let bench = Bench::new();
    let buildpack = bench.add(&acme());
    let made = bench.build(&[], &[buildpack]).ok().digest();
    let done = strata(&bench, &["copy", "web", "docker-archive:web.tar"]).ok();
    let manifest = tool("tar", &["-xOf", &bench.path("web.tar").display().to_string(), "manifest.json"]);
    let manifest: Value = serde_json::from_str(&manifest).unwrap();
    let id = format!("sha256:{}", manifest[0]["Config"].as_str().unwrap().trim_end_matches(".json"));
    done.says(&format!("\nid      {id}\ncopy of {made}\n"));
    let done = strata(&bench, &["copy", "web", "docker-archive:web.tar", "--quiet"]).ok();
    assert_eq!(done.stdout.trim(), id);
    for (command, words) in [("trace", "  image id   "), ("inspect", "image id ")] {
        strata(&bench, &[command, "docker-archive:web.tar"]).ok().says(&format!("\n{words}{id}\n"));
    }
    assert_eq!(json_of(&bench, &["inspect", "docker-archive:web.tar"])["imageId"], id.as_str());
}

#[test]
fn a_layer_is_followed_through_ten_builds_across_a_registry() {
    let bench = built();
    let registry = Registry::start(&bench);
    let name = format!("registry:{}/team/web:v1", registry.host);
    strata(&bench, &["copy", "web", &name]).ok();
    let image = bench.inspect();
    for number in 0..10 {
        attach(&bench, &name, &report(&image, number));
    }
    // From the registry alone, and from a copy of it.
    strata(&bench, &["copy", &name, "oci:copy:web"]).ok();
    strata(&bench, &["copy", &name, "oci-archive:copy.tar", "--origins", "always"]).ok();
    for name in [name.as_str(), "oci:copy:web", "oci-archive:copy.tar"] {
        let done = strata(&bench, &["trace", name]).ok();
        let deps = line(&done, "deps");
        assert_eq!(deps[3..8], ["2026-03-01", "10:00", "git", "000000000000", "restored"], "{done:#?}");
        assert_eq!(deps[8], "9");
        assert_eq!(line(&done, "tools")[3..9], ["2026-03-10", "10:00", "git", "999999999999", "built", "0"]);
        let chain = json_of(&bench, &["trace", name, "--layer", "acme/node:deps"])["chain"].clone();
        let steps: Vec<_> =
            chain["steps"].as_array().unwrap().iter().map(|step| &step["build"]["id"]).collect();
        assert_eq!(json!(steps), json!((0..10).rev().map(build_id).collect::<Vec<_>>()));
        assert_eq!(chain["end"], "made");
        let done = strata(&bench, &["trace", name, "--layer", "deps"]).ok();
        done.says(&format!("changed    source: git {} -> git {}", "8".repeat(40), "9".repeat(40)));
        done.says("beside     acme/node:tools");
        let done = strata(&bench, &["trace", name, "--why"]).ok();
        done.says("acme/node:deps   restored\n     it is the one of the build before");
    }
}

#[test]
fn nothing_unsigned_takes_the_place_of_attestations_that_are_not_copied() {
    let bench = Bench::new();
    let buildpack = bench.add(&acme());
    bench.build(&[], &[buildpack]).ok();
    let registry = Registry::start(&bench);
    let at = |team: &str| format!("registry:{}/{team}/web:v1", registry.host);
    strata(&bench, &["copy", "web", &at("one")]).ok();
    strata(&bench, &["copy", &at("one"), &at("two")]).ok();
    let hex = json_of(&bench, &["inspect", "web"])["digest"].as_str().unwrap()[7..].to_owned();
    let tag = |team: &str| format!("docker://{}/{team}/web:sha256-{hex}.att", registry.host);
    let read = ["inspect", "--raw", "--tls-verify=false"];
    let offered = tool("skopeo", &[&read[..], &[&tag("one")]].concat());
    assert_eq!(tool("skopeo", &[&read[..], &[&tag("two")]].concat()), offered);
    // Somebody puts something else there, which may well be signed.
    let copy = ["copy", "--insecure-policy", "--src-tls-verify=false", "--dest-tls-verify=false"];
    let other = format!("docker://{}/one/web:v1", registry.host);
    tool("skopeo", &[&copy[..], &[&other, &tag("one")]].concat());
    let done = strata(&bench, &["copy", &at("one"), &at("three")]).ok();
    let said = format!("{}{}", done.stdout, done.stderr);
    assert!(said.contains("are not copied to"), "{done:#?}");
    assert_ne!(strata(&bench, &["inspect", &tag("three").replace("docker://", "registry:")]).code, 0);
}

/// An image with these statements beside it, taken to a registry; what was said.
fn copied_with(statements: &[String]) -> String {
    let bench = built();
    let registry = Registry::start(&bench);
    for statement in statements {
        let file = bench.write("statement.json", statement);
        let predicate = "in-toto.io/predicate-type=https://example.com/x";
        let kind = "application/vnd.in-toto+json";
        let args = ["attach", "web", file.to_str().unwrap(), "--type", kind, "--annotation", predicate];
        strata(&bench, &args).ok();
    }
    let to = format!("registry:{}/team/web:v1", registry.host);
    let done = strata(&bench, &["copy", "web", &to]).ok();
    let image = json_of(&bench, &["inspect", "web"]);
    let hex = &image["digest"].as_str().unwrap()[7..];
    // All are there, listed; those that there is room for are where cosign looks, too.
    let list = format!("docker://{}/team/web:sha256-{hex}", registry.host);
    let read = |name: &str| {
        let text = tool("skopeo", &["inspect", "--raw", "--tls-verify=false", name]);
        serde_json::from_str::<Value>(&text).unwrap()
    };
    assert_eq!(read(&list)["manifests"].as_array().unwrap().len(), statements.len() + 2);
    let offered = read(&format!("{list}.att"))["layers"].as_array().unwrap().len();
    format!("{offered}: {}{}", done.stdout, done.stderr)
}

#[test]
fn statements_beyond_a_limit_are_copied_and_not_offered() {
    let many: Vec<String> = (0..65).map(|number| format!("{{\"number\":{number}}}")).collect();
    let told = "cosign will not find all statements in";
    let said = copied_with(&many);
    assert!(said.starts_with("64: ") && said.contains(told), "{said}");
    let large: Vec<String> = (0..6).map(|number| format!("\"{number}{}\"", "x".repeat(3 << 20))).collect();
    let said = copied_with(&large);
    assert!(said.starts_with("5: ") && said.contains(told), "{said}");
}

#[test]
fn a_report_that_is_missing_is_said() {
    let bench = built();
    let image = bench.inspect();
    for number in (0..10).filter(|number| *number != 4) {
        attach(&bench, "web", &report(&image, number));
    }
    let done = strata(&bench, &["trace", "web", "--layer", "deps"]).ok();
    done.says(&format!("Missing: the report of build {} is not beside the image", build_id(4)));
    done.says("4 builds in between");
    done.says(&format!("9 builds ago  build {}", build_id(0)));
    done.says(&format!("from       git {}", "0".repeat(40)));
}

#[test]
fn reports_that_lie_are_refused_and_fail_nothing() {
    let bench = built();
    let image = bench.inspect();
    let good = report(&image, 0);
    let other = format!("sha256:{}", "a".repeat(64));
    let digest = image["digest"].as_str().unwrap();
    for (bad, why) in [
        ("schema-version = 1\n[".to_owned(), "it is no report"),
        (good.replace("schema-version = 1", "schema-version = 9"), "schema version is 9"),
        (
            good.replace(
                &format!("[image]\ndigest = \"{digest}\""),
                &format!("[image]\ndigest = \"{other}\""),
            ),
            "about the image",
        ),
        (good.replace(image["layers"][2]["diffID"].as_str().unwrap(), &other), "layers of another image"),
        (good.replace("name = \"deps\"", "name = \"de\\u001b[31mps\""), "impossible name"),
        (format!("{good}[extra]\nx = \"{}\"\n", "x".repeat(5 << 20)), "larger than"),
    ] {
        attach(&bench, "web", &bad);
        let done = strata(&bench, &["trace", "web"]).ok();
        assert!(
            done.stdout.contains("a report beside the image is refused") && done.stdout.contains(why),
            "{why}: {done:#?}"
        );
        done.says("no report to be believed lies beside the image");
        assert_eq!(line(&done, "deps")[3], "?");
        let done = strata(&bench, &["trace", "web", "--layer", "deps"]).ok();
        assert!(done.stdout.contains(why), "{why}: {done:#?}");
    }
    // The label is in the image, the report only beside it.
    attach(&bench, "web", &good.replace("acme/node", "evil/one"));
    let done = strata(&bench, &["trace", "web"]).ok();
    done.says("the report and the image's label contradict each other");
    assert_eq!(line(&done, "deps")[2], "acme/node@1.0.0");
}

#[test]
fn nothing_in_a_report_or_a_name_reaches_the_terminal_raw() {
    let bench = Bench::new();
    bench.write("app/bad\u{1b}]0;title\u{7}\u{202e}name", "x");
    let buildpack = bench.add(&acme());
    bench.build(&[], std::slice::from_ref(&buildpack)).ok();
    let evil = "type = \"git\\u001b[2J\\u009b31m\\u202e\"";
    let with = |text: &str, old: &str, new: &str| {
        assert!(text.contains(old), "{old}");
        text.replace(old, new)
    };
    let text = with(&report(&bench.inspect(), 0), "type = \"git\"", evil);
    let text = with(&text, "name = \"strata\"", "name = \"s\\u001b]8;;http://x\\u0007\"");
    let text =
        with(&text, "code = \"source-changed\"", "code = \"source-changed\"\ntext = \"\\u009bA\\u202e\"");
    let more = "[build]\ninputs = [{name = \"\\u001b[1mA\", digest = \"\\u2066\"}]";
    attach(&bench, "web", &with(&text, "[build]", more));
    strata(&bench, &["copy", "web", "oci:plain:x", "--origins", "never"]).ok();
    bench.write("app/marker", "other");
    strata(
        &bench,
        &["build", "app", "-t", "web2", "--origins", "never", "--buildpack", buildpack.to_str().unwrap()],
    )
    .ok();
    let path = "/workspace/bad\u{1b}]0;title\u{7}\u{202e}name";
    for args in [
        &["trace", "web"][..],
        &["trace", "web", "--why"],
        &["trace", "web", "--layer", "deps"],
        &["trace", "web", path],
        &["trace", "web", "--json"],
        &["trace", "web", path, "--json"],
        &["trace", "web", "--layer", "\u{1b}c"],
        &["trace", "web", "--statement"],
        &["diff", "oci:plain:x", "web"],
        &["diff", "web2", "web"],
        &["diff", "web", "oci:plain:x", "--json"],
    ] {
        let done = strata(&bench, args);
        let said = format!("{}{}", done.stdout, done.stderr);
        let is_raw = |c: char| c != '\n' && (c.is_control() || c == '\u{202e}');
        assert!(!said.contains(is_raw), "{args:?}: {done:#?}");
    }
    strata(&bench, &["trace", "web", path]).ok().says("bad\\u{1b}]0;title\\u{7}\\u{202e}name");
}

/// `deps` is cached and kept as long as buildpack and lock are the same, `run` is taken from the image before as long as the
/// lock is the same, and `same` is made in every build.
fn keeper(version: &str, types: &str, lock: &str) -> Buildpack {
    let script = r#"
        described() { layer "$@"; printf '[metadata]\nlock = "LOCK"\n' >>"$layers/$1.toml"; }
        has() { grep -qs 'lock = "LOCK"' "$layers/$1.toml"; }
        make() { rm -rf "$layers/$1"; mkdir "$layers/$1"; date +%N >"$layers/$1/file"; }
        [[ -d $layers/deps && $(cat "$layers/deps/by") = VERSION ]] && has deps || { make deps; echo VERSION >"$layers/deps/by"; }
        described deps TYPES
        has run && printf '[types]\nlaunch = true\n[metadata]\nlock = "LOCK"\n' >"$layers/run.toml" || { make run; described run launch; }
        described same launch; echo same >"$layers/same/file"
    "#;
    let script = script.replace("VERSION", version).replace("TYPES", types).replace("LOCK", lock);
    Buildpack::new("acme/keeper").version(version).build(&script)
}

#[test]
fn why_layers_are_as_they_are_is_true() {
    let bench = Bench::new();
    let cached = "launch cache";
    let why = |what: &str, buildpack: &Buildpack, more: &[&str], expected: [(&str, &[&str]); 4]| {
        bench.build(more, &[bench.add(buildpack)]).ok();
        let traced = json_of(&bench, &["trace", "web"]);
        for (id, (code, also)) in ["keeper:deps", "keeper:run", "keeper:same", "slice-1"].iter().zip(expected)
        {
            let layers = traced["layers"].as_array().unwrap();
            let found = layers.iter().find(|layer| layer["id"].as_str().unwrap().ends_with(id)).unwrap();
            let reason = &found["reason"];
            assert_eq!(reason["code"], code, "{what}: {id}: {reason}");
            let found = if reason["also"].is_null() { json!([]) } else { reason["also"].clone() };
            assert_eq!(found, json!(also), "{what}: {id}: {reason}");
        }
    };
    let same = ("unchanged", &[][..]);
    let made = ("reproduced", &[][..]);
    let first = ("first-build", &[][..]);
    let version = "buildpack-version-changed";
    let metadata = ("metadata-changed", &[][..]);
    let one = keeper("1.0.0", cached, "a");
    why("first", &one, &[], [first; 4]);
    why("the same again", &one, &[], [same, same, made, same]);
    bench.write("app/marker", "other");
    let remade = ("reproduced", &["source-changed"][..]);
    why("another app", &one, &[], [same, same, remade, ("source-changed", &[])]);
    let two = keeper("2.0.0", cached, "a");
    why("another buildpack", &two, &[], [(version, &[]), same, ("reproduced", &[version]), same]);
    let other = keeper("2.0.0", cached, "b");
    let remade = ("reproduced", &["metadata-changed"][..]);
    why("other metadata", &other, &[], [metadata, metadata, remade, same]);
    let typed = keeper("2.0.0", "launch build cache", "b");
    why("other types", &typed, &[], [("unchanged", &["types-changed"]), same, made, same]);
    let cleared = ("not-restored", &[][..]);
    let made_all = [cleared, cleared, ("reproduced", &["not-restored"]), same];
    why("cleared", &typed, &["--clear-cache"], made_all);
    why("after that", &typed, &[], [same, same, made, same]);
    std::fs::remove_dir_all(bench.path("home/.cache/strata/apps")).unwrap();
    why("without its cache", &typed, &[], [("no-cache", &[]), same, made, same]);
    why("with no cache", &typed, &["--no-cache"], [("no-cache", &[]), same, made, same]);
}

/// Takes away what the cache and the place of the image know of origins.
fn forget(bench: &Bench) {
    let home = bench.path("home").display().to_string();
    let found = tool("find", &[&home, "-name", "io.buildpacks.lifecycle.cache.metadata"]);
    let index = bench.path("images/index.docker.io/library/web/latest/index.json");
    let change = |path: &Path, change: &dyn Fn(&mut Value)| {
        let mut value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        change(&mut value);
        std::fs::write(path, value.to_string()).unwrap();
    };
    assert_eq!(found.lines().count(), 1, "{found}");
    change(Path::new(found.trim()), &|value| drop(value.as_object_mut().unwrap().remove("origins").unwrap()));
    change(&index, &|value| {
        value["manifests"].as_array_mut().unwrap().retain(|entry| entry["artifactType"] != REPORT)
    });
}

#[test]
fn a_build_can_require_origins_or_do_without_what_has_none() {
    let bench = Bench::new();
    let buildpack = bench.add(&keeper("1.0.0", "launch cache", "a"));
    let build = |more: &[&str]| bench.build(more, std::slice::from_ref(&buildpack));
    let of = |id: &str| {
        let traced = json_of(&bench, &["trace", "web"]);
        let layer = traced["layers"].as_array().unwrap().iter().find(|layer| layer["id"] == id).cloned();
        let layer = layer.unwrap_or_else(|| panic!("{id}: {traced:#}"));
        (layer["from"].as_str().unwrap().to_owned(), layer["reason"]["code"].as_str().unwrap().to_owned())
    };
    build(&[]).ok();
    build(&["--require-origins"]).ok();
    let before = bench.inspect()["digest"].clone();
    forget(&bench);
    let done = build(&["--require-origins"]);
    assert_eq!(done.code, 42, "{done:#?}");
    let said = format!("{}{}", done.stdout, done.stderr);
    for id in
        ["acme/keeper:deps (the cache has the layer and no record", "acme/keeper:run (no report lies beside"]
    {
        assert!(said.contains(id), "{id}: {said}");
    }
    assert_eq!(bench.inspect()["digest"], before);
    // Who requires nothing is told what is not known.
    build(&[]).ok();
    assert_eq!(of("acme/keeper:deps"), ("unknown".into(), "unchanged".into()));
    forget(&bench);
    build(&["--require-origins=discard"]).ok();
    for id in ["acme/keeper:deps", "acme/keeper:run"] {
        assert_eq!(of(id), ("this-build".into(), "origin-required".into()), "{id}");
    }
    build(&["--require-origins"]).ok();
}

#[test]
fn tables_fit_the_terminal_and_pipes_have_no_colour() {
    let bench = built();
    attach(&bench, "web", &report(&bench.inspect(), 0));
    for columns in [80, 200] {
        let mut command = bench.strata(["trace", "web", "--layout-dir", "images"]);
        command.env("COLUMNS", columns.to_string());
        let done = Done::of(command).ok();
        let table: Vec<_> = done.stdout.lines().skip_while(|line| !line.starts_with('#')).collect();
        assert!(table.len() > 6 && table.iter().all(|line| line.chars().count() <= columns), "{table:#?}");
        assert!(!done.stdout.contains('\u{1b}'));
        assert!(table[0].contains("AGE"));
        // Whole, wherever the terminal would have broken it.
        let digest = bench.inspect()["digest"].as_str().unwrap().to_owned();
        assert!(done.stdout.lines().any(|line| line.ends_with(&digest)), "{done:#?}");
        assert!(done.stdout.lines().all(|line| line.chars().count() <= columns), "{done:#?}");
        let commit = if columns == 80 { "git 0000000" } else { "git 000000000000" };
        assert!(table[2].contains(&format!("{commit} ")), "{table:#?}");
    }
    for args in [&["--layer", "deps"][..], &["--why"], &["/workspace/marker"]] {
        let mut command = bench.strata([&["trace", "web", "--layout-dir", "images"], args].concat());
        command.env("COLUMNS", "80");
        let done = Done::of(command).ok();
        assert!(done.stdout.lines().all(|line| line.chars().count() <= 80), "{done:#?}");
    }
    // What a history says is no name, and in a pipe it would make all lines as wide.
    strata(&bench, &["copy", "web", "oci:other:x"]).ok();
    let (image, script) = (format!("{}:x", bench.path("other").display()), "RUN x; ".repeat(60));
    let file = bench.write("new", "new").display().to_string();
    tool("umoci", &["insert", "--image", &image, "--history.created_by", &script, &file, "/new"]);
    let done = strata(&bench, &["trace", "oci:other:x"]).ok();
    assert!(done.stdout.lines().any(|line| line.contains("RUN x; RUN x;")), "{done:#?}");
    assert!(done.stdout.lines().all(|line| line.chars().count() <= 170), "{done:#?}");
    // A terminal of 80 columns.
    let web = bench.path("images");
    let run =
        format!("stty cols 80; {} trace web --layout-dir {}", env!("CARGO_BIN_EXE_strata"), web.display());
    let colours = tool("script", &["-qec", &run, "/dev/null"]);
    assert!(colours.contains("\u{1b}[32mbuilt\u{1b}[0m"), "{colours}");
    let plain = tool("script", &["-qec", &format!("export NO_COLOR=1; {run}"), "/dev/null"]);
    assert!(!plain.contains('\u{1b}'), "{plain}");
    let widest = plain.lines().map(|line| line.trim_end().chars().count()).max();
    assert!(widest.unwrap() <= 80, "{plain}");
}

#[test]
fn a_file_is_found_through_links_whiteouts_and_shadows() {
    let bench = built();
    let done = strata(&bench, &["trace", "web", "/layers/acme_node/deps/sbin/tool"]).ok();
    done.says("/layers/acme_node/deps/sbin/tool -> /layers/acme_node/deps/bin/tool");
    done.says("layer      layer 2, acme/node:deps");
    let none = strata(&bench, &["trace", "web", "/none"]);
    assert!(none.code == 1 && none.stdout.contains("no layer has it"), "{none:#?}");
    // On top of it, another tool changes and removes files.
    strata(&bench, &["copy", "web", "oci:other:x"]).ok();
    let image = format!("{}:x", bench.path("other").display());
    let file = bench.write("new", "new");
    let insert = |path: &str| tool("umoci", &["insert", "--image", &image, file.to_str().unwrap(), path]);
    insert("/workspace/marker");
    tool("umoci", &["insert", "--image", &image, "--whiteout", "/layers/acme_node/tools"]);
    let done = strata(&bench, &["trace", "oci:other:x", "/workspace/marker"]).ok();
    done.says("shadows    layer 5, slice-1: a file of");
    done.says("a file of 3 B");
    let done = strata(&bench, &["trace", "oci:other:x", "/layers/acme_node/tools/marker"]);
    assert_eq!(done.code, 1, "{done:#?}");
    done.says("is         not there");
    done.says("by /layers/acme_node/.wh.tools");
    let found = json_of(&bench, &["trace", "oci:other:x", "/layers/acme_node/tools/marker"]);
    assert_eq!((&found["removedBy"], &found["shadowed"]), (&json!(8), &json!([2])));
}

#[test]
fn two_images_differ_from_inputs_to_files() {
    let bench = built();
    bench.write("app/.git/x", "left out");
    strata(&bench, &["copy", "web", "oci:before:x"]).ok();
    let same = strata(&bench, &["diff", "web", "oci:before:x"]);
    assert_eq!(same.code, 0, "{same:#?}");
    same.says("It is one image.");
    bench.write("app/marker", "changed");
    bench.write("app/new", "new");
    let script = "rm -rf $layers/deps\nlayer deps launch\necho other >$layers/deps/file\n";
    let buildpack = [bench.add(&acme().build(script))];
    bench.build(&["--annotation", "a=b", "--origins", "never"], &buildpack).ok();
    let done = strata(&bench, &["diff", "oci:before:x", "web"]);
    assert_eq!(done.code, 1, "{done:#?}");
    for text in [
        "Inputs\n  source\n    - content ",
        "- acme/node:tools",
        "~ acme/node:deps",
        "= run image",
        "= launcher",
    ] {
        let squeezed: Vec<_> = done
            .stdout
            .lines()
            .map(|line| {
                if line.contains("  = ") || line.contains("  ~ ") || line.contains("  - ") {
                    line.split_whitespace().collect::<Vec<_>>().join(" ")
                } else {
                    line.to_owned()
                }
            })
            .collect();
        let all = format!("{}\n{}", done.stdout, squeezed.join("\n"));
        assert!(all.contains(text), "{text}: {all}");
    }
    done.says("Files of app\n  ~ /workspace/marker  contents\n  + /workspace/new\n");
    done.says("Files of acme/node:deps\n");
    done.says("  - /layers/acme_node/deps/bin/tool\n");
    let diff = json_of(&bench, &["diff", "oci:before:x", "web"]);
    let changed: Vec<_> = diff["layers"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|layer| layer["status"] != "same")
        .map(|layer| layer["id"].as_str().unwrap())
        .collect();
    assert_eq!(changed, ["acme/node:deps", "app", "acme/node:tools"], "{diff:#}");
    let without = json_of(&bench, &["diff", "oci:before:x", "web", "--no-files"]);
    assert!(without["layers"].as_array().unwrap().iter().all(|layer| layer.get("files").is_none()));
    // What the report of one of them tells is nothing that differs.
    bench.build(&[], &buildpack).ok();
    let done = strata(&bench, &["diff", "oci:before:x", "web", "--no-files"]);
    done.says("Not known of the first image\n");
    done.says("\n  lifecycle  strata ");
    let diff = json_of(&bench, &["diff", "web", "oci:before:x", "--no-files"]);
    let unknown: Vec<_> = diff["unknown"].as_array().unwrap().iter().map(|fact| &fact["what"]).collect();
    assert!(unknown.contains(&&json!("lifecycle")) && diff["unknown"][0]["of"] == "new", "{diff:#}");
    assert!(diff["inputs"].as_array().unwrap().iter().all(|input| input["what"] != "lifecycle"), "{diff:#}");
}

/// What must never be seen again.
const SECRET: &str = "planted-secret";

/// A place for a secret, and the word there. Each has a word of its own, so that a leak names its place.
fn planted(number: usize) -> String {
    format!("{SECRET}-{number:02}")
}

#[test]
fn secrets_get_no_further_than_to_the_buildpacks() {
    let bench = Bench::new();
    let buildpack = bench.add(&acme());
    commit(&bench.path("app"));
    let url = format!("https://me:{}@example.com/web.git?token={}", planted(1), planted(2));
    crate::source::git(&bench.path("app"), &["remote", "set-url", "origin", &url]);
    bench.write(
        "app/project.toml",
        &format!(
            "[_]\nschema-version = \"0.2\"\nsource-url = \"https://me:{}@example.com/x?access_token={}\"\n\
             [[io.buildpacks.build.env]]\nname = \"FROM_PROJECT\"\nvalue = \"{}\"\n[io.buildpacks]\nexclude = [\"/project.toml\"]\n",
            planted(3),
            planted(4),
            planted(5)
        ),
    );
    bench.write("variables", &format!("FROM_FILE={}\n", planted(6)));
    bench.write("db/password", &planted(12));
    let build = |more: &[&str]| {
        let given = format!("GIVEN={}", planted(7));
        let args = [
            "-t",
            "web",
            "--env",
            &given,
            "--env",
            "TAKEN",
            "--env-file",
            "variables",
            "--volume",
            "db:/platform/bindings/db",
            "--report",
            "report.toml",
        ];
        let mut command = bench.build_command(&[&args[..], more].concat(), std::slice::from_ref(&buildpack));
        command.env("TAKEN", planted(8)).env("OTHER_TOKEN", planted(9));
        command.env("HTTPS_PROXY", format!("http://me:{}@127.0.0.1:1", planted(10)));
        command.env("CNB_REPORT_INPUTS_KEY", planted(11));
        Done::of(command).ok()
    };
    let mut said = format!("{:?}", build(&["-o", "oci:out:x", "--origins", "always", "--verbose"]));
    said.push_str(&format!("{:?}", build(&["--json"])));
    let report = std::fs::read_to_string(bench.path("report.toml")).unwrap();
    for name in ["env/FROM_PROJECT", "env/FROM_FILE", "env/GIVEN", "env/TAKEN", "bindings/db/password"] {
        assert!(report.contains(&format!("name = \"{name}\"")), "{name}: {report}");
    }
    for args in [&["--json"][..], &["--why"], &["--layer", "deps"], &["--statement"]] {
        said.push_str(&format!("{:?}", strata(&bench, &[&["trace", "web"], args].concat()).ok()));
    }
    said.push_str(&format!("{}{:?}", bench.config(), strata(&bench, &["sbom", "web", "--json"])));
    assert!(!said.contains(SECRET), "{said}");
    for place in ["images", "out", "home", "report.toml"] {
        let found =
            Command::new("grep").args(["-raoh", &format!("{SECRET}-..")]).arg(bench.path(place)).output();
        assert_eq!(String::from_utf8_lossy(&found.unwrap().stdout), "", "a secret is in {place}");
    }
    assert!(bench.path("home/.local/state/strata/logs").is_dir());
}

/// Builds on one of two machines that share nothing but a registry.
fn build_on(bench: &Bench, machine: usize, registry: &Registry, buildpack: &Path, has_previous: bool) {
    let place = |name: &str| format!("registry:{}/team/{name}", registry.host);
    let images = format!("images{machine}");
    let mut command = bench.strata(["build", "app", "-t", "web", "--layout-dir", &images]);
    command.args(["--cache-image", &place("cache"), "-o", &place("web:v1"), "--buildpack"]).arg(buildpack);
    if has_previous {
        command.args(["--previous-image", &place("web:v1")]);
    }
    command.args(["--env", &format!("TOKEN={SECRET}")]);
    let home = bench.path(format!("home{machine}"));
    std::fs::create_dir_all(&home).unwrap();
    Done::of({
        command.env("HOME", home);
        command
    })
    .ok();
}

/// The reports and statements that lie anywhere in a registry, as files.
fn documents(bench: &Bench) -> Vec<PathBuf> {
    let blobs = bench.path("registry/docker/registry/v2/blobs").display().to_string();
    let all = tool("find", &[&blobs, "-name", "data", "-size", "-1024k"]);
    let document = |(number, path): (usize, &str)| {
        let text = std::fs::read_to_string(path).ok()?;
        let ending = match text.as_str() {
            text if text.starts_with("schema-version = ") => "report.toml",
            text if text.contains("\"https://in-toto.io/Statement/v1\"") => "statement.json",
            _ => return None,
        };
        Some(bench.write(&format!("documents/{number}.{ending}"), &text))
    };
    all.lines().enumerate().filter_map(document).collect()
}

#[test]
fn ten_builds_on_two_machines_are_one_story() {
    let bench = Bench::new();
    let registry = Registry::start(&bench);
    let buildpack = bench.add(&Buildpack::new("acme/node").build(
        r#"
        [[ -d $layers/deps ]] || { mkdir "$layers/deps"; date +%N >"$layers/deps/file"; }
        layer deps launch cache
        layer tools launch
        cp marker "$layers/tools/marker"
        "#,
    ));
    let commits: Vec<String> = (0..10)
        .map(|number| {
            bench.write("app/marker", &format!("version {number}"));
            let id = commit(&bench.path("app"));
            build_on(&bench, number % 2, &registry, &buildpack, number > 0);
            id
        })
        .collect();
    let name = format!("registry:{}/team/web:v1", registry.host);
    let done = strata(&bench, &["trace", &name]).ok();
    let deps = line(&done, "deps");
    assert_eq!(deps[2], "acme/node@1.0.0");
    assert_eq!(deps[5..9], ["git", &commits[0][..12], "restored", "9"], "{done:#?}");
    assert_eq!(line(&done, "tools")[5..9], ["git", &commits[9][..12], "built", "0"], "{done:#?}");
    let found = json_of(&bench, &["trace", &name, "--layer", "acme/node:deps"]);
    let steps = found["chain"]["steps"].as_array().unwrap();
    let sources: Vec<_> = steps.iter().map(|step| &step["build"]["source"]["version"]["commit"]).collect();
    assert_eq!(json!(sources), json!(commits.iter().rev().collect::<Vec<_>>()), "{found:#}");
    assert_eq!(found["chain"]["end"], "made");
    let maker = &steps[9];
    assert_eq!(maker["layer"]["presentLayers"][0]["id"], "acme/node:tools");
    assert_eq!(maker["build"]["source"]["metadata"]["url"], "https://example.com/team/web");
    assert_eq!(maker["build"]["source"]["metadata"]["refs"], json!(["refs/heads/main"]));
    let documents = documents(&bench);
    let statements =
        documents.iter().filter(|file| file.extension().is_some_and(|ending| ending == "json")).count();
    assert_eq!((documents.len(), statements), (20, 10), "{documents:?}");
    validate("validate-report", &documents);
    let is_named = |file: &&PathBuf| {
        let text = std::fs::read_to_string(file).unwrap();
        let names = ["index.docker.io/library/web:latest", &format!("{}/team/web:v1", registry.host)];
        names.iter().all(|name| text.contains(&format!("\"{name}\"")))
    };
    assert_eq!(documents.iter().filter(is_named).count(), 20);
    // One report is lost.
    let lost = &steps[5];
    let digest = lost["build"]["imageDigest"].as_str().unwrap().replace(':', "-");
    let tags = bench.path("registry/docker/registry/v2/repositories/team/web/_manifests/tags");
    std::fs::remove_dir_all(tags.join(digest)).unwrap();
    let done = strata(&bench, &["trace", &name, "--layer", "acme/node:deps"]).ok();
    let id = lost["build"]["id"].as_str().unwrap();
    done.says(&format!("Missing: the report of build {id} is not beside the image"));
    done.says("4 builds in between");
    done.says(&format!("from       git {}", commits[0]));
    // Nowhere at all.
    let said = format!("{found}{done:?}{:?}", strata(&bench, &["trace", &name, "--why"]).ok());
    assert!(!said.contains(SECRET));
    for place in ["registry", "images0", "images1"] {
        let found = Command::new("grep").args(["-rl", SECRET]).arg(bench.path(place)).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&found.stdout), "", "a secret is in {place}");
    }
}
