//! Buildpacks that a `project.toml` brings along as scripts.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use strata_phases::Failure;
use strata_spec::exit::Exit;
use strata_spec::project::Script;

/// Writes a buildpack that always takes part, and whose `bin/build` is the script; its folder.
pub(super) fn write(script: &Script, scratch: &Path) -> Result<PathBuf, Failure> {
    let make = || -> io::Result<PathBuf> {
        let dir = tempfile::Builder::new().prefix("script-").tempdir_in(scratch)?.keep();
        // Whoever builds is another user than the one who owns it.
        fs::set_permissions(&dir, Permissions::from_mode(0o755))?;
        fs::write(dir.join("buildpack.toml"), descriptor(script))?;
        fs::create_dir(dir.join("bin"))?;
        for (name, lines) in [("detect", "exit 0"), ("build", script.inline.as_str())] {
            let path = dir.join("bin").join(name);
            fs::write(&path, format!("#!{}\n\n{lines}\n", script.shell))?;
            fs::set_permissions(&path, Permissions::from_mode(0o755))?;
        }
        Ok(dir)
    };
    make().map_err(|error| {
        Failure::caused(Exit::Other, format!("cannot write the buildpack '{}'", script.id), &error)
    })
}

/// The `buildpack.toml`; older APIs want a stack named.
fn descriptor(script: &Script) -> String {
    let text = |text: &str| toml::Value::from(text);
    let buildpack = toml::Table::from_iter([
        ("id".to_owned(), text(&script.id)),
        ("version".to_owned(), text(&script.version)),
    ]);
    let stack = toml::Table::from_iter([("id".to_owned(), text("*"))]);
    let whole = toml::Table::from_iter([
        ("api".to_owned(), text(&script.api)),
        ("buildpack".to_owned(), buildpack.into()),
        ("stacks".to_owned(), vec![stack].into()),
    ]);
    whole.to_string()
}
