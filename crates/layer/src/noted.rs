//! Readers whose failures are told apart from those of whoever reads them.

use std::io::{self, Read};

/// Keeps what went wrong while it was read, where it is passed on through something that puts errors into words of its own.
#[derive(Debug)]
pub struct Noted<R> {
    inner: R,
    failure: Option<io::Error>,
}

impl<R> Noted<R> {
    /// Nothing went wrong so far.
    pub fn new(inner: R) -> Self {
        Self { inner, failure: None }
    }

    /// What is read.
    pub fn inner(&mut self) -> &mut R {
        &mut self.inner
    }

    /// What went wrong last, once.
    pub fn failure(&mut self) -> Option<io::Error> {
        self.failure.take()
    }
}

impl<R: Read> Read for Noted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer).map_err(|error| {
            let kind = error.kind();
            if kind != io::ErrorKind::Interrupted {
                self.failure = Some(error);
            }
            kind.into()
        })
    }
}
