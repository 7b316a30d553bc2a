//! Where the layers of an image come from: the report of a build, at length (`docs/report.md`), what a cache remembers
//! of its layers ([`records`]), and what the builder saw ([`claims`]).
//!
//! The words are those of the draft "Layer Origin Metadata". A report is stored beside the image, never inside of it.
//! Whoever can write there can write anything: what is read passes [`Report::parse`] and [`Report::check`] first, and
//! is a statement of whoever wrote it even then.

pub mod claims;
mod parse;
pub mod provenance;
pub mod records;
mod redact;
#[cfg(test)]
mod tests;

use crate::bom::BomEntry;
use crate::sealed::Changes;
use crate::{project, report, toml_writer, values};
pub use parse::{MAX_TOLD, MAX_WORD, ReportError, is_digest, parse_extra};
pub use redact::without_credentials;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

/// The version of the document that is written, and the only one that is read.
pub const SCHEMA_VERSION: u32 = 1;
/// The type of the artifact beside an image, and of the one file in it.
pub const MEDIA_TYPE: &str = "application/vnd.strata.report.v1+toml";
/// The largest report that is read or stored, in bytes.
pub const MAX_REPORT: usize = 4 * 1024 * 1024;
/// Rebases that a report may have; more than any image has gone through.
pub const MAX_REBASES: usize = 1024;

/// `report.toml` with origins.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The image, in the words of the platform specification; `digest` also where that has none.
    #[serde(default)]
    pub image: report::Image,
    /// This build.
    pub build: Build,
    /// The image that layers could be taken from; absent when there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored_image: Option<RestoredImage>,
    /// What this build was made with.
    #[serde(default)]
    pub lifecycle: Lifecycle,
    /// How the image came to be on another run image than the build put it on, the latest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rebases: Vec<Rebase>,
    /// Earlier builds that layers come from, each once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub builds: Vec<EarlierBuild>,
    /// All layers: first those of the image from the bottom up, then those that are kept in the cache or not at all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<Layer>,
    /// What buildpacks changed that others made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<Changes>,
    /// The operator's own table, as it was given.
    #[serde(default, skip_serializing_if = "Table::is_empty")]
    pub extra: Table,
}

/// `[build]`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Build {
    /// Names this build: 32 random hexadecimal digits.
    pub id: String,
    /// When it was exported, RFC 3339 in UTC.
    pub time: String,
    /// Whether the builder's own record of the build was there; without it nobody knows which layers were present.
    #[serde(default)]
    pub observed: bool,
    /// The app.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub application_source: Option<Source>,
    /// What the platform gave to the buildpacks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<Input>,
    /// The unstructured bills of materials of all `build.toml` (before Platform API 0.9).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bom: Vec<BomEntry>,
}

/// A variable or a file that the platform gave to the buildpacks. Values never appear.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Input {
    /// Where it is in the platform directory: `env/NAME`, `bindings/NAME/KEY`.
    pub name: String,
    /// `hmac-sha256:…` of the contents under the operator's key; empty without a key.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub digest: String,
}

/// The source of an app, free of credentials and of values that JSON lacks.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Source {
    /// For example `git`.
    #[serde(default, rename = "type", skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// The version; its keys depend on the type.
    #[serde(default, skip_serializing_if = "Table::is_empty")]
    pub version: Table,
    /// More about it; its keys depend on the type.
    #[serde(default, skip_serializing_if = "Table::is_empty")]
    pub metadata: Table,
}

impl From<&project::Source> for Source {
    fn from(source: &project::Source) -> Self {
        Self { kind: source.kind.clone(), version: clean(&source.version), metadata: clean(&source.metadata) }
    }
}

/// A table as reports have it: dates as text, so that it survives the way through JSON, and no credentials in URLs.
pub fn clean(table: &Table) -> Table {
    let clean = |(key, value): (String, _)| (without_credentials(&key).into_owned(), clean_value(value));
    values::sorted(table).into_iter().map(clean).collect()
}

fn clean_value(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(without_credentials(&text).into_owned()),
        Value::Datetime(date) => Value::String(date.to_string()),
        Value::Array(items) => Value::Array(items.into_iter().map(clean_value).collect()),
        Value::Table(table) => Value::Table(clean(&table)),
        other => other,
    }
}

