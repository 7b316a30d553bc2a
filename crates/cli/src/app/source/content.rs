//! Digests of what is built, by names and contents.

use super::Search;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use strata_decide::source::{ContentDigest, Kind};
use strata_layer::digest_of;
use strata_oci::Digest;
use strata_phases::Failure;
use strata_spec::exit::Exit;

/// Paths, as bytes, below the app's folder.
type Entries = BTreeMap<Vec<u8>, (Kind, Option<Digest>)>;

/// The digest of the whole app.
///
/// # Errors
/// When its copy cannot be read, or the user wants out.
pub(super) fn of_all(search: &Search<'_>) -> Result<Digest, Failure> {
    let mut entries = Entries::new();
    folder(search, b"", &mut entries)?;
    Ok(digest(&entries))
}

/// The digest of some paths, folders with all that is in them, and the names of the files.
///
/// # Errors
/// As for [`of_all`].
pub(super) fn of_paths<'a>(
    search: &Search<'_>,
    paths: impl IntoIterator<Item = &'a [u8]>,
) -> Result<Option<(Digest, Vec<String>)>, Failure> {
    let mut entries = Entries::new();
    for path in paths {
        let name = path.strip_suffix(b"/").unwrap_or(path);
        let real = search.app.join(OsStr::from_bytes(name));
        if !search.skip.iter().any(|skip| real.starts_with(skip)) {
            entry(search, name, &mut entries)?;
        }
    }
    let names = entries.keys().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
    Ok((!entries.is_empty()).then(|| (digest(&entries), names)))
}

fn digest(entries: &Entries) -> Digest {
    let mut all = ContentDigest::default();
    for (name, (kind, content)) in entries {
        all.add(*kind, name, content.as_ref());
    }
    all.finish()
}

fn entry(search: &Search<'_>, name: &[u8], entries: &mut Entries) -> Result<(), Failure> {
    let path = search.copy.join(OsStr::from_bytes(name));
    if search.interrupt.asked() {
        return Err(Failure::new(Exit::Interrupted, "interrupted"));
    }
    let metadata = match fs::symlink_metadata(&path) {
        Ok(metadata) => metadata,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            entries.insert(name.to_owned(), (Kind::Gone, None));
            return Ok(());
        }
        Err(error) => return Err(failed(&path, &error)),
    };
    let (kind, content) = if metadata.is_dir() {
        return folder(search, name, entries);
    } else if metadata.is_symlink() {
        let target = fs::read_link(&path).map_err(|error| failed(&path, &error))?;
        (Kind::Link, Digest::of(target.as_os_str().as_bytes()))
    } else {
        let is_program = metadata.permissions().mode() & 0o111 != 0;
        let (content, _) = File::open(&path)
            .and_then(|mut file| digest_of(&mut file))
            .map_err(|error| failed(&path, &error))?;
        (if is_program { Kind::Program } else { Kind::File }, content)
    };
    entries.insert(name.to_owned(), (kind, Some(content)));
    Ok(())
}

fn folder(search: &Search<'_>, name: &[u8], entries: &mut Entries) -> Result<(), Failure> {
    let path = search.copy.join(OsStr::from_bytes(name));
    let mut is_empty = true;
    for item in fs::read_dir(&path).map_err(|error| failed(&path, &error))? {
        let item = item.map_err(|error| failed(&path, &error))?;
        is_empty = false;
        let below = [name, if name.is_empty() { b"" } else { b"/" }, item.file_name().as_bytes()].concat();
        entry(search, &below, entries)?;
    }
    if is_empty && !name.is_empty() {
        entries.insert(name.to_owned(), (Kind::EmptyDir, None));
    }
    Ok(())
}

fn failed(path: &Path, error: &io::Error) -> Failure {
    Failure::caused(Exit::Other, format!("cannot read the app: {}", path.display()), error)
}
