//! Documents, names and folders that are not what they should be: an exit code of the phase's own, and a message that
//! says what is wrong where.

use crate::world::{Buildpack, Outcome, PLATFORM, World, is_root, order};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use strata_spec::{BuildpackApi, PlatformApi};

const BUILDPACK: BuildpackApi = BuildpackApi::V0_12;

/// Where all phases but the exporter have run.
fn built(api: PlatformApi) -> World {
    let world = World::new(api);
    world.only(&Buildpack::new("a", BUILDPACK));
    world.until("builder");
    world
}

fn run(world: &World, program: &str) -> Outcome {
    match program {
        "analyzer" | "rebaser" => world.run(program, &["app"]),
        "exporter" => world.export(&["app"]),
        "creator" => world.run(program, &["-launcher", "launcher", "app"]),
        _ => world.run(program, &[]),
    }
}

/// A document that a phase reads.
struct Document {
    program: &'static str,
    path: &'static str,
    /// The exit code when it is broken.
    broken: i32,
    /// The exit code when it is not there.
    missing: i32,
    /// A value of the wrong type, on its third line.
    wrong: &'static str,
    since: PlatformApi,
    until: PlatformApi,
}

const DOCUMENTS: &[Document] = &[
    analyzed("detector", 1, 0),
    analyzed("builder", 1, 0),
    analyzed("exporter", 3, 3),
    group("restorer"),
    group("builder"),
    group("exporter"),
    always("builder", "layers/plan.toml", 1, 1, "\n[[entries]]\nproviders = 3\n"),
    always("detector", "order.toml", 1, 1, "[[order]]\n[[order.group]]\nid = 3\n"),
    always("creator", "order.toml", 1, 1, "[[order]]\n[[order.group]]\nid = 3\n"),
    always("detector", "buildpacks/a/1/buildpack.toml", 1, 1, "api = \"0.12\"\n[buildpack]\nid = 3\n"),
    always("exporter", "layers/config/metadata.toml", 62, 62, "\n[[processes]]\ntype = 3\n"),
    always("exporter", "layers/project-metadata.toml", 1, 0, "\n[source]\ntype = 3\n"),
    always("exporter", "layers/a/store.toml", 62, 0, "\n\nmetadata = 3\n"),
    always("exporter", "layers/a/dep.toml", 62, 0, "\n[types]\nlaunch = 3\n"),
    Document {
        since: PlatformApi::V0_12,
        ..always("analyzer", "run.toml", 3, 3, "\n[[images]]\nimage = 3\n")
    },
    Document {
        since: PlatformApi::V0_12,
        ..always("creator", "run.toml", 3, 3, "\n[[images]]\nimage = 3\n")
    },
    Document {
        since: PlatformApi::V0_12,
        ..always("exporter", "run.toml", 1, 0, "\n[[images]]\nimage = 3\n")
    },
    Document {
        until: PlatformApi::V0_11,
        ..always("analyzer", "stack.toml", 3, 3, "\n[run-image]\nimage = 3\n")
    },
    Document {
        until: PlatformApi::V0_11,
        ..always("exporter", "stack.toml", 1, 0, "\n[run-image]\nimage = 3\n")
    },
    Document {
        since: PlatformApi::V0_15,
        ..always("detector", "system.toml", 1, 0, "\n[system]\npre = 3\n")
    },
];

const fn always(
    program: &'static str,
    path: &'static str,
    broken: i32,
    missing: i32,
    wrong: &'static str,
) -> Document {
    Document { program, path, broken, missing, wrong, since: PlatformApi::V0_7, until: PlatformApi::V0_15 }
}

const fn analyzed(program: &'static str, broken: i32, missing: i32) -> Document {
    always(program, "layers/analyzed.toml", broken, missing, "\n[run-image]\nreference = 3\n")
}

const fn group(program: &'static str) -> Document {
    always(program, "layers/group.toml", 1, 1, "\n[[group]]\nid = 3\n")
}

