//! Builders that are images, made here of small trees: this machine's shell, and buildpacks.

use crate::bench::{Bench, Buildpack, Done, is_root, tool};
use crate::docker::Docker;
use crate::kill::{Killer, ends_well};
use crate::registry::Registry;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use strata_layer::{Compression, Content, GeneratedEntry, Owner, Parent, Source};
use strata_oci::{Descriptor, Digest, Image, Layer};
use strata_store::{Layout, Store, host_architecture, scratch};

/// Programs that the buildpacks of these tests use.
const PROGRAMS: &[&str] =
    &["bash", "cat", "cp", "env", "id", "ls", "mkdir", "printenv", "rm", "sleep", "stat", "touch"];

/// A builder image in the making.
pub(crate) struct Builder {
    layout: Layout,
    image: Image,
}

impl Builder {
    /// The shell, a user `cnb` with the id 1234, and these buildpacks, each required.
    pub(crate) fn new(bench: &Bench, dir: &str, buildpacks: &[PathBuf]) -> Self {
        let layout = Layout::open_or_create(bench.path(dir)).unwrap();
        let mut builder = Self { layout, image: Image::empty("linux", host_architecture()) };
        builder.add(&tree(shell(), "/"));
        for buildpack in buildpacks {
            let name = buildpack.file_name().unwrap().to_str().unwrap().replace('@', "/");
            builder.add(&tree(buildpack, &format!("/cnb/buildpacks/{name}")));
        }
        builder.file("/cnb/order.toml", &order(buildpacks));
        builder.file("/etc/passwd", "root:x:0:0::/root:/bin/sh\ncnb:x:1234:1235::/home/builder:/bin/bash\n");
        let config = builder.image.config_mut();
        config.set_env("CNB_USER_ID", "1234");
        config.set_env("CNB_GROUP_ID", "1235");
        config.set_env("CNB_STACK_ID", "stack.of.the.builder");
        builder
    }

    pub(crate) fn add(&mut self, source: &Source) {
        let mut sink = self.layout.begin_blob().unwrap();
        let packed = strata_layer::pack(source, Compression::Gzip, 1, &mut sink).unwrap();
        sink.commit(&packed.digest, packed.size).unwrap();
        let descriptor = Descriptor::new(self.image.layer_media_type(), packed.digest, packed.size);
        self.image.append(Layer { descriptor, diff_id: packed.diff_id, history: None });
    }

    /// A layer with one file.
    pub(crate) fn file(&mut self, name: &str, contents: &str) -> &mut Self {
        self.add(&text(name, contents));
        self
    }

    pub(crate) fn label(&mut self, name: &str, value: &str) -> &mut Self {
        self.image.config_mut().set_label(name, value);
        self
    }

    pub(crate) fn env(&mut self, name: &str, value: &str) -> &mut Self {
        self.image.config_mut().set_env(name, value);
        self
    }

    /// The user of an image to run apps on.
    pub(crate) fn user(&mut self, user: &str) -> &mut Self {
        self.image.config_mut().set_user(user);
        self
    }

    /// A layer with a tree.
    pub(crate) fn dir(&mut self, dir: &Path, as_path: &str) -> &mut Self {
        self.add(&tree(dir, as_path));
        self
    }

    pub(crate) fn write(&self) {
        self.layout.put_image(&self.image.encode().unwrap(), &[]).unwrap();
    }
}

fn text(name: &str, contents: &str) -> Source {
    Source::Generated(vec![GeneratedEntry {
        name: name.to_owned(),
        mode: 0o644,
        owner: Owner::ROOT,
        content: Content::Bytes(contents.as_bytes().to_vec()),
    }])
}

pub(crate) fn tree(dir: &Path, as_path: &str) -> Source {
    let above = Path::new(as_path).parent().filter(|above| above.starts_with("/cnb"));
    let parent = |path: &Path| Parent { path: path.display().to_string(), owner: Owner::ROOT, mode: 0o755 };
    let (parents, as_path) = (above.map(parent).into_iter().collect(), as_path.to_owned());
    Source::Dir { dir: dir.to_owned(), as_path, parents, owner: Owner::ROOT }
}

fn order(buildpacks: &[PathBuf]) -> String {
    let mut text = "[[order]]\n".to_owned();
    for dir in buildpacks {
        let (id, version) = dir.file_name().unwrap().to_str().unwrap().split_once('@').unwrap();
        let id = id.replacen('_', "/", 1);
        text.push_str(&format!("[[order.group]]\nid = \"{id}\"\nversion = \"{version}\"\n"));
    }
    text
}

/// This machine's shell and what it needs, copied once.
fn shell() -> &'static Path {
    static SHELL: OnceLock<tempfile::TempDir> = OnceLock::new();
    SHELL
        .get_or_init(|| {
            let dir = tempfile::tempdir().unwrap();
            // It becomes the root folder; Docker closes folders to all but root that no layer has.
            fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
            for name in ["cnb/buildpacks", "etc"] {
                fs::create_dir_all(dir.path().join(name)).unwrap();
            }
            let mut files = BTreeSet::new();
            for name in PROGRAMS {
                let program = tool("which", &[name]).trim().to_owned();
                let libraries = tool("ldd", &[&program]);
                let paths = libraries.split_whitespace().filter(|word| word.starts_with('/'));
                files.extend(paths.map(str::to_owned));
                put(Path::new(&program), &dir.path().join("usr/bin").join(name));
            }
            for file in files {
                put(Path::new(&file), &dir.path().join(file.trim_start_matches('/')));
            }
            dir
        })
        .path()
}

