//! What can be seen of a transfer while it goes on: the bytes that are read of its blobs.

use std::io::{self, Read, Write};
use std::sync::Arc;

use strata_oci::{Descriptor, Digest, Encoded};

use crate::{BlobSink, Copied, Medium, Store, StoreError, StoredImage};

/// Is told how a transfer goes on, from several threads and often: it should do no more than count.
pub trait Progress: Send + Sync {
    /// So many more bytes were read.
    fn moved(&self, bytes: u64);

    /// So many bytes were read for nothing: they are read once more, or not needed.
    fn undone(&self, bytes: u64);

    /// Nothing more is to be done for this blob. Places that share files move no bytes, even for one that is copied.
    fn settled(&self, blob: &Descriptor, how: Copied);

    /// Whether somebody wants it to end: then what is read fails.
    fn is_stopped(&self) -> bool {
        false
    }

    /// A daemon takes all layers together, in the end: so many bytes are about to be sent, none of them yet. Told anew
    /// when they have to be sent once more.
    fn sending(&self, _size: u64) {}

    /// So many more bytes were sent.
    fn sent(&self, _bytes: u64) {}
}

/// Tells what is written.
pub(crate) struct Sending<'a> {
    pub(crate) out: &'a mut dyn Write,
    pub(crate) progress: &'a dyn Progress,
}

impl Write for Sending<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.progress.sent(count as u64);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A place that tells what is read of its blobs, and is the same place otherwise.
pub struct Metered<'a> {
    inner: &'a dyn Store,
    progress: Arc<dyn Progress>,
}

impl<'a> Metered<'a> {
    /// The same place, and who is told.
    pub fn new(inner: &'a dyn Store, progress: &Arc<dyn Progress>) -> Self {
        Self { inner, progress: Arc::clone(progress) }
    }
}

impl Store for Metered<'_> {
    fn read_image(&self) -> Result<Option<StoredImage>, StoreError> {
        self.inner.read_image()
    }

    fn open_blob(&self, descriptor: &Descriptor) -> Result<Option<Box<dyn Read + Send>>, StoreError> {
        let Some(inner) = self.inner.open_blob(descriptor)? else { return Ok(None) };
        let progress = Arc::clone(&self.progress);
        Ok(Some(Box::new(Counted { inner, progress, count: 0, size: descriptor.size, is_over: false })))
    }

    fn has_blob(&self, digest: &Digest, size: u64) -> Result<bool, StoreError> {
        self.inner.has_blob(digest, size)
    }

    fn begin_blob(&self) -> Result<Box<dyn BlobSink>, StoreError> {
        self.inner.begin_blob()
    }

    fn put_image(&self, encoded: &Encoded, names: &[String]) -> Result<(), StoreError> {
        self.inner.put_image(encoded, names)
    }

    fn identifier(&self, image: &StoredImage) -> String {
        self.inner.identifier(image)
    }

    /// That of the place itself: shorter ways between two of a kind stay open.
    fn medium(&self) -> Medium<'_> {
        self.inner.medium()
    }
}

struct Counted {
    inner: Box<dyn Read + Send>,
    progress: Arc<dyn Progress>,
    count: u64,
    /// As far as it is known; else 0.
    size: u64,
    is_over: bool,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.progress.is_stopped() {
            return Err(io::Error::other("it was stopped"));
        }
        let count = self.inner.read(buffer)?;
        self.count += count as u64;
        // Not all who know the size wait for the end.
        self.is_over |= (count == 0 && !buffer.is_empty()) || (count > 0 && self.count == self.size);
        self.progress.moved(count as u64);
        Ok(count)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if !self.is_over {
            self.progress.undone(self.count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Layout, Transfer, scratch};
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    #[derive(Default)]
    struct Seen {
        is_stopped: AtomicBool,
        moved: AtomicU64,
        settled: Mutex<Vec<(Digest, Copied)>>,
    }

    impl Progress for Seen {
        fn moved(&self, bytes: u64) {
            self.moved.fetch_add(bytes, Ordering::Relaxed);
        }

        fn undone(&self, bytes: u64) {
            self.moved.fetch_sub(bytes, Ordering::Relaxed);
        }

        fn settled(&self, blob: &Descriptor, how: Copied) {
            self.settled.lock().unwrap().push((blob.digest, how));
        }

        fn is_stopped(&self) -> bool {
            self.is_stopped.load(Ordering::Relaxed)
        }
    }

    #[test]
    fn what_is_read_is_told_and_what_was_read_for_nothing_is_taken_back() {
        let root = tempfile::tempdir().unwrap();
        let from = Layout::open_or_create(root.path().join("from")).unwrap();
        scratch::base("amd64", 1, 1, "1980-01-01T00:00:01Z").unwrap().put_in(&from, &[]).unwrap();
        let image = from.read_image().unwrap().unwrap().encoded();
        let layer = &image.layers[0];
        let seen = Arc::new(Seen::default());
        let progress: Arc<dyn Progress> = Arc::<Seen>::clone(&seen);
        let moved = || seen.moved.load(Ordering::Relaxed);
        let metered = Metered::new(&from, &progress);
        let mut reader = metered.open_blob(layer).unwrap().unwrap();
        reader.read_exact(&mut [0; 10]).unwrap();
        assert_eq!(moved(), 10);
        drop(reader);
        assert_eq!(moved(), 0);
        io::copy(&mut metered.open_blob(layer).unwrap().unwrap(), &mut io::sink()).unwrap();
        assert_eq!(moved(), layer.size);
        let mut reader = metered.open_blob(layer).unwrap().unwrap();
        reader.read_exact(&mut [0; 10]).unwrap();
        seen.is_stopped.store(true, Ordering::Relaxed);
        assert!(io::copy(&mut reader, &mut io::sink()).is_err());
        seen.is_stopped.store(false, Ordering::Relaxed);
        drop(reader);
        assert_eq!(moved(), layer.size);
        // Between layouts, no bytes have to be read this way.
        let to = Layout::open_or_create(root.path().join("to")).unwrap();
        for expected in [Copied::Linked, Copied::Present] {
            Transfer::new(&to, &from).watched(&progress).image(&image, &[]).unwrap();
            assert_eq!(seen.settled.lock().unwrap().pop(), Some((layer.digest, expected)));
        }
        assert_eq!(moved(), layer.size);
        let file = root.path().join("x.tar");
        let archive = crate::archive::Writer::create(&file, crate::archive::Format::Oci).unwrap();
        Transfer::new(&archive, &from).watched(&progress).image(&image, &[]).unwrap();
        assert_eq!(seen.settled.lock().unwrap().pop(), Some((layer.digest, Copied::Copied)));
        assert_eq!(moved(), 2 * layer.size);
    }
}