/// An image that took part in a build. Members that are unknown are empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct ImageRef {
    /// The names it goes by.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// The checksum of its manifest: `sha256:…`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub digest: String,
    /// Its id in a daemon: hexadecimal digits.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub image_id: String,
    /// Name and version of the distribution, when that is all that is known.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub distro: String,
}

/// `[restored-image]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct RestoredImage {
    /// The checksum of its manifest: `sha256:…`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub digest: String,
    /// Its id in a daemon: hexadecimal digits.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub image_id: String,
    /// The build that made it, by the report that was found beside it; empty when there was none to be believed.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub build: String,
    /// The checksum of that report: `sha256:…`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub report: String,
}

/// `[lifecycle]`: the program and the images of a build.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct Lifecycle {
    /// `strata`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The program's version.
    pub version: String,
    /// The image in which the buildpacks ran, as far as it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build_image: Option<ImageRef>,
    /// The image below the app.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_image: Option<ImageRef>,
}

/// `[[rebases]]`: an image whose layers were put on another run image. Nothing was built.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Rebase {
    /// When it was, RFC 3339 in UTC.
    pub time: String,
    /// The checksum of the manifest of the image before.
    pub image_digest: String,
    /// The checksum of the report that lay beside it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub report: String,
    /// The program, and the run image that the image is on since then.
    #[serde(default)]
    pub lifecycle: Lifecycle,
}

/// `[[builds]]`: a build that made a layer which is still used.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct EarlierBuild {
    /// As in that build's own report.
    pub id: String,
    /// As in that build's own report.
    pub time: String,
    /// The checksum of the manifest of the image that it made, when it is known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub image_digest: String,
    /// The app.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub application_source: Option<Source>,
    /// What it was made with.
    #[serde(default)]
    pub lifecycle: Lifecycle,
}

/// What a layer is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A buildpack made it.
    #[default]
    Buildpack,
    /// The app, or a slice of it.
    App,
    /// SBOM files.
    Sbom,
    /// The launcher.
    Launcher,
    /// What the launcher reads.
    Config,
    /// Links for the process types.
    ProcessTypes,
    /// A layer of the run image.
    RunImage,
    /// An image extension made it, on top of the run image.
    Extension,
}

/// What export did with a layer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnExport {
    /// It went into the image, newly packed.
    #[default]
    Added,
    /// The image before, or the cache for a layer that is not in the image, had it with the same contents.
    Reused,
    /// It is not in the image, and is newly in the cache.
    Cached,
    /// It is neither in the image nor in the cache.
    Discarded,
    /// It came with the run image.
    Inherited,
}

/// Why a layer is as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReasonCode {
    /// It is the one of the build before.
    Unchanged,
    /// It was made again, with the same contents.
    Reproduced,
    /// Nothing is known of any build before.
    FirstBuild,
    /// The build before had no such layer.
    NewLayer,
    /// Its buildpack does not have it cached: it is made in every build.
    NotCached,
    /// There was no cache to restore it from, or nothing in it.
    NoCache,
    /// The build was to begin without what earlier ones left.
    NotRestored,
    /// The cache did not have it.
    NotInCache,
    /// The cache had it and its bytes were wrong.
    CacheDamaged,
    /// Cache or image had it, and it was ignored because its origin is unknown.
    OriginRequired,
    /// Another version of the buildpack made it.
    BuildpackVersionChanged,
    /// Its types (launch, build, cache) changed.
    TypesChanged,
    /// Its metadata changed; `keys` are the keys at the top.
    MetadataChanged,
    /// The build was made for another run image.
    BaseChanged,
    /// The app's source changed.
    SourceChanged,
    /// Its contents changed, and nothing else that is known.
    ContentsChanged,
    /// It is not known.
    #[default]
    Unknown,
}

/// `[layers.reason]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Reason {
    /// What explains most.
    pub code: ReasonCode,
    /// What else differed from the build before.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<ReasonCode>,
    /// Keys of metadata that differ.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<String>,
    /// For people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub text: String,
}

/// How it is known which build made a layer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Evidence {
    /// This build made it.
    ThisBuild,
    /// It was restored from the cache, which remembers.
    Cache,
    /// It is the previous image's, and the report beside that knows.
    PreviousImage,
    /// It is of the run image, whose build is not this program's.
    RunImage,
    /// It is not known.
    #[default]
    Unknown,
}

