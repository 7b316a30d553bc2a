//! The labels of an app image, as JSON documents with the reference's key order.

use crate::bom::KeptEntry;
use crate::doc::{DocError, Place};
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;

/// Name of the label with layer checksums and data.
pub const LIFECYCLE_METADATA: &str = "io.buildpacks.lifecycle.metadata";
/// Name of the label with processes and buildpacks.
pub const BUILD_METADATA: &str = "io.buildpacks.build.metadata";
/// Name of the label with the source of the app.
pub const PROJECT_METADATA: &str = "io.buildpacks.project.metadata";
/// Name of the label with the source alone, as an early draft of that feature spelled it.
pub const APP_SOURCE: &str = "io.buildpacks.app.source";
/// Name of the label with the execution environment (Platform API 0.15).
pub const EXEC_ENV: &str = "io.buildpacks.exec-env";
/// Name of the label that says whether the base may be replaced; anything but `false` means yes.
pub const REBASABLE: &str = "io.buildpacks.rebasable";
/// Name of the label with the stack of a base (before Platform API 0.12).
pub const STACK_ID: &str = "io.buildpacks.stack.id";
/// Name of the label with the mixins of a base, a JSON array (before Platform API 0.12).
pub const STACK_MIXINS: &str = "io.buildpacks.stack.mixins";
/// What the names of all labels of a stack start with.
pub const STACK_PREFIX: &str = "io.buildpacks.stack.";
/// What the names of all labels of a base start with.
pub const BASE_PREFIX: &str = "io.buildpacks.base.";
/// Name of the label with the identity of a base.
pub const BASE_ID: &str = "io.buildpacks.base.id";
/// Name of a builder's label with what it is made of.
pub const BUILDER_METADATA: &str = "io.buildpacks.builder.metadata";
/// Name of a builder's label with its order.
pub const BUILDER_ORDER: &str = "io.buildpacks.buildpack.order";
/// Buildpacks that the operator of a builder adds to every group.
pub const BUILDER_SYSTEM: &str = "io.buildpacks.buildpack.system";
/// Name of the label with the layers of the buildpacks in a builder or a buildpackage.
pub const BUILDPACK_LAYERS: &str = "io.buildpacks.buildpack.layers";
/// Name of the label with the layers of the image extensions in a builder or a package.
pub const EXTENSION_LAYERS: &str = "io.buildpacks.extension.layers";
/// Name of the label with the order of a builder's image extensions.
pub const BUILDER_ORDER_EXTENSIONS: &str = "io.buildpacks.buildpack.order-extensions";
/// Name of a buildpackage's label with its buildpack.
pub const BUILDPACKAGE_METADATA: &str = "io.buildpacks.buildpackage.metadata";
/// Name of the label with the distribution of a base.
pub const BASE_DISTRO_NAME: &str = "io.buildpacks.base.distro.name";
/// Name of the label with the version of the distribution of a base.
pub const BASE_DISTRO_VERSION: &str = "io.buildpacks.base.distro.version";

/// `io.buildpacks.lifecycle.metadata`. All checksums are diffIDs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LifecycleMetadata {
    /// App slices, in order.
    #[serde(deserialize_with = "null_is_default")]
    pub app: Vec<Sha>,
    /// The SBOM layer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sbom: Option<Sha>,
    /// Launch layers by buildpack.
    #[serde(deserialize_with = "null_is_default")]
    pub buildpacks: Vec<BuildpackLayers>,
    /// The configuration layer.
    #[serde(deserialize_with = "null_is_default")]
    pub config: Sha,
    /// The launcher layer.
    #[serde(deserialize_with = "null_is_default")]
    pub launcher: Sha,
    /// The layer of process links; an empty checksum when there are no processes.
    #[serde(deserialize_with = "null_is_default", rename = "process-types")]
    pub process_types: Sha,
    /// The base.
    #[serde(deserialize_with = "null_is_default", rename = "runImage")]
    pub run_image: RunImage,
    /// The base, in the words of older platforms.
    #[serde(deserialize_with = "null_is_default")]
    pub stack: Stack,
}

impl LifecycleMetadata {
    /// Parses the label. An empty one says nothing. Members that are unknown are skipped, those that are absent or
    /// null are empty.
    ///
    /// # Errors
    /// When the text is not JSON or a member has the wrong type.
    pub fn parse(text: &str) -> Result<Self, DocError> {
        if text.is_empty() { Ok(Self::default()) } else { from_json(text) }
    }
}

/// A checksum in a table of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sha {
    /// `sha256:…`, or empty.
    #[serde(deserialize_with = "null_is_default")]
    pub sha: String,
}

/// The launch layers of one buildpack.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BuildpackLayers {
    /// Buildpack id.
    #[serde(deserialize_with = "null_is_default")]
    pub key: String,
    /// Buildpack version.
    #[serde(deserialize_with = "null_is_default")]
    pub version: String,
    /// Layers by name.
    #[serde(deserialize_with = "null_is_default")]
    pub layers: BTreeMap<String, LayerEntry>,
    /// `store.toml`, when there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<StoreEntry>,
}

/// One layer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LayerEntry {
    /// diffID.
    #[serde(deserialize_with = "null_is_default")]
    pub sha: String,
    /// The `metadata` table of `<layer>.toml`, or null.
    #[serde(deserialize_with = "null_is_default")]
    pub data: serde_json::Value,
    /// Type flag.
    #[serde(deserialize_with = "null_is_default")]
    pub build: bool,
    /// Type flag.
    #[serde(deserialize_with = "null_is_default")]
    pub launch: bool,
    /// Type flag.
    #[serde(deserialize_with = "null_is_default")]
    pub cache: bool,
    /// The bill of materials of `<layer>.toml`, for the next build that restores it. Beyond the specification: other
    /// lifecycles pass over it.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub bom: Vec<KeptEntry>,
}

