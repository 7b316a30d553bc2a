//! The few calls of the Docker Engine API that images need.

use std::io::{Read, Write};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::connection::dial;
use super::http::{Connection, Head, Payload, Request, Unanswered};
use super::{Client, Error, Exchange};
use crate::StoreError;

/// The version that is spoken with daemons that know it.
const NEWEST: Version = Version(1, 51);
/// The version that has all that is used here.
const OLDEST: Version = Version(1, 24);
const OLDEST_TEXT: &str = "1.24";
/// Platforms can be asked for since this version.
const PLATFORMS: Version = Version(1, 49);
/// What is read of a document.
const MAX_DOCUMENT: u64 = 16 * 1024 * 1024;
/// What is read of an answer that tells of a failure, or that nobody wants.
const MAX_REST: u64 = 64 * 1024;

/// A version of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version(u32, u32);

impl Version {
    fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.strip_prefix('v').unwrap_or(text).split_once('.')?;
        Some(Self(major.parse().ok()?, minor.parse().ok()?))
    }
}

/// A question about an image.
struct Question<'a, E> {
    method: &'static str,
    target: String,
    payload: Option<Payload<'a, E>>,
    /// Whether the answer takes as long as it takes.
    is_long: bool,
}

impl<E> Question<'_, E> {
    fn get(target: String) -> Self {
        Self { method: "GET", target, payload: None, is_long: false }
    }
}

/// What came back.
struct Answer<'a> {
    exchange: &'a Exchange,
    head: Head,
    body: &'a mut dyn Read,
}

impl Answer<'_> {
    /// The whole body, if it is not longer than `limit` bytes.
    fn bytes(&mut self, limit: u64) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        let read = (&mut self.body).take(limit + 1).read_to_end(&mut bytes);
        read.map_err(|source| Error::Transport { exchange: self.exchange.clone(), source })?;
        if bytes.len() as u64 > limit {
            return Err(Error::TooLarge { exchange: self.exchange.clone(), limit });
        }
        Ok(bytes)
    }

    fn document(&mut self) -> Result<Value, Error> {
        let bytes = self.bytes(MAX_DOCUMENT)?;
        serde_json::from_slice(&bytes)
            .map_err(|source| Error::Document { exchange: self.exchange.clone(), source })
    }

    /// Nothing, if the daemon did what was asked.
    fn check(&mut self) -> Result<(), Error> {
        match self.head.status {
            200..300 => Ok(()),
            status => {
                let bytes = self.bytes(MAX_REST)?;
                Err(Error::Status { exchange: self.exchange.clone(), status, message: message(&bytes) })
            }
        }
    }

    /// As [`check`](Self::check); `false` when there is no such image.
    fn is_found(&mut self) -> Result<bool, Error> {
        match self.check() {
            // A daemon that does not know the question answers so too.
            Err(Error::Status { status: 404, message, .. }) if message != "page not found" => Ok(false),
            outcome => outcome.map(|()| true),
        }
    }
}

/// The daemon's own words: the `message` of a document, or the text itself.
fn message(bytes: &[u8]) -> String {
    let document = serde_json::from_slice::<Value>(bytes).ok();
    let text = document.as_ref().and_then(|document| document.get("message")?.as_str());
    let text = text.map_or_else(|| String::from_utf8_lossy(bytes), Into::into);
    let shown = for_people(text.trim());
    if shown.is_empty() { "it gives no reason".to_owned() } else { shown }
}

/// Without control characters, and not a page of it.
fn for_people(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(2000).collect()
}

impl Client {
    /// Makes sure that there is a connection and that the daemon answers, and agrees with it on a version of the API.
    ///
    /// From then on this connection is used, also when this process may no longer open it. Should the daemon close it, a
    /// new one is tried.
    ///
    /// # Errors
    ///
    /// When there is no connection, or the daemon is too old.
    pub fn connect(&self) -> Result<(), Error> {
        self.ping()?;
        self.version().map(drop)
    }

    /// Asks for a sign of life. Daemons of some versions close a connection on which nothing was asked for five
    /// minutes: whoever does something else for long asks more often than that.
    ///
    /// # Errors
    ///
    /// When there is no answer.
    pub fn ping(&self) -> Result<(), Error> {
        self.ask(&Question::get("/_ping".to_owned()), |mut answer| {
            answer.check()?;
            let found = answer.head.header("api-version").unwrap_or(OLDEST_TEXT).to_owned();
            answer.bytes(MAX_REST)?;
            // Kept from the first time: a daemon does not change while it runs.
            self.shared.known_version.get_or_init(|| found);
            Ok(())
        })
    }

