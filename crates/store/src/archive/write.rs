//! Archives, written from front to end.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Read, Seek as _, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use strata_layer::{HashWriter, LayerError, Owner, TarWriter, open_layer};
use strata_oci::reference::{DEFAULT_REGISTRY, DEFAULT_TAG};
use strata_oci::{
    Descriptor, Digest, Encoded, Hasher, ImageConfig, Index, Reference, annotation, media_type,
};

use super::replace::Replacement;
use super::{IMAGE_NAME, MANIFEST, WAITING_ROOM, blob_name, companion_name};
use crate::artifact;
use crate::companion::{Companion, MAX_SIZE};
use crate::layout::{OCI_LAYOUT, REF_NAME, check_name};
use crate::{BlobSink, Copied, Medium, Store, StoreError, StoredImage, Tree, copy_bytes};

const MODE: u32 = 0o644;

/// What an archive is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// An OCI layout. When it has one image, Docker's list of images is added, for a Docker that knows no layouts.
    Oci,
    /// What `docker save` writes: configurations and layers without compression.
    Docker,
}

/// An archive that is being written. Its images are visible once [`Self::finish`] has returned, and only then.
#[derive(Clone)]
pub struct Writer {
    shared: Arc<Shared>,
}

struct Shared {
    format: Format,
    /// For messages.
    place: PathBuf,
    /// Where blobs wait.
    dir: PathBuf,
    name: Option<Reference>,
    tag: Option<String>,
    state: Mutex<State>,
}

type Output = Box<dyn Write + Send>;

#[derive(Default)]
struct State {
    /// Gone once something could not be written.
    tar: Option<TarWriter<BufWriter<Output>>>,
    /// What becomes the file; none when something else is written to.
    replacement: Option<Replacement>,
    /// Sizes of the blobs that were stored, under the digests they came with.
    blobs: BTreeMap<Digest, u64>,
    /// What a layer is in an archive of Docker's: the digest and size of its plain tar archive, by the blob's digest.
    plain: BTreeMap<Digest, (Digest, u64)>,
    /// What is in the archive, by its name there.
    members: BTreeMap<String, u64>,
    images: Vec<Named>,
    /// What refers to a document of the archive, as an index lists it.
    referrers: Vec<Descriptor>,
    /// Files of the next thing that refers to an image, in an archive of Docker's, and what they have together in bytes.
    files: BTreeMap<Digest, Vec<u8>>,
    files_size: u64,
    /// What refers to images, by the ids of these.
    companions: BTreeMap<Digest, Companion>,
}

/// An image, or an index, that becomes visible at the end.
struct Named {
    manifest: Descriptor,
    /// Its tags, and its names in whole where they are known.
    names: Vec<(String, Option<String>)>,
    /// Configuration and layers by their names in the archive; none of an index.
    parts: Option<(String, Vec<String>)>,
}

