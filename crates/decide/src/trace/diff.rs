//! What differs between two images: inputs, then layers, then files.

use super::path::What;
use super::{Other, Row, Trace, words};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use strata_oci::{Digest, ImageConfig};
use strata_spec::labels::{APP_SOURCE, BUILD_METADATA, BuildMetadata, LIFECYCLE_METADATA, PROJECT_METADATA};
use strata_spec::origins::{Kind, Source};

/// Bytes that a tree of files may take in memory, about.
const MAX_TREE: usize = 512 << 20;
/// What an entry takes besides its name.
const ENTRY: usize = 120;

/// Something that is not the same. An empty side has nothing of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// What it is.
    pub what: String,
    /// In the first image.
    pub old: String,
    /// In the second one.
    pub new: String,
}

/// What went into two images: what is not the same, and what cannot be compared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inputs {
    /// What is not the same.
    pub changes: Vec<Change>,
    /// What only one of them says.
    pub unknown: Vec<Unknown>,
}

/// An input that one image says nothing of, so that nobody knows whether it differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Unknown {
    /// What it is.
    pub what: String,
    /// The image that does not say.
    pub of: Side,
    /// What the other one says.
    pub other: String,
}

/// One of two images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Side {
    /// The first.
    Old,
    /// The second.
    New,
}

/// An input without a checksum.
const THERE: &str = "there";
/// What labels say of sources, as reports do; reports say more.
const LABELLED: [&str; 7] = ["changes", "digest", "path", "url", "branch", "uuid", "project"];

/// Compares what went into two images.
pub fn inputs(old: &Trace, new: &Trace) -> Inputs {
    let (before, after) = (said(old), said(new));
    let mut found = Inputs::default();
    let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    for key in keys {
        let (said_old, said_new) = (before.get(key), after.get(key));
        let unknown = match (said_old.map(String::as_str), said_new.map(String::as_str)) {
            (Some(one), Some(other)) if one == other => continue,
            (None, Some(_)) if !would_tell(old, new, key) => Some(Side::Old),
            (Some(_), None) if !would_tell(new, old, key) => Some(Side::New),
            (Some(THERE), Some(_)) => Some(Side::Old),
            (Some(_), Some(THERE)) => Some(Side::New),
            _ => None,
        };
        let (what, old, new) = (key.clone(), said_old.cloned(), said_new.cloned());
        let (old, new) = (old.unwrap_or_default(), new.unwrap_or_default());
        match unknown {
            Some(of) => {
                let other = if of == Side::Old { new } else { old };
                found.unknown.push(Unknown { what, of, other });
            }
            None => found.changes.push(Change { what, old, new }),
        }
    }
    found
}

/// What an image says that went into it.
fn said(trace: &Trace) -> BTreeMap<String, String> {
    let mut all = trace.source.as_ref().map(of_source).unwrap_or_default();
    all.extend(trace.run_image.iter().map(|image| ("run image".into(), shown(image))));
    if let Some(build) = &trace.build {
        all.insert("lifecycle".into(), build.program.clone());
        all.extend(build.build_image.iter().map(|image| ("build image".into(), shown(image))));
        let inputs = build.inputs.iter().map(|input| (&input.name, &input.digest));
        all.extend(inputs.map(|(name, digest)| {
            (format!("input {name}"), if digest.is_empty() { THERE.into() } else { digest.clone() })
        }));
    }
    if let Some(buildpacks) = &trace.buildpacks {
        all.extend(buildpacks.iter().map(|(id, version)| (format!("buildpack {id}"), version.clone())));
    } else {
        let of_buildpacks = trace.layers.iter().filter(|row| row.kind == Some(Kind::Buildpack));
        for row in of_buildpacks {
            // Of several versions, a restored layer's is the older one.
            let version = all.entry(format!("buildpack {}", row.buildpack)).or_default();
            if row.buildpack_version > *version {
                version.clone_from(&row.buildpack_version);
            }
        }
    }
    all.retain(|_, value| !value.is_empty());
    all
}

/// Whether an image that says nothing of an input had none: it would say so as the other does.
fn would_tell(trace: &Trace, other: &Trace, key: &str) -> bool {
    let kind = |trace: &Trace| trace.source.as_ref().map(|source| source.kind.clone());
    let is_detailed = |trace: &Trace| trace.build.as_ref().is_some_and(|build| build.source.is_some());
    match key.split_once(' ') {
        Some(("buildpack", _)) => trace.buildpacks.is_some(),
        Some(("input", _)) => trace.tells_inputs,
        Some(("source", detail)) => {
            let is_alike = is_detailed(trace) || !is_detailed(other) || LABELLED.contains(&detail);
            trace.source.is_some() && (is_alike || kind(trace) != kind(other))
        }
        // Every build has a source, a lifecycle, a build and a run image.
        _ => false,
    }
}

