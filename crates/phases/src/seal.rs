//! Sealed layers: after each buildpack, looks at what it did to the layers of those before it, and to the app.

mod bytes;
mod left;

use crate::event::{Event, Observer};
use crate::failure::Failure;
use crate::files::{self, FileError, Links};
use crate::found::FoundLayer;
use crate::ground::{Apart, Ground, GroundError};
use crate::index::Index;
pub use bytes::Sealing;
use bytes::{Build, Ending, Job, Made};
pub(crate) use bytes::{Contents, contents_of};
use left::{Sealed, Told, tell};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Sender, channel};
use strata_decide::seal::{Choice, outcome};
use strata_layer::unchanged::Clock;
use strata_layer::{ChangeKind, LayerError, Listing};
use strata_spec::buildpack::escape_id;
use strata_spec::exit::Exit;
use strata_spec::group::GroupElement;
use strata_spec::sealed::{self, Changes, FileChange, Outcome, Policy, SHARED, SealedLayers};

/// How many changes of one layer by one buildpack are told one by one.
const MAX_TOLD: usize = 100;
/// How many changes of the app, where a new folder is one.
const MAX_TOLD_OF_APP: usize = 1000;
/// What the app is called beside layers.
const APP: &str = "app";
/// The largest record of changes that is read, in bytes.
const MAX_RECORD: usize = 16 * 1024 * 1024;
/// Records of other versions are passed over.
const VERSION: u32 = 3;

