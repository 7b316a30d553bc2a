//! The archive of a layer, verified while it is read.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use strata_layer::VerifyError;
use strata_oci::{Digest, Hasher};

/// Bytes of a piece.
const PIECE: usize = 256 * 1024;
/// How many pieces are read ahead.
const AHEAD: usize = 4;

/// Passes an archive on and fails at its end if it is not the layer that was asked for. A thread of its own reads,
/// decompresses and hashes ahead of whoever writes the files.
pub(super) struct Verified {
    pieces: Receiver<io::Result<Vec<u8>>>,
    used: SyncSender<Vec<u8>>,
    piece: Vec<u8>,
    at: usize,
    /// The last piece was read, and all of them are the layer.
    is_over: bool,
}

impl Verified {
    pub(super) fn new(inner: impl Read + Send + 'static, diff_id: Digest) -> Self {
        let (sender, pieces) = sync_channel(AHEAD);
        let (used, free) = sync_channel(AHEAD + 2);
        // Detached on purpose: it ends with the archive, or when nobody wants more of it.
        std::thread::spawn(move || read_ahead(inner, diff_id, &sender, &free));
        Self { pieces, used, piece: Vec::new(), at: 0, is_over: false }
    }
}

/// Sends all of an archive, then an empty piece or what is wrong with it.
fn read_ahead(
    mut inner: impl Read,
    diff_id: Digest,
    pieces: &SyncSender<io::Result<Vec<u8>>>,
    free: &Receiver<Vec<u8>>,
) {
    let mut hasher = Hasher::new();
    loop {
        let mut piece = free.try_recv().unwrap_or_default();
        piece.resize(PIECE, 0);
        let outcome = fill(&mut inner, &mut piece);
        let count = *outcome.as_ref().unwrap_or(&0);
        piece.truncate(count);
        hasher.update(&piece);
        let is_last = count == 0;
        let sent = match outcome {
            Ok(0) => pieces.send(verdict(std::mem::take(&mut hasher).finish(), diff_id)),
            Ok(_) => pieces.send(Ok(piece)),
            Err(error) => pieces.send(Err(error)),
        };
        if is_last || sent.is_err() {
            return;
        }
    }
}

fn verdict(got: Digest, diff_id: Digest) -> io::Result<Vec<u8>> {
    if got == diff_id { Ok(Vec::new()) } else { Err(VerifyError::Mismatch { digest: diff_id, got }.into()) }
}

/// Reads until the buffer is full or nothing is left.
fn fill(inner: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut count = 0;
    while count < buffer.len() {
        match inner.read(&mut buffer[count..]) {
            Ok(0) => break,
            Ok(more) => count += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(count)
}

impl Read for Verified {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.piece.len() && !self.is_over && !buffer.is_empty() {
            // Dropped if there are enough of them.
            drop(self.used.try_send(std::mem::take(&mut self.piece)));
            let ended = |_| io::Error::other("the thread that reads it has ended; please report this");
            self.piece = self.pieces.recv().map_err(ended)??;
            self.at = 0;
            self.is_over = self.piece.is_empty();
        }
        let rest = &self.piece[self.at..];
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.at += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives an odd number of bytes at a time.
    struct Slow(io::Cursor<Vec<u8>>);

    impl Read for Slow {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = buffer.len().min(100_001);
            self.0.read(&mut buffer[..count])
        }
    }

    /// Fails after some bytes.
    struct Broken(usize);

    impl Read for Broken {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.0.min(buffer.len());
            self.0 -= count;
            if count == 0 { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(count) }
        }
    }

    #[test]
    fn all_bytes_pass_and_the_end_tells_whether_they_are_right() {
        for size in [0, 1, PIECE - 1, PIECE, PIECE + 1, 11 * PIECE + 7] {
            let bytes: Vec<u8> = (0..size).map(|at| (at * at / 7) as u8).collect();
            let inner = || Slow(io::Cursor::new(bytes.clone()));
            let mut good = Verified::new(inner(), Digest::of(&bytes));
            let mut read = Vec::new();
            good.read_to_end(&mut read).unwrap();
            assert!(read == bytes, "{size}");
            assert_eq!(good.read(&mut [0]).unwrap(), 0);
            let error = Verified::new(inner(), Digest::of(b"other")).read_to_end(&mut read).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{size}");
        }
        let mut read = Vec::new();
        let error = Verified::new(Broken(PIECE + 5), Digest::of(b"")).read_to_end(&mut read).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        // Whoever has enough leaves.
        drop(Verified::new(io::repeat(0), Digest::of(b"")));
    }
}
