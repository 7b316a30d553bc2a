//! `build.toml` (buildpack specification, "build.toml").

use crate::bom::{self, BomEntry};
use crate::doc::{DocError, from_toml};
use serde::Deserialize;

/// `build.toml`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct BuildToml {
    /// Plan entries that the buildpack leaves to others.
    #[serde(default)]
    pub unmet: Vec<Unmet>,
    /// The unstructured bill of materials of what was used to build.
    #[serde(default)]
    pub bom: Vec<BomEntry>,
}

/// One `[[unmet]]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Unmet {
    /// The dependency's name.
    #[serde(default)]
    pub name: String,
}

impl BuildToml {
    /// Parses `build.toml`.
    ///
    /// # Errors
    /// When the text is not TOML, a key has the wrong type, or an entry has no name.
    pub fn parse(text: &str) -> Result<Self, DocError> {
        let build: Self = from_toml(text)?;
        bom::check(&build.bom)?;
        if build.unmet.iter().any(|unmet| unmet.name.is_empty()) {
            return Err(DocError::whole("unmet.name is required"));
        }
        Ok(build)
    }
}
