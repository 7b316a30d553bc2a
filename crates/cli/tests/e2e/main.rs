//! End-to-end tests: the program as people call it, with buildpacks written on the fly.

#![expect(
    clippy::disallowed_methods,
    reason = "the programs under test get a chosen part of the environment"
)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod archives;
mod bench;
mod builders;
mod buildpacks;
mod cache;
mod digest;
mod docker;
mod extensions;
mod failures;
mod few_processes;
mod help;
mod image;
mod interrupt;
#[path = "../../../store/tests/support/kill.rs"]
mod kill;
mod killed;
mod limits;
mod live;
mod names;
mod output;
mod phases;
mod plan;
mod project;
mod rebase;
mod registry;
#[path = "../../../lifecycle/tests/containers/release.rs"]
mod release;
mod run;
mod sbom;
mod sealed;
mod source;
mod trace;
mod transfers;
#[path = "../../../store/tests/support/validate.rs"]
mod validate;
mod watch;
