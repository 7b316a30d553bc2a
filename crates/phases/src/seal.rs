//! Sealed layers: after each buildpack, looks at what it did to the layers of those before it, and to the app.

use crate::build::{FoundLayer, NOT_LAYERS};
use crate::event::{Event, Observer};
use crate::failure::Failure;
use crate::files::{self, FileError, Links};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use strata_decide::seal::{Choice, outcome};
use strata_layer::{ChangeKind, LayerError, Listing};
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
const VERSION: u32 = 1;

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

/// A layer as its buildpack left it.
#[derive(Debug)]
struct Left {
    policy: Policy,
    contents: Listing,
    /// Its description; `None` when there is none.
    toml: Option<Vec<u8>>,
}

/// What one buildpack left.
#[derive(Debug)]
struct Sealed {
    buildpack: String,
    dir: PathBuf,
    /// By name. What others added is here, too, once it was told.
    layers: BTreeMap<String, Left>,
}

/// Keeps an eye on the layers of a build.
#[derive(Debug)]
pub(crate) struct Watch<'a> {
    choice: &'a Choice,
    app_dir: &'a Path,
    app: Listing,
    of: Vec<Sealed>,
    changes: Vec<Changes>,
}

impl<'a> Watch<'a> {
    /// Begins, before the first buildpack; `None` when nothing is to be sealed.
    ///
    /// # Errors
    /// When the app cannot be listed.
    pub(crate) fn begin(choice: &'a Choice, app_dir: &'a Path) -> Result<Option<Self>, Failure> {
        if choice.is_off() {
            return Ok(None);
        }
        let app = Listing::of(app_dir).map_err(|error| failed("the app", &error.into()))?;
        Ok(Some(Self { choice, app_dir, app, of: Vec::new(), changes: Vec::new() }))
    }

    /// Tells what a buildpack did to the layers of others, and seals its own.
    ///
    /// # Errors
    /// When it changed what must not be changed, or that cannot be told.
    pub(crate) fn after(
        &mut self,
        buildpack: &GroupElement,
        dir: &Path,
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
        let own = Sealed::of(self.choice, buildpack, dir, layers)
            .map_err(|error| failed(&format!("the layers of {by}"), &error))?;
        self.of.retain(|of| of.buildpack != buildpack.id);
        self.of.push(own);
        Ok(())
    }

    /// Leaves what was found for the phases that follow.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn finish(self, layers_dir: &Path) -> Result<(), Failure> {
        write(layers_dir, self.changes).map_err(|error| {
            Failure::caused(Exit::Build, "failed to build: cannot write the changes to layers", &error)
        })
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
        Ok(Self { buildpack: buildpack.id.clone(), dir: dir.to_owned(), layers: left })
    }

    /// What changed since the last look.
    fn look(&mut self, choice: &Choice, by: &str) -> Result<Vec<Changes>, SealError> {
        let mut found = Vec::new();
        for (name, left) in self.layers.iter_mut().filter(|(_, left)| left.policy != Policy::Off) {
            let now = Left::of(left.policy, &self.dir, name)?;
            let files = left.differences(&now, name);
            found.extend(changes(by, &format!("{}:{name}", self.buildpack), left.policy, files));
            *left = now;
        }
        let policy = choice.of_layer(&self.buildpack, None);
        for name in names(&self.dir)? {
            if policy == Policy::Off || self.layers.contains_key(&name) {
                continue;
            }
            let now = Left::of(policy, &self.dir, &name)?;
            let file = FileChange { kind: ChangeKind::Created.to_string(), path: format!("{name}.toml") };
            found.extend(changes(by, &format!("{}:{name}", self.buildpack), policy, vec![file]));
            self.layers.insert(name, now);
        }
        Ok(found)
    }
}

impl Left {
    fn of(policy: Policy, dir: &Path, name: &str) -> Result<Self, SealError> {
        if policy == Policy::Off {
            return Ok(Self { policy, contents: Listing::default(), toml: None });
        }
        let toml = files::read_bytes(&dir.join(format!("{name}.toml")), Links::Refuse, MAX_DOCUMENT)?;
        Ok(Self { policy, contents: Listing::of(&dir.join(name))?, toml })
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
    changes: Vec<Changes>,
}

/// Removes what an earlier build found.
///
/// # Errors
/// When it cannot be removed.
pub(crate) fn forget(layers_dir: &Path) -> Result<(), FileError> {
    files::remove(&path(layers_dir)?)
}

fn path(layers_dir: &Path) -> Result<PathBuf, FileError> {
    files::below(layers_dir, "@strata/changes.json")
}

fn write(layers_dir: &Path, changes: Vec<Changes>) -> Result<(), SealError> {
    if changes.is_empty() {
        return Ok(());
    }
    let path = path(layers_dir)?;
    let text = serde_json::to_string_pretty(&Record { version: VERSION, changes })?;
    Ok(files::write(&path, &text)?)
}

/// What the builder found, for the report; nothing when it left nothing that can be understood.
pub fn found_changes(layers_dir: &Path, observer: &dyn Observer) -> Vec<Changes> {
    let read = || -> Result<Option<Record>, SealError> {
        let Some(bytes) = files::read_bytes(&path(layers_dir)?, Links::Refuse, MAX_RECORD)? else {
            return Ok(None);
        };
        let record: Record = serde_json::from_slice(&bytes)?;
        Ok(Some(record).filter(|record| record.version == VERSION))
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
