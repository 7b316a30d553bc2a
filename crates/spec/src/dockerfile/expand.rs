//! What words of a Dockerfile are once quotes are off and variables are replaced
//! (<https://docs.docker.com/reference/dockerfile/#environment-replacement>).

use std::iter::Peekable;
use std::str::Chars;

/// Finds the value of a variable.
pub type Lookup<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// A word that cannot be replaced.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExpandError {
    /// A quote without its other end.
    #[error("a quote {0} does not end")]
    Quote(char),
    /// A `${` without its `}`.
    #[error("a ${{ does not end")]
    Brace,
    /// A `${…}` of a form that is not understood.
    #[error("${{{0}}} is not understood")]
    Form(String),
    /// A variable that `?` says must have a value.
    #[error("{0}: {1}")]
    Required(String, String),
    /// What variables stand for is too long, together.
    #[error("with its variables replaced it is longer than {0} bytes")]
    Long(usize),
    /// A pattern that would take too long.
    #[error("a pattern is too long for the value that it is to match")]
    Pattern,
}

/// How deep `${a:-${b:-…}}` may be.
const MAX_DEPTH: usize = 32;

/// How many bytes the values of variables in one word or here-document may have together.
pub const MAX_LENGTH: usize = 1 << 20;

/// How many characters a value may have, times those of a pattern.
const MAX_WORK: usize = 1 << 22;

/// A word with quotes off and variables replaced; blanks stay.
///
/// # Errors
/// When quotes or braces do not end, when a variable must have a value and has none, and when it gets too long.
pub fn word(text: &str, escape: char, lookup: &Lookup<'_>) -> Result<String, ExpandError> {
    let pieces = Lexer { chars: text.chars().peekable(), escape, quotes: true, lookup, spent: 0 }.all()?;
    Ok(pieces.into_iter().map(|(text, _)| text).collect())
}

/// The words that a text is: as [`word`], and blanks outside of quotes part them, those in values too.
///
/// # Errors
/// As of [`word`].
pub fn words(text: &str, escape: char, lookup: &Lookup<'_>) -> Result<Vec<String>, ExpandError> {
    let pieces = Lexer { chars: text.chars().peekable(), escape, quotes: true, lookup, spent: 0 }.all()?;
    let mut words = vec![String::new()];
    for (text, is_quoted) in pieces {
        for c in text.chars() {
            if c.is_whitespace() && !is_quoted {
                words.push(String::new());
            } else if let Some(last) = words.last_mut() {
                last.push(c);
            }
        }
    }
    words.retain(|word| !word.is_empty());
    Ok(words)
}

/// A here-document with variables replaced; quotes in it are text.
///
/// # Errors
/// As of [`word`].
pub fn here_document(text: &str, lookup: &Lookup<'_>) -> Result<String, ExpandError> {
    let pieces =
        Lexer { chars: text.chars().peekable(), escape: '\\', quotes: false, lookup, spent: 0 }.all()?;
    Ok(pieces.into_iter().map(|(text, _)| text).collect())
}

struct Lexer<'a> {
    chars: Peekable<Chars<'a>>,
    escape: char,
    /// Whether quotes are quotes.
    quotes: bool,
    lookup: &'a Lookup<'a>,
    /// The bytes of all values so far.
    spent: usize,
}

/// Text, and whether blanks in it are part of a word.
type Piece = (String, bool);

