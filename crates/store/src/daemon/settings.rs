//! Where the daemon is: values that the caller has read from its surroundings.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::Error;
use crate::wire::Stop;

/// Everything a [`super::Client`] needs to know. The variables have the meaning that they have for Docker's own client.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The value of `DOCKER_HOST`; the usual socket when it is not set or empty.
    pub host: Option<String>,
    /// The value of `DOCKER_CERT_PATH`: a directory with `ca.pem`, `cert.pem` and `key.pem`. Only for TCP.
    pub cert_path: Option<PathBuf>,
    /// Whether `DOCKER_TLS_VERIFY` is set and not empty.
    pub tls_verify: bool,
    /// The value of `DOCKER_API_VERSION`: spoken without asking the daemon what it knows.
    pub api_version: Option<String>,
    /// Where layers are kept until the daemon has them, and those that it gave. Nothing has a name there.
    pub temp_dir: PathBuf,
    /// How this program calls itself.
    pub user_agent: String,
    /// How long a connection over TCP may take to come about.
    pub connect_timeout: Duration,
    /// How long the answer to a small question may take. Images may take as long as they need.
    pub answer_timeout: Duration,
    /// What ends all waiting.
    pub stop: Stop,
}

impl Settings {
    /// What the variables say of Docker's own client; `temp_dir` is where layers wait.
    #[must_use]
    pub fn from_variables(variable: &dyn Fn(&str) -> Option<String>, temp_dir: PathBuf) -> Self {
        Self {
            host: variable("DOCKER_HOST"),
            cert_path: variable("DOCKER_CERT_PATH").map(PathBuf::from),
            tls_verify: variable("DOCKER_TLS_VERIFY").is_some_and(|text| !text.is_empty()),
            api_version: variable("DOCKER_API_VERSION"),
            temp_dir,
            ..Self::default()
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            host: None,
            cert_path: None,
            tls_verify: false,
            api_version: None,
            temp_dir: PathBuf::from("/tmp"),
            user_agent: concat!("strata/", env!("CARGO_PKG_VERSION")).to_owned(),
            connect_timeout: Duration::from_secs(30),
            // A daemon that is busy with an image answers late.
            answer_timeout: Duration::from_secs(300),
            stop: Stop::default(),
        }
    }
}

/// The address of a daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Host {
    /// The path of a socket.
    Unix(PathBuf),
    /// Host and port.
    Tcp(String),
}

impl Host {
    /// Understands the value of `DOCKER_HOST`.
    pub(super) fn parse(text: &str) -> Result<Self, Error> {
        let refused = |problem| Err(Error::Host { host: text.to_owned(), problem });
        let Some((scheme, rest)) = text.split_once("://") else {
            return refused("expected unix://<path> or tcp://<host>:<port>");
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        match scheme {
            "unix" if rest.starts_with('/') => Ok(Self::Unix(rest.into())),
            "unix" => refused("the path of the socket does not begin with /"),
            "tcp" if is_host_and_port(rest) => Ok(Self::Tcp(rest.to_owned())),
            "tcp" => refused("expected tcp://<host>:<port>"),
            "ssh" => refused("daemons are not reached over SSH"),
            _ => refused("only unix:// and tcp:// are supported"),
        }
    }

    /// As HTTP wants to have it. A socket has no name.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Unix(_) => "docker",
            Self::Tcp(address) => address,
        }
    }
}

fn is_host_and_port(text: &str) -> bool {
    let is_host = |host: &str| !host.is_empty() && !host.contains(['/', '@', '?', '#']);
    text.rsplit_once(':').is_some_and(|(host, port)| is_host(host) && port.parse::<u16>().is_ok())
}

impl Default for Host {
    fn default() -> Self {
        Self::Unix("/var/run/docker.sock".into())
    }
}

impl fmt::Display for Host {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(out, "unix://{}", path.display()),
            Self::Tcp(address) => write!(out, "tcp://{address}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_understood_or_refused_with_a_reason() {
        for (text, expected) in [
            ("unix:///run/user/1000/docker.sock", Host::Unix("/run/user/1000/docker.sock".into())),
            ("tcp://localhost:2375", Host::Tcp("localhost:2375".into())),
            ("tcp://[::1]:2376/", Host::Tcp("[::1]:2376".into())),
        ] {
            assert_eq!(Host::parse(text).unwrap(), expected);
        }
        for (text, problem) in [
            ("/var/run/docker.sock", "expected unix://"),
            ("unix://docker.sock", "does not begin with /"),
            ("tcp://localhost", "expected tcp://"),
            ("tcp://localhost:2375/base", "expected tcp://"),
            ("tcp://:2375", "expected tcp://"),
            ("ssh://me@there", "SSH"),
            ("npipe:////./pipe/docker_engine", "only unix:// and tcp://"),
        ] {
            let error = Host::parse(text).unwrap_err().to_string();
            assert!(error.contains(problem) && error.contains(text), "{error}");
        }
    }
}