fn put(from: &Path, to: &Path) {
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    fs::copy(fs::canonicalize(from).unwrap(), to).unwrap();
    fs::set_permissions(to, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A run image in the layout `run`.
pub(crate) fn run_image(bench: &Bench) -> &'static str {
    let layout = Layout::open_or_create(bench.path("run")).unwrap();
    let base = scratch::base(host_architecture(), 1000, 1235, "1980-01-01T00:00:01Z").unwrap();
    base.put_in(&layout, &[]).unwrap();
    "oci:run"
}

fn build(bench: &Bench, builder: &str, args: &[&str]) -> Done {
    bench.build(&[&["--builder", builder, "--run-image", run_image(bench)], args].concat(), &[])
}

fn teller(bench: &Bench) -> PathBuf {
    bench.add(&Buildpack::new("e2e/tells").build(
        r#"echo "I am $(id -u):$(id -g) at $HOME, stack $CNB_STACK_ID, path $PATH, more ${MORE-none}"
        ls /; layer kept launch; echo -n made >"$layers/kept/file""#,
    ))
}

#[test]
fn a_builder_builds_wherever_it_is() {
    let bench = Bench::new();
    Builder::new(&bench, "builder", &[teller(&bench)]).env("MORE", "never passed on").write();
    let done = build(&bench, "oci:builder", &[]).ok();
    done.says("I am 1234:1235 at /home/builder, stack stack.of.the.builder, path /usr/local/sbin:");
    done.says("more none");
    // Its files, not this machine's.
    assert!(!done.stdout.lines().any(|line| line.ends_with("] home")), "{done:#?}");
    assert!(bench.config()["config"]["User"] == "1000:1235", "{}", bench.config());
    let strata = |args: &[&str]| Done::of(bench.strata(args)).ok();
    strata(&["copy", "oci:builder", "oci-archive:b.tar"]);
    strata(&["copy", "oci:builder", "docker-archive:d.tar:some/builder"]);
    let registry = Registry::start(&bench);
    let name = format!("{}/some/builder:v1", registry.host);
    strata(&["copy", "oci:builder", &format!("docker://{name}")]);
    let mut builders = vec!["oci-archive:b.tar", "docker-archive:d.tar", &name];
    let docker = is_root().then(|| Docker::start(&bench));
    if let Some(docker) = &docker {
        docker.run(&["load", "--input", bench.path("d.tar").to_str().unwrap()]).ok();
        builders.push("docker:some/builder");
    }
    for builder in builders {
        let mut command =
            bench.build_command(&["-t", "web", "--builder", builder, "--run-image", "oci:run"], &[]);
        // Nothing that another builder left may help.
        command.env("XDG_CACHE_HOME", bench.path(format!("cache-{}", builder.len())));
        command.env("DOCKER_HOST", docker.as_ref().map_or("unix:///none", |docker| &docker.host));
        assert_eq!(Done::of(command).ok().digest(), done.digest(), "{builder}");
    }
    drop((docker, registry));
    bench.is_clean_soon();
}

#[test]
fn a_builder_is_unpacked_once() {
    let bench = Bench::new();
    Builder::new(&bench, "builder", &[teller(&bench)]).write();
    let first = build(&bench, "oci:builder", &[]).ok();
    assert!(first.stderr.contains("Fetching 4 layers, "), "{first:#?}");
    let inodes = || -> BTreeSet<u64> {
        let layers = fs::read_dir(unpacked(&bench)).unwrap();
        layers.map(|entry| entry.unwrap().metadata().unwrap().ino()).collect()
    };
    let before = inodes();
    // Without the bytes of any layer, nothing can be unpacked.
    let documents: Value = serde_json::from_str(&tool(
        "skopeo",
        &["inspect", "--raw", &format!("oci:{}", bench.path("builder").display())],
    ))
    .unwrap();
    for layer in documents["layers"].as_array().unwrap() {
        let name = layer["digest"].as_str().unwrap().replace("sha256:", "builder/blobs/sha256/");
        fs::remove_file(bench.path(name)).unwrap();
    }
    let second = build(&bench, "oci:builder", &[]).ok();
    assert!(!second.stderr.contains("Fetching"), "{second:#?}");
    assert_eq!((second.digest(), inodes()), (first.digest(), before));
    // A second builder shares them.
    Builder::new(&bench, "other", &[teller(&bench)]).file("/more", "").write();
    let other = build(&bench, "oci:other", &[]).ok();
    assert!(
        other.stderr.contains("Fetching 1 layer, ") && other.stderr.contains(" from oci:other"),
        "{other:#?}"
    );
}

#[test]
fn what_the_builder_says_is_heeded() {
    let bench = Bench::new();
    let speaker =
        |id: &str| bench.add(&Buildpack::new(id).build(&format!("echo {id} sees ${{GIVEN-nothing}}")));
    let all = [speaker("e2e/one"), speaker("e2e/two"), speaker("e2e/pre"), speaker("e2e/post")];
    let mut builder = Builder::new(&bench, "builder", &all);
    builder
        .file("/cnb/order.toml", &order(&all[..1]))
        .file("/cnb/system.toml", "[system.pre]\nbuildpacks = [{ id = \"e2e/pre\", version = \"1.0.0\" }]\n[system.post]\nbuildpacks = [{ id = \"e2e/post\", version = \"1.0.0\" }]\n")
        .file("/cnb/build-config/env/GIVEN.override", "all")
        .label("io.buildpacks.buildpack.order", r#"[{"group":[{"id":"e2e/two","version":"1.0.0"}]}]"#);
    builder.write();
    let done = build(&bench, "oci:builder", &[]).ok();
    for id in ["pre", "one", "post"] {
        done.says(&format!("e2e/{id} sees all"));
    }
    assert!(!done.stdout.contains("e2e/two"), "{done:#?}");
    // Without the file, the label says it; a whiteout takes a file away.
    builder.file("/cnb/.wh.order.toml", "").file("/cnb/.wh.system.toml", "").write();
    let done = build(&bench, "oci:builder", &[]).ok();
    done.says("e2e/two sees all");
    assert!(!done.stdout.contains("e2e/one"), "{done:#?}");
    // Buildpacks of one's own, instead of the order.
    let own = bench.add(&Buildpack::new("e2e/own").build("echo own among; ls /cnb/buildpacks"));
    let done = bench.build(&["--builder", "oci:builder", "--run-image", "oci:run"], &[own]).ok();
    done.says("own among");
    done.says("] e2e_two");
}

/// A composite and the two buildpacks that it is made of, as an image.
fn package(bench: &Bench, dir: &str) {
    let layout = Layout::open_or_create(bench.path(dir)).unwrap();
    let mut builder = Builder { layout, image: Image::empty("linux", host_architecture()) };
    let meta = "api = \"0.11\"\n[buildpack]\nid = \"e2e/meta\"\nversion = \"2\"\n";
    let meta = bench
        .add_meta("e2e_meta@2", &format!("{meta}{}", order(&["e2e_a@1.0.0".into(), "e2e_b@1.0.0".into()])));
    let component = |id: &str| bench.add(&Buildpack::new(id).build(&format!("echo built by {id}")));
    for (buildpack, name) in
        [(component("e2e/a"), "a/1.0.0"), (component("e2e/b"), "b/1.0.0"), (meta, "meta/2")]
    {
        builder.add(&tree(&buildpack, &format!("/cnb/buildpacks/e2e_{name}")));
    }
    builder
        .label("io.buildpacks.buildpackage.metadata", r#"{"id":"e2e/meta","version":"2","stacks":null}"#)
        .label(
            "io.buildpacks.buildpack.layers",
            r#"{"e2e/a":{"1.0.0":{}},"e2e/b":{"1.0.0":{}},"e2e/meta":{"2":{}}}"#,
        )
        .write();
}

/// Who built, in order.
fn built_by(done: &Done) -> Vec<&str> {
    done.stdout.lines().filter_map(|line| Some(line.split_once("built by ")?.1)).collect()
}

#[test]
fn buildpacks_come_from_anywhere() {
    let bench = Bench::new();
    package(&bench, "package");
    let speaker = |id: &str| bench.add(&Buildpack::new(id).build(&format!("echo built by {id}")));
    let (inner, last) = (speaker("e2e/inner"), speaker("e2e/last"));
    let mut builder = Builder::new(&bench, "builder", &[inner]);
    builder.label("io.buildpacks.buildpack.layers", r#"{"e2e/inner":{"1.0.0":{}}}"#).write();
    Done::of(bench.strata(["copy", "oci:package", "oci-archive:package.cnb.tar"])).ok();
    fs::rename(bench.path("package.cnb.tar"), bench.path("package.cnb")).unwrap();
    tool("tar", &["-czf", bench.path("last.tgz").to_str().unwrap(), "-C", last.to_str().unwrap(), "."]);
    let all = ["e2e/a", "e2e/b", "e2e/inner", "e2e/last"];
    for (args, expected) in [
        (&["--buildpack", "oci:package"][..], &all[..2]),
        (&["--buildpack", "package.cnb", "--buildpack", "last.tgz"], &["e2e/a", "e2e/b", "e2e/last"]),
        (&["--buildpack", "package.cnb,from=builder,./last.tgz"], &all),
        (&["--pre-buildpack", "oci:package", "--post-buildpack", "last.tgz"], &all),
        (&["-b", "last.tgz,urn:cnb:builder:e2e/inner@1.0.0"], &["e2e/last", "e2e/inner"]),
        (&["-b", "e2e/inner"], &["e2e/inner"]),
    ] {
        let done = build(&bench, "oci:builder", args).ok();
        assert_eq!(built_by(&done), expected, "{args:?}");
    }
    // Without a builder, in this machine's files.
    let done = bench.build(&["-b", "package.cnb"], &[]).ok();
    assert_eq!(built_by(&done), all[..2]);
    // In a builder's folder.
    bench.write("folder/builder.toml", "[[buildpacks]]\nuri = \"../package.cnb\"\n[[buildpacks]]\nuri = \"../last.tgz\"\nid = \"e2e/last\"\n[[order]]\n[[order.group]]\nid = \"e2e/meta\"\n[build]\nimage = \"oci:builder\"\n[run]\n[[run.images]]\nimage = \"oci:run\"\n");
    let done = bench.build(&["--builder", "folder"], &[]).ok();
    assert_eq!(built_by(&done), all[..2]);
}

#[test]
fn what_is_no_buildpack_is_refused_with_the_reason() {
    let bench = Bench::new();
    package(&bench, "package");
    run_image(&bench);
    Builder::new(&bench, "builder", &[teller(&bench)]).write();
    bench.write("junk.tgz", "no archive");
    for (buildpack, message) in [
        ("oci:builder", "the image is no buildpackage"),
        ("oci:absent", "there is none"),
        ("junk.tgz", "cannot use the buildpack junk.tgz"),
        ("./none", "there is no ./none"),
        ("http://127.0.0.1:1/b.tgz", "cannot fetch http://127.0.0.1:1/b.tgz"),
        ("http://me:hush@127.0.0.1:1/b.tgz", "cannot fetch"),
        ("https://example.com/b.tgz#md5=1", "is not #sha256="),
        ("urn:cnb:other:a/b", "such a name is not known"),
        ("urn:cnb:registry:a", "it is no name"),
    ] {
        let done = build(&bench, "oci:builder", &["--buildpack", buildpack]);
        assert!(done.code == 3 || done.code == 62, "{buildpack}: {done:#?}");
        assert!(done.stderr.contains(message), "{buildpack}: {done:#?}");
    }
    let done = build(&bench, "oci:builder", &["--pre-buildpack", "from=builder"]);
    assert!(done.stderr.contains("neither before nor after"), "{done:#?}");
    assert!(!bench.has_image());
}

#[test]
fn the_run_image_is_the_builders() {
    let bench = Bench::new();
    run_image(&bench);
    let registry = Registry::start(&bench);
    let mirror = format!("{}/run:v1", registry.host);
    Done::of(bench.strata(["copy", "oci:run", &format!("docker://{mirror}")])).ok();
    let mut builder = Builder::new(&bench, "builder", &[teller(&bench)]);
    let build = || Done::of(bench.build_command(&["-t", "web", "--builder", "oci:builder"], &[]));
    builder.write();
    let done = build();
    assert!(done.code == 3 && done.stderr.contains("the builder names no run image"), "{done:#?}");
    let metadata = |image: &str| {
        format!(
            r#"{{"stack":{{"runImage":{{"image":"127.0.0.1:1/run","mirrors":["{image}"]}}}},"images":null}}"#
        )
    };
    builder.label("io.buildpacks.builder.metadata", &metadata(&mirror)).write();
    build().ok();
    let label = bench.label("io.buildpacks.lifecycle.metadata");
    assert_eq!(label["runImage"]["image"], "127.0.0.1:1/run");
    assert_eq!(label["runImage"]["mirrors"], serde_json::json!([mirror]));
    assert!(label["runImage"]["reference"].as_str().unwrap().starts_with(&format!("{}/run@", registry.host)));
    // The file wins.
    builder.file("/cnb/run.toml", "[[images]]\nimage = \"oci:run\"\n").write();
    build().ok();
    assert_eq!(bench.label("io.buildpacks.lifecycle.metadata")["runImage"].get("mirrors"), None);
}

#[test]
fn images_that_cannot_build_are_refused_with_the_reason() {
    let bench = Bench::new();
    let other = if host_architecture() == "arm64" { "amd64" } else { "arm64" };
    let refused = |dir: &str, change: &dyn Fn(&mut Builder), message: &str| {
        let mut builder = Builder::new(&bench, dir, &[teller(&bench)]);
        change(&mut builder);
        builder.write();
        let done = build(&bench, &format!("oci:{dir}"), &[]);
        assert!(done.code != 0 && done.stderr.contains(message), "{dir}: {done:#?}");
    };
    refused(
        "no-id",
        &|b| b.image.config_mut().set_env("CNB_USER_ID", "me"),
        "its CNB_USER_ID is 'me', which is no id",
    );
    refused("root", &|b| b.image.config_mut().set_env("CNB_USER_ID", "0"), "is that of root");
    refused("arch", &|b| b.image.config_mut().set_architecture(other), &format!("it is for linux/{other}"));
    refused("order", &|b| b.add(&text("/cnb/order.toml", "")), "it has no order of buildpacks");
    refused(
        "broken",
        &|b| b.add(&text("/cnb/order.toml", "order = 3")),
        "cannot use the builder oci:broken: /cnb/order.toml",
    );
    let done = build(&bench, "oci:run", &[]);
    assert!(done.stderr.contains("cannot use the builder 'oci:run': it has no order"), "{done:#?}");
    let done = build(&bench, "oci:absent", &[]);
    assert!(done.code != 0 && done.stderr.contains("'oci:absent'"), "{done:#?}");
    assert!(!bench.has_image());
}

#[test]
fn a_build_that_is_killed_while_it_unpacks_harms_nothing() {
    let bench = Bench::new();
    Builder::new(&bench, "builder", &[teller(&bench)]).write();
    run_image(&bench);
    let command =
        || bench.build_command(&["-t", "web", "--builder", "oci:builder", "--run-image", "oci:run"], &[]);
    let mut killer = Killer::new(command());
    // The folder is there when a build has been.
    ends_well(command());
    let layers = unpacked(&bench);
    for _ in 0..killer.rounds() {
        // Layers are read-only to nobody but those who forget to ask.
        drop(std::process::Command::new("rm").arg("-rf").arg(&layers).output());
        killer.kill(command());
        ends_well(command());
        let names: Vec<_> = fs::read_dir(&layers).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names.len(), 4, "{names:?}");
    }
    killer.has_killed();
    bench.is_clean_soon();
}

#[test]
fn volumes_are_seen_and_networks_are_left_out() {
    let bench = Bench::new();
    bench.write("bindings/type", "bound");
    fs::create_dir(bench.path("data")).unwrap();
    bench.write("data/in", "from outside");
    let buildpack = bench.add(&Buildpack::new("e2e/sees").build(
        r#"echo "type $(cat /platform/bindings/mine/type), data $(cat /data/in)"
        echo written >/data/out || echo "data is read-only"
        while read -r line; do case $line in *:*) echo "device ${line%%:*}"; esac; done </proc/net/dev"#,
    ));
    Builder::new(&bench, "builder", &[buildpack]).write();
    let volumes = ["--volume", "bindings:/platform/bindings/mine", "--network", "none", "--volume"];
    let done = build(&bench, "oci:builder", &[&volumes[..], &["data:/data"]].concat()).ok();
    done.says("type bound, data from outside");
    done.says("data is read-only");
    let devices = |done: &Done| done.stdout.matches("] device ").count();
    assert_eq!(devices(&done), 1, "{done:#?}");
    build(&bench, "oci:builder", &[&volumes[..], &["data:/data:rw"]].concat()).ok();
    assert_eq!(fs::read_to_string(bench.path("data/out")).unwrap(), "written\n");
    let done = build(&bench, "oci:builder", &["--volume", "data:/layers/x"]);
    assert!(done.code == 2 && done.stderr.contains("/layers/x is not for volumes"), "{done:#?}");
    let done = build(&bench, "oci:builder", &["--volume", "absent:/data"]);
    assert!(done.code != 0 && done.stderr.contains("absent"), "{done:#?}");
}

#[test]
fn a_buildpack_does_not_get_out_of_the_builder() {
    let bench = Bench::new();
    bench.write("home/.ssh/id", "the key");
    bench.write("home/.docker/config.json", "{}");
    let script = format!(
        r#"for file in {home}/.ssh/id {home}/.docker/config.json {app}/marker /proc/1/root/{home}/.ssh/id /proc/1/cwd/{home}/.ssh/id; do
            if cat "$file" 2>/dev/null; then echo "READ $file"; fi
        done
        while read -r name value; do case $name in Cap*|NoNewPrivs:) echo "$name $value"; esac; done </proc/self/status
        kill -0 {pid} 2>/dev/null && echo "SEES {pid}"
        (echo 1 >/proc/sys/kernel/core_pattern) 2>/dev/null && echo "WROTE a setting"
        (echo evil >/usr/bin/cat) || echo "system files are not its own"
        rm -f /etc/passwd || echo "nor can they be removed"
        sleep 600 & disown
        "#,
        home = bench.path("home").display(),
        app = bench.path("app").display(),
        pid = std::process::id(),
    );
    let evil = bench.add(&Buildpack::new("e2e/evil").build(&script));
    let builder = Builder::new(&bench, "builder", &[evil]);
    builder.write();
    let done = build(&bench, "oci:builder", &[]).ok();
    for forbidden in ["READ", "SEES", "WROTE", "the key"] {
        assert!(!done.stdout.contains(forbidden), "{forbidden}: {done:#?}");
    }
    for expected in [
        "CapEff: 0000000000000000",
        "CapBnd: 0000000000000000",
        "NoNewPrivs: 1",
        "system files are not its own",
        "nor can they be removed",
        "left 1 process",
    ] {
        assert!(format!("{}{}", done.stdout, done.stderr).contains(expected), "{expected}: {done:#?}");
    }
    // The next build finds the builder as it was.
    let tells = Builder::new(&bench, "other", &[teller(&bench)]);
    tells.write();
    build(&bench, "oci:other", &[]).ok().says("at /home/builder");
    bench.is_clean_soon();
}

/// Where layers of builders are unpacked.
pub(crate) fn unpacked(bench: &Bench) -> PathBuf {
    let cache = bench.path("home/.cache/strata");
    let folders = fs::read_dir(cache).unwrap().map(|entry| entry.unwrap());
    let is_one = |name: &str| name.starts_with("layers");
    let mut paths =
        folders.filter(|entry| is_one(entry.file_name().to_str().unwrap())).map(|entry| entry.path());
    let path = paths.next().unwrap();
    assert_eq!(paths.next(), None);
    path
}

/// Runs the program as a user of no name, or as one who has ranges of ids. Nothing of this machine changes.
fn as_user(bench: &Bench, has_ranges: bool) -> Command {
    assert!(is_root(), "only root can build as another user: run this test as root");
    let home = bench.path("home");
    for tail in ["", "app", "buildpacks", "builder", "run"] {
        fs::set_permissions(bench.path(tail), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let program = bench.path("strata");
    // Once: a build may have left a process of it that removes its folder.
    if !program.exists() {
        fs::copy(env!("CARGO_BIN_EXE_strata"), &program).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    }
    chown(&home, Some(4242), Some(4242)).unwrap();
    let mut script = "set -e\n".to_owned();
    if has_ranges {
        let passwd = fs::read_to_string("/etc/passwd").unwrap();
        for (name, text) in [
            ("passwd", format!("{}\nstrata-test:x:4242:4242::/nowhere:/bin/sh\n", passwd.trim())),
            ("subuid", "strata-test:500000:65536\n".to_owned()),
            ("subgid", "strata-test:700000:65536\n".to_owned()),
        ] {
            bench.write(name, &text);
            script.push_str(&format!("mount --bind {} /etc/{name}\n", bench.path(name).display()));
        }
    }
    script.push_str("exec setpriv --reuid 4242 --regid 4242 --clear-groups \"$@\"");
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &script, "sh"]).arg(program).current_dir(bench.path(""));
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", &home);
    command
}

/// Tries what leads out of a sandbox, and says what of it went well.
const ESCAPE: &str = r#"import ctypes, os, signal, subprocess, sys
pid, word, home = int(sys.argv[1]), sys.argv[2], sys.argv[3]
libc = ctypes.CDLL(None, use_errno=True)
def is_it(name):
    try: return word in open(f'/proc/{name}/cmdline').read()
    except OSError: return False
others = [name for name in os.listdir('/proc') if name.isdigit() and int(name) != os.getpid() and is_it(name)]
if others and 'sleep' in open(f'/proc/{others[0]}/cmdline').read(): print('SEES the process outside')
for name, target in [('1', 1), ('outside', pid)]:
    if target == pid and not is_it(pid) and os.path.exists(f'/proc/{pid}'): continue
    if libc.ptrace(16, target, 0, 0) == 0: print('TRACES', name)
    try: open(f'/proc/{target}/mem', 'rb').read(1); print('READS the memory of', name)
    except OSError: pass
    for fd in range(10):
        try: os.readlink(f'/proc/{target}/fd/{fd}'); print('READS the files of', name)
        except OSError: pass
    if target == pid:
        try: os.kill(target, signal.SIGKILL); print('KILLS', name)
        except ProcessLookupError: pass
for what in (os.setuid, os.setgid):
    try: what(0); print('BECOMES root')
    except OSError: pass
def well(*words):
    try: return subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True).returncode == 0
    except OSError: return False
