//! What buildpacks left, as it was then and as it is by now.

use super::SealError;
use crate::files::{self, FileError, Links};
use crate::found::{FoundLayer, NOT_LAYERS};
use crate::ground::Written;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::path::{Path, PathBuf};
use strata_decide::sbom::is_sbom;
use strata_decide::seal::{Choice, keeps_sealed_bytes};
use strata_layer::unchanged::Moment;
use strata_layer::{Change, ChangeKind, Listing};
use strata_spec::buildpack::escape_id;
use strata_spec::doc::MAX_DOCUMENT;
use strata_spec::group::GroupElement;
use strata_spec::layer::is_name;
use strata_spec::sealed::{FileChange, Policy};

/// What one buildpack left.
#[derive(Debug)]
pub(super) struct Sealed {
    pub(super) buildpack: String,
    pub(super) dir: PathBuf,
    /// Whether the folder is set apart while others run, so that it stays what it is.
    pub(super) is_apart: bool,
    /// By name. What others added is here, too, once it was told, and so are the buildpack's other documents.
    layers: BTreeMap<String, Left>,
}

/// A layer as its buildpack left it, and as it was when somebody looked last. Of one that is set apart the policy is all
/// that has to be known.
#[derive(Debug)]
struct Left {
    policy: Policy,
    sealed: State,
    seen: State,
    /// The sealed SBOM files, where nobody can reach them; for those whose changes are discarded.
    copies: BTreeMap<String, File>,
}

/// A layer at some moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct State {
    contents: Listing,
    /// Its description; `None` when there is none.
    toml: Option<Vec<u8>>,
    /// Its SBOM files.
    sboms: BTreeMap<String, Listing>,
}

/// What was changed of one layer: its name, its policy and what happened to it.
pub(super) type Told = (String, Policy, Vec<FileChange>);

impl Sealed {
    /// What a buildpack left in its folder. `can_be_apart` says whether folders can be set apart here.
    pub(super) fn of(
        choice: &Choice,
        buildpack: &GroupElement,
        dir: &Path,
        layers: &[FoundLayer],
        can_be_apart: bool,
    ) -> Result<Self, SealError> {
        let of_layers = layers.iter().map(|layer| (layer.name.as_str(), layer.toml.sealed));
        let policies: BTreeMap<&str, Policy> = of_layers
            // No layer has these names.
            .chain(NOT_LAYERS.iter().map(|name| (*name, None)))
            .map(|(name, sealed)| (name, choice.of_layer(&buildpack.id, sealed)))
            .collect();
        // What is to be kept has to be in the folder itself. A file with a name elsewhere can be written to there.
        let is_apart = can_be_apart
            && policies.values().all(|policy| keeps_sealed_bytes(*policy))
            && is_dir(dir)
            && !Listing::of(dir)?.has_links_elsewhere();
        let left = |(name, policy): (&str, Policy)| {
            let left = if is_apart { Left::nothing(policy) } else { Left::of(policy, dir, name)? };
            Ok((name.to_owned(), left))
        };
        let layers = policies.into_iter().map(left).collect::<Result<_, SealError>>()?;
        Ok(Self { buildpack: buildpack.id.clone(), dir: dir.to_owned(), is_apart, layers })
    }

    /// What changed since the last look.
    pub(super) fn look(&mut self, choice: &Choice) -> Result<Vec<Told>, SealError> {
        self.add_new(choice)?;
        let mut found = Vec::new();
        for (name, left) in self.layers.iter_mut().filter(|(_, left)| left.policy != Policy::Off) {
            let now = State::of(&self.dir, name)?;
            found.push((name.clone(), left.policy, left.seen.differences(&now, name)));
            left.seen = now;
        }
        Ok(found)
    }

