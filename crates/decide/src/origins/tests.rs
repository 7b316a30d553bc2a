use super::*;
use strata_spec::labels::BuildpackLayers;
use strata_spec::layer::Types;

const A: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const B: &str = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

fn build(id: &str) -> EarlierBuild {
    EarlierBuild { id: id.repeat(32), time: "2026-01-01T00:00:00Z".into(), ..EarlierBuild::default() }
}

fn buildpacks(sha: &str) -> Vec<BuildpackLayers> {
    let entry = LayerEntry { sha: sha.into(), cache: true, launch: true, ..LayerEntry::default() };
    let layers = [("x".to_owned(), entry)].into_iter().collect();
    vec![BuildpackLayers { key: "b".into(), version: "1".into(), layers, ..BuildpackLayers::default() }]
}

fn cache(sha: &str) -> CacheMetadata {
    CacheMetadata { buildpacks: buildpacks(sha), ..CacheMetadata::default() }
}

fn records(sha: &str) -> Records {
    let record = Record {
        buildpack: "b".into(),
        name: "x".into(),
        diff_id: sha.into(),
        build: build("1").id,
        generation: 3,
        ..Record::default()
    };
    let mut records = Records::new();
    records.push(record, &build("1"));
    records
}

/// The layer `b:x` after a build of which this is known; its contents are `A`.
fn layer(past: &Past, has_contents: bool) -> Layer {
    let types = Types { launch: true, cache: true, ..Types::default() };
    let left = [Left {
        buildpack: "b".into(),
        name: "x".into(),
        toml: LayerToml { types, ..LayerToml::default() },
        has_contents,
    }];
    let group = [GroupElement { id: "b".into(), version: "1".into(), ..GroupElement::default() }];
    let label = LifecycleMetadata { buildpacks: buildpacks(A), ..LifecycleMetadata::default() };
    let blob = |diff_id: &str| Blob { digest: diff_id.into(), diff_id: diff_id.into(), size: 1 };
    let made = Made { digest: A.into(), label, layers: vec![blob(B), blob(A)], inherited: 1 };
    let facts = Facts { build: &build("9"), group: &group, left: &left, made: &made, cache: &cache(A), past };
    let (layers, builds) = layers(&facts);
    assert_eq!(layers[0].kind, Kind::RunImage);
    assert!(builds.iter().all(|known| known.id != build("9").id));
    let unknown = super::unknown(&facts);
    assert_eq!(!unknown.is_empty(), layers[1].origin.from == Evidence::Unknown);
    layers[1].clone()
}

#[test]
fn contents_tell_which_build_made_a_layer() {
    let known = Past { cache: Some(cache(A)), records: records(A), ..Past::default() };
    let lost: BTreeMap<_, _> = [("b:x".to_owned(), ReasonCode::CacheDamaged)].into();
    for (what, past, has_contents, from, generation) in [
        ("nothing before", Past::default(), true, Evidence::ThisBuild, 0),
        ("restored, with a record", known.clone(), true, Evidence::Cache, 4),
        ("of the image, with a record", known.clone(), false, Evidence::Cache, 4),
        (
            "restored, without a record",
            Past { records: records(B), ..known.clone() },
            true,
            Evidence::Unknown,
            0,
        ),
        ("of the image, without a record", Past::default(), false, Evidence::Unknown, 0),
        ("other contents", Past { cache: Some(cache(B)), ..known.clone() }, true, Evidence::ThisBuild, 0),
        ("lost", Past { lost: lost.clone(), ..known.clone() }, true, Evidence::ThisBuild, 0),
    ] {
        let layer = layer(&past, has_contents);
        assert_eq!((layer.origin.from, layer.origin.generation), (from, generation), "{what}");
        assert_eq!(layer.modification_date.is_empty(), from == Evidence::Unknown, "{what}");
    }
    let damaged = layer(&Past { lost, ..known }, true).reason;
    assert_eq!((damaged.code, damaged.also), (ReasonCode::Reproduced, vec![ReasonCode::CacheDamaged]));
    assert_eq!(layer(&Past::default(), true).reason.code, ReasonCode::FirstBuild);
}

#[test]
fn layers_of_unknown_origin_are_sifted_out_of_cache_and_label() {
    for (records, kept) in [(records(A), true), (records(B), false), (Records::new(), false)] {
        let mut label = LifecycleMetadata { buildpacks: buildpacks(A), ..LifecycleMetadata::default() };
        let mut cache = cache(A);
        let found = sift(&mut label, &mut cache, &records, None);
        assert_eq!(label.buildpacks[0].layers.contains_key("x"), kept);
        assert_eq!(cache.layer("b", "x").is_some(), kept);
        assert_eq!(
            found.iter().map(|one| one.unknown.cause).collect::<Vec<_>>(),
            if kept { vec![] } else { vec![Cause::NoRecord] }
        );
    }
}