/// Why nobody knows whether layers changed.
#[derive(Debug, thiserror::Error)]
enum SealError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Layer(#[from] LayerError),
    #[error(transparent)]
    Ground(#[from] GroundError),
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

/// Keeps an eye on the layers of a build.
pub(crate) struct Watch<'a> {
    group: &'a [GroupElement],
    choice: &'a Choice,
    sealing: &'a Sealing<'a>,
    index: &'a Index,
    apart: Option<&'a dyn Apart>,
    app_dir: &'a Path,
    app: Listing,
    /// Those of the app and of the layers; `None` where changes cannot be relied on to show.
    clocks: [Option<Clock>; 2],
    of: Vec<Sealed>,
    changes: Vec<Changes>,
    /// Takes layers whose buildpack is done.
    jobs: Sender<Job>,
}

impl<'a> Watch<'a> {
    /// Begins, before the first buildpack.
    ///
    /// # Errors
    /// When the app cannot be listed.
    fn begin(
        group: &'a [GroupElement],
        choice: &'a Choice,
        sealing: &'a Sealing<'a>,
        index: &'a Index,
        apart: Option<&'a dyn Apart>,
        app_dir: &'a Path,
        jobs: Sender<Job>,
    ) -> Result<Self, Failure> {
        let app = Listing::of(app_dir).map_err(|error| failed("the app", &error.into()))?;
        // Whoever has none sees a little less.
        let clocks = [app_dir, sealing.trees.layers.real].map(|dir| Clock::of(dir).unwrap_or_default());
        let (of, changes) = (Vec::new(), Vec::new());
        let watch = Self { group, choice, sealing, index, apart, app_dir, app, clocks, of, changes, jobs };
        watch.let_time_pass();
        Ok(watch)
    }

    /// Waits until whatever is written shows by its time: clocks of file systems tick every 1 to 10 ms.
    fn let_time_pass(&self) {
        let layers = self.of.iter().map(Sealed::newest).max().unwrap_or_default();
        for (clock, newest) in self.clocks.iter().flatten().zip([self.app.newest(), layers]) {
            // A clock that stands still is no reason to fail.
            clock.pass(newest).unwrap_or_default();
        }
    }

    /// Sets apart what must stay as it is while a buildpack runs.
    ///
    /// # Errors
    /// When that is not possible.
    pub(crate) fn before(&mut self, buildpack: &GroupElement) -> Result<(), Failure> {
        let Some(apart) = self.apart else { return Ok(()) };
        let is_apart = |id: &str| self.of.iter().any(|of| of.is_apart && of.buildpack == id);
        let is_own = |id: &str| id == buildpack.id;
        if !self.group.iter().any(|of| is_apart(&of.id) && !is_own(&of.id)) {
            return Ok(());
        }
        let layers_dir = self.sealing.trees.layers.real;
        let own = layers_dir.join(escape_id(&buildpack.id));
        let others = self.group.iter().filter(|of| is_own(&of.id) || !is_apart(&of.id));
        let folders = others.map(|of| layers_dir.join(escape_id(&of.id))).chain([layers_dir.join(SHARED)]);
        let folders: Vec<PathBuf> = folders.collect();
        // What is written to the folder of one that is yet to run has to be there when it runs: only a folder shows through.
        let is_missing = |dir: &&PathBuf| **dir == own || dir.symlink_metadata().is_err();
        let made = folders.iter().filter(is_missing).try_for_each(|dir| files::make_dir(dir));
        made.map_err(SealError::from).and_then(|()| Ok(apart.set(&folders)?)).map_err(|error| {
            Failure::caused(Exit::Build, "failed to build: cannot set sealed layers apart", &error)
        })
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
        let written = self.apart.map_or(Ok(None), |apart| apart.written());
        let written = written.map_err(|error| failed("layers", &error.into()))?;
        for of in self.of.iter_mut().filter(|of| of.buildpack != buildpack.id) {
            let looked = match &written {
                _ if !of.is_apart => of.look(self.choice),
                Some(written) => of.read(self.choice, &written.below(Path::new(&escape_id(&of.buildpack)))),
                None => Ok(Vec::new()),
            };
            let looked =
                looked.map_err(|error| failed(&format!("the layers of {}", of.buildpack), &error))?;
            found.extend(told(&by, &of.buildpack, looked));
        }
        self.apart.map_or(Ok(()), |apart| apart.lift()).map_err(|error| failed("layers", &error.into()))?;
        let app = Listing::of(self.app_dir).map_err(|error| failed("the app", &error.into()))?;
        found.extend(changes(&by, APP, Policy::Off, whole(tell(&self.app.changes(&app)))));
        self.app = app;
        found.iter().for_each(|changes| announce(changes, observer));
        refuse(&found)?;
        self.changes.extend(found);
        self.seal(buildpack, layers)?;
        self.let_time_pass();
        Ok(())
    }

    fn seal(&mut self, buildpack: &GroupElement, layers: &[FoundLayer]) -> Result<(), Failure> {
        let dir = self.sealing.trees.layers.real.join(escape_id(&buildpack.id));
        let own = Sealed::of(self.choice, buildpack, &dir, layers, self.apart.is_some())
            .map_err(|error| failed(&format!("the layers of {}", buildpack.label()), &error))?;
        // While this one runs, its layers may change; after the last one nothing changes what can be set apart.
        let is_last = self.group.last().is_some_and(|last| last.id == buildpack.id);
        let is_needed = !(own.is_apart && is_last);
        for layer in layers.iter().filter(|_| is_needed) {
            let policy = self.choice.of_layer(&buildpack.id, layer.toml.sealed);
            let is_wanted = layer.toml.types.launch || layer.toml.types.cache;
            if policy == Policy::Off || !is_wanted || !layer.dir.is_dir() {
                continue;
            }
            let taken = self.sealing.take(policy, (buildpack, layer), own.is_apart, self.index);
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
}

/// Layers that are sealed, but for what is to be done once no process of a buildpack is left.
pub(crate) struct Pending<'a> {
    choice: &'a Choice,
    sealing: &'a Sealing<'a>,
    index: Index,
    /// Who ran last: what is done later is told of it.
    last: String,
    of: Vec<Sealed>,
    changes: Vec<Changes>,
    made: Vec<Made>,
}

/// Runs what runs the buildpacks, with somebody who watches them; with nobody when nothing is to be sealed.
///
/// # Errors
/// Those of `run`, and when the app cannot be listed.
pub(crate) fn watch<'a, T>(
    group: &[GroupElement],
    choice: &'a Choice,
    sealing: &'a Sealing<'a>,
    app_dir: &Path,
    ground: &dyn Ground,
    observer: &dyn Observer,
    run: impl FnOnce(Option<&mut Watch<'_>>) -> Result<T, Failure>,
) -> Result<(T, Option<Pending<'a>>), Failure> {
    if choice.is_off() {
        return Ok((run(None)?, None));
    }
    let apart = apart(choice, ground, observer);
    let index = Index::open(sealing.trees.layers.real, observer);
    let ending = Ending::default();
    let (outcome, made) = std::thread::scope(|scope| {
        let ((jobs, taken), (begun, has_begun)) = (channel(), channel());
        let (index, ending) = (&index, &ending);
        let work = move || {
            // Nobody waits for it any more only when the build is over.
            begun.send(apart.map_or(Ok(()), Apart::see_below)).unwrap_or_default();
            drop(begun);
            sealing.work(taken, index, ending)
        };
        let worker = match std::thread::Builder::new().name("seal".to_owned()).spawn_scoped(scope, work) {
            Ok(worker) => worker,
            Err(error) => return (Err(no_thread(&error)), Vec::new()),
        };
        let has_begun = has_begun.recv().unwrap_or(Ok(())).map_err(|error| {
            Failure::caused(Exit::Build, "failed to build: cannot begin to seal layers", &error)
        });
        let outcome = has_begun
            .and_then(|()| Watch::begin(group, choice, sealing, index, apart, app_dir, jobs))
            // With the watch goes the sender: nothing more is to be packed.
            .and_then(|mut watch| Ok((run(Some(&mut watch))?, (watch.of, watch.changes))));
        ending.has_failed.store(outcome.is_err(), Ordering::Relaxed);
        ending.is_awaited.store(true, Ordering::Relaxed);
        (outcome, worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    let (outcome, (of, changes)) = outcome?;
    let last = group.last().map(GroupElement::label).unwrap_or_default();
    Ok((outcome, Some(Pending { choice, sealing, index, last, of, changes, made })))
}

fn no_thread(error: &std::io::Error) -> Failure {
    let failure =
        Failure::caused(Exit::Build, "failed to build: cannot start the thread that seals layers", error);
    failure.hint(
        "there may be no more processes and threads than a limit allows; with the policy off none is needed",
    )
}

/// What sets folders apart, when there is need for it.
fn apart<'a>(choice: &Choice, ground: &'a dyn Ground, observer: &dyn Observer) -> Option<&'a dyn Apart> {
    if !choice.may_keep_sealed_bytes() {
        return None;
    }
    match ground.apart() {
        Ok(apart) => Some(apart),
        Err(error) => {
            let why = crate::failure::chain(&error);
            observer.detail(format!(
                "sealed layers cannot be set apart, so that changes are found by comparing: {why}"
            ));
            None
        }
    }
}

impl Pending<'_> {
    /// Looks once more, now that no process of a buildpack is left, and puts back the documents that are not to be changed.
    ///
    /// # Errors
    /// When a process that was left over changed what must not be changed, or that cannot be told or put back.
    pub(crate) fn settle(&mut self, observer: &dyn Observer) -> Result<(), Failure> {
        let layers_dir = self.sealing.trees.layers.real;
        let mut found = Vec::new();
        // Nothing was left over that could have written to what is set apart.
        for of in self.of.iter_mut().filter(|of| !of.is_apart) {
            let looked = of.look(self.choice);
            let looked =
                looked.map_err(|error| failed(&format!("the layers of {}", of.buildpack), &error))?;
            found.extend(told(&self.last, &of.buildpack, looked));
        }
        found.iter().for_each(|changes| announce(changes, observer));
        refuse(&found)?;
        self.changes.extend(found);
        self.of.iter().try_for_each(|of| of.put_back(layers_dir)).map_err(|error| {
            Failure::caused(Exit::Build, "failed to build: cannot discard the changes to layers", &error)
        })
    }

    /// Leaves all for the phases that follow. `config/metadata.toml` is there.
    ///
    /// # Errors
    /// When that is not possible.
    pub(crate) fn finish(self, observer: &dyn Observer) -> Result<(), Failure> {
        let layers_dir = self.sealing.trees.layers.real;
        write(layers_dir, self.changes).map_err(|error| {
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

/// Leaves out what is in new folders: buildpacks may fill the app with as much as they like.
fn whole(mut files: Vec<FileChange>) -> Vec<FileChange> {
    let created = ChangeKind::Created.to_string();
    let mut new = HashSet::new();
    let is_told = |file: &FileChange| {
        let is_within = Path::new(&file.path).ancestors().skip(1).any(|above| new.contains(above));
        if !is_within && file.kind == created {
            new.insert(PathBuf::from(&file.path));
        }
        !is_within
    };
    files.retain(is_told);
    files
}

/// What is told of the layers of a buildpack.
fn told(by: &str, of: &str, looked: Vec<Told>) -> impl Iterator<Item = Changes> {
    let told = move |(name, policy, files)| changes(by, &format!("{of}:{name}"), policy, files);
    looked.into_iter().filter_map(told)
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
    files.truncate(if of == APP { MAX_TOLD_OF_APP } else { MAX_TOLD });
    changes.files = files;
    Some(changes).filter(|changes| !changes.files.is_empty())
}

fn announce(changes: &Changes, observer: &dyn Observer) {
    observer.event(Event::Changed { changes: changes.clone() });
    match (changes.of.as_str(), changes.outcome) {
        // A buildpack may well change the app.
        (APP, _) => observer.debug(changes.to_string()),
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
    #[serde(flatten)]
    build: Build,
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
    let (path, build) = (path(layers_dir)?, Build::here(layers_dir)?);
    let text = serde_json::to_string_pretty(&Record { version: VERSION, build, changes })?;
    Ok(files::write(&path, &text)?)
}

/// What the builder found, for the report; nothing when it left nothing that can be understood.
pub fn found_changes(layers_dir: &Path, observer: &dyn Observer) -> Vec<Changes> {
    let read = || -> Result<Option<Record>, SealError> {
        let path = path(layers_dir)?;
        let Some(bytes) = files::read_bytes(&path, Links::Refuse, MAX_RECORD)? else {
            return Ok(None);
        };
        let record: Record = serde_json::from_slice(&bytes)?;
        let here = Build::here(layers_dir)?;
        Ok(Some(record).filter(|record| record.version == VERSION && record.build.is(&here)))
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
