//! One request, one answer: connections, certificates, proxies, redirects.
//!
//! Redirects are followed here rather than by the library, because each hop must be asked anew whether it may see the
//! credentials, and whether it may be reached at all.

use std::collections::HashMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use ureq::http::header::{AUTHORIZATION, LOCATION, RETRY_AFTER};
use ureq::http::uri::Scheme;
use ureq::http::{HeaderName, HeaderValue, Method, Response, Uri};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, AsSendBody, Body, ProxyProtocol, SendBody, Timeout};

use super::address::{Origin, join, shown};
use super::error::{Exchange, Problem, Refusal};
use super::transport::{self, LookUp};
use super::{Error, Settings, Trust};
use crate::copy::AT_A_TIME;

/// Hops from one address to the next.
const MAX_REDIRECTS: usize = 10;
/// What is read of an answer that tells of a failure.
const MAX_REFUSAL: u64 = 64 * 1024;
/// Manifests and lists come within this time. A server that sends a byte now and then is never silent.
const DOCUMENT: Duration = Duration::from_secs(300);
/// Where systems keep the certificates they trust; the lists of Go.
const CERTIFICATE_FILES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
const CERTIFICATE_DIRS: [&str; 2] = ["/etc/ssl/certs", "/etc/pki/tls/certs"];

/// Whether the other side must prove who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Identity {
    Proven,
    /// For registries that were called insecure. They are reached without proxy.
    Assumed,
}

/// What is sent along.
pub(super) enum Payload<'a> {
    Nothing,
    Bytes(&'a [u8]),
    /// Bytes that can be read once; of unknown number unless it is given.
    Stream(&'a mut dyn Read, Option<u64>),
}

/// What is asked.
pub(super) struct Request<'a> {
    pub(super) method: Method,
    pub(super) address: Uri,
    pub(super) headers: Vec<(HeaderName, String)>,
    pub(super) payload: Payload<'a>,
}

impl<'a> Request<'a> {
    pub(super) fn new(method: Method, address: Uri) -> Self {
        Self { method, address, headers: Vec::new(), payload: Payload::Nothing }
    }

    pub(super) fn header(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(super) fn payload(mut self, payload: Payload<'a>) -> Self {
        self.payload = payload;
        self
    }

    /// Whether the same can be sent again.
    pub(super) fn is_repeatable(&self) -> bool {
        !matches!(self.payload, Payload::Stream(..))
    }
}

/// What is read up to some time, however slowly it comes.
struct InTime<R> {
    reader: R,
    until: Instant,
}

impl<R: Read> Read for InTime<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if Instant::now() > self.until {
            let text = "the other side sent a document too slowly";
            return Err(io::Error::new(io::ErrorKind::TimedOut, text));
        }
        self.reader.read(buffer)
    }
}

/// What came back.
pub(super) struct Answer {
    pub(super) exchange: Exchange,
    /// Where it came from, after redirects.
    pub(super) address: Uri,
    response: Response<Body>,
}

impl Answer {
    pub(super) fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    pub(super) fn header(&self, name: impl ureq::http::header::AsHeaderName) -> Option<&str> {
        self.response.headers().get(name).and_then(|value| value.to_str().ok())
    }

    /// All headers of this name.
    pub(super) fn headers(&self, name: HeaderName) -> impl Iterator<Item = &str> {
        self.response.headers().get_all(name).iter().filter_map(|value| value.to_str().ok())
    }

