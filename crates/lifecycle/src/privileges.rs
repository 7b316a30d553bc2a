//! From root to the user of the build: who owns the directories, and who the process is.
//!
//! Nothing here follows a symbolic link below a directory whose owner is changed: a buildpack of an earlier build may
//! have put one there.

use rustix::fs::{AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, Stat, Uid, chownat, openat, statat};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, getgid, getuid, set_dumpable_behavior};
use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use strata_decide::inputs::Inputs;
use strata_phases::Failure;
use strata_phases::files::{self, Links};
use strata_spec::exit::Exit;
use strata_spec::phase::Phase;

/// Where the extender of an extended image works.
pub(crate) const KANIKO_DIR: &str = "/kaniko";
/// The largest `/etc/passwd` that is read, in bytes.
const MAX_PASSWD: usize = 4 * 1024 * 1024;

/// A user of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    /// The login name.
    pub(crate) name: String,
    /// The home directory.
    pub(crate) home: PathBuf,
}

/// Gives the phase's directories to the user of the build and becomes that user. The creator's result is that user:
/// buildpacks get a home of their own.
///
/// The process must have one thread only: the kernel changes the ids of one thread, and the others would stay root.
///
/// # Errors
/// When detector or builder are root, or a step is not permitted.
pub(crate) fn apply(phase: Phase, inputs: &Inputs) -> Result<Option<User>, Failure> {
    let Inputs { uid, gid, .. } = *inputs;
    if matches!(phase, Phase::Detect | Phase::Build | Phase::Create) {
        keep_to_oneself().map_err(|error| {
            Failure::caused(Exit::Other, "failed to hide credentials from buildpacks", &error)
        })?;
    }
    match phase {
        Phase::Detect | Phase::Build if is_root() => {
            let message = format!("failed to {}: refusing to run as root", phase.subcommand());
            return Err(Failure::new(Exit::Other, message)
                .hint("run the container as the user of the build image, not as root"));
        }
        Phase::Detect | Phase::Build | Phase::Extend => return Ok(None),
        _ => {}
    }
    let fail = |action: String, error: io::Error| {
        Failure::caused(Exit::Other, format!("failed to {action}"), &error)
    };
    ensure_owner(uid, gid, &owned_dirs(phase, inputs))
        .map_err(|error| fail("chown volumes".into(), error))?;
    wait_for_one_thread().and_then(|()| run_as(uid, gid)).map_err(|error| {
        fail(format!("exec as user {uid}:{gid}"), error)
            .hint("CNB_USER_ID and CNB_GROUP_ID, or -uid and -gid, say who the user of the build is")
    })?;
    if phase != Phase::Create {
        return Ok(None);
    }
    let action = format!("set environment for user {uid}");
    user_of(uid).map(Some).map_err(|error| fail(action, error))
}

/// Gives the layers directory to the user of the build, and becomes that user: from the extender, which is root, to the
/// builder, which must not be.
///
/// # Errors
/// When the user is root, or a step is not permitted.
pub(crate) fn become_builder(inputs: &Inputs) -> Result<User, Failure> {
    let Inputs { uid, gid, .. } = *inputs;
    let fail = |action: String, error: io::Error| {
        Failure::caused(Exit::Other, format!("failed to {action}"), &error)
    };
    ensure_owner(uid, gid, &[&inputs.layers_dir]).map_err(|error| fail("chown volumes".into(), error))?;
    wait_for_one_thread()
        .and_then(|()| run_as(uid, gid))
        .map_err(|error| fail(format!("exec as user {uid}:{gid}"), error))?;
    if is_root() {
        let message = "failed to build: refusing to run as root";
        return Err(Failure::new(Exit::Other, message)
            .hint("CNB_USER_ID and CNB_GROUP_ID, or -uid and -gid, say who the user of the build is"));
    }
    keep_to_oneself().map_err(|error| {
        Failure::caused(Exit::Other, "failed to hide credentials from buildpacks", &error)
    })?;
    user_of(uid).map_err(|error| fail(format!("set environment for user {uid}"), error))
}

