use super::claims::{Claims, Ran, Seen};
use super::records::{Record, Records};
use super::*;
use crate::sealed::FileChange;

const A: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const B: &str = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
const C: &str = "sha256:cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc";
const FIRST: &str = "11111111111111111111111111111111";
const SECOND: &str = "22222222222222222222222222222222";

fn git(commit: &str) -> Option<Source> {
    let version = format!("commit = \"{commit}\"").parse().unwrap();
    Some(Source { kind: "git".into(), version, metadata: Table::new() })
}

fn earlier() -> EarlierBuild {
    EarlierBuild {
        id: FIRST.into(),
        time: "2026-01-01T00:00:00Z".into(),
        image_digest: C.into(),
        application_source: git("aaa000"),
        lifecycle: lifecycle(),
    }
}

fn lifecycle() -> Lifecycle {
    let run_image = ImageRef { tags: vec!["run".into()], digest: B.into(), ..ImageRef::default() };
    Lifecycle { name: "strata".into(), version: "1".into(), run_image: Some(run_image), build_image: None }
}

/// The second build of the draft: a layer is restored that the first build made.
fn sample() -> Report {
    let restored = Layer {
        buildpack: "yabba".into(),
        buildpack_version: "1".into(),
        name: "build".into(),
        on_export: OnExport::Reused,
        diff_id: A.into(),
        modification_date: earlier().time,
        cache: true,
        build: true,
        application_source: git("aaa000"),
        metadata: "checksum = \"96d0\"".parse().unwrap(),
        reason: Reason { code: ReasonCode::Unchanged, ..Reason::default() },
        origin: Origin { from: Evidence::Cache, build: FIRST.into(), generation: 1, ..Origin::default() },
        present_layers: vec![Neighbour { id: "yabba:tools".into(), diff_id: B.into() }],
        ..Layer::default()
    };
    let app = Layer {
        kind: Kind::App,
        name: "slice-1".into(),
        digest: B.into(),
        diff_id: C.into(),
        size: Some(12),
        origin: Origin { from: Evidence::ThisBuild, build: SECOND.into(), ..Origin::default() },
        ..Layer::default()
    };
    Report {
        schema_version: SCHEMA_VERSION,
        image: report::Image { tags: vec!["foo-api".into()], digest: C.into(), ..report::Image::default() },
        build: Build {
            id: SECOND.into(),
            time: "2026-01-02T00:00:00.5Z".into(),
            application_source: git("aaa111"),
            inputs: vec![Input { name: "env/TOKEN".into(), digest: String::new() }],
            ..Build::default()
        },
        restored_image: Some(RestoredImage {
            digest: C.into(),
            build: FIRST.into(),
            ..RestoredImage::default()
        }),
        lifecycle: lifecycle(),
        rebases: Vec::new(),
        builds: vec![earlier()],
        layers: vec![app, restored],
        changes: Vec::new(),
        extra: "team = \"a\"".parse().unwrap(),
    }
}

#[test]
fn a_report_reads_as_it_was_written() {
    let text = sample().to_toml();
    assert_eq!(Report::parse(&text).unwrap(), sample(), "{text}");
    assert_eq!(Report::parse(&text).unwrap().to_toml(), text);
    assert!(text.starts_with("schema-version = 1\n\n[image]\n"), "{text}");
    let plain = report::Report::parse(&text).unwrap();
    assert_eq!(plain.image, sample().image, "those who know the platform's document read this one, too");
}

