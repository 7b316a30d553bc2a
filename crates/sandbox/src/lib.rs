//! A build environment without a daemon and without root: namespaces and overlay mounts.
//!
//! A process with several threads cannot enter a user namespace, so the program starts itself anew: the first
//! process of a sandbox makes the namespaces, its child is process 1 in them, builds the root and runs the job.
//! A program that uses [`Sandbox`] therefore calls [`enter_if_asked`] first thing in `main`.
//!
//! Inside, nobody has a capability over the machine, even if the caller is its root. What a sandbox does not
//! isolate unless that is asked for: the network, and how much memory, time and processes it takes.

mod apart;
mod error;
mod hint;
mod ids;
mod limits;
mod mounts;
mod network;
mod parent;
mod reap;
mod root;
mod spec;
mod stage;
mod terminal;
mod workdir;

pub use apart::{Apart, Written, see_below};
pub use error::SandboxError;
pub use ids::Ids;
pub use limits::{Group, Limits, Met};
pub use parent::{Child, Exit, Sandbox, call_with, probe};
pub use reap::kill_leftovers;
pub use spec::{Call, Io, Job, Mount, Network, Overlay, Rights, Root, Spec};
pub use stage::{SANDBOX_ARG, enter_if_asked};
pub use terminal::on_terminal;
pub use workdir::{Swept, WorkDir, remove_all};
