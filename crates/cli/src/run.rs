//! `strata run`: starts an image's process in a sandbox, without Docker.

use crate::args;
use crate::images::{self, Names, surroundings};
use crate::places::Places;
use crate::show::print_err;
use crate::{Outcome, hands, user, workplace};
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;
use std::fs;
use std::path::Path;
use std::thread::available_parallelism;
use strata_decide::detect::home_of;
use strata_layer::threads::refused;
use strata_phases::Failure;
use strata_sandbox::{Io, Job, Network, Rights, Root, Sandbox, SandboxError, Spec};
use strata_spec::exit::Exit;
use strata_spec::labels;
use strata_store::StoredImage;

/// The entry point of images without a default process.
const LAUNCHER: &str = "/cnb/lifecycle/launcher";
/// Platform APIs in which there always is one.
const OLD: [&str; 3] = ["0.1", "0.2", "0.3"];

/// Runs the command.
pub(crate) fn run(args: &args::Run, places: &Places) -> Outcome {
    let surroundings = surroundings(places, &args.store);
    let (store, stored) = images::open(&args.name, &surroundings, None, Names::Kept)?;
    let threads = available_parallelism().map_or(1, usize::from);
    let owner = user::of(stored.image.config())?;
    let (unpacked, ids) = hands::layers(places, owner);
    let held = unpacked
        .hold(&*store, &stored.image, threads.min(4))
        .map_err(|error| hands::failure(Exit::Launch, "cannot unpack the image", &error))?;
    let warn = |text: String| print_err(&format!("Warning: {text}"));
    let work_dir = workplace::new(warn).map_err(|error| sandbox_failure(&error))?;
    let scratch = work_dir.path().join("scratch");
    fs::create_dir(&scratch)
        .map_err(|error| Failure::caused(Exit::Launch, "cannot prepare the sandbox", &error))?;
    // An image whose list of users is a link, or none, names no home.
    let passwd = held.read(Path::new("etc/passwd"), 4 << 20).ok().flatten().unwrap_or_default();
    let home = home_of(&String::from_utf8_lossy(&passwd), u32::try_from(owner.uid).unwrap_or(0));
    let job = job(args, places, &stored, home)?;
    let id = |id: u64| u32::try_from(id).unwrap_or(0);
    let spec = Spec {
        uid: id(owner.uid),
        gid: id(owner.gid),
        ids: ids.ok(),
        hostname: "strata".into(),
        network: Network::Host,
        rights: Rights::User,
        root: Root::Layers { lowers: held.dirs().to_vec(), scratch },
        mounts: Vec::new(),
        groups: Vec::new(),
        job,
    };
    // Before the process starts, so that no signal is lost in between.
    let signals = Signals::new([SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2])
        .map_err(|error| Failure::caused(Exit::Launch, "cannot listen for signals", &error))?;
    let mut child = Sandbox::spawn(&spec, Io::inherit()).map_err(|error| sandbox_failure(&error))?;
    if let Err(error) = pass_on(signals, child.id()) {
        child.kill().map_err(|error| sandbox_failure(&error))?;
        return Err(Failure::caused(Exit::Launch, "cannot pass signals on", &refused(&error)));
    }
    let exit = child.wait().map_err(|error| sandbox_failure(&error))?;
    workplace::close(work_dir, warn);
    Ok(u8::try_from(exit.code).unwrap_or(1))
}

