//! What hostile buildpacks, caches and names can do: nothing beyond their own layers.

use crate::world::{Buildpack, World};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use strata_spec::{BuildpackApi, PlatformApi};

const BUILDPACK: BuildpackApi = BuildpackApi::V0_12;
const API: PlatformApi = PlatformApi::V0_15;
const CREATE: &[&str] = &["-launcher", "launcher", "app"];

/// A buildpack with a layer that is launched and cached.
fn buildpack() -> Buildpack {
    Buildpack::new("a/b", BUILDPACK).build(
        "mkdir -p $L/x; echo 1 > $L/x/file; printf '[types]\\nlaunch = true\\ncache = true\\n' > $L/x.toml",
    )
}

/// After a first build, with a folder outside of the layers directory.
fn second_build() -> World {
    let world = World::new(API);
    world.only(&buildpack());
    world.until("exporter");
    world.next_build();
    world.until("detector");
    world.write("outside/cache/x/token", "secret");
    world
}

#[test]
fn a_link_in_place_of_a_folder_of_layers_is_refused_and_leads_nowhere() {
    for (link, program, code) in [
        ("a_b", "restorer", 42),
        ("sbom", "restorer", 42),
        ("a_b", "exporter", 62),
        ("config", "exporter", 62),
    ] {
        let world = second_build();
        if program == "exporter" {
            world.run("restorer", &[]).ok();
            world.run("builder", &[]).ok();
        }
        if world.has(&format!("layers/{link}")) {
            world.remove(&format!("layers/{link}"));
        }
        symlink(world.path("outside"), world.path("layers").join(link)).unwrap();
        let outcome = if program == "exporter" { world.export(&["app"]) } else { world.run(program, &[]) };
        outcome.fails(code, &[link, "symbolic link"]);
        assert_eq!(world.read("outside/cache/x/token"), "secret", "{link} {program}");
        assert_eq!(fs::read_dir(world.path("outside")).unwrap().count(), 1, "{link} {program}");
    }
}

#[test]
fn ids_and_names_of_documents_stay_in_their_folders() {
    let world = second_build();
    world.write("victim/file", "kept");
    for id in ["..", "config", "", "a\\nb"] {
        world.write(
            "layers/group.toml",
            format!("[[group]]\nid = \"{id}\"\nversion = \"1\"\napi = \"0.12\"\n"),
        );
        for program in ["restorer", "builder"] {
            world.run(program, &[]).fails(1, &["group.toml", "buildpack.id"]);
        }
    }
    let metadata = "cache/committed/io.buildpacks.lifecycle.cache.metadata";
    let world = second_build();
    world.write("victim/file", "kept");
    let lying = world.read(metadata).replace("\"x\":", "\"../../victim\":");
    world.write(metadata, lying);
    let log = world.run("restorer", &[]).ok().to_owned();
    assert!(log.contains("no layer can have this name"), "{log}");
    assert_eq!(world.read("victim/file"), "kept");
}

#[test]
fn ids_that_share_a_folder_are_not_built_together() {
    let world = World::new(API);
    world.add(&buildpack());
    world.add(&Buildpack::new("a_b", BUILDPACK).version("2").build(""));
    world.order(&[&["a/b@1", "a_b@2"]]);
    world.run("detector", &[]).fails(22, &["'a/b'", "'a_b'", "same folder"]);
    assert!(!world.has("layers/group.toml"));
}

#[test]
fn an_image_takes_no_name_that_its_build_needs() {
    let world = World::new(API);
    world.only(&buildpack());
    for (arguments, words) in [
        (&["-run-image", "run", "run"][..], &["run image", "replace"]),
        (&["-cache-image", "r.example.com/app", "r.example.com/app"], &["cache image", "replace"]),
        (
            &["app@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"],
            &["digest", "tag"],
        ),
    ] {
        world.run("analyzer", arguments).fails(3, words);
    }
}

#[test]
fn the_image_stands_on_the_run_image_that_was_analyzed() {
    let mut world = World::new(API);
    let other = World::new(API);
    other.run_image("run", |image| image.config_mut().set_label("other", "yes"));
    let from = other.path("images/index.docker.io/library/run/latest");
    let to = world.path("images/index.docker.io/library/run/latest");
    world.set("CNB_CACHE_DIR", "");
    world.only(&Buildpack::new("a", BUILDPACK).build(&format!(
        "rm -rf {to}/*; cp -r {from}/* {to}/",
        from = from.display(),
        to = to.display()
    )));
    world.run("creator", CREATE).fails(1, &["run image", "another image by now"]);
    assert!(!world.has("images/index.docker.io/library/app/latest/index.json"));
}

#[test]
fn documents_of_the_platform_may_be_links_as_kubernetes_makes_them() {
    let world = World::new(API);
    world.only(&buildpack());
    for file in ["order.toml", "run.toml"] {
        let text = world.read(file);
        world.write(&format!("..data/{file}"), text);
        world.remove(file);
        symlink(world.path("..data").join(file), world.path(file)).unwrap();
    }
    world.write("..data/project.toml", "[source]\ntype = \"git\"\n");
    symlink("..data/project.toml", world.path("project.toml")).unwrap();
    world.until("builder");
    world.export(&["-project-metadata", "project.toml", "app"]).ok();
    assert_eq!(world.label("app", "io.buildpacks.project.metadata")["source"]["type"], "git");
}

#[test]
fn the_report_goes_where_the_platform_wants_it() {
    let world = World::new(API);
    world.only(&buildpack());
    world.until("builder");
    // As a file that is mounted into a container: it can be written, and nothing can be made beside it.
    world.write("mounted/report.toml", "old and longer than what will be written\n".repeat(100));
    fs::set_permissions(world.path("mounted"), fs::Permissions::from_mode(0o555)).unwrap();
    world.export(&["-report", "mounted/report.toml", "app"]).ok();
    assert!(world.toml("mounted/report.toml")["image"]["manifest-size"].is_integer());
    world.write("outside", "mine");
    symlink(world.path("outside"), world.path("layers/report.toml")).unwrap();
    world.export(&["app"]).ok();
    assert_eq!(world.read("outside"), "mine");
    assert!(world.read("layers/report.toml").contains("manifest-size"));
}

#[test]
fn what_buildpacks_leave_running_ends_before_the_export() {
    let world = World::new(API);
    let pid = world.path("tmp/pid");
    world.only(&Buildpack::new("a", BUILDPACK).build(&format!(
        "(setsid sh -c 'echo $$ > {}; exec sleep 60' >/dev/null 2>&1 &)
         while ! [ -s {} ]; do sleep 0.01; done",
        pid.display(),
        pid.display()
    )));
    let log = world.run("creator", CREATE).ok().to_owned();
    assert!(log.contains("left 1 process(es) running"), "{log}");
    let pid = world.read("tmp/pid");
    assert!(!std::path::Path::new("/proc").join(pid.trim()).exists(), "{pid}");
}

#[test]
fn buildpacks_cannot_read_the_environment_of_the_creator() {
    let mut world = World::new(API);
    world.set("CNB_REGISTRY_AUTH", "{\"r.example.com\": \"Basic c2VjcmV0\"}");
    world.only(&Buildpack::new("a", BUILDPACK).build("tr '\\0' '\\n' </proc/$PPID/environ || true"));
    let log = world.run("creator", CREATE).ok().to_owned();
    assert!(log.contains("Permission denied") && !log.contains("c2VjcmV0"), "{log}");
}
