//! Work on several threads, also where the system does not give them.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::Builder;

/// Does a piece of work on `count` threads, or on as many as may be had; where that is none, on this one. `work` is
/// called once on each, and takes what is left to do until there is nothing.
pub fn side_by_side<T: Send>(count: usize, work: impl Fn() -> T + Sync) -> Vec<T> {
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for _ in 0..count {
            match Builder::new().spawn_scoped(scope, &work) {
                Ok(thread) => threads.push(thread),
                // Fewer do as well.
                Err(_) => break,
            }
        }
        if threads.is_empty() && count > 0 {
            return vec![work()];
        }
        let join = |thread: std::thread::ScopedJoinHandle<'_, T>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        threads.into_iter().map(join).collect()
    })
}

/// Does the same with all, up to `at_a_time` side by side. What came of each, in their order.
///
/// # Errors
///
/// That of the first in their order; after any failure none is begun any more. Those before it were begun earlier, so that
/// it is the same one each time.
pub fn try_each<T: Sync, R: Send, E: Send>(
    all: &[T],
    at_a_time: usize,
    work: impl Fn(&T) -> Result<R, E> + Sync,
) -> Result<Vec<R>, E> {
    let (next, has_failed, failure) =
        (AtomicUsize::new(0), AtomicBool::new(false), Mutex::new(None::<(usize, E)>));
    let some = || {
        let mut done = Vec::new();
        while !has_failed.load(Ordering::Relaxed) {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(one) = all.get(at) else { break };
            match work(one) {
                Ok(result) => done.push((at, result)),
                Err(error) => {
                    let mut failure = failure.lock().unwrap_or_else(PoisonError::into_inner);
                    if failure.as_ref().is_none_or(|(first, _)| at < *first) {
                        *failure = Some((at, error));
                    }
                    has_failed.store(true, Ordering::Relaxed);
                }
            }
        }
        done
    };
    let mut done: Vec<(usize, R)> =
        side_by_side(at_a_time.min(all.len()), some).into_iter().flatten().collect();
    done.sort_by_key(|(at, _)| *at);
    let failure = failure.into_inner().unwrap_or_else(PoisonError::into_inner);
    failure.map_or_else(|| Ok(done.into_iter().map(|(_, result)| result).collect()), |(_, error)| Err(error))
}

/// What it means to a person that the system starts neither a process nor a thread.
pub const REFUSED: &str = "there may be no more processes and threads than a limit allows: that of the user (ulimit -u), or of the container";

/// A thread that cannot be started.
pub fn refused(error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot start a thread: {error}: {REFUSED}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_and_the_first_failure_ends_it() {
        let all: Vec<u32> = (0..100).collect();
        let twice = |n: &u32| Ok::<_, u32>(n * 2);
        for at_a_time in [1, 3, 200] {
            assert_eq!(
                try_each(&all, at_a_time, twice).unwrap(),
                all.iter().map(|n| n * 2).collect::<Vec<_>>()
            );
        }
        let begun = AtomicUsize::new(0);
        let failing = |n: &u32| {
            begun.fetch_add(1, Ordering::Relaxed);
            if *n == 3 { Err(*n) } else { Ok(()) }
        };
        assert_eq!(try_each(&all, 1, failing), Err(3));
        assert_eq!(begun.into_inner(), 4);
        assert_eq!(try_each(&[], 4, twice), Ok(vec![]));
        // Whichever fails first.
        let together = std::sync::Barrier::new(2);
        let slow_first = |n: &u32| {
            together.wait();
            if *n == 0 {
                std::thread::yield_now();
            }
            Err::<(), _>(*n)
        };
        assert_eq!(try_each(&[0, 1], 2, slow_first), Err(0));
    }
}
