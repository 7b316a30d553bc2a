//! The phases: each takes what was resolved, lets the crates below do the work, and names what failed.

mod analyze;
mod build;
mod create;
mod detect;
mod export;
mod extend;
mod rebase;
mod restore;

use crate::env::Environment;
use crate::log::Logger;
use crate::mode::Modes;
use crate::privileges::User;
use strata_decide::inputs::Inputs;
use strata_phases::Failure;
use strata_spec::PlatformApi;
use strata_spec::exit::Exit;
use strata_spec::phase::Phase;

/// What a phase is given.
#[expect(dead_code, reason = "read by the phases")]
pub(crate) struct Context<'a> {
    /// What the platform speaks.
    pub(crate) api: PlatformApi,
    /// What the platform wants.
    pub(crate) inputs: Inputs,
    /// How experimental features and deprecated versions are taken.
    pub(crate) modes: Modes,
    /// Whose home and name buildpacks get, when they are not those of the environment.
    pub(crate) user: Option<User>,
    /// Variables for buildpacks, and those of the platform that are no inputs.
    pub(crate) environment: &'a Environment,
    /// Takes what is said.
    pub(crate) log: &'a Logger,
}

/// Carries out a phase.
///
/// # Errors
/// When it fails; the message begins with `failed to`.
pub(crate) fn run(phase: Phase, context: &Context<'_>) -> Result<(), Failure> {
    match phase {
        Phase::Analyze => analyze::run(context),
        Phase::Detect => detect::run(context),
        Phase::Restore => restore::run(context),
        Phase::Build => build::run(context),
        Phase::Extend => extend::run(context),
        Phase::Export => export::run(context),
        Phase::Create => create::run(context),
        Phase::Rebase => rebase::run(context),
    }
}

/// Whether an image can be read. In a daemon and in a layout nobody is asked: the first name is taken.
///
/// # Errors
/// When it cannot be found out.
pub(crate) fn is_accessible(inputs: &Inputs, image: &str) -> Result<bool, Failure> {
    if inputs.use_daemon || inputs.use_layout {
        return Ok(true);
    }
    Err(Failure::new(
        Exit::InvalidArguments,
        format!("failed to resolve inputs: cannot ask the registry of {image}"),
    )
    .hint("name the run image with -run-image"))
}
