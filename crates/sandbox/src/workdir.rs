//! The temporary directory of one build, and the removal of those whose build is gone.
//!
//! A directory belongs to a living build while the build holds a lock on it; the kernel drops the lock when the
//! build ends, however it ends. To remove a large one takes seconds on some disks, for which nobody has to wait: a
//! process that stays behind can do it, and has the lock until it is done.

use std::ffi::{CStr, CString};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, Dir, FlockOperation, Mode, OFlags, flock, openat, renameat, unlinkat};
use rustix::io::Errno;

use crate::parent::remove_with;
use crate::stage::close_on_exec;
use crate::{Ids, SandboxError};

/// The temporary directory of one build. It is removed when dropped, whatever the modes of what it holds.
#[derive(Debug)]
pub struct WorkDir {
    path: PathBuf,
    /// Held for its lock; taken when the directory is gone.
    lock: Option<File>,
    /// Whether another process may go on with the removal.
    is_handed_over: bool,
}

/// What became of work directories whose build is gone.
#[derive(Debug, Default)]
pub struct Swept {
    /// How many were removed.
    pub removed: usize,
    /// Why others are still there: they may have files of ids that the caller does not have here.
    pub left: Vec<SandboxError>,
}

impl WorkDir {
    /// Where work directories go unless the user says otherwise: a disk, not memory.
    pub const DEFAULT_PARENT: &'static str = "/var/tmp";

    /// Makes `strata-<uid>-XXXXXX` in `parent`, accessible to the user alone.
    pub fn new(parent: &Path) -> Result<Self, SandboxError> {
        let failed = |source| SandboxError::WorkDir {
            action: "make a work directory in",
            path: parent.to_owned(),
            source,
        };
        loop {
            let path = tempfile::Builder::new()
                .prefix(&prefix())
                .rand_bytes(6)
                .tempdir_in(parent)
                .map_err(failed)?
                .keep();
            let lock = match File::open(&path) {
                Ok(lock) => lock,
                // Another build's sweep came between the making and the locking.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(failed(error)),
            };
            flock(&lock, FlockOperation::LockExclusive).map_err(|errno| failed(errno.into()))?;
            if is_same(&path, &lock).map_err(failed)? {
                return Ok(Self { path, lock: Some(lock), is_handed_over: false });
            }
        }
    }

    /// Has a process that stays behind remove it, if that takes long. Only for programs that call
    /// [`enter_if_asked`](crate::enter_if_asked).
    #[must_use]
    pub fn handed_over(mut self) -> Self {
        self.is_handed_over = true;
        self
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes it now, or has that [done](Self::handed_over), and says whether that worked as far as one waited.
    pub fn close(mut self) -> Result<(), SandboxError> {
        self.remove()
    }

    /// Removes what builds of this user that are no longer alive left in `parent`. One that cannot be removed is no
    /// reason not to build: it is in what is returned.
    pub fn sweep(parent: &Path) -> Result<Swept, SandboxError> {
        let failed = |source| SandboxError::WorkDir {
            action: "look for left-over work directories in",
            path: parent.to_owned(),
            source,
        };
        let own = rustix::process::geteuid().as_raw();
        let mut swept = Swept::default();
        for entry in fs::read_dir(parent).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if !entry.file_name().as_bytes().starts_with(prefix().as_bytes()) {
                continue;
            }
            let opened = openat(
                rustix::fs::CWD,
                entry.path(),
                OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
                Mode::empty(),
            );
            // Gone meanwhile, not a directory, or of somebody else who took our name.
            let Ok(directory) = opened.map(File::from) else { continue };
            if directory.metadata().map_err(failed)?.uid() != own {
                continue;
            }
            if flock(&directory, FlockOperation::NonBlockingLockExclusive).is_ok() {
                match remove_all(&entry.path()) {
                    Ok(()) => swept.removed += 1,
                    Err(error) => swept.left.push(error),
                }
            }
        }
        Ok(swept)
    }

    fn remove(&mut self) -> Result<(), SandboxError> {
        // The lock is dropped after the removal, so that no sweep meets a half-removed directory.
        let Some(lock) = self.lock.take() else { return Ok(()) };
        if self.is_handed_over && self.hand_over(&lock) {
            return Ok(());
        }
        remove_all(&self.path)
    }

    /// Removes what can be removed at once, and starts a process for the rest; `false` when that cannot be.
    fn hand_over(&self, lock: &File) -> bool {
        let Ok(name) = CString::new(self.path.as_os_str().as_bytes()) else { return false };
        if let Some(root) = open_dir(rustix::fs::CWD, &name) {
            Crew::of(root, Some(Instant::now() + AT_ONCE)).empty();
        }
        if unlinkat(rustix::fs::CWD, name.as_c_str(), AtFlags::REMOVEDIR).is_ok() {
            return true;
        }
        // Standard input is the lock, which the process has from its very start.
        let Ok(lock) = lock.try_clone() else { return false };
        // The first process starts the second and ends, so that nobody here has to wait for the one that removes.
        remover_command(&self.path, START).stdin(lock).status().is_ok_and(|status| status.success())
    }
}

