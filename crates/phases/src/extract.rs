//! Putting layers that were made with absolute names back into a layers directory.

use crate::files::{self, FileError};
use crate::index::FOLDER;
use rustix::fs::{CWD, Dir, Mode, OFlags, fchmod, fstat, openat, renameat};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use strata_layer::{LayerError, Skeleton, Spare, Times, Trust, UnpackOptions, Whiteouts, unpack_and_sum};
use strata_oci::Digest;

/// How the names of layers on their way begin.
const ASIDE: &str = "restore-";

/// Why a layer was not put back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExtractError {
    /// The archive is damaged, or another one than was asked for.
    #[error("it cannot be used")]
    Damaged(#[source] LayerError),
    /// The archive does not hold what it should.
    #[error("it does not hold {0}")]
    Other(String),
    /// The file system refused.
    #[error("cannot write it")]
    Layer(#[source] LayerError),
    /// The file system refused.
    #[error(transparent)]
    File(#[from] FileError),
}

impl ExtractError {
    /// Whether only this layer is lost.
    pub(crate) fn is_harmless(&self) -> bool {
        matches!(self, Self::Damaged(_) | Self::Other(_))
    }
}

/// Extracts the folder `tail` of a layer to `<layers>/<tail>`, in place of what is there.
///
/// Layers have absolute names. Those may start with another layers directory than this one, so the archive is
/// extracted aside, where it can do no harm before its last byte is verified, and the folder is moved into its place.
/// Links in the archive are not followed on the way to the folder: they lead to this machine's own files by now.
pub(crate) fn extract(
    (tar, spare): (&mut dyn Read, &Spare),
    layers_dir: &Path,
    tail: &Path,
    limits: Limits,
) -> Result<Skeleton, ExtractError> {
    let aside = files::below(layers_dir, Path::new(FOLDER).join(aside_name(tail)))?;
    files::remove(&aside)?;
    std::fs::create_dir_all(&aside).map_err(io_error("create", &aside))?;
    let moved = extract_aside((tar, spare), &aside, layers_dir, tail, limits);
    let removed = files::remove(&aside);
    let skeleton = moved?;
    removed?;
    Ok(skeleton)
}

/// Where a layer is on its way: always the same place, so that one who comes after somebody who was killed finds it.
fn aside_name(tail: &Path) -> String {
    format!("{ASIDE}{}", &Digest::of(tail.as_os_str().as_bytes()).hex()[..16])
}

/// Removes layers that were on their way when somebody was killed, and whatever a buildpack put in their way.
///
/// # Errors
/// When something cannot be removed.
pub(crate) fn sweep(layers_dir: &Path) -> Result<(), FileError> {
    let folder = layers_dir.join(FOLDER);
    if !folder.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) {
        return files::remove(&folder);
    }
    let entries = std::fs::read_dir(&folder).map_err(io_error("list", &folder))?;
    for entry in entries {
        let name = entry.map_err(io_error("list", &folder))?.file_name();
        if name.as_bytes().starts_with(ASIDE.as_bytes()) {
            files::remove(&folder.join(name))?;
        }
    }
    Ok(())
}

/// How large a layer may be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Limits {
    /// As a layer of a buildpack.
    Layer,
    /// As a few documents.
    Documents,
}

fn extract_aside(
    (tar, spare): (&mut dyn Read, &Spare),
    aside: &Path,
    layers_dir: &Path,
    tail: &Path,
    limits: Limits,
) -> Result<Skeleton, ExtractError> {
    let mut options = UnpackOptions {
        whiteouts: Whiteouts::Literal,
        times: Times::Now,
        trust: Trust::Data,
        spare: spare.clone(),
        ..UnpackOptions::default()
    };
    if let Limits::Documents = limits {
        (options.max_entries, options.max_bytes) = (100_000, 2 << 30);
    }
    let (_, skeleton) = unpack_and_sum(tar, aside, &options).map_err(|error| match error {
        LayerError::Io { ref source, .. } if is_of_the_disk(source) => ExtractError::Layer(error),
        other => ExtractError::Damaged(other),
    })?;
    let to = files::below(layers_dir, tail)?;
    let from = find(aside, layers_dir, tail)
        .map_err(io_error("look through", aside))?
        .ok_or_else(|| ExtractError::Other(tail.display().to_string()))?;
    files::remove(&to)?;
    if let Some(parent) = to.parent() {
        std::fs::create_dir_all(parent).map_err(io_error("create", parent))?;
    }
    from.move_to(&to).map_err(io_error("move a restored layer to", &to))?;
    Ok(skeleton)
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
    let path = path.to_owned();
    move |source| FileError::Io { action, path, source }
}

