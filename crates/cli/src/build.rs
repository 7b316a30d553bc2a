//! `strata build`.

use crate::app::{self, Copy};
use crate::args::{self, NetworkArg, Volume};
use crate::base::{self, Base, SCRATCH_USER};
use crate::builder::{self, Kit};
use crate::earlier::{self, Earlier, Finder, threads};
use crate::images::{self, surroundings};
use crate::inside::{self, Said, Task};
use crate::interrupt::Interrupt;
use crate::kept::Log;
use crate::output::{Finished, Output};
use crate::places::Places;
use crate::project::Wanted;
use crate::seen::Seen;
use crate::show::{Drawn, Show, Stream};
use crate::target::Target;
use crate::theirs::Described;
use crate::{Outcome, beside, given, launcher, plan, report, sbom, shell, source, workplace};
use rustix::pipe::{PipeFlags, pipe_with};
use std::cell::RefCell;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, SystemTime};
use strata_decide::build::PASSED_ON;
use strata_decide::export as decide;
use strata_layer::{Owner, Packer};
use strata_oci::Reference;
use strata_phases::cache::Keep;
use strata_phases::detect::Explained;
use strata_phases::export::{Export, Exported, Place, Trees};
use strata_phases::fresh::Fresh;
use strata_phases::index::Index;
use strata_phases::origins::Origins;
use strata_phases::{Event, Failure, Observer, export, files, saving};
use strata_sandbox::{Group, Io, Job, Mount, Network, Root, Sandbox, SandboxError, Spec};
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
    let args = &args;
    let show = Show::new(&args.show, Output::stream(output.as_ref()), Drawn::Build, places);
    keep_log(args, places, &show);
    let interrupt = Interrupt::listen()
        .map_err(|error| Failure::caused(Exit::Other, "cannot listen for signals", &error))?;
    show.stops_with(&interrupt);
    let written = Written::default();
    let outcome = build(args, places, output, &show, &interrupt, &written);
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
) -> Outcome {
    let created = created(args, places)?;
    if args.debug_shell {
        shell::check()?;
    }
    args.notices().into_iter().for_each(|notice| show.info(notice));
    let surroundings = surroundings(places, &args.store);
    let seen = Seen::new(places.seen_images(), args.pull_policy);
    let sandbox_failure = |error: SandboxError| sandbox_failure(&error);
    let work_dir = workplace::new(|text| show.warn(text)).map_err(sandbox_failure)?;
    let target = Target::find(args, places, output, work_dir.path(), &surroundings)?;
    let folders = [&args.sbom_output_dir, &args.report_output_dir];
    folders.into_iter().flatten().try_for_each(|dir| beside::make(&places.current.join(dir)))?;
    let app = given::find(args, places, work_dir.path(), &surroundings)?;
    let app_dir = app::folder(&app.dir)?;
    let wanted = Wanted::find(args, &app, &args.exec_env, places, show)?;
    let kit = builder::load(args, &wanted, work_dir.path(), places, &surroundings, &seen, show)?;
    if args.lifecycle == args::LifecycleArg::Builder && kit.build_image.is_none() {
        let message = "cannot use the builder's own lifecycle: the builder is no image";
        return Err(Failure::new(Exit::InvalidArguments, message).hint("name an image with --builder"));
    }
    let work = Work::prepare(work_dir.path(), &wanted.variables)?;
    work.make_places(&args.volume)?;
    let run_images =
        base::Finder { dir: &work.base, created: &created, surroundings: &surroundings, seen: &seen };
    let base = Base::find(args, &kit, &run_images)?;
    let finder = Finder {
        args,
        places,
        surroundings: &surroundings,
        name: target.name.as_ref(),
        layout: &target.layout,
        published: target.published(),
        layers_dir: &work.layers,
    };
    let earlier = finder.find(show)?;
    let cache_folder = earlier.folder().and_then(|dir| dir.canonicalize().ok());
    let skip: Vec<PathBuf> = target.own.iter().cloned().chain(cache_folder).collect();
    Copy { skip: skip.clone(), selection: &wanted.selection, interrupt, observer: show }
        .run(&app_dir, &work.app)?;
    let search = source::Search {
        app: &app_dir,
        given: app.given,
        copy: &work.app,
        skip: &skip,
        selection: &wanted.selection,
        declared: &wanted.declared,
        scratch: work_dir.path(),
        created: is_dated(args, places).then(|| created.clone()),
        places,
        interrupt,
        observer: show,
    };
    let source = source::find(&search)?;

    in_sandbox(args, &kit, &work, &base, places, &target, &earlier, show, interrupt)?;

    let built = Built {
        args,
        places,
        kit: &kit,
        work: &work,
        base: &base,
        source: &source,
        target: &target,
        created: &created,
        earlier: &earlier,
        show,
        interrupt,
        written,
    };
    built.publish(&surroundings)?;
    workplace::close(work_dir, |text| show.warn(text));
    show.event(Event::Summary(Box::new(show.summary(next(args, &target)))));
    Ok(0)
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
    args: &'a args::Build,
    places: &'a Places,
    kit: &'a Kit,
    work: &'a Work,
    base: &'a Base,
    source: &'a source::Found,
    target: &'a Target,
    created: &'a str,
    earlier: &'a Earlier<'a>,
    show: &'a Show,
    interrupt: &'a Interrupt,
    written: &'a Written,
}

