//! `project-metadata.toml`: where the app's source comes from; and `project.toml`: what an app says of itself, and how it
//! wants to be built.

mod descriptor;

use crate::doc::{DocError, from_toml};
use serde::{Deserialize, Serialize};

pub use descriptor::{Build, Buildpack, Declared, Project, Script, Variable};

/// `project-metadata.toml`, and the content of the label `io.buildpacks.project.metadata`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ProjectMetadata {
    /// The source, when it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
}

/// The source of an app.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Source {
    /// For example `git`.
    #[serde(default, rename = "type", skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// The version; its keys depend on the type.
    #[serde(default, skip_serializing_if = "toml::Table::is_empty")]
    pub version: toml::Table,
    /// More about it; its keys depend on the type.
    #[serde(default, skip_serializing_if = "toml::Table::is_empty")]
    pub metadata: toml::Table,
}

impl ProjectMetadata {
    /// Parses `project-metadata.toml`.
    ///
    /// # Errors
    /// When the text is not TOML or a key has the wrong type.
    pub fn parse(text: &str) -> Result<Self, DocError> {
        from_toml(text)
    }
}
