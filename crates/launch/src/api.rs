//! The API versions an app image names, and what depends on them at launch.

/// A version as platforms and buildpacks write it: `0.9`, `v0.9`, `1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// The number before the dot.
    pub major: u64,
    /// The number after the dot; zero if there is none.
    pub minor: u64,
}

impl Version {
    /// Reads `v?<digits>[.]<digits>?`; `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix('v').unwrap_or(text);
        let (major, minor) = text.split_once('.').unwrap_or((text, ""));
        let minor = if minor.is_empty() { 0 } else { number(minor)? };
        Some(Self { major: number(major)?, minor })
    }

    const fn is_zero_dot(self, first: u64, last: u64) -> bool {
        self.major == 0 && first <= self.minor && self.minor <= last
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

// `u64::from_str` alone would accept a leading plus sign.
fn number(text: &str) -> Option<u64> {
    if text.bytes().all(|b| b.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// A supported Platform API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PlatformApi(Version);

impl PlatformApi {
    /// `None` if the version is not one of 0.7 to 0.15.
    #[must_use]
    pub fn new(version: Version) -> Option<Self> {
        version.is_zero_dot(7, 15).then_some(Self(version))
    }

    /// Whether arguments of the user take the place of the process's overridable ones (before: always appended).
    #[must_use]
    pub const fn overrides_arguments(self) -> bool {
        self.0.minor >= 10
    }

    /// Whether a process may be bound to execution environments.
    #[must_use]
    pub const fn has_exec_env(self) -> bool {
        self.0.minor >= 15
    }
}

impl std::fmt::Display for PlatformApi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// A supported Buildpack API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BuildpackApi(Version);

impl BuildpackApi {
    /// `None` if the version is not one of 0.7 to 0.12.
    #[must_use]
    pub fn new(version: Version) -> Option<Self> {
        version.is_zero_dot(7, 12).then_some(Self(version))
    }

    /// Whether all arguments of a process with a one-word command are overridable (before: none is).
    #[must_use]
    pub const fn has_overridable_arguments(self) -> bool {
        self.0.minor >= 9
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_the_spec_writes_them() {
        for (text, expected) in [
            ("0.9", Some((0, 9))),
            ("v0.10", Some((0, 10))),
            ("1", Some((1, 0))),
            ("1.", Some((1, 0))),
            ("0.09", Some((0, 9))),
            ("", None),
            (".9", None),
            ("0.9.1", None),
            ("+0.9", None),
            ("0.+9", None),
            (" 0.9", None),
            ("vv0.9", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(Version::parse(text).map(|v| (v.major, v.minor)), expected, "{text:?}");
        }
    }

    #[test]
    fn only_listed_versions_are_supported() {
        let zero = |minor| Version { major: 0, minor };
        let platform = (0..30).filter(|&m| PlatformApi::new(zero(m)).is_some());
        assert_eq!(platform.collect::<Vec<_>>(), (7..=15).collect::<Vec<_>>());
        let buildpack = (0..30).filter(|&m| BuildpackApi::new(zero(m)).is_some());
        assert_eq!(buildpack.collect::<Vec<_>>(), (7..=12).collect::<Vec<_>>());
        assert_eq!(PlatformApi::new(Version { major: 1, minor: 9 }), None);
    }
}
