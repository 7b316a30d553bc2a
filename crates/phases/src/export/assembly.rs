//! The image as it grows layer by layer.

use super::{Export, Place, failed};
use crate::analyze::find_layer;
use crate::build::{FoundLayer, find_layers};
use crate::event::{Event, Observer};
use crate::failure::Failure;
use crate::files::{self, FileError};
use crate::index::Known;
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use strata_decide::export as decide;
use strata_layer::{Compression, Content, GeneratedEntry, LayerError, Owner, Packed, Source};
use strata_oci::{Descriptor, Digest, Family, History, Image, Layer};
use strata_spec::bom;
use strata_spec::buildpack::escape_id;
use strata_spec::exit::Exit;
use strata_spec::group::GroupElement;
use strata_spec::labels::{BuildpackLayers, LayerEntry, Sha, StoreEntry};
use strata_spec::layer::Store as StoreToml;
use strata_spec::values;
use strata_store::{Copied, Store, StoreError};

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

/// An image that grows layer by layer.
pub(super) struct Assembly<'a> {
    export: &'a Export<'a>,
    output: &'a dyn Store,
    observer: &'a dyn Observer,
    pub(super) image: Image,
}

impl<'a> Assembly<'a> {
    pub(super) fn new(
        export: &'a Export<'a>,
        output: &'a dyn Store,
        observer: &'a dyn Observer,
    ) -> Result<Self, Failure> {
        let mut image = export.base.image.clone();
        if export.api.has_targets() {
            image.normalise_history(export.created);
        } else {
            image.blank_history(export.created);
        }
        for layer in image.layers() {
            let copied = output.copy_blob_from(export.base_store, &layer.descriptor);
            let is_there = copied.map_err(|error: StoreError| failed("cannot copy the run image", &error))?;
            if is_there == Copied::Absent && !export.may_be_sparse {
                let what = format!("layer {} of the run image is not there", layer.descriptor.digest);
                return Err(Failure::new(Exit::Export, format!("failed to export: {what}"))
                    .hint("the run image is incomplete; fetch it again with all of its layers"));
            }
        }
        if image.layers().is_empty() {
            return Err(Failure::new(Exit::Export, "failed to export: the run image has no layers"));
        }
        Ok(Self { export, output, observer, image })
    }

    /// Puts a layer on top: the previous image's, if that is named by one of `known` and has the same contents, else
    /// a new one. Says whether it was reused.
    fn add(
        &mut self,
        id: &str,
        source: &Source,
        created_by: String,
        known: &[&str],
    ) -> Result<(Sha, bool), Failure> {
        let what = format!("cannot pack layer '{id}'");
        let candidates: Vec<&Layer> = known.iter().filter_map(|sha| self.previous_layer(sha)).collect();
        let sight = if candidates.is_empty() { None } else { self.export.index.look(source) };
        // What has changed is not read twice.
        let is_other = sight.as_ref().is_some_and(|sight| sight.is_other);
        if !candidates.is_empty() && !is_other {
            let known = self.export.index.know(source, sight.as_ref());
            let Known { diff_id, size } = known.map_err(|error| failed(&what, &error))?;
            let same = candidates.iter().find(|layer| layer.diff_id == diff_id);
            if let Some(layer) = same
                && self.take_over(id, layer)?
            {
                self.push(id, layer.descriptor.clone(), diff_id, size, created_by, true);
                return Ok((Sha { sha: diff_id.to_string() }, true));
            }
        }
        let mut sink = self.output.begin_blob().map_err(|error| failed(&what, &error))?;
        let mut out = Cancellable { out: &mut *sink, cancelled: self.export.cancelled };
        let compression = self.output.compression();
        let packed: Packed = strata_layer::pack(source, compression, self.export.threads, &mut out)
            .map_err(|error: LayerError| failed(&what, &error))?;
        sink.commit(&packed.digest, packed.size).map_err(|error| failed(&what, &error))?;
        self.export.index.record(sight.as_ref(), Known::of(&packed), None);
        let media_type = match compression {
            Compression::Gzip => self.image.layer_media_type(),
            Compression::None => self.image.family().layer(),
        };
        let descriptor = Descriptor::new(media_type, packed.digest, packed.size);
        self.push(id, descriptor, packed.diff_id, packed.uncompressed_size, created_by, false);
        Ok((Sha { sha: packed.diff_id.to_string() }, false))
    }

