//! Images in registries, by the program's own commands.

use crate::bench::{Bench, Done, tool, wait_for};
use crate::image::annotating;
use crate::run::probing;
use serde_json::Value;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};

/// The registry of the Docker project, for one test.
pub(crate) struct Registry {
    process: Child,
    pub(crate) host: String,
}

/// Who is let in, made with bcrypt and its least cost.
const HTPASSWD: &str = "builder:$2b$04$3hnUvHXz8ODTcog4g6tupOxEwFNZKHpdYMQuUq9nAWPzQBkMfK1iu\n";
const USER: &str = "builder";
const PASSWORD: &str = "hush hush";
/// Both, as they go to a registry.
const AUTH: &str = "YnVpbGRlcjpodXNoIGh1c2g=";

impl Registry {
    pub(crate) fn start(bench: &Bench) -> Self {
        Self::with(bench, "")
    }

    /// One that lets nobody in but [`USER`].
    fn with_password(bench: &Bench) -> Self {
        let file = bench.write("htpasswd", HTPASSWD);
        Self::with(bench, &format!("auth: {{htpasswd: {{realm: test, path: {}}}}}\n", file.display()))
    }

    fn with(bench: &Bench, more: &str) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = bench.write(
            "registry.yml",
            &format!(
                "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
                 storage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: 127.0.0.1:{port}}}\n{more}",
                bench.path("registry").display()
            ),
        );
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("this test needs docker-registry: {error}"));
        wait_for(|| TcpStream::connect(("127.0.0.1", port)));
        Self { process, host: format!("127.0.0.1:{port}") }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        drop(self.process.wait());
    }
}

#[test]
fn images_are_copied_to_registries_and_built_upon_there() {
    let bench = Bench::new();
    let buildpack = bench.add(&probing());
    bench.build(&["--annotation", "kept=yes"], std::slice::from_ref(&buildpack)).ok();
    let before = bench.inspect();
    let registry = Registry::start(&bench);
    let name = format!("{}/team/web:v1", registry.host);
    let strata = |args: &[&str]| Done::of(bench.strata([args, &["--layout-dir", "images"]].concat())).ok();
    assert_eq!(strata(&["copy", "web", &format!("registry:{name}")]).digest(), before["digest"]);
    let seen: Value = serde_json::from_str(&tool(
        "skopeo",
        &["inspect", "--tls-verify=false", &format!("docker://{name}")],
    ))
    .unwrap();
    assert_eq!(seen["Digest"], before["digest"]);
    // Without a prefix: kept here, or else there.
    for spec in [&name, &format!("docker://{name}")] {
        strata(&["validate", spec]).says("good: 0 errors");
        let seen: Value = serde_json::from_str(&strata(&["inspect", spec, "--json"]).stdout).unwrap();
        assert_eq!(seen["digest"], before["digest"]);
        assert_eq!(seen["annotations"]["kept"], "yes");
    }
    // The base of another image, which says where it came from.
    let above = ["-t", "above", "--run-image", &format!("docker://{name}")];
    let layers = before["layers"].as_array().unwrap().len();
    for is_first in [true, false] {
        let done = bench.build_command(&above, std::slice::from_ref(&buildpack));
        let done = Done::of(done).ok();
        let fetched = format!("Fetching {layers} layers, ");
        assert_eq!(done.stderr.starts_with(&fetched), is_first, "{done:#?}");
    }
    let seen: Value = serde_json::from_str(&strata(&["inspect", "above", "--json"]).stdout).unwrap();
    assert_eq!(seen["runImage"]["image"], name);
    let reference = format!("{}/team/web@{}", registry.host, before["digest"].as_str().unwrap());
    assert_eq!(seen["runImage"]["reference"], reference);
    strata(&["validate", "above"]);
}

#[test]
fn on_a_base_of_dockers_kind_there_are_no_annotations_and_one_is_told() {
    let bench = Bench::new();
    let buildpacks = [bench.add(&annotating("e2e/first", &[("a", "first")]))];
    bench.build(&[], &buildpacks).ok();
    let registry = Registry::start(&bench);
    let base = format!("docker://{}/base:v1", registry.host);
    let from = format!("oci:{}", bench.web());
    tool("skopeo", &["copy", "-q", "--format", "v2s2", "--dest-tls-verify=false", &from, &base]);
    for (args, is_told) in [(["--annotation", "b=mine"].as_slice(), true), (&[], false)] {
        let done = bench.build(&[&["--run-image", &base], args].concat(), &buildpacks).ok();
        let said = done.stdout + &done.stderr;
        assert_eq!(said.contains("the image gets no annotations"), is_told, "{said}");
        assert_eq!(bench.inspect()["annotations"], serde_json::json!({}));
    }
}

