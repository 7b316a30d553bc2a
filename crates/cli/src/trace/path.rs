//! Which layer a file of an image comes from.

use super::sheet::Sheet;
use super::show::{HEADING, source, time};
use super::{Failed, Named, Traced, print_json, scan};
use crate::Outcome;
use crate::show::text::shown;
use crate::show::{bytes, print};
use serde::Serialize;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use strata_decide::trace::path::{
    Deed, Entry, Event, Meaning, Seen, Verdict, Wanted, What, deeds, judge, link_above,
};
use strata_decide::trace::{Row, words};
use strata_layer::EntryKind;
use strata_phases::Failure;
use strata_spec::exit::Exit;

/// Links above a path that are followed.
const MAX_LINKS: usize = 16;

/// What is known of a path.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Found<'a> {
    /// As it was asked for, and then where links lead.
    paths: Vec<String>,
    #[serde(flatten)]
    verdict: Verdict,
    /// Layers that have to do with it, from the bottom up.
    layers: Vec<Layer<'a>>,
    /// What buildpacks did to it that others, or the app's source, had.
    changes: Vec<Deed>,
    /// What could not be looked at.
    notes: Vec<String>,
}

#[derive(Serialize)]
struct Layer<'a> {
    /// The layer's index from the bottom, counted from 0 as in the verdict.
    index: usize,
    layer: &'a Row,
    events: Vec<Event>,
}

pub(super) fn run(traced: &Traced, path: &Path, sheet: Option<Sheet>) -> Outcome {
    let found = look(traced, path)?;
    match sheet {
        None => print_json(&Named { name: &traced.name, what: &found })?,
        Some(sheet) => people(&found, sheet),
    }
    // As grep has it: nothing is there.
    Ok(u8::from(found.verdict.layer.is_none()))
}

fn look<'a>(traced: &'a Traced, path: &Path) -> Result<Found<'a>, Failure> {
    let mut wanted = Wanted::new(path.as_os_str().as_bytes());
    let mut paths = vec![String::from_utf8_lossy(&wanted.shown()).into_owned()];
    let layers: Vec<_> = traced.image.image.layers().iter().collect();
    loop {
        let outcomes =
            scan(&*traced.store, &layers, &|seen: &mut Seen, entry, data| note(seen, &wanted, entry, data));
        let (mut seen, mut notes) = (Vec::new(), Vec::new());
        for (index, outcome) in outcomes.into_iter().enumerate() {
            let (of_layer, walked) = outcome.map_err(|error| {
                let what = format!("cannot look into layer {} of {}", index + 1, traced.name);
                Failure::caused(Exit::Other, what, &error)
            })?;
            if walked.refused > 0 {
                let what = format!("{} entries that nobody would extract", walked.refused);
                notes.push(format!("layer {}: {what} are passed over", index + 1));
            }
            if walked.is_cut {
                notes.push(format!("layer {}: its archive has no end", index + 1));
            }
            seen.push(of_layer);
        }
        let events: Vec<Vec<Event>> = seen.iter().map(Seen::events).collect();
        let verdict = judge(&events);
        let link = link_above(&seen).filter(|_| verdict.layer.is_none() && paths.len() <= MAX_LINKS);
        if let Some((depth, target)) = link {
            wanted = wanted.through(depth, &target);
            paths.push(String::from_utf8_lossy(&wanted.shown()).into_owned());
            continue;
        }
        let rows = traced.trace.layers.iter().filter(|row| row.position.is_some());
        let layers = rows.zip(events).enumerate().filter(|(_, (_, events))| !events.is_empty());
        let layers = layers.map(|(index, (layer, events))| Layer { index, layer, events }).collect();
        let path = paths.last().map(String::as_str).unwrap_or_default();
        let changes = changed(traced, path);
        return Ok(Found { paths, verdict, layers, changes, notes });
    }
}

/// What buildpacks did to a path, as far as the report says.
fn changed(traced: &Traced, path: &str) -> Vec<Deed> {
    let config = traced.image.image.config();
    let app = config.env_var("CNB_APP_DIR").unwrap_or("/workspace");
    let layers = config.env_var("CNB_LAYERS_DIR").unwrap_or("/layers");
    deeds(&traced.trace.layers, app, layers, path)
}

