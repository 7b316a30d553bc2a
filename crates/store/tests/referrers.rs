//! What is kept beside images: in layouts, in registries that list it, and in those where clients do.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use strata_oci::{Descriptor, Digest, Index, Manifest, media_type};
use strata_store::archive::{Format, OciArchive, Writer};
use strata_store::layout::{Pruned, REF_NAME};
use strata_store::registry::{Offered, Statement};
use strata_store::{Layout, Store, StoreError, Tree, copy_image, copy_referrers, read_referrers};
use support::docker_registry::DockerRegistry;
use support::server::{Received, Reply, Server};
use support::{hasty_client, image_of, put, put_blob, read_blob, run};

const SBOM: &str = "application/vnd.cyclonedx+json";
const NOTE: &str = "text/vnd.note";

fn subject_of(store: &dyn Store) -> Descriptor {
    store.read_image().unwrap().unwrap().encoded().manifest_descriptor()
}

fn attach(store: &dyn Store, subject: &Descriptor, kind: &str, bytes: &[u8]) -> Digest {
    let annotations = BTreeMap::from([("made".to_owned(), "here".to_owned())]);
    store.attach(subject, kind, "text/plain", bytes, &annotations).unwrap()
}

fn listed(store: &dyn Store, subject: &Descriptor, kind: Option<&str>) -> Vec<Digest> {
    let found = store.referrers(&subject.digest, kind).unwrap();
    found.into_iter().map(|entry| entry.digest).collect()
}

/// The digests of all blobs of a layout.
fn blobs(dir: &Path) -> Vec<Digest> {
    let names = std::fs::read_dir(dir.join("blobs/sha256")).unwrap();
    names.map(|name| Digest::from_hex(name.unwrap().file_name().to_str().unwrap()).unwrap()).collect()
}

fn index_of(dir: &Path) -> Index {
    Index::parse(&std::fs::read(dir.join("index.json")).unwrap(), None).unwrap()
}

/// What holds wherever things can be attached.
fn check_contract(store: &dyn Store) {
    let pushed = put(store, &[b"layer"], &[]);
    let subject = subject_of(store);
    assert_eq!(listed(store, &subject, None), []);
    let sbom = attach(store, &subject, SBOM, b"{}");
    let note = attach(store, &subject, NOTE, b"good");
    assert_eq!(attach(store, &subject, NOTE, b"good"), note);
    assert_eq!(listed(store, &subject, None), [sbom, note]);
    assert_eq!(listed(store, &subject, Some(NOTE)), [note]);
    assert_eq!(listed(store, &subject, Some("text/other")), []);
    let entry = store.referrers(&subject.digest, Some(SBOM)).unwrap().remove(0);
    assert_eq!(entry.artifact_type.as_deref(), Some(SBOM));
    assert_eq!(entry.annotations["made"], "here");
    assert_eq!(read_blob(store, &Descriptor::of("text/plain", b"good")), b"good");
    // An artifact may have artifacts, which are not those of the image.
    let signature = attach(store, &entry, "text/signature", b"signed");
    assert_eq!(listed(store, &entry, None), [signature]);
    assert_eq!(listed(store, &subject, None), [sbom, note]);
    assert_eq!(store.read_image().unwrap().unwrap().image, pushed);
}

#[test]
fn layouts_keep_artifacts_beside_images() {
    let dir = tempfile::tempdir().unwrap();
    check_contract(&Layout::open_or_create(dir.path()).unwrap());
    let named = format!("oci:{}:latest", dir.path().display());
    let digest = subject_of(&Layout::open(dir.path())).digest.to_string();
    assert!(run("skopeo", &["inspect", &named]).contains(&digest));
    assert_eq!(Layout::open(dir.path()).prune().unwrap(), Pruned::Removed(vec![]));
}

