//! Brings a phase's inputs together: names, files that name the run image, and the checks among them.

use crate::documents;
use crate::env::Environment;
use crate::flags::Parsed;
use crate::images::Images;
use crate::log::Logger;
use std::error::Error;
use std::path::Path;
use strata_decide::inputs::check::{InputError, RunImageSource, registry_of, select_run_image};
use strata_decide::inputs::{Inputs, Names, Sources};
use strata_phases::files;
use strata_phases::{Failure, Observer};
use strata_spec::analyzed::Analyzed;
use strata_spec::exit::Exit;
use strata_spec::phase::Phase;
use strata_spec::run::{RunFile, RunImage, StackFile};
use strata_spec::{DocError, PlatformApi};

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
) -> Result<(Inputs, Option<Images>), Failure> {
    let names = Names::of(phase, &parsed.positional)
        .map_err(|error| Failure::caused(Exit::InvalidArguments, "failed to parse arguments", &error))?;
    let sources = Sources { flags: &parsed.given, env: &environment.variables };
    let exists = |path: &Path| path.exists();
    let mut inputs =
        Inputs::resolve(sources, names, &environment.current_dir, &exists).map_err(|e| failed(&e))?;
    let source = inputs.complete(phase, api).map_err(|e| failed(&e))?;
    if matches!(phase, Phase::Detect | Phase::Build | Phase::Extend) {
        return Ok((inputs, None));
    }
    let images = Images::of(&inputs, environment)?;
    if source != RunImageSource::Settled {
        find_run_image(source, &mut inputs, &images, log)?;
    }
    inputs.check(phase, &mut |text| log.warn(text.to_owned())).map_err(|e| failed(&e))?;
    images.look_up_credentials(&inputs)?;
    Ok((inputs, Some(images)))
}

fn failed(error: &dyn Error) -> Failure {
    Failure::caused(Exit::InvalidArguments, "failed to resolve inputs", error)
}

fn find_run_image(
    source: RunImageSource,
    inputs: &mut Inputs,
    images: &Images,
    log: &Logger,
) -> Result<(), Failure> {
    if source == RunImageSource::Analyzed {
        let analyzed = documents::read_if_there(inputs, &inputs.analyzed, Analyzed::parse)
            .map_err(|error| failed(&error))?;
        if analyzed.is_none() {
            log.warn(format!("No analyzed metadata found at path {:?}", inputs.analyzed));
        }
        let run_image = analyzed.and_then(|analyzed| analyzed.run_image);
        let reference = run_image.as_ref().map(|image| image.reference.as_str());
        if let (true, Some(given), Some(analyzed)) = (inputs.use_draft, &inputs.run_image, reference) {
            let place = images.shown(given, Exit::InvalidArguments)?;
            if !analyzed.is_empty() && analyzed.split('@').next() != Some(place.as_str()) {
                let (given, analyzed) = (given.clone(), analyzed.to_owned());
                return Err(failed(&InputError::OtherRunImage { given, analyzed }));
            }
        }
        return inputs.set_analyzed_run_image(reference).map_err(|e| failed(&e));
    }
    let image = inputs.output_image.as_deref().unwrap_or_default();
    let registry = registry_of(image).map_err(|e| failed(&e))?;
    let candidates = match source {
        RunImageSource::RunFile => first_run_image(inputs, log)?,
        _ => run_image_of_stack(inputs, log)?,
    };
    let selected = select_run_image(&candidates, &registry, &mut |name| images.are_readable(name));
    inputs.run_image = Some(selected.map_err(|e| failed(&e))?);
    Ok(())
}

/// The run image of `stack.toml`; a file that is not there names none.
fn run_image_of_stack(inputs: &Inputs, log: &Logger) -> Result<RunImage, Failure> {
    let file = read(&inputs.stack, StackFile::parse)?;
    if file.is_none() {
        log.info(format!("No stack metadata found at path {:?}", inputs.stack));
    }
    Ok(file.unwrap_or_default().run_image)
}

/// The first run image of `run.toml`; a file that is not there names none.
fn first_run_image(inputs: &Inputs, log: &Logger) -> Result<RunImage, Failure> {
    let file = read(&inputs.run, RunFile::parse)?;
    if file.is_none() {
        log.info(format!("No run metadata found at path {:?}", inputs.run));
    }
    file.unwrap_or_default().images.into_iter().next().ok_or_else(|| failed(&InputError::NoRunImages))
}

fn read<T>(path: &Path, parse: impl FnOnce(&str) -> Result<T, DocError>) -> Result<Option<T>, Failure> {
    files::read_given(path, parse).map_err(|error| failed(&error))
}
