//! Runs the programs that know repositories, with limits.

use crate::interrupt::Interrupt;
use std::io::{self, Read};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};
use strata_layer::threads::refused;

/// What one program may say, in bytes.
pub(super) const MAX_OUTPUT: u64 = 256 << 20;
/// How long one may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a program says; if it fails, what it says of that, and `absent` if there is none.
pub(super) fn output(mut command: Command, absent: &str, interrupt: &Interrupt) -> Result<Vec<u8>, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => absent.to_owned(),
        _ => format!("cannot run {name}: {error}"),
    })?;
    let said = read(child.stdout.take(), MAX_OUTPUT);
    let complaint = read(child.stderr.take(), 4096);
    let output = wait(&name, &said, interrupt);
    if output.is_err() {
        // It may have ended by itself.
        child.kill().unwrap_or_default();
    }
    let status = child.wait().map_err(|error| format!("cannot run {name}: {error}"))?;
    let output = output?;
    if status.success() {
        return Ok(output);
    }
    let complaint = complaint.recv_timeout(Duration::from_secs(1)).unwrap_or_else(|_| Ok(Vec::new()));
    let complaint = String::from_utf8_lossy(&complaint.unwrap_or_default()).trim().to_owned();
    Err(complaint.replace('\n', ": ").replace(char::is_control, " "))
}

/// Waits for all that a program says, for a while.
pub(super) fn wait(
    name: &str,
    said: &Receiver<io::Result<Vec<u8>>>,
    interrupt: &Interrupt,
) -> Result<Vec<u8>, String> {
    let start = Instant::now();
    loop {
        match said.recv_timeout(Duration::from_millis(30)) {
            Ok(output) => return output.map_err(|error| format!("cannot read what {name} says: {error}")),
            Err(RecvTimeoutError::Disconnected) => return Err(format!("cannot read what {name} says")),
            Err(RecvTimeoutError::Timeout) if interrupt.asked() => return Err("interrupted".to_owned()),
            Err(RecvTimeoutError::Timeout) if start.elapsed() > PATIENCE => {
                return Err(format!("{name} took longer than {} seconds", PATIENCE.as_secs()));
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

/// Reads to the end, beside everything else. More than the limit is an error.
pub(super) fn read(stream: Option<impl Read + Send + 'static>, limit: u64) -> Receiver<io::Result<Vec<u8>>> {
    let (sender, receiver) = channel();
    // Detached on purpose: a program that was left behind may keep the stream open.
    let refused_to = sender.clone();
    let started = std::thread::Builder::new().spawn(move || {
        let mut bytes = Vec::new();
        let outcome = match stream {
            Some(stream) => stream.take(limit + 1).read_to_end(&mut bytes).map(drop),
            None => Ok(()),
        };
        let is_large = bytes.len() as u64 > limit;
        let outcome =
            outcome.and_then(|()| if is_large { Err(io::Error::other("it is too much")) } else { Ok(bytes) });
        // Nobody waits any more.
        sender.send(outcome).unwrap_or_default();
    });
    if let Err(error) = started {
        // The receiver is here.
        refused_to.send(Err(refused(&error))).unwrap_or_default();
    }
    receiver
}
