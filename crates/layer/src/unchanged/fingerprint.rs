//! What a file system says of a whole tree.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, Statx, Timespec, Timestamps, UTIME_NOW, llistxattr, openat,
    utimensat,
};
use rustix::io::Errno;
use strata_oci::{Digest, Hasher};

use super::clock::{Clock, Moment, device, look};
use crate::error::LayerError;
use crate::source::{Bones, Skeleton, SliceItem, Source};

/// Deeper trees are not looked at: each level has a descriptor open.
const MAX_DEPTH: usize = 400;

/// What a file system says of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    /// Digest of what it says of every entry.
    pub digest: Digest,
    /// How many entries there are, the top included.
    pub entries: u64,
    /// When anything about an entry changed last.
    pub newest: Moment,
}

/// The fingerprint of the tree at `top`, which is on the file system of `clock`; a file is a tree of one entry. Nothing is
/// read but directories; links are not followed.
///
/// # Errors
///
/// When an entry cannot be looked at, is on another file system, or is too deep.
pub fn fingerprint(top: &Path, clock: &Clock) -> Result<Fingerprint, LayerError> {
    scan(top, clock, |_, _| Ok(())).map_err(LayerError::io("look through", top))
}

/// The fingerprint of the tree of a [`Source::Dir`], and the [skeleton](crate::skeleton()) of the archive that it makes, of one
/// and the same look at it.
///
/// # Errors
///
/// As [`fingerprint`], or when it cannot be an archive.
pub fn survey(source: &Source, clock: &Clock) -> Result<(Fingerprint, Skeleton), LayerError> {
    look_over(source, clock, |_, _| Ok(()))
}

/// The same of a tree as extraction makes it; `None` of any other. Such a tree has folders, files and links only, which run as
/// nobody else than whoever runs them, no file of it has another name anywhere, no entry has attributes besides those that an
/// archive tells, and its owner may list and change every folder.
///
/// # Errors
///
/// As [`survey`].
pub fn survey_plain(source: &Source, clock: &Clock) -> Result<Option<(Fingerprint, Skeleton)>, LayerError> {
    let mut is_plain = true;
    let found = look_over(source, clock, |path, stat| {
        let is_alone = is_dir(stat) || stat.stx_nlink == 1;
        let is_open = !is_dir(stat) || stat.stx_mode & 0o700 == 0o700;
        is_plain = is_plain && is_extracted(stat) && is_alone && is_open && !has_attributes(path)?;
        Ok(())
    });
    // What makes no archive is not plain.
    if is_plain { found.map(Some) } else { Ok(None) }
}

/// As [`survey`]; shows each entry with its path.
fn look_over(
    source: &Source,
    clock: &Clock,
    mut show: impl FnMut(&Path, &Statx) -> io::Result<()>,
) -> Result<(Fingerprint, Skeleton), LayerError> {
    let Source::Dir { dir, .. } = source else {
        return Err(LayerError::Read { source: io::ErrorKind::NotADirectory.into() });
    };
    let mut bones = Bones::new(source)?;
    let add = |path: &[u8], stat: &Statx| {
        let item = SliceItem {
            relative: OsString::new(),
            mode: stat.stx_mode.into(),
            size: stat.stx_size,
            device: (stat.stx_rdev_major, stat.stx_rdev_minor),
        };
        show(&dir.join(OsStr::from_bytes(path)), stat)?;
        bones.add(OsStr::from_bytes(path), &item).map_err(io::Error::other)
    };
    let fingerprint = scan(dir, clock, add).map_err(LayerError::io("look through", dir))?;
    Ok((fingerprint, bones.finish()?))
}

/// Gives every entry of a tree the time of now as that of its last change, as if it had just been written.
///
/// # Errors
///
/// As [`fingerprint`], or when a time cannot be set.
pub fn renew(top: &Path) -> Result<(), LayerError> {
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    let now = Timestamps { last_access: now, last_modification: now };
    let renew = |step: Step<'_>| match step {
        Step::Top(_) => Ok(utimensat(CWD, top, &now, AtFlags::SYMLINK_NOFOLLOW)?),
        Step::Entry { dir, name, .. } => Ok(utimensat(dir, name, &now, AtFlags::SYMLINK_NOFOLLOW)?),
        Step::Up => Ok(()),
    };
    walk(top, renew).map_err(LayerError::io("renew", top))
}

