//! Looking at the files of a layer without extracting it.

use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;

use super::header::{Item, Kind, MAX_ENTRY_HEADERS, split};
use super::members::Budget;
use crate::error::LayerError;

/// Calls `visit` with the path and the bytes of each regular file of a layer, in order. What it leaves unread is passed
/// over. Paths are from the root, without a leading slash; a deletion is an empty file called `.wh.…` (OCI image
/// specification, "Whiteouts"). Reads `tar` to its end, so that whoever verifies it does.
///
/// # Errors
///
/// When the archive cannot be read, has more than `max_entries` or one that could be taken for another, and the first
/// error of `visit`.
pub fn layer_files(
    tar: &mut dyn Read,
    max_entries: u64,
    mut visit: impl FnMut(&str, u64, &mut dyn Read) -> Result<(), LayerError>,
) -> Result<(), LayerError> {
    let left = Rc::new(Cell::new(MAX_ENTRY_HEADERS));
    let mut archive = tar::Archive::new(Budget { inner: tar, left: Rc::clone(&left) });
    let mut count = 0;
    for entry in archive.entries().map_err(LayerError::read)? {
        let mut entry = entry.map_err(LayerError::read)?;
        left.set(u64::MAX);
        count += 1;
        if count > max_entries {
            return Err(LayerError::TooLarge { limit: max_entries, unit: "entries" });
        }
        if let Some(item) = Item::read(&mut entry)?.filter(|item| item.kind == Kind::File) {
            let path = split(&item.name, &item.shown)?.join(&b'/');
            visit(&String::from_utf8_lossy(&path), item.size, &mut entry)?;
        }
        io::copy(&mut entry, &mut io::sink()).map_err(LayerError::read)?;
        left.set(MAX_ENTRY_HEADERS);
    }
    left.set(u64::MAX);
    io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(LayerError::read)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Owner, TarWriter};

    #[test]
    fn files_have_paths_from_the_root_and_the_end_is_read() {
        let mut tar = TarWriter::new(Vec::new());
        tar.dir("/a", 0o755, Owner::ROOT).unwrap();
        tar.file("/a/one", 0o644, Owner::ROOT, 3, &mut &b"one"[..]).unwrap();
        tar.symlink("a/link", "one", 0o777, Owner::ROOT).unwrap();
        tar.file("./a/.wh.two", 0o644, Owner::ROOT, 0, &mut &b""[..]).unwrap();
        let mut bytes = tar.finish().unwrap();
        bytes.extend(b"behind the end");
        let mut rest = &bytes[..];
        let mut found = Vec::new();
        layer_files(&mut rest, 10, |path, size, data| {
            let mut start = String::new();
            data.take(2).read_to_string(&mut start).map_err(LayerError::read)?;
            found.push((path.to_owned(), size, start));
            Ok(())
        })
        .unwrap();
        assert_eq!(found, [("a/one".into(), 3, "on".into()), ("a/.wh.two".into(), 0, String::new())]);
        assert!(rest.is_empty());
        let many = layer_files(&mut &bytes[..], 3, |_, _, _| Ok(()));
        assert!(matches!(many, Err(LayerError::TooLarge { .. })), "{many:?}");
        let cut = layer_files(&mut &bytes[..1300], 10, |_, _, _| Ok(()));
        assert!(cut.is_err());
    }
}
