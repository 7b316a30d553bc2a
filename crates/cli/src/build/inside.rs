//! What runs inside the sandbox: detection and build, exactly where the buildpacks are. What happens goes to the
//! program outside, one JSON event a line.

use super::said::{APP, BUILD_CONFIG, BUILDPACKS, EXTENSIONS, LAYERS, PLATFORM, Pipe, Said, Task};
use super::shell;
use super::theirs::Theirs;
use crate::workplace::threads;
use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use strata_decide::detect::{BuildTarget, home_of, os_release};
use strata_decide::seal::Choice;
use strata_layer::Owner;
use strata_oci::{BadCompression, Compression};
use strata_phases::detect::Surroundings;
use strata_phases::export::{Parents, Place, Trees};
use strata_phases::ground::{Apart, Ground, GroundError, Written};
use strata_phases::origins::Given;
use strata_phases::process::Invocation;
use strata_phases::seal::{self, Sealing};
use strata_phases::{Event, Failure, Observer, build, detect, files};
use strata_spec::PlatformApi;
use strata_spec::exit::Exit;
use strata_spec::group::GroupElement;
use strata_spec::order::{OrderElement, OrderFile, OrderGroup};
use strata_spec::sealed::Policy;

/// Where programs are looked for in an image that does not say.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Process 1 of the sandbox, as it is heard outside.
struct Inside<'a> {
    pipe: &'a Pipe,
    /// What kind of terminal a person has who wants a shell when a build fails.
    terminal: Option<&'a str>,
}

impl Observer for Inside<'_> {
    fn event(&self, event: Event) {
        self.pipe.event(event);
    }

    fn hears_detect(&self) -> bool {
        true
    }

    fn failed(&self, buildpack: &str, invocation: &Invocation) {
        if let Some(terminal) = self.terminal {
            shell::here(buildpack, invocation, terminal, self.pipe);
        }
    }
}

/// Process 1 of the sandbox; its exit code.
pub(crate) fn run(task: &Task, events: File) -> i32 {
    let pipe = Pipe::new(events);
    match phases(task, &Inside { pipe: &pipe, terminal: task.debug_shell.as_deref() }) {
        Ok(()) => 0,
        Err(failure) => {
            let code = failure.exit.code();
            pipe.event(Event::Failed(failure));
            code.into()
        }
    }
}

/// The distribution of the build environment, for a run image that names none.
fn host_distro() -> Result<Option<(String, String)>, Failure> {
    let path = Path::new("/etc/os-release");
    let bytes = files::read_bytes(path, files::Links::Follow, 64 * 1024)
        .map_err(|error| Failure::caused(Exit::Detect, "cannot find out the distribution", &error))?;
    Ok(bytes.and_then(|bytes| os_release(&String::from_utf8_lossy(&bytes))))
}

/// The variables, with what container engines add where an image does not say otherwise.
fn variables(task: &Task) -> Result<Vec<(OsString, OsString)>, Failure> {
    let mut variables: Vec<(OsString, OsString)> =
        task.variables.iter().map(|(name, value)| (name.into(), value.into())).collect();
    let is_absent = |wanted: &str| !task.variables.iter().any(|(name, _)| name == wanted);
    if task.is_image && is_absent("PATH") {
        variables.push(("PATH".into(), DEFAULT_PATH.into()));
    }
    if task.is_image && is_absent("HOME") {
        let passwd = files::read_bytes(Path::new("/etc/passwd"), files::Links::Follow, 4 << 20)
            .map_err(|error| Failure::caused(Exit::Detect, "cannot find out the user's home", &error))?;
        let passwd = passwd.unwrap_or_default();
        let uid = rustix::process::getuid().as_raw();
        variables.push(("HOME".into(), home_of(&String::from_utf8_lossy(&passwd), uid).into()));
    }
    Ok(variables)
}

/// Has the program outside bring what earlier builds left.
fn wait_for_layers(group: &[GroupElement], pipe: &Pipe) -> Result<(), Failure> {
    pipe.say(&Said::Waiting(group.to_vec()));
    shell::Unbuffered(std::io::stdin()).read_exact(&mut [0]).map_err(|error| {
        Failure::caused(Exit::Other, "the program outside the sandbox does not answer", &error)
    })
}

