//! Images in archives, as this crate and as others write and read them.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use strata_layer::{Compression, Content, GeneratedEntry, Owner, Source, TarWriter, pack};
use strata_oci::{Descriptor, Digest, Encoded, Image, Layer, Platform, media_type};
use strata_store::archive::{DockerArchive, Format, OciArchive, Writer};
use strata_store::{Copied, Layout, Store, StoreError, Tree, copy_image, copy_tree};
use support::{chain, image_of, layer_of, put_blob, read_blob, run};

/// A layer of one file, and its diffID.
fn layer(name: &str, compression: Compression) -> (Vec<u8>, Layer) {
    let content = Content::Bytes(name.repeat(5000).into_bytes());
    let entry = GeneratedEntry { name: name.to_owned(), mode: 0o644, owner: Owner::ROOT, content };
    let mut blob = Vec::new();
    let packed = pack(&Source::Generated(vec![entry]), compression, 1, &mut blob).unwrap();
    let kind = compression.media_type(strata_oci::Family::Oci);
    let descriptor = Descriptor::new(kind, packed.digest, packed.size);
    (blob, Layer { descriptor, diff_id: packed.diff_id, history: None })
}

/// A layout with an image of real layers, one of them plain.
fn layout(dir: &Path, architecture: &str, tag: &str) -> Layout {
    let layout = Layout::open_or_create(dir).unwrap();
    let mut image = Image::empty("linux", architecture);
    for (name, compression) in
        [("/one", Compression::Gzip), ("/two", Compression::None), (architecture, Compression::Gzip)]
    {
        let (blob, layer) = layer(name, compression);
        put_blob(&layout, &blob);
        image.append(layer);
    }
    layout.put_image(&image.encode().unwrap(), &[tag.to_owned()]).unwrap();
    layout.tagged(tag)
}

fn write(from: &dyn Store, path: &Path, format: Format, name: &str) -> Encoded {
    let image = from.read_image().unwrap().unwrap().encoded();
    let archive = Writer::create(path, format).unwrap().named(name.parse().unwrap());
    copy_image(&archive, from, &image, &[]).unwrap();
    assert!(!path.exists(), "an archive is visible before it is whole");
    archive.finish().unwrap();
    image
}

struct Bench {
    dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn spec(&self, kind: &str, name: &str) -> String {
        format!("{kind}:{}", self.path(name).display())
    }

    /// An archive of these members.
    fn archive(&self, name: &str, members: &[(&str, &[u8])]) -> PathBuf {
        let mut tar = TarWriter::new(Vec::new());
        for (name, bytes) in members {
            match name.split_once(" -> ") {
                Some((link, target)) => tar.symlink(link, target, 0o777, Owner::ROOT).unwrap(),
                None => tar.file(name, 0o644, Owner::ROOT, bytes.len() as u64, &mut &**bytes).unwrap(),
            }
        }
        std::fs::write(self.path(name), tar.finish().unwrap()).unwrap();
        self.path(name)
    }
}

fn skopeo(args: &[&str]) -> String {
    run("skopeo", &[&["--insecure-policy"], args].concat())
}

