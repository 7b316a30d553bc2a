//! The trees below a layers directory, and how they become layers.

use crate::files::{self, FileError};
use std::path::Path;
use strata_layer::{LayerError, Owner, Parent, Source};

/// A folder that is somewhere here and has another path in the image.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// Where its bytes are.
    pub real: &'a Path,
    /// Its path in the image.
    pub seen: &'a str,
}

/// Owner and mode of the folders above a layer, as the layer has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parents {
    /// The app's owner and 0755: the layer does not depend on who built it.
    Fixed,
    /// Those that they have here: the layer is that of the reference lifecycle.
    Real,
}

/// A layers directory. Image and cache have the same layers of it, and so the same digests.
#[derive(Debug, Clone, Copy)]
pub struct Trees<'a> {
    /// The layers directory.
    pub layers: Place<'a>,
    /// The owner of its trees in a layer.
    pub owner: Owner,
    /// What is written of the folders above a tree.
    pub parents: Parents,
}

/// Why a tree cannot be made a layer.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// It cannot be reached.
    #[error(transparent)]
    File(#[from] FileError),
    /// The folders above it cannot be described.
    #[error(transparent)]
    Layer(#[from] LayerError),
}

impl Trees<'_> {
    /// A tree, by its path below the layers directory.
    ///
    /// # Errors
    /// When there is a link on the way, or a folder above cannot be looked at.
    pub fn source(&self, tail: &Path) -> Result<Source, TreeError> {
        let dir = files::below(self.layers.real, tail)?;
        let as_path = format!("{}/{}", self.layers.seen, tail.display());
        let parents = self.parents(&dir, &as_path)?;
        Ok(Source::Dir { dir, as_path, parents, owner: self.owner })
    }

    /// The folders above `place`, which the image has as `seen`.
    ///
    /// # Errors
    /// When one of them cannot be looked at.
    pub fn parents(&self, place: &Path, seen: &str) -> Result<Vec<Parent>, LayerError> {
        if self.parents == Parents::Real {
            return Parent::ancestors_of(place);
        }
        let above = Path::new(seen).ancestors().skip(1).filter(|path| path.parent().is_some());
        let mut parents: Vec<Parent> = above
            .map(|path| Parent { path: path.display().to_string(), owner: self.owner, mode: 0o755 })
            .collect();
        parents.reverse();
        Ok(parents)
    }
}
