//! Images in archives, for programs that have neither a registry nor a layout.

use crate::bench::{Bench, Done, is_root, tool, wait_for};
use crate::docker::Docker;
use crate::run::probing;
use serde_json::Value;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const NAME: &str = "docker.io/library/web:latest";

/// `strata build app -o -`, its standard output in a file; what it said, and the file.
fn piped(bench: &Bench, args: &[&str], buildpacks: &[PathBuf], file: &str) -> (String, PathBuf) {
    let mut command = bench.build_command(&[&["-o", "-"], args].concat(), buildpacks);
    let child = command.stdout(File::create(bench.path(file)).unwrap()).stderr(Stdio::piped()).spawn();
    let done = Done::from(child.unwrap().wait_with_output().unwrap()).ok();
    (done.stderr, bench.path(file))
}

fn built(bench: &Bench) -> PathBuf {
    let buildpack = bench.add(&probing());
    bench.build(&[], std::slice::from_ref(&buildpack)).ok();
    buildpack
}

fn strata(bench: &Bench, args: &[&str]) -> Done {
    Done::of(bench.strata([args, &["--layout-dir", "images"]].concat()))
}

fn digest_of(file: &Path) -> String {
    let seen: Value =
        serde_json::from_str(&tool("skopeo", &["inspect", &format!("oci-archive:{}", file.display())]))
            .unwrap();
    seen["Digest"].as_str().unwrap().to_owned()
}

#[test]
fn an_archive_goes_down_a_pipe_or_into_a_file_and_is_the_same() {
    let bench = Bench::new();
    let buildpacks = [built(&bench)];
    let digest = bench.inspect()["digest"].as_str().unwrap().to_owned();
    let (said, pipe) = piped(&bench, &["-t", "web"], &buildpacks, "pipe");
    assert!(said.contains(&digest), "{said}");
    let done = bench.build(&["-o", "web.tar"], &buildpacks).ok();
    done.says(&format!("oci-archive:{}", bench.path("web.tar").display()));
    assert!(fs::read(&pipe).unwrap() == fs::read(bench.path("web.tar")).unwrap());
    assert_eq!(digest_of(&pipe), digest);
    // An image without a name is the same but for it.
    let (_, unnamed) = piped(&bench, &[], &buildpacks, "unnamed");
    assert_eq!(digest_of(&unnamed), digest);
    // Another tool takes it apart.
    let layout = format!("oci:{}:latest", bench.path("out").display());
    tool("skopeo", &["copy", "--insecure-policy", &format!("oci-archive:{}", pipe.display()), &layout]);
    let image = bench.path("out:latest").display().to_string();
    let mut args = vec!["unpack", "--image", &image];
    if !is_root() {
        args.push("--rootless");
    }
    let bundle = bench.path("bundle").display().to_string();
    args.push(&bundle);
    tool("umoci", &args);
    assert_eq!(fs::read_to_string(bench.path("bundle/rootfs/workspace/marker")).unwrap(), bench.marker());
    bench.is_clean_soon();
}

#[test]
fn images_go_through_archives_and_back_as_they_are() {
    let bench = Bench::new();
    built(&bench);
    let before = bench.inspect();
    let copy = |from: &str, to: &str| strata(&bench, &["copy", from, to]).ok().digest();
    assert_eq!(copy("web", "oci-archive:a.tar"), before["digest"]);
    assert_eq!(copy("oci-archive:a.tar", "oci:layout"), before["digest"]);
    assert_eq!(copy("oci:layout", "back:v1"), before["digest"]);
    let mut piped = bench.strata(["copy", "web", "docker-archive:-", "--layout-dir", "images"]);
    let said = piped.stdout(File::create(bench.path("d.tar")).unwrap()).stderr(Stdio::piped()).spawn();
    let said = Done::from(said.unwrap().wait_with_output().unwrap()).ok();
    assert!(said.stderr.contains("docker-archive:-"), "{said:#?}");
    // Layers lose their compression there and get it again: the same layers, and the configuration byte for byte.
    copy("docker-archive:d.tar:web", "again");
    let inspect = |name: &str| -> Value {
        serde_json::from_str(&strata(&bench, &["inspect", name, "--json"]).ok().stdout).unwrap()
    };
    let diff_ids = |image: &Value| -> Vec<Value> {
        image["layers"].as_array().unwrap().iter().map(|layer| layer["diffID"].clone()).collect()
    };
    assert_eq!(diff_ids(&inspect("again")), diff_ids(&before));
    assert_eq!(inspect("again")["digest"], before["digest"]);
    for name in ["web", "back:v1", "again", "oci:layout", "oci-archive:a.tar", "docker-archive:d.tar"] {
        strata(&bench, &["validate", name]).ok().says("good: 0 errors, 0 warnings");
        strata(&bench, &["inspect", name]).ok().says("linux/");
    }
    let done = bench.strata(["run", "docker-archive:d.tar", "--process-type", "args", "--", "a b"]);
    assert_eq!(Done::of(done).ok().stdout, "a b\n");
}

