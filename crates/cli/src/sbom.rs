//! `strata sbom`: what an image is made of, and what is different between two.

use crate::images::{self, Names, failure, surroundings};
use crate::places::Places;
use crate::show::text::shown;
use crate::show::{document, print_err};
use crate::{Outcome, args};
use std::collections::BTreeSet;
use std::path::Path;
use strata_decide::trace::Labelled;
use strata_oci::Platform;
use strata_phases::bill::{self, BillError, Image};
use strata_phases::{Event, Failure, Level, Observer, files};
use strata_sbom::{Bill, Filter, changes, diff, table, write};
use strata_spec::exit::Exit;
use strata_spec::origins::Kind;
use strata_store::source::{Source, Surroundings};
use strata_store::{Store, StoredImage};

/// Runs the command.
pub(crate) fn run(args: &args::Sbom, places: &Places) -> Outcome {
    match (&args.command, &args.name) {
        (Some(args::SbomCommand::Diff(diff)), _) => run_diff(diff, places),
        (None, Some(name)) => show(args, name, places),
        (None, None) => Err(Failure::new(Exit::InvalidArguments, "no image is named")),
    }
}

fn show(args: &args::Sbom, name: &str, places: &Places) -> Outcome {
    let surroundings = surroundings(places, &args.store);
    let found = Found::open(name, &surroundings, args.platform.as_ref(), args.fresh, places)?;
    let filter = Filter { layer: args.layer.as_deref(), buildpack: args.buildpack.as_deref() };
    args.layer.as_deref().map_or(Ok(()), |layer| check_layer(&found, layer, name))?;
    let bill = if args.layer.is_some() || args.buildpack.is_some() {
        let only = found.bill.only(filter);
        if only.is_empty() {
            print_err(&nothing(&found.bill, filter, name));
        }
        only
    } else {
        found.bill
    };
    let subject = bill::subject(&found.stored, &found.name);
    let text = match args.format {
        args::SbomFormat::Cyclonedx => write::cyclonedx(&bill, &subject),
        args::SbomFormat::Spdx => write::spdx(&bill, &subject),
        args::SbomFormat::Table => table(&bill),
    };
    put(args.output.as_deref(), &text, places)
}

/// Makes sure that there is such a layer, by the image's labels or in its bill: one may be of nothing that is known.
fn check_layer(found: &Found, asked: &str, name: &str) -> Result<(), Failure> {
    let rows = Labelled::of(&found.stored.image).rows;
    let labelled = rows.into_iter().filter(|row| row.kind.is_some_and(|kind| kind != Kind::RunImage));
    let components = found.bill.components().flat_map(|(_, component)| &component.found_in);
    let there: BTreeSet<String> =
        labelled.map(|row| row.id).chain(components.filter_map(|origin| origin.layer_label())).collect();
    if there.iter().any(|id| id == asked || id.rsplit_once(':').is_some_and(|(_, layer)| layer == asked)) {
        return Ok(());
    }
    let there: Vec<_> = there.iter().map(|id| shown(id)).collect();
    let message = format!("there is no layer '{}' in '{name}'", shown(asked));
    Err(Failure::new(Exit::InvalidArguments, message).hint(format!("the layers are {}", there.join(", "))))
}

/// What there is instead of what was asked for.
fn nothing(bill: &Bill, filter: Filter<'_>, name: &str) -> String {
    let mut there: Vec<String> = bill
        .components()
        .flat_map(|(_, component)| &component.found_in)
        .filter_map(
            |origin| {
                if filter.layer.is_some() { origin.layer_label() } else { origin.buildpack_label() }
            },
        )
        .collect();
    there.sort();
    there.dedup();
    let there = if there.is_empty() { "nothing".to_owned() } else { there.join(", ") };
    format!("nothing in '{name}' is of that; there is {there}").replace(char::is_control, " ")
}

