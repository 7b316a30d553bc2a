//! The detect phase: runs `bin/detect` of each group's buildpacks until a group passes.

mod explain;

pub use crate::environment::Surroundings;
use crate::environment::{self, Own};
use crate::event::{Event, Level, Observer};
use crate::failure::Failure;
use crate::files;
use crate::process::{self, Ended, Invocation, Lines};
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread::ScopedJoinHandle;
use std::time::Instant;
use strata_decide::detect::{
    Catalog, DetectRun, Element, Kind, Line, Modules, Trial, WalkError, judge, walk,
};
use strata_decide::plan::Complaint;
use strata_launch::env::Env;
use strata_spec::buildpack::{Descriptor, escape_id};
use strata_spec::doc::DocError;
use strata_spec::exit::Exit;
use strata_spec::extension;
use strata_spec::group::Group;
use strata_spec::order::{OrderElement, OrderFile};
use strata_spec::plan::{BuildPlan, Plan};
use strata_spec::{BuildpackApi, api::ApiError};

pub use explain::{Draft, Drafted, Explained, Told, Tried, explain};

/// The most that is kept of what one `bin/detect` says, in bytes.
const MAX_OUTPUT: usize = 1 << 20;

/// What passed.
#[derive(Debug, Clone, PartialEq)]
pub struct Detected {
    /// The buildpacks that take part.
    pub group: Group,
    /// Who provides what for whom.
    pub plan: Plan,
}

/// Reads the descriptors of the buildpacks in `<buildpacks>`, each `<escaped id>/<version>/buildpack.toml`, and of the
/// image extensions in `<extensions>`, if there are to be any.
///
/// # Errors
/// When a folder cannot be read. A broken descriptor is an error for whoever asks for that buildpack.
pub fn catalog(buildpacks_dir: &Path, extensions_dir: Option<&Path>) -> Result<Catalog, Failure> {
    Ok(Catalog {
        buildpacks: modules(buildpacks_dir, Kind::Buildpack, Descriptor::parse)?,
        extensions: extensions_dir
            .map_or(Ok(Modules::new()), |dir| modules(dir, Kind::Extension, extension::Descriptor::parse))?,
    })
}

fn modules<D>(
    dir: &Path,
    kind: Kind,
    parse: impl Fn(&str) -> Result<D, DocError>,
) -> Result<Modules<D>, Failure> {
    let failed =
        |error: files::FileError| Failure::caused(Exit::Detect, format!("failed to read {kind}s"), &error);
    let mut all = Modules::new();
    for id_dir in files::list_dirs(dir).map_err(failed)? {
        for version_dir in files::list_dirs(&id_dir).map_err(failed)? {
            let found = files::read_given(&version_dir.join(descriptor_name(kind)), &parse).transpose();
            let Some(found) = found else { continue };
            let key = (file_name(&id_dir), file_name(&version_dir));
            let chain = |error| Failure::caused(Exit::Detect, "its descriptor is broken", &error).chain();
            all.insert(key, found.map_err(chain));
        }
    }
    Ok(all)
}

fn descriptor_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Buildpack => "buildpack.toml",
        Kind::Extension => "extension.toml",
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The Buildpack API of a group element.
///
/// # Errors
/// When it is malformed or not supported.
pub fn buildpack_api(label: &str, api: &str) -> Result<BuildpackApi, Failure> {
    module_api(Kind::Buildpack, label, api)
}

/// The Buildpack API of a buildpack or an extension.
///
/// # Errors
/// When it is malformed or not supported.
pub fn module_api(kind: Kind, label: &str, api: &str) -> Result<BuildpackApi, Failure> {
    let name = match kind {
        Kind::Buildpack => "Buildpack",
        Kind::Extension => "Extension",
    };
    api.parse().map_err(|error: ApiError| match error {
        ApiError::Malformed(text) => Failure::new(
            Exit::BuildpackApi,
            format!("failed to parse buildpack API '{text}' for {kind} '{label}'"),
        ),
        ApiError::Unsupported { found, supported } => Failure::new(
            Exit::BuildpackApi,
            format!(
                "failed to set API for {name} '{label}': \
                 buildpack API version '{found}' is incompatible with the lifecycle"
            ),
        )
        .hint(format!("supported are {supported}")),
    })
}

/// Refuses an order whose groups name buildpacks or extensions of unknown APIs, before any of them is run.
///
/// # Errors
/// [`Exit::BuildpackApi`], or [`Exit::Other`] when one is not there or broken.
pub fn check_apis(order: &OrderFile, catalog: &Catalog) -> Result<(), Failure> {
    for element in order.order.iter().flat_map(|group| &group.group) {
        check_api(Kind::Buildpack, element, &catalog.buildpacks, |descriptor| &descriptor.api)?;
    }
    for element in order.order_extensions.iter().flat_map(|group| &group.group) {
        check_api(Kind::Extension, element, &catalog.extensions, |descriptor| &descriptor.api)?;
    }
    Ok(())
}