fn phases(task: &Task, observer: &Inside<'_>) -> Result<(), Failure> {
    let element = |(id, version, optional): &(String, String, bool)| OrderElement {
        id: id.clone(),
        version: version.clone(),
        optional: *optional,
    };
    let groups = task.order.iter().map(|group| OrderGroup { group: group.iter().map(element).collect() });
    let order = OrderFile { order: groups.collect(), ..OrderFile::default() };
    let target = BuildTarget {
        os: task.os.clone(),
        arch: task.arch.clone(),
        variant: task.variant.clone(),
        distro: match &task.distro {
            Some(distro) => Some(distro.clone()),
            None => host_distro()?,
        },
        exec_env: task.exec_env.clone(),
    };
    let variables = variables(task)?;
    let around = Surroundings {
        buildpacks_dir: Path::new(BUILDPACKS),
        extensions_dir: Path::new(EXTENSIONS),
        app_dir: Path::new(APP),
        platform_dir: Path::new(PLATFORM),
        layers_dir: Path::new(LAYERS),
        temp_dir: Path::new("/tmp"),
        variables: &variables,
        target: &target,
        build_config_dir: Path::new(BUILD_CONFIG),
        api: PlatformApi::NEWEST,
    };
    let catalog = detect::catalog(around.buildpacks_dir, None)?;
    if let Some(described) = &task.theirs {
        let theirs = Theirs::find(described, &order.order, &target, &variables, observer)?;
        if task.is_plan {
            observer.pipe.say(&Said::Explained(Box::new(theirs.explain(observer)?)));
            return Ok(());
        }
        wait_for_layers(&theirs.detect(observer)?, observer.pipe)?;
        return theirs.build(observer);
    }
    if task.is_plan {
        let explained = detect::explain(&order, &catalog, &around)?;
        strata_sandbox::kill_leftovers();
        observer.pipe.say(&Said::Explained(Box::new(explained)));
        return Ok(());
    }
    let detected = detect::run(&order, &catalog, &around, observer)?;
    let left_over = strata_sandbox::kill_leftovers();
    if left_over > 0 {
        observer.warn(format!("bin/detect left {left_over} process(es) running; they were ended"));
    }
    let layers = Path::new(LAYERS);
    files::write(&layers.join("group.toml"), &detected.group.to_toml())
        .and_then(|()| files::write(&layers.join("plan.toml"), &detected.plan.to_toml()))
        .map_err(|error| Failure::caused(Exit::Other, "failed to write the outcome of detection", &error))?;
    wait_for_layers(&detected.group.group, observer.pipe)?;
    let operator = match &task.operator {
        Some(operator) => operator.clone(),
        None => seal::operators_word(around.build_config_dir)?,
    };
    let choice = Choice { asked: task.sealed_layers, default: Policy::Discard, operator };
    let asked =
        task.compression.as_deref().map(str::parse).transpose().map_err(|error: BadCompression| {
            Failure::caused(Exit::InvalidArguments, "cannot seal layers", &error)
        })?;
    let compression = asked.unwrap_or(Compression::Gzip);
    let sealing = Sealing {
        trees: Trees {
            layers: Place { real: layers, seen: LAYERS },
            owner: Owner { uid: task.owner.0, gid: task.owner.1 },
            parents: Parents::Fixed,
        },
        compression,
        threads: threads(),
        previous: task.previous.as_ref(),
    };
    let given = task.is_reported.then(|| Given::here(Vec::new()));
    let ground = Sandboxed::begin();
    let built = build::run(&detected, &around, &choice, &sealing, given.as_ref(), &ground, observer)?;
    built.finish(observer).map(drop)
}

/// The sandbox, for those who watch what buildpacks do.
struct Sandboxed(Result<Layers, String>);

/// What sets the layers directory apart.
struct Layers(Mutex<strata_sandbox::Apart>);

impl Sandboxed {
    fn begin() -> Self {
        let begun = strata_sandbox::Apart::begin(Path::new(LAYERS));
        Self(begun.map(|apart| Layers(Mutex::new(apart))).map_err(|error| error.to_string()))
    }
}

impl Ground for Sandboxed {
    fn end_leftovers(&self) -> usize {
        strata_sandbox::kill_leftovers()
    }

    fn apart(&self) -> Result<&dyn Apart, GroundError> {
        match &self.0 {
            Ok(layers) => Ok(layers),
            Err(why) => Err(GroundError::new(why.as_str())),
        }
    }
}

impl Layers {
    fn lock(&self) -> std::sync::MutexGuard<'_, strata_sandbox::Apart> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Apart for Layers {
    fn set(&self, but: &[PathBuf]) -> Result<(), GroundError> {
        self.lock().set(but).map_err(GroundError::new)
    }

    fn written(&self) -> Result<Option<Written>, GroundError> {
        let written = self.lock().written().map_err(GroundError::new)?;
        let of = |strata_sandbox::Written { folder, before, upper }| Written { folder, before, upper };
        Ok(written.map(of))
    }

    fn lift(&self) -> Result<(), GroundError> {
        self.lock().lift().map_err(GroundError::new)
    }

    fn see_below(&self) -> Result<(), GroundError> {
        strata_sandbox::see_below().map_err(GroundError::new)
    }
}
