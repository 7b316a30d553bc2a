//! What a layout promises, as a contract.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use strata_oci::{Descriptor, Digest, Image, Index, Layer, Platform, media_type};
use strata_store::Copied;
use strata_store::layout::{Pruned, REF_NAME};
use strata_store::{Layout, Store, StoreError};

fn put_blob(store: &dyn Store, bytes: &[u8]) -> Descriptor {
    let mut sink = store.begin_blob().unwrap();
    sink.write_all(bytes).unwrap();
    sink.commit(&Digest::of(bytes), bytes.len() as u64).unwrap();
    Descriptor::of(media_type::OCI_LAYER, bytes)
}

fn image_of(layers: &[&[u8]], architecture: &str) -> Image {
    let mut image = Image::empty("linux", architecture);
    for bytes in layers {
        let descriptor = Descriptor::of(media_type::OCI_LAYER, bytes);
        image.append(Layer { diff_id: descriptor.digest, descriptor, history: None });
    }
    // As it reads back: with the members that are always written.
    let encoded = image.encode().unwrap();
    Image::from_parts(&encoded.manifest, &encoded.config).unwrap()
}

fn put(store: &dyn Store, layers: &[&[u8]], names: &[&str]) -> Image {
    layers.iter().for_each(|bytes| drop(put_blob(store, bytes)));
    let image = image_of(layers, "amd64");
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    store.put_image(&image.encode().unwrap(), &names).unwrap();
    image
}

fn blobs(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir.join("blobs/sha256")).unwrap();
    let mut names: Vec<String> =
        names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn expected_blobs(images: &[&Image]) -> Vec<String> {
    let mut names = Vec::new();
    for image in images {
        let encoded = image.encode().unwrap();
        names.extend([encoded.config_digest.hex(), encoded.manifest_digest.hex()]);
        names.extend(encoded.layers.iter().map(|layer| layer.digest.hex()));
    }
    names.sort();
    names.dedup();
    names
}

fn read(store: &dyn Store) -> Image {
    store.read_image().unwrap().unwrap().image
}

#[test]
fn an_image_reads_back_and_the_files_are_ordinary() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/b");
    assert_eq!(Layout::open(&path).read_image().unwrap(), None);
    let layout = Layout::open_or_create(&path).unwrap();
    assert_eq!(layout.read_image().unwrap(), None);
    let image = put(&layout, &[b"one", b"two"], &[]);
    assert_eq!(read(&Layout::open(&path)), image);
    assert_eq!(read(&Layout::open(&path).tagged("latest")), image);
    assert_eq!(Layout::open(&path).tagged("other").read_image().unwrap(), None);
    assert_eq!(blobs(&path), expected_blobs(&[&image]));
    for name in blobs(&path) {
        let mode = fs::metadata(path.join("blobs/sha256").join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o644);
    }
    let mut top: Vec<_> = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    top.sort();
    assert_eq!(top, ["blobs", "index.json", "oci-layout"]);
    let index = Index::parse(&fs::read(path.join("index.json")).unwrap(), None).unwrap();
    assert_eq!(index.manifests[0].annotations[REF_NAME], "latest");
    assert!(image.annotations().is_empty());
}

#[test]
fn a_new_image_replaces_that_of_the_same_name_and_its_blobs_go() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::open_or_create(dir.path()).unwrap();
    put(&layout, &[b"shared", b"old"], &["run"]);
    let other = put(&layout, &[b"other"], &["build", "stable"]);
    let new = put(&layout, &[b"shared", b"new"], &["run"]);
    assert_eq!(read(&layout.clone().tagged("run")), new);
    assert_eq!(read(&layout.clone().tagged("stable")), other);
    assert_eq!(blobs(dir.path()), expected_blobs(&[&new, &other]));
    assert!(matches!(layout.read_image(), Err(StoreError::Ambiguous { .. })));
    assert_eq!(layout.prune().unwrap(), Pruned::Removed(vec![]));
}

