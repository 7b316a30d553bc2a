//! Makes layers, several at a time.

use super::wanted::Wanted;
use super::{Export, failed};
use crate::analyze::find_layer;
use crate::failure::Failure;
use crate::fresh::Fresh;
use crate::index::{Known, Sight};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use strata_layer::{Compression, LayerError, Packed, Source};
use strata_oci::{Descriptor, Digest, Family, Layer};
use strata_spec::exit::Exit;
use strata_store::cache::Draft;
use strata_store::{BlobSink, Copied, Medium, Store};

/// Layers that are made at the same time. They share the threads of the packer; what one has to wait for, a disk or a
/// registry, does not hold up the others.
const AT_ONCE: usize = 4;

/// A layer that is there.
pub(super) struct Made {
    pub(super) descriptor: Descriptor,
    pub(super) diff_id: Digest,
    /// Where it is known.
    pub(super) uncompressed_size: Option<u64>,
    pub(super) is_reused: bool,
}

/// A layer that is packed and not yet kept.
struct New {
    sink: Box<dyn BlobSink>,
    compression: Compression,
    packed: Packed,
    /// Its archive for the cache, if that is to be and it is whole.
    draft: Option<Draft>,
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
            for count in 0..AT_ONCE.min(wanted.len()) {
                let some = |done| self.make_some(wanted, &next, done);
                let theirs = done.clone();
                // Fewer do as well. Without a single one this one does it, and puts them on afterwards.
                match std::thread::Builder::new().spawn_scoped(scope, move || some(theirs)) {
                    Ok(_) => {}
                    Err(_) if count == 0 => self.make_some(wanted, &next, done.clone()),
                    Err(_) => break,
                }
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
        // Also where there is nothing to compare with: the next build is to find what this one has read.
        let sight = self.export.index.recall(source);
        if !candidates.is_empty() && !self.is_worth_packing(source, sight.as_ref()) {
            let known = self.export.index.know(source, sight.as_ref());
            let known = known.map_err(|error| failed(&what, &error))?;
            if let Some(made) = self.take_same(id, &candidates, known)? {
                return Ok(made);
            }
        }
        // What is known from before has been restored from the cache.
        let is_news = sight.as_ref().is_none_or(|sight| sight.known.is_none());
        let fresh = self.export.fresh.filter(|_| wanted.is_cached && is_news);
        let New { sink, compression, packed, draft } = self.pack(source, &what, fresh)?;
        let known = Known::of(&packed);
        self.export.index.record(sight.as_ref(), known);
        // What was packed again for nothing goes with the sink.
        if let Some(made) = self.take_same(id, &candidates, known)? {
            fresh.inspect(|fresh| fresh.put(source, packed, None, draft));
            return Ok(made);
        }
        sink.commit(&packed.digest, packed.size).map_err(|error| failed(&what, &error))?;
        let descriptor = Descriptor::new(compression.media_type(self.family), packed.digest, packed.size);
        fresh.inspect(|fresh| fresh.put(source, packed, Some(descriptor.clone()), draft));
        let (diff_id, uncompressed_size) = (known.diff_id, Some(known.size));
        Ok(Made { descriptor, diff_id, uncompressed_size, is_reused: false })
    }

    /// Whether a layer that the previous image may have is packed without asking first whether it does: then it has been
    /// read once only.
    fn is_worth_packing(&self, source: &Source, sight: Option<&Sight>) -> bool {
        let is_sent = matches!(self.output.medium(), Medium::Registry(_));
        sight.is_some_and(|sight| sight.is_news(source, is_sent))
    }

    /// The previous image's layer with these contents, if it is among the candidates and can be had.
    fn take_same(&self, id: &str, candidates: &[&Layer], known: Known) -> Result<Option<Made>, Failure> {
        let Known { diff_id, size } = known;
        match candidates.iter().find(|layer| layer.diff_id == diff_id) {
            Some(layer) if self.take_over(id, layer)? => {
                let descriptor = layer.descriptor.clone();
                Ok(Some(Made { descriptor, diff_id, uncompressed_size: Some(size), is_reused: true }))
            }
            _ => Ok(None),
        }
    }

    /// Packs a layer, and its archive for the cache along with it. That is never why the image lacks room.
    fn pack(&self, source: &Source, what: &str, fresh: Option<&Fresh<'_>>) -> Result<New, Failure> {
        match (self.try_pack(source, what, fresh.and_then(Fresh::draft)), self.export.fresh) {
            (Err(failure), Some(all)) if failure.is_full() => {
                all.give_up();
                self.try_pack(source, what, None)
            }
            (outcome, _) => outcome,
        }
    }

    fn try_pack(&self, source: &Source, what: &str, mut draft: Option<Draft>) -> Result<New, Failure> {
        let mut sink = self.output.begin_blob().map_err(|error| failed(what, &error))?;
        let flags = [self.export.cancelled, &self.has_failed];
        let mut out = Cancellable { out: &mut *sink, flags };
        // Where they are not compressed, nothing else is taken.
        let compression = match (self.output.compression(), self.export.compression) {
            (Compression::Gzip, Some(asked)) => asked,
            (best, _) => best,
        };
        let copy = draft.as_mut().map(|draft| draft as &mut (dyn Write + Send));
        let packed = self.export.packer.pack_with_copy(source, compression, &mut out, copy);
        let packed = packed.map_err(|error: LayerError| failed(what, &error))?;
        Ok(New { sink, compression, packed, draft })
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
        let uncompressed_size = wanted.recorded.map(|known| known.size);
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
