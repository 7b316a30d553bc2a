//! What can go wrong between this program and a registry.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use strata_oci::{Digest, ReferenceError};
use ureq::http::{Method, Uri};

use super::address::shown;
use super::credentials::CredentialsError;

/// A request, as far as it may be shown: its address has no user and no query, where secrets are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// What was asked for.
    pub method: String,
    /// Where.
    pub url: String,
}

impl Exchange {
    pub(super) fn new(method: &Method, address: &Uri) -> Self {
        Self { method: method.to_string(), url: shown(address) }
    }
}

impl fmt::Display for Exchange {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {}", self.method, self.url)
    }
}

/// One complaint of a registry (distribution specification, "Error Codes").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Its code: `MANIFEST_UNKNOWN` and the like.
    pub code: String,
    /// What the registry adds for people.
    pub message: String,
}

/// An answer that is not the one hoped for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What was asked.
    pub exchange: Exchange,
    /// The status of HTTP.
    pub status: u16,
    /// The registry's own words; empty when it answered in another form than registries do.
    pub problems: Vec<Problem>,
    /// Where credentials were looked for, and what was there.
    pub looked_in: Vec<String>,
    /// How long the registry wants to be left alone.
    pub retry_after: Option<Duration>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = ureq::http::StatusCode::from_u16(self.status);
        let reason = status.ok().and_then(|status| status.canonical_reason()).unwrap_or_default();
        write!(out, "cannot {}: the answer is {} {reason}", self.exchange, self.status)?;
        for (i, Problem { code, message }) in self.problems.iter().enumerate() {
            let separator = if i == 0 { ": " } else { "; " };
            let colon = if message.is_empty() || code.is_empty() { "" } else { ": " };
            write!(out, "{separator}{code}{colon}{message}")?;
        }
        Ok(())
    }
}

