use std::sync::Barrier;

use strata_layer::{Compression, Content, GeneratedEntry, Owner, Source, pack};
use strata_oci::Descriptor;

use super::*;
use crate::Layout;

/// Files of a layer: a name, and contents; none for a directory.
type Files<'a> = &'a [(&'a str, Option<&'a str>)];

fn layer(layout: &Layout, files: Files<'_>) -> Layer {
    let entry = |(name, text): &(&str, Option<&str>)| GeneratedEntry {
        name: (*name).to_owned(),
        mode: if text.is_some() { 0o644 } else { 0o555 },
        owner: Owner::ROOT,
        content: text.map_or(Content::Dir, |text| Content::Bytes(text.as_bytes().to_vec())),
    };
    let source = Source::Generated(files.iter().map(entry).collect());
    let mut sink = layout.begin_blob().unwrap();
    let packed = pack(&source, Compression::Gzip, 1, &mut sink).unwrap();
    sink.commit(&packed.digest, packed.size).unwrap();
    let media_type = Image::empty("linux", "amd64").layer_media_type();
    Layer {
        descriptor: Descriptor::new(media_type, packed.digest, packed.size),
        diff_id: packed.diff_id,
        history: None,
    }
}

fn image(layers: &[&Layer]) -> Image {
    let mut image = Image::empty("linux", "amd64");
    layers.iter().for_each(|layer| image.append((*layer).clone()));
    image
}

struct Bench {
    _temp: tempfile::TempDir,
    layout: Layout,
    unpacked: Unpacked,
}

fn bench() -> Bench {
    let temp = tempfile::tempdir().unwrap();
    let layout = Layout::open_or_create(temp.path().join("layout")).unwrap();
    Bench { layout, unpacked: Unpacked::new(temp.path().join("layers")), _temp: temp }
}

fn text(held: &Held, path: &str) -> Option<String> {
    held.read(Path::new(path), 100).unwrap().map(|bytes| String::from_utf8(bytes).unwrap())
}

#[test]
fn files_are_read_as_the_overlay_shows_them() {
    let Bench { layout, unpacked, .. } = &bench();
    let low =
        [("/a", None), ("/a/x", Some("low")), ("/a/y", Some("low")), ("/b", None), ("/b/z", Some("low"))];
    let low = layer(layout, &low);
    let high = [
        ("/a", None),
        ("/a/x", Some("high")),
        ("/a/.wh.y", Some("")),
        ("/b", None),
        ("/b/.wh..wh..opq", Some("")),
    ];
    let high = layer(layout, &high);
    let held = unpacked.hold(layout, &image(&[&low, &high, &low]), 2).unwrap();
    // The lowest once more on top says everything.
    assert_eq!(held.dirs().len(), 2);
    assert_eq!(text(&held, "a/x").as_deref(), Some("low"));
    let held = unpacked.hold(layout, &image(&[&low, &high]), 2).unwrap();
    for (path, expected) in
        [("a/x", Some("high")), ("a/y", None), ("b/z", None), ("c", None), ("a/x/y", None)]
    {
        let found = held.read(Path::new(path), 100);
        match expected {
            _ if path == "a/x/y" => assert!(matches!(found, Err(StoreError::Kind { .. })), "{path}"),
            expected => assert_eq!(text(&held, path).as_deref(), expected, "{path}"),
        }
    }
    assert!(matches!(held.read(Path::new("a/x"), 3), Err(StoreError::TooLarge { .. })));
    assert!(matches!(held.read(Path::new("a"), 3), Err(StoreError::Kind { .. })));
}

