//! Storing a finished image under all of its names, and saying so: what export and rebase have in common.

use crate::event::Observer;
use std::error::Error;
use strata_oci::{Digest, Encoded, Image, ImageError, media_type};
use strata_spec::report;
use strata_store::{Copied, Medium, Store, StoreError, StoredImage, copy_blobs};

/// A name as it was given, and the place that it stands for.
pub type Output = (String, Box<dyn Store>);

/// An image that is complete but for its being stored.
pub struct Saving<'a> {
    /// The image.
    pub image: &'a Image,
    /// Where each of its layers is now, in order; this may be the place of an output.
    pub sources: &'a [&'a dyn Store],
    /// Where it goes; all of one kind, and at least one.
    pub outputs: &'a [Output],
    /// The image that is replaced: places that hold another one by now are left as they are.
    pub replaced: Option<Digest>,
    /// Whether layers may be nowhere: of a run image that is known by its documents alone.
    pub may_be_sparse: bool,
}

/// An image that is stored under all of its names.
#[derive(Debug)]
pub struct Saved {
    /// What `report.toml` says of it.
    pub report: report::Image,
    /// Its documents.
    pub encoded: Encoded,
}

/// Why an image is not stored under all of its names.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// It has no documents.
    #[error("cannot describe the image")]
    Encode(#[from] ImageError),
    /// It could not be stored under some names; under the others it is.
    #[error("failed to write image to the following tags: {}", .failures.iter().map(|(name, cause)| format!("[{name}: {cause}]")).collect::<Vec<_>>().join(","))]
    Names {
        /// The names, and why.
        failures: Vec<(String, String)>,
        /// Whether one of them holds another image by now than the one that was to be replaced.
        is_moved: bool,
    },
}

/// Stores the image under one name after the other, layers first.
///
/// # Errors
/// When it could not be stored under one of the names; the others were tried all the same.
pub fn save(saving: &Saving<'_>, observer: &dyn Observer) -> Result<Saved, SaveError> {
    let encoded = saving.image.encode()?;
    if let Some((name, _)) = saving.outputs.first() {
        observer.detail(format!("Saving {name}..."));
    }
    let (mut failures, mut is_moved) = (Vec::new(), false);
    for (name, output) in saving.outputs {
        if let Err(error) = save_one(saving, &encoded, output.as_ref()) {
            is_moved |= matches!(error, PlaceError::Moved(_));
            failures.push((name.clone(), with_causes(&error)));
        }
    }
    let report = announce(saving, &encoded, &failures, observer);
    if failures.is_empty() {
        Ok(Saved { report, encoded })
    } else {
        Err(SaveError::Names { failures, is_moved })
    }
}

/// Why the image could not be stored in one place.
#[derive(Debug, thiserror::Error)]
enum PlaceError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("layer {0} is nowhere to be found; the image it comes from is incomplete")]
    Absent(Digest),
    #[error("it is another image by now, {0}, and stays that: somebody has replaced it meanwhile")]
    Moved(String),
}

fn save_one(saving: &Saving<'_>, encoded: &Encoded, output: &dyn Store) -> Result<(), PlaceError> {
    let layers = encoded.layers.iter().zip(saving.sources.iter().copied());
    copy_blobs(output, layers, |layer, copied| match copied {
        // A foreign one is kept where its descriptor says, and not to be passed on.
        Copied::Absent if !saving.may_be_sparse && !media_type::is_foreign_layer(&layer.media_type) => {
            Err(PlaceError::Absent(layer.digest))
        }
        _ => Ok(()),
    })?;
    saving.replaced.map_or(Ok(()), |replaced| check(output, replaced))?;
    Ok(output.put_image(encoded, &[])?)
}

/// Finds out whether a place still holds an image. Few places can replace one only if it is the one that is meant, so a
/// moment remains.
fn check(output: &dyn Store, replaced: Digest) -> Result<(), PlaceError> {
    match output.read_image()?.map(|image| image.manifest_digest) {
        Some(found) if found == replaced => Ok(()),
        Some(found) => Err(PlaceError::Moved(found.to_string())),
        None => Err(PlaceError::Moved("none at all".to_owned())),
    }
}

/// Says what was stored, in the words of the reference, which platforms look for.
fn announce(
    saving: &Saving<'_>,
    encoded: &Encoded,
    failures: &[(String, String)],
    observer: &dyn Observer,
) -> report::Image {
    let identity = identity(saving, encoded);
    let mut report = report::Image { manifest_size: encoded.manifest.len() as u64, ..Default::default() };
    observer.detail(format!("*** Images ({}):", identity.short()));
    for (name, _) in saving.outputs {
        match failures.iter().find(|(failed, _)| failed == name) {
            Some((_, cause)) => observer.detail(format!("      {name} - {cause}")),
            None => {
                observer.detail(format!("      {name}"));
                report.tags.push(name.clone());
            }
        }
    }
    match &identity {
        Identity::Daemon(id) => {
            observer.debug(format!("\n*** Image ID: {id}"));
            report.image_id.clone_from(id);
        }
        Identity::Registry(digest) => {
            observer.debug(format!("\n*** Digest: {digest}"));
            report.digest.clone_from(digest);
        }
        Identity::Layout(_) => {}
    }
    observer.debug(format!("\n*** Manifest Size: {}", report.manifest_size));
    report
}

/// What an image is called exactly, which depends on the kind of place.
enum Identity {
    /// Hexadecimal digits.
    Daemon(String),
    /// `sha256:…` of the manifest.
    Registry(String),
    /// `<path>@sha256:…`
    Layout(String),
}

impl Identity {
    fn short(&self) -> &str {
        match self {
            Self::Daemon(id) => id.get(..12).unwrap_or(id),
            Self::Registry(name) | Self::Layout(name) => name,
        }
    }
}

fn identity(saving: &Saving<'_>, encoded: &Encoded) -> Identity {
    let Some((_, output)) = saving.outputs.first() else {
        return Identity::Registry(encoded.manifest_digest.to_string());
    };
    let identifier = output.identifier(&StoredImage {
        image: saving.image.clone(),
        manifest_digest: encoded.manifest_digest,
        manifest: encoded.manifest.clone(),
        config: encoded.config.clone(),
    });
    match identifier.rsplit_once('@') {
        _ if matches!(output.medium(), Medium::Layout(_)) => Identity::Layout(identifier),
        Some((_, digest)) => Identity::Registry(digest.to_owned()),
        None => Identity::Daemon(identifier),
    }
}

fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
