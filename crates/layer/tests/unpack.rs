//! Extraction: what was packed comes back, and hostile archives stay inside.

#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use strata_layer::{
    LayerError, Owner, Parent, Source, Spare, UnpackOptions, UnpackStats, Whiteouts, skeleton, unpack,
    unpack_and_sum, write_tar,
};
use tar::{EntryType, Header};

const OWNER: Owner = Owner { uid: 1000, gid: 1000 };

#[test]
fn who_helps_does_not_show() {
    let text = |n: usize| format!("{n} ").repeat(n % 7 * 3000).into_bytes();
    let mut archive = vec![dir("d"), dir("e")];
    for n in 0..300 {
        let (to, other) = (format!("d/{}", n % 100), format!("e/{}", n % 30));
        // Later entries replace earlier ones, of any kind, and links are made to what is not filled yet.
        archive.push(entry(EntryType::Regular, &to, "", &text(n)));
        match n % 5 {
            0 => archive.push(hard(&other, &to)),
            1 => archive.push(link(&other, "../d/1")),
            2 => archive.push(dir(&other)),
            _ => archive.push(entry(EntryType::Regular, &other, "", &text(n + 1))),
        }
    }
    archive.push(vec![0; 1024]);
    let bytes = archive.concat();
    let extracted = [Spare::default(), Spare::new(1)].map(|spare| {
        let dir = tempfile::tempdir().unwrap();
        let options = UnpackOptions { whiteouts: Whiteouts::Literal, spare, ..UnpackOptions::default() };
        let stats = unpack(&mut bytes.as_slice(), dir.path(), &options).unwrap();
        (stats, snapshot(dir.path()))
    });
    assert!(extracted[0].1.len() > 100);
    assert_eq!(extracted[0], extracted[1]);
}

/// An entry of a hostile archive, written without any check.
fn entry(kind: EntryType, name: &str, link: &str, data: &[u8]) -> Vec<u8> {
    let mut header = Header::new_ustar();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o755);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1);
    header.set_size(data.len() as u64);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(data);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn file(name: &str) -> Vec<u8> {
    entry(EntryType::Regular, name, "", b"new")
}

fn dir(name: &str) -> Vec<u8> {
    entry(EntryType::Directory, name, "", b"")
}

fn link(name: &str, target: &str) -> Vec<u8> {
    entry(EntryType::Symlink, name, target, b"")
}

fn hard(name: &str, target: &str) -> Vec<u8> {
    entry(EntryType::Link, name, target, b"")
}

struct Fixture {
    base: tempfile::TempDir,
}

impl Fixture {
    /// A root to extract into, and beside it a directory that must not change.
    fn new() -> Self {
        let base = tempfile::tempdir().unwrap();
        fs::create_dir(base.path().join("root")).unwrap();
        fs::create_dir(base.path().join("outside")).unwrap();
        fs::write(base.path().join("outside/secret"), "secret").unwrap();
        fs::set_permissions(base.path().join("outside"), fs::Permissions::from_mode(0o711)).unwrap();
        Self { base }
    }

    fn root(&self) -> PathBuf {
        self.base.path().join("root")
    }

    fn outside(&self) -> String {
        self.base.path().join("outside").to_str().unwrap().to_owned()
    }

    fn unpack(&self, entries: &[Vec<u8>], whiteouts: Whiteouts) -> Result<UnpackStats, LayerError> {
        let mut bytes = entries.concat();
        bytes.extend_from_slice(&[0; 1024]);
        let options = UnpackOptions { whiteouts, spare: Spare::new(1), ..UnpackOptions::default() };
        unpack(&mut bytes.as_slice(), &self.root(), &options)
    }

    #[track_caller]
    fn assert_outside_is_untouched(&self) {
        let outside = self.base.path().join("outside");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
        assert_eq!(fs::read_to_string(outside.join("secret")).unwrap(), "secret");
        assert_eq!(fs::metadata(outside.join("secret")).unwrap().nlink(), 1);
        assert_eq!(fs::metadata(&outside).unwrap().mode() & 0o7777, 0o711);
        assert_eq!(fs::read_dir(self.base.path()).unwrap().count(), 2);
    }
}

