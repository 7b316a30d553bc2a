//! Finds the image a user names on the command line.

use std::path::Path;

use crate::{Layout, StoreError};

/// Opens `oci:<directory>[:<tag>]`. A directory that exists under the whole text wins over one with a tag.
///
/// # Errors
///
/// When the text has another form. Whether there is an image is found out by reading it.
pub fn open(spec: &str) -> Result<Layout, StoreError> {
    let rest = spec.strip_prefix("oci:").filter(|rest| !rest.is_empty());
    let rest = rest.ok_or_else(|| StoreError::Source(spec.to_owned()))?;
    if Path::new(rest).is_dir() {
        return Ok(Layout::open(rest));
    }
    match rest.rsplit_once(':') {
        Some((dir, tag)) if !dir.is_empty() && !tag.contains('/') => {
            crate::layout::check_name(tag)?;
            Ok(Layout::open(dir).tagged(tag))
        }
        _ => Ok(Layout::open(rest)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_with_colons_wins_over_a_tag() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("host:5000").join("x:y");
        std::fs::create_dir_all(&dir).unwrap();
        let text = dir.to_str().unwrap();
        for (spec, path, tag) in [
            (format!("oci:{text}"), text.to_owned(), None),
            (format!("oci:{text}:v1"), text.to_owned(), Some("v1")),
            ("oci:a/b:run".to_owned(), "a/b".to_owned(), Some("run")),
            ("oci:a:5/b".to_owned(), "a:5/b".to_owned(), None),
        ] {
            let layout = open(&spec).unwrap();
            assert_eq!((layout.dir(), layout.tag()), (Path::new(&path), tag), "{spec}");
        }
        for bad in ["", "oci:", "docker://x", "x", "oci:a:", "oci:a:b c"] {
            assert!(open(bad).is_err(), "{bad}");
        }
    }
}
