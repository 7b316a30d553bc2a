//! Credentials do not get into reports.

use std::borrow::Cow;

/// Parts of the names of parameters whose values nobody is to see.
const SECRET: &[&str] = &[
    "token",
    "secret",
    "passw",
    "pwd",
    "signature",
    "credential",
    "session",
    "api_key",
    "api-key",
    "apikey",
    "access_key",
    "accesskey",
    "private_key",
];

/// The text without the user and the password of every URL in it: `https://me:secret@host/x` becomes
/// `https://host/x`. The user of `ssh://git@host` goes as well; `git@host:path` has no secret and stays. Of parameters
/// that are called like secrets, as in `https://host/x?token=secret`, the value goes.
pub fn without_credentials(text: &str) -> Cow<'_, str> {
    let mut clean = Cow::Borrowed(text);
    for _ in 0..PASSES {
        let less = once(&clean);
        if less == clean {
            break;
        }
        clean = Cow::Owned(less);
    }
    clean
}

/// What is left when something goes may be a URL again.
const PASSES: usize = 8;

fn once(text: &str) -> String {
    let Some(start) = text.find("://") else { return text.to_owned() };
    let (before, urls) = text.split_at(start);
    without_values(&(before.to_owned() + &without_users(urls)))
}

/// The text without the values of secret parameters.
fn without_values(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(['?', '&', '#', ';']).map(|at| at + 1) {
        let (before, after) = rest.split_at(start);
        clean.push_str(before);
        rest = after;
        let is_name = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        let name = after.find(|c| !is_name(c)).map_or("", |end| &after[..end]);
        let Some(value) = after[name.len()..].strip_prefix('=').filter(|_| is_secret(name)) else { continue };
        clean.push_str(name);
        clean.push('=');
        let ends = |c: char| c.is_whitespace() || c.is_control() || "&#;\"'<>`".contains(c);
        rest = value.find(ends).map_or("", |end| &value[end..]);
    }
    clean + rest
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    matches!(&*name, "auth" | "authorization" | "key" | "pass" | "sig")
        || SECRET.iter().any(|part| name.contains(part))
}

fn without_users(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("://").map(|at| at + 3) {
        let (before, after) = rest.split_at(start);
        clean.push_str(before);
        // What follows may be quoted, in brackets, or in a list.
        let ends = |c: char| c.is_whitespace() || c.is_control() || "/?#\"'<>\\`".contains(c);
        let authority = after.find(ends).map_or(after, |end| &after[..end]);
        // A password may hold characters that it should not, slashes among them.
        let word = after.find(|c: char| c.is_whitespace() || c.is_control() || "\"'<>`".contains(c));
        let word = word.map_or(after, |end| &after[..end]);
        let kept = match authority.rfind('@') {
            Some(at) => at + 1,
            None if authority.contains(':') && !is_host_and_port(authority) => {
                word.rfind('@').map_or(0, |at| at + 1)
            }
            None => 0,
        };
        rest = &after[kept..];
    }
    clean + rest
}

fn is_host_and_port(authority: &str) -> bool {
    authority
        .rsplit_once(':')
        .is_none_or(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()) || port.ends_with(']'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_lose_user_and_password_and_nothing_else() {
        for (text, expected) in [
            ("", ""),
            ("no url: a@b:c", "no url: a@b:c"),
            ("git@github.com:a/b.git", "git@github.com:a/b.git"),
            ("https://github.com/a/b", "https://github.com/a/b"),
            ("https://host:8080/a@1.2", "https://host:8080/a@1.2"),
            ("https://[::1]:80/x@y", "https://[::1]:80/x@y"),
            ("https://token@github.com/a/b", "https://github.com/a/b"),
            ("https://me:pa:ss@host/x", "https://host/x"),
            ("https://me:p@ss@host/x", "https://host/x"),
            ("https://me:p/ss@host/x", "https://host/x"),
            ("ssh://git@host:22/a", "ssh://host:22/a"),
            ("a https://u:p@h1/x, b \"ftp://u:p@h2\"", "a https://h1/x, b \"ftp://h2\""),
            ("jdbc:postgresql://u:p@db/x", "jdbc:postgresql://db/x"),
            ("https://u:p@", "https://"),
            ("https://u:p@h?next=http://v:q@i/", "https://h?next=http://i/"),
            ("https://h/x?v=1&access_token=s.e-c#top", "https://h/x?v=1&access_token=#top"),
            ("https://h/x?X-Amz-Signature=s&v=1 and ?key=s", "https://h/x?X-Amz-Signature=&v=1 and ?key="),
            ("https://h/x#id_token=s", "https://h/x#id_token="),
            ("https://h/x?token", "https://h/x?token"),
            ("https://h/é?é=1&monkey=2", "https://h/é?é=1&monkey=2"),
            ("no url: ?token=a", "no url: ?token=a"),
            ("https://a://?token=b&://u:p@h/", "https://a://?token=&://h/"),
            ("https://x://me@:ost/y&a:p@h/", "https://x://h/"),
        ] {
            assert_eq!(without_credentials(text), expected, "{text}");
        }
    }
}
