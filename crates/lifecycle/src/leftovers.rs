//! Processes that buildpacks leave behind.

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, set_child_subreaper, waitpid};
use std::io;

/// Makes this process the parent of what its children leave behind, so that it can be ended.
///
/// # Errors
/// When the kernel does not let it.
pub(crate) fn adopt() -> io::Result<()> {
    Ok(set_child_subreaper(Some(getpid()))?)
}

/// Ends all children, and what those leave behind; says how many there were. No child may be in use.
///
/// # Errors
/// When they cannot be found. Those that have become another user's are passed over.
pub(crate) fn end() -> io::Result<usize> {
    let mut ended = 0;
    let mut passed_over = Vec::new();
    loop {
        let mut alive = children()?;
        alive.retain(|child| !passed_over.contains(child));
        if alive.is_empty() {
            return Ok(ended);
        }
        for child in alive {
            match kill_process(child, Signal::KILL) {
                Ok(()) | Err(Errno::SRCH) => match waitpid(Some(child), WaitOptions::empty()) {
                    Ok(_) => ended += 1,
                    Err(Errno::CHILD) => {}
                    Err(error) => return Err(error.into()),
                },
                Err(Errno::PERM) => passed_over.push(child),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// The children of this process. Without /proc there are none that one could know of.
fn children() -> io::Result<Vec<Pid>> {
    let own = getpid().as_raw_nonzero().get().to_string();
    let entries = match std::fs::read_dir("/proc") {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut children = Vec::new();
    for entry in entries {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // It may have ended since.
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        // The name of the program stands in parentheses, and may hold anything.
        let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1));
        if parent == Some(own.as_str()) {
            children.extend(Pid::from_raw(pid));
        }
    }
    Ok(children)
}
