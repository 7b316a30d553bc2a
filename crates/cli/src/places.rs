//! The only reader of the environment: where things are kept, and what is passed on.

#![expect(clippy::disallowed_methods, reason = "this is the one reader of the environment")]

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use strata_decide::detect::home_of;
use strata_phases::Failure;
use strata_spec::exit::Exit;

/// What the names of folders start with whose layers have files of several users.
const MAPPED: &str = "layers-of-";

/// What the environment says.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    /// `$XDG_DATA_HOME/strata`.
    pub(crate) data: PathBuf,
    /// `$XDG_CACHE_HOME/strata`.
    pub(crate) cache: PathBuf,
    /// `$XDG_STATE_HOME/strata`.
    pub(crate) state: PathBuf,
    /// The user's home, when there is one.
    pub(crate) home: Option<PathBuf>,
    /// `SOURCE_DATE_EPOCH`, as written.
    pub(crate) source_date_epoch: Option<String>,
    /// The current folder.
    pub(crate) current: PathBuf,
    /// The time, to which ages of caches refer. Nothing that is built depends on it.
    pub(crate) now: SystemTime,
    variables: BTreeMap<String, String>,
}

impl Places {
    /// # Errors
    /// When there is no place for images, caches or logs that only the caller and root can change.
    pub(crate) fn from_environment() -> Result<Self, Failure> {
        let absolute = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let user = rustix::process::geteuid().as_raw();
        let home = home(absolute("HOME"), user);
        let place = |name: &str, tail: &str| match absolute(name) {
            Some(dir) => Ok(dir.join("strata")),
            None => below_home(home.as_deref(), &Path::new(tail).join("strata"), user),
        };
        let text =
            |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
        Ok(Self {
            data: place("XDG_DATA_HOME", ".local/share")?,
            state: place("XDG_STATE_HOME", ".local/state")?,
            cache: place("XDG_CACHE_HOME", ".cache")?,
            source_date_epoch: env::var("SOURCE_DATE_EPOCH").ok().filter(|text| !text.is_empty()),
            current: env::current_dir().unwrap_or_else(|_| PathBuf::from("/")),
            // Variables that are not UTF-8 cannot be asked for by name on the command line either.
            now: SystemTime::now(),
            variables: env::vars_os().filter_map(text).collect(),
            home,
        })
    }

    /// The user's home, when there is one.
    pub(crate) fn home(&self) -> Option<&Path> {
        self.home.as_deref()
    }

    /// The same, later.
    pub(crate) fn later(&self) -> Self {
        Self { now: SystemTime::now(), ..self.clone() }
    }

    /// The embedded image store.
    pub(crate) fn images(&self, asked: Option<&Path>) -> PathBuf {
        asked.map_or_else(|| self.data.join("images"), |dir| self.current.join(dir))
    }

    /// The folders with all that is kept from one build to the next.
    pub(crate) fn kept(&self) -> [&Path; 3] {
        [&self.data, &self.cache, &self.state]
    }

    /// What is known here of images in daemons.
    pub(crate) fn records(&self) -> PathBuf {
        self.data.join("daemon-images")
    }

    /// Unpacked layers, to run images from.
    pub(crate) fn unpacked_layers(&self) -> PathBuf {
        self.cache.join("layers")
    }

    /// The same, where files belong to several users: those of ranges that start with these ids.
    pub(crate) fn mapped_layers(&self, (uid, gid): (u32, u32)) -> PathBuf {
        self.cache.join(format!("{MAPPED}{uid}-{gid}"))
    }

