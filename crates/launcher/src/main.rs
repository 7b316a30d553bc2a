//! The launcher that goes into app images.
//!
//! Reads its arguments, its environment and the files of the layers, asks `strata-launch` what follows from them, and
//! becomes the process. Nothing is decided here.

#![expect(
    clippy::disallowed_methods,
    reason = "reading and passing on the environment is what a launcher does"
)]

mod exec_d;
mod failure;
mod files;
mod parse;

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use strata_launch::api::{PlatformApi, Version};
use strata_launch::env::{DefaultAction, Env};
use strata_launch::metadata::Metadata;
use strata_launch::process::{self, Process};
use strata_launch::{layer, lookup, shell};

use crate::failure::{Failure, cause};

/// What the launcher was given.
struct Inputs {
    platform_api: PlatformApi,
    app_dir: PathBuf,
    layers_dir: PathBuf,
    exec_env: String,
    argv0: OsString,
    args: Vec<OsString>,
}

fn main() -> ExitCode {
    let Err(failure) = run();
    say(&format!("ERROR: {failure}"));
    ExitCode::from(failure.code())
}

/// Prints a line on standard output, where platforms look for it.
fn say(line: &str) {
    // Whether or not anyone reads it, the outcome is the exit code or the process.
    writeln!(std::io::stdout(), "{line}").unwrap_or_default();
}

fn run() -> Result<std::convert::Infallible, Failure> {
    let inputs = read_inputs()?;
    let metadata = files::read_metadata(&inputs.layers_dir)?;
    if let Some(name) = variable("CNB_PROCESS_TYPE") {
        let name = name.display();
        say(&format!("Warning: CNB_PROCESS_TYPE is not supported in Platform API {}", inputs.platform_api));
        say(&format!("Warning: Run with ENTRYPOINT '{name}' to invoke the '{name}' process type"));
    }
    let Inputs { platform_api, argv0, args, exec_env, .. } = &inputs;
    let process = process::select(&metadata, *platform_api, argv0, args, exec_env)
        .map_err(|error| Failure::Launch(error.to_string()))?;
    launch(&inputs, &metadata, &process).map_err(Failure::Launch)
}

fn read_inputs() -> Result<Inputs, Failure> {
    let platform_api = variable("CNB_PLATFORM_API").unwrap_or_default();
    let platform_api = platform_api.to_string_lossy();
    if platform_api.trim().is_empty() {
        return Err(Failure::NoPlatformApi);
    }
    let version =
        Version::parse(&platform_api).ok_or_else(|| Failure::PlatformApiText(platform_api.to_string()))?;
    let platform_api =
        PlatformApi::new(version).ok_or_else(|| Failure::PlatformApi(platform_api.to_string()))?;
    let mut args = std::env::args_os();
    Ok(Inputs {
        platform_api,
        app_dir: variable("CNB_APP_DIR").unwrap_or_else(|| "/workspace".into()).into(),
        layers_dir: variable("CNB_LAYERS_DIR").unwrap_or_else(|| "/layers".into()).into(),
        exec_env: variable("CNB_EXEC_ENV")
            .map_or_else(|| "production".into(), |v| v.to_string_lossy().into()),
        argv0: args.next().unwrap_or_default(),
        args: args.collect(),
    })
}

/// A variable that is set and not empty.
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

fn launch(
    inputs: &Inputs,
    metadata: &Metadata,
    process: &Process,
) -> Result<std::convert::Infallible, String> {
    change_dir(&inputs.app_dir).map_err(|error| format!("change to app directory: {error}"))?;
    let buildpacks = files::layers_of_buildpacks(&inputs.layers_dir, metadata)?;
    let mut env = Env::for_launch(std::env::vars_os());
    for layers in &buildpacks {
        modify_env(&mut env, layers, &process.r#type).map_err(|error| format!("modify env: {error}"))?;
    }
    for layer in buildpacks.iter().flatten() {
        for dir in layer::exec_d_dirs(layer, &process.r#type) {
            for program in files::files_in(&dir).map_err(|error| format!("exec.d: {error}"))? {
                exec_d::run(&program, &mut env).map_err(|error| format!("exec.d: {error}"))?;
            }
        }
    }
    let working_dir = process.working_dir.as_ref().map_or(inputs.app_dir.as_path(), Path::new);
    if process.direct {
        launch_direct(process, working_dir, &env)
    } else {
        let mut profiles = Vec::new();
        for layer in buildpacks.iter().flatten() {
            for dir in layer::profile_dirs(layer, &process.r#type) {
                profiles.extend(files::files_in(&dir).map_err(|error| format!("find profiles: {error}"))?);
            }
        }
        profiles.extend(files::app_profile().map_err(|error| format!("find profiles: {error}"))?);
        launch_in_shell(&inputs.argv0, process, &profiles, working_dir, &env)
    }
}

fn change_dir(dir: &Path) -> Result<(), String> {
    std::env::set_current_dir(dir).map_err(|error| format!("chdir {}: {}", dir.display(), cause(&error)))
}

fn modify_env(env: &mut Env, layers: &[PathBuf], process_type: &str) -> Result<(), String> {
    for layer in layers {
        for &(dir, variable) in layer::LAUNCH_ROOT_DIRS {
            if let Some(dir) =
                files::existing(&layer.join(dir)).map_err(|error| format!("add layer root: {error}"))?
            {
                env.prepend_path(variable, &dir, b':');
            }
        }
    }
    for layer in layers {
        for dir in layer::env_dirs(layer, process_type) {
            let files = files::env_files(&dir).map_err(|error| format!("add layer env: {error}"))?;
            env.apply_dir(&files, DefaultAction::Override);
        }
    }
    Ok(())
}

fn launch_direct(
    process: &Process,
    working_dir: &Path,
    env: &Env,
) -> Result<std::convert::Infallible, String> {
    // A relative command is relative to where it runs.
    change_dir(working_dir).map_err(|error| format!("change directory: {error}"))?;
    let (command, fixed) = process.command.split_first().map_or((OsStr::new(""), &[][..]), |(c, f)| (c, f));
    let program = lookup::look_path(command, env.get("PATH"), files::executable)
        .map_err(|error| format!("path lookup: exec: {command:?}: {error}"))?;
    let mut program = Command::new(program);
    program.arg0(command).args(fixed).args(&process.args);
    Err(format!("direct exec: {}", become_process(program, env)))
}

fn launch_in_shell(
    argv0: &OsStr,
    process: &Process,
    profiles: &[PathBuf],
    working_dir: &Path,
    env: &Env,
) -> Result<std::convert::Infallible, String> {
    let mut bash = Command::new("/bin/bash");
    bash.arg0("bash").arg("-c").arg(shell::script(profiles, working_dir, process.args.len()));
    bash.arg(argv0).arg(process.command.join(OsStr::new(" "))).args(&process.args);
    Err(format!("bash exec: {}", become_process(bash, env)))
}

/// Replaces the launcher; returns only to tell why not.
fn become_process(mut command: Command, env: &Env) -> String {
    cause(&command.env_clear().envs(env.iter()).exec())
}
