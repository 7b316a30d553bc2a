//! How layers are compressed: chunk by chunk, each for itself, but that a chunk of gzip may refer to the end of the one
//! before.

use flate2::{Compress, Crc, FlushCompress};
use strata_oci::Compression;

use crate::buffers::Room;
use crate::deflate::{Deflater, END, WINDOW};
use crate::error::LayerError;
use crate::frame::Encoder;

/// No time, the mark for a fast level, no operating system.
const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 4, 255];
/// Uncompressed bytes per chunk. Changing one changes all digests of such layers.
const CHUNK: usize = 256 << 10;
/// Frames of zstd know nothing of each other: they have to be larger.
const FRAME: usize = 1 << 20;

/// How many bytes a chunk has.
pub(crate) fn chunk_size(compression: Compression) -> usize {
    match compression {
        Compression::Zstd(_) => FRAME,
        _ => CHUNK,
    }
}

/// How many bytes of the chunk before a chunk refers to.
pub(crate) fn window(compression: Compression) -> usize {
    match compression {
        Compression::Gzip | Compression::GzipLevel(_) => WINDOW,
        Compression::Zstd(_) | Compression::None => 0,
    }
}

/// What comes before all chunks.
pub(crate) fn start(compression: Compression) -> &'static [u8] {
    match compression {
        Compression::Gzip | Compression::GzipLevel(_) => &GZIP_HEADER,
        Compression::Zstd(_) | Compression::None => &[],
    }
}

/// What comes after all chunks.
pub(crate) fn end(compression: Compression, crc: &Crc) -> Vec<u8> {
    match compression {
        // The format keeps the size modulo 2^32.
        Compression::Gzip | Compression::GzipLevel(_) => {
            [&END[..], &crc.sum().to_le_bytes(), &crc.amount().to_le_bytes()].concat()
        }
        Compression::Zstd(_) | Compression::None => Vec::new(),
    }
}

/// What a thread needs to compress chunks, made once it is needed.
#[derive(Default)]
pub(crate) struct Codecs {
    fast: Option<Deflater>,
    zstd: Option<Encoder>,
}

impl Codecs {
    /// Fills `packed` and `crc`.
    pub(crate) fn compress(&mut self, compression: Compression, room: &mut Room) -> Result<(), LayerError> {
        match compression {
            Compression::Gzip => {
                let deflater = self.fast.get_or_insert_with(Deflater::new);
                room.packed = deflater.deflate(&room.bytes, room.start, std::mem::take(&mut room.packed));
            }
            Compression::GzipLevel(level) => deflate_smaller(level.number(), room)?,
            Compression::Zstd(level) => {
                let mut encoder = self.zstd.take().map_or_else(Encoder::new, Ok)?;
                encoder.encode(&room.bytes[room.start..], level.number(), &mut room.packed)?;
                self.zstd = Some(encoder);
                return Ok(());
            }
            Compression::None => return Ok(()),
        }
        room.crc = Crc::new();
        room.crc.update(&room.bytes[room.start..]);
        Ok(())
    }
}

/// Deflates a chunk so that it ends at a byte, as [`Deflater::deflate`] does.
fn deflate_smaller(level: u8, room: &mut Room) -> Result<(), LayerError> {
    let failed = |error: flate2::CompressError| LayerError::Compress { reason: error.to_string() };
    // A new one: one that is reset makes other bytes, depending on what it has compressed before.
    let mut deflate = Compress::new(flate2::Compression::new(level.into()), false);
    let (dictionary, chunk) = room.bytes.split_at(room.start);
    if !dictionary.is_empty() {
        deflate.set_dictionary(dictionary).map_err(failed)?;
    }
    room.packed.clear();
    // Never full, since a flush that just fits is marked twice, and then the bytes would depend on the buffer.
    room.packed.reserve(chunk.len() + chunk.len() / 8 + 1024);
    loop {
        let consumed = usize::try_from(deflate.total_in()).unwrap_or(usize::MAX).min(chunk.len());
        deflate.compress_vec(&chunk[consumed..], &mut room.packed, FlushCompress::Sync).map_err(failed)?;
        // Room left over means that the flush is complete.
        if room.packed.len() < room.packed.capacity() && deflate.total_in() >= chunk.len() as u64 {
            return Ok(());
        }
        room.packed.reserve(chunk.len() / 4 + 1024);
    }
}