#[test]
fn an_image_comes_out_of_an_oci_archive_as_it_went_in() {
    let bench = Bench::new();
    let layout = layout(&bench.path("layout"), "amd64", "v1");
    let path = bench.path("a.tar");
    write(&layout, &path, Format::Oci, "example.com/team/web:v1");
    let archive = OciArchive::open(&path).unwrap();
    let image = archive.read_image().unwrap().unwrap();
    assert_eq!(image, layout.read_image().unwrap().unwrap());
    assert_eq!(archive.names(), ["v1"]);
    for layer in image.image.layers() {
        assert_eq!(read_blob(&archive, &layer.descriptor), read_blob(&layout, &layer.descriptor));
        let longer = Descriptor { size: layer.descriptor.size + 1, ..layer.descriptor.clone() };
        assert!(matches!(archive.open_blob(&longer), Err(StoreError::Size { .. })));
        assert!(!archive.has_blob(&longer.digest, longer.size).unwrap());
    }
    assert!(archive.open_blob(&layer_of(b"absent")).unwrap().is_none());
    for name in ["v1", "example.com/team/web:v1"] {
        assert!(OciArchive::open(&path).unwrap().tagged(name).is_ok(), "{name}");
    }
    let error = OciArchive::open(&path).unwrap().tagged("v2").unwrap_err();
    assert!(matches!(&error, StoreError::NoSuchName { names, .. } if *names == ["v1"]), "{error}");
    assert!(matches!(archive.begin_blob().err(), Some(StoreError::ReadOnly { .. })));
}

#[test]
fn docker_archives_have_plain_layers_and_the_same_configuration() {
    let bench = Bench::new();
    let layout = layout(&bench.path("layout"), "amd64", "v1");
    let image = write(&layout, &bench.path("a.tar"), Format::Docker, "web:v1");
    let archive = DockerArchive::open(bench.path("a.tar")).unwrap();
    assert_eq!(archive.names(), ["docker.io/library/web:v1"]);
    let found = archive.read_image().unwrap().unwrap();
    assert_eq!(found.config, image.config);
    let before = layout.read_image().unwrap().unwrap();
    for (layer, before) in found.image.layers().iter().zip(before.image.layers()) {
        assert_eq!((layer.diff_id, layer.descriptor.digest), (before.diff_id, before.diff_id));
        assert_eq!(Digest::of(&read_blob(&archive, &layer.descriptor)), layer.diff_id);
    }
    for (name, is_there) in
        [("web:v1", true), ("docker.io/library/web:v1", true), ("web", false), ("other:v1", false)]
    {
        assert_eq!(DockerArchive::open(bench.path("a.tar")).unwrap().named(name).is_ok(), is_there, "{name}");
    }
}

#[test]
fn equal_images_make_equal_archives_whatever_the_way() {
    let bench = Bench::new();
    let layout = layout(&bench.path("layout"), "amd64", "latest");
    for format in [Format::Oci, Format::Docker] {
        write(&layout, &bench.path("one.tar"), format, "web");
        let bytes = std::fs::read(bench.path("one.tar")).unwrap();
        std::fs::remove_file(bench.path("one.tar")).unwrap();
        let pipe = Pipe::default();
        let writer = Writer::stream(pipe.clone(), "a pipe", format).unwrap().named("web".parse().unwrap());
        let image = layout.read_image().unwrap().unwrap();
        // As a build does it: blobs whose size is known at their end only.
        for layer in image.image.layers() {
            let mut sink = writer.begin_blob().unwrap();
            sink.write_all(&read_blob(&layout, &layer.descriptor)).unwrap();
            sink.commit(&layer.descriptor.digest, layer.descriptor.size).unwrap();
            let again = writer.copy_blob_from(&layout, &layer.descriptor).unwrap();
            assert_eq!(again, Copied::Present);
        }
        writer.put_image(&image.encoded(), &[]).unwrap();
        writer.finish().unwrap();
        assert!(*pipe.0.lock().unwrap() == bytes, "{format:?}");
    }
}

