//! `strata copy`: takes images from one place to another.

use crate::images::{self, Names, failure, surroundings};
use crate::places::Places;
use crate::show::{print, print_err};
use crate::{Outcome, args, build, output};
use std::path::Path;
use std::thread::available_parallelism;
use strata_oci::Digest;
use strata_phases::Failure;
use strata_spec::exit::Exit;
use strata_store::source::{Source, Surroundings, Target};
use strata_store::{Store, StoreError, Tree, convert_image, copy_image, copy_tree};

/// Runs the command.
pub(crate) fn run(args: &args::Copy, places: &Places) -> Outcome {
    let parsed = |text: &String| {
        let what = format!("cannot copy '{}' to '{}'", args.from, args.to);
        Source::parse(text).map_err(|error| failure(Exit::InvalidArguments, &what, &error))
    };
    let (from, to) = (parsed(&args.from)?, parsed(&args.to)?);
    let surroundings = surroundings(places, &args.store);
    let digest = copy(args, &from, &to, &surroundings)?;
    let say = if is_standard_output(&to) { print_err } else { print };
    say(&format!("Image {} is now {}", args.from, args.to));
    say(&format!("  digest   {digest}"));
    Ok(0)
}

fn copy(
    args: &args::Copy,
    from: &Source,
    to: &Source,
    surroundings: &Surroundings<'_>,
) -> Result<Digest, Failure> {
    let what = format!("cannot copy '{}' to '{}'", args.from, args.to);
    let failed = |error: StoreError| failure(Exit::Other, &what, &error);
    // Layouts often have one image of an index only.
    let incomplete = |error: StoreError| {
        let is_missing = matches!(error, StoreError::Missing { .. }) && !args.all;
        let failure = failed(error);
        if is_missing { failure.hint("choose one image of the index with --platform") } else { failure }
    };
    if args.all && !to.has_indexes() {
        return Err(failed(StoreError::NoIndexes));
    }
    let tree = match args.platform {
        None if to.has_indexes() => {
            let store = from.open(surroundings, None).map_err(failed)?;
            store.read_tree().map_err(incomplete)?.map(|tree| (store, tree))
        }
        _ => None,
    };
    if let Some((store, tree)) = tree {
        let target = create(to, from, surroundings, &what)?;
        let copied = copy_index(&target, &*store, &tree);
        return finish(target, copied).map_err(incomplete);
    }
    let (store, image) = images::open(&args.from, surroundings, args.platform.as_ref(), Names::Anywhere)?;
    let target = create(to, from, surroundings, &what)?;
    let copied = if from.has_manifests() {
        copy_image(target.store(), &*store, &image.encoded(), &[]).map(|()| image.manifest_digest)
    } else {
        let threads = available_parallelism().map_or(1, usize::from);
        convert_image(target.store(), &*store, &image, &[], threads).map(|encoded| encoded.manifest_digest)
    };
    finish(target, copied).map_err(failed)
}

fn create(
    to: &Source,
    from: &Source,
    surroundings: &Surroundings<'_>,
    what: &str,
) -> Result<Target, Failure> {
    if let Source::Layout { dir, .. } = to {
        build::check_writable(dir)?;
    }
    if is_standard_output(to) {
        output::check_pipe()?;
    }
    let name = from.name();
    let created = to.create(surroundings, name.as_ref());
    created.map_err(|error| failure(Exit::Other, what, &error))
}

fn copy_index(target: &Target, from: &dyn Store, tree: &Tree) -> Result<Digest, StoreError> {
    copy_tree(target.store(), from, tree, &[])?;
    let root = tree.documents.last().map(|(root, _)| root.digest);
    Ok(root.unwrap_or_else(|| Digest::of(b"")))
}

/// Makes what was copied visible, or leaves nothing of it.
fn finish(target: Target, copied: Result<Digest, StoreError>) -> Result<Digest, StoreError> {
    match copied {
        Ok(digest) => target.finish().map(|()| digest),
        Err(error) => {
            // What cannot be removed is an empty layout; why there is no image counts more.
            target.give_up().unwrap_or_default();
            Err(error)
        }
    }
}

fn is_standard_output(to: &Source) -> bool {
    matches!(to, Source::OciArchive { file, .. } | Source::DockerArchive { file, .. } if file == Path::new("-"))
}
