//! The phase `extend`: applies the Dockerfiles of image extensions to the root of the container that it runs in, which is
//! one of the image that is extended. A run image becomes a sparse layout; in a build image, the builder follows.

mod work;

use super::{Context, build, threads};
use crate::documents;
use crate::env::Environment;
use crate::leftovers;
use crate::privileges::{self, KANIKO_DIR};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use strata_decide::build::PASSED_ON;
use strata_layer::Packer;
use strata_oci::{Digest, ImageConfig};
use strata_phases::extend::{Extended, Here, Kept, build_id, dockerfiles};
use strata_phases::files::{self, Links};
use strata_phases::{Failure, Observer};
use strata_spec::analyzed::Analyzed;
use strata_spec::exit::Exit;
use strata_spec::extend::Kind;
use strata_store::{Layout, Store, StoreError, StoredImage, copy_blobs};
use work::Work;

/// Files that container engines make.
const MARKS: [&str; 3] = ["/.dockerenv", "/run/.containerenv", "/.containerenv"];
/// Words in the list of control groups or mounts of a process in a container.
const WORDS: [&str; 7] = ["docker", "kubepods", "containerd", "libpod", "crio", "lxc", "buildkit"];
/// The largest of these lists that is read, in bytes.
const MAX_LIST: usize = 4 << 20;

pub(super) fn run(context: &Context<'_>) -> Result<(), Failure> {
    let Context { inputs, log, .. } = context;
    let Some(kind) = Kind::of(&inputs.extend_kind) else {
        let kind = &inputs.extend_kind;
        return Err(Failure::new(
            Exit::InvalidArguments,
            format!("failed to extend: '{kind}' is no kind of image; expected build or run"),
        ));
    };
    check_place(context.environment)?;
    let analyzed = documents::analyzed(inputs, log).map_err(initialize)?;
    let base = base_image(&analyzed, kind)?;
    let work = Work::new(Path::new(KANIKO_DIR)).map_err(|error| {
        let what = format!("failed to extend {} image: cannot make a folder in {KANIKO_DIR}", kind.as_str());
        Failure::caused(Exit::Other, what, &error)
    })?;
    let layout = Layout::open_or_create(work.layers())
        .map_err(|error| failed(kind, "make a folder for layers", &error))?;
    let extended = {
        let _timer = log.timer("Extender");
        extend(context, kind, &base, &layout)?
    };
    match kind {
        Kind::Run => save(context, &base, &extended, &layout),
        Kind::Build => {
            work.close().map_err(|error| failed(kind, "remove the folder for layers", &error))?;
            build_here(context, &extended.config)
        }
    }
}

fn initialize(failure: Failure) -> Failure {
    let what = failure.message.trim_start_matches("failed to ").to_owned();
    let message = format!("failed to initialize extender: {what}");
    Failure { message, ..failure }
}

fn failed(kind: Kind, what: &str, error: &dyn std::error::Error) -> Failure {
    Failure::caused(Exit::Extend, format!("failed to extend {} image: cannot {what}", kind.as_str()), error)
}

/// What is changed is this machine's root: it had better be that of a container.
fn check_place(environment: &Environment) -> Result<(), Failure> {
    let refused = |message: &str| Failure::new(Exit::Extend, format!("failed to {message}"));
    if !privileges::is_root() {
        return Err(refused("extend an image: this process is not root")
            .hint("run the extender as root, in a container of the image"));
    }
    if !is_container(environment) {
        return Err(refused("extend an image: this is no container, and all files here would be changed")
            .hint("run the extender in a container of the image that is to be extended"));
    }
    if !Path::new(KANIKO_DIR).is_dir() {
        return Err(refused(&format!("extend an image: there is no {KANIKO_DIR}"))
            .hint("mount the folder there in which the restorer has put the image"));
    }
    Ok(())
}

fn is_container(environment: &Environment) -> bool {
    let is_said =
        ["container", "KUBERNETES_SERVICE_HOST"].iter().any(|name| environment.variable(name).is_some());
    let is_marked = MARKS.iter().any(|mark| Path::new(mark).exists());
    // What cannot be read says nothing.
    let text = |path: &str| files::read_bytes(Path::new(path), Links::Follow, MAX_LIST).ok().flatten();
    let lists = ["/proc/1/cgroup", "/proc/self/mountinfo"].map(|path| text(path).unwrap_or_default());
    let groups = String::from_utf8_lossy(&lists[0]);
    let mounts = String::from_utf8_lossy(&lists[1]);
    // On a host, too, there are mounts of containers: only the root counts.
    let root = mounts.lines().find(|line| line.split(' ').nth(4) == Some("/")).unwrap_or_default();
    is_said || is_marked || WORDS.iter().any(|word| groups.contains(word) || root.contains(word))
}

