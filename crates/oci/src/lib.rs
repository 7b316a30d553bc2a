//! Images as values: digests, references, manifests, configurations.
//!
//! Nothing here reads a file, the environment or a clock.

pub mod annotation;
pub mod compression;
pub mod config;
pub mod descriptor;
pub mod digest;
pub mod go_json;
pub mod image;
pub mod manifest;
pub mod media_type;
pub mod rebase;
pub mod reference;

pub use compression::{BadCompression, Compression, Level};
pub use config::{ConfigError, History, ImageConfig};
pub use descriptor::{Descriptor, Platform};
pub use digest::{Digest, DigestError, Hasher};
pub use image::{Encoded, Image, ImageError, Layer, validate};
pub use manifest::{Document, Index, Manifest, ManifestError};
pub use media_type::Family;
pub use rebase::RebaseError;
pub use reference::{Reference, ReferenceError};
