//! Annotations: free text by key, of a manifest and of its entry in an index.

use crate::{Descriptor, Document, ManifestError};

/// The key of the name that an image has in the index of a layout.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// The key of the place where an image's source is, a URL.
pub const SOURCE: &str = "org.opencontainers.image.source";
/// The key of the revision of the source.
pub const REVISION: &str = "org.opencontainers.image.revision";
/// The key of the version of what is packaged.
pub const VERSION: &str = "org.opencontainers.image.version";
/// The key of the date of an image, RFC 3339.
pub const CREATED: &str = "org.opencontainers.image.created";
/// The key of who is responsible for an image: names or addresses.
pub const AUTHORS: &str = "org.opencontainers.image.authors";
/// The key of the place of an image's documentation, a URL.
pub const DOCUMENTATION: &str = "org.opencontainers.image.documentation";
/// The key of the licenses of what is packaged, an expression of SPDX.
pub const LICENSES: &str = "org.opencontainers.image.licenses";
/// The key of a title: of a file in an artifact, the name that it gets where it is fetched to.
pub const TITLE: &str = "org.opencontainers.image.title";

/// Starts of keys by which readers of an index are told what an entry is called, and that it is no image.
const MARKS: [&str; 2] = ["io.containerd.image.", "vnd.docker.reference."];

/// Whether the key says something of an entry in an index rather than of an image: its name, or what it is beside.
/// Whoever writes the index decides that, and not the image.
#[must_use]
pub fn is_of_entry(key: &str) -> bool {
    key == REF_NAME || MARKS.iter().any(|start| key.starts_with(start))
}

/// The entry of an index for a document: with the annotations of the document, but for those that are the index's to
/// give.
///
/// # Errors
///
/// When the bytes are neither a manifest nor an index.
pub fn entry(descriptor: Descriptor, document: &[u8]) -> Result<Descriptor, ManifestError> {
    let annotations = match Document::parse(document, Some(&descriptor.media_type))? {
        Document::Manifest(manifest) => manifest.annotations,
        Document::Index(index) => index.annotations,
    };
    let annotations = annotations.into_iter().filter(|(key, _)| !is_of_entry(key)).collect();
    Ok(Descriptor { annotations, ..descriptor })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media_type::{OCI_CONFIG, OCI_MANIFEST};
    use crate::{Index, Manifest};
    use std::collections::BTreeMap;

    #[test]
    fn an_entry_has_the_annotations_of_its_document_but_for_names() {
        let annotations: BTreeMap<_, _> =
            [("a", "1"), (REF_NAME, "other")].map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let config = Descriptor::of(OCI_CONFIG, b"{}");
        let mut manifest = Manifest::new(OCI_MANIFEST, config);
        manifest.annotations.clone_from(&annotations);
        let index = Index { annotations, ..Index::default() };
        for (kind, bytes) in
            [(OCI_MANIFEST, manifest.encode().unwrap()), (index.media_type.as_str(), index.encode().unwrap())]
        {
            let entry = entry(Descriptor::of(kind, &bytes), &bytes).unwrap();
            assert_eq!(entry.annotations, [("a".to_owned(), "1".to_owned())].into());
            assert!(entry.matches(&bytes));
        }
    }

    #[test]
    fn names_and_marks_are_those_of_entries() {
        for (key, expected) in [
            (REF_NAME, true),
            ("io.containerd.image.name", true),
            ("vnd.docker.reference.type", true),
            ("org.opencontainers.image.ref.name.x", false),
            ("org.opencontainers.image.title", false),
            ("", false),
        ] {
            assert_eq!(is_of_entry(key), expected, "{key}");
        }
    }
}
