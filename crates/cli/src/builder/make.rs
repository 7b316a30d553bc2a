//! Makes images of buildpacks: layers are packed into a layout of their own, and go from there where they are wanted.

use super::Kit;
use crate::images::failure;
use crate::show::{print, print_err};
use crate::{output, workplace};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use strata_decide::export::CREATED;
use strata_decide::package::{Extension, Module};
use strata_layer::{Compression, Content, GeneratedEntry, Owner, Parent, Source as Tree, pack};
use strata_oci::{Descriptor, History, Image, Layer};
use strata_phases::{Failure, files};
use strata_sandbox::WorkDir;
use strata_spec::DocError;
use strata_spec::buildpack::Descriptor as BuildpackToml;
use strata_spec::exit::Exit;
use strata_spec::extension::Descriptor as ExtensionToml;
use strata_store::source::{Source, Surroundings};
use strata_store::{Layout, Store, StoreError, Transfer, copy_blobs};

/// An image in the making.
pub(super) struct Maker {
    pub(super) image: Image,
    layout: Layout,
    threads: usize,
    what: String,
    _temp: WorkDir,
}

impl Maker {
    pub(super) fn new(image: Image, to: &str) -> Result<Self, Failure> {
        let what = format!("cannot make '{to}'");
        let temp = workplace::new(|text| print_err(&format!("Warning: {text}")));
        let temp = temp.map_err(|error| Failure::caused(Exit::Export, what.clone(), &error))?;
        let layout = Layout::open_or_create(temp.path().join("image"));
        let layout = layout.map_err(|error| failure(Exit::Export, &what, &error))?;
        Ok(Self { image, layout, threads: workplace::threads(), what, _temp: temp })
    }

    /// Takes over the layers that the image begins with.
    pub(super) fn take_base(&self, base: &dyn Store) -> Result<(), Failure> {
        let blobs = self.image.layers().iter().map(|layer| (&layer.descriptor, base));
        copy_blobs(&self.layout, blobs, |_, _| Ok::<(), StoreError>(())).map_err(|error| self.failed(&error))
    }

    /// Adds a layer; its diffID.
    pub(super) fn add(&mut self, source: &Tree, created_by: &str) -> Result<String, Failure> {
        let mut sink = self.layout.begin_blob().map_err(|error| self.failed(&error))?;
        let packed = pack(source, Compression::Gzip, self.threads, &mut sink)
            .map_err(|error| Failure::caused(Exit::Export, self.what.clone(), &error))?;
        let flushed = sink.flush();
        flushed.map_err(|error| Failure::caused(Exit::Export, self.what.clone(), &error))?;
        sink.commit(&packed.digest, packed.size).map_err(|error| self.failed(&error))?;
        self.image.append(Layer {
            descriptor: Descriptor::new(self.image.layer_media_type(), packed.digest, packed.size),
            diff_id: packed.diff_id,
            history: Some(History { created_by: Some(created_by.to_owned()), ..History::default() }),
        });
        Ok(packed.diff_id.to_string())
    }

    /// Adds the buildpacks of a kit, each a layer.
    pub(super) fn add_buildpacks(&mut self, kit: &Kit) -> Result<Vec<Module>, Failure> {
        let mut modules = Vec::new();
        for (place, dir) in &kit.buildpacks {
            let descriptor = self.descriptor(&dir.join("buildpack.toml"), BuildpackToml::parse)?;
            let label = format!("{}@{}", descriptor.buildpack.id, descriptor.buildpack.version);
            let diff_id = self.add_module("/cnb/buildpacks", place, dir, &format!("Buildpack: {label}"))?;
            modules.push(Module { descriptor, diff_id });
        }
        Ok(modules)
    }

