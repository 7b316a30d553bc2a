//! Words of an instruction, as written: what quotes and variables mean comes later.

/// White space between an instruction's name and its arguments, and between arguments.
pub(super) const BLANK: [char; 5] = ['\t', '\u{b}', '\u{c}', '\r', ' '];

/// Words, of which quotes keep blanks together.
pub(super) fn quoted(text: &str, escape: char) -> Vec<String> {
    let mut words = Vec::new();
    let (mut word, mut quote) = (String::new(), None);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if quote.is_none() && c.is_whitespace() {
            words.push(std::mem::take(&mut word));
        } else if c == escape && quote != Some('\'') {
            // One at the very end escapes nothing.
            if let Some(escaped) = chars.next() {
                word.extend([c, escaped]);
            }
        } else {
            quote = match quote {
                Some(open) if open == c => None,
                None if c == '\'' || c == '"' => Some(c),
                unchanged => unchanged,
            };
            word.push(c);
        }
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    words
}

/// Words between blanks.
pub(super) fn plain(text: &str) -> Vec<String> {
    text.split(BLANK).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// The flags in front of an instruction's arguments without their quotes, and the arguments.
pub(super) fn flags(text: &str, escape: char) -> (Vec<String>, &str) {
    let mut flags = Vec::new();
    let mut rest = text.trim_start();
    while rest.starts_with("--") {
        let (word, after) = unquoted(rest, escape);
        rest = after.trim_start();
        if word == "--" {
            break;
        }
        flags.push(word);
    }
    (flags, rest)
}

/// The first word without its quotes, and what follows.
fn unquoted(text: &str, escape: char) -> (String, &str) {
    let (mut word, mut quote) = (String::new(), None);
    let mut chars = text.chars();
    loop {
        let rest = chars.as_str();
        let Some(c) = chars.next() else { return (word, "") };
        match quote {
            None if c.is_whitespace() => return (word, rest),
            None if c == '\'' || c == '"' => quote = Some(c),
            Some(open) if open == c => quote = None,
            _ if c == escape => word.extend(chars.next()),
            _ => word.push(c),
        }
    }
}

/// A here-document that a line announces.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Announced {
    /// The line that ends it.
    pub(super) name: String,
    /// Whether variables in it are replaced.
    pub(super) expands: bool,
    /// Whether tabs that its lines begin with are dropped.
    pub(super) chomps: bool,
}

/// The here-documents that a line announces, in order.
pub(super) fn announced(line: &str) -> Vec<Announced> {
    shell_words(line).unwrap_or_default().iter().filter_map(|word| here_document(word)).collect()
}

/// The here-document that a text is, if it is one and nothing else.
pub(super) fn here_document(text: &str) -> Option<Announced> {
    let rest = text.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix("<<")?;
    let chomps = rest.starts_with('-');
    let rest = rest.strip_prefix('-').unwrap_or(rest).trim_start();
    if rest.contains('<') || shell_words(rest)?.len() != 1 {
        return None;
    }
    let (name, _) = unquoted(rest.trim_end(), '\\');
    let expands = !rest.contains(['\'', '"']);
    (!name.is_empty()).then_some(Announced { name, expands, chomps })
}

/// Words as a shell sees them, quotes kept; none where quotes do not end.
fn shell_words(line: &str) -> Option<Vec<String>> {
    let mut words = vec![String::new()];
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        if c.is_whitespace() {
            words.push(String::new());
            continue;
        }
        let word = words.last_mut()?;
        word.push(c);
        match c {
            '\\' => word.extend(chars.next()),
            '\'' => loop {
                let c = chars.next()?;
                word.push(c);
                if c == '\'' {
                    break;
                }
            },
            '"' => loop {
                let c = chars.next()?;
                word.push(c);
                match c {
                    '"' => break,
                    '\\' => word.extend(chars.next()),
                    _ => {}
                }
            },
            '<' if chars.next_if_eq(&'<').is_some() => {
                word.push('<');
                // A name may be apart, and is a part of the word then.
                while let Some(blank) = chars.next_if(|c| matches!(c, '\t' | '\r' | ' ')) {
                    word.push(blank);
                }
            }
            _ => {}
        }
    }
    words.retain(|word| !word.is_empty());
    Some(words)
}
