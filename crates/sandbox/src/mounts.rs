//! Bind mounts, overlays, and paths that are resolved inside the new root.

use std::ffi::{CStr, OsStr, OsString};
use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Gid, Mode, OFlags, ResolveFlags, StatVfsMountFlags, Uid, chownat, mkdirat, openat, openat2,
};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind_recursive, mount_remount, unmount};

use crate::error::{Doing, Failure};

/// Whether a bind mount can be written through.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    ReadOnly,
    Writable,
}

/// The mount points of this machine, as they were before the sandbox added its own.
pub(crate) struct MountTable(Vec<PathBuf>);

impl MountTable {
    pub(crate) fn load() -> Result<Self, Failure> {
        let path = Path::new("/proc/self/mountinfo");
        Ok(Self::parse(&fs::read(path).doing_to("read", path)?))
    }

    /// Takes the fifth field of each line, see proc_pid_mountinfo(5).
    fn parse(mountinfo: &[u8]) -> Self {
        let points =
            mountinfo.split(|byte| *byte == b'\n').filter_map(|line| line.split(|byte| *byte == b' ').nth(4));
        Self(points.map(|point| PathBuf::from(unescape(point))).collect())
    }

    pub(crate) fn empty() -> Self {
        Self(Vec::new())
    }

    /// The mount points strictly below `path`.
    pub(crate) fn below<'a>(&'a self, path: &'a Path) -> impl Iterator<Item = &'a Path> {
        self.0
            .iter()
            .filter_map(move |point| point.strip_prefix(path).ok())
            .filter(|rest| !rest.as_os_str().is_empty())
    }

    pub(crate) fn has_below(&self, path: &Path) -> bool {
        self.below(path).next().is_some()
    }
}

/// Undoes the `\040` of mountinfo.
fn unescape(text: &[u8]) -> OsString {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        let code = tail.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match (first, code.and_then(|digits| u8::from_str_radix(digits, 8).ok())) {
            (b'\\', Some(byte)) => {
                plain.push(byte);
                rest = &tail[3..];
            }
            _ => {
                plain.push(*first);
                rest = tail;
            }
        }
    }
    OsString::from_vec(plain)
}

/// Binds `source`, with all that is mounted below it, on `target`.
pub(crate) fn bind(table: &MountTable, source: &Path, target: &Path, access: Access) -> Result<(), Failure> {
    mount_bind_recursive(source, target).doing_to("bind", source)?;
    restrict(target, access).doing_to("restrict the mount of", source)?;
    for rest in table.below(source) {
        tolerate_covered(restrict(&target.join(rest), access))
            .doing_to("restrict the mount of", &source.join(rest))?;
    }
    Ok(())
}

/// A mount that another one covers cannot be reached, neither by us nor by anybody else inside.
fn tolerate_covered(outcome: Result<(), Errno>) -> Result<(), Errno> {
    match outcome {
        Err(Errno::NOENT | Errno::NOTDIR | Errno::INVAL | Errno::ACCESS) => Ok(()),
        other => other,
    }
}

/// Remounts with less: never set-uid, never devices. The flags that are there stay, since they are locked.
fn restrict(target: &Path, access: Access) -> Result<(), Errno> {
    let present = rustix::fs::statvfs(target)?.f_flag;
    let mut flags = MountFlags::BIND | MountFlags::NOSUID | MountFlags::NODEV;
    if present.contains(StatVfsMountFlags::NOEXEC) {
        flags |= MountFlags::NOEXEC;
    }
    if access == Access::ReadOnly || present.contains(StatVfsMountFlags::RDONLY) {
        flags |= MountFlags::RDONLY;
    }
    mount_remount(target, flags, c"")
}

/// Who owns what a sandbox makes for itself, where it makes the system's directories.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Maker {
    /// The one user that there is.
    Caller,
    /// Root, as in an image.
    Root,
}

impl Maker {
    /// Gives away what was just made.
    pub(crate) fn own(self, made: impl AsFd, path: &Path) -> Result<(), Failure> {
        match self {
            Self::Caller => Ok(()),
            Self::Root => chownat(made, c"", Some(Uid::ROOT), Some(Gid::ROOT), AtFlags::EMPTY_PATH)
                .doing_to("give to root", path),
        }
    }

    /// The same for what has a path.
    pub(crate) fn own_path(self, path: &Path) -> Result<(), Failure> {
        match self {
            Self::Caller => Ok(()),
            Self::Root => chownat(CWD, path, Some(Uid::ROOT), Some(Gid::ROOT), AtFlags::SYMLINK_NOFOLLOW)
                .doing_to("give to root", path),
        }
    }
}

/// Mounts an empty tmpfs.
pub(crate) fn tmpfs(target: &Path, options: &CStr) -> Result<(), Failure> {
    mount("tmpfs", target, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, options)
        .doing_to("mount a tmpfs on", target)
}