    /// Adds the image extensions of a kit, each a layer.
    pub(super) fn add_extensions(&mut self, kit: &Kit) -> Result<Vec<Extension>, Failure> {
        let mut extensions = Vec::new();
        for (place, dir) in &kit.extensions {
            let descriptor = self.descriptor(&dir.join("extension.toml"), ExtensionToml::parse)?;
            let label = format!("{}@{}", descriptor.extension.id, descriptor.extension.version);
            let diff_id = self.add_module("/cnb/extensions", place, dir, &format!("Extension: {label}"))?;
            extensions.push(Extension { descriptor, diff_id });
        }
        Ok(extensions)
    }

    fn descriptor<D: Default>(
        &self,
        path: &Path,
        parse: impl FnOnce(&str) -> Result<D, DocError>,
    ) -> Result<D, Failure> {
        let read = files::read(path, parse);
        let read =
            read.map_err(|error| Failure::caused(Exit::InvalidArguments, self.what.clone(), &error))?;
        Ok(read.unwrap_or_default())
    }

    fn add_module(
        &mut self,
        below: &str,
        place: &Path,
        dir: &Path,
        created_by: &str,
    ) -> Result<String, Failure> {
        let name = |path: &Path| format!("{below}/{}", path.display());
        let above = place.parent().unwrap_or(place);
        let source = Tree::Dir {
            dir: dir.to_owned(),
            as_path: name(place),
            parents: vec![Parent { path: name(above), owner: Owner::ROOT, mode: 0o755 }],
            owner: Owner::ROOT,
        };
        self.add(&source, created_by)
    }

    /// Writes the image where it is wanted, and says where that is.
    pub(super) fn write(
        mut self,
        to: &Source,
        name: &str,
        surroundings: &Surroundings<'_>,
    ) -> Result<(), Failure> {
        if let Source::Layout { dir, .. } = to {
            output::check_writable(dir)?;
        }
        let is_pipe = matches!(to, Source::OciArchive { file, .. } | Source::DockerArchive { file, .. } if file == Path::new("-"));
        if is_pipe {
            output::check_pipe()?;
        }
        self.image.normalise_history(CREATED);
        self.image.config_mut().set_created(CREATED);
        let encoded =
            self.image.encode().map_err(|error| Failure::caused(Exit::Export, self.what.clone(), &error))?;
        let target = to.create(surroundings, None).map_err(|error| self.failed(&error))?;
        let written = Transfer::new(target.store(), &self.layout).image(&encoded, &[]);
        match written {
            Ok(()) => target.finish().map_err(|error| self.failed(&error))?,
            Err(error) => {
                // What cannot be removed is an empty layout; why there is no image counts more.
                target.give_up().unwrap_or_default();
                return Err(self.failed(&error));
            }
        }
        let say = if is_pipe { print_err } else { print };
        say(&format!("Image {name}"));
        say(&format!("digest  {}", encoded.manifest_digest));
        Ok(())
    }

    fn failed(&self, error: &StoreError) -> Failure {
        failure(Exit::Export, &self.what, error)
    }
}

/// Where an image goes; a name ending in `.cnb` is a file, as pack makes it.
pub(super) fn target(text: &str) -> Result<Source, Failure> {
    let is_file = text.ends_with(".cnb") && !text.contains("oci-archive:");
    let whole = if is_file { format!("oci-archive:{text}") } else { text.to_owned() };
    Source::parse(&whole)
        .map_err(|error| failure(Exit::InvalidArguments, &format!("cannot make '{text}'"), &error))
}

/// An entry of a layer that is made here.
pub(super) fn entry(name: &str, owner: Owner, content: Option<String>) -> GeneratedEntry {
    let (mode, content) = match content {
        None => (0o755, Content::Dir),
        Some(text) => (0o644, Content::Bytes(text.into_bytes())),
    };
    GeneratedEntry { name: name.to_owned(), mode, owner, content }
}

/// The folder of the only lifecycle in an unpacked archive, and its description.
pub(super) fn lifecycle_in(dir: &Path) -> (PathBuf, PathBuf) {
    (dir.join("lifecycle"), dir.join("lifecycle.toml"))
}