#[test]
fn a_broken_document_is_named_with_the_place() {
    for api in PLATFORM {
        let world = built(*api);
        for document in DOCUMENTS.iter().filter(|d| (d.since..=d.until).contains(api)) {
            let Document { program, path, broken, .. } = document;
            let before = world.has(path).then(|| world.read(path));
            for (text, place) in [
                (document.wrong.as_bytes(), "line 3, column"),
                (b"\n\n[truncated\n", "line 3, column"),
                (b"truncated = \"", "line 1, column"),
                (b"\xff\xfe", "UTF-8"),
            ] {
                world.write(path, text);
                let outcome = run(&world, program);
                assert_eq!(outcome.code, *broken, "{api}, {program}, {path}: {}", outcome.out);
                outcome.fails(*broken, &[path, place]);
            }
            match before {
                Some(text) => world.write(path, text),
                None => world.remove(path),
            }
        }
    }
}

#[test]
fn a_missing_document_is_named_unless_it_can_be_done_without() {
    for api in PLATFORM {
        let world = built(*api);
        for document in DOCUMENTS.iter().filter(|d| (d.since..=d.until).contains(api)) {
            let Document { program, path, missing, .. } = document;
            let before = world.has(path).then(|| world.read(path));
            if before.is_some() {
                world.remove(path);
            }
            let outcome = run(&world, program);
            assert_eq!(outcome.code, *missing, "{api}, {program}, {path}: {}", outcome.out);
            if *missing != 0 {
                let name = path.rsplit('/').next().unwrap();
                // Of a buildpack that is not there, nobody knows what it lacks.
                let said = if name == "buildpack.toml" { "a@1" } else { name };
                assert!(outcome.out.contains(said), "{api}, {program}, {path}: {}", outcome.out);
            }
            before.into_iter().for_each(|text| world.write(path, text));
        }
    }
}

/// A folder or a link in the place of a document is neither read nor written through.
#[test]
fn a_document_that_is_no_file_is_named() {
    let world = built(PlatformApi::NEWEST);
    for Document { program, path, .. } in DOCUMENTS.iter().filter(|d| d.until == PlatformApi::NEWEST) {
        let before = world.has(path).then(|| world.read(path));
        if before.is_some() {
            world.remove(path);
        }
        fs::create_dir(world.path(path)).unwrap();
        let outcome = run(&world, program);
        assert!(outcome.code != 0 && outcome.out.contains(path), "{program}, {path}: {}", outcome.out);
        world.remove(path);
        before.into_iter().for_each(|text| world.write(path, text));
    }
}

#[test]
fn composites_that_contain_each_other_are_an_error() {
    for api in PLATFORM {
        let world = World::new(api);
        world.add(&Buildpack::new("a", BUILDPACK));
        world.add(&Buildpack::new("self", BUILDPACK).of(&[&["a", "self"]]));
        world.add(&Buildpack::new("one", BUILDPACK).of(&[&["two"]]));
        world.add(&Buildpack::new("two", BUILDPACK).of(&[&["a?", "one"]]));
        for (start, shown) in [("self", "self → self"), ("one", "one → two → one")] {
            world.order(&[&[start]]);
            world.run("detector", &[]).fails(22, &["composite buildpacks contain each other", shown]);
        }
    }
}

#[test]
fn unknown_buildpack_apis_are_told() {
    let unsupported = |api: &str, label: &str| {
        format!(
            "failed to set API for Buildpack '{label}': buildpack API version '{api}' is incompatible with the lifecycle"
        )
    };
    for platform in PLATFORM {
        let world = built(*platform);
        let known = world.read("layers/group.toml");
        for (api, message) in [
            ("0.6", unsupported("0.6", "a@1")),
            ("0.13", unsupported("0.13", "a@1")),
            ("1.0", unsupported("1.0", "a@1")),
            ("nonsense", "failed to parse buildpack API".to_owned()),
            ("0.9.1", "failed to parse buildpack API".to_owned()),
            ("", "failed to parse buildpack API".to_owned()),
        ] {
            world.order(&[&["a"]]);
            world.add(&Buildpack::new("a", api));
            world.run("detector", &[]).fails(12, &[&message, "'a@1'"]);
            let group = known.replace("\"0.12\"", &format!("\"{api}\""));
            world.write("layers/group.toml", group);
            for program in ["restorer", "builder", "exporter"] {
                run(&world, program).fails(12, &[&message, "'a@1'"]);
            }
            run(&world, "creator").fails(12, &[&message]);
            // Inside of a composite, too.
            world.add(&Buildpack::new("meta", BUILDPACK).of(&[&["a"]]));
            world.order(&[&["meta"]]);
            world.run("detector", &[]).fails(12, &[&message, "'a@1'"]);
        }
    }
}

