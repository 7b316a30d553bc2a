//! Keeping layers for the next build, once the image is complete.

use crate::build::{FoundLayer, find_layers};
use crate::event::{Event, Observer};
use crate::failure::Failure;
use crate::files;
use crate::restore::cache_metadata;
use std::path::Path;
use std::time::Instant;
use strata_layer::{Owner, Parent, Source};
use strata_spec::PlatformApi;
use strata_spec::bom;
use strata_spec::buildpack::escape_id;
use strata_spec::cache::CacheMetadata;
use strata_spec::exit::Exit;
use strata_spec::group::GroupElement;
use strata_spec::labels::{BuildpackLayers, LayerEntry, Sha};
use strata_spec::values;
use strata_store::StoreError;
use strata_store::cache::{Cache, CacheWriter, Reuse};

/// Everything that is needed to fill a cache.
pub struct Keep<'a> {
    /// The group.
    pub group: &'a [GroupElement],
    /// What the buildpacks left.
    pub layers_dir: &'a Path,
    /// The owner of layers in the cache.
    pub owner: Owner,
    /// The platform's API.
    pub api: PlatformApi,
    /// How many threads compress.
    pub threads: usize,
}

/// A cache in the making.
struct Filling<'a> {
    input: &'a Keep<'a>,
    writer: Box<dyn CacheWriter + 'a>,
    before: CacheMetadata,
    observer: &'a dyn Observer,
}

/// Fills the cache. A layer that cannot be kept is left out with a warning.
///
/// # Errors
/// When the cache cannot be written; it is then as it was before.
pub fn run(input: &Keep<'_>, cache: &dyn Cache, observer: &dyn Observer) -> Result<(), Failure> {
    let started = Instant::now();
    observer.event(Event::PhaseStarted { phase: "cache".into() });
    let what = format!("failed to export cache {}", cache.name());
    let failed = |error: &dyn std::error::Error| Failure::caused(Exit::Export, what.clone(), error);
    let before = cache_metadata(Some(cache), observer);
    let writer = cache.begin().map_err(|error| failed(&error))?;
    let mut filling = Filling { input, writer, before, observer };
    let mut metadata = CacheMetadata::default();
    for buildpack in input.group {
        metadata.buildpacks.push(filling.buildpack(buildpack).map_err(|error| failed(&error))?);
    }
    if input.api.has_sbom_layer() {
        metadata.sbom = filling.sbom().map_err(|error| failed(&error))?;
    }
    let json = metadata.to_json().map_err(|error| failed(&error))?;
    filling.writer.commit(&strata_oci::go_json::to_string(&json)).map_err(|error| failed(&error))?;
    let millis = started.elapsed().as_millis().try_into().unwrap_or(u64::MAX);
    observer.event(Event::PhaseFinished { phase: "cache".into(), millis });
    Ok(())
}

/// Keeps the SBOM files of the image at hand: to fetch them from a daemon is to fetch the whole image. Nothing is kept
/// when there are none.
///
/// # Errors
/// When the cache cannot be written; it is then as it was before.
pub fn keep_launch_sbom(input: &Keep<'_>, cache: &dyn Cache, observer: &dyn Observer) -> Result<(), Failure> {
    let failed = |error: &dyn std::error::Error| {
        Failure::caused(Exit::Export, format!("failed to fill the launch cache {}", cache.name()), error)
    };
    let dir = files::below(input.layers_dir, "sbom/launch").map_err(|error| failed(&error))?;
    if !input.api.has_sbom_layer() || !dir.is_dir() {
        return Ok(());
    }
    let writer = cache.begin().map_err(|error| failed(&error))?;
    let mut filling = Filling { input, writer, before: CacheMetadata::default(), observer };
    let source = filling.source(&dir).map_err(|error| failed(&error))?;
    filling.writer.add(&source, input.threads).map_err(|error| failed(&error))?;
    filling.writer.commit("{}").map_err(|error| failed(&error))
}

