//! The registry of the Docker project, started for one test.

use std::fmt::Write as _;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// The user and the password that [`Options::with_password`] lets in.
pub const USER: &str = "builder";
pub const PASSWORD: &str = "hush hush";
/// Made with bcrypt and its least cost.
const HTPASSWD: &str = "builder:$2b$04$3hnUvHXz8ODTcog4g6tupOxEwFNZKHpdYMQuUq9nAWPzQBkMfK1iu\n";

/// A registry that runs until it is dropped.
pub struct DockerRegistry {
    process: Child,
    dir: TempDir,
    port: u16,
}

#[derive(Clone, Default)]
pub struct Options {
    pub with_password: bool,
    pub with_tls: bool,
    /// It gives, and takes nothing.
    pub is_read_only: bool,
    /// What another registry was kept in.
    pub data: Option<PathBuf>,
    /// Only together with TLS.
    pub token_server: Option<String>,
}

impl DockerRegistry {
    pub fn plain() -> Self {
        Self::start(Options::default())
    }

    pub fn start(options: Options) -> Self {
        let dir = tempfile::tempdir().unwrap();
        // Between the choice of a port and its use, somebody else may take it.
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let config = dir.path().join("config.yml");
            std::fs::write(&config, configuration(dir.path(), port, &options)).unwrap();
            let mut process = spawn(&config);
            if answers(&mut process, port) {
                return Self { process, dir, port };
            }
        }
        panic!("docker-registry does not start");
    }

    /// Host and port, as in the name of an image.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.host())
    }

    /// Where it keeps what it has.
    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// The certificate of the authority behind its own.
    pub fn authority(&self) -> PathBuf {
        self.dir.path().join("authority.pem")
    }

    /// Uploads that were begun and neither finished nor given up.
    pub fn open_uploads(&self, repository: &str) -> usize {
        let dir = self.dir.path().join(format!("data/docker/registry/v2/repositories/{repository}/_uploads"));
        // An upload that was given up leaves its directory, but not its data.
        let is_open = |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().path().join("data").exists();
        std::fs::read_dir(dir).map_or(0, |entries| entries.map(is_open).filter(|is_open| *is_open).count())
    }
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

fn configuration(dir: &Path, port: u16, options: &Options) -> String {
    let data = options.data.clone().unwrap_or_else(|| dir.join("data"));
    let (dir, data, read_only) = (dir.display(), data.display(), options.is_read_only);
    let mut text = format!(
        "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
         storage: {{filesystem: {{rootdirectory: {data}}}, delete: {{enabled: true}}, \
         maintenance: {{readonly: {{enabled: {read_only}}}}}}}\n\
         http:\n  addr: 127.0.0.1:{port}\n"
    );
    if options.with_tls {
        make_certificates(Path::new(&dir.to_string()));
        writeln!(text, "  tls: {{certificate: {dir}/cert.pem, key: {dir}/key.pem}}").unwrap();
    }
    if options.with_password {
        std::fs::write(format!("{dir}/htpasswd"), HTPASSWD).unwrap();
        writeln!(text, "auth: {{htpasswd: {{realm: test, path: {dir}/htpasswd}}}}").unwrap();
    }
    if let Some(realm) = &options.token_server {
        let token =
            format!("realm: '{realm}', service: test, issuer: test, rootcertbundle: {dir}/authority.pem");
        writeln!(text, "auth: {{token: {{{token}}}}}").unwrap();
    }
    text
}

fn make_certificates(dir: &Path) {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &authority).unwrap();
    std::fs::write(dir.join("authority.pem"), authority.pem()).unwrap();
    std::fs::write(dir.join("cert.pem"), certificate.pem()).unwrap();
    std::fs::write(dir.join("key.pem"), key.serialize_pem()).unwrap();
}

fn spawn(config: &Path) -> Child {
    Command::new("docker-registry")
        .arg("serve")
        .arg(config)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot run docker-registry, of the package docker-registry: {error}"))
}

fn answers(process: &mut Child, port: u16) -> bool {
    let deadline = Instant::now() + Duration::from_secs(60);
    while Instant::now() < deadline {
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            // Not somebody else's.
            return process.try_wait().unwrap().is_none();
        }
        if process.try_wait().unwrap().is_some() {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    process.kill().unwrap();
    process.wait().unwrap();
    false
}
