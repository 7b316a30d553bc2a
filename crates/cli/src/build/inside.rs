//! What runs inside the sandbox: detection and build, exactly where the buildpacks are. What happens goes to the
//! program outside, one JSON event a line.

use super::base::is_name_of;
use super::said::{
    APP, BUILD_CONFIG, BUILDPACKS, EXTENSIONS, Generated, LAYERS, PLATFORM, Pipe, Said, Scope, Task,
};
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
use strata_phases::detect::{Detected, Surroundings};
use strata_phases::export::{Parents, Place, Trees};
use strata_phases::files::FileError;
use strata_phases::ground::{Apart, Ground, GroundError, Written};
use strata_phases::origins::Given;
use strata_phases::process::Invocation;
use strata_phases::seal::{self, Sealing};
use strata_phases::{Event, Failure, Observer, build, detect, files, generate};
use strata_spec::PlatformApi;
use strata_spec::exit::Exit;
use strata_spec::group::{Group, GroupElement};
use strata_spec::order::{OrderElement, OrderFile, OrderGroup};
use strata_spec::plan::Plan;
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
    let groups = |all: &[Vec<_>]| {
        all.iter().map(|group| OrderGroup { group: group.iter().map(element).collect() }).collect()
    };
    let order = OrderFile { order: groups(&task.order), order_extensions: groups(&task.order_extensions) };
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
    let extensions_dir = (!order.order_extensions.is_empty()).then_some(around.extensions_dir);
    let catalog = detect::catalog(around.buildpacks_dir, extensions_dir)?;
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
    if task.scope == Scope::Build {
        return built(task, &detected_before()?, &around, observer);
    }
    let detected = detect::run(&order, &catalog, &around, observer)?;
    end_leftovers("bin/detect", observer);
    write_detected(&detected)?;
    if task.scope == Scope::Detection {
        return generated(task, &detected, &around, observer);
    }
    built(task, &detected, &around, observer)
}

fn end_leftovers(of: &str, observer: &dyn Observer) {
    let left_over = strata_sandbox::kill_leftovers();
    if left_over > 0 {
        observer.warn(format!("{of} left {left_over} process(es) running; they were ended"));
    }
}

fn write_detected(detected: &Detected) -> Result<(), Failure> {
    let layers = Path::new(LAYERS);
    files::write(&layers.join("group.toml"), &detected.group.to_toml())
        .and_then(|()| files::write(&layers.join("plan.toml"), &detected.plan.to_toml()))
        .map_err(|error| Failure::caused(Exit::Other, "failed to write the outcome of detection", &error))
}

/// What an earlier sandbox of this build detected.
fn detected_before() -> Result<Detected, Failure> {
    let failed = |error: FileError| {
        Failure::caused(Exit::Build, "failed to build: cannot read the outcome of detection", &error)
    };
    let layers = Path::new(LAYERS);
    let group = files::read(&layers.join("group.toml"), Group::parse).map_err(failed)?;
    let plan = files::read(&layers.join("plan.toml"), Plan::parse).map_err(failed)?;
    Ok(Detected { group: group.unwrap_or_default(), plan: plan.unwrap_or_default() })
}

/// Lets image extensions generate what the program outside then applies.
fn generated(
    task: &Task,
    detected: &Detected,
    around: &Surroundings<'_>,
    observer: &Inside<'_>,
) -> Result<(), Failure> {
    if detected.group.group_extensions.is_empty() {
        return Ok(());
    }
    let input = generate::Input {
        group: &detected.group,
        plan: &detected.plan,
        around,
        generated_dir: &Path::new(LAYERS).join("generated"),
        run_image: Some(&task.run_image),
        is_known: &|name| task.known_run_images.iter().any(|known| is_name_of(known, name)),
    };
    let made = generate::run(&input, observer)?;
    end_leftovers("bin/generate", observer);
    write_detected(&Detected { group: detected.group.clone(), plan: made.plan })?;
    let extends_run = made.run_image.is_some_and(|run_image| run_image.extend);
    observer.pipe.say(&Said::Generated(Generated { run_image: made.new_run_image, extends_run }));
    Ok(())
}

fn built(
    task: &Task,
    detected: &Detected,
    around: &Surroundings<'_>,
    observer: &Inside<'_>,
) -> Result<(), Failure> {
    let layers = Path::new(LAYERS);
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
    let built = build::run(detected, around, &choice, &sealing, given.as_ref(), &ground, observer)?;
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
