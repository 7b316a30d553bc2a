//! Run images that are there for the builds that follow: those of daemons as they would be in registries, compressed
//! once, and those of registries, fetched once.
//!
//! ```text
//! <folder>/<hex>/image   an image, an OCI layout; the digest is its manifest's, or its configuration's for a daemon's
//! <folder>/<hex>/used    a file whose mtime is when a build used it last
//! ```

use crate::workplace::threads;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};
use strata_oci::Digest;
use strata_store::{Layout, Lock, Stop, Store, StoreError, StoredImage, convert_image};

/// How long one waits before one looks again whether somebody else is done.
const MOMENT: Duration = Duration::from_millis(50);

/// An image of a daemon, which has neither manifests nor compressed layers, as it would be in a registry. It is
/// compressed once, for all builds, and is there as long as the lock is held. Whoever has to wait for another build that
/// compresses it is told so, once, and waits until somebody wants out. `None` if there is no image.
pub(crate) fn open(
    daemon_images: &Path,
    from: &dyn Store,
    stop: &Stop,
    waits: &mut dyn FnMut(),
) -> Result<Option<(Layout, Lock)>, StoreError> {
    let Some(stored) = from.read_image()? else { return Ok(None) };
    // The configuration names all layers by their contents.
    let dir = daemon_images.join(Digest::of(&stored.config).hex());
    keep(&dir, &|image| convert(image, from, &stored), stop, waits).map(Some)
}

/// The image in a folder, which `make` makes if nobody has done so before, given where; it is there as long as the lock is
/// held. Who has to wait for another build is told as by [`open`].
pub(crate) fn keep(
    dir: &Path,
    make: &dyn Fn(&Path) -> Result<(), StoreError>,
    stop: &Stop,
    waits: &mut dyn FnMut(),
) -> Result<(Layout, Lock), StoreError> {
    let failed = |source| StoreError::Io { action: "use", path: dir.to_owned(), source };
    let mut has_waited = false;
    loop {
        fs::create_dir_all(dir).map_err(failed)?;
        if let Some(lock) = named(dir, Lock::shared_now)?
            && let Some(layout) = whole(dir)
        {
            File::create(dir.join(USED)).map(drop).map_err(failed)?;
            return Ok((layout, lock));
        }
        if let Some(_lock) = named(dir, Lock::exclusive_now)? {
            // Another build may have been faster.
            if whole(dir).is_none() {
                make(&dir.join("image"))?;
                // What is not whole now never will be.
                whole(dir).ok_or_else(|| failed(io::Error::other("not all of the image is there")))?;
            }
            continue;
        }
        if !std::mem::replace(&mut has_waited, true) {
            waits();
        }
        if !stop.pause(MOMENT) {
            return Err(failed(io::Error::other("interrupted")));
        }
    }
}

/// Makes the image anew. To be called by whoever has the folder alone.
fn convert(image: &Path, from: &dyn Store, stored: &StoredImage) -> Result<(), StoreError> {
    match fs::remove_dir_all(image) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            return Err(StoreError::Io { action: "remove", path: image.to_owned(), source });
        }
        _ => {}
    }
    convert_image(&Layout::open_or_create(image)?, from, stored, &[], threads()).map(drop)
}

/// The image, if all of it is there: whoever was killed has left a part of it, and disks lose what was written last.
fn whole(dir: &Path) -> Option<Layout> {
    let layout = Layout::open(dir.join("image"));
    let stored = layout.read_image().ok()??;
    let mut blobs = stored.image.layers().iter().map(|layer| &layer.descriptor);
    blobs
        .all(|blob| layout.has_blob(&blob.digest, blob.size).is_ok_and(|is_there| is_there))
        .then_some(layout)
}

/// The folder of an image, locked; `None` if others have it, or it is gone.
fn named(
    dir: &Path,
    lock: fn(&Path) -> Result<Option<Lock>, StoreError>,
) -> Result<Option<Lock>, StoreError> {
    let lock = match lock(dir) {
        Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => None,
        other => other?,
    };
    // Somebody may have removed it meanwhile, and another one made it again.
    let Some(lock) = lock else { return Ok(None) };
    Ok(lock.is_of(dir)?.then_some(lock))
}

/// A file in the folder of an image; its mtime is when the image was used last.
const USED: &str = "used";