#[test]
fn registries_without_lists_have_them_under_a_tag() {
    let registry = DockerRegistry::plain();
    let image = hasty_client().open(&registry.name("team/app:v1")).unwrap();
    check_contract(&image);
    let subject = subject_of(&image);
    let tag = subject.digest.to_string().replace(':', "-");
    let name = format!("docker://{}", registry.name(&format!("team/app:{tag}")));
    let raw = run("skopeo", &["inspect", "--raw", "--tls-verify=false", &name]);
    let index = Index::parse(raw.as_bytes(), Some(media_type::OCI_INDEX)).unwrap();
    assert_eq!(index.manifests.len(), 2);
    let name = format!("docker://{}", registry.name("team/app:v1"));
    let seen = run("skopeo", &["inspect", "--tls-verify=false", &name]);
    assert!(seen.contains(&subject.digest.to_string()), "{seen}");
}

#[test]
fn artifacts_go_with_the_last_name_of_their_image() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::open_or_create(dir.path()).unwrap();
    put(&layout, &[b"old"], &["a", "b"]);
    let subject = subject_of(&layout.clone().tagged("a"));
    let note = attach(&layout, &subject, NOTE, b"good");
    let entry = layout.referrers(&subject.digest, None).unwrap().remove(0);
    let signature = attach(&layout, &entry, NOTE, b"signed");
    // Put again, the image is the same.
    put(&layout, &[b"old"], &["a"]);
    put(&layout, &[b"new"], &["a"]);
    assert_eq!(listed(&layout, &subject, None), [note]);
    assert_eq!(listed(&layout, &entry, None), [signature]);
    put(&layout, &[b"new"], &["b"]);
    assert_eq!(listed(&layout, &subject, None), []);
    assert_eq!(index_of(dir.path()).manifests.len(), 2);
    for gone in [note, signature, Digest::of(b"good"), Digest::of(b"signed"), Digest::of(b"{}")] {
        assert!(!blobs(dir.path()).contains(&gone), "{gone}");
    }
}

#[test]
fn what_another_tool_took_out_of_the_index_takes_its_artifacts_along() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::open_or_create(dir.path()).unwrap();
    put(&layout, &[b"one"], &["a"]);
    put(&layout, &[b"two"], &["b"]);
    let [one, two] = ["a", "b"].map(|tag| subject_of(&layout.clone().tagged(tag)));
    let (gone, kept) = (attach(&layout, &one, NOTE, b"one"), attach(&layout, &two, NOTE, b"2"));
    let mut index = index_of(dir.path());
    index.manifests.retain(|entry| entry.digest != one.digest);
    std::fs::write(dir.path().join("index.json"), index.encode().unwrap()).unwrap();
    let Pruned::Removed(removed) = layout.prune().unwrap() else { panic!("something was not understood") };
    assert!(removed.contains(&gone) && removed.contains(&one.digest) && !removed.contains(&kept));
    assert_eq!(listed(&layout, &two, None), [kept]);
    let left: Vec<Digest> = index_of(dir.path()).manifests.iter().map(|entry| entry.digest).collect();
    assert_eq!(left, [two.digest, kept]);
}

#[test]
fn an_artifact_of_nothing_is_refused_by_a_layout_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::open_or_create(dir.path()).unwrap();
    put(&layout, &[b"layer"], &[]);
    let before = (blobs(dir.path()).len(), index_of(dir.path()));
    let absent = Descriptor::of(media_type::OCI_MANIFEST, b"absent");
    let refused = layout.attach(&absent, NOTE, "text/plain", b"note", &BTreeMap::new());
    assert!(matches!(refused, Err(StoreError::Missing { .. })), "{refused:?}");
    assert_eq!((blobs(dir.path()).len(), index_of(dir.path())), before);
}

#[test]
fn an_artifact_gives_itself_no_name() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::open_or_create(dir.path()).unwrap();
    put(&layout, &[b"layer"], &[]);
    let named = BTreeMap::from([(REF_NAME.to_owned(), "latest".to_owned())]);
    let subject = subject_of(&layout);
    layout.attach(&subject, NOTE, "text/plain", b"note", &named).unwrap();
    assert_eq!(subject_of(&layout.tagged("latest")), subject);
}

