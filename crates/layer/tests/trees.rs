//! Trees that are read by several threads give the archives that one thread writes.

#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use strata_layer::{Compression, LayerError, Owner, Packer, Parent, Source, slices, write_tar};

/// Small files and large ones next to each other, empty folders, links, and a folder of more files than are read at once.
fn tree(root: &Path) {
    for dir in 0..40_usize {
        let path = root.join(format!("dir-{dir}"));
        fs::create_dir_all(path.join("empty")).unwrap();
        symlink("../dir-0/file-0", path.join("link")).unwrap();
        for file in 0..30_usize {
            let size = (dir * 31 + file * 977) % 9_000 + if file == 7 { 130_000 + dir * 1_000 } else { 0 };
            let bytes: Vec<u8> = (0..size).map(|i| (i * i + dir * 7 + file) as u8).collect();
            fs::write(path.join(format!("file-{file}")), bytes).unwrap();
        }
    }
}

fn source(dir: &Path) -> Source {
    let owner = Owner { uid: 1000, gid: 1000 };
    let parents = vec![Parent { path: "/layers".into(), owner, mode: 0o755 }];
    Source::Dir { dir: dir.to_owned(), as_path: "/layers/bp/layer".into(), parents, owner }
}

#[test]
fn they_are_the_archives_that_one_thread_writes() {
    let dir = tempfile::tempdir().unwrap();
    tree(dir.path());
    let mut sources = vec![source(dir.path())];
    let patterns = [vec!["dir-1*".to_owned()], vec!["*/file-7".to_owned()], vec!["nothing".to_owned()]];
    sources.extend(slices(dir.path(), "/workspace", &[], Owner::ROOT, &patterns).unwrap());
    for threads in [1, 2, 5] {
        let packer = Packer::new(threads);
        for source in &sources {
            let (mut expected, mut out) = (Vec::new(), Vec::new());
            write_tar(source, &mut expected).unwrap();
            let packed = packer.pack(source, Compression::None, &mut out).unwrap();
            assert!(out == expected, "{threads} threads");
            assert_eq!(packed.uncompressed_size, expected.len() as u64);
        }
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named_and_nothing_hangs() {
    let dir = tempfile::tempdir().unwrap();
    tree(dir.path());
    let mut items = match slices(dir.path(), "/a", &[], Owner::ROOT, &[]).unwrap().remove(0) {
        Source::Entries { items, .. } => items,
        other => panic!("{other:?}"),
    };
    // One of those that are read ahead, and one that is not, have changed since they were looked at.
    for name in ["dir-17/file-3", "dir-17/file-7"] {
        let at = items.iter().position(|item| item.relative == name).unwrap();
        let before = items[at].size;
        items[at].size += 1;
        let source = Source::Entries {
            dir: dir.path().to_owned(),
            as_path: "/a".into(),
            parents: Vec::new(),
            owner: Owner::ROOT,
            items: items.clone(),
        };
        let error = Packer::new(3).pack(&source, Compression::Gzip, &mut std::io::sink()).unwrap_err();
        let LayerError::Changed { path, .. } = error else { panic!("{error:?}") };
        assert_eq!(path, dir.path().join(name));
        items[at].size = before;
    }
}
