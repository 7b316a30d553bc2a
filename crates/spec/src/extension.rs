//! `extension.toml` (image extension specification, "extension.toml").

use crate::buildpack::{Target, check_named};
use crate::doc::{DocError, from_toml};
use serde::Deserialize;

/// An image extension's descriptor.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Descriptor {
    /// The Buildpack API version, as written; empty when the key is absent.
    #[serde(default)]
    pub api: String,
    /// The `[extension]` table.
    #[serde(default)]
    pub extension: Info,
    /// The targets that the extension can generate for.
    #[serde(default)]
    pub targets: Vec<Target>,
}

/// The `[extension]` table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Info {
    /// Globally unique id, for example `example/curl`.
    #[serde(default)]
    pub id: String,
    /// A name for people.
    #[serde(default)]
    pub name: String,
    /// The version, `X.Y.Z`.
    #[serde(default)]
    pub version: String,
    /// The home page.
    #[serde(default)]
    pub homepage: String,
    /// Whether user-provided environment variables are kept away from detect and generate.
    #[serde(default)]
    pub clear_env: bool,
    /// The execution environments that the extension is for; empty for all.
    #[serde(default)]
    pub exec_env: Vec<String>,
}

impl Descriptor {
    /// Parses a descriptor. That version and API make sense is checked where they are used.
    ///
    /// # Errors
    /// When the text is not TOML, a key has the wrong type, or the id is none.
    pub fn parse(text: &str) -> Result<Self, DocError> {
        let descriptor: Self = from_toml(text)?;
        check_named("extension", &descriptor.extension.id)?;
        Ok(descriptor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_has_an_id_that_can_be_a_folder() {
        let text = |id: &str| {
            format!(
                "api = \"0.10\"\n[extension]\nid = \"{id}\"\nversion = \"1.2.3\"\nclear-env = true\n\
                 [[targets]]\nos = \"linux\"\n[[targets.distros]]\nname = \"ubuntu\"\nversion = \"24.04\"\n\
                 [metadata]\nfree = 1\n"
            )
        };
        let parsed = Descriptor::parse(&text("example/curl")).unwrap();
        assert_eq!((parsed.extension.version.as_str(), parsed.extension.clear_env), ("1.2.3", true));
        assert_eq!(parsed.targets[0].distros[0].name, "ubuntu");
        for (id, expected) in [
            ("", "extension.id is missing"),
            ("..", "extension.id '..' is not allowed"),
            ("a b", "not allowed"),
        ] {
            let error = Descriptor::parse(&text(id)).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
