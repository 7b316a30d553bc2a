//! Where a person says that a buildpack is.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use strata_oci::Digest;

/// Where a buildpack is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// All groups of the builder.
    Builder,
    /// A buildpack of the builder; without a version, the only one.
    InBuilder { id: String, version: String },
    /// A buildpack's folder.
    Folder(PathBuf),
    /// A tar archive of one, plain or compressed.
    Archive(PathBuf),
    /// A buildpackage: an image, as `strata copy` names it.
    Image(String),
    /// An archive or a buildpackage on a web server.
    Web(Download),
    /// What the buildpack registry lists under this name; without a version, the newest.
    Listed { id: String, version: String },
}

/// Something on a web server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Download {
    /// Its address.
    pub(super) address: String,
    /// What it has to be, if that was said.
    pub(super) digest: Option<Digest>,
}

impl Download {
    /// Understands `https://…` and `https://…#sha256=…`; `None` for what is no address of the web.
    ///
    /// # Errors
    /// What is wrong with what follows `#`.
    pub(super) fn parse(text: &str) -> Option<Result<Self, String>> {
        let scheme = text.split_once("://")?.0.to_ascii_lowercase();
        if !matches!(scheme.as_str(), "http" | "https") {
            return None;
        }
        let (address, digest) = match text.split_once('#') {
            Some((address, fragment)) => (address, Some(fragment)),
            None => (text, None),
        };
        let digest = digest.map(|fragment| {
            let hex = fragment.strip_prefix("sha256=").unwrap_or_default();
            let digest = Digest::from_hex(hex).ok();
            digest.ok_or_else(|| "what follows its address is not #sha256= and 64 hex digits".to_owned())
        });
        let rest = address.get(scheme.len()..).unwrap_or_default();
        Some(digest.transpose().map(|digest| Self { address: format!("{scheme}{rest}"), digest }))
    }

    /// Its address for people.
    pub(super) fn shown(&self) -> String {
        shown(&self.address).into_owned()
    }

    /// Whether nobody on the way can change it.
    pub(super) fn is_encrypted(&self) -> bool {
        self.address.starts_with("https:")
    }

    /// Whether this machine itself serves it.
    pub(super) fn is_of_this_machine(&self) -> bool {
        host(&self.address).is_some_and(|host| ["127.0.0.1", "localhost", "[::1]"].contains(&host))
    }

    /// Whether it is a buildpackage in a file, by its name.
    pub(super) fn is_package(&self) -> bool {
        self.address.split('?').next().is_some_and(|path| path.ends_with(".cnb"))
    }
}

/// The host of an address, without user and port; `None` for one that servers and clients may take for another.
fn host(address: &str) -> Option<&str> {
    let (_, rest) = address.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    // Some take it for a slash.
    if authority.contains('\\') {
        return None;
    }
    let host = authority.rsplit('@').next()?;
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => Some(name),
        _ => Some(host),
    }
}

/// Where something is, for people: of an address of the web, what may be a secret is left out.
pub(super) fn shown(text: &str) -> Cow<'_, str> {
    let is_web = |scheme: &str| ["http", "https"].iter().any(|web| scheme.eq_ignore_ascii_case(web));
    let Some((scheme, rest)) = text.split_once("://").filter(|(scheme, _)| is_web(scheme)) else {
        return Cow::Borrowed(text);
    };
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (host, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let host = host.rsplit('@').next().unwrap_or_default();
    Cow::Owned(format!("{scheme}://{host}{path}"))
}

impl Place {
    /// Understands what a person wrote; paths are relative to `base`. `in_builder` knows the ids of the builder's
    /// buildpacks.
    ///
    /// # Errors
    /// What is wrong, and what one can do, when there can be no buildpack.
    pub(super) fn parse(
        text: &str,
        base: &Path,
        in_builder: &dyn Fn(&str) -> bool,
    ) -> Result<Self, (String, &'static str)> {
        let named = |name: &str| {
            let (id, version) = name.split_once('@').unwrap_or((name, ""));
            Self::InBuilder { id: id.to_owned(), version: version.to_owned() }
        };
        if matches!(text, "from=builder" | "urn:cnb:builder") {
            return Ok(Self::Builder);
        }
        if let Some(name) =
            text.strip_prefix("urn:cnb:builder:").or_else(|| text.strip_prefix("from=builder:"))
        {
            return Ok(named(name));
        }
        if let Some(name) = text.strip_prefix("urn:cnb:registry:") {
            let (id, version) = name.split_once('@').unwrap_or((name, ""));
            return Ok(Self::Listed { id: id.to_owned(), version: version.to_owned() });
        }
        if text.starts_with("urn:cnb:") {
            return Err((
                "such a name is not known".to_owned(),
                "there are urn:cnb:builder:ID and urn:cnb:registry:NAMESPACE/NAME, each perhaps with @VERSION",
            ));
        }
        if let Some(download) = Download::parse(text) {
            let hint = "as in https://example.com/buildpack.tgz#sha256=…, without user or password";
            return download.map(Self::Web).map_err(|problem| (problem, hint));
        }
        let path: PathBuf = base.join(text.strip_prefix("file://").unwrap_or(text)).components().collect();
        if path.is_dir() {
            return Ok(Self::Folder(path));
        }
        if path.is_file() {
            let is_package = path.extension().is_some_and(|extension| extension == "cnb");
            return Ok(if is_package { Self::package(&path) } else { Self::Archive(path) });
        }
        let is_path = text.starts_with(['/', '.']) || text.starts_with("file://");
        if is_path {
            return Err((
                format!("there is no {}", path.display()),
                "a buildpack is a folder with buildpack.toml, bin/detect and bin/build, an archive of one, or an image",
            ));
        }
        if in_builder(text.split_once('@').map_or(text, |(id, _)| id)) {
            return Ok(named(text));
        }
        Ok(Self::Image(text.to_owned()))
    }

