//! Which proxy a request goes through: the rules of Go's `golang.org/x/net/http/httpproxy`, which platforms rely on.

use std::net::IpAddr;

use ureq::http::uri::Scheme;

use super::Proxies;
use super::address::Origin;

impl Proxies {
    /// The proxy for requests to this place, if any.
    pub(super) fn for_origin(&self, origin: &Origin) -> Option<&str> {
        let proxy = if origin.scheme == Scheme::HTTPS { &self.https } else { &self.http };
        let proxy = proxy.as_deref().filter(|proxy| !proxy.is_empty())?;
        let host = origin.host.trim_matches(['[', ']']);
        let address: Option<IpAddr> = host.parse().ok();
        let is_here = host == "localhost" || address.is_some_and(|address| address.is_loopback());
        let is_direct =
            || self.no_proxy.split(',').any(|rule| rule_matches(rule.trim(), host, address, origin.port));
        (!is_here && !is_direct()).then_some(proxy)
    }
}

/// A rule is `*`, an address, a range of addresses, or a domain; all but the range may have a port.
fn rule_matches(rule: &str, host: &str, address: Option<IpAddr>, port: u16) -> bool {
    let rule = rule.to_ascii_lowercase();
    if rule == "*" {
        return true;
    }
    if let Some((network, bits)) = rule.split_once('/') {
        return match (network.parse(), bits.parse(), address) {
            (Ok(network), Ok(bits), Some(address)) => contains(network, bits, address),
            _ => false,
        };
    }
    let (name, wanted_port) = split_port(&rule);
    if name.is_empty() || wanted_port.is_some_and(|wanted| wanted != port) {
        return false;
    }
    if let Ok(wanted) = name.trim_matches(['[', ']']).parse::<IpAddr>() {
        return address == Some(wanted);
    }
    match name.strip_prefix("*.").or_else(|| name.strip_prefix('.')) {
        Some(domain) => is_below(host, domain),
        None => host == name || is_below(host, name),
    }
}

fn is_below(host: &str, domain: &str) -> bool {
    host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'))
}

/// Addresses of version 6 have a port only behind brackets.
fn split_port(rule: &str) -> (&str, Option<u16>) {
    match rule.rsplit_once(':') {
        Some((name, port)) if !name.contains(':') || name.ends_with(']') => match port.parse() {
            Ok(port) => (name, Some(port)),
            Err(_) => (rule, None),
        },
        _ => (rule, None),
    }
}

fn contains(network: IpAddr, bits: u32, address: IpAddr) -> bool {
    let (network, address, width) = match (network, address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => {
            (u128::from(network.to_bits()), u128::from(address.to_bits()), 32)
        }
        (IpAddr::V6(network), IpAddr::V6(address)) => (network.to_bits(), address.to_bits(), 128),
        _ => return false,
    };
    bits <= width && (network ^ address).checked_shr(width - bits).unwrap_or(0) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_name_hosts_domains_and_ranges() {
        for (rules, address, is_direct) in [
            ("", "https://r.io", false),
            ("*", "https://r.io", true),
            ("r.io", "https://r.io", true),
            ("R.IO", "https://r.io", true),
            ("r.io", "https://a.r.io", true),
            ("r.io", "https://xr.io", false),
            (".r.io", "https://r.io", false),
            (".r.io", "https://a.r.io", true),
            ("*.r.io", "https://a.r.io", true),
            ("x, r.io", "https://r.io", true),
            ("r.io:443", "https://r.io", true),
            ("r.io:5000", "https://r.io", false),
            ("r.io:5000", "https://r.io:5000", true),
            ("10.0.0.1", "https://10.0.0.1", true),
            ("10.0.0.0/8", "https://10.1.2.3", true),
            ("10.0.0.0/8", "https://11.1.2.3", false),
            ("0.0.0.0/0", "https://11.1.2.3", true),
            ("10.0.0.0/99", "https://10.1.2.3", false),
            ("10.0.0.0/8", "https://r.io", false),
            ("fd00::/8", "https://[fd00::1]:5000", true),
            ("[fd00::1]:5000", "https://[fd00::1]:5000", true),
            ("[fd00::1]:5001", "https://[fd00::1]:5000", false),
            ("", "https://localhost:5000", true),
            ("", "https://127.0.0.1:5000", true),
            ("", "https://[::1]:5000", true),
        ] {
            let proxies =
                Proxies { http: None, https: Some("http://proxy:3128".into()), no_proxy: rules.into() };
            let origin = Origin::of(&address.parse().unwrap()).unwrap();
            assert_eq!(proxies.for_origin(&origin).is_none(), is_direct, "{rules:?} {address}");
        }
    }

    #[test]
    fn each_scheme_has_its_proxy() {
        let proxies = Proxies { http: Some("a".into()), https: Some(String::new()), no_proxy: String::new() };
        let origin = |text: &str| Origin::of(&text.parse().unwrap()).unwrap();
        assert_eq!(proxies.for_origin(&origin("http://r.io")), Some("a"));
        assert_eq!(proxies.for_origin(&origin("https://r.io")), None);
    }
}
