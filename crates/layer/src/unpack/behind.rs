//! Fills small files while the next ones are created.
//!
//! Every file is created in the order of the archive, by the thread that reads it: what replaces what, and what is linked
//! to what, is as if there were no other. The other thread has nothing but open files.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use rustix::fs::{Mode, Timestamps, fchmod, futimens};

use crate::error::LayerError;
use crate::spare::Spare;

/// Larger files are not handed over, in bytes.
const SMALL: u64 = 64 << 10;
/// A batch ends with the file that makes it as large as this, or as long: so many are open at a time.
const BATCH: usize = 256 << 10;
const BATCH_FILES: usize = 16;
/// How many batches wait.
const BATCHES: usize = 2;

/// What a file gets once its bytes are in it.
pub(super) struct Finish {
    pub(super) mode: Option<Mode>,
    pub(super) times: Option<Timestamps>,
}

impl Finish {
    /// Fails with what could not be done.
    pub(super) fn apply(&self, file: &File) -> Result<(), (&'static str, io::Error)> {
        // After the bytes, which take setuid away as a change of the owner does.
        if let Some(mode) = self.mode {
            fchmod(file, mode).map_err(|error| ("change the mode of", error.into()))?;
        }
        let Some(times) = &self.times else { return Ok(()) };
        futimens(file, times).map_err(|error| ("change the time of", error.into()))
    }
}

/// Files that are created and empty.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    /// How long each is, and its path below the directory.
    files: Vec<(File, usize, Finish, Vec<u8>)>,
}

impl Batch {
    fn write(&mut self, dir: &Path) -> Result<(), LayerError> {
        let mut rest = self.bytes.as_slice();
        for (mut file, length, finish, path) in self.files.drain(..) {
            let (bytes, after) = rest.split_at(length);
            rest = after;
            let written = file.write_all(bytes).map_err(|error| ("write", error));
            written.and_then(|()| finish.apply(&file)).map_err(|(action, error)| {
                LayerError::io(action, dir.join(OsStr::from_bytes(&path)))(error)
            })?;
        }
        self.bytes.clear();
        Ok(())
    }
}

/// The thread that fills files, if there is one.
pub(super) struct Behind {
    dir: PathBuf,
    spare: Spare,
    batch: Batch,
    thread: Option<Thread>,
}

struct Thread {
    batches: SyncSender<Batch>,
    used: Receiver<Batch>,
    handle: JoinHandle<Result<(), LayerError>>,
}

impl Behind {
    /// For files below `dir`.
    pub(super) fn new(dir: &Path, spare: Spare) -> Self {
        Self { dir: dir.to_owned(), spare, batch: Batch::default(), thread: None }
    }

    /// Whether a file of this size can be handed over.
    pub(super) fn takes(&mut self, size: u64) -> bool {
        if size > SMALL {
            return false;
        }
        if self.thread.is_none() && self.spare.take() {
            // Without it, everything takes longer, and nothing else.
            self.thread = Thread::start(self.dir.clone()).ok();
            if self.thread.is_none() {
                self.spare.give();
            }
        }
        self.thread.is_some()
    }

    /// Takes over an empty file; gives how many bytes it will have.
    pub(super) fn add(
        &mut self,
        file: File,
        data: &mut dyn Read,
        finish: Finish,
        path: Vec<u8>,
    ) -> Result<u64, LayerError> {
        let length = data.take(SMALL + 1).read_to_end(&mut self.batch.bytes).map_err(LayerError::read)?;
        self.batch.files.push((file, length, finish, path));
        if self.batch.bytes.len() >= BATCH || self.batch.files.len() >= BATCH_FILES {
            self.send()?;
        }
        Ok(length as u64)
    }

    fn send(&mut self) -> Result<(), LayerError> {
        let Some(thread) = &self.thread else { return self.batch.write(&self.dir) };
        let batch = std::mem::replace(&mut self.batch, thread.used.try_recv().unwrap_or_default());
        match thread.batches.send(batch) {
            Ok(()) => Ok(()),
            // It has ended: with a reason.
            Err(_) => self.finish().and(Err(LayerError::Stopped)),
        }
    }

    /// Waits until all files are as they are to be.
    pub(super) fn finish(&mut self) -> Result<(), LayerError> {
        if !self.batch.files.is_empty() && self.thread.is_some() {
            self.send()?;
        }
        let Some(Thread { batches, handle, .. }) = self.thread.take() else { return Ok(()) };
        drop(batches);
        self.spare.give();
        handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Drop for Behind {
    /// Whoever has failed has a reason already; afterwards nothing more is written.
    fn drop(&mut self) {
        self.batch = Batch::default();
        if let Some(Thread { batches, handle, .. }) = self.thread.take() {
            drop(batches);
            self.spare.give();
            drop(handle.join());
        }
    }
}

impl Thread {
    fn start(dir: PathBuf) -> io::Result<Self> {
        let (batches, waiting) = sync_channel::<Batch>(BATCHES);
        let (done, used) = sync_channel(BATCHES);
        let work = move || {
            waiting.into_iter().try_for_each(|mut batch| {
                batch.write(&dir)?;
                // Dropped if there are enough of them.
                drop(done.try_send(batch));
                Ok(())
            })
        };
        let handle = std::thread::Builder::new().name("fill".to_owned()).spawn(work)?;
        Ok(Self { batches, used, handle })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn finish() -> Finish {
        Finish { mode: Some(Mode::from_raw_mode(0o640)), times: None }
    }

    #[test]
    fn files_are_filled_by_the_time_it_is_finished() {
        let dir = tempfile::tempdir().unwrap();
        let spare = Spare::new(1);
        let mut behind = Behind::new(dir.path(), spare.clone());
        assert!(!behind.takes(SMALL + 1) && behind.takes(SMALL));
        let text = |n: usize| format!("{n}").repeat(n);
        for n in 0..100 {
            let file = File::create(dir.path().join(n.to_string())).unwrap();
            let count = behind.add(file, &mut text(n).as_bytes(), finish(), Vec::new()).unwrap();
            assert_eq!(count, text(n).len() as u64);
        }
        assert!(!spare.take());
        behind.finish().unwrap();
        assert!(spare.take(), "the thread is given back");
        for n in 0..100 {
            let path = dir.path().join(n.to_string());
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text(n));
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o7777, 0o640);
        }
        assert!(!behind.takes(1), "nobody is left");
    }

    #[test]
    fn what_cannot_be_written_is_told_with_its_path() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a"), "").unwrap();
        let mut behind = Behind::new(dir.path(), Spare::new(1));
        assert!(behind.takes(1));
        let mut failure = None;
        // It may be found out at once or later, but not never.
        for _ in 0..200 {
            let unwritable = File::open(dir.path().join("a")).unwrap();
            if let Err(error) = behind.add(unwritable, &mut &b"x"[..], finish(), b"a".to_vec()) {
                failure = Some(error);
                break;
            }
        }
        let failure = failure.or(behind.finish().err()).unwrap();
        assert!(
            matches!(&failure, LayerError::Io { action: "write", path, .. } if *path == dir.path().join("a")),
            "{failure:?}"
        );
        drop(behind);
    }
}
