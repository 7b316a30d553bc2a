//! Manifests and indexes: parsed strictly, written by Go's rules, unknown members kept.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::descriptor::null_is_default;
use crate::media_type::{is_index, is_manifest};
use crate::{Descriptor, go_json, media_type};

/// Larger manifests and indexes are refused; registries agree on this limit.
pub const MAX_MANIFEST_SIZE: u64 = 4 * 1024 * 1024;

/// Why bytes are not a manifest or an index.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// More bytes than [`MAX_MANIFEST_SIZE`].
    #[error("cannot parse manifest: {0} bytes are more than the {MAX_MANIFEST_SIZE} allowed")]
    TooLarge(u64),
    /// Not JSON, or not of the right shape.
    #[error("cannot parse manifest")]
    Json(#[source] serde_json::Error),
    /// `schemaVersion` is absent or another number.
    #[error("cannot parse manifest: schemaVersion is {0}, only 2 is supported")]
    SchemaVersion(Value),
    /// Could be read as an image and as an index.
    #[error("cannot parse manifest: it has both manifests and {0}, so it is ambiguous")]
    Ambiguous(&'static str),
    /// The type inside differs from the type it was announced as.
    #[error("cannot parse manifest: it calls itself {found:?} and was expected to be {expected:?}")]
    MediaType {
        /// The `mediaType` member.
        found: String,
        /// The type of the descriptor or of the response header.
        expected: String,
    },
    /// Of a type that is neither manifest nor index.
    #[error("cannot parse manifest: media type {0:?} is not supported")]
    Unsupported(String),
}

/// The manifest of one image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    #[serde(rename = "schemaVersion")]
    pub(crate) schema_version: u8,
    /// Docker or OCI; filled in when the document leaves it out.
    #[serde(rename = "mediaType", default)]
    pub media_type: String,
    /// The configuration.
    pub config: Descriptor,
    /// The layers, lowest first.
    #[serde(deserialize_with = "null_is_default")]
    pub layers: Vec<Descriptor>,
    /// Free text by key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_default")]
    pub annotations: BTreeMap<String, String>,
    /// What this manifest refers to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// What kind of artifact this is, if it is none of an image.
    #[serde(rename = "artifactType", default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// Members this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// A list of manifests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    #[serde(rename = "schemaVersion")]
    pub(crate) schema_version: u8,
    /// Docker or OCI; may be empty, as in the `index.json` of many layouts.
    #[serde(rename = "mediaType", default, skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    /// What is listed, in order.
    #[serde(deserialize_with = "null_is_default")]
    pub manifests: Vec<Descriptor>,
    /// Free text by key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_default")]
    pub annotations: BTreeMap<String, String>,
    /// What this index refers to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// What kind of artifact this is.
    #[serde(rename = "artifactType", default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// Members this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// Either of the documents a reference may lead to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Document {
    /// One image.
    Manifest(Box<Manifest>),
    /// Several.
    Index(Box<Index>),
}

impl Document {
    /// Parses a manifest or an index. `expected` is the type it was announced as, if it was.
    ///
    /// # Errors
    ///
    /// When the bytes are neither, or not what was announced.
    pub fn parse(bytes: &[u8], expected: Option<&str>) -> Result<Self, ManifestError> {
        if bytes.len() as u64 > MAX_MANIFEST_SIZE {
            return Err(ManifestError::TooLarge(bytes.len() as u64));
        }
        let value: Value = serde_json::from_slice(bytes).map_err(ManifestError::Json)?;
        let media_type = media_type_of(&value, expected)?;
        if is_index(&media_type) {
            let index: Index = serde_json::from_slice(bytes).map_err(ManifestError::Json)?;
            Ok(Self::Index(Box::new(index)))
        } else {
            let mut manifest: Manifest = serde_json::from_slice(bytes).map_err(ManifestError::Json)?;
            manifest.media_type = media_type;
            Ok(Self::Manifest(Box::new(manifest)))
        }
    }
}

/// Decides what a document is, and refuses one that could be two things (GHSA-xmmx-7jpf-fx42).
fn media_type_of(value: &Value, expected: Option<&str>) -> Result<String, ManifestError> {
    match value.get("schemaVersion") {
        Some(version) if version.as_u64() == Some(2) => {}
        version => return Err(ManifestError::SchemaVersion(version.cloned().unwrap_or_default())),
    }
    if value.get("manifests").is_some() {
        for member in ["layers", "config", "fsLayers"] {
            if value.get(member).is_some() {
                return Err(ManifestError::Ambiguous(member));
            }
        }
    }
    let found = value.get("mediaType").and_then(Value::as_str).filter(|found| !found.is_empty());
    // A generic type announces nothing.
    let expected = expected.filter(|expected| !expected.is_empty() && *expected != "application/json");
    match (found, expected) {
        (Some(found), Some(expected)) if found != expected => {
            Err(ManifestError::MediaType { found: found.to_owned(), expected: expected.to_owned() })
        }
        (Some(known), _) | (None, Some(known)) if is_index(known) || is_manifest(known) => {
            Ok(known.to_owned())
        }
        (Some(unknown), _) | (None, Some(unknown)) => Err(ManifestError::Unsupported(unknown.to_owned())),
        (None, None) if value.get("manifests").is_some() => Ok(media_type::OCI_INDEX.to_owned()),
        (None, None) => Ok(media_type::OCI_MANIFEST.to_owned()),
    }
}

