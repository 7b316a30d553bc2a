//! Docker runs the images.

use crate::bench::{Bench, Buildpack, Done, is_root, tool, wait_for};
use crate::registry::Registry;
use serde_json::Value;
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
        // It leaves the network of the machine mounted, if a container had that.
        let mounted = self.host.trim_start_matches("unix://").replace("/sock", "/exec/netns/default");
        rustix::mount::unmount(mounted, rustix::mount::UnmountFlags::DETACH).unwrap_or_default();
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

/// One layer of a buildpack, and the app.
fn traced() -> Buildpack {
    Buildpack::new("acme/node").build("layer deps launch cache; cp marker \"$layers/deps/\"")
}

/// Whose data is in this folder, and whose Docker is this.
fn strata(bench: &Bench, docker: &Docker, home: &str, args: &[&str]) -> Done {
    let mut command = bench.strata([args, &["--layout-dir", "images"]].concat());
    Done::of(command_of(&mut command, bench, docker, home))
}

fn command_of(command: &mut Command, bench: &Bench, docker: &Docker, home: &str) -> Command {
    command.env("DOCKER_HOST", &docker.host).env("XDG_DATA_HOME", bench.path(home));
    std::mem::replace(command, Command::new("true"))
}

/// The build that made the layer `deps`, as the trace of an image has it.
fn build_of(done: Done) -> Option<String> {
    let trace: Value = serde_json::from_str(&done.ok().stdout).unwrap();
    let layers = trace["layers"].as_array().unwrap();
    let deps = layers.iter().find(|layer| layer["id"] == "acme/node:deps").unwrap();
    deps["build"]["id"].as_str().map(str::to_owned)
}

fn said(done: &Done) -> String {
    format!("{}{}", done.stdout, done.stderr)
}

const HERE_ONLY: &str = "Note: the report is known on this machine only";

#[test]
fn images_in_docker_are_traced_here_and_where_their_report_is_with_them() {
    assert!(is_root(), "a private Docker can only be started by root: run this test as root");
    let bench = Bench::new();
    let docker = Docker::start(&bench);
    let buildpacks = [bench.add(&traced())];
    let build = |origins: &[&str]| {
        let args = [&["-o", "docker:web:1"], origins].concat();
        Done::of(command_of(&mut bench.build_command(&args, &buildpacks), &bench, &docker, "mine")).ok()
    };
    let trace = |home: &str, name: &str| strata(&bench, &docker, home, &["trace", name]).ok();
    let json = |home: &str, name: &str| build_of(strata(&bench, &docker, home, &["trace", name, "--json"]));

    // Known here, whatever the image is called.
    build(&[]);
    trace("mine", "docker:web:1").says(HERE_ONLY);
    let made = json("mine", "docker:web:1").unwrap();
    docker.run(&["tag", "web:1", "other:2"]).ok();
    assert_eq!(json("mine", "docker:other:2").as_ref(), Some(&made));
    let id = docker.run(&["inspect", "--format", "{{.Id}}", "web:1"]).ok().stdout.trim().to_owned();
    assert_eq!(json("mine", &format!("docker:{id}")).as_ref(), Some(&made));
    assert_eq!(json("theirs", "docker:web:1"), None);
    trace("theirs", "docker:web:1").says("no report lies beside the image");

    // In the daemon, too; again and again it is one small image.
    bench.write("app/marker", "second");
    build(&["--origins", "always"]);
    build(&["--origins", "always"]);
    let all = docker.run(&["images", "--all", "--quiet", "--filter", "label=io.strata.origins.of"]).ok();
    assert_eq!(all.stdout.lines().count(), 1, "{all:#?}");
    let done = trace("theirs", "docker:web:1");
    assert!(!done.stdout.contains(HERE_ONLY) && done.stdout.contains("1 more report"), "{done:#?}");
    let made = json("theirs", "docker:web:1").unwrap();
    // It can be saved along, and loaded elsewhere.
    let file = bench.path("saved.tar").display().to_string();
    docker.run(&["save", "--output", &file, "web:1", "web:1.origins"]).ok();
    assert_eq!(json("theirs", &format!("docker-archive:{file}")).as_ref(), Some(&made));
    docker.run(&["rmi", "web:1.origins"]).ok();
    assert_eq!(json("theirs", "docker:web:1"), None);
    docker.run(&["load", "--input", &file]).ok();
    assert_eq!(json("theirs", "docker:web:1").as_ref(), Some(&made));
    // It speaks of one image, not of whatever has its name.
    docker.run(&["tag", "other:2", "web:1"]).ok();
    assert_eq!(json("theirs", "docker:web:1"), None);
    assert_ne!(json("mine", "docker:web:1").as_ref(), Some(&made));

    // Nothing is kept that nobody wants.
    bench.write("app/marker", "third");
    build(&["--origins", "never"]);
    assert_eq!(json("mine", "docker:web:1"), None);
}

