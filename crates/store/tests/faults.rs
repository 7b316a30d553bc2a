//! Whatever a registry does wrong while an image is copied from it: nothing wrong is stored, nothing is left behind, and
//! what can succeed on another try does.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "nobody is killed here")]
#[path = "support/kill.rs"]
mod kill;
mod support;

use std::fs;
use std::io::Read as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kill::{is_tidy, names, proven};
use strata_oci::{Digest, Encoded, Image, Layer, media_type};
use strata_store::archive::{Format, OciArchive, Writer};
use strata_store::registry::{Client, Settings};
use strata_store::{Layout, Store, StoreError, copy_image, scratch};
use support::server::{Received, Reply, Server};
use support::{chain, hasty};

/// An image as a registry has it.
#[derive(Clone)]
struct Hosted {
    image: Encoded,
    layers: Vec<Vec<u8>>,
}

impl Hosted {
    fn new() -> Self {
        let base = scratch::base("amd64", 1, 1, "1980-01-01T00:00:01Z").unwrap();
        let mut image = Image::empty("linux", "amd64");
        let mut plain = Vec::new();
        let mut layer = strata_layer::open_layer(std::io::Cursor::new(base.layer.clone())).unwrap();
        layer.read_to_end(&mut plain).unwrap();
        let diff_id = Digest::of(&plain);
        let mut layers = Vec::new();
        let packed = support::zstd(&plain);
        for (bytes, kind) in [(base.layer, media_type::OCI_LAYER_GZIP), (packed, media_type::OCI_LAYER_ZSTD)]
        {
            let descriptor = strata_oci::Descriptor::of(kind, &bytes);
            image.append(Layer { descriptor, diff_id, history: None });
            layers.push(bytes);
        }
        Self { image: image.encode().unwrap(), layers }
    }

    /// What an honest registry answers.
    fn reply(&self, request: &Received) -> Reply {
        if request.path.contains("/manifests/") {
            return Reply::ok(&self.image.manifest).header("Content-Type", &self.image.media_type);
        }
        match self.documents().find(|(digest, _)| request.path.ends_with(&digest.to_string())) {
            Some((_, bytes)) => part(bytes, request),
            None if request.path == "/v2/" => Reply::status(200),
            None => Reply::error(404, "BLOB_UNKNOWN"),
        }
    }

    /// All but the manifest.
    fn documents(&self) -> impl Iterator<Item = (Digest, &Vec<u8>)> {
        let layers = self.image.layers.iter().map(|layer| layer.digest).zip(&self.layers);
        layers.chain([(self.image.config_digest, &self.image.config)])
    }
}

/// The rest of `bytes` that a request asks for.
fn part(bytes: &[u8], request: &Received) -> Reply {
    let Some(range) = request.header("range") else { return Reply::ok(bytes) };
    let start: usize = range.strip_prefix("bytes=").unwrap().strip_suffix('-').unwrap().parse().unwrap();
    let told = format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len());
    Reply::status(206).header("Content-Range", &told).body(&bytes[start..])
}

fn copied(server: &Server, settings: Settings, to: &dyn Store) -> Result<Digest, StoreError> {
    let from = Client::new(settings).open(&server.name("a:1")).unwrap();
    let stored = from.read_image()?.expect("the registry has an image");
    copy_image(to, &from, &stored.encoded(), &[]).map(|()| stored.manifest_digest)
}

/// Places with an image of before.
struct Targets {
    dir: tempfile::TempDir,
    before: Digest,
}

