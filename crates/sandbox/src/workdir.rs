//! The temporary directory of one build, and the removal of those whose build is gone.
//!
//! A directory belongs to a living build while the build holds a lock on it; the kernel drops the lock when the
//! build ends, however it ends.

use std::ffi::{CStr, CString};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FlockOperation, Mode, OFlags, flock, openat, unlinkat};
use rustix::io::Errno;

use crate::parent::remove_with;
use crate::{Ids, SandboxError};

/// The temporary directory of one build. It is removed when dropped, whatever the modes of what it holds.
#[derive(Debug)]
pub struct WorkDir {
    path: PathBuf,
    /// Held for its lock; taken when the directory is gone.
    lock: Option<File>,
}

impl WorkDir {
    /// Where work directories go unless the user says otherwise: a disk, not memory.
    pub const DEFAULT_PARENT: &'static str = "/var/tmp";

    /// Makes `strata-<uid>-XXXXXX` in `parent`, accessible to the user alone.
    pub fn new(parent: &Path) -> Result<Self, SandboxError> {
        let failed = |source| SandboxError::WorkDir {
            action: "make a work directory in",
            path: parent.to_owned(),
            source,
        };
        loop {
            let path = tempfile::Builder::new()
                .prefix(&prefix())
                .rand_bytes(6)
                .tempdir_in(parent)
                .map_err(failed)?
                .keep();
            let lock = match File::open(&path) {
                Ok(lock) => lock,
                // Another build's sweep came between the making and the locking.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(failed(error)),
            };
            flock(&lock, FlockOperation::LockExclusive).map_err(|errno| failed(errno.into()))?;
            if is_same(&path, &lock).map_err(failed)? {
                return Ok(Self { path, lock: Some(lock) });
            }
        }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes it now, and says whether that worked.
    pub fn close(mut self) -> Result<(), SandboxError> {
        self.remove()
    }

    /// Removes what builds of this user that are no longer alive left in `parent`; returns how many there were.
    pub fn sweep(parent: &Path) -> Result<usize, SandboxError> {
        let failed = |source| SandboxError::WorkDir {
            action: "look for left-over work directories in",
            path: parent.to_owned(),
            source,
        };
        let own = rustix::process::geteuid().as_raw();
        let mut removed = 0;
        for entry in fs::read_dir(parent).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if !entry.file_name().as_bytes().starts_with(prefix().as_bytes()) {
                continue;
            }
            let opened = openat(
                rustix::fs::CWD,
                entry.path(),
                OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
                Mode::empty(),
            );
            // Gone meanwhile, not a directory, or of somebody else who took our name.
            let Ok(directory) = opened.map(File::from) else { continue };
            if directory.metadata().map_err(failed)?.uid() != own {
                continue;
            }
            if flock(&directory, FlockOperation::NonBlockingLockExclusive).is_ok() {
                remove_all(&entry.path())?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    fn remove(&mut self) -> Result<(), SandboxError> {
        // The lock is dropped after the removal, so that no sweep meets a half-removed directory.
        let Some(_lock) = self.lock.take() else { return Ok(()) };
        remove_all(&self.path)
    }
}

impl Drop for WorkDir {
    fn drop(&mut self) {
        // There is nobody to tell, and the next sweep tries again.
        drop(self.remove());
    }
}

fn prefix() -> String {
    format!("strata-{}-", rustix::process::geteuid().as_raw())
}

fn is_same(path: &Path, open: &File) -> io::Result<bool> {
    let open = open.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(named) => Ok((named.dev(), named.ino()) == (open.dev(), open.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes a directory and all below it, also what belongs to other ids of the caller's ranges: sandboxes leave such files.
pub fn remove_all(path: &Path) -> Result<(), SandboxError> {
    let failed = |source| SandboxError::WorkDir { action: "remove", path: path.to_owned(), source };
    match remove_tree(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            // Without ranges there is nothing that others own, and the first reason is the whole one.
            let Ok(ids) = Ids::everybody() else { return Err(failed(error)) };
            let ended = remove_with(ids, path)?;
            debug_assert!(ended.is_success(), "a removal that fails is an error of the setup");
            Ok(())
        }
        other => other.map_err(failed),
    }
}

/// Removes a directory and all below it, without following symlinks, giving itself the right to where it lacks it.
pub(crate) fn remove_tree(path: &Path) -> io::Result<()> {
    let name = CString::new(path.as_os_str().as_bytes())?;
    Ok(remove_at(rustix::fs::CWD, &name)?)
}

fn remove_at(parent: impl AsFd, name: &CStr) -> Result<(), Errno> {
    match unlinkat(&parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(errno) => return Err(errno),
    }
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let handle = openat(&parent, name, OFlags::PATH | flags, Mode::empty())?;
    let by_handle = format!("/proc/self/fd/{}", handle.as_raw_fd());
    rustix::fs::chmod(by_handle.as_str(), Mode::RWXU)?;
    let directory = openat(&handle, c".", OFlags::RDONLY | flags, Mode::empty())?;
    for entry in Dir::read_from(&directory)? {
        let entry = entry?;
        if ![c".", c".."].contains(&entry.file_name()) {
            remove_at(&directory, entry.file_name())?;
        }
    }
    match unlinkat(&parent, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno),
    }
}
