//! What every store promises, whatever it is made of.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::Write as _;

use strata_oci::{Digest, Reference, validate};
use strata_store::archive::{DockerArchive, Format, OciArchive, Writer};
use strata_store::daemon::Client;
use strata_store::{Copied, Layout, Store, StoreError, copy_image};
use support::docker::Docker;
use support::docker_registry::DockerRegistry;
use support::podman::Podman;
use support::{hasty_client, image_of, layer_of, noise, put, put_blob, read_blob};

/// Places for images, and what keeps them alive.
trait Places {
    /// A new handle to the place of this number; places of different numbers share nothing.
    fn open(&self, number: usize) -> Box<dyn Store>;
    /// What the name of the image starts with in documents of a build.
    fn identifier_starts(&self, number: usize) -> String;
}

struct Layouts(tempfile::TempDir);

impl Places for Layouts {
    fn open(&self, number: usize) -> Box<dyn Store> {
        Box::new(Layout::open_or_create(self.0.path().join(number.to_string())).unwrap())
    }

    fn identifier_starts(&self, number: usize) -> String {
        format!("{}@", self.0.path().join(number.to_string()).display())
    }
}

struct Repositories(DockerRegistry);

impl Places for Repositories {
    fn open(&self, number: usize) -> Box<dyn Store> {
        Box::new(hasty_client().open(&self.0.name(&format!("place/p{number}:latest"))).unwrap())
    }

    fn identifier_starts(&self, number: usize) -> String {
        let name: Reference = self.0.name(&format!("place/p{number}")).parse().unwrap();
        format!("{}/{}@", name.registry(), name.repository())
    }
}

struct Daemon(Client);

impl Places for Daemon {
    fn open(&self, number: usize) -> Box<dyn Store> {
        Box::new(self.0.open(&format!("place/p{number}")).unwrap())
    }

    fn identifier_starts(&self, _number: usize) -> String {
        String::new()
    }
}

/// Also where images are not kept as the documents that they are.
fn wherever_blobs_are(check: impl Fn(&dyn Places)) {
    everywhere(&check);
    let docker = Docker::shared();
    check(&Daemon(docker.client()));
    let podman = Podman::shared();
    check(&Daemon(podman.client()));
}

fn everywhere(check: impl Fn(&dyn Places)) {
    check(&Layouts(tempfile::tempdir().unwrap()));
    check(&Repositories(DockerRegistry::plain()));
}

#[test]
fn an_image_is_there_once_it_was_put_and_not_before() {
    everywhere(|places| {
        let store = places.open(0);
        assert_eq!(store.read_image().unwrap(), None);
        put_blob(&*store, b"layer");
        assert_eq!(store.read_image().unwrap(), None);
        let image = put(&*store, &[b"layer", b"another"], &[]);
        let found = places.open(0).read_image().unwrap().unwrap();
        let encoded = image.encode().unwrap();
        assert_eq!(found.image, image);
        assert_eq!((&found.manifest, &found.config), (&encoded.manifest, &encoded.config));
        assert_eq!(found.manifest_digest, encoded.manifest_digest);
        validate(&found.image).unwrap();
        let identifier = format!("{}{}", places.identifier_starts(0), encoded.manifest_digest);
        assert_eq!(store.identifier(&found), identifier);
        // Put twice, it is there once.
        store.put_image(&encoded, &[]).unwrap();
        assert_eq!(places.open(0).read_image().unwrap().unwrap(), found);
    });
}

#[test]
fn a_new_image_takes_the_place_of_the_old_one() {
    everywhere(|places| {
        put(&*places.open(0), &[b"old"], &[]);
        let new = put(&*places.open(0), &[b"new"], &[]);
        assert_eq!(places.open(0).read_image().unwrap().unwrap().image, new);
    });
}

#[test]
fn blobs_come_back_as_they_were_whatever_their_size() {
    wherever_blobs_are(|places| {
        let store = places.open(0);
        for size in [0, 1, 4096, 262_143, 262_144, 262_145, 3_000_000] {
            let bytes = noise(size);
            let wanted = layer_of(&bytes);
            assert!(!store.has_blob(&wanted.digest, wanted.size).unwrap(), "{size}");
            assert!(store.open_blob(&wanted).unwrap().is_none(), "{size}");
            put_blob(&*store, &bytes);
            // Stored twice, it is there once.
            put_blob(&*store, &bytes);
            assert!(store.has_blob(&wanted.digest, wanted.size).unwrap(), "{size}");
            assert!(!store.has_blob(&wanted.digest, wanted.size + 1).unwrap(), "{size}");
            assert_eq!(read_blob(&*store, &wanted), bytes, "{size}");
            let mut longer = wanted.clone();
            longer.size += 1;
            assert!(matches!(store.open_blob(&longer), Err(StoreError::Size { .. })), "{size}");
        }
    });
}

#[test]
fn small_and_large_writes_make_the_same_blob() {
    wherever_blobs_are(|places| {
        let store = places.open(0);
        let bytes = noise(600_000);
        let mut sink = store.begin_blob().unwrap();
        for (i, part) in bytes.chunks(70_001).enumerate() {
            sink.write_all(part).unwrap();
            if i % 3 == 0 {
                sink.flush().unwrap();
            }
        }
        sink.commit(&Digest::of(&bytes), bytes.len() as u64).unwrap();
        assert_eq!(read_blob(&*store, &layer_of(&bytes)), bytes);
    });
}