    pub(super) fn into_reader(self) -> impl Read + Send + 'static {
        self.response.into_body().into_reader()
    }

    /// The whole body, if it is not longer than `limit` bytes.
    pub(super) fn into_bytes(self, limit: u64) -> Result<Vec<u8>, Error> {
        let exchange = self.exchange;
        let mut bytes = Vec::new();
        let reader = self.response.into_body().into_reader();
        let reader = InTime { reader, until: Instant::now() + DOCUMENT };
        match reader.take(limit + 1).read_to_end(&mut bytes) {
            Err(source) => Err(Error::Transport { exchange, source: of_body(source) }),
            Ok(count) if count as u64 > limit => Err(Error::TooLarge { exchange, limit }),
            Ok(_) => Ok(bytes),
        }
    }

    /// Where the `Location` header leads.
    pub(super) fn location(&self) -> Result<Uri, Error> {
        let found = self.header(LOCATION);
        found.and_then(|location| join(&self.address, location)).ok_or_else(|| Error::Header {
            exchange: self.exchange.clone(),
            name: "Location",
            // What is after the question mark may be a secret.
            found: found.map(|found| found.split('?').next().unwrap_or_default().to_owned()),
        })
    }

    /// The answer as an error, in the registry's own words.
    pub(super) fn into_refusal(self, looked_in: &[String]) -> Error {
        let status = self.status();
        let retry_after = self.header(RETRY_AFTER).and_then(|text| text.trim().parse().ok());
        let mut bytes = Vec::new();
        let reader = self.response.into_body().into_reader();
        let reader = InTime { reader, until: Instant::now() + DOCUMENT };
        // A body that breaks off explains nothing; the status is what counts.
        let problems = match reader.take(MAX_REFUSAL).read_to_end(&mut bytes) {
            Ok(_) => problems(&bytes),
            Err(_) => Vec::new(),
        };
        let refusal = Box::new(Refusal {
            exchange: self.exchange,
            status,
            problems,
            looked_in: looked_in.to_vec(),
            retry_after: retry_after.map(Duration::from_secs),
        });
        if status == 401 { Error::Unauthorized(refusal) } else { Error::Status(refusal) }
    }
}

/// The complaints in the body of a refusal; none if it has another form.
fn problems(bytes: &[u8]) -> Vec<Problem> {
    let Ok(value) = serde_json::from_slice::<Value>(bytes) else { return Vec::new() };
    let text = |problem: &Value, member: &str| {
        let text = problem.get(member).and_then(Value::as_str).unwrap_or_default();
        // It is shown to people: no control characters, and not a page of it.
        text.chars().filter(|c| !c.is_control()).take(300).collect()
    };
    let problems = value.get("errors").and_then(Value::as_array);
    let problems = problems.map(Vec::as_slice).unwrap_or_default().iter().take(5);
    problems.map(|each| Problem { code: text(each, "code"), message: text(each, "message") }).collect()
}

/// Connections, which are kept and used again.
pub(super) struct Http {
    settings: Settings,
    agents: Mutex<HashMap<Reach, Agent>>,
    roots: OnceLock<RootCerts>,
}

/// What connections have in common that can stand for each other.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Reach {
    identity: Identity,
    proxy: Option<String>,
}

