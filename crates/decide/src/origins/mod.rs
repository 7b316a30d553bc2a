//! Where each layer of a build comes from, and why it was made again or not (`docs/report.md`).
//!
//! Pure: whoever calls has exported the image, filled the cache, and read what earlier builds left. A layer of a
//! buildpack is known by its contents: a record of the cache, or a layer in an earlier report, is about it when
//! buildpack, name and diffID are the same.

mod reason;
mod rebase;
mod sift;
#[cfg(test)]
mod tests;

pub use rebase::{moved, rebased};
pub use sift::{Sifted, sift};
use std::collections::{BTreeMap, BTreeSet};
use strata_oci::Image;
use strata_spec::cache::CacheMetadata;
use strata_spec::group::GroupElement;
use strata_spec::labels::{LayerEntry, LifecycleMetadata, Sha};
use strata_spec::layer::LayerToml;
use strata_spec::origins::claims::Claims;
use strata_spec::origins::records::{Record, Records};
use strata_spec::origins::{
    Cause, EarlierBuild, Evidence, Kind, Layer, Neighbour, OnExport, Origin, Reason, ReasonCode, Report,
    clean,
};

/// What is to be done when the origin of a layer that comes back is unknown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Require {
    /// Nothing: the report says so.
    #[default]
    Nothing,
    /// The build fails.
    Known,
    /// The layer stays where it is, so that it is made anew; what comes back all the same fails the build.
    Discard,
}

/// A layer that a buildpack left.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Left {
    /// Id of the buildpack.
    pub buildpack: String,
    /// Its name.
    pub name: String,
    /// Its description.
    pub toml: LayerToml,
    /// Whether its folder is there; the contents of one without are the previous image's.
    pub has_contents: bool,
}

/// A layer of an image as it is stored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Blob {
    /// The checksum of the blob.
    pub digest: String,
    /// The checksum of the uncompressed archive.
    pub diff_id: String,
    /// Bytes of the blob.
    pub size: u64,
}

/// An image as export made it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Made {
    /// The checksum of its manifest; empty as long as it has none.
    pub digest: String,
    /// Its label.
    pub label: LifecycleMetadata,
    /// Its layers, from the bottom up.
    pub layers: Vec<Blob>,
    /// How many of these are the run image's.
    pub inherited: usize,
    /// Those that are on top of them, made by image extensions.
    pub extended: Vec<Extra>,
}

/// A layer of an image extension.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extra {
    /// The extension's id.
    pub id: String,
    /// Its version; empty when it is not known.
    pub version: String,
    /// What it is called.
    pub name: String,
    /// Whether an earlier build made it.
    pub is_reused: bool,
}

/// What earlier builds left.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Past {
    /// What the previous image's label says; empty when there is none.
    pub label: LifecycleMetadata,
    /// Its layers, from the bottom up; empty when it is not there.
    pub image: Vec<Blob>,
    /// The report beside it, or why there is none to be believed; `None` without a previous image.
    pub report: Option<Result<Report, Unknown>>,
    /// What the cache held; `None` without a cache.
    pub cache: Option<CacheMetadata>,
    /// What it remembered of its layers.
    pub records: Records,
    /// What the builder saw in this build.
    pub claims: Option<Claims>,
    /// Cached layers that were not restored, by `<buildpack>:<layer>`, and why.
    pub lost: BTreeMap<String, ReasonCode>,
}

/// Why an origin is unknown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown {
    /// For machines.
    pub cause: Cause,
    /// For people.
    pub text: String,
}

/// The layers of an image, from the bottom up.
pub fn blobs(image: &Image) -> Vec<Blob> {
    let blob = |layer: &strata_oci::Layer| Blob {
        digest: layer.descriptor.digest.to_string(),
        diff_id: layer.diff_id.to_string(),
        size: layer.descriptor.size,
    };
    image.layers().iter().map(blob).collect()
}

