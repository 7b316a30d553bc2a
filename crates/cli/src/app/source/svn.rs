//! Reads a Subversion working copy with the programs `svn` and `svnversion`.
//!
//! A working copy names no programs, and nothing here asks its server. Its database does what its journal says, to any file;
//! the programs therefore run in a [sandbox](super::sandboxed). The user's configuration, with its passwords, is not read:
//! what a revision is does not depend on whose it is.

use super::sandboxed::{Sandboxed, check_owner};
use super::{Search, Unknown, changes, check_files};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use strata_decide::source::{Commit, svn};

/// The complaint when there is no `svn`.
pub(super) const NO_PROGRAM: &str = "there is a Subversion working copy, but no program svn";

/// The revision that an app in the working copy is of.
pub(super) fn find(search: &Search<'_>, app: &Path, top: &Path) -> Result<Commit, Unknown> {
    check_owner(&top.join(".svn"))?;
    check_files(&top.join(".svn"))?;
    let programs = Sandboxed { search, top, env: &[], absent: NO_PROGRAM };
    let run = |name, args| run(&programs, app, name, args);
    let unknown = || format!("no file in it is in the Subversion working copy {}", top.display());
    let commit = svn::info(&run("svn", &["info", "--xml", "."])?).ok_or_else(unknown)?;
    let version = run("svnversion", &["--no-newline", "."])?;
    let (revision, is_one) = svn::revision(&version).ok_or_else(unknown)?;
    let status = run("svn", &["status", "--xml", "--no-ignore", "."])?;
    let status = svn::status(&status).ok_or("svn says in no known form what was changed")?;
    let (mut changed, mut ignored) = (BTreeSet::new(), Vec::new());
    for entry in status {
        let path = entry.change.path;
        let is_dir = search.copy.join(OsStr::from_bytes(&path)).is_dir();
        let name = if is_dir { [&path, &b"/"[..]].concat() } else { path };
        if (entry.is_properties && is_dir) || !search.is_built(&name) {
            continue;
        }
        if entry.change.is_ignored {
            ignored.push(String::from_utf8_lossy(&name).into_owned());
        } else {
            changed.insert(name);
        }
    }
    Ok(Commit {
        commit: revision,
        // The date of the latest of several revisions is that of no commit.
        created: commit.created.filter(|_| is_one),
        changes: changes(search, &changed)?,
        ignored,
        ..commit
    })
}

fn run(programs: &Sandboxed<'_>, app: &Path, name: &str, args: &[&str]) -> Result<String, Unknown> {
    let settings: &[&str] = match name {
        "svn" => &["--non-interactive", "--no-auth-cache", "--config-dir", "/tmp/subversion"],
        _ => &[],
    };
    let output = programs.output(name, &[args, settings].concat(), app)?;
    String::from_utf8(output).map_err(|error| format!("what {name} says is not UTF-8: {error}"))
}
