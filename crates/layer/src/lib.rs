//! Bytes of layers: tar writing, hashing, compression, extraction.
//!
//! A [`Source`] says what a layer holds; [`pack()`] turns it into a blob in one streaming pass and [`unpack()`] is the
//! way back. The tar bytes are those of Go's `archive/tar`, because layers are reused by comparing digests with
//! images that other programs have written.
//!
//! Nothing here knows of images or registries, and nothing here decides which files a layer holds.

mod ahead;
mod archive;
mod buffers;
mod codec;
mod deflate;
mod delta;
mod error;
mod frame;
mod listing;
mod noted;
mod pack;
mod pattern;
mod pool;
mod read;
mod slices;
mod source;
mod spare;
mod survey;
mod tar_writer;
pub mod threads;
pub mod unchanged;
mod unpack;
mod visit;
mod zstd;

pub use archive::{Archive, Packed};
pub use delta::{Delta, Furniture};
pub use error::LayerError;
pub use listing::{Change, ChangeKind, Listing};
pub use noted::Noted;
pub use pack::{Packer, diff_id, pack, pack_with};
pub use pattern::{BadPattern, clean, matches};
pub use read::{
    HashReader, HashWriter, MAX_LAYER, VerifiedReader, VerifyError, digest_of, is_compressed, open_layer,
    open_layer_up_to,
};
pub use slices::slices;
pub use source::{Content, GeneratedEntry, Parent, Skeleton, SliceItem, Source, skeleton, write_tar};
pub use spare::Spare;
pub use strata_oci::Compression;
pub use survey::Survey;
pub use tar_writer::{MTIME, Owner, TarWriter};
pub use unpack::{
    Entry, EntryKind, Member, MemberLimits, Ownership, Times, Trust, UnpackOptions, UnpackStats, Walked,
    Whiteouts, examine, layer_entries, layer_files, members, remove_tree, unpack, unpack_and_sum,
};
pub use visit::visit_files;
