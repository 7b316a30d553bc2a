//! A shell in place of a `bin/build` that failed: the same files, environment, folder and user, and no more rights.

use super::said::{Failed, Pipe, Said};
use crate::args;
use crate::interrupt::{Held, Interrupt};
use crate::places::Places;
use crate::show::Show;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, ioctl_fionbio};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use std::io::{IsTerminal, Read};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{ChildStdin, Command};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;
use strata_phases::process::Invocation;
use strata_phases::{Failure, Observer};
use strata_spec::exit::Exit;

/// Shells, the best first.
const SHELLS: &[&str] = &["/bin/bash", "/usr/bin/bash", "/bin/sh", "/usr/bin/sh"];

/// A shell needs somebody who types.
pub(crate) fn check() -> Result<(), Failure> {
    if std::io::stdin().is_terminal() && std::io::stderr().is_terminal() {
        return Ok(());
    }
    let message = "--debug-shell needs a terminal: standard input and standard error are to be one";
    Err(Failure::new(Exit::InvalidArguments, message))
}

/// The kind of the person's terminal, if there is to be a shell.
pub(crate) fn asked(args: &args::Build, places: &Places) -> Option<String> {
    let terminal = places.variable("TERM").filter(|term| !term.is_empty()).unwrap_or("dumb");
    args.debug_shell.then(|| terminal.to_owned())
}

/// The failure of a `bin/build`, with the way to look around in its place.
pub(crate) fn recommended(args: &args::Build, failure: Failure) -> Failure {
    let is_of_build = failure.exit == Exit::BuildpackBuild && failure.hint.is_none();
    if !is_of_build || args.debug_shell || args.lifecycle == args::LifecycleArg::Builder {
        return failure;
    }
    failure.hint("--debug-shell starts a shell where it failed: the same files, environment, folder and user")
}

/// In process 1 of the sandbox: runs the shell. Whatever happens to it, the build has failed as it did.
pub(crate) fn here(buildpack: &str, invocation: &Invocation, terminal: &str, pipe: &Pipe) {
    let Some(shell) = SHELLS.iter().find(|shell| Path::new(shell).exists()) else {
        pipe.warn("--debug-shell: there is no shell in the builder, neither bash nor sh".to_owned());
        return;
    };
    strata_sandbox::kill_leftovers();
    let words = [&invocation.program].into_iter().map(|path| path.display().to_string());
    let words = words.chain(invocation.args.iter().map(|arg| arg.to_string_lossy().into_owned()));
    let again = words.collect::<Vec<_>>().join(" ");
    pipe.say(&Said::Shell(Failed { buildpack: buildpack.to_owned(), again }));
    let mut typed = Unbuffered(std::io::stdin());
    // Until somebody listens.
    if typed.read_exact(&mut [0]).is_err() {
        return;
    }
    let mut command = Command::new(shell);
    command
        .env_clear()
        .env("TERM", terminal)
        .envs(invocation.env.iter().map(|(name, value)| (name, value)))
        .current_dir(&invocation.dir);
    let ended = strata_sandbox::on_terminal(command, &mut typed, &mut std::io::stderr());
    strata_sandbox::kill_leftovers();
    pipe.say(&Said::ShellEnded);
    if let Err(error) = ended {
        pipe.warn(format!("--debug-shell: cannot run {shell}: {error}"));
    }
}

/// Standard input, of which nothing is read ahead: what follows is for another reader.
pub(crate) struct Unbuffered(pub(crate) std::io::Stdin);

impl Read for Unbuffered {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        Ok(rustix::io::read(&self.0, buffer)?)
    }
}

impl AsFd for Unbuffered {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The person's terminal, which passes on each key until this is dropped. No signal ends the program meanwhile.
struct Raw {
    before: Termios,
    _held: Held,
}

impl Raw {
    fn begin(interrupt: &Interrupt) -> Option<Self> {
        let held = interrupt.hold();
        let before = tcgetattr(std::io::stdin()).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(std::io::stdin(), OptionalActions::Now, &raw).ok()?;
        Some(Self { before, _held: held })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // At once, since what is shown may be held up. A terminal that is gone needs nothing.
        tcsetattr(std::io::stdin(), OptionalActions::Now, &self.before).unwrap_or_default();
    }
}

/// Outside: passes on what is typed until the shell ends. Gives what else the sandbox said meanwhile.
pub(crate) fn attend(
    failed: &Failed,
    keys: ChildStdin,
    events: &Receiver<String>,
    show: &Show,
    interrupt: &Interrupt,
) -> Vec<String> {
    show.warn(format!("bin/build of buildpack {} failed; this shell is in its place", failed.buildpack));
    show.info(format!("  again   {}", failed.again));
    show.info("  end     exit".to_owned());
    show.away(|| {
        let _raw = Raw::begin(interrupt);
        let mut keys = Keys::to(keys);
        let mut rest = Vec::new();
        while !interrupt.asked() {
            // Keys take their time themselves.
            let time = if keys.is_some() { Duration::ZERO } else { Duration::from_millis(20) };
            match events.recv_timeout(time) {
                Ok(line) if matches!(serde_json::from_str(&line), Ok(Said::ShellEnded)) => break,
                Ok(line) => rest.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => keys = keys.and_then(Keys::pass_on),
            }
        }
        rest
    })
}

/// What is typed, on its way into the sandbox.
struct Keys {
    sandbox: ChildStdin,
    /// Typed, and not taken by the sandbox yet.
    pending: Vec<u8>,
}

impl Keys {
    /// Begins with the byte that says that somebody listens.
    fn to(sandbox: ChildStdin) -> Option<Self> {
        // A shell that takes nothing must not keep a signal from being noticed.
        ioctl_fionbio(&sandbox, true).ok()?;
        Some(Self { sandbox, pending: b"\n".to_vec() })
    }

    /// Passes on what was typed, if something is soon; `None` when nothing will be any more.
    fn pass_on(mut self) -> Option<Self> {
        const SOON: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
        let stdin = std::io::stdin();
        let awaited = match self.pending.is_empty() {
            true => PollFd::new(&stdin, PollFlags::IN),
            false => PollFd::new(&self.sandbox, PollFlags::OUT),
        };
        if !poll(&mut [awaited], Some(&SOON)).is_ok_and(|count| count > 0) {
            return Some(self);
        }
        if self.pending.is_empty() {
            let mut buffer = [0; 4096];
            match rustix::io::read(&stdin, &mut buffer) {
                Ok(count @ 1..) => self.pending.extend(buffer.iter().take(count)),
                Err(Errno::INTR) => {}
                _ => return None,
            }
        }
        match rustix::io::write(&self.sandbox, &self.pending) {
            Ok(count) => drop(self.pending.drain(..count)),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => return None,
        }
        Some(self)
    }
}
