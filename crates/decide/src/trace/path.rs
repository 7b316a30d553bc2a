//! Which layer a path of an image comes from.
//!
//! Layers are stacked: a later one hides what earlier ones have of the same name, a whiteout removes it, and an
//! opaque folder removes what was in it (OCI image specification, "Image Layer Filesystem Changeset").

use super::Row;
use serde::Serialize;
use std::collections::BTreeSet;
use strata_spec::buildpack::escape_id;
use strata_spec::origins::Kind;
use strata_spec::sealed::{Changes, FileChange, Outcome};

/// Starts the name of what removes a file.
const WHITEOUT: &[u8] = b".wh.";
/// What removes all that a folder had.
const OPAQUE: &[u8] = b".wh..wh..opq";

/// What a path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum What {
    /// A file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link.
    Link,
    /// Another name of a file of the same layer.
    HardLink,
    /// A device, a fifo.
    Special,
}

/// What one layer has to do with a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "event")]
pub enum Event {
    /// It has the path.
    Has(Entry),
    /// It removes the path of earlier layers.
    Removes {
        /// By which entry.
        by: String,
    },
    /// It has something above the path that is no folder, so that nothing can be there.
    Hides {
        /// What is there.
        by: String,
    },
}

/// A path in a layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// What it is.
    pub what: What,
    /// Permissions, with setuid, setgid and sticky.
    pub mode: u32,
    /// Its owner.
    pub uid: u64,
    /// Its group.
    pub gid: u64,
    /// Bytes of a file.
    pub size: u64,
    /// What a link says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The checksum of a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

/// A path that is looked for: its components.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted(Vec<Vec<u8>>);

/// What an entry of a layer means for a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// Nothing.
    Nothing,
    /// It is the path.
    Itself,
    /// It is above the path, and hides it unless it is a folder.
    Above {
        /// How many components it has.
        depth: usize,
    },
    /// It removes the path of earlier layers.
    Whiteout,
}

impl Wanted {
    /// Understands a path; `.` and empty components are left out, and `..` goes back, at most to the root.
    pub fn new(path: &[u8]) -> Self {
        let mut parts: Vec<Vec<u8>> = Vec::new();
        for part in path.split(|byte| *byte == b'/') {
            match part {
                b"" | b"." => {}
                b".." => drop(parts.pop()),
                part => parts.push(part.to_vec()),
            }
        }
        Self(parts)
    }

    /// From the root.
    pub fn shown(&self) -> Vec<u8> {
        let parts: Vec<u8> = self.0.iter().flat_map(|part| [b"/", part.as_slice()].concat()).collect();
        if parts.is_empty() { b"/".to_vec() } else { parts }
    }

    /// Whether it is the root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// What an entry with these components means for it.
    pub fn meaning(&self, parts: &[&[u8]]) -> Meaning {
        let is_start =
            |parts: &[&[u8]]| parts.len() <= self.0.len() && parts.iter().zip(&self.0).all(|(a, b)| a == b);
        let Some((name, above)) = parts.split_last() else {
            return if self.is_root() { Meaning::Itself } else { Meaning::Nothing };
        };
        if *name == OPAQUE {
            let is_above = is_start(above) && above.len() < self.0.len();
            return if is_above { Meaning::Whiteout } else { Meaning::Nothing };
        }
        if let Some(name) = name.strip_prefix(WHITEOUT).filter(|name| !name.is_empty()) {
            let gone: Vec<&[u8]> = above.iter().copied().chain([name]).collect();
            return if is_start(&gone) { Meaning::Whiteout } else { Meaning::Nothing };
        }
        match is_start(parts) {
            true if parts.len() == self.0.len() => Meaning::Itself,
            true => Meaning::Above { depth: parts.len() },
            false => Meaning::Nothing,
        }
    }

    /// Where it leads when its first `depth` components are a link that says `target`.
    pub fn through(&self, depth: usize, target: &[u8]) -> Self {
        let (link, rest) = self.0.split_at(depth.min(self.0.len()));
        let mut path = Vec::new();
        if !target.starts_with(b"/") {
            let folder = link.split_last().map_or(link, |(_, folder)| folder);
            folder.iter().for_each(|part| path.extend([b"/", part.as_slice()].concat()));
        }
        path.push(b'/');
        path.extend(target);
        rest.iter().for_each(|part| path.extend([b"/", part.as_slice()].concat()));
        Self::new(&path)
    }
}

/// What a layer has of a path and of what is above it. Entries come in any order, and of two of one name the later
/// counts; but a whiteout in a layer is for the layers below it only.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// The path itself.
    pub entry: Option<Entry>,
    /// What removes it.
    pub whiteout: Option<String>,
    /// What is above it, by the number of components: whether a folder, and the target of a link.
    pub above: Vec<(usize, What, Option<Vec<u8>>, String)>,
}

impl Seen {
    /// Its meaning.
    pub fn events(&self) -> Vec<Event> {
        let mut events = Vec::new();
        if let Some(by) = &self.whiteout {
            events.push(Event::Removes { by: by.clone() });
        }
        if let Some((_, _, _, by)) = self.above.iter().find(|(_, what, _, _)| *what != What::Folder) {
            events.push(Event::Hides { by: by.clone() });
        }
        events.extend(self.entry.clone().map(Event::Has));
        events
    }
}

