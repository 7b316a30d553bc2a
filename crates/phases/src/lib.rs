//! Carries the decisions of the phases out: the only place that starts buildpacks and that reads and writes the
//! documents of a build.
//!
//! Each phase takes one input struct and an [`Observer`]; it prints nothing. Whether it runs in a container of a
//! platform or in Strata's own sandbox makes no difference to it.

pub mod analyze;
pub mod bill;
pub mod build;
pub mod cache;
pub mod detect;
pub mod environment;
pub mod event;
pub mod export;
pub mod extend;
mod extract;
pub mod failure;
pub mod files;
mod found;
pub mod fresh;
pub mod generate;
pub mod ground;
mod heard;
pub mod index;
pub mod origins;
pub mod process;
pub mod ready;
pub mod rebase;
pub mod restore;
pub mod saving;
mod sbom;
pub mod seal;
mod stoppable;
pub mod summary;
pub mod trees;

pub use event::{Event, Level, Observer};
pub use failure::Failure;
