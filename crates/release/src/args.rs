//! The command line, and what it says about the release as a whole.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use jiff::Timestamp;

use crate::failure::Failure;

/// Puts built programs together as a release of the lifecycle.
#[derive(Debug, Parser)]
#[command(name = "strata-release", disable_version_flag = true)]
pub(crate) struct Args {
    /// A folder per architecture with lifecycle and launcher, and beside each a list of its crates, named .crates
    #[arg(long, value_name = "DIR")]
    pub(crate) programs: PathBuf,
    /// The Cargo.lock they were built with, for the checksums of the crates
    #[arg(long, value_name = "FILE")]
    pub(crate) lock: PathBuf,
    /// Version of the release, X.Y.Z
    #[arg(long, value_name = "X.Y.Z")]
    version: String,
    /// The commit it was built from
    #[arg(long, value_name = "COMMIT", default_value = "")]
    commit: String,
    /// The date in all documents, in seconds since 1970
    #[arg(long, value_name = "SECONDS", default_value_t = strata_layer::MTIME.cast_signed())]
    source_date_epoch: i64,
    /// An architecture to release; repeat it for several. Default: all
    #[arg(long, value_name = "ARCH")]
    arch: Vec<Arch>,
    /// Where the release is written
    #[arg(value_name = "OUTPUT")]
    pub(crate) output: PathBuf,
}

impl Args {
    /// Each architecture once, in the order of the list of all.
    pub(crate) fn arches(&self) -> Vec<Arch> {
        let wanted = |arch: &Arch| self.arch.is_empty() || self.arch.contains(arch);
        Arch::value_variants().iter().copied().filter(wanted).collect()
    }

    /// What holds for all architectures.
    pub(crate) fn release(&self) -> Result<Release, Failure> {
        if !is_plain_version(&self.version) {
            return Err(Failure::Version(self.version.clone()));
        }
        let date = Timestamp::from_second(self.source_date_epoch)
            .map_err(|source| Failure::Date { seconds: self.source_date_epoch, source })?;
        Ok(Release { version: self.version.clone(), commit: self.commit.clone(), created: date.to_string() })
    }
}

/// What holds for all architectures of a release.
#[derive(Debug)]
pub(crate) struct Release {
    /// X.Y.Z.
    pub(crate) version: String,
    /// The commit it was built from; empty if unknown.
    pub(crate) commit: String,
    /// RFC 3339.
    pub(crate) created: String,
}

/// An architecture, in Go's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Arch {
    /// x86_64.
    Amd64,
    /// aarch64.
    Arm64,
}

impl Arch {
    /// As images call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// As the names of release files call it: platforms put these names together themselves.
    pub(crate) fn file_name(self) -> &'static str {
        match self {
            Self::Amd64 => "x86-64",
            Self::Arm64 => "arm64",
        }
    }
}

/// Platforms compare versions; what they make of suffixes differs.
fn is_plain_version(version: &str) -> bool {
    let parts: Vec<&str> = version.split('.').collect();
    parts.len() == 3 && parts.iter().all(|part| is_plain_number(part))
}

fn is_plain_number(part: &str) -> bool {
    !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()) && (part == "0" || !part.starts_with('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_three_plain_numbers() {
        for (version, is_good) in [
            ("0.21.0", true),
            ("10.0.1", true),
            ("0.21", false),
            ("v0.21.0", false),
            ("0.21.0-rc.1", false),
            ("0.021.0", false),
            ("0..1", false),
            ("", false),
        ] {
            assert_eq!(is_plain_version(version), is_good, "{version}");
        }
    }
}