impl Writer {
    /// Writes a file, which is there once it is finished. What is no regular file is written to as it is.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn create(path: &Path, format: Format) -> Result<Self, StoreError> {
        let is_other = std::fs::metadata(path).is_ok_and(|meta| !meta.is_file());
        if is_other {
            let file = OpenOptions::new().write(true).open(path).map_err(StoreError::io("write", path))?;
            return Self::new(path, Path::new(WAITING_ROOM), format, Box::new(file), None);
        }
        let (replacement, file) = Replacement::begin(path)?;
        let dir = replacement.dir().to_owned();
        Self::new(path, &dir, format, Box::new(file), Some(replacement))
    }

    /// Writes to a pipe, or whatever else takes bytes; `place` is its name in messages.
    ///
    /// # Errors
    ///
    /// When it does not take the first ones.
    pub fn stream(out: impl Write + Send + 'static, place: &str, format: Format) -> Result<Self, StoreError> {
        Self::new(Path::new(place), Path::new(WAITING_ROOM), format, Box::new(out), None)
    }

    fn new(
        place: &Path,
        dir: &Path,
        format: Format,
        out: Output,
        replacement: Option<Replacement>,
    ) -> Result<Self, StoreError> {
        let tar = TarWriter::new(BufWriter::with_capacity(128 * 1024, out));
        let state = State { tar: Some(tar), replacement, ..State::default() };
        let (place, dir) = (place.to_owned(), dir.to_owned());
        let shared = Shared { format, place, dir, name: None, tag: None, state: Mutex::new(state) };
        if format == Format::Oci {
            shared.append_bytes(&mut shared.lock(), "oci-layout", OCI_LAYOUT.as_bytes())?;
        }
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The same archive, whose images have this name. Tags that are given when an image is put take the place of its tag.
    #[must_use]
    pub fn named(self, name: Reference) -> Self {
        self.with(|shared| Shared { name: Some(name), ..shared })
    }

    /// The same archive, whose images have this tag when none are given.
    #[must_use]
    pub fn tagged(self, tag: impl Into<String>) -> Self {
        self.with(|shared| Shared { tag: Some(tag.into()), ..shared })
    }

    fn with(self, change: impl FnOnce(Shared) -> Shared) -> Self {
        match Arc::try_unwrap(self.shared) {
            Ok(shared) => Self { shared: Arc::new(change(shared)) },
            // Too late: blobs are under way.
            Err(shared) => Self { shared },
        }
    }

    /// Writes what makes the images visible, and the end of the archive.
    ///
    /// # Errors
    ///
    /// When it cannot be written; then a file has what it had before.
    pub fn finish(self) -> Result<(), StoreError> {
        let shared = &*self.shared;
        let mut state = shared.lock();
        let images = std::mem::take(&mut state.images);
        for (id, companion) in std::mem::take(&mut state.companions) {
            // Nothing of what there was fitted.
            if companion.is_empty() {
                continue;
            }
            let bytes = companion.write(Vec::new()).map_err(|error| shared.failed(error))?;
            shared.append_bytes(&mut state, &companion_name(&id), &bytes)?;
        }
        let saved: Vec<Value> = images.iter().filter_map(Named::saved).collect();
        if shared.format == Format::Docker || !saved.is_empty() {
            let saved = Value::Array(saved).to_string();
            shared.append_bytes(&mut state, MANIFEST, saved.as_bytes())?;
        }
        if shared.format == Format::Oci {
            let mut index = Index::default();
            index.manifests = images.iter().flat_map(Named::entries).collect();
            index.manifests.append(&mut state.referrers);
            let encode = |source| StoreError::Encode { path: shared.place.clone(), source };
            shared.append_bytes(&mut state, "index.json", &index.encode().map_err(encode)?)?;
        }
        let tar = state.tar.take().ok_or_else(|| shared.broken())?;
        let mut out = tar.finish().map_err(|error| shared.failed(error))?;
        out.flush().map_err(StoreError::io("write", &shared.place))?;
        drop(out);
        state.replacement.take().map_or(Ok(()), Replacement::finish)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // After a panic within a member, there is no archive any more to go on with.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn broken(&self) -> StoreError {
        StoreError::Broken { path: self.place.clone() }
    }

    fn failed(&self, source: LayerError) -> StoreError {
        StoreError::ArchiveWrite { path: self.place.clone(), source }
    }

    /// Appends a member, unless it is there. When that fails, the archive is lost.
    fn append(
        &self,
        state: &mut State,
        name: &str,
        size: u64,
        bytes: &mut dyn Read,
    ) -> Result<(), StoreError> {
        if state.members.contains_key(name) {
            return Ok(());
        }
        let mut tar = state.tar.take().ok_or_else(|| self.broken())?;
        tar.file(name, MODE, Owner::ROOT, size, bytes).map_err(|error| self.failed(error))?;
        // Whoever verifies bytes does so at their end.
        io::copy(bytes, &mut io::sink()).map_err(StoreError::io("copy a blob to", &self.place))?;
        state.tar = Some(tar);
        state.members.insert(name.to_owned(), size);
        Ok(())
    }

    fn append_bytes(&self, state: &mut State, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        self.append(state, name, bytes.len() as u64, &mut &*bytes)
    }

    /// Appends a blob of this digest; its bytes are verified by whoever reads them.
    fn append_blob(&self, blob: &Descriptor, bytes: &mut dyn Read) -> Result<(), StoreError> {
        let mut state = self.lock();
        match self.format {
            Format::Oci => self.append(&mut state, &blob_name(&blob.digest), blob.size, bytes)?,
            Format::Docker => {
                self.append(&mut state, &layer_name(&blob.digest), blob.size, bytes)?;
                state.plain.insert(blob.digest, (blob.digest, blob.size));
            }
        }
        state.blobs.insert(blob.digest, blob.size);
        Ok(())
    }

    /// Keeps a file that is no layer until it is known what it is for, which is so before the next one of something else.
    fn keep_file(&self, other: &dyn Store, blob: &Descriptor) -> Result<Copied, StoreError> {
        let mut state = self.lock();
        let size = state.files_size.saturating_add(blob.size);
        if size > MAX_SIZE {
            state.drop_files();
            return Err(StoreError::TooLarge { path: self.place.join(blob.digest.hex()), limit: MAX_SIZE });
        }
        state.files_size = size;
        drop(state);
        let Some(mut reader) = other.open_blob(blob)? else { return Ok(Copied::Absent) };
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).map_err(StoreError::io("copy a file to", &self.place))?;
        self.lock().files.insert(blob.digest, bytes);
        Ok(Copied::Copied)
    }

    /// Appends a layer that waits in a file, without its compression.
    fn append_plain(&self, digest: Digest, size: u64, file: &File) -> Result<(), StoreError> {
        let failed = |error| self.failed(error);
        let open = || -> Result<Box<dyn Read + Send>, StoreError> {
            let mut file = file.try_clone().map_err(StoreError::io("read", &self.dir))?;
            file.rewind().map_err(StoreError::io("read", &self.dir))?;
            open_layer(file).map_err(failed)
        };
        let mut hash = HashWriter::new(io::sink());
        io::copy(&mut open()?, &mut hash).map_err(StoreError::io("decompress a layer for", &self.place))?;
        let (_, diff_id, plain_size) = hash.finish();
        let mut state = self.lock();
        self.append(&mut state, &layer_name(&diff_id), plain_size, &mut open()?)?;
        state.plain.insert(digest, (diff_id, plain_size));
        state.blobs.insert(digest, size);
        Ok(())
    }

    /// The names that an image gets: its tags, and in whole if that is known.
    fn names(&self, tags: &[String]) -> Result<Vec<(String, Option<String>)>, StoreError> {
        let own = self.tag.as_deref().or(self.name.as_ref().and_then(Reference::tag));
        let own = own.unwrap_or(DEFAULT_TAG).to_owned();
        let tags = if tags.is_empty() { vec![own] } else { tags.to_vec() };
        let whole = |tag: &String| {
            check_name(tag)?;
            let name = self.name.as_ref().map(|name| name.with_tag(tag)).transpose();
            let name = name.map_err(|error| StoreError::Name(error.text))?;
            Ok((tag.clone(), name.as_ref().map(familiar)))
        };
        tags.iter().map(whole).collect()
    }

    /// What an index says of a document.
    fn entry(&self, document: Descriptor, bytes: &[u8]) -> Result<Descriptor, StoreError> {
        annotation::entry(document, bytes)
            .map_err(|source| StoreError::Manifest { path: self.place.clone(), source })
    }

    fn check_layers(&self, state: &State, layers: &[Descriptor]) -> Result<(), StoreError> {
        match layers.iter().find(|layer| state.blobs.get(&layer.digest) != Some(&layer.size)) {
            Some(layer) => Err(StoreError::Missing { path: self.place.clone(), digest: layer.digest }),
            None => Ok(()),
        }
    }

    fn put_oci(&self, image: &Encoded, tags: &[String]) -> Result<(), StoreError> {
        let names = self.names(tags)?;
        let mut state = self.lock();
        self.check_layers(&state, &image.layers)?;
        self.append_bytes(&mut state, &blob_name(&image.config_digest), &image.config)?;
        self.append_bytes(&mut state, &blob_name(&image.manifest_digest), &image.manifest)?;
        let layers: Vec<String> = image.layers.iter().map(|layer| blob_name(&layer.digest)).collect();
        let manifest = Descriptor { platform: Some(image.platform.clone()), ..image.manifest_descriptor() };
        let manifest = self.entry(manifest, &image.manifest)?;
        let parts = Some((blob_name(&image.config_digest), layers));
        state.name(Named { manifest, names, parts });
        Ok(())
    }

    fn put_listed(&self, tree: &Tree) -> Result<(), StoreError> {
        let (subject, mut entry) = artifact::root_of(tree, &self.place)?;
        entry.annotations.retain(|key, _| !annotation::is_of_entry(key));
        let mut state = self.lock();
        self.check_layers(&state, &tree.blobs)?;
        if !state.members.contains_key(&blob_name(&subject)) {
            return Err(StoreError::Missing { path: self.place.clone(), digest: subject });
        }
        for (document, bytes) in &tree.documents {
            self.append_bytes(&mut state, &blob_name(&document.digest), bytes)?;
        }
        if state.referrers.iter().all(|known| known.digest != entry.digest) {
            state.referrers.push(entry);
        }
        Ok(())
    }

    /// Puts what refers to an image of an archive of Docker's into one piece with it.
    fn put_beside(&self, tree: &Tree) -> Result<(), StoreError> {
        let (subject, _) = artifact::root_of(tree, &self.place)?;
        let mut state = self.lock();
        let mut files = state.drop_files();
        let id = state.images.iter().find(|image| image.manifest.digest == subject).and_then(Named::id);
        let id = id.ok_or_else(|| StoreError::Missing { path: self.place.clone(), digest: subject })?;
        let companion = state.companions.entry(id).or_insert_with(|| Companion::new(id));
        companion.add(tree, &self.place, |file| Ok(files.remove(&file.digest)))
    }

    fn put_docker(&self, image: &Encoded, tags: &[String]) -> Result<(), StoreError> {
        let names = self.names(tags)?;
        let config = ImageConfig::parse(&image.config)
            .map_err(|source| StoreError::Image { path: self.place.clone(), source: source.into() })?;
        let mut state = self.lock();
        self.check_layers(&state, &image.layers)?;
        let mut layers = Vec::new();
        for (layer, expected) in image.layers.iter().zip(config.diff_ids()) {
            let (found, size) = state.plain.get(&layer.digest).copied().unwrap_or((layer.digest, layer.size));
            if found != expected {
                let path = self.place.join(layer_name(&layer.digest));
                let (expected_size, found_size) = (size, size);
                return Err(StoreError::Corrupt { path, expected, expected_size, found, found_size });
            }
            layers.push(layer_name(&found));
        }
        let config_name = format!("{}.json", image.config_digest.hex());
        self.append_bytes(&mut state, &config_name, &image.config)?;
        let parts = Some((config_name, layers));
        state.name(Named { manifest: image.manifest_descriptor(), names, parts });
        Ok(())
    }
}

