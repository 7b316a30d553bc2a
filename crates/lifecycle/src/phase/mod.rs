//! The phases: each takes what was resolved, lets the crates below do the work, and names what failed.

mod analyze;
mod build;
mod create;
mod detect;
mod export;
mod extend;
mod extended;
mod origins;
mod rebase;
mod restore;

use crate::env::Environment;
use crate::images::Images;
use crate::log::Logger;
use crate::mode::Modes;
use crate::privileges::User;
use crate::version;
use std::ffi::OsString;
use strata_decide::inputs::Inputs;
use strata_phases::Failure;
use strata_spec::PlatformApi;
use strata_spec::exit::Exit;
use strata_spec::labels::{Git, Launcher, LauncherSource};
use strata_spec::phase::Phase;

/// The feature that a platform before 0.13 must consent to.
const EXTENSIONS: &str = "Dockerfiles";

/// What a phase is given.
pub(crate) struct Context<'a> {
    /// What the platform speaks.
    pub(crate) api: PlatformApi,
    /// What the platform wants.
    pub(crate) inputs: Inputs,
    /// Where images are; in the phases that have to do with images.
    pub(crate) images: Option<Images>,
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

impl Context<'_> {
    /// Where images are.
    ///
    /// # Errors
    /// When the phase has nothing to do with images.
    pub(crate) fn images(&self) -> Result<&Images, Failure> {
        self.images
            .as_ref()
            .ok_or_else(|| Failure::new(Exit::Other, "failed to find images: this phase has none"))
    }

    /// The environment from which buildpacks get what is meant for them. The creator was root, and has become
    /// somebody else since.
    fn variables(&self) -> Vec<(OsString, OsString)> {
        let mut variables = self.environment.all_variables.clone();
        if let Some(user) = &self.user {
            variables.retain(|(name, _)| name != "HOME" && name != "USER");
            variables.push(("HOME".into(), user.home.clone().into()));
            variables.push(("USER".into(), user.name.clone().into()));
        }
        variables
    }
}

/// How many threads work side by side: as many as there are cores.
fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// What labels say of the launcher.
fn launcher_info() -> Launcher {
    Launcher {
        version: version::number().into(),
        source: LauncherSource {
            git: Git {
                repository: env!("CARGO_PKG_REPOSITORY").into(),
                commit: version::commit().unwrap_or_default().into(),
            },
        },
    }
}
