//! What the file system says of every entry of a tree, and in what two such listings of a place differ.
//!
//! No file is read: listing costs a look at each entry, which is what makes it cheap enough to do after every
//! buildpack. What shows and what does not is what the kernel writes down: a changed file has another size, mtime or
//! inode, and another ctime in any case, which no program can set.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ffi::{CStr, OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, Statx, StatxFlags, StatxTimestamp, openat, statx,
};
use rustix::io::Errno;

use crate::error::LayerError;
use crate::unchanged::Moment;

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
        list(top, b"", &mut entries).map_err(LayerError::io("look through", top))?;
        Ok(Self::sorted(entries))
    }

    /// In what `now` differs from `before`, as [`changes`](Self::changes) has it, when `now` is an overlay over `before` and
    /// what was written to it, if anything, is in `upper`. Only what is there is looked at. A file that was copied up and has the same
    /// size, times, mode and bytes is no change.
    ///
    /// # Errors
    ///
    /// When an entry cannot be looked at, or the trees are too deep.
    pub fn written(before: &Path, now: &Path, upper: &Path) -> Result<Vec<Change>, LayerError> {
        if entry(upper, b"").map_err(LayerError::io("look at", upper))?.is_none() {
            return Ok(Vec::new());
        }
        let mut written = Written { before, now, upper, old: Vec::new(), new: Vec::new() };
        written.look(Path::new(""), false, 0).map_err(LayerError::io("look through", upper))?;
        let Written { old, new, .. } = written;
        Ok(Self::sorted(old).changes(&Self::sorted(new)))
    }

    fn sorted(mut entries: Vec<Entry>) -> Self {
        entries.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        Self { entries }
    }

    /// When anything about an entry changed last.
    pub fn newest(&self) -> Moment {
        self.entries.iter().map(|entry| entry.ctime.into()).max().unwrap_or_default()
    }

    /// Whether a regular file here has a name elsewhere, too, through which it can be written to.
    pub fn has_links_elsewhere(&self) -> bool {
        let mut missing: HashMap<_, u32> = HashMap::new();
        let is_linked = |entry: &&Entry| entry.kind() == FileType::RegularFile && entry.links > 1;
        for entry in self.entries.iter().filter(is_linked) {
            let missing = missing.entry(entry.inode).or_insert(entry.links);
            *missing = missing.saturating_sub(1);
        }
        missing.values().any(|missing| *missing > 0)
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

    /// Whether all is the same that a program can set, but for the owner.
    fn looks_like(&self, other: &Self) -> bool {
        (self.mode, self.size, self.mtime) == (other.mode, other.size, other.mtime)
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

/// The entries of two listings that may differ, by what is in the upper directory of an overlay.
struct Written<'a> {
    before: &'a Path,
    now: &'a Path,
    upper: &'a Path,
    old: Vec<Entry>,
    new: Vec<Entry>,
}

impl Written<'_> {
    /// Looks at a path. `is_whole` says that a folder above it hides what was below.
    fn look(&mut self, path: &Path, is_whole: bool, depth: usize) -> io::Result<()> {
        if depth == MAX_DEPTH {
            return Err(Errno::NAMETOOLONG.into());
        }
        let below = |top: &Path| if path.as_os_str().is_empty() { top.to_owned() } else { top.join(path) };
        let (before, now, upper) = (below(self.before), below(self.now), below(self.upper));
        let name = path.as_os_str().as_bytes();
        match (entry(&before, name)?, entry(&now, name)?) {
            // Of what is gone nobody needs to know what was below it.
            (Some(old), None) => self.old.push(old),
            (Some(old), Some(mut new)) if old.kind() == new.kind() => {
                let is_dir = old.kind() == FileType::Directory;
                new.inode = old.inode;
                if !is_dir && old.looks_like(&new) {
                    // A copy has one link, whoever made it; what is known of the bytes needs no explanation.
                    (new.links, new.owner) = (old.links, old.owner);
                    let (seconds, nanoseconds) = old.ctime;
                    let is_same = has_same_bytes(&old, &before, &now)?;
                    new.ctime = (seconds, if is_same { nanoseconds } else { nanoseconds ^ 1 });
                }
                self.old.push(old);
                self.new.push(new);
                if is_dir {
                    let is_whole = is_whole || is_opaque(&upper)?;
                    let names = if is_whole { names(&[&before, &now])? } else { names(&[&upper])? };
                    names.iter().try_for_each(|name| self.look(&path.join(name), is_whole, depth + 1))?;
                }
            }
            _ => {
                list(&before, name, &mut self.old)?;
                list(&now, name, &mut self.new)?;
            }
        }
        Ok(())
    }
}

