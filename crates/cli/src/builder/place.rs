//! Where a person says that a buildpack is.

use std::path::{Path, PathBuf};

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
        if text.starts_with("urn:cnb:registry:") || text.starts_with("urn:cnb:") {
            return Err((
                "buildpacks of the buildpack registry cannot be looked up".to_owned(),
                "name the image that the registry lists: docker://NAME",
            ));
        }
        if text.starts_with("http://") || text.starts_with("https://") {
            return Err(("it is not on this machine".to_owned(), "download it first, and name the file"));
        }
        let path = base.join(text.strip_prefix("file://").unwrap_or(text));
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
            ("./dir", Place::Folder(path("./dir"))),
            ("a.tgz", Place::Archive(path("a.tgz"))),
            ("b.cnb", Place::Image(format!("oci-archive:{}", path("b.cnb").display()))),
            ("other/id@2", Place::Image("other/id@2".into())),
            ("docker://x/y", Place::Image("docker://x/y".into())),
        ] {
            assert_eq!(Place::parse(text, base.path(), &in_builder), Ok(expected), "{text}");
        }
        for text in ["./none", "/none", "file:///none", "https://x/y.tgz", "urn:cnb:registry:a/b@1"] {
            assert!(Place::parse(text, base.path(), &in_builder).is_err(), "{text}");
        }
    }
}