if well('mount', '-t', 'tmpfs', 'none', '/mnt'): print('MOUNTS')
if well('su', '-c', 'true'): print('BECOMES root by su')
own = '/layers/e2e_evil/own'
subprocess.run(['cp', '/usr/bin/id', own], check=True)
os.chmod(own, 0o6755)
if subprocess.run([own, '-u'], capture_output=True).stdout.strip() == b'0': print('BECOMES root by its own file')
if 'nosuid' not in open('/proc/self/mountinfo').readline(): print('set-uid programs have an EFFECT')
for path in ['/usr', '/etc', '/', home]:
    try: open(f'{path}/{word}', 'w').close()
    except OSError: pass
for path in [f'{home}/.ssh/id', f'/proc/1/root{home}/.ssh/id', f'/proc/1/cwd{home}/.ssh/id']:
    try: open(path).read(); print('READS', path)
    except OSError: pass
subprocess.Popen(['bash', '-c', f'exec -a {word} sleep 1000'], start_new_session=True, stdout=subprocess.DEVNULL)
print('tried all')
"#;

#[test]
fn nothing_outside_is_traced_killed_written_or_left_behind() {
    for is_user in [false, true] {
        let bench = Bench::new();
        for dir in ["builder", "run"] {
            fs::create_dir_all(bench.path(dir)).unwrap();
        }
        bench.write("home/.ssh/id", "the key");
        let evil = Buildpack::new("e2e/evil");
        let script = "python3 \"$CNB_BUILDPACK_DIR/escape.py\" $VICTIM MARKER $HOME_OUTSIDE";
        let evil = bench.add(&evil.build(script));
        fs::write(evil.join("escape.py"), ESCAPE).unwrap();
        let mut victim = Command::new("bash");
        victim.args(["-c", &format!("exec -a {} sleep 1000", bench.marker())]);
        let mut victim = victim.spawn().unwrap();
        let asked = bench.build_command(
            &[
                "-t",
                "web",
                "--env",
                &format!("VICTIM={}", victim.id()),
                "--env",
                &format!("HOME_OUTSIDE={}", bench.path("home").display()),
            ],
            std::slice::from_ref(&evil),
        );
        let done = if is_user {
            fs::create_dir(bench.path("home/images")).unwrap();
            let mut command = as_user(&bench, true);
            chown(bench.path("home/images"), Some(4242), Some(4242)).unwrap();
            command
                .args(asked.get_args().map(|arg| if arg == "images" { "home/images".as_ref() } else { arg }));
            Done::of(command)
        } else {
            Done::of(asked)
        };
        let is_alive = victim.try_wait().unwrap().is_none();
        victim.kill().unwrap();
        victim.wait().unwrap();
        let done = done.ok();
        assert!(is_alive, "{done:#?}");
        done.says("tried all");
        for word in ["SEES", "TRACES", "READS", "KILLS", "BECOMES", "MOUNTS", "EFFECT", "the key"] {
            assert!(!done.stdout.contains(word), "{word}: {done:#?}");
        }
        for dir in ["/usr", "/etc", "/", bench.path("home").to_str().unwrap()] {
            assert!(!Path::new(dir).join(bench.marker()).exists(), "{dir}");
        }
        bench.is_clean_soon();
    }
}

