//! Detection and build in a sandbox: what it is given, and what it says.

use super::base::{Base, SCRATCH_USER, known};
use super::earlier::Earlier;
use super::extend::BuildGround;
use super::hidden::hidden;
use super::room::Room;
use super::said::{self, Said, Scope, Task};
use super::shell;
use super::target::Target;
use super::theirs;
use crate::args::{self, NetworkArg, Volume};
use crate::builder::Kit;
use crate::inside::Asked;
use crate::interrupt::Interrupt;
use crate::output::Output;
use crate::places::Places;
use crate::show::{Show, Stream};
use rustix::pipe::{PipeFlags, pipe_with};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;
use strata_decide::build::PASSED_ON;
use strata_layer::Owner;
use strata_layer::threads::refused;
use strata_oci::ImageConfig;
use strata_phases::detect::Explained;
use strata_phases::export::{Parents, Place, Trees};
use strata_phases::{Event, Failure, Observer};
use strata_sandbox::{Group, Io, Job, Mount, Network, Rights, Root, Sandbox, SandboxError, Spec};
use strata_spec::analyzed::RunImage;
use strata_spec::exit::Exit;
use strata_spec::order::{Order, OrderGroup};

/// The folders of one build.
pub(crate) struct Work {
    pub(crate) app: PathBuf,
    pub(super) layers: PathBuf,
    pub(super) platform: PathBuf,
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

    /// Where layers of image extensions are made.
    pub(super) fn extended(&self) -> PathBuf {
        self.base.with_file_name("extended")
    }

    /// A new folder for a sandbox.
    pub(super) fn new_scratch(&self) -> Result<PathBuf, Failure> {
        let parent = self.scratch.parent().unwrap_or(&self.scratch);
        tempfile::Builder::new().prefix("scratch-").tempdir_in(parent).map(tempfile::TempDir::keep).map_err(
            |error| {
                Failure::caused(Exit::Other, format!("cannot make a folder in {}", parent.display()), &error)
            },
        )
    }

    /// Makes the places of volumes below the platform directory, which is read-only inside.
    pub(crate) fn make_places(&self, volumes: &[Volume]) -> Result<(), Failure> {
        for volume in volumes {
            let Ok(place) = volume.to.strip_prefix(said::PLATFORM) else { continue };
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
    pub(super) fn trees(&self, owner: Owner) -> Trees<'_> {
        let layers = Place { real: &self.layers, seen: said::LAYERS };
        Trees { layers, owner, parents: Parents::Fixed }
    }
}

/// What a sandbox is made of.
#[derive(Clone, Copy)]
pub(crate) struct Inputs<'a> {
    pub(crate) args: &'a args::Build,
    pub(crate) kit: &'a Kit,
    pub(crate) work: &'a Work,
    pub(crate) base: &'a Base,
    pub(crate) places: &'a Places,
    pub(crate) target: &'a Target,
    pub(crate) earlier: &'a Earlier<'a>,
    /// How far it goes.
    pub(crate) scope: Scope,
    /// The image that buildpacks run in, if it is extended.
    pub(crate) extended: Option<&'a BuildGround>,
}

/// What came of a sandbox.
#[derive(Default)]
pub(crate) struct Outcome {
    /// What detection found, where that was asked for.
    pub(crate) explained: Option<Explained>,
    /// What image extensions want.
    pub(crate) generated: said::Generated,
}

