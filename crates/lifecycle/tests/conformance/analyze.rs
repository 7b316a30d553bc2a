//! The analyzer.

use crate::world::{Buildpack, PLATFORM, World};
use strata_spec::{BuildpackApi, PlatformApi};

const BUILDPACK: BuildpackApi = BuildpackApi::V0_12;

#[test]
fn without_a_previous_image_there_is_an_empty_reference() {
    for api in PLATFORM {
        let world = World::new(api);
        let log = world.run("analyzer", &["app"]);
        assert!(log.ok().contains("\" not found\n"), "{api}: {}", log.out);
        assert_eq!(world.toml("layers/analyzed.toml")["image"]["reference"].as_str(), Some(""), "{api}");
    }
}

#[test]
fn the_previous_image_is_found_with_its_metadata() {
    for api in PLATFORM {
        let world = World::new(api);
        world.only(
            &Buildpack::new("a", BUILDPACK).build(
                "mkdir $L/dep; printf '[types]\\nlaunch = true\\n[metadata]\\nn = 1\\n' > $L/dep.toml",
            ),
        );
        world.until("exporter");
        world.next_build();
        for arguments in [&["app"][..], &["-previous-image", "app", "other"]] {
            world.run("analyzer", arguments).ok();
            let analyzed = world.toml("layers/analyzed.toml");
            let path = world.path("images/index.docker.io/library/app/latest");
            let expected = format!("{}@{}", path.display(), world.image("app").manifest_digest);
            assert_eq!(analyzed["image"]["reference"].as_str(), Some(expected.as_str()), "{api}");
            let layer = &analyzed["metadata"]["buildpacks"][0]["layers"]["dep"];
            assert_eq!(layer["metadata"]["n"].as_integer(), Some(1), "{api}");
            assert_eq!(
                layer["sha"].as_str(),
                world.metadata()["buildpacks"][0]["layers"]["dep"]["sha"].as_str(),
                "{api}"
            );
        }
    }
}

#[test]
fn a_previous_image_that_cannot_be_used_is_as_good_as_none() {
    for (label, keeps_reference) in [(None, true), (Some("{}"), true), (Some("{"), false), (Some("3"), false)]
    {
        let world = World::new(PlatformApi::NEWEST);
        world.run_image("app", |image| {
            if let Some(label) = label {
                image.config_mut().set_label("io.buildpacks.lifecycle.metadata", label);
            }
        });
        world.run("analyzer", &["app"]).ok();
        let reference = world.toml("layers/analyzed.toml")["image"]["reference"].clone();
        assert_eq!(reference.as_str() != Some(""), keeps_reference, "{label:?}: {reference}");
    }
    let world = World::new(PlatformApi::NEWEST);
    world.run_image("app", |_| {});
    let digest = world.image("app").manifest_digest.hex();
    world.write(&format!("images/index.docker.io/library/app/latest/blobs/sha256/{digest}"), "{");
    let log = world.run("analyzer", &["app"]);
    assert!(log.ok().contains("because it was corrupt"), "{}", log.out);
    assert_eq!(world.toml("layers/analyzed.toml")["image"]["reference"].as_str(), Some(""));
}

#[test]
fn a_run_image_that_no_layout_has_is_told_with_its_path() {
    for api in PLATFORM {
        let mut world = World::new(api);
        let path = world.path("images/index.docker.io/library/elsewhere/latest");
        let words = format!("the run image could not be found at path: {}\n", path.display());
        world.run("analyzer", &["-run-image", "elsewhere", "app"]).fails(32, &[&words]);
        // Where nobody analyzed it either, it is told when it is needed.
        world.only(&Buildpack::new("a", BUILDPACK));
        world.build().ok();
        world.export(&["app"]).fails(3, &["run image not found in analyzed metadata"]);
        // The draft has a default for the folder.
        world.unset("CNB_USE_LAYOUT");
        world.unset("CNB_LAYOUT_DIR");
        let words =
            "the run image could not be found at path: /oci/index.docker.io/library/elsewhere/latest\n";
        world.run("analyzer", &["-oci", "-run-image", "elsewhere", "app"]).fails(32, &[words]);
    }
}

#[test]
fn the_run_image_is_chosen_by_the_registry_of_the_app() {
    for api in PLATFORM {
        for (app, chosen) in [
            ("app", "index.docker.io/library/run/latest"),
            ("mirror.example.com/app", "mirror.example.com/run/latest"),
            ("other.example.com/app", "index.docker.io/library/run/latest"),
        ] {
            let world = World::new(api);
            world.run_image("mirror.example.com/run", |_| {});
            world.run("analyzer", &[app]).ok();
            let reference = world.toml("layers/analyzed.toml")["run-image"]["reference"].clone();
            assert!(reference.as_str().unwrap().contains(&format!("/{chosen}@")), "{api}: {reference}");
        }
    }
}

#[test]
fn the_experiment_with_layouts_needs_consent() {
    for api in PLATFORM {
        let mut world = World::new(api);
        world.only(&Buildpack::new("a", BUILDPACK));
        world.until("builder");
        for program in ["analyzer", "exporter", "creator"] {
            for (mode, code) in [("error", 1), ("warn", 0), ("quiet", 0)] {
                world.set("CNB_EXPERIMENTAL_MODE", mode);
                let arguments: &[&str] =
                    if program == "analyzer" { &["app"] } else { &["-launcher", "launcher", "app"] };
                let outcome = world.run(program, arguments);
                let feature = "Platform requested experimental feature 'export to OCI layout format'\n";
                assert_eq!(outcome.code, code, "{api}, {program}, {mode}: {}", outcome.out);
                assert_eq!(outcome.out.contains(feature), mode != "quiet", "{api}: {}", outcome.out);
            }
        }
    }
}

#[test]
fn a_run_image_says_what_it_is_for() {
    for (name, change, expected) in [
        ("all", None, "id distro"),
        ("no id", Some("io.buildpacks.base.id"), "distro"),
        ("no name", Some("io.buildpacks.base.distro.name"), "id distro"),
    ] {
        let world = World::new(PlatformApi::NEWEST);
        world.run_image("run", |image| {
            image.config_mut().set_variant(Some("v8"));
            change.iter().for_each(|label| image.config_mut().remove_label(label));
        });
        world.run("analyzer", &["app"]).ok();
        let target = world.toml("layers/analyzed.toml")["run-image"]["target"].clone();
        let found: Vec<_> = ["id", "distro"].into_iter().filter(|key| target.get(key).is_some()).collect();
        assert_eq!(found.join(" "), expected, "{name}");
        assert_eq!(target["arch-variant"].as_str(), Some("v8"), "{name}");
    }
    let world = World::new(PlatformApi::NEWEST);
    world.run_image("run", |image| image.config_mut().set_os(""));
    world.run("analyzer", &["app"]).fails(32, &["failed to find OS in run image config"]);
}