#[test]
fn a_damaged_image_is_found_out() {
    let bench = Bench::new();
    built(&bench);
    let layer = bench.inspect()["layers"][1]["digest"].as_str().unwrap().replace("sha256:", "blobs/sha256/");
    let path = bench.path("images/index.docker.io/library/web/latest").join(layer);
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, bytes).unwrap();
    let done = strata(&bench, &["validate", "web", "--json"]);
    assert_eq!(done.code, 1, "{done:#?}");
    let report: Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!((&report["valid"], report["findings"].as_array().unwrap().len()), (&Value::Bool(false), 1));
    assert_eq!(report["findings"][0]["severity"], "error");
    // It is not taken anywhere, and what was there stays.
    fs::write(bench.path("a.tar"), "before").unwrap();
    let done = strata(&bench, &["copy", "web", "oci-archive:a.tar"]);
    assert_eq!(done.code, 62, "{done:#?}");
    assert!(done.stderr.contains("have the digest"), "{done:#?}");
    assert_eq!(fs::read(bench.path("a.tar")).unwrap(), b"before");
    for (target, path) in [("oci:fresh", "fresh"), ("fresh", "images/index.docker.io/library/fresh/latest")] {
        assert_eq!(strata(&bench, &["copy", "web", target]).code, 62, "{target}");
        assert!(!bench.path(path).exists(), "{target}");
    }
    let hidden = |entry: &fs::DirEntry| entry.file_name().to_str().unwrap().starts_with('.');
    assert!(!fs::read_dir(bench.path("")).unwrap().any(|entry| hidden(&entry.unwrap())));
}

#[test]
fn what_cannot_be_done_is_said() {
    let bench = Bench::new();
    built(&bench);
    bench.write("page.tar", "no archive, but long enough to be looked at as if it were one");
    strata(&bench, &["copy", "web", "oci-archive:web.tar:v1"]).ok();
    for (args, code, expected) in [
        (["validate", "oci-archive:page.tar"].as_slice(), 3, "cannot read the archive"),
        (&["validate", "oci-archive:absent.tar"], 3, "cannot open absent.tar"),
        (&["inspect", "oci-archive:web.tar:v2"], 3, "there are [\"v1\"]"),
        (&["inspect", "oci-archive:web.tar", "--platform", "linux/s390x"], 3, "linux/s390x is asked for"),
        (&["copy", "web", "docker-archive:x.tar", "--all"], 3, "--platform"),
        (&["copy", "web", "./x.tar"], 3, "oci-archive:<file>"),
        (&["copy", "web", "oci-archive:absent/x.tar"], 62, "absent"),
        (&["copy", "web", "oci:app"], 62, "neither empty nor an OCI layout"),
        (&["copy", "oci:absent", "oci:x"], 3, "there is none"),
    ] {
        let done = strata(&bench, args);
        assert_eq!(done.code, code, "{args:?}: {done:#?}");
        assert!(format!("{}{}", done.stdout, done.stderr).contains(expected), "{args:?}: {done:#?}");
    }
    for absent in ["x.tar", "x"] {
        assert!(!bench.path(absent).exists(), "{absent}");
    }
}

