//! Images in a directory: the OCI image layout.
//!
//! Blobs are named only once their bytes are verified and on disk; `index.json` is replaced last, by a rename, so that
//! a reader sees the old image or the new one. Symbolic links are never followed inside the layout.
//!
//! Writers share a lock on the directory itself, no lock file is left behind. Whoever has it alone may clean up: remove
//! temporary files of writers that died, and blobs no manifest names. A file system without locks is never cleaned.

pub(crate) mod lock;
mod prune;
mod referrers;
mod select;
mod sink;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{Mode, OFlags};
use strata_oci::manifest::MAX_MANIFEST_SIZE;
use strata_oci::media_type::is_foreign_layer;
use strata_oci::{Descriptor, Digest, Encoded, Image, Index, Platform, annotation};

use crate::{BlobSink, Copied, Medium, Store, StoreError, StoredImage, Tree, copy_bytes};
pub use lock::Lock;
pub use prune::Pruned;
use sink::FileSink;

/// The annotation that holds the tag of an image in the index.
pub use strata_oci::annotation::REF_NAME;
/// As written by the libraries most tools use.
pub(crate) const OCI_LAYOUT: &str = "{\n    \"imageLayoutVersion\": \"1.0.0\"\n}";
const TEMP_PREFIX: &str = ".tmp-";
const INDEX_TEMP_PREFIX: &str = ".index.json.tmp-";

/// A directory in the OCI image layout. Clones are the same writer.
#[derive(Clone, Debug)]
pub struct Layout {
    dir: PathBuf,
    tag: Option<String>,
    /// The one image of this layout is written under this name.
    only_name: Option<String>,
    platform: Platform,
    may_be_sparse: bool,
    session: Arc<Mutex<Session>>,
}

/// What this writer has under way.
#[derive(Debug, Default)]
struct Session {
    lock: Option<Lock>,
    live_sinks: usize,
    /// Committed, and named by no image yet.
    fresh: BTreeSet<Digest>,
}

