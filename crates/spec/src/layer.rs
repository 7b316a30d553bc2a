//! `<layer>.toml` and `store.toml` (buildpack specification, "Layer Content Metadata").

use crate::bom::{self, BomEntry, KeptEntry};
use crate::doc::{DocError, from_toml};
use crate::{toml_writer, values};
use serde::Deserialize;

/// `<layer>.toml`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LayerToml {
    /// What the layer is for.
    pub types: Types,
    /// Whether later buildpacks cannot change it: `types.sealed`, Strata's own key. `None` when it does not say.
    pub sealed: Option<bool>,
    /// The buildpack's own data.
    pub metadata: Option<toml::Table>,
    /// What is in the layer; beyond the specification. It lives as long as the layer does.
    pub bom: Vec<BomEntry>,
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
    types: RawTypes,
    metadata: Option<toml::Table>,
    #[serde(default)]
    bom: Vec<BomEntry>,
    // Before Buildpack API 0.6 the flags stood at top level; a file that still has them would silently lose its layer.
    launch: Option<toml::Value>,
    build: Option<toml::Value>,
    cache: Option<toml::Value>,
}

/// The table, with the key that is no type. Other lifecycles skip it, and libraries that write the table keep to the three
/// flags, so that it stands where it disturbs nobody.
#[derive(Default, Deserialize)]
struct RawTypes {
    #[serde(default)]
    launch: bool,
    #[serde(default)]
    build: bool,
    #[serde(default)]
    cache: bool,
    sealed: Option<bool>,
}

impl LayerToml {
    /// Parses `<layer>.toml`.
    ///
    /// # Errors
    /// When the text is not TOML, a key has the wrong type, the flags stand at top level, or an entry of the bill of
    /// materials has no name.
    pub fn parse(text: &str) -> Result<Self, DocError> {
        let raw: Raw = from_toml(text)?;
        if raw.launch.is_some() || raw.build.is_some() || raw.cache.is_some() {
            return Err(DocError::whole("the launch, cache and build flags should be in the types table"));
        }
        bom::check_of_layer(&raw.bom)?;
        let RawTypes { launch, build, cache, sealed } = raw.types;
        let types = Types { launch, build, cache };
        Ok(Self { types, sealed, metadata: raw.metadata, bom: raw.bom })
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

#[derive(serde::Serialize)]
struct Restored {
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<toml::Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    bom: Vec<BomEntry>,
}

/// A restored `<layer>.toml`: what the buildpack wrote as metadata and bill of materials, without types, so that the
/// buildpack has to say again what the layer is for. Empty when there was neither.
pub fn restored(data: &serde_json::Value, bom: &[KeptEntry]) -> String {
    // What is no table was never a buildpack's metadata; without a name, the buildpack would fail on its own document.
    let metadata = values::to_toml(data).filter(toml::Value::is_table);
    let bom = bom.iter().filter(|entry| !entry.name.is_empty()).map(BomEntry::from).collect();
    toml_writer::to_string(&Restored { metadata, bom })
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
        let text = restored(&data, &[]);
        assert_eq!(text, "[metadata]\n  version = \"1\"\n  [metadata.nested]\n    n = 1\n");
        let layer = LayerToml::parse(&text).unwrap();
        assert!(layer.types.is_none() && layer.metadata.is_some());
        assert_eq!(restored(&serde_json::Value::Null, &[]), "");
    }

    #[test]
    fn a_bill_of_materials_comes_back_as_it_was_written() {
        let text =
            "[[bom]]\nname = \"jdk\"\n[bom.metadata]\nversion = \"17\"\nn = 1\n[[bom]]\nname = \"bare\"\n";
        let layer = LayerToml::parse(text).unwrap();
        let again = restored(&serde_json::Value::Null, &bom::keep(&layer.bom));
        assert_eq!(LayerToml::parse(&again).unwrap().bom, layer.bom, "{again}");
        let nameless = KeptEntry::default();
        assert_eq!(restored(&serde_json::json!({"a": 1}), &[nameless]), "[metadata]\n  a = 1\n");
    }

    #[test]
    fn an_entry_of_the_bill_of_materials_has_a_name_and_no_version_of_its_own() {
        for (text, expected) in [
            ("[[bom]]\nname = \"x\"\n[[bom]]\n[bom.metadata]\na = 1", "bom entry 2 has no name"),
            ("[[bom]]\nname = \"x\"\nversion = \"1\"", "metadata.version"),
            ("bom = 3", "invalid type"),
        ] {
            let error = LayerToml::parse(text).unwrap_err();
            assert!(error.message.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_layer_may_say_whether_it_is_sealed() {
        for (text, expected) in [
            ("[types]\nlaunch = true\nsealed = false\n", Some(Some(false))),
            ("[types]\nlaunch = true\nsealed = true\n", Some(Some(true))),
            ("[types]\nlaunch = true\nother = 1\n", Some(None)),
            ("", Some(None)),
            ("[types]\nsealed = \"no\"\n", None),
            ("[types]\nlaunch = 1\n", None),
        ] {
            let layer = LayerToml::parse(text).ok();
            assert_eq!(layer.as_ref().map(|layer| layer.sealed), expected, "{text}");
            assert!(layer.is_none_or(|layer| layer.types.launch == text.contains("launch")));
        }
    }

    #[test]
    fn a_name_is_one_part_of_a_path_and_of_a_line() {
        assert!(["a", "a.b", "...", "ä"].iter().all(|name| is_name(name)));
        let bad = ["", ".", "..", "a/b", "../x", "\0", "a\nb", "store", "x.toml"];
        assert!(bad.iter().all(|name| !is_name(name)));
        assert_eq!(restored(&serde_json::json!("text"), &[]), "");
    }
}
