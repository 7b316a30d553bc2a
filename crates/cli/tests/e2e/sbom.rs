//! What images are made of: the bill beside an image, the command that shows it, and the validators of both formats.

mod sources;

use crate::bench::{Bench, Buildpack, Done, tool};
use crate::registry::Registry;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

const CYCLONEDX: &str = "application/vnd.cyclonedx+json";
const SPDX: &str = "application/spdx+json";

/// Checks documents as the people who use them would: with the libraries of both projects.
#[track_caller]
fn validate(files: &[PathBuf]) {
    crate::validate::validate("validate-sbom", files);
}

fn strata(bench: &Bench, args: &[&str]) -> Done {
    Done::of(bench.strata([args, &["--layout-dir", "images"]].concat()))
}

/// Writes both documents of an image, to be validated together with others.
#[track_caller]
fn documents(bench: &Bench, image: &str, args: &[&str], written: &mut Vec<PathBuf>) -> (Value, Value) {
    let number = written.len();
    let [cdx, spdx] = [("cyclonedx", "cdx"), ("spdx", "spdx")].map(|(format, ending)| {
        let file = format!("{number}.{ending}.json");
        strata(bench, &[&["sbom", image, "--format", format, "-o", &file], args].concat()).ok();
        written.push(bench.path(&file));
        serde_json::from_str(&std::fs::read_to_string(bench.path(&file)).unwrap()).unwrap()
    });
    (cdx, spdx)
}

/// What `--format table` says of an image.
#[track_caller]
fn rows(bench: &Bench, image: &str, args: &[&str]) -> BTreeMap<String, String> {
    table(&strata(bench, &[&["sbom", image], args].concat()).ok())
}

/// A table without its head: name and version, and where each thing was found.
fn table(done: &Done) -> BTreeMap<String, String> {
    let row = |line: &str| {
        let cells: Vec<&str> = line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect();
        (format!("{} {}", cells[0], cells[1]), cells[3].to_owned())
    };
    done.stdout.lines().skip(1).map(row).collect()
}

fn keys(rows: &BTreeMap<String, String>) -> BTreeSet<&str> {
    rows.keys().map(String::as_str).collect()
}

/// Makes an image out of folders, one for each layer.
fn base(bench: &Bench, name: &str, layers: &[&[(&str, &str)]]) -> String {
    let layout = bench.path(name).display().to_string();
    let image = format!("{layout}:latest");
    tool("umoci", &["init", "--layout", &layout]);
    tool("umoci", &["new", "--image", &image]);
    for (number, files) in layers.iter().enumerate() {
        let folder = format!("{name}-{number}");
        for (path, text) in *files {
            bench.write(&format!("{folder}/{path}"), text);
        }
        add_layer(bench, &image, &folder);
    }
    tool("umoci", &["config", "--image", &image, "--config.user", "1000:1000"]);
    format!("oci:{image}")
}

fn add_layer(bench: &Bench, image: &str, folder: &str) {
    let (folder, tar) = (bench.path(folder), bench.path(format!("{folder}.tar")));
    tool("tar", &["-C", folder.to_str().unwrap(), "-cf", tar.to_str().unwrap(), "."]);
    tool("umoci", &["raw", "add-layer", "--image", image, tar.to_str().unwrap()]);
}

const OS: (&str, &str) = ("usr/lib/os-release", "ID=debian\nVERSION_ID=\"12\"\nPRETTY_NAME=\"Debian 12\"\n");

fn dpkg(packages: &[(&str, &str, &str)]) -> String {
    let one = |(name, version, needs): &(&str, &str, &str)| {
        format!(
            "Package: {name}\nStatus: install ok installed\nMaintainer: A <a@b>\nArchitecture: amd64\n\
             Version: {version}\nDepends: {needs}\nDescription: of {name}\n lines\n\n"
        )
    };
    packages.iter().map(one).collect()
}

