//! One registry: how it is reached, what it wants to see, and sending requests to it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ureq::http::header::WWW_AUTHENTICATE;
use ureq::http::uri::Scheme;
use ureq::http::{Method, Uri};

use super::Error;
use super::address::{Origin, with_scheme};
use super::auth::{Challenge, Challenger, Scope, Tokens, basic, request_token};
use super::credentials::{Credentials, Found};
use super::error::is_passing;
use super::http::{Answer, Http, Identity, Request, check_hop};
use super::retry::persist;

/// A registry that has answered.
pub(super) struct Endpoint {
    http: Arc<Http>,
    registry: String,
    scheme: Scheme,
    identity: Identity,
    found: Found,
    access: Mutex<AccessState>,
}

#[derive(Default)]
struct AccessState {
    challenge: Option<Challenge>,
    tokens: Tokens,
}

impl Endpoint {
    /// Finds out how the registry is reached. Registries of this machine and of private networks may speak plain HTTP;
    /// HTTPS is tried first all the same.
    pub(super) fn discover(
        http: Arc<Http>,
        registry: &str,
        identity: Identity,
        found: Found,
    ) -> Result<Self, Error> {
        let may_be_plain = identity == Identity::Assumed || is_near(registry);
        let schemes = if may_be_plain { vec![Scheme::HTTPS, Scheme::HTTP] } else { vec![Scheme::HTTPS] };
        let (scheme, challenge) = persist(http.settings(), || {
            let mut attempts = Vec::new();
            for scheme in &schemes {
                match ping(&http, registry, scheme, identity) {
                    Ok(challenge) => return Ok((scheme.clone(), challenge)),
                    Err(error) => attempts.push(error),
                }
            }
            match attempts.pop() {
                Some(only) if attempts.is_empty() => Err(only),
                last => {
                    attempts.extend(last);
                    Err(Error::Unreachable { registry: registry.to_owned(), attempts })
                }
            }
        })?;
        let access = Mutex::new(AccessState { challenge, tokens: Tokens::default() });
        Ok(Self { http, registry: registry.to_owned(), scheme, identity, found, access })
    }

    /// The address of something in this registry.
    pub(super) fn address(&self, path: &str) -> Result<Uri, Error> {
        address(&self.scheme, &self.registry, path)
    }

    pub(super) fn http(&self) -> &Http {
        &self.http
    }

    /// Where credentials were looked for.
    pub(super) fn looked_in(&self) -> &[String] {
        &self.found.looked_in
    }

    /// Sends a request that may be repeated, again and again where that may help. The answer is not a passing failure,
    /// but perhaps a lasting one.
    pub(super) fn send(&self, request: &mut Request<'_>, scope: &Scope) -> Result<Answer, Error> {
        persist(self.http.settings(), || self.attempt(request, scope))
    }

    /// Sends a request once; twice, if a new token may help and the payload is still there.
    pub(super) fn send_once(&self, request: &mut Request<'_>, scope: &Scope) -> Result<Answer, Error> {
        self.attempt(request, scope)
    }

    /// Where an answer leads, for the next request of an upload.
    pub(super) fn next(&self, answer: &Answer) -> Result<Uri, Error> {
        self.hop(answer, answer.location()?)
    }

    /// Where an answer leads that names this address.
    pub(super) fn hop(&self, answer: &Answer, next: Uri) -> Result<Uri, Error> {
        // Behind a proxy that speaks HTTPS for it, a registry may believe that it speaks plain HTTP.
        let next = match (self.is_own_host(&next), with_scheme(&next, self.scheme.clone())) {
            (true, Some(adapted)) => adapted,
            _ => next,
        };
        check_hop(&answer.exchange, &answer.address, &next, self.identity)?;
        Ok(next)
    }

    fn attempt(&self, request: &mut Request<'_>, scope: &Scope) -> Result<Answer, Error> {
        let mut answer = self.exchange(request, scope)?;
        if answer.status() == 401 && request.is_repeatable() && self.renew(&answer, scope) {
            answer = self.exchange(request, scope)?;
        }
        if is_passing(answer.status()) {
            return Err(answer.into_refusal(self.looked_in()));
        }
        Ok(answer)
    }

    fn exchange(&self, request: &mut Request<'_>, scope: &Scope) -> Result<Answer, Error> {
        let authorize = |to: &Uri| if self.is_own(to) { self.authorization(scope) } else { Ok(None) };
        self.http.send(request, self.identity, &authorize)
    }

