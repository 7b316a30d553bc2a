//! The bill of materials of an image: one document out of the files of its buildpacks, their entries in labels, the
//! launcher's and the packages of its run image.
//!
//! Only documents are read, never the layers that buildpacks made: what is in these was said when they were. Layers of the
//! run image are read once, for what is found in them is kept.

mod documents;
mod packages;

use crate::event::Observer;
use documents::{Owners, SbomFile};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use strata_layer::LayerError;
use strata_oci::{Digest, Document, Layer, annotation};
use strata_sbom::read::{self, Format};
use strata_sbom::write::{self, Subject};
use strata_sbom::{Bill, Component, Kind, Origin, Purl};
use strata_spec::labels::{self, BUILD_METADATA, BuildMetadata, LIFECYCLE_METADATA, LifecycleMetadata};
use strata_store::{Medium, Store, StoreError, StoredImage, Tree};

/// The annotation of documents that were made here; its value is the version of the program that did.
const MERGED: &str = "build.strata.sbom";
/// Documents of other programs are larger only by mistake.
const MAX_ATTACHED: u64 = read::MAX_MERGED as u64;

/// Why there is no bill.
#[derive(Debug, thiserror::Error)]
pub enum BillError {
    /// A place could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A layer could not be read.
    #[error("cannot read layer {digest}")]
    Layer {
        /// The layer.
        digest: Digest,
        /// Why.
        source: LayerError,
    },
    /// A layer is not where its image is.
    #[error("layer {0} is not there")]
    Absent(Digest),
    /// A document that was attached could not be read.
    #[error("cannot read {0}, which is attached to the image")]
    Attached(Digest, #[source] io::Error),
    /// It could be read and is none.
    #[error("{0}, which is attached to the image, is no bill of materials")]
    Malformed(Digest, #[source] read::ReadError),
}

/// An image, and where it is.
#[derive(Clone, Copy)]
pub struct Image<'a> {
    /// Where it is.
    pub store: &'a dyn Store,
    /// Its documents.
    pub stored: &'a StoredImage,
}

/// Makes the bill of an image. What is found in layers of the run image is kept in the folder `kept`, if there is one.
/// Faults in what buildpacks wrote are warnings.
///
/// # Errors
/// When a layer that is needed cannot be read.
pub fn make(image: Image<'_>, kept: Option<&Path>, observer: &dyn Observer) -> Result<Bill, BillError> {
    let labels = Labels::of(image.stored, observer);
    let mut bill = Bill::default();
    let documents = match labels.sbom_layer(image.stored) {
        Some(layer) => documents::of_layer(image.store, layer)?,
        None => Vec::new(),
    };
    let owners = Owners::of(&labels.build, &labels.lifecycle);
    documents::add(&mut bill, &documents, &owners, observer);
    add_entries(&mut bill, &labels, &documents, observer);
    if !documents.iter().any(SbomFile::is_of_launcher) {
        bill.push_some(labels.launcher());
    }
    let listing = packages::of_base(image, &labels, kept, observer)?;
    for warning in &listing.warnings {
        observer.warn(format!("packages of the run image: {warning}"));
    }
    bill.add_merged(listing);
    Ok(bill)
}

/// What labels say of an image; other images have none of them.
pub(crate) struct Labels {
    lifecycle: LifecycleMetadata,
    build: BuildMetadata,
}

impl Labels {
    fn of(stored: &StoredImage, observer: &dyn Observer) -> Self {
        let label = |name| stored.image.config().label(name).unwrap_or_default();
        let lifecycle = LifecycleMetadata::parse(label(LIFECYCLE_METADATA)).unwrap_or_else(|error| {
            observer.warn(format!("ignoring the label {LIFECYCLE_METADATA} of the image: {error}"));
            LifecycleMetadata::default()
        });
        let build = match label(BUILD_METADATA) {
            "" => BuildMetadata::default(),
            text => serde_json::from_str(text).unwrap_or_else(|error| {
                observer.warn(format!("ignoring the label {BUILD_METADATA} of the image: {error}"));
                BuildMetadata::default()
            }),
        };
        Self { lifecycle, build }
    }

    fn sbom_layer<'a>(&self, stored: &'a StoredImage) -> Option<&'a Layer> {
        let sha = &self.lifecycle.sbom.as_ref()?.sha;
        stored.image.layers().iter().find(|layer| layer.diff_id.to_string() == *sha)
    }

    /// The diffID of a buildpack's layer.
    fn diff_id(&self, buildpack: &str, layer: &str) -> Option<String> {
        let buildpack = self.lifecycle.buildpacks.iter().find(|known| known.key == buildpack)?;
        Some(buildpack.layers.get(layer)?.sha.clone())
    }

    /// The launcher, if its own documents are not there.
    fn launcher(&self) -> Option<Component> {
        let labels::Launcher { version, source } = &self.build.launcher;
        if version.is_empty() {
            return None;
        }
        let git = match (source.git.repository.as_str(), source.git.commit.as_str()) {
            ("", _) => String::new(),
            (repository, commit) => {
                let scheme = if repository.contains("://") { "git+" } else { "git+https://" };
                let at = if commit.is_empty() { "" } else { "@" };
                format!("{scheme}{repository}{at}{commit}")
            }
        };
        Some(Component {
            kind: Kind::Application,
            name: "launcher".to_owned(),
            version: version.clone(),
            purl: Some(Purl::new("generic", &["buildpacksio"], "launcher", version).with("vcs_url", &git)),
            found_in: [self.launcher_origin()].into(),
            ..Component::default()
        })
    }

    fn launcher_origin(&self) -> Origin {
        let sha = Some(self.lifecycle.launcher.sha.as_str());
        Origin::layer(documents::LIFECYCLE, &self.build.launcher.version, "launcher", sha)
    }
}

