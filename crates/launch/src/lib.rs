//! Which process, which environment, which arguments: the launcher's decisions.
//!
//! Pure: nothing here reads a file, a variable or a clock, and nothing starts a process. The program that goes into
//! app images reads the files and obeys; the build phase shares [`mod@env`].
//! The rules are those of <https://github.com/buildpacks/spec/blob/main/platform.md#launch>.
//!
//! No dependencies: every byte of this crate is shipped in every app image.

pub mod api;
pub mod env;
pub mod layer;
pub mod lookup;
pub mod metadata;
pub mod process;
pub mod shell;