    /// As [`add`](Self::add), and says so in the log.
    fn add_and_tell(
        &mut self,
        id: &str,
        source: &Source,
        created_by: &str,
        known: &str,
    ) -> Result<Sha, Failure> {
        let (sha, is_reused) = self.add(id, source, created_by.to_owned(), &[known])?;
        self.tell(id, &sha.sha, is_reused);
        Ok(sha)
    }

    fn tell(&self, id: &str, sha: &str, is_reused: bool) {
        self.observer.detail(format!("{} layer '{id}'", if is_reused { "Reusing" } else { "Adding" }));
        self.observer.debug(format!("Layer '{id}' SHA: {sha}"));
    }

    fn push(
        &mut self,
        id: &str,
        descriptor: Descriptor,
        diff_id: Digest,
        uncompressed_size: u64,
        created_by: String,
        is_reused: bool,
    ) {
        self.observer.event(Event::Layer {
            id: id.to_owned(),
            diff_id: diff_id.to_string(),
            digest: descriptor.digest.to_string(),
            size: descriptor.size,
            uncompressed_size,
            is_reused,
        });
        // Before Platform API 0.12 nothing but the date was kept of how a layer was made.
        let created_by = Some(created_by).filter(|_| self.export.api.has_targets());
        let history =
            History { created: Some(self.export.created.to_owned()), created_by, ..History::default() };
        // Both families compress alike: the type follows the image that the layer is in now.
        let is_gzip =
            [Family::Oci, Family::Docker].map(Family::layer_gzip).contains(&&*descriptor.media_type);
        let media_type =
            if is_gzip { self.image.layer_media_type().to_owned() } else { descriptor.media_type.clone() };
        let descriptor = Descriptor { media_type, ..descriptor };
        self.image.append(Layer { descriptor, diff_id, history: Some(history) });
    }

