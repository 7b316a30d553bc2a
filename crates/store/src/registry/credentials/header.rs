//! The variable `CNB_REGISTRY_AUTH` (platform specification, "Registry Authentication").

use std::collections::BTreeMap;
use std::fmt;

use super::{Credentials, CredentialsError, decode_basic, host_of};

/// Headers by registry, as a platform hands them over.
#[derive(Clone, PartialEq, Eq)]
pub struct Headers {
    by_key: BTreeMap<String, String>,
}

impl Headers {
    /// Parses a JSON object from registries to the value of an `Authorization` header.
    ///
    /// # Errors
    ///
    /// When it is not JSON, or not an object of texts. Headers are looked at when their registry is asked for.
    pub fn parse(text: &str) -> Result<Self, CredentialsError> {
        serde_json::from_str(text).map(|by_key| Self { by_key }).map_err(CredentialsError::Variable)
    }

    pub(super) fn name(&self) -> &'static str {
        "CNB_REGISTRY_AUTH"
    }

    /// The credentials of a registry. The key must be its name as references have it in full: `index.docker.io`, never
    /// `docker.io`.
    ///
    /// # Errors
    ///
    /// When there is a header that is not understood.
    pub fn get(&self, registry: &str) -> Result<Option<Credentials>, CredentialsError> {
        let header = self.by_key.iter().find(|(key, _)| host_of(key) == registry);
        let Some((_, header)) = header else { return Ok(None) };
        parse_header(header)
            .map(Some)
            .ok_or_else(|| CredentialsError::Header { registry: registry.to_owned() })
    }
}

fn parse_header(header: &str) -> Option<Credentials> {
    let (word, value) = header.trim().split_once(' ')?;
    let value = value.trim();
    // Anything else could end the header that it becomes.
    if value.is_empty() || !value.bytes().all(|b| b.is_ascii_graphic()) {
        return None;
    }
    match word.to_ascii_lowercase().as_str() {
        "basic" => decode_basic(value),
        "bearer" => Some(Credentials::RegistryToken(value.to_owned())),
        "x-identity" => Some(Credentials::IdentityToken(value.to_owned())),
        _ => None,
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_set().entries(self.by_key.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_understood_by_their_first_word() {
        let password = |user: &str, password: &str| Credentials::Password {
            user: user.to_owned(),
            password: password.to_owned(),
        };
        for (header, expected) in [
            ("Basic dXNlcjpwOnc=", Some(password("user", "p:w"))),
            ("basic dXNlcjo", Some(password("user", ""))),
            ("Bearer t0ken", Some(Credentials::RegistryToken("t0ken".to_owned()))),
            ("X-Identity abc", Some(Credentials::IdentityToken("abc".to_owned()))),
            ("x-IDENTITY  abc ", Some(Credentials::IdentityToken("abc".to_owned()))),
            ("Basic %%%", None),
            ("Basic bm9jb2xvbg==", None),
            ("Basic", None),
            ("Bearer ", None),
            ("Bearer a\r\nX: y", None),
            ("Digest x", None),
            ("", None),
        ] {
            let text = serde_json::json!({ "r.io": header }).to_string();
            let headers = Headers::parse(&text).unwrap();
            assert_eq!(headers.get("r.io").ok().flatten(), expected, "{header:?}");
            assert_eq!(headers.get("other.io").unwrap(), None);
        }
    }

    #[test]
    fn keys_lose_their_scheme_and_path_and_nothing_else() {
        for (key, registry, is_found) in [
            ("r.io", "r.io", true),
            ("https://r.io", "r.io", true),
            ("http://r.io/v2/x", "r.io", true),
            ("r.io:5000/a", "r.io:5000", true),
            ("r.io", "r.io:5000", false),
            ("docker.io", "index.docker.io", false),
            ("https://index.docker.io/v1/", "index.docker.io", true),
        ] {
            let headers = Headers::parse(&serde_json::json!({ key: "Bearer t" }).to_string()).unwrap();
            assert_eq!(headers.get(registry).unwrap().is_some(), is_found, "{key} for {registry}");
        }
    }

    #[test]
    fn what_is_not_an_object_of_texts_is_refused() {
        for text in ["", "[]", r#"{"a":1}"#, r#"{"a":null}"#, "{\"a\":\"b\""] {
            assert!(Headers::parse(text).is_err(), "{text}");
        }
    }
}
