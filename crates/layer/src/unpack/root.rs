//! Paths below a directory that is never left, whatever links are in the way.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags};
use rustix::io::{Errno, Result};

use super::Ownership;
use crate::error::LayerError;

/// As many as the kernel follows.
const MAX_LINKS: usize = 40;

/// Far more than real trees have, far fewer than there are descriptors.
const MAX_DEPTH: usize = 400;

/// A name in an open directory.
pub(super) struct Place {
    pub(super) dir: Rc<OwnedFd>,
    /// Path below the root with all links of directories resolved.
    pub(super) path: Vec<u8>,
    /// Where the name starts in the path.
    start: usize,
}

impl Place {
    pub(super) fn below(dir: Rc<OwnedFd>, parent: &[u8], name: &[u8]) -> Self {
        let path = if parent.is_empty() { name.to_vec() } else { [parent, b"/", name].concat() };
        Self { dir, start: path.len() - name.len(), path }
    }

    pub(super) fn name(&self) -> &OsStr {
        OsStr::from_bytes(&self.path[self.start..])
    }

    /// Another name in the same directory.
    pub(super) fn sibling(&self, name: &[u8]) -> Self {
        let path = [&self.path[..self.start], name].concat();
        Self { dir: Rc::clone(&self.dir), start: self.start, path }
    }
}

/// An open directory, and its path below the root.
type Step = (Rc<OwnedFd>, Vec<u8>);

/// The directory that is not left.
pub(super) struct Root {
    fd: Rc<OwnedFd>,
    /// The directory of the last entry, by its unresolved name: most entries share it with the one before.
    last: Option<(Vec<u8>, Rc<OwnedFd>, Vec<u8>)>,
    /// The open directories from the root to the one that was last walked to without meeting a link: the next one is
    /// mostly near.
    way: Vec<Step>,
    /// Modes that directories get at the end, by resolved path.
    modes: BTreeMap<Vec<u8>, u32>,
    is_privileged: bool,
    ownership: Ownership,
}