/// The directories that must belong to the user of the build.
fn owned_dirs(phase: Phase, inputs: &Inputs) -> Vec<&Path> {
    let layers = Some(inputs.layers_dir.as_path());
    let cache = inputs.cache_dir.as_deref();
    let launch_cache = inputs.launch_cache_dir.as_deref();
    let dirs = match phase {
        Phase::Analyze | Phase::Create => [layers, cache, launch_cache],
        Phase::Restore => [layers, cache, Some(Path::new(KANIKO_DIR))],
        Phase::Export => [cache, launch_cache, None],
        Phase::Detect | Phase::Build | Phase::Extend | Phase::Rebase => [None; 3],
    };
    dirs.into_iter().flatten().collect()
}

/// Keeps buildpacks, which may be the same user, from reading this process's environment and memory: credentials are
/// there.
fn keep_to_oneself() -> io::Result<()> {
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// Whether the process is root.
pub(crate) fn is_root() -> bool {
    getuid().is_root()
}

/// Gives directories and all that is in them to a user, unless that user can write to the directory already: then the
/// contents are taken to be right, too. What does not exist is left out.
///
/// # Errors
/// When it is not permitted.
pub(crate) fn ensure_owner(uid: u32, gid: u32, paths: &[&Path]) -> io::Result<()> {
    for path in paths {
        let io_error = |error: Errno| at(path, error);
        let stat = match statat(CWD, *path, AtFlags::empty()) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => continue,
            Err(error) => return Err(io_error(error)),
        };
        if can_write(uid, gid, &stat) {
            continue;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = openat(CWD, *path, flags, Mode::empty()).map_err(io_error)?;
        rustix::fs::fchown(&dir, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))).map_err(io_error)?;
        own_contents(&dir, path, Uid::from_raw(uid), Gid::from_raw(gid))?;
    }
    Ok(())
}

fn can_write(uid: u32, gid: u32, stat: &Stat) -> bool {
    let mode = Mode::from_raw_mode(stat.st_mode);
    stat.st_uid == uid || (stat.st_gid == gid && mode.contains(Mode::WGRP)) || mode.contains(Mode::WOTH)
}

/// Descends with a list of folders to come, not by calling itself: a tree may be deeper than there are descriptors.
fn own_contents(top: &OwnedFd, path: &Path, uid: Uid, gid: Gid) -> io::Result<()> {
    let mut pending = vec![PathBuf::new()];
    while let Some(tail) = pending.pop() {
        let shown = path.join(&tail);
        let dir = open_below(top, &tail).map_err(|error| at(&shown, error))?;
        for name in names_in(&dir).map_err(|error| at(&shown, error))? {
            let inner = Path::new(OsStr::from_bytes(name.as_bytes()));
            let io_error = |error| at(&shown.join(inner), error);
            chownat(&dir, &name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).map_err(io_error)?;
            let stat = statat(&dir, &name, AtFlags::SYMLINK_NOFOLLOW).map_err(io_error)?;
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                pending.push(tail.join(inner));
            }
        }
    }
    Ok(())
}

/// Opens a folder by a path of any length, one part after the other, without following links.
fn open_below(top: &OwnedFd, tail: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    tail.iter().try_fold(openat(top, ".", flags, Mode::empty())?, |dir, name| {
        openat(&dir, name, flags, Mode::empty())
    })
}

fn names_in(dir: &OwnedFd) -> Result<Vec<CString>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        if ![&b"."[..], b".."].contains(&entry.file_name().to_bytes()) {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}

fn at(path: &Path, error: Errno) -> io::Error {
    let error = io::Error::from(error);
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Becomes a user for good, and leaves all groups but that user's. Nothing happens when the process is that user.
///
/// # Errors
/// When it is not permitted.
fn run_as(uid: u32, gid: u32) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    if getuid() == uid && getgid() == gid {
        return Ok(());
    }
    rustix::thread::set_thread_groups(&[gid])?;
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)?;
    Ok(())
}

