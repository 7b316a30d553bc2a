//! What one sees of images on their way to another place.

use super::{Show, rate};
use crate::interrupt::Interrupt;
use std::mem::take;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use strata_oci::{Descriptor, Image};
use strata_phases::{Event, Observer};
use strata_store::unpacked::Held;
use strata_store::{Copied, Metered, Progress, Store, StoreError, Unpacked};

/// What is to be moved.
pub(crate) struct Load {
    blobs: usize,
    size: u64,
}

impl Load {
    /// A file, of which nobody knows how large it is.
    pub(crate) fn file() -> Self {
        Self { blobs: 0, size: 0 }
    }

    /// These blobs, each once.
    pub(crate) fn of<'a>(blobs: impl IntoIterator<Item = &'a Descriptor>) -> Self {
        let mut blobs: Vec<_> = blobs.into_iter().map(|blob| (blob.digest, blob.size)).collect();
        blobs.sort_unstable();
        blobs.dedup();
        // Whoever calls a blob huge is found out when it is read.
        let size = blobs.iter().fold(0_u64, |sum, (_, size)| sum.saturating_add(*size));
        Self { blobs: blobs.len(), size }
    }
}

/// What was counted so far.
#[derive(Default)]
struct Counts {
    moved: AtomicU64,
    /// Bytes of blobs that did not have to be moved.
    spared: AtomicU64,
    settled: Mutex<Vec<(Descriptor, Copied)>>,
    sent: AtomicU64,
    /// Since when a daemon is sent how many bytes.
    sending: Mutex<Option<(Instant, u64)>>,
    interrupt: Option<Interrupt>,
}

impl Progress for Counts {
    fn moved(&self, bytes: u64) {
        self.moved.fetch_add(bytes, Ordering::Relaxed);
    }

    fn undone(&self, bytes: u64) {
        self.moved.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn settled(&self, blob: &Descriptor, how: Copied) {
        if how != Copied::Copied {
            self.spared.fetch_add(blob.size, Ordering::Relaxed);
        }
        self.settled.lock().unwrap_or_else(PoisonError::into_inner).push((blob.clone(), how));
    }

    fn is_stopped(&self) -> bool {
        self.interrupt.as_ref().is_some_and(Interrupt::asked)
    }

    fn sending(&self, size: u64) {
        self.sent.store(0, Ordering::Relaxed);
        *self.sending.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), size));
    }

    fn sent(&self, bytes: u64) {
        self.sent.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Counts {
    fn show(&self, show: &Show, size: u64, time: Duration) {
        if let Some((since, size)) = *self.sending.lock().unwrap_or_else(PoisonError::into_inner) {
            let moved = self.sent.load(Ordering::Relaxed);
            // Headers of the archive are no part of its layers.
            let done = moved.min(size);
            return show.event(Event::Progress { done, size, moved, rate: rate(moved, since.elapsed()) });
        }
        let moved = self.moved.load(Ordering::Relaxed);
        let done = moved.saturating_add(self.spared.load(Ordering::Relaxed));
        // What was read again after a failure is moved, and no more is done.
        let done = if size == 0 { done } else { done.min(size) };
        show.event(Event::Progress { done, size, moved, rate: rate(moved, time) });
    }

    fn show_blobs(&self, show: &Show) {
        for (blob, how) in take(&mut *self.settled.lock().unwrap_or_else(PoisonError::into_inner)) {
            let how = match how {
                Copied::Present => "present",
                Copied::Linked => "linked",
                Copied::Cloned => "cloned",
                Copied::Copied => "copied",
                Copied::Absent => "absent",
            };
            show.event(Event::Blob { digest: blob.digest.to_string(), size: blob.size, how: how.to_owned() });
        }
    }
}

/// Unpacks the layers of an image that are not unpacked yet, and shows that.
pub(crate) fn hold(
    show: &Show,
    name: &str,
    unpacked: &Unpacked,
    store: &dyn Store,
    image: &Image,
    threads: usize,
) -> Result<Held, StoreError> {
    let missing = unpacked.missing(image);
    if missing.is_empty() {
        return unpacked.hold(store, image, threads);
    }
    let load = Load::of(missing.iter().map(|layer| &layer.descriptor));
    let way = Way { from: Some(name), to: "the layers that builds run in" };
    let held =
        watch(show, way, &load, |progress| unpacked.hold(&Metered::new(store, progress), image, threads));
    held.map(|moved| moved.outcome)
}

/// What came of a transfer.
pub(crate) struct Moved<T> {
    pub(crate) outcome: T,
    pub(crate) bytes: u64,
    pub(crate) millis: u64,
}

/// Where blobs go, and where they are when they are fetched for a build.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Way<'a> {
    pub(crate) from: Option<&'a str>,
    pub(crate) to: &'a str,
}

/// Shows a transfer while it goes on.
pub(crate) fn watch<T, E>(
    show: &Show,
    way: Way<'_>,
    load: &Load,
    transfer: impl FnOnce(&Arc<dyn Progress>) -> Result<T, E>,
) -> Result<Moved<T>, E> {
    let (from, to) = (way.from.map(str::to_owned), way.to.to_owned());
    show.event(Event::TransferStarted { from, to, blobs: load.blobs, size: load.size });
    let counts = Counts { interrupt: show.interrupt(), ..Counts::default() };
    let (start, counts) = (Instant::now(), Arc::new(counts));
    let progress: Arc<dyn Progress> = Arc::<Counts>::clone(&counts);
    let (going, over) = sync_channel::<()>(0);
    let outcome = thread::scope(|scope| {
        let counts = &counts;
        let looking = move || {
            let mut looked = Instant::now();
            while over.recv_timeout(Duration::from_millis(100)) == Err(RecvTimeoutError::Timeout) {
                counts.show_blobs(show);
                if looked.elapsed() >= show.pace() {
                    looked = Instant::now();
                    counts.show(show, load.size, start.elapsed());
                }
            }
        };
        // Where no thread may be had, it is not seen how it goes on.
        drop(thread::Builder::new().spawn_scoped(scope, looking));
        // Dropped even by a panic: nobody looks for ever.
        let _going = going;
        transfer(&progress)
    });
    counts.show_blobs(show);
    let outcome = outcome?;
    let moved = counts.moved.load(Ordering::Relaxed) + counts.sent.load(Ordering::Relaxed);
    let millis = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    show.event(Event::TransferFinished { moved, millis });
    Ok(Moved { outcome, bytes: moved, millis })
}