impl Root {
    pub(super) fn open(dir: &Path, ownership: Ownership) -> std::result::Result<Self, LayerError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = fs::open(dir, flags, Mode::empty()).map_err(LayerError::io("open", dir))?;
        if ownership == Ownership::Here {
            fs::fchown(&fd, Some(fs::Uid::ROOT), Some(fs::Gid::ROOT))
                .map_err(LayerError::io("give to root", dir))?;
        }
        let is_privileged = rustix::process::geteuid().is_root();
        Ok(Self {
            fd: Rc::new(fd),
            last: None,
            way: Vec::new(),
            modes: BTreeMap::new(),
            is_privileged,
            ownership,
        })
    }

    pub(super) fn fd(&self) -> Rc<OwnedFd> {
        Rc::clone(&self.fd)
    }

    /// Forgets what was resolved, because a directory on the way may have become something else.
    pub(super) fn forget(&mut self) {
        self.last = None;
        self.way.clear();
    }

    pub(super) fn set_mode(&mut self, path: Vec<u8>, mode: u32) {
        self.modes.insert(path, mode);
    }

    pub(super) fn take_modes(&mut self) -> BTreeMap<Vec<u8>, u32> {
        std::mem::take(&mut self.modes)
    }

    /// The place of `name` in the directory `above`, whose missing parts are made.
    pub(super) fn parent(&mut self, above: &[&[u8]], name: &[u8]) -> Result<Place> {
        let key = above.join(&b'/');
        if let Some((last, fd, path)) = &self.last
            && *last == key
        {
            return Ok(Place::below(Rc::clone(fd), path, name));
        }
        let (fd, path) = self.resolve(above, true)?;
        self.last = Some((key, Rc::clone(&fd), path.clone()));
        Ok(Place::below(fd, &path, name))
    }

    /// Like [`Self::parent`], but makes nothing.
    pub(super) fn existing_parent(&mut self, above: &[&[u8]], name: &[u8]) -> Result<Place> {
        let (fd, path) = self.resolve(above, false)?;
        Ok(Place::below(fd, &path, name))
    }

    /// Opens a directory by its resolved path; a link on the way is an error.
    pub(super) fn reopen(&mut self, path: &[u8]) -> Result<Rc<OwnedFd>> {
        let names: Vec<&[u8]> = path.split(|&byte| byte == b'/').filter(|name| !name.is_empty()).collect();
        let mut way = self.way_to(&names);
        for name in &names[way.len() - 1..] {
            let (dir, path) = &way[way.len() - 1];
            let fd = Rc::new(open_dir(dir.as_fd(), name)?);
            let path = Place::below(Rc::clone(dir), path, name).path;
            way.push((fd, path));
        }
        let fd = Rc::clone(&way[way.len() - 1].0);
        self.way = way;
        Ok(fd)
    }

    /// As much of the way to a directory as is open already, the root at least.
    fn way_to(&mut self, names: &[&[u8]]) -> Vec<Step> {
        let mut way = std::mem::take(&mut self.way);
        if way.is_empty() {
            way.push((self.fd(), Vec::new()));
        }
        let is_on_it =
            |(step, name): &(&Step, &&[u8])| step.1.rsplit(|&byte| byte == b'/').next() == Some(**name);
        let common = way[1..].iter().zip(names).take_while(is_on_it).count();
        way.truncate(common + 1);
        way
    }

    /// Removes what is there, with everything below it; links are not followed.
    pub(super) fn remove(&mut self, place: &Place) -> Result<()> {
        self.forget();
        self.modes.remove(&place.path);
        let (from, to) = below(&place.path);
        let gone: Vec<Vec<u8>> = self.modes.range(from..to).map(|(path, _)| path.clone()).collect();
        for path in &gone {
            self.modes.remove(path);
        }
        remove_below(place.dir.as_fd(), place.name().as_bytes())
    }

    /// Walks to a directory. Links are resolved by hand so that they end below the root.
    fn resolve(&mut self, above: &[&[u8]], make: bool) -> Result<(Rc<OwnedFd>, Vec<u8>)> {
        let mut way = self.way_to(above);
        let mut todo: VecDeque<Vec<u8>> = above[way.len() - 1..].iter().map(|part| part.to_vec()).collect();
        let mut links = 0;
        while let Some(part) = todo.pop_front() {
            match part.as_slice() {
                b"" | b"." => continue,
                b".." => {
                    // Above the root is the root.
                    if way.len() > 1 {
                        way.pop();
                    }
                    continue;
                }
                _ => {}
            }
            if way.len() > MAX_DEPTH {
                return Err(Errno::NAMETOOLONG);
            }
            let (dir, path) = way[way.len() - 1].clone();
            let place = Place::below(dir, &path, &part);
            match self.enter(&place, make) {
                Ok(fd) => way.push((Rc::new(fd), place.path)),
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    let target = fs::readlinkat(&*place.dir, place.name(), Vec::new())
                        // It is neither a directory nor a link.
                        .map_err(|error| if error == Errno::INVAL { Errno::NOTDIR } else { error })?;
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(Errno::LOOP);
                    }
                    let target = target.to_bytes();
                    if target.starts_with(b"/") {
                        way.truncate(1);
                    }
                    for part in target.split(|&byte| byte == b'/').rev() {
                        todo.push_front(part.to_vec());
                    }
                }
                Err(error) => return Err(error),
            }
        }
        let found = way.last().cloned().ok_or(Errno::NOENT);
        if links == 0 {
            self.way = way;
        }
        found
    }

    fn enter(&mut self, place: &Place, make: bool) -> Result<OwnedFd> {
        let name = place.name().as_bytes();
        match open_dir(place.dir.as_fd(), name) {
            Err(Errno::NOENT) if make => {
                fs::mkdirat(&*place.dir, place.name(), Mode::RWXU)?;
                self.modes.entry(place.path.clone()).or_insert(0o755);
                if self.ownership == Ownership::Here {
                    // As root would have made it.
                    let root = (Some(fs::Uid::ROOT), Some(fs::Gid::ROOT));
                    fs::chownat(&*place.dir, place.name(), root.0, root.1, AtFlags::SYMLINK_NOFOLLOW)?;
                }
                open_dir(place.dir.as_fd(), name)
            }
            Err(Errno::ACCESS) if !self.is_privileged => {
                self.make_accessible(place)?;
                open_dir(place.dir.as_fd(), name)
            }
            Ok(fd) if !self.is_privileged => {
                let mode = fs::fstat(&fd)?.st_mode;
                if mode & 0o300 != 0o300 {
                    self.make_accessible(place)?;
                }
                Ok(fd)
            }
            result => result,
        }
    }

    /// Lets the owner into a directory of an earlier layer until the end.
    fn make_accessible(&mut self, place: &Place) -> Result<()> {
        let stat = fs::statat(&*place.dir, place.name(), AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return Err(Errno::ACCESS);
        }
        let mode = stat.st_mode & 0o7777;
        fs::chmodat(&*place.dir, place.name(), Mode::from_raw_mode(mode | 0o700), AtFlags::empty())?;
        self.modes.entry(place.path.clone()).or_insert(mode);
        Ok(())
    }
}

/// The range of all paths below `path`.
pub(super) fn below(path: &[u8]) -> (Vec<u8>, Vec<u8>) {
    // In byte order, the digit zero follows the slash.
    ([path, b"/"].concat(), [path, b"0"].concat())
}

/// The names in a directory, without itself and the one above.
pub(super) fn names(dir: BorrowedFd<'_>) -> Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in fs::Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    Ok(names)
}

fn open_dir(dir: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    fs::openat(dir, OsStr::from_bytes(name), flags, Mode::empty())
}

/// Removes a file, or a directory and all below it, whatever the modes; links are not followed.
///
/// # Errors
///
/// When it is not there, or something cannot be removed.
pub fn remove_tree(path: &Path) -> std::io::Result<()> {
    let name = path.file_name().ok_or(Errno::INVAL)?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = fs::open(parent, flags, Mode::empty())?;
    Ok(remove_below(dir.as_fd(), name.as_bytes())?)
}

/// Removes a tree, whose depth [`MAX_DEPTH`] limits.
fn remove_below(dir: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
    match fs::unlinkat(dir, OsStr::from_bytes(name), AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) => {}
        result => return result,
    }
    if let Err(Errno::ACCESS) = open_dir(dir, name).map(drop) {
        fs::chmodat(dir, OsStr::from_bytes(name), Mode::RWXU, AtFlags::empty())?;
    }
    let fd = open_dir(dir, name)?;
    fs::fchmod(&fd, Mode::RWXU)?;
    for child in names(fd.as_fd())? {
        remove_below(fd.as_fd(), &child)?;
    }
    fs::unlinkat(dir, OsStr::from_bytes(name), AtFlags::REMOVEDIR)
}
