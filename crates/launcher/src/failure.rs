//! What ends the launcher, in the words and with the exit codes platforms know.

use std::fmt;
use std::io;

/// Why no process was started.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The platform does not say which API it speaks.
    NoPlatformApi,
    /// What it says is not a version.
    PlatformApiText(String),
    /// The version is not supported.
    PlatformApi(String),
    /// `metadata.toml` cannot be read.
    Metadata(String),
    /// The API of a buildpack, given by id, is not a version.
    BuildpackApiText(String),
    /// The API of a buildpack is not supported.
    BuildpackApi {
        /// The buildpack.
        id: String,
        /// Its API.
        api: String,
    },
    /// Anything later.
    Launch(String),
}

impl Failure {
    /// The exit code.
    pub(crate) const fn code(&self) -> u8 {
        match self {
            Self::NoPlatformApi | Self::PlatformApiText(_) | Self::PlatformApi(_) => 11,
            Self::BuildpackApiText(_) | Self::BuildpackApi { .. } => 12,
            Self::Metadata(_) => 1,
            Self::Launch(_) => 82,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("failed to ")?;
        match self {
            Self::NoPlatformApi => f.write_str(
                "get platform API version; please set 'CNB_PLATFORM_API' to specify the desired platform API version",
            ),
            Self::PlatformApiText(text) => write!(f, "parse platform API '{text}'"),
            Self::PlatformApi(version) => write!(
                f,
                "set platform API: platform API version '{version}' is incompatible with the lifecycle"
            ),
            Self::Metadata(cause) => write!(f, "read metadata: {cause}"),
            // Platforms compare this text, the odd word included.
            Self::BuildpackApiText(id) => write!(f, "parse buildpack API '<nil>' for buildpack '{id}'"),
            Self::BuildpackApi { id, api } => write!(
                f,
                "set API for buildpack '{id}': buildpack API version '{api}' is incompatible with the lifecycle"
            ),
            Self::Launch(cause) => write!(f, "launch: {cause}"),
        }
    }
}

/// The text of a system error as it continues a sentence: lower case, without the number.
pub(crate) fn cause(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}
