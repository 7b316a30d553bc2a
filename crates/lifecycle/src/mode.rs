//! How the platform wants deprecated versions and experimental features to be taken.

use crate::env::Environment;
use crate::log::Logger;
use strata_phases::{Failure, Observer};
use strata_spec::exit::Exit;

const DEPRECATION: &str = "CNB_DEPRECATION_MODE";
const EXPERIMENTAL: &str = "CNB_EXPERIMENTAL_MODE";

/// What happens when something is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Nothing.
    Quiet,
    /// It is said.
    Warn,
    /// It is refused.
    Error,
}

impl Mode {
    fn parse(text: Option<&str>, default: Self) -> Self {
        match text {
            None => default,
            Some("quiet") => Self::Quiet,
            Some("error") => Self::Error,
            Some(_) => Self::Warn,
        }
    }
}

/// The modes of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Modes {
    /// Of deprecated API versions. There are none at present.
    pub(crate) deprecation: Mode,
    /// Of experimental features.
    pub(crate) experimental: Mode,
}

impl Modes {
    pub(crate) fn of(environment: &Environment) -> Self {
        Self {
            deprecation: Mode::parse(environment.variable(DEPRECATION), Mode::Warn),
            experimental: Mode::parse(environment.variable(EXPERIMENTAL), Mode::Error),
        }
    }

    /// Asks whether an experimental feature may be used.
    ///
    /// # Errors
    /// When it may not.
    pub(crate) fn experimental(self, feature: &str, log: &Logger) -> Result<(), Failure> {
        let text = format!("Platform requested experimental feature '{feature}'");
        match self.experimental {
            Mode::Quiet => Ok(()),
            Mode::Warn => {
                log.warn(text);
                Ok(())
            }
            Mode::Error => {
                log.error(&text);
                Err(Failure::new(
                    Exit::Other,
                    format!("experimental features are disabled by {EXPERIMENTAL}=error"),
                )
                .hint(format!("set {EXPERIMENTAL}=warn to use them")))
            }
        }
    }
}