fn check_api<D>(
    kind: Kind,
    element: &OrderElement,
    modules: &Modules<D>,
    api: impl Fn(&D) -> &str,
) -> Result<BuildpackApi, Failure> {
    let label = format!("{}@{}", element.id, element.version);
    match modules.get(&(escape_id(&element.id), element.version.clone())) {
        Some(Ok(descriptor)) => module_api(kind, &label, api(descriptor)),
        Some(Err(reason)) => {
            let message = format!("failed to initialize detector: cannot use {kind} '{label}'");
            Err(Failure { causes: vec![reason.clone()], ..Failure::new(Exit::Other, message) })
        }
        None => {
            let message = format!("failed to initialize detector: there is no {kind} '{label}'");
            Err(Failure::new(Exit::Other, message))
        }
    }
}

/// Runs the phase.
///
/// # Errors
/// [`Exit::DetectFailed`] when no group passes, [`Exit::DetectError`] when in addition a buildpack erred,
/// [`Exit::BuildpackApi`] when one asks for an API that is not supported, [`Exit::Detect`] otherwise.
pub fn run(
    order: &OrderFile,
    catalog: &Catalog,
    around: &Surroundings<'_>,
    observer: &dyn Observer,
) -> Result<Detected, Failure> {
    let started = Instant::now();
    observer.event(Event::PhaseStarted { phase: "detect".into() });
    let mut log: Vec<Line> = Vec::new();
    let mut tried = 0;
    let mut errors = BTreeSet::new();
    let trial = try_order(order, catalog, around, Some(observer), &mut |mut attempt| {
        tried = attempt.elements.len();
        errors.extend(attempt.elements.iter().zip(attempt.runs).filter_map(error_of));
        log.append(&mut attempt.log);
    })?;
    let (passed, exit, cause) = match trial {
        Trial::Passed(passed) => (Some(passed), Exit::Other, ""),
        Trial::Failed => (None, Exit::DetectFailed, "no buildpacks participating"),
        Trial::Errored => (None, Exit::DetectError, "buildpack(s) failed with err"),
    };
    replay(&log, passed.is_none(), observer);
    let Some((group, plan)) = passed else {
        let has_error = exit == Exit::DetectError;
        observer.event(Event::NothingDetected { has_error, errors: errors.into_iter().collect() });
        let failure = Failure::new(exit, format!("failed to detect: {cause}"));
        return Err(failure.hint(match has_error {
            true => "what each buildpack said, and which erred, stands above",
            false => "check the app folder; what each buildpack looks for and said stands above",
        }));
    };
    let check = strata_spec::group::check;
    check(&group.group).and_then(|()| check(&group.group_extensions)).map_err(|error| {
        Failure::caused(Exit::Detect, "failed to detect: the group cannot be built", &error)
    })?;
    let (buildpacks, extensions) = (group.group.clone(), group.group_extensions.clone());
    observer.event(Event::Detected { buildpacks, extensions, tried });
    let millis = started.elapsed().as_millis().try_into().unwrap_or(u64::MAX);
    observer.event(Event::PhaseFinished { phase: "detect".into(), millis });
    Ok(Detected { group, plan })
}

/// A group that was tried.
struct Attempt<'a> {
    elements: &'a [Element],
    runs: &'a [DetectRun],
    has_passed: bool,
    complaints: BTreeSet<Complaint>,
    log: Vec<Line>,
}

