//! Images in OCI layouts, in every phase.

use crate::world::{Buildpack, PLATFORM, World};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use strata_spec::{BuildpackApi, PlatformApi};

const BUILDPACK: BuildpackApi = BuildpackApi::V0_12;

/// A way to say that images are layouts.
struct Spelling {
    variables: &'static [&'static str],
    flags: &'static [&'static str],
    since: PlatformApi,
}

const SPELLINGS: &[Spelling] = &[
    Spelling { variables: &["CNB_USE_LAYOUT", "CNB_LAYOUT_DIR"], flags: &[], since: PlatformApi::V0_7 },
    Spelling { variables: &["CNB_USE_OCI", "CNB_OCI_PATH"], flags: &[], since: PlatformApi::V0_7 },
    Spelling { variables: &[], flags: &["-layout", "-layout-dir"], since: PlatformApi::V0_12 },
    Spelling { variables: &[], flags: &["-oci", "-oci-dir"], since: PlatformApi::V0_7 },
    Spelling { variables: &["CNB_USE_OCI"], flags: &["-oci-dir"], since: PlatformApi::V0_7 },
];

impl Spelling {
    /// Says it in the environment, and gives the flags that say the rest.
    fn apply(&self, world: &mut World) -> Vec<String> {
        let images = world.path("images").display().to_string();
        world.unset("CNB_USE_LAYOUT");
        world.unset("CNB_LAYOUT_DIR");
        let value = |name: &str| if name.contains("USE") { "true".to_owned() } else { images.clone() };
        self.variables.iter().for_each(|name| world.set(name, value(name)));
        let has_value = |flag: &str| flag.ends_with("-dir");
        let spelled =
            |flag: &&str| if has_value(flag) { format!("{flag}={images}") } else { (*flag).to_owned() };
        self.flags.iter().map(spelled).collect()
    }
}

fn buildpack() -> Buildpack {
    Buildpack::new("a", BUILDPACK)
        .build("mkdir -p $L/x; echo 1 > $L/x/file; printf '[types]\\nlaunch = true\\n' > $L/x.toml")
}

fn path(name: &str) -> String {
    format!("images/index.docker.io/library/{name}/latest")
}

#[test]
fn both_spellings_of_layouts_mean_the_same_in_every_phase() {
    for api in PLATFORM {
        for spelling in SPELLINGS.iter().filter(|spelling| *api >= spelling.since) {
            let mut world = World::new(api);
            world.only(&buildpack());
            let flags = spelling.apply(&mut world);
            let run = |world: &World, program: &str, rest: &[&str]| {
                let all: Vec<&str> = flags.iter().map(String::as_str).chain(rest.iter().copied()).collect();
                world.run(program, &all).ok().to_owned()
            };
            for (program, rest) in [
                ("analyzer", &["app"][..]),
                ("detector", &[]),
                ("restorer", &[]),
                ("builder", &[]),
                ("exporter", &["-launcher", "launcher", "app"]),
                ("creator", &["-launcher", "launcher", "created"]),
            ] {
                if ["detector", "builder"].contains(&program) {
                    world.run(program, &[]).ok();
                } else {
                    run(&world, program, rest);
                }
            }
            let app = world.image("app").manifest_digest;
            assert_eq!(world.image("created").manifest_digest, app, "{api} {:?}", spelling.flags);
            world.run_image("run", |image| image.config_mut().set_env("FROM_BASE", "new"));
            run(&world, "rebaser", &["app"]);
            assert_eq!(world.diff_ids("app")[..2], world.diff_ids("run"), "{api} {:?}", spelling.flags);
            assert_ne!(world.image("app").manifest_digest, app, "{api} {:?}", spelling.flags);
        }
    }
}

#[test]
fn the_exporter_of_the_draft_is_told_the_run_image() {
    let mut world = World::new(PlatformApi::NEWEST);
    world.only(&buildpack());
    world.until("builder");
    world.export(&["-run-image", "run", "app"]).fails(3, &["-run-image is unsupported"]);
    world.unset("CNB_USE_LAYOUT");
    world.unset("CNB_LAYOUT_DIR");
    world.set("CNB_OCI_PATH", world.path("images").display().to_string());
    world.run_image("other", |_| {});
    world.export(&["-oci", "-run-image", "other", "app"]).fails(3, &["-run-image is other", "was analyzed"]);
    world.export(&["-oci", "-run-image", "docker.io/library/run:latest", "app"]).ok();
    world.image("app");
    for second in [["-daemon", "-oci"], ["-layout", "-daemon"]] {
        let words = "exporting to multiple targets is unsupported";
        world.export(&[&second[..], &["app"]].concat()).fails(3, &[words]);
    }
}

