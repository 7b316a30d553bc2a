//! Where an extender has layers until they are where they belong: in a volume that outlives it.

use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const PREFIX: &str = "work.dir";

/// A folder that is locked as long as somebody works in it.
pub(super) struct Work {
    dir: TempDir,
    _lock: OwnedFd,
}

impl Work {
    /// Makes one, and removes those of extenders that were killed.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(super) fn new(parent: &Path) -> io::Result<Self> {
        sweep(parent);
        loop {
            let dir = tempfile::Builder::new().prefix(PREFIX).tempdir_in(parent)?;
            let lock = open_dir(dir.path());
            // Somebody may have swept it away before it was locked.
            let lock = match lock {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                lock => lock?,
            };
            // Without locks, nobody is taken for dead.
            flock(&lock, FlockOperation::LockExclusive).unwrap_or_default();
            if dir.path().is_dir() {
                return Ok(Self { dir, _lock: lock });
            }
        }
    }

    /// Where the layers go: below the folder that is locked, as an image layout locks its own.
    pub(super) fn layers(&self) -> PathBuf {
        self.dir.path().join("layers")
    }

    /// Removes it.
    ///
    /// # Errors
    /// When that fails.
    pub(super) fn close(self) -> io::Result<()> {
        self.dir.close()
    }
}

fn open_dir(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(open(path, flags, Mode::empty())?)
}

fn sweep(parent: &Path) {
    // Whoever makes a folder there says what is wrong with it.
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.map_while(Result::ok) {
        if !entry.file_name().as_encoded_bytes().starts_with(PREFIX.as_bytes()) {
            continue;
        }
        let Ok(dir) = open_dir(&entry.path()) else { continue };
        if flock(&dir, FlockOperation::NonBlockingLockExclusive).is_ok() {
            // What cannot be removed does no harm.
            fs::remove_dir_all(entry.path()).unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_works_in_is_swept() {
        let dir = tempfile::tempdir().unwrap();
        let alive = Work::new(dir.path()).unwrap();
        let dead = dir.path().join("work.dirdead");
        let other = dir.path().join("cache");
        for path in [&dead, &other] {
            fs::create_dir_all(path.join("blobs")).unwrap();
        }
        std::os::unix::fs::symlink("cache", dir.path().join("work.dirlink")).unwrap();
        let next = Work::new(dir.path()).unwrap();
        assert!(!dead.exists());
        assert!(other.join("blobs").exists() && alive.dir.path().exists() && next.dir.path().exists());
        // Layouts have locks of their own, which they wait for.
        let layout = strata_store::Layout::open_or_create(alive.layers()).unwrap();
        drop(strata_store::Store::begin_blob(&layout).unwrap());
        let path = alive.dir.path().to_owned();
        alive.close().unwrap();
        assert!(!path.exists());
    }
}
