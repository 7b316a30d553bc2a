//! Platforms of images.

use strata_oci::Platform;

/// Understands `OS/ARCHITECTURE[/VARIANT]`, for the command line.
pub(super) fn platform(text: &str) -> Result<Platform, String> {
    let parts: Vec<&str> = text.split('/').collect();
    let (os, architecture, variant) = match parts.as_slice() {
        [os, architecture] => (os, architecture, None),
        [os, architecture, variant] => (os, architecture, Some((*variant).to_owned())),
        _ => return Err("expected OS/ARCHITECTURE or OS/ARCHITECTURE/VARIANT, as in linux/arm64".to_owned()),
    };
    if parts.contains(&"") {
        return Err("a part of it is empty".to_owned());
    }
    Ok(Platform { variant, ..Platform::new(*os, *architecture) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_have_two_or_three_parts() {
        for text in ["linux/amd64", "linux/arm64/v8"] {
            assert_eq!(platform(text).unwrap().to_string(), text);
        }
        for bad in ["", "linux", "linux/", "linux/a/b/c", "//"] {
            assert!(platform(bad).is_err(), "{bad}");
        }
    }
}