#[test]
fn hostile_archives_change_nothing_outside() {
    let outside = |fixture: &Fixture| fixture.outside();
    type Make = fn(&str) -> Vec<Vec<u8>>;
    let cases: &[(&str, Make, bool)] = &[
        ("dot dot", |_| vec![file("../outside/x")], true),
        ("dot dot inside", |_| vec![dir("a"), file("a/../../outside/x")], true),
        ("absolute", |out| vec![file(&format!("{out}/secret"))], false),
        ("write through link", |out| vec![link("l", out), file("l/secret")], false),
        ("write through relative link", |_| vec![link("l", "../outside"), file("l/secret")], false),
        ("make a directory through link", |out| vec![link("l", out), dir("l/new")], false),
        ("change mode through link", |out| vec![link("l", out), dir("l")], false),
        ("replace link to file", |out| vec![link("l", &format!("{out}/secret")), file("l")], false),
        ("hard link outside", |_| vec![hard("h", "../outside/secret")], true),
        ("hard link absolute", |out| vec![hard("h", &format!("{out}/secret"))], true),
        ("hard link through link", |out| vec![link("l", out), hard("h", "l/secret"), file("h")], true),
        ("root is a link", |out| vec![link(".", out), file("secret")], true),
        ("root is a link by slash", |out| vec![link("/", out)], true),
        ("whiteout outside", |_| vec![file("../outside/.wh.secret")], true),
        ("whiteout through link", |out| vec![link("l", out), file("l/.wh.secret")], false),
        ("whiteout of dot dot", |_| vec![file("a/.wh..."), file("a/.wh..")], true),
        ("opaque through link", |out| vec![link("l", out), file("l/.wh..wh..opq")], false),
        ("links in a circle", |_| vec![link("a", "b"), link("b", "a"), file("a/x")], true),
        ("long link then write", |_| vec![link("l", "../../../../../../../../etc"), file("l/passwd")], false),
    ];
    for (name, make, refused) in cases {
        let fixture = Fixture::new();
        let result = fixture.unpack(&make(&outside(&fixture)), Whiteouts::Apply);
        assert_eq!(result.is_err(), *refused, "{name}: {result:?}");
        fixture.assert_outside_is_untouched();
    }
}

#[test]
fn ambiguous_and_oversized_archives_are_refused() {
    let record = |text: &str| entry(EntryType::XHeader, "PaxHeaders.0/x", "", text.as_bytes());
    let global = entry(EntryType::XGlobalHeader, "g", "", b"10 path=x\n");
    let long = entry(EntryType::GNULongName, "././@LongLink", "", b"other\0");
    let cases = [
        ("repeated record", vec![record("10 path=a\n10 path=b\n"), file("x")]),
        ("malformed record", vec![record("99 path=a\n"), file("x")]),
        ("number that is none", vec![record("10 uid=0x1\n"), file("x")]),
        ("global name", vec![global, file("x")]),
        ("two names", vec![long, record("10 path=a\n"), file("x")]),
        ("link with contents", vec![entry(EntryType::Symlink, "l", "t", b"data")]),
        ("file with a slash", vec![file("x/")]),
        ("unknown type", vec![entry(EntryType::new(b'Z'), "x", "", b"")]),
    ];
    for (name, entries) in cases {
        let result = Fixture::new().unpack(&entries, Whiteouts::Apply);
        assert!(result.is_err(), "{name}");
    }
    let fixture = Fixture::new();
    let mut bytes = [file("a"), file("b")].concat();
    bytes.extend_from_slice(&[0; 1024]);
    for options in [
        UnpackOptions { max_entries: 1, ..UnpackOptions::default() },
        UnpackOptions { max_bytes: 5, ..UnpackOptions::default() },
    ] {
        let error = unpack(&mut bytes.as_slice(), &fixture.root(), &options).unwrap_err();
        assert!(matches!(error, LayerError::TooLarge { .. }), "{error}");
    }
}

#[test]
fn whiteouts_delete_what_earlier_layers_left() {
    let fixture = Fixture::new();
    fixture.unpack(&[file("a/old"), file("b"), file("c/old")], Whiteouts::Apply).unwrap();
    let second = [file("c/new"), file("c/.wh..wh..opq"), file(".wh.b"), file("a/.wh.old"), file(".wh.none")];
    fixture.unpack(&second, Whiteouts::Apply).unwrap();
    let root = fixture.root();
    assert!(root.join("a").is_dir() && root.join("c/new").exists());
    for gone in ["a/old", "b", "c/old"] {
        assert!(!root.join(gone).exists(), "{gone}");
    }
}

