//! The documents that phases hand to each other, as every phase reads and writes them.

use crate::log::Logger;
use std::path::Path;
use strata_decide::inputs::Inputs;
use strata_phases::files::{self, FileError};
use strata_phases::{Failure, Observer};
use strata_spec::DocError;
use strata_spec::analyzed::Analyzed;
use strata_spec::exit::Exit;
use strata_spec::group::Group;
use strata_spec::run::RunFile;

/// Reads a document that must be there; `what` is `group`, `plan`, ….
///
/// # Errors
/// When it is not there or not valid.
pub(crate) fn read<T>(
    inputs: &Inputs,
    path: &Path,
    what: &str,
    parse: impl FnOnce(&str) -> Result<T, DocError>,
) -> Result<T, Failure> {
    let message = format!("failed to read {what} file");
    match read_if_there(inputs, path, parse) {
        Ok(Some(document)) => Ok(document),
        Ok(None) => Err(Failure::new(
            Exit::Other,
            format!("{message}: open {}: no such file or directory", path.display()),
        )),
        Err(error) => Err(Failure::caused(Exit::Other, message, &error)),
    }
}

/// Reads a document; `None` when it is not there. Among the layers, where buildpacks write, links are refused.
///
/// # Errors
/// When it cannot be read or is not valid.
pub(crate) fn read_if_there<T>(
    inputs: &Inputs,
    path: &Path,
    parse: impl FnOnce(&str) -> Result<T, DocError>,
) -> Result<Option<T>, FileError> {
    if is_among_layers(inputs, path) { files::read(path, parse) } else { files::read_given(path, parse) }
}

fn is_among_layers(inputs: &Inputs, path: &Path) -> bool {
    path.starts_with(&inputs.layers_dir)
}

/// Reads `analyzed.toml`; one that is not there says nothing.
///
/// # Errors
/// When it is not valid.
pub(crate) fn analyzed(inputs: &Inputs, log: &Logger) -> Result<Analyzed, Failure> {
    match read_if_there(inputs, &inputs.analyzed, Analyzed::parse) {
        Ok(Some(analyzed)) => Ok(analyzed),
        Ok(None) => {
            log.warn(format!("No analyzed metadata found at path {:?}", inputs.analyzed));
            Ok(Analyzed::default())
        }
        Err(error) => Err(Failure::caused(Exit::Other, "failed to read analyzed file", &error)),
    }
}

/// Reads `group.toml`, and makes sure that the APIs of all buildpacks are understood. Those of extensions are seen to
/// by who runs them.
///
/// # Errors
/// When it is not there or not valid, or an API is not supported.
pub(crate) fn group(inputs: &Inputs) -> Result<Group, Failure> {
    let group = read(inputs, &inputs.group, "group", Group::parse)?;
    for buildpack in &group.group {
        strata_phases::detect::buildpack_api(&buildpack.label(), &buildpack.api)?;
    }
    Ok(group)
}

/// Reads `run.toml`; one that is not there names no run image.
///
/// # Errors
/// When it is not valid.
pub(crate) fn run(inputs: &Inputs, log: &Logger) -> Result<RunFile, Failure> {
    let run = files::read_given(&inputs.run, RunFile::parse)
        .map_err(|error| Failure::caused(Exit::Other, "failed to read run file", &error))?;
    if run.is_none() {
        log.detail(format!("No run metadata found at path {:?}", inputs.run));
    }
    Ok(run.unwrap_or_default())
}

/// Writes a document; `what` is `group`, `plan`, …. Among the layers it replaces whatever is there.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn write(inputs: &Inputs, path: &Path, what: &str, text: &str, exit: Exit) -> Result<(), Failure> {
    let written =
        if is_among_layers(inputs, path) { files::write(path, text) } else { files::write_given(path, text) };
    written.map_err(|error| Failure::caused(exit, format!("failed to write {what} file"), &error))
}
