//! The restore phase: brings back what earlier builds left, metadata from the previous image and contents from the
//! cache.

use crate::cache;
use crate::event::{Event, Observer};
use crate::extract::{Limits, extract, sweep};
use crate::failure::{Failure, chain};
use crate::files::{self, FileError};
use crate::index::Index;
use crate::origins::witness::write_lost;
use crate::origins::{self, Required};
use crate::ready::Ready;
use crate::sbom;
use crate::seal;
use crate::trees::Trees;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;
use strata_decide::restore::{self as decide, Contents, From, LayerPlan};
use strata_layer::threads::side_by_side;
use strata_layer::{Skeleton, Spare};
use strata_oci::Digest;
use strata_spec::PlatformApi;
use strata_spec::buildpack::escape_id;
use strata_spec::cache::CacheMetadata;
use strata_spec::exit::Exit;
use strata_spec::group::GroupElement;
use strata_spec::labels::LifecycleMetadata;
use strata_spec::layer;
use strata_spec::origins::ReasonCode;
use strata_spec::sealed::SHARED;
use strata_spec::values;
use strata_store::StoreError;
use strata_store::cache::Cache;

/// Everything that the phase needs.
pub struct Restore<'a> {
    /// The group.
    pub group: &'a [GroupElement],
    /// Where layers go, and what export will make of them.
    pub trees: Trees<'a>,
    /// What the previous image says of its layers.
    pub metadata: &'a LifecycleMetadata,
    /// The cache, if there is one.
    pub cache: Option<&'a dyn Cache>,
    /// Whether only stores are restored.
    pub skip: bool,
    /// The platform's API.
    pub api: PlatformApi,
    /// How many layers are extracted side by side.
    pub threads: usize,
    /// Trees that an earlier build left, which need not be extracted.
    pub ready: Option<&'a Ready>,
    /// What is to be seen to for reports with origins.
    pub required: Option<Required<'a>>,
}

/// A layer whose contents are extracted.
struct Job {
    id: String,
    tail: PathBuf,
    sha: String,
}

/// Runs the phase.
///
/// # Errors
/// [`Exit::Restore`] when the layers directory cannot be written. A damaged cache costs the damaged layers.
pub fn run(input: &Restore<'_>, observer: &dyn Observer) -> Result<(), Failure> {
    let started = Instant::now();
    observer.event(Event::PhaseStarted { phase: "restore".into() });
    let failed = |error: FileError| Failure::caused(Exit::Restore, "failed to restore", &error);
    let mut cached = cache::metadata(input.cache, observer);
    let mut label = input.metadata.clone();
    let sifted = match &input.required {
        Some(required) => origins::sift(required, input.cache, &mut label, &mut cached, observer)?,
        None => Vec::new(),
    };
    sweep(input.trees.layers.real).map_err(failed)?;
    // The builder that comes may be one that does not know of it.
    seal::forget(input.trees.layers.real).map_err(failed)?;
    stores(input).map_err(failed)?;
    if input.skip {
        observer.detail("Skipping buildpack layer analysis".into());
    }
    let mut jobs = Vec::new();
    for layer in &sifted {
        // Platforms that keep the layers directory may have it there.
        let dir = files::below(input.trees.layers.real, escape_id(&layer.buildpack)).map_err(failed)?;
        if layer::is_name(&layer.name) {
            remove(&dir.join(&layer.name)).map_err(failed)?;
        }
    }
    for buildpack in input.group {
        jobs.extend(metadata(input, buildpack, (&label, &cached), observer).map_err(failed)?);
    }
    jobs.extend(shared(input, &cached, observer));
    let index = Index::open(input.trees.layers.real, observer);
    index.begin_restore();
    let damaged = contents(input, &jobs, &index, observer)?;
    if input.required.is_some() {
        let sifted = sifted.iter().map(|layer| format!("{}:{}", layer.buildpack, layer.name));
        let damaged = damaged.into_iter().map(|id| (id, ReasonCode::CacheDamaged));
        let left = input
            .group
            .iter()
            .filter(|_| input.skip)
            .flat_map(|buildpack| earlier(buildpack, &label, &cached));
        let left = left.map(|id| (id, ReasonCode::NotRestored));
        let lost = left.chain(sifted.map(|id| (id, ReasonCode::OriginRequired))).chain(damaged).collect();
        write_lost(input.trees.layers.real, &lost).map_err(failed)?;
    }
    index.save(observer);
    if input.api.has_sbom_layer() && !input.skip {
        sboms(input, &cached, observer)?;
    }
    let millis = started.elapsed().as_millis().try_into().unwrap_or(u64::MAX);
    observer.event(Event::PhaseFinished { phase: "restore".into(), millis });
    Ok(())
}