const FORMATS: &str = r#"sbom-formats = ["application/vnd.cyclonedx+json", "application/spdx+json", "application/vnd.syft+json"]"#;

/// A buildpack with layers of all kinds, and all kinds of files about them.
fn listing(version: &str) -> Buildpack {
    let script = r#"
        probe
        for name in js py own; do layer $name launch; done
        layer tools build
        printf '[[bom]]\nname = "own"\n[bom.metadata]\nversion = "VERSION"\nlicense = "Own license 1"\n' >>"$layers/own.toml"
        printf '[[bom]]\nname = "compiler"\n' >>"$layers/tools.toml"
        cat >"$layers/js.sbom.cdx.json" <<-JSON
		{"bomFormat": "CycloneDX", "specVersion": "1.4", "components": [
		 {"type": "library", "bom-ref": "a", "name": "lodash", "version": "VERSION", "purl": "pkg:npm/lodash@VERSION",
		  "licenses": [{"license": {"id": "MIT"}}], "cpe": "cpe:2.3:a:lodash:lodash:VERSION:*:*:*:*:*:*:*",
		  "properties": [{"name": "strata:origin", "value": "{\"buildpack\":\"lie\"}"}]},
		 {"type": "library", "bom-ref": "b", "group": "@angular", "name": "core", "version": "1", "purl": "pkg:npm/@angular/core@1"}],
		 "dependencies": [{"ref": "a", "dependsOn": ["b"]}, {"ref": "b", "dependsOn": ["a"]}]}
		JSON
        cat >"$layers/js.sbom.syft.json" <<-JSON
		{"artifacts": [{"id": "1", "name": "lodash", "version": "VERSION", "type": "npm", "purl": "pkg:npm/lodash@VERSION", "licenses": ["MIT"], "cpes": []}]}
		JSON
        cat >"$layers/py.sbom.spdx.json" <<-JSON
		{"spdxVersion": "SPDX-2.3", "packages": [{"SPDXID": "SPDXRef-1", "name": "requests", "versionInfo": "2",
		 "licenseDeclared": "LicenseRef-x AND Apache-2.0", "externalRefs": [{"referenceCategory": "PACKAGE-MANAGER",
		 "referenceType": "purl", "referenceLocator": "pkg:pypi/Requests@2"}]}],
		 "hasExtractedLicensingInfos": [{"licenseId": "LicenseRef-x", "name": "The x", "extractedText": "Do what x does"}]}
		JSON
        echo '{"artifacts": [{"id": "1", "name": "app", "version": "1", "type": "binary"}]}' >"$layers/launch.sbom.syft.json"
        echo '{"artifacts": [{"id": "1", "name": "hidden", "version": "1"}]}' >"$layers/tools.sbom.syft.json"
    "#;
    Buildpack::new("e2e/listing").toml(FORMATS).build(&script.replace("VERSION", version))
}

