//! Where the buildpacks come from: a builder's image or folder, or buildpacks named one by one.

mod create;
mod download;
mod image;
mod listed;
mod make;
mod place;
mod script;
mod shelf;

use crate::app::{Named, Wanted};
use crate::args;
use crate::build::{BUILDPACKS, EXTENSIONS};
use crate::places::Places;
use crate::seen::Seen;
use crate::show::Show;
use download::Downloads;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use strata_decide::detect::add_system;
use strata_decide::order::{Asked, combine};
use strata_decide::package;
use strata_phases::{Failure, Observer, files};
use strata_spec::builder::{BuildVariable, Builder, BuildpackSource};
use strata_spec::exit::Exit;
use strata_spec::order::{Order, OrderElement};
use strata_spec::project::Buildpack;
use strata_spec::run::RunImage;
use strata_spec::sealed::SealedLayers;
use strata_spec::system::System;
use strata_store::source::Surroundings;
use strata_store::unpacked::Held;
use strata_store::{Unpacked, host_architecture};

pub(crate) use create::{create, package, prune};
pub(crate) use image::BuildImage;
use place::Place;
use shelf::Shelf;

/// Everything a build needs besides the app.
#[derive(Debug, Default)]
pub(crate) struct Kit {
    pub(crate) order: Order,
    /// The order of the builder's extensions.
    pub(crate) order_extensions: Order,
    /// Folders of buildpacks by their path below `/cnb/buildpacks`, besides those of the build image.
    pub(crate) buildpacks: BTreeMap<PathBuf, PathBuf>,
    /// The same of image extensions, below `/cnb/extensions`.
    pub(crate) extensions: BTreeMap<PathBuf, PathBuf>,
    /// The run images that the builder names. Apps are built on the first, unless somebody chooses another.
    pub(crate) run_images: Vec<RunImage>,
    /// What its operator says of sealed layers.
    pub(crate) sealed_layers: Option<SealedLayers>,
    /// The folder of what the operator sets for buildpacks, besides that of the build image.
    pub(crate) build_config: Option<PathBuf>,
    /// Keeps the layers of buildpacks from being removed.
    held: Vec<Held>,
    /// What buildpacks run in; none for the files of this machine.
    pub(crate) build_image: Option<BuildImage>,
}

impl Kit {
    /// The same text with the paths of buildpacks' programs that people know, rather than those in the sandbox.
    pub(crate) fn own_paths(&self, text: String) -> String {
        let of = |below: &'static str| move |(place, dir)| (Path::new(below).join(place), dir);
        let all =
            self.buildpacks.iter().map(of(BUILDPACKS)).chain(self.extensions.iter().map(of(EXTENSIONS)));
        all.fold(text, |text, (inside, dir): (PathBuf, &PathBuf)| {
            let inside = inside.join("bin").display().to_string() + "/";
            text.replace(&inside, &(dir.join("bin").display().to_string() + "/"))
        })
    }
}

/// Reads the builder and the buildpacks that are wanted. Buildpacks that are scripts are written below `scratch`.
pub(crate) fn load(
    args: &args::Build,
    wanted: &Wanted,
    scratch: &Path,
    places: &Places,
    surroundings: &Surroundings<'_>,
    seen: &Seen,
    show: &Show,
) -> Result<Kit, Failure> {
    if !wanted.has_buildpacks() {
        let message = "there is neither a builder nor a buildpack to build with";
        return Err(Failure::new(Exit::InvalidArguments, message).hint(
            "name a builder with --builder, or in the app's project.toml, or buildpacks with --buildpack",
        ));
    }
    let unpacked = &Unpacked::new(places.unpacked_layers()).stopping(surroundings.stop().clone());
    let downloads = &Downloads::new(places.downloads(), args.pull_policy);
    let open = |name: &str| BuildImage::open(name, places, surroundings, seen, show);
    let mut kit = match &wanted.builder {
        None => Kit::default(),
        Some(builder) if is_folder(builder) => {
            let folder =
                Folder { path: Path::new(builder), scratch, without_system: args.disable_system_buildpacks };
            from_folder(&folder, &open, surroundings, (unpacked, downloads), show)
                .map_err(|failure| wanted.of_builder(failure))?
        }
        Some(builder) => open(builder)
            .and_then(|image| image::kit(image, args.disable_system_buildpacks))
            .map_err(|failure| wanted.of_builder(failure))?,
    };
    wanted.check_place(kit.build_image.is_some())?;
    let mut shelf = Shelf::new(&mut kit, surroundings, unpacked, downloads, show);
    let mut take = |all: &[Named]| -> Result<Vec<Asked>, Failure> {
        let asked = |named: &Named| {
            let place = match &named.buildpack {
                Buildpack::Named(text) => shelf.place(text, &named.base)?,
                Buildpack::Script(script) => {
                    shelf.is_new(&script.id, &script.version)?;
                    Place::Folder(script::write(script, scratch)?)
                }
            };
            Ok(shelf.add(&place)?.map_or(Asked::Builder, Asked::Buildpack))
        };
        all.iter().map(asked).collect()
    };
    let asked = take(&wanted.group)?;
    let (before, after) = (take(&wanted.before)?, take(&wanted.after)?);
    let (before, after) = (one_by_one(before)?, one_by_one(after)?);
    kit.order = combine(&kit.order, &asked, &before, &after);
    if kit.order.is_empty() {
        let name = wanted.builder.as_deref().unwrap_or_default();
        let message = format!("cannot use the builder '{name}': it has no order of buildpacks");
        return Err(Failure::new(Exit::InvalidArguments, message)
            .hint("name a builder image, or buildpacks with --buildpack"));
    }
    Ok(kit)
}

