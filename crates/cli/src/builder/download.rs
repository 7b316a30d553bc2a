//! Buildpacks on web servers. What is fetched is kept for the builds that follow.

use super::place::Download;
use crate::args::PullPolicy;
use crate::images::failure;
use crate::show::Show;
use crate::show::transfer::{Load, Way, watch};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Seek as _, Write};
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use strata_layer::digest_of;
use strata_oci::Digest;
use strata_phases::{Failure, Observer as _};
use strata_sandbox::WorkDir;
use strata_spec::exit::Exit;
use strata_store::Progress;
use strata_store::registry::{self, Validators};
use strata_store::source::Surroundings;
use strata_store::temporary;
use tempfile::NamedTempFile;

/// What the names of files start with that are not whole yet.
const TEMP_PREFIX: &str = ".tmp";

/// The largest file that is fetched, in bytes.
const LIMIT: u64 = 8 << 30;

/// A file that was fetched.
pub(super) struct Fetched(File);

impl Fetched {
    /// A name for it, as long as it is held.
    pub(super) fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.0.as_raw_fd()).into()
    }
}

/// Files that earlier builds fetched, by their digests, and what servers said of them.
///
/// ```text
/// <folder>/<hex>                 a file, named by its digest; its mtime is when it was used last
/// <folder>/<hex of address>.json which file an address had, and by what its server knows it
/// ```
pub(super) struct Downloads {
    dir: PathBuf,
    /// Whether servers are asked about files that are there.
    policy: PullPolicy,
}

/// Which file an address had.
#[derive(Serialize, Deserialize)]
struct Entry {
    digest: Digest,
    #[serde(flatten)]
    validators: Validators,
}

impl Downloads {
    pub(super) fn new(dir: PathBuf, policy: PullPolicy) -> Self {
        Self { dir, policy }
    }

    /// Gives a file, and says, or verifies, what it is. It is fetched unless it is here and what was asked for, by its
    /// digest or by what the server says.
    pub(super) fn fetch(
        &self,
        download: &Download,
        surroundings: &Surroundings<'_>,
        show: &Show,
    ) -> Result<Fetched, Failure> {
        let shown = &*download.shown();
        let entry = self.entry(download);
        let known = download.digest.or_else(|| entry.as_ref().map(|entry| entry.digest));
        let here = known.and_then(|digest| Some((self.file(&digest)?, digest)));
        let is_enough = download.digest.is_some() || self.policy == PullPolicy::IfNotPresent;
        let reused = |(file, digest)| {
            show.info(format!("  {shown} is here from an earlier build: {digest}"));
            Ok(Fetched(file))
        };
        let here = match here {
            Some(here) if is_enough => return reused(here),
            here => here.filter(|_| download.digest.is_none()),
        };
        let what = format!("cannot fetch {shown}");
        let io = |error: io::Error| Failure::caused(Exit::Other, what.clone(), &error);
        let mut temp = self.temp().or_else(|_| NamedTempFile::new_in(WorkDir::DEFAULT_PARENT)).map_err(io)?;
        let known = entry.filter(|_| here.is_some()).map(|entry| entry.validators).unwrap_or_default();
        let fetched = transfer(download, &known, surroundings, temp.as_file_mut(), show)?;
        let registry::Download { digest, validators } = match (fetched, here) {
            (Some(fetched), _) => fetched,
            (None, Some(here)) => return reused(here),
            (None, None) => return Err(Failure::new(Exit::Other, format!("{what}: nothing came"))),
        };
        temp.flush().and_then(|()| temp.rewind()).map_err(io)?;
        match download.digest {
            Some(wanted) if wanted != digest => {
                let message = format!("{what}: it is {digest}, and {wanted} was asked for");
                return Err(Failure::new(Exit::InvalidArguments, message)
                    .hint("either it was changed, or what follows # is that of another version"));
            }
            Some(_) => {}
            None if !download.is_encrypted() => show.warn(format!(
                "{shown} came over a connection that others can change; name what it has to be: #sha256={}",
                digest.hex()
            )),
            None => show.info(format!("  {digest}")),
        }
        let file = temp.reopen().map_err(io)?;
        // Without it, the file is fetched again.
        self.keep(temp, download, Entry { digest, validators }).unwrap_or_default();
        Ok(Fetched(file))
    }

    fn entry(&self, download: &Download) -> Option<Entry> {
        // What cannot be read or understood is not known.
        let entry: Entry = serde_json::from_slice(&fs::read(self.entry_path(download)).ok()?).ok()?;
        is_kept(download).then_some(entry)
    }

    fn entry_path(&self, download: &Download) -> PathBuf {
        // The address may have a secret in it.
        self.dir.join(format!("{}.json", Digest::of(download.address.as_bytes()).hex()))
    }

