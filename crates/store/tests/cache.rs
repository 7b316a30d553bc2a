//! What a cache promises, whatever it is kept in.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use strata_layer::{Compression, Content, GeneratedEntry, Owner, Packer, Source};
use strata_oci::{Descriptor, Digest, Image, Layer, media_type};
use strata_store::cache::{Cache, Check, ImageCache, METADATA, Patience, Reuse, VolumeCache};
use strata_store::{Layout, Store};

/// A layer with one file.
fn layer(text: &str) -> Source {
    Source::Generated(vec![GeneratedEntry {
        name: "/layers/x/file".to_owned(),
        mode: 0o644,
        owner: Owner::ROOT,
        content: Content::Bytes(text.as_bytes().to_vec()),
    }])
}

fn tar(text: &str) -> Vec<u8> {
    let mut tar = Vec::new();
    strata_layer::pack(&layer(text), Compression::None, 1, &mut tar).unwrap();
    tar
}

/// The bytes of a layer; `None` when it is absent or damaged.
fn read(cache: &dyn Cache, diff_id: &Digest) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    match cache.open_layer(diff_id).unwrap()?.read_to_end(&mut bytes) {
        Ok(_) => Some(bytes),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => None,
        Err(error) => panic!("{error}"),
    }
}

/// Commits a generation of these layers.
fn fill(cache: &dyn Cache, layers: &[&str], metadata: &str) -> Vec<Digest> {
    let mut writer = cache.begin().unwrap();
    let ids = layers.iter().map(|text| writer.add(&layer(text), &Packer::new(1)).unwrap().diff_id).collect();
    writer.commit(metadata).unwrap();
    ids
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

type Open = fn(&Path) -> Box<dyn Cache>;

fn volume(dir: &Path) -> Box<dyn Cache> {
    Box::new(VolumeCache::open(dir).unwrap())
}

fn image(dir: &Path) -> Box<dyn Cache> {
    Box::new(ImageCache::open("some/cache", Box::new(Layout::open_or_create(dir).unwrap())).unwrap())
}

#[test]
fn generations_follow_each_other_in_every_kind_of_cache() {
    for open in [volume as Open, image] {
        let dir = tempfile::tempdir().unwrap();
        let cache = open(dir.path());
        assert_eq!((cache.metadata().unwrap(), cache.damage()), (None, None));
        assert_eq!(read(&*cache, &Digest::of(b"")), None);
        let ids = fill(&*cache, &["a", "b", "a"], "{\"n\":1}");
        assert_eq!(ids, [Digest::of(&tar("a")), Digest::of(&tar("b")), ids[0]]);

        let cache = open(dir.path());
        assert_eq!(cache.metadata().unwrap().unwrap().trim_end(), "{\"n\":1}");
        assert_eq!(read(&*cache, &ids[1]), Some(tar("b")));
        let mut writer = cache.begin().unwrap();
        assert_eq!(writer.reuse(&ids[0], Check::Contents).unwrap(), Reuse::Taken);
        assert_eq!(writer.reuse(&ids[0], Check::Contents).unwrap(), Reuse::Taken);
        assert_eq!(writer.reuse(&Digest::of(b"never"), Check::Contents).unwrap(), Reuse::Absent);
        assert_eq!(writer.add(&layer("a"), &Packer::new(2)).unwrap().diff_id, ids[0]);
        let new = writer.add(&layer("c"), &Packer::new(2)).unwrap().diff_id;
        // Nothing is visible before the commit.
        assert_eq!(read(&*open(dir.path()), &new), None);
        writer.commit("{\"n\":2}").unwrap();

        let cache = open(dir.path());
        assert_eq!(cache.metadata().unwrap().unwrap().trim_end(), "{\"n\":2}");
        assert_eq!(read(&*cache, &ids[0]), Some(tar("a")));
        assert_eq!(read(&*cache, &new), Some(tar("c")));
        assert_eq!(read(&*cache, &ids[1]), None);
    }
}

#[test]
fn a_writer_that_gives_up_changes_nothing() {
    for open in [volume as Open, image] {
        let dir = tempfile::tempdir().unwrap();
        let ids = fill(&*open(dir.path()), &["a"], "{}");
        let before = names(dir.path());
        let cache = open(dir.path());
        let mut writer = cache.begin().unwrap();
        writer.add(&layer("b"), &Packer::new(1)).unwrap();
        assert!(writer.add(&missing_tree(), &Packer::new(1)).is_err());
        drop(writer);
        assert_eq!(names(dir.path()), before);
        assert_eq!(read(&*open(dir.path()), &ids[0]), Some(tar("a")));
    }
}

fn missing_tree() -> Source {
    let dir = PathBuf::from("/nonexistent/tree");
    Source::Dir { dir, as_path: "/x".to_owned(), parents: Vec::new(), owner: Owner::ROOT }
}

#[test]
fn the_files_are_those_of_the_reference() {
    let dir = tempfile::tempdir().unwrap();
    let ids = fill(&*volume(dir.path()), &["a"], "{\"buildpacks\":null}");
    assert_eq!(names(dir.path()), ["committed"]);
    let committed = dir.path().join("committed");
    assert_eq!(names(&committed), [METADATA.to_owned(), format!("{}.tar", ids[0])]);
    assert_eq!(fs::read(committed.join(METADATA)).unwrap(), b"{\"buildpacks\":null}\n");
    let path = committed.join(format!("sha256:{}.tar", ids[0].hex()));
    assert_eq!(fs::read(&path).unwrap(), tar("a"));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
}

#[test]
fn a_cache_that_the_reference_filled_is_used() {
    let dir = tempfile::tempdir().unwrap();
    // As the reference leaves it: staging is made again when the cache is opened, and stays.
    for name in ["committed", "staging"] {
        fs::create_dir(dir.path().join(name)).unwrap();
    }
    let id = Digest::of(&tar("a"));
    let text = format!(
        "{{\"sbom\":{{\"sha\":\"\"}},\"buildpacks\":[{{\"key\":\"a\",\"version\":\"1\",\"layers\":\
         {{\"x\":{{\"sha\":\"{id}\",\"data\":null,\"build\":true,\"launch\":false,\"cache\":true}}}}}}]}}\n"
    );
    fs::write(dir.path().join("committed").join(METADATA), &text).unwrap();
    fs::write(dir.path().join("committed").join(format!("{id}.tar")), tar("a")).unwrap();
    let cache = volume(dir.path());
    assert_eq!(cache.metadata().unwrap().unwrap(), text);
    assert_eq!(read(&*cache, &id), Some(tar("a")));
    let mut writer = cache.begin().unwrap();
    assert_eq!(writer.reuse(&id, Check::Contents).unwrap(), Reuse::Taken);
    writer.commit("{}").unwrap();
    assert_eq!(read(&*cache, &id), Some(tar("a")));
}

/// What a program leaves that dies at some moment of a commit.
#[test]
fn a_death_at_any_moment_leaves_the_old_generation_or_the_new_one() {
    type Rename = (&'static str, &'static str);
    let moments: [(&str, &[Rename], &str); 5] = [
        ("while it writes", &[], "old"),
        ("between the steps", &[("committed", "committed-backup")], "old"),
        ("before the backup goes", &[("committed", "committed-backup"), ("staging", "committed")], "new"),
        (
            "after folders were exchanged",
            &[("committed", "t"), ("staging", "committed"), ("t", "staging")],
            "new",
        ),
        ("before its first commit", &[("committed", "t")], ""),
    ];
    for (moment, renames, expected) in moments {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fill(&*volume(dir.path()), &["new"], "new");
        fs::rename(at("committed"), at("staging")).unwrap();
        fs::create_dir(at("committed")).unwrap();
        fs::write(at("committed").join(METADATA), "old\n").unwrap();
        fs::write(at("committed").join(format!("{}.tar", Digest::of(&tar("old")))), tar("old")).unwrap();
        for (from, to) in renames {
            fs::rename(at(from), at(to)).unwrap();
        }
        if at("t").is_dir() {
            fs::remove_dir_all(at("t")).unwrap();
        }
        let cache = volume(dir.path());
        let seen = cache.metadata().unwrap().unwrap_or_default();
        assert_eq!(seen.trim_end(), expected, "{moment}");
        let id = Digest::of(&tar(expected));
        assert_eq!(read(&*cache, &id).is_some(), !expected.is_empty(), "{moment}");

        let mut writer = cache.begin().unwrap();
        let reused = if expected.is_empty() { Reuse::Absent } else { Reuse::Taken };
        assert_eq!(writer.reuse(&id, Check::Contents).unwrap(), reused, "{moment}");
        writer.commit("next").unwrap();
        assert_eq!(names(dir.path()), ["committed"], "{moment}");
        assert_eq!(cache.metadata().unwrap().unwrap(), "next\n", "{moment}");
        assert_eq!(read(&*cache, &id).is_some(), !expected.is_empty(), "{moment}");
    }
}

#[test]
fn a_damaged_layer_costs_itself_only() {
    type Damage = (&'static str, fn(&Path));
    let damages: [Damage; 6] = [
        ("changed", |path| {
            let mut bytes = fs::read(path).unwrap();
            bytes[600] ^= 1;
            fs::write(path, bytes).unwrap();
        }),
        ("cut", |path| fs::write(path, &fs::read(path).unwrap()[..512]).unwrap()),
        ("empty", |path| fs::write(path, b"").unwrap()),
        ("longer", |path| fs::write(path, [fs::read(path).unwrap(), vec![0; 512]].concat()).unwrap()),
        ("a link", |path| {
            fs::remove_file(path).unwrap();
            symlink("/etc/passwd", path).unwrap();
        }),
        ("a folder", |path| {
            fs::remove_file(path).unwrap();
            fs::create_dir(path).unwrap();
        }),
    ];
    for (name, damage) in damages {
        let dir = tempfile::tempdir().unwrap();
        let cache = volume(dir.path());
        let ids = fill(&*cache, &["bad", "good"], "{}");
        damage(&dir.path().join("committed").join(format!("{}.tar", ids[0])));
        assert_eq!(read(&*cache, &ids[0]), None, "{name}");
        assert_eq!(read(&*cache, &ids[1]), Some(tar("good")), "{name}");
        let mut writer = cache.begin().unwrap();
        assert!(
            matches!(writer.reuse(&ids[0], Check::Contents).unwrap(), Reuse::Absent | Reuse::Damaged { .. }),
            "{name}"
        );
        assert_eq!(writer.add(&layer("bad"), &Packer::new(1)).unwrap().diff_id, ids[0], "{name}");
        writer.commit("{}").unwrap();
        assert_eq!(read(&*cache, &ids[0]), Some(tar("bad")), "{name}");
    }
    let dir = tempfile::tempdir().unwrap();
    let cache = volume(dir.path());
    let id = fill(&*cache, &["x"], "{}")[0];
    fs::write(dir.path().join("committed").join(format!("{id}.tar")), tar("y")).unwrap();
    let found = Digest::of(&tar("y"));
    assert_eq!(cache.begin().unwrap().reuse(&id, Check::Contents).unwrap(), Reuse::Damaged { found });
}

#[test]
fn metadata_that_are_no_text_are_an_error_and_not_a_panic() {
    let dir = tempfile::tempdir().unwrap();
    let cache = volume(dir.path());
    fill(&*cache, &[], "{}");
    fs::write(dir.path().join("committed").join(METADATA), [0xff]).unwrap();
    assert!(cache.metadata().is_err());
    fill(&*cache, &[], "{}");
    assert_eq!(cache.metadata().unwrap().unwrap(), "{}\n");
}

#[test]
fn a_folder_that_is_not_there_is_no_cache() {
    let dir = tempfile::tempdir().unwrap();
    assert!(VolumeCache::open(dir.path().join("no")).is_err());
    fs::write(dir.path().join("file"), "").unwrap();
    assert!(VolumeCache::open(dir.path().join("file")).is_err());
}

#[test]
fn writers_wait_for_each_other_and_readers_do_not() {
    let dir = tempfile::tempdir().unwrap();
    let shared = fill(&*volume(dir.path()), &["shared"], "start")[0];
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let cache = volume(dir.path());
            let mut seen = 0;
            while !is_done.load(Ordering::Relaxed) || seen == 0 {
                // Always of one generation, never half of one; its files may go while it is read.
                let metadata = cache.metadata().unwrap();
                assert!(metadata.is_none_or(|text| text.ends_with('\n')));
                seen += usize::from(read(&*cache, &shared).is_some());
            }
            seen
        });
        let writers: Vec<_> = (0..6)
            .map(|i| {
                let dir = dir.path();
                scope.spawn(move || {
                    let cache = volume(dir);
                    for round in 0..5 {
                        let text = format!("{i}/{round}");
                        let mut writer = cache.begin().unwrap();
                        assert_eq!(writer.reuse(&shared, Check::Contents).unwrap(), Reuse::Taken);
                        let id = writer.add(&layer(&text), &Packer::new(1)).unwrap().diff_id;
                        writer.commit(&format!("{id}")).unwrap();
                    }
                })
            })
            .collect();
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        is_done.store(true, Ordering::Relaxed);
        assert!(reader.join().unwrap() > 0);
    });
    let cache = volume(dir.path());
    let last: Digest = cache.metadata().unwrap().unwrap().trim_end().parse().unwrap();
    assert!(read(&*cache, &last).is_some() && read(&*cache, &shared).is_some());
    assert_eq!(names(dir.path()), ["committed"]);
    assert_eq!(names(&dir.path().join("committed")).len(), 3);
}