/// A place for credentials, and what leads there.
struct Kept<'a> {
    file: &'a str,
    text: String,
    variable: (&'a str, String),
}

#[test]
fn credentials_are_found_where_people_keep_them() {
    let bench = Bench::new();
    bench.build(&[], &[bench.add(&probing())]).ok();
    let registry = Registry::with_password(&bench);
    let host = registry.host.as_str();
    let there = format!("registry:{host}/web:v1");
    let auths = serde_json::json!({ "auths": { host: { "auth": AUTH } } }).to_string();
    // A helper as Docker calls it: the registry comes in, and what it was called for is the argument.
    let helper = bench.write(
        "programs/docker-credential-drawer",
        &format!(
            "#!/bin/sh\nread -r host; echo \"$1 $host\" >>{}\n[ \"$host\" = {host} ] || exit 1\n\
             echo '{{\"ServerURL\":\"'$host'\",\"Username\":\"{USER}\",\"Secret\":\"{PASSWORD}\"}}'\n",
            bench.path("asked").display()
        ),
    );
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
    let logged_in = bench.path("skopeo.json").display().to_string();
    let login = ["login", "--tls-verify=false", "--authfile", &logged_in, "-u", USER, "-p", PASSWORD, host];
    tool("skopeo", &login);
    let path = |name: &str| bench.path(name).display().to_string();
    let helpers = serde_json::json!({ "credHelpers": { host: "drawer" } }).to_string();
    let store = serde_json::json!({ "credsStore": "drawer" }).to_string();
    let header = serde_json::json!({ host: format!("Basic {AUTH}") }).to_string();
    let kept =
        |file, text: &str, name, value: String| Kept { file, text: text.to_owned(), variable: (name, value) };
    let places = [
        kept("home/.docker/config.json", &auths, "IGNORED", String::new()),
        kept("elsewhere/config.json", &auths, "DOCKER_CONFIG", path("elsewhere")),
        kept("elsewhere/config.json", &helpers, "DOCKER_CONFIG", path("elsewhere")),
        kept("elsewhere/config.json", &store, "DOCKER_CONFIG", path("elsewhere")),
        kept("podman.json", &auths, "REGISTRY_AUTH_FILE", path("podman.json")),
        kept("run/containers/auth.json", &auths, "XDG_RUNTIME_DIR", path("run")),
        kept("nothing", "", "REGISTRY_AUTH_FILE", logged_in.clone()),
        kept("nothing", "", "CNB_REGISTRY_AUTH", header),
    ];
    let copy = |variable: &(&str, String)| {
        let mut command = bench.strata(["copy", "web", &there, "--layout-dir", "images"]);
        command.env("PATH", format!("{}:/usr/bin:/bin", path("programs"))).env(variable.0, &variable.1);
        Done::of(command)
    };
    for Kept { file, text, variable } in &places {
        let refused = copy(variable);
        if *file != "nothing" {
            assert_eq!(refused.code, 62, "{file}: {refused:#?}");
            assert!(refused.stderr.contains("401 Unauthorized"), "{file}: {refused:#?}");
        }
        bench.write(file, text);
        let done = copy(variable).ok();
        assert!(!(done.stdout + &done.stderr).contains("hush"), "{file}");
        fs::remove_file(bench.path(file)).unwrap();
    }
    let asked = fs::read_to_string(bench.path("asked")).unwrap();
    assert_eq!(asked.lines().collect::<Vec<_>>(), [format!("get {host}"), format!("get {host}")]);
    // A helper that fails is named, and what it is called for.
    bench.write("programs/docker-credential-drawer", "#!/bin/sh\necho locked >&2\nexit 1\n");
    bench.write("elsewhere/config.json", &helpers);
    let failed = copy(&("DOCKER_CONFIG", path("elsewhere")));
    assert_eq!(failed.code, 62, "{failed:#?}");
    assert!(failed.stderr.contains("docker-credential-drawer"), "{failed:#?}");
}