/// Tries one group after the other until one passes, and tells of each. What buildpacks say is heard at once.
fn try_order(
    order: &OrderFile,
    catalog: &Catalog,
    around: &Surroundings<'_>,
    heard_by: Option<&dyn Observer>,
    tell: &mut dyn FnMut(Attempt<'_>),
) -> Result<Trial<(Group, Plan)>, Failure> {
    let known: Mutex<HashMap<Key, DetectRun>> = Mutex::default();
    let mut attempt = |elements: &[Element]| -> Result<_, Failure> {
        let runs = &run_group(elements, around, heard_by, &known)?;
        let (mut log, mut complaints) = (Vec::new(), BTreeSet::new());
        let trial = judge(elements, runs, &mut log, &mut complaints);
        let has_passed = matches!(trial, Trial::Passed(_));
        tell(Attempt { elements, runs, has_passed, complaints, log });
        Ok(trial)
    };
    walk(order, catalog, around.target, around.api, &mut attempt).map_err(|error| match error {
        WalkError::Try(failure) => failure,
        WalkError::Missing(kind, _) => {
            let failure = Failure::new(Exit::Detect, format!("failed to detect: {error}"));
            let keys: Vec<&(String, String)> = match kind {
                Kind::Buildpack => catalog.buildpacks.keys().collect(),
                Kind::Extension => catalog.extensions.keys().collect(),
            };
            let labels: Vec<String> = keys.iter().map(|(id, version)| format!("{id}@{version}")).collect();
            failure.hint(match labels.as_slice() {
                [] => format!("no {kind} is at hand; those of the order are to be added to the builder"),
                some => format!(
                    "at hand are {}; mend the order, or add the {kind} to the builder",
                    some.join(", ")
                ),
            })
        }
        other => Failure::new(Exit::Detect, format!("failed to detect: {other}")),
    })
}

/// How a buildpack erred, if it did.
fn error_of((element, run): (&Element, &DetectRun)) -> Option<String> {
    let label = element.buildpack.label();
    let what = match (&run.error, run.code) {
        (Some(error), _) => error.clone(),
        (None, 0 | 100) => return None,
        (None, code) => format!("bin/detect ended with exit status {code}"),
    };
    let said = String::from_utf8_lossy(&run.output);
    let said = process::without_colours(&said);
    let last = said.lines().rev().map(str::trim).find(|line| !line.is_empty());
    Some(format!(
        "{label}: {what}{}",
        last.map_or_else(String::new, |last| format!("; its last words: {last}"))
    ))
}

/// When nothing passed, everything is of interest.
fn replay(log: &[Line], failed: bool, observer: &dyn Observer) {
    use strata_decide::detect::Level as Of;
    for (level, text) in log {
        let level = match level {
            _ if failed => Level::Info,
            Of::Info => Level::Info,
            Of::Output if observer.hears_detect() => continue,
            Of::Debug | Of::Output => Level::Debug,
        };
        observer.event(Event::Message { level, text: text.clone() });
    }
}

/// Kind and `id@version`.
type Key = (Kind, String);

fn key(element: &Element) -> Key {
    (element.kind, element.buildpack.label())
}

/// Runs the `bin/detect` of a group side by side; a buildpack is run once, however many groups it is in.
fn run_group(
    elements: &[Element],
    around: &Surroundings<'_>,
    heard_by: Option<&dyn Observer>,
    known: &Mutex<HashMap<Key, DetectRun>>,
) -> Result<Vec<DetectRun>, Failure> {
    let lock = || known.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let missing: Vec<&Element> = elements.iter().filter(|e| !lock().contains_key(&key(e))).collect();
    let fresh: Vec<Result<(Key, DetectRun), Failure>> = std::thread::scope(|scope| {
        let run = |element: &Element| Ok((key(element), detect_one(element, around, heard_by)?));
        // The outcome, or the thread that will have it.
        let start = |element| match std::thread::Builder::new().spawn_scoped(scope, move || run(element)) {
            Ok(thread) => Err(thread),
            // There is no room for another thread, so this one does it.
            Err(_) => Ok(run(element)),
        };
        let started: Vec<_> = missing.into_iter().map(start).collect();
        let join = |thread: ScopedJoinHandle<'_, _>| {
            thread.join().unwrap_or_else(|_| {
                Err(Failure::new(Exit::Detect, "a detect thread panicked; please report this"))
            })
        };
        started.into_iter().map(|started| started.unwrap_or_else(join)).collect()
    });
    for result in fresh {
        let (key, run) = result?;
        lock().insert(key, run);
    }
    let known = lock();
    Ok(elements.iter().map(|e| known.get(&key(e)).cloned().unwrap_or_default()).collect())
}

fn detect_one(
    element: &Element,
    around: &Surroundings<'_>,
    heard_by: Option<&dyn Observer>,
) -> Result<DetectRun, Failure> {
    let label = element.buildpack.label();
    let api = module_api(element.kind, &label, &element.buildpack.api)?;
    if let Some(reason) = &element.unfit {
        return Ok(DetectRun { code: -1, error: Some(reason.clone()), ..DetectRun::default() });
    }
    let temp = tempfile::Builder::new().prefix("plan.").tempdir_in(around.temp_dir);
    let outcome = temp.and_then(|temp| detect_process(element, api, around, heard_by, temp.path()));
    Ok(outcome.unwrap_or_else(|error| {
        let failure = Failure::caused(Exit::Detect, format!("cannot run bin/detect of {label}"), &error);
        let program = dir_of(element, around);
        let failure = match process::not_started(&program.join("bin/detect"), &error) {
            Some((cause, hint)) => Failure { causes: vec![format!("{cause} ({hint})")], ..failure },
            None => failure,
        };
        DetectRun { code: -1, error: Some(failure.chain()), ..DetectRun::default() }
    }))
}

