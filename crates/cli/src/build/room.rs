//! Room on the disk that buildpacks leave to others.

use rustix::fs::statvfs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use strata_phases::Failure;
use strata_spec::exit::Exit;

/// How much stays free if nobody says otherwise, and it is no more than half of what there is: bytes, and files.
const USUAL: Free = Free { bytes: 1 << 30, files: 10_000 };
/// How often one looks.
const PAUSE: Duration = Duration::from_millis(50);

/// What is free on a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Free {
    bytes: u64,
    /// None where the file system makes as many as there are bytes for.
    files: u64,
}

impl Free {
    /// What is free where this folder is; nothing is known of a disk that does not say.
    fn on(dir: &Path) -> Option<Self> {
        let stat = statvfs(dir).ok()?;
        Some(Self { bytes: stat.f_bavail.saturating_mul(stat.f_frsize), files: stat.f_favail })
    }

    /// What has to stay free of it: as many bytes as were asked for, with 0 for no limit at all.
    fn least(self, asked: Option<u64>) -> Self {
        let files = USUAL.files.min(self.files / 2);
        match asked {
            Some(0) => Self { bytes: 0, files: 0 },
            Some(bytes) => Self { bytes, files },
            None => Self { bytes: USUAL.bytes.min(self.bytes / 2), files },
        }
    }
}

/// Watches the disk that buildpacks write to.
pub(super) struct Room {
    dir: PathBuf,
    least: Option<Free>,
    next: Instant,
}

impl Room {
    /// Of the disk that `dir` is on, so many bytes are to stay free.
    pub(super) fn new(dir: &Path, asked: Option<u64>) -> Self {
        let least = Free::on(dir).map(|free| free.least(asked));
        Self { dir: dir.to_owned(), least, next: Instant::now() }
    }

    /// Why the build has to end, if it has; looks now and then only.
    pub(super) fn is_short(&mut self) -> Option<Failure> {
        let now = Instant::now();
        let least = self.least.filter(|_| now >= self.next)?;
        self.next = now + PAUSE;
        let free = Free::on(&self.dir)?;
        let left = if free.bytes < least.bytes {
            format!("less than {} MiB", least.bytes.div_ceil(1 << 20))
        } else if free.files < least.files {
            format!("room for less than {} files", least.files)
        } else {
            return None;
        };
        let dir = self.dir.display();
        let message = format!("the build was ended before it fills the disk: {left} is free where {dir} was");
        Some(Failure::new(Exit::Build, message).hint(
            "make room on that disk; or say with --keep-free how much has to stay free, where 0 is no limit",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_free_is_no_more_than_half_unless_somebody_wants_it() {
        let (mib, gib) = (1 << 20, 1 << 30);
        for (free, asked, expected) in [
            ((100 * gib, 1_000_000), None, (gib, 10_000)),
            ((gib, 6000), None, (gib / 2, 3000)),
            ((gib, 0), None, (gib / 2, 0)),
            ((gib, 6000), Some(0), (0, 0)),
            ((gib, 6000), Some(2 * gib), (2 * gib, 3000)),
            ((gib, 6000), Some(mib), (mib, 3000)),
        ] {
            let free = Free { bytes: free.0, files: free.1 };
            assert_eq!(free.least(asked), Free { bytes: expected.0, files: expected.1 }, "{free:?}");
        }
    }
}
