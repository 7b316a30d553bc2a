//! What a file system says of a whole tree.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Statx, openat};
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
        bones.add(OsStr::from_bytes(path), &item).map_err(io::Error::other)
    };
    let fingerprint = scan(dir, clock, add).map_err(LayerError::io("look through", dir))?;
    Ok((fingerprint, bones.finish()?))
}

/// Looks at every entry, in the order of an archive, and shows it with its path below the top.
fn scan(
    top: &Path,
    clock: &Clock,
    mut show: impl FnMut(&[u8], &Statx) -> io::Result<()>,
) -> io::Result<Fingerprint> {
    let mut sum =
        Sum { clock, hasher: Hasher::new(), bytes: Vec::new(), entries: 0, newest: Moment::default() };
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let handle = openat(CWD, top, flags, Mode::empty())?;
    let stat = look(&handle, c"", AtFlags::EMPTY_PATH)?;
    sum.add(c"", &stat)?;
    show(b"", &stat)?;
    let mut path = Vec::new();
    let mut open = Vec::new();
    if is_dir(&stat) {
        open.push(Level::open(&handle, c".", 0)?);
    }
    loop {
        let depth = open.len();
        let Some(level) = open.last_mut() else { return Ok(sum.finish()) };
        let Some(name) = level.names.next() else {
            sum.up();
            open.pop();
            continue;
        };
        let stat = look(&level.dir, &name, AtFlags::empty())?;
        sum.add(&name, &stat)?;
        path.truncate(level.path);
        path.extend_from_slice(name.to_bytes());
        show(&path, &stat)?;
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
