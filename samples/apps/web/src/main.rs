//! A small HTTP server: one thread per connection, three pages, no framework.
//!
//! `PORT` says where to listen (8080 when unset), `GREETING` what to say.

use std::env;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

/// A request whose head is longer than this is not answered.
const MAX_HEAD: u64 = 16 * 1024;

/// What `/env` shows. A list of what may be seen, so that nothing secret ever is.
const SHOWN: [&str; 2] = ["PORT", "GREETING"];

fn main() -> io::Result<()> {
    stop_on_sigterm();
    let port = env::var("PORT").unwrap_or_else(|_| "8080".to_owned());
    let listener = TcpListener::bind(format!("0.0.0.0:{port}"))?;
    println!("listening on {}", listener.local_addr()?);

    for stream in listener.incoming() {
        let handled = stream.and_then(|stream| {
            thread::Builder::new().spawn(move || {
                if let Err(error) = serve(stream) {
                    eprintln!("connection: {error}");
                }
            })
        });
        if let Err(error) = handled {
            eprintln!("accept: {error}");
        }
    }
    Ok(())
}

/// Reads one request, writes one response, closes the connection.
fn serve(mut stream: TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.set_write_timeout(Some(Duration::from_secs(10)))?;

    let mut head = BufReader::new((&stream).take(MAX_HEAD)).lines();
    let request = head.next().transpose()?.unwrap_or_default();
    // The headers say nothing this server needs, but they must be read before the answer is sent.
    for line in head {
        if line?.is_empty() {
            break;
        }
    }

    let mut words = request.split_ascii_whitespace();
    let (method, target) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    let path = target.split('?').next().unwrap_or("");
    let (status, body) = answer(method, path);

    let mut length = itoa::Buffer::new();
    let mut response = format!(
        "HTTP/1.1 {status}\r\n\
         content-type: text/plain; charset=utf-8\r\n\
         content-length: {}\r\n\
         connection: close\r\n\r\n",
        length.format(body.len())
    );
    if method != "HEAD" {
        response.push_str(&body);
    }
    stream.write_all(response.as_bytes())?;
    stream.flush()
}

/// The whole site.
fn answer(method: &str, path: &str) -> (&'static str, String) {
    match (method, path) {
        ("GET" | "HEAD", "/") => {
            let greeting = env::var("GREETING").unwrap_or_else(|_| "Hello from Strata!".to_owned());
            ("200 OK", greeting.trim_end().to_owned() + "\n")
        }
        ("GET" | "HEAD", "/healthz") => ("200 OK", "ok\n".to_owned()),
        ("GET" | "HEAD", "/env") => {
            let lines = SHOWN.iter().filter_map(|name| Some(format!("{name}={}\n", env::var(name).ok()?)));
            ("200 OK", lines.collect())
        }
        ("GET" | "HEAD", _) => ("404 Not Found", "There is nothing here.\n".to_owned()),
        ("", _) => ("400 Bad Request", "That was not a request.\n".to_owned()),
        _ => ("405 Method Not Allowed", "Only GET and HEAD are understood.\n".to_owned()),
    }
}

/// The first process of a container gets no default action for signals: without a handler, stopping
/// the container would wait for its time limit and then kill.
fn stop_on_sigterm() {
    const SIGTERM: i32 = 15;
    extern "C" {
        fn signal(number: i32, handler: extern "C" fn(i32)) -> usize;
        fn _exit(code: i32) -> !;
    }
    extern "C" fn stop(_: i32) {
        // SAFETY: `_exit` may be called from a signal handler, and does not return.
        unsafe { _exit(0) }
    }
    // SAFETY: `stop` has the type that `signal` asks for, and only makes a call that handlers may make.
    unsafe { signal(SIGTERM, stop) };
}

#[cfg(test)]
mod tests {
    use super::answer;

    #[test]
    fn health_is_ok() {
        assert_eq!(answer("GET", "/healthz"), ("200 OK", "ok\n".to_owned()));
    }

    #[test]
    fn unknown_pages_and_methods_are_refused() {
        assert_eq!(answer("GET", "/nothing").0, "404 Not Found");
        assert_eq!(answer("DELETE", "/").0, "405 Method Not Allowed");
        assert_eq!(answer("", "").0, "400 Bad Request");
    }
}
