//! Layers that others compressed with zstd.

use std::io::{self, BufRead, Read};

use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use crate::noted::Noted;

/// What the first frame starts with (RFC 8878, section 3.1.1).
pub(crate) const MAGIC: &[u8] = b"\x28\xb5\x2f\xfd";
/// The largest window, 128 MiB: what zstd's own program takes without being asked to take more. It is memory.
const MAX_WINDOW: u64 = 128 << 20;
/// Bytes that are decompressed at once.
const STEP: usize = 128 * 1024;

/// Decompresses any number of frames. Those to be skipped are, as tables of contents at the end of a layer.
pub(crate) struct ZstdReader<R> {
    /// Its failures, which the decoder puts into words of its own.
    source: Noted<R>,
    decoder: FrameDecoder,
    is_within_frame: bool,
}

impl<R: BufRead> ZstdReader<R> {
    pub(crate) fn new(inner: R) -> Self {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(MAX_WINDOW);
        Self { source: Noted::new(inner), decoder, is_within_frame: false }
    }

    /// Goes on to the next frame; `false` at the end.
    fn next_frame(&mut self) -> io::Result<bool> {
        while !self.source.inner().fill_buf()?.is_empty() {
            match self.decoder.reset(&mut self.source) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let length = u64::from(length);
                    let skipped = io::copy(&mut (&mut self.source).take(length), &mut io::sink())?;
                    if skipped < length {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(error) => return Err(self.failure(error)),
            }
        }
        Ok(false)
    }

    fn failure(&mut self, error: FrameDecoderError) -> io::Error {
        self.source.failure().unwrap_or_else(|| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    fn end_frame(&mut self) -> io::Result<()> {
        self.is_within_frame = false;
        let expected = self.decoder.get_checksum_from_data();
        if expected.is_some() && expected != self.decoder.get_calculated_checksum() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the checksum of a zstd frame is wrong"));
        }
        Ok(())
    }
}

impl<R: BufRead> Read for ZstdReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if !self.is_within_frame {
                self.is_within_frame = self.next_frame()?;
                if !self.is_within_frame {
                    return Ok(0);
                }
            }
            let count = self.decoder.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            if self.decoder.is_finished() {
                self.end_frame()?;
            } else {
                let step = BlockDecodingStrategy::UptoBytes(STEP);
                let decoded = self.decoder.decode_blocks(&mut self.source, step);
                decoded.map_err(|error| self.failure(error))?;
            }
        }
    }
}
