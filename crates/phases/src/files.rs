//! Reading and writing the documents of a build.

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use strata_spec::DocError;
use strata_spec::doc::MAX_DOCUMENT;

/// A document that could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file system refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// `read` or `write`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is there, and is not what it should be.
    #[error("{} is not valid", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: DocError,
    },
}

/// Reads a text file; `None` when there is none.
///
/// # Errors
/// When it cannot be read, is no UTF-8, or is larger than any real document.
fn read_text(path: &Path, links: Links) -> Result<Option<String>, FileError> {
    let Some(bytes) = read_bytes(path, links, MAX_DOCUMENT)? else { return Ok(None) };
    let invalid =
        |message: String| FileError::Invalid { path: path.to_owned(), source: DocError::whole(message) };
    let text = String::from_utf8(bytes).map_err(|error| invalid(format!("it is not UTF-8: {error}")))?;
    Ok(Some(text))
}

/// Whether the last part of a path may be a symbolic link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// It may.
    Follow,
    /// It may not. Export runs outside of the sandbox, where a link that a buildpack made leads to this machine's
    /// own files; and what the build phase read must be what export reads.
    Refuse,
}

/// Reads a regular file of at most `limit` bytes; `None` when there is none. Never waits for a pipe or a device.
///
/// # Errors
/// When it cannot be read, is not a regular file, or is larger.
pub fn read_bytes(path: &Path, links: Links, limit: usize) -> Result<Option<Vec<u8>>, FileError> {
    let io_error = |source| FileError::Io { action: "read", path: path.to_owned(), source };
    let Some(file) = open(path, links)? else { return Ok(None) };
    let mut bytes = Vec::new();
    file.take(limit as u64 + 1).read_to_end(&mut bytes).map_err(io_error)?;
    if bytes.len() > limit {
        return Err(io_error(io::Error::other(format!("it is larger than {} KiB", limit >> 10))));
    }
    Ok(Some(bytes))
}

/// Opens a regular file; `None` when there is none.
pub(crate) fn open(path: &Path, links: Links) -> Result<Option<File>, FileError> {
    let io_error = |source| FileError::Io { action: "read", path: path.to_owned(), source };
    let nofollow = if links == Links::Refuse { OFlags::NOFOLLOW } else { OFlags::empty() };
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | nofollow;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(fd) => File::from(fd),
        Err(Errno::NOENT) => return Ok(None),
        Err(Errno::LOOP) if links == Links::Refuse => {
            return Err(io_error(io::Error::other("it is a symbolic link, which is not allowed here")));
        }
        Err(error) => return Err(io_error(error.into())),
    };
    if !file.metadata().map_err(io_error)?.is_file() {
        return Err(io_error(io::Error::other("it is not a regular file")));
    }
    Ok(Some(file))
}

/// Reads and parses a document that a buildpack could have put a link in place of; `None` when the file is not there.
///
/// # Errors
/// When it cannot be read or does not parse.
pub fn read<T>(path: &Path, parse: impl FnOnce(&str) -> Result<T, DocError>) -> Result<Option<T>, FileError> {
    read_as(path, Links::Refuse, parse)
}

/// Reads and parses a document of the platform or the operator, who may well use links: Kubernetes does for every
/// file that it mounts. `None` when the file is not there.
///
/// # Errors
/// When it cannot be read or does not parse.
pub fn read_given<T>(
    path: &Path,
    parse: impl FnOnce(&str) -> Result<T, DocError>,
) -> Result<Option<T>, FileError> {
    read_as(path, Links::Follow, parse)
}

fn read_as<T>(
    path: &Path,
    links: Links,
    parse: impl FnOnce(&str) -> Result<T, DocError>,
) -> Result<Option<T>, FileError> {
    let Some(text) = read_text(path, links)? else { return Ok(None) };
    let value = parse(&text).map_err(|source| FileError::Invalid { path: path.to_owned(), source })?;
    Ok(Some(value))
}

/// Writes a document with mode 0644, whatever the umask: `metadata.toml` is part of an image layer.
///
/// # Errors
/// When it cannot be written.
pub fn write(path: &Path, text: &str) -> Result<(), FileError> {
    write_from(path, &mut text.as_bytes())
}

/// Writes a document to a place of the platform's choice: also over a file that is mounted, or in a folder in which
/// nothing can be made, and into a pipe or a terminal.
///
/// # Errors
/// When it cannot be written.
pub fn write_given(path: &Path, text: &str) -> Result<(), FileError> {
    let is_special = path.metadata().is_ok_and(|metadata| !metadata.is_file());
    let failure = if is_special { None } else { write(path, text).err() };
    let may_be_mounted = match &failure {
        None => is_special,
        Some(FileError::Io { source, .. }) => matches!(
            source.kind(),
            io::ErrorKind::ResourceBusy
                | io::ErrorKind::PermissionDenied
                | io::ErrorKind::ReadOnlyFilesystem
                | io::ErrorKind::CrossesDevices
        ),
        Some(FileError::Invalid { .. }) => false,
    };
    match failure {
        Some(error) if !(may_be_mounted && path.is_file()) => Err(error),
        None if !may_be_mounted => Ok(()),
        _ => std::fs::write(path, text).map_err(|source| FileError::Io {
            action: "write",
            path: path.to_owned(),
            source,
        }),
    }
}

