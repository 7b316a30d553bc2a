//! The export phase: turns what the buildpacks left into an image on top of the run image.

use crate::build::{FoundLayer, find_layers};
use crate::event::{Event, Observer};
use crate::failure::Failure;
use crate::files;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use strata_decide::export as decide;
use strata_layer::{Compression, Content, GeneratedEntry, LayerError, Owner, Packed, Parent, Source};
use strata_oci::{Descriptor, Encoded, History, Image, Layer};
use strata_spec::PlatformApi;
use strata_spec::buildpack::escape_id;
use strata_spec::exit::Exit;
use strata_spec::group::GroupElement;
use strata_spec::labels::{self, BuildpackLayers, LayerEntry, LifecycleMetadata, RunImage, Sha, StoreEntry};
use strata_spec::layer::Store as StoreToml;
use strata_spec::metadata::Metadata;
use strata_spec::project::ProjectMetadata;
use strata_store::Copied;
use strata_store::{Store, StoreError, StoredImage};

/// A folder that is somewhere here and has another path in the image.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// Where its bytes are.
    pub real: &'a Path,
    /// Its path in the image.
    pub seen: &'a str,
}

/// Everything that export needs.
pub struct Export<'a> {
    /// What the buildpacks left.
    pub layers: Place<'a>,
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
    /// How labels name the run image.
    pub run_image: RunImage,
    /// The program that goes into the image.
    pub launcher: &'a [u8],
    /// What labels say of it.
    pub launcher_info: labels::Launcher,
    /// The process type that was asked for.
    pub process_type: Option<&'a str>,
    /// The source of the app.
    pub project: &'a ProjectMetadata,
    /// The owner of app and layers in the image.
    pub owner: Owner,
    /// RFC 3339, for the configuration and its history.
    pub created: &'a str,
    /// `production`, `test`, …
    pub exec_env: &'a str,
    /// The platform API of the image.
    pub api: PlatformApi,
    /// How many threads compress.
    pub threads: usize,
    /// Set from outside to stop the phase.
    pub cancelled: &'a AtomicBool,
}

/// A writer that fails once the phase is to stop.
struct Cancellable<'a> {
    out: &'a mut dyn Write,
    cancelled: &'a AtomicBool,
}

impl Write for Cancellable<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(io::Error::other("it was interrupted"));
        }
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
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
}

/// Runs the phase: stores all layers and, last, the image itself under `names`.
///
/// # Errors
/// [`Exit::Export`], and nothing of the image is visible then.
pub fn run(
    export: &Export<'_>,
    output: &dyn Store,
    names: &[String],
    observer: &dyn Observer,
) -> Result<Exported, Failure> {
    let started = Instant::now();
    observer.event(Event::PhaseStarted { phase: "export".into() });
    let process = decide::default_process(export.metadata, export.process_type)
        .map_err(|message| Failure::new(Exit::Export, format!("failed to export: {message}")))?;
    let mut assembly = Assembly::new(export, output, observer)?;
    let mut lifecycle =
        LifecycleMetadata { run_image: export.run_image.clone(), ..LifecycleMetadata::default() };
    lifecycle.stack.run_image = labels::StackRunImage {
        image: export.run_image.image.clone(),
        mirrors: export.run_image.mirrors.clone(),
    };
    for buildpack in export.group {
        lifecycle.buildpacks.push(assembly.buildpack(buildpack)?);
    }
    lifecycle.app = assembly.app()?;
    lifecycle.launcher = assembly.launcher()?;
    lifecycle.config = assembly.config()?;
    lifecycle.process_types = assembly.process_types()?;
    let image = configure(assembly.image, export, &lifecycle, process.as_deref())?;
    let encoded = image.encode().map_err(|error| failed("cannot describe the image", &error))?;
    output.put_image(&encoded, names).map_err(|error| failed("cannot store the image", &error))?;
    let size = encoded.layers.iter().map(|layer| layer.size).sum();
    let millis = started.elapsed().as_millis().try_into().unwrap_or(u64::MAX);
    observer.event(Event::PhaseFinished { phase: "export".into(), millis });
    Ok(Exported { encoded, process, size })
}

fn failed(what: &str, error: &dyn std::error::Error) -> Failure {
    let failure = Failure::caused(Exit::Export, format!("failed to export: {what}"), error);
    if failure.causes.iter().any(|cause| cause.contains("No space left")) {
        return failure.hint("free some disk space; nothing of the image was kept");
    }
    failure
}

/// An image that grows layer by layer.
struct Assembly<'a> {
    export: &'a Export<'a>,
    output: &'a dyn Store,
    observer: &'a dyn Observer,
    image: Image,
}

