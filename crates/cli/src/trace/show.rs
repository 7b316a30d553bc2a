//! An image and its layers, for people.

use super::Traced;
use super::sheet::Sheet;
use crate::show::text::{Cell, Column, Table, cut, shown};
use crate::show::{bytes, print};
use anstyle::{AnsiColor, Style};
use strata_decide::trace::{Build, Other, Rebased, Row, words};
use strata_spec::origins::{Evidence, Kind, Source};
use toml::Value;

pub(super) const HEADING: Style = Style::new().bold();
pub(super) const DIM: Style = Style::new().dimmed();
pub(super) const NEW: Style = AnsiColor::Green.on_default();
pub(super) const OLD: Style = AnsiColor::Cyan.on_default();
pub(super) const ODD: Style = AnsiColor::Yellow.on_default();

/// Columns of what an image's history says of a layer that nothing else is known of.
const HISTORY: usize = 60;
/// Columns of a source where there is little room: its digits lose their end, which is a way to write them.
const NARROW: usize = 12;

/// `2026-03-01T09:00:00Z` as `2026-03-01 09:00`.
pub(super) fn time(text: &str) -> String {
    match (text.get(..10), text.get(11..16)) {
        (Some(date), Some(time)) => format!("{date} {time}"),
        _ => text.to_owned(),
    }
}

/// A source at length.
pub(super) fn source(source: &Source) -> String {
    let text = |key: &str| source.metadata.get(key).and_then(Value::as_str).unwrap_or_default();
    let version = |key: &str| source.version.get(key).and_then(Value::as_str);
    let mut all = match version("commit").or(version("revision")).or(version("digest")) {
        Some(version) => format!("{} {version}", source.kind),
        None => words::source(source),
    };
    for (what, value) in [("", text("url")), ("", text("repository")), ("in ", text("path"))] {
        if !value.is_empty() {
            all.push_str(&format!(", {what}{value}"));
        }
    }
    if version("changes").is_some() {
        let count = source.metadata.get("changed-count").and_then(Value::as_integer);
        let count = count.map_or_else(String::new, |count| format!(" ({count})"));
        all.push_str(&format!(", with files that are not committed{count}"));
    }
    all
}

/// An image that took part.
pub(super) fn other(image: &Other) -> String {
    let name = image.tags.first().map(String::as_str).unwrap_or_default();
    let exact = if image.digest.is_empty() { &image.image_id } else { &image.digest };
    let parts = [name, exact, &image.distro];
    let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    parts.join(" ")
}

/// A build in one line.
pub(super) fn build(build: &Build) -> String {
    format!("{} UTC by {}, build {}", time(&build.time), build.program, build.id)
}

/// A rebase in one line.
pub(super) fn rebased(sheet: Sheet, rebase: &Rebased) {
    let onto = rebase.run_image.as_ref().map(|image| format!(", onto {}", other(image))).unwrap_or_default();
    let Rebased { program, image_digest, .. } = rebase;
    sheet.field("rebased", &format!("{} UTC by {program}, from {image_digest}{onto}", time(&rebase.time)));
}

fn head(traced: &Traced, sheet: Sheet) {
    let trace = &traced.trace;
    let field = |name: &str, value: &str| sheet.field(name, value);
    print(&shown(&traced.name));
    match &traced.id {
        Some(id) => field("image id", id),
        None => field("digest", &trace.digest),
    }
    match &trace.build {
        Some(found) => field("built", &build(found)),
        None => field("built", "unknown: see below"),
    }
    field("source", &trace.source.as_ref().map_or_else(|| "unknown".into(), source));
    field("run image", &trace.run_image.as_ref().map(other).unwrap_or_default());
    trace.rebases.iter().rev().for_each(|rebase| rebased(sheet, rebase));
    if let Some(image) = trace.build.as_ref().and_then(|build| build.build_image.as_ref()) {
        field("built in", &other(image));
    }
    if let Some(before) = &trace.restored_image {
        let exact = if before.digest.is_empty() { &before.image_id } else { &before.digest };
        field("before it", exact);
    }
}

/// The table of all layers.
pub(super) fn image(traced: &Traced, sheet: Sheet) {
    head(traced, sheet);
    let columns = [
        ("#", Column::Number),
        ("LAYER", Column::Text(8)),
        ("MADE BY", Column::Text(11)),
        ("WHEN", Column::Text(10)),
        ("SOURCE", Column::Text(NARROW)),
        ("THIS TIME", Column::Word),
        ("AGE", Column::Number),
        ("SIZE", Column::Number),
    ];
    // A date alone is better than a date without its middle.
    let is_narrow = sheet.width < 100;
    let mut table = Table::new(&columns, DIM);
    for rows in grouped(&traced.trace.layers) {
        table.row(cells(rows, is_narrow));
    }
    print("");
    table.lines(sheet.width).iter().for_each(|line| print(line));
    if traced.trace.layers.iter().any(|row| row.position.is_none()) {
        print(&format!("\n{DIM}Layers without a number are not in the image.{DIM:#}"));
    }
    sheet.notes(&traced.trace.notes);
}

