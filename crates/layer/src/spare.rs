//! Threads that nobody needs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Threads that may help those who extract layers, of all layers together. Where all cores have layers of their own to do,
/// a layer is done faster by one thread, in whose cache its bytes stay.
#[derive(Clone, Debug, Default)]
pub struct Spare(Arc<AtomicUsize>);

impl Spare {
    /// So many threads.
    pub fn new(count: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(count)))
    }

    /// One more, from somebody who has nothing more to do.
    pub fn give(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes one, if there is one.
    pub fn take(&self) -> bool {
        let less = |count: usize| count.checked_sub(1);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }
}
