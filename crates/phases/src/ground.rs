//! What the place where buildpacks run can do for those who watch them.

use std::error::Error;
use std::path::{Path, PathBuf};

/// Where buildpacks run.
pub trait Ground: Sync {
    /// Ends what a buildpack left running, and says how many processes that were.
    fn end_leftovers(&self) -> usize;

    /// What sets folders apart.
    ///
    /// # Errors
    /// Why nothing can.
    fn apart(&self) -> Result<&dyn Apart, GroundError>;
}

/// Sets the layers directory apart: whoever writes to it writes to a place of its own, sees what was written by those
/// before, and leaves the directory as it was. But for [`Self::see_below`], nothing is called while a buildpack runs.
pub trait Apart: Sync {
    /// Sets it apart until [`Self::lift`], but for these folders below it.
    ///
    /// # Errors
    /// When that is not possible.
    fn set(&self, but: &[PathBuf]) -> Result<(), GroundError>;

    /// What was written to it since; `None` when nothing was, or it is not set apart.
    ///
    /// # Errors
    /// When that cannot be reached.
    fn written(&self) -> Result<Option<Written>, GroundError>;

    /// Makes it what it is again. When it is not set apart, nothing happens.
    ///
    /// # Errors
    /// When that is not possible.
    fn lift(&self) -> Result<(), GroundError>;

    /// From now on the thread that calls, and those that it starts, see the directory as it is.
    ///
    /// # Errors
    /// When that is not possible.
    fn see_below(&self) -> Result<(), GroundError>;
}

/// What was written to a folder that is set apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The folder; there one sees what was written.
    pub folder: PathBuf,
    /// Where one sees it as it was before.
    pub before: PathBuf,
    /// The upper directory of an overlay of `before`.
    pub upper: PathBuf,
}

impl Written {
    /// What was written to a folder below.
    pub(crate) fn below(&self, tail: &Path) -> Self {
        let Self { folder, before, upper } = self;
        Self { folder: folder.join(tail), before: before.join(tail), upper: upper.join(tail) }
    }
}

/// Why the place cannot do what it is asked for.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct GroundError(Box<dyn Error + Send + Sync>);

impl GroundError {
    /// For this reason.
    pub fn new(why: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(why.into())
    }
}

/// A place that can do nothing: a container of a platform.
#[derive(Debug, Clone, Copy)]
pub struct Bare;

impl Ground for Bare {
    fn end_leftovers(&self) -> usize {
        0
    }

    fn apart(&self) -> Result<&dyn Apart, GroundError> {
        Err(GroundError::new("nothing is mounted in the containers of platforms"))
    }
}
