//! What the restorer brings back for each buildpack (platform specification, "restorer").

use std::collections::{BTreeMap, BTreeSet};
use strata_spec::PlatformApi;
use strata_spec::bom::KeptEntry;
use strata_spec::cache::CacheMetadata;
use strata_spec::labels::{LayerEntry, LifecycleMetadata};
use strata_spec::layer::is_name;
use strata_spec::sealed::SHARED;

/// Where a layer's metadata comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// The previous image's label.
    AppImage,
    /// The cache.
    Cache,
}

/// What happens to the contents of a layer that the cache has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Contents {
    /// They are extracted from the cache: the diffID.
    Restore(String),
    /// The cache has others than the image: what is there is removed.
    Remove,
}

/// What happens to one layer.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerPlan {
    /// Its name.
    pub name: String,
    /// `<layer>.toml` is written with this metadata, and the bill of materials beside it.
    pub metadata: Option<(From, serde_json::Value)>,
    /// The bill of materials of the contents that the metadata is of.
    pub bom: Vec<KeptEntry>,
    /// What happens to its contents; `None` leaves them to the buildpack.
    pub contents: Option<Contents>,
}

/// The folders that all buildpacks share and that the cache has: name and diffID.
pub fn shared(cache: &CacheMetadata) -> Vec<(String, String)> {
    let of_nobody = cache.buildpacks.iter().filter(|entry| entry.key == SHARED);
    let kept = of_nobody.flat_map(|entry| &entry.layers).filter(|(name, layer)| layer.cache && is_name(name));
    kept.map(|(name, layer)| (name.clone(), layer.sha.clone())).collect()
}

/// What happens to the layers of one buildpack, sorted by name. `present` are those in the layers directory already;
/// `skip` forgets all metadata.
pub fn layers(
    buildpack: &str,
    app: &LifecycleMetadata,
    cache: &CacheMetadata,
    present: &BTreeSet<String>,
    skip: bool,
    api: PlatformApi,
) -> Vec<LayerPlan> {
    let none = BTreeMap::new();
    let in_app = app.buildpacks.iter().find(|b| b.key == buildpack).map_or(&none, |b| &b.layers);
    let in_cache = cache.buildpacks.iter().find(|b| b.key == buildpack).map_or(&none, |b| &b.layers);
    let names: BTreeSet<&String> = in_app.keys().chain(in_cache.keys()).chain(present).collect();
    let mut plans = Vec::new();
    for name in names {
        let (app_layer, cached) = (in_app.get(name), in_cache.get(name).filter(|layer| layer.cache));
        let known = if skip { None } else { metadata(app_layer, cached, api) };
        let contents = match cached {
            Some(cached) if known.is_some() || present.contains(name) => {
                let is_same = known.is_some_and(|(_, layer)| layer.sha == cached.sha);
                Some(if is_same { Contents::Restore(cached.sha.clone()) } else { Contents::Remove })
            }
            _ => None,
        };
        let bom = known.map(|(_, layer)| layer.bom.clone()).unwrap_or_default();
        let metadata = known.map(|(from, layer)| (from, layer.data.clone()));
        if metadata.is_some() || contents.is_some() {
            plans.push(LayerPlan { name: name.clone(), metadata, bom, contents });
        }
    }
    plans
}

/// Which metadata of a layer, if any, the buildpack gets to see.
fn metadata<'a>(
    app: Option<&'a LayerEntry>,
    cached: Option<&'a LayerEntry>,
    api: PlatformApi,
) -> Option<(From, &'a LayerEntry)> {
    let from_cache = |layer: &&LayerEntry| {
        // The image says more about a launch layer, if it has it.
        !layer.launch || (app.is_none() && api.restores_launch_from_cache())
    };
    if let Some(layer) = cached.filter(from_cache) {
        return Some((From::Cache, layer));
    }
    let layer = app.filter(|layer| layer.launch)?;
    let is_lost = layer.cache && cached.is_none();
    // A build layer that is not cached has to be made again in any case.
    let is_made_again = layer.build && !layer.cache;
    (!is_lost && !is_made_again).then_some((From::AppImage, layer))
}

#[cfg(test)]
mod tests {
    use super::*;
    use strata_spec::labels::BuildpackLayers;

    fn entry(flags: &str, sha: &str) -> LayerEntry {
        LayerEntry {
            sha: sha.into(),
            data: serde_json::json!({"from": sha}),
            launch: flags.contains('l'),
            build: flags.contains('b'),
            cache: flags.contains('c'),
            bom: vec![KeptEntry { name: sha.into(), ..KeptEntry::default() }],
        }
    }

