//! The way of a layer back through earlier builds.
//!
//! Each report names the image and the build before it. The caller fetches that report, if it is there, and asks
//! again. Reports may lie, so the walk counts builds, and knows where it has been.

use super::{Build, Rebased, Row};
use serde::Serialize;
use std::collections::BTreeSet;
use strata_spec::origins::{Evidence, Layer, Report, RestoredImage, Source};

/// Builds that are walked at most.
const MAX_STEPS: usize = 1000;

/// A build on the way.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// The build.
    pub build: Build,
    /// The layer as it was then.
    pub layer: Row,
    /// What was done with the image since, without a build.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rebases: Vec<Rebased>,
    /// What is different from the build before it. Empty in the last one.
    pub changed: Vec<String>,
}

/// Where the walk ends.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", tag = "end")]
pub enum End {
    /// The last step made the layer.
    Made,
    /// What made it is known, although the reports between are not all there.
    Skipped {
        /// What is missing.
        missing: String,
        /// The build that made the layer, by a later one's report.
        build: Box<Build>,
        /// How many builds lie between the last step and that one, both not counted.
        builds: u32,
        /// The layer in that build, if its own report is there.
        #[serde(skip_serializing_if = "Option::is_none")]
        layer: Option<Box<Row>>,
    },
    /// Nobody knows what made it.
    Unknown {
        /// Why.
        why: String,
    },
}

/// A walk.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Chain {
    /// The builds, the latest first.
    pub steps: Vec<Step>,
    /// Where it ends.
    #[serde(flatten)]
    pub end: End,
}

/// The build before, as a report names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Before {
    /// The checksum of the manifest of its image.
    pub digest: String,
    /// Its id; empty when unknown.
    pub build: String,
    /// The checksum of its report as the next build found it; empty when unknown.
    pub report: String,
}

/// Walks back from `latest`. `fetch` gives the report of an earlier build, or says why it cannot.
pub fn walk(
    latest: Report,
    id: &str,
    mut fetch: impl FnMut(&Before) -> Result<Report, String>,
) -> Option<Chain> {
    let mut layer = find(&latest, id)?.clone();
    let mut report = latest;
    let (mut steps, mut seen) = (Vec::<Step>::new(), BTreeSet::new());
    loop {
        seen.insert(report.build.id.clone());
        steps.push(Step {
            build: Build::of(&report.this_build(), &report.build.inputs),
            layer: Row::reported(&report, &layer),
            rebases: Rebased::all(&report),
            changed: Vec::new(),
        });
        let end = match layer.origin.from {
            Evidence::ThisBuild => Some(End::Made),
            Evidence::RunImage => {
                Some(End::Unknown { why: "it came with the run image, whose build is another's".into() })
            }
            Evidence::Unknown => Some(End::Unknown { why: super::words::unknown(&layer.origin) }),
            Evidence::Cache | Evidence::PreviousImage => None,
        };
        if let Some(end) = end {
            return Some(Chain { steps, end });
        }
        let next = earlier(&report, &layer, &seen, steps.len(), &mut fetch);
        match next {
            Ok((before, of_before)) => {
                if let Some(step) = steps.last_mut() {
                    step.changed = changed(&before, &of_before, &report, &layer);
                }
                (report, layer) = (before, of_before);
            }
            Err(missing) => {
                let end = skipped(&report, &layer, missing, &mut fetch);
                return Some(Chain { steps, end });
            }
        }
    }
}

fn find<'a>(report: &'a Report, id: &str) -> Option<&'a Layer> {
    report.layers.iter().find(|layer| layer.id() == id)
}

/// The end of a walk that cannot go on: the build that made the layer, as far as it is known from here.
fn skipped(
    report: &Report,
    layer: &Layer,
    missing: String,
    fetch: &mut impl FnMut(&Before) -> Result<Report, String>,
) -> End {
    let Some(maker) = report.build_of(layer) else { return End::Unknown { why: missing } };
    let own = Before { digest: maker.image_digest.clone(), build: maker.id.clone(), report: String::new() };
    // What its own report says is more, if it is there and agrees.
    let made = Some(own).filter(|own| !own.digest.is_empty()).and_then(|own| fetch(&own).ok());
    let (mut build, mut row) = (Build::of(&maker, &[]), None);
    if let Some(made) = made
        && let Some(found) = find(&made, &layer.id())
        && found.origin.from == Evidence::ThisBuild
        && (found.diff_id == layer.diff_id || found.diff_id.is_empty())
    {
        build = Build::of(&made.this_build(), &made.build.inputs);
        row = Some(Box::new(Row::reported(&made, found)));
    }
    let builds = layer.origin.generation.saturating_sub(1);
    End::Skipped { missing, build: Box::new(build), builds, layer: row }
}

