//! Where images live: one trait, several media.
//!
//! [`Store`] is what the phases see. [`layout::Layout`] implements it for a directory in the OCI image layout,
//! [`registry::Image`] for a name in a registry, [`daemon::Image`] for one in a Docker daemon, [`archive`] for files.
//! [`cache`] keeps layers between builds, in a folder or in an image.

pub mod archive;
mod artifact;
pub mod cache;
mod companion;
mod copy;
pub mod daemon;
pub mod embedded;
mod error;
pub mod layout;
mod progress;
mod referrers;
pub mod registry;
pub mod scratch;
mod select;
pub mod source;
pub mod temporary;
mod tree;
pub mod unpacked;
pub mod validate;
mod wire;

use std::collections::BTreeMap;
use std::io::{Read, Write};

use strata_layer::Compression;
use strata_oci::{Descriptor, Digest, Encoded, Image};

pub use artifact::{about, put_file};
pub use companion::Records;
pub use copy::{Copied, Transfer, convert_image, copy_blobs, copy_bytes, copy_image, copy_tree};
pub use embedded::Embedded;
pub use error::StoreError;
pub use layout::{Layout, Lock, host_architecture};
pub use progress::{Metered, Progress};
pub use referrers::{copy_referrers, read_referrers};
pub use tree::Tree;
pub use unpacked::Unpacked;
pub use wire::Stop;

/// An image as it was found.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredImage {
    /// What it is.
    pub image: Image,
    /// Digest of its manifest: its identity.
    pub manifest_digest: Digest,
    /// Its manifest, byte for byte.
    pub manifest: Vec<u8>,
    /// Its configuration, byte for byte.
    pub config: Vec<u8>,
}

impl StoredImage {
    /// The documents as they were found, ready to be stored elsewhere under the same digest.
    #[must_use]
    pub fn encoded(&self) -> Encoded {
        let config_descriptor = Descriptor::of(self.image.config_media_type(), &self.config);
        Encoded {
            media_type: self.image.media_type().to_owned(),
            manifest: self.manifest.clone(),
            manifest_digest: self.manifest_digest,
            config: self.config.clone(),
            config_digest: config_descriptor.digest,
            config_descriptor,
            layers: self.image.layers().iter().map(|layer| layer.descriptor.clone()).collect(),
            platform: self.image.config().platform(),
        }
    }
}

/// A place for one image and its blobs.
///
/// A handle is one writer: blobs it has committed are kept until an image names them, even when nothing else does.
pub trait Store: Send + Sync {
    /// The image for the platform asked for; `None` when there is no image. Both documents are verified.
    fn read_image(&self) -> Result<Option<StoredImage>, StoreError>;

    /// The index of images for several platforms that the name stands for, with all documents below it, verified; `None`
    /// when the name stands for an image or for nothing.
    fn read_tree(&self) -> Result<Option<Tree>, StoreError> {
        Ok(None)
    }

    /// The one document that the name stands for, an image or an index; `None` when there is nothing, or several.
    fn root(&self) -> Result<Option<Descriptor>, StoreError> {
        Ok(self.read_image()?.map(|image| image.encoded().manifest_descriptor()))
    }

    /// The bytes of a blob; `None` when it is absent. A wrong size fails here, wrong bytes fail the last read: nothing
    /// read may be trusted before the end is reached.
    fn open_blob(&self, descriptor: &Descriptor) -> Result<Option<Box<dyn Read + Send>>, StoreError>;

    /// Whether a blob of this digest and size is there. Its bytes are not read.
    fn has_blob(&self, digest: &Digest, size: u64) -> Result<bool, StoreError>;

    /// Starts writing a blob. Dropped without commit, it leaves nothing behind.
    fn begin_blob(&self) -> Result<Box<dyn BlobSink>, StoreError>;

    /// Stores the documents of an image whose layers are there already, and makes it visible under `names`, at once
    /// and last. Idempotent. On failure the previous image stays visible.
    fn put_image(&self, encoded: &Encoded, names: &[String]) -> Result<(), StoreError>;

    /// Stores the documents of a tree whose blobs are there already, as [`Self::put_image`] does. Places that have
    /// single images only refuse.
    fn put_tree(&self, _tree: &Tree, _names: &[String]) -> Result<(), StoreError> {
        Err(StoreError::NoIndexes)
    }

    /// The manifests of what refers to the image of this digest, as an index lists them: SBOMs, signatures. Of these only
    /// those of one type, if it is given. An image that nothing refers to has none, and so has one that is not there.
    /// Places that keep nothing beside images refuse.
    fn referrers(
        &self,
        _subject: &Digest,
        _artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>, StoreError> {
        Err(StoreError::NoReferrers)
    }

    /// What an entry of [`Self::referrers`] names: its manifest with all documents below it, verified; `None` when it is
    /// not there. Lists that clients keep may be out of date. Places that keep nothing beside images refuse.
    fn read_referrer(&self, _entry: &Descriptor) -> Result<Option<Tree>, StoreError> {
        Err(StoreError::NoReferrers)
    }

    /// Stores the documents of what refers to an image, whose blobs are there already, and lists it. Idempotent. Places
    /// that keep nothing beside images refuse, and so do those that would lose it: where what it refers to is not there.
    fn put_referrer(&self, _referrer: &Tree) -> Result<(), StoreError> {
        Err(StoreError::NoReferrers)
    }

    /// Stores a file beside the image that is its subject, as an artifact of its own; the digest of its manifest.
    /// Idempotent. Places that keep nothing beside images refuse.
    fn attach(
        &self,
        _subject: &Descriptor,
        _artifact_type: &str,
        _media_type: &str,
        _bytes: &[u8],
        _annotations: &BTreeMap<String, String>,
    ) -> Result<Digest, StoreError> {
        Err(StoreError::NoReferrers)
    }

    /// How documents of a build name an image of this place exactly: `<path>@<digest>` of a layout,
    /// `<registry>/<repository>@<digest>` of a registry, the bare hex digits of the id of a daemon
    /// (platform specification, "analyzed.toml").
    fn identifier(&self, image: &StoredImage) -> String;

    /// How new layers are best written here. Others are taken as well.
    fn compression(&self) -> Compression {
        Compression::Gzip
    }

    /// What kind of place this is, for those who know a shorter way between two of a kind.
    fn medium(&self) -> Medium<'_>;

    /// Takes over a blob of another place, the shortest way there is. Idempotent; the bytes are verified.
    fn copy_blob_from(&self, other: &dyn Store, descriptor: &Descriptor) -> Result<Copied, StoreError> {
        copy_bytes(self, other, descriptor)
    }
}

/// Kinds of places.
#[derive(Clone, Copy, Debug)]
pub enum Medium<'a> {
    /// A directory in the OCI image layout.
    Layout(&'a Layout),
    /// A name in a registry.
    Registry(&'a registry::Image),
    /// A name in a Docker daemon.
    Daemon(&'a daemon::Image),
    /// An archive of Docker's, which has no manifests: what digest it gives an image is its own.
    DockerArchive,
    /// Any other.
    Other,
}

/// A blob that is being written.
pub trait BlobSink: Write + Send {
    /// Keeps what was written, if it has this digest and size. Idempotent: `Ok` means "these bytes are there".
    fn commit(self: Box<Self>, digest: &Digest, size: u64) -> Result<(), StoreError>;
}
