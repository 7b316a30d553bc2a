//! Reads a Git repository with the `git` program, without obeying the repository.
//!
//! A repository's configuration and hooks name programs that Git runs, and a repository may come from anywhere. So `git` never
//! sees them: it works on a directory made here, which borrows the repository's references, index and objects, and has a
//! configuration of its own. What is in the user's own configuration is obeyed, as in any other use of `git`.

mod program;

use super::{Search, Unknown, changes};
pub(super) use program::NO_PROGRAM;
use program::Program;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use strata_decide::source::{Commit, Submodule, System, git};
use strata_phases::files::{self, Links};

/// Submodules within submodules.
const MAX_DEPTH: usize = 8;
/// The largest of the small files in a repository that is read here, in bytes.
const MAX_FILE: usize = 64 * 1024;

/// The commit that an app in the repository is of.
pub(super) fn find(search: &Search<'_>, app: &Path, top: &Path) -> Result<Commit, Unknown> {
    let shown = top.display();
    let repository = Repository::open(search, top)?;
    let commit =
        repository.head()?.ok_or_else(|| format!("the Git repository {shown} has no commits yet"))?;
    let prefix = app.strip_prefix(top).unwrap_or(Path::new("")).as_os_str().as_bytes().to_owned();
    let mut walk = Walk { search, changed: BTreeSet::new(), ignored: Vec::new(), submodules: Vec::new() };
    if !walk.repository(&repository, &commit, &prefix, b"", 0)? {
        return Err(format!("no file in it is in the Git repository {shown}"));
    }
    let refs = repository.git.text(&["for-each-ref", "--points-at", &commit, "--format=%(refname)"])?;
    let time = git::commit_time(&repository.git.text(&["cat-file", "commit", &commit])?);
    Ok(Commit {
        system: System::Git,
        created: time.and_then(|time| strata_decide::export::created(&time.to_string())),
        path: String::from_utf8_lossy(&prefix).into_owned(),
        url: git::remote(&repository.config).map(str::to_owned),
        refs: refs.lines().map(str::to_owned).collect(),
        describe: if search.is_reported { repository.describe(&commit) } else { None },
        is_shallow: repository.is_shallow,
        submodules: walk.submodules,
        changes: changes(search, &walk.changed)?,
        ignored: walk.ignored,
        commit,
        ..Commit::default()
    })
}

/// A repository, seen through a directory of our own.
struct Repository<'a> {
    git: Program<'a>,
    config: Vec<(String, String)>,
    is_shallow: bool,
}

impl<'a> Repository<'a> {
    fn open(search: &'a Search<'_>, top: &Path) -> Result<Self, Unknown> {
        let shown = top.display();
        let own =
            own_dir(top).map_err(|error| format!("the Git repository {shown} cannot be read: {error}"))?;
        let dir = tempfile::Builder::new().prefix("git-").tempdir_in(search.scratch);
        let dir =
            dir.map_err(|error| format!("cannot make a folder in {}: {error}", search.scratch.display()))?;
        let common = common_dir(&own)?;
        let files = ["config", "packed-refs", "shallow", "info/exclude"].map(|name| common.join(name));
        let files = files.into_iter().chain(["index", "info/sparse-checkout"].map(|name| own.join(name)));
        files.into_iter().try_for_each(|file| is_file(&file))?;
        let mut git = Program::new(search, dir, top, &common.join("objects"), &own.join("index"));
        let config = common.join("config");
        let config = match git.output([
            OsStr::new("config"),
            "--file".as_ref(),
            config.as_ref(),
            "--null".as_ref(),
            "--list".as_ref(),
        ]) {
            Ok(output) => git::config(&output),
            // A repository without one is a repository.
            Err(_) if !config.exists() => Vec::new(),
            Err(error) => return Err(error),
        };
        borrow(git.dir(), &own, &common, &config)
            .map_err(|error| format!("the Git repository {shown} cannot be read: {error}"))?;
        git.is_ready();
        Ok(Self { git, config, is_shallow: common.join("shallow").is_file() })
    }

