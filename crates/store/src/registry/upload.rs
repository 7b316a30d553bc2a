//! Writing blobs: mounted from another repository, sent whole, or streamed while they are made.

use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use strata_layer::threads::refused;
use strata_oci::{Descriptor, Digest, Hasher};
use ureq::http::header::CONTENT_TYPE;
use ureq::http::{Method, Uri};

use super::address::with_parameter;
use super::auth::Access;
use super::http::{Payload, Request};
use super::retry::persist;
use super::{Error, Exchange, Image, check_stored};
use crate::{BlobSink, Copied, Medium, Store, StoreError};

/// Bytes handed to the sending thread at once.
const CHUNK: usize = 256 * 1024;
/// Chunks that may wait: enough to keep both sides busy.
const WAITING: usize = 4;
const OCTETS: &str = "application/octet-stream";

impl Image {
    /// Begins an upload; where it goes on is what comes back.
    pub(super) fn start_upload(&self) -> Result<Uri, StoreError> {
        let address = self.uploads_address()?;
        // Repeated if need be: an upload begun and forgotten is the registry's to clean up.
        let mut request = Request::new(Method::POST, address);
        let answer = self.endpoint()?.send(&mut request, &self.scope(Access::Push))?;
        match answer.status() {
            200..300 => Ok(self.endpoint()?.next(&answer)?),
            _ => Err(self.refused(answer)),
        }
    }

    /// Gives an upload up. That it fails does no harm: the registry forgets uploads after a while.
    pub(super) fn cancel_upload(&self, upload: Uri) {
        let endpoint = self.endpoint();
        drop(endpoint.map(|endpoint| {
            endpoint.send_once(&mut Request::new(Method::DELETE, upload), &self.scope(Access::Push))
        }));
    }

    /// Streams a blob of unknown size and digest.
    pub(super) fn stream_upload(&self) -> Result<Sink, StoreError> {
        let upload = self.start_upload()?;
        let (pipe, chunks) = sync_channel(WAITING);
        let (image, address) = (self.clone(), upload.clone());
        let exchange = Exchange::new(&Method::PATCH, &upload);
        let worker = std::thread::Builder::new().spawn(move || image.send_chunks(address, chunks));
        let worker = worker.map_err(|error| {
            self.cancel_upload(upload.clone());
            Error::Transport { exchange, source: refused(&error) }
        })?;
        Ok(Sink {
            image: self.clone(),
            upload: Some(upload),
            pipe: Some(pipe),
            worker: Some(worker),
            buffer: Vec::with_capacity(CHUNK),
            hasher: Hasher::new(),
            size: 0,
        })
    }

    /// Stores bytes that are there already, unless the registry has them.
    pub(super) fn upload_bytes(&self, bytes: &[u8], digest: &Digest) -> Result<(), StoreError> {
        let size = bytes.len() as u64;
        if self.has_blob_within(digest, size, &self.scope(Access::Push))? {
            return Ok(());
        }
        self.repeat_whole(|| {
            let upload = self.start_upload()?;
            self.finish_upload(upload, digest, size, Payload::Bytes(bytes))
        })
    }

    /// Takes over a blob of another place: without sending it where the registry has it, be it in another repository.
    pub(super) fn upload_from(&self, other: &dyn Store, wanted: &Descriptor) -> Result<Copied, StoreError> {
        if self.has_blob_within(&wanted.digest, wanted.size, &self.scope(Access::Push))? {
            return Ok(Copied::Present);
        }
        if let Medium::Registry(other) = other.medium()
            && self.mount(other, &wanted.digest)?
        {
            return Ok(Copied::Linked);
        }
        self.repeat_whole(|| self.send_from(other, wanted))
    }

    /// Repeats a whole upload where that may help: no part of one can be repeated by itself.
    fn repeat_whole<T>(&self, upload: impl Fn() -> Result<T, StoreError>) -> Result<T, StoreError> {
        let settings = self.endpoint()?.http().settings();
        persist(settings, || match upload() {
            Err(StoreError::Registry(error)) => Err(*error),
            outcome => Ok(outcome),
        })?
    }

