use super::chain::{Before, End, walk};
use super::diff::{File, Files, Inputs, Side, Status, configs, files, groups, inputs};
use super::path::{Entry, Event, Meaning, Seen, Verdict, Wanted, What, judge, link_above};
use super::*;
use serde_json::json;
use strata_oci::{Descriptor, Digest, History, Layer as ImageLayer};
use strata_spec::labels::{BUILD_METADATA, LIFECYCLE_METADATA};
use strata_spec::origins::{ImageRef, Input, Origin, ReasonCode, RestoredImage, SCHEMA_VERSION};
use strata_spec::sealed::{FileChange, Outcome};

fn digest(text: &str) -> String {
    Digest::of(text.as_bytes()).to_string()
}

/// An image whose layers have these contents.
fn image(layers: &[&str], label: Option<serde_json::Value>) -> Image {
    let mut image = Image::empty("linux", "amd64");
    for layer in layers {
        let history = History { created_by: Some(format!("by {layer}")), ..History::default() };
        image.append(ImageLayer {
            descriptor: Descriptor::of("application/vnd.oci.image.layer.v1.tar+gzip", layer.as_bytes()),
            diff_id: Digest::of(layer.as_bytes()),
            history: Some(history),
        });
    }
    if let Some(label) = label {
        image.config_mut().set_label(LIFECYCLE_METADATA, &label.to_string());
    }
    image
}

fn label(deps: &str, app: &str) -> serde_json::Value {
    json!({
        "app": [{"sha": digest(app)}],
        "buildpacks": [{"key": "a/b", "version": "1.0", "layers": {"deps": {"sha": digest(deps), "launch": true}}}],
        "launcher": {"sha": digest("launcher")},
        "runImage": {"topLayer": digest("base2"), "reference": "example.com/run@".to_owned() + &digest("run")},
    })
}

const LAYERS: [&str; 5] = ["base1", "base2", "deps", "app", "launcher"];

/// The report of the nth of ten builds, the first of which made the layer `deps`.
fn report(number: usize) -> Report {
    let id = |number: usize| format!("build-{number:04}");
    let time = |number: usize| format!("2026-03-{:02}T10:00:00Z", number + 1);
    let source = |number: usize| {
        let version = Table::from_iter([("commit".to_owned(), format!("{number:040}").into())]);
        Source { kind: "git".into(), version, ..Source::default() }
    };
    let maker = EarlierBuild {
        id: id(0),
        time: time(0),
        image_digest: digest("image 0"),
        application_source: Some(source(0)),
        ..EarlierBuild::default()
    };
    let mut report = Report { schema_version: SCHEMA_VERSION, ..Report::default() };
    report.build.id = id(number);
    report.build.time = time(number);
    report.build.application_source = Some(source(number));
    report.image.digest = digest(&format!("image {number}"));
    if number > 0 {
        let restored = digest(&format!("image {}", number - 1));
        report.restored_image =
            Some(RestoredImage { digest: restored, build: id(number - 1), ..RestoredImage::default() });
        report.builds.push(maker);
    }
    for name in LAYERS {
        let is_base = name.starts_with("base");
        let is_old = name == "deps" && number > 0;
        let from = match (is_base, is_old) {
            (true, _) => Evidence::RunImage,
            (_, true) => Evidence::Cache,
            _ => Evidence::ThisBuild,
        };
        let build = if is_base { String::new() } else { id(if is_old { 0 } else { number }) };
        let generation = if is_old { u32::try_from(number).unwrap() } else { 0 };
        report.layers.push(Layer {
            kind: match name {
                "deps" => Kind::Buildpack,
                "app" => Kind::App,
                "launcher" => Kind::Launcher,
                _ => Kind::RunImage,
            },
            buildpack: if name == "deps" { "a/b".into() } else { String::new() },
            name: match name {
                "app" => "slice-1".into(),
                "base1" => "run-image-1".into(),
                "base2" => "run-image-2".into(),
                name => name.into(),
            },
            digest: digest(name),
            diff_id: digest(name),
            size: Some(name.len() as u64),
            application_source: (!is_base).then(|| source(if is_old { 0 } else { number })),
            on_export: if is_old { OnExport::Reused } else { OnExport::Added },
            reason: Reason { code: ReasonCode::Unchanged, ..Reason::default() },
            origin: Origin { from, build, generation, ..Origin::default() },
            ..Layer::default()
        });
    }
    report
}

fn traced(image: &Image, report: Option<&Report>) -> Trace {
    let absent = report.is_none().then_some("no report");
    trace(image, &digest("image 9"), report, absent, &[])
}

