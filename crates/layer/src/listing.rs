//! What the file system says of every entry of a tree, and in what two such listings of a place differ.
//!
//! No file is read: listing costs a look at each entry, which is what makes it cheap enough to do after every
//! buildpack. What shows and what does not is what the kernel writes down: a changed file has another size, mtime or
//! inode, and another ctime in any case, which no program can set.

use std::collections::HashSet;
use std::ffi::{CStr, OsStr};
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, Statx, StatxFlags, StatxTimestamp, openat, statx,
};
use rustix::io::Errno;

use crate::error::LayerError;

/// Deeper trees are not listed: each level has a descriptor open.
const MAX_DEPTH: usize = 400;

/// A tree as it was at some moment. The top itself has the empty path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// Sorted by path.
    entries: Vec<Entry>,
}

/// What is known of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    path: Box<[u8]>,
    mode: u32,
    links: u32,
    owner: (u32, u32),
    size: u64,
    inode: (u64, u32, u32),
    mtime: (i64, u32),
    ctime: (i64, u32),
}

/// What happened to an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChangeKind {
    /// It was not there.
    Created,
    /// It is another file, was written to, or its time was set.
    Changed,
    /// It is gone.
    Deleted,
    /// Its permission bits are others.
    Mode,
    /// Something about it changed that leaves size, times, mode, owner and number of links as they were: most likely
    /// it was written to and its time was set back.
    Touched,
}

impl fmt::Display for ChangeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Created => "created",
            Self::Changed => "changed",
            Self::Deleted => "deleted",
            Self::Mode => "chmod",
            Self::Touched => "touched",
        })
    }
}

/// One entry that is not as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its path below the top; empty for the top itself.
    pub path: PathBuf,
    /// What happened to it.
    pub kind: ChangeKind,
}

impl Listing {
    /// Lists the tree at `top`; nothing there makes an empty listing. Links are not followed, not even if `top` is
    /// one, and what is below a folder that cannot be opened is left out.
    ///
    /// # Errors
    ///
    /// When an entry cannot be looked at, or the tree is too deep.
    pub fn of(top: &Path) -> Result<Self, LayerError> {
        let mut entries = Vec::new();
        list(top, &mut entries).map_err(LayerError::io("look through", top))?;
        entries.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        Ok(Self { entries })
    }

    /// How many entries there are, the top included.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing was there.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// In what a later listing of the same place differs, sorted by path. Folders whose entries alone changed are not
    /// mentioned, nor is what is below a folder that is gone: the folder is.
    pub fn changes(&self, later: &Self) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut gone = HashSet::new();
        let (mut before, mut after) = (self.entries.iter().peekable(), later.entries.iter().peekable());
        loop {
            let order = match (before.peek(), after.peek()) {
                (None, None) => return changes,
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (Some(a), Some(b)) => a.path.cmp(&b.path),
            };
            let old = if order.is_gt() { None } else { before.next() };
            let new = if order.is_lt() { None } else { after.next() };
            let kind = match (old, new) {
                (Some(old), Some(new)) => old.change(new),
                (Some(_), None) => Some(ChangeKind::Deleted),
                _ => Some(ChangeKind::Created),
            };
            let Some((kind, entry)) = kind.zip(new.or(old)) else { continue };
            let path = Path::new(OsStr::from_bytes(&entry.path));
            let is_gone = kind == ChangeKind::Deleted;
            if is_gone {
                gone.insert(path);
            }
            if !(is_gone && path.parent().is_some_and(|above| gone.contains(above))) {
                changes.push(Change { path: path.to_owned(), kind });
            }
        }
    }
}

impl Entry {
    fn of(path: &[u8], stat: &Statx) -> Self {
        let time = |time: StatxTimestamp| (time.tv_sec, time.tv_nsec);
        Self {
            path: path.into(),
            mode: u32::from(stat.stx_mode),
            links: stat.stx_nlink,
            owner: (stat.stx_uid, stat.stx_gid),
            size: stat.stx_size,
            inode: (stat.stx_ino, stat.stx_dev_major, stat.stx_dev_minor),
            mtime: time(stat.stx_mtime),
            ctime: time(stat.stx_ctime),
        }
    }

    fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.mode)
    }

    fn change(&self, later: &Self) -> Option<ChangeKind> {
        let is_dir = self.kind() == FileType::Directory;
        if self.kind() != later.kind() {
            return Some(ChangeKind::Changed);
        }
        // The size and the times of a folder are those of its entries, which are looked at themselves.
        if !is_dir && (self.size, self.inode, self.mtime) != (later.size, later.inode, later.mtime) {
            return Some(ChangeKind::Changed);
        }
        if self.mode != later.mode {
            return Some(ChangeKind::Mode);
        }
        // Another link to it, or another owner, explains the ctime, and neither is part of a layer.
        let is_explained = (self.links, self.owner) != (later.links, later.owner);
        let is_touched = !is_dir && self.ctime != later.ctime && !is_explained;
        is_touched.then_some(ChangeKind::Touched)
    }
}

/// A folder and its entries that are yet to come.
struct Level {
    dir: OwnedFd,
    names: Dir,
    /// How long the path of the folder is.
    length: usize,
}

impl Level {
    fn open(dir: OwnedFd, length: usize) -> io::Result<Self> {
        Ok(Self { names: Dir::read_from(&dir)?, dir, length })
    }
}