fn layer_name(diff_id: &Digest) -> String {
    format!("{}.tar", diff_id.hex())
}

impl State {
    /// Nothing is kept that nobody waits for any more.
    fn drop_files(&mut self) -> BTreeMap<Digest, Vec<u8>> {
        self.files_size = 0;
        std::mem::take(&mut self.files)
    }

    /// Names an image, in the place of what had these names.
    fn name(&mut self, image: Named) {
        for old in &mut self.images {
            old.names.retain(|(tag, _)| image.names.iter().all(|(new, _)| new != tag));
        }
        self.images.retain(|old| !old.names.is_empty());
        self.images.push(image);
    }
}

impl Named {
    /// An image in Docker's list.
    fn saved(&self) -> Option<Value> {
        let (config, layers) = self.parts.as_ref()?;
        let tags: Vec<&String> = self.names.iter().filter_map(|(_, whole)| whole.as_ref()).collect();
        Some(json!({ "Config": config, "RepoTags": tags, "Layers": layers }))
    }

    /// The id of an image in an archive of Docker's.
    fn id(&self) -> Option<Digest> {
        let (config, _) = self.parts.as_ref()?;
        Digest::from_hex(config.strip_suffix(".json")?).ok()
    }

    /// Its entries in the index of the layout.
    fn entries(&self) -> impl Iterator<Item = Descriptor> {
        self.names.iter().map(|(tag, whole)| {
            let mut entry = self.manifest.clone();
            entry.annotations.insert(REF_NAME.to_owned(), tag.clone());
            entry.annotations.extend(whole.iter().map(|whole| (IMAGE_NAME.to_owned(), whole.clone())));
            entry
        })
    }
}

