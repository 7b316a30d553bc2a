//! Where images live: one trait, several media.
//!
//! [`Store`] is what the phases see. [`layout::Layout`] implements it for a directory in the OCI image layout.

pub mod embedded;
mod error;
pub mod layout;
pub mod scratch;
pub mod source;

use std::io::{Read, Write};

use strata_oci::{Descriptor, Digest, Encoded, Image};

pub use embedded::Embedded;
pub use error::StoreError;
pub use layout::{Layout, host_architecture};

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

/// A place for one image and its blobs.
///
/// A handle is one writer: blobs it has committed are kept until an image names them, even when nothing else does.
pub trait Store: Send + Sync {
    /// The image for the platform asked for; `None` when there is no image. Both documents are verified.
    fn read_image(&self) -> Result<Option<StoredImage>, StoreError>;

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
}

/// A blob that is being written.
pub trait BlobSink: Write + Send {
    /// Keeps what was written, if it has this digest and size. Idempotent: `Ok` means "these bytes are there".
    fn commit(self: Box<Self>, digest: &Digest, size: u64) -> Result<(), StoreError>;
}
