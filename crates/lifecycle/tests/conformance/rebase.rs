//! The rebaser. What depends on a version is in `platform_api`.

use crate::world::{Buildpack, PLATFORM, World};
use strata_spec::{BuildpackApi, PlatformApi};

const BUILDPACK: BuildpackApi = BuildpackApi::V0_12;

/// A place with an app image, exported.
fn exported(api: PlatformApi) -> World {
    let world = World::new(api);
    world.only(&Buildpack::new("a", BUILDPACK));
    world.until("exporter");
    world
}

#[test]
fn the_layers_of_the_base_are_replaced() {
    for api in PLATFORM {
        let world = exported(*api);
        let before = world.diff_ids("app");
        world.run_image("run", |image| image.config_mut().set_env("FROM_BASE", "new"));
        let base = world.diff_ids("run");
        let log = world.run("rebaser", &["-report", "report.toml", "app", "second"]);
        assert!(log.ok().contains("*** Images ("), "{api}: {}", log.out);
        let after = world.diff_ids("app");
        assert_eq!((&after[..2], &after[2..]), (&base[..], &before[2..]), "{api}");
        assert_eq!(world.image("second").manifest_digest, world.image("app").manifest_digest, "{api}");
        let metadata = world.metadata();
        let top = base.last().unwrap().to_string();
        assert_eq!(metadata["runImage"]["topLayer"].as_str(), Some(top.as_str()), "{api}");
        let digest = world.image("run").manifest_digest.to_string();
        assert!(metadata["runImage"]["reference"].as_str().unwrap().ends_with(&digest), "{api}");
        assert_eq!(world.toml("report.toml")["image"]["tags"].as_array().unwrap().len(), 2, "{api}");
    }
}

#[test]
fn what_cannot_be_rebased_is_refused() {
    for api in PLATFORM {
        let mut world = exported(*api);
        world.run("rebaser", &["nothing"]).fails(72, &["failed to access image to rebase", "nothing"]);
        world.set("CNB_RUN_IMAGE", "elsewhere");
        world.run("rebaser", &["app"]).fails(1, &["failed to access run image", "elsewhere"]);
        world.unset("CNB_RUN_IMAGE");
        world.run_image("app", |_| {});
        let words = "-run-image is required when there is no run image metadata available";
        world.run("rebaser", &["app"]).fails(72, &[words]);
        world.run_image("app", |image| {
            image.config_mut().set_label("io.buildpacks.lifecycle.metadata", "{");
        });
        world.run("rebaser", &["app"]).fails(72, &["io.buildpacks.lifecycle.metadata"]);
        // An image whose base is not where its label says.
        let top = "sha256:".to_owned() + &"0".repeat(64);
        world.run_image("app", |image| {
            let label = format!(r#"{{"runImage":{{"topLayer":"{top}","image":"run"}},"stack":{{"runImage":{{"image":"run"}}}}}}"#);
            image.config_mut().set_label("io.buildpacks.lifecycle.metadata", &label);
            image.config_mut().set_env("CNB_PLATFORM_API", &api.to_string());
        });
        world.run("rebaser", &["app"]).fails(72, &["could not find base layer in image"]);
    }
}

#[test]
fn an_image_says_whether_it_may_be_rebased() {
    for (label, refused) in [(None, false), (Some("true"), false), (Some("false"), true)] {
        let world = World::new(PlatformApi::NEWEST);
        world.run_image("run", |image| {
            label.iter().for_each(|label| image.config_mut().set_label("io.buildpacks.rebasable", label));
        });
        world.only(&Buildpack::new("a", BUILDPACK));
        world.until("exporter");
        let outcome = world.run("rebaser", &["app"]);
        if refused {
            outcome.fails(72, &["app image is not marked as rebasable", "-force"]);
            let log = world.run("rebaser", &["-force", "app"]);
            assert!(log.ok().contains("Warning: app image is not marked as rebasable\n"), "{}", log.out);
        } else {
            outcome.ok();
        }
    }
}

#[test]
fn mixins_of_the_app_must_be_in_the_base() {
    let mut world = World::new(PlatformApi::V0_11);
    let mixins = |world: &World, text: &str| {
        world.run_image("run", |image| image.config_mut().set_label("io.buildpacks.stack.mixins", text));
    };
    mixins(&world, r#"["one", "run:two", "run:three"]"#);
    world.only(&Buildpack::new("a", BUILDPACK));
    world.until("exporter");
    world.set("CNB_PREVIOUS_IMAGE", "app");
    for (text, words) in [
        (r#"["run:one", "two", "three", "four"]"#, None),
        (r#"["one"]"#, Some("missing required mixin(s): three, two")),
        ("[", Some("io.buildpacks.stack.mixins")),
    ] {
        mixins(&world, text);
        let outcome = world.run("rebaser", &["rebased"]);
        if let Some(words) = words {
            outcome.fails(72, &[words]);
        } else {
            outcome.ok();
        }
    }
}
