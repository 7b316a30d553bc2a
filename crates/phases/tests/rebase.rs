//! Rebases images in layouts and reads them back.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Read;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;

use strata_decide::rebase::Force;
use strata_layer::{Compression, Content, GeneratedEntry, Owner, Source};
use strata_oci::{Descriptor, Digest, History, Image, Layer, media_type};
use strata_phases::rebase::{Obstacle, Rebase, run};
use strata_phases::saving::Output;
use strata_phases::{Event, Failure, Level, Observer};
use strata_spec::PlatformApi;
use strata_spec::exit::Exit;
use strata_spec::labels::{BASE_DISTRO_NAME, LIFECYCLE_METADATA, LifecycleMetadata, REBASABLE};
use strata_spec::report::Report;
use strata_store::{Layout, Store, StoredImage};

const CREATED: &str = "1980-01-01T00:00:01Z";

/// Keeps what was said.
#[derive(Default)]
struct Log(Mutex<Vec<(Level, String)>>);

impl Observer for Log {
    fn event(&self, event: Event) {
        if let Event::Message { level, text } = event {
            self.0.lock().unwrap().push((level, text));
        }
    }
}

impl Log {
    fn texts(&self, wanted: Level) -> Vec<String> {
        let messages = self.0.lock().unwrap();
        messages.iter().filter(|(level, _)| *level == wanted).map(|(_, text)| text.clone()).collect()
    }
}

/// Packs a layer with one file into the layout.
fn layer(layout: &Layout, name: &str) -> Layer {
    let source = Source::Generated(vec![GeneratedEntry {
        name: format!("/{name}"),
        mode: 0o644,
        owner: Owner::ROOT,
        content: Content::Bytes(name.as_bytes().to_vec()),
    }]);
    let mut sink = layout.begin_blob().unwrap();
    let packed = strata_layer::pack(&source, Compression::Gzip, 1, &mut sink).unwrap();
    sink.commit(&packed.digest, packed.size).unwrap();
    Layer {
        descriptor: Descriptor::new(media_type::OCI_LAYER_GZIP, packed.digest, packed.size),
        diff_id: packed.diff_id,
        history: Some(History { created_by: Some(format!("made {name}")), ..History::default() }),
    }
}

fn base(dir: &Path, layers: &[&str]) -> (Layout, Image) {
    let layout = Layout::open_or_create(dir).unwrap();
    let mut image = Image::empty("linux", "amd64");
    layers.iter().for_each(|name| image.append(layer(&layout, name)));
    image.config_mut().set_label(BASE_DISTRO_NAME, "some-distro");
    image.config_mut().set_label("io.buildpacks.base.made", layers[0]);
    image.config_mut().set_env("PATH", layers[0]);
    layout.put_image(&image.encode().unwrap(), &[]).unwrap();
    (layout, image)
}

/// An app of two layers on a base, as an export leaves it.
fn app(dir: &Path, base: &Image, base_layout: &Layout, rebasable: &str) -> Layout {
    let layout = Layout::open_or_create(dir).unwrap();
    let mut image = base.clone();
    for layer in image.layers() {
        layout.copy_blob_from(base_layout, &layer.descriptor).unwrap();
    }
    let own = [layer(&layout, "slice"), layer(&layout, "launcher")];
    let label = format!(
        r#"{{"app":[{{"sha":"{}"}}],"buildpacks":null,"launcher":{{"sha":"{}"}},"runImage":{{"topLayer":"{}","reference":"old","image":"some/run"}},"stack":{{"runImage":{{"image":"some/run"}}}},"unknown":1.0}}"#,
        own[0].diff_id,
        own[1].diff_id,
        base.layers().last().unwrap().diff_id
    );
    own.into_iter().for_each(|layer| image.append(layer));
    image.normalise_history(CREATED);
    image.annotations_mut().insert("note".to_owned(), "kept".to_owned());
    let config = image.config_mut();
    config.set_env("CNB_PLATFORM_API", "0.12");
    config.set_label(LIFECYCLE_METADATA, &label);
    config.set_label(REBASABLE, rebasable);
    config.set_entrypoint(["/cnb/process/web"]);
    layout.put_image(&image.encode().unwrap(), &[]).unwrap();
    layout
}

fn read(store: &dyn Store) -> StoredImage {
    store.read_image().unwrap().unwrap()
}

struct Place {
    dir: tempfile::TempDir,
    app: Layout,
    new_base: Layout,
}

impl Place {
    fn new(rebasable: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        // The base's first and last layer are the same, as empty ones often are.
        let (old_layout, old) = base(&dir.path().join("old"), &["same", "old", "same"]);
        let app = app(&dir.path().join("app"), &old, &old_layout, rebasable);
        let (new_base, _) = base(&dir.path().join("new"), &["new 1", "new 2"]);
        Self { dir, app, new_base }
    }

    fn layout(&self, name: &str) -> Layout {
        Layout::open_or_create(self.dir.path().join(name)).unwrap()
    }