#[test]
fn artifacts_that_are_listed_like_images_are_not_taken_for_them() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::open_or_create(dir.path()).unwrap();
    let pushed = put(&layout, &[b"layer"], &[]);
    attach(&layout, &subject_of(&layout), NOTE, b"note");
    // As tools write it that know of no artifact types.
    let mut index = index_of(dir.path());
    index.manifests.iter_mut().for_each(|entry| entry.artifact_type = None);
    index.manifests.reverse();
    std::fs::write(dir.path().join("index.json"), index.encode().unwrap()).unwrap();
    assert_eq!(layout.read_image().unwrap().unwrap().image, pushed);
    assert_eq!(layout.referrers(&subject_of(&layout).digest, Some(NOTE)).unwrap().len(), 1);
}

#[test]
fn entries_of_another_kind_refer_to_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::open_or_create(dir.path()).unwrap();
    put(&layout, &[b"layer"], &[]);
    let subject = subject_of(&layout);
    let note = attach(&layout, &subject, NOTE, b"note");
    let mut index = index_of(dir.path());
    index.manifests.insert(0, Descriptor::of("text/plain", b"note"));
    index.manifests.insert(0, Descriptor::of(media_type::OCI_MANIFEST, b"absent"));
    std::fs::write(dir.path().join("index.json"), index.encode().unwrap()).unwrap();
    assert_eq!(listed(&layout, &subject, None), [note]);
    // What it names, nobody knows: it may be what the artifact refers to.
    assert_eq!(layout.prune().unwrap(), Pruned::Unclear);
    assert_eq!(listed(&layout, &subject, None), [note]);
}

#[test]
fn images_for_several_platforms_have_artifacts_all_together_and_each() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::open_or_create(dir.path()).unwrap();
    let images = ["amd64", "arm64"].map(|architecture| image_of(&[b"layer"], architecture));
    let encoded = images.map(|image| image.encode().unwrap());
    put_blob(&layout, b"layer");
    let digest = layout.put_images(&encoded, &["v1".to_owned()]).unwrap();
    let tree = layout.read_tree().unwrap().unwrap();
    let root = tree.documents.last().unwrap().0.clone();
    assert_eq!(root.digest, digest);
    let of_all = attach(&layout, &root, NOTE, b"all");
    let of_one = attach(&layout, &encoded[1].manifest_descriptor(), NOTE, b"one");
    assert_eq!(layout.read_tree().unwrap().unwrap(), tree);
    assert_eq!(listed(&layout, &root, None), [of_all]);
    assert_eq!(listed(&layout, &encoded[1].manifest_descriptor(), None), [of_one]);
    put(&layout, &[b"next"], &["v1"]);
    assert_eq!(index_of(dir.path()).manifests.len(), 1);
}

#[test]
fn places_for_images_only_say_so() {
    let dir = tempfile::tempdir().unwrap();
    let writer = Writer::create(&dir.path().join("x.tar"), Format::Oci).unwrap();
    let subject = Descriptor::of(media_type::OCI_MANIFEST, b"image");
    let error = writer.attach(&subject, NOTE, "text/plain", b"note", &BTreeMap::new()).unwrap_err();
    assert!(error.to_string().contains("only OCI layouts and registries"), "{error}");
    assert!(error.hint().is_some());
    assert!(matches!(writer.referrers(&subject.digest, None), Err(StoreError::NoReferrers)));
}

