//! The clock that gives files their times.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::Path;
use std::str::FromStr;
use std::time::{Duration, Instant};

use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, Statx, StatxFlags, StatxTimestamp, Timespec, Timestamps, UTIME_NOW, fstatfs,
    futimens, openat, statx,
};
use rustix::io::Errno;

/// How long a clock is waited for. It ticks every 1 to 10 ms.
const PATIENCE: Duration = Duration::from_millis(50);

/// File systems on a disk of this machine whose kernel code sets the ctime at every change, also through a mapping: ext2
/// to ext4, XFS, Btrfs.
const TRUSTED: [i64; 3] = [0xef53, 0x5846_5342, 0x9123_683e];

/// A time as a file system keeps it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    seconds: i64,
    nanos: u32,
}

/// A text that is no moment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot parse the time {0:?}: expected seconds, a point, and nine digits")]
pub struct BadMoment(String);

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09}", self.seconds, self.nanos)
    }
}

impl FromStr for Moment {
    type Err = BadMoment;

    fn from_str(text: &str) -> Result<Self, BadMoment> {
        let is_fraction = |text: &str| text.len() == 9 && text.bytes().all(|byte| byte.is_ascii_digit());
        let parts = text.split_once('.').filter(|(_, nanos)| is_fraction(nanos));
        // Why a part is no number adds nothing to the text itself.
        let numbers = parts.and_then(|(seconds, nanos)| Some((seconds.parse().ok()?, nanos.parse().ok()?)));
        let (seconds, nanos) = numbers.ok_or_else(|| BadMoment(text.to_owned()))?;
        Ok(Self { seconds, nanos })
    }
}

impl From<(i64, u32)> for Moment {
    /// Seconds, and nanoseconds besides.
    fn from((seconds, nanos): (i64, u32)) -> Self {
        Self { seconds, nanos }
    }
}

impl From<StatxTimestamp> for Moment {
    fn from(time: StatxTimestamp) -> Self {
        Self { seconds: time.tv_sec, nanos: time.tv_nsec }
    }
}

/// The clock of a file system: that of a file of its own, which has no name.
#[derive(Debug)]
pub struct Clock {
    file: File,
    device: (u32, u32),
    boot: String,
}

impl Clock {
    /// The clock of the file system that `dir` is on; `None` when what that says of changes cannot be relied on.
    ///
    /// # Errors
    ///
    /// When no file can be made in `dir`.
    pub fn of(dir: &Path) -> io::Result<Option<Self>> {
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        let file = match openat(CWD, dir, flags, Mode::RUSR | Mode::WUSR) {
            Ok(file) => File::from(file),
            Err(Errno::OPNOTSUPP | Errno::ISDIR) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        #[allow(clippy::useless_conversion, reason = "the type differs between architectures")]
        let kind = i64::try_from(fstatfs(&file)?.f_type).unwrap_or_default();
        // Without it nobody knows whether the machine was started anew.
        let Ok(boot) = std::fs::read_to_string("/proc/sys/kernel/random/boot_id") else { return Ok(None) };
        let boot = boot.trim().to_owned();
        if !TRUSTED.contains(&kind) || boot.is_empty() {
            return Ok(None);
        }
        let stat = look(&file, c"", AtFlags::EMPTY_PATH)?;
        Ok(Some(Self { file, device: device(&stat), boot }))
    }

    /// Where the clock is now.
    ///
    /// # Errors
    ///
    /// When the file system refuses.
    pub fn now(&self) -> io::Result<Moment> {
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        futimens(&self.file, &Timestamps { last_access: now, last_modification: now })?;
        Ok(look(&self.file, c"", AtFlags::EMPTY_PATH)?.stx_ctime.into())
    }

    /// Waits until the clock is past a moment, and says where it is then; `None` when it does not come there soon.
    ///
    /// # Errors
    ///
    /// When the file system refuses.
    pub fn pass(&self, moment: Moment) -> io::Result<Option<Moment>> {
        let started = Instant::now();
        loop {
            // Asked first: a process that had to wait for its turn looks once more.
            let is_late = started.elapsed() > PATIENCE;
            let now = self.now()?;
            if now > moment {
                return Ok(Some(now));
            }
            if is_late {
                return Ok(None);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Which start of the machine this is.
    pub fn boot(&self) -> &str {
        &self.boot
    }

    /// The device whose clock this is: major and minor number.
    pub(super) fn device(&self) -> (u32, u32) {
        self.device
    }
}

pub(super) fn device(stat: &Statx) -> (u32, u32) {
    (stat.stx_dev_major, stat.stx_dev_minor)
}

/// What the file system says of an entry; links are not followed.
pub(super) fn look(dir: impl std::os::fd::AsFd, name: &std::ffi::CStr, flags: AtFlags) -> io::Result<Statx> {
    let stat = statx(dir, name, flags | AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS)?;
    if !StatxFlags::from_bits_retain(stat.stx_mask).contains(StatxFlags::BASIC_STATS) {
        return Err(Errno::NOTSUP.into());
    }
    Ok(stat)
}
