//! Images in a registry as people have it: pushed, pulled, and seen by others.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use strata_oci::{Digest, Platform, media_type};
use strata_store::registry::credentials::{Headers, Keychain, Source};
use strata_store::registry::{Client, Error, Settings, Trust};
use strata_store::{Copied, Layout, Store, StoreError, copy_image};
use support::docker_registry::{DockerRegistry, Options, PASSWORD, USER};
use support::{chain, hasty, hasty_client, image_of, layer_of, noise, put, put_blob, read_blob, run};

fn basic(user: &str, password: &str, registry: &str) -> Keychain {
    let auth = data_encoding::BASE64.encode(format!("{user}:{password}").as_bytes());
    let text = serde_json::json!({ registry: format!("Basic {auth}") }).to_string();
    Keychain::new(vec![Source::Headers(Headers::parse(&text).unwrap())])
}

#[test]
fn an_image_reads_back_and_skopeo_sees_it_under_all_its_names() {
    let registry = DockerRegistry::plain();
    let image = hasty_client().open(&registry.name("team/app:v1")).unwrap();
    assert_eq!(image.read_image().unwrap(), None);
    let big = noise(3 * 1024 * 1024 + 17);
    let pushed = put(&image, &[b"one", &big], &["v1", "stable"]);
    let encoded = pushed.encode().unwrap();
    for name in ["team/app:v1", "team/app:stable", &format!("team/app@{}", encoded.manifest_digest)] {
        let name = registry.name(name);
        let found = hasty_client().open(&name).unwrap().read_image().unwrap().unwrap();
        assert_eq!((&found.image, &found.manifest), (&pushed, &encoded.manifest), "{name}");
        let seen = run("skopeo", &["inspect", "--tls-verify=false", &format!("docker://{name}")]);
        assert!(seen.contains(&encoded.manifest_digest.to_string()), "{seen}");
    }
    let found = image.read_image().unwrap().unwrap();
    let identifier = image.identifier(&found);
    assert_eq!(identifier, registry.name(&format!("team/app@{}", encoded.manifest_digest)));
    assert_eq!(read_blob(&image, &layer_of(&big)), big);
    assert!(hasty_client().open(&registry.name("team/app:none")).unwrap().read_image().unwrap().is_none());
    assert!(hasty_client().open(&registry.name("none/at/all")).unwrap().read_image().unwrap().is_none());
}

#[test]
fn what_goes_through_a_registry_and_skopeo_comes_back_the_same() {
    let registry = DockerRegistry::plain();
    let dir = tempfile::tempdir().unwrap();
    let from = Layout::open_or_create(dir.path().join("from")).unwrap();
    put(&from, &[b"a", b"b"], &[]);
    let stored = from.read_image().unwrap().unwrap();
    let image = hasty_client().open(&registry.name("x")).unwrap();
    copy_image(&image, &from, &stored.encoded(), &[]).unwrap();
    assert_eq!(image.read_image().unwrap().unwrap(), stored);
    let copy = dir.path().join("copy");
    let (source, target) = (format!("docker://{}", registry.name("x")), format!("oci:{}:t", copy.display()));
    run("skopeo", &["copy", "-q", "--preserve-digests", "--src-tls-verify=false", &source, &target]);
    assert_eq!(Layout::open(&copy).tagged("t").read_image().unwrap().unwrap(), stored);
    let back = Layout::open_or_create(dir.path().join("back")).unwrap();
    copy_image(&back, &image, &stored.encoded(), &[]).unwrap();
    assert_eq!(back.read_image().unwrap().unwrap(), stored);
}

