//! A place for one test: all that a platform gives to the phases, in a folder of its own.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;

use rustix::fs::Mode;
use strata_layer::{Compression, Content, GeneratedEntry, Owner, Source, UnpackOptions};
use strata_oci::{Descriptor, Digest, History, Image, Layer};
use strata_spec::{BuildpackApi, PlatformApi};
use strata_store::{Embedded, Layout, Store, StoredImage};
use tempfile::TempDir;

/// All Platform APIs, oldest first.
pub(crate) const PLATFORM: &[PlatformApi] = PlatformApi::ALL;
/// All Buildpack APIs, oldest first.
pub(crate) const BUILDPACK: &[BuildpackApi] = BuildpackApi::ALL;
/// When images are made that do not say otherwise.
pub(crate) const CREATED: &str = "1980-01-01T00:00:01Z";

const PROGRAMS: &[&str] =
    &["analyzer", "detector", "restorer", "builder", "exporter", "creator", "rebaser", "extender"];

/// What a phase said, and how it ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Outcome {
    /// The log of a phase that succeeded.
    #[track_caller]
    pub(crate) fn ok(&self) -> &str {
        assert_eq!((self.code, self.err.as_str()), (0, ""), "{}", self.out);
        &self.out
    }

    /// The log of a phase that failed, with this code and these words in its error.
    #[track_caller]
    pub(crate) fn fails(&self, code: i32, words: &[&str]) -> &str {
        let error = self.out.rsplit_once("ERROR: ").map(|(_, error)| error).unwrap_or_default();
        assert_eq!(self.code, code, "expected {words:?} in {}", self.out);
        for word in words {
            assert!(error.contains(word), "{word:?} is not in the error of {}", self.out);
        }
        &self.out
    }
}

/// A buildpack of small shell scripts.
pub(crate) struct Buildpack {
    id: String,
    version: String,
    api: String,
    in_buildpack: String,
    rest: String,
    detect: Option<String>,
    build: Option<String>,
}

impl Buildpack {
    /// One that takes part and does nothing, of version 1.
    pub(crate) fn new(id: &str, api: impl ToString) -> Self {
        Self {
            id: id.to_owned(),
            version: "1".to_owned(),
            api: api.to_string(),
            in_buildpack: String::new(),
            rest: String::new(),
            detect: Some(String::new()),
            build: Some(String::new()),
        }
    }

    /// Another version.
    pub(crate) fn version(mut self, version: &str) -> Self {
        self.version = version.to_owned();
        self
    }

    /// What `bin/detect` does; `$2` is the plan.
    pub(crate) fn detect(mut self, script: &str) -> Self {
        self.detect = Some(script.to_owned());
        self
    }

    /// What `bin/build` does, in a shell where `$L` is the folder of its layers, `$P` the platform's, `$B` the plan.
    pub(crate) fn build(mut self, script: &str) -> Self {
        self.build = Some(script.to_owned());
        self
    }

    /// More keys of `[buildpack]`.
    pub(crate) fn key(mut self, toml: &str) -> Self {
        self.in_buildpack.push_str(toml);
        self.in_buildpack.push('\n');
        self
    }

    /// Further tables of `buildpack.toml`.
    pub(crate) fn table(mut self, toml: &str) -> Self {
        self.rest.push_str(toml);
        self.rest.push('\n');
        self
    }

    /// A composite of these groups.
    pub(crate) fn of(mut self, groups: &[&[&str]]) -> Self {
        (self.detect, self.build) = (None, None);
        self.table(&order(groups))
    }
}

/// An image extension of small shell scripts.
pub(crate) struct Extension {
    id: String,
    api: String,
    rest: String,
    detect: Option<String>,
    generate: Option<String>,
    files: Vec<(String, String)>,
}

impl Extension {
    /// One that takes part and does nothing, of version 1, without programs.
    pub(crate) fn new(id: &str, api: impl ToString) -> Self {
        let (id, api, rest) = (id.to_owned(), api.to_string(), String::new());
        Self { id, api, rest, detect: None, generate: None, files: Vec::new() }
    }

