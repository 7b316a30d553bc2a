//! Sealed layers: after each buildpack, looks at what it did to the layers of those before it, and to the app.

mod bytes;

use crate::build::{FoundLayer, NOT_LAYERS};
use crate::event::{Event, Observer};
use crate::failure::Failure;
use crate::files::{self, FileError, Links};
use crate::index::Index;
pub use bytes::Sealing;
pub(crate) use bytes::{Contents, contents_of};
use bytes::{Job, Made};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use strata_decide::seal::{Choice, outcome};
use strata_layer::{ChangeKind, LayerError, Listing};
use strata_oci::Digest;
use strata_spec::buildpack::escape_id;
use strata_spec::doc::MAX_DOCUMENT;
use strata_spec::exit::Exit;
use strata_spec::group::GroupElement;
use strata_spec::layer::is_name;
use strata_spec::sealed::{self, Changes, FileChange, Outcome, Policy, SealedLayers};

/// How many changes of one layer by one buildpack are told one by one.
const MAX_TOLD: usize = 100;
/// The largest record of changes that is read, in bytes.
const MAX_RECORD: usize = 16 * 1024 * 1024;
/// Records of other versions are passed over.
const VERSION: u32 = 2;

/// Why nobody knows whether layers changed.
#[derive(Debug, thiserror::Error)]
enum SealError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Layer(#[from] LayerError),
    #[error("cannot understand the record of changes")]
    Json(#[from] serde_json::Error),
}

/// What the operator says of sealed layers in the directory of the builder's own settings.
///
/// # Errors
/// When the document is broken.
pub fn operators_word(build_config: &Path) -> Result<SealedLayers, Failure> {
    let found =
        files::read_given(&build_config.join(sealed::FILE), SealedLayers::parse).map_err(|error| {
            Failure::caused(Exit::Build, "failed to build: cannot read the policy for sealed layers", &error)
        })?;
    Ok(found.unwrap_or_default())
}

/// A layer as its buildpack left it, and as it was when somebody looked last.
#[derive(Debug)]
struct Left {
    policy: Policy,
    sealed: State,
    seen: State,
}

/// A layer at some moment.
#[derive(Debug, Clone, PartialEq, Eq)]
struct State {
    contents: Listing,
    /// Its description; `None` when there is none.
    toml: Option<Vec<u8>>,
}

/// What one buildpack left.
#[derive(Debug)]
struct Sealed {
    buildpack: String,
    dir: PathBuf,
    /// By name. What others added is here, too, once it was told, and so are the buildpack's other documents.
    layers: BTreeMap<String, Left>,
}

/// Keeps an eye on the layers of a build.
pub(crate) struct Watch<'a> {
    choice: &'a Choice,
    sealing: &'a Sealing<'a>,
    index: &'a Index,
    app_dir: &'a Path,
    app: Listing,
    of: Vec<Sealed>,
    changes: Vec<Changes>,
    /// Takes layers whose buildpack is done.
    jobs: Sender<Job>,
}

/// What was found, and what is to be put right once nobody can change it any more.
#[derive(Debug)]
pub(crate) struct Found {
    of: Vec<Sealed>,
    changes: Vec<Changes>,
}

impl<'a> Watch<'a> {
    /// Begins, before the first buildpack.
    ///
    /// # Errors
    /// When the app cannot be listed.
    fn begin(
        choice: &'a Choice,
        sealing: &'a Sealing<'a>,
        index: &'a Index,
        app_dir: &'a Path,
        jobs: Sender<Job>,
    ) -> Result<Self, Failure> {
        let app = Listing::of(app_dir).map_err(|error| failed("the app", &error.into()))?;
        Ok(Self { choice, sealing, index, app_dir, app, of: Vec::new(), changes: Vec::new(), jobs })
    }

    /// Tells what a buildpack did to the layers of others, and seals its own.
    ///
    /// # Errors
    /// When it changed what must not be changed, or that cannot be told, or its layers cannot be sealed.
    pub(crate) fn after(
        &mut self,
        buildpack: &GroupElement,
        layers: &[FoundLayer],
        observer: &dyn Observer,
    ) -> Result<(), Failure> {
        let by = buildpack.label();
        let mut found = Vec::new();
        for of in self.of.iter_mut().filter(|of| of.buildpack != buildpack.id) {
            let looked = of.look(self.choice, &by);
            found.extend(looked.map_err(|error| failed(&format!("the layers of {}", of.buildpack), &error))?);
        }
        let app = Listing::of(self.app_dir).map_err(|error| failed("the app", &error.into()))?;
        found.extend(changes(&by, "app", Policy::Off, tell(&self.app.changes(&app))));
        self.app = app;
        found.iter().for_each(|changes| announce(changes, observer));
        refuse(&found)?;
        self.changes.extend(found);
        self.seal(buildpack, layers)
    }

