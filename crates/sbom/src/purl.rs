//! Package URLs (<https://github.com/package-url/purl-spec>), in one spelling.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use strata_spec::origins::without_credentials;

/// A text that is no package URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no package URL; expected pkg:<type>/<name>@<version>")]
pub struct BadPurl(String);

/// A package URL. Two that name the same package are equal: escapes, the order of qualifiers and, where the type says
/// so, the case of letters make no difference.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Purl {
    kind: String,
    namespace: Vec<String>,
    name: String,
    version: String,
    qualifiers: BTreeMap<String, String>,
    subpath: Vec<String>,
}

/// What may stand in a part as it is.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b':');
/// What may, besides, stand in the value of a qualifier.
const VALUE: &AsciiSet = &PLAIN.remove(b'/');

impl Purl {
    /// Of a package without a namespace.
    pub fn new(kind: &str, namespace: &[&str], name: &str, version: &str) -> Self {
        let namespace = namespace.iter().filter(|part| !part.is_empty()).map(|part| (*part).to_owned());
        let purl = Self {
            kind: kind.to_owned(),
            namespace: namespace.collect(),
            name: name.to_owned(),
            version: version.to_owned(),
            qualifiers: BTreeMap::new(),
            subpath: Vec::new(),
        };
        purl.in_its_types_spelling()
    }

    /// With one more qualifier; an empty one is none.
    #[must_use]
    pub fn with(mut self, key: &str, value: &str) -> Self {
        if !value.is_empty() {
            self.qualifiers.insert(key.to_owned(), value.to_owned());
        }
        self
    }

    /// Type, namespace and name: what an update does not change.
    pub fn without_version(&self) -> String {
        let bare = Self { version: String::new(), qualifiers: BTreeMap::new(), ..self.clone() };
        bare.to_string()
    }

    /// What two names of the same package have in common. Of a distribution's package, qualifiers say where it comes from,
    /// and everybody says that otherwise; only these are part of what it is: the architecture, and the epoch of its version.
    pub fn key(&self) -> String {
        if !matches!(self.kind.as_str(), "deb" | "rpm" | "apk" | "alpm") {
            return self.to_string();
        }
        let mut bare = self.clone();
        bare.qualifiers.retain(|key, _| matches!(key.as_str(), "arch" | "epoch"));
        bare.to_string()
    }

    /// The type: `deb`, `npm`, …
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// Takes credentials out of the URLs that its qualifiers and its version may be.
    pub(crate) fn redact(&mut self) {
        for text in self.qualifiers.values_mut().chain([&mut self.version]) {
            *text = without_credentials(text).into_owned();
        }
    }

    fn in_its_types_spelling(mut self) -> Self {
        self.kind.make_ascii_lowercase();
        match self.kind.as_str() {
            "pypi" => self.name = self.name.to_lowercase().replace('_', "-"),
            "deb" | "rpm" | "apk" | "alpm" => {
                self.namespace.iter_mut().for_each(|part| *part = part.to_lowercase());
                if self.kind != "rpm" {
                    self.name = self.name.to_lowercase();
                }
            }
            "github" | "bitbucket" | "composer" => {
                self.namespace.iter_mut().for_each(|part| *part = part.to_lowercase());
                self.name = self.name.to_lowercase();
            }
            _ => {}
        }
        self
    }

    fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.trim().split_once(':')?;
        if !scheme.eq_ignore_ascii_case("pkg") {
            return None;
        }
        let (rest, subpath) = rest.split_once('#').unwrap_or((rest, ""));
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (kind, path) = rest.trim_start_matches('/').split_once('/')?;
        // A scope as in `@angular/core` may be unescaped: the version begins behind the name.
        let from = path.trim_end_matches('/').rfind('/').map_or(0, |slash| slash + 1);
        let (path, version) = match path.get(from..)?.rfind('@').filter(|at| *at > 0) {
            Some(at) => (path.get(..from + at)?, path.get(from + at + 1..)?),
            None => match path.find('@').filter(|at| *at > 0) {
                // The version itself has a slash.
                Some(at) => (path.get(..at)?, path.get(at + 1..)?),
                None => (path, ""),
            },
        };
        let mut parts = decoded_parts(path)?;
        let name = parts.pop().filter(|name| !name.is_empty())?;
        let is_kind = !kind.is_empty()
            && kind.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'+'));
        let qualifiers = query.split('&').filter_map(|pair| pair.split_once('='));
        let qualifiers = qualifiers
            .map(|(key, value)| Some((key.to_ascii_lowercase(), decoded(value)?)))
            .collect::<Option<BTreeMap<_, _>>>()?;
        let purl = Self {
            kind: kind.to_owned(),
            namespace: parts,
            name,
            version: decoded(version)?,
            qualifiers: qualifiers.into_iter().filter(|(_, value)| !value.is_empty()).collect(),
            subpath: decoded_parts(subpath)?.into_iter().filter(|part| part != "." && part != "..").collect(),
        };
        let has_control = text.contains(char::is_control) || purl.name.contains(char::is_control);
        (is_kind && !has_control).then(|| purl.in_its_types_spelling())
    }
}

