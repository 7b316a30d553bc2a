//! The unstructured bill of materials, `[[bom]]` (buildpack specification, "Bill-of-Materials"; deprecated in favour
//! of SBOM files, and still supported at every API). Beyond the specification it may stand in `<layer>.toml`, too.

use crate::doc::DocError;
use crate::values;
use serde::{Deserialize, Serialize};

/// One `[[bom]]`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct BomEntry {
    /// What it is.
    #[serde(default)]
    pub name: String,
    /// Not supported at top level any more; kept to be refused with a clear message.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// The layer that it came with. Of one from `launch.toml` or `build.toml` there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<String>,
    /// Free data. Written sorted, whatever the buildpack's order: it becomes part of a layer.
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "sorted")]
    pub metadata: Option<toml::Table>,
    /// Who wrote it. Buildpacks do not say it, the lifecycle does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub buildpack: Option<BomBuildpack>,
}

fn sorted<S: serde::Serializer>(metadata: &Option<toml::Table>, serializer: S) -> Result<S::Ok, S::Error> {
    metadata.as_ref().map(values::sorted).serialize(serializer)
}

/// The buildpack that wrote an entry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BomBuildpack {
    /// Id.
    pub id: String,
    /// Version.
    pub version: String,
}

impl BomEntry {
    /// The entry with its author, from a document of a whole buildpack.
    #[must_use]
    pub fn by(mut self, id: &str, version: &str) -> Self {
        self.layer = None;
        self.buildpack = Some(BomBuildpack { id: id.to_owned(), version: version.to_owned() });
        self
    }

    /// The entry with its author and the layer that it describes.
    #[must_use]
    pub fn of_layer(self, layer: &str, id: &str, version: &str) -> Self {
        Self { layer: Some(layer.to_owned()), ..self.by(id, version) }
    }

    /// The entry as labels and `sbom.legacy.json` have it: `metadata` is there, null if need be.
    pub fn to_json(&self) -> serde_json::Value {
        let mut json = serde_json::Map::new();
        json.insert("name".into(), self.name.clone().into());
        if !self.version.is_empty() {
            json.insert("version".into(), self.version.clone().into());
        }
        if let Some(layer) = &self.layer {
            json.insert("layer".into(), layer.clone().into());
        }
        let metadata = self.metadata.as_ref().map(values::table_to_json).unwrap_or_default();
        json.insert("metadata".into(), metadata);
        if let Some(BomBuildpack { id, version }) = &self.buildpack {
            json.insert("buildpack".into(), serde_json::json!({ "id": id, "version": version }));
        }
        json.into()
    }
}

/// An entry of `<layer>.toml` while it waits for the next build, in a label or in what a cache says it holds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct KeptEntry {
    /// What it is.
    pub name: String,
    /// Free data, or null.
    #[serde(skip_serializing_if = "serde_json::Value::is_null")]
    pub metadata: serde_json::Value,
}

impl From<&BomEntry> for KeptEntry {
    fn from(entry: &BomEntry) -> Self {
        let metadata = entry.metadata.as_ref().map(values::table_to_json).unwrap_or_default();
        Self { name: entry.name.clone(), metadata }
    }
}

impl From<&KeptEntry> for BomEntry {
    fn from(kept: &KeptEntry) -> Self {
        // What is no table was never a buildpack's metadata.
        let metadata = match values::to_toml(&kept.metadata) {
            Some(toml::Value::Table(table)) => Some(table),
            _ => None,
        };
        Self { name: kept.name.clone(), metadata, ..Self::default() }
    }
}

/// Entries in the form in which they wait for the next build.
pub fn keep(entries: &[BomEntry]) -> Vec<KeptEntry> {
    entries.iter().map(KeptEntry::from).collect()
}

/// The entries that a document has which lists them for layers only: all of them when one is of a layer, so that whoever
/// finds some finds all; else none, as the specification has it since these entries have files of their own.
pub fn with_layers(entries: &[BomEntry]) -> &[BomEntry] {
    if entries.iter().any(|entry| entry.layer.is_some()) { entries } else { &[] }
}

/// Refuses entries of a layer without a name or with a top-level version.
///
/// # Errors
/// When there is one.
pub(crate) fn check_of_layer(bom: &[BomEntry]) -> Result<(), DocError> {
    match bom.iter().position(|entry| entry.name.is_empty()) {
        Some(at) => Err(DocError::whole(format!("bom entry {} has no name, which is required", at + 1))),
        None => check(bom),
    }
}

/// Refuses entries with a top-level version.
///
/// # Errors
/// When there is one.
pub(crate) fn check(bom: &[BomEntry]) -> Result<(), DocError> {
    match bom.iter().find(|entry| !entry.version.is_empty()) {
        Some(entry) => Err(DocError::whole(format!(
            "bom entry '{}' has a top level version which is not allowed; put it into metadata.version",
            entry.name
        ))),
        None => Ok(()),
    }
}
