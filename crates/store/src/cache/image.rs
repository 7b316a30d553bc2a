//! A cache in an image: one layer each, and a label with the metadata.

use std::io::{Read, Write};

use strata_layer::{Compression, LayerError, Packed, Packer, Source};
use strata_oci::{Descriptor, Digest, Image, Layer, media_type};

use super::{Cache, CacheWriter, Check, METADATA, Reuse, Verified};
use crate::{Copied, Medium, Store, StoreError, StoredImage};

/// The date of the image and its layers, whatever the clock says: equal caches are equal images.
const CREATED: &str = "1980-01-01T00:00:01Z";

/// The label of an app image, which is never to be replaced by a cache.
const OF_AN_APP: &str = "io.buildpacks.lifecycle.metadata";

/// A cache in an image.
pub struct ImageCache {
    name: String,
    store: Box<dyn Store>,
    old: Option<StoredImage>,
    damage: Option<String>,
    is_forgotten: bool,
}

impl ImageCache {
    /// The cache in the image of `store`, which messages call `name`. Without an image it is empty; an image that
    /// cannot be understood is [damage](Cache::damage).
    ///
    /// # Errors
    ///
    /// When the store cannot be asked.
    pub fn open(name: impl Into<String>, store: Box<dyn Store>) -> Result<Self, StoreError> {
        let (old, damage) = match store.read_image() {
            Ok(old) => (old, None),
            Err(error) if is_damage(&error) => (None, Some(error.to_string())),
            Err(error) => return Err(error),
        };
        Ok(Self { name: name.into(), store, old, damage, is_forgotten: false })
    }

    /// Forgets what the image holds: the next generation has none of it.
    #[must_use]
    pub fn forgotten(self) -> Self {
        Self { is_forgotten: true, ..self }
    }

    fn remembered(&self) -> Option<&StoredImage> {
        self.old.as_ref().filter(|_| !self.is_forgotten)
    }

    /// The layer, if it is in the image and its blob in the store.
    fn find(&self, diff_id: &Digest) -> Result<Option<&Layer>, StoreError> {
        let layers = self.remembered().into_iter().flat_map(|old| old.image.layers());
        for layer in layers.filter(|layer| layer.diff_id == *diff_id) {
            if self.store.has_blob(&layer.descriptor.digest, layer.descriptor.size)? {
                return Ok(Some(layer));
            }
        }
        Ok(None)
    }

    fn layer_error(&self, action: &'static str, source: LayerError) -> StoreError {
        StoreError::CacheLayer { action, cache: self.name.clone(), source }
    }
}

impl Cache for ImageCache {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn damage(&self) -> Option<String> {
        self.damage.clone()
    }

    fn metadata(&self) -> Result<Option<String>, StoreError> {
        let label = self.remembered().and_then(|old| old.image.config().label(METADATA));
        Ok(label.map(str::to_owned))
    }

    fn open_layer(&self, diff_id: &Digest) -> Result<Option<Box<dyn Read + Send>>, StoreError> {
        let Some(layer) = self.find(diff_id)? else { return Ok(None) };
        let blob = match self.store.open_blob(&layer.descriptor) {
            Ok(Some(blob)) => blob,
            Ok(None) => return Ok(None),
            Err(error) if is_damage(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        match strata_layer::open_layer(blob) {
            Ok(tar) => Ok(Some(Box::new(Verified::new(tar, *diff_id)))),
            Err(LayerError::UnsupportedCompression { .. }) => Ok(None),
            Err(source) => Err(self.layer_error("read", source)),
        }
    }

    fn begin(&self) -> Result<Box<dyn CacheWriter + '_>, StoreError> {
        let is_app = |old: &StoredImage| {
            let config = old.image.config();
            config.label(METADATA).is_none() && config.label(OF_AN_APP).is_some()
        };
        if self.old.as_ref().is_some_and(is_app) {
            return Err(StoreError::NotACache { name: self.name.clone() });
        }
        Ok(Box::new(Writer { cache: self, layers: Vec::new() }))
    }
}

/// Whether what is stored is at fault, rather than the way to it.
fn is_damage(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::Corrupt { .. }
            | StoreError::Size { .. }
            | StoreError::Kind { .. }
            | StoreError::TooLarge { .. }
            | StoreError::Missing { .. }
            | StoreError::Manifest { .. }
            | StoreError::Image { .. }
    )
}

