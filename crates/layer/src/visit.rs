//! Looking at the files of an archive that is no layer, without extracting it.

use std::io::Read;
use std::path::Path;

use crate::error::LayerError;

/// Calls `visit` with the name and the bytes of each regular file of a tar archive, in order. What it leaves unread is
/// passed over. Names are as they stand in the archive: not to be trusted as paths.
///
/// # Errors
///
/// When the archive cannot be read, and the first error of `visit`.
pub fn visit_files<E: From<LayerError>>(
    archive: impl Read,
    mut visit: impl FnMut(&Path, &mut dyn Read) -> Result<(), E>,
) -> Result<(), E> {
    let mut archive = tar::Archive::new(archive);
    for entry in archive.entries().map_err(LayerError::read)? {
        let mut entry = entry.map_err(LayerError::read)?;
        if entry.header().entry_type().is_file() {
            let name = entry.path().map_err(LayerError::read)?.into_owned();
            visit(&name, &mut entry)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Owner, TarWriter};

    #[test]
    fn files_come_in_order_and_what_is_no_file_does_not() {
        let mut tar = TarWriter::new(Vec::new());
        tar.dir("a", 0o755, Owner::ROOT).unwrap();
        tar.file("a/one", 0o644, Owner::ROOT, 3, &mut &b"one"[..]).unwrap();
        tar.symlink("a/link", "one", 0o777, Owner::ROOT).unwrap();
        tar.file("two", 0o644, Owner::ROOT, 600, &mut &[7; 600][..]).unwrap();
        tar.file("three", 0o644, Owner::ROOT, 0, &mut &b""[..]).unwrap();
        let bytes = tar.finish().unwrap();
        let mut found = Vec::new();
        visit_files(&bytes[..], |name, data| -> Result<(), LayerError> {
            let mut start = Vec::new();
            data.take(2).read_to_end(&mut start).map_err(LayerError::read)?;
            found.push((name.display().to_string(), start));
            Ok(())
        })
        .unwrap();
        let expected = [("a/one", &b"on"[..]), ("two", &[7, 7]), ("three", b"")];
        assert_eq!(found, expected.map(|(name, start)| (name.to_owned(), start.to_vec())));
        // Cut short within a file.
        let cut = visit_files(&bytes[..2700], |_, data| -> Result<(), LayerError> {
            std::io::copy(data, &mut std::io::sink()).map_err(LayerError::read).map(drop)
        });
        assert!(matches!(cut, Err(LayerError::Read { .. })), "{cut:?}");
    }
}
