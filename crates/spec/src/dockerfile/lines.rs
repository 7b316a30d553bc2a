//! Lines of a Dockerfile: directives, comments, continuations and here-documents.

use crate::doc::DocError;
use std::str::SplitInclusive;

/// Reads a text line by line.
pub(super) struct Lines<'a> {
    rest: SplitInclusive<'a, char>,
    /// How many lines have been read.
    number: usize,
    /// What escapes a character, and continues a line when it is its last.
    pub(super) escape: char,
    /// The directives so far; `None` where there can be no more.
    directives: Option<Vec<String>>,
}

/// What a line is with those that continue it.
pub(super) struct Logical {
    /// The first line, from 1.
    pub(super) line: usize,
    /// Without comments, and in one piece.
    pub(super) text: String,
}

const DIRECTIVES: [&str; 3] = ["syntax", "escape", "check"];

impl<'a> Lines<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        Self { rest: text.split_inclusive('\n'), number: 0, escape: '\\', directives: Some(Vec::new()) }
    }

    fn next(&mut self) -> Option<&'a str> {
        let line = self.rest.next()?;
        self.number += 1;
        Some(line)
    }

    /// The next line that says something.
    ///
    /// # Errors
    /// When a directive cannot be.
    pub(super) fn logical(&mut self) -> Result<Option<Logical>, DocError> {
        loop {
            let Some(raw) = self.next() else { return Ok(None) };
            let line = self.number;
            let first = raw.trim_end_matches(['\r', '\n']).trim_start();
            self.directive(first)?;
            let (first, mut continues) =
                self.without_continuation(if is_comment(first) { "" } else { first });
            if !continues && first.is_empty() {
                continue;
            }
            let mut text = first.to_owned();
            while continues && let Some(raw) = self.next() {
                let more = raw.trim_end_matches(['\r', '\n']);
                // An empty line between those that continue each other is passed over, as a comment is.
                if !is_comment(more) && !more.trim().is_empty() {
                    let (more, goes_on) = self.without_continuation(more);
                    text.push_str(more);
                    continues = goes_on;
                }
            }
            return Ok(Some(Logical { line, text }));
        }
    }

    /// The lines up to one that is `name`.
    ///
    /// # Errors
    /// When there is none.
    pub(super) fn until(&mut self, name: &str, chomps: bool) -> Result<String, DocError> {
        let started = self.number;
        let mut content = String::new();
        while let Some(line) = self.next() {
            let end = line.trim_end_matches(['\r', '\n']);
            if name == if chomps { end.trim_start_matches('\t') } else { end } {
                return Ok(content);
            }
            content.push_str(line);
        }
        Err(DocError::at_line(started, format!("the here-document '{name}' does not end")))
    }

    /// A line without what continues it, and whether there was such.
    fn without_continuation<'l>(&self, line: &'l str) -> (&'l str, bool) {
        match line.trim_end_matches([' ', '\t']).strip_suffix(self.escape) {
            Some(before) if !before.ends_with(self.escape) => (before, true),
            _ => (line, false),
        }
    }

    /// Directives are the comments that a file begins with, as long as each is one.
    fn directive(&mut self, line: &str) -> Result<(), DocError> {
        let Some(seen) = &mut self.directives else { return Ok(()) };
        let found = line.strip_prefix('#').and_then(|comment| {
            let (name, value) = comment.trim().split_once('=')?;
            let name = name.trim_end().to_ascii_lowercase();
            Some((name, value.trim_start())).filter(|(_, value)| !value.is_empty())
        });
        let Some((name, value)) = found.filter(|(name, _)| DIRECTIVES.contains(&name.as_str())) else {
            self.directives = None;
            return Ok(());
        };
        if seen.contains(&name) {
            return Err(DocError::at_line(self.number, format!("there is more than one directive '{name}'")));
        }
        if name == "escape" {
            self.escape = match value {
                "\\" => '\\',
                "`" => '`',
                _ => {
                    let message = format!("'{value}' cannot be the escape character; ` or \\ can");
                    return Err(DocError::at_line(self.number, message));
                }
            };
        }
        seen.push(name);
        Ok(())
    }
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with('#')
}
