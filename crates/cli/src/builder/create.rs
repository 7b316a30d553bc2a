//! `strata builder create`, `strata builder prune` and `strata buildpack package`.

use super::Kit;
use super::download::{self, Downloads};
use super::make::{Maker, entry, lifecycle_in, target};
use super::place::{Place, shown};
use super::shelf::Shelf;
use crate::args::ShowArgs;
use crate::images::{self, Names, failure, surroundings};
use crate::places::Places;
use crate::show::{Drawn, Show, Stream, print, print_err};
use crate::{Outcome, args, converted, hands, user};
use std::path::Path;
use std::time::Duration;
use strata_decide::package::{self, Extension, Module, OrderError};
use strata_layer::{Owner, Source as Tree};
use strata_oci::Image;
use strata_phases::{Failure, files};
use strata_spec::builder::Builder;
use strata_spec::buildpackage::PackageToml;
use strata_spec::exit::Exit;
use strata_spec::labels;
use strata_spec::lifecycle::Lifecycle;
use strata_spec::order::OrderFile;
use strata_store::{Unpacked, host_architecture};

/// Runs `strata builder create`.
pub(crate) fn create(args: &args::BuilderCreate, places: &Places) -> Outcome {
    let surroundings = surroundings(places, &args.store);
    let unpacked = Unpacked::new(places.unpacked_layers());
    let to = target(&args.to)?;
    let what = format!("cannot make the builder '{}'", args.to);
    let builder = files::read(&args.config, Builder::parse)
        .map_err(|error| Failure::caused(Exit::InvalidArguments, what.clone(), &error))?
        .ok_or_else(|| {
            Failure::new(Exit::InvalidArguments, format!("{what}: there is no {}", args.config.display()))
        })?;
    let refused = |problem: String| Failure::new(Exit::InvalidArguments, format!("{what}: {problem}"));
    if ["", "host"].contains(&builder.build.image.as_str()) {
        return Err(refused(format!("{} names no image to build in", args.config.display()))
            .hint("[build] image = \"…\""));
    }
    let base_dir = args.config.parent().unwrap_or(Path::new("."));
    let (store, stored) = images::open(&builder.build.image, &surroundings, None, Names::Anywhere)?;
    let owner = user::of_build(stored.image.config())
        .map_err(|problem| refused(format!("{}: {problem}", builder.build.image)))?;
    let mut kit = Kit::default();
    let show = Show::new(&ShowArgs::default(), Stream::Err, Drawn::Transfers, places);
    let downloads = Downloads::new(places.downloads(), args::PullPolicy::Always);
    let mut shelf = Shelf::new(&mut kit, &surroundings, &unpacked, &downloads, &show);
    let config = stored.image.config();
    super::check(&builder, &args.config, config.os(), config.architecture())?;
    super::put_listed(&mut shelf, &builder.buildpacks, &args.config, base_dir)?;
    super::put_listed(&mut shelf.of_extensions(), &builder.extensions, &args.config, base_dir)?;
    let mut maker = Maker::new(stored.image.clone(), &args.to)?;
    maker.take_base(&*store)?;
    maker.add(&Tree::Generated(folders(owner)), "Builder: folders")?;
    let lifecycle = add_lifecycle(&mut maker, &builder, base_dir, &unpacked)?;
    let modules = maker.add_buildpacks(&kit)?;
    let extensions = maker.add_extensions(&kit)?;
    describe(&mut maker, &builder, (&modules, &extensions), lifecycle.as_ref())
        .map_err(|error| refused(error.to_string()))??;
    maker.write(&to, &args.to, &surroundings)?;
    if lifecycle.is_none() {
        print_err("Without [lifecycle] uri, only strata builds with this builder; pack wants one in it");
    }
    Ok(0)
}

/// The folders that a build needs.
fn folders(owner: Owner) -> Vec<strata_layer::GeneratedEntry> {
    let of_root =
        ["/cnb", "/cnb/build-config", "/cnb/build-config/env", "/cnb/buildpacks", "/cnb/extensions"];
    let mut entries: Vec<_> = of_root.map(|name| entry(name, Owner::ROOT, None)).into();
    entries.push(entry("/layers", owner, None));
    entries.extend(["/platform", "/platform/env"].map(|name| entry(name, Owner::ROOT, None)));
    entries.push(entry("/workspace", owner, None));
    entries
}

