//! The phase `export`.

use super::extended::{self, Extended};
use super::{Context, origins, threads};
use crate::documents;
use crate::images::Found;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread::ScopedJoinHandle;
use strata_decide::export as decide;
use strata_decide::inputs::Inputs;
use strata_layer::{Owner, Packer};
use strata_oci::{Digest, Reference};
use strata_phases::cache::{self, Keep};
use strata_phases::export::{self, Export, Exported, OwnSboms, Parents, Place, Previous, Trees};
use strata_phases::files::{self, Links};
use strata_phases::fresh::Fresh;
use strata_phases::index::Index;
use strata_phases::origins::Origins;
use strata_phases::saving::Output;
use strata_phases::{Failure, Observer};
use strata_spec::analyzed::Analyzed;
use strata_spec::cache::CacheMetadata;
use strata_spec::exit::Exit;
use strata_spec::group::Group;
use strata_spec::labels;
use strata_spec::metadata::Metadata;
use strata_spec::origins::records::Records;
use strata_spec::project::ProjectMetadata;
use strata_spec::run::{RunImage, StackFile};
use strata_store::cache::{Cache, VolumeCache};
use strata_store::{Store, registry};

/// Where the lifecycle and its SBOM files are.
const LIFECYCLE_DIR: &str = "/cnb/lifecycle";
/// The largest launcher that goes into an image, in bytes.
const MAX_LAUNCHER: usize = 64 * 1024 * 1024;

/// What is exported, and what came before it.
#[derive(Clone, Copy)]
pub(super) struct Given<'a> {
    pub(super) group: &'a Group,
    pub(super) analyzed: &'a Analyzed,
    /// The source of the app.
    pub(super) project: &'a ProjectMetadata,
    /// The previous image.
    pub(super) previous: Previous<'a>,
    /// What buildpacks left, and what is known of it.
    pub(super) trees: Trees<'a>,
    pub(super) index: &'a Index,
    /// What makes the layers.
    pub(super) packer: &'a Packer,
    /// Where layers are kept for the cache.
    pub(super) fresh: Option<&'a Fresh<'a>>,
}

pub(super) fn run(context: &Context<'_>) -> Result<(), Failure> {
    let Context { inputs, log, .. } = context;
    let images = context.images()?;
    let analyzed = documents::analyzed(inputs, log)?;
    let group = documents::group(inputs)?;
    let cache = images.cache(inputs)?;
    extended::consent(context)?;
    export(context, &group, &analyzed, cache.as_deref())
}

