//! `<layer>.toml` and `store.toml` (buildpack specification, "Layer Content Metadata").

use crate::doc::{DocError, from_toml};
use serde::Deserialize;

/// `<layer>.toml`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LayerToml {
    /// What the layer is for.
    pub types: Types,
    /// The buildpack's own data.
    pub metadata: Option<toml::Table>,
}

/// What a layer is for. A layer that is nothing of these is thrown away after its buildpack.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, serde::Serialize)]
pub struct Types {
    /// In the app image.
    #[serde(default)]
    pub launch: bool,
    /// For later buildpacks.
    #[serde(default)]
    pub build: bool,
    /// Kept for the next build.
    #[serde(default)]
    pub cache: bool,
}

impl Types {
    /// Whether the layer is of no use after its buildpack.
    pub fn is_none(self) -> bool {
        !(self.launch || self.build || self.cache)
    }
}

#[derive(Deserialize)]
struct Raw {
    #[serde(default)]
    types: Types,
    metadata: Option<toml::Table>,
    // Before Buildpack API 0.6 the flags stood at top level; a file that still has them would silently lose its layer.
    launch: Option<toml::Value>,
    build: Option<toml::Value>,
    cache: Option<toml::Value>,
}

impl LayerToml {
    /// Parses `<layer>.toml`.
    ///
    /// # Errors
    /// When the text is not TOML, a key has the wrong type, or the flags stand at top level.
    pub fn parse(text: &str) -> Result<Self, DocError> {
        let raw: Raw = from_toml(text)?;
        if raw.launch.is_some() || raw.build.is_some() || raw.cache.is_some() {
            return Err(DocError::whole("the launch, cache and build flags should be in the types table"));
        }
        Ok(Self { types: raw.types, metadata: raw.metadata })
    }
}

/// `store.toml`: data that a buildpack keeps between builds.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, serde::Serialize)]
pub struct Store {
    /// The buildpack's own data.
    #[serde(default)]
    pub metadata: toml::Table,
}

impl Store {
    /// Parses `store.toml`.
    ///
    /// # Errors
    /// When the text is not TOML or `metadata` is no table.
    pub fn parse(text: &str) -> Result<Self, DocError> {
        from_toml(text)
    }
}
