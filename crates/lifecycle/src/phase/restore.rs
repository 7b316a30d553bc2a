//! The phase `restore`.

use super::{Context, export, extended, threads};
use crate::documents;
use strata_decide::origins::Require;
use strata_phases::analyze::{self, Named};
use strata_phases::export::Previous;
use strata_phases::origins::Required;
use strata_phases::restore::{self, Restore};
use strata_phases::{Failure, Observer};
use strata_spec::analyzed::{Analyzed, RunImage};
use strata_spec::exit::Exit;
use strata_spec::group::Group;
use strata_store::cache::Cache;

pub(super) fn run(context: &Context<'_>) -> Result<(), Failure> {
    let Context { inputs, log, .. } = context;
    let images = context.images()?;
    let group = documents::group(inputs)?;
    let analyzed = match documents::read_if_there(inputs, &inputs.analyzed, Analyzed::parse) {
        Ok(found) => {
            let analyzed = match found {
                Some(analyzed) => analyzed,
                None => documents::analyzed(inputs, log)?,
            };
            check_run_image(context, &analyzed)?;
            let analyzed = extended::fetch(context, &group, analyzed)?;
            let analyzed = look_up_run_image(context, &group, analyzed)?;
            documents::write(inputs, &inputs.analyzed, "analyzed", &analyzed.to_toml(), Exit::Other)?;
            analyzed
        }
        Err(error) => {
            let cause = Failure::caused(Exit::Other, "failed to read analyzed file", &error).chain();
            log.warn(format!("Not using analyzed data, usable file not found: {cause}"));
            Analyzed::default()
        }
    };
    let cache = images.cache(inputs)?;
    restore(context, &group, &analyzed, cache.as_deref())
}

/// Restores what the cache has.
pub(super) fn restore(
    context: &Context<'_>,
    group: &Group,
    analyzed: &Analyzed,
    cache: Option<&dyn Cache>,
) -> Result<(), Failure> {
    let _timer = context.log.timer("Restorer");
    let require = context.inputs.require_origins;
    let previous = if require == Require::Nothing { None } else { export::previous(context, analyzed)? };
    let image = previous.as_ref().map(|(store, stored)| (stored, store.as_ref()));
    let required = Required { require, previous: Previous { metadata: Some(&analyzed.metadata), image } };
    let input = Restore {
        group: &group.group,
        trees: export::trees(&context.inputs, Exit::Restore)?,
        metadata: &analyzed.metadata,
        cache,
        skip: context.inputs.skip_layers,
        api: context.api,
        threads: threads(),
        ready: None,
        required: Some(required).filter(|_| context.inputs.report_origins),
    };
    restore::run(&input, context.log)
}

/// Of a run image that extensions have chosen, nothing but the name is known so far.
fn look_up_run_image(context: &Context<'_>, group: &Group, analyzed: Analyzed) -> Result<Analyzed, Failure> {
    let has_target = |image: &RunImage| image.target.as_ref().is_some_and(|target| !target.os.is_empty());
    let chosen = analyzed.run_image.as_ref().filter(|image| !image.image.is_empty() && !has_target(image));
    let Some(chosen) = chosen.filter(|_| context.api.has_extensions() && !group.group_extensions.is_empty())
    else {
        return Ok(analyzed);
    };
    let failed = |failure: Failure| {
        let message = format!("failed to get run image {}", chosen.image);
        Failure {
            causes: [vec![failure.message], failure.causes].concat(),
            exit: Exit::Other,
            message,
            ..failure
        }
    };
    let (name, store) = context.images()?.output(&chosen.image, Exit::Other).map_err(failed)?;
    let named = Named { name: &name, store: store.as_ref() };
    let found = analyze::run_image(named, context.api, context.log).map_err(failed)?;
    if found.reference.is_empty() {
        return Err(failed(Failure::new(Exit::Other, "it is not there")));
    }
    let run_image = RunImage { reference: found.reference, target: found.target, ..chosen.clone() };
    Ok(Analyzed { run_image: Some(run_image), ..analyzed })
}

/// Makes sure that the run image can still be had, before anybody builds for it. One that `run.toml` does not know is
/// the platform's own affair.
fn check_run_image(context: &Context<'_>, analyzed: &Analyzed) -> Result<(), Failure> {
    let Context { inputs, api, .. } = context;
    let images = context.images()?;
    let name = analyzed.run_image.as_ref().map(|image| image.image.as_str()).unwrap_or_default();
    if !api.checks_run_image() || name.is_empty() || !images.are_in_registries() {
        return Ok(());
    }
    let run = documents::run(inputs, context.log)?;
    if !run.images.iter().any(|image| export::has_name(image, name)) {
        return Ok(());
    }
    let image = images.in_registry(name, Exit::Other)?;
    image.check_read().map_err(|error| {
        Failure::caused(Exit::Other, format!("selected run image '{name}' is not accessible"), &error)
    })
}
