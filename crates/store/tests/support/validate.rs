//! What others say of documents that are written here: the libraries of their projects, which `scripts/test` installs.

use std::path::{Path, PathBuf};
use std::process::Command;

/// What is wrong with files, as a script of the folder `scripts` finds it; empty when all are valid.
pub(crate) fn faults(script: &str, files: &[PathBuf]) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let python = root.join("target/tools/sbom/bin/python");
    assert!(python.exists(), "this test needs {}: run scripts/test, which installs it", python.display());
    let done = Command::new(&python).arg(root.join("scripts").join(script)).args(files).output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    let valid = said.lines().filter(|line| line.ends_with(" is valid")).count();
    assert!(!done.status.success() || valid == files.len() && valid > 0, "{said}");
    if done.status.success() { String::new() } else { said }
}

/// Checks that files are valid.
#[track_caller]
pub(crate) fn validate(script: &str, files: &[PathBuf]) {
    assert_eq!(faults(script, files), "");
}
