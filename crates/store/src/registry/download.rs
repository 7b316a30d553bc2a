//! Reading blobs, going on where a connection broke.

use std::io::{self, Read};

use strata_oci::Descriptor;
use ureq::http::Method;
use ureq::http::header::{CONTENT_LENGTH, CONTENT_RANGE, RANGE};

use super::auth::Access;
use super::http::{Answer, Request};
use super::retry::Backoff;
use super::{Error, Image};
use crate::StoreError;

/// Who got so many bytes since the last failure starts to count failures anew.
const PROGRESS: u64 = 1024 * 1024;

/// The bytes of a blob, not verified yet.
pub(super) struct Download {
    image: Image,
    descriptor: Descriptor,
    body: Box<dyn Read + Send>,
    done: u64,
    failures: u32,
    failed_at: u64,
}

impl Image {
    /// Starts to read a blob; `None` when it is absent.
    pub(super) fn download(&self, descriptor: &Descriptor) -> Result<Option<Download>, StoreError> {
        let answer = self.get_blob(descriptor, 0)?;
        match answer.status() {
            200 => {}
            404 => return Ok(None),
            _ => return Err(self.refused(answer)),
        }
        let announced = answer.header(CONTENT_LENGTH).and_then(|length| length.parse().ok());
        if let Some(found) = announced.filter(|found| *found != descriptor.size) {
            let path = format!("{}@{}", self.place().display(), descriptor.digest).into();
            return Err(StoreError::Size { path, expected: descriptor.size, found });
        }
        Ok(Some(Download {
            image: self.clone(),
            descriptor: descriptor.clone(),
            body: Box::new(answer.into_reader()),
            done: 0,
            failures: 0,
            failed_at: 0,
        }))
    }

    fn get_blob(&self, descriptor: &Descriptor, from: u64) -> Result<Answer, Error> {
        let mut request = Request::new(Method::GET, self.blob_address(&descriptor.digest)?);
        if from > 0 {
            request = request.header(RANGE, format!("bytes={from}-"));
        }
        self.endpoint()?.send(&mut request, &self.scope(Access::Pull))
    }
}

impl Download {
    /// Asks for the rest after a failure; `false` when there were enough of them, or there is no rest.
    fn resume(&mut self) -> io::Result<bool> {
        if self.done >= self.failed_at + PROGRESS {
            self.failures = 0;
        }
        self.failed_at = self.done;
        self.failures += 1;
        let image = self.image.clone();
        let endpoint = image.endpoint().map_err(io::Error::other)?;
        let mut backoff = Backoff::after(endpoint.http().settings(), self.failures - 1);
        if !backoff.wait(None) {
            return Ok(false);
        }
        let answer = image.get_blob(&self.descriptor, self.done).map_err(io::Error::other)?;
        match answer.status() {
            206 if starts_at(&answer, self.done) => self.body = Box::new(answer.into_reader()),
            // From the beginning once more: what is known already is passed over.
            200 => {
                let mut body = answer.into_reader();
                io::copy(&mut (&mut body).take(self.done), &mut io::sink())?;
                self.body = Box::new(body);
            }
            416 => return Ok(false),
            _ => return Err(io::Error::other(image.refused(answer))),
        }
        Ok(true)
    }
}

impl Read for Download {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.body.read(buffer) {
                Ok(0) if self.done < self.descriptor.size && !buffer.is_empty() => {
                    // Whoever verifies says that bytes are missing.
                    if !self.resume()? {
                        return Ok(0);
                    }
                }
                Ok(count) => {
                    self.done += count as u64;
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    if !self.resume()? {
                        return Err(error);
                    }
                }
            }
        }
    }
}

fn starts_at(answer: &Answer, start: u64) -> bool {
    let range = answer.header(CONTENT_RANGE).and_then(|range| range.strip_prefix("bytes "));
    let first = range.and_then(|range| range.split_once('-')).map(|(first, _)| first);
    first.and_then(|first| first.trim().parse().ok()) == Some(start)
}
