//! Names of images: `[registry/]repository[:tag][@digest]`.
//!
//! Defaults are Docker's: registry `index.docker.io` (also under the name `docker.io`), `library/` before a repository
//! of one part there, tag `latest`. When a name has a tag and a digest, the digest alone counts.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Digest, DigestError};

/// The registry of names that have none.
pub const DEFAULT_REGISTRY: &str = "index.docker.io";
/// The tag of names that have neither tag nor digest.
pub const DEFAULT_TAG: &str = "latest";

/// The name of an image, complete and well formed.
///
/// ```
/// let name: strata_oci::Reference = "busybox".parse()?;
/// assert_eq!(name.to_string(), "index.docker.io/library/busybox:latest");
/// assert_eq!(name.layout_path(), std::path::Path::new("index.docker.io/library/busybox/latest"));
/// # Ok::<(), strata_oci::ReferenceError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    registry: String,
    repository: String,
    target: Target,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Target {
    Tag(String),
    Digest(Digest),
}

/// A text that is not the name of an image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot parse image name {text:?}: {problem}")]
pub struct ReferenceError {
    /// The whole text.
    pub text: String,
    /// What is wrong with which part.
    pub problem: ReferenceProblem,
}

/// What is wrong with the name of an image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceProblem {
    /// There is no repository.
    #[error("the repository is missing")]
    NoRepository,
    /// The registry is not a host with an optional port.
    #[error("{0:?} is not a registry (a host and, perhaps, a port)")]
    Registry(String),
    /// The repository has a character or a separator out of place.
    #[error("{0:?} is not a repository (lower-case letters and digits, separated by one of . _ __ - /)")]
    Repository(String),
    /// The repository is too long.
    #[error("the repository is longer than 255 characters")]
    TooLong,
    /// The tag has a character out of place, or is too long.
    #[error("{0:?} is not a tag (at most 128 letters, digits, _ . -, not starting with . or -)")]
    Tag(String),
    /// The digest is malformed.
    #[error(transparent)]
    Digest(DigestError),
}

impl Reference {
    /// The registry, `index.docker.io` by default; with its port, if it has one.
    #[must_use]
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository, with the `library/` that Docker Hub implies.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag; none when the name has a digest.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        match &self.target {
            Target::Tag(tag) => Some(tag),
            Target::Digest(_) => None,
        }
    }

    /// The digest, if the name has one.
    #[must_use]
    pub fn digest(&self) -> Option<Digest> {
        match self.target {
            Target::Tag(_) => None,
            Target::Digest(digest) => Some(digest),
        }
    }

    /// The tag or the digest, as text: what comes last in the address of the manifest in a registry.
    #[must_use]
    pub fn identifier(&self) -> String {
        match &self.target {
            Target::Tag(tag) => tag.clone(),
            Target::Digest(digest) => digest.to_string(),
        }
    }

    /// The same repository at a digest.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { target: Target::Digest(digest), ..self.clone() }
    }

    /// The same repository at a tag.
    ///
    /// # Errors
    ///
    /// When `tag` is not a tag.
    pub fn with_tag(&self, tag: &str) -> Result<Self, ReferenceError> {
        match parse_tag(tag) {
            Ok(tag) => Ok(Self { target: Target::Tag(tag), ..self.clone() }),
            Err(problem) => {
                Err(ReferenceError { text: format!("{}/{}:{tag}", self.registry, self.repository), problem })
            }
        }
    }

    /// Where the image lies below the directory of all images: `<registry>/<repository>/<tag>`, or
    /// `<registry>/<repository>/sha256/<hex>`. Relative, and never with `..` in it.
    #[must_use]
    pub fn layout_path(&self) -> PathBuf {
        let path = PathBuf::from(&self.registry).join(&self.repository);
        match &self.target {
            Target::Tag(tag) => path.join(tag),
            Target::Digest(digest) => path.join("sha256").join(digest.hex()),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { registry, repository, target } = self;
        match target {
            Target::Tag(tag) => write!(f, "{registry}/{repository}:{tag}"),
            Target::Digest(digest) => write!(f, "{registry}/{repository}@{digest}"),
        }
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        parse(text).map_err(|problem| ReferenceError { text: text.to_owned(), problem })
    }
}

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

