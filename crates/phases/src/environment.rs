//! What buildpacks have around them: folders, and an environment (buildpack specification, "Environment").

use crate::files::{self, FileError, Links};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use strata_decide::build::{BUILD_FOLDERS, PASSED_ON};
use strata_decide::detect::{BuildTarget, Kind};
use strata_launch::env::{DefaultAction, Env};
use strata_spec::buildpack::escape_id;
use strata_spec::{BuildpackApi, PlatformApi};

/// The largest value of a variable in bytes: what Linux lets one have.
const MAX_VALUE: usize = 128 * 1024;

/// What both phases that run buildpacks need to know.
#[derive(Debug, Clone)]
pub struct Surroundings<'a> {
    /// `<buildpacks>/<escaped id>/<version>/`.
    pub buildpacks_dir: &'a Path,
    /// `<extensions>/<escaped id>/<version>/`.
    pub extensions_dir: &'a Path,
    /// The app.
    pub app_dir: &'a Path,
    /// `<platform>/env` holds the user's variables.
    pub platform_dir: &'a Path,
    /// `<build config>/env` holds the operator's variables.
    pub build_config_dir: &'a Path,
    /// Where layers and results go.
    pub layers_dir: &'a Path,
    /// Where temporary files go.
    pub temp_dir: &'a Path,
    /// The environment that the phase was given.
    pub variables: &'a [(OsString, OsString)],
    /// What the image is built for.
    pub target: &'a BuildTarget,
    /// The platform's API.
    pub api: PlatformApi,
}

impl Surroundings<'_> {
    /// The folder of a buildpack.
    pub fn buildpack_dir(&self, id: &str, version: &str) -> PathBuf {
        self.module_dir(Kind::Buildpack, id, version)
    }

    /// The folder of a buildpack or an extension.
    pub fn module_dir(&self, kind: Kind, id: &str, version: &str) -> PathBuf {
        let all = match kind {
            Kind::Buildpack => self.buildpacks_dir,
            Kind::Extension => self.extensions_dir,
        };
        all.join(escape_id(id)).join(version)
    }
}

/// The base environment: what is passed on of the given variables.
pub fn base(variables: &[(OsString, OsString)]) -> Env {
    let mut env = Env::default();
    for (name, value) in variables {
        if PASSED_ON.iter().any(|known| OsStr::new(known) == name) {
            env.set(name, value);
        }
    }
    env
}

/// Name and contents of an environment file.
pub type EnvFile = (Vec<u8>, Vec<u8>);

/// The files of one folder of environment files: name and contents, sorted, folders left out.
///
/// # Errors
/// When the folder or a file cannot be read.
pub fn read_dir(dir: &Path) -> Result<Vec<EnvFile>, FileError> {
    let mut files = Vec::new();
    for path in files::list(dir)? {
        let io_error = |source| FileError::Io { action: "read", path: path.clone(), source };
        if std::fs::metadata(&path).map_err(io_error)?.is_dir() {
            continue;
        }
        let name = path.file_name().unwrap_or_default().as_bytes().to_vec();
        let value = files::read_bytes(&path, Links::Follow, MAX_VALUE)?.unwrap_or_default();
        if value.contains(&0) {
            return Err(io_error(io::Error::other("it holds a NUL byte, which no variable can")));
        }
        files.push((name, value));
    }
    Ok(files)
}

/// Adds the user's variables from `<platform>/env`: each file is one variable. Search paths are prepended to, so
/// that a user cannot hide what buildpacks put there by accident.
///
/// # Errors
/// When the folder or a file cannot be read.
fn add_platform(env: &mut Env, platform_dir: &Path) -> Result<(), FileError> {
    let is_search_path = |name: &[u8]| {
        BUILD_FOLDERS.iter().flat_map(|(_, variables)| *variables).any(|v| v.as_bytes() == name)
    };
    for (name, value) in read_dir(&platform_dir.join("env"))? {
        let (key, value) = (OsStr::from_bytes(&name), OsStr::from_bytes(&value));
        match env.get(key).filter(|old| is_search_path(&name) && !old.is_empty()) {
            Some(old) => {
                let mut joined = value.to_owned();
                joined.push(":");
                joined.push(old);
                env.set(key, joined);
            }
            None => env.set(key, value),
        }
    }
    Ok(())
}

/// Adds what user and operator gave: the platform's variables, unless the buildpack asked for a clear environment,
/// and then those of the build configuration, which may override them.
///
/// # Errors
/// When a folder or a file cannot be read.
pub fn add_given(env: &mut Env, around: &Surroundings<'_>, clear: bool) -> Result<(), FileError> {
    if !clear {
        add_platform(env, around.platform_dir)?;
    }
    env.apply_dir(&read_dir(&around.build_config_dir.join("env"))?, DefaultAction::Default);
    Ok(())
}

/// Adds a build layer: its folders, then `env/`, then `env.build/`.
///
/// # Errors
/// When a folder or a file cannot be read.
pub fn add_build_layer(env: &mut Env, layer: &Path) -> Result<(), FileError> {
    for (folder, variables) in BUILD_FOLDERS {
        let dir = layer.join(folder);
        if dir.is_dir() {
            for variable in *variables {
                env.prepend_path(variable, &dir, b':');
            }
        }
    }
    for folder in ["env", "env.build"] {
        env.apply_dir(&read_dir(&layer.join(folder))?, DefaultAction::Override);
    }
    Ok(())
}

/// What one buildpack's or extension's program gets beyond the shared environment.
pub struct Own<'a> {
    /// Whose.
    pub kind: Kind,
    /// The buildpack's API.
    pub api: BuildpackApi,
    /// The buildpack's folder.
    pub dir: &'a Path,
    /// What the image is built for.
    pub target: &'a BuildTarget,
    /// `production`, `test`, …; none where it is not told.
    pub exec_env: Option<&'a str>,
    /// Paths that newer APIs give as variables too.
    pub paths: Vec<(&'static str, &'a Path)>,
}

/// The variables of [`Own`], by the rules of the buildpack's API.
pub fn add_own(env: &mut Env, own: &Own<'_>) {
    let dir = match own.kind {
        Kind::Buildpack => "CNB_BUILDPACK_DIR",
        Kind::Extension => "CNB_EXTENSION_DIR",
    };
    env.set(dir, own.dir.as_os_str());
    if own.api.has_path_variables() {
        for (name, path) in &own.paths {
            env.set(name, path.as_os_str());
        }
    }
    if own.api.has_targets() {
        env.set("CNB_TARGET_OS", &own.target.os);
        env.set("CNB_TARGET_ARCH", &own.target.arch);
        if !own.target.variant.is_empty() {
            env.set("CNB_TARGET_ARCH_VARIANT", &own.target.variant);
        }
        if let Some((name, version)) = &own.target.distro {
            env.set("CNB_TARGET_DISTRO_NAME", name);
            env.set("CNB_TARGET_DISTRO_VERSION", version);
        }
    }
    if let Some(exec_env) = own.exec_env.filter(|_| own.api.has_exec_env()) {
        env.set("CNB_EXEC_ENV", exec_env);
    }
}

/// The environment as a process gets it.
pub fn to_vec(env: &Env) -> Vec<(OsString, OsString)> {
    env.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}
