//! Layers as buildpacks leave them: a folder, and a description beside it.

use crate::files::{self, FileError};
use std::path::{Path, PathBuf};
use strata_spec::layer::{LayerToml, is_name};

/// Files in a buildpack's folder that describe no layer.
pub(crate) const NOT_LAYERS: &[&str] = &["launch", "build", "store"];

/// A layer that a buildpack left.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FoundLayer {
    /// Its name.
    pub name: String,
    /// Its folder; it need not be there.
    pub dir: PathBuf,
    /// Its description.
    pub toml: LayerToml,
}

/// The layers in a buildpack's folder: those that have a `<name>.toml`, sorted by name.
///
/// # Errors
/// When the folder cannot be read or a description is not valid.
pub(crate) fn find_layers(dir: &Path) -> Result<Vec<FoundLayer>, FileError> {
    let mut layers = Vec::new();
    for path in files::list(dir)? {
        let is_toml = path.extension().is_some_and(|extension| extension == "toml");
        let name = path.file_stem().unwrap_or_default().to_str();
        if !is_toml || name.is_some_and(|name| NOT_LAYERS.contains(&name)) {
            continue;
        }
        // `...toml` would be the layer `..`, the folder above.
        let Some(name) = name.filter(|name| is_name(name)) else {
            let source = std::io::Error::other("no layer can have this name");
            return Err(FileError::Io { action: "use", path, source });
        };
        if let Some(toml) = files::read(&path, LayerToml::parse)? {
            let layer = FoundLayer { name: name.to_owned(), dir: dir.join(name), toml };
            let other = layer.dir.symlink_metadata().is_ok_and(|metadata| !metadata.is_dir());
            if other {
                let source = std::io::Error::other("a layer is a folder, and this is something else");
                return Err(FileError::Io { action: "use", path: layer.dir, source });
            }
            layers.push(layer);
        }
    }
    Ok(layers)
}

impl FoundLayer {
    /// Whether there are contents, put aside or not.
    pub(crate) fn is_present(&self) -> bool {
        let is_dir = |path: &Path| path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir());
        is_dir(&self.dir) || is_dir(&self.aside())
    }

    /// Where the contents are once the layer was found to be of no type.
    fn aside(&self) -> PathBuf {
        let mut aside = self.dir.clone().into_os_string();
        aside.push(".ignore");
        aside.into()
    }
}

/// A layer without any type is renamed, so that nothing later takes it for one.
pub(crate) fn set_aside(layer: &FoundLayer) -> Result<(), FileError> {
    let io_error = |source| FileError::Io { action: "rename", path: layer.dir.clone(), source };
    match std::fs::rename(&layer.dir, layer.aside()) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io_error(error)),
        _ => Ok(()),
    }
}