/// The layers that a path is of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// The layer that one sees, by its index from the bottom; of a folder, the last that has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer: Option<usize>,
    /// Layers whose entries are merged with it, as folders are.
    pub merged: Vec<usize>,
    /// Layers whose entries it shadows, or that are removed.
    pub shadowed: Vec<usize>,
    /// The layer that removed the path or hides it, if nothing is there in the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub removed_by: Option<usize>,
}

/// Stacks the layers, from the bottom up.
pub fn judge(layers: &[Vec<Event>]) -> Verdict {
    let mut verdict = Verdict::default();
    let mut is_folder = false;
    for (index, events) in layers.iter().enumerate() {
        for event in events {
            match event {
                Event::Removes { .. } | Event::Hides { .. } => {
                    if let Some(layer) = verdict.layer.take() {
                        verdict.shadowed.append(&mut verdict.merged);
                        verdict.shadowed.push(layer);
                        verdict.removed_by = Some(index);
                    }
                }
                Event::Has(entry) => {
                    let merges = is_folder && entry.what == What::Folder;
                    if let Some(layer) = verdict.layer.replace(index) {
                        if merges {
                            verdict.merged.push(layer);
                        } else {
                            verdict.shadowed.append(&mut verdict.merged);
                            verdict.shadowed.push(layer);
                        }
                    }
                    is_folder = entry.what == What::Folder;
                    verdict.removed_by = None;
                }
            }
        }
    }
    let unique: BTreeSet<usize> = verdict.shadowed.iter().copied().collect();
    verdict.shadowed = unique.into_iter().collect();
    verdict
}

/// The first link above a path in the stack of all layers: how many components it has, and what it says.
pub fn link_above(layers: &[Seen]) -> Option<(usize, Vec<u8>)> {
    let mut depths: Vec<usize> =
        layers.iter().flat_map(|seen| seen.above.iter().map(|above| above.0)).collect();
    depths.sort_unstable();
    depths.dedup();
    depths.into_iter().find_map(|depth| {
        let mut of_depth =
            layers.iter().rev().flat_map(|seen| seen.above.iter().filter(move |above| above.0 == depth));
        let (_, what, target, _) = of_depth.next()?;
        (*what == What::Link).then(|| target.clone().map(|target| (depth, target)))?
    })
}

/// What a buildpack did to a path of the app, or of another buildpack's layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Deed {
    /// The buildpack: `id@version`.
    pub by: String,
    /// `created`, `changed`, `deleted`, `chmod` or `touched`; absent when the report names no more of what it did, and this
    /// may be one of those.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The folder that it came or went with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
    /// What became of it.
    pub outcome: Outcome,
}

/// What buildpacks did to a path, the first one first. `app_dir` and `layers_dir` are those of the image.
pub fn deeds(layers: &[Row], app_dir: &str, layers_dir: &str, path: &str) -> Vec<Deed> {
    let tail = |folder: &str| {
        let rest = path.strip_prefix(folder.trim_end_matches('/'))?;
        if rest.is_empty() { Some("") } else { rest.strip_prefix('/') }
    };
    let of = |row: &Row| match row.kind {
        Some(Kind::App) => tail(app_dir),
        Some(Kind::Buildpack) => {
            let name = row.id.strip_prefix(&row.buildpack)?.strip_prefix(':')?;
            tail(&format!("{}/{}/{name}", layers_dir.trim_end_matches('/'), escape_id(&row.buildpack)))
        }
        _ => None,
    };
    // All slices of the app have the same changes.
    let Some((tail, changes)) = layers.iter().find_map(|row| Some((of(row)?, &row.changes))) else {
        return Vec::new();
    };
    let mut deeds: Vec<Deed> = Vec::new();
    for deed in changes.iter().filter_map(|changes| deed(changes, tail)) {
        // Of a new folder what is in it is not named: who created the path itself created it later.
        if deed.kind.as_deref() == Some("created") {
            while deeds.last().is_some_and(|last| last.folder.is_some() && last.kind == deed.kind) {
                deeds.pop();
            }
        }
        deeds.push(deed);
    }
    deeds
}

fn deed(changes: &Changes, tail: &str) -> Option<Deed> {
    let is_folder = |file: &&FileChange| {
        let is_all = ["created", "deleted"].contains(&file.kind.as_str());
        is_all
            && tail.strip_prefix(&file.path).is_some_and(|rest| rest.starts_with('/') || file.path.is_empty())
    };
    let Changes { by, files, outcome, .. } = changes.clone();
    let itself = files.iter().find(|file| file.path == tail);
    let (kind, folder) = match (itself, files.iter().find(is_folder)) {
        (Some(file), _) => (Some(file.kind.clone()), None),
        (None, Some(folder)) => (Some(folder.kind.clone()), Some(folder.path.clone())),
        (None, None) if changes.count() > files.len() as u64 => (None, None),
        (None, None) => return None,
    };
    Some(Deed { by, kind, folder, outcome })
}