#[test]
fn a_draft_becomes_a_layer_or_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let cache = VolumeCache::open(dir.path()).unwrap().with_patience(Patience::ENDLESS);
    let bytes = tar("a");
    let (size, diff_id) = (bytes.len() as u64, Digest::of(&bytes));
    let mut draft =
        cache.draft().expect("the tests need a disk with a GiB to spare, and files without names");
    draft.write_all(&bytes[..1000]).unwrap();
    assert!(!draft.is_whole(size));
    draft.write_all(&bytes[1000..]).unwrap();
    assert!(draft.is_whole(size) && !draft.is_whole(size + 1));
    assert_eq!(names(dir.path()), [""; 0], "it has no name yet");
    let mut writer = cache.begin().unwrap();
    assert!(writer.take_draft(draft, &diff_id).unwrap());
    // Once is enough.
    let again = cache.draft().unwrap();
    assert!(writer.take_draft(again, &diff_id).unwrap());
    writer.commit("{}").unwrap();
    assert_eq!(read(&cache, &diff_id), Some(bytes));
    assert_eq!(names(dir.path()), ["committed"]);
    let path = dir.path().join(format!("committed/{diff_id}.tar"));
    assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o7777, 0o644);
    drop(cache.draft());
    assert_eq!(names(dir.path()), ["committed"]);
    // A disk that is never quick enough.
    let hasty = cache.with_patience(Patience { grace: Duration::ZERO, per_mib: Duration::ZERO });
    let mut draft = hasty.draft().unwrap();
    assert!(draft.write_all(&tar("a")).is_err_and(|error| error.kind() == io::ErrorKind::TimedOut));
    assert!(!draft.is_whole(size));
}