/// A name as Docker and containerd write it, who call their default registry otherwise.
fn familiar(name: &Reference) -> String {
    match name.to_string().strip_prefix(DEFAULT_REGISTRY) {
        Some(rest) => format!("docker.io{rest}"),
        None => name.to_string(),
    }
}

impl Store for Writer {
    /// An archive that is being written cannot be read.
    fn read_image(&self) -> Result<Option<StoredImage>, StoreError> {
        Err(StoreError::WriteOnly { path: self.shared.place.clone() })
    }

    fn open_blob(&self, _descriptor: &Descriptor) -> Result<Option<Box<dyn Read + Send>>, StoreError> {
        Err(StoreError::WriteOnly { path: self.shared.place.clone() })
    }

    fn has_blob(&self, digest: &Digest, size: u64) -> Result<bool, StoreError> {
        Ok(self.shared.lock().blobs.get(digest) == Some(&size))
    }

    /// The size of a member comes before its bytes: they wait in a file until it is known.
    fn begin_blob(&self) -> Result<Box<dyn BlobSink>, StoreError> {
        let dir = &self.shared.dir;
        let file = tempfile::tempfile_in(dir).map_err(StoreError::io("create a file in", dir))?;
        Ok(Box::new(Waiting { shared: Arc::clone(&self.shared), file, hasher: Hasher::new(), size: 0 }))
    }

