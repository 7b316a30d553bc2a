//! What is known of where an image comes from: by its labels, which are part of it, and by a report beside it, which
//! is what somebody says.
//!
//! Labels are older than reports, and every lifecycle writes them, so an image without a report is still told apart
//! into layers. Where the two contradict each other, the label counts: it is covered by the image's digest.

pub mod chain;
pub mod choose;
pub mod diff;
mod labels;
pub mod path;
#[cfg(test)]
mod tests;
pub mod words;

pub use labels::Labelled;

use serde::Serialize;
use std::collections::BTreeMap;
use strata_oci::Image;
use strata_spec::origins::{
    EarlierBuild, Evidence, ImageRef, Input, Kind, Layer, Lifecycle, OnExport, Reason, Rebase, Report, Source,
};
use strata_spec::sealed::Changes;
use toml::Table;

/// An image, and what is known of each of its layers.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Trace {
    /// The checksum of its manifest.
    pub digest: String,
    /// The date in its configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The build that made it, by its report.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build: Option<Build>,
    /// The app's source: what the report says, or else the label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// The image below the app: what the label says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_image: Option<Other>,
    /// The buildpacks that took part, by their ids, and their versions; absent when the image has no label that says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub buildpacks: Option<BTreeMap<String, String>>,
    /// How the image came to be on that, if it was built on another one; the latest last.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rebases: Vec<Rebased>,
    /// The image whose layers could be used, by the report.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restored_image: Option<Restored>,
    /// Whether what the platform gave is known, nothing included.
    #[serde(skip)]
    pub tells_inputs: bool,
    /// All layers: those of the image from the bottom up, then those that are not in it.
    pub layers: Vec<Row>,
    /// What is not known, and why.
    pub notes: Vec<String>,
}

/// A build.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Build {
    /// Its name.
    pub id: String,
    /// When it was, RFC 3339.
    pub time: String,
    /// The program that made it.
    pub program: String,
    /// The image that it made.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub image_digest: String,
    /// The app's source then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// Where its buildpacks ran.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build_image: Option<Other>,
    /// What it built on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_image: Option<Other>,
    /// What the platform gave to it; known of the latest build only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<Input>,
}

impl Build {
    fn of(build: &EarlierBuild, inputs: &[Input]) -> Self {
        let lifecycle = &build.lifecycle;
        Self {
            id: build.id.clone(),
            time: build.time.clone(),
            program: program(lifecycle),
            image_digest: build.image_digest.clone(),
            source: build.application_source.clone(),
            build_image: lifecycle.build_image.as_ref().map(Other::of),
            run_image: lifecycle.run_image.as_ref().map(Other::of),
            inputs: inputs.to_vec(),
        }
    }
}

/// A change of the run image, without a build.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rebased {
    /// When it was, RFC 3339.
    pub time: String,
    /// The program that did it.
    pub program: String,
    /// The image before.
    pub image_digest: String,
    /// The run image since then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_image: Option<Other>,
}

impl Rebased {
    fn all(report: &Report) -> Vec<Self> {
        let one = |rebase: &Rebase| Self {
            time: rebase.time.clone(),
            program: program(&rebase.lifecycle),
            image_digest: rebase.image_digest.clone(),
            run_image: rebase.lifecycle.run_image.as_ref().map(Other::of),
        };
        report.rebases.iter().map(one).collect()
    }
}

fn program(lifecycle: &Lifecycle) -> String {
    format!("{} {}", lifecycle.name, lifecycle.version).trim().to_owned()
}

/// An image that took part in a build. Members that are unknown are empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Other {
    /// The names it goes by.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// The checksum of its manifest.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub digest: String,
    /// Its id in a daemon.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub image_id: String,
    /// Name and version of the distribution.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub distro: String,
}

impl Other {
    fn of(image: &ImageRef) -> Self {
        let ImageRef { tags, digest, image_id, distro } = image.clone();
        Self { tags, digest, image_id, distro }
    }
}

/// A layer that was there when another was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Present {
    /// `<buildpack>:<layer>`.
    pub id: String,
    /// Its diffID; empty when nobody computed it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub diff_id: String,
}

impl Present {
    fn of(other: &strata_spec::origins::Neighbour) -> Self {
        Self { id: other.id.clone(), diff_id: other.diff_id.clone() }
    }
}

/// The image before.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Restored {
    /// The checksum of its manifest.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub digest: String,
    /// Its id in a daemon.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub image_id: String,
    /// The build that made it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub build: String,
}

/// A layer.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// Its place in the image, counted from 1 at the bottom; absent when it is not in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<usize>,
    /// What it is; absent when not even that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
    /// `<buildpack>:<layer>`, or what the image's history says.
    pub id: String,
    /// The buildpack that made it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub buildpack: String,
    /// The version of it that made the layer.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub buildpack_version: String,
    /// The API of that.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub buildpack_api: String,
    /// Of its blob.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub digest: String,
    /// Of its archive.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub diff_id: String,
    /// Of its blob, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Its types, of `launch`, `build` and `cache`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<&'static str>,
    /// What export did with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_export: Option<OnExport>,
    /// How it is known which build made it.
    pub from: Evidence,
    /// How many builds ago that was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<u32>,
    /// The build that made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build: Option<Build>,
    /// Why that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unknown: Option<String>,
    /// The app's source when it was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// Why it was made again, or not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// What its buildpack wrote down.
    #[serde(skip_serializing_if = "Table::is_empty")]
    pub metadata: Table,
    /// The other layers that were there when it was made.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub present_layers: Vec<Present>,
    /// What later buildpacks changed in it, and what became of that.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<Changes>,
}

