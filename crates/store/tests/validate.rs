//! What is wrong with an image is found, and nothing else.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use strata_layer::{Compression, Content, GeneratedEntry, Owner, Source, TarWriter, pack};
use strata_oci::{Descriptor, Digest, Encoded, Image, Index, Layer, Manifest, Platform, media_type};
use strata_store::archive::{DockerArchive, Format, OciArchive, Writer};
use strata_store::validate::{Report, Severity, prove};
use strata_store::{Layout, Store, Tree, convert_image, copy_image, copy_tree};
use support::docker_registry::DockerRegistry;
use support::{hasty_client, put_blob, run, zstd};

fn tar(name: &str, compression: Compression) -> (Vec<u8>, Layer) {
    let content = Content::Bytes(name.as_bytes().to_vec());
    let entry = GeneratedEntry { name: name.to_owned(), mode: 0o644, owner: Owner::ROOT, content };
    let mut blob = Vec::new();
    let packed = pack(&Source::Generated(vec![entry]), compression, 1, &mut blob).unwrap();
    let kind = compression.media_type(strata_oci::Family::Oci);
    (
        blob,
        Layer {
            descriptor: Descriptor::new(kind, packed.digest, packed.size),
            diff_id: packed.diff_id,
            history: None,
        },
    )
}

/// A layout with an image of these layers.
fn layout(
    layers: Vec<(Vec<u8>, Layer)>,
    change: impl FnOnce(&mut Image),
) -> (tempfile::TempDir, Layout, Encoded) {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::open_or_create(dir.path()).unwrap();
    let mut image = Image::empty("linux", "amd64");
    for (blob, layer) in layers {
        put_blob(&layout, &blob);
        image.append(layer);
    }
    change(&mut image);
    let encoded = image.encode().unwrap();
    layout.put_image(&encoded, &[]).unwrap();
    (dir, layout, encoded)
}

fn good() -> Vec<(Vec<u8>, Layer)> {
    let (plain, mut layer) = tar("/three", Compression::None);
    let blob = zstd(&plain);
    layer.descriptor = Descriptor::of(media_type::OCI_LAYER_ZSTD, &blob);
    vec![tar("/one", Compression::Gzip), tar("/two", Compression::None), (blob, layer)]
}

fn problems(report: &Report) -> String {
    report.findings.iter().map(|f| format!("{:?} {}: {}\n", f.severity, f.subject, f.problem)).collect()
}

fn proven(store: &dyn Store) -> Report {
    prove(store).unwrap().expect("there is an image")
}

#[test]
fn a_good_image_is_good_wherever_it_is() {
    let (dir, layout, image) = layout(good(), |_| {});
    let registry = DockerRegistry::plain();
    let there = hasty_client().open(&registry.name("web:v1")).unwrap();
    copy_image(&there, &layout, &image, &[]).unwrap();
    let path = |name: &str| dir.path().with_extension(name);
    for (name, format) in [("oci.tar", Format::Oci), ("docker.tar", Format::Docker)] {
        let writer = Writer::create(&path(name), format).unwrap();
        copy_image(&writer, &layout, &image, &[]).unwrap();
        writer.finish().unwrap();
    }
    let (oci, docker) =
        (OciArchive::open(path("oci.tar")).unwrap(), DockerArchive::open(path("docker.tar")).unwrap());
    let places: [&dyn Store; 4] = [&layout, &there, &oci, &docker];
    for place in places {
        let report = proven(place);
        assert_eq!(problems(&report), "", "{:?}", place.medium());
        assert_eq!((report.images.len(), report.images[0].layers), (1, 3));
        assert_eq!(report.images[0].platform, "linux/amd64");
    }
    // What has no manifest is given one where that is needed, and is good there.
    let to = Layout::open_or_create(path("to")).unwrap();
    let read = docker.read_image().unwrap().unwrap();
    let converted = convert_image(&to, &docker, &read, &[], 2).unwrap();
    assert_eq!(problems(&proven(&to)), "");
    assert_eq!(converted.config, image.config);
    assert!(converted.layers.iter().all(|layer| layer.media_type == media_type::OCI_LAYER_GZIP));
    assert_eq!(to.read_image().unwrap().unwrap().manifest_digest, converted.manifest_digest);
    std::fs::remove_dir_all(path("to")).unwrap();
    for name in ["oci.tar", "docker.tar"] {
        std::fs::remove_file(path(name)).unwrap();
    }
    assert!(prove(&Layout::open(path("absent"))).unwrap().is_none());
}

