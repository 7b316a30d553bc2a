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