/// Takes down what an entry means for the path.
fn note(
    seen: &mut Seen,
    wanted: &Wanted,
    entry: &strata_layer::Entry<'_>,
    data: &mut dyn Read,
) -> Result<(), Failed> {
    let name = || format!("/{}", String::from_utf8_lossy(&entry.parts.join(&b'/')));
    match wanted.meaning(&entry.parts) {
        Meaning::Nothing => {}
        Meaning::Whiteout => seen.whiteout = Some(name()),
        Meaning::Above { depth } => {
            let target = match &entry.kind {
                EntryKind::Symlink(target) => Some(target.clone()),
                _ => None,
            };
            seen.above.retain(|above| above.0 != depth);
            seen.above.push((depth, what(&entry.kind), target, name()));
        }
        Meaning::Itself => {
            let target = match &entry.kind {
                EntryKind::Symlink(target) | EntryKind::HardLink(target) => {
                    Some(String::from_utf8_lossy(target).into_owned())
                }
                _ => None,
            };
            let digest = match entry.kind {
                EntryKind::File => Some(hash(data)?.to_string()),
                _ => None,
            };
            seen.entry = Some(Entry {
                what: what(&entry.kind),
                mode: entry.mode,
                uid: entry.uid,
                gid: entry.gid,
                size: entry.size,
                target,
                digest,
            });
        }
    }
    Ok(())
}

/// The kind of an entry, in the words of the decision.
pub(crate) fn what(kind: &EntryKind) -> What {
    match kind {
        EntryKind::File => What::File,
        EntryKind::Dir => What::Folder,
        EntryKind::Symlink(_) => What::Link,
        EntryKind::HardLink(_) => What::HardLink,
        EntryKind::Special => What::Special,
    }
}

/// The digest of a file.
pub(crate) fn hash(data: &mut dyn Read) -> Result<strata_oci::Digest, Failed> {
    let (digest, _) =
        strata_layer::digest_of(data).map_err(|source| strata_layer::LayerError::Read { source })?;
    Ok(digest)
}

fn people(found: &Found<'_>, sheet: Sheet) {
    let field = |name: &str, value: &str| sheet.field(name, value);
    let paths: Vec<_> = found.paths.iter().map(|path| shown(path)).collect();
    print(&format!("{HEADING}{}{HEADING:#}", paths.join(" -> ")));
    let layer = |index: usize| found.layers.iter().find(|layer| layer.index == index);
    let entry = |index: usize| -> Option<&Entry> {
        layer(index)?.events.iter().find_map(|event| match event {
            Event::Has(entry) => Some(entry),
            _ => None,
        })
    };
    let name = |index: usize| layer(index).map(|found| named(found.layer)).unwrap_or_default();
    match found.verdict.layer {
        Some(index) => {
            let own = entry(index);
            field("is", &own.map(described).unwrap_or_default());
            field("checksum", own.and_then(|own| own.digest.as_deref()).unwrap_or_default());
            if let Some(layer) = layer(index) {
                origin(layer.layer, sheet);
            }
        }
        None if found.verdict.removed_by.is_none() && found.verdict.shadowed.is_empty() => {
            print("  no layer has it");
        }
        None => field("is", "not there"),
    }
    found.changes.iter().for_each(|deed| field("buildpack", &words::deed(deed)));
    for index in found.verdict.merged.iter().rev() {
        field("also in", &name(*index));
    }
    for index in found.verdict.shadowed.iter().rev() {
        let same = found.verdict.layer.and_then(entry).zip(entry(*index)).is_some_and(|(a, b)| a == b);
        let what = entry(*index).map(described).unwrap_or_default();
        let same = if same { ", the same" } else { "" };
        field("shadows", &format!("{}: {what}{same}", name(*index)));
    }
    for layer in &found.layers {
        for event in &layer.events {
            match event {
                Event::Removes { by } => field("removed in", &format!("{} by {by}", named(layer.layer))),
                Event::Hides { by } => {
                    field("hidden in", &format!("{} by {by}, which is no folder", named(layer.layer)));
                }
                Event::Has(_) => {}
            }
        }
    }
    found.notes.iter().for_each(|note| sheet.note(note));
}

fn named(row: &Row) -> String {
    format!("layer {}, {}", row.position.unwrap_or_default(), row.id)
}

/// Who wrote it, when and from what.
fn origin(row: &Row, sheet: Sheet) {
    let field = |name: &str, value: &str| sheet.field(name, value);
    field("layer", &named(row));
    field("made by", &words::made_by(row));
    match (&row.build, &row.unknown) {
        (Some(build), _) => {
            let age = match row.generation {
                Some(0) | None => "in the build of this image".to_owned(),
                Some(count) => words::ago(count.into()),
            };
            let how = words::how(row);
            field("made", &format!("{} UTC, {age} ({how}), build {}", time(&build.time), build.id));
        }
        (None, Some(why)) => field("made", &format!("unknown: {why}")),
        (None, None) => {}
    }
    field("source", &row.source.as_ref().map(source).unwrap_or_default());
}

fn described(entry: &Entry) -> String {
    let target = entry.target.as_deref().unwrap_or_default();
    let what = match entry.what {
        What::File => format!("a file of {}", bytes(entry.size)),
        What::Folder => "a folder".into(),
        What::Link => format!("a link to {target}"),
        What::HardLink => format!("another name of /{target}"),
        What::Special => "a device or fifo".into(),
    };
    format!("{what}, mode {:04o}, owner {}:{}", entry.mode, entry.uid, entry.gid)
}