    /// The layer of the previous image that its label names so.
    fn previous_layer(&self, sha: &str) -> Option<&'a Layer> {
        let (stored, _) = self.export.previous.image?;
        find_layer(stored, &sha.parse().ok()?)
    }

    /// Brings a layer of the previous image here; `false` when it is not there either.
    fn take_over(&self, id: &str, layer: &Layer) -> Result<bool, Failure> {
        let Some((_, store)) = self.export.previous.image else { return Ok(false) };
        let copied = self
            .output
            .copy_blob_from(store, &layer.descriptor)
            .map_err(|error| failed(&format!("cannot reuse layer '{id}'"), &error))?;
        Ok(copied != Copied::Absent)
    }

    /// A folder in the layers directory, by its path in there.
    fn tree(&self, tail: &Path) -> Result<Source, Failure> {
        self.export.trees.source(tail).map_err(|error| failed("cannot use a folder", &error))
    }

    /// The launch layers of one buildpack, and its part of the label.
    pub(super) fn buildpack(&mut self, buildpack: &GroupElement) -> Result<BuildpackLayers, Failure> {
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
            let sha = self.launch_layer(buildpack, &layer)?;
            let data = layer.toml.metadata.as_ref().map(values::table_to_json).unwrap_or_default();
            let (types, bom) = (layer.toml.types, bom::keep(&layer.toml.bom));
            let described =
                LayerEntry { sha, data, build: types.build, launch: types.launch, cache: types.cache, bom };
            entry.layers.insert(layer.name, described);
        }
        Ok(entry)
    }

    /// Adds a launch layer; one without contents is the previous image's.
    fn launch_layer(&mut self, buildpack: &GroupElement, layer: &FoundLayer) -> Result<String, Failure> {
        let name = &layer.name;
        let id = format!("{}:{name}", buildpack.id);
        let history = decide::layer_history(name, &buildpack.id, &buildpack.version);
        let known = self.previous_entry(&buildpack.id, name).map(|known| known.sha.as_str());
        if layer.dir.is_dir() {
            let source = self.tree(&Path::new(&escape_id(&buildpack.id)).join(name))?;
            return Ok(self.add_and_tell(&id, &source, &history, known.unwrap_or_default())?.sha);
        }
        let refused = |why: String| Failure::new(Exit::Export, format!("failed to export: {why}"));
        if layer.toml.types.cache {
            return Err(refused(format!("layer '{id}' is cache=true but has no contents")));
        }
        let known = known.ok_or_else(|| {
            refused(format!("cannot reuse '{id}', previous image has no metadata for layer '{id}'"))
        })?;
        let previous = self.previous_layer(known);
        let taken = match previous {
            Some(layer) if self.take_over(&id, layer)? => Some(layer),
            _ => None,
        };
        let layer = taken.ok_or_else(|| {
            refused(format!("cannot reuse '{id}', previous image has no layer {known}"))
                .hint("build again without the previous image, so that the buildpack makes the layer anew")
        })?;
        self.push(&id, layer.descriptor.clone(), layer.diff_id, 0, history, true);
        self.tell(&id, known, true);
        Ok(known.to_owned())
    }

    /// What the previous image's label says of a layer.
    fn previous_entry(&self, buildpack: &str, layer: &str) -> Option<&'a LayerEntry> {
        let metadata = self.export.previous.metadata?;
        metadata.buildpacks.iter().find(|known| known.key == buildpack)?.layers.get(layer)
    }

    /// The SBOM files about what is in the image; `None` when there are none.
    pub(super) fn sbom(&mut self) -> Result<Option<Sha>, Failure> {
        let tail = Path::new("sbom/launch");
        let dir = files::below(self.export.trees.layers.real, tail)
            .map_err(|error| failed("cannot use the SBOM files", &error))?;
        if !dir.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) {
            return Ok(None);
        }
        let known = self.export.previous.metadata.and_then(|m| m.sbom.as_ref()).map(|sbom| sbom.sha.as_str());
        let source = self.tree(tail)?;
        let id = "buildpacksio/lifecycle:launch.sbom";
        self.add_and_tell(id, &source, "Software Bill-of-Materials", known.unwrap_or_default()).map(Some)
    }

    pub(super) fn app(&mut self) -> Result<Vec<Sha>, Failure> {
        let Place { real, seen } = self.export.app;
        let patterns: Vec<Vec<String>> =
            self.export.metadata.slices.iter().map(|slice| slice.paths.clone()).collect();
        let trees = &self.export.trees;
        let parents = trees.parents(real, seen).map_err(|error| failed("cannot look at a folder", &error))?;
        let sources = strata_layer::slices(real, seen, &parents, trees.owner, &patterns)
            .map_err(|error| failed("cannot slice the app", &error))?;
        let known: Vec<&str> = self
            .export
            .previous
            .metadata
            .map(|metadata| metadata.app.iter().map(|slice| slice.sha.as_str()).collect())
            .unwrap_or_default();
        let is_sliced = sources.len() > 1;
        let (mut shas, mut reused) = (Vec::new(), 0);
        for (i, source) in sources.iter().enumerate() {
            let created_by = decide::app_history(is_sliced.then_some(i + 1));
            let (sha, is_reused) = self.add(&format!("slice-{}", i + 1), source, created_by, &known)?;
            self.observer.debug(format!("Layer 'slice-{}' SHA: {}", i + 1, sha.sha));
            reused += usize::from(is_reused);
            shas.push(sha);
        }
        let all = sources.len();
        for (verb, count) in [("Reused", reused), ("Added", all - reused)] {
            if count > 0 {
                self.observer.detail(format!("{verb} {count}/{all} app layer(s)"));
            }
        }
        Ok(shas)
    }

    pub(super) fn launcher(&mut self) -> Result<Sha, Failure> {
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
        let known = self.export.previous.metadata.map(|m| m.launcher.sha.as_str()).unwrap_or_default();
        self.add_and_tell(
            "buildpacksio/lifecycle:launcher",
            &source,
            "Buildpacks Application Launcher",
            known,
        )
    }

    pub(super) fn config(&mut self) -> Result<Sha, Failure> {
        let source = self.tree(Path::new("config"))?;
        let known = self.export.previous.metadata.map(|m| m.config.sha.as_str()).unwrap_or_default();
        self.add_and_tell("buildpacksio/lifecycle:config", &source, "Buildpacks Launcher Config", known)
    }

    pub(super) fn process_types(&mut self) -> Result<Sha, Failure> {
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
        let known = self.export.previous.metadata.map(|m| m.process_types.sha.as_str()).unwrap_or_default();
        let id = "buildpacksio/lifecycle:process-types";
        self.add_and_tell(id, &source, "Buildpacks Process Types", known)
    }
}

fn root_dir(name: &str) -> GeneratedEntry {
    GeneratedEntry { name: name.into(), mode: 0o755, owner: Owner::ROOT, content: Content::Dir }
}
