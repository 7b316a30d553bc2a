//! What image extensions generate: `extend-config.toml`, and where it is in the generated directory
//! (image extension specification, "Generation"; platform specification, "Outputs" of the detector).

use crate::PlatformApi;
use crate::buildpack::escape_id;
use crate::doc::{DocError, from_toml};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Which image a Dockerfile extends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The image that buildpacks run in.
    Build,
    /// The image that the app runs in.
    Run,
}

impl Kind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Build, Self::Run];

    /// As in paths, flags and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Build => "build",
            Self::Run => "run",
        }
    }

    /// The kind of that name.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// The Dockerfile's name in what an extension generates.
    pub fn dockerfile(self) -> &'static str {
        match self {
            Self::Build => "build.Dockerfile",
            Self::Run => "run.Dockerfile",
        }
    }

    /// The name of the folder with files for that Dockerfile only.
    pub fn context(self) -> &'static str {
        match self {
            Self::Build => "context.build",
            Self::Run => "context.run",
        }
    }
}

/// The folder with files for both Dockerfiles of an extension.
pub const SHARED_CONTEXT: &str = "context";
/// The file with the arguments of an extension's Dockerfiles.
pub const CONFIG: &str = "extend-config.toml";
/// The extension of the name of a Dockerfile that has no effect, because a later one begins with another image.
pub const IGNORED: &str = "ignore";
/// Arguments that every Dockerfile is given, so that no extension can.
pub const OWN_ARGS: [&str; 3] = ["build_id", "user_id", "group_id"];
/// The argument that names the image to extend.
pub const BASE_IMAGE: &str = "base_image";

/// `extend-config.toml`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct ExtendConfig {
    /// For `build.Dockerfile`.
    #[serde(default)]
    pub build: Args,
    /// For `run.Dockerfile`.
    #[serde(default)]
    pub run: Args,
}

/// `[build]` or `[run]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Args {
    /// The arguments, in order.
    #[serde(default)]
    pub args: Vec<Arg>,
}

/// An argument of a Dockerfile.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Arg {
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// Its value.
    #[serde(default)]
    pub value: String,
}

impl ExtendConfig {
    /// Parses `extend-config.toml`.
    ///
    /// # Errors
    /// When the text is not TOML, a key has the wrong type, or an argument has a name that is the lifecycle's.
    pub fn parse(text: &str) -> Result<Self, DocError> {
        let config: Self = from_toml(text)?;
        let all = config.build.args.iter().chain(&config.run.args);
        match all.map(|arg| arg.name.as_str()).find(|name| OWN_ARGS.contains(name)) {
            Some(name) => {
                Err(DocError::whole(format!("invalid content: arg with name \"{name}\" is not allowed")))
            }
            None => Ok(config),
        }
    }

    /// The arguments for one kind of Dockerfile.
    pub fn args(&self, kind: Kind) -> &[Arg] {
        match kind {
            Kind::Build => &self.build.args,
            Kind::Run => &self.run.args,
        }
    }
}

/// Where things of one extension are, below the generated directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generated {
    /// The Dockerfile.
    pub dockerfile: PathBuf,
    /// Its arguments; may be absent.
    pub config: PathBuf,
    /// Folders that may be its context, the first that is there is; if none is, the app is.
    pub contexts: Vec<PathBuf>,
}

impl Generated {
    /// The places of the extension `id`.
    pub fn of(id: &str, kind: Kind, api: PlatformApi) -> Self {
        let folder = PathBuf::from(escape_id(id));
        if api.has_extension_contexts() {
            return Self {
                dockerfile: folder.join(kind.dockerfile()),
                config: folder.join(CONFIG),
                contexts: vec![folder.join(kind.context()), folder.join(SHARED_CONTEXT)],
            };
        }
        let folder = PathBuf::from(kind.as_str()).join(folder);
        Self { dockerfile: folder.join("Dockerfile"), config: folder.join(CONFIG), contexts: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn arguments_are_kept_apart_and_none_has_a_name_of_the_lifecycle() {
        let text = |run: &str| {
            format!(
                "[[build.args]]\nname = \"a\"\nvalue = \"1\"\n[[run.args]]\nname = \"{run}\"\nvalue = \"2\"\n"
            )
        };
        let config = ExtendConfig::parse(&text("base_image")).unwrap();
        assert_eq!(config.args(Kind::Build), [Arg { name: "a".into(), value: "1".into() }]);
        assert_eq!(config.args(Kind::Run)[0].value, "2");
        assert_eq!(ExtendConfig::parse("").unwrap(), ExtendConfig::default());
        for name in OWN_ARGS {
            let error = ExtendConfig::parse(&text(name)).unwrap_err().to_string();
            assert_eq!(error, format!("invalid content: arg with name \"{name}\" is not allowed"));
        }
        assert!(ExtendConfig::parse("[[run.args]]\nname = 3\n").is_err());
    }

    #[test]
    fn places_depend_on_the_platform_api() {
        let old = Generated::of("a/b", Kind::Run, PlatformApi::V0_12);
        assert_eq!(old.dockerfile, Path::new("run/a_b/Dockerfile"));
        assert_eq!(old.config, Path::new("run/a_b/extend-config.toml"));
        assert!(old.contexts.is_empty());
        let new = Generated::of("a/b", Kind::Build, PlatformApi::V0_13);
        assert_eq!(new.dockerfile, Path::new("a_b/build.Dockerfile"));
        assert_eq!(new.config, Path::new("a_b/extend-config.toml"));
        assert_eq!(new.contexts, [Path::new("a_b/context.build"), Path::new("a_b/context")]);
    }
}
