//! Finds out what the app's source is: a commit of a Git repository and what was changed since, or else a digest of its
//! content. Nothing that is found here can fail a build.

mod checkout;
mod content;
mod git;

use super::Selection;
use crate::interrupt::Interrupt;
use crate::places::Places;
use std::path::{Path, PathBuf};
use strata_decide::source::{self, Given, Origin};
use strata_phases::{Failure, Level, Observer};
use strata_spec::exit::Exit;
use strata_spec::launch::Label;
use strata_spec::project::{Declared, ProjectMetadata};

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
    let found = git::find(search);
    if search.interrupt.asked() {
        return Err(Failure::new(Exit::Interrupted, "interrupted"));
    }
    let origin = match found {
        Ok(Some(git)) => Origin::Git(Box::new(git)),
        Ok(None) => of_files(search)?,
        Err(why) if why == git::NO_PROGRAM => {
            search.observer.detail(format!("{why}: what was changed since the commit is not known"));
            of_files(search)?
        }
        Err(why) => {
            search.observer.warn(format!("the source is known by its content only: {why}"));
            content::of_all(search).map(Origin::Content)?
        }
    };
    Ok(Found::new(search, &origin))
}

impl Found {
    fn new(search: &Search<'_>, origin: &Origin) -> Self {
        let declared = search.declared;
        let text = summary(origin);
        search.observer.event(strata_phases::Event::Message { level: Level::Info, text });
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
    if search.app.ancestors().any(|path| path.join(".svn").is_dir()) {
        search.observer.detail("Subversion is not read: the source is known by its content only".into());
    }
    content::of_all(search).map(Origin::Content)
}

fn summary(origin: &Origin) -> String {
    match origin {
        Origin::Git(git) => {
            let changes = match git.changes.as_ref().map_or(0, |changes| changes.files.len()) {
                0 => String::new(),
                1 => ", and 1 file that is not committed".to_owned(),
                count => format!(", and {count} files that are not committed"),
            };
            format!("Source: commit {}{changes}", git.commit)
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
