//! The app's source as the buildpacks see it: a copy, with permissions that do not depend on whoever checked it out.

use super::Selection;
use crate::interrupt::Interrupt;
use std::cell::Cell;
use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use strata_phases::{Failure, Observer};
use strata_spec::exit::Exit;

/// Version control's own folders, and the files that stand for them in work trees and submodules: they differ between
/// clones of one commit, and may hold secrets.
const LEFT_OUT: [&str; 3] = [".git", ".hg", ".svn"];

/// Whether a file or folder of this name is never copied, wherever it is.
pub(crate) fn is_left_out(name: &OsStr) -> bool {
    LEFT_OUT.iter().any(|own| name == *own)
}

pub(crate) struct Copy<'a> {
    /// Folders that are not part of the app although they are inside of it: where images are written.
    pub(crate) skip: Vec<PathBuf>,
    /// What of the app is wanted.
    pub(crate) selection: &'a Selection,
    pub(crate) interrupt: &'a Interrupt,
    pub(crate) observer: &'a dyn Observer,
}

/// The app's folder, whole.
///
/// # Errors
/// When there is none.
pub(crate) fn folder(app: &Path) -> Result<PathBuf, Failure> {
    let dir = app.canonicalize().map_err(|error| {
        let message = format!("cannot read the app's folder {}", app.display());
        Failure::caused(Exit::InvalidArguments, message, &error)
            .hint("name the folder with the application's source")
    })?;
    if dir.is_dir() {
        return Ok(dir);
    }
    Err(Failure::new(Exit::InvalidArguments, format!("{} is not a folder", app.display()))
        .hint("name the folder with the application's source"))
}

impl Copy<'_> {
    /// Copies the app. Permissions become 0755 for folders and programs and 0644 for other files, as Git keeps them.
    pub(crate) fn run(&self, app: &Path, to: &Path) -> Result<(), Failure> {
        let walk = Walk { copy: self, app: &folder(app)?, to, count: Cell::new(0) };
        set_mode(to).map_err(|error| failed(to, &error))?;
        walk.folder(Path::new(""))?;
        if walk.count.get() == 0 && self.selection.is_of_named() {
            self.observer.warn("no file of the app is among those that project.toml includes".into());
        }
        Ok(())
    }
}

/// One copy; paths are below the app's folder.
struct Walk<'a> {
    copy: &'a Copy<'a>,
    app: &'a Path,
    to: &'a Path,
    /// Files and links so far.
    count: Cell<usize>,
}

impl Walk<'_> {
    fn folder(&self, path: &Path) -> Result<(), Failure> {
        let Copy { skip, selection, interrupt, .. } = self.copy;
        let from = self.app.join(path);
        for entry in fs::read_dir(&from).map_err(|error| failed(&from, &error))? {
            let entry = entry.map_err(|error| failed(&from, &error))?;
            let (source, name) = (entry.path(), entry.file_name());
            if is_left_out(&name) || skip.contains(&source) {
                continue;
            }
            if interrupt.asked() {
                return Err(Failure::new(Exit::Interrupted, "interrupted"));
            }
            let path = path.join(name);
            let kind = entry.file_type().map_err(|error| failed(&source, &error))?;
            let is_taken = selection.takes(&path, kind.is_dir());
            if is_taken && kind.is_dir() {
                self.make(&path).map_err(|error| failed(&source, &error))?;
            } else if is_taken {
                self.file(&source, kind, &path)?;
            }
            if kind.is_dir() && (is_taken || selection.may_take_below()) {
                self.folder(&path)?;
            }
        }
        Ok(())
    }

    fn file(&self, source: &Path, kind: fs::FileType, path: &Path) -> Result<(), Failure> {
        let target = self.to.join(path);
        // The folder may not have been wanted for itself.
        path.parent().map_or(Ok(()), |parent| self.make(parent)).map_err(|error| failed(source, &error))?;
        if kind.is_symlink() {
            let link = fs::read_link(source).map_err(|error| failed(source, &error))?;
            symlink(link, &target).map_err(|error| failed(&target, &error))?;
        } else if kind.is_file() {
            copy_file(source, &target).map_err(|error| match error.kind() {
                // The disk of the work folder is full, not that of the app.
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => failed(&target, &error),
                _ => failed(source, &error),
            })?;
        } else {
            self.copy.observer.warn(format!("{} is no file, folder or link; left out", source.display()));
            return Ok(());
        }
        self.count.set(self.count.get() + 1);
        Ok(())
    }

    /// Makes a folder and those above it.
    fn make(&self, path: &Path) -> io::Result<()> {
        let dir = self.to.join(path);
        if dir.is_dir() {
            return Ok(());
        }
        path.parent().map_or(Ok(()), |parent| self.make(parent))?;
        fs::create_dir(&dir)?;
        set_mode(&dir)
    }
}

fn set_mode(dir: &Path) -> io::Result<()> {
    fs::set_permissions(dir, Permissions::from_mode(0o755))
}

fn copy_file(from: &Path, to: &Path) -> io::Result<()> {
    fs::copy(from, to)?;
    let is_program = fs::metadata(from)?.permissions().mode() & 0o111 != 0;
    fs::set_permissions(to, Permissions::from_mode(if is_program { 0o755 } else { 0o644 }))
}

fn failed(path: &Path, error: &io::Error) -> Failure {
    Failure::caused(Exit::Other, format!("cannot copy the app: {}", path.display()), error)
}
