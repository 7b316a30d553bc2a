//! The words of the Cloud Native Buildpacks specification: API versions and their features, ids, one file per
//! TOML or JSON document, exit codes.
//!
//! Pure: every parser takes `&str`, every writer returns a `String`; whoever owns the files reads and writes them.
//! Versions are named here and nowhere else; other crates ask for a feature.
//!
//! Sources: <https://github.com/buildpacks/spec> (`buildpack.md`, `platform.md`, `distribution.md`).

pub mod analyzed;
pub mod api;
pub mod bom;
pub mod build;
pub mod builder;
pub mod buildpack;
pub mod buildpackage;
pub mod cache;
pub mod doc;
pub mod dockerfile;
pub mod exit;
pub mod extend;
pub mod extension;
pub mod group;
pub mod inputs;
pub mod labels;
pub mod launch;
pub mod layer;
pub mod lifecycle;
pub mod metadata;
pub mod order;
pub mod origins;
pub mod phase;
pub mod plan;
pub mod project;
pub mod raw_object;
pub mod report;
pub mod run;
pub mod sealed;
pub mod system;
pub mod toml_writer;
pub mod values;

pub use api::{BuildpackApi, PlatformApi};
pub use doc::DocError;