    fn version(&self) -> Result<Version, Error> {
        if let Some(text) = self.shared.settings.api_version.as_deref().filter(|text| !text.is_empty()) {
            return Version::parse(text).ok_or_else(|| self.bad_version(text));
        }
        if self.shared.known_version.get().is_none() {
            self.ping()?;
        }
        let text = self.shared.known_version.get().map_or(OLDEST_TEXT, String::as_str);
        match Version::parse(text) {
            Some(found) if found >= OLDEST => Ok(found.min(NEWEST)),
            _ => Err(self.bad_version(text)),
        }
    }

    fn bad_version(&self, found: &str) -> Error {
        Error::Version { host: self.host(), found: for_people(found), least: OLDEST_TEXT }
    }

    /// Whether images of several platforms may have one name, and one of them can be asked for.
    pub(super) fn knows_platforms(&self) -> Result<bool, Error> {
        Ok(self.version()? >= PLATFORMS)
    }

    /// What the daemon says of an image; `None` when there is none.
    pub(super) fn inspect(&self, name: &str, platform: Option<&str>) -> Result<Option<Value>, Error> {
        self.find(&format!("/images/{name}/json{}", query(platform)))
    }

    /// How the daemon says that the image came to be, newest first; `None` when there is no such image.
    pub(super) fn history(&self, name: &str, platform: Option<&str>) -> Result<Option<Value>, Error> {
        self.find(&format!("/images/{name}/history{}", query(platform)))
    }

    fn find(&self, path: &str) -> Result<Option<Value>, Error> {
        let target = self.target(path)?;
        self.ask(&Question::get(target), |mut answer| {
            if answer.is_found()? { answer.document().map(Some) } else { Ok(None) }
        })
    }

    /// Whether images are kept by containerd. Then the id of an image is the digest of a manifest, and a layer of an
    /// image that is loaded must always be there.
    pub(super) fn uses_containerd(&self) -> Result<bool, Error> {
        if let Some(known) = self.shared.uses_containerd.get() {
            return Ok(*known);
        }
        let target = self.target("/info")?;
        let info = self.ask(&Question::get(target), |mut answer| {
            answer.check()?;
            answer.document()
        })?;
        let status = info.get("DriverStatus").and_then(Value::as_array).into_iter().flatten();
        let mut pairs = status.filter_map(|pair| Some((pair.get(0)?.as_str()?, pair.get(1)?.as_str()?)));
        let found = pairs.any(|pair| pair == ("driver-type", "io.containerd.snapshotter.v1"));
        Ok(*self.shared.uses_containerd.get_or_init(|| found))
    }

    /// Has the archive of an image read by `take`; `None` when there is no such image.
    pub(super) fn save<T>(
        &self,
        id: &str,
        platform: Option<&str>,
        take: impl FnOnce(&mut dyn Read) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        let target = self.target(&format!("/images/{id}/get{}", query(platform)))?;
        let question = Question { is_long: true, ..Question::get(target) };
        self.ask(&question, |mut answer| {
            if !answer.is_found()? {
                return Ok(None);
            }
            let taken = take(answer.body)?;
            // An archive is padded at its end; without the rest the connection could not be used on.
            let rest = std::io::copy(answer.body, &mut std::io::sink());
            rest.map_err(|source| Error::Transport { exchange: answer.exchange.clone(), source })?;
            Ok(Some(taken))
        })
    }

    /// Gives the daemon an archive that `write` writes; it may have to do so twice.
    pub(super) fn load(
        &self,
        write: &dyn Fn(&mut dyn Write) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let target = self.target("/images/load?quiet=1")?;
        let question = Question { method: "POST", target, payload: Some(write), is_long: true };
        self.ask(&question, |mut answer| {
            answer.check()?;
            // A failure is told within an answer that has begun well.
            let bytes = answer.bytes(MAX_DOCUMENT)?;
            for line in serde_json::Deserializer::from_slice(&bytes).into_iter::<Value>() {
                let line =
                    line.map_err(|source| Error::Document { exchange: answer.exchange.clone(), source })?;
                if let Some(message) = refusal(&line) {
                    return Err(Error::Load { host: self.host(), message }.into());
                }
            }
            Ok(())
        })
    }

    /// Removes an image, unless a container uses it. The daemon takes one with a single name for asked by that: whether it has
    /// any must be known before.
    pub(super) fn remove(&self, id: &str) -> Result<(), Error> {
        let target = self.target(&format!("/images/{id}"))?;
        self.ask(&Question { method: "DELETE", ..Question::get(target) }, |mut answer| {
            match answer.is_found() {
                // It is used.
                Err(Error::Status { status: 409, .. }) => Ok(()),
                outcome => outcome.map(drop),
            }
        })
    }

