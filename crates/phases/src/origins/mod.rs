//! Reports with origins: what is gathered for them while a build is exported, and where they are kept
//! (`docs/report.md`). The decisions are [`strata_decide::origins`].

pub mod beside;
pub mod inputs;
pub mod rebased;
pub(crate) mod witness;

use crate::cache;
use crate::event::Observer;
use crate::export::{Exported, Previous};
use crate::failure::Failure;
use crate::files;
use crate::found::find_layers;
use crate::saving::Output;
use std::path::Path;
use std::time::SystemTime;
use strata_decide::export::created;
use strata_decide::origins::{self as decide, Facts, Left, Made, Past, Require, Sifted, Unknown};
use strata_oci::Digest;
use strata_spec::buildpack::escape_id;
use strata_spec::cache::CacheMetadata;
use strata_spec::exit::Exit;
use strata_spec::group::GroupElement;
use strata_spec::labels::{LifecycleMetadata, RunImage};
use strata_spec::origins::provenance::{PREDICATE, STATEMENT};
use strata_spec::origins::records::{KEY, Records};
use strata_spec::origins::{
    Build, EarlierBuild, ImageRef, Input, Lifecycle, MEDIA_TYPE, Report, RestoredImage, SCHEMA_VERSION,
    Source, clean, parse_extra,
};
use strata_spec::project::ProjectMetadata;
use strata_spec::raw_object::RawObject;
use strata_spec::report;
use strata_store::cache::Cache;
use strata_store::registry::Statement;
use strata_store::{Medium, StoreError, StoredImage};
use toml::Table;
pub use witness::Given;

/// Everything that origins are gathered from, before anything is written.
pub struct Gather<'a> {
    /// What the buildpacks left.
    pub layers_dir: &'a Path,
    /// The group.
    pub group: &'a [GroupElement],
    /// The source of the app.
    pub project: &'a ProjectMetadata,
    /// The program and its images.
    pub lifecycle: Lifecycle,
    /// The previous image; its label alone, when it is gone.
    pub previous: Previous<'a>,
    /// The cache.
    pub cache: Option<&'a dyn Cache>,
    /// What the platform gave, when that is known better than from the builder.
    pub inputs: Option<Vec<Input>>,
    /// The operator's own table.
    pub extra: Table,
    /// Whether origins must be known.
    pub require: Require,
}

/// What the restorer is to see to.
#[derive(Clone, Copy)]
pub struct Required<'a> {
    /// Whether origins must be known.
    pub require: Require,
    /// The previous image.
    pub previous: Previous<'a>,
}

/// The origins of a build that is being exported.
#[derive(Debug)]
pub struct Origins {
    build: EarlierBuild,
    group: Vec<GroupElement>,
    left: Vec<Left>,
    past: Past,
    restored: Option<RestoredImage>,
    inputs: Vec<Input>,
    extra: Table,
    require: Require,
}

impl Origins {
    /// Reads what buildpacks, builder, cache and the previous image's report say.
    ///
    /// # Errors
    /// [`Exit::Export`] when the layers directory cannot be read, or there is no source of randomness. A cache or a
    /// report that cannot be understood says nothing.
    pub fn gather(input: Gather<'_>, observer: &dyn Observer) -> Result<Self, Failure> {
        let claims = witness::read(input.layers_dir, observer);
        let (restored, report) = previous(&input.previous, observer);
        let past = Past {
            label: input.previous.metadata.cloned().unwrap_or_default(),
            image: input.previous.image.map(|(stored, _)| decide::blobs(&stored.image)).unwrap_or_default(),
            report,
            cache: input.cache.map(|cache| cache::metadata(Some(cache), observer)),
            records: input.cache.map(remembered).unwrap_or_default(),
            claims,
            lost: witness::read_lost(input.layers_dir),
        };
        let mut lifecycle = input.lifecycle;
        let distro = past.claims.as_ref().map(|claims| claims.distro.clone()).unwrap_or_default();
        if !distro.is_empty() {
            lifecycle.build_image.get_or_insert_default().distro = distro;
        }
        let seen = past.claims.as_ref().map(|claims| claims.inputs.clone());
        Ok(Self {
            build: EarlierBuild {
                id: random_id()?,
                time: now()?,
                image_digest: String::new(),
                application_source: input.project.source.as_ref().map(Source::from),
                lifecycle,
            },
            group: input.group.to_vec(),
            left: left(input.layers_dir, input.group)?,
            past,
            restored,
            inputs: input.inputs.or(seen).unwrap_or_default(),
            extra: input.extra,
            require: input.require,
        })
    }

