//! `strata plan`: which buildpacks would take part in a build, and why. Detection runs as in a build; nothing is kept.

mod show;

use super::base::{self, Base};
use super::earlier::Earlier;
use super::said::Scope;
use super::sandboxed::{Inputs, Work, in_sandbox, sandbox_failure};
use super::target::Target;
use crate::app::{self, Copy, Wanted};
use crate::builder::{self, Kit};
use crate::images::surroundings;
use crate::interrupt::Interrupt;
use crate::places::Places;
use crate::seen::Seen;
use crate::show::{Drawn, Show, Stream};
use crate::trace::{print_json, width};
use crate::{Outcome, args, workplace};
use serde::Serialize;
use strata_decide::export::CREATED;
use strata_oci::Reference;
use strata_phases::detect::Explained;
use strata_phases::{Failure, Observer};
use strata_spec::exit::Exit;

/// What would be built with what.
#[derive(Debug, Serialize)]
struct Found {
    #[serde(skip_serializing_if = "Option::is_none")]
    builder: Option<Named>,
    #[serde(rename = "runImage")]
    run_image: Named,
    /// As in `linux/amd64`.
    target: String,
    #[serde(flatten)]
    explained: Explained,
}

/// An image.
#[derive(Debug, Serialize)]
struct Named {
    name: String,
    digest: String,
}

/// Runs the command.
pub(crate) fn run(args: args::Build, places: &Places) -> Outcome {
    if args.debug_shell {
        let message = "--debug-shell is for builds: a plan runs no bin/build";
        return Err(Failure::new(Exit::InvalidArguments, message));
    }
    if args.watch {
        return Err(Failure::new(Exit::InvalidArguments, "--watch is for builds: a plan is made once"));
    }
    let args = args.settled()?;
    // What is said on the way is no part of the answer.
    let quiet = args::ShowArgs { json: false, ..args.show };
    let show = Show::new(&quiet, Stream::Err, Drawn::Transfers, places);
    let interrupt = Interrupt::listen()
        .map_err(|error| Failure::caused(Exit::Other, "cannot listen for signals", &error))?;
    show.stops_with(&interrupt);
    let found = match find(&args, places, &show, &interrupt) {
        Err(_) if interrupt.asked() => return Err(Failure::new(Exit::Interrupted, "interrupted")),
        found => found?,
    };
    if args.show.json {
        print_json(&found)?;
    } else if args.show.quiet {
        show::taking_part(&found);
    } else {
        show::print(&found, args.show.verbose, width(places));
    }
    match (found.explained.group.is_empty(), found.explained.has_error) {
        (false, _) => Ok(0),
        (true, true) => Err(Failure::new(
            Exit::DetectError,
            "no group of buildpacks passes: buildpack(s) failed with err",
        )),
        (true, false) => Err(Failure::new(Exit::DetectFailed, "no group of buildpacks passes")),
    }
}

fn find(args: &args::Build, places: &Places, show: &Show, interrupt: &Interrupt) -> Result<Found, Failure> {
    args.volume.iter().try_for_each(|volume| volume.check(&places.current))?;
    args.notices().into_iter().for_each(|notice| show.info(notice));
    let surroundings = surroundings(places, &args.store).stopping(interrupt.stop());
    let seen = Seen::new(places.seen_images(), args.pull_policy);
    let work_dir = workplace::new(|text| show.warn(text)).map_err(|error| sandbox_failure(&error))?;
    let app = app::find(args, places, work_dir.path(), &surroundings)?;
    let app_dir = app::folder(&app.dir)?;
    let wanted = Wanted::find(args, &app, &args.exec_env, places, show)?;
    let kit = builder::load(args, &wanted, work_dir.path(), places, &surroundings, &seen, show)?;
    let work = Work::prepare(work_dir.path(), &wanted.variables)?;
    work.make_places(&args.volume)?;
    let run_images = base::Finder {
        dir: &work.base,
        places,
        created: CREATED,
        surroundings: &surroundings,
        seen: &seen,
        show,
    };
    let base = Base::find(args, &kit, &run_images)?;
    let target = Target::nowhere(args, places, work_dir.path());
    let earlier = Earlier::nothing(&surroundings);
    Copy { skip: target.own.clone(), selection: &wanted.selection, interrupt, observer: show }
        .run(&app_dir, &work.app)?;
    let inputs = Inputs {
        args,
        kit: &kit,
        work: &work,
        base: &base,
        places,
        target: &target,
        earlier: &earlier,
        scope: Scope::Whole,
        extended: None,
    };
    let explained = in_sandbox(&inputs, show, interrupt)?.explained;
    let explained =
        explained.ok_or_else(|| Failure::new(Exit::Other, "the sandbox did not say what it found"))?;
    let found = Found { builder: builder(&kit, &wanted), ..found(&base, explained) };
    workplace::close(work_dir, |text| show.warn(text));
    Ok(found)
}

fn builder(kit: &Kit, wanted: &Wanted) -> Option<Named> {
    let image = kit.build_image.as_ref();
    let image = image.map(|image| Named { name: image.name.clone(), digest: image.digest.to_string() });
    let folder = || Some(Named { name: wanted.builder.clone()?, digest: String::new() });
    image.or_else(folder)
}

fn found(base: &Base, explained: Explained) -> Found {
    let config = base.stored.image.config();
    let name = base.run_image.reference.parse::<Reference>();
    let name = name.map_or_else(|_| base.run_image.reference.clone(), |_| base.run_image.image.clone());
    let run_image = Named { name, digest: base.stored.manifest_digest.to_string() };
    Found { builder: None, run_image, target: config.platform().to_string(), explained }
}