fn ids(trace: &Trace) -> Vec<&str> {
    trace.layers.iter().map(|row| row.id.as_str()).collect()
}

#[test]
fn labels_tell_layers_apart_without_a_report() {
    let trace = traced(&image(&LAYERS, Some(label("deps", "app"))), None);
    assert_eq!(ids(&trace), ["run-image-1", "run-image-2", "a/b:deps", "slice-1", "launcher"]);
    let deps = &trace.layers[2];
    assert_eq!((deps.buildpack_version.as_str(), &deps.types[..]), ("1.0", &["launch"][..]));
    assert_eq!((deps.position, deps.size, deps.unknown.as_deref()), (Some(3), Some(4), Some("no report")));
    assert_eq!(trace.layers[0].unknown, None);
    assert_eq!(trace.run_image.as_ref().map(|image| image.digest.clone()), Some(digest("run")));
    assert!(trace.notes[0].contains("no report"), "{:?}", trace.notes);
}

/// Labels come from anywhere: what all layers would repeat has a limit.
#[test]
fn a_label_that_says_too_much_is_told() {
    let long = "x".repeat(2000);
    let layer = json!({"deps": {"sha": digest("deps"), "launch": true}});
    let mut large = label("deps", "app");
    large["buildpacks"] = json!([{"key": long, "version": "1", "layers": layer}]);
    let found = traced(&image(&LAYERS, Some(large)), None);
    assert!(found.notes.iter().any(|note| note.contains("impossible buildpacks")), "{:?}", found.notes);
    assert_eq!(ids(&found)[2], "by deps");
    // Many slices with the same contents, of which the image has one.
    let mut many = label("deps", "app");
    many["app"] = vec![json!({"sha": digest("app")}); 100_000].into();
    assert_eq!(ids(&traced(&image(&LAYERS, Some(many)), None))[3], "slice-1");
    let mut own = image(&LAYERS, Some(label("deps", "app")));
    let source = json!({"type": "git", "metadata": {"url": "x".repeat(40 << 20)}});
    own.config_mut().set_label("io.buildpacks.app.source", &source.to_string());
    let found = traced(&own, None);
    assert_eq!(found.source, None);
    assert!(found.notes.iter().any(|note| note.contains("more than is shown")), "{:?}", found.notes);
}

#[test]
fn images_of_others_have_layers_all_the_same() {
    let trace = traced(&image(&["x", "y"], None), None);
    assert_eq!(ids(&trace), ["by x", "by y"]);
    assert!(trace.notes[0].contains("no Cloud Native Buildpacks lifecycle"), "{:?}", trace.notes);
    let trace = traced(&image(&["x"], Some(json!({"app": 3}))), None);
    assert!(trace.notes[0].contains("cannot be read"), "{:?}", trace.notes);
    // After a rebase, the label may name a top layer that is not there.
    let mut rebased = label("deps", "app");
    rebased["runImage"]["topLayer"] = digest("other").into();
    let trace = traced(&image(&LAYERS, Some(rebased)), None);
    assert_eq!(ids(&trace)[..3], ["run-image-1", "run-image-2", "a/b:deps"]);
}

#[test]
fn a_report_says_who_made_what_when_and_from_what() {
    let trace = traced(&image(&LAYERS, Some(label("deps", "app"))), Some(&report(9)));
    assert_eq!(ids(&trace), ["run-image-1", "run-image-2", "a/b:deps", "slice-1", "launcher"]);
    let deps = &trace.layers[2];
    assert_eq!((deps.generation, words::how(deps)), (Some(9), "restored"));
    assert_eq!(deps.build.as_ref().map(|build| build.id.as_str()), Some("build-0000"));
    assert_eq!(words::how(&trace.layers[3]), "built");
    assert_eq!(trace.notes, Vec::<String>::new());
}

#[test]
fn a_layer_tells_what_later_buildpacks_did_to_it() {
    let changes = |of: &str, outcome| Changes {
        by: "c/d@2".into(),
        of: of.into(),
        outcome,
        created: 1,
        files: vec![FileChange { kind: "created".into(), path: "cache".into() }],
        ..Changes::default()
    };
    let mut report = report(9);
    report.changes = vec![
        changes("a/b:deps", Outcome::Discarded),
        changes("app", Outcome::Kept),
        changes("a/b:other", Outcome::Discarded),
    ];
    let trace = traced(&image(&LAYERS, Some(label("deps", "app"))), Some(&report));
    let told: Vec<Vec<String>> =
        trace.layers.iter().map(|row| row.changes.iter().map(words::changed).collect()).collect();
    let deps = "buildpack c/d@2 changed layer 'a/b:deps': created cache (discarded)";
    let app = "buildpack c/d@2 changed the app: created cache (the layer has it so)";
    assert_eq!(told, [vec![], vec![], vec![deps.to_owned()], vec![app.to_owned()], vec![]]);
}