#[derive(Clone, Default)]
struct Pipe(Arc<Mutex<Vec<u8>>>);

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn what_is_wrong_is_not_written() {
    let bench = Bench::new();
    for format in [Format::Oci, Format::Docker] {
        let path = bench.path("a.tar");
        std::fs::write(&path, "before").unwrap();
        let writer = Writer::create(&path, format).unwrap();
        let mut sink = writer.begin_blob().unwrap();
        sink.write_all(b"bytes").unwrap();
        let error = sink.commit(&Digest::of(b"other"), 5).unwrap_err();
        assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
        let sparse = image_of(&[b"absent"], "amd64").encode().unwrap();
        assert!(matches!(writer.put_image(&sparse, &[]), Err(StoreError::Missing { .. })));
        assert!(matches!(writer.read_image(), Err(StoreError::WriteOnly { .. })));
        // A source that lies breaks the archive.
        let lying = bench.archive("lying.tar", &lying_layout());
        let lying = OciArchive::open(lying).unwrap();
        let image = lying.read_image().unwrap().unwrap();
        let error = copy_image(&writer, &lying, &image.encoded(), &[]).unwrap_err();
        assert!(chain(&error).contains("have the digest"), "{}", chain(&error));
        assert!(matches!(writer.finish(), Err(StoreError::Broken { .. })));
        assert_eq!(std::fs::read(&path).unwrap(), b"before");
        assert_eq!(std::fs::read_dir(bench.dir.path()).unwrap().count(), 2);
    }
}

/// The members of a layout whose only layer has other bytes than it says.
fn lying_layout() -> Vec<(&'static str, &'static [u8])> {
    let image = image_of(&[b"truth"], "amd64").encode().unwrap();
    let name = |digest: &Digest| -> &'static str { format!("blobs/sha256/{}", digest.hex()).leak() };
    let index = serde_json::json!({
        "schemaVersion": 2,
        "manifests": [{
            "mediaType": image.media_type,
            "size": image.manifest.len(),
            "digest": image.manifest_digest.to_string(),
        }],
    });
    vec![
        ("index.json", index.to_string().leak().as_bytes()),
        (name(&image.manifest_digest), image.manifest.leak()),
        (name(&image.config_digest), image.config.leak()),
        (name(&image.layers[0].digest), b"lies!"),
    ]
}

#[test]
fn an_index_goes_through_an_archive_with_its_digest() {
    let bench = Bench::new();
    let from = Layout::open_or_create(bench.path("from")).unwrap();
    let images = ["amd64", "s390x"].map(|architecture| {
        let layers = [b"shared", architecture.as_bytes()];
        layers.iter().for_each(|bytes| drop(put_blob(&from, bytes)));
        image_of(&layers, architecture).encode().unwrap()
    });
    let digest = from.put_images(&images, &["all".to_owned()]).unwrap();
    let from = from.tagged("all");
    let tree = from.read_tree().unwrap().unwrap();
    assert_eq!(tree.documents.last().unwrap().0.digest, digest);
    let path = bench.path("a.tar");
    let writer = Writer::create(&path, Format::Oci).unwrap();
    copy_tree(&writer, &from, &tree, &["all".to_owned()]).unwrap();
    writer.finish().unwrap();
    let archive = OciArchive::open(&path).unwrap();
    assert_eq!(archive.read_tree().unwrap().unwrap(), tree);
    for (image, architecture) in images.iter().zip(["amd64", "s390x"]) {
        let archive = archive.clone().for_platform(Platform::new("linux", architecture));
        assert_eq!(archive.read_image().unwrap().unwrap().manifest_digest, image.manifest_digest);
    }
    // Back into a layout, and as seen by another program.
    let to = Layout::open_or_create(bench.path("to")).unwrap().tagged("all");
    copy_tree(&to, &archive, &tree, &[]).unwrap();
    assert_eq!(to.read_tree().unwrap().unwrap(), tree);
    let seen = skopeo(&["inspect", "--raw", &format!("{}:all", bench.spec("oci-archive", "a.tar"))]);
    assert_eq!(Digest::of(seen.as_bytes()), digest);
    let docker = Writer::create(&bench.path("b.tar"), Format::Docker).unwrap();
    assert!(matches!(copy_tree(&docker, &from, &tree, &[]), Err(StoreError::NoIndexes)));
}

