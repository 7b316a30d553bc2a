//! A file that takes the place of another when it is whole.
//!
//! Whoever writes it has it locked. What a writer left that died is not locked: the next one for the same path removes it.

use std::fs::File;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags};
use tempfile::NamedTempFile;

use crate::StoreError;
use crate::layout::sync_dir;
use crate::temporary::{lock, locked, sweep};

/// A file on its way.
#[derive(Debug)]
pub(super) struct Replacement {
    path: PathBuf,
    dir: PathBuf,
    /// What names of its own start with.
    prefix: String,
    temp: Temp,
}

#[derive(Debug)]
enum Temp {
    /// It has no name yet, and goes with this program, however that ends.
    Nameless(File),
    /// Not every file system has such files.
    Named(NamedTempFile),
}

impl Replacement {
    /// The file, and what writes to it.
    pub(super) fn begin(path: &Path) -> Result<(Self, File), StoreError> {
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let prefix = format!(".{name}.tmp-");
        sweep(dir, &prefix);
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let temp = match rustix::fs::open(dir, flags, Mode::from_raw_mode(0o644)) {
            Ok(fd) => {
                let file = File::from(fd);
                lock(&file, FlockOperation::LockExclusive).map_err(StoreError::io("lock", path))?;
                Temp::Nameless(file)
            }
            // Whatever the reason is, it comes again if it is not that.
            Err(_) => Temp::Named(locked(dir, &prefix)?),
        };
        let this = Self { path: path.to_owned(), dir: dir.to_owned(), prefix, temp };
        let file = this.file().try_clone().map_err(StoreError::io("write", path))?;
        Ok((this, file))
    }

    /// Where it is.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    fn file(&self) -> &File {
        match &self.temp {
            Temp::Nameless(file) => file,
            Temp::Named(temp) => temp.as_file(),
        }
    }

    /// Puts it in its place.
    pub(super) fn finish(self) -> Result<(), StoreError> {
        self.file().sync_all().map_err(StoreError::io("sync", &self.path))?;
        let failed = StoreError::io("write", &self.path);
        match self.temp {
            Temp::Named(temp) => drop(temp.persist(&self.path).map_err(|error| failed(error.error))?),
            Temp::Nameless(file) => {
                // A link cannot take the place of a file, a rename can.
                let linked = tempfile::Builder::new()
                    .prefix(&self.prefix)
                    .make_in(&self.dir, |name| link(&file, name));
                let linked = linked.map_err(StoreError::io("create a file in", &self.dir))?;
                linked.persist(&self.path).map_err(|error| failed(error.error))?;
            }
        }
        sync_dir(&self.dir)
    }
}

/// Gives a file without a name one.
fn link(file: &File, name: &Path) -> std::io::Result<()> {
    use std::os::fd::AsRawFd as _;
    let itself = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok(rustix::fs::linkat(CWD, itself, CWD, name, AtFlags::SYMLINK_FOLLOW)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn a_file_is_replaced_when_it_is_whole_with_a_name_or_without() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let count = || std::fs::read_dir(dir.path()).unwrap().count();
        let mut before = String::new();
        for (round, is_named) in [(1, false), (2, true), (3, false)] {
            let (mut replacement, mut file) = Replacement::begin(&path).unwrap();
            if is_named {
                replacement.temp = Temp::Named(locked(dir.path(), &replacement.prefix).unwrap());
                file = replacement.file().try_clone().unwrap();
            }
            write!(file, "round {round}").unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap_or_default(), before);
            replacement.finish().unwrap();
            before = format!("round {round}");
            assert_eq!((count(), std::fs::read_to_string(&path).unwrap()), (1, before.clone()));
        }
        drop(Replacement::begin(&path).unwrap());
        assert_eq!((count(), std::fs::read_to_string(&path).unwrap()), (1, "round 3".to_owned()));
        assert!(Replacement::begin(&dir.path().join("absent/file")).is_err());
    }

    #[test]
    fn what_the_dead_left_is_removed_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let mine = path(".a.tar.tmp-dead");
        for name in [".a.tar.tmp-dead", ".b.tar.tmp-dead", "a.tar.tmp-dead", "a.tar"] {
            std::fs::write(path(name), name).unwrap();
        }
        std::os::unix::fs::symlink("a.tar", path(".a.tar.tmp-link")).unwrap();
        let living = locked(dir.path(), ".a.tar.tmp-").unwrap();
        let (replacement, _) = Replacement::begin(&path("a.tar")).unwrap();
        assert!(!mine.exists() && living.path().exists());
        replacement.finish().unwrap();
        drop(living);
        let mut left: Vec<_> =
            std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, [".a.tar.tmp-link", ".b.tar.tmp-dead", "a.tar", "a.tar.tmp-dead"]);
    }
}