#[test]
fn reports_go_through_docker_and_back() {
    assert!(is_root(), "a private Docker can only be started by root: run this test as root");
    let bench = Bench::new();
    let docker = Docker::start(&bench);
    let buildpack = bench.add(&traced());
    bench.build(&[], &[buildpack]).ok();
    let registry = Registry::start(&bench);
    let place = format!("registry:{}/team/web:1", registry.host);
    let copy = |from: &str, to: &str, more: &[&str]| {
        let done = strata(&bench, &docker, "mine", &[&["copy", from, to], more].concat()).ok();
        assert!(!said(&done).contains("Warning"), "{done:#?}");
    };
    let json = |home: &str, name: &str| build_of(strata(&bench, &docker, home, &["trace", name, "--json"]));
    let made = json("mine", "web").unwrap();
    // Each from the one before it, and none of them known on the machine that looks.
    copy("web", "docker-archive:web.tar", &[]);
    copy("docker-archive:web.tar", "docker:web:1", &["--origins", "always"]);
    copy("docker:web:1", &place, &[]);
    copy(&place, "docker-archive:again.tar", &[]);
    copy("docker-archive:again.tar", "oci:layout:v1", &[]);
    copy("oci:layout:v1", "docker-archive:last.tar", &["--origins", "never"]);
    for name in
        ["docker-archive:web.tar", "docker:web:1", &place, "docker-archive:again.tar", "oci:layout:v1"]
    {
        assert_eq!(json("theirs", name).as_ref(), Some(&made), "{name}");
        // What a report is made into beside a copy is a report, and its statement is of the copy.
        let done = strata(&bench, &docker, "theirs", &["trace", name, "--statement"]).ok();
        let statement: Value = serde_json::from_str(&done.stdout).unwrap();
        assert_eq!(statement["predicate"]["runDetails"]["metadata"]["invocationId"], made.as_str());
    }
    assert_eq!(json("theirs", "docker-archive:last.tar"), None);
    let digest = |name: &str| -> Value {
        let done = strata(&bench, &docker, "mine", &["inspect", name, "--json"]).ok();
        serde_json::from_str::<Value>(&done.stdout).unwrap()["digest"].clone()
    };
    let done = strata(&bench, &docker, "theirs", &["trace", &place, "--statement"]).ok();
    let statement: Value = serde_json::from_str(&done.stdout).unwrap();
    let subject = format!("sha256:{}", statement["subject"][0]["digest"]["sha256"].as_str().unwrap());
    assert_eq!(digest(&place), subject.as_str());
    let attested = format!("docker://{}/team/web:{}.att", registry.host, subject.replace(':', "-"));
    tool("skopeo", &["inspect", "--raw", "--tls-verify=false", &attested]);

    // Other programs take the archive for what it is.
    let file = bench.path("web.tar").display().to_string();
    docker.run(&["rmi", "--force", "web:1"]).ok();
    docker.run(&["load", "--input", &file]).ok();
    // The launcher is there, and says that there is no such program.
    assert_eq!(docker.run(&["run", "--rm", "--network", "none", "web", "/none"]).code, 82);
    tool("skopeo", &["inspect", &format!("docker-archive:{file}")]);
    let layout = format!("oci:{}:v1", bench.path("skopeo").display());
    tool("skopeo", &["copy", "--insecure-policy", &format!("docker-archive:{file}"), &layout]);
    strata(&bench, &docker, "mine", &["validate", &format!("docker-archive:{file}")]).ok();
}

