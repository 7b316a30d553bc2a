//! `strata build`.

mod base;
mod beside;
mod earlier;
mod extend;
pub(crate) mod hidden;
pub(crate) mod inside;
mod launcher;
mod plan;
mod report;
mod room;
mod said;
mod sandboxed;
mod shell;
mod target;
mod theirs;
mod watch;

use base::Base;
use earlier::Finder;
pub(crate) use extend::{Steps, run_here as run_steps};
use said::Scope;
pub(crate) use said::{BUILDPACKS, EXTENSIONS, Task};
use sandboxed::{Inputs, Work, in_sandbox, sandbox_failure};
use target::Target;

use crate::app::{self, Copy, Wanted, source};
use crate::args;
use crate::builder::{self, Kit};
use crate::images::{self, surroundings};
use crate::interrupt::Interrupt;
use crate::output::{Finished, Output};
use crate::places::Places;
use crate::seen::Seen;
use crate::show::{Drawn, Log, Show, Stream};
use crate::workplace::{self, threads};
use crate::{Outcome, sbom};
use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use strata_decide::export as decide;
use strata_layer::Packer;
use strata_oci::Reference;
use strata_phases::cache::Keep;
use strata_phases::export::{Export, Exported, Place};
use strata_phases::fresh::Fresh;
use strata_phases::index::Index;
use strata_phases::origins::Origins;
use strata_phases::ready::Leaving;
use strata_phases::summary::Summary;
use strata_phases::{Event, Failure, Observer, export, files, saving};
use strata_spec::PlatformApi;
use strata_spec::cache::CacheMetadata;
use strata_spec::exit::Exit;
use strata_spec::metadata::Metadata;
use strata_store::source::Surroundings;
use strata_store::{Layout, Store, StoreError};

/// Runs the command.
pub(crate) fn run(args: args::Build, places: &Places) -> Outcome {
    if args.dry_run {
        return plan::run(args, places);
    }
    // Who reads events reads of refused flags as well.
    let is_pipe = |output: &Path| output.to_str().is_some_and(|text| text == "-" || text.ends_with(":-"));
    let (shown, is_pipe) = (args.show.clone(), args.output.as_deref().is_some_and(is_pipe));
    let settled = args.settled().and_then(|args| Ok((Output::of(&args, places)?, args)));
    let (output, args) = settled.inspect_err(|failure| {
        let stream = if is_pipe { Stream::Err } else { Stream::Out };
        if shown.json {
            Show::new(&shown, stream, Drawn::Build, places).event(Event::Failed(failure.clone()));
        }
    })?;
    let interrupt = Interrupt::listen()
        .map_err(|error| Failure::caused(Exit::Other, "cannot listen for signals", &error))?;
    if args.watch {
        watch::run(&args, places, &interrupt)
    } else {
        once(&args, places, output, &interrupt, Drawn::Build).map(|_| 0)
    }
}

/// Builds once; what was done.
fn once(
    args: &args::Build,
    places: &Places,
    output: Option<Output>,
    interrupt: &Interrupt,
    drawn: Drawn,
) -> Result<Summary, Failure> {
    let show = Show::new(&args.show, Output::stream(output.as_ref()), drawn, places);
    keep_log(args, places, &show);
    show.stops_with(interrupt);
    let written = Written::default();
    let outcome = build(args, places, output, &show, interrupt, &written);
    let outcome = match outcome {
        Err(_) if interrupt.asked() => Err(Failure::new(Exit::Interrupted, stopped(&written.take()))),
        other => other,
    };
    outcome.map_err(|failure| {
        let log = show.end_log().map(|log| log.display().to_string());
        let failure = Failure { log, ..failure.hinted() };
        show.event(Event::Failed(failure.clone()));
        failure
    })
}

/// Where the image is by now.
type Written = RefCell<Vec<String>>;

/// What a build leaves that somebody stopped.
fn stopped(written: &[String]) -> String {
    match written {
        [] => "interrupted; nothing of the image was kept".to_owned(),
        names => {
            format!("interrupted; the image is in {}, and what was to follow was not done", names.join(", "))
        }
    }
}