    /// All such folders that there are.
    pub(crate) fn all_mapped_layers(&self) -> std::io::Result<Vec<PathBuf>> {
        let entries = match std::fs::read_dir(&self.cache) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let paths: std::io::Result<Vec<PathBuf>> = entries.map(|entry| Ok(entry?.path())).collect();
        let is_one = |path: &PathBuf| {
            path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(MAPPED))
        };
        Ok(paths?.into_iter().filter(is_one).collect())
    }

    /// Documents of images in registries that builds were made in or on.
    pub(crate) fn seen_images(&self) -> PathBuf {
        self.cache.join("seen")
    }

    /// Files of web servers that buildpacks came in.
    pub(crate) fn downloads(&self) -> PathBuf {
        self.cache.join("downloads")
    }

    /// Images of daemons as they are in registries, to run apps on.
    pub(crate) fn daemon_images(&self) -> PathBuf {
        self.cache.join("daemon")
    }

    /// Run images of registries.
    pub(crate) fn run_images(&self) -> PathBuf {
        self.cache.join("run-images")
    }

    /// Layers of image extensions.
    pub(crate) fn extensions(&self) -> PathBuf {
        self.cache.join("extensions")
    }

    /// Caches of builds, one folder for each app.
    pub(crate) fn caches(&self) -> PathBuf {
        self.cache.join("apps")
    }

    /// Logs of the last builds.
    pub(crate) fn logs(&self) -> PathBuf {
        self.state.join("logs")
    }

    /// What was found in layers of run images.
    pub(crate) fn packages(&self) -> PathBuf {
        self.cache.join("packages")
    }

    pub(crate) fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    /// `KEY=VALUE` as it is; a bare `KEY` from the environment, or nothing when it is not set there.
    pub(crate) fn assignment(&self, text: &str) -> Result<Option<(String, String)>, String> {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (text, self.variable(text)),
        };
        if name.is_empty() || name.contains(['/', '\0']) || name == "." || name == ".." {
            return Err(format!("'{text}' is no variable; expected KEY=VALUE or KEY"));
        }
        Ok(value.map(|value| (name.to_owned(), value.to_owned())))
    }

    /// All assignments of `--env-file` and `--env`, in this order; later ones win.
    pub(crate) fn assignments(
        &self,
        files: &[PathBuf],
        texts: &[String],
    ) -> Result<BTreeMap<String, String>, String> {
        let mut all = BTreeMap::new();
        for file in files {
            let bytes = std::fs::read(file)
                .map_err(|error| format!("cannot read the variables in {}: {error}", file.display()))?;
            let text = String::from_utf8(bytes).map_err(|error| {
                let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
                let line = valid.iter().filter(|byte| **byte == b'\n').count() + 1;
                format!("{}, line {line}: it is not UTF-8", file.display())
            })?;
            for (number, line) in text.lines().enumerate() {
                let line = line.trim_start();
                if line.is_empty() || line.starts_with('#') {
                    continue;
                }
                let pair = self
                    .assignment(line)
                    .map_err(|error| format!("{}, line {}: {error}", file.display(), number + 1))?;
                all.extend(pair);
            }
        }
        for text in texts {
            all.extend(self.assignment(text)?);
        }
        Ok(all)
    }
}

/// The caller's home: the one that the environment names, unless it is another user's, as with some ways of becoming root;
/// else the one that the system knows.
fn home(asked: Option<PathBuf>, user: u32) -> Option<PathBuf> {
    let known = || {
        let passwd = std::fs::read("/etc/passwd").unwrap_or_default();
        let home = PathBuf::from(home_of(&String::from_utf8_lossy(&passwd), user));
        Some(home).filter(|home| home != Path::new("/") && is_own(home, user))
    };
    asked.filter(|home| is_own(home, user)).or_else(known)
}

/// A folder below the caller's home. What is kept there is trusted, so nobody else may have made any of it.
fn below_home(home: Option<&Path>, tail: &Path, user: u32) -> Result<PathBuf, Failure> {
    const HINT: &str =
        "set HOME to a folder of your own, or all of XDG_DATA_HOME, XDG_STATE_HOME and XDG_CACHE_HOME";
    let what = "cannot tell where images, caches and logs are to be kept";
    let refused =
        |problem: String| Failure::new(Exit::InvalidArguments, format!("{what}: {problem}")).hint(HINT);
    let home = home.ok_or_else(|| {
        refused(format!("HOME names no folder of user {user}, and neither does /etc/passwd"))
    })?;
    let dir = home.join(tail);
    let below = dir.ancestors().take_while(|path| *path != home);
    match below.filter(|path| path.symlink_metadata().is_ok()).find(|path| !is_own(path, user)) {
        Some(foreign) => Err(refused(format!("{} is neither of user {user} nor of root", foreign.display()))),
        None => Ok(dir),
    }
}

/// Whether only a user or root decides what is at a path: it, and what it may be a link to, or where it would be made.
fn is_own(path: &Path, user: u32) -> bool {
    let there = path.ancestors().find(|path| path.symlink_metadata().is_ok()).unwrap_or(Path::new("/"));
    let owners = [there.symlink_metadata(), there.metadata()];
    owners.into_iter().flatten().all(|found| [user, 0].contains(&found.uid()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{chown, symlink};

    #[test]
    fn what_another_user_made_is_not_trusted() {
        let dir = tempfile::tempdir().unwrap();
        let user = rustix::process::geteuid().as_raw();
        let other = user + 1;
        let own = dir.path().join("own");
        std::fs::create_dir(&own).unwrap();
        assert_eq!(home(Some(own.clone()), user), Some(own.clone()));
        let tail = Path::new(".cache/strata");
        assert_eq!(below_home(Some(&own), tail, user).unwrap(), own.join(tail));
        // A home that is not there yet.
        assert!(is_own(&own.join("a/b"), user));
        assert!(below_home(None, tail, user).unwrap_err().message.contains("HOME names no folder"));
        // Only root can give away what is its own; for others, root's files stand for nobody's else.
        if user == 0 {
            std::fs::create_dir_all(own.join(".cache")).unwrap();
            chown(own.join(".cache"), Some(other), None).unwrap();
            let refused = below_home(Some(&own), tail, user).unwrap_err();
            assert!(refused.message.contains("own/.cache is neither"), "{refused:?}");
            assert!(below_home(Some(&own), tail, other).is_ok());
            chown(&own, Some(other), None).unwrap();
            assert_ne!(home(Some(own.clone()), user), Some(own.clone()));
            assert!(!is_own(&own.join("a/b"), user));
            symlink(&own, dir.path().join("link")).unwrap();
            assert!(!is_own(&dir.path().join("link"), user));
        }
    }
}