#[test]
fn whiteouts_become_those_of_overlayfs() {
    let fixture = Fixture::new();
    let entries = [
        file("a/.wh.old"),
        file("b/.wh..wh..opq"),
        file(".wh.again"),
        dir("again"),
        file("kept"),
        file(".wh.kept"),
    ];
    fixture.unpack(&entries, Whiteouts::Overlay).unwrap();
    let root = fixture.root();
    let whiteout = fs::symlink_metadata(root.join("a/old")).unwrap();
    assert!(whiteout.file_type().is_char_device() && whiteout.rdev() == 0);
    for opaque in ["b", "again"] {
        let mut value = [0_u8; 2];
        let length = rustix::fs::getxattr(root.join(opaque), "user.overlay.opaque", &mut value[..]).unwrap();
        assert_eq!(&value[..length], b"y", "{opaque}");
    }
    assert_eq!(fs::read_to_string(root.join("kept")).unwrap(), "new");
    assert_eq!(fs::read_dir(root.join("b")).unwrap().count(), 0);
}

#[test]
fn links_inside_the_root_are_followed_for_directories() {
    let fixture = Fixture::new();
    fixture
        .unpack(
            &[dir("usr/bin"), link("bin", "/usr/bin"), file("bin/tool"), hard("h", "bin/tool")],
            Whiteouts::Apply,
        )
        .unwrap();
    assert_eq!(fs::read_to_string(fixture.root().join("usr/bin/tool")).unwrap(), "new");
    assert_eq!(fs::metadata(fixture.root().join("h")).unwrap().nlink(), 2);
}

/// Kind, mode and contents of everything below.
fn snapshot(dir: &Path) -> Vec<(PathBuf, u32, Vec<u8>)> {
    let mut found = Vec::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(path) = todo.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let data = if meta.is_symlink() {
            fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes()
        } else if meta.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            Vec::new()
        } else {
            fs::read(&path).unwrap()
        };
        found.push((path.strip_prefix(dir).unwrap().to_owned(), meta.mode(), data));
    }
    found.sort();
    found
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn packed_trees_come_back(
        files in prop::collection::vec(("[a-z]{1,3}(/[a-zé ]{1,120}){0,2}", 0..3_u8, prop::collection::vec(any::<u8>(), 0..2000)), 0..12)
    ) {
        let from = tempfile::tempdir().unwrap();
        for (name, kind, data) in &files {
            let path = from.path().join(name);
            // Names may collide: what cannot be made is left out.
            if fs::create_dir_all(path.parent().unwrap()).is_err() || path.symlink_metadata().is_ok() {
                continue;
            }
            match kind {
                0 => fs::write(&path, data).unwrap(),
                1 => symlink(format!("target-{}", data.len()), &path).unwrap(),
                _ => {
                    fs::create_dir(&path).unwrap();
                    fs::set_permissions(&path, fs::Permissions::from_mode(0o555)).unwrap();
                }
            }
        }
        let source = Source::Dir { dir: from.path().to_owned(), as_path: "/".to_owned(), parents: Vec::new(), owner: OWNER };
        let mut bytes = Vec::new();
        write_tar(&source, &mut bytes).unwrap();
        let to = tempfile::tempdir().unwrap();
        unpack(&mut bytes.as_slice(), to.path(), &UnpackOptions::default()).unwrap();
        prop_assert_eq!(snapshot(from.path()), snapshot(to.path()));
    }
}

#[test]
fn a_folder_that_hands_its_group_on_does_not_change_modes() {
    let to = tempfile::tempdir().unwrap();
    fs::set_permissions(to.path(), fs::Permissions::from_mode(0o2755)).unwrap();
    let mut bytes = [dir("d"), dir("d/e"), file("d/f")].concat();
    bytes.extend_from_slice(&[0; 1024]);
    unpack(&mut bytes.as_slice(), to.path(), &UnpackOptions::default()).unwrap();
    for name in ["d", "d/e", "d/f"] {
        assert_eq!(fs::metadata(to.path().join(name)).unwrap().mode() & 0o7777, 0o755, "{name}");
    }
}

