//! What platforms and buildpacks can rely on: for each phase, inputs on disk and the exit code, log and files that come of
//! them, over all Platform and Buildpack APIs.
//!
//! `platform_api` and `buildpack_api` have a test for every behaviour that begins with a version, and its name says with
//! which. What the launcher does with a version is in the launcher's own tests, and what only registries can show in the
//! store's.

#![expect(clippy::unwrap_used, reason = "tests: the helpers around the test functions, too")]

mod analyze;
mod bad_input;
mod bom;
mod build;
mod buildpack_api;
mod create;
mod detect;
mod export;
mod extensions;
mod hostile;
#[path = "../../../store/tests/support/kill.rs"]
mod kill;
mod killed;
mod layouts;
mod origins;
mod platform_api;
mod rebase;
mod restore;
mod sealed;
mod unchanged;
#[path = "../../../store/tests/support/validate.rs"]
mod validate;
mod world;