impl Targets {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::open_or_create(dir.path().join("layout")).unwrap();
        let base = scratch::base("amd64", 7, 7, "1980-01-01T00:00:01Z").unwrap();
        base.put_in(&layout, &[]).unwrap();
        let image = layout.read_image().unwrap().unwrap();
        let writer = Writer::create(&dir.path().join("a.tar"), Format::Oci).unwrap();
        copy_image(&writer, &layout, &image.encoded(), &[]).unwrap();
        writer.finish().unwrap();
        Self { dir, before: image.manifest_digest }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Tries to copy to each of them; the errors.
    fn try_all(&self, server: &Server, settings: &Settings) -> [Result<Digest, StoreError>; 2] {
        let layout = Layout::open_or_create(self.path("layout")).unwrap();
        let into_layout = copied(server, settings.clone(), &layout);
        let writer = Writer::create(&self.path("a.tar"), Format::Oci).unwrap();
        let into_archive = copied(server, settings.clone(), &writer);
        let into_archive = into_archive.and_then(|digest| writer.finish().map(|()| digest));
        [into_layout, into_archive]
    }

    /// The images that are there, whole, and nothing else.
    #[track_caller]
    fn images(&self) -> [Digest; 2] {
        assert_eq!(names(self.dir.path()), ["a.tar", "layout"]);
        let layout = self.path("layout");
        // What a failed copy had finished is named by nothing: it goes with the next clean-up.
        Layout::open_or_create(&layout).unwrap().prune().unwrap();
        is_tidy(&layout);
        let archive = OciArchive::open(self.path("a.tar")).unwrap();
        let report = strata_store::validate::prove(&archive).unwrap().unwrap();
        assert!(report.is_good(), "{report:?}");
        [proven(&layout).unwrap(), archive.read_image().unwrap().unwrap().manifest_digest]
    }
}

/// What a registry makes of its answer.
type Wrong = fn(&Hosted, &Received, Reply) -> Reply;

/// What is wrong, how, and what the error says.
const CASES: [(&str, Wrong, &str); 12] = [
    (
        "cut",
        |hosted, request, reply| if layer(hosted, request) { reply.cut_after(40) } else { reply },
        "disconnected",
    ),
    ("cut documents", |_, request, reply| if blob(request) { reply } else { reply.cut_after(40) }, "cannot"),
    ("corrupt", |_, request, reply| if blob(request) { flipped(reply) } else { reply }, "have the digest"),
    (
        "short",
        |hosted, request, reply| if layer(hosted, request) { Reply::ok(b"short") } else { reply },
        "expected",
    ),
    (
        "endless",
        |hosted, request, reply| {
            if layer(hosted, request) { Reply::status(200).endless() } else { reply }
        },
        "more than",
    ),
    ("429", |_, request, reply| if blob(request) { Reply::error(429, "SLOWLY") } else { reply }, "SLOWLY"),
    ("503", |_, request, reply| if blob(request) { Reply::error(503, "BUSY") } else { reply }, "BUSY"),
    (
        "404",
        |hosted, request, reply| {
            if layer(hosted, request) { Reply::error(404, "BLOB_UNKNOWN") } else { reply }
        },
        "cannot find",
    ),
    (
        "redirect loop",
        |_, request, reply| if blob(request) { Reply::redirect(307, &request.path) } else { reply },
        "and on and on",
    ),
    (
        "another manifest",
        |_, request, reply| {
            if blob(request) {
                reply
            } else {
                reply.header("Docker-Content-Digest", &Digest::of(b"x").to_string())
            }
        },
        "expected",
    ),
    (
        "another configuration",
        |hosted, request, reply| {
            let config = hosted.image.config_digest.to_string();
            if request.path.ends_with(&config) { Reply::ok(&hosted.image.manifest) } else { reply }
        },
        "expected",
    ),
    ("no words", |_, request, reply| if blob(request) { Reply::status(418) } else { reply }, "418"),
];

#[test]
fn whatever_goes_wrong_nothing_wrong_is_stored() {
    let targets = Targets::new();
    for (name, wrong, expected) in CASES {
        let hosted = Hosted::new();
        let server = Server::start(move |request| {
            let reply = hosted.reply(request);
            if request.path == "/v2/" { reply } else { wrong(&hosted, request, reply) }
        });
        for outcome in targets.try_all(&server, &hasty()) {
            let error = chain(&outcome.expect_err(name));
            assert!(error.contains(expected), "{name}: no '{expected}' in {error}");
        }
        assert_eq!(targets.images(), [targets.before; 2], "{name}");
    }
    let hosted = Hosted::new();
    let digest = hosted.image.manifest_digest;
    let server = Server::start(move |request| hosted.reply(request));
    for outcome in targets.try_all(&server, &hasty()) {
        assert_eq!(outcome.unwrap(), digest);
    }
    assert_eq!(targets.images(), [digest; 2]);
}

