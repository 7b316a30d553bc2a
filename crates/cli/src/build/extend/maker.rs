//! Makes the layer of one Dockerfile in a sandbox: its steps run as root of the image, and what they wrote comes out as an
//! archive.

use super::{Engine, Given, failed};
use crate::args::NetworkArg;
use crate::build::room::Room;
use crate::build::said::{Pipe, Said};
use crate::build::sandboxed::{listen, sandbox_failure};
use crate::inside::Asked;
use rustix::pipe::{PipeFlags, pipe_with};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;
use strata_decide::build::PASSED_ON;
use strata_decide::extend::{Part, Step};
use strata_layer::{Compression, Delta, Furniture, LayerError, Packed};
use strata_oci::{Descriptor, Layer};
use strata_phases::extend::{Found, Ground, apply};
use strata_phases::{Event, Failure, Observer};
use strata_sandbox::{
    Child, Group, Ids, Io, Job, Mount, Network, Overlay, Rights, Root, Sandbox, Spec, kill_leftovers,
};
use strata_spec::exit::Exit;
use strata_spec::extend::Kind;
use strata_store::Store;

/// The context, inside: in a folder that is never part of an image.
const CONTEXT: &str = "/dev/.context";

/// What process 1 is asked to do.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Steps {
    /// `id@version`
    extension: String,
    kind: Kind,
    steps: Vec<Step>,
    /// Variables of this machine.
    variables: Vec<(String, String)>,
    /// Why there is no user but root, if that is so.
    alone: Option<String>,
}

/// Makes layers upon these.
pub(super) struct Maker<'a> {
    pub(super) engine: &'a Engine<'a>,
    pub(super) given: &'a Given<'a>,
    pub(super) ids: &'a Result<Ids, String>,
    pub(super) lowers: Vec<PathBuf>,
    pub(super) compression: Compression,
}

impl Maker<'_> {
    /// Makes the layer of a part; `None` if nothing was written.
    pub(super) fn make(self, part: &Part, found: &Found) -> Result<Option<Layer>, Failure> {
        let Engine { args, show, .. } = *self.engine;
        let group = args.limits.limits().group().map_err(|error| sandbox_failure(&error))?;
        let mut spec = self.spec(part, found)?;
        spec.groups = group.as_ref().map(Group::dirs).unwrap_or_default();
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)
            .map_err(|error| Failure::caused(Exit::Extend, "cannot make a pipe", &io::Error::from(error)))?;
        let events = listen(File::from(reader))?;
        let io = Io {
            stdin: Stdio::null(),
            stdout: Stdio::piped(),
            stderr: Stdio::inherit(),
            events: Some(writer),
        };
        let mut child = Sandbox::spawn(&spec, io).map_err(|error| sandbox_failure(&error))?;
        let made = self.follow(&events, &mut child);
        let killed = made.is_err().then(|| child.kill()).transpose();
        let met = group.map(|group| group.met()).unwrap_or_default();
        let met: Vec<String> = met.iter().map(|met| args.limits.told(met)).collect();
        let made = match made {
            Ok(made) => {
                met.into_iter().for_each(|met| show.warn(met));
                made
            }
            Err(mut failure) => {
                failure.causes.extend(met);
                return Err(failure);
            }
        };
        killed.map_err(|error| sandbox_failure(&error))?;
        let Made::Layer(packed, sink) = made else { return Ok(None) };
        sink.commit(&packed.digest, packed.size).map_err(|error| failed("cannot keep the layer", &error))?;
        let media_type = self.compression.media_type(self.given.image.family());
        let descriptor = Descriptor::new(media_type, packed.digest, packed.size);
        Ok(Some(Layer { descriptor, diff_id: packed.diff_id, history: None }))
    }

    fn spec(&self, part: &Part, found: &Found) -> Result<Spec, Failure> {
        let Engine { args, places, work, .. } = *self.engine;
        let proxies = PASSED_ON.iter().filter(|name| name.to_ascii_lowercase().ends_with("_proxy"));
        let of_host = |name: &&str| Some(((*name).to_owned(), places.variable(name)?.to_owned()));
        let asked = Asked::Extend(Box::new(Steps {
            extension: part.label(),
            kind: self.given.kind,
            steps: part.steps.clone(),
            variables: proxies.filter_map(of_host).collect(),
            alone: self.ids.as_ref().err().cloned(),
        }));
        let payload = serde_json::to_value(asked)
            .map_err(|error| Failure::caused(Exit::Extend, "cannot describe the steps", &error))?;
        let context = Mount { source: found.context.clone(), target: CONTEXT.into(), writable: false };
        let id = |id: u64| u32::try_from(id).unwrap_or(0);
        // Where there is one user only, that is root.
        let (uid, gid) = match self.ids {
            Ok(_) => (id(self.given.owner.uid), id(self.given.owner.gid)),
            Err(_) => (0, 0),
        };
        Ok(Spec {
            uid,
            gid,
            ids: self.ids.as_ref().ok().cloned(),
            hostname: "strata".into(),
            root: Root::Layers { lowers: self.lowers.clone(), scratch: work.new_scratch()? },
            network: match args.network {
                NetworkArg::Host => Network::Host,
                NetworkArg::None => Network::None,
            },
            rights: Rights::Root,
            mounts: part.uses_context().then_some(context).into_iter().collect(),
            groups: Vec::new(),
            job: Job::Call { payload },
        })
    }

    /// Shows what happens, and packs what comes of it.
    fn follow(&self, events: &Receiver<String>, child: &mut Child) -> Result<Made, Failure> {
        let Engine { args, show, interrupt, work, .. } = *self.engine;
        let mut room = Room::new(&work.layers, args.limits.keep_free);
        let (mut made, mut failure) = (Made::Nothing, None);
        let mut archive = child.take_stdout();
        loop {
            match events.recv_timeout(Duration::from_millis(30)) {
                Ok(line) => match serde_json::from_str(&line) {
                    Ok(Said::Event(Event::Failed(value))) => failure = Some(value),
                    Ok(Said::Event(event)) => show.event(event),
                    Ok(Said::Written) => made = self.pack(archive.take())?,
                    Ok(_) => {}
                    Err(error) => {
                        let what = "the sandbox said something unknown";
                        return Err(Failure::caused(Exit::Extend, what, &error));
                    }
                },
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {}
            }
            let interrupted = interrupt.asked().then(|| Failure::new(Exit::Interrupted, "interrupted"));
            if let Some(failure) = interrupted.or_else(|| room.is_short()) {
                return Err(failure);
            }
        }
        let exit = child.wait().map_err(|error| sandbox_failure(&error))?;
        match failure {
            Some(failure) => Err(failure),
            None if exit.is_success() => Ok(made),
            None => Err(Failure::new(
                Exit::Extend,
                format!("the sandbox of an extension ended unexpectedly with code {}", exit.code),
            )
            .hint("was it killed, or was the machine out of memory?")),
        }
    }

    /// Packs the archive that process 1 writes. It counts once that has ended well.
    fn pack(&self, archive: Option<ChildStdout>) -> Result<Made, Failure> {
        let Engine { layout, packer, interrupt, .. } = self.engine;
        let Some(mut archive) = archive else { return Ok(Made::Nothing) };
        let mut sink = layout.begin_blob().map_err(|error| failed("cannot keep the layer", &error))?;
        let fill = move |out: &mut dyn Write| {
            let mut buffer = vec![0; 256 << 10];
            loop {
                let count = match archive.read(&mut buffer) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    read => read.map_err(|source| LayerError::Read { source })?,
                };
                let piece = buffer.get(..count).unwrap_or_default();
                if piece.is_empty() {
                    return Ok(());
                }
                if interrupt.asked() {
                    return Err(LayerError::Write { source: io::Error::other("it was interrupted") });
                }
                out.write_all(piece).map_err(|source| LayerError::Write { source })?;
            }
        };
        let packed = packer.pack_with(fill, self.compression, &mut sink);
        let flushed = packed
            .and_then(|packed| sink.flush().map(|()| packed).map_err(|source| LayerError::Write { source }));
        let packed = flushed.map_err(|error| {
            Failure::caused(Exit::Extend, "failed to extend an image: cannot pack the layer", &error)
        })?;
        Ok(Made::Layer(packed, sink))
    }
}