impl<'a> Assembly<'a> {
    fn new(
        export: &'a Export<'a>,
        output: &'a dyn Store,
        observer: &'a dyn Observer,
    ) -> Result<Self, Failure> {
        let mut image = export.base.image.clone();
        image.normalise_history(export.created);
        for layer in image.layers() {
            let copied = output.copy_blob_from(export.base_store, &layer.descriptor);
            let is_there = copied.map_err(|error: StoreError| failed("cannot copy the run image", &error))?;
            if is_there == Copied::Absent {
                let what = format!("layer {} of the run image is not there", layer.descriptor.digest);
                return Err(Failure::new(Exit::Export, format!("failed to export: {what}"))
                    .hint("the run image is incomplete; fetch it again with all of its layers"));
            }
        }
        Ok(Self { export, output, observer, image })
    }

    /// Packs one layer and puts it on top.
    fn add(&mut self, id: &str, source: &Source, created_by: String) -> Result<Sha, Failure> {
        let what = format!("cannot pack layer '{id}'");
        let mut sink = self.output.begin_blob().map_err(|error| failed(&what, &error))?;
        let mut out = Cancellable { out: &mut *sink, cancelled: self.export.cancelled };
        let packed: Packed = strata_layer::pack(source, Compression::Gzip, self.export.threads, &mut out)
            .map_err(|error: LayerError| failed(&what, &error))?;
        sink.commit(&packed.digest, packed.size).map_err(|error| failed(&what, &error))?;
        self.image.append(Layer {
            descriptor: Descriptor::new(self.image.layer_media_type(), packed.digest, packed.size),
            diff_id: packed.diff_id,
            history: Some(History {
                created: Some(self.export.created.to_owned()),
                created_by: Some(created_by),
                ..History::default()
            }),
        });
        self.observer.event(Event::Layer {
            id: id.to_owned(),
            diff_id: packed.diff_id.to_string(),
            digest: packed.digest.to_string(),
            size: packed.size,
            uncompressed_size: packed.uncompressed_size,
            is_reused: false,
        });
        Ok(Sha { sha: packed.diff_id.to_string() })
    }

    /// Folders above `path`. Their owner and mode are not those of this machine, which would make the layer depend
    /// on who built it.
    fn parents(&self, path: &str) -> Vec<Parent> {
        let above = Path::new(path).ancestors().skip(1).filter(|p| p.parent().is_some());
        let mut parents: Vec<Parent> = above
            .map(|p| Parent { path: p.display().to_string(), owner: self.export.owner, mode: 0o755 })
            .collect();
        parents.reverse();
        parents
    }

    fn tree(&self, real: PathBuf, seen: String) -> Source {
        let parents = self.parents(&seen);
        Source::Dir { dir: real, as_path: seen, parents, owner: self.export.owner }
    }

    /// The launch layers of one buildpack, and its part of the label.
    fn buildpack(&mut self, buildpack: &GroupElement) -> Result<BuildpackLayers, Failure> {
        let label = buildpack.label();
        let escaped = escape_id(&buildpack.id);
        let dir = self.export.layers.real.join(&escaped);
        let unreadable =
            |error: files::FileError| failed(&format!("cannot read the layers of {label}"), &error);
        let store = files::read(&dir.join("store.toml"), StoreToml::parse).map_err(unreadable)?;
        let mut entry = BuildpackLayers {
            key: buildpack.id.clone(),
            version: buildpack.version.clone(),
            store: store.map(|s| StoreEntry { metadata: strata_spec::values::table_to_json(&s.metadata) }),
            ..BuildpackLayers::default()
        };
        let mut found = find_layers(&dir).map_err(unreadable)?;
        // By layer name, as the reference orders them; the listing is by file name, in which `a-b.toml` is before `a.toml`.
        found.sort_by(|a, b| a.name.cmp(&b.name));
        for FoundLayer { name, dir, toml } in found {
            if !toml.types.launch {
                continue;
            }
            let id = format!("{}:{name}", buildpack.id);
            if !dir.is_dir() {
                let message = format!(
                    "failed to export: layer '{id}' is launch=true but has no contents, \
                     and no earlier image is at hand to take it from"
                );
                return Err(Failure::new(Exit::Export, message));
            }
            let source = self.tree(dir, format!("{}/{escaped}/{name}", self.export.layers.seen));
            let history = decide::layer_history(&name, &buildpack.id, &buildpack.version);
            let Sha { sha } = self.add(&id, &source, history)?;
            let data = toml.metadata.as_ref().map(strata_spec::values::table_to_json).unwrap_or_default();
            let types = toml.types;
            let layer =
                LayerEntry { sha, data, build: types.build, launch: types.launch, cache: types.cache };
            entry.layers.insert(name, layer);
        }
        Ok(entry)
    }

