//! What can go wrong between this program and a Docker daemon.

use std::fmt;
use std::io;
use std::path::PathBuf;

use strata_layer::LayerError;
use strata_oci::{Digest, ReferenceError};

/// A request, as far as it may be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// What was asked for.
    pub method: &'static str,
    /// Of what, without its query.
    pub path: String,
    /// Of whom.
    pub host: String,
}

impl fmt::Display for Exchange {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {} of the Docker daemon at {}", self.method, self.path, self.host)
    }
}

/// Why something could not be had from a daemon, or given to it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address of the daemon is not one.
    #[error("cannot use DOCKER_HOST {host:?}: {problem}")]
    Host {
        /// What it says.
        host: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The variables about TLS contradict each other.
    #[error("cannot reach the Docker daemon over TLS: {0}")]
    TlsSettings(&'static str),
    /// A certificate or a key cannot be used.
    #[error("cannot use {} to reach the Docker daemon over TLS: {problem}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// There is no connection.
    #[error("cannot {} the Docker daemon at {host}", if *.again { "connect again to" } else { "connect to" })]
    Connect {
        /// Where it should be.
        host: String,
        /// Whether there was one, which the daemon closed.
        again: bool,
        /// Why not.
        source: io::Error,
    },
    /// There was no answer, or not the whole of it.
    #[error("cannot {exchange}")]
    Transport {
        /// What was asked.
        exchange: Exchange,
        /// What happened.
        source: io::Error,
    },
    /// The daemon does not do what was asked.
    #[error("cannot {exchange}: the answer is {status}: {message}")]
    Status {
        /// What was asked.
        exchange: Exchange,
        /// The status of HTTP.
        status: u16,
        /// The daemon's own words.
        message: String,
    },
    /// The answer is larger than such answers are.
    #[error("cannot {exchange}: the answer is larger than {limit} bytes")]
    TooLarge {
        /// What was asked.
        exchange: Exchange,
        /// How many bytes are allowed.
        limit: u64,
    },
    /// The answer is not the document that it should be.
    #[error("cannot understand the answer to {exchange}")]
    Document {
        /// What was asked.
        exchange: Exchange,
        /// Why not.
        source: serde_json::Error,
    },
    /// The answer lacks something that must be there.
    #[error("cannot understand the answer to {exchange}: it has no {member}")]
    Member {
        /// What was asked.
        exchange: Exchange,
        /// What is missing, or has another form.
        member: &'static str,
    },
    /// The daemon is too old, or what it says is no version.
    #[error(
        "cannot talk to the Docker daemon at {host}: it speaks version {found:?} of the API, expected {least} or a later one"
    )]
    Version {
        /// The daemon.
        host: String,
        /// Its version.
        found: String,
        /// The oldest that will do.
        least: &'static str,
    },
    /// Not the name of an image.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// An image cannot be stored under this.
    #[error("cannot store an image in a Docker daemon under {0:?}: it is not a name with a tag")]
    NotATag(String),
    /// The daemon did not take the image.
    #[error("cannot load the image into the Docker daemon at {host}: {message}")]
    Load {
        /// The daemon.
        host: String,
        /// Its own words.
        message: String,
    },
    /// The daemon has another image than the one it was given.
    #[error(
        "cannot load the image into the Docker daemon at {host}: expected image {expected} there, found {found}"
    )]
    OtherImage {
        /// The daemon.
        host: String,
        /// What it should be.
        expected: Digest,
        /// What it is.
        found: String,
    },
    /// What the daemon gave is no archive of an image.
    #[error("cannot read the archive of image {image} from the Docker daemon")]
    Archive {
        /// The image.
        image: String,
        /// Why not.
        source: LayerError,
    },
    /// An archive of an image could not be made.
    #[error("cannot write the archive of the image for the Docker daemon")]
    Pack(#[source] LayerError),
}

impl Error {
    /// What one can do about it, when somebody knows.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let Self::Connect { host, source, .. } = self else { return None };
        let is_socket = host.starts_with("unix://");
        let hint = match source.kind() {
            io::ErrorKind::NotFound if is_socket => {
                "is the daemon running? In a container, mount its socket, as with \
                 `-v /var/run/docker.sock:/var/run/docker.sock`; or set DOCKER_HOST"
            }
            io::ErrorKind::PermissionDenied => {
                "run this as a user who may use the socket: root, or a member of its group, which is mostly `docker`"
            }
            io::ErrorKind::ConnectionRefused => "is the daemon running? DOCKER_HOST says where it is",
            _ => return None,
        };
        Some(hint.to_owned())
    }

    /// Whether the daemon understood, and refused.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self, Self::Status { .. } | Self::Load { .. })
    }
}
