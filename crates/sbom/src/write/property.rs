//! Properties of components, where CycloneDX has no word of its own.

use crate::component::Origin;

/// Where a component was found: an object, as JSON. There is one for each place.
pub(crate) const ORIGIN: &str = "strata:origin";
/// The buildpack that it came with, and its version.
pub(crate) const BUILDPACK: &str = "strata:buildpack";
/// The layer that it is in, as `<buildpack>:<layer>`.
pub(crate) const LAYER: &str = "strata:layer";
/// A name in the Common Platform Enumeration, besides the first.
pub(crate) const CPE: &str = "strata:cpe23";

/// The value of [`ORIGIN`].
pub(crate) fn of(origin: &Origin) -> String {
    serde_json::to_string(origin).unwrap_or_default()
}

/// The origin that such a value says.
pub(crate) fn origin(value: &str) -> Option<Origin> {
    // What is none was written by someone else.
    serde_json::from_str(value).ok()
}

/// All properties of a component that was found at these places.
pub(crate) fn all<'a>(
    origins: impl Iterator<Item = &'a Origin> + Clone,
) -> impl Iterator<Item = (&'static str, String)> {
    let labels = |name, label: fn(&Origin) -> Option<String>| {
        let mut found: Vec<String> = origins.clone().filter_map(label).collect();
        found.dedup();
        found.into_iter().map(move |label| (name, label))
    };
    let buildpacks = labels(BUILDPACK, Origin::buildpack_label);
    let layers = labels(LAYER, Origin::layer_label);
    let whole: Vec<_> = origins.map(|origin| (ORIGIN, of(origin))).collect();
    buildpacks.chain(layers).chain(whole)
}
