//! Reads what the image holds: metadata, layers, environment files.

use std::fs::{self, FileType};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use strata_launch::layer;
use strata_launch::metadata::Metadata;

use crate::failure::{Failure, cause};
use crate::parse;

/// Reads and checks `config/metadata.toml` of the layers directory.
pub(crate) fn read_metadata(layers_dir: &Path) -> Result<Metadata, Failure> {
    let path = layers_dir.join("config/metadata.toml");
    let text = fs::read_to_string(&path)
        .map_err(|error| Failure::Metadata(format!("open {}: {}", path.display(), cause(&error))))?;
    parse::metadata(&text)
}

/// The layers of each buildpack that has a directory, by name. Only a real directory is a layer.
pub(crate) fn layers_of_buildpacks(
    layers_dir: &Path,
    metadata: &Metadata,
) -> Result<Vec<Vec<PathBuf>>, String> {
    let mut buildpacks = Vec::new();
    for buildpack in &metadata.buildpacks {
        let dir = layers_dir.join(layer::escape_id(&buildpack.id));
        let layers = list(&dir, |kind| kind.is_dir()).map_err(|error| format!("modify env: {error}"))?;
        buildpacks.push(layers);
    }
    Ok(buildpacks)
}

/// The files of a directory, by name; none if there is no such directory.
pub(crate) fn files_in(dir: &Path) -> Result<Vec<PathBuf>, String> {
    list(dir, |kind| !kind.is_dir())
}

fn list(dir: &Path, wanted: impl Fn(FileType) -> bool) -> Result<Vec<PathBuf>, String> {
    let failed = |error| format!("failed to list files in dir '{}': {}", dir.display(), cause(&error));
    let mut paths = Vec::new();
    let Some(entries) = found(fs::read_dir(dir)).map_err(failed)? else { return Ok(paths) };
    for entry in entries {
        let entry = entry.map_err(failed)?;
        if wanted(entry.file_type().map_err(failed)?) {
            paths.push(entry.path());
        }
    }
    paths.sort_unstable();
    Ok(paths)
}

/// Names and contents.
type EnvFiles = Vec<(Vec<u8>, Vec<u8>)>;

/// The files of a directory of environment files with their contents; none if there is no such directory.
pub(crate) fn env_files(dir: &Path) -> Result<EnvFiles, String> {
    read_env_files(dir)
        .map_err(|(path, error)| format!("open {}: {}", path.display(), cause(&error)))
        .map_err(|error| format!("apply env files from dir '{}': {error}", dir.display()))
}

fn read_env_files(dir: &Path) -> Result<EnvFiles, (PathBuf, io::Error)> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |error| (path, error)
    };
    let mut files = Vec::new();
    let Some(entries) = found(fs::read_dir(dir)).map_err(at(dir))? else { return Ok(files) };
    for entry in entries {
        let entry = entry.map_err(at(dir))?;
        let path = entry.path();
        let kind = entry.file_type().map_err(at(&path))?;
        let is_dir = kind.is_dir() || kind.is_symlink() && fs::metadata(&path).map_err(at(&path))?.is_dir();
        if !is_dir {
            let contents = fs::read(&path).map_err(at(&path))?;
            files.push((entry.file_name().into_vec(), contents));
        }
    }
    Ok(files)
}

/// The absolute path of something that exists.
pub(crate) fn existing(path: &Path) -> Result<Option<PathBuf>, String> {
    let failed = |error| format!("stat {}: {}", path.display(), cause(&error));
    match found(fs::metadata(path)).map_err(failed)? {
        Some(_) => std::path::absolute(path).map(Some).map_err(failed),
        None => Ok(None),
    }
}

/// The app's own profile script, if it has one.
///
/// The leading dot keeps bash from searching it in `PATH`.
pub(crate) fn app_profile() -> Result<Option<PathBuf>, String> {
    let path = Path::new("./.profile");
    let metadata = found(fs::metadata(path)).map_err(|error| {
        format!("failed to determine if app profile script exists at path '.profile': {}", cause(&error))
    })?;
    Ok(metadata.filter(|metadata| !metadata.is_dir()).map(|_| path.to_owned()))
}

/// Whether a file can be executed; if not, why.
pub(crate) fn executable(path: &Path) -> Result<(), String> {
    let metadata =
        fs::metadata(path).map_err(|error| format!("stat {}: {}", path.display(), cause(&error)))?;
    if metadata.is_dir() {
        return Err("is a directory".into());
    }
    rustix::fs::access(path, rustix::fs::Access::EXEC_OK).map_err(|error| cause(&error.into()))
}

fn found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
