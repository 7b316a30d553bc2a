//! Locks on directories.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::StoreError;
use crate::wire::Stop;

/// How long one waits before one looks again whether somebody else is done.
const MOMENT: Duration = Duration::from_millis(20);

/// A lock on a directory, given up when dropped.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Lock {
    /// Waits until nobody has the directory alone. A file system without locks grants it.
    pub(crate) fn shared(dir: &Path) -> Result<Self, StoreError> {
        Self::take(dir, FlockOperation::LockShared)
    }

    /// Waits until nobody else has the directory. A file system without locks grants it.
    pub(crate) fn exclusive(dir: &Path) -> Result<Self, StoreError> {
        Self::take(dir, FlockOperation::LockExclusive)
    }

    /// As [`Self::shared`], until somebody wants out.
    pub(crate) fn shared_unless(dir: &Path, stop: &Stop) -> Result<Self, StoreError> {
        if stop.is_possible() {
            Self::wait(dir, stop, FlockOperation::NonBlockingLockShared)
        } else {
            Self::shared(dir)
        }
    }

    /// As [`Self::exclusive`], until somebody wants out.
    pub(crate) fn exclusive_unless(dir: &Path, stop: &Stop) -> Result<Self, StoreError> {
        if stop.is_possible() {
            Self::wait(dir, stop, FlockOperation::NonBlockingLockExclusive)
        } else {
            Self::exclusive(dir)
        }
    }

    /// Asks again and again, for which the system gives nobody a turn: that is for whoever may want out.
    fn wait(dir: &Path, stop: &Stop, operation: FlockOperation) -> Result<Self, StoreError> {
        let file = File::open(dir).map_err(StoreError::io("open", dir))?;
        loop {
            match flock(&file, operation) {
                Ok(()) => return Ok(Self { file }),
                Err(Errno::WOULDBLOCK | Errno::INTR) => {}
                Err(error) if is_unsupported(error) => return Ok(Self { file }),
                Err(error) => return Err(StoreError::io("lock", dir)(error.into())),
            }
            if !stop.pause(MOMENT) {
                return Err(StoreError::io("lock", dir)(io::Error::other("interrupted")));
            }
        }
    }

    /// The directory alone, if nobody else has it; never on a file system without locks.
    ///
    /// # Errors
    /// When the directory cannot be opened or locked.
    pub fn try_exclusive(dir: &Path) -> Result<Option<Self>, StoreError> {
        Self::take_now(dir, FlockOperation::NonBlockingLockExclusive, false)
    }

    /// The directory together with others, if nobody has it alone now. A file system without locks grants it.
    ///
    /// # Errors
    /// When the directory cannot be opened or locked.
    pub fn shared_now(dir: &Path) -> Result<Option<Self>, StoreError> {
        Self::take_now(dir, FlockOperation::NonBlockingLockShared, true)
    }

    /// The directory alone, if nobody else has it now. A file system without locks grants it.
    ///
    /// # Errors
    /// When the directory cannot be opened or locked.
    pub fn exclusive_now(dir: &Path) -> Result<Option<Self>, StoreError> {
        Self::take_now(dir, FlockOperation::NonBlockingLockExclusive, true)
    }

    /// Whether the directory that is locked is still the one of this path.
    ///
    /// # Errors
    /// When one of both cannot be looked at.
    pub fn is_of(&self, dir: &Path) -> Result<bool, StoreError> {
        let open = self.file.metadata().map_err(StoreError::io("look at", dir))?;
        match dir.symlink_metadata() {
            Ok(named) => Ok((named.dev(), named.ino()) == (open.dev(), open.ino())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(StoreError::io("look at", dir)(error)),
        }
    }

    fn take_now(dir: &Path, operation: FlockOperation, granted: bool) -> Result<Option<Self>, StoreError> {
        let file = File::open(dir).map_err(StoreError::io("open", dir))?;
        match flock(&file, operation) {
            Ok(()) => Ok(Some(Self { file })),
            Err(Errno::WOULDBLOCK | Errno::INTR) => Ok(None),
            Err(error) if is_unsupported(error) => Ok(granted.then_some(Self { file })),
            Err(error) => Err(StoreError::io("lock", dir)(error.into())),
        }
    }

    fn take(dir: &Path, operation: FlockOperation) -> Result<Self, StoreError> {
        let file = File::open(dir).map_err(StoreError::io("open", dir))?;
        loop {
            match flock(&file, operation) {
                Ok(()) => return Ok(Self { file }),
                Err(Errno::INTR) => {}
                Err(error) if is_unsupported(error) => return Ok(Self { file }),
                Err(error) => return Err(StoreError::io("lock", dir)(error.into())),
            }
        }
    }
}

impl Drop for Lock {
    /// Closing the file does not give the lock up as long as a child process has it that was started meanwhile.
    fn drop(&mut self) {
        // Whatever cannot be unlocked is given up when it is closed.
        flock(&self.file, FlockOperation::Unlock).unwrap_or_default();
    }
}

/// NFS wants a file open for writing, which a directory cannot be.
pub(crate) fn is_unsupported(error: Errno) -> bool {
    matches!(error, Errno::BADF | Errno::NOLCK | Errno::NOTSUP | Errno::INVAL | Errno::NOSYS)
}
