//! Parsing of TOML documents with errors that say where.

use serde::de::DeserializeOwned;

/// A document that is not what its specification says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct DocError {
    /// What is wrong, and what was expected.
    pub message: String,
    /// Where; `None` for a fault of the document as a whole.
    pub place: Option<Place>,
}

/// A place in a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// 1-based line.
    pub line: usize,
    /// 1-based column (bytes).
    pub column: usize,
}

impl std::fmt::Display for DocError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.place {
            Some(Place { line, column }) => write!(f, "line {line}, column {column}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl DocError {
    /// A fault of the document as a whole.
    pub fn whole(message: impl Into<String>) -> Self {
        Self { message: message.into(), place: None }
    }

    /// A fault of a line, from 1.
    pub(crate) fn at_line(line: usize, message: String) -> Self {
        Self { message, place: Some(Place { line, column: 1 }) }
    }

    /// What the parser says of a text.
    pub(crate) fn of(text: &str, error: &toml::de::Error) -> Self {
        let start = error.span().map_or(0, |span| span.start);
        Self { message: error.message().replace('\n', " "), place: Some(Place::of(text, start)) }
    }
}

impl Place {
    /// The place of a byte of a text.
    pub(crate) fn of(text: &str, offset: usize) -> Self {
        let before = text.get(..offset.min(text.len())).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(1, |tail| tail.len() + 1);
        Self { line, column }
    }
}

/// The largest TOML document that is read, in bytes. Real ones are a few kilobytes; a file of gigabytes is a
/// mistake or an attack, and would otherwise be held in memory several times over.
pub const MAX_DOCUMENT: usize = 16 * 1024 * 1024;

/// Parses a TOML document into `T`.
///
/// # Errors
/// When the text is not TOML, or a key has another type than the specification gives it.
pub fn from_toml<T: DeserializeOwned>(text: &str) -> Result<T, DocError> {
    toml::from_str(text).map_err(|error| DocError::of(text, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_line_and_column() {
        #[derive(Debug, serde::Deserialize)]
        struct Doc {
            #[expect(dead_code, reason = "only its type matters here")]
            id: String,
        }
        let error = from_toml::<Doc>("# a comment\nid = 3\n").unwrap_err();
        assert_eq!(error.place, Some(Place { line: 2, column: 6 }));
        assert!(error.message.contains("expected a string"), "{}", error.message);
    }
}
