//! The analyze phase: finds out what the previous image holds and what the run image is.

use crate::event::{Event, Observer};
use crate::extract::{Limits, extract, sweep};
use crate::failure::Failure;
use std::path::Path;
use std::time::Instant;
use strata_decide::analyze as decide;
use strata_layer::Spare;
use strata_oci::{Digest, Layer};
use strata_spec::PlatformApi;
use strata_spec::analyzed::{Analyzed, ImageIdentifier, RunImage};
use strata_spec::exit::Exit;
use strata_spec::labels::{self, LifecycleMetadata};
use strata_store::cache::Cache;
use strata_store::{Store, StoreError, StoredImage};

/// An image by its name.
#[derive(Clone, Copy)]
pub struct Named<'a> {
    /// The name as it was given.
    pub name: &'a str,
    /// Where it is.
    pub store: &'a dyn Store,
}

/// Everything that the phase needs.
pub struct Analyze<'a> {
    /// The previous image, if one is named.
    pub previous: Option<Named<'a>>,
    /// The run image, if one is named.
    pub run_image: Option<Named<'a>>,
    /// Where the previous image's SBOM files go.
    pub layers_dir: &'a Path,
    /// Where they may be nearer at hand than with the image.
    pub launch_cache: Option<&'a dyn Cache>,
    /// Whether the previous image's SBOM files are left where they are.
    pub skip_layers: bool,
    /// The platform's API.
    pub api: PlatformApi,
}

/// Runs the phase.
///
/// # Errors
/// [`Exit::Analyze`] when an image cannot be read. One that is not there is no error here: what needs it, fails.
pub fn run(input: &Analyze<'_>, observer: &dyn Observer) -> Result<Analyzed, Failure> {
    let started = Instant::now();
    observer.event(Event::PhaseStarted { phase: "analyze".into() });
    let (reference, metadata) = match input.previous {
        Some(previous) => previous_image(input, previous, observer)?,
        None => Default::default(),
    };
    let run_image = match input.run_image {
        Some(run_image) => self::run_image(run_image, input.api, observer)?,
        None => RunImage::default(),
    };
    let millis = started.elapsed().as_millis().try_into().unwrap_or(u64::MAX);
    observer.event(Event::PhaseFinished { phase: "analyze".into(), millis });
    Ok(Analyzed {
        image: Some(ImageIdentifier { reference }),
        build_image: None,
        metadata,
        run_image: Some(run_image),
    })
}

fn failed(what: &str, error: &StoreError) -> Failure {
    Failure::caused(Exit::Analyze, format!("failed to analyze: {what}"), error)
}

/// The identity of an image; says so when there is none.
fn look(image: Named<'_>, observer: &dyn Observer) -> Result<Option<StoredImage>, StoreError> {
    let stored = image.store.read_image()?;
    match &stored {
        Some(stored) => {
            observer.debug(format!("Found image with identifier \"{}\"", image.store.identifier(stored)))
        }
        None => observer.detail(format!("Image with name \"{}\" not found", image.name)),
    }
    Ok(stored)
}

/// Identifier and label of the previous image. One that cannot be used is as good as none: it would only have saved
/// time.
fn previous_image(
    input: &Analyze<'_>,
    previous: Named<'_>,
    observer: &dyn Observer,
) -> Result<(String, LifecycleMetadata), Failure> {
    let stored = match look(previous, observer) {
        Ok(Some(stored)) => stored,
        Ok(None) => return Ok(Default::default()),
        Err(error) if error.is_damage() => {
            let cause = Failure::caused(Exit::Analyze, "it is damaged", &error).chain();
            observer.detail(format!("Ignoring image \"{}\" because it was corrupt: {cause}", previous.name));
            return Ok(Default::default());
        }
        Err(error) => {
            return Err(failed(&format!("cannot read the previous image {}", previous.name), &error));
        }
    };
    let label = stored.image.config().label(labels::LIFECYCLE_METADATA).unwrap_or_default();
    let metadata = match LifecycleMetadata::parse(label) {
        Ok(metadata) => metadata,
        Err(error) => {
            let name = previous.name;
            observer.warn(format!(
                "ignoring image \"{name}\": its label {} is broken: {error}",
                labels::LIFECYCLE_METADATA
            ));
            return Ok(Default::default());
        }
    };
    if let Some(missing) = missing_layer(previous.store, &stored, &metadata)
        .map_err(|error| failed(&format!("cannot read the previous image {}", previous.name), &error))?
    {
        observer.detail(format!("Ignoring image \"{}\" because it was corrupt: {missing}", previous.name));
        return Ok(Default::default());
    }
    let sbom = metadata.sbom.as_ref().map(|sbom| sbom.sha.as_str()).filter(|sha| !sha.is_empty());
    if let Some(sha) = sbom.filter(|_| input.api.has_sbom_layer() && !input.skip_layers) {
        restore_sbom(input, previous, &stored, sha, observer)?;
    }
    Ok((previous.store.identifier(&stored), metadata))
}

