//! Extracts a layer into a directory that it cannot leave.
//!
//! Every step goes through descriptors of directories opened without following links; links are resolved here, inside
//! the root, and `..` in an entry's name is refused. What two readers of the archive could understand differently is
//! refused as well.

mod behind;
mod entries;
mod examine;
mod header;
mod members;
mod modes;
mod root;
mod walk;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{self, AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use strata_oci::Hasher;

use crate::error::LayerError;
use behind::{Behind, Finish};
pub use entries::{Entry, EntryKind, Walked, layer_entries};
pub use examine::examine;
use header::{Item, Kind, MAX_ENTRY_HEADERS, split};
use members::Budget;
pub use members::{Member, MemberLimits, members};
use modes::Modes;
pub use root::remove_tree;
use root::{Place, Root};
pub use walk::layer_files;

use crate::source::Skeleton;
use crate::spare::Spare;

/// How deletions of lower layers are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whiteouts {
    /// As overlayfs wants them in a lower directory mounted with `userxattr`.
    Overlay,
    /// By deleting from the directory what earlier layers put there.
    Apply,
    /// Not at all: the archive is not one of a stack, and `.wh.` is a name like any other.
    Literal,
}

/// When entries were modified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    /// When the archive says.
    Keep,
    /// When they are extracted.
    Now,
}

/// Who owns what is extracted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// The owners in the archive. Needs the privilege to change owners.
    Keep,
    /// The owners in the archive, and nobody where this user namespace has not got one of them. Needs the privilege to
    /// change owners.
    Here,
    /// The user who extracts.
    Caller,
}

/// Stands for users and groups that a user namespace has not got.
const NOBODY: u32 = 65_534;

/// What is made of entries that can do more than hold data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// What the archive says.
    Full,
    /// Devices and fifos are refused, and nothing runs as another user.
    Data,
}

/// How a layer is extracted.
#[derive(Clone, Debug)]
pub struct UnpackOptions {
    /// How deletions are kept.
    pub whiteouts: Whiteouts,
    /// Who owns the entries.
    pub ownership: Ownership,
    /// When they were modified.
    pub times: Times,
    /// What is made of devices and of programs that run as another user.
    pub trust: Trust,
    /// Whether the directory stays as it is, whatever an entry of the archive's own root says of owner and mode.
    pub keeps_root: bool,
    /// How many entries are accepted.
    pub max_entries: u64,
    /// How many bytes of file contents, and of anything after the archive's end, are accepted.
    pub max_bytes: u64,
    /// Threads that may help: files are then filled by another thread than the one that creates them.
    pub spare: Spare,
}

impl Default for UnpackOptions {
    fn default() -> Self {
        Self {
            whiteouts: Whiteouts::Apply,
            ownership: Ownership::Caller,
            times: Times::Keep,
            trust: Trust::Full,
            keeps_root: false,
            max_entries: 2_000_000,
            max_bytes: 64 << 30,
            spare: Spare::default(),
        }
    }
}

/// What was extracted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UnpackStats {
    /// Entries of the archive, skipped ones included.
    pub entries: u64,
    /// Bytes of file contents.
    pub bytes: u64,
    /// Devices that the kernel did not let the caller make.
    pub skipped_devices: u64,
}

/// Extracts the archive into `dir`, which exists, and reads it to its end.
///
/// Absolute names are taken below `dir`. An entry replaces what has its name, except that directories are merged.
/// Modes are kept, and modification times if asked; those of directories are set last, so an error leaves them open.
/// The directory must not be changed by others meanwhile.
pub fn unpack(tar: &mut dyn Read, dir: &Path, options: &UnpackOptions) -> Result<UnpackStats, LayerError> {
    unpack_and_sum(tar, dir, options).map(|(stats, _)| stats)
}

