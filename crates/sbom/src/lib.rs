//! Bills of materials as values: read from the files of buildpacks and the package databases of base images, merged,
//! compared, and written.
//!
//! Pure: whoever calls has read the files. What is read here was written by others, so every size is limited, and what
//! cannot be understood becomes a warning rather than a failure: a bill of materials is worth less than its image.

mod bill;
mod component;
mod diff;
mod license;
pub mod packages;
mod purl;
pub mod read;
mod table;
pub mod write;

pub use bill::{Bill, Filter};
pub use component::{Component, Hash, Kind, Origin};
pub use diff::{Change, What, diff};
pub use purl::{BadPurl, Purl};
pub use read::{Format, Listing, ReadError};
pub use table::{changes, table};
