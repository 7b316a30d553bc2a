//! Where a test builds: a registry, a Docker, and the volumes that containers have in common.

use crate::docker::Docker;
use crate::registry::Registry;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long anything that is about to happen may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Who runs the phases.
const GROUP: u32 = 1000;

/// Fields are dropped in this order: what runs goes before its directory.
pub(crate) struct Site {
    pub(crate) docker: Docker,
    pub(crate) registry: Registry,
    dir: Dir,
}

impl Site {
    pub(crate) fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("containers-").tempdir().unwrap();
        let registry = Registry::start(&dir.path().join("registry"));
        let site = Self {
            docker: Docker::start(&dir.path().join("docker"), dir.path()),
            registry,
            dir: Dir(Some(dir)),
        };
        fs::write(site.path("config.json"), site.registry.docker_config()).unwrap();
        site
    }

    pub(crate) fn path(&self, tail: impl AsRef<Path>) -> PathBuf {
        self.dir.0.as_ref().unwrap().path().join(tail)
    }

    /// Where a volume is on the machine.
    pub(crate) fn volume(&self, name: &str) -> PathBuf {
        self.path("volumes").join(name)
    }

    /// Makes a volume empty, the way Kubernetes gives volumes to a group.
    pub(crate) fn fresh_volume(&self, name: &str) -> PathBuf {
        let path = self.volume(name);
        if path.exists() {
            fs::remove_dir_all(&path).unwrap();
        }
        fs::create_dir_all(&path).unwrap();
        std::os::unix::fs::chown(&path, Some(0), Some(GROUP)).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o2777)).unwrap();
        path
    }
}

/// A directory that must not stay.
struct Dir(Option<TempDir>);

impl Drop for Dir {
    fn drop(&mut self) {
        let closed = self.0.take().map(TempDir::close);
        assert!(std::thread::panicking() || matches!(closed, Some(Ok(()))), "something is left: {closed:?}");
    }
}

/// Writes a file, and the directories above it.
pub(crate) fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// What a program did.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Done {
    #[track_caller]
    pub(crate) fn of(command: &mut Command) -> Self {
        let output = command.output().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self {
            code: output.status.code().expect("no signal ended it"),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }

    /// Itself, if the program succeeded.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{}\n{}", self.stdout, self.stderr);
        self
    }

    /// Itself, if all of these are in what it said.
    #[track_caller]
    pub(crate) fn says(self, texts: &[&str]) -> Self {
        for text in texts {
            assert!(self.stdout.contains(text), "no '{text}' in:\n{}\n{}", self.stdout, self.stderr);
        }
        self
    }
}

/// Tries until it works.
#[track_caller]
pub(crate) fn wait_for<T, E: std::fmt::Display>(mut attempt: impl FnMut() -> Result<T, E>) -> T {
    let start = Instant::now();
    loop {
        match attempt() {
            Ok(value) => return value,
            Err(error) if start.elapsed() > PATIENCE => panic!("waited too long: {error}"),
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}
