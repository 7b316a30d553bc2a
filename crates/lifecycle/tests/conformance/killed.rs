//! A phase that is killed at any moment harms neither image nor cache nor layers, and the next one tidies up.

use std::fs;
use std::io::Read;

use strata_spec::{BuildpackApi, PlatformApi};
use strata_store::cache::{Cache, METADATA, VolumeCache};

use crate::kill::{Killer, ends_well, is_tidy, names, proven};
use crate::world::{Buildpack, World};

const APP: &str = "images/index.docker.io/library/app/latest";

/// Numbers, about 100 kB, others for each `step`: layers that differ.
fn numbers(step: u64) -> String {
    (0..20_000).map(|number| (number * step).to_string()).collect::<Vec<_>>().join("\n")
}

/// Makes what is to be exported: of layers, an app and a cache, this part is new with each round.
fn change(world: &World, round: u64) {
    world.write("layers/a/one/file", numbers(3 + round));
    world.write("layers/a/two/file", numbers(1000 + round));
    world.write("app/file", format!("round {round}"));
}

/// The cached layers, which are all there, byte for byte.
#[track_caller]
fn cached(world: &World) -> Vec<String> {
    let cache = VolumeCache::open(world.path("cache")).unwrap();
    let Some(text) = cache.metadata().unwrap() else { return Vec::new() };
    let metadata: serde_json::Value = serde_json::from_str(&text).unwrap();
    let layers = metadata["buildpacks"][0]["layers"].as_object().unwrap();
    let mut found: Vec<_> = layers.values().map(|layer| layer["sha"].as_str().unwrap().to_owned()).collect();
    found.sort();
    for diff_id in &found {
        let layer = cache.open_layer(&diff_id.parse().unwrap()).unwrap();
        layer.unwrap().read_to_end(&mut Vec::new()).unwrap();
    }
    found
}

/// Makes sure that there is nothing but the image, the cache, and what a platform finds in the layers directory.
#[track_caller]
fn tidy(world: &World, layers: &[String]) {
    is_tidy(&world.path(APP));
    assert_eq!(names(&world.path("cache")), ["committed"]);
    let mut expected: Vec<_> = cached(world).iter().map(|diff_id| format!("{diff_id}.tar")).collect();
    expected.insert(0, METADATA.to_owned());
    assert_eq!(names(&world.path("cache/committed")), expected);
    assert_eq!(names(&world.path("layers")), layers);
    assert_eq!(names(&world.path("tmp")), [""; 0]);
}

#[test]
fn an_export_that_is_killed_harms_nothing() {
    let world = World::new(PlatformApi::NEWEST);
    world.only(&Buildpack::new("a", BuildpackApi::V0_12).build(
        "for layer in one two same; do mkdir -p $L/$layer; echo $layer > $L/$layer/file
         printf '[types]\\nlaunch = true\\ncache = true\\n' > $L/$layer.toml; done",
    ));
    world.until("builder");
    let export = || world.prepared("exporter", &["-launcher", "launcher", "app"]);
    change(&world, 0);
    ends_well(export());
    change(&world, 1);
    let mut killer = Killer::new(export());
    let layers = names(&world.path("layers"));
    let mut before = (proven(&world.path(APP)), cached(&world));
    tidy(&world, &layers);
    for round in 0..killer.rounds() {
        change(&world, round + 2);
        killer.kill(export());
        let after = (proven(&world.path(APP)), cached(&world));
        ends_well(export());
        let new = (proven(&world.path(APP)), cached(&world));
        assert!(new.0 != before.0 && new.1 != before.1, "{round}: nothing was exported");
        assert!([&before.0, &new.0].contains(&&after.0), "{round}: {before:?}, {new:?}, {after:?}");
        assert!([&before.1, &new.1].contains(&&after.1), "{round}: {before:?}, {new:?}, {after:?}");
        tidy(&world, &layers);
        before = new;
    }
    killer.has_killed();
}

#[test]
fn a_restore_that_is_killed_harms_nothing() {
    let world = World::new(PlatformApi::NEWEST);
    world.only(&Buildpack::new("a", BuildpackApi::V0_12).build(
        "for layer in one two; do mkdir -p $L/$layer/deep; for n in $(seq 50); do echo $layer $n > $L/$layer/deep/$n; done
         printf '[types]\\nlaunch = true\\ncache = true\\n' > $L/$layer.toml; done",
    ));
    world.until("builder");
    for layer in ["one", "two"] {
        world.write(&format!("layers/a/{layer}/file"), numbers(7).repeat(20));
    }
    let restore = || world.prepared("restorer", &[]);
    let export = || {
        for layer in ["one", "two"] {
            world.write(&format!("layers/a/{layer}.toml"), "[types]\nlaunch = true\ncache = true\n");
        }
        ends_well(world.prepared("exporter", &["-launcher", "launcher", "app"]));
        (proven(&world.path(APP)), cached(&world))
    };
    export();
    fs::remove_dir_all(world.path("layers/a")).unwrap();
    let mut killer = Killer::new(restore());
    let (layers, expected) = (names(&world.path("layers")), export());
    for round in 0..killer.rounds() {
        // Either nothing is there, as platforms have it, or some of what an earlier run has brought.
        fs::remove_dir_all(world.path(if round % 2 == 0 { "layers/a" } else { "layers/a/two" })).unwrap();
        killer.kill(restore());
        for layer in ["one", "two"] {
            let dir = world.path(&format!("layers/a/{layer}"));
            assert!(!dir.exists() || names(&dir) == ["deep", "file"], "{round}: {layer} is there in part");
        }
        ends_well(restore());
        for layer in ["one", "two"] {
            assert_eq!(names(&world.path(&format!("layers/a/{layer}/deep"))).len(), 50, "{round}");
        }
        assert_eq!(names(&world.path("layers")), layers, "{round}");
        assert_eq!(names(&world.path("layers/@strata")), ["index.json"], "{round}");
        assert_eq!(export(), expected, "{round}");
    }
    killer.has_killed();
}