#[test]
fn an_index_is_proven_with_all_its_images() {
    let dir = tempfile::tempdir().unwrap();
    let from = Layout::open_or_create(dir.path().join("from")).unwrap();
    let images = ["amd64", "arm64"].map(|architecture| {
        let mut image = Image::empty("linux", architecture);
        for (blob, layer) in [tar("/shared", Compression::Gzip), tar(architecture, Compression::Gzip)] {
            put_blob(&from, &blob);
            image.append(layer);
        }
        image.encode().unwrap()
    });
    let digest = from.put_images(&images, &["all".to_owned()]).unwrap();
    let from = from.tagged("all");
    let tree = from.read_tree().unwrap().unwrap();
    // Through a registry, which is what multi-platform images are for.
    let registry = DockerRegistry::plain();
    let there = hasty_client().open(&registry.name("web:all")).unwrap();
    copy_tree(&there, &from, &tree, &[]).unwrap();
    let back = there.read_tree().unwrap().unwrap();
    assert_eq!((back.documents.last().unwrap().0.digest, &back.blobs), (digest, &tree.blobs));
    let places: [&dyn Store; 2] = [&from, &there];
    for place in places {
        let report = proven(place);
        assert_eq!(problems(&report), "");
        let platforms: Vec<&str> = report.images.iter().map(|image| &*image.platform).collect();
        assert_eq!(platforms, ["linux/amd64", "linux/arm64"]);
    }
    // A layer of one image is gone.
    std::fs::remove_file(from.blob_path(&images[1].layers[1].digest)).unwrap();
    let report = proven(&from);
    assert!(
        problems(&report).starts_with(&format!("Error layer {}: it is absent", images[1].layers[1].digest))
    );
    assert!(!report.is_good());
    assert_eq!(registry.open_uploads("web"), 0);
    let seen = run(
        "skopeo",
        &["inspect", "--raw", "--tls-verify=false", &format!("docker://{}", registry.name("web:all"))],
    );
    assert_eq!(Digest::of(seen.as_bytes()), digest);
}

/// Docker's kind of index, in every place that has indexes.
#[test]
fn dockers_lists_are_as_good_as_indexes() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let from = Layout::open_or_create(path("from")).unwrap();
    let images = ["amd64", "arm64"].map(|architecture| {
        let mut image = Image::empty("linux", architecture);
        let (blob, layer) = tar(architecture, Compression::Gzip);
        put_blob(&from, &blob);
        image.append(layer);
        image.encode().unwrap()
    });
    from.put_images(&images, &["all".to_owned()]).unwrap();
    let registry = DockerRegistry::plain();
    let (source, target) =
        (format!("oci:{}:all", path("from").display()), format!("docker://{}", registry.name("list:1")));
    run("skopeo", &["copy", "-q", "--all", "--format=v2s2", "--dest-tls-verify=false", &source, &target]);
    let there = hasty_client().open(&registry.name("list:1")).unwrap();
    let tree = there.read_tree().unwrap().unwrap();
    let (root, _) = tree.documents.last().unwrap();
    assert_eq!(root.media_type, media_type::DOCKER_INDEX);
    let layout = Layout::open_or_create(path("layout")).unwrap();
    copy_tree(&layout, &there, &tree, &[]).unwrap();
    let writer = Writer::create(&path("a.tar"), Format::Oci).unwrap();
    copy_tree(&writer, &layout, &layout.read_tree().unwrap().unwrap(), &[]).unwrap();
    writer.finish().unwrap();
    let archive = OciArchive::open(path("a.tar")).unwrap();
    let again = hasty_client().open(&registry.name("list:2")).unwrap();
    copy_tree(&again, &archive, &archive.read_tree().unwrap().unwrap(), &[]).unwrap();
    for image in &images {
        let platform = &image.platform;
        let places: [Box<dyn Store>; 4] = [
            Box::new(there.clone().for_platform(platform.clone())),
            Box::new(layout.clone().for_platform(platform.clone())),
            Box::new(archive.clone().for_platform(platform.clone())),
            Box::new(again.clone().for_platform(platform.clone())),
        ];
        for place in places {
            let found = place.read_image().unwrap().unwrap();
            assert_eq!(found.image.media_type(), media_type::DOCKER_MANIFEST, "{:?}", place.medium());
            assert_eq!(found.image.config().architecture(), platform.architecture, "{:?}", place.medium());
            assert_eq!(place.root().unwrap().unwrap().digest, root.digest, "{:?}", place.medium());
            let report = proven(&*place);
            assert_eq!((problems(&report), report.images.len()), (String::new(), 2), "{:?}", place.medium());
        }
    }
}