/// A build that is complete but for its report.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// This build.
    pub build: &'a EarlierBuild,
    /// The buildpacks, in order.
    pub group: &'a [GroupElement],
    /// What they left.
    pub left: &'a [Left],
    /// The image.
    pub made: &'a Made,
    /// What the cache holds now.
    pub cache: &'a CacheMetadata,
    /// What earlier builds left.
    pub past: &'a Past,
}

/// What is known of one layer of a buildpack.
struct Known<'a> {
    left: &'a Left,
    /// Empty when nobody read its bytes.
    diff_id: &'a str,
    origin: Origin,
    /// The build that made it; `None` when unknown.
    build: Option<EarlierBuild>,
    /// Version and API of the buildpack that made it.
    made_by: (String, String),
    neighbours: Vec<Neighbour>,
}

/// All layers, in the order of a report, and the earlier builds that they come from.
pub fn layers(facts: &Facts<'_>) -> (Vec<Layer>, Vec<EarlierBuild>) {
    let mut builds: BTreeMap<String, EarlierBuild> = BTreeMap::new();
    let (mut placed, mut aside) = (facts.own(), Vec::new());
    for left in facts.left {
        let known = facts.known(left);
        if let Some(build) = known.build.as_ref().filter(|build| build.id != facts.build.id) {
            builds.entry(build.id.clone()).or_insert_with(|| build.clone());
        }
        let layer = facts.of_buildpack(known);
        if layer.is_in_image() { placed.push(layer) } else { aside.push(layer) }
    }
    let mut layers: Vec<Layer> =
        facts.made.layers.iter().take(facts.made.inherited).enumerate().map(inherited).collect();
    for (layer, build) in facts.of_extensions() {
        if let Some(build) = build.filter(|build| build.id != facts.build.id) {
            builds.entry(build.id.clone()).or_insert(build);
        }
        layers.push(layer);
    }
    // Contents may be there twice: each place in the image is taken once.
    for blob in facts.made.layers.iter().skip(facts.made.inherited + facts.made.extended.len()) {
        let found = placed.iter().position(|layer| layer.diff_id == blob.diff_id);
        layers.extend(found.map(|found| placed.remove(found)));
    }
    layers.extend(aside);
    let mut builds: Vec<_> = builds.into_values().collect();
    builds.sort_by(|a, b| (&b.time, &a.id).cmp(&(&a.time, &b.id)));
    (layers, builds)
}

/// What the cache is to remember: the origins of its own layers, and of those in the image, beside which there may be no
/// place for a report. A layer whose origin is unknown has no record.
pub fn records(facts: &Facts<'_>) -> Records {
    let mut records = Records::new();
    for left in facts.left {
        let known = facts.known(left);
        let Some(build) = known.build.as_ref().filter(|_| !known.diff_id.is_empty()) else { continue };
        let record = Record {
            buildpack: left.buildpack.clone(),
            buildpack_version: known.made_by.0,
            buildpack_api: known.made_by.1,
            name: left.name.clone(),
            diff_id: known.diff_id.to_owned(),
            build: build.id.clone(),
            generation: known.origin.generation,
            present_layers: known.neighbours,
        };
        records.push(record, build);
    }
    for (layer, build) in facts.of_extensions() {
        let Some(build) = build else { continue };
        let record = Record {
            buildpack: layer.buildpack,
            buildpack_version: layer.buildpack_version,
            buildpack_api: layer.buildpack_api,
            name: layer.name,
            diff_id: layer.diff_id,
            build: build.id.clone(),
            generation: layer.origin.generation,
            present_layers: layer.present_layers,
        };
        records.push(record, &build);
    }
    records
}

/// Layers of buildpacks that are restored or reused and whose origin is unknown: all that can be told before the image
/// is visible and the cache is filled. `facts.cache` is not looked at.
pub fn unknown(facts: &Facts<'_>) -> Vec<(String, Unknown)> {
    let mut found = Vec::new();
    for left in facts.left {
        let kept = facts.past.cache.as_ref().and_then(|cache| cache.layer(&left.buildpack, &left.name));
        // What only the cache gets is not hashed yet: it passes for what was restored.
        let diff_id = match facts.in_image(left) {
            Some(blob) => blob.diff_id.as_str(),
            None => kept.map(|kept| kept.sha.as_str()).unwrap_or_default(),
        };
        let (origin, _) = facts.origin(left, diff_id);
        if let Some(cause) = origin.cause {
            found.push((id(left), Unknown { cause, text: origin.text }));
        }
    }
    found
}

