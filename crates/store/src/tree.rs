//! Images for several platforms, under one name.

use strata_oci::{Descriptor, Digest};

/// An index and all below it, whatever that is: images, and what builders list beside them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    /// Manifests and indexes, each after those it names. The last is the root.
    pub documents: Vec<(Descriptor, Vec<u8>)>,
    /// Configurations and layers. One that several documents name comes several times.
    pub blobs: Vec<Descriptor>,
}

impl Tree {
    /// The digests of everything.
    pub(crate) fn digests(&self) -> impl Iterator<Item = Digest> {
        self.documents.iter().map(|(document, _)| document).chain(&self.blobs).map(|entry| entry.digest)
    }
}
