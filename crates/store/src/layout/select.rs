//! Chooses the image a reader asks for.

use strata_oci::manifest::MAX_MANIFEST_SIZE;
use strata_oci::media_type::is_index;
use strata_oci::{Descriptor, ImageConfig, Index, Manifest, Platform};

use super::{Layout, REF_NAME};
use crate::StoreError;

/// Indexes within indexes.
const MAX_DEPTH: usize = 8;
/// Manifests looked at, over all indexes.
const MAX_MANIFESTS: usize = 4096;

impl Layout {
    /// The manifest of the image asked for. A lone image is taken whatever it is for; among several, the platform
    /// decides.
    pub(super) fn select(&self) -> Result<Option<Descriptor>, StoreError> {
        let Some(index) = self.read_index()? else { return Ok(None) };
        let mut entries = index.manifests;
        if let Some(tag) = &self.tag {
            entries.retain(|entry| entry.annotations.get(REF_NAME) == Some(tag));
        }
        let mut found = Vec::new();
        for entry in &entries {
            let name = entry.annotations.get(REF_NAME);
            self.expand(entry, name, 0, &mut found)?;
        }
        // One image under several names is one image.
        let mut images: Vec<(Descriptor, Option<String>)> = Vec::new();
        for candidate in found {
            if images.iter().all(|(image, _)| image.digest != candidate.0.digest) {
                images.push(candidate);
            }
        }
        if images.len() > 1 {
            images = self.for_asked_platform(images)?;
        }
        let names: Vec<String> = images.iter().filter_map(|(_, name)| name.clone()).collect();
        if images.len() > 1 && names.iter().any(|name| *name != names[0]) {
            return Err(StoreError::Ambiguous { path: self.dir.clone(), names });
        }
        Ok(images.into_iter().next().map(|(image, _)| image))
    }

    /// Reads the manifest of one image; its bytes, too.
    pub(super) fn read_manifest(&self, entry: &Descriptor) -> Result<(Vec<u8>, Manifest), StoreError> {
        let bytes = self.read_document(entry, MAX_MANIFEST_SIZE)?;
        let manifest = Manifest::parse(&bytes, Some(&entry.media_type))
            .map_err(|source| StoreError::Manifest { path: self.blob_path(&entry.digest), source })?;
        Ok((bytes, manifest))
    }

    fn expand(
        &self,
        entry: &Descriptor,
        name: Option<&String>,
        depth: usize,
        found: &mut Vec<(Descriptor, Option<String>)>,
    ) -> Result<(), StoreError> {
        if depth > MAX_DEPTH || found.len() > MAX_MANIFESTS {
            return Err(StoreError::Nesting { path: self.dir.clone() });
        }
        if is_index(&entry.media_type) {
            let bytes = self.read_document(entry, MAX_MANIFEST_SIZE)?;
            let index = Index::parse(&bytes, Some(&entry.media_type))
                .map_err(|source| StoreError::Manifest { path: self.blob_path(&entry.digest), source })?;
            return index.manifests.iter().try_for_each(|entry| self.expand(entry, name, depth + 1, found));
        }
        if !is_attestation(entry) {
            found.push((entry.clone(), name.cloned()));
        }
        Ok(())
    }

    fn for_asked_platform(
        &self,
        images: Vec<(Descriptor, Option<String>)>,
    ) -> Result<Vec<(Descriptor, Option<String>)>, StoreError> {
        let mut fitting = Vec::new();
        let mut platforms = Vec::new();
        for image in images {
            let platform = self.platform_of(&image.0)?;
            if platform.as_ref().is_some_and(|platform| platform.satisfies(&self.platform)) {
                fitting.push(image);
            }
            platforms.extend(platform.map(|platform| platform.to_string()));
        }
        if fitting.is_empty() {
            let wanted = self.platform.to_string();
            return Err(StoreError::Platform { path: self.dir.clone(), wanted, found: platforms });
        }
        Ok(fitting)
    }

    /// From the index, else from the image; `None` when the image is not there.
    fn platform_of(&self, entry: &Descriptor) -> Result<Option<Platform>, StoreError> {
        if let Some(platform) = &entry.platform {
            return Ok(Some(platform.clone()));
        }
        if !self.blob_path(&entry.digest).is_file() {
            return Ok(None);
        }
        let (_, manifest) = self.read_manifest(entry)?;
        let config = self.read_document(&manifest.config, strata_oci::config::MAX_CONFIG_SIZE)?;
        let config = ImageConfig::parse(&config)
            .map_err(|source| StoreError::Image { path: self.dir.clone(), source: source.into() })?;
        Ok(Some(config.platform()))
    }
}

/// Provenance and the like, which builders list beside images.
fn is_attestation(entry: &Descriptor) -> bool {
    entry.artifact_type.is_some()
        || entry.annotations.contains_key("vnd.docker.reference.type")
        || entry.platform.as_ref().is_some_and(|platform| platform.os == "unknown")
}
