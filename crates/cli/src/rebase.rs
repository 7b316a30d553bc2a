//! `strata rebase`: puts a newer run image below an image, without building it again.

use crate::images::{self, Names, failure, surroundings};
use crate::places::Places;
use crate::show::text::shown;
use crate::show::transfer::{Load, Way, watch};
use crate::show::{Drawn, GOOD, Show, Stream, print};
use crate::{Outcome, args, sbom};
use strata_decide::export::{CREATED, created};
use strata_decide::rebase::{self as decide, Force};
use strata_oci::Digest;
use strata_phases::bill::is_merged;
use strata_phases::origins::beside::is_report;
use strata_phases::origins::rebased::{before, carry_on};
use strata_phases::rebase::{NotRebased, Obstacle, Rebase, Rebased, run as put_on};
use strata_phases::{Event, Failure, Observer as _};
use strata_spec::PlatformApi;
use strata_spec::exit::Exit;
use strata_spec::origins::{ImageRef, Lifecycle};
use strata_store::source::{Source, Surroundings};
use strata_store::{Medium, Metered, Store, StoreError, StoredImage, read_referrers};

/// Runs the command.
pub(crate) fn run(args: &args::Rebase, places: &Places) -> Outcome {
    let show = Show::new(&args.show, Stream::Out, Drawn::Transfers, places);
    let outcome = rebase(args, places, &surroundings(places, &args.store), &show);
    if let (Err(failure), true) = (&outcome, args.show.json) {
        show.event(Event::Failed(failure.clone()));
    }
    outcome.map(|()| 0)
}

fn rebase(
    args: &args::Rebase,
    places: &Places,
    surroundings: &Surroundings<'_>,
    show: &Show,
) -> Result<(), Failure> {
    let (app_store, app) = app(args, surroundings)?;
    let base = base_name(args, &app)?;
    // Of an index, the one of the app's platform, not of this machine's.
    let platform = app.image.config().platform();
    let (base_store, new_base) = images::open(&base, surroundings, Some(&platform), Names::Anywhere)?;
    // As the image may name it: without what says where it is.
    let name = Source::parse(&base).ok().and_then(|source| source.name());
    let base_name = name.as_ref().map_or(base, ToString::to_string);
    let output = images::open(&args.name, surroundings, None, Names::Kept)?.0;
    let outputs = [(args.name.clone(), output)];
    let epoch = places.source_date_epoch.as_deref();
    let rebase = Rebase {
        app: &app,
        app_store: &*app_store,
        new_base: &new_base,
        base_store: &*base_store,
        base_name: &base_name,
        outputs: &outputs,
        in_place: true,
        api: PlatformApi::NEWEST,
        force: if args.force { Force::Yes } else { Force::No },
        created: &epoch.and_then(created).unwrap_or_else(|| CREATED.to_owned()),
    };
    // A layout drops what lies beside an image together with the image.
    let (report, beside) = (before(&rebase, show), Beside::of(&rebase, show));
    let rebased = watched(args, &rebase, show).map_err(hinted)?;
    if let Some(report) = report {
        let digest = digest_of(&*base_store, &new_base);
        carry_on(&rebase, &rebased, report, lifecycle(name.map(|name| name.to_string()), digest), show);
    }
    beside.carry_on(&rebase, &args.name, places, show);
    tell(args, &rebased.stored, &rebase, show);
    Ok(())
}

/// The failure with what one can do about it in this program.
fn hinted(not: NotRebased) -> Failure {
    let NotRebased { failure, obstacle } = not;
    match obstacle {
        _ if failure.hint.is_some() => failure,
        Some(Obstacle::Refused) => failure.hint("here it is --force; look at what it passes over first"),
        Some(Obstacle::Moved) => failure.hint("look at that one; `strata rebase` again rebases it"),
        None => failure,
    }
}

/// Puts the image on its new base, and shows how that goes on.
fn watched(args: &args::Rebase, rebase: &Rebase<'_>, show: &Show) -> Result<Rebased, NotRebased> {
    let load = Load::of(rebase.new_base.image.layers().iter().map(|layer| &layer.descriptor));
    let moved = watch(show, Way { from: None, to: &args.name }, &load, |progress| {
        let app_store = &Metered::new(rebase.app_store, progress);
        let base_store = &Metered::new(rebase.base_store, progress);
        for (_, output) in rebase.outputs {
            if let Medium::Daemon(daemon) = output.medium() {
                daemon.watch(progress);
            }
        }
        put_on(&Rebase { app_store, base_store, ..*rebase }, show)
    });
    moved.map(|moved| moved.outcome)
}

/// What lies beside the image before, besides its reports.
struct Beside {
    has_bill: bool,
    /// Signatures, and documents of others.
    others: usize,
}

impl Beside {
    fn of(rebase: &Rebase<'_>, show: &Show) -> Self {
        let found = match read_referrers(rebase.app_store, [rebase.app.manifest_digest]) {
            Err(StoreError::NoReferrers) => Vec::new(),
            Err(error) => {
                let what = "what lies beside the image is not carried on";
                show.warn(Failure::caused(Exit::Rebase, what, &error).chain());
                Vec::new()
            }
            Ok(found) => found,
        };
        let others = found.iter().filter(|tree| !is_report(tree) && !is_merged(tree)).count();
        Self { has_bill: found.iter().any(is_merged), others }
    }