impl Built<'_> {
    /// Makes the image, fills the cache, and then tells of both in the report. Nobody waits for the cache, unless the
    /// report has to go elsewhere with the image.
    fn publish(&self, surroundings: &Surroundings<'_>) -> Result<(), Failure> {
        let Self { args, work, base, target, earlier, show, .. } = *self;
        let metadata = files::read(&work.layers.join("config/metadata.toml"), Metadata::parse)
            .map_err(|error| Failure::caused(Exit::Export, "failed to export", &error))?
            .ok_or_else(|| {
                Failure::new(Exit::Export, "failed to export: the build left no config/metadata.toml")
            })?;
        let index = Index::open(&work.layers, show);
        let packer = Packer::new(threads());
        let cache = earlier.open(show);
        let report = report::Build {
            args: &args.report,
            places: self.places,
            layers_dir: &work.layers,
            platform_dir: &work.platform,
            metadata: &metadata,
            project: &self.source.detailed,
            kit: self.kit,
            base,
            previous: earlier.previous(),
            cache: cache.as_deref(),
            names: target.names(),
        };
        let origins = report::gather(&report, show)?;
        let fresh = cache.as_deref().map(Fresh::new);
        let (exported, outputs) = self.export(&metadata, &index, (&packer, fresh.as_ref()), &origins)?;
        let remember = |metadata: &CacheMetadata| origins.records(Some(&exported.made), metadata);
        let keep = Keep {
            group: &metadata.buildpacks,
            trees: work.trees(base.owner),
            index: &index,
            api: PlatformApi::NEWEST,
            packer: &packer,
            fresh: fresh.as_ref().zip(outputs.first().map(|(_, store)| store.as_ref())),
            remember: Some(&remember),
        };
        let kept_as = target.kept().map(Reference::to_string);
        let image = Event::Image {
            names: kept_as.into_iter().chain(target.outputs.iter().filter_map(Output::name)).collect(),
            digest: exported.encoded.manifest_digest.to_string(),
            size: exported.size,
            process: exported.process.clone(),
        };
        let takes = |when| target.outputs.iter().any(|output| output.takes(when));
        let is_kept = |when| takes(when) || target.kept().is_some() && when != args::Beside::Never;
        if is_kept(args.sbom) {
            let name = target.name.as_ref().map_or_else(String::new, Reference::to_string);
            sbom::attach(&target.layout, &name, self.places, show);
        }
        let is_elsewhere = |output: &&Output| output.path() != Some(target.layout.dir());
        let outputs_elsewhere: Vec<&Output> = target.outputs.iter().filter(is_elsewhere).collect();
        let write = |with_report| -> Result<(), Failure> {
            let Exported { encoded, .. } = &exported;
            let mut written = Vec::new();
            for output in &outputs_elsewhere {
                let with_sbom = output.takes(args.sbom);
                let with_report = with_report && output.takes(args.report.origins);
                let beside = report::beside(&target.layout, encoded.manifest_digest, with_sbom, with_report)?;
                let finished = Finished { layout: &target.layout, image: encoded, beside: &beside };
                written.extend(output.write(
                    &finished,
                    target.name.as_ref(),
                    &written,
                    surroundings,
                    show,
                )?);
                self.written.borrow_mut().extend(output.name());
            }
            self.put_beside(&exported)?;
            show.event(image.clone());
            Ok(())
        };
        // Otherwise nobody waits for the cache, of which the report tells.
        let waits = outputs_elsewhere.iter().any(|output| output.takes(args.report.origins));
        if !waits {
            write(false)?;
        }
        let kept = cache.as_deref().and_then(|cache| earlier::keep(&keep, cache, show));
        let is_reported = is_kept(args.report.origins);
        report::finish(&report, &origins, &exported, kept.as_ref(), (&outputs, is_reported), show)?;
        if waits { write(true) } else { Ok(()) }
    }

    /// Writes the documents that were asked for in folders of their own.
    fn put_beside(&self, exported: &Exported) -> Result<(), Failure> {
        let Self { args, places, .. } = *self;
        if let Some(dir) = &args.sbom_output_dir {
            beside::put_sboms(&self.work.layers, &places.current.join(dir))?;
        }
        if let Some(dir) = &args.report_output_dir {
            let report = beside::report(exported, self.target.names());
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
        origins: &Origins,
    ) -> Result<(Exported, Vec<saving::Output>), Failure> {
        let Self { args, work, base, source, target, .. } = *self;
        let is_new = target.layout.dir().symlink_metadata().is_err();
        let layout = Layout::open_or_create(target.layout.dir())
            .map_err(|error| store_failure("cannot make the image's folder", &error))?;
        let export = Export {
            trees: work.trees(base.owner),
            index,
            app: Place { real: &work.app, seen: inside::APP },
            group: &metadata.buildpacks,
            metadata,
            base: &base.stored,
            base_store: &*base.store,
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
            compression: self.args.compression,
            packer,
            cancelled: self.interrupt.flag(),
            fresh,
            previous: self.earlier.previous(),
            may_be_sparse: false,
            own_sboms: None,
            origins: Some(origins),
        };
        let output: saving::Output = match target.kept().and_then(Reference::tag) {
            None => (layout.dir().display().to_string(), Box::new(layout.clone())),
            Some(tag) => (tag.to_owned(), Box::new(layout.clone().tagged(tag))),
        };
        let outputs = vec![output];
        let fetched = base.fetch(&layout, self.show);
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

pub(crate) fn sandbox_failure(error: &SandboxError) -> Failure {
    let failure = Failure::caused(Exit::Other, "cannot make the build's sandbox", error);
    match error.hint() {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// A folder that is no image is never written into, and one that cannot be written fails before the build.
pub(crate) fn check_writable(dir: &Path) -> Result<(), Failure> {
    let refuse = |message: String| Failure::new(Exit::Export, format!("cannot write the image: {message}"));
    if dir.is_dir() && !dir.join("oci-layout").exists() {
        // What cannot be listed cannot be written either.
        if !Layout::open(dir).is_unmade().is_ok_and(|is_unmade| is_unmade) {
            return Err(refuse(format!("{} is neither empty nor an OCI layout", dir.display()))
                .hint("name another folder, or empty this one"));
        }
    }
    let existing = dir.ancestors().find(|path| path.symlink_metadata().is_ok()).unwrap_or(Path::new("/"));
    if !existing.is_dir() {
        return Err(refuse(format!("{} is not a folder", existing.display())));
    }
    rustix::fs::access(existing, rustix::fs::Access::WRITE_OK)
        .map_err(|error| refuse(format!("{}: {}", existing.display(), std::io::Error::from(error))))
}

/// The folders of one build.
pub(crate) struct Work {
    pub(crate) app: PathBuf,
    layers: PathBuf,
    platform: PathBuf,
    scratch: PathBuf,
    pub(crate) base: PathBuf,
}

impl Work {
    pub(crate) fn prepare(
        root: &Path,
        variables: &std::collections::BTreeMap<String, String>,
    ) -> Result<Self, Failure> {
        let work = Self {
            app: root.join("app"),
            layers: root.join("layers"),
            platform: root.join("platform"),
            scratch: root.join("scratch"),
            base: root.join("base"),
        };
        let failed = |error: std::io::Error| {
            Failure::caused(Exit::Other, format!("cannot prepare {}", root.display()), &error)
        };
        for dir in [&work.app, &work.layers, &work.platform, &work.scratch] {
            fs::create_dir(dir).map_err(failed)?;
        }
        fs::create_dir(work.platform.join("env")).map_err(failed)?;
        for (name, value) in variables {
            fs::write(work.platform.join("env").join(name), value).map_err(failed)?;
        }
        Ok(work)
    }
}

impl Work {
    /// Makes the places of volumes below the platform directory, which is read-only inside.
    pub(crate) fn make_places(&self, volumes: &[Volume]) -> Result<(), Failure> {
        for volume in volumes {
            let Ok(place) = volume.to.strip_prefix(inside::PLATFORM) else { continue };
            let place = self.platform.join(place);
            let made = if volume.from.is_dir() {
                fs::create_dir_all(&place)
            } else {
                place.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&place, ""))
            };
            made.map_err(|error| {
                let what = format!("cannot make a place for the volume {}", volume.to.display());
                Failure::caused(Exit::InvalidArguments, what, &error)
            })?;
        }
        Ok(())
    }

    /// The layers directory as it becomes layers, which do not depend on where it is.
    fn trees(&self, owner: Owner) -> Trees<'_> {
        let layers = Place { real: &self.layers, seen: inside::LAYERS };
        Trees { layers, owner, parents: export::Parents::Fixed }
    }
}

/// Runs detection and build in a sandbox, and shows what happens. In between, what earlier builds left is brought in.
#[expect(clippy::too_many_arguments, reason = "each is one input of the build, none belongs to another")]
pub(crate) fn in_sandbox(
    args: &args::Build,
    kit: &Kit,
    work: &Work,
    base: &Base,
    places: &Places,
    target: &Target,
    earlier: &Earlier<'_>,
    show: &Show,
    interrupt: &Interrupt,
) -> Result<Option<Explained>, Failure> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)
        .map_err(|error| Failure::caused(Exit::Other, "cannot make a pipe", &std::io::Error::from(error)))?;
    let mut spec = spec(args, kit, work, base, places, target, earlier)?;
    let group = args.limits.limits().group().map_err(|error| sandbox_failure(&error))?;
    spec.groups = group.as_ref().map(Group::dirs).unwrap_or_default();
    let io =
        Io { stdin: Stdio::piped(), stdout: stdout(target)?, stderr: Stdio::inherit(), events: Some(writer) };
    let mut child = Sandbox::spawn(&spec, io).map_err(|error| sandbox_failure(&error))?;
    let mut answer = child.take_stdin();
    // Bounded: whoever reads slowly slows the buildpacks down instead of filling the memory.
    let (sender, events) = sync_channel(1024);
    // Detached on purpose: it ends when the last holder of the pipe does.
    std::thread::spawn(move || {
        for line in BufReader::new(File::from(reader)).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    let (mut failure, mut explained) = (None, None);
    // What was said while a shell had the terminal.
    let mut meanwhile = Vec::new().into_iter();
    let mut erred = Vec::new();
    loop {
        match meanwhile.next().map_or_else(|| events.recv_timeout(Duration::from_millis(30)), Ok) {
            Ok(line) => match serde_json::from_str(&line) {
                Ok(Said::Event(Event::Failed(mut value))) => {
                    value.causes.append(&mut erred);
                    failure = Some(value);
                }
                Ok(Said::Event(event)) => {
                    if let Event::NothingDetected { errors, .. } = &event {
                        erred.clone_from(errors);
                    }
                    show.event(event);
                }
                Ok(Said::Explained(found)) => explained = Some(*found),
                Ok(Said::Waiting(group)) => {
                    earlier.restore(&group, work.trees(base.owner), show)?;
                    // One that died meanwhile is found out below.
                    answer.as_mut().map_or(Ok(()), |pipe| pipe.write_all(b"\n")).unwrap_or_default();
                }
                Ok(Said::Shell(failed)) => {
                    let Some(keys) = answer.take() else { continue };
                    meanwhile = shell::attend(&failed, keys, &events, show, interrupt).into_iter();
                }
                Ok(Said::ShellEnded) => {}
                Err(error) => {
                    return Err(Failure::caused(Exit::Other, "the sandbox said something unknown", &error));
                }
            },
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {}
        }
        if interrupt.asked() {
            child.kill().map_err(|error| sandbox_failure(&error))?;
            return Err(Failure::new(Exit::Interrupted, "interrupted"));
        }
    }
    let exit = child.wait().map_err(|error| sandbox_failure(&error))?;
    let met = group.map(|group| group.met()).unwrap_or_default();
    let met: Vec<String> = met.iter().map(|met| args.limits.told(met)).collect();
    match failure {
        Some(mut failure) => {
            failure.causes.extend(met);
            Err(failure)
        }
        None if exit.is_success() => {
            met.into_iter().for_each(|met| show.warn(met));
            Ok(explained)
        }
        None if !met.is_empty() => {
            let message = format!("the sandbox ended with code {}", exit.code);
            Err(Failure { causes: met, ..Failure::new(Exit::Build, message) })
        }
        None => {
            Err(Failure::new(Exit::Other, format!("the sandbox ended unexpectedly with code {}", exit.code))
                .hint("was it killed, or was the machine out of memory?"))
        }
    }
}

/// What the sandbox has for standard output: not this program's own, when an archive goes there.
fn stdout(target: &Target) -> Result<Stdio, Failure> {
    match Output::stream(target.outputs.last()) {
        Stream::Out => Ok(Stdio::inherit()),
        Stream::Err => std::io::stderr().as_fd().try_clone_to_owned().map(Stdio::from).map_err(|error| {
            Failure::caused(Exit::Other, "cannot pass standard error on to the sandbox", &error)
        }),
    }
}

/// What the phases are given of the environment: the build image's own, and the proxies of this machine; without an
/// image, this machine's.
fn variables(kit: &Kit, places: &Places) -> Vec<(String, String)> {
    let passed_on = PASSED_ON.iter().filter(|name| **name != "HOSTNAME");
    let of_host = |name: &&str| Some(((*name).to_owned(), places.variable(name)?.to_owned()));
    let Some(image) = &kit.build_image else { return passed_on.filter_map(of_host).collect() };
    let own = image.config.env().map(|(name, value)| (name.to_owned(), value.to_owned()));
    let proxies = passed_on.filter(|name| name.to_ascii_lowercase().ends_with("_proxy")).filter_map(of_host);
    own.chain(proxies).collect()
}

fn spec(
    args: &args::Build,
    kit: &Kit,
    work: &Work,
    base: &Base,
    places: &Places,
    target: &Target,
    earlier: &Earlier<'_>,
) -> Result<Spec, Failure> {
    let config = base.stored.image.config();
    let distro =
        (config.label("io.buildpacks.base.distro.name"), config.label("io.buildpacks.base.distro.version"));
    let distro = match distro {
        (None, None) => None,
        (name, version) => {
            Some((name.unwrap_or_default().to_owned(), version.unwrap_or_default().to_owned()))
        }
    };
    let task = Task {
        is_plan: args.dry_run,
        order: kit
            .order
            .iter()
            .map(|g| g.group.iter().map(|e| (e.id.clone(), e.version.clone(), e.optional)).collect())
            .collect(),
        os: config.os().to_owned(),
        arch: config.architecture().to_owned(),
        variant: config.variant().unwrap_or_default().to_owned(),
        distro,
        exec_env: args.exec_env.clone(),
        variables: variables(kit, places),
        is_image: kit.build_image.is_some(),
        compression: args.compression.map(|compression| compression.to_string()),
        owner: (base.owner.uid, base.owner.gid),
        sealed_layers: args.sealed_layers,
        previous: earlier.previous().metadata.cloned(),
        operator: kit.sealed_layers.clone(),
        theirs: Described::asked(args, kit),
        debug_shell: shell::asked(args, places),
    };
    let mount = |source: &Path, target: &str, writable| Mount {
        source: source.to_owned(),
        target: PathBuf::from(target),
        writable,
    };
    let mut mounts = vec![
        mount(&work.app, inside::APP, true),
        mount(&work.layers, inside::LAYERS, true),
        mount(&work.platform, inside::PLATFORM, false),
    ];
    mounts.extend(kit.build_config.as_ref().map(|dir| mount(dir, inside::BUILD_CONFIG, false)));
    for (place, dir) in &kit.buildpacks {
        let target = Path::new(inside::BUILDPACKS).join(place);
        mounts.push(Mount { source: dir.clone(), target, writable: false });
    }
    for volume in &args.volume {
        mounts.push(Mount {
            source: places.current.join(&volume.from),
            target: volume.to.clone(),
            writable: volume.is_writable,
        });
    }
    let payload = serde_json::to_value(inside::Asked::Build(Box::new(task)))
        .map_err(|error| Failure::caused(Exit::Other, "cannot describe the task", &error))?;
    // The scratch base has a user of its own; root in the image would be powerless inside all the same.
    let id = |id: u64| u32::try_from(id).ok().filter(|id| *id != 0).unwrap_or(SCRATCH_USER);
    let scratch = work.scratch.clone();
    let root = match &kit.build_image {
        Some(image) => Root::Layers { lowers: image.layers.dirs().to_vec(), scratch },
        None => Root::Host {
            hide: places.hidden([Some(target.images.as_path()), earlier.folder()].into_iter().flatten()),
            scratch,
        },
    };
    Ok(Spec {
        uid: id(base.owner.uid),
        gid: id(base.owner.gid),
        ids: kit.build_image.as_ref().and_then(|image| image.ids.clone()),
        hostname: "strata".into(),
        network: match args.network {
            NetworkArg::Host => Network::Host,
            NetworkArg::None => Network::None,
        },
        root,
        mounts,
        groups: Vec::new(),
        job: Job::Call { payload },
    })
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
