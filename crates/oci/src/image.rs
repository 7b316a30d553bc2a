//! An image as a value: read from two documents, changed, written as two documents.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::media_type::{Family, is_config, is_layer};
use crate::{ConfigError, Descriptor, Digest, History, ImageConfig, Manifest, ManifestError, Platform};

/// Why documents are not an image, or an image is not fit to be written.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The manifest cannot be read.
    #[error("cannot read image")]
    Manifest(#[from] ManifestError),
    /// The configuration cannot be read.
    #[error("cannot read image")]
    Config(#[from] ConfigError),
    /// The manifest cannot be written.
    #[error("cannot write manifest")]
    Encode(#[source] serde_json::Error),
    /// The configuration is not the one the manifest names.
    #[error(
        "cannot read image: its configuration has digest {found} and {found_size} bytes, \
         the manifest names {expected} and {expected_size}"
    )]
    ConfigMismatch {
        /// Digest in the manifest.
        expected: Digest,
        /// Size in the manifest.
        expected_size: u64,
        /// Digest of the bytes.
        found: Digest,
        /// Number of bytes.
        found_size: u64,
    },
    /// Something else than an image: a chart, a signature, ….
    #[error("cannot read image: its configuration is of type {0:?}, so it is no container image")]
    NotAnImage(String),
    /// A layer of a type that is no layer.
    #[error("layer {digest} is of type {media_type:?}, which is no layer")]
    LayerType {
        /// The layer.
        digest: Digest,
        /// Its type.
        media_type: String,
    },
    /// Manifest and configuration count differently.
    #[error("the manifest has {layers} layers and the configuration {diff_ids} diff ids")]
    LayerCount {
        /// In the manifest.
        layers: usize,
        /// In the configuration.
        diff_ids: usize,
    },
    /// A member an image must have is empty.
    #[error("the image has no {0}")]
    Missing(&'static str),
}

/// A layer of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// The blob.
    pub descriptor: Descriptor,
    /// Digest of the unpacked tar.
    pub diff_id: Digest,
    /// How it came to be, if known.
    pub history: Option<History>,
}

/// An image: what its manifest and its configuration say, kept in step.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    family: Family,
    config_media_type: String,
    annotations: BTreeMap<String, String>,
    subject: Option<Descriptor>,
    artifact_type: Option<String>,
    other: Map<String, Value>,
    config: ImageConfig,
    layers: Vec<Layer>,
    /// History entries without a layer, with the number of layers below.
    empty_history: Vec<(usize, History)>,
}

/// The two documents of an image, ready to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// Type of the manifest.
    pub media_type: String,
    /// The manifest.
    pub manifest: Vec<u8>,
    /// Digest of the manifest: the identity of the image.
    pub manifest_digest: Digest,
    /// The configuration.
    pub config: Vec<u8>,
    /// Digest of the configuration: the image id of a Docker daemon.
    pub config_digest: Digest,
    /// The configuration, as the manifest names it.
    pub config_descriptor: Descriptor,
    /// The layers, as the manifest names them.
    pub layers: Vec<Descriptor>,
    /// What the image runs on.
    pub platform: Platform,
}

impl Encoded {
    /// The manifest, as an index names it; without platform.
    #[must_use]
    pub fn manifest_descriptor(&self) -> Descriptor {
        Descriptor::new(self.media_type.clone(), self.manifest_digest, self.manifest.len() as u64)
    }
}

impl Image {
    /// An OCI image without layers.
    #[must_use]
    pub fn empty(os: &str, architecture: &str) -> Self {
        Self {
            family: Family::Oci,
            config_media_type: Family::Oci.config().to_owned(),
            annotations: BTreeMap::new(),
            subject: None,
            artifact_type: None,
            other: Map::new(),
            config: ImageConfig::new(os, architecture),
            layers: Vec::new(),
            empty_history: Vec::new(),
        }
    }

