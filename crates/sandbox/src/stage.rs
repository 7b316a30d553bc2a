//! The two processes that make a sandbox from inside.

use std::fs::{self, File};
use std::io::Write;
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
use crate::network::start_loopback;
use crate::parent::{Envelope, Report, in_memory, itself, open_of, read_letter};
use crate::spec::{Call, Job, Network, Spec};
use crate::{hint, reap, root};

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
        Some(SANDBOX_ARG) => run(&process, &letter, outer),
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
fn close_on_exec() -> Result<(), Failure> {
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
fn outer(envelope: Envelope, process: &str, reporter: Reporter) -> Stage<i32> {
    match try_outer(&envelope, process, &reporter) {
        Ok(Some(running)) => Ok(watch(running)),
        Ok(None) => {
            reporter.send(&Report::Ready);
            Ok(0)
        }
        Err(failure) => Err((reporter, failure)),
    }
}

fn try_outer(envelope: &Envelope, process: &str, reporter: &Reporter) -> Result<Option<Running>, Failure> {
    let life =
        open_of(process, envelope.life, File::options().read(true)).doing("open the pipe from the parent")?;
    let events = envelope.events.map(|fd| open_of(process, fd, File::options().write(true)));
    let events = events.transpose().doing("open the pipe for events")?;
    let (uid, gid) = envelope.spec.as_ref().map_or((0, 0), |spec| (spec.uid, spec.gid));
    let network = envelope.spec.as_ref().map_or(Network::Host, |spec| spec.network);
    namespaces(uid, gid, network).map_err(|failure| failure.with_hint(hint::for_namespaces()))?;
    let Some(spec) = &envelope.spec else { return Ok(None) };
    keep_capabilities().doing("keep the capabilities of the new user namespace")?;
    let inner = Envelope {
        spec: Some(spec.clone()),
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

/// Enters new namespaces in which the caller is `uid` and nobody else exists.
fn namespaces(uid: u32, gid: u32, network: Network) -> Result<(), Failure> {
    let (outer_uid, outer_gid) = (rustix::process::geteuid(), rustix::process::getegid());
    if outer_uid.is_root() {
        // Root's other groups are power over this machine too. In a container without CAP_SETGID they stay.
        match rustix::thread::set_thread_groups(&[]) {
            Ok(()) | Err(Errno::PERM) => {}
            Err(errno) => return Err(errno).doing("drop the supplementary groups"),
        }
    }
    let mut flags = UnshareFlags::NEWUSER
        | UnshareFlags::NEWNS
        | UnshareFlags::NEWPID
        | UnshareFlags::NEWIPC
        | UnshareFlags::NEWUTS;
    if network == Network::None {
        flags |= UnshareFlags::NEWNET;
    }
    #[expect(unsafe_code, reason = "rustix has no safe form of unshare")]
    // SAFETY: the flags leave the table of open files alone.
    unsafe { rustix::thread::unshare_unsafe(flags) }.doing("create a user namespace")?;
    let lines = [
        ("/proc/self/setgroups", "deny".to_owned()),
        ("/proc/self/uid_map", format!("{uid} {} 1", outer_uid.as_raw())),
        ("/proc/self/gid_map", format!("{gid} {} 1", outer_gid.as_raw())),
    ];
    for (path, line) in lines {
        fs::write(path, line).doing_to("write", Path::new(path))?;
    }
    if network == Network::None {
        start_loopback().doing("start the loopback of the new network")?;
    }
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)
        .doing("make the mounts private")
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
    let Some(spec) = envelope.spec else { return Err(Failure::new("there is no job")) };
    let Spec { hostname, .. } = &spec;
    rustix::system::sethostname(hostname.as_bytes()).doing("set the host name")?;
    rustix::process::umask(Mode::empty());
    root::build_and_enter(&spec).map_err(|failure| failure.with_hint(hint::for_namespaces()))?;
    rustix::process::umask(Mode::from(0o022));
    give_up_power().doing("give up capabilities")?;
    match spec.job {
        Job::Exec { argv, env, cwd } => {
            let name = argv.first().cloned().unwrap_or_default();
            reap::start(&argv, &env, &cwd).map(Started::Exec).doing_to("run", Path::new(&name))
        }
        Job::Call { payload } => Ok(Started::Call(Call { payload, events })),
    }
}

/// Lets no child of this process have a capability. It keeps its own, over the new namespaces, to mount more.
fn give_up_power() -> Result<(), Errno> {
    rustix::thread::set_no_new_privs(true)?;
    rustix::thread::clear_ambient_capability_set()?;
    for (_, capability) in CapabilitySet::all().iter_names() {
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
