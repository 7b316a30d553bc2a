//! A file that takes the place of another when it is whole.

use std::fs::File;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use tempfile::NamedTempFile;

use crate::StoreError;
use crate::layout::{sync_dir, temp_file};

const PREFIX: &str = ".tmp-";

/// A file on its way.
#[derive(Debug)]
pub(super) struct Replacement {
    path: PathBuf,
    dir: PathBuf,
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
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let temp = match rustix::fs::open(dir, flags, Mode::from_raw_mode(0o644)) {
            Ok(fd) => Temp::Nameless(File::from(fd)),
            // Whatever the reason is, it comes again if it is not that.
            Err(_) => Temp::Named(temp_file(dir, PREFIX)?),
        };
        let this = Self { path: path.to_owned(), dir: dir.to_owned(), temp };
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
                let linked =
                    tempfile::Builder::new().prefix(PREFIX).make_in(&self.dir, |name| link(&file, name));
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
                replacement.temp = Temp::Named(temp_file(dir.path(), PREFIX).unwrap());
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
}
