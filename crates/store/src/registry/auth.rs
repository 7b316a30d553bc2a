//! What a registry wants to see before it answers: challenges, scopes, tokens
//! (<https://distribution.github.io/distribution/spec/auth/token/>).

use std::time::{Duration, Instant};

use data_encoding::BASE64;
use serde_json::Value;
use ureq::http::header::{CONTENT_TYPE, WWW_AUTHENTICATE};
use ureq::http::uri::Scheme;
use ureq::http::{Method, Uri};

use super::Error;
use super::address::{encoded, join, with_parameter};
use super::credentials::Credentials;
use super::http::{Answer, Http, Identity, Payload, Request};

/// Longer answers of a token server are refused.
const MAX_TOKEN: u64 = 256 * 1024;
/// How long a token is good that does not say so; from the specification.
const DEFAULT_LIFETIME: u64 = 60;
/// How this program calls itself to token servers.
const CLIENT_ID: &str = "strata";

/// What is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// A user and a password with each request.
    Basic,
    /// A token from this server.
    Bearer { realm: String, service: Option<String> },
}

impl Challenge {
    /// The first challenge of an answer that is understood.
    pub(super) fn of(answer: &Answer) -> Option<Self> {
        answer.headers(WWW_AUTHENTICATE).find_map(parse)
    }
}

fn parse(header: &str) -> Option<Challenge> {
    let (word, rest) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
    match word.to_ascii_lowercase().as_str() {
        "basic" => Some(Challenge::Basic),
        "bearer" => {
            let parameters = parameters(rest);
            let get = |name: &str| {
                let same = |(key, _): &&(String, String)| key.eq_ignore_ascii_case(name);
                parameters.iter().find(same).map(|(_, value)| value.clone())
            };
            Some(Challenge::Bearer { realm: get("realm")?, service: get("service") })
        }
        _ => None,
    }
}

/// Splits `name="value", name=value`. A comma in quotes separates nothing.
fn parameters(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = text.trim_start_matches([' ', ',']);
    while let Some((name, after)) = rest.split_once('=') {
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => unquote(quoted),
            None => {
                let (value, after) = after.split_once(',').unwrap_or((after, ""));
                (value.trim().to_owned(), after)
            }
        };
        found.push((name.trim().to_owned(), value));
        rest = after.trim_start_matches([' ', ',']);
    }
    found
}

/// The text up to the closing quote, and what follows.
fn unquote(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &text[at + 1..]),
            '\\' => value.extend(chars.next().map(|(_, c)| c)),
            c => value.push(c),
        }
    }
    (value, "")
}

/// What one wants to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Scope {
    repository: String,
    access: Access,
    /// Where a blob is mounted from.
    from: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Pull,
    /// And pull.
    Push,
    /// And push and pull. Registries that do not know this action leave it out of the token.
    Delete,
}

impl Scope {
    pub(super) fn new(repository: &str, access: Access) -> Self {
        Self { repository: repository.to_owned(), access, from: None }
    }

    /// And to read another repository of the same registry.
    pub(super) fn from(mut self, other: &str) -> Self {
        self.from = Some(other.to_owned());
        self
    }

    /// Whether a token for this is good for `other`, too.
    fn covers(&self, other: &Self) -> bool {
        self == other
            || self.repository == other.repository
                && other.access == Access::Pull
                && (other.from.is_none() || other.from == self.from)
    }

    fn texts(&self) -> Vec<String> {
        let actions = match self.access {
            Access::Pull => "pull",
            Access::Push => "pull,push",
            Access::Delete => "pull,push,delete",
        };
        let own = format!("repository:{}:{actions}", self.repository);
        let from = self.from.iter().filter(|from| **from != self.repository);
        std::iter::once(own).chain(from.map(|from| format!("repository:{from}:pull"))).collect()
    }
}

/// The tokens one has.
#[derive(Default)]
pub(super) struct Tokens(Vec<Token>);

struct Token {
    scope: Scope,
    text: String,
    until: Instant,
}

impl Tokens {
    pub(super) fn get(&self, scope: &Scope) -> Option<&str> {
        let now = Instant::now();
        let good = self.0.iter().find(|token| token.until > now && token.scope.covers(scope));
        good.map(|token| token.text.as_str())
    }

    /// Forgets the tokens that were given out for this.
    pub(super) fn forget(&mut self, scope: &Scope) {
        self.0.retain(|token| !token.scope.covers(scope));
    }

