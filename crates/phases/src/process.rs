//! Running a buildpack's program and reading what it says.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use std::borrow::Cow;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use strata_layer::threads::REFUSED;

/// A program to run. A value until it is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    /// The program, by the very path that it was found by: it may look at its own name.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Its whole environment.
    pub env: Vec<(OsString, OsString)>,
    /// Where it runs.
    pub dir: PathBuf,
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It exited with a status.
    Code(i32),
    /// A signal killed it.
    Signal(i32),
}

impl Ended {
    /// What somebody can do about it.
    pub fn hint(self) -> Option<&'static str> {
        Some(match self {
            Self::Code(126) => {
                "a program that it calls cannot be run; is it executable, and for this machine?"
            }
            Self::Code(127) => "a program that it calls is not there; does the builder have it?",
            Self::Signal(9) | Self::Code(137) => {
                "was the machine, or the build's share of it, out of memory? Give it more, or let it do less at once"
            }
            Self::Signal(11) | Self::Code(139) => "a program of the buildpack has crashed; tell its authors",
            Self::Code(_) | Self::Signal(_) => return None,
        })
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit status {code}"),
            Self::Signal(signal) => write!(f, "killed by signal {signal}{}", signal_name(*signal)),
        }
    }
}

fn signal_name(signal: i32) -> &'static str {
    match signal {
        2 => " (SIGINT)",
        6 => " (SIGABRT)",
        9 => " (SIGKILL)",
        11 => " (SIGSEGV)",
        15 => " (SIGTERM)",
        _ => "",
    }
}

/// What a run left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// How it ended.
    pub ended: Ended,
    /// Whether some other process still holds its output open.
    pub output_still_open: bool,
}

/// Why a program cannot be run, and what somebody can do about it; `None` when the error says it all.
///
/// The kernel names the program only, even if it is the interpreter in its first line that is not there.
pub fn not_started(program: &Path, error: &io::Error) -> Option<(String, String)> {
    // Of any error here, the first one counts.
    let metadata = program.metadata();
    let first_line = || {
        let mut head = [0; 256];
        let count = File::open(program).and_then(|mut file| file.read(&mut head)).unwrap_or_default();
        let head = String::from_utf8_lossy(head.get(..count).unwrap_or_default()).into_owned();
        head.split('\n').next().unwrap_or_default().to_owned()
    };
    let interpreter = || {
        let line = first_line();
        let name = line.strip_prefix("#!")?.split([' ', '\t']).find(|word| !word.is_empty())?.to_owned();
        Some((name.trim_end_matches('\r').to_owned(), name.ends_with('\r')))
    };
    let hint = |text: &str| text.to_owned();
    match error.raw_os_error()? {
        NOT_FOUND if metadata.is_err() => {
            let what =
                format!("a buildpack has bin/detect and bin/build, and {} is not there", program.display());
            Some((hint("there is no such file"), what))
        }
        NOT_FOUND => Some(match interpreter() {
            Some((name, false)) if Path::new(&name).exists() => (
                format!("its interpreter {name} needs what is not there"),
                hint("is it for another machine, or another C library?"),
            ),
            Some((name, true)) => (
                format!("its interpreter is '{name}' and a carriage return, which is not there"),
                hint("write the script with line ends of Unix"),
            ),
            Some((name, false)) => (
                format!("its interpreter {name} is not there"),
                hint("use a builder image that has it, or another first line"),
            ),
            None => (
                hint("the program that loads its libraries is not there"),
                hint("link it statically, or use a builder image with its C library"),
            ),
        }),
        NOT_PERMITTED if metadata.is_ok_and(|metadata| metadata.permissions().mode() & 0o111 == 0) => {
            Some((hint("it is not executable"), format!("make it so: chmod +x {}", program.display())))
        }
        NOT_EXECUTABLE => Some((
            hint("it is neither a script with an interpreter nor a program for this machine"),
            hint("begin a script with a line as #!/usr/bin/env bash, or compile it for this machine"),
        )),
        NO_MORE => Some((error.to_string(), hint(REFUSED))),
        _ => None,
    }
}

const NO_MORE: i32 = rustix::io::Errno::AGAIN.raw_os_error();
const NOT_FOUND: i32 = rustix::io::Errno::NOENT.raw_os_error();
const NOT_PERMITTED: i32 = rustix::io::Errno::ACCESS.raw_os_error();
const NOT_EXECUTABLE: i32 = rustix::io::Errno::NOEXEC.raw_os_error();

/// Runs a program; its standard output and error arrive at `on_output` in the order written.
///
/// Returns when the program itself has ended, even if a process that it left behind holds the output open.
///
/// # Errors
/// When the program cannot be started or its output cannot be read.
pub fn run(invocation: &Invocation, on_output: &mut dyn FnMut(&[u8])) -> io::Result<Run> {
    run_command(Command::new(&invocation.program), invocation, on_output)
}

