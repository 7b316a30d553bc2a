//! What the labels of an image say of its layers.

use super::Row;
use std::collections::BTreeMap;
use strata_oci::Image;
use strata_spec::labels::{
    APP_SOURCE, BUILD_METADATA, BuildMetadata, LIFECYCLE_METADATA, LifecycleMetadata, PROJECT_METADATA,
};
use strata_spec::origins::{Evidence, ImageRef, Kind, MAX_TOLD, MAX_WORD, Source, clean};
use strata_spec::values::to_toml;
use toml::Table;

/// What an image says of itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Labelled {
    /// Its layers, from the bottom up.
    pub rows: Vec<Row>,
    /// The app's source.
    pub source: Option<Source>,
    /// The image below the app.
    pub run_image: Option<ImageRef>,
    /// Ids and versions of the buildpacks that took part.
    pub buildpacks: Option<BTreeMap<String, String>>,
    /// What cannot be understood.
    pub notes: Vec<String>,
}

impl Labelled {
    /// Reads the labels. Nothing in them can fail it: images come from anywhere.
    pub fn of(image: &Image) -> Self {
        let mut notes = Vec::new();
        let label = image.config().label(LIFECYCLE_METADATA);
        let metadata = match label.map(LifecycleMetadata::parse) {
            Some(Ok(metadata)) => metadata,
            Some(Err(error)) => {
                notes.push(format!("the label {LIFECYCLE_METADATA} cannot be read: {error}"));
                LifecycleMetadata::default()
            }
            None => {
                notes.push("no Cloud Native Buildpacks lifecycle made this image".to_owned());
                LifecycleMetadata::default()
            }
        };
        let mut known = known(image, &metadata, &mut notes);
        let base = base(image, &metadata, &known);
        let rows = image.layers().iter().enumerate().map(|(index, layer)| {
            let diff_id = layer.diff_id.to_string();
            let mut row = if index < base {
                Row {
                    kind: Some(Kind::RunImage),
                    id: format!("run-image-{}", index + 1),
                    from: Evidence::RunImage,
                    ..Row::default()
                }
            } else {
                known.get_mut(&diff_id).and_then(Vec::pop).unwrap_or_default()
            };
            if row.id.is_empty() {
                let by = layer.history.as_ref().and_then(|history| history.created_by.clone());
                row.id = by.unwrap_or_else(|| "unknown".into());
            }
            let (digest, size) = (layer.descriptor.digest.to_string(), Some(layer.descriptor.size));
            Row { position: Some(index + 1), digest, diff_id, size, ..row }
        });
        let rows: Vec<Row> = rows.collect();
        let run_image = &metadata.run_image;
        let names = [&run_image.image].into_iter().filter(|name| !name.is_empty()).cloned().collect();
        let (_, digest) = run_image.reference.rsplit_once('@').unwrap_or(("", &run_image.reference));
        let digest = Some(digest).filter(|text| strata_spec::origins::is_digest(text));
        let run_image = ImageRef {
            tags: names,
            digest: digest.unwrap_or_default().to_owned(),
            image_id: if digest.is_none() { run_image.reference.clone() } else { String::new() },
            ..ImageRef::default()
        };
        Self {
            source: source(image, &rows, &mut notes),
            buildpacks: buildpacks(image, &mut notes),
            rows,
            run_image: Some(run_image).filter(|image| *image != ImageRef::default()),
            notes,
        }
    }
}

/// The buildpacks that took part, whether they left layers or not.
fn buildpacks(image: &Image, notes: &mut Vec<String>) -> Option<BTreeMap<String, String>> {
    let text = image.config().label(BUILD_METADATA)?;
    match serde_json::from_str::<BuildMetadata>(text) {
        Ok(BuildMetadata { buildpacks, .. }) => {
            Some(buildpacks.into_iter().map(|buildpack| (buildpack.id, buildpack.version)).collect())
        }
        Err(error) => {
            notes.push(format!("the label {BUILD_METADATA} cannot be read: {error}"));
            None
        }
    }
}