    fn put_image(&self, encoded: &Encoded, names: &[String]) -> Result<(), StoreError> {
        match self.shared.format {
            Format::Oci => self.shared.put_oci(encoded, names),
            Format::Docker => self.shared.put_docker(encoded, names),
        }
    }

    fn put_tree(&self, tree: &Tree, names: &[String]) -> Result<(), StoreError> {
        if self.shared.format == Format::Docker {
            return Err(StoreError::NoIndexes);
        }
        let names = self.shared.names(names)?;
        let Some((root, root_bytes)) = tree.documents.last() else { return Ok(()) };
        let manifest = self.shared.entry(root.clone(), root_bytes)?;
        let mut state = self.shared.lock();
        for (document, bytes) in &tree.documents {
            self.shared.append_bytes(&mut state, &blob_name(&document.digest), bytes)?;
        }
        state.name(Named { manifest, names, parts: None });
        Ok(())
    }

    fn put_referrer(&self, referrer: &Tree) -> Result<(), StoreError> {
        match self.shared.format {
            Format::Oci => self.shared.put_listed(referrer),
            Format::Docker => self.shared.put_beside(referrer),
        }
    }

    fn identifier(&self, image: &StoredImage) -> String {
        format!("{}@{}", self.shared.place.display(), image.manifest_digest)
    }

    fn compression(&self) -> strata_layer::Compression {
        match self.shared.format {
            Format::Oci => strata_layer::Compression::Gzip,
            Format::Docker => strata_layer::Compression::None,
        }
    }

    fn medium(&self) -> Medium<'_> {
        match self.shared.format {
            Format::Oci => Medium::Other,
            Format::Docker => Medium::DockerArchive,
        }
    }

    fn copy_blob_from(&self, other: &dyn Store, blob: &Descriptor) -> Result<Copied, StoreError> {
        // Layers of a type that nobody knows are archives all the same.
        let is_layer = media_type::is_layer(&blob.media_type) || blob.media_type.contains("tar");
        if self.shared.format == Format::Docker && !is_layer {
            return self.shared.keep_file(other, blob);
        }
        let is_plain = matches!(&*blob.media_type, media_type::OCI_LAYER | media_type::DOCKER_LAYER);
        if self.shared.format == Format::Docker && !is_plain {
            return copy_bytes(self, other, blob);
        }
        if self.has_blob(&blob.digest, blob.size)? {
            return Ok(Copied::Present);
        }
        let Some(mut reader) = other.open_blob(blob)? else { return Ok(Copied::Absent) };
        self.shared.append_blob(blob, &mut reader)?;
        Ok(Copied::Copied)
    }
}

/// A blob whose size is not known yet.
struct Waiting {
    shared: Arc<Shared>,
    file: File,
    hasher: Hasher,
    size: u64,
}

impl Write for Waiting {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl BlobSink for Waiting {
    fn commit(self: Box<Self>, digest: &Digest, size: u64) -> Result<(), StoreError> {
        let Self { shared, mut file, hasher, size: found_size } = *self;
        let found = hasher.finish();
        if (found, found_size) != (*digest, size) {
            let path = shared.place.join(blob_name(digest));
            let (expected, expected_size) = (*digest, size);
            return Err(StoreError::Corrupt { path, expected, expected_size, found, found_size });
        }
        if shared.lock().blobs.contains_key(digest) {
            return Ok(());
        }
        match shared.format {
            Format::Docker => shared.append_plain(*digest, size, &file),
            Format::Oci => {
                file.rewind().map_err(StoreError::io("read", &shared.dir))?;
                shared.append_blob(&Descriptor::new("", *digest, size), &mut file)
            }
        }
    }
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Shared { format, place, name, .. } = &*self.shared;
        out.debug_struct("Writer")
            .field("format", format)
            .field("place", place)
            .field("name", name)
            .finish_non_exhaustive()
    }
}
