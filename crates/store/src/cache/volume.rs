//! A cache in a folder.
//!
//! ```text
//! <folder>/committed/sha256:<hex>.tar                        a layer, uncompressed, named by its digest
//! <folder>/committed/io.buildpacks.lifecycle.cache.metadata  what is cached, JSON and a line feed
//! <folder>/staging/                                          the next generation while it is written
//! <folder>/committed-backup/                                 the last one, while a commit cannot exchange folders
//! <folder>/trees/                                            what others keep besides, see [`VolumeCache::trees`]
//! ```
//!
//! A writer has the folder locked; readers need no lock. A program that dies leaves the old generation or the new one,
//! wherever it stood: what it left besides is removed by the next writer. Nothing is flushed to the disk: a layer that
//! a loss of power has damaged is found out when it is read.

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use strata_layer::{Compression, Packed, Packer, Source, Spare, digest_of, remove_tree};
use strata_oci::Digest;
use tempfile::NamedTempFile;

use super::{Cache, CacheWriter, Check, Draft, METADATA, Patience, Reuse, Verified};
use crate::StoreError;
use crate::layout::lock::Lock;
use crate::layout::{open_file, read_file};
use crate::wire::Stop;

/// Larger metadata are refused.
const MAX_METADATA: u64 = 16 * 1024 * 1024;

/// A cache in a folder.
#[derive(Clone, Debug)]
pub struct VolumeCache {
    pub(super) dir: PathBuf,
    patience: Patience,
    stop: Stop,
}

impl VolumeCache {
    /// The cache in `dir`, which must exist; an empty one is an empty cache. Nothing is written yet.
    ///
    /// # Errors
    ///
    /// When there is no such directory.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let dir = dir.into();
        let meta = fs::metadata(&dir).map_err(StoreError::io("open the cache", &dir))?;
        if !meta.is_dir() {
            return Err(StoreError::io("open the cache", &dir)(ErrorKind::NotADirectory.into()));
        }
        Ok(Self { dir, patience: Patience::default(), stop: Stop::default() })
    }

    /// The same, with another patience for what is written ahead.
    #[must_use]
    pub fn with_patience(self, patience: Patience) -> Self {
        Self { patience, ..self }
    }

    /// The same, where nobody waits any longer for another writer once somebody wants out.
    #[must_use]
    pub fn stopping(self, stop: Stop) -> Self {
        Self { stop, ..self }
    }

    /// As [`open`](Self::open), for a directory that may have to be made.
    ///
    /// # Errors
    ///
    /// When it cannot be made.
    pub fn create(dir: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let dir = dir.into();
        fs::create_dir_all(&dir).map_err(StoreError::io("create", &dir))?;
        Self::open(dir)
    }

    /// Removes all that the cache holds. Waits for a writer to finish.
    ///
    /// # Errors
    ///
    /// When something cannot be removed.
    pub fn clear(&self) -> Result<(), StoreError> {
        let _lock = Lock::exclusive_unless(&self.dir, &self.stop)?;
        self.empty()
    }

    /// As [`clear`](Self::clear), for whoever has the lock.
    pub(super) fn empty(&self) -> Result<(), StoreError> {
        // The metadata go first: without them there is no layer to look for.
        remove(&self.committed().join(METADATA))?;
        remove(&self.backup())?;
        remove(&self.committed())?;
        remove(&self.trees())?;
        remove(&self.staging())
    }

    /// Bytes of the archive of a layer; `None` when it is absent.
    ///
    /// # Errors
    ///
    /// When it cannot be looked at.
    pub fn layer_size(&self, diff_id: &Digest) -> Result<Option<u64>, StoreError> {
        let path = layer_path(&self.generation(), diff_id);
        match path.symlink_metadata() {
            Ok(meta) => Ok(Some(meta.len()).filter(|_| meta.is_file())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::io("look at", &path)(error)),
        }
    }

    /// A folder beside the layers, for whoever keeps the trees of some besides; it is cleared and removed with them.
    pub fn trees(&self) -> PathBuf {
        self.dir.join("trees")
    }

    fn committed(&self) -> PathBuf {
        self.dir.join("committed")
    }

    fn staging(&self) -> PathBuf {
        self.dir.join("staging")
    }

    fn backup(&self) -> PathBuf {
        self.dir.join("committed-backup")
    }

    /// The folder of the last generation: between the two renames of a commit, and after one that died there, it is
    /// the backup.
    fn generation(&self) -> PathBuf {
        let committed = self.committed();
        if !is_dir(&committed) && is_dir(&self.backup()) { self.backup() } else { committed }
    }

    /// Finishes or takes back what a dead writer had begun. The caller has the lock.
    fn recover(&self) -> Result<(), StoreError> {
        let (committed, backup) = (self.committed(), self.backup());
        if is_dir(&backup) && !is_dir(&committed) {
            rename(&backup, &committed)?;
        }
        remove(&backup)?;
        remove(&self.staging())
    }

    /// Puts the staged generation in the place of the committed one.
    fn swap(&self) -> Result<(), StoreError> {
        let (staging, committed) = (self.staging(), self.committed());
        if !is_dir(&committed) {
            remove(&committed)?;
            return rename(&staging, &committed);
        }
        match renameat_with(CWD, &staging, CWD, &committed, RenameFlags::EXCHANGE) {
            Ok(()) => remove(&staging),
            // Some file systems cannot exchange two folders in one step.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => self.swap_in_steps(),
            Err(error) => Err(StoreError::io("replace", &committed)(error.into())),
        }
    }

    /// As [`swap`](Self::swap), with a moment in which only the backup is there.
    fn swap_in_steps(&self) -> Result<(), StoreError> {
        let (staging, committed, backup) = (self.staging(), self.committed(), self.backup());
        rename(&committed, &backup)?;
        if let Err(error) = rename(&staging, &committed) {
            rename(&backup, &committed)?;
            return Err(error);
        }
        remove(&backup)
    }
}

