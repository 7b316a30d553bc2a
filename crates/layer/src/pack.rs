//! One pass from a tree to a blob: tar, its digest, gzip, the digest of that.
//!
//! The gzip is one member made of chunks that are compressed apart, each with the end of the chunk before it as
//! dictionary, so its bytes depend neither on the number of threads nor on the sizes of writes. Memory is bounded by
//! the chunks under way.

use std::io::{self, Write};

use crossbeam_channel::{Receiver, Sender, bounded};
use flate2::{Compress, CompressError, Crc, FlushCompress, Status};
use strata_oci::{Digest, Hasher};

use crate::error::LayerError;
use crate::read::HashWriter;
use crate::source::{Source, is_smaller_than, write_entries, write_tar};

/// Uncompressed bytes per chunk. Changing it, like the level, changes every compressed digest.
const CHUNK: usize = 1 << 20;
const DICTIONARY: usize = 32 << 10;
/// The fastest level whose output is smaller than that of Go's fastest.
const LEVEL: u32 = 2;
/// No time, the mark for a fast level, no operating system.
const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 4, 255];

/// How a layer is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// As one gzip member.
    Gzip,
    /// As the tar archive it is.
    None,
}

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

/// Writes `source` as a layer blob to `out`, with at most `threads` threads that compress.
///
/// The tar is read and hashed on a thread of its own unless the layer is small or `threads` is below two; `out` is
/// always written from the calling thread. The first error stops everything; `out` then holds a part of a blob.
pub fn pack(
    source: &Source,
    compression: Compression,
    threads: usize,
    out: &mut dyn Write,
) -> Result<Packed, LayerError> {
    let threads = if is_smaller_than(source, CHUNK as u64) { 1 } else { threads };
    pack_with(|tar| write_entries(source, tar), compression, threads, out)
}

/// Like [`pack()`] for a tar archive that `fill` writes, in writes of any size.
pub fn pack_with(
    fill: impl FnOnce(&mut dyn Write) -> Result<(), LayerError> + Send,
    compression: Compression,
    threads: usize,
    out: &mut dyn Write,
) -> Result<Packed, LayerError> {
    let mut out = HashWriter::new(out);
    let (diff_id, uncompressed_size) = match compression {
        Compression::None => {
            let mut buffered = io::BufWriter::with_capacity(CHUNK, &mut out);
            fill(&mut buffered)?;
            buffered.flush().map_err(LayerError::write)?;
            drop(buffered);
            let (_, digest, size) = out.finish();
            return Ok(Packed { diff_id: digest, digest, size, uncompressed_size: size });
        }
        Compression::Gzip if threads < 2 => gzip_here(fill, &mut out)?,
        Compression::Gzip => gzip_threaded(fill, threads, &mut out)?,
    };
    out.flush().map_err(LayerError::write)?;
    let (_, digest, size) = out.finish();
    Ok(Packed { diff_id, digest, size, uncompressed_size })
}

/// Digest and size of the tar archive of `source`, which is not kept.
pub fn diff_id(source: &Source) -> Result<(Digest, u64), LayerError> {
    let mut hash = HashWriter::new(io::sink());
    write_tar(source, &mut hash)?;
    let (_, digest, size) = hash.finish();
    Ok((digest, size))
}

/// A part of the archive on its way through the compressor.
struct Chunk {
    data: Vec<u8>,
    dictionary: Vec<u8>,
    is_last: bool,
}

/// A chunk after it; `data` is only kept to be used again.
struct Deflated {
    data: Vec<u8>,
    bytes: Vec<u8>,
    crc: Crc,
}

/// Cuts a stream into chunks and hashes it.
struct Chunker<F> {
    data: Vec<u8>,
    dictionary: Vec<u8>,
    hasher: Hasher,
    count: u64,
    /// Takes a chunk and gives an empty buffer for the next.
    send: F,
}

