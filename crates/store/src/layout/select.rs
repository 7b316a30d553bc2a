//! Chooses the image a reader asks for.

use std::path::PathBuf;

use strata_oci::config::MAX_CONFIG_SIZE;
use strata_oci::manifest::MAX_MANIFEST_SIZE;
use strata_oci::{Descriptor, Manifest};

use super::{Layout, REF_NAME};
use crate::StoreError;
use crate::select::{self, Documents};

impl Layout {
    /// What is asked for, in the index; `None` when there is no layout.
    pub(super) fn entries(&self) -> Result<Option<Vec<Descriptor>>, StoreError> {
        let Some(index) = self.read_index()? else { return Ok(None) };
        let mut entries = index.manifests;
        if let Some(tag) = &self.tag {
            entries.retain(|entry| entry.annotations.get(REF_NAME) == Some(tag));
        }
        Ok(Some(entries))
    }

    /// The manifest of the image asked for. A lone image is taken whatever it is for; among several, the platform
    /// decides.
    pub(super) fn select(&self) -> Result<Option<Descriptor>, StoreError> {
        let Some(entries) = self.entries()? else { return Ok(None) };
        select::choose(self, &entries, &self.platform)
    }

    /// Reads the manifest of one image; its bytes, too.
    pub(super) fn read_manifest(&self, entry: &Descriptor) -> Result<(Vec<u8>, Manifest), StoreError> {
        let bytes = self.read_document(entry, MAX_MANIFEST_SIZE)?;
        let manifest = Manifest::parse(&bytes, Some(&entry.media_type))
            .map_err(|source| StoreError::Manifest { path: self.blob_path(&entry.digest), source })?;
        Ok((bytes, manifest))
    }
}

impl Documents for Layout {
    fn place(&self) -> PathBuf {
        self.dir.clone()
    }

    fn manifest(&self, entry: &Descriptor) -> Result<Option<Vec<u8>>, StoreError> {
        if !self.blob_path(&entry.digest).is_file() {
            return Ok(None);
        }
        self.read_document(entry, MAX_MANIFEST_SIZE).map(Some)
    }

    fn config(&self, descriptor: &Descriptor) -> Result<Vec<u8>, StoreError> {
        self.read_document(descriptor, MAX_CONFIG_SIZE)
    }
}