fn list(top: &Path, entries: &mut Vec<Entry>) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let handle = match openat(CWD, top, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        handle => handle?,
    };
    let stat = statx(&handle, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)?;
    entries.push(Entry::of(b"", &stat));
    let mut path = Vec::new();
    let mut open: Vec<Level> = open_dir(&handle, c".", &stat, 0)?.into_iter().collect();
    while let Some(level) = open.last_mut() {
        let Some(next) = level.names.next() else {
            open.pop();
            continue;
        };
        let next = next?;
        let name = next.file_name();
        if [c".", c".."].contains(&name) {
            continue;
        }
        let stat = match statx(&level.dir, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS) {
            // Somebody was faster.
            Err(Errno::NOENT) => continue,
            stat => stat?,
        };
        path.truncate(level.length);
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name.to_bytes());
        entries.push(Entry::of(&path, &stat));
        let inner = open_dir(&level.dir, name, &stat, path.len())?;
        if inner.is_some() && open.len() == MAX_DEPTH {
            return Err(Errno::NAMETOOLONG.into());
        }
        open.extend(inner);
    }
    Ok(())
}

/// Opens what is a folder and can be opened.
fn open_dir(above: &OwnedFd, name: &CStr, stat: &Statx, length: usize) -> io::Result<Option<Level>> {
    if FileType::from_raw_mode(stat.stx_mode.into()) != FileType::Directory {
        return Ok(None);
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(above, name, flags, Mode::empty()) {
        Ok(dir) => Level::open(dir, length).map(Some),
        Err(Errno::ACCESS | Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::process::Command;
    use std::thread::sleep;
    use std::time::Duration;

    fn run(program: &str, arguments: &[&str], dir: &Path) {
        let status = Command::new(program).args(arguments).current_dir(dir).status().unwrap();
        assert!(status.success(), "{program} {arguments:?}");
    }

    /// What a change of a tree looks like, one `kind path` each.
    #[track_caller]
    fn shows(change: impl FnOnce(&Path), expected: &[&str]) {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().join("tree");
        fs::create_dir_all(top.join("a/b")).unwrap();
        fs::write(top.join("a/file"), "one").unwrap();
        fs::write(top.join("a/b/file"), "").unwrap();
        symlink("file", top.join("a/link")).unwrap();
        let before = Listing::of(&top).unwrap();
        assert_eq!((before.len(), before.changes(&Listing::of(&top).unwrap())), (6, vec![]));
        // Past the tick of the clock that made the tree.
        sleep(Duration::from_millis(20));
        change(&top);
        let changes = before.changes(&Listing::of(&top).unwrap());
        let found: Vec<_> = changes.iter().map(|c| format!("{} {}", c.kind, c.path.display())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn every_kind_of_change_is_named() {
        shows(|top| fs::write(top.join("a/file"), "two").unwrap(), &["changed a/file"]);
        shows(|top| fs::write(top.join("a/new"), "").unwrap(), &["created a/new"]);
        shows(|top| fs::remove_file(top.join("a/file")).unwrap(), &["deleted a/file"]);
        shows(|top| fs::remove_dir_all(top.join("a")).unwrap(), &["deleted a"]);
        shows(|top| fs::remove_dir_all(top).unwrap(), &["deleted "]);
        shows(
            |top| fs::rename(top.join("a/b"), top.join("a/c")).unwrap(),
            &["deleted a/b", "created a/c", "created a/c/file"],
        );
        let private = || PermissionsExt::from_mode(0o700);
        shows(|top| fs::set_permissions(top.join("a/file"), private()).unwrap(), &["chmod a/file"]);
        shows(|top| fs::set_permissions(top.join("a/b"), private()).unwrap(), &["chmod a/b"]);
        shows(|top| run("ln", &["-sfn", "elif", "a/link"], top), &["changed a/link"]);
        shows(|top| run("sh", &["-c", "rm a/link; mkdir a/link"], top), &["changed a/link"]);
        shows(
            |top| run("sh", &["-c", "rm -r a; ln -s / a"], top),
            &["changed a", "deleted a/b", "deleted a/file", "deleted a/link"],
        );
    }

    #[test]
    fn a_file_whose_time_was_set_back_shows() {
        shows(
            |top| {
                run(
                    "sh",
                    &["-c", "touch -r a/file ../time; echo -n two > a/file; touch -r ../time a/file"],
                    top,
                )
            },
            &["touched a/file"],
        );
    }

    #[test]
    fn what_is_not_in_a_layer_is_no_change() {
        shows(|top| assert_eq!(fs::read(top.join("a/file")).unwrap(), b"one"), &[]);
        shows(|top| run("sh", &["-c", "touch a/b/temp; rm a/b/temp"], top), &[]);
        // Hard links are full copies in a layer.
        shows(|top| fs::hard_link(top.join("a/file"), top.with_file_name("other")).unwrap(), &[]);
    }

    #[test]
    fn links_are_not_followed_and_nothing_is_an_empty_tree() {
        let dir = tempfile::tempdir().unwrap();
        symlink("/usr", dir.path().join("link")).unwrap();
        assert_eq!(Listing::of(&dir.path().join("link")).unwrap().len(), 1);
        assert!(Listing::of(&dir.path().join("none")).unwrap().is_empty());
    }
}