/// Has all that is said written into a log, too; one that cannot be written is done without.
fn keep_log(args: &args::Build, places: &Places, show: &Show) {
    let app = args.app.file_name().map_or_else(|| "app".into(), |name| name.to_string_lossy());
    let name = args.tag.first().map_or(&*app, String::as_str);
    match Log::create(&places.logs(), places.now, name) {
        Ok(log) => show.keep(log),
        Err(error) => {
            let dir = places.logs().display().to_string();
            show.detail(format!("no log of this build is kept in {dir}: {error}"));
        }
    }
}

fn build(
    args: &args::Build,
    places: &Places,
    output: Option<Output>,
    show: &Show,
    interrupt: &Interrupt,
    written: &Written,
) -> Result<Summary, Failure> {
    let created = created(args, places)?;
    check(args, places)?;
    args.notices().into_iter().for_each(|notice| show.info(notice));
    let surroundings = surroundings(places, &args.store).stopping(interrupt.stop());
    let seen = Seen::new(places.seen_images(), args.pull_policy);
    let work_dir = workplace::new(|text| show.warn(text)).map_err(|error| sandbox_failure(&error))?;
    let target = Target::find(args, places, output, work_dir.path(), &surroundings)?;
    beside::make_folders(args, places)?;
    let app = app::find(args, places, work_dir.path(), &surroundings)?;
    let app_dir = app::folder(&app.dir)?;
    let wanted = Wanted::find(args, &app, &args.exec_env, places, show)?;
    let kit = show.part("builder", || {
        builder::load(args, &wanted, work_dir.path(), places, &surroundings, &seen, show)
    })?;
    check_lifecycle(args, &kit)?;
    let work = Work::prepare(work_dir.path(), &wanted.variables)?;
    work.make_places(&args.volume)?;
    let run_images = base::Finder {
        dir: &work.base,
        places,
        created: &created,
        surroundings: &surroundings,
        seen: &seen,
        show,
    };
    let base = show.part("run image", || Base::fetch(args, &kit, &run_images, &target.layout))?;
    let finder = Finder {
        args,
        places,
        surroundings: &surroundings,
        name: target.name.as_ref(),
        layout: &target.layout,
        published: target.published(),
        layers_dir: &work.layers,
    };
    let earlier = show.part("earlier", || finder.find(show))?;
    let cache_folder = earlier.folder().and_then(|dir| dir.canonicalize().ok());
    let skip: Vec<PathBuf> = target.own.iter().cloned().chain(cache_folder).collect();
    let copy = Copy { skip: skip.clone(), selection: &wanted.selection, interrupt, observer: show };
    show.part("app", || copy.run(&app_dir, &work.app))?;
    let search = source::Search {
        app: &app_dir,
        given: app.given,
        copy: &work.app,
        skip: &skip,
        selection: &wanted.selection,
        declared: &wanted.declared,
        scratch: work_dir.path(),
        created: is_dated(args, places).then(|| created.clone()),
        is_reported: args.report.is_wanted(),
        places,
        interrupt,
        observer: show,
    };
    let source = show.part("source", || source::find(&search))?;

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
    let recommended = |failure| shell::recommended(args, failure);
    let extended = extend::prepare(&inputs, &run_images, interrupt).map_err(recommended)?;
    let inputs = extended.as_ref().map_or(inputs, |prepared| prepared.inputs(inputs));
    show.part("sandbox", || in_sandbox(&inputs, show, interrupt)).map_err(recommended)?;

    let extended = extended.as_ref().and_then(|prepared| prepared.run.as_ref());
    let built =
        Built { inputs: &inputs, extended, source: &source, created: &created, show, interrupt, written };
    built.publish(&surroundings)?;
    show.part("tidy up", || workplace::close(work_dir, |text| show.warn(text)));
    let summary = show.summary(next(args, &target));
    show.event(Event::Summary(Box::new(summary.clone())));
    Ok(summary)
}

