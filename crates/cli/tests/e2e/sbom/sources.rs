//! Where a bill comes from: documents of buildpacks, databases of distributions, images of other lifecycles.

use super::{FORMATS, OS, base, documents, dpkg, keys, listing, rows, strata, table, validate};
use crate::bench::{Bench, Buildpack, Done, is_root, tool};
use crate::docker::Docker;
use crate::registry::Registry;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What real buildpacks write: Syft's documents, and those that the library of Paketo's Java buildpacks makes itself.
#[test]
fn documents_of_real_buildpacks_become_valid_ones() {
    let bench = Bench::new();
    let buildpack = Buildpack::new("e2e/real").toml(FORMATS).build(
        r#"
        probe
        for name in image alpine both jre; do layer $name launch; done
        here="$CNB_BUILDPACK_DIR"
        cp "$here/image.cdx.json" "$layers/image.sbom.cdx.json"
        cp "$here/alpine.spdx.json" "$layers/alpine.sbom.spdx.json"
        cp "$here/alpine.spdx.json" "$layers/both.sbom.spdx.json"
        cp "$here/alpine.syft.json" "$layers/both.sbom.syft.json"
        cat >"$layers/jre.sbom.syft.json" <<-JSON
		{"Artifacts":[{"ID":"9f8e","Name":"BellSoft Liberica JRE","Version":"17.0.9","Type":"UnknownPackage","FoundBy":"libpak",
		 "Locations":[{"Path":"buildpack.toml"}],"Licenses":["GPL-2.0 WITH Classpath-exception-2.0"],"Language":"",
		 "CPEs":["cpe:2.3:a:oracle:jre:17.0.9:*:*:*:*:*:*:*"],"PURL":"pkg:generic/bellsoft-jre@17.0.9?arch=amd64"}],
		 "Source":{"Type":"directory","Target":"/layers/e2e_real/jre"},"Descriptor":{"Name":"syft","Version":"0.32.0"},
		 "Schema":{"Version":"1.1.0","URL":"https://raw.githubusercontent.com/anchore/syft/main/schema/json/schema-1.1.0.json"}}
		JSON
        "#,
    );
    let buildpack = bench.add(&buildpack);
    let sboms = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/sboms");
    for file in ["image.cdx.json", "alpine.spdx.json", "alpine.syft.json"] {
        std::fs::copy(sboms.join(file), buildpack.join(file)).unwrap();
    }
    bench.build(&[], &[buildpack]).ok();
    let of = |layer: &str| rows(&bench, "web", &["--layer", layer]);
    assert_eq!(keys(&of("image")), ["debian 1.2.3", "package-1 1.0.1", "package-2 2.0.1"].into());
    assert_eq!(keys(&of("jre")), ["BellSoft Liberica JRE 17.0.9"].into());
    let alpine = of("alpine");
    assert_eq!(alpine.len(), 3, "{alpine:?}");
    assert!(of("both").len() > alpine.len());
    let mut written = Vec::new();
    let (cdx, _) = documents(&bench, "web", &[], &mut written);
    let jre = cdx["components"]
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["name"] == "BellSoft Liberica JRE")
        .unwrap();
    assert_eq!(jre["cpe"], "cpe:2.3:a:oracle:jre:17.0.9:*:*:*:*:*:*:*");
    assert_eq!(jre["licenses"], json!([{"expression": "GPL-2.0 WITH Classpath-exception-2.0"}]));
    validate(&written);
}