#[test]
fn everything_in_an_image_is_told_with_its_layer_and_buildpack() {
    let bench = Bench::new();
    let status = [
        ("libc6", "2.36-9", "gcc-12-base"),
        ("gcc-12-base", "12.2", "libc6"),
        ("g++", "4:12", "libc6 (>= 2)"),
    ];
    let upper = dpkg(&[status[0], status[1], ("curl", "7.88", "libc6 | musl")]);
    let run = base(
        &bench,
        "run",
        &[&[OS, ("var/lib/dpkg/status", &dpkg(&status))], &[("var/lib/dpkg/status", &upper)]],
    );
    let buildpack = bench.add(&listing("4.17.21"));
    let built = bench.build(&["--run-image", &run], std::slice::from_ref(&buildpack)).ok().digest();
    let expected = [
        ("app 1", "e2e/listing@1.0.0"),
        ("@angular/core 1", "e2e/listing:js"),
        ("curl 7.88", "run image"),
        ("debian 12", "run image"),
        ("gcc-12-base 12.2", "run image"),
        ("launcher 0.1.0", "buildpacksio/lifecycle:launcher"),
        ("libc6 2.36-9", "run image"),
        ("lodash 4.17.21", "e2e/listing:js"),
        ("own 4.17.21", "e2e/listing:own"),
        ("requests 2", "e2e/listing:py"),
    ];
    let found = rows(&bench, "web", &[]);
    assert_eq!(found, expected.map(|(name, place)| (name.to_owned(), place.to_owned())).into());
    let mut written = Vec::new();
    let (cdx, spdx) = documents(&bench, "web", &[], &mut written);
    says_where(&cdx, &bench);
    let requests =
        spdx["packages"].as_array().unwrap().iter().find(|package| package["name"] == "requests").unwrap();
    assert!(
        requests["sourceInfo"]
            .as_str()
            .unwrap()
            .starts_with("layer py of buildpack e2e/listing@1.0.0 (sha256:")
    );
    for (args, expected) in [
        (["--layer", "js"], ["@angular/core 1", "lodash 4.17.21"].as_slice()),
        (["--layer", "e2e/listing:py"], &["requests 2"]),
        (["--buildpack", "buildpacksio/lifecycle"], &["launcher 0.1.0"]),
        (["--buildpack", "e2e/listing@2"], &[]),
    ] {
        assert_eq!(keys(&rows(&bench, "web", &args)), expected.iter().copied().collect(), "{args:?}");
        documents(&bench, "web", &args, &mut written);
    }
    validate(&written);
    let done = strata(&bench, &["sbom", "web", "--layer", "nope"]);
    let hint = "the layers are buildpacksio/lifecycle:launcher, ";
    assert!(done.code == 3 && done.stderr.contains(hint), "{done:?}");
    assert!(done.stderr.contains("e2e/listing:js"), "{done:?}");
    // A layer that nothing is known to be in is one all the same.
    let said = strata(&bench, &["sbom", "web", "--layer", "slice-1"]).ok().stderr;
    assert!(said.contains("nothing in 'web' is of that"), "{said}");
    is_attached_once(&bench, &run, &buildpack, &built);
}

/// Components of a document have the properties of where they are; what a buildpack claimed of that is no part of it.
fn says_where(cdx: &Value, bench: &Bench) {
    let component = |name: &str| {
        let mut all = cdx["components"].as_array().unwrap().iter();
        all.find(|component| component["name"] == name).unwrap_or_else(|| panic!("no {name}: {cdx}"))
    };
    let properties = |name: &str| -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let all = component(name)["properties"].as_array().unwrap().iter();
        all.map(|property| (text(&property["name"]), text(&property["value"]))).collect()
    };
    let diff_id =
        bench.label("io.buildpacks.lifecycle.metadata")["buildpacks"][0]["layers"]["js"]["sha"].clone();
    let lodash: BTreeMap<String, String> = properties("lodash").into_iter().collect();
    assert_eq!(lodash["strata:layer"], "e2e/listing:js");
    assert_eq!(lodash["strata:buildpack"], "e2e/listing@1.0.0");
    let origin: Value = serde_json::from_str(&lodash["strata:origin"]).unwrap();
    let expected = json!({"buildpack": "e2e/listing", "version": "1.0.0", "layer": "js", "diffID": diff_id});
    assert_eq!(origin, expected);
    // Packages of the run image are of the layer that brought them.
    let layers = bench.config()["rootfs"]["diff_ids"].clone();
    for (name, layer) in [("libc6", 0), ("curl", 1), ("debian", 0)] {
        let origin: Value = serde_json::from_str(&properties(name)[0].1).unwrap();
        assert_eq!(origin, json!({"diffID": layers[layer]}), "{name}");
    }
    let uses = |name: &str| {
        let all = cdx["dependencies"].as_array().unwrap();
        let of = all.iter().find(|one| one["ref"] == component(name)["bom-ref"]).unwrap();
        of["dependsOn"].clone()
    };
    assert_eq!(uses("lodash"), json!(["pkg:npm/%40angular/core@1"]));
    assert_eq!(uses("curl"), json!(["pkg:deb/debian/libc6@2.36-9?arch=amd64"]));
    assert_eq!(component("curl")["purl"], "pkg:deb/debian/curl@7.88?arch=amd64&distro=debian-12");
}

