//! Artifacts in a layout: entries of `index.json` without a name, whose manifests refer to an image.

use std::collections::{BTreeMap, BTreeSet};

use strata_oci::manifest::MAX_MANIFEST_SIZE;
use strata_oci::{Descriptor, Digest, Document, Index, annotation};

use super::lock::Lock;
use super::{Layout, REF_NAME, read_file, sync_dir};
use crate::artifact::{self, Artifact, EMPTY_CONFIG};
use crate::{StoreError, Tree};

impl Layout {
    pub(super) fn find_referrers(
        &self,
        subject: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>, StoreError> {
        let entries = self.read_index()?.unwrap_or_default().manifests;
        artifact::listed(self, &entries, subject, artifact_type)
    }

    pub(super) fn attach_file(
        &self,
        subject: &Descriptor,
        artifact_type: &str,
        file: Descriptor,
        bytes: &[u8],
        annotations: &BTreeMap<String, String>,
    ) -> Result<Digest, StoreError> {
        self.put_document(EMPTY_CONFIG, &Digest::of(EMPTY_CONFIG))?;
        self.put_document(bytes, &file.digest)?;
        let artifact = Artifact::new(subject, artifact_type, file, annotations)
            .map_err(|source| StoreError::Encode { path: self.dir.clone(), source })?;
        let digest = artifact.descriptor.digest;
        self.put_listed(&artifact.into_tree()).map(|()| digest)
    }

    pub(super) fn put_listed(&self, tree: &Tree) -> Result<(), StoreError> {
        let (subject, entry) = artifact::root_of(tree, &self.dir)?;
        let outcome = self.put_below(tree).and_then(|()| self.list(entry, subject));
        // Of no use to others when it could not be listed.
        self.named_now(tree.digests().collect())?;
        outcome
    }

    /// Makes an artifact visible, if what it refers to is.
    fn list(&self, mut entry: Descriptor, subject: Digest) -> Result<(), StoreError> {
        sync_dir(&self.blobs_dir())?;
        let _mutex = Lock::exclusive(&self.blobs_dir())?;
        let mut index = self.read_index()?.unwrap_or_default();
        let digest = entry.digest;
        let is_it = |entry: &Descriptor| entry.digest == digest;
        if index.manifests.iter().any(is_it) {
            return Ok(());
        }
        entry.annotations.retain(|key, _| !annotation::is_of_entry(key));
        index.manifests.push(entry);
        self.settle(&mut index)?;
        if !index.manifests.iter().any(is_it) {
            return Err(self.missing(subject));
        }
        self.write_index(&index)
    }

    /// Takes those artifacts out of the index that refer to what it does not lead to any more. All blobs that it leads
    /// to; `None` when something cannot be understood, and the index is as it was.
    pub(super) fn settle(&self, index: &mut Index) -> Result<Option<BTreeSet<Digest>>, StoreError> {
        let mut named = BTreeSet::new();
        let mut waiting: BTreeMap<Digest, Vec<Descriptor>> = BTreeMap::new();
        for entry in &index.manifests {
            match self.unnamed_subject(entry)? {
                Some(subject) => waiting.entry(subject).or_default().push(entry.clone()),
                None if self.mark(entry, &mut named)? => {}
                None => return Ok(None),
            }
        }
        if let Some(subject) = &index.subject
            && !self.mark(subject, &mut named)?
        {
            return Ok(None);
        }
        // An artifact may refer to another.
        while let Some(kept) = waiting.keys().find(|subject| named.contains(subject)).copied() {
            for entry in waiting.remove(&kept).unwrap_or_default() {
                if !self.mark(&entry, &mut named)? {
                    return Ok(None);
                }
            }
        }
        let gone: BTreeSet<Digest> = waiting.into_values().flatten().map(|entry| entry.digest).collect();
        index.manifests.retain(|entry| is_named(entry) || !gone.contains(&entry.digest));
        Ok(Some(named))
    }

    /// What an entry without a name refers to; `None` when it has a name, refers to nothing or cannot be read.
    pub(super) fn unnamed_subject(&self, entry: &Descriptor) -> Result<Option<Digest>, StoreError> {
        if is_named(entry) {
            return Ok(None);
        }
        let Some(bytes) = read_file(&self.blob_path(&entry.digest), MAX_MANIFEST_SIZE)? else {
            return Ok(None);
        };
        // Whoever follows the entry finds out what is wrong with it.
        let Ok(document) = Document::parse(&bytes, Some(&entry.media_type)) else { return Ok(None) };
        let subject = match document {
            Document::Manifest(manifest) => manifest.subject,
            Document::Index(index) => index.subject,
        };
        Ok(subject.map(|subject| subject.digest))
    }
}

fn is_named(entry: &Descriptor) -> bool {
    entry.annotations.contains_key(REF_NAME)
}
