//! Where the buildpacks come from: a builder's image or folder, or buildpacks named one by one.

mod image;

use crate::args;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use strata_phases::{Failure, Observer, files};
use strata_spec::builder::Builder;
use strata_spec::buildpack::{Descriptor, escape_id};
use strata_spec::exit::Exit;
use strata_spec::order::{Order, OrderElement, OrderGroup};
use strata_spec::run::RunImage;
use strata_spec::sealed::SealedLayers;
use strata_store::Unpacked;
use strata_store::source::Surroundings;

pub(crate) use image::BuildImage;

/// Everything a build needs besides the app.
#[derive(Debug, Default)]
pub(crate) struct Kit {
    pub(crate) order: Order,
    /// Folders of buildpacks by their path below `/cnb/buildpacks`, besides those of the build image.
    pub(crate) buildpacks: BTreeMap<PathBuf, PathBuf>,
    /// The run image that the builder names.
    pub(crate) run_image: Option<RunImage>,
    /// What its operator says of sealed layers.
    pub(crate) sealed_layers: Option<SealedLayers>,
    /// What buildpacks run in; none for the files of this machine.
    pub(crate) build_image: Option<BuildImage>,
}

/// Reads the builder and the buildpacks that the command line names.
pub(crate) fn load(
    args: &args::Build,
    surroundings: &Surroundings<'_>,
    unpacked: &Unpacked,
    observer: &dyn Observer,
) -> Result<Kit, Failure> {
    let open = |name: &str| BuildImage::open(name, surroundings, unpacked, observer);
    let mut kit = match &args.builder {
        None => Kit::default(),
        Some(builder) if is_folder(builder) => from_folder(Path::new(builder), &open)?,
        Some(builder) => image::kit(open(builder)?, observer)?,
    };
    if !args.buildpack.is_empty() {
        let mut group = OrderGroup::default();
        for dir in &args.buildpack {
            let descriptor = add(&mut kit, dir)?;
            let (id, version) = (descriptor.buildpack.id, descriptor.buildpack.version);
            group.group.push(OrderElement { id, version, optional: false });
        }
        kit.order = vec![group];
    }
    if kit.order.is_empty() {
        let name = args.builder.as_deref().unwrap_or_default();
        let message = format!("cannot use the builder '{name}': it has no order of buildpacks");
        return Err(Failure::new(Exit::InvalidArguments, message)
            .hint("name a builder image, or buildpacks with --buildpack"));
    }
    Ok(kit)
}

/// Whether a builder is a folder or a file, rather than an image: what is there, and what can only be a path.
fn is_folder(builder: &str) -> bool {
    let is_path = builder.starts_with(['/', '.']) || builder.ends_with(".toml");
    is_path || Path::new(builder).exists()
}

type OpenImage<'a> = dyn Fn(&str) -> Result<BuildImage, Failure> + 'a;

fn from_folder(dir: &Path, open: &OpenImage<'_>) -> Result<Kit, Failure> {
    let path = if dir.is_file() { dir.to_owned() } else { dir.join("builder.toml") };
    let what = "cannot use the builder";
    let builder = files::read(&path, Builder::parse)
        .map_err(|error| Failure::caused(Exit::InvalidArguments, what, &error))?
        .ok_or_else(|| {
            Failure::new(Exit::InvalidArguments, format!("{what}: there is no {}", path.display()))
                .hint("--builder takes an image, or a folder with a builder.toml in it")
        })?;
    let base = path.parent().unwrap_or(Path::new("."));
    let mut kit = Kit {
        order: builder.order,
        run_image: builder.run.images.into_iter().next(),
        build_image: match builder.build.image.as_str() {
            "" | "host" => None,
            image => Some(open(image)?),
        },
        sealed_layers: builder.sealed_layers,
        ..Kit::default()
    };
    for source in &builder.buildpacks {
        let uri = source.uri.strip_prefix("file://").unwrap_or(&source.uri);
        let descriptor = add(&mut kit, &base.join(uri))?;
        let found = &descriptor.buildpack;
        for (what, expected, is) in
            [("id", &source.id, &found.id), ("version", &source.version, &found.version)]
        {
            if !expected.is_empty() && expected != is {
                let message = format!(
                    "{} says {what} '{expected}', and the buildpack at {uri} has '{is}'",
                    path.display()
                );
                return Err(Failure::new(Exit::InvalidArguments, message));
            }
        }
    }
    Ok(kit)
}

/// Takes one buildpack's folder in.
fn add(kit: &mut Kit, dir: &Path) -> Result<Descriptor, Failure> {
    let what = || format!("cannot use the buildpack {}", dir.display());
    let dir = dir.canonicalize().map_err(|error| Failure::caused(Exit::InvalidArguments, what(), &error))?;
    let descriptor = files::read(&dir.join("buildpack.toml"), Descriptor::parse)
        .map_err(|error| Failure::caused(Exit::InvalidArguments, what(), &error))?
        .ok_or_else(|| {
            Failure::new(Exit::InvalidArguments, format!("{}: it has no buildpack.toml", what()))
                .hint("a buildpack is a folder with buildpack.toml, bin/detect and bin/build")
        })?;
    let info = &descriptor.buildpack;
    let is_name = |text: &str| !text.is_empty() && text != "." && text != ".." && !text.contains(['/', '\0']);
    if !is_name(&escape_id(&info.id)) || !is_name(&info.version) {
        let message = format!("{}: '{}@{}' cannot be a folder's name", what(), info.id, info.version);
        return Err(Failure::new(Exit::InvalidArguments, message)
            .hint("buildpack.id and buildpack.version are both required"));
    }
    let place = Path::new(&escape_id(&info.id)).join(&info.version);
    if let Some(other) = kit.buildpacks.insert(place, dir.clone()).filter(|other| *other != dir) {
        let message =
            format!("{} and {} are both {}@{}", other.display(), dir.display(), info.id, info.version);
        return Err(Failure::new(Exit::InvalidArguments, message));
    }
    Ok(descriptor)
}