/// Adds the lifecycle that `builder.toml` names, if it does.
fn add_lifecycle(
    maker: &mut Maker,
    builder: &Builder,
    base: &Path,
    unpacked: &Unpacked,
) -> Result<Option<Lifecycle>, Failure> {
    let uri = &builder.lifecycle.uri;
    if uri.is_empty() {
        return Ok(None);
    }
    let what = format!("cannot use the lifecycle {}", shown(uri));
    let refused = |problem: &str| Failure::new(Exit::InvalidArguments, format!("{what}: {problem}"));
    let path = base.join(uri.strip_prefix("file://").unwrap_or(uri));
    if !path.is_file() {
        return Err(refused("there is no such file")
            .hint("download it first; [lifecycle] uri is an archive with lifecycle.toml in it"));
    }
    let held = unpacked.hold_file(&path);
    let held = held.map_err(|error| failure(Exit::InvalidArguments, &what, &error))?;
    let dir = held.dirs().first().cloned().unwrap_or_default();
    let (programs, description) = lifecycle_in(&dir);
    let lifecycle = files::read(&description, Lifecycle::parse)
        .map_err(|error| Failure::caused(Exit::InvalidArguments, what.clone(), &error))?
        .ok_or_else(|| refused("it has no lifecycle.toml"))?;
    if !programs.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) {
        return Err(refused("it has no folder 'lifecycle'"));
    }
    let source = Tree::Dir {
        dir: programs,
        as_path: "/cnb/lifecycle".to_owned(),
        parents: Vec::new(),
        owner: Owner::ROOT,
    };
    maker.add(&source, &format!("Lifecycle: {}", lifecycle.lifecycle.version))?;
    Ok(Some(lifecycle))
}

/// Adds order, run images and labels.
fn describe(
    maker: &mut Maker,
    builder: &Builder,
    (modules, extensions): (&[Module], &[Extension]),
    lifecycle: Option<&Lifecycle>,
) -> Result<Result<(), Failure>, OrderError> {
    let order = package::resolve(&builder.order, modules)?;
    let order_extensions = package::resolve_extensions(&builder.order_extensions, extensions)?;
    let order = OrderFile { order, order_extensions };
    let system = package::resolve_system(&builder.system, modules)?;
    package::check_composites(modules)?;
    let file = |name: &str, text: String| entry(name, Owner::ROOT, Some(text));
    let mut entries: Vec<_> = package::build_config(&builder.build.env)
        .into_iter()
        .map(|(name, text)| file(&format!("/cnb/build-config/env/{name}"), text))
        .collect();
    entries.push(file("/cnb/order.toml", package::order_toml(&order)));
    entries.push(file("/cnb/run.toml", package::run_toml(&builder.run.images)));
    if let Some(first) = builder.run.images.first() {
        entries.push(file("/cnb/stack.toml", package::stack_toml(first)));
    }
    let system_toml = package::system_toml(&system);
    let has_system = system_toml.is_some();
    entries.extend(system_toml.map(|text| file("/cnb/system.toml", text)));
    let added = maker.add(&Tree::Generated(entries), "Builder: order and run images").map(drop);
    let label = package::builder_label(builder, modules, extensions, lifecycle, env!("CARGO_PKG_VERSION"));
    let config = maker.image.config_mut();
    config.set_working_dir("/layers");
    config.set_label(labels::BUILDER_METADATA, &label);
    config.set_label(labels::BUILDPACK_LAYERS, &package::layers_label(modules));
    config.set_label(labels::BUILDER_ORDER, &package::order_label(&order.order));
    if !extensions.is_empty() {
        config.set_label(labels::EXTENSION_LAYERS, &package::extension_layers_label(extensions));
        config.set_label(labels::BUILDER_ORDER_EXTENSIONS, &package::order_label(&order.order_extensions));
    }
    if has_system {
        config.set_label(labels::BUILDER_SYSTEM, &package::system_label(&system));
    }
    Ok(added)
}