/// Exports the image, writes the report, and then fills the cache: nobody waits for that. A report with origins is
/// written at the very end, as it says what the cache holds.
pub(super) fn export(
    context: &Context<'_>,
    group: &Group,
    analyzed: &Analyzed,
    cache: Option<&dyn Cache>,
) -> Result<(), Failure> {
    let Context { inputs, log, .. } = context;
    let trees = trees(inputs, Exit::Export)?;
    let index = Index::open(&inputs.layers_dir, *log);
    let packer = Packer::new(threads());
    let project = project_metadata(context)?;
    let previous = previous(context, analyzed)?;
    // When both are written side by side nobody knows what the image has made already.
    let side_by_side = inputs.parallel_export && cache.is_some();
    let fresh = cache.filter(|_| !side_by_side).map(Fresh::new);
    let given = Given {
        group,
        analyzed,
        project: &project,
        previous: Previous {
            metadata: Some(&analyzed.metadata),
            image: previous.as_ref().map(|(store, stored)| (stored, store.as_ref())),
        },
        trees,
        index: &index,
        packer: &packer,
        fresh: fresh.as_ref(),
    };
    let origins = origins::gather(context, &given, cache)?;
    let launch_cache = context.images()?.launch_cache(inputs)?;
    // The cache remembers of what image it is; whoever fills it waits for that.
    let (made, image_is_made) = mpsc::channel();
    let remember = |metadata: &CacheMetadata| {
        let image = image_is_made.recv().ok();
        origins.as_ref().map_or_else(Records::new, |origins| origins.records(image.as_ref(), metadata))
    };
    let keep = Keep {
        group: &group.group,
        trees,
        index: &index,
        api: context.api,
        packer: &packer,
        fresh: None,
        remember: origins.as_ref().map(|_| &remember as &dyn Fn(&CacheMetadata) -> Records),
    };
    let (what, of) = (&given, origins.as_ref());
    // Takes the sender along: when it fails, nobody waits any longer.
    let export_image = move || {
        let exported = export_image(context, what, of)?;
        // There may be no cache.
        made.send(exported.0.made.clone()).unwrap_or_default();
        Ok(exported)
    };
    let (exported, kept) = if side_by_side {
        let (export_image, panicked) = (Mutex::new(Some(export_image)), || {
            Err(Failure::new(Exit::Export, "the exporting thread panicked; please report this"))
        });
        let export = || {
            let export_image = export_image.lock().unwrap_or_else(PoisonError::into_inner).take();
            export_image.map_or_else(panicked, |export_image| export_image())
        };
        std::thread::scope(|scope| {
            // Where no thread may be had, one comes after the other.
            let image = match std::thread::Builder::new().spawn_scoped(scope, export) {
                Ok(thread) => Ok(thread),
                Err(_) => Err(export()),
            };
            let kept = fill(context, &keep, cache);
            let join = |thread: ScopedJoinHandle<'_, _>| thread.join().unwrap_or_else(|_| panicked());
            let exported: Result<_, Failure> = image.map_or_else(|exported| exported, join);
            exported.map(|exported| (exported, kept))
        })?
    } else {
        let exported = export_image()?;
        keep_launch_sbom(context, &keep, launch_cache.as_ref());
        let made = fresh.as_ref().zip(exported.1.first().map(|(_, store)| store.as_ref()));
        let kept = fill(context, &Keep { fresh: made, ..keep }, cache);
        (exported, kept)
    };
    if side_by_side {
        keep_launch_sbom(context, &keep, launch_cache.as_ref());
    }
    origins
        .as_ref()
        .map_or(Ok(()), |origins| origins::report(context, origins, &exported.0, &exported.1, kept.as_ref()))
}

/// Fills the cache, and gives what it holds then. Nothing is lost without it but time.
fn fill(context: &Context<'_>, keep: &Keep<'_>, cache: Option<&dyn Cache>) -> Option<CacheMetadata> {
    let cache = cache?;
    let log = context.log;
    let _timer = log.timer("Cache");
    let old = old_cache_image(context);
    let kept = cache::run(keep, cache, log);
    if let Some((image, digest)) = old {
        delete_if_replaced(&image, &digest, context);
    }
    kept.map_err(|failure| log.warn(format!("Failed to export cache: {}", failure.chain()))).ok()
}

fn keep_launch_sbom(context: &Context<'_>, keep: &Keep<'_>, cache: Option<&VolumeCache>) {
    if let Some(cache) = cache
        && let Err(failure) = cache::keep_launch_sbom(keep, cache, context.log)
    {
        context.log.warn(failure.chain());
    }
}

/// The cache image that is there, for platforms of old, who do not delete it themselves.
fn old_cache_image(context: &Context<'_>) -> Option<(registry::Image, Digest)> {
    let name = context.inputs.cache_image.as_deref().filter(|_| !context.api.keeps_old_cache_image())?;
    // What cannot be read is not deleted; that it cannot be read is told when the cache is written.
    let image = context.images().ok()?.in_registry(name, Exit::Export).ok()?;
    let digest = image.read_image().ok()??.manifest_digest;
    Some((image, digest))
}

fn delete_if_replaced(image: &registry::Image, old: &Digest, context: &Context<'_>) {
    let deleted = match image.read_image() {
        Ok(Some(new)) if new.manifest_digest != *old => image.delete_manifest(old),
        Ok(_) => Ok(()),
        Err(error) => Err(error),
    };
    if let Err(error) = deleted {
        let failure =
            Failure::caused(Exit::Export, format!("cannot delete the old cache image {old}"), &error);
        context.log.warn(failure.chain());
    }
}

