//! Keeping layers for the next build, once the image is complete.

use crate::event::{Event, Observer};
use crate::failure::{Failure, chain};
use crate::files;
use crate::found::{FoundLayer, find_layers};
use crate::fresh::{self, Fresh};
use crate::index::{Index, Known};
use crate::seal::{self, Contents};
use crate::trees::Trees;
use std::path::Path;
use std::time::Instant;
use strata_layer::{LayerError, Packed, Packer, Source};
use strata_oci::Digest;
use strata_spec::PlatformApi;
use strata_spec::bom;
use strata_spec::buildpack::escape_id;
use strata_spec::cache::CacheMetadata;
use strata_spec::exit::Exit;
use strata_spec::group::GroupElement;
use strata_spec::labels::{BuildpackLayers, LayerEntry, Sha};
use strata_spec::origins::records::{KEY, Records};
use strata_spec::sealed::SHARED;
use strata_spec::values;
use strata_store::cache::{Cache, CacheWriter, Check, Reuse};
use strata_store::{Store, StoreError};

/// Everything that is needed to fill a cache.
#[derive(Clone, Copy)]
pub struct Keep<'a> {
    /// The group.
    pub group: &'a [GroupElement],
    /// What the buildpacks left, and its owner in the cache.
    pub trees: Trees<'a>,
    /// What is known of it.
    pub index: &'a Index,
    /// The platform's API.
    pub api: PlatformApi,
    /// What makes the layers.
    pub packer: &'a Packer,
    /// Layers that were made for the image, and where that is.
    pub fresh: Option<(&'a Fresh<'a>, &'a dyn Store)>,
    /// Says what the cache is to remember of its layers. Asked last: it may wait for the image.
    pub remember: Option<&'a dyn Fn(&CacheMetadata) -> Records>,
}

/// A cache in the making.
struct Filling<'a> {
    input: &'a Keep<'a>,
    writer: Box<dyn CacheWriter + 'a>,
    before: CacheMetadata,
    /// Whether what is added is neither compressed nor sent.
    is_folder: bool,
    observer: &'a dyn Observer,
}

/// Fills the cache, and gives what it holds then. A layer that cannot be kept is left out with a warning.
///
/// # Errors
/// When the cache cannot be written; it is then as it was before.
pub fn run(input: &Keep<'_>, cache: &dyn Cache, observer: &dyn Observer) -> Result<CacheMetadata, Failure> {
    let started = Instant::now();
    observer.event(Event::PhaseStarted { phase: "cache".into() });
    let what = format!("failed to export cache {}", cache.name());
    let failed = |error: &dyn std::error::Error| Failure::caused(Exit::Export, what.clone(), error);
    let before = metadata(Some(cache), observer);
    let writer = cache.begin().map_err(|error| failed(&error))?;
    let mut filling = Filling { input, writer, before, is_folder: cache.is_folder(), observer };
    let mut metadata = CacheMetadata::default();
    for buildpack in input.group {
        metadata.buildpacks.push(filling.buildpack(buildpack).map_err(|error| failed(&error))?);
    }
    metadata.buildpacks.extend(filling.shared().map_err(|error| failed(&error))?);
    if input.api.has_sbom_layer() {
        metadata.sbom = filling.sbom().map_err(|error| failed(&error))?;
    }
    let mut json = metadata.to_json().map_err(|error| failed(&error))?;
    if let Some(remember) = input.remember {
        json[KEY] = serde_json::to_value(remember(&metadata)).map_err(|error| failed(&error))?;
    }
    filling.writer.commit(&strata_oci::go_json::to_string(&json)).map_err(|error| failed(&error))?;
    input.index.save(observer);
    let millis = started.elapsed().as_millis().try_into().unwrap_or(u64::MAX);
    observer.event(Event::PhaseFinished { phase: "cache".into(), millis });
    Ok(metadata)
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
    let tail = Path::new("sbom/launch");
    let dir = files::below(input.trees.layers.real, tail).map_err(|error| failed(&error))?;
    if !input.api.has_sbom_layer() || !dir.is_dir() {
        return Ok(());
    }
    let writer = cache.begin().map_err(|error| failed(&error))?;
    let mut filling =
        Filling { input, writer, before: CacheMetadata::default(), is_folder: cache.is_folder(), observer };
    let source = input.trees.source(tail).map_err(|error| failed(&error))?;
    filling.writer.add(&source, input.packer).map_err(|error| failed(&error))?;
    filling.writer.commit("{}").map_err(|error| failed(&error))
}

