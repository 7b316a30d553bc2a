//! `analyzed.toml`: what is known of the previous image and of the run image
//! (platform specification, "analyzed.toml").

use crate::bom::{self, BomEntry};
use crate::doc::{DocError, from_toml};
use crate::labels::{self, BuildpackLayers, LayerEntry, LifecycleMetadata, Sha, StoreEntry};
use crate::{toml_writer, values};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// `analyzed.toml`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Analyzed {
    /// Identifies the previous image; empty when there is none, absent when nobody looked.
    pub image: Option<ImageIdentifier>,
    /// Identifies the build image, when it is to be extended.
    pub build_image: Option<ImageIdentifier>,
    /// The previous image's `io.buildpacks.lifecycle.metadata`.
    pub metadata: LifecycleMetadata,
    /// The run image.
    pub run_image: Option<RunImage>,
}

/// Identifies an image exactly: a reference with a digest, an image id of a daemon, or `<path>@<digest>` of a layout.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageIdentifier {
    /// The identifier.
    #[serde(default)]
    pub reference: String,
}

/// The run image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunImage {
    /// Identifies it exactly; empty when it was not found.
    #[serde(default)]
    pub reference: String,
    /// Its name as given (Platform API 0.12).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub image: String,
    /// Whether extensions extend it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub extend: bool,
    /// What it is for (Platform API 0.12).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
}

/// `[run-image.target]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// The label `io.buildpacks.base.id`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// Operating system.
    #[serde(default)]
    pub os: String,
    /// Architecture.
    #[serde(default)]
    pub arch: String,
    /// Architecture variant. The reference writes `arch-variant`, the specification says `variant`.
    #[serde(default, rename = "arch-variant", alias = "variant", skip_serializing_if = "String::is_empty")]
    pub variant: String,
    /// Distribution.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distro: Option<Distro>,
}

/// `[run-image.target.distro]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Distro {
    /// The label `io.buildpacks.base.distro.name`.
    #[serde(default)]
    pub name: String,
    /// The label `io.buildpacks.base.distro.version`.
    #[serde(default)]
    pub version: String,
}

impl Analyzed {
    /// Parses `analyzed.toml`.
    ///
    /// # Errors
    /// When the text is not TOML or a key has the wrong type.
    pub fn parse(text: &str) -> Result<Self, DocError> {
        let raw: Raw = from_toml(text)?;
        Ok(Self {
            image: raw.image,
            build_image: raw.build_image,
            metadata: raw.metadata.into(),
            run_image: raw.run_image,
        })
    }

    /// The document as the lifecycle writes it.
    pub fn to_toml(&self) -> String {
        toml_writer::to_string(&Raw {
            image: self.image.clone(),
            build_image: self.build_image.clone(),
            metadata: (&self.metadata).into(),
            run_image: self.run_image.clone(),
        })
    }

