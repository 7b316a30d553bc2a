//! The rebase phase: puts another base below an app image, without building it again
//! (platform specification, "rebaser").

use crate::event::{Event, Observer};
use crate::failure::Failure;
use crate::saving::{self, Output, SaveError, Saving};
use std::time::Instant;
use strata_decide::rebase::{self as decide, Force, NewBase, RebaseError, Refusal};
use strata_oci::{Digest, Image};
use strata_spec::PlatformApi;
use strata_spec::exit::Exit;
use strata_spec::labels::LifecycleMetadata;
use strata_spec::report::Report;
use strata_store::{Store, StoredImage};

/// Everything that a rebase needs.
pub struct Rebase<'a> {
    /// The app image.
    pub app: &'a StoredImage,
    /// Where its layers are.
    pub app_store: &'a dyn Store,
    /// The new base.
    pub new_base: &'a StoredImage,
    /// Where its layers are.
    pub base_store: &'a dyn Store,
    /// The name of the new base, as it was given or as the app image has it.
    pub base_name: &'a str,
    /// Where the result goes, under which names; at least one.
    pub outputs: &'a [Output],
    /// Whether they have to hold the app image still when they get the result.
    pub in_place: bool,
    /// The platform API that is spoken now. What the app was built with is in the image.
    pub api: PlatformApi,
    /// Whether what speaks against it is passed over.
    pub force: Force,
    /// RFC 3339, for the configuration and its history.
    pub created: &'a str,
}

/// An image on its new base.
#[derive(Debug)]
pub struct Rebased {
    /// What `report.toml` is to say.
    pub report: Report,
    /// The image as it is stored.
    pub stored: StoredImage,
}

/// What stands in the way of a rebase that somebody can do something about, each program in its own words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// Something speaks against the new base that [`Force::Yes`] passes over.
    Refused,
    /// A place holds another image by now than the app image.
    Moved,
}

/// Why an image is not on its new base.
#[derive(Debug)]
pub struct NotRebased {
    /// The failure; [`Exit::Rebase`].
    pub failure: Failure,
    /// What stands in the way, if that is known.
    pub obstacle: Option<Obstacle>,
}

impl From<Failure> for NotRebased {
    fn from(failure: Failure) -> Self {
        Self { failure, obstacle: None }
    }
}

impl From<NotRebased> for Failure {
    fn from(not: NotRebased) -> Self {
        not.failure
    }
}

impl From<RebaseError> for NotRebased {
    fn from(error: RebaseError) -> Self {
        let obstacle = matches!(error, RebaseError::Refused(_)).then_some(Obstacle::Refused);
        Self { failure: failed(&error), obstacle }
    }
}

impl From<SaveError> for NotRebased {
    fn from(error: SaveError) -> Self {
        let is_moved = matches!(error, SaveError::Names { is_moved: true, .. });
        Self { failure: failed(&error), obstacle: is_moved.then_some(Obstacle::Moved) }
    }
}

/// Runs the phase.
///
/// # Errors
/// [`Exit::Rebase`]. What was stored under the names that could be written stays.
pub fn run(rebase: &Rebase<'_>, observer: &dyn Observer) -> Result<Rebased, NotRebased> {
    let started = Instant::now();
    observer.event(Event::PhaseStarted { phase: "rebase".into() });
    let image = rebased(rebase, observer)?;
    let base_layers = rebase.new_base.image.layers().len();
    let sources: Vec<&dyn Store> = (0..image.layers().len())
        .map(|i| if i < base_layers { rebase.base_store } else { rebase.app_store })
        .collect();
    let saving = Saving {
        image: &image,
        sources: &sources,
        outputs: rebase.outputs,
        replaced: rebase.in_place.then_some(rebase.app.manifest_digest),
        may_be_sparse: false,
    };
    let saved = saving::save(&saving, observer)?;
    let millis = started.elapsed().as_millis().try_into().unwrap_or(u64::MAX);
    observer.event(Event::PhaseFinished { phase: "rebase".into(), millis });
    let saving::Saved { report, encoded } = saved;
    let (manifest_digest, manifest, config) = (encoded.manifest_digest, encoded.manifest, encoded.config);
    let stored = StoredImage { image, manifest_digest, manifest, config };
    Ok(Rebased { report: Report { image: report, ..Report::default() }, stored })
}

fn failed(error: &dyn std::error::Error) -> Failure {
    Failure::caused(Exit::Rebase, "failed to rebase", error)
}

/// The image on its new base, with labels that say so.
fn rebased(rebase: &Rebase<'_>, observer: &dyn Observer) -> Result<Image, NotRebased> {
    let (app, new_base) = (&rebase.app.image, &rebase.new_base.image);
    let names = rebase.outputs.iter().map(|(name, _)| name.as_str());
    decide::check_names(names, rebase.base_name)?;
    warn(observer, &decide::validate(app.config(), new_base.config(), rebase.force)?);
    let metadata = decide::metadata(app.config())?;
    let mut image = cut_and_join(app, new_base, &metadata, rebase.created)?;
    // A base without layers was refused before.
    let top_layer = new_base.layers().last().map(|layer| layer.diff_id.to_string()).unwrap_or_default();
    let reference = rebase.base_store.identifier(rebase.new_base);
    let label = NewBase { name: rebase.base_name, reference: &reference, top_layer: &top_layer };
    let warnings = decide::relabel(image.config_mut(), new_base.config(), label, rebase.api, rebase.force);
    warn(observer, &warnings?);
    Ok(image)
}

fn cut_and_join(
    app: &Image,
    new_base: &Image,
    metadata: &LifecycleMetadata,
    created: &str,
) -> Result<Image, Failure> {
    let cannot = |error: &dyn std::error::Error| {
        Failure::new(Exit::Rebase, format!("failed to rebase: rebase app image: {error}"))
            .hint("rebase needs an image that buildpacks built, and a run image with layers")
    };
    let top_layer: Digest =
        metadata.run_image.top_layer.parse().map_err(|_not_a_digest: strata_oci::DigestError| {
            cannot(&strata_oci::RebaseError::NoBaseLayer)
        })?;
    app.rebase(top_layer, decide::own_layers(metadata), new_base, created).map_err(|error| cannot(&error))
}

fn warn(observer: &dyn Observer, refusals: &[Refusal]) {
    refusals.iter().for_each(|refusal| observer.warn(refusal.to_string()));
}
