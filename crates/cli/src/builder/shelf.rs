//! The buildpacks and image extensions that come from outside the build image, each in a folder of its own.

use super::download::Downloads;
use super::listed;
use super::place::{Download, Place, shown};
use super::{BuildImage, Kit};
use crate::images::{self, Names, failure};
use crate::show::Show;
use crate::show::transfer::hold;
use crate::workplace::threads;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use strata_decide::detect::Kind;
use strata_phases::files::FileError;
use strata_phases::{Failure, Observer as _, files};
use strata_spec::buildpack::{Descriptor, escape_id};
use strata_spec::buildpackage::{Modules, Package, parse_modules};
use strata_spec::exit::Exit;
use strata_spec::extension;
use strata_spec::labels;
use strata_spec::order::OrderElement;
use strata_store::Unpacked;
use strata_store::source::Surroundings;
use strata_store::unpacked::Held;

/// Puts buildpacks into a kit, or image extensions.
pub(super) struct Shelf<'a> {
    pub(super) kind: Kind,
    pub(super) kit: &'a mut Kit,
    pub(super) surroundings: &'a Surroundings<'a>,
    pub(super) unpacked: &'a Unpacked,
    pub(super) show: &'a Show,
    pub(super) downloads: &'a Downloads,
}

impl<'a> Shelf<'a> {
    pub(super) fn new(
        kit: &'a mut Kit,
        surroundings: &'a Surroundings<'a>,
        unpacked: &'a Unpacked,
        downloads: &'a Downloads,
        show: &'a Show,
    ) -> Self {
        Self { kind: Kind::Buildpack, kit, surroundings, unpacked, show, downloads }
    }

    /// The same for image extensions.
    pub(super) fn of_extensions(self) -> Self {
        Self { kind: Kind::Extension, ..self }
    }

    fn dirs(&mut self) -> &mut BTreeMap<PathBuf, PathBuf> {
        match self.kind {
            Kind::Buildpack => &mut self.kit.buildpacks,
            Kind::Extension => &mut self.kit.extensions,
        }
    }

    /// Where a buildpack is that a person names; paths are relative to `base`.
    pub(super) fn place(&self, text: &str, base: &Path) -> Result<Place, Failure> {
        let (kit, kind) = (&self.kit, self.kind);
        let modules = kit.build_image.as_ref().map(|image| modules_of(image, kind)).transpose()?;
        let modules = modules.unwrap_or_default();
        let dirs = if kind == Kind::Buildpack { &kit.buildpacks } else { &kit.extensions };
        let in_builder =
            |id: &str| modules.contains_key(id) || dirs.keys().any(|place| place.starts_with(escape_id(id)));
        Place::parse(text, base, &in_builder).map_err(|(problem, hint)| {
            let message = format!("cannot use the {kind} '{}': {problem}", shown(text));
            Failure::new(Exit::InvalidArguments, message).hint(hint)
        })
    }

    /// Refuses a second buildpack of one id and version.
    pub(super) fn is_new(&self, id: &str, version: &str) -> Result<(), Failure> {
        if place_of(id, version).is_some_and(|place| self.kit.buildpacks.contains_key(&place)) {
            let message = format!("there are two buildpacks {id}@{version}, of which one is a script");
            return Err(Failure::new(Exit::InvalidArguments, message).hint("give it another id"));
        }
        Ok(())
    }

    /// Takes a buildpack in, with those that it is made of; how an order names it. The groups of the builder are none.
    pub(super) fn add(&mut self, place: &Place) -> Result<Option<OrderElement>, Failure> {
        let (id, version) = match place {
            Place::Builder => return Ok(None),
            Place::InBuilder { id, version } => (id.clone(), version.clone()),
            Place::Folder(dir) => self.add_folder(dir)?,
            Place::Archive(file) => self.add_archive(file, &file.display().to_string())?,
            Place::Image(name) => self.add_package(name, name)?,
            Place::Web(download) => self.add_download(download)?,
            Place::Listed { id, version } => {
                let name = listed::find(id, version, self.surroundings)?;
                self.show.info(format!("The buildpack registry has {id} in {name}"));
                self.add_package(&format!("docker://{name}"), &name)?
            }
        };
        Ok(Some(OrderElement { id, version, optional: false }))
    }

    fn add_folder(&mut self, dir: &Path) -> Result<(String, String), Failure> {
        let kind = self.kind;
        let what = || format!("cannot use the {kind} {}", dir.display());
        let dir =
            dir.canonicalize().map_err(|error| Failure::caused(Exit::InvalidArguments, what(), &error))?;
        let (id, version) = name_of(kind, &dir)
            .map_err(|error| Failure::caused(Exit::InvalidArguments, what(), &error))?
            .ok_or_else(|| {
                Failure::new(Exit::InvalidArguments, format!("{}: it has no {kind}.toml", what())).hint(
                    match kind {
                        Kind::Buildpack => {
                            "a buildpack is a folder with buildpack.toml, bin/detect and bin/build"
                        }
                        Kind::Extension => "an extension is a folder with extension.toml and bin/generate",
                    },
                )
            })?;
        let place = place_of(&id, &version).ok_or_else(|| {
            let message = format!("{}: '{id}@{version}' cannot be a folder's name", what());
            Failure::new(Exit::InvalidArguments, message)
                .hint(format!("{kind}.id and {kind}.version are both required"))
        })?;
        if let Some(other) = self.dirs().insert(place, dir.clone()).filter(|other| *other != dir) {
            let message = format!("{} and {} are both {id}@{version}", other.display(), dir.display());
            return Err(Failure::new(Exit::InvalidArguments, message));
        }
        Ok((id, version))
    }