impl Http {
    pub(super) fn new(settings: Settings) -> Self {
        Self { settings, agents: Mutex::default(), roots: OnceLock::new() }
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Sends the request, and follows redirects where the method and the payload allow it. `authorize` gives the
    /// `Authorization` header for an address, or nothing if it must not have one.
    pub(super) fn send(
        &self,
        request: &mut Request<'_>,
        identity: Identity,
        authorize: &dyn Fn(&Uri) -> Result<Option<String>, Error>,
    ) -> Result<Answer, Error> {
        let mut address = request.address.clone();
        for _ in 0..=MAX_REDIRECTS {
            let answer = self.send_once(request, &address, identity, authorize(&address)?)?;
            if !is_followed(request, answer.status()) {
                return Ok(answer);
            }
            let next = answer.location()?;
            check_hop(&answer.exchange, &address, &next, identity)?;
            address = next;
        }
        let exchange = Exchange::new(&request.method, &request.address);
        Err(Error::Redirect { exchange, location: shown(&address), problem: "and on and on" })
    }

    fn send_once(
        &self,
        request: &mut Request<'_>,
        address: &Uri,
        identity: Identity,
        authorization: Option<String>,
    ) -> Result<Answer, Error> {
        let exchange = Exchange::new(&request.method, address);
        let agent = self.agent(address, identity)?;
        let mut parts = ureq::http::Request::builder().method(request.method.clone()).uri(address.clone());
        for (name, value) in &request.headers {
            parts = parts.header(name, value);
        }
        if let Some(authorization) = authorization {
            let value = HeaderValue::try_from(authorization).map(|mut value| {
                value.set_sensitive(true);
                value
            });
            parts = match value {
                Ok(value) => parts.header(AUTHORIZATION, value),
                Err(error) => return Err(failed(&exchange, ureq::Error::Http(error.into()))),
            };
        }
        let has_body = matches!(request.method, Method::POST | Method::PUT | Method::PATCH);
        let outcome = match &mut request.payload {
            Payload::Bytes(bytes) => parts.body(*bytes).map(|request| self.run_long(&agent, request)),
            // A length of nothing is sent too: some servers insist.
            Payload::Nothing if has_body => {
                parts.body(&[] as &[u8]).map(|request| self.run_long(&agent, request))
            }
            Payload::Nothing => parts.body(()).map(|request| agent.run(request)),
            Payload::Stream(reader, size) => {
                if let Some(size) = size {
                    parts = parts.header(ureq::http::header::CONTENT_LENGTH, *size);
                }
                parts.body(SendBody::from_reader(reader)).map(|request| self.run_long(&agent, request))
            }
        };
        match outcome {
            Ok(Ok(response)) => Ok(Answer { exchange, address: address.clone(), response }),
            Ok(Err(error)) => Err(failed(&exchange, error)),
            Err(error) => Err(failed(&exchange, error.into())),
        }
    }

    /// Sends something, after which the other side may be silent for longer.
    fn run_long<B: AsSendBody>(
        &self,
        agent: &Agent,
        request: ureq::http::Request<B>,
    ) -> Result<Response<Body>, ureq::Error> {
        let patience = Some(self.settings.upload_timeout);
        agent.run(agent.configure_request(request).timeout_per_read(patience).build())
    }

    fn agent(&self, address: &Uri, identity: Identity) -> Result<Agent, Error> {
        let origin = Origin::of(address).ok_or_else(|| Error::Address(shown(address)))?;
        let proxy = match identity {
            Identity::Proven => self.settings.proxies.for_origin(&origin).map(str::to_owned),
            Identity::Assumed => None,
        };
        let reach = Reach { identity, proxy };
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(agent) = agents.get(&reach) {
            return Ok(agent.clone());
        }
        let agent = self.new_agent(&reach)?;
        agents.insert(reach, agent.clone());
        Ok(agent)
    }

    fn new_agent(&self, reach: &Reach) -> Result<Agent, Error> {
        let proxy = reach.proxy.as_deref().map(parse_proxy).transpose()?;
        let tls = TlsConfig::builder()
            .unversioned_rustls_crypto_provider(rustls::crypto::ring::default_provider().into());
        let tls = match reach.identity {
            Identity::Proven => tls.root_certs(self.roots()?),
            Identity::Assumed => tls.disable_verification(true),
        };
        let settings = &self.settings;
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(proxy)
            .tls_config(tls.build())
            .user_agent(&settings.user_agent)
            // As many as blobs are copied at a time, from and to one registry.
            .max_idle_connections_per_host(2 * AT_A_TIME)
            .timeout_connect(Some(settings.connect_timeout))
            .timeout_per_read(Some(settings.idle_timeout))
            .timeout_per_write(Some(settings.upload_timeout))
            .build();
        let stop = &settings.stop;
        Ok(Agent::with_parts(config, transport::connector(stop), LookUp(stop.clone())))
    }

    /// The certificates of authorities, read when first needed.
    fn roots(&self) -> Result<RootCerts, Error> {
        if let Some(roots) = self.roots.get() {
            return Ok(roots.clone());
        }
        let mut certificates = read_roots(&self.settings.trust)?;
        if certificates.is_empty() {
            let list = webpki_root_certs::TLS_SERVER_ROOT_CERTS;
            certificates = list.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
        }
        Ok(self.roots.get_or_init(|| RootCerts::from(certificates)).clone())
    }
}

fn parse_proxy(text: &str) -> Result<ureq::Proxy, Error> {
    let refused = |problem: String| {
        // Without user and password.
        let proxy = text.rsplit_once('@').map_or(text, |(_, host)| host).to_owned();
        Error::Proxy { proxy, problem }
    };
    let proxy = ureq::Proxy::new(text).map_err(|error| refused(error.to_string()))?;
    match proxy.protocol() {
        ProxyProtocol::Http | ProxyProtocol::Https => Ok(proxy),
        _ => Err(refused("only proxies of HTTP are supported".to_owned())),
    }
}

/// Reads the certificates as Go does: one file, and all directories. What is named must be there; what is only usual
/// need not.
fn read_roots(trust: &Trust) -> Result<Vec<Certificate<'static>>, Error> {
    let usual_file = || CERTIFICATE_FILES.map(PathBuf::from).into_iter().find(|path| path.is_file());
    let dirs = trust.dirs.clone().unwrap_or_else(|| CERTIFICATE_DIRS.map(PathBuf::from).to_vec());
    let mut found = Vec::new();
    if let Some(file) = trust.file.clone().or_else(usual_file) {
        let loaded = rustls_native_certs::load_certs_from_paths(Some(&file), None);
        if loaded.certs.is_empty() && trust.file.is_some() {
            let problem = loaded.errors.first().map(ToString::to_string);
            let problem = problem.unwrap_or_else(|| "there is none".to_owned());
            return Err(Error::Trust { path: file, problem });
        }
        found.extend(loaded.certs);
    }
    for dir in dirs.iter().filter(|dir| Path::is_dir(dir)) {
        // Such directories hold other things as well; what is no certificate is passed over.
        found.extend(rustls_native_certs::load_certs_from_paths(None, Some(dir)).certs);
    }
    found.sort_unstable_by(|a, b| a.as_ref().cmp(b.as_ref()));
    found.dedup();
    Ok(found.iter().map(|der| Certificate::from_der(der).to_owned()).collect())
}

