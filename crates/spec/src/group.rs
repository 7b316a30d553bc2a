//! `group.toml`: the buildpacks that take part.

use crate::doc::{DocError, from_toml};
use crate::toml_writer;
use serde::{Deserialize, Serialize};

/// `group.toml`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Group {
    /// The buildpacks, in build order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub group: Vec<GroupElement>,
    /// The image extensions, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub group_extensions: Vec<GroupElement>,
}

/// One buildpack of the group.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupElement {
    /// Id.
    pub id: String,
    /// Version.
    pub version: String,
    /// Buildpack API version.
    #[serde(default)]
    pub api: String,
    /// Home page, when it has one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub homepage: String,
}

impl GroupElement {
    /// `id@version`, as in messages.
    pub fn label(&self) -> String {
        format!("{}@{}", self.id, self.version)
    }
}

impl Group {
    /// Parses `group.toml`.
    ///
    /// # Errors
    /// When the text is not TOML or a key is missing or has the wrong type.
    pub fn parse(text: &str) -> Result<Self, DocError> {
        from_toml(text)
    }

    /// The document as the lifecycle writes it.
    pub fn to_toml(&self) -> String {
        toml_writer::to_string(self)
    }
}
