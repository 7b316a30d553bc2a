//! Where a launch layer keeps what, and the name of a buildpack's directory.

use std::path::{Path, PathBuf};

/// Directories of a layer that are prepended to a variable, if they exist.
pub const LAUNCH_ROOT_DIRS: &[(&str, &str)] = &[("bin", "PATH"), ("lib", "LD_LIBRARY_PATH")];

/// The name of a buildpack's directory below the layers directory.
#[must_use]
pub fn escape_id(id: &str) -> String {
    id.replace('/', "_")
}

/// Directories of environment files, in the order they apply.
#[must_use]
pub fn env_dirs(layer: &Path, process_type: &str) -> Vec<PathBuf> {
    let mut dirs = vec![layer.join("env")];
    dirs.extend(with_type(layer, "env.launch", process_type));
    dirs
}

/// Directories of programs that compute environment variables, in the order they run.
#[must_use]
pub fn exec_d_dirs(layer: &Path, process_type: &str) -> Vec<PathBuf> {
    with_type(layer, "exec.d", process_type)
}

/// Directories of scripts that bash sources, in that order.
#[must_use]
pub fn profile_dirs(layer: &Path, process_type: &str) -> Vec<PathBuf> {
    with_type(layer, "profile.d", process_type)
}

fn with_type(layer: &Path, name: &str, process_type: &str) -> Vec<PathBuf> {
    let dir = layer.join(name);
    if process_type.is_empty() {
        return vec![dir];
    }
    let of_type = dir.join(process_type);
    vec![dir, of_type]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_of_the_process_type_come_last() {
        let layer = Path::new("/l");
        let paths = |dirs: Vec<PathBuf>| dirs.iter().map(|d| d.display().to_string()).collect::<Vec<_>>();
        assert_eq!(paths(env_dirs(layer, "web")), ["/l/env", "/l/env.launch", "/l/env.launch/web"]);
        assert_eq!(paths(env_dirs(layer, "")), ["/l/env", "/l/env.launch"]);
        assert_eq!(paths(exec_d_dirs(layer, "web")), ["/l/exec.d", "/l/exec.d/web"]);
        assert_eq!(paths(profile_dirs(layer, "")), ["/l/profile.d"]);
    }

    #[test]
    fn slashes_of_an_id_become_underscores() {
        assert_eq!(escape_id("a/b/c"), "a_b_c");
    }
}
