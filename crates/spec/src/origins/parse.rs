//! Reading reports, which anybody may have written.

use super::{
    EarlierBuild, Evidence, Kind, Layer, MAX_REBASES, MAX_REPORT, Rebase, Report, SCHEMA_VERSION, Source,
};
use crate::DocError;
use crate::doc::from_toml;
use crate::sealed::Changes;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use toml::{Table, Value};

/// More layers than any image, and any build, has.
pub(super) const MAX_LAYERS: usize = 4096;
/// More layers than were ever present at once.
pub(super) const MAX_NEIGHBOURS: usize = 1024;
/// The longest name, digest or date, in bytes.
pub const MAX_WORD: usize = 1024;
/// The longest free text, in bytes.
const MAX_TEXT: usize = 16 * 1024;
/// The deepest table of buildpacks or operators.
const MAX_DEPTH: usize = 32;
/// The most that is known of one build, in bytes, about.
const MAX_BUILD: usize = 256 * 1024;
/// The most that is known of all layers, in bytes, about: each tells of the build that made it, and of what was changed in it.
pub const MAX_TOLD: usize = 32 << 20;

/// Why a report is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReportError {
    /// It is larger than any real one.
    #[error("it is larger than {} MiB", MAX_REPORT >> 20)]
    TooLarge,
    /// It is no TOML, or a key has the wrong type.
    #[error("it is no report: {0}")]
    Broken(#[from] DocError),
    /// It is a report as `report.toml` is without origins.
    #[error("it says nothing of origins")]
    NoOrigins,
    /// A later program wrote it.
    #[error("its schema version is {0}; this program knows {SCHEMA_VERSION}")]
    Version(i64),
    /// It has what no real report has.
    #[error("it has {0}")]
    Implausible(String),
    /// It is about another image.
    #[error("it is about the image {found}, not {expected}")]
    OtherImage {
        /// The image that it lies beside.
        expected: String,
        /// The one that it names.
        found: String,
    },
    /// Its layers are not those of the image.
    #[error("it names the layers of another image")]
    OtherLayers,
}

/// Parses the operator's own table.
///
/// # Errors
/// When the text is not TOML, or what is in it is too much for a report.
pub fn parse_extra(text: &str) -> Result<Table, DocError> {
    let table: Table = from_toml(text)?;
    if text.len() > MAX_REPORT / 4 || !is_shallow(&table, MAX_DEPTH) {
        return Err(DocError::whole("it is too large or too deep for a report"));
    }
    Ok(table)
}