    fn run(&self, outputs: &[Output], base_name: &str, force: Force, log: &Log) -> Result<Report, Failure> {
        let rebase = Rebase {
            app: &read(&self.app),
            app_store: &self.app,
            new_base: &read(&self.new_base),
            base_store: &self.new_base,
            base_name,
            outputs,
            in_place: false,
            api: PlatformApi::V0_12,
            force,
            created: CREATED,
        };
        Ok(run(&rebase, log)?.report)
    }
}

/// Somebody else may have put another image there since the app was read.
#[test]
fn an_image_that_is_another_one_by_now_stays() {
    let place = Place::new("true");
    let (app, new_base) = (read(&place.app), read(&place.new_base));
    let outputs: Vec<Output> = vec![("some/app".to_owned(), Box::new(place.layout("app")))];
    let put_on = |app: &StoredImage| {
        let rebase = Rebase {
            app,
            app_store: &place.app,
            new_base: &new_base,
            base_store: &place.new_base,
            base_name: "some/run",
            outputs: &outputs,
            in_place: true,
            api: PlatformApi::V0_12,
            force: Force::No,
            created: CREATED,
        };
        run(&rebase, &Log::default())
    };
    let mut other = app.image.clone();
    other.annotations_mut().insert("note".to_owned(), "of somebody else".to_owned());
    place.app.put_image(&other.encode().unwrap(), &[]).unwrap();
    let meanwhile = read(&place.app).manifest_digest;
    let not = put_on(&app).unwrap_err();
    assert_eq!(not.obstacle, Some(Obstacle::Moved));
    let refused = not.failure.chain();
    assert!(refused.contains(&format!("it is another image by now, {meanwhile}")), "{refused}");
    assert_eq!(read(&place.app).manifest_digest, meanwhile);
    // The one that is there can be rebased.
    let rebased = put_on(&read(&place.app)).unwrap();
    assert_eq!(read(&place.app).manifest_digest, rebased.stored.manifest_digest);
    assert_eq!(rebased.stored.image.annotations()["note"], "of somebody else");
}

