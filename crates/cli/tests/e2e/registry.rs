//! Images in registries, by the program's own commands.

use crate::bench::{Bench, Done, tool, wait_for};
use crate::image::annotating;
use crate::run::probing;
use serde_json::Value;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

/// The registry of the Docker project, for one test.
pub(crate) struct Registry {
    process: Child,
    pub(crate) host: String,
}

impl Registry {
    pub(crate) fn start(bench: &Bench) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = bench.write(
            "registry.yml",
            &format!(
                "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
                 storage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: 127.0.0.1:{port}}}\n",
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
    let done =
        bench.build_command(&["-t", "above", "--run-image", &format!("docker://{name}")], &[buildpack]);
    Done::of(done).ok();
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