#[test]
fn names_and_tags_say_where_layouts_are() {
    let world = World::new(PlatformApi::NEWEST);
    world.only(&buildpack());
    world.until("builder");
    let digest = world.image("run").manifest_digest;
    let names = ["app", "example.com:5000/team/app:v1", "docker.io/team/app", "localhost/app:2"];
    // The reference wants one registry; so do we.
    world.export(&names).fails(3, &["writing to multiple registries is unsupported"]);
    for (names, paths) in [
        (
            &["app", "team/app:1.0"][..],
            &["index.docker.io/library/app/latest", "index.docker.io/team/app/1.0"][..],
        ),
        (&["example.com:5000/team/app:v1"], &["example.com:5000/team/app/v1"]),
        (&["localhost/app"], &["localhost/app/latest"]),
    ] {
        world.export(names).ok();
        for path in paths {
            assert!(world.has(&format!("images/{path}/index.json")), "{path}");
        }
    }
    // By a digest, an image is read from a folder of that name.
    fs::create_dir_all(world.path("images/index.docker.io/library/run/sha256")).unwrap();
    let by_digest = format!("images/index.docker.io/library/run/sha256/{}", digest.hex());
    fs::rename(world.path(&path("run")), world.path(&by_digest)).unwrap();
    world.run("analyzer", &["-run-image", &format!("run@{digest}"), "app"]).ok();
    let reference = world.toml("layers/analyzed.toml")["run-image"]["reference"].clone();
    let expected = format!("{}@{digest}", world.path(&by_digest).display());
    assert_eq!(reference.as_str(), Some(expected.as_str()));
    world.export(&["by-digest"]).ok();
}

#[test]
fn layers_of_the_base_are_shared_and_those_of_nobody_go() {
    let world = World::new(PlatformApi::NEWEST);
    world.only(&buildpack());
    world.until("exporter");
    let blob = |name: &str, digest: &strata_oci::Digest| -> PathBuf {
        world.path(&path(name)).join("blobs/sha256").join(digest.hex())
    };
    let base = world.image("run");
    for layer in base.image.layers() {
        let [theirs, ours] = ["run", "app"].map(|name| blob(name, &layer.descriptor.digest));
        let inode = |path: &PathBuf| fs::metadata(path).unwrap().ino();
        assert_eq!(inode(&theirs), inode(&ours), "{}", ours.display());
    }
    let before = world.image("app");
    world.write("app/file", "another app\n");
    world.next_build();
    world.until("exporter");
    let after = world.image("app");
    let gone: Vec<_> = before
        .image
        .layers()
        .iter()
        .map(|layer| layer.descriptor.digest)
        .filter(|digest| !after.image.layers().iter().any(|layer| layer.descriptor.digest == *digest))
        .chain([before.manifest_digest])
        .collect();
    assert!(gone.len() > 1);
    for digest in gone {
        assert!(!blob("app", &digest).exists(), "{digest}");
    }
}

#[test]
fn a_run_image_may_lack_its_layers_and_the_image_has_its_own() {
    let world = World::new(PlatformApi::NEWEST);
    world.only(&buildpack());
    let base = world.image("run");
    for layer in base.image.layers() {
        world.remove(&format!("{}/blobs/sha256/{}", path("run"), layer.descriptor.digest.hex()));
    }
    for _ in 0..2 {
        world.until("exporter");
        let app = world.image("app");
        let has = |layer: &strata_oci::Layer| {
            world.has(&format!("{}/blobs/sha256/{}", path("app"), layer.descriptor.digest.hex()))
        };
        let (below, own) = app.image.layers().split_at(base.image.layers().len());
        assert!(below.iter().all(|layer| !has(layer)) && own.iter().all(has));
        // The second build takes layers from the sparse image of the first.
        world.next_build();
    }
}