/// A request that only reads may go anywhere; one that changes something must stay what it is. What has a body is sent
/// to whom it was meant for and to nobody else: it may be a secret.
fn is_followed(request: &Request<'_>, status: u16) -> bool {
    match status {
        301..=303 => matches!(request.method, Method::GET | Method::HEAD),
        307 | 308 => matches!(request.payload, Payload::Nothing),
        _ => false,
    }
}

/// Refuses to go on where others could listen, when so far they could not.
pub(super) fn check_hop(exchange: &Exchange, from: &Uri, to: &Uri, identity: Identity) -> Result<(), Error> {
    let leaves_tls = from.scheme() == Some(&Scheme::HTTPS) && to.scheme() != Some(&Scheme::HTTPS);
    if leaves_tls && identity == Identity::Proven {
        let problem = "which is not HTTPS";
        return Err(Error::Redirect { exchange: exchange.clone(), location: shown(to), problem });
    }
    Ok(())
}

fn failed(exchange: &Exchange, error: ureq::Error) -> Error {
    let source = match error {
        ureq::Error::Io(error) => error,
        ureq::Error::Timeout(Timeout::PerRead | Timeout::PerWrite) => silence(),
        other => io::Error::other(other),
    };
    Error::Transport { exchange: exchange.clone(), source }
}

/// What came of a body: silence is told apart from failures that do not pass.
fn of_body(error: io::Error) -> io::Error {
    let of_ureq = error.get_ref().and_then(|inner| inner.downcast_ref());
    match of_ureq {
        Some(ureq::Error::Timeout(Timeout::PerRead | Timeout::PerWrite)) => silence(),
        _ => error,
    }
}

