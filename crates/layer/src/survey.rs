//! What the file system says of everything below a root, but for what is mounted there: taken before and after something
//! ran, it tells what that changed.
//!
//! No file is read. A file counts as changed when its ctime is another, which no program can set.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Statx, StatxFlags, openat, statx};
use rustix::io::Errno;

use crate::error::LayerError;

/// A tree as it was at some moment, without its root.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// By path below the root.
    pub(crate) entries: BTreeMap<PathBuf, Seen>,
}

/// What is known of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    mode: u32,
    owner: (u32, u32),
    pub(crate) size: u64,
    inode: u64,
    device: (u32, u32),
    mtime: (i64, u32),
    ctime: (i64, u32),
}

impl Seen {
    fn of(stat: &Statx) -> Self {
        Self {
            mode: stat.stx_mode.into(),
            owner: (stat.stx_uid, stat.stx_gid),
            size: stat.stx_size,
            inode: stat.stx_ino,
            device: (stat.stx_rdev_major, stat.stx_rdev_minor),
            mtime: (stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec),
            ctime: (stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec),
        }
    }

    fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.mode)
    }

    pub(crate) fn is_dir(&self) -> bool {
        self.kind() == FileType::Directory
    }

    pub(crate) fn is_file(&self) -> bool {
        self.kind() == FileType::RegularFile
    }

    pub(crate) fn is_socket(&self) -> bool {
        self.kind() == FileType::Socket
    }

    /// Whether nothing changed. A folder is what its mode and owner say; what is in it is seen there.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        if self.is_dir() && other.is_dir() {
            return (self.mode, self.owner) == (other.mode, other.owner);
        }
        self == other
    }
}

impl Survey {
    /// Looks at everything below `root`, but for what is mounted below it and for these paths, which are absolute as seen
    /// from there.
    ///
    /// # Errors
    ///
    /// When something cannot be looked at.
    pub fn of(root: &Path, skip: &BTreeSet<PathBuf>) -> Result<Self, LayerError> {
        let look = |path: &Path| {
            let wanted = StatxFlags::BASIC_STATS | StatxFlags::MNT_ID;
            statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT, wanted)
        };
        let top = look(root).map_err(LayerError::io("look at", root))?;
        let mut survey = Self::default();
        let mut open = vec![PathBuf::new()];
        while let Some(dir) = open.pop() {
            let place = root.join(&dir);
            for name in names(&place).map_err(LayerError::io("list", &place))? {
                let path = dir.join(&name);
                let place = root.join(&path);
                if skip.contains(&Path::new("/").join(&path)) {
                    continue;
                }
                let stat = match look(&place) {
                    // Gone meanwhile.
                    Err(Errno::NOENT) => continue,
                    stat => stat.map_err(LayerError::io("look at", &place))?,
                };
                if mount_of(&stat) != mount_of(&top) {
                    continue;
                }
                let seen = Seen::of(&stat);
                if seen.is_dir() {
                    open.push(path.clone());
                }
                survey.entries.insert(path, seen);
            }
        }
        Ok(survey)
    }
}

/// On which mount something is; kernels before 5.8 say on which device.
fn mount_of(stat: &Statx) -> (u64, u32, u32) {
    (stat.stx_mnt_id, stat.stx_dev_major, stat.stx_dev_minor)
}

fn names(dir: &Path) -> Result<Vec<std::ffi::OsString>, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut names = Vec::new();
    for entry in Dir::read_from(openat(CWD, dir, flags, Mode::empty())?)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") {
            names.push(std::ffi::OsStr::from_bytes(name).to_owned());
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Delta;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    /// Names in the archive of what changed.
    fn changed(root: &Path, change: impl Fn(&Path)) -> Vec<String> {
        let skip = BTreeSet::from([PathBuf::from("/skipped")]);
        let before = Survey::of(root, &skip).unwrap();
        change(root);
        let delta = Delta::between(&before, &Survey::of(root, &skip).unwrap()).unwrap();
        let mut tar = Vec::new();
        delta.write(root, &mut tar).unwrap();
        let mut archive = tar::Archive::new(&tar[..]);
        let entries = archive.entries().unwrap();
        entries.map(|entry| entry.unwrap().path().unwrap().display().to_string()).collect()
    }

    #[test]
    fn what_changed_is_told_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for path in ["etc", "usr/bin", "opt/old/deep", "skipped", "kind"] {
            fs::create_dir_all(root.join(path)).unwrap();
        }
        for path in ["etc/a", "etc/b", "usr/bin/x", "opt/old/deep/file", "kind/file"] {
            fs::write(root.join(path), "1").unwrap();
        }
        assert!(changed(root, |_| {}).is_empty());
        let names = changed(root, |root| {
            fs::write(root.join("etc/a"), "2").unwrap();
            fs::remove_file(root.join("etc/b")).unwrap();
            fs::set_permissions(root.join("usr/bin/x"), fs::Permissions::from_mode(0o755)).unwrap();
            fs::remove_dir_all(root.join("opt/old")).unwrap();
            fs::create_dir(root.join("new")).unwrap();
            symlink("x", root.join("new/link")).unwrap();
            fs::write(root.join("skipped/file"), "").unwrap();
            fs::remove_dir_all(root.join("kind")).unwrap();
            fs::write(root.join("kind"), "a file now").unwrap();
        });
        let expected = [
            "etc",
            "etc/.wh.b",
            "etc/a",
            "kind",
            "new",
            "new/link",
            "opt",
            "opt/.wh.old",
            "usr",
            "usr/bin",
            "usr/bin/x",
        ];
        let mut sorted = names.clone();
        sorted.sort();
        assert_eq!(sorted, expected, "{names:?}");
        // Folders come before what is in them.
        let place = |name: &str| names.iter().position(|other| other == name).unwrap();
        assert!(place("etc") < place("etc/a") && place("new") < place("new/link"));
    }

    #[test]
    fn what_is_mounted_is_not_seen() {
        // Terminals and shared memory are mounted there on most machines.
        let mounted = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let points: Vec<&str> = mounted.lines().filter_map(|line| line.split(' ').nth(4)).collect();
        let below_dev: Vec<&Path> =
            points.iter().filter_map(|point| Path::new(point).strip_prefix("/dev").ok()).collect();
        let survey = Survey::of(Path::new("/dev"), &BTreeSet::new()).unwrap();
        for point in below_dev.into_iter().filter(|point| !point.as_os_str().is_empty()) {
            assert!(!survey.entries.contains_key(point), "{}", point.display());
        }
        assert!(survey.entries.contains_key(Path::new("null")) || points.contains(&"/dev/null"));
    }
}
