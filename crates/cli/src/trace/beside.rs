//! Reports that lie beside images.

use std::io::Read;
use strata_decide::trace::chain::Before;
use strata_oci::{Descriptor, Digest, Manifest};
use strata_spec::origins::{MAX_REPORT, MEDIA_TYPE, Report};
use strata_store::validate::chain;
use strata_store::{Medium, Store, StoreError, StoredImage};

/// More reports than anybody looks at: each build of the same image leaves one.
const MAX_REPORTS: usize = 64;

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
}

/// Reads the reports beside an image. That there are none, or that they cannot be read, fails nothing.
pub(crate) fn of(store: &dyn Store, image: &StoredImage) -> Reports {
    let diff_ids: Vec<String> = image.image.layers().iter().map(|layer| layer.diff_id.to_string()).collect();
    let mut reports = all(store, &image.manifest_digest, |report| {
        let digest = image.manifest_digest.to_string();
        report.check(&digest, diff_ids.iter().map(String::as_str)).map_err(|error| error.to_string())
    });
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
    let reports = all(store, &digest, |report| {
        let is_own = report.image.digest == before.digest;
        is_own.then_some(()).ok_or_else(|| "it is about another image".to_owned())
    });
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

fn all(store: &dyn Store, subject: &Digest, check: impl Fn(&Report) -> Result<(), String>) -> Reports {
    let mut reports = Reports::default();
    let entries = match store.referrers(subject, Some(MEDIA_TYPE)) {
        Ok(entries) => entries,
        Err(StoreError::NoReferrers) => {
            reports.absent = Some("nothing is kept beside images in this place".to_owned());
            return reports;
        }
        Err(error) => {
            reports.absent = Some(format!("reports cannot be looked for: {}", chain(&error)));
            return reports;
        }
    };
    // Lists grow at their end.
    for entry in entries.iter().rev().take(MAX_REPORTS) {
        match one(store, subject, entry).and_then(|report| check(&report).map(|()| report)) {
            Ok(report) => reports.found.push(report),
            Err(reason) => reports.refused.push(format!("{}: {reason}", entry.digest)),
        }
    }
    reports.found.sort_by(|a, b| (&b.build.time, &b.build.id).cmp(&(&a.build.time, &a.build.id)));
    reports
}

fn one(store: &dyn Store, subject: &Digest, entry: &Descriptor) -> Result<Report, String> {
    let unread = |error: StoreError| format!("it cannot be read: {}", chain(&error));
    let tree = store.read_referrer(entry).map_err(unread)?.ok_or("it is listed and not there")?;
    let (root, bytes) = tree.documents.last().ok_or("it is empty")?;
    let manifest = Manifest::parse(bytes, Some(&root.media_type))
        .map_err(|error| format!("it is no artifact: {error}"))?;
    if manifest.subject.is_none_or(|found| found.digest != *subject) {
        return Err("it is an artifact of another image".into());
    }
    let file = manifest.layers.iter().find(|file| file.media_type == MEDIA_TYPE).ok_or("it has no report")?;
    if file.size > MAX_REPORT as u64 {
        return Err(format!("it is larger than {} MiB", MAX_REPORT >> 20));
    }
    let blob = store.open_blob(file).map_err(unread)?.ok_or("its file is not there")?;
    let mut text = String::new();
    blob.take(MAX_REPORT as u64 + 1)
        .read_to_string(&mut text)
        .map_err(|error| format!("its file cannot be read: {error}"))?;
    Report::parse(&text).map_err(|error| error.to_string())
}
