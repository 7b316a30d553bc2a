//! Which annotations the manifest of an image gets: those of its buildpacks, and of the person who builds it.
//!
//! The specification has none; other lifecycles ignore the table in `launch.toml`.

use std::collections::BTreeMap;

use strata_oci::annotation::is_of_entry;
use strata_spec::launch::Label;
use strata_spec::metadata::Metadata;

/// Refuses a key that is empty, or that is for the place where the image is kept to give.
///
/// # Errors
/// With a sentence that names the key.
pub fn check(key: &str) -> Result<(), String> {
    match key {
        "" => Err("an annotation has no key".to_owned()),
        key if is_of_entry(key) => {
            Err(format!("annotation '{key}' is not for an image to have: it names entries of an index"))
        }
        _ => Ok(()),
    }
}

/// `KEY=VALUE`, as a person types it. The value may be empty, and have further `=`.
///
/// # Errors
/// When there is no `=`, or the key is refused by [`check`].
pub fn parse(text: &str) -> Result<Label, String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    check(key)?;
    Ok(Label { key: key.to_owned(), value: value.to_owned() })
}

/// The annotations of an image: of equal keys, what was asked for wins over a buildpack's, that over the standard ones of
/// the source, and the later over the earlier.
///
/// # Errors
/// When one of the keys is refused by [`check`].
pub fn of_image(
    standard: &[Label],
    metadata: &Metadata,
    asked: &[Label],
) -> Result<BTreeMap<String, String>, String> {
    let all = standard.iter().chain(&metadata.annotations).chain(asked);
    all.map(|Label { key, value }| check(key).map(|()| (key.clone(), value.clone()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use strata_oci::annotation::REF_NAME;

    #[test]
    fn what_is_typed_has_a_key_and_a_value() {
        for (text, expected) in [
            ("a=b", Some(("a", "b"))),
            ("a=", Some(("a", ""))),
            ("a=b=c", Some(("a", "b=c"))),
            ("a", None),
            ("=b", None),
            ("org.opencontainers.image.ref.name=x", None),
        ] {
            let found = parse(text);
            let found = found.as_ref().ok().map(|label| (label.key.as_str(), label.value.as_str()));
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn what_was_asked_for_wins() {
        let labels = |pairs: &[(&str, &str)]| -> Vec<Label> {
            pairs.iter().map(|(key, value)| Label { key: (*key).into(), value: (*value).into() }).collect()
        };
        let metadata =
            Metadata { annotations: labels(&[("a", "1"), ("b", "1"), ("a", "2")]), ..Metadata::default() };
        let found = of_image(
            &labels(&[("a", "0"), ("d", "0")]),
            &metadata,
            &labels(&[("b", "3"), ("c", "4"), ("c", "5")]),
        )
        .unwrap();
        let pairs: Vec<_> = found.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(pairs, [("a", "2"), ("b", "3"), ("c", "5"), ("d", "0")]);
        assert!(of_image(&[], &metadata, &labels(&[(REF_NAME, "x")])).unwrap_err().contains(REF_NAME));
        let hostile = Metadata { annotations: labels(&[("", "x")]), ..Metadata::default() };
        assert!(of_image(&[], &hostile, &[]).is_err());
    }
}