impl Cache for VolumeCache {
    fn name(&self) -> String {
        self.dir.display().to_string()
    }

    fn is_folder(&self) -> bool {
        true
    }

    fn metadata(&self) -> Result<Option<String>, StoreError> {
        let path = self.generation().join(METADATA);
        let Some(bytes) = read_file(&path, MAX_METADATA)? else { return Ok(None) };
        let not_text = |error| StoreError::io("read", &path)(io::Error::new(ErrorKind::InvalidData, error));
        String::from_utf8(bytes).map(Some).map_err(not_text)
    }

    fn open_layer(&self, diff_id: &Digest) -> Result<Option<Box<dyn Read + Send>>, StoreError> {
        self.open_layer_sharing(diff_id, &Spare::new(1))
    }

    fn open_layer_sharing(
        &self,
        diff_id: &Digest,
        spare: &Spare,
    ) -> Result<Option<Box<dyn Read + Send>>, StoreError> {
        match open_file(&layer_path(&self.generation(), diff_id)) {
            Ok(Some(file)) => Ok(Some(Box::new(Verified::sharing(file, *diff_id, spare.clone())))),
            Ok(None) | Err(StoreError::Kind { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn draft(&self) -> Option<Draft> {
        Draft::new(&self.dir, self.patience)
    }

    fn begin(&self) -> Result<Box<dyn CacheWriter + '_>, StoreError> {
        let lock = Lock::exclusive_unless(&self.dir, &self.stop)?;
        self.recover()?;
        let staging = self.staging();
        fs::create_dir(&staging).map_err(StoreError::io("create", &staging))?;
        Ok(Box::new(Writer { cache: self, is_staged: true, _lock: lock }))
    }
}

struct Writer<'a> {
    cache: &'a VolumeCache,
    /// Whether the staging folder is still ours to remove.
    is_staged: bool,
    _lock: Lock,
}

impl Writer<'_> {
    /// The path of a layer in the next generation, and whether it is there.
    fn staged(&self, diff_id: &Digest) -> (PathBuf, bool) {
        let path = layer_path(&self.cache.staging(), diff_id);
        let is_there = path.symlink_metadata().is_ok();
        (path, is_there)
    }

    fn temp_file(&self) -> Result<NamedTempFile, StoreError> {
        use std::os::unix::fs::PermissionsExt as _;
        let staging = self.cache.staging();
        tempfile::Builder::new()
            .permissions(fs::Permissions::from_mode(0o644))
            .tempfile_in(&staging)
            .map_err(StoreError::io("create a file in", &staging))
    }
}

impl CacheWriter for Writer<'_> {
    fn reuse(&mut self, diff_id: &Digest, check: Check) -> Result<Reuse, StoreError> {
        let (to, is_there) = self.staged(diff_id);
        if is_there {
            return Ok(Reuse::Taken);
        }
        let from = layer_path(&self.cache.committed(), diff_id);
        let mut file = match open_file(&from) {
            Ok(Some(file)) => file,
            Ok(None) | Err(StoreError::Kind { .. }) => return Ok(Reuse::Absent),
            Err(error) => return Err(error),
        };
        let size = file.metadata().map_err(StoreError::io("look at", &from))?.len();
        if check != Check::Size(size) {
            let (found, _) = digest_of(&mut file).map_err(StoreError::io("read", &from))?;
            if found != *diff_id {
                return Ok(Reuse::Damaged { found });
            }
        }
        // A file of another user, or a file system without links.
        if fs::hard_link(&from, &to).is_err() {
            fs::copy(&from, &to).map_err(StoreError::io("copy", &from))?;
        }
        Ok(Reuse::Taken)
    }

