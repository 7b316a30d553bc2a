//! What can go wrong.

use std::io;
use std::path::PathBuf;

use strata_layer::LayerError;
use strata_oci::ImageError;
use strata_store::StoreError;

use crate::graph::GraphError;

/// Why there is no release.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("'{0}' is no version of a release; platforms want three plain numbers, for example 0.21.0")]
    Version(String),
    #[error("{seconds} seconds since 1970 is no date")]
    Date { seconds: i64, source: jiff::Error },
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("{} cannot be released: {reason}", path.display())]
    Program { path: PathBuf, reason: String },
    #[error("cannot tell what {} is made of", program.display())]
    Crates { program: PathBuf, source: GraphError },
    #[error("cannot pack {}", path.display())]
    Pack { path: PathBuf, source: LayerError },
    #[error("cannot put the image together")]
    Image(#[from] ImageError),
    #[error("cannot store the image")]
    Store(#[from] StoreError),
}

impl Failure {
    /// For `map_err`.
    pub(crate) fn read(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Read { path: path.into(), source }
    }

    /// For `map_err`.
    pub(crate) fn write(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Write { path: path.into(), source }
    }
}