    /// What `bin/detect` does; `$2` is the plan.
    pub(crate) fn detect(mut self, script: &str) -> Self {
        self.detect = Some(script.to_owned());
        self
    }

    /// What `bin/generate` does, in a shell where `$O` is the folder for what it generates, `$P` the platform's, `$B` the plan.
    pub(crate) fn generate(mut self, script: &str) -> Self {
        self.generate = Some(script.to_owned());
        self
    }

    /// A file in its folder.
    pub(crate) fn file(mut self, path: &str, text: &str) -> Self {
        self.files.push((path.to_owned(), text.to_owned()));
        self
    }

    /// More keys of `[extension]`, and further tables of `extension.toml`.
    pub(crate) fn toml(mut self, text: &str) -> Self {
        self.rest.push_str(text);
        self.rest.push('\n');
        self
    }
}

/// `[[order]]` and `[[order-extensions]]` of groups as in [`order`].
pub(crate) fn order_with(groups: &[&[&str]], extensions: &[&[&str]]) -> String {
    order(groups) + &order(extensions).replace("[[order", "[[order-extensions")
}

/// `[[order]]` of groups whose elements are ids, `?` after optional ones, `@` before versions that are not 1.
pub(crate) fn order(groups: &[&[&str]]) -> String {
    let mut text = String::new();
    for group in groups {
        text.push_str("[[order]]\n");
        for element in *group {
            let (element, optional) = element.strip_suffix('?').map_or((*element, false), |e| (e, true));
            let (id, version) = element.split_once('@').unwrap_or((element, "1"));
            text.push_str(&format!(
                "[[order.group]]\nid = \"{id}\"\nversion = \"{version}\"\noptional = {optional}\n"
            ));
        }
    }
    text
}

/// The place of one test.
pub(crate) struct World {
    dir: TempDir,
    env: BTreeMap<String, String>,
}

impl World {
    /// A place with an app, a launcher, a cache and the run image `run`, at a Platform API.
    pub(crate) fn new(api: impl ToString) -> Self {
        // Modes of files are compared: the user's umask must not matter.
        static UMASK: Once = Once::new();
        UMASK.call_once(|| {
            rustix::process::umask(Mode::from_raw_mode(0o022));
        });
        let dir = tempfile::Builder::new().prefix("conformance.").tempdir().unwrap();
        let mut world = Self { dir, env: BTreeMap::new() };
        for (variable, path) in [
            ("CNB_LAYERS_DIR", "layers"),
            ("CNB_APP_DIR", "app"),
            ("CNB_PLATFORM_DIR", "platform"),
            ("CNB_BUILDPACKS_DIR", "buildpacks"),
            ("CNB_EXTENSIONS_DIR", "extensions"),
            ("CNB_BUILD_CONFIG_DIR", "build-config"),
            ("CNB_CACHE_DIR", "cache"),
            ("CNB_LAYOUT_DIR", "images"),
            ("HOME", "home"),
            ("TMPDIR", "tmp"),
        ] {
            fs::create_dir(world.path(path)).unwrap();
            world.set(variable, world.path(path).to_str().unwrap().to_owned());
        }
        for (variable, path) in [
            ("CNB_ORDER_PATH", "order.toml"),
            ("CNB_RUN_PATH", "run.toml"),
            ("CNB_STACK_PATH", "stack.toml"),
            ("CNB_SYSTEM_PATH", "system.toml"),
        ] {
            world.set(variable, world.path(path).to_str().unwrap().to_owned());
        }
        let (uid, gid) = user();
        for (variable, value) in [
            ("CNB_PLATFORM_API", api.to_string().as_str()),
            ("CNB_USE_LAYOUT", "true"),
            ("CNB_EXPERIMENTAL_MODE", "quiet"),
            ("CNB_NO_COLOR", "true"),
            ("CNB_USER_ID", &uid.to_string()),
            ("CNB_GROUP_ID", &gid.to_string()),
            ("PATH", "/usr/local/bin:/usr/bin:/bin"),
            ("TZ", "UTC"),
            ("LC_ALL", "C"),
        ] {
            world.set(variable, value);
        }
        fs::create_dir(world.path("bin")).unwrap();
        for program in PROGRAMS {
            symlink(env!("CARGO_BIN_EXE_lifecycle"), world.path("bin").join(program)).unwrap();
        }
        world.write("app/file", "the app\n");
        world.write("launcher", "the launcher\n");
        world.write("run.toml", "[[images]]\nimage = \"run\"\nmirrors = [\"mirror.example.com/run\"]\n");
        world.write("stack.toml", "[run-image]\nimage = \"run\"\nmirrors = [\"mirror.example.com/run\"]\n");
        world.run_image("run", |_| {});
        world
    }