    fn app(&mut self) -> Result<Vec<Sha>, Failure> {
        let Place { real, seen } = self.export.app;
        let patterns: Vec<Vec<String>> =
            self.export.metadata.slices.iter().map(|slice| slice.paths.clone()).collect();
        let sources = strata_layer::slices(real, seen, &self.parents(seen), self.export.owner, &patterns)
            .map_err(|error| failed("cannot slice the app", &error))?;
        let sliced = sources.len() > 1;
        sources
            .iter()
            .enumerate()
            .map(|(i, source)| {
                let number = sliced.then_some(i + 1);
                self.add(&format!("slice-{}", i + 1), source, decide::app_history(number))
            })
            .collect()
    }

    fn launcher(&mut self) -> Result<Sha, Failure> {
        let source = Source::Generated(vec![
            root_dir("/cnb"),
            root_dir("/cnb/lifecycle"),
            GeneratedEntry {
                name: "/cnb/lifecycle/launcher".into(),
                mode: 0o755,
                owner: Owner::ROOT,
                content: Content::Bytes(self.export.launcher.to_vec()),
            },
        ]);
        self.add("buildpacksio/lifecycle:launcher", &source, "Buildpacks Application Launcher".into())
    }

    fn config(&mut self) -> Result<Sha, Failure> {
        let Place { real, seen } = self.export.layers;
        let source = self.tree(real.join("config"), format!("{seen}/config"));
        self.add("buildpacksio/lifecycle:config", &source, "Buildpacks Launcher Config".into())
    }

    fn process_types(&mut self) -> Result<Sha, Failure> {
        if self.export.metadata.processes.is_empty() {
            return Ok(Sha::default());
        }
        let mut entries = vec![root_dir("/cnb"), root_dir("/cnb/process")];
        entries.extend(self.export.metadata.processes.iter().map(|owned| GeneratedEntry {
            name: format!("/cnb/process/{}", owned.process.kind),
            mode: 0o755,
            owner: Owner::ROOT,
            content: Content::Symlink("/cnb/lifecycle/launcher".into()),
        }));
        let source = Source::Generated(entries);
        self.add("buildpacksio/lifecycle:process-types", &source, "Buildpacks Process Types".into())
    }
}

fn root_dir(name: &str) -> GeneratedEntry {
    GeneratedEntry { name: name.into(), mode: 0o755, owner: Owner::ROOT, content: Content::Dir }
}

/// Labels, environment, working directory and entry point.
fn configure(
    mut image: Image,
    export: &Export<'_>,
    lifecycle: &LifecycleMetadata,
    process: Option<&str>,
) -> Result<Image, Failure> {
    let json = |value: Result<serde_json::Value, serde_json::Error>| {
        value
            .map(|value| strata_oci::go_json::to_string(&value))
            .map_err(|error| failed("cannot write a label", &error))
    };
    let build = decide::build_metadata(export.metadata, export.launcher_info.clone(), export.api);
    let mut project = serde_json::Map::new();
    if let Some(source) = &export.project.source {
        let mut entry = serde_json::Map::new();
        if !source.kind.is_empty() {
            entry.insert("type".into(), source.kind.clone().into());
        }
        for (key, table) in [("version", &source.version), ("metadata", &source.metadata)] {
            if !table.is_empty() {
                entry.insert(key.into(), strata_spec::values::table_to_json(table));
            }
        }
        project.insert("source".into(), entry.into());
    }
    let config = image.config_mut();
    config.set_label(labels::LIFECYCLE_METADATA, &json(serde_json::to_value(lifecycle))?);
    config.set_label(labels::BUILD_METADATA, &json(serde_json::to_value(&build))?);
    config.set_label(labels::PROJECT_METADATA, &json(Ok(project.into()))?);
    for label in &export.metadata.labels {
        config.set_label(&label.key, &label.value);
    }
    if export.api.has_exec_env() {
        config.set_label(labels::EXEC_ENV, export.exec_env);
    }
    config.set_env("CNB_LAYERS_DIR", export.layers.seen);
    config.set_env("CNB_APP_DIR", export.app.seen);
    config.set_env("CNB_PLATFORM_API", &export.api.to_string());
    config.set_env("CNB_DEPRECATION_MODE", "quiet");
    let path = decide::path(export.base.image.config().env_var("PATH"));
    config.set_env("PATH", &path);
    config.set_working_dir(export.app.seen);
    config.set_entrypoint([decide::entrypoint(process)]);
    config.remove_cmd();
    config.clear_container();
    config.set_created(export.created);
    Ok(image)
}
