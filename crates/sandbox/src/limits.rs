//! Limits on memory, processors and processes, where the caller may make control groups (cgroups(7)).
//!
//! The limits are those of one group, and the sandbox is in another one below it: whoever makes a namespace of groups
//! inside sees the lower one at most, and can lift nothing.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, openat, unlinkat};
use rustix::io::Errno;

use crate::SandboxError;
use crate::error::{Doing, Failure};

/// What a sandbox may use at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of memory; nothing is swapped out instead.
    pub memory: Option<u64>,
    /// Thousandths of a processor.
    pub cpus: Option<u64>,
    /// Processes and threads, those of the sandbox itself included.
    pub pids: Option<u64>,
}

/// A limit that a sandbox met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Met {
    /// So many processes were ended for want of memory.
    Memory(u64),
    /// So many processes could not be started.
    Pids(u64),
}

/// How the kernel calls a limit.
struct Controller {
    name: &'static str,
    /// Files of the second version and what is written to them; those that may be absent are so where there is no swap.
    unified: Vec<Setting>,
    /// The same of the first version.
    legacy: Vec<Setting>,
}

struct Setting {
    file: &'static str,
    value: String,
    may_be_absent: bool,
}

fn setting(file: &'static str, value: impl ToString) -> Setting {
    Setting { file, value: value.to_string(), may_be_absent: false }
}

fn optional(file: &'static str, value: impl ToString) -> Setting {
    Setting { may_be_absent: true, ..setting(file, value) }
}

/// In microseconds; what the kernel takes too.
const PERIOD: u64 = 100_000;

impl Limits {
    fn controllers(&self) -> Vec<Controller> {
        let memory = self.memory.map(|bytes| Controller {
            name: "memory",
            unified: vec![setting("memory.max", bytes), optional("memory.swap.max", 0)],
            legacy: vec![
                setting("memory.limit_in_bytes", bytes),
                optional("memory.memsw.limit_in_bytes", bytes),
            ],
        });
        let cpu = self.cpus.map(|thousandths| {
            let quota = thousandths * PERIOD / 1000;
            Controller {
                name: "cpu",
                unified: vec![setting("cpu.max", format!("{quota} {PERIOD}"))],
                legacy: vec![setting("cpu.cfs_period_us", PERIOD), setting("cpu.cfs_quota_us", quota)],
            }
        });
        let pids = self.pids.map(|count| Controller {
            name: "pids",
            unified: vec![setting("pids.max", count)],
            legacy: vec![setting("pids.max", count)],
        });
        [memory, cpu, pids].into_iter().flatten().collect()
    }

    /// Makes groups with these limits, and removes those that builds left which were killed. `None` without limits.
    pub fn group(&self) -> Result<Option<Group>, SandboxError> {
        let controllers = self.controllers();
        if controllers.is_empty() {
            return Ok(None);
        }
        let made = Groups::of_this_process().and_then(|groups| groups.make(&controllers));
        made.map(Some)
            .map_err(|failure| SandboxError::Limits { message: failure.message, hint: failure.hint })
    }
}

/// Groups with limits, for one sandbox. They are removed when dropped; nothing may run in them then.
#[derive(Debug)]
pub struct Group {
    limited: Vec<PathBuf>,
}

/// The name of the group below one with limits.
const INNER: &str = "inner";
/// The name of the group that this process moves to, to make room for groups with limits beside it.
const MOVED: &str = "strata";

impl Group {
    fn inner(&self) -> impl Iterator<Item = PathBuf> {
        self.limited.iter().map(|dir| dir.join(INNER))
    }

    /// The directories of the groups that the sandbox is to join.
    pub fn dirs(&self) -> Vec<PathBuf> {
        self.inner().collect()
    }