#[test]
fn a_label_wins_over_a_report_that_contradicts_it() {
    let mut lying = report(9);
    lying.layers[2].buildpack = "evil".into();
    let trace = traced(&image(&LAYERS, Some(label("deps", "app"))), Some(&lying));
    assert_eq!(trace.layers[2].id, "a/b:deps");
    assert!(trace.layers[2].unknown.as_deref().unwrap().contains("contradict"));
    assert!(trace.notes[0].contains("layer 3"), "{:?}", trace.notes);
    let mut lying = report(9);
    lying.layers[3].kind = Kind::Sbom;
    let trace = traced(&image(&LAYERS, Some(label("deps", "app"))), Some(&lying));
    assert_eq!(trace.layers[3].kind, Some(Kind::App));
}

fn walked(change: impl Fn(usize, Report) -> Option<Report>) -> chain::Chain {
    let fetch = |before: &Before| {
        let number: usize = before.build.trim_start_matches("build-").parse().unwrap();
        assert_eq!(before.digest, digest(&format!("image {number}")));
        change(number, report(number)).ok_or_else(|| format!("no report of {number}"))
    };
    walk(change(9, report(9)).unwrap(), "a/b:deps", fetch).unwrap()
}

#[test]
fn a_layer_is_followed_to_the_build_that_made_it() {
    let chain = walked(|_, report| Some(report));
    assert_eq!(chain.end, End::Made);
    assert_eq!(chain.steps.len(), 10);
    assert_eq!(chain.steps[9].build.id, "build-0000");
    let change = format!("source: git {:040} -> git {:040}", 8, 9);
    assert_eq!(chain.steps[0].changed, [change]);
    assert!(chain.steps[9].changed.is_empty());
    assert_eq!(walk(report(9), "a/b:none", |_| Err(String::new())), None);
}

#[test]
fn a_missing_report_is_said_and_the_maker_is_known_all_the_same() {
    let chain = walked(|number, report| (number != 5).then_some(report));
    assert_eq!(chain.steps.len(), 4);
    let End::Skipped { missing, build, builds, layer } = &chain.end else { panic!("{:?}", chain.end) };
    assert_eq!((missing.as_str(), build.id.as_str(), *builds), ("no report of 5", "build-0000", 5));
    assert_eq!(layer.as_ref().map(|row| row.from), Some(Evidence::ThisBuild));
    // Its own report may be gone as well.
    let chain = walked(|number, report| (number > 5).then_some(report));
    let End::Skipped { build, layer: None, .. } = &chain.end else { panic!("{:?}", chain.end) };
    assert_eq!(build.id, "build-0000");
}

#[test]
fn reports_that_lie_are_not_followed() {
    let end = |change: &dyn Fn(&mut Report)| {
        let chain = walked(|number, mut report| {
            if number == 7 {
                change(&mut report);
            }
            Some(report)
        });
        match chain.end {
            End::Skipped { missing, .. } => (chain.steps.len(), missing),
            other => panic!("{other:?}"),
        }
    };
    let circle = end(&|report| {
        let restored = report.restored_image.as_mut().unwrap();
        (restored.build, restored.digest) = ("build-0009".into(), digest("image 9"));
    });
    assert_eq!(circle, (3, "the reports name each other in a circle".into()));
    let later = end(&|report| report.build.time = "2027-01-01T00:00:00Z".into());
    assert!(later.0 == 2 && later.1.contains("is later than"), "{later:?}");
    let other = end(&|report| report.layers[2].diff_id = digest("other"));
    assert!(other.0 == 2 && other.1.contains("other contents"), "{other:?}");
    let absent = end(&|report| drop(report.layers.remove(2)));
    assert!(absent.1.contains("no such layer"), "{absent:?}");
    let maker = end(&|report| {
        report.layers[2].origin =
            Origin { from: Evidence::ThisBuild, build: "build-0007".into(), ..Origin::default() };
    });
    assert!(maker.1.contains("another origin"), "{maker:?}");
    let foreign = end(&|report| report.build.id = "build-9999".into());
    assert!(foreign.0 == 2 && foreign.1.contains("not of build build-0007"), "{foreign:?}");
    let daemon = end(&|report| report.restored_image.as_mut().unwrap().digest = String::new());
    assert!(daemon.1.contains("daemon"), "{daemon:?}");
    let first = end(&|report| report.restored_image = None);
    assert!(first.1.contains("no image before"), "{first:?}");
}