/// Makes overlays whose changes go to a directory of their own, in the scratch directory or in memory.
pub(crate) struct Overlays {
    maker: Maker,
    base: PathBuf,
    count: usize,
    state: Uppers,
}

/// Where the upper directories are.
enum Uppers {
    OnDisk,
    /// The disk is one that overlayfs refuses, such as another overlay.
    InMemory,
    /// Overlayfs refuses memory too, for this reason.
    Refused(String),
}

impl Overlays {
    /// Finds out, with an overlay of nothing, where the upper directories can be.
    pub(crate) fn new(scratch: &Path, maker: Maker) -> Result<Self, Failure> {
        let base = scratch.join("overlays");
        let trial = scratch.join("trial");
        for directory in [&base, &trial] {
            fs::create_dir(directory).doing_to("create", directory)?;
        }
        let mut overlays = Self { maker, base, count: 0, state: Uppers::OnDisk };
        if overlays.attempt(&[&trial], &trial, 0o755).is_err() {
            tmpfs(&overlays.base, c"mode=700")?;
            overlays.state = Uppers::InMemory;
            if let Err(failure) = overlays.attempt(&[&trial], &trial, 0o755) {
                overlays.state = Uppers::Refused(failure.message);
                return Ok(overlays);
            }
        }
        unmount(&trial, UnmountFlags::DETACH).doing_to("unmount", &trial)?;
        Ok(overlays)
    }

    /// Overlays `lowers`, the topmost first, on `target`. The root of the overlay has the mode given.
    pub(crate) fn mount(&mut self, lowers: &[&Path], target: &Path, mode: u32) -> Result<(), Failure> {
        match &self.state {
            Uppers::Refused(why) => Err(Failure::new(why.clone())),
            Uppers::OnDisk | Uppers::InMemory => self.attempt(lowers, target, mode),
        }
    }

    /// The upper directory of the overlay that was mounted last.
    pub(crate) fn last_upper(&self) -> PathBuf {
        self.base.join(self.count.saturating_sub(1).to_string()).join("u")
    }

    fn attempt(&mut self, lowers: &[&Path], target: &Path, mode: u32) -> Result<(), Failure> {
        let home = self.base.join(self.count.to_string());
        self.count += 1;
        fs::create_dir(&home).doing_to("create", &home)?;
        overlay(&home, lowers, target, Upper::Mode(mode, self.maker))
    }
}

/// Where changes to an overlay go.
#[derive(Clone, Copy)]
pub(crate) enum Upper {
    /// Nowhere: it is read-only.
    None,
    /// To `u` in its home. The root of the overlay has this mode and this owner.
    Mode(u32, Maker),
}

/// Overlays `lowers`, the topmost first, on `target`. `home` is a folder of this overlay, or of two with the same lowers.
pub(crate) fn overlay(home: &Path, lowers: &[&Path], target: &Path, upper: Upper) -> Result<(), Failure> {
    // Short relative names: the options must fit on a page, and need no escapes. Volatile: nobody needs what was written
    // after a crash, and the end of the overlay would wait for all that its file system has yet to write.
    let mut options = String::from("userxattr");
    if let Upper::Mode(mode, maker) = upper {
        let (upper, work) = (home.join("u"), home.join("w"));
        for directory in [&upper, &work] {
            fs::create_dir(directory).doing_to("create", directory)?;
        }
        fs::set_permissions(&upper, fs::Permissions::from_mode(mode & 0o7777))
            .doing_to("change the mode of", &upper)?;
        maker.own_path(&upper)?;
        options.push_str(",volatile,upperdir=u,workdir=w");
    }
    options.push_str(",lowerdir=");
    for (index, lower) in lowers.iter().enumerate() {
        let link = home.join(index.to_string());
        match symlink(lower, &link) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            made => made.doing_to("create", &link)?,
        }
        options.push_str(&format!("{}{index}", if index == 0 { "" } else { ":" }));
    }
    std::env::set_current_dir(home).doing_to("change to", home)?;
    let options = std::ffi::CString::new(options).doing("name the layers")?;
    let named = lowers.first().copied().unwrap_or(target);
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    let mounted = mount("overlay", target, "overlay", flags, options.as_c_str()).doing_to("overlay", named);
    std::env::set_current_dir("/").doing("change to /")?;
    mounted
}

/// The new root before it is `/`: paths in it are resolved as they will be from inside.
pub(crate) struct NewRoot {
    root: OwnedFd,
    pub(crate) maker: Maker,
}

const RESOLVE: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);

