//! The build plan that `bin/detect` writes, `plan.toml`, and the buildpack plan that `bin/build` reads.

use crate::doc::{DocError, from_toml};
use crate::toml_writer;
use serde::{Deserialize, Serialize};

/// What one `bin/detect` wrote.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct BuildPlan {
    /// What the buildpack provides.
    #[serde(default)]
    pub provides: Vec<Provide>,
    /// What it requires.
    #[serde(default)]
    pub requires: Vec<Require>,
    /// Alternatives.
    #[serde(default)]
    pub or: Vec<Alternative>,
}

/// One `[[or]]` of a build plan.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct Alternative {
    /// What is provided in this alternative.
    #[serde(default)]
    pub provides: Vec<Provide>,
    /// What is required in this alternative.
    #[serde(default)]
    pub requires: Vec<Require>,
}

/// One `[[provides]]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Provide {
    /// The dependency's name.
    pub name: String,
}

/// One `[[requires]]`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Require {
    /// The dependency's name.
    pub name: String,
    /// Not supported at top level any more; kept to be refused with a clear message.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// Free data for the provider.
    #[serde(default, skip_serializing_if = "toml::Table::is_empty")]
    pub metadata: toml::Table,
}

impl BuildPlan {
    /// Parses what `bin/detect` wrote.
    ///
    /// # Errors
    /// When the text is not TOML, a key has the wrong type, or a requirement has a top-level `version`.
    pub fn parse(text: &str) -> Result<Self, DocError> {
        let plan: Self = from_toml(text)?;
        let all = plan.requires.iter().chain(plan.or.iter().flat_map(|or| &or.requires));
        for require in all {
            if !require.version.is_empty() {
                return Err(DocError::whole(format!(
                    "the requirement '{}' has a \"version\" key which is not supported; \
                     put it into the requirement's metadata",
                    require.name
                )));
            }
        }
        Ok(plan)
    }
}

impl BuildPlan {
    /// Whether anything is required, in any alternative. Image extensions may not.
    pub fn has_requires(&self) -> bool {
        !self.requires.is_empty() || self.or.iter().any(|or| !or.requires.is_empty())
    }
}

/// `plan.toml`: who provides what for whom.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// One entry per dependency name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub entries: Vec<PlanEntry>,
}

/// One dependency of the resolved plan.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PlanEntry {
    /// Buildpacks that can provide it.
    #[serde(default)]
    pub providers: Vec<Provider>,
    /// What was asked for; all of one name.
    #[serde(default)]
    pub requires: Vec<Require>,
}

/// A buildpack that provides a dependency.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provider {
    /// Id.
    pub id: String,
    /// Version.
    pub version: String,
    /// Whether it is an image extension.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub extension: bool,
}

impl Plan {
    /// Parses `plan.toml`.
    ///
    /// # Errors
    /// When the text is not TOML or a key is missing or has the wrong type.
    pub fn parse(text: &str) -> Result<Self, DocError> {
        from_toml(text)
    }

    /// The document as the lifecycle writes it; empty for an empty plan.
    pub fn to_toml(&self) -> String {
        toml_writer::to_string(self)
    }
}

/// The buildpack plan: what one buildpack is asked to provide.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct BuildpackPlan {
    /// The requirements.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub entries: Vec<Require>,
}

impl BuildpackPlan {
    /// The document given to `bin/build`; empty when nothing is asked.
    pub fn to_toml(&self) -> String {
        toml_writer::to_string(self)
    }
}