#[test]
fn what_lies_in_docker_is_refused_and_fails_nothing() {
    assert!(is_root(), "a private Docker can only be started by root: run this test as root");
    let bench = Bench::new();
    let docker = Docker::start(&bench);
    let buildpacks = [bench.add(&traced())];
    let args = ["-o", "docker:web:1", "--origins", "never"];
    Done::of(command_of(&mut bench.build_command(&args, &buildpacks), &bench, &docker, "mine")).ok();
    let id = docker.run(&["inspect", "--format", "{{.Id}}", "web:1"]).ok().stdout.trim().to_owned();
    let list = |image: &str| {
        format!(
            r#"{{"version":1,"image":"{image}","files":[{{"artifactType":"a","mediaType":"b","digest":"{id}"}}]}}"#
        )
    };
    let other = format!("sha256:{}", "a".repeat(64));
    for (name, text, why) in [
        ("nothing", String::new(), "it has no list"),
        ("beside.json", "{".to_owned(), "EOF while parsing"),
        ("beside.json", list(&id), "a file is not there"),
        ("beside.json", format!(r#"{{"version":1,"image":"{other}","files":[]}}"#), "it is of another image"),
        ("beside.json", "x".repeat(40 << 20), "it is larger than"),
    ] {
        bench.write(&format!("evil/{name}"), &text);
        let dir = bench.path("evil").display().to_string();
        tool("tar", &["-C", &dir, "-cf", &bench.path("evil.tar").display().to_string(), name]);
        let label = format!("LABEL io.strata.origins.of={id}");
        let file = bench.path("evil.tar").display().to_string();
        docker.run(&["import", "--change", &label, &file, "web:1.origins"]).ok();
        let done = strata(&bench, &docker, "mine", &["trace", "docker:web:1"]).ok();
        assert!(done.stdout.contains(why), "{why}: {done:#?}");
        let done = strata(&bench, &docker, "mine", &["copy", "docker:web:1", "oci:out"]).ok();
        assert!(said(&done).contains("no report comes along"), "{done:#?}");
    }
    // What is remembered here counts all the same, and takes the place of that. Of layers that were made without records
    // nothing would be known.
    let args = ["-o", "docker:web:1", "--origins", "always", "--clear-cache"];
    let done =
        Done::of(command_of(&mut bench.build_command(&args, &buildpacks), &bench, &docker, "mine")).ok();
    assert!(!said(&done).contains("Warning"), "{done:#?}");
    let done = strata(&bench, &docker, "theirs", &["trace", "docker:web:1", "--json"]).ok();
    assert!(serde_json::from_str::<Value>(&done.stdout).unwrap()["build"]["id"].is_string(), "{done:#?}");
    // A record that is broken, or that cannot be written, keeps no image from Docker.
    let records = bench.path("mine/strata/daemon-images");
    std::fs::remove_dir_all(&records).unwrap();
    std::fs::write(&records, "no folder").unwrap();
    bench.write("app/marker", "other");
    let args = ["-o", "docker:web:2"];
    let done =
        Done::of(command_of(&mut bench.build_command(&args, &buildpacks), &bench, &docker, "mine")).ok();
    assert!(said(&done).contains("the report is not kept for docker:web:2"), "{done:#?}");
}
