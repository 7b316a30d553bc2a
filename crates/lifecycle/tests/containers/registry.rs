//! The registry of the Docker project, with a password.

use crate::site::wait_for;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// The user `builder` with the password `hush hush`, made with bcrypt and its least cost.
const HTPASSWD: &str = "builder:$2b$04$3hnUvHXz8ODTcog4g6tupOxEwFNZKHpdYMQuUq9nAWPzQBkMfK1iu\n";
/// The same user and password, as clients send them.
const BASIC: &str = "YnVpbGRlcjpodXNoIGh1c2g=";

/// A registry that runs until it is dropped.
pub(crate) struct Registry {
    process: Child,
    port: u16,
}

impl Registry {
    pub(crate) fn start(dir: &Path) -> Self {
        std::fs::create_dir(dir).unwrap();
        std::fs::write(dir.join("htpasswd"), HTPASSWD).unwrap();
        // Between the choice of a port and its use, somebody else may take it.
        (0..5).find_map(|_| Self::start_once(dir)).expect("docker-registry does not start")
    }

    fn start_once(dir: &Path) -> Option<Self> {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (config, dir) = (dir.join("config.yml"), dir.display());
        let text = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n\
             storage: {{filesystem: {{rootdirectory: '{dir}/data'}}, delete: {{enabled: true}}}}\n\
             auth: {{htpasswd: {{realm: test, path: '{dir}/htpasswd'}}}}\n"
        );
        std::fs::write(&config, text).unwrap();
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| {
                panic!("this test needs docker-registry, of the package of that name: {error}")
            });
        let mut registry = Self { process, port };
        let mut has_ended = || registry.process.try_wait().unwrap().is_some();
        wait_for(|| if has_ended() { Ok(()) } else { TcpStream::connect(("127.0.0.1", port)).map(drop) });
        // Else somebody else answered.
        (!has_ended()).then_some(registry)
    }

    /// The name of an image there.
    pub(crate) fn name(&self, rest: &str) -> String {
        format!("127.0.0.1:{}/{rest}", self.port)
    }

    /// The same as [`Self::name`], on a host that only those know who were told.
    pub(crate) fn name_on(&self, host: &str, rest: &str) -> String {
        format!("{host}:{}/{rest}", self.port)
    }

    /// A configuration of Docker that knows the password.
    pub(crate) fn docker_config(&self) -> String {
        format!("{{\"auths\": {{\"127.0.0.1:{}\": {{\"auth\": \"{BASIC}\"}}}}}}\n", self.port)
    }

    /// What `CNB_REGISTRY_AUTH` is to be for a host.
    pub(crate) fn auth(&self, host: &str) -> String {
        format!("CNB_REGISTRY_AUTH={{\"{host}:{}\": \"Basic {BASIC}\"}}", self.port)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.process.kill().unwrap_or_default();
        drop(self.process.wait());
    }
}
