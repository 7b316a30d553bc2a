//! Digests of what is built, by names and contents.

use super::Search;
use crate::interrupt::Interrupt;
use rustix::fs::{Dir, Mode, OFlags, ResolveFlags, openat2, readlinkat};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path};
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
        check_name(name)?;
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

/// Refuses a name that leads out of the app's folder: programs tell those that a repository gives them.
///
/// # Errors
/// When it does.
pub(super) fn check_name(name: &[u8]) -> Result<(), Failure> {
    let path = Path::new(OsStr::from_bytes(name));
    let is_below = path.components().all(|part| matches!(part, Component::Normal(_)));
    if is_below || name == b"." {
        return Ok(());
    }
    let text = format!("the repository names a file that is not in the app: {}", path.display());
    Err(Failure::new(Exit::Other, text))
}

fn entry(search: &Search<'_>, name: &[u8], entries: &mut Entries) -> Result<(), Failure> {
    if search.interrupt.asked() {
        return Err(Failure::new(Exit::Interrupted, "interrupted"));
    }
    let failed = |error| failed(search, name, &error);
    let found = match open(search, name, OFlags::PATH | OFlags::NOFOLLOW) {
        Ok(found) => found,
        // Below a link is nothing of the app.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
            entries.insert(name.to_owned(), (Kind::Gone, None));
            return Ok(());
        }
        Err(errno) => return Err(failed(errno.into())),
    };
    let found = File::from(found);
    let metadata = found.metadata().map_err(failed)?;
    let (kind, content) = if metadata.is_dir() {
        return folder(search, name, entries);
    } else if metadata.is_symlink() {
        let target = readlinkat(&found, "", Vec::new()).map_err(|errno| failed(errno.into()))?;
        (Kind::Link, Digest::of(target.as_bytes()))
    } else {
        let is_program = metadata.permissions().mode() & 0o111 != 0;
        let content = digest_of_file(search, name).map_err(failed)?;
        (if is_program { Kind::Program } else { Kind::File }, content)
    };
    entries.insert(name.to_owned(), (kind, Some(content)));
    Ok(())
}

/// Opens what is in the copy itself, and no link.
fn open(search: &Search<'_>, name: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let copy =
        rustix::fs::open(search.copy, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let name = if name.is_empty() { b"." } else { name };
    openat2(copy, name, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
}

fn digest_of_file(search: &Search<'_>, name: &[u8]) -> io::Result<Digest> {
    let file = File::from(open(search, name, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW)?);
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    digest_of(&mut Patient { file, interrupt: search.interrupt }).map(|(digest, _)| digest)
}

/// A file that is read until the user wants out.
struct Patient<'a> {
    file: File,
    interrupt: &'a Interrupt,
}

impl Read for Patient<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.interrupt.asked() { Err(io::Error::other("interrupted")) } else { self.file.read(buffer) }
    }
}

fn folder(search: &Search<'_>, name: &[u8], entries: &mut Entries) -> Result<(), Failure> {
    let failed = |errno: Errno| failed(search, name, &errno.into());
    let found = open(search, name, OFlags::RDONLY | OFlags::DIRECTORY).map_err(failed)?;
    let mut is_empty = true;
    for item in Dir::new(found).map_err(failed)? {
        let item = item.map_err(failed)?;
        let item = item.file_name().to_bytes();
        if matches!(item, b"." | b"..") {
            continue;
        }
        is_empty = false;
        let below = [name, if name.is_empty() { b"" } else { b"/" }, item].concat();
        entry(search, &below, entries)?;
    }
    if is_empty && !name.is_empty() {
        entries.insert(name.to_owned(), (Kind::EmptyDir, None));
    }
    Ok(())
}

fn failed(search: &Search<'_>, name: &[u8], error: &io::Error) -> Failure {
    if search.interrupt.asked() {
        return Failure::new(Exit::Interrupted, "interrupted");
    }
    let path = search.copy.join(OsStr::from_bytes(name));
    Failure::caused(Exit::Other, format!("cannot read the app: {}", path.display()), error)
}
