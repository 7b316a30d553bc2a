//! `strata build --watch`: builds again whenever a file of the app changes, or what the command line names beside it.

mod followed;

use super::once;
use crate::app::{self, App, Wanted};
use crate::interrupt::Interrupt;
use crate::output::Output;
use crate::places::Places;
use crate::show::text::shown;
use crate::show::view::count;
use crate::show::{self, Drawn, GOOD, duration};
use crate::{Outcome, args};
use followed::Followed;
use notify::event::{ModifyKind, RenameMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use serde_json::json;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};
use strata_phases::summary::Summary;
use strata_phases::{Event, Failure, Observer};
use strata_spec::exit::Exit;
use strata_store::source::Source;

/// How long nothing more may change before a build begins: editors write several files for one.
const QUIET: Duration = Duration::from_millis(200);
/// It begins after so long in any case.
const LONGEST: Duration = Duration::from_secs(3);
/// How often one looks whether somebody wants out.
const LOOK: Duration = Duration::from_millis(50);

/// What the system says of the app's folder, and of what else is followed.
struct Watched {
    app: PathBuf,
    followed: Followed,
    /// What builds write.
    own: Vec<PathBuf>,
    changes: Receiver<notify::Result<notify::Event>>,
    _watcher: RecommendedWatcher,
}

/// Builds, and builds again with each change, until somebody wants out.
pub(super) fn run(args: &args::Build, places: &Places, interrupt: &Interrupt) -> Outcome {
    let output = Output::of(args, places)?;
    if Output::stream(output.as_ref()) == show::Stream::Err {
        let message = "cannot watch: --watch makes many images, and an archive on standard output is one";
        return Err(Failure::new(Exit::InvalidArguments, message));
    }
    if places.current.join(&args.app).is_file() || args.source_path.is_some() {
        let message = format!("cannot watch {}: --watch is for an app in a folder", args.app.display());
        return Err(Failure::new(Exit::InvalidArguments, message));
    }
    // Before the first build: what changes meanwhile is a change, too.
    let watched = Watched::begin(&app::folder(&args.app)?, output.as_ref(), args, places)?;
    let first = once(args, places, output, interrupt, Drawn::Build);
    if let Err(failure) = first {
        if matches!(failure.exit, Exit::InvalidArguments | Exit::Interrupted) {
            return Err(failure);
        }
        show::failure(&failure, places.home());
    }
    let (app, also) = (watched.app.display().to_string(), watched.followed.names());
    show::print(&match args.show.json {
        true => json!({ "event": "watching", "app": app, "also": also }).to_string(),
        false => watching(&app, also.len()),
    });
    while let Some(changed) = watched.wait(args, places, interrupt)? {
        if args.show.json {
            let paths: Vec<_> = changed.iter().map(|path| path.display().to_string()).collect();
            show::print(&json!({ "event": "rebuild", "paths": paths }).to_string());
        }
        let places = &places.later();
        let again =
            Output::of(args, places).and_then(|output| once(args, places, output, interrupt, Drawn::Again));
        match again {
            // Who reads events has read a summary.
            Ok(_) if args.show.json => {}
            Ok(summary) => show::print(&told(&changed, &summary)),
            Err(failure) if failure.exit == Exit::Interrupted => return Err(failure),
            Err(failure) => {
                if !args.show.json {
                    show::print(&format!("{}: not built", what(&changed)));
                }
                show::failure(&failure, places.home());
            }
        }
    }
    Ok(0)
}

impl Watched {
    fn begin(
        app: &Path,
        output: Option<&Output>,
        args: &args::Build,
        places: &Places,
    ) -> Result<Self, Failure> {
        let failed = |error: notify::Error| {
            let is_limit = matches!(error.kind, notify::ErrorKind::MaxFilesWatch);
            let failure = Failure::caused(Exit::Other, format!("cannot watch {}", app.display()), &error);
            if !is_limit {
                return failure;
            }
            failure
                .hint("the system watches no more folders for one user: sysctl fs.inotify.max_user_watches")
        };
        let (sender, changes) = channel();
        let mut watcher = notify::recommended_watcher(sender).map_err(failed)?;
        watcher.watch(app, RecursiveMode::Recursive).map_err(failed)?;
        let followed = Followed::of(args, places);
        followed.watch(&mut watcher, app).map_err(failed)?;
        let own = own(app, output, args, places);
        Ok(Self { app: app.to_owned(), followed, own, changes, _watcher: watcher })
    }

