//! What a lifecycle says of itself: `lifecycle.toml` and the labels of its image, in the reference's words.

use serde::Serialize;
use strata_spec::{BuildpackApi, PlatformApi, toml_writer};

/// Name of the label with the version.
pub(crate) const VERSION: &str = "io.buildpacks.lifecycle.version";
/// Name of the label with the supported APIs.
pub(crate) const APIS: &str = "io.buildpacks.lifecycle.apis";
/// Name of the label for platforms that know one API version each.
pub(crate) const BUILDER_METADATA: &str = "io.buildpacks.builder.metadata";

/// The formats of SBOM files that buildpacks may leave.
const SBOM_FORMATS: [&str; 3] =
    ["application/vnd.cyclonedx+json", "application/spdx+json", "application/vnd.syft+json"];

#[derive(Serialize)]
struct Document<'a> {
    apis: Apis,
    api: Api,
    lifecycle: Lifecycle<'a>,
}

/// The APIs that are supported.
#[derive(Serialize)]
struct Apis {
    buildpack: Versions,
    platform: Versions,
}

/// Ascending.
#[derive(Serialize)]
struct Versions {
    deprecated: Vec<String>,
    supported: Vec<String>,
}

/// The lowest of each: platforms of old read nothing else.
#[derive(Serialize)]
struct Api {
    buildpack: String,
    platform: String,
}

#[derive(Serialize)]
struct Lifecycle<'a> {
    version: &'a str,
    #[serde(rename = "sbom-formats", skip_serializing_if = "<[_]>::is_empty")]
    sbom_formats: &'static [&'static str],
}

#[derive(Serialize)]
struct BuilderMetadata<'a> {
    lifecycle: Lifecycle<'a>,
    api: Api,
}

impl Apis {
    fn supported() -> Self {
        let versions = |all: Vec<String>| Versions { deprecated: Vec::new(), supported: all };
        Self {
            buildpack: versions(BuildpackApi::ALL.iter().map(ToString::to_string).collect()),
            platform: versions(PlatformApi::ALL.iter().map(ToString::to_string).collect()),
        }
    }

    fn lowest(&self) -> Api {
        let first = |versions: &Versions| versions.supported.first().cloned().unwrap_or_default();
        Api { buildpack: first(&self.buildpack), platform: first(&self.platform) }
    }
}

/// `lifecycle.toml` (platform specification, "Lifecycle descriptor").
pub(crate) fn lifecycle_toml(version: &str) -> String {
    let apis = Apis::supported();
    let api = apis.lowest();
    toml_writer::to_string(&Document {
        apis,
        api,
        lifecycle: Lifecycle { version, sbom_formats: &SBOM_FORMATS },
    })
}

/// The labels of the lifecycle image.
pub(crate) fn labels(version: &str) -> [(&'static str, String); 3] {
    let apis = Apis::supported();
    let metadata =
        BuilderMetadata { lifecycle: Lifecycle { version, sbom_formats: &[] }, api: apis.lowest() };
    [
        (VERSION, version.to_owned()),
        (APIS, serde_json::json!(apis).to_string()),
        (BUILDER_METADATA, serde_json::json!(metadata).to_string()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_descriptor_names_every_version_in_ascending_order() {
        let toml = lifecycle_toml("0.21.0");
        let expected = r#"[apis]
  [apis.buildpack]
    deprecated = []
    supported = ["0.7", "0.8", "0.9", "0.10", "0.11", "0.12"]
  [apis.platform]
    deprecated = []
    supported = ["0.7", "0.8", "0.9", "0.10", "0.11", "0.12", "0.13", "0.14", "0.15"]

[api]
  buildpack = "0.7"
  platform = "0.7"

[lifecycle]
  version = "0.21.0"
  sbom-formats = ["application/vnd.cyclonedx+json", "application/spdx+json", "application/vnd.syft+json"]
"#;
        assert_eq!(toml, expected);
    }

    #[test]
    fn the_labels_have_the_references_keys_in_its_order() {
        let [_, (_, apis), (_, metadata)] = labels("1.2.3");
        assert!(apis.starts_with(r#"{"buildpack":{"deprecated":[],"supported":["0.7","0.8""#), "{apis}");
        assert_eq!(
            metadata,
            r#"{"lifecycle":{"version":"1.2.3"},"api":{"buildpack":"0.7","platform":"0.7"}}"#
        );
    }
}
