//! HTTP/1.1 as a daemon speaks it: one request after the other over one connection that is kept.
//!
//! A library's pool of connections would not do: a socket that was opened by root must be used on by a user who could
//! not open it, so that there must be exactly one connection, and it must not be closed without need.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::time::Duration;

use super::connection::Stream;

/// All lines before the body of an answer.
const MAX_HEAD: u64 = 64 * 1024;
const MAX_HEADERS: usize = 64;
/// A line between chunks.
const MAX_LINE: u64 = 4096;
const CHUNK: usize = 128 * 1024;

/// What writes the body of a request; it may be asked to do so again.
pub(super) type Payload<'a, E> = &'a dyn Fn(&mut dyn Write) -> Result<(), E>;

/// What is asked.
pub(super) struct Request<'a, E> {
    pub(super) method: &'static str,
    /// Path and query.
    pub(super) target: &'a str,
    /// An archive.
    pub(super) payload: Option<Payload<'a, E>>,
    pub(super) host: &'a str,
    pub(super) user_agent: &'a str,
    /// How long the daemon may be silent.
    pub(super) patience: Option<Duration>,
}

/// Why a request has no answer.
pub(super) enum Unanswered<E> {
    /// The connection ended, or broke, before the first byte of an answer.
    Closed(io::Error),
    /// The answer broke off, or is none.
    Broken(io::Error),
    /// The payload could not be written, for a reason of its own.
    Payload(E),
}

/// What came back, but for the body.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) status: u16,
    /// Whether it is of HTTP/1.0, after which a connection ends.
    is_old: bool,
    headers: Vec<(String, String)>,
}

impl Head {
    /// The value of a header, the name of which is given in lower case.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn has(&self, name: &str, word: &str) -> bool {
        self.header(name)
            .is_some_and(|value| value.split(',').any(|part| part.trim().eq_ignore_ascii_case(word)))
    }
}

/// A connection that is waiting for a request.
pub(super) struct Connection {
    stream: BufReader<Box<dyn Stream>>,
}

impl Connection {
    pub(super) fn new(stream: Box<dyn Stream>) -> Self {
        Self { stream: BufReader::with_capacity(CHUNK, stream) }
    }

    /// Sends a request and waits for the head of the answer.
    pub(super) fn ask<E>(&mut self, request: &Request<'_, E>) -> Result<Head, Unanswered<E>> {
        self.stream.get_mut().set_patience(request.patience);
        if let Err(error) = self.send_head(request) {
            return Err(Unanswered::Closed(error));
        }
        if let Some(payload) = request.payload {
            let mut body = ChunkWriter::new(self.stream.get_mut());
            let outcome = payload(&mut body);
            match (outcome, body.finish()) {
                // The daemon may have hung up because it has said why already.
                (_, Err(_)) => {}
                (Err(error), Ok(())) => return Err(Unanswered::Payload(error)),
                (Ok(()), Ok(())) => {}
            }
        }
        loop {
            let head = self.receive_head()?;
            // 1xx only announce an answer.
            if head.status >= 200 {
                return Ok(head);
            }
        }
    }

    fn send_head<E>(&mut self, request: &Request<'_, E>) -> io::Result<()> {
        let Request { method, target, host, user_agent, .. } = request;
        let mut head = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {user_agent}\r\n");
        match (request.payload, *method) {
            (Some(_), _) => {
                head.push_str("Content-Type: application/x-tar\r\nTransfer-Encoding: chunked\r\n");
            }
            (None, "POST") => head.push_str("Content-Length: 0\r\n"),
            (None, _) => {}
        }
        head.push_str("\r\n");
        let stream = self.stream.get_mut();
        stream.write_all(head.as_bytes())?;
        stream.flush()
    }

    fn receive_head<E>(&mut self) -> Result<Head, Unanswered<E>> {
        match self.stream.fill_buf() {
            Ok([]) => return Err(Unanswered::Closed(io::ErrorKind::ConnectionAborted.into())),
            Ok(_) => {}
            Err(error) if is_impatience(&error) => return Err(Unanswered::Broken(impatience())),
            Err(error) => return Err(Unanswered::Closed(error)),
        }
        let mut bytes = Vec::new();
        let mut lines = (&mut self.stream).take(MAX_HEAD);
        while !(bytes.ends_with(b"\r\n\r\n") || bytes.ends_with(b"\n\n")) {
            match lines.read_until(b'\n', &mut bytes) {
                Ok(0) => return Err(Unanswered::Broken(malformed("its head has no end"))),
                Ok(_) => {}
                Err(error) => return Err(Unanswered::Broken(error)),
            }
        }
        parse_head(&bytes).map_err(Unanswered::Broken)
    }