/// Looking up the address of a registry takes a thread, which is about to end when there is an answer.
fn wait_for_one_thread() -> io::Result<()> {
    const PATIENCE: Duration = Duration::from_secs(5);
    let start = Instant::now();
    loop {
        let threads = match std::fs::read_dir("/proc/self/task") {
            Ok(entries) => entries.count(),
            // Without /proc nobody can tell; a program that has looked nothing up has one thread.
            Err(error) if error.kind() == io::ErrorKind::NotFound => 1,
            Err(error) => return Err(error),
        };
        if threads <= 1 {
            return Ok(());
        }
        if start.elapsed() > PATIENCE {
            return Err(io::Error::other(format!("{} other threads would stay root", threads - 1)));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Looks a user up in `/etc/passwd`.
///
/// # Errors
/// When the file cannot be read or does not have the user.
pub(crate) fn user_of(uid: u32) -> io::Result<User> {
    let path = Path::new("/etc/passwd");
    let bytes = files::read_bytes(path, Links::Follow, MAX_PASSWD).map_err(io::Error::other)?;
    let text = String::from_utf8_lossy(bytes.as_deref().unwrap_or_default()).into_owned();
    find_user(&text, uid).ok_or_else(|| io::Error::other(format!("no user {uid} in {}", path.display())))
}

fn find_user(passwd: &str, uid: u32) -> Option<User> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, number) = (fields.next()?, fields.nth(1)?);
        let home = fields.nth(2)?;
        let is_it = number.parse() == Ok(uid) && !name.is_empty() && !name.starts_with(['#', '+', '-']);
        is_it.then(|| User { name: name.to_owned(), home: home.into() })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    #[test]
    fn users_are_found_by_number() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nbroken:line\n+nis:x:7:7::/:\ncnb:x:1000:1001:The User:/home/cnb:/bin/sh\n";
        let user = |name: &str, home: &str| Some(User { name: name.into(), home: home.into() });
        assert_eq!(find_user(passwd, 1000), user("cnb", "/home/cnb"));
        assert_eq!(find_user(passwd, 0), user("root", "/root"));
        assert_eq!(find_user(passwd, 7), None);
        assert_eq!(find_user(passwd, 1001), None);
    }

    /// In a thread of its own, as the kernel changes the ids of one thread.
    #[test]
    fn becoming_a_user_leaves_every_group_of_before() {
        let ids = || (getuid().as_raw(), getgid().as_raw());
        let (uid, gid) = ids();
        run_as(uid, gid).unwrap();
        let outcome = std::thread::spawn(move || run_as(12345, 12346).map(|()| (ids(), groups())));
        match outcome.join().unwrap() {
            Ok(found) => assert_eq!(found, ((12345, 12346), vec![12346])),
            Err(error) => assert!(uid != 0, "{error}"),
        }
        assert_eq!(ids(), (uid, gid));
    }

    fn groups() -> Vec<u32> {
        rustix::process::getgroups().unwrap().into_iter().map(Gid::as_raw).collect()
    }

    #[test]
    fn a_directory_that_can_be_written_to_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let owner = std::fs::metadata(&file).unwrap();
        ensure_owner(owner.uid(), 12345, &[dir.path(), &dir.path().join("missing")]).unwrap();
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o777)).unwrap();
        ensure_owner(12345, 12345, &[dir.path()]).unwrap();
        let after = std::fs::metadata(&file).unwrap();
        assert_eq!((after.uid(), after.gid()), (owner.uid(), owner.gid()));
    }

    #[test]
    fn the_contents_change_hands_but_nothing_that_links_lead_to() {
        let root = tempfile::tempdir().unwrap();
        let (outside, dir) = (root.path().join("outside"), root.path().join("dir"));
        std::fs::create_dir_all(dir.join("sub")).unwrap();
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("file"), "").unwrap();
        std::fs::write(dir.join("sub/file"), "").unwrap();
        symlink(&outside, dir.join("link")).unwrap();
        symlink(outside.join("file"), dir.join("sub/link")).unwrap();
        let result = ensure_owner(12345, 12346, &[&dir]);
        if !is_root() {
            assert_eq!(result.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
            return;
        }
        result.unwrap();
        let owner = |path: PathBuf| path.symlink_metadata().map(|m| (m.uid(), m.gid())).unwrap();
        for path in [&dir, &dir.join("sub"), &dir.join("sub/file"), &dir.join("link"), &dir.join("sub/link")]
        {
            assert_eq!(owner(path.clone()), (12345, 12346), "{}", path.display());
        }
        assert_eq!(owner(outside.clone()), (0, owner(outside.clone()).1));
        assert_eq!(owner(outside.join("file")).0, 0);
    }
}