/// Runs detection and build in a sandbox, and shows what happens. In between, what earlier builds left is brought in.
pub(crate) fn in_sandbox(
    inputs: &Inputs<'_>,
    show: &Show,
    interrupt: &Interrupt,
) -> Result<Outcome, Failure> {
    let Inputs { args, work, base, target, earlier, .. } = *inputs;
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)
        .map_err(|error| Failure::caused(Exit::Other, "cannot make a pipe", &std::io::Error::from(error)))?;
    let mut spec = spec(inputs)?;
    let group = args.limits.limits().group().map_err(|error| sandbox_failure(&error))?;
    spec.groups = group.as_ref().map(Group::dirs).unwrap_or_default();
    let io =
        Io { stdin: Stdio::piped(), stdout: stdout(target)?, stderr: Stdio::inherit(), events: Some(writer) };
    let events = listen(reader.into())?;
    let mut child = Sandbox::spawn(&spec, io).map_err(|error| sandbox_failure(&error))?;
    let (mut answer, mut room) = (child.take_stdin(), Room::new(&work.layers, args.limits.keep_free));
    let (mut failure, mut outcome) = (None, Outcome::default());
    // What was said while a shell had the terminal.
    let mut meanwhile = Vec::new().into_iter();
    let mut erred = Vec::new();
    loop {
        match meanwhile.next().map_or_else(|| events.recv_timeout(Duration::from_millis(30)), Ok) {
            Ok(line) => match serde_json::from_str(&line).map(|said| own_paths(inputs.kit, said)) {
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
                Ok(Said::Explained(found)) => outcome.explained = Some(*found),
                Ok(Said::Generated(generated)) => outcome.generated = generated,
                Ok(Said::Waiting(group)) => {
                    earlier.restore(&group, work.trees(base.owner), show)?;
                    // One that died meanwhile is found out below.
                    answer.as_mut().map_or(Ok(()), |pipe| pipe.write_all(b"\n")).unwrap_or_default();
                }
                Ok(Said::Shell(failed)) => {
                    let Some(keys) = answer.take() else { continue };
                    meanwhile = shell::attend(&failed, keys, &events, show, interrupt).into_iter();
                }
                Ok(Said::ShellEnded | Said::Written) => {}
                Err(error) => {
                    return Err(Failure::caused(Exit::Other, "the sandbox said something unknown", &error));
                }
            },
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {}
        }
        let interrupted = interrupt.asked().then(|| Failure::new(Exit::Interrupted, "interrupted"));
        if let Some(failure) = interrupted.or_else(|| room.is_short()) {
            child.kill().map_err(|error| sandbox_failure(&error))?;
            return Err(failure);
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
            Ok(outcome)
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

/// The same with the paths of buildpacks' programs that people know, rather than those in the sandbox. What buildpacks say
/// stays as it is.
fn own_paths(kit: &Kit, said: Said) -> Said {
    let own = |text| kit.own_paths(text);
    let all = |texts: Vec<String>| texts.into_iter().map(own).collect();
    match said {
        Said::Event(Event::Failed(failure)) => Said::Event(Event::Failed(Failure {
            causes: all(failure.causes),
            hint: failure.hint.map(own),
            ..failure
        })),
        Said::Event(Event::NothingDetected { has_error, errors }) => {
            Said::Event(Event::NothingDetected { has_error, errors: all(errors) })
        }
        Said::Event(Event::Message { level, text }) => Said::Event(Event::Message { level, text: own(text) }),
        Said::Explained(mut found) => {
            let told = found.tried.iter_mut().flat_map(|group| &mut group.buildpacks);
            told.for_each(|told| told.error = told.error.take().map(own));
            Said::Explained(found)
        }
        said => said,
    }
}

/// What the sandbox says, line by line. Before there is a sandbox: without a thread there is to be none.
pub(super) fn listen(pipe: File) -> Result<Receiver<String>, Failure> {
    // Bounded: whoever reads slowly slows the buildpacks down instead of filling the memory.
    let (sender, events) = sync_channel(1024);
    // Detached on purpose: it ends when the last holder of the pipe does.
    std::thread::Builder::new()
        .spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        })
        .map_err(|error| Failure::caused(Exit::Other, "cannot listen to the sandbox", &refused(&error)))?;
    Ok(events)
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
fn variables(inputs: &Inputs<'_>) -> Vec<(String, String)> {
    let Inputs { kit, places, extended, .. } = *inputs;
    let passed_on = PASSED_ON.iter().filter(|name| **name != "HOSTNAME");
    let of_host = |name: &&str| Some(((*name).to_owned(), places.variable(name)?.to_owned()));
    let Some(image) = &kit.build_image else { return passed_on.filter_map(of_host).collect() };
    let config = extended.map_or(&image.config, |extended| &extended.config);
    let own = config.env().map(|(name, value)| (name.to_owned(), value.to_owned()));
    let proxies = passed_on.filter(|name| name.to_ascii_lowercase().ends_with("_proxy")).filter_map(of_host);
    own.chain(proxies).collect()
}

/// What of this machine is seen inside.
fn mounts(inputs: &Inputs<'_>) -> Vec<Mount> {
    let Inputs { args, kit, work, places, .. } = *inputs;
    let mount = |source: &Path, target: &str, writable| Mount {
        source: source.to_owned(),
        target: PathBuf::from(target),
        writable,
    };
    let mut mounts = vec![
        mount(&work.app, said::APP, true),
        mount(&work.layers, said::LAYERS, true),
        mount(&work.platform, said::PLATFORM, false),
    ];
    mounts.extend(kit.build_config.as_ref().map(|dir| mount(dir, said::BUILD_CONFIG, false)));
    for (below, modules) in [(said::BUILDPACKS, &kit.buildpacks), (said::EXTENSIONS, &kit.extensions)] {
        let module = |(place, dir): (&PathBuf, &PathBuf)| Mount {
            source: dir.clone(),
            target: Path::new(below).join(place),
            writable: false,
        };
        mounts.extend(modules.iter().map(module));
    }
    mounts.extend(args.volume.iter().map(|volume| Mount {
        source: places.current.join(&volume.from),
        target: volume.to.clone(),
        writable: volume.is_writable,
    }));
    mounts
}

/// The distribution that the run image says it is of, and its version.
fn distro(config: &ImageConfig) -> Option<(String, String)> {
    let [name, version] =
        ["name", "version"].map(|what| config.label(&format!("io.buildpacks.base.distro.{what}")));
    (name.is_some() || version.is_some())
        .then(|| (name.unwrap_or_default().to_owned(), version.unwrap_or_default().to_owned()))
}

/// An order as id, version and whether it is optional.
fn groups(order: &Order) -> Vec<Vec<(String, String, bool)>> {
    let group = |group: &OrderGroup| {
        group.group.iter().map(|e| (e.id.clone(), e.version.clone(), e.optional)).collect()
    };
    order.iter().map(group).collect()
}

fn spec(inputs: &Inputs<'_>) -> Result<Spec, Failure> {
    let Inputs { args, kit, work, base, places, target, earlier, scope, extended } = *inputs;
    let config = base.stored.image.config();
    let task = Task {
        is_plan: args.dry_run,
        order: groups(&kit.order),
        order_extensions: groups(&kit.order_extensions),
        scope,
        run_image: RunImage {
            reference: base.run_image.reference.clone(),
            image: base.run_image.image.clone(),
            ..RunImage::default()
        },
        known_run_images: known(args, kit)
            .iter()
            .flat_map(|image| image.names().map(str::to_owned).collect::<Vec<_>>())
            .collect(),
        os: config.os().to_owned(),
        arch: config.architecture().to_owned(),
        variant: config.variant().unwrap_or_default().to_owned(),
        distro: distro(config),
        exec_env: args.exec_env.clone(),
        variables: variables(inputs),
        is_image: kit.build_image.is_some(),
        is_reported: args.report.is_wanted(),
        compression: args.compression.map(|compression| compression.to_string()),
        owner: (base.owner.uid, base.owner.gid),
        sealed_layers: args.sealed_layers,
        previous: earlier.previous().metadata.cloned(),
        operator: kit.sealed_layers.clone(),
        theirs: theirs::asked(args, kit),
        debug_shell: shell::asked(args, places),
    };
    let payload = serde_json::to_value(Asked::Build(Box::new(task)))
        .map_err(|error| Failure::caused(Exit::Other, "cannot describe the task", &error))?;
    // The scratch base has a user of its own; root in the image would be powerless inside all the same.
    let id = |id: u64| u32::try_from(id).ok().filter(|id| *id != 0).unwrap_or(SCRATCH_USER);
    let scratch = work.new_scratch()?;
    let root = match &kit.build_image {
        Some(image) => {
            let lowers = extended.map_or(image.layers.dirs(), BuildGround::dirs).to_vec();
            Root::Layers { lowers, scratch }
        }
        None => Root::Host {
            hide: hidden(places, [Some(target.images.as_path()), earlier.folder()].into_iter().flatten()),
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
        rights: Rights::User,
        root,
        mounts: mounts(inputs),
        groups: Vec::new(),
        job: Job::Call { payload },
    })
}

pub(crate) fn sandbox_failure(error: &SandboxError) -> Failure {
    let failure = Failure::caused(Exit::Other, "cannot make the build's sandbox", error);
    match error.hint() {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}
