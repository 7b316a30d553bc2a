//! `run.toml` and `stack.toml`: the run images that a builder knows (platform specification, "run.toml").

use crate::doc::{DocError, from_toml};
use serde::Deserialize;

/// A run image and its other names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct RunImage {
    /// A reference; empty in a document that does not name one.
    #[serde(default)]
    pub image: String,
    /// References to the same image elsewhere.
    #[serde(default, deserialize_with = "crate::labels::null_is_default")]
    pub mirrors: Vec<String>,
}

impl RunImage {
    /// The image and its mirrors, in the order of the document.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.image).chain(&self.mirrors).map(String::as_str)
    }
}

/// `run.toml` (Platform API 0.12 and later).
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct RunFile {
    /// The run images; the first is the default.
    #[serde(default)]
    pub images: Vec<RunImage>,
}

impl RunFile {
    /// Parses `run.toml`.
    ///
    /// # Errors
    /// When the text is not TOML or a key has the wrong type.
    pub fn parse(text: &str) -> Result<Self, DocError> {
        from_toml(text)
    }
}

/// `stack.toml` (before Platform API 0.12).
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct StackFile {
    /// The run image.
    #[serde(default, rename = "run-image")]
    pub run_image: RunImage,
}

impl StackFile {
    /// Parses `stack.toml`.
    ///
    /// # Errors
    /// When the text is not TOML or a key has the wrong type.
    pub fn parse(text: &str) -> Result<Self, DocError> {
        from_toml(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_images_come_in_the_order_of_the_document() {
        let text = "[[images]]\nimage = \"a\"\nmirrors = [\"b\", \"c\"]\n[[images]]\nimage = \"d\"\n";
        let file = RunFile::parse(text).unwrap();
        let names: Vec<Vec<&str>> = file.images.iter().map(|i| i.names().collect()).collect();
        assert_eq!(names, [vec!["a", "b", "c"], vec!["d"]]);
        assert_eq!(RunFile::parse("").unwrap(), RunFile::default());
        assert!(RunFile::parse("images = 3").is_err());
    }

    #[test]
    fn a_stack_has_one_run_image() {
        let file = StackFile::parse("[run-image]\nimage = \"a\"\nmirrors = [\"b\"]\n").unwrap();
        assert_eq!(file.run_image.names().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(StackFile::parse("").unwrap().run_image.image, "");
        assert!(StackFile::parse("[run-image]\nimage = 1").is_err());
    }
}