fn id(left: &Left) -> String {
    format!("{}:{}", left.buildpack, left.name)
}

/// A layer of the run image.
fn inherited((place, blob): (usize, &Blob)) -> Layer {
    Layer {
        kind: Kind::RunImage,
        name: format!("run-image-{}", place + 1),
        on_export: OnExport::Inherited,
        digest: blob.digest.clone(),
        diff_id: blob.diff_id.clone(),
        size: Some(blob.size),
        launch: true,
        origin: Origin { from: Evidence::RunImage, ..Origin::default() },
        ..Layer::default()
    }
}

fn entry<'a>(label: &'a LifecycleMetadata, buildpack: &str, name: &str) -> Option<&'a LayerEntry> {
    label.buildpacks.iter().find(|known| known.key == buildpack)?.layers.get(name)
}

impl<'a> Facts<'a> {
    fn blob(&self, diff_id: &str) -> Option<&'a Blob> {
        self.made
            .layers
            .iter()
            .skip(self.made.inherited + self.made.extended.len())
            .find(|blob| blob.diff_id == diff_id)
    }

    /// The layer as it is in the image.
    fn in_image(&self, left: &Left) -> Option<&'a Blob> {
        self.blob(&entry(&self.made.label, &left.buildpack, &left.name)?.sha)
    }

    /// The contents of a layer as they are now; empty when nobody read them.
    fn diff_id(&self, left: &Left) -> &'a str {
        let cached = || self.cache.layer(&left.buildpack, &left.name).map(|layer| layer.sha.as_str());
        self.in_image(left).map(|blob| blob.diff_id.as_str()).or_else(cached).unwrap_or_default()
    }

    fn known(&self, left: &'a Left) -> Known<'a> {
        let diff_id = self.diff_id(left);
        let (origin, build) = self.origin(left, diff_id);
        let element = self.group.iter().find(|element| element.id == left.buildpack);
        let past = match origin.from {
            Evidence::Cache => {
                self.past.records.find(&left.buildpack, &left.name, diff_id).map(|(record, _)| {
                    let made_by = (record.buildpack_version.clone(), record.buildpack_api.clone());
                    (made_by, record.present_layers.clone())
                })
            }
            Evidence::PreviousImage => self.reported(left, diff_id).map(|(_, layer)| {
                let made_by = (layer.buildpack_version.clone(), layer.buildpack_api.clone());
                (made_by, layer.present_layers.clone())
            }),
            _ => None,
        };
        let (made_by, neighbours) = match (origin.from, past) {
            (Evidence::ThisBuild, _) => {
                let made_by = element.map(|element| (element.version.clone(), element.api.clone()));
                (made_by.unwrap_or_default(), self.neighbours(left))
            }
            (_, Some(past)) => past,
            (_, None) => Default::default(),
        };
        Known { left, diff_id, origin, build, made_by, neighbours }
    }

    /// Which build made these contents, and how that is known.
    fn origin(&self, left: &Left, diff_id: &str) -> (Origin, Option<EarlierBuild>) {
        if !left.has_contents {
            return self.by_report(left, diff_id);
        }
        let cached = self.past.cache.as_ref().and_then(|cache| cache.layer(&left.buildpack, &left.name));
        let was_cached = cached.is_some_and(|cached| cached.cache && cached.sha == diff_id);
        let was_kept = self.past.claims.as_ref().and_then(|c| c.was_kept(&left.buildpack, &left.name));
        let was_lost = self.past.lost.contains_key(&id(left));
        if !was_cached || was_lost || was_kept == Some(false) {
            let origin =
                Origin { from: Evidence::ThisBuild, build: self.build.id.clone(), ..Origin::default() };
            return (origin, Some(self.build.clone()));
        }
        match self.past.records.find(&left.buildpack, &left.name, diff_id) {
            Some((record, build)) => {
                let generation = record.generation.saturating_add(1);
                let build_id = build.id.clone();
                let origin =
                    Origin { from: Evidence::Cache, build: build_id, generation, ..Origin::default() };
                (origin, Some(build.clone()))
            }
            None if self.reported(left, diff_id).is_some() => self.by_report(left, diff_id),
            None => (unknown_for(&no_record()), None),
        }
    }

    /// What the report beside the previous image says of a layer with these contents, and knows the origin of.
    fn reported(&self, left: &Left, diff_id: &str) -> Option<(&'a Report, &'a Layer)> {
        let report = self.past.report.as_ref()?.as_ref().ok()?;
        let layer = report.layers.iter().find(|layer| {
            layer.buildpack == left.buildpack && layer.name == left.name && layer.diff_id == diff_id
        })?;
        report.build_of(layer).map(|_| (report, layer))
    }

    fn by_report(&self, left: &Left, diff_id: &str) -> (Origin, Option<EarlierBuild>) {
        if let Some((report, layer)) = self.reported(left, diff_id) {
            let build = report.build_of(layer);
            let origin = Origin {
                from: Evidence::PreviousImage,
                build: layer.origin.build.clone(),
                generation: layer.origin.generation.saturating_add(1),
                ..Origin::default()
            };
            return (origin, build);
        }
        // The cache remembers layers of the image, too, as there may be no place for a report beside that.
        if let Some((record, build)) = self.past.records.find(&left.buildpack, &left.name, diff_id) {
            let (generation, id) = (record.generation.saturating_add(1), build.id.clone());
            let origin = Origin { from: Evidence::Cache, build: id, generation, ..Origin::default() };
            return (origin, Some(build.clone()));
        }
        (unknown_for(&unreported(self.past.report.as_ref())), None)
    }

    /// The other layers that were there when a layer was made in this build. Those of buildpacks that came later were as
    /// the cache had them.
    fn neighbours(&self, left: &Left) -> Vec<Neighbour> {
        let place = |id: &str| self.group.iter().position(|element| element.id == id);
        let own = place(&left.buildpack);
        let claims = self.past.claims.as_ref();
        let ids =
            claims.and_then(|claims| claims.neighbours(&left.buildpack, &left.name)).unwrap_or_default();
        let neighbour = |id: &str| {
            let (buildpack, name) = id.rsplit_once(':')?;
            let diff_id = if place(buildpack) <= own {
                let found = self.left.iter().find(|other| other.buildpack == buildpack && other.name == name);
                found.map(|other| self.diff_id(other)).unwrap_or_default()
            } else {
                let cache = self.past.cache.as_ref();
                cache.and_then(|cache| cache.layer(buildpack, name)).map_or("", |layer| layer.sha.as_str())
            };
            Some(Neighbour { id: id.to_owned(), diff_id: diff_id.to_owned() })
        };
        ids.into_iter().filter_map(neighbour).collect()
    }

    /// The layers of image extensions, and the builds that made them, as far as they are known.
    fn of_extensions(&self) -> Vec<(Layer, Option<EarlierBuild>)> {
        let blobs: Vec<_> = self.made.layers.iter().skip(self.made.inherited).collect();
        let mut below = Vec::new();
        let mut layers = Vec::new();
        for (blob, extra) in blobs.into_iter().zip(&self.made.extended) {
            let (origin, build) = self.origin_of_extension(blob, extra);
            layers.push((
                Layer {
                    kind: Kind::Extension,
                    buildpack: extra.id.clone(),
                    buildpack_version: extra.version.clone(),
                    name: extra.name.clone(),
                    on_export: if extra.is_reused { OnExport::Reused } else { OnExport::Added },
                    modification_date: build.as_ref().map(|build| build.time.clone()).unwrap_or_default(),
                    launch: true,
                    application_source: build.as_ref().and_then(|build| build.application_source.clone()),
                    reason: self.reason_of_extension(blob, extra, build.as_ref()),
                    origin,
                    present_layers: below.clone(),
                    ..stored(Some(blob))
                },
                build,
            ));
            let id = format!("{}:{}", extra.id, extra.name);
            below.push(Neighbour { id, diff_id: blob.diff_id.clone() });
        }
        layers
    }

    fn origin_of_extension(&self, blob: &Blob, extra: &Extra) -> (Origin, Option<EarlierBuild>) {
        if !extra.is_reused {
            let id = self.build.id.clone();
            return (
                Origin { from: Evidence::ThisBuild, build: id, ..Origin::default() },
                Some(self.build.clone()),
            );
        }
        let report = self.past.report.as_ref().and_then(|report| report.as_ref().ok());
        let reported = report.and_then(|report| {
            let is_it = |layer: &&Layer| is_of(layer, extra) && layer.diff_id == blob.diff_id;
            let layer = report.layers.iter().find(is_it)?;
            Some((Evidence::PreviousImage, layer.origin.generation, report.build_of(layer)?))
        });
        let recorded = || {
            let (record, build) = self.past.records.find(&extra.id, &extra.name, &blob.diff_id)?;
            Some((Evidence::Cache, record.generation, build.clone()))
        };
        let Some((from, generation, build)) = reported.or_else(recorded) else {
            let text = "an earlier build made it, perhaps of another app, with the same Dockerfile upon the same layers";
            return (unknown_for(&Unknown { cause: Cause::NoRecord, text: text.to_owned() }), None);
        };
        let generation = generation.saturating_add(1);
        (Origin { from, build: build.id.clone(), generation, ..Origin::default() }, Some(build))
    }

    fn of_buildpack(&self, known: Known<'_>) -> Layer {
        let Known { left, diff_id, origin, build, made_by, neighbours } = known;
        let blob = self.in_image(left);
        let before = entry(&self.past.label, &left.buildpack, &left.name);
        let cached = self.past.cache.as_ref().and_then(|cache| cache.layer(&left.buildpack, &left.name));
        let is_cached = self.cache.layer(&left.buildpack, &left.name).is_some();
        let on_export = match blob {
            Some(_) if before.is_some_and(|before| before.sha == diff_id) => OnExport::Reused,
            Some(_) => OnExport::Added,
            None if !is_cached => OnExport::Discarded,
            None if cached.is_some_and(|cached| cached.sha == diff_id) => OnExport::Reused,
            None => OnExport::Cached,
        };
        let reason = self.reason(left, diff_id, &origin, build.as_ref());
        let previous = before.map(|before| before.sha.as_str());
        let in_cache = || cached.map(|cached| cached.sha.clone());
        let types = left.toml.types;
        Layer {
            kind: Kind::Buildpack,
            buildpack: left.buildpack.clone(),
            buildpack_version: made_by.0,
            buildpack_api: made_by.1,
            name: left.name.clone(),
            on_export,
            diff_id: diff_id.to_owned(),
            modification_date: build.as_ref().map(|build| build.time.clone()).unwrap_or_default(),
            previous_layer_digest: previous
                .and_then(|diff_id| self.previous_digest(diff_id))
                .unwrap_or_default(),
            previous_layer_diff_id: previous.map(str::to_owned).or_else(in_cache).unwrap_or_default(),
            cache: types.cache,
            launch: types.launch,
            build: types.build,
            application_source: build.and_then(|build| build.application_source),
            metadata: left.toml.metadata.as_ref().map(clean).unwrap_or_default(),
            reason,
            origin,
            present_layers: neighbours,
            ..stored(blob)
        }
    }

    fn previous_digest(&self, diff_id: &str) -> Option<String> {
        let blob = self.past.image.iter().find(|blob| blob.diff_id == diff_id)?;
        Some(blob.digest.clone())
    }

    /// The layers that no buildpack made. They are made in every build.
    fn own(&self) -> Vec<Layer> {
        let (now, before) = (&self.made.label, &self.past.label);
        let mut layers = Vec::new();
        let sbom = |label: &LifecycleMetadata| label.sbom.clone().unwrap_or_default();
        let slots = [
            (Kind::Sbom, "sbom", sbom(now), sbom(before)),
            (Kind::Launcher, "launcher", now.launcher.clone(), before.launcher.clone()),
            (Kind::Config, "config", now.config.clone(), before.config.clone()),
            (Kind::ProcessTypes, "process-types", now.process_types.clone(), before.process_types.clone()),
        ];
        for (place, slice) in now.app.iter().enumerate() {
            // Any slice of before may be this one.
            let same =
                before.app.iter().find(|known| known.sha == slice.sha).or_else(|| before.app.get(place));
            layers.extend(self.own_layer(Kind::App, &format!("slice-{}", place + 1), slice, same));
        }
        for (kind, name, now, before) in slots {
            layers.extend(self.own_layer(kind, name, &now, Some(&before)));
        }
        layers
    }

    fn own_layer(&self, kind: Kind, name: &str, now: &Sha, before: Option<&Sha>) -> Option<Layer> {
        let blob = self.blob(&now.sha)?;
        let before = before.map(|before| before.sha.as_str()).filter(|sha| !sha.is_empty());
        let is_same = before == Some(now.sha.as_str());
        Some(Layer {
            kind,
            name: name.to_owned(),
            on_export: if is_same { OnExport::Reused } else { OnExport::Added },
            diff_id: now.sha.clone(),
            modification_date: self.build.time.clone(),
            previous_layer_digest: before
                .and_then(|diff_id| self.previous_digest(diff_id))
                .unwrap_or_default(),
            previous_layer_diff_id: before.unwrap_or_default().to_owned(),
            launch: true,
            application_source: self.build.application_source.clone(),
            reason: Reason { code: self.own_reason(kind, is_same, before.is_some()), ..Reason::default() },
            origin: Origin { from: Evidence::ThisBuild, build: self.build.id.clone(), ..Origin::default() },
            ..stored(Some(blob))
        })
    }
}