    pub(super) fn keep(&mut self, scope: Scope, text: String, lifetime: Duration) {
        self.forget(&scope);
        // A request takes some time until the registry looks at its token.
        let margin = (lifetime / 5).min(Duration::from_secs(10));
        let until = Instant::now() + lifetime.saturating_sub(margin);
        self.0.push(Token { scope, text, until });
    }
}

/// The registry that sent a challenge, as far as the token server must be like it.
pub(super) struct Challenger<'a> {
    pub(super) registry: &'a str,
    pub(super) scheme: &'a Scheme,
    pub(super) identity: Identity,
    pub(super) looked_in: &'a [String],
}

/// Gets a token; how long it is good, too.
pub(super) fn request_token(
    http: &Http,
    challenger: &Challenger<'_>,
    (realm, service): (&str, Option<&str>),
    scope: &Scope,
    credentials: &Credentials,
) -> Result<(String, Duration), Error> {
    let realm = check_realm(challenger, realm)?;
    let scopes = scope.texts();
    let form;
    let (mut request, header) = match credentials {
        Credentials::IdentityToken(token) => {
            form = refresh_form(token, service, &scopes);
            let request = Request::new(Method::POST, realm)
                .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                .payload(Payload::Bytes(form.as_bytes()));
            (request, None)
        }
        _ => (Request::new(Method::GET, token_address(&realm, service, &scopes)?), basic(credentials)),
    };
    // Redirects would carry credentials to where the registry did not send them: the header goes to the realm alone,
    // and the form, which is a secret as a whole, is not sent on.
    let address = request.address.clone();
    let authorize = |to: &Uri| Ok(header.clone().filter(|_| *to == address));
    let answer = http.send(&mut request, challenger.identity, &authorize)?;
    if answer.status() != 200 {
        return Err(answer.into_refusal(challenger.looked_in));
    }
    let exchange = answer.exchange.clone();
    parse_token(&answer.into_bytes(MAX_TOKEN)?).map_err(|problem| Error::Token { exchange, problem })
}

/// The header of a user and a password.
pub(super) fn basic(credentials: &Credentials) -> Option<String> {
    let Credentials::Password { user, password } = credentials else { return None };
    Some(format!("Basic {}", BASE64.encode(format!("{user}:{password}").as_bytes())))
}

/// A hostile registry must not lure credentials out of HTTPS.
fn check_realm(challenger: &Challenger<'_>, realm: &str) -> Result<Uri, Error> {
    let refused = |problem| Error::Realm {
        registry: challenger.registry.to_owned(),
        realm: realm.split('?').next().unwrap_or_default().to_owned(),
        problem,
    };
    let base = Uri::from_static("https://realm.invalid/");
    let is_absolute = realm.contains("://");
    let address = join(&base, realm).filter(|_| is_absolute);
    let address = address.ok_or_else(|| refused("it is not an address"))?;
    let may_be_plain = *challenger.scheme == Scheme::HTTP || challenger.identity == Identity::Assumed;
    if address.scheme() == Some(&Scheme::HTTPS) || may_be_plain {
        Ok(address)
    } else {
        Err(refused("it is not HTTPS, as the registry is"))
    }
}

fn token_address(realm: &Uri, service: Option<&str>, scopes: &[String]) -> Result<Uri, Error> {
    let mut address = Some(realm.clone());
    let service = service.map(|service| ("service", service));
    for (name, value) in service.into_iter().chain(scopes.iter().map(|scope| ("scope", scope.as_str()))) {
        address = address.and_then(|address| with_parameter(&address, name, value));
    }
    address.ok_or_else(|| Error::Address(super::address::shown(realm)))
}

fn refresh_form(token: &str, service: Option<&str>, scopes: &[String]) -> String {
    let scopes = scopes.join(" ");
    let fields = [
        ("grant_type", "refresh_token"),
        ("client_id", CLIENT_ID),
        ("service", service.unwrap_or_default()),
        ("scope", &scopes),
        ("refresh_token", token),
    ];
    let fields = fields.map(|(name, value)| format!("{name}={}", encoded(value)));
    fields.join("&")
}

