//! The creator: all phases of a build in one process.

use super::{Context, analyze, build, detect, export, restore};
use strata_phases::Failure;

pub(super) fn run(context: &Context<'_>) -> Result<(), Failure> {
    let Context { inputs, log, api, .. } = context;
    let images = context.images()?;
    let cache = images.cache(inputs)?;
    log.phase("ANALYZING");
    let analyzed = analyze::analyze(context)?;
    log.phase("DETECTING");
    let detected = detect::detect(context, &analyzed)?;
    if !inputs.skip_layers || api.restores_when_skipping() {
        log.phase("RESTORING");
        restore::restore(context, &detected.group, &analyzed.metadata, cache.as_deref())?;
    }
    log.phase("BUILDING");
    build::build(context, &detected, &analyzed)?;
    log.phase("EXPORTING");
    export::export(context, &detected.group, &analyzed, cache.as_deref())
}