/// A package that rpm itself has put into its database below a folder.
fn rpm(bench: &Bench, root: &str) {
    let spec = bench.write(
        "thing.spec",
        "Name: thing\nVersion: 1.2\nRelease: 3\nEpoch: 4\nSummary: A thing\nLicense: MIT\nVendor: Me\n\
         BuildArch: noarch\nProvides: stuff = 1\nRequires: thing\n%description\nLong\n%files\n",
    );
    let top = format!("_topdir {}", bench.path("rpm").display());
    tool("rpmbuild", &["-bb", "--quiet", "--define", &top, spec.to_str().unwrap()]);
    let package = bench.path("rpm/RPMS/noarch/thing-1.2-3.noarch.rpm");
    let root = bench.path(root);
    std::fs::create_dir_all(root.join("var/lib/rpm")).unwrap();
    let args =
        ["--root", root.to_str().unwrap(), "--dbpath", "/var/lib/rpm", "--define", "_db_backend sqlite"];
    let install = ["-i", "--justdb", "--nodeps", "--nosignature", "--nodigest", package.to_str().unwrap()];
    tool("rpm", &[&args[..], &install].concat());
}

/// The same packages as SUSE's rpm keeps them, for Debian's cannot write that.
fn as_ndb(bench: &Bench, from: &str, to: &str) {
    let script = r#"
import sqlite3, struct, sys
blobs = [row[0] for row in sqlite3.connect(sys.argv[1]).execute("select blob from Packages")]
header, data, at = b"RpmP" + struct.pack("<7I", 0, 1, 1, len(blobs) + 1, 0, 0, 0), b"", 4096
for number, blob in enumerate(blobs, 1):
    whole = b"BlbS" + struct.pack("<3I", number, 1, len(blob)) + blob
    whole += b"\0" * (-len(whole) % 16)
    header += b"Slot" + struct.pack("<3I", number, at // 16, len(whole) // 16)
    data, at = data + whole, at + len(whole)
open(sys.argv[2], "wb").write(header.ljust(4096, b"\0") + data)
"#;
    std::fs::create_dir_all(bench.path(to).parent().unwrap()).unwrap();
    tool("python3", &["-c", script, bench.path(from).to_str().unwrap(), bench.path(to).to_str().unwrap()]);
}

#[test]
fn packages_of_every_distribution_are_read_from_its_layers() {
    let bench = Bench::new();
    let apk = "P:musl\nV:1.2.5-r0\nA:x86_64\nL:MIT\no:musl\np:so:libc.musl-x86_64.so.1=1\n\n\
        P:busybox\nV:1.36\nA:x86_64\nL:GPL-2.0+ and MIT\nD:so:libc.musl-x86_64.so.1\n";
    let alpine = base(
        &bench,
        "alpine",
        &[&[("etc/os-release", "ID=alpine\nVERSION_ID=3.20.1\n"), ("lib/apk/db/installed", apk)]],
    );
    let part = |name: &str| format!("Package: {name}\nVersion: 2024a\nArchitecture: all\n");
    let (tzdata, gone) = (part("tzdata"), part("gone"));
    let distroless = base(
        &bench,
        "distroless",
        &[
            &[
                OS,
                ("var/lib/dpkg/status.d/tzdata", &tzdata),
                ("var/lib/dpkg/status.d/gone", &gone),
                ("var/lib/dpkg/status.d/gone.md5sums", "x"),
            ],
            &[("var/lib/dpkg/status.d/.wh.gone", "")],
        ],
    );
    let fedora = "ID=fedora\nVERSION_ID=40\n";
    bench.write("fedora-0/etc/os-release", fedora);
    rpm(&bench, "fedora-0");
    let fedora = base(&bench, "fedora", &[&[]]);
    bench.write("suse-0/etc/os-release", "ID=\"opensuse-leap\"\nVERSION_ID=\"15.6\"\n");
    as_ndb(&bench, "fedora-0/var/lib/rpm/rpmdb.sqlite", "suse-0/usr/lib/sysimage/rpm/Packages.db");
    let suse = base(&bench, "suse", &[&[]]);
    let old = base(&bench, "old", &[&[("var/lib/rpm/Packages", "anything")]]);
    let mut written = Vec::new();
    for (image, expected, purl) in [
        (
            &alpine,
            ["alpine 3.20.1", "busybox 1.36", "musl 1.2.5-r0"].as_slice(),
            "pkg:apk/alpine/busybox@1.36?arch=x86_64&distro=alpine-3.20.1",
        ),
        (
            &distroless,
            &["debian 12", "tzdata 2024a"],
            "pkg:deb/debian/tzdata@2024a?arch=all&distro=debian-12",
        ),
        (
            &fedora,
            &["fedora 40", "thing 4:1.2-3"],
            "pkg:rpm/fedora/thing@1.2-3?arch=noarch&distro=fedora-40&epoch=4&upstream=thing-1.2-3.src.rpm",
        ),
        (
            &suse,
            &["opensuse-leap 15.6", "thing 4:1.2-3"],
            "pkg:rpm/opensuse-leap/thing@1.2-3?arch=noarch&distro=opensuse-leap-15.6&epoch=4&upstream=thing-1.2-3.src.rpm",
        ),
        (&old, &[], ""),
    ] {
        assert_eq!(keys(&rows(&bench, image, &[])), expected.iter().copied().collect(), "{image}");
        let (cdx, _) = documents(&bench, image, &[], &mut written);
        assert!(cdx.to_string().contains(purl), "{purl}: {cdx}");
    }
    validate(&written);
    let said = strata(&bench, &["sbom", &old]).ok().stderr;
    assert!(
        said.contains("/var/lib/rpm/Packages is not read: databases of Berkeley DB cannot be read"),
        "{said}"
    );
}

/// Gives an image the labels that say what its four layers are: two of the run image, a buildpack's, and the SBOM files.
fn label(image: &str) {
    let layout = image.trim_start_matches("oci:").to_owned();
    let config: Value = serde_json::from_str(&tool("skopeo", &["inspect", "--config", image])).unwrap();
    let diff_id = |number: usize| config["rootfs"]["diff_ids"][number].as_str().unwrap().to_owned();
    let lifecycle = json!({"sbom": {"sha": diff_id(3)}, "runImage": {"topLayer": diff_id(1)}, "launcher": {"sha": "sha256:0"},
        "buildpacks": [{"key": "a/b", "version": "7", "layers": {"x": {"sha": diff_id(2), "launch": true}}}]});
    let build = json!({"buildpacks": [{"id": "a/b", "version": "7"}], "processes": [], "launcher": {"version": "0.20.1"}});
    for (name, value) in [
        ("io.buildpacks.lifecycle.metadata", lifecycle.to_string()),
        ("io.buildpacks.build.metadata", build.to_string()),
        ("io.buildpacks.base.sbom", diff_id(0)),
    ] {
        tool("umoci", &["config", "--image", &layout, "--config.label", &format!("{name}={value}")]);
    }
}

/// What a lifecycle that knows nothing of all this leaves in an image, and the maker of its run image.
#[test]
fn images_of_other_lifecycles_are_read_by_their_labels() {
    assert!(is_root(), "a private Docker can only be started by root: run this test as root");
    let bench = Bench::new();
    let component = |name: &str| {
        format!(
            r#"{{"bomFormat":"CycloneDX","specVersion":"1.3","components":[{{"type":"library","name":"{name}","version":"1","purl":"pkg:generic/{name}@1"}}]}}"#
        )
    };
    let makers = r#"{"artifacts":[{"id":"1","name":"libc6","version":"2","purl":"pkg:deb/debian/libc6@2?arch=amd64&upstream=glibc","licenses":["GPL-2.0-only"]},{"id":"2","name":"made","version":"1","purl":"pkg:golang/made@1"}]}"#;
    let legacy = r#"[{"name":"old","metadata":{"version":"3"},"buildpack":{"id":"a/b","version":"7"}}]"#;
    let image = base(
        &bench,
        "packed",
        &[
            &[
                OS,
                ("var/lib/dpkg/status", &dpkg(&[("libc6", "2", "")])),
                ("cnb/sbom/f45c36b2.syft.json", makers),
            ],
            &[("cnb/sbom/00000000.cdx.json", &component("stale"))],
            &[
                ("layers/a_b/x/file", "x"),
                (
                    "var/lib/dpkg/status",
                    "Package: not-of-the-run-image\nStatus: install ok installed\nVersion: 1\n",
                ),
            ],
            &[
                ("layers/sbom/launch/a_b/x/sbom.cdx.json", &component("in-x")),
                ("layers/sbom/launch/a_b/sbom.cdx.json", &component("in-app")),
                (
                    "layers/sbom/launch/buildpacksio_lifecycle/launcher/sbom.cdx.json",
                    &component("in-launcher"),
                ),
                ("layers/sbom/launch/sbom.legacy.json", legacy),
                ("layers/sbom/elsewhere/a_b/sbom.cdx.json", &component("in-nothing")),
            ],
        ],
    );
    label(&image);
    let expected = [
        ("debian 12", "run image"),
        ("in-app 1", "a/b@7"),
        ("in-launcher 1", "buildpacksio/lifecycle:launcher"),
        ("in-x 1", "a/b:x"),
        ("libc6 2", "run image"),
        ("made 1", "run image"),
        ("old 3", "a/b@7"),
    ];
    let expected: BTreeMap<String, String> =
        expected.map(|(name, place)| (name.to_owned(), place.to_owned())).into();
    let registry = Registry::start(&bench);
    let there = format!("docker://{}/team/packed:v1", registry.host);
    tool("skopeo", &["copy", "-q", "--dest-tls-verify=false", &image, &there]);
    tool(
        "skopeo",
        &["copy", "-q", &image, &format!("docker-archive:{}:packed:v1", bench.path("packed.tar").display())],
    );
    let mut written = Vec::new();
    for place in [&image, &there, "docker-archive:packed.tar"] {
        assert_eq!(rows(&bench, place, &[]), expected, "{place}");
        documents(&bench, place, &[], &mut written);
    }
    validate(&written);
    let docker = Docker::start(&bench);
    docker.run(&["load", "--input", bench.path("packed.tar").to_str().unwrap()]).ok();
    let mut command = bench.strata(["sbom", "docker:packed:v1"]);
    command.env("DOCKER_HOST", &docker.host);
    assert_eq!(table(&Done::of(command).ok()), expected);
    let spdx = std::fs::read_to_string(&written[1]).unwrap();
    assert!(
        spdx.contains("GPL-2.0-only"),
        "what the maker of the run image knows of a package of its database"
    );
}

#[test]
fn layers_of_the_run_image_are_looked_at_once() {
    let bench = Bench::new();
    let run = base(&bench, "run", &[&[OS, ("var/lib/dpkg/status", &dpkg(&[("a", "1", "")]))]]);
    let buildpack = [bench.add(&listing("1"))];
    let build = |app: &str| {
        bench.write("app/file", app);
        let done = bench.build(&["--run-image", &run, "--verbose"], &buildpack).ok();
        let looked = done.stdout.matches("Looking for packages in layer").count();
        (looked, done.stdout.contains("Attached the bill of materials"))
    };
    assert_eq!(build("1"), (1, true));
    assert_eq!(build("1"), (0, false), "nothing has changed");
    assert_eq!(build("2"), (0, true), "the app has");
    // What is kept is a help and no more.
    let kept = bench.path("home/.cache/strata/packages");
    let files: Vec<PathBuf> = std::fs::read_dir(&kept).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1);
    std::fs::write(&files[0], "{ damaged").unwrap();
    assert_eq!(build("3"), (1, true));
    std::fs::remove_dir_all(&kept).unwrap();
    std::fs::write(&kept, "in the way").unwrap();
    assert_eq!(build("4"), (1, true));
    assert!(keys(&rows(&bench, "web", &["--fresh"])).contains("a 1"));
}
