//! The plan of a build, for people.

use super::{Found, Named};
use crate::show::text::{Cell, Column, Table, shown};
use crate::show::{DIM, ERROR, GOOD, HEADING, print as line};
use anstyle::Style;
use strata_decide::plan::{Complaint, Unsettled};
use strata_phases::detect::{Draft, Drafted, Told, Tried};
use strata_spec::plan::{PlanEntry, Require};

/// Lines of a buildpack's output that are shown unless all are asked for: the last ones.
const OUTPUT: usize = 10;
/// Groups that are shown unless all are asked for: the first ones, and the one that passed.
const GROUPS: usize = 10;

/// Prints it.
pub(super) fn print(found: &Found, verbose: bool, width: usize) {
    let image = |named: &Named| {
        let name = shown(&named.name);
        // A digest in two lines is none: its start is, where there is no room for more.
        let is_narrow = 11 + name.chars().count() + 2 + named.digest.len() > width;
        let digest = if is_narrow { named.digest.get(..19).unwrap_or_default() } else { &named.digest };
        if digest.is_empty() { name.into_owned() } else { format!("{name}  {DIM}{digest}{DIM:#}") }
    };
    if let Some(builder) = &found.builder {
        line(&format!("builder    {}", image(builder)));
    }
    line(&format!("run image  {}", image(&found.run_image)));
    line(&format!("target     {}", shown(&found.target)));
    let tried = &found.explained.tried;
    let hidden = if verbose { 0 } else { tried.len().saturating_sub(GROUPS) };
    for (index, group) in tried.iter().enumerate() {
        if index + 1 == tried.len() && hidden > 0 {
            line(&format!("\n{DIM}… {hidden} more that did not pass; --verbose shows them{DIM:#}"));
        }
        if index + 1 == tried.len() || index < tried.len() - 1 - hidden {
            self::group(index + 1, group, verbose, width);
        }
    }
    if tried.is_empty() {
        let who = "The builder's own detector does not tell groups apart; what it said stands above.";
        line(&format!("\n{DIM}{who}{DIM:#}"));
    }
    if found.explained.group.is_empty() {
        return;
    }
    line(&format!("\n{HEADING}Takes part{HEADING:#}"));
    for element in &found.explained.extensions {
        line(&format!("  {} (extension)", shown(&element.label())));
    }
    for element in &found.explained.group {
        line(&format!("  {}", shown(&element.label())));
    }
    found.explained.generated.iter().for_each(generated);
    if !found.explained.plan.entries.is_empty() {
        line(&format!("\n{HEADING}Plan{HEADING:#}"));
        let columns = ["what", "provided by", "required with"].map(|title| (title, Column::Text(8)));
        let mut table = Table::new(&columns, DIM);
        found.explained.plan.entries.iter().for_each(|entry| table.row(planned(entry)));
        table.lines(width).iter().for_each(|text| line(&format!("  {text}")));
    }
    line(&format!("\n{DIM}Which processes the image has is known when it is built.{DIM:#}"));
}

/// Prints what extensions would do to the images.
fn generated(generated: &Drafted) {
    line(&format!("\n{HEADING}Generated{HEADING:#}"));
    if let Some(image) = &generated.run_image {
        line(&format!("  the run image is {}", shown(image)));
    }
    for Draft { extension, kind, text } in &generated.dockerfiles {
        line(&format!("  {} by {}", kind.dockerfile(), shown(extension)));
        text.trim_end().lines().for_each(|text| line(&format!("     | {}", shown(text))));
    }
    if generated.dockerfiles.is_empty() {
        line("  nothing");
    }
    generated.warnings.iter().for_each(|warning| line(&format!("  {}", shown(warning))));
}

/// Prints who takes part, and nothing else.
pub(super) fn taking_part(found: &Found) {
    found.explained.group.iter().for_each(|element| line(&shown(&element.label())));
}