#[test]
fn what_was_rebased_names_the_image_that_was_built() {
    let rebase = Rebase {
        time: "2026-01-03T00:00:00Z".into(),
        image_digest: B.into(),
        report: C.into(),
        lifecycle: lifecycle(),
    };
    let with = |change: &dyn Fn(&mut Rebase)| {
        let (mut first, second) = (rebase.clone(), Rebase { image_digest: A.into(), ..rebase.clone() });
        change(&mut first);
        Report { rebases: vec![first, second], ..sample() }
    };
    let report = with(&|_| {});
    assert_eq!(Report::parse(&report.to_toml()).unwrap(), report);
    assert_eq!(report.this_build().image_digest, B);
    let statement = report.provenance(A).unwrap().to_string();
    assert!(
        statement.contains(r#""name":"rebased image""#) && statement.contains(r#""rebases":["#),
        "{statement}"
    );
    for broken in [
        with(&|rebase| rebase.time.clear()),
        with(&|rebase| rebase.time = "2026-02-30T00:00:00Z".into()),
        with(&|rebase| rebase.image_digest.clear()),
        with(&|rebase| rebase.report = "sha256:1".into()),
        with(&|rebase| rebase.lifecycle.run_image.get_or_insert_default().digest = "none".into()),
    ] {
        let text = broken.to_toml();
        assert!(matches!(Report::parse(&text), Err(ReportError::Implausible(_))), "{text}");
    }
}

#[test]
fn the_second_report_alone_names_the_first_build() {
    let report = Report::parse(&sample().to_toml()).unwrap();
    let layer = report.layers.iter().find(|layer| layer.id() == "yabba:build").unwrap();
    assert_eq!(report.build_of(layer), Some(earlier()));
    let app = &report.layers[0];
    assert_eq!(report.build_of(app).unwrap().application_source, git("aaa111"));
    assert_eq!(report.build_of(&Layer::default()), None);
}

#[test]
fn a_report_is_about_its_own_image() {
    let report = sample();
    assert_eq!(report.check(C, [C]), Ok(()));
    assert!(matches!(report.check(A, [C]), Err(ReportError::OtherImage { .. })));
    for other in [&[][..], &[A], &[C, A]] {
        assert_eq!(report.check(C, other.iter().copied()), Err(ReportError::OtherLayers));
    }
}

/// What is wrong, and how a report is made so.
type Change = (&'static str, fn(&mut Report));

#[test]
fn what_no_build_writes_is_refused() {
    let changes: &[Change] = &[
        ("a version to come", |r| r.schema_version = 2),
        ("a digest that is none", |r| r.image.digest = "sha256:12".into()),
        ("a digest in capitals", |r| r.layers[0].diff_id = A.to_uppercase()),
        ("a digest of the base", |r| r.lifecycle.run_image.as_mut().unwrap().digest = "x".into()),
        ("an origin that is not there", |r| r.layers[1].origin.build = "3".repeat(32)),
        ("an unknown origin with a build", |r| r.layers[1].origin.from = Evidence::Unknown),
        ("an origin without a build", |r| r.layers[1].origin.build.clear()),
        ("two builds with one id", |r| r.builds.push(earlier())),
        ("this build among the earlier", |r| r.builds[0].id = SECOND.into()),
        ("no id", |r| r.build.id.clear()),
        ("an id of a terminal", |r| r.build.id = "\u{1b}[31mred\u{1b}[0m".into()),
        ("no time", |r| r.build.time = "yesterday".into()),
        ("a name with control characters", |r| r.layers[0].name = "a\nb".into()),
        ("a name without end", |r| r.layers[0].name = "a".repeat(2000)),
        ("no name", |r| r.layers[0].name.clear()),
        ("a blob without contents", |r| r.layers[0].diff_id.clear()),
        ("an impossible neighbour", |r| r.layers[1].present_layers[0].diff_id = "sha256:".into()),
        ("many neighbours", |r| r.layers[1].present_layers = vec![Neighbour::default(); 2000]),
        ("many layers", |r| r.layers = vec![r.layers[0].clone(); 5000]),
        ("a date that is none", |r| r.layers[0].modification_date = "2026".into()),
        ("a date that is none", |r| r.layers[0].modification_date = "2026-13-01T00:00:00Z".into()),
        ("a date that is none", |r| r.layers[0].modification_date = "2026-02-29T00:00:00Z".into()),
        ("a date that is none", |r| r.layers[0].modification_date = "2026-01-01T24:00:00Z".into()),
        ("depth", |r| {
            let deep = (0..40).fold(Value::Integer(1), |inner, _| {
                Value::Table([("k".to_owned(), inner)].into_iter().collect())
            });
            r.extra = [("k".to_owned(), deep)].into_iter().collect();
        }),
        ("size", |r| {
            r.extra = [("k".to_owned(), Value::String("x".repeat(MAX_REPORT)))].into_iter().collect()
        }),
    ];
    for (what, change) in changes {
        let mut report = sample();
        change(&mut report);
        assert!(Report::parse(&report.to_toml()).is_err(), "{what}");
    }
    assert!(Report::parse(&sample().to_toml()).is_ok());
    for text in ["", "[image]\n  tags = []\n"] {
        assert_eq!(Report::parse(text), Err(ReportError::NoOrigins));
    }
    let unknown = sample().to_toml().replace("on-export = \"reused\"", "on-export = \"stolen\"");
    assert!(matches!(Report::parse(&unknown), Err(ReportError::Broken(_))));
    let deep = format!("schema-version = 1\nx = {}1{}\n", "[".repeat(100_000), "]".repeat(100_000));
    assert!(Report::parse(&deep).is_err());
    let more = format!("{}[future]\n  x = 1\n", sample().to_toml());
    assert_eq!(Report::parse(&more).unwrap(), sample(), "keys that are unknown are skipped");
}

/// Each layer tells of its build: a text that a report has once is told as often as it has layers.
#[test]
fn little_that_says_much_is_refused() {
    let text =
        |length: usize| -> Table { [("url".to_owned(), "x".repeat(length).into())].into_iter().collect() };
    let aside = |report: &Report| Layer { digest: String::new(), ..report.layers[1].clone() };
    let changes: &[Change] = &[
        ("a source that is a book", |r| {
            let source = r.builds[0].application_source.as_mut().unwrap();
            source.metadata = (0..3000).map(|n| (n.to_string(), Value::Integer(1))).collect();
        }),
        ("a distribution that is a book", |r| {
            r.lifecycle.build_image = Some(ImageRef { distro: "x".repeat(300 << 10), ..ImageRef::default() });
        }),
        ("names without end", |r| {
            r.builds[0].lifecycle.run_image.as_mut().unwrap().tags = vec![String::new(); 4000];
        }),
    ];
    for (what, change) in changes {
        let mut report = sample();
        change(&mut report);
        let found = Report::parse(&report.to_toml()).unwrap_err().to_string();
        assert_eq!(found, "it has a build of which too much is said", "{what}");
    }
    let refused = Err(ReportError::Implausible("layers of which too much is said".into()));
    let mut report = sample();
    report.builds[0].application_source.as_mut().unwrap().metadata = text(200 << 10);
    assert!(Report::parse(&report.to_toml()).is_ok());
    report.layers.extend(vec![aside(&report); 300]);
    assert_eq!(Report::parse(&report.to_toml()), refused);
    let mut report = sample();
    let file = FileChange { kind: "changed".into(), path: "x".repeat(1 << 20) };
    report.changes = vec![Changes { of: report.layers[1].id(), files: vec![file], ..Changes::default() }];
    assert!(Report::parse(&report.to_toml()).is_ok());
    report.layers.extend(vec![aside(&report); 100]);
    assert_eq!(Report::parse(&report.to_toml()), refused);
}

#[test]
fn records_survive_the_cache_and_keep_to_their_contents() {
    let mut records = Records::new();
    let record = Record {
        buildpack: "yabba".into(),
        name: "build".into(),
        diff_id: A.into(),
        build: FIRST.into(),
        ..Record::default()
    };
    records.push(record.clone(), &earlier());
    records.push(Record { name: "tools".into(), ..record.clone() }, &earlier());
    let json = serde_json::to_string(&records).unwrap();
    assert_eq!(Records::parse(&json), records);
    assert_eq!(records.builds.len(), 1);
    assert_eq!(records.find("yabba", "build", A), Some((&record, &earlier())));
    assert_eq!(records.find("yabba", "build", B), None);
    for bad in ["", "3", "null", "{}", &json.replace(":1,", ":2,"), &json.replace(A, "sha256:1")] {
        assert_eq!(
            Records::parse(bad),
            Records { builds: Records::parse(bad).builds, ..Records::new() },
            "{bad}"
        );
    }
    let orphan = json.replace("2026-01-01T00:00:00Z", "once");
    assert_eq!(Records::parse(&orphan), Records::new());
    // More than any build leaves.
    let parsed = |change: fn(&mut Records)| {
        let mut more = records.clone();
        change(&mut more);
        Records::parse(&serde_json::to_string(&more).unwrap())
    };
    let crowd = parsed(|more| more.layers[0].present_layers = vec![Neighbour::default(); 2000]);
    assert_eq!(crowd.layers, records.layers[1..]);
    assert_eq!(parsed(|more| more.layers = vec![more.layers[0].clone(); 5000]), Records::new());
    assert_eq!(parsed(|more| more.builds = vec![more.builds[0].clone(); 5000]), Records::new());
    assert_eq!(parsed(|more| more.builds[0].lifecycle.name = "x".repeat(300 << 10)), Records::new());
}

#[test]
fn claims_tell_who_was_there() {
    let seen = |id: &str, inode| Seen { id: id.into(), inode };
    let claims = Claims {
        version: 1,
        buildpacks: vec![Ran {
            id: "b".into(),
            before: vec![seen("a:x", 1), seen("b:kept", 2), seen("b:gone", 3), seen("b:again", 4)],
            after: vec![seen("b:kept", 2), seen("b:again", 5), seen("b:new", 6)],
        }],
        ..Claims::default()
    };
    let claims = Claims::parse(&claims.to_json().unwrap()).unwrap();
    for (layer, kept) in [("kept", true), ("gone", false), ("again", false), ("new", false)] {
        assert_eq!(claims.was_kept("b", layer), Some(kept), "{layer}");
    }
    assert_eq!(claims.was_kept("a", "x"), None);
    assert_eq!(claims.neighbours("b", "new").unwrap(), ["a:x", "b:again", "b:kept"]);
    assert_eq!(claims.neighbours("a", "x"), None);
    for bad in ["", "{}", "[]", r#"{"version":2}"#, r#"{"version":1,"distro":"a\u001b[0m"}"#] {
        assert!(Claims::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn the_provenance_says_what_the_report_says() {
    let statement = sample().provenance(A).unwrap();
    let hex = |digest: &str| digest.trim_start_matches("sha256:").to_owned();
    assert_eq!(statement["_type"], "https://in-toto.io/Statement/v1");
    assert_eq!(
        statement["subject"],
        serde_json::json!([{ "name": "foo-api", "digest": { "sha256": hex(C) } }])
    );
    assert_eq!(statement["predicateType"], "https://slsa.dev/provenance/v1");
    let predicate = &statement["predicate"];
    let dependencies = predicate["buildDefinition"]["resolvedDependencies"].as_array().unwrap();
    let names: Vec<_> = dependencies.iter().map(|one| one["name"].as_str().unwrap()).collect();
    let first = format!("source of build {FIRST}");
    assert_eq!(names, ["source", "run-image", "layer yabba:build", &first]);
    assert_eq!(dependencies[0]["digest"]["gitCommit"], "aaa111");
    assert_eq!(dependencies[1]["digest"]["sha256"], hex(B));
    assert_eq!(dependencies[2]["annotations"]["build"], FIRST);
    assert_eq!(dependencies[3]["digest"]["gitCommit"], "aaa000");
    // A resource needs a URI, a digest or contents (in-toto, "ResourceDescriptor").
    assert!(dependencies.iter().all(|one| one["uri"].is_string() || one["digest"].is_object()));
    assert_eq!(predicate["runDetails"]["metadata"]["invocationId"], SECOND);
    assert_eq!(predicate["runDetails"]["byproducts"][0]["digest"]["sha256"], hex(A));
    // Git's own URL goes before what the app's files say.
    let mut report = sample();
    let metadata =
        "repository = \"https://said.example\"\nurl = \"https://git.example/web\"".parse().unwrap();
    report.build.application_source.as_mut().unwrap().metadata = metadata;
    let statement = report.provenance(A).unwrap();
    let source = &statement["predicate"]["buildDefinition"]["resolvedDependencies"][0];
    assert_eq!(source["uri"], "git+https://git.example/web");
    assert_eq!(Report::default().provenance(A), None, "an image in a daemon has no checksum");
}