/// Whether a layer of a report is of the same Dockerfile, as far as its name tells.
fn is_of(layer: &Layer, extra: &Extra) -> bool {
    layer.kind == Kind::Extension && layer.buildpack == extra.id && layer.name == extra.name
}

/// How a layer is in the image.
fn stored(blob: Option<&Blob>) -> Layer {
    let Some(blob) = blob else { return Layer::default() };
    Layer {
        digest: blob.digest.clone(),
        diff_id: blob.diff_id.clone(),
        size: Some(blob.size),
        ..Layer::default()
    }
}

fn no_record() -> Unknown {
    let text =
        "the cache has the layer and no record of it: it was filled without origins, or by another lifecycle";
    Unknown { cause: Cause::NoRecord, text: text.into() }
}

/// Why the report beside the previous image does not tell.
fn unreported(report: Option<&Result<Report, Unknown>>) -> Unknown {
    match report {
        Some(Err(unknown)) => unknown.clone(),
        Some(Ok(_)) => Unknown {
            cause: Cause::NotReported,
            text: "the report beside the previous image does not know its origin".into(),
        },
        None => Unknown { cause: Cause::NoReport, text: "there is no previous image to ask".into() },
    }
}

fn unknown_for(unknown: &Unknown) -> Origin {
    let Unknown { cause, text } = unknown.clone();
    Origin { from: Evidence::Unknown, cause: Some(cause), text, ..Origin::default() }
}

/// Keys at the top of two objects whose values differ.
fn different_keys(a: &serde_json::Value, b: &serde_json::Value) -> Vec<String> {
    let none = serde_json::Map::new();
    let (a, b) = (a.as_object().unwrap_or(&none), b.as_object().unwrap_or(&none));
    let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    keys.into_iter().filter(|key| a.get(*key) != b.get(*key)).cloned().collect()
}
