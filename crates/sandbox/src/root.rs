//! Builds the files a sandbox sees, and makes them its root.
//!
//! The whole of `/` cannot be the lower directory of one overlay: what is mounted below it is locked in a user
//! namespace, and overlayfs refuses such a directory. So each directory that holds no mount point is overlaid by
//! itself, and those on the way to one are made anew on a tmpfs.

use std::fs::{self, DirEntry, File, Metadata};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{Access as Wanted, CWD, Mode, OFlags, openat};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::apart;
use crate::error::{Doing, Failure};
use crate::mounts::{Access, Maker, MountTable, NewRoot, Overlays, bind, tmpfs};
use crate::spec::{Mount, Overlay, Rights, Root, Spec};

/// Directories of the host that are not projected but made by [`system_directories`].
const SPECIAL: &[&str] = &["/proc", "/sys", "/dev", "/tmp", "/var/tmp", "/run"];

const DEVICES: &[&str] = &["null", "zero", "full", "random", "urandom", "tty"];

/// Parts of /proc that could change the machine: the caller may be its root, whose files they are.
const PROC_READ_ONLY: &[&str] = &["bus", "fs", "irq", "sys", "sysrq-trigger"];

/// Parts of /proc that could reveal the machine.
const PROC_HIDDEN: &[&str] = &["kcore", "keys", "latency_stats", "timer_list", "sched_debug"];

/// Builds the root in the scratch directory and enters it; the overlay that it is, for whoever has root's rights.
pub(crate) fn build_and_enter(spec: &Spec) -> Result<Option<Overlay>, Failure> {
    let table = MountTable::load()?;
    let (Root::Host { scratch, .. } | Root::Layers { scratch, .. }) = &spec.root;
    let scratch = fs::canonicalize(scratch).doing_to("find the scratch directory", scratch)?;
    let path = scratch.join("root");
    fs::create_dir(&path).doing_to("create", &path)?;
    let maker = if spec.ids.is_some() { Maker::Root } else { Maker::Caller };
    let mut overlays = Overlays::new(&scratch, maker)?;
    let overlay = match &spec.root {
        Root::Host { hide, .. } => {
            tmpfs(&path, c"mode=755")?;
            let split =
                spec.mounts.iter().map(|mount| mount.target.clone()).filter(|target| !target.exists());
            let mut host = Host {
                table: &table,
                overlays,
                scratch: &scratch,
                hide: canonical(hide),
                split: split.collect(),
            };
            host.project_children(Path::new("/"), &path)?;
            None
        }
        Root::Layers { lowers, .. } => {
            let lowers = lowers.iter().map(fs::canonicalize).collect::<Result<Vec<_>, io::Error>>();
            let lowers = lowers.doing("find the layers of the image")?;
            let lowers: Vec<&Path> = lowers.iter().map(PathBuf::as_path).collect();
            overlays.mount(&lowers, &path, 0o755)?;
            let is_kept = spec.rights == Rights::Root;
            is_kept.then(|| open_parts(&overlays.last_upper(), &lowers)).transpose()?
        }
    };
    let root = NewRoot::open(&path, maker)?;
    system_directories(&root, &table, &scratch, spec.rights)?;
    match &spec.root {
        Root::Host { .. } => run_of_host(&root, &table)?,
        Root::Layers { .. } => network_files(&root, &table)?,
    }
    for mount in &spec.mounts {
        bind_asked(&root, &table, mount)?;
    }
    enter(&path)?;
    Ok(overlay)
}

/// Keeps the directories of an overlay within reach, wherever their paths lead afterwards.
fn open_parts(upper: &Path, lowers: &[&Path]) -> Result<Overlay, Failure> {
    let open = |path: &Path| {
        openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .doing_to("open", path)
    };
    let lowers = lowers.iter().map(|lower| open(lower)).collect::<Result<_, _>>()?;
    Ok(Overlay::new(open(upper)?, lowers))
}

/// The paths as the walk meets them. One that does not exist hides nothing.
fn canonical(paths: &[PathBuf]) -> Vec<PathBuf> {
    paths.iter().map(|path| fs::canonicalize(path).unwrap_or_else(|_| path.clone())).collect()
}