fn parse(text: &str) -> Result<Reference, ReferenceProblem> {
    let (name, digest) = match text.split_once('@') {
        Some((name, digest)) => (name, Some(digest.parse().map_err(ReferenceProblem::Digest)?)),
        None => (text, None),
    };
    // A colon before the last slash belongs to a port.
    let last_part = name.rfind('/').map_or(0, |slash| slash + 1);
    let (path, tag) = match name[last_part..].split_once(':') {
        Some((last, tag)) => (&name[..last_part + last.len()], Some(parse_tag(tag)?)),
        None => (name, None),
    };
    let (registry, repository) = match path.split_once('/') {
        Some((first, rest)) if is_like_a_host(first) => (parse_registry(first)?, rest),
        _ => (DEFAULT_REGISTRY.to_owned(), path),
    };
    let repository = parse_repository(repository, &registry)?;
    let target = match (digest, tag) {
        (Some(digest), _) => Target::Digest(digest),
        (None, Some(tag)) => Target::Tag(tag),
        (None, None) => Target::Tag(DEFAULT_TAG.to_owned()),
    };
    Ok(Reference { registry, repository, target })
}

/// Whether the first part of a name is a registry rather than the start of a repository on Docker Hub.
fn is_like_a_host(part: &str) -> bool {
    part.contains(['.', ':']) || part == "localhost" || part.bytes().any(|b| b.is_ascii_uppercase())
}

