//! The phase `build`.

use super::{Context, detect};
use crate::documents;
use crate::leftovers;
use strata_decide::seal::Choice;
use strata_phases::detect::Detected;
use strata_phases::{Failure, Observer};
use strata_phases::{build, seal};
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
    let sealed = Choice { asked, default: Policy::Warn, operator };
    leftovers::adopt()
        .map_err(|error| Failure::caused(Exit::Build, "failed to build: cannot adopt processes", &error))?;
    let _timer = context.log.timer("Builder");
    // A buildpack may count on what an earlier one left running; the image must not.
    let outcome = build::run(detected, &around, &sealed, &|| 0, context.log);
    let left_over = leftovers::end().map_err(|error| {
        Failure::caused(Exit::Build, "failed to build: cannot end leftover processes", &error)
    })?;
    if left_over > 0 {
        context.log.warn(format!("buildpacks left {left_over} process(es) running; they were ended"));
    }
    outcome.map(drop)
}
