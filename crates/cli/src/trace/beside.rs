//! Reports that lie beside images.

use strata_decide::trace::chain::Before;
use strata_oci::Digest;
use strata_phases::origins::beside::{self, Beside};
use strata_spec::labels::LIFECYCLE_METADATA;
use strata_spec::origins::Report;
use strata_store::source::Source;
use strata_store::validate::chain;
use strata_store::{Medium, Store, StoreError, StoredImage};

/// What lies beside an image.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    /// Those that are about the image, the one to be believed first.
    pub(crate) found: Vec<Beside>,
    /// What is wrong with the others.
    pub(crate) refused: Vec<String>,
    /// Why there is none, if so.
    pub(crate) absent: Option<String>,
}

impl Reports {
    pub(crate) fn latest(&self) -> Option<&Report> {
        self.found.first().map(|beside| &beside.report)
    }

    /// That there are others, and what they say that this one does not.
    pub(crate) fn others(&self) -> Vec<String> {
        let told = beside::disagreements(&self.found);
        let same = if told.is_empty() { ", of builds that gave the same" } else { "" };
        let count = match self.found.len() {
            0 | 1 => None,
            2 if same.is_empty() => Some("1 more report lies beside the image".to_owned()),
            2 => Some("1 more report lies beside the image, of a build that gave the same".to_owned()),
            many => Some(format!("{} more reports lie beside the image{same}", many - 1)),
        };
        count.into_iter().chain(told).collect()
    }

    fn new(outcome: Result<(Vec<Beside>, Vec<String>), StoreError>) -> Self {
        let absent = |text: String| Self { absent: Some(text), ..Self::default() };
        match outcome {
            Ok((found, refused)) => Self { found, refused, absent: None },
            Err(StoreError::NoReferrers) => absent("nothing is kept beside images in this place".to_owned()),
            Err(error) => absent(format!("reports cannot be looked for: {}", chain(&error))),
        }
    }
}

/// Reads the reports beside an image. That there are none, or that they cannot be read, fails nothing.
pub(crate) fn of(store: &dyn Store, image: &StoredImage) -> Reports {
    let mut reports = Reports::new(beside::all(store, image));
    if reports.found.is_empty() && reports.absent.is_none() {
        let what = if reports.refused.is_empty() { "no report" } else { "no report to be believed" };
        reports.absent = Some(format!("{what} lies beside the image"));
    }
    reports
}

/// How it can be that a place has no report, if it is one that gets reports only when that is asked for.
pub(crate) fn perhaps_left_behind(name: &str, image: &StoredImage, reports: &Reports) -> Option<String> {
    // Of what nobody built, there never was one.
    image.image.config().label(LIFECYCLE_METADATA)?;
    let is_alone =
        matches!(Source::parse(name), Ok(Source::OciArchive { .. } | Source::Layout { tag: None, .. }));
    let hint = "OCI archives, and folders without a tag, get reports with `--origins always` only, of `strata build` and `strata copy`";
    (is_alone && reports.found.is_empty() && reports.refused.is_empty()).then(|| hint.to_owned())
}

/// That nobody else finds the report, if so: it is of an image in a daemon, which does not have it.
pub(crate) fn is_here_only(store: &dyn Store) -> Option<String> {
    let Medium::Daemon(daemon) = store.medium() else { return None };
    // Whatever is wrong was told with the reports.
    let dir = daemon.is_beside_here_only().ok().flatten()?;
    Some(format!("the report is known on this machine only, in {}: the daemon has none", dir.display()))
}

/// Bytes of reports that are read on one way back.
pub(crate) const MAX_READ: u64 = 64 * 1024 * 1024;

/// Reads the report of an earlier build, of which nothing else need be there any more. `room` is how many bytes of reports
/// may still be read, and becomes less.
///
/// # Errors
/// Why there is none.
pub(crate) fn of_build(store: &dyn Store, before: &Before, room: &mut u64) -> Result<Report, String> {
    let digest: Digest = before.digest.parse().map_err(|error| format!("{error}"))?;
    let reports = Reports::new(beside::of_digest(store, &digest, room));
    let own = reports.found.into_iter().filter(|beside| beside.report.build.id == before.build);
    let own: Vec<Beside> = own.collect();
    let is_there = !own.is_empty();
    if before.report.is_empty() && own.iter().any(|beside| beside.digest != own[0].digest) {
        let text = "says different things in several copies";
        return Err(format!(
            "the report of build {} beside the image {} {text}",
            before.build, before.digest
        ));
    }
    let is_it = |beside: &Beside| before.report.is_empty() || beside.digest.to_string() == before.report;
    if let Some(beside) = own.into_iter().find(is_it) {
        return Ok(beside.report);
    }
    if is_there {
        let text = "is not the one that the next build found there";
        return Err(format!(
            "the report of build {} beside the image {} {text}",
            before.build, before.digest
        ));
    }
    Err({
        let refused = reports.refused.first().map(|reason| format!("; one is refused: {reason}"));
        let why = reports.absent.map(|why| format!("; {why}")).or(refused).unwrap_or_default();
        let rule = match store.medium() {
            Medium::Layout(_) => ": a folder keeps what lies beside the images that it still has",
            _ => "",
        };
        format!("the report of build {} is not beside the image {}{why}{rule}", before.build, before.digest)
    })
}