    fn seal(&mut self, buildpack: &GroupElement, layers: &[FoundLayer]) -> Result<(), Failure> {
        let dir = self.sealing.trees.layers.real.join(escape_id(&buildpack.id));
        let own = Sealed::of(self.choice, buildpack, &dir, layers)
            .map_err(|error| failed(&format!("the layers of {}", buildpack.label()), &error))?;
        for layer in layers {
            let policy = self.choice.of_layer(&buildpack.id, layer.toml.sealed);
            let is_wanted = layer.toml.types.launch || layer.toml.types.cache;
            if policy == Policy::Off || !is_wanted || !layer.dir.is_dir() {
                continue;
            }
            let taken = self.sealing.take(policy, (buildpack, layer), self.index);
            let job = taken.map_err(|error| {
                let what = format!("failed to build: cannot seal layer '{}:{}'", buildpack.id, layer.name);
                Failure::caused(Exit::Build, what, &error)
            })?;
            if let Some(job) = job
                && self.jobs.send(job).is_err()
            {
                return Err(Failure::new(
                    Exit::Build,
                    "failed to build: the thread that seals layers is gone",
                ));
            }
        }
        self.of.retain(|of| of.buildpack != buildpack.id);
        self.of.push(own);
        Ok(())
    }

    /// Ends; nothing more is to be packed.
    fn end(self) -> Found {
        Found { of: self.of, changes: self.changes }
    }
}

/// Layers that are sealed, but for what is to be written once no process of a buildpack is left.
pub(crate) struct Pending<'a> {
    sealing: &'a Sealing<'a>,
    index: Index,
    found: Found,
    made: Vec<Made>,
}

