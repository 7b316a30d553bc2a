//! The layers of an image, read without keeping them.

use std::io::Read;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use strata_layer::threads::side_by_side;
use strata_layer::{Entry, LayerError, Walked, layer_entries, open_layer};
use strata_oci::Layer;
use strata_store::{Medium, Store, StoreError};

/// Layers that are read at once, where that is quicker.
const THREADS: usize = 4;

/// Why a layer could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failed {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Layer(#[from] LayerError),
    #[error("{0}")]
    Other(String),
}

/// Sees an entry of a layer and the bytes of a file, and takes down what it wants to keep.
type Visit<'a, T> = dyn Fn(&mut T, &Entry<'_>, &mut dyn Read) -> Result<(), Failed> + Sync + 'a;
/// What was kept of a layer, and what was seen of it.
type Looked<T> = Result<(T, Walked), Failed>;

/// Reads each layer to its end, so that its bytes are verified, and calls `visit` with what is kept of it and with each
/// entry. What is kept comes back in the order of the layers, with what was seen of it.
pub(crate) fn scan<T: Default + Send>(
    store: &dyn Store,
    layers: &[&Layer],
    visit: &Visit<'_, T>,
) -> Vec<Looked<T>> {
    let parallel = matches!(store.medium(), Medium::Layout(_) | Medium::Registry(_));
    let most = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS);
    let threads = if parallel { most.min(layers.len()) } else { 1 };
    let next = AtomicUsize::new(0);
    let done: Vec<Mutex<Option<Looked<T>>>> = layers.iter().map(|_| Mutex::new(None)).collect();
    side_by_side(threads.max(1), || {
        while let Some((layer, slot)) = {
            let index = next.fetch_add(1, Ordering::Relaxed);
            layers.get(index).zip(done.get(index))
        } {
            let outcome = one(store, layer, visit);
            *slot.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(outcome);
        }
    });
    let lost = || Err(Failed::Other("it was not read".into()));
    let outcome = |slot: Mutex<Option<_>>| slot.into_inner().ok().flatten().unwrap_or_else(lost);
    done.into_iter().map(outcome).collect()
}

fn one<T: Default>(store: &dyn Store, layer: &Layer, visit: &Visit<T>) -> Looked<T> {
    let blob = store.open_blob(&layer.descriptor)?;
    let blob = blob.ok_or_else(|| Failed::Other("its bytes are not there".into()))?;
    let mut kept = T::default();
    let mut tar = open_layer(blob)?;
    let walked = layer_entries(&mut tar, &mut |entry, data| visit(&mut kept, entry, data))?;
    // The end of the blob is where its bytes are verified.
    std::io::copy(&mut tar, &mut std::io::sink()).map_err(|source| LayerError::Read { source })?;
    Ok((kept, walked))
}
