//! What a build follows besides the app's folder: what the command line names on this machine.

use super::real;
use crate::app;
use crate::args;
use crate::places::Places;
use notify::{RecursiveMode, Watcher};
use std::path::{Path, PathBuf};
use strata_spec::builder::Builder;

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
        let files = args.env_file.iter().chain(&args.descriptor).chain(&args.report.report_extra);
        let mut followed = Self::default();
        for text in buildpacks {
            followed.add(local(&places.current, text));
        }
        for path in files {
            followed.add(real(&places.current.join(path)));
        }
        if let Some(builder) = &args.builder {
            followed.add_builder(local(&places.current, builder));
        }
        followed
    }

    fn add(&mut self, path: PathBuf) {
        match path.metadata() {
            Ok(found) if found.is_dir() => self.folders.push(path),
            Ok(_) => self.files.push(path),
            Err(_) => {}
        }
    }

    /// A builder's `builder.toml`, and what it lists: the rest of its folder may be anything, a home or the app.
    fn add_builder(&mut self, builder: PathBuf) {
        let file = if builder.is_dir() { real(&builder.join("builder.toml")) } else { builder };
        // One that cannot be read lists nothing; the build says what is wrong with it.
        let read = std::fs::read_to_string(&file).ok().and_then(|text| Builder::parse(&text).ok());
        if let (Some(listed), Some(base)) = (read, file.parent()) {
            for source in listed.buildpacks.iter().chain(&listed.extensions) {
                if !source.uri.is_empty() {
                    self.add(local(base, &source.uri));
                }
            }
        }
        self.add(file);
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

    /// Whether a path is one of these, or in one. What a folder is to the app that is in it says nothing of the app's files.
    pub(super) fn has(&self, path: &Path, app: &Path) -> bool {
        let is_in = |folder: &PathBuf| {
            let tail = path.strip_prefix(folder).ok().filter(|tail| !tail.as_os_str().is_empty());
            let is_of_app = path.starts_with(app) && app.starts_with(folder);
            !is_of_app && tail.is_some_and(|tail| !tail.iter().any(app::is_left_out))
        };
        self.files.iter().any(|file| file == path) || self.folders.iter().any(is_in)
    }

    /// All of them, for people and programs.
    pub(super) fn names(&self) -> Vec<String> {
        self.folders.iter().chain(&self.files).map(|path| path.display().to_string()).collect()
    }
}

/// Where a text leads that names something on this machine.
fn local(base: &Path, text: &str) -> PathBuf {
    real(&base.join(text.strip_prefix("file://").unwrap_or(text)))
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
            assert_eq!(followed.has(Path::new(path), Path::new("/app")), expected, "{path}");
        }
    }

    #[test]
    fn a_folder_with_the_app_does_not_follow_what_is_in_the_app() {
        let followed = Followed { files: Vec::new(), folders: vec!["/repo".into(), "/repo/app/pack".into()] };
        for (path, app, expected) in [
            ("/repo/bin/build", "/repo/app", true),
            ("/repo/app/notes", "/repo/app", false),
            ("/repo/app/pack/bin/build", "/repo/app", true),
            ("/repo/notes", "/repo", false),
            ("/repo/notes", "/app", true),
        ] {
            assert_eq!(followed.has(Path::new(path), Path::new(app)), expected, "{path} {app}");
        }
    }

    #[test]
    fn of_a_builder_its_file_and_what_it_lists_are_followed() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        for name in ["listed", "extension", "other"] {
            std::fs::create_dir(dir.join(name)).unwrap();
        }
        let text = "[[buildpacks]]\nuri = \"listed\"\n[[buildpacks]]\nuri = \"docker://some/image\"\n\
                    [[extensions]]\nuri = \"file://extension\"\n\
                    [[order]]\ngroup = [{ id = \"some/one\" }]\n";
        std::fs::write(dir.join("builder.toml"), text).unwrap();
        for builder in [dir.clone(), dir.join("builder.toml")] {
            let mut followed = Followed::default();
            followed.add_builder(builder);
            assert_eq!(followed.files, [dir.join("builder.toml")]);
            assert_eq!(followed.folders, [dir.join("listed"), dir.join("extension")]);
        }
    }

    #[test]
    fn a_builder_that_cannot_be_read_is_followed_by_itself() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().canonicalize().unwrap().join("builder.toml");
        std::fs::write(&file, "[[").unwrap();
        let mut followed = Followed::default();
        followed.add_builder(file.clone());
        assert_eq!((followed.files, followed.folders), (vec![file], vec![]));
    }
}
