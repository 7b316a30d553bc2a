//! Which of several reports beside an image is to be believed, and what the others say.
//!
//! Anybody who can write beside an image can write reports. None is known to be right, so the order is one that a forger
//! cannot choose at will: labels, which the image's digest covers, go before dates, and dates to come are not believed.

use super::{Labelled, words};
use strata_oci::Image;
use strata_spec::origins::{Evidence, Kind, Layer, Report, Source};

/// Layers that are named of one report.
const NAMED: usize = 3;

/// Puts reports in order, the one to be believed first: those that contradict the image's labels least, of these the
/// latest. `key` tells a report and its checksum.
pub fn rank<T>(image: &Image, reports: &mut [T], key: impl Fn(&T) -> (&Report, String)) {
    let labels = Labelled::of(image);
    reports.sort_by_cached_key(|one| {
        let (report, digest) = key(one);
        let later = std::cmp::Reverse((report.build.time.clone(), last_rebase(report), digest));
        (contradictions(&labels, report), later)
    });
}

fn last_rebase(report: &Report) -> String {
    report.rebases.last().map(|latest| latest.time.clone()).unwrap_or_default()
}

/// Whether a report is of a time that is yet to come; `latest` is RFC 3339.
pub fn is_to_come(report: &Report, latest: &str) -> bool {
    let rebases = report.rebases.iter().map(|rebase| &rebase.time);
    rebases.chain([&report.build.time]).any(|time| time.as_str() > latest)
}

/// How often a report says something else than the labels.
fn contradictions(labels: &Labelled, report: &Report) -> usize {
    let inside = report.layers.iter().filter(|layer| layer.is_in_image());
    let other = |(own, layer): (&super::Row, &Layer)| {
        own.kind.is_some_and(|kind| kind != layer.kind)
            || own.kind == Some(Kind::Buildpack) && own.id != layer.id()
    };
    let layers = labels.rows.iter().zip(inside).filter(|(own, layer)| other((own, layer))).count();
    let source = labels.source.as_ref().zip(report.build.application_source.as_ref());
    let is_other_source = source.is_some_and(|(label, said)| !is_same_source(label, said));
    let run_image = labels.run_image.as_ref().zip(report.run_image());
    let is_other_base = run_image.is_some_and(|(label, said)| {
        !label.digest.is_empty() && !said.digest.is_empty() && label.digest != said.digest
    });
    layers + usize::from(is_other_source) + usize::from(is_other_base)
}

/// Reports have more of a source than labels.
fn is_same_source(label: &Source, said: &Source) -> bool {
    label.kind == said.kind && words::exact_source(label) == words::exact_source(said)
}

/// What a report says of the image's layers that the believed one does not: a sentence, or nothing.
pub fn disagreement(believed: &Report, other: &Report) -> Option<String> {
    let mut all = Vec::new();
    let source = |report: &Report| report.build.application_source.as_ref().map(words::source);
    if source(believed) != source(other) {
        all.push(format!("the source is {}", source(other).unwrap_or_else(|| "unknown".into())));
    }
    let differs = |layer: &&Layer| {
        let of = believed.layers.iter().find(|known| known.id() == layer.id());
        of.is_some_and(|known| {
            known.diff_id == layer.diff_id && !is_compatible((believed, known), (other, layer))
        })
    };
    let layers: Vec<&Layer> = other.layers.iter().filter(differs).collect();
    all.extend(layers.iter().take(NAMED).map(|layer| {
        let maker = other
            .build_of(layer)
            .map_or_else(|| "an unknown build".into(), |build| format!("build {}", build.id));
        format!("{} was made by {maker}", layer.id())
    }));
    if layers.len() > NAMED {
        all.push(format!("{} more layers were made by others as well", layers.len() - NAMED));
    }
    let Report { build, .. } = other;
    (!all.is_empty()).then(|| {
        format!(
            "another report beside the image, of build {} at {}, says: {}",
            build.id,
            build.time,
            all.join("; ")
        )
    })
}

/// Whether both can be true of one layer: that one build made it, or that each of the two builds made it, with the same
/// outcome.
fn is_compatible((believed, one): (&Report, &Layer), (other, two): (&Report, &Layer)) -> bool {
    let is_own = |layer: &Layer| layer.origin.from == Evidence::ThisBuild;
    let is_known = |layer: &Layer| !matches!(layer.origin.from, Evidence::Unknown | Evidence::RunImage);
    let maker = |report: &Report, layer: &Layer| report.build_of(layer).map(|build| build.id);
    !is_known(one)
        || !is_known(two)
        || is_own(one) && is_own(two)
        || maker(believed, one) == maker(other, two)
}
