//! `builder.toml`, in the format that pack's users know, and the labels of a builder image.

use crate::buildpack::Target;
use crate::doc::{DocError, from_toml};
use crate::labels::{from_json, null_is_default};
use crate::order::Order;
use crate::run::RunImage;
use crate::sealed::SealedLayers;
use crate::system::System;
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
    /// The lifecycle that goes into the builder's image.
    #[serde(default)]
    pub lifecycle: LifecycleSource,
    /// Buildpacks that the operator adds to every group.
    #[serde(default)]
    pub system: System,
    /// What the builder is for; empty for the platform of its build image.
    #[serde(default)]
    pub targets: Vec<Target>,
    /// Where the image extensions are.
    #[serde(default)]
    pub extensions: Vec<BuildpackSource>,
    /// Their orders.
    #[serde(default, rename = "order-extensions")]
    pub order_extensions: Order,
}

/// One `[[buildpacks]]` or `[[extensions]]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct BuildpackSource {
    /// Expected id; empty takes what the buildpack says.
    #[serde(default)]
    pub id: String,
    /// Expected version; empty takes what the buildpack says.
    #[serde(default)]
    pub version: String,
    /// A folder, an archive or an image; paths are relative to `builder.toml`.
    #[serde(default)]
    pub uri: String,
    /// An image, in the words of older files.
    #[serde(default)]
    pub image: String,
}

/// `[build]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct BuildImage {
    /// `host`, or an image reference; empty means `host`.
    #[serde(default)]
    pub image: String,
    /// What the operator sets for buildpacks.
    #[serde(default)]
    pub env: Vec<BuildVariable>,
}

/// One `[[build.env]]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct BuildVariable {
    /// Its name.
    pub name: String,
    /// Its value.
    #[serde(default)]
    pub value: String,
    /// What happens to a value that is there, as the suffix of an environment file.
    #[serde(default)]
    pub suffix: String,
    /// What stands between two values.
    #[serde(default)]
    pub delim: String,
}

/// `[lifecycle]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct LifecycleSource {
    /// An archive, relative to `builder.toml`; empty for none.
    #[serde(default)]
    pub uri: String,
}

/// `[run]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct RunImages {
    /// Candidates; the first one is used.
    #[serde(default)]
    pub images: Vec<RunImage>,
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

/// `io.buildpacks.builder.metadata`, as far as a build needs it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct BuilderMetadata {
    /// The run images of newer builders; the first is the default.
    #[serde(deserialize_with = "null_is_default")]
    pub images: Vec<RunImage>,
    /// The run image of older ones.
    #[serde(deserialize_with = "null_is_default")]
    pub stack: BuilderStack,
}

/// The stack of a builder.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct BuilderStack {
    /// Its run image.
    #[serde(rename = "runImage", deserialize_with = "null_is_default")]
    pub run_image: RunImage,
}

impl BuilderMetadata {
    /// Parses the label.
    ///
    /// # Errors
    /// When the text is not JSON or a member has the wrong type.
    pub fn parse(text: &str) -> Result<Self, DocError> {
        from_json(text)
    }

    /// The run images, in the order in which they are tried.
    pub fn run_images(self) -> Vec<RunImage> {
        let old = Some(self.stack.run_image).filter(|run_image| !run_image.image.is_empty());
        if self.images.is_empty() { old.into_iter().collect() } else { self.images }
    }
}

/// Parses `io.buildpacks.buildpack.order`.
///
/// # Errors
/// When the text is not JSON or a member has the wrong type.
pub fn parse_order_label(text: &str) -> Result<Order, DocError> {
    from_json::<Option<Order>>(text).map(Option::unwrap_or_default)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_images_of_a_builder_are_those_of_the_newer_member() {
        for (text, expected) in [
            ("{}", vec![]),
            (r#"{"images":null,"stack":null}"#, vec![]),
            (r#"{"stack":{"runImage":{"image":"old","mirrors":null}}}"#, vec!["old"]),
            (
                r#"{"stack":{"runImage":{"image":"old"}},"images":[{"image":"a","mirrors":["b"]}]}"#,
                vec!["a", "b"],
            ),
        ] {
            let images = BuilderMetadata::parse(text).unwrap().run_images();
            let names: Vec<&str> = images.iter().flat_map(RunImage::names).collect();
            assert_eq!(names, expected, "{text}");
        }
        assert!(BuilderMetadata::parse(r#"{"images":3}"#).is_err());
    }

    #[test]
    fn the_order_label_may_be_null() {
        assert_eq!(parse_order_label("null").unwrap(), Order::new());
        let order = parse_order_label(r#"[{"group":[{"id":"a","version":"1","optional":true}]}]"#).unwrap();
        assert!(order[0].group[0].optional);
        assert!(parse_order_label("3").is_err());
    }
}
