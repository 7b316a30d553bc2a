//! Blobs that are being written.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::Path;

use strata_oci::{Digest, Hasher};
use tempfile::NamedTempFile;

use super::Layout;
use crate::{BlobSink, StoreError};

/// Writes to a temporary file beside the blobs, and renames it at the end.
pub(crate) struct FileSink {
    layout: Layout,
    temp: Option<NamedTempFile>,
    hasher: Hasher,
    size: u64,
}

impl FileSink {
    /// Takes a temporary file, and the place of a live sink in the session.
    pub(crate) fn new(layout: Layout, temp: NamedTempFile) -> Self {
        Self { layout, temp: Some(temp), hasher: Hasher::new(), size: 0 }
    }

    /// Shares the storage of `source`, if the file system can, and hashes what is there then.
    pub(crate) fn clone_from(&mut self, source: &File) -> Result<bool, StoreError> {
        let Some(temp) = &mut self.temp else { return Ok(false) };
        // Refused by most file systems: the caller copies.
        if rustix::fs::ioctl_ficlone(temp.as_file(), source).is_err() {
            return Ok(false);
        }
        let path = temp.path().to_owned();
        temp.as_file_mut().rewind().map_err(StoreError::io("read", &path))?;
        (self.hasher, self.size) = hash(temp.as_file(), &path)?;
        Ok(true)
    }
}

impl Write for FileSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(temp) = &mut self.temp else { return Err(io::ErrorKind::BrokenPipe.into()) };
        let count = temp.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl BlobSink for FileSink {
    fn commit(mut self: Box<Self>, digest: &Digest, size: u64) -> Result<(), StoreError> {
        let path = self.layout.blob_path(digest);
        check(&path, (digest, size), (&std::mem::take(&mut self.hasher).finish(), self.size))?;
        let Some(temp) = self.temp.take() else { return Ok(()) };
        temp.as_file().sync_all().map_err(StoreError::io("sync", temp.path()))?;
        temp.persist(&path).map_err(|error| StoreError::io("rename", &path)(error.error))?;
        self.layout.lock_session().fresh.insert(*digest);
        Ok(())
    }
}

impl Drop for FileSink {
    fn drop(&mut self) {
        // The file goes before its place in the session, lest a sweep meets it.
        self.temp = None;
        let mut session = self.layout.lock_session();
        session.live_sinks -= 1;
        if session.live_sinks == 0 && session.fresh.is_empty() {
            session.lock = None;
        }
    }
}

/// Makes sure that `file` holds the bytes expected.
pub(crate) fn verify(file: &File, path: &Path, digest: &Digest, size: u64) -> Result<(), StoreError> {
    let (hasher, found_size) = hash(file, path)?;
    check(path, (digest, size), (&hasher.finish(), found_size))
}

fn hash(mut file: &File, path: &Path) -> Result<(Hasher, u64), StoreError> {
    let (mut hasher, mut size) = (Hasher::new(), 0);
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match file.read(&mut buffer).map_err(StoreError::io("read", path))? {
            0 => return Ok((hasher, size)),
            count => {
                hasher.update(&buffer[..count]);
                size += count as u64;
            }
        }
    }
}

fn check(path: &Path, expected: (&Digest, u64), found: (&Digest, u64)) -> Result<(), StoreError> {
    if expected == found {
        return Ok(());
    }
    Err(StoreError::Corrupt {
        path: path.to_owned(),
        expected: *expected.0,
        expected_size: expected.1,
        found: *found.0,
        found_size: found.1,
    })
}
