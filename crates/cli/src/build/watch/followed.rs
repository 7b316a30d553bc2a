//! What a build follows besides the app's folder: what the command line names on this machine.

use super::real;
use crate::app;
use crate::args;
use crate::places::Places;
use notify::{RecursiveMode, Watcher};
use std::path::{Path, PathBuf};

/// Files and folders, by their real paths.
#[derive(Debug, Default)]
pub(super) struct Followed {
    files: Vec<PathBuf>,
    folders: Vec<PathBuf>,
}

impl Followed {
    /// Buildpacks, a builder's folder, the project descriptor, files with variables and the report's table, where they are
    /// on this machine. What is not there is the build's to tell.
    pub(super) fn of(args: &args::Build, places: &Places) -> Self {
        let buildpacks = [&args.buildpack, &args.pre_buildpack, &args.post_buildpack].into_iter().flatten();
        let texts = buildpacks.chain(&args.builder).map(|text| text.strip_prefix("file://").unwrap_or(text));
        let files = args.env_file.iter().chain(&args.descriptor).chain(&args.report.report_extra);
        let mut followed = Self::default();
        for path in texts.map(Path::new).chain(files.map(PathBuf::as_path)) {
            let path = real(&places.current.join(path));
            // The folder with a builder.toml has the buildpacks that it names, as a rule.
            let is_builder = path.file_name().is_some_and(|name| name == "builder.toml");
            match path.metadata() {
                Ok(found) if found.is_dir() => followed.folders.push(path),
                Ok(_) if is_builder => followed.folders.extend(path.parent().map(Path::to_owned)),
                Ok(_) => followed.files.push(path),
                Err(_) => {}
            }
        }
        followed
    }

    /// Has the system tell of them, but for what is in the app, of which it tells anyway.
    pub(super) fn watch(&self, watcher: &mut dyn Watcher, app: &Path) -> notify::Result<()> {
        let others =
            |paths: &[PathBuf]| paths.iter().filter(|path| !path.starts_with(app)).cloned().collect();
        let (folders, files): (Vec<_>, Vec<_>) = (others(&self.folders), others(&self.files));
        folders.iter().try_for_each(|dir| watcher.watch(dir, RecursiveMode::Recursive))?;
        // Editors put a new file in the place of the old one, which nobody sees who looks at the file.
        let mut parents: Vec<_> = files.iter().filter_map(|file| file.parent()).collect();
        parents.sort();
        parents.dedup();
        parents.retain(|dir| !folders.iter().any(|folder| dir.starts_with(folder)));
        parents.into_iter().try_for_each(|dir| watcher.watch(dir, RecursiveMode::NonRecursive))
    }

    /// Whether a path is one of these, or in one.
    pub(super) fn has(&self, path: &Path) -> bool {
        let is_in = |folder: &PathBuf| {
            let tail = path.strip_prefix(folder).ok().filter(|tail| !tail.as_os_str().is_empty());
            tail.is_some_and(|tail| !tail.iter().any(app::is_left_out))
        };
        self.files.iter().any(|file| file == path) || self.folders.iter().any(is_in)
    }

    /// All of them, for people and programs.
    pub(super) fn names(&self) -> Vec<String> {
        self.folders.iter().chain(&self.files).map(|path| path.display().to_string()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_named_is_followed() {
        let followed =
            Followed { files: vec!["/etc/app.env".into()], folders: vec!["/buildpacks/one".into()] };
        for (path, expected) in [
            ("/etc/app.env", true),
            ("/etc/app.env.swp", false),
            ("/etc", false),
            ("/buildpacks/one/bin/build", true),
            ("/buildpacks/one", false),
            ("/buildpacks/one/.git/index", false),
            ("/buildpacks/other/bin/build", false),
        ] {
            assert_eq!(followed.has(Path::new(path)), expected, "{path}");
        }
    }
}
