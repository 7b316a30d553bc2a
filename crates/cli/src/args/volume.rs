//! Files and folders of this machine that buildpacks see.

use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};
use strata_phases::Failure;
use strata_spec::exit::Exit;

/// A file or folder of this machine that buildpacks see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Volume {
    /// Here.
    pub(crate) from: PathBuf,
    /// There.
    pub(crate) to: PathBuf,
    pub(crate) is_writable: bool,
}

impl Volume {
    /// Finds out whether it is there, before anything starts. A relative path is one below `current`.
    pub(crate) fn check(&self, current: &Path) -> Result<(), Failure> {
        current.join(&self.from).metadata().map(drop).map_err(|error| {
            let (from, to) = (self.from.display(), self.to.display());
            let what = format!("cannot use the volume {from}:{to}");
            match error.kind() {
                ErrorKind::NotFound => {
                    Failure::new(Exit::InvalidArguments, format!("{what}: there is no {from}"))
                }
                _ => Failure::caused(Exit::InvalidArguments, what, &error),
            }
        })
    }
}

/// What is the build's own, or the kernel's.
const TAKEN: &[&str] = &["/cnb", "/layers", "/proc", "/sys", "/dev", "/platform/env"];

/// Understands `FROM:TO[:ro|rw]`, for the command line.
pub(super) fn volume(text: &str) -> Result<Volume, String> {
    let (rest, is_writable) = match text.rsplit_once(':') {
        Some((rest, "ro")) => (rest, false),
        Some((rest, "rw")) => (rest, true),
        _ => (text, false),
    };
    let (from, to) = rest.rsplit_once(':').ok_or("expected FROM:TO, FROM:TO:ro or FROM:TO:rw")?;
    let to = PathBuf::from(to);
    let is_plain = to.components().skip(1).all(|part| matches!(part, Component::Normal(_)));
    if from.is_empty() || !to.is_absolute() || !is_plain || to.components().count() < 2 {
        return Err("TO is an absolute path without '..', and not /".to_owned());
    }
    if TAKEN.iter().any(|taken| to.starts_with(taken))
        || to == Path::new("/platform")
        || to == Path::new("/workspace")
    {
        return Err(format!("{} is not for volumes; bindings go to /platform/bindings", to.display()));
    }
    Ok(Volume { from: from.into(), to, is_writable })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_have_two_or_three_parts() {
        let volume = |text: &str| {
            volume(text).map(|v| (v.from.display().to_string(), v.to.display().to_string(), v.is_writable))
        };
        for (text, from, to, is_writable) in [
            ("a:/b", "a", "/b", false),
            ("/a:1:/b/c:rw", "/a:1", "/b/c", true),
            ("a:/platform/bindings/x:ro", "a", "/platform/bindings/x", false),
        ] {
            assert_eq!(volume(text), Ok((from.to_owned(), to.to_owned(), is_writable)), "{text}");
        }
        for bad in
            ["", "a", "a:b", ":/b", "a:/", "a:/b/../c", "a:/cnb/x", "a:/layers", "a:/workspace", "a:/b:rx"]
        {
            assert!(volume(bad).is_err(), "{bad}");
        }
    }
}
