//! Images that somebody made to do harm, wherever they are: refused with a reason, in little time and memory.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use strata_layer::{Compression, LayerError, UnpackOptions, open_layer_up_to, pack_with, unpack};
use strata_oci::{Descriptor, Digest, media_type};
use strata_store::validate::prove;
use strata_store::{Layout, Store, StoreError};
use support::server::{Reply, Server};
use support::{chain, hasty_client};

/// A layout as somebody else wrote it: these documents are blobs, and the first is what the index names.
fn layout_of(dir: &Path, kind: &str, documents: &[&[u8]]) -> Layout {
    fs::create_dir_all(dir.join("blobs/sha256")).unwrap();
    fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    for document in documents {
        fs::write(dir.join("blobs/sha256").join(Digest::of(document).hex()), document).unwrap();
    }
    let entry = format!(
        r#"{{"mediaType":"{kind}","size":{},"digest":"{}"}}"#,
        documents[0].len(),
        Digest::of(documents[0])
    );
    fs::write(dir.join("index.json"), format!(r#"{{"schemaVersion":2,"manifests":[{entry}]}}"#)).unwrap();
    Layout::open(dir)
}

/// The same in a registry.
fn served(kind: &str, documents: &[&[u8]]) -> Server {
    let (kind, documents): (_, Vec<Vec<u8>>) =
        (kind.to_owned(), documents.iter().map(|document| document.to_vec()).collect());
    Server::start(move |request| {
        let named = documents.iter().find(|bytes| request.path.ends_with(&Digest::of(bytes).to_string()));
        match (named, request.path.contains("/manifests/")) {
            (Some(bytes), false) => Reply::ok(bytes),
            (found, true) => Reply::ok(found.unwrap_or(&documents[0])).header("Content-Type", &kind),
            _ if request.path == "/v2/" => Reply::status(200),
            _ => Reply::error(404, "BLOB_UNKNOWN"),
        }
    })
}

/// What reading and proving it come to, in a layout and in a registry.
#[track_caller]
fn outcomes(kind: &str, documents: &[&[u8]]) -> [String; 2] {
    let dir = tempfile::tempdir().unwrap();
    let layout = layout_of(dir.path(), kind, documents);
    let server = served(kind, documents);
    let there = hasty_client().open(&server.name("a:1")).unwrap();
    let places: [&dyn Store; 2] = [&layout, &there];
    places.map(|place| {
        let read = place.read_image();
        let proof = match prove(place) {
            Ok(Some(report)) => report.findings.iter().map(|f| format!("{}; ", f.problem)).collect(),
            Ok(None) => "there is no image".to_owned(),
            Err(error) => chain(&error),
        };
        assert!(read.is_err() || !proof.is_empty(), "{proof}");
        format!("{} | {proof}", read.map_or_else(|error| chain(&error), |_| "read".to_owned()))
    })
}

const CONFIG: &[u8] = br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#;

fn manifest(config: &str, layers: &str) -> String {
    let kind = media_type::OCI_MANIFEST;
    format!(r#"{{"schemaVersion":2,"mediaType":"{kind}","config":{config},"layers":[{layers}]}}"#)
}

fn descriptor(kind: &str, size: impl std::fmt::Display, bytes: &[u8]) -> String {
    format!(r#"{{"mediaType":"{kind}","size":{size},"digest":"{}"}}"#, Digest::of(bytes))
}

#[test]
fn documents_that_lie_about_sizes_and_types_are_refused() {
    let config = descriptor(media_type::OCI_CONFIG, CONFIG.len(), CONFIG);
    let one = |config: &str, layers: &str| manifest(config, layers).into_bytes();
    let layer = |size: &str| descriptor(media_type::OCI_LAYER_GZIP, size, b"x");
    let with_diff_id = CONFIG_OF_ONE.as_bytes();
    let of_one = descriptor(media_type::OCI_CONFIG, with_diff_id.len(), with_diff_id);
    let cases: Vec<(&str, Vec<u8>, &[u8], &str)> = vec![
        ("negative", one(&of_one, &layer("-1")), with_diff_id, "invalid"),
        ("beyond numbers", one(&of_one, &layer("1e300")), with_diff_id, "invalid"),
        ("beyond 63 bits", one(&of_one, &layer("18446744073709551616")), with_diff_id, "invalid"),
        ("most there is", one(&of_one, &layer("9223372036854775807")), with_diff_id, "absent"),
        (
            "huge config",
            one(&descriptor(media_type::OCI_CONFIG, 1_u64 << 50, CONFIG), ""),
            CONFIG,
            "larger than|1125899906842624",
        ),
        ("other config", one(&descriptor("application/x", 9, CONFIG), ""), CONFIG, ""),
        ("more layers than ids", one(&config, &layer("1")), CONFIG, "layers"),
        ("fewer layers than ids", one(&of_one, ""), with_diff_id, "layers"),
        ("both", br#"{"schemaVersion":2,"manifests":[],"layers":[],"config":{}}"#.to_vec(), CONFIG, "both"),
        ("deep", [b"[".repeat(100_000), b"]".repeat(100_000)].concat(), CONFIG, "recursion"),
        (
            "deep members",
            [br#"{"a":"#.repeat(100_000), b"1".to_vec(), b"}".repeat(100_000)].concat(),
            CONFIG,
            "recursion",
        ),
        ("nothing", Vec::new(), CONFIG, "cannot"),
        ("too long", vec![b' '; 5 << 20], CONFIG, "l"),
    ];
    for (name, manifest, config, expected) in cases {
        for outcome in outcomes(media_type::OCI_MANIFEST, &[&manifest, config]) {
            assert!(
                expected.split('|').any(|part| outcome.contains(part)),
                "{name}: no '{expected}' in {outcome}"
            );
            assert!(outcome.len() < 3000, "{name}: an error of {} bytes", outcome.len());
        }
    }
}

const CONFIG_OF_ONE: &str = r#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]}}"#;

#[test]
fn entries_of_a_type_that_nobody_knows_are_no_images() {
    let unknown = br#"{"hello":"world"}"#;
    for outcome in outcomes("application/vnd.example.unknown.v1+json", &[unknown]) {
        assert!(
            outcome.contains("application/vnd.example.unknown") || outcome.contains("cannot"),
            "{outcome}"
        );
    }
    // Nor is a layer that nobody knows anything to build upon.
    let blob = b"some bytes";
    let diff_id = Digest::of(blob).to_string();
    let config = CONFIG_OF_ONE
        .replace("sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", &diff_id);
    let of_config = descriptor(media_type::OCI_CONFIG, config.len(), config.as_bytes());
    let manifest = manifest(&of_config, &descriptor("application/vnd.example.layer", blob.len(), blob));
    for outcome in outcomes(media_type::OCI_MANIFEST, &[manifest.as_bytes(), config.as_bytes(), blob]) {
        assert!(outcome.contains("application/vnd.example.layer"), "{outcome}");
    }
}

#[test]
fn links_in_place_of_blobs_and_documents_are_not_followed() {
    let config = descriptor(media_type::OCI_CONFIG, CONFIG.len(), CONFIG);
    let manifest = manifest(&config, "");
    for victim in ["index.json", "blob", "blobs/sha256"] {
        let dir = tempfile::tempdir().unwrap();
        let inside = dir.path().join("layout");
        let layout = layout_of(&inside, media_type::OCI_MANIFEST, &[manifest.as_bytes(), CONFIG]);
        let path = match victim {
            "blob" => layout.blob_path(&Digest::of(CONFIG)),
            other => inside.join(other),
        };
        fs::rename(&path, dir.path().join("outside")).unwrap();
        symlink(dir.path().join("outside"), &path).unwrap();
        let read = layout.read_image();
        let refused = matches!(&read, Err(StoreError::Kind { .. } | StoreError::Io { .. }));
        // A folder of blobs may be elsewhere: what is in it is verified, and nothing is written there.
        assert!(refused || victim == "blobs/sha256", "{victim}: {read:?}");
        let written = Layout::open_or_create(&inside).map(drop);
        assert!(written.is_err() || victim != "blobs/sha256", "{victim}");
    }
}

#[test]
fn a_hundred_thousand_entries_of_one_name_are_one_or_refused() {
    // In an index.
    let config = descriptor(media_type::OCI_CONFIG, CONFIG.len(), CONFIG);
    let manifest = manifest(&config, "");
    let entry = Descriptor::of(media_type::OCI_MANIFEST, manifest.as_bytes());
    let entry = serde_json::to_string(&entry).unwrap();
    let named = entry.replacen('{', r#"{"annotations":{"org.opencontainers.image.ref.name":"latest"},"#, 1);
    let dir = tempfile::tempdir().unwrap();
    let layout = layout_of(dir.path(), media_type::OCI_MANIFEST, &[manifest.as_bytes(), CONFIG]);
    for (entry, count) in
        [(&entry, 500), (&named, 500), (&entry, 10_000), (&named, 10_000), (&named, 100_000)]
    {
        let all = vec![entry.as_str(); count].join(",");
        fs::write(dir.path().join("index.json"), format!(r#"{{"schemaVersion":2,"manifests":[{all}]}}"#))
            .unwrap();
        let read = layout.read_image();
        let expected = match count {
            500 => "",
            10_000 => "too wide",
            _ => "larger than",
        };
        match read {
            Ok(image) => assert!(image.is_some() && expected.is_empty(), "{count}"),
            Err(error) => assert!(chain(&error).contains(expected), "{count}: {}", chain(&error)),
        }
    }
    // In a layer.
    let mut layer = Vec::new();
    let fill = |tar: &mut dyn std::io::Write| {
        let header = entry_of("same", 1);
        let mut block = header.to_vec();
        block.extend(b"x".iter().chain(&[0; 511]));
        (0..100_000).try_for_each(|_| tar.write_all(&block)).map_err(|source| LayerError::Write { source })
    };
    pack_with(fill, Compression::Gzip, 1, &mut layer).unwrap();
    let root = tempfile::tempdir().unwrap();
    let mut tar = strata_layer::open_layer(std::io::Cursor::new(layer)).unwrap();
    unpack(&mut tar, root.path(), &UnpackOptions::default()).unwrap();
    assert_eq!(fs::read(root.path().join("same")).unwrap(), b"x");
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
}

/// The header of a file (POSIX.1-1988, ustar).
fn entry_of(name: &str, size: u64) -> [u8; 512] {
    let mut header = [0; 512];
    header[..name.len()].copy_from_slice(name.as_bytes());
    for (at, text) in [(100, "0000644\0"), (108, "0000000\0"), (116, "0000000\0"), (136, "00000000001\0")] {
        header[at..at + text.len()].copy_from_slice(text.as_bytes());
    }
    header[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
    header[156] = b'0';
    header[257..265].copy_from_slice(b"ustar\x0000");
    header[148..156].copy_from_slice(b"        ");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

#[test]
fn what_grows_too_much_when_it_is_unpacked_is_given_up() {
    let mut gzip = Vec::new();
    let fill = |tar: &mut dyn std::io::Write| {
        let zeros = vec![0; 1 << 20];
        (0..16).try_for_each(|_| tar.write_all(&zeros)).map_err(|source| LayerError::Write { source })
    };
    pack_with(fill, Compression::Gzip, 1, &mut gzip).unwrap();
    let zstd = support::zstd(&vec![0; 16 << 20]);
    for (bomb, name) in [(gzip, "gzip"), (zstd, "zstd")] {
        assert!(bomb.len() < 200_000, "{name}: {}", bomb.len());
        let opened = |limit| open_layer_up_to(std::io::Cursor::new(bomb.clone()), limit).unwrap();
        let mut count = strata_layer::HashWriter::new(std::io::sink());
        std::io::copy(&mut opened(16 << 20), &mut count).unwrap();
        assert_eq!(count.finish().2, 16 << 20, "{name}");
        let error = std::io::copy(&mut opened((16 << 20) - 1), &mut std::io::sink()).unwrap_err();
        assert!(error.to_string().contains("more than 16777215 bytes"), "{name}: {error}");
    }
}