impl Row {
    /// What a report says of a layer.
    fn reported(report: &Report, layer: &Layer) -> Self {
        let flags = [(layer.launch, "launch"), (layer.build, "build"), (layer.cache, "cache")];
        let is_known = !matches!(layer.origin.from, Evidence::Unknown | Evidence::RunImage);
        Self {
            position: None,
            kind: Some(layer.kind),
            id: layer.id(),
            buildpack: layer.buildpack.clone(),
            buildpack_version: layer.buildpack_version.clone(),
            buildpack_api: layer.buildpack_api.clone(),
            digest: layer.digest.clone(),
            diff_id: layer.diff_id.clone(),
            size: layer.size,
            types: flags.into_iter().filter_map(|(is_set, name)| is_set.then_some(name)).collect(),
            on_export: Some(layer.on_export),
            from: layer.origin.from,
            generation: is_known.then_some(layer.origin.generation),
            build: report.build_of(layer).filter(|_| is_known).map(|build| Build::of(&build, &[])),
            unknown: (layer.origin.from == Evidence::Unknown).then(|| words::unknown(&layer.origin)),
            source: layer.application_source.clone(),
            reason: Some(layer.reason.clone()),
            metadata: layer.metadata.clone(),
            present_layers: layer.present_layers.iter().map(Present::of).collect(),
            changes: changes(report, layer),
        }
    }

    /// Whether it is called so: by its whole id, or by its name where it has no buildpack.
    pub fn is_called(&self, id: &str) -> bool {
        self.id == id
    }
}

/// What a report says that later buildpacks did to a layer.
fn changes(report: &Report, layer: &Layer) -> Vec<Changes> {
    let id = if layer.kind == Kind::App { "app".to_owned() } else { layer.id() };
    report.changes.iter().filter(|changes| changes.of == id).cloned().collect()
}

/// Puts together what labels and the latest report say. `absent` says why there is no report, `refused` what is wrong
/// with those that are not to be believed.
pub fn trace(
    image: &Image,
    digest: &str,
    report: Option<&Report>,
    absent: Option<&str>,
    refused: &[String],
) -> Trace {
    let labels = Labelled::of(image);
    let mut notes = labels.notes.clone();
    notes.extend(refused.iter().map(|reason| format!("a report beside the image is refused: {reason}")));
    notes.extend(absent.map(|why| format!("{why}: who made the layers, when and from what is unknown")));
    let mut layers = labels.rows.clone();
    for row in &mut layers {
        // The label is part of the image, and says what the app in it is.
        row.source = labels.source.clone().filter(|_| row.kind == Some(Kind::App));
        row.unknown = absent.filter(|_| row.kind != Some(Kind::RunImage)).map(str::to_owned);
    }
    if let Some(report) = report {
        layers = reported(report, labels.rows, &mut notes);
    }
    let build = report.map(|report| Build::of(&report.this_build(), &report.build.inputs));
    Trace {
        digest: digest.to_owned(),
        created: image.config().created().map(str::to_owned),
        source: build.as_ref().and_then(|build| build.source.clone()).or(labels.source),
        build,
        run_image: labels.run_image.as_ref().map(Other::of),
        buildpacks: labels.buildpacks,
        tells_inputs: report.is_some_and(|report| report.build.observed || !report.build.inputs.is_empty()),
        rebases: report.map(Rebased::all).unwrap_or_default(),
        restored_image: report.and_then(|report| report.restored_image.as_ref()).map(|image| Restored {
            digest: image.digest.clone(),
            image_id: image.image_id.clone(),
            build: image.build.clone(),
        }),
        layers,
        notes,
    }
}

/// The report's layers, where no label contradicts.
fn reported(report: &Report, labelled: Vec<Row>, notes: &mut Vec<String>) -> Vec<Row> {
    let (inside, outside): (Vec<&Layer>, Vec<&Layer>) =
        report.layers.iter().partition(|layer| layer.is_in_image());
    let mut rows = Vec::new();
    for (own, layer) in labelled.into_iter().zip(inside) {
        let says = Row::reported(report, layer);
        let is_other = own.kind.is_some_and(|kind| Some(kind) != says.kind)
            || own.kind == Some(Kind::Buildpack) && own.id != says.id;
        if is_other {
            let text = "the report and the image's label contradict each other";
            notes.push(format!("layer {}: {text}", own.position.unwrap_or_default()));
            rows.push(Row { unknown: Some(text.to_owned()), ..own });
        } else {
            // What the image itself says of bytes is right.
            let (id, size) = (
                if own.kind.is_some() { own.id } else { says.id.clone() },
                // A daemon does not say how large its layers are.
                own.size.filter(|size| *size > 0),
            );
            rows.push(Row { position: own.position, id, size, digest: own.digest, ..says });
        }
    }
    rows.extend(outside.into_iter().map(|layer| Row::reported(report, layer)));
    rows
}
