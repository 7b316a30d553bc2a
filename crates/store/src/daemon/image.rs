//! One image of a daemon.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io::{Read, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};
use strata_layer::Compression;
use strata_layer::threads::try_each;
use strata_oci::{Descriptor, Digest, Encoded, ImageConfig, ImageError, Reference};

use super::archive::{self, Piece};
use super::beside::Beside;
use super::describe::{self, Unclear};
use super::spool::{FillError, Spool, SpoolSink, SpoolWriter, Spooled};
use super::{Client, Error, Exchange};
use crate::artifact::Artifact;
use crate::progress::{Progress, Sending};
use crate::{BlobSink, Copied, Medium, Records, Store, StoreError, StoredImage, Tree, host_architecture};

/// How many layers are unpacked at a time.
const UNPACKED_AT_A_TIME: usize = 4;

/// What an image is called.
#[derive(Clone, Debug)]
pub(super) enum Name {
    /// It has an id only.
    Id(Digest),
    /// It has a name.
    Tag {
        reference: Reference,
        /// As a person wrote it: the daemon knows more ways to name an image.
        written: String,
    },
}

/// A name in a daemon.
///
/// Blobs that were written are kept until [`put_image`](Store::put_image), which gives those to the daemon that are
/// layers of the image.
#[derive(Clone, Debug)]
pub struct Image {
    pub(super) client: Client,
    pub(super) name: Name,
    pub(super) held: Arc<Held>,
    /// What is remembered of images on this machine, if anything is.
    pub(super) records: Option<Records>,
}

/// What is known and kept while there is a handle.
#[derive(Debug, Default)]
pub(super) struct Held {
    pub(super) spool: Arc<Spool>,
    /// Images of the daemon that layers may be taken from.
    sources: Mutex<Vec<Arc<Source>>>,
    is_looked_up: AtomicBool,
    progress: Watcher,
    pub(super) beside: Beside,
}

/// Who is told of what is sent.
#[derive(Default)]
struct Watcher(Mutex<Option<Arc<dyn Progress>>>);

impl fmt::Debug for Watcher {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Watcher").finish_non_exhaustive()
    }
}

/// An image that is in the daemon.
#[derive(Debug)]
struct Source {
    id: Digest,
    /// Which one of several with this id.
    platform: Option<String>,
    diff_ids: Vec<Digest>,
    /// Its layers, once somebody wanted one of them.
    saved: Mutex<Option<HashMap<Digest, Spooled>>>,
}

impl Source {
    fn has(&self, diff_id: &Digest) -> bool {
        self.diff_ids.contains(diff_id)
    }

    /// How many layers it has in common with an image, from the lowest on.
    fn common(&self, diff_ids: &[Digest]) -> usize {
        self.diff_ids.iter().zip(diff_ids).take_while(|(a, b)| a == b).count()
    }
}

impl Image {
    pub(super) fn new(client: Client, name: Name) -> Self {
        Self { client, name, held: Arc::default(), records: None }
    }

    /// The same image, of which these records are read and written.
    #[must_use]
    pub fn recorded(self, records: Records) -> Self {
        Self { records: Some(records), ..self }
    }

    /// As the daemon is asked for it.
    pub(super) fn asked(&self) -> String {
        match &self.name {
            Name::Id(id) => id.to_string(),
            Name::Tag { written, .. } => written.clone(),
        }
    }

    /// For messages.
    pub(super) fn place(&self) -> PathBuf {
        PathBuf::from(self.asked())
    }

    pub(super) fn temp_dir(&self) -> &Path {
        &self.client.shared.settings.temp_dir
    }

    pub(super) fn unclear(&self, unclear: Unclear) -> StoreError {
        let member = match unclear {
            Unclear::Image(source) => return StoreError::Image { path: self.place(), source },
            Unclear::Member(member) => member,
        };
        let path = format!("/images/{}/json", self.asked());
        let exchange = Exchange { method: "GET", path, host: self.client.host() };
        Error::Member { exchange, member }.into()
    }

