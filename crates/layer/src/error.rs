//! What can go wrong between a directory and a layer.

use std::io;
use std::path::PathBuf;

use crate::pattern::BadPattern;

/// A layer could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// A file of the tree or of the extraction directory could not be handled.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was being done, as an infinitive: `read`, `list`.
        action: &'static str,
        /// To which path.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The output did not take the bytes of the layer.
    #[error("cannot write the layer")]
    Write {
        /// Why it failed.
        source: io::Error,
    },
    /// A layer blob could not be read or is not a tar archive.
    #[error("cannot read the layer")]
    Read {
        /// Why it failed.
        source: io::Error,
    },
    /// A file grew or shrank between being looked at and being read.
    #[error("{} changed while it was read: it had {expected} bytes and now has {}", path.display(), if *.longer { "more" } else { "fewer" })]
    Changed {
        /// The file.
        path: PathBuf,
        /// Its size when it was looked at.
        expected: u64,
        /// Whether there are more bytes now, else fewer.
        longer: bool,
    },
    /// A number has no place in a tar header.
    #[error("cannot store {field} {value} of {} in a tar header", path.display())]
    Number {
        /// The entry.
        path: PathBuf,
        /// Which number.
        field: &'static str,
        /// The number.
        value: u64,
    },
    /// A name has no place in a tar header.
    #[error("cannot store the name {path:?} in a tar header: {reason}")]
    Name {
        /// The name.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A slice pattern is malformed.
    #[error("cannot match the slice pattern {pattern:?}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        source: BadPattern,
    },
    /// The compressor refused its input.
    #[error("cannot compress the layer: {reason}")]
    Compress {
        /// Why it failed, in its words.
        reason: String,
    },
    /// A thread of the pipeline ended without a result.
    #[error("a thread that compresses the layer stopped early")]
    Stopped,
    /// The layer is compressed in a way that is not supported.
    #[error("cannot read the layer: {format} compression is not supported")]
    UnsupportedCompression {
        /// The format by its usual name.
        format: &'static str,
    },
    /// An entry of the archive is refused.
    #[error("refused archive entry {name:?}: {reason}")]
    Refused {
        /// The name in the archive.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The archive exceeds a limit.
    #[error("the layer has more than {limit} {unit}")]
    TooLarge {
        /// The limit.
        limit: u64,
        /// What is counted.
        unit: &'static str,
    },
}

impl LayerError {
    /// For `map_err`: an I/O error becomes one that says what was being done to what.
    pub(crate) fn io<E: Into<io::Error>>(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(E) -> Self {
        move |source| Self::Io { action, path: path.into(), source: source.into() }
    }

    pub(crate) fn write(source: io::Error) -> Self {
        Self::Write { source }
    }

    pub(crate) fn read(source: io::Error) -> Self {
        Self::Read { source }
    }
}
