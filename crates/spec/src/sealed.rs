//! Sealed layers: what an operator may say of them (`sealed-layers.toml`), and what became of changes to them.
//! No specification knows of them; `docs/sealed-layers.md` does.

use crate::doc::{DocError, from_toml};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Name of the operator's document in the directory of the builder's own settings.
pub const FILE: &str = "sealed-layers.toml";

/// The folder below the layers directory in which all buildpacks share folders, and their owner in the metadata of a
/// cache. No buildpack has this id.
pub const SHARED: &str = "@shared";

/// What becomes of changes that a buildpack makes to the layers of those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// Nobody looks for them: they are in the image, as with the reference lifecycle.
    Off,
    /// They are told, and are in the image.
    Warn,
    /// They are told, and the image has the layers as their own buildpacks left them.
    Discard,
    /// The build fails.
    Error,
}

/// A text that is no policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no policy for sealed layers; there are off, warn, discard and error")]
pub struct BadPolicy(pub String);

impl FromStr for Policy {
    type Err = BadPolicy;

    fn from_str(text: &str) -> Result<Self, BadPolicy> {
        [Self::Off, Self::Warn, Self::Discard, Self::Error]
            .into_iter()
            .find(|policy| policy.to_string() == text)
            .ok_or_else(|| BadPolicy(text.to_owned()))
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "off",
            Self::Warn => "warn",
            Self::Discard => "discard",
            Self::Error => "error",
        })
    }
}

/// What an operator says of sealed layers: `sealed-layers.toml`, or a table of that name in `builder.toml`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealedLayers {
    /// What holds unless the platform says otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
    /// What holds for the layers of some buildpacks, whoever else says what.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub buildpacks: Vec<OfBuildpack>,
}

/// One `[[buildpacks]]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OfBuildpack {
    /// Id of the buildpack.
    pub id: String,
    /// What becomes of changes to its layers.
    pub policy: Policy,
}

impl SealedLayers {
    /// Parses `sealed-layers.toml`. Unlike elsewhere, unknown keys are errors: a misspelt one would unseal layers.
    ///
    /// # Errors
    /// When the text is not TOML, or has an unknown key or policy.
    pub fn parse(text: &str) -> Result<Self, DocError> {
        from_toml(text)
    }
}

/// What a buildpack changed that another one made: one entry for each layer, or the app.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Changes {
    /// The buildpack that changed it: `id@version`.
    pub by: String,
    /// `<buildpack>:<layer>`, or `app`.
    pub of: String,
    /// What became of the changes.
    pub outcome: Outcome,
    /// How many entries were created.
    #[serde(skip_serializing_if = "is_zero")]
    pub created: u64,
    /// How many entries were changed.
    #[serde(skip_serializing_if = "is_zero")]
    pub changed: u64,
    /// How many entries were deleted; a whole folder counts once.
    #[serde(skip_serializing_if = "is_zero")]
    pub deleted: u64,
    /// How many entries have other permission bits.
    #[serde(skip_serializing_if = "is_zero")]
    pub chmod: u64,
    /// The first of them, sorted: what happened, and the path below the layer. `<layer>.toml` is the description.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileChange>,
}

/// One change.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileChange {
    /// `created`, `changed`, `deleted`, `chmod` or `touched`.
    pub kind: String,
    /// Below the layer; empty for the layer itself.
    pub path: String,
}

/// What became of changes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// They are in the image.
    #[default]
    Kept,
    /// They are not.
    Discarded,
    /// The build failed because of them.
    Refused,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// How many changes a sentence names.
        const NAMED: usize = 3;
        write!(f, "buildpack {} changed ", self.by)?;
        match self.of.as_str() {
            "app" => write!(f, "the app: ")?,
            layer => write!(f, "layer '{layer}': ")?,
        }
        let named: Vec<String> = self.files.iter().take(NAMED).map(FileChange::to_string).collect();
        write!(f, "{}", named.join(", "))?;
        match self.count().saturating_sub(named.len() as u64) {
            0 => Ok(()),
            more => write!(f, ", and {more} more"),
        }
    }
}

impl fmt::Display for FileChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_str() {
            "" => write!(f, "{} its folder", self.kind),
            path => write!(f, "{} {path}", self.kind),
        }
    }
}

impl Changes {
    /// How many entries are not as they were.
    pub fn count(&self) -> u64 {
        self.created + self.changed + self.deleted + self.chmod
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operator_is_understood_or_told() {
        let text = "policy = \"error\"\n[[buildpacks]]\nid = \"a/b\"\npolicy = \"off\"\n";
        let expected = SealedLayers {
            policy: Some(Policy::Error),
            buildpacks: vec![OfBuildpack { id: "a/b".into(), policy: Policy::Off }],
        };
        assert_eq!(SealedLayers::parse(text), Ok(expected));
        assert_eq!(SealedLayers::parse(""), Ok(SealedLayers::default()));
        for bad in ["polcy = \"off\"", "policy = \"on\"", "[[buildpacks]]\nid = \"a\"", "policy = true"] {
            assert!(SealedLayers::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn changes_are_a_sentence() {
        let file = |kind: &str, path: &str| FileChange { kind: kind.into(), path: path.into() };
        let mut changes = Changes {
            by: "a/pip@1".into(),
            of: "a/python:cpython".into(),
            created: 1,
            files: vec![file("created", "lib/x.pyc")],
            ..Changes::default()
        };
        let start = "buildpack a/pip@1 changed layer 'a/python:cpython': created lib/x.pyc";
        assert_eq!(changes.to_string(), start);
        changes.deleted = 7;
        changes.files.extend([file("deleted", ""), file("deleted", "y"), file("deleted", "z")]);
        assert_eq!(changes.to_string(), format!("{start}, deleted its folder, deleted y, and 5 more"));
        changes.of = "app".into();
        assert!(changes.to_string().starts_with("buildpack a/pip@1 changed the app: created"));
    }

    #[test]
    fn policies_are_words() {
        for policy in [Policy::Off, Policy::Warn, Policy::Discard, Policy::Error] {
            assert_eq!(policy.to_string().parse(), Ok(policy));
        }
        assert_eq!("".parse::<Policy>(), Err(BadPolicy(String::new())));
    }
}
