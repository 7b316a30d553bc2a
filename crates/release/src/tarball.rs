//! The tarball, which platforms unpack into their builders.

use std::fs::{self, Permissions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use strata_layer::{Compression, GeneratedEntry, Packed, Source, pack};
use tempfile::NamedTempFile;

use crate::args::{Arch, Release};
use crate::failure::Failure;

/// Writes the tarball and, beside it, its checksum for `sha256sum --check`; the path of the tarball.
pub(crate) fn write(
    output: &Path,
    release: &Release,
    arch: Arch,
    files: Vec<GeneratedEntry>,
) -> Result<PathBuf, Failure> {
    let name = format!("strata-lifecycle-v{}+linux.{}.tgz", release.version, arch.file_name());
    let path = output.join(&name);
    fs::create_dir_all(output).map_err(Failure::write(output))?;
    let mut packed = None;
    replace(&path, |out| {
        packed = Some(
            pack(&Source::Generated(files), Compression::Gzip, 1, out)
                .map_err(|source| Failure::Pack { path: path.clone(), source })?,
        );
        Ok(())
    })?;
    if let Some(Packed { digest, .. }) = packed {
        let sum = output.join(format!("{name}.sha256"));
        replace(&sum, |out| writeln!(out, "{}  {name}", digest.hex()).map_err(Failure::write(&sum)))?;
    }
    Ok(path)
}

/// Writes a file that is seen whole or not at all.
fn replace(path: &Path, fill: impl FnOnce(&mut dyn Write) -> Result<(), Failure>) -> Result<(), Failure> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let mut temp = NamedTempFile::new_in(dir).map_err(Failure::write(path))?;
    let mut out = BufWriter::new(&mut temp);
    fill(&mut out)?;
    out.flush().map_err(Failure::write(path))?;
    drop(out);
    temp.as_file().set_permissions(Permissions::from_mode(0o644)).map_err(Failure::write(path))?;
    temp.persist(path).map(drop).map_err(|error| Failure::write(path)(error.error))
}