/// Whether the file system, and not the archive, is why something could not be written.
fn is_of_the_disk(error: &io::Error) -> bool {
    use io::ErrorKind::{PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | ReadOnlyFilesystem | PermissionDenied)
        || error.raw_os_error() == Some(Errno::IO.raw_os_error())
}

/// A folder that was reached without following a link: the folder above it, and its name there.
struct Folder {
    above: OwnedFd,
    name: OsString,
}

impl Folder {
    /// Moves the folder. One that its owner may not write to cannot be moved as it is.
    fn move_to(&self, to: &Path) -> io::Result<()> {
        let dir = open_dir(&self.above, &self.name)?
            .ok_or_else(|| io::Error::other("it is a symbolic link, which is not allowed here"))?;
        let mode = Mode::from_raw_mode(fstat(&dir)?.st_mode);
        fchmod(&dir, mode | Mode::RWXU)?;
        renameat(&self.above, &self.name, CWD, to)?;
        Ok(fchmod(&dir, mode)?)
    }
}

/// Opens a folder; `None` when there is none, or a link.
fn open_dir(above: impl AsFd, name: impl rustix::path::Arg) -> io::Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(above, name, flags, Mode::empty()) {
        Ok(dir) => Ok(Some(dir)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The folder in the archive: below this layers directory, or else at the end of a chain of single folders.
fn find(root: &Path, layers_dir: &Path, tail: &Path) -> io::Result<Option<Folder>> {
    let names: Vec<&OsStr> = layers_dir.iter().filter(|name| *name != "/").chain(tail).collect();
    if let Some(folder) = walk(root, &names)? {
        return Ok(Some(folder));
    }
    let tail: Vec<OsString> = tail.iter().map(OsStr::to_owned).collect();
    let mut seen: Vec<OsString> = Vec::new();
    let Some(mut dir) = open_dir(CWD, root)? else { return Ok(None) };
    while !seen.ends_with(&tail) {
        let Some(name) = only_name(&dir)? else { return Ok(None) };
        let Some(inner) = open_dir(&dir, &name)? else { return Ok(None) };
        seen.push(name);
        dir = inner;
    }
    walk(root, &seen.iter().map(OsString::as_os_str).collect::<Vec<_>>())
}

/// Goes down a path without following links.
fn walk(root: &Path, names: &[&OsStr]) -> io::Result<Option<Folder>> {
    let Some((last, above)) = names.split_last() else { return Ok(None) };
    let Some(mut dir) = open_dir(CWD, root)? else { return Ok(None) };
    for name in above {
        match open_dir(&dir, *name)? {
            Some(inner) => dir = inner,
            None => return Ok(None),
        }
    }
    let is_there = open_dir(&dir, *last)?.is_some();
    Ok(is_there.then(|| Folder { above: dir, name: (*last).to_owned() }))
}

/// The name of the one entry of a folder, if it has just one.
fn only_name(dir: &OwnedFd) -> io::Result<Option<OsString>> {
    let mut only = None;
    for entry in Dir::read_from(dir)? {
        let name = entry?.file_name().to_owned();
        if name.as_bytes() != b"." && name.as_bytes() != b".." {
            if only.is_some() {
                return Ok(None);
            }
            only = Some(OsString::from_vec(name.into_bytes()));
        }
    }
    Ok(only)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use strata_layer::{Owner, TarWriter};

    const OWNER: Owner = Owner::ROOT;

    /// Extracts `a_b/x` of an archive that `write` makes; `layers` is its layers directory in the archive.
    fn extracted(layers_dir: &Path, write: impl FnOnce(&mut TarWriter<Vec<u8>>)) -> Result<(), ExtractError> {
        let mut tar = TarWriter::new(Vec::new());
        write(&mut tar);
        let bytes = tar.finish().unwrap();
        extract((&mut bytes.as_slice(), &Spare::new(1)), layers_dir, Path::new("a_b/x"), Limits::Layer)
            .map(drop)
    }

    fn names(dir: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(dir).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn what_was_on_its_way_or_in_the_way_is_gone() {
        let base = tempfile::tempdir().unwrap();
        let (layers, home) = (base.path().join("layers"), base.path().join("home"));
        let left = layers.join(FOLDER).join(aside_name(Path::new("a_b/x"))).join("locked");
        std::fs::create_dir_all(left.join("inner")).unwrap();
        std::fs::set_permissions(&left, PermissionsExt::from_mode(0o555)).unwrap();
        std::fs::write(layers.join(FOLDER).join("index.json"), "{}").unwrap();
        std::fs::create_dir_all(home.join("restore-mine")).unwrap();
        sweep(&layers).unwrap();
        assert_eq!(names(&layers.join(FOLDER)), ["index.json"]);
        // A link is not followed, and a file does not last.
        std::fs::remove_dir_all(layers.join(FOLDER)).unwrap();
        std::os::unix::fs::symlink(&home, layers.join(FOLDER)).unwrap();
        sweep(&layers).unwrap();
        assert_eq!((names(&layers), names(&home)), (vec![], vec!["restore-mine".to_owned()]));
        std::fs::write(layers.join(FOLDER), "").unwrap();
        sweep(&layers).unwrap();
        sweep(&layers).unwrap();
        assert_eq!(names(&layers), [""; 0]);
    }

    fn chain(tar: &mut TarWriter<Vec<u8>>, dirs: &[&str]) {
        let mut path = String::new();
        for dir in dirs {
            path.push('/');
            path.push_str(dir);
            tar.dir(&path, 0o755, OWNER).unwrap();
        }
    }

    #[test]
    fn a_layer_of_another_layers_directory_finds_its_place() {
        let layers = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(layers.path().join("a_b/x/old")).unwrap();
        extracted(layers.path(), |tar| {
            chain(tar, &["other", "layers", "a_b", "x"]);
            tar.file("/other/layers/a_b/x/f", 0o600, OWNER, 1, &mut &b"1"[..]).unwrap();
            tar.dir("/other/layers/a_b/x/locked", 0o555, OWNER).unwrap();
            tar.dir("/other/layers/a_b/x", 0o555, OWNER).unwrap();
        })
        .unwrap();
        let layer = layers.path().join("a_b/x");
        assert_eq!(std::fs::read(layer.join("f")).unwrap(), b"1");
        assert!(!layer.join("old").exists());
        assert_eq!(layer.metadata().unwrap().permissions().mode() & 0o7777, 0o555);
        assert_eq!(names(layers.path()), ["@strata", "a_b"]);
        assert_eq!(names(&layers.path().join(FOLDER)), [""; 0]);
        files::remove(&layer).unwrap();
    }

    #[test]
    fn links_in_the_archive_or_in_the_layers_directory_lead_nowhere() {
        let base = tempfile::tempdir().unwrap();
        let (layers, home) = (base.path().join("layers"), base.path().join("home"));
        std::fs::create_dir_all(home.join("x/.ssh")).unwrap();
        std::fs::create_dir(&layers).unwrap();
        let above: Vec<&str> = layers.iter().skip(1).map(|name| name.to_str().unwrap()).collect();
        let refused = extracted(&layers, |tar| {
            chain(tar, &above);
            tar.symlink(format!("{}/a_b", layers.display()), &home, 0o777, OWNER).unwrap();
        });
        assert!(refused.is_err_and(|error| error.is_harmless()));
        std::os::unix::fs::symlink(&home, layers.join("a_b")).unwrap();
        let refused = extracted(&layers, |tar| chain(tar, &[above.as_slice(), &["a_b", "x"]].concat()));
        assert!(refused.is_err());
        assert!(home.join("x/.ssh").is_dir());
        assert_eq!(names(&layers), ["@strata", "a_b"]);
    }

    #[test]
    fn an_archive_that_cannot_be_extracted_is_damaged() {
        let layers = tempfile::tempdir().unwrap();
        for name in ["y".repeat(300), "d/".repeat(2000)] {
            let outcome = extracted(layers.path(), |tar| tar.dir(&name, 0o755, OWNER).unwrap());
            assert!(outcome.is_err_and(|error| error.is_harmless()), "{name:.10}");
        }
    }
}
