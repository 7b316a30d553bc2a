//! Proves an image: that its documents agree, that every blob is what it is said to be, and that every layer can be
//! extracted. Everything is read, nothing is written.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{self, Cursor, Read};

use serde::Serialize;
use strata_layer::{HashReader, LayerError, VerifyError, examine, open_layer};
use strata_oci::config::MAX_CONFIG_SIZE;
use strata_oci::media_type::{self, is_config, is_foreign_layer, is_index, is_layer};
use strata_oci::{Descriptor, Digest, Family, ImageConfig, Manifest, Platform};

use crate::select::is_attestation;
use crate::{Store, StoreError, Tree};

/// Entries of one layer that are named in findings.
const MAX_ENTRIES_NAMED: usize = 20;

/// What came out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// What was looked at.
    pub images: Vec<Examined>,
    /// What is wrong, or cannot be proven.
    pub findings: Vec<Finding>,
}

/// An image that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Examined {
    /// Digest of its manifest.
    pub digest: Digest,
    /// What it says that it runs on.
    pub platform: String,
    /// How many layers it has.
    pub layers: usize,
    /// How many bytes they have as they are stored.
    pub size: u64,
}

/// One thing about an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// Of what.
    pub subject: String,
    /// What it is.
    pub problem: String,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Severity {
    /// The image is not what it should be.
    Error,
    /// It may well work; or it is something that cannot be proven here.
    Warning,
}

impl Report {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.findings.iter().all(|finding| finding.severity != Severity::Error)
    }

    fn error(&mut self, subject: &str, problem: impl Into<String>) {
        self.find(Severity::Error, subject, problem.into());
    }

    fn warn(&mut self, subject: &str, problem: impl Into<String>) {
        self.find(Severity::Warning, subject, problem.into());
    }

    fn find(&mut self, severity: Severity, subject: &str, problem: String) {
        self.findings.push(Finding { severity, subject: subject.to_owned(), problem });
    }
}

/// Whether an error is about what is stored, rather than about reaching it.
#[must_use]
pub fn is_finding(error: &StoreError) -> bool {
    match error {
        StoreError::Version { .. } | StoreError::Nesting { .. } => true,
        StoreError::Io { source, .. } => source.get_ref().is_some_and(|cause| cause.is::<VerifyError>()),
        error => error.is_damage(),
    }
}

/// Proves the image, or all images of the index, in this place; `None` when there is none.
///
/// # Errors
///
/// When the place cannot be reached. What is wrong with an image is a finding.
pub fn prove(store: &dyn Store) -> Result<Option<Report>, StoreError> {
    let mut proof = Proof { store, report: Report::default(), layers: BTreeMap::new() };
    match store.read_tree() {
        Ok(Some(tree)) => proof.tree(&tree)?,
        Ok(None) => match store.read_image() {
            Ok(None) => return Ok(None),
            Ok(Some(image)) => {
                proof.image(&image.manifest, image.manifest_digest, Some(image.config), None)?;
            }
            Err(error) => proof.keep("image", error)?,
        },
        Err(error) => proof.keep("index", error)?,
    }
    Ok(Some(proof.report))
}

/// A proof under way.
struct Proof<'a> {
    store: &'a dyn Store,
    report: Report,
    /// DiffIDs of layers that were looked at: images of an index share them. None of those that have none.
    layers: BTreeMap<Digest, Option<Digest>>,
}

