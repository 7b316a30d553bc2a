//! The layers that an image is to have, in the order of the reference, before any of them is made.

use super::{Export, Place, failed};
use crate::event::Observer;
use crate::failure::Failure;
use crate::files::{self, FileError};
use crate::found::{FoundLayer, find_layers};
use crate::index::Known;
use crate::seal::{self, Contents};
use std::path::Path;
use strata_decide::export as decide;
use strata_layer::{Content, GeneratedEntry, Owner, Source};
use strata_spec::bom;
use strata_spec::buildpack::escape_id;
use strata_spec::exit::Exit;
use strata_spec::group::GroupElement;
use strata_spec::labels::{BuildpackLayers, LayerEntry, LifecycleMetadata, Sha, StoreEntry};
use strata_spec::layer::Store as StoreToml;
use strata_spec::values;

/// A layer that is to be.
pub(super) struct Wanted<'a> {
    pub(super) id: String,
    pub(super) slot: Slot,
    /// `None`: it has no contents here and must be the previous image's.
    pub(super) source: Option<Source>,
    /// Which of the previous image's layers it must be, if somebody sealed it as that.
    pub(super) recorded: Option<Known>,
    pub(super) created_by: String,
    /// The diffIDs of layers of the previous image that it may be the same as.
    pub(super) known: Vec<&'a str>,
    /// Whether the cache is to have it too.
    pub(super) is_cached: bool,
}

/// Where the label names a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Slot {
    /// Of the buildpack with this number, by name.
    Buildpack(usize, String),
    Sbom,
    Slice,
    Launcher,
    Config,
    ProcessTypes,
}

impl Slot {
    /// Writes down what the layer turned out to be.
    pub(super) fn fill(&self, label: &mut LifecycleMetadata, sha: Sha) {
        match self {
            Self::Buildpack(at, name) => {
                let entry = label.buildpacks.get_mut(*at).and_then(|layers| layers.layers.get_mut(name));
                if let Some(entry) = entry {
                    entry.sha = sha.sha;
                }
            }
            Self::Sbom => label.sbom = Some(sha),
            Self::Slice => label.app.push(sha),
            Self::Launcher => label.launcher = sha,
            Self::Config => label.config = sha,
            Self::ProcessTypes => label.process_types = sha,
        }
    }
}

/// All layers, and the label's part about buildpacks, in which their digests are missing.
pub(super) fn all<'a>(
    export: &'a Export<'a>,
    observer: &'a dyn Observer,
) -> Result<(Vec<Wanted<'a>>, Vec<BuildpackLayers>), Failure> {
    let mut plan = Plan { export, observer, wanted: Vec::new() };
    let mut buildpacks = Vec::new();
    for (at, buildpack) in export.group.iter().enumerate() {
        buildpacks.push(plan.buildpack(at, buildpack)?);
    }
    if export.api.has_sbom_layer() {
        plan.sbom()?;
    }
    plan.app()?;
    plan.launcher();
    plan.config()?;
    plan.process_types();
    Ok((plan.wanted, buildpacks))
}

struct Plan<'a> {
    export: &'a Export<'a>,
    observer: &'a dyn Observer,
    wanted: Vec<Wanted<'a>>,
}

impl<'a> Plan<'a> {
    fn add(&mut self, slot: Slot, id: &str, source: Source, created_by: &str, known: Option<&'a Sha>) {
        let known = known.map(|known| known.sha.as_str()).into_iter().collect();
        let (id, source, created_by) = (id.to_owned(), Some(source), created_by.to_owned());
        let (recorded, is_cached) = (None, false);
        self.wanted.push(Wanted { id, slot, source, recorded, created_by, known, is_cached });
    }

