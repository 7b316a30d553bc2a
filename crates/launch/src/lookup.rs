//! Finds the program of a process that is started without a shell.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Why there is no program to start.
#[derive(Debug, PartialEq, Eq)]
pub enum LookupError<E> {
    /// No directory of `PATH` holds it.
    NotFound,
    /// A relative entry of `PATH` holds it: what would run depends on where the process happens to be.
    RelativeEntry,
    /// The command is itself a path, and cannot be executed.
    Unusable(E),
}

impl<E: std::fmt::Display> std::fmt::Display for LookupError<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotFound => f.write_str("executable file not found in $PATH"),
            Self::RelativeEntry => f.write_str("cannot run executable found relative to current directory"),
            Self::Unusable(error) => error.fmt(f),
        }
    }
}

impl<E: std::error::Error> std::error::Error for LookupError<E> {}

/// Finds `command` in `path`, a list separated by colons, or takes it as it is if it contains a slash.
///
/// `check` tells whether a file can be executed.
///
/// # Errors
/// If there is no such program, or only below a relative entry of `path`.
pub fn look_path<E>(
    command: &OsStr,
    path: Option<&OsStr>,
    mut check: impl FnMut(&Path) -> Result<(), E>,
) -> Result<PathBuf, LookupError<E>> {
    if command.as_bytes().contains(&b'/') {
        let program = PathBuf::from(command);
        return check(&program).map(|()| program).map_err(LookupError::Unusable);
    }
    let path = path.filter(|path| !path.is_empty()).ok_or(LookupError::NotFound)?;
    for dir in path.as_bytes().split(|&b| b == b':') {
        let dir: &[u8] = if dir.is_empty() { b"." } else { dir };
        let program = Path::new(OsStr::from_bytes(dir)).join(command);
        if check(&program).is_ok() {
            return if program.is_absolute() { Ok(program) } else { Err(LookupError::RelativeEntry) };
        }
    }
    Err(LookupError::NotFound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_as_a_shell_would_but_never_below_a_relative_entry() {
        let found = |path: &str| Ok(PathBuf::from(path));
        for (command, path, expected) in [
            ("ls", Some("/usr/bin:/bin"), found("/bin/ls")),
            ("ls", Some("/nowhere"), Err(LookupError::NotFound)),
            ("ls", Some(""), Err(LookupError::NotFound)),
            ("ls", None, Err(LookupError::NotFound)),
            ("tool", Some(".:/bin"), Err(LookupError::RelativeEntry)),
            ("tool", Some("/bin:"), Err(LookupError::RelativeEntry)),
            ("sub", Some("dir:/bin"), Err(LookupError::RelativeEntry)),
            ("/bin/ls", None, found("/bin/ls")),
            ("./tool", None, found("./tool")),
            ("./other", Some("/bin"), Err(LookupError::Unusable("no"))),
        ] {
            let check = |file: &Path| match file.to_str() {
                Some("/bin/ls" | "./tool" | "dir/sub") => Ok(()),
                _ => Err("no"),
            };
            let actual = look_path(OsStr::new(command), path.map(OsStr::new), check);
            assert_eq!(actual, expected, "{command} {path:?}");
        }
    }
}
