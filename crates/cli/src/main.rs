//! `strata`: from application source to an OCI image in which every layer can be traced.
//!
//! This crate is a person's program: it reads arguments and environment once, asks the crates below it to do the
//! work, shows what happens, and turns a failure into a message and an exit code. It refuses to decide anything
//! about images itself.

mod app;
mod args;
mod artifact;
mod attach;
mod build;
mod builder;
mod cache;
mod converted;
mod copy;
mod diff;
mod hands;
mod help;
mod images;
mod inside;
mod inspect;
mod interrupt;
mod output;
mod places;
mod rebase;
mod run;
mod sbom;
mod seen;
mod show;
mod trace;
mod user;
mod validate;
mod workplace;

use clap::Parser;
use std::process::ExitCode;
use strata_phases::Failure;

fn main() -> ExitCode {
    strata_sandbox::enter_if_asked(inside::run);
    let args = match args::Args::try_parse() {
        Ok(args) => args,
        Err(error) => return args::refuse(&error),
    };
    let places = match places::Places::from_environment() {
        Ok(places) => places,
        Err(failure) => {
            show::failure(&failure, None);
            return ExitCode::from(failure.exit.code());
        }
    };
    let outcome = match args.command {
        args::Command::Build(build) => build::run(*build, &places),
        args::Command::Plan(plan) => build::run(args::Build { dry_run: true, ..plan.build }, &places),
        args::Command::Builder(args::BuilderCommand::Create(create)) => builder::create(&create, &places),
        args::Command::Builder(args::BuilderCommand::Prune(prune)) => builder::prune(&prune, &places),
        args::Command::Buildpack(args::BuildpackCommand::Package(package)) => {
            builder::package(&package, &places)
        }
        args::Command::Completions(completions) => help::completions(&completions),
        args::Command::Man(man) => help::man(&man),
        args::Command::Run(run) => run::run(&run, &places),
        args::Command::Inspect(inspect) => inspect::run(&inspect, &places),
        args::Command::Attach(attach) => attach::run(&attach, &places),
        args::Command::Trace(trace) => trace::run(&trace, &places),
        args::Command::Diff(diff) => diff::run(&diff, &places),
        args::Command::Copy(copy) => copy::run(&copy, &places),
        args::Command::Rebase(rebase) => rebase::run(&rebase, &places),
        args::Command::Validate(validate) => validate::run(&validate, &places),
        args::Command::Sbom(sbom) => sbom::run(&sbom, &places),
        args::Command::Cache(cache) => cache::run(&cache, &places),
    };
    match outcome.and_then(|code| show::all_printed().map(|()| code)) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            show::failure(&failure, places.home());
            ExitCode::from(failure.exit.code())
        }
    }
}

/// The outcome of a command: an exit code, or a failure that is shown.
type Outcome = Result<u8, Failure>;
