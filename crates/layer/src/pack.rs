//! One pass from a tree to a blob: tar, its digest, compressed, the digest of that.
//!
//! The archive is cut into chunks that are compressed apart, each with the end of the chunk before it as dictionary, so the
//! bytes depend neither on the number of threads nor on the sizes of writes. Memory is bounded by the chunks under
//! way, of all layers together.

use std::io::{self, Write};

use crossbeam_channel::unbounded;
use flate2::Crc;
use strata_oci::{Compression, Digest, Hasher};

use crate::ahead::write_entries_ahead;
use crate::archive::Packed;
use crate::buffers::{Buffers, Loan};
use crate::codec::{self, Codecs};
use crate::error::LayerError;
use crate::pool::{Pool, Promise};
use crate::read::HashWriter;
use crate::source::{Source, is_smaller_than, write_entries, write_tar};
use crate::threads::refused;

/// Threads that read files which lie next to each other; more than cores, since they wait for the disk.
const READERS: usize = 8;
/// Archives of so many bytes are not worth a thread.
const SMALL: u64 = 256 << 10;

/// Makes blobs of trees. All that it makes at the same time share its threads and its memory.
///
/// Several threads may call it at once; which of them do, and how many threads it has, does not show in the bytes.
pub struct Packer {
    /// Absent: everything is done by the thread that calls.
    pools: Option<Pools>,
}

struct Pools {
    readers: Pool<()>,
    compressors: Pool<Codecs>,
    buffers: Buffers,
}

impl Packer {
    /// One that compresses with so many threads; below two it has none of its own.
    pub fn new(threads: usize) -> Self {
        // Without threads it goes on more slowly.
        Self { pools: if threads < 2 { None } else { Pools::new(threads).ok() } }
    }

    /// Writes `source` as a layer blob to `out`, which is written from the calling thread.
    ///
    /// # Errors
    ///
    /// The first error stops everything; `out` then holds a part of a blob.
    pub fn pack(
        &self,
        source: &Source,
        compression: Compression,
        out: &mut dyn Write,
    ) -> Result<Packed, LayerError> {
        self.pack_with_copy(source, compression, out, None)
    }

    /// Like [`pack`](Self::pack); what is read once goes to `copy` too, as it is, until a write to it fails, of which
    /// only `copy` itself knows. The copy of an archive that was written before may be empty.
    ///
    /// # Errors
    ///
    /// As there; those of `copy` are none.
    pub fn pack_with_copy(
        &self,
        source: &Source,
        compression: Compression,
        out: &mut dyn Write,
        copy: Option<&mut (dyn Write + Send)>,
    ) -> Result<Packed, LayerError> {
        if let Source::Archive(archive) = source
            && archive.compression == compression
        {
            return archive.copy(out);
        }
        match &self.pools {
            Some(pools) if !is_smaller_than(source, SMALL) => {
                pools.pack(|tar| write_entries_ahead(source, &pools.readers, tar), compression, out, copy)
            }
            _ => pack_here(|tar| write_entries(source, tar), compression, out, copy),
        }
    }

    /// Like [`pack`](Self::pack) for a tar archive that `fill` writes, in writes of any size.
    ///
    /// # Errors
    ///
    /// As there, and those of `fill`.
    pub fn pack_with(
        &self,
        fill: impl FnOnce(&mut dyn Write) -> Result<(), LayerError> + Send,
        compression: Compression,
        out: &mut dyn Write,
    ) -> Result<Packed, LayerError> {
        match &self.pools {
            Some(pools) => pools.pack(fill, compression, out, None),
            None => pack_here(fill, compression, out, None),
        }
    }
}

impl std::fmt::Debug for Packer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Packer").field("has_threads", &self.pools.is_some()).finish()
    }
}

/// Writes a single layer, with a [`Packer`] of its own.
///
/// # Errors
///
/// As [`Packer::pack`].
pub fn pack(
    source: &Source,
    compression: Compression,
    threads: usize,
    out: &mut dyn Write,
) -> Result<Packed, LayerError> {
    let threads = if is_smaller_than(source, SMALL) { 1 } else { threads };
    Packer::new(threads).pack(source, compression, out)
}

