//! Looking at what a layer has, without extracting it.

use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;

use super::UnpackOptions;
use super::header::{Item, Kind, MAX_ENTRY_HEADERS, split};
use super::members::Budget;
use crate::error::LayerError;

/// What an entry of a layer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link, and what it says.
    Symlink(Vec<u8>),
    /// Another name of an entry, and that.
    HardLink(Vec<u8>),
    /// A device or a fifo.
    Special,
}

/// An entry of a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The components of its name below the root, as bytes. None for the root.
    pub parts: Vec<&'a [u8]>,
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    /// Its owner.
    pub uid: u64,
    /// Its group.
    pub gid: u64,
    /// Bytes of a file.
    pub size: u64,
}

/// What was seen of a layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Walked {
    /// Entries of the archive.
    pub entries: u64,
    /// Bytes of file contents.
    pub bytes: u64,
    /// Entries that extraction would refuse, which were passed over.
    pub refused: u64,
    /// Whether the archive has no end, as some programs write it.
    pub is_cut: bool,
}

/// Reads the archive of a layer to its end and calls `visit` with each entry and the bytes of a file, in order. What it
/// leaves unread is passed over. Memory does not grow with the archive. An archive that is cut short is read as
/// far as it goes: whoever verifies the blob knows that it is all there is.
///
/// # Errors
///
/// When the archive cannot be read, or exceeds the limits of [`UnpackOptions::default`]; and the first error of `visit`.
pub fn layer_entries<E: From<LayerError>>(
    tar: &mut dyn Read,
    visit: &mut dyn FnMut(&Entry<'_>, &mut dyn Read) -> Result<(), E>,
) -> Result<Walked, E> {
    let limits = UnpackOptions::default();
    let left = Rc::new(Cell::new(MAX_ENTRY_HEADERS));
    let mut archive = tar::Archive::new(Budget { inner: tar, left: Rc::clone(&left) });
    let mut walked = Walked::default();
    for entry in archive.entries().map_err(LayerError::read)? {
        let mut entry = match entry {
            Ok(entry) => entry,
            Err(error) if is_end(&error) => {
                walked.is_cut = true;
                break;
            }
            Err(error) => return Err(LayerError::read(error).into()),
        };
        left.set(u64::MAX);
        walked.entries += 1;
        walked.bytes = walked.bytes.saturating_add(entry.size());
        for (count, limit, unit) in
            [(walked.entries, limits.max_entries, "entries"), (walked.bytes, limits.max_bytes, "bytes")]
        {
            if count > limit {
                return Err(LayerError::TooLarge { limit, unit }.into());
            }
        }
        match Item::read(&mut entry) {
            Ok(Some(item)) => match split(&item.name, &item.shown) {
                Ok(parts) => visit(&seen(&item, parts), &mut entry)?,
                Err(_) => walked.refused += 1,
            },
            Ok(None) => {}
            Err(LayerError::Refused { .. }) => walked.refused += 1,
            Err(error) => return Err(error.into()),
        }
        io::copy(&mut entry, &mut io::sink()).map_err(LayerError::read)?;
        left.set(MAX_ENTRY_HEADERS);
    }
    left.set(u64::MAX);
    let after = &mut archive.into_inner().take(limits.max_bytes);
    io::copy(after, &mut io::sink()).map_err(LayerError::read)?;
    Ok(walked)
}

fn is_end(error: &io::Error) -> bool {
    // The library says so in words only.
    let words = error.to_string();
    error.kind() == io::ErrorKind::UnexpectedEof
        || words.contains("unexpected EOF")
        || words.contains("failed to read entire block")
}

fn seen<'a>(item: &'a Item, parts: Vec<&'a [u8]>) -> Entry<'a> {
    let kind = match &item.kind {
        Kind::Dir => EntryKind::Dir,
        Kind::File => EntryKind::File,
        Kind::Symlink(target) => EntryKind::Symlink(target.clone()),
        Kind::HardLink(target) => EntryKind::HardLink(target.clone()),
        Kind::Fifo | Kind::Device(..) => EntryKind::Special,
    };
    Entry { parts, kind, mode: item.mode, uid: item.uid, gid: item.gid, size: item.size }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Owner, TarWriter};

    #[test]
    fn entries_come_in_order_and_what_extraction_refuses_is_counted() {
        let mut tar = TarWriter::new(Vec::new());
        tar.dir("/a", 0o755, Owner { uid: 7, gid: 8 }).unwrap();
        tar.file("/a/one", 0o640, Owner::ROOT, 3, &mut &b"one"[..]).unwrap();
        tar.file("../out", 0o644, Owner::ROOT, 1, &mut &b"x"[..]).unwrap();
        tar.symlink("./a/link", "one", 0o777, Owner::ROOT).unwrap();
        let bytes = tar.finish().unwrap();
        let mut found = Vec::new();
        let walked = layer_entries(&mut &bytes[..], &mut |entry, data| -> Result<(), LayerError> {
            let mut text = String::new();
            data.read_to_string(&mut text).map_err(LayerError::read)?;
            let name =
                entry.parts.iter().map(|part| String::from_utf8_lossy(part)).collect::<Vec<_>>().join("/");
            found.push((name, entry.kind.clone(), entry.mode, entry.uid, text));
            Ok(())
        })
        .unwrap();
        let expected = [
            ("a", EntryKind::Dir, 0o755, 7, ""),
            ("a/one", EntryKind::File, 0o640, 0, "one"),
            ("a/link", EntryKind::Symlink(b"one".to_vec()), 0o777, 0, ""),
        ];
        let expected: Vec<_> = expected
            .into_iter()
            .map(|(name, kind, mode, uid, text)| (name.to_owned(), kind, mode, uid, text.to_owned()))
            .collect();
        assert_eq!(found, expected);
        let expected = Walked { entries: 4, bytes: 4, refused: 1, is_cut: false };
        assert_eq!(walked, expected);
        // Without the padding of the last file, and without an end.
        let mut names = 0;
        let cut = &bytes[..512 * 2 + 3];
        let walked = layer_entries(&mut &cut[..], &mut |_, _| -> Result<(), LayerError> {
            names += 1;
            Ok(())
        })
        .unwrap();
        assert!(walked.is_cut && names == 2, "{walked:?}");
    }
}
