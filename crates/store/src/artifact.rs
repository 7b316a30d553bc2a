//! Artifacts: documents beside an image, such as SBOMs and signatures. Each has a manifest that refers to the image as
//! its subject (OCI image specification 1.1, "Guidelines for Artifact Usage").

use std::collections::BTreeMap;
use std::path::Path;

use strata_oci::annotation::TITLE;
use strata_oci::media_type::{OCI_MANIFEST, is_index, is_manifest};
use strata_oci::{Descriptor, Digest, Document, Manifest, ManifestError};

use crate::select::Documents;
use crate::{Store, StoreError, Tree};

/// The type of a configuration that says nothing.
const EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// Such a configuration.
pub(crate) const EMPTY_CONFIG: &[u8] = b"{}";
/// The same in base 64.
const EMPTY_DATA: &str = "e30=";

/// An artifact with one file, ready to be stored.
pub(crate) struct Artifact {
    /// Its manifest, byte for byte.
    pub(crate) manifest: Vec<u8>,
    /// As a list of referrers has it.
    pub(crate) descriptor: Descriptor,
    /// Its configuration and its file.
    blobs: Vec<Descriptor>,
}

impl Artifact {
    /// A title among the annotations is the file's, too: without one, some clients fetch no files.
    pub(crate) fn new(
        subject: &Descriptor,
        artifact_type: &str,
        mut file: Descriptor,
        annotations: &BTreeMap<String, String>,
    ) -> Result<Self, serde_json::Error> {
        let title = annotations.get_key_value(TITLE).map(|(key, title)| (key.clone(), title.clone()));
        file.annotations.extend(title);
        let config = Descriptor { data: Some(EMPTY_DATA.to_owned()), ..Descriptor::of(EMPTY, EMPTY_CONFIG) };
        let mut manifest = Manifest::new(OCI_MANIFEST, config);
        manifest.layers.push(file);
        // What else the descriptor says is of the place it comes from.
        manifest.subject = Some(Descriptor::new(subject.media_type.clone(), subject.digest, subject.size));
        manifest.artifact_type = Some(artifact_type.to_owned());
        manifest.annotations.clone_from(annotations);
        let bytes = manifest.encode()?;
        let descriptor = Descriptor {
            artifact_type: Some(artifact_type.to_owned()),
            annotations: annotations.clone(),
            ..Descriptor::of(OCI_MANIFEST, &bytes)
        };
        let blobs = [vec![manifest.config], manifest.layers].concat();
        Ok(Self { manifest: bytes, descriptor, blobs })
    }

    /// As it is stored.
    pub(crate) fn into_tree(self) -> Tree {
        Tree { documents: vec![(self.descriptor, self.manifest)], blobs: self.blobs }
    }

    /// Those of a type, as a place without a list of its own lists them.
    pub(crate) fn listed(all: Vec<Self>, artifact_type: Option<&str>) -> Vec<Descriptor> {
        let mut found: Vec<_> = all.into_iter().map(|found| found.descriptor).collect();
        found.retain(|entry| is_of_type(entry, artifact_type));
        found
    }

    /// The one that was listed so, as it is stored.
    pub(crate) fn tree_of(all: Vec<Self>, entry: &Descriptor) -> Option<Tree> {
        all.into_iter().find(|found| found.descriptor.digest == entry.digest).map(Self::into_tree)
    }
}

/// Puts a file beside an image, in any place that has room for it.
///
/// # Errors
///
/// As of [`Store::begin_blob`] and [`Store::put_referrer`].
pub fn put_file(
    to: &dyn Store,
    subject: &Descriptor,
    (kind, bytes): (&str, &[u8]),
    annotations: &BTreeMap<String, String>,
) -> Result<(), StoreError> {
    let file = Descriptor::of(kind, bytes);
    let artifact = Artifact::new(subject, kind, file.clone(), annotations)
        .map_err(|source| StoreError::Encode { path: subject.digest.to_string().into(), source })?;
    for (blob, bytes) in [(&file.digest, bytes), (&Digest::of(EMPTY_CONFIG), EMPTY_CONFIG)] {
        if !to.has_blob(blob, bytes.len() as u64)? {
            let mut sink = to.begin_blob()?;
            sink.write_all(bytes).map_err(StoreError::io("write", Path::new(&blob.to_string())))?;
            sink.commit(blob, bytes.len() as u64)?;
        }
    }
    to.put_referrer(&artifact.into_tree())
}

/// The same artifacts of another image. Those that are more than a file with what is said of it are left out.
#[must_use]
pub fn about(trees: &[Tree], subject: &Descriptor) -> Vec<Tree> {
    let about = |tree: &Tree| {
        let (root, bytes) = tree.documents.last()?;
        let Ok(Document::Manifest(manifest)) = Document::parse(bytes, Some(&root.media_type)) else {
            return None;
        };
        let [file] = manifest.layers.as_slice() else { return None };
        let kind = manifest.artifact_type.as_deref().unwrap_or(&manifest.config.media_type);
        let artifact = Artifact::new(subject, kind, file.clone(), &manifest.annotations).ok()?;
        Some(artifact.into_tree())
    };
    trees.iter().filter_map(about).collect()
}

/// What the root of a tree refers to, and how a list of referrers has it.
pub(crate) fn root_of(tree: &Tree, place: &Path) -> Result<(Digest, Descriptor), StoreError> {
    let path = || place.to_owned();
    let (root, bytes) = tree.documents.last().ok_or_else(|| StoreError::NoSubject { path: path() })?;
    let found = referrer(root, bytes).map_err(|source| StoreError::Manifest { path: path(), source })?;
    found.ok_or_else(|| StoreError::NoSubject { path: path() })
}