    /// Reads an image from its two documents.
    ///
    /// A history whose entries do not fit the layers is dropped, as nothing can be said about who made what.
    ///
    /// # Errors
    ///
    /// When a document is malformed, the configuration is not the one the manifest names, or the two disagree on the
    /// number of layers.
    pub fn from_parts(manifest: &[u8], config: &[u8]) -> Result<Self, ImageError> {
        let manifest = Manifest::parse(manifest, None)?;
        if !is_config(&manifest.config.media_type) {
            return Err(ImageError::NotAnImage(manifest.config.media_type));
        }
        if !manifest.config.matches(config) {
            return Err(ImageError::ConfigMismatch {
                expected: manifest.config.digest,
                expected_size: manifest.config.size,
                found: Digest::of(config),
                found_size: config.len() as u64,
            });
        }
        let config = ImageConfig::parse(config)?;
        let diff_ids = config.diff_ids();
        if manifest.layers.len() != diff_ids.len() {
            return Err(ImageError::LayerCount { layers: manifest.layers.len(), diff_ids: diff_ids.len() });
        }
        let (mut histories, empty_history) = split_history(config.history(), diff_ids.len());
        histories.resize(diff_ids.len(), None);
        let layers = manifest.layers.into_iter().zip(diff_ids).zip(histories);
        let mut image = Self {
            family: Family::of(&manifest.media_type).unwrap_or(Family::Oci),
            config_media_type: manifest.config.media_type,
            annotations: manifest.annotations,
            subject: manifest.subject,
            artifact_type: manifest.artifact_type,
            other: manifest.other,
            config,
            layers: layers
                .map(|((descriptor, diff_id), history)| Layer { descriptor, diff_id, history })
                .collect(),
            empty_history,
        };
        image.sync();
        validate_layers(&image)?;
        Ok(image)
    }

    /// Type of the manifest.
    #[must_use]
    pub fn media_type(&self) -> &'static str {
        self.family.manifest()
    }

    /// Type of the configuration.
    #[must_use]
    pub fn config_media_type(&self) -> &str {
        &self.config_media_type
    }

    /// OCI or Docker.
    #[must_use]
    pub fn family(&self) -> Family {
        self.family
    }

    /// The type new layers have in this image: gzip, of the manifest's family.
    #[must_use]
    pub fn layer_media_type(&self) -> &'static str {
        self.family.layer_gzip()
    }

    /// The annotations of the manifest.
    #[must_use]
    pub fn annotations(&self) -> &BTreeMap<String, String> {
        &self.annotations
    }

    /// The annotations of the manifest, to be changed.
    pub fn annotations_mut(&mut self) -> &mut BTreeMap<String, String> {
        &mut self.annotations
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &ImageConfig {
        &self.config
    }

    /// The configuration, to be changed. Layers and history are changed through the image.
    pub fn config_mut(&mut self) -> &mut ImageConfig {
        &mut self.config
    }

    /// The image with its configuration changed by `change`.
    #[must_use]
    pub fn with_config(mut self, change: impl FnOnce(&mut ImageConfig)) -> Self {
        change(&mut self.config);
        self
    }

    /// The layers, lowest first.
    #[must_use]
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// Puts a layer on top.
    pub fn append(&mut self, layer: Layer) {
        self.layers.push(layer);
        self.sync();
    }

    /// Replaces all layers; history entries without a layer are forgotten.
    pub fn set_layers(&mut self, layers: Vec<Layer>) {
        self.layers = layers;
        self.empty_history.clear();
        self.sync();
    }

    /// Keeps what is known about each layer, forgets entries without a layer, and dates everything `created`
    /// (RFC 3339), the image itself included.
    pub fn normalise_history(&mut self, created: &str) {
        self.empty_history.clear();
        for layer in &mut self.layers {
            let history = layer.history.get_or_insert_default();
            history.created = Some(created.to_owned());
        }
        self.config.set_created(created);
        self.sync();
    }

    /// As [`normalise_history`](Self::normalise_history), and forgets everything but the date.
    pub fn blank_history(&mut self, created: &str) {
        for layer in &mut self.layers {
            layer.history = None;
        }
        self.normalise_history(created);
    }

    /// Writes the two documents.
    ///
    /// # Errors
    ///
    /// Never in practice: every member has a JSON form.
    pub fn encode(&self) -> Result<Encoded, ImageError> {
        let config = self.config.encode();
        let config_descriptor = Descriptor::of(self.config_media_type.clone(), &config);
        let layers: Vec<Descriptor> = self.layers.iter().map(|layer| layer.descriptor.clone()).collect();
        let manifest = Manifest {
            layers: layers.clone(),
            annotations: self.annotations.clone(),
            subject: self.subject.clone(),
            artifact_type: self.artifact_type.clone(),
            other: self.other.clone(),
            ..Manifest::new(self.media_type(), config_descriptor.clone())
        };
        let manifest = manifest.encode().map_err(ImageError::Encode)?;
        Ok(Encoded {
            media_type: self.media_type().to_owned(),
            manifest_digest: Digest::of(&manifest),
            manifest,
            config_digest: config_descriptor.digest,
            config,
            config_descriptor,
            layers,
            platform: self.config.platform(),
        })
    }

    /// Writes layers and history into the configuration.
    fn sync(&mut self) {
        let ids: Vec<Digest> = self.layers.iter().map(|layer| layer.diff_id).collect();
        self.config.set_diff_ids(&ids);
        let is_known = self.layers.iter().any(|layer| layer.history.is_some());
        let mut entries = Vec::new();
        let mut empties = self.empty_history.iter().peekable();
        for below in 0..=self.layers.len() {
            while let Some((_, entry)) = empties.next_if(|(at, _)| *at == below) {
                entries.push(entry.clone());
            }
            if is_known && let Some(layer) = self.layers.get(below) {
                entries.push(layer.history.clone().unwrap_or_default());
            }
        }
        self.config.set_history(&entries);
    }
}

