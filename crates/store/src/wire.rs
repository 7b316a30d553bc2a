//! Waiting for others over a network, which ends when somebody wants out.
//!
//! The system's calls wait for as long as they are told to. Here they are told to wait for a moment, again and again, and
//! in between it is asked whether to go on.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread::Builder;
use std::time::{Duration, Instant};

/// How long nobody asks.
const MOMENT: Duration = Duration::from_millis(100);

/// Whether somebody wants out; by default nobody ever does.
#[derive(Clone, Default)]
pub struct Stop(Option<Arc<AtomicBool>>);

impl Stop {
    /// Somebody does as soon as this is set.
    #[must_use]
    pub fn when(flag: Arc<AtomicBool>) -> Self {
        Self(Some(flag))
    }

    /// Whether it may ever be so.
    pub(crate) fn is_possible(&self) -> bool {
        self.0.is_some()
    }

    /// Whether it is so.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        self.0.as_ref().is_some_and(|flag| flag.load(Ordering::Relaxed))
    }

    /// An error if it is so: of a kind that nobody takes for one that passes.
    pub(crate) fn check(&self) -> io::Result<()> {
        if self.is_asked() { Err(io::Error::other("interrupted")) } else { Ok(()) }
    }

    /// Waits; `false` when it is so before the time is over.
    #[must_use]
    pub fn pause(&self, time: Duration) -> bool {
        let start = Instant::now();
        while let Some(left) = time.checked_sub(start.elapsed()).filter(|left| !left.is_zero()) {
            if self.is_asked() {
                return false;
            }
            std::thread::sleep(if self.0.is_some() { left.min(MOMENT) } else { left });
        }
        !self.is_asked()
    }
}

impl fmt::Debug for Stop {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_tuple("Stop").field(&self.is_asked()).finish()
    }
}

/// The addresses of `name:port`.
pub(crate) fn look_up(address: &str, timeout: Duration, stop: &Stop) -> io::Result<Vec<SocketAddr>> {
    let address = address.to_owned();
    beside(timeout, stop, move || address.to_socket_addrs().map(Iterator::collect))
}

/// Opens a connection to the first address that answers.
pub(crate) fn connect(addresses: &[SocketAddr], timeout: Duration, stop: &Stop) -> io::Result<TcpStream> {
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    let start = Instant::now();
    for (number, address) in addresses.iter().copied().enumerate() {
        // One that is silent leaves time for the others.
        let left = timeout.saturating_sub(start.elapsed()).max(MOMENT);
        let is_last = number + 1 == addresses.len();
        let left = if is_last { left } else { left / 2 };
        match beside(left, stop, move || TcpStream::connect_timeout(&address, left)) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => failure = error,
        }
        stop.check()?;
    }
    Err(failure)
}

/// Has something done that cannot be interrupted, by a thread that nobody waits for once somebody wants out.
fn beside<T: Send + 'static>(
    timeout: Duration,
    stop: &Stop,
    work: impl Fn() -> io::Result<T> + Clone + Send + 'static,
) -> io::Result<T> {
    let (sender, result) = sync_channel(1);
    let theirs = work.clone();
    // Whoever waited may be gone.
    if Builder::new().spawn(move || sender.send(theirs()).unwrap_or_default()).is_err() {
        // There is no room for another thread, so this one does it.
        return work();
    }
    let start = Instant::now();
    loop {
        match result.recv_timeout(MOMENT) {
            Ok(result) => return result,
            Err(RecvTimeoutError::Timeout) if start.elapsed() < timeout => stop.check()?,
            Err(RecvTimeoutError::Timeout) => return Err(too_long()),
            Err(RecvTimeoutError::Disconnected) => {
                return Err(io::Error::other("the thread that waits has ended; please report this"));
            }
        }
    }
}

fn too_long() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "there was no answer for too long")
}

/// A socket.
pub(crate) trait Socket: Send {
    /// How long a call waits.
    fn set_moment(&self, moment: Duration) -> io::Result<()>;
}