fn entry(what: What) -> Entry {
    Entry { what, mode: 0o644, uid: 0, gid: 0, size: 0, target: None, digest: None }
}

#[test]
fn entries_mean_something_for_a_path() {
    let wanted = Wanted::new(b"/a//./x/../b/c");
    assert_eq!(wanted.shown(), b"/a/b/c");
    for (entry, expected) in [
        ("a/b/c", Meaning::Itself),
        ("a", Meaning::Above { depth: 1 }),
        ("a/b", Meaning::Above { depth: 2 }),
        ("a/b/c/d", Meaning::Nothing),
        ("a/bb", Meaning::Nothing),
        ("b", Meaning::Nothing),
        (".wh.a", Meaning::Whiteout),
        ("a/b/.wh.c", Meaning::Whiteout),
        ("a/b/.wh.d", Meaning::Nothing),
        ("a/b/c/.wh.d", Meaning::Nothing),
        ("a/b/.wh..wh..opq", Meaning::Whiteout),
        ("a/b/c/.wh..wh..opq", Meaning::Nothing),
        (".wh..wh..opq", Meaning::Whiteout),
        ("b/.wh..wh..opq", Meaning::Nothing),
        ("a/b/.wh.", Meaning::Nothing),
    ] {
        let parts: Vec<&[u8]> = entry.split('/').map(str::as_bytes).collect();
        assert_eq!(wanted.meaning(&parts), expected, "{entry}");
    }
    assert_eq!(Wanted::new(b"/..").meaning(&[]), Meaning::Itself);
    for (depth, target, expected) in [
        (1, "x", "/x/b/c"),
        (2, "x/y", "/a/x/y/c"),
        (2, "../x", "/x/c"),
        (2, "/x", "/x/c"),
        (3, "d", "/a/b/d"),
    ] {
        let through = Wanted::new(b"a/b/c").through(depth, target.as_bytes());
        assert_eq!(String::from_utf8(through.shown()).unwrap(), expected);
    }
}

#[test]
fn later_layers_shadow_merge_and_remove() {
    let has = |what| vec![Event::Has(entry(what))];
    let gone = || vec![Event::Removes { by: ".wh.x".into() }];
    let hidden = || vec![Event::Hides { by: "/a".into() }];
    let again = [gone(), has(What::File)].concat();
    for (layers, layer, merged, shadowed, removed_by) in [
        (vec![vec![], vec![]], None, vec![], vec![], None),
        (vec![has(What::File), vec![]], Some(0), vec![], vec![], None),
        (vec![has(What::File), has(What::File)], Some(1), vec![], vec![0], None),
        (vec![has(What::Folder), has(What::Folder)], Some(1), vec![0], vec![], None),
        (vec![has(What::Folder), has(What::Folder), has(What::Link)], Some(2), vec![], vec![0, 1], None),
        (vec![has(What::File), has(What::Folder)], Some(1), vec![], vec![0], None),
        (vec![has(What::File), gone()], None, vec![], vec![0], Some(1)),
        (vec![has(What::File), hidden()], None, vec![], vec![0], Some(1)),
        (vec![has(What::File), gone(), has(What::File)], Some(2), vec![], vec![0], None),
        (vec![has(What::Folder), again.clone()], Some(1), vec![], vec![0], None),
        (vec![gone(), has(What::File)], Some(1), vec![], vec![], None),
    ] {
        let expected = Verdict { layer, merged, shadowed, removed_by };
        assert_eq!(judge(&layers), expected, "{layers:?}");
    }
}

#[test]
fn the_topmost_link_above_a_path_counts() {
    let seen = |depth, what, target: Option<&str>| Seen {
        above: vec![(depth, what, target.map(|text| text.as_bytes().to_vec()), String::new())],
        ..Seen::default()
    };
    let link = seen(1, What::Link, Some("usr"));
    assert_eq!(link_above(std::slice::from_ref(&link)), Some((1, b"usr".to_vec())));
    assert_eq!(link_above(&[link.clone(), seen(1, What::Folder, None)]), None);
    assert_eq!(link_above(&[seen(2, What::Link, Some("x")), link]), Some((1, b"usr".to_vec())));
}

fn some_files(paths: &[(&str, What, &str)]) -> Files {
    let mut files = Files::default();
    for (path, what, contents) in paths {
        let contents = (*what == What::File).then(|| Digest::of(contents.as_bytes()));
        let file = File { what: *what, mode: 0o644, owner: (0, 0), contents };
        files.add(path.as_bytes().to_vec(), file).unwrap();
    }
    files
}

