//! The archive of a layer, verified while it is read.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use strata_layer::{Spare, VerifyError};
use strata_oci::{Digest, Hasher};

/// Bytes of a piece.
const PIECE: usize = 256 * 1024;
/// How many pieces are read ahead.
const AHEAD: usize = 4;

/// Passes an archive on and fails at its end if it is not the layer that was asked for. As soon as a thread can be had
/// for it, that reads, decompresses and hashes ahead of whoever writes the files.
pub(super) struct Verified {
    way: Way,
    piece: Vec<u8>,
    at: usize,
    /// The last piece was read, and all of them are the layer.
    is_over: bool,
}

/// An archive on its way through the hasher.
struct Hashed {
    inner: Box<dyn Read + Send>,
    hasher: Hasher,
    diff_id: Digest,
}

enum Way {
    /// The thread that wants the bytes reads them.
    Here { hashed: Hashed, spare: Spare },
    /// Another thread does.
    Ahead { pieces: Receiver<io::Result<Vec<u8>>>, used: SyncSender<Vec<u8>> },
}

impl Verified {
    /// An archive for which there is a thread.
    pub(super) fn new(inner: impl Read + Send + 'static, diff_id: Digest) -> Self {
        Self::sharing(inner, diff_id, Spare::new(1))
    }

    /// One for which there is a thread when one is left.
    pub(super) fn sharing(inner: impl Read + Send + 'static, diff_id: Digest, spare: Spare) -> Self {
        let hashed = Hashed { inner: Box::new(inner), hasher: Hasher::new(), diff_id };
        Self { way: Way::Here { hashed, spare }, piece: Vec::new(), at: 0, is_over: false }
    }

    /// Reads the next piece: an empty one is the good end.
    fn advance(&mut self) -> io::Result<()> {
        if let Way::Here { hashed, spare } = &mut self.way
            && spare.take()
        {
            let (sender, pieces) = sync_channel(AHEAD);
            let (used, free) = sync_channel(AHEAD + 2);
            let (start, started) = sync_channel::<Hashed>(1);
            let returned = spare.clone();
            // Detached on purpose: it ends with the archive, or when nobody wants more of it.
            let thread = std::thread::Builder::new().spawn(move || {
                if let Ok(hashed) = started.recv() {
                    hashed.read_ahead(&sender, &free);
                }
                returned.give();
            });
            // Where no more threads may be had, it goes on here, and asks for none again.
            if thread.is_ok() && start.send(hashed.leave()).is_ok() {
                self.way = Way::Ahead { pieces, used };
            }
        }
        let piece = std::mem::take(&mut self.piece);
        self.at = 0;
        self.piece = match &mut self.way {
            Way::Here { hashed, .. } => hashed.next(piece)?,
            Way::Ahead { pieces, used } => {
                // Dropped if there are enough of them.
                drop(used.try_send(piece));
                let ended = |_| io::Error::other("the thread that reads it has ended; please report this");
                pieces.recv().map_err(ended)??
            }
        };
        self.is_over = self.piece.is_empty();
        Ok(())
    }
}

impl Hashed {
    /// All of it, for another thread.
    fn leave(&mut self) -> Self {
        let inner: Box<dyn Read + Send> = Box::new(io::empty());
        Self {
            inner: std::mem::replace(&mut self.inner, inner),
            hasher: std::mem::take(&mut self.hasher),
            diff_id: self.diff_id,
        }
    }

    /// Reads a piece into the room of another; the empty one at the end means that all of them are the layer.
    fn next(&mut self, mut piece: Vec<u8>) -> io::Result<Vec<u8>> {
        piece.resize(PIECE, 0);
        let count = fill(&mut self.inner, &mut piece)?;
        piece.truncate(count);
        self.hasher.update(&piece);
        if count == 0 {
            let got = std::mem::take(&mut self.hasher).finish();
            if got != self.diff_id {
                return Err(VerifyError::Mismatch { digest: self.diff_id, got }.into());
            }
        }
        Ok(piece)
    }

    /// Sends all of the archive, then an empty piece or what is wrong with it.
    fn read_ahead(mut self, pieces: &SyncSender<io::Result<Vec<u8>>>, free: &Receiver<Vec<u8>>) {
        loop {
            let piece = self.next(free.try_recv().unwrap_or_default());
            let is_last = piece.as_ref().map_or(true, Vec::is_empty);
            if pieces.send(piece).is_err() || is_last {
                return;
            }
        }
    }
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
            self.advance()?;
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
            let mut read = Vec::new();
            for threads in [0, 1] {
                let spare = Spare::new(threads);
                let mut good = Verified::sharing(inner(), Digest::of(&bytes), spare.clone());
                read.clear();
                good.read_to_end(&mut read).unwrap();
                assert!(read == bytes, "{size}");
                assert_eq!(good.read(&mut [0]).unwrap(), 0);
                let bad = Verified::sharing(inner(), Digest::of(b"other"), Spare::default());
                assert!({ bad }.read_to_end(&mut Vec::new()).is_err());
            }
            let error = Verified::new(inner(), Digest::of(b"other")).read_to_end(&mut read).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{size}");
        }
        let mut read = Vec::new();
        let error = Verified::new(Broken(PIECE + 5), Digest::of(b"")).read_to_end(&mut read).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        // A thread that is left is taken in the middle.
        let bytes = vec![7; 5 * PIECE];
        let spare = Spare::default();
        let mut late = Verified::sharing(io::Cursor::new(bytes.clone()), Digest::of(&bytes), spare.clone());
        let mut start = vec![0; PIECE + 9];
        late.read_exact(&mut start).unwrap();
        assert!(matches!(late.way, Way::Here { .. }));
        spare.give();
        late.read_to_end(&mut start).unwrap();
        assert!(matches!(late.way, Way::Ahead { .. }) && start.len() == bytes.len());
        // Whoever has enough leaves.
        drop(Verified::new(io::repeat(0), Digest::of(b"")));
    }
}