#[test]
fn an_archive_that_is_not_one_of_a_stack_keeps_odd_names_and_is_as_new_as_its_extraction() {
    let fixture = Fixture::new();
    let mut bytes = [dir("d"), file("d/.wh.x"), file("d/x")].concat();
    bytes.extend_from_slice(&[0; 1024]);
    let options = UnpackOptions {
        whiteouts: Whiteouts::Literal,
        times: strata_layer::Times::Now,
        ..UnpackOptions::default()
    };
    unpack(&mut bytes.as_slice(), &fixture.root(), &options).unwrap();
    assert!(fixture.root().join("d/.wh.x").is_file());
    assert!(fixture.root().join("d/x").is_file());
    for name in ["d", "d/x"] {
        assert!(
            fs::metadata(fixture.root().join(name)).unwrap().mtime() > strata_layer::MTIME as i64,
            "{name}"
        );
    }
}

#[test]
fn data_holds_no_devices_and_nothing_that_runs_as_another_user() {
    let options = UnpackOptions { trust: strata_layer::Trust::Data, ..UnpackOptions::default() };
    let fixture = Fixture::new();
    let mut header = Header::new_ustar();
    header.set_path("s").unwrap();
    header.set_mode(0o6755);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1);
    header.set_size(0);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(&[0; 1024]);
    unpack(&mut bytes.as_slice(), &fixture.root(), &options).unwrap();
    let mode = fs::metadata(fixture.root().join("s")).unwrap().mode();
    if rustix::process::geteuid().is_root() {
        assert_eq!(mode & 0o7777, 0o755);
    }
    for kind in [EntryType::Char, EntryType::Block, EntryType::Fifo] {
        let mut bytes = entry(kind, "d", "", b"");
        bytes.extend_from_slice(&[0; 1024]);
        let refused = unpack(&mut bytes.as_slice(), &fixture.root(), &options).unwrap_err();
        assert!(refused.to_string().contains("device"), "{refused}");
    }
}

#[test]
fn names_of_megabytes_are_refused_without_being_kept() {
    let fixture = Fixture::new();
    let name = vec![b'x'; 5 << 20];
    let mut bytes = entry(EntryType::GNULongName, "././@LongLink", "", &name);
    bytes.extend(file("short"));
    bytes.extend_from_slice(&[0; 1024]);
    let refused = unpack(&mut bytes.as_slice(), &fixture.root(), &UnpackOptions::default()).unwrap_err();
    assert!(matches!(refused, LayerError::Read { .. }), "{refused}");
    assert!(refused.to_string().len() < 1000);
}

#[test]
fn a_skeleton_is_that_of_the_archive_if_the_tree_is_what_was_packed() {
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    fs::create_dir_all(tree.join("sub/empty")).unwrap();
    fs::write(tree.join("sub/file"), vec![7; 70_000]).unwrap();
    fs::write(tree.join("n".repeat(120)), "long").unwrap();
    symlink("t".repeat(150), tree.join("link")).unwrap();
    let of = |tree: &Path, uid| Source::Dir {
        dir: tree.to_owned(),
        as_path: "/layers/x".to_owned(),
        parents: vec![Parent { path: "/layers".to_owned(), owner: Owner::ROOT, mode: 0o755 }],
        owner: Owner { uid, gid: 7 },
    };
    let source = of(&tree, 1000);
    let mut tar = Vec::new();
    write_tar(&source, &mut tar).unwrap();
    let out = dir.path().join("out");
    fs::create_dir(&out).unwrap();
    let (_, bones) = unpack_and_sum(&mut tar.as_slice(), &out, &UnpackOptions::default()).unwrap();
    let back = out.join("layers/x");
    assert_eq!(bones.size, tar.len() as u64);
    assert_eq!(bones, skeleton(&source).unwrap());
    assert_eq!(bones, skeleton(&of(&back, 1000)).unwrap());
    assert_ne!(bones, skeleton(&of(&back, 1001)).unwrap());
    assert_ne!(of(&back, 1000).frame(), of(&back, 1001).frame());
    assert_eq!(of(&back, 1000).frame(), source.frame());
    // Contents are not looked at, sizes are.
    fs::write(back.join("sub/file"), vec![8; 70_000]).unwrap();
    assert_eq!(bones, skeleton(&of(&back, 1000)).unwrap());
    fs::write(back.join("sub/file"), vec![7; 70_001]).unwrap();
    assert_ne!(bones, skeleton(&of(&back, 1000)).unwrap());
}