/// All names that folders have.
fn names(folders: &[&Path]) -> io::Result<BTreeSet<OsString>> {
    let mut names = BTreeSet::new();
    for folder in folders {
        for entry in std::fs::read_dir(folder)? {
            names.insert(entry?.file_name());
        }
    }
    Ok(names)
}

/// What is at a path; `name` is what it is called.
fn entry(path: &Path, name: &[u8]) -> io::Result<Option<Entry>> {
    match statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS) {
        Err(Errno::NOENT) => Ok(None),
        stat => Ok(Some(Entry::of(name, &stat?))),
    }
}

/// Whether a folder of an upper directory hides what is below it.
pub(crate) fn is_opaque(upper: &Path) -> io::Result<bool> {
    let mut value = [0; 8];
    match rustix::fs::lgetxattr(upper, c"user.overlay.opaque", &mut value) {
        Ok(length) => Ok(value[..length] == *b"y"),
        Err(Errno::NODATA) => Ok(false),
        // Longer than any that the kernel writes.
        Err(Errno::RANGE) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Whether two entries that look alike are alike.
fn has_same_bytes(entry: &Entry, a: &Path, b: &Path) -> io::Result<bool> {
    match entry.kind() {
        FileType::RegularFile => is_same_file(a, b),
        FileType::Symlink => Ok(std::fs::read_link(a)? == std::fs::read_link(b)?),
        _ => Ok(false),
    }
}

pub(crate) fn is_same_file(a: &Path, b: &Path) -> io::Result<bool> {
    let open = |path: &Path| {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(CWD, path, flags, Mode::empty()).map(File::from)
    };
    let (mut a, mut b) = (open(a)?, open(b)?);
    let (mut left, mut right) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    loop {
        let length = a.read(&mut left)?;
        if length == 0 {
            return Ok(b.read(&mut right)? == 0);
        }
        match b.read_exact(&mut right[..length]) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            read => read?,
        }
        if left[..length] != right[..length] {
            return Ok(false);
        }
    }
}

/// Lists what is at `top`, which is called `name`, and below.
fn list(top: &Path, name: &[u8], entries: &mut Vec<Entry>) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let handle = match openat(CWD, top, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        handle => handle?,
    };
    let stat = statx(&handle, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)?;
    entries.push(Entry::of(name, &stat));
    let mut path = name.to_vec();
    let mut open: Vec<Level> = open_dir(&handle, c".", &stat, name.len())?.into_iter().collect();
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
    fn other_bytes_show_in_what_was_written_whatever_became_of_links() {
        let dir = tempfile::tempdir().unwrap();
        let [before, now, upper] = ["before", "now", "upper"].map(|name| dir.path().join(name));
        let make = "mkdir before; echo one >before/file; echo two >before/same; ln before/file before/link
            ln before/same before/twin; mkdir now upper; cp -p before/* now; cp -p now/file now/same upper";
        run("sh", &["-ec", make], dir.path());
        assert_eq!(Listing::written(&before, &now, &upper).unwrap(), []);
        run("sh", &["-ec", "echo eno >now/file; touch -r before/file now/file"], dir.path());
        let changes = Listing::written(&before, &now, &upper).unwrap();
        assert_eq!(changes, [Change { path: "file".into(), kind: ChangeKind::Touched }]);
    }

    #[test]
    fn a_file_with_a_name_elsewhere_is_told_from_one_with_two_names_here() {
        let dir = tempfile::tempdir().unwrap();
        let has_links = || Listing::of(&dir.path().join("tree")).unwrap().has_links_elsewhere();
        run("sh", &["-ec", "mkdir tree; echo x >tree/a; ln tree/a tree/b; echo x >tree/c"], dir.path());
        assert!(!has_links());
        run("ln", &["tree/c", "c"], dir.path());
        assert!(has_links());
        run("sh", &["-ec", "rm c; ln tree/a tree/d; ln tree/a a; rm tree/b"], dir.path());
        assert!(has_links());
        run("rm", &["a"], dir.path());
        assert!(!has_links());
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
