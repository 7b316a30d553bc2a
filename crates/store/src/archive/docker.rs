//! The archive that `docker save` writes, read.
//!
//! It has configurations and layers, and no manifests: one is made up, in which each layer is the plain tar archive
//! that its diffID is the digest of. So whatever is read is verified against the configuration. The types are those of
//! OCI, because many programs find nothing else in layouts.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::Path;
use std::sync::OnceLock;

use serde::Deserialize;
use strata_layer::{HashWriter, UnpackOptions, VerifiedReader, is_compressed, open_layer};
use strata_oci::config::MAX_CONFIG_SIZE;
use strata_oci::manifest::MAX_MANIFEST_SIZE;
use strata_oci::{
    Descriptor, Digest, Encoded, Image, ImageConfig, ImageError, Manifest, Platform, Reference, media_type,
};

use super::members::{Members, Span};
use super::{MANIFEST, companion_name};
use crate::artifact::Artifact;
use crate::companion::{Companion, LABEL};
use crate::{BlobSink, Medium, Store, StoreError, StoredImage, Tree, host_architecture};

/// Images of one archive.
const MAX_IMAGES: usize = 4096;

/// An archive as `docker save` writes it. It can only be read; see [`super::Writer`].
#[derive(Debug)]
pub struct DockerArchive {
    members: Members,
    saved: Vec<Saved>,
    /// Images of other names, one of which may be about the image that is read.
    others: Vec<Saved>,
    platform: Platform,
    chosen: OnceLock<Chosen>,
    companion: OnceLock<Companion>,
}

/// An image in `manifest.json`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Option<Vec<String>>,
}

/// The image that is read, and where its layers are.
#[derive(Debug)]
struct Chosen {
    stored: StoredImage,
    layers: BTreeMap<Digest, Plain>,
}

/// A layer as a plain tar archive.
#[derive(Clone, Copy, Debug)]
struct Plain {
    span: Span,
    size: u64,
    is_compressed: bool,
}

