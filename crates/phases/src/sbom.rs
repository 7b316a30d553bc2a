//! SBOM files on their way from buildpacks to `<layers>/sbom`, and back from a restored layer.

use crate::files::{self, FileError, Links};
use crate::found::FoundLayer;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use strata_decide::sbom::{self, About, FORMATS};
use strata_spec::bom::BomEntry;
use strata_spec::buildpack::escape_id;
use strata_spec::group::GroupElement;
use strata_spec::layer::Types;

/// An SBOM file that a buildpack wrote, and where it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// Where it is.
    from: PathBuf,
    /// Where it goes, below `<layers>/sbom`.
    to: PathBuf,
}

/// Finds a buildpack's SBOM files.
///
/// # Errors
/// When the folder cannot be read, or a file has a format that is unknown or not declared.
pub(crate) fn find(
    buildpack: &GroupElement,
    dir: &Path,
    layers: &[FoundLayer],
    declared: &[String],
) -> Result<Vec<Found>, FileError> {
    let types: BTreeMap<String, Types> =
        layers.iter().map(|layer| (layer.name.clone(), layer.toml.types)).collect();
    let mut found = Vec::new();
    for path in files::list(dir)? {
        let Some(file) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let places = sbom::places(file, &types, declared).map_err(|reason| FileError::Io {
            action: "use",
            path: path.clone(),
            source: io::Error::other(reason),
        })?;
        found.extend(places.into_iter().map(|place| {
            Found {
                from: path.clone(),
                to: Path::new(place.about.folder())
                    .join(escape_id(&buildpack.id))
                    .join(place.layer.unwrap_or_default())
                    .join(place.name),
            }
        }));
    }
    Ok(found)
}

/// Copies SBOM files to `<layers>/sbom`, where export and the caches take them from. Gives those that are gone: a later
/// buildpack has removed them, and its changes are kept.
///
/// # Errors
/// When one cannot be read or written.
pub(crate) fn collect<'a>(found: &'a [Found], layers_dir: &Path) -> Result<BTreeSet<&'a Path>, FileError> {
    let mut gone = BTreeSet::new();
    for Found { from, to } in found {
        match from.symlink_metadata() {
            // Its folder may have gone along, or be something else now.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                gone.insert(from.as_path());
            }
            // Whatever else is the matter is told by the copy.
            _ => files::copy(from, Links::Refuse, &layers_dir.join("sbom").join(to))?,
        }
    }
    Ok(gone)
}

/// Writes the unstructured bills of materials as files; `null` when there are none, as the reference does.
///
/// # Errors
/// When one cannot be written.
pub(crate) fn write_legacy(layers_dir: &Path, about: About, bom: &[BomEntry]) -> Result<(), FileError> {
    let json = match bom {
        [] => serde_json::Value::Null,
        entries => entries.iter().map(BomEntry::to_json).collect(),
    };
    let path = layers_dir.join("sbom").join(about.folder()).join("sbom.legacy.json");
    files::write(&path, &format!("{}\n", strata_oci::go_json::to_string(&json)))
}

/// Copies restored SBOM files beside the layers that they are about, and removes `<layers>/sbom`.
///
/// # Errors
/// When a file cannot be read or written.
pub(crate) fn restore(layers_dir: &Path, buildpacks: &[GroupElement]) -> Result<(), FileError> {
    let root = layers_dir.join("sbom");
    for about in [About::Cache, About::Launch] {
        for buildpack in buildpacks {
            let escaped = escape_id(&buildpack.id);
            let to = files::below(layers_dir, &escaped)?;
            // Without the folder nothing of the buildpack was restored.
            if !to.is_dir() {
                continue;
            }
            let from = files::below(layers_dir, Path::new("sbom").join(about.folder()).join(&escaped))?;
            for layer in files::list(&from)? {
                restore_layer(&layer, &to)?;
            }
        }
    }
    files::remove(&root)
}

fn restore_layer(from: &Path, to: &Path) -> Result<(), FileError> {
    let is_dir = from.symlink_metadata().is_ok_and(|metadata| metadata.is_dir());
    let Some(layer) = from.file_name().and_then(|name| name.to_str()).filter(|_| is_dir) else {
        return Ok(());
    };
    for (name, _) in FORMATS {
        let file = from.join(name);
        if file.symlink_metadata().is_ok_and(|metadata| metadata.is_file()) {
            files::copy(&file, Links::Refuse, &to.join(format!("{layer}.{name}")))?;
        }
    }
    Ok(())
}