    /// Makes sure that origins are known, if they must be: asked when nothing is visible yet.
    pub(crate) fn check(&self, made: &Made) -> Result<(), Failure> {
        if self.require == Require::Nothing {
            return Ok(());
        }
        let cache = CacheMetadata::default();
        let unknown = decide::unknown(&self.facts(&self.build, made, &cache));
        if unknown.is_empty() {
            return Ok(());
        }
        let layers: Vec<String> =
            unknown.into_iter().map(|(id, Unknown { text, .. })| format!("{id} ({text})")).collect();
        let message = format!("failed to export: the origin of layers is unknown: {}", layers.join(", "));
        Err(Failure::new(Exit::Export, message).hint(
            "build without the cache once, or have such layers made anew with the requirement `discard`",
        ))
    }

    /// What the cache is to remember; `made` is the image, if there is one.
    pub fn records(&self, made: Option<&Made>, cache: &CacheMetadata) -> Records {
        let none = Made::default();
        let made = made.unwrap_or(&none);
        decide::records(&self.facts(&self.this_build(made), made, cache))
    }

    /// The report; `cache` is what the cache holds now, `None` when it is as it was.
    pub fn report(&self, exported: &Exported, cache: Option<&CacheMetadata>) -> Report {
        let none = CacheMetadata::default();
        let cache = cache.or(self.past.cache.as_ref()).unwrap_or(&none);
        let build = self.this_build(&exported.made);
        let (layers, builds) = decide::layers(&self.facts(&build, &exported.made, cache));
        let EarlierBuild { id, time, application_source, lifecycle, .. } = build;
        let report::Report { build: made_with, mut image, changes } = exported.report.clone();
        let mut bom = made_with.unwrap_or_default().bom;
        for metadata in bom.iter_mut().filter_map(|entry| entry.metadata.as_mut()) {
            *metadata = clean(metadata);
        }
        if image.image_id.is_empty() {
            image.digest.clone_from(&exported.made.digest);
        }
        Report {
            schema_version: SCHEMA_VERSION,
            image,
            build: Build {
                id,
                time,
                observed: self.past.claims.is_some(),
                application_source,
                inputs: self.inputs.clone(),
                bom,
            },
            restored_image: self.restored.clone(),
            lifecycle,
            rebases: Vec::new(),
            builds,
            layers,
            changes,
            extra: self.extra.clone(),
        }
    }

    /// The document of a report; `None` when it cannot be read by anybody, which is a warning.
    ///
    /// # Errors
    /// [`Exit::Export`] when that is so and origins are required.
    pub fn document(&self, report: Report, observer: &dyn Observer) -> Result<Option<String>, Failure> {
        match (document(report, observer), self.require) {
            (Err(failure), Require::Nothing) => {
                observer.warn(format!("There are no origins to report: {}", failure.chain()));
                Ok(None)
            }
            (outcome, _) => outcome.map(Some),
        }
    }

    /// Puts the report beside the image, as `attach` does.
    ///
    /// # Errors
    /// [`Exit::Export`] when origins are required, and the next build would not find these.
    pub fn attach(
        &self,
        report: &str,
        exported: &Exported,
        outputs: &[Output],
        observer: &dyn Observer,
    ) -> Result<(), Failure> {
        for failure in attach(report, &exported.stored, outputs, observer) {
            match self.require {
                Require::Nothing => observer.warn(failure.chain()),
                Require::Known | Require::Discard => return Err(failure),
            }
        }
        Ok(())
    }

    fn this_build(&self, made: &Made) -> EarlierBuild {
        EarlierBuild { image_digest: made.digest.clone(), ..self.build.clone() }
    }

    fn facts<'a>(&'a self, build: &'a EarlierBuild, made: &'a Made, cache: &'a CacheMetadata) -> Facts<'a> {
        Facts { build, group: &self.group, left: &self.left, made, cache, past: &self.past }
    }
}

