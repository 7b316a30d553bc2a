//! Reads what extensions generated, as whatever may have been written by a buildpack.

use crate::failure::Failure;
use crate::files;
use std::path::{Path, PathBuf};
use strata_decide::extend::Given;
use strata_spec::PlatformApi;
use strata_spec::dockerfile::Dockerfile;
use strata_spec::exit::Exit;
use strata_spec::extend::{Arg, ExtendConfig, Generated, Kind};
use strata_spec::group::GroupElement;

/// A Dockerfile of an extension, with what belongs to it.
#[derive(Debug, Clone)]
pub struct Found {
    /// The extension's id.
    pub id: String,
    /// Its version.
    pub version: String,
    /// The Dockerfile.
    pub dockerfile: Dockerfile,
    /// Its arguments.
    pub args: Vec<Arg>,
    /// The folder that files are copied from.
    pub context: PathBuf,
}

impl Found {
    /// For a plan.
    pub fn given(&self) -> Given<'_> {
        Given { id: &self.id, version: &self.version, dockerfile: &self.dockerfile, args: &self.args }
    }
}

/// The Dockerfiles of a kind, in the order of the group. Extensions without one are left out.
///
/// # Errors
/// When something cannot be read or is no Dockerfile; links are not followed.
pub fn dockerfiles(
    generated_dir: &Path,
    app_dir: &Path,
    extensions: &[GroupElement],
    kind: Kind,
    api: PlatformApi,
) -> Result<Vec<Found>, Failure> {
    let mut all = Vec::new();
    for extension in extensions {
        let places = Generated::of(&extension.id, kind, api);
        let failed = |error: files::FileError| {
            let what =
                format!("failed to extend {} image: cannot use what {}", kind.as_str(), extension.label());
            Failure::caused(Exit::Extend, format!("{what} generated"), &error)
        };
        let below = |path: &Path| files::below(generated_dir, path).map_err(failed);
        let file = below(&places.dockerfile)?;
        let Some(dockerfile) = files::read(&file, Dockerfile::parse).map_err(failed)? else { continue };
        let config = files::read(&below(&places.config)?, ExtendConfig::parse).map_err(failed)?;
        let mut context = app_dir.to_owned();
        for place in places.contexts.iter().rev() {
            let folder = below(place)?;
            if folder.is_dir() {
                context = folder;
            }
        }
        all.push(Found {
            id: extension.id.clone(),
            version: extension.version.clone(),
            dockerfile,
            args: config.map(|config| config.args(kind).to_vec()).unwrap_or_default(),
            context,
        });
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn extension(id: &str) -> GroupElement {
        GroupElement { id: id.to_owned(), version: "1".to_owned(), ..GroupElement::default() }
    }

    #[test]
    fn dockerfiles_come_with_arguments_and_context() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("a_b/run.Dockerfile", "FROM x\nRUN y\n");
        write("a_b/extend-config.toml", "[[run.args]]\nname = \"n\"\nvalue = \"v\"\n");
        write("a_b/context/file", "");
        write("a_b/context.run/file", "");
        write("c/run.Dockerfile", "FROM x\nRUN z\n");
        write("d/build.Dockerfile", "FROM x\n");
        let find = |ids: &[&str], kind| {
            let group: Vec<_> = ids.iter().map(|id| extension(id)).collect();
            dockerfiles(dir.path(), Path::new("/app"), &group, kind, PlatformApi::NEWEST)
        };
        let found = find(&["c", "d", "a/b"], Kind::Run).unwrap();
        let told: Vec<_> =
            found.iter().map(|one| (one.id.as_str(), one.args.len(), one.context.as_path())).collect();
        let context = dir.path().join("a_b/context.run");
        assert_eq!(told, [("c", 0, Path::new("/app")), ("a/b", 1, context.as_path())]);
        assert_eq!(find(&["d"], Kind::Build).unwrap().len(), 1);
        write("e/run.Dockerfile", "FROM x\nFLY y\n");
        fs::write(dir.path().join("f"), "").unwrap();
        write("g/run.Dockerfile", "FROM x\n");
        fs::write(dir.path().join("g/run.Dockerfile"), b"FROM x\nRUN \xff\xfe\n").unwrap();
        symlink("/etc", dir.path().join("h")).unwrap();
        fs::create_dir(dir.path().join("i")).unwrap();
        symlink("/etc/passwd", dir.path().join("i/run.Dockerfile")).unwrap();
        for (id, word) in [("e", "line 2"), ("g", "UTF-8"), ("h", "symbolic link"), ("i", "symbolic link")] {
            let failure = find(&[id], Kind::Run).unwrap_err();
            assert!(failure.chain().contains(word), "{}", failure.chain());
            assert_eq!(failure.exit, Exit::Extend);
        }
    }
}
