//! Podman's service, which speaks Docker's API, with a storage of its own.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use strata_store::daemon::{Client, Settings};
use tempfile::TempDir;

use super::docker::settings;

/// A service that runs until it is dropped.
pub struct Podman {
    process: Child,
    dir: TempDir,
}

impl Podman {
    /// The service that all tests share which run at the same time.
    pub fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Podman>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap();
        shared.upgrade().unwrap_or_else(|| {
            let podman = Arc::new(Self::start());
            *shared = Arc::downgrade(&podman);
            podman
        })
    }

    fn start() -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "a private Podman needs no root, but this one uses no user namespace: run this test as root"
        );
        let dir = tempfile::tempdir().unwrap();
        let socket = format!("unix://{}", dir.path().join("sock").display());
        let mut command = command(&dir);
        let process = command
            .args(["system", "service", "--time=0", &socket])
            .stdout(Stdio::null())
            .stderr(File::create(dir.path().join("log")).unwrap())
            // What a terminal sends to the test is not meant for it.
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("this test needs podman: {error}"));
        let mut podman = Self { process, dir };
        let deadline = Instant::now() + Duration::from_secs(60);
        while podman.client().ping().is_err() {
            let status = podman.process.try_wait().unwrap();
            let log = || std::fs::read_to_string(podman.dir.path().join("log")).unwrap();
            assert!(status.is_none() && Instant::now() < deadline, "podman does not start: {}", log());
            std::thread::sleep(Duration::from_millis(50));
        }
        podman
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("sock")
    }

    pub fn settings(&self) -> Settings {
        settings(&self.socket())
    }

    pub fn client(&self) -> Client {
        Client::new(self.settings()).unwrap()
    }

    /// Runs Podman itself on the same storage; what it says, without the end of the line.
    pub fn run(&self, args: &[&str]) -> String {
        let output = command(&self.dir).args(args).output().unwrap();
        assert!(output.status.success(), "podman {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }
}

fn command(dir: &TempDir) -> Command {
    let path = |name: &str| dir.path().join(name).display().to_string();
    let mut command = Command::new("podman");
    command.env("HOME", dir.path()).env("XDG_RUNTIME_DIR", dir.path()).env("TMPDIR", dir.path());
    command.args(["--root", &path("root"), "--runroot", &path("run"), "--tmpdir", &path("libpod")]);
    command.args(["--storage-driver=vfs", "--events-backend=none", "--cgroup-manager=cgroupfs"]);
    command
}

impl Drop for Podman {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.process);
        // It may have ended already.
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap_or_default();
        drop(self.process.wait());
    }
}
