//! Taking images from one place to another.

use std::collections::BTreeSet;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use strata_layer::LayerError;
use strata_layer::threads::try_each;
use strata_oci::media_type::{self, is_foreign_layer};
use strata_oci::{Descriptor, Digest, Encoded, Layer, Manifest};

use crate::progress::{Metered, Progress};
use crate::{Medium, Store, StoreError, StoredImage, Tree};

/// How many blobs are copied at a time: what registries take without complaint.
pub(crate) const AT_A_TIME: usize = 4;
/// Bytes that are read and written at once.
const BUFFER: usize = 128 * 1024;

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
    let mut out = BufWriter::with_capacity(BUFFER, &mut sink);
    io::copy(&mut reader, &mut out)
        .and_then(|_| out.flush())
        .map_err(StoreError::io("copy a blob", Path::new(&descriptor.digest.to_string())))?;
    drop(out);
    sink.commit(&descriptor.digest, descriptor.size)?;
    Ok(Copied::Copied)
}

/// Copies blobs, each from where it is. Several at a time where their order does not matter; one that comes twice once.
/// `check` is told what came of each. After a failure none is begun any more.
///
/// # Errors
///
/// As of [`Store::copy_blob_from`] and of `check`; the first that there was.
pub fn copy_blobs<'a, E: From<StoreError> + Send>(
    to: &dyn Store,
    blobs: impl IntoIterator<Item = (&'a Descriptor, &'a dyn Store)>,
    check: impl Fn(&Descriptor, Copied) -> Result<(), E> + Sync,
) -> Result<(), E> {
    let mut seen = BTreeSet::new();
    let blobs: Vec<_> = blobs.into_iter().filter(|(blob, _)| seen.insert(blob.digest)).collect();
    let at_a_time = match to.medium() {
        // Equal images are to be equal archives.
        Medium::Other | Medium::DockerArchive => 1,
        _ => AT_A_TIME.min(blobs.len()),
    };
    try_each(&blobs, at_a_time, |(blob, from)| {
        let copied = to.copy_blob_from(*from, blob).map_err(E::from)?;
        check(blob, copied)
    })
    .map(drop)
}

/// A transfer of images between two places, which somebody may look at while it goes on.
pub struct Transfer<'a> {
    to: &'a dyn Store,
    from: &'a dyn Store,
    progress: Option<&'a Arc<dyn Progress>>,
}

impl<'a> Transfer<'a> {
    /// Nothing is read yet.
    #[must_use]
    pub fn new(to: &'a dyn Store, from: &'a dyn Store) -> Self {
        Self { to, from, progress: None }
    }

    /// The same transfer, which tells how it goes on.
    #[must_use]
    pub fn watched(self, progress: &'a Arc<dyn Progress>) -> Self {
        Self { progress: Some(progress), ..self }
    }

    /// Copies blobs, several at a time where their order does not matter. `check` is told what came of each.
    ///
    /// # Errors
    ///
    /// As of [`copy_blobs`].
    pub fn blobs<'b>(
        &self,
        blobs: impl IntoIterator<Item = &'b Descriptor>,
        check: impl Fn(&Descriptor, Copied) -> Result<(), StoreError> + Sync,
    ) -> Result<(), StoreError> {
        let Some(progress) = self.progress else {
            return copy_blobs(self.to, blobs.into_iter().map(|blob| (blob, self.from)), check);
        };
        let metered = Metered::new(self.from, progress);
        copy_blobs(self.to, blobs.into_iter().map(|blob| (blob, &metered as &dyn Store)), |blob, copied| {
            progress.settled(blob, copied);
            check(blob, copied)
        })
    }

    /// Copies a whole image and makes it visible under `names`. Layers that are absent at the source are skipped; the
    /// target decides whether it takes such an image.
    ///
    /// # Errors
    ///
    /// As of [`Store::copy_blob_from`] and [`Store::put_image`].
    pub fn image(&self, image: &Encoded, names: &[String]) -> Result<(), StoreError> {
        self.blobs(&image.layers, |_, _| Ok(()))?;
        self.put(image, names)
    }

    fn put(&self, image: &Encoded, names: &[String]) -> Result<(), StoreError> {
        if let (Some(progress), Medium::Daemon(daemon)) = (self.progress, self.to.medium()) {
            daemon.watch(progress);
        }
        self.to.put_image(image, names)
    }

    /// Copies images for several platforms, their index and what is listed beside them, and makes them visible under
    /// `names`.
    ///
    /// # Errors
    ///
    /// As of [`Store::copy_blob_from`] and [`Store::put_tree`]; when a blob is absent at the source.
    pub fn tree(&self, tree: &Tree, names: &[String]) -> Result<(), StoreError> {
        self.blobs(&tree.blobs, |blob, copied| match copied {
            Copied::Absent if !is_foreign_layer(&blob.media_type) => Err(absent(blob)),
            _ => Ok(()),
        })?;
        self.to.put_tree(tree, names)
    }

    /// Copies what refers to images that the target has.
    ///
    /// # Errors
    ///
    /// As of [`Store::copy_blob_from`] and [`Store::put_referrer`]; when a blob is absent at the source.
    pub fn referrers(&self, referrers: &[Tree]) -> Result<(), StoreError> {
        self.blobs(referrers.iter().flat_map(|tree| &tree.blobs), |blob, copied| match copied {
            Copied::Absent => Err(absent(blob)),
            _ => Ok(()),
        })?;
        referrers.iter().try_for_each(|tree| self.to.put_referrer(tree))
    }

    /// Copies an image of a place that has no manifests: its configuration stays as it is, and its layers are written as
    /// is best where they go. What comes back is what was stored.
    ///
    /// # Errors
    ///
    /// As of [`Store::open_blob`] and [`Store::put_image`]; when a layer is absent, or is another one than the
    /// configuration says.
    pub fn converted(
        &self,
        image: &StoredImage,
        names: &[String],
        threads: usize,
    ) -> Result<Encoded, StoreError> {
        let mut encoded = image.encoded();
        encoded.config_descriptor = Descriptor::of(media_type::OCI_CONFIG, &image.config);
        let mut manifest = Manifest::new(media_type::OCI_MANIFEST, encoded.config_descriptor.clone());
        let metered = self.progress.map(|progress| Metered::new(self.from, progress));
        let from = metered.as_ref().map_or(self.from, |metered| metered as &dyn Store);
        for layer in image.image.layers() {
            manifest.layers.push(convert_layer(self.to, from, layer, threads)?);
            self.progress.iter().for_each(|progress| progress.settled(&layer.descriptor, Copied::Copied));
        }
        let path = || PathBuf::from(encoded.config_digest.to_string());
        encoded.manifest = manifest.encode().map_err(|source| StoreError::Encode { path: path(), source })?;
        encoded.manifest_digest = Digest::of(&encoded.manifest);
        encoded.media_type = manifest.media_type;
        encoded.layers = manifest.layers;
        self.put(&encoded, names)?;
        Ok(encoded)
    }
}