    /// The commit that is checked out; `None` when there is none yet.
    fn head(&self) -> Result<Option<String>, Unknown> {
        match self.git.text(&["rev-parse", "--verify", "--quiet", "--end-of-options", "HEAD^{commit}"]) {
            Ok(text) => Ok(Some(text.trim().to_owned()).filter(|id| git::is_id(id))),
            // Quiet, when there is nothing; else it says what is wrong.
            Err(error) if error.is_empty() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The nearest tag. It fails when there is none.
    fn describe(&self, commit: &str) -> Option<String> {
        let text = self.git.text(&["describe", "--tags", "--abbrev=12", commit]).ok()?;
        Some(text.trim().to_owned())
    }
}

/// Refuses pipes and the like, for which Git would wait.
fn is_file(path: &Path) -> Result<(), Unknown> {
    match path.metadata() {
        Ok(metadata) if !metadata.is_file() => Err(format!("{} is no file", path.display())),
        // What cannot be read, Git says better.
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Where a repository's own files are: `.git`, or what a file of that name says.
pub(super) fn own_dir(top: &Path) -> io::Result<PathBuf> {
    let path = top.join(".git");
    if path.is_dir() {
        return Ok(path);
    }
    let text = small_file(&path)?;
    let target = text.strip_prefix(b"gitdir: ").ok_or_else(|| io::Error::other(".git names no folder"))?;
    Ok(top.join(OsStr::from_bytes(target.trim_ascii_end())))
}

/// Where the files are that all work trees of a repository share.
pub(super) fn common_dir(own: &Path) -> Result<PathBuf, Unknown> {
    let path = own.join("commondir");
    if !path.exists() {
        return Ok(own.to_owned());
    }
    let text = small_file(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(own.join(OsStr::from_bytes(text.trim_ascii_end())))
}

fn small_file(path: &Path) -> io::Result<Vec<u8>> {
    let bytes = files::read_bytes(path, Links::Follow, MAX_FILE).map_err(io::Error::other)?;
    bytes.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("there is no {}", path.display())))
}

/// Fills a directory that Git takes for a repository's own.
fn borrow(dir: &Path, own: &Path, common: &Path, config: &[(String, String)]) -> io::Result<()> {
    fs::write(dir.join("HEAD"), small_file(&own.join("HEAD"))?)?;
    fs::write(dir.join("config"), git::harmless_config(config))?;
    fs::create_dir(dir.join("objects"))?;
    fs::create_dir(dir.join("info"))?;
    let link = |from: PathBuf, name: &str| {
        if from.exists() { std::os::unix::fs::symlink(from.canonicalize()?, dir.join(name)) } else { Ok(()) }
    };
    for name in ["refs", "packed-refs", "reftable", "shallow", "info/exclude"] {
        link(common.join(name), name)?;
    }
    if !dir.join("refs").exists() {
        fs::create_dir(dir.join("refs"))?;
    }
    link(own.join("info/sparse-checkout"), "info/sparse-checkout")?;
    for entry in fs::read_dir(own)? {
        let name = entry?.file_name();
        if let Some(name) = name.to_str().filter(|name| name.starts_with("sharedindex.")) {
            link(own.join(name), name)?;
        }
    }
    Ok(())
}

/// What is found in a repository and those within it. Names are below the app's folder.
struct Walk<'a> {
    search: &'a Search<'a>,
    changed: BTreeSet<Vec<u8>>,
    ignored: Vec<String>,
    submodules: Vec<Submodule>,
}

impl Walk<'_> {
    /// Looks at what is below `prefix` in a repository; `base` is what its names have before them in the app. Says
    /// whether the commit has anything there.
    fn repository(
        &mut self,
        repository: &Repository<'_>,
        commit: &str,
        prefix: &[u8],
        base: &[u8],
        depth: usize,
    ) -> Result<bool, Unknown> {
        let below = |args: &[&str]| -> Result<Vec<u8>, Unknown> {
            let paths = [OsStr::new("--"), OsStr::from_bytes(prefix)];
            let paths = paths.into_iter().take(if prefix.is_empty() { 1 } else { 2 });
            repository.git.output(args.iter().map(OsStr::new).chain(paths))
        };
        let named = |path: &[u8]| -> Option<Vec<u8>> {
            let rest =
                if prefix.is_empty() { path } else { path.strip_prefix(prefix)?.strip_prefix(b"/")? };
            Some([base, rest].concat()).filter(|name| self.search.is_built(name))
        };
        let status = [
            "status",
            "--porcelain=v1",
            "-z",
            "--no-renames",
            "--untracked-files=all",
            if self.search.is_reported { "--ignored=matching" } else { "--ignored=no" },
            "--ignore-submodules=all",
        ];
        for change in git::status(&below(&status)?) {
            let Some(name) = named(&change.path) else { continue };
            if change.is_ignored {
                self.ignored.push(String::from_utf8_lossy(&name).into_owned());
            } else {
                self.changed.insert(name);
            }
        }
        let tree = below(&["ls-tree", "-r", "-z", "--full-tree", commit])?;
        let mut is_there = false;
        for entry in git::tree(&tree) {
            is_there = true;
            if let Some(name) = named(entry.path).filter(|_| entry.is_submodule) {
                self.submodule(&name, entry.id, depth)?;
            }
        }
        Ok(is_there)
    }

    fn submodule(&mut self, name: &[u8], commit: &str, depth: usize) -> Result<(), Unknown> {
        let top = self.search.app.join(OsStr::from_bytes(name));
        let is_checked_out = top.join(".git").symlink_metadata().is_ok();
        let path = String::from_utf8_lossy(name).into_owned();
        self.submodules.push(Submodule { path, commit: commit.to_owned(), is_checked_out });
        if !is_checked_out {
            return Ok(());
        }
        let search = self.search;
        let base = [name, b"/"].concat();
        let clean = depth < MAX_DEPTH
            && Repository::open(search, &top).is_ok_and(|inner| {
                inner.head().is_ok_and(|head| head.as_deref() == Some(commit))
                    && self.repository(&inner, commit, b"", &base, depth + 1).is_ok()
            });
        // Another commit than the one that is named, or one that cannot be told: all of it counts as changed.
        if !clean {
            self.changed.insert(base);
        }
        Ok(())
    }
}