#[test]
fn what_refers_to_an_image_goes_with_it_wherever_there_is_room() {
    let root = tempfile::tempdir().unwrap();
    let registry = DockerRegistry::plain();
    let first = Layout::open_or_create(root.path().join("first")).unwrap();
    put(&first, &[b"layer"], &[]);
    let subject = subject_of(&first);
    let sbom = attach(&first, &subject, SBOM, b"{\"a\": 1}");
    let entry = first.referrers(&subject.digest, None).unwrap().remove(0);
    let signature = attach(&first, &entry, NOTE, b"signed");
    let image = hasty_client().open(&registry.name("team/app:v1")).unwrap();
    take_along(&image, &first, &subject);
    let archive = |from: &dyn Store| {
        let path = root.path().join("x.tar");
        let writer = Writer::create(&path, Format::Oci).unwrap();
        take_along(&writer, from, &subject);
        // Put twice, it is there once.
        copy_referrers(&writer, from, &read_referrers(from, [subject.digest]).unwrap()).unwrap();
        writer.finish().unwrap();
        path
    };
    let bytes = std::fs::read(archive(&image)).unwrap();
    assert!(bytes == std::fs::read(archive(&first)).unwrap());
    let read = OciArchive::open(root.path().join("x.tar")).unwrap().tagged("latest").unwrap();
    assert_eq!(subject_of(&read), subject);
    let last = Layout::open_or_create(root.path().join("last")).unwrap();
    take_along(&last, &read, &subject);
    for store in [&image as &dyn Store, &read, &last] {
        assert_eq!(listed(store, &subject, None), [sbom]);
        assert_eq!(listed(store, &subject, Some(NOTE)), []);
        assert_eq!(listed(store, &entry, None), [signature]);
        assert_eq!(store.referrers(&subject.digest, Some(SBOM)).unwrap(), std::slice::from_ref(&entry));
        assert_eq!(read_blob(store, &Descriptor::of("text/plain", b"signed")), b"signed");
    }
    assert_eq!(last.prune().unwrap(), Pruned::Removed(vec![]));
}

fn take_along(to: &dyn Store, from: &dyn Store, subject: &Descriptor) {
    let referrers = read_referrers(from, [subject.digest]).unwrap();
    copy_image(to, from, &from.read_image().unwrap().unwrap().encoded(), &[]).unwrap();
    copy_referrers(to, from, &referrers).unwrap();
}

#[test]
fn what_refers_to_nothing_here_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let from = Layout::open_or_create(root.path().join("from")).unwrap();
    put(&from, &[b"layer"], &[]);
    attach(&from, &subject_of(&from), NOTE, b"good");
    let referrers = read_referrers(&from, [subject_of(&from).digest]).unwrap();
    let to = Layout::open_or_create(root.path().join("to")).unwrap();
    let writer = Writer::create(&root.path().join("x.tar"), Format::Oci).unwrap();
    for to in [&to as &dyn Store, &writer] {
        let error = copy_referrers(to, &from, &referrers).unwrap_err();
        assert!(matches!(error, StoreError::Missing { .. }), "{error}");
    }
    assert_eq!(blobs(&root.path().join("to")), []);
    let manifest = from.read_image().unwrap().unwrap().manifest;
    let lone = Tree { documents: vec![(subject_of(&from), manifest)], blobs: vec![] };
    for store in [&from as &dyn Store, &writer] {
        assert!(matches!(store.put_referrer(&lone), Err(StoreError::NoSubject { .. })));
    }
    let docker = Writer::create(&root.path().join("y.tar"), Format::Docker).unwrap();
    assert!(matches!(docker.put_referrer(&referrers[0]), Err(StoreError::Missing { .. })));
}

/// Manifests by tag or digest.
type Manifests = Arc<Mutex<HashMap<String, Vec<u8>>>>;

/// A registry without blobs that takes everything; `answer` comes first.
fn registry(answer: impl Fn(&Received, &Manifests) -> Option<Reply> + Send + Sync + 'static) -> Server {
    let manifests = Manifests::default();
    Server::start(move |request| {
        if let Some(reply) = answer(request, &manifests) {
            return reply;
        }
        let tail = request.path.rsplit('/').next().unwrap();
        let mut manifests = manifests.lock().unwrap();
        match (request.method.as_str(), request.path.contains("/manifests/")) {
            (_, _) if request.path == "/v2/" => Reply::status(200),
            ("PUT", true) => {
                manifests.insert(tail.to_owned(), request.body.clone());
                Reply::status(201)
            }
            ("GET" | "HEAD", true) => match manifests.get(tail) {
                Some(bytes) => Reply::ok(bytes).header("Content-Type", media_type::OCI_INDEX),
                None => Reply::error(404, "MANIFEST_UNKNOWN"),
            },
            ("POST", _) => Reply::status(202).header("Location", "/v2/a/blobs/uploads/1"),
            ("PUT", _) => Reply::status(201),
            _ => Reply::error(404, "UNKNOWN"),
        }
    })
}

