//! Runs a program on a terminal of its own, for a person at another one.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, ioctl_fionbio, read, write};
use rustix::process::{Pid, PidfdFlags, ioctl_tiocsctty, pidfd_open, setsid};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcgetwinsize, tcsetwinsize};

/// Runs a program on a new terminal, until it ends, lets go of the terminal, or nobody types any more. What is typed is
/// read from `input`, what is shown is written to `output`; whoever holds those has the person's terminal in raw mode.
/// The new terminal has the size of `output`, also when that changes, or a usual one.
///
/// # Errors
/// When there are no terminals here, or the program cannot be started or waited for.
pub fn on_terminal(
    mut command: Command,
    input: &mut (impl Read + AsFd),
    output: &mut (impl Write + AsFd),
) -> io::Result<ExitStatus> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags)?;
    unlockpt(&master)?;
    tcsetwinsize(&master, USUAL)?;
    follow_size(&master, &output);
    ioctl_fionbio(&master, true)?;
    let slave: OwnedFd = ioctl_tiocgptpeer(&master, flags)?;
    let terminal = slave.try_clone()?;
    command.stdin(slave.try_clone()?).stdout(slave.try_clone()?).stderr(slave);
    #[expect(unsafe_code, reason = "a program gets its terminal between fork and exec")]
    // SAFETY: both are plain system calls, which a child of a program with threads may make.
    unsafe {
        command.pre_exec(move || {
            setsid()?;
            Ok(ioctl_tiocsctty(&terminal)?)
        });
    }
    let mut child = command.spawn()?;
    // The terminal ends when the program and its children have let go of it, and nobody else has it.
    drop(command);
    let relayed = relay(&master, Pid::from_child(&child), input, output);
    // One that is gone cannot be killed, and of another nobody would ever see anything.
    child.kill().unwrap_or_default();
    let status = child.wait()?;
    relayed.map(|()| status)
}

const USUAL: Winsize = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };

/// Looked at again and again: the signal that tells of it goes to others.
fn follow_size(master: impl AsFd, output: impl AsFd) {
    let size = |terminal| tcgetwinsize(terminal).map(|size| (size.ws_row, size.ws_col));
    if let (Ok(own), Ok(wanted)) = (size(master.as_fd()), size(output.as_fd()))
        && own != wanted
        && wanted.0 > 0
        && wanted.1 > 0
    {
        let wanted = Winsize { ws_row: wanted.0, ws_col: wanted.1, ..USUAL };
        // A size is not worth a failure.
        tcsetwinsize(master, wanted).unwrap_or_default();
    }
}

/// What happened while waiting.
struct Ready {
    is_typed: bool,
    is_left: bool,
    takes: bool,
    is_shown: bool,
    is_over: bool,
}

/// Waits for what is of use: what is typed only when all before has been taken.
fn wait(
    input: impl AsFd,
    master: impl AsFd,
    ended: impl AsFd,
    has_pending: bool,
) -> Result<Option<Ready>, Errno> {
    const SIZE_CHANGES: Timespec = Timespec { tv_sec: 0, tv_nsec: 250_000_000 };
    let (typing, taking) = match has_pending {
        true => (PollFlags::empty(), PollFlags::IN | PollFlags::OUT),
        false => (PollFlags::IN, PollFlags::IN),
    };
    let mut sources =
        [PollFd::new(&input, typing), PollFd::new(&master, taking), PollFd::new(&ended, PollFlags::IN)];
    match poll(&mut sources, Some(&SIZE_CHANGES)) {
        Ok(_) => {}
        Err(Errno::INTR) => return Ok(None),
        Err(errno) => return Err(errno),
    }
    let [typed, terminal, ended] = sources.map(|source| source.revents());
    Ok(Some(Ready {
        is_typed: !typed.is_empty() && !has_pending,
        is_left: !typed.is_empty() && has_pending,
        takes: terminal.contains(PollFlags::OUT),
        is_shown: terminal.intersects(!PollFlags::OUT),
        is_over: !ended.is_empty(),
    }))
}

fn relay(
    master: &OwnedFd,
    child: Pid,
    input: &mut (impl Read + AsFd),
    output: &mut (impl Write + AsFd),
) -> io::Result<()> {
    let ended = pidfd_open(child, PidfdFlags::empty())?;
    let mut buffer = vec![0; 16 * 1024];
    // What was typed and the program has not taken.
    let mut pending = Vec::new();
    loop {
        let ready = wait(&*input, master, &ended, !pending.is_empty())?;
        follow_size(master, &*output);
        let Some(ready) = ready else { continue };
        // When the program has ended, all that it said is there; others may go on for ever.
        let most = if ready.is_over { 16 } else { usize::from(ready.is_shown) };
        for _ in 0..most {
            match read(master, &mut *buffer) {
                Ok(count @ 1..) => {
                    output.write_all(buffer.get(..count).unwrap_or_default())?;
                    output.flush()?;
                }
                Err(Errno::AGAIN | Errno::INTR) => break,
                // Nobody has the terminal open any more.
                Ok(0) | Err(_) => return Ok(()),
            }
        }
        if ready.is_over {
            return Ok(());
        }
        if ready.is_left {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if ready.is_typed {
            match input.read(&mut buffer)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => pending.extend(buffer.iter().take(count)),
            }
        }
        if ready.takes || ready.is_typed {
            match write(master, &pending) {
                Ok(count) => drop(pending.drain(..count)),
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::pipe;

    #[test]
    fn a_paste_does_not_wait_for_a_program_that_waits_to_be_read() {
        const LINES: usize = 5000;
        let (mut input, mut typing) = pipe().unwrap();
        let typist = std::thread::spawn(move || {
            (0..LINES).for_each(|line| typing.write_all(format!("{line}\n").as_bytes()).unwrap());
            typing
        });
        // A line of a kilobyte for each that is typed: neither fits where terminals keep them.
        let mut command = Command::new("sh");
        let script = format!(
            "stty -echo; i=0; while [ $i -lt {LINES} ]; do read -r line; printf '%01000d\\n' $line; i=$((i+1)); done"
        );
        command.args(["-c", &script]);
        let mut output = tempfile::tempfile().unwrap();
        let status = on_terminal(command, &mut input, &mut output).unwrap();
        assert!(status.success(), "{status}");
        drop(typist.join().unwrap());
        let shown = read_again(output);
        let zeros = "0".repeat(990);
        let lines: Vec<&str> = shown.lines().filter_map(|line| line.strip_prefix(&zeros)).collect();
        assert_eq!(lines.len(), LINES);
        assert!(lines.iter().enumerate().all(|(number, line)| line.parse() == Ok(number)));
    }

    #[test]
    fn it_ends_with_the_program_the_terminal_or_the_keys() {
        for (script, expected) in [("echo said; exit 3", Some(3)), ("exec <&- >&- 2>&-; sleep 1000", None)] {
            let (mut input, typing) = pipe().unwrap();
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            let mut output = tempfile::tempfile().unwrap();
            let status = on_terminal(command, &mut input, &mut output).unwrap();
            drop(typing);
            assert_eq!(status.code(), expected, "{script}");
            assert_eq!(read_again(output), if expected.is_some() { "said\r\n" } else { "" });
        }
        let (mut input, typing) = pipe().unwrap();
        drop(typing);
        let mut command = Command::new("sleep");
        command.arg("1000");
        let ended = on_terminal(command, &mut input, &mut tempfile::tempfile().unwrap());
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    fn read_again(mut file: File) -> String {
        use std::io::Seek;
        file.rewind().unwrap();
        io::read_to_string(file).unwrap()
    }
}