impl<F: FnMut(Chunk) -> Result<Vec<u8>, LayerError>> Chunker<F> {
    fn new(send: F) -> Self {
        let data = Vec::with_capacity(CHUNK);
        Self { data, dictionary: Vec::new(), hasher: Hasher::new(), count: 0, send }
    }

    fn emit(&mut self, is_last: bool) -> Result<(), LayerError> {
        self.hasher.update(&self.data);
        self.count += self.data.len() as u64;
        let tail = self.data[self.data.len().saturating_sub(DICTIONARY)..].to_vec();
        let dictionary = std::mem::replace(&mut self.dictionary, tail);
        let data = std::mem::take(&mut self.data);
        self.data = (self.send)(Chunk { data, dictionary, is_last })?;
        Ok(())
    }

    fn finish(mut self) -> Result<(Digest, u64), LayerError> {
        self.emit(true)?;
        Ok((self.hasher.finish(), self.count))
    }
}

impl<F: FnMut(Chunk) -> Result<Vec<u8>, LayerError>> Write for Chunker<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A full chunk waits for the next byte: only then it is known not to be the last.
        if self.data.len() == CHUNK && !bytes.is_empty() {
            self.emit(false).map_err(io::Error::other)?;
        }
        let taken = bytes.len().min(CHUNK - self.data.len());
        self.data.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes deflated chunks, in order, as one gzip member.
struct Member<W> {
    out: W,
    crc: Crc,
}

impl<W: Write> Member<W> {
    fn start(mut out: W) -> Result<Self, LayerError> {
        out.write_all(&GZIP_HEADER).map_err(LayerError::write)?;
        Ok(Self { out, crc: Crc::new() })
    }

    fn add(&mut self, chunk: &Deflated) -> Result<(), LayerError> {
        self.crc.combine(&chunk.crc);
        self.out.write_all(&chunk.bytes).map_err(LayerError::write)
    }

    fn finish(mut self) -> Result<(), LayerError> {
        self.out.write_all(&self.crc.sum().to_le_bytes()).map_err(LayerError::write)?;
        // The format keeps the size modulo 2^32.
        self.out.write_all(&self.crc.amount().to_le_bytes()).map_err(LayerError::write)
    }
}

fn gzip_here(
    fill: impl FnOnce(&mut dyn Write) -> Result<(), LayerError>,
    out: impl Write,
) -> Result<(Digest, u64), LayerError> {
    let mut member = Member::start(out)?;
    let mut deflate = new_deflate();
    let mut bytes = Vec::new();
    let mut failed = None;
    let mut chunker = Chunker::new(|chunk| {
        let done = deflate_chunk(&mut deflate, chunk, std::mem::take(&mut bytes))
            .and_then(|done| member.add(&done).map(|()| done));
        match done {
            Ok(done) => {
                bytes = emptied(done.bytes);
                Ok(emptied(done.data))
            }
            Err(error) => {
                failed = Some(error);
                Err(LayerError::Stopped)
            }
        }
    });
    let filled = fill(&mut chunker).and_then(|()| chunker.finish());
    // What stopped the output is the reason, not that the archive could not be written on.
    if let Some(error) = failed {
        return Err(error);
    }
    let known = filled?;
    member.finish()?;
    Ok(known)
}

/// A chunk and where its result goes.
type Job = (Chunk, Sender<Result<Deflated, LayerError>>);