/// Like [`unpack`]; gives the archive's skeleton as well.
pub fn unpack_and_sum(
    tar: &mut dyn Read,
    dir: &Path,
    options: &UnpackOptions,
) -> Result<(UnpackStats, Skeleton), LayerError> {
    let left = Rc::new(Cell::new(MAX_ENTRY_HEADERS));
    let bones = Rc::new(RefCell::new(Hasher::new()));
    let is_content = Rc::new(Cell::new(false));
    let size = Rc::new(Cell::new(0));
    let tar = Bones {
        inner: tar,
        hasher: Rc::clone(&bones),
        is_content: Rc::clone(&is_content),
        size: Rc::clone(&size),
    };
    let mut archive = tar::Archive::new(Budget { inner: tar, left: Rc::clone(&left) });
    let root = Root::open(dir, options.ownership)?;
    let mut job = Job {
        buffer: Vec::new(),
        behind: Behind::new(dir, options.spare.clone()),
        modes: Modes::in_new(&root.fd()),
        root,
        dir,
        options,
        stats: UnpackStats::default(),
        times: BTreeMap::new(),
        written: BTreeSet::new(),
    };
    for entry in archive.entries().map_err(LayerError::read)? {
        let mut entry = entry.map_err(LayerError::read)?;
        left.set(u64::MAX);
        job.stats.entries += 1;
        if job.stats.entries > options.max_entries {
            return Err(LayerError::TooLarge { limit: options.max_entries, unit: "entries" });
        }
        if let Some(mut item) = Item::read(&mut entry)? {
            if options.trust == Trust::Data {
                item.disarm()?;
            }
            is_content.set(item.kind == Kind::File);
            job.extract(&item, &mut entry)?;
        }
        io::copy(&mut entry, &mut io::sink()).map_err(LayerError::read)?;
        is_content.set(false);
        left.set(MAX_ENTRY_HEADERS);
    }
    left.set(u64::MAX);
    job.behind.finish()?;
    job.finish_dirs()?;
    // Whoever verifies the blob does so at its end, which lies behind the end of the archive.
    let rest = archive.into_inner();
    let after = io::copy(&mut rest.take(options.max_bytes), &mut io::sink()).map_err(LayerError::read)?;
    if after == options.max_bytes {
        return Err(LayerError::TooLarge { limit: options.max_bytes, unit: "bytes" });
    }
    Ok((job.stats, Skeleton { digest: bones.take().finish(), size: size.get() }))
}

/// Hashes an archive but for the contents of its files, and counts all of it.
struct Bones<R> {
    inner: R,
    hasher: Rc<RefCell<Hasher>>,
    is_content: Rc<Cell<bool>>,
    size: Rc<Cell<u64>>,
}

impl<R: Read> Read for Bones<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.size.set(self.size.get() + count as u64);
        if !self.is_content.get() {
            self.hasher.borrow_mut().update(&buffer[..count]);
        }
        Ok(count)
    }
}

/// An extraction under way.
struct Job<'a> {
    /// Room for what is copied: clean memory is not for nothing.
    buffer: Vec<u8>,
    behind: Behind,
    /// Which modes entries have from the start.
    modes: Modes,
    root: Root,
    dir: &'a Path,
    options: &'a UnpackOptions,
    stats: UnpackStats,
    /// Modification times of directories, set when nothing more is put into them.
    times: BTreeMap<Vec<u8>, i64>,
    /// What this layer wrote: its whiteouts leave that alone.
    written: BTreeSet<Vec<u8>>,
}

