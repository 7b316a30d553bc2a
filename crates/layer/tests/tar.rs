//! Tar bytes: the digests are those of archives that Go's `archive/tar` wrote.

#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;

use strata_layer::{Content, GeneratedEntry, LayerError, Owner, Parent, Source, TarWriter, write_tar};
use strata_oci::Digest;

const OWNER: Owner = Owner { uid: 1000, gid: 1001 };

type Tar = TarWriter<Vec<u8>>;

fn put(tar: &mut Tar, name: impl AsRef<OsStr>, size: usize, mode: u32, owner: Owner) {
    tar.file(name, mode, owner, size as u64, &mut vec![b'x'; size].as_slice()).unwrap();
}

#[track_caller]
fn check(expected: &str, fill: impl FnOnce(&mut Tar)) {
    let mut tar = TarWriter::new(Vec::new());
    fill(&mut tar);
    let bytes = tar.finish().unwrap();
    assert_eq!(Digest::of(&bytes).to_string(), expected);
}

#[test]
fn empty_archive_is_two_zero_blocks() {
    check(EMPTY, |_| {});
}

#[test]
fn plain_entries_are_ustar() {
    check(PLAIN, |tar| {
        tar.dir("/layers", 0o755, Owner::ROOT).unwrap();
        put(tar, "/layers/a", 0, 0o644, OWNER);
        put(tar, "/layers/b", 512, 0o644, OWNER);
        put(tar, "/layers/c", 700, 0o644, OWNER);
    });
    check(SETUID, |tar| put(tar, "/s", 1, 0o4755, OWNER));
    check(NODES, |tar| {
        tar.fifo("/p", 0o600, Owner::ROOT).unwrap();
        tar.char_device("/c", 0o600, Owner::ROOT, (1, 3)).unwrap();
        tar.block_device("/b", 0o600, Owner::ROOT, (8, 1)).unwrap();
    });
}

#[test]
fn long_names_are_split_or_go_to_pax() {
    let split = format!("/{}/{}", "d".repeat(90), "f".repeat(60));
    check(SPLITTABLE, |tar| put(tar, &split, 3, 0o644, OWNER));
    check(UNSPLITTABLE, |tar| put(tar, format!("/layers/{}", "f".repeat(150)), 3, 0o644, OWNER));
    check(TOO_LONG, |tar| put(tar, format!("/{}end", "0123456789/".repeat(30)), 3, 0o644, OWNER));
    let cut = format!("/{}{}/{}", "é".repeat(40), "d".repeat(98), "e".repeat(120));
    check(CUT_AT_SLASH, |tar| put(tar, cut, 3, 0o644, OWNER));
    check(LONG_LINK, |tar| tar.symlink("/l", "t/".repeat(80), 0o777, Owner::ROOT).unwrap());
    check(LONG_BOTH, |tar| tar.symlink(&split, "t/".repeat(80), 0o777, Owner::ROOT).unwrap());
}

#[test]
fn names_beyond_ascii_and_big_ids_go_to_pax() {
    check(NON_ASCII, |tar| put(tar, "/layers/é/ü.txt", 3, 0o644, OWNER));
    check(INVALID, |tar| put(tar, OsStr::from_bytes(b"/layers/\xff\xc3A"), 3, 0o644, OWNER));
    check(BIG_IDS, |tar| put(tar, "/big-ids", 1, 0o644, Owner { uid: 2_097_152, gid: 1 << 31 }));
}

#[test]
fn files_of_another_size_are_refused() {
    for (size, data, longer) in [(3, "xx", false), (3, "xxxx", true), (0, "x", true), (131_072, "", false)] {
        let error =
            TarWriter::new(io::sink()).file("/a", 0o644, OWNER, size, &mut data.as_bytes()).unwrap_err();
        let LayerError::Changed { longer: got, .. } = error else { panic!("{error}") };
        assert_eq!(got, longer);
    }
}

fn listing(bytes: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(bytes);
    let names = archive.entries().unwrap().map(|entry| {
        let entry = entry.unwrap();
        let header = entry.header();
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        format!("{:?} {name} {:o} {}", header.entry_type(), header.mode().unwrap(), header.uid().unwrap())
    });
    names.collect()
}