    fn package(path: &Path) -> Self {
        Self::Image(format!("oci-archive:{}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_shown_without_secrets() {
        for (text, expected) in [
            ("https://x/y.tgz?key=hush", "https://x/y.tgz"),
            ("https://x/y.tgz?key=hush#sha256=1", "https://x/y.tgz"),
            ("https://x/y.tgz#md5=1?key=hush", "https://x/y.tgz"),
            ("HTTP://me:hush@x/y@1", "HTTP://x/y@1"),
            ("https://me:hush@x?key=hush", "https://x"),
            ("docker://x/y@sha256:1", "docker://x/y@sha256:1"),
            ("./dir?", "./dir?"),
        ] {
            assert_eq!(shown(text), expected);
        }
        let download = Download::parse("HTTP://X/y?z").unwrap().unwrap();
        assert_eq!(download.address, "http://X/y?z");
        assert!(!download.is_encrypted());
        assert!(!Download::parse("http://x#hush").unwrap().unwrap_err().contains("hush"));
    }

    #[test]
    fn only_this_machine_itself_is_this_machine() {
        for (address, expected) in [
            ("http://localhost/x", true),
            ("http://localhost:8080?x", true),
            ("http://127.0.0.1", true),
            ("http://[::1]:80/x", true),
            ("http://[::1]/x", true),
            ("http://me@localhost:80/x", true),
            ("http://localhost:80@evil.example/x", false),
            ("http://localhost@evil.example:80/x", false),
            ("http://evil.example/@localhost", false),
            ("http://evil.example?@localhost", false),
            ("http://evil.example\\@localhost/x", false),
            ("http://localhost.evil.example", false),
            ("http://localhost:x", false),
        ] {
            let download = Download::parse(address).unwrap().unwrap();
            assert_eq!(download.is_of_this_machine(), expected, "{address}");
        }
    }

    #[test]
    fn buildpacks_are_found_by_what_is_there() {
        let base = tempfile::tempdir().unwrap();
        std::fs::create_dir(base.path().join("dir")).unwrap();
        for file in ["a.tgz", "b.cnb"] {
            std::fs::write(base.path().join(file), "").unwrap();
        }
        let path = |name: &str| base.path().join(name);
        let in_builder = |id: &str| id == "some/id";
        let within = |id: &str, version: &str| Place::InBuilder { id: id.into(), version: version.into() };
        for (text, expected) in [
            ("from=builder", Place::Builder),
            ("from=builder:a/b@1", within("a/b", "1")),
            ("urn:cnb:builder:a/b", within("a/b", "")),
            ("some/id@2", within("some/id", "2")),
            ("some/id", within("some/id", "")),
            ("dir", Place::Folder(path("dir"))),
            ("./dir", Place::Folder(path("dir"))),
            ("a.tgz", Place::Archive(path("a.tgz"))),
            ("b.cnb", Place::Image(format!("oci-archive:{}", path("b.cnb").display()))),
            ("other/id@2", Place::Image("other/id@2".into())),
            ("docker://x/y", Place::Image("docker://x/y".into())),
            ("urn:cnb:registry:a/b@1", Place::Listed { id: "a/b".into(), version: "1".into() }),
            ("https://x/y.tgz", Place::Web(Download { address: "https://x/y.tgz".into(), digest: None })),
        ] {
            assert_eq!(Place::parse(text, base.path(), &in_builder), Ok(expected), "{text}");
        }
        for text in [
            "./none",
            "/none",
            "file:///none",
            "https://x/y.tgz#sha256=1",
            "http://x#",
            "urn:cnb:other:a/b@1",
        ] {
            assert!(Place::parse(text, base.path(), &in_builder).is_err(), "{text}");
        }
    }
}