/// Only a builder that is an image has a lifecycle of its own.
fn check_lifecycle(args: &args::Build, kit: &Kit) -> Result<(), Failure> {
    if args.lifecycle == args::LifecycleArg::Strata || kit.build_image.is_some() {
        return Ok(());
    }
    let message = "cannot use the builder's own lifecycle: the builder is no image";
    Err(Failure::new(Exit::InvalidArguments, message).hint("name an image with --builder"))
}

/// Finds out what can be known of what the arguments name, before anything starts.
fn check(args: &args::Build, places: &Places) -> Result<(), Failure> {
    args.volume.iter().try_for_each(|volume| volume.check(&places.current))?;
    report::check(&args.report, &places.current)?;
    if args.debug_shell { shell::check() } else { Ok(()) }
}

/// That the image is there.
fn announced(target: &Target, exported: &Exported) -> Event {
    let kept_as = target.kept().map(Reference::to_string);
    Event::Image {
        names: kept_as.into_iter().chain(target.outputs.iter().filter_map(Output::name)).collect(),
        digest: exported.encoded.manifest_digest.to_string(),
        size: exported.size,
        process: exported.process.clone(),
    }
}

/// What one may want to do with the image.
fn next(args: &args::Build, target: &Target) -> Vec<String> {
    let other = || target.outputs.iter().filter_map(Output::name).find(|name| !name.starts_with("docker"));
    let image = match (target.kept(), args.tag.first()) {
        (Some(_), Some(tag)) => {
            let dir = args.store.layout_dir.as_ref().map(|dir| quoted(&dir.display().to_string()));
            quoted(tag) + &dir.map_or_else(String::new, |dir| format!(" --layout-dir {dir}"))
        }
        _ => match other() {
            Some(name) => quoted(&name),
            None => return Vec::new(),
        },
    };
    ["run", "trace"].map(|command| format!("strata {command} {image}")).to_vec()
}

/// A word for a shell.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@+,=%".contains(c);
    if word.chars().all(is_plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', "'\\''")) }
}

/// A build whose buildpacks are done.
struct Built<'a> {
    inputs: &'a Inputs<'a>,
    /// What extensions have made of the run image.
    extended: Option<&'a extend::Extended>,
    source: &'a source::Found,
    created: &'a str,
    show: &'a Show,
    interrupt: &'a Interrupt,
    written: &'a Written,
}