fn parse_registry(text: &str) -> Result<String, ReferenceProblem> {
    if text == "docker.io" {
        return Ok(DEFAULT_REGISTRY.to_owned());
    }
    let bad = || ReferenceProblem::Registry(text.to_owned());
    let (host, port) = match text.strip_prefix('[').map(|rest| rest.split_once(']')) {
        Some(Some((address, port))) => {
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return Err(bad());
            }
            (None, port.strip_prefix(':').or(if port.is_empty() { None } else { Some("") }))
        }
        Some(None) => return Err(bad()),
        None => match text.split_once(':') {
            Some((host, port)) => (Some(host), Some(port)),
            None => (Some(text), None),
        },
    };
    let host_is_good = host.is_none_or(|host| host.split('.').all(is_host_label));
    let port_is_good = port.is_none_or(|port| {
        port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    if host_is_good && port_is_good { Ok(text.to_owned()) } else { Err(bad()) }
}

fn is_host_label(label: &str) -> bool {
    !label.is_empty()
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

fn parse_repository(text: &str, registry: &str) -> Result<String, ReferenceProblem> {
    if text.is_empty() {
        return Err(ReferenceProblem::NoRepository);
    }
    if !text.split('/').all(is_repository_part) {
        return Err(ReferenceProblem::Repository(text.to_owned()));
    }
    let repository = if registry == DEFAULT_REGISTRY && !text.contains('/') {
        format!("library/{text}")
    } else {
        text.to_owned()
    };
    if repository.len() > 255 { Err(ReferenceProblem::TooLong) } else { Ok(repository) }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_repository_part(part: &str) -> bool {
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if !part.starts_with(is_word) || !part.ends_with(is_word) {
        return false;
    }
    part.split(is_word)
        .all(|separator| matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|b| b == b'-'))
}

fn parse_tag(text: &str) -> Result<String, ReferenceProblem> {
    let is_good = !text.is_empty()
        && text.len() <= 128
        && !text.starts_with(['.', '-'])
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
    if is_good { Ok(text.to_owned()) } else { Err(ReferenceProblem::Tag(text.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn names_are_completed_as_docker_does() {
        for (text, canonical, path) in [
            ("busybox", "index.docker.io/library/busybox:latest", "index.docker.io/library/busybox/latest"),
            ("docker.io/a", "index.docker.io/library/a:latest", "index.docker.io/library/a/latest"),
            ("index.docker.io/a/b:1", "index.docker.io/a/b:1", "index.docker.io/a/b/1"),
            ("a/b", "index.docker.io/a/b:latest", "index.docker.io/a/b/latest"),
            ("gcr.io/x", "gcr.io/x:latest", "gcr.io/x/latest"),
            ("localhost/x:v1", "localhost/x:v1", "localhost/x/v1"),
            ("host:5000/x/y:v_1.2-3", "host:5000/x/y:v_1.2-3", "host:5000/x/y/v_1.2-3"),
            ("Host/x", "Host/x:latest", "Host/x/latest"),
            ("[::1]:5000/x", "[::1]:5000/x:latest", "[::1]:5000/x/latest"),
            ("[::1]/x", "[::1]/x:latest", "[::1]/x/latest"),
            (
                "127.0.0.1:80/a__b/c---d/e.f",
                "127.0.0.1:80/a__b/c---d/e.f:latest",
                "127.0.0.1:80/a__b/c---d/e.f/latest",
            ),
            ("host:5000", "index.docker.io/library/host:5000", "index.docker.io/library/host/5000"),
        ] {
            let reference: Reference = text.parse().unwrap();
            assert_eq!(reference.to_string(), canonical);
            assert_eq!(reference.layout_path(), Path::new(path));
            assert_eq!(canonical.parse::<Reference>().unwrap(), reference);
        }
    }

    #[test]
    fn a_digest_displaces_the_tag() {
        let reference: Reference = format!("x:v1@sha256:{HEX}").parse().unwrap();
        assert_eq!(reference.tag(), None);
        assert_eq!(reference.digest().unwrap().hex(), HEX);
        assert_eq!(reference.to_string(), format!("index.docker.io/library/x@sha256:{HEX}"));
        assert_eq!(reference.layout_path(), Path::new("index.docker.io/library/x/sha256").join(HEX));
        assert_eq!(reference.with_tag("v2").unwrap().identifier(), "v2");
        assert!(reference.with_tag("../v2").is_err());
    }

    #[test]
    fn what_is_malformed_is_refused_with_its_text() {
        let long = "a".repeat(256);
        let long_tag = format!("x:{}", "a".repeat(129));
        let short_digest = format!("x@sha256:{}", &HEX[1..]);
        let upper_digest = format!("x@sha256:{}", HEX.to_uppercase());
        for (bad, part) in [
            ("", "missing"),
            ("gcr.io/", "missing"),
            ("/x", "/x"),
            ("x/", "x/"),
            ("a//b", "a//b"),
            ("..", ".."),
            ("../x", ".."),
            ("a/../b", "a/../b"),
            ("gcr.io/../x", "../x"),
            ("X", "X"),
            ("a/B", "a/B"),
            ("a___b", "a___b"),
            ("a..b", "a..b"),
            ("-a", "-a"),
            ("a-", "a-"),
            ("a b", "a b"),
            ("é", "é"),
            ("x:", "\"\""),
            ("x:.a", ".a"),
            ("x:-a", "-a"),
            ("x:a/b:c:d", "c:d"),
            ("x:a:b", "a:b"),
            ("http://x/y", "http:"),
            ("host:99999/x", "host:99999"),
            ("host:0/x", "host:0"),
            ("host:+1/x", "host:+1"),
            ("[::1/x", "[::1"),
            ("[zz:]/x", "[zz:]"),
            ("[::1]5/x", "[::1]5"),
            ("-a.io/x", "-a.io"),
            ("x@", "\"\""),
            ("x@sha512:00", "sha512:00"),
            ("x@y@z", "y@z"),
            (short_digest.as_str(), &HEX[1..]),
            (upper_digest.as_str(), "E3B0"),
            (long.as_str(), "255"),
            (long_tag.as_str(), "128"),
        ] {
            let error = bad.parse::<Reference>().expect_err(bad);
            assert_eq!(error.text, bad);
            assert!(error.to_string().contains(part), "{error} should name {part}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text: String) {
            let parsed = text.parse::<Reference>();
            proptest::prop_assert!(parsed.is_ok() || parsed.is_err());
        }

        #[test]
        fn what_parses_stays_below_the_root_and_parses_again(text in r"[a-zA-Z0-9.:/@_\[\]-]{1,40}") {
            if let Ok(reference) = text.parse::<Reference>() {
                proptest::prop_assert_eq!(&reference.to_string().parse::<Reference>().unwrap(), &reference);
                let path = reference.layout_path();
                proptest::prop_assert!(path.components().all(|part| matches!(part, std::path::Component::Normal(_))));
            }
        }
    }
}
