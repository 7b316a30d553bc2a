//! Reports that lie beside images.

use strata_decide::trace::chain::Before;
use strata_oci::Digest;
use strata_phases::origins::beside::{self, Beside};
use strata_spec::origins::Report;
use strata_store::validate::chain;
use strata_store::{Medium, Store, StoreError, StoredImage};

/// What lies beside an image.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    /// Those to be believed, the latest first.
    pub(crate) found: Vec<Report>,
    /// What is wrong with the others.
    pub(crate) refused: Vec<String>,
    /// Why there is none, if so.
    pub(crate) absent: Option<String>,
}

impl Reports {
    pub(crate) fn latest(&self) -> Option<&Report> {
        self.found.first()
    }

    fn new(outcome: Result<(Vec<Beside>, Vec<String>), StoreError>) -> Self {
        let absent = |text: String| Self { absent: Some(text), ..Self::default() };
        match outcome {
            Ok((found, refused)) => {
                let found = found.into_iter().map(|beside| beside.report).collect();
                Self { found, refused, absent: None }
            }
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

/// Reads the report of an earlier build, of which nothing else need be there any more.
///
/// # Errors
/// Why there is none.
pub(crate) fn of_build(store: &dyn Store, before: &Before) -> Result<Report, String> {
    let digest: Digest = before.digest.parse().map_err(|error| format!("{error}"))?;
    let reports = Reports::new(beside::of_digest(store, &digest));
    let found = reports.found.into_iter().find(|report| report.build.id == before.build);
    found.ok_or_else(|| {
        let refused = reports.refused.first().map(|reason| format!("; one is refused: {reason}"));
        let why = reports.absent.map(|why| format!("; {why}")).or(refused).unwrap_or_default();
        let rule = match store.medium() {
            Medium::Layout(_) => ": a folder keeps what lies beside the images that it still has",
            _ => "",
        };
        format!("the report of build {} is not beside the image {}{why}{rule}", before.build, before.digest)
    })
}
