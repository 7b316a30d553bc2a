//! Putting layers that were made with absolute names back into a layers directory.

use crate::files::{self, FileError};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use strata_layer::{LayerError, Times, UnpackOptions, Whiteouts, unpack};

/// Why a layer was not put back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExtractError {
    /// The archive is damaged, or another one than was asked for.
    #[error("it cannot be used")]
    Damaged(#[source] LayerError),
    /// The archive does not hold what it should.
    #[error("it does not hold {0}")]
    Other(String),
    /// The file system refused.
    #[error("cannot write it")]
    Layer(#[source] LayerError),
    /// The file system refused.
    #[error(transparent)]
    File(#[from] FileError),
}

impl ExtractError {
    /// Whether only this layer is lost.
    pub(crate) fn is_harmless(&self) -> bool {
        matches!(self, Self::Damaged(_) | Self::Other(_))
    }
}

/// Extracts the folder `tail` of a layer to `<layers>/<tail>`, in place of what is there.
///
/// Layers have absolute names. Those may start with another layers directory than this one, so the archive is
/// extracted aside, where it can do no harm before its last byte is verified, and the folder is moved into its place.
pub(crate) fn extract(tar: &mut dyn Read, layers_dir: &Path, tail: &Path) -> Result<(), ExtractError> {
    let io_error = |action, path: &Path| {
        let path = path.to_owned();
        move |source| FileError::Io { action, path, source }
    };
    let aside = tempfile::Builder::new()
        .prefix(".restore-")
        .tempdir_in(layers_dir)
        .map_err(io_error("make a folder in", layers_dir))?;
    let options =
        UnpackOptions { whiteouts: Whiteouts::Literal, times: Times::Now, ..UnpackOptions::default() };
    let unpacked = unpack(tar, aside.path(), &options).map_err(|error| match error {
        LayerError::Io { .. } => ExtractError::Layer(error),
        other => ExtractError::Damaged(other),
    });
    let moved = unpacked.and_then(|_| {
        let from = find(aside.path(), layers_dir, tail)
            .ok_or_else(|| ExtractError::Other(tail.display().to_string()))?;
        let to = layers_dir.join(tail);
        files::remove(&to)?;
        if let Some(parent) = to.parent() {
            std::fs::create_dir_all(parent).map_err(io_error("create", parent))?;
        }
        rename(&from, &to).map_err(io_error("move a restored layer to", &to))?;
        Ok(())
    });
    files::remove(aside.path())?;
    moved
}

/// The folder in the archive: below this layers directory, or else at the end of a chain of single folders.
fn find(root: &Path, layers_dir: &Path, tail: &Path) -> Option<PathBuf> {
    let is_dir = |path: &Path| path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir());
    let usual = root.join(layers_dir.strip_prefix("/").unwrap_or(layers_dir)).join(tail);
    if is_dir(&usual) {
        return Some(usual);
    }
    let mut dir = root.to_owned();
    while !dir.ends_with(tail) || dir == root {
        let mut entries = std::fs::read_dir(&dir).ok()?;
        let only = entries.next()?.ok()?.path();
        if entries.next().is_some() || !is_dir(&only) {
            return None;
        }
        dir = only;
    }
    Some(dir)
}

/// A folder that its owner may not write to cannot be moved to another one.
fn rename(from: &Path, to: &Path) -> std::io::Result<()> {
    let mode = from.metadata()?.permissions();
    std::fs::set_permissions(from, std::fs::Permissions::from_mode(mode.mode() | 0o700))?;
    std::fs::rename(from, to)?;
    std::fs::set_permissions(to, mode)
}
