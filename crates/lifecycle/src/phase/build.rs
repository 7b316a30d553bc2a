//! The phase `build`.

use super::{Context, detect, threads};
use crate::documents;
use crate::leftovers;
use strata_decide::seal::Choice;
use strata_layer::Owner;
use strata_oci::Compression;
use strata_phases::build;
use strata_phases::detect::Detected;
use strata_phases::export::Trees;
use strata_phases::ground::Bare;
use strata_phases::origins::{self, Given};
use strata_phases::seal::{self, Sealing};
use strata_phases::{Failure, Observer};
use strata_spec::analyzed::Analyzed;
use strata_spec::exit::Exit;
use strata_spec::plan::Plan;
use strata_spec::sealed::Policy;

pub(super) fn run(context: &Context<'_>) -> Result<(), Failure> {
    let Context { inputs, log, .. } = context;
    let group = documents::group(inputs)?;
    let plan = documents::read(inputs, &inputs.plan, "plan", Plan::parse)?;
    let analyzed = documents::analyzed(inputs, log)?;
    build(context, &Detected { group, plan }, &analyzed)
}

/// Builds, and writes `config/metadata.toml`.
pub(super) fn build(context: &Context<'_>, detected: &Detected, analyzed: &Analyzed) -> Result<(), Failure> {
    let target = detect::target(context, analyzed);
    let variables = context.variables();
    let around = detect::surroundings(context, &target, &variables);
    let asked = context.inputs.sealed_policy().map_err(|error| {
        Failure::caused(Exit::InvalidArguments, "failed to build: cannot seal layers", &error)
    })?;
    let operator = seal::operators_word(&context.inputs.build_config_dir)?;
    let choice = Choice { asked, default: Policy::Warn, operator };
    let sealing = Sealing {
        trees: Trees { owner: owner(context), ..super::export::trees(&context.inputs, Exit::Build)? },
        compression: compression(context)?,
        threads: threads(),
        previous: Some(&analyzed.metadata),
    };
    leftovers::adopt()
        .map_err(|error| Failure::caused(Exit::Build, "failed to build: cannot adopt processes", &error))?;
    let _timer = context.log.timer("Builder");
    // A buildpack may count on what an earlier one left running; the image must not.
    let given = given(context)?;
    let outcome = build::run(detected, &around, &choice, &sealing, given.as_ref(), &Bare, context.log);
    let left_over = leftovers::end().map_err(|error| {
        Failure::caused(Exit::Build, "failed to build: cannot end leftover processes", &error)
    })?;
    if left_over > 0 {
        context.log.warn(format!("buildpacks left {left_over} process(es) running; they were ended"));
    }
    outcome?.finish(context.log).map(drop)
}

/// The owner of layers in the image. The builder is not told, but it is whoever builds.
fn owner(context: &Context<'_>) -> Owner {
    let Context { inputs, environment, .. } = context;
    let or_own = |variable: &str, id: u32, own: u32| {
        u64::from(if id != 0 || environment.variable(variable).is_some() { id } else { own })
    };
    Owner {
        uid: or_own("CNB_USER_ID", inputs.uid, rustix::process::getuid().as_raw()),
        gid: or_own("CNB_GROUP_ID", inputs.gid, rustix::process::getgid().as_raw()),
    }
}

/// What the builder takes down for the report, if that is to say where layers come from.
fn given(context: &Context<'_>) -> Result<Option<Given>, Failure> {
    let Context { inputs, environment, .. } = context;
    if !inputs.report_origins {
        return Ok(None);
    }
    // Buildpacks do not get this variable: whoever has the key can guess values.
    let key = environment.variable("CNB_REPORT_INPUTS_KEY");
    let inputs = origins::inputs::of_platform(&inputs.platform_dir, key).map_err(|error| {
        Failure::caused(Exit::Build, "failed to build: cannot name what the platform gives", &error)
    })?;
    Ok(Some(Given::here(inputs)))
}

/// How the image will have its layers, as far as the phase is told: otherwise the exporter compresses them again.
fn compression(context: &Context<'_>) -> Result<Compression, Failure> {
    if context.inputs.use_daemon {
        return Ok(Compression::None);
    }
    let asked = context.inputs.layer_compression().map_err(|error| {
        Failure::caused(Exit::InvalidArguments, "failed to build: cannot seal layers", &error)
    })?;
    Ok(asked.unwrap_or(Compression::Gzip))
}