fn run_diff(args: &args::SbomDiff, places: &Places) -> Outcome {
    let surroundings = surroundings(places, &args.store);
    let open = |name| Found::open(name, &surroundings, args.platform.as_ref(), args.fresh, places);
    let (before, after) = (open(&args.before)?, open(&args.after)?);
    let found = diff(&before.bill, &after.bill);
    let text = if args.json {
        let text = serde_json::to_string_pretty(&found)
            .map_err(|error| Failure::caused(Exit::Other, "cannot print the differences as JSON", &error))?;
        format!("{text}\n")
    } else {
        changes(&found)
    };
    put(args.output.as_deref(), &text, places)
}

/// An image and its bill.
struct Found {
    stored: StoredImage,
    /// What documents call it.
    name: String,
    bill: Bill,
}

impl Found {
    /// The bill that was attached when the image was built, else what the image itself says.
    fn open(
        text: &str,
        surroundings: &Surroundings<'_>,
        platform: Option<&Platform>,
        fresh: bool,
        places: &Places,
    ) -> Result<Self, Failure> {
        let (store, stored) = images::open(text, surroundings, platform, Names::Anywhere)?;
        let image = Image { store: &*store, stored: &stored };
        let what = format!("cannot tell what is in '{text}'");
        let attached = if fresh { None } else { attached(image) };
        let made = match attached {
            Some(bill) => Ok(bill),
            None => bill::make(image, Some(&places.packages()), &Told),
        };
        let bill = made.map_err(|error| match error {
            BillError::Store(error) => failure(Exit::Other, &what, &error),
            error => Failure::caused(Exit::Other, &what, &error),
        })?;
        // It was understood when the image was opened.
        let name = Source::parse(text).ok().and_then(|source| source.name());
        let name = name.map_or_else(|| text.to_owned(), |name| name.to_string());
        Ok(Self { stored, name, bill })
    }
}

/// One that cannot be read is made again: registries answer in many ways to what they do not know.
fn attached(image: Image<'_>) -> Option<Bill> {
    bill::attached(image).unwrap_or_else(|error| {
        let causes = Failure::caused(Exit::Other, "", &error).causes.join(": ");
        print_err(&format!("Warning: the attached bill of materials is not used: {causes}"));
        None
    })
}

/// Where the text goes.
fn put(output: Option<&Path>, text: &str, places: &Places) -> Outcome {
    match output.filter(|path| *path != Path::new("-")) {
        Some(path) => files::write_given(&places.current.join(path), text)
            .map_err(|error| Failure::caused(Exit::Other, "cannot write the bill of materials", &error))?,
        None => document(text, "the bill of materials")?,
    }
    Ok(0)
}

/// Says warnings on standard error: the output is a document.
struct Told;

impl Observer for Told {
    fn event(&self, event: Event) {
        if let Event::Message { level: Level::Warn, text } = event {
            // Names in it come from others.
            print_err(&format!("Warning: {}", text.replace(char::is_control, " ")));
        }
    }
}

/// Attaches the bill of an image that was just built, unless it has that of this version already. What cannot be made
/// is a warning: the image is there.
pub(crate) fn attach(store: &dyn Store, name: &str, places: &Places, observer: &dyn Observer) {
    if let Err(error) = try_attach(store, name, places, observer) {
        let causes = Failure::caused(Exit::Other, "", &error).causes.join(": ");
        observer.warn(format!("the image has no bill of materials beside it: {causes}"));
    }
}

fn try_attach(
    store: &dyn Store,
    name: &str,
    places: &Places,
    observer: &dyn Observer,
) -> Result<(), BillError> {
    let Some(stored) = store.read_image()? else { return Ok(()) };
    let image = Image { store, stored: &stored };
    if bill::is_attached(image)? {
        return Ok(());
    }
    let bill = bill::make(image, Some(&places.packages()), observer)?;
    bill::attach(image, name, &bill)?;
    observer.detail(format!("Attached the bill of materials: {} components", bill.len()));
    Ok(())
}