#[test]
fn files_of_a_builder_belong_to_whom_it_says() {
    let script = r#"echo "is $(id -u):$(id -g), groups $(id -G), called $(id -un)"
        stat -c '%n is of %u:%g' / /etc/passwd /home/builder /home/builder/file /opt/of-33 /workspace /layers /tmp
        (echo x >>/etc/passwd) 2>/dev/null || echo "system files are not its own"
        (echo x >>/home/builder/file) && echo "its home is"
        mkdir -p "$1/tool"; echo x >"$1/tool/file"; printf '[types]\nlaunch = true\n' >"$1/tool.toml"; echo x >/workspace/new"#;
    let build = |mut command: Command, tag: &str| {
        command.args(["build", "app", "-t", tag, "--layout-dir", "home/images", "--verbose", "--builder"]);
        Done::of({
            command.args(["oci:builder", "--run-image", "oci:run"]);
            command
        })
        .ok()
    };
    let bench = Bench::new();
    let mut builder =
        Builder::new(&bench, "builder", &[bench.add(&Buildpack::new("e2e/owner").build(script))]);
    let entry = |name: &str, uid: u64, gid: u64| GeneratedEntry {
        name: name.to_owned(),
        mode: 0o644,
        owner: Owner { uid, gid },
        content: Content::Bytes(b"text\n".to_vec()),
    };
    let home = GeneratedEntry { mode: 0o755, content: Content::Dir, ..entry("/home/builder", 1234, 1235) };
    let files = vec![home, entry("/home/builder/file", 1234, 1235), entry("/opt/of-33", 33, 34)];
    builder.add(&Source::Generated(files));
    builder.write();
    run_image(&bench);
    let mut digests = BTreeSet::new();
    for user in ["root", "with ranges", "alone"] {
        fs::remove_dir_all(bench.path("home")).unwrap();
        fs::create_dir(bench.path("home")).unwrap();
        let command = || match user {
            "root" => bench.strata::<&str>([]),
            _ => as_user(&bench, user == "with ranges"),
        };
        let done = build(command(), "web");
        done.says("is 1234:1235, groups 1235");
        done.says("called cnb");
        done.says("its home is");
        let is_alone = user == "alone";
        assert_eq!(done.stdout.contains("system files are not its own"), !is_alone, "{done:#?}");
        let why = "All files of the builder belong to its user inside: /etc/subuid gives user";
        assert_eq!(done.stdout.contains(why), is_alone, "{done:#?}");
        for (file, owner) in [
            ("/", "0:0"),
            ("/etc/passwd", "0:0"),
            ("/home/builder", "1234:1235"),
            ("/home/builder/file", "1234:1235"),
            ("/opt/of-33", "33:34"),
            ("/workspace", "1234:1235"),
            ("/layers", "1234:1235"),
            ("/tmp", "0:0"),
        ] {
            let owner = if is_alone { "1234:1235" } else { owner };
            done.says(&format!("{file} is of {owner}"));
        }
        digests.insert(done.digest());
        // The layer with files of the builder's user is one for this user; all others are for everybody.
        let layers = fs::read_dir(unpacked(&bench)).unwrap().map(|entry| entry.unwrap().file_name());
        let own = layers.filter(|name| name.to_str().unwrap().ends_with(".1234.1235")).count();
        assert_eq!(own, usize::from(!is_alone));
        let again = build(command(), "web");
        assert!(!again.stderr.contains("Fetching") && !again.stdout.contains("Fetching"), "{again:#?}");
        let mut prune = command();
        prune.args(["builder", "prune"]);
        Done::of(prune).ok().says("Removed 5 unpacked layers");
        assert_eq!(fs::read_dir(unpacked(&bench)).unwrap().count(), 0);
    }
    bench.is_clean_soon();
    assert_eq!(digests.len(), 1);
}

/// A base to build in, in the layout `base`.
fn base(bench: &Bench) {
    Builder::new(bench, "base", &[]).write();
}