    /// What the daemon says of the image, and what is to be remembered of it.
    fn look_up(&self) -> Result<Option<(Value, Arc<Source>)>, StoreError> {
        let name = self.asked();
        let Some(mut inspect) = self.client.inspect(&name, None)? else { return Ok(None) };
        let (id, mut diff_ids) = describe::identity(&inspect).map_err(|error| self.unclear(error))?;
        let mut platform = None;
        if self.client.knows_platforms()? {
            let wanted = json!({ "os": "linux", "architecture": host_architecture() }).to_string();
            // Of an image for another platform only, that one is taken.
            if let Some(chosen) = self.client.inspect(&name, Some(&wanted))? {
                (_, diff_ids) = describe::identity(&chosen).map_err(|error| self.unclear(error))?;
                (inspect, platform) = (chosen, Some(wanted));
            }
        }
        let source = self.remember(Source { id, platform, diff_ids, saved: Mutex::default() });
        self.held.is_looked_up.store(true, Ordering::Release);
        Ok(Some((inspect, source)))
    }

    fn remember(&self, source: Source) -> Arc<Source> {
        let mut sources = self.held.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = sources.iter().find(|known| known.id == source.id) {
            return Arc::clone(known);
        }
        let source = Arc::new(source);
        sources.push(Arc::clone(&source));
        source
    }

    fn adopt(&self, source: Arc<Source>) {
        let mut sources = self.held.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if !sources.iter().any(|known| known.id == source.id) {
            sources.push(source);
        }
    }

