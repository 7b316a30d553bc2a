//! Data of buildpacks on its way between TOML documents and JSON labels.

use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A TOML value as JSON: dates become RFC 3339 strings, integers stay integers.
pub fn to_json(value: &toml::Value) -> Value {
    match value {
        toml::Value::String(text) => json!(text),
        toml::Value::Integer(number) => json!(number),
        toml::Value::Float(number) => json!(number),
        toml::Value::Boolean(flag) => json!(flag),
        toml::Value::Datetime(date) => json!(date.to_string()),
        toml::Value::Array(items) => items.iter().map(to_json).collect(),
        toml::Value::Table(table) => table_to_json(table),
    }
}

/// A TOML table with sorted keys, those of inner tables too, as Go writes maps.
pub fn sorted(table: &toml::Table) -> toml::Table {
    let entries: BTreeMap<_, _> =
        table.iter().map(|(key, value)| (key.clone(), sorted_value(value))).collect();
    entries.into_iter().collect()
}

fn sorted_value(value: &toml::Value) -> toml::Value {
    match value {
        toml::Value::Table(table) => toml::Value::Table(sorted(table)),
        toml::Value::Array(items) => toml::Value::Array(items.iter().map(sorted_value).collect()),
        other => other.clone(),
    }
}

/// A TOML table as a JSON object with sorted keys, as Go writes maps.
pub fn table_to_json(table: &toml::Table) -> Value {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by(|a, b| a.0.cmp(b.0));
    Value::Object(entries.into_iter().map(|(key, value)| (key.clone(), to_json(value))).collect())
}

/// A JSON value as TOML, `None` for null, which TOML lacks. Integers stay integers; members that are null are left
/// out.
pub fn to_toml(value: &Value) -> Option<toml::Value> {
    Some(match value {
        Value::Null => return None,
        Value::Bool(flag) => toml::Value::Boolean(*flag),
        Value::String(text) => toml::Value::String(text.clone()),
        Value::Number(number) => match number.as_i64() {
            Some(integer) => toml::Value::Integer(integer),
            None => toml::Value::Float(number.as_f64()?),
        },
        Value::Array(items) => toml::Value::Array(items.iter().filter_map(to_toml).collect()),
        Value::Object(members) => toml::Value::Table(
            members.iter().filter_map(|(key, value)| Some((key.clone(), to_toml(value)?))).collect(),
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn toml_becomes_json_with_sorted_keys_and_types_kept() {
        let table: toml::Table =
            toml::from_str("b = 1\na = 1979-05-27T07:32:00Z\n[c]\nx = [1.5, true]\n").unwrap();
        let json = table_to_json(&table).to_string();
        assert_eq!(json, r#"{"a":"1979-05-27T07:32:00Z","b":1,"c":{"x":[1.5,true]}}"#);
    }

    #[test]
    fn json_becomes_toml_and_back_without_nulls() {
        let json = json!({"a": 1, "b": [1.5, null], "c": null, "d": {"e": "x", "f": 1e30}});
        let toml = to_toml(&json).unwrap();
        assert_eq!(to_json(&toml), json!({"a": 1, "b": [1.5], "d": {"e": "x", "f": 1e30}}));
        assert_eq!(to_toml(&Value::Null), None);
    }
}