impl DockerArchive {
    /// Lists the members of the archive and reads its `manifest.json`.
    ///
    /// # Errors
    ///
    /// When it cannot be read, is compressed, has members that could be taken for others, or is not from `docker save`.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let members = Members::open(path.as_ref())?;
        let span = members.file(MANIFEST)?;
        let span = span.ok_or_else(|| members.refused(MANIFEST, "it is not there"))?;
        let bytes = members.document(MANIFEST, span, MAX_MANIFEST_SIZE)?;
        let saved: Vec<Saved> = serde_json::from_slice(&bytes)
            .map_err(|error| StoreError::io("parse", &members.path().join(MANIFEST))(error.into()))?;
        if saved.len() > MAX_IMAGES {
            return Err(members.refused(MANIFEST, "it lists too many images"));
        }
        let platform = Platform::new("linux", host_architecture());
        Ok(Self {
            members,
            saved,
            others: Vec::new(),
            platform,
            chosen: OnceLock::new(),
            companion: OnceLock::new(),
        })
    }

    /// The same archive, reading the image of this name only.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn named(mut self, name: &str) -> Result<Self, StoreError> {
        let names = self.names();
        let is_wanted = |saved: &mut Saved| saved.names().any(|other| is_same(other, name));
        let wanted = self.saved.extract_if(.., is_wanted).collect();
        self.others.append(&mut std::mem::replace(&mut self.saved, wanted));
        if self.saved.is_empty() {
            let path = self.members.path().to_owned();
            return Err(StoreError::NoSuchName { path, wanted: name.to_owned(), names });
        }
        Ok(self)
    }

    /// The same archive, reading the image for this platform when there are several. Default: Linux on this machine.
    #[must_use]
    pub fn for_platform(mut self, platform: Platform) -> Self {
        self.platform = platform;
        self
    }

    /// The names in the archive.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.saved.iter().flat_map(Saved::names).cloned().collect()
    }

    /// The image that is asked for: the only one, or the only one for the platform.
    fn select(&self) -> Result<Option<&Saved>, StoreError> {
        let mut images: Vec<&Saved> = Vec::new();
        for saved in &self.saved {
            if images.iter().all(|other| other.config != saved.config) {
                images.push(saved);
            }
        }
        if images.len() > 1 {
            images.retain(|saved| self.companion_of(saved).is_none());
            images = self.for_wanted_platform(&images)?;
        }
        match images.as_slice() {
            [] => Ok(None),
            [image] => Ok(Some(image)),
            _ => Err(StoreError::Ambiguous { path: self.members.path().to_owned(), names: self.names() }),
        }
    }

    /// The id of the image that a small one is about. What cannot be read is none.
    fn companion_of(&self, saved: &Saved) -> Option<String> {
        let (_, config) = self.config(saved).ok()?;
        config.label(LABEL).map(str::to_owned)
    }

    /// The layer of a small image that was saved along and is about the image of this id.
    fn saved_companion(&self, id: &Digest) -> Result<Option<(String, Span)>, StoreError> {
        let id = id.to_string();
        for saved in self.saved.iter().chain(&self.others) {
            if let [layer] = saved.layers.as_deref().unwrap_or_default()
                && self.companion_of(saved).as_deref() == Some(&*id)
            {
                return Ok(self.members.behind_links(layer)?.map(|span| (layer.clone(), span)));
            }
        }
        Ok(None)
    }

    /// The images for the platform. Of what cannot be read nobody knows what it is for: it counts if there is nothing else.
    fn for_wanted_platform<'a>(&self, images: &[&'a Saved]) -> Result<Vec<&'a Saved>, StoreError> {
        let (mut fitting, mut found, mut failed) = (Vec::new(), Vec::new(), None);
        for saved in images {
            let platform = match self.config(saved) {
                Ok((_, config)) => config.platform(),
                Err(error) => {
                    failed = failed.or(Some(error));
                    continue;
                }
            };
            if platform.satisfies(&self.platform) {
                fitting.push(*saved);
            }
            found.push(platform.to_string());
        }
        match failed {
            _ if !fitting.is_empty() => Ok(fitting),
            Some(error) => Err(error),
            None => {
                let (path, wanted) = (self.members.path().to_owned(), self.platform.to_string());
                Err(StoreError::Platform { path, wanted, found })
            }
        }
    }

    fn config(&self, saved: &Saved) -> Result<(Vec<u8>, ImageConfig), StoreError> {
        let span = self.members.behind_links(&saved.config)?;
        let span = span.ok_or_else(|| self.members.refused(&saved.config, "it is not there"))?;
        let bytes = self.members.document(&saved.config, span, MAX_CONFIG_SIZE)?;
        let config = ImageConfig::parse(&bytes).map_err(|error| self.no_image(error.into()))?;
        Ok((bytes, config))
    }

    fn no_image(&self, source: ImageError) -> StoreError {
        StoreError::Image { path: self.members.path().to_owned(), source }
    }

    fn chosen(&self) -> Result<Option<&Chosen>, StoreError> {
        if let Some(chosen) = self.chosen.get() {
            return Ok(Some(chosen));
        }
        let Some(saved) = self.select()? else { return Ok(None) };
        let chosen = self.make_up(saved)?;
        // Made up twice at once, it is the same.
        Ok(Some(self.chosen.get_or_init(|| chosen)))
    }

    /// Makes up the manifest that the archive does not have.
    fn make_up(&self, saved: &Saved) -> Result<Chosen, StoreError> {
        let (config, parsed) = self.config(saved)?;
        let (diff_ids, names) = (parsed.diff_ids(), saved.layers.as_deref().unwrap_or_default());
        if diff_ids.len() != names.len() {
            let (layers, diff_ids) = (names.len(), diff_ids.len());
            return Err(self.no_image(ImageError::LayerCount { layers, diff_ids }));
        }
        let descriptor = Descriptor::of(media_type::OCI_CONFIG, &config);
        let mut manifest = Manifest::new(media_type::OCI_MANIFEST, descriptor);
        let mut layers = BTreeMap::new();
        for (diff_id, name) in diff_ids.into_iter().zip(names) {
            let plain = self.plain(name, diff_id)?;
            manifest.layers.push(Descriptor::new(media_type::OCI_LAYER, diff_id, plain.size));
            layers.insert(diff_id, plain);
        }
        let encode = |source| StoreError::Encode { path: self.members.path().to_owned(), source };
        let manifest = manifest.encode().map_err(encode)?;
        let image = Image::from_parts(&manifest, &config).map_err(|error| self.no_image(error))?;
        let manifest_digest = Digest::of(&manifest);
        Ok(Chosen { stored: StoredImage { image, manifest_digest, manifest, config }, layers })
    }

    /// How large the layer is without compression: known for most, found out for the others.
    fn plain(&self, name: &str, diff_id: Digest) -> Result<Plain, StoreError> {
        let span = self.members.behind_links(name)?;
        let span = span.ok_or_else(|| self.members.refused(name, "it is not there"))?;
        let start = self.members.start(span, 262)?;
        if start.is_empty() || start.ends_with(b"ustar") || start.starts_with(&[0; 32]) {
            return Ok(Plain { span, size: span.size, is_compressed: false });
        }
        let limit = UnpackOptions::default().max_bytes;
        let failed = |source| StoreError::Archive { path: self.members.path().join(name), source };
        let layer = open_layer(self.members.reader(span)).map_err(failed)?;
        let mut hash = HashWriter::new(io::sink());
        io::copy(&mut layer.take(limit), &mut hash)
            .map_err(StoreError::io("decompress", &self.members.path().join(name)))?;
        let (_, found, size) = hash.finish();
        if size == limit {
            return Err(StoreError::TooLarge { path: self.members.path().join(name), limit });
        }
        if found != diff_id {
            let path = self.members.path().join(name);
            let (expected, expected_size) = (diff_id, size);
            return Err(StoreError::Corrupt { path, expected, expected_size, found, found_size: size });
        }
        Ok(Plain { span, size, is_compressed: is_compressed(&start) })
    }

    fn layer(&self, digest: &Digest) -> Result<Option<Plain>, StoreError> {
        Ok(self.chosen()?.and_then(|chosen| chosen.layers.get(digest).copied()))
    }

    /// What lies beside the image, if anything does.
    fn companion(&self) -> Result<Option<&Companion>, StoreError> {
        if let Some(companion) = self.companion.get() {
            return Ok(Some(companion));
        }
        let Some(chosen) = self.chosen()? else { return Ok(None) };
        let id = Digest::of(&chosen.stored.config);
        let name = companion_name(&id);
        let own = self.members.file(&name)?.map(|span| (name, span));
        let Some((name, span)) = own.map_or_else(|| self.saved_companion(&id), |own| Ok(Some(own)))? else {
            return Ok(None);
        };
        let place = self.members.path().join(name);
        let layer = open_layer(self.members.reader(span))
            .map_err(|source| StoreError::Archive { path: place.clone(), source })?;
        let found = Companion::read(layer, &place)?;
        if *found.of() != id {
            let reason = "it is of another image".to_owned();
            return Err(StoreError::Companion { path: place, reason });
        }
        // Read twice at once, it is the same.
        Ok(Some(self.companion.get_or_init(|| found)))
    }

    /// What lies beside the image, as artifacts of the manifest that was made up for it.
    fn artifacts(&self, subject: &Digest) -> Result<Vec<Artifact>, StoreError> {
        let (Some(chosen), Some(companion)) = (self.chosen()?, self.companion()?) else {
            return Ok(Vec::new());
        };
        if chosen.stored.manifest_digest != *subject {
            return Ok(Vec::new());
        }
        companion
            .artifacts(&chosen.stored.encoded().manifest_descriptor())
            .map_err(|source| StoreError::Encode { path: self.members.path().to_owned(), source })
    }

    fn read_only(&self) -> StoreError {
        StoreError::ReadOnly { path: self.members.path().to_owned() }
    }
}

