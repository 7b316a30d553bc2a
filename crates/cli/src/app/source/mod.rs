//! Finds out what the app's source is: a commit of a Git, Mercurial or Subversion repository and what was changed since, or
//! else a digest of its content. Nothing that is found here can fail a build.

mod checkout;
mod content;
mod git;
mod hg;
mod program;
mod sandboxed;
mod svn;

use super::Selection;
use crate::interrupt::Interrupt;
use crate::places::Places;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use strata_decide::source::{self, Changes, Commit, Given, Origin, System};
use strata_phases::{Failure, Level, Observer};
use strata_spec::exit::Exit;
use strata_spec::launch::Label;
use strata_spec::project::{Declared, ProjectMetadata};

/// Why nothing can be said.
type Unknown = String;

/// Where to look.
pub(crate) struct Search<'a> {
    /// The app's folder.
    pub(crate) app: &'a Path,
    /// What it was taken from, if not from a folder.
    pub(crate) given: Option<Given>,
    /// The copy of it that is built.
    pub(crate) copy: &'a Path,
    /// Folders in the app that are not part of it.
    pub(crate) skip: &'a [PathBuf],
    /// What of it is in the copy.
    pub(crate) selection: &'a Selection,
    /// What it says of itself.
    pub(crate) declared: &'a Declared,
    /// A folder for what is needed on the way.
    pub(crate) scratch: &'a Path,
    /// The date that was asked for, RFC 3339.
    pub(crate) created: Option<String>,
    /// Whether a report will have what differs between clones of one commit.
    pub(crate) is_reported: bool,
    pub(crate) places: &'a Places,
    pub(crate) interrupt: &'a Interrupt,
    pub(crate) observer: &'a dyn Observer,
}

/// The source of an app.
pub(crate) struct Found {
    /// For the image.
    pub(crate) project: ProjectMetadata,
    /// For the report: what differs between clones of one commit, too.
    pub(crate) detailed: ProjectMetadata,
    /// Standard labels and annotations.
    pub(crate) standard: Vec<Label>,
}

/// Looks.
///
/// # Errors
/// When the copy cannot be read, or the user wants out.
pub(crate) fn find(search: &Search<'_>) -> Result<Found, Failure> {
    if let Some(given) = &search.given {
        return Ok(Found::new(search, &Origin::Given(given.clone())));
    }
    let found = of_repository(search);
    if search.interrupt.asked() {
        return Err(Failure::new(Exit::Interrupted, "interrupted"));
    }
    let origin = match found {
        Ok(Some(commit)) => Origin::Commit(Box::new(commit)),
        Ok(None) => of_files(search)?,
        Err((system, why)) => without_program(search, system, &why)?,
    };
    Ok(Found::new(search, &origin))
}

/// The commit that the app is of, as the program says that knows the repository; `None` when it is in none. Of several
/// repositories around each other, the inner one counts.
fn of_repository(search: &Search<'_>) -> Result<Option<Commit>, (System, Unknown)> {
    let app = search.app.canonicalize().map_err(|error| (System::default(), error.to_string()))?;
    let is_there = |top: &Path, system: System| top.join(folder(system)).symlink_metadata().is_ok();
    let all = [System::Git, System::Mercurial, System::Subversion];
    let found = app.ancestors().find_map(|top| Some((top, *all.iter().find(|all| is_there(top, **all))?)));
    let Some((top, system)) = found else { return Ok(None) };
    let commit = match system {
        System::Git => git::find(search, &app, top),
        System::Mercurial => hg::find(search, &app, top),
        System::Subversion => svn::find(search, &app, top),
    };
    commit.map(Some).map_err(|why| (system, why))
}

/// Where a repository's own files are.
fn folder(system: System) -> &'static str {
    match system {
        System::Git => ".git",
        System::Mercurial => ".hg",
        System::Subversion => ".svn",
    }
}

