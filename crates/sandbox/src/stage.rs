//! The two processes that make a sandbox from inside.

use std::fs::{self, File};
use std::io::{IsTerminal, Write};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::Path;
use std::process::Child as Process;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::Mode;
use rustix::io::{Errno, FdFlags};
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};
use rustix::thread::{CapabilitySet, CapabilitySets, UnshareFlags};

use crate::error::{Doing, Failure};
use crate::ids::{MAPPER_ARG, Mapper};
use crate::network::start_loopback;
use crate::parent::{Envelope, Errand, Report, in_memory, itself, open_of, read_letter};
use crate::spec::{Call, Job, Network, Rights};
use crate::workdir::{REMOVE_ARG, remove_tree, remover};
use crate::{Ids, hint, ids, limits, reap, root};

/// The hidden argument with which a program starts itself to make a sandbox.
pub const SANDBOX_ARG: &str = "__strata-sandbox";

/// The same for process 1 of the sandbox.
const INIT_ARG: &str = "__strata-sandbox-init";

/// Makes this process a part of a sandbox if it was started as one; else returns at once.
///
/// Called first thing in `main`, before there is a second thread or an open file. `run_call` runs each [`Job::Call`];
/// what it returns is the exit code of the sandbox.
pub fn enter_if_asked(run_call: fn(Call) -> i32) {
    let mut args = std::env::args_os().skip(1).map(|arg| arg.into_string().unwrap_or_default());
    let stage = args.next();
    let (Some(process), Some(letter)) = (args.next(), args.next()) else { return };
    let code = match stage.as_deref() {
        Some(MAPPER_ARG) => ids::mapper(&process),
        Some(REMOVE_ARG) => remover(Path::new(&process), &letter),
        Some(SANDBOX_ARG) => {
            run(&process, &letter, |envelope, process, report| outer(envelope, process, report, run_call))
        }
        Some(INIT_ARG) => {
            run(&process, &letter, |envelope, process, report| init(envelope, process, report, run_call))
        }
        _ => return,
    };
    #[expect(clippy::exit, reason = "the caller's main is not meant for this process")]
    std::process::exit(code)
}

/// The pipe on which the parent hears how the setup went; it hears once.
struct Reporter(File);

impl Reporter {
    fn send(mut self, report: &Report) {
        let Ok(mut line) = serde_json::to_vec(report) else { return };
        line.push(b'\n');
        // A parent that is gone needs no report.
        drop(self.0.write_all(&line));
    }
}

type Stage<T> = Result<T, (Reporter, Failure)>;

/// The code of a sandbox that failed before its job; the parent does not show it.
const FAILED: i32 = 125;

fn run(process: &str, letter: &str, stage: impl FnOnce(Envelope, &str, Reporter) -> Stage<i32>) -> i32 {
    let started = close_on_exec().and_then(|()| {
        rustix::process::set_parent_process_death_signal(death_signal())
            .doing("tie the sandbox to its parent")?;
        let envelope = read_letter(process, letter)?;
        let report = open_of(process, envelope.report, File::options().write(true))
            .doing("open the pipe to the parent")?;
        Ok((envelope, Reporter(report)))
    });
    let outcome = match started {
        Ok((envelope, reporter)) => stage(envelope, process, reporter),
        // The parent is not there, or speaks another language: it finds out by the exit code.
        Err(_) => return FAILED,
    };
    outcome.unwrap_or_else(|(reporter, failure)| {
        reporter.send(&Report::Failed(failure));
        FAILED
    })
}

/// Process 1 dies with the process that made it. That one follows its parent by a pipe instead, since the signal
/// would be sent when the thread that started it ends, rather than the program.
fn death_signal() -> Option<Signal> {
    (rustix::process::getpid() == Pid::INIT).then_some(Signal::KILL)
}

/// Keeps what the caller left open by accident out of the sandbox.
pub(crate) fn close_on_exec() -> Result<(), Failure> {
    let directory = Path::new("/proc/self/fd");
    for entry in fs::read_dir(directory).doing_to("list", directory)? {
        let name = entry.doing_to("list", directory)?.file_name();
        let Some(fd) = name.to_str().and_then(|name| name.parse().ok()).filter(|fd| *fd > 2) else {
            continue;
        };
        #[expect(unsafe_code, reason = "files inherited by number have no owner in this program")]
        // SAFETY: this process has one thread and the directory just named the file, so it is open and stays so.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        rustix::io::fcntl_setfd(fd, FdFlags::CLOEXEC).doing("close what the caller left open")?;
    }
    Ok(())
}