/// The documents are beside the image, say what the command says, and are the same for the same image.
fn is_attached_once(bench: &Bench, run: &str, buildpack: &PathBuf, built: &str) {
    let artifacts = || -> BTreeMap<String, String> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let all = bench.inspect()["artifacts"].as_array().unwrap().clone();
        let each = all.iter().map(|one| (text(&one["artifactType"]), text(&one["digest"])));
        // The report of where layers come from is beside them, and another thing.
        each.filter(|(kind, _)| [SPDX, CYCLONEDX].contains(&kind.as_str())).collect()
    };
    let before = artifacts();
    assert_eq!(before.keys().collect::<Vec<_>>(), [SPDX, CYCLONEDX]);
    for (kind, format) in [(SPDX, "spdx"), (CYCLONEDX, "cyclonedx")] {
        let attached = strata(bench, &["inspect", "web", "--artifact", kind]).ok().stdout;
        for args in [&[][..], &["--fresh"]] {
            let shown = strata(bench, &[&["sbom", "web", "--format", format], args].concat()).ok().stdout;
            assert!(shown == attached, "{format} {args:?}: {shown}\n{attached}");
        }
    }
    assert_eq!(bench.build(&["--run-image", run], std::slice::from_ref(buildpack)).ok().digest(), built);
    assert_eq!(artifacts(), before);
    // Made again from nothing, nothing is different.
    std::fs::remove_dir_all(bench.path("images")).unwrap();
    std::fs::remove_dir_all(bench.path("home/.cache")).unwrap();
    assert_eq!(bench.build(&["--run-image", run], std::slice::from_ref(buildpack)).ok().digest(), built);
    assert_eq!(artifacts(), before);
    strata(bench, &["validate", "web"]).ok().says("0 errors");
}