    /// What the previous image's label says.
    fn label(&self) -> Option<&'a LifecycleMetadata> {
        self.export.previous.metadata
    }

    /// A folder in the layers directory, by its path in there.
    fn tree(&self, tail: &Path) -> Result<Source, Failure> {
        self.export.trees.source(tail).map_err(|error| failed("cannot use a folder", &error))
    }

    /// The launch layers of one buildpack, and its part of the label.
    fn buildpack(&mut self, at: usize, buildpack: &GroupElement) -> Result<BuildpackLayers, Failure> {
        let label = buildpack.label();
        let dir = files::below(self.export.trees.layers.real, escape_id(&buildpack.id))
            .map_err(|error| failed(&format!("cannot read the layers of {label}"), &error))?;
        let unreadable = |error: FileError| failed(&format!("cannot read the layers of {label}"), &error);
        let store = files::read(&dir.join("store.toml"), StoreToml::parse).map_err(unreadable)?;
        let mut entry = BuildpackLayers {
            key: buildpack.id.clone(),
            version: buildpack.version.clone(),
            store: store.map(|s| StoreEntry { metadata: values::table_to_json(&s.metadata) }),
            ..BuildpackLayers::default()
        };
        let mut found = find_layers(&dir).map_err(unreadable)?;
        // By layer name, as the reference orders them; the listing is by file name, in which `a-b.toml` is before `a.toml`.
        found.sort_by(|a, b| a.name.cmp(&b.name));
        for layer in found.into_iter().filter(|layer| layer.toml.types.launch) {
            let wanted = self.launch_layer(at, buildpack, &layer)?;
            self.wanted.push(wanted);
            let data = layer.toml.metadata.as_ref().map(values::table_to_json).unwrap_or_default();
            let (types, bom) = (layer.toml.types, bom::keep(&layer.toml.bom));
            let described = LayerEntry {
                sha: String::new(),
                data,
                build: types.build,
                launch: types.launch,
                cache: types.cache,
                bom,
            };
            entry.layers.insert(layer.name, described);
        }
        Ok(entry)
    }

    /// A launch layer; one without contents is the previous image's.
    fn launch_layer(
        &self,
        at: usize,
        buildpack: &GroupElement,
        layer: &FoundLayer,
    ) -> Result<Wanted<'a>, Failure> {
        let name = &layer.name;
        let id = format!("{}:{name}", buildpack.id);
        let known = self.previous_entry(&buildpack.id, name).map(|known| known.sha.as_str());
        let refused = |why: String| Failure::new(Exit::Export, format!("failed to export: {why}"));
        let Export { trees, index, .. } = self.export;
        let contents = seal::contents_of(trees, index, &buildpack.id, name, self.observer)
            .map_err(|error| failed(&format!("cannot use layer '{id}'"), &error))?;
        let (source, recorded) = if let Some(contents) = contents {
            match contents {
                Contents::Here(source) => (Some(source), None),
                Contents::Recorded(known) => (None, Some(known)),
            }
        } else if layer.toml.types.cache {
            return Err(refused(format!("layer '{id}' is cache=true but has no contents")));
        } else if known.is_none() {
            let why = format!("cannot reuse '{id}', previous image has no metadata for layer '{id}'");
            return Err(refused(why));
        } else {
            (None, None)
        };
        let created_by = decide::layer_history(name, &buildpack.id, &buildpack.version);
        let slot = Slot::Buildpack(at, name.clone());
        let (known, is_cached) = (known.into_iter().collect(), layer.toml.types.cache);
        Ok(Wanted { id, slot, source, recorded, created_by, known, is_cached })
    }

    /// What the previous image's label says of a layer.
    fn previous_entry(&self, buildpack: &str, layer: &str) -> Option<&'a LayerEntry> {
        self.label()?.buildpacks.iter().find(|known| known.key == buildpack)?.layers.get(layer)
    }

    /// The SBOM files about what is in the image, if there are any.
    fn sbom(&mut self) -> Result<(), Failure> {
        let tail = Path::new("sbom/launch");
        let dir = files::below(self.export.trees.layers.real, tail)
            .map_err(|error| failed("cannot use the SBOM files", &error))?;
        if dir.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) {
            let known = self.label().and_then(|label| label.sbom.as_ref());
            let (source, id) = (self.tree(tail)?, "buildpacksio/lifecycle:launch.sbom");
            self.add(Slot::Sbom, id, source, "Software Bill-of-Materials", known);
        }
        Ok(())
    }

    fn app(&mut self) -> Result<(), Failure> {
        let Place { real, seen } = self.export.app;
        let patterns: Vec<Vec<String>> =
            self.export.metadata.slices.iter().map(|slice| slice.paths.clone()).collect();
        let trees = &self.export.trees;
        let parents = trees.parents(real, seen).map_err(|error| failed("cannot look at a folder", &error))?;
        let sources = strata_layer::slices(real, seen, &parents, trees.owner, &patterns)
            .map_err(|error| failed("cannot slice the app", &error))?;
        let known: Vec<&str> = self
            .label()
            .map(|label| label.app.iter().map(|slice| slice.sha.as_str()).collect())
            .unwrap_or_default();
        let is_sliced = sources.len() > 1;
        for (number, source) in (1..).zip(sources) {
            let created_by = decide::app_history(is_sliced.then_some(number));
            let (id, source, known) = (format!("slice-{number}"), Some(source), known.clone());
            let (slot, recorded, is_cached) = (Slot::Slice, None, false);
            self.wanted.push(Wanted { id, slot, source, recorded, created_by, known, is_cached });
        }
        Ok(())
    }

    fn launcher(&mut self) {
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
        let known = self.label().map(|label| &label.launcher);
        let id = "buildpacksio/lifecycle:launcher";
        self.add(Slot::Launcher, id, source, "Buildpacks Application Launcher", known);
    }

    fn config(&mut self) -> Result<(), Failure> {
        let source = self.tree(Path::new("config"))?;
        let known = self.label().map(|label| &label.config);
        self.add(Slot::Config, "buildpacksio/lifecycle:config", source, "Buildpacks Launcher Config", known);
        Ok(())
    }

    fn process_types(&mut self) {
        if self.export.metadata.processes.is_empty() {
            return;
        }
        let mut entries = vec![root_dir("/cnb"), root_dir("/cnb/process")];
        entries.extend(self.export.metadata.processes.iter().map(|owned| GeneratedEntry {
            name: format!("/cnb/process/{}", owned.process.kind),
            mode: 0o755,
            owner: Owner::ROOT,
            content: Content::Symlink("/cnb/lifecycle/launcher".into()),
        }));
        let known = self.label().map(|label| &label.process_types);
        let (source, id) = (Source::Generated(entries), "buildpacksio/lifecycle:process-types");
        self.add(Slot::ProcessTypes, id, source, "Buildpacks Process Types", known);
    }
}

fn root_dir(name: &str) -> GeneratedEntry {
    GeneratedEntry { name: name.into(), mode: 0o755, owner: Owner::ROOT, content: Content::Dir }
}
