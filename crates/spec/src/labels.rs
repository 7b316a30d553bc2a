//! The labels of an app image, as JSON documents with the reference's key order.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Name of the label with layer checksums and data.
pub const LIFECYCLE_METADATA: &str = "io.buildpacks.lifecycle.metadata";
/// Name of the label with processes and buildpacks.
pub const BUILD_METADATA: &str = "io.buildpacks.build.metadata";
/// Name of the label with the source of the app.
pub const PROJECT_METADATA: &str = "io.buildpacks.project.metadata";
/// Name of the label with the execution environment (Platform API 0.15).
pub const EXEC_ENV: &str = "io.buildpacks.exec-env";

/// `io.buildpacks.lifecycle.metadata`. All checksums are diffIDs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LifecycleMetadata {
    /// App slices, in order.
    #[serde(default)]
    pub app: Vec<Sha>,
    /// The SBOM layer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sbom: Option<Sha>,
    /// Launch layers by buildpack.
    #[serde(default)]
    pub buildpacks: Vec<BuildpackLayers>,
    /// The configuration layer.
    #[serde(default)]
    pub config: Sha,
    /// The launcher layer.
    #[serde(default)]
    pub launcher: Sha,
    /// The layer of process links; an empty checksum when there are no processes.
    #[serde(default, rename = "process-types")]
    pub process_types: Sha,
    /// The base.
    #[serde(default, rename = "runImage")]
    pub run_image: RunImage,
    /// The base, in the words of older platforms.
    #[serde(default)]
    pub stack: Stack,
}

/// A checksum in a table of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sha {
    /// `sha256:…`, or empty.
    #[serde(default)]
    pub sha: String,
}

/// The launch layers of one buildpack.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct BuildpackLayers {
    /// Buildpack id.
    pub key: String,
    /// Buildpack version.
    pub version: String,
    /// Layers by name.
    pub layers: BTreeMap<String, LayerEntry>,
    /// `store.toml`, when there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<StoreEntry>,
}

/// One layer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LayerEntry {
    /// diffID.
    pub sha: String,
    /// The `metadata` table of `<layer>.toml`, or null.
    pub data: serde_json::Value,
    /// Type flag.
    pub build: bool,
    /// Type flag.
    pub launch: bool,
    /// Type flag.
    pub cache: bool,
}

/// A buildpack's store.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StoreEntry {
    /// The `metadata` table of `store.toml`.
    pub metadata: serde_json::Value,
}

/// The base of an app image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunImage {
    /// diffID of the base's last layer: where rebase cuts.
    #[serde(default, rename = "topLayer")]
    pub top_layer: String,
    /// The base's exact identity.
    #[serde(default)]
    pub reference: String,
    /// The base's name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub image: String,
    /// Other names of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mirrors: Vec<String>,
}

/// The base, in the words of older platforms.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stack {
    /// Name and mirrors.
    #[serde(default, rename = "runImage")]
    pub run_image: StackRunImage,
}

/// Name and mirrors of a base.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StackRunImage {
    /// Name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub image: String,
    /// Mirrors.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mirrors: Vec<String>,
}

/// `io.buildpacks.build.metadata`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct BuildMetadata {
    /// The unstructured bill of materials, null without entries; before Platform API 0.9 only.
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