#[test]
fn builders_are_made_and_built_with() {
    let bench = Bench::new();
    base(&bench);
    run_image(&bench);
    package(&bench, "package");
    let own = bench.add(&Buildpack::new("e2e/own").build("echo built by e2e/own with $GIVEN"));
    bench.write("lifecycle/lifecycle.toml", "[lifecycle]\nversion = \"0.21.0\"\n[apis.buildpack]\nsupported = [\"0.7\"]\n[apis.platform]\nsupported = [\"0.8\"]\n");
    bench.write("lifecycle/lifecycle/creator", "a program");
    tool(
        "tar",
        &[
            "-czf",
            bench.path("lifecycle.tgz").to_str().unwrap(),
            "-C",
            bench.path("lifecycle").to_str().unwrap(),
            ".",
        ],
    );
    let text = format!(
        "description = \"made here\"\n[lifecycle]\nuri = \"lifecycle.tgz\"\n[[buildpacks]]\nuri = \"{}\"\n[[buildpacks]]\nuri = \"oci:package\"\n\
         [[order]]\n[[order.group]]\nid = \"e2e/meta\"\n[[order.group]]\nid = \"e2e/own\"\nversion = \"1.0.0\"\noptional = true\n\
         [build]\nimage = \"oci:base\"\n[[build.env]]\nname = \"GIVEN\"\nvalue = \"all\"\n\
         [run]\n[[run.images]]\nimage = \"oci:run\"\n",
        own.display()
    );
    bench.write("builder.toml", &text);
    let create = |to: &str| Done::of(bench.strata(["builder", "create", to, "--layout-dir", "images"]));
    let digest = create("my/builder").ok().digest();
    for to in ["oci:again", "oci-archive:again.tar"] {
        assert_eq!(create(to).ok().digest(), digest, "{to}");
    }
    Done::of(bench.strata(["validate", "oci:again"])).ok().says("good: 0 errors, 0 warnings");
    let done = bench.build(&["--builder", "my/builder"], &[]).ok();
    assert_eq!(built_by(&done), ["e2e/a", "e2e/b", "e2e/own with all"]);
    let config: Value = serde_json::from_str(&tool(
        "skopeo",
        &["inspect", "--config", &format!("oci:{}", bench.path("again").display())],
    ))
    .unwrap();
    let label = |name: &str| -> Value {
        serde_json::from_str(config["config"]["Labels"][name].as_str().unwrap()).unwrap()
    };
    assert_eq!(label("io.buildpacks.builder.metadata")["lifecycle"]["version"], "0.21.0");
    assert_eq!(label("io.buildpacks.buildpack.order")[0]["group"][0]["version"], "2");
    let layers = label("io.buildpacks.buildpack.layers");
    for id in ["e2e/meta", "e2e/a", "e2e/b", "e2e/own"] {
        let diff_id = &layers[id].as_object().unwrap().values().next().unwrap()["layerDiffID"];
        assert!(config["rootfs"]["diff_ids"].as_array().unwrap().contains(diff_id), "{id}");
    }
    // What cannot be a builder is said before anything is written.
    for (change, message) in [
        (text.replace("e2e/meta", "e2e/none"), "the order names e2e/none, which is not among the buildpacks"),
        (text.replace("oci:base", "host"), "names no image to build in"),
        (text.replace("oci:base", "oci:run2"), "oci:run2"),
        (text.replace("lifecycle.tgz", "none.tgz"), "cannot use the lifecycle none.tgz"),
    ] {
        bench.write("builder.toml", &change);
        let done = create("oci:refused");
        assert!(done.code != 0 && done.stderr.contains(message), "{message}: {done:#?}");
        assert!(!bench.path("refused").exists());
    }
}

#[test]
fn a_builder_toml_has_system_buildpacks_targets_and_variables() {
    let bench = Bench::new();
    base(&bench);
    run_image(&bench);
    let own = |id: &str| bench.add(&Buildpack::new(id).build(&format!("echo built by {id} with $GIVEN")));
    let mut text = String::new();
    for dir in [own("e2e/pre"), own("e2e/own"), own("e2e/post")] {
        text.push_str(&format!("[[buildpacks]]\nuri = \"{}\"\n", dir.display()));
    }
    text.push_str(
        "[[order]]\n[[order.group]]\nid = \"e2e/own\"\n[build]\nimage = \"oci:base\"\n[[build.env]]\nname = \"GIVEN\"\nvalue = \"all\"\n\
         [run]\n[[run.images]]\nimage = \"oci:run\"\n[system]\n[system.pre]\nbuildpacks = [{ id = \"e2e/pre\", version = \"1.0.0\" }]\n\
         [system.post]\nbuildpacks = [{ id = \"e2e/post\" }]\n[[targets]]\nos = \"linux\"\n",
    );
    bench.write("builder.toml", &text);
    let create = |to: &str| Done::of(bench.strata(["builder", "create", to, "--layout-dir", "images"]));
    create("oci:made").ok();
    let all = ["e2e/pre with all", "e2e/own with all", "e2e/post with all"];
    for builder in ["oci:made", "builder.toml"] {
        let done = bench.build(&["--builder", builder], &[]).ok();
        assert_eq!(built_by(&done), all, "{builder}");
        let done = bench.build(&["--builder", builder, "--disable-system-buildpacks"], &[]).ok();
        assert_eq!(built_by(&done), all[1..2], "{builder}");
    }
    // In this machine's files as well.
    bench.write("builder.toml", &text.replace("image = \"oci:base\"\n", ""));
    assert_eq!(
        built_by(&bench.build(&["--builder", "builder.toml", "--run-image", "scratch"], &[]).ok()),
        all
    );
    let config: Value = serde_json::from_str(&tool(
        "skopeo",
        &["inspect", "--config", &format!("oci:{}", bench.path("made").display())],
    ))
    .unwrap();
    let label = config["config"]["Labels"]["io.buildpacks.buildpack.system"].as_str().unwrap();
    let system = r#"{"pre":{"buildpacks":[{"id":"e2e/pre","version":"1.0.0"}]},"post":{"buildpacks":[{"id":"e2e/post","version":"1.0.0"}]}}"#;
    assert_eq!(label, system);
    for (from, to, message) in [
        ("os = \"linux\"", "os = \"windows\"", "is for windows/, and not for linux/"),
        ("e2e/post\" }", "e2e/none\" }", "names e2e/none, which is not among the buildpacks"),
    ] {
        bench.write("builder.toml", &text.replace(from, to));
        let done = create("oci:refused");
        assert!(done.code == 3 && done.stderr.contains(message), "{done:#?}");
    }
}

/// Serves the files of a folder over HTTP until it is dropped.
struct Web {
    host: String,
    asked: Arc<Mutex<Vec<String>>>,
    /// How many bytes of files it has sent.
    sent: Arc<AtomicUsize>,
}

impl Web {
    fn serve(dir: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        let sent = Arc::new(AtomicUsize::new(0));
        let bytes = Arc::clone(&sent);
        // Detached: it ends with the tests.
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
                let path = lines.next().unwrap_or_default().split(' ').nth(1).unwrap_or_default().to_owned();
                let head: Vec<String> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
                let condition = head.iter().find_map(|line| {
                    line.to_ascii_lowercase().starts_with("if-none-match: ").then(|| line[15..].to_owned())
                });
                seen.lock().unwrap().push(path.clone());
                let name = path.split('?').next().unwrap_or_default();
                let file = fs::read(dir.join(name.trim_start_matches('/')));
                let (status, body) = file.map_or(("404 Not Found", Vec::new()), |bytes| ("200 OK", bytes));
                let tag = format!("\"{}\"", Digest::of(&body));
                let (status, body) = if condition == Some(tag.clone()) {
                    ("304 Not Modified", Vec::new())
                } else {
                    (status, body)
                };
                bytes.fetch_add(body.len(), Ordering::SeqCst);
                let head = format!(
                    "HTTP/1.1 {status}\r\nETag: {tag}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                    body.len()
                );
                drop((&stream).write_all(&[head.as_bytes(), &body].concat()));
            }
        });
        Self { host, asked, sent }
    }
}

fn config_of(bench: &Bench, image: &str) -> Value {
    let config = tool("skopeo", &["inspect", "--config", &format!("oci:{}", bench.path(image).display())]);
    serde_json::from_str(&config).unwrap()
}

fn labels(bench: &Bench, image: &str) -> Value {
    config_of(bench, image)["config"]["Labels"].take()
}

/// An image extension in a folder, which chooses a run image.
fn extension(bench: &Bench, id: &str, run_image: &str) -> PathBuf {
    let dir = format!("extensions/{}", id.replace('/', "_"));
    bench.write(
        &format!("{dir}/extension.toml"),
        &format!("api = \"0.10\"\n[extension]\nid = \"{id}\"\nversion = \"1.0.0\"\nname = \"N\"\n"),
    );
    bench.write(&format!("{dir}/generate/run.Dockerfile"), &format!("FROM {run_image}\n"));
    bench.path(&dir)
}