/// The report before, and the layer in it.
fn earlier(
    report: &Report,
    layer: &Layer,
    seen: &BTreeSet<String>,
    steps: usize,
    fetch: &mut impl FnMut(&Before) -> Result<Report, String>,
) -> Result<(Report, Layer), String> {
    let none = || "the build had no image before it, and its cache was filled elsewhere".to_owned();
    let restored = report.restored_image.as_ref().ok_or_else(none)?;
    if restored.digest.is_empty() {
        return Err("the image before was in a daemon, where earlier images have no reports".into());
    }
    if restored.build.is_empty() {
        return Err(format!("the image before, {}, had no report to be believed", restored.digest));
    }
    if seen.contains(&restored.build) || steps >= MAX_STEPS {
        return Err("the reports name each other in a circle".into());
    }
    let RestoredImage { digest, build, report: found, .. } = restored.clone();
    let wanted = Before { digest, build, report: found };
    let before = fetch(&wanted)?;
    if before.build.id != wanted.build {
        return Err(format!("the report is not of build {}, but of {}", wanted.build, before.build.id));
    }
    if before.build.time > report.build.time {
        return Err(format!("the report of build {} is later than the one it comes before", wanted.build));
    }
    let found = find(&before, &layer.id())
        .ok_or_else(|| format!("build {} had no such layer: it came from elsewhere", wanted.build))?;
    if !found.diff_id.is_empty() && found.diff_id != layer.diff_id {
        return Err(format!("build {} had the layer with other contents", wanted.build));
    }
    if found.origin.from != Evidence::Unknown && maker(&before, found) != maker(report, layer) {
        return Err(format!("the report of build {} names another origin", wanted.build));
    }
    Ok((before.clone(), found.clone()))
}

fn maker<'a>(report: &'a Report, layer: &'a Layer) -> &'a str {
    if layer.origin.from == Evidence::ThisBuild { &report.build.id } else { &layer.origin.build }
}

/// What changed around the layer from one build to the next.
fn changed(old: &Report, old_layer: &Layer, new: &Report, new_layer: &Layer) -> Vec<String> {
    let mut all = Vec::new();
    let mut say = |what: &str, old: String, new: String| {
        if old != new {
            let or_none = |text: String| if text.is_empty() { "none".to_owned() } else { text };
            all.push(format!("{what}: {} -> {}", or_none(old), or_none(new)));
        }
    };
    let source =
        |source: &Option<Source>| source.as_ref().map(super::words::exact_source).unwrap_or_default();
    say("source", source(&old.build.application_source), source(&new.build.application_source));
    let digest = |report: &Report| {
        let image = report.lifecycle.run_image.as_ref();
        image.map(|image| image.digest.clone()).unwrap_or_default()
    };
    say("run image", digest(old), digest(new));
    let program = |report: &Report| format!("{} {}", report.lifecycle.name, report.lifecycle.version);
    say("lifecycle", program(old), program(new));
    let version = |report: &Report, layer: &Layer| {
        // Who kept the layer, not who made it: that is the same build in both.
        let others = report.layers.iter().filter(|other| other.buildpack == layer.buildpack);
        let here = others.filter(|other| other.origin.from == Evidence::ThisBuild);
        here.map(|other| other.buildpack_version.clone()).next()
    };
    if let (Some(before), Some(after)) = (version(old, old_layer), version(new, new_layer)) {
        say("buildpack", before, after);
    }
    all.extend(inputs(old, new));
    all
}

/// Variables and bindings that came, went, or have another digest.
fn inputs(old: &Report, new: &Report) -> Vec<String> {
    let find = |report: &Report, name: &str| {
        report.build.inputs.iter().find(|input| input.name == name).map(|input| input.digest.clone())
    };
    let names: BTreeSet<&String> =
        old.build.inputs.iter().chain(&new.build.inputs).map(|input| &input.name).collect();
    let line = |name: &&String| match (find(old, name), find(new, name)) {
        (None, Some(_)) => Some(format!("input {name}: new")),
        (Some(_), None) => Some(format!("input {name}: gone")),
        (Some(a), Some(b)) if a != b => Some(format!("input {name}: another value")),
        _ => None,
    };
    names.iter().filter_map(line).collect()
}
