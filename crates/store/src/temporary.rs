//! Files that are to become others once they are whole.
//!
//! Whoever writes one has it locked. What a writer left that died is not locked, and the next one removes it.

use std::fs::File;
use std::path::Path;

use rustix::fs::{FlockOperation, Mode, OFlags};
use tempfile::NamedTempFile;

use crate::StoreError;
use crate::layout::lock::is_unsupported;
use crate::layout::temp_file;

/// A new file, locked as long as it is open. Its name starts with `prefix`.
///
/// # Errors
///
/// When it cannot be made or locked.
pub fn locked(dir: &Path, prefix: &str) -> Result<NamedTempFile, StoreError> {
    loop {
        let temp = temp_file(dir, prefix)?;
        lock(temp.as_file(), FlockOperation::LockExclusive).map_err(StoreError::io("lock", temp.path()))?;
        // Somebody may have swept it away before it was locked.
        if temp.path().symlink_metadata().is_ok() {
            return Ok(temp);
        }
    }
}

/// Removes the files of dead writers whose names start with `prefix`.
pub fn sweep(dir: &Path, prefix: &str) {
    // A directory that may only be written to is not tidied up.
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries.map_while(Result::ok) {
        if !entry.file_name().as_encoded_bytes().starts_with(prefix.as_bytes()) {
            continue;
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let Ok(file) = rustix::fs::open(entry.path(), flags, Mode::empty()).map(File::from) else { continue };
        let is_dead = lock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();
        if is_dead && file.metadata().is_ok_and(|meta| meta.is_file()) {
            // Another sweeper may have been faster; what cannot be removed does no harm.
            std::fs::remove_file(entry.path()).unwrap_or_default();
        }
    }
}

/// Locks a file. Without locks, nobody is taken for dead, and nobody has to be told apart from the dead.
pub(crate) fn lock(file: &File, operation: FlockOperation) -> std::io::Result<()> {
    match rustix::fs::flock(file, operation) {
        Err(error) if is_unsupported(error) && operation == FlockOperation::LockExclusive => Ok(()),
        outcome => Ok(outcome?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_writes_any_more_is_swept() {
        let dir = tempfile::tempdir().unwrap();
        let alive = locked(dir.path(), ".new-").unwrap();
        let dead = dir.path().join(".new-dead");
        let other = dir.path().join("other");
        for path in [&dead, &other] {
            std::fs::write(path, "").unwrap();
        }
        sweep(dir.path(), ".new-");
        assert!(alive.path().exists() && other.exists() && !dead.exists());
        drop(alive);
        sweep(&dir.path().join("none"), ".new-");
    }
}