/// Puts a report beside the image that it is of, and what it says as SLSA provenance. What keeps it from a place that
/// has room for it; where there is none, the log says so.
fn attach(text: &str, image: &StoredImage, outputs: &[Output], observer: &dyn Observer) -> Vec<Failure> {
    // It was made by this program.
    let Ok(report) = Report::parse(text) else { return Vec::new() };
    let time = report.rebases.last().map_or(&report.build.time, |latest| &latest.time);
    let all: Vec<&Output> = outputs.iter().collect();
    let put = |to: &[&Output], kind, bytes: &[u8], predicate| {
        beside::attach(to, image, kind, bytes, (time, predicate))
    };
    let mut failed = put(&all, MEDIA_TYPE, text.as_bytes(), None);
    let digest = Digest::of(text.as_bytes()).to_string();
    if let Some(statement) = report.provenance(&digest) {
        let bytes = statement.to_string().into_bytes();
        // What one place refuses, the others have all the same.
        failed.extend(put(&without(&all, &failed, image), STATEMENT, &bytes, Some(PREDICATE)));
        let statement = [Statement { media_type: STATEMENT.into(), bytes, predicate: PREDICATE.into() }];
        for (name, output) in without(&all, &failed, image) {
            beside::offer(&**output, name, &image.manifest_digest, &statement, observer);
        }
    }
    let mut failures = Vec::new();
    for (name, error) in failed {
        if matches!(error, StoreError::NoReferrers) {
            observer.detail(format!("The report is not kept beside {name}, which has no place for it"));
        } else {
            let what = format!("failed to put the report beside {name}");
            failures.push(Failure::caused(Exit::Export, what, &error));
        }
    }
    failures
}

/// The outputs whose place did not refuse anything.
fn without<'a>(all: &[&'a Output], failed: &[(String, StoreError)], image: &StoredImage) -> Vec<&'a Output> {
    let is_failed = |name: &str| failed.iter().any(|(failed, _)| failed == name);
    let places: Vec<String> =
        all.iter().filter(|(name, _)| is_failed(name)).map(|(_, output)| output.identifier(image)).collect();
    all.iter().copied().filter(|(_, output)| !places.contains(&output.identifier(image))).collect()
}

/// The operator's own table, in a file.
///
/// # Errors
/// [`Exit::Other`] when there is no such file, or it is no table for a report.
pub fn extra(path: Option<&Path>) -> Result<Table, Failure> {
    let Some(path) = path else { return Ok(Table::new()) };
    let what = "failed to read the table for the report";
    let found =
        files::read_given(path, parse_extra).map_err(|error| Failure::caused(Exit::Other, what, &error))?;
    found.ok_or_else(|| Failure::new(Exit::Other, format!("{what}: there is no {}", path.display())))
}

