//! Where the buildpacks come from: a builder's folder, or buildpacks named one by one.

use crate::args;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use strata_phases::{Failure, files};
use strata_spec::builder::Builder;
use strata_spec::buildpack::{Descriptor, escape_id};
use strata_spec::exit::Exit;
use strata_spec::order::{Order, OrderElement, OrderGroup};
use strata_spec::sealed::SealedLayers;

/// Everything a build needs besides the app.
#[derive(Debug)]
pub(crate) struct Kit {
    pub(crate) order: Order,
    /// Folders of buildpacks by their path below `/cnb/buildpacks`.
    pub(crate) buildpacks: BTreeMap<PathBuf, PathBuf>,
    /// The run image that the builder names.
    pub(crate) run_image: Option<String>,
    /// What its operator says of sealed layers.
    pub(crate) sealed_layers: Option<SealedLayers>,
}

/// Reads the builder and the buildpacks that the command line names.
pub(crate) fn load(args: &args::Build) -> Result<Kit, Failure> {
    let mut kit = match &args.builder {
        Some(dir) => from_builder(dir)?,
        None => {
            Kit { order: Order::new(), buildpacks: BTreeMap::new(), run_image: None, sealed_layers: None }
        }
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
    Ok(kit)
}

fn from_builder(dir: &Path) -> Result<Kit, Failure> {
    let path = if dir.is_file() { dir.to_owned() } else { dir.join("builder.toml") };
    let what = "cannot use the builder";
    let builder = files::read(&path, Builder::parse)
        .map_err(|error| Failure::caused(Exit::InvalidArguments, what, &error))?
        .ok_or_else(|| {
            Failure::new(Exit::InvalidArguments, format!("{what}: there is no {}", path.display()))
                .hint("--builder takes a folder with a builder.toml in it")
        })?;
    if !["", "host"].contains(&builder.build.image.as_str()) {
        let message = format!("{what}: its build image is '{}'", builder.build.image);
        return Err(Failure::new(Exit::InvalidArguments, message)
            .hint("builders from images are not supported yet; set [build] image = \"host\""));
    }
    let base = path.parent().unwrap_or(Path::new("."));
    let run_image = builder.run.images.first().map(|run| run.image.clone());
    let mut kit = Kit {
        order: builder.order,
        buildpacks: BTreeMap::new(),
        run_image,
        sealed_layers: builder.sealed_layers,
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