#[test]
fn the_platform_decides_among_the_images_of_an_index() {
    let registry = DockerRegistry::plain();
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::open_or_create(dir.path()).unwrap();
    let images = [image_of(&[b"a"], "amd64"), image_of(&[b"b"], "arm64")];
    put_blob(&layout, b"a");
    put_blob(&layout, b"b");
    let encoded = images.clone().map(|image| image.encode().unwrap());
    layout.put_images(&encoded, &["multi".to_owned()]).unwrap();
    let (from, to) =
        (format!("oci:{}:multi", dir.path().display()), format!("docker://{}", registry.name("m:1")));
    run("skopeo", &["copy", "-q", "--all", "--preserve-digests", "--dest-tls-verify=false", &from, &to]);
    let open = |platform| hasty_client().open(&registry.name("m:1")).unwrap().for_platform(platform);
    for image in &images {
        let found = open(image.config().platform()).read_image().unwrap().unwrap();
        assert_eq!(&found.image, image);
        assert_eq!(found.manifest_digest, image.encode().unwrap().manifest_digest);
    }
    let error = open(Platform::new("linux", "s390x")).read_image().unwrap_err();
    assert!(matches!(error, StoreError::Platform { .. }), "{error}");
}

#[test]
fn a_password_opens_and_its_absence_is_told() {
    let registry = DockerRegistry::start(Options { with_password: true, ..Options::default() });
    let name = registry.name("a/b");
    let client = |user, password| {
        let keychain = basic(user, password, &registry.host());
        Client::new(Settings { keychain, ..hasty() })
    };
    let image = client(USER, PASSWORD).open(&name).unwrap();
    image.check_read().unwrap();
    image.check_write().unwrap();
    let pushed = put(&image, &[b"secret"], &[]);
    assert_eq!(image.read_image().unwrap().unwrap().image, pushed);
    for (client, place) in [
        (client(USER, "wrong"), "CNB_REGISTRY_AUTH (used)"),
        (
            Client::new(Settings { keychain: basic("u", "p", "other.io"), ..hasty() }),
            "CNB_REGISTRY_AUTH (no entry)",
        ),
    ] {
        let image = client.open(&name).unwrap();
        let errors = [
            image.read_image().map(drop).unwrap_err(),
            image.check_read().unwrap_err(),
            image.check_write().unwrap_err(),
            image.begin_blob().map(drop).unwrap_err(),
            image.has_blob(&Digest::of(b"secret"), 6).map(drop).unwrap_err(),
        ];
        for error in errors {
            let StoreError::Registry(error) = error else { panic!("{error}") };
            let Error::Unauthorized(refusal) = &*error else { panic!("{error}") };
            assert_eq!(refusal.looked_in, [place]);
            assert!(error.hint().unwrap().contains(place));
            assert!(error.to_string().contains(&format!("http://{}/v2/a/b/", registry.host())), "{error}");
        }
    }
}

#[test]
fn a_private_authority_is_trusted_when_it_is_named() {
    let registry = DockerRegistry::start(Options { with_tls: true, ..Options::default() });
    let client = |trust| Client::new(Settings { trust, ..hasty() });
    let name = registry.name("tls:1");
    let in_file = Trust { file: Some(registry.authority()), dirs: Some(Vec::new()) };
    let image = client(in_file).open(&name).unwrap();
    let pushed = put(&image, &[&noise(300_000)], &[]);
    let dir: PathBuf = registry.authority().parent().unwrap().to_owned();
    let in_dir = Trust { file: None, dirs: Some(vec![dir, "/nowhere".into()]) };
    assert_eq!(client(in_dir).open(&name).unwrap().read_image().unwrap().unwrap().image, pushed);

    let error = client(Trust::default()).open(&name).unwrap().read_image().unwrap_err();
    let text = chain(&error);
    // On this machine, plain HTTP is tried as well.
    assert!(text.contains("certificate") && text.contains("http://127.0.0.1"), "{text}");
    let absent = Trust { file: Some(Path::new("/nowhere/ca.pem").to_owned()), dirs: None };
    let error = client(absent).open(&name).unwrap().read_image().unwrap_err();
    assert!(chain(&error).contains("/nowhere/ca.pem"), "{}", chain(&error));

    for (insecure, is_good) in
        [(registry.host(), true), (registry.name("tl"), true), (registry.name("other"), false)]
    {
        let client = Client::new(Settings { insecure: vec![insecure.clone()], ..hasty() });
        assert_eq!(client.open(&name).unwrap().read_image().is_ok(), is_good, "{insecure}");
    }
}

