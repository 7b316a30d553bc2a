//! The programs of a release, which are static: those of the tests' own profile are not.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The tarball of a release, made once.
pub(crate) fn release() -> &'static Path {
    static RELEASE: OnceLock<PathBuf> = OnceLock::new();
    RELEASE.get_or_init(|| {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        // Tests of several packages have one and the same folder.
        let temporary = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let output = temporary.join(concat!("release-", env!("CARGO_PKG_NAME")));
        let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        if output.exists() {
            fs::remove_dir_all(&output).unwrap();
        }
        let mut command = Command::new(workspace.join("scripts/release"));
        // The folder above the one that tests may write to is cargo's.
        command.env("CARGO_TARGET_DIR", temporary.parent().unwrap());
        let done = command.args(["--quick", "--arch", arch]).arg(&output).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let is_tarball = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "tgz");
        let found = fs::read_dir(output).unwrap().map(|entry| entry.unwrap().path()).find(is_tarball);
        found.expect("a release has a tarball")
    })
}