/// The layers of a buildpack that earlier builds left.
fn earlier(
    buildpack: &GroupElement,
    label: &LifecycleMetadata,
    cached: &CacheMetadata,
) -> impl Iterator<Item = String> {
    let known = label.buildpacks.iter().chain(&cached.buildpacks).filter(|known| known.key == buildpack.id);
    let layers = known.flat_map(|known| known.layers.keys());
    layers.map(|name| format!("{}:{name}", buildpack.id)).collect::<Vec<_>>().into_iter()
}

/// Writes `store.toml` of every buildpack that had one.
fn stores(input: &Restore<'_>) -> Result<(), FileError> {
    for buildpack in input.group {
        let known = input.metadata.buildpacks.iter().find(|known| known.key == buildpack.id);
        if let Some(store) = known.and_then(|known| known.store.as_ref()) {
            let metadata = match values::to_toml(&store.metadata) {
                Some(toml::Value::Table(table)) => table,
                _ => toml::Table::new(),
            };
            let path = files::below(input.trees.layers.real, escape_id(&buildpack.id))?.join("store.toml");
            files::write(&path, &layer::Store { metadata }.to_toml())?;
        }
    }
    Ok(())
}

/// Writes the metadata of a buildpack's layers, removes what is out of date, and says what is to be extracted.
fn metadata(
    input: &Restore<'_>,
    buildpack: &GroupElement,
    (label, cached): (&LifecycleMetadata, &CacheMetadata),
    observer: &dyn Observer,
) -> Result<Vec<Job>, FileError> {
    let folder = escape_id(&buildpack.id);
    let dir = files::below(input.trees.layers.real, &folder)?;
    let present = present(&dir)?;
    let mut jobs = Vec::new();
    let plans = decide::layers(&buildpack.id, label, cached, &present, input.skip, input.api);
    for LayerPlan { name, metadata, bom, contents } in plans {
        let id = format!("{}:{name}", buildpack.id);
        if !layer::is_name(&name) {
            observer.warn(format!("ignoring layer '{id}': no layer can have this name"));
            continue;
        }
        if let Some((from, data)) = metadata {
            let from = if from == From::AppImage { "app image" } else { "cache" };
            observer.detail(format!("Restoring metadata for \"{id}\" from {from}"));
            files::write(&dir.join(format!("{name}.toml")), &layer::restored(&data, &bom))?;
        }
        match contents {
            Some(Contents::Restore(sha)) => {
                observer.detail(format!("Restoring data for \"{id}\" from cache"));
                jobs.push(Job { id, tail: Path::new(&folder).join(&name), sha });
            }
            Some(Contents::Remove) => {
                observer.detail(format!("Removing \"{id}\", wrong sha"));
                remove(&dir.join(&name))?;
            }
            None => {}
        }
    }
    Ok(jobs)
}

/// The folders that all buildpacks share.
fn shared(input: &Restore<'_>, cached: &CacheMetadata, observer: &dyn Observer) -> Vec<Job> {
    if input.skip {
        return Vec::new();
    }
    let job = |(name, sha): (String, String)| {
        let id = format!("{SHARED}:{name}");
        observer.detail(format!("Restoring data for \"{id}\" from cache"));
        Job { id, tail: Path::new(SHARED).join(name), sha }
    };
    decide::shared(cached).into_iter().map(job).collect()
}

/// Layers that are there already: folders, and files that describe them.
fn present(dir: &Path) -> Result<BTreeSet<String>, FileError> {
    let mut names = BTreeSet::new();
    for path in files::list(dir)? {
        let is_dir = path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir());
        let is_toml = path.extension().is_some_and(|extension| extension == "toml");
        let name = if is_dir { path.file_name() } else { path.file_stem() };
        if let Some(name) = name.and_then(|name| name.to_str())
            && (is_dir || is_toml && !crate::found::NOT_LAYERS.contains(&name))
        {
            names.insert(name.to_owned());
        }
    }
    Ok(names)
}

/// Removes a layer and what describes it.
fn remove(layer: &Path) -> Result<(), FileError> {
    files::remove(layer)?;
    for extension in ["toml", "sha"] {
        let mut path = layer.as_os_str().to_owned();
        path.push(format!(".{extension}"));
        files::remove(Path::new(&path))?;
    }
    Ok(())
}

