//! Starts a sandbox and watches it from outside.
//!
//! Nothing is inherited by number: the child opens the parent's files through `/proc/<parent>/fd`, so that no other
//! child of a program with many threads ever gets hold of them.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::pipe::{PipeFlags, pipe_with};
use serde::{Deserialize, Serialize};

use crate::error::Failure;
use crate::reap::code_of;
use crate::spec::{Io, Spec};
use crate::stage::SANDBOX_ARG;
use crate::{Ids, SandboxError, hint};

/// What a process of the sandbox is told by the one that started it. The numbers are open files of the latter.
#[derive(Serialize, Deserialize)]
pub(crate) struct Envelope {
    pub(crate) errand: Errand,
    /// A pipe to write one [`Report`] to.
    pub(crate) report: RawFd,
    /// A pipe to read, which ends when the sandbox shall.
    pub(crate) life: RawFd,
    pub(crate) events: Option<RawFd>,
}

/// What the processes are started for.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) enum Errand {
    /// Only the namespaces are tried.
    Probe(Option<Ids>),
    /// A sandbox.
    Run(Box<Spec>),
    /// A function that has these ids, and all power over what belongs to them, but is in no sandbox.
    Call { ids: Ids, payload: serde_json::Value },
    /// The removal of what belongs to all ids that the caller may have.
    Remove { ids: Ids, path: PathBuf },
}

/// What came of the setup.
#[derive(Serialize, Deserialize)]
pub(crate) enum Report {
    Ready,
    Failed(Failure),
}

/// Runs sandboxes.
#[derive(Debug)]
pub struct Sandbox;

impl Sandbox {
    /// Builds a sandbox and starts its job. It returns when the job runs; what fails before is the error.
    pub fn spawn(spec: &Spec, io: Io) -> Result<Child, SandboxError> {
        start(Errand::Run(Box::new(spec.clone())), io)
    }
}

/// Tries to make the namespaces of a sandbox, and says what stands in the way.
pub fn probe() -> Result<(), SandboxError> {
    start(Errand::Probe(None), silent())?.wait().map(|_| ())
}

/// The same with these ids.
pub(crate) fn probe_with(ids: &Ids) -> Result<(), SandboxError> {
    start(Errand::Probe(Some(ids.clone())), silent())?.wait().map(|_| ())
}

/// Runs the function given to [`enter_if_asked`](crate::enter_if_asked) as the caller among these ids, with all power
/// over files that belong to them, and outside of any sandbox: what it is given must be trusted.
pub fn call_with(ids: &Ids, payload: serde_json::Value, io: Io) -> Result<Child, SandboxError> {
    start(Errand::Call { ids: ids.clone(), payload }, io)
}

/// Removes a directory with all that belongs to any of the caller's ids.
pub(crate) fn remove_with(ids: Ids, path: &Path) -> Result<Exit, SandboxError> {
    start(Errand::Remove { ids, path: path.to_owned() }, silent())?.wait()
}

fn silent() -> Io {
    Io { stdin: Stdio::null(), stdout: Stdio::null(), stderr: Stdio::null(), events: None }
}

fn start(errand: Errand, io: Io) -> Result<Child, SandboxError> {
    let failed = |action| move |source: io::Error| SandboxError::Start { action, source };
    let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(|errno| failed("make a pipe")(errno.into()));
    let (report_reader, report_writer) = pipe()?;
    let (life_reader, life_writer) = pipe()?;
    let envelope = Envelope {
        errand,
        report: report_writer.as_raw_fd(),
        life: life_reader.as_raw_fd(),
        events: io.events.as_ref().map(AsRawFd::as_raw_fd),
    };
    let json = serde_json::to_vec(&envelope).map_err(|source| SandboxError::Encode { source })?;
    let letter = in_memory(&json).map_err(failed("hand over its description"))?;
    let child = itself(SANDBOX_ARG, &letter)
        .stdin(io.stdin)
        .stdout(io.stdout)
        .stderr(io.stderr)
        .spawn()
        .map_err(failed("start this program again"))?;
    let mut child = Child { process: child, life: Some(life_writer), exit: None };
    // The child keeps the parent's ends open only through its own, so a pipe without a writer is a dead child. Our
    // ends must live until it has opened them, which the report tells; a child that dies unheard is caught by `hear`.
    let report = hear(&mut child, report_reader, report_writer)?;
    drop((letter, life_reader, io.events));
    match report {
        Some(Report::Ready) => Ok(child),
        Some(Report::Failed(Failure { message, hint })) => {
            child.wait()?;
            Err(SandboxError::Setup { message, hint })
        }
        None => {
            let code = child.wait()?.code;
            let message = format!("its process ended with code {code} before it was ready");
            Err(SandboxError::Setup { message, hint: hint::for_namespaces() })
        }
    }
}

