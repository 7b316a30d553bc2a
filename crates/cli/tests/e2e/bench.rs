//! A private place for one test: app, buildpacks, home and images.

use serde_json::Value;
use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long anything that is about to happen may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A buildpack to be written to a folder.
pub(crate) struct Buildpack {
    id: String,
    version: String,
    api: String,
    toml: String,
    detect: String,
    build: String,
}

impl Buildpack {
    /// One that always takes part, and does nothing.
    pub(crate) fn new(id: &str) -> Self {
        Self {
            id: id.into(),
            version: "1.0.0".into(),
            api: "0.11".into(),
            toml: String::new(),
            detect: String::new(),
            build: String::new(),
        }
    }

    pub(crate) fn version(self, version: &str) -> Self {
        Self { version: version.into(), ..self }
    }

    pub(crate) fn api(self, api: &str) -> Self {
        Self { api: api.into(), ..self }
    }

    /// More of `buildpack.toml`.
    pub(crate) fn toml(self, toml: &str) -> Self {
        Self { toml: toml.into(), ..self }
    }

    /// The script of `bin/detect`; `$plan` is the plan's path.
    pub(crate) fn detect(self, script: &str) -> Self {
        Self { detect: script.into(), ..self }
    }

    /// The script of `bin/build`; `$layers`, `$platform` and `$plan` are its arguments, and `layer NAME TYPE…`
    /// makes a layer.
    pub(crate) fn build(self, script: &str) -> Self {
        Self { build: script.into(), ..self }
    }
}

const HELPERS: &str = r#"
layer() {
    local name=$1 type; shift
    mkdir -p "$layers/$name"
    { echo "[types]"; for type; do echo "$type = true"; done; } >"$layers/$name.toml"
}
# Puts the probe, the one program that runs on an empty base, on the PATH of the image.
probe() {
    layer probe launch
    mkdir -p "$layers/probe/bin"
    cp "$CNB_BUILDPACK_DIR/probe" "$layers/probe/bin/probe"
}
"#;

