//! Which of several reports beside an image is to be believed, and what the others say.
//!
//! Anybody who can write beside an image can write reports, and none is known to be right. Labels, which the image's
//! digest covers, go before all else, what is known before what is not, and dates to come are not believed. A forgery that
//! keeps to all that can still come first: so what the others say is told.

use super::{Labelled, words};
use std::collections::{BTreeMap, BTreeSet};
use strata_oci::Image;
use strata_spec::origins::{EarlierBuild, Evidence, ImageRef, Kind, Layer, Report, Source};

/// Layers, and inputs, that are named of one report.
const NAMED: usize = 3;
/// Characters of what another report says, which anybody may have written.
const LONG: usize = 300;
/// Reports that say something else and are told of, one by one.
const TOLD: usize = 5;

/// Puts reports in order, the one to be believed first: those that contradict the image's labels least, of these those that
/// know the origins of most of its layers, of these the latest. `key` tells a report and its checksum.
pub fn rank<T>(image: &Image, reports: &mut [T], key: impl Fn(&T) -> (&Report, String)) {
    let labels = Labelled::of(image);
    let before = |one| {
        let (report, digest) = key(one);
        Some((digest, report.restored_image.as_ref()?.report.clone()))
    };
    let before: BTreeMap<String, String> = reports.iter().filter_map(before).collect();
    reports.sort_by_cached_key(|one| {
        let (report, digest) = key(one);
        // Builds may follow each other within a second; one that has seen the other's report came after it.
        let seen = successive(&before, &digest);
        let later = std::cmp::Reverse((report.build.time.clone(), last_rebase(report), seen, digest));
        (contradictions(&labels, report), unknown(report), later)
    });
}

/// How many reports come before one, each of which names the one before it.
fn successive(before: &BTreeMap<String, String>, digest: &str) -> usize {
    let walk = std::iter::successors(before.get(digest), |digest| before.get(*digest));
    walk.take(before.len()).count()
}

/// Layers of the image that a report knows no origin of.
fn unknown(report: &Report) -> usize {
    let inside = report.layers.iter().filter(|layer| layer.is_in_image());
    inside.filter(|layer| layer.origin.from == Evidence::Unknown).count()
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

/// What the other reports say that the believed one does not, each in a sentence. That a build made a layer again, with the
/// same contents, contradicts nothing when the build that is named as its maker tells of it in a report of its own.
pub fn disagreements<'a>(
    believed: &'a Report,
    others: impl Iterator<Item = &'a Report> + Clone,
) -> Vec<String> {
    let makers: Makers<'_> = others.clone().chain([believed]).flat_map(made).collect();
    let mut told: Vec<String> = others.filter_map(|other| told(believed, other, &makers)).collect();
    let more = told.len().saturating_sub(TOLD);
    told.truncate(TOLD);
    if more > 0 {
        told.push(format!("{more} more reports beside the image say something else, too"));
    }
    told
}

/// Builds that say that they made a layer, each with the layer's id and diffID.
type Makers<'a> = BTreeSet<(&'a str, String, &'a str)>;

fn made(report: &Report) -> impl Iterator<Item = (&str, String, &str)> {
    let own = report.layers.iter().filter(|layer| layer.origin.from == Evidence::ThisBuild);
    own.map(|layer| (report.build.id.as_str(), layer.id(), layer.diff_id.as_str()))
}

/// What a report says of the build and the image's layers that the believed one does not: a sentence, or nothing. The
/// operator's own table and unstructured bills are not looked at.
pub fn disagreement(believed: &Report, other: &Report) -> Option<String> {
    told(believed, other, &Makers::new())
}

fn told(believed: &Report, other: &Report, makers: &Makers<'_>) -> Option<String> {
    let mut all = of_build(believed, other);
    let is_one_build = believed.build.id == other.build.id && !all.is_empty();
    let earlier = of_earlier(believed, other);
    let (layers, is_one_maker) = of_layers(believed, other, makers);
    let is_false = is_one_build || !earlier.is_empty() || is_one_maker;
    all.extend(earlier);
    all.extend(layers);
    let Report { build, .. } = other;
    // What builds made alike, each of them may have made; of one build, two things cannot be so.
    let meaning = if is_false {
        "one of the two is false"
    } else {
        "both can be true, of builds that came to the same"
    };
    (!all.is_empty()).then(|| {
        format!(
            "another report beside the image, of build {} at {}, says: {} ({meaning})",
            build.id,
            build.time,
            all.join("; ")
        )
    })
}

/// What it says otherwise of earlier builds that the other knows as well, by their ids.
fn of_earlier(believed: &Report, other: &Report) -> Vec<String> {
    let known: BTreeMap<&str, &EarlierBuild> =
        believed.builds.iter().rev().map(|build| (build.id.as_str(), build)).collect();
    let version = |build: &EarlierBuild| {
        // A report that would be too large leaves versions out.
        build.application_source.as_ref().filter(|source| !source.version.is_empty()).map(words::exact_source)
    };
    let differs = |build: &&EarlierBuild| {
        known.get(build.id.as_str()).is_some_and(|known| {
            let sources = version(known).zip(version(build));
            known.time != build.time || sources.is_some_and(|(one, two)| one != two)
        })
    };
    let named = other.builds.iter().filter(differs).take(NAMED).map(|build| {
        let source = version(build).map(|source| brief(format!(", from {source}"))).unwrap_or_default();
        format!("build {} was at {}{source}", build.id, build.time)
    });
    named.collect()
}

