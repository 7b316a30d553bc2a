//! A Docker of the test's own, that knows nothing of the machine's.

use crate::site::{Done, wait_for};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

pub(crate) struct Docker {
    daemon: Child,
    host: String,
    dir: PathBuf,
    /// Where its client finds how to log in.
    config: String,
}

impl Docker {
    pub(crate) fn start(dir: &Path, config: &Path) -> Self {
        let is_root = rustix::process::geteuid().is_root();
        assert!(is_root, "a private Docker can only be started by root: run this test as root");
        let path = |name: &str| dir.join(name).display().to_string();
        std::fs::create_dir(dir).unwrap();
        let host = format!("unix://{}", path("sock"));
        let daemon = Command::new("dockerd")
            .env("PATH", search_path())
            .args(["--data-root", &path("data"), "--exec-root", &path("exec"), "--pidfile", &path("pid")])
            .args(["--host", &host, "--iptables=false", "--bridge=none", "--storage-driver=vfs"])
            .stdout(Stdio::null())
            .stderr(File::create(path("log")).unwrap())
            .spawn()
            .unwrap_or_else(|error| panic!("this test needs dockerd, of the package docker.io: {error}"));
        let mut docker = Self { daemon, host, dir: dir.into(), config: config.display().to_string() };
        wait_for(|| {
            if let Some(status) = docker.daemon.try_wait().unwrap() {
                panic!("dockerd {status}: {}", std::fs::read_to_string(path("log")).unwrap());
            }
            let done = docker.run(&["version"]);
            if done.code == 0 { Ok(()) } else { Err(done.stderr) }
        });
        docker
    }

    /// Runs its client.
    pub(crate) fn run(&self, args: &[&str]) -> Done {
        Done::of(Command::new("docker").args(["--host", &self.host, "--config", &self.config]).args(args))
    }

    /// Makes an image with one layer of a directory.
    pub(crate) fn import(&self, tree: &Path, config: &[String], name: &str) {
        let archive = tree.with_extension("tar").display().to_string();
        Done::of(Command::new("tar").args(["-cf", &archive, "-C"]).arg(tree).arg(".")).ok();
        let changes = config.iter().flat_map(|change| ["--change", change]);
        let args: Vec<&str> = ["import"].into_iter().chain(changes).chain([&*archive, name]).collect();
        self.run(&args).ok();
    }

    /// Runs an image on the network of the machine, where the registry is.
    pub(crate) fn run_image(&self, options: &[&str], image: &str, args: &[&str]) -> Done {
        self.run(&[&["run", "--rm", "--network", "host"], options, &[image], args].concat())
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.daemon);
        // It may have ended already. Told kindly, it also ends its containers and its own helpers.
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap_or_default();
        drop(self.daemon.wait());
        // It leaves the network of the machine mounted, if a container had that.
        let mounted = self.dir.join("exec/netns/default");
        rustix::mount::unmount(mounted, rustix::mount::UnmountFlags::DETACH).unwrap_or_default();
    }
}

/// Where programs are, also those that only root is meant to run.
#[expect(clippy::disallowed_methods, reason = "the test's own programs are where the machine has them")]
pub(crate) fn search_path() -> String {
    format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default())
}
