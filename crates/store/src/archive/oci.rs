//! A tar archive of an OCI layout, read.

use std::io::Read;
use std::path::{Path, PathBuf};

use strata_layer::VerifiedReader;
use strata_oci::config::MAX_CONFIG_SIZE;
use strata_oci::manifest::MAX_MANIFEST_SIZE;
use strata_oci::{Descriptor, Digest, Encoded, Index, Platform};

use super::members::Members;
use super::{IMAGE_NAME, blob_name};
use crate::artifact;
use crate::layout::{self, REF_NAME};
use crate::select::{self, Documents};
use crate::{BlobSink, Medium, Store, StoreError, StoredImage, Tree, host_architecture};

/// A tar archive of an OCI layout. It can only be read; see [`super::Writer`].
#[derive(Clone, Debug)]
pub struct OciArchive {
    members: Members,
    /// All there are.
    listed: Vec<Descriptor>,
    /// Those of the name asked for.
    entries: Vec<Descriptor>,
    platform: Platform,
}

impl OciArchive {
    /// Lists the members of the archive and reads its index.
    ///
    /// # Errors
    ///
    /// When it cannot be read, is compressed, has members that could be taken for others, or is no archive of a layout.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let members = Members::open(path.as_ref())?;
        if let Some(span) = members.file("oci-layout")? {
            let bytes = members.document("oci-layout", span, MAX_MANIFEST_SIZE)?;
            layout::check_version(&members.path().join("oci-layout"), &bytes)?;
        }
        let span = members.file("index.json")?;
        let span = span.ok_or_else(|| members.refused("index.json", "it is not there"))?;
        let bytes = members.document("index.json", span, MAX_MANIFEST_SIZE)?;
        let index = Index::parse(&bytes, None)
            .map_err(|source| StoreError::Manifest { path: members.path().join("index.json"), source })?;
        let platform = Platform::new("linux", host_architecture());
        let listed = index.manifests;
        Ok(Self { members, entries: listed.clone(), listed, platform })
    }

    /// The same archive, reading the image of this tag, or of this whole name, only.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn tagged(mut self, tag: &str) -> Result<Self, StoreError> {
        let names = self.names();
        self.entries.retain(|entry| names_of(entry).any(|name| name == tag));
        if self.entries.is_empty() {
            let path = self.members.path().to_owned();
            return Err(StoreError::NoSuchName { path, wanted: tag.to_owned(), names });
        }
        Ok(self)
    }

    /// The same archive, reading the image for this platform when there are several. Default: Linux on this machine.
    #[must_use]
    pub fn for_platform(mut self, platform: Platform) -> Self {
        self.platform = platform;
        self
    }

    /// The tags in the archive.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.entries.iter().filter_map(|entry| names_of(entry).next().cloned()).collect()
    }

    fn missing(&self, digest: Digest) -> StoreError {
        StoreError::Missing { path: self.members.path().to_owned(), digest }
    }

    fn read_only(&self) -> StoreError {
        StoreError::ReadOnly { path: self.members.path().to_owned() }
    }
}

fn names_of(entry: &Descriptor) -> impl Iterator<Item = &String> {
    [REF_NAME, IMAGE_NAME].into_iter().filter_map(|key| entry.annotations.get(key))
}

impl Documents for OciArchive {
    fn place(&self) -> PathBuf {
        self.members.path().to_owned()
    }

    fn manifest(&self, entry: &Descriptor) -> Result<Option<Vec<u8>>, StoreError> {
        self.members.verified(&blob_name(&entry.digest), entry, MAX_MANIFEST_SIZE)
    }

    fn config(&self, descriptor: &Descriptor) -> Result<Vec<u8>, StoreError> {
        let found = self.members.verified(&blob_name(&descriptor.digest), descriptor, MAX_CONFIG_SIZE)?;
        found.ok_or_else(|| self.missing(descriptor.digest))
    }
}

impl Store for OciArchive {
    fn read_image(&self) -> Result<Option<StoredImage>, StoreError> {
        let Some(entry) = select::choose(self, &self.entries, &self.platform)? else { return Ok(None) };
        select::read(self, &entry).map(Some)
    }

    fn read_tree(&self) -> Result<Option<Tree>, StoreError> {
        select::read_tree(self, &self.entries)
    }

    fn root(&self) -> Result<Option<Descriptor>, StoreError> {
        select::root(self, &self.entries)
    }

    fn open_blob(&self, descriptor: &Descriptor) -> Result<Option<Box<dyn Read + Send>>, StoreError> {
        let name = blob_name(&descriptor.digest);
        let Some(span) = self.members.file(&name)? else { return Ok(None) };
        if span.size != descriptor.size {
            let path = self.members.path().join(name);
            return Err(StoreError::Size { path, expected: descriptor.size, found: span.size });
        }
        let reader = self.members.reader(span);
        Ok(Some(Box::new(VerifiedReader::new(reader, descriptor.digest, descriptor.size))))
    }

    fn has_blob(&self, digest: &Digest, size: u64) -> Result<bool, StoreError> {
        Ok(self.members.file(&blob_name(digest))?.is_some_and(|span| span.size == size))
    }

    fn referrers(
        &self,
        subject: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>, StoreError> {
        artifact::listed(self, &self.listed, subject, artifact_type)
    }

    fn read_referrer(&self, entry: &Descriptor) -> Result<Option<Tree>, StoreError> {
        select::lone_tree(self, entry)
    }

    fn begin_blob(&self) -> Result<Box<dyn BlobSink>, StoreError> {
        Err(self.read_only())
    }

    fn put_image(&self, _encoded: &Encoded, _names: &[String]) -> Result<(), StoreError> {
        Err(self.read_only())
    }

    fn identifier(&self, image: &StoredImage) -> String {
        format!("{}@{}", self.members.path().display(), image.manifest_digest)
    }

    fn medium(&self) -> Medium<'_> {
        Medium::Other
    }
}