/// Adds what stands in `[[bom]]`: from the document that has all, else from the label.
fn add_entries(bill: &mut Bill, labels: &Labels, documents: &[SbomFile], observer: &dyn Observer) {
    let diff_id = |buildpack: &str, layer: &str| labels.diff_id(buildpack, layer);
    let legacy = documents.iter().find(|document| document.is_legacy()).and_then(|document| {
        let told = |error: String| observer.warn(format!("{}: it is ignored: {error}", document.shown()));
        let bytes = document.bytes().map_err(told).ok()?;
        serde_json::from_slice(bytes).map_err(|error| told(error.to_string())).ok()
    });
    let list = legacy.as_ref().or(labels.build.bom.as_ref());
    let Some(list) = list else { return };
    let listing = read::entries(list, diff_id);
    for warning in &listing.warnings {
        observer.warn(format!("[[bom]] of buildpacks: {warning}"));
    }
    bill.add_entries(listing);
}

/// The bill that is attached to an image, if it was made here.
///
/// # Errors
/// When the place or the document cannot be read. Places without room for such documents have none.
pub fn attached(image: Image<'_>) -> Result<Option<Bill>, BillError> {
    // They have room for reports, and whatever is wrong with those is not to be in the way of this.
    if matches!(image.store.medium(), Medium::Daemon(_) | Medium::DockerArchive) {
        return Ok(None);
    }
    let kind = Format::CycloneDx.media_type();
    let entries = match image.store.referrers(&image.stored.manifest_digest, Some(kind)) {
        Err(StoreError::NoReferrers) => return Ok(None),
        entries => entries?,
    };
    let Some(entry) = entries.iter().rfind(|entry| entry.annotations.contains_key(MERGED)) else {
        return Ok(None);
    };
    let Some(tree) = image.store.read_referrer(entry)? else { return Ok(None) };
    let Some(file) = tree.blobs.iter().find(|blob| blob.media_type == kind) else { return Ok(None) };
    let failed = |error| BillError::Attached(file.digest, error);
    if file.size > MAX_ATTACHED {
        return Err(failed(io::Error::other("it is too large")));
    }
    let mut blob = image.store.open_blob(file)?.ok_or(BillError::Absent(file.digest))?;
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut blob, &mut bytes).map_err(failed)?;
    let mut bill = Bill::default();
    bill.add_merged(read::merged(&bytes).map_err(|error| BillError::Malformed(file.digest, error))?);
    Ok(Some(bill))
}

/// Whether a thing that refers to an image is such a document.
pub fn is_merged(referrer: &Tree) -> bool {
    let document =
        referrer.documents.last().map(|(root, bytes)| Document::parse(bytes, Some(&root.media_type)));
    match document {
        Some(Ok(Document::Manifest(manifest))) => manifest.annotations.contains_key(MERGED),
        _ => false,
    }
}

/// Whether both documents of this version are attached already: the image says what is in them.
///
/// # Errors
/// When the place cannot be read.
pub fn is_attached(image: Image<'_>) -> Result<bool, StoreError> {
    let entries = image.store.referrers(&image.stored.manifest_digest, None)?;
    Ok([Format::CycloneDx, Format::Spdx].iter().all(|format| {
        entries.iter().any(|entry| {
            entry.artifact_type.as_deref() == Some(format.media_type())
                && entry.annotations.get(MERGED).is_some_and(|by| by == env!("CARGO_PKG_VERSION"))
        })
    }))
}

/// Attaches a bill to its image as two documents.
///
/// # Errors
/// When the place has no room for them or cannot be written.
pub fn attach(image: Image<'_>, name: &str, bill: &Bill) -> Result<(), StoreError> {
    let subject = subject(image.stored, name);
    let descriptor = image.stored.encoded().manifest_descriptor();
    for (format, file, text) in [
        (Format::CycloneDx, "sbom.cdx.json", write::cyclonedx(bill, &subject)),
        (Format::Spdx, "sbom.spdx.json", write::spdx(bill, &subject)),
    ] {
        let annotations = BTreeMap::from([
            (MERGED.to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
            (annotation::TITLE.to_owned(), file.to_owned()),
        ]);
        let kind = format.media_type();
        image.store.attach(&descriptor, kind, kind, text.as_bytes(), &annotations)?;
    }
    Ok(())
}

/// What documents say that they are of.
pub fn subject<'a>(stored: &'a StoredImage, name: &'a str) -> Subject<'a> {
    let created = stored.image.config().created().unwrap_or_default();
    Subject { name, digest: stored.manifest_digest, created }
}
