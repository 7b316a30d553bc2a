//! Taking images from one place to another.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use strata_layer::{Compression, LayerError};
use strata_oci::media_type::{self, is_foreign_layer};
use strata_oci::{Descriptor, Digest, Encoded, Layer, Manifest};

use crate::{Store, StoreError, StoredImage, Tree};

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

/// Copies an image of a place that has no manifests: its configuration stays as it is, and its layers are written as is
/// best where they go. What comes back is what was stored.
///
/// # Errors
///
/// As of [`Store::open_blob`] and [`Store::put_image`]; when a layer is absent, or is another one than the
/// configuration says.
pub fn convert_image(
    to: &dyn Store,
    from: &dyn Store,
    image: &StoredImage,
    names: &[String],
    threads: usize,
) -> Result<Encoded, StoreError> {
    let mut encoded = image.encoded();
    encoded.config_descriptor = Descriptor::of(media_type::OCI_CONFIG, &image.config);
    let mut manifest = Manifest::new(media_type::OCI_MANIFEST, encoded.config_descriptor.clone());
    for layer in image.image.layers() {
        manifest.layers.push(convert_layer(to, from, layer, threads)?);
    }
    let path = || PathBuf::from(encoded.config_digest.to_string());
    encoded.manifest = manifest.encode().map_err(|source| StoreError::Encode { path: path(), source })?;
    encoded.manifest_digest = Digest::of(&encoded.manifest);
    encoded.media_type = manifest.media_type;
    encoded.layers = manifest.layers;
    to.put_image(&encoded, names)?;
    Ok(encoded)
}

fn convert_layer(
    to: &dyn Store,
    from: &dyn Store,
    layer: &Layer,
    threads: usize,
) -> Result<Descriptor, StoreError> {
    let place = || PathBuf::from(layer.diff_id.to_string());
    let blob = from.open_blob(&layer.descriptor)?;
    let blob = blob.ok_or_else(|| StoreError::Missing { path: place(), digest: layer.descriptor.digest })?;
    let failed = |source| StoreError::Convert { diff_id: layer.diff_id, source };
    let mut plain = strata_layer::open_layer(blob).map_err(failed)?;
    let compression = to.compression();
    let mut sink = to.begin_blob()?;
    let fill = |out: &mut dyn Write| {
        let copied = io::copy(&mut plain, out);
        copied.map(drop).map_err(|source| LayerError::Io { action: "copy", path: place(), source })
    };
    let packed = strata_layer::pack_with(fill, compression, threads, &mut sink).map_err(failed)?;
    if packed.diff_id != layer.diff_id {
        let (expected, found, size) = (layer.diff_id, packed.diff_id, packed.size);
        let path = place();
        return Err(StoreError::Corrupt { path, expected, expected_size: size, found, found_size: size });
    }
    sink.commit(&packed.digest, packed.size)?;
    let kind = match compression {
        Compression::Gzip => media_type::OCI_LAYER_GZIP,
        Compression::None => media_type::OCI_LAYER,
    };
    Ok(Descriptor::new(kind, packed.digest, packed.size))
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