#[test]
fn a_blob_of_another_repository_is_shared_rather_than_sent() {
    let registry = DockerRegistry::plain();
    let client = hasty_client();
    let from = client.open(&registry.name("base/run")).unwrap();
    let to = client.open(&registry.name("app")).unwrap();
    let bytes = noise(100_000);
    let (blob, absent) = (put_blob(&from, &bytes), layer_of(b"absent"));
    assert!(!to.has_blob(&blob.digest, blob.size).unwrap());
    assert_eq!(to.copy_blob_from(&from, &blob).unwrap(), Copied::Linked);
    assert_eq!(to.copy_blob_from(&from, &blob).unwrap(), Copied::Present);
    assert_eq!(to.copy_blob_from(&from, &absent).unwrap(), Copied::Absent);
    assert_eq!(read_blob(&to, &blob), bytes);
    assert_eq!((registry.open_uploads("app"), registry.open_uploads("base/run")), (0, 0));
}

#[test]
fn blobs_come_over_from_another_registry() {
    let (one, two) = (DockerRegistry::plain(), DockerRegistry::plain());
    let client = hasty_client();
    let (from, to) = (client.open(&one.name("a")).unwrap(), client.open(&two.name("a")).unwrap());
    for bytes in [noise(2_000_000), Vec::new(), b"x".to_vec()] {
        let blob = put_blob(&from, &bytes);
        assert_eq!(to.copy_blob_from(&from, &blob).unwrap(), Copied::Copied);
        assert_eq!(read_blob(&to, &blob), bytes);
    }
    assert_eq!(two.open_uploads("a"), 0);
}

#[test]
fn bad_bytes_of_another_place_are_never_stored() {
    let registry = DockerRegistry::plain();
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::open_or_create(dir.path()).unwrap();
    let blob = put_blob(&layout, b"good bytes");
    std::fs::write(layout.blob_path(&blob.digest), b"b@d bytes!").unwrap();
    let image = hasty_client().open(&registry.name("a")).unwrap();
    let error = image.copy_blob_from(&layout, &blob).unwrap_err();
    let text = chain(&error);
    assert!(text.contains(&blob.digest.to_string()) && text.contains("have the digest"), "{text}");
    assert!(!image.has_blob(&blob.digest, blob.size).unwrap());
    assert_eq!(registry.open_uploads("a"), 0);
}

#[test]
fn an_upload_that_is_not_committed_leaves_nothing() {
    let registry = DockerRegistry::plain();
    let image = hasty_client().open(&registry.name("a")).unwrap();
    for size in [0, 10, 2_000_000] {
        let mut sink = image.begin_blob().unwrap();
        sink.write_all(&noise(size)).unwrap();
        drop(sink);
        assert_eq!(registry.open_uploads("a"), 0, "{size}");
    }
    let mut sink = image.begin_blob().unwrap();
    sink.write_all(b"bytes").unwrap();
    let error = sink.commit(&Digest::of(b"other"), 5).unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
    assert_eq!(registry.open_uploads("a"), 0);
    image.check_write().unwrap();
    assert_eq!(registry.open_uploads("a"), 0);
}

#[test]
fn a_manifest_that_is_deleted_is_gone_and_may_be_deleted_again() {
    let registry = DockerRegistry::plain();
    let image = hasty_client().open(&registry.name("a")).unwrap();
    let digest = put(&image, &[b"x"], &[]).encode().unwrap().manifest_digest;
    image.delete_manifest(&digest).unwrap();
    assert!(image.read_image().unwrap().is_none());
    image.delete_manifest(&digest).unwrap();
}

#[test]
fn where_no_registry_is_both_addresses_are_told() {
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let error = hasty_client().open(&format!("localhost:{port}/a")).unwrap().check_read().unwrap_err();
    let text = error.to_string();
    for part in [format!("https://localhost:{port}/v2/"), format!("http://localhost:{port}/v2/")] {
        assert!(text.contains(&part), "{text}");
    }
}

