//! Reading and writing the documents of a build.

use std::fs::File;
use std::io::{self, Read, Write};
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
pub fn read_text(path: &Path) -> Result<Option<String>, FileError> {
    let io_error = |source| FileError::Io { action: "read", path: path.to_owned(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error(error)),
    };
    let mut bytes = Vec::new();
    file.take(MAX_DOCUMENT as u64 + 1).read_to_end(&mut bytes).map_err(io_error)?;
    let invalid = |message: String| FileError::Invalid { path: path.to_owned(), source: DocError::whole(message) };
    if bytes.len() > MAX_DOCUMENT {
        return Err(invalid(format!("the file is larger than {} MiB", MAX_DOCUMENT >> 20)));
    }
    let text = String::from_utf8(bytes).map_err(|error| invalid(format!("it is not UTF-8: {error}")))?;
    Ok(Some(text))
}

/// Reads and parses a document; `None` when the file is not there.
///
/// # Errors
/// When it cannot be read or does not parse.
pub fn read<T>(path: &Path, parse: impl FnOnce(&str) -> Result<T, DocError>) -> Result<Option<T>, FileError> {
    let Some(text) = read_text(path)? else { return Ok(None) };
    let value = parse(&text).map_err(|source| FileError::Invalid { path: path.to_owned(), source })?;
    Ok(Some(value))
}

/// Writes a document with mode 0644, whatever the umask: `metadata.toml` is part of an image layer.
///
/// # Errors
/// When it cannot be written.
pub fn write(path: &Path, text: &str) -> Result<(), FileError> {
    use std::os::unix::fs::PermissionsExt;
    let io_error = |source| FileError::Io { action: "write", path: path.to_owned(), source };
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(io_error)?;
    }
    let mut file = File::create(path).map_err(io_error)?;
    file.set_permissions(std::fs::Permissions::from_mode(0o644)).map_err(io_error)?;
    file.write_all(text.as_bytes()).map_err(io_error)
}

/// The entries of a folder, sorted by name bytes; none when the folder is not there.
///
/// # Errors
/// When it cannot be listed.
pub fn list(dir: &Path) -> Result<Vec<PathBuf>, FileError> {
    let io_error = |source| FileError::Io { action: "list", path: dir.to_owned(), source };
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io_error(error)),
    };
    let mut paths =
        entries.map(|e| e.map(|e| e.path())).collect::<Result<Vec<_>, _>>().map_err(io_error)?;
    paths.sort();
    Ok(paths)
}
