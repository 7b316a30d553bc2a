//! Archives are indexed, and layers examined, without extracting anything.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::io::{Cursor, Write as _};

use proptest::prelude::*;
use strata_layer::{LayerError, Member, MemberLimits, Owner, TarWriter, examine, members};

type Tar = TarWriter<Vec<u8>>;

fn file(tar: &mut Tar, name: &str, bytes: &[u8]) {
    tar.file(name, 0o644, Owner::ROOT, bytes.len() as u64, &mut &*bytes).unwrap();
}

fn archive(fill: impl FnOnce(&mut Tar)) -> Vec<u8> {
    let mut tar = TarWriter::new(Vec::new());
    fill(&mut tar);
    tar.finish().unwrap()
}

fn index(bytes: &[u8]) -> Result<BTreeMap<String, Member>, LayerError> {
    members(Cursor::new(bytes), MemberLimits::default())
}

#[test]
fn members_are_where_the_index_says() {
    let long = format!("{}/long", "d".repeat(200));
    let bytes = archive(|tar| {
        tar.dir("a", 0o755, Owner::ROOT).unwrap();
        file(tar, "/a/./one", b"first");
        file(tar, &long, &[7; 1000]);
        tar.symlink("a/link", "../a/one", 0o777, Owner::ROOT).unwrap();
        file(tar, "empty", b"");
    });
    let found = index(&bytes).unwrap();
    assert_eq!(found.keys().collect::<Vec<_>>(), ["a/link", "a/one", &long, "empty"]);
    assert_eq!(found["a/link"], Member::Symlink("../a/one".to_owned()));
    for (name, expected) in [("a/one", &b"first"[..]), (&long, &[7; 1000]), ("empty", b"")] {
        let Member::File { offset, size } = found[name] else { panic!("{name}") };
        let start = usize::try_from(offset).unwrap();
        assert_eq!(&bytes[start..start + usize::try_from(size).unwrap()], expected, "{name}");
    }
}

#[test]
fn members_that_could_be_taken_for_others_are_refused() {
    type Fill = fn(&mut Tar);
    let cases: [(&str, Fill); 7] = [
        ("leaves its directory", |tar| file(tar, "a/../../b", b"")),
        ("comes twice", |tar| {
            file(tar, "manifest.json", b"1");
            file(tar, "/manifest.json", b"2");
        }),
        ("comes twice", |tar| {
            file(tar, "manifest.json", b"1");
            file(tar, "./manifest.json", b"2");
        }),
        ("comes twice", |tar| {
            (0..100_000).for_each(|_| file(tar, "same", b""));
        }),
        ("neither file", |tar| tar.fifo("pipe", 0o644, Owner::ROOT).unwrap()),
        ("neither file", |tar| tar.char_device("null", 0o644, Owner::ROOT, (1, 3)).unwrap()),
        ("has contents though", |tar| file(tar, "x", &[b'x'; 700])),
    ];
    for (expected, fill) in cases {
        let mut bytes = archive(fill);
        if expected.starts_with("has contents") {
            // As a directory with a size, its checksum right again.
            bytes[156] = b'5';
            bytes[148..156].fill(b' ');
            let sum: u32 = bytes[..512].iter().map(|byte| u32::from(*byte)).sum();
            bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
        let error = index(&bytes).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn limits_hold_before_memory_is_used() {
    let many = archive(|tar| (0..200).for_each(|i| file(tar, &format!("f{i}"), b"")));
    let limits = MemberLimits { max_members: 199, ..MemberLimits::default() };
    let error = members(Cursor::new(&many), limits).unwrap_err();
    assert!(matches!(error, LayerError::TooLarge { limit: 199, .. }), "{error}");
    // One name of a gigabyte, which the archive does not even have.
    let mut long = vec![0; 512];
    long[..13].copy_from_slice(b"././@LongLink");
    long[124..136].copy_from_slice(b"10000000000\0");
    long[156] = b'L';
    long[257..265].copy_from_slice(b"ustar  \0");
    long[148..156].fill(b' ');
    let sum: u32 = long.iter().map(|byte| u32::from(*byte)).sum();
    long[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    long.resize(3 << 20, b'n');
    let limits = MemberLimits { max_header_bytes: 1 << 20, ..MemberLimits::default() };
    assert!(matches!(members(Cursor::new(&long), limits), Err(LayerError::Read { .. })));
    assert!(index(&long).is_err());
}

#[test]
fn an_archive_that_was_cut_is_refused_wherever_it_was() {
    let bytes = archive(|tar| file(tar, "name", &[1; 2000]));
    for end in [100, 511, 513, 2000, 2511] {
        assert!(index(&bytes[..end]).is_err(), "{end}");
    }
    index(&bytes[..2560]).unwrap();
}

#[test]
fn entries_that_extraction_would_refuse_are_told() {
    let bytes = archive(|tar| {
        file(tar, "/absolute/is/below", b"x");
        file(tar, "../out", b"x");
        tar.symlink("link", "../../anywhere", 0o777, Owner::ROOT).unwrap();
        tar.file("owner", 0o644, Owner { uid: 1 << 40, gid: 0 }, 1, &mut &b"x"[..]).unwrap();
        file(tar, "last", b"x");
    });
    let mut found = Vec::new();
    let stats = examine(&mut &bytes[..], &mut |name, _| found.push(name.to_owned())).unwrap();
    assert_eq!(found, ["../out", "owner"]);
    assert_eq!((stats.entries, stats.bytes), (5, 4));
    assert!(examine(&mut &bytes[..700], &mut |_, _| {}).is_err());
    assert!(examine(&mut &b"no archive at all, but more bytes than nothing"[..], &mut |_, _| {}).is_err());
}

/// Archives that are nearly right.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let names = prop::collection::vec(("[a-c./]{1,9}", prop::collection::vec(any::<u8>(), 0..700)), 0..6);
    let hits = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12);
    (names, hits, any::<prop::sample::Index>()).prop_map(|(names, hits, cut)| {
        let mut tar = TarWriter::new(Vec::new());
        for (name, bytes) in names {
            if !name.ends_with('/') {
                file(&mut tar, &name, &bytes);
            }
        }
        let mut bytes = tar.finish().unwrap();
        for (at, byte) in hits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.truncate(cut.index(bytes.len()) + 1);
        bytes
    })
}

proptest! {
    #[test]
    fn no_bytes_make_the_index_panic(bytes in prop_oneof![prop::collection::vec(any::<u8>(), 0..2000), damaged()]) {
        if let Ok(found) = index(&bytes) {
            for member in found.values() {
                if let Member::File { offset, size } = member {
                    prop_assert!(offset + size <= bytes.len() as u64);
                }
            }
        }
        let mut refused = Vec::new();
        // Read or refused: either is an answer.
        drop(examine(&mut &bytes[..], &mut |name, reason| writeln!(refused, "{name}: {reason}").unwrap()));
    }
}