fn export_image(
    context: &Context<'_>,
    given: &Given<'_>,
    origins: Option<&Origins>,
) -> Result<(Exported, Vec<Output>), Failure> {
    let Context { inputs, log, api, .. } = context;
    let Given { group, analyzed, project, previous, trees, index, packer, fresh } = *given;
    let images = context.images()?;
    let failed = |what: &str| format!("failed to export: {what}");
    let metadata = files::below(&inputs.layers_dir, "config")
        .and_then(|config| files::read(&config.join("metadata.toml"), Metadata::parse))
        .map_err(|error| Failure::caused(Exit::Export, failed("read build metadata"), &error))?
        .ok_or_else(|| {
            Failure::new(Exit::Export, failed("read build metadata: there is no config/metadata.toml"))
                .hint("the builder writes it; did it run on the same layers directory?")
        })?;
    let launcher = read_launcher(&inputs.launcher)?;
    // The very image that was analyzed, although its name may stand for another one by now.
    let run_image = analyzed.run_image.as_ref().map(|image| image.reference.as_str()).unwrap_or_default();
    if run_image.is_empty() {
        return Err(Failure::new(Exit::Export, failed("run image not found in analyzed metadata")));
    }
    let (base_store, base) = images.read(run_image, "access run image", Exit::Other)?;
    let outputs = inputs
        .destinations()
        .into_iter()
        .map(|name| images.output(name, Exit::Other))
        .collect::<Result<Vec<_>, _>>()?;
    if let (Some((name, _)), true) = (outputs.first(), inputs.use_layout) {
        log.detail(format!("Using app image: {name}"));
    }
    let compression = inputs
        .layer_compression()
        .map_err(|error| Failure::caused(Exit::InvalidArguments, failed("compress layers"), &error))?;
    let known = run_image_for_export(context, analyzed, &metadata)?;
    let extended = Extended::read(context, analyzed, &base.image)?;
    let input = Export {
        trees,
        index,
        app: place(&inputs.app_dir, Exit::Export)?,
        group: &group.group,
        metadata: &metadata,
        base: &base,
        base_store: base_store.as_ref(),
        extended: extended.as_ref().map(Extended::for_export),
        run_image: labels::RunImage {
            top_layer: base.image.layers().last().map(|layer| layer.diff_id.to_string()).unwrap_or_default(),
            reference: base_store.identifier(&base),
            image: known.image,
            mirrors: known.mirrors,
        },
        launcher: &launcher,
        launcher_info: super::launcher_info(),
        annotations: &[],
        process_type: inputs.process_type.as_deref(),
        project,
        app_source_label: inputs.app_source_label,
        standard: None,
        created: &created(context),
        exec_env: &inputs.exec_env,
        api: *api,
        compression,
        packer,
        cancelled: &AtomicBool::new(false),
        fresh,
        previous,
        may_be_sparse: inputs.use_layout,
        own_sboms: Some(OwnSboms {
            lifecycle_dir: Path::new(LIFECYCLE_DIR),
            launcher_dir: Some(inputs.launcher_sbom_dir.as_path())
                .filter(|dir| !dir.as_os_str().is_empty() && *dir != Path::new(LIFECYCLE_DIR)),
        }),
        origins,
    };
    let timer = log.timer("Exporter");
    let exported = export::run(&input, &outputs, *log)?;
    drop(timer);
    if origins.is_none() {
        let report = exported.report.to_toml();
        documents::write(inputs, &inputs.report, "export report", &report, Exit::Export)?;
    }
    Ok((exported, outputs))
}

fn read_launcher(path: &Path) -> Result<Vec<u8>, Failure> {
    let found = files::read_bytes(path, Links::Follow, MAX_LAUNCHER)
        .map_err(|error| Failure::caused(Exit::Export, "failed to export: read the launcher", &error))?;
    let absent = || format!("failed to export: there is no launcher at {}", path.display());
    found.ok_or_else(|| Failure::new(Exit::Export, absent()))
}

/// The layers directory, whose layers are those of the reference lifecycle.
pub(super) fn trees(inputs: &Inputs, exit: Exit) -> Result<Trees<'_>, Failure> {
    let owner = Owner { uid: u64::from(inputs.uid), gid: u64::from(inputs.gid) };
    Ok(Trees { layers: place(&inputs.layers_dir, exit)?, owner, parents: Parents::Real })
}

