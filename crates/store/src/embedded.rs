//! A directory of layouts, one per image, at the path its reference stands for.

use std::fs;
use std::path::{Path, PathBuf};

use strata_oci::Reference;

use crate::{Layout, StoreError};

/// Deeper directories are not searched for images.
const MAX_DEPTH: usize = 64;

/// A directory of layouts: `<root>/<registry>/<repository>/<tag>`, or `…/sha256/<hex>`.
#[derive(Clone, Debug)]
pub struct Embedded {
    root: PathBuf,
}

impl Embedded {
    /// The images below `root`, which need not exist.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the image of this name is, or would be.
    #[must_use]
    pub fn layout_for(&self, reference: &Reference) -> Layout {
        Layout::open(self.root.join(reference.layout_path()))
    }

    /// The names of all images there are, sorted. Directories whose path is no name are passed over; symbolic links
    /// are not followed.
    ///
    /// # Errors
    ///
    /// When a directory cannot be read.
    pub fn list(&self) -> Result<Vec<Reference>, StoreError> {
        let mut found = Vec::new();
        let mut pending = vec![(self.root.clone(), Vec::new())];
        while let Some((dir, parts)) = pending.pop() {
            if parts.len() > MAX_DEPTH {
                continue;
            }
            if dir.join("index.json").is_file() {
                found.extend(reference_of(&parts));
                continue;
            }
            let entries = match fs::read_dir(&dir) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                entries => entries.map_err(StoreError::io("list", &dir))?,
            };
            for entry in entries {
                let entry = entry.map_err(StoreError::io("list", &dir))?;
                let kind = entry.file_type().map_err(StoreError::io("look at", &entry.path()))?;
                if let Ok(name) = entry.file_name().into_string()
                    && kind.is_dir()
                {
                    pending.push((entry.path(), [parts.as_slice(), &[name]].concat()));
                }
            }
        }
        found.sort();
        Ok(found)
    }
}

/// The way back from [`Reference::layout_path`].
fn reference_of(parts: &[String]) -> Option<Reference> {
    let text = match parts {
        [name @ .., algorithm, hex] if algorithm == "sha256" && hex.len() == 64 && name.len() > 1 => {
            format!("{}@sha256:{hex}", name.join("/"))
        }
        [name @ .., tag] if name.len() > 1 => format!("{}:{tag}", name.join("/")),
        _ => return None,
    };
    // A path that is no name is somebody else's.
    let reference: Reference = text.parse().ok()?;
    (reference.layout_path() == parts.iter().collect::<PathBuf>()).then_some(reference)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_listed_under_the_names_they_were_put() {
        let root = tempfile::tempdir().unwrap();
        let embedded = Embedded::new(root.path().join("images"));
        assert_eq!(embedded.list().unwrap(), []);
        let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let mut names: Vec<Reference> =
            ["busybox".to_owned(), "host:5000/a/b:v1".to_owned(), format!("gcr.io/x@sha256:{hex}")]
                .iter()
                .map(|name| name.parse().unwrap())
                .collect();
        for name in &names {
            let dir = embedded.layout_for(name).dir().to_owned();
            Layout::open_or_create(&dir).unwrap();
            assert!(dir.starts_with(embedded.root()));
        }
        Layout::open_or_create(embedded.root().join("not-a-name")).unwrap();
        names.sort();
        assert_eq!(embedded.list().unwrap(), names);
    }
}