/// What differs in the configurations: variables, labels and the like.
pub fn configs(old: &ImageConfig, new: &ImageConfig) -> Vec<Change> {
    let all = |config: &ImageConfig| -> BTreeMap<String, String> {
        let mut all: BTreeMap<String, String> =
            config.env().map(|(name, value)| (format!("variable {name}"), value.to_owned())).collect();
        // What these say is told apart elsewhere.
        let told = [LIFECYCLE_METADATA, BUILD_METADATA, PROJECT_METADATA, APP_SOURCE];
        let labels = config.labels().into_iter().filter(|(name, _)| !told.contains(name));
        all.extend(labels.map(|(name, value)| (format!("label {name}"), value.to_owned())));
        all.insert("platform".into(), config.platform().to_string());
        all.insert("created".into(), config.created().unwrap_or_default().to_owned());
        all.insert("user".into(), config.user().to_owned());
        all.insert("working directory".into(), config.working_dir().to_owned());
        all.insert("entrypoint".into(), config.entrypoint().join(" "));
        all.insert("command".into(), config.cmd().join(" "));
        let build = config.label(BUILD_METADATA).and_then(|text| serde_json::from_str(text).ok());
        let build: BuildMetadata = build.unwrap_or_default();
        all.insert("default process".into(), build.default_process);
        all.extend(build.processes.iter().filter_map(|process| {
            // Any value can be JSON again.
            Some((format!("process {}", process.kind), serde_json::to_string(process).ok()?))
        }));
        all
    };
    let mut changes = Changes::default();
    changes.maps(&all(old), &all(new));
    changes.0
}

#[derive(Default)]
struct Changes(Vec<Change>);

impl Changes {
    fn maps(&mut self, old: &BTreeMap<String, String>, new: &BTreeMap<String, String>) {
        let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        for key in keys {
            let side = |map: &BTreeMap<String, String>| map.get(key).cloned().unwrap_or_default();
            let (old, new) = (side(old), side(new));
            if old != new {
                self.0.push(Change { what: key.clone(), old, new });
            }
        }
    }
}

fn of_source(source: &Source) -> BTreeMap<String, String> {
    let mut all = BTreeMap::from([("source".to_owned(), words::exact_source(source))]);
    // The first one has the version, but for what a `+` stands for.
    let changes = source.version.get_key_value("changes");
    let entries = changes.into_iter().chain(&source.metadata).map(|(key, value)| {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        (format!("source {key}"), text)
    });
    all.extend(entries);
    all
}

fn shown(image: &Other) -> String {
    let names = image.tags.first().map(String::as_str).unwrap_or_default();
    let exact = if image.digest.is_empty() { &image.image_id } else { &image.digest };
    let at = if names.is_empty() || exact.is_empty() { "" } else { "@" };
    let text = format!("{names}{at}{exact}");
    if text.is_empty() { image.distro.clone() } else { text }
}

/// How a layer of one image stands to that of the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Status {
    /// It has the same contents.
    Same,
    /// It has other contents.
    Changed,
    /// Only the second image has it.
    Added,
    /// Only the first image has it.
    Removed,
}

/// Layers of the same name; those of the run image count as one, and so do the app's slices.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Group {
    /// The name.
    pub id: String,
    /// Whether they differ.
    pub status: Status,
    /// Their places in the first image, counted from 1.
    pub old: Vec<usize>,
    /// Their places in the second one.
    pub new: Vec<usize>,
    /// Bytes in the first image.
    pub old_size: u64,
    /// Bytes in the second one.
    pub new_size: u64,
    /// Why the second image's is as it is, by its report.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// The layers of two images, in the order of the second one.
pub fn groups(old: &Trace, new: &Trace) -> Vec<Group> {
    let (before, after) = (grouped(old), grouped(new));
    let mut ids: Vec<&String> = after.iter().map(|(id, _)| id).collect();
    ids.extend(before.iter().map(|(id, _)| id).filter(|id| !after.iter().any(|(other, _)| other == *id)));
    let side = |groups: &[(String, Vec<Row>)], id: &str| {
        groups.iter().find(|(other, _)| other == id).map(|(_, rows)| rows.clone()).unwrap_or_default()
    };
    ids.into_iter()
        .map(|id| {
            let (old, new) = (side(&before, id), side(&after, id));
            let contents = |rows: &[Row]| rows.iter().map(|row| row.diff_id.clone()).collect::<Vec<_>>();
            let status = match (old.is_empty(), new.is_empty()) {
                (true, _) => Status::Added,
                (_, true) => Status::Removed,
                _ if contents(&old) == contents(&new) => Status::Same,
                _ => Status::Changed,
            };
            let size = |rows: &[Row]| rows.iter().filter_map(|row| row.size).sum();
            let places = |rows: &[Row]| rows.iter().filter_map(|row| row.position).collect();
            Group {
                id: id.clone(),
                status,
                old_size: size(&old),
                new_size: size(&new),
                why: new.iter().find_map(|row| row.reason.as_ref()).map(words::why),
                old: places(&old),
                new: places(&new),
            }
        })
        .collect()
}

