//! `lifecycle.toml`: what a lifecycle's archive says of it.

use crate::doc::{DocError, from_toml};
use serde::Deserialize;

/// `lifecycle.toml`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Lifecycle {
    /// `[lifecycle]`.
    #[serde(default)]
    pub lifecycle: Info,
    /// `[apis]`.
    #[serde(default)]
    pub apis: AllApis,
}

/// `[lifecycle]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Info {
    /// Its version.
    #[serde(default)]
    pub version: String,
}

/// `[apis]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct AllApis {
    /// Versions of the Buildpack API.
    #[serde(default)]
    pub buildpack: Apis,
    /// Versions of the Platform API.
    #[serde(default)]
    pub platform: Apis,
}

/// Versions of an API, ascending.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Apis {
    /// Those that will go.
    #[serde(default)]
    pub deprecated: Vec<String>,
    /// All that work.
    #[serde(default)]
    pub supported: Vec<String>,
}

impl Lifecycle {
    /// Parses `lifecycle.toml`.
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
    fn versions_are_read_and_older_tables_skipped() {
        let text = "[lifecycle]\nversion = \"1\"\n[api]\nplatform = \"0.7\"\n[apis.platform]\nsupported = [\"0.7\", \"0.8\"]\n";
        let lifecycle = Lifecycle::parse(text).unwrap();
        assert_eq!(lifecycle.lifecycle.version, "1");
        assert_eq!(lifecycle.apis.platform.supported, ["0.7", "0.8"]);
        assert_eq!(lifecycle.apis.buildpack, Apis::default());
        assert!(Lifecycle::parse("apis = 3").is_err());
    }
}
