//! Images as values: digests, references, manifests, configurations.

pub mod digest;

pub use digest::{Digest, DigestError, Hasher};
