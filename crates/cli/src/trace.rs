//! `strata trace`: where an image, a layer of it, or a file in it comes from.

mod beside;
mod chain;
mod layers;
mod path;
mod sheet;
mod show;

use crate::args;
use crate::images::{self, Names, surroundings};
use crate::places::Places;
use crate::show::text;
use crate::{Outcome, show as out};
use beside::Reports;
pub(crate) use layers::{Failed, scan};
pub(crate) use path::{hash, what};
use serde::Serialize;
pub(crate) use sheet::Sheet;
use strata_decide::trace::{self, Trace};
use strata_phases::Failure;
use strata_spec::exit::Exit;
use strata_store::source::Surroundings;
use strata_store::{Store, StoredImage};

/// An image that is traced.
pub(crate) struct Traced {
    pub(crate) name: String,
    /// In Docker's places.
    pub(crate) id: Option<String>,
    pub(crate) store: Box<dyn Store>,
    pub(crate) image: StoredImage,
    pub(crate) reports: Reports,
    pub(crate) trace: Trace,
}

impl Traced {
    /// Opens an image and puts together what is known of it.
    pub(crate) fn open(
        name: &str,
        surroundings: &Surroundings<'_>,
        platform: Option<&strata_oci::Platform>,
    ) -> Result<Self, Failure> {
        let (store, image) = images::open(name, surroundings, platform, Names::Anywhere)?;
        let reports = beside::of(&*store, &image);
        let mut trace = trace::trace(
            &image.image,
            &image.manifest_digest.to_string(),
            reports.latest(),
            reports.absent.as_deref(),
            &reports.refused,
        );
        trace.notes.extend(reports.others());
        trace.notes.extend(beside::perhaps_left_behind(name, &image, &reports));
        trace.notes.extend(beside::is_here_only(&*store).filter(|_| !reports.found.is_empty()));
        let id = images::id(&*store, &image);
        Ok(Self { name: name.to_owned(), id, store, image, reports, trace })
    }
}

/// Tells failures from answers, of which 1 is one.
pub(crate) fn answered(outcome: Outcome) -> Outcome {
    outcome.map_err(|failure| match failure.exit {
        Exit::Other | Exit::Export => Failure { exit: Exit::NoAnswer, ..failure },
        _ => failure,
    })
}

/// Runs the command.
pub(crate) fn run(args: &args::Trace, places: &Places) -> Outcome {
    answered(answer(args, places))
}

fn answer(args: &args::Trace, places: &Places) -> Outcome {
    let surroundings = surroundings(places, &args.store);
    let traced = Traced::open(&args.name, &surroundings, args.platform.as_ref())?;
    if args.statement || args.predicate {
        return statement(&traced, args.predicate);
    }
    let sheet = (!args.json).then(|| Sheet { width: width(places) });
    match (&args.path, &args.layer, sheet) {
        (Some(path), _, sheet) => return path::run(&traced, path, sheet),
        (None, Some(id), sheet) => return chain::run(&traced, id, sheet),
        (None, None, None) => print_json(&Named { name: &traced.name, what: &traced.trace })?,
        (None, None, Some(sheet)) if args.why => show::why(&traced, sheet),
        (None, None, Some(sheet)) => show::image(&traced, sheet),
    }
    Ok(0)
}

/// Prints the statement that the believed report makes, or its predicate, for whoever signs it.
fn statement(traced: &Traced, only_predicate: bool) -> Outcome {
    let what = format!("cannot state where '{}' comes from", traced.name);
    let Some(beside) = traced.reports.found.first() else {
        let why = traced.reports.absent.as_deref().unwrap_or("there is no report");
        let failure = Failure::new(Exit::Other, format!("{what}: {}", text::shown(why)));
        return Err(
            failure.hint("`strata build` leaves a report beside images that it keeps or sends to registries")
        );
    };
    let made = beside.report.provenance(&beside.digest.to_string());
    let mut made =
        made.ok_or_else(|| Failure::new(Exit::Other, format!("{what}: its report has no digest")))?;
    print_json(&if only_predicate { made["predicate"].take() } else { made })?;
    Ok(0)
}

/// Something of an image, with its name.
#[derive(Serialize)]
pub(crate) struct Named<'a, T> {
    pub(crate) name: &'a str,
    #[serde(flatten)]
    pub(crate) what: &'a T,
}

pub(crate) fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let text =
        text::json(value).map_err(|error| Failure::caused(Exit::Other, "cannot print as JSON", &error))?;
    out::document(&(text + "\n"), "the answer")
}

/// The columns that a table may have.
pub(crate) fn width(places: &Places) -> usize {
    let asked = places.variable("COLUMNS").and_then(|text| text.parse().ok());
    // Whoever reads from a pipe wants all of it.
    let terminal = || rustix::termios::tcgetwinsize(std::io::stdout()).ok().map(|size| size.ws_col.into());
    asked.or_else(terminal).filter(|columns| *columns > 0).unwrap_or(usize::MAX)
}