#[test]
fn nothing_is_pruned_while_another_writes() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (Layout::open_or_create(dir.path()).unwrap(), Layout::open(dir.path()));
    put_blob(&two, b"pending");
    put(&one, &[b"a"], &["a"]);
    assert_eq!(one.prune().unwrap(), Pruned::Busy);
    put(&two, &[b"pending"], &["b"]);
    assert!(one.has_blob(&Digest::of(b"pending"), 7).unwrap());
}

#[test]
fn an_interrupted_write_leaves_the_old_image_and_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::open_or_create(dir.path()).unwrap();
    let image = put(&layout, &[b"one"], &[]);
    let mut sink = layout.begin_blob().unwrap();
    sink.write_all(b"half").unwrap();
    drop(sink);
    assert_eq!(blobs(dir.path()), expected_blobs(&[&image]));
    // Killed: the file stays, until a writer has the layout alone.
    fs::write(dir.path().join("blobs/sha256/.tmp-dead"), b"half").unwrap();
    fs::write(dir.path().join(".index.json.tmp-dead"), b"half").unwrap();
    assert_eq!(read(&layout), image);
    let again = Layout::open_or_create(dir.path()).unwrap();
    assert_eq!(blobs(dir.path()), expected_blobs(&[&image]));
    assert!(!dir.path().join(".index.json.tmp-dead").exists());
    assert_eq!(read(&again), image);
}

#[test]
fn a_commit_of_other_bytes_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::open_or_create(dir.path()).unwrap();
    for (digest, size) in [(Digest::of(b"other"), 5), (Digest::of(b"bytes"), 6)] {
        let mut sink = layout.begin_blob().unwrap();
        sink.write_all(b"bytes").unwrap();
        assert!(matches!(sink.commit(&digest, size), Err(StoreError::Corrupt { .. })));
    }
    assert_eq!(blobs(dir.path()), Vec::<String>::new());
}

#[test]
fn a_corrupted_blob_fails_when_read() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::open_or_create(dir.path()).unwrap();
    let image = put(&layout, &[b"one"], &[]);
    let descriptor = &image.layers()[0].descriptor;
    let path = layout.blob_path(&descriptor.digest);
    fs::write(&path, b"0ne").unwrap();
    let mut bytes = Vec::new();
    let error = layout.open_blob(descriptor).unwrap().unwrap().read_to_end(&mut bytes).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
    assert!(
        Layout::open_or_create(dir.path().join("c")).unwrap().copy_blob_from(&layout, descriptor).is_err()
    );
    fs::write(&path, b"longer").unwrap();
    assert!(matches!(layout.open_blob(descriptor), Err(StoreError::Size { .. })));
    assert!(!layout.has_blob(&descriptor.digest, descriptor.size).unwrap());
    fs::remove_file(&path).unwrap();
    symlink("/etc/passwd", &path).unwrap();
    assert!(matches!(layout.open_blob(descriptor), Err(StoreError::Kind { .. })));
    assert!(!layout.has_blob(&descriptor.digest, descriptor.size).unwrap());
    fs::write(layout.blob_path(&image.encode().unwrap().config_digest), b"{}").unwrap();
    assert!(matches!(layout.read_image(), Err(StoreError::Corrupt { .. })));
}

#[test]
fn absent_layers_are_refused_unless_the_layout_may_be_sparse() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::open_or_create(dir.path()).unwrap();
    let encoded = image_of(&[b"absent"], "amd64").encode().unwrap();
    assert!(matches!(layout.put_image(&encoded, &[]), Err(StoreError::Missing { .. })));
    assert_eq!(layout.read_image().unwrap(), None);
    layout.clone().sparse().put_image(&encoded, &[]).unwrap();
    assert!(layout.open_blob(&encoded.layers[0]).unwrap().is_none());
    assert_eq!(layout.read_image().unwrap().unwrap().manifest_digest, encoded.manifest_digest);
    assert!(layout.put_image(&encoded, &["a b".to_owned()]).is_err());
}

