//! Runs the programs that read Mercurial's and Subversion's repositories where they can change nothing.
//!
//! A repository may come from anywhere, and these programs trust it: they write caches through its links, finish what a
//! journal says, and read what it includes. So they see it read-only, in a sandbox that throws away what is written
//! elsewhere, without network, without power, without where people keep secrets, and with limits.

use super::{Search, Unknown, program};
use crate::build::hidden::hidden;
use rustix::process::{getgid, getuid};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use strata_sandbox::{Io, Job, Mount, Network, Rights, Root, Sandbox, Spec};
use strata_store::validate::chain;

/// Sets the limits and becomes the program: memory in KiB, files in blocks of 512 bytes, seconds of a processor.
const SCRIPT: &str =
    "ulimit -c 0 && ulimit -d 1048576 && ulimit -f 131072 && ulimit -t 60 && exec \"$0\" \"$@\"";
/// The user inside, when the caller is root: somebody who has no power there either.
const ORDINARY: u32 = 1000;
/// An empty folder inside.
pub(super) const EMPTY: &str = "/tmp";

/// A repository, and what programs are given to read it.
pub(super) struct Sandboxed<'a> {
    pub(super) search: &'a Search<'a>,
    /// The folder that the repository's own is in; its real path.
    pub(super) top: &'a Path,
    /// Variables beside the usual ones.
    pub(super) env: &'static [(&'static str, &'static str)],
    /// The complaint when there is no such program.
    pub(super) absent: &'static str,
}

impl Sandboxed<'_> {
    /// What a program says, started in a folder. Of what it complains of nothing is told: that can be a part of any file.
    pub(super) fn output(&self, name: &str, args: &[&str], dir: &Path) -> Result<Vec<u8>, Unknown> {
        let Search { places, scratch, interrupt, .. } = self.search;
        let path = places.variable("PATH").unwrap_or_default();
        let file = on_path(path, name).ok_or(self.absent)?;
        let file = file.to_str().ok_or_else(|| format!("the path of {name} is not UTF-8"))?;
        let argv = ["/bin/sh", "-c", SCRIPT, file].into_iter().chain(args.iter().copied()).map(str::to_owned);
        let usual = [("PATH", path), ("HOME", EMPTY), ("LC_ALL", "C.UTF-8")];
        let env = usual.iter().chain(self.env).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        // It is removed with the rest of the work.
        let own = tempfile::Builder::new().prefix("source-").tempdir_in(scratch).map(tempfile::TempDir::keep);
        let own = own.map_err(|error| format!("cannot make a folder in {}: {error}", scratch.display()))?;
        let id = |id: u32| if id == 0 { ORDINARY } else { id };
        let spec = Spec {
            uid: id(getuid().as_raw()),
            gid: id(getgid().as_raw()),
            ids: None,
            hostname: "strata".into(),
            root: Root::Host { hide: hidden(places, std::iter::empty()), scratch: own },
            network: Network::None,
            rights: Rights::User,
            mounts: vec![Mount { source: self.top.into(), target: self.top.into(), writable: false }],
            groups: Vec::new(),
            job: Job::Exec { argv: argv.collect(), env: env.collect(), cwd: dir.into() },
        };
        let io = Io { stdin: Stdio::null(), stdout: Stdio::piped(), stderr: Stdio::null(), events: None };
        let failed = |error| format!("cannot run {name} in a sandbox: {}", chain(&error));
        let mut child = Sandbox::spawn(&spec, io).map_err(failed)?;
        let said = program::read(child.take_stdout(), program::MAX_OUTPUT);
        let output = program::wait(name, &said, interrupt);
        let exit = if output.is_ok() { child.wait() } else { child.kill() }.map_err(failed)?;
        let output = output?;
        if exit.is_success() { Ok(output) } else { Err(format!("{name} failed with code {}", exit.code)) }
    }
}

/// Where a program is. Folders that are named from the current one do not count: that may be the app's.
fn on_path(path: &str, name: &str) -> Option<PathBuf> {
    let dirs = std::env::split_paths(path).filter(|dir| dir.is_absolute());
    dirs.map(|dir| dir.join(name)).find(|file| {
        file.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    })
}

/// Refuses a repository that somebody else put there. Its files name others to read, which the caller may read and its owner
/// may not, root's above all; inside the sandbox the caller is itself towards files.
pub(super) fn check_owner(own: &Path) -> Result<(), Unknown> {
    let failed = |error: std::io::Error| format!("{}: {error}", own.display());
    for metadata in [own.symlink_metadata().map_err(failed)?, own.metadata().map_err(failed)?] {
        if !is_callers(metadata.uid()) {
            return Err(format!(
                "{} belongs to another user: what is in it is believed, so only its owner can have it read",
                own.display()
            ));
        }
    }
    Ok(())
}

fn is_callers(uid: u32) -> bool {
    uid == rustix::process::geteuid().as_raw()
}