impl NewRoot {
    pub(crate) fn open(path: &Path, maker: Maker) -> Result<Self, Failure> {
        let root =
            openat(rustix::fs::CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        Ok(Self { root: root.doing_to("open", path)?, maker })
    }

    /// Binds `source`, with all that is mounted below it, at a path that is made where missing.
    pub(crate) fn bind(
        &self,
        table: &MountTable,
        source: &Path,
        inside: &Path,
        access: Access,
    ) -> Result<(), Failure> {
        let place = if source.is_dir() { self.directory(inside)? } else { self.file(inside)? };
        mount_bind_recursive(source, place.path()).doing_to("bind", source)?;
        // The place itself now lies under the mount, so the path is walked again.
        restrict(&self.walk(inside).map(Place)?.path(), access).doing_to("restrict the mount of", source)?;
        for rest in table.below(source) {
            if let Some(place) = self.existing(&inside.join(rest)) {
                tolerate_covered(restrict(&place.path(), access))
                    .doing_to("restrict the mount of", &source.join(rest))?;
            }
        }
        Ok(())
    }

    /// Binds one device over a file that is there. It can be written to as ever, but its mode and owner cannot be
    /// changed: the caller may be the machine's root, whose device it is.
    pub(crate) fn bind_device(&self, source: &Path, inside: &Path) -> Result<(), Failure> {
        let place = self.file(inside)?;
        rustix::mount::mount_bind(source, place.path()).doing_to("bind", source)?;
        let place = self.walk(inside).map(Place)?;
        let present = rustix::fs::statvfs(place.path()).doing_to("look at the mount of", source)?.f_flag;
        let mut flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID;
        if present.contains(StatVfsMountFlags::NOEXEC) {
            flags |= MountFlags::NOEXEC;
        }
        mount_remount(place.path(), flags, c"").doing_to("restrict the mount of", source)
    }

    /// Opens a directory, making it and its parents where missing.
    pub(crate) fn directory(&self, inside: &Path) -> Result<Place, Failure> {
        let mut prefix = PathBuf::from("/");
        let mut current = self.walk(&prefix)?;
        for component in inside.components() {
            match component {
                Component::RootDir | Component::CurDir => continue,
                Component::Normal(name) => {
                    prefix.push(name);
                    let made = mkdirat(&current, name, Mode::from(0o755));
                    match made {
                        Ok(()) | Err(Errno::EXIST) => {}
                        // Those that exist are told from those that cannot be made by opening them.
                        Err(Errno::ACCESS | Errno::ROFS | Errno::PERM) if self.walk(&prefix).is_ok() => {}
                        Err(errno) => return Err(errno).doing_to("create, inside the sandbox,", &prefix),
                    }
                    current = self.walk(&prefix)?;
                    if made.is_ok() {
                        self.maker.own(&current, &prefix)?;
                    }
                }
                Component::ParentDir | Component::Prefix(_) => {
                    return Err(Failure::new(format!(
                        "cannot mount on {}: the path is not plain",
                        inside.display()
                    )));
                }
            }
        }
        Ok(Place(current))
    }

    /// Opens a file, making it and its parents where missing. A dangling symlink is replaced.
    pub(crate) fn file(&self, inside: &Path) -> Result<Place, Failure> {
        if let Some(place) = self.existing(inside) {
            return Ok(place);
        }
        let (Some(parent), Some(name)) = (inside.parent(), inside.file_name()) else {
            return Err(Failure::new(format!("cannot mount on {}: it is not a file", inside.display())));
        };
        let Place(directory) = self.directory(parent)?;
        match rustix::fs::unlinkat(&directory, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno).doing_to("replace, inside the sandbox,", inside),
        }
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::WRONLY | OFlags::CLOEXEC;
        let file = openat(&directory, name, flags, Mode::from(0o644))
            .doing_to("create, inside the sandbox,", inside)?;
        self.maker.own(&file, inside)?;
        Ok(Place(file))
    }

    /// Opens what is at a path, if anything.
    pub(crate) fn existing(&self, inside: &Path) -> Option<Place> {
        // Whatever forbids to open it shows again, with a reason, when it is created.
        self.walk(inside).ok().map(Place)
    }

    fn walk(&self, inside: &Path) -> Result<OwnedFd, Failure> {
        let relative = inside.strip_prefix("/").unwrap_or(inside);
        let relative =
            if relative.as_os_str().is_empty() { OsStr::from_bytes(b".") } else { relative.as_os_str() };
        let opened = openat2(&self.root, relative, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), RESOLVE);
        opened.doing_to("open, inside the sandbox,", inside)
    }
}

/// An open file or directory of the new root, to mount on.
pub(crate) struct Place(pub(crate) OwnedFd);

impl Place {
    /// A path that leads there until this value is dropped.
    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.0.as_raw_fd()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_unescaped_and_found_strictly_below_a_path() {
        let table = MountTable::parse(b"1 0 8:1 / / rw - ext4 a rw\n2 1 8:1 / /mnt/a\\040b rw - ext4 a rw\n");
        assert!(table.has_below(Path::new("/mnt")));
        assert!(table.has_below(Path::new("/")));
        assert!(!table.has_below(Path::new("/mnt/a b")));
        assert!(!table.has_below(Path::new("/mn")));
    }
}