    /// Images of the daemon that layers may be taken from, the one of this name included.
    fn sources(&self) -> Result<Vec<Arc<Source>>, StoreError> {
        if !self.held.is_looked_up.load(Ordering::Acquire) {
            self.look_up()?;
            self.held.is_looked_up.store(true, Ordering::Release);
        }
        Ok(self.held.sources.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    fn source_of(&self, diff_id: &Digest) -> Result<Option<Arc<Source>>, StoreError> {
        Ok(self.sources()?.into_iter().find(|source| source.has(diff_id)))
    }

    /// A layer that the daemon has. All layers of its image come with it, and are kept: it costs the daemon as much to
    /// give one.
    fn saved(&self, source: &Source, diff_id: &Digest) -> Result<Option<Spooled>, StoreError> {
        let mut saved = source.saved.lock().unwrap_or_else(PoisonError::into_inner);
        if saved.is_none() {
            let id = source.id.to_string();
            let outcome = self.client.save(&id, source.platform.as_deref(), |archive| {
                archive::read(archive, &id, self.temp_dir(), &source.diff_ids)
            });
            *saved = match outcome {
                // Some daemons do not say in this answer that the image is gone.
                Err(StoreError::Daemon(error))
                    if error.is_refusal() && self.client.inspect(&id, None)?.is_none() =>
                {
                    None
                }
                outcome => outcome?,
            };
        }
        Ok(saved.as_ref().and_then(|layers| layers.get(diff_id).cloned()))
    }

    /// A blob, from here or from the daemon.
    fn find(&self, digest: &Digest) -> Result<Option<Spooled>, StoreError> {
        if let Some(blob) = self.held.spool.get(digest) {
            return Ok(Some(blob));
        }
        match self.source_of(digest)? {
            Some(source) => self.saved(&source, digest),
            None => Ok(None),
        }
    }

    /// The names under which the image is to be stored.
    pub(super) fn tags(&self, names: &[String]) -> Result<Vec<String>, Error> {
        let Name::Tag { reference, .. } = &self.name else { return Err(Error::NotATag(self.asked())) };
        if !names.is_empty() {
            return names.iter().map(|name| Ok(reference.with_tag(name)?.to_string())).collect();
        }
        match reference.tag() {
            Some(_) => Ok(vec![reference.to_string()]),
            None => Err(Error::NotATag(self.asked())),
        }
    }

    fn diff_ids(&self, encoded: &Encoded) -> Result<Vec<Digest>, StoreError> {
        let refused = |source| StoreError::Image { path: self.place(), source };
        let config = ImageConfig::parse(&encoded.config).map_err(|error| refused(error.into()))?;
        let diff_ids = config.diff_ids();
        if diff_ids.len() != encoded.layers.len() {
            let (layers, diff_ids) = (encoded.layers.len(), diff_ids.len());
            return Err(refused(ImageError::LayerCount { layers, diff_ids }));
        }
        Ok(diff_ids)
    }

    /// How many layers, from the lowest on, the daemon has in this very order.
    fn known_layers(&self, encoded: &Encoded, diff_ids: &[Digest]) -> Result<usize, StoreError> {
        if self.client.uses_containerd()? {
            return Ok(0);
        }
        let known = self.sources()?.iter().map(|source| source.common(diff_ids)).max().unwrap_or(0);
        // It may be there as a whole, under another name.
        let same = self.client.inspect(&encoded.config_digest.to_string(), None)?;
        Ok(if same.is_some() { diff_ids.len() } else { known })
    }

    /// The layers as they are sent, those above the lowest `known` with their bytes.
    fn pieces(&self, encoded: &Encoded, diff_ids: &[Digest], known: usize) -> Result<Vec<Piece>, StoreError> {
        let piece = |number: usize| -> Result<Piece, StoreError> {
            let diff_id = diff_ids[number];
            let is_known = number < known;
            let bytes =
                if is_known { None } else { Some(self.plain_layer(&diff_id, &encoded.layers[number])?) };
            Ok(Piece { diff_id, bytes })
        };
        let numbers: Vec<usize> = (0..diff_ids.len()).collect();
        try_each(&numbers, UNPACKED_AT_A_TIME, |number| piece(*number))
    }

    fn plain_layer(&self, diff_id: &Digest, layer: &Descriptor) -> Result<Spooled, StoreError> {
        let Some(compressed) = self.held.spool.get(&layer.digest).filter(|_| layer.digest != *diff_id) else {
            let found = self.find(diff_id)?;
            return found.ok_or_else(|| StoreError::Missing { path: self.place(), digest: *diff_id });
        };
        if let Some(plain) = self.held.spool.get(diff_id) {
            return Ok(plain);
        }
        let plain = archive::plain(&compressed, self.temp_dir(), diff_id)?;
        self.held.spool.insert(*diff_id, plain.clone());
        Ok(plain)
    }

    /// Has somebody told what is sent when the image is put.
    pub fn watch(&self, progress: &Arc<dyn Progress>) {
        *self.held.progress.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(progress));
    }

    fn load(&self, encoded: &Encoded, layers: &[Piece], tags: &[String]) -> Result<(), StoreError> {
        let progress = self.held.progress.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let size = layers.iter().filter_map(|layer| Some(layer.bytes.as_ref()?.size)).sum();
        self.client.load(&|out| match progress.as_deref() {
            Some(progress) => {
                progress.sending(size);
                archive::write(&mut Sending { out, progress }, &encoded.config, layers, tags)
            }
            None => archive::write(out, &encoded.config, layers, tags),
        })
    }

    /// Makes sure that the daemon has the image that it was given, and remembers its id.
    fn confirm(&self, encoded: &Encoded, diff_ids: Vec<Digest>, tag: &str) -> Result<(), StoreError> {
        let found = self.client.inspect(tag, None)?;
        let found = found.as_ref().map(describe::identity).transpose();
        let found = found.map_err(|error| self.unclear(error))?.map(|(id, _)| id);
        let expected = encoded.config_digest;
        match found {
            Some(id) if id == expected || self.client.uses_containerd()? => {
                if id != expected {
                    self.client.ids().insert(expected, id);
                }
                self.remember(Source { id, platform: None, diff_ids, saved: Mutex::default() });
                self.held.beside.loaded(id);
                Ok(())
            }
            found => {
                let found = found.map_or_else(|| "none".to_owned(), |id| id.to_string());
                Err(Error::OtherImage { host: self.client.host(), expected, found }.into())
            }
        }
    }

    /// Reads a blob of another place, whatever its size if that is not known.
    fn take_bytes(&self, other: &dyn Store, descriptor: &Descriptor) -> Result<Copied, StoreError> {
        if let Medium::Layout(layout) = other.medium() {
            // The file is held open: no bytes have to be written.
            let Some(file) = layout.verified_file(descriptor)? else { return Ok(Copied::Absent) };
            self.held.spool.insert(descriptor.digest, Spooled::of(file, descriptor.size));
            return Ok(Copied::Linked);
        }
        let Some(mut reader) = other.open_blob(descriptor)? else { return Ok(Copied::Absent) };
        let mut writer = SpoolWriter::create(self.temp_dir())?;
        writer.fill(&mut reader).map_err(|error| match error {
            FillError::Read(source) => {
                StoreError::io("copy a blob", Path::new(&descriptor.digest.to_string()))(source)
            }
            FillError::Write(error) => error,
        })?;
        let (found, blob) = writer.finish();
        if found != descriptor.digest || !is_size(descriptor.size, &blob) {
            return Err(StoreError::Corrupt {
                path: self.place(),
                expected: descriptor.digest,
                expected_size: descriptor.size,
                found,
                found_size: blob.size,
            });
        }
        self.held.spool.insert(found, blob);
        Ok(Copied::Copied)
    }

    /// Takes a layer over from another image of the same daemon, without its bytes.
    fn take_over(&self, other: &Self, digest: &Digest) -> Result<Copied, StoreError> {
        if let Some(blob) = other.held.spool.get(digest) {
            self.held.spool.insert(*digest, blob);
            return Ok(Copied::Linked);
        }
        match other.source_of(digest)? {
            Some(source) => {
                self.adopt(source);
                Ok(Copied::Present)
            }
            None => Ok(Copied::Absent),
        }
    }
}

/// Whether a blob has this size; 0 is unknown.
fn is_size(expected: u64, blob: &Spooled) -> bool {
    expected == 0 || expected == blob.size
}

impl Store for Image {
    fn read_image(&self) -> Result<Option<StoredImage>, StoreError> {
        let Some((inspect, source)) = self.look_up()? else { return Ok(None) };
        let history = self.client.history(&self.asked(), source.platform.as_deref())?;
        let Some(history) = history else { return Ok(None) };
        let image =
            describe::image(&inspect, &history, &source.diff_ids).map_err(|error| self.unclear(error))?;
        let encoded = image.encode().map_err(|source| StoreError::Image { path: self.place(), source })?;
        let Encoded { manifest, config, .. } = encoded;
        Ok(Some(StoredImage { image, manifest_digest: source.id, manifest, config }))
    }

