//! The phase `build`.

use super::{Context, detect};
use crate::documents;
use strata_phases::Failure;
use strata_phases::build;
use strata_phases::detect::Detected;
use strata_spec::analyzed::Analyzed;
use strata_spec::plan::Plan;

pub(super) fn run(context: &Context<'_>) -> Result<(), Failure> {
    let Context { inputs, log, .. } = context;
    let group = documents::group(&inputs.group)?;
    let plan = documents::read(&inputs.plan, "plan", Plan::parse)?;
    let analyzed = documents::analyzed(&inputs.analyzed, log)?;
    build(context, &Detected { group, plan }, &analyzed)
}

/// Builds, and writes `config/metadata.toml`.
pub(super) fn build(context: &Context<'_>, detected: &Detected, analyzed: &Analyzed) -> Result<(), Failure> {
    let target = detect::target(context, analyzed);
    let variables = context.variables();
    let around = detect::surroundings(context, &target, &variables);
    let _timer = context.log.timer("Builder");
    // What a buildpack leaves running ends with the container.
    build::run(detected, &around, &|| 0, context.log).map(drop)
}