/// An index that names another `width` times, on `depth` levels; and the number of its blobs.
fn nested(depth: usize, width: usize) -> Vec<(String, Vec<u8>)> {
    let mut blobs = Vec::new();
    let mut index = r#"{"schemaVersion":2,"manifests":[]}"#.to_owned();
    for _ in 0..depth {
        let descriptor = Descriptor::of(media_type::OCI_INDEX, index.as_bytes());
        blobs.push((format!("blobs/sha256/{}", descriptor.digest.hex()), index.into_bytes()));
        let entry = serde_json::to_string(&descriptor).unwrap();
        index = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, vec![entry; width].join(","));
    }
    blobs.push(("index.json".to_owned(), index.into_bytes()));
    blobs
}

#[test]
fn indexes_that_repeat_themselves_take_no_time() {
    let bench = Bench::new();
    for (depth, is_refused) in [(6, false), (20, true)] {
        let members = nested(depth, 1000);
        let members: Vec<(&str, &[u8])> =
            members.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
        let archive = OciArchive::open(bench.archive("a.tar", &members)).unwrap();
        match archive.read_image() {
            Err(error) => assert!(is_refused && matches!(error, StoreError::Nesting { .. }), "{error}"),
            Ok(found) => assert!(!is_refused && found.is_none()),
        }
        assert_eq!(archive.read_tree().is_err(), is_refused);
    }
}

#[test]
fn skopeo_reads_what_is_written_here() {
    let bench = Bench::new();
    let layout = layout(&bench.path("layout"), "amd64", "v1");
    let image = write(&layout, &bench.path("o.tar"), Format::Oci, "web:v1");
    write(&layout, &bench.path("d.tar"), Format::Docker, "web:v1");
    for (source, target) in [
        (format!("{}:v1", bench.spec("oci-archive", "o.tar")), "from-oci"),
        (bench.spec("docker-archive", "o.tar"), "from-both"),
        (format!("{}:web:v1", bench.spec("docker-archive", "d.tar")), "from-docker"),
    ] {
        skopeo(&["copy", "--preserve-digests", &source, &format!("oci:{}:v1", bench.path(target).display())]);
        let found = Layout::open(bench.path(target)).read_image().unwrap().unwrap();
        assert_eq!(found.config, image.config, "{target}");
        if target == "from-oci" {
            assert_eq!(found.manifest_digest, image.manifest_digest);
        }
    }
    run("umoci", &["ls", "--layout", bench.path("from-oci").to_str().unwrap()]);
}

#[test]
fn what_skopeo_writes_is_read_here() {
    let bench = Bench::new();
    let layout = layout(&bench.path("layout"), "amd64", "v1");
    let before = layout.read_image().unwrap().unwrap();
    let source = format!("{}:v1", bench.spec("oci", "layout"));
    skopeo(&["copy", "--preserve-digests", &source, &format!("{}:v1", bench.spec("oci-archive", "o.tar"))]);
    let archive = OciArchive::open(bench.path("o.tar")).unwrap().tagged("v1").unwrap();
    assert!(archive.read_image().unwrap().unwrap() == before);
    skopeo(&["copy", &source, &format!("{}:web:v1", bench.spec("docker-archive", "d.tar"))]);
    let archive = DockerArchive::open(bench.path("d.tar")).unwrap().named("web:v1").unwrap();
    let found = archive.read_image().unwrap().unwrap();
    let diff_ids = |image: &Image| image.layers().iter().map(|layer| layer.diff_id).collect::<Vec<_>>();
    assert_eq!(diff_ids(&found.image), diff_ids(&before.image));
    for layer in found.image.layers() {
        read_blob(&archive, &layer.descriptor);
    }
    // From there to a layout of our own, which others take.
    let to = Layout::open_or_create(bench.path("to")).unwrap();
    copy_image(&to, &archive, &found.encoded(), &["v1".to_owned()]).unwrap();
    skopeo(&["copy", &format!("{}:v1", bench.spec("oci", "to")), &bench.spec("dir", "plain")]);
}