    /// The body of the answer with this head.
    pub(super) fn body(&mut self, head: &Head) -> io::Result<Body<'_>> {
        let length = head.header("content-length").map(str::parse).transpose();
        let length = length.map_err(|error: std::num::ParseIntError| malformed(&error.to_string()))?;
        let left = if matches!(head.status, 204 | 304) {
            Left::Bytes(0)
        } else if head.has("transfer-encoding", "chunked") {
            Left::Chunks { of_this: 0, is_first: true }
        } else {
            length.map_or(Left::Everything, Left::Bytes)
        };
        let may_stay_open = !head.is_old && !head.has("connection", "close");
        Ok(Body { reader: &mut self.stream, left, may_stay_open })
    }
}

fn parse_head(bytes: &[u8]) -> io::Result<Head> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let is_whole = response.parse(bytes).map_err(|error| malformed(&error.to_string()))?.is_complete();
    let status = response.code.filter(|_| is_whole).ok_or_else(|| malformed("its head is not whole"))?;
    let header = |header: &httparse::Header<'_>| {
        (header.name.to_ascii_lowercase(), String::from_utf8_lossy(header.value).into_owned())
    };
    Ok(Head {
        status,
        is_old: response.version == Some(0),
        headers: response.headers.iter().map(header).collect(),
    })
}

fn malformed(problem: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the answer is not HTTP/1.1: {problem}"))
}

fn is_impatience(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

fn impatience() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "it does not answer")
}

/// Writes a body of unknown length.
struct ChunkWriter<'a> {
    out: &'a mut dyn Stream,
    buffer: Vec<u8>,
    failure: Option<io::Error>,
}

impl<'a> ChunkWriter<'a> {
    fn new(out: &'a mut Box<dyn Stream>) -> Self {
        Self { out: &mut **out, buffer: Vec::with_capacity(CHUNK), failure: None }
    }

    fn send(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let sent = write!(self.out, "{:x}\r\n", self.buffer.len())
            .and_then(|()| self.out.write_all(&self.buffer))
            .and_then(|()| self.out.write_all(b"\r\n"));
        self.buffer.clear();
        sent.map_err(|error| {
            let told = error.kind().into();
            self.failure = Some(error);
            told
        })
    }

    /// Ends the body, unless the connection has failed before.
    fn finish(mut self) -> io::Result<()> {
        match self.failure.take() {
            Some(error) => Err(error),
            None => {
                self.send().and_then(|()| self.out.write_all(b"0\r\n\r\n")).and_then(|()| self.out.flush())
            }
        }
    }
}

impl Write for ChunkWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(CHUNK - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..taken]);
        if self.buffer.len() == CHUNK {
            self.send()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What has not been read of a body.
enum Left {
    Bytes(u64),
    Chunks {
        of_this: u64,
        is_first: bool,
    },
    /// Until the connection ends.
    Everything,
}

/// The body of an answer.
pub(super) struct Body<'a> {
    reader: &'a mut BufReader<Box<dyn Stream>>,
    left: Left,
    may_stay_open: bool,
}

impl Body<'_> {
    /// Whether the connection is good for another request. What is left is read, if it is not more than `limit` bytes.
    pub(super) fn finish(mut self, limit: u64) -> bool {
        let rest = io::copy(&mut (&mut self).take(limit), &mut io::sink());
        rest.is_ok() && self.may_stay_open && matches!(self.left, Left::Bytes(0))
    }

    fn begin_chunk(&mut self, is_first: bool) -> io::Result<u64> {
        if !is_first && !self.line()?.is_empty() {
            return Err(malformed("a chunk is longer than announced"));
        }
        let line = [self.line()?, b"\r\n".to_vec()].concat();
        match httparse::parse_chunk_size(&line) {
            Ok(httparse::Status::Complete((_, size))) => Ok(size),
            _ => Err(malformed("the size of a chunk is no number")),
        }
    }

    /// Without its end.
    fn line(&mut self) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        self.reader.take(MAX_LINE).read_until(b'\n', &mut line)?;
        if line.pop() != Some(b'\n') {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        line.pop_if(|last| *last == b'\r');
        Ok(line)
    }

    /// At most `most` bytes, at least one.
    fn some(&mut self, buffer: &mut [u8], most: u64) -> io::Result<u64> {
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(buffer.len());
        match self.reader.read(&mut buffer[..most])? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count => Ok(count as u64),
        }
    }
}

impl Read for Body<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let count = match self.left {
            Left::Everything => return self.reader.read(buffer),
            Left::Bytes(0) => 0,
            Left::Bytes(left) => {
                let count = self.some(buffer, left)?;
                self.left = Left::Bytes(left - count);
                count
            }
            Left::Chunks { of_this: 0, is_first } => match self.begin_chunk(is_first)? {
                0 => {
                    // What may follow the last chunk is of no interest.
                    while !self.line()?.is_empty() {}
                    self.left = Left::Bytes(0);
                    0
                }
                of_this => {
                    self.left = Left::Chunks { of_this, is_first: false };
                    return self.read(buffer);
                }
            },
            Left::Chunks { of_this, .. } => {
                let count = self.some(buffer, of_this)?;
                self.left = Left::Chunks { of_this: of_this - count, is_first: false };
                count
            }
        };
        usize::try_from(count).map_err(io::Error::other)
    }
}
