//! The labels of a buildpackage: an image that carries a buildpack and those that it is made of
//! (distribution specification, "Buildpackage"); and `package.toml`, which says what goes into one.

use crate::doc::{DocError, from_toml};
use crate::labels::{from_json, null_is_default};
use serde::Deserialize;
use std::collections::BTreeMap;

/// `io.buildpacks.buildpackage.metadata`: the buildpack that the image stands for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Package {
    /// Its id.
    pub id: String,
    /// Its version.
    pub version: String,
}

impl Package {
    /// Parses the label.
    ///
    /// # Errors
    /// When the text is not JSON, or id or version are absent.
    pub fn parse(text: &str) -> Result<Self, DocError> {
        from_json(text)
    }
}

/// `io.buildpacks.buildpack.layers` or `io.buildpacks.extension.layers`: the buildpacks or image extensions in an image by
/// id and version.
pub type Modules = BTreeMap<String, BTreeMap<String, Module>>;

/// A buildpack in an image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Module {
    /// diffID of the layer that it is in.
    #[serde(rename = "layerDiffID", deserialize_with = "null_is_default")]
    pub layer_diff_id: String,
}

/// Parses `io.buildpacks.buildpack.layers`.
///
/// # Errors
/// When the text is not JSON or a member has the wrong type.
pub fn parse_modules(text: &str) -> Result<Modules, DocError> {
    from_json::<Option<Modules>>(text).map(Option::unwrap_or_default)
}

/// `package.toml`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct PackageToml {
    /// The buildpack.
    pub buildpack: Part,
    /// The image extension, if it is a package of one.
    pub extension: Option<Part>,
    /// What it is made of.
    pub dependencies: Vec<Part>,
}

/// A buildpack in `package.toml`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Part {
    /// A folder, an archive or an image; paths are relative to `package.toml`.
    pub uri: String,
    /// An image, in the words of older files.
    pub image: String,
}

impl PackageToml {
    /// Parses `package.toml`.
    ///
    /// # Errors
    /// When the text is not TOML or a key has the wrong type.
    pub fn parse(text: &str) -> Result<Self, DocError> {
        from_toml(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_packages_are_read_with_what_is_unknown_in_them() {
        let package = Package::parse(r#"{"id":"a/b","version":"1","stacks":null,"more":1}"#).unwrap();
        assert_eq!((package.id.as_str(), package.version.as_str()), ("a/b", "1"));
        assert!(Package::parse(r#"{"id":"a/b"}"#).is_err());
        let modules =
            parse_modules(r#"{"a/b":{"1":{"api":"0.9","layerDiffID":"sha256:1","order":[]},"2":{}}}"#);
        let modules = modules.unwrap();
        assert_eq!(modules["a/b"]["1"].layer_diff_id, "sha256:1");
        assert_eq!(modules["a/b"]["2"], Module::default());
        assert_eq!(parse_modules("null").unwrap(), Modules::new());
        assert!(parse_modules("[]").is_err());
    }
}