impl Layout {
    /// The layout in `dir`, which need not exist. Nothing is read yet.
    pub fn open(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            tag: None,
            only_name: None,
            platform: Platform::new("linux", host_architecture()),
            may_be_sparse: false,
            session: Arc::default(),
        }
    }

    /// The layout in `dir`, made if there is none, and cleaned of what dead writers left.
    ///
    /// # Errors
    ///
    /// When the directory cannot be made, or holds a layout of another version.
    pub fn open_or_create(dir: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let layout = Self::open(dir);
        layout.create()?;
        {
            let _mutex = Lock::exclusive(&layout.blobs_dir())?;
            if read_file(&layout.dir.join("index.json"), MAX_MANIFEST_SIZE)?.is_none() {
                layout.write_index(&Index::default())?;
            }
        }
        if let Some(_alone) = Lock::try_exclusive(&layout.dir)? {
            layout.sweep()?;
        }
        Ok(layout)
    }

    /// The same layout, reading and writing the image with this tag only.
    #[must_use]
    pub fn tagged(mut self, tag: impl Into<String>) -> Self {
        self.tag = Some(tag.into());
        self
    }

    /// The same layout, for one image: it is read whatever its tag is, and written with this one in place of all that
    /// the layout had.
    #[must_use]
    pub fn for_one_image(mut self, name: impl Into<String>) -> Self {
        self.only_name = Some(name.into());
        self
    }

    /// The same layout, reading the image for this platform when there are several. Default: Linux on this machine.
    #[must_use]
    pub fn for_platform(mut self, platform: Platform) -> Self {
        self.platform = platform;
        self
    }

    /// The same layout, accepting images some layers of which are absent.
    #[must_use]
    pub fn sparse(mut self) -> Self {
        self.may_be_sparse = true;
        self
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The tag asked for.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// Where the blob with this digest is, or would be.
    #[must_use]
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.blobs_dir().join(digest.hex())
    }

    /// Takes over a blob of another layout, sharing storage where the file system can. The bytes are verified.
    fn copy_file_from(&self, other: &Self, descriptor: &Descriptor) -> Result<Copied, StoreError> {
        if self.has_blob(&descriptor.digest, descriptor.size)? {
            // Looked at again once nobody can clean up.
            let mut session = self.begin_session()?;
            if self.has_blob(&descriptor.digest, descriptor.size)? {
                session.fresh.insert(descriptor.digest);
                return Ok(Copied::Present);
            }
        }
        let Some(source) = other.open_blob_file(descriptor)? else { return Ok(Copied::Absent) };
        if self.link_blob(other, descriptor, &source)? {
            return Ok(Copied::Linked);
        }
        let mut sink = self.sink()?;
        let how = if sink.clone_from(&source)? {
            Copied::Cloned
        } else {
            io::copy(&mut &source, &mut sink)
                .map_err(StoreError::io("copy", &other.blob_path(&descriptor.digest)))?;
            Copied::Copied
        };
        Box::new(sink).commit(&descriptor.digest, descriptor.size)?;
        Ok(how)
    }

    /// Links the file, if it is one this layout could have written: ours alone to change, readable by all.
    fn link_blob(&self, other: &Self, wanted: &Descriptor, source: &File) -> Result<bool, StoreError> {
        use std::os::unix::fs::MetadataExt as _;
        let from = other.blob_path(&wanted.digest);
        let meta = source.metadata().map_err(StoreError::io("look at", &from))?;
        if meta.uid() != rustix::process::geteuid().as_raw() || meta.mode() & 0o7777 != 0o644 {
            return Ok(false);
        }
        self.create()?;
        let mut session = self.begin_session()?;
        let made = tempfile::Builder::new()
            .prefix(TEMP_PREFIX)
            .make_in(self.blobs_dir(), |to| fs::hard_link(&from, to).map(drop));
        // Another file system, or one without links: the caller copies.
        let Ok(temp) = made else { return Ok(false) };
        let linked = open_file(temp.path())?.ok_or_else(|| self.missing(wanted.digest))?;
        sink::verify(&linked, temp.path(), &wanted.digest, wanted.size)?;
        linked.sync_all().map_err(StoreError::io("sync", temp.path()))?;
        let to = self.blob_path(&wanted.digest);
        temp.persist(&to).map_err(|error| StoreError::io("rename", &to)(error.error))?;
        session.fresh.insert(wanted.digest);
        Ok(true)
    }

    fn blobs_dir(&self) -> PathBuf {
        self.dir.join("blobs").join("sha256")
    }

    fn missing(&self, digest: Digest) -> StoreError {
        StoreError::Missing { path: self.dir.clone(), digest }
    }

    fn lock_session(&self) -> MutexGuard<'_, Session> {
        // The session is a set and a counter: right after any panic.
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the directory a layout, one without an image until there is one, and announces this writer to others.
    fn begin_session(&self) -> Result<MutexGuard<'_, Session>, StoreError> {
        let mut session = self.lock_session();
        if session.lock.is_none() {
            self.create()?;
            session.lock = Some(Lock::shared(&self.dir)?);
        }
        Ok(session)
    }

    fn create(&self) -> Result<(), StoreError> {
        let blobs = self.blobs_dir();
        fs::create_dir_all(&blobs).map_err(StoreError::io("create", &blobs))?;
        for dir in [self.dir.join("blobs"), blobs] {
            let meta = fs::symlink_metadata(&dir).map_err(StoreError::io("look at", &dir))?;
            if !meta.is_dir() {
                return Err(StoreError::Kind { path: dir });
            }
        }
        let _mutex = Lock::exclusive(&self.blobs_dir())?;
        let marker = self.dir.join("oci-layout");
        match read_file(&marker, MAX_MANIFEST_SIZE)? {
            Some(_) => self.check_version()?,
            None => self.replace(&marker, OCI_LAYOUT.as_bytes())?,
        }
        Ok(())
    }

    /// A missing `oci-layout` is forgiven: an index says enough.
    fn check_version(&self) -> Result<(), StoreError> {
        let path = self.dir.join("oci-layout");
        let Some(bytes) = read_file(&path, MAX_MANIFEST_SIZE)? else { return Ok(()) };
        check_version(&path, &bytes)
    }

    fn read_index(&self) -> Result<Option<Index>, StoreError> {
        let path = self.dir.join("index.json");
        let Some(bytes) = read_file(&path, MAX_MANIFEST_SIZE)? else { return Ok(None) };
        self.check_version()?;
        Index::parse(&bytes, None).map(Some).map_err(|source| StoreError::Manifest { path, source })
    }

    fn write_index(&self, index: &Index) -> Result<(), StoreError> {
        let path = self.dir.join("index.json");
        let bytes = index.encode().map_err(|source| StoreError::Encode { path: path.clone(), source })?;
        self.replace(&path, &bytes)
    }

    /// Replaces a file in the directory by a rename, so that it is never seen half written.
    fn replace(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        let mut temp = temp_file(&self.dir, INDEX_TEMP_PREFIX)?;
        temp.write_all(bytes).map_err(StoreError::io("write", temp.path()))?;
        temp.as_file().sync_all().map_err(StoreError::io("sync", temp.path()))?;
        temp.persist(path).map_err(|error| StoreError::io("rename", path)(error.error))?;
        sync_dir(&self.dir)
    }

    /// The whole of a document, verified.
    fn read_document(&self, descriptor: &Descriptor, limit: u64) -> Result<Vec<u8>, StoreError> {
        let path = self.blob_path(&descriptor.digest);
        let bytes = read_file(&path, limit)?.ok_or_else(|| self.missing(descriptor.digest))?;
        if descriptor.matches(&bytes) {
            return Ok(bytes);
        }
        Err(StoreError::Corrupt {
            path,
            expected: descriptor.digest,
            expected_size: descriptor.size,
            found: Digest::of(&bytes),
            found_size: bytes.len() as u64,
        })
    }

    fn open_blob_file(&self, descriptor: &Descriptor) -> Result<Option<File>, StoreError> {
        let path = self.blob_path(&descriptor.digest);
        let Some(file) = open_file(&path)? else { return Ok(None) };
        let found = file.metadata().map_err(StoreError::io("look at", &path))?.len();
        if found == descriptor.size {
            Ok(Some(file))
        } else {
            Err(StoreError::Size { path, expected: descriptor.size, found })
        }
    }

    /// The file of a blob, the bytes of which were read once and are right; `None` when it is absent.
    pub(crate) fn verified_file(&self, descriptor: &Descriptor) -> Result<Option<File>, StoreError> {
        let Some(file) = self.open_blob_file(descriptor)? else { return Ok(None) };
        sink::verify(&file, &self.blob_path(&descriptor.digest), &descriptor.digest, descriptor.size)?;
        Ok(Some(file))
    }

    fn sink(&self) -> Result<FileSink, StoreError> {
        self.begin_session()?.live_sinks += 1;
        match temp_file(&self.blobs_dir(), TEMP_PREFIX) {
            Ok(temp) => Ok(FileSink::new(self.clone(), temp)),
            Err(error) => {
                self.lock_session().live_sinks -= 1;
                Err(error)
            }
        }
    }

    /// Stores one image for several platforms, the layers of which are there already, and makes it visible under `names`
    /// as an index. Otherwise like [`Store::put_image`].
    ///
    /// # Errors
    ///
    /// When a layer is absent, a name is no tag, or the layout cannot be written.
    pub fn put_images(&self, images: &[Encoded], names: &[String]) -> Result<Digest, StoreError> {
        let names = self.names_or_default(names)?;
        let mut stored = Vec::new();
        let mut index = Index::default();
        for image in images {
            stored.extend(self.put_documents(image)?);
            index
                .manifests
                .push(Descriptor { platform: Some(image.platform.clone()), ..image.manifest_descriptor() });
        }
        let bytes = index.encode().map_err(|source| StoreError::Encode { path: self.dir.clone(), source })?;
        let descriptor = Descriptor::of(index.media_type, &bytes);
        self.put_document(&bytes, &descriptor.digest)?;
        stored.push(descriptor.digest);
        self.publish(&descriptor, &bytes, &names)?;
        self.named_now(stored).map(|()| descriptor.digest)
    }

    /// Without names, the tag of this handle or `latest`.
    fn names_or_default(&self, names: &[String]) -> Result<Vec<String>, StoreError> {
        let names = match names {
            [] => {
                let own = self.tag.as_ref().or(self.only_name.as_ref());
                vec![own.map_or_else(|| "latest".to_owned(), String::clone)]
            }
            names => names.to_vec(),
        };
        names.iter().try_for_each(|name| check_name(name))?;
        Ok(names)
    }

    /// Stores the documents of an image; which blobs it is made of.
    fn put_documents(&self, encoded: &Encoded) -> Result<Vec<Digest>, StoreError> {
        for layer in encoded.layers.iter().filter(|_| !self.may_be_sparse) {
            if !self.has_blob(&layer.digest, layer.size)? {
                return Err(self.missing(layer.digest));
            }
        }
        self.put_document(&encoded.config, &encoded.config_digest)?;
        self.put_document(&encoded.manifest, &encoded.manifest_digest)?;
        let layers = encoded.layers.iter().map(|layer| layer.digest);
        Ok(layers.chain([encoded.config_digest, encoded.manifest_digest]).collect())
    }

    /// Names what is stored, in the place of what had these names.
    fn publish(&self, document: &Descriptor, bytes: &[u8], names: &[String]) -> Result<(), StoreError> {
        let document = annotation::entry(document.clone(), bytes)
            .map_err(|source| StoreError::Manifest { path: self.dir.clone(), source })?;
        sync_dir(&self.blobs_dir())?;
        let _mutex = Lock::exclusive(&self.blobs_dir())?;
        let mut index = self.read_index()?.unwrap_or_default();
        let mut kept = Vec::new();
        for old in std::mem::take(&mut index.manifests) {
            let is_kept = match old.annotations.get(REF_NAME) {
                Some(name) => self.only_name.is_none() && !names.contains(name),
                None => self.unnamed_subject(&old)?.is_some(),
            };
            kept.extend(is_kept.then_some(old));
        }
        index.manifests = kept;
        for name in names {
            let mut entry = document.clone();
            entry.annotations.insert(REF_NAME.to_owned(), name.clone());
            index.manifests.push(entry);
        }
        // What referred to an image that had these names may refer to nothing now.
        self.settle(&mut index)?;
        self.write_index(&index)
    }

    /// These blobs are named by an image from now on.
    fn named_now(&self, blobs: Vec<Digest>) -> Result<(), StoreError> {
        for digest in blobs {
            self.lock_session().fresh.remove(&digest);
        }
        self.prune().map(drop)
    }

    /// Stores the documents of a tree, if its blobs are there.
    fn put_below(&self, tree: &Tree) -> Result<(), StoreError> {
        for blob in
            tree.blobs.iter().filter(|blob| !self.may_be_sparse && !is_foreign_layer(&blob.media_type))
        {
            if !self.has_blob(&blob.digest, blob.size)? {
                return Err(self.missing(blob.digest));
            }
        }
        let mut documents = tree.documents.iter();
        documents.try_for_each(|(descriptor, bytes)| self.put_document(bytes, &descriptor.digest))
    }

    fn put_document(&self, bytes: &[u8], digest: &Digest) -> Result<(), StoreError> {
        let mut sink = self.sink()?;
        sink.write_all(bytes).map_err(StoreError::io("write", &self.blob_path(digest)))?;
        Box::new(sink).commit(digest, bytes.len() as u64)
    }
}