fn dir_of(element: &Element, around: &Surroundings<'_>) -> PathBuf {
    around.module_dir(element.kind, &element.buildpack.id, &element.buildpack.version)
}

/// Whether user-provided variables are kept away from a module's programs.
pub(crate) fn wants_clear_env(kind: Kind, dir: &Path) -> io::Result<bool> {
    let path = dir.join(descriptor_name(kind));
    let clear = match kind {
        Kind::Buildpack => files::read_given(&path, Descriptor::parse)
            .map(|descriptor| descriptor.is_some_and(|d| d.buildpack.clear_env)),
        Kind::Extension => files::read_given(&path, extension::Descriptor::parse)
            .map(|descriptor| descriptor.is_some_and(|d| d.extension.clear_env)),
    };
    clear.map_err(io::Error::other)
}

/// What was read of a plan: a plan, or what is wrong with it.
fn outcome(
    element: &Element,
    run: DetectRun,
    plan: Result<Option<BuildPlan>, files::FileError>,
) -> DetectRun {
    let is_extension = element.kind == Kind::Extension;
    match plan.map(Option::unwrap_or_default) {
        Ok(plan) if is_extension && plan.has_requires() => {
            let error =
                format!("extension {} outputs \"requires\" which is not allowed", element.buildpack.id);
            DetectRun { code: -1, error: Some(error), ..run }
        }
        Ok(plan) => DetectRun { plan, ..run },
        Err(error) => {
            let failure = Failure::caused(Exit::Detect, "the build plan of bin/detect is wrong", &error);
            DetectRun { code: -1, error: Some(failure.chain()), ..run }
        }
    }
}

fn detect_process(
    element: &Element,
    api: BuildpackApi,
    around: &Surroundings<'_>,
    heard_by: Option<&dyn Observer>,
    temp: &Path,
) -> io::Result<DetectRun> {
    let plan_path = temp.join("plan.toml");
    std::fs::write(&plan_path, "")?;
    let dir = dir_of(element, around);
    // An extension may have no program, and says what it would have written.
    if element.kind == Kind::Extension && !dir.join("bin/detect").try_exists()? {
        let plan = files::read_given(&dir.join("detect/plan.toml"), BuildPlan::parse);
        return Ok(outcome(element, DetectRun::default(), plan));
    }
    let mut env = environment::base(around.variables);
    let clear = wants_clear_env(element.kind, &dir)?;
    environment::add_given(&mut env, around, clear).map_err(io::Error::other)?;
    let invocation = detect_invocation(element.kind, &dir, around, &plan_path, env, api);
    let (mut output, mut lines) = (Vec::new(), Lines::default());
    let heard_by = heard_by.filter(|observer| observer.hears_detect());
    let mut on_line = |line| {
        if let Some(observer) = heard_by {
            observer.event(Event::DetectOutput { buildpack: element.buildpack.label(), line });
        }
    };
    let run = process::run(&invocation, &mut |bytes| {
        let room = MAX_OUTPUT.saturating_sub(output.len()).min(bytes.len());
        let bytes = bytes.get(..room).unwrap_or_default();
        output.extend_from_slice(bytes);
        lines.feed(bytes, &mut on_line);
    })?;
    lines.finish(&mut on_line);
    let code = match run.ended {
        Ended::Code(code) => code,
        Ended::Signal(_) => {
            let error = Some(format!("bin/detect was {}", run.ended));
            return Ok(DetectRun { code: -1, output, error, ..DetectRun::default() });
        }
    };
    if code != 0 {
        return Ok(DetectRun { code, output, ..DetectRun::default() });
    }
    let run = DetectRun { code, output, ..DetectRun::default() };
    Ok(outcome(element, run, files::read(&plan_path, BuildPlan::parse)))
}

/// How `bin/detect` is called (buildpack specification, "Detection").
fn detect_invocation(
    kind: Kind,
    dir: &Path,
    around: &Surroundings<'_>,
    plan_path: &Path,
    mut env: Env,
    api: BuildpackApi,
) -> Invocation {
    let own = Own {
        api,
        kind,
        dir,
        target: around.target,
        exec_env: Some(&around.target.exec_env),
        paths: vec![("CNB_PLATFORM_DIR", around.platform_dir), ("CNB_BUILD_PLAN_PATH", plan_path)],
    };
    environment::add_own(&mut env, &own);
    Invocation {
        program: dir.join("bin/detect"),
        args: vec![around.platform_dir.into(), plan_path.into()],
        env: environment::to_vec(&env),
        dir: around.app_dir.to_owned(),
    }
}