/// The image that is extended, where the restorer has put it.
fn base_image(analyzed: &Analyzed, kind: Kind) -> Result<StoredImage, Failure> {
    let reference = match kind {
        Kind::Build => analyzed.build_image.as_ref().map(|image| image.reference.as_str()),
        Kind::Run => analyzed.run_image.as_ref().map(|image| image.reference.as_str()),
    };
    let reference = reference.unwrap_or_default();
    let what = format!("failed to extend {} image: ", kind.as_str());
    let digest = reference.rsplit_once('@').and_then(|(_, digest)| digest.parse::<Digest>().ok());
    let Some(digest) = digest else {
        let message = format!("{what}analyzed.toml names it '{reference}', which has no digest");
        return Err(Failure::new(Exit::Extend, message)
            .hint("the restorer writes the digest, with -build-image for the build image; did it run?"));
    };
    let dir = Path::new(KANIKO_DIR).join("cache/base").join(digest.to_string());
    let stored = Layout::open(&dir).sparse().read_image();
    let stored = stored.map_err(|error| failed(kind, &format!("read {}", dir.display()), &error))?;
    let missing = || {
        Failure::new(Exit::Extend, format!("{what}there is no image in {}", dir.display()))
            .hint("the restorer puts it there; do both have the same folder at /kaniko?")
    };
    let stored = stored.ok_or_else(missing)?;
    if stored.manifest_digest != digest {
        let message = format!("{what}the image in {} is {}", dir.display(), stored.manifest_digest);
        return Err(Failure::new(Exit::Extend, message));
    }
    Ok(stored)
}

fn extend(
    context: &Context<'_>,
    kind: Kind,
    base: &StoredImage,
    layout: &Layout,
) -> Result<Extended, Failure> {
    let Context { inputs, log, api, environment, .. } = context;
    let group = documents::group(inputs)?;
    let absolute = |path: &Path| environment.current_dir.join(path);
    let found =
        dockerfiles(&absolute(&inputs.generated_dir), &inputs.app_dir, &group.group_extensions, kind, *api)?;
    leftovers::adopt().map_err(|error| failed(kind, "adopt processes", &error))?;
    let end_leftovers = || {
        leftovers::end().unwrap_or_else(|error| {
            log.warn(format!("cannot end leftover processes: {error}"));
            0
        })
    };
    let dirs = [
        &inputs.app_dir,
        &inputs.layers_dir,
        &inputs.platform_dir,
        &inputs.generated_dir,
        &inputs.extended_dir,
    ];
    let mut skip: BTreeSet<PathBuf> = dirs.into_iter().map(|dir| absolute(dir)).collect();
    skip.extend([KANIKO_DIR, "/var/run", "/proc", "/sys", "/dev"].map(PathBuf::from));
    let passed_on = PASSED_ON.iter().filter(|name| name.to_ascii_lowercase().ends_with("_proxy"));
    let variables: Vec<_> = passed_on
        .filter_map(|name| Some(((*name).to_owned(), environment.variable(name)?.to_owned())))
        .collect();
    let kept = Kept {
        dir: Path::new(KANIKO_DIR).join("cache/layers/strata"),
        reads: true,
        writes: true,
        newer_than: Some((age(context), SystemTime::now())),
    };
    let here = Here {
        kind,
        base,
        found: &found,
        build_id: &build_id()?,
        skip: &skip,
        kept: &kept,
        store: layout,
        packer: &Packer::new(threads()),
        variables: &variables,
        end_leftovers: &end_leftovers,
    };
    here.run(*log)
}

/// How old a kept layer may be.
fn age(context: &Context<'_>) -> Duration {
    let nanos = context.inputs.kaniko_cache_ttl.nanos;
    // A negative one keeps nothing.
    Duration::from_nanos(u64::try_from(nanos).unwrap_or_default())
}

/// Writes the extended run image where the exporter looks for it: without the layers of the run image.
fn save(
    context: &Context<'_>,
    base: &StoredImage,
    extended: &Extended,
    layout: &Layout,
) -> Result<(), Failure> {
    let what = |error: &StoreError| failed(Kind::Run, "keep the extended image", error);
    let image = extended.image(&base.image);
    let encoded = image.encode().map_err(|error| failed(Kind::Run, "describe the extended image", &error))?;
    let parent = context.environment.current_dir.join(&context.inputs.extended_dir).join("run");
    // One that is left from before would be taken for this one.
    files::remove(&parent).map_err(|error| failed(Kind::Run, "remove an earlier extended image", &error))?;
    let dir = parent.join(encoded.manifest_digest.to_string());
    let to = Layout::open_or_create(&dir).map_err(|error| what(&error))?.sparse();
    let blobs = extended.layers.iter().map(|extra| (&extra.layer.descriptor, layout as &dyn Store));
    copy_blobs(&to, blobs, |_, _| Ok::<(), StoreError>(())).map_err(|error| what(&error))?;
    to.put_image(&encoded, &[]).map_err(|error| what(&error))?;
    context.log.debug(format!("Final extended image has digest: {}", encoded.manifest_digest));
    Ok(())
}

/// Becomes the user of the build, with what the extended image says of the environment, and builds.
fn build_here(context: &Context<'_>, config: &ImageConfig) -> Result<(), Failure> {
    let Context { inputs, api, modes, environment, log, .. } = context;
    let user = privileges::become_builder(inputs)?;
    let environment = with(environment, config);
    build::run(&Context {
        api: *api,
        inputs: inputs.clone(),
        images: None,
        modes: *modes,
        user: Some(user),
        environment: &environment,
        log,
    })
}

/// An environment with the variables of an image, which come first.
fn with(environment: &Environment, config: &ImageConfig) -> Environment {
    let mut variables = environment.variables.clone();
    let mut all_variables = environment.all_variables.clone();
    for (name, value) in config.env() {
        variables.insert(name.to_owned(), value.to_owned());
        all_variables.retain(|(other, _)| other != name);
        all_variables.push((name.into(), value.into()));
    }
    Environment {
        program: environment.program.clone(),
        arguments: environment.arguments.clone(),
        variables,
        all_variables,
        current_dir: environment.current_dir.clone(),
    }
}
