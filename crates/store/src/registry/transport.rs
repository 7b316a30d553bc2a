//! Connections for the HTTP library that are given up as soon as somebody wants out.

use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use ureq::Error;
use ureq::Timeout;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectProxyConnector, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout,
    RustlsConnector, Transport,
};

use crate::wire::{self, Patient, Stop};

/// For want of any other limit.
const LONG: Duration = Duration::from_secs(3600);
/// As many addresses of a host as the library keeps.
const MAX_ADDRESSES: usize = 16;

/// How connections come about: through a proxy or not, with TLS or not.
pub(super) fn connector(stop: &Stop) -> impl Connector {
    ().chain(ConnectProxyConnector::default()).chain(Connect(stop.clone())).chain(RustlsConnector::default())
}

/// Looks up the names of hosts.
#[derive(Debug)]
pub(super) struct LookUp(pub(super) Stop);

impl Resolver for LookUp {
    fn resolve(&self, uri: &Uri, _: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        let host = uri.scheme().zip(uri.authority());
        let host = host.and_then(|(scheme, authority)| DefaultResolver::host_and_port(scheme, authority));
        let host = host.ok_or_else(|| Error::BadUri(uri.to_string()))?;
        let found = wire::look_up(&host, limit(timeout), &self.0)
            .map_err(|error| timed_out(error, timeout.reason))?;
        let mut addresses = self.empty();
        found.into_iter().take(MAX_ADDRESSES).for_each(|address| addresses.push(address));
        if addresses.is_empty() { Err(Error::HostNotFound) } else { Ok(addresses) }
    }
}

/// Opens connections.
#[derive(Debug)]
struct Connect(Stop);

impl<In: Transport> Connector<In> for Connect {
    type Out = Either<In, Wire>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, Error> {
        // That of a proxy.
        if let Some(chained) = chained {
            return Ok(Some(Either::A(chained)));
        }
        let timeout = limit(details.timeout);
        let socket = wire::connect(&details.addrs, timeout, &self.0).map_err(|error| match error.kind() {
            // To try this again would take as long again.
            io::ErrorKind::TimedOut => {
                io::Error::other(format!("nobody answered within {} seconds", timeout.as_secs()))
            }
            _ => error,
        })?;
        let socket = Patient::new(socket, None, self.0.clone())?;
        let (input, output) = (details.config.input_buffer_size(), details.config.output_buffer_size());
        Ok(Some(Either::B(Wire { socket, buffers: LazyBuffers::new(input, output) })))
    }
}

/// A connection.
struct Wire {
    socket: Patient<TcpStream>,
    buffers: LazyBuffers,
}

impl fmt::Debug for Wire {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_tuple("Wire").field(&self.socket).finish()
    }
}

impl Transport for Wire {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let timeout = timeout.for_write();
        self.socket.patience = Some(limit(timeout));
        let bytes = self.buffers.output().get(..amount).unwrap_or_default();
        self.socket.write_all(bytes).map_err(|error| timed_out(error, timeout.reason))
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let timeout = timeout.for_read();
        self.socket.patience = Some(limit(timeout));
        let count = self.socket.read(self.buffers.input_append_buf());
        let count = count.map_err(|error| timed_out(error, timeout.reason))?;
        self.buffers.input_appended(count);
        Ok(count > 0)
    }

    /// Whether the other side has neither said anything unasked nor ended it.
    fn is_open(&mut self) -> bool {
        let socket = &self.socket.socket;
        let is_silent = |mut socket: &TcpStream| {
            socket.read(&mut [0]).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
        };
        socket.set_nonblocking(true).is_ok() && is_silent(socket) && socket.set_nonblocking(false).is_ok()
    }
}

fn limit(timeout: NextTimeout) -> Duration {
    timeout.not_zero().map_or(LONG, |limit| *limit)
}

fn timed_out(error: io::Error, reason: Timeout) -> Error {
    if error.kind() == io::ErrorKind::TimedOut { Error::Timeout(reason) } else { Error::Io(error) }
}