fn a_list(names: &[&str]) -> Reply {
    let mut index = Index::default();
    for name in names {
        let mut entry = Descriptor::of(media_type::OCI_MANIFEST, name.as_bytes());
        entry.artifact_type = Some((*name).to_owned());
        index.manifests.push(entry);
    }
    Reply::ok(&index.encode().unwrap()).header("Content-Type", media_type::OCI_INDEX)
}

fn image() -> Descriptor {
    Descriptor::of(media_type::OCI_MANIFEST, b"image")
}

#[test]
fn a_registry_that_keeps_the_list_is_left_to_it() {
    let server = registry(|request, _| {
        let is_manifest = request.method == "PUT" && request.path.contains("/manifests/");
        is_manifest.then(|| Reply::status(201).header("OCI-Subject", &image().digest.to_string()))
    });
    let store = hasty_client().open(&server.name("a")).unwrap();
    let digest = attach(&store, &image(), NOTE, b"note");
    let puts: Vec<String> =
        server.lines().into_iter().filter(|line| line.starts_with("PUT /v2/a/manifests/")).collect();
    assert_eq!(puts, [format!("PUT /v2/a/manifests/{digest}")]);
    assert!(server.lines().iter().all(|line| !line.contains("sha256-")));
}

#[test]
fn a_list_of_several_pages_is_read_to_its_end() {
    let server = registry(|request, _| {
        let rest = request.path.strip_prefix(&format!("/v2/a/referrers/{}", image().digest))?;
        Some(match rest {
            "?artifactType=text%2Fa%2Bb" => {
                let next = format!("</v2/a/referrers/{}?page=2>; rel=\"next\"", image().digest);
                a_list(&["text/a+b", "text/other"]).header("Link", &next)
            }
            "?page=2" => a_list(&["text/a+b"]),
            other => panic!("{other}"),
        })
    });
    let store = hasty_client().open(&server.name("a")).unwrap();
    assert_eq!(store.referrers(&image().digest, Some("text/a+b")).unwrap().len(), 2);
}

#[test]
fn a_list_without_end_is_refused() {
    let server = registry(|request, _| {
        let is_list = request.path.contains("/referrers/");
        is_list.then(|| a_list(&["x"]).header("Link", &format!("<{}>; rel=\"next\"", request.path)))
    });
    let store = hasty_client().open(&server.name("a")).unwrap();
    assert!(matches!(store.referrers(&image().digest, None), Err(StoreError::Nesting { .. })));
}

#[test]
fn only_an_answer_that_knows_no_lists_leads_to_the_tag() {
    for (reply, is_good) in [
        (Reply::status(404).body(b"404 page not found"), true),
        (Reply::error(404, "NAME_UNKNOWN"), true),
        (Reply::error(405, "UNSUPPORTED"), true),
        (Reply::ok(b"<html>").header("Content-Type", "text/html"), true),
        (Reply::error(403, "DENIED"), false),
        (Reply::error(500, "BROKEN"), false),
        (Reply::ok(b"{}").header("Content-Type", media_type::OCI_INDEX), false),
    ] {
        let told = reply.clone();
        let server = registry(move |request, _| {
            let tag = image().digest.to_string().replace(':', "-");
            match request.path.as_str() {
                path if path.contains("/referrers/") => Some(told.clone()),
                path if path.ends_with(&tag) => Some(a_list(&["x"])),
                _ => None,
            }
        });
        let store = hasty_client().open(&server.name("a")).unwrap();
        let found = store.referrers(&image().digest, None);
        assert_eq!(found.as_ref().is_ok_and(|found| found.len() == 1), is_good, "{reply:?} {found:?}");
    }
}

