//! How to reach registries: values that the caller has read from its surroundings.

use std::path::PathBuf;
use std::time::Duration;

use super::credentials::{CredentialsError, Keychain, Variables};
use crate::wire::Stop;

/// Everything a [`super::Client`] needs to know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where credentials are looked for.
    pub keychain: Keychain,
    /// Which requests go through a proxy. Insecure registries are always reached directly.
    pub proxies: Proxies,
    /// Whom to trust.
    pub trust: Trust,
    /// Starts of image names, as they are written, whose registry need not prove who it is and may speak plain HTTP.
    pub insecure: Vec<String>,
    /// How this program calls itself.
    pub user_agent: String,
    /// What is done about failures that pass.
    pub retry: Retry,
    /// How long a connection may take to come about.
    pub connect_timeout: Duration,
    /// How long the other side may be silent when it is only to give something. There is no limit on a whole transfer.
    pub idle_timeout: Duration,
    /// How long it may be silent, or take nothing, when it is sent something.
    pub upload_timeout: Duration,
    /// What ends all waiting.
    pub stop: Stop,
}

impl Settings {
    /// What the variables of the environment say, which `variable` gives. All other settings have their defaults.
    ///
    /// # Errors
    ///
    /// When `CNB_REGISTRY_AUTH` is malformed.
    pub fn from_variables(variable: &dyn Fn(&str) -> Option<String>) -> Result<Self, CredentialsError> {
        let path = |name: &str| variable(name).map(PathBuf::from);
        // As Go reads them: capitals first.
        let proxy = |name: &str| variable(name).or_else(|| variable(&name.to_lowercase()));
        let variables = Variables {
            registry_auth: variable("CNB_REGISTRY_AUTH"),
            docker_config: path("DOCKER_CONFIG"),
            home: path("HOME"),
            registry_auth_file: path("REGISTRY_AUTH_FILE"),
            runtime_dir: path("XDG_RUNTIME_DIR"),
            config_home: path("XDG_CONFIG_HOME"),
        };
        Ok(Self {
            keychain: Keychain::from_variables(&variables)?,
            proxies: Proxies {
                http: proxy("HTTP_PROXY"),
                https: proxy("HTTPS_PROXY"),
                no_proxy: proxy("NO_PROXY").unwrap_or_default(),
            },
            trust: Trust {
                file: path("SSL_CERT_FILE"),
                dirs: variable("SSL_CERT_DIR").map(|dirs| std::env::split_paths(&dirs).collect()),
            },
            ..Self::default()
        })
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            keychain: Keychain::default(),
            proxies: Proxies::default(),
            trust: Trust::default(),
            insecure: Vec::new(),
            user_agent: concat!("strata/", env!("CARGO_PKG_VERSION")).to_owned(),
            retry: Retry::default(),
            connect_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(60),
            // Registries are silent while they move a large blob to its place.
            upload_timeout: Duration::from_secs(300),
            stop: Stop::default(),
        }
    }
}

/// The values of `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`, with their meaning in Go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies {
    /// The proxy for plain HTTP.
    pub http: Option<String>,
    /// The proxy for HTTPS.
    pub https: Option<String>,
    /// Hosts that are reached directly, separated by commas.
    pub no_proxy: String,
}

/// The values of `SSL_CERT_FILE` and `SSL_CERT_DIR`. What is not given is looked for where systems keep it; where there
/// is nothing, Mozilla's list counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// A file of certificates in PEM.
    pub file: Option<PathBuf>,
    /// Directories of such files.
    pub dirs: Option<Vec<PathBuf>>,
}

/// What is done about failures that pass: an overloaded registry, a broken connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// How often something is tried in all; at least once.
    pub attempts: u32,
    /// The pause after the first attempt. It is three times as long after each further one.
    pub first_pause: Duration,
    /// No pause is longer, whatever the registry asks for.
    pub longest_pause: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self { attempts: 3, first_pause: Duration::from_secs(1), longest_pause: Duration::from_secs(30) }
    }
}