/// A buildpack's store.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StoreEntry {
    /// The `metadata` table of `store.toml`.
    #[serde(deserialize_with = "null_is_default")]
    pub metadata: serde_json::Value,
}

/// The base of an app image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunImage {
    /// diffID of the base's last layer: where rebase cuts.
    #[serde(deserialize_with = "null_is_default", rename = "topLayer")]
    pub top_layer: String,
    /// The base's exact identity.
    #[serde(deserialize_with = "null_is_default")]
    pub reference: String,
    /// The base's name.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "String::is_empty")]
    pub image: String,
    /// Other names of it.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub mirrors: Vec<String>,
}

/// The base, in the words of older platforms.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stack {
    /// Name and mirrors.
    #[serde(deserialize_with = "null_is_default", rename = "runImage")]
    pub run_image: StackRunImage,
}

/// Name and mirrors of a base.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StackRunImage {
    /// Name.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "String::is_empty")]
    pub image: String,
    /// Mirrors.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub mirrors: Vec<String>,
}

/// `io.buildpacks.build.metadata`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct BuildMetadata {
    /// The unstructured bill of materials: null without entries before Platform API 0.9, since then only when a layer
    /// has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bom: Option<serde_json::Value>,
    /// The group.
    #[serde(default)]
    pub buildpacks: Vec<BuildpackEntry>,
    /// The image extensions of the group.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extensions: Vec<BuildpackEntry>,
    /// The launcher that is in the image.
    #[serde(default)]
    pub launcher: Launcher,
    /// Process types.
    #[serde(default)]
    pub processes: Vec<ProcessEntry>,
    /// The default process type.
    #[serde(default, rename = "buildpack-default-process-type", skip_serializing_if = "String::is_empty")]
    pub default_process: String,
}

/// A buildpack of the group.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildpackEntry {
    /// Id.
    pub id: String,
    /// Version.
    pub version: String,
    /// Home page.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub homepage: String,
}

/// The launcher's identity.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launcher {
    /// Its version.
    #[serde(default)]
    pub version: String,
    /// Its source.
    #[serde(default)]
    pub source: LauncherSource,
}

/// The launcher's source.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LauncherSource {
    /// Git coordinates.
    #[serde(default)]
    pub git: Git,
}

/// Git coordinates.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Git {
    /// Repository.
    #[serde(default)]
    pub repository: String,
    /// Commit.
    #[serde(default)]
    pub commit: String,
}

/// A process type.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ProcessEntry {
    /// Type.
    #[serde(rename = "type")]
    pub kind: String,
    /// An array of strings, or one string before Platform API 0.10.
    pub command: serde_json::Value,
    /// Arguments, or null.
    pub args: Option<Vec<String>>,
    /// Whether it runs without a shell.
    pub direct: bool,
    /// The buildpack that defined it.
    #[serde(rename = "buildpackID")]
    pub buildpack_id: String,
    /// Working directory.
    #[serde(default, rename = "working-dir", skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// Execution environments.
    #[serde(default, rename = "exec-env", skip_serializing_if = "Vec::is_empty")]
    pub exec_env: Vec<String>,
}

/// Parses a JSON document.
///
/// # Errors
/// When the text is not JSON or a member has the wrong type.
pub fn from_json<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, DocError> {
    serde_json::from_str(text).map_err(|error| DocError {
        // Without the place, which the error carries on its own.
        message: error
            .to_string()
            .rsplit_once(" at line ")
            .map_or_else(|| error.to_string(), |m| m.0.to_owned()),
        place: Some(Place { line: error.line().max(1), column: error.column().max(1) }),
    })
}

/// Go writes an empty list or map as `null`.
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
    fn nulls_and_unknown_members_are_forgiven() {
        let text = r#"{"app":null,"buildpacks":[{"key":"a","version":null,"layers":null,"new":1},
            {"key":"b","version":"1","layers":{"x":{"sha":"s","data":null,"build":null,"launch":true}}}],
            "sbom":null,"config":null,"runImage":{"topLayer":"t","mirrors":null},"stack":null,"future":{"x":[]}}"#;
        let metadata = LifecycleMetadata::parse(text).unwrap();
        assert_eq!(metadata.run_image, RunImage { top_layer: "t".into(), ..RunImage::default() });
        assert_eq!(metadata.buildpacks.len(), 2);
        assert!(metadata.buildpacks[0].layers.is_empty());
        assert!(metadata.buildpacks[1].layers["x"].launch);
        for empty in ["", "{}", r#"{"app":null,"buildpacks":null,"stack":{"runImage":null}}"#] {
            assert_eq!(LifecycleMetadata::parse(empty).unwrap(), LifecycleMetadata::default(), "{empty}");
        }
    }

    #[test]
    fn what_is_no_label_is_refused_with_its_place() {
        for (text, line, column) in [("3", 1, 1), ("{\n\"app\":1}", 2, 7), ("{", 1, 1), ("nonsense", 1, 2)] {
            let error = LifecycleMetadata::parse(text).unwrap_err();
            assert_eq!(error.place, Some(Place { line, column }), "{text}: {error}");
            assert!(!error.message.contains(" at line "), "{error}");
        }
    }
}