pub(crate) struct Bench {
    dir: TempDir,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::below(&std::env::temp_dir())
    }

    /// One whose files can be seen in sandboxes over this machine's files.
    pub(crate) fn within_sight() -> Self {
        const HIDDEN: [&str; 6] = ["/proc", "/sys", "/dev", "/tmp", "/var/tmp", "/run"];
        let is_seen = |dir: &&Path| !HIDDEN.iter().any(|hidden| dir.starts_with(hidden));
        let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target");
        fs::create_dir_all(&checkout).unwrap();
        let checkout = checkout.canonicalize().unwrap();
        let place = [Path::new(env!("CARGO_TARGET_TMPDIR")), &checkout].into_iter().find(is_seen);
        Self::below(place.unwrap_or_else(|| {
            panic!("{} is below one of {HIDDEN:?}: test from a checkout elsewhere", checkout.display())
        }))
    }

    fn below(dir: &Path) -> Self {
        let dir = tempfile::Builder::new().prefix("e2e-").rand_bytes(12).tempdir_in(dir).unwrap();
        for name in ["app", "home", "buildpacks"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let bench = Self { dir };
        bench.write("app/marker", bench.marker());
        bench
    }

    pub(crate) fn path(&self, tail: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(tail)
    }

    /// A word that occurs in no other test, nor in an earlier run of this one.
    pub(crate) fn marker(&self) -> &str {
        self.dir.path().file_name().and_then(OsStr::to_str).unwrap()
    }

    pub(crate) fn write(&self, tail: &str, text: &str) -> PathBuf {
        let path = self.path(tail);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    /// Writes a buildpack and returns its folder. `MARKER` in its scripts becomes the test's own word.
    pub(crate) fn add(&self, buildpack: &Buildpack) -> PathBuf {
        let Buildpack { id, version, api, toml, .. } = buildpack;
        let dir = self.add_meta(
            &format!("{id}@{version}"),
            &format!("api = \"{api}\"\n[buildpack]\nid = \"{id}\"\nversion = \"{version}\"\n{toml}"),
        );
        let program = |name: &str, head: &str, script: &str| {
            let path = dir.join("bin").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let script = script.replace("MARKER", self.marker());
            fs::write(&path, format!("#!/usr/bin/env bash\nset -euo pipefail\n{head}\n{script}\n")).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        };
        program("detect", "platform=$1 plan=$2", &buildpack.detect);
        program("build", &format!("layers=$1 platform=$2 plan=$3\n{HELPERS}"), &buildpack.build);
        if buildpack.build.contains("probe") {
            fs::copy(probe(), dir.join("probe")).unwrap();
        }
        dir
    }

    /// Writes a folder with nothing but a `buildpack.toml`.
    pub(crate) fn add_meta(&self, name: &str, toml: &str) -> PathBuf {
        let name = name.replace('/', "_");
        self.write(&format!("buildpacks/{name}/buildpack.toml"), toml);
        self.path("buildpacks").join(name)
    }

    /// Writes `builder/builder.toml` for these folders of buildpacks.
    pub(crate) fn builder(&self, buildpacks: &[PathBuf], order: &str) -> PathBuf {
        use std::fmt::Write;
        let mut text = String::new();
        for dir in buildpacks {
            writeln!(text, "[[buildpacks]]\nuri = \"{}\"", dir.display()).unwrap();
        }
        self.write("builder/builder.toml", &format!("{text}\n{order}\n"));
        self.path("builder")
    }

    /// The program, without anything of this machine's environment but its `PATH`.
    pub(crate) fn strata<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_strata"));
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.path("home"))
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .args(args);
        command
    }

    /// `strata build app`, with a private image store.
    pub(crate) fn build_command(&self, args: &[&str], buildpacks: &[PathBuf]) -> Command {
        let mut command = self.strata(["build", "app", "--layout-dir", "images"]);
        command.args(args);
        for dir in buildpacks {
            command.arg("--buildpack").arg(dir);
        }
        command
    }

    /// Builds the image `web`.
    pub(crate) fn build(&self, args: &[&str], buildpacks: &[PathBuf]) -> Done {
        Done::of(self.build_command(&[&["-t", "web"], args].concat(), buildpacks))
    }

    /// `strata run web`.
    pub(crate) fn run(&self, args: &[&str]) -> Done {
        let mut command = self.strata(["run", "web", "--layout-dir", "images"]);
        command.args(args);
        Done::of(command)
    }

    /// `strata inspect web --json`.
    pub(crate) fn inspect(&self) -> Value {
        let done = Done::of(self.strata(["inspect", "web", "--json", "--layout-dir", "images"]));
        serde_json::from_str(&done.ok().stdout).unwrap()
    }

    /// The image `web`, as other tools name it.
    pub(crate) fn web(&self) -> String {
        format!("{}:latest", self.path("images/index.docker.io/library/web/latest").display())
    }

    /// The configuration of the image `web`, as another tool reads it.
    pub(crate) fn config(&self) -> Value {
        let text = tool("skopeo", &["inspect", "--config", &format!("oci:{}", self.web())]);
        serde_json::from_str(&text).unwrap()
    }

    /// A label of the image `web` that holds JSON.
    pub(crate) fn label(&self, name: &str) -> Value {
        let config = self.config();
        let text =
            config["config"]["Labels"][name].as_str().unwrap_or_else(|| panic!("no label {name}: {config}"));
        serde_json::from_str(text).unwrap()
    }

    /// Whether there is any image, whole or not.
    pub(crate) fn has_image(&self) -> bool {
        let mut folders = vec![self.path("images")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten() {
                let entry = entry.unwrap();
                if entry.file_type().unwrap().is_dir() {
                    folders.push(entry.path());
                } else {
                    return true;
                }
            }
        }
        false
    }

    /// What is left of the test's builds: processes, mounts and work folders.
    pub(crate) fn left_over(&self) -> Vec<String> {
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().map_while(Result::ok) {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
                continue;
            };
            for file in ["cmdline", "mountinfo"] {
                // A process may end at any time, and only its owner may look at its mounts.
                let Ok(bytes) = fs::read(format!("/proc/{pid}/{file}")) else { continue };
                let text = String::from_utf8_lossy(&bytes);
                if text.contains(self.marker()) && pid != std::process::id() {
                    found.push(format!("/proc/{pid}/{file}: {text}"));
                }
            }
        }
        found.extend(self.work_dirs().iter().map(|dir| dir.display().to_string()));
        found
    }

    /// Work folders with this test's app.
    pub(crate) fn work_dirs(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for entry in fs::read_dir("/var/tmp").unwrap().map_while(Result::ok) {
            let marker = fs::read_to_string(entry.path().join("app/marker")).unwrap_or_default();
            if marker == self.marker() {
                found.push(entry.path());
            }
        }
        found
    }

    /// Waits until nothing is left.
    pub(crate) fn is_clean_soon(&self) {
        wait_for(|| if self.left_over().is_empty() { Ok(()) } else { Err(self.left_over().join("\n")) });
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // Folders that a build made unwritable would otherwise stay.
        drop(Command::new("chmod").args(["-R", "u+rwX"]).arg(self.dir.path()).output());
    }
}

