//! What refers to an image, as one sees it.

use serde::Serialize;
use std::collections::BTreeMap;
use std::io::{self, Write as _};
use strata_oci::{Descriptor, Digest, Document};
use strata_store::{Store, StoreError, Tree, read_referrers};

/// One artifact.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Artifact {
    digest: Digest,
    #[serde(rename = "artifactType")]
    kind: String,
    /// What it refers to.
    subject: Digest,
    annotations: BTreeMap<String, String>,
    files: Vec<File>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct File {
    digest: Digest,
    media_type: String,
    size: u64,
}

/// All artifacts of an image and of the index that its name stands for, and those of artifacts.
pub(crate) fn list(store: &dyn Store, image: Digest) -> Result<Vec<Artifact>, StoreError> {
    let index = store.root()?.map(|root| root.digest).filter(|root| *root != image);
    let referrers = read_referrers(store, [image].into_iter().chain(index))?;
    Ok(referrers.iter().filter_map(Artifact::of).collect())
}

impl Artifact {
    fn of(tree: &Tree) -> Option<Self> {
        let (root, bytes) = tree.documents.last()?;
        // They were understood when they were read.
        let document = Document::parse(bytes, Some(&root.media_type)).ok()?;
        let (kind, subject, annotations, files) = match document {
            Document::Manifest(manifest) => {
                let kind = manifest.artifact_type.filter(|kind| !kind.is_empty());
                let kind = kind.unwrap_or(manifest.config.media_type);
                (kind, manifest.subject, manifest.annotations, manifest.layers)
            }
            Document::Index(index) => {
                (index.artifact_type.unwrap_or_default(), index.subject, index.annotations, Vec::new())
            }
        };
        let file =
            |file: Descriptor| File { digest: file.digest, media_type: file.media_type, size: file.size };
        let files = files.into_iter().map(file).collect();
        Some(Self { digest: root.digest, kind, subject: subject?.digest, annotations, files })
    }

    /// Bytes of all its files.
    pub(crate) fn size(&self) -> u64 {
        self.files.iter().fold(0, |sum, file| sum.saturating_add(file.size))
    }

    /// Its kind and its digest, for people.
    pub(crate) fn words(&self) -> (String, String) {
        // Whoever wrote it may have written anything.
        (self.kind.replace(char::is_control, " "), self.digest.to_string())
    }

    /// Both in one line.
    fn line(&self) -> String {
        let (kind, digest) = self.words();
        format!("{kind}  {digest}")
    }

    fn is(&self, asked: &str) -> bool {
        self.kind == asked || self.digest.to_string() == asked
    }
}

/// The one file that is asked for by its digest, by its artifact's, or by the artifact's type; else what to say.
fn choose<'a>(all: &'a [Artifact], asked: &str) -> Result<&'a File, String> {
    let named = all.iter().flat_map(|artifact| &artifact.files).find(|file| file.digest.to_string() == asked);
    if let Some(file) = named {
        return Ok(file);
    }
    let fitting: Vec<&Artifact> = all.iter().filter(|artifact| artifact.is(asked)).collect();
    let lines = |some: &mut dyn Iterator<Item = String>| some.collect::<Vec<_>>().join("\n  ");
    match fitting.as_slice() {
        [] if all.is_empty() => Err("nothing refers to the image".to_owned()),
        [] => Err(format!("there are only\n  {}", lines(&mut all.iter().map(Artifact::line)))),
        [Artifact { files, .. }] => match files.as_slice() {
            [file] => Ok(file),
            [] => Err("it has no file".to_owned()),
            files => {
                let mut files = files.iter().map(|file| format!("{}  {}", file.media_type, file.digest));
                Err(format!("name one of its files by its digest:\n  {}", lines(&mut files)))
            }
        },
        several => {
            let mut several = several.iter().map(|artifact| artifact.line());
            Err(format!("name one of them by its digest:\n  {}", lines(&mut several)))
        }
    }
}

/// Why a file could not be printed.
pub(crate) enum PrintError {
    /// Another one is to be asked for.
    Choice(String),
    /// It cannot be read.
    Store(StoreError),
    /// It cannot be read to its end, or not be written.
    Io(io::Error),
}

/// Prints the file that is asked for to standard output.
pub(crate) fn print(store: &dyn Store, all: &[Artifact], asked: &str) -> Result<(), PrintError> {
    let file = choose(all, asked).map_err(PrintError::Choice)?;
    let descriptor = Descriptor::new(file.media_type.clone(), file.digest, file.size);
    let reader = store.open_blob(&descriptor).map_err(PrintError::Store)?;
    let mut reader = reader.ok_or_else(|| PrintError::Choice("the file is not there".to_owned()))?;
    let mut out = io::stdout().lock();
    io::copy(&mut reader, &mut out).and_then(|_| out.flush()).map_err(PrintError::Io)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_file_is_chosen_by_any_name_that_leads_to_it_alone() {
        let digest = |text: &str| Digest::of(text.as_bytes());
        let file = |name: &str| File { digest: digest(name), media_type: "text/plain".into(), size: 1 };
        let artifact = |name: &str, kind: &str, files: &[&str]| Artifact {
            digest: digest(name),
            kind: kind.to_owned(),
            subject: digest("image"),
            annotations: BTreeMap::new(),
            files: files.iter().map(|name| file(name)).collect(),
        };
        let all = [
            artifact("a", "sbom", &["one"]),
            artifact("b", "note", &["two"]),
            artifact("c", "note", &["three"]),
            artifact("d", "pair", &["four", "five"]),
            artifact("e", "empty", &[]),
        ];
        let sha = |name: &str| digest(name).to_string();
        for (asked, expected) in
            [("sbom", "one"), (&sha("a"), "one"), (&sha("c"), "three"), (&sha("five"), "five")]
        {
            assert_eq!(choose(&all, asked).unwrap().digest, digest(expected), "{asked}");
        }
        for (asked, expected) in [
            ("note", "name one of them"),
            ("pair", "name one of its files"),
            ("empty", "no file"),
            ("other", "there are only"),
        ] {
            assert!(choose(&all, asked).unwrap_err().contains(expected), "{asked}");
        }
        assert_eq!(choose(&[], "sbom").unwrap_err(), "nothing refers to the image");
    }
}