fn decoded(text: &str) -> Option<String> {
    Some(percent_decode_str(text).decode_utf8().ok()?.into_owned())
}

fn decoded_parts(text: &str) -> Option<Vec<String>> {
    text.split('/').filter(|part| !part.is_empty()).map(decoded).collect()
}

impl FromStr for Purl {
    type Err = BadPurl;
    fn from_str(text: &str) -> Result<Self, BadPurl> {
        Self::parse(text).ok_or_else(|| BadPurl(text.chars().take(200).collect()))
    }
}

impl TryFrom<String> for Purl {
    type Error = BadPurl;
    fn try_from(text: String) -> Result<Self, BadPurl> {
        text.parse()
    }
}

impl From<Purl> for String {
    fn from(purl: Purl) -> Self {
        purl.to_string()
    }
}

impl fmt::Display for Purl {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = |text: &str| utf8_percent_encode(text, PLAIN).to_string();
        write!(out, "pkg:{}/", self.kind)?;
        for part in &self.namespace {
            write!(out, "{}/", plain(part))?;
        }
        out.write_str(&plain(&self.name))?;
        if !self.version.is_empty() {
            write!(out, "@{}", plain(&self.version))?;
        }
        for (number, (key, value)) in self.qualifiers.iter().enumerate() {
            let mark = if number == 0 { '?' } else { '&' };
            write!(out, "{mark}{key}={}", utf8_percent_encode(value, VALUE))?;
        }
        for (number, part) in self.subpath.iter().enumerate() {
            write!(out, "{}{}", if number == 0 { '#' } else { '/' }, plain(part))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_package_are_one() {
        for (spellings, expected) in [
            (
                &["pkg:npm/%40angular/core@1.0", "pkg:npm/@angular/core@1.0", "PKG:NPM/%40angular/core@1.0"]
                    [..],
                "pkg:npm/%40angular/core@1.0",
            ),
            (
                &["pkg:deb/Debian/curl@7.50?b=2&a=1", "pkg://deb/debian/curl@7.50?a=1&b=2&c="],
                "pkg:deb/debian/curl@7.50?a=1&b=2",
            ),
            (&["pkg:pypi/Foo_Bar@1"], "pkg:pypi/foo-bar@1"),
            (
                &["pkg:golang/google.golang.org/genproto@v1#/a/./b/"],
                "pkg:golang/google.golang.org/genproto@v1#a/b",
            ),
            (&["pkg:deb/debian/g++@12", "pkg:deb/debian/g%2B%2B@12"], "pkg:deb/debian/g%2B%2B@12"),
            (&["pkg:oci/a@sha256:0", "pkg:oci/a@sha256%3A0"], "pkg:oci/a@sha256:0"),
            (&["pkg:generic/x"], "pkg:generic/x"),
        ] {
            for text in spellings {
                let purl: Purl = text.parse().unwrap();
                assert_eq!(purl.to_string(), expected, "{text}");
                assert_eq!(purl.to_string().parse::<Purl>().unwrap(), purl);
            }
        }
    }

    #[test]
    fn what_names_no_package_is_refused() {
        for bad in [
            "",
            "pkg:",
            "pkg:npm",
            "pkg:npm/",
            "npm/x",
            "pkg:a b/x",
            "pkg:npm/%ff",
            "pkg:npm/\n",
            "http://x/y",
        ] {
            assert!(bad.parse::<Purl>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_identity_has_no_version() {
        let purl = Purl::new("deb", &["debian"], "curl", "1:2+b").with("arch", "amd64").with("distro", "");
        assert_eq!(purl.to_string(), "pkg:deb/debian/curl@1:2%2Bb?arch=amd64");
        assert_eq!(purl.without_version(), "pkg:deb/debian/curl");
        assert_eq!(purl.clone().with("distro", "debian-12").key(), purl.to_string());
        assert_eq!("pkg:npm/a@1?x=1".parse::<Purl>().unwrap().key(), "pkg:npm/a@1?x=1");
    }
}