fn sandbox_failure(error: &SandboxError) -> Failure {
    let failure = Failure::caused(Exit::Launch, "cannot run the image", error);
    match error.hint() {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// What is started: the entry point with the arguments, in the image's own environment.
fn job(args: &args::Run, places: &Places, stored: &StoredImage, home: String) -> Result<Job, Failure> {
    let config = stored.image.config();
    let asked = places
        .assignments(&args.env_file, &args.env)
        .map_err(|error| Failure::new(Exit::InvalidArguments, error))?;
    let mut env: std::collections::BTreeMap<String, String> =
        config.env().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    env.extend(asked);
    args.process_type.as_deref().map_or(Ok(()), |kind| has_process(kind, stored, &args.name))?;
    // As container engines do.
    env.entry("HOME".to_owned()).or_insert(home);
    let mut argv: Vec<String> = match &args.process_type {
        Some(kind) => vec![format!("/cnb/process/{kind}")],
        None => config.entrypoint().into_iter().map(str::to_owned).collect(),
    };
    if args.args.is_empty() && args.process_type.is_none() {
        argv.extend(config.cmd().into_iter().map(str::to_owned));
    }
    argv.extend(args.args.iter().cloned());
    if argv.is_empty() {
        return Err(Failure::new(Exit::Launch, format!("the image '{}' has no entry point", args.name))
            .hint("name a program after --"));
    }
    // Older ones than that start `web` by themselves.
    let is_new = config.env().any(|(name, api)| name == "CNB_PLATFORM_API" && !OLD.contains(&api));
    if is_new && argv == [LAUNCHER] && !env.contains_key("CNB_PROCESS_TYPE") {
        return Err(no_default(&args.name, &kinds(stored).unwrap_or_default()));
    }
    let cwd = if config.working_dir().is_empty() { "/" } else { config.working_dir() };
    Ok(Job::Exec { argv, env: env.into_iter().collect(), cwd: cwd.into() })
}

/// Refuses a process type that no buildpack defined, as far as the image says which there are.
fn has_process(kind: &str, stored: &StoredImage, name: &str) -> Result<(), Failure> {
    let Some(kinds) = kinds(stored) else { return Ok(()) };
    if kinds.iter().any(|known| known == kind) {
        return Ok(());
    }
    let failure = Failure::new(Exit::Launch, format!("the image '{name}' has no process type '{kind}'"));
    Err(match kinds.as_slice() {
        [] => failure.hint("it has none: name a program after --"),
        some => failure.hint(format!("there are: {}", some.join(", "))),
    })
}

/// The process types of an image, as far as it says which there are.
fn kinds(stored: &StoredImage) -> Option<Vec<String>> {
    let label = stored.image.config().label(labels::BUILD_METADATA)?;
    let label: serde_json::Value = serde_json::from_str(label).ok()?;
    let processes = label.get("processes")?.as_array()?;
    let kind = |process: &serde_json::Value| Some(process.get("type")?.as_str()?.to_owned());
    Some(processes.iter().filter_map(kind).collect())
}

/// The launcher has nothing to start: no process is the default one.
fn no_default(name: &str, kinds: &[String]) -> Failure {
    let failure = Failure::new(Exit::Launch, format!("the image '{name}' has no default process"));
    match kinds {
        [] => failure.hint("it has no processes at all: name a program after --"),
        [first, ..] => failure.hint(format!(
            "there are: {}; start one with --process-type {first}, or name a program after --",
            kinds.join(", ")
        )),
    }
}

/// Passes signals on to the process, as if it had been started here.
fn pass_on(mut signals: Signals, sandbox: u32) -> std::io::Result<()> {
    // Ends with the program.
    let listen = move || {
        for number in signals.forever() {
            let signal = Signal::from_named_raw(number);
            if let (Some(pid), Some(signal)) = (process_of(sandbox), signal) {
                // It may have ended in this moment.
                kill_process(pid, signal).unwrap_or_default();
            }
        }
    };
    std::thread::Builder::new().spawn(listen).map(drop)
}

/// The image's process: the child of the sandbox's process 1.
fn process_of(sandbox: u32) -> Option<Pid> {
    let first_child = |pid: u32| -> Option<u32> {
        let path = format!("/proc/{pid}/task/{pid}/children");
        fs::read_to_string(path).ok()?.split_whitespace().next()?.parse().ok()
    };
    let init = first_child(sandbox)?;
    let process = first_child(init)?;
    Pid::from_raw(process.try_into().ok()?)
}
