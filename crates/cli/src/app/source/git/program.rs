//! Runs `git`, with limits.

use crate::app::source::Search;
use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};
use strata_layer::threads::refused;
use tempfile::TempDir;

/// The complaint when there is no `git`.
pub(crate) const NO_PROGRAM: &str = "there is a Git repository, but no program git";
/// What one `git` may say, in bytes.
const MAX_OUTPUT: u64 = 256 << 20;
/// How long one `git` may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// The variables of this machine that `git` gets.
const PASSED_ON: [&str; 5] = ["PATH", "HOME", "XDG_CONFIG_HOME", "TMPDIR", "USER"];
/// Settings that win over the user's: nothing is to be started, fetched or written.
const SETTINGS: [&str; 6] = [
    "core.fsmonitor=false",
    "core.hooksPath=/dev/null",
    "core.untrackedCache=false",
    "log.showSignature=false",
    "submodule.recurse=false",
    "status.submoduleSummary=false",
];

/// The program, for one repository.
pub(super) struct Program<'a> {
    search: &'a Search<'a>,
    dir: TempDir,
    variables: Vec<(&'static str, OsString)>,
    is_ready: bool,
}

impl<'a> Program<'a> {
    pub(super) fn new(
        search: &'a Search<'a>,
        dir: TempDir,
        top: &Path,
        objects: &Path,
        index: &Path,
    ) -> Self {
        let variables = vec![
            ("GIT_DIR", dir.path().into()),
            ("GIT_WORK_TREE", top.into()),
            ("GIT_OBJECT_DIRECTORY", objects.into()),
            ("GIT_INDEX_FILE", index.into()),
            ("GIT_OPTIONAL_LOCKS", "0".into()),
            ("GIT_NO_LAZY_FETCH", "1".into()),
            ("GIT_ALLOW_PROTOCOL", "".into()),
            ("GIT_TERMINAL_PROMPT", "0".into()),
            ("GIT_LITERAL_PATHSPECS", "1".into()),
            ("GIT_NO_REPLACE_OBJECTS", "1".into()),
            ("GIT_PAGER", "cat".into()),
            ("LC_ALL", "C".into()),
        ];
        Self { search, dir, variables, is_ready: false }
    }

    /// Git's directory.
    pub(super) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// From now on Git's directory is one, and paths are from the top of the work tree.
    pub(super) fn is_ready(&mut self) {
        self.is_ready = true;
    }

    /// What a command says, as text.
    pub(super) fn text(&self, args: &[&str]) -> Result<String, String> {
        let output = self.output(args.iter().map(OsStr::new))?;
        Ok(String::from_utf8_lossy(&output).into_owned())
    }

    /// What a command says; if it fails, what it says of that.
    pub(super) fn output<'s>(&self, args: impl IntoIterator<Item = &'s OsStr>) -> Result<Vec<u8>, String> {
        let mut command = Command::new("git");
        let places = self.search.places;
        command.env_clear().envs(PASSED_ON.iter().filter_map(|name| Some((name, places.variable(name)?))));
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        // Git leaves its working directory for the top of the work tree.
        let work_tree =
            self.variables.iter().find(|(name, _)| *name == "GIT_WORK_TREE").filter(|_| self.is_ready);
        command.current_dir(work_tree.map_or(self.dir.path(), |(_, top)| Path::new(top)));
        command.args(SETTINGS.iter().flat_map(|setting| ["-c", setting])).args(args);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => NO_PROGRAM.to_owned(),
            _ => format!("cannot run git: {error}"),
        })?;
        let said = read(child.stdout.take(), MAX_OUTPUT);
        let complaint = read(child.stderr.take(), 4096);
        let output = self.wait(&said);
        if output.is_err() {
            // It may have ended by itself.
            child.kill().unwrap_or_default();
        }
        let status = child.wait().map_err(|error| format!("cannot run git: {error}"))?;
        let output = output?;
        if status.success() {
            return Ok(output);
        }
        let complaint = complaint.recv_timeout(Duration::from_secs(1)).unwrap_or_else(|_| Ok(Vec::new()));
        let complaint = String::from_utf8_lossy(&complaint.unwrap_or_default()).trim().to_owned();
        Err(complaint.replace('\n', ": ").replace(char::is_control, " "))
    }

    fn wait(&self, said: &Receiver<io::Result<Vec<u8>>>) -> Result<Vec<u8>, String> {
        let start = Instant::now();
        loop {
            match said.recv_timeout(Duration::from_millis(30)) {
                Ok(output) => return output.map_err(|error| format!("cannot read what git says: {error}")),
                Err(RecvTimeoutError::Disconnected) => return Err("cannot read what git says".to_owned()),
                Err(RecvTimeoutError::Timeout) if self.search.interrupt.asked() => {
                    return Err("interrupted".to_owned());
                }
                Err(RecvTimeoutError::Timeout) if start.elapsed() > PATIENCE => {
                    return Err(format!("git took longer than {} seconds", PATIENCE.as_secs()));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }
}

/// Reads to the end, beside everything else. More than the limit is an error.
fn read(stream: Option<impl Read + Send + 'static>, limit: u64) -> Receiver<io::Result<Vec<u8>>> {
    let (sender, receiver) = channel();
    // Detached on purpose: a program that git has left behind may keep the stream open.
    let refused_to = sender.clone();
    let started = std::thread::Builder::new().spawn(move || {
        let mut bytes = Vec::new();
        let outcome = match stream {
            Some(stream) => stream.take(limit + 1).read_to_end(&mut bytes).map(drop),
            None => Ok(()),
        };
        let is_large = bytes.len() as u64 > limit;
        let outcome =
            outcome.and_then(|()| if is_large { Err(io::Error::other("it is too much")) } else { Ok(bytes) });
        // Nobody waits any more.
        sender.send(outcome).unwrap_or_default();
    });
    if let Err(error) = started {
        // The receiver is here.
        refused_to.send(Err(refused(&error))).unwrap_or_default();
    }
    receiver
}