/// Whether a text is a digest as it has to be: `sha256:` and 64 lower-case hexadecimal digits.
pub fn is_digest(text: &str) -> bool {
    let is_hex = |hex: &str| hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    text.strip_prefix("sha256:").is_some_and(is_hex)
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Version {
    schema_version: Option<i64>,
}

impl Report {
    /// Parses a report. Keys that are unknown are skipped; values that are unknown are not.
    ///
    /// # Errors
    /// When it is no report of this version, or has what no real one has: digests that are none, an origin that it
    /// does not name, too much of anything.
    pub fn parse(text: &str) -> Result<Self, ReportError> {
        if text.len() > MAX_REPORT {
            return Err(ReportError::TooLarge);
        }
        match from_toml::<Version>(text)?.schema_version {
            None => return Err(ReportError::NoOrigins),
            Some(version) if version != i64::from(SCHEMA_VERSION) => {
                return Err(ReportError::Version(version));
            }
            Some(_) => {}
        }
        let report: Self = from_toml(text)?;
        report.is_plausible()?;
        Ok(report)
    }

    /// Makes sure that a report which lies beside an image is about it.
    ///
    /// # Errors
    /// When it names another image or other layers. `diff_ids` are those of the image, from the bottom up.
    pub fn check<'a>(
        &self,
        digest: &str,
        diff_ids: impl IntoIterator<Item = &'a str>,
    ) -> Result<(), ReportError> {
        if self.image.digest != digest {
            let (expected, found) = (digest.to_owned(), self.image.digest.clone());
            return Err(ReportError::OtherImage { expected, found });
        }
        self.check_layers(diff_ids)
    }

    /// The same where the image has no digest that a report could name: in Docker's daemons and archives.
    ///
    /// # Errors
    /// When it names other layers.
    pub fn check_layers<'a>(&self, diff_ids: impl IntoIterator<Item = &'a str>) -> Result<(), ReportError> {
        let own = self.layers.iter().filter(|layer| layer.is_in_image()).map(|layer| layer.diff_id.as_str());
        if own.eq(diff_ids) { Ok(()) } else { Err(ReportError::OtherLayers) }
    }

    /// What there is to be told of all layers: a few bytes of a report can make each of them repeat a long text.
    fn told(&self) -> usize {
        let mut builds: BTreeMap<&str, usize> =
            self.builds.iter().map(|b| (b.id.as_str(), weight(b))).collect();
        builds.insert(&self.build.id, weight(&self.this_build()));
        let mut changes: BTreeMap<&str, usize> = BTreeMap::new();
        for Changes { by, of, files, .. } in &self.changes {
            let files: usize = files.iter().map(|file| ENTRY + file.path.len() + file.kind.len()).sum();
            *changes.entry(of).or_default() += ENTRY + by.len() + of.len() + files;
        }
        let told = |layer: &Layer| {
            let of = if layer.kind == Kind::App { "app".to_owned() } else { layer.id() };
            let changes = changes.get(of.as_str()).copied().unwrap_or_default();
            builds.get(layer.origin.build.as_str()).copied().unwrap_or_default() + changes
        };
        self.layers.iter().map(told).fold(0, usize::saturating_add)
    }

    fn is_plausible(&self) -> Result<(), ReportError> {
        let implausible = |what: &str| Err(ReportError::Implausible(what.to_owned()));
        if self.layers.len() > MAX_LAYERS || self.builds.len() > MAX_LAYERS {
            return implausible("too many layers or builds");
        }
        let images = [&self.lifecycle.build_image, &self.lifecycle.run_image];
        let earlier = self.builds.iter().flat_map(|b| [&b.lifecycle.build_image, &b.lifecycle.run_image]);
        let digests = images.into_iter().chain(earlier).flatten().map(|image| &image.digest);
        let restored = self.restored_image.iter().flat_map(|image| [&image.digest, &image.report]);
        let made = self.builds.iter().map(|build| &build.image_digest).chain([&self.image.digest]);
        if !digests.chain(restored).chain(made).all(|digest| digest.is_empty() || is_digest(digest)) {
            return implausible("a digest that is none");
        }
        let mut known = BTreeSet::new();
        for (id, time) in
            self.builds.iter().map(|b| (&b.id, &b.time)).chain([(&self.build.id, &self.build.time)])
        {
            if !is_build_id(id) || !is_time(time) {
                return implausible("a build without id or time");
            }
            if !known.insert(id.as_str()) {
                return implausible("two builds with one id");
            }
        }
        if self.rebases.len() > MAX_REBASES || !self.rebases.iter().all(is_plausible_rebase) {
            return implausible("an impossible rebase");
        }
        let is_real = |changes: &Changes| is_word(&changes.by) && is_word(&changes.of);
        if self.changes.len() > MAX_LAYERS || !self.changes.iter().all(is_real) {
            return implausible("impossible changes");
        }
        let sources =
            self.builds.iter().map(|b| &b.application_source).chain([&self.build.application_source]);
        let sources = sources.chain(self.layers.iter().map(|layer| &layer.application_source)).flatten();
        let tables = sources.flat_map(|source| [&source.version, &source.metadata]);
        let mut tables = tables.chain(self.layers.iter().map(|layer| &layer.metadata)).chain([&self.extra]);
        if !tables.all(|table| is_shallow(table, MAX_DEPTH)) {
            return implausible("a table that is too deep");
        }
        if !self.builds.iter().chain([&self.this_build()]).all(is_small) {
            return implausible("a build of which too much is said");
        }
        if self.told() > MAX_TOLD {
            return implausible("layers of which too much is said");
        }
        self.layers.iter().try_for_each(|layer| is_plausible_layer(layer, &known))
    }
}

/// What a value takes in memory besides its text, about.
const ENTRY: usize = 100;

/// Whether no more is said of a build than there can be to say.
pub(super) fn is_small(build: &EarlierBuild) -> bool {
    weight(build) <= MAX_BUILD
}

/// What is known of a build, in bytes, about.
fn weight(build: &EarlierBuild) -> usize {
    let EarlierBuild { application_source, lifecycle, .. } = build;
    let images = [&lifecycle.build_image, &lifecycle.run_image].into_iter().flatten();
    let images = images.map(|image| {
        let tags: usize = image.tags.iter().map(|tag| ENTRY + tag.len()).sum();
        tags + image.image_id.len() + image.distro.len() + ENTRY
    });
    let source = application_source.as_ref().map_or(0, Source::weight);
    ENTRY + lifecycle.name.len() + lifecycle.version.len() + source + images.sum::<usize>()
}

impl Source {
    /// How much is said of it, in bytes, about.
    pub fn weight(&self) -> usize {
        self.kind.len() + weight_of_table(&self.version) + weight_of_table(&self.metadata)
    }
}

