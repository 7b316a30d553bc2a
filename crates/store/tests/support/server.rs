//! A server of HTTP that does what a test tells it, rather than what is right.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// What came in.
#[derive(Clone, Debug, Default)]
pub struct Received {
    pub method: String,
    /// With the query.
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Received {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// `GET /path`, to match on.
    pub fn line(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

/// What goes out.
#[derive(Clone, Debug)]
pub struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// So many bytes of the body are sent before the connection is cut; the length is announced in full.
    cut_after: Option<usize>,
    is_endless: bool,
    /// The body ends where the connection ends.
    is_unannounced: bool,
    /// So many bytes are sent at a time, and then a pause is made.
    steps: Option<(usize, Duration)>,
    /// After so many bytes of the body nothing more is said, and the connection stays.
    stalls_after: Option<usize>,
    is_silent: bool,
}

impl Reply {
    pub fn status(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Vec::new(),
            cut_after: None,
            is_endless: false,
            is_unannounced: false,
            steps: None,
            stalls_after: None,
            is_silent: false,
        }
    }

    pub fn ok(body: &[u8]) -> Self {
        Self::status(200).body(body)
    }

    /// An error in the form of registries.
    pub fn error(status: u16, code: &str) -> Self {
        let body = format!(r#"{{"errors":[{{"code":"{code}","message":"told so"}}]}}"#);
        Self::status(status).body(body.as_bytes())
    }

    pub fn redirect(status: u16, to: &str) -> Self {
        Self::status(status).header("Location", to)
    }

    pub fn body(mut self, body: &[u8]) -> Self {
        body.clone_into(&mut self.body);
        self
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn cut_after(mut self, count: usize) -> Self {
        self.cut_after = Some(count);
        self
    }

    /// A body the length of which is not told.
    pub fn unannounced(mut self) -> Self {
        self.is_unannounced = true;
        self
    }

    /// A body that comes in small pieces.
    pub fn slowly(mut self, step: usize, pause: Duration) -> Self {
        self.steps = Some((step, pause));
        self
    }

    /// A body that begins and does not go on.
    pub fn stalled_after(mut self, count: usize) -> Self {
        self.stalls_after = Some(count);
        self
    }

    /// No answer at all, on a connection that stays.
    pub fn silent(mut self) -> Self {
        self.is_silent = true;
        self
    }

    pub fn changed(mut self, change: impl FnOnce(&mut Vec<u8>)) -> Self {
        change(&mut self.body);
        self
    }

    /// A body that never ends.
    pub fn endless(mut self) -> Self {
        self.is_endless = true;
        self
    }
}

type Handler = dyn Fn(&Received) -> Reply + Send + Sync;

/// A server that runs until it is dropped. Each connection is good for one request.
pub struct Server {
    address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// `GET /v2/` is answered with 200 unless the handler does otherwise.
    pub fn start(handler: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let received = Arc::<Mutex<Vec<Received>>>::default();
        let is_over = Arc::<AtomicBool>::default();
        let handler: Arc<Handler> = Arc::new(handler);
        let thread = std::thread::spawn({
            let (received, is_over) = (Arc::clone(&received), Arc::clone(&is_over));
            move || {
                for stream in listener.incoming() {
                    if is_over.load(Ordering::SeqCst) {
                        return;
                    }
                    let (handler, received) = (Arc::clone(&handler), Arc::clone(&received));
                    let Ok(stream) = stream else { continue };
                    std::thread::spawn(move || serve(&stream, &*handler, &received));
                }
            }
        });
        Self { address, received, is_over, thread: Some(thread) }
    }

    pub fn host(&self) -> String {
        self.address.to_string()
    }

    pub fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.host())
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.host())
    }

    /// All requests so far but the first, which asks whether there is a registry.
    pub fn received(&self) -> Vec<Received> {
        let received = self.received.lock().unwrap();
        received.iter().filter(|request| request.path != "/v2/").cloned().collect()
    }

    pub fn lines(&self) -> Vec<String> {
        self.received().iter().map(Received::line).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        // Wakes the thread up.
        drop(TcpStream::connect(self.address));
        self.thread.take().unwrap().join().unwrap();
    }
}

fn serve(stream: &TcpStream, handler: &Handler, received: &Mutex<Vec<Received>>) {
    let mut reader = BufReader::new(stream);
    // Not HTTP, but the first greeting of TLS; or nobody at all.
    let is_http = reader.fill_buf().is_ok_and(|bytes| bytes.first().is_some_and(u8::is_ascii_uppercase));
    if !is_http {
        return;
    }
    // A client that goes away is what some tests are about.
    let Some(request) = read_request(&mut reader) else { return };
    received.lock().unwrap().push(request.clone());
    drop(write_reply(stream, &request, &handler(&request)));
}

fn read_request(reader: &mut impl BufRead) -> Option<Received> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let mut request = Received { method: words.next()?, path: words.next()?, ..Received::default() };
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        request.headers.push((name.to_ascii_lowercase(), value.to_owned()));
    }
    request.body = match (request.header("content-length"), request.header("transfer-encoding")) {
        (Some(length), _) => {
            let mut body = vec![0; length.parse().ok()?];
            reader.read_exact(&mut body).ok()?;
            body
        }
        (None, Some("chunked")) => read_chunks(reader)?,
        _ => Vec::new(),
    };
    Some(request)
}

fn read_chunks(reader: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let size = usize::from_str_radix(line.trim(), 16).ok()?;
        let mut chunk = vec![0; size + 2];
        reader.read_exact(&mut chunk).ok()?;
        if size == 0 {
            return Some(body);
        }
        body.extend(&chunk[..size]);
    }
}

/// Waits until the other side has gone.
fn wait_for_end(mut stream: &TcpStream) -> std::io::Result<()> {
    std::io::copy(&mut stream, &mut std::io::sink()).map(drop)
}

fn write_reply(mut stream: &TcpStream, request: &Received, reply: &Reply) -> std::io::Result<()> {
    if reply.is_silent {
        return wait_for_end(stream);
    }
    write!(stream, "HTTP/1.1 {} Told\r\nConnection: close\r\n", reply.status)?;
    for (name, value) in &reply.headers {
        write!(stream, "{name}: {value}\r\n")?;
    }
    let says_length = reply.headers.iter().any(|(name, _)| name == "Content-Length");
    if !reply.is_endless && !reply.is_unannounced && !says_length {
        write!(stream, "Content-Length: {}\r\n", reply.body.len())?;
    }
    stream.write_all(b"\r\n")?;
    if request.method == "HEAD" {
        return Ok(());
    }
    if reply.is_endless {
        loop {
            stream.write_all(&[b'x'; 4096])?;
        }
    }
    if let Some(count) = reply.stalls_after {
        stream.write_all(&reply.body[..count.min(reply.body.len())])?;
        return wait_for_end(stream);
    }
    let body = &reply.body[..reply.cut_after.unwrap_or(reply.body.len()).min(reply.body.len())];
    let Some((step, pause)) = reply.steps else { return stream.write_all(body) };
    for part in body.chunks(step) {
        stream.write_all(part)?;
        std::thread::sleep(pause);
    }
    Ok(())
}
