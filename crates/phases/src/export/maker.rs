//! Makes layers, several at a time.

use super::wanted::Wanted;
use super::{Export, failed};
use crate::analyze::find_layer;
use crate::failure::Failure;
use crate::index::Known;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use strata_layer::{Compression, LayerError, Source};
use strata_oci::{Descriptor, Digest, Family, Layer};
use strata_spec::exit::Exit;
use strata_store::{Copied, Store};

/// Layers that are made at the same time. They share the threads of the packer; what one has to wait for, a disk or a
/// registry, does not hold up the others.
const AT_ONCE: usize = 4;

/// A layer that is there.
pub(super) struct Made {
    pub(super) descriptor: Descriptor,
    pub(super) diff_id: Digest,
    pub(super) uncompressed_size: u64,
    pub(super) is_reused: bool,
}

/// A writer that fails once the phase is to stop.
struct Cancellable<'a> {
    out: &'a mut dyn Write,
    flags: [&'a AtomicBool; 2],
}

impl Write for Cancellable<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.flags.iter().any(|flag| flag.load(Ordering::Relaxed)) {
            return Err(io::Error::other("it was interrupted"));
        }
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Makes layers in a place.
pub(super) struct Maker<'a> {
    export: &'a Export<'a>,
    output: &'a dyn Store,
    family: Family,
    /// Set once a layer has failed: the others need not go on.
    has_failed: AtomicBool,
}

impl<'a> Maker<'a> {
    pub(super) fn new(export: &'a Export<'a>, output: &'a dyn Store, family: Family) -> Self {
        Self { export, output, family, has_failed: AtomicBool::new(false) }
    }

    /// Makes all layers, and gives each to `take`, in order, as soon as it and those before it are there.
    ///
    /// # Errors
    /// That of the layer which failed first.
    pub(super) fn make_all(
        &self,
        wanted: &[Wanted<'_>],
        mut take: impl FnMut(&Wanted<'_>, Made),
    ) -> Result<(), Failure> {
        let next = AtomicUsize::new(0);
        let (done, results) = mpsc::channel();
        let (mut early, mut taken, mut failure) = (BTreeMap::new(), 0, None);
        std::thread::scope(|scope| {
            for _ in 0..AT_ONCE.min(wanted.len()) {
                let done = done.clone();
                scope.spawn(|| self.make_some(wanted, &next, done));
            }
            drop(done);
            for (at, result) in results {
                match result {
                    Ok(made) => drop(early.insert(at, made)),
                    // Those that come after the first have been stopped because of it.
                    Err(other) => drop(failure.get_or_insert(other)),
                }
                while let Some(made) = early.remove(&taken) {
                    take(&wanted[taken], made);
                    taken += 1;
                }
            }
        });
        failure.map_or(Ok(()), Err)
    }

    fn make_some(
        &self,
        wanted: &[Wanted<'_>],
        next: &AtomicUsize,
        done: mpsc::Sender<(usize, Result<Made, Failure>)>,
    ) {
        while !self.has_failed.load(Ordering::Relaxed) {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(one) = wanted.get(at) else { break };
            let result = self.make(one);
            let is_failure = result.is_err();
            // Told before the others are stopped, so that theirs come later.
            if done.send((at, result)).is_err() {
                break;
            }
            if is_failure {
                self.has_failed.store(true, Ordering::Relaxed);
            }
        }
    }

    /// The previous image's layer, if it has the same contents as one of those that are known, else a new one.
    fn make(&self, wanted: &Wanted<'_>) -> Result<Made, Failure> {
        let id = &wanted.id;
        let Some(source) = &wanted.source else { return self.take_previous(wanted) };
        let what = format!("cannot pack layer '{id}'");
        let candidates: Vec<&Layer> =
            wanted.known.iter().filter_map(|sha| self.previous_layer(sha)).collect();
        let sight = if candidates.is_empty() { None } else { self.export.index.look(source) };
        // What has changed is not read twice.
        let is_other = sight.as_ref().is_some_and(|sight| sight.is_other);
        if !candidates.is_empty() && !is_other {
            let known = self.export.index.know(source, sight.as_ref());
            let Known { diff_id, size } = known.map_err(|error| failed(&what, &error))?;
            let same = candidates.iter().find(|layer| layer.diff_id == diff_id);
            if let Some(layer) = same
                && self.take_over(id, layer)?
            {
                let descriptor = layer.descriptor.clone();
                return Ok(Made { descriptor, diff_id, uncompressed_size: size, is_reused: true });
            }
        }
        let (descriptor, known) = self.pack(source, &what)?;
        self.export.index.record(sight.as_ref(), known, None);
        Ok(Made { descriptor, diff_id: known.diff_id, uncompressed_size: known.size, is_reused: false })
    }

    fn pack(&self, source: &Source, what: &str) -> Result<(Descriptor, Known), Failure> {
        let mut sink = self.output.begin_blob().map_err(|error| failed(what, &error))?;
        let flags = [self.export.cancelled, &self.has_failed];
        let mut out = Cancellable { out: &mut *sink, flags };
        // Where they are not compressed, nothing else is taken.
        let compression = match (self.output.compression(), self.export.compression) {
            (Compression::Gzip, Some(asked)) => asked,
            (best, _) => best,
        };
        let packed = self
            .export
            .packer
            .pack(source, compression, &mut out)
            .map_err(|error: LayerError| failed(what, &error))?;
        sink.commit(&packed.digest, packed.size).map_err(|error| failed(what, &error))?;
        let media_type = compression.media_type(self.family);
        Ok((Descriptor::new(media_type, packed.digest, packed.size), Known::of(&packed)))
    }

    /// The layer of the previous image, of which nothing is here.
    fn take_previous(&self, wanted: &Wanted<'_>) -> Result<Made, Failure> {
        let id = &wanted.id;
        let known = wanted.known.first().copied().unwrap_or_default();
        let is_recorded = |layer: &&Layer| wanted.recorded.is_none_or(|known| known.diff_id == layer.diff_id);
        let layer = match self.previous_layer(known).filter(is_recorded) {
            Some(layer) if self.take_over(id, layer)? => layer,
            _ if wanted.recorded.is_some() => {
                let why = format!(
                    "failed to export: a later buildpack changed layer '{id}', and the previous image does not have it as it was sealed"
                );
                return Err(Failure::new(Exit::Export, why)
                    .hint("build again: what no image has is packed when its buildpack is done"));
            }
            _ => {
                let why =
                    format!("failed to export: cannot reuse '{id}', previous image has no layer {known}");
                return Err(Failure::new(Exit::Export, why).hint(
                    "build again without the previous image, so that the buildpack makes the layer anew",
                ));
            }
        };
        let (descriptor, diff_id) = (layer.descriptor.clone(), layer.diff_id);
        let uncompressed_size = wanted.recorded.map_or(0, |known| known.size);
        Ok(Made { descriptor, diff_id, uncompressed_size, is_reused: true })
    }

    /// The layer of the previous image that its label names so.
    fn previous_layer(&self, sha: &str) -> Option<&'a Layer> {
        let (stored, _) = self.export.previous.image?;
        find_layer(stored, &sha.parse().ok()?)
    }

    /// Brings a layer of the previous image here; `false` when it is not there either.
    fn take_over(&self, id: &str, layer: &Layer) -> Result<bool, Failure> {
        let Some((_, store)) = self.export.previous.image else { return Ok(false) };
        let copied = self
            .output
            .copy_blob_from(store, &layer.descriptor)
            .map_err(|error| failed(&format!("cannot reuse layer '{id}'"), &error))?;
        Ok(copied != Copied::Absent)
    }
}
