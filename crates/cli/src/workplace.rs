//! Where a command does its work: a folder, and cores.

use std::path::Path;

use strata_sandbox::{SandboxError, WorkDir};
use strata_store::validate::chain;

/// A new one; those of commands that were killed are removed first, and `warn` is told of each that cannot be.
pub(crate) fn new(warn: impl Fn(String)) -> Result<WorkDir, SandboxError> {
    let parent = Path::new(WorkDir::DEFAULT_PARENT);
    for error in WorkDir::sweep(parent)?.left {
        warn(format!("what an earlier build left behind stays: {}", chain(&error)));
    }
    Ok(WorkDir::new(parent)?.handed_over())
}

/// Removes it, or leaves that to a process that stays behind; the command has done what it was for, so `warn` is told if
/// that does not work.
pub(crate) fn close(place: WorkDir, warn: impl Fn(String)) {
    if let Err(error) = place.close() {
        warn(format!("the folder of this build stays: {}", chain(&error)));
    }
}

/// How many cores there are: how much is done side by side.
pub(crate) fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
