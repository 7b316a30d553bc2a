//! The metadata of a cache: which layers it holds for which buildpack. No specification defines it; it is that of the
//! reference lifecycle, so that a cache that was filled by one is used by the other.

use crate::doc::DocError;
use crate::labels::{BuildpackLayers, LayerEntry, Sha, from_json};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What a cache holds. All checksums are diffIDs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CacheMetadata {
    /// The layer of the buildpacks' SBOM files of cached layers; an empty checksum when there is none.
    #[serde(deserialize_with = "crate::labels::null_is_default")]
    pub sbom: Sha,
    /// Cached layers by buildpack.
    #[serde(deserialize_with = "crate::labels::null_is_default")]
    pub buildpacks: Vec<BuildpackLayers>,
}

impl CacheMetadata {
    /// Parses the metadata. Whoever gets an error has an empty cache.
    ///
    /// # Errors
    /// When the text is not JSON or a member has the wrong type.
    pub fn parse(text: &str) -> Result<Self, DocError> {
        from_json(text)
    }

    /// The document in the order of the reference, which writes an empty list of buildpacks as null.
    ///
    /// # Errors
    /// Never in practice: every member has a JSON form.
    pub fn to_json(&self) -> Result<Value, serde_json::Error> {
        let buildpacks = match self.buildpacks.as_slice() {
            [] => Value::Null,
            buildpacks => serde_json::to_value(buildpacks)?,
        };
        Ok(json!({ "sbom": serde_json::to_value(&self.sbom)?, "buildpacks": buildpacks }))
    }

    /// What is known of a layer of a buildpack, whatever its version.
    pub fn layer(&self, buildpack: &str, layer: &str) -> Option<&LayerEntry> {
        self.buildpacks.iter().find(|entry| entry.key == buildpack)?.layers.get(layer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"{"sbom":{"sha":"sha256:1"},"buildpacks":[{"key":"a/b","version":"1","layers":{"x":{"sha":"sha256:2","data":{"n":1},"build":true,"launch":false,"cache":true}}}]}"#;

    #[test]
    fn a_document_of_the_reference_reads_and_is_written_alike() {
        let metadata = CacheMetadata::parse(&format!("{TEXT}\n")).unwrap();
        assert_eq!(metadata.layer("a/b", "x").unwrap().sha, "sha256:2");
        assert_eq!(metadata.layer("a/b", "y"), None);
        assert_eq!(metadata.layer("a", "x"), None);
        assert_eq!(metadata.to_json().unwrap().to_string(), TEXT);
    }

    #[test]
    fn an_empty_cache_has_null_for_buildpacks() {
        let text = r#"{"sbom":{"sha":""},"buildpacks":null}"#;
        assert_eq!(CacheMetadata::default().to_json().unwrap().to_string(), text);
        assert_eq!(CacheMetadata::parse(text).unwrap(), CacheMetadata::default());
        assert_eq!(CacheMetadata::parse("{}").unwrap(), CacheMetadata::default());
    }

    #[test]
    fn what_cannot_be_understood_is_an_error() {
        for bad in ["", "{", "3", r#"{"buildpacks":{}}"#, r#"{"sbom":{"sha":1}}"#] {
            assert!(CacheMetadata::parse(bad).is_err(), "{bad}");
        }
    }
}