/// What came of steps.
enum Made {
    Nothing,
    Layer(Packed, Box<dyn strata_store::BlobSink>),
}

/// Process 1 of the sandbox; its exit code.
pub(crate) fn run_here(asked: &Steps, events: File, overlay: Option<Overlay>) -> i32 {
    let pipe = Pipe::new(events);
    // Only this program itself asks.
    let Some(overlay) = overlay else { return 1 };
    match written(asked, &overlay.upper(), &overlay.lowers(), &pipe) {
        Ok(()) => 0,
        Err(failure) => {
            let code = failure.exit.code();
            pipe.event(Event::Failed(failure));
            code.into()
        }
    }
}

fn written(asked: &Steps, upper: &Path, lowers: &[PathBuf], pipe: &Pipe) -> Result<(), Failure> {
    let label = &asked.extension;
    let failed = |error: LayerError| {
        let what =
            format!("failed to extend {} image: cannot make the layer of {label}", asked.kind.as_str());
        Failure::caused(Exit::Extend, what, &error)
    };
    let furniture = Furniture::of(upper).map_err(failed)?;
    let context = Path::new(CONTEXT);
    let ground = Ground {
        extension: label,
        kind: asked.kind,
        context: fs::exists(context).unwrap_or(false).then_some(context),
        variables: &asked.variables,
        alone: asked.alone.as_deref(),
        end_leftovers: &kill_leftovers,
    };
    apply(&asked.steps, &ground, pipe)?;
    let delta = Delta::of_overlay(upper, lowers, &furniture).map_err(failed)?;
    for path in delta.capable(upper) {
        pipe.warn(format!(
            "{label}: /{} has capabilities (security.capability), which the layer does not keep",
            path.display()
        ));
    }
    if delta.is_empty() {
        return Ok(());
    }
    pipe.say(&Said::Written);
    let out =
        io::stdout().as_fd().try_clone_to_owned().map_err(|source| failed(LayerError::Write { source }))?;
    delta.write(upper, &mut File::from(out)).map_err(failed)
}
