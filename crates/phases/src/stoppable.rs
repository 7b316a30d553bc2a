//! Work that ends early.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};

/// A writer that fails once the work is to stop.
pub(crate) struct Stoppable<'a, W> {
    out: W,
    stop: &'a AtomicBool,
}

impl<'a, W: Write> Stoppable<'a, W> {
    /// Passes on what is written until `stop` is set.
    pub(crate) fn new(out: W, stop: &'a AtomicBool) -> Self {
        Self { out, stop }
    }
}

impl<W: Write> Write for Stoppable<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(io::Error::other("it is to stop"));
        }
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_written_once_it_is_to_stop() {
        let stop = AtomicBool::new(false);
        let mut out = Vec::new();
        let mut writer = Stoppable::new(&mut out, &stop);
        writer.write_all(b"one").unwrap();
        stop.store(true, Ordering::Relaxed);
        assert_eq!(writer.write_all(b"two").unwrap_err().to_string(), "it is to stop");
        assert_eq!(out, b"one");
    }
}