#[test]
fn what_is_listed_beside_images_goes_with_them_and_is_no_image() {
    let (dir, layout, image) = layout(good(), |_| {});
    let statement = put_blob(&layout, b"{\"predicate\":{}}");
    let statement = Descriptor { media_type: "application/vnd.in-toto+json".to_owned(), ..statement };
    let config = put_blob(&layout, b"{}");
    let config = Descriptor { media_type: media_type::OCI_CONFIG.to_owned(), ..config };
    let mut attestation = Manifest::new(media_type::OCI_MANIFEST, config.clone());
    attestation.layers.push(statement.clone());
    let attestation = attestation.encode().unwrap();
    let mut entry = Descriptor::of(media_type::OCI_MANIFEST, &attestation);
    entry.platform = Some(Platform::new("unknown", "unknown"));
    let first = Descriptor { platform: Some(image.platform.clone()), ..image.manifest_descriptor() };
    let mut index = Index::default();
    index.manifests = vec![first.clone(), entry.clone()];
    let index = index.encode().unwrap();
    let root = Descriptor::of(media_type::OCI_INDEX, &index);
    let blobs =
        image.layers.iter().cloned().chain([image.config_descriptor.clone(), statement.clone(), config]);
    let tree = Tree {
        documents: vec![(first, image.manifest.clone()), (entry, attestation), (root, index)],
        blobs: blobs.collect(),
    };
    layout.put_tree(&tree, &["all".to_owned()]).unwrap();
    let registry = DockerRegistry::plain();
    let there = hasty_client().open(&registry.name("web:all")).unwrap();
    copy_tree(&there, &layout.clone().tagged("all"), &tree, &[]).unwrap();
    let back = Layout::open_or_create(dir.path().join("back")).unwrap().tagged("all");
    copy_tree(&back, &there, &there.read_tree().unwrap().unwrap(), &[]).unwrap();
    let report = proven(&back);
    assert_eq!((problems(&report), report.images.len()), (String::new(), 1));
    assert_eq!(back.read_image().unwrap().unwrap().manifest_digest, image.manifest_digest);
    std::fs::write(back.blob_path(&statement.digest), "forged").unwrap();
    assert!(!proven(&back).is_good());
}

#[test]
fn every_fault_has_its_finding() {
    type Damage = fn(&Layout, &Encoded);
    let damages: [(&str, Damage); 6] = [
        ("it is absent", |layout, image| {
            std::fs::remove_file(layout.blob_path(&image.layers[0].digest)).unwrap();
        }),
        ("expected", |layout, image| {
            std::fs::write(layout.blob_path(&image.layers[0].digest), "short").unwrap();
        }),
        ("have the digest", |layout, image| flip(layout, &image.layers[0], 60)),
        ("have the digest", |layout, image| flip(layout, &image.layers[1], 700)),
        ("found sha256", |layout, image| flip(layout, &image.config_descriptor, 20)),
        ("found sha256", |layout, image| flip(layout, &image.manifest_descriptor(), 20)),
    ];
    for (expected, damage) in damages {
        let (_dir, layout, image) = layout(good(), |_| {});
        damage(&layout, &image);
        let report = proven(&layout);
        assert!(!report.is_good() && problems(&report).contains(expected), "{expected}: {report:?}");
        assert_eq!(report.findings.len(), 1, "{report:?}");
    }
}

fn flip(layout: &Layout, blob: &Descriptor, at: usize) {
    let path = layout.blob_path(&blob.digest);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[at] ^= 1;
    std::fs::write(&path, bytes).unwrap();
}

#[test]
fn images_that_never_were_right_are_found_out() {
    let wrong_diff_id = || {
        let (blob, mut layer) = tar("/one", Compression::Gzip);
        layer.diff_id = Digest::of(b"other");
        (blob, layer)
    };
    let wrong_type = || {
        let (blob, mut layer) = tar("/one", Compression::None);
        layer.descriptor.media_type = media_type::OCI_LAYER_GZIP.to_owned();
        (blob, layer)
    };
    let of_bytes = |blob: Vec<u8>| {
        let descriptor = Descriptor::of(media_type::OCI_LAYER, &blob);
        let diff_id = descriptor.digest;
        (blob, Layer { descriptor, diff_id, history: None })
    };
    let mut hostile = TarWriter::new(Vec::new());
    for i in 0..30 {
        hostile.file(format!("../../etc/{i}"), 0o644, Owner::ROOT, 1, &mut &b"x"[..]).unwrap();
    }
    let hostile = hostile.finish().unwrap();
    for (layers, severity, expected) in [
        (vec![wrong_diff_id()], Severity::Error, "the configuration says"),
        (vec![wrong_type()], Severity::Error, "its compression is none"),
        (vec![of_bytes(hostile.clone())], Severity::Error, "\"../../etc/19\" would be refused"),
        (vec![of_bytes(hostile)], Severity::Error, "10 more of its entries"),
        (
            vec![of_bytes(b"no archive, and long enough to be looked at as one".repeat(20))],
            Severity::Error,
            "cannot read the layer",
        ),
        (vec![of_bytes(b"\x28\xb5\x2f\xfd packed".to_vec())], Severity::Error, "cannot read the layer"),
        (vec![of_bytes(b"\xfd7zXZ\0 packed".to_vec())], Severity::Warning, "xz compression is not supported"),
    ] {
        let (_dir, layout, _) = layout(layers, |_| {});
        let report = proven(&layout);
        let found = report.findings.iter().any(|f| f.severity == severity && f.problem.contains(expected));
        assert!(found, "{expected}: {report:?}");
    }
    let (_dir, nowhere, _) = layout(good(), |image| image.config_mut().set_os(""));
    assert!(problems(&proven(&nowhere)).contains("it has no os"));
}