    fn open_blob(&self, descriptor: &Descriptor) -> Result<Option<Box<dyn Read + Send>>, StoreError> {
        if let Some(bytes) = self.held.beside.bytes(&descriptor.digest) {
            return Ok(Some(Box::new(std::io::Cursor::new(bytes))));
        }
        let Some(blob) = self.find(&descriptor.digest)? else { return Ok(None) };
        if !is_size(descriptor.size, &blob) {
            let (expected, found) = (descriptor.size, blob.size);
            return Err(StoreError::Size { path: self.place(), expected, found });
        }
        Ok(Some(Box::new(blob.reader())))
    }

    fn has_blob(&self, digest: &Digest, size: u64) -> Result<bool, StoreError> {
        match self.held.spool.get(digest) {
            Some(blob) => Ok(is_size(size, &blob)),
            // The daemon does not say how large its layers are.
            None => Ok(self.source_of(digest)?.is_some()),
        }
    }

    fn begin_blob(&self) -> Result<Box<dyn BlobSink>, StoreError> {
        let writer = SpoolWriter::create(self.temp_dir())?;
        Ok(Box::new(SpoolSink { writer, spool: Arc::clone(&self.held.spool) }))
    }

    fn put_image(&self, encoded: &Encoded, names: &[String]) -> Result<(), StoreError> {
        let tags = self.tags(names)?;
        let diff_ids = self.diff_ids(encoded)?;
        let known = self.known_layers(encoded, &diff_ids)?;
        let pieces = self.pieces(encoded, &diff_ids, known)?;
        match self.load(encoded, &pieces, &tags) {
            // An image that the layers were to be taken from is gone, or this is a daemon that wants to have everything.
            Err(StoreError::Daemon(error)) if known > 0 && error.is_refusal() => {
                self.load(encoded, &self.pieces(encoded, &diff_ids, 0)?, &tags)?;
            }
            outcome => outcome?,
        }
        if let Some(tag) = tags.first() {
            self.confirm(encoded, diff_ids, tag)?;
        }
        self.held.spool.clear();
        Ok(())
    }