impl Store for Layout {
    fn read_image(&self) -> Result<Option<StoredImage>, StoreError> {
        let Some(descriptor) = self.select()? else { return Ok(None) };
        let (manifest, parsed) = self.read_manifest(&descriptor)?;
        let config = self.read_document(&parsed.config, strata_oci::config::MAX_CONFIG_SIZE)?;
        let image = Image::from_parts(&manifest, &config)
            .map_err(|source| StoreError::Image { path: self.dir.clone(), source })?;
        Ok(Some(StoredImage { image, manifest_digest: descriptor.digest, manifest, config }))
    }

    fn read_tree(&self) -> Result<Option<Tree>, StoreError> {
        let Some(entries) = self.entries()? else { return Ok(None) };
        crate::select::read_tree(self, &entries)
    }

    fn root(&self) -> Result<Option<Descriptor>, StoreError> {
        crate::select::root(self, &self.entries()?.unwrap_or_default())
    }

    fn put_tree(&self, tree: &Tree, names: &[String]) -> Result<(), StoreError> {
        let names = self.names_or_default(names)?;
        let Some((root, root_bytes)) = tree.documents.last() else { return Ok(()) };
        self.put_below(tree)?;
        self.publish(root, root_bytes, &names)?;
        self.named_now(tree.digests().collect())
    }