#[test]
fn buildpacks_that_are_not_there_are_told() {
    let world = World::new(PlatformApi::NEWEST);
    world.add(&Buildpack::new("a", BUILDPACK));
    world.add(&Buildpack::new("meta", BUILDPACK).of(&[&["nested"]]));
    for (id, code, label) in [("missing", 1, "missing@1"), ("a@2", 1, "a@2"), ("meta", 22, "nested@1")] {
        world.order(&[&[id]]);
        world.run("detector", &[]).fails(code, &[label]);
    }
    // One whose program is not there, or is none.
    world.order(&[&["a"]]);
    world.remove("buildpacks/a/1/bin/detect");
    let outcome = world.run("detector", &[]);
    outcome.fails(21, &[]);
    assert!(outcome.out.contains("cannot run bin/detect of a@1: "), "{}", outcome.out);
    world.write("buildpacks/a/1/bin/detect", "no program");
    world.run("detector", &[]).fails(21, &[]);
    world.add(&Buildpack::new("a", BUILDPACK));
    world.run("detector", &[]).ok();
    world.remove("buildpacks/a/1/bin/build");
    world.run("builder", &[]).fails(51, &["cannot run bin/build for buildpack a@1"]);
}

#[test]
fn ids_that_are_no_folders_are_refused() {
    let world = World::new(PlatformApi::NEWEST);
    for id in ["config", "sbom", ".", "..", "sp ace", ""] {
        world.write("order.toml", order(&[&["x"]]).replace("\"x\"", &format!("\"{id}\"")));
        let descriptor = format!("api = \"0.12\"\n[buildpack]\nid = \"{id}\"\nversion = \"1\"\n");
        let folder = id.replace('/', "_");
        if ![".", "..", ""].contains(&folder.as_str()) {
            world.write(&format!("buildpacks/{folder}/1/buildpack.toml"), descriptor);
        }
        let outcome = world.run("detector", &[]);
        assert_eq!(outcome.code, 1, "{id:?}: {}", outcome.out);
        assert!(!world.has("layers/group.toml"), "{id:?}");
    }
}

#[test]
fn users_that_are_no_numbers_are_refused() {
    for api in PLATFORM {
        for (variable, flag, value) in
            [("CNB_USER_ID", "-uid", "cnb"), ("CNB_GROUP_ID", "-gid", "99999999999999999999")]
        {
            let mut world = World::new(api);
            for program in ["analyzer", "restorer", "exporter", "creator", "rebaser"] {
                world.set(variable, value);
                run(&world, program).fails(3, &[variable, value, "expected a number"]);
                world.unset(variable);
                let outcome = world.run(program, &[&format!("{flag}={value}"), "app"]);
                let has_usage = outcome.err.contains("\nUsage of lifecycle:\n");
                let is_told =
                    outcome.err.starts_with(&format!("invalid value \"{value}\" for flag {flag}: "));
                let found = (outcome.code, has_usage, is_told);
                assert_eq!(found, (2, true, true), "{api}, {program}: {}", outcome.err);
            }
        }
    }
}