/// The first process: makes the namespaces, starts process 1 and outlives it.
fn outer(envelope: Envelope, process: &str, reporter: Reporter, run_call: fn(Call) -> i32) -> Stage<i32> {
    match try_outer(&envelope, process, &reporter) {
        Ok(Some(running)) => Ok(watch(running)),
        Ok(None) => match envelope.errand {
            Errand::Call { payload, .. } => {
                reporter.send(&Report::Ready);
                Ok(run_call(Call { payload, events: None, overlay: None }))
            }
            Errand::Remove { path, .. } => match remove_tree(&path).doing_to("remove", &path) {
                Ok(()) => {
                    reporter.send(&Report::Ready);
                    Ok(0)
                }
                Err(failure) => Err((reporter, failure)),
            },
            Errand::Probe(_) | Errand::Run(_) => {
                reporter.send(&Report::Ready);
                Ok(0)
            }
        },
        Err(failure) => Err((reporter, failure)),
    }
}

fn try_outer(envelope: &Envelope, process: &str, reporter: &Reporter) -> Result<Option<Running>, Failure> {
    let life =
        open_of(process, envelope.life, File::options().read(true)).doing("open the pipe from the parent")?;
    let events = envelope.events.map(|fd| open_of(process, fd, File::options().write(true)));
    let events = events.transpose().doing("open the pipe for events")?;
    let spec = match &envelope.errand {
        Errand::Run(spec) => spec,
        Errand::Probe(ids) => {
            return namespaces((0, 0), ids.as_ref(), ALL)
                .map(|()| None)
                .map_err(|failure| failure.with_hint(hint::for_namespaces()));
        }
        Errand::Call { ids, .. } | Errand::Remove { ids, .. } => {
            return namespaces((0, 0), Some(ids), UnshareFlags::NEWUSER).map(|()| None);
        }
    };
    let flags = if spec.network == Network::None { ALL | UnshareFlags::NEWNET } else { ALL };
    namespaces((spec.uid, spec.gid), spec.ids.as_ref(), flags)
        .map_err(|failure| failure.with_hint(hint::for_namespaces()))?;
    keep_capabilities().doing("keep the capabilities of the new user namespace")?;
    let inner = Envelope {
        errand: Errand::Run(spec.clone()),
        report: reporter.0.as_raw_fd(),
        life: life.as_raw_fd(),
        events: events.as_ref().map(AsRawFd::as_raw_fd),
    };
    let letter = serde_json::to_vec(&inner)
        .map_err(|error| Failure::new(format!("cannot encode the description: {error}")))?;
    let letter = in_memory(&letter).doing("hand over the description")?;
    let child = itself(INIT_ARG, &letter).spawn().doing("start process 1 of the sandbox")?;
    Ok(Some(Running { child, life, _open: (letter, events) }))
}

/// Process 1, as the first process sees it.
struct Running {
    child: Process,
    /// A pipe that ends when the parent does.
    life: File,
    /// What process 1 opens from here, whenever it gets to it.
    _open: (File, Option<File>),
}

/// The namespaces that every sandbox has.
const ALL: UnshareFlags = UnshareFlags::NEWUSER
    .union(UnshareFlags::NEWNS)
    .union(UnshareFlags::NEWPID)
    .union(UnshareFlags::NEWIPC)
    .union(UnshareFlags::NEWUTS);

/// Enters new namespaces. Without `ids`, the caller is the user given and nobody else exists.
fn namespaces(user: (u32, u32), ids: Option<&Ids>, flags: UnshareFlags) -> Result<(), Failure> {
    let (outer_uid, outer_gid) = (rustix::process::geteuid(), rustix::process::getegid());
    if outer_uid.is_root() {
        // Root's other groups are power over this machine too. In a container without CAP_SETGID they stay.
        match rustix::thread::set_thread_groups(&[]) {
            Ok(()) | Err(Errno::PERM) => {}
            Err(errno) => return Err(errno).doing("drop the supplementary groups"),
        }
    }
    let mapper = ids.map(|_| Mapper::start()).transpose()?;
    #[expect(unsafe_code, reason = "rustix has no safe form of unshare")]
    // SAFETY: the flags leave the table of open files alone.
    unsafe { rustix::thread::unshare_unsafe(flags) }.doing("create a user namespace")?;
    if let (Some(mapper), Some(ids)) = (mapper, ids) {
        mapper.map(ids)?;
    } else {
        let lines = [
            ("/proc/self/setgroups", "deny".to_owned()),
            ("/proc/self/uid_map", format!("{} {} 1", user.0, outer_uid.as_raw())),
            ("/proc/self/gid_map", format!("{} {} 1", user.1, outer_gid.as_raw())),
        ];
        for (path, line) in lines {
            fs::write(path, line).doing_to("write", Path::new(path))?;
        }
    }
    if flags.contains(UnshareFlags::NEWNET) {
        start_loopback().doing("start the loopback of the new network")?;
    }
    if flags.contains(UnshareFlags::NEWNS) {
        mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)
            .doing("make the mounts private")?;
    }
    Ok(())
}

