//! What is unchanged is not read: shown by what the kernel says a process has read, not by a clock.

use crate::world::{Buildpack, World};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use std::fs;
use std::process::{Command, Stdio};
use strata_spec::{BuildpackApi, PlatformApi};

/// Bytes of each of the two layers, in files of 512 KiB.
const LAYER: u64 = 24 * 512 * 1024;
/// More than a phase reads of anything else.
const SMALL: u64 = 4 * 1024 * 1024;

/// A world with a buildpack that makes two layers unless they are there.
fn world() -> World {
    let world = World::new(PlatformApi::NEWEST);
    world.only(&Buildpack::new("a", BuildpackApi::V0_12).build(
        "for layer in cached both; do
           [ -d $L/$layer ] || { mkdir $L/$layer
             for n in $(seq 24); do yes $layer $n | head -c 524288 > $L/$layer/$n; done; }
         done
         printf '[types]\\ncache = true\\n' > $L/cached.toml
         printf '[types]\\ncache = true\\nlaunch = true\\n' > $L/both.toml",
    ));
    world
}

/// A world in which the first build was exported and the second is about to be.
fn second_build() -> World {
    let world = world();
    world.until("exporter");
    world.next_build();
    world.until("builder");
    assert!(world.has("layers/@strata/index.json"), "the tests need ext4, XFS or Btrfs for temporary files");
    world
}

impl World {
    /// What the cache says a layer is.
    fn cached_sha(&self, layer: &str) -> String {
        let text = self.read("cache/committed/io.buildpacks.lifecycle.cache.metadata");
        let metadata: serde_json::Value = serde_json::from_str(&text).unwrap();
        metadata["buildpacks"][0]["layers"][layer]["sha"].as_str().unwrap().to_owned()
    }
}

/// Runs a phase to its good end, and gives its log and how many bytes it has read.
#[track_caller]
fn counted(mut command: Command) -> (String, u64) {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
    let mut log = String::new();
    std::io::Read::read_to_string(child.stdout.as_mut().unwrap(), &mut log).unwrap();
    // Counters are there until somebody has asked how the process ended.
    let pid = Pid::from_child(&child);
    waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).unwrap();
    let io = fs::read_to_string(format!("/proc/{}/io", pid.as_raw_nonzero())).unwrap();
    let read = io.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap().parse().unwrap();
    assert!(child.wait().unwrap().success(), "{log}");
    (log, read)
}

fn export(world: &World) -> (String, u64) {
    let mut command = world.prepared("exporter", &["-launcher", "launcher", "app"]);
    // However slow the disk is today.
    command.env("STRATA_CACHE_PATIENCE", "86400000");
    counted(command)
}

#[track_caller]
fn reuses_both(log: &str) {
    for line in ["Reusing layer 'a:both'", "Reusing cache layer 'a:both'", "Reusing cache layer 'a:cached'"] {
        assert!(log.contains(&format!("{line}\n")), "{log}");
    }
}

#[test]
fn restored_layers_that_nobody_changed_are_not_read() {
    let world = second_build();
    let before = world.diff_ids("app");
    let (log, read) = export(&world);
    reuses_both(&log);
    assert!(read < SMALL, "{read} bytes were read");
    assert_eq!(world.diff_ids("app"), before);
    // Neither is what export itself has left, nor does a platform that keeps the folder have it restored again.
    let (_, read) = counted(world.prepared("restorer", &[]));
    assert!(read < SMALL, "{read} bytes were read to restore what is there");
    let toml = "[types]\ncache = true\nlaunch = true\n";
    world.write("layers/a/both.toml", toml);
    world.write("layers/a/cached.toml", "[types]\ncache = true\n");
    let (log, read) = export(&world);
    reuses_both(&log);
    assert!(read < SMALL, "{read} bytes were read");
}

/// A world in which nothing was exported yet, and nobody has packed layers for the exporter.
fn first_build() -> World {
    let world = world();
    world.until("restorer");
    world.run("builder", &["-sealed-layers", "off"]).ok();
    world
}

/// Analyses the image that is there, and exports the layers that are there once more.
#[track_caller]
fn export_again(world: &World) -> (String, u64) {
    world.run("analyzer", &["app"]).ok();
    export(world)
}

#[test]
fn what_the_first_export_has_read_is_not_read_again() {
    let world = first_build();
    let (log, read) = export(&world);
    assert!(log.contains("Adding layer 'a:both'\n"), "{log}");
    assert!(read > 2 * LAYER, "{read} bytes were read");
    let before = world.diff_ids("app");
    let (log, read) = export_again(&world);
    reuses_both(&log);
    assert!(read < SMALL, "{read} bytes were read");
    assert_eq!(world.diff_ids("app"), before);
}

#[test]
fn a_layer_in_which_a_file_changed_is_read_once_for_image_and_cache() {
    let world = first_build();
    export(&world);
    let before = world.diff_ids("app");
    // As large as before: nothing but its bytes and times tell.
    let path = world.path("layers/a/both/7");
    let mut bytes = fs::read(&path).unwrap();
    bytes[1000] ^= 1;
    fs::write(&path, bytes).unwrap();
    let (log, read) = export_again(&world);
    assert!(log.contains("Adding layer 'a:both'\n"), "{log}");
    assert!(log.contains("Reusing cache layer 'a:cached'\n"), "{log}");
    assert!(log.contains("Adding cache layer 'a:both'\n"), "{log}");
    assert!((LAYER..LAYER + SMALL).contains(&read), "{read} bytes were read");
    assert_ne!(world.diff_ids("app"), before);
    // The cache has the very layer, and none of the drafts.
    let cached = world.path("cache/committed");
    let mut digests = Vec::new();
    for entry in fs::read_dir(&cached).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "tar") {
            let digest = strata_oci::Digest::of(&fs::read(&path).unwrap());
            assert_eq!(path.file_stem().unwrap().to_str(), Some(&*digest.to_string()));
            digests.push(digest);
        }
    }
    assert_eq!(digests.len(), 2);
    assert_eq!(fs::read_dir(world.path("cache")).unwrap().count(), 1);
    // A build that restores it has what was changed.
    let changed = fs::read(&path).unwrap();
    fs::remove_dir_all(world.path("layers")).unwrap();
    world.until("restorer");
    assert_eq!(fs::read(&path).unwrap(), changed);
}

