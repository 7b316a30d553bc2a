//! What refers to an image, taken along with it.

use std::collections::BTreeSet;
use std::path::PathBuf;

use strata_layer::threads::try_each;
use strata_oci::{Descriptor, Digest};

use crate::copy::AT_A_TIME;
use crate::{Store, StoreError, Transfer, Tree, artifact};

/// Of all images together, with what refers to what refers to them.
const MAX_REFERRERS: usize = 1024;

/// All that refers to these documents, and to that in turn: each after what it refers to. What is listed and is not
/// there, or refers to something else, is passed over: lists that clients keep may be out of date.
///
/// # Errors
///
/// As of [`Store::referrers`] and [`Store::read_referrer`]; when there is too much of it.
pub fn read_referrers(
    from: &dyn Store,
    subjects: impl IntoIterator<Item = Digest>,
) -> Result<Vec<Tree>, StoreError> {
    let mut level: Vec<Digest> = subjects.into_iter().collect();
    let mut known: BTreeSet<Digest> = level.iter().copied().collect();
    let mut found = Vec::new();
    while !level.is_empty() {
        let wanted: Vec<(Digest, Descriptor)> = several(&level, |subject| {
            Ok(from.referrers(subject, None)?.into_iter().map(|entry| (*subject, entry)).collect::<Vec<_>>())
        })?
        .into_iter()
        .flatten()
        .filter(|(_, entry)| known.insert(entry.digest))
        .collect();
        if known.len() > MAX_REFERRERS {
            return Err(StoreError::Nesting { path: PathBuf::from("what refers to the image") });
        }
        let trees = several(&wanted, |(subject, entry)| {
            let tree = from.read_referrer(entry)?;
            let of = |tree: &Tree| artifact::root_of(tree, &PathBuf::new()).map(|(of, _)| of);
            Ok(tree.filter(|tree| of(tree).is_ok_and(|of| of == *subject)))
        })?;
        level.clear();
        for tree in trees.into_iter().flatten() {
            level.extend(tree.documents.last().map(|(root, _)| root.digest));
            found.push(tree);
        }
    }
    Ok(found)
}

/// Does the same with all, a few at a time; what came of it in their order.
fn several<T: Sync, R: Send>(
    all: &[T],
    work: impl Fn(&T) -> Result<R, StoreError> + Sync,
) -> Result<Vec<R>, StoreError> {
    try_each(all, AT_A_TIME, work)
}

/// Copies what refers to images that `to` has, without anybody looking: see [`Transfer::referrers`].
///
/// # Errors
///
/// As there.
pub fn copy_referrers(to: &dyn Store, from: &dyn Store, referrers: &[Tree]) -> Result<(), StoreError> {
    Transfer::new(to, from).referrers(referrers)
}