/// The hidden argument with which a program starts itself to remove the directory of a build that is done.
pub(crate) const REMOVE_ARG: &str = "__strata-remove";
/// What follows the path for the process that starts the one that removes, and for that one.
const START: &str = "start";
const REMOVE: &str = "remove";
/// How long a build waits for the removal of its directory before another process goes on with it.
const AT_ONCE: Duration = Duration::from_millis(25);
/// How much that process gives way to others.
const NICE: i32 = 10;

/// This program as a remover. It outlives the build, and so has nothing of the build's environment, where credentials
/// may be.
fn remover_command(path: &Path, what: &str) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("strata-remove").arg(REMOVE_ARG).arg(path).arg(what).current_dir("/");
    command.env_clear().stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// The processes that go on with a removal: one that starts the other and ends, and the other. Standard input is the
/// lock on the directory.
pub(crate) fn remover(path: &Path, what: &str) -> i32 {
    let is_ours = path.file_name().is_some_and(|name| name.as_bytes().starts_with(prefix().as_bytes()));
    let Ok(lock) = std::io::stdin().as_fd().try_clone_to_owned().map(File::from) else { return 1 };
    if !is_ours || !is_same(path, &lock).unwrap_or_default() {
        return 1;
    }
    if what == START {
        // Locks and pipes of whoever called the build would be held until all is removed.
        let is_alone = close_on_exec().is_ok();
        return i32::from(!is_alone || remover_command(path, REMOVE).spawn().is_err());
    }
    // A terminal that is closed does not end it. Whatever does, the next build removes what is left.
    rustix::process::setsid().map(|_| ()).unwrap_or_default();
    rustix::process::nice(NICE).unwrap_or_default();
    i32::from(remove_all(path).is_err())
}

impl Drop for WorkDir {
    fn drop(&mut self) {
        // There is nobody to tell, and the next sweep tries again.
        drop(self.remove());
    }
}

fn prefix() -> String {
    format!("strata-{}-", rustix::process::geteuid().as_raw())
}