impl Saved {
    fn names(&self) -> impl Iterator<Item = &String> {
        self.repo_tags.iter().flatten()
    }
}

/// Whether two names are of the same image, however much of them is left out.
fn is_same(one: &str, other: &str) -> bool {
    match (one.parse::<Reference>(), other.parse::<Reference>()) {
        (Ok(one), Ok(other)) => one == other,
        _ => one == other,
    }
}

impl Store for DockerArchive {
    fn read_image(&self) -> Result<Option<StoredImage>, StoreError> {
        Ok(self.chosen()?.map(|chosen| chosen.stored.clone()))
    }

    fn open_blob(&self, descriptor: &Descriptor) -> Result<Option<Box<dyn Read + Send>>, StoreError> {
        let Some(plain) = self.layer(&descriptor.digest)? else {
            let bytes = self.companion()?.and_then(|companion| companion.bytes(&descriptor.digest));
            return Ok(bytes.map(|bytes| Box::new(io::Cursor::new(bytes.to_vec())) as Box<dyn Read + Send>));
        };
        if plain.size != descriptor.size {
            let path = self.members.path().join(descriptor.digest.hex());
            return Err(StoreError::Size { path, expected: descriptor.size, found: plain.size });
        }
        let reader = self.members.reader(plain.span);
        let (digest, size) = (descriptor.digest, descriptor.size);
        if !plain.is_compressed {
            return Ok(Some(Box::new(VerifiedReader::new(reader, digest, size))));
        }
        let layer = open_layer(reader)
            .map_err(|source| StoreError::Archive { path: self.members.path().to_owned(), source })?;
        Ok(Some(Box::new(VerifiedReader::new(layer, digest, size))))
    }

    fn has_blob(&self, digest: &Digest, size: u64) -> Result<bool, StoreError> {
        Ok(self.layer(digest)?.is_some_and(|plain| plain.size == size))
    }

    fn referrers(
        &self,
        subject: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>, StoreError> {
        Ok(Artifact::listed(self.artifacts(subject)?, artifact_type))
    }

    fn read_referrer(&self, entry: &Descriptor) -> Result<Option<Tree>, StoreError> {
        let Some(chosen) = self.chosen()? else { return Ok(None) };
        Ok(Artifact::tree_of(self.artifacts(&chosen.stored.manifest_digest)?, entry))
    }

    fn begin_blob(&self) -> Result<Box<dyn BlobSink>, StoreError> {
        Err(self.read_only())
    }

    fn put_image(&self, _encoded: &Encoded, _names: &[String]) -> Result<(), StoreError> {
        Err(self.read_only())
    }

    fn identifier(&self, image: &StoredImage) -> String {
        format!("{}@{}", self.members.path().display(), image.manifest_digest)
    }

    fn medium(&self) -> Medium<'_> {
        Medium::DockerArchive
    }
}
