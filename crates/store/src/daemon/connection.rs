//! The way to a daemon: a socket, TCP, or TLS over TCP with certificates on both sides.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::Error;
use super::settings::{Host, Settings};
use crate::wire::{self, Patient, Socket};

/// Bytes in both directions.
pub(super) trait Stream: Read + Write + Send {
    /// How long the other side may be silent, or take nothing; as long as it likes without one.
    fn set_patience(&mut self, patience: Option<Duration>);
}

impl<S: Socket + Read + Write> Stream for Patient<S> {
    fn set_patience(&mut self, patience: Option<Duration>) {
        self.patience = patience;
    }
}

impl Stream for StreamOwned<ClientConnection, Patient<TcpStream>> {
    fn set_patience(&mut self, patience: Option<Duration>) {
        self.sock.patience = patience;
    }
}

/// Whom to trust and who one is.
pub(super) type Tls = Arc<ClientConfig>;

/// Reads certificates and key; nothing for a connection without TLS.
pub(super) fn read_tls(host: &Host, settings: &Settings) -> Result<Option<Tls>, Error> {
    if matches!(host, Host::Unix(_)) {
        return Ok(None);
    }
    match (&settings.cert_path, settings.tls_verify) {
        (None, false) => Ok(None),
        (None, true) => Err(Error::TlsSettings("DOCKER_TLS_VERIFY is set, but DOCKER_CERT_PATH is not")),
        (Some(_), false) => Err(Error::TlsSettings(
            "DOCKER_CERT_PATH is set without DOCKER_TLS_VERIFY, and a daemon that need not prove who it is is not supported; \
             set DOCKER_TLS_VERIFY=1",
        )),
        (Some(dir), true) => read_certificates(dir).map(Some),
    }
}

fn read_certificates(dir: &Path) -> Result<Tls, Error> {
    let (ca, cert, key) = (dir.join("ca.pem"), dir.join("cert.pem"), dir.join("key.pem"));
    let mut roots = RootCertStore::empty();
    for root in certificates(&ca)? {
        roots.add(root).map_err(|error| unusable(&ca, &error))?;
    }
    let identity = certificates(&cert)?;
    let secret = PrivateKeyDer::from_pem_file(&key).map_err(|error| unusable(&key, &error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_root_certificates(roots).with_client_auth_cert(identity, secret))
        .map(Arc::new)
        .map_err(|error| unusable(&cert, &error))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let found: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).and_then(|certificates| certificates.collect());
    let found = found.map_err(|error| unusable(path, &error))?;
    if found.is_empty() {
        return Err(Error::Certificate {
            path: path.to_owned(),
            problem: "it has no certificate".to_owned(),
        });
    }
    Ok(found)
}

fn unusable(path: &Path, error: &dyn std::error::Error) -> Error {
    Error::Certificate { path: path.to_owned(), problem: error.to_string() }
}

/// Opens a connection.
pub(super) fn dial(host: &Host, tls: Option<&Tls>, settings: &Settings) -> io::Result<Box<dyn Stream>> {
    let (timeout, stop) = (settings.connect_timeout, &settings.stop);
    let address = match host {
        Host::Unix(path) => {
            return Ok(Box::new(Patient::new(UnixStream::connect(path)?, None, stop.clone())?));
        }
        Host::Tcp(address) => address,
    };
    let stream = wire::connect(&wire::look_up(address, timeout, stop)?, timeout, stop)?;
    let stream = Patient::new(stream, Some(timeout), stop.clone())?;
    let Some(tls) = tls else { return Ok(Box::new(stream)) };
    let name = address.rsplit_once(':').map_or(address.as_str(), |(name, _)| name);
    let name = name.trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(name).map_err(io::Error::other)?;
    let session = ClientConnection::new(Arc::clone(tls), name).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(session, stream);
    // Who the other side is, is found out now rather than at the first request.
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(Box::new(stream))
}
