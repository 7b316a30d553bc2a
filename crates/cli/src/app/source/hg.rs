//! Reads a Mercurial repository with the `hg` program, without obeying the repository.
//!
//! A repository's configuration names extensions and hooks, which are programs. `hg` is told to leave it unread, and so is
//! the user's: what a commit is does not depend on whose it is. It follows the repository's links and includes all the same,
//! and runs in a [sandbox](super::sandboxed). Repositories within the repository are not looked into, some of them would be
//! by other programs; all that is in them counts as changed.

use super::sandboxed::{EMPTY, Sandboxed, check_owner};
use super::{Search, Unknown, changes, check_file, check_files, content};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use strata_decide::source::{Commit, Submodule, git, hg};
use strata_phases::files::{self, Links};

/// The complaint when there is no `hg`.
pub(super) const NO_PROGRAM: &str = "there is a Mercurial repository, but no program hg";
/// The largest list of repositories within, in bytes.
const MAX_LIST: usize = 16 << 20;
/// Settings of ours alone: no extension that a repository asks for, and no other program.
const SETTINGS: [&str; 4] =
    ["extensions.lfs=!", "extensions.largefiles=!", "extensions.git=!", "subrepos.allowed=false"];
/// Tells it to read no configuration.
const VARIABLES: [(&str, &str); 5] =
    [("HGRCPATH", ""), ("HGRCSKIPREPO", "1"), ("HGPLAIN", "1"), ("HGENCODING", "utf-8"), ("CHGDISABLE", "1")];
/// Asks for the commit that is checked out.
const LOG: [&str; 5] = ["log", "--rev", ".", "--template", hg::TEMPLATE];
/// Asks for what differs from it, and what is ignored.
const STATUS: [&str; 8] =
    ["status", "--modified", "--added", "--removed", "--deleted", "--unknown", "--ignored", "--print0"];

/// The commit that an app in the repository is of.
pub(super) fn find(search: &Search<'_>, app: &Path, top: &Path) -> Result<Commit, Unknown> {
    let shown = top.display();
    let own = top.join(".hg");
    check_owner(&own)?;
    [&own, &own.join("store")].into_iter().try_for_each(|dir| check_files(dir))?;
    [".hgignore", ".hgtags", ".hgsub", ".hgsubstate"]
        .into_iter()
        .try_for_each(|name| check_file(&top.join(name)))?;
    let repository = Repository { top, hg: Sandboxed { search, top, env: &VARIABLES, absent: NO_PROGRAM } };
    let version = repository.run(Path::new(EMPTY), &["version", "--quiet"], None)?;
    if !hg::is_recent(&String::from_utf8_lossy(&version)) {
        return Err("this version of Mercurial cannot leave a repository's configuration unread".to_owned());
    }
    let prefix = app.strip_prefix(top).unwrap_or(Path::new("")).as_os_str().as_bytes();
    let commit = hg::logged(&repository.run(top, &LOG, None)?);
    let commit = commit.ok_or_else(|| format!("the Mercurial repository {shown} has no commits yet"))?;
    if repository.run(top, &["files", "--rev", ".", "--print0"], Some(prefix))?.is_empty() {
        return Err(format!("no file in it is in the Mercurial repository {shown}"));
    }
    let mut found = Below { search, prefix, changed: BTreeSet::new(), ignored: Vec::new() };
    found.status(&repository.run(top, &STATUS, Some(prefix))?);
    let submodules = found.repositories(top, app)?;
    let config = text(&own.join("hgrc")).map(|text| git::parse_config(&text)).unwrap_or_default();
    Ok(Commit {
        path: String::from_utf8_lossy(prefix).into_owned(),
        url: config.into_iter().find(|(key, _)| key == "paths.default").map(|(_, url)| url),
        submodules,
        changes: changes(search, &found.changed)?,
        ignored: found.ignored,
        ..commit
    })
}

struct Repository<'a> {
    hg: Sandboxed<'a>,
    top: &'a Path,
}

impl Repository<'_> {
    /// What a command says, of a folder of the repository if one is given.
    fn run(&self, dir: &Path, args: &[&str], prefix: Option<&[u8]>) -> Result<Vec<u8>, Unknown> {
        let mut all = vec!["--noninteractive"];
        all.extend(SETTINGS.iter().flat_map(|setting| ["--config", *setting]));
        if dir == self.top {
            // Without it, another repository could be looked for above a broken one.
            all.extend(["--repository", "."]);
        }
        all.extend(args);
        let prefix = std::str::from_utf8(prefix.unwrap_or_default())
            .map_err(|error| format!("the app's path is not UTF-8: {error}"))?;
        let folder = format!("path:{prefix}");
        all.extend((!prefix.is_empty()).then_some(folder.as_str()));
        self.hg.output("hg", &all, dir)
    }
}

/// What is found below the app's folder, which is `prefix` in the repository.
struct Below<'a> {
    search: &'a Search<'a>,
    prefix: &'a [u8],
    changed: BTreeSet<Vec<u8>>,
    ignored: Vec<String>,
}

impl Below<'_> {
    /// A path of the repository in the app, if it is built.
    fn named(&self, path: &[u8]) -> Option<Vec<u8>> {
        let rest = match self.prefix {
            b"" => path,
            prefix => path.strip_prefix(prefix)?.strip_prefix(b"/")?,
        };
        Some(rest.to_owned()).filter(|name| self.search.is_built(name))
    }

    fn status(&mut self, output: &[u8]) {
        for change in hg::status(output) {
            let Some(name) = self.named(&change.path) else { continue };
            if change.is_ignored {
                self.ignored.push(String::from_utf8_lossy(&name).into_owned());
            } else {
                self.changed.insert(name);
            }
        }
    }

    /// Those within, of which the status says nothing: the ones that the commit names, and whichever else are there.
    fn repositories(&mut self, top: &Path, app: &Path) -> Result<Vec<Submodule>, Unknown> {
        let list = text(&top.join(".hgsubstate")).unwrap_or_default();
        let mut submodules = Vec::new();
        for found in hg::subrepositories(&list) {
            let Some(name) = self.named(format!("{}/", found.path).as_bytes()) else { continue };
            content::check_name(&name).map_err(|failure| failure.chain())?;
            let is_checked_out = top.join(&found.path).is_dir();
            let path = String::from_utf8_lossy(&name).trim_end_matches('/').to_owned();
            submodules.push(Submodule { path, is_checked_out, ..found });
            self.changed.insert(name);
        }
        let mut folders = vec![app.to_owned()];
        while let Some(folder) = folders.pop() {
            if self.search.interrupt.asked() {
                return Err("interrupted".to_owned());
            }
            let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
            for entry in fs::read_dir(&folder).map_err(failed)? {
                let entry = entry.map_err(failed)?;
                let path = entry.path();
                if !entry.file_type().map_err(failed)?.is_dir() || self.search.skip.contains(&path) {
                    continue;
                }
                if entry.file_name() == ".hg" && folder != app {
                    let name = folder.strip_prefix(app).unwrap_or(&folder).as_os_str().as_bytes();
                    self.changed
                        .extend(Some([name, b"/"].concat()).filter(|name| self.search.is_built(name)));
                } else if entry.file_name() != ".hg" {
                    folders.push(path);
                }
            }
        }
        Ok(submodules)
    }
}

fn text(path: &Path) -> Option<String> {
    let bytes = files::read_bytes(path, Links::Follow, MAX_LIST).ok().flatten()?;
    String::from_utf8(bytes).ok()
}