impl Built<'_> {
    /// Makes the image and fills the cache, and then lets trees stay for the next build: last of all, as that takes them
    /// out of the layers directory.
    fn publish(&self, surroundings: &Surroundings<'_>) -> Result<(), Failure> {
        let Self { show, interrupt, .. } = *self;
        let Inputs { work, base, earlier, .. } = *self.inputs;
        let index = Index::open(&work.layers, show);
        let kept = self.complete(surroundings, &index)?;
        let rest = work.layers.with_file_name("rest");
        let leave = |cached: &CacheMetadata| {
            let (trees, stop) = (work.trees(base.owner), interrupt.flag());
            let leaving = Leaving { cached, trees, index: &index, rest: &rest, threads: threads(), stop };
            earlier.leave(&leaving, show);
        };
        show.part("trees", || kept.iter().for_each(leave));
        Ok(())
    }

    /// Makes the image, fills the cache, and then tells of both in the report. Nobody waits for the cache, unless the
    /// report has to go elsewhere with the image.
    fn complete(
        &self,
        surroundings: &Surroundings<'_>,
        index: &Index,
    ) -> Result<Option<CacheMetadata>, Failure> {
        let Inputs { args, kit, work, base, places, target, earlier, .. } = *self.inputs;
        let show = self.show;
        let metadata = files::read(&work.layers.join("config/metadata.toml"), Metadata::parse)
            .map_err(|error| Failure::caused(Exit::Export, "failed to export", &error))?
            .ok_or_else(|| {
                Failure::new(Exit::Export, "failed to export: the build left no config/metadata.toml")
            })?;
        let packer = Packer::new(threads());
        let cache = earlier.open(show);
        let report = report::Build {
            args: &args.report,
            places,
            layers_dir: &work.layers,
            platform_dir: &work.platform,
            volumes: &args.volume,
            metadata: &metadata,
            project: &self.source.detailed,
            kit,
            base,
            previous: earlier.previous(),
            cache: cache.as_deref(),
            names: target.names(),
        };
        let is_wanted = args.report.is_wanted();
        let origins =
            show.part("origins", || is_wanted.then(|| report::gather(&report, show)).transpose())?;
        let origins = origins.as_ref();
        let fresh = cache.as_deref().map(Fresh::new);
        let (exported, outputs) = self.export(&metadata, index, (&packer, fresh.as_ref()), origins)?;
        let remember =
            origins.map(|origins| |metadata: &CacheMetadata| origins.records(Some(&exported.made), metadata));
        let keep = Keep {
            group: &metadata.buildpacks,
            trees: work.trees(base.owner),
            index,
            api: PlatformApi::NEWEST,
            packer: &packer,
            fresh: fresh.as_ref().zip(outputs.first().map(|(_, store)| store.as_ref())),
            remember: remember.as_ref().map(|remember| remember as _),
        };
        let is_kept = |takes: bool, when| takes || target.kept().is_some() && when != args::Beside::Never;
        if is_kept(target.outputs.iter().any(|output| output.takes(args.sbom)), args.sbom) {
            let name = target.name.as_ref().map_or_else(String::new, Reference::to_string);
            show.part("SBOM", || sbom::attach(&target.layout, &name, places, show));
        }
        let is_elsewhere = |output: &&Output| output.path() != Some(target.layout.dir());
        let outputs_elsewhere: Vec<&Output> = target.outputs.iter().filter(is_elsewhere).collect();
        let write =
            |with_report| self.put_elsewhere(&exported, &outputs_elsewhere, with_report, surroundings);
        // Otherwise nobody waits for the cache, of which the report tells.
        let waits = outputs_elsewhere.iter().any(|output| output.takes_reports(args.report.origins));
        if !waits {
            write(false)?;
        }
        let kept = cache.as_deref().and_then(|cache| earlier::keep(&keep, cache, show));
        if kept.is_none() && self.interrupt.asked() {
            return Err(Failure::new(Exit::Interrupted, "interrupted"));
        }
        let takes_reports = target.outputs.iter().any(|output| output.takes_reports(args.report.origins));
        let is_reported = is_kept(takes_reports, args.report.origins);
        if let Some(origins) = origins {
            show.part("report", || {
                report::finish(&report, origins, &exported, kept.as_ref(), (&outputs, is_reported), show)
            })?;
        }
        if waits {
            write(true)?;
        }
        Ok(kept)
    }

    /// Copies the image to where else it is wanted, and says that it is there.
    fn put_elsewhere(
        &self,
        exported: &Exported,
        outputs: &[&Output],
        with_report: bool,
        surroundings: &Surroundings<'_>,
    ) -> Result<(), Failure> {
        let Inputs { args, target, .. } = *self.inputs;
        let show = self.show;
        let origins = args.report.origins;
        let Exported { encoded, .. } = exported;
        let mut written = Vec::new();
        for output in outputs {
            let with_report = with_report && output.takes_reports(origins);
            let with_sbom = output.takes(args.sbom);
            let beside = report::beside(&target.layout, encoded.manifest_digest, with_sbom, with_report)?;
            let finished = Finished { layout: &target.layout, image: encoded, beside: &beside, origins };
            let name = target.name.as_ref();
            written.extend(output.write(&finished, name, &written, surroundings, show)?);
            self.written.borrow_mut().extend(output.name());
        }
        self.put_beside(exported)?;
        show.event(announced(target, exported));
        Ok(())
    }

    /// Writes the documents that were asked for in folders of their own.
    fn put_beside(&self, exported: &Exported) -> Result<(), Failure> {
        let Inputs { args, work, places, target, .. } = *self.inputs;
        if let Some(dir) = &args.sbom_output_dir {
            beside::put_sboms(&work.layers, &places.current.join(dir))?;
        }
        if let Some(dir) = &args.report_output_dir {
            let report = beside::report(exported, target.names());
            beside::put_report(&report, &places.current.join(dir))?;
        }
        Ok(())
    }

    /// Makes the image where it is kept.
    fn export(
        &self,
        metadata: &Metadata,
        index: &Index,
        (packer, fresh): (&Packer, Option<&Fresh<'_>>),
        origins: Option<&Origins>,
    ) -> Result<(Exported, Vec<saving::Output>), Failure> {
        let Inputs { args, work, base, target, earlier, .. } = *self.inputs;
        let source = self.source;
        let is_new = target.layout.dir().symlink_metadata().is_err();
        let layout = Layout::open_or_create(target.layout.dir())
            .map_err(|error| store_failure("cannot make the image's folder", &error))?;
        let export = Export {
            trees: work.trees(base.owner),
            index,
            app: Place { real: &work.app, seen: said::APP },
            group: &metadata.buildpacks,
            metadata,
            base: &base.stored,
            base_store: &*base.store,
            extended: self.extended.map(extend::Extended::for_export),
            run_image: base.run_image.clone(),
            launcher: launcher::BYTES,
            launcher_info: launcher::info(),
            annotations: &args.annotation,
            process_type: args.default_process.as_deref(),
            project: &source.project,
            app_source_label: true,
            standard: Some(&source.standard),
            created: self.created,
            exec_env: &args.exec_env,
            api: PlatformApi::NEWEST,
            compression: args.compression,
            packer,
            cancelled: self.interrupt.flag(),
            fresh,
            previous: earlier.previous(),
            may_be_sparse: false,
            own_sboms: None,
            origins,
        };
        let output: saving::Output = match target.kept().and_then(Reference::tag) {
            None => (layout.dir().display().to_string(), Box::new(layout.clone())),
            Some(tag) => (tag.to_owned(), Box::new(layout.clone().tagged(tag))),
        };
        let outputs = vec![output];
        let fetched = base.put_in(&layout, self.show);
        let fetched = fetched.map_err(|error| {
            images::failure(Exit::Export, "failed to export: cannot copy the run image", &error)
        });
        let outcome = fetched.and_then(|()| export::run(&export, &outputs, self.show));
        if outcome.is_err() && is_new && matches!(layout.read_image(), Ok(None)) {
            // Whatever cannot be removed is an empty layout, which the next build uses.
            fs::remove_dir_all(layout.dir()).unwrap_or_default();
        }
        let exported = outcome?;
        let here = |output: &&Output| output.path() == Some(target.layout.dir());
        let other = target.outputs.iter().filter(here).filter_map(Output::name);
        self.written.borrow_mut().extend(target.kept().map(Reference::to_string).into_iter().chain(other));
        Ok((exported, outputs))
    }
}