#[test]
fn builders_and_packages_have_image_extensions() {
    let bench = Bench::new();
    base(&bench);
    run_image(&bench);
    let chosen =
        strata_store::scratch::base(host_architecture(), 1001, 1235, "1980-01-01T00:00:01Z").unwrap();
    chosen.put_in(&Layout::open_or_create(bench.path("chosen")).unwrap(), &[]).unwrap();
    let first = extension(&bench, "e2e/ext", "never-used.example.com/image");
    let second = extension(&bench, "e2e/packed", "oci:chosen");
    bench.write("package/package.toml", &format!("[extension]\nuri = \"{}\"\n", second.display()));
    for (folder, target) in [(second.to_str().unwrap(), "oci:by-folder"), ("package", "oci:packed")] {
        Done::of(bench.strata(["buildpack", "package", target, "--path", folder, "--layout-dir", "images"]))
            .ok();
    }
    let package = labels(&bench, "packed");
    assert_eq!(package, labels(&bench, "by-folder"));
    assert_eq!(
        package["io.buildpacks.buildpackage.metadata"],
        r#"{"id":"e2e/packed","name":"N","version":"1.0.0"}"#
    );
    assert!(package.get("io.buildpacks.buildpack.layers").is_none(), "{package}");
    let buildpack = bench.add(&Buildpack::new("e2e/own"));
    let text = format!(
        "[[buildpacks]]\nuri = \"{}\"\n[[extensions]]\nid = \"e2e/ext\"\nuri = \"{}\"\n\
         [[extensions]]\nuri = \"oci:packed\"\n[[order]]\n[[order.group]]\nid = \"e2e/own\"\n\
         [[order-extensions]]\n[[order-extensions.group]]\nid = \"e2e/ext\"\n\
         [[order-extensions.group]]\nid = \"e2e/packed\"\n[build]\nimage = \"oci:base\"\n\
         [[run.images]]\nimage = \"oci:run\"\n[[run.images]]\nimage = \"oci:chosen\"\n",
        buildpack.display(),
        first.display()
    );
    bench.write("builder.toml", &text);
    let create = |to: &str| Done::of(bench.strata(["builder", "create", to, "--layout-dir", "images"]));
    create("oci:made").ok();
    let made = labels(&bench, "made");
    let label = |name: &str| serde_json::from_str::<Value>(made[name].as_str().unwrap()).unwrap();
    let order = json!([{ "group": [{ "id": "e2e/ext", "version": "1.0.0" }, { "id": "e2e/packed", "version": "1.0.0" }] }]);
    assert_eq!(label("io.buildpacks.buildpack.order-extensions"), order);
    let layers = label("io.buildpacks.extension.layers");
    assert_eq!(layers["e2e/packed"]["1.0.0"]["api"], "0.10");
    assert_eq!(
        layers["e2e/packed"],
        serde_json::from_str::<Value>(package["io.buildpacks.extension.layers"].as_str().unwrap()).unwrap()["e2e/packed"]
    );
    assert_eq!(label("io.buildpacks.builder.metadata")["extensions"].as_array().unwrap().len(), 2);
    for builder in ["oci:made", "builder.toml"] {
        let base = ["--builder", builder, "--run-image", "oci:run"];
        let planned = Done::of(bench.strata([&["plan", "app", "--json"], &base[..]].concat())).ok();
        let plan: Value = serde_json::from_str(&planned.stdout).unwrap();
        assert_eq!(plan["extensions"][1]["id"], "e2e/packed", "{plan}");
        assert_eq!(plan["generated"]["runImage"], "oci:chosen", "{plan}");
        let dockerfile =
            json!({ "extension": "e2e/packed@1.0.0", "kind": "run", "text": "FROM oci:chosen\n" });
        assert_eq!(plan["generated"]["dockerfiles"], json!([dockerfile]), "{plan}");
        let shown = Done::of(bench.strata([&["plan", "app"], &base[..]].concat())).ok();
        for text in
            ["pass  e2e/ext@1.0.0 (extension)", "  the run image is oci:chosen\n", "     | FROM oci:chosen\n"]
        {
            assert!(shown.stdout.contains(text), "{text}: {shown:#?}");
        }
        bench.build(&base, &[]).ok().says("e2e/packed 1.0.0");
        let lowest = |config: Value| config["rootfs"]["diff_ids"][0].clone();
        assert_eq!(lowest(bench.config()), lowest(config_of(&bench, "chosen")));
    }
    // Without an image to build in there is nothing that they belong to.
    bench.write("builder.toml", &text.replace("image = \"oci:base\"\n", ""));
    let done = bench.build(&["--builder", "builder.toml", "--run-image", "scratch"], &[]).ok();
    done.says("take no part without an image to build in");
    bench.write("builder.toml", &text);
    for (change, message) in [
        (
            text.replacen("id = \"e2e/packed\"", "id = \"e2e/none\"", 1),
            "the order names e2e/none, which is not among the extensions",
        ),
        (text.replace(first.to_str().unwrap(), buildpack.to_str().unwrap()), "it has no extension.toml"),
        (text.replace("id = \"e2e/ext\"\nuri", "id = \"e2e/x\"\nuri"), "and the extension at "),
    ] {
        bench.write("builder.toml", &change);
        let done = create("oci:refused");
        assert!(done.code != 0 && done.stderr.contains(message), "{message}: {done:#?}");
    }
}

#[test]
fn buildpacks_come_from_the_web() {
    let bench = Bench::new();
    let one = bench.add(&Buildpack::new("e2e/one").build("echo built by e2e/one"));
    fs::create_dir(bench.path("web")).unwrap();
    tool("tar", &["-czf", bench.path("web/one.tgz").to_str().unwrap(), "-C", one.to_str().unwrap(), "."]);
    Done::of(bench.strata(["buildpack", "package", "web/one.cnb", "--path", one.to_str().unwrap()])).ok();
    bench.write("web/junk.tgz", "no archive");
    let web = Web::serve(bench.path("web"));
    let url = |name: &str| format!("http://{}/{name}", web.host);
    let sum = tool("sha256sum", &[bench.path("web/one.tgz").to_str().unwrap()]);
    let sum = sum.split_whitespace().next().unwrap();
    let build = |buildpack: &str| bench.build(&["-b", buildpack], &[]);
    for name in
        [url("one.tgz").replace("http", "HTTP"), url("one.cnb"), format!("{}#sha256={sum}", url("one.tgz"))]
    {
        let done = build(&name).ok();
        assert_eq!(built_by(&done), ["e2e/one"], "{name}");
        assert_eq!(done.stdout.contains("others can change"), !name.contains('#'), "{done:#?}");
        // The last is what came first.
        assert_eq!(done.stderr.contains("Fetching http://"), !name.contains('#'), "{done:#?}");
        assert!(
            !done.stderr.contains("/proc/self/fd") && !done.stdout.contains("/proc/self/fd"),
            "{done:#?}"
        );
    }
    // In a builder's folder and in a project as well.
    bench.write(
        "folder/builder.toml",
        &format!(
            "[[buildpacks]]\nuri = \"{}\"\n[[order]]\n[[order.group]]\nid = \"e2e/one\"\n",
            url("one.tgz")
        ),
    );
    assert_eq!(built_by(&bench.build(&["--builder", "folder"], &[]).ok()), ["e2e/one"]);
    for (name, message) in [
        (
            format!("{}#sha256={}", url("one.tgz"), "0".repeat(64)),
            format!("it is sha256:{sum}, and sha256:000"),
        ),
        (url("none.tgz?token=hush"), "404".to_owned()),
        (url("junk.tgz?token=hush"), format!("cannot use the buildpack {}", url("junk.tgz"))),
        (url("junk.tgz?token=hush#md5=1"), "is not #sha256=".to_owned()),
        (url("junk.tgz#md5=1?token=hush"), "is not #sha256=".to_owned()),
        (format!("http://me:hush@{}/junk.tgz", web.host), format!("cannot fetch {}", url("junk.tgz"))),
    ] {
        let done = build(&name);
        assert!(done.code != 0 && done.stderr.contains(&message), "{done:#?}");
        assert!(!format!("{done:?}").contains("hush"), "{done:#?}");
        assert!(!done.stderr.contains("/proc/self/fd"), "{done:#?}");
    }
    // Nor does the kept log have a secret.
    let logs = fs::read_dir(bench.path("home/.local/state/strata/logs")).unwrap();
    for log in logs.map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap()) {
        assert!(!log.contains("hush") && !log.contains("/proc/self/fd"), "{log}");
    }
    assert!(web.asked.lock().unwrap().contains(&"/none.tgz?token=hush".to_owned()));
    bench.is_clean_soon();
}

#[test]
fn what_came_from_the_web_is_not_fetched_again_unless_it_is_another() {
    let bench = Bench::new();
    let (web_dir, archive) = (bench.path("web"), bench.path("web/b.tgz"));
    fs::create_dir(&web_dir).unwrap();
    let pack = |id: &str| {
        let dir = bench.add(&Buildpack::new(id).build(&format!("echo built by {id}")));
        tool("tar", &["-czf", archive.to_str().unwrap(), "-C", dir.to_str().unwrap(), "."]);
        usize::try_from(archive.metadata().unwrap().len()).unwrap()
    };
    let first = pack("e2e/first");
    let web = Web::serve(web_dir);
    let url = format!("http://{}/b.tgz?key=hush", web.host);
    let build = |args: &[&str]| {
        let done = bench.build(&[&["-b", &url], args].concat(), &[]).ok();
        let asked = std::mem::take(&mut *web.asked.lock().unwrap()).len();
        (built_by(&done).join(" "), asked, web.sent.swap(0, Ordering::SeqCst))
    };
    assert_eq!(build(&[]), ("e2e/first".to_owned(), 1, first));
    assert_eq!(build(&[]), ("e2e/first".to_owned(), 1, 0));
    let second = pack("e2e/second");
    assert_eq!(build(&["--pull-policy", "if-not-present"]), ("e2e/first".to_owned(), 0, 0));
    assert_eq!(build(&[]), ("e2e/second".to_owned(), 1, second));
    // What is damaged is no longer there.
    let kept = bench.path("home/.cache/strata/downloads");
    for entry in fs::read_dir(&kept).unwrap().map(|entry| entry.unwrap().path()) {
        assert!(!fs::read_to_string(&entry).unwrap_or_default().contains("hush"), "{}", entry.display());
        if entry.extension().is_none() {
            fs::write(&entry, "damaged").unwrap();
        }
    }
    assert_eq!(build(&[]), ("e2e/second".to_owned(), 1, second));
    let prune = |args: &[&str]| Done::of(bench.strata([&["builder", "prune"], args].concat())).ok();
    assert!(!prune(&["--unused-for", "1"]).stdout.contains("downloaded"));
    prune(&[]).says("Removed 2 downloaded files");
    assert_eq!(fs::read_dir(&kept).unwrap().count(), 0);
    assert_eq!(build(&[]), ("e2e/second".to_owned(), 1, second));
}