/// A layer that a buildpack may count on without having its contents, and that the image does not have.
fn missing_layer(
    store: &dyn Store,
    stored: &StoredImage,
    metadata: &LifecycleMetadata,
) -> Result<Option<String>, StoreError> {
    for buildpack in &metadata.buildpacks {
        for (name, layer) in buildpack.layers.iter().filter(|(_, layer)| layer.launch && !layer.cache) {
            let found = layer.sha.parse().ok().and_then(|diff_id| find_layer(stored, &diff_id));
            let is_there = match found {
                Some(found) => store.has_blob(&found.descriptor.digest, found.descriptor.size)?,
                None => false,
            };
            if !is_there {
                return Ok(Some(format!("layer '{}:{name}' is missing", buildpack.key)));
            }
        }
    }
    Ok(None)
}

/// Extracts the previous image's SBOM layer, from which the restorer takes what it needs.
fn restore_sbom(
    input: &Analyze<'_>,
    previous: Named<'_>,
    stored: &StoredImage,
    sha: &str,
    observer: &dyn Observer,
) -> Result<(), Failure> {
    observer.detail("Restoring data for SBOM from previous image".into());
    let lost = |reason: String| {
        observer.warn(format!("Skipping restore of SBOM files from \"{}\": {reason}", previous.name))
    };
    sweep(input.layers_dir).map_err(|error| {
        Failure::caused(Exit::Analyze, "failed to analyze: cannot restore SBOM files", &error)
    })?;
    let diff_id = sha.parse::<Digest>().ok();
    if let (Some(cache), Some(diff_id)) = (input.launch_cache, &diff_id)
        && from_launch_cache(cache, diff_id, input.layers_dir, observer)
    {
        return Ok(());
    }
    let layer = diff_id.and_then(|diff_id| find_layer(stored, &diff_id));
    let Some(layer) = layer else {
        lost(format!("it has no layer {sha}"));
        return Ok(());
    };
    let what = "cannot read the SBOM layer of the previous image";
    let blob = previous.store.open_blob(&layer.descriptor).map_err(|error| failed(what, &error))?;
    let Some(blob) = blob else {
        lost(format!("layer {sha} is not there"));
        return Ok(());
    };
    let mut tar = match strata_layer::open_layer(blob) {
        Ok(tar) => tar,
        Err(error) => {
            lost(error.to_string());
            return Ok(());
        }
    };
    match extract(
        (&mut tar, &Spare::default()),
        input.layers_dir,
        Path::new("sbom/launch"),
        Limits::Documents,
    ) {
        Ok(_) => Ok(()),
        Err(error) if error.is_harmless() => {
            lost(Failure::caused(Exit::Analyze, "", &error).causes.join(": "));
            Ok(())
        }
        Err(error) => {
            Err(Failure::caused(Exit::Analyze, "failed to analyze: cannot restore SBOM files", &error))
        }
    }
}

/// Whether the SBOM files could be had from the launch cache. If not, the image has them still.
fn from_launch_cache(
    cache: &dyn Cache,
    diff_id: &Digest,
    layers_dir: &Path,
    observer: &dyn Observer,
) -> bool {
    let cause = match cache.open_layer(diff_id) {
        Ok(None) => return false,
        Ok(Some(mut tar)) => {
            match extract(
                (&mut tar, &Spare::default()),
                layers_dir,
                Path::new("sbom/launch"),
                Limits::Documents,
            ) {
                Ok(_) => return true,
                Err(error) => Failure::caused(Exit::Analyze, "its SBOM layer cannot be used", &error),
            }
        }
        Err(error) => Failure::caused(Exit::Analyze, "its SBOM layer cannot be read", &error),
    };
    observer.warn(format!("ignoring launch cache {}: {}", cache.name(), cause.chain()));
    false
}

/// The layer of an image with this diffID.
pub(crate) fn find_layer<'a>(stored: &'a StoredImage, diff_id: &Digest) -> Option<&'a Layer> {
    stored.image.layers().iter().find(|layer| layer.diff_id == *diff_id)
}

/// What `analyzed.toml` says of a run image. Of one that is not there, the reference is empty.
///
/// # Errors
/// When it cannot be read, or does not say what system it is for.
pub fn run_image(
    run_image: Named<'_>,
    api: PlatformApi,
    observer: &dyn Observer,
) -> Result<RunImage, Failure> {
    let what = format!("cannot read the run image {}", run_image.name);
    let stored = look(run_image, observer).map_err(|error| failed(&what, &error))?;
    let reference = stored.as_ref().map(|stored| run_image.store.identifier(stored)).unwrap_or_default();
    if !api.has_targets() {
        return Ok(RunImage { reference, ..RunImage::default() });
    }
    let target = stored.map(|stored| decide::target(stored.image.config()));
    if target.as_ref().is_some_and(|target| target.os.is_empty()) {
        return Err(Failure::new(
            Exit::Analyze,
            format!("failed to analyze: {what}: failed to find OS in run image config"),
        ));
    }
    Ok(RunImage { reference, image: run_image.name.to_owned(), extend: false, target })
}
