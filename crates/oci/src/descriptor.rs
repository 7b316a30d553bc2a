//! Descriptors: how one document names another blob.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::Digest;

/// A blob named by type, size and digest. Members are written in Go's order; unknown ones are kept, after the others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descriptor {
    /// What the bytes are.
    #[serde(rename = "mediaType", default, deserialize_with = "null_is_default")]
    pub media_type: String,
    /// How many bytes.
    pub size: u64,
    /// Their digest.
    pub digest: Digest,
    /// The bytes themselves in base 64, when they are carried along.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// Where else the bytes are found (foreign layers).
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub urls: Vec<String>,
    /// Free text by key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_default")]
    pub annotations: BTreeMap<String, String>,
    /// Where the image runs; only in an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// What kind of artifact the manifest describes; only in an index.
    #[serde(rename = "artifactType", default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// Members this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Descriptor {
    /// A descriptor with the three required members only.
    #[must_use]
    pub fn new(media_type: impl Into<String>, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.into(),
            size,
            digest,
            data: None,
            urls: Vec::new(),
            annotations: BTreeMap::new(),
            platform: None,
            artifact_type: None,
            other: Map::new(),
        }
    }

    /// The descriptor of `bytes`.
    #[must_use]
    pub fn of(media_type: impl Into<String>, bytes: &[u8]) -> Self {
        Self::new(media_type, Digest::of(bytes), bytes.len() as u64)
    }

    /// Whether `bytes` have the size and the digest named here.
    #[must_use]
    pub fn matches(&self, bytes: &[u8]) -> bool {
        self.size == bytes.len() as u64 && self.digest == Digest::of(bytes)
    }
}

/// The machine and system an image is for, in Go's words (`amd64`, `linux`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// `amd64`, `arm64`, …
    #[serde(default, deserialize_with = "null_is_default")]
    pub architecture: String,
    /// `linux`, …
    #[serde(default, deserialize_with = "null_is_default")]
    pub os: String,
    /// Version of the system; used by Windows.
    #[serde(rename = "os.version", default, skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// Features of the system; used by Windows.
    #[serde(
        rename = "os.features",
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_is_default"
    )]
    pub os_features: Vec<String>,
    /// Variant of the processor, `v8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// Members this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Platform {
    /// A system and an architecture, no variant.
    #[must_use]
    pub fn new(os: impl Into<String>, architecture: impl Into<String>) -> Self {
        Self { os: os.into(), architecture: architecture.into(), ..Self::default() }
    }

    /// Whether an image for `self` satisfies a request for `wanted`: same system and architecture, and the same variant
    /// if one is asked for.
    #[must_use]
    pub fn satisfies(&self, wanted: &Self) -> bool {
        self.os == wanted.os
            && self.architecture == wanted.architecture
            && (wanted.variant.is_none() || self.variant == wanted.variant)
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.iter().try_for_each(|variant| write!(f, "/{variant}"))
    }
}

/// Go writes an unset slice or map as `null`.
pub(crate) fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_come_out_in_gos_order_and_unknown_ones_survive() {
        let digest = Digest::of(b"");
        let text = format!(
            r#"{{"new":{{"b":1,"a":2}},"platform":{{"os":"linux","variant":"v8","architecture":"arm64"}},"urls":null,"annotations":{{"b":"1","a":"2"}},"digest":"{digest}","size":0,"artifactType":"t","mediaType":"m"}}"#
        );
        let descriptor: Descriptor = serde_json::from_str(&text).unwrap();
        assert_eq!(descriptor.platform.as_ref().unwrap().to_string(), "linux/arm64/v8");
        assert_eq!(
            serde_json::to_string(&descriptor).unwrap(),
            format!(
                r#"{{"mediaType":"m","size":0,"digest":"{digest}","annotations":{{"a":"2","b":"1"}},"platform":{{"architecture":"arm64","os":"linux","variant":"v8"}},"artifactType":"t","new":{{"b":1,"a":2}}}}"#
            )
        );
        assert!(descriptor.matches(b"") && !descriptor.matches(b"x"));
    }

    #[test]
    fn a_negative_size_or_a_bad_digest_is_refused() {
        let digest = Digest::of(b"");
        for bad in [
            format!(r#"{{"mediaType":"m","size":-1,"digest":"{digest}"}}"#),
            r#"{"mediaType":"m","size":1,"digest":"sha256:../../x"}"#.to_owned(),
            format!(r#"{{"mediaType":"m","digest":"{digest}"}}"#),
        ] {
            assert!(serde_json::from_str::<Descriptor>(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_variant_matters_only_when_asked_for() {
        let v8 = Platform { variant: Some("v8".to_owned()), ..Platform::new("linux", "arm64") };
        assert!(v8.satisfies(&Platform::new("linux", "arm64")));
        assert!(!Platform::new("linux", "arm64").satisfies(&v8));
        assert!(!v8.satisfies(&Platform::new("linux", "amd64")));
    }
}
