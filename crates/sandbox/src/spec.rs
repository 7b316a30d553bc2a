//! What a sandbox looks like from inside and what runs in it.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::process::Stdio;

use serde::{Deserialize, Serialize};

use crate::Ids;

/// A sandbox before it runs. All paths are absolute; they must be UTF-8.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Spec {
    /// The user id seen inside. Outside it is the caller's.
    pub uid: u32,
    /// The group id seen inside. Outside it is the caller's.
    pub gid: u32,
    /// Who else there is. Without it everything belongs to the one user that there is.
    pub ids: Option<Ids>,
    /// The host name seen inside; by convention `strata`.
    pub hostname: String,
    /// Where the files come from.
    pub root: Root,
    /// What it reaches.
    pub network: Network,
    /// What programs may do there.
    pub rights: Rights,
    /// What is mounted over them, in this order.
    pub mounts: Vec<Mount>,
    /// Control groups that it joins, see [`Group::dirs`](crate::Group::dirs).
    pub groups: Vec<PathBuf>,
    /// What runs.
    pub job: Job,
}

/// What a sandbox reaches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    /// All that this machine reaches, and what listens on it.
    #[default]
    Host,
    /// Itself.
    None,
}

/// What programs may do in a sandbox. Nobody has power over the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rights {
    /// What any user may.
    #[default]
    User,
    /// What root may in a container: the job is user 0, whoever the caller is inside, and /tmp is the image's own. Only
    /// for [`Root::Layers`]. Without [`Spec::ids`] there is no other user for it to become.
    Root,
}

/// Where the files of a sandbox come from. Changes to them end in `scratch` and never reach their origin.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Root {
    /// The files of this machine.
    Host {
        /// Directories that are empty inside, and files that are absent.
        hide: Vec<PathBuf>,
        /// An existing directory of the caller, on a disk, that no other running sandbox uses.
        scratch: PathBuf,
    },
    /// The unpacked layers of an image.
    Layers {
        /// One directory per layer, the topmost first. Whiteouts are those of overlayfs.
        lowers: Vec<PathBuf>,
        /// An existing directory of the caller, on a disk, that no other running sandbox uses.
        scratch: PathBuf,
    },
}

/// A file or directory of this machine that is seen inside.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Mount {
    /// Its path outside.
    pub source: PathBuf,
    /// Its path inside; created where missing.
    pub target: PathBuf,
    /// Whether the sandbox may change it.
    pub writable: bool,
}

/// What runs in a sandbox.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Job {
    /// One program. All it left running is killed when it ends.
    Exec {
        /// The program and its arguments.
        argv: Vec<String>,
        /// Its whole environment.
        env: Vec<(String, String)>,
        /// Its working directory, inside.
        cwd: PathBuf,
    },
    /// The function given to [`enter_if_asked`](crate::enter_if_asked), as process 1 of the sandbox.
    Call {
        /// Handed on as it is.
        payload: serde_json::Value,
    },
}

/// A [`Job::Call`] as the function that runs it sees it.
#[derive(Debug)]
pub struct Call {
    /// The payload of the job.
    pub payload: serde_json::Value,
    /// The writing end of [`Io::events`]. Programs started by the function do not inherit it.
    pub events: Option<File>,
    /// What was written, where the job has [`Rights::Root`].
    pub overlay: Option<Overlay>,
}

/// The parts of the overlay that is the root of a sandbox, as long as this value lives. Programs that process 1 starts
/// have no way to them.
#[derive(Debug)]
pub struct Overlay {
    upper: OwnedFd,
    lowers: Vec<OwnedFd>,
}

impl Overlay {
    pub(crate) fn new(upper: OwnedFd, lowers: Vec<OwnedFd>) -> Self {
        Self { upper, lowers }
    }

    /// The upper directory: what was written, and whiteouts.
    pub fn upper(&self) -> PathBuf {
        by_number(&self.upper)
    }

    /// The lower directories, the topmost first.
    pub fn lowers(&self) -> Vec<PathBuf> {
        self.lowers.iter().map(by_number).collect()
    }
}

/// A path that is a directory, not a link to one.
fn by_number(file: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/.", file.as_raw_fd()))
}

/// The open files of a sandbox.
#[derive(Debug)]
pub struct Io {
    /// Standard input.
    pub stdin: Stdio,
    /// Standard output.
    pub stdout: Stdio,
    /// Standard error.
    pub stderr: Stdio,
    /// A pipe or a file, open for writing, for [`Call::events`]. A socket is refused.
    pub events: Option<OwnedFd>,
}

impl Io {
    /// The caller's own standard files, and no events.
    pub fn inherit() -> Self {
        Self { stdin: Stdio::inherit(), stdout: Stdio::inherit(), stderr: Stdio::inherit(), events: None }
    }
}
