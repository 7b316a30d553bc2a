//! One builder image makes the same image of an app without Docker and in it: with the creator, and with the five phases, each
//! in a container of its own.

use crate::bench::{Bench, Buildpack, Done, is_root, tool};
use crate::builders::{Builder, run_image, tree};
use crate::docker::Docker;
use crate::registry::Registry;
use crate::release::release;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// The user of the builder.
const USER: &str = "1234:1235";
/// Layers of every type, with what is in archives: folders, links, programs, empty files, variables, SBOM files.
fn tools() -> Buildpack {
    Buildpack::new("e2e/tools").toml("sbom-formats = [\"application/vnd.cyclonedx+json\"]\n").build(
        r#"
        layer both launch build cache
        mkdir -p "$layers/both/bin" "$layers/both/env" "$layers/both/deep/er"
        cp "$0" "$layers/both/bin/tool"
        [[ -h $layers/both/deep/link ]] || (cd "$layers/both/deep"; cp -s ../bin/tool link)
        >"$layers/both/deep/er/empty"
        echo -n both >"$layers/both/env/WORD.default"
        echo '{"bomFormat": "CycloneDX", "specVersion": "1.4"}' >"$layers/both.sbom.cdx.json"
        layer compiler build
        mkdir -p "$layers/compiler/bin"; cp "$0" "$layers/compiler/bin/compile"
        layer downloads cache
        echo something >"$layers/downloads/archive"
        "#,
    )
}

/// Processes, slices, labels, and what the app has to be changed for.
fn server() -> Buildpack {
    Buildpack::new("e2e/server").build(
        r#"
        echo "word: $WORD"; compile=$(command -v compile)
        layer program launch
        mkdir -p "$layers/program/bin" "$layers/program/env.launch/web" "$layers/program/exec.d"
        cp "$compile" "$layers/program/bin/serve"; cp "$compile" "$layers/program/exec.d/helper"
        echo -n 1 >"$layers/program/env.launch/COUNT.append"
        echo -n here >"$layers/program/env.launch/web/PLACE.override"
        echo compiled >public/made
        cat >"$layers/launch.toml" <<'TOML'
[[processes]]
type = "web"
command = ["serve", "--port"]
args = ["80"]
default = true
[[processes]]
type = "worker"
command = ["serve"]
working-dir = "/workspace/public"
[[slices]]
paths = ["public/**"]
[[slices]]
paths = ["assets/*", "link"]
[[labels]]
key = "of.the.app"
value = "yes"
TOML
        "#,
    )
}

fn app(bench: &Bench) {
    for (name, text) in
        [("public/index.html", "hello"), ("assets/one", "1"), ("assets/two", "2"), ("main", "")]
    {
        bench.write(&format!("app/{name}"), text);
    }
    fs::set_permissions(bench.path("app/main"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink("public/index.html", bench.path("app/link")).unwrap();
}

/// The programs of a release, with the launcher that this build of the program puts into images: `image` has it.
fn lifecycle(bench: &Bench) -> PathBuf {
    let dir = bench.path("programs");
    fs::create_dir(&dir).unwrap();
    let path = |path: &Path| path.display().to_string();
    tool("tar", &["-xzf", &path(release()), "-C", &path(&dir)]);
    let image = bench.inspect();
    let layers = image["layers"].as_array().unwrap();
    let is_launcher = |layer: &&Value| layer["createdBy"] == "Buildpacks Application Launcher";
    let digest = layers.iter().find(is_launcher).unwrap()["digest"].as_str().unwrap();
    let blob = digest.replace(':', "/");
    let web = bench.path("images/index.docker.io/library/web/latest/blobs").join(blob);
    tool("tar", &["-xzf", &path(&web), "-C", &path(&dir)]);
    fs::copy(dir.join("cnb/lifecycle/launcher"), dir.join("lifecycle/launcher")).unwrap();
    // The phases put what they know of themselves beside what buildpacks say; the program has one document of all.
    for entry in fs::read_dir(dir.join("lifecycle")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "json") {
            fs::remove_file(path).unwrap();
        }
    }
    dir.join("lifecycle")
}

/// A platform on Docker.
struct Platform<'a> {
    bench: &'a Bench,
    docker: &'a Docker,
    builder: String,
    run: String,
}

impl Platform<'_> {
    /// Runs programs of the builder in one container each, which have volumes in common; empty ones, and the app.
    fn run(&self, name: &str, user: &str, programs: &[&[&str]]) {
        let dir = self.bench.path("volumes").join(name);
        let mut options = vec![
            "run",
            "--rm",
            "--network=host",
            "--tmpfs=/tmp",
            "--env=CNB_PLATFORM_API=0.15",
            "--user",
            user,
        ];
        let socket = self.docker.host.replace("unix://", "--volume=") + ":/var/run/docker.sock";
        if user == "0" {
            options.push(&socket);
        }
        let volumes = ["layers", "workspace", "platform", "cache"].map(|volume| {
            fs::create_dir_all(dir.join(volume)).unwrap();
            format!("--volume={}:/{volume}", dir.join(volume).display())
        });
        options.extend(volumes.iter().map(String::as_str));
        let dir = dir.display().to_string();
        tool(
            "cp",
            &["-a", &(self.bench.path("app").display().to_string() + "/."), &(dir.clone() + "/workspace")],
        );
        tool("chown", &["-R", USER, &dir]);
        for program in programs {
            let (name, args) = program.split_first().unwrap();
            let entry = format!("--entrypoint=/cnb/lifecycle/{name}");
            let done = self.docker.run(&[&options[..], &[&entry, &self.builder], args].concat());
            assert_eq!(done.code, 0, "{program:?}: {done:#?}");
        }
    }
}