    /// Puts a bill of materials beside the new image: what buildpacks said is in its layers, and its packages are those of
    /// the new base. Nobody but their makers can say that the rest is true of it.
    fn carry_on(&self, rebase: &Rebase<'_>, name: &str, places: &Places, show: &Show) {
        if let (true, [(_, output)]) = (self.has_bill, rebase.outputs) {
            let known = Source::parse(name).ok().and_then(|source| source.name());
            let known = known.map_or_else(|| name.to_owned(), |name| name.to_string());
            sbom::attach(&**output, &known, places, show);
        }
        if self.others > 0 {
            let (things, are) = if self.others == 1 { ("1 thing", "is") } else { ("{} things", "are") };
            let things = things.replace("{}", &self.others.to_string());
            show.warn(format!(
                "{things} of others beside the image {are} not carried on: signatures and documents are of the image before"
            ));
        }
    }
}

/// Says what the image is now.
fn tell(args: &args::Rebase, image: &StoredImage, rebase: &Rebase<'_>, show: &Show) {
    let digest = image.manifest_digest.to_string();
    if args.show.json {
        let size = image.image.layers().iter().map(|layer| layer.descriptor.size).sum();
        return show.event(Event::Image { names: vec![args.name.clone()], digest, size, process: None });
    }
    if args.show.quiet {
        return print(&digest);
    }
    print(&format!("{GOOD}Image{GOOD:#}   {}", shown(&args.name)));
    // With what is before it, no digest is more than 80 columns.
    print(&format!("digest  {digest}"));
    print(&format!("onto    {}\n        {}", shown(rebase.base_name), rebase.new_base.manifest_digest));
    print(&format!("before  {}", rebase.app.manifest_digest));
}

/// The image that is rebased, where it can take the place of what it was.
fn app(
    args: &args::Rebase,
    surroundings: &Surroundings<'_>,
) -> Result<(Box<dyn Store>, StoredImage), Failure> {
    let what = format!("cannot rebase '{}'", args.name);
    let failed = |error: StoreError| failure(Exit::InvalidArguments, &what, &error);
    let source = Source::parse(&args.name).map_err(failed)?;
    if matches!(source, Source::OciArchive { .. } | Source::DockerArchive { .. }) {
        let message = format!("{what}: an archive is not changed where it is");
        return Err(
            Failure::new(Exit::InvalidArguments, message).hint("copy the image to another place first")
        );
    }
    let (store, image) = images::open(&args.name, surroundings, None, Names::Kept)?;
    // One image would take the place of all.
    if store.read_tree().map_err(failed)?.is_some() {
        let message = format!("{what}: it is an index of images for several platforms");
        return Err(Failure::new(Exit::InvalidArguments, message)
            .hint("copy the image of one platform to a name of its own, and rebase that"));
    }
    Ok((store, image))
}

/// The run image that is asked for, or the one that the image names.
fn base_name(args: &args::Rebase, app: &StoredImage) -> Result<String, Failure> {
    if let Some(name) = &args.run_image {
        return Ok(name.clone());
    }
    let what = format!("cannot rebase '{}'", args.name);
    let metadata =
        decide::metadata(app.image.config()).map_err(|error| Failure::caused(Exit::Rebase, &what, &error))?;
    let known = decide::run_image(&metadata, PlatformApi::NEWEST).map(|known| known.image);
    let known = known.filter(|name| name.parse::<strata_oci::Reference>().is_ok() && name != "scratch");
    // A label names an image, never a folder or a daemon here, whatever it looks like.
    let known = known.map(|name| if Source::has_prefix(&name) { format!("registry:{name}") } else { name });
    known.ok_or_else(|| {
        Failure::new(Exit::InvalidArguments, format!("{what}: it names no run image that could be newer"))
            .hint("name one with --run-image")
    })
}

fn digest_of(store: &dyn Store, image: &StoredImage) -> Option<Digest> {
    let has_manifests = !matches!(store.medium(), Medium::Daemon(_) | Medium::DockerArchive);
    has_manifests.then_some(image.manifest_digest)
}

/// The program, and the run image by the name that it has everywhere.
fn lifecycle(name: Option<String>, digest: Option<Digest>) -> Lifecycle {
    let run_image = ImageRef {
        tags: name.into_iter().collect(),
        digest: digest.map_or_else(String::new, |digest| digest.to_string()),
        ..ImageRef::default()
    };
    Lifecycle {
        name: "strata".into(),
        version: env!("CARGO_PKG_VERSION").into(),
        run_image: Some(run_image),
        build_image: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_in_the_way_has_a_hint() {
        for (obstacle, expected) in [(Obstacle::Refused, "--force"), (Obstacle::Moved, "look at that one")] {
            let failure = Failure::new(Exit::Rebase, "no matter how it is said");
            let hint = hinted(NotRebased { failure, obstacle: Some(obstacle) }).hint.unwrap();
            assert!(hint.contains(expected), "{hint}");
        }
        let failure = Failure::new(Exit::Rebase, "-force: it is another image by now");
        assert_eq!(hinted(failure.into()).hint, None);
    }
}