impl Socket for TcpStream {
    fn set_moment(&self, moment: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(moment))?;
        self.set_write_timeout(Some(moment))
    }
}

impl Socket for std::os::unix::net::UnixStream {
    fn set_moment(&self, moment: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(moment))?;
        self.set_write_timeout(Some(moment))
    }
}

/// A socket that is waited for until somebody wants out, and then no longer; else with a patience, if there is one. What
/// is over then is an error of the kind `TimedOut`.
#[derive(Debug)]
pub(crate) struct Patient<S> {
    pub(crate) socket: S,
    pub(crate) patience: Option<Duration>,
    stop: Stop,
}

impl<S: Socket> Patient<S> {
    pub(crate) fn new(socket: S, patience: Option<Duration>, stop: Stop) -> io::Result<Self> {
        socket.set_moment(MOMENT)?;
        Ok(Self { socket, patience, stop })
    }

    /// Does what waits for a moment until it has come to something.
    fn wait(&mut self, mut attempt: impl FnMut(&mut S) -> io::Result<usize>) -> io::Result<usize> {
        let start = Instant::now();
        loop {
            self.stop.check()?;
            let is_late = self.patience.is_some_and(|patience| start.elapsed() >= patience);
            match attempt(&mut self.socket) {
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                outcome => return outcome,
            }
            if is_late {
                return Err(too_long());
            }
        }
    }
}

impl<S: Socket + Read> Read for Patient<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.wait(|socket| socket.read(buffer))
    }
}

impl<S: Socket + Write> Write for Patient<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.wait(|socket| socket.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::os::unix::net::UnixStream;

    /// Asked for from the start on, or never.
    fn asked(is_asked: bool) -> Stop {
        Stop::when(Arc::new(AtomicBool::new(is_asked)))
    }

    #[test]
    fn a_silent_socket_is_waited_for_until_somebody_wants_out_or_patience_ends() {
        let (near, far) = UnixStream::pair().unwrap();
        let patience = Some(Duration::from_millis(1));
        let mut socket = Patient::new(near, patience, asked(false)).unwrap();
        assert_eq!(socket.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::TimedOut);
        (&far).write_all(b"x").unwrap();
        assert_eq!(socket.read(&mut [0]).unwrap(), 1);
        let flag = Arc::new(AtomicBool::new(false));
        (socket.stop, socket.patience) = (Stop::when(Arc::clone(&flag)), None);
        let reader = std::thread::spawn(move || (socket.read(&mut [0]), socket));
        flag.store(true, Ordering::Relaxed);
        let (outcome, mut socket) = reader.join().unwrap();
        assert_eq!(outcome.unwrap_err().to_string(), "interrupted");
        assert!(socket.write(b"x").is_err());
        drop(far);
        socket.stop = Stop::default();
        assert_eq!(socket.read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn nobody_is_looked_up_or_connected_to_for_one_who_wants_out() {
        let there = TcpListener::bind("127.0.0.1:0").unwrap();
        let addresses =
            look_up(&there.local_addr().unwrap().to_string(), MOMENT * 100, &asked(false)).unwrap();
        assert_eq!(addresses, [there.local_addr().unwrap()]);
        connect(&addresses, MOMENT * 100, &asked(false)).unwrap();
        let never = || -> io::Result<()> {
            std::thread::park();
            Ok(())
        };
        assert_eq!(beside(MOMENT * 1000, &asked(true), never).unwrap_err().to_string(), "interrupted");
        assert_eq!(beside(MOMENT, &Stop::default(), never).unwrap_err().kind(), io::ErrorKind::TimedOut);
        let gone = there.local_addr().unwrap();
        drop(there);
        let refused = connect(&[gone, gone], MOMENT * 100, &Stop::default()).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn a_pause_ends_when_somebody_wants_out() {
        assert!(!asked(true).pause(Duration::from_secs(3600)));
        assert!(asked(false).pause(Duration::from_millis(1)) && Stop::default().pause(Duration::ZERO));
    }
}