    /// Reads a blob elsewhere and sends it; nothing is left behind on failure.
    fn send_from(&self, other: &dyn Store, wanted: &Descriptor) -> Result<Copied, StoreError> {
        let Some(mut reader) = other.open_blob(wanted)? else { return Ok(Copied::Absent) };
        let upload = self.start_upload()?;
        let mut source = Checked { inner: &mut *reader, left: wanted.size, failure: None };
        let payload = Payload::Stream(&mut source, Some(wanted.size));
        let sent = match wanted.size {
            0 => self.finish_upload(upload, &wanted.digest, 0, Payload::Bytes(&[])),
            size => self.finish_upload(upload, &wanted.digest, size, payload),
        };
        match source.failure {
            Some(source) => Err(Error::Source { digest: wanted.digest, source }.into()),
            None => sent.map(|()| Copied::Copied),
        }
    }

    /// Asks the registry to share a blob between two of its repositories; `false` when it does not.
    fn mount(&self, other: &Self, digest: &Digest) -> Result<bool, StoreError> {
        let (own, from) = (&self.reference, other.reference.repository());
        if other.reference.registry() != own.registry() || from == own.repository() {
            return Ok(false);
        }
        let address = with_parameter(&self.uploads_address()?, "mount", &digest.to_string());
        let address = address.and_then(|address| with_parameter(&address, "from", from));
        let Some(address) = address else { return Ok(false) };
        let scope = self.scope(Access::Push).from(from);
        // Who may not read the other repository can still send the blob.
        let Ok(answer) = self.endpoint()?.send(&mut Request::new(Method::POST, address), &scope) else {
            return Ok(false);
        };
        match answer.status() {
            201 => check_stored(&answer, digest).map(|()| true).map_err(StoreError::from),
            // It began an upload instead.
            202 => {
                self.cancel_upload(self.endpoint()?.next(&answer)?);
                Ok(false)
            }
            _ => Ok(false),
        }
    }

    /// Sends the last bytes of an upload, which may be all of them, and names the blob.
    fn finish_upload(
        &self,
        upload: Uri,
        digest: &Digest,
        size: u64,
        payload: Payload<'_>,
    ) -> Result<(), StoreError> {
        let scope = self.scope(Access::Push);
        let address = with_parameter(&upload, "digest", &digest.to_string());
        let address = address.ok_or_else(|| Error::Address(super::address::shown(&upload)))?;
        let mut request = Request::new(Method::PUT, address).header(CONTENT_TYPE, OCTETS).payload(payload);
        let endpoint = self.endpoint()?;
        // The end of a stream can be told again: nothing of the stream is in it.
        let outcome = match request.payload {
            Payload::Nothing => endpoint.send(&mut request, &scope),
            _ => endpoint.send_once(&mut request, &scope),
        };
        match outcome {
            Ok(answer) if matches!(answer.status(), 200..300) => Ok(check_stored(&answer, digest)?),
            outcome => {
                let error = match outcome {
                    Ok(answer) => self.refused(answer),
                    Err(error) => error.into(),
                };
                // An answer may be lost rather than the blob.
                if self.has_blob_within(digest, size, &scope).unwrap_or(false) {
                    return Ok(());
                }
                self.cancel_upload(upload);
                Err(error)
            }
        }
    }

    /// The other end of the pipe of a [`Sink`]; where the upload goes on is what comes back.
    fn send_chunks(&self, upload: Uri, chunks: Receiver<Vec<u8>>) -> Result<Uri, StoreError> {
        let mut body = Chunks { chunks, current: Vec::new(), at: 0 };
        let mut request = Request::new(Method::PATCH, upload)
            .header(CONTENT_TYPE, OCTETS)
            .payload(Payload::Stream(&mut body, None));
        let answer = self.endpoint()?.send_once(&mut request, &self.scope(Access::Push))?;
        match answer.status() {
            200..300 => Ok(self.endpoint()?.next(&answer)?),
            _ => Err(self.refused(answer)),
        }
    }