fn bind_asked(root: &NewRoot, table: &MountTable, mount: &Mount) -> Result<(), Failure> {
    let source = fs::canonicalize(&mount.source).doing_to("find", &mount.source)?;
    let access = if mount.writable { Access::Writable } else { Access::ReadOnly };
    root.bind(table, &source, &mount.target, access)
}

/// The files of this machine on their way into the new root.
struct Host<'a> {
    table: &'a MountTable,
    overlays: Overlays,
    scratch: &'a Path,
    hide: Vec<PathBuf>,
    /// Paths to be made inside, in directories where perhaps only this machine's root could.
    split: Vec<PathBuf>,
}

impl Host<'_> {
    fn project_children(&mut self, host: &Path, inside: &Path) -> Result<(), Failure> {
        let entries = match fs::read_dir(host) {
            Ok(entries) => entries,
            // What the caller cannot read outside, the sandbox cannot read either.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(()),
            Err(error) => return Err(error).doing_to("list", host),
        };
        for entry in entries {
            let entry = entry.doing_to("list", host)?;
            self.project(&entry, &inside.join(entry.file_name()))?;
        }
        Ok(())
    }

    fn project(&mut self, entry: &DirEntry, target: &Path) -> Result<(), Failure> {
        let host = entry.path();
        let metadata = match entry.metadata() {
            Ok(metadata) => metadata,
            // Deleted meanwhile, or a mount whose other end is gone.
            Err(_) => return Ok(()),
        };
        let hidden = self.hide.contains(&host);
        if metadata.is_symlink() {
            let link = fs::read_link(&host).doing_to("read", &host)?;
            symlink(link, target).doing_to("create", target)
        } else if metadata.is_dir() {
            if host == self.scratch {
                return Ok(());
            }
            fs::create_dir(target).doing_to("create", target)?;
            if hidden || SPECIAL.iter().any(|special| host == Path::new(special)) {
                return Ok(());
            }
            self.project_directory(&host, &metadata, target)
        } else if metadata.is_file() && !hidden {
            File::create(target).doing_to("create", target)?;
            match bind(self.table, &host, target, Access::ReadOnly) {
                Ok(()) => Ok(()),
                // Better absent than empty.
                Err(_) => fs::remove_file(target).doing_to("remove", target),
            }
        } else {
            // Sockets, pipes and devices of the machine are not for builds.
            Ok(())
        }
    }

    fn project_directory(&mut self, host: &Path, metadata: &Metadata, target: &Path) -> Result<(), Failure> {
        let mode = metadata.permissions().mode() & 0o7777;
        if rustix::fs::access(host, Wanted::READ_OK | Wanted::EXEC_OK).is_err() {
            return fs::set_permissions(target, fs::Permissions::from_mode(mode))
                .doing_to("change the mode of", target);
        }
        if self.must_split(host) {
            self.project_children(host, target)?;
            return fs::set_permissions(target, fs::Permissions::from_mode(mode))
                .doing_to("change the mode of", target);
        }
        if self.overlays.mount(&[host], target, mode).is_ok() {
            return Ok(());
        }
        match bind(self.table, host, target, Access::ReadOnly) {
            Ok(()) => Ok(()),
            // Neither way is open, as for the mount of a dead server: the directory stays empty.
            Err(_) => Ok(()),
        }
    }

    fn must_split(&self, host: &Path) -> bool {
        let special = SPECIAL.iter().map(Path::new);
        let named =
            special.chain([self.scratch]).chain(self.hide.iter().chain(&self.split).map(PathBuf::as_path));
        self.table.has_below(host) || named.into_iter().any(|path| path != host && path.starts_with(host))
    }
}

/// Makes what every root has of its own: /proc, /sys, /dev, and but for whoever changes the image, /tmp and /var/tmp.
fn system_directories(
    root: &NewRoot,
    table: &MountTable,
    scratch: &Path,
    rights: Rights,
) -> Result<(), Failure> {
    proc(root, table)?;
    let sys = Path::new("/sys");
    if sys.is_dir() {
        root.bind(table, sys, sys, Access::ReadOnly)?;
    } else {
        root.directory(sys)?;
    }
    devices(root, table)?;
    let apart = scratch.join("apart");
    fs::create_dir(&apart).doing_to("create", &apart)?;
    let place = Path::new(apart::PLACE);
    root.bind(table, &apart, place, Access::Writable)?;
    apart::cover(&root.directory(place)?.path())?;
    if rights == Rights::Root {
        return Ok(());
    }
    for (name, inside) in [("tmp", "/tmp"), ("var-tmp", "/var/tmp")] {
        let source = scratch.join(name);
        fs::create_dir(&source).doing_to("create", &source)?;
        fs::set_permissions(&source, fs::Permissions::from_mode(0o1777))
            .doing_to("change the mode of", &source)?;
        root.maker.own_path(&source)?;
        root.bind(table, &source, Path::new(inside), Access::Writable)?;
    }
    Ok(())
}