    fn add_archive(&mut self, file: &Path, shown: &str) -> Result<(String, String), Failure> {
        let what = format!("cannot use the {} {shown}", self.kind);
        let held = self.unpacked.hold_file(file);
        let held = held.map_err(|error| failure(Exit::InvalidArguments, &what, &error))?;
        let dir = held.dirs().first().cloned().unwrap_or_default();
        self.kit.held.push(held);
        self.add_folder(&dir).map_err(|failure| Failure { message: what, ..deeper(failure) })
    }

    fn add_download(&mut self, download: &Download) -> Result<(String, String), Failure> {
        let fetched = self.downloads.fetch(download, self.surroundings, self.show)?;
        let (path, shown) = (fetched.path(), download.shown());
        let name = format!("oci-archive:{}", path.display());
        let added = match download.is_package() {
            true => self.add_package(&name, &shown),
            false => self.add_archive(&path, &shown),
        };
        // The file's name tells nobody anything.
        let tell = |text: String| text.replace(&name, &shown).replace(&path.display().to_string(), &shown);
        added.map_err(|failure| Failure { causes: failure.causes.into_iter().map(tell).collect(), ..failure })
    }

    /// `shown` is what people call it.
    fn add_package(&mut self, name: &str, shown: &str) -> Result<(String, String), Failure> {
        let what = format!("cannot use the {} '{shown}'", self.kind);
        let refused = |problem: &str| Failure::new(Exit::InvalidArguments, format!("{what}: {problem}"));
        let (store, stored) = images::open(name, self.surroundings, None, Names::Anywhere)
            .map_err(|failure| Failure { message: what.clone(), ..deeper(failure) })?;
        let config = stored.image.config();
        let label = config.label(labels::BUILDPACKAGE_METADATA).ok_or_else(|| {
            refused("the image is no buildpackage").hint("`strata buildpack package` makes one of a folder")
        })?;
        let broken = |error| Failure::caused(Exit::InvalidArguments, what.clone(), &error);
        let main = Package::parse(label).map_err(broken)?;
        let modules = config.label(layers_label(self.kind)).unwrap_or("null");
        let modules = parse_modules(modules).map_err(broken)?;
        let held = hold(self.show, shown, self.unpacked, &*store, &stored.image, threads())
            .map_err(|error| failure(Exit::InvalidArguments, &what, &error))?;
        for (id, version) in modules.iter().flat_map(|(id, all)| all.keys().map(move |version| (id, version)))
        {
            let place = place_of(id, version)
                .ok_or_else(|| refused(&format!("'{id}@{version}' cannot be a folder's name")))?;
            let dir = find(&held, self.kind, &place)
                .ok_or_else(|| refused(&format!("its label names {id}@{version}, which is not in it")))?;
            // Packages that are made of the same ones bring the same ones along.
            self.dirs().entry(place).or_insert(dir);
        }
        self.kit.held.push(held);
        match modules.get(&main.id).is_some_and(|versions| versions.contains_key(&main.version)) {
            true => Ok((main.id, main.version)),
            false => Err(refused(&format!("{}@{} is not in it", main.id, main.version))),
        }
    }
}

/// The same failure as the cause of another one.
fn deeper(failure: Failure) -> Failure {
    let mut causes = failure.causes;
    causes.insert(0, failure.message);
    Failure { causes, message: String::new(), ..failure }
}

/// The folder of a buildpack below the one of all buildpacks.
fn place_of(id: &str, version: &str) -> Option<PathBuf> {
    let is_name = |text: &str| !text.is_empty() && text != "." && text != ".." && !text.contains(['/', '\0']);
    let id = escape_id(id);
    (is_name(&id) && is_name(version)).then(|| Path::new(&id).join(version))
}

/// The folder of a buildpack in the layers of a package; no link leads to it.
fn find(held: &Held, kind: Kind, place: &Path) -> Option<PathBuf> {
    let is_dir = |path: &Path| path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir());
    held.dirs().iter().find_map(|layer| {
        let mut dir = layer.clone();
        for part in Path::new("cnb").join(format!("{kind}s")).join(place).components() {
            dir.push(part);
            if !is_dir(&dir) {
                return None;
            }
        }
        Some(dir)
    })
}

/// Id and version of what is in a folder; none if there is no descriptor in it.
fn name_of(kind: Kind, dir: &Path) -> Result<Option<(String, String)>, FileError> {
    let path = dir.join(format!("{kind}.toml"));
    Ok(match kind {
        Kind::Buildpack => files::read(&path, Descriptor::parse)?
            .map(|descriptor| (descriptor.buildpack.id, descriptor.buildpack.version)),
        Kind::Extension => files::read(&path, extension::Descriptor::parse)?
            .map(|descriptor| (descriptor.extension.id, descriptor.extension.version)),
    })
}

fn layers_label(kind: Kind) -> &'static str {
    match kind {
        Kind::Buildpack => labels::BUILDPACK_LAYERS,
        Kind::Extension => labels::EXTENSION_LAYERS,
    }
}

/// The buildpacks or extensions of a build image, as its label has them.
fn modules_of(image: &BuildImage, kind: Kind) -> Result<Modules, Failure> {
    let name = layers_label(kind);
    parse_modules(image.config.label(name).unwrap_or("null")).map_err(|error| {
        let message = format!("cannot use the builder {}: its label {name}", image.name);
        Failure::caused(Exit::InvalidArguments, message, &error)
    })
}