#[test]
fn docker_loads_archives() {
    assert!(is_root(), "a private Docker can only be started by root: run this test as root");
    let bench = Bench::new();
    let buildpacks = [built(&bench)];
    let config = tool("skopeo", &["inspect", "--config", "--raw", &format!("oci:{}", bench.web())]);
    let id = format!("sha256:{}", strata_oci::Digest::of(config.as_bytes()).hex());
    let docker = Docker::start(&bench);
    for format in ["oci", "docker"] {
        let (_, file) =
            piped(&bench, &["-t", "web", "--output-format", format], &buildpacks, &format!("{format}.tar"));
        docker.run(&["load", "--input", file.to_str().unwrap()]).ok().says("web:latest");
        let found = docker.run(&["image", "inspect", "--format", "{{.Id}}", "web"]).ok();
        assert_eq!(found.stdout.trim(), id, "{format}");
        assert_eq!(docker.run(&["run", "--rm", "--network", "none", "web", "9"]).code, 9, "{format}");
        docker.run(&["image", "rm", "web"]).ok();
    }
    // Straight to the daemon, and out of it again.
    let copy = |from: &str, to: &str| {
        let mut command = bench.strata(["copy", from, to, "--layout-dir", "images"]);
        command.env("DOCKER_HOST", &docker.host);
        Done::of(command).ok();
    };
    copy("web", "docker:web:direct");
    let mut json = bench.strata(["copy", "web", "docker:web:again", "--layout-dir", "images", "--json"]);
    json.env("DOCKER_HOST", &docker.host);
    let events = Done::of(json).ok().stdout;
    let last: Value = serde_json::from_str(events.lines().last().unwrap()).unwrap();
    // The daemon has the layers; what is sent is the list of them.
    assert!((1..100_000).contains(&last["moved"].as_u64().unwrap()), "{last}");
    assert_eq!(docker.run(&["run", "--rm", "--network", "none", "web:direct", "9"]).code, 9);
    copy("docker:web:direct", "oci-archive:out.tar");
    strata(&bench, &["validate", "oci-archive:out.tar"]).ok();
    docker.run(&["save", "--output", bench.path("saved.tar").to_str().unwrap(), "web:direct"]).ok();
    strata(&bench, &["validate", "docker-archive:saved.tar:web:direct"]).ok();
}

/// A containerd of its own.
struct Containerd {
    process: Child,
    address: String,
}

impl Containerd {
    fn start(bench: &Bench) -> Self {
        let path = |name: &str| bench.path("containerd").join(name).display().to_string();
        fs::create_dir(bench.path("containerd")).unwrap();
        let process = Command::new("containerd")
            .args(["--root", &path("root"), "--state", &path("state"), "--address", &path("sock")])
            .stdout(Stdio::null())
            .stderr(File::create(path("log")).unwrap())
            .spawn()
            .unwrap_or_else(|error| panic!("this test needs containerd: {error}"));
        let containerd = Self { process, address: path("sock") };
        wait_for(|| {
            let done = containerd.run(&["version"]);
            if done.code == 0 { Ok(()) } else { Err(done.stderr) }
        });
        containerd
    }

    fn run(&self, args: &[&str]) -> Done {
        let mut command = Command::new("ctr");
        command.args(["--address", &self.address]).args(args);
        Done::of(command)
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap_or_default();
        drop(self.process.wait());
    }
}

#[test]
fn containerd_imports_archives() {
    assert!(is_root(), "a private containerd can only be started by root: run this test as root");
    let bench = Bench::new();
    built(&bench);
    let digest = bench.inspect()["digest"].as_str().unwrap().to_owned();
    let containerd = Containerd::start(&bench);
    for kind in ["oci-archive", "docker-archive"] {
        strata(&bench, &["copy", "web", &format!("{kind}:{kind}.tar")]).ok();
        let file = bench.path(format!("{kind}.tar")).display().to_string();
        containerd.run(&["images", "import", "--no-unpack", &file]).ok();
        let list = containerd.run(&["images", "ls"]).ok();
        let line = list.stdout.lines().find(|line| line.starts_with(NAME));
        let line = line.unwrap_or_else(|| panic!("{kind}: {list:#?}"));
        // A manifest is made up where there is none.
        assert_eq!(line.contains(&digest), kind == "oci-archive", "{line}");
        containerd.run(&["images", "rm", NAME]).ok();
    }
}
