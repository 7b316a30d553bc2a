//! Where the entries of a layer's bill of materials go: `[[bom]]` in `<layer>.toml`, which is beyond the specification.
//! Its entries have the lifetime of the layer, those of `launch.toml` and `build.toml` that of one build.

use strata_spec::bom::BomEntry;
use strata_spec::group::GroupElement;
use strata_spec::layer::{LayerToml, Types};

/// Where the entries of one layer go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Destinations {
    /// `metadata.toml` and the label: what is in the image.
    pub launch: bool,
    /// `report.toml`: what the build used.
    pub build: bool,
}

/// Where the entries of a layer go. One that is neither launched nor built with may have been used all the same, by the
/// buildpack that made it, as long as it is there.
pub fn destinations(types: Types, is_present: bool) -> Destinations {
    let is_neither = !(types.launch || types.build);
    Destinations { launch: types.launch, build: types.build || is_neither && is_present }
}

/// The entries of a layer, with what they are of.
pub fn of_layer(buildpack: &GroupElement, layer: &str, toml: &LayerToml) -> Vec<BomEntry> {
    let of = |entry: &BomEntry| entry.clone().of_layer(layer, &buildpack.id, &buildpack.version);
    toml.bom.iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_go_where_the_types_of_their_layer_say() {
        for (flags, is_present, launch, build) in [
            ("", true, false, true),
            ("", false, false, false),
            ("l", true, true, false),
            ("l", false, true, false),
            ("b", true, false, true),
            ("b", false, false, true),
            ("c", true, false, true),
            ("c", false, false, false),
            ("lb", true, true, true),
            ("lc", true, true, false),
            ("bc", true, false, true),
            ("lbc", true, true, true),
            ("lbc", false, true, true),
        ] {
            let has = |flag| flags.contains(flag);
            let types = Types { launch: has('l'), build: has('b'), cache: has('c') };
            let expected = Destinations { launch, build };
            assert_eq!(destinations(types, is_present), expected, "{flags} {is_present}");
        }
    }

    #[test]
    fn an_entry_says_what_it_is_of_whatever_was_written() {
        let entry = BomEntry { name: "x".into(), ..BomEntry::default() }.of_layer("wrong", "wrong", "0");
        let toml = LayerToml { bom: vec![entry.clone()], ..LayerToml::default() };
        let buildpack = GroupElement { id: "a/b".into(), version: "1".into(), ..GroupElement::default() };
        let json = of_layer(&buildpack, "jdk", &toml)[0].to_json().to_string();
        let expected = r#"{"name":"x","layer":"jdk","metadata":null,"buildpack":{"id":"a/b","version":"1"}}"#;
        assert_eq!(json, expected);
        assert_eq!(entry.by("a/b", "1").layer, None);
    }
}