impl Job<'_> {
    fn extract(&mut self, item: &Item, data: &mut dyn Read) -> Result<(), LayerError> {
        let parts = split(&item.name, &item.shown)?;
        let Some((name, above)) = parts.split_last() else {
            return self.extract_root(item);
        };
        let place = self.root.parent(above, name).map_err(self.failed("enter the directory of", item))?;
        let is_one_of_many = self.options.whiteouts != Whiteouts::Literal;
        if let Some(hidden) = name.strip_prefix(b".wh.").filter(|_| is_one_of_many) {
            return self.whiteout(item, &place, hidden);
        }
        match &item.kind {
            Kind::Dir => self.make_dir(item, &place)?,
            Kind::File => self.make_file(item, &place, data)?,
            Kind::Symlink(target) => {
                self.root.forget();
                let target = OsStr::from_bytes(target);
                self.replacing(item, &place, || fs::symlinkat(target, &*place.dir, place.name()))?;
                self.chown(item, &place)?;
                self.touch(item, &place)?;
            }
            Kind::HardLink(target) => self.make_hard_link(item, &place, target)?,
            Kind::Fifo => self.make_node(item, &place, FileType::Fifo, 0)?,
            Kind::Device(kind, number) => self.make_node(item, &place, *kind, *number)?,
        }
        if self.options.whiteouts == Whiteouts::Apply {
            self.written.insert(place.path);
        }
        Ok(())
    }

    /// The entry of the root itself only says what the root is like.
    fn extract_root(&mut self, item: &Item) -> Result<(), LayerError> {
        if item.kind != Kind::Dir {
            return Err(item.refused("the root is not a directory"));
        }
        if self.options.keeps_root {
            return Ok(());
        }
        let root = self.root.fd();
        self.give(item, |uid, gid| fs::fchown(&*root, uid, gid))?;
        self.root.set_mode(Vec::new(), item.mode);
        self.times.insert(Vec::new(), item.mtime);
        Ok(())
    }

    fn make_dir(&mut self, item: &Item, place: &Place) -> Result<(), LayerError> {
        // Nothing is left to be done for most of them once they are filled.
        let is_done =
            self.options.times == Times::Now && item.mode & 0o700 == 0o700 && self.modes.keeps(item.mode);
        let mode = if is_done { Mode::from_raw_mode(item.mode) } else { Mode::RWXU };
        match fs::mkdirat(&*place.dir, place.name(), mode) {
            Ok(()) if is_done => return self.chown(item, place),
            Ok(()) => {}
            Err(Errno::EXIST) => {
                let old = self.stat(item, place)?;
                let kind = FileType::from_raw_mode(old.st_mode);
                if kind != FileType::Directory {
                    self.remove(item, place)?;
                    fs::mkdirat(&*place.dir, place.name(), Mode::RWXU)
                        .map_err(self.failed("create the directory", item))?;
                    // A whiteout in its place hid the lower directory of that name.
                    if self.options.whiteouts == Whiteouts::Overlay && is_whiteout(&old) {
                        self.make_opaque(item, &place.path)?;
                    }
                }
            }
            Err(error) => return Err(self.failed("create the directory", item)(error)),
        }
        self.chown(item, place)?;
        self.root.set_mode(place.path.clone(), item.mode);
        self.times.insert(place.path.clone(), item.mtime);
        Ok(())
    }

    fn make_file(&mut self, item: &Item, place: &Place, data: &mut dyn Read) -> Result<(), LayerError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let is_done = self.modes.keeps(item.mode);
        let mode = if is_done { Mode::from_raw_mode(item.mode) } else { Mode::RUSR | Mode::WUSR };
        let fd = self.replacing(item, place, || fs::openat(&*place.dir, place.name(), flags, mode))?;
        let mut file = File::from(fd);
        self.give(item, |uid, gid| fs::fchown(&file, uid, gid))?;
        let finish = Finish {
            mode: (!is_done).then(|| Mode::from_raw_mode(item.mode)),
            times: (self.options.times == Times::Keep).then(|| timestamps(item.mtime)),
        };
        let limit = self.options.max_bytes - self.stats.bytes;
        let written = if item.size <= limit && self.behind.takes(item.size) {
            self.behind.add(file, data, finish, place.path.clone())?
        } else {
            let failed = self.failed("write", item);
            let written = copy(data, &mut file, &mut self.buffer, limit, failed)?;
            finish.apply(&file).map_err(|(action, error)| self.failed(action, item)(error))?;
            written
        };
        if written > limit {
            return Err(LayerError::TooLarge { limit: self.options.max_bytes, unit: "bytes" });
        }
        if written != item.size {
            return Err(item.refused("the archive ends within it"));
        }
        self.stats.bytes += written;
        Ok(())
    }

    fn make_hard_link(&mut self, item: &Item, place: &Place, target: &[u8]) -> Result<(), LayerError> {
        let parts = split(target, &item.shown)?;
        let Some((name, above)) = parts.split_last() else {
            return Err(item.refused("it is a hard link to the root"));
        };
        let old = self
            .root
            .existing_parent(above, name)
            .map_err(self.failed("enter the directory of the target of", item))?;
        if old.path == place.path {
            return Err(item.refused("it is a hard link to itself"));
        }
        // A link to a link is one to the link itself.
        self.replacing(item, place, || {
            fs::linkat(&*old.dir, old.name(), &*place.dir, place.name(), AtFlags::empty())
        })
    }

    fn make_node(
        &mut self,
        item: &Item,
        place: &Place,
        kind: FileType,
        number: u64,
    ) -> Result<(), LayerError> {
        // The mode is set apart, since the umask would cut it.
        let mode = Mode::RUSR | Mode::WUSR;
        let make = || match fs::mknodat(&*place.dir, place.name(), kind, mode, number) {
            Err(Errno::PERM | Errno::ACCESS) if kind != FileType::Fifo => Ok(false),
            result => result.map(|()| true),
        };
        if !self.replacing(item, place, make)? {
            self.stats.skipped_devices += 1;
            return Ok(());
        }
        self.chown(item, place)?;
        fs::chmodat(&*place.dir, place.name(), Mode::from_raw_mode(item.mode), AtFlags::empty())
            .map_err(self.failed("change the mode of", item))?;
        self.touch(item, place)
    }

    fn whiteout(&mut self, item: &Item, marker: &Place, hidden: &[u8]) -> Result<(), LayerError> {
        self.root.forget();
        if hidden == b".wh..opq" {
            let parent = parent_of(&marker.path);
            return match self.options.whiteouts {
                Whiteouts::Overlay => self.make_opaque(item, parent),
                Whiteouts::Apply | Whiteouts::Literal => {
                    self.remove_lower_children(item, &marker.dir, parent)
                }
            };
        }
        if hidden.starts_with(b".wh.") {
            // Housekeeping of an old storage driver, no deletion.
            return Ok(());
        }
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(item.refused("it deletes nothing below its directory"));
        }
        let place = marker.sibling(hidden);
        if self.options.whiteouts == Whiteouts::Apply {
            return self.remove_lower(item, &place);
        }
        match fs::mknodat(&*place.dir, place.name(), FileType::CharacterDevice, Mode::empty(), 0) {
            Err(Errno::EXIST) => {
                // This layer has something of that name, which hides the lower one unless both are directories.
                let kind = FileType::from_raw_mode(self.stat(item, &place)?.st_mode);
                if kind == FileType::Directory { self.make_opaque(item, &place.path) } else { Ok(()) }
            }
            result => result.map_err(self.failed("create the whiteout", item)),
        }
    }

    fn make_opaque(&mut self, item: &Item, path: &[u8]) -> Result<(), LayerError> {
        let fd = self.root.reopen(path).map_err(self.failed("open the directory of", item))?;
        fs::fsetxattr(&fd, "user.overlay.opaque", b"y", XattrFlags::empty())
            .map_err(self.failed("mark as opaque the directory of", item))
    }

    /// Removes what earlier layers put at `place`, all of it unless this layer wrote there too.
    fn remove_lower(&mut self, item: &Item, place: &Place) -> Result<(), LayerError> {
        if !self.written.contains(&place.path) {
            return match self.root.remove(place) {
                Err(Errno::NOENT) => Ok(()),
                result => result.map_err(self.failed("remove what is hidden by", item)),
            };
        }
        if FileType::from_raw_mode(self.stat(item, place)?.st_mode) != FileType::Directory {
            return Ok(());
        }
        let fd = self.root.reopen(&place.path).map_err(self.failed("open the directory of", item))?;
        self.remove_lower_children(item, &fd, &place.path)
    }

    fn remove_lower_children(
        &mut self,
        item: &Item,
        dir: &Rc<OwnedFd>,
        path: &[u8],
    ) -> Result<(), LayerError> {
        for name in root::names(dir.as_fd()).map_err(self.failed("list the directory of", item))? {
            let place = Place::below(Rc::clone(dir), path, &name);
            // A directory may be here only because something of this layer is below it.
            let (from, to) = root::below(&place.path);
            if self.written.range(from..to).next().is_some() {
                self.written.insert(place.path.clone());
            }
            self.remove_lower(item, &place)?;
        }
        Ok(())
    }

    /// Runs `make`; if something is in its place, removes that and runs it again.
    fn replacing<T>(
        &mut self,
        item: &Item,
        place: &Place,
        make: impl Fn() -> rustix::io::Result<T>,
    ) -> Result<T, LayerError> {
        let made = match make() {
            Err(Errno::EXIST) => {
                self.remove(item, place)?;
                make()
            }
            made => made,
        };
        made.map_err(self.failed("create", item))
    }

    fn remove(&mut self, item: &Item, place: &Place) -> Result<(), LayerError> {
        self.times.remove(&place.path);
        let (from, to) = root::below(&place.path);
        let times: Vec<Vec<u8>> =
            self.times.range(from.clone()..to.clone()).map(|(path, _)| path.clone()).collect();
        for path in &times {
            self.times.remove(path);
        }
        let written: Vec<Vec<u8>> = self.written.range(from..to).cloned().collect();
        for path in &written {
            self.written.remove(path);
        }
        self.root.remove(place).map_err(self.failed("replace", item))
    }

    fn stat(&self, item: &Item, place: &Place) -> Result<fs::Stat, LayerError> {
        fs::statat(&*place.dir, place.name(), AtFlags::SYMLINK_NOFOLLOW).map_err(self.failed("look at", item))
    }

    fn chown(&self, item: &Item, place: &Place) -> Result<(), LayerError> {
        self.give(item, |uid, gid| {
            fs::chownat(&*place.dir, place.name(), uid, gid, AtFlags::SYMLINK_NOFOLLOW)
        })
    }

    /// Changes the owner, if that is asked for.
    fn give(
        &self,
        item: &Item,
        chown: impl Fn(Option<Uid>, Option<Gid>) -> rustix::io::Result<()>,
    ) -> Result<(), LayerError> {
        let given = match self.options.ownership {
            Ownership::Caller => return Ok(()),
            Ownership::Keep => {
                let (uid, gid) = item.owner()?;
                chown(Some(uid), Some(gid))
            }
            Ownership::Here => {
                let (uid, gid) = item.owner()?;
                match chown(Some(uid), Some(gid)) {
                    // "Not mapped", of either.
                    Err(Errno::INVAL) => {
                        let uid =
                            chown(Some(uid), None).or_else(|_| chown(Some(Uid::from_raw(NOBODY)), None));
                        uid.and_then(|()| {
                            chown(None, Some(gid)).or_else(|_| chown(None, Some(Gid::from_raw(NOBODY))))
                        })
                    }
                    given => given,
                }
            }
        };
        given.map_err(self.failed("change the owner of", item))
    }

    fn touch(&self, item: &Item, place: &Place) -> Result<(), LayerError> {
        if self.options.times == Times::Now {
            return Ok(());
        }
        fs::utimensat(&*place.dir, place.name(), &timestamps(item.mtime), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(self.failed("change the time of", item))
    }

    /// Sets modes and times of directories, the deepest first: afterwards some cannot be entered.
    fn finish_dirs(&mut self) -> Result<(), LayerError> {
        self.root.forget();
        let modes = self.root.take_modes();
        for (path, mode) in modes.into_iter().rev() {
            let shown = || self.dir.join(OsStr::from_bytes(&path));
            let fd = match self.root.reopen(&path) {
                // It was removed or replaced since.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                result => result.map_err(LayerError::io("open", shown()))?,
            };
            let mtime = self.times.get(&path).filter(|_| self.options.times == Times::Keep);
            if let Some(&mtime) = mtime {
                fs::futimens(&fd, &timestamps(mtime))
                    .map_err(LayerError::io("change the time of", shown()))?;
            }
            fs::fchmod(&fd, Mode::from_raw_mode(mode))
                .map_err(LayerError::io("change the mode of", shown()))?;
        }
        Ok(())
    }

    fn failed<E: Into<io::Error>>(
        &self,
        action: &'static str,
        item: &Item,
    ) -> impl FnOnce(E) -> LayerError + use<E> {
        let name = item.name.iter().position(|&byte| byte != b'/').unwrap_or(item.name.len());
        let path: PathBuf = self.dir.join(OsStr::from_bytes(&item.name[name..]));
        LayerError::io(action, path)
    }
}