fn weight_of_table(table: &Table) -> usize {
    table.iter().map(|(key, value)| key.len() + weight_of_value(value)).sum()
}

fn weight_of_value(value: &Value) -> usize {
    ENTRY
        + match value {
            Value::String(text) => text.len(),
            Value::Array(items) => items.iter().map(weight_of_value).sum(),
            Value::Table(table) => weight_of_table(table),
            _ => 0,
        }
}

fn is_plausible_rebase(rebase: &Rebase) -> bool {
    let images = [&rebase.lifecycle.build_image, &rebase.lifecycle.run_image].into_iter().flatten();
    let mut digests = images.map(|image| &image.digest).chain([&rebase.report]);
    is_time(&rebase.time)
        && is_digest(&rebase.image_digest)
        && digests.all(|digest| digest.is_empty() || is_digest(digest))
}

fn is_plausible_layer(layer: &Layer, builds: &BTreeSet<&str>) -> Result<(), ReportError> {
    let implausible = |what: &str| Err(ReportError::Implausible(format!("a layer with {what}")));
    let words = [&layer.buildpack, &layer.buildpack_version, &layer.buildpack_api, &layer.name];
    if layer.name.is_empty() || !words.into_iter().all(|word| is_word(word)) {
        return implausible("an impossible name");
    }
    let digests =
        [&layer.digest, &layer.diff_id, &layer.previous_layer_digest, &layer.previous_layer_diff_id];
    if !digests.into_iter().all(|digest| digest.is_empty() || is_digest(digest)) {
        return implausible("a digest that is none");
    }
    if layer.is_in_image() && layer.diff_id.is_empty() {
        return implausible("a digest and no diff-id");
    }
    if !layer.modification_date.is_empty() && !is_time(&layer.modification_date) {
        return implausible("a date that is none");
    }
    let is_known = builds.contains(layer.origin.build.as_str());
    let needs_build =
        matches!(layer.origin.from, Evidence::ThisBuild | Evidence::Cache | Evidence::PreviousImage);
    if needs_build && !is_known || !needs_build && !layer.origin.build.is_empty() {
        return implausible("an origin that the report does not have");
    }
    if layer.origin.text.len() > MAX_TEXT || layer.reason.text.len() > MAX_TEXT {
        return implausible("too long a text");
    }
    let is_neighbour = |id: &str, digest: &str| is_word(id) && (digest.is_empty() || is_digest(digest));
    if layer.present_layers.len() > MAX_NEIGHBOURS
        || !layer.present_layers.iter().all(|other| is_neighbour(&other.id, &other.diff_id))
    {
        return implausible("impossible neighbours");
    }
    Ok(())
}

pub(super) fn is_word(text: &str) -> bool {
    text.len() <= MAX_WORD && !text.chars().any(char::is_control)
}

pub(super) fn is_build_id(id: &str) -> bool {
    (8..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// Whether a text looks like a time of RFC 3339, as `2026-01-31T12:00:00Z`.
pub(super) fn is_time(text: &str) -> bool {
    let digits = |bytes: &[u8]| bytes.iter().all(u8::is_ascii_digit);
    match text.as_bytes() {
        [date @ .., b'Z'] if date.len() >= 19 && date.len() <= 29 => {
            let (head, fraction) = date.split_at(19);
            let parts: Vec<&[u8]> = head.split(|b| b"-T:".contains(b)).collect();
            let widths = parts.iter().map(|part| part.len());
            let number = |part: &[u8]| part.iter().fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'));
            widths.eq([4, 2, 2, 2, 2, 2])
                && parts.iter().all(|part| digits(part))
                && is_on_calendar(&parts.iter().map(|part| number(part)).collect::<Vec<_>>())
                && (fraction.is_empty() || fraction[0] == b'.' && digits(&fraction[1..]))
        }
        _ => false,
    }
}

/// Year, month, day, hour, minute and second; one of these may be a leap second.
fn is_on_calendar(parts: &[u32]) -> bool {
    let &[year, month, day, hour, minute, second] = parts else { return false };
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 if is_leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return false,
    };
    (1..=days).contains(&day) && hour < 24 && minute < 60 && second <= 60
}

pub(super) fn is_shallow(table: &Table, depth: usize) -> bool {
    depth > 0 && table.values().all(|value| is_shallow_value(value, depth - 1))
}

fn is_shallow_value(value: &Value, depth: usize) -> bool {
    match value {
        Value::Table(table) => is_shallow(table, depth),
        Value::Array(items) => depth > 0 && items.iter().all(|item| is_shallow_value(item, depth - 1)),
        _ => true,
    }
}
