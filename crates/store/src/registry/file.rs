//! Files that are on web servers rather than in registries: fetched as registries are reached, but without credentials.

use std::io::{Read, Write};

use serde::{Deserialize, Serialize};
use strata_oci::{Digest, Hasher};
use ureq::http::header::{ETAG, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED};
use ureq::http::uri::Scheme;
use ureq::http::{Method, Uri};

use super::address::shown;
use super::http::{Identity, Request};
use super::retry::persist;
use super::{Client, Error};
use crate::StoreError;

/// Bytes that are read and written at once.
const BUFFER: usize = 128 * 1024;

/// What a web server said of a file, by which it can tell later whether that is still the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Validators {
    /// The `ETag` header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// The `Last-Modified` header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modified: Option<String>,
}

impl Validators {
    /// Whether it said anything.
    pub fn is_any(&self) -> bool {
        self.etag.is_some() || self.modified.is_some()
    }
}

/// A file that was fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Download {
    /// Digest of its bytes.
    pub digest: Digest,
    /// By what the server will know it.
    pub validators: Validators,
}

impl Client {
    /// Writes what is at an address, of at most `limit` bytes; its digest. Redirects are followed, but not from HTTPS to
    /// where others could listen.
    ///
    /// # Errors
    ///
    /// When the text is no address of HTTP, there is nothing or too much, or it cannot be read or written.
    pub fn fetch(&self, address: &str, limit: u64, to: &mut dyn Write) -> Result<Digest, StoreError> {
        let fetched = self.fetch_unless(address, &Validators::default(), limit, to)?;
        let unasked = || StoreError::from(Error::Address(without_secrets(address)));
        fetched.map(|fetched| fetched.digest).ok_or_else(unasked)
    }

    /// As [`fetch`](Self::fetch), unless the server says that it is what it said to be `known`; `None` then.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn fetch_unless(
        &self,
        address: &str,
        known: &Validators,
        limit: u64,
        to: &mut dyn Write,
    ) -> Result<Option<Download>, StoreError> {
        let refused = || Error::Address(without_secrets(address));
        let address: Uri = address.parse().ok().ok_or_else(refused)?;
        let is_http =
            [&Scheme::HTTP, &Scheme::HTTPS].into_iter().any(|scheme| address.scheme() == Some(scheme));
        let has_user = address.authority().is_none_or(|authority| authority.as_str().contains('@'));
        if !is_http || has_user {
            return Err(refused().into());
        }
        let http = &self.shared.http;
        let answer = persist(http.settings(), || {
            let mut request = Request::new(Method::GET, address.clone());
            let conditions = [(IF_NONE_MATCH, &known.etag), (IF_MODIFIED_SINCE, &known.modified)];
            for (name, value) in conditions {
                if let Some(value) = value {
                    request = request.header(name, value);
                }
            }
            let answer = http.send(&mut request, Identity::Proven, &|_| Ok(None))?;
            let is_known = answer.status() == 304 && known.is_any();
            if answer.status() == 200 || is_known { Ok(answer) } else { Err(answer.into_refusal(&[])) }
        })?;
        if answer.status() == 304 {
            return Ok(None);
        }
        let said = |name| answer.header(name).map(str::to_owned);
        let validators = Validators { etag: said(ETAG), modified: said(LAST_MODIFIED) };
        let failed = |source| StoreError::Io { action: "fetch", path: shown(&address).into(), source };
        let mut reader = answer.into_reader().take(limit + 1);
        let (mut hasher, mut buffer, mut size) = (Hasher::default(), vec![0; BUFFER], 0);
        loop {
            let count = reader.read(&mut buffer).map_err(failed)?;
            let bytes = buffer.get(..count).unwrap_or_default();
            size += bytes.len() as u64;
            if size > limit {
                let problem = format!("it is larger than {} MiB", limit >> 20);
                return Err(failed(std::io::Error::other(problem)));
            }
            if bytes.is_empty() {
                return Ok(Some(Download { digest: hasher.finish(), validators }));
            }
            hasher.update(bytes);
            to.write_all(bytes).map_err(failed)?;
        }
    }
}

/// What is said of a text that is no address: neither its query nor a user.
fn without_secrets(text: &str) -> String {
    let text = text.split(['?', '#']).next().unwrap_or_default();
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    let (host, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let host = host.rsplit('@').next().unwrap_or_default();
    let sign = if scheme.is_empty() { "" } else { "://" };
    format!("{scheme}{sign}{host}{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_in_addresses_are_not_said() {
        for (text, expected) in [
            ("http://me:hush@x/y?z#w", "http://x/y"),
            ("ftp://x/y@1", "ftp://x/y@1"),
            ("me:hush@x", "x"),
            ("", ""),
        ] {
            assert_eq!(without_secrets(text), expected);
        }
    }
}
