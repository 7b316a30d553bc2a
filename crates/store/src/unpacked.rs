//! Unpacked layers, ready to be the lower directories of an overlay: each once, for all images that have it.
//!
//! A layer is `<diffID>/tree`. It is made in a directory aside and renamed when its last byte is verified, so one with the
//! name of a layer is whole. Whoever uses layers holds shared locks on their directories; the kernel gives them up
//! however the process ends.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, lgetxattr, utimensat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use strata_layer::threads::try_each;
use strata_layer::{
    HashReader, LayerError, Ownership, UnpackOptions, VerifiedReader, Whiteouts, digest_of, open_layer,
    remove_tree, unpack,
};
use strata_oci::{Digest, Image, Layer};

use crate::layout::lock::Lock;
use crate::wire::Stop;
use crate::{Store, StoreError};

/// The directory of one layer's files, in the directory of the layer.
const TREE: &str = "tree";
/// Whose files a layer has, beside them.
const OWNERS: &str = "owners.json";
/// What the names of layers in the making start with.
const PART: &str = ".part-";
/// What the names of layers that are being removed start with.
const GONE: &str = ".gone-";

/// A directory of unpacked layers. Only its owner can look into it: layers may hold programs with special rights.
#[derive(Clone, Debug)]
pub struct Unpacked {
    root: PathBuf,
    mapped: Option<Mapped>,
    stop: Stop,
}

/// Does for a user what only those can who have the ids of others too.
pub trait Hands: core::fmt::Debug + Send + Sync {
    /// Unpacks an archive, which is read to its end, into an empty directory. Everything belongs to whom the archive names.
    ///
    /// # Errors
    ///
    /// When it cannot be read or unpacked; `tree` may then hold a part of it.
    fn unpack(&self, tar: &mut dyn Read, tree: &Path) -> Result<Owners, LayerError>;

    /// Removes a directory with all that belongs to any of the ids; that it is gone already is no error.
    ///
    /// # Errors
    ///
    /// When something of it stays.
    fn remove(&self, path: &Path) -> io::Result<()>;
}

/// The users and groups to whom files of a layer belong.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owners {
    /// Users, as they are seen in the image.
    pub uids: BTreeSet<u32>,
    /// Groups, likewise.
    pub gids: BTreeSet<u32>,
}

impl Owners {
    /// Of everything in a directory, as this process sees it. Links are not followed.
    ///
    /// # Errors
    ///
    /// When something cannot be looked at.
    pub fn of(tree: &Path) -> io::Result<Self> {
        let mut owners = Self::default();
        let mut open = vec![tree.to_owned()];
        owners.add(&tree.symlink_metadata()?);
        while let Some(dir) = open.pop() {
            for entry in fs::read_dir(&dir)? {
                let entry = entry?;
                let metadata = entry.metadata()?;
                owners.add(&metadata);
                if metadata.is_dir() {
                    open.push(entry.path());
                }
            }
        }
        Ok(owners)
    }

    fn add(&mut self, metadata: &fs::Metadata) {
        self.uids.insert(metadata.uid());
        self.gids.insert(metadata.gid());
    }
}

/// Layers whose files belong to several users.
///
/// Who uses a layer is one of its users, and the same user outside; all others are of a range and the same for everybody.
/// A layer that has files of its user is therefore kept for this user alone.
#[derive(Clone, Debug)]
struct Mapped {
    uid: u32,
    gid: u32,
    hands: Arc<dyn Hands>,
}

impl Mapped {
    /// Whether a layer with files of these is one for this user alone.
    fn is_among(&self, owners: &Owners) -> bool {
        owners.uids.contains(&self.uid) || owners.gids.contains(&self.gid)
    }
}

/// What was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Layers that are gone.
    pub layers: u64,
    /// Layers that somebody uses.
    pub in_use: u64,
}

