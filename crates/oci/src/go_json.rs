//! JSON as Go's `encoding/json` writes it, so that digests of equal documents are equal.
//!
//! Compact, no trailing newline, `<`, `>`, `&`, U+2028 and U+2029 escaped. Members come out in the order they have in
//! the value: a Go struct has a fixed order, a Go map is sorted, and only the caller knows which one it stands for
//! ([`sort_keys`] makes the second).

use std::fmt::Write as _;

use serde_json::{Map, Number, Value};

/// Writes `value` by Go's rules.
///
/// ```
/// let value = serde_json::json!({"b": "<a&b>", "a": 1.0});
/// assert_eq!(strata_oci::go_json::to_string(&value), r#"{"b":"\u003ca\u0026b\u003e","a":1}"#);
/// ```
#[must_use]
pub fn to_string(value: &Value) -> String {
    let mut out = String::new();
    write_value(&mut out, value);
    out
}

/// Sorts the members of every object inside `value` bytewise, as Go does for maps.
pub fn sort_keys(value: &mut Value) {
    match value {
        Value::Object(map) => {
            *map = sorted(std::mem::take(map));
            map.values_mut().for_each(sort_keys);
        }
        Value::Array(items) => items.iter_mut().for_each(sort_keys),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The same members, sorted bytewise by key; values are left as they are.
pub(crate) fn sorted(map: Map<String, Value>) -> Map<String, Value> {
    let mut members: Vec<_> = map.into_iter().collect();
    members.sort_by(|a, b| a.0.cmp(&b.0));
    members.into_iter().collect()
}

fn write_value(out: &mut String, value: &Value) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Number(number) => write_number(out, number),
        Value::String(text) => write_string(out, text),
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_value(out, item);
            }
            out.push(']');
        }
        Value::Object(map) => {
            out.push('{');
            for (i, (key, item)) in map.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_string(out, key);
                out.push(':');
                write_value(out, item);
            }
            out.push('}');
        }
    }
}

fn write_string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\0'..='\u{1f}' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => push_escape(out, c),
            _ => out.push(c),
        }
    }
    out.push('"');
}

fn push_escape(out: &mut String, c: char) {
    const DIGITS: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    out.push_str("\\u");
    for shift in [12, 8, 4, 0] {
        out.push(DIGITS[((c as u32 >> shift) & 0xf) as usize]);
    }
}

fn write_number(out: &mut String, number: &Number) {
    match number.as_f64() {
        Some(float) if number.is_f64() => out.push_str(&float_text(float)),
        _ => {
            // Writing to a String cannot fail.
            let written = write!(out, "{number}");
            debug_assert!(written.is_ok());
        }
    }
}

/// `floatEncoder` of Go: shortest digits, an exponent below 1e-6 and from 1e21 on, `e-9` rather than `e-09`.
fn float_text(float: f64) -> String {
    let size = float.abs();
    if size != 0.0 && !(1e-6..1e21).contains(&size) {
        let text = format!("{float:e}");
        // Go writes the sign of a positive exponent.
        match text.split_once('e') {
            Some((digits, exponent)) if !exponent.starts_with('-') => format!("{digits}e+{exponent}"),
            _ => text,
        }
    } else {
        format!("{float}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_come_out_as_go_writes_them() {
        for (value, expected) in [
            (json!(null), "null"),
            (json!([true, false, [], {}]), "[true,false,[],{}]"),
            (json!({"z": 1, "a": {"y": 2, "b": 3}}), r#"{"z":1,"a":{"y":2,"b":3}}"#),
            (json!("<>&"), r#""\u003c\u003e\u0026""#),
            (json!({"<": 1}), r#"{"\u003c":1}"#),
            (json!("\u{2028}\u{2029}\u{2027}"), "\"\\u2028\\u2029\u{2027}\""),
            (json!("\n\r\t\u{8}\u{c}\u{0}\u{1f}\u{7f}"), "\"\\n\\r\\t\\b\\f\\u0000\\u001f\u{7f}\""),
            (json!("é\"\\/😀"), "\"é\\\"\\\\/😀\""),
            (json!("\u{fffd}"), "\"\u{fffd}\""),
            (json!(u64::MAX), "18446744073709551615"),
            (json!(i64::MIN), "-9223372036854775808"),
            (json!(1.0), "1"),
            (json!(-0.0), "-0"),
            (json!(1.5), "1.5"),
            (json!(0.000001), "0.000001"),
            (json!(0.0000001), "1e-7"),
            (json!(1e20), "100000000000000000000"),
            (json!(1e21), "1e+21"),
            (json!(1.25e300), "1.25e+300"),
        ] {
            assert_eq!(to_string(&value), expected);
        }
    }

    #[test]
    fn keys_are_sorted_at_every_depth_when_asked() {
        let mut value = json!({"b": [{"d": 1, "C": 2}], "a": 1});
        sort_keys(&mut value);
        assert_eq!(to_string(&value), r#"{"a":1,"b":[{"C":2,"d":1}]}"#);
    }

    proptest::proptest! {
        #[test]
        fn every_string_reads_back(text: String) {
            let back: Value = serde_json::from_str(&to_string(&json!(text))).unwrap();
            proptest::prop_assert_eq!(back, json!(text));
        }
    }
}