#[test]
fn what_was_written_again_is_read_and_still_known() {
    let world = second_build();
    let before = world.diff_ids("app");
    // The same bytes, with the time of before.
    let path = world.path("layers/a/both/7");
    let time = fs::metadata(&path).unwrap().modified().unwrap();
    fs::write(&path, fs::read(&path).unwrap()).unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
    let (log, read) = export(&world);
    reuses_both(&log);
    // Once for image and cache, and the layer of the cache to see that it is good.
    assert!((LAYER..2 * LAYER + SMALL).contains(&read), "{read} bytes were read");
    assert_eq!(world.diff_ids("app"), before);
}

#[test]
fn what_was_restored_and_made_again_is_not_read_to_be_cached() {
    let world = world();
    world.only(&Buildpack::new("a", BuildpackApi::V0_12).build(
        "for layer in cached both; do
           # The same bytes, in other files.
           rm -rf $L/$layer; mkdir $L/$layer
           for n in $(seq 24); do yes $layer $n | head -c 524288 > $L/$layer/$n; done
           printf '[types]\\ncache = true\\nlaunch = true\\n' > $L/$layer.toml
         done",
    ));
    world.until("exporter");
    world.next_build();
    world.until("builder");
    assert!(world.path("layers/@exported/a/both.blob").exists());
    let (log, read) = export(&world);
    reuses_both(&log);
    assert!(read < SMALL, "{read} bytes were read");
}

#[test]
fn a_damaged_layer_of_the_cache_that_is_made_again_is_replaced() {
    for sealed in ["warn", "off"] {
        let world = world();
        world.until("exporter");
        let diff_id = world.cached_sha("both");
        let path = world.path(&format!("cache/committed/{diff_id}.tar"));
        let good = fs::read(&path).unwrap();
        let mut bad = good.clone();
        bad[LAYER as usize / 2] ^= 1;
        fs::write(&path, bad).unwrap();
        world.next_build();
        world.until("restorer");
        assert!(!world.path("layers/a/both").exists());
        world.run("builder", &["-sealed-layers", sealed]).ok();
        export(&world);
        assert_eq!(world.cached_sha("both"), diff_id);
        assert!(fs::read(&path).unwrap() == good, "{sealed}");
    }
}

#[test]
fn a_change_of_one_byte_with_the_old_size_and_time_is_seen() {
    let world = second_build();
    let before = world.diff_ids("app");
    for layer in ["both", "cached"] {
        let path = world.path(&format!("layers/a/{layer}/7"));
        let time = fs::metadata(&path).unwrap().modified().unwrap();
        let mut bytes = fs::read(&path).unwrap();
        bytes[1000] ^= 1;
        fs::write(&path, bytes).unwrap();
        fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
    }
    let (log, _) = export(&world);
    assert!(log.contains("Adding layer 'a:both'\n"), "{log}");
    for layer in ["both", "cached"] {
        assert!(log.contains(&format!("Adding cache layer 'a:{layer}'\n")), "{log}");
    }
    assert_ne!(world.diff_ids("app"), before);
}

#[test]
fn an_index_that_lies_brings_no_foreign_bytes() {
    let world = second_build();
    let path = "layers/@strata/index.json";
    let mut index: serde_json::Value = serde_json::from_str(&world.read(path)).unwrap();
    let before = world.diff_ids("app");
    let of = |index: &serde_json::Value, tree: &str| index["trees"][tree]["diff_id"].clone();
    let (both, cached) = (of(&index, "a/both"), of(&index, "a/cached"));
    // Each claims to be the other, the one in the image, and the other in the cache.
    index["trees"]["a/both"]["diff_id"] = cached;
    index["trees"]["a/cached"]["diff_id"] = both.clone();
    world.write(path, index.to_string());
    let (_, read) = export(&world);
    assert!(read > 2 * LAYER, "{read} bytes were read");
    assert_eq!(world.diff_ids("app"), before, "a packed layer has the digest of its bytes");
    let metadata: serde_json::Value =
        serde_json::from_str(&world.read("cache/committed/io.buildpacks.lifecycle.cache.metadata")).unwrap();
    assert_eq!(metadata["buildpacks"][0]["layers"]["both"]["sha"], both);
    // A digest that nobody has.
    index["trees"]["a/both"]["diff_id"] = format!("sha256:{:064}", 7).into();
    world.write(path, index.to_string());
    export(&world);
    assert_eq!(world.diff_ids("app"), before);
}

#[test]
fn a_patience_that_is_no_number_is_refused() {
    let world = first_build();
    let mut command = world.prepared("exporter", &["-launcher", "launcher", "app"]);
    let output = command.env("STRATA_CACHE_PATIENCE", "long").output().unwrap();
    let log = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(3), "{log}");
    assert!(log.contains("failed to read STRATA_CACHE_PATIENCE 'long': invalid digit"), "{log}");
}