/// What a report can do without, and how it is left out.
type Spare = (&'static str, fn(&mut Report));

/// What goes first is first.
const SPARE: &[Spare] = &[
    ("the metadata of all layers", |report| {
        report.layers.iter_mut().for_each(|layer| layer.metadata.clear());
        report.build.bom.clear();
    }),
    ("all that sources have besides a version", |report| {
        sources(report).for_each(|source| source.metadata.clear());
    }),
    ("versions of sources, names of images, and which layers were present", |report| {
        sources(report)
            .for_each(|source| *source = Source { kind: source.kind.clone(), ..Source::default() });
        report.layers.iter_mut().for_each(|layer| layer.present_layers.clear());
        let own = [&mut report.lifecycle.build_image, &mut report.lifecycle.run_image];
        let earlier = report.builds.iter_mut().map(|build| &mut build.lifecycle);
        let earlier = earlier.flat_map(|made_with| [&mut made_with.build_image, &mut made_with.run_image]);
        for image in own.into_iter().chain(earlier).flatten() {
            *image = ImageRef { digest: image.digest.clone(), ..ImageRef::default() };
        }
    }),
];

fn sources(report: &mut Report) -> impl Iterator<Item = &mut Source> {
    let builds = report.builds.iter_mut().map(|build| &mut build.application_source);
    let layers = report.layers.iter_mut().map(|layer| &mut layer.application_source);
    builds.chain(layers).chain([&mut report.build.application_source]).flatten()
}

/// The document. What buildpacks, sources and earlier reports say that makes it too much to be read is left out.
///
/// # Errors
/// [`Exit::Export`] when it could not be read even so.
fn document(mut report: Report, observer: &dyn Observer) -> Result<String, Failure> {
    let mut text = report.to_toml();
    let Err(first) = Report::parse(&text) else { return Ok(text) };
    let mut left_out = Vec::new();
    let mut error = first.clone();
    for (what, leave_out) in SPARE {
        left_out.push(*what);
        leave_out(&mut report);
        text = report.to_toml();
        match Report::parse(&text) {
            Ok(_) => {
                let what = left_out.join("; ");
                observer.warn(format!("the report leaves out {what}: otherwise {first}"));
                return Ok(text);
            }
            Err(still) => error = still,
        }
    }
    Err(Failure::caused(Exit::Export, "failed to write the report", &error))
}

/// What the previous image is called, and what the report beside it says.
fn previous(
    previous: &Previous<'_>,
    observer: &dyn Observer,
) -> (Option<RestoredImage>, Option<Result<Report, Unknown>>) {
    let Some((stored, store)) = previous.image else { return (None, None) };
    let is_daemon = matches!(store.medium(), Medium::Daemon(_));
    let mut restored = RestoredImage::default();
    if is_daemon {
        restored.image_id = store.identifier(stored);
    } else {
        restored.digest = stored.manifest_digest.to_string();
    }
    match beside::latest(store, stored, observer) {
        Ok(beside) => {
            restored.build.clone_from(&beside.report.build.id);
            restored.report = beside.digest.to_string();
            (Some(restored), Some(Ok(beside.report)))
        }
        Err(unknown) => {
            observer.debug(unknown.text.clone());
            (Some(restored), Some(Err(unknown)))
        }
    }
}

/// Takes what must not be restored out of what may be: layers whose origin is unknown.
///
/// # Errors
/// [`Exit::Restore`] when there are any, and they are not to be discarded.
pub(crate) fn sift(
    required: &Required<'_>,
    cache: Option<&dyn Cache>,
    label: &mut LifecycleMetadata,
    cached: &mut CacheMetadata,
    observer: &dyn Observer,
) -> Result<Vec<Sifted>, Failure> {
    if required.require == Require::Nothing {
        return Ok(Vec::new());
    }
    let records = cache.map(remembered).unwrap_or_default();
    let (_, report) = previous(&required.previous, observer);
    let found = decide::sift(label, cached, &records, report.as_ref());
    if required.require == Require::Known && !found.is_empty() {
        let layers: Vec<String> = found
            .iter()
            .map(|layer| format!("{}:{} ({})", layer.buildpack, layer.name, layer.unknown.text))
            .collect();
        let message = format!("failed to restore: the origin of layers is unknown: {}", layers.join(", "));
        return Err(Failure::new(Exit::Restore, message).hint(
            "build without cache and previous image once, or let such layers be made anew: `discard`",
        ));
    }
    for Sifted { buildpack, name, unknown } in &found {
        observer.warn(format!(
            "Not restoring layer '{buildpack}:{name}', whose origin is unknown: {}",
            unknown.text
        ));
    }
    Ok(found)
}

/// What a cache remembers of its layers. That it cannot be read is told by whoever fills it.
pub(crate) fn remembered(cache: &dyn Cache) -> Records {
    let text = cache.metadata().ok().flatten().unwrap_or_default();
    let object = RawObject::parse(&text).unwrap_or_default();
    object.get(KEY).map_or_else(Records::new, Records::parse)
}

/// The layers of all buildpacks.
fn left(layers_dir: &Path, group: &[GroupElement]) -> Result<Vec<Left>, Failure> {
    let mut left = Vec::new();
    for buildpack in group {
        let found = files::below(layers_dir, escape_id(&buildpack.id)).and_then(|dir| find_layers(&dir));
        let found = found.map_err(|error| {
            let what = format!("failed to export: cannot read the layers of {}", buildpack.label());
            Failure::caused(Exit::Export, what, &error)
        })?;
        left.extend(found.into_iter().filter(|layer| !layer.toml.types.is_none()).map(|layer| Left {
            buildpack: buildpack.id.clone(),
            name: layer.name,
            has_contents: layer.dir.is_dir(),
            toml: layer.toml,
        }));
    }
    Ok(left)
}

/// The image below the app, as labels name it.
pub fn run_image(label: &RunImage, digest: &str) -> ImageRef {
    let names = [label.image.clone()].into_iter().chain(label.mirrors.iter().cloned());
    ImageRef {
        tags: names.filter(|name| !name.is_empty()).collect(),
        digest: digest.to_owned(),
        ..ImageRef::default()
    }
}

fn random_id() -> Result<String, Failure> {
    let mut bytes = [0_u8; 16];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).map_err(|error| {
        let error = std::io::Error::from(error);
        Failure::caused(Exit::Export, "failed to export: cannot name the build", &error)
    })?;
    Ok(data_encoding::HEXLOWER.encode(&bytes))
}