/// Names and sizes of files as GNU tar lists them; nothing when it refuses the archive.
fn listed_by_tar(bytes: &[u8]) -> Option<Vec<(String, u64)>> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut file, bytes).unwrap();
    let mut command = std::process::Command::new("tar");
    command.args(["--list", "--verbose", "--numeric-owner", "--quoting-style=literal", "--file"]);
    let output = command.arg(file.path()).env("LC_ALL", "C").output().unwrap();
    let line = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        (words[5..].join(" "), words[2].parse().unwrap())
    };
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap().lines().map(line).collect())
}

/// The same as they are extracted here.
fn extracted(bytes: &[u8]) -> Option<Vec<(String, u64)>> {
    let fixture = Fixture::new();
    let mut tar = strata_layer::open_layer(std::io::Cursor::new(bytes.to_vec())).unwrap();
    unpack(&mut tar, &fixture.root(), &UnpackOptions::default()).ok()?;
    let files = snapshot(&fixture.root()).into_iter().filter(|(_, mode, _)| mode & 0o170_000 == 0o100_000);
    Some(files.map(|(path, _, data)| (path.display().to_string(), data.len() as u64)).collect())
}

#[test]
fn what_two_programs_would_read_differently_is_refused() {
    let pax = |text: &str| entry(EntryType::XHeader, "PaxHeaders.0/x", "", text.as_bytes());
    let long =
        |name: &str| entry(EntryType::GNULongName, "././@LongLink", "", format!("{name}\0").as_bytes());
    let sized = |name: &str, claimed: u64, data: &[u8]| {
        let mut bytes = entry(EntryType::Regular, name, "", data);
        let mut header = Header::new_ustar();
        header.as_mut_bytes().copy_from_slice(&bytes[..512]);
        header.set_size(claimed);
        header.set_cksum();
        bytes[..512].copy_from_slice(header.as_bytes());
        bytes
    };
    let two = |size| [sized("a", size, &[b'x'; 1024]), file("b")].concat();
    let gzip = |bytes: &[u8]| {
        let mut out = Vec::new();
        let fill = |tar: &mut dyn std::io::Write| {
            tar.write_all(bytes).map_err(|source| LayerError::Write { source })
        };
        strata_layer::pack_with(fill, strata_layer::Compression::Gzip, 1, &mut out).unwrap();
        out
    };
    let end = vec![0; 1024];
    let plain = [file("a"), file("b")].concat();
    let cases: Vec<(&str, Vec<Vec<u8>>)> = vec![
        ("plain", vec![plain.clone(), end.clone()]),
        ("a size in a record wins", vec![pax("13 size=1024\n"), two(0), end.clone()]),
        ("a record without an entry", vec![file("a"), pax("10 path=b\n"), end.clone()]),
        ("long names twice", vec![long("x"), long("y"), file("a"), end.clone()]),
        ("long name and record", vec![long("x"), pax("10 path=y\n"), file("a"), end.clone()]),
        ("record after long name", vec![pax("10 path=y\n"), long("x"), file("a"), end.clone()]),
        ("data after the end", vec![file("a"), end.clone(), file("b"), end.clone()]),
        ("one block of zeros", vec![file("a"), vec![0; 512], file("b"), end.clone()]),
        ("no end", vec![file("a"), file("b")]),
        ("members of gzip", vec![gzip(&[file("a"), file("b")].concat()), gzip(&end)]),
        (
            "two archives in members",
            vec![gzip(&[file("a"), end.clone()].concat()), gzip(&[file("b"), end.clone()].concat())],
        ),
        ("sparse", vec![entry(EntryType::GNUSparse, "s", "", b"data"), file("b"), end.clone()]),
        ("sparse by record", vec![pax("22 GNU.sparse.major=1\n"), file("s"), end.clone()]),
        (
            "a global name",
            vec![entry(EntryType::XGlobalHeader, "g", "", b"10 path=x\n"), file("a"), end.clone()],
        ),
        ("a record twice", vec![pax("10 path=x\n10 path=y\n"), file("a"), end.clone()]),
    ];
    let mut taken = 0;
    for (name, parts) in cases {
        let bytes = parts.concat();
        let Some(ours) = extracted(&bytes) else { continue };
        taken += 1;
        assert_eq!(listed_by_tar(&bytes), Some(ours), "{name}");
    }
    assert!(taken >= 4, "{taken} are taken: is everything refused?");
}