impl Unpacked {
    /// Nothing is made yet.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), mapped: None, stop: Stop::default() }
    }

    /// Layers in which files belong to whom the image names, where the one who builds is `uid` and `gid`.
    pub fn mapped(root: impl Into<PathBuf>, (uid, gid): (u32, u32), hands: Arc<dyn Hands>) -> Self {
        Self { root: root.into(), mapped: Some(Mapped { uid, gid, hands }), stop: Stop::default() }
    }

    /// The same, where nobody waits any longer for another process that unpacks a layer once somebody wants out.
    #[must_use]
    pub fn stopping(self, stop: Stop) -> Self {
        Self { stop, ..self }
    }

    /// The layers of an image that are not unpacked yet, the lowest first, each once.
    #[must_use]
    pub fn missing<'a>(&self, image: &'a Image) -> Vec<&'a Layer> {
        let mut seen = HashSet::new();
        let is_missing = |layer: &&Layer| !self.dir(&layer.diff_id).is_dir() && seen.insert(layer.diff_id);
        image.layers().iter().filter(is_missing).collect()
    }

    /// Unpacks the layers of an image that are not unpacked yet, up to `threads` at a time, and holds all of them. Layers
    /// that another process is unpacking are waited for.
    ///
    /// # Errors
    ///
    /// When a layer is not there, is not what its digests say, or cannot be unpacked here.
    pub fn hold(&self, store: &dyn Store, image: &Image, threads: usize) -> Result<Held, StoreError> {
        self.create()?;
        let missing = self.missing(image);
        try_each(&missing, threads.max(1), |layer| self.take_layer(store, layer).map(drop))?;
        self.hold_all(store, image)
    }

    fn hold_all(&self, store: &dyn Store, image: &Image) -> Result<Held, StoreError> {
        let mut held = Held { dirs: Vec::new(), locks: Vec::new() };
        // The same layer twice in one overlay is refused by the kernel; the upper one says all that both say.
        let mut seen = HashSet::new();
        for layer in image.layers().iter().rev().filter(|layer| seen.insert(layer.diff_id)) {
            held.locks.push(self.take_layer(store, layer)?);
            held.dirs.push(self.dir(&layer.diff_id).join(TREE));
        }
        Ok(held)
    }

    /// Unpacks a tar archive, plain or compressed, as one layer, unless a file with the same bytes was unpacked before, and
    /// holds it.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, is no archive, or cannot be unpacked here.
    pub fn hold_file(&self, file: &Path) -> Result<Held, StoreError> {
        self.create()?;
        let (digest, size) = fs::File::open(file)
            .and_then(|mut file| digest_of(&mut file))
            .map_err(StoreError::io("read", file))?;
        let open = || {
            let open = fs::File::open(file).map_err(StoreError::io("open", file))?;
            Ok(Box::new(VerifiedReader::new(open, digest, size)) as Box<dyn Read + Send>)
        };
        let lock = self.take(&digest, &|tree| Ok(self.extract(&open, &digest, tree)?.1))?;
        Ok(Held { dirs: vec![self.dir(&digest).join(TREE)], locks: vec![lock] })
    }

    fn create(&self) -> Result<(), StoreError> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.root);
        made.map_err(StoreError::io("create", &self.root))
    }

    fn take_layer(&self, store: &dyn Store, layer: &Layer) -> Result<Lock, StoreError> {
        let open = || {
            let digest = layer.descriptor.digest;
            let missing = || StoreError::Missing { path: self.root.clone(), digest };
            store.open_blob(&layer.descriptor)?.ok_or_else(missing)
        };
        self.take(&layer.diff_id, &|tree| {
            let (found, owners) = self.extract(&open, &layer.diff_id, tree)?;
            let expected = layer.diff_id;
            if found == expected { Ok(owners) } else { Err(StoreError::DiffId { expected, found }) }
        })
    }

    /// Makes sure that a layer is here, and keeps it from being removed.
    fn take(&self, name: &Digest, fill: &Fill<'_>) -> Result<Lock, StoreError> {
        loop {
            let dir = self.dir(name);
            if let Some(lock) = lock(&dir, |dir| Lock::shared_unless(dir, &self.stop))? {
                // When it was used last; a layer of somebody else's is one all the same.
                let now = Timestamps {
                    last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
                    last_modification: Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
                };
                utimensat(CWD, &dir, &now, AtFlags::empty()).unwrap_or_default();
                return Ok(lock);
            }
            self.make(name, fill)?;
        }
    }

    /// Unpacks a layer, unless another process is faster.
    fn make(&self, name: &Digest, fill: &Fill<'_>) -> Result<(), StoreError> {
        let part = self.root.join(format!("{PART}{}", name.hex()));
        match fs::DirBuilder::new().mode(0o700).create(&part) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(StoreError::io("create", &part)(error));
            }
            _ => {}
        }
        let Some(_lock) = lock(&part, |dir| Lock::exclusive_unless(dir, &self.stop))? else { return Ok(()) };
        if self.dir(name).is_dir() {
            // Another process was faster, and this is a new one of the same name.
            return self.remove(&part);
        }
        let tree = part.join(TREE);
        // A process that was killed may have left some of it.
        self.remove(&tree)?;
        fs::create_dir(&tree).map_err(StoreError::io("create", &tree))?;
        let made = fill(&tree).and_then(|owners| {
            self.note(&part, owners.as_ref())?;
            // A layer with its name is whole, after a power cut too.
            sync(&part)?;
            Ok(self.name_for(name, owners.as_ref()))
        });
        match made {
            Ok(dir) => self.rename(&part, &dir, name).map_err(StoreError::io("rename", &part)),
            Err(error) => {
                // Why it cannot be unpacked counts more; what stays is used or removed later.
                self.remove(&part).unwrap_or_default();
                Err(error)
            }
        }
    }

    /// Gives a layer its name; the one for its owner where another has that which is for all and does not say whose
    /// its files are.
    fn rename(&self, part: &Path, dir: &Path, name: &Digest) -> io::Result<()> {
        match (fs::rename(part, dir), &self.mapped) {
            (Err(error), Some(mapped)) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
                fs::rename(part, self.own(name, mapped))
            }
            (outcome, _) => outcome,
        }
    }

    /// What a layer is called whose files belong to others for whoever has other ids.
    fn own(&self, name: &Digest, mapped: &Mapped) -> PathBuf {
        self.root.join(format!("{}.{}.{}", name.hex(), mapped.uid, mapped.gid))
    }

    /// Writes down whose files a layer has.
    fn note(&self, part: &Path, owners: Option<&Owners>) -> Result<(), StoreError> {
        let Some(owners) = owners else { return Ok(()) };
        let path = part.join(OWNERS);
        let json =
            serde_json::to_vec(owners).map_err(io::Error::from).map_err(StoreError::io("write", &path))?;
        fs::write(&path, json).map_err(StoreError::io("write", &path))
    }

    /// Unpacks a blob; the digest of the archive in it, and whose files they are if that is kept.
    fn extract(
        &self,
        open: &OpenBlob<'_>,
        name: &Digest,
        tree: &Path,
    ) -> Result<(Digest, Option<Owners>), StoreError> {
        let unclear = |source| StoreError::Unpack { layer: *name, source };
        let mut tar = HashReader::new(open_layer(open()?).map_err(unclear)?);
        let owners = match &self.mapped {
            Some(mapped) => Some(mapped.hands.unpack(&mut tar, tree).map_err(unclear)?),
            None => unpack(&mut tar, tree, &lower(Ownership::Caller)).map(|_| None).map_err(unclear)?,
        };
        Ok((tar.finish(), owners))
    }

    fn remove(&self, path: &Path) -> Result<(), StoreError> {
        match &self.mapped {
            Some(mapped) => mapped.hands.remove(path).map_err(StoreError::io("remove", path)),
            None => remove(path),
        }
    }

    /// Removes layers that nobody has used for this long and nobody uses now, and what was left half done.
    ///
    /// # Errors
    ///
    /// When the directory cannot be read, or a layer not removed.
    pub fn sweep(&self, unused_for: Duration) -> Result<Swept, StoreError> {
        let mut swept = Swept::default();
        let entries = match fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(swept),
            Err(error) => return Err(StoreError::io("list", &self.root)(error)),
        };
        // One at a time.
        let _alone = Lock::exclusive(&self.root)?;
        for entry in entries {
            let name = entry.map_err(StoreError::io("list", &self.root))?.file_name();
            let name = name.to_string_lossy();
            let dir = self.root.join(&*name);
            if name.starts_with(GONE) {
                self.remove(&dir)?;
            } else if name.starts_with(PART) {
                if is_free(&dir)?.is_some() {
                    self.remove(&dir)?;
                }
            } else if is_layer(&name) && is_old(&dir, unused_for) {
                match is_free(&dir)? {
                    Some(_lock) => {
                        let gone = self.root.join(format!("{GONE}{name}"));
                        self.remove(&gone)?;
                        fs::rename(&dir, &gone).map_err(StoreError::io("rename", &dir))?;
                        self.remove(&gone)?;
                        swept.layers += 1;
                    }
                    None => swept.in_use += 1,
                }
            }
        }
        Ok(swept)
    }

    /// Where a layer is, or would be.
    fn dir(&self, diff_id: &Digest) -> PathBuf {
        let plain = self.root.join(diff_id.hex());
        let Some(mapped) = &self.mapped else { return plain };
        let own = self.own(diff_id, mapped);
        // One that does not say whose files it has is not used; it is unpacked again.
        let owners = fs::read(plain.join(OWNERS)).ok().and_then(|json| serde_json::from_slice(&json).ok());
        match owners {
            Some(owners) if !own.is_dir() && !mapped.is_among(&owners) => plain,
            _ => own,
        }
    }

    /// What a layer that was just unpacked is called.
    fn name_for(&self, diff_id: &Digest, owners: Option<&Owners>) -> PathBuf {
        let plain = self.root.join(diff_id.hex());
        match (&self.mapped, owners) {
            (Some(mapped), Some(owners)) if mapped.is_among(owners) => self.own(diff_id, mapped),
            _ => plain,
        }
    }
}

