//! The creator. That it makes the image of the five phases is in `platform_api`.

use crate::world::{Buildpack, Extension, PLATFORM, World, order_with};
use strata_spec::{BuildpackApi, PlatformApi};

const BUILDPACK: BuildpackApi = BuildpackApi::V0_12;
const CREATE: &[&str] = &["-launcher", "launcher", "app"];

#[test]
fn a_phase_that_fails_ends_the_creation_with_its_code() {
    for api in PLATFORM {
        for (detect, build, arguments, code, last) in [
            ("exit 100", "", CREATE, 20, "DETECTING"),
            ("exit 7", "", CREATE, 21, "DETECTING"),
            ("", "exit 7", CREATE, 51, "BUILDING"),
            ("", "echo '[types' > $L/x.toml", CREATE, 52, "BUILDING"),
            ("", "", &["-launcher", "launcher", "-process-type", "none", "app"], 62, "EXPORTING"),
            ("", "", &["-launcher", "nowhere", "app"], 62, "EXPORTING"),
        ] {
            let world = World::new(api);
            world.only(&Buildpack::new("a", BUILDPACK).detect(detect).build(build));
            let outcome = world.run("creator", arguments);
            let log = outcome.fails(code, &[]);
            let phase = log.rsplit_once("===> ").and_then(|(_, rest)| rest.lines().next());
            assert_eq!(phase, Some(last), "{api}: {log}");
            assert!(!world.has("images/index.docker.io/library/app/latest/index.json"), "{api}");
        }
    }
}

#[test]
fn the_second_creation_takes_what_the_first_left() {
    for api in PLATFORM {
        let world = World::new(api);
        world.only(&Buildpack::new("a", BUILDPACK).build(
            "if [ -e $L/both/file ]; then echo it is there; fi
             mkdir -p $L/both; echo 1 > $L/both/file; printf '[types]\\nlaunch = true\\ncache = true\\n' > $L/both.toml",
        ));
        let create =
            || world.run("creator", &["-launcher", "launcher", "-tag", "second", "app"]).ok().to_owned();
        let log = create();
        assert!(!log.contains("it is there\n") && log.contains("Adding layer 'a:both'\n"), "{api}: {log}");
        assert_eq!(world.image("second").manifest_digest, world.image("app").manifest_digest, "{api}");
        let before = world.diff_ids("app");
        world.next_build();
        let log = create();
        for line in ["Restoring data for \"a:both\" from cache", "it is there", "Reusing layer 'a:both'"] {
            assert!(log.contains(&format!("{line}\n")), "{api}: {log}");
        }
        assert_eq!(world.diff_ids("app"), before, "{api}");
        assert!(world.has("layers/group.toml") && world.has("layers/plan.toml"), "{api}");
        assert!(world.has("layers/analyzed.toml") && world.has("layers/report.toml"), "{api}");
    }
}

/// Nobody can have made such a group with this lifecycle, but another may have.
#[test]
fn a_group_with_extensions_is_refused() {
    for api in PLATFORM {
        let world = World::new(api);
        world.add(&Buildpack::new("a", BuildpackApi::V0_12));
        world.extend(&Extension::new("e", BuildpackApi::V0_12).detect("exit 100"));
        world.write("order.toml", order_with(&[&["a"]], &[&["e"]]));
        world.run("creator", &["-launcher", "launcher", "app"]).ok();
        world.next_build();
        world.extend(&Extension::new("e", BuildpackApi::V0_12).detect(""));
        let words =
            ["failed to detect: detected order contains extensions which is not supported by the creator"];
        world.run("creator", &["-launcher", "launcher", "app"]).fails(22, &words);
    }
}

/// Wherever the test runs: it is no container, is not root, or has no image to extend.
#[test]
fn an_extender_changes_nothing_of_this_machine() {
    for api in PLATFORM {
        let world = World::new(api);
        world.run("extender", &[]).fails(102, &["failed to ", "image"]);
    }
    let world = World::new(PlatformApi::V0_12);
    world.run("extender", &["-kind", "run"]).fails(102, &["failed to ", "image"]);
    world.run("extender", &["-kind", "other"]).fails(3, &["'other' is no kind of image"]);
}
