//! `order.toml` and the orders of composite buildpacks.

use crate::doc::{DocError, from_toml};
use serde::Deserialize;

/// Groups in the order in which they are tried.
pub type Order = Vec<OrderGroup>;

/// One `[[order]]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct OrderGroup {
    /// The buildpacks of the group, in order.
    #[serde(default)]
    pub group: Vec<OrderElement>,
}

/// One `[[order.group]]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct OrderElement {
    /// The buildpack's id.
    pub id: String,
    /// Its version; may be empty in `builder.toml`, where the builder has just one.
    #[serde(default)]
    pub version: String,
    /// Whether the group may pass without it.
    #[serde(default)]
    pub optional: bool,
}

/// `order.toml`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct OrderFile {
    /// Buildpack groups.
    #[serde(default)]
    pub order: Order,
    /// Extension groups.
    #[serde(default, rename = "order-extensions")]
    pub order_extensions: Order,
}

impl OrderFile {
    /// Parses `order.toml`.
    ///
    /// # Errors
    /// When the text is not TOML or a key has the wrong type.
    pub fn parse(text: &str) -> Result<Self, DocError> {
        from_toml(text)
    }
}