/// Removes images that no build has used for so long, and none uses now; how many they were.
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
        // One that a build uses, or that is gone already.
        let Some(_lock) = named(&path, Lock::try_exclusive).map_err(io::Error::other)? else { continue };
        let used = path.join(USED).metadata().and_then(|metadata| metadata.modified());
        // One that was never finished has not been used since it was begun.
        let used = used.or_else(|_| path.metadata()?.modified())?;
        let is_old = now.duration_since(used).unwrap_or_default() >= unused_for;
        if is_old {
            fs::remove_dir_all(&path)?;
            count += 1;
        }
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;
    use std::sync::mpsc::channel;

    fn image(dir: &Path) -> Layout {
        let layout = Layout::open_or_create(dir.join("from")).unwrap();
        let base = strata_store::scratch::base("amd64", 1000, 1000, "1980-01-01T00:00:01Z").unwrap();
        base.put_in(&layout, &[]).unwrap();
        layout
    }

    fn folder(dir: &Path) -> std::path::PathBuf {
        let folder = fs::read_dir(dir.join("to")).unwrap().next().unwrap();
        folder.unwrap().path()
    }

    #[test]
    fn builds_use_an_image_side_by_side_and_no_sweep_takes_it_away() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (image(dir.path()), dir.path().join("to"));
        let open =
            || open(&to, &from, &Stop::default(), &mut || panic!("nobody is in the way")).unwrap().unwrap();
        let (first, second) = (open(), open());
        assert_eq!(first.0.read_image().unwrap(), second.0.read_image().unwrap());
        let later = SystemTime::now() + Duration::from_secs(60);
        assert_eq!(sweep(&to, Duration::ZERO, later).unwrap(), 0);
        drop((first, second));
        assert_eq!(sweep(&to, Duration::from_secs(3600), later).unwrap(), 0);
        assert_eq!(sweep(&to, Duration::ZERO, later).unwrap(), 1);
        assert_eq!(fs::read_dir(&to).unwrap().count(), 0);
    }

    #[test]
    fn who_waits_for_another_build_may_want_out() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (image(dir.path()), dir.path().join("to"));
        drop(open(&to, &from, &Stop::default(), &mut || {}).unwrap());
        let alone = Lock::try_exclusive(&folder(dir.path())).unwrap().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let mut said = 0;
        let mut waits = || {
            said += 1;
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        };
        assert!(open(&to, &from, &Stop::when(Arc::clone(&stop)), &mut waits).is_err());
        assert_eq!(said, 1);
        drop(alone);
    }

    #[test]
    fn a_folder_that_was_removed_while_one_waited_is_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (image(dir.path()), dir.path().join("to"));
        drop(open(&to, &from, &Stop::default(), &mut || {}).unwrap());
        let path = folder(dir.path());
        let alone = Lock::try_exclusive(&path).unwrap().unwrap();
        let (waiting, is_waiting) = channel();
        let opened = std::thread::scope(|scope| {
            let mut waits = || waiting.send(()).unwrap();
            let (to, from) = (&to, &from);
            let opened = scope.spawn(move || open(to, from, &Stop::default(), &mut waits));
            is_waiting.recv().unwrap();
            fs::remove_dir_all(&path).unwrap();
            drop(alone);
            opened.join().unwrap().unwrap().unwrap()
        });
        assert!(opened.0.read_image().unwrap().is_some());
        assert!(opened.1.is_of(&path).unwrap());
    }

    #[test]
    fn what_cannot_be_made_whole_is_not_tried_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut tries = std::sync::atomic::AtomicUsize::new(0);
        let make = |_: &Path| {
            tries.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            Ok(())
        };
        let kept = keep(&dir.path().join("to"), &make, &Stop::default(), &mut || {});
        assert!(
            kept.is_err_and(|error| strata_store::validate::chain(&error).contains("not all of the image"))
        );
        assert_eq!(*tries.get_mut(), 1);
    }

    #[test]
    fn what_was_damaged_is_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (image(dir.path()), dir.path().join("to"));
        let open = || open(&to, &from, &Stop::default(), &mut || {}).unwrap().unwrap().0;
        let found = open().read_image().unwrap().unwrap();
        let image = folder(dir.path()).join("image");
        let blob = |digest: Digest| image.join("blobs/sha256").join(digest.hex());
        let layer = found.image.layers().first().unwrap().descriptor.digest;
        let damages: [&dyn Fn(); 4] = [
            &|| fs::write(image.join("index.json"), "{").unwrap(),
            &|| fs::write(blob(found.manifest_digest), "").unwrap(),
            &|| fs::remove_file(blob(layer)).unwrap(),
            &|| fs::write(image.join("oci-layout"), "no").unwrap(),
        ];
        for damage in damages {
            damage();
            let again = open().read_image().unwrap().unwrap();
            assert_eq!(again.manifest_digest, found.manifest_digest);
            assert!(blob(layer).exists());
        }
    }
}
