//! The launcher that this program carries, and what labels say of it.

use strata_spec::labels::{Git, Launcher, LauncherSource};

/// The program, built for a static target.
pub(crate) const BYTES: &[u8] = include_bytes!(env!("STRATA_LAUNCHER_PATH"));

/// Its identity in the image's labels. The commit is left out: it would change the digest of every image with
/// every commit, although the bytes of the launcher, which the layer's digest names, are the same.
pub(crate) fn info() -> Launcher {
    Launcher {
        version: env!("CARGO_PKG_VERSION").into(),
        source: LauncherSource {
            git: Git { repository: env!("CARGO_PKG_REPOSITORY").into(), commit: String::new() },
        },
    }
}

#[cfg(test)]
mod tests {
    /// It is copied into every image: raising this is a decision of its own.
    const BUDGET: usize = 700 * 1024;

    #[test]
    fn the_launcher_keeps_to_its_budget() {
        assert!(super::BYTES.len() <= BUDGET, "{} bytes", super::BYTES.len());
        assert!(super::BYTES.starts_with(b"\x7fELF"));
    }
}