/// Whether the image has a date because somebody wants it to.
fn is_dated(args: &args::Build, places: &Places) -> bool {
    args.creation_time.is_some() || places.source_date_epoch.is_some()
}

/// RFC 3339, from `--creation-time`, or from `SOURCE_DATE_EPOCH` when it is set.
fn created(args: &args::Build, places: &Places) -> Result<String, Failure> {
    let now = || places.now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs().to_string();
    let (name, text) = match (&args.creation_time, &places.source_date_epoch) {
        (Some(text), _) if text == "now" => ("--creation-time", now()),
        (Some(text), _) => ("--creation-time", text.clone()),
        (None, Some(text)) => ("SOURCE_DATE_EPOCH", text.clone()),
        (None, None) => return Ok(decide::CREATED.to_owned()),
    };
    decide::created(&text).ok_or_else(|| {
        let message = format!("{name} is '{text}', which is no number of seconds since 1970");
        Failure::new(Exit::InvalidArguments, message)
    })
}

fn store_failure(what: &str, error: &StoreError) -> Failure {
    Failure::caused(Exit::Export, what, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_that_is_stopped_says_what_is_left() {
        assert_eq!(stopped(&[]), "interrupted; nothing of the image was kept");
        let left = stopped(&["web:latest".to_owned(), "oci:/tmp/web".to_owned()]);
        assert!(
            left.contains("the image is in web:latest, oci:/tmp/web,") && !left.contains("nothing"),
            "{left}"
        );
    }
}
