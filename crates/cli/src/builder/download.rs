//! Buildpacks on web servers. What is fetched is in a file without a name, which is gone with this process.

use super::place::Download;
use crate::images::failure;
use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;
use strata_phases::{Failure, Observer};
use strata_sandbox::WorkDir;
use strata_spec::exit::Exit;
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
    observer: &dyn Observer,
) -> Result<Fetched, Failure> {
    // A query may hold a secret.
    let shown = download.address.split('?').next().unwrap_or_default();
    let what = format!("cannot fetch {shown}");
    let io = |error: std::io::Error| Failure::caused(Exit::Other, what.clone(), &error);
    observer.info(format!("Fetching {shown}"));
    let mut file = tempfile::tempfile_in(WorkDir::DEFAULT_PARENT).map_err(io)?;
    let digest = surroundings
        .fetch(&download.address, LIMIT, &mut file)
        .map_err(|error| failure(Exit::InvalidArguments, &what, &error))?;
    file.flush().and_then(|()| file.rewind()).map_err(io)?;
    match download.digest {
        Some(wanted) if wanted != digest => {
            let message = format!("{what}: it is {digest}, and {wanted} was asked for");
            return Err(Failure::new(Exit::InvalidArguments, message)
                .hint("either it was changed, or what follows # is that of another version"));
        }
        Some(_) => {}
        None if download.address.starts_with("http:") => observer.warn(format!(
            "{shown} came over a connection that others can change; name what it has to be: #sha256={}",
            digest.hex()
        )),
        None => observer.info(format!("  {digest}")),
    }
    Ok(Fetched(file))
}