    /// Which limits were met so far.
    pub fn met(&self) -> Vec<Met> {
        // The first version counts where it happens, the second one above as well.
        let most = |file: &str, word: &str| {
            let all = self.limited.iter().cloned().chain(self.inner()).map(|dir| dir.join(file));
            all.filter_map(|path| count(&fs::read_to_string(path).ok()?, word))
                .max()
                .filter(|count| *count > 0)
        };
        let killed = most("memory.events", "oom_kill").or_else(|| most("memory.oom_control", "oom_kill"));
        [killed.map(Met::Memory), most("pids.events", "max").map(Met::Pids)].into_iter().flatten().collect()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // There is nobody to tell, and the next build tries again.
        self.limited.iter().for_each(|dir| drop(remove(dir)));
    }
}

/// Finds `word 5`.
fn count(events: &str, word: &str) -> Option<u64> {
    events.lines().find_map(|line| line.strip_prefix(word)?.strip_prefix(' ')?.trim().parse().ok())
}

/// Removes a group and all below it: a buildpack that may make namespaces of groups may make groups, as deep as it likes.
fn remove(dir: &Path) -> io::Result<()> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
    let mut at = match openat(CWD, dir, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        opened => opened?,
    };
    // Not by paths, which have a longest one, and not with a file open for each level.
    let mut depth = 0_usize;
    // Whether what was below the first one has just been removed.
    let mut is_back = false;
    loop {
        match first_below(&at)? {
            Some(name) => match unlinkat(&at, &name, AtFlags::REMOVEDIR) {
                Ok(()) => is_back = false,
                Err(errno) if is_back => return Err(errno.into()),
                Err(_) => {
                    at = openat(&at, &name, flags, Mode::empty())?;
                    depth += 1;
                }
            },
            None if depth == 0 => return fs::remove_dir(dir),
            None => {
                at = openat(&at, c"..", flags, Mode::empty())?;
                depth -= 1;
                is_back = true;
            }
        }
    }
}

fn first_below(dir: &OwnedFd) -> io::Result<Option<CString>> {
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let is_other = ![c".", c".."].contains(&entry.file_name());
        if is_other && entry.file_type() == FileType::Directory {
            return Ok(Some(entry.file_name().to_owned()));
        }
    }
    Ok(None)
}

/// The groups of this process.
#[derive(Debug, Default, PartialEq, Eq)]
struct Groups {
    /// Of the second version, with the root of those that can be seen.
    unified: Option<(PathBuf, PathBuf)>,
    /// Of the first version, by controller.
    legacy: Vec<(String, PathBuf)>,
}

const HINT: &str = "run strata in a scope of its own, as with systemd-run --user --scope -p Delegate=yes strata build …; \
     in a container, mount the cgroup file system writable; or leave the limit out";

const HINT_BUSY: &str = "other processes are in strata's control group; start strata alone in one, with systemd-run --user --scope \
     -p Delegate=yes strata build …, or in a container as its first process, with exec strata build …; or leave the limit out";

impl Groups {
    fn of_this_process() -> Result<Self, Failure> {
        let read = |path: &str| fs::read_to_string(path).doing_to("read", Path::new(path));
        Ok(Self::parse(&read("/proc/self/mountinfo")?, &read("/proc/self/cgroup")?))
    }

    /// Takes mount points from mountinfo, see proc_pid_mountinfo(5), and paths from the lines of cgroups(7).
    fn parse(mountinfo: &str, cgroup: &str) -> Self {
        let mut groups = Self::default();
        for line in mountinfo.lines() {
            let Some((mount, kind)) = line.split_once(" - ") else { continue };
            let mut mount = mount.split(' ').skip(3);
            let (Some(root), Some(point)) = (mount.next(), mount.next()) else { continue };
            let mut kind = kind.split(' ');
            let (kind, options) = (kind.next().unwrap_or_default(), kind.nth(1).unwrap_or_default());
            for line in cgroup.lines() {
                let mut fields = line.splitn(3, ':');
                let (Some(number), Some(names), Some(path)) = (fields.next(), fields.next(), fields.next())
                else {
                    continue;
                };
                let Ok(below) = Path::new(path).strip_prefix(root) else { continue };
                let dir = Path::new(point).join(below);
                match kind {
                    "cgroup2" if number == "0" && names.is_empty() => {
                        groups.unified.get_or_insert((dir, point.into()));
                    }
                    "cgroup" => {
                        let mounted = |name: &&str| options.split(',').any(|option| option == *name);
                        let names = names.split(',').filter(|name| !name.is_empty()).filter(mounted);
                        groups.legacy.extend(names.map(|name| (name.to_owned(), dir.clone())));
                    }
                    _ => {}
                }
            }
        }
        groups
    }

