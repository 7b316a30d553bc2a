//! Syft's own format (<https://github.com/anchore/syft/tree/main/schema/json>).

use super::limited::{Limited, text};
use super::{Format, Listing, ReadError, parse};
use crate::component::{Component, Kind};
use serde::Deserialize;

// The buildpacks of Paketo that use libpak write these names with capitals, which the JSON of Go takes for the same.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    #[serde(alias = "Artifacts")]
    artifacts: Option<Limited<Artifact>>,
    #[serde(default)]
    artifact_relationships: Limited<Relationship>,
}

#[derive(Deserialize)]
struct Artifact {
    #[serde(default, alias = "ID", deserialize_with = "text")]
    id: String,
    #[serde(default, alias = "Name", deserialize_with = "text")]
    name: String,
    #[serde(default, alias = "Version", deserialize_with = "text")]
    version: String,
    #[serde(default, rename = "type", alias = "Type", deserialize_with = "text")]
    kind: String,
    #[serde(alias = "PURL")]
    purl: Option<String>,
    #[serde(default, alias = "Licenses")]
    licenses: Limited<License>,
    #[serde(default, alias = "CPEs")]
    cpes: Limited<Cpe>,
}

/// Older documents have texts, newer ones objects.
#[derive(Deserialize)]
#[serde(untagged)]
enum License {
    Text(String),
    #[serde(rename_all = "camelCase")]
    Object {
        #[serde(default)]
        value: String,
        #[serde(default)]
        spdx_expression: String,
    },
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Cpe {
    Text(String),
    Object { cpe: String },
}

#[derive(Deserialize)]
struct Relationship {
    #[serde(default, deserialize_with = "text")]
    parent: String,
    #[serde(default, deserialize_with = "text")]
    child: String,
    #[serde(default, rename = "type", deserialize_with = "text")]
    kind: String,
}

pub(super) fn read(bytes: &[u8]) -> Result<Listing, ReadError> {
    let format = Format::Syft;
    let document: Document = parse(format, bytes)?;
    let artifacts = document.artifacts.ok_or_else(|| {
        let reason = "it has no artifacts".to_owned();
        ReadError::Malformed { format, reason }
    })?;
    let mut listing = Listing::default();
    for artifact in artifacts {
        let mut component = Component {
            kind: if artifact.kind == "binary" { Kind::Application } else { Kind::Library },
            name: artifact.name,
            version: artifact.version,
            purl: listing.purl(artifact.purl.as_deref()),
            ..Component::default()
        };
        for license in artifact.licenses {
            match license {
                License::Text(text) => component.add_license(&text),
                License::Object { value, spdx_expression } if spdx_expression.is_empty() => {
                    component.add_license(&value)
                }
                License::Object { spdx_expression, .. } => component.add_license(&spdx_expression),
            }
        }
        for Cpe::Text(cpe) | Cpe::Object { cpe } in artifact.cpes {
            component.add_cpe(&cpe);
        }
        listing.insert(&artifact.id, component);
    }
    for Relationship { parent, child, kind } in document.artifact_relationships {
        // The parent is what the child needs.
        if kind == "dependency-of" && listing.components.contains_key(&child) {
            listing.needs(&child, &parent);
        }
    }
    Ok(listing.settle())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_and_new_documents_are_read() {
        for (license, cpe) in [
            (r#""MIT""#, r#""cpe:2.3:a:a:a:1:*:*:*:*:*:*:*""#),
            (
                r#"{"value":"the mit","spdxExpression":"MIT","type":"declared"}"#,
                r#"{"cpe":"cpe:2.3:a:a:a:1:*:*:*:*:*:*:*","source":"x"}"#,
            ),
            (r#"{"value":"MIT","spdxExpression":""}"#, r#"{"cpe":"cpe:2.3:a:a:a:1:*:*:*:*:*:*:*"}"#),
        ] {
            let text = format!(
                r#"{{"artifacts":[{{"id":"1","name":"a","version":"1","type":"npm","purl":"pkg:npm/a@1","licenses":[{license}],"cpes":[{cpe}]}},
                {{"id":"2","name":"b","type":"binary","licenses":null,"cpes":null}}],
                "artifactRelationships":[{{"parent":"2","child":"1","type":"dependency-of"}},{{"parent":"s","child":"1","type":"contains"}}]}}"#
            );
            let listing = read(text.as_bytes()).unwrap();
            let a = &listing.components["1"];
            assert!(a.licenses.contains("MIT") && a.licenses.len() == 1 && a.cpes.len() == 1, "{a:?}");
            assert!(listing.uses["1"].contains("2"));
            assert_eq!(listing.components["2"].kind, Kind::Application);
        }
        let capitals = br#"{"Artifacts":[{"ID":"1","Name":"JRE","Version":"17","Type":"UnknownPackage","FoundBy":"libpak","Licenses":["MIT"],
            "CPEs":["cpe:2.3:a:o:jre:17:*:*:*:*:*:*:*"],"PURL":"pkg:generic/jre@17"}]}"#;
        let listing = read(capitals).unwrap();
        let jre = &listing.components["1"];
        assert_eq!((jre.key().as_str(), jre.cpes.len(), jre.licenses.len()), ("pkg:generic/jre@17", 1, 1));
        let error = read(b"{}").unwrap_err().to_string();
        assert!(error.contains("no artifacts"), "{error}");
    }
}
