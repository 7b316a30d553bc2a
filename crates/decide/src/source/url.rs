//! URLs of repositories, without what only the one who cloned has.

/// Longer ones are none.
const MAX_URL: usize = 2048;

/// The URL of a repository in one spelling: without user, password, query and fragment, which hold secrets; without
/// `.git` at its end; and by HTTPS where it was by SSH or Git's own protocol on their usual port, so that who cloned one
/// way says the same as who cloned the other. `None` for a path of a machine, and for what cannot be told apart from a
/// secret.
pub fn public_url(text: &str) -> Option<String> {
    let is_odd = |c: char| c.is_control() || c.is_whitespace() || matches!(c, '\\' | '"' | '<' | '>' | '`');
    if text.len() > MAX_URL || text.contains(is_odd) {
        return None;
    }
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (scheme.to_ascii_lowercase(), rest),
        None => return public_url(&from_scp(text)?),
    };
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let host = authority.rsplit('@').next().unwrap_or_default().to_ascii_lowercase();
    // A password with a slash would end the host, and go on in the path.
    let (name, port) = split_port(&host)?;
    if path.contains('@') {
        return None;
    }
    let (scheme, host) = match (scheme.as_str(), port) {
        ("https", "" | "443") => ("https", name),
        ("http", "" | "80") => ("http", name),
        ("https", _) => ("https", host.as_str()),
        ("http", _) => ("http", host.as_str()),
        ("ssh" | "git+ssh" | "ssh+git", "" | "22") | ("git", "" | "9418") => ("https", name),
        ("ssh" | "git+ssh" | "ssh+git", _) => ("ssh", host.as_str()),
        ("git", _) => ("git", host.as_str()),
        // Subversion's servers are not reached by HTTPS as well.
        ("svn", "" | "3690") => ("svn", name),
        ("svn+ssh", "" | "22") => ("svn+ssh", name),
        ("svn", _) => ("svn", host.as_str()),
        ("svn+ssh", _) => ("svn+ssh", host.as_str()),
        _ => return None,
    };
    let path = path.trim_matches('/');
    let path = path.strip_suffix(".git").unwrap_or(path).trim_end_matches('/');
    let slash = if path.is_empty() { "" } else { "/" };
    Some(format!("{scheme}://{host}{slash}{path}"))
}

/// `[user@]host:path`, as SSH has it.
fn from_scp(text: &str) -> Option<String> {
    let (host, path) = text.split_once(':')?;
    let is_host = host.len() > 1 && !host.contains('/') && !path.is_empty() && !path.contains("://");
    is_host.then(|| format!("ssh://{host}/{}", path.trim_start_matches('/')))
}

/// The name of a host and its port, if it is one.
fn split_port(host: &str) -> Option<(&str, &str)> {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, port),
        _ => (host, ""),
    };
    let is_address = name.starts_with('[') && name.ends_with(']');
    let fits = |c: char| {
        c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') || (is_address && "[]:%".contains(c))
    };
    let is_fine = !name.is_empty() && name.chars().all(fits) && port.bytes().all(|b| b.is_ascii_digit());
    is_fine.then_some((name, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_repository_has_one_url() {
        for text in [
            "https://github.com/example/web",
            "https://github.com/example/web.git",
            "https://GitHub.com/example/web/",
            "https://github.com:443/example/web.git",
            "git@github.com:example/web.git",
            "github.com:example/web",
            "git@github.com:/example/web.git",
            "ssh://git@github.com/example/web.git",
            "ssh://git@github.com:22/example/web",
            "git+ssh://git@github.com/example/web",
            "git://github.com/example/web.git",
            "https://user:planted-secret@github.com/example/web.git",
            "https://x-access-token:planted-secret@github.com/example/web",
            "https://planted-secret@github.com/example/web.git",
            "https://github.com/example/web.git?token=planted-secret",
            "https://github.com/example/web#planted-secret",
            "https://planted@secret@github.com/example/web",
            "planted-secret@github.com:example/web.git",
            "git@github.com:example/web.git?private_token=planted-secret",
        ] {
            assert_eq!(public_url(text).as_deref(), Some("https://github.com/example/web"), "{text}");
        }
    }

    #[test]
    fn what_is_no_public_place_is_not_shown() {
        for text in [
            "",
            "/home/me/web",
            "../web",
            "file:///home/me/web",
            "C:\\web",
            "c:/web",
            "ext::sh -c planted",
            "https://",
            "https:///web",
            "https://user:planted/secret@github.com/example/web",
            "https://user:12/secret@github.com/example/web",
            "https://host:planted/web",
            "https://host/web\nplanted",
            "https://host/web planted",
            "javascript://host/%0aplanted",
            "a:b://c",
        ] {
            assert_eq!(public_url(text), None, "{text}");
        }
        assert_eq!(public_url(&format!("https://h/{}", "a".repeat(3000))), None);
    }

    #[test]
    fn other_ports_and_addresses_stay() {
        for (text, expected) in [
            ("ssh://git@example.com:2222/team/web.git", "ssh://example.com:2222/team/web"),
            ("http://localhost:3000/web", "http://localhost:3000/web"),
            ("https://[::1]:8443/web", "https://[::1]:8443/web"),
            ("ssh://git@[::1]/web", "https://[::1]/web"),
            ("https://example.com", "https://example.com"),
            ("svn://me:planted@example.com:3690/repo/trunk", "svn://example.com/repo/trunk"),
            ("svn://example.com:99/repo", "svn://example.com:99/repo"),
            ("svn+ssh://me@example.com/repo", "svn+ssh://example.com/repo"),
            ("svn+ssh://me@example.com:2222/repo/", "svn+ssh://example.com:2222/repo"),
        ] {
            assert_eq!(public_url(text).as_deref(), Some(expected), "{text}");
        }
    }
}
