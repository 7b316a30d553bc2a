//! `strata diff`: from inputs that differ to layers that differ to files that differ.

use crate::Outcome;
use crate::args;
use crate::images::surroundings;
use crate::places::Places;
use crate::show::text::{Cell, Column, Table, hanging, shown};
use crate::show::{bytes, print};
use crate::trace::{Failed, Sheet, Traced, answered, hash, print_json, scan, what, width};
use anstyle::{AnsiColor, Style};
use serde::Serialize;
use std::io::Read;
use strata_decide::trace::diff::{
    self, Change, File, FileChange, Files, Group, Inputs, Status, Unknown, configs, files, groups, inputs,
};
use strata_layer::{Entry, EntryKind};
use strata_oci::Digest;
use strata_phases::Failure;
use strata_spec::exit::Exit;
use unicode_width::UnicodeWidthStr as _;

const HEADING: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();
const ADDED: Style = AnsiColor::Green.on_default();
const REMOVED: Style = AnsiColor::Red.on_default();
const CHANGED: Style = AnsiColor::Yellow.on_default();

/// Files of a layer that people see without asking for all.
const SHOWN: usize = 20;
/// Longer values are cut, in characters.
const MAX_VALUE: usize = 120;

/// All that differs.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Diff<'a> {
    old: Side<'a>,
    new: Side<'a>,
    /// Whether it is one image.
    same: bool,
    inputs: Vec<Change>,
    /// What only one of the two says, so that it cannot be compared.
    unknown: Vec<Unknown>,
    config: Vec<Change>,
    layers: Vec<Compared>,
    notes: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Side<'a> {
    name: &'a str,
    digest: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Compared {
    #[serde(flatten)]
    group: Group,
    /// Absent when the layers are the same, or when nobody wants to know.
    #[serde(skip_serializing_if = "Option::is_none")]
    files: Option<Vec<FileChange>>,
}

/// Runs the command.
pub(crate) fn run(args: &args::Diff, places: &Places) -> Outcome {
    answered(answer(args, places))
}

fn answer(args: &args::Diff, places: &Places) -> Outcome {
    let surroundings = surroundings(places, &args.store);
    let old = Traced::open(&args.old, &surroundings, args.platform.as_ref())?;
    let new = Traced::open(&args.new, &surroundings, args.platform.as_ref())?;
    let same = old.trace.digest == new.trace.digest;
    let mut notes = Vec::new();
    for (side, traced) in [("first", &old), ("second", &new)] {
        notes.extend(traced.trace.notes.iter().map(|note| format!("the {side} image: {note}")));
    }
    let layers = groups(&old.trace, &new.trace)
        .into_iter()
        .map(|group| compared(args, &old, &new, group))
        .collect::<Result<Vec<_>, _>>()?;
    let Inputs { changes, unknown } = inputs(&old.trace, &new.trace);
    let diff = Diff {
        old: Side { name: &old.name, digest: &old.trace.digest },
        new: Side { name: &new.name, digest: &new.trace.digest },
        same,
        inputs: changes,
        unknown,
        config: configs(old.image.image.config(), new.image.image.config()),
        layers,
        notes,
    };
    if args.json {
        print_json(&diff)?;
    } else {
        people(args, &diff, width(places));
    }
    // As diff has it.
    Ok(u8::from(!same))
}

fn compared(args: &args::Diff, old: &Traced, new: &Traced, group: Group) -> Result<Compared, Failure> {
    let files = match group.status {
        Status::Changed if !args.no_files => {
            let (before, after) =
                (read(old, &group.old, &group.new, new)?, read(new, &group.new, &group.old, old)?);
            Some(files(&before, &after))
        }
        _ => None,
    };
    Ok(Compared { group, files })
}

/// The files of some layers of an image, stacked, without those below that the other image has as well.
fn read(traced: &Traced, places: &[usize], others: &[usize], other: &Traced) -> Result<Files, Failure> {
    let (own, theirs) = (traced.image.image.layers(), other.image.image.layers());
    let at = |layers: &[strata_oci::Layer], place: &usize| {
        place.checked_sub(1).and_then(|index| layers.get(index)).map(|layer| layer.diff_id)
    };
    let common = places.iter().zip(others).take_while(|(a, b)| at(own, a) == at(theirs, b)).count();
    let places = places.get(common..).unwrap_or_default();
    let layers: Vec<_> = places.iter().filter_map(|place| own.get(place.checked_sub(1)?)).collect();
    let failed = |place: usize, error: &Failed| {
        Failure::caused(Exit::Other, format!("cannot look into layer {place} of {}", traced.name), error)
    };
    let mut all = Files::default();
    // One after the other: a later layer's entry replaces an earlier one's.
    for (layer, place) in layers.into_iter().zip(places) {
        let outcome = scan(&*traced.store, &[layer], &take).pop();
        let (found, _) = outcome.transpose().map_err(|error| failed(*place, &error))?.unwrap_or_default();
        all.stack(found).map_err(|error| failed(*place, &Failed::Other(error)))?;
    }
    Ok(all)
}