fn now() -> Result<String, Failure> {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    created(&since.as_secs().to_string())
        .ok_or_else(|| Failure::new(Exit::Export, "failed to export: the clock tells an impossible time"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Event, Level};
    use std::sync::Mutex;
    use strata_oci::Image;
    use strata_store::{Layout, Store as _};

    #[derive(Default)]
    struct Log(Mutex<Vec<String>>);

    impl Observer for Log {
        fn event(&self, event: Event) {
            if let Event::Message { level: Level::Warn, text } = event {
                self.0.lock().unwrap().push(text);
            }
        }
    }

    fn layout(dir: &Path) -> Layout {
        Layout::open(dir).for_one_image("latest".to_owned())
    }

    #[test]
    fn what_one_place_refuses_the_other_has_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let (good, bad) = (dir.path().join("good"), dir.path().join("bad"));
        let encoded = Image::empty("linux", "amd64").encode().unwrap();
        layout(&good).put_image(&encoded, &["latest".to_owned()]).unwrap();
        let image = layout(&good).read_image().unwrap().unwrap();
        // A layout refuses what refers to an image that it does not have.
        layout(&bad)
            .put_image(&Image::empty("linux", "arm64").encode().unwrap(), &["latest".to_owned()])
            .unwrap();
        let mut report = Report { schema_version: SCHEMA_VERSION, ..Report::default() };
        report.image.digest = image.manifest_digest.to_string();
        (report.build.id, report.build.time) = ("1".repeat(32), "2026-03-01T10:00:00Z".into());
        let output = |name: &str, dir: &Path| -> Output { (name.to_owned(), Box::new(layout(dir))) };
        for outputs in
            [[output("one", &good), output("two", &bad)], [output("two", &bad), output("one", &good)]]
        {
            let log = Log::default();
            let failed = attach(&report.to_toml(), &image, &outputs, &log);
            let told: Vec<String> = failed.iter().map(Failure::chain).collect();
            assert!(told.len() == 1 && told[0].contains("failed to put the report beside two"), "{told:?}");
            for kind in [MEDIA_TYPE, STATEMENT] {
                assert_eq!(
                    layout(&good).referrers(&image.manifest_digest, Some(kind)).unwrap().len(),
                    1,
                    "{kind}"
                );
                assert_eq!(layout(&bad).referrers(&image.manifest_digest, Some(kind)).unwrap(), []);
            }
            assert_eq!(*log.0.lock().unwrap(), Vec::<String>::new());
        }
    }

    #[test]
    fn a_report_leaves_out_what_is_too_large() {
        let mut report = Report { schema_version: SCHEMA_VERSION, ..Report::default() };
        report.image.digest = Digest::of(b"image").to_string();
        (report.build.id, report.build.time) = ("1".repeat(32), "2026-03-01T10:00:00Z".into());
        let table =
            |size: usize| -> Table { [("k".to_owned(), "x".repeat(size).into())].into_iter().collect() };
        let source = |version: usize, metadata: usize| {
            Some(Source { kind: "git".into(), version: table(version), metadata: table(metadata) })
        };
        let written = |change: &dyn Fn(&mut Report)| {
            let log = Log::default();
            let mut report = report.clone();
            change(&mut report);
            let text = document(report, &log).map(|text| Report::parse(&text).unwrap());
            (text, log.0.into_inner().unwrap())
        };
        let (same, log) = written(&|_| {});
        assert_eq!((same.unwrap(), log), (report.clone(), Vec::new()));
        let (less, log) = written(&|report| report.build.application_source = source(10, 300 << 10));
        assert_eq!(less.unwrap().build.application_source.unwrap().version, table(10));
        assert!(
            log[0].ends_with("besides a version: otherwise it has a build of which too much is said"),
            "{log:?}"
        );
        let (least, log) = written(&|report| report.build.application_source = source(300 << 10, 300 << 10));
        assert_eq!(least.unwrap().build.application_source.unwrap().kind, "git");
        assert_eq!(log.len(), 1);
        let (none, _) = written(&|report| report.extra = table(5 << 20));
        assert!(none.unwrap_err().chain().contains("larger than 4 MiB"));
    }
}