    /// A path in this place.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    /// Sets a variable for all phases.
    pub(crate) fn set(&mut self, variable: &str, value: impl Into<String>) {
        self.env.insert(variable.to_owned(), value.into());
    }

    /// Unsets a variable.
    pub(crate) fn unset(&mut self, variable: &str) {
        self.env.remove(variable);
    }

    /// Writes a file, and the folders above it.
    pub(crate) fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn program(&self, path: &str, text: &str) {
        self.write(path, format!("#!/bin/sh\nset -eu\n{text}\n"));
        fs::set_permissions(self.path(path), PermissionsExt::from_mode(0o755)).unwrap();
    }

    /// Reads a file.
    #[track_caller]
    pub(crate) fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// Whether there is something at a path.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.path(path).symlink_metadata().is_ok()
    }

    /// Removes a file or a folder.
    pub(crate) fn remove(&self, path: &str) {
        let path = self.path(path);
        let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
        removed.unwrap();
    }

    /// Reads a TOML document.
    #[track_caller]
    pub(crate) fn toml(&self, path: &str) -> toml::Table {
        self.read(path).parse().unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// Adds a buildpack.
    pub(crate) fn add(&self, buildpack: &Buildpack) {
        let Buildpack { id, version, api, in_buildpack, rest, .. } = buildpack;
        let dir = format!("buildpacks/{}/{version}", id.replace('/', "_"));
        let descriptor = format!(
            "api = \"{api}\"\n[buildpack]\nid = \"{id}\"\nversion = \"{version}\"\n{in_buildpack}\n{rest}"
        );
        self.write(&format!("{dir}/buildpack.toml"), descriptor);
        if let Some(script) = &buildpack.detect {
            self.program(&format!("{dir}/bin/detect"), script);
        }
        if let Some(script) = &buildpack.build {
            self.program(&format!("{dir}/bin/build"), &format!("L=$1 P=$2 B=$3\n{script}"));
        }
    }

    /// Adds an image extension.
    pub(crate) fn extend(&self, extension: &Extension) {
        let Extension { id, api, rest, .. } = extension;
        let dir = format!("extensions/{}/1", id.replace('/', "_"));
        let descriptor = format!("api = \"{api}\"\n[extension]\nid = \"{id}\"\nversion = \"1\"\n{rest}");
        self.write(&format!("{dir}/extension.toml"), descriptor);
        if let Some(script) = &extension.detect {
            self.program(&format!("{dir}/bin/detect"), script);
        }
        if let Some(script) = &extension.generate {
            self.program(&format!("{dir}/bin/generate"), &format!("O=$1 P=$2 B=$3\n{script}"));
        }
        for (path, text) in &extension.files {
            self.write(&format!("{dir}/{path}"), text);
        }
    }

    /// Writes `order.toml`; see [`order`].
    pub(crate) fn order(&self, groups: &[&[&str]]) {
        self.write("order.toml", order(groups));
    }

    /// Adds one buildpack, and makes it the whole order.
    pub(crate) fn only(&self, buildpack: &Buildpack) {
        self.add(buildpack);
        self.order(&[&[&format!("{}@{}", buildpack.id, buildpack.version)]]);
    }

    /// Runs a phase, and for root those that refuse root as the user who builds.
    #[track_caller]
    pub(crate) fn run(&self, program: &str, arguments: &[&str]) -> Outcome {
        finish(program, &mut self.prepared(program, arguments))
    }

    /// A phase that only has to be started.
    pub(crate) fn prepared(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = self.command(program, arguments);
        if is_root() {
            let (uid, gid) = user();
            give(self.dir.path(), uid, gid);
            // The others become that user themselves.
            if ["detector", "builder"].contains(&program) {
                command.uid(uid).gid(gid);
            }
        }
        command
    }

    /// Runs a phase as oneself, who is root.
    #[track_caller]
    pub(crate) fn run_as_root(&self, program: &str) -> Outcome {
        finish(program, &mut self.command(program, &[]))
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.path("bin").join(program));
        command.args(arguments).env_clear().envs(&self.env).current_dir(self.dir.path());
        command
    }

    /// Exports `app`, or what else is named by the last arguments.
    #[track_caller]
    pub(crate) fn export(&self, arguments: &[&str]) -> Outcome {
        let all = ["-launcher", "launcher"].into_iter().chain(arguments.iter().copied());
        self.run("exporter", &all.collect::<Vec<_>>())
    }

    /// Runs the phases up to and including one, all of which succeed; gives the log of the last.
    #[track_caller]
    pub(crate) fn until(&self, last: &str) -> String {
        for program in ["analyzer", "detector", "restorer", "builder", "exporter"] {
            let outcome = match program {
                "analyzer" => self.run(program, &["app"]),
                "exporter" => self.export(&["app"]),
                _ => self.run(program, &[]),
            };
            let log = outcome.ok();
            if program == last {
                return log.to_owned();
            }
        }
        panic!("{last} is none of the five phases");
    }

    /// Empties the layers directory, as platforms do before the next build.
    pub(crate) fn next_build(&self) {
        self.remove("layers");
        fs::create_dir(self.path("layers")).unwrap();
    }

    /// Runs detector and builder, with nothing analyzed.
    #[track_caller]
    pub(crate) fn build(&self) -> Outcome {
        self.run("detector", &[]).ok();
        self.run("builder", &[])
    }

    fn layout(&self, name: &str) -> Layout {
        Embedded::new(self.path("images")).layout_for(&name.parse().unwrap())
    }

    /// Makes a run image of two layers for Debian 12, changed as told.
    pub(crate) fn run_image(&self, name: &str, change: impl FnOnce(&mut Image)) {
        let layout = Layout::open_or_create(self.layout(name).dir()).unwrap();
        let mut image = Image::empty("linux", strata_store::host_architecture());
        for file in [format!("{name} lower"), format!("{name} upper")] {
            image.append(layer(&layout, &file));
        }
        let config = image.config_mut();
        config.set_env("PATH", "/run/bin:/bin");
        for (label, value) in [
            ("io.buildpacks.base.id", "example/debian"),
            ("io.buildpacks.base.distro.name", "debian"),
            ("io.buildpacks.base.distro.version", "12"),
            ("io.buildpacks.stack.id", "example.stack"),
        ] {
            config.set_label(label, value);
        }
        change(&mut image);
        layout.put_image(&image.encode().unwrap(), &[]).unwrap();
    }

    /// Reads an image.
    #[track_caller]
    pub(crate) fn image(&self, name: &str) -> StoredImage {
        self.layout(name).read_image().unwrap().unwrap_or_else(|| panic!("there is no image {name}"))
    }

    /// The layers of an image, lowest first.
    #[track_caller]
    pub(crate) fn diff_ids(&self, name: &str) -> Vec<Digest> {
        self.image(name).image.layers().iter().map(|layer| layer.diff_id).collect()
    }

    /// A label of an image, which is JSON.
    #[track_caller]
    pub(crate) fn label(&self, name: &str, label: &str) -> serde_json::Value {
        let image = self.image(name);
        let text = image.image.config().label(label).unwrap_or_else(|| panic!("{name} has no {label}"));
        serde_json::from_str(text).unwrap()
    }

    /// The label `io.buildpacks.lifecycle.metadata` of `app`.
    #[track_caller]
    pub(crate) fn metadata(&self) -> serde_json::Value {
        self.label("app", "io.buildpacks.lifecycle.metadata")
    }

    /// The label `io.buildpacks.build.metadata` of `app`.
    #[track_caller]
    pub(crate) fn build_metadata(&self) -> serde_json::Value {
        self.label("app", "io.buildpacks.build.metadata")
    }

    /// The files of one layer of `app`, by their paths in the image without this place's own; for links, where to.
    #[track_caller]
    pub(crate) fn files(&self, diff_id: &str) -> BTreeMap<String, String> {
        let diff_id: Digest = diff_id.parse().unwrap();
        let app = self.image("app");
        let layer = app.image.layers().iter().find(|layer| layer.diff_id == diff_id).unwrap();
        let blob = self.layout("app").open_blob(&layer.descriptor).unwrap().unwrap();
        let mut tar = strata_layer::open_layer(blob).unwrap();
        let dir = TempDir::new_in(self.path("tmp")).unwrap();
        strata_layer::unpack(&mut tar, dir.path(), &UnpackOptions::default()).unwrap();
        let mut files = BTreeMap::new();
        list(dir.path(), &mut |path| {
            let seen = Path::new("/").join(path.strip_prefix(dir.path()).unwrap());
            let seen = seen.strip_prefix(self.dir.path()).map(Path::to_owned).unwrap_or(seen);
            let text = match path.read_link() {
                Ok(target) => target.display().to_string(),
                Err(_not_a_link) => {
                    let mut text = String::new();
                    fs::File::open(path).unwrap().read_to_string(&mut text).unwrap();
                    text
                }
            };
            files.insert(seen.display().to_string(), text);
        });
        files
    }
}