#[test]
fn a_run_image_of_a_daemon_is_compressed_once() {
    assert!(is_root(), "a private Docker can only be started by root: run this test as root");
    let bench = Bench::new();
    let buildpack =
        [bench.add(&Buildpack::new("e2e/one").build("layer one launch; echo 1 >$layers/one/file"))];
    let docker = Docker::start(&bench);
    let strata = |args: &[&str]| {
        let mut command = bench.strata(args);
        command.env("DOCKER_HOST", &docker.host);
        Done::of(command).ok()
    };
    Done::of(bench.build_command(&["-o", "base"], &buildpack)).ok();
    strata(&["copy", "oci:base", "docker:base"]);
    let build = || {
        let mut command = bench.build_command(&["-o", "out", "--run-image", "docker:base"], &buildpack);
        command.env("DOCKER_HOST", &docker.host);
        let done = Done::of(command).ok();
        fs::remove_dir_all(bench.path("out")).unwrap();
        done.digest().to_owned()
    };
    let kept = bench.path("home/.cache/strata/daemon");
    let blobs = || -> Vec<(PathBuf, u64)> {
        let image = fs::read_dir(&kept).unwrap().next().unwrap().unwrap().path().join("image/blobs/sha256");
        let blobs = fs::read_dir(image).unwrap().map(|entry| entry.unwrap().path());
        let mut blobs: Vec<_> = blobs.map(|path| (path.clone(), path.metadata().unwrap().ino())).collect();
        blobs.sort();
        blobs
    };
    let digest = build();
    let before = blobs();
    assert_eq!(build(), digest);
    assert_eq!(blobs(), before);
    // A half is made whole.
    fs::remove_file(&before.iter().max_by_key(|(path, _)| path.metadata().unwrap().len()).unwrap().0)
        .unwrap();
    assert_eq!(build(), digest);
    assert_eq!(blobs().len(), before.len());
    strata(&["builder", "prune"]).says("Removed 1 images of daemons");
    assert_eq!(build(), digest);
}

#[test]
fn buildpacks_come_from_the_buildpack_registry() {
    let bench = Bench::new();
    let registry = Registry::start(&bench);
    let mut lines = String::new();
    for version in ["1.9.0", "1.10.0"] {
        let dir =
            bench.add(&Buildpack::new("e2e/one").version(version).build(&format!("echo built by {version}")));
        let name = format!("{}/bp/one:{version}", registry.host);
        let done = Done::of(bench.strata([
            "buildpack",
            "package",
            &format!("registry:{name}"),
            "--path",
            dir.to_str().unwrap(),
        ]));
        let addr = format!("{}/bp/one@{}", registry.host, done.ok().digest());
        lines.push_str(&serde_json::json!({"ns": "e2e", "name": "one", "version": version, "yanked": false, "addr": addr}).to_string());
        lines.push('\n');
    }
    bench.write("index/3/on/e2e_one", &lines);
    bench.write("index/lo/os/e2e_loose", &lines.replace("\"one\"", "\"loose\"").replace("@sha256:", ":"));
    let web = Web::serve(bench.path("index"));
    let build = |buildpack: &str| {
        let mut command = bench.build_command(&["-t", "web", "-b", buildpack], &[]);
        command.env("STRATA_BUILDPACK_REGISTRY", format!("http://{}/", web.host));
        Done::of(command)
    };
    for (name, version) in [("", "1.10.0"), ("@1.9.0", "1.9.0")] {
        let done = build(&format!("urn:cnb:registry:e2e/one{name}")).ok();
        assert_eq!(built_by(&done), [version], "{done:#?}");
        done.says("The buildpack registry has e2e/one in ");
    }
    for (name, message) in [
        ("e2e/one@3.0.0", "there is no version 3.0.0; there are 1.9.0, 1.10.0"),
        ("e2e/none", "404"),
        ("e2e/loose", "it lists no image by its digest"),
    ] {
        let done = build(&format!("urn:cnb:registry:{name}"));
        assert!(done.code != 0 && done.stderr.contains(message), "{name}: {done:#?}");
    }
    drop(registry);
    bench.is_clean_soon();
}

#[test]
fn a_run_image_may_be_in_a_daemon() {
    assert!(is_root(), "a private Docker can only be started by root: run this test as root");
    let bench = Bench::new();
    let docker = Docker::start(&bench);
    Builder::new(&bench, "builder", &[teller(&bench)]).write();
    run_image(&bench);
    Done::of(bench.strata(["copy", "oci:run", "docker-archive:run.tar:some/run"])).ok();
    docker.run(&["load", "--input", bench.path("run.tar").to_str().unwrap()]).ok();
    let build = |run: &str| {
        let mut command =
            bench.build_command(&["-t", "web", "--builder", "oci:builder", "--run-image", run], &[]);
        command.env("DOCKER_HOST", &docker.host);
        Done::of(command)
    };
    let digest = build("docker:some/run").ok().digest();
    let layers = |config: Value| config["rootfs"]["diff_ids"].clone();
    let found = layers(bench.config());
    assert_eq!(build("docker:some/run").ok().digest(), digest);
    build("oci:run").ok();
    assert_eq!(layers(bench.config()), found);
    Done::of(bench.strata(["validate", "web", "--layout-dir", "images"])).ok().says("0 errors");
    let done = build("docker:some/none");
    assert!(
        done.code != 0 && done.stderr.contains("cannot use the run image 'docker:some/none'"),
        "{done:#?}"
    );
    drop(docker);
    bench.is_clean_soon();
}

#[test]
fn buildpackages_are_made_and_built_with() {
    let bench = Bench::new();
    base(&bench);
    run_image(&bench);
    let one = bench.add(&Buildpack::new("e2e/one").build("echo built by e2e/one"));
    let strata = |args: &[&str]| Done::of(bench.strata(args));
    let one = one.to_str().unwrap();
    let digest = strata(&["buildpack", "package", "one.cnb", "--path", one]).ok().digest();
    assert_eq!(strata(&["buildpack", "package", "oci:one", "--path", one]).ok().digest(), digest);
    let meta = "api = \"0.11\"\n[buildpack]\nid = \"e2e/meta\"\nversion = \"2\"\n";
    bench.add_meta("meta", &format!("{meta}{}", order(&["e2e_one@1.0.0".into()])));
    let done = strata(&["buildpack", "package", "meta.cnb", "--path", "buildpacks/meta"]);
    assert!(done.code != 0 && done.stderr.contains("e2e/one@1.0.0, which is not among"), "{done:#?}");
    bench.write(
        "package.toml",
        "[buildpack]\nuri = \"buildpacks/meta\"\n[[dependencies]]\nuri = \"one.cnb\"\n",
    );
    strata(&["buildpack", "package", "meta.cnb", "--config", "package.toml"]).ok();
    strata(&["validate", "oci-archive:meta.cnb"]).ok().says("good: 0 errors, 0 warnings");
    for (buildpack, builder) in [("one.cnb", "oci:base"), ("meta.cnb", "oci:base"), ("oci:one", "oci:base")] {
        let done = build(&bench, builder, &["--buildpack", buildpack]).ok();
        assert_eq!(built_by(&done), ["e2e/one"], "{buildpack}");
    }
    let done = strata(&["buildpack", "package", "x.cnb", "--path", "app"]);
    assert!(done.stderr.contains("it has no buildpack.toml") && !bench.path("x.cnb").exists(), "{done:#?}");
}

#[test]
fn unpacked_layers_are_removed_when_nobody_uses_them() {
    let bench = Bench::new();
    Builder::new(&bench, "builder", &[teller(&bench)]).write();
    build(&bench, "oci:builder", &[]).ok();
    let prune = |args: &[&str]| Done::of(bench.strata([&["builder", "prune"], args].concat())).ok();
    prune(&["--unused-for", "1"]).says("Removed 0 unpacked layers");
    prune(&[]).says("Removed 4 unpacked layers");
    let again = build(&bench, "oci:builder", &[]).ok();
    assert!(again.stderr.contains("Fetching 4 layers"), "{again:#?}");
}