    fn uploads_address(&self) -> Result<Uri, Error> {
        self.endpoint()?.address(&format!("/v2/{}/blobs/uploads/", self.reference.repository()))
    }
}

/// A blob on its way to the registry while it is made.
///
/// A thread sends what comes through the pipe, until its end. Only then the blob is named, or the upload given up: some
/// registries let go of an upload only where they know how far it came.
pub(super) struct Sink {
    image: Image,
    upload: Option<Uri>,
    pipe: Option<SyncSender<Vec<u8>>>,
    worker: Option<JoinHandle<Result<Uri, StoreError>>>,
    buffer: Vec<u8>,
    hasher: Hasher,
    size: u64,
}

impl Sink {
    fn pass_on(&mut self, chunk: Vec<u8>) -> Result<(), StoreError> {
        match &self.pipe {
            Some(pipe) if pipe.send(chunk).is_ok() => Ok(()),
            // The thread has ended: it knows why.
            _ => match self.join() {
                Err(error) => Err(error),
                Ok(_) => Err(self.ended()),
            },
        }
    }

    fn pass_buffer_on(&mut self) -> Result<(), StoreError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::replace(&mut self.buffer, Vec::with_capacity(CHUNK));
        self.pass_on(chunk)
    }

    /// Waits for the thread that sends.
    fn join(&mut self) -> Result<Uri, StoreError> {
        self.pipe = None;
        match self.worker.take().map(JoinHandle::join) {
            Some(Ok(outcome)) => outcome,
            _ => Err(self.ended()),
        }
    }

    fn ended(&self) -> StoreError {
        Error::Ended { place: self.image.reference.to_string() }.into()
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len() >= CHUNK {
            self.pass_buffer_on().map_err(io::Error::other)?;
        }
        let count = bytes.len().min(CHUNK - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..count]);
        self.hasher.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.pass_buffer_on().map_err(io::Error::other)
    }
}

impl BlobSink for Sink {
    fn commit(mut self: Box<Self>, digest: &Digest, size: u64) -> Result<(), StoreError> {
        let found = std::mem::take(&mut self.hasher).finish();
        if (found, self.size) != (*digest, size) {
            let path = self.image.place();
            let (expected, expected_size, found_size) = (*digest, size, self.size);
            return Err(StoreError::Corrupt { path, expected, expected_size, found, found_size });
        }
        self.pass_buffer_on()?;
        let upload = self.join()?;
        // From here on, `finish_upload` cleans up.
        self.upload = None;
        self.image.finish_upload(upload, digest, size, Payload::Nothing)
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        let Some(upload) = self.upload.take() else { return };
        // How the request ended is no news to who gave it up.
        let upload = if self.worker.is_some() { self.join().unwrap_or(upload) } else { upload };
        self.image.cancel_upload(upload);
    }
}

/// The chunks of a pipe as one stream.
struct Chunks {
    chunks: Receiver<Vec<u8>>,
    current: Vec<u8>,
    at: usize,
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.current.len() {
            // Nobody at the other end is the end.
            let Ok(chunk) = self.chunks.recv() else { return Ok(0) };
            (self.current, self.at) = (chunk, 0);
        }
        let count = buffer.len().min(self.current.len() - self.at);
        buffer[..count].copy_from_slice(&self.current[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

/// Bytes from elsewhere, the last of which are held back until their reader agrees that all are right. So bad bytes
/// never make a whole upload.
struct Checked<'a> {
    inner: &'a mut dyn Read,
    left: u64,
    failure: Option<io::Error>,
}

impl Checked<'_> {
    fn read_checked(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if wanted == 0 {
            return Ok(0);
        }
        let count = self.inner.read(&mut buffer[..wanted])?;
        self.left -= count as u64;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if self.left == 0 && self.inner.read(&mut [0])? > 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "there are more bytes than announced"));
        }
        Ok(count)
    }
}

impl Read for Checked<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read_checked(buffer).map_err(|error| {
            let kind = error.kind();
            self.failure = Some(error);
            io::Error::new(kind, "the bytes to upload cannot be read")
        })
    }
}
