//! Brings a phase's inputs together: names, files that name the run image, and the checks among them.

use crate::env::Environment;
use crate::flags::Parsed;
use crate::log::Logger;
use crate::phase;
use std::error::Error;
use strata_decide::inputs::check::{InputError, RunImageSource, registry_of, select_run_image};
use strata_decide::inputs::{Inputs, Names, Sources};
use strata_phases::files;
use strata_phases::{Failure, Observer};
use strata_spec::PlatformApi;
use strata_spec::analyzed::Analyzed;
use strata_spec::exit::Exit;
use strata_spec::phase::Phase;
use strata_spec::run::{RunFile, RunImage, StackFile};

/// Resolves the inputs of a phase.
///
/// # Errors
/// When they are wrong, do not fit together, or a file that says more cannot be read.
pub(crate) fn resolve(
    phase: Phase,
    api: PlatformApi,
    parsed: &Parsed,
    environment: &Environment,
    log: &Logger,
) -> Result<Inputs, Failure> {
    let names = Names::of(phase, &parsed.positional)
        .map_err(|error| Failure::caused(Exit::InvalidArguments, "failed to parse arguments", &error))?;
    let sources = Sources { flags: &parsed.given, env: &environment.variables };
    let exists = |path: &std::path::Path| path.exists();
    let mut inputs =
        Inputs::resolve(sources, names, &environment.current_dir, &exists).map_err(|e| failed(&e))?;
    match inputs.complete(phase, api).map_err(|e| failed(&e))? {
        RunImageSource::Settled => {}
        source => find_run_image(source, &mut inputs)?,
    }
    inputs.check(phase, &mut |text| log.warn(text.to_owned())).map_err(|e| failed(&e))?;
    Ok(inputs)
}

fn failed(error: &dyn Error) -> Failure {
    Failure::caused(Exit::InvalidArguments, "failed to resolve inputs", error)
}

fn find_run_image(source: RunImageSource, inputs: &mut Inputs) -> Result<(), Failure> {
    let candidates = match source {
        RunImageSource::Settled => return Ok(()),
        RunImageSource::Analyzed => {
            let analyzed = files::read(&inputs.analyzed, Analyzed::parse).map_err(|e| failed(&e))?;
            let run_image = analyzed.and_then(|analyzed| analyzed.run_image);
            let reference = run_image.as_ref().map(|image| image.reference.as_str());
            return inputs.set_analyzed_run_image(reference).map_err(|e| failed(&e));
        }
        RunImageSource::RunFile => first_run_image(inputs)?,
        RunImageSource::StackFile => {
            files::read(&inputs.stack, StackFile::parse)
                .map_err(|e| failed(&e))?
                .unwrap_or_default()
                .run_image
        }
    };
    let image = inputs.output_image.clone().unwrap_or_default();
    let registry = registry_of(&image).map_err(|e| failed(&e))?;
    let mut problem = None;
    let selected = select_run_image(&candidates, &registry, &mut |name| {
        problem.is_none()
            && phase::is_accessible(inputs, name).unwrap_or_else(|failure| {
                problem = Some(failure);
                false
            })
    });
    match problem {
        Some(failure) => Err(failure),
        None => {
            inputs.run_image = Some(selected.map_err(|e| failed(&e))?);
            Ok(())
        }
    }
}

/// The first run image of `run.toml`; a file that is not there names none.
fn first_run_image(inputs: &Inputs) -> Result<RunImage, Failure> {
    let file = files::read(&inputs.run, RunFile::parse).map_err(|e| failed(&e))?.unwrap_or_default();
    file.images.into_iter().next().ok_or_else(|| failed(&InputError::NoRunImages))
}
