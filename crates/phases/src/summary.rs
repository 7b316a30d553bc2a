//! What a build did, all in all.

use serde::{Deserialize, Serialize};

/// The outcome of a build, how long its parts took, and what became of layers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// The image's names and places.
    pub names: Vec<String>,
    /// Manifest digest.
    pub digest: String,
    /// Bytes of all layers as stored, those of the run image among them.
    pub size: u64,
    /// The default process type, if there is one.
    pub process: Option<String>,
    /// Wall-clock time of everything in milliseconds.
    pub millis: u64,
    /// The phases that there were, in their order.
    pub phases: Vec<Phase>,
    /// What else took time, in its order; what is in none of these is in `millis` only.
    #[serde(default)]
    pub parts: Vec<Part>,
    /// The buildpacks that took part, in their order.
    pub buildpacks: Vec<Buildpack>,
    /// The layers of all buildpacks, of the app and of Strata's own.
    pub layers: Layers,
    /// What was fetched and sent, in its order.
    pub transfers: Vec<Transfer>,
    /// The file with all that was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
    /// Commands that one may want next.
    pub next: Vec<String>,
}

/// One phase.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Phase {
    /// `analyze`, `detect`, `restore`, `build`, `export` or `cache`.
    pub phase: String,
    /// Wall-clock time in milliseconds.
    pub millis: u64,
}

/// What a build does between its phases.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// `builder`, `run image`, `earlier`, `app`, `source`, `sandbox`, `origins`, `SBOM`, `report`, `trees` or `tidy up`.
    pub part: String,
    /// Wall-clock time in milliseconds, without that of phases and transfers in it.
    pub millis: u64,
}

/// One buildpack.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Buildpack {
    /// `id@version`.
    pub buildpack: String,
    /// Wall-clock time of its `bin/build`, and of looking after its layers, in milliseconds.
    pub millis: u64,
    /// Its layers.
    pub layers: Layers,
}

/// What became of layers. A layer that was restored is built or reused as well, unless it is in the cache only.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layers {
    /// New in the image; as stored.
    pub built: Count,
    /// Brought back from the cache before the build; uncompressed.
    pub restored: Count,
    /// In the image as they were in the previous one; as stored.
    pub reused: Count,
}

/// A number of layers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// How many.
    pub count: u64,
    /// Their bytes.
    pub size: u64,
}

impl Count {
    /// Counts one more.
    pub fn add(&mut self, size: u64) {
        self.count += 1;
        self.size = self.size.saturating_add(size);
    }
}

/// Blobs that were taken from one place to another.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transfer {
    /// Where they were, when they were fetched for the build.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Where they went.
    pub to: String,
    /// Bytes that were moved.
    pub moved: u64,
    /// Wall-clock time in milliseconds.
    pub millis: u64,
}