    /// Of the first version, each hierarchy gets one group, for all of its controllers: a process is in one only.
    fn by_hierarchy<'a>(
        &self,
        controllers: &'a [Controller],
    ) -> (Vec<Hierarchy<'_, 'a>>, Vec<&'a Controller>) {
        let mut legacy: Vec<Hierarchy<'_, 'a>> = Vec::new();
        let mut unified = Vec::new();
        for controller in controllers {
            let Some((_, parent)) = self.legacy.iter().find(|(name, _)| name == controller.name) else {
                unified.push(controller);
                continue;
            };
            match legacy.iter_mut().find(|(known, _)| known == parent) {
                Some((_, controllers)) => controllers.push(controller),
                None => legacy.push((parent, vec![controller])),
            }
        }
        (legacy, unified)
    }

    fn make(&self, controllers: &[Controller]) -> Result<Group, Failure> {
        let mut group = Group { limited: Vec::new() };
        let (legacy, of_unified) = self.by_hierarchy(controllers);
        for (parent, controllers) in legacy {
            let dir = new_in(parent).map_err(|failure| failure.with_hint(Some(HINT.to_owned())))?;
            group.limited.push(dir.clone());
            for controller in controllers {
                set(&dir, &controller.legacy)?;
            }
        }
        if of_unified.is_empty() {
            return Ok(group);
        }
        let names: Vec<&str> = of_unified.iter().map(|controller| controller.name).collect();
        let Some((own, top)) = &self.unified else {
            let message = format!("there is no control group here with a limit of {}", names.join(" and "));
            return Err(Failure::new(message).with_hint(Some(HINT.to_owned())));
        };
        let mut reason = None;
        for parent in parents(own, top) {
            match enable(parent, &names, parent == own).and_then(|()| new_in(parent)) {
                Ok(dir) => {
                    group.limited.push(dir.clone());
                    for controller in of_unified {
                        set(&dir, &controller.unified)?;
                    }
                    return Ok(group);
                }
                Err(failure) => reason = reason.or(Some(failure)),
            }
        }
        let mut reason =
            reason.unwrap_or_else(|| Failure::new("this process is in no group that can be seen"));
        reason.hint.get_or_insert_with(|| HINT.to_owned());
        Err(reason)
    }
}

/// Where a group can be made that limits what is in it, the best first. A process that has moved down makes the next one
/// where it made the first.
fn parents<'a>(own: &'a Path, top: &'a Path) -> impl Iterator<Item = &'a Path> {
    let has_moved = own != top && own.file_name().is_some_and(|name| name == MOVED);
    own.ancestors().skip(usize::from(has_moved)).take_while(move |parent| parent.starts_with(top))
}

/// A group of this process, and those that limit what is below it.
type Hierarchy<'g, 'c> = (&'g Path, Vec<&'c Controller>);

/// Makes a group with one below it, and removes those that nobody uses.
fn new_in(parent: &Path) -> Result<PathBuf, Failure> {
    let own = std::process::id();
    // What cannot be listed or removed is not in the way.
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let process =
            name.strip_prefix("strata-").and_then(|tail| tail.split('-').next()?.parse::<u32>().ok());
        if process.is_some_and(|id| !Path::new("/proc").join(id.to_string()).exists()) {
            drop(remove(&entry.path()));
        }
    }
    let random = tempfile::Builder::new().prefix(&format!("strata-{own}-")).rand_bytes(6).tempdir_in(parent);
    let dir = random.doing_to("make a control group in", parent)?.keep();
    fs::create_dir(dir.join(INNER)).doing_to("make a control group in", &dir)?;
    Ok(dir)
}

