//! A copy that is killed at any moment harms nothing, and the next one tidies up.

use crate::bench::Bench;
use crate::kill::{Killer, ends_well, is_tidy, proven};
use std::fs;
use std::path::Path;
use std::process::Command;
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