/// Why an origin is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// The cache has the layer and no record of it: a build without origins, or another lifecycle, filled it.
    NoRecord,
    /// There is no report beside the previous image.
    NoReport,
    /// The previous image is where nothing can be kept beside it, as in a daemon.
    NoPlace,
    /// A report is there, and is broken, lies, or is of a version to come.
    ReportRefused,
    /// The report beside the previous image does not know either.
    NotReported,
}

/// `[layers.origin]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Origin {
    /// How it is known.
    pub from: Evidence,
    /// The build that made the layer: `[build]` or one of `[[builds]]`; empty when unknown.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub build: String,
    /// How many builds ago that was: 0 for this one.
    #[serde(skip_serializing_if = "is_zero")]
    pub generation: u32,
    /// Why it is unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// The same for people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub text: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// A layer that was there when another was made.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Neighbour {
    /// `<buildpack>:<layer>`.
    pub id: String,
    /// Its diffID; empty when nobody computed it, as for layers that are not kept.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub diff_id: String,
}

/// `[[layers]]`. What does not apply or is unknown is empty or absent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Layer {
    /// What it is.
    #[serde(default)]
    pub kind: Kind,
    /// Id of the buildpack.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub buildpack: String,
    /// Version of the buildpack that made it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub buildpack_version: String,
    /// API of the buildpack that made it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub buildpack_api: String,
    /// The buildpack's name for it, or `slice-1`, `launcher`, …
    pub name: String,
    /// What export did with it.
    #[serde(default)]
    pub on_export: OnExport,
    /// The checksum of its blob in the image.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub digest: String,
    /// The checksum of its archive, uncompressed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub diff_id: String,
    /// Bytes of its blob in the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// When its contents were made: the time of the build that made them, RFC 3339.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub modification_date: String,
    /// The blob of the layer of this name in the restored image.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub previous_layer_digest: String,
    /// The diffID of the layer of this name in the restored image, or else in the cache.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub previous_layer_diff_id: String,
    /// Type flag.
    #[serde(default)]
    pub cache: bool,
    /// Type flag.
    #[serde(default)]
    pub launch: bool,
    /// Type flag.
    #[serde(default)]
    pub build: bool,
    /// The app's source when the layer was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub application_source: Option<Source>,
    /// `[metadata]` of `<layer>.toml`, free of credentials in URLs.
    #[serde(default, skip_serializing_if = "Table::is_empty")]
    pub metadata: Table,
    /// Why it was made again, or not.
    #[serde(default)]
    pub reason: Reason,
    /// The build that made it.
    #[serde(default)]
    pub origin: Origin,
    /// The other buildpack layers that were there when it was made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub present_layers: Vec<Neighbour>,
}

impl Layer {
    /// `<buildpack>:<layer>`; the name alone when no buildpack made it.
    pub fn id(&self) -> String {
        if self.buildpack.is_empty() {
            self.name.clone()
        } else {
            format!("{}:{}", self.buildpack, self.name)
        }
    }

    /// Whether it is in the image.
    pub fn is_in_image(&self) -> bool {
        !self.digest.is_empty()
    }
}

impl Report {
    /// The document.
    pub fn to_toml(&self) -> String {
        toml_writer::to_string(self)
    }

    /// The build that made a layer; `None` when it is unknown.
    pub fn build_of(&self, layer: &Layer) -> Option<EarlierBuild> {
        if layer.origin.build == self.build.id {
            return Some(self.this_build());
        }
        self.builds.iter().find(|build| build.id == layer.origin.build).cloned()
    }

    /// This build, as later reports will name it.
    pub fn this_build(&self) -> EarlierBuild {
        EarlierBuild {
            id: self.build.id.clone(),
            time: self.build.time.clone(),
            // What was rebased later, it made in another form.
            image_digest: self
                .rebases
                .first()
                .map_or(&self.image.digest, |first| &first.image_digest)
                .clone(),
            application_source: self.build.application_source.clone(),
            lifecycle: self.lifecycle.clone(),
        }
    }

    /// The run image that the image is on.
    pub fn run_image(&self) -> Option<&ImageRef> {
        let lifecycle = self.rebases.last().map_or(&self.lifecycle, |latest| &latest.lifecycle);
        lifecycle.run_image.as_ref()
    }
}
