//! The documents of images in registries that were seen before: with `--pull-policy if-not-present`, they will do.

use crate::args::PullPolicy;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use strata_oci::{Digest, Image};
use strata_store::{Medium, Store, StoreError, StoredImage};

/// Manifests and configurations, one file for each name.
#[derive(Debug)]
pub(crate) struct Seen {
    dir: PathBuf,
    policy: PullPolicy,
}

/// One file. Documents are bytes that a digest names, so they are kept as they are.
#[derive(Serialize, Deserialize)]
struct Entry {
    name: String,
    manifest: String,
    config: String,
}

impl Seen {
    pub(crate) fn new(dir: PathBuf, policy: PullPolicy) -> Self {
        Self { dir, policy }
    }

    /// Reads an image, from a registry only if it must be asked.
    pub(crate) fn read(&self, name: &str, store: &dyn Store) -> Result<Option<StoredImage>, StoreError> {
        if !matches!(store.medium(), Medium::Registry(_)) {
            return store.read_image();
        }
        if let (PullPolicy::IfNotPresent, Some(stored)) = (self.policy, self.recall(name)) {
            return Ok(Some(stored));
        }
        let stored = store.read_image()?;
        if let Some(stored) = &stored {
            // Without it, the registry is asked again.
            self.remember(name, stored).unwrap_or_default();
        }
        Ok(stored)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.join(Digest::of(name.as_bytes()).hex())
    }

    /// What was seen under a name; nothing if it cannot be read or understood.
    fn recall(&self, name: &str) -> Option<StoredImage> {
        let entry: Entry = serde_json::from_slice(&fs::read(self.file(name)).ok()?).ok()?;
        let (manifest, config) = (entry.manifest.into_bytes(), entry.config.into_bytes());
        let image = Image::from_parts(&manifest, &config).ok().filter(|_| entry.name == name)?;
        Some(StoredImage { image, manifest_digest: Digest::of(&manifest), manifest, config })
    }

    fn remember(&self, name: &str, stored: &StoredImage) -> io::Result<()> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(io::Error::other);
        let entry =
            Entry { name: name.to_owned(), manifest: text(&stored.manifest)?, config: text(&stored.config)? };
        write(&self.file(name), &serde_json::to_vec(&entry).map_err(io::Error::other)?)
    }
}

/// Writes a file whole or not at all.
fn write(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = file.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(dir)?;
    let mut temp = tempfile::NamedTempFile::new_in(dir)?;
    temp.write_all(bytes)?;
    temp.persist(file).map(drop).map_err(|error| error.error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_is_what_it_was_or_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let seen = Seen::new(dir.path().join("seen"), PullPolicy::IfNotPresent);
        let encoded = Image::empty("linux", "amd64").encode().unwrap();
        let image = Image::from_parts(&encoded.manifest, &encoded.config).unwrap();
        let (manifest, config) = (encoded.manifest, encoded.config);
        let stored = StoredImage { image, manifest_digest: encoded.manifest_digest, manifest, config };
        assert_eq!(seen.recall("a"), None);
        seen.remember("a", &stored).unwrap();
        assert_eq!(seen.recall("a"), Some(stored));
        // Another name's, or damaged.
        fs::copy(seen.file("a"), seen.file("b")).unwrap();
        assert_eq!(seen.recall("b"), None);
        let damaged = fs::read_to_string(seen.file("a")).unwrap().replace("amd64", "arm64");
        fs::write(seen.file("a"), damaged).unwrap();
        assert_eq!(seen.recall("a"), None);
    }
}