/// Makes the capabilities of this process survive the start of process 1 under an ordinary user id.
fn keep_capabilities() -> Result<(), Errno> {
    let held = rustix::thread::capabilities(None)?.permitted;
    rustix::thread::set_capabilities(
        None,
        CapabilitySets { effective: held, permitted: held, inheritable: held },
    )?;
    for (_, capability) in held.iter_names() {
        rustix::thread::configure_capability_in_ambient_set(capability, true)?;
    }
    Ok(())
}

/// Waits for process 1, and kills it when the parent lets go of the pipe.
fn watch(running: Running) -> i32 {
    let Running { mut child, life, _open } = running;
    if let Ok(ended) = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()) {
        let mut sources = [PollFd::new(&ended, PollFlags::IN), PollFd::new(&life, PollFlags::IN)];
        while poll(&mut sources, None) == Err(Errno::INTR) {}
        if sources[0].revents().is_empty() {
            // It may have ended since, which is as good.
            drop(child.kill());
        }
    }
    child.wait().map_or(FAILED, reap::code_of)
}

/// Process 1: builds the root, gives up all power, runs the job.
fn init(envelope: Envelope, process: &str, reporter: Reporter, run_call: fn(Call) -> i32) -> Stage<i32> {
    let started = try_init(envelope, process);
    let job = match started {
        Ok(job) => job,
        Err(failure) => return Err((reporter, failure)),
    };
    reporter.send(&Report::Ready);
    let code = match job {
        Started::Exec(id) => reap::wait_for(id),
        Started::Call(call) => run_call(call),
    };
    reap::kill_leftovers();
    Ok(code)
}

enum Started {
    Exec(u32),
    Call(Call),
}

fn try_init(envelope: Envelope, process: &str) -> Result<Started, Failure> {
    let events = envelope.events.map(|fd| open_of(process, fd, File::options().write(true)));
    let events = events.transpose().doing("open the pipe for events")?;
    let Errand::Run(spec) = envelope.errand else { return Err(Failure::new("there is no job")) };
    rustix::system::sethostname(spec.hostname.as_bytes()).doing("set the host name")?;
    // While its files are seen.
    spec.groups.iter().try_for_each(|dir| limits::join(dir))?;
    rustix::process::umask(Mode::empty());
    let overlay =
        root::build_and_enter(&spec).map_err(|failure| failure.with_hint(hint::for_namespaces()))?;
    rustix::process::umask(Mode::from(0o022));
    if spec.ids.is_some() {
        // They were of use to find the files of the caller.
        rustix::thread::set_thread_groups(&[]).doing("drop the supplementary groups")?;
    }
    if spec.rights == Rights::Root {
        become_root().doing("become the image's root")?;
    }
    give_up_power(spec.rights).doing("give up capabilities")?;
    match spec.job {
        Job::Exec { argv, env, cwd } => {
            // A program that reads from a terminal needs its keys to be signals. Any other could push characters into it.
            if !std::io::stdin().is_terminal() {
                rustix::process::setsid().doing("leave the caller's session")?;
            }
            let name = argv.first().cloned().unwrap_or_default();
            reap::start(&argv, &env, &cwd).map(Started::Exec).doing_to("run", Path::new(&name))
        }
        Job::Call { payload } => {
            // What it starts is not trusted, and a process group reaches out of a process namespace: signals to
            // all of the caller's, and characters typed into the caller's terminal, are kept from it.
            rustix::process::setsid().doing("leave the caller's session")?;
            Ok(Started::Call(Call { payload, events, overlay }))
        }
    }
}

/// What root has in containers, as far as it is power over files and processes of the sandbox.
const OF_ROOT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::SETFCAP);

/// Makes this process user 0 of the sandbox, with all the power that it has there.
fn become_root() -> Result<(), Errno> {
    use rustix::process::{Gid, Uid};
    rustix::thread::set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT)?;
    rustix::thread::set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT)
}

/// Lets no child of this process have a capability that its rights do not include. It keeps its own, over the new
/// namespaces, to mount more.
fn give_up_power(rights: Rights) -> Result<(), Errno> {
    let kept = if rights == Rights::Root { OF_ROOT } else { CapabilitySet::empty() };
    rustix::thread::set_no_new_privs(true)?;
    rustix::thread::clear_ambient_capability_set()?;
    for (_, capability) in CapabilitySet::all().difference(kept).iter_names() {
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            // Unknown to this kernel.
            Ok(()) | Err(Errno::INVAL) => {}
            Err(errno) => return Err(errno),
        }
    }
    let held = rustix::thread::capabilities(None)?.permitted;
    rustix::thread::set_capabilities(
        None,
        CapabilitySets { effective: held, permitted: held, inheritable: CapabilitySet::empty() },
    )
}