    fn open_blob(&self, descriptor: &Descriptor) -> Result<Option<Box<dyn Read + Send>>, StoreError> {
        let Some(file) = self.open_blob_file(descriptor)? else { return Ok(None) };
        let reader = strata_layer::VerifiedReader::new(file, descriptor.digest, descriptor.size);
        Ok(Some(Box::new(reader)))
    }

    fn copy_blob_from(&self, other: &dyn Store, descriptor: &Descriptor) -> Result<Copied, StoreError> {
        match other.medium() {
            Medium::Layout(other) => self.copy_file_from(other, descriptor),
            _ => copy_bytes(self, other, descriptor),
        }
    }

    /// Those that `index.json` lists.
    fn referrers(
        &self,
        subject: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>, StoreError> {
        self.find_referrers(subject, artifact_type)
    }

    fn read_referrer(&self, entry: &Descriptor) -> Result<Option<Tree>, StoreError> {
        crate::select::lone_tree(self, entry)
    }

    fn put_referrer(&self, referrer: &Tree) -> Result<(), StoreError> {
        self.put_listed(referrer)
    }

    /// Refuses when the subject is not in the layout: the artifact would be removed with the next blob that nobody names.
    fn attach(
        &self,
        subject: &Descriptor,
        artifact_type: &str,
        media_type: &str,
        bytes: &[u8],
        annotations: &BTreeMap<String, String>,
    ) -> Result<Digest, StoreError> {
        let file = Descriptor::of(media_type, bytes);
        self.attach_file(subject, artifact_type, file, bytes, annotations)
    }

    fn identifier(&self, image: &StoredImage) -> String {
        format!("{}@{}", self.dir.display(), image.manifest_digest)
    }

    fn medium(&self) -> Medium<'_> {
        Medium::Layout(self)
    }

