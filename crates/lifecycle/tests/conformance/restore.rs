//! The restorer.

use crate::world::{Buildpack, PLATFORM, World};
use strata_spec::{BuildpackApi, PlatformApi};

const BUILDPACK: BuildpackApi = BuildpackApi::V0_12;

/// Makes a layer for every combination of types; its name has their first letters.
fn all_types() -> Buildpack {
    let mut script = String::new();
    for types in 1..8 {
        let mut name = String::new();
        let mut toml = String::from("[types]\\n");
        for (bit, word) in [(1, "launch"), (2, "build"), (4, "cache")] {
            if types & bit != 0 {
                name.push_str(&word[..1]);
                toml.push_str(&format!("{word} = true\\n"));
            }
        }
        toml.push_str(&format!("[metadata]\\nname = \"{name}\"\\nn = 1\\n"));
        script.push_str(&format!(
            "mkdir -p $L/{name}; echo {name} > $L/{name}/file; printf '{toml}' > $L/{name}.toml\n"
        ));
    }
    script.push_str("printf '[metadata]\\nkept = true\\n' > $L/store.toml");
    Buildpack::new("some/layers", BUILDPACK).build(&script)
}

/// What is there of each layer: its document, its contents, or both.
fn restored(world: &World) -> String {
    let mut found = Vec::new();
    for name in ["l", "b", "lb", "c", "lc", "bc", "lbc"] {
        let toml = world.has(&format!("layers/some_layers/{name}.toml"));
        let file = world.has(&format!("layers/some_layers/{name}/file"));
        match (toml, file) {
            (true, true) => found.push(format!("{name}:all")),
            (true, false) => found.push(format!("{name}:toml")),
            (false, true) => found.push(format!("{name}:contents")),
            (false, false) => {}
        }
    }
    found.join(" ")
}

#[test]
fn types_decide_what_is_restored() {
    for api in PLATFORM {
        let mut world = World::new(api);
        world.only(&all_types());
        world.until("exporter");
        world.next_build();
        let log = world.until("restorer");
        assert_eq!(restored(&world), "l:toml c:all lc:all bc:all lbc:all", "{api}: {log}");
        let expected = "[metadata]\n  n = 1\n  name = \"lc\"\n";
        assert_eq!(world.read("layers/some_layers/lc.toml"), expected, "{api}");
        assert_eq!(world.read("layers/some_layers/store.toml"), "[metadata]\n  kept = true\n", "{api}");
        for (layer, from) in [("l", "app image"), ("lc", "app image"), ("bc", "cache")] {
            let line = format!("Restoring metadata for \"some/layers:{layer}\" from {from}\n");
            assert!(log.contains(&line), "{api}: {log}");
        }
        assert!(log.contains("Restoring data for \"some/layers:bc\" from cache\n"), "{api}: {log}");
        // A platform can do without; stores come back all the same.
        world.next_build();
        world.set("CNB_SKIP_LAYERS", "true");
        let log = world.until("restorer");
        assert!(log.contains("Skipping buildpack layer analysis\n"), "{api}: {log}");
        assert_eq!(restored(&world), "", "{api}");
        assert!(world.has("layers/some_layers/store.toml"), "{api}");
    }
}

#[test]
fn without_a_cache_the_image_says_what_it_can() {
    for api in PLATFORM {
        let mut world = World::new(api);
        world.only(&all_types());
        world.until("exporter");
        world.next_build();
        world.unset("CNB_CACHE_DIR");
        let log = world.until("restorer");
        assert!(log.contains("Warning: No cached data will be used, no cache specified.\n"), "{api}: {log}");
        assert_eq!(restored(&world), "l:toml", "{api}: {log}");
    }
}

#[test]
fn a_layer_of_an_older_build_is_removed() {
    for api in PLATFORM {
        let world = World::new(api);
        world.only(&all_types());
        world.until("exporter");
        // The next image is exported without the cache.
        world.only(&Buildpack::new("some/layers", BUILDPACK).build(
            "mkdir $L/lc; echo other > $L/lc/file; printf '[types]\\nlaunch = true\\ncache = true\\n' > $L/lc.toml",
        ));
        let cache = world.path("cache");
        std::fs::rename(&cache, world.path("kept")).unwrap();
        std::fs::create_dir(&cache).unwrap();
        world.next_build();
        world.until("exporter");
        std::fs::remove_dir_all(&cache).unwrap();
        std::fs::rename(world.path("kept"), &cache).unwrap();
        world.next_build();
        let log = world.until("restorer");
        assert!(log.contains("Removing \"some/layers:lc\", wrong sha\n"), "{api}: {log}");
        // What only the cache has is still good; a launch layer of it only since 0.14.
        let launch = if *api >= PlatformApi::V0_14 { " lbc:all" } else { "" };
        assert_eq!(restored(&world), format!("c:all bc:all{launch}"), "{api}: {log}");
    }
}

#[test]
fn a_damaged_cache_costs_the_damaged_layers() {
    let world = World::new(PlatformApi::NEWEST);
    world.only(&all_types());
    world.until("exporter");
    let cache: serde_json::Value =
        serde_json::from_str(&world.read("cache/committed/io.buildpacks.lifecycle.cache.metadata")).unwrap();
    let tar = |layer: &str| {
        let sha = cache["buildpacks"][0]["layers"][layer]["sha"].as_str().unwrap();
        format!("cache/committed/{sha}.tar")
    };
    world.write(&tar("bc"), "nothing like before");
    world.remove(&tar("c"));
    world.next_build();
    let log = world.until("restorer");
    for layer in ["bc", "c"] {
        let warning = format!("Warning: Skipping restore for layer some/layers:{layer}: ");
        assert!(log.contains(&warning), "{layer}: {log}");
        assert!(!world.has(&format!("layers/some_layers/{layer}/file")), "{layer}");
    }
    assert!(world.has("layers/some_layers/lc/file"));
    for bad in ["{", "3", ""] {
        world.write("cache/committed/io.buildpacks.lifecycle.cache.metadata", bad);
        world.next_build();
        let log = world.until("restorer");
        assert!(log.contains("Warning: ignoring what cache"), "{bad:?}: {log}");
        assert_eq!(restored(&world), "l:toml", "{bad:?}");
    }
}

#[test]
fn analyzed_toml_is_written_even_if_nobody_analyzed() {
    for api in PLATFORM {
        let world = World::new(api);
        world.only(&Buildpack::new("a", BUILDPACK));
        world.run("detector", &[]).ok();
        let log = world.run("restorer", &[]);
        assert!(log.ok().contains("Warning: No analyzed metadata found at path "), "{api}: {}", log.out);
        assert!(world.has("layers/analyzed.toml"), "{api}");
        world.write("layers/analyzed.toml", "[image\n");
        let log = world.run("restorer", &[]);
        let warning = "Warning: Not using analyzed data, usable file not found: ";
        assert!(log.ok().contains(warning) && log.out.contains("line 1, column"), "{api}: {}", log.out);
    }
}
