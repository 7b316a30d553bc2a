//! What the program outside and process 1 of the sandbox say to each other.

use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::Write;
use std::sync::Mutex;
use strata_phases::detect::Explained;
use strata_phases::{Event, Observer};
use strata_spec::analyzed::RunImage;
use strata_spec::group::GroupElement;
use strata_spec::labels::LifecycleMetadata;
use strata_spec::sealed::{Policy, SealedLayers};

/// The app, inside.
pub(crate) const APP: &str = "/workspace";
/// Layers, inside.
pub(crate) const LAYERS: &str = "/layers";
/// The platform's folder, inside.
pub(crate) const PLATFORM: &str = "/platform";
/// Buildpacks, inside.
pub(crate) const BUILDPACKS: &str = "/cnb/buildpacks";
/// Where extensions are inside.
pub(crate) const EXTENSIONS: &str = "/cnb/extensions";
/// What the operator sets for buildpacks, inside.
pub(crate) const BUILD_CONFIG: &str = "/cnb/build-config";

/// What the program outside asks for.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Task {
    /// Whether nothing is built, and what detection found is told instead.
    pub(crate) is_plan: bool,
    /// Groups of `id`, `version`, `optional`.
    pub(crate) order: Vec<Vec<(String, String, bool)>>,
    /// The same of image extensions.
    pub(crate) order_extensions: Vec<Vec<(String, String, bool)>>,
    /// How far it goes.
    pub(crate) scope: Scope,
    /// The run image that extensions may exchange.
    pub(crate) run_image: RunImage,
    /// Run images that the builder or the person names.
    pub(crate) known_run_images: Vec<String>,
    pub(crate) os: String,
    pub(crate) arch: String,
    pub(crate) variant: String,
    pub(crate) distro: Option<(String, String)>,
    pub(crate) exec_env: String,
    pub(crate) variables: Vec<(String, String)>,
    /// Whether a report will tell which layers there were while buildpacks ran.
    pub(crate) is_reported: bool,
    /// How layers are compressed, if that was asked for.
    pub(crate) compression: Option<String>,
    /// User and group of layers in the image.
    pub(crate) owner: (u64, u64),
    /// What was asked for on the command line.
    pub(crate) sealed_layers: Option<Policy>,
    /// What the label of the previous image says.
    pub(crate) previous: Option<LifecycleMetadata>,
    /// What the builder's operator says, when that is known outside.
    pub(crate) operator: Option<SealedLayers>,
    /// The builder image's own lifecycle, if its phases are to run.
    pub(crate) theirs: Option<Described>,
    /// The kind of the person's terminal, if a build that fails ends in a shell.
    pub(crate) debug_shell: Option<String>,
    /// Whether the files are those of an image, which may leave out what container engines add to its environment.
    pub(crate) is_image: bool,
}

/// What a sandbox is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Scope {
    /// Detection and build.
    Whole,
    /// Detection and what image extensions generate.
    Detection,
    /// The build, of what detection has left in the layers directory.
    Build,
}

/// What process 1 tells the program outside.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Said {
    /// Something happened.
    Event(Event),
    /// This group builds; no process of detection is left. The layers of earlier builds are to be brought now, and a
    /// byte on standard input says that they are there.
    Waiting(Vec<GroupElement>),
    /// What detection found, where that is all that was asked for.
    Explained(Box<Explained>),
    /// A `bin/build` failed, and a shell is to be tried in its place. The answer is a byte, and then what is typed at the
    /// terminal.
    Shell(Failed),
    /// The shell ended.
    ShellEnded,
    /// Image extensions have generated.
    Generated(Generated),
    /// Something was written to an image; its archive follows on standard output.
    Written,
}

/// What image extensions want.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Generated {
    /// The image that is to take the place of the run image.
    pub(crate) run_image: Option<String>,
    /// Whether the run image is to be extended.
    pub(crate) extends_run: bool,
}

/// What is known of a builder image's lifecycle.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Described {
    pub(super) version: String,
    /// Platform APIs.
    pub(super) apis: Vec<String>,
}

/// A `bin/build` that failed.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Failed {
    pub(super) buildpack: String,
    /// The program and its arguments, as one types them.
    pub(super) again: String,
}

/// Where process 1 is heard.
pub(crate) struct Pipe(Mutex<File>);

impl Pipe {
    pub(crate) fn new(events: File) -> Self {
        Self(Mutex::new(events))
    }

    pub(crate) fn say(&self, said: &Said) {
        let Ok(mut line) = serde_json::to_vec(said) else { return };
        line.push(b'\n');
        let mut pipe = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // When nobody listens any more, this process is about to be killed.
        pipe.write_all(&line).unwrap_or_default();
    }
}

impl Observer for Pipe {
    fn event(&self, event: Event) {
        self.say(&Said::Event(event));
    }
}