#[test]
fn files_that_differ_are_named() {
    let old = some_files(&[
        ("a", What::File, "1"),
        ("b", What::File, "1"),
        ("c", What::Folder, ""),
        ("d", What::Folder, ""),
    ]);
    let new = some_files(&[
        ("a", What::File, "1"),
        ("b", What::File, "2"),
        ("d", What::File, ""),
        ("e", What::Link, ""),
    ]);
    let changes = files(&old, &new);
    let found: Vec<_> = changes
        .iter()
        .map(|change| (change.path.as_str(), change.status, change.changed.join(",")))
        .collect();
    let expected = [
        ("/b", Status::Changed, "contents"),
        ("/c", Status::Removed, ""),
        ("/d", Status::Changed, "type,contents"),
        ("/e", Status::Added, ""),
    ];
    assert_eq!(found, expected.map(|(path, status, changed)| (path, status, changed.to_owned())));
}

#[test]
fn stacked_layers_are_what_is_left_of_them() {
    let mut all = some_files(&[
        ("a", What::Folder, ""),
        ("a/x", What::File, "1"),
        ("ab", What::File, "1"),
        ("b", What::Folder, ""),
        ("b/y", What::File, "1"),
        ("c/z", What::File, "1"),
    ]);
    all.stack(some_files(&[
        ("a", What::File, "2"),
        ("b/.wh..wh..opq", What::File, ""),
        (".wh.c", What::File, ""),
    ]))
    .unwrap();
    let left = files(&Files::default(), &all);
    let left: Vec<_> = left.iter().map(|change| change.path.as_str()).collect();
    assert_eq!(left, ["/.wh.c", "/a", "/ab", "/b", "/b/.wh..wh..opq"]);
}

#[test]
fn two_images_differ_from_inputs_to_layers() {
    let old = traced(&image(&LAYERS, Some(label("deps", "app"))), Some(&report(8)));
    let others = ["base1", "base2", "deps", "other", "launcher"];
    let mut later = report(9);
    later.layers[3].diff_id = digest("other");
    let new = traced(&image(&others, Some(label("deps", "other"))), Some(&later));
    let found = groups(&old, &new);
    let found: Vec<_> = found.iter().map(|group| (group.id.as_str(), group.status)).collect();
    let same = Status::Same;
    assert_eq!(
        found,
        [("run image", same), ("a/b:deps", same), ("app", Status::Changed), ("launcher", same)]
    );
    let what: Vec<_> = inputs(&old, &new).changes.into_iter().map(|change| change.what).collect();
    assert_eq!(what, ["source"]);
    let changed = image(&LAYERS, None).with_config(|config| config.set_env("A", "1"));
    let found = configs(image(&LAYERS, None).config(), changed.config());
    assert_eq!((found.len(), found[0].what.as_str(), found[0].new.as_str()), (1, "variable A", "1"));
}

#[test]
fn what_one_image_does_not_say_is_not_known_and_no_difference() {
    // The label of these has a version of the buildpack, and no source.
    let unreported = traced(&image(&LAYERS, Some(label("deps", "app"))), None);
    let mut known = report(9);
    known.lifecycle.build_image = Some(ImageRef { distro: "debian 12".into(), ..ImageRef::default() });
    known.lifecycle.name = "strata".into();
    known.build.inputs.push(Input { name: "env/A".into(), ..Input::default() });
    let reported = traced(&image(&LAYERS, Some(label("deps", "app"))), Some(&known));
    let unknown = |old: &Trace, new: &Trace| {
        let Inputs { changes, unknown } = inputs(old, new);
        assert_eq!(changes, [], "{unknown:?}");
        unknown.into_iter().map(|unknown| (unknown.of, unknown.what)).collect::<Vec<_>>()
    };
    let by_report = ["build image", "input env/A", "lifecycle", "source"];
    for (of, old, new) in [(Side::Old, &unreported, &reported), (Side::New, &reported, &unreported)] {
        let other = if of == Side::Old { Side::New } else { Side::Old };
        let mut expected: Vec<_> = by_report.iter().map(|what| (of, (*what).to_owned())).collect();
        expected.insert(1, (other, "buildpack a/b".into()));
        assert_eq!(unknown(old, new), expected);
    }
    // One fact alone, of an image that has a report.
    let mut less = known.clone();
    less.lifecycle.build_image = None;
    less.build.application_source = None;
    less.build.observed = true;
    less.build.inputs[0].digest = "hmac-sha256:00".into();
    let less = traced(&image(&LAYERS, Some(label("deps", "app"))), Some(&less));
    let expected = [(Side::New, "build image"), (Side::Old, "input env/A"), (Side::New, "source")];
    assert_eq!(unknown(&reported, &less), expected.map(|(of, what)| (of, what.to_owned())));
    // That there is none is known where all would be named.
    let mut none = known.clone();
    none.build.inputs.clear();
    let found = |observed: bool| {
        none.build.observed = observed;
        inputs(&reported, &traced(&image(&LAYERS, Some(label("deps", "app"))), Some(&none)))
    };
    let [unobserved, observed] = [false, true].map(found);
    assert_eq!((unobserved.changes.len(), unobserved.unknown.len()), (0, 1), "{unobserved:?}");
    assert_eq!((observed.changes.len(), observed.unknown.len()), (1, 0), "{observed:?}");
}

