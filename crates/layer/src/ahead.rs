//! Reads a tree with several threads: small files are read ahead, in batches; large ones come when it is their turn.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, bounded};
use rustix::fs::FileType;

use crate::error::LayerError;
use crate::pool::{Pool, Promise};
use crate::source::{SliceItem, Source, item_meta, walk, write_entries, write_item, write_parents};
use crate::tar_writer::{Owner, TarWriter};

/// Larger files are not read ahead.
const SMALL: u64 = 128 << 10;
/// A batch ends with the entry that makes it as large as this, or as long.
const BATCH: u64 = 128 << 10;
const BATCH_ENTRIES: usize = 64;
/// How many batches are read ahead.
const BATCHES: usize = 12;

/// Like [`write_entries`]. What is read ahead is at most some MiB.
pub(crate) fn write_entries_ahead(
    source: &Source,
    readers: &Pool<()>,
    out: &mut dyn Write,
) -> Result<(), LayerError> {
    let (dir, as_path, parents, owner) = match source {
        Source::Dir { dir, as_path, parents, owner } => (dir, as_path, parents, owner),
        Source::Entries { dir, as_path, parents, owner, items } if !items.is_empty() => {
            (dir, as_path, parents, owner)
        }
        Source::Entries { .. } | Source::Generated(_) | Source::Archive(_) => {
            return write_entries(source, out);
        }
    };
    write_parents(&mut TarWriter::new(&mut *out), parents)?;
    let place = Place { dir: dir.clone(), as_path: as_path.clone(), owner: *owner };
    let mut ahead = Ahead::new(place, readers, out);
    match source {
        Source::Entries { items, .. } => items.iter().try_for_each(|item| ahead.add(item.clone()))?,
        _ => walk(dir, |relative, meta| {
            ahead.add(SliceItem { relative: OsString::from(relative), ..item_meta(meta) })
        })?,
    }
    ahead.finish()?;
    TarWriter::new(out).finish().map(drop)
}

struct Place {
    dir: PathBuf,
    as_path: String,
    owner: Owner,
}

impl Place {
    fn write(&self, item: &SliceItem, tar: &mut TarWriter<impl Write>) -> Result<(), LayerError> {
        write_item(tar, &self.dir, &self.as_path, self.owner, &item.relative, item)
    }
}

/// A part of the archive.
enum Part {
    /// Being read.
    Batch(Promise<Result<Vec<u8>, LayerError>>),
    /// To be read when it is its turn.
    Large(SliceItem),
}

struct Ahead<'a> {
    place: Arc<Place>,
    readers: &'a Pool<()>,
    out: &'a mut dyn Write,
    parts: VecDeque<Part>,
    batch: Vec<SliceItem>,
    size: u64,
    /// Buffers that were used before.
    spare: (Sender<Vec<u8>>, Receiver<Vec<u8>>),
}

impl<'a> Ahead<'a> {
    fn new(place: Place, readers: &'a Pool<()>, out: &'a mut dyn Write) -> Self {
        let spare = bounded(BATCHES);
        Self {
            place: Arc::new(place),
            readers,
            out,
            parts: VecDeque::new(),
            batch: Vec::new(),
            size: 0,
            spare,
        }
    }

    fn add(&mut self, item: SliceItem) -> Result<(), LayerError> {
        let is_file = FileType::from_raw_mode(item.mode) == FileType::RegularFile;
        if is_file && item.size > SMALL {
            self.end_batch();
            self.parts.push_back(Part::Large(item));
        } else {
            self.size += if is_file { item.size } else { 0 };
            self.batch.push(item);
            if self.size >= BATCH || self.batch.len() >= BATCH_ENTRIES {
                self.end_batch();
            }
        }
        while self.parts.len() > BATCHES {
            self.write_part()?;
        }
        Ok(())
    }

    fn end_batch(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let items = std::mem::take(&mut self.batch);
        self.size = 0;
        let (place, spare) = (Arc::clone(&self.place), self.spare.1.clone());
        self.parts.push_back(Part::Batch(self.readers.run(move |()| {
            let mut bytes = spare.try_recv().unwrap_or_default();
            let mut tar = TarWriter::new(&mut bytes);
            items.iter().try_for_each(|item| place.write(item, &mut tar))?;
            Ok(bytes)
        })));
    }

    fn write_part(&mut self) -> Result<(), LayerError> {
        match self.parts.pop_front() {
            Some(Part::Batch(promise)) => {
                let mut bytes = promise.wait()??;
                self.out.write_all(&bytes).map_err(LayerError::write)?;
                bytes.clear();
                // A full box means that enough buffers are about.
                drop(self.spare.0.try_send(bytes));
                Ok(())
            }
            Some(Part::Large(item)) => self.place.write(&item, &mut TarWriter::new(&mut *self.out)),
            None => Ok(()),
        }
    }

    fn finish(mut self) -> Result<(), LayerError> {
        self.end_batch();
        while !self.parts.is_empty() {
            self.write_part()?;
        }
        Ok(())
    }
}