fn take(files: &mut Files, entry: &Entry<'_>, data: &mut dyn Read) -> Result<(), Failed> {
    let contents = match &entry.kind {
        EntryKind::File => Some(hash(data)?),
        EntryKind::Symlink(target) | EntryKind::HardLink(target) => Some(Digest::of(target)),
        EntryKind::Dir | EntryKind::Special => None,
    };
    let owner = (entry.uid, entry.gid);
    let file = File { what: what(&entry.kind), mode: entry.mode, owner, contents };
    files.add(entry.parts.join(&b'/'), file).map_err(Failed::Other)
}

fn people(args: &args::Diff, diff: &Diff<'_>, width: usize) {
    for (mark, style, side) in [("-", REMOVED, &diff.old), ("+", ADDED, &diff.new)] {
        let name = shown(side.name);
        // A checksum that is broken by the terminal cannot be copied.
        let gap = if name.width() + side.digest.len() + 4 > width { "\n    " } else { "  " };
        print(&format!("{style}{mark} {name}{style:#}{gap}{DIM}{}{DIM:#}", side.digest));
    }
    if diff.same {
        print("\nIt is one image.");
    }
    section("Inputs", &diff.inputs, width);
    not_known(&diff.unknown, width);
    section("Configuration", &diff.config, width);
    print(&format!("\n{HEADING}Layers{HEADING:#}"));
    let columns = [("", Column::Word), ("", Column::Text(20)), ("", Column::Number), ("", Column::Number)];
    let mut table = Table::new(&columns, DIM);
    for layer in &diff.layers {
        let group = &layer.group;
        let (mark, style) = mark(group.status);
        let size = |size: u64, places: &[usize]| if places.is_empty() { String::new() } else { bytes(size) };
        table.row(vec![
            Cell::new(&format!("  {mark}"), style),
            Cell::new(&group.id, style),
            size(group.old_size, &group.old).into(),
            size(group.new_size, &group.new).into(),
        ]);
        if let Some(why) = group.why.as_ref().filter(|_| group.status != Status::Same) {
            table.note(&format!("by its report: {why}"));
        }
    }
    table.lines(width).iter().skip(1).for_each(|line| print(line));
    for layer in &diff.layers {
        if let Some(changes) = layer.files.as_ref() {
            of_files(args, &layer.group.id, changes);
        }
    }
    Sheet { width }.notes(&diff.notes);
}

fn mark(status: Status) -> (&'static str, Style) {
    match status {
        Status::Same => ("=", DIM),
        Status::Changed => ("~", CHANGED),
        Status::Added => ("+", ADDED),
        Status::Removed => ("-", REMOVED),
    }
}

fn section(title: &str, changes: &[Change], width: usize) {
    if changes.is_empty() {
        return;
    }
    print(&format!("\n{HEADING}{title}{HEADING:#}"));
    for change in changes {
        print(&format!("  {}", shown(&change.what)));
        for (mark, style, value) in [("-", REMOVED, &change.old), ("+", ADDED, &change.new)] {
            if !value.is_empty() {
                let lines = hanging(&shown(&short(value)), width, (6, 6)).join("\n");
                print(&format!("    {style}{mark} {lines}{style:#}"));
            }
        }
    }
}

/// What one of the two images does not say, and the other does.
fn not_known(unknown: &[Unknown], width: usize) {
    for (side, of) in [(diff::Side::Old, "first"), (diff::Side::New, "second")] {
        let mut what = unknown.iter().filter(|unknown| unknown.of == side).peekable();
        if what.peek().is_none() {
            continue;
        }
        print(&format!("\n{HEADING}Not known of the {of} image{HEADING:#}"));
        for Unknown { what, other, .. } in what {
            let what = shown(what);
            let other = hanging(&shown(&short(other)), width, (what.width() + 4, 6)).join("\n");
            print(&format!("  {what}  {DIM}{other}{DIM:#}"));
        }
    }
}

fn short(text: &str) -> String {
    match text.char_indices().nth(MAX_VALUE) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

fn of_files(args: &args::Diff, id: &str, changes: &[FileChange]) {
    print(&format!("\n{HEADING}Files of {}{HEADING:#}", shown(id)));
    if changes.is_empty() {
        print("  the same, in another archive");
    }
    let most = if args.all { usize::MAX } else { SHOWN };
    for change in changes.iter().take(most) {
        let (mark, style) = mark(change.status);
        let what = if change.changed.is_empty() {
            String::new()
        } else {
            format!("  {DIM}{}{DIM:#}", change.changed.join(", "))
        };
        print(&format!("  {style}{mark} {}{style:#}{what}", shown(&change.path)));
    }
    let more = changes.len().saturating_sub(most);
    if more > 0 {
        print(&format!("  {DIM}and {more} more: --all shows them{DIM:#}"));
    }
}