#[test]
fn what_somebody_else_undoes_is_done_again_but_not_for_ever() {
    for (undone, is_good) in [(2, true), (100, false)] {
        let left = Mutex::new(undone);
        let server = registry(move |request, manifests| {
            let is_list = request.path.contains("/manifests/sha256-") && request.method == "GET";
            let mut left = left.lock().unwrap();
            if is_list && *left > 0 && !manifests.lock().unwrap().is_empty() {
                *left -= 1;
                return Some(a_list(&["other"]));
            }
            None
        });
        let store = hasty_client().open(&server.name("a")).unwrap();
        let outcome = store.attach(&image(), NOTE, "text/plain", b"note", &BTreeMap::new());
        assert_eq!(outcome.is_ok(), is_good, "{outcome:?}");
        if is_good {
            let digest = outcome.unwrap();
            assert!(listed(&store, &image(), None).contains(&digest));
        } else {
            assert!(matches!(outcome, Err(StoreError::Unlisted { .. })));
        }
    }
}

#[test]
fn a_list_that_is_out_of_date_or_lies_is_taken_for_what_it_is() {
    let (subject, other) = (image(), Descriptor::of(media_type::OCI_MANIFEST, b"another image"));
    let made = |subject: &Descriptor| {
        let mut manifest = Manifest::new(media_type::OCI_MANIFEST, Descriptor::of(NOTE, b"{}"));
        manifest.subject = Some(subject.clone());
        manifest.encode().unwrap()
    };
    let (good, lying) = (made(&subject), made(&other));
    let mut index = Index::default();
    for bytes in [&good[..], &lying, b"gone"] {
        index.manifests.push(Descriptor::of(media_type::OCI_MANIFEST, bytes));
    }
    // It refers to what refers to it.
    index.manifests.push(subject.clone());
    let list = index.encode().unwrap();
    let expected = Digest::of(&good);
    let server = registry(move |request, _| {
        if request.path.contains("/referrers/") {
            return Some(Reply::ok(&list).header("Content-Type", media_type::OCI_INDEX));
        }
        let found =
            [&good, &lying].into_iter().find(|bytes| request.path.ends_with(&Digest::of(bytes).to_string()));
        found.map(|bytes| Reply::ok(bytes).header("Content-Type", media_type::OCI_MANIFEST))
    });
    let store = hasty_client().open(&server.name("app")).unwrap();
    let found = read_referrers(&store, [subject.digest]).unwrap();
    let roots: Vec<Digest> = found.iter().map(|tree| tree.documents.last().unwrap().0.digest).collect();
    assert_eq!(roots, [expected]);
}

