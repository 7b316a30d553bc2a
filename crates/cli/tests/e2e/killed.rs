//! A copy that is killed at any moment harms nothing, and the next one tidies up.

use crate::bench::{Bench, Done};
use crate::kill::{Killer, ends_well, is_tidy, names, proven};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use strata_layer::{Compression, Content, GeneratedEntry, Owner, Source};
use strata_oci::{Descriptor, Digest, Image, Layer, media_type};
use strata_store::{Layout, Store, host_architecture};

/// Bytes that do not compress.
fn noise(word: &str) -> Vec<u8> {
    let mut bytes = word.as_bytes().to_vec();
    while bytes.len() < 256 * 1024 {
        let hex = Digest::of(&bytes[bytes.len().saturating_sub(64)..]).hex();
        bytes.extend((0..64).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()));
    }
    bytes
}

fn layer(layout: &Layout, word: &str) -> Layer {
    let source = Source::Generated(vec![GeneratedEntry {
        name: format!("/{word}"),
        mode: 0o644,
        owner: Owner::ROOT,
        content: Content::Bytes(noise(word)),
    }]);
    let mut sink = layout.begin_blob().unwrap();
    let packed = strata_layer::pack(&source, Compression::Gzip, 1, &mut sink).unwrap();
    sink.commit(&packed.digest, packed.size).unwrap();
    let descriptor = Descriptor::new(media_type::OCI_LAYER_GZIP, packed.digest, packed.size);
    Layer { descriptor, diff_id: packed.diff_id, history: None }
}

/// Makes an image of a layer that all have and of three of its own.
fn make(dir: &Path, name: &str) -> Digest {
    let layout = Layout::open_or_create(dir).unwrap();
    let mut image = Image::empty("linux", host_architecture());
    image.append(layer(&layout, "all"));
    for number in 1..=3 {
        image.append(layer(&layout, &format!("{name}{number}")));
    }
    let encoded = image.encode().unwrap();
    layout.put_image(&encoded, &[]).unwrap();
    encoded.manifest_digest
}

#[test]
fn a_copy_that_is_killed_harms_nothing() {
    let bench = Bench::new();
    let target = bench.path("target");
    let copy = |from: &str, to: &str| -> Command { bench.strata(["copy", from, to]) };
    let images = ["one", "two"].map(|name| {
        let digest = make(&bench.path(name), name);
        ends_well(copy(&format!("oci:{name}"), &format!("oci-archive:{name}.tar")));
        // From a layout blobs are linked; from an archive they are written.
        ([format!("oci:{name}"), format!("oci-archive:{name}.tar")], digest)
    });
    let to_target = |from: &str| copy(from, "oci:target:latest");
    let mut killer = Killer::new(to_target("oci-archive:one.tar"));
    let mut before = Some(images[0].1);
    for round in 0..killer.rounds() {
        // Into a layout with the other image, and at times into none.
        let (sources, new) = &images[(round as usize + 1) % 2];
        let from = &sources[(round as usize / 2) % 2];
        if round % 5 == 0 {
            fs::remove_dir_all(&target).unwrap();
            before = None;
        }
        killer.kill(to_target(from));
        let after = if target.exists() { proven(&target) } else { None };
        assert!(after == before || after == Some(*new), "{round}: {before:?}, {new}, {after:?}");
        ends_well(to_target(from));
        assert_eq!(proven(&target), Some(*new), "{round}");
        is_tidy(&target);
        before = Some(*new);
    }
    killer.has_killed();
}

#[test]
fn a_copy_goes_where_another_was_killed_before_there_was_a_layout() {
    let bench = Bench::new();
    let digest = make(&bench.path("one"), "one");
    fs::create_dir_all(bench.path("target/blobs/sha256")).unwrap();
    bench.write("target/.index.json.tmp-a1b2c3", "{");
    ends_well(bench.strata(["copy", "oci:one", "oci:target:latest"]));
    assert_eq!(proven(&bench.path("target")), Some(digest));
    is_tidy(&bench.path("target"));
}

/// The image of an archive, with nothing wrong; and what is beside it.
#[track_caller]
fn archived(bench: &Bench, place: &str) -> String {
    let done = Done::of(bench.strata(["validate", place])).ok();
    done.says("good: 0 errors, 0 warnings");
    let seen = Done::of(bench.strata(["inspect", place, "--json"])).ok();
    let seen: serde_json::Value = serde_json::from_str(&seen.stdout).unwrap();
    // A configuration is the same in every kind of archive, and so is its first layer of its own.
    seen["layers"][1]["diffID"].as_str().unwrap().to_owned()
}

#[test]
fn an_archive_that_is_killed_is_the_old_one_or_the_new_one() {
    let bench = Bench::new();
    for name in ["one", "two"] {
        make(&bench.path(name), name);
    }
    for kind in ["oci-archive", "docker-archive"] {
        let place = format!("{kind}:archives/{kind}.tar");
        let copy = |from: &str| bench.strata(["copy", &format!("oci:{from}"), &place]);
        fs::create_dir_all(bench.path("archives")).unwrap();
        let mut killer = Killer::new(copy("one"));
        let images = [archived(&bench, &place), {
            ends_well(copy("two"));
            archived(&bench, &place)
        }];
        assert_ne!(images[0], images[1]);
        let mut before = images[1].clone();
        for round in 0..killer.rounds() {
            let new = &images[round as usize % 2];
            let from = ["one", "two"][round as usize % 2];
            killer.kill(copy(from));
            let after = archived(&bench, &place);
            assert!(after == before || after == *new, "{round}: {before}, {new}, {after}");
            ends_well(copy(from));
            assert_eq!(&archived(&bench, &place), new, "{round}");
            assert_eq!(names(&bench.path("archives")), [format!("{kind}.tar")], "{round}");
            before.clone_from(new);
        }
        killer.has_killed();
        fs::remove_dir_all(bench.path("archives")).unwrap();
    }
}

#[test]
fn many_programs_write_into_one_layout() {
    let bench = Bench::new();
    let digests = ["one", "two"].map(|name| make(&bench.path(name), name));
    let copies: Vec<_> = (0..12)
        .map(|number| {
            let (from, to) = (["oci:one", "oci:two"][number % 2], format!("oci:target:tag{number}"));
            bench.strata(["copy", from, &to]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    for copy in copies {
        let ended = copy.wait_with_output().unwrap();
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    }
    for number in 0..12 {
        let layout = Layout::open(bench.path("target")).tagged(format!("tag{number}"));
        assert_eq!(layout.read_image().unwrap().unwrap().manifest_digest, digests[number % 2], "{number}");
        assert_eq!(strata_store::validate::prove(&layout).unwrap().unwrap().findings, []);
    }
    is_tidy(&bench.path("target"));
}
