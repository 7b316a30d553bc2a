//! Runs a program on a terminal of its own, for a person at another one.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, ioctl_tiocsctty, pidfd_open, setsid};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// Runs a program on a new terminal of this size, until it ends or nobody types any more. What is typed is read from
/// `input`, what is shown is written to `output`; whoever holds those has the person's terminal in raw mode.
///
/// # Errors
/// When there are no terminals here, or the program cannot be started or waited for.
pub fn on_terminal(
    mut command: Command,
    (rows, columns): (u16, u16),
    input: &mut (impl Read + AsFd),
    output: &mut impl Write,
) -> io::Result<ExitStatus> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags)?;
    unlockpt(&master)?;
    tcsetwinsize(&master, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 })?;
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
    let relayed = relay(File::from(master), Pid::from_child(&child), input, output);
    if relayed.is_err() {
        // The reason is told; one that is gone cannot be killed.
        child.kill().unwrap_or_default();
    }
    let status = child.wait()?;
    relayed.map(|()| status)
}

fn relay(
    mut master: File,
    child: Pid,
    input: &mut (impl Read + AsFd),
    output: &mut impl Write,
) -> io::Result<()> {
    let ended = pidfd_open(child, PidfdFlags::empty())?;
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let (typed, shown, is_over) = {
            let sources = [input.as_fd(), master.as_fd(), ended.as_fd()];
            let mut sources = sources.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
            match poll(&mut sources, None) {
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(errno.into()),
            }
            let [typed, shown, is_over] = &sources;
            (!typed.revents().is_empty(), !shown.revents().is_empty(), !is_over.revents().is_empty())
        };
        if shown {
            match master.read(&mut buffer) {
                // Nobody has the terminal open any more.
                Ok(0) | Err(_) => return Ok(()),
                Ok(count) => {
                    output.write_all(buffer.get(..count).unwrap_or_default())?;
                    output.flush()?;
                    continue;
                }
            }
        }
        if is_over {
            return Ok(());
        }
        if typed {
            match input.read(&mut buffer)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => master.write_all(buffer.get(..count).unwrap_or_default())?,
            }
        }
    }
}