fn parse_token(body: &[u8]) -> Result<(String, Duration), String> {
    let answer: Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let text = |member: &str| answer.get(member).and_then(Value::as_str).filter(|text| !text.is_empty());
    let token =
        text("token").or_else(|| text("access_token")).ok_or("neither token nor access_token is there")?;
    // Anything else could end the header that it becomes.
    if !token.bytes().all(|b| b.is_ascii_graphic()) {
        return Err("it has characters that no token has".to_owned());
    }
    let lifetime = answer.get("expires_in").and_then(Value::as_u64).unwrap_or(DEFAULT_LIFETIME);
    Ok((token.to_owned(), Duration::from_secs(lifetime.min(24 * 60 * 60))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_split_outside_of_quotes() {
        let bearer = |realm: &str, service: Option<&str>| {
            Some(Challenge::Bearer { realm: realm.to_owned(), service: service.map(str::to_owned) })
        };
        for (header, expected) in [
            (r#"Bearer realm="https://a/t",service="s, x",scope="y""#, bearer("https://a/t", Some("s, x"))),
            (r#"bearer Service=s , REALM=https://a/t"#, bearer("https://a/t", Some("s"))),
            (r#"Bearer realm="a\"b""#, bearer("a\"b", None)),
            (r#"Bearer realm="open"#, bearer("open", None)),
            (r#"Bearer service="s""#, None),
            ("Bearer", None),
            ("Bearer =,=,", None),
            (r#"Basic realm="x""#, Some(Challenge::Basic)),
            ("BASIC", Some(Challenge::Basic)),
            ("Negotiate", None),
            ("", None),
        ] {
            assert_eq!(parse(header), expected, "{header}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_header_panics(text: String, quoted in r#"Bearer ([a-z]{1,5}="?[a-z\\", =]{0,9}"?,?){0,4}"#) {
            drop((parse(&text), parse(&quoted)));
        }
    }

    #[test]
    fn a_realm_is_https_unless_its_registry_is_not() {
        for (scheme, identity, realm, is_good) in [
            (&Scheme::HTTPS, Identity::Proven, "https://auth.io/token?a=b", true),
            (&Scheme::HTTPS, Identity::Proven, "http://auth.io/token", false),
            (&Scheme::HTTPS, Identity::Assumed, "http://auth.io/token", true),
            (&Scheme::HTTP, Identity::Proven, "http://auth.io/token", true),
            (&Scheme::HTTPS, Identity::Proven, "https://u:p@auth.io/token", false),
            (&Scheme::HTTPS, Identity::Proven, "/token", false),
            (&Scheme::HTTPS, Identity::Proven, "file:///etc/passwd", false),
            (&Scheme::HTTPS, Identity::Proven, "", false),
        ] {
            let challenger = Challenger { registry: "r.io", scheme, identity, looked_in: &[] };
            assert_eq!(check_realm(&challenger, realm).is_ok(), is_good, "{scheme} {realm}");
        }
    }

    #[test]
    fn tokens_are_found_for_what_they_cover_until_they_expire() {
        let pull = Scope::new("a", Access::Pull);
        let push = Scope::new("a", Access::Push);
        let mount = Scope::new("a", Access::Push).from("b");
        let mut tokens = Tokens::default();
        tokens.keep(push.clone(), "push".to_owned(), Duration::from_secs(60));
        assert_eq!(tokens.get(&pull), Some("push"));
        assert_eq!(tokens.get(&push), Some("push"));
        assert_eq!(tokens.get(&mount), None);
        assert_eq!(tokens.get(&Scope::new("b", Access::Pull)), None);
        tokens.keep(mount.clone(), "mount".to_owned(), Duration::ZERO);
        assert_eq!(tokens.get(&mount), None);
        tokens.forget(&pull);
        assert_eq!(tokens.get(&push), None);
        assert_eq!(mount.texts(), ["repository:a:pull,push", "repository:b:pull"]);
        assert_eq!(Scope::new("a", Access::Push).from("a").texts(), ["repository:a:pull,push"]);
    }

    #[test]
    fn tokens_come_under_two_names() {
        let seconds = Duration::from_secs;
        for (body, expected) in [
            (r#"{"token":"t","expires_in":300}"#, Some(("t", seconds(300)))),
            (r#"{"access_token":"t"}"#, Some(("t", seconds(60)))),
            (r#"{"token":"","access_token":"t","expires_in":-1}"#, Some(("t", seconds(60)))),
            (r#"{"token":"a\r\nb"}"#, None),
            ("{}", None),
            ("<html>", None),
        ] {
            let found = parse_token(body.as_bytes()).ok();
            assert_eq!(found, expected.map(|(text, life)| (text.to_owned(), life)), "{body}");
        }
    }

    #[test]
    fn an_identity_token_travels_in_a_form() {
        let form = refresh_form("a&b", Some("s p"), &["x:y".to_owned(), "z".to_owned()]);
        assert_eq!(
            form,
            "grant_type=refresh_token&client_id=strata&service=s%20p&scope=x%3Ay%20z&refresh_token=a%26b"
        );
    }
}