#[test]
fn a_cache_image_takes_the_blob_of_a_layout() {
    let dir = tempfile::tempdir().unwrap();
    let app = Layout::open_or_create(dir.path().join("app")).unwrap();
    let mut sink = app.begin_blob().unwrap();
    let packed = Packer::new(1).pack(&layer("a"), Compression::Gzip, &mut sink).unwrap();
    sink.commit(&packed.digest, packed.size).unwrap();
    let blob = |kind| Descriptor::new(kind, packed.digest, packed.size);
    let place = dir.path().join("cache");
    let cache = image(&place);
    let mut writer = cache.begin().unwrap();
    // Others may not know what it is.
    let other = blob(media_type::OCI_LAYER_ZSTD);
    assert!(!writer.take_blob(&packed.diff_id, &other, &app).unwrap());
    let absent = Descriptor::of(media_type::OCI_LAYER_GZIP, b"absent");
    assert!(!writer.take_blob(&packed.diff_id, &absent, &app).unwrap());
    for kind in [media_type::OCI_LAYER_GZIP, media_type::DOCKER_LAYER_GZIP] {
        assert!(writer.take_blob(&packed.diff_id, &blob(kind), &app).unwrap());
    }
    writer.commit("{}").unwrap();
    assert_eq!(read(&*image(&place), &packed.diff_id), Some(tar("a")));
    let stored = Layout::open(&place).read_image().unwrap().unwrap().image;
    assert_eq!(stored.layers().len(), 1);
    assert_eq!(stored.layers()[0].descriptor.media_type, media_type::OCI_LAYER_GZIP);
    // A folder has other bytes.
    let folder = tempfile::tempdir().unwrap();
    let cache = VolumeCache::open(folder.path()).unwrap();
    let gzip = blob(media_type::OCI_LAYER_GZIP);
    assert!(!cache.begin().unwrap().take_blob(&packed.diff_id, &gzip, &app).unwrap());
}

