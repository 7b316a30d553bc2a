//! The caches of many apps, one folder each.
//!
//! ```text
//! <shelf>/<name>-<hash>/app        what the cache is called, a line of text; its mtime is when it was used last
//! <shelf>/<name>-<hash>/committed  the cache itself, as any other in a folder
//! <shelf>/<name>-<hash>/trees      trees of its layers, ready for the next build
//! ```

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use strata_oci::Digest;

use super::{VolumeCache, volume};
use crate::StoreError;
use crate::layout::lock::Lock;
use crate::layout::read_file;

/// The file that says what a cache is called.
const APP: &str = "app";
/// The longest such file that is read, in bytes.
const MAX_APP: u64 = 64 * 1024;
/// How much of a name is in the name of its folder.
const SHOWN: usize = 40;

/// A folder of caches.
#[derive(Clone, Debug)]
pub struct Shelf {
    dir: PathBuf,
}

/// A cache of a shelf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// What it is called.
    pub app: String,
    /// Its folder.
    pub dir: PathBuf,
    /// When a build used it last.
    pub used: SystemTime,
    /// Bytes on the disk.
    pub size: u64,
}

/// What became of a cache that was to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// It is gone.
    Removed,
    /// A build is writing it; it stays.
    Busy,
}

impl Shelf {
    /// The shelf in `dir`, which need not exist.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// The cache of an app, made if there is none, and used from now on.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn open(&self, app: &str) -> Result<VolumeCache, StoreError> {
        let dir = self.dir.join(folder(app));
        let cache = VolumeCache::create(&dir)?;
        let path = dir.join(APP);
        // Whole or not at all: a cache without a name is nobody's.
        let mut temp = tempfile::NamedTempFile::new_in(&dir).map_err(StoreError::io("create", &path))?;
        writeln!(temp, "{app}").map_err(StoreError::io("write", &path))?;
        temp.persist(&path).map_err(|error| StoreError::io("rename", &path)(error.error))?;
        Ok(cache)
    }

    /// All caches, by name. What is no cache is passed over.
    ///
    /// # Errors
    ///
    /// When the folders cannot be listed.
    pub fn list(&self) -> Result<Vec<Kept>, StoreError> {
        let entries = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(StoreError::io("list", &self.dir))?,
        };
        let mut caches = Vec::new();
        for entry in entries {
            let dir = entry.map_err(StoreError::io("list", &self.dir))?.path();
            caches.extend(kept(&dir)?);
        }
        caches.sort_by(|a, b| (&a.app, &a.dir).cmp(&(&b.app, &b.dir)));
        Ok(caches)
    }

    /// Removes a cache, unless a build is writing it. One that reads it finds out that layers are missing.
    ///
    /// # Errors
    ///
    /// When it cannot be removed.
    pub fn remove(&self, cache: &Kept) -> Result<Removal, StoreError> {
        let lock = match Lock::try_exclusive(&cache.dir) {
            Ok(Some(lock)) => lock,
            Ok(None) => return Ok(Removal::Busy),
            Err(StoreError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
                return Ok(Removal::Removed);
            }
            Err(error) => return Err(error),
        };
        // The contents first: should this die, the rest still has a name, and is removed the next time.
        VolumeCache::open(&cache.dir)?.empty()?;
        let removed = volume::remove(&cache.dir);
        drop(lock);
        removed.map(|()| Removal::Removed)
    }
}

/// The name of an app's folder: readable, and unlike that of any other app.
fn folder(app: &str) -> String {
    let tame = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
    // The end of a name or a path says most.
    let shown: Vec<char> = app.chars().map(tame).collect();
    let shown: String = shown[shown.len().saturating_sub(SHOWN)..].iter().collect();
    format!("{}-{}", shown.trim_matches(['.', '_', '-']), &Digest::of(app.as_bytes()).hex()[..16])
}

fn kept(dir: &Path) -> Result<Option<Kept>, StoreError> {
    let path = dir.join(APP);
    let Ok(meta) = path.symlink_metadata() else { return Ok(None) };
    let bytes = match read_file(&path, MAX_APP) {
        Ok(Some(bytes)) => bytes,
        Ok(None) | Err(StoreError::Kind { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let app = String::from_utf8_lossy(&bytes).trim_end().to_owned();
    // Of a name that is not the folder's own nobody knows where it comes from.
    if dir.file_name().is_none_or(|name| name != folder(&app).as_str()) {
        return Ok(None);
    }
    let used = meta.modified().map_err(StoreError::io("look at", &path))?;
    Ok(Some(Kept { app, dir: dir.to_owned(), used, size: size(dir)? }))
}

/// Bytes that a folder has on the disk. What goes away meanwhile has none.
fn size(dir: &Path) -> Result<u64, StoreError> {
    let mut total = 0;
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            other => other.map_err(StoreError::io("list", &folder))?,
        };
        for entry in entries {
            let path = entry.map_err(StoreError::io("list", &folder))?.path();
            let Ok(meta) = path.symlink_metadata() else { continue };
            // A layer has two names while the next generation is written.
            total += meta.blocks() * 512 / meta.nlink().max(1);
            if meta.is_dir() {
                folders.push(path);
            }
        }
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::Cache;

    #[test]
    fn every_app_has_a_cache_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let shelf = Shelf::new(dir.path().join("shelf"));
        assert_eq!(shelf.list().unwrap(), []);
        let apps = ["a/b", "a_b", "docker.io/library/web", "/home/über", "..", "/"];
        for app in apps {
            let cache = shelf.open(app).unwrap();
            cache.begin().unwrap().commit(&format!("{{\"{app}\":1}}")).unwrap();
        }
        for app in apps {
            let metadata = shelf.open(app).unwrap().metadata().unwrap().unwrap();
            assert_eq!(metadata, format!("{{\"{app}\":1}}\n"));
        }
        // What is no cache is left alone.
        fs::create_dir(dir.path().join("shelf/other")).unwrap();
        fs::write(dir.path().join("shelf/other/app"), "web").unwrap();
        let caches = shelf.list().unwrap();
        let mut expected = apps.to_vec();
        expected.sort_unstable();
        assert_eq!(caches.iter().map(|cache| cache.app.as_str()).collect::<Vec<_>>(), expected);
        assert!(caches.iter().all(|cache| cache.size > 0));

        let writer = shelf.open("a/b").unwrap();
        let writer = writer.begin().unwrap();
        let found = |app: &str| caches.iter().find(|cache| cache.app == app).unwrap();
        assert_eq!(shelf.remove(found("a/b")).unwrap(), Removal::Busy);
        drop(writer);
        for _ in 0..2 {
            assert_eq!(shelf.remove(found("a/b")).unwrap(), Removal::Removed);
        }
        assert_eq!(shelf.list().unwrap().len(), apps.len() - 1);
    }
}