#[test]
fn buildpacks_are_compared_by_the_label_that_has_all_of_them() {
    let with = |buildpacks: serde_json::Value| {
        let mut image = image(&LAYERS, Some(label("deps", "app")));
        image.config_mut().set_label(BUILD_METADATA, &json!({"buildpacks": buildpacks}).to_string());
        traced(&image, None)
    };
    let one = with(json!([{"id": "a/b", "version": "1.0"}]));
    let two = with(json!([{"id": "a/b", "version": "2.0"}, {"id": "no/layers", "version": "3"}]));
    let Inputs { changes, unknown } = inputs(&one, &two);
    let changes: Vec<_> = changes.iter().map(|c| (&*c.what, &*c.old, &*c.new)).collect();
    assert_eq!(changes, [("buildpack a/b", "1.0", "2.0"), ("buildpack no/layers", "", "3")]);
    assert_eq!(unknown, []);
    let unlabelled = traced(&image(&LAYERS, Some(label("deps", "app"))), None);
    let Inputs { changes, unknown } = inputs(&two, &unlabelled);
    assert_eq!((changes.len(), unknown.len()), (1, 1), "{changes:?} {unknown:?}");
    let mut broken = image(&LAYERS, None);
    broken.config_mut().set_label(BUILD_METADATA, "{");
    assert!(traced(&broken, None).notes.iter().any(|note| note.contains("build.metadata cannot be read")));
}

/// What labels have not, reports say of a source.
#[test]
fn details_of_a_source_are_unknown_of_an_image_whose_label_tells_it() {
    let source = |details: &[&str]| {
        let version = Table::from_iter([("commit".to_owned(), "c".repeat(40).into())]);
        let metadata = details.iter().map(|key| ((*key).to_owned(), "x".into())).collect();
        Source { kind: "git".into(), version, metadata }
    };
    let mut known = report(9);
    known.build.application_source = Some(source(&["describe", "url"]));
    let reported = traced(&image(&LAYERS, Some(label("deps", "app"))), Some(&known));
    let mut labelled = traced(&image(&LAYERS, Some(label("deps", "app"))), None);
    labelled.source = Some(source(&[]));
    let Inputs { changes, unknown } = inputs(&reported, &labelled);
    assert_eq!(changes.iter().map(|change| &*change.what).collect::<Vec<_>>(), ["source url"]);
    assert!(unknown.iter().any(|unknown| unknown.what == "source describe" && unknown.of == Side::New));
}

#[test]
fn what_buildpacks_did_to_a_path_is_told() {
    let changes = |by: &str, of: &str, outcome, created, files: &[(&str, &str)]| Changes {
        by: by.into(),
        of: of.into(),
        outcome,
        created,
        files: files
            .iter()
            .map(|(kind, path)| FileChange { kind: (*kind).into(), path: (*path).into() })
            .collect(),
        ..Changes::default()
    };
    let of_app = vec![
        changes(
            "a@1",
            "app",
            Outcome::Kept,
            2,
            &[("created", "lib"), ("changed", "main"), ("deleted", "old")],
        ),
        changes("b@1", "app", Outcome::Kept, 1, &[("created", "lib/b"), ("chmod", "main")]),
        changes("c@1", "app", Outcome::Kept, 9, &[("created", "c")]),
    ];
    let of_layer =
        vec![changes("b@1", "a/x:deps", Outcome::Discarded, 1, &[("created", "cache"), ("deleted", "")])];
    let app = Row { kind: Some(Kind::App), id: "slice-1".into(), changes: of_app, ..Row::default() };
    let layer = Row {
        kind: Some(Kind::Buildpack),
        id: "a/x:deps".into(),
        buildpack: "a/x".into(),
        changes: of_layer,
        ..Row::default()
    };
    let rows = [Row { kind: Some(Kind::RunImage), ..Row::default() }, layer, app.clone(), app];
    let perhaps = "perhaps c@1, which changed more than the report names";
    for (path, expected) in [
        ("/workspace/main", vec!["a@1 changed it", "b@1 changed its mode", perhaps]),
        ("/workspace/lib", vec!["a@1 created it", perhaps]),
        ("/workspace/lib/a/b", vec!["a@1 created it with lib", perhaps]),
        ("/workspace/lib/b", vec!["b@1 created it", perhaps]),
        ("/workspace/lib/b/c", vec!["b@1 created it with lib/b", perhaps]),
        ("/workspace/old/x", vec!["a@1 deleted it with old", perhaps]),
        ("/workspace/library", vec![perhaps]),
        ("/workspace/c", vec!["c@1 created it"]),
        ("/workspaces/main", vec![]),
        ("/usr/main", vec![]),
        ("/layers/a_x/deps/cache/x", vec!["b@1 created it with cache (discarded)"]),
        ("/layers/a_x/deps", vec!["b@1 deleted it (discarded)"]),
        ("/layers/a_x/deps/lib", vec!["b@1 deleted it with its layer (discarded)"]),
        ("/layers/a_x/other", vec![]),
    ] {
        let deeds = path::deeds(&rows, "/workspace", "/layers/", path);
        let found: Vec<_> = deeds.iter().map(words::deed).collect();
        assert_eq!(found, expected, "{path}");
    }
}