/// Extracts layers side by side. One that cannot be had is gone, description included: a buildpack that found the
/// description alone would take the layer for complete. Gives the ids of these.
fn contents(
    input: &Restore<'_>,
    jobs: &[Job],
    index: &Index,
    observer: &dyn Observer,
) -> Result<Vec<String>, Failure> {
    let Some(cache) = input.cache else { return Ok(Vec::new()) };
    let lost = Mutex::new(Vec::new());
    let next = Mutex::new(jobs.iter());
    let count = input.threads.min(jobs.len());
    // One that reads ahead and one that fills files for each core without a layer: neither has always something to do.
    let spare = Spare::new(2 * (input.threads - count));
    let work = || -> Result<(), Failure> {
        loop {
            let job = next.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some(job) = job else {
                spare.give();
                return Ok(());
            };
            if is_in_place(input, job, index) {
                observer.debug(format!("Layer '{}' is in its place already", job.id));
                continue;
            }
            if let Some((ready, diff_id)) = input.ready.zip(job.sha.parse::<Digest>().ok())
                && let Some(skeleton) = ready.take(&diff_id, input.trees.layers.real, &job.tail, observer)
            {
                observer.event(Event::Restored { id: job.id.clone(), size: skeleton.size });
                index.verify(diff_id);
                remember(input, job, Restored { diff_id, skeleton }, index);
                continue;
            }
            match restore_one((cache, &spare), &job.sha, input.trees.layers.real, &job.tail, Limits::Layer)? {
                Ok(restored) => {
                    let size = restored.skeleton.size;
                    observer.event(Event::Restored { id: job.id.clone(), size });
                    index.verify(restored.diff_id);
                    remember(input, job, restored, index);
                }
                Err(reason) => {
                    observer.warn(format!("Skipping restore for layer {}: {reason}", job.id));
                    lost.lock().unwrap_or_else(PoisonError::into_inner).push(job.id.clone());
                    remove(&input.trees.layers.real.join(&job.tail))
                        .map_err(|error| Failure::caused(Exit::Restore, "failed to restore", &error))?;
                }
            }
        }
    };
    side_by_side(count, work).into_iter().collect::<Result<(), Failure>>()?;
    Ok(lost.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Whether a layer is what the cache has, as platforms find it that keep the layers directory.
fn is_in_place(input: &Restore<'_>, job: &Job, index: &Index) -> bool {
    let source = input.trees.source(&job.tail).ok();
    let known = source.and_then(|source| index.look(&source)?.known);
    known.is_some_and(|known| known.diff_id.to_string() == job.sha)
}

/// Remembers what a restored layer makes when it is packed again.
fn remember(input: &Restore<'_>, job: &Job, restored: Restored, index: &Index) {
    // Whatever is the matter with a tree is told when it is read.
    let Ok(source) = input.trees.source(&job.tail) else { return };
    let Restored { diff_id, skeleton } = restored;
    let fingerprint = index.restored(&source, diff_id, skeleton);
    if let Some((ready, fingerprint)) = input.ready.zip(fingerprint) {
        ready.restored(&job.tail, diff_id, fingerprint);
    }
}

/// An archive that was extracted and verified.
struct Restored {
    diff_id: Digest,
    skeleton: Skeleton,
}

/// Extracts one layer; a text says why it cannot be had.
fn restore_one(
    (cache, spare): (&dyn Cache, &Spare),
    sha: &str,
    layers_dir: &Path,
    tail: &Path,
    limits: Limits,
) -> Result<Result<Restored, String>, Failure> {
    let Ok(diff_id) = sha.parse::<Digest>() else {
        return Ok(Err(format!("the cache names it '{sha}', which is no digest")));
    };
    let mut tar = match cache.open_layer_sharing(&diff_id, spare) {
        Ok(Some(tar)) => tar,
        Ok(None) => return Ok(Err(format!("the cache does not have {sha}"))),
        Err(error) => return Ok(Err(chain(&error as &StoreError))),
    };
    match extract((&mut tar, spare), layers_dir, tail, limits) {
        Ok(skeleton) => Ok(Ok(Restored { diff_id, skeleton })),
        Err(error) if error.is_harmless() => Ok(Err(chain(&error))),
        Err(error) => Err(Failure::caused(Exit::Restore, "failed to restore", &error)),
    }
}

/// Puts SBOM files of restored layers beside them.
fn sboms(input: &Restore<'_>, cached: &CacheMetadata, observer: &dyn Observer) -> Result<(), Failure> {
    let sha = &cached.sbom.sha;
    if let Some(cache) = input.cache.filter(|_| !sha.is_empty()) {
        observer.detail("Restoring data for SBOM from cache".into());
        if let Err(reason) = restore_one(
            (cache, &Spare::default()),
            sha,
            input.trees.layers.real,
            Path::new("sbom/cache"),
            Limits::Documents,
        )? {
            observer.warn(format!("Skipping restore of SBOM files: {reason}"));
        }
    }
    sbom::restore(input.trees.layers.real, input.group)
        .map_err(|error| Failure::caused(Exit::Restore, "failed to restore SBOM files", &error))
}
