//! The report of an image that is put on another run image.

use super::beside::{self, Beside};
use super::{attach, document, now};
use crate::event::Observer;
use crate::failure::Failure;
use crate::rebase::{Rebase, Rebased};
use strata_decide::origins as decide;
use strata_spec::origins::{self as spec, Lifecycle};

/// The report that lies beside the image, which a layout drops together with the image. `None` when there is none to be
/// believed, which the log tells: then nobody knows more of the new image either.
pub fn before(rebase: &Rebase<'_>, observer: &dyn Observer) -> Option<Beside> {
    let found = beside::latest(rebase.app_store, rebase.app, observer);
    found.map_err(|unknown| observer.detail(format!("There are no origins to report: {}", unknown.text))).ok()
}

/// Carries that report on to the rebased image, and puts it beside that; the document. `None` when that fails, which the log
/// tells: the image is there by now, and its names are.
pub fn carry_on(
    rebase: &Rebase<'_>,
    rebased: &Rebased,
    before: Beside,
    lifecycle: Lifecycle,
    observer: &dyn Observer,
) -> Option<String> {
    let carried = try_carry_on(rebase, rebased, before, lifecycle, observer);
    carried.unwrap_or_else(|failure| {
        observer.warn(format!("There are no origins to report: {}", failure.chain()));
        None
    })
}

fn try_carry_on(
    rebase: &Rebase<'_>,
    rebased: &Rebased,
    before: Beside,
    lifecycle: Lifecycle,
    observer: &dyn Observer,
) -> Result<Option<String>, Failure> {
    let event = spec::Rebase {
        time: now()?,
        image_digest: rebase.app.manifest_digest.to_string(),
        report: before.digest.to_string(),
        lifecycle,
    };
    let mut image = rebased.report.image.clone();
    if image.image_id.is_empty() {
        image.digest = rebased.stored.manifest_digest.to_string();
    }
    let layers = decide::blobs(&rebased.stored.image);
    let of_base = rebase.new_base.image.layers().len();
    let Some(report) = decide::rebased(before.report, event, image, &layers, of_base) else {
        observer
            .warn("There are no origins to report: the report beside the image has other layers".to_owned());
        return Ok(None);
    };
    let text = document(report, observer)?;
    for failure in attach(&text, &rebased.stored, rebase.outputs, observer) {
        observer.warn(failure.chain());
    }
    Ok(Some(text))
}
