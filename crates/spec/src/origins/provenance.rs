//! What a report says, as others read it: SLSA provenance 1.0 (<https://slsa.dev/spec/v1.0/provenance>) in an in-toto
//! statement (<https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md>).

use super::{EarlierBuild, Evidence, ImageRef, Kind, MEDIA_TYPE, Rebase, Report, Source};
use crate::values;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// The type of a statement.
pub const STATEMENT: &str = "application/vnd.in-toto+json";
/// The annotation by which lists of referrers name the predicate.
pub const PREDICATE_ANNOTATION: &str = "in-toto.io/predicate-type";
/// The predicate.
pub const PREDICATE: &str = "https://slsa.dev/provenance/v1";
/// What `externalParameters` mean: `docs/report.md`, "Provenance".
const BUILD_TYPE: &str = "https://github.com/strata-build/strata/blob/main/docs/report.md#provenance";
/// Whoever ran the program vouches for it, and is not known to it.
const BUILDER: &str = "https://github.com/strata-build/strata";

impl Report {
    /// The statement about the image; `digest` is the checksum of the report's bytes. `None` for an image without a
    /// checksum, as in a daemon: there is nothing to state anything of.
    pub fn provenance(&self, digest: &str) -> Option<Value> {
        let subject: Vec<Value> = match self.image.tags.as_slice() {
            [] => vec![json!({ "digest": sha256(&self.image.digest)? })],
            tags => {
                let digest = sha256(&self.image.digest)?;
                tags.iter().map(|tag| json!({ "name": tag, "digest": digest })).collect()
            }
        };
        let report = json!({ "name": "report.toml", "digest": sha256(digest)?, "mediaType": MEDIA_TYPE });
        Some(json!({
            "_type": "https://in-toto.io/Statement/v1",
            "subject": subject,
            "predicateType": PREDICATE,
            "predicate": {
                "buildDefinition": {
                    "buildType": BUILD_TYPE,
                    "externalParameters": self.parameters(),
                    "resolvedDependencies": self.dependencies(),
                },
                "runDetails": {
                    "builder": { "id": BUILDER, "version": { "strata": self.lifecycle.version } },
                    "metadata": { "invocationId": self.build.id, "finishedOn": self.build.time },
                    "byproducts": [report],
                },
            },
        }))
    }

    fn parameters(&self) -> Value {
        let inputs = self.build.inputs.iter().map(|input| match input.digest.as_str() {
            "" => json!({ "name": input.name }),
            digest => json!({ "name": input.name, "digest": digest }),
        });
        let mut parameters = Map::new();
        parameters.insert("buildpacks".into(), self.buildpacks().into_iter().collect());
        parameters.insert("inputs".into(), inputs.collect());
        if !self.rebases.is_empty() {
            parameters.insert("rebases".into(), self.rebases.iter().map(of_rebase).collect());
        }
        if let Some(source) = &self.build.application_source {
            parameters
                .insert("source".into(), json!({ "type": source.kind, "version": json_of(&source.version) }));
        }
        parameters.into()
    }

    /// Those that made layers in this build.
    fn buildpacks(&self) -> BTreeSet<String> {
        let made = self
            .layers
            .iter()
            .filter(|layer| layer.kind == Kind::Buildpack && layer.origin.from == Evidence::ThisBuild);
        made.map(|layer| format!("{}@{}", layer.buildpack, layer.buildpack_version)).collect()
    }

    /// What went into the image: source, images, and layers that earlier builds made, with these builds' sources.
    fn dependencies(&self) -> Vec<Value> {
        let mut all = Vec::new();
        all.extend(self.build.application_source.as_ref().and_then(|source| of_source("source", source)));
        let images = [("run-image", self.run_image()), ("build-image", self.lifecycle.build_image.as_ref())];
        all.extend(images.into_iter().filter_map(|(name, image)| of_image(name, image?)));
        all.extend(self.rebases.last().and_then(|latest| {
            Some(json!({ "name": "rebased image", "digest": sha256(&latest.image_digest)? }))
        }));
        for layer in &self.layers {
            if let Evidence::Cache | Evidence::PreviousImage = layer.origin.from
                && let Some(digest) = sha256(&layer.diff_id)
            {
                let made_by = format!("{}@{}", layer.buildpack, layer.buildpack_version);
                let annotations = json!({ "build": layer.origin.build, "buildpack": made_by });
                all.push(json!({ "name": format!("layer {}", layer.id()), "digest": digest, "annotations": annotations }));
            }
        }
        let source = |build: &EarlierBuild| {
            of_source(&format!("source of build {}", build.id), build.application_source.as_ref()?)
        };
        all.extend(self.builds.iter().filter_map(source));
        all
    }
}

/// What was done after the build.
fn of_rebase(rebase: &Rebase) -> Value {
    let mut found = Map::new();
    found.insert("time".into(), rebase.time.clone().into());
    found.insert("from".into(), rebase.image_digest.clone().into());
    let onto = rebase.lifecycle.run_image.as_ref().and_then(|image| of_image("run-image", image));
    found.extend(onto.map(|onto| ("onto".to_owned(), onto)));
    found.into()
}

fn of_source(name: &str, source: &Source) -> Option<Value> {
    let text =
        |table: &toml::Table, key: &str| table.get(key).and_then(toml::Value::as_str).map(str::to_owned);
    // What the repository says goes before what its files say.
    let uri = text(&source.metadata, "url").or_else(|| text(&source.metadata, "repository"));
    let commit = text(&source.version, "commit").filter(|commit| source.kind == "git" && !commit.is_empty());
    let mut found = Map::new();
    found.insert("name".into(), name.into());
    if let Some(uri) = &uri {
        // As SPDX has them; Subversion's own schemes say what they are.
        let uri = match source.kind.as_str() {
            kind @ ("git" | "hg" | "svn") if !uri.starts_with("svn") => format!("{kind}+{uri}"),
            _ => uri.clone(),
        };
        found.insert("uri".into(), uri.into());
    }
    if let Some(commit) = &commit {
        found.insert("digest".into(), json!({ "gitCommit": commit }));
    }
    found.insert("annotations".into(), json!({ "type": source.kind, "version": json_of(&source.version) }));
    // A descriptor has a URI or a digest at least.
    (uri.is_some() || commit.is_some()).then(|| found.into())
}

fn of_image(name: &str, image: &ImageRef) -> Option<Value> {
    let digest = sha256(&image.digest)?;
    let mut found = Map::new();
    found.insert("name".into(), name.into());
    if let Some(tag) = image.tags.first() {
        found.insert("uri".into(), format!("oci://{tag}").into());
    }
    found.insert("digest".into(), digest);
    Some(found.into())
}

fn json_of(table: &toml::Table) -> Value {
    values::table_to_json(table)
}

/// A checksum as in-toto has it.
fn sha256(digest: &str) -> Option<Value> {
    Some(json!({ "sha256": digest.strip_prefix("sha256:")? }))
}
