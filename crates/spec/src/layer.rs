//! `<layer>.toml` and `store.toml` (buildpack specification, "Layer Content Metadata").

use crate::doc::{DocError, from_toml};
use crate::{toml_writer, values};
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
    /// The document as the lifecycle writes it.
    pub fn to_toml(&self) -> String {
        toml_writer::to_string(self)
    }

    /// Parses `store.toml`.
    ///
    /// # Errors
    /// When the text is not TOML or `metadata` is no table.
    pub fn parse(text: &str) -> Result<Self, DocError> {
        from_toml(text)
    }
}

/// A restored `<layer>.toml`: what the buildpack wrote as metadata, without types, so that the buildpack has to say
/// again what the layer is for. Empty when there was no metadata.
pub fn restored(data: &serde_json::Value) -> String {
    // What is no table was never a buildpack's metadata.
    let metadata = values::to_toml(data).filter(toml::Value::is_table);
    let metadata = metadata.map(|metadata| ("metadata".to_owned(), metadata));
    toml_writer::to_string(&metadata.into_iter().collect::<toml::Table>())
}

/// Whether a layer can have this name: it is one part of a path, its description is no other document of its
/// buildpack, and it can be told in a line.
pub fn is_name(name: &str) -> bool {
    !matches!(name, "" | "." | ".." | "launch" | "build" | "store")
        && !name.contains('/')
        && !name.contains(char::is_control)
        && !name.ends_with(".toml")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restored_description_has_metadata_and_no_types() {
        let data = serde_json::json!({"version": "1", "nested": {"n": 1}});
        let text = restored(&data);
        assert_eq!(text, "[metadata]\n  version = \"1\"\n  [metadata.nested]\n    n = 1\n");
        let layer = LayerToml::parse(&text).unwrap();
        assert!(layer.types.is_none() && layer.metadata.is_some());
        assert_eq!(restored(&serde_json::Value::Null), "");
    }

    #[test]
    fn a_name_is_one_part_of_a_path_and_of_a_line() {
        assert!(["a", "a.b", "...", "ä"].iter().all(|name| is_name(name)));
        let bad = ["", ".", "..", "a/b", "../x", "\0", "a\nb", "store", "x.toml"];
        assert!(bad.iter().all(|name| !is_name(name)));
        assert_eq!(restored(&serde_json::json!("text")), "");
    }
}