#[test]
fn of_several_reports_the_one_that_the_labels_agree_with_goes_first() {
    let image = image(&LAYERS, Some(label("deps", "app")));
    let honest = report(2);
    let at = |time: &str, change: &dyn Fn(&mut Report)| {
        let mut other = honest.clone();
        time.clone_into(&mut other.build.time);
        change(&mut other);
        other
    };
    let later = at("2026-04-01T10:00:00Z", &|_| {});
    let of_others =
        at("2026-05-01T10:00:00Z", &|report| "b/other".clone_into(&mut report.layers[2].buildpack));
    let of_another_base = at("2026-06-01T10:00:00Z", &|report| {
        report.lifecycle.run_image.get_or_insert_default().digest = digest("another");
    });
    let mut all = vec![of_another_base, honest.clone(), of_others, later.clone()];
    for _ in 0..2 {
        choose::rank(&image, &mut all, |report| (report, digest(&report.build.time)));
        assert_eq!(all[..2], [later.clone(), honest.clone()]);
        // Whatever the order in which they are listed.
        all.reverse();
    }
    // Who knows less does not go first for being later.
    let knows_less = at("2026-07-01T10:00:00Z", &|report| report.layers[2].origin = Origin::default());
    let mut all = [knows_less, later.clone()];
    choose::rank(&image, &mut all, |report| (report, digest(&report.build.time)));
    assert_eq!(all[0], later);
    assert_eq!(choose::disagreements(&all[0], all[1..].iter()), Vec::<String>::new());
    assert_eq!(choose::disagreements(&all[1], all[..1].iter()).len(), 1);
    // Within a second, who names the other comes after it; none names itself in the end.
    let mut all: Vec<Report> = (0..5)
        .map(|number| {
            at("2026-04-01T10:00:00Z", &|report| {
                report.build.id = format!("build-{number}");
                let before = if number == 0 { "elsewhere".into() } else { format!("build-{}", number - 1) };
                report.restored_image.as_mut().unwrap().report = digest(&before);
            })
        })
        .collect();
    all.swap(0, 3);
    all.swap(1, 4);
    choose::rank(&image, &mut all, |report| (report, digest(&report.build.id)));
    let ids: Vec<&str> = all.iter().map(|report| report.build.id.as_str()).collect();
    assert_eq!(ids, ["build-4", "build-3", "build-2", "build-1", "build-0"]);
    all[4].restored_image.as_mut().unwrap().report = digest("build-4");
    choose::rank(&image, &mut all, |report| (report, digest(&report.build.id)));
    for (latest, expected) in [("2026-03-31T00:00:00Z", true), ("2026-04-02T00:00:00Z", false)] {
        assert_eq!(choose::is_to_come(&later, latest), expected);
    }
}

#[test]
fn what_reports_disagree_on_is_told() {
    let (honest, mut other) = (report(2), report(2));
    // The same build of the same image, later: it made all but `deps` as well.
    other.build.id = "build-again".into();
    other.layers.iter_mut().filter(|layer| layer.origin.from == Evidence::ThisBuild).for_each(|layer| {
        layer.origin.build = "build-again".into();
    });
    assert_eq!(choose::disagreement(&honest, &other), None);
    other.builds[0].id = "build-forged".into();
    other.layers[2].origin.build = "build-forged".into();
    let says = choose::disagreement(&honest, &other).unwrap();
    assert!(
        says.contains("of build build-again")
            && says.contains("a/b:deps was made by build build-forged (both can be true"),
        "{says}"
    );
    other.build.application_source = None;
    let says = choose::disagreement(&honest, &other).unwrap();
    assert!(says.contains("the source is unknown; a/b:deps"), "{says}");
}