/// A folder or a file below the layers directory, which no link on the way leads out of. It need not be there.
///
/// # Errors
/// When there is a link on the way, or it cannot be looked at.
pub fn below(layers_dir: &Path, tail: impl AsRef<Path>) -> Result<PathBuf, FileError> {
    let mut path = layers_dir.to_owned();
    for part in tail.as_ref().components() {
        path.push(part);
        let io_error = |source| FileError::Io { action: "use", path: path.clone(), source };
        match path.symlink_metadata() {
            Ok(metadata) if metadata.is_symlink() => {
                return Err(io_error(io::Error::other("it is a symbolic link, which is not allowed here")));
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io_error(error)),
            _ => {}
        }
    }
    Ok(path)
}

/// Makes a folder and those above it; one that is there is fine.
///
/// # Errors
/// When it cannot be made.
pub fn make_dir(path: &Path) -> Result<(), FileError> {
    let io_error = |source| FileError::Io { action: "make", path: path.to_owned(), source };
    std::fs::create_dir_all(path).map_err(io_error)
}

/// Copies a regular file with mode 0644.
///
/// # Errors
/// When it cannot be read or written.
pub fn copy(from: &Path, links: Links, to: &Path) -> Result<(), FileError> {
    let mut file = open(from, links)?.ok_or_else(|| FileError::Io {
        action: "read",
        path: from.to_owned(),
        source: io::ErrorKind::NotFound.into(),
    })?;
    write_from(to, &mut file)
}

/// Removes a file, a link or a whole folder, folders that may not be written to included; nothing there is fine.
///
/// # Errors
/// When it cannot be removed.
pub fn remove(path: &Path) -> Result<(), FileError> {
    let removed = match path.symlink_metadata() {
        Ok(metadata) if metadata.is_dir() => match std::fs::remove_dir_all(path) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                unlock(path).and_then(|()| std::fs::remove_dir_all(path))
            }
            removed => removed,
        },
        Ok(_) => std::fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(FileError::Io { action: "remove", path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

/// Lets the owner change all folders of a tree.
fn unlock(dir: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let mode = dir.symlink_metadata()?.permissions().mode();
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(mode | 0o700))?;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            unlock(&entry.path())?;
        }
    }
    Ok(())
}

/// Writes a whole file with mode 0644, which is there with all its bytes or as it was.
pub(crate) fn write_from(path: &Path, source: &mut dyn Read) -> Result<(), FileError> {
    use std::os::unix::fs::PermissionsExt;
    let io_error = |source| FileError::Io { action: "write", path: path.to_owned(), source };
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(io_error)?;
    }
    let aside = aside(path);
    remove(&aside)?;
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&aside)
        .and_then(|mut file| {
            file.set_permissions(std::fs::Permissions::from_mode(0o644))?;
            io::copy(source, &mut file)
        })
        .and_then(|_| std::fs::rename(&aside, path));
    written.map_err(|source| match remove(&aside) {
        Ok(()) => io_error(source),
        Err(error) => error,
    })
}

/// Where a file is written before it is renamed, beside its place: a link of its own name is replaced, not followed.
///
/// The name is always the same, so that a run that was killed leaves nothing that the next one does not replace.
fn aside(path: &Path) -> PathBuf {
    use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
    const LONGEST: usize = 200;
    let name = path.file_name().unwrap_or_default().as_bytes();
    let name = [b".", &name[..name.len().min(LONGEST)], b".new"].concat();
    path.with_file_name(std::ffi::OsString::from_vec(name))
}

/// The entries of a folder, sorted by name bytes; none when the folder is not there.
///
/// # Errors
/// When it cannot be listed.
pub fn list(dir: &Path) -> Result<Vec<PathBuf>, FileError> {
    let io_error = |source| FileError::Io { action: "list", path: dir.to_owned(), source };
    // A link would lead elsewhere outside of the sandbox than inside.
    let is_link = dir.symlink_metadata().is_ok_and(|metadata| metadata.is_symlink());
    if is_link {
        return Err(io_error(io::Error::other("it is a symbolic link, which is not allowed here")));
    }
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io_error(error)),
    };
    let mut paths = entries.map(|e| e.map(|e| e.path())).collect::<Result<Vec<_>, _>>().map_err(io_error)?;
    paths.sort();
    Ok(paths)
}

/// The folders in a folder, links to folders included, sorted by name bytes; none when the folder is not there.
///
/// # Errors
/// When it cannot be listed.
pub fn list_dirs(dir: &Path) -> Result<Vec<PathBuf>, FileError> {
    let io_error = |source| FileError::Io { action: "list", path: dir.to_owned(), source };
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io_error(error)),
    };
    let mut paths = entries.map(|e| e.map(|e| e.path())).collect::<Result<Vec<_>, _>>().map_err(io_error)?;
    paths.retain(|path| path.is_dir());
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_written_whatever_an_earlier_run_left_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("target");
        std::fs::write(&target, "untouched").unwrap();
        for name in ["file.toml".to_owned(), "n".repeat(255)] {
            let path = dir.path().join(name);
            std::fs::write(aside(&path), "half").unwrap();
            write(&path, "first").unwrap();
            std::fs::create_dir_all(aside(&path).join("folder")).unwrap();
            write(&path, "second").unwrap();
            std::os::unix::fs::symlink(&target, aside(&path)).unwrap();
            write(&path, "third").unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), "third");
            assert!(aside(&path).symlink_metadata().is_err());
        }
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "untouched");
    }
}
