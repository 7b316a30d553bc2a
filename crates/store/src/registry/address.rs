//! Addresses of things in registries.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};
use ureq::http::Uri;
use ureq::http::uri::{Authority, PathAndQuery, Scheme};

/// All but what RFC 3986 calls unreserved.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A text as it stands in a query or a form.
pub(super) fn encoded(text: &str) -> PercentEncode<'_> {
    utf8_percent_encode(text, RESERVED)
}

/// Whom a request reaches: scheme, host in lower case, port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) scheme: Scheme,
    pub(super) host: String,
    pub(super) port: u16,
}

impl Origin {
    /// `None` when the address has no host, or is not one of HTTP.
    pub(super) fn of(address: &Uri) -> Option<Self> {
        let scheme = address.scheme()?.clone();
        let default = if scheme == Scheme::HTTPS { 443 } else { 80 };
        let is_http = scheme == Scheme::HTTPS || scheme == Scheme::HTTP;
        let host = address.host()?.to_ascii_lowercase();
        let port = address.port_u16().unwrap_or(default);
        is_http.then_some(Self { scheme, host, port })
    }
}

/// What `location` means in an answer from `base`. `None` when it is not an address, or names a user.
pub(super) fn join(base: &Uri, location: &str) -> Option<Uri> {
    let scheme = base.scheme_str()?;
    let authority = base.authority()?;
    let text = if location.contains("://") && !location.starts_with(['/', '?']) {
        location.to_owned()
    } else if let Some(rest) = location.strip_prefix("//") {
        format!("{scheme}://{rest}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else if location.starts_with('?') {
        format!("{scheme}://{authority}{}{location}", base.path())
    } else {
        let dir = base.path().rsplit_once('/').map_or("", |(dir, _)| dir);
        format!("{scheme}://{authority}{dir}/{location}")
    };
    // Whatever else fails to parse is no address either.
    let address: Uri = text.parse().ok()?;
    let has_user = address.authority()?.as_str().contains('@');
    (!has_user && Origin::of(&address).is_some()).then_some(address)
}

/// The address with one more parameter.
pub(super) fn with_parameter(address: &Uri, name: &str, value: &str) -> Option<Uri> {
    let separator = if address.query().is_some() { '&' } else { '?' };
    let path = address.path_and_query().map_or("/", PathAndQuery::as_str);
    let mut parts = address.clone().into_parts();
    parts.path_and_query = Some(format!("{path}{separator}{name}={}", encoded(value)).parse().ok()?);
    Uri::from_parts(parts).ok()
}

/// The address with another scheme.
pub(super) fn with_scheme(address: &Uri, scheme: Scheme) -> Option<Uri> {
    let mut parts = address.clone().into_parts();
    parts.scheme = Some(scheme);
    Uri::from_parts(parts).ok()
}

/// The address as it may be shown: without user and query, where secrets are.
pub(super) fn shown(address: &Uri) -> String {
    let authority = address.authority().map_or("", Authority::as_str);
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{}://{host}{}", address.scheme_str().unwrap_or_default(), address.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_joined_to_where_they_came_from() {
        let base: Uri = "https://r.io:5000/v2/a/blobs/uploads/?x=1".parse().unwrap();
        for (location, expected) in [
            ("https://other/p?q=1", Some("https://other/p?q=1")),
            ("//other/p", Some("https://other/p")),
            ("/v2/b?s=2", Some("https://r.io:5000/v2/b?s=2")),
            ("/redirect?to=https://x/", Some("https://r.io:5000/redirect?to=https://x/")),
            ("uuid?s=2", Some("https://r.io:5000/v2/a/blobs/uploads/uuid?s=2")),
            ("?s=2", Some("https://r.io:5000/v2/a/blobs/uploads/?s=2")),
            ("ftp://other/p", None),
            ("file:///etc/passwd", None),
            ("https://user:pw@other/", None),
            ("https://", None),
            ("/a b", None),
        ] {
            assert_eq!(join(&base, location).map(|uri| uri.to_string()).as_deref(), expected, "{location}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_location_panics_or_has_a_user(location in "(https?:)?/{0,3}([a-z]{0,3}[:@])?[a-z\\[\\].]{0,5}(:[0-9]{1,6})?[/?#%a-z]{0,9}") {
            let base: Uri = "https://r.io/v2/".parse().unwrap();
            if let Some(address) = join(&base, &location) {
                proptest::prop_assert!(!address.authority().unwrap().as_str().contains('@'));
                drop((shown(&address), Origin::of(&address), with_parameter(&address, "a", &location)));
            }
        }
    }

    #[test]
    fn parameters_are_encoded_and_secrets_are_not_shown() {
        let plain: Uri = "https://r.io/up".parse().unwrap();
        let once = with_parameter(&plain, "digest", "sha256:a/b&c").unwrap();
        assert_eq!(once.to_string(), "https://r.io/up?digest=sha256%3Aa%2Fb%26c");
        assert_eq!(
            with_parameter(&once, "x", "1").unwrap().query().unwrap(),
            "digest=sha256%3Aa%2Fb%26c&x=1"
        );
        let secret: Uri = "http://user:hush@r.io:80/p?token=hush".parse().unwrap();
        assert_eq!(shown(&secret), "http://r.io:80/p");
    }

    #[test]
    fn an_origin_has_a_port_and_no_capitals() {
        let origin = |text: &str| Origin::of(&text.parse().unwrap());
        assert_eq!(origin("https://R.io/x"), origin("https://r.io:443"));
        assert_ne!(origin("https://r.io"), origin("http://r.io"));
        assert_ne!(origin("http://r.io"), origin("http://r.io:8080"));
        assert_eq!(origin("/path"), None);
    }
}
