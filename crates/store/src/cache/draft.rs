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
/// How long the image waits for its writes at most: this, and this for each MiB. A disk that takes longer is worth
/// more to the image.
const GRACE: Duration = Duration::from_millis(500);
const PER_MIB: Duration = Duration::from_micros(2500);

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
    has_failed: bool,
}

impl Draft {
    /// One on the file system of `dir`; `None` when that has no files without names.
    pub(super) fn new(dir: &Path) -> Option<Self> {
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        // Whatever the reason is, it is told by the writer of the cache if it matters there too.
        let file = rustix::fs::open(dir, flags, Mode::from_raw_mode(0o644)).ok()?;
        Some(Self { file: file.into(), size: 0, looked: 0, taken: Duration::ZERO, has_failed: false })
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
        let mib = u32::try_from(self.size >> 20).unwrap_or(u32::MAX);
        if self.taken > GRACE + PER_MIB.saturating_mul(mib) {
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