#[test]
fn the_platform_decides_among_several_images_even_in_nested_indexes() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::open_or_create(dir.path()).unwrap().tagged("multi");
    let images = [image_of(&[b"a"], "amd64"), image_of(&[b"b"], "arm64")];
    let mut inner = Index::default();
    for image in &images {
        put_blob(&layout, if image.config().architecture() == "amd64" { b"a" } else { b"b" });
        let encoded = image.encode().unwrap();
        put_blob(&layout, &encoded.config);
        put_blob(&layout, &encoded.manifest);
        let mut entry = encoded.manifest_descriptor();
        entry.platform = Some(image.config().platform());
        inner.manifests.push(entry);
    }
    let inner = inner.encode().unwrap();
    put_blob(&layout, &inner);
    let mut outer = Index::default();
    outer.manifests.push(Descriptor::of(media_type::OCI_INDEX, &inner));
    outer.manifests[0].annotations.insert(REF_NAME.to_owned(), "multi".to_owned());
    fs::write(dir.path().join("index.json"), outer.encode().unwrap()).unwrap();
    for image in &images {
        assert_eq!(read(&Layout::open(dir.path()).for_platform(image.config().platform())), *image);
    }
    let error =
        Layout::open(dir.path()).for_platform(Platform::new("linux", "s390x")).read_image().unwrap_err();
    assert!(error.to_string().contains("linux/s390x"), "{error}");
    drop(layout);
    assert_eq!(Layout::open(dir.path()).prune().unwrap(), Pruned::Removed(vec![]));
}

#[test]
fn blobs_come_over_from_another_layout() {
    let dir = tempfile::tempdir().unwrap();
    let from = Layout::open_or_create(dir.path().join("from")).unwrap();
    let to = Layout::open_or_create(dir.path().join("to")).unwrap();
    let (public, private) = (put_blob(&from, b"public"), put_blob(&from, b"private"));
    fs::set_permissions(from.blob_path(&private.digest), fs::Permissions::from_mode(0o600)).unwrap();
    let absent = Descriptor::of(media_type::OCI_LAYER, b"absent");
    assert_eq!(to.copy_blob_from(&from, &public).unwrap(), Copied::Linked);
    assert!(matches!(to.copy_blob_from(&from, &private).unwrap(), Copied::Copied | Copied::Cloned));
    assert_eq!(to.copy_blob_from(&from, &private).unwrap(), Copied::Present);
    assert_eq!(to.copy_blob_from(&from, &absent).unwrap(), Copied::Absent);
    assert_eq!(fs::read(to.blob_path(&private.digest)).unwrap(), b"private");
    assert_eq!(blobs(to.dir()).len(), 2);
}

#[test]
fn writers_in_threads_do_not_lose_each_others_images() {
    let dir = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for i in 0..8 {
            let dir = dir.path();
            scope.spawn(move || {
                let layout = Layout::open_or_create(dir).unwrap();
                for round in 0..4 {
                    let bytes = format!("{i} {round}");
                    put(&layout, &[b"shared", bytes.as_bytes()], &[&format!("t{i}")]);
                }
            });
        }
    });
    for i in 0..8 {
        let image = read(&Layout::open(dir.path()).tagged(format!("t{i}")));
        for layer in image.layers() {
            let mut blob = Layout::open(dir.path()).open_blob(&layer.descriptor).unwrap().unwrap();
            blob.read_to_end(&mut Vec::new()).unwrap();
        }
    }
    Layout::open(dir.path()).prune().unwrap();
    assert_eq!(blobs(dir.path()).len(), 1 + 8 * 3);
}

#[test]
fn another_layout_version_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    Layout::open_or_create(dir.path()).unwrap();
    fs::write(dir.path().join("oci-layout"), r#"{"imageLayoutVersion":"9"}"#).unwrap();
    assert!(matches!(Layout::open(dir.path()).read_image(), Err(StoreError::Version { .. })));
    assert!(Layout::open_or_create(dir.path()).is_err());
}