/// Like [`pack()`] for a tar archive that `fill` writes, in writes of any size.
///
/// # Errors
///
/// As [`Packer::pack_with`].
pub fn pack_with(
    fill: impl FnOnce(&mut dyn Write) -> Result<(), LayerError> + Send,
    compression: Compression,
    threads: usize,
    out: &mut dyn Write,
) -> Result<Packed, LayerError> {
    Packer::new(threads).pack_with(fill, compression, out)
}

/// Digest and size of the tar archive of `source`, which is not kept.
///
/// # Errors
///
/// When the tree cannot be read.
pub fn diff_id(source: &Source) -> Result<(Digest, u64), LayerError> {
    let mut hash = HashWriter::new(io::sink());
    write_tar(source, &mut hash)?;
    let (_, digest, size) = hash.finish();
    Ok((digest, size))
}

fn pack_here(
    fill: impl FnOnce(&mut dyn Write) -> Result<(), LayerError>,
    compression: Compression,
    out: &mut dyn Write,
    copy: Option<&mut (dyn Write + Send)>,
) -> Result<Packed, LayerError> {
    let mut codecs = Codecs::default();
    let buffers = Buffers::new(1);
    let mut blob = Blob::start(compression, out)?;
    let mut failed = None;
    let mut chunker = Chunker::new(&buffers, compression, copy, |mut loan: Loan| {
        let done = codecs.compress(compression, &mut loan.room).and_then(|()| blob.add(&loan));
        done.map_err(|error| {
            failed = Some(error);
            LayerError::Stopped
        })
    });
    let filled = fill(&mut chunker).and_then(|()| chunker.finish());
    // What stopped the output is the reason, not that the archive could not be written on.
    match failed {
        Some(error) => Err(error),
        None => filled.and_then(|known| blob.finish(known)),
    }
}

impl Pools {
    fn new(threads: usize) -> io::Result<Self> {
        Ok(Self {
            readers: Pool::new("read", READERS, || ()).map_err(|error| refused(&error))?,
            compressors: Pool::new("compress", threads, Codecs::default).map_err(|error| refused(&error))?,
            // Each compressor has one and finds the next; one is being filled and one written, for several layers.
            buffers: Buffers::new(3 * threads + 4),
        })
    }

    /// A producer writes the archive and sends each chunk to the compressors, the promise of it to the calling thread. Whoever
    /// fails drops its end of the channel, and the other then finds it closed.
    fn pack(
        &self,
        fill: impl FnOnce(&mut dyn Write) -> Result<(), LayerError> + Send,
        compression: Compression,
        out: &mut dyn Write,
        copy: Option<&mut (dyn Write + Send)>,
    ) -> Result<Packed, LayerError> {
        // Bounded by the rooms that are lent.
        let (promises, promised) = unbounded();
        std::thread::scope(|scope| {
            let produce = move || {
                let mut chunker = Chunker::new(&self.buffers, compression, copy, |loan| {
                    let is_taken = promises.send(self.compressed(compression, loan)).is_ok();
                    if is_taken { Ok(()) } else { Err(LayerError::Stopped) }
                });
                fill(&mut chunker).and_then(|()| chunker.finish())
            };
            let producer = std::thread::Builder::new()
                .spawn_scoped(scope, produce)
                .map_err(|error| LayerError::write(refused(&error)))?;
            let written = (|| {
                let mut blob = Blob::start(compression, out)?;
                promised.into_iter().try_for_each(|promise: Chunk| blob.add(&promise.wait()??))?;
                Ok(blob)
            })();
            let filled = producer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            match written {
                // The output stopped because the producer did, or the producer because the output did.
                Err(LayerError::Stopped) => filled.and(Err(LayerError::Stopped)),
                Err(error) => Err(error),
                Ok(blob) => blob.finish(filled?),
            }
        })
    }

    fn compressed(&self, compression: Compression, mut loan: Loan) -> Chunk {
        if compression == Compression::None {
            return Promise::kept(Ok(loan));
        }
        self.compressors.run(move |codecs| {
            codecs.compress(compression, &mut loan.room)?;
            Ok(loan)
        })
    }
}