fn grouped(trace: &Trace) -> Vec<(String, Vec<Row>)> {
    let mut groups: Vec<(String, Vec<Row>)> = Vec::new();
    for row in trace.layers.iter().filter(|row| row.position.is_some()) {
        let id = match row.kind {
            Some(Kind::RunImage) => "run image",
            Some(Kind::App) => "app",
            // What is not known has no name to be found by.
            None => "other layers",
            Some(_) => row.id.as_str(),
        };
        match groups.iter_mut().find(|(other, _)| other == id) {
            Some((_, rows)) => rows.push(row.clone()),
            None => groups.push((id.to_owned(), vec![row.clone()])),
        }
    }
    groups
}

/// All of a path but its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// What it is.
    pub what: What,
    /// Permissions.
    pub mode: u32,
    /// Owner and group.
    pub owner: (u64, u64),
    /// Of its contents, or of what a link says.
    pub contents: Option<Digest>,
}

/// Files of some layers, stacked.
#[derive(Debug, Clone, Default)]
pub struct Files {
    files: BTreeMap<Vec<u8>, File>,
    size: usize,
}

impl Files {
    /// Adds a path of a layer. Names of whiteouts remain as they are: that they came or went is a difference.
    ///
    /// # Errors
    /// When there are too many to be kept in memory.
    pub fn add(&mut self, path: Vec<u8>, file: File) -> Result<(), String> {
        let size = path.len() + ENTRY;
        if self.files.insert(path, file).is_none() {
            self.size += size;
        }
        if self.size > MAX_TREE {
            return Err(format!("it has too many files to be compared: {} are known", self.files.len()));
        }
        Ok(())
    }

    /// Puts the files of the next layer on these: what they replace goes, and so do files below one that is no folder
    /// any more. Whiteouts stay, as they are for layers below all of these.
    ///
    /// # Errors
    /// As of [`Files::add`].
    pub fn stack(&mut self, next: Self) -> Result<(), String> {
        if self.files.is_empty() {
            *self = next;
            return Ok(());
        }
        for (path, file) in &next.files {
            let (folder, name) = match path.iter().rposition(|byte| *byte == b'/') {
                Some(slash) => {
                    (path.get(..=slash).unwrap_or_default(), path.get(slash + 1..).unwrap_or_default())
                }
                None => (&b""[..], path.as_slice()),
            };
            if name == b".wh..wh..opq" {
                self.remove_below(folder);
            } else if let Some(gone) = name.strip_prefix(b".wh.") {
                self.remove(&[folder, gone].concat());
            } else if file.what != What::Folder {
                self.remove(path);
            }
        }
        next.files.into_iter().try_for_each(|(path, file)| self.add(path, file))
    }

    fn remove(&mut self, path: &[u8]) {
        if self.files.remove(path).is_some() {
            self.size -= path.len() + ENTRY;
        }
        self.remove_below(&[path, b"/"].concat());
    }

    fn remove_below(&mut self, folder: &[u8]) {
        let start = std::ops::Bound::Included(folder.to_vec());
        let below = self.files.range((start, std::ops::Bound::Unbounded));
        let below: Vec<Vec<u8>> =
            below.take_while(|(path, _)| path.starts_with(folder)).map(|(path, _)| path.clone()).collect();
        for path in below {
            self.files.remove(&path);
            self.size -= path.len() + ENTRY;
        }
    }
}

/// A path that is not the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FileChange {
    /// The path, from the root; bytes that are no text are replaced.
    pub path: String,
    /// Whether it came, went or changed.
    pub status: Status,
    /// What changed: `contents`, `mode`, `owner`, `type`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub changed: Vec<&'static str>,
}

/// What differs between the files of layers, by path.
pub fn files(old: &Files, new: &Files) -> Vec<FileChange> {
    let shown = |path: &[u8]| format!("/{}", String::from_utf8_lossy(path));
    let mut changes = Vec::new();
    for (path, file) in &old.files {
        let changed = match new.files.get(path) {
            None => {
                let status = Status::Removed;
                changes.push(FileChange { path: shown(path), status, changed: Vec::new() });
                continue;
            }
            Some(other) => {
                let parts = [
                    ("type", file.what != other.what),
                    ("contents", file.contents != other.contents),
                    ("mode", file.mode != other.mode),
                    ("owner", file.owner != other.owner),
                ];
                parts.into_iter().filter_map(|(name, differs)| differs.then_some(name)).collect::<Vec<_>>()
            }
        };
        if !changed.is_empty() {
            changes.push(FileChange { path: shown(path), status: Status::Changed, changed });
        }
    }
    let added = new.files.keys().filter(|path| !old.files.contains_key(*path));
    changes.extend(added.map(|path| FileChange {
        path: shown(path),
        status: Status::Added,
        changed: Vec::new(),
    }));
    changes.sort_by(|a, b| a.path.cmp(&b.path));
    changes
}