    /// What was written while the folder was set apart.
    pub(super) fn read(&mut self, choice: &Choice, written: &Written) -> Result<Vec<Told>, SealError> {
        let changes = Listing::written(&written.before, &written.folder, &written.upper)?;
        if changes.is_empty() {
            return Ok(Vec::new());
        }
        self.add_new(choice)?;
        let mut found: BTreeMap<&str, (Vec<FileChange>, Vec<FileChange>)> = BTreeMap::new();
        for change in &changes {
            let Some(name) = layer_of(&change.path).filter(|name| self.layers.contains_key(*name)) else {
                continue;
            };
            let (documents, contents) = found.entry(name).or_default();
            match change.path.strip_prefix(name) {
                Ok(_) if NOT_LAYERS.contains(&name) => {}
                Ok(path) => contents.push(file_change(change.kind, path)),
                Err(_) if is_rewritten(change, written)? => {}
                Err(_) => documents.push(file_change(change.kind, &change.path)),
            }
        }
        if !is_dir(&written.folder) {
            // Of what is gone the top alone was told.
            for path in files::list(&written.before)? {
                let file = Path::new(path.file_name().unwrap_or_default());
                let known = layer_of(file).and_then(|name| self.layers.get_key_value(name));
                let Some((name, _)) = known else { continue };
                let (documents, contents) = found.entry(name).or_default();
                match file.strip_prefix(name) {
                    Ok(top) => contents.push(file_change(ChangeKind::Deleted, top)),
                    Err(_) => documents.push(file_change(ChangeKind::Deleted, file)),
                }
            }
        }
        let told = found.into_iter().filter_map(|(name, (documents, contents))| {
            let policy = self.layers.get(name)?.policy;
            Some((name.to_owned(), policy, [documents, contents].concat()))
        });
        Ok(told.collect())
    }

    /// Takes up layers that others added.
    fn add_new(&mut self, choice: &Choice) -> Result<(), FileError> {
        let policy = choice.of_layer(&self.buildpack, None);
        for name in names(&self.dir)? {
            if policy != Policy::Off && !self.layers.contains_key(&name) {
                self.layers.insert(name, Left::nothing(policy));
            }
        }
        Ok(())
    }

    /// Makes the documents what they were. The contents of layers stay as they are: those that export have them sealed.
    pub(super) fn put_back(&self, layers_dir: &Path) -> Result<(), SealError> {
        let is_discarded = |left: &Left| left.policy == Policy::Discard && left.seen != left.sealed;
        let folder = PathBuf::from(escape_id(&self.buildpack));
        for (name, left) in self.layers.iter().filter(|(_, left)| !self.is_apart && is_discarded(left)) {
            let place = |file: &str| files::below(layers_dir, folder.join(file));
            let path = place(&format!("{name}.toml"))?;
            match &left.sealed.toml {
                Some(bytes) if left.seen.toml != left.sealed.toml => {
                    files::write(&path, &String::from_utf8_lossy(bytes))?;
                }
                None => files::remove(&path)?,
                Some(_) => {}
            }
            for file in left.seen.sboms.keys().chain(left.sealed.sboms.keys()) {
                match left.copies.get(file) {
                    _ if left.seen.sboms.get(file) == left.sealed.sboms.get(file) => {}
                    Some(copy) => write_copy(&place(file)?, copy)?,
                    None => files::remove(&place(file)?)?,
                }
            }
            if left.sealed.contents.is_empty() && !NOT_LAYERS.contains(&name.as_str()) {
                files::remove(&place(name)?)?;
            }
        }
        Ok(())
    }

    /// When something changed last, as far as anybody looked.
    pub(super) fn newest(&self) -> Moment {
        let of = |left: &Left| left.seen.newest();
        self.layers.values().map(of).max().unwrap_or_default()
    }
}

impl Left {
    fn of(policy: Policy, dir: &Path, name: &str) -> Result<Self, SealError> {
        if policy == Policy::Off {
            return Ok(Self::nothing(policy));
        }
        let sealed = State::of(dir, name)?;
        let mut copies = BTreeMap::new();
        for file in sealed.sboms.keys().filter(|_| policy == Policy::Discard) {
            copies.insert(file.clone(), copy_of(dir, file)?);
        }
        Ok(Self { policy, seen: sealed.clone(), sealed, copies })
    }

    /// A layer that its buildpack did not leave, or that nothing has to be known of.
    fn nothing(policy: Policy) -> Self {
        Self { policy, sealed: State::default(), seen: State::default(), copies: BTreeMap::new() }
    }
}

