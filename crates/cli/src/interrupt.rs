//! Ctrl-C and its relatives: one place that knows whether the user wants out.

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::{SigId, flag, low_level};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use strata_store::Stop;

/// Whether the user has asked to stop. A second signal ends the program at once.
#[derive(Debug, Clone)]
pub(crate) struct Interrupt {
    asked: Arc<AtomicBool>,
    /// Whether the next signal ends the program.
    is_last: Arc<AtomicBool>,
    /// What sets that; it comes after what reads it.
    counts: Arc<Mutex<Vec<SigId>>>,
}

const SIGNALS: [i32; 3] = [SIGINT, SIGTERM, SIGHUP];

impl Interrupt {
    /// Starts to listen.
    pub(crate) fn listen() -> io::Result<Self> {
        let (asked, is_last) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        for signal in SIGNALS {
            flag::register_conditional_shutdown(signal, 130, Arc::clone(&is_last))?;
            flag::register(signal, Arc::clone(&asked))?;
        }
        let this = Self { asked, is_last, counts: Arc::default() };
        this.count()?;
        Ok(this)
    }

    pub(crate) fn asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    /// The same for what waits for others.
    pub(crate) fn stop(&self) -> Stop {
        Stop::when(Arc::clone(&self.asked))
    }

    pub(crate) fn flag(&self) -> &AtomicBool {
        &self.asked
    }

    /// Has no signal end the program at once until what this gives is dropped: something has to be put right first.
    pub(crate) fn hold(&self) -> Held {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        for id in counts.drain(..) {
            low_level::unregister(id);
        }
        Held(self.clone())
    }

    fn count(&self) -> io::Result<()> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        for signal in SIGNALS {
            counts.push(flag::register(signal, Arc::clone(&self.is_last))?);
        }
        Ok(())
    }
}

/// As long as this is there, signals only ask.
#[derive(Debug)]
pub(crate) struct Held(Interrupt);

impl Drop for Held {
    fn drop(&mut self) {
        // At worst, a program that ends anyway is not hurried.
        self.0.count().unwrap_or_default();
        self.0.is_last.fetch_or(self.0.asked(), Ordering::Relaxed);
    }
}
