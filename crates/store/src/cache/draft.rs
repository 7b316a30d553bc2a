//! Archives that are written before anybody knows whether a cache will keep them.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, fstatvfs, linkat};

/// Bytes that have to stay free on the disk: what is written for later must not be what the image lacks.
const RESERVE: u64 = 1 << 30;
/// So many bytes are written between two looks at what is free.
const STEP: u64 = 4 << 20;

/// How long an image waits at most for writes that are for the cache. A disk that takes longer is worth more to the
/// image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// In any case.
    pub grace: Duration,
    /// For each MiB besides.
    pub per_mib: Duration,
}

impl Patience {
    /// However long it takes.
    pub const ENDLESS: Self = Self { grace: Duration::MAX, per_mib: Duration::ZERO };

    fn is_over(self, size: u64, taken: Duration) -> bool {
        let mib = u32::try_from(size >> 20).unwrap_or(u32::MAX);
        taken > self.grace.saturating_add(self.per_mib.saturating_mul(mib))
    }
}

impl Default for Patience {
    fn default() -> Self {
        Self { grace: Duration::from_millis(500), per_mib: Duration::from_micros(2500) }
    }
}

/// An archive on its way into the next generation of a cache. It has no name: nothing is left of one that is dropped, or
/// whose program is killed.
#[derive(Debug)]
pub struct Draft {
    file: File,
    size: u64,
    /// Up to where nobody has to look for room.
    looked: u64,
    /// How long it took so far.
    taken: Duration,
    patience: Patience,
    has_failed: bool,
}

impl Draft {
    /// One on the file system of `dir`; `None` when that has no files without names.
    pub(super) fn new(dir: &Path, patience: Patience) -> Option<Self> {
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        // Whatever the reason is, it is told by the writer of the cache if it matters there too.
        let file = rustix::fs::open(dir, flags, Mode::from_raw_mode(0o644)).ok()?;
        let file = file.into();
        Some(Self { file, size: 0, looked: 0, taken: Duration::ZERO, patience, has_failed: false })
    }

    /// Whether it holds an archive of so many bytes, all of which were written.
    pub fn is_whole(&self, size: u64) -> bool {
        !self.has_failed && self.size == size
    }

    /// Gives it a name, which nothing may have yet.
    pub(super) fn link(&self, path: &Path) -> io::Result<()> {
        let itself = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        Ok(linkat(CWD, itself, CWD, path, AtFlags::SYMLINK_FOLLOW)?)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.size >= self.looked {
            let disk = fstatvfs(&self.file)?;
            if disk.f_bavail.saturating_mul(disk.f_frsize) < RESERVE {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.looked = self.size + STEP;
        }
        let started = Instant::now();
        self.file.write_all(bytes)?;
        self.size += bytes.len() as u64;
        self.taken += started.elapsed();
        if self.patience.is_over(self.size, self.taken) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(())
    }
}

impl Write for Draft {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.has_failed {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let outcome = self.put(bytes);
        if outcome.is_err() {
            self.has_failed = true;
            // Its room is for others now; it goes with the file at the latest.
            self.file.set_len(0).unwrap_or_default();
        }
        outcome.map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_grows_with_what_was_written() {
        let ms = Duration::from_millis;
        let rows = [(0, 500, false), (0, 501, true), (100 << 20, 750, false), (100 << 20, 751, true)];
        for (size, taken, is_over) in rows {
            assert_eq!(Patience::default().is_over(size, ms(taken)), is_over, "{size} {taken}");
            assert!(!Patience::ENDLESS.is_over(size, ms(taken)));
        }
        assert!(!Patience::ENDLESS.is_over(u64::MAX, Duration::MAX));
    }
}