/// What is to be the same in all of them: the layers, and the configuration but for what differs by design.
fn compared(config: &Value) -> Value {
    let own = &config["config"];
    let mut labels = own["Labels"].as_object().unwrap().clone();
    // The program knows where the app comes from. Platforms say it in a document that these phases do not get.
    labels.remove("io.buildpacks.app.source");
    labels.remove("io.buildpacks.project.metadata");
    let mut parsed = |name: &str| -> Value {
        serde_json::from_str(labels.remove(name).unwrap().as_str().unwrap()).unwrap()
    };
    let (mut build, mut lifecycle) =
        (parsed("io.buildpacks.build.metadata"), parsed("io.buildpacks.lifecycle.metadata"));
    // Programs that were compiled on their own name another commit, or none.
    let commit = build["launcher"]["source"]["git"]["commit"].take();
    assert!(commit.is_string(), "{build}");
    // The program names the run image by the name that it was given, and phases by what they found: by its digest in a
    // registry, by its id in a daemon.
    let reference = lifecycle["runImage"]["reference"].take();
    assert!(reference.as_str().is_some_and(|reference| !reference.is_empty()), "{lifecycle}");
    // Phases say what else it is called where the builder has a `run.toml` that does, and this one has none.
    for own in ["/runImage", "/stack/runImage"] {
        lifecycle.pointer_mut(own).unwrap()["image"].take();
    }
    let keys = ["User", "Env", "Entrypoint", "Cmd", "WorkingDir"];
    json!({
        "diff_ids": config["rootfs"]["diff_ids"],
        "config": keys.map(|key| &own[key]),
        "labels": labels,
        "build": build,
        "lifecycle": lifecycle,
    })
}

#[test]
fn a_builder_makes_the_same_layers_without_docker_as_the_phases_do_in_it() {
    assert!(is_root(), "a private Docker can only be started by root: run this test as root");
    let bench = Bench::new();
    let (registry, docker) = (Registry::start(&bench), Docker::start(&bench));
    let name = |tail: &str| format!("{}/{tail}", registry.host);
    let strata = |args: &[&str]| Done::of(bench.strata(args)).ok();
    let run = name("base/run:v1");
    strata(&["copy", run_image(&bench), &format!("docker://{run}")]);
    app(&bench);
    let mut builder = Builder::new(&bench, "builder", &[bench.add(&tools()), bench.add(&server())]);
    builder.write();
    let build =
        || bench.build(&["--builder", "oci:builder", "--run-image", &format!("docker://{run}")], &[]).ok();
    let first = build();
    builder.add(&tree(&lifecycle(&bench), "/cnb/lifecycle"));
    builder.write();
    // No program of the builder's lifecycle has anything to do with it.
    assert_eq!(build().digest(), first.digest());
    let ours = compared(&bench.config());

    let platform = Platform { bench: &bench, docker: &docker, builder: name("some/builder:v1"), run };
    strata(&["copy", "oci:builder", &format!("docker://{}", platform.builder)]);
    docker.run(&["pull", "--quiet", &platform.builder]).ok();
    let image = name("apps/phases:v1");
    platform.run(
        "phases",
        USER,
        &[
            &["analyzer", "-run-image", &platform.run, &image],
            &["detector", "-app", "/workspace"],
            &["restorer", "-cache-dir", "/cache"],
            &["builder", "-app", "/workspace"],
            &["exporter", "-app", "/workspace", "-cache-dir", "/cache", &image],
        ],
    );
    let inspected =
        tool("skopeo", &["inspect", "--config", "--tls-verify=false", &format!("docker://{image}")]);
    assert_eq!(ours, compared(&serde_json::from_str(&inspected).unwrap()));

    docker.run(&["pull", "--quiet", &platform.run]).ok();
    let image = "apps/creator:v1";
    let dirs = ["creator", "-daemon", "-app", "/workspace", "-cache-dir", "/cache"];
    platform.run("creator", "0", &[&[&dirs[..], &["-run-image", &platform.run, image]].concat()]);
    let inspected: Value = serde_json::from_str(&docker.run(&["inspect", image]).ok().stdout).unwrap();
    let image = &inspected[0];
    let diff_ids = json!({ "diff_ids": image["RootFS"]["Layers"] });
    assert_eq!(ours, compared(&json!({ "rootfs": diff_ids, "config": image["Config"] })));
    drop((docker, registry));
    bench.is_clean_soon();
}
