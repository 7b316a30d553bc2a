//! Docker's `config.json`, and the `auth.json` of Podman and its kin, which has the same form.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde_json::Value;
use strata_oci::reference::DEFAULT_REGISTRY;

use super::{Credentials, CredentialsError, decode_basic, helper, host_of};
use crate::wire::Stop;

/// Larger files are refused.
const MAX_SIZE: u64 = 16 * 1024 * 1024;
/// The key of Docker Hub.
const HUB_KEY: &str = "https://index.docker.io/v1/";

/// A file of credentials by registry.
#[derive(Clone)]
pub struct ConfigFile {
    path: PathBuf,
    auths: BTreeMap<String, Value>,
    store: Option<String>,
    helpers: BTreeMap<String, String>,
}

impl ConfigFile {
    /// Reads the file.
    ///
    /// # Errors
    ///
    /// When it cannot be read or understood.
    pub fn read(path: &Path) -> Result<Self, CredentialsError> {
        let failed = |source| CredentialsError::Read { path: path.to_owned(), source };
        let mut text = String::new();
        let file = File::open(path).map_err(failed)?;
        file.take(MAX_SIZE).read_to_string(&mut text).map_err(failed)?;
        Self::parse(path, &text)
    }

    /// Parses the text of the file; `path` is for messages.
    ///
    /// # Errors
    ///
    /// When it is not JSON of the right shape.
    pub fn parse(path: &Path, text: &str) -> Result<Self, CredentialsError> {
        let failed = |source| CredentialsError::Parse { path: path.to_owned(), source };
        let mut value: Value = serde_json::from_str(text).map_err(failed)?;
        let mut take = |member: &str| value.get_mut(member).map(Value::take).unwrap_or_default();
        let (auths, store, helpers) = (take("auths"), take("credsStore"), take("credHelpers"));
        let store: Option<String> = serde_json::from_value(store).map_err(failed)?;
        let auths: Option<_> = serde_json::from_value(auths).map_err(failed)?;
        let helpers: Option<_> = serde_json::from_value(helpers).map_err(failed)?;
        Ok(Self {
            path: path.to_owned(),
            auths: auths.unwrap_or_default(),
            store: store.filter(|store| !store.is_empty()),
            helpers: helpers.unwrap_or_default(),
        })
    }

    pub(super) fn name(&self) -> String {
        self.path.display().to_string()
    }

    /// The credentials of a registry: from its helper, else from the common store, else from the file. Who wants
    /// out does not wait for a helper.
    ///
    /// # Errors
    ///
    /// When a helper fails, or the entry is damaged.
    pub fn look_up(&self, registry: &str, stop: &Stop) -> Result<Option<Credentials>, CredentialsError> {
        let key = if registry == DEFAULT_REGISTRY { HUB_KEY } else { registry };
        let helper = self.helpers.get(key).or_else(|| self.helpers.get(registry)).or(self.store.as_ref());
        if let Some(name) = helper.filter(|name| !name.is_empty()) {
            return Ok(helper::get(name, key, stop)?);
        }
        let is_hub_name = |host: &str| registry == DEFAULT_REGISTRY && host == "docker.io";
        // An entry for one repository says nothing of the registry.
        let is_same_host = |entry: &str| {
            let host = host_of(entry);
            let is_whole = entry == host || entry.contains("://");
            is_whole && (host == registry || is_hub_name(host))
        };
        let exact = self.auths.get(key);
        let entry =
            exact.or_else(|| self.auths.iter().find(|(entry, _)| is_same_host(entry)).map(|(_, v)| v));
        entry.map_or(Ok(None), |entry| self.parse_entry(registry, entry))
    }

    fn parse_entry(&self, registry: &str, entry: &Value) -> Result<Option<Credentials>, CredentialsError> {
        let text = |member: &str| {
            entry.get(member).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
        };
        if let Some(token) = text("identitytoken") {
            return Ok(Some(Credentials::IdentityToken(token)));
        }
        if let Some(token) = text("registrytoken") {
            return Ok(Some(Credentials::RegistryToken(token)));
        }
        if let Some(auth) = text("auth") {
            let problem = "auth is not a user and a password in base 64";
            let path = self.path.clone();
            let damaged = || CredentialsError::Entry { path, registry: registry.to_owned(), problem };
            return decode_basic(&auth).map(Some).ok_or_else(damaged);
        }
        Ok(text("username")
            .map(|user| Credentials::Password { user, password: text("password").unwrap_or_default() }))
    }
}

impl fmt::Debug for ConfigFile {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_tuple("ConfigFile").field(&self.path).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(user: &str, password: &str) -> Credentials {
        Credentials::Password { user: user.to_owned(), password: password.to_owned() }
    }

    #[test]
    fn entries_are_found_by_registry() {
        let text = r#"{
            "auths": {
                "https://index.docker.io/v1/": {"auth": "aHViOnB3"},
                "r.io": {"username": "u", "password": "p"},
                "https://old.io/v1/": {"auth": "b2xkOnB3AAA="},
                "id.io": {"auth": "eDp5", "identitytoken": "id"},
                "tok.io": {"registrytoken": "tok"},
                "scoped.io/repo": {"auth": "eDp5"},
                "empty.io": {},
                "bad.io": {"auth": "%"}
            },
            "HttpHeaders": {"x": "y"}
        }"#;
        let file = ConfigFile::parse(Path::new("/c.json"), text).unwrap();
        for (registry, expected) in [
            ("index.docker.io", Some(password("hub", "pw"))),
            ("r.io", Some(password("u", "p"))),
            ("r.io:5000", None),
            ("old.io", Some(password("old", "pw"))),
            ("id.io", Some(Credentials::IdentityToken("id".to_owned()))),
            ("tok.io", Some(Credentials::RegistryToken("tok".to_owned()))),
            ("scoped.io", None),
            ("empty.io", None),
            ("none.io", None),
        ] {
            assert_eq!(file.look_up(registry, &Stop::default()).unwrap(), expected, "{registry}");
        }
        let error = file.look_up("bad.io", &Stop::default()).unwrap_err().to_string();
        assert!(error.contains("bad.io") && error.contains("/c.json"), "{error}");
    }

    #[test]
    fn podman_calls_docker_hub_docker_io() {
        let file =
            ConfigFile::parse(Path::new("a"), r#"{"auths":{"docker.io":{"auth":"aHViOnB3"}}}"#).unwrap();
        assert_eq!(file.look_up("index.docker.io", &Stop::default()).unwrap(), Some(password("hub", "pw")));
    }

    #[test]
    fn absent_and_null_members_are_empty() {
        for text in ["{}", r#"{"auths":null,"credsStore":null,"credHelpers":null}"#, r#"{"credsStore":""}"#] {
            let file = ConfigFile::parse(Path::new("a"), text).unwrap();
            assert_eq!(file.look_up("r.io", &Stop::default()).unwrap(), None, "{text}");
        }
        for text in ["", "{", r#"{"auths":[]}"#, r#"{"credsStore":1}"#] {
            assert!(ConfigFile::parse(Path::new("a"), text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_helper_goes_before_the_store_and_the_store_before_the_file() {
        let text =
            r#"{"auths":{"r.io":{"auth":"aHViOnB3"}},"credsStore":"../store","credHelpers":{"h.io":"../h"}}"#;
        let file = ConfigFile::parse(Path::new("a"), text).unwrap();
        // Names that are refused, so that nothing runs.
        for (registry, name) in [("r.io", "../store"), ("h.io", "../h")] {
            let error = file.look_up(registry, &Stop::default()).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
    }
}
