//! Chooses among the images of an index, wherever it is.

use std::path::PathBuf;

use strata_oci::media_type::is_index;
use strata_oci::{Descriptor, ImageConfig, Index, Manifest, Platform};

use crate::StoreError;

/// Indexes within indexes.
const MAX_DEPTH: usize = 8;
/// Manifests looked at, over all indexes.
const MAX_MANIFESTS: usize = 4096;

/// An image, and the name it has in the index.
pub(crate) type Candidate = (Descriptor, Option<String>);

/// Where the documents of an index are.
pub(crate) trait Documents {
    /// For messages.
    fn place(&self) -> PathBuf;

    /// A manifest or an index, verified; `None` when it is absent.
    fn manifest(&self, entry: &Descriptor) -> Result<Option<Vec<u8>>, StoreError>;

    /// The configuration of an image, verified.
    fn config(&self, descriptor: &Descriptor) -> Result<Vec<u8>, StoreError>;
}

/// Adds the images that an entry of an index stands for.
pub(crate) fn expand(
    documents: &dyn Documents,
    entry: &Descriptor,
    name: Option<&String>,
    depth: usize,
    found: &mut Vec<Candidate>,
) -> Result<(), StoreError> {
    if depth > MAX_DEPTH || found.len() > MAX_MANIFESTS {
        return Err(StoreError::Nesting { path: documents.place() });
    }
    if is_index(&entry.media_type) {
        let bytes = documents.manifest(entry)?;
        let bytes =
            bytes.ok_or_else(|| StoreError::Missing { path: documents.place(), digest: entry.digest })?;
        let index = Index::parse(&bytes, Some(&entry.media_type))
            .map_err(|source| StoreError::Manifest { path: documents.place(), source })?;
        let mut entries = index.manifests.iter();
        return entries.try_for_each(|entry| expand(documents, entry, name, depth + 1, found));
    }
    if !is_attestation(entry) {
        found.push((entry.clone(), name.cloned()));
    }
    Ok(())
}

/// Those images that are for the platform.
pub(crate) fn for_platform(
    documents: &dyn Documents,
    images: Vec<Candidate>,
    wanted: &Platform,
) -> Result<Vec<Candidate>, StoreError> {
    let mut fitting = Vec::new();
    let mut platforms = Vec::new();
    for image in images {
        let platform = platform_of(documents, &image.0)?;
        if platform.as_ref().is_some_and(|platform| platform.satisfies(wanted)) {
            fitting.push(image);
        }
        platforms.extend(platform.map(|platform| platform.to_string()));
    }
    if fitting.is_empty() {
        let wanted = wanted.to_string();
        return Err(StoreError::Platform { path: documents.place(), wanted, found: platforms });
    }
    Ok(fitting)
}

/// From the index, else from the image; `None` when the image is not there.
fn platform_of(documents: &dyn Documents, entry: &Descriptor) -> Result<Option<Platform>, StoreError> {
    if let Some(platform) = &entry.platform {
        return Ok(Some(platform.clone()));
    }
    let Some(bytes) = documents.manifest(entry)? else { return Ok(None) };
    let manifest = Manifest::parse(&bytes, Some(&entry.media_type))
        .map_err(|source| StoreError::Manifest { path: documents.place(), source })?;
    let config = ImageConfig::parse(&documents.config(&manifest.config)?)
        .map_err(|source| StoreError::Image { path: documents.place(), source: source.into() })?;
    Ok(Some(config.platform()))
}

/// Provenance and the like, which builders list beside images.
fn is_attestation(entry: &Descriptor) -> bool {
    entry.artifact_type.is_some()
        || entry.annotations.contains_key("vnd.docker.reference.type")
        || entry.platform.as_ref().is_some_and(|platform| platform.os == "unknown")
}