/// Copies until the end, or until more than `limit` bytes came; gives how many.
fn copy(
    data: &mut dyn Read,
    file: &mut File,
    buffer: &mut Vec<u8>,
    limit: u64,
    failed: impl FnOnce(io::Error) -> LayerError,
) -> Result<u64, LayerError> {
    buffer.resize(128 * 1024, 0);
    let mut total = 0;
    loop {
        let got = match data.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            result => result.map_err(LayerError::read)?,
        };
        total += got as u64;
        if got == 0 || total > limit {
            return Ok(total);
        }
        if let Err(error) = file.write_all(&buffer[..got]) {
            return Err(failed(error));
        }
    }
}

fn is_whiteout(stat: &fs::Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

fn parent_of(path: &[u8]) -> &[u8] {
    path.iter().rposition(|&byte| byte == b'/').map_or(b"", |slash| &path[..slash])
}

fn timestamps(mtime: i64) -> Timestamps {
    let time = Timespec { tv_sec: mtime, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

/// Ids of an entry, if the kernel has them.
fn ids(uid: u64, gid: u64) -> Option<(Uid, Gid)> {
    // The highest id means "leave it" to the kernel.
    let id = |id: u64| u32::try_from(id).ok().filter(|&id| id != u32::MAX);
    Some((Uid::from_raw(id(uid)?), Gid::from_raw(id(gid)?)))
}
