//! A phase that failed, with everything a person or a platform needs to know.

use serde::{Deserialize, Serialize};
use std::error::Error;
use strata_spec::exit::Exit;
pub(crate) use strata_store::validate::chain;

/// Why a phase failed. It is a value that can cross a process boundary, so causes are texts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{}", self.chain())]
pub struct Failure {
    /// The class of the failure.
    pub exit: Exit,
    /// What was being done to what.
    pub message: String,
    /// Causes, outermost first.
    pub causes: Vec<String>,
    /// What the user can do about it.
    pub hint: Option<String>,
    /// The file with all that was said before, if it is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
}

impl Failure {
    /// A failure without a cause below it.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), causes: Vec::new(), hint: None, log: None }
    }

    /// A failure with the error that caused it, and what caused that.
    pub fn caused(exit: Exit, message: impl Into<String>, cause: &dyn Error) -> Self {
        let mut causes = vec![cause.to_string()];
        let mut next = cause.source();
        while let Some(error) = next {
            causes.push(error.to_string());
            next = error.source();
        }
        Self { causes, ..Self::new(exit, message) }
    }

    /// Adds what the user can do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Whether it failed because a disk, or what one user may have of it, is full.
    pub fn is_full(&self) -> bool {
        const FULL: [&str; 3] = ["No space left on device", "Disk quota exceeded", "(os error 28)"];
        self.causes.iter().any(|cause| FULL.iter().any(|word| cause.contains(word)))
    }

    /// The same with a hint if there is none, and no disk has room any more.
    #[must_use]
    pub fn hinted(self) -> Self {
        if self.hint.is_none() && self.is_full() {
            self.hint("free some disk space, and try again")
        } else {
            self
        }
    }

    /// Message and causes in one line.
    pub fn chain(&self) -> String {
        let parts = std::iter::once(&self.message).chain(&self.causes);
        parts.map(String::as_str).collect::<Vec<_>>().join(": ")
    }
}
