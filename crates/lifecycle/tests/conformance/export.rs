//! The exporter: what is in the image, and what is written of it.

use crate::world::{Buildpack, PLATFORM, World};
use strata_spec::{BuildpackApi, PlatformApi};

const BUILDPACK: BuildpackApi = BuildpackApi::V0_12;

#[test]
fn the_configuration_says_how_the_app_is_started() {
    let process = "[[processes]]\\ntype = \"%s\"\\ncommand = [\"x\"]\\ndefault = %s\\n";
    for api in PLATFORM {
        let world = World::new(api);
        world.only(&Buildpack::new("a", BUILDPACK).build(&format!(
            "printf '{process}' web true task false > $L/launch.toml
             printf '[[labels]]\\nkey = \"some.label\"\\nvalue = \"<value>\"\\n' >> $L/launch.toml"
        )));
        world.until("builder");
        for (arguments, entrypoint, said) in [
            (&["app"][..], "/cnb/process/web", "Setting default process type 'web'\n"),
            (&["-process-type", "task", "app"], "/cnb/process/task", "Setting default process type 'task'\n"),
        ] {
            let log = world.export(arguments);
            assert!(log.ok().contains(said), "{api}: {}", log.out);
            assert!(log.out.contains("Adding label 'some.label'\n"), "{api}: {}", log.out);
            let image = world.image("app").image;
            let config = image.config();
            assert_eq!(config.entrypoint(), [entrypoint], "{api}");
            assert_eq!(config.cmd(), Vec::<&str>::new(), "{api}");
            assert_eq!(config.working_dir(), world.path("app").to_str().unwrap(), "{api}");
            assert_eq!(config.label("some.label"), Some("<value>"), "{api}");
            let path = |path: &str| world.path(path).display().to_string();
            let expected = [
                ("PATH", "/cnb/process:/cnb/lifecycle:/run/bin:/bin".to_owned()),
                ("CNB_LAYERS_DIR", path("layers")),
                ("CNB_APP_DIR", path("app")),
                ("CNB_PLATFORM_API", api.to_string()),
                ("CNB_DEPRECATION_MODE", "quiet".to_owned()),
            ];
            let expected: Vec<_> = expected.iter().map(|(name, value)| (*name, value.as_str())).collect();
            assert_eq!(config.env().collect::<Vec<_>>(), expected, "{api}");
            strata_oci::validate(&image).unwrap();
        }
        world.export(&["-process-type", "none", "app"]).fails(62, &["tried to set 'none' to default"]);
    }
}

#[test]
fn annotations_of_buildpacks_are_on_the_manifest_the_later_ones_winning() {
    for api in PLATFORM {
        let world = World::new(api);
        let annotate = "printf '[[annotations]]\\nkey = \"%s\"\\nvalue = \"%s\"\\n'";
        let [a, b] = ["a", "b"].map(|id| {
            let script = format!("{annotate} both {id} {id} yes > $L/launch.toml");
            world.add(&Buildpack::new(id, BUILDPACK).build(&script));
            id
        });
        world.order(&[&[a, b]]);
        world.until("exporter");
        let image = world.image("app").image;
        let found: Vec<_> = image.annotations().iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(found, [("a", "yes"), ("b", "yes"), ("both", "b")], "{api}");
    }
}

#[test]
fn without_a_default_process_the_launcher_is_started() {
    for api in PLATFORM {
        let world = World::new(api);
        world.only(&Buildpack::new("a", BUILDPACK));
        let log = world.until("exporter");
        assert!(log.contains("no default process type\n"), "{api}: {log}");
        assert_eq!(world.image("app").image.config().entrypoint(), ["/cnb/lifecycle/launcher"], "{api}");
        let metadata = world.metadata();
        assert_eq!(metadata["process-types"]["sha"].as_str(), Some(""), "{api}");
        let launcher = world.files(metadata["launcher"]["sha"].as_str().unwrap());
        assert_eq!(launcher["/cnb/lifecycle/launcher"], "the launcher\n", "{api}");
        let config = world.files(metadata["config"]["sha"].as_str().unwrap());
        let path = "layers/config/metadata.toml";
        assert_eq!(config[path], world.read(path), "{api}");
    }
}