/// Assigns history entries to layers: one per layer or none at all, and those without a layer apart.
fn split_history(history: Vec<History>, layers: usize) -> (Vec<Option<History>>, Vec<(usize, History)>) {
    let (mut of_layers, mut empty) = (Vec::new(), Vec::new());
    for entry in history {
        if entry.empty_layer {
            empty.push((of_layers.len(), entry));
        } else {
            of_layers.push(Some(entry));
        }
    }
    if of_layers.len() == layers { (of_layers, empty) } else { (Vec::new(), Vec::new()) }
}

/// Whether the image may be written: every layer is one, system and architecture are known, and what is written reads
/// back.
///
/// # Errors
///
/// What is wrong first.
pub fn validate(image: &Image) -> Result<(), ImageError> {
    validate_layers(image)?;
    for (value, name) in [(image.config.os(), "os"), (image.config.architecture(), "architecture")] {
        if value.is_empty() {
            return Err(ImageError::Missing(name));
        }
    }
    let encoded = image.encode()?;
    Image::from_parts(&encoded.manifest, &encoded.config).map(drop)
}

fn validate_layers(image: &Image) -> Result<(), ImageError> {
    match image.layers.iter().find(|layer| !is_layer(&layer.descriptor.media_type)) {
        Some(Layer { descriptor, .. }) => Err(ImageError::LayerType {
            digest: descriptor.digest,
            media_type: descriptor.media_type.clone(),
        }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media_type::{DOCKER_CONFIG, DOCKER_LAYER_GZIP, DOCKER_MANIFEST, OCI_LAYER_GZIP};

    fn layer(name: &str, history: Option<&str>) -> Layer {
        Layer {
            descriptor: Descriptor::of(DOCKER_LAYER_GZIP, name.as_bytes()),
            diff_id: Digest::of(format!("{name} unpacked").as_bytes()),
            history: history.map(|by| History { created_by: Some(by.to_owned()), ..History::default() }),
        }
    }

    fn docker(layers: usize, history: &str) -> (Vec<u8>, Vec<u8>) {
        let layers: Vec<Layer> = (0..layers).map(|i| layer(&i.to_string(), None)).collect();
        let ids: Vec<String> = layers.iter().map(|layer| layer.diff_id.to_string()).collect();
        let config = format!(
            r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":{ids:?}}},"history":{history}}}"#
        );
        let mut manifest = Manifest::new(DOCKER_MANIFEST, Descriptor::of(DOCKER_CONFIG, config.as_bytes()));
        manifest.annotations.insert("k".to_owned(), "v".to_owned());
        manifest.layers = layers.into_iter().map(|layer| layer.descriptor).collect();
        (manifest.encode().unwrap(), config.into_bytes())
    }

    #[test]
    fn an_empty_image_is_oci_and_reads_back() {
        let mut image = Image::empty("linux", "amd64");
        image.append(layer("a", Some("me")));
        validate(&image).unwrap();
        assert_eq!(image.layer_media_type(), OCI_LAYER_GZIP);
        let encoded = image.encode().unwrap();
        assert_eq!(encoded, image.encode().unwrap());
        let back = Image::from_parts(&encoded.manifest, &encoded.config).unwrap();
        assert_eq!(back.encode().unwrap(), encoded);
        assert_eq!(back.layers(), image.layers());
        assert_eq!(
            encoded.manifest_descriptor(),
            Descriptor::of(crate::media_type::OCI_MANIFEST, &encoded.manifest)
        );
    }

    #[test]
    fn a_docker_image_stays_docker_and_keeps_its_annotations() {
        let (manifest, config) =
            docker(2, r#"[{"created_by":"a"},{"created_by":"b","empty_layer":true},{"created_by":"c"}]"#);
        let image = Image::from_parts(&manifest, &config).unwrap();
        assert_eq!(image.layer_media_type(), DOCKER_LAYER_GZIP);
        assert_eq!(image.annotations()["k"], "v");
        let by: Vec<_> =
            image.config().history().into_iter().map(|entry| entry.created_by.unwrap()).collect();
        assert_eq!(by, ["a", "b", "c"]);
        let encoded = image.encode().unwrap();
        assert_eq!(encoded.media_type, DOCKER_MANIFEST);
        assert_eq!(encoded.config_descriptor.media_type, DOCKER_CONFIG);
        assert_eq!(Image::from_parts(&encoded.manifest, &encoded.config).unwrap().encode().unwrap(), encoded);
    }

    #[test]
    fn history_is_normalised_by_the_rules_of_an_export() {
        let time = "1980-01-01T00:00:01Z";
        for (history, expected) in [
            (r#"[{"created_by":"a","created":"x"},{"empty_layer":true},{"author":"c"}]"#, [Some("a"), None]),
            (r#"[{"created_by":"a"}]"#, [None, None]),
            (r#"[{"created_by":"a"},{"created_by":"b"},{"created_by":"c"}]"#, [None, None]),
            ("null", [None, None]),
            ("[]", [None, None]),
        ] {
            let (manifest, config) = docker(2, history);
            let mut image = Image::from_parts(&manifest, &config).unwrap();
            image.append(layer("new", Some("Launcher")));
            image.normalise_history(time);
            let entries = image.config().history();
            let by: Vec<_> = entries.iter().map(|entry| entry.created_by.as_deref()).collect();
            assert_eq!(by, [expected[0], expected[1], Some("Launcher")], "{history}");
            assert!(entries.iter().all(|entry| entry.created.as_deref() == Some(time) && !entry.empty_layer));
            assert_eq!(image.config().created(), Some(time));
            image.blank_history(time);
            let blank = History { created: Some(time.to_owned()), ..History::default() };
            assert_eq!(image.config().history(), vec![blank; 3]);
        }
    }

    #[test]
    fn documents_that_disagree_are_refused() {
        let (manifest, config) = docker(2, "null");
        let (other_manifest, _) = docker(1, "null");
        assert!(matches!(Image::from_parts(&manifest, b"{}"), Err(ImageError::ConfigMismatch { .. })));
        assert!(matches!(
            Image::from_parts(&other_manifest, &config),
            Err(ImageError::ConfigMismatch { .. })
        ));
        let mut short = Manifest::parse(&manifest, None).unwrap();
        short.layers.pop();
        let refused = Image::from_parts(&short.encode().unwrap(), &config);
        assert!(matches!(refused, Err(ImageError::LayerCount { layers: 1, diff_ids: 2 })));
        let mut chart = Manifest::parse(&manifest, None).unwrap();
        chart.config.media_type = "application/vnd.cncf.helm.config.v1+json".to_owned();
        let refused = Image::from_parts(&chart.encode().unwrap(), &config);
        assert!(matches!(refused, Err(ImageError::NotAnImage(_))));
        let mut odd = Manifest::parse(&manifest, None).unwrap();
        odd.layers[0].media_type = "text/plain".to_owned();
        let refused = Image::from_parts(&odd.encode().unwrap(), &config);
        assert!(matches!(refused, Err(ImageError::LayerType { .. })));
    }

    #[test]
    fn an_image_without_a_system_is_not_fit() {
        assert!(matches!(validate(&Image::empty("", "amd64")), Err(ImageError::Missing("os"))));
        assert!(matches!(validate(&Image::empty("linux", "")), Err(ImageError::Missing("architecture"))));
    }

    #[test]
    fn replacing_the_layers_replaces_ids_and_history() {
        let (manifest, config) = docker(2, r#"[{"created_by":"a"},{"created_by":"b"},{"empty_layer":true}]"#);
        let mut image = Image::from_parts(&manifest, &config).unwrap();
        image.set_layers(vec![layer("x", None)]);
        assert_eq!(image.config().diff_ids(), [layer("x", None).diff_id]);
        assert_eq!(image.config().history(), []);
    }
}