fn group(number: usize, group: &Tried, verbose: bool, width: usize) {
    let (style, verdict) = if group.has_passed { (GOOD, "passes") } else { (ERROR, "does not pass") };
    line(&format!("\n{HEADING}Group {number}{HEADING:#} {style}{verdict}{style:#}"));
    let columns = ["", "", "says", "provides", "requires"].map(|title| (title, Column::Text(8)));
    let mut table = Table::new(&columns, DIM);
    for told in &group.buildpacks {
        table.row(row(told));
        told.error
            .iter()
            .for_each(|error| error.lines().for_each(|text| table.note(&format!("       {text}"))));
        if told.code != 0 && told.code != 100 || verbose {
            output(told, verbose).into_iter().for_each(|text| table.note(&text));
        }
    }
    table.lines(width).iter().for_each(|text| line(&format!("  {text}")));
    for complaint in &group.complaints {
        line(&format!("  {}", shown(&self::complaint(complaint))));
    }
}

fn output(told: &Told, verbose: bool) -> Vec<String> {
    let lines: Vec<&str> = told.output.trim_end().lines().collect();
    let left_out = if verbose { 0 } else { lines.len().saturating_sub(OUTPUT) };
    let before = (left_out > 0).then(|| format!("       | … {left_out} lines"));
    let lines = lines.into_iter().skip(left_out).map(|text| format!("       | {text}"));
    before.into_iter().chain(lines).collect()
}

fn row(told: &Told) -> Vec<Cell> {
    let (word, style, says) = match told.code {
        0 => ("pass", GOOD, "yes".to_owned()),
        100 if told.optional => ("skip", DIM, "no (100)".to_owned()),
        100 => ("fail", ERROR, "no (100)".to_owned()),
        -1 => ("err", ERROR, "error".to_owned()),
        code => ("err", ERROR, format!("error ({code})")),
    };
    let what = match (told.extension, told.optional) {
        (true, _) => " (extension)",
        (false, true) => " (optional)",
        (false, false) => "",
    };
    let label = told.buildpack.label() + what;
    let alternatives = |text: &dyn Fn(usize) -> String| -> String {
        let all: Vec<String> = (0..told.plans.len()).map(text).collect();
        let all: Vec<String> =
            all.into_iter().map(|one| if one.is_empty() { "-".to_owned() } else { one }).collect();
        if all.iter().all(|one| one == "-") { String::new() } else { all.join(" | ") }
    };
    let provides = alternatives(&|index| told.plans[index].provides.join(", "));
    let requires = alternatives(&|index| {
        let names: Vec<&str> =
            told.plans[index].requires.iter().map(|require| require.name.as_str()).collect();
        names.join(", ")
    });
    let plain = |text: &str| Cell::new(text, Style::new());
    vec![Cell::new(word, style), plain(&label), plain(&says), plain(&provides), plain(&requires)]
}

fn complaint(complaint: &Complaint) -> String {
    let Complaint { buildpack, kind, name, optional } = complaint;
    let why = match kind {
        Unsettled::Unmet => format!("requires {name}, which no buildpack before it provides"),
        Unsettled::Unused => format!("provides {name}, which no buildpack requires"),
    };
    let outcome = if *optional { "; the group goes on without it" } else { "" };
    format!("{buildpack} {why}{outcome}")
}

fn planned(entry: &PlanEntry) -> Vec<Cell> {
    let name = entry.requires.first().map_or("", |require| require.name.as_str());
    let providers: Vec<String> =
        entry.providers.iter().map(|provider| format!("{}@{}", provider.id, provider.version)).collect();
    let with: Vec<String> = entry.requires.iter().filter_map(metadata).collect();
    vec![name.into(), providers.join(", ").into(), with.join("; ").into()]
}

/// What is said of a requirement, on one line.
fn metadata(require: &Require) -> Option<String> {
    let pairs: Vec<String> = require.metadata.iter().map(|(key, value)| format!("{key} = {value}")).collect();
    (!pairs.is_empty()).then(|| pairs.join(", "))
}