/// Runs a phase to its end. None of them may panic, whatever it is given.
#[track_caller]
fn finish(program: &str, command: &mut Command) -> Outcome {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    let code = output.status.code().unwrap_or_else(|| panic!("{program} was killed: {out}{err}"));
    assert!(code != 101 && !err.contains("panicked"), "{program} panicked: {out}{err}");
    Outcome { code, out, err }
}

/// Calls `each` with all that is no folder.
fn list(dir: &Path, each: &mut dyn FnMut(&Path)) {
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            list(&entry.path(), each);
        } else {
            each(&entry.path());
        }
    }
}

/// Stores a layer of one file that holds its own name.
fn layer(layout: &Layout, name: &str) -> Layer {
    let source = Source::Generated(vec![GeneratedEntry {
        name: format!("/{name}"),
        mode: 0o644,
        owner: Owner::ROOT,
        content: Content::Bytes(name.as_bytes().to_vec()),
    }]);
    let mut sink = layout.begin_blob().unwrap();
    let packed = strata_layer::pack(&source, Compression::Gzip, 1, &mut sink).unwrap();
    sink.commit(&packed.digest, packed.size).unwrap();
    Layer {
        descriptor: Descriptor::new(strata_oci::media_type::OCI_LAYER_GZIP, packed.digest, packed.size),
        diff_id: packed.diff_id,
        history: Some(History { created_by: Some(format!("made {name}")), ..History::default() }),
    }
}

/// Whether the tests run as root.
pub(crate) fn is_root() -> bool {
    rustix::process::getuid().is_root()
}

/// Who builds: oneself, or for root the first other user of this machine, since the creator looks it up.
pub(crate) fn user() -> (u32, u32) {
    if !is_root() {
        return (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    }
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    let ids = |line: &str| {
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    passwd.lines().filter_map(ids).find(|(uid, _)| *uid != 0).expect("/etc/passwd has a user besides root")
}

fn give(path: &Path, uid: u32, gid: u32) {
    let metadata = path.symlink_metadata().unwrap();
    // Even to give a file to its owner is a change of it.
    if (metadata.uid(), metadata.gid()) != (uid, gid) {
        lchown(path, Some(uid), Some(gid)).unwrap();
    }
    if metadata.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            give(&entry.unwrap().path(), uid, gid);
        }
    }
}