#[test]
fn names_that_are_none_are_refused() {
    for api in PLATFORM {
        let world = built(*api);
        for name in ["UPPER", "a:b:c", "a@sha256:12", "sp ace", "http://example.com/a", ":", "a/../b"] {
            for (program, arguments) in [
                ("analyzer", &[name][..]),
                ("analyzer", &["-previous-image", name, "app"]),
                ("analyzer", &["-tag", name, "app"]),
                ("analyzer", &["-run-image", name, "app"]),
                ("exporter", &["-launcher", "launcher", name]),
                ("exporter", &["-launcher", "launcher", "app", name]),
                ("creator", &["-launcher", "launcher", name]),
                ("rebaser", &[name]),
            ] {
                let outcome = world.run(program, arguments);
                assert_eq!(outcome.code, 3, "{api}, {program} {arguments:?}: {}", outcome.out);
                outcome.fails(3, &["failed to resolve inputs", name]);
            }
        }
    }
}

#[test]
fn destinations_in_two_registries_are_refused() {
    for api in PLATFORM {
        let world = built(*api);
        for (program, arguments) in [
            ("analyzer", &["-tag", "example.com/a", "app"][..]),
            ("exporter", &["-launcher", "launcher", "app", "example.com/a"]),
            ("creator", &["-launcher", "launcher", "-tag", "example.com/a", "app"]),
            ("rebaser", &["app", "example.com/a"]),
        ] {
            world.run(program, arguments).fails(3, &["writing to multiple registries is unsupported"]);
        }
    }
}

/// Who is root may read everything, but root builds as somebody else.
#[test]
fn folders_that_cannot_be_read_are_named() {
    let close = |world: &World, path: &str, mode| {
        fs::set_permissions(world.path(path), PermissionsExt::from_mode(mode)).unwrap();
    };
    for (program, path, code) in [
        ("detector", "buildpacks", 22),
        ("detector", "buildpacks/a", 22),
        ("detector", "platform/env", 21),
        ("builder", "platform/env", 52),
        ("builder", "build-config/env", 52),
        ("exporter", "app/closed", 62),
        ("exporter", "layers/a", 62),
    ] {
        let world = built(PlatformApi::NEWEST);
        world.write("platform/env/X", "x");
        world.write("build-config/env/X", "x");
        world.write("app/closed/file", "x");
        close(&world, path, 0o000);
        let outcome = run(&world, program);
        close(&world, path, 0o755);
        assert_eq!(outcome.code, code, "{program}, {path}: {}", outcome.out);
        assert!(outcome.out.contains(path), "{program}, {path}: {}", outcome.out);
        assert!(outcome.out.contains("ermission denied"), "{program}, {path}: {}", outcome.out);
    }
    // A layers directory in which nothing can be made.
    let world = World::new(PlatformApi::NEWEST);
    world.remove("layers");
    world.write("layers", "no folder");
    world.only(&Buildpack::new("a", BUILDPACK));
    for program in ["analyzer", "detector"] {
        let outcome = run(&world, program);
        assert!(outcome.code == 1, "root {}: {program}: {}", is_root(), outcome.out);
        assert!(outcome.out.contains("layers"), "{program}: {}", outcome.out);
    }
}

#[test]
fn images_that_are_broken_are_named() {
    let world = World::new(PlatformApi::NEWEST);
    for file in ["index.json", "oci-layout"] {
        let path = format!("images/index.docker.io/library/run/latest/{file}");
        let before = world.read(&path);
        for text in ["", "{", "[]", "{\"schemaVersion\": 2, \"manifests\": [{}]}"] {
            world.write(&path, text);
            let outcome = world.run("analyzer", &["app"]);
            // Who reads an image need not look at the version of the layout.
            if file == "index.json" || outcome.code != 0 {
                outcome.fails(32, &["failed to analyze: cannot read the run image", file]);
            }
        }
        world.write(&path, before);
    }
    for api in PLATFORM {
        let world = built(*api);
        world.remove("images/index.docker.io/library/run");
        run(&world, "exporter").fails(1, &["failed to access run image", "there is no such image"]);
        world.run_image("run", |image| image.config_mut().set_env("OTHER", "image"));
        run(&world, "exporter").fails(1, &["it is another image by now"]);
    }
}