#[test]
fn layers_may_be_links_or_compressed_as_some_programs_write_them() {
    let bench = Bench::new();
    let (packed, layer) = layer("/one", Compression::Gzip);
    let mut plain = Vec::new();
    strata_layer::open_layer(std::io::Cursor::new(packed.clone())).unwrap().read_to_end(&mut plain).unwrap();
    let ids = [layer.diff_id.to_string(), layer.diff_id.to_string()];
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": ids},
    });
    let config = config.to_string();
    let manifest = br#"[{"Config":"c.json","RepoTags":null,"Layers":["a/layer.tar","b/layer.tar"]}]"#;
    for (name, bytes) in [("plain", &plain), ("packed", &packed), ("zstd", &support::zstd(&plain))] {
        let path = bench.archive(
            name,
            &[
                ("c.json", config.as_bytes()),
                ("b/layer.tar", bytes),
                ("a/layer.tar -> ../b/layer.tar", b""),
                ("manifest.json", manifest),
            ],
        );
        let archive = DockerArchive::open(path).unwrap();
        let image = archive.read_image().unwrap().unwrap();
        for layer in image.image.layers() {
            assert_eq!(layer.descriptor.size, plain.len() as u64, "{name}");
            assert_eq!(read_blob(&archive, &layer.descriptor), plain, "{name}");
        }
    }
}

#[test]
fn a_broken_image_hides_no_other_and_no_report() {
    let bench = Bench::new();
    let config = |architecture: &str| {
        let config = serde_json::json!({
            "architecture": architecture, "os": "linux", "rootfs": {"type": "layers", "diff_ids": []},
        });
        config.to_string()
    };
    let good = config(strata_store::host_architecture());
    let list = |names: &[&str]| {
        let images = names.iter().map(
            |name| serde_json::json!({"Config": name, "RepoTags": [format!("web:{name}")], "Layers": []}),
        );
        serde_json::Value::Array(images.collect()).to_string()
    };
    let three = list(&["broken", "good", "missing"]);
    for broken in ["{", "[]", ""] {
        let members: &[(&str, &[u8])] =
            &[("manifest.json", three.as_bytes()), ("broken", broken.as_bytes()), ("good", good.as_bytes())];
        let path = bench.archive("a.tar", members);
        let archive = DockerArchive::open(&path).unwrap();
        let image = archive.read_image().unwrap().unwrap();
        assert_eq!(image.config, good.as_bytes());
        assert_eq!(archive.referrers(&image.manifest_digest, None).unwrap(), []);
        assert!(archive.open_blob(&layer_of(b"absent")).unwrap().is_none());
        let error =
            DockerArchive::open(&path).unwrap().named("web:broken").unwrap().read_image().unwrap_err();
        assert!(chain(&error).contains("cannot"), "{}", chain(&error));
    }
    // Whether it is for this platform nobody knows.
    let (other, two) = (config("other"), list(&["broken", "good"]));
    let members: &[(&str, &[u8])] =
        &[("manifest.json", two.as_bytes()), ("broken", b"{"), ("good", other.as_bytes())];
    let error = DockerArchive::open(bench.archive("a.tar", members)).unwrap().read_image().unwrap_err();
    assert!(matches!(error, StoreError::Image { .. }), "{}", chain(&error));
}