/// What a document refers to, and how a list of referrers has the document; `None` when it refers to nothing.
pub(crate) fn referrer(
    entry: &Descriptor,
    bytes: &[u8],
) -> Result<Option<(Digest, Descriptor)>, ManifestError> {
    let (subject, artifact_type, annotations) = match Document::parse(bytes, Some(&entry.media_type))? {
        Document::Manifest(manifest) => {
            // Without a type of its own, an artifact has that of its configuration.
            let own = manifest.artifact_type.filter(|kind| !kind.is_empty());
            (manifest.subject, own.or(Some(manifest.config.media_type)), manifest.annotations)
        }
        Document::Index(index) => (index.subject, index.artifact_type, index.annotations),
    };
    let Some(subject) = subject else { return Ok(None) };
    let described = Descriptor {
        artifact_type,
        annotations,
        ..Descriptor::new(entry.media_type.clone(), entry.digest, entry.size)
    };
    Ok(Some((subject.digest, described)))
}

/// Those entries of a layout's index that refer to an image.
pub(crate) fn listed(
    documents: &dyn Documents,
    entries: &[Descriptor],
    subject: &Digest,
    artifact_type: Option<&str>,
) -> Result<Vec<Descriptor>, StoreError> {
    let mut found: Vec<Descriptor> = Vec::new();
    for entry in entries {
        let is_known = found.iter().any(|known| known.digest == entry.digest);
        let is_document = is_index(&entry.media_type) || is_manifest(&entry.media_type);
        if is_known || !is_document {
            continue;
        }
        let Some(bytes) = documents.manifest(entry)? else { continue };
        let referrer = referrer(entry, &bytes)
            .map_err(|source| StoreError::Manifest { path: documents.place(), source })?;
        let is_wanted =
            |(of, entry): &(Digest, Descriptor)| of == subject && is_of_type(entry, artifact_type);
        found.extend(referrer.filter(is_wanted).map(|(_, entry)| entry));
    }
    Ok(found)
}

/// Whether an entry of a list of referrers is of the type asked for.
pub(crate) fn is_of_type(entry: &Descriptor, wanted: Option<&str>) -> bool {
    wanted.is_none_or(|wanted| entry.artifact_type.as_deref() == Some(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;
    use strata_oci::{Index, media_type};

    #[test]
    fn the_manifest_of_an_artifact_is_as_the_specification_has_it() {
        let subject = Descriptor {
            annotations: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
            ..Descriptor::of(OCI_MANIFEST, b"image")
        };
        let file = Descriptor::of("text/plain", b"note");
        let noted = BTreeMap::from([("k".to_owned(), "v".to_owned())]);
        let artifact = Artifact::new(&subject, "text/note", file.clone(), &noted).unwrap();
        let expected = format!(
            r#"{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}","config":{{"mediaType":"application/vnd.oci.empty.v1+json","size":2,"digest":"{}","data":"e30="}},"layers":[{{"mediaType":"text/plain","size":4,"digest":"{}"}}],"annotations":{{"k":"v"}},"subject":{{"mediaType":"{OCI_MANIFEST}","size":5,"digest":"{}"}},"artifactType":"text/note"}}"#,
            Digest::of(b"{}"),
            file.digest,
            subject.digest
        );
        assert_eq!(String::from_utf8(artifact.manifest.clone()).unwrap(), expected);
        let bare = Descriptor::of(OCI_MANIFEST, &artifact.manifest);
        let found = referrer(&bare, &artifact.manifest).unwrap();
        assert_eq!(found, Some((subject.digest, artifact.descriptor)));
    }

    #[test]
    fn a_title_is_the_files_too() {
        let titled = BTreeMap::from([(TITLE.to_owned(), "a.json".to_owned())]);
        let file = Descriptor::of("text/plain", b"note");
        let artifact = Artifact::new(&Descriptor::of(OCI_MANIFEST, b"image"), "a/b", file, &titled).unwrap();
        assert_eq!(artifact.blobs[1].annotations, titled);
    }

    #[test]
    fn the_type_of_a_referrer_is_its_own_or_its_configurations() {
        let subject = Some(Descriptor::of(OCI_MANIFEST, b"image"));
        let mut manifest = Manifest::new(OCI_MANIFEST, Descriptor::of("text/config", b""));
        manifest.subject.clone_from(&subject);
        let (mut empty, mut typed) = (manifest.clone(), manifest.clone());
        empty.artifact_type = Some(String::new());
        typed.artifact_type = Some("text/own".to_owned());
        let mut lone = typed.clone();
        lone.subject = None;
        let mut index = Index::default();
        index.subject = subject;
        for (bytes, kind, expected) in [
            (manifest.encode().unwrap(), OCI_MANIFEST, Some(Some("text/config"))),
            (empty.encode().unwrap(), OCI_MANIFEST, Some(Some("text/config"))),
            (typed.encode().unwrap(), OCI_MANIFEST, Some(Some("text/own"))),
            (lone.encode().unwrap(), OCI_MANIFEST, None),
            (index.encode().unwrap(), media_type::OCI_INDEX, Some(None)),
        ] {
            let found = referrer(&Descriptor::of(kind, &bytes), &bytes).unwrap();
            let found = found.as_ref().map(|(_, entry)| entry.artifact_type.as_deref());
            assert_eq!(found, expected);
        }
    }
}
