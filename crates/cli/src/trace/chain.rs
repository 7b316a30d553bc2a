//! The builds that a layer went through.

use super::sheet::Sheet;
use super::show::{DIM, HEADING, NEW, build, other, rebased, source, time};
use super::{Named, Traced, beside, print_json};
use crate::Outcome;
use crate::show::print;
use crate::show::text::shown;
use serde::Serialize;
use strata_decide::trace::chain::{Chain, End, Step, walk};
use strata_decide::trace::{Build, Row, words};
use strata_phases::Failure;
use strata_spec::exit::Exit;
use strata_spec::origins::Evidence;

const UNKNOWN: &str = "Which build made it is unknown:";

/// What is known of one layer.
#[derive(Serialize)]
struct Found<'a> {
    layer: &'a Row,
    #[serde(skip_serializing_if = "Option::is_none")]
    chain: Option<Chain>,
    notes: &'a [String],
}

pub(super) fn run(traced: &Traced, id: &str, sheet: Option<Sheet>) -> Outcome {
    let row = find(traced, id)?;
    let latest = traced.reports.latest().cloned();
    let mut room = beside::MAX_READ;
    let chain = latest
        .and_then(|report| {
            walk(report, &row.id, |before| beside::of_build(&*traced.store, before, &mut room))
        })
        // A label that contradicts the report counts.
        .filter(|_| row.unknown.is_none() || row.on_export.is_some());
    let found = Found { layer: row, chain, notes: &traced.trace.notes };
    match sheet {
        None => print_json(&Named { name: &traced.name, what: &found })?,
        Some(sheet) => people(traced, &found, sheet),
    }
    Ok(0)
}

/// The layer of this id, or of this name if there is only one.
fn find<'a>(traced: &'a Traced, id: &str) -> Result<&'a Row, Failure> {
    let rows = &traced.trace.layers;
    if let Some(row) = rows.iter().find(|row| row.is_called(id)) {
        return Ok(row);
    }
    let ending = format!(":{id}");
    let mut named = rows.iter().filter(|row| row.id.ends_with(&ending));
    match (named.next(), named.next()) {
        (Some(row), None) => Ok(row),
        _ => {
            let ids: Vec<_> = rows.iter().map(|row| shown(&row.id)).collect();
            let message = format!("there is no layer '{}' in what is known of {}", shown(id), traced.name);
            Err(Failure::new(Exit::InvalidArguments, message)
                .hint(format!("the layers are {}", ids.join(", "))))
        }
    }
}

fn people(traced: &Traced, found: &Found<'_>, sheet: Sheet) {
    let row = found.layer;
    print(&format!("{HEADING}{}{HEADING:#} of {}", shown(&row.id), shown(&traced.name)));
    sheet.field("digest", &row.digest);
    sheet.field("diffID", &row.diff_id);
    sheet.field("types", &row.types.join(", "));
    match &found.chain {
        Some(chain) => steps(chain, sheet),
        None => {
            sheet.field("made by", &words::made_by(row));
            metadata(row, sheet);
            let why = row.unknown.clone().unwrap_or_else(|| "it came with the run image".into());
            sheet.told("\n", UNKNOWN, &why);
        }
    }
    // What was just said is not said again.
    let said = found.chain.is_none().then_some(row.unknown.as_deref()).flatten();
    for note in found.notes.iter().filter(|note| said.is_none_or(|said| !note.starts_with(said))) {
        sheet.note(note);
    }
}

fn steps(chain: &Chain, sheet: Sheet) {
    let last = chain.steps.len().saturating_sub(1);
    for (index, step) in chain.steps.iter().enumerate() {
        let is_maker = index == last && chain.end == End::Made;
        let ago = match index {
            0 => "this build".to_owned(),
            count => words::ago(count as u64),
        };
        one(step, &ago, is_maker, sheet);
    }
    match &chain.end {
        End::Made => {}
        End::Unknown { why } => {
            sheet.told("\n", UNKNOWN, why);
        }
        End::Skipped { missing, build: made, builds, layer } => {
            sheet.told("\n", "Missing:", missing);
            if *builds > 0 {
                let noun = if *builds == 1 { "build" } else { "builds" };
                print(&format!("{DIM}  {builds} {noun} in between, of which nothing more is known{DIM:#}"));
            }
            let ago = words::ago(chain.steps.len() as u64 + u64::from(*builds));
            heading(made, &ago);
            maker(made, layer.as_deref().or(chain.steps.last().map(|step| &step.layer)), sheet);
        }
    }
}

fn heading(made: &Build, ago: &str) {
    print(&format!(
        "\n{HEADING}{}{HEADING:#}  {ago}  {DIM}build {}{DIM:#}",
        time(&made.time),
        shown(&made.id)
    ));
}

fn one(step: &Step, ago: &str, is_maker: bool, sheet: Sheet) {
    heading(&step.build, ago);
    step.rebases.iter().rev().for_each(|rebase| rebased(sheet, rebase));
    if is_maker {
        return maker(&step.build, Some(&step.layer), sheet);
    }
    sheet.field("image", &step.build.image_digest);
    sheet.field("source", &step.build.source.as_ref().map(source).unwrap_or_default());
    let why = match step.layer.from {
        // Said below, and no reason is known of it.
        Evidence::RunImage => return,
        _ => step.layer.reason.as_ref().map(words::why).unwrap_or_default(),
    };
    sheet.field(words::how(&step.layer), &why);
    for change in &step.changed {
        sheet.field("changed", change);
    }
    later(&step.layer, sheet);
}

/// The build that made the layer, and all that went into it.
fn maker(made: &Build, layer: Option<&Row>, sheet: Sheet) {
    sheet.field("image", &made.image_digest);
    sheet.styled(NEW, "made here", &build(made));
    let Some(layer) = layer else { return };
    let by = words::made_by(layer);
    let api = if layer.buildpack_api.is_empty() {
        String::new()
    } else {
        format!(" (Buildpack API {})", layer.buildpack_api)
    };
    sheet.field("by", &format!("{by}{api}"));
    sheet.field("from", &made.source.as_ref().or(layer.source.as_ref()).map(source).unwrap_or_default());
    sheet.field("run image", &made.run_image.as_ref().map(other).unwrap_or_default());
    sheet.field("built in", &made.build_image.as_ref().map(other).unwrap_or_default());
    for input in &made.inputs {
        sheet.field("given", &format!("{} {}", input.name, input.digest));
    }
    for neighbour in &layer.present_layers {
        let what = match neighbour.diff_id.as_str() {
            "" => "(not kept)",
            diff_id => &words::short(diff_id),
        };
        sheet.field("beside", &format!("{} {what}", neighbour.id));
    }
    later(layer, sheet);
    metadata(layer, sheet);
}

/// What later buildpacks of the same build did to the layer.
fn later(layer: &Row, sheet: Sheet) {
    for changes in &layer.changes {
        sheet.field("later", &words::changed(changes));
    }
}

fn metadata(layer: &Row, sheet: Sheet) {
    for (key, value) in &layer.metadata {
        sheet.field("metadata", &format!("{key} = {value}"));
    }
}