#[test]
fn process_types_are_links_to_the_launcher() {
    let world = World::new(PlatformApi::NEWEST);
    let process = "[[processes]]\\ntype = \"%s\"\\ncommand = [\"x\"]\\n";
    world.only(
        &Buildpack::new("a", BUILDPACK).build(&format!("printf '{process}' web worker > $L/launch.toml")),
    );
    world.until("exporter");
    let files = world.files(world.metadata()["process-types"]["sha"].as_str().unwrap());
    let found: Vec<_> = files.iter().map(|(path, target)| (path.as_str(), target.as_str())).collect();
    let launcher = "/cnb/lifecycle/launcher";
    assert_eq!(found, [("/cnb/process/web", launcher), ("/cnb/process/worker", launcher)]);
}

#[test]
fn the_app_is_cut_into_slices() {
    let world = World::new(PlatformApi::NEWEST);
    for file in ["static/a.css", "static/b.css", "lib/c", "main"] {
        world.write(&format!("app/{file}"), file);
    }
    world.only(&Buildpack::new("a", BUILDPACK).build(
        "printf '[[slices]]\\npaths = [\"static/*.css\", \"static/a*\"]\\n[[slices]]\\npaths = [\"lib\", \"none\"]\\n' > $L/launch.toml",
    ));
    let log = world.until("exporter");
    assert!(log.contains("Added 3/3 app layer(s)\n"), "{log}");
    let slices: Vec<Vec<String>> = world.metadata()["app"]
        .as_array()
        .unwrap()
        .iter()
        .map(|slice| world.files(slice["sha"].as_str().unwrap()).into_keys().collect())
        .collect();
    assert_eq!(
        slices,
        [vec!["app/static/a.css", "app/static/b.css"], vec!["app/lib/c"], vec!["app/file", "app/main"]]
    );
    // The next time, what did not change is taken from the image before.
    world.next_build();
    world.write("app/main", "changed");
    let log = world.until("exporter");
    assert!(log.contains("Reused 2/3 app layer(s)\nAdded 1/3 app layer(s)\n"), "{log}");
}

#[test]
fn layers_that_did_not_change_are_reused() {
    for api in PLATFORM {
        let world = World::new(api);
        let buildpack = |text: &str| {
            Buildpack::new("a", BUILDPACK).build(&format!(
                "for layer in same other; do mkdir -p $L/$layer; printf '[types]\\nlaunch = true\\n' > $L/$layer.toml; done
                 echo same > $L/same/file; echo {text} > $L/other/file"
            ))
        };
        world.only(&buildpack("before"));
        let log = world.until("exporter");
        for layer in ["a:same", "a:other", "buildpacksio/lifecycle:launcher", "buildpacksio/lifecycle:config"]
        {
            assert!(log.contains(&format!("Adding layer '{layer}'\n")), "{api}: {log}");
        }
        let before = world.diff_ids("app");
        world.only(&buildpack("after"));
        world.next_build();
        let log = world.until("exporter");
        assert!(
            log.contains("Reusing layer 'a:same'\nAdding layer 'a:other'\n")
                || log.contains("Adding layer 'a:other'\nReusing layer 'a:same'\n"),
            "{api}: {log}"
        );
        assert!(log.contains("Reusing layer 'buildpacksio/lifecycle:launcher'\n"), "{api}: {log}");
        assert!(log.contains("Reused 1/1 app layer(s)\n"), "{api}: {log}");
        let after = world.diff_ids("app");
        assert_eq!(after.iter().filter(|diff_id| !before.contains(diff_id)).count(), 1, "{api}");
    }
}

