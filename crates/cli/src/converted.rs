//! Images of daemons as they would be in registries: they are compressed once, and there for the builds that follow.
//!
//! ```text
//! <folder>/<hex>/image   the image whose configuration has this digest, an OCI layout
//! <folder>/<hex>/used    a file whose mtime is when a build used it last
//! ```

use crate::workplace::threads;
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};
use strata_oci::{Digest, Layer};
use strata_store::{Layout, Store, StoreError, StoredImage, convert_image};

/// An image of a daemon, which has neither manifests nor compressed layers, as it would be in a registry. It is
/// compressed once, for all builds, and is there as long as the lock is held.
pub(crate) fn open(daemon_images: &Path, from: &dyn Store) -> Result<(Layout, File), StoreError> {
    let stored = from.read_image()?;
    // The configuration names all layers by their contents.
    let name = Digest::of(stored.as_ref().map_or(b"", |stored| &stored.config)).hex();
    let dir = daemon_images.join(name);
    let failed = |source| StoreError::Io { action: "use", path: dir.clone(), source };
    fs::create_dir_all(&dir).map_err(failed)?;
    let lock = File::open(&dir).map_err(failed)?;
    flock(&lock, FlockOperation::LockExclusive).map_err(|error| failed(error.into()))?;
    // Whoever was killed between the two has left none that can be read.
    let layout = Layout::open_or_create(dir.join("image"))?;
    let is_whole = |image: &StoredImage| {
        let has = |layer: &Layer| layout.has_blob(&layer.descriptor.digest, layer.descriptor.size);
        image.image.layers().iter().try_fold(true, |all, layer| Ok::<_, StoreError>(all && has(layer)?))
    };
    let is_there = layout.read_image()?.as_ref().map(is_whole).transpose()?.unwrap_or_default();
    if let Some(stored) = stored.filter(|_| !is_there) {
        convert_image(&layout, from, &stored, &[], threads())?;
    }
    File::create(dir.join(USED)).map(drop).map_err(failed)?;
    // Others may read it as well.
    flock(&lock, FlockOperation::LockShared).map_err(|error| failed(error.into()))?;
    Ok((layout, lock))
}

/// A file in the folder of an image; its mtime is when the image was used last.
const USED: &str = "used";

/// Removes images of daemons that no build has used for so long, and none uses now; how many they were.
///
/// # Errors
/// When one cannot be looked at or removed.
pub(crate) fn sweep(dir: &Path, unused_for: Duration, now: SystemTime) -> io::Result<usize> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        other => other?,
    };
    let mut count = 0;
    for entry in entries {
        let path = entry?.path();
        let lock = File::open(&path)?;
        let used = path.join(USED).metadata().and_then(|metadata| metadata.modified());
        // One that was never finished has not been used since it was begun.
        let used = used.or_else(|_| lock.metadata()?.modified())?;
        let is_old = now.duration_since(used).unwrap_or_default() >= unused_for;
        if is_old && flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
            fs::remove_dir_all(&path)?;
            count += 1;
        }
    }
    Ok(count)
}
