//! A Docker daemon that knows nothing of the machine's, and a way to listen to what is said to it.

use std::fs::File;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::{Duration, Instant};

use strata_store::daemon::{Client, Settings};
use tempfile::TempDir;

/// Where the daemon and its helpers are.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A daemon that runs until it is dropped.
pub struct Docker {
    process: Child,
    dir: TempDir,
}

impl Docker {
    /// The daemon that all tests share which run at the same time. Its images are told apart by their names.
    pub fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Docker>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap();
        shared.upgrade().unwrap_or_else(|| {
            let docker = Arc::new(Self::start(&[]));
            *shared = Arc::downgrade(&docker);
            docker
        })
    }

    pub fn start(args: &[&str]) -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "a private Docker can only be started by root: run this test as root"
        );
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        let process = Command::new("dockerd")
            .env("PATH", PATH)
            .args(["--data-root", &path("data"), "--exec-root", &path("exec"), "--pidfile", &path("pid")])
            .args(["--host", &format!("unix://{}", path("sock"))])
            .args(["--iptables=false", "--bridge=none", "--storage-driver=vfs"])
            .args(args)
            .stdout(Stdio::null())
            .stderr(File::create(path("log")).unwrap())
            .spawn()
            .unwrap_or_else(|error| panic!("this test needs dockerd: {error}"));
        let mut docker = Self { process, dir };
        let deadline = Instant::now() + Duration::from_secs(60);
        while docker.client().ping().is_err() {
            let status = docker.process.try_wait().unwrap();
            let log = || std::fs::read_to_string(docker.dir.path().join("log")).unwrap();
            assert!(status.is_none() && Instant::now() < deadline, "dockerd does not start: {}", log());
            std::thread::sleep(Duration::from_millis(50));
        }
        docker
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("sock")
    }

    /// Of its own temporary directory.
    pub fn settings(&self) -> Settings {
        settings(&self.socket())
    }

    pub fn client(&self) -> Client {
        Client::new(self.settings()).unwrap()
    }

    /// Runs Docker's own client.
    pub fn try_run(&self, args: &[&str]) -> Output {
        let mut command = Command::new("docker");
        command.env("PATH", PATH).env("DOCKER_BUILDKIT", "0").env("HOME", self.dir.path());
        command.arg("--host").arg(format!("unix://{}", self.socket().display())).args(args);
        command.output().unwrap_or_else(|error| panic!("this test needs docker: {error}"))
    }

    /// What it says, without the end of the line.
    pub fn run(&self, args: &[&str]) -> String {
        let output = self.try_run(args);
        assert!(output.status.success(), "docker {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    pub fn id(&self, image: &str) -> String {
        self.run(&["inspect", "--format", "{{.Id}}", image])
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.process);
        // It may have ended already. Told kindly, it also ends its containers and its own helpers.
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap_or_default();
        drop(self.process.wait());
    }
}

pub fn settings(socket: &Path) -> Settings {
    Settings { host: Some(format!("unix://{}", socket.display())), ..Settings::default() }
}

/// Stands before a daemon, counts what is said to it, and hangs up when told.
pub struct Proxy {
    dir: TempDir,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// Bytes to the daemon.
    sent: AtomicU64,
    connections: Mutex<Vec<UnixStream>>,
    opened: AtomicU64,
}

impl Proxy {
    pub fn before(docker: &Docker) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("sock")).unwrap();
        let state = Arc::<State>::default();
        let (shared, target) = (Arc::clone(&state), docker.socket());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (here, there) = (stream.unwrap(), UnixStream::connect(&target).unwrap());
                shared.opened.fetch_add(1, Ordering::SeqCst);
                let copies = [&here, &there].map(|stream| stream.try_clone().unwrap());
                shared.connections.lock().unwrap().extend(copies);
                forward(here.try_clone().unwrap(), there.try_clone().unwrap(), Some(Arc::clone(&shared)));
                forward(there, here, None);
            }
        });
        Self { dir, state }
    }

    pub fn settings(&self) -> Settings {
        settings(&self.dir.path().join("sock"))
    }

    pub fn client(&self) -> Client {
        Client::new(self.settings()).unwrap()
    }

    /// How many bytes went to the daemon since this was last asked.
    pub fn sent(&self) -> u64 {
        self.state.sent.swap(0, Ordering::SeqCst)
    }

    /// How many connections there were.
    pub fn opened(&self) -> u64 {
        self.state.opened.load(Ordering::SeqCst)
    }

    /// Closes all connections.
    pub fn hang_up(&self) {
        for stream in self.state.connections.lock().unwrap().drain(..) {
            // It may be closed already.
            stream.shutdown(Shutdown::Both).unwrap_or_default();
        }
    }

    /// Lets nobody in any more.
    pub fn shut_door(&self) {
        std::fs::remove_file(self.dir.path().join("sock")).unwrap();
    }
}

fn forward(mut from: UnixStream, mut to: UnixStream, count: Option<Arc<State>>) {
    std::thread::spawn(move || {
        let mut buffer = [0; 64 * 1024];
        while let Ok(got @ 1..) = from.read(&mut buffer) {
            if let Some(state) = &count {
                state.sent.fetch_add(got as u64, Ordering::SeqCst);
            }
            if to.write_all(&buffer[..got]).is_err() {
                break;
            }
        }
        to.shutdown(Shutdown::Both).unwrap_or_default();
    });
}

/// A static program that says that it runs, and prints a file if it is given one.
pub fn probe() -> &'static [u8] {
    static PROBE: OnceLock<Vec<u8>> = OnceLock::new();
    PROBE.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let (source, built) = (dir.path().join("probe.rs"), dir.path().join("probe"));
        let text = r#"fn main() {
            match std::env::args().nth(1) {
                Some(path) => print!("{}", std::fs::read_to_string(path).unwrap()),
                None => println!("it runs"),
            }
        }"#;
        std::fs::write(&source, text).unwrap();
        let rustc = option_env!("RUSTC").unwrap_or("rustc");
        let args = ["-Ctarget-feature=+crt-static", "-Copt-level=1", "-Cstrip=symbols", "-o"];
        let output = Command::new(rustc).args(args).args([&built, &source]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        std::fs::read(&built).unwrap()
    })
}