/// Whether extraction makes such an entry: no archive has sockets, devices and pipes are refused, and root gets neither
/// setuid nor setgid.
fn is_extracted(stat: &Statx) -> bool {
    let kind = FileType::from_raw_mode(stat.stx_mode.into());
    let is_data = matches!(kind, FileType::Directory | FileType::RegularFile | FileType::Symlink);
    is_data && stat.stx_mode & 0o6000 == 0
}

/// Whether something has extended attributes, but for the label that SELinux gives to everything.
fn has_attributes(path: &Path) -> io::Result<bool> {
    let mut names = [0_u8; 4096];
    // Without its slash, the path of a top that is a link would lead elsewhere.
    let bytes = path.as_os_str().as_bytes();
    match llistxattr(bytes.strip_suffix(b"/").unwrap_or(bytes), &mut names[..]) {
        Ok(length) => {
            let mut names = names.get(..length).unwrap_or_default().split(|byte| *byte == 0);
            Ok(names.any(|name| !name.is_empty() && name != b"security.selinux"))
        }
        Err(Errno::OPNOTSUPP) => Ok(false),
        Err(Errno::RANGE) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// Looks at every entry, in the order of an archive, and shows it with its path below the top.
fn scan(
    top: &Path,
    clock: &Clock,
    mut show: impl FnMut(&[u8], &Statx) -> io::Result<()>,
) -> io::Result<Fingerprint> {
    let mut sum =
        Sum { clock, hasher: Hasher::new(), bytes: Vec::new(), entries: 0, newest: Moment::default() };
    walk(top, |step| match step {
        Step::Top(stat) => {
            sum.add(c"", stat)?;
            show(b"", stat)
        }
        Step::Entry { name, path, stat, .. } => {
            sum.add(name, stat)?;
            show(path, stat)
        }
        Step::Up => {
            sum.up();
            Ok(())
        }
    })?;
    Ok(sum.finish())
}

/// A step of a walk through a tree.
enum Step<'a> {
    /// The top, whatever it is.
    Top(&'a Statx),
    /// An entry below.
    Entry {
        dir: &'a OwnedFd,
        name: &'a CStr,
        /// Its path below the top.
        path: &'a [u8],
        stat: &'a Statx,
    },
    /// The end of a folder.
    Up,
}

/// Goes through a tree in the order of an archive, without following links.
fn walk(top: &Path, mut visit: impl FnMut(Step<'_>) -> io::Result<()>) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let handle = openat(CWD, top, flags, Mode::empty())?;
    let stat = look(&handle, c"", AtFlags::EMPTY_PATH)?;
    visit(Step::Top(&stat))?;
    let mut path = Vec::new();
    let mut open = Vec::new();
    if is_dir(&stat) {
        open.push(Level::open(&handle, c".", 0)?);
    }
    loop {
        let depth = open.len();
        let Some(level) = open.last_mut() else { return Ok(()) };
        let Some(name) = level.names.next() else {
            visit(Step::Up)?;
            open.pop();
            continue;
        };
        let stat = look(&level.dir, &name, AtFlags::empty())?;
        path.truncate(level.path);
        path.extend_from_slice(name.to_bytes());
        visit(Step::Entry { dir: &level.dir, name: &name, path: &path, stat: &stat })?;
        if is_dir(&stat) {
            if depth == MAX_DEPTH {
                return Err(Errno::NAMETOOLONG.into());
            }
            path.push(b'/');
            let inner = Level::open(&level.dir, &name, path.len())?;
            open.push(inner);
        }
    }
}

fn is_dir(stat: &Statx) -> bool {
    FileType::from_raw_mode(stat.stx_mode.into()) == FileType::Directory
}

/// A directory and its entries that are yet to come, in byte order.
struct Level {
    dir: OwnedFd,
    names: std::vec::IntoIter<CString>,
    /// How long the path of the directory is, slash included.
    path: usize,
}

impl Level {
    fn open(above: &OwnedFd, name: &CStr, path: usize) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = openat(above, name, flags, Mode::empty())?;
        let mut names = Vec::new();
        for entry in Dir::read_from(&dir)? {
            let entry = entry?;
            if ![c".", c".."].contains(&entry.file_name()) {
                names.push(entry.file_name().to_owned());
            }
        }
        names.sort_unstable();
        Ok(Self { dir, names: names.into_iter(), path })
    }
}

/// A fingerprint in the making. Every record starts with a mark, and says how long its name is: no two trees have the
/// same bytes.
struct Sum<'a> {
    clock: &'a Clock,
    hasher: Hasher,
    bytes: Vec<u8>,
    entries: u64,
    newest: Moment,
}

impl Sum<'_> {
    fn add(&mut self, name: &CStr, stat: &Statx) -> io::Result<()> {
        if device(stat) != self.clock.device() {
            return Err(Errno::XDEV.into());
        }
        self.entries += 1;
        self.newest = self.newest.max(stat.stx_ctime.into());
        let name = name.to_bytes();
        self.bytes.push(b'+');
        self.bytes.extend_from_slice(&(name.len() as u64).to_le_bytes());
        self.bytes.extend_from_slice(name);
        let numbers = [
            u64::from(stat.stx_mode),
            u64::from(stat.stx_rdev_major),
            u64::from(stat.stx_rdev_minor),
            stat.stx_ino,
            stat.stx_size,
            stat.stx_mtime.tv_sec.cast_unsigned(),
            u64::from(stat.stx_mtime.tv_nsec),
            stat.stx_ctime.tv_sec.cast_unsigned(),
            u64::from(stat.stx_ctime.tv_nsec),
        ];
        numbers.iter().for_each(|number| self.bytes.extend_from_slice(&number.to_le_bytes()));
        if self.bytes.len() > 64 * 1024 {
            self.hasher.update(&self.bytes);
            self.bytes.clear();
        }
        Ok(())
    }

    fn up(&mut self) {
        self.bytes.push(b'-');
    }

    fn finish(mut self) -> Fingerprint {
        let (major, minor) = self.clock.device();
        self.bytes.extend_from_slice(&[major.to_le_bytes(), minor.to_le_bytes()].concat());
        self.hasher.update(&self.bytes);
        Fingerprint { digest: self.hasher.finish(), entries: self.entries, newest: self.newest }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::time::{Duration, SystemTime};

    fn tree() -> (tempfile::TempDir, Clock) {
        let dir = tempfile::tempdir().unwrap();
        let clock =
            Clock::of(dir.path()).unwrap().expect("the tests need ext4, XFS or Btrfs for temporary files");
        let top = dir.path().join("tree");
        fs::create_dir_all(top.join("a/b")).unwrap();
        fs::write(top.join("a/file"), "one").unwrap();
        fs::write(top.join("a/b/file"), "").unwrap();
        symlink("file", top.join("a/link")).unwrap();
        (dir, clock)
    }

    /// What a change does to the fingerprint of a tree past whose newest ctime the clock is.
    #[track_caller]
    fn shows(change: impl FnOnce(&Path)) {
        let (dir, clock) = tree();
        let top = dir.path().join("tree");
        let before = fingerprint(&top, &clock).unwrap();
        assert_eq!((before.entries, fingerprint(&top, &clock).unwrap()), (6, before));
        let passed = clock.pass(before.newest).unwrap().unwrap();
        change(&top);
        let after = fingerprint(&top, &clock).unwrap();
        assert_ne!(before.digest, after.digest);
        assert!(after.newest >= passed && passed > before.newest);
    }

    /// Writes other bytes of the same number, and sets the time back.
    fn write_in_secret(path: &Path) {
        let before = fs::metadata(path).unwrap().modified().unwrap();
        fs::write(path, "two").unwrap();
        fs::File::options().write(true).open(path).unwrap().set_modified(before).unwrap();
    }

    #[test]
    fn every_change_shows_at_once() {
        shows(|top| fs::write(top.join("a/file"), "two").unwrap());
        shows(|top| write_in_secret(&top.join("a/file")));
        shows(|top| fs::set_permissions(top.join("a/b"), PermissionsExt::from_mode(0o700)).unwrap());
        shows(|top| fs::remove_file(top.join("a/b/file")).unwrap());
        shows(|top| fs::rename(top.join("a/file"), top.join("a/b/other")).unwrap());
        shows(|top| fs::hard_link(top.join("a/file"), top.join("hard")).unwrap());
        shows(|top| {
            fs::remove_file(top.join("a/link")).unwrap();
            symlink("elif", top.join("a/link")).unwrap();
        });
        // A copy with all the times of the original.
        shows(|top| {
            let copy = top.with_file_name("copy");
            let status = std::process::Command::new("cp").arg("-a").args([top, &copy]).status().unwrap();
            assert!(status.success());
            fs::remove_dir_all(top).unwrap();
            fs::rename(&copy, top).unwrap();
        });
    }

    #[test]
    fn a_tree_that_is_renewed_is_as_one_that_was_just_written() {
        let (dir, clock) = tree();
        let top = dir.path().join("tree");
        let old = SystemTime::now() - Duration::from_secs(1000);
        let file = fs::File::open(top.join("a/b")).unwrap();
        file.set_modified(old).unwrap();
        let before = clock.pass(fingerprint(&top, &clock).unwrap().newest).unwrap().unwrap();
        renew(&top).unwrap();
        for path in ["", "a", "a/b", "a/b/file", "a/file", "a/link"] {
            let stat = rustix::fs::lstat(top.join(path).as_os_str().as_bytes().trim_ascii_end()).unwrap();
            let changed = Moment::from((stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap()));
            assert!(changed >= before, "{path}");
        }
        assert_eq!(fs::read(top.join("a/file")).unwrap(), b"one");
    }

    #[test]
    fn a_tree_is_plain_if_an_archive_makes_the_same() {
        let plain = |change: &dyn Fn(&Path)| {
            let (dir, clock) = tree();
            let top = dir.path().join("tree");
            change(&top);
            let source =
                Source::Dir { dir: top, as_path: "/tree".into(), owner: crate::Owner::ROOT, parents: vec![] };
            let found = survey_plain(&source, &clock).unwrap();
            assert!(found.is_none_or(|found| found == survey(&source, &clock).unwrap()));
            found.is_some()
        };
        assert!(plain(&|_| {}));
        assert!(plain(
            &|top| fs::set_permissions(top.join("a/file"), PermissionsExt::from_mode(0o000)).unwrap()
        ));
        assert!(!plain(&|top| fs::hard_link(top.join("a/file"), top.with_file_name("other")).unwrap()));
        assert!(!plain(
            &|top| fs::set_permissions(top.join("a/b"), PermissionsExt::from_mode(0o555)).unwrap()
        ));
        for mode in [0o2755, 0o4755, 0o6755] {
            let change =
                |top: &Path| fs::set_permissions(top.join("a/b"), PermissionsExt::from_mode(mode)).unwrap();
            assert!(!plain(&change), "{mode:o}");
        }
        assert!(plain(
            &|top| fs::set_permissions(top.join("a/b"), PermissionsExt::from_mode(0o1755)).unwrap()
        ));
        assert!(!plain(&|top| drop(std::os::unix::net::UnixListener::bind(top.join("a/socket")).unwrap())));
        assert!(!plain(&|top| {
            let mode = Mode::RUSR | Mode::WUSR;
            rustix::fs::mknodat(CWD, top.join("a/pipe"), FileType::Fifo, mode, 0).unwrap();
        }));
        let mark = |path: &Path| {
            rustix::fs::setxattr(path, "user.note", b"x", rustix::fs::XattrFlags::empty()).unwrap();
        };
        assert!(!plain(&|top| mark(&top.join("a/b/file"))));
        assert!(!plain(&|top| mark(top)));
    }

    #[test]
    fn reading_is_no_change() {
        let (dir, clock) = tree();
        let before = fingerprint(dir.path(), &clock).unwrap();
        clock.pass(before.newest).unwrap().unwrap();
        assert_eq!(fs::read(dir.path().join("tree/a/file")).unwrap(), b"one");
        assert_eq!(fingerprint(dir.path(), &clock).unwrap(), before);
    }

    #[test]
    fn a_tree_from_the_future_is_not_waited_for() {
        let (dir, clock) = tree();
        let newest = fingerprint(dir.path(), &clock).unwrap().newest;
        assert!(clock.pass(newest).unwrap().unwrap() > newest);
        let far: Moment = format!("{}.000000000", i64::MAX).parse().unwrap();
        assert_eq!(clock.pass(far).unwrap(), None);
    }

    #[test]
    fn other_file_systems_are_not_looked_into() {
        let (dir, clock) = tree();
        assert!(fingerprint(Path::new("/proc/self/fdinfo"), &clock).is_err());
        assert!(Clock::of(Path::new("/dev/shm")).is_ok_and(|clock| clock.is_none()));
        assert!(fingerprint(&dir.path().join("none"), &clock).is_err());
    }

    #[test]
    fn moments_are_written_and_read() {
        let of = |time: SystemTime| {
            let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap();
            format!("{}.{:09}", since.as_secs(), since.subsec_nanos()).parse::<Moment>().unwrap()
        };
        let epoch = SystemTime::UNIX_EPOCH;
        let (early, late) = (of(epoch + Duration::new(9, 999_999_999)), of(epoch + Duration::new(10, 1)));
        assert!(early < late);
        assert_eq!((early.to_string(), late.to_string()), ("9.999999999".into(), "10.000000001".into()));
        for text in ["", "1", "1.5", "1.1000000000", ".000000000", "1.00000000x", "1.+00000000"] {
            assert!(text.parse::<Moment>().is_err(), "{text}");
        }
    }
}