/// The output of a tool, which must be installed.
fn run(program: &str, args: &[&str]) -> String {
    let output =
        Command::new(program).args(args).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn skopeo_and_umoci_read_what_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("layout");
    let layout = Layout::open_or_create(&path).unwrap();
    let base = strata_store::scratch::base("amd64", 1000, 1000, "1980-01-01T00:00:01Z").unwrap();
    base.put_in(&layout, &["v1".to_owned()]).unwrap();
    let name = format!("{}:v1", path.display());
    let seen = run("skopeo", &["inspect", &format!("oci:{name}")]);
    assert!(seen.contains(&base.image.encode().unwrap().manifest_digest.to_string()), "{seen}");
    assert!(seen.contains("strata-scratch"), "{seen}");
    let copy = dir.path().join("copy");
    run("skopeo", &["copy", "-q", &format!("oci:{name}"), &format!("oci:{}:v2", copy.display())]);
    assert_eq!(read(&Layout::open(&copy).tagged("v2")), base.image);
    assert!(run("umoci", &["list", "--layout", &path.display().to_string()]).contains("v1"));
    run("umoci", &["stat", "--image", &name]);
    let bundle = dir.path().join("bundle");
    run("umoci", &["unpack", "--rootless", "--image", &name, &bundle.display().to_string()]);
    assert!(bundle.join("rootfs/etc/ssl/certs/ca-certificates.crt").is_file());
}

#[test]
fn one_name_can_stand_for_an_image_of_several_platforms() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::open_or_create(dir.path()).unwrap();
    let images = [image_of(&[b"shared", b"a"], "amd64"), image_of(&[b"shared", b"b"], "arm64")];
    let encoded = images.clone().map(|image| image.encode().unwrap());
    let names = ["v1".to_owned()];
    put_blob(&layout, b"shared");
    put_blob(&layout, b"a");
    assert!(matches!(layout.put_images(&encoded, &names), Err(StoreError::Missing { .. })));
    put_blob(&layout, b"b");
    let index = layout.put_images(&encoded, &names).unwrap();
    for image in &images {
        let layout = Layout::open(dir.path()).tagged("v1").for_platform(image.config().platform());
        assert_eq!(layout.read_image().unwrap().unwrap().image, *image);
    }
    let mut blobs_expected = expected_blobs(&[&images[0], &images[1]]);
    blobs_expected.push(index.hex());
    blobs_expected.sort();
    assert_eq!(blobs(dir.path()), blobs_expected);

    // The next image under this name takes the place of all of them.
    let next = put(&layout, &[b"c"], &["v1"]);
    assert_eq!(blobs(dir.path()), expected_blobs(&[&next]));
}

#[test]
fn a_layout_for_one_image_holds_one_whatever_was_there() {
    let dir = tempfile::tempdir().unwrap();
    let image = strata_store::scratch::base("amd64", 1000, 1000, "2020-01-01T00:00:00Z").unwrap();
    let other = Layout::open_or_create(dir.path()).unwrap();
    image.put_in(&other, &["a".to_owned(), "b".to_owned()]).unwrap();
    let layout = Layout::open(dir.path()).for_one_image("latest");
    image.put_in(&layout, &[]).unwrap();
    let index = std::fs::read_to_string(dir.path().join("index.json")).unwrap();
    assert_eq!(index.matches(REF_NAME).count(), 1, "{index}");
    assert!(index.contains("latest") && layout.read_image().unwrap().is_some());
}

#[test]
fn what_a_writer_leaves_that_dies_at_once_is_no_foreign_folder() {
    let cases: &[(&[&str], bool)] = &[
        (&[], true),
        (&["blobs/"], true),
        (&["blobs/sha256/", ".index.json.tmp-a1b2c3"], true),
        (&["blobs/sha256/", "notes"], false),
        (&["blobs/sha256/notes"], false),
        (&["blobs/md5/"], false),
        (&["notes/"], false),
    ];
    for (paths, expected) in cases {
        let root = tempfile::tempdir().unwrap();
        for path in *paths {
            let path = root.path().join(path);
            match path.to_str().unwrap().strip_suffix('/') {
                Some(dir) => fs::create_dir_all(dir).unwrap(),
                None => {
                    fs::create_dir_all(path.parent().unwrap()).unwrap();
                    fs::write(path, "").unwrap();
                }
            }
        }
        assert_eq!(Layout::open(root.path()).is_unmade().unwrap(), *expected, "{paths:?}");
        Layout::open_or_create(root.path()).unwrap();
        assert!(!Layout::open(root.path()).is_unmade().unwrap(), "{paths:?}");
    }
    assert!(Layout::open("absent").is_unmade().unwrap());
}
