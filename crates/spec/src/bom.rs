//! The unstructured bill of materials, `[[bom]]` (buildpack specification, "Bill-of-Materials"; deprecated in favour
//! of SBOM files, and still supported at every API).

use crate::doc::DocError;
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
    /// Free data. Written sorted, whatever the buildpack's order: it becomes part of a layer.
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "sorted")]
    pub metadata: Option<toml::Table>,
    /// Who wrote it. Buildpacks do not say it, the lifecycle does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub buildpack: Option<BomBuildpack>,
}

fn sorted<S: serde::Serializer>(metadata: &Option<toml::Table>, serializer: S) -> Result<S::Ok, S::Error> {
    metadata.as_ref().map(crate::values::sorted).serialize(serializer)
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
    /// The entry with its author.
    #[must_use]
    pub fn by(mut self, id: &str, version: &str) -> Self {
        self.buildpack = Some(BomBuildpack { id: id.to_owned(), version: version.to_owned() });
        self
    }

    /// The entry as labels and `sbom.legacy.json` have it: `metadata` is there, null if need be.
    pub fn to_json(&self) -> serde_json::Value {
        let mut json = serde_json::Map::new();
        json.insert("name".into(), self.name.clone().into());
        if !self.version.is_empty() {
            json.insert("version".into(), self.version.clone().into());
        }
        let metadata = self.metadata.as_ref().map(crate::values::table_to_json).unwrap_or_default();
        json.insert("metadata".into(), metadata);
        if let Some(BomBuildpack { id, version }) = &self.buildpack {
            json.insert("buildpack".into(), serde_json::json!({ "id": id, "version": version }));
        }
        json.into()
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
