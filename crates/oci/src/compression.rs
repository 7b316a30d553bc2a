//! How the bytes of a layer are stored.

use std::fmt;
use std::str::FromStr;

use crate::media_type::Family;

/// How a layer is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// As one gzip member, made in the least time.
    Gzip,
    /// As one gzip member, smaller and more slowly.
    GzipLevel(Level),
    /// As frames of zstd. Tools from before 2019 or so cannot read them.
    Zstd(Level),
    /// As the tar archive it is.
    None,
}

/// How much time is taken to make something smaller: 1 to 9.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level(u8);

impl Level {
    /// That of zstd's own program.
    pub const ZSTD: Self = Self(3);

    /// `None` when there is no such level.
    #[must_use]
    pub fn new(number: u8) -> Option<Self> {
        (1..=9).contains(&number).then_some(Self(number))
    }

    /// The number.
    #[must_use]
    pub fn number(self) -> u8 {
        self.0
    }
}

/// A text that names no compression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no compression: there are gzip, zstd and none, and gzip:1 to gzip:9, zstd:1 to zstd:9")]
pub struct BadCompression(pub String);

impl Compression {
    /// The type of a layer that is stored so.
    #[must_use]
    pub fn media_type(self, family: Family) -> &'static str {
        match self {
            Self::Gzip | Self::GzipLevel(_) => family.layer_gzip(),
            Self::Zstd(_) => family.layer_zstd(),
            Self::None => family.layer(),
        }
    }
}

impl FromStr for Compression {
    type Err = BadCompression;

    fn from_str(text: &str) -> Result<Self, BadCompression> {
        let bad = || BadCompression(text.to_owned());
        let (name, level) = match text.split_once(':') {
            Some((name, level)) => {
                let is_digit = level.len() == 1 && level.bytes().all(|byte| byte.is_ascii_digit());
                // Why a digit is no number adds nothing.
                let number = if is_digit { level.parse().ok() } else { None };
                (name, Some(number.and_then(Level::new).ok_or_else(bad)?))
            }
            None => (text, None),
        };
        match (name, level) {
            ("gzip", None | Some(Level(1))) => Ok(Self::Gzip),
            ("gzip", Some(level)) => Ok(Self::GzipLevel(level)),
            ("zstd", level) => Ok(Self::Zstd(level.unwrap_or(Level::ZSTD))),
            ("none", None) => Ok(Self::None),
            _ => Err(bad()),
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gzip => f.write_str("gzip"),
            Self::GzipLevel(Level(level)) => write!(f, "gzip:{level}"),
            Self::Zstd(Level(level)) => write!(f, "zstd:{level}"),
            Self::None => f.write_str("none"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media_type::{DOCKER_LAYER_ZSTD, OCI_LAYER, OCI_LAYER_GZIP};

    #[test]
    fn compressions_are_named_with_their_level() {
        for (text, shown) in [
            ("gzip", "gzip"),
            ("gzip:1", "gzip"),
            ("gzip:9", "gzip:9"),
            ("zstd", "zstd:3"),
            ("zstd:1", "zstd:1"),
            ("none", "none"),
        ] {
            assert_eq!(text.parse::<Compression>().unwrap().to_string(), shown);
        }
        for text in
            ["", "Gzip", "gzip:", "gzip:0", "gzip:10", "gzip:+1", "zstd:19", "none:1", "xz", "gzip:1:1"]
        {
            assert_eq!(text.parse::<Compression>(), Err(BadCompression(text.to_owned())));
        }
    }

    #[test]
    fn media_types_follow() {
        let of = |text: &str, family| text.parse::<Compression>().unwrap().media_type(family);
        assert_eq!(of("gzip:5", Family::Oci), OCI_LAYER_GZIP);
        assert_eq!(of("zstd", Family::Docker), DOCKER_LAYER_ZSTD);
        assert_eq!(of("none", Family::Oci), OCI_LAYER);
    }
}
