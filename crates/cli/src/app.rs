//! The app's source as the buildpacks see it: a copy, with permissions that do not depend on whoever checked it out.

use crate::interrupt::Interrupt;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use strata_phases::{Failure, Observer};
use strata_spec::exit::Exit;

/// Version control's own folders, and the files that stand for them in work trees and submodules: they differ between
/// clones of one commit, and may hold secrets.
const LEFT_OUT: [&str; 3] = [".git", ".hg", ".svn"];

pub(crate) struct Copy<'a> {
    /// Folders that are not part of the app although they are inside of it: where images are written.
    pub(crate) skip: Vec<PathBuf>,
    pub(crate) interrupt: &'a Interrupt,
    pub(crate) observer: &'a dyn Observer,
}

impl Copy<'_> {
    /// Copies the app. Permissions become 0755 for folders and programs and 0644 for other files, as Git keeps them.
    pub(crate) fn run(&self, app: &Path, to: &Path) -> Result<(), Failure> {
        let app = app.canonicalize().map_err(|error| {
            let message = format!("cannot read the app's folder {}", app.display());
            Failure::caused(Exit::InvalidArguments, message, &error)
        })?;
        if !app.is_dir() {
            return Err(Failure::new(Exit::InvalidArguments, format!("{} is not a folder", app.display()))
                .hint("name the folder with the application's source"));
        }
        self.folder(&app, to)
    }

    fn folder(&self, from: &Path, to: &Path) -> Result<(), Failure> {
        fs::set_permissions(to, Permissions::from_mode(0o755)).map_err(|error| failed(to, &error))?;
        for entry in fs::read_dir(from).map_err(|error| failed(from, &error))? {
            let entry = entry.map_err(|error| failed(from, &error))?;
            let (source, name) = (entry.path(), entry.file_name());
            if LEFT_OUT.iter().any(|own| name == *own) || self.skip.contains(&source) {
                continue;
            }
            if self.interrupt.asked() {
                return Err(Failure::new(Exit::Interrupted, "interrupted"));
            }
            let kind = entry.file_type().map_err(|error| failed(&source, &error))?;
            let target = to.join(&name);
            if kind.is_dir() {
                fs::create_dir(&target).map_err(|error| failed(&target, &error))?;
                self.folder(&source, &target)?;
            } else if kind.is_symlink() {
                let link = fs::read_link(&source).map_err(|error| failed(&source, &error))?;
                symlink(link, &target).map_err(|error| failed(&target, &error))?;
            } else if kind.is_file() {
                copy_file(&source, &target).map_err(|error| failed(&source, &error))?;
            } else {
                self.observer.warn(format!("{} is no file, folder or link; left out", source.display()));
            }
        }
        Ok(())
    }
}

fn copy_file(from: &Path, to: &Path) -> io::Result<()> {
    fs::copy(from, to)?;
    let is_program = fs::metadata(from)?.permissions().mode() & 0o111 != 0;
    fs::set_permissions(to, Permissions::from_mode(if is_program { 0o755 } else { 0o644 }))
}

fn failed(path: &Path, error: &io::Error) -> Failure {
    Failure::caused(Exit::Other, format!("cannot copy the app: {}", path.display()), error)
}
