//! What package managers have put into the run image.

use super::{BillError, Image, Labels};
use crate::event::Observer;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use strata_layer::{LayerError, layer_files, open_layer};
use strata_oci::{Digest, Layer};
use strata_sbom::Listing;
use strata_sbom::packages::{self, Database, LayerPackages, MAX_DATABASE};
use strata_spec::labels::BASE_PREFIX;

/// Grows when other things are found in a layer than before.
const VERSION: u32 = 1;
/// Larger ones are read again.
const MAX_KEPT: usize = 64 << 20;
/// As many files as any image has.
const MAX_ENTRIES: u64 = 5_000_000;
/// Files that are read from one layer, all together, in bytes.
const MAX_TOTAL: u64 = 256 << 20;

/// The packages of the run image; of an image that was not made by a lifecycle, those of all its layers.
pub(super) fn of_base(
    image: Image<'_>,
    labels: &Labels,
    kept: Option<&Path>,
    observer: &dyn Observer,
) -> Result<Listing, BillError> {
    let layers = image.stored.image.layers();
    let top = &labels.lifecycle.run_image.top_layer;
    let count =
        layers.iter().position(|layer| layer.diff_id.to_string() == *top).map_or(layers.len(), |at| at + 1);
    // A base says in which of its layers its maker's own bill is.
    let listed = image.stored.image.config().label(&format!("{BASE_PREFIX}sbom"));
    let mut found = Vec::new();
    for layer in &layers[..count] {
        let diff_id = layer.diff_id.to_string();
        let mut packages = of_layer(image, layer, kept, observer)?;
        if listed.is_some_and(|listed| listed != diff_id) {
            packages.drop_listings();
        }
        found.push((diff_id, packages));
    }
    Ok(packages::combine(&found))
}

/// What is found in a layer, which is known by the digest of its blob: the only one that was verified when it was read.
fn of_layer(
    image: Image<'_>,
    layer: &Layer,
    kept: Option<&Path>,
    observer: &dyn Observer,
) -> Result<LayerPackages, BillError> {
    let path = kept.map(|dir| dir.join(format!("{}.{VERSION}.json", layer.descriptor.digest.hex())));
    if let Some(found) = path.as_deref().and_then(read_kept) {
        return Ok(found);
    }
    observer.detail(format!("Looking for packages in layer {}", layer.diff_id));
    let found = read_layer(image, layer)?;
    if let Some(path) = path
        && let Err(error) = keep(&path, &found)
    {
        observer.detail(format!("cannot keep what was found in {}: {error}", path.display()));
    }
    Ok(found)
}

/// What was found before; anything else than that is nothing.
fn read_kept(path: &Path) -> Option<LayerPackages> {
    let bytes = crate::files::read_bytes(path, crate::files::Links::Refuse, MAX_KEPT).ok()??;
    serde_json::from_slice(&bytes).ok()
}

/// Written aside under a name of its own: builds run side by side.
fn keep(path: &Path, found: &LayerPackages) -> io::Result<()> {
    let dir: PathBuf = path.parent().map(Path::to_owned).unwrap_or_default();
    std::fs::create_dir_all(&dir)?;
    let mut file = tempfile::NamedTempFile::new_in(&dir)?;
    file.write_all(&serde_json::to_vec(found)?)?;
    file.persist(path)?;
    Ok(())
}

fn read_layer(image: Image<'_>, layer: &Layer) -> Result<LayerPackages, BillError> {
    let digest: Digest = layer.descriptor.digest;
    let failed = |source| BillError::Layer { digest, source };
    let blob = image.store.open_blob(&layer.descriptor)?.ok_or(BillError::Absent(digest))?;
    let mut tar = open_layer(blob).map_err(failed)?;
    let (mut found, mut total) = (LayerPackages::default(), 0);
    layer_files(&mut tar, MAX_ENTRIES, |path, size, data| {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        if let Some(gone) = name.strip_prefix(".wh.") {
            take_deletion(&mut found, folder, gone);
        } else if let Some(database) = Database::at(path) {
            if size > MAX_DATABASE || total + size > MAX_TOTAL {
                found.add_unread(path, format!("it has {size} bytes"));
                return Ok(());
            }
            total += size;
            let mut bytes = Vec::new();
            data.read_to_end(&mut bytes).map_err(|source| LayerError::Read { source })?;
            found.add(path, database, &bytes);
        }
        Ok(())
    })
    .map_err(failed)?;
    Ok(found)
}

/// A deletion counts if it could hide a file that is looked for.
fn take_deletion(found: &mut LayerPackages, folder: &str, gone: &str) {
    let path = if folder.is_empty() { gone.to_owned() } else { format!("{folder}/{gone}") };
    if gone == ".wh..opq" {
        if Database::is_above(folder) {
            found.empty(folder);
        }
    } else if Database::at(&path).is_some() || Database::is_above(&path) {
        found.remove(&path);
    }
}
