//! `group.toml`: the buildpacks that take part.

use crate::buildpack::{check_id, escape_id};
use crate::doc::{DocError, from_toml};
use crate::toml_writer;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// `group.toml`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Group {
    /// The buildpacks, in build order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub group: Vec<GroupElement>,
    /// The image extensions, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub group_extensions: Vec<GroupElement>,
}

/// One buildpack of the group.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupElement {
    /// Id.
    pub id: String,
    /// Version.
    pub version: String,
    /// Buildpack API version.
    #[serde(default)]
    pub api: String,
    /// Home page, when it has one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub homepage: String,
}

impl GroupElement {
    /// `id@version`, as in messages.
    pub fn label(&self) -> String {
        format!("{}@{}", self.id, self.version)
    }
}

impl Group {
    /// Parses `group.toml`.
    ///
    /// # Errors
    /// When the text is not TOML, a key is missing or has the wrong type, or the ids cannot be told apart.
    pub fn parse(text: &str) -> Result<Self, DocError> {
        let group: Self = from_toml(text)?;
        check(&group.group)?;
        check(&group.group_extensions)?;
        Ok(group)
    }

    /// The document as the lifecycle writes it.
    pub fn to_toml(&self) -> String {
        toml_writer::to_string(self)
    }
}

/// Refuses elements whose layers would not be kept apart: their folders are named after their ids, in which `/` and
/// `_` become the same.
///
/// # Errors
/// When an id is not allowed, or two ids have one folder.
pub fn check(elements: &[GroupElement]) -> Result<(), DocError> {
    let mut folders: BTreeMap<String, &str> = BTreeMap::new();
    for element in elements {
        check_id(&element.id)?;
        if let Some(other) = folders.insert(escape_id(&element.id), &element.id) {
            return Err(DocError::whole(format!(
                "the ids '{other}' and '{}' have the same folder for layers; a group can have one of them",
                element.id
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_cannot_be_kept_apart_are_refused() {
        let group = |ids: &[&str]| {
            let elements = ids.iter().map(|id| format!("[[group]]\nid = \"{id}\"\nversion = \"1\"\n"));
            Group::parse(&elements.collect::<String>()).map_err(|error| error.to_string())
        };
        assert!(group(&["a/b", "a/c"]).is_ok());
        assert!(group(&[]).is_ok());
        for ids in [&[".."][..], &[""], &["../x y"], &["config"], &["a", "a"], &["a/b", "a_b"]] {
            assert!(group(ids).is_err(), "{ids:?}");
        }
    }
}
