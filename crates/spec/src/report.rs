//! `report.toml`: what an export or a rebase made (platform specification, "report.toml").

use crate::bom::BomEntry;
use crate::doc::{DocError, from_toml};
use crate::sealed::Changes;
use crate::toml_writer;
use serde::{Deserialize, Serialize};

/// `report.toml`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// What the build was made with; written by an export before Platform API 0.9, and since then when a layer has a
    /// bill of materials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<Build>,
    /// The image.
    #[serde(default)]
    pub image: Image,
    /// What buildpacks changed that others made; Strata's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<Changes>,
}

/// `[build]`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Build {
    /// The unstructured bills of materials of all `build.toml` and of layers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bom: Vec<BomEntry>,
}

/// `[image]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct Image {
    /// The names it was saved under, as they were given.
    pub tags: Vec<String>,
    /// Its id in a daemon: hexadecimal digits.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub image_id: String,
    /// The checksum of its manifest in a registry: `sha256:…`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub digest: String,
    /// Bytes of its manifest; 0 when unknown.
    #[serde(skip_serializing_if = "is_zero")]
    pub manifest_size: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(size: &u64) -> bool {
    *size == 0
}

impl Report {
    /// Parses `report.toml`.
    ///
    /// # Errors
    /// When the text is not TOML or a key has the wrong type.
    pub fn parse(text: &str) -> Result<Self, DocError> {
        from_toml(text)
    }

    /// The document as the lifecycle writes it.
    pub fn to_toml(&self) -> String {
        toml_writer::to_string(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> Image {
        Image { tags: vec!["a/b".into(), "r.io/c:1".into()], manifest_size: 1234, ..Image::default() }
    }

    #[test]
    fn the_image_alone_is_reported_as_the_reference_does() {
        let digest = Image { digest: "sha256:12ab".into(), ..image() };
        let id = Image { image_id: "12ab".into(), manifest_size: 0, ..image() };
        for (image, expected) in
            [(digest, "digest = \"sha256:12ab\"\n  manifest-size = 1234\n"), (id, "image-id = \"12ab\"\n")]
        {
            let report = Report { image, ..Report::default() };
            let text = report.to_toml();
            assert_eq!(text, format!("[image]\n  tags = [\"a/b\", \"r.io/c:1\"]\n  {expected}"));
            assert_eq!(Report::parse(&text).unwrap(), report);
        }
    }

    #[test]
    fn platforms_find_the_checksum_by_the_only_line_with_that_word() {
        let text =
            Report { image: Image { digest: "sha256:0".into(), ..image() }, ..Report::default() }.to_toml();
        let lines: Vec<_> = text.lines().filter(|line| line.contains("digest")).collect();
        assert_eq!(lines, ["  digest = \"sha256:0\""]);
    }

    #[test]
    fn an_old_platform_gets_the_bill_of_materials() {
        let entry = BomEntry { name: "jdk".into(), ..BomEntry::default() }.by("a/b", "1");
        let report = Report { build: Some(Build { bom: vec![entry] }), image: image(), ..Report::default() };
        let text = report.to_toml();
        assert_eq!(
            text,
            "[build]\n\n  [[build.bom]]\n    name = \"jdk\"\n    [build.bom.buildpack]\n      id = \"a/b\"\n      \
             version = \"1\"\n\n[image]\n  tags = [\"a/b\", \"r.io/c:1\"]\n  manifest-size = 1234\n"
        );
        assert_eq!(Report::parse(&text).unwrap(), report);
    }
}