impl Proof<'_> {
    /// Makes an error a finding, if it is one.
    fn keep(&mut self, subject: &str, error: StoreError) -> Result<(), StoreError> {
        if !is_finding(&error) {
            return Err(error);
        }
        self.report.error(subject, chain(&error));
        Ok(())
    }

    fn tree(&mut self, tree: &Tree) -> Result<(), StoreError> {
        for (entry, bytes) in tree.documents.iter().filter(|(entry, _)| !is_index(&entry.media_type)) {
            if is_attestation(entry) {
                self.others(entry, bytes)?;
                continue;
            }
            if entry.platform.is_none() {
                self.report.warn(&named("image", &entry.digest), "the index does not say what it is for");
            }
            self.image(bytes, entry.digest, None, entry.platform.as_ref())?;
        }
        Ok(())
    }

    /// Something that is listed beside images: of its blobs nothing is known but what they are.
    fn others(&mut self, entry: &Descriptor, bytes: &[u8]) -> Result<(), StoreError> {
        let subject = named("attestation", &entry.digest);
        let manifest = match Manifest::parse(bytes, Some(&entry.media_type)) {
            Ok(manifest) => manifest,
            Err(error) => {
                self.report.error(&subject, chain(&error));
                return Ok(());
            }
        };
        for blob in manifest.layers.iter().chain([&manifest.config]) {
            self.bytes(blob, u64::MAX).map(drop)?;
        }
        Ok(())
    }

    fn image(
        &mut self,
        bytes: &[u8],
        digest: Digest,
        config: Option<Vec<u8>>,
        platform: Option<&Platform>,
    ) -> Result<(), StoreError> {
        let subject = named("image", &digest);
        let manifest = match Manifest::parse(bytes, None) {
            Ok(manifest) => manifest,
            Err(error) => {
                self.report.error(&subject, chain(&error));
                return Ok(());
            }
        };
        self.media_types(&subject, &manifest);
        let config = match config {
            Some(config) => Some(config),
            None => self.bytes(&manifest.config, MAX_CONFIG_SIZE)?,
        };
        let config = config.and_then(|bytes| self.config(&manifest.config, &bytes, platform));
        let diff_ids = config.as_ref().map(|config| self.layer_count(&subject, &manifest, config));
        for (index, layer) in manifest.layers.iter().enumerate() {
            let diff_id = diff_ids.as_ref().and_then(|ids| ids.get(index)).copied();
            self.layer(layer, diff_id)?;
        }
        self.report.images.push(Examined {
            digest,
            platform: config.map(|config| config.platform().to_string()).unwrap_or_default(),
            layers: manifest.layers.len(),
            size: manifest.layers.iter().map(|layer| layer.size).sum(),
        });
        Ok(())
    }

    fn media_types(&mut self, subject: &str, manifest: &Manifest) {
        let family = Family::of(&manifest.media_type);
        let config = &manifest.config.media_type;
        if !is_config(config) {
            self.report.error(subject, format!("its configuration is of type {config:?}"));
        } else if Family::of(config) != family {
            self.report.warn(subject, format!("its configuration is of the other family's type {config:?}"));
        }
        for layer in &manifest.layers {
            let (subject, kind) = (named("layer", &layer.digest), &layer.media_type);
            let is_docker = kind.starts_with("application/vnd.docker.");
            if !is_layer(kind) {
                self.report.error(&subject, format!("its type is {kind:?}, which is no layer"));
            } else if is_docker != (family == Some(Family::Docker)) {
                self.report.warn(&subject, format!("it is of the other family's type {kind:?}"));
            }
        }
    }

    fn config(
        &mut self,
        wanted: &Descriptor,
        bytes: &[u8],
        platform: Option<&Platform>,
    ) -> Option<ImageConfig> {
        let subject = named("configuration", &wanted.digest);
        if !wanted.matches(bytes) {
            let (found, size) = (Digest::of(bytes), bytes.len());
            self.report.error(&subject, format!("what is stored is {found} with {size} bytes"));
        }
        let config = match ImageConfig::parse(bytes) {
            Ok(config) => config,
            Err(error) => {
                self.report.error(&subject, chain(&error));
                return None;
            }
        };
        for (value, name) in [(config.os(), "os"), (config.architecture(), "architecture")] {
            if value.is_empty() {
                self.report.error(&subject, format!("it has no {name}"));
            }
        }
        let own = config.platform();
        // An index may say more: a variant that the configuration leaves out.
        if let Some(listed) =
            platform.filter(|listed| (&listed.os, &listed.architecture) != (&own.os, &own.architecture))
        {
            self.report.error(&subject, format!("it is for {own}, and the index lists it for {listed}"));
        }
        Some(config)
    }

    /// Compares what manifest and configuration say of layers.
    fn layer_count(&mut self, subject: &str, manifest: &Manifest, config: &ImageConfig) -> Vec<Digest> {
        let (diff_ids, layers) = (config.diff_ids(), manifest.layers.len());
        if diff_ids.len() != layers {
            let ids = diff_ids.len();
            self.report
                .error(subject, format!("it has {layers} layers, and its configuration {ids} diffIDs"));
        }
        let history = config.history();
        let told = history.iter().filter(|entry| !entry.empty_layer).count();
        if !history.is_empty() && told != layers {
            self.report.warn(subject, format!("it has {layers} layers, and its history tells of {told}"));
        }
        diff_ids
    }

    /// The bytes of a blob of at most `limit` bytes, verified; of a larger one, its verification only.
    fn bytes(&mut self, blob: &Descriptor, limit: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let subject = named("blob", &blob.digest);
        let mut reader = match self.store.open_blob(blob) {
            Ok(Some(reader)) => reader,
            Ok(None) => {
                self.report.error(&subject, "it is absent");
                return Ok(None);
            }
            Err(error) => return self.keep(&subject, error).map(|()| None),
        };
        if limit == u64::MAX {
            self.read_all(&subject, &mut reader);
            return Ok(None);
        }
        let mut bytes = Vec::new();
        match reader.take(limit + 1).read_to_end(&mut bytes) {
            Ok(_) if bytes.len() as u64 <= limit => return Ok(Some(bytes)),
            Ok(_) => self.report.error(&subject, format!("it has more than {limit} bytes")),
            Err(error) => self.report.error(&subject, error.to_string()),
        }
        Ok(None)
    }

    /// Whether the bytes of a blob are those that its name promises.
    fn read_all(&mut self, subject: &str, reader: &mut dyn Read) -> bool {
        match io::copy(reader, &mut io::sink()) {
            Ok(_) => true,
            Err(error) => {
                self.report.error(subject, chain(&error));
                false
            }
        }
    }

    fn layer(&mut self, layer: &Descriptor, diff_id: Option<Digest>) -> Result<(), StoreError> {
        let subject = named("layer", &layer.digest);
        let found = match self.layers.get(&layer.digest) {
            Some(found) => *found,
            None => {
                let found = self.look_into(&subject, layer)?;
                self.layers.insert(layer.digest, found);
                found
            }
        };
        if let (Some(found), Some(expected)) = (found, diff_id)
            && found != expected
        {
            self.report
                .error(&subject, format!("its diffID is {found}, and the configuration says {expected}"));
        }
        Ok(())
    }

    /// The diffID of a layer whose archive can be read.
    fn look_into(&mut self, subject: &str, layer: &Descriptor) -> Result<Option<Digest>, StoreError> {
        let blob = match self.store.open_blob(layer) {
            Ok(Some(blob)) => blob,
            Ok(None) if is_foreign_layer(&layer.media_type) => {
                self.report.warn(subject, "it is kept elsewhere");
                return Ok(None);
            }
            Ok(None) => {
                self.report.error(subject, "it is absent");
                return Ok(None);
            }
            Err(error) => return self.keep(subject, error).map(|()| None),
        };
        let error = match self.extractable(subject, layer, blob) {
            Ok(diff_id) => return Ok(Some(diff_id)),
            Err(error) => error,
        };
        // Are the bytes wrong, or what they mean?
        let again = self.store.open_blob(layer);
        let Ok(Some(mut blob)) = again else { return again.map(|_| None) };
        if self.read_all(subject, &mut blob) {
            match error {
                LayerError::UnsupportedCompression { .. } => self.report.warn(subject, chain(&error)),
                error => self.report.error(subject, chain(&error)),
            }
        }
        Ok(None)
    }

    fn extractable(
        &mut self,
        subject: &str,
        layer: &Descriptor,
        mut blob: Box<dyn Read + Send>,
    ) -> Result<Digest, LayerError> {
        let mut start = Vec::new();
        let read = |source| LayerError::Read { source };
        (&mut blob).take(4).read_to_end(&mut start).map_err(read)?;
        if let Some(expected) = compression_of(&layer.media_type)
            && expected != compressed(&start)
        {
            let (kind, found) = (&layer.media_type, compressed(&start));
            self.report.error(subject, format!("its type is {kind:?}, and its compression is {found}"));
        }
        let mut tar = HashReader::new(open_layer(Cursor::new(start).chain(blob))?);
        let mut refused = 0;
        examine(&mut tar, &mut |name, reason| {
            refused += 1;
            if refused <= MAX_ENTRIES_NAMED {
                self.report.error(subject, format!("its entry {name:?} would be refused: {reason}"));
            }
        })?;
        if refused > MAX_ENTRIES_NAMED {
            let more = refused - MAX_ENTRIES_NAMED;
            self.report.error(subject, format!("{more} more of its entries would be refused"));
        }
        Ok(tar.finish())
    }
}

fn named(what: &str, digest: &Digest) -> String {
    format!("{what} {digest}")
}

/// How a layer of this type is compressed.
fn compression_of(kind: &str) -> Option<&'static str> {
    match kind {
        media_type::OCI_LAYER | media_type::DOCKER_LAYER => Some("none"),
        media_type::OCI_LAYER_GZIP | media_type::DOCKER_LAYER_GZIP => Some("gzip"),
        media_type::OCI_LAYER_ZSTD | media_type::DOCKER_LAYER_ZSTD => Some("zstd"),
        _ => None,
    }
}

/// How bytes that start like this are compressed.
fn compressed(start: &[u8]) -> &'static str {
    match start {
        [0x1f, 0x8b, ..] => "gzip",
        [0x28, 0xb5, 0x2f, 0xfd] => "zstd",
        _ => "none",
    }
}

/// An error and its causes, in one line.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
