//! Chooses the process and its arguments.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use crate::api::PlatformApi;
use crate::metadata::{self, Metadata};

/// The process to start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// Its type; empty if the user gave the command.
    pub r#type: String,
    /// The program, possibly with leading arguments.
    pub command: Vec<OsString>,
    /// What follows the command.
    pub args: Vec<OsString>,
    /// Whether it is started without a shell.
    pub direct: bool,
    /// Where it runs; the app directory if `None`.
    pub working_dir: Option<String>,
    /// The buildpack that declared it; empty if the user gave the command.
    pub buildpack_id: String,
}

/// Why nothing can be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LaunchError {
    /// Neither the entrypoint nor the arguments name a process.
    NothingToStart,
    /// The process is not for this execution environment.
    UnknownType(String),
    /// The user gave arguments, and whether they replace others depends on a buildpack that is not listed.
    UnlistedBuildpack {
        /// The type of the process.
        process_type: String,
        /// What the process says about its buildpack.
        buildpack_id: String,
    },
    /// A process for the shell says it is of a buildpack that is not listed.
    ForeignProcess {
        /// The type of the process.
        process_type: String,
        /// What the process says about its buildpack.
        buildpack_id: String,
    },
    /// A process without a program.
    EmptyCommand(String),
}

impl std::fmt::Display for LaunchError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const CHOICE: &str = "determine start command";
        match self {
            Self::NothingToStart => {
                write!(f, "{CHOICE}: when there is no default process a command is required")
            }
            Self::UnknownType(process_type) => {
                write!(f, "{CHOICE}: process type {process_type} was not found")
            }
            Self::UnlistedBuildpack { process_type, buildpack_id } => {
                let what = "failed to find buildpack for process";
                write!(f, "{CHOICE}: {what} {process_type} with buildpack ID {buildpack_id}")
            }
            Self::ForeignProcess { process_type, buildpack_id } => {
                write!(f, "process type '{process_type}' provided by unknown buildpack '{buildpack_id}'")
            }
            Self::EmptyCommand(process_type) => {
                write!(f, "no command provided for process type {process_type:?}")
            }
        }
    }
}

impl std::error::Error for LaunchError {}