/// What can be said when the program could not say it.
fn without_program(search: &Search<'_>, system: System, why: &str) -> Result<Origin, Failure> {
    let is_absent = [git::NO_PROGRAM, hg::NO_PROGRAM, svn::NO_PROGRAM].contains(&why);
    let tell = |text: String| if is_absent { note(search, text) } else { search.observer.warn(text) };
    let origin = match system {
        System::Git if !is_absent => Origin::Content(content::of_all(search)?),
        System::Subversion => Origin::Content(content::of_all(search)?),
        System::Git | System::Mercurial => of_files(search)?,
    };
    tell(match &origin {
        Origin::Checkout(_) => format!("what was changed since the commit is not known: {why}"),
        _ => format!("the source is known by its content only: {why}"),
    });
    Ok(origin)
}

fn note(search: &Search<'_>, text: String) {
    search.observer.event(strata_phases::Event::Message { level: Level::Info, text });
}

impl Search<'_> {
    /// Whether anything of a path below the app's folder is built. Folders end with a slash.
    fn is_built(&self, name: &[u8]) -> bool {
        let path = Path::new(OsStr::from_bytes(name.strip_suffix(b"/").unwrap_or(name)));
        let is_dir = name.ends_with(b"/");
        self.selection.takes(path, is_dir) || is_dir && self.selection.may_take_below()
    }
}

/// The digest of what is not committed, of these paths below the app's folder.
fn changes(search: &Search<'_>, changed: &BTreeSet<Vec<u8>>) -> Result<Option<Changes>, Unknown> {
    let found = content::of_paths(search, changed.iter().map(Vec::as_slice));
    let found = found.map_err(|failure| failure.chain())?;
    Ok(found.map(|(digest, files)| Changes { digest, files }))
}

/// Refuses pipes and the like right in a folder, for which a program would wait.
fn check_files(dir: &Path) -> Result<(), Unknown> {
    let failed = |error: io::Error| format!("{}: {error}", dir.display());
    let mut entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    entries.try_for_each(|entry| check_file(&entry.map_err(failed)?.path()))
}

fn check_file(path: &Path) -> Result<(), Unknown> {
    match path.metadata() {
        Ok(metadata) if !metadata.is_file() && !metadata.is_dir() => {
            Err(format!("{} is no file", path.display()))
        }
        // What cannot be read, the program says better.
        Ok(_) | Err(_) => Ok(()),
    }
}

impl Found {
    fn new(search: &Search<'_>, origin: &Origin) -> Self {
        let declared = search.declared;
        let text = summary(origin);
        note(search, text);
        Self {
            project: ProjectMetadata { source: Some(source::label(origin, declared)) },
            detailed: ProjectMetadata { source: Some(source::detailed(origin, declared)) },
            standard: source::standard(origin, declared, search.created.clone()),
        }
    }
}

/// What can be known without a program's help.
fn of_files(search: &Search<'_>) -> Result<Origin, Failure> {
    if let Some(found) = checkout::find(search)? {
        return Ok(Origin::Checkout(found));
    }
    content::of_all(search).map(Origin::Content)
}

fn summary(origin: &Origin) -> String {
    match origin {
        Origin::Commit(commit) => {
            let changes = match commit.changes.as_ref().map_or(0, |changes| changes.files.len()) {
                0 => String::new(),
                1 => ", and 1 file that is not committed".to_owned(),
                count => format!(", and {count} files that are not committed"),
            };
            let what = if commit.system == System::Subversion { "revision" } else { "commit" };
            format!("Source: {what} {}{changes}", commit.commit)
        }
        Origin::Checkout(checkout) => {
            format!(
                "Source: commit {}, and whatever was changed since: {}",
                checkout.commit, checkout.content
            )
        }
        Origin::Given(given) => format!("Source: {} {}", given.kind, given.digest),
        Origin::Content(digest) => format!("Source: content {digest}"),
    }
}