fn silence() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the other side was silent for too long")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_that_comes_byte_by_byte_has_an_end() {
        let mut bytes = Vec::new();
        let until = Instant::now() + Duration::from_millis(20);
        let error = InTime { reader: io::repeat(b' '), until }.read_to_end(&mut bytes).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let until = Instant::now() + Duration::from_secs(60);
        assert_eq!(InTime { reader: &b"all"[..], until }.read_to_end(&mut bytes).unwrap(), 3);
    }

    #[test]
    fn only_what_reads_or_says_nothing_is_redirected() {
        for (method, payload, status, expected) in [
            (Method::GET, Payload::Nothing, 302, true),
            (Method::HEAD, Payload::Nothing, 301, true),
            (Method::GET, Payload::Nothing, 307, true),
            (Method::GET, Payload::Nothing, 304, false),
            (Method::POST, Payload::Nothing, 302, false),
            (Method::POST, Payload::Nothing, 307, true),
            (Method::POST, Payload::Bytes(b"secret"), 308, false),
            (Method::PUT, Payload::Stream(&mut io::empty(), None), 307, false),
        ] {
            let request = Request::new(method, Uri::from_static("https://r.io/")).payload(payload);
            assert_eq!(is_followed(&request, status), expected, "{} {status}", request.method);
        }
    }

    #[test]
    fn a_hop_does_not_leave_https_unless_the_registry_is_insecure() {
        for (from, to, identity, is_good) in [
            ("https://r.io/", "https://cdn.io/", Identity::Proven, true),
            ("https://r.io/", "http://cdn.io/", Identity::Proven, false),
            ("https://r.io/", "http://cdn.io/", Identity::Assumed, true),
            ("http://r.io/", "http://cdn.io/", Identity::Proven, true),
            ("http://r.io/", "https://cdn.io/", Identity::Proven, true),
        ] {
            let exchange = Exchange::new(&Method::GET, &Uri::from_static("https://r.io/"));
            let outcome = check_hop(&exchange, &from.parse().unwrap(), &to.parse().unwrap(), identity);
            assert_eq!(outcome.is_ok(), is_good, "{from} {to}");
        }
    }

    #[test]
    fn a_proxy_is_one_of_http_and_its_password_is_not_shown() {
        for good in ["http://u:p@proxy:3128", "https://proxy", "proxy:3128", "http://10.0.0.1:8080/"] {
            assert!(parse_proxy(good).is_ok(), "{good}");
        }
        for bad in ["socks5://u:hush@proxy:1080", "ftp://u:hush@proxy", ""] {
            let text = parse_proxy(bad).unwrap_err().to_string();
            assert!(!text.contains("hush"), "{text}");
        }
    }

    #[test]
    fn what_is_named_must_be_there_and_what_is_usual_need_not() {
        let dir = tempfile::tempdir().unwrap();
        let trust = |file: Option<&str>| Trust {
            file: file.map(|file| dir.path().join(file)),
            dirs: Some(vec![dir.path().to_owned(), dir.path().join("absent")]),
        };
        assert!(read_roots(&trust(Some("absent.pem"))).is_err());
        std::fs::write(dir.path().join("notes.txt"), "no certificate").unwrap();
        assert!(read_roots(&trust(Some("notes.txt"))).is_err());
        let without = read_roots(&trust(None)).unwrap().len();
        let key = rcgen::KeyPair::generate().unwrap();
        let own = rcgen::CertificateParams::default().self_signed(&key).unwrap();
        std::fs::write(dir.path().join("own.pem"), own.pem()).unwrap();
        assert_eq!(read_roots(&trust(None)).unwrap().len(), without + 1);
        assert_eq!(read_roots(&trust(Some("own.pem"))).unwrap().len(), 1);
    }
}
