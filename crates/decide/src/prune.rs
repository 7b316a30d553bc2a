//! Decides which caches of builds are removed.
//!
//! Pure: the caller has listed them, and knows the time.

use std::time::Duration;

/// A cache that may be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// How long ago it was used.
    pub age: Duration,
    /// Bytes on the disk.
    pub size: u64,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rules {
    /// Those that were not used for this long.
    pub older_than: Option<Duration>,
    /// The least recently used, until the rest has at most as many bytes.
    pub max_size: Option<u64>,
}

/// Which candidates are removed, by their place in the list, the least recently used first. Without a rule, it is all.
pub fn prune(candidates: &[Candidate], rules: Rules) -> Vec<usize> {
    let mut order: Vec<usize> = (0..candidates.len()).collect();
    order.sort_by_key(|&place| std::cmp::Reverse(candidates[place].age));
    if rules == Rules::default() {
        return order;
    }
    let mut left: u64 = candidates.iter().map(|candidate| candidate.size).sum();
    order.retain(|&place| {
        let Candidate { age, size } = candidates[place];
        let is_old = rules.older_than.is_some_and(|limit| age >= limit);
        let is_removed = is_old || rules.max_size.is_some_and(|limit| left > limit);
        if is_removed {
            left -= size;
        }
        is_removed
    });
    order
}

/// Understands how long something is: `90m`, `12h`, `30d` or `2w`.
///
/// # Errors
/// When the text is no such thing.
pub fn duration(text: &str) -> Result<Duration, String> {
    let units = [("m", 60), ("h", 60 * 60), ("d", 24 * 60 * 60), ("w", 7 * 24 * 60 * 60)];
    number(text, &units, "a number and m, h, d or w, as in 30d").map(Duration::from_secs)
}

/// Understands how large something is, in powers of 1000: `500MB`, `10GB`, or a number of bytes.
///
/// # Errors
/// When the text is no such thing.
pub fn size(text: &str) -> Result<u64, String> {
    let units = [
        ("kB", 1_000),
        ("KB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("TB", 1_000_000_000_000),
        ("B", 1),
        ("", 1),
    ];
    number(text, &units, "a number of bytes, or one with kB, MB, GB or TB, as in 10GB")
}

/// A number with one of these units at its end.
fn number(text: &str, units: &[(&str, u64)], expected: &str) -> Result<u64, String> {
    let parse = |(unit, factor): &(&str, u64)| {
        let digits = text.strip_suffix(unit)?.trim_end();
        let number: u64 = digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())??;
        number.checked_mul(*factor)
    };
    units.iter().find_map(parse).ok_or_else(|| format!("expected {expected}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_go_first() {
        let of = |(days, size): (u64, u64)| Candidate { age: Duration::from_secs(days * 86400), size };
        let caches = [(5, 100), (1, 30), (40, 50), (5, 1), (0, 20)].map(of);
        let days = |days: u64| Some(Duration::from_secs(days * 86400));
        for (older_than, max_size, expected) in [
            (None, None, vec![2, 0, 3, 1, 4]),
            (days(5), None, vec![2, 0, 3]),
            (days(6), None, vec![2]),
            (days(41), None, vec![]),
            (None, Some(201), vec![]),
            (None, Some(200), vec![2]),
            (None, Some(151), vec![2]),
            (None, Some(150), vec![2, 0]),
            (None, Some(0), vec![2, 0, 3, 1, 4]),
            (days(5), Some(40), vec![2, 0, 3, 1]),
        ] {
            assert_eq!(
                prune(&caches, Rules { older_than, max_size }),
                expected,
                "{older_than:?} {max_size:?}"
            );
        }
        assert!(prune(&[], Rules::default()).is_empty());
    }

    #[test]
    fn lengths_and_sizes_have_units() {
        for (text, seconds) in
            [("90m", 5400), ("12h", 43200), ("30d", 2_592_000), ("2w", 1_209_600), ("0d", 0)]
        {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in
            ["", "d", "30", "-1d", "1.5h", "30 days", "+3d", "99999999999999999999d", "99999999999999999w"]
        {
            assert!(duration(text).is_err(), "{text}");
        }
        for (text, bytes) in [
            ("0", 0),
            ("7", 7),
            ("7B", 7),
            ("7 kB", 7000),
            ("500MB", 500_000_000),
            ("2TB", 2_000_000_000_000),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "GB", "1.5GB", "-1", "1GiB", "99999999999TB"] {
            assert!(size(text).is_err(), "{text}");
        }
    }
}
