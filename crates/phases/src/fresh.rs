//! Layers that were made for the image and that the cache is to have too: they are read once.
//!
//! While such a layer is packed for the image, its archive goes into a [draft](strata_store::cache::Draft) of the cache.
//! That is all that is done before the image is complete. The cache takes the drafts over when it is written, those of a
//! failed export are gone. A cache image takes the blob of the image.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use strata_layer::{Packed, Source};
use strata_oci::{Descriptor, Digest};
use strata_store::cache::{Cache, Draft};

/// Layers of an image for the cache that is written next.
pub struct Fresh<'a> {
    cache: &'a dyn Cache,
    /// By the place of their trees.
    layers: Mutex<BTreeMap<PathBuf, Layer>>,
    /// Set when the disk is full: the room is the image's.
    is_given_up: AtomicBool,
}

/// A layer of the image.
pub(crate) struct Layer {
    frame: Option<Digest>,
    /// What it turned out to be.
    pub(crate) packed: Packed,
    /// Its blob, if the image has this very one.
    pub(crate) blob: Option<Descriptor>,
    /// Its whole archive.
    pub(crate) draft: Option<Draft>,
}

impl<'a> Fresh<'a> {
    /// Nothing yet for this cache.
    pub fn new(cache: &'a dyn Cache) -> Self {
        Self { cache, layers: Mutex::default(), is_given_up: AtomicBool::new(false) }
    }

    /// A file for the archive of a layer.
    pub(crate) fn draft(&self) -> Option<Draft> {
        if self.is_given_up.load(Ordering::Relaxed) { None } else { self.cache.draft() }
    }

    /// Keeps a layer for the cache.
    pub(crate) fn put(
        &self,
        source: &Source,
        packed: Packed,
        blob: Option<Descriptor>,
        draft: Option<Draft>,
    ) {
        let Source::Dir { dir, .. } = source else { return };
        let is_wanted = |draft: &Draft| {
            draft.is_whole(packed.uncompressed_size) && !self.is_given_up.load(Ordering::Relaxed)
        };
        let layer = Layer { frame: source.frame(), packed, blob, draft: draft.filter(is_wanted) };
        self.layers().insert(dir.clone(), layer);
    }

    /// The layer that was made of this tree.
    pub(crate) fn take(&self, source: &Source) -> Option<Layer> {
        let Source::Dir { dir, .. } = source else { return None };
        self.layers().remove(dir).filter(|layer| layer.frame.is_some() && layer.frame == source.frame())
    }

    /// Gives up all drafts, as the disk is full.
    pub(crate) fn give_up(&self) {
        self.is_given_up.store(true, Ordering::Relaxed);
        self.layers().values_mut().for_each(|layer| layer.draft = None);
    }

    fn layers(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Layer>> {
        self.layers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
