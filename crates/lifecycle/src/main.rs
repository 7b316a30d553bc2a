//! `lifecycle`: the phases of a build, each a program of its own by the name it is called by.
//!
//! This crate is the platforms' program: it reads flags and environment as they expect, asks the crates below it to do
//! the work, writes the log that they show, and turns a failure into their exit codes. It refuses to decide anything
//! about images itself.

mod command;
mod documents;
mod env;
mod flags;
mod images;
mod leftovers;
mod log;
mod mode;
mod phase;
mod platform_api;
mod privileges;
mod resolve;
mod version;

use command::Command;
use env::Environment;
use flags::{Parsed, Stop};
use log::{Logger, Threshold};
use mode::Modes;
use phase::Context;
use std::io::Write;
use std::process::ExitCode;
use strata_decide::inputs::Sources;
use strata_phases::{Failure, Observer};
use strata_spec::PlatformApi;
use strata_spec::exit::Exit;
use strata_spec::inputs as table;
use strata_spec::phase::Phase;

/// The feature that a platform must ask for with [`Modes`].
const LAYOUT_FEATURE: &str = "export to OCI layout format";

fn main() -> ExitCode {
    let mut log = Logger::to_stdout();
    let outcome = Environment::read().and_then(|environment| run(&environment, &mut log));
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            log.failure(&failure);
            ExitCode::from(failure.exit.code())
        }
    }
}

fn run(environment: &Environment, log: &mut Logger) -> Result<u8, Failure> {
    let command = Command::of(&environment.program, &environment.arguments)?;
    if command == Command::Version {
        log.info(version::text());
        return Ok(0);
    }
    let api = platform_api::verify(environment.variable(platform_api::VARIABLE))?;
    let (phase, name, arguments) = match command {
        Command::Version => return Ok(0),
        Command::Program(phase, arguments) => (phase, phase.program(), arguments),
        Command::Subcommand(name, arguments) => (command::subcommand(name)?, name, arguments),
    };
    let known = flags::known(phase, api);
    match flags::parse(&known, arguments) {
        Ok(parsed) if parsed.version => log.info(version::text()),
        Ok(parsed) => run_phase(phase, name, api, &parsed, environment, log)?,
        Err(stop) => {
            let usage = flags::usage(&known, &environment.variables);
            return Ok(show_usage(stop, &usage));
        }
    }
    Ok(0)
}

/// Carries out a phase, saying at debug level how far it is.
fn run_phase(
    phase: Phase,
    name: &str,
    api: PlatformApi,
    parsed: &Parsed,
    environment: &Environment,
    log: &mut Logger,
) -> Result<(), Failure> {
    configure(log, Sources { flags: &parsed.given, env: &environment.variables })?;
    warn_of_late_flags(&parsed.positional, log);
    log.debug(format!("Starting {name}..."));
    log.debug("Parsing inputs...".into());
    let (inputs, images) = resolve::resolve(phase, api, parsed, environment, log)?;
    let modes = Modes::of(environment);
    if inputs.use_layout && matches!(phase, Phase::Analyze | Phase::Export | Phase::Create) {
        modes.experimental(LAYOUT_FEATURE, log)?;
    }
    log.debug("Ensuring privileges...".into());
    let user = privileges::apply(phase, &inputs)?;
    log.debug("Executing command...".into());
    phase::run(phase, &Context { api, inputs, images, modes, user, environment, log })
}

fn configure(log: &mut Logger, sources: Sources<'_>) -> Result<(), Failure> {
    if sources.bool(&table::NO_COLOR) {
        log.without_colors();
    }
    let threshold = Threshold::parse(&sources.text(&table::LOG_LEVEL));
    log.set_threshold(
        threshold.ok_or_else(|| Failure::new(Exit::Other, "failed to parse log level: invalid level"))?,
    );
    Ok(())
}

/// Flags after the first name are names: whoever wrote them there probably did not mean it.
fn warn_of_late_flags(positional: &[String], log: &Logger) {
    for argument in positional.iter().filter(|argument| argument.starts_with('-')) {
        // The word is in the text as well as in the prefix: platforms know the line so.
        log.warn(format!(
            "Warning: unconsumed flag-like positional arg: \n\t{argument}\n\t This will not be interpreted as a flag.\n\t \
             Did you mean to put this before the first positional argument?"
        ));
    }
}

/// Writes the usage text to standard error, and what was wrong with the arguments before it.
fn show_usage(stop: Stop, usage: &str) -> u8 {
    let (text, code) = match stop {
        Stop::Help => (usage.to_owned(), 0),
        Stop::Wrong(message) => (format!("{message}\n{usage}"), Exit::Flags.code()),
    };
    // Whoever reads it may have gone.
    std::io::stderr().write_all(text.as_bytes()).unwrap_or_default();
    code
}