    fn referrers(
        &self,
        subject: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>, StoreError> {
        Ok(Artifact::listed(self.artifacts(subject)?, artifact_type))
    }

    fn read_referrer(&self, entry: &Descriptor) -> Result<Option<Tree>, StoreError> {
        let Some(id) = self.held.beside.id() else { return Ok(None) };
        Ok(Artifact::tree_of(self.artifacts(&id)?, entry))
    }

    fn put_referrer(&self, referrer: &Tree) -> Result<(), StoreError> {
        self.keep_beside(referrer)
    }

    fn attach(
        &self,
        subject: &Descriptor,
        artifact_type: &str,
        media_type: &str,
        bytes: &[u8],
        annotations: &BTreeMap<String, String>,
    ) -> Result<Digest, StoreError> {
        if self.records.is_none() {
            return Err(StoreError::NoReferrers);
        }
        let file = Descriptor::of(media_type, bytes);
        let mut sink = self.begin_blob()?;
        sink.write_all(bytes).map_err(StoreError::io("write", &self.place()))?;
        sink.commit(&file.digest, file.size)?;
        let artifact = Artifact::new(subject, artifact_type, file, annotations)
            .map_err(|source| StoreError::Encode { path: self.place(), source })?;
        let digest = artifact.descriptor.digest;
        self.keep_beside(&artifact.into_tree()).map(|()| digest)
    }

    fn identifier(&self, image: &StoredImage) -> String {
        let config = Digest::of(&image.config);
        let is_own = image.manifest_digest == Digest::of(&image.manifest);
        // What is yet to be stored has the id of its configuration, unless the daemon has said otherwise.
        let expected = if is_own { config } else { image.manifest_digest };
        self.client.ids().get(&config).filter(|_| is_own).copied().unwrap_or(expected).hex()
    }

    fn compression(&self) -> Compression {
        Compression::None
    }

    fn medium(&self) -> Medium<'_> {
        Medium::Daemon(self)
    }

    fn copy_blob_from(&self, other: &dyn Store, descriptor: &Descriptor) -> Result<Copied, StoreError> {
        if let Some(blob) = self.held.spool.get(&descriptor.digest)
            && is_size(descriptor.size, &blob)
        {
            return Ok(Copied::Present);
        }
        match other.medium() {
            Medium::Daemon(other) if other.client.is_same(&self.client) => {
                self.take_over(other, &descriptor.digest)
            }
            _ if self.has_blob(&descriptor.digest, descriptor.size)? => Ok(Copied::Present),
            _ => self.take_bytes(other, descriptor),
        }
    }
}
