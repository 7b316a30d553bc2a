//! Every choice of every phase, as functions of values.
//!
//! Pure: whoever calls has read the files and run the programs. Nothing here touches a file, a clock, the
//! environment or a process, so each rule of the specification can be tested with a table.

pub mod analyze;
pub mod annotation;
pub mod bom;
pub mod build;
pub mod detect;
pub mod export;
pub mod extend;
pub mod generate;
pub mod inputs;
pub mod order;
pub mod origins;
pub mod package;
pub mod plan;
pub mod prune;
pub mod rebase;
pub mod restore;
pub mod sbom;
pub mod seal;
pub mod source;
pub mod trace;