#[test]
fn a_layer_without_contents_is_that_of_the_image_before() {
    for api in PLATFORM {
        let world = World::new(api);
        let toml = |cache| format!("printf '[types]\\nlaunch = true\\ncache = {cache}\\n' > $L/dep.toml");
        let make = "if [ ! -e $L/dep.toml ]; then mkdir $L/dep; echo 1 > $L/dep/file; fi\n";
        world.only(&Buildpack::new("a", BUILDPACK).build(&format!("{make}{}", toml(false))));
        world.until("exporter");
        let sha = world.metadata()["buildpacks"][0]["layers"]["dep"]["sha"].clone();
        world.next_build();
        let log = world.until("exporter");
        assert!(!world.has("layers/a/dep"), "{api}");
        assert!(log.contains("Reusing layer 'a:dep'\n"), "{api}: {log}");
        assert_eq!(world.metadata()["buildpacks"][0]["layers"]["dep"]["sha"], sha, "{api}");
        assert_eq!(world.files(sha.as_str().unwrap())["layers/a/dep/file"], "1\n", "{api}");
        // One that nobody has is an error, and so is one that should be in the cache.
        for (id, cache, words) in [
            ("b", false, "cannot reuse 'b:dep', previous image has no metadata for layer 'b:dep'"),
            ("c", true, "layer 'c:dep' is cache=true but has no contents"),
        ] {
            world.only(&Buildpack::new(id, BUILDPACK).build(&toml(cache)));
            world.next_build();
            world.until("builder");
            world.export(&["app"]).fails(62, &[words]);
        }
    }
}

#[test]
fn new_layers_are_compressed_as_asked() {
    let mut world = World::new(PlatformApi::NEWEST);
    world.only(
        &Buildpack::new("a", BUILDPACK).build(
            "mkdir $L/dep; echo text > $L/dep/file; printf '[types]\\nlaunch = true\\n' > $L/dep.toml",
        ),
    );
    world.until("builder");
    let mut diff_ids = None;
    for (compression, end) in [("gzip:9", "tar+gzip"), ("zstd:1", "tar+zstd"), ("none", "layer.v1.tar")] {
        // Another image each time: layers of the previous one are taken as they are.
        let name = format!("app-{}", &compression[..4]);
        world.export(&["-compression", compression, &name]).ok();
        let image = world.image(&name).image;
        let added = &image.layers()[world.image("run").image.layers().len()..];
        assert!(added.iter().all(|layer| layer.descriptor.media_type.ends_with(end)), "{added:?}");
        let found: Vec<_> = added.iter().map(|layer| layer.diff_id).collect();
        assert_eq!(*diff_ids.get_or_insert(found.clone()), found, "{compression}");
    }
    world.set("CNB_LAYER_COMPRESSION", "zstd:19");
    world.export(&["app"]).fails(3, &["'zstd:19' is no compression"]);
}

#[test]
fn the_labels_say_what_was_built() {
    for api in PLATFORM {
        let mut world = World::new(api);
        world.set("CNB_APP_SOURCE_LABEL", "true");
        world.write(
            "layers/project-metadata.toml",
            "[source]\ntype = \"git\"\n[source.version]\ncommit = \"abc\"\nn = 1\nreal = 1.5\nflag = true\n\
             [source.metadata]\nrefs = [\"main\"]\nother = [{ a = \"<b>\" }]\n",
        );
        world.only(&Buildpack::new("a/b", BUILDPACK).key("homepage = \"https://example.com\"").build(
            "mkdir $L/dep; printf '[types]\\nlaunch = true\\n[metadata]\\nn = 1\\ntext = \"<>\"\\n' > $L/dep.toml
             printf '[metadata]\\nkept = true\\n' > $L/store.toml",
        ));
        world.until("exporter");
        let metadata = world.metadata();
        let buildpack = &metadata["buildpacks"][0];
        assert_eq!(buildpack["key"], "a/b", "{api}");
        assert_eq!(buildpack["store"], serde_json::json!({"metadata": {"kept": true}}), "{api}");
        let layer = &buildpack["layers"]["dep"];
        assert_eq!(layer["data"], serde_json::json!({"n": 1, "text": "<>"}), "{api}");
        assert_eq!(
            (&layer["launch"], &layer["build"], &layer["cache"]),
            (&true.into(), &false.into(), &false.into())
        );
        let build = world.build_metadata();
        let expected = serde_json::json!([{"id": "a/b", "version": "1", "homepage": "https://example.com"}]);
        assert_eq!((&build["buildpacks"], &build["processes"]), (&expected, &serde_json::json!([])), "{api}");
        let source = serde_json::json!({
            "type": "git",
            "version": {"commit": "abc", "n": 1, "real": 1.5, "flag": true},
            "metadata": {"refs": ["main"], "other": [{"a": "<b>"}]},
        });
        let project = serde_json::json!({"source": source});
        assert_eq!(world.label("app", "io.buildpacks.project.metadata"), project, "{api}");
        assert_eq!(world.label("app", "io.buildpacks.app.source"), source, "{api}");
        world.unset("CNB_APP_SOURCE_LABEL");
        world.export(&["app"]).ok();
        assert_eq!(world.label("app", "io.buildpacks.project.metadata"), project, "{api}");
        assert_eq!(world.image("app").image.config().label("io.buildpacks.app.source"), None, "{api}");
    }
}