/// Rows, but those of the run image together.
fn grouped(rows: &[Row]) -> impl Iterator<Item = &[Row]> {
    let is_base = |row: &Row| row.kind == Some(Kind::RunImage) && row.unknown.is_none();
    rows.chunk_by(move |a, b| is_base(a) && is_base(b))
}

fn cells(rows: &[Row], is_narrow: bool) -> Vec<Cell> {
    let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return Vec::new() };
    let place = |row: &Row| row.position.map_or_else(String::new, |place| place.to_string());
    let size: Option<u64> = rows.iter().map(|row| row.size).sum();
    let (number, name) = if rows.len() > 1 {
        (format!("{}-{}", place(first), place(last)), format!("{} layers", rows.len()))
    } else {
        (place(first), name(first))
    };
    let when = match (&first.build, first.from) {
        (Some(build), _) => time(&build.time),
        (None, Evidence::RunImage) => "-".into(),
        (None, _) => "?".into(),
    };
    let when = if is_narrow { when.chars().take(10).collect() } else { when };
    let source = match (&first.source, first.from) {
        (Some(source), _) if is_narrow => {
            words::source_of(source, NARROW.saturating_sub(source.kind.len() + 2).max(4))
        }
        (Some(source), _) => words::source(source),
        (None, Evidence::RunImage) => "-".into(),
        (None, _) => "?".into(),
    };
    let age = match (first.generation, first.from) {
        (Some(age), _) => age.to_string(),
        (None, Evidence::RunImage) => "-".into(),
        (None, _) => "?".into(),
    };
    vec![
        number.into(),
        Cell::new(&name, HEADING),
        words::made_by(first).into(),
        when.into(),
        source.into(),
        Cell::new(words::how(first), style(first)),
        age.into(),
        size.map_or_else(|| "-".into(), bytes).into(),
    ]
}

/// A layer's name without its buildpack, which has a column of its own.
fn name(row: &Row) -> String {
    let own = row.id.strip_prefix(&row.buildpack).and_then(|rest| rest.strip_prefix(':'));
    let name = own.filter(|_| !row.buildpack.is_empty()).unwrap_or(&row.id);
    // What a history says can be a whole script.
    if row.kind.is_none() { cut(name, HISTORY).into_owned() } else { name.to_owned() }
}

fn style(row: &Row) -> Style {
    match row.from {
        Evidence::ThisBuild => NEW,
        Evidence::Cache | Evidence::PreviousImage => OLD,
        Evidence::RunImage => DIM,
        Evidence::Unknown => ODD,
    }
}

/// Why each layer was made again, or was not.
pub(super) fn why(traced: &Traced, sheet: Sheet) {
    head(traced, sheet);
    print("");
    let columns =
        [("#", Column::Number), ("LAYER", Column::Text(20)), ("THIS TIME", Column::Word), ("", Column::Word)];
    let mut table = Table::new(&columns, DIM);
    for rows in grouped(&traced.trace.layers) {
        let Some(first) = rows.first() else { continue };
        let place = |row: &Row| row.position.map_or_else(String::new, |place| place.to_string());
        let (number, id) = match rows {
            [one] if one.kind.is_none() => (place(one), name(one)),
            [one] => (place(one), one.id.clone()),
            several => (
                format!("{}-{}", place(first), several.last().map(place).unwrap_or_default()),
                format!("{} layers of the run image", several.len()),
            ),
        };
        table.row(vec![
            number.into(),
            Cell::new(&id, HEADING),
            Cell::new(words::how(first), style(first)),
            Cell::default(),
        ]);
        let why = match (&first.unknown, &first.reason, first.from) {
            (_, _, Evidence::RunImage) => "it came with the run image".to_owned(),
            (Some(why), _, _) => why.clone(),
            (None, Some(reason), _) => words::why(reason),
            (None, None, _) => "it is not known".into(),
        };
        table.note(&why);
        first.changes.iter().for_each(|changes| table.note(&words::changed(changes)));
    }
    table.lines(sheet.width).iter().for_each(|line| print(line));
    sheet.notes(&traced.trace.notes);
}
