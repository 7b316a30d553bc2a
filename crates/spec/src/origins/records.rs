//! What a cache remembers of its layers: one more member in its metadata, which the reference lifecycle skips. When
//! that writes the cache, the member is gone, and the layers' origins are unknown from then on.

use super::parse::{
    MAX_LAYERS, MAX_NEIGHBOURS, is_build_id, is_digest, is_shallow, is_small, is_time, is_word,
};
use super::{EarlierBuild, MAX_REPORT, Neighbour, SCHEMA_VERSION};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Name of the member.
pub const KEY: &str = "origins";

/// The origins of a cache's layers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Records {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The builds that made them, each once.
    #[serde(default)]
    pub builds: Vec<EarlierBuild>,
    /// The layers.
    #[serde(default)]
    pub layers: Vec<Record>,
}

/// The origin of one layer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Record {
    /// Id of the buildpack.
    pub buildpack: String,
    /// Version of the buildpack that made it.
    #[serde(default)]
    pub buildpack_version: String,
    /// API of the buildpack that made it.
    #[serde(default)]
    pub buildpack_api: String,
    /// Name of the layer.
    pub name: String,
    /// Which contents this is about.
    pub diff_id: String,
    /// The build that made it; one of `builds`.
    pub build: String,
    /// How many builds before the one that filled the cache that was.
    #[serde(default)]
    pub generation: u32,
    /// The other layers that were there then.
    #[serde(default)]
    pub present_layers: Vec<Neighbour>,
}

impl Records {
    /// No records.
    pub fn new() -> Self {
        Self { schema_version: SCHEMA_VERSION, ..Self::default() }
    }

    /// Parses the member; what is not to be believed is left out, and so are all records of another version.
    pub fn parse(json: &str) -> Self {
        if json.len() > MAX_REPORT {
            return Self::new();
        }
        let Ok(found) = serde_json::from_str::<Self>(json) else { return Self::new() };
        if found.schema_version != SCHEMA_VERSION
            || found.builds.len() > MAX_LAYERS
            || found.layers.len() > MAX_LAYERS
        {
            return Self::new();
        }
        let mut records = found;
        records.builds.retain(is_plausible);
        let builds: BTreeSet<&str> = records.builds.iter().map(|build| build.id.as_str()).collect();
        records.layers.retain(|record| {
            is_digest(&record.diff_id)
                && [&record.buildpack, &record.buildpack_version, &record.buildpack_api, &record.name]
                    .into_iter()
                    .all(|word| is_word(word))
                && builds.contains(record.build.as_str())
                && record.present_layers.len() <= MAX_NEIGHBOURS
                && record.present_layers.iter().all(|other| {
                    is_word(&other.id) && (other.diff_id.is_empty() || is_digest(&other.diff_id))
                })
        });
        records
    }

    /// The record of a layer with these contents, and the build that made it.
    pub fn find(&self, buildpack: &str, name: &str, diff_id: &str) -> Option<(&Record, &EarlierBuild)> {
        let record = self.layers.iter().find(|record| {
            record.buildpack == buildpack && record.name == name && record.diff_id == diff_id
        })?;
        Some((record, self.builds.iter().find(|build| build.id == record.build)?))
    }

    /// Adds the record of a layer that `build` made.
    pub fn push(&mut self, record: Record, build: &EarlierBuild) {
        if !self.builds.iter().any(|known| known.id == build.id) {
            self.builds.push(build.clone());
        }
        self.layers.push(record);
    }
}

fn is_plausible(build: &EarlierBuild) -> bool {
    let images = [&build.lifecycle.build_image, &build.lifecycle.run_image];
    let mut digests = images.into_iter().flatten().map(|image| &image.digest).chain([&build.image_digest]);
    let tables = build.application_source.iter().flat_map(|source| [&source.version, &source.metadata]);
    is_build_id(&build.id)
        && is_small(build)
        && is_time(&build.time)
        && digests.all(|digest| digest.is_empty() || is_digest(digest))
        && tables.into_iter().all(|table| is_shallow(table, 32))
}