fn statement(says: &str) -> Statement {
    Statement {
        media_type: "application/vnd.in-toto+json".into(),
        bytes: format!(r#"{{"_type":"https://in-toto.io/Statement/v1","says":"{says}"}}"#).into_bytes(),
        predicate: "https://slsa.dev/provenance/v1".into(),
    }
}

#[test]
fn statements_are_where_cosign_looks_unless_something_is_there() {
    let registry = DockerRegistry::plain();
    let image = hasty_client().open(&registry.name("team/app:v1")).unwrap();
    put(&image, &[b"layer"], &[]);
    let subject = subject_of(&image).digest;
    for _ in 0..2 {
        let offered = image.offer_statements(&subject, &[statement("one"), statement("two")]).unwrap();
        assert_eq!(offered, Offered::There);
    }
    let name = registry.name(&format!("team/app:sha256-{}.att", subject.hex()));
    let raw = || run("skopeo", &["inspect", "--raw", "--tls-verify=false", &format!("docker://{name}")]);
    let found = raw();
    let manifest = Manifest::parse(found.as_bytes(), Some(media_type::OCI_MANIFEST)).unwrap();
    let attested = hasty_client().open(&name).unwrap();
    // An image as any other: its configuration says what its layers are.
    let config: Value = serde_json::from_slice(&read_blob(&attested, &manifest.config)).unwrap();
    let digests: Vec<String> = manifest.layers.iter().map(|layer| layer.digest.to_string()).collect();
    assert_eq!(config["rootfs"]["diff_ids"], json!(digests));
    assert_eq!(manifest.layers.len(), 2);
    for (layer, says) in manifest.layers.iter().zip(["one", "two"]) {
        assert_eq!(layer.media_type, "application/vnd.dsse.envelope.v1+json");
        assert_eq!(layer.annotations["predicateType"], "https://slsa.dev/provenance/v1");
        assert_eq!(layer.annotations["dev.cosignproject.cosign/signature"], "");
        let envelope: Value = serde_json::from_slice(&read_blob(&attested, layer)).unwrap();
        assert_eq!(envelope["payloadType"], "application/vnd.in-toto+json");
        assert_eq!(envelope["signatures"], json!([]));
        let payload = envelope["payload"].as_str().unwrap().as_bytes();
        assert_eq!(data_encoding::BASE64.decode(payload).unwrap(), statement(says).bytes);
    }
    // What somebody has put there stays.
    let offered = image.offer_statements(&subject, &[statement("three")]).unwrap();
    assert_eq!(offered, Offered::Taken);
    assert_eq!(raw(), found);
    let two = [statement("one"), statement("two")];
    assert!(!image.has_other_statements(&subject, &two).unwrap());
    assert!(image.has_other_statements(&subject, &two[..1]).unwrap());
    assert!(!image.has_other_statements(&Digest::of(b"none"), &two).unwrap());
    // It is no referrer: those are what is said of the image in the other way.
    assert_eq!(image.referrers(&subject, None).unwrap(), []);
}

/// `cosign copy` puts images under their digests as tags, where older registries have the list of what refers to them.
#[test]
fn an_image_under_the_tag_of_its_own_referrers_is_no_list() {
    let registry = DockerRegistry::plain();
    let image = hasty_client().open(&registry.name("team/app:v1")).unwrap();
    put(&image, &[b"layer"], &[]);
    let subject = subject_of(&image);
    let (hex, name) = (subject.digest.hex(), |tag: &str| registry.name(&format!("team/app:{tag}")));
    let tagged = hasty_client().open(&name(&format!("sha256-{hex}"))).unwrap();
    put(&tagged, &[b"layer"], &[]);
    assert_eq!(subject_of(&tagged), subject);
    assert_eq!(listed(&image, &subject, None), []);
    let note = attach(&image, &subject, NOTE, b"good");
    assert_eq!(listed(&image, &subject, None), [note]);
    assert_eq!(subject_of(&image), subject);
    // Another image there is not ours to replace.
    put(&hasty_client().open(&name(&format!("sha256-{hex}"))).unwrap(), &[b"other"], &[]);
    let annotations = BTreeMap::new();
    let refused = image.attach(&subject, NOTE, "text/plain", b"more", &annotations).unwrap_err();
    assert!(format!("{refused}").contains("cannot understand"), "{refused}");
}

#[test]
fn attestations_that_come_at_the_same_time_are_not_replaced() {
    let server = Server::start(|received: &Received| match received.method.as_str() {
        "GET" if received.path == "/v2/" => Reply::ok(b"{}"),
        "POST" => Reply::status(202).header("Location", "/upload"),
        "PUT" if received.path.starts_with("/upload") => Reply::status(201),
        "PUT" => Reply::error(412, "UNKNOWN"),
        _ => Reply::error(404, "MANIFEST_UNKNOWN"),
    });
    let image = hasty_client().open(&server.name("app:v1")).unwrap();
    let offered = image.offer_statements(&Digest::of(b"image"), &[statement("late")]).unwrap();
    assert_eq!(offered, Offered::Taken);
    let put = server
        .received()
        .into_iter()
        .find(|received| received.path.ends_with(".att") && received.method == "PUT");
    assert_eq!(put.unwrap().header("if-none-match"), Some("*"));
}
