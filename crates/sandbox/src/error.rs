//! What can go wrong around a sandbox, and the text in which its processes report it.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// A sandbox that could not be started, observed or cleaned up. A job that fails is not one: it has an exit code.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The description of the sandbox has no encoding, as when a path is not UTF-8.
    #[error("cannot encode the description of the sandbox")]
    Encode {
        /// Why.
        source: serde_json::Error,
    },
    /// Its first process did not start.
    #[error("cannot start the sandbox: cannot {action}")]
    Start {
        /// What was being done.
        action: &'static str,
        /// Why.
        source: io::Error,
    },
    /// Its processes started, but could not build what was asked.
    #[error("cannot set up the sandbox: {message}")]
    Setup {
        /// What was being done to what, and why it failed.
        message: String,
        /// What the user can change.
        hint: Option<String>,
    },
    /// It cannot be limited as asked.
    #[error("cannot limit the sandbox: {message}")]
    Limits {
        /// What was being done to what, and why it failed.
        message: String,
        /// What the user can change.
        hint: Option<String>,
    },
    /// Its end could not be observed.
    #[error("cannot wait for the sandbox")]
    Wait {
        /// Why.
        source: io::Error,
    },
    /// A work directory could not be made or removed.
    #[error("cannot {action} {}", path.display())]
    WorkDir {
        /// What was being done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl SandboxError {
    /// What the user can do about it, if anything.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Setup { hint, .. } | Self::Limits { hint, .. } => hint.clone(),
            Self::WorkDir { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                Some("free some space, or choose another directory for temporary files".to_owned())
            }
            Self::Start { source, .. } => is_refused(source),
            _ => None,
        }
    }
}

/// What there is to do about an error that says that there are too many processes.
fn is_refused(error: &io::Error) -> Option<String> {
    let hint = "there may be no more processes and threads than a limit allows: that of the user (ulimit -u), or of the container";
    (error.kind() == io::ErrorKind::WouldBlock).then(|| hint.to_owned())
}

/// A failure inside the sandbox's own processes, on its way to the parent.
#[derive(Debug, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failure {
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }

    pub(crate) fn with_hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint;
        self
    }
}

impl From<Failure> for SandboxError {
    fn from(Failure { message, hint }: Failure) -> Self {
        Self::Setup { message, hint }
    }
}

/// Says what was being done when a system call failed.
pub(crate) trait Doing<T> {
    fn doing(self, action: &str) -> Result<T, Failure>;
    fn doing_to(self, action: &str, path: &Path) -> Result<T, Failure>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, action: &str) -> Result<T, Failure> {
        self.map_err(|error| {
            let error = error.into();
            Failure::new(format!("cannot {action}: {error}")).with_hint(is_refused(&error))
        })
    }

    fn doing_to(self, action: &str, path: &Path) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(format!("cannot {action} {}: {}", path.display(), error.into())))
    }
}
