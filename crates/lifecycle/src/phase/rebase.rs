//! The phase `rebase`.

use super::{Context, export, origins};
use crate::documents;
use strata_decide::inputs::check::{registry_of, select_run_image};
use strata_decide::rebase::{self as decide, Force};
use strata_phases::Failure;
use strata_phases::origins::rebased;
use strata_phases::rebase::{self, Rebase};
use strata_spec::exit::Exit;
use strata_store::StoredImage;

pub(super) fn run(context: &Context<'_>) -> Result<(), Failure> {
    let Context { inputs, log, api, .. } = context;
    let images = context.images()?;
    let output = inputs.output_image.as_deref().unwrap_or_default();
    let name = inputs.previous_image.as_deref().unwrap_or(output);
    let (app_store, app) = images.read(name, "access image to rebase", Exit::Rebase)?;
    let base_name = base_name(context, &app, output)?;
    let (base_store, new_base) = images.read(&base_name, "access run image", Exit::Other)?;
    let outputs = inputs
        .destinations()
        .into_iter()
        .map(|name| images.output(name, Exit::Rebase))
        .collect::<Result<Vec<_>, _>>()?;
    let timer = log.timer("Rebaser");
    let input = Rebase {
        app: &app,
        app_store: app_store.as_ref(),
        new_base: &new_base,
        base_store: base_store.as_ref(),
        base_name: &base_name,
        outputs: &outputs,
        in_place: false,
        api: *api,
        force: if inputs.force_rebase { Force::Yes } else { Force::No },
        created: &export::created(context),
    };
    let before = if inputs.report_origins { rebased::before(&input, *log) } else { None };
    let rebased = rebase::run(&input, *log)?;
    drop(timer);
    let program = || origins::program(&base_name, &base_store.identifier(&new_base));
    let carry_on = |before| rebased::carry_on(&input, &rebased, before, program(), *log);
    let report = before.and_then(carry_on).unwrap_or_else(|| rebased.report.to_toml());
    documents::write(inputs, &inputs.report, "rebase report", &report, Exit::Rebase)
}

/// The run image that the platform names, else the one that the app image names, or a mirror of it.
fn base_name(context: &Context<'_>, app: &StoredImage, output: &str) -> Result<String, Failure> {
    let Context { inputs, api, .. } = context;
    let images = context.images()?;
    if let Some(name) = &inputs.run_image {
        return Ok(name.clone());
    }
    let failed =
        |error: &dyn std::error::Error| Failure::caused(Exit::Rebase, "failed to set app image", error);
    let metadata = decide::metadata(app.image.config()).map_err(|error| failed(&error))?;
    let known = decide::run_image(&metadata, *api).ok_or_else(|| {
        let message =
            "failed to set app image: -run-image is required when there is no run image metadata available";
        Failure::new(Exit::Rebase, message)
    })?;
    let registry = registry_of(output).map_err(|error| failed(&error))?;
    select_run_image(&known, &registry, &mut |name| images.are_readable(name)).map_err(|error| failed(&error))
}
