//! What refers to an image, taken along with it.

use std::collections::BTreeSet;
use std::path::PathBuf;

use strata_oci::{Descriptor, Digest};

use crate::{Copied, Store, StoreError, Tree, artifact, copy_blobs};

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
    let mut pending: Vec<Digest> = subjects.into_iter().collect();
    let mut known: BTreeSet<Digest> = pending.iter().copied().collect();
    let (mut found, mut at) = (Vec::new(), 0);
    while let Some(subject) = pending.get(at).copied() {
        at += 1;
        for entry in from.referrers(&subject, None)? {
            if !known.insert(entry.digest) {
                continue;
            }
            if known.len() > MAX_REFERRERS {
                return Err(StoreError::Nesting { path: PathBuf::from(subject.to_string()) });
            }
            let Some(tree) = from.read_referrer(&entry)? else { continue };
            if matches!(artifact::root_of(&tree, &PathBuf::new()), Ok((of, _)) if of == subject) {
                pending.push(entry.digest);
                found.push(tree);
            }
        }
    }
    Ok(found)
}

/// Copies what refers to images that `to` has.
///
/// # Errors
///
/// As of [`copy_blobs`] and [`Store::put_referrer`]; when a blob is absent at the source.
pub fn copy_referrers(to: &dyn Store, from: &dyn Store, referrers: &[Tree]) -> Result<(), StoreError> {
    let blobs = referrers.iter().flat_map(|tree| &tree.blobs);
    copy_blobs(to, blobs.map(|blob| (blob, from)), |blob: &Descriptor, copied| match copied {
        Copied::Absent => {
            let path = PathBuf::from("the place it is copied from");
            Err(StoreError::Missing { path, digest: blob.digest })
        }
        _ => Ok(()),
    })?;
    referrers.iter().try_for_each(|tree| to.put_referrer(tree))
}