#[test]
fn other_bytes_than_promised_are_refused() {
    wherever_blobs_are(|places| {
        let store = places.open(0);
        for (digest, size) in [(Digest::of(b"other"), 5), (Digest::of(b"bytes"), 6)] {
            let mut sink = store.begin_blob().unwrap();
            sink.write_all(b"bytes").unwrap();
            let error = sink.commit(&digest, size).unwrap_err();
            assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
        }
        assert!(!store.has_blob(&Digest::of(b"bytes"), 5).unwrap());
        assert!(!store.has_blob(&Digest::of(b"other"), 5).unwrap());
    });
}

#[test]
fn an_image_whose_layers_are_absent_is_refused_and_the_old_one_stays() {
    everywhere(|places| {
        let store = places.open(0);
        let old = put(&*store, &[b"old"], &[]);
        let sparse = image_of(&[b"absent"], "amd64").encode().unwrap();
        assert!(store.put_image(&sparse, &[]).is_err());
        assert_eq!(places.open(0).read_image().unwrap().unwrap().image, old);
    });
}

#[test]
fn images_are_copied_between_any_two_places() {
    let kinds: [&dyn Places; 2] =
        [&Layouts(tempfile::tempdir().unwrap()), &Repositories(DockerRegistry::plain())];
    for (i, from) in kinds.iter().enumerate() {
        for (j, to) in kinds.iter().enumerate() {
            let (source, target) = (from.open(10 * i + j), to.open(100 + 10 * i + j));
            put(&*source, &[&noise(100_000), b"small"], &[]);
            let image = source.read_image().unwrap().unwrap();
            copy_image(&*target, &*source, &image.encoded(), &[]).unwrap();
            assert_eq!(target.read_image().unwrap().unwrap(), image);
            let layers = image.image.layers();
            for layer in layers {
                let how = target.copy_blob_from(&*source, &layer.descriptor).unwrap();
                assert_eq!(how, Copied::Present);
                assert_eq!(read_blob(&*target, &layer.descriptor), read_blob(&*source, &layer.descriptor));
            }
            let absent = target.copy_blob_from(&*source, &layer_of(b"absent")).unwrap();
            assert_eq!(absent, Copied::Absent);
        }
    }
}

/// Archives are written once and read from then on: the contract holds for each half.
#[test]
fn archives_keep_the_contract_as_far_as_they_go() {
    let dir = tempfile::tempdir().unwrap();
    everywhere(|places| {
        for format in [Format::Oci, Format::Docker] {
            let (path, source) = (dir.path().join("a.tar"), places.open(0));
            let old = put(&*source, &[b"old"], &[]).encode().unwrap();
            let writer = Writer::create(&path, format).unwrap();
            copy_image(&writer, &*source, &old, &[]).unwrap();
            let layers: [&[u8]; 2] = [&noise(300_000), b"small"];
            let new = put(&*source, &layers, &[]).encode().unwrap();
            assert!(!writer.has_blob(&new.layers[0].digest, new.layers[0].size).unwrap());
            assert!(writer.put_image(&new, &[]).is_err(), "its layers are absent");
            std::thread::scope(|scope| {
                for bytes in layers {
                    scope.spawn(|| put_blob(&writer, bytes));
                }
            });
            assert_eq!(writer.copy_blob_from(&*source, &new.layers[0]).unwrap(), Copied::Present);
            assert_eq!(writer.copy_blob_from(&*source, &layer_of(b"absent")).unwrap(), Copied::Absent);
            // Put twice, it is there once; and it takes the place of the old one.
            writer.put_image(&new, &[]).unwrap();
            writer.put_image(&new, &[]).unwrap();
            writer.finish().unwrap();
            let archive: Box<dyn Store> = match format {
                Format::Oci => Box::new(OciArchive::open(&path).unwrap()),
                Format::Docker => Box::new(DockerArchive::open(&path).unwrap()),
            };
            let found = archive.read_image().unwrap().unwrap();
            validate(&found.image).unwrap();
            assert_eq!((&found.config, found.encoded().layers.len()), (&new.config, 2));
            let identifier = format!("{}@{}", path.display(), found.manifest_digest);
            assert_eq!(archive.identifier(&found), identifier);
            if format == Format::Oci {
                assert_eq!(found.manifest_digest, new.manifest_digest);
            }
            for (layer, bytes) in found.encoded().layers.iter().zip(layers) {
                assert!(archive.has_blob(&layer.digest, layer.size).unwrap());
                assert!(!archive.has_blob(&layer.digest, layer.size + 1).unwrap());
                assert_eq!(read_blob(&*archive, layer), bytes);
                let mut longer = layer.clone();
                longer.size += 1;
                assert!(matches!(archive.open_blob(&longer), Err(StoreError::Size { .. })));
            }
            assert!(archive.open_blob(&layer_of(b"absent")).unwrap().is_none());
            assert!(matches!(archive.begin_blob().err(), Some(StoreError::ReadOnly { .. })));
            assert!(matches!(archive.put_image(&new, &[]), Err(StoreError::ReadOnly { .. })));
            let target = places.open(1);
            copy_image(&*target, &*archive, &found.encoded(), &[]).unwrap();
            assert_eq!(target.read_image().unwrap().unwrap(), found);
        }
    });
}

#[test]
fn blobs_are_written_by_many_threads() {
    wherever_blobs_are(|places| {
        let store = places.open(0);
        std::thread::scope(|scope| {
            for i in 0..6_usize {
                let store = &*store;
                scope.spawn(move || {
                    let bytes = noise(50_000 + i);
                    let blob = put_blob(store, &bytes);
                    assert_eq!(read_blob(store, &blob), bytes);
                });
            }
        });
    });
}