/// A chunk that is being compressed.
type Chunk = Promise<Result<Loan, LayerError>>;

/// Cuts a stream into chunks and hashes it.
struct Chunker<'a, 'c, F> {
    buffers: &'a Buffers,
    /// The chunk that has begun.
    loan: Option<Loan>,
    /// The end of the one before.
    tail: Vec<u8>,
    window: usize,
    size: usize,
    hasher: Hasher,
    count: u64,
    /// Gets the stream as well, until it fails.
    copy: Option<&'c mut (dyn Write + Send)>,
    send: F,
}

impl<'a, 'c, F: FnMut(Loan) -> Result<(), LayerError>> Chunker<'a, 'c, F> {
    fn new(
        buffers: &'a Buffers,
        compression: Compression,
        copy: Option<&'c mut (dyn Write + Send)>,
        send: F,
    ) -> Self {
        let (window, size) = (codec::window(compression), codec::chunk_size(compression));
        let (hasher, tail) = (Hasher::new(), Vec::new());
        Self { buffers, loan: None, tail, window, size, hasher, count: 0, copy, send }
    }

    fn emit(&mut self) -> Result<(), LayerError> {
        let Some(loan) = self.loan.take() else { return Ok(()) };
        let (bytes, chunk) = (&loan.room.bytes, loan.room.chunk());
        self.hasher.update(chunk);
        self.count += chunk.len() as u64;
        if self.copy.as_mut().is_some_and(|copy| copy.write_all(chunk).is_err()) {
            self.copy = None;
        }
        self.tail.clear();
        self.tail.extend_from_slice(&bytes[bytes.len().saturating_sub(self.window)..]);
        (self.send)(loan)
    }

    fn finish(mut self) -> Result<(Digest, u64), LayerError> {
        if self.count == 0 && self.loan.is_none() {
            // What is empty is compressed as well: no bytes at all are no zstd.
            self.loan = Some(self.buffers.lend(&[]));
        }
        self.emit()?;
        Ok((self.hasher.finish(), self.count))
    }
}

impl<F: FnMut(Loan) -> Result<(), LayerError>> Write for Chunker<'_, '_, F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        let room = &mut self.loan.get_or_insert_with(|| self.buffers.lend(&self.tail)).room;
        let taken = bytes.len().min(self.size - room.chunk().len());
        room.bytes.extend_from_slice(&bytes[..taken]);
        if room.chunk().len() == self.size {
            self.emit().map_err(io::Error::other)?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes chunks, in order, as a blob.
struct Blob<'a> {
    out: &'a mut dyn Write,
    compression: Compression,
    hasher: Hasher,
    size: u64,
    crc: Crc,
}

impl<'a> Blob<'a> {
    fn start(compression: Compression, out: &'a mut dyn Write) -> Result<Self, LayerError> {
        let mut blob = Self { out, compression, hasher: Hasher::new(), size: 0, crc: Crc::new() };
        blob.put(codec::start(compression))?;
        Ok(blob)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), LayerError> {
        self.out.write_all(bytes).map_err(LayerError::write)?;
        self.size += bytes.len() as u64;
        // What is not compressed has been hashed before it came here.
        if self.compression != Compression::None {
            self.hasher.update(bytes);
        }
        Ok(())
    }

    fn add(&mut self, loan: &Loan) -> Result<(), LayerError> {
        if self.compression == Compression::None {
            return self.put(loan.room.chunk());
        }
        self.crc.combine(&loan.room.crc);
        self.put(&loan.room.packed)
    }

    fn finish(mut self, (diff_id, uncompressed_size): (Digest, u64)) -> Result<Packed, LayerError> {
        let end = codec::end(self.compression, &self.crc);
        self.put(&end)?;
        self.out.flush().map_err(LayerError::write)?;
        let digest = if self.compression == Compression::None { diff_id } else { self.hasher.finish() };
        Ok(Packed { diff_id, digest, size: self.size, uncompressed_size })
    }
}
