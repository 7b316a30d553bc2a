//! Whether a layer could be extracted, without extracting it.

use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;

use super::header::{Item, Kind, MAX_ENTRY_HEADERS, split};
use super::members::Budget;
use super::{UnpackOptions, UnpackStats};
use crate::error::LayerError;

/// Reads the archive of a layer to its end and calls `refused` with name and reason for each entry that extraction
/// would refuse. What it cannot know is what lies below: whether a hard link has its target.
///
/// # Errors
///
/// When the archive cannot be read, or exceeds the limits of [`UnpackOptions::default`].
pub fn examine(tar: &mut dyn Read, refused: &mut dyn FnMut(&str, &str)) -> Result<UnpackStats, LayerError> {
    let limits = UnpackOptions::default();
    let left = Rc::new(Cell::new(MAX_ENTRY_HEADERS));
    let mut archive = tar::Archive::new(Budget { inner: tar, left: Rc::clone(&left) });
    let mut stats = UnpackStats::default();
    for entry in archive.entries().map_err(LayerError::read)? {
        let mut entry = entry.map_err(LayerError::read)?;
        left.set(u64::MAX);
        stats.entries += 1;
        stats.bytes = stats.bytes.saturating_add(entry.size());
        for (count, limit, unit) in
            [(stats.entries, limits.max_entries, "entries"), (stats.bytes, limits.max_bytes, "bytes")]
        {
            if count > limit {
                return Err(LayerError::TooLarge { limit, unit });
            }
        }
        match Item::read(&mut entry).and_then(|item| item.map_or(Ok(()), |item| check(&item))) {
            Err(LayerError::Refused { name, reason }) => refused(&name, reason),
            result => result?,
        }
        let size = entry.size();
        let read = io::copy(&mut entry, &mut io::sink()).map_err(LayerError::read)?;
        if read < size && entry.header().entry_type().is_file() {
            refused(&String::from_utf8_lossy(&entry.path_bytes()), "the archive ends within it");
        }
        left.set(MAX_ENTRY_HEADERS);
    }
    left.set(u64::MAX);
    let after = &mut archive.into_inner().take(limits.max_bytes);
    io::copy(after, &mut io::sink()).map_err(LayerError::read)?;
    Ok(stats)
}

fn check(item: &Item) -> Result<(), LayerError> {
    let parts = split(&item.name, &item.shown)?;
    if parts.is_empty() && item.kind != Kind::Dir {
        return Err(item.refused("the root is not a directory"));
    }
    if let Kind::HardLink(target) = &item.kind
        && split(target, &item.shown)?.is_empty()
    {
        return Err(item.refused("it is a hard link to the root"));
    }
    item.owner().map(drop)
}