    /// The previous image's identifier, if there is one.
    pub fn previous_image(&self) -> Option<&str> {
        self.image.as_ref().map(|image| image.reference.as_str()).filter(|reference| !reference.is_empty())
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Raw {
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<ImageIdentifier>,
    #[serde(skip_serializing_if = "Option::is_none")]
    build_image: Option<ImageIdentifier>,
    #[serde(default)]
    metadata: RawMetadata,
    #[serde(skip_serializing_if = "Option::is_none")]
    run_image: Option<RunImage>,
}

/// The label's members under their names in TOML.
#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct RawMetadata {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    app: Vec<Sha>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sbom: Option<Sha>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    buildpacks: Vec<RawBuildpack>,
    config: Sha,
    launcher: Sha,
    process_types: Sha,
    run_image: RawRunImage,
    #[serde(skip_serializing_if = "Option::is_none")]
    stack: Option<RawStack>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct RawBuildpack {
    key: String,
    version: String,
    layers: BTreeMap<String, RawLayer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    store: Option<RawStore>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct RawLayer {
    sha: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<toml::Value>,
    build: bool,
    launch: bool,
    cache: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    bom: Vec<BomEntry>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct RawStore {
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<toml::Value>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct RawRunImage {
    top_layer: String,
    reference: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    image: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    mirrors: Vec<String>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct RawStack {
    run_image: labels::StackRunImage,
}

impl From<RawMetadata> for LifecycleMetadata {
    fn from(raw: RawMetadata) -> Self {
        let RawRunImage { top_layer, reference, image, mirrors } = raw.run_image;
        Self {
            app: raw.app,
            sbom: raw.sbom,
            buildpacks: raw.buildpacks.into_iter().map(Into::into).collect(),
            config: raw.config,
            launcher: raw.launcher,
            process_types: raw.process_types,
            run_image: labels::RunImage { top_layer, reference, image, mirrors },
            stack: labels::Stack { run_image: raw.stack.unwrap_or_default().run_image },
        }
    }
}

impl From<&LifecycleMetadata> for RawMetadata {
    fn from(label: &LifecycleMetadata) -> Self {
        let labels::RunImage { top_layer, reference, image, mirrors } = label.run_image.clone();
        let stack = Some(RawStack { run_image: label.stack.run_image.clone() });
        Self {
            app: label.app.clone(),
            sbom: label.sbom.clone(),
            buildpacks: label.buildpacks.iter().map(Into::into).collect(),
            config: label.config.clone(),
            launcher: label.launcher.clone(),
            process_types: label.process_types.clone(),
            run_image: RawRunImage { top_layer, reference, image, mirrors },
            stack: stack.filter(|_| *label != LifecycleMetadata::default()),
        }
    }
}

impl From<RawBuildpack> for BuildpackLayers {
    fn from(raw: RawBuildpack) -> Self {
        let json = |value: Option<toml::Value>| value.as_ref().map(values::to_json).unwrap_or_default();
        let layer = |raw: RawLayer| LayerEntry {
            sha: raw.sha,
            data: json(raw.metadata),
            build: raw.build,
            launch: raw.launch,
            cache: raw.cache,
            bom: bom::keep(&raw.bom),
        };
        Self {
            key: raw.key,
            version: raw.version,
            layers: raw.layers.into_iter().map(|(name, raw)| (name, layer(raw))).collect(),
            store: raw.store.map(|store| StoreEntry { metadata: json(store.metadata) }),
        }
    }
}

impl From<&BuildpackLayers> for RawBuildpack {
    fn from(label: &BuildpackLayers) -> Self {
        let layer = |entry: &LayerEntry| RawLayer {
            sha: entry.sha.clone(),
            metadata: values::to_toml(&entry.data),
            build: entry.build,
            launch: entry.launch,
            cache: entry.cache,
            bom: entry.bom.iter().map(BomEntry::from).collect(),
        };
        Self {
            key: label.key.clone(),
            version: label.version.clone(),
            layers: label.layers.iter().map(|(name, entry)| (name.clone(), layer(entry))).collect(),
            store: label.store.as_ref().map(|store| RawStore { metadata: values::to_toml(&store.metadata) }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_label_survives_the_way_through_toml() {
        let json = r#"{"app":[{"sha":"sha256:a"}],"sbom":{"sha":"sha256:s"},"buildpacks":[{"key":"a/b","version":"1",
            "layers":{"x":{"sha":"sha256:x","data":{"n":1,"f":1.5},"build":true,"launch":true,"cache":false},
            "y":{"sha":"sha256:y","data":null,"build":false,"launch":true,"cache":false,
            "bom":[{"name":"j","metadata":{"n":1}},{"name":"k"}]}},
            "store":{"metadata":{"k":"v"}}}],"config":{"sha":"sha256:c"},"launcher":{"sha":"sha256:l"},
            "process-types":{"sha":""},"runImage":{"topLayer":"sha256:t","reference":"r","image":"i","mirrors":["m"]},
            "stack":{"runImage":{"image":"i"}}}"#;
        let written = Analyzed {
            image: Some(ImageIdentifier { reference: "app@sha256:0".into() }),
            metadata: serde_json::from_str(json).unwrap(),
            run_image: Some(RunImage {
                reference: "run@sha256:1".into(),
                target: Some(Target { os: "linux".into(), arch: "amd64".into(), ..Target::default() }),
                ..RunImage::default()
            }),
            ..Analyzed::default()
        };
        let text = written.to_toml();
        assert!(text.contains("[metadata.buildpacks.layers.x.metadata]"), "{text}");
        assert_eq!(Analyzed::parse(&text).unwrap(), written);
    }

    #[test]
    fn an_empty_document_says_that_nobody_looked() {
        let analyzed = Analyzed::parse("").unwrap();
        assert_eq!(analyzed, Analyzed::default());
        assert_eq!(analyzed.previous_image(), None);
    }
}
