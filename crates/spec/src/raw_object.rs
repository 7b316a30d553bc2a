//! A JSON object some members of which are replaced while all others stay as they are, byte for byte: numbers keep
//! their form, and members that nobody here knows are not lost.

use crate::doc::DocError;
use crate::labels::from_json;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

/// A JSON object as text, cut into members.
#[derive(Debug, Default)]
pub struct RawObject(Vec<(String, Box<RawValue>)>);

impl RawObject {
    /// Cuts an object into its members.
    ///
    /// # Errors
    /// When the text is no JSON object.
    pub fn parse(text: &str) -> Result<Self, DocError> {
        from_json(text)
    }

    /// The text of a member; `None` when it is absent or null.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value.get())
            .filter(|text| *text != "null")
    }

    /// Replaces a member where it is, or adds it at the end; `json` is the text of a value.
    ///
    /// # Errors
    /// When `json` is no JSON.
    pub fn set(&mut self, key: &str, json: String) -> Result<(), DocError> {
        let line_error = |error: serde_json::Error| DocError::whole(format!("{key}: {error}"));
        let value = RawValue::from_string(json).map_err(line_error)?;
        match self.0.iter_mut().find(|(name, _)| name == key) {
            Some((_, old)) => *old = value,
            None => self.0.push((key.to_owned(), value)),
        }
        Ok(())
    }

    /// Removes a member, if it is there.
    pub fn remove(&mut self, key: &str) {
        self.0.retain(|(name, _)| name != key);
    }
}

/// The object as JSON, without space between its members.
impl fmt::Display for RawObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (i, (key, value)) in self.0.iter().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            write!(f, "{comma}{}:{}", serde_json::Value::from(key.as_str()), value.get())?;
        }
        f.write_str("}")
    }
}

impl<'de> Deserialize<'de> for RawObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = RawObject;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawObject, A::Error> {
                let mut members: Vec<(String, Box<RawValue>)> = Vec::new();
                while let Some((key, value)) = map.next_entry::<String, Box<RawValue>>()? {
                    // The last one counts, as in Go.
                    members.retain(|(name, _)| *name != key);
                    members.push((key, value));
                }
                Ok(RawObject(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_replaced_stays_byte_for_byte() {
        let text = r#"{"a":{"n":1.0,"big":123456789012345678901234567890,"e":1e+21},"b":"\u003c","c":null}"#;
        let mut object = RawObject::parse(text).unwrap();
        assert_eq!(object.to_string(), text);
        assert_eq!((object.get("b"), object.get("c"), object.get("d")), (Some(r#""\u003c""#), None, None));
        object.set("b", "[1]".into()).unwrap();
        object.set("d", "{}".into()).unwrap();
        object.remove("c");
        let expected = r#"{"a":{"n":1.0,"big":123456789012345678901234567890,"e":1e+21},"b":[1],"d":{}}"#;
        assert_eq!(object.to_string(), expected);
        assert!(object.set("b", "[".into()).is_err());
    }

    #[test]
    fn the_last_of_two_members_counts_and_other_values_are_no_objects() {
        assert_eq!(RawObject::parse(r#"{"a":1,"b":2, "a": 3 }"#).unwrap().to_string(), r#"{"b":2,"a":3}"#);
        for bad in ["", "[]", "3", "{\"a\":}", "{} {}"] {
            assert!(RawObject::parse(bad).is_err(), "{bad}");
        }
    }
}