fn is_same(path: &Path, open: &File) -> io::Result<bool> {
    let open = open.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(named) => Ok((named.dev(), named.ino()) == (open.dev(), open.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes a directory and all below it, also what belongs to other ids of the caller's ranges: sandboxes leave such files.
pub fn remove_all(path: &Path) -> Result<(), SandboxError> {
    let failed = |source| SandboxError::WorkDir { action: "remove", path: path.to_owned(), source };
    match remove_tree(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            // Without ranges there is nothing that others own, and the first reason is the whole one.
            let Ok(ids) = Ids::everybody() else { return Err(failed(error)) };
            let ended = remove_with(ids, path)?;
            debug_assert!(ended.is_success(), "a removal that fails is an error of the setup");
            Ok(())
        }
        other => other.map_err(failed),
    }
}

/// Removes a directory and all below it, without following symlinks, giving itself the right to where it lacks it.
pub(crate) fn remove_tree(path: &Path) -> io::Result<()> {
    let name = CString::new(path.as_os_str().as_bytes())?;
    // What it cannot do, the second pass meets again, and reports.
    if let Some(root) = open_dir(rustix::fs::CWD, &name) {
        Crew::of(root, None).empty();
    }
    Ok(remove_at(rustix::fs::CWD, &name)?)
}

/// Threads that empty a directory. A file system that tells its disk of every removal makes the one who removes wait;
/// who waits in several places at once is done many times sooner.
struct Crew {
    root: OwnedFd,
    /// Whether some were too deep and are in the root now.
    moved: AtomicBool,
    /// For their names.
    names: AtomicU64,
    work: Mutex<Work>,
    wake: Condvar,
    /// When they stop, done or not.
    until: Option<Instant>,
}

#[derive(Default)]
struct Work {
    /// Directories that an idle thread may take, and how deep they are; never more than there are idle ones.
    offered: Vec<(OwnedFd, usize)>,
    idle: usize,
    busy: usize,
}

/// Threads of a crew.
const HANDS: usize = 8;
/// How deep a thread goes, each level with two files open and a bit of its stack.
const DEEPEST: usize = 24;

impl Crew {
    fn of(root: OwnedFd, until: Option<Instant>) -> Self {
        let (work, wake) = (Mutex::default(), Condvar::new());
        Self { root, moved: false.into(), names: 0.into(), work, wake, until }
    }

    fn is_late(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() > until)
    }

    /// Removes all files below, and the directories that nobody is busy in.
    fn empty(&self) {
        loop {
            self.moved.store(false, Ordering::Relaxed);
            let Ok(root) = self.root.try_clone() else { return };
            self.work().offered.push((root, 0));
            std::thread::scope(|scope| {
                for _ in 0..HANDS {
                    // Without a thread, those that are there do it all, and without any the second pass does.
                    drop(std::thread::Builder::new().spawn_scoped(scope, || self.take_part()));
                }
            });
            if !self.moved.load(Ordering::Relaxed) || self.is_late() {
                return;
            }
        }
    }

    fn work(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_part(&self) {
        let mut work = self.work();
        loop {
            if let Some((directory, depth)) = work.offered.pop() {
                work.busy += 1;
                drop(work);
                self.empty_one(&directory, depth);
                work = self.work();
                work.busy -= 1;
            } else if work.busy == 0 {
                self.wake.notify_all();
                return;
            } else {
                work.idle += 1;
                work = self.wake.wait(work).unwrap_or_else(PoisonError::into_inner);
                work.idle -= 1;
            }
        }
    }

    fn empty_one(&self, directory: &OwnedFd, depth: usize) {
        let Ok(entries) = Dir::read_from(directory) else { return };
        for entry in entries.filter_map(Result::ok) {
            if self.is_late() {
                return;
            }
            let name = entry.file_name();
            if [c".", c".."].contains(&name) || unlinkat(directory, name, AtFlags::empty()).is_ok() {
                continue;
            }
            let Some(below) = open_dir(directory, name) else { continue };
            if depth >= DEEPEST {
                let number = self.names.fetch_add(1, Ordering::Relaxed);
                if renameat(directory, name, &self.root, format!(".deep-{number}")).is_ok() {
                    self.moved.store(true, Ordering::Relaxed);
                }
                continue;
            }
            let Some(below) = self.offer(below, depth + 1) else { continue };
            self.empty_one(&below, depth + 1);
            drop(below);
            // Somebody else may be busy in it still.
            unlinkat(directory, name, AtFlags::REMOVEDIR).unwrap_or_default();
        }
    }

    /// Hands a directory to a thread that has nothing to do; gives it back where there is none.
    fn offer(&self, directory: OwnedFd, depth: usize) -> Option<OwnedFd> {
        let mut work = self.work();
        if work.offered.len() >= work.idle {
            return Some(directory);
        }
        work.offered.push((directory, depth));
        self.wake.notify_one();
        None
    }
}

/// A directory, after giving its owner all rights to it; none if it is something else or not the caller's.
fn open_dir(parent: impl AsFd, name: &CStr) -> Option<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let handle = openat(&parent, name, OFlags::PATH | flags, Mode::empty()).ok()?;
    let by_handle = format!("/proc/self/fd/{}", handle.as_raw_fd());
    rustix::fs::chmod(by_handle.as_str(), Mode::RWXU).ok()?;
    openat(&handle, c".", OFlags::RDONLY | flags, Mode::empty()).ok()
}

fn remove_at(parent: impl AsFd, name: &CStr) -> Result<(), Errno> {
    match unlinkat(&parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(errno) => return Err(errno),
    }
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let handle = openat(&parent, name, OFlags::PATH | flags, Mode::empty())?;
    let by_handle = format!("/proc/self/fd/{}", handle.as_raw_fd());
    rustix::fs::chmod(by_handle.as_str(), Mode::RWXU)?;
    let directory = openat(&handle, c".", OFlags::RDONLY | flags, Mode::empty())?;
    for entry in Dir::read_from(&directory)? {
        let entry = entry?;
        if ![c".", c".."].contains(&entry.file_name()) {
            remove_at(&directory, entry.file_name())?;
        }
    }
    match unlinkat(&parent, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn removes_trees_whatever_they_are_like() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("kept"), "").unwrap();
        let parent = tempfile::tempdir().unwrap();
        let tree = parent.path().join("tree");
        for dir in 0..50 {
            let below = tree.join(format!("{}/{dir}/more", dir % 7));
            fs::create_dir_all(&below).unwrap();
            for file in 0..20 {
                fs::write(below.join(file.to_string()), "").unwrap();
            }
            symlink(outside.path(), below.join("link")).unwrap();
            fs::set_permissions(&below, fs::Permissions::from_mode(0o000)).unwrap();
        }
        remove_tree(&tree).unwrap();
        assert!(!tree.exists());
        assert!(outside.path().join("kept").exists());
        remove_tree(&tree).unwrap();
    }

    #[test]
    fn removes_very_deep_trees_and_single_files() {
        let parent = tempfile::tempdir().unwrap();
        let tree = parent.path().join("tree");
        fs::create_dir(&tree).unwrap();
        let mut at = File::open(&tree).unwrap();
        for _ in 0..3000 {
            rustix::fs::mkdirat(&at, c"d", Mode::RWXU).unwrap();
            at = openat(&at, c"d", OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap().into();
        }
        drop(at);
        remove_tree(&tree).unwrap();
        assert!(!tree.exists());
        let file = parent.path().join("file");
        fs::write(&file, "").unwrap();
        remove_tree(&file).unwrap();
        assert!(!file.exists());
    }
}
