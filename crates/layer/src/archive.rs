//! A layer that was written before, to a file that others may have touched since.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use strata_oci::{Compression, Digest};

use crate::error::LayerError;
use crate::read::{VerifiedReader, open_layer};

/// What is known of a layer once it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packed {
    /// Digest of the tar archive.
    pub diff_id: Digest,
    /// Digest of the stored bytes.
    pub digest: Digest,
    /// How many bytes are stored.
    pub size: u64,
    /// Size of the tar archive in bytes.
    pub uncompressed_size: u64,
}

/// A layer as a blob in a file. Whoever takes its bytes gets those that were written, or an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archive {
    /// The file; links are not followed.
    pub path: PathBuf,
    /// How it is stored there.
    pub compression: Compression,
    /// What was written.
    pub packed: Packed,
}

impl Archive {
    /// Writes the tar archive. The blob is verified as it is, and so is what it makes.
    pub(crate) fn write_tar(&self, out: &mut dyn Write) -> Result<(), LayerError> {
        let Packed { diff_id, uncompressed_size, .. } = self.packed;
        // How it is compressed is read from its first bytes, which may be others already.
        let tar = open_layer(self.blob()?).map_err(|error| match error {
            LayerError::Read { source } => self.unreadable(source),
            error => error,
        })?;
        self.pass_on(VerifiedReader::new(tar, diff_id, uncompressed_size), out)
    }

    /// Writes the blob.
    pub(crate) fn copy(&self, out: &mut dyn Write) -> Result<Packed, LayerError> {
        self.pass_on(self.blob()?, out)?;
        out.flush().map_err(LayerError::write)?;
        Ok(self.packed)
    }

    fn blob(&self) -> Result<impl Read + Send + use<>, LayerError> {
        let Packed { digest, size, .. } = self.packed;
        let file = open_file(&self.path)?;
        Ok(VerifiedReader::new(BufReader::with_capacity(256 * 1024, file), digest, size))
    }

    fn pass_on(&self, mut from: impl Read, out: &mut dyn Write) -> Result<(), LayerError> {
        let mut buffer = vec![0; 256 * 1024];
        loop {
            match from.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => out.write_all(&buffer[..count]).map_err(LayerError::write)?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.unreadable(error)),
            }
        }
    }

    fn unreadable(&self, source: io::Error) -> LayerError {
        LayerError::io("read the sealed layer", &self.path)(source)
    }

    /// Digest of the tar archive.
    pub fn diff_id(&self) -> Digest {
        self.packed.diff_id
    }
}

/// Opens a file that was a regular one. If it no longer is, neither a link is followed nor a pipe waited for.
pub(crate) fn open_file(path: &Path) -> Result<File, LayerError> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
    OpenOptions::new()
        .read(true)
        .custom_flags(flags.cast_signed())
        .open(path)
        .map_err(LayerError::io("open", path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Content, GeneratedEntry, Owner, Packer, Source, diff_id, pack};
    use std::fs;

    fn source() -> Source {
        let entry = |name: &str, size: usize| GeneratedEntry {
            name: name.into(),
            mode: 0o644,
            owner: Owner::ROOT,
            content: Content::Bytes((0..size).map(|i| (i * i % 251) as u8).collect()),
        };
        Source::Generated(vec![entry("a", 3_000_000), entry("b", 5)])
    }

    /// The source, written to a file and as it was stored.
    fn archive(dir: &tempfile::TempDir, compression: Compression) -> (Archive, Vec<u8>) {
        let mut bytes = Vec::new();
        let packed = pack(&source(), compression, 2, &mut bytes).unwrap();
        let path = dir.path().join("blob");
        fs::write(&path, &bytes).unwrap();
        (Archive { path, compression, packed }, bytes)
    }

    #[test]
    fn an_archive_makes_the_layer_that_it_was_made_of() {
        for stored in [Compression::Gzip, Compression::None] {
            let dir = tempfile::tempdir().unwrap();
            let (archive, _) = archive(&dir, stored);
            let again = Source::Archive(archive.clone());
            assert_eq!(diff_id(&again).unwrap(), (archive.diff_id(), archive.packed.uncompressed_size));
            for wanted in [Compression::Gzip, Compression::None] {
                for threads in [1, 3] {
                    let (mut bytes, mut expected) = (Vec::new(), Vec::new());
                    let packed = Packer::new(threads).pack(&again, wanted, &mut bytes).unwrap();
                    assert_eq!(packed, pack(&source(), wanted, 1, &mut expected).unwrap());
                    assert_eq!(bytes, expected);
                }
            }
        }
    }

    #[test]
    fn an_archive_that_was_touched_is_an_error_whatever_it_is_wanted_for() {
        for stored in [Compression::Gzip, Compression::None] {
            let dir = tempfile::tempdir().unwrap();
            let (archive, bytes) = archive(&dir, stored);
            let mut flipped = bytes.clone();
            flipped[bytes.len() / 2] ^= 1;
            let longer = [&bytes[..], &[0]].concat();
            for bad in [flipped, bytes[..bytes.len() - 1].to_vec(), longer, Vec::new()] {
                fs::write(&archive.path, bad).unwrap();
                for wanted in [Compression::Gzip, Compression::None] {
                    let source = Source::Archive(archive.clone());
                    let error = pack(&source, wanted, 2, &mut io::sink()).unwrap_err();
                    assert!(error.to_string().contains("blob"), "{error}");
                }
            }
            fs::rename(&archive.path, dir.path().join("other")).unwrap();
            std::os::unix::fs::symlink("other", &archive.path).unwrap();
            assert!(pack(&Source::Archive(archive), Compression::None, 1, &mut io::sink()).is_err());
        }
    }
}
