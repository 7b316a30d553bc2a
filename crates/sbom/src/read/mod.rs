//! Reading lists of components, whoever wrote them.

mod cyclonedx;
mod entry;
mod limited;
mod spdx;
mod syft;

pub use entry::entries;

use crate::component::Component;
use crate::purl::Purl;
use std::collections::{BTreeMap, BTreeSet};

/// The largest document that is read, in bytes. Those of the largest real images have a few tens of megabytes.
pub const MAX_DOCUMENT: usize = 64 << 20;
/// The same of a document that was made of many, in bytes.
pub const MAX_MERGED: usize = 256 << 20;
/// How many elements a list in a document may have.
pub(crate) const MAX_ELEMENTS: usize = 200_000;
/// How many objects there may be in a document, whatever they are: each is larger in memory than its two brackets.
const MAX_OBJECTS: usize = 1_000_000;
/// How many faults of one document are told.
const MAX_WARNINGS: usize = 5;

/// What a document is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Format {
    /// CycloneDX, as JSON.
    CycloneDx,
    /// SPDX 2, as JSON.
    Spdx,
    /// Syft's own JSON.
    Syft,
}

impl Format {
    /// All of them.
    pub const ALL: &'static [Self] = &[Self::CycloneDx, Self::Spdx, Self::Syft];

    /// What the names of such files of buildpacks end in.
    pub fn ending(self) -> &'static str {
        match self {
            Self::CycloneDx => "sbom.cdx.json",
            Self::Spdx => "sbom.spdx.json",
            Self::Syft => "sbom.syft.json",
        }
    }

    /// Its media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::CycloneDx => "application/vnd.cyclonedx+json",
            Self::Spdx => "application/spdx+json",
            Self::Syft => "application/vnd.syft+json",
        }
    }

    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::CycloneDx => "CycloneDX",
            Self::Spdx => "SPDX",
            Self::Syft => "Syft",
        }
    }
}

/// Why a document says nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// There is too much of it.
    #[error("it has {0} bytes, more than the {MAX_DOCUMENT} that are read")]
    TooLarge(usize),
    /// It is not JSON, or a member has the wrong type.
    #[error("it is no {} document: {reason}", format.name())]
    Malformed {
        /// What it should have been.
        format: Format,
        /// What is wrong, and where.
        reason: String,
    },
    /// It is of a version that nobody here knows.
    #[error("{} {version} is not known here; known is {known}", format.name())]
    Version {
        /// What it is.
        format: Format,
        /// What it says of itself.
        version: String,
        /// For the message.
        known: &'static str,
    },
}

/// What a document lists.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// Components by the name that the document has for them.
    pub components: BTreeMap<String, Component>,
    /// What needs what, by these names.
    pub uses: BTreeMap<String, BTreeSet<String>>,
    /// Faults that cost only a part of it.
    pub warnings: Vec<String>,
}

/// Reads a document.
///
/// # Errors
/// When it is too large, of another format, or of a version that is not known.
pub fn read(format: Format, bytes: &[u8]) -> Result<Listing, ReadError> {
    if bytes.len() > MAX_DOCUMENT {
        return Err(ReadError::TooLarge(bytes.len()));
    }
    let mut listing = match format {
        Format::CycloneDx => cyclonedx::read(bytes),
        Format::Spdx => spdx::read(bytes),
        Format::Syft => syft::read(bytes),
    }?;
    // Where things were found is not for whoever wrote the document to say.
    listing.components.values_mut().for_each(|component| component.found_in.clear());
    Ok(listing)
}

/// Reads what [`crate::write::cyclonedx()`] wrote, with where things were found.
///
/// # Errors
/// As of [`read`].
pub fn merged(bytes: &[u8]) -> Result<Listing, ReadError> {
    if bytes.len() > MAX_MERGED {
        return Err(ReadError::TooLarge(bytes.len()));
    }
    cyclonedx::read(bytes)
}

fn parse<'a, T: serde::Deserialize<'a>>(format: Format, bytes: &'a [u8]) -> Result<T, ReadError> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    if bytes.iter().filter(|byte| **byte == b'{').count() > MAX_OBJECTS {
        let reason = format!("it has more than {MAX_OBJECTS} objects");
        return Err(ReadError::Malformed { format, reason });
    }
    serde_json::from_slice(bytes).map_err(|error| ReadError::Malformed { format, reason: error.to_string() })
}

impl Listing {
    /// Adds a component under the document's name for it. One without a name and one that comes twice are not added.
    pub(crate) fn insert(&mut self, id: &str, mut component: Component) {
        component.redact();
        let place = self.components.len() + 1;
        if component.name.trim().is_empty() {
            self.warn(format!("component {place} ('{}') has no name", short(id)));
            return;
        }
        // Without an id nothing refers to it.
        let id = if id.is_empty() { format!("\0{place}") } else { id.to_owned() };
        match self.components.get(&id) {
            Some(known) if known.key() != component.key() => {
                let name = short(&component.full_name());
                self.warn(format!("'{}' stands for two components; '{name}' is left out", short(&id)));
            }
            Some(_) => {}
            None => {
                self.components.insert(id, component);
            }
        }
    }

    /// One component needs another.
    pub(crate) fn needs(&mut self, id: &str, used: &str) {
        if id != used {
            self.uses.entry(id.to_owned()).or_default().insert(used.to_owned());
        }
    }

    /// Takes needs away that name nothing.
    pub(crate) fn settle(mut self) -> Self {
        let known = |id: &String| self.components.contains_key(id);
        let lost: Vec<String> =
            self.uses.values().flatten().filter(|used| !known(used)).take(1).map(|id| short(id)).collect();
        self.uses.retain(|id, _| self.components.contains_key(id));
        for used in self.uses.values_mut() {
            used.retain(|id| self.components.contains_key(id));
        }
        if let Some(id) = lost.first() {
            self.warn(format!("a dependency on '{id}' leads nowhere"));
        }
        self
    }

    pub(crate) fn warn(&mut self, text: String) {
        match self.warnings.len() {
            count if count < MAX_WARNINGS => self.warnings.push(text),
            MAX_WARNINGS => self.warnings.push("there are more faults of this kind".to_owned()),
            _ => {}
        }
    }

    /// A package URL; what is none is told.
    pub(crate) fn purl(&mut self, text: Option<&str>) -> Option<Purl> {
        let text = text.filter(|text| !text.is_empty())?;
        text.parse().map_err(|error: crate::BadPurl| self.warn(error.to_string())).ok()
    }
}

/// As much of a text as fits into a message.
pub(crate) fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(100).collect()
}