fn absent(blob: &Descriptor) -> StoreError {
    StoreError::Missing { path: PathBuf::from("the place it is copied from"), digest: blob.digest }
}

/// Copies a whole image without anybody looking: see [`Transfer::image`].
///
/// # Errors
///
/// As there.
pub fn copy_image(
    to: &dyn Store,
    from: &dyn Store,
    image: &Encoded,
    names: &[String],
) -> Result<(), StoreError> {
    Transfer::new(to, from).image(image, names)
}

/// Copies images for several platforms without anybody looking: see [`Transfer::tree`].
///
/// # Errors
///
/// As there.
pub fn copy_tree(to: &dyn Store, from: &dyn Store, tree: &Tree, names: &[String]) -> Result<(), StoreError> {
    Transfer::new(to, from).tree(tree, names)
}

/// Copies an image of a place without manifests, and nobody looks: see [`Transfer::converted`].
///
/// # Errors
///
/// As there.
pub fn convert_image(
    to: &dyn Store,
    from: &dyn Store,
    image: &StoredImage,
    names: &[String],
    threads: usize,
) -> Result<Encoded, StoreError> {
    Transfer::new(to, from).converted(image, names, threads)
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
    let kind = compression.media_type(strata_oci::Family::Oci);
    Ok(Descriptor::new(kind, packed.digest, packed.size))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Layout;
    use std::sync::Mutex;

    #[test]
    fn each_blob_is_copied_once_and_what_came_of_it_is_told() {
        let root = tempfile::tempdir().unwrap();
        let [from, to] = ["from", "to"].map(|name| Layout::open_or_create(root.path().join(name)).unwrap());
        let texts: Vec<String> = (0..9).map(|number| format!("blob {number}")).collect();
        let blobs: Vec<_> =
            texts.iter().map(|text| Descriptor::of(media_type::OCI_LAYER, text.as_bytes())).collect();
        for (text, blob) in texts.iter().zip(&blobs).skip(1) {
            let mut sink = from.begin_blob().unwrap();
            sink.write_all(text.as_bytes()).unwrap();
            sink.commit(&blob.digest, blob.size).unwrap();
        }
        let told = Mutex::new(Vec::new());
        let twice = || blobs.iter().chain(&blobs).map(|blob| (blob, &from as &dyn Store));
        copy_blobs(&to, twice(), |blob, copied| {
            told.lock().unwrap().push((blob.digest, copied != Copied::Absent));
            Ok::<_, StoreError>(())
        })
        .unwrap();
        let (mut told, mut expected) = (told.into_inner().unwrap(), Vec::new());
        expected.extend(blobs.iter().enumerate().map(|(number, blob)| (blob.digest, number > 0)));
        told.sort_unstable();
        expected.sort_unstable();
        assert_eq!(told, expected);
        for blob in &blobs[1..] {
            assert!(to.has_blob(&blob.digest, blob.size).unwrap());
        }
        let missing = |blob: &Descriptor, copied| match copied {
            Copied::Absent => Err(StoreError::Missing { path: "from".into(), digest: blob.digest }),
            _ => Ok(()),
        };
        let error = copy_blobs(&to, twice(), missing).unwrap_err();
        assert!(matches!(error, StoreError::Missing { digest, .. } if digest == blobs[0].digest), "{error}");
    }
}
