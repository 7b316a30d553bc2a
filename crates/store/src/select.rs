//! Chooses among the images of an index, wherever it is.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use strata_oci::media_type::{is_config, is_index};
use strata_oci::{Descriptor, Digest, Document, Image, ImageConfig, Index, Manifest, Platform};

use crate::layout::REF_NAME;
use crate::{StoreError, StoredImage, Tree};

/// Indexes within indexes.
const MAX_DEPTH: usize = 8;
/// Manifests looked at, over all indexes.
const MAX_MANIFESTS: usize = 4096;

/// Bytes of all documents of a tree.
const MAX_TREE_SIZE: usize = 64 << 20;

/// An image, and the name it has in the index.
pub(crate) type Candidate = (Descriptor, Option<String>);

/// What an index stands for.
#[derive(Default)]
pub(crate) struct Found {
    pub(crate) images: Vec<Candidate>,
    /// Those that were looked into.
    indexes: BTreeSet<Digest>,
}

/// Where the documents of an index are.
pub(crate) trait Documents {
    /// For messages.
    fn place(&self) -> PathBuf;

    /// A manifest or an index, verified; `None` when it is absent.
    fn manifest(&self, entry: &Descriptor) -> Result<Option<Vec<u8>>, StoreError>;

    /// The configuration of an image, verified.
    fn config(&self, descriptor: &Descriptor) -> Result<Vec<u8>, StoreError>;
}

/// The manifest of the one image among the entries of a layout's index. A lone image is taken whatever it is for; among
/// several, the platform decides.
pub(crate) fn choose(
    documents: &dyn Documents,
    entries: &[Descriptor],
    platform: &Platform,
) -> Result<Option<Descriptor>, StoreError> {
    let mut found = Found::default();
    for entry in entries {
        expand(documents, entry, entry.annotations.get(REF_NAME), 0, &mut found)?;
    }
    // One image under several names is one image.
    let mut images: Vec<Candidate> = Vec::new();
    for candidate in found.images {
        if images.iter().all(|(image, _)| image.digest != candidate.0.digest) {
            images.push(candidate);
        }
    }
    if images.len() > 1 {
        images = without_artifacts(documents, images)?;
    }
    if images.len() > 1 {
        images = for_platform(documents, images, platform)?;
    }
    let names: Vec<String> = images.iter().filter_map(|(_, name)| name.clone()).collect();
    if images.len() > 1 && names.iter().any(|name| *name != names[0]) {
        return Err(StoreError::Ambiguous { path: documents.place(), names });
    }
    Ok(images.into_iter().next().map(|(image, _)| image))
}

/// Reads the image of this manifest.
pub(crate) fn read(documents: &dyn Documents, entry: &Descriptor) -> Result<StoredImage, StoreError> {
    let manifest = documents.manifest(entry)?.ok_or_else(|| missing(documents, entry))?;
    let parsed = Manifest::parse(&manifest, Some(&entry.media_type))
        .map_err(|source| StoreError::Manifest { path: documents.place(), source })?;
    let config = documents.config(&parsed.config)?;
    let image = Image::from_parts(&manifest, &config)
        .map_err(|source| StoreError::Image { path: documents.place(), source })?;
    Ok(StoredImage { image, manifest_digest: entry.digest, manifest, config })
}

/// The tree of the one index among the entries of a layout's index; `None` when there is something else.
pub(crate) fn read_tree(
    documents: &dyn Documents,
    entries: &[Descriptor],
) -> Result<Option<Tree>, StoreError> {
    match root(documents, entries)?.filter(|root| is_index(&root.media_type)) {
        Some(root) => tree(documents, root).map(Some),
        None => Ok(None),
    }
}

/// The one document among the entries of a layout's index, besides artifacts; `None` when there is none, or several.
pub(crate) fn root(
    documents: &dyn Documents,
    entries: &[Descriptor],
) -> Result<Option<Descriptor>, StoreError> {
    let mut roots: Vec<Candidate> = Vec::new();
    for entry in entries.iter().filter(|entry| !is_attestation(entry)) {
        if roots.iter().all(|(known, _)| known.digest != entry.digest) {
            roots.push((entry.clone(), None));
        }
    }
    if roots.len() > 1 {
        roots = without_artifacts(documents, roots)?;
    }
    let [(root, _)] = roots.as_slice() else { return Ok(None) };
    // What the entry says else is of its place.
    Ok(Some(Descriptor { annotations: BTreeMap::new(), ..root.clone() }))
}

/// A document and all below it.
pub(crate) fn tree(documents: &dyn Documents, root: Descriptor) -> Result<Tree, StoreError> {
    let mut tree = Tree::default();
    grow(documents, root, 0, &mut tree)?;
    Ok(tree)
}