/// A folder that has the same path in the image as here.
fn place(dir: &Path, exit: Exit) -> Result<Place<'_>, Failure> {
    let seen = dir.to_str().ok_or_else(|| {
        let what = if exit == Exit::Restore { "restore" } else { "export" };
        let message = format!(
            "failed to {what}: {} is not UTF-8, which the image's configuration must be",
            dir.display()
        );
        Failure::new(exit, message)
    })?;
    Ok(Place { real: dir, seen })
}

/// The previous image that was analyzed, if it is still there and still that one. Nothing is lost without it but time,
/// unless a layer without contents is to be taken from it.
pub(super) fn previous(context: &Context<'_>, analyzed: &Analyzed) -> Result<Option<Found>, Failure> {
    let Context { log, inputs, .. } = context;
    let images = context.images()?;
    let Some(identifier) = analyzed.previous_image() else { return Ok(None) };
    match images.read(identifier, "access previous image", Exit::Other) {
        Ok((store, stored)) => {
            let shown = identifier
                .rsplit_once('@')
                .map_or(identifier, |(path, _)| if inputs.use_layout { path } else { identifier });
            log.detail(format!("Reusing layers from image '{shown}'"));
            Ok(Some((store, stored)))
        }
        Err(failure) => {
            log.warn(format!("No layers are reused: {}", failure.chain()));
            Ok(None)
        }
    }
}

fn project_metadata(context: &Context<'_>) -> Result<ProjectMetadata, Failure> {
    let path = &context.inputs.project_metadata;
    let found = files::read_given(path, ProjectMetadata::parse)
        .map_err(|error| Failure::caused(Exit::Other, "failed to read project metadata", &error))?;
    if found.is_none() {
        context.log.debug(format!(
            "no project metadata found at path {path:?}, project metadata will not be exported"
        ));
    }
    Ok(found.unwrap_or_default())
}

/// What the labels say of the run image's names: as the operator's document has them, so that a rebase finds mirrors.
fn run_image_for_export(
    context: &Context<'_>,
    analyzed: &Analyzed,
    metadata: &Metadata,
) -> Result<RunImage, Failure> {
    let Context { inputs, log, api, .. } = context;
    let failed = |what: &str, error: &files::FileError| {
        Failure::caused(Exit::Other, format!("failed to read {what} file"), error)
    };
    if !api.has_targets() {
        let stack =
            files::read_given(&inputs.stack, StackFile::parse).map_err(|error| failed("stack", &error))?;
        if stack.is_none() {
            log.detail(format!("No stack metadata found at path {:?}", inputs.stack));
        }
        return Ok(stack.unwrap_or_default().run_image);
    }
    let images = documents::run(inputs, log)?.images;
    let given = analyzed.run_image.as_ref().map(|image| image.image.as_str()).unwrap_or_default();
    let found = images.iter().find(|image| has_name(image, given));
    Ok(match (found, images.first()) {
        (Some(image), _) => image.clone(),
        // Extensions may have chosen another one.
        (None, Some(_)) if !metadata.extensions.is_empty() => {
            RunImage { image: given.to_owned(), mirrors: Vec::new() }
        }
        (None, first) => first.cloned().unwrap_or_default(),
    })
}

/// Whether a run image goes by this name, its digest apart.
pub(super) fn has_name(image: &RunImage, name: &str) -> bool {
    let normal = |name: &str| {
        let reference: Reference = name.parse().ok()?;
        let tag = reference.tag().unwrap_or("latest");
        Some(format!("{}/{}:{tag}", reference.registry(), reference.repository()))
    };
    let wanted = normal(name);
    wanted.is_some() && image.names().any(|known| normal(known) == wanted)
}

/// The date of the image: always the same, unless the platform names one.
pub(super) fn created(context: &Context<'_>) -> String {
    let epoch =
        context.environment.variable("SOURCE_DATE_EPOCH").filter(|_| context.api.has_source_date_epoch());
    let Some(epoch) = epoch else { return decide::CREATED.to_owned() };
    decide::created(epoch).unwrap_or_else(|| {
        context.log.warn("Ignoring invalid SOURCE_DATE_EPOCH".into());
        decide::CREATED.to_owned()
    })
}
