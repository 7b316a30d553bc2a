//! Reading and hashing streams of bytes.

use std::fmt;
use std::io::{self, BufReader, Cursor, Read, Write};

use flate2::bufread::MultiGzDecoder;
use strata_oci::{Digest, Hasher};

use crate::error::LayerError;
use crate::zstd::{self, ZstdReader};

/// The largest archive that a compressed layer may hold, in bytes: few bytes can become as many as one likes.
pub const MAX_LAYER: u64 = 64 << 30;
const GZIP_MAGIC: &[u8] = b"\x1f\x8b";

/// Passes bytes on while it counts and hashes them.
pub struct HashWriter<W> {
    inner: W,
    hasher: Hasher,
    count: u64,
}

impl<W: Write> HashWriter<W> {
    /// Starts with nothing written.
    pub fn new(inner: W) -> Self {
        Self { inner, hasher: Hasher::new(), count: 0 }
    }

    /// The writer, the digest of all it took, and how many bytes that were.
    pub fn finish(self) -> (W, Digest, u64) {
        (self.inner, self.hasher.finish(), self.count)
    }
}

impl<W: Write> Write for HashWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..taken]);
        self.count += taken as u64;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<W: fmt::Debug> fmt::Debug for HashWriter<W> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("HashWriter").field("inner", &self.inner).field("count", &self.count).finish()
    }
}

/// Hashes what is read through it.
#[derive(Debug)]
pub struct HashReader<R> {
    inner: R,
    hasher: Hasher,
}

impl<R: Read> HashReader<R> {
    /// Starts with nothing read.
    pub fn new(inner: R) -> Self {
        Self { inner, hasher: Hasher::new() }
    }

    /// The digest of all that was read.
    pub fn finish(self) -> Digest {
        self.hasher.finish()
    }
}

impl<R: Read> Read for HashReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }
}

/// The digest of all that can be read, and its size in bytes.
///
/// # Errors
/// When reading fails.
pub fn digest_of(from: &mut dyn Read) -> io::Result<(Digest, u64)> {
    let (mut hasher, mut size) = (Hasher::new(), 0);
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok((hasher.finish(), size)),
            Ok(count) => {
                hasher.update(&buffer[..count]);
                size += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Bytes were not the ones that were asked for; the cause of an [`io::Error`] of kind `InvalidData`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// There are more bytes than announced.
    #[error("more than {size} bytes came for {digest}")]
    TooLong {
        /// What was asked for.
        digest: Digest,
        /// Its announced size.
        size: u64,
    },
    /// The bytes ended early.
    #[error("only {got} of {size} bytes came for {digest}")]
    TooShort {
        /// What was asked for.
        digest: Digest,
        /// Its announced size.
        size: u64,
        /// How many came.
        got: u64,
    },
    /// The bytes are other ones.
    #[error("the bytes of {digest} have the digest {got}")]
    Mismatch {
        /// What was asked for.
        digest: Digest,
        /// What came.
        got: Digest,
    },
}

impl From<VerifyError> for io::Error {
    fn from(error: VerifyError) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}

/// Passes bytes on and fails at their end if they are not the announced ones.
///
/// Only a reader that was read to its end has been verified; see [`Self::finish`].
pub struct VerifiedReader<R> {
    inner: R,
    hasher: Option<Hasher>,
    digest: Digest,
    size: u64,
    count: u64,
}

impl<R: Read> VerifiedReader<R> {
    /// Expects `size` bytes with this digest.
    pub fn new(inner: R, digest: Digest, size: u64) -> Self {
        Self { inner, hasher: Some(Hasher::new()), digest, size, count: 0 }
    }

    /// Reads what is left and gives the reader back if all bytes were the announced ones.
    pub fn finish(mut self) -> io::Result<R> {
        io::copy(&mut self, &mut io::sink())?;
        Ok(self.inner)
    }

    fn check_end(&mut self) -> Result<(), VerifyError> {
        let Self { digest, size, count, .. } = *self;
        if count < size {
            return Err(VerifyError::TooShort { digest, size, got: count });
        }
        // Absent if the end was checked before.
        match self.hasher.take().map(Hasher::finish) {
            Some(got) if got != digest => Err(VerifyError::Mismatch { digest, got }),
            _ => Ok(()),
        }
    }
}

impl<R: Read> Read for VerifiedReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let got = self.inner.read(buffer)?;
        if got == 0 {
            self.check_end()?;
            return Ok(0);
        }
        self.count += got as u64;
        if self.count > self.size {
            return Err(VerifyError::TooLong { digest: self.digest, size: self.size }.into());
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&buffer[..got]);
        }
        Ok(got)
    }
}

impl<R: fmt::Debug> fmt::Debug for VerifiedReader<R> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("VerifiedReader")
            .field("inner", &self.inner)
            .field("digest", &self.digest)
            .field("count", &self.count)
            .finish_non_exhaustive()
    }
}

/// Whether bytes that start like this are compressed in a way that [`open_layer`] understands. Four are enough.
#[must_use]
pub fn is_compressed(start: &[u8]) -> bool {
    start.starts_with(GZIP_MAGIC) || start.starts_with(zstd::MAGIC)
}

/// The tar archive in a layer blob, which is plain, or gzip of any number of members, or zstd of any number of frames.
///
/// Other compressions are [`LayerError::UnsupportedCompression`]. No digest is verified: wrap `blob` in a
/// [`VerifiedReader`] and read to the end.
/// Whoever compressed more than [`MAX_LAYER`] bytes into it is found out while reading.
pub fn open_layer(blob: impl Read + Send + 'static) -> Result<Box<dyn Read + Send>, LayerError> {
    open_layer_up_to(blob, MAX_LAYER)
}

/// The same with another limit than [`MAX_LAYER`], in bytes of the archive.
pub fn open_layer_up_to(
    blob: impl Read + Send + 'static,
    limit: u64,
) -> Result<Box<dyn Read + Send>, LayerError> {
    const UNSUPPORTED: [(&[u8], &str); 2] = [(b"\xfd7zXZ\0", "xz"), (b"BZh", "bzip2")];
    let mut blob = blob;
    let mut start = Vec::new();
    (&mut blob).take(6).read_to_end(&mut start).map_err(LayerError::read)?;
    if let Some((_, format)) = UNSUPPORTED.into_iter().find(|(magic, _)| start.starts_with(magic)) {
        return Err(LayerError::UnsupportedCompression { format });
    }
    let (is_gzip, is_zstd) = (start.starts_with(GZIP_MAGIC), start.starts_with(zstd::MAGIC));
    let whole = Cursor::new(start).chain(blob);
    let buffered = |whole| BufReader::with_capacity(64 * 1024, whole);
    Ok(match (is_gzip, is_zstd) {
        (true, _) => Box::new(Limited { inner: MultiGzDecoder::new(buffered(whole)), limit, left: limit }),
        (_, true) => Box::new(Limited { inner: ZstdReader::new(buffered(whole)), limit, left: limit }),
        _ => Box::new(whole),
    })
}

/// Fails when there is more than expected.
struct Limited<R> {
    inner: R,
    limit: u64,
    left: u64,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(count as u64).ok_or_else(|| {
            let error = LayerError::TooLarge { limit: self.limit, unit: "bytes" };
            io::Error::new(io::ErrorKind::InvalidData, error)
        })?;
        Ok(count)
    }
}
