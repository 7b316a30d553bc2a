//! The documents of an image's SBOM layer (platform specification, "exporter").

use super::BillError;
use crate::event::Observer;
use std::collections::BTreeMap;
use strata_layer::{LayerError, layer_files, open_layer};
use strata_oci::Layer;
use strata_sbom::read::{self, Format};
use strata_sbom::{Bill, Origin};
use strata_spec::buildpack::escape_id;
use strata_spec::labels::{BuildMetadata, LifecycleMetadata};
use strata_store::Store;

/// How the lifecycle's own layers are named in logs.
pub(super) const LIFECYCLE: &str = "buildpacksio/lifecycle";
const LAUNCHER: &str = "launcher";
/// The folder of the documents in the layers directory, wherever that is.
const FOLDER: &str = "sbom/launch/";
const LEGACY: &str = "sbom.legacy.json";
/// The largest list of entries that is read: all that was in a few small documents.
const MAX_LEGACY: u64 = 16 << 20;
/// The layer has a file for each layer and format.
const MAX_ENTRIES: u64 = 100_000;
/// What all documents together may have, in bytes.
const MAX_TOTAL: usize = 512 << 20;

/// One document.
pub(super) struct SbomFile {
    /// Its parts below the folder of documents.
    parts: Vec<String>,
    /// Of one that is too large, none.
    bytes: Vec<u8>,
    size: u64,
}

impl SbomFile {
    pub(super) fn is_legacy(&self) -> bool {
        self.parts == [LEGACY]
    }

    pub(super) fn is_of_launcher(&self) -> bool {
        self.parts.len() == 3 && self.parts[0] == escape_id(LIFECYCLE) && self.format().is_some()
    }

    /// Its bytes, or why they were not read.
    pub(super) fn bytes(&self) -> Result<&[u8], String> {
        if self.bytes.len() as u64 == self.size {
            return Ok(&self.bytes);
        }
        Err(format!("it has {} bytes, more than are read", self.size))
    }

    /// For people.
    pub(super) fn shown(&self) -> String {
        format!("SBOM file {FOLDER}{}", self.parts.join("/"))
    }

    fn format(&self) -> Option<Format> {
        // Platforms may have other names for the launcher's.
        let name = self.parts.last()?;
        Format::ALL.iter().copied().find(|format| name.ends_with(format.ending()))
    }

    /// Buildpack and layer, as folders are named.
    fn subject(&self) -> Option<(&str, Option<&str>)> {
        match self.parts.as_slice() {
            [buildpack, _] => Some((buildpack, None)),
            [buildpack, layer, _] => Some((buildpack, Some(layer))),
            _ => None,
        }
    }
}

/// Who made the layers that documents are of.
pub(super) struct Owners {
    /// Id and version by the name of the folder.
    buildpacks: BTreeMap<String, (String, String)>,
    /// diffIDs by id and layer.
    layers: BTreeMap<(String, String), String>,
}

impl Owners {
    pub(super) fn of(build: &BuildMetadata, lifecycle: &LifecycleMetadata) -> Self {
        let launcher = [(LIFECYCLE.to_owned(), build.launcher.version.clone())];
        let group = build.buildpacks.iter().map(|entry| (entry.id.clone(), entry.version.clone()));
        let buildpacks = launcher.into_iter().chain(group).map(|known| (escape_id(&known.0), known));
        let mut layers: BTreeMap<_, _> = lifecycle
            .buildpacks
            .iter()
            .flat_map(|known| {
                known
                    .layers
                    .iter()
                    .map(|(name, layer)| ((known.key.clone(), name.clone()), layer.sha.clone()))
            })
            .collect();
        layers.insert((LIFECYCLE.to_owned(), LAUNCHER.to_owned()), lifecycle.launcher.sha.clone());
        Self { buildpacks: buildpacks.collect(), layers }
    }

    /// Where what a document lists was found. A folder that is no buildpack's keeps its name.
    fn origin(&self, folder: &str, layer: Option<&str>) -> Origin {
        let unknown = || (folder.to_owned(), String::new());
        let (id, version) = self.buildpacks.get(folder).cloned().unwrap_or_else(unknown);
        match layer {
            Some(layer) => {
                let diff_id = self.layers.get(&(id.clone(), layer.to_owned())).map(String::as_str);
                Origin::layer(&id, &version, layer, diff_id)
            }
            None => Origin::buildpack(&id, &version),
        }
    }
}

/// Reads all documents of a layer.
pub(super) fn of_layer(store: &dyn Store, layer: &Layer) -> Result<Vec<SbomFile>, BillError> {
    let descriptor = &layer.descriptor;
    let failed = |source| BillError::Layer { digest: descriptor.digest, source };
    let blob = store.open_blob(descriptor)?.ok_or(BillError::Absent(descriptor.digest))?;
    let mut tar = open_layer(blob).map_err(failed)?;
    let (mut documents, mut total) = (Vec::new(), 0);
    layer_files(&mut tar, MAX_ENTRIES, |path, size, data| {
        let Some(tail) = tail(path) else { return Ok(()) };
        let mut bytes = Vec::new();
        let limit = if tail == LEGACY { MAX_LEGACY } else { read::MAX_DOCUMENT as u64 };
        if size <= limit && total < MAX_TOTAL {
            data.read_to_end(&mut bytes).map_err(|source| LayerError::Read { source })?;
            total += bytes.len();
        }
        documents.push(SbomFile { parts: tail.split('/').map(str::to_owned).collect(), bytes, size });
        Ok(())
    })
    .map_err(failed)?;
    documents.sort_by(|a, b| a.parts.cmp(&b.parts));
    Ok(documents)
}

/// What comes after the folder of documents.
fn tail(path: &str) -> Option<&str> {
    match path.strip_prefix(FOLDER) {
        Some(tail) => Some(tail),
        None => path.split_once(&format!("/{FOLDER}")).map(|(_, tail)| tail),
    }
}

/// Adds what documents list. A layer or buildpack may have several, in several formats: the first that can be read
/// counts, the others add what they know better.
pub(super) fn add(bill: &mut Bill, documents: &[SbomFile], owners: &Owners, observer: &dyn Observer) {
    let mut subjects: BTreeMap<_, Vec<(Format, &SbomFile)>> = BTreeMap::new();
    for document in documents {
        if let (Some(subject), Some(format)) = (document.subject(), document.format()) {
            subjects.entry(subject).or_default().push((format, document));
        }
    }
    for ((folder, layer), mut documents) in subjects {
        documents.sort_by_key(|(format, _)| *format);
        let origin = owners.origin(folder, layer);
        let mut is_first = true;
        for (format, document) in documents {
            let told = |what: &str| observer.warn(format!("{} of {origin}: {what}", document.shown()));
            let listing = document.bytes().and_then(|bytes| {
                read::read(format, bytes).map_err(|error: read::ReadError| error.to_string())
            });
            match listing {
                Ok(listing) => {
                    listing.warnings.iter().for_each(|warning| told(warning));
                    if std::mem::take(&mut is_first) {
                        bill.add(listing, &origin);
                    } else {
                        bill.add_again(listing, &origin);
                    }
                }
                Err(error) => told(&format!("it is ignored: {error}")),
            }
        }
    }
}