#[test]
fn what_does_not_fit_beside_an_image_is_refused_and_hurts_no_archive() {
    let bench = Bench::new();
    let layout = layout(&bench.path("layout"), "amd64", "v1");
    let image = layout.read_image().unwrap().unwrap().encoded();
    let subject = image.manifest_descriptor();
    let attach = |bytes: &[u8]| {
        layout.attach(&subject, "text/kind", "text/kind", bytes, &std::collections::BTreeMap::new()).unwrap()
    };
    let [large, small] = [attach(&vec![b'x'; 25 << 20]), attach(b"small")];
    let halves = [put_blob(&layout, &vec![b'a'; 20 << 20]), put_blob(&layout, &vec![b'b'; 20 << 20])];
    let mut two = strata_oci::Manifest::new(strata_oci::media_type::OCI_MANIFEST, put_blob(&layout, b"{}"));
    two.subject = Some(subject.clone());
    two.artifact_type = Some("text/kind".to_owned());
    two.layers = halves.map(|half| Descriptor { media_type: "text/kind".to_owned(), ..half }).to_vec();
    let bytes = two.encode().unwrap();
    let root = Descriptor::of(strata_oci::media_type::OCI_MANIFEST, &bytes);
    let both = Tree { documents: vec![(root, bytes)], blobs: two.layers.clone() };
    let one = Tree { blobs: vec![two.layers[0].clone()], ..both.clone() };
    let trees = strata_store::read_referrers(&layout, [subject.digest]).unwrap();
    let tree = |digest: &Digest| {
        trees.iter().find(|tree| tree.documents.last().unwrap().0.digest == *digest).unwrap().clone()
    };

    let path = bench.path("a.tar");
    let archive = Writer::create(&path, Format::Docker).unwrap().named("web:v1".parse().unwrap());
    copy_image(&archive, &layout, &image, &[]).unwrap();
    let transfer = strata_store::Transfer::new(&archive, &layout);
    for (refused, why) in
        [(both, "it is larger than"), (one, "one file"), (tree(&large), "it is larger than")]
    {
        let error = transfer.referrers(&[refused]).unwrap_err();
        assert!(chain(&error).contains(why), "{why}: {}", chain(&error));
    }
    transfer.referrers(&[tree(&small)]).unwrap();
    archive.finish().unwrap();
    let archive = DockerArchive::open(&path).unwrap();
    let found = archive.read_image().unwrap().unwrap();
    let beside = archive.referrers(&found.manifest_digest, None).unwrap();
    let [entry] = beside.as_slice() else { panic!("{beside:?}") };
    let tree = archive.read_referrer(entry).unwrap().unwrap();
    let file = tree.blobs.iter().find(|blob| blob.media_type == "text/kind").unwrap();
    assert_eq!(read_blob(&archive, file), b"small");
}

#[test]
fn hostile_archives_are_refused_with_a_reason() {
    let bench = Bench::new();
    let huge = vec![b' '; 5 << 20];
    let config = br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]}}"#;
    let one = br#"[{"Config":"c","RepoTags":["a:1"],"Layers":["l"]}]"#;
    let two = br#"[{"Config":"c","RepoTags":["a:1"],"Layers":["l"]},{"Config":"d","RepoTags":["a:2"],"Layers":["l"]}]"#;
    type Case<'a> = (&'a str, Vec<(&'a str, &'a [u8])>);
    let cases: Vec<Case<'_>> = vec![
        ("leaves its directory", vec![("manifest.json", one), ("x/../../y", b"")]),
        ("it comes twice", vec![("manifest.json", one), ("/manifest.json", two)]),
        ("it comes twice", vec![("manifest.json", one), ("./manifest.json", two)]),
        ("it is not there", vec![("index.json", b"{}")]),
        ("it is larger than", vec![("manifest.json", &huge)]),
        ("cannot parse", vec![("manifest.json", b"[{]")]),
        ("cannot use manifest.json", vec![("manifest.json -> c", b""), ("c", one)]),
        ("cannot use c in", vec![("manifest.json", one)]),
        ("cannot use l in", vec![("manifest.json", one), ("c", config)]),
        ("a link out of", vec![("manifest.json", one), ("c", config), ("l -> ../x", b"")]),
        ("a link out of", vec![("manifest.json", one), ("c", config), ("l -> /etc/passwd", b"")]),
        ("too many", vec![("manifest.json", one), ("c", config), ("l -> m", b""), ("m -> l", b"")]),
        ("0 diff ids", vec![("manifest.json", one), ("c", b"{}"), ("l", b"")]),
        ("name one of the tags", vec![("manifest.json", two), ("c", config), ("d", config), ("l", b"")]),
        ("cannot read image", vec![("manifest.json", one), ("c", b"[]"), ("l", b"")]),
    ];
    for (expected, members) in cases {
        let path = bench.archive("hostile.tar", &members);
        let error = DockerArchive::open(path).and_then(|archive| archive.read_image()).unwrap_err();
        assert!(chain(&error).contains(expected), "{expected}: {}", chain(&error));
    }
    // Another layer than the configuration says shows when it is read to its end.
    let path = bench.archive(
        "hostile.tar",
        &[("manifest.json", one), ("c", config), ("l", &layer("/l", Compression::None).0)],
    );
    let archive = DockerArchive::open(path).unwrap();
    let layer = archive.read_image().unwrap().unwrap().image.layers()[0].descriptor.clone();
    let error = archive.open_blob(&layer).unwrap().unwrap().read_to_end(&mut Vec::new()).unwrap_err();
    assert!(error.to_string().contains("have the digest"), "{error}");
    assert_eq!(std::fs::read_dir(bench.dir.path()).unwrap().count(), 1, "something was written");
}