fn set(dir: &Path, settings: &[Setting]) -> Result<(), Failure> {
    for Setting { file, value, may_be_absent } in settings {
        let path = dir.join(file);
        if *may_be_absent && !path.exists() {
            continue;
        }
        fs::write(&path, value).doing_to(&format!("set the limit {value} in"), &path)?;
    }
    Ok(())
}

/// Lets groups below `parent` have limits of these kinds.
fn enable(parent: &Path, names: &[&str], is_own: bool) -> Result<(), Failure> {
    make_room(parent, is_own)?;
    let control = parent.join("cgroup.subtree_control");
    let enabled = fs::read_to_string(&control).doing_to("read", &control)?;
    let missing = names.iter().filter(|name| !enabled.split_whitespace().any(|word| word == **name));
    let missing: Vec<String> = missing.map(|name| format!("+{name}")).collect();
    if missing.is_empty() {
        return Ok(());
    }
    fs::write(&control, missing.join(" ")).doing_to("allow limits in", &control)
}

/// Makes sure that there are no processes in a group that is to limit those below it: this one moves down, if it is alone.
///
/// The kernel itself refuses limits on memory there only. With others it makes the group one of threads, and none of those
/// below it can be joined any more.
fn make_room(parent: &Path, is_own: bool) -> Result<(), Failure> {
    // The root of all groups may have processes; it alone has no type.
    if !parent.join("cgroup.type").exists() {
        return Ok(());
    }
    let processes = processes(parent)?;
    if processes.is_empty() {
        return Ok(());
    }
    if !is_own || processes != std::process::id().to_string() {
        let message = format!("cannot allow limits in {}: there are processes in it", parent.display());
        return Err(Failure::new(message).with_hint(Some(HINT_BUSY.to_owned())));
    }
    let own = parent.join(MOVED);
    fs::create_dir_all(&own).doing_to("make a control group in", parent)?;
    let procs = own.join("cgroup.procs");
    fs::write(&procs, "0").doing_to("move to", &procs)
}

/// The processes of a group, one a line; those that cannot be seen from here are 0.
fn processes(dir: &Path) -> Result<String, Failure> {
    let procs = dir.join("cgroup.procs");
    let all = fs::read_to_string(&procs).doing_to("read", &procs)?;
    Ok(all.trim_end().to_owned())
}