/// What it says of the build that the other does not.
fn of_build(believed: &Report, other: &Report) -> Vec<String> {
    let source = |report: &Report| report.build.application_source.as_ref().map(exact);
    let program = |report: &Report| {
        let text = format!("{} {}", report.lifecycle.name, report.lifecycle.version);
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    };
    let build_image = |report: &Report| report.lifecycle.build_image.as_ref().and_then(named);
    let run_image = |report: &Report| report.run_image().and_then(named);
    let mut all = Vec::new();
    let mut say = |what: &str, tell: &dyn Fn(&Report) -> Option<String>| {
        let said = tell(other);
        if said != tell(believed) {
            all.push(format!("the {what} is {}", said.map_or_else(|| "unknown".into(), brief)));
        }
    };
    say("source", &source);
    say("lifecycle", &program);
    say("build image", &build_image);
    say("run image", &run_image);
    all.extend(inputs(believed, other));
    all
}

/// A text without its end, if it is long.
fn brief(text: String) -> String {
    match text.char_indices().nth(LONG) {
        Some((end, _)) => format!("{}…", text.split_at(end).0),
        None => text,
    }
}

/// A source with all texts that there are about it, of which one is usually its address.
fn exact(source: &Source) -> String {
    let about = source.metadata.values().filter_map(|value| value.as_str());
    let words = [words::exact_source(source)].into_iter().chain(about.map(str::to_owned));
    words.collect::<Vec<_>>().join(", ")
}

/// An image by what is most exact.
fn named(image: &ImageRef) -> Option<String> {
    let exact = [&image.digest, &image.image_id].into_iter().find(|id| !id.is_empty());
    let words = [exact.or_else(|| image.tags.first()).cloned(), Some(image.distro.clone())];
    let words: Vec<String> = words.into_iter().flatten().filter(|word| !word.is_empty()).collect();
    (!words.is_empty()).then(|| words.join(", "))
}

/// Inputs that one of them has and the other has not, or with another digest.
fn inputs(believed: &Report, other: &Report) -> Option<String> {
    let of = |report: &Report| report.build.inputs.iter().cloned().collect::<BTreeSet<_>>();
    let (one, two) = (of(believed), of(other));
    let names: BTreeSet<&str> = one.symmetric_difference(&two).map(|input| input.name.as_str()).collect();
    let named: Vec<&str> = names.iter().take(NAMED).copied().collect();
    let more = names.len() - named.len();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    (!named.is_empty()).then(|| format!("the build had other inputs ({}{more})", named.join(", ")))
}

/// What it says of layers that the other does not, and whether both say it of one build.
fn of_layers(believed: &Report, other: &Report, makers: &Makers<'_>) -> (Vec<String>, bool) {
    // Of several with one id, the first counts.
    let known: BTreeMap<String, &Layer> =
        believed.layers.iter().rev().map(|layer| (layer.id(), layer)).collect();
    let differs = |layer: &&Layer| {
        known
            .get(&layer.id())
            .is_some_and(|known| known.diff_id == layer.diff_id && !is_compatible(known, layer, makers))
    };
    let layers: Vec<&Layer> = other.layers.iter().filter(differs).collect();
    let told = layers.iter().take(NAMED).map(|layer| {
        let maker = other
            .build_of(layer)
            .map_or_else(|| "an unknown build".into(), |build| format!("build {}", build.id));
        let version = Some(&layer.buildpack_version).filter(|version| !version.is_empty());
        let version = version.map(|version| format!(" with version {version}")).unwrap_or_default();
        format!("{} was made by {maker}{version}", layer.id())
    });
    let mut all: Vec<String> = told.collect();
    if layers.len() > NAMED {
        all.push(format!("{} more layers were made by others as well", layers.len() - NAMED));
    }
    let is_one_maker = |layer: &&Layer| {
        let known = known.get(&layer.id()).map(|known| known.origin.build.as_str());
        !layer.origin.build.is_empty() && known == Some(layer.origin.build.as_str())
    };
    (all, layers.iter().any(is_one_maker))
}

/// Whether the other says nothing new of a layer: nothing at all, that the same build made it, or that each of the two builds
/// that they name made it, with the same outcome.
fn is_compatible(one: &Layer, two: &Layer, makers: &Makers<'_>) -> bool {
    let is_own = |layer: &Layer| layer.origin.from == Evidence::ThisBuild;
    if two.origin.from == Evidence::Unknown {
        return true;
    }
    let names_maker =
        |layer: &Layer| makers.contains(&(layer.origin.build.as_str(), layer.id(), layer.diff_id.as_str()));
    // Nobody is known to have made what came with the run image.
    let is_same = is_own(one) && is_own(two)
        || one.origin.build == two.origin.build
        || names_maker(one) && names_maker(two);
    is_same && one.kind == two.kind && one.buildpack_version == two.buildpack_version
}
