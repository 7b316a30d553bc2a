//! Opens the images that a person names. One that cannot be opened is `InvalidArguments` for each command.

use crate::args::StoreArgs;
use crate::places::Places;
use crate::seen::Seen;
use std::error::Error;
use strata_oci::{Digest, Platform};
use strata_phases::Failure;
use strata_spec::exit::Exit;
use strata_store::source::{Source, Surroundings};
use strata_store::{Embedded, Medium, Records, Store, StoreError, StoredImage};

/// Which images a name without a prefix may stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Names {
    /// Those that Strata keeps.
    Kept,
    /// Those in registries as well.
    Anywhere,
}

/// What it takes to open an image.
pub(crate) fn surroundings<'a>(places: &'a Places, args: &StoreArgs) -> Surroundings<'a> {
    let embedded = Embedded::new(places.images(args.layout_dir.as_deref()));
    let variable = |name: &str| places.variable(name).map(str::to_owned);
    let surroundings = Surroundings::new(embedded, variable, args.insecure_registry.clone());
    surroundings.recorded(Records::new(places.records()))
}

/// Opens an image and reads its documents.
pub(crate) fn open(
    text: &str,
    surroundings: &Surroundings<'_>,
    platform: Option<&Platform>,
    names: Names,
) -> Result<(Box<dyn Store>, StoredImage), Failure> {
    open_by(text, surroundings, platform, names, &|store| store.read_image())
}

/// Opens an image to build in or on: of one in a registry, what was seen of it before may do.
pub(crate) fn open_seen(
    text: &str,
    surroundings: &Surroundings<'_>,
    seen: &Seen,
) -> Result<(Box<dyn Store>, StoredImage), Failure> {
    open_by(text, surroundings, None, Names::Anywhere, &|store| seen.read(text, store))
}

/// Reads the documents of an image.
type Read<'a> = dyn Fn(&dyn Store) -> Result<Option<StoredImage>, StoreError> + 'a;

fn open_by(
    text: &str,
    surroundings: &Surroundings<'_>,
    platform: Option<&Platform>,
    names: Names,
    read: &Read<'_>,
) -> Result<(Box<dyn Store>, StoredImage), Failure> {
    let what = format!("cannot open the image '{text}'");
    let failed = |error: StoreError| failure(Exit::InvalidArguments, &what, &error);
    let source = Source::parse(text).map_err(failed)?;
    let store = match &source {
        Source::Named { name, .. } if names == Names::Kept => {
            Box::new(surroundings.embedded.layout_for(name)) as Box<dyn Store>
        }
        source => source.open(surroundings, platform).map_err(failed)?,
    };
    let stored = read(&*store).map_err(|error| not_kept(failed(error), &source, surroundings))?;
    let stored = stored.ok_or_else(|| absent(text, &source, surroundings))?;
    let found = stored.image.config().platform();
    match platform.filter(|wanted| !found.satisfies(wanted)) {
        Some(wanted) => {
            let message = format!("{what}: it is for {found}, and {wanted} is asked for");
            Err(Failure::new(Exit::InvalidArguments, message))
        }
        None => Ok((store, stored)),
    }
}

/// The failure of a registry that was asked because no image of this name is kept: whoever mistypes a name is not to
/// look for faults of the network.
pub(crate) fn not_kept(failed: Failure, source: &Source, surroundings: &Surroundings<'_>) -> Failure {
    let Source::Named { name, .. } = source else { return failed };
    let layout = surroundings.embedded.layout_for(name);
    if !matches!(layout.read_image(), Ok(None)) {
        return failed;
    }
    let dir = layout.dir().display().to_string();
    let asked =
        format!("no image of this name is kept in {dir}, so its registry {} was asked", name.registry());
    let hint = match &failed.hint {
        Some(hint) => format!("{asked}: {hint}"),
        None => format!("{asked}; --layout-dir names another folder"),
    };
    failed.hint(hint)
}

/// There is no image.
pub(crate) fn absent(text: &str, source: &Source, surroundings: &Surroundings<'_>) -> Failure {
    let what = format!("cannot open the image '{text}'");
    let Source::Named { name, .. } = source else {
        return Failure::new(Exit::InvalidArguments, format!("{what}: there is none"));
    };
    let dir = surroundings.embedded.layout_for(name).dir().display().to_string();
    Failure::new(Exit::InvalidArguments, format!("{what}: there is none in {dir}")).hint(
        "build it first with `strata build`, name the folder it is in with --layout-dir, or name its place: registry:NAME",
    )
}

/// A failure of a store, with its hint.
pub(crate) fn failure(exit: Exit, what: &str, error: &StoreError) -> Failure {
    let failure = Failure::caused(exit, what, error as &dyn Error);
    match error.hint() {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// The id of an image in Docker's daemon or an archive of it, which have no digests of manifests: what others find there.
pub(crate) fn id(place: &dyn Store, image: &StoredImage) -> Option<String> {
    match place.medium() {
        Medium::Daemon(_) => Some(format!("sha256:{}", place.identifier(image))),
        Medium::DockerArchive => Some(Digest::of(&image.config).to_string()),
        _ => None,
    }
}
