//! Threads that wait for work.

use std::io;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

use crate::error::LayerError;

type Task<S> = Box<dyn FnOnce(&mut S) + Send>;

/// Some threads, each with a state of its own, which take tasks in the order in which they come.
///
/// How many tasks wait is not limited here. Dropped, it lets all tasks end.
pub(crate) struct Pool<S> {
    /// Absent only while it is dropped.
    tasks: Option<Sender<Task<S>>>,
    threads: Vec<JoinHandle<()>>,
}

impl<S: 'static> Pool<S> {
    /// Fails when not a single thread can be started.
    pub(crate) fn new(name: &str, count: usize, state: fn() -> S) -> io::Result<Self> {
        let (tasks, taken) = unbounded::<Task<S>>();
        let mut pool = Self { tasks: Some(tasks), threads: Vec::new() };
        for _ in 0..count.max(1) {
            let taken = taken.clone();
            let work = move || {
                let mut state = state();
                taken.into_iter().for_each(|task| task(&mut state));
            };
            match std::thread::Builder::new().name(name.to_owned()).spawn(work) {
                Ok(thread) => pool.threads.push(thread),
                Err(error) if pool.threads.is_empty() => return Err(error),
                // Fewer do as well.
                Err(_) => break,
            }
        }
        Ok(pool)
    }

    /// Has something done by one of the threads.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut S) -> T + Send + 'static,
    ) -> Promise<T> {
        let (done, result) = bounded(1);
        // Nobody waits for the result if what it was for has failed.
        let task: Task<S> = Box::new(move |state| drop(done.send(work(state))));
        // If all threads are gone the task goes too, and the promise is broken.
        drop(self.tasks.as_ref().map(|tasks| tasks.send(task)));
        Promise(result)
    }
}

impl<S> Drop for Pool<S> {
    fn drop(&mut self) {
        self.tasks = None;
        for thread in self.threads.drain(..) {
            // A thread that panicked has broken a promise: whoever waited for that knows.
            drop(thread.join());
        }
    }
}

/// What a task will give.
pub(crate) struct Promise<T>(Receiver<T>);

impl<T> Promise<T> {
    /// One that is kept already.
    pub(crate) fn kept(value: T) -> Self {
        let (done, result) = bounded(1);
        // There is room, and the other end is here.
        drop(done.send(value));
        Self(result)
    }

    /// Waits for it; [`LayerError::Stopped`] when the task ended without a result.
    pub(crate) fn wait(self) -> Result<T, LayerError> {
        self.0.recv().map_err(|_gone| LayerError::Stopped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_that_panic_break_their_promise_and_no_other() {
        let pool = Pool::new("test", 2, || 0_u32).unwrap();
        let quiet = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        let broken = pool.run(|_| -> u32 { panic!("on purpose") });
        assert!(matches!(broken.wait(), Err(LayerError::Stopped)));
        std::panic::set_hook(quiet);
        let sum: u32 = (0..100).map(|i| pool.run(move |_| i)).map(|kept| kept.wait().unwrap()).sum();
        assert_eq!(sum, 4950);
    }
}
