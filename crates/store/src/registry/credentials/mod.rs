//! Who one is to a registry: where credentials are looked for, and in which order.
//!
//! The first place that knows the registry wins; there is no second try with others when the registry refuses them.
//! A place that cannot be used (a damaged file, a helper that fails) counts as one that knows nothing, and is named
//! when the registry refuses.

mod config_file;
mod header;
mod helper;

use std::fmt;
use std::path::PathBuf;

use crate::wire::Stop;
pub use config_file::ConfigFile;
pub use header::Headers;
pub use helper::HelperError;

/// What proves to a registry who one is.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// Nothing: what everybody may do.
    Anonymous,
    /// A user and a password.
    Password {
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
    /// A token that buys others at the token server (OAuth2 refresh token).
    IdentityToken(String),
    /// A token that the registry itself takes.
    RegistryToken(String),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the secret.
        out.write_str(match self {
            Self::Anonymous => "Anonymous",
            Self::Password { .. } => "Password(…)",
            Self::IdentityToken(_) => "IdentityToken(…)",
            Self::RegistryToken(_) => "RegistryToken(…)",
        })
    }
}

/// Why credentials could not be found out.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// `CNB_REGISTRY_AUTH` is not a JSON object of texts.
    #[error("cannot parse CNB_REGISTRY_AUTH")]
    Variable(#[source] serde_json::Error),
    /// A header in `CNB_REGISTRY_AUTH` is not one of those that are understood.
    #[error(
        "cannot use the credentials for {registry} in CNB_REGISTRY_AUTH: expected Basic, Bearer or X-Identity and a value"
    )]
    Header {
        /// Whose header it is.
        registry: String,
    },
    /// A file of credentials cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A file of credentials is not a Docker configuration.
    #[error("cannot parse {}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: serde_json::Error,
    },
    /// The entry of a registry is damaged.
    #[error("cannot use the credentials for {registry} in {}: {problem}", path.display())]
    Entry {
        /// The file.
        path: PathBuf,
        /// Whose entry it is.
        registry: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// A credential helper did not do its work.
    #[error(transparent)]
    Helper(#[from] HelperError),
}

/// One place that may know credentials.
#[derive(Clone, Debug)]
pub enum Source {
    /// The variable `CNB_REGISTRY_AUTH`.
    Headers(Headers),
    /// A Docker configuration, or the `auth.json` of Podman and its kin.
    File(ConfigFile),
    /// A file that is there and cannot be used, and why.
    Broken(String),
}

/// All places, in the order in which they are asked.
#[derive(Clone, Debug, Default)]
pub struct Keychain {
    sources: Vec<Source>,
}

/// The values of the variables that lead to credentials; the caller has read them.
#[derive(Clone, Debug, Default)]
pub struct Variables {
    /// `CNB_REGISTRY_AUTH`: a JSON object from registries to headers.
    pub registry_auth: Option<String>,
    /// `DOCKER_CONFIG`: the directory with Docker's `config.json`.
    pub docker_config: Option<PathBuf>,
    /// `HOME`.
    pub home: Option<PathBuf>,
    /// `REGISTRY_AUTH_FILE`: an `auth.json`.
    pub registry_auth_file: Option<PathBuf>,
    /// `XDG_RUNTIME_DIR`.
    pub runtime_dir: Option<PathBuf>,
    /// `XDG_CONFIG_HOME`.
    pub config_home: Option<PathBuf>,
}

/// What a keychain knows of one registry.
#[derive(Clone, Debug)]
pub struct Found {
    /// The credentials.
    pub credentials: Credentials,
    /// Where was looked, and what was there; for people.
    pub looked_in: Vec<String>,
}

impl Keychain {
    /// Asks these places in this order.
    #[must_use]
    pub fn new(sources: Vec<Source>) -> Self {
        Self { sources }
    }

    /// The places the lifecycle asks: `CNB_REGISTRY_AUTH`, then one file.
    ///
    /// # Errors
    ///
    /// When `CNB_REGISTRY_AUTH` is not JSON. A file that cannot be used is named when a registry refuses.
    pub fn from_variables(variables: &Variables) -> Result<Self, CredentialsError> {
        let mut sources = Vec::new();
        if let Some(text) = variables.registry_auth.as_deref().filter(|text| !text.is_empty()) {
            sources.push(Source::Headers(Headers::parse(text)?));
        }
        if let Some(path) = variables.config_file() {
            sources.push(match ConfigFile::read(&path) {
                Ok(file) => Source::File(file),
                Err(error) => Source::Broken(with_causes(&error)),
            });
        }
        Ok(Self { sources })
    }

    /// The credentials for a registry, as [`strata_oci::Reference::registry`] names it. May run a credential helper, for which
    /// nobody waits who wants out.
    ///
    /// # Errors
    ///
    /// When `CNB_REGISTRY_AUTH` has a header of an unknown kind for this registry.
    pub fn look_up(&self, registry: &str, stop: &Stop) -> Result<Found, CredentialsError> {
        let mut looked_in = Vec::new();
        for source in &self.sources {
            match source {
                Source::Headers(headers) => match headers.get(registry)? {
                    Some(credentials) => return Ok(Found::there(credentials, headers.name(), looked_in)),
                    None => looked_in.push(format!("{} (no entry)", headers.name())),
                },
                Source::File(file) => match file.look_up(registry, stop) {
                    Ok(Some(credentials)) => return Ok(Found::there(credentials, &file.name(), looked_in)),
                    Ok(None) => looked_in.push(format!("{} (no entry)", file.name())),
                    Err(error) => looked_in.push(with_causes(&error)),
                },
                Source::Broken(why) => looked_in.push(why.clone()),
            }
        }
        Ok(Found { credentials: Credentials::Anonymous, looked_in })
    }
}

impl Found {
    fn there(credentials: Credentials, place: &str, mut looked_in: Vec<String>) -> Self {
        looked_in.push(format!("{place} (used)"));
        Self { credentials, looked_in }
    }
}

impl Variables {
    /// The one file that counts: Docker's where there is one, else one of Podman's.
    fn config_file(&self) -> Option<PathBuf> {
        let file = |path: PathBuf| path.is_file().then_some(path);
        let in_dir = |dir: &Option<PathBuf>, name: &str| dir.as_ref().and_then(|dir| file(dir.join(name)));
        let at_home = in_dir(&self.home, ".docker/config.json");
        let configured = in_dir(&self.docker_config, "config.json");
        if at_home.is_some() || configured.is_some() {
            // The directory that is configured wins, even if it has no file: Docker's own rule.
            return if self.docker_config.is_some() { configured } else { at_home };
        }
        self.registry_auth_file
            .clone()
            .and_then(file)
            .or_else(|| in_dir(&self.runtime_dir, "containers/auth.json"))
            .or_else(|| in_dir(&self.config_home, "containers/auth.json"))
            .or_else(|| in_dir(&self.home, ".config/containers/auth.json"))
    }
}

/// An error and its causes in one line.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// The host in a key, which may be an address: `https://host/v1/` is `host`.
fn host_of(key: &str) -> &str {
    let rest = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    rest.split_once('/').map_or(rest, |(host, _)| host)
}

/// Parses `user:password` in base 64; padding may be missing.
fn decode_basic(text: &str) -> Option<Credentials> {
    let bytes = data_encoding::BASE64_NOPAD.decode(text.trim().trim_end_matches('=').as_bytes()).ok()?;
    // Docker pads what it writes with zero bytes.
    let text = String::from_utf8(bytes).ok()?;
    let (user, password) = text.trim_end_matches('\0').split_once(':')?;
    Some(Credentials::Password { user: user.to_owned(), password: password.to_owned() })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn password(user: &str) -> Credentials {
        Credentials::Password { user: user.to_owned(), password: "p".to_owned() }
    }

    fn write(dir: &Path, name: &str, text: &str) {
        let path = dir.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn config(user: &str) -> String {
        let auth = data_encoding::BASE64.encode(format!("{user}:p").as_bytes());
        format!(r#"{{"auths":{{"r.io":{{"auth":"{auth}"}}}}}}"#)
    }

    #[test]
    fn one_file_counts_and_docker_comes_before_podman() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path();
        let all = Variables {
            registry_auth: None,
            docker_config: Some(dir.join("configured")),
            home: Some(dir.join("home")),
            registry_auth_file: Some(dir.join("auth-file.json")),
            runtime_dir: Some(dir.join("run")),
            config_home: Some(dir.join("xdg")),
        };
        assert_eq!(all.config_file(), None);
        for (name, expected) in [
            ("home/.config/containers/auth.json", "home/.config/containers/auth.json"),
            ("xdg/containers/auth.json", "xdg/containers/auth.json"),
            ("run/containers/auth.json", "run/containers/auth.json"),
            ("auth-file.json", "auth-file.json"),
            ("configured/config.json", "configured/config.json"),
            ("home/.docker/config.json", "configured/config.json"),
        ] {
            write(dir, name, &config("u"));
            assert_eq!(all.config_file(), Some(dir.join(expected)), "with {name}");
        }
        let without = Variables { docker_config: None, ..all.clone() };
        assert_eq!(without.config_file(), Some(dir.join("home/.docker/config.json")));
        let elsewhere = Variables { docker_config: Some(dir.join("none")), ..all };
        assert_eq!(elsewhere.config_file(), None);
    }

    #[test]
    fn the_first_place_that_knows_the_registry_wins() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), ".docker/config.json", &config("file"));
        let mut variables = Variables { home: Some(root.path().to_owned()), ..Variables::default() };
        let look_up = |variables: &Variables, registry: &str| {
            Keychain::from_variables(variables).unwrap().look_up(registry, &Stop::default()).unwrap()
        };
        assert_eq!(look_up(&variables, "r.io").credentials, password("file"));
        let header = data_encoding::BASE64.encode(b"variable:p");
        variables.registry_auth = Some(format!(r#"{{"https://r.io/v2":"basic {header}"}}"#));
        assert_eq!(look_up(&variables, "r.io").credentials, password("variable"));
        variables.registry_auth = Some(r#"{"other.io":"Bearer t"}"#.to_owned());
        let found = look_up(&variables, "r.io");
        assert_eq!(found.credentials, password("file"));
        assert_eq!(found.looked_in[0], "CNB_REGISTRY_AUTH (no entry)");
        assert!(found.looked_in[1].ends_with("config.json (used)"), "{found:?}");
        assert_eq!(look_up(&variables, "none.io").credentials, Credentials::Anonymous);
        variables.registry_auth = Some("{".to_owned());
        assert!(matches!(Keychain::from_variables(&variables), Err(CredentialsError::Variable(_))));
    }

    #[test]
    fn a_file_that_cannot_be_used_means_anonymous_and_is_named() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), ".docker/config.json", "no json");
        let variables = Variables { home: Some(root.path().to_owned()), ..Variables::default() };
        let found = Keychain::from_variables(&variables).unwrap().look_up("r.io", &Stop::default()).unwrap();
        assert_eq!(found.credentials, Credentials::Anonymous);
        assert!(found.looked_in[0].contains("config.json"), "{found:?}");
    }

    #[test]
    fn secrets_are_not_shown() {
        let shown = format!(
            "{:?} {:?}",
            password("user"),
            Keychain::new(vec![Source::Headers(Headers::parse(r#"{"a":"Bearer hush"}"#).unwrap())])
        );
        assert!(!shown.contains("hush") && !shown.contains("user"), "{shown}");
    }
}