/// Only single buildpacks can come before or after the groups.
fn one_by_one(asked: Vec<Asked>) -> Result<Vec<OrderElement>, Failure> {
    let one = |asked| match asked {
        Asked::Buildpack(element) => Ok(element),
        Asked::Builder => {
            let message = "the builder's own groups can be neither before nor after themselves";
            Err(Failure::new(Exit::InvalidArguments, message).hint("say --buildpack from=builder"))
        }
    };
    asked.into_iter().map(one).collect()
}

/// Whether a builder is a folder or a file, rather than an image: what is there, and what can only be a path.
fn is_folder(builder: &str) -> bool {
    let is_path = builder.starts_with(['/', '.']) || builder.ends_with(".toml");
    is_path || Path::new(builder).exists()
}

type OpenImage<'a> = dyn Fn(&str) -> Result<BuildImage, Failure> + 'a;

/// A builder in a folder.
struct Folder<'a> {
    /// The folder, or its `builder.toml`.
    path: &'a Path,
    /// Where files are made.
    scratch: &'a Path,
    without_system: bool,
}

fn from_folder(
    folder: &Folder<'_>,
    open: &OpenImage<'_>,
    surroundings: &Surroundings<'_>,
    (unpacked, downloads): (&Unpacked, &Downloads),
    show: &Show,
) -> Result<Kit, Failure> {
    let dir = folder.path;
    let path = if dir.is_file() { dir.to_owned() } else { dir.join("builder.toml") };
    let what = "cannot use the builder";
    let builder = files::read(&path, Builder::parse)
        .map_err(|error| Failure::caused(Exit::InvalidArguments, what, &error))?
        .ok_or_else(|| {
            Failure::new(Exit::InvalidArguments, format!("{what}: there is no {}", path.display()))
                .hint("--builder takes an image, or a folder with a builder.toml in it")
        })?;
    let base = path.parent().unwrap_or(Path::new("."));
    check(&builder, &path, "linux", host_architecture())?;
    let system = if folder.without_system { System::default() } else { builder.system };
    let mut kit = Kit {
        order: add_system(&builder.order, &system),
        build_config: build_config(&builder.build.env, folder.scratch)?,
        run_images: builder.run.images,
        build_image: match builder.build.image.as_str() {
            "" | "host" => None,
            image => Some(open(image)?),
        },
        sealed_layers: builder.sealed_layers,
        ..Kit::default()
    };
    let mut shelf = Shelf::new(&mut kit, surroundings, unpacked, downloads, show);
    put_listed(&mut shelf, &builder.buildpacks, &path, base)?;
    if shelf.kit.build_image.is_some() {
        put_listed(&mut shelf.of_extensions(), &builder.extensions, &path, base)?;
        kit.order_extensions = builder.order_extensions;
    } else if !builder.order_extensions.is_empty() {
        let path = path.display();
        show.warn(format!("{path} lists image extensions, which take no part without an image to build in"));
    }
    Ok(kit)
}

/// Writes what the operator sets for buildpacks; none if that is nothing.
fn build_config(variables: &[BuildVariable], scratch: &Path) -> Result<Option<PathBuf>, Failure> {
    let files = package::build_config(variables);
    if files.is_empty() {
        return Ok(None);
    }
    let dir = scratch.join("build-config");
    let made = fs::create_dir_all(dir.join("env"))
        .and_then(|()| files.iter().try_for_each(|(name, text)| fs::write(dir.join("env").join(name), text)));
    let failed =
        |error| Failure::caused(Exit::InvalidArguments, "cannot write the builder's variables", &error);
    made.map_err(failed).map(|()| Some(dir))
}

/// Refuses what a `builder.toml` is not for.
fn check(builder: &Builder, path: &Path, os: &str, arch: &str) -> Result<(), Failure> {
    package::check_targets(&builder.targets, os, arch).map_err(|targets| {
        let message = format!("{} is for {targets}, and not for {os}/{arch}", path.display());
        Failure::new(Exit::InvalidArguments, message)
    })?;
    Ok(())
}

/// Takes in the buildpacks or extensions that a `builder.toml` lists.
fn put_listed(
    shelf: &mut Shelf<'_>,
    listed: &[BuildpackSource],
    path: &Path,
    base: &Path,
) -> Result<(), Failure> {
    for source in listed {
        let named = if source.uri.is_empty() { &source.image } else { &source.uri };
        let place = shelf.place(named, base)?;
        let Some(found) = shelf.add(&place)? else { continue };
        for (what, expected, is) in
            [("id", &source.id, &found.id), ("version", &source.version, &found.version)]
        {
            if !expected.is_empty() && expected != is {
                let message = format!(
                    "{} says {what} '{expected}', and the {} at {} has '{is}'",
                    path.display(),
                    shelf.kind,
                    place::shown(named)
                );
                return Err(Failure::new(Exit::InvalidArguments, message));
            }
        }
    }
    Ok(())
}
