//! The export phase: turns what the buildpacks left into an image on top of the run image.

mod assembly;
mod bom;
mod config;
mod extended;
mod maker;
mod own_sboms;
mod wanted;

use crate::event::{Event, Observer};
use crate::failure::Failure;
use crate::fresh::Fresh;
use crate::index::Index;
use crate::origins::Origins;
use crate::saving::{self, Output, Saving};
use crate::seal;
pub use crate::trees::{Parents, Place, Trees};
use assembly::Assembly;
pub use extended::{Extended, Extra};
pub use own_sboms::OwnSboms;
use std::sync::atomic::AtomicBool;
use std::time::Instant;
use strata_decide::export as decide;
use strata_decide::origins::{self, Made};
use strata_layer::{Compression, Packer};
use strata_oci::Encoded;
use strata_spec::PlatformApi;
use strata_spec::exit::Exit;
use strata_spec::group::GroupElement;
use strata_spec::labels::{self, LifecycleMetadata, RunImage};
use strata_spec::launch::Label;
use strata_spec::metadata::Metadata;
use strata_spec::project::ProjectMetadata;
use strata_spec::report::Report;
use strata_store::{Store, StoredImage};

/// Everything that export needs.
pub struct Export<'a> {
    /// What the buildpacks left, and its owner in the image.
    pub trees: Trees<'a>,
    /// What is known of it.
    pub index: &'a Index,
    /// The app.
    pub app: Place<'a>,
    /// The group.
    pub group: &'a [GroupElement],
    /// The build's outcome.
    pub metadata: &'a Metadata,
    /// The run image.
    pub base: &'a StoredImage,
    /// Where the run image's layers are.
    pub base_store: &'a dyn Store,
    /// What extensions have made of the run image.
    pub extended: Option<Extended<'a>>,
    /// How labels name the run image.
    pub run_image: RunImage,
    /// The program that goes into the image.
    pub launcher: &'a [u8],
    /// What labels say of it.
    pub launcher_info: labels::Launcher,
    /// Annotations that were asked for, which win over those of buildpacks.
    pub annotations: &'a [Label],
    /// The process type that was asked for.
    pub process_type: Option<&'a str>,
    /// The source of the app.
    pub project: &'a ProjectMetadata,
    /// Whether the source has a label of its own besides `io.buildpacks.project.metadata`.
    pub app_source_label: bool,
    /// Standard labels and annotations that say what the source is: those of buildpacks win. `None` when the image keeps
    /// what the run image says.
    pub standard: Option<&'a [Label]>,
    /// RFC 3339, for the configuration and its history.
    pub created: &'a str,
    /// `production`, `test`, …
    pub exec_env: &'a str,
    /// The platform API of the image.
    pub api: PlatformApi,
    /// How new layers are compressed where they are; `None` is the usual way.
    pub compression: Option<Compression>,
    /// What makes the layers.
    pub packer: &'a Packer,
    /// Set from outside to stop the phase.
    pub cancelled: &'a AtomicBool,
    /// Where layers are kept for the cache that is written after the image.
    pub fresh: Option<&'a Fresh<'a>>,
    /// What an earlier build left.
    pub previous: Previous<'a>,
    /// Whether layers of the run image may be absent, here and in the image.
    pub may_be_sparse: bool,
    /// The SBOMs of lifecycle and launcher, if there are any.
    pub own_sboms: Option<OwnSboms<'a>>,
    /// The origins of layers, which may have to be known.
    pub origins: Option<&'a Origins>,
}

/// The previous image: layers that did not change are taken from it.
#[derive(Clone, Copy, Default)]
pub struct Previous<'a> {
    /// What its label says of its layers, by diffID.
    pub metadata: Option<&'a LifecycleMetadata>,
    /// The image, and where it is; `None` when it is gone.
    pub image: Option<(&'a StoredImage, &'a dyn Store)>,
}

/// A complete image.
#[derive(Debug)]
pub struct Exported {
    /// Its documents.
    pub encoded: Encoded,
    /// The default process type.
    pub process: Option<String>,
    /// Bytes of all layers as stored.
    pub size: u64,
    /// What `report.toml` is to say.
    pub report: Report,
    /// The image as it is stored.
    pub stored: StoredImage,
    /// What reports with origins need to know of it.
    pub made: Made,
}