/// Puts this process into a group.
pub(crate) fn join(dir: &Path) -> Result<(), Failure> {
    let procs = dir.join("cgroup.procs");
    fs::write(&procs, "0").doing_to("join the control group", &procs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_of_both_versions_are_found() {
        let mountinfo = "30 24 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n\
            31 24 0:27 /docker/x /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
            32 24 0:28 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
            33 24 0:29 / /tmp rw - tmpfs tmpfs rw\n";
        let cgroup = "4:memory:/docker/x/y\n3:cpu,cpuacct:/\n2:name=systemd:/\n0::/user.slice/a\n";
        let found = Groups::parse(mountinfo, cgroup);
        let unified = ("/sys/fs/cgroup/user.slice/a".into(), "/sys/fs/cgroup".into());
        let legacy = [
            ("memory", "/sys/fs/cgroup/memory/y"),
            ("cpu", "/sys/fs/cgroup/cpu,cpuacct"),
            ("cpuacct", "/sys/fs/cgroup/cpu,cpuacct"),
        ];
        let legacy = legacy.map(|(name, dir)| (name.to_owned(), dir.into())).to_vec();
        assert_eq!(found, Groups { unified: Some(unified), legacy });
        assert_eq!(Groups::parse("", ""), Groups::default());
    }

    #[test]
    fn whoever_moved_down_goes_on_where_it_was() {
        let of = |own: &str, top: &str| {
            let (own, top) = (PathBuf::from(own), PathBuf::from(top));
            parents(&own, &top).map(|dir| dir.display().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(of("/c/a/b", "/c"), ["/c/a/b", "/c/a", "/c"]);
        assert_eq!(of("/c/a/strata", "/c"), ["/c/a", "/c"]);
        assert_eq!(of("/c/strata", "/c/strata"), ["/c/strata"]);
    }

    #[test]
    fn a_hierarchy_has_one_group_for_all_its_limits() {
        let limits = Limits { memory: Some(1 << 30), cpus: Some(1000), pids: Some(100) };
        let legacy = [("cpu", "/a"), ("cpuacct", "/a"), ("memory", "/a")];
        let legacy = legacy.map(|(name, dir)| (name.to_owned(), dir.into())).to_vec();
        let groups = Groups { unified: None, legacy };
        let controllers = limits.controllers();
        let (legacy, unified) = groups.by_hierarchy(&controllers);
        let names = |all: &[&Controller]| all.iter().map(|one| one.name).collect::<Vec<_>>();
        let legacy: Vec<_> = legacy.iter().map(|(parent, all)| (*parent, names(all))).collect();
        assert_eq!(legacy, [(Path::new("/a"), vec!["memory", "cpu"])]);
        assert_eq!(names(&unified), ["pids"]);
    }

    #[test]
    fn groups_are_removed_with_all_that_is_below() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("group");
        for below in ["a", "inner/b", "inner/c/d", "inner/c/e"] {
            fs::create_dir_all(dir.join(below)).unwrap();
        }
        let mut at = openat(CWD, &dir, OFlags::DIRECTORY, Mode::empty()).unwrap();
        for _ in 0..300 {
            rustix::fs::mkdirat(&at, c"a-name-of-some-length", Mode::RWXU).unwrap();
            at = openat(&at, c"a-name-of-some-length", OFlags::DIRECTORY, Mode::empty()).unwrap();
        }
        drop(at);
        remove(&dir).unwrap();
        assert!(!dir.exists());
        remove(&dir).unwrap();
        // One that is in use stays, and is no reason to try for ever.
        fs::create_dir_all(dir.join("inner/busy")).unwrap();
        fs::write(dir.join("inner/busy/file"), "").unwrap();
        assert!(remove(&dir).is_err());
        assert!(dir.join("inner/busy").exists());
    }

    #[test]
    fn events_are_counted_by_their_word() {
        let events = "low 0\nmax 7\noom 2\noom_kill 1\noom_group_kill 0\n";
        for (word, expected) in [("oom_kill", Some(1)), ("max", Some(7)), ("oom", Some(2)), ("high", None)] {
            assert_eq!(count(events, word), expected, "{word}");
        }
    }

    #[test]
    fn limits_are_in_the_words_of_the_kernel() {
        let limits = Limits { memory: Some(1 << 20), cpus: Some(1500), pids: Some(10) };
        let settings = |pick: fn(&Controller) -> &Vec<Setting>| -> Vec<String> {
            let all = limits.controllers();
            all.iter().flat_map(|one| pick(one).iter().map(|s| format!("{}={}", s.file, s.value))).collect()
        };
        assert_eq!(
            settings(|one| &one.unified),
            ["memory.max=1048576", "memory.swap.max=0", "cpu.max=150000 100000", "pids.max=10"]
        );
        assert_eq!(
            settings(|one| &one.legacy),
            [
                "memory.limit_in_bytes=1048576",
                "memory.memsw.limit_in_bytes=1048576",
                "cpu.cfs_period_us=100000",
                "cpu.cfs_quota_us=150000",
                "pids.max=10"
            ]
        );
        assert!(Limits::default().group().unwrap().is_none());
    }
}