/// Why something could not be had from a registry, or given to it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not the name of an image.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// Credentials could not be found out.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// There was no answer, or not the whole of it.
    #[error("cannot {exchange}")]
    Transport {
        /// What was asked.
        exchange: Exchange,
        /// What happened.
        source: io::Error,
    },
    /// Neither over HTTPS nor over plain HTTP is there a registry.
    #[error("cannot reach registry {registry}: {}", lines(attempts))]
    Unreachable {
        /// The registry.
        registry: String,
        /// What was tried.
        attempts: Vec<Error>,
    },
    /// The registry wants to know who one is, or does not believe it.
    #[error("{0}")]
    Unauthorized(Box<Refusal>),
    /// The registry does not do what was asked.
    #[error("{0}")]
    Status(Box<Refusal>),
    /// The registry sends requests elsewhere, where they must not go.
    #[error("cannot {exchange}: it leads to {location:?}, {problem}")]
    Redirect {
        /// What was asked.
        exchange: Exchange,
        /// Where it leads.
        location: String,
        /// Why not there.
        problem: &'static str,
    },
    /// The token server named by the registry must not have the credentials.
    #[error("cannot get a token for {registry} from {realm:?}: {problem}")]
    Realm {
        /// The registry.
        registry: String,
        /// Its token server.
        realm: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The registry wants a proof of another kind than those that are understood.
    #[error("cannot log in to {registry}: expected a challenge of kind Basic or Bearer, found {found:?}")]
    Challenge {
        /// The registry.
        registry: String,
        /// What it wants.
        found: Vec<String>,
    },
    /// The answer of the token server has no token.
    #[error("cannot {exchange}: the answer has no token: {problem}")]
    Token {
        /// What was asked.
        exchange: Exchange,
        /// What is wrong with it.
        problem: String,
    },
    /// An answer lacks a header that must be there, or has it in another form.
    #[error("cannot {exchange}: the answer has no good {name} header: {found:?}")]
    Header {
        /// What was asked.
        exchange: Exchange,
        /// The header.
        name: &'static str,
        /// What it is, if it is there.
        found: Option<String>,
    },
    /// An answer is longer than it may be.
    #[error("cannot {exchange}: the answer is longer than {limit} bytes")]
    TooLarge {
        /// What was asked.
        exchange: Exchange,
        /// How many bytes are allowed.
        limit: u64,
    },
    /// The registry has stored other bytes than it was sent.
    #[error("cannot {exchange}: the registry stored {found} instead of {expected}")]
    Stored {
        /// What was asked.
        exchange: Exchange,
        /// What was sent.
        expected: Digest,
        /// What the registry says it has.
        found: Digest,
    },
    /// A host and a path do not make an address.
    #[error("cannot make an address of {0:?}")]
    Address(String),
    /// The certificates to trust cannot be read.
    #[error("cannot read the certificates in {}: {problem}", path.display())]
    Trust {
        /// The file.
        path: PathBuf,
        /// Why not.
        problem: String,
    },
    /// The address of the proxy is not one.
    #[error("cannot use the proxy {proxy:?}: {problem}")]
    Proxy {
        /// Its address, without user.
        proxy: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The bytes to upload could not be had.
    #[error("cannot upload {digest}: its bytes cannot be read")]
    Source {
        /// What was to be uploaded.
        digest: Digest,
        /// Why not.
        source: io::Error,
    },
    /// The upload ended before all was written; a stream cannot be sent twice.
    #[error("cannot go on with the upload to {place}: it has ended")]
    Ended {
        /// The repository.
        place: String,
    },
}

impl Error {
    /// Whether it may work when tried again.
    pub(super) fn may_pass(&self) -> bool {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, TimedOut, UnexpectedEof};
        match self {
            Self::Transport { source, .. } => {
                let passing = [BrokenPipe, ConnectionAborted, ConnectionReset, TimedOut, UnexpectedEof];
                passing.contains(&source.kind())
            }
            Self::Status(refusal) => is_passing(refusal.status),
            Self::Unreachable { attempts, .. } => attempts.iter().any(Self::may_pass),
            _ => false,
        }
    }

    /// How long the registry wants to be left alone.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status(refusal) => refusal.retry_after,
            Self::Unreachable { attempts, .. } => attempts.iter().find_map(Self::retry_after),
            _ => None,
        }
    }

    /// The status of HTTP, if it was one that told of the failure.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Unauthorized(refusal) | Self::Status(refusal) => Some(refusal.status),
            _ => None,
        }
    }

    /// What a person can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unauthorized(refusal) if refusal.looked_in.is_empty() => {
                Some("set CNB_REGISTRY_AUTH, or log in so that there is a Docker configuration".to_owned())
            }
            Self::Unauthorized(refusal) => {
                Some(format!("credentials were looked for in {}", refusal.looked_in.join(", ")))
            }
            Self::Unreachable { attempts, .. } => attempts.iter().find_map(Self::hint),
            Self::Status(refusal) if refusal.status == 405 => {
                Some("is the registry read-only, or a mirror of another one?".to_owned())
            }
            Self::Transport { source, .. } if source.to_string().contains("certificate") => Some(
                "if the registry's certificate is private, name its authority with SSL_CERT_FILE".to_owned(),
            ),
            Self::Transport { source, .. } if source.to_string().contains("Connection refused") => {
                Some("nothing listens there; is the registry's name right, and does it run?".to_owned())
            }
            Self::Transport { source, .. } if source.to_string().contains("failed to lookup address") => {
                Some("no machine has this name; is it right, and is there a network?".to_owned())
            }
            _ => None,
        }
    }
}

/// Statuses that are worth another try: overload, and gateways that lost their servers.
pub(super) fn is_passing(status: u16) -> bool {
    matches!(status, 408 | 429 | 499 | 500 | 502 | 503 | 504 | 522)
}

fn lines(attempts: &[Error]) -> String {
    let line = |error: &Error| match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    };
    attempts.iter().map(line).collect::<Vec<_>>().join("; ")
}