#[test]
fn a_layer_is_unpacked_once_however_many_want_it() {
    let Bench { layout, unpacked, .. } = &bench();
    let layers: Vec<Layer> =
        ["1", "2", "3"].iter().map(|text| layer(layout, &[("/d", None), ("/d/f", Some(text))])).collect();
    let image = image(&layers.iter().collect::<Vec<_>>());
    let barrier = Barrier::new(4);
    let trees: HashSet<Vec<u64>> = std::thread::scope(|scope| {
        let work = || {
            barrier.wait();
            let held = unpacked.hold(layout, &image, 3).unwrap();
            held.dirs().iter().map(|dir| dir.metadata().unwrap().ino()).collect()
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(trees.len(), 1);
    assert!(unpacked.missing(&image).is_empty());
    let names: Vec<_> =
        fs::read_dir(&unpacked.root).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 3, "{names:?}");
}

#[test]
fn what_is_not_the_layer_is_not_kept() {
    let Bench { layout, unpacked, .. } = &bench();
    let good = layer(layout, &[("/f", Some("good"))]);
    let other = layer(layout, &[("/f", Some("other"))]);
    let wrong = image(&[&Layer { diff_id: other.diff_id, ..good.clone() }]);
    assert!(matches!(unpacked.hold(layout, &wrong, 1), Err(StoreError::DiffId { .. })));
    assert_eq!(fs::read_dir(&unpacked.root).unwrap().count(), 0);
    let absent = Descriptor { digest: Digest::of(b"absent"), ..good.descriptor.clone() };
    let absent = image(&[&Layer { descriptor: absent, ..good.clone() }]);
    assert!(matches!(unpacked.hold(layout, &absent, 1), Err(StoreError::Missing { .. })));
    // What a killed process left is no layer, and in nobody's way.
    let part = unpacked.root.join(format!("{PART}{}", good.diff_id.hex()));
    fs::create_dir_all(part.join(TREE).join("f/g")).unwrap();
    let held = unpacked.hold(layout, &image(&[&good]), 1).unwrap();
    assert_eq!(text(&held, "f").as_deref(), Some("good"));
    assert!(!part.exists());
}

#[test]
fn sweeping_spares_what_is_used_and_what_is_new() {
    let Bench { layout, unpacked, .. } = &bench();
    assert_eq!(unpacked.sweep(Duration::ZERO).unwrap(), Swept::default());
    let (one, two) = (layer(layout, &[("/1", None)]), layer(layout, &[("/2", None)]));
    let held = unpacked.hold(layout, &image(&[&one]), 1).unwrap();
    drop(unpacked.hold(layout, &image(&[&two]), 1).unwrap());
    for left in [format!("{PART}{}", "0".repeat(64)), format!("{GONE}{}", "1".repeat(64))] {
        fs::create_dir(unpacked.root.join(left)).unwrap();
    }
    let hour = Duration::from_secs(3600);
    assert_eq!(unpacked.sweep(hour).unwrap(), Swept { layers: 0, in_use: 0 });
    assert_eq!(unpacked.sweep(Duration::ZERO).unwrap(), Swept { layers: 1, in_use: 1 });
    assert!(held.dirs()[0].is_dir());
    assert_eq!(fs::read_dir(&unpacked.root).unwrap().count(), 1);
    drop(held);
    assert_eq!(unpacked.sweep(Duration::ZERO).unwrap(), Swept { layers: 1, in_use: 0 });
}

/// Unpacks as whoever runs the test.
#[derive(Debug)]
struct Same;

impl Hands for Same {
    fn unpack(&self, tar: &mut dyn Read, tree: &Path) -> Result<Owners, LayerError> {
        unpack(tar, tree, &lower(Ownership::Caller))?;
        Owners::of(tree).map_err(|source| LayerError::Write { source })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        if path.exists() { remove_tree(path) } else { Ok(()) }
    }
}

#[test]
fn a_layer_that_does_not_say_whose_its_files_are_is_in_nobodys_way() {
    let Bench { layout, unpacked, .. } = &bench();
    let layer = layer(layout, &[("/f", Some("text"))]);
    let image = image(&[&layer]);
    // Of somebody without ranges of ids.
    let plain = unpacked.hold(layout, &image, 1).unwrap().dirs().to_vec();
    let mapped = Unpacked::mapped(&unpacked.root, (4711, 4712), Arc::new(Same));
    let own = mapped.hold(layout, &image, 1).unwrap();
    assert_ne!(own.dirs(), plain);
    assert_eq!(text(&own, "f").as_deref(), Some("text"));
    assert!(mapped.missing(&image).is_empty());
}
