//! Which Strata this is: set when a release is made, else the workspace's.

/// The version, `X.Y.Z`.
pub(crate) fn number() -> &'static str {
    option_env!("STRATA_VERSION").filter(|version| !version.is_empty()).unwrap_or(env!("CARGO_PKG_VERSION"))
}

/// The commit that it was built from, when that is known.
pub(crate) fn commit() -> Option<&'static str> {
    option_env!("STRATA_COMMIT").filter(|commit| !commit.is_empty())
}

/// The version, with the commit when it is known and not part of the version.
pub(crate) fn text() -> String {
    match commit() {
        Some(commit) if !number().contains(commit) => format!("{}+{commit}", number()),
        _ => number().to_owned(),
    }
}
