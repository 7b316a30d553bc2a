//! What process 1 of a sandbox owes the others: to run them, to bury them, and to end them.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process_group, wait};

/// Kills every other process of the sandbox and returns how many there were.
///
/// Only process 1 of a sandbox may call it, when it waits for no child of its own; anywhere else it does nothing.
pub fn kill_leftovers() -> usize {
    if getpid() != Pid::INIT {
        return 0;
    }
    // "Group 1" is kill(-1): every process of the namespace but the caller. It fails when there is none.
    let any = kill_process_group(Pid::INIT, Signal::KILL).is_ok();
    let mut killed = 0;
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((_, status))) if any && status.terminating_signal() == Some(Signal::KILL.as_raw()) => {
                killed += 1
            }
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return killed,
        }
    }
}

/// The exit code of a process as a shell tells it.
pub(crate) fn code_of(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// Starts a program; waiting for it, with all others that become ours, is the second step.
pub(crate) fn start(argv: &[String], env: &[(String, String)], cwd: &std::path::Path) -> io::Result<u32> {
    let (program, args) = argv.split_first().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    let mut command = Command::new(program);
    command.args(args).env_clear().envs(env.iter().cloned()).current_dir(cwd);
    Ok(command.spawn()?.id())
}

/// Waits for every process that ends until `main` does; returns its exit code.
pub(crate) fn wait_for(main: u32) -> i32 {
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if u32::try_from(pid.as_raw_pid()) == Ok(main) => {
                let signal = status.terminating_signal();
                return status.exit_status().or(signal.map(|signal| 128 + signal)).unwrap_or(1);
            }
            Ok(_) | Err(Errno::INTR) => {}
            // Unreachable while `main` has not been waited for.
            Err(_) => return 1,
        }
    }
}
