//! The memory that all layers under way share: so many rooms for a chunk and what it is compressed to, and no more.

use crossbeam_channel::{Receiver, Sender, bounded};
use flate2::Crc;

/// A chunk on its way through the compressor.
#[derive(Default)]
pub(crate) struct Room {
    /// The end of the chunk before, then this one.
    pub(crate) bytes: Vec<u8>,
    /// Where this one starts.
    pub(crate) start: usize,
    pub(crate) packed: Vec<u8>,
    pub(crate) crc: Crc,
}

impl Room {
    /// The chunk itself.
    pub(crate) fn chunk(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

/// A number of rooms.
pub(crate) struct Buffers {
    free: Receiver<Room>,
    home: Sender<Room>,
}

impl Buffers {
    pub(crate) fn new(count: usize) -> Self {
        let (home, free) = bounded(count);
        for _ in 0..count {
            // There is room for just as many.
            drop(home.send(Room::default()));
        }
        Self { free, home }
    }

    /// Waits for a room, which begins with `dictionary`.
    ///
    /// Who has one must not wait for another: then all that are there may be in the hands of those who wait.
    pub(crate) fn lend(&self, dictionary: &[u8]) -> Loan {
        // The sender is here too, so there is always one who may send.
        let mut room = self.free.recv().unwrap_or_default();
        room.bytes.clear();
        room.bytes.extend_from_slice(dictionary);
        room.start = dictionary.len();
        Loan { room, home: self.home.clone() }
    }
}

/// A room that goes back when it is dropped, wherever that is.
pub(crate) struct Loan {
    pub(crate) room: Room,
    home: Sender<Room>,
}

impl Drop for Loan {
    fn drop(&mut self) {
        // When the lender is gone nobody needs it.
        drop(self.home.send(std::mem::take(&mut self.room)));
    }
}