/// Layers that stay as long as this value does.
#[derive(Debug)]
pub struct Held {
    dirs: Vec<PathBuf>,
    locks: Vec<Lock>,
}

impl Held {
    /// The directories, the topmost first; whiteouts are those of overlayfs.
    #[must_use]
    pub fn dirs(&self) -> &[PathBuf] {
        &self.dirs
    }

    /// A file as it is seen in the overlay of all layers; `None` when it is not there. `path` is relative and plain. Links
    /// are not followed.
    ///
    /// # Errors
    ///
    /// When it cannot be read, is not a regular file, or has more than `limit` bytes.
    pub fn read(&self, path: &Path, limit: u64) -> Result<Option<Vec<u8>>, StoreError> {
        for dir in &self.dirs {
            match find(dir, path)? {
                Found::File(file) => {
                    let open = fs::File::open(&file).map_err(StoreError::io("open", &file))?;
                    let mut bytes = Vec::new();
                    open.take(limit + 1).read_to_end(&mut bytes).map_err(StoreError::io("read", &file))?;
                    if bytes.len() as u64 > limit {
                        return Err(StoreError::TooLarge { path: file, limit });
                    }
                    return Ok(Some(bytes));
                }
                Found::Hidden => return Ok(None),
                Found::Nothing => {}
            }
        }
        Ok(None)
    }
}

