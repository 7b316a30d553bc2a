//! Layers kept between builds: in a folder ([`VolumeCache`]) or in an image ([`ImageCache`]).
//!
//! The formats are those of the reference lifecycle: what one has filled is used by the other. A cache is never
//! trusted. A layer is named by its diffID and verified while it is read; one that is absent or damaged costs itself
//! and nothing else.

mod draft;
mod image;
mod shelf;
mod verified;
mod volume;

use std::io::Read;

use strata_layer::{Packed, Packer, Source, Spare};
use strata_oci::{Descriptor, Digest};

use crate::{Store, StoreError};
pub use draft::{Draft, Patience};
pub use image::ImageCache;
pub use shelf::{Kept, Removal, Shelf};
use verified::Verified;
pub use volume::VolumeCache;

/// Name of the file in a cache folder, and of the label of a cache image, that says what the cache holds.
pub const METADATA: &str = "io.buildpacks.lifecycle.cache.metadata";

/// A cache, read as it was left by the last commit.
pub trait Cache: Send + Sync {
    /// What messages call it.
    fn name(&self) -> String;

    /// Why what is there cannot be used, if so; the cache then reads as empty, and can be written.
    fn damage(&self) -> Option<String> {
        None
    }

    /// Whether it is a folder of this machine: what is added to it is neither compressed nor sent.
    fn is_folder(&self) -> bool {
        false
    }

    /// The JSON document that says what the cache holds, as it was committed; `None` when there is none.
    fn metadata(&self) -> Result<Option<String>, StoreError>;

    /// The uncompressed archive of a layer; `None` when it is absent, or seen at once to be no layer. Other bytes than
    /// those of the diffID fail the last read, with [`VerifyError`](strata_layer::VerifyError) in the error: nothing read may be trusted, or
    /// kept, before the end is reached.
    fn open_layer(&self, diff_id: &Digest) -> Result<Option<Box<dyn Read + Send>>, StoreError>;

    /// A file for the archive of a layer that the next generation may have, before anybody writes that; `None` where
    /// there are no such files. Waits for nobody.
    fn draft(&self) -> Option<Draft> {
        None
    }

    /// As [`open_layer`](Self::open_layer); a thread for it is taken from those that are left.
    fn open_layer_sharing(
        &self,
        diff_id: &Digest,
        _spare: &Spare,
    ) -> Result<Option<Box<dyn Read + Send>>, StoreError> {
        self.open_layer(diff_id)
    }

    /// Starts the next generation. Waits for another writer of the same cache to finish. Dropped without commit, the
    /// writer leaves the cache as it was.
    fn begin(&self) -> Result<Box<dyn CacheWriter + '_>, StoreError>;
}

/// The next generation of a cache.
pub trait CacheWriter: Send {
    /// Takes a layer over from the last generation, after a look whether it is damaged. Idempotent.
    fn reuse(&mut self, diff_id: &Digest, check: Check) -> Result<Reuse, StoreError>;

    /// Packs a layer. Idempotent.
    fn add(&mut self, source: &Source, packer: &Packer) -> Result<Packed, StoreError>;

    /// Takes a whole archive, which is this layer; `false` when it cannot, and the layer has to be packed. Idempotent.
    fn take_draft(&mut self, _draft: Draft, _diff_id: &Digest) -> Result<bool, StoreError> {
        Ok(false)
    }

    /// Takes the blob of a layer that is in another place, if that is what [`add`](Self::add) would make and it is
    /// near; `false` when not. Idempotent.
    fn take_blob(
        &mut self,
        _diff_id: &Digest,
        _blob: &Descriptor,
        _from: &dyn Store,
    ) -> Result<bool, StoreError> {
        Ok(false)
    }

    /// Makes this generation the one that is read; `metadata` is a JSON document. On failure the last one stays.
    fn commit(self: Box<Self>, metadata: &str) -> Result<(), StoreError>;
}

/// How closely a layer is looked at before it is taken over. Whoever restores it looks closely in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// Every byte is read, unless the store does that whenever a blob is opened.
    Contents,
    /// The archive has this size in bytes, or else it is read: enough for one that was verified a moment ago.
    Size(u64),
}

/// What became of a layer that was to be taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// It is in the next generation.
    Taken,
    /// The last generation does not have it.
    Absent,
    /// The last generation has other bytes under its name.
    Damaged {
        /// Their digest.
        found: Digest,
    },
}