fn blob(request: &Received) -> bool {
    request.path.contains("/blobs/")
}

fn layer(hosted: &Hosted, request: &Received) -> bool {
    blob(request) && !request.path.ends_with(&hosted.image.config_digest.to_string())
}

/// The same with one bit of its body changed.
fn flipped(reply: Reply) -> Reply {
    reply.changed(|body| {
        if let Some(byte) = body.last_mut() {
            *byte ^= 1;
        }
    })
}

#[test]
fn a_connection_that_is_cut_anywhere_is_gone_on_with() {
    let hosted = Hosted::new();
    let digest = hosted.image.manifest_digest;
    let lengths: Vec<_> = hosted.documents().map(|(_, bytes)| bytes.len()).collect();
    let longest = lengths.into_iter().max().unwrap().max(hosted.image.manifest.len());
    // Each answer is cut once, at the same place, where it is as long as that.
    for at in (0..longest).step_by(longest / 60 + 1) {
        let (hosted, seen) = (hosted.clone(), std::sync::Mutex::new(std::collections::BTreeSet::new()));
        let server = Server::start(move |request| {
            let is_first = seen.lock().unwrap().insert(request.path.clone());
            let reply = hosted.reply(request);
            if is_first && request.path != "/v2/" { reply.cut_after(at) } else { reply }
        });
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::open_or_create(dir.path()).unwrap();
        assert_eq!(copied(&server, hasty(), &layout).unwrap(), digest, "{at}");
        drop(layout);
        assert_eq!(proven(dir.path()), Some(digest), "{at}");
        is_tidy(dir.path());
    }
}

#[test]
fn a_slow_registry_is_waited_for_as_long_as_it_says_something() {
    let hosted = Hosted::new();
    let digest = hosted.image.manifest_digest;
    let server = Server::start(move |request| {
        let reply = hosted.reply(request);
        if layer(&hosted, request) { reply.slowly(100, Duration::from_millis(20)) } else { reply }
    });
    let settings = Settings { idle_timeout: Duration::from_secs(5), ..hasty() };
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(copied(&server, settings, &Layout::open_or_create(dir.path()).unwrap()).unwrap(), digest);
}

#[test]
fn a_registry_that_falls_silent_is_asked_again_and_given_up_in_the_end() {
    let targets = Targets::new();
    for (silences, is_good) in [(1, true), (usize::MAX, false)] {
        let hosted = Hosted::new();
        let digest = hosted.image.manifest_digest;
        let count = AtomicUsize::new(0);
        let server = Server::start(move |request| {
            let reply = hosted.reply(request);
            let is_silent =
                blob(request) && count.fetch_add(1, Ordering::SeqCst) < silences.saturating_mul(2);
            // Once before anything is said, once amid it.
            match (is_silent, count.load(Ordering::SeqCst) % 2) {
                (false, _) => reply,
                (true, 0) => reply.stalled_after(30),
                (true, _) => reply.silent(),
            }
        });
        let patience = Duration::from_millis(1500);
        let settings = Settings { idle_timeout: patience, upload_timeout: patience, ..hasty() };
        for outcome in targets.try_all(&server, &settings) {
            assert_eq!(outcome.is_ok(), is_good, "{outcome:?}");
            outcome.iter().for_each(|found| assert_eq!(*found, digest));
        }
        let expected = if is_good { digest } else { Hosted::new().image.manifest_digest };
        assert_eq!(targets.images(), [expected; 2]);
    }
    assert!(fs::read_dir(targets.path("layout")).unwrap().count() > 0);
}
