//! Runs the programs of `exec.d` directories.
//!
//! What such a program writes to file descriptor 3 is added to the environment:
//! <https://github.com/buildpacks/spec/blob/main/buildpack.md#execd>.

use std::ffi::OsString;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use strata_launch::env::Env;

use crate::failure::cause;
use crate::parse;

/// The descriptor the specification promises to the program.
const OUTPUT_FD: i32 = 3;

/// How often a program is checked that has ended but left its output to a background process.
const PATIENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };

/// Runs one program and sets the variables it names.
pub(crate) fn run(program: &Path, env: &mut Env) -> Result<(), String> {
    let at = program.display();
    let (status, output) = execute(program, env)
        .map_err(|error| format!("failed to execute exec.d file at path '{at}': {error}"))?;
    if !status.success() {
        return Err(format!("failed to execute exec.d file at path '{at}': {}", outcome(status)));
    }
    let variables = String::from_utf8(output)
        .map_err(|error| error.to_string())
        .and_then(|text| parse::variables(&text))
        .map_err(|error| format!("failed to decode output from exec.d file at path '{at}': {error}"))?;
    for (name, value) in variables {
        env.set(OsString::from(name), value);
    }
    Ok(())
}

fn execute(program: &Path, env: &Env) -> Result<(ExitStatus, Vec<u8>), String> {
    let (reader, writer) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(|error| cause(&error.into()))?;
    let mut command = Command::new(program);
    command.env_clear().envs(env.iter()).stdin(Stdio::null());
    give_output(&mut command, writer);
    let child =
        command.spawn().map_err(|error| format!("fork/exec {}: {}", program.display(), cause(&error)));
    // It holds our writing end: the output would never end.
    drop(command);
    collect(child?, &reader).map_err(|error| cause(&error))
}

/// Lets the child find `writer` as descriptor 3, whatever is open there in the launcher: it may be a socket that the
/// final process is to inherit.
#[expect(unsafe_code, reason = "only the child's descriptors may change, between fork and exec")]
fn give_output(command: &mut Command, writer: OwnedFd) {
    let place = move || {
        // SAFETY: descriptor 3 is open, at the latest since the pipe was made: 0 to 2 always are, and of the pipe's
        // ends the reader came first and took the lowest free number. So neither the writer nor what the standard
        // library opens to start the child is 3; nothing else uses it in the child, and it is not closed here.
        let mut slot = ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(OUTPUT_FD) });
        rustix::io::dup2(&writer, &mut slot).map_err(io::Error::from)
    };
    // SAFETY: the closure makes one system call; it neither allocates nor takes a lock.
    unsafe { command.pre_exec(place) };
}

/// Reads until the output ends or, if a background process keeps it open, until the program has ended.
fn collect(mut child: Child, reader: &OwnedFd) -> io::Result<(ExitStatus, Vec<u8>)> {
    let mut output = Vec::new();
    loop {
        let mut fds = [PollFd::new(reader, PollFlags::IN)];
        let ready = rustix::io::retry_on_intr(|| poll(&mut fds, Some(&PATIENCE)))?;
        if ready > 0 && read_some(reader, &mut output, usize::MAX)? == 0 {
            return Ok((child.wait()?, output));
        }
        if let Some(status) = child.try_wait()? {
            let mut left = usize::try_from(rustix::io::ioctl_fionread(reader)?).unwrap_or(usize::MAX);
            while left > 0 {
                match read_some(reader, &mut output, left)? {
                    0 => break,
                    count => left -= count,
                }
            }
            return Ok((status, output));
        }
    }
}

fn read_some(reader: &OwnedFd, output: &mut Vec<u8>, limit: usize) -> io::Result<usize> {
    let mut buffer = [0; 4096];
    let limit = limit.min(buffer.len());
    let count = rustix::io::retry_on_intr(|| rustix::io::read(reader, &mut buffer[..limit]))?;
    output.extend_from_slice(&buffer[..count]);
    Ok(count)
}

fn outcome(status: ExitStatus) -> String {
    status.code().map_or_else(|| status.to_string(), |code| format!("exit status {code}"))
}