#[test]
fn directories_are_walked_in_the_order_of_names() {
    let dir = tempfile::tempdir().unwrap();
    for file in ["a/x", "a-b", "B"] {
        let path = dir.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, file).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    }
    for directory in ["", "a"] {
        fs::set_permissions(dir.path().join(directory), fs::Permissions::from_mode(0o2750)).unwrap();
    }
    std::os::unix::fs::symlink("nowhere", dir.path().join("c")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("socket")).unwrap();
    let source = Source::Dir {
        dir: dir.path().to_owned(),
        as_path: "/layers/bp/one".to_owned(),
        parents: vec![Parent { path: "/layers".to_owned(), owner: Owner::ROOT, mode: 0o755 }],
        owner: OWNER,
    };
    let mut bytes = Vec::new();
    write_tar(&source, &mut bytes).unwrap();
    let expected = [
        "Directory /layers 755 0",
        "Directory /layers/bp/one 2750 1000",
        "Regular /layers/bp/one/B 640 1000",
        "Directory /layers/bp/one/a 2750 1000",
        "Regular /layers/bp/one/a/x 640 1000",
        "Regular /layers/bp/one/a-b 640 1000",
        "Symlink /layers/bp/one/c 777 1000",
    ];
    assert_eq!(listing(&bytes), expected);
}

#[test]
fn generated_entries_are_written_as_given() {
    let entry =
        |name: &str, mode, content| GeneratedEntry { name: name.into(), mode, owner: Owner::ROOT, content };
    let source = Source::Generated(vec![
        entry("/cnb", 0o755, Content::Dir),
        entry("/cnb/f", 0o644, Content::Bytes(b"text".to_vec())),
        entry("/cnb/l", 0o755, Content::Symlink("f".to_owned())),
    ]);
    let mut bytes = Vec::new();
    write_tar(&source, &mut bytes).unwrap();
    assert_eq!(listing(&bytes), ["Directory /cnb 755 0", "Regular /cnb/f 644 0", "Symlink /cnb/l 755 0"]);
}

const EMPTY: &str = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef";
const PLAIN: &str = "sha256:8841a202a5f5e00da3c5f25b6e206720a24c532627da339f193879d15ee93106";
const SPLITTABLE: &str = "sha256:dec57b5f09a062f8bca3254315328ebe536bc1775e44f850a90eeb8fac30c28a";
const UNSPLITTABLE: &str = "sha256:9b0b1b34325dc4298e51cfb037752c989e7a1c41de1c8d1c98629f3be7a38c84";
const TOO_LONG: &str = "sha256:c4d3c0fac65d246f926ffcc9a0f84bea59bd75901140e150272e247523100503";
const CUT_AT_SLASH: &str = "sha256:8f6339ad95be3b69ed579583892851f4bf63257f4e0c51231578b4324bcc0b0b";
const NON_ASCII: &str = "sha256:df2230a0177c83e2e4dec44bbfb69450f29f9d495201031a3fd68b7b419e2616";
const INVALID: &str = "sha256:6ab315c9ba6fad6bab84618ee07632b288ed8e4e7cc1cd8865a811518fd8cae4";
const LONG_LINK: &str = "sha256:c500c8d408e625ed65b9d9546e0dc34e5aface6be9ad799ed9bfe17ad5aecc09";
const LONG_BOTH: &str = "sha256:4f9405db386b2e5d916e0825149b8f91727585f9fc31c4b5d3195c0c0e33f499";
const SETUID: &str = "sha256:e49d932d10bc7124b615ea507c573d5bb058e944528207261604ce1d604e7bfb";
const BIG_IDS: &str = "sha256:967094d87c7ef3b419e6c4f557c4d43b3b53a39e95b4bbd5a1e8ae4172f0cef0";
const NODES: &str = "sha256:ccf4d092bd063e78b79eed45880967f4e214c9c1842114277d7c7f1906d9c57b";
