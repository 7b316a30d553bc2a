//! `system.toml`: buildpacks that an operator adds to every group (Platform API 0.15).

use crate::doc::{DocError, from_toml};
use serde::Deserialize;

/// `system.toml`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct SystemToml {
    /// What is added.
    #[serde(default)]
    pub system: System,
}

/// `[system]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct System {
    /// In front of the group.
    #[serde(default)]
    pub pre: SystemBuildpacks,
    /// Behind it.
    #[serde(default)]
    pub post: SystemBuildpacks,
}

/// `[system.pre]` or `[system.post]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct SystemBuildpacks {
    /// The buildpacks, in order.
    #[serde(default)]
    pub buildpacks: Vec<SystemBuildpack>,
}

/// One buildpack. It is always required.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct SystemBuildpack {
    /// Id.
    pub id: String,
    /// Version.
    #[serde(default)]
    pub version: String,
}

impl SystemToml {
    /// Parses `system.toml`.
    ///
    /// # Errors
    /// When the text is not TOML or a key has the wrong type.
    pub fn parse(text: &str) -> Result<Self, DocError> {
        from_toml(text)
    }
}