impl Lexer<'_> {
    fn all(mut self) -> Result<Vec<Piece>, ExpandError> {
        self.until(None, 0)
    }

    /// What comes before `end`, which is taken too.
    fn until(&mut self, end: Option<char>, depth: usize) -> Result<Vec<Piece>, ExpandError> {
        let mut pieces = Vec::new();
        while let Some(c) = self.chars.next() {
            if end == Some(c) {
                return Ok(pieces);
            }
            pieces.push(match c {
                '$' => (self.variable(depth)?, false),
                '\'' if self.quotes => (self.single()?, true),
                '"' if self.quotes => (self.double(depth)?, true),
                _ if c == self.escape => match self.chars.next() {
                    Some(escaped) => (escaped.to_string(), true),
                    None => break,
                },
                _ => (c.to_string(), false),
            });
        }
        if end.is_some() { Err(ExpandError::Brace) } else { Ok(pieces) }
    }

    fn single(&mut self) -> Result<String, ExpandError> {
        let mut text = String::new();
        loop {
            match self.chars.next() {
                Some('\'') => return Ok(text),
                Some(c) => text.push(c),
                None => return Err(ExpandError::Quote('\'')),
            }
        }
    }

    fn double(&mut self, depth: usize) -> Result<String, ExpandError> {
        let mut text = String::new();
        loop {
            match self.chars.next() {
                Some('"') => return Ok(text),
                Some('$') => text.push_str(&self.variable(depth)?),
                Some(c) if c == self.escape => {
                    let is_escaped = |next: &char| matches!(next, '"' | '$') || *next == c;
                    text.push(self.chars.next_if(is_escaped).unwrap_or(c));
                }
                Some(c) => text.push(c),
                None => return Err(ExpandError::Quote('"')),
            }
        }
    }

    /// What is behind a `$`.
    fn variable(&mut self, depth: usize) -> Result<String, ExpandError> {
        if self.chars.next_if_eq(&'{').is_none() {
            let name = self.name();
            return Ok(if name.is_empty() { "$".into() } else { self.value(&name)?.unwrap_or_default() });
        }
        let name = self.name();
        let value = self.value(&name)?;
        let mut form = match self.chars.next() {
            Some('}') if !name.is_empty() => return Ok(value.unwrap_or_default()),
            Some(c) if !name.is_empty() && depth < MAX_DEPTH => c,
            Some(c) => return Err(ExpandError::Form(format!("{name}{c}…"))),
            None => return Err(ExpandError::Brace),
        };
        let counts_empty = form == ':';
        if counts_empty {
            form = self.chars.next().ok_or(ExpandError::Brace)?;
        }
        if !matches!((form, counts_empty), ('-' | '+' | '?', _) | ('#' | '%', false)) {
            let colon = if counts_empty { ":" } else { "" };
            return Err(ExpandError::Form(format!("{name}{colon}{form}…")));
        }
        let other: String = self.until(Some('}'), depth + 1)?.into_iter().map(|(text, _)| text).collect();
        let given = value.filter(|value| !(counts_empty && value.is_empty()));
        match form {
            '-' => Ok(given.unwrap_or(other)),
            '+' => Ok(given.map_or_else(String::new, |_| other)),
            '?' => given.ok_or(ExpandError::Required(name, required(other, counts_empty))),
            '#' => without(&given.unwrap_or_default(), &other, Edge::Start),
            _ => without(&given.unwrap_or_default(), &other, Edge::End),
        }
    }

    fn value(&mut self, name: &str) -> Result<Option<String>, ExpandError> {
        let value = (self.lookup)(name);
        self.spent = self.spent.saturating_add(value.as_ref().map_or(0, String::len));
        if self.spent > MAX_LENGTH { Err(ExpandError::Long(MAX_LENGTH)) } else { Ok(value) }
    }

    /// A name of letters, digits and `_`; a number; or a single special character, which no variable has.
    fn name(&mut self) -> String {
        let mut name = String::new();
        let special = |c: &char| matches!(c, '@' | '*' | '#' | '?' | '-' | '$' | '!');
        if let Some(c) = self.chars.next_if(special) {
            return c.to_string();
        }
        let is_number = self.chars.peek().is_some_and(|c| c.is_numeric());
        let belongs = |c: &char| if is_number { c.is_numeric() } else { c.is_alphanumeric() || *c == '_' };
        while let Some(c) = self.chars.next_if(belongs) {
            name.push(c);
        }
        name
    }
}

fn required(message: String, counts_empty: bool) -> String {
    match (message.is_empty(), counts_empty) {
        (false, _) => message,
        (true, true) => "is not allowed to be empty".into(),
        (true, false) => "is not allowed to be unset".into(),
    }
}

/// Where a pattern is looked for.
#[derive(Clone, Copy)]
enum Edge {
    Start,
    End,
}

/// A value without the shortest part at one end that a pattern matches; without the longest, if the pattern begins with
/// `#` or `%` itself.
fn without(value: &str, pattern: &str, edge: Edge) -> Result<String, ExpandError> {
    let twice = match edge {
        Edge::Start => '#',
        Edge::End => '%',
    };
    let (pattern, is_greedy) =
        pattern.strip_prefix(twice).map_or((pattern, false), |pattern| (pattern, true));
    let mut pattern = tokens(pattern);
    let mut value: Vec<char> = value.chars().collect();
    if value.len().saturating_mul(pattern.len()) > MAX_WORK {
        return Err(ExpandError::Pattern);
    }
    if let Edge::End = edge {
        pattern.reverse();
        value.reverse();
    }
    let lengths = matching(&value, &pattern);
    let found = if is_greedy { lengths.last() } else { lengths.first() };
    let mut rest = value.split_off(found.copied().unwrap_or_default());
    if let Edge::End = edge {
        rest.reverse();
    }
    Ok(rest.into_iter().collect())
}

/// A part of a pattern.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Token {
    /// `*`
    Some,
    /// `?`
    One,
    This(char),
}

fn tokens(pattern: &str) -> Vec<Token> {
    let mut chars = pattern.chars();
    let mut tokens = Vec::new();
    while let Some(c) = chars.next() {
        tokens.push(match c {
            '*' => Token::Some,
            '?' => Token::One,
            '\\' => Token::This(chars.next().unwrap_or(c)),
            c => Token::This(c),
        });
    }
    tokens
}

/// How much of the start of a text a pattern matches: all lengths, the shortest first. What the pattern has come to is
/// followed for all its places at once, so that no text takes longer than another.
fn matching(text: &[char], pattern: &[Token]) -> Vec<usize> {
    let mut places = vec![true];
    for token in pattern {
        places.push(*token == Token::Some && places.last() == Some(&true));
    }
    let mut lengths = Vec::new();
    for (length, c) in (0..).zip(text.iter().map(Some).chain([None])) {
        if places.last() == Some(&true) {
            lengths.push(length);
        }
        let Some(c) = c else { break };
        let mut next = Vec::with_capacity(places.len());
        let mut before: Option<(Token, bool)> = None;
        for (place, token) in places.iter().zip(pattern.iter().copied().map(Some).chain([None])) {
            let is_next = next.last() == Some(&true);
            let comes = before.is_some_and(|(token, was)| match token {
                Token::Some => is_next,
                Token::One => was,
                Token::This(wanted) => was && wanted == *c,
            });
            next.push(comes || (*place && token == Some(Token::Some)));
            before = token.map(|token| (token, *place));
        }
        places = next;
    }
    lengths
}
