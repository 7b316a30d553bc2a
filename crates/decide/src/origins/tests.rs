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
    let made =
        Made { digest: A.into(), label, layers: vec![blob(B), blob(A)], inherited: 1, ..Made::default() };
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

fn lost(code: ReasonCode) -> BTreeMap<String, ReasonCode> {
    [("b:x".to_owned(), code)].into()
}

/// The earlier build had the layer with other contents, and is otherwise as the change makes it.
fn remade(change: impl Fn(&mut Past, &mut LayerEntry)) -> Reason {
    let mut past = Past { cache: Some(cache(B)), ..Past::default() };
    past.label = LifecycleMetadata { buildpacks: buildpacks(B), ..LifecycleMetadata::default() };
    let mut entry = past.label.buildpacks[0].layers["x"].clone();
    change(&mut past, &mut entry);
    if let Some(buildpack) = past.label.buildpacks.first_mut() {
        buildpack.layers.insert("x".into(), entry);
    }
    layer(&past, true).reason
}

#[test]
fn what_is_otherwise_than_before_is_found() {
    type Change = fn(&mut Past, &mut LayerEntry);
    let cases: &[(Change, ReasonCode)] = &[
        (|_, _| {}, ReasonCode::ContentsChanged),
        (|past, _| past.label.buildpacks[0].version = "0".into(), ReasonCode::BuildpackVersionChanged),
        (|_, entry| entry.build = true, ReasonCode::TypesChanged),
        (|_, entry| entry.data = serde_json::json!({"lock": "a"}), ReasonCode::MetadataChanged),
        (|past, _| past.label.run_image.top_layer = "sha256:older".into(), ReasonCode::BaseChanged),
        (
            |past, _| {
                let mut report = Report::default();
                let source = strata_spec::origins::Source { kind: "git".into(), ..Default::default() };
                report.build.application_source = Some(source);
                past.report = Some(Ok(report));
            },
            ReasonCode::SourceChanged,
        ),
        (|past, _| past.cache = None, ReasonCode::NoCache),
        (|past, _| past.cache = Some(CacheMetadata::default()), ReasonCode::NoCache),
        (
            |past, _| {
                let layers = &mut past.cache.as_mut().unwrap().buildpacks[0].layers;
                let other = layers.remove("x").unwrap();
                layers.insert("other".into(), other);
            },
            ReasonCode::NotInCache,
        ),
        (|past, _| past.lost = lost(ReasonCode::CacheDamaged), ReasonCode::CacheDamaged),
        (|past, _| past.lost = lost(ReasonCode::NotRestored), ReasonCode::NotRestored),
        (
            |past, _| (past.cache, past.lost) = (None, lost(ReasonCode::OriginRequired)),
            ReasonCode::OriginRequired,
        ),
    ];
    for (change, expected) in cases {
        let reason = remade(change);
        assert_eq!((reason.code, reason.also.as_slice()), (*expected, [].as_slice()));
    }
    let reason = remade(|past, entry| {
        past.label.buildpacks[0].version = "0".into();
        entry.data = serde_json::json!({"lock": "a", "of": 1});
    });
    assert_eq!(reason.code, ReasonCode::BuildpackVersionChanged);
    assert_eq!(
        (reason.also, reason.keys),
        (vec![ReasonCode::MetadataChanged], vec!["lock".into(), "of".into()])
    );
}

#[test]
fn a_layer_that_came_back_may_be_described_otherwise() {
    let mut past = Past { cache: Some(cache(A)), records: records(A), ..Past::default() };
    assert_eq!(layer(&past, true).reason.also, []);
    let entry = past.cache.as_mut().unwrap().buildpacks[0].layers.get_mut("x").unwrap();
    (entry.build, entry.data) = (true, serde_json::json!({"lock": "a"}));
    let Reason { code, also, keys, .. } = layer(&past, true).reason;
    assert_eq!((code, keys), (ReasonCode::Unchanged, vec!["lock".to_owned()]));
    assert_eq!(also, [ReasonCode::TypesChanged, ReasonCode::MetadataChanged]);
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

/// The layer of an image extension, with contents `B`, after a build of which this is known; and what the cache remembers.
fn of_extension(past: &Past, is_reused: bool) -> (Layer, Records) {
    let blob = |diff_id: &str| Blob { digest: diff_id.into(), diff_id: diff_id.into(), size: 1 };
    let extra = Extra { id: "e".into(), version: "1".into(), name: "extended-layer-1".into(), is_reused };
    let made =
        Made { layers: vec![blob(A), blob(B)], inherited: 1, extended: vec![extra], ..Made::default() };
    let cache = CacheMetadata::default();
    let facts = Facts { build: &build("9"), group: &[], left: &[], made: &made, cache: &cache, past };
    (layers(&facts).0.remove(1), super::records(&facts))
}

#[test]
fn layers_of_extensions_keep_their_origins() {
    let (first, remembered) = of_extension(&Past::default(), false);
    assert_eq!((first.origin.from, first.reason.code), (Evidence::ThisBuild, ReasonCode::FirstBuild));
    assert_eq!(first.modification_date, build("9").time);
    // Beside the image there may be no place for a report.
    let mut records = remembered;
    for generation in 1..3 {
        let past = Past { records, ..Past::default() };
        let next;
        (next, records) = of_extension(&past, true);
        assert_eq!((next.origin.from, next.origin.build), (Evidence::Cache, build("9").id));
        assert_eq!((next.origin.generation, next.reason.code), (generation, ReasonCode::Unchanged));
    }
    let mut report = Report { layers: vec![first.clone()], ..Report::default() };
    report.build.id = build("9").id;
    report.builds = vec![build("9")];
    let past = Past { report: Some(Ok(report.clone())), ..Past::default() };
    let (next, _) = of_extension(&past, true);
    assert_eq!((next.origin.from, next.origin.generation), (Evidence::PreviousImage, 1));
    assert_eq!(of_extension(&past, false).0.reason.code, ReasonCode::Reproduced);
    // Of other contents nothing is known, and of none neither.
    report.layers[0].diff_id = A.into();
    let past = Past { report: Some(Ok(report)), ..Past::default() };
    assert_eq!(of_extension(&past, true).0.origin.from, Evidence::Unknown);
    assert_eq!(of_extension(&past, false).0.reason.code, ReasonCode::ContentsChanged);
    let (unknown, remembered) = of_extension(&Past::default(), true);
    assert_eq!((unknown.origin.from, remembered.layers.len()), (Evidence::Unknown, 0));
}