    fn add(&mut self, source: &Source, packer: &Packer) -> Result<Packed, StoreError> {
        let mut temp = self.temp_file()?;
        let packed = packer
            .pack(source, Compression::None, &mut temp)
            .map_err(|source| StoreError::CacheLayer { action: "pack", cache: self.cache.name(), source })?;
        let (path, _) = self.staged(&packed.diff_id);
        temp.persist(&path).map_err(|error| StoreError::io("rename", &path)(error.error))?;
        Ok(packed)
    }

    fn take_draft(&mut self, draft: Draft, diff_id: &Digest) -> Result<bool, StoreError> {
        let (path, is_there) = self.staged(diff_id);
        Ok(is_there || draft.link(&path).is_ok())
    }

    fn commit(mut self: Box<Self>, metadata: &str) -> Result<(), StoreError> {
        let path = self.cache.staging().join(METADATA);
        let mut temp = self.temp_file()?;
        temp.write_all(format!("{metadata}\n").as_bytes()).map_err(StoreError::io("write", &path))?;
        temp.persist(&path).map_err(|error| StoreError::io("rename", &path)(error.error))?;
        self.cache.swap()?;
        self.is_staged = false;
        Ok(())
    }
}

impl Drop for Writer<'_> {
    fn drop(&mut self) {
        if self.is_staged {
            // What cannot be removed now is removed by the next writer, or fails it with a reason.
            drop(remove(&self.cache.staging()));
        }
    }
}

fn layer_path(dir: &Path, diff_id: &Digest) -> PathBuf {
    dir.join(format!("{diff_id}.tar"))
}

/// Whether there is a directory; a link to one is none.
fn is_dir(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|meta| meta.is_dir())
}

fn rename(from: &Path, to: &Path) -> Result<(), StoreError> {
    fs::rename(from, to).map_err(StoreError::io("rename", from))
}

/// Removes whatever has this name, if anything, folders that may not be written to included; a link is not followed.
pub(super) fn remove(path: &Path) -> Result<(), StoreError> {
    match remove_tree(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(StoreError::io("remove", path)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordinary_user_clears_folders_that_may_not_be_written_to() {
        use rustix::fs::{Gid, Uid};
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let cache = VolumeCache::open(dir.path()).unwrap();
        let locked = cache.trees().join("0/locked");
        fs::create_dir_all(&locked).unwrap();
        fs::write(locked.join("file"), "").unwrap();
        let user = (Uid::from_raw(65534), Gid::from_raw(65534));
        let is_root = rustix::process::geteuid().is_root();
        if is_root {
            let paths = [dir.path().to_owned(), cache.trees(), cache.trees().join("0"), locked.clone()];
            for path in paths.iter().chain([&locked.join("file")]) {
                rustix::fs::chown(path, Some(user.0), Some(user.1)).unwrap();
            }
        }
        fs::set_permissions(&locked, fs::Permissions::from_mode(0o555)).unwrap();
        let clear = move || {
            if is_root {
                // Of this thread only.
                rustix::thread::set_thread_uid(user.0).unwrap();
                assert!(fs::remove_file(locked.join("file")).is_err());
            }
            cache.clear().unwrap();
            assert!(!is_dir(&cache.trees()));
        };
        std::thread::spawn(clear).join().unwrap();
    }

    #[test]
    fn folders_are_swapped_in_steps_where_they_cannot_be_exchanged() {
        let dir = tempfile::tempdir().unwrap();
        let cache = VolumeCache::open(dir.path()).unwrap();
        let put = |place: PathBuf, text: &str| {
            fs::create_dir(&place).unwrap();
            fs::write(place.join(METADATA), text).unwrap();
        };
        put(cache.committed(), "old");
        assert!(cache.swap_in_steps().is_err());
        assert_eq!(cache.metadata().unwrap().as_deref(), Some("old"));
        put(cache.staging(), "new");
        cache.swap_in_steps().unwrap();
        assert_eq!(cache.metadata().unwrap().as_deref(), Some("new"));
        assert!(!is_dir(&cache.backup()) && !is_dir(&cache.staging()));
    }
}