    fn target(&self, path: &str) -> Result<String, Error> {
        let Version(major, minor) = self.version()?;
        Ok(format!("/v{major}.{minor}{path}"))
    }

    /// Asks, and has the answer read by `take`. One at a time.
    fn ask<T, E: From<Error>>(
        &self,
        question: &Question<'_, E>,
        take: impl FnOnce(Answer<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let path = question.target.split('?').next().unwrap_or_default().to_owned();
        let exchange = Exchange { method: question.method, path, host: self.host() };
        let mut kept = self.shared.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut connection, head) = self.begin(kept.take(), question, &exchange)?;
        let broken = |source| Error::Transport { exchange: exchange.clone(), source };
        let mut rest = connection.body(&head).map_err(broken)?;
        let taken = take(Answer { exchange: &exchange, head, body: &mut rest });
        if rest.finish(MAX_REST) {
            *kept = Some(connection);
        }
        taken
    }

    /// Sends a question over the connection that is there, or over a new one.
    fn begin<E: From<Error>>(
        &self,
        kept: Option<Connection>,
        question: &Question<'_, E>,
        exchange: &Exchange,
    ) -> Result<(Connection, Head), E> {
        let settings = &self.shared.settings;
        let request = Request {
            method: question.method,
            target: &question.target,
            payload: question.payload,
            host: self.shared.host.name(),
            user_agent: &settings.user_agent,
            patience: Some(settings.answer_timeout).filter(|_| !question.is_long),
        };
        if let Some(mut connection) = kept {
            match connection.ask(&request) {
                Ok(head) => return Ok((connection, head)),
                // It was closed while nothing was asked. All questions may be asked twice.
                Err(Unanswered::Closed(_)) => {}
                Err(failure) => return Err(failed(failure, exchange)),
            }
        }
        let mut connection = self.dial()?;
        match connection.ask(&request) {
            Ok(head) => Ok((connection, head)),
            Err(failure) => Err(failed(failure, exchange)),
        }
    }

    fn dial(&self) -> Result<Connection, Error> {
        let tls = self.tls()?;
        let again = self.shared.was_connected.load(Ordering::Relaxed);
        let stream = dial(&self.shared.host, tls.as_ref(), &self.shared.settings);
        let stream = stream.map_err(|source| Error::Connect { host: self.host(), again, source })?;
        self.shared.was_connected.store(true, Ordering::Relaxed);
        Ok(Connection::new(stream))
    }

    pub(super) fn host(&self) -> String {
        self.shared.host.to_string()
    }
}

fn query(platform: Option<&str>) -> String {
    platform
        .map(|json| format!("?platform={}", utf8_percent_encode(json, NON_ALPHANUMERIC)))
        .unwrap_or_default()
}

fn failed<E: From<Error>>(failure: Unanswered<E>, exchange: &Exchange) -> E {
    match failure {
        Unanswered::Closed(source) | Unanswered::Broken(source) => {
            Error::Transport { exchange: exchange.clone(), source }.into()
        }
        Unanswered::Payload(error) => error,
    }
}

/// What a line of an answer says went wrong, if it does.
fn refusal(line: &Value) -> Option<String> {
    let detail = line.get("errorDetail").and_then(|detail| detail.get("message")?.as_str());
    let text = detail.or_else(|| line.get("error")?.as_str())?;
    Some(for_people(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_told_in_the_words_of_the_daemon() {
        for (body, expected) in [
            (r#"{"message":"No such\nimage"}"#, "No such image"),
            ("404 page not found\n", "404 page not found"),
            (r#"{"message":7}"#, r#"{"message":7}"#),
            ("", "it gives no reason"),
        ] {
            assert_eq!(message(body.as_bytes()), expected);
        }
        for (line, expected) in [
            (r#"{"stream":"Loaded image: a"}"#, None),
            (r#"{"errorDetail":{"code":1,"message":"no space"},"error":"x"}"#, Some("no space")),
            (r#"{"error":"no space"}"#, Some("no space")),
        ] {
            assert_eq!(refusal(&serde_json::from_str(line).unwrap()).as_deref(), expected);
        }
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(Version::parse("1.9") < Version::parse("1.24"));
        assert_eq!(Version::parse("v1.41"), Some(Version(1, 41)));
        for bad in ["", "1", "1.x", "1.41.0", "-1.4"] {
            assert_eq!(Version::parse(bad), None, "{bad}");
        }
    }
}