/// Waits for the report, or for the end of a child that makes none.
fn hear(child: &mut Child, reader: OwnedFd, writer: OwnedFd) -> Result<Option<Report>, SandboxError> {
    use rustix::event::{PollFd, PollFlags, poll};
    use rustix::process::{Pid, PidfdFlags, pidfd_open};

    let failed = |source| SandboxError::Wait { source };
    let ended = pidfd_open(Pid::from_child(&child.process), PidfdFlags::empty())
        .map_err(|errno| failed(errno.into()))?;
    let mut sources = [PollFd::new(&reader, PollFlags::IN), PollFd::new(&ended, PollFlags::IN)];
    loop {
        match poll(&mut sources, None) {
            Ok(_) => break,
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(failed(errno.into())),
        }
    }
    // Either it is written, and its writers close soon, or nobody is left to write.
    drop(writer);
    let mut json = Vec::new();
    let mut reader = io::BufReader::new(File::from(reader));
    io::BufRead::read_until(&mut reader, b'\n', &mut json).map_err(failed)?;
    Ok(serde_json::from_slice(&json).ok())
}

/// A file without a name that holds these bytes.
pub(crate) fn in_memory(bytes: &[u8]) -> io::Result<File> {
    let mut file = File::from(memfd_create("strata-sandbox", MemfdFlags::CLOEXEC)?);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file)
}

/// The command that starts this program again as a process of the sandbox.
pub(crate) fn itself(arg: &str, letter: &File) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command
        .arg0("strata-sandbox")
        .arg(arg)
        .arg(std::process::id().to_string())
        .arg(letter.as_raw_fd().to_string());
    command
}

/// A running sandbox. When dropped, it is killed.
#[derive(Debug)]
pub struct Child {
    process: std::process::Child,
    /// The sandbox ends when this does, so also when the caller dies.
    life: Option<OwnedFd>,
    exit: Option<Exit>,
}

/// How a job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Its exit code, or 128 and the number of the signal that ended it.
    pub code: i32,
}

impl Exit {
    /// Whether the code is 0.
    pub fn is_success(self) -> bool {
        self.code == 0
    }
}

impl Child {
    /// Waits until no process of the sandbox is left. May be called again.
    pub fn wait(&mut self) -> Result<Exit, SandboxError> {
        if let Some(exit) = self.exit {
            return Ok(exit);
        }
        let status = self.process.wait().map_err(|source| SandboxError::Wait { source })?;
        Ok(*self.exit.insert(Exit { code: code_of(status) }))
    }

    /// Kills every process of the sandbox and waits until they are gone. Harmless when it has already ended.
    pub fn kill(&mut self) -> Result<Exit, SandboxError> {
        self.life = None;
        self.wait()
    }

    /// The process id, outside, of the first process of the sandbox.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// What the sandbox writes, if [`Io::stdout`] is a pipe.
    pub fn take_stdout(&mut self) -> Option<std::process::ChildStdout> {
        self.process.stdout.take()
    }

    /// What the sandbox writes to its standard error, if [`Io::stderr`] is a pipe.
    pub fn take_stderr(&mut self) -> Option<std::process::ChildStderr> {
        self.process.stderr.take()
    }

    /// What the sandbox reads, if [`Io::stdin`] is a pipe.
    pub fn take_stdin(&mut self) -> Option<std::process::ChildStdin> {
        self.process.stdin.take()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // There is nobody to tell; the sandbox ends with the closed pipe in any case.
        drop(self.kill());
    }
}

/// Reads a letter of another process.
pub(crate) fn read_letter(process: &str, fd: &str) -> Result<Envelope, Failure> {
    use crate::error::Doing;
    let mut json = Vec::new();
    open_of(process, fd, File::options().read(true))
        .and_then(|mut file| file.read_to_end(&mut json))
        .doing("read the description")?;
    serde_json::from_slice(&json)
        .map_err(|error| Failure::new(format!("cannot understand the description: {error}")))
}

/// Opens a file that another process has open.
pub(crate) fn open_of(
    process: &str,
    fd: impl std::fmt::Display,
    options: &std::fs::OpenOptions,
) -> io::Result<File> {
    options.open(format!("/proc/{process}/fd/{fd}"))
}