/// How many layers the base has.
fn base(image: &Image, metadata: &LifecycleMetadata, known: &BTreeMap<String, Vec<Row>>) -> usize {
    let top = &metadata.run_image.top_layer;
    let mut ids = image.layers().iter().map(|layer| layer.diff_id.to_string());
    match ids.position(|id| id == *top) {
        Some(index) => index + 1,
        // All below the first that a lifecycle added.
        None if known.is_empty() => 0,
        None => {
            let mut ids = image.layers().iter().map(|layer| layer.diff_id.to_string());
            ids.position(|id| known.contains_key(&id)).unwrap_or(0)
        }
    }
}

/// The image's layers that the label names, by their diffIDs; those of equal ids with the first last.
fn known(image: &Image, metadata: &LifecycleMetadata, notes: &mut Vec<String>) -> BTreeMap<String, Vec<Row>> {
    let mut known: BTreeMap<String, Vec<Row>> =
        image.layers().iter().map(|layer| (layer.diff_id.to_string(), Vec::new())).collect();
    let mut add = |sha: &str, row: Row| {
        if let Some(rows) = known.get_mut(sha) {
            rows.push(row);
        }
    };
    let plain = |kind, id: &str| Row { kind: Some(kind), id: id.to_owned(), ..Row::default() };
    // All layers of a buildpack repeat what it is called.
    let is_name = |text: &str| text.len() <= MAX_WORD;
    let (named, unnamed): (Vec<_>, Vec<_>) = metadata
        .buildpacks
        .iter()
        .partition(|buildpack| is_name(&buildpack.key) && is_name(&buildpack.version));
    if !unnamed.is_empty() {
        notes.push(format!("the label {LIFECYCLE_METADATA} names impossible buildpacks"));
    }
    for buildpack in named {
        for (name, layer) in &buildpack.layers {
            let flags = [(layer.launch, "launch"), (layer.build, "build"), (layer.cache, "cache")];
            let row = Row {
                buildpack: buildpack.key.clone(),
                buildpack_version: buildpack.version.clone(),
                types: flags.into_iter().filter_map(|(is_set, name)| is_set.then_some(name)).collect(),
                metadata: table(&layer.data),
                ..plain(Kind::Buildpack, &format!("{}:{name}", buildpack.key))
            };
            add(&layer.sha, row);
        }
    }
    if let Some(sbom) = &metadata.sbom {
        add(&sbom.sha, plain(Kind::Sbom, "sbom"));
    }
    for (index, slice) in metadata.app.iter().enumerate() {
        add(&slice.sha, plain(Kind::App, &format!("slice-{}", index + 1)));
    }
    add(&metadata.launcher.sha, plain(Kind::Launcher, "launcher"));
    add(&metadata.config.sha, plain(Kind::Config, "config"));
    add(&metadata.process_types.sha, plain(Kind::ProcessTypes, "process-types"));
    known.retain(|_, rows| !rows.is_empty());
    known.values_mut().for_each(|rows| rows.reverse());
    known
}

/// The app's source, by either of its labels. All its slices repeat it.
fn source(image: &Image, rows: &[Row], notes: &mut Vec<String>) -> Option<Source> {
    let slices = rows.iter().filter(|row| row.kind == Some(Kind::App)).count();
    for name in [PROJECT_METADATA, APP_SOURCE] {
        let Some(text) = image.config().label(name) else { continue };
        let parsed: serde_json::Value = match serde_json::from_str(text) {
            Ok(value) => value,
            Err(error) => {
                notes.push(format!("the label {name} cannot be read: {error}"));
                continue;
            }
        };
        let value = if name == PROJECT_METADATA { parsed.get("source") } else { Some(&parsed) };
        let Some(value) = value.filter(|value| value.is_object()) else { continue };
        let member = |key: &str| value.get(key).map(table).unwrap_or_default();
        let kind = value.get("type").and_then(serde_json::Value::as_str).unwrap_or_default();
        let source =
            Source { kind: kind.to_owned(), version: member("version"), metadata: member("metadata") };
        if source.weight().saturating_mul(slices.max(1)) > MAX_TOLD {
            notes.push(format!("the label {name} has more than is shown"));
        } else if source != Source::default() {
            return Some(source);
        }
    }
    None
}

/// A JSON object as TOML, as reports have it; empty for anything else.
fn table(value: &serde_json::Value) -> Table {
    match to_toml(value) {
        Some(toml::Value::Table(table)) => clean(&table),
        _ => Table::new(),
    }
}
