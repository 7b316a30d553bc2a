//! A shell in place of a `bin/build` that failed: the same files, environment, folder and user, and no more rights.

use crate::args;
use crate::inside::{Pipe, Said};
use crate::interrupt::Interrupt;
use crate::places::Places;
use crate::show::Show;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use serde::{Deserialize, Serialize};
use std::io::{IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{ChildStdin, Command};
use std::sync::mpsc::{Receiver, TryRecvError};
use strata_phases::process::Invocation;
use strata_phases::{Failure, Observer};
use strata_spec::exit::Exit;

/// What failed.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Failed {
    buildpack: String,
    /// The program and its arguments, as one types them.
    again: String,
}

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
    let mut typed = std::io::stdin();
    let mut size = [0; 4];
    let mut command = Command::new(shell);
    command
        .env_clear()
        .env("TERM", terminal)
        .envs(invocation.env.iter().map(|(name, value)| (name, value)))
        .current_dir(&invocation.dir);
    let [a, b, c, d] = match typed.read_exact(&mut size) {
        Ok(()) => size,
        // Nobody is there any more.
        Err(_) => return,
    };
    let size = (u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]));
    let ended = strata_sandbox::on_terminal(command, size, &mut Unbuffered(typed), &mut std::io::stderr());
    strata_sandbox::kill_leftovers();
    pipe.say(&Said::ShellEnded);
    if let Err(error) = ended {
        pipe.warn(format!("--debug-shell: cannot run {shell}: {error}"));
    }
}

/// Standard input, of which nothing is read ahead.
struct Unbuffered(std::io::Stdin);

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

/// The person's terminal, which passes on each key until this is dropped.
struct Raw(Termios);

impl Raw {
    fn begin() -> Option<Self> {
        let before = tcgetattr(std::io::stdin()).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(std::io::stdin(), OptionalActions::Now, &raw).ok()?;
        Some(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing.
        tcsetattr(std::io::stdin(), OptionalActions::Drain, &self.0).unwrap_or_default();
    }
}

/// Outside: passes on what is typed until the shell ends. Gives what else the sandbox said meanwhile.
pub(crate) fn attend(
    failed: &Failed,
    keys: &mut ChildStdin,
    events: &Receiver<String>,
    show: &Show,
    interrupt: &Interrupt,
) -> Vec<String> {
    show.warn(format!("bin/build of buildpack {} failed; this shell is in its place", failed.buildpack));
    show.info(format!("  again   {}", failed.again));
    show.info("  end     exit".to_owned());
    show.away(|| {
        let _raw = Raw::begin();
        let size = tcgetwinsize(std::io::stdin()).map_or((24, 80), |size| (size.ws_row, size.ws_col));
        let [a, b] = size.0.to_le_bytes();
        let [c, d] = size.1.to_le_bytes();
        // A sandbox that is gone says no more, which is found out below.
        keys.write_all(&[a, b, c, d]).unwrap_or_default();
        let mut rest = Vec::new();
        let mut is_typed_at = true;
        while !interrupt.asked() {
            match events.try_recv() {
                Ok(line) if matches!(serde_json::from_str(&line), Ok(Said::ShellEnded)) => break,
                Ok(line) => rest.push(line),
                Err(TryRecvError::Disconnected) => break,
                Err(TryRecvError::Empty) => is_typed_at = is_typed_at && pass_on(keys),
            }
        }
        rest
    })
}

/// Passes on what was typed, if something is soon; `false` when nothing will be any more.
fn pass_on(keys: &mut ChildStdin) -> bool {
    const SOON: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
    let stdin = std::io::stdin();
    let ready = poll(&mut [PollFd::new(&stdin, PollFlags::IN)], Some(&SOON));
    if !ready.is_ok_and(|count| count > 0) {
        return true;
    }
    let mut buffer = [0; 4096];
    match rustix::io::read(&stdin, &mut buffer) {
        Ok(count @ 1..) => keys.write_all(buffer.get(..count).unwrap_or_default()).is_ok(),
        _ => false,
    }
}