/// What a program did.
#[derive(Debug)]
pub(crate) struct Done {
    /// 128 and the number of the signal, if one killed it.
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Done {
    pub(crate) fn of(mut command: Command) -> Self {
        Self::from(command.output().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}")))
    }

    pub(crate) fn from(output: Output) -> Self {
        use std::os::unix::process::ExitStatusExt;
        let code = output.status.code().or_else(|| Some(128 + output.status.signal()?)).unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self { code, stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// Itself, if the program succeeded.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{self:#?}");
        self
    }

    #[track_caller]
    pub(crate) fn says(&self, text: &str) {
        assert!(self.stdout.contains(text), "no '{text}' in {self:#?}");
    }

    /// The image's digest.
    #[track_caller]
    pub(crate) fn digest(&self) -> String {
        let line = self.stdout.lines().find_map(|line| line.trim_start().strip_prefix("digest"));
        line.unwrap_or_else(|| panic!("no digest in {self:#?}")).trim().to_owned()
    }
}

/// A program that runs beside the test, and is killed if the test fails.
pub(crate) struct Running {
    child: std::process::Child,
    lines: std::sync::mpsc::Receiver<String>,
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, lines }
    }

    /// Waits for a line with this text.
    #[track_caller]
    pub(crate) fn wait_for_line(&mut self, text: &str) {
        self.line_with(text);
    }

    /// The same, and gives the line.
    #[track_caller]
    pub(crate) fn line_with(&mut self, text: &str) -> String {
        let mut seen = Vec::new();
        loop {
            match self.lines.recv_timeout(PATIENCE * 5) {
                Ok(line) if line.contains(text) => return line,
                Ok(line) => seen.push(line),
                Err(_) => panic!("no line with '{text}' in {seen:#?}"),
            }
        }
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal).unwrap();
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end; 128 and the number of the signal, if one killed it.
    #[track_caller]
    pub(crate) fn end(mut self) -> i32 {
        use std::os::unix::process::ExitStatusExt;
        let status = wait_for(|| self.child.try_wait().unwrap().ok_or("it still runs"));
        status.code().or_else(|| Some(128 + status.signal()?)).unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended, unless the test failed.
        self.child.kill().unwrap_or_default();
        drop(self.child.wait());
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

/// Runs another program and returns what it says.
#[track_caller]
pub(crate) fn tool(name: &str, args: &[&str]) -> String {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap());
    let output = Command::new(name).args(args).env("PATH", path).output();
    let output = output.unwrap_or_else(|error| panic!("this test needs {name}: {error}"));
    assert!(output.status.success(), "{name} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Root may do more, and so more can be tested.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A static program, compiled once: images from the empty base have no shell that a test could ask.
fn probe() -> &'static Path {
    static PROBE: OnceLock<PathBuf> = OnceLock::new();
    PROBE.get_or_init(|| {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let (source, built) = (dir.path().join("probe.rs"), dir.path().join("probe"));
        fs::write(&source, include_str!("probe.rs.txt")).unwrap();
        let args = ["-Ctarget-feature=+crt-static", "-Copt-level=1", "-Cstrip=symbols", "-o"];
        let output = Command::new(option_env!("RUSTC").unwrap_or("rustc"))
            .args(args)
            .args([&built, &source])
            .output()
            .unwrap_or_else(|error| panic!("this test needs rustc: {error}"));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        // Renamed into place whole: another process of these tests may do the same.
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("probe");
        fs::rename(built, &path).unwrap();
        path
    })
}