#[test]
fn the_bill_goes_where_programs_expect_it() {
    let bench = Bench::new();
    let buildpack = [bench.add(&listing("1"))];
    let registry = Registry::start(&bench);
    let there = format!("registry:{}/team/web:v1", registry.host);
    let count = |image: &str| {
        let seen: Value =
            serde_json::from_str(&strata(&bench, &["inspect", image, "--json"]).ok().stdout).unwrap();
        seen["artifacts"].as_array().unwrap().len()
    };
    for (args, image, expected) in [
        (["-o", &there].as_slice(), there.as_str(), 2),
        (&["-o", "oci:tagged:v1"], "oci:tagged:v1", 2),
        (&["-o", "folder"], "oci:folder", 0),
        (&["-o", "web.tar"], "oci-archive:web.tar", 0),
        (&["-o", "always", "--sbom", "always"], "oci:always", 2),
        (&["-o", "always.tar", "--sbom", "always"], "oci-archive:always.tar", 2),
        (&["-o", "never", "--sbom", "never"], "oci:never", 0),
        (&["-t", "never", "--sbom", "never"], "never", 0),
        (&["-t", "kept", "-o", "both"], "kept", 2),
    ] {
        let args = [args, &["--origins", "never"]].concat();
        Done::of(bench.build_command(&args, &buildpack)).ok();
        assert_eq!(count(image), expected, "{args:?}");
        // With or without, the image says the same of itself.
        assert!(keys(&rows(&bench, image, &[])).contains("lodash 1"), "{image}");
    }
    assert_eq!(count("oci:both"), 0);
    for (args, image, expected) in [
        (["copy", "kept", "oci:copied"].as_slice(), "oci:copied", 0),
        (&["copy", "kept", "oci-archive:copied.tar"], "oci-archive:copied.tar", 0),
        (&["copy", "kept", "oci:copied:v1", "--sbom", "never"], "oci:copied:v1", 0),
        (&["copy", "kept", "oci:copied:v2"], "oci:copied:v2", 2),
        (&["copy", "kept", "oci-archive:whole.tar", "--sbom", "always"], "oci-archive:whole.tar", 2),
        (&["copy", "oci-archive:whole.tar", "again"], "again", 2),
    ] {
        strata(&bench, args).ok();
        assert_eq!(count(image), expected, "{args:?}");
    }
    // As others take an archive.
    tool("skopeo", &["inspect", &format!("oci-archive:{}", bench.path("copied.tar").display())]);
    // What other clients of a registry ask for.
    let name = there.trim_start_matches("registry:").replace("/team/web:v1", "");
    let digest = strata(&bench, &["inspect", &there, "--json"]).ok().stdout;
    let digest = serde_json::from_str::<Value>(&digest).unwrap()["digest"].as_str().unwrap().to_owned();
    let tag = digest.replace(':', "-");
    let list = tool(
        "curl",
        &[
            "-sf",
            "-H",
            "Accept: application/vnd.oci.image.index.v1+json",
            &format!("http://{name}/v2/team/web/manifests/{tag}"),
        ],
    );
    let list: Value = serde_json::from_str(&list).unwrap();
    let kinds: BTreeSet<&str> = list["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["artifactType"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, [SPDX, CYCLONEDX].into());
    strata(&bench, &["validate", &there]).ok();
}

#[test]
fn differences_are_told_with_the_layer_that_made_them() {
    let bench = Bench::new();
    let os = |packages: &[(&str, &str, &str)]| dpkg(packages);
    let before =
        base(&bench, "before", &[&[OS, ("var/lib/dpkg/status", &os(&[("a", "1", ""), ("b", "1", "")]))]]);
    let after =
        base(&bench, "after", &[&[OS, ("var/lib/dpkg/status", &os(&[("a", "2", ""), ("c", "1", "")]))]]);
    for (tag, version, run) in [("old", "1", &before), ("new", "2", &after)] {
        let buildpack = bench.add(&listing(version));
        Done::of(bench.build_command(&["-t", tag, "--run-image", run], &[buildpack])).ok();
    }
    let done = strata(&bench, &["sbom", "diff", "old", "new"]).ok();
    let lines: Vec<String> =
        done.stdout.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let run = |name: &str| {
        let config =
            tool("skopeo", &["inspect", "--config", &format!("oci:{}:latest", bench.path(name).display())]);
        let config: Value = serde_json::from_str(&config).unwrap();
        config["rootfs"]["diff_ids"][0].as_str().unwrap().trim_start_matches("sha256:")[..12].to_owned()
    };
    let (old, new) = (run("before"), run("after"));
    let expected = [
        format!("added c 1 run image {new}"),
        format!("removed b 1 run image {old}"),
        format!("changed a 1 -> 2 run image {new}"),
        "changed lodash 1 -> 2 e2e/listing:js".to_owned(),
        "changed own 1 -> 2 e2e/listing:own".to_owned(),
    ];
    assert_eq!(lines, expected);
    let json: Value =
        serde_json::from_str(&strata(&bench, &["sbom", "diff", "old", "new", "--json"]).ok().stdout).unwrap();
    assert_eq!(json[3]["what"], "changed");
    assert_eq!((&json[3]["before"], &json[3]["purl"]), (&json!(["1"]), &json!("pkg:npm/lodash")));
    assert_eq!(json[3]["found_in"][0]["layer"], "js");
    assert_eq!(strata(&bench, &["sbom", "diff", "new", "new"]).ok().stdout, "");
    let failed = strata(&bench, &["sbom", "diff", "old", "absent/x"]);
    assert!(failed.code != 0 && failed.stderr.contains("absent/x"), "{failed:?}");
}

#[test]
fn what_a_buildpack_wrote_wrongly_costs_that_and_is_told() {
    let bench = Bench::new();
    let head = r#""bomFormat": "CycloneDX", "specVersion": "1.4""#;
    let mut written = Vec::new();
    let large = "head -c 100M /dev/zero | tr '\\0' ' '";
    for (number, (file, text, expected)) in [
        ("x.sbom.cdx.json", "echo '{'".to_owned(), "it is no CycloneDX document: EOF while parsing an object at line 2 column 0"),
        ("x.sbom.cdx.json", "echo '{}'".to_owned(), "its bomFormat is not CycloneDX"),
        ("x.sbom.cdx.json", format!("echo '{}'", r#"{"bomFormat": "CycloneDX", "specVersion": "99.0"}"#), "CycloneDX 99.0 is not known here"),
        ("x.sbom.spdx.json", "echo '{\"spdxVersion\": \"SPDX-3.0\"}'".to_owned(), "SPDX 3.0 is not known here"),
        ("x.sbom.syft.json", "echo '[]'".to_owned(), "it is no Syft document"),
        ("x.sbom.syft.json", "head -c 1000 /dev/urandom".to_owned(), "it is no Syft document"),
        ("x.sbom.cdx.json", format!("{large}; echo '{{{head}}}'"), "it has 104857"),
        ("x.sbom.cdx.json", format!("echo '{{{head}, \"components\": [{{\"type\": \"library\", \"version\": \"1\"}}]}}'"), "component 1 ('') has no name"),
        ("x.sbom.cdx.json", format!("echo '{{{head}, \"components\": [{{\"bom-ref\": \"r\", \"name\": \"p\"}}, {{\"bom-ref\": \"r\", \"name\": \"q\"}}]}}'"), "'r' stands for two components; 'q' is left out"),
        ("x.sbom.cdx.json", format!("echo '{{{head}, \"components\": [{{\"bom-ref\": \"r\", \"name\": \"p\"}}], \"dependencies\": [{{\"ref\": \"r\", \"dependsOn\": [\"r\", \"s\"]}}]}}'"), "a dependency on 's' leads nowhere"),
        ("x.sbom.cdx.json", format!("echo '{{{head}, \"components\": [{{\"name\": \"p\", \"purl\": \"nonsense\"}}]}}'"), "'nonsense' is no package URL"),
    ]
    .into_iter()
    .enumerate()
    {
        let buildpack = bench.add(&Buildpack::new(&format!("e2e/wrong{number}")).toml(FORMATS).build(&format!(
            "probe\nlayer x launch\n{{ {text}; }} >\"$layers/{file}\""
        )));
        let done = bench.build(&[], &[buildpack]).ok();
        let said = done.stdout + &done.stderr;
        let name = file.trim_start_matches("x.");
        let start = format!("Warning: SBOM file sbom/launch/e2e_wrong{number}/x/{name} of layer x of buildpack e2e/wrong{number}@1.0.0: ");
        assert!(said.contains(&start) && said.contains(expected), "{number} {expected}: {said}");
        documents(&bench, "web", &[], &mut written);
    }
    validate(&written);
    // What the specification has no place for fails the build.
    for (formats, file, expected) in [
        ("", "x.sbom.cdx.json", "undeclared SBOM media type"),
        (FORMATS, "x.sbom.xml.json", "unsupported SBOM file format"),
    ] {
        let buildpack = Buildpack::new("e2e/undeclared").toml(formats);
        let buildpack =
            bench.add(&buildpack.build(&format!("layer x launch\necho '{{}}' >\"$layers/{file}\"")));
        let done = bench.build(&[], &[buildpack]);
        assert_eq!(done.code, 52, "{done:?}");
        assert!(
            done.stderr.contains(expected)
                && done.stderr.contains("e2e/undeclared@1.0.0")
                && done.stderr.contains(file),
            "{done:?}"
        );
    }
}