/// What one layer says of a path.
enum Found {
    File(PathBuf),
    /// Lower layers are not seen there.
    Hidden,
    Nothing,
}

fn find(dir: &Path, path: &Path) -> Result<Found, StoreError> {
    let mut place = dir.to_owned();
    let mut nothing = Found::Nothing;
    let mut parts = path.components().peekable();
    while let Some(Component::Normal(name)) = parts.next() {
        place.push(name);
        let metadata = match place.symlink_metadata() {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(nothing),
            Err(error) => return Err(StoreError::io("look at", &place)(error)),
        };
        let kind = metadata.file_type();
        if kind.is_char_device() && metadata.rdev() == 0 {
            return Ok(Found::Hidden);
        }
        match parts.peek() {
            None if kind.is_file() => return Ok(Found::File(place)),
            Some(_) if kind.is_dir() => {
                if is_opaque(&place) {
                    nothing = Found::Hidden;
                }
            }
            _ => return Err(StoreError::Kind { path: place }),
        }
    }
    Ok(nothing)
}

fn is_opaque(dir: &Path) -> bool {
    let mut value = [0; 1];
    lgetxattr(dir, "user.overlay.opaque", &mut value[..]).is_ok_and(|length| length == 1) && value == *b"y"
}

/// Fills an empty directory with the files of a layer; says whose they are if that is kept.
type Fill<'a> = dyn Fn(&Path) -> Result<Option<Owners>, StoreError> + 'a;

type OpenBlob<'a> = dyn Fn() -> Result<Box<dyn Read + Send>, StoreError> + 'a;

/// How layers are unpacked that become lower directories of an overlay.
#[must_use]
pub fn lower(ownership: Ownership) -> UnpackOptions {
    UnpackOptions { whiteouts: Whiteouts::Overlay, ownership, ..UnpackOptions::default() }
}

/// Whether the name is that of a layer, for everybody or for one user.
fn is_layer(name: &str) -> bool {
    let (hex, user) = name.split_once('.').unwrap_or((name, ""));
    Digest::from_hex(hex).is_ok() && user.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
}

/// Waits until all of the disk that holds `dir` is written.
fn sync(dir: &Path) -> Result<(), StoreError> {
    let open = fs::File::open(dir).map_err(StoreError::io("open", dir))?;
    rustix::fs::syncfs(&open).map_err(|error| StoreError::io("write to the disk", dir)(error.into()))
}

/// Locks a directory; `None` when it is not there, or another one came into its place meanwhile.
fn lock(
    dir: &Path,
    take: impl FnOnce(&Path) -> Result<Lock, StoreError>,
) -> Result<Option<Lock>, StoreError> {
    match take(dir) {
        Ok(lock) => Ok(lock.is_of(dir)?.then_some(lock)),
        Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The directory alone, if nobody uses it.
fn is_free(dir: &Path) -> Result<Option<Lock>, StoreError> {
    match Lock::try_exclusive(dir) {
        Ok(Some(lock)) => Ok(lock.is_of(dir)?.then_some(lock)),
        Ok(None) => Ok(None),
        Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_old(dir: &Path, unused_for: Duration) -> bool {
    let used = dir.metadata().and_then(|metadata| metadata.modified());
    // A clock that was put back makes nothing old.
    used.is_ok_and(|used| SystemTime::now().duration_since(used).is_ok_and(|age| age >= unused_for))
}

fn remove(path: &Path) -> Result<(), StoreError> {
    match remove_tree(path) {
        Err(error) if error.raw_os_error() != Some(Errno::NOENT.raw_os_error()) => {
            Err(StoreError::io("remove", path)(error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