#[test]
fn a_reader_that_is_not_read_to_its_end_harms_nobody() {
    let registry = DockerRegistry::plain();
    let image = hasty_client().open(&registry.name("a")).unwrap();
    let blob = put_blob(&image, &noise(1_000_000));
    for _ in 0..4 {
        let mut start = [0; 10];
        image.open_blob(&blob).unwrap().unwrap().read_exact(&mut start).unwrap();
    }
    assert_eq!(read_blob(&image, &blob).len(), 1_000_000);
    assert_eq!(blob.media_type, media_type::OCI_LAYER);
}

#[test]
fn a_registry_that_only_gives_is_read_and_says_why_it_takes_nothing() {
    let writable = DockerRegistry::plain();
    let pushed = put(&hasty_client().open(&writable.name("team/app")).unwrap(), &[b"one", b"two"], &[]);
    let options = Options { is_read_only: true, data: Some(writable.data()), ..Options::default() };
    let registry = DockerRegistry::start(options);
    let image = hasty_client().open(&registry.name("team/app")).unwrap();
    assert_eq!(image.read_image().unwrap().unwrap().image, pushed);
    assert_eq!(read_blob(&image, &layer_of(b"two")), b"two");
    image.check_read().unwrap();
    // What is there need not be written.
    image.put_image(&pushed.encode().unwrap(), &[]).unwrap();
    assert_eq!(image.copy_blob_from(&image, &layer_of(b"one")).unwrap(), Copied::Present);
    let other = image_of(&[b"one"], "arm64").encode().unwrap();
    let errors = [
        image.check_write().unwrap_err(),
        image.begin_blob().map(drop).unwrap_err(),
        image.put_image(&other, &["new".to_owned()]).unwrap_err(),
        image.delete_manifest(&pushed.encode().unwrap().manifest_digest).unwrap_err(),
    ];
    for error in errors {
        let text = chain(&error);
        assert!(text.contains("405 Method Not Allowed"), "{text}");
        assert!(error.hint().unwrap().contains("read-only"), "{error:?}");
    }
    assert_eq!(image.read_image().unwrap().unwrap().image, pushed);
}

/// Stands before a registry and counts connections.
struct Counter {
    port: u16,
    connections: std::sync::Arc<std::sync::atomic::AtomicUsize>,
}

impl Counter {
    fn before(registry: &DockerRegistry) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, target) = (listener.local_addr().unwrap().port(), registry.host());
        let connections = std::sync::Arc::<std::sync::atomic::AtomicUsize>::default();
        let count = std::sync::Arc::clone(&connections);
        std::thread::spawn(move || {
            for here in listener.incoming().map_while(Result::ok) {
                count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                let Ok(there) = std::net::TcpStream::connect(&target) else { return };
                for (mut from, mut to) in [(here.try_clone(), there.try_clone()), (Ok(there), Ok(here))]
                    .map(|(from, to)| (from.unwrap(), to.unwrap()))
                {
                    std::thread::spawn(move || {
                        // Either side may go at any time.
                        drop(std::io::copy(&mut from, &mut to));
                        drop(to.shutdown(std::net::Shutdown::Write));
                    });
                }
            }
        });
        Self { port, connections }
    }
}

#[test]
fn connections_are_used_again() {
    let registry = DockerRegistry::plain();
    let counter = Counter::before(&registry);
    let dir = tempfile::tempdir().unwrap();
    let from = Layout::open_or_create(dir.path().join("from")).unwrap();
    let layers: Vec<Vec<u8>> = (0..24).map(|i| noise(10_000 + i)).collect();
    let layers: Vec<&[u8]> = layers.iter().map(Vec::as_slice).collect();
    let image = put(&from, &layers, &[]).encode().unwrap();
    let there = hasty_client().open(&format!("127.0.0.1:{}/a", counter.port)).unwrap();
    copy_image(&there, &from, &image, &[]).unwrap();
    let to = Layout::open_or_create(dir.path().join("to")).unwrap();
    let found = there.read_image().unwrap().unwrap();
    copy_image(&to, &there, &found.encoded(), &[]).unwrap();
    assert_eq!(to.read_image().unwrap().unwrap(), found);
    // Some 100 requests; four blobs at a time, and one connection that only finds out whether there is TLS.
    let connections = counter.connections.load(std::sync::atomic::Ordering::SeqCst);
    assert!(connections <= 12, "{connections} connections");
}
