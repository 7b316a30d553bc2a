//! `project-metadata.toml`: where the app's source comes from; and `project.toml`: what an app says of itself.

use crate::doc::{DocError, from_toml};
use serde::{Deserialize, Serialize};

/// `project-metadata.toml`, and the content of the label `io.buildpacks.project.metadata`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ProjectMetadata {
    /// The source, when it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
}

/// The source of an app.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Source {
    /// For example `git`.
    #[serde(default, rename = "type", skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// The version; its keys depend on the type.
    #[serde(default, skip_serializing_if = "toml::Table::is_empty")]
    pub version: toml::Table,
    /// More about it; its keys depend on the type.
    #[serde(default, skip_serializing_if = "toml::Table::is_empty")]
    pub metadata: toml::Table,
}

impl ProjectMetadata {
    /// Parses `project-metadata.toml`.
    ///
    /// # Errors
    /// When the text is not TOML or a key has the wrong type.
    pub fn parse(text: &str) -> Result<Self, DocError> {
        from_toml(text)
    }
}

/// What an app says of itself in `project.toml` (specification "Project Descriptor", schemas 0.1 and 0.2). Tables for
/// builds are not read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Declared {
    /// For machines, as in `com.example.web`.
    pub id: Option<String>,
    /// For people.
    pub name: Option<String>,
    /// Any text.
    pub version: Option<String>,
    /// Where the source is, as written: it may hold a secret.
    pub source_url: Option<String>,
    /// Types of licenses, as SPDX has them.
    pub licenses: Vec<String>,
}

/// The table of either schema.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct Project {
    schema_version: Option<String>,
    id: Option<String>,
    name: Option<String>,
    version: Option<String>,
    source_url: Option<String>,
    licenses: Vec<License>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct License {
    r#type: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Descriptor {
    #[serde(rename = "_")]
    current: Option<Project>,
    project: Option<Project>,
}

impl Declared {
    /// Parses `project.toml`. The table `_` of schema 0.2 wins over `project` of 0.1.
    ///
    /// # Errors
    /// When the text is not TOML, a key has the wrong type, or the schema is one that is not known.
    pub fn parse(text: &str) -> Result<Self, DocError> {
        let Descriptor { current, project } = from_toml(text)?;
        let found = current.or(project).unwrap_or_default();
        if let Some(version) =
            found.schema_version.filter(|version| !matches!(version.as_str(), "0.1" | "0.2"))
        {
            return Err(DocError::whole(format!("its schema version is '{version}'; 0.1 and 0.2 are known")));
        }
        let text = |value: Option<String>| value.filter(|text| !text.is_empty());
        let licenses = found.licenses.into_iter().map(|license| license.r#type);
        Ok(Self {
            id: text(found.id),
            name: text(found.name),
            version: text(found.version),
            source_url: text(found.source_url),
            licenses: licenses.filter(|kind| !kind.is_empty()).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_schemas_of_a_project_are_read() {
        let fields = "id = \"com.example.web\"\nname = \"Web\"\nversion = \"1.2\"\nauthors = [\"me\"]\n\
                      source-url = \"https://example.com/web\"\n";
        let expected = Declared {
            id: Some("com.example.web".into()),
            name: Some("Web".into()),
            version: Some("1.2".into()),
            source_url: Some("https://example.com/web".into()),
            licenses: vec!["MIT".into()],
        };
        for (head, licenses) in [
            ("[project]\n", "[[project.licenses]]\ntype = \"MIT\"\n"),
            (
                "[_]\nschema-version = \"0.2\"\n",
                "[[_.licenses]]\ntype = \"MIT\"\n[[_.licenses]]\nuri = \"x\"\n",
            ),
        ] {
            let rest = "[_.metadata]\nx = 1\n[io.buildpacks]\nbuilder = \"b\"\n";
            let text = format!("{head}{fields}{licenses}{}", if head.starts_with("[_") { rest } else { "" });
            assert_eq!(Declared::parse(&text).unwrap(), expected, "{text}");
        }
        for nothing in ["", "[build]\ninclude = []\n", "[_]\nschema-version = \"0.2\"\nid = \"\"\n"] {
            assert_eq!(Declared::parse(nothing).unwrap(), Declared::default(), "{nothing}");
        }
        for bad in ["[_]\nschema-version = \"9.0\"\n", "[project]\nid = 3\n", "[[", "_ = 1\n"] {
            assert!(Declared::parse(bad).is_err(), "{bad}");
        }
    }
}