    fn buildpack(layer: Option<LayerEntry>) -> Vec<BuildpackLayers> {
        let layers = layer.into_iter().map(|layer| ("x".to_owned(), layer)).collect();
        vec![BuildpackLayers { key: "a/b".into(), version: "1".into(), layers, store: None }]
    }

    /// `metadata contents` of the layer `x`, for layers written as `<flags>:<sha>`.
    fn outcome(app: &str, cache: &str, is_present: bool, skip: bool, api: PlatformApi) -> String {
        let layer = |text: &str| text.split_once(':').map(|(flags, sha)| entry(flags, sha));
        let app = LifecycleMetadata { buildpacks: buildpack(layer(app)), ..Default::default() };
        let cache = CacheMetadata { buildpacks: buildpack(layer(cache)), ..Default::default() };
        let present = is_present.then(|| "x".to_owned()).into_iter().collect();
        let plans = layers("a/b", &app, &cache, &present, skip, api);
        let Some(plan) = plans.first() else { return "nothing".into() };
        let metadata = match &plan.metadata {
            None => "-",
            Some((From::AppImage, _)) => "image",
            Some((From::Cache, _)) => "cache",
        };
        // The bill of materials is that of the metadata's layer, or there is none.
        let of = plan.metadata.as_ref().map(|(_, data)| data["from"].as_str().unwrap().to_owned());
        assert_eq!(plan.bom.first().map(|entry| entry.name.clone()), of);
        let contents = match &plan.contents {
            None => "-",
            Some(Contents::Remove) => "remove",
            Some(Contents::Restore(_)) => "restore",
        };
        format!("{metadata} {contents}")
    }

    #[test]
    fn shared_folders_come_back_when_they_were_to_be_kept() {
        let layer = |cache, sha: &str| LayerEntry { cache, sha: sha.into(), ..LayerEntry::default() };
        let entry = |key: &str, names: &[(&str, bool)]| BuildpackLayers {
            key: key.into(),
            layers: names.iter().map(|(name, cache)| ((*name).to_owned(), layer(*cache, name))).collect(),
            ..BuildpackLayers::default()
        };
        let cache = CacheMetadata {
            buildpacks: vec![
                entry("a", &[("own", true)]),
                entry(SHARED, &[("kept", true), ("not", false), ("..", true), ("a/b", true)]),
            ],
            ..CacheMetadata::default()
        };
        assert_eq!(shared(&cache), [("kept".to_owned(), "kept".to_owned())]);
        assert!(shared(&CacheMetadata::default()).is_empty());
    }

    #[test]
    fn layers_come_back_by_their_types_and_checksums() {
        for (app, cache, expected) in [
            ("", "", "nothing"),
            ("l:1", "", "image -"),
            ("lb:1", "", "nothing"),
            ("lc:1", "", "nothing"),
            ("lbc:1", "", "nothing"),
            ("lc:1", "lc:1", "image restore"),
            ("lc:1", "lc:2", "image remove"),
            ("lbc:1", "lbc:1", "image restore"),
            ("l:1", "c:2", "cache restore"),
            ("lc:1", "l:1", "nothing"),
            ("b:1", "", "nothing"),
            ("", "c:1", "cache restore"),
            ("", "bc:1", "cache restore"),
            ("", "b:1", "nothing"),
            ("", "lc:1", "cache restore"),
        ] {
            assert_eq!(outcome(app, cache, false, false, PlatformApi::V0_14), expected, "{app} {cache}");
        }
    }

    #[test]
    fn a_launch_layer_that_the_image_lacks_comes_back_from_the_cache_since_0_14() {
        assert_eq!(outcome("", "lc:1", false, false, PlatformApi::V0_13), "nothing");
        assert_eq!(outcome("", "lc:1", true, false, PlatformApi::V0_13), "- remove");
    }

    #[test]
    fn skipping_forgets_metadata_and_removes_what_nobody_vouches_for() {
        for (app, cache, present, expected) in [
            ("l:1", "", false, "nothing"),
            ("lc:1", "lc:1", false, "nothing"),
            ("", "c:1", true, "- remove"),
            ("l:1", "", true, "nothing"),
        ] {
            assert_eq!(outcome(app, cache, present, true, PlatformApi::V0_15), expected, "{app} {cache}");
        }
    }
}
