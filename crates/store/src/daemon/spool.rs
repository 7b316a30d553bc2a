//! Blobs on disk for as long as somebody holds them.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use strata_layer::HashWriter;
use strata_oci::Digest;

use crate::{BlobSink, StoreError};

/// A blob in a file without a name, which goes with its last holder, however this program ends; or in one of a layout.
#[derive(Clone, Debug)]
pub(super) struct Spooled {
    file: Arc<File>,
    pub(super) size: u64,
}

impl Spooled {
    /// A file of another place, which is not written to any more.
    pub(super) fn of(file: File, size: u64) -> Self {
        Self { file: Arc::new(file), size }
    }

    /// Its bytes from the start.
    pub(super) fn reader(&self) -> Reader {
        Reader { file: Arc::clone(&self.file), offset: 0 }
    }
}

/// Reads a file that others read as well.
pub(super) struct Reader {
    file: Arc<File>,
    offset: u64,
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.offset)?;
        self.offset += count as u64;
        Ok(count)
    }
}

/// A file that is being written and hashed.
pub(super) struct SpoolWriter {
    out: HashWriter<File>,
    dir: PathBuf,
}

impl SpoolWriter {
    pub(super) fn create(dir: &Path) -> Result<Self, StoreError> {
        let file = tempfile::tempfile_in(dir).map_err(StoreError::io("create a temporary file in", dir))?;
        Ok(Self { out: HashWriter::new(file), dir: dir.to_owned() })
    }

    /// Takes all there is.
    pub(super) fn fill(&mut self, from: &mut dyn Read) -> Result<(), FillError> {
        let mut buffer = vec![0; 128 * 1024];
        loop {
            match from.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => self.out.write_all(&buffer[..count]).map_err(|error| {
                    FillError::Write(StoreError::io("write a temporary file in", &self.dir)(error))
                })?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(FillError::Read(error)),
            }
        }
    }

    pub(super) fn finish(self) -> (Digest, Spooled) {
        let (file, digest, size) = self.out.finish();
        (digest, Spooled { file: Arc::new(file), size })
    }
}

/// Which side failed.
pub(super) enum FillError {
    Read(io::Error),
    Write(StoreError),
}

/// Blobs by their digests.
#[derive(Debug, Default)]
pub(super) struct Spool {
    blobs: Mutex<HashMap<Digest, Spooled>>,
}

impl Spool {
    pub(super) fn get(&self, digest: &Digest) -> Option<Spooled> {
        self.blobs.lock().unwrap_or_else(PoisonError::into_inner).get(digest).cloned()
    }

    pub(super) fn insert(&self, digest: Digest, blob: Spooled) {
        self.blobs.lock().unwrap_or_else(PoisonError::into_inner).insert(digest, blob);
    }

    pub(super) fn clear(&self) {
        self.blobs.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// A blob on its way into a spool.
pub(super) struct SpoolSink {
    pub(super) writer: SpoolWriter,
    pub(super) spool: Arc<Spool>,
}

impl Write for SpoolSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl BlobSink for SpoolSink {
    fn commit(self: Box<Self>, digest: &Digest, size: u64) -> Result<(), StoreError> {
        let Self { writer, spool } = *self;
        let path = writer.dir.clone();
        let (found, blob) = writer.finish();
        if (found, blob.size) != (*digest, size) {
            return Err(StoreError::Corrupt {
                path,
                expected: *digest,
                expected_size: size,
                found,
                found_size: blob.size,
            });
        }
        spool.insert(found, blob);
        Ok(())
    }
}
