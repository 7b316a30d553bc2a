//! The phase `restore`.

use super::{Context, export, threads};
use crate::documents;
use strata_decide::origins::Require;
use strata_phases::export::Previous;
use strata_phases::files;
use strata_phases::origins::Required;
use strata_phases::restore::{self, Restore};
use strata_phases::{Failure, Observer};
use strata_spec::analyzed::Analyzed;
use strata_spec::exit::Exit;
use strata_spec::group::Group;
use strata_spec::run::RunFile;
use strata_store::cache::Cache;

pub(super) fn run(context: &Context<'_>) -> Result<(), Failure> {
    let Context { inputs, log, .. } = context;
    let images = context.images()?;
    let group = documents::group(inputs)?;
    documents::refuse_extensions(&group, "restore", Exit::Restore)?;
    if inputs.build_image.is_some() {
        log.debug("the build image is not needed: it is not extended".into());
    }
    let analyzed = match documents::read_if_there(inputs, &inputs.analyzed, Analyzed::parse) {
        Ok(found) => {
            let analyzed = match found {
                Some(analyzed) => analyzed,
                None => documents::analyzed(inputs, log)?,
            };
            check_run_image(context, &analyzed)?;
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

/// Makes sure that the run image can still be had, before anybody builds for it. One that `run.toml` does not know is
/// the platform's own affair.
fn check_run_image(context: &Context<'_>, analyzed: &Analyzed) -> Result<(), Failure> {
    let Context { inputs, api, .. } = context;
    let images = context.images()?;
    let name = analyzed.run_image.as_ref().map(|image| image.image.as_str()).unwrap_or_default();
    if !api.checks_run_image() || name.is_empty() || !images.are_in_registries() {
        return Ok(());
    }
    let run = files::read_given(&inputs.run, RunFile::parse)
        .map_err(|error| Failure::caused(Exit::Other, "failed to read run file", &error))?
        .unwrap_or_default();
    if !run.images.iter().any(|image| export::has_name(image, name)) {
        return Ok(());
    }
    let image = images.in_registry(name, Exit::Other)?;
    image.check_read().map_err(|error| {
        Failure::caused(Exit::Other, format!("selected run image '{name}' is not accessible"), &error)
    })
}
