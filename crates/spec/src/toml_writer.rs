//! Writes TOML as the Go lifecycle's encoder (BurntSushi/toml) lays it out.
//!
//! `config/metadata.toml` is part of an image layer: another layout of the same values would be another diffID.
//! In every table scalars and arrays come first, then sub-tables, each in the order given; nested keys are indented
//! by two spaces per depth; a blank line stands before every top-level table and every array-of-tables header.

use serde::Serialize;
use std::fmt::Write;
use toml::{Table, Value};

/// Serialises a document.
///
/// # Panics
/// Never for the types of this crate: they have no value that TOML cannot express.
pub fn to_string<T: Serialize>(document: &T) -> String {
    let mut out = String::new();
    match Value::try_from(document) {
        Ok(Value::Table(table)) => write_table(&mut out, &[], &table, Header::Root),
        Ok(_) | Err(_) => unreachable!("documents are tables of TOML values"),
    }
    out
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Header {
    Root,
    Table,
    Element,
}

fn is_table_array(value: &Value) -> bool {
    matches!(value, Value::Array(items) if !items.is_empty() && items.iter().all(Value::is_table))
}

fn write_table(out: &mut String, path: &[String], table: &Table, header: Header) {
    let depth = path.len().saturating_sub(1);
    let own = table.iter().filter(|(_, value)| !value.is_table() && !is_table_array(value));
    match header {
        Header::Root => {}
        Header::Table => {
            if path.len() == 1 {
                separate(out);
            }
            push(out, format_args!("{}[{}]\n", "  ".repeat(depth), join(path)));
        }
        Header::Element => {
            separate(out);
            push(out, format_args!("{}[[{}]]\n", "  ".repeat(depth), join(path)));
        }
    }
    let indent = "  ".repeat(path.len());
    for (name, value) in own {
        push(out, format_args!("{indent}{} = ", key(name)));
        write_value(out, value, escaping(path, name));
        out.push('\n');
    }
    for (name, value) in table {
        let mut inner = path.to_vec();
        inner.push(key(name));
        match value {
            Value::Table(sub) => write_table(out, &inner, sub, Header::Table),
            Value::Array(items) if is_table_array(value) => {
                for item in items.iter().filter_map(Value::as_table) {
                    write_table(out, &inner, item, Header::Element);
                }
            }
            _ => {}
        }
    }
}

fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    out.write_fmt(text).unwrap_or_default();
}

fn separate(out: &mut String) {
    if !out.is_empty() {
        out.push('\n');
    }
}

fn join(path: &[String]) -> String {
    path.join(".")
}

fn key(name: &str) -> String {
    let is_bare = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    if !name.is_empty() && name.bytes().all(is_bare) { name.to_owned() } else { quoted(name, Escaping::Toml) }
}

/// Which characters of a string are written as escapes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Escaping {
    /// Those that TOML cannot have.
    Toml,
    /// Those of Go's JSON as well.
    Json,
}

/// The reference hands a process's command to its JSON encoder.
fn escaping(path: &[String], name: &str) -> Escaping {
    let is_process = matches!(path, [table] if table == "processes");
    if is_process && name == "command" { Escaping::Json } else { Escaping::Toml }
}

fn quoted(text: &str, escaping: Escaping) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' if escaping == Escaping::Json => {
                push(&mut out, format_args!("\\u{:04x}", c as u32));
            }
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\u{c}' => out.push_str("\\f"),
            '\r' => out.push_str("\\r"),
            c if c < ' ' || c == '\u{7f}' => push(&mut out, format_args!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn write_value(out: &mut String, value: &Value, escaping: Escaping) {
    match value {
        Value::String(text) => out.push_str(&quoted(text, escaping)),
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push_str(", ");
                }
                write_value(out, item, escaping);
            }
            out.push(']');
        }
        Value::Table(table) => {
            out.push('{');
            for (i, (name, item)) in table.iter().enumerate() {
                if i > 0 {
                    out.push_str(", ");
                }
                push(out, format_args!("{} = ", key(name)));
                write_value(out, item, escaping);
            }
            out.push('}');
        }
        other => push(out, format_args!("{other}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_laid_out_as_the_reference_lays_them_out() {
        let value: Table = toml::from_str(
            "processes = []\n[[buildpacks]]\nid = \"a/b\"\n[[buildpacks]]\nid = \"c\"\n\
             [[entries]]\n[[entries.providers]]\nid=\"x\"\n[[entries.requires]]\nname=\"n\"\n\
             [entries.requires.metadata]\nk = 1\n[top.sub]\n\"a.b\" = \"tab\\there\"\n",
        )
        .unwrap();
        let expected = "processes = []\n\n[[buildpacks]]\n  id = \"a/b\"\n\n[[buildpacks]]\n  id = \"c\"\n\n\
                        [[entries]]\n\n  [[entries.providers]]\n    id = \"x\"\n\n  [[entries.requires]]\n    \
                        name = \"n\"\n    [entries.requires.metadata]\n      k = 1\n\n[top]\n  [top.sub]\n    \
                        \"a.b\" = \"tab\\there\"\n";
        assert_eq!(to_string(&value), expected);
    }
}
