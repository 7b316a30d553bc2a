//! `builder.toml`, in the format that pack's users know.

use crate::doc::{DocError, from_toml};
use crate::order::Order;
use crate::sealed::SealedLayers;
use serde::Deserialize;

/// A builder: buildpacks, the orders in which they are tried, and the images they build in and on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Builder {
    /// A sentence for people.
    #[serde(default)]
    pub description: String,
    /// Where the buildpacks are.
    #[serde(default)]
    pub buildpacks: Vec<BuildpackSource>,
    /// The orders.
    #[serde(default)]
    pub order: Order,
    /// The image that buildpacks run in.
    #[serde(default)]
    pub build: BuildImage,
    /// What becomes of changes to the layers of other buildpacks: Strata's own table.
    #[serde(default, rename = "sealed-layers")]
    pub sealed_layers: Option<SealedLayers>,
    /// The images that apps are built on.
    #[serde(default)]
    pub run: RunImages,
}

/// One `[[buildpacks]]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct BuildpackSource {
    /// Expected id; empty takes what the buildpack says.
    #[serde(default)]
    pub id: String,
    /// Expected version; empty takes what the buildpack says.
    #[serde(default)]
    pub version: String,
    /// A folder, relative to `builder.toml`.
    #[serde(default)]
    pub uri: String,
}

/// `[build]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct BuildImage {
    /// `host`, or an image reference; empty means `host`.
    #[serde(default)]
    pub image: String,
}

/// `[run]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct RunImages {
    /// Candidates; the first one is used.
    #[serde(default)]
    pub images: Vec<RunImageSource>,
}

/// One `[[run.images]]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct RunImageSource {
    /// A reference.
    #[serde(default)]
    pub image: String,
    /// Other names for it.
    #[serde(default)]
    pub mirrors: Vec<String>,
}

impl Builder {
    /// Parses `builder.toml`.
    ///
    /// # Errors
    /// When the text is not TOML, a key has the wrong type, or there is no order.
    pub fn parse(text: &str) -> Result<Self, DocError> {
        let builder: Self = from_toml(text)?;
        if builder.order.is_empty() {
            return Err(DocError::whole("a builder needs at least one [[order]]"));
        }
        Ok(builder)
    }
}