impl Manifest {
    /// A manifest of the given type without layers.
    #[must_use]
    pub fn new(media_type: impl Into<String>, config: Descriptor) -> Self {
        Self {
            schema_version: 2,
            media_type: media_type.into(),
            config,
            layers: Vec::new(),
            annotations: BTreeMap::new(),
            subject: None,
            artifact_type: None,
            other: Map::new(),
        }
    }

    /// Parses the manifest of one image.
    ///
    /// # Errors
    ///
    /// As [`Document::parse`]; also for an index.
    pub fn parse(bytes: &[u8], expected: Option<&str>) -> Result<Self, ManifestError> {
        match Document::parse(bytes, expected)? {
            Document::Manifest(manifest) => Ok(*manifest),
            Document::Index(_) => Err(ManifestError::MediaType {
                found: "an index".to_owned(),
                expected: "the manifest of one image".to_owned(),
            }),
        }
    }

    /// The document, by Go's rules.
    ///
    /// # Errors
    ///
    /// Never in practice: every member has a JSON form.
    pub fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        Ok(go_json::to_string(&serde_json::to_value(self)?).into_bytes())
    }
}

impl Default for Index {
    fn default() -> Self {
        Self {
            schema_version: 2,
            media_type: media_type::OCI_INDEX.to_owned(),
            manifests: Vec::new(),
            annotations: BTreeMap::new(),
            subject: None,
            artifact_type: None,
            other: Map::new(),
        }
    }
}

impl Index {
    /// Parses a list of manifests.
    ///
    /// # Errors
    ///
    /// As [`Document::parse`]; also for the manifest of one image.
    pub fn parse(bytes: &[u8], expected: Option<&str>) -> Result<Self, ManifestError> {
        match Document::parse(bytes, expected)? {
            Document::Index(index) => Ok(*index),
            Document::Manifest(_) => Err(ManifestError::MediaType {
                found: "the manifest of one image".to_owned(),
                expected: "an index".to_owned(),
            }),
        }
    }

    /// The document, by Go's rules.
    ///
    /// # Errors
    ///
    /// Never in practice: every member has a JSON form.
    pub fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        Ok(go_json::to_string(&serde_json::to_value(self)?).into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Digest;
    use crate::media_type::{DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST};

    fn descriptor() -> String {
        format!(r#"{{"mediaType":"m","size":0,"digest":"{}"}}"#, Digest::of(b""))
    }

    #[test]
    fn a_document_that_could_be_two_things_is_refused() {
        let d = descriptor();
        for (text, expected, problem) in [
            (format!(r#"{{"schemaVersion":2,"manifests":[],"layers":[],"config":{d}}}"#), None, "ambiguous"),
            (r#"{"schemaVersion":2,"manifests":[],"layers":null}"#.to_owned(), None, "ambiguous"),
            (format!(r#"{{"schemaVersion":2,"manifests":[],"config":{d}}}"#), None, "ambiguous"),
            (r#"{"schemaVersion":1,"manifests":[]}"#.to_owned(), None, "schemaVersion is 1"),
            (r#"{"manifests":[]}"#.to_owned(), None, "schemaVersion is null"),
            (
                format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[]}}"#),
                Some(OCI_MANIFEST),
                "calls itself",
            ),
            (
                format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","layers":[],"config":{d}}}"#),
                None,
                "cannot parse manifest",
            ),
            (r#"{"schemaVersion":2,"mediaType":"text/x"}"#.to_owned(), None, "\"text/x\" is not supported"),
            ("[]".to_owned(), None, "schemaVersion"),
            ("{".to_owned(), None, "cannot parse"),
        ] {
            let error = Document::parse(text.as_bytes(), expected).expect_err(&text);
            assert!(error.to_string().contains(problem), "{text}: {error}");
        }
        let large = vec![b' '; MAX_MANIFEST_SIZE as usize + 1];
        assert!(matches!(Document::parse(&large, None), Err(ManifestError::TooLarge(_))));
    }

    #[test]
    fn unknown_members_survive_and_the_order_is_gos() {
        let d = descriptor();
        let text = format!(
            r#"{{"future":[1],"annotations":{{"b":"<","a":""}},"layers":[{d}],"config":{d},"schemaVersion":2}}"#
        );
        let manifest = Manifest::parse(text.as_bytes(), Some(DOCKER_MANIFEST)).unwrap();
        assert_eq!(
            String::from_utf8(manifest.encode().unwrap()).unwrap(),
            format!(
                r#"{{"schemaVersion":2,"mediaType":"{DOCKER_MANIFEST}","config":{d},"layers":[{d}],"annotations":{{"a":"","b":"\u003c"}},"future":[1]}}"#
            )
        );
        let text = format!(r#"{{"x":1,"manifests":[{d}],"schemaVersion":2}}"#);
        let index = Index::parse(text.as_bytes(), None).unwrap();
        assert_eq!(
            String::from_utf8(index.encode().unwrap()).unwrap(),
            format!(r#"{{"schemaVersion":2,"manifests":[{d}],"x":1}}"#)
        );
        assert!(Manifest::parse(text.as_bytes(), None).is_err());
    }
}