#[test]
fn a_cache_image_is_plain_oci_and_has_each_layer_once() {
    let dir = tempfile::tempdir().unwrap();
    let ids = fill(&*image(dir.path()), &["a", "b", "a"], "{\"x\":\"<\"}");
    let stored = Layout::open(dir.path()).read_image().unwrap().unwrap().image;
    assert_eq!(stored.media_type(), media_type::OCI_MANIFEST);
    assert_eq!(stored.config_media_type(), media_type::OCI_CONFIG);
    assert_eq!((stored.config().os(), stored.config().architecture()), ("linux", ""));
    assert_eq!(stored.config().label(METADATA), Some("{\"x\":\"<\"}"));
    assert_eq!(stored.config().created(), Some("1980-01-01T00:00:01Z"));
    assert_eq!(stored.layers().iter().map(|layer| layer.diff_id).collect::<Vec<_>>(), ids[..2]);
    for layer in stored.layers() {
        assert_eq!(layer.descriptor.media_type, media_type::OCI_LAYER_GZIP);
        assert_eq!(layer.history.as_ref().unwrap().created.as_deref(), Some("1980-01-01T00:00:01Z"));
        assert_eq!(layer.history.as_ref().unwrap().created_by, None);
    }
    let name = format!("oci:{}:latest", dir.path().display());
    let output = Command::new("skopeo").args(["inspect", "--raw", &name]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn an_empty_cache_image_has_one_empty_layer() {
    let dir = tempfile::tempdir().unwrap();
    fill(&*image(dir.path()), &[], "{}");
    let stored = Layout::open(dir.path()).read_image().unwrap().unwrap().image;
    let [Layer { descriptor, diff_id, .. }] = stored.layers() else { panic!("{:?}", stored.layers()) };
    assert_eq!((descriptor.digest, descriptor.size), (*diff_id, 1024));
    assert_eq!(read(&*image(dir.path()), diff_id), Some(vec![0; 1024]));
}

#[test]
fn lies_and_damage_of_a_cache_image_are_found_out() {
    let dir = tempfile::tempdir().unwrap();
    let id = fill(&*image(dir.path()), &["a"], "{}")[0];
    let layout = Layout::open(dir.path());
    let honest = layout.read_image().unwrap().unwrap().image;

    let claimed = Digest::of(b"another layer");
    let mut liar = Image::empty("linux", "");
    liar.append(Layer { diff_id: claimed, ..honest.layers()[0].clone() });
    layout.put_image(&liar.encode().unwrap(), &[]).unwrap();
    assert_eq!(read(&*image(dir.path()), &claimed), None);
    assert_eq!(read(&*image(dir.path()), &id), None);

    layout.put_image(&honest.encode().unwrap(), &[]).unwrap();
    let blob = layout.blob_path(&honest.layers()[0].descriptor.digest);
    fs::remove_file(&blob).unwrap();
    let cache = image(dir.path());
    assert_eq!(read(&*cache, &id), None);
    assert_eq!(cache.begin().unwrap().reuse(&id, Check::Contents).unwrap(), Reuse::Absent);

    fs::write(layout.blob_path(&honest.encode().unwrap().config_digest), "{}").unwrap();
    let cache = image(dir.path());
    assert!(cache.damage().unwrap().contains("cannot use"), "{:?}", cache.damage());
    assert_eq!(cache.metadata().unwrap(), None);
    fill(&*cache, &["a"], "{}");
    assert_eq!(read(&*image(dir.path()), &id), Some(tar("a")));
}

#[test]
fn an_app_image_is_not_replaced_by_a_cache() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::open_or_create(dir.path()).unwrap();
    let mut app = Image::empty("linux", "amd64");
    app.config_mut().set_label("io.buildpacks.lifecycle.metadata", "{}");
    layout.put_image(&app.encode().unwrap(), &[]).unwrap();
    let cache = ImageCache::open("some/app", Box::new(layout)).unwrap();
    let refused = cache.begin().err().unwrap();
    assert!(refused.to_string().contains("some/app"), "{refused}");
}

/// Where the disk is that is full; set for a run of this program in namespaces of its own.
const FULL_DISK: &str = "STRATA_TEST_FULL_DISK";

#[test]
fn a_full_disk_leaves_the_last_generation() {
    #[expect(clippy::disallowed_methods, reason = "how a test is run is not asked by the program")]
    let disk = std::env::var_os(FULL_DISK).map(PathBuf::from);
    if let Some(disk) = disk {
        return on_a_full_disk(&disk);
    }
    let dir = tempfile::tempdir().unwrap();
    let script =
        "mount -t tmpfs -o size=4m none \"$1\" && exec \"$2\" --exact a_full_disk_leaves_the_last_generation";
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"])
        .arg(dir.path())
        .arg(std::env::current_exe().unwrap())
        .env(FULL_DISK, dir.path())
        .output()
        .unwrap_or_else(|error| panic!("this test needs unshare: {error}"));
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

/// Whether a write failed because there was no room.
fn is_full<T>(outcome: Result<T, strata_store::StoreError>) -> bool {
    let Err(error) = outcome else { return false };
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(error) = source {
        if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::StorageFull) {
            return true;
        }
        source = error.source();
    }
    false
}

fn on_a_full_disk(disk: &Path) {
    let cache = VolumeCache::open(disk).unwrap();
    let kept = "kept".repeat(100_000);
    let ids = fill(&cache, &[&kept], "{\"n\":1}");
    let is_as_before = || {
        assert_eq!(cache.metadata().unwrap().as_deref(), Some("{\"n\":1}\n"));
        assert!(read(&cache, &ids[0]).is_some_and(|bytes| bytes == tar(&kept)));
        assert!(!disk.join("staging").exists() && !disk.join("committed-backup").exists());
    };
    // A layer that does not fit.
    let mut writer = cache.begin().unwrap();
    assert_eq!(writer.reuse(&ids[0], Check::Contents).unwrap(), Reuse::Taken);
    assert!(is_full(writer.add(&layer(&"large".repeat(1_000_000)), &Packer::new(1))));
    drop(writer);
    is_as_before();
    // No room for the document.
    let ballast = disk.join("ballast");
    let filled = io::copy(&mut io::repeat(0), &mut fs::File::create(&ballast).unwrap());
    assert!(filled.is_err_and(|error| error.kind() == io::ErrorKind::StorageFull));
    let mut writer = cache.begin().unwrap();
    assert_eq!(writer.reuse(&ids[0], Check::Size(tar(&kept).len() as u64)).unwrap(), Reuse::Taken);
    assert!(is_full(writer.commit("{\"n\":2}")));
    is_as_before();
    fs::remove_file(ballast).unwrap();
    // What is written ahead takes no room that others could need, and is not an error of theirs.
    let mut draft = cache.draft().unwrap();
    assert!(draft.write_all(&tar("a")).is_err() && draft.write_all(&[]).is_ok());
    assert!(!draft.is_whole(0) && !draft.is_whole(tar("a").len() as u64));
    fill(&cache, &["new"], "{\"n\":3}");
    assert_eq!(cache.metadata().unwrap().as_deref(), Some("{\"n\":3}\n"));
}