/// Runs the phase: stores all layers in the first place and, last, the image itself in all of them.
///
/// # Errors
/// [`Exit::Export`]; under a name that failed, the earlier image stays as it was.
pub fn run(export: &Export<'_>, outputs: &[Output], observer: &dyn Observer) -> Result<Exported, Failure> {
    let started = Instant::now();
    observer.event(Event::PhaseStarted { phase: "export".into() });
    let Some((_, first)) = outputs.first() else {
        return Err(Failure::new(Exit::Export, "failed to export: no image is named"));
    };
    if let Some(sboms) = export.own_sboms.filter(|_| export.api.has_own_sboms()) {
        sboms.copy(export.trees.layers.real, observer)?;
    }
    let process = decide::default_process(export.metadata, export.process_type).map_err(|message| {
        Failure::new(Exit::Export, format!("failed to export: {message}"))
            .hint("ask for one that there is, or for none: then the buildpacks choose")
    })?;
    let mut assembly = Assembly::new(export, first.as_ref(), observer)?;
    let inherited = export.base.image.layers().len();
    let extended = export.extended.filter(|_| export.api.has_targets());
    extended.map_or(Ok(()), |extended| assembly.add_extended(&extended))?;
    let extended = extended.map(|extended| extended.told(inherited)).unwrap_or_default();
    let lifecycle = layers(export, &mut assembly)?;
    let layers = origins::blobs(&assembly.image);
    let mut made = Made { layers, label: lifecycle.clone(), inherited, extended, ..Made::default() };
    export.origins.map_or(Ok(()), |origins| origins.check(&made))?;
    let image = config::configure(assembly.image, export, &lifecycle, process.as_deref(), observer)?;
    let image = config::annotate(image, export, observer)?;
    match &process {
        Some(kind) => observer.detail(format!("Setting default process type '{kind}'")),
        None => observer.detail("no default process type".into()),
    }
    // All layers are in the first place by now.
    let sources: Vec<&dyn Store> = image.layers().iter().map(|_| first.as_ref()).collect();
    let saving = Saving {
        image: &image,
        sources: &sources,
        outputs,
        replaced: None,
        may_be_sparse: export.may_be_sparse,
    };
    let saved = saving::save(&saving, observer).map_err(|error| failed("cannot store the image", &error))?;
    export.index.save(observer);
    let size = saved.encoded.layers.iter().map(|layer| layer.size).sum();
    let changes = seal::found_changes(export.trees.layers.real, observer);
    let report = Report { build: bom::build_report(export)?, image: saved.report, changes };
    let millis = started.elapsed().as_millis().try_into().unwrap_or(u64::MAX);
    observer.event(Event::PhaseFinished { phase: "export".into(), millis });
    made.digest = saved.encoded.manifest_digest.to_string();
    let stored = StoredImage {
        manifest_digest: saved.encoded.manifest_digest,
        manifest: saved.encoded.manifest.clone(),
        config: saved.encoded.config.clone(),
        image,
    };
    Ok(Exported { encoded: saved.encoded, process, size, report, stored, made })
}

/// Adds all layers in the order of the reference, and says what is in them.
fn layers(export: &Export<'_>, assembly: &mut Assembly<'_>) -> Result<LifecycleMetadata, Failure> {
    let mut lifecycle =
        LifecycleMetadata { run_image: export.run_image.clone(), ..LifecycleMetadata::default() };
    lifecycle.stack.run_image = labels::StackRunImage {
        image: std::mem::take(&mut lifecycle.run_image.image),
        mirrors: std::mem::take(&mut lifecycle.run_image.mirrors),
    };
    if export.api.has_targets() {
        lifecycle.run_image = export.run_image.clone();
    }
    assembly.add_layers(&mut lifecycle)?;
    Ok(lifecycle)
}

fn failed(what: &str, error: &dyn std::error::Error) -> Failure {
    let failure = Failure::caused(Exit::Export, format!("failed to export: {what}"), error);
    if failure.is_full() {
        return failure.hint("free some disk space; nothing of the image was kept");
    }
    failure
}
