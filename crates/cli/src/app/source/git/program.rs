//! `git`, for a repository that it does not see.

use crate::app::source::{Search, program};
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

/// The complaint when there is no `git`.
pub(crate) const NO_PROGRAM: &str = "there is a Git repository, but no program git";
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
        program::output(command, NO_PROGRAM, self.search.interrupt)
    }
}