impl Filling<'_> {
    fn buildpack(&mut self, buildpack: &GroupElement) -> Result<BuildpackLayers, StoreError> {
        let mut kept = BuildpackLayers {
            key: buildpack.id.clone(),
            version: buildpack.version.clone(),
            ..BuildpackLayers::default()
        };
        let found = match find_layers(&self.input.layers_dir.join(escape_id(&buildpack.id))) {
            Ok(found) => found,
            Err(error) => {
                let cause = Failure::caused(Exit::Export, "cannot read its layers", &error).chain();
                self.observer.warn(format!("Failed to cache layers of '{}': {cause}", buildpack.id));
                return Ok(kept);
            }
        };
        for layer in found.into_iter().filter(|layer| layer.toml.types.cache) {
            if let Some(entry) = self.layer(buildpack, &layer)? {
                kept.layers.insert(layer.name, entry);
            }
        }
        Ok(kept)
    }

    fn layer(
        &mut self,
        buildpack: &GroupElement,
        layer: &FoundLayer,
    ) -> Result<Option<LayerEntry>, StoreError> {
        let id = format!("{}:{}", buildpack.id, layer.name);
        if !layer.dir.is_dir() {
            self.observer.warn(format!("Failed to cache layer '{id}' because it has no contents"));
            return Ok(None);
        }
        let known = self.before.layer(&buildpack.id, &layer.name).map(|known| known.sha.clone());
        let Some(Sha { sha }) = self.add(&id, &layer.dir, known.as_deref())? else { return Ok(None) };
        let types = layer.toml.types;
        let data = layer.toml.metadata.as_ref().map(values::table_to_json).unwrap_or_default();
        let bom = bom::keep(&layer.toml.bom);
        Ok(Some(LayerEntry { sha, data, build: types.build, launch: types.launch, cache: types.cache, bom }))
    }

    /// SBOM files of cached layers; an empty checksum when there are none.
    fn sbom(&mut self) -> Result<Sha, StoreError> {
        let dir = match files::below(self.input.layers_dir, "sbom/cache") {
            Ok(dir) => dir,
            Err(error) => {
                self.observer.warn(format!("Failed to cache SBOM files: {error}"));
                return Ok(Sha::default());
            }
        };
        if !dir.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) {
            return Ok(Sha::default());
        }
        let known = Some(self.before.sbom.sha.clone()).filter(|sha| !sha.is_empty());
        Ok(self.add("buildpacksio/lifecycle:cache.sbom", &dir, known.as_deref())?.unwrap_or_default())
    }

    /// Keeps a folder; `known` is what the cache had under its name. `None` when the folder cannot be packed.
    fn add(&mut self, id: &str, dir: &Path, known: Option<&str>) -> Result<Option<Sha>, StoreError> {
        let lost = |error: &dyn std::error::Error| {
            let cause = Failure::caused(Exit::Export, "it cannot be packed", error).chain();
            self.observer.warn(format!("Failed to cache layer '{id}': {cause}"));
        };
        let source = match self.source(dir) {
            Ok(source) => source,
            Err(error) => {
                lost(&error);
                return Ok(None);
            }
        };
        if let Some(known) = known.and_then(|sha| sha.parse().ok()) {
            match strata_layer::diff_id(&source) {
                Ok((diff_id, _)) if diff_id == known => match self.writer.reuse(&known)? {
                    Reuse::Taken => {
                        self.observer.detail(format!("Reusing cache layer '{id}'"));
                        self.observer.debug(format!("Layer '{id}' SHA: {known}"));
                        return Ok(Some(Sha { sha: known.to_string() }));
                    }
                    Reuse::Absent => {}
                    Reuse::Damaged { found } => self.observer.warn(format!(
                        "Skipping reuse for layer {id}: expected layer contents to have SHA '{known}'; found '{found}'"
                    )),
                },
                Ok(_) => {}
                Err(error) => {
                    lost(&error);
                    return Ok(None);
                }
            }
        }
        match self.writer.add(&source, self.input.threads) {
            Ok(diff_id) => {
                self.observer.detail(format!("Adding cache layer '{id}'"));
                self.observer.debug(format!("Layer '{id}' SHA: {diff_id}"));
                Ok(Some(Sha { sha: diff_id.to_string() }))
            }
            // The folder is at fault, not the cache.
            Err(StoreError::Layer(error)) => {
                lost(&error);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn source(&self, dir: &Path) -> Result<Source, strata_layer::LayerError> {
        let parents = Parent::ancestors_of(dir)?;
        let owner = self.input.owner;
        let as_path = dir.display().to_string();
        Ok(Source::Dir { dir: dir.to_owned(), as_path, parents, owner })
    }
}