#[test]
fn an_app_moves_to_its_new_base_under_all_names() {
    let place = Place::new("true");
    let before = read(&place.app);
    let outputs: Vec<Output> = vec![
        ("some/app".to_owned(), Box::new(place.layout("app"))),
        ("some/app:2".to_owned(), Box::new(place.layout("elsewhere"))),
    ];
    let log = Log::default();
    let report = place.run(&outputs, "some/run", Force::No, &log).unwrap();
    let (new_base, after) = (read(&place.new_base), read(&place.layout("app")));
    assert_eq!(read(&place.layout("elsewhere")).manifest_digest, after.manifest_digest);
    assert_eq!(report.image.tags, ["some/app", "some/app:2"]);
    assert_eq!(report.image.manifest_size, after.manifest.len() as u64);

    let image = &after.image;
    strata_oci::validate(image).unwrap();
    assert_eq!(
        (image.media_type(), image.config_media_type()),
        (media_type::OCI_MANIFEST, media_type::OCI_CONFIG)
    );
    let ids = |image: &Image| image.layers().iter().map(|layer| layer.diff_id).collect::<Vec<_>>();
    let own = &ids(&before.image)[3..];
    assert_eq!(ids(image), [&ids(&new_base.image), own].concat());
    for store in [place.layout("app"), place.layout("elsewhere")] {
        for layer in image.layers() {
            let mut blob = store.open_blob(&layer.descriptor).unwrap().unwrap();
            blob.read_to_end(&mut Vec::new()).unwrap();
        }
    }
    let history: Vec<_> =
        image.config().history().into_iter().map(|entry| entry.created_by.unwrap()).collect();
    assert_eq!(history, ["made new 1", "made new 2", "made slice", "made launcher"]);
    assert_eq!(image.annotations()["note"], "kept");
    let config = image.config();
    assert_eq!(config.entrypoint(), ["/cnb/process/web"]);
    assert_eq!(config.env_var("PATH"), Some("same"), "settings are the app's");
    assert_eq!(config.label("io.buildpacks.base.made"), Some("new 1"));
    let label = config.label(LIFECYCLE_METADATA).unwrap();
    assert!(label.ends_with(r#""unknown":1.0}"#) && label.contains(r#""buildpacks":null"#), "{label}");
    let run_image = LifecycleMetadata::parse(label).unwrap().run_image;
    assert_eq!(run_image.top_layer, ids(&new_base.image)[1].to_string());
    assert_eq!(run_image.reference, place.new_base.identifier(&new_base));

    let expected = [
        "Saving some/app...".to_owned(),
        format!("*** Images ({}):", place.layout("app").identifier(&after)),
        "      some/app".to_owned(),
        "      some/app:2".to_owned(),
    ];
    assert_eq!(log.texts(Level::Detail), expected);
    let size = format!("\n*** Manifest Size: {}", after.manifest.len());
    assert_eq!(log.texts(Level::Debug), [size]);
    assert_eq!(log.texts(Level::Warn), Vec::<String>::new());
}

#[test]
fn other_tools_take_the_result_and_a_second_run_changes_nothing() {
    let place = Place::new("true");
    let out = place.layout("out");
    let outputs: Vec<Output> = vec![("some/app".to_owned(), Box::new(out.clone()))];
    place.run(&outputs, "some/run", Force::No, &Log::default()).unwrap();
    let first = read(&out);
    place.run(&outputs, "some/run", Force::No, &Log::default()).unwrap();
    assert_eq!(read(&out), first);
    let name = format!("oci:{}:latest", out.dir().display());
    let output = Command::new("skopeo").args(["inspect", &name]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains(&first.manifest_digest.to_string()), "{text}");
    let copy = format!("oci:{}:latest", place.dir.path().join("copy").display());
    let output = Command::new("skopeo").args(["copy", "-q", &name, &copy]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn what_is_refused_leaves_nothing_and_force_makes_it_a_warning() {
    let place = Place::new("false");
    let out = place.layout("out");
    let outputs: Vec<Output> = vec![("some/app".to_owned(), Box::new(out.clone()))];
    let failure = place.run(&outputs, "other/run", Force::No, &Log::default()).unwrap_err();
    assert_eq!(failure.exit, Exit::Rebase);
    assert_eq!(failure.exit.code(), 72);
    let marked = "app image is not marked as rebasable";
    assert_eq!(failure.chain(), format!("failed to rebase: {marked}; please provide -force to override"));
    assert_eq!(out.read_image().unwrap(), None);

    let log = Log::default();
    place.run(&outputs, "other/run", Force::Yes, &log).unwrap();
    let warnings = log.texts(Level::Warn);
    assert_eq!(warnings[0], marked);
    assert!(
        warnings[1].starts_with("rebase app image: new base image 'other/run' not found"),
        "{warnings:?}"
    );
    let image = read(&out).image;
    let metadata = LifecycleMetadata::parse(image.config().label(LIFECYCLE_METADATA).unwrap()).unwrap();
    assert_eq!(
        (metadata.run_image.image.as_str(), metadata.stack.run_image.image.as_str()),
        ("other/run", "other/run")
    );
}

#[test]
fn an_image_that_no_lifecycle_made_is_refused() {
    let place = Place::new("true");
    let outputs: Vec<Output> = vec![("some/app".to_owned(), Box::new(place.layout("out")))];
    for top_layer in ["", "sha256:0", &Digest::of(b"x").to_string()] {
        let mut image = read(&place.app).image;
        let label = format!(r#"{{"runImage":{{"topLayer":"{top_layer}","image":"some/run"}}}}"#);
        image.config_mut().set_label(LIFECYCLE_METADATA, &label);
        place.app.put_image(&image.encode().unwrap(), &[]).unwrap();
        let failure = place.run(&outputs, "some/run", Force::Yes, &Log::default()).unwrap_err();
        assert_eq!(failure.chain(), "failed to rebase: rebase app image: could not find base layer in image");
    }
    let failure = place.run(&outputs, "some/app", Force::Yes, &Log::default()).unwrap_err();
    assert!(failure.chain().contains("'some/app' would overwrite its run image"), "{failure}");
}

#[test]
fn a_name_that_cannot_be_written_fails_the_phase_and_is_named() {
    let place = Place::new("true");
    let blocked = place.dir.path().join("file");
    std::fs::write(&blocked, "").unwrap();
    let outputs: Vec<Output> = vec![
        ("bad".to_owned(), Box::new(Layout::open(blocked.join("layout")))),
        ("good".to_owned(), Box::new(place.layout("good"))),
    ];
    let log = Log::default();
    let failure = place.run(&outputs, "some/run", Force::No, &log).unwrap_err();
    let start = "failed to rebase: failed to write image to the following tags: [bad: cannot look at ";
    assert!(failure.chain().starts_with(start), "{failure}");
    let said = log.texts(Level::Detail);
    assert!(said[2].starts_with("      bad - cannot look at "), "{said:?}");
    assert_eq!(said[3], "      good");
    assert!(place.layout("good").read_image().unwrap().is_some());
}

#[test]
fn a_base_without_its_layers_is_refused() {
    let place = Place::new("true");
    let digest = read(&place.new_base).image.layers()[1].descriptor.digest;
    std::fs::remove_file(place.new_base.blob_path(&digest)).unwrap();
    let out = place.layout("out");
    let outputs: Vec<Output> = vec![("some/app".to_owned(), Box::new(out.clone()))];
    let failure = place.run(&outputs, "some/run", Force::No, &Log::default()).unwrap_err();
    assert!(failure.chain().contains(&format!("layer {digest} is nowhere to be found")), "{failure}");
    assert_eq!(out.read_image().unwrap(), None);
}