impl Filling<'_> {
    fn buildpack(&mut self, buildpack: &GroupElement) -> Result<BuildpackLayers, StoreError> {
        let mut kept = BuildpackLayers {
            key: buildpack.id.clone(),
            version: buildpack.version.clone(),
            ..BuildpackLayers::default()
        };
        let found = match find_layers(&self.input.trees.layers.real.join(escape_id(&buildpack.id))) {
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
        let Keep { trees, index, .. } = self.input;
        let known = self.before.layer(&buildpack.id, &layer.name).map(|known| known.sha.clone());
        let contents = seal::contents_of(trees, index, &buildpack.id, &layer.name, self.observer);
        let added = match contents {
            Ok(Some(Contents::Here(source))) => self.add(&id, &source, known.as_deref())?,
            Ok(Some(Contents::Recorded(sealed))) => self.keep(&id, sealed, known.as_deref())?,
            Ok(None) => {
                self.observer.warn(format!("Failed to cache layer '{id}' because it has no contents"));
                return Ok(None);
            }
            Err(error) => return Ok(self.lost(&id, &error)),
        };
        let Some(Sha { sha }) = added else { return Ok(None) };
        let types = layer.toml.types;
        let data = layer.toml.metadata.as_ref().map(values::table_to_json).unwrap_or_default();
        let bom = bom::keep(&layer.toml.bom);
        Ok(Some(LayerEntry { sha, data, build: types.build, launch: types.launch, cache: types.cache, bom }))
    }

    /// The folders that all buildpacks share and that one of them wants kept; `None` when there are none.
    fn shared(&mut self) -> Result<Option<BuildpackLayers>, StoreError> {
        let nobody = GroupElement { id: SHARED.to_owned(), ..GroupElement::default() };
        Ok(Some(self.buildpack(&nobody)?).filter(|kept| !kept.layers.is_empty()))
    }

    /// SBOM files of cached layers; an empty checksum when there are none.
    fn sbom(&mut self) -> Result<Sha, StoreError> {
        let tail = Path::new("sbom/cache");
        let dir = match files::below(self.input.trees.layers.real, tail) {
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
        let id = "buildpacksio/lifecycle:cache.sbom";
        let source = match self.input.trees.source(tail) {
            Ok(source) => source,
            Err(error) => return Ok(self.lost(id, &error).unwrap_or_default()),
        };
        Ok(self.add(id, &source, known.as_deref())?.unwrap_or_default())
    }

    /// Keeps a layer that was sealed as what the cache had, `known`, and is another by now.
    fn keep(&mut self, id: &str, sealed: Known, known: Option<&str>) -> Result<Option<Sha>, StoreError> {
        let sha = sealed.diff_id.to_string();
        if known == Some(&sha) && self.reuse(id, &sealed.diff_id, Check::Size(sealed.size))? {
            return Ok(Some(Sha { sha }));
        }
        self.observer.warn(format!(
            "Failed to cache layer '{id}': a later buildpack changed it, and the cache does not have it as it was sealed"
        ));
        Ok(None)
    }

    /// Keeps a layer; `known` is what the cache had under its name. `None` when it cannot be packed.
    fn add(&mut self, id: &str, source: &Source, known: Option<&str>) -> Result<Option<Sha>, StoreError> {
        let old: Option<Digest> = known.and_then(|sha| sha.parse().ok());
        if let Some(diff_id) = self.take_fresh(source, old) {
            self.added(id, &diff_id, old);
            return Ok(Some(Sha { sha: diff_id.to_string() }));
        }
        // No buildpack runs any more.
        let sight = self.input.index.recall(source);
        // What has changed is not read twice; that it has must be certain where it would be compressed for nothing.
        let is_folder = self.is_folder;
        let is_other = sight.as_ref().is_some_and(|sight| sight.is_news(source, !is_folder));
        if let Some(old) = old.filter(|_| !is_other) {
            match self.input.index.know(source, sight.as_ref()) {
                Ok(Known { diff_id, size }) if diff_id == old => {
                    // What was restored from the cache was verified then; what was read is to replace what is damaged.
                    let is_known =
                        sight.as_ref().is_some_and(|sight| sight.known.is_some() && !sight.is_read)
                            || self.input.index.is_verified(&old);
                    let check = if is_known { Check::Size(size) } else { Check::Contents };
                    if self.reuse(id, &old, check)? {
                        return Ok(Some(Sha { sha: old.to_string() }));
                    }
                }
                Ok(_) => {}
                Err(error) => return Ok(self.lost(id, &error)),
            }
        }
        match self.writer.add(source, self.input.packer) {
            Ok(packed) => {
                self.input.index.record(sight.as_ref(), Known::of(&packed));
                self.added(id, &packed.diff_id, old);
                Ok(Some(Sha { sha: packed.diff_id.to_string() }))
            }
            Err(StoreError::CacheLayer { source, .. }) if !matches!(source, LayerError::Write { .. }) => {
                // The folder is at fault, not the cache.
                Ok(self.lost(id, &source))
            }
            Err(error) => Err(error),
        }
    }

    /// Takes a layer as it was made for the image a moment ago. Whatever is in the way, the layer can still be packed.
    fn take_fresh(&mut self, source: &Source, old: Option<Digest>) -> Option<Digest> {
        let (fresh, store) = self.input.fresh?;
        let fresh::Layer { packed: Packed { diff_id, .. }, blob, draft, .. } = fresh.take(source)?;
        let taken = match (draft, blob) {
            (Some(draft), _) => self.writer.take_draft(draft, &diff_id),
            (None, Some(blob)) if old != Some(diff_id) => self.writer.take_blob(&diff_id, &blob, store),
            (None, _) => return None,
        };
        let is_taken = taken.unwrap_or_else(|error| {
            let cause = chain(&error);
            self.observer.debug(format!("cannot take a layer of the image for the cache: {cause}"));
            false
        });
        is_taken.then_some(diff_id)
    }

    fn added(&self, id: &str, diff_id: &Digest, old: Option<Digest>) {
        let verb = if old == Some(*diff_id) { "Reusing" } else { "Adding" };
        self.observer.detail(format!("{verb} cache layer '{id}'"));
        self.observer.debug(format!("Layer '{id}' SHA: {diff_id}"));
    }

    fn lost<T>(&self, id: &str, error: &dyn std::error::Error) -> Option<T> {
        let cause = Failure::caused(Exit::Export, "it cannot be packed", error).chain();
        self.observer.warn(format!("Failed to cache layer '{id}': {cause}"));
        None
    }

    /// Takes a layer of the cache over; `false` when that is not possible.
    fn reuse(&mut self, id: &str, known: &Digest, check: Check) -> Result<bool, StoreError> {
        let reuse = self.writer.reuse(known, check)?;
        match reuse {
            Reuse::Taken => {
                self.observer.detail(format!("Reusing cache layer '{id}'"));
                self.observer.debug(format!("Layer '{id}' SHA: {known}"));
            }
            Reuse::Absent => {}
            Reuse::Damaged { found } => self.observer.warn(format!(
                "Skipping reuse for layer {id}: expected layer contents to have SHA '{known}'; found '{found}'"
            )),
        }
        Ok(reuse == Reuse::Taken)
    }
}

/// What the cache says it holds; nothing if it cannot be understood.
pub(crate) fn metadata(cache: Option<&dyn Cache>, observer: &dyn Observer) -> CacheMetadata {
    let Some(cache) = cache else {
        observer.debug("no cache is used".into());
        return CacheMetadata::default();
    };
    if let Some(reason) = cache.damage() {
        observer.detail(format!("Ignoring cache {} because it was corrupt: {reason}", cache.name()));
    }
    match cache.metadata() {
        Ok(Some(text)) => CacheMetadata::parse(&text).unwrap_or_else(|error| {
            observer.warn(format!("ignoring what cache {} says it holds: {error}", cache.name()));
            CacheMetadata::default()
        }),
        Ok(None) => {
            observer.debug(format!("cache {} is empty", cache.name()));
            CacheMetadata::default()
        }
        Err(error) => {
            observer.warn(format!("ignoring cache {}: {}", cache.name(), chain(&error)));
            CacheMetadata::default()
        }
    }
}