#[test]
fn registries_are_asked_when_that_is_wanted() {
    let bench = Bench::new();
    run_image(&bench);
    let registry = Registry::start(&bench);
    let [builder, run] = ["builder", "run"].map(|name| format!("{}/{name}:v1", registry.host));
    let copy =
        |from: &str, to: &str| drop(Done::of(bench.strata(["copy", from, &format!("docker://{to}")])).ok());
    let write = |word: &str| {
        let buildpack = Buildpack::new("e2e/says").build(&format!("echo built by {word}"));
        Builder::new(&bench, word, &[bench.add(&buildpack)]).write();
        copy(&format!("oci:{word}"), &builder);
    };
    write("first");
    copy("oci:run", &run);
    let build = |policy: &str| {
        let args = ["--builder", &builder, "--run-image", &run, "--pull-policy", policy];
        bench.build(&args, &[])
    };
    assert_eq!(built_by(&build("if-not-present").ok()), ["first"]);
    write("second");
    assert_eq!(built_by(&build("if-not-present").ok()), ["first"]);
    let second = build("always").ok();
    assert_eq!(built_by(&second), ["second"]);
    // Nobody is asked.
    drop(registry);
    assert_eq!(build("if-not-present").ok().digest(), second.digest());
    assert_ne!(build("always").code, 0);
}

#[test]
fn a_build_without_a_network_needs_what_is_here_and_nothing_else() {
    let bench = Bench::new();
    run_image(&bench);
    let registry = Registry::start(&bench);
    let [builder, run] = ["builder", "run"].map(|name| format!("{}/{name}:v1", registry.host));
    Builder::new(&bench, "builder", &[teller(&bench)]).write();
    for (from, to) in [("oci:builder", &builder), ("oci:run", &run)] {
        Done::of(bench.strata(["copy", from, &format!("docker://{to}")])).ok();
    }
    let build = |name: &str| {
        let mut command = bench.strata(["build", "app", "--layout-dir", "images", "-t", name]);
        command.args(["--builder", &builder, "--run-image", &run, "--pull-policy", "if-not-present"]);
        Done::of(command)
    };
    let first = build("first").ok();
    drop(registry);
    let second = build("second").ok();
    assert_eq!(first.digest(), second.digest());
    assert!(!second.stderr.contains("Fetching"), "{second:#?}");
    let kept = bench.path("home/.cache/strata/run-images");
    // One that was killed while it fetched has left half of it.
    let layout = fs::read_dir(&kept).unwrap().next().unwrap().unwrap().path().join("image");
    fs::remove_file(layout.join("index.json")).unwrap();
    fs::remove_dir_all(layout.join("blobs")).unwrap();
    let missing = build("third");
    assert!(missing.code == 3 && missing.stderr.contains(&format!("the run image '{run}'")), "{missing:#?}");
    assert!(missing.stderr.contains("not all of its layers are here"), "{missing:#?}");
    assert!(built_by(&missing).is_empty() && !missing.stdout.contains("DETECT"), "{missing:#?}");
    // What the image that is replaced has need not be fetched.
    build("first").ok();
    assert_eq!(build("third").ok().digest(), first.digest());
    fs::remove_dir_all(bench.path("images")).unwrap();
    let prune = Done::of(bench.strata(["builder", "prune"])).ok();
    prune.says("Removed 1 run images");
    assert_eq!(fs::read_dir(&kept).unwrap().count(), 0);
    let missing = build("fourth");
    assert!(missing.code == 3 && missing.stderr.contains(&builder), "{missing:#?}");
    bench.is_clean_soon();
}

/// A builder whose lifecycle is scripts: they write down how they were called, and leave what a lifecycle leaves.
fn with_lifecycle(bench: &Bench, apis: &str, builder: &str) {
    let detector = r#"#!/usr/bin/env bash
        echo "detects with $CNB_PLATFORM_API: $*"
        while [ $# -gt 0 ]; do case $1 in -group) group=$2;; -plan) plan=$2;; -order) cat "$2";; -analyzed) cat "$2";; esac; shift 2; done
        printf '[[group]]\nid = "e2e/tells"\nversion = "1.0.0"\napi = "0.10"\n' >"$group"; touch "$plan"
        sleep 600 & disown"#;
    let write = |name: &str, text: &str| {
        let path = bench.path("lifecycle").join(name);
        bench.write(&format!("lifecycle/{name}"), text);
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    };
    write("detector", detector);
    write("builder", &format!("#!/usr/bin/env bash\n{builder}"));
    let mut image = Builder::new(bench, "builder", &[teller(bench)]);
    image.add(&tree(&bench.path("lifecycle"), "/cnb/lifecycle"));
    if !apis.is_empty() {
        let label = format!(
            r#"{{"lifecycle": {{"version": "7.7", "apis": {{"platform": {{"supported": [{apis}]}}}}}}}}"#
        );
        image.label("io.buildpacks.builder.metadata", &label);
    }
    image.write();
}

#[test]
fn the_lifecycle_of_a_builder_runs_where_it_is_asked_for() {
    let bench = Bench::new();
    let builder = r#"echo "builds: $*"; cd /layers
        mkdir -p e2e_tells/tool config; echo made >e2e_tells/tool/file
        printf '[types]\nlaunch = true\n' >e2e_tells/tool.toml
        printf '[[buildpacks]]\nid = "e2e/tells"\nversion = "1.0.0"\napi = "0.10"\n[[processes]]\ntype = "web"\ncommand = ["/x"]\ndirect = true\nbuildpack-id = "e2e/tells"\n' >config/metadata.toml"#;
    with_lifecycle(&bench, r#""0.9", "0.14", "0.99""#, builder);
    let theirs = ["--lifecycle", "builder"];
    let done = build(&bench, "oci:builder", &theirs).ok();
    done.says("Lifecycle of the builder: 7.7, with platform API 0.14");
    done.says(
        "detects with 0.14: -app /workspace -layers /layers -platform /platform -buildpacks /cnb/buildpacks",
    );
    done.says("id = \"e2e/tells\"");
    done.says("os = \"linux\"");
    done.says("builds: -app /workspace");
    let layers = bench.inspect()["layers"].to_string();
    assert!(layers.contains("'tool', Created by buildpack: e2e/tells@1.0.0"), "{layers}");
    let plan = |args: &[&str]| {
        let all = ["plan", "app", "--builder", "oci:builder", "--run-image", "oci:run"];
        Done::of(bench.strata([&all, &theirs[..], args].concat()))
    };
    let done = plan(&["--json"]).ok();
    let found: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(
        (&found["group"][0]["id"], found["tried"].as_array().unwrap().len()),
        (&"e2e/tells".into(), 0)
    );
    assert!(done.stderr.contains("detects with 0.14"), "{done:#?}");
    plan(&[]).ok().says("The builder's own detector does not tell groups apart");
    with_lifecycle(&bench, r#""0.14""#, "echo breaks; exit 51");
    let done = build(&bench, "oci:builder", &theirs);
    assert_eq!(done.code, 51, "{done:#?}");
    assert!(done.stderr.contains("/cnb/lifecycle/builder ended with exit status 51"), "{done:#?}");
    for (apis, word) in
        [(r#""0.99""#, "platform APIs 0.99, none"), ("", "neither a label nor a lifecycle.toml")]
    {
        with_lifecycle(&bench, apis, "exit 0");
        let done = build(&bench, "oci:builder", &theirs);
        assert!(done.code == 3 && done.stderr.contains(word), "{done:#?}");
    }
    let done = bench.build(&theirs, &[teller(&bench)]);
    assert!(done.code == 3 && done.stderr.contains("the builder is no image"), "{done:#?}");
    bench.is_clean_soon();
}

#[test]
fn a_cache_where_layers_cannot_be_is_told_with_what_helps() {
    assert!(is_root(), "only root can mount: run this test as root");
    let bench = Bench::new();
    let mut builder = Builder::new(&bench, "builder", &[teller(&bench)]);
    builder.file("/etc/.wh.passwd", "").write();
    run_image(&bench);
    for dir in ["l", "u", "w", "home/.cache"] {
        fs::create_dir_all(bench.path(dir)).unwrap();
    }
    // As in a container, whose own files are an overlay.
    let mut command = Command::new("unshare");
    let script = "mount -t overlay overlay -o lowerdir=l,upperdir=u,workdir=w home/.cache && exec \"$@\"";
    command.args([
        "--mount",
        "sh",
        "-c",
        script,
        "sh",
        env!("CARGO_BIN_EXE_strata"),
        "build",
        "app",
        "-t",
        "web",
    ]);
    command.args(["--builder", "oci:builder", "--run-image", "oci:run"]).current_dir(bench.path(""));
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", bench.path("home"));
    let done = Done::of(command);
    assert_ne!(done.code, 0, "{done:#?}");
    for word in ["cannot create the whiteout", "put the cache on a volume", "XDG_CACHE_HOME"] {
        assert!(done.stderr.contains(word), "{word}: {done:#?}");
    }
    bench.is_clean_soon();
}