    fn has_blob(&self, digest: &Digest, size: u64) -> Result<bool, StoreError> {
        let path = self.blob_path(digest);
        match fs::symlink_metadata(&path) {
            Ok(meta) => Ok(meta.is_file() && meta.len() == size),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(StoreError::io("look at", &path)(error)),
        }
    }

    fn begin_blob(&self) -> Result<Box<dyn BlobSink>, StoreError> {
        Ok(Box::new(self.sink()?))
    }

    /// Without names, the tag of this handle or `latest`. Entries without a name, or with one of these, are replaced;
    /// others stay, and so do artifacts as long as what they refer to does. Then blobs no manifest names are removed, unless another writer is at work.
    fn put_image(&self, encoded: &Encoded, names: &[String]) -> Result<(), StoreError> {
        let names = self.names_or_default(names)?;
        let stored = self.put_documents(encoded)?;
        self.publish(&encoded.manifest_descriptor(), &encoded.manifest, &names)?;
        self.named_now(stored)
    }
}

/// Refuses layouts of versions that are not known by what `oci-layout` says.
pub(crate) fn check_version(path: &Path, marker: &[u8]) -> Result<(), StoreError> {
    let marker: serde_json::Value =
        serde_json::from_slice(marker).map_err(|error| StoreError::io("parse", path)(error.into()))?;
    match marker.get("imageLayoutVersion").and_then(serde_json::Value::as_str) {
        Some("1.0.0") => Ok(()),
        version => {
            let version = version.unwrap_or_default().to_owned();
            Err(StoreError::Version { path: path.to_owned(), version })
        }
    }
}

/// Refuses what other tools would not take for a tag.
pub(crate) fn check_name(name: &str) -> Result<(), StoreError> {
    let is_good = name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:@/+".contains(&b));
    if is_good { Ok(()) } else { Err(StoreError::Name(name.to_owned())) }
}

/// The machine this runs on, in Go's words.
pub fn host_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
        other => other,
    }
}

/// Opens a regular file without following a link; `None` when there is nothing.
pub(crate) fn open_file(path: &Path) -> Result<Option<File>, StoreError> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(fd) => File::from(fd),
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(rustix::io::Errno::LOOP) => return Err(StoreError::Kind { path: path.to_owned() }),
        Err(error) => return Err(StoreError::io("open", path)(error.into())),
    };
    if file.metadata().map_err(StoreError::io("look at", path))?.is_file() {
        Ok(Some(file))
    } else {
        Err(StoreError::Kind { path: path.to_owned() })
    }
}

pub(crate) fn read_file(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, StoreError> {
    let Some(file) = open_file(path)? else { return Ok(None) };
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(StoreError::io("read", path))?;
    if bytes.len() as u64 > limit {
        return Err(StoreError::TooLarge { path: path.to_owned(), limit });
    }
    Ok(Some(bytes))
}

pub(crate) fn temp_file(dir: &Path, prefix: &str) -> Result<tempfile::NamedTempFile, StoreError> {
    use std::os::unix::fs::PermissionsExt as _;
    tempfile::Builder::new()
        .prefix(prefix)
        .permissions(fs::Permissions::from_mode(0o644))
        .tempfile_in(dir)
        .map_err(StoreError::io("create a file in", dir))
}

pub(crate) fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(StoreError::io("sync", dir))
}