/// Runs what runs the buildpacks, with somebody who watches them; with nobody when nothing is to be sealed.
///
/// # Errors
/// Those of `run`, and when the app cannot be listed.
pub(crate) fn watch<'a, T>(
    choice: &Choice,
    sealing: &'a Sealing<'a>,
    app_dir: &Path,
    observer: &dyn Observer,
    run: impl FnOnce(Option<&mut Watch<'_>>) -> Result<T, Failure>,
) -> Result<(T, Option<Pending<'a>>), Failure> {
    if choice.is_off() {
        return Ok((run(None)?, None));
    }
    let index = Index::open(sealing.trees.layers.real, observer);
    let stop = AtomicBool::new(false);
    let (outcome, made) = std::thread::scope(|scope| {
        let (jobs, taken) = channel();
        let worker = scope.spawn(|| sealing.work(taken, &index, &stop));
        let outcome = Watch::begin(choice, sealing, &index, app_dir, jobs)
            .and_then(|mut watch| Ok((run(Some(&mut watch))?, watch.end())));
        stop.store(outcome.is_err(), Ordering::Relaxed);
        (outcome, worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    let (outcome, found) = outcome?;
    Ok((outcome, Some(Pending { sealing, index, found, made })))
}

impl Pending<'_> {
    /// Leaves all for the phases that follow, and puts back what is not to be changed.
    ///
    /// # Errors
    /// When that is not possible.
    pub(crate) fn finish(self, observer: &dyn Observer) -> Result<(), Failure> {
        let layers_dir = self.sealing.trees.layers.real;
        self.found.of.iter().try_for_each(|of| of.put_back(layers_dir)).map_err(|error| {
            Failure::caused(Exit::Build, "failed to build: cannot discard the changes to layers", &error)
        })?;
        write(layers_dir, self.found.changes).map_err(|error| {
            Failure::caused(Exit::Build, "failed to build: cannot write the changes to layers", &error)
        })?;
        self.sealing.leave(self.made, observer)?;
        self.index.save(observer);
        Ok(())
    }
}

fn failed(what: &str, error: &SealError) -> Failure {
    Failure::caused(Exit::Build, format!("failed to build: cannot tell whether {what} changed"), error)
}

impl Sealed {
    fn of(
        choice: &Choice,
        buildpack: &GroupElement,
        dir: &Path,
        layers: &[FoundLayer],
    ) -> Result<Self, SealError> {
        let mut left = BTreeMap::new();
        for layer in layers {
            let policy = choice.of_layer(&buildpack.id, layer.toml.sealed);
            left.insert(layer.name.clone(), Left::of(policy, dir, &layer.name)?);
        }
        // No layer has these names.
        for name in NOT_LAYERS {
            left.insert((*name).to_owned(), Left::of(choice.of_layer(&buildpack.id, None), dir, name)?);
        }
        Ok(Self { buildpack: buildpack.id.clone(), dir: dir.to_owned(), layers: left })
    }

    /// What changed since the last look.
    fn look(&mut self, choice: &Choice, by: &str) -> Result<Vec<Changes>, SealError> {
        let mut found = Vec::new();
        let policy = choice.of_layer(&self.buildpack, None);
        for name in names(&self.dir)? {
            if policy != Policy::Off && !self.layers.contains_key(&name) {
                self.layers.insert(name, Left::nothing(policy));
            }
        }
        for (name, left) in self.layers.iter_mut().filter(|(_, left)| left.policy != Policy::Off) {
            let now = State::of(&self.dir, name)?;
            let files = left.seen.differences(&now, name);
            found.extend(changes(by, &format!("{}:{name}", self.buildpack), left.policy, files));
            left.seen = now;
        }
        Ok(found)
    }

    /// Makes the documents what they were. The contents of layers stay as they are: those that export have them sealed.
    fn put_back(&self, layers_dir: &Path) -> Result<(), SealError> {
        let is_discarded = |left: &Left| left.policy == Policy::Discard && left.seen != left.sealed;
        let folder = escape_id(&self.buildpack);
        for (name, left) in self.layers.iter().filter(|(_, left)| is_discarded(left)) {
            let path = files::below(layers_dir, Path::new(&folder).join(format!("{name}.toml")))?;
            match &left.sealed.toml {
                Some(bytes) if left.seen.toml != left.sealed.toml => {
                    files::write(&path, &String::from_utf8_lossy(bytes))?;
                }
                None => files::remove(&path)?,
                Some(_) => {}
            }
            if left.sealed.contents.is_empty() && !NOT_LAYERS.contains(&name.as_str()) {
                files::remove(&files::below(layers_dir, Path::new(&folder).join(name))?)?;
            }
        }
        Ok(())
    }
}

impl Left {
    fn of(policy: Policy, dir: &Path, name: &str) -> Result<Self, SealError> {
        let sealed = if policy == Policy::Off { State::nothing() } else { State::of(dir, name)? };
        Ok(Self { policy, seen: sealed.clone(), sealed })
    }

    /// A layer that its buildpack did not leave.
    fn nothing(policy: Policy) -> Self {
        Self { policy, sealed: State::nothing(), seen: State::nothing() }
    }
}

impl State {
    fn nothing() -> Self {
        Self { contents: Listing::default(), toml: None }
    }

    fn of(dir: &Path, name: &str) -> Result<Self, SealError> {
        let toml = files::read_bytes(&dir.join(format!("{name}.toml")), Links::Refuse, MAX_DOCUMENT)?;
        let is_layer = !NOT_LAYERS.contains(&name);
        let contents = if is_layer { Listing::of(&dir.join(name))? } else { Listing::default() };
        Ok(Self { contents, toml })
    }

    fn differences(&self, now: &Self, name: &str) -> Vec<FileChange> {
        let mut files = tell(&self.contents.changes(&now.contents));
        let kind = match (&self.toml, &now.toml) {
            (before, after) if before == after => return files,
            (None, _) => ChangeKind::Created,
            (_, None) => ChangeKind::Deleted,
            _ => ChangeKind::Changed,
        };
        files.insert(0, FileChange { kind: kind.to_string(), path: format!("{name}.toml") });
        files
    }
}

/// The names of the layers that have a description. What cannot be a layer's is told when the layers are used.
fn names(dir: &Path) -> Result<Vec<String>, FileError> {
    let paths = files::list(dir)?;
    let name = |path: &PathBuf| {
        let name = path.file_name()?.to_str()?.strip_suffix(".toml")?;
        (is_name(name) && !NOT_LAYERS.contains(&name)).then(|| name.to_owned())
    };
    Ok(paths.iter().filter_map(name).collect())
}

fn tell(changes: &[strata_layer::Change]) -> Vec<FileChange> {
    let told = |change: &strata_layer::Change| FileChange {
        kind: change.kind.to_string(),
        path: change.path.to_string_lossy().into_owned(),
    };
    changes.iter().map(told).collect()
}

/// Counts changes and keeps the first of them; `None` when there are none.
fn changes(by: &str, of: &str, policy: Policy, mut files: Vec<FileChange>) -> Option<Changes> {
    let count = |kinds: &[ChangeKind]| {
        let is = |file: &&FileChange| kinds.iter().any(|kind| kind.to_string() == file.kind);
        files.iter().filter(is).count() as u64
    };
    let mut changes = Changes {
        by: by.to_owned(),
        of: of.to_owned(),
        outcome: outcome(policy),
        created: count(&[ChangeKind::Created]),
        changed: count(&[ChangeKind::Changed, ChangeKind::Touched]),
        deleted: count(&[ChangeKind::Deleted]),
        chmod: count(&[ChangeKind::Mode]),
        files: Vec::new(),
    };
    files.truncate(MAX_TOLD);
    changes.files = files;
    Some(changes).filter(|changes| !changes.files.is_empty())
}

fn announce(changes: &Changes, observer: &dyn Observer) {
    observer.event(Event::Changed { changes: changes.clone() });
    match (changes.of.as_str(), changes.outcome) {
        // A buildpack may well change the app.
        ("app", _) => observer.debug(changes.to_string()),
        (_, Outcome::Kept) => observer.warn(format!("{changes}; the image will have it so")),
        (_, Outcome::Discarded) => observer.info(format!("{changes}; the image will not have it so")),
        // The failure says it.
        (_, Outcome::Refused) => {}
    }
}

fn refuse(found: &[Changes]) -> Result<(), Failure> {
    let mut refused =
        found.iter().filter(|changes| changes.outcome == Outcome::Refused).map(Changes::to_string);
    let Some(first) = refused.next() else { return Ok(()) };
    let failure = Failure::new(Exit::Build, format!("failed to build: {first}"));
    let hint = "layers are sealed once their buildpack is done; with the policy warn or discard for sealed layers the build goes on";
    Err(Failure { causes: refused.collect(), ..failure.hint(hint) })
}

/// The record of changes, between phases.
#[derive(Serialize, Deserialize)]
struct Record {
    version: u32,
    /// Of the build that found them.
    build: Digest,
    changes: Vec<Changes>,
}

/// Removes what an earlier build found and sealed.
///
/// # Errors
/// When it cannot be removed.
pub(crate) fn forget(layers_dir: &Path) -> Result<(), FileError> {
    files::remove(&path(layers_dir)?)?;
    bytes::forget(layers_dir)
}

fn path(layers_dir: &Path) -> Result<PathBuf, FileError> {
    files::below(layers_dir, "@strata/changes.json")
}

fn write(layers_dir: &Path, changes: Vec<Changes>) -> Result<(), SealError> {
    if changes.is_empty() {
        return Ok(());
    }
    let (path, build) = (path(layers_dir)?, bytes::build_of(layers_dir)?);
    let text = serde_json::to_string_pretty(&Record { version: VERSION, build, changes })?;
    Ok(files::write(&path, &text)?)
}

/// What the builder found, for the report; nothing when it left nothing that can be understood.
pub fn found_changes(layers_dir: &Path, observer: &dyn Observer) -> Vec<Changes> {
    let read = || -> Result<Option<Record>, SealError> {
        let Some(bytes) = files::read_bytes(&path(layers_dir)?, Links::Refuse, MAX_RECORD)? else {
            return Ok(None);
        };
        let record: Record = serde_json::from_slice(&bytes)?;
        let build = bytes::build_of(layers_dir)?;
        Ok(Some(record).filter(|record| record.version == VERSION && record.build == build))
    };
    match read() {
        Ok(record) => record.map(|record| record.changes).unwrap_or_default(),
        Err(error) => {
            let cause = Failure::caused(Exit::Export, "nothing is known of changes to layers", &error);
            observer.warn(cause.chain());
            Vec::new()
        }
    }
}
