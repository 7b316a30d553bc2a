//! How layers are compressed: chunk by chunk, each for itself, but that a chunk may refer to the end of the one before.

use flate2::Crc;

use crate::buffers::Room;
use crate::deflate::{Deflater, END, WINDOW};

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

impl Compression {
    /// How many bytes of the chunk before a chunk refers to.
    pub(crate) fn window(self) -> usize {
        match self {
            Self::Gzip => WINDOW,
            Self::None => 0,
        }
    }

    /// What comes before all chunks.
    pub(crate) fn start(self) -> &'static [u8] {
        match self {
            Self::Gzip => &GZIP_HEADER,
            Self::None => &[],
        }
    }

    /// What comes after all chunks.
    pub(crate) fn end(self, crc: &Crc) -> Vec<u8> {
        match self {
            // The format keeps the size modulo 2^32.
            Self::Gzip => [&END[..], &crc.sum().to_le_bytes(), &crc.amount().to_le_bytes()].concat(),
            Self::None => Vec::new(),
        }
    }
}

/// What a thread needs to compress chunks, made once it is needed.
#[derive(Default)]
pub(crate) struct Codecs {
    deflater: Option<Deflater>,
}

impl Codecs {
    /// Fills `packed` and `crc`.
    pub(crate) fn compress(&mut self, compression: Compression, room: &mut Room) {
        match compression {
            Compression::Gzip => {
                let deflater = self.deflater.get_or_insert_with(Deflater::new);
                room.packed = deflater.deflate(&room.bytes, room.start, std::mem::take(&mut room.packed));
                room.crc = Crc::new();
                room.crc.update(&room.bytes[room.start..]);
            }
            Compression::None => {}
        }
    }
}