/// Whether a blob need not be fetched from afar: that takes longer than to pack the layer again.
fn is_near(from: &dyn Store, to: &dyn Store) -> bool {
    match (from.medium(), to.medium()) {
        (Medium::Layout(_), _) => true,
        (Medium::Registry(from), Medium::Registry(to)) => {
            from.reference().registry() == to.reference().registry()
        }
        _ => false,
    }
}

struct Writer<'a> {
    cache: &'a ImageCache,
    layers: Vec<Layer>,
}

impl Writer<'_> {
    fn has(&self, diff_id: &Digest) -> bool {
        self.layers.iter().any(|layer| layer.diff_id == *diff_id)
    }

    /// Some registries take no image without a layer: two zero blocks, which are an empty archive.
    fn add_empty_layer(&mut self) -> Result<(), StoreError> {
        let tar = [0; 1024];
        let descriptor = Descriptor::of(media_type::OCI_LAYER, &tar);
        let mut sink = self.cache.store.begin_blob()?;
        sink.write_all(&tar)
            .map_err(|source| self.cache.layer_error("write", LayerError::Write { source }))?;
        sink.commit(&descriptor.digest, descriptor.size)?;
        self.layers.push(Layer { diff_id: descriptor.digest, descriptor, history: None });
        Ok(())
    }
}

impl CacheWriter for Writer<'_> {
    fn reuse(&mut self, diff_id: &Digest, _: Check) -> Result<Reuse, StoreError> {
        if self.has(diff_id) {
            return Ok(Reuse::Taken);
        }
        // The store verifies blobs by their digest whenever they are read.
        let Some(layer) = self.cache.find(diff_id)? else { return Ok(Reuse::Absent) };
        self.layers.push(layer.clone());
        Ok(Reuse::Taken)
    }

    fn add(&mut self, source: &Source, packer: &Packer) -> Result<Packed, StoreError> {
        let mut sink = self.cache.store.begin_blob()?;
        let packed = packer
            .pack(source, Compression::Gzip, &mut sink)
            .map_err(|source| self.cache.layer_error("pack", source))?;
        sink.commit(&packed.digest, packed.size)?;
        if !self.has(&packed.diff_id) {
            let descriptor = Descriptor::new(media_type::OCI_LAYER_GZIP, packed.digest, packed.size);
            self.layers.push(Layer { descriptor, diff_id: packed.diff_id, history: None });
        }
        Ok(packed)
    }

    fn take_blob(
        &mut self,
        diff_id: &Digest,
        blob: &Descriptor,
        from: &dyn Store,
    ) -> Result<bool, StoreError> {
        let is_alike =
            [media_type::OCI_LAYER_GZIP, media_type::DOCKER_LAYER_GZIP].contains(&&*blob.media_type);
        if !is_alike || !is_near(from, &*self.cache.store) {
            return Ok(false);
        }
        if self.cache.store.copy_blob_from(from, blob)? == Copied::Absent {
            return Ok(false);
        }
        if !self.has(diff_id) {
            let descriptor = Descriptor::new(media_type::OCI_LAYER_GZIP, blob.digest, blob.size);
            self.layers.push(Layer { descriptor, diff_id: *diff_id, history: None });
        }
        Ok(true)
    }

    fn commit(mut self: Box<Self>, metadata: &str) -> Result<(), StoreError> {
        if self.layers.is_empty() {
            self.add_empty_layer()?;
        }
        let mut image = Image::empty("linux", "");
        image.set_layers(self.layers);
        image.blank_history(CREATED);
        image.config_mut().set_label(METADATA, metadata);
        let encoded = image
            .encode()
            .map_err(|source| StoreError::Image { path: self.cache.name.clone().into(), source })?;
        self.cache.store.put_image(&encoded, &[])
    }
}