fn proc(root: &NewRoot, table: &MountTable) -> Result<(), Failure> {
    let inside = Path::new("/proc");
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    if mount("proc", root.directory(inside)?.path(), "proc", flags, None).is_err() {
        // Some containers forbid a new one, since it would reveal what they cover in theirs.
        root.bind(table, inside, inside, Access::Writable)?;
    }
    for name in PROC_READ_ONLY {
        let path = inside.join(name);
        if let Some(place) = root.existing(&path) {
            // Bound over itself; nothing of the host's table lies below a new /proc.
            root.bind(&MountTable::empty(), &place.path(), &path, Access::ReadOnly)?;
        }
    }
    for name in PROC_HIDDEN {
        let path = inside.join(name);
        if root.existing(&path).is_some() {
            root.bind_device(Path::new("/dev/null"), &path)?;
        }
    }
    Ok(())
}

fn devices(root: &NewRoot, table: &MountTable) -> Result<(), Failure> {
    let dev = Path::new("/dev");
    mount("tmpfs", root.directory(dev)?.path(), "tmpfs", MountFlags::NOSUID, c"mode=755")
        .doing("mount a tmpfs on /dev")?;
    for name in DEVICES {
        let source = dev.join(name);
        if source.exists() {
            root.bind_device(&source, &source)?;
        }
    }
    let pts = root.directory(&dev.join("pts"))?;
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    if mount("devpts", pts.path(), "devpts", flags, c"newinstance,ptmxmode=0666,mode=620").is_err() {
        let host = Path::new("/dev/pts");
        if host.exists() {
            root.bind(table, host, host, Access::Writable)?;
        }
    }
    let place = root.directory(&dev.join("shm"))?;
    tmpfs(&place.path(), c"mode=1777")?;
    let links = [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ];
    let place = root.directory(dev)?;
    for (name, to) in links {
        let link = place.path().join(name);
        symlink(to, &link).doing_to("create", &dev.join(name))?;
    }
    root.maker.own(&place.0, dev)
}

/// An empty /run, but for the symlinks in it and the file that /etc/resolv.conf leads to.
fn run_of_host(root: &NewRoot, table: &MountTable) -> Result<(), Failure> {
    let run = Path::new("/run");
    tmpfs(&root.directory(run)?.path(), c"mode=755")?;
    let place = root.directory(run)?;
    // A machine without /run has nothing to bring along.
    for entry in fs::read_dir(run).into_iter().flatten().flatten() {
        if let Ok(to) = fs::read_link(entry.path()) {
            symlink(to, place.path().join(entry.file_name())).doing_to("create", &entry.path())?;
        }
    }
    match fs::canonicalize("/etc/resolv.conf") {
        Ok(resolv) if resolv.starts_with(run) => root.bind(table, &resolv, &resolv, Access::ReadOnly),
        // Without one, names are not resolved outside either.
        _ => Ok(()),
    }
}

/// The network is the host's, so are the files that describe it.
fn network_files(root: &NewRoot, table: &MountTable) -> Result<(), Failure> {
    for path in ["/etc/resolv.conf", "/etc/hosts"].map(Path::new) {
        if let Ok(source) = fs::canonicalize(path) {
            root.bind(table, &source, path, Access::ReadOnly)?;
        }
    }
    Ok(())
}

/// Makes `path` the root and lets go of the old one.
fn enter(path: &Path) -> Result<(), Failure> {
    std::env::set_current_dir(path).doing_to("change to", path)?;
    rustix::process::pivot_root(c".", c".").doing("change the root")?;
    unmount(c".", UnmountFlags::DETACH).doing("let go of the old root")?;
    std::env::set_current_dir("/").doing("change to /")
}