    /// Makes ready for another try after a 401: with a token that is new, or of which nothing was known.
    fn renew(&self, answer: &Answer, scope: &Scope) -> bool {
        // What other hosts want is not this registry's to say.
        let Some(challenge) = Challenge::of(answer).filter(|_| self.is_own(&answer.address)) else {
            return false;
        };
        let mut access = self.lock();
        let is_news = access.challenge.as_ref() != Some(&challenge);
        let may_get_token = matches!(challenge, Challenge::Bearer { .. })
            && !matches!(self.found.credentials, Credentials::RegistryToken(_));
        access.tokens.forget(scope);
        access.challenge = Some(challenge);
        is_news || may_get_token
    }

    /// The header that shows who one is.
    fn authorization(&self, scope: &Scope) -> Result<Option<String>, Error> {
        // Held while a token is on its way: others that want the same one wait for it.
        let mut access = self.lock();
        let (realm, service) = match &access.challenge {
            None => return Ok(None),
            _ if let Credentials::RegistryToken(token) = &self.found.credentials => {
                return Ok(Some(format!("Bearer {token}")));
            }
            Some(Challenge::Basic) => return Ok(basic(&self.found.credentials)),
            Some(Challenge::Bearer { realm, service }) => (realm.clone(), service.clone()),
        };
        if let Some(token) = access.tokens.get(scope) {
            return Ok(Some(format!("Bearer {token}")));
        }
        let challenger = Challenger {
            registry: &self.registry,
            scheme: &self.scheme,
            identity: self.identity,
            looked_in: &self.found.looked_in,
        };
        let server = (realm.as_str(), service.as_deref());
        let (token, lifetime) =
            request_token(&self.http, &challenger, server, scope, &self.found.credentials)?;
        let header = format!("Bearer {token}");
        access.tokens.keep(scope.clone(), token, lifetime);
        Ok(Some(header))
    }

    /// Whether the address is the registry itself, which alone gets to see tokens and passwords.
    fn is_own(&self, to: &Uri) -> bool {
        to.scheme() == Some(&self.scheme) && self.is_own_host(to)
    }

    fn is_own_host(&self, to: &Uri) -> bool {
        let with_own_scheme = |to: &Uri| with_scheme(to, self.scheme.clone()).and_then(|to| Origin::of(&to));
        let own = self.address("/").ok().and_then(|own| Origin::of(&own));
        own.is_some() && own == with_own_scheme(to)
    }

    fn lock(&self) -> MutexGuard<'_, AccessState> {
        // Tokens that are old at worst.
        self.access.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn address(scheme: &Scheme, registry: &str, path: &str) -> Result<Uri, Error> {
    let text = format!("{scheme}://{registry}{path}");
    match text.parse() {
        Ok(address) => Ok(address),
        Err(_) => Err(Error::Address(text)),
    }
}

/// Asks whether there is a registry, and what it wants to see.
fn ping(
    http: &Http,
    registry: &str,
    scheme: &Scheme,
    identity: Identity,
) -> Result<Option<Challenge>, Error> {
    let mut request = Request::new(Method::GET, address(scheme, registry, "/v2/")?);
    let answer = http.send(&mut request, identity, &|_| Ok(None))?;
    match answer.status() {
        200 => Ok(None),
        401 => match Challenge::of(&answer) {
            Some(challenge) => Ok(Some(challenge)),
            None => Err(Error::Challenge {
                registry: registry.to_owned(),
                found: answer.headers(WWW_AUTHENTICATE).map(str::to_owned).collect(),
            }),
        },
        _ => Err(answer.into_refusal(&[])),
    }
}

/// Whether the registry is on this machine or, by a literal address, in a private network.
fn is_near(registry: &str) -> bool {
    use std::net::IpAddr;
    let bare = registry.strip_prefix('[').and_then(|rest| rest.split_once(']')).map(|(host, _)| host);
    let host = bare.unwrap_or_else(|| registry.split_once(':').map_or(registry, |(host, _)| host));
    match host.parse() {
        Ok(IpAddr::V4(address)) => address.is_loopback() || address.is_private(),
        Ok(IpAddr::V6(address)) => address.is_loopback(),
        Err(_) => host == "localhost" || host.ends_with(".localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_what_is_near() {
        for (registry, expected) in [
            ("localhost", true),
            ("localhost:5000", true),
            ("a.localhost:5000", true),
            ("127.0.0.1:5000", true),
            ("[::1]:5000", true),
            ("[::1]", true),
            ("10.1.2.3", true),
            ("172.16.0.1:80", true),
            ("172.32.0.1:80", false),
            ("192.168.1.1", true),
            ("8.8.8.8", false),
            ("[fd00::1]:5000", false),
            ("localhost.evil.io", false),
            ("10.0.0.1.evil.io", false),
            ("xlocalhost", false),
            ("index.docker.io", false),
        ] {
            assert_eq!(is_near(registry), expected, "{registry}");
        }
    }
}