/// Runs `strata buildpack package`.
pub(crate) fn package(args: &args::BuildpackPackage, places: &Places) -> Outcome {
    let surroundings = surroundings(places, &args.store);
    let unpacked = Unpacked::new(places.unpacked_layers());
    let to = target(&args.to)?;
    let what = format!("cannot make the buildpackage '{}'", args.to);
    let refused = |problem: String| Failure::new(Exit::InvalidArguments, format!("{what}: {problem}"));
    let broken = |error| Failure::caused(Exit::InvalidArguments, what.clone(), &error);
    let beside = args.path.join("package.toml");
    let config = args.config.as_ref().unwrap_or(&beside);
    let listed = files::read(config, PackageToml::parse).map_err(broken)?;
    if let (None, Some(config)) = (&listed, &args.config) {
        return Err(refused(format!("there is no {}", config.display())));
    }
    let listed = listed.unwrap_or_default();
    let base = if args.config.is_some() { config.parent().unwrap_or(Path::new(".")) } else { &args.path };
    let mut kit = Kit::default();
    let show = Show::new(&ShowArgs::default(), Stream::Err, Drawn::Transfers, places);
    let downloads = Downloads::new(places.downloads(), args::PullPolicy::Always);
    let mut shelf = Shelf::new(&mut kit, &surroundings, &unpacked, &downloads, &show);
    let is_extension =
        listed.extension.is_some() || (listed == PackageToml::default() && is_extension(&args.path));
    let uri = listed.extension.as_ref().map_or(&listed.buildpack.uri, |extension| &extension.uri);
    let main = if uri.is_empty() { "." } else { uri };
    if is_extension {
        shelf = shelf.of_extensions();
    }
    let main = add(&mut shelf, main, base)?.ok_or_else(|| refused("there is no builder here".to_owned()))?;
    for dependency in &listed.dependencies {
        let named = if dependency.uri.is_empty() { &dependency.image } else { &dependency.uri };
        add(&mut shelf, named, base)?;
    }
    let platform = args.platform.clone();
    let (os, arch) = platform.map_or_else(
        || ("linux".to_owned(), host_architecture().to_owned()),
        |platform| (platform.os, platform.architecture),
    );
    let mut maker = Maker::new(Image::empty(&os, &arch), &args.to)?;
    if is_extension {
        let extensions = maker.add_extensions(&kit)?;
        let main = extensions.first().map(|extension| extension.descriptor.clone()).unwrap_or_default();
        let config = maker.image.config_mut();
        config.set_label(labels::BUILDPACKAGE_METADATA, &package::extension_package_label(&main));
        config.set_label(labels::EXTENSION_LAYERS, &package::extension_layers_label(&extensions));
        maker.write(&to, &args.to, &surroundings)?;
        return Ok(0);
    }
    let modules = maker.add_buildpacks(&kit)?;
    package::check_composites(&modules).map_err(|error| {
        refused(error.to_string()).hint("list it under [[dependencies]] in a package.toml")
    })?;
    let is_main = |module: &&Module| {
        let info = &module.descriptor.buildpack;
        (&info.id, &info.version) == (&main.id, &main.version)
    };
    let descriptor = modules.iter().find(is_main).map(|module| module.descriptor.clone()).unwrap_or_default();
    let config = maker.image.config_mut();
    config.set_label(labels::BUILDPACKAGE_METADATA, &package::package_label(&descriptor));
    config.set_label(labels::BUILDPACK_LAYERS, &package::layers_label(&modules));
    maker.write(&to, &args.to, &surroundings)?;
    Ok(0)
}

/// Whether a folder holds an image extension and no buildpack.
fn is_extension(dir: &Path) -> bool {
    dir.join("extension.toml").is_file() && !dir.join("buildpack.toml").is_file()
}

fn add(
    shelf: &mut Shelf<'_>,
    text: &str,
    base: &Path,
) -> Result<Option<strata_spec::order::OrderElement>, Failure> {
    let place: Place = shelf.place(text, base)?;
    shelf.add(&place)
}

/// Runs `strata builder prune`.
pub(crate) fn prune(args: &args::BuilderPrune, places: &Places) -> Outcome {
    let unused_for = Duration::from_secs(args.unused_for.saturating_mul(24 * 60 * 60));
    let what = "cannot remove unpacked layers";
    let all = hands::all_layers(places).map_err(|error| Failure::caused(Exit::Other, what, &error))?;
    let (mut layers, mut in_use) = (0, 0);
    for unpacked in all {
        let swept = unpacked.sweep(unused_for).map_err(|error| failure(Exit::Other, what, &error))?;
        (layers, in_use) = (layers + swept.layers, in_use + swept.in_use);
    }
    let io =
        |error: std::io::Error| Failure::caused(Exit::Other, "cannot remove files of earlier builds", &error);
    let downloads = download::sweep(&places.downloads(), unused_for, places.now).map_err(io)?;
    let extended = download::sweep(&places.extensions(), unused_for, places.now).map_err(io)?;
    let images = converted::sweep(&places.daemon_images(), unused_for, places.now).map_err(io)?;
    let run_images = converted::sweep(&places.run_images(), unused_for, places.now).map_err(io)?;
    print(&format!("Removed {layers} unpacked layers"));
    let others = [
        (downloads, "downloaded files"),
        (images, "images of daemons"),
        (run_images, "run images"),
        (extended, "layers of image extensions"),
    ];
    for (count, what) in others {
        if count > 0 {
            print(&format!("Removed {count} {what}"));
        }
    }
    if in_use > 0 {
        print(&format!("  in use   {in_use}"));
    }
    Ok(0)
}