    /// Waits for changes, and then until there are no more of them; `None` when somebody wants out.
    fn wait(
        &self,
        args: &args::Build,
        places: &Places,
        interrupt: &Interrupt,
    ) -> Result<Option<BTreeSet<PathBuf>>, Failure> {
        // One that cannot be understood leaves nothing out; the build says what is wrong with it.
        let app = App { dir: self.app.clone(), given: None };
        let wanted = Wanted::find(args, &app, &args.exec_env, places, &Deaf).ok();
        let is_wanted =
            |path: &Path, is_dir| wanted.as_ref().is_none_or(|wanted| wanted.selection.takes(path, is_dir));
        let mut batch = Batch::default();
        while !interrupt.asked() {
            match self.changes.recv_timeout(LOOK) {
                Ok(Ok(event)) => {
                    let paths = event.paths.iter();
                    let paths: Vec<_> =
                        paths.filter_map(|path| self.changed(path, &event.kind, &is_wanted)).collect();
                    batch.take(paths, &event);
                }
                Ok(Err(error)) => {
                    let what = format!("cannot watch {}", self.app.display());
                    return Err(Failure::caused(Exit::Other, what, &error));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let what = format!("cannot watch {} any longer", self.app.display());
                    return Err(Failure::new(Exit::Other, what));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            if batch.is_over() {
                let changed = std::mem::take(&mut batch).changed(&self.app);
                if !changed.is_empty() {
                    return Ok(Some(changed));
                }
            }
        }
        Ok(None)
    }

    /// The path, below the app without it, if a build would see what happened to it.
    fn changed(
        &self,
        path: &Path,
        kind: &EventKind,
        is_wanted: &dyn Fn(&Path, bool) -> bool,
    ) -> Option<PathBuf> {
        let is_dir = path.is_dir();
        let is_change = match kind {
            EventKind::Create(_) | EventKind::Remove(_) => true,
            // That a folder has other entries is told of these.
            EventKind::Modify(ModifyKind::Name(_)) => true,
            // What is not there is told of when it goes, and a file without a name when it gets one.
            EventKind::Modify(_) => !is_dir && path.symlink_metadata().is_ok(),
            EventKind::Access(_) | EventKind::Any | EventKind::Other => false,
        };
        if !is_change || self.is_own(path, is_dir) {
            return None;
        }
        let is_followed = self.followed.has(path, &self.app);
        let Ok(tail) = path.strip_prefix(&self.app) else { return is_followed.then(|| path.to_owned()) };
        let is_left_out = tail.iter().any(app::is_left_out);
        let is_project = tail == Path::new("project.toml");
        let is_seen = is_project || is_wanted(tail, is_dir);
        let is_of_app = !is_left_out && is_seen && !tail.as_os_str().is_empty();
        (is_followed || is_of_app).then(|| tail.to_owned())
    }

    /// Whether builds write this, or make this folder for what they write.
    fn is_own(&self, path: &Path, is_dir: bool) -> bool {
        let is_of = |own: &PathBuf| {
            path.starts_with(own) || is_draft_of(path, own) || (is_dir && own.starts_with(path))
        };
        self.own.iter().any(is_of)
    }
}

/// Changes that belong together.
#[derive(Default)]
struct Batch {
    paths: BTreeSet<PathBuf>,
    /// Those of them that were not there before.
    new: BTreeSet<PathBuf>,
    /// When the first and the last one came.
    since: Option<(Instant, Instant)>,
}

impl Batch {
    fn take(&mut self, paths: Vec<PathBuf>, event: &notify::Event) {
        let is_new =
            matches!(event.kind, EventKind::Create(_) | EventKind::Modify(ModifyKind::Name(RenameMode::To)));
        let before = self.paths.len();
        for path in paths {
            if is_new && !self.paths.contains(&path) {
                self.new.insert(path.clone());
            }
            self.paths.insert(path);
        }
        if event.need_rescan() {
            // The system has forgotten which ones.
            self.paths.insert(PathBuf::from("."));
        }
        if self.paths.len() > before {
            let now = Instant::now();
            self.since = Some((self.since.map_or(now, |(first, _)| first), now));
        }
    }

    fn is_over(&self) -> bool {
        self.since.is_some_and(|(first, last)| last.elapsed() >= QUIET || first.elapsed() >= LONGEST)
    }

    /// What has changed in the end: not what came and went meanwhile, as editors have it, nor folders of what did.
    fn changed(self, app: &Path) -> BTreeSet<PathBuf> {
        let Self { paths, new, .. } = self;
        let is_there = |path: &PathBuf| app.join(path).symlink_metadata().is_ok();
        let stays = |path: &&PathBuf| !new.contains(*path) || is_there(path);
        let has_more = |path: &PathBuf| paths.iter().any(|other| other != path && other.starts_with(path));
        paths.iter().filter(stays).filter(|path| !has_more(path)).cloned().collect()
    }
}

/// Whether a file is one that becomes another, which is written beside it.
fn is_draft_of(path: &Path, file: &Path) -> bool {
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    let is_named = |(draft, file): (String, String)| draft.starts_with('.') && draft.contains(&file);
    path.parent() == file.parent() && name(path).zip(name(file)).is_some_and(is_named)
}

/// What builds write, should it be in a folder that is followed.
fn own(app: &Path, output: Option<&Output>, args: &args::Build, places: &Places) -> Vec<PathBuf> {
    let cache = args.cache.cache.as_ref().and_then(|place| match place {
        args::CachePlace::Folder(dir) => Some(dir.clone()),
        _ => None,
    });
    let cache_image = args.cache.cache_image.as_deref().and_then(|text| match Source::parse(text) {
        Ok(Source::Layout { dir, .. }) => Some(dir),
        _ => None,
    });
    let asked = [
        output.and_then(Output::path).map(Path::to_owned),
        cache,
        cache_image,
        args.sbom_output_dir.clone(),
        args.report_output_dir.clone(),
        args.report.report.clone(),
    ];
    let asked = asked.into_iter().flatten().map(|path| places.current.join(path));
    let kept = places
        .kept()
        .map(Path::to_owned)
        .into_iter()
        .chain([places.images(args.store.layout_dir.as_deref())]);
    // An app that is in one of them is built for its own changes all the same.
    asked.chain(kept).map(|path| real(&path)).filter(|own| !app.starts_with(own)).collect()
}

/// Where a path leads, which may not be there yet: what is there of it is known.
fn real(path: &Path) -> PathBuf {
    let known = path.ancestors().find_map(|known| Some((known, known.canonicalize().ok()?)));
    let real = known.and_then(|(known, real)| Some(real.join(path.strip_prefix(known).ok()?)));
    // Without what joining an empty path adds.
    real.map_or_else(|| path.to_owned(), |real| real.components().collect())
}

/// Hears nothing.
struct Deaf;

impl Observer for Deaf {
    fn event(&self, _: Event) {}
}

/// What is followed.
fn watching(app: &str, others: usize) -> String {
    let also = if others == 0 { String::new() } else { format!(" and {}", count(others, "other path")) };
    format!("Watching {}{also}; Ctrl-C ends it", shown(app))
}

/// What changed, in a few words.
fn what(changed: &BTreeSet<PathBuf>) -> String {
    let name = |path: &PathBuf| shown(&path.display().to_string()).into_owned();
    match changed.iter().collect::<Vec<_>>().as_slice() {
        [] => "nothing changed".to_owned(),
        [one] => format!("{} changed", name(one)),
        [one, other] => format!("{} and {} changed", name(one), name(other)),
        [one, rest @ ..] => format!("{} and {} more changed", name(one), rest.len()),
    }
}

/// What changed, and what was built.
fn told(changed: &BTreeSet<PathBuf>, summary: &Summary) -> String {
    let image = summary.names.first().map_or_else(|| "image".to_owned(), |name| shown(name).into_owned());
    let layers = &summary.layers;
    format!(
        "{}: {GOOD}built{GOOD:#} {image} in {}: {}, {} reused",
        what(changed),
        duration(summary.millis),
        count(usize::try_from(layers.built.count).unwrap_or(usize::MAX), "new layer"),
        layers.reused.count
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use notify::event::{CreateKind, RemoveKind};

    #[test]
    fn changes_are_told_in_a_few_words() {
        let changed = |names: &[&str]| what(&names.iter().map(PathBuf::from).collect());
        assert_eq!(changed(&["a"]), "a changed");
        assert_eq!(changed(&["b", "a"]), "a and b changed");
        assert_eq!(changed(&["a", "b", "c/d"]), "a and 2 more changed");
    }

    #[test]
    fn what_came_and_went_is_no_change() {
        let app = tempfile::tempdir().unwrap();
        std::fs::write(app.path().join("kept"), "").unwrap();
        let event = |kind| notify::Event::new(kind);
        let (create, remove) = (EventKind::Create(CreateKind::File), EventKind::Remove(RemoveKind::File));
        let mut batch = Batch::default();
        for (path, kind) in [("kept", create), (".swap", create), (".swap", remove), ("gone", remove)] {
            batch.take(vec![path.into()], &event(kind));
        }
        assert_eq!(batch.changed(app.path()), BTreeSet::from(["gone".into(), "kept".into()]));
    }

    #[test]
    fn where_a_path_leads_is_known_before_it_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let is = folder.path().canonicalize().unwrap();
        std::fs::create_dir(is.join("is")).unwrap();
        std::os::unix::fs::symlink("is", is.join("link")).unwrap();
        for (path, expected) in [("is", "is"), ("link", "is"), ("link/a/b", "is/a/b"), ("a:b/c", "a:b/c")] {
            assert_eq!(real(&is.join(path)).as_os_str(), is.join(expected).as_os_str(), "{path}");
        }
    }

    #[test]
    fn a_draft_is_beside_its_file_and_named_like_it() {
        let file = Path::new("/app/report.json");
        for (path, expected) in [
            ("/app/.report.json.new", true),
            ("/app/.other.new", false),
            ("/app/my-report.json", false),
            ("/app/sub/.report.json.new", false),
        ] {
            assert_eq!(is_draft_of(Path::new(path), file), expected, "{path}");
        }
    }
}