/// What an entry of a list names, and all below it; `None` when it is not there.
pub(crate) fn lone_tree(documents: &dyn Documents, entry: &Descriptor) -> Result<Option<Tree>, StoreError> {
    // What the list says else is of its place.
    let root = Descriptor::new(entry.media_type.clone(), entry.digest, entry.size);
    if documents.manifest(&root)?.is_none() {
        return Ok(None);
    }
    tree(documents, root).map(Some)
}

fn grow(
    documents: &dyn Documents,
    entry: Descriptor,
    depth: usize,
    tree: &mut Tree,
) -> Result<(), StoreError> {
    if tree.documents.iter().any(|(known, _)| known.digest == entry.digest) {
        return Ok(());
    }
    let bytes = documents.manifest(&entry)?.ok_or_else(|| missing(documents, &entry))?;
    let size: usize = tree.documents.iter().map(|(_, bytes)| bytes.len()).sum();
    if depth > MAX_DEPTH || tree.documents.len() > MAX_MANIFESTS || size + bytes.len() > MAX_TREE_SIZE {
        return Err(StoreError::Nesting { path: documents.place() });
    }
    let document = Document::parse(&bytes, Some(&entry.media_type))
        .map_err(|source| StoreError::Manifest { path: documents.place(), source })?;
    match document {
        Document::Index(index) => {
            let mut below = index.manifests.into_iter();
            below.try_for_each(|entry| grow(documents, entry, depth + 1, tree))?;
        }
        Document::Manifest(manifest) => {
            tree.blobs.push(manifest.config);
            tree.blobs.extend(manifest.layers);
        }
    }
    tree.documents.push((entry, bytes));
    Ok(())
}

fn missing(documents: &dyn Documents, entry: &Descriptor) -> StoreError {
    StoreError::Missing { path: documents.place(), digest: entry.digest }
}

/// Adds the images that an entry of an index stands for.
pub(crate) fn expand(
    documents: &dyn Documents,
    entry: &Descriptor,
    name: Option<&String>,
    depth: usize,
    found: &mut Found,
) -> Result<(), StoreError> {
    if depth > MAX_DEPTH || found.images.len() + found.indexes.len() > MAX_MANIFESTS {
        return Err(StoreError::Nesting { path: documents.place() });
    }
    if is_index(&entry.media_type) {
        // An index that is listed again and again adds nothing, and could take forever.
        if !found.indexes.insert(entry.digest) {
            return Ok(());
        }
        let bytes = documents.manifest(entry)?.ok_or_else(|| missing(documents, entry))?;
        let index = Index::parse(&bytes, Some(&entry.media_type))
            .map_err(|source| StoreError::Manifest { path: documents.place(), source })?;
        let mut entries = index.manifests.iter();
        return entries.try_for_each(|entry| expand(documents, entry, name, depth + 1, found));
    }
    if !is_attestation(entry) {
        found.images.push((entry.clone(), name.cloned()));
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

/// Those that are images, or all when none is: what is wrong with it is for its reader to say.
fn without_artifacts(documents: &dyn Documents, all: Vec<Candidate>) -> Result<Vec<Candidate>, StoreError> {
    let mut images = Vec::new();
    for candidate in &all {
        let entry = &candidate.0;
        // Who says what it runs on is an image.
        let is_plain = entry.platform.is_some() || is_index(&entry.media_type);
        let bytes = if is_plain { None } else { documents.manifest(entry)? };
        let manifest = bytes.and_then(|bytes| Manifest::parse(&bytes, Some(&entry.media_type)).ok());
        if manifest.is_none_or(|manifest| is_config(&manifest.config.media_type)) {
            images.push(candidate.clone());
        }
    }
    Ok(if images.is_empty() { all } else { images })
}

/// From the index, else from the image; `None` when it is no image, or not there.
fn platform_of(documents: &dyn Documents, entry: &Descriptor) -> Result<Option<Platform>, StoreError> {
    if let Some(platform) = &entry.platform {
        return Ok(Some(platform.clone()));
    }
    let Some(bytes) = documents.manifest(entry)? else { return Ok(None) };
    let manifest = Manifest::parse(&bytes, Some(&entry.media_type))
        .map_err(|source| StoreError::Manifest { path: documents.place(), source })?;
    if !is_config(&manifest.config.media_type) {
        return Ok(None);
    }
    let config = ImageConfig::parse(&documents.config(&manifest.config)?)
        .map_err(|source| StoreError::Image { path: documents.place(), source: source.into() })?;
    Ok(Some(config.platform()))
}

/// Provenance and the like, which builders list beside images.
pub(crate) fn is_attestation(entry: &Descriptor) -> bool {
    entry.artifact_type.is_some()
        || entry.annotations.contains_key("vnd.docker.reference.type")
        || entry.platform.as_ref().is_some_and(|platform| platform.os == "unknown")
}
