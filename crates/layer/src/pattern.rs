//! Go's `filepath.Match` and `filepath.Clean` for Unix, on bytes: slice patterns are written for them.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// A pattern is malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("syntax error in pattern")]
pub struct BadPattern;

/// Tells whether `pattern` matches all of `name`.
///
/// `*` and `?` do not match `/`, classes are written `[a-z]` and `[^a]`, and `\` takes the next character literally.
/// As in Go, an error in a part of the pattern that is never reached is not found.
///
/// ```
/// use strata_layer::matches;
/// assert_eq!(matches("static/*.css", "static/site.css"), Ok(true));
/// assert_eq!(matches("*.css", "static/site.css"), Ok(false));
/// ```
pub fn matches(pattern: impl AsRef<OsStr>, name: impl AsRef<OsStr>) -> Result<bool, BadPattern> {
    let mut pattern = pattern.as_ref().as_bytes();
    let mut name = name.as_ref().as_bytes();
    'pattern: while !pattern.is_empty() {
        let (star, chunk, rest) = scan_chunk(pattern);
        pattern = rest;
        if star && chunk.is_empty() {
            return Ok(!name.contains(&b'/'));
        }
        if let Some(left) = match_chunk(chunk, name)?
            && (left.is_empty() || !pattern.is_empty())
        {
            name = left;
            continue;
        }
        if star {
            let reach = name.iter().position(|&byte| byte == b'/').unwrap_or(name.len());
            for skipped in 1..=reach {
                if let Some(left) = match_chunk(chunk, &name[skipped..])?
                    && (!pattern.is_empty() || left.is_empty())
                {
                    name = left;
                    continue 'pattern;
                }
            }
        }
        return Ok(false);
    }
    Ok(name.is_empty())
}

/// The shortest path that means the same, found without looking at the file system.
///
/// ```
/// assert_eq!(strata_layer::clean("a//b/../c/"), "a/c");
/// assert_eq!(strata_layer::clean(""), ".");
/// ```
pub fn clean(path: &str) -> String {
    // Only whole components are dropped, so the text stays valid.
    String::from_utf8_lossy(&clean_bytes(path.as_bytes())).into_owned()
}

pub(crate) fn clean_bytes(path: &[u8]) -> Vec<u8> {
    let rooted = path.first() == Some(&b'/');
    let mut kept: Vec<&[u8]> = Vec::new();
    for part in path.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." if kept.last().is_some_and(|last| *last != b"..") => {
                kept.pop();
            }
            b".." if rooted => {}
            part => kept.push(part),
        }
    }
    let mut out = if rooted { b"/".to_vec() } else { Vec::new() };
    out.extend_from_slice(&kept.join(&b'/'));
    if out.is_empty() {
        out.push(b'.');
    }
    out
}

/// Splits off the next literal part and tells whether stars came before it.
fn scan_chunk(pattern: &[u8]) -> (bool, &[u8], &[u8]) {
    let stars = pattern.iter().take_while(|&&byte| byte == b'*').count();
    let pattern = &pattern[stars..];
    let mut in_class = false;
    let mut at = 0;
    while at < pattern.len() {
        match pattern[at] {
            b'\\' => at += 1,
            b'[' => in_class = true,
            b']' => in_class = false,
            b'*' if !in_class => break,
            _ => {}
        }
        at += 1;
    }
    let (chunk, rest) = pattern.split_at(at.min(pattern.len()));
    (stars > 0, chunk, rest)
}

/// Matches the start of `text`; gives what is left of it. Goes on after a mismatch to find syntax errors.
fn match_chunk<'a>(mut chunk: &[u8], mut text: &'a [u8]) -> Result<Option<&'a [u8]>, BadPattern> {
    let mut failed = false;
    while let Some(&first) = chunk.first() {
        failed |= text.is_empty();
        match first {
            b'[' => {
                let mut found = '\0';
                if !failed {
                    let (decoded, width) = decode(text);
                    found = decoded;
                    text = &text[width..];
                }
                let (hit, rest) = match_class(&chunk[1..], found)?;
                failed |= !hit;
                chunk = rest;
            }
            b'?' => {
                if !failed {
                    failed = text[0] == b'/';
                    text = &text[decode(text).1..];
                }
                chunk = &chunk[1..];
            }
            _ => {
                if first == b'\\' {
                    chunk = &chunk[1..];
                }
                let &literal = chunk.first().ok_or(BadPattern)?;
                if !failed {
                    failed = literal != text[0];
                    text = &text[1..];
                }
                chunk = &chunk[1..];
            }
        }
    }
    Ok((!failed).then_some(text))
}

/// Matches one character against a class whose `[` is already gone.
fn match_class(mut chunk: &[u8], found: char) -> Result<(bool, &[u8]), BadPattern> {
    let negated = chunk.first() == Some(&b'^');
    if negated {
        chunk = &chunk[1..];
    }
    let mut hit = false;
    let mut ranges = 0;
    loop {
        if ranges > 0 && chunk.first() == Some(&b']') {
            return Ok((hit != negated, &chunk[1..]));
        }
        let (low, rest) = class_char(chunk)?;
        let mut high = low;
        chunk = rest;
        if chunk[0] == b'-' {
            (high, chunk) = class_char(&chunk[1..])?;
        }
        hit |= low <= found && found <= high;
        ranges += 1;
    }
}

/// Takes a possibly escaped character of a class; something always follows it.
fn class_char(mut chunk: &[u8]) -> Result<(char, &[u8]), BadPattern> {
    match chunk.first() {
        None | Some(b'-' | b']') => return Err(BadPattern),
        Some(b'\\') => chunk = &chunk[1..],
        Some(_) => {}
    }
    if chunk.is_empty() {
        return Err(BadPattern);
    }
    let (found, width) = decode(chunk);
    let rest = &chunk[width..];
    if rest.is_empty() || (found == char::REPLACEMENT_CHARACTER && width == 1) {
        return Err(BadPattern);
    }
    Ok((found, rest))
}

/// The first character and its width; an invalid byte is U+FFFD of width 1. `text` is not empty.
fn decode(text: &[u8]) -> (char, usize) {
    for width in 1..=text.len().min(4) {
        if let Ok(valid) = std::str::from_utf8(&text[..width])
            && let Some(found) = valid.chars().next()
        {
            return (found, width);
        }
    }
    (char::REPLACEMENT_CHARACTER, 1)
}