#[test]
fn hostile_layouts_are_refused_with_a_reason() {
    let bench = Bench::new();
    let good = lying_layout();
    let other = [good.as_slice(), &[("oci-layout", &b"{\"imageLayoutVersion\":\"9\"}"[..])]].concat();
    let mut wrong = good.clone();
    wrong[2].1 = b"{}";
    let mut linked = good.clone();
    linked[1] = (format!("{} -> ../../index.json", good[1].0).leak(), b"");
    for (expected, members) in [
        ("layout version", other),
        ("with 2 bytes", wrong),
        ("symbolic link", linked),
        ("cannot find blob", good[..1].to_vec()),
        ("it is not there", good[1..].to_vec()),
    ] {
        let path = bench.archive("hostile.tar", &members);
        let error = OciArchive::open(path).and_then(|archive| archive.read_image()).unwrap_err();
        assert!(chain(&error).contains(expected), "{expected}: {}", chain(&error));
    }
    let path = bench.archive("good.tar", &good);
    for (end, expected) in [(300, "cannot read the archive"), (600, "the archive ends within it")] {
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(bench.path("cut.tar"), &bytes[..end]).unwrap();
        let error = OciArchive::open(bench.path("cut.tar")).unwrap_err();
        assert!(chain(&error).contains(expected), "{expected}: {}", chain(&error));
    }
    run("gzip", &["-k", path.to_str().unwrap()]);
    let error = OciArchive::open(bench.path("good.tar.gz")).unwrap_err();
    assert!(error.hint().unwrap().contains("gunzip"), "{error}");
    assert!(matches!(OciArchive::open(bench.dir.path()), Err(StoreError::NotAFile { .. })));
    assert!(matches!(OciArchive::open(bench.path("absent")), Err(StoreError::Io { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_documents_make_an_archive_panic(
        manifest in r#"\[?\{"(Config|Layers|RepoTags)":(null|\[?"[a-c./]{0,3}"\]?)\}?\]?"#,
        index in r#"\{"schemaVersion":2,"manifests":(null|\[\{[a-z":,0-9]{0,30}\}\])\}"#,
        other in prop::collection::vec(any::<u8>(), 0..600),
    ) {
        let bench = Bench::new();
        let path = bench.archive(
            "a.tar",
            &[("manifest.json", manifest.as_bytes()), ("index.json", index.as_bytes()), ("a", &other)],
        );
        // An image or a reason: either is an answer.
        drop(DockerArchive::open(&path).and_then(|archive| archive.read_image()));
        drop(OciArchive::open(&path).and_then(|archive| archive.read_image()));
    }
}
