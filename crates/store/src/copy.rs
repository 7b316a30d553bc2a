//! Taking images from one place to another.

use std::io;
use std::path::Path;

use strata_oci::media_type::is_foreign_layer;
use strata_oci::{Descriptor, Encoded};

use crate::{Store, StoreError, Tree};

/// How a blob came into a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copied {
    /// It was there before.
    Present,
    /// It is the same file now, or the registry shares it between repositories.
    Linked,
    /// It shares its storage, until either is changed.
    Cloned,
    /// Byte for byte.
    Copied,
    /// The other place does not have it either.
    Absent,
}

/// Copies a blob by reading and writing it, unless it is there already.
///
/// # Errors
///
/// When the bytes are not those of the descriptor, or cannot be read or written.
pub fn copy_bytes<S: Store + ?Sized>(
    to: &S,
    from: &dyn Store,
    descriptor: &Descriptor,
) -> Result<Copied, StoreError> {
    if to.has_blob(&descriptor.digest, descriptor.size)? {
        return Ok(Copied::Present);
    }
    let Some(mut reader) = from.open_blob(descriptor)? else { return Ok(Copied::Absent) };
    let mut sink = to.begin_blob()?;
    io::copy(&mut reader, &mut sink)
        .map_err(StoreError::io("copy a blob", Path::new(&descriptor.digest.to_string())))?;
    sink.commit(&descriptor.digest, descriptor.size)?;
    Ok(Copied::Copied)
}

/// Copies a whole image and makes it visible under `names`. Layers that are absent at the source are skipped; `to`
/// decides whether it takes such an image.
///
/// # Errors
///
/// As of [`Store::copy_blob_from`] and [`Store::put_image`].
pub fn copy_image(
    to: &dyn Store,
    from: &dyn Store,
    image: &Encoded,
    names: &[String],
) -> Result<(), StoreError> {
    for layer in &image.layers {
        to.copy_blob_from(from, layer)?;
    }
    to.put_image(image, names)
}

/// Copies images for several platforms, their index and what is listed beside them, and makes them visible under
/// `names`.
///
/// # Errors
///
/// As of [`Store::copy_blob_from`] and [`Store::put_tree`]; when a blob is absent at the source.
pub fn copy_tree(to: &dyn Store, from: &dyn Store, tree: &Tree, names: &[String]) -> Result<(), StoreError> {
    for blob in &tree.blobs {
        if to.copy_blob_from(from, blob)? == Copied::Absent && !is_foreign_layer(&blob.media_type) {
            return Err(StoreError::Missing {
                path: "the place it is copied from".into(),
                digest: blob.digest,
            });
        }
    }
    to.put_tree(tree, names)
}