/// Of one build, not both can be so.
#[test]
fn two_reports_of_one_build_contradict_each_other() {
    let (honest, mut other) = (report(2), report(2));
    assert_eq!(choose::disagreement(&honest, &other), None);
    other.lifecycle.version = "9".into();
    let says = choose::disagreement(&honest, &other).unwrap();
    assert!(says.ends_with("the lifecycle is 9 (one of the two is false)"), "{says}");
    other.build.id = "another".into();
    let says = choose::disagreement(&honest, &other).unwrap();
    assert!(says.contains("(both can be true, of builds that came to the same)"), "{says}");
}

#[test]
fn what_two_builds_made_alike_contradicts_nothing() {
    // One build restored `deps` from an earlier one; another, without a cache, made the same contents itself.
    let restored = report(2);
    let mut remade = report(2);
    remade.build.id = "remade".into();
    for layer in &mut remade.layers {
        if [Evidence::ThisBuild, Evidence::Cache].contains(&layer.origin.from) {
            layer.origin =
                Origin { from: Evidence::ThisBuild, build: "remade".into(), ..layer.origin.clone() };
        }
    }
    let mut first = remade.clone();
    first.build.id = restored.layers[2].origin.build.clone();
    for layer in first.layers.iter_mut().filter(|layer| layer.origin.from == Evidence::ThisBuild) {
        layer.origin.build.clone_from(&first.build.id);
    }
    let told =
        |believed: &Report, others: &[&Report]| choose::disagreements(believed, others.iter().copied()).len();
    assert_eq!(told(&remade, &[&restored, &first]), 0);
    assert_eq!(told(&restored, &[&remade, &first]), 0);
    // The build that is said to have made it does not say so itself.
    assert_eq!(told(&remade, &[&restored]), 1);
    first.layers[2].diff_id = digest("other contents");
    assert_eq!(told(&remade, &[&restored, &first]), 1);
}

#[test]
fn what_another_report_says_is_told_in_brief() {
    let mut other = report(1);
    let source = other.build.application_source.as_mut().unwrap();
    source.metadata = [("url".to_owned(), "é".repeat(100_000).into())].into_iter().collect();
    let told = choose::disagreement(&report(1), &other).unwrap();
    assert!(told.chars().count() < 1000 && told.contains("é… ("), "{told}");
}

#[test]
fn a_copy_of_the_honest_report_does_not_get_by_in_silence() {
    type Forge = fn(&mut Report);
    let honest = report(2);
    let forgeries: [(Forge, &str); 7] = [
        (
            |report| {
                report.builds[0].application_source = Some(Source {
                    kind: "git".into(),
                    version: [("commit".to_owned(), "forged".into())].into_iter().collect(),
                    ..Source::default()
                })
            },
            "build build-0000 was at 2026-03-01T10:00:00Z, from git forged (one of the two is false)",
        ),
        (
            |report| {
                let image = ImageRef { digest: digest("forged"), ..ImageRef::default() };
                report.lifecycle.build_image = Some(image);
            },
            "the build image is sha256:",
        ),
        (|report| report.lifecycle.version = "9".into(), "the lifecycle is 9"),
        (
            |report| report.build.inputs = vec![Input { name: "env/A".into(), digest: "x".into() }],
            "the build had other inputs (env/A)",
        ),
        (
            |report| report.layers[2].buildpack_version = "9".into(),
            "a/b:deps was made by build build-0000 with version 9 (one of the two is false)",
        ),
        (
            |report| report.layers[2].origin = report.layers[3].origin.clone(),
            "a/b:deps was made by build forged",
        ),
        (
            |report| {
                let source = report.build.application_source.get_or_insert_default();
                source.metadata.insert("repository".into(), "https://example.com/forged".into());
            },
            "https://example.com/forged",
        ),
    ];
    for (forge, expected) in forgeries {
        let mut other = honest.clone();
        other.build.id = "forged".into();
        other.layers.iter_mut().filter(|layer| layer.origin.from == Evidence::ThisBuild).for_each(|layer| {
            layer.origin.build = "forged".into();
        });
        assert_eq!(choose::disagreement(&honest, &other), None);
        forge(&mut other);
        // Whichever goes first.
        let says = choose::disagreement(&honest, &other).unwrap();
        assert!(says.contains(expected), "{says}");
        assert!(choose::disagreement(&other, &honest).is_some(), "{expected}");
    }
}
