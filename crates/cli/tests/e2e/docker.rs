//! Docker runs the images.

use crate::bench::{Bench, Done, is_root, tool, wait_for};
use std::fs::File;
use std::process::{Child, Command, Stdio};

/// A Docker of its own, that knows nothing of the machine's.
pub(crate) struct Docker {
    daemon: Child,
    pub(crate) host: String,
}

impl Docker {
    pub(crate) fn start(bench: &Bench) -> Self {
        let path = |name: &str| bench.path("docker").join(name).display().to_string();
        std::fs::create_dir(bench.path("docker")).unwrap();
        let host = format!("unix://{}", path("sock"));
        let log = File::create(path("log")).unwrap();
        let daemon = Command::new("dockerd")
            .env("PATH", format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap()))
            .args(["--data-root", &path("data"), "--exec-root", &path("exec"), "--pidfile", &path("pid")])
            .args(["--host", &host, "--iptables=false", "--bridge=none", "--storage-driver=vfs"])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("this test needs dockerd: {error}"));
        let mut docker = Self { daemon, host };
        wait_for(|| {
            if let Some(status) = docker.daemon.try_wait().unwrap() {
                panic!("dockerd {status}: {}", std::fs::read_to_string(path("log")).unwrap());
            }
            let done = docker.run(&["version"]);
            if done.code == 0 { Ok(()) } else { Err(done.stderr) }
        });
        docker
    }

    pub(crate) fn run(&self, args: &[&str]) -> Done {
        let mut command = Command::new("docker");
        command.args(["--host", &self.host]).args(args);
        Done::of(command)
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.daemon);
        // It may have ended already. Told kindly, it also ends its containers and its own helpers.
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap_or_default();
        drop(self.daemon.wait());
    }
}

#[test]
fn docker_runs_an_image() {
    assert!(is_root(), "a private Docker can only be started by root: run this test as root");
    let bench = Bench::new();
    let buildpack = bench.add(&crate::image::layers());
    bench.build(&[], &[buildpack]).ok();
    let other = bench.add(&crate::run::probing());
    Done::of(bench.build_command(&["-t", "other"], &[other])).ok();
    let docker = Docker::start(&bench);
    for name in ["web", "other"] {
        let layout = format!(
            "oci:{}:latest",
            bench.path(format!("images/index.docker.io/library/{name}/latest")).display()
        );
        let copy = ["copy", "--insecure-policy", "--dest-daemon-host", &docker.host, &layout];
        tool("skopeo", &[&copy[..], &[&format!("docker-daemon:{name}:latest")]].concat());
    }
    let run = |args: &[&str]| docker.run(&[&["run", "--rm", "--network", "none"], args].concat());

    let env = run(&["--env", "FALLBACK=mine", "web"]).ok();
    let lines: Vec<&str> = env.stdout.lines().collect();
    for expected in
        ["FROM_ENV=both", "FROM_LAUNCH=launch", "FALLBACK=mine", "FROM_WEB=web", "FROM_EXEC_D=yes"]
    {
        assert!(lines.contains(&expected), "{expected}: {env:#?}");
    }
    assert_eq!(run(&["other"]).code, 7);
    assert_eq!(run(&["other", "9"]).code, 9);
    let place = run(&["--entrypoint", "where", "other"]).ok();
    assert!(place.stdout.starts_with("/workspace\nUid:\t1000\t"), "{place:#?}");
    // The launcher itself starts what it is told.
    let args = run(&["--entrypoint", "launcher", "other", "--", "probe", "args", "a b"]).ok();
    assert_eq!(args.stdout, "a b\n");
}