/// Chooses the process: the one the program was called as (`argv0`), or else the command in `args`.
///
/// # Errors
/// If neither names a process that can be started.
pub fn select(
    metadata: &Metadata,
    platform_api: PlatformApi,
    argv0: &OsStr,
    args: &[OsString],
    exec_env: &str,
) -> Result<Process, LaunchError> {
    let name = argv0.as_bytes().rsplit(|&b| b == b'/').next().unwrap_or_default();
    let named = |process: &&metadata::Process| !name.is_empty() && process.r#type.as_bytes() == name;
    let process = match metadata.processes.iter().find(named) {
        None => user_provided(args)?,
        Some(first) => {
            let eligible = |process: &&metadata::Process| is_eligible(process, platform_api, exec_env);
            let declared = metadata.processes.iter().filter(named).find(eligible);
            let declared = declared.ok_or_else(|| LaunchError::UnknownType(first.r#type.clone()))?;
            declared_process(metadata, platform_api, declared, args)?
        }
    };
    check(metadata, &process)?;
    Ok(process)
}

fn is_eligible(process: &metadata::Process, platform_api: PlatformApi, exec_env: &str) -> bool {
    !platform_api.has_exec_env()
        || process.exec_env.is_empty()
        || process.exec_env.iter().any(|eligible| eligible == "*" || eligible == exec_env)
}

fn user_provided(args: &[OsString]) -> Result<Process, LaunchError> {
    let (command, args, direct) = match args {
        [] => return Err(LaunchError::NothingToStart),
        [dashes, command, args @ ..] if dashes == "--" => (command, args, true),
        [command, args @ ..] => (command, args, false),
    };
    Ok(Process { command: vec![command.clone()], args: args.to_vec(), direct, ..Process::default() })
}

fn declared_process(
    metadata: &Metadata,
    platform_api: PlatformApi,
    declared: &metadata::Process,
    user_args: &[OsString],
) -> Result<Process, LaunchError> {
    let mut command: Vec<OsString> = declared.command.iter().map(OsString::from).collect();
    let own_args = || declared.args.iter().map(OsString::from).collect::<Vec<_>>();
    let args = if !platform_api.overrides_arguments() {
        [&own_args(), user_args].concat()
    } else if command.len() > 1 {
        let fixed = command.split_off(1);
        let rest = if user_args.is_empty() { own_args() } else { user_args.to_vec() };
        [fixed, rest].concat()
    } else if user_args.is_empty() {
        own_args()
    } else {
        let buildpack = metadata.buildpack(&declared.buildpack_id).ok_or_else(|| {
            let (process_type, buildpack_id) = (declared.r#type.clone(), declared.buildpack_id.clone());
            LaunchError::UnlistedBuildpack { process_type, buildpack_id }
        })?;
        if buildpack.api.has_overridable_arguments() {
            user_args.to_vec()
        } else {
            [&own_args(), user_args].concat()
        }
    };
    Ok(Process {
        r#type: declared.r#type.clone(),
        command,
        args,
        direct: declared.direct,
        working_dir: declared.working_dir.clone(),
        buildpack_id: declared.buildpack_id.clone(),
    })
}

fn check(metadata: &Metadata, process: &Process) -> Result<(), LaunchError> {
    if process.direct {
        if process.command.is_empty() {
            return Err(LaunchError::EmptyCommand(process.r#type.clone()));
        }
    } else if !process.args.is_empty()
        && !process.buildpack_id.is_empty()
        && metadata.buildpack(&process.buildpack_id).is_none()
    {
        let (process_type, buildpack_id) = (process.r#type.clone(), process.buildpack_id.clone());
        return Err(LaunchError::ForeignProcess { process_type, buildpack_id });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{BuildpackApi, Version};

    fn platform(minor: u64) -> PlatformApi {
        PlatformApi::new(Version { major: 0, minor }).unwrap()
    }

    fn words(text: &str) -> Vec<OsString> {
        text.split_whitespace().map(OsString::from).collect()
    }

    fn metadata(buildpack_minor: u64) -> Metadata {
        let strings = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let process = |name: &str, command: &str, args: &str| metadata::Process {
            r#type: name.into(),
            command: strings(command),
            args: strings(args),
            direct: true,
            buildpack_id: "bp".into(),
            ..metadata::Process::default()
        };
        let bound = |name: &str, command: &str, env: &str| metadata::Process {
            exec_env: strings(env),
            ..process(name, command, "")
        };
        let api = BuildpackApi::new(Version { major: 0, minor: buildpack_minor }).unwrap();
        Metadata {
            processes: vec![
                process("one", "run", "a b"),
                process("many", "run fixed", "a b"),
                process("none", "", "a"),
                metadata::Process { direct: false, ..process("shell", "run it", "a") },
                metadata::Process { buildpack_id: "gone".into(), ..process("orphan", "run", "a") },
                metadata::Process {
                    buildpack_id: "gone".into(),
                    direct: false,
                    ..process("lost", "run", "a")
                },
                metadata::Process {
                    buildpack_id: "gone".into(),
                    direct: false,
                    ..process("bare", "run", "")
                },
                bound("test", "run-test", "test"),
                bound("both", "first", "test"),
                bound("both", "second", "production other"),
                bound("any", "run", "*"),
            ],
            buildpacks: vec![metadata::Buildpack { id: "bp".into(), api }],
        }
    }

    fn show(result: Result<Process, LaunchError>) -> String {
        let join = |words: &[OsString]| words.join(OsStr::new(" ")).display().to_string();
        match result {
            Ok(p) => {
                let how = if p.direct { "direct" } else { "shell" };
                format!("{how} [{}] [{}]", join(&p.command), join(&p.args))
            }
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn arguments_follow_the_apis() {
        for platform_minor in 7..=15 {
            for buildpack_minor in 7..=12 {
                let (old, replaces) = (platform_minor < 10, buildpack_minor >= 9);
                for (name, args, expected) in [
                    ("one", "", "direct [run] [a b]"),
                    ("one", "x", if !old && replaces { "direct [run] [x]" } else { "direct [run] [a b x]" }),
                    ("many", "", if old { "direct [run fixed] [a b]" } else { "direct [run] [fixed a b]" }),
                    ("many", "x", if old { "direct [run fixed] [a b x]" } else { "direct [run] [fixed x]" }),
                    ("shell", "", if old { "shell [run it] [a]" } else { "shell [run] [it a]" }),
                    ("none", "", "no command provided for process type \"none\""),
                    ("bare", "", "shell [run] []"),
                    ("lost", "", "process type 'lost' provided by unknown buildpack 'gone'"),
                    ("orphan", "", "direct [run] [a]"),
                    (
                        "orphan",
                        "x",
                        if old {
                            "direct [run] [a x]"
                        } else {
                            "determine start command: failed to find buildpack for process orphan with buildpack ID gone"
                        },
                    ),
                ] {
                    let argv0 = OsString::from(format!("/cnb/process/{name}"));
                    let metadata = metadata(buildpack_minor);
                    let actual =
                        select(&metadata, platform(platform_minor), &argv0, &words(args), "production");
                    assert_eq!(show(actual), expected, "{platform_minor} {buildpack_minor} {name} {args}");
                }
            }
        }
    }

    #[test]
    fn a_program_called_otherwise_starts_what_the_user_says() {
        for (argv0, args, expected) in [
            (
                "launcher",
                "",
                "determine start command: when there is no default process a command is required",
            ),
            ("launcher", "cmd", "shell [cmd] []"),
            ("/cnb/lifecycle/launcher", "cmd x y", "shell [cmd] [x y]"),
            ("launcher", "-- cmd x", "direct [cmd] [x]"),
            ("launcher", "--", "shell [--] []"),
            ("launcher", "one x", "shell [one] [x]"),
            ("one/", "cmd", "shell [cmd] []"),
            ("one", "", "direct [run] [a b]"),
        ] {
            let actual = select(&metadata(9), platform(12), OsStr::new(argv0), &words(args), "production");
            assert_eq!(show(actual), expected, "{argv0} {args}");
        }
    }

    #[test]
    fn execution_environments_bind_since_platform_0_15() {
        for (minor, name, exec_env, expected) in [
            (14, "test", "production", "direct [run-test] []"),
            (15, "test", "production", "determine start command: process type test was not found"),
            (15, "test", "test", "direct [run-test] []"),
            (14, "both", "production", "direct [first] []"),
            (15, "both", "production", "direct [second] []"),
            (15, "both", "other", "direct [second] []"),
            (15, "any", "whatever", "direct [run] []"),
            (15, "one", "whatever", "direct [run] [a b]"),
        ] {
            let actual = select(&metadata(12), platform(minor), OsStr::new(name), &[], exec_env);
            assert_eq!(show(actual), expected, "{minor} {name} {exec_env}");
        }
    }

    #[test]
    fn arguments_that_are_not_text_survive() {
        let args = [OsString::from("cmd"), OsStr::from_bytes(b"\xff").to_owned()];
        let process =
            select(&metadata(9), platform(12), OsStr::new("launcher"), &args, "production").unwrap();
        assert_eq!(process.args, args[1..]);
    }
}