#[test]
fn the_report_says_where_the_image_is() {
    for api in PLATFORM {
        let world = World::new(api);
        world.only(&Buildpack::new("a", BUILDPACK));
        world.until("builder");
        let log = world.export(&["-log-level", "debug", "-report", "own-report.toml", "app", "second:tag"]);
        let path =
            |path: &str| world.path(&format!("images/index.docker.io/library/{path}")).display().to_string();
        let app = world.image("app");
        let report = world.toml("own-report.toml");
        let image = report["image"].as_table().unwrap();
        let expected = vec![toml::Value::from(path("app/latest")), path("second/tag").into()];
        assert_eq!(image["tags"].as_array(), Some(&expected), "{api}: {}", log.out);
        assert_eq!(image["manifest-size"].as_integer(), Some(app.manifest.len() as i64), "{api}");
        assert!(!image.contains_key("digest") && !image.contains_key("image-id"), "{api}");
        assert_eq!(world.image("second:tag").manifest_digest, app.manifest_digest, "{api}");
        let saved = format!(
            "*** Images ({}@{}):\n      {}\n",
            path("app/latest"),
            app.manifest_digest,
            path("app/latest")
        );
        assert!(log.ok().contains(&saved), "{api}: {}", log.out);
        assert!(!world.has("layers/report.toml"), "{api}");
    }
}

#[test]
fn the_cache_has_what_is_to_be_cached() {
    for api in PLATFORM {
        let mut world = World::new(api);
        let buildpack = Buildpack::new("a", BUILDPACK).build(
            "mkdir -p $L/kept $L/other; echo 1 > $L/kept/file
             printf '[types]\\ncache = true\\n' > $L/kept.toml; printf '[types]\\nbuild = true\\n' > $L/other.toml
             printf '[types]\\ncache = true\\n' > $L/empty.toml",
        );
        world.only(&buildpack);
        let log = world.until("exporter");
        assert!(log.contains("Adding cache layer 'a:kept'\n"), "{api}: {log}");
        let warning = "Warning: Failed to cache layer 'a:empty' because it has no contents\n";
        assert!(log.contains(warning), "{api}: {log}");
        let metadata: serde_json::Value =
            serde_json::from_str(&world.read("cache/committed/io.buildpacks.lifecycle.cache.metadata"))
                .unwrap();
        let layers = metadata["buildpacks"][0]["layers"].as_object().unwrap();
        assert!(layers.contains_key("kept") && !layers.contains_key("other"), "{api}: {layers:?}");
        let sha = layers["kept"]["sha"].as_str().unwrap();
        assert!(world.has(&format!("cache/committed/{sha}.tar")), "{api}");
        world.next_build();
        let log = world.until("exporter");
        assert!(log.contains("Reusing cache layer 'a:kept'\n"), "{api}: {log}");
        // Without a folder there is no cache, and that is an error before anything is exported.
        world.set("CNB_CACHE_DIR", world.path("nowhere").display().to_string());
        world.export(&["app"]).fails(1, &["failed to create volume cache", "nowhere"]);
    }
}

#[test]
fn image_and_cache_are_exported_side_by_side() {
    for api in PLATFORM {
        let world = World::new(api);
        world.only(&Buildpack::new("a", BUILDPACK).build(
            "mkdir -p $L/kept; echo 1 > $L/kept/file; printf '[types]\\nlaunch = true\\ncache = true\\n' > $L/kept.toml",
        ));
        world.until("exporter");
        let app = world.image("app").manifest_digest;
        let log = world.export(&["-parallel", "app"]);
        assert!(log.ok().contains("Reusing cache layer 'a:kept'\n"), "{api}: {}", log.out);
        assert_eq!(world.image("app").manifest_digest, app, "{api}");
    }
}
