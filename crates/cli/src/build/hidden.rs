//! What buildpacks that run on this machine's own files do not see of them: Strata's images, caches and logs, and the
//! caller's home but for the tools in it.

use crate::places::Places;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Where people have tools in their home.
const TOOLS: &[&str] = &[
    ".asdf",
    ".bun",
    ".cabal/bin",
    ".cargo",
    ".deno",
    ".dotnet",
    ".elan",
    ".ghcup",
    ".goenv",
    ".jenv",
    ".juliaup",
    ".linuxbrew",
    ".local/bin",
    ".local/lib",
    ".local/pipx",
    ".local/share/fnm",
    ".local/share/mise",
    ".local/share/pnpm",
    ".local/share/uv",
    ".nix-profile",
    ".nodenv",
    ".nvm",
    ".opam",
    ".phpenv",
    ".pyenv",
    ".rbenv",
    ".rustup",
    ".rvm",
    ".sdkman",
    ".stack/programs",
    ".swiftly",
    ".volta",
    "bin",
    "go/bin",
];

/// What is secret among tools.
const SECRETS: &[&str] =
    &[".bun/.env", ".cargo/credentials", ".cargo/credentials.toml", ".nvm/.npmrc", ".sdkman/etc/config"];

/// The files and folders to hide, besides `others`.
pub(crate) fn hidden<'a>(places: &Places, others: impl Iterator<Item = &'a Path>) -> Vec<PathBuf> {
    let mut hidden = vec![places.data.clone(), places.cache.clone(), places.state.clone()];
    hidden.extend(others.map(Path::to_owned));
    if let Some(home) = places.home.as_deref().filter(|home| is_home(home)) {
        let shown = shown(home, places.variable("PATH").unwrap_or_default());
        hide_but(home, &shown, &mut hidden);
        hidden.extend(SECRETS.iter().map(|name| home.join(name)));
    }
    hidden.retain(|path| path.symlink_metadata().is_ok());
    hidden
}

/// A container's user may have `/`, or a folder of the system, for a home: nothing would run without it.
fn is_home(home: &Path) -> bool {
    const SYSTEM: &[&str] =
        &["/usr", "/etc", "/bin", "/sbin", "/lib", "/lib64", "/opt", "/var", "/nix", "/cnb"];
    home.is_absolute() && home.parent().is_some() && !SYSTEM.iter().any(|system| Path::new(system) == home)
}

/// Tools in the home: the usual ones, and those that are found by `PATH`, with what lies beside a folder `bin`.
fn shown(home: &Path, path: &str) -> BTreeSet<PathBuf> {
    let usual = TOOLS.iter().map(|name| home.join(name));
    let found = std::env::split_paths(path).filter(|dir| dir != home && dir.starts_with(home)).map(|dir| {
        let above = dir.parent().filter(|above| *above != home && !above.ends_with(".local"));
        let is_bin = dir.ends_with("bin") || dir.ends_with("shims");
        above.filter(|_| is_bin).map_or_else(|| dir.clone(), Path::to_owned)
    });
    usual.chain(found).collect()
}

/// Adds all in a folder that is neither to be shown nor on the way to it.
fn hide_but(dir: &Path, shown: &BTreeSet<PathBuf>, hidden: &mut Vec<PathBuf>) {
    // What the caller cannot list, nobody inside can.
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if shown.contains(&path) {
            continue;
        }
        if shown.iter().any(|tool| tool.starts_with(&path)) && path.is_dir() {
            hide_but(&path, shown, hidden);
        } else if !path.is_symlink() {
            hidden.push(path);
        } else if let Ok(target) = path.canonicalize()
            && !is_of_system(&target)
        {
            // Home folders are often on another disk.
            hidden.push(target);
        }
    }
}

/// Whether programs may need it, wherever a link to it is.
fn is_of_system(path: &Path) -> bool {
    const OTHERS: &[&str] = &["/home", "/root", "/mnt", "/media", "/data", "/srv"];
    !OTHERS.iter().any(|other| path.starts_with(other) && path != Path::new(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tools_are_shown_of_a_home() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path();
        for file in [
            ".ssh/id",
            ".config/rclone/rclone.conf",
            ".cargo/bin/cargo",
            ".local/bin/tool",
            ".local/share/keyrings/login",
            ".local/share/uv/python",
            "tools/node/bin/node",
            "tools/notes",
            "private/diary",
            "bin/mine",
            ".env",
        ] {
            fs::create_dir_all(home.join(file).parent().unwrap()).unwrap();
            fs::write(home.join(file), "").unwrap();
        }
        std::os::unix::fs::symlink("/usr", home.join("system")).unwrap();
        let path = format!("/usr/bin:{0}/tools/node/bin:{0}/.local/bin:{0}", home.display());
        let mut hidden = Vec::new();
        hide_but(home, &shown(home, &path), &mut hidden);
        let mut names: Vec<_> =
            hidden.iter().map(|path| path.strip_prefix(home).unwrap().to_str().unwrap()).collect();
        names.sort_unstable();
        assert_eq!(names, [".config", ".env", ".local/share/keyrings", ".ssh", "private", "tools/notes"]);
        for no_home in ["/", "/usr", "relative"] {
            assert!(!is_home(Path::new(no_home)), "{no_home}");
        }
        assert!(is_home(Path::new("/root")) && is_home(Path::new("/home/ann")));
    }
}
