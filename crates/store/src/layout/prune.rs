//! Removes what nobody names any more.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::Path;

use strata_oci::manifest::MAX_MANIFEST_SIZE;
use strata_oci::media_type::{is_index, is_manifest};
use strata_oci::{Descriptor, Digest, Document, Index};

use super::{INDEX_TEMP_PREFIX, Layout, TEMP_PREFIX, lock::Lock, read_file};
use crate::StoreError;

/// What came of an attempt to clean up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pruned {
    /// These blobs were named by nothing, and are gone.
    Removed(Vec<Digest>),
    /// Somebody is writing, this writer has blobs no image names yet, or the file system has no locks: nothing was removed.
    Busy,
    /// The layout holds something that cannot be understood, so nobody knows what it names: nothing was removed.
    Unclear,
}

impl Layout {
    /// Removes artifacts that refer to nothing here, blobs that no manifest names, and files that dead writers left, unless somebody else is writing.
    ///
    /// # Errors
    ///
    /// When the layout cannot be read, or a file not removed.
    pub fn prune(&self) -> Result<Pruned, StoreError> {
        let mut session = self.lock_session();
        if session.live_sinks > 0 || !session.fresh.is_empty() {
            return Ok(Pruned::Busy);
        }
        session.lock = None;
        match Lock::try_exclusive(&self.dir)? {
            Some(_alone) => {
                self.sweep()?;
                self.remove_unnamed()
            }
            None => Ok(Pruned::Busy),
        }
    }

    /// Whether the directory is empty, or has no more in it than what a writer leaves that dies before it has made it a
    /// layout: such a directory is nobody else's.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub fn is_unmade(&self) -> Result<bool, StoreError> {
        let begun = |name: &OsStr| {
            name == "blobs" || name.as_encoded_bytes().starts_with(INDEX_TEMP_PREFIX.as_bytes())
        };
        Ok(has_only(&self.dir, begun)?
            && has_only(&self.dir.join("blobs"), |name| name == "sha256")?
            && has_only(&self.blobs_dir(), |_| false)?)
    }

    /// Removes temporary files. The caller has the layout alone.
    pub(super) fn sweep(&self) -> Result<(), StoreError> {
        // A layout is made before its maker can share the directory.
        let _mutex = Lock::exclusive(&self.blobs_dir())?;
        for (dir, prefix) in [(self.blobs_dir(), TEMP_PREFIX), (self.dir.clone(), INDEX_TEMP_PREFIX)] {
            for name in names_in(&dir)?.iter().filter(|name| name.starts_with(prefix)) {
                remove(&dir.join(name))?;
            }
        }
        Ok(())
    }

    fn remove_unnamed(&self) -> Result<Pruned, StoreError> {
        // The first index is written by one who does not share the directory yet.
        let _mutex = Lock::exclusive(&self.blobs_dir())?;
        let Some(mut index) = self.read_index()? else { return Ok(Pruned::Unclear) };
        let listed = index.manifests.len();
        let Some(named) = self.settle(&mut index)? else { return Ok(Pruned::Unclear) };
        if index.manifests.len() < listed {
            self.write_index(&index)?;
        }
        let mut removed = Vec::new();
        for name in names_in(&self.blobs_dir())? {
            // Files of another name are not blobs.
            if let Ok(digest) = Digest::from_hex(&name)
                && !named.contains(&digest)
            {
                remove(&self.blob_path(&digest))?;
                removed.push(digest);
            }
        }
        Ok(Pruned::Removed(removed))
    }

    /// Notes all that the index leads to; `false` when something cannot be understood.
    fn mark_index(&self, index: &Index, named: &mut BTreeSet<Digest>) -> Result<bool, StoreError> {
        for entry in index.manifests.iter().chain(&index.subject) {
            if !self.mark(entry, named)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    pub(super) fn mark(&self, entry: &Descriptor, named: &mut BTreeSet<Digest>) -> Result<bool, StoreError> {
        let known = named.insert(entry.digest);
        let is_document = is_index(&entry.media_type) || is_manifest(&entry.media_type);
        if !is_document {
            // Of a type unknown here, it may name others.
            return Ok(false);
        }
        if !known {
            return Ok(true);
        }
        let Some(bytes) = read_file(&self.blob_path(&entry.digest), MAX_MANIFEST_SIZE)? else {
            return Ok(true);
        };
        match Document::parse(&bytes, Some(&entry.media_type)) {
            Ok(Document::Index(index)) => self.mark_index(&index, named),
            Ok(Document::Manifest(manifest)) => {
                named.insert(manifest.config.digest);
                named.extend(manifest.layers.iter().map(|layer| layer.digest));
                match &manifest.subject {
                    Some(subject) => self.mark(subject, named),
                    None => Ok(true),
                }
            }
            Err(_) => Ok(false),
        }
    }
}

/// Whether all names in the directory are expected; so it is when there is none.
fn has_only(dir: &Path, is_expected: impl Fn(&OsStr) -> bool) -> Result<bool, StoreError> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        entries => entries.map_err(StoreError::io("list", dir))?,
    };
    for entry in entries {
        if !is_expected(&entry.map_err(StoreError::io("list", dir))?.file_name()) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn names_in(dir: &Path) -> Result<Vec<String>, StoreError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(StoreError::io("list", dir))? {
        let name = entry.map_err(StoreError::io("list", dir))?.file_name();
        // Names of this layout are ASCII; others are left alone.
        names.extend(name.into_string().ok());
    }
    names.sort();
    Ok(names)
}

fn remove(path: &Path) -> Result<(), StoreError> {
    fs::remove_file(path).map_err(StoreError::io("remove", path))
}
