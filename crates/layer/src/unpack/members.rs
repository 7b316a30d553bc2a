//! Where the members of an archive are, without reading what they hold.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::{self, Read, Seek, SeekFrom};
use std::rc::Rc;

use super::header::{Item, Kind, split};
use crate::error::LayerError;

/// A member of an archive of other things than files of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Member {
    /// A file: where its bytes start in the archive, and how many there are.
    File {
        /// From the start of the archive.
        offset: u64,
        /// In bytes.
        size: u64,
    },
    /// A symbolic link, and what it says.
    Symlink(String),
}

/// How much of an archive is looked at.
#[derive(Clone, Copy, Debug)]
pub struct MemberLimits {
    /// How many members are accepted, directories included.
    pub max_members: u64,
    /// How many bytes of headers are accepted; with it, how much memory is used.
    pub max_header_bytes: u64,
}

impl Default for MemberLimits {
    fn default() -> Self {
        Self { max_members: 100_000, max_header_bytes: 64 << 20 }
    }
}

/// The files and symbolic links of an archive by their names, in which a leading `./` is left out, and a leading `/`, which
/// pack writes. Directories are passed over.
///
/// # Errors
///
/// When the archive cannot be read or ends early, exceeds a limit, or has a member that could be taken for another: a
/// name that has `..` in it or comes twice; or one that is neither file, directory nor symbolic link.
pub fn members(
    mut archive: impl Read + Seek,
    limits: MemberLimits,
) -> Result<BTreeMap<String, Member>, LayerError> {
    let length = archive.seek(SeekFrom::End(0)).map_err(LayerError::read)?;
    archive.rewind().map_err(LayerError::read)?;
    let left = Rc::new(Cell::new(limits.max_header_bytes));
    let mut archive = tar::Archive::new(Budget { inner: archive, left });
    let mut found = BTreeMap::new();
    let mut count = 0;
    for entry in archive.entries_with_seek().map_err(LayerError::read)? {
        let mut entry = entry.map_err(LayerError::read)?;
        count += 1;
        if count > limits.max_members {
            return Err(LayerError::TooLarge { limit: limits.max_members, unit: "members" });
        }
        let is_sparse = entry.header().entry_type().is_gnu_sparse();
        let offset = entry.raw_file_position();
        let Some(item) = Item::read(&mut entry)? else { continue };
        let Some((name, member)) = member(&item, offset, length, is_sparse)? else { continue };
        if found.insert(name, member).is_some() {
            return Err(item.refused("it comes twice"));
        }
    }
    Ok(found)
}

/// The cleaned name and what it stands for; `None` for a directory.
fn member(
    item: &Item,
    offset: u64,
    length: u64,
    is_sparse: bool,
) -> Result<Option<(String, Member)>, LayerError> {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).ok();
    let name = text(split(&item.name, &item.shown)?.join(&b'/'));
    let name = name.ok_or_else(|| item.refused("its name is no UTF-8 text"))?;
    match &item.kind {
        Kind::Dir => Ok(None),
        Kind::File if is_sparse => Err(item.refused("it is a sparse file")),
        Kind::File if offset.checked_add(item.size).is_none_or(|end| end > length) => {
            Err(item.refused("the archive ends within it"))
        }
        Kind::File => Ok(Some((name, Member::File { offset, size: item.size }))),
        Kind::Symlink(target) => {
            let target = text(target.clone()).ok_or_else(|| item.refused("its target is no UTF-8 text"))?;
            Ok(Some((name, Member::Symlink(target))))
        }
        Kind::HardLink(_) | Kind::Fifo | Kind::Device(..) => {
            Err(item.refused("it is neither file, directory nor symbolic link"))
        }
    }
}

/// Refuses to read more than is left of a budget: a long name of an entry is read into memory at once.
pub(super) struct Budget<R> {
    pub(super) inner: R,
    pub(super) left: Rc<Cell<u64>>,
}

impl<R: Read> Read for Budget<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        match self.left.get().checked_sub(count as u64) {
            Some(left) => self.left.set(left),
            None => return Err(io::Error::new(io::ErrorKind::InvalidData, "its headers are too large")),
        }
        Ok(count)
    }
}

impl<R: Seek> Seek for Budget<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}