/// The producer puts each chunk into `jobs` and the promise of its result into `promises`, whose bound limits the chunks
/// under way; the calling thread takes the promises in order. Whoever fails drops its end of a channel, and the others
/// then find theirs closed: nobody waits for a thread that is gone.
fn gzip_threaded(
    fill: impl FnOnce(&mut dyn Write) -> Result<(), LayerError> + Send,
    threads: usize,
    out: impl Write,
) -> Result<(Digest, u64), LayerError> {
    let (job_in, job_out) = bounded::<Job>(threads);
    let (promise_in, promise_out) = bounded(2 * threads);
    let (bytes_in, bytes_out) = bounded::<Vec<u8>>(2 * threads + 2);
    let (data_in, data_out) = bounded::<Vec<u8>>(2 * threads + 2);
    std::thread::scope(|scope| {
        let producer = scope.spawn(move || {
            let mut chunker = Chunker::new(|chunk| {
                let (reply_in, reply_out) = bounded(1);
                let gone = promise_in.send(reply_out).is_err() || job_in.send((chunk, reply_in)).is_err();
                if gone { Err(LayerError::Stopped) } else { Ok(data_out.try_recv().unwrap_or_default()) }
            });
            fill(&mut chunker).and_then(|()| chunker.finish())
        });
        for _ in 0..threads {
            let (jobs, spare) = (job_out.clone(), bytes_out.clone());
            scope.spawn(move || compress_jobs(&jobs, &spare));
        }
        drop((job_out, bytes_out));
        let written = write_promised(out, promise_out, |done| {
            // A full box means enough buffers are about; this one is freed.
            drop(data_in.try_send(emptied(done.data)));
            drop(bytes_in.try_send(emptied(done.bytes)));
        });
        let filled = producer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        match (written, filled) {
            // The output stopped because the producer did, or the producer because the output did.
            (Err(LayerError::Stopped), Err(error)) => Err(error),
            (Err(error), _) => Err(error),
            (Ok(member), filled) => {
                let known = filled?;
                member.finish()?;
                Ok(known)
            }
        }
    })
}

fn compress_jobs(jobs: &Receiver<Job>, spare: &Receiver<Vec<u8>>) {
    let mut deflate = new_deflate();
    for (chunk, reply) in jobs {
        let bytes = spare.try_recv().unwrap_or_default();
        // Nobody waits for the result if the output failed.
        drop(reply.send(deflate_chunk(&mut deflate, chunk, bytes)));
    }
}

fn write_promised<W: Write>(
    out: W,
    promises: Receiver<Receiver<Result<Deflated, LayerError>>>,
    mut recycle: impl FnMut(Deflated),
) -> Result<Member<W>, LayerError> {
    let mut member = Member::start(out)?;
    for promise in promises {
        // A promise is broken when the producer or a compressor ended before its chunk was done.
        let done = promise.recv().unwrap_or(Err(LayerError::Stopped))?;
        member.add(&done)?;
        recycle(done);
    }
    Ok(member)
}

fn emptied(mut buffer: Vec<u8>) -> Vec<u8> {
    buffer.clear();
    buffer
}

fn new_deflate() -> Compress {
    Compress::new(flate2::Compression::new(LEVEL), false)
}

/// Deflates one chunk so that it ends at a byte; the output is appended to `bytes`, which is empty.
fn deflate_chunk(deflate: &mut Compress, chunk: Chunk, mut bytes: Vec<u8>) -> Result<Deflated, LayerError> {
    let failed = |source: CompressError| LayerError::Compress { source };
    deflate.reset();
    if !chunk.dictionary.is_empty() {
        deflate.set_dictionary(&chunk.dictionary).map_err(failed)?;
    }
    let flush = if chunk.is_last { FlushCompress::Finish } else { FlushCompress::Sync };
    // Never full, since a flush that just fits is marked twice, and then the bytes would depend on the buffer.
    bytes.reserve(chunk.data.len() + chunk.data.len() / 8 + 1024);
    loop {
        let consumed = usize::try_from(deflate.total_in()).unwrap_or(usize::MAX).min(chunk.data.len());
        let status = deflate.compress_vec(&chunk.data[consumed..], &mut bytes, flush).map_err(failed)?;
        let is_done = if chunk.is_last {
            status == Status::StreamEnd
        } else {
            // Room left over means that the flush is complete.
            bytes.len() < bytes.capacity() && deflate.total_in() >= chunk.data.len() as u64
        };
        if is_done {
            break;
        }
        bytes.reserve(chunk.data.len() / 4 + 1024);
    }
    let mut crc = Crc::new();
    crc.update(&chunk.data);
    Ok(Deflated { data: chunk.data, bytes, crc })
}
