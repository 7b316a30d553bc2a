//! Trying again.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use super::{Error, Retry, Settings};

/// The pauses between attempts.
pub(super) struct Backoff<'a> {
    settings: &'a Settings,
    failures: u32,
}

impl<'a> Backoff<'a> {
    pub(super) fn new(settings: &'a Settings) -> Self {
        Self::after(settings, 0)
    }

    /// After so many failures before.
    pub(super) fn after(settings: &'a Settings, failures: u32) -> Self {
        Self { settings, failures }
    }

    /// Waits after a failure; `false` when there were enough, or somebody wants out.
    pub(super) fn wait(&mut self, asked_for: Option<Duration>) -> bool {
        self.failures += 1;
        let Settings { retry, stop, .. } = self.settings;
        self.failures < retry.attempts && stop.pause(pause(retry, self.failures, asked_for, chance()))
    }
}

/// Calls `attempt` until it works, fails for good, or has failed often enough.
pub(super) fn persist<T>(
    settings: &Settings,
    mut attempt: impl FnMut() -> Result<T, Error>,
) -> Result<T, Error> {
    let mut backoff = Backoff::new(settings);
    loop {
        match attempt() {
            Err(error) if error.may_pass() && backoff.wait(error.retry_after()) => {}
            outcome => return outcome,
        }
    }
}

/// The pause after so many failures: what was asked for, else three times the one before, give or take a tenth.
fn pause(policy: &Retry, failures: u32, asked_for: Option<Duration>, chance: f64) -> Duration {
    let pause = asked_for.unwrap_or_else(|| {
        let grown = policy.first_pause.saturating_mul(3_u32.saturating_pow(failures.saturating_sub(1)));
        grown.min(policy.longest_pause).mul_f64(0.9 + 0.2 * chance)
    });
    pause.min(policy.longest_pause)
}

/// From 0 to 1. So that many builds that fail together do not come back together.
fn chance() -> f64 {
    let random = RandomState::new().hash_one(());
    f64::from(u32::try_from(random >> 32).unwrap_or_default()) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_limit_and_obey_the_registry() {
        let policy = Retry {
            attempts: 9,
            first_pause: Duration::from_secs(1),
            longest_pause: Duration::from_secs(20),
        };
        let seconds = Duration::from_secs_f64;
        for (failures, asked_for, chance, expected) in [
            (1, None, 0.5, seconds(1.0)),
            (1, None, 0.0, seconds(0.9)),
            (1, None, 1.0, seconds(1.1)),
            (2, None, 0.5, seconds(3.0)),
            (3, None, 0.5, seconds(9.0)),
            (4, None, 1.0, seconds(20.0)),
            (40, None, 0.5, seconds(20.0)),
            (1, Some(0), 0.5, Duration::ZERO),
            (1, Some(7), 0.5, seconds(7.0)),
            (1, Some(7000), 0.5, seconds(20.0)),
        ] {
            let asked_for = asked_for.map(Duration::from_secs);
            assert_eq!(pause(&policy, failures, asked_for, chance), expected, "{failures} {asked_for:?}");
        }
        assert!((0..100).map(|_| chance()).all(|chance| (0.0..=1.0).contains(&chance)));
    }
}
