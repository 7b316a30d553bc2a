//! Buildpacks on web servers. What is fetched is in a file without a name, which is gone with this process.

use super::place::Download;
use crate::images::failure;
use crate::show::Show;
use crate::show::transfer::{Load, Way, watch};
use std::fs::File;
use std::io::{self, Seek as _, Write};
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;
use strata_phases::{Failure, Observer as _};
use strata_sandbox::WorkDir;
use strata_spec::exit::Exit;
use strata_store::Progress;
use strata_store::source::Surroundings;

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

/// Fetches a file and says, or verifies, what it is.
pub(super) fn fetch(
    download: &Download,
    surroundings: &Surroundings<'_>,
    show: &Show,
) -> Result<Fetched, Failure> {
    let shown = &*download.shown();
    let what = format!("cannot fetch {shown}");
    let io = |error: io::Error| Failure::caused(Exit::Other, what.clone(), &error);
    let mut file = tempfile::tempfile_in(WorkDir::DEFAULT_PARENT).map_err(io)?;
    let way = Way { from: Some(shown), to: "a file for the time of the build" };
    let fetched = watch(show, way, &Load::file(), |progress| {
        surroundings.fetch(&download.address, LIMIT, &mut Watched { to: &mut file, progress: &**progress })
    });
    let digest = fetched.map_err(|error| failure(Exit::InvalidArguments, &what, &error))?.outcome;
    file.flush().and_then(|()| file.rewind()).map_err(io)?;
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
    Ok(Fetched(file))
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