/// A copy of a file, without a name.
fn copy_of(dir: &Path, file: &str) -> Result<File, SealError> {
    let path = dir.join(file);
    let failed = |source| FileError::Io { action: "copy", path: path.clone(), source };
    let mut copy = tempfile::tempfile_in(dir).map_err(failed)?;
    // One that is gone is told by the next look.
    if let Some(mut from) = files::open(&path, Links::Refuse)? {
        std::io::copy(&mut from, &mut copy).map_err(failed)?;
    }
    Ok(copy)
}

fn write_copy(path: &Path, mut copy: &File) -> Result<(), FileError> {
    copy.seek(SeekFrom::Start(0)).map_err(|source| FileError::Io {
        action: "write",
        path: path.to_owned(),
        source,
    })?;
    files::write_from(path, &mut copy)
}

impl State {
    fn of(dir: &Path, name: &str) -> Result<Self, SealError> {
        let toml = files::read_bytes(&dir.join(format!("{name}.toml")), Links::Refuse, MAX_DOCUMENT)?;
        let is_layer = !NOT_LAYERS.contains(&name);
        let contents = if is_layer { Listing::of(&dir.join(name))? } else { Listing::default() };
        let mut sboms = BTreeMap::new();
        for path in files::list(dir)? {
            let file = path.file_name().and_then(|file| file.to_str()).unwrap_or_default();
            if is_sbom(file) && layer_of(Path::new(file)) == Some(name) {
                sboms.insert(file.to_owned(), Listing::of(&path)?);
            }
        }
        Ok(Self { contents, toml, sboms })
    }

    fn differences(&self, now: &Self, name: &str) -> Vec<FileChange> {
        let mut files = Vec::new();
        let nothing = Listing::default();
        let names: BTreeSet<&String> = self.sboms.keys().chain(now.sboms.keys()).collect();
        for file in names {
            let of = |state: &Self| state.sboms.get(file).unwrap_or(&nothing).clone();
            files.extend(of(self).changes(&of(now)).first().map(|it| file_change(it.kind, Path::new(file))));
        }
        let kind = match (&self.toml, &now.toml) {
            (before, after) if before == after => None,
            (None, _) => Some(ChangeKind::Created),
            (_, None) => Some(ChangeKind::Deleted),
            _ => Some(ChangeKind::Changed),
        };
        files.extend(kind.map(|kind| file_change(kind, Path::new(&format!("{name}.toml")))));
        files.extend(tell(&self.contents.changes(&now.contents)));
        files
    }

    fn newest(&self) -> Moment {
        self.sboms.values().map(Listing::newest).chain([self.contents.newest()]).max().unwrap_or_default()
    }
}

fn is_dir(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir())
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

/// Which layer a path below a buildpack's folder is of: its contents, its description or its SBOM files.
fn layer_of(path: &Path) -> Option<&str> {
    let mut parts = path.iter();
    let first = parts.next()?.to_str()?;
    let is_file = parts.next().is_none();
    match first.rfind(".sbom.").and_then(|at| first.get(..at)) {
        Some(subject) if is_file && is_sbom(first) => Some(subject),
        _ if is_file => Some(first.strip_suffix(".toml").unwrap_or(first)),
        _ => Some(first),
    }
}

/// Whether a document was written with the bytes that it had.
fn is_rewritten(change: &Change, written: &Written) -> Result<bool, FileError> {
    let read = |top: &Path| files::read_bytes(&top.join(&change.path), Links::Refuse, MAX_DOCUMENT);
    let is_toml = change.path.extension().is_some_and(|extension| extension == "toml");
    Ok(is_toml && change.kind != ChangeKind::Deleted && read(&written.before)? == read(&written.folder)?)
}

fn file_change(kind: ChangeKind, path: &Path) -> FileChange {
    FileChange { kind: kind.to_string(), path: path.to_string_lossy().into_owned() }
}

pub(super) fn tell(changes: &[Change]) -> Vec<FileChange> {
    changes.iter().map(|change| file_change(change.kind, &change.path)).collect()
}