/// Runs a program as another user, in no group but that user's; the rest is as of [`run`]. Root stays what it is.
///
/// # Errors
/// As there.
pub fn run_as(
    invocation: &Invocation,
    (uid, gid): (u32, u32),
    on_output: &mut dyn FnMut(&[u8]),
) -> io::Result<Run> {
    let mut command = Command::new(&invocation.program);
    if (uid, gid) != (0, 0) {
        command.uid(uid).gid(gid);
    }
    run_command(command, invocation, on_output)
}

fn run_command(
    mut command: Command,
    invocation: &Invocation,
    on_output: &mut dyn FnMut(&[u8]),
) -> io::Result<Run> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    let mut child = command
        .args(&invocation.args)
        .env_clear()
        .envs(invocation.env.iter().map(|(name, value)| (name, value)))
        .current_dir(&invocation.dir)
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .spawn()?;
    // It has writing ends of the pipe.
    drop(command);
    let output = follow(&mut child, reader, on_output);
    if output.is_err() {
        // The error of reading is what the caller needs; a child that is already gone cannot be killed.
        child.kill().unwrap_or_default();
    }
    let status = child.wait()?;
    Ok(Run { ended: ended(status), output_still_open: output? })
}

/// Reads until the end of the output, or until the child has ended and nothing more is to be read.
fn follow(child: &mut Child, reader: OwnedFd, on_output: &mut dyn FnMut(&[u8])) -> io::Result<bool> {
    const PATIENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
    let mut reader = File::from(reader);
    let mut buffer = vec![0; 64 * 1024];
    // What was in the pipe when the program had ended; a process left behind may go on writing for ever.
    let mut rest: Option<u64> = None;
    loop {
        let has_ended = rest.is_some() || child.try_wait()?.is_some();
        if has_ended && rest.is_none() {
            rest = Some(rustix::io::ioctl_fionread(&reader)?);
        }
        let readable = {
            let mut fds = [PollFd::from_borrowed_fd(reader.as_fd(), PollFlags::IN)];
            let timeout = if has_ended { Timespec { tv_sec: 0, tv_nsec: 0 } } else { PATIENCE };
            match poll(&mut fds, Some(&timeout)) {
                Ok(ready) => ready > 0,
                Err(rustix::io::Errno::INTR) => false,
                Err(error) => return Err(error.into()),
            }
        };
        if !readable {
            if has_ended {
                return Ok(true);
            }
            continue;
        }
        let wanted =
            rest.map_or(buffer.len(), |left| buffer.len().min(usize::try_from(left).unwrap_or(0).max(1)));
        match reader.read(buffer.get_mut(..wanted).unwrap_or_default()) {
            Ok(0) => return Ok(false),
            Ok(_) if rest == Some(0) => return Ok(true),
            Ok(count) => {
                on_output(buffer.get(..count).unwrap_or_default());
                rest = rest.map(|left| left.saturating_sub(count as u64));
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn ended(status: ExitStatus) -> Ended {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => Ended::Code(code),
        (None, signal) => Ended::Signal(signal.unwrap_or_default()),
    }
}

/// Cuts output into lines. A line without an end is passed on when it grows past 64 KiB.
#[derive(Debug, Default)]
pub struct Lines {
    pending: Vec<u8>,
}

impl Lines {
    const LONGEST: usize = 64 * 1024;

    /// Takes bytes and hands complete lines on.
    pub fn feed(&mut self, bytes: &[u8], on_line: &mut dyn FnMut(String)) {
        for &byte in bytes {
            if byte == b'\n' || self.pending.len() >= Self::LONGEST {
                self.flush(on_line);
            }
            if byte != b'\n' {
                self.pending.push(byte);
            }
        }
    }

    /// Hands on what is left after the last line end.
    pub fn finish(&mut self, on_line: &mut dyn FnMut(String)) {
        if !self.pending.is_empty() {
            self.flush(on_line);
        }
    }

    /// What there is of a line that has not ended: as it was drawn last, should it be drawn again and again.
    pub fn so_far(&self) -> Option<String> {
        let is_return = |byte: &u8| *byte == b'\r';
        let end = self.pending.iter().rposition(|byte| !is_return(byte))?;
        let drawn = self.pending.get(..=end).unwrap_or_default();
        let start = drawn.iter().rposition(is_return).map_or(0, |at| at + 1);
        Some(String::from_utf8_lossy(drawn.get(start..).unwrap_or_default()).into_owned())
    }

    fn flush(&mut self, on_line: &mut dyn FnMut(String)) {
        let bytes = std::mem::take(&mut self.pending);
        let text = String::from_utf8_lossy(&bytes);
        on_line(text.strip_suffix('\r').unwrap_or(&text).to_owned());
    }
}

/// What a program said without the sequences that select colours (ECMA-48, 8.3.117).
pub(crate) fn without_colours(said: &str) -> Cow<'_, str> {
    let Some((before, mut rest)) = said.split_once("\u{1b}[") else { return Cow::Borrowed(said) };
    let mut plain = before.to_owned();
    loop {
        let (piece, more) =
            rest.split_once("\u{1b}[").map_or((rest, None), |(piece, more)| (piece, Some(more)));
        let after = piece.trim_start_matches(|c: char| c.is_ascii_digit() || matches!(c, ';' | ':'));
        match after.strip_prefix('m') {
            Some(text) => plain.push_str(text),
            None => plain.extend(["\u{1b}[", piece]),
        }
        match more {
            Some(more) => rest = more,
            None => return Cow::Owned(plain),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> (Run, String) {
        let invocation = Invocation {
            program: "/bin/sh".into(),
            args: vec!["-c".into(), script.into()],
            env: vec![("PATH".into(), "/usr/bin:/bin".into())],
            dir: "/".into(),
        };
        let mut output = Vec::new();
        let run = run(&invocation, &mut |bytes| output.extend_from_slice(bytes)).unwrap();
        (run, String::from_utf8(output).unwrap())
    }

    #[test]
    fn both_outputs_arrive_in_order_with_the_exit_status() {
        let (run, output) = shell("echo one; echo two >&2; echo three; exit 7");
        assert_eq!(output, "one\ntwo\nthree\n");
        assert_eq!(run, Run { ended: Ended::Code(7), output_still_open: false });
    }

    #[test]
    fn a_process_left_behind_does_not_hold_the_build_up() {
        // `exec` makes the sleeper's pid the one that is printed, so that the test can end it.
        let (run, output) = shell("sleep 60 & echo $!");
        assert!(run.output_still_open);
        let pid = rustix::process::Pid::from_raw(output.trim().parse().unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }

    #[test]
    fn a_process_left_behind_that_goes_on_writing_does_not_hold_the_build_up() {
        let (run, output) = shell("trap '' PIPE; (echo $$; while echo x; do :; done) 2>/dev/null & exit 0");
        assert!(run.output_still_open, "{}", output.len());
    }

    #[test]
    fn why_a_program_cannot_be_started_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("build");
        let run = || {
            let invocation =
                Invocation { program: program.clone(), args: Vec::new(), env: Vec::new(), dir: "/".into() };
            let error = super::run(&invocation, &mut |_| {}).unwrap_err();
            not_started(&program, &error).map(|(cause, _)| cause).unwrap_or_default()
        };
        assert_eq!(run(), "there is no such file");
        for (text, mode, expected) in [
            ("#!/bin/sh\n", 0o644, "it is not executable"),
            ("#!/no/such -x\n", 0o755, "its interpreter /no/such is not there"),
            ("#!/no/such\r\n", 0o755, "a carriage return"),
            ("\u{7f}ELF but not really", 0o755, "neither a script"),
        ] {
            std::fs::write(&program, text).unwrap();
            std::fs::set_permissions(&program, std::fs::Permissions::from_mode(mode)).unwrap();
            assert!(run().contains(expected), "{text}: {}", run());
        }
    }

    #[test]
    fn a_signal_is_told_from_a_status() {
        assert_eq!(shell("kill -9 $$").0.ended, Ended::Signal(9));
    }

    #[test]
    fn lines_are_cut_and_endless_ones_are_passed_on() {
        let mut seen = Vec::new();
        let mut lines = Lines::default();
        lines.feed(b"a\r\nb", &mut |line| seen.push(line));
        lines.feed(b"c\n\nd", &mut |line| seen.push(line));
        lines.finish(&mut |line| seen.push(line));
        assert_eq!(seen, ["a", "bc", "", "d"]);
        for (said, so_far) in
            [("", None), ("ab", Some("ab")), ("\r10%\r", Some("10%")), ("50%", Some("50%")), ("\n", None)]
        {
            lines.feed(said.as_bytes(), &mut |_| {});
            assert_eq!(lines.so_far().as_deref(), so_far);
        }
        let mut count = 0;
        lines.feed(&vec![b'x'; 200 * 1024], &mut |_| count += 1);
        assert_eq!(count, 3);
    }

    #[test]
    fn last_words_have_no_colours() {
        for (said, expected) in [
            ("plain", "plain"),
            ("\u{1b}[0;31mred\u{1b}[0m and\u{1b}[m more", "red and more"),
            ("\u{1b}[38:2:1:2:3m\u{1b}[1mx", "x"),
            ("a\u{1b}[2Jb\u{1b}[", "a\u{1b}[2Jb\u{1b}["),
        ] {
            assert_eq!(without_colours(said), expected);
        }
    }
}
