//! Images of daemons as they would be in registries: they are compressed once, and there for the builds that follow.
//!
//! ```text
//! <folder>/<hex>/image   the image whose configuration has this digest, an OCI layout
//! <folder>/<hex>/used    a file whose mtime is when a build used it last
//! ```

use crate::workplace::threads;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};
use strata_oci::Digest;
use strata_store::{Layout, Stop, Store, StoreError, convert_image};

/// How long one waits before one looks again whether somebody else is done.
const MOMENT: Duration = Duration::from_millis(50);

/// An image of a daemon, which has neither manifests nor compressed layers, as it would be in a registry. It is
/// compressed once, for all builds, and is there as long as the lock is held. Whoever has to wait for another build that
/// compresses it is told so, once, and waits until somebody wants out.
pub(crate) fn open(
    daemon_images: &Path,
    from: &dyn Store,
    stop: &Stop,
    waits: &mut dyn FnMut(),
) -> Result<(Layout, File), StoreError> {
    let stored = from.read_image()?;
    // The configuration names all layers by their contents.
    let name = Digest::of(stored.as_ref().map_or(b"", |stored| &stored.config)).hex();
    let dir = daemon_images.join(name);
    let failed = |source| StoreError::Io { action: "use", path: dir.clone(), source };
    let mut has_waited = false;
    loop {
        fs::create_dir_all(&dir).map_err(failed)?;
        if let Some(lock) = lock(&dir, FlockOperation::NonBlockingLockShared).map_err(failed)? {
            let layout = Layout::open_or_create(dir.join("image"))?;
            if stored.is_none() || is_whole(&layout)? {
                File::create(dir.join(USED)).map(drop).map_err(failed)?;
                return Ok((layout, lock));
            }
        }
        if let Some(_lock) = lock(&dir, FlockOperation::NonBlockingLockExclusive).map_err(failed)? {
            // Whoever was killed between the two has left none that can be read.
            let layout = Layout::open_or_create(dir.join("image"))?;
            if let Some(stored) = stored.as_ref().filter(|_| !is_whole(&layout).unwrap_or_default()) {
                convert_image(&layout, from, stored, &[], threads())?;
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

/// Whether all of the image is there.
fn is_whole(layout: &Layout) -> Result<bool, StoreError> {
    let Some(stored) = layout.read_image()? else { return Ok(false) };
    let mut layers = stored.image.layers().iter().map(|layer| &layer.descriptor);
    layers.try_fold(true, |all, blob| Ok(all && layout.has_blob(&blob.digest, blob.size)?))
}

/// The folder of an image, locked; `None` if others have it, or it is gone.
fn lock(dir: &Path, operation: FlockOperation) -> io::Result<Option<File>> {
    let is_gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    let lock = match File::open(dir) {
        Err(error) if is_gone(&error) => return Ok(None),
        other => other?,
    };
    match flock(&lock, operation) {
        Err(Errno::WOULDBLOCK | Errno::INTR) => return Ok(None),
        other => other?,
    }
    // Somebody may have removed it meanwhile, and another one made it again.
    let named = match dir.symlink_metadata() {
        Err(error) if is_gone(&error) => return Ok(None),
        other => other?,
    };
    let opened = lock.metadata()?;
    Ok(Some(lock).filter(|_| (opened.dev(), opened.ino()) == (named.dev(), named.ino())))
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
        // One that a build uses, or that is gone already.
        let Some(lock) = lock(&path, FlockOperation::NonBlockingLockExclusive)? else { continue };
        let used = path.join(USED).metadata().and_then(|metadata| metadata.modified());
        // One that was never finished has not been used since it was begun.
        let used = used.or_else(|_| lock.metadata()?.modified())?;
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
        let open = || open(&to, &from, &Stop::default(), &mut || panic!("nobody is in the way")).unwrap();
        let (first, second) = (open(), open());
        assert!(is_whole(&first.0).unwrap());
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
        let alone = lock(&folder(dir.path()), FlockOperation::NonBlockingLockExclusive).unwrap().unwrap();
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
        let alone = lock(&path, FlockOperation::NonBlockingLockExclusive).unwrap().unwrap();
        let (waiting, is_waiting) = channel();
        let opened = std::thread::scope(|scope| {
            let mut waits = || waiting.send(()).unwrap();
            let (to, from) = (&to, &from);
            let opened = scope.spawn(move || open(to, from, &Stop::default(), &mut waits));
            is_waiting.recv().unwrap();
            fs::remove_dir_all(&path).unwrap();
            drop(alone);
            opened.join().unwrap().unwrap()
        });
        assert!(is_whole(&opened.0).unwrap());
        assert_eq!(opened.1.metadata().unwrap().ino(), path.metadata().unwrap().ino());
    }
}
