//! The documents that phases hand to each other, as every phase reads and writes them.

use crate::log::Logger;
use std::path::Path;
use strata_phases::files;
use strata_phases::{Failure, Observer};
use strata_spec::DocError;
use strata_spec::analyzed::Analyzed;
use strata_spec::exit::Exit;
use strata_spec::group::Group;

/// Reads a document that must be there; `what` is `group`, `plan`, ….
///
/// # Errors
/// When it is not there or not valid.
pub(crate) fn read<T>(
    path: &Path,
    what: &str,
    parse: impl FnOnce(&str) -> Result<T, DocError>,
) -> Result<T, Failure> {
    let message = format!("failed to read {what} file");
    match files::read(path, parse) {
        Ok(Some(document)) => Ok(document),
        Ok(None) => Err(Failure::new(
            Exit::Other,
            format!("{message}: open {}: no such file or directory", path.display()),
        )),
        Err(error) => Err(Failure::caused(Exit::Other, message, &error)),
    }
}

/// Reads `analyzed.toml`; one that is not there says nothing.
///
/// # Errors
/// When it is not valid.
pub(crate) fn analyzed(path: &Path, log: &Logger) -> Result<Analyzed, Failure> {
    match files::read(path, Analyzed::parse) {
        Ok(Some(analyzed)) => Ok(analyzed),
        Ok(None) => {
            log.warn(format!("No analyzed metadata found at path {path:?}"));
            Ok(Analyzed::default())
        }
        Err(error) => Err(Failure::caused(Exit::Other, "failed to read analyzed file", &error)),
    }
}

/// Reads `group.toml`, and makes sure that the APIs of all buildpacks are understood.
///
/// # Errors
/// When it is not there or not valid, an API is not supported, or the group has image extensions.
pub(crate) fn group(path: &Path) -> Result<Group, Failure> {
    let group = read(path, "group", Group::parse)?;
    for buildpack in &group.group {
        strata_phases::detect::buildpack_api(&buildpack.label(), &buildpack.api)?;
    }
    Ok(group)
}

/// Writes a document; `what` is `group`, `plan`, ….
///
/// # Errors
/// When it cannot be written.
pub(crate) fn write(path: &Path, what: &str, text: &str, exit: Exit) -> Result<(), Failure> {
    files::write(path, text)
        .map_err(|error| Failure::caused(exit, format!("failed to write {what} file"), &error))
}
