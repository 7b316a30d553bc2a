//! Parsing of TOML documents with errors that say where.

use serde::de::DeserializeOwned;

/// A document that is not what its specification says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct DocError {
    /// What is wrong, and what was expected.
    pub message: String,
    /// 1-based line of the fault; 1 when the fault is the document as a whole.
    pub line: usize,
    /// 1-based column (bytes) of the fault.
    pub column: usize,
}

impl DocError {
    /// A fault of the document as a whole.
    pub fn whole(message: impl Into<String>) -> Self {
        Self { message: message.into(), line: 1, column: 1 }
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
    toml::from_str(text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start).min(text.len());
        let before = text.get(..offset).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(1, |tail| tail.len() + 1);
        DocError { message: error.message().replace('\n', " "), line, column }
    })
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
        assert_eq!((error.line, error.column), (2, 6));
        assert!(error.message.contains("expected a string"), "{}", error.message);
    }
}