    /// A file that is what its name says, from now on used.
    fn file(&self, digest: &Digest) -> Option<File> {
        let mut file = File::options().read(true).write(true).open(self.dir.join(digest.hex())).ok()?;
        let (found, _) = digest_of(&mut file).ok()?;
        file.rewind().ok()?;
        // Its age matters to nobody but who tidies up.
        file.set_modified(SystemTime::now()).unwrap_or_default();
        (found == *digest).then_some(file)
    }

    /// A new file in the folder, which nobody else may read: what is in it may have been fetched with a secret. Those of
    /// builds that died go.
    fn temp(&self) -> io::Result<NamedTempFile> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        temporary::sweep(&self.dir, TEMP_PREFIX);
        temporary::locked(&self.dir, TEMP_PREFIX).map_err(io::Error::other)
    }

    fn keep(&self, temp: NamedTempFile, download: &Download, entry: Entry) -> io::Result<()> {
        if !is_kept(download) || temp.path().parent() != Some(&self.dir) {
            return Ok(());
        }
        temp.persist(self.dir.join(entry.digest.hex())).map_err(|error| error.error)?;
        let mut temp = self.temp()?;
        temp.write_all(&serde_json::to_vec(&entry).map_err(io::Error::other)?)?;
        temp.persist(self.entry_path(download)).map(drop).map_err(|error| error.error)
    }
}

/// Whether what came may be used again: over a connection that others can change, something else might stay here that
/// came once.
fn is_kept(download: &Download) -> bool {
    download.digest.is_some() || download.is_encrypted() || download.is_of_this_machine()
}

/// Removes files that no build has used for so long, and what builds that died have left; how many they were.
pub(super) fn sweep(dir: &Path, unused_for: Duration, now: SystemTime) -> io::Result<usize> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        other => other?,
    };
    temporary::sweep(dir, TEMP_PREFIX);
    let mut count = 0;
    for entry in entries {
        let path = entry?.path();
        let is_on_its_way =
            path.file_name().is_some_and(|name| name.as_bytes().starts_with(TEMP_PREFIX.as_bytes()));
        if !is_on_its_way && sweep_one(&path, unused_for, now)? {
            count += usize::from(path.extension().is_none_or(|extension| extension != "json"));
        }
    }
    Ok(count)
}

/// Removes a file if it is that old; whether it was there and is gone. Other builds and sweeps may be faster.
fn sweep_one(path: &Path, unused_for: Duration, now: SystemTime) -> io::Result<bool> {
    let removed = path.symlink_metadata().and_then(|metadata| metadata.modified()).and_then(|used| {
        let is_old = now.duration_since(used).unwrap_or_default() >= unused_for;
        if is_old { fs::remove_file(path).map(|()| true) } else { Ok(false) }
    });
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        other => other,
    }
}

/// Fetches a file, and shows that.
fn transfer(
    download: &Download,
    known: &Validators,
    surroundings: &Surroundings<'_>,
    to: &mut File,
    show: &Show,
) -> Result<Option<registry::Download>, Failure> {
    let shown = &*download.shown();
    let way = Way { from: Some(shown), to: "a file" };
    let fetched = watch(show, way, &Load::file(), |progress| {
        let mut to = Watched { to, progress: &**progress };
        surroundings.fetch_unless(&download.address, known, LIMIT, &mut to)
    });
    let what = format!("cannot fetch {shown}");
    Ok(fetched.map_err(|error| failure(Exit::InvalidArguments, &what, &error))?.outcome)
}

/// Counts what is written, until somebody wants out.
struct Watched<'a, W> {
    to: W,
    progress: &'a dyn Progress,
}

impl<W: Write> Write for Watched<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.progress.is_stopped() {
            // Not the kind `Interrupted`, after which one tries again.
            return Err(io::Error::other("interrupted"));
        }
        let count = self.to.write(bytes)?;
        self.progress.moved(count as u64);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_died_goes_and_what_is_on_its_way_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for name in [".tmpdead", "file", "record.json"] {
            fs::write(path(name), "").unwrap();
        }
        let downloads = Downloads::new(dir.path().to_owned(), PullPolicy::Always);
        let temp = downloads.temp().unwrap();
        assert!(!path(".tmpdead").exists() && temp.path().exists());
        fs::write(path(".tmpdead"), "").unwrap();
        assert_eq!(sweep(dir.path(), Duration::ZERO, SystemTime::now()).unwrap(), 1);
        let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(left, [temp.path()]);
        // Somebody else was faster.
        assert!(!sweep_one(&path("file"), Duration::ZERO, SystemTime::now()).unwrap());
    }
}
