//! Reports that say where layers come from.

use crate::validate::{faults, validate};
use crate::world::{Buildpack, World};
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use strata_oci::Digest;
use strata_phases::origins::beside;
use strata_spec::origins::provenance::{PREDICATE, PREDICATE_ANNOTATION, STATEMENT};
use strata_spec::origins::{Cause, Evidence, Kind, Layer, MEDIA_TYPE, OnExport, ReasonCode, Report};
use strata_spec::{BuildpackApi, PlatformApi};
use strata_store::{Embedded, Layout, Store as _};

const BUILDPACK: BuildpackApi = BuildpackApi::V0_12;

/// The buildpack of the draft: `deps` is made once and cached, `run` is taken from the image before, `tools` is made in
/// every build.
fn yabba() -> Buildpack {
    Buildpack::new("some/yabba", BUILDPACK).build(
        r#"
        make() { mkdir -p "$L/$1"; echo "$1" > "$L/$1/file"; printf "[types]\n$2\n[metadata]\nof = \"$1\"\n" > "$L/$1.toml"; }
        [ -e "$L/deps/file" ] && kept=yes || kept=no
        [ -e "$L/run.toml" ] && printf '[types]\nlaunch = true\n[metadata]\nof = "run"\n' > "$L/run.toml" || make run "launch = true"
        [ $kept = yes ] && printf '[types]\nbuild = true\ncache = true\n[metadata]\nof = "deps"\n' > "$L/deps.toml" || make deps "build = true\ncache = true"
        make tools "build = true"
        "#,
    )
}

/// A place in which reports have origins.
fn world() -> World {
    let mut world = World::new(PlatformApi::NEWEST);
    world.set("CNB_REPORT_ORIGINS", "true");
    world.only(&yabba());
    world
}

/// Says which commit the app is of.
fn commit(world: &World, commit: &str) {
    world.write("app/file", format!("the app at {commit}\n"));
    let text = format!("[source]\ntype = \"git\"\n[source.version]\ncommit = \"{commit}\"\n");
    world.write("layers/project-metadata.toml", text);
}

fn report(world: &World) -> Report {
    Report::parse(&world.read("layers/report.toml")).unwrap()
}

/// The report beside the image, and nothing else.
fn beside(world: &World) -> Report {
    let image = world.image("app");
    let layout = layout(world);
    let (found, refused) = beside::all(&layout, &image).unwrap();
    assert_eq!((found.len(), refused), (1, Vec::new()));
    found.into_iter().next().unwrap().report
}

fn layout(world: &World) -> Layout {
    Embedded::new(world.path("images")).layout_for(&"app".parse().unwrap()).for_one_image("latest".to_owned())
}

/// What the last build says of its image, as files: the report and the provenance.
fn documents(world: &World) -> [PathBuf; 2] {
    let (layout, image) = (layout(world), world.image("app"));
    let entries = layout.referrers(&image.manifest_digest, Some(STATEMENT)).unwrap();
    assert_eq!(entries[0].annotations[PREDICATE_ANNOTATION], PREDICATE);
    let tree = layout.read_referrer(entries.last().unwrap()).unwrap().unwrap();
    let file = tree.blobs.iter().find(|blob| blob.media_type == STATEMENT).unwrap();
    let mut text = String::new();
    layout.open_blob(file).unwrap().unwrap().read_to_string(&mut text).unwrap();
    world.write("statement.json", text);
    [world.path("layers/report.toml"), world.path("statement.json")]
}

#[track_caller]
fn are_valid(world: &World) {
    validate("validate-report", &documents(world));
}

#[track_caller]
fn layer<'a>(report: &'a Report, id: &str) -> &'a Layer {
    report.layers.iter().find(|layer| layer.id() == id).unwrap_or_else(|| panic!("{id}: {report:#?}"))
}

#[test]
fn the_second_report_alone_tells_of_the_first_build() {
    let world = world();
    commit(&world, "aaa000");
    world.until("exporter");
    let first = report(&world);
    assert_eq!(first, beside(&world));
    assert!(first.build.observed);
    assert_eq!(layer(&first, "some/yabba:deps").on_export, OnExport::Cached);
    world.next_build();
    commit(&world, "aaa111");
    world.until("exporter");
    let second = beside(&world);
    assert_eq!(second, report(&world));
    let restored = second.restored_image.as_ref().unwrap();
    assert_eq!((restored.digest.as_str(), &restored.build), (first.image.digest.as_str(), &first.build.id));
    for (id, from) in [("some/yabba:deps", Evidence::Cache), ("some/yabba:run", Evidence::PreviousImage)] {
        let found = layer(&second, id);
        assert_eq!(
            (found.on_export, found.origin.from, found.origin.generation),
            (OnExport::Reused, from, 1)
        );
        assert_eq!(found.reason.code, ReasonCode::Unchanged);
        assert_eq!(found.application_source, first.build.application_source, "{id}");
        assert_eq!(found.modification_date, first.build.time);
        assert_eq!((found.buildpack_version.as_str(), found.buildpack_api.as_str()), ("1", "0.12"));
        let maker = second.build_of(found).unwrap();
        assert_eq!((&maker.id, &maker.image_digest), (&first.build.id, &first.image.digest));
        assert_eq!(maker.lifecycle, first.lifecycle);
        let neighbours: Vec<&str> = found.present_layers.iter().map(|other| other.id.as_str()).collect();
        let all = ["some/yabba:deps", "some/yabba:run", "some/yabba:tools"];
        assert_eq!(neighbours, all.into_iter().filter(|other| *other != id).collect::<Vec<_>>());
    }
    let tools = layer(&second, "some/yabba:tools");
    assert_eq!((tools.on_export, tools.origin.from), (OnExport::Discarded, Evidence::ThisBuild));
    assert_eq!(tools.reason.code, ReasonCode::NotCached);
    let app = layer(&second, "slice-1");
    assert_eq!((app.on_export, app.reason.code), (OnExport::Added, ReasonCode::SourceChanged));
    are_valid(&world);
    let kinds: Vec<Kind> = second.layers.iter().map(|layer| layer.kind).collect();
    for kind in [Kind::RunImage, Kind::App, Kind::Launcher, Kind::Config] {
        assert!(kinds.contains(&kind), "{kinds:?}");
    }
}

#[test]
fn a_rebased_image_keeps_its_origins() {
    let world = world();
    commit(&world, "aaa000");
    world.until("exporter");
    let (first, built) = (report(&world), world.image("app").manifest_digest.to_string());
    world.run_image("run", |image| image.config_mut().set_env("FROM_BASE", "new"));
    world.run("rebaser", &["-report", "layers/report.toml", "app"]).ok();
    let rebased = beside(&world);
    assert_eq!(rebased, report(&world));
    assert_ne!(rebased.image.digest, built);
    assert_eq!((&rebased.build, &rebased.lifecycle), (&first.build, &first.lifecycle));
    let [event] = rebased.rebases.as_slice() else { panic!("{rebased:#?}") };
    assert_eq!(event.image_digest, built);
    assert_eq!(event.report, Digest::of(first.to_toml().as_bytes()).to_string());
    assert_eq!(rebased.run_image().unwrap().digest, world.image("run").manifest_digest.to_string());
    let own = |report: &Report| {
        let own = report.layers.iter().filter(|layer| layer.kind != Kind::RunImage);
        own.cloned().collect::<Vec<_>>()
    };
    assert_eq!(own(&rebased), own(&first));
    are_valid(&world);
    // Once more, and then a build: it finds out who made what it takes over.
    world.run_image("run", |image| image.config_mut().set_env("FROM_BASE", "newer"));
    world.run("rebaser", &["app"]).ok();
    assert_eq!(beside(&world).rebases.len(), 2);
    world.next_build();
    commit(&world, "aaa111");
    world.until("exporter");
    let last = beside(&world);
    let found = layer(&last, "some/yabba:run");
    assert_eq!(found.origin.from, Evidence::PreviousImage);
    let maker = last.build_of(found).unwrap();
    assert_eq!((&maker.id, &maker.image_digest), (&first.build.id, &built));
    assert_eq!(last.rebases, []);
}

/// The image is there by then.
#[test]
fn a_report_that_cannot_be_carried_on_costs_no_rebase() {
    let world = world();
    // With nothing to leave out.
    world.only(&Buildpack::new("some/nothing", BUILDPACK));
    world.until("exporter");
    let built = world.image("app").manifest_digest;
    let good = world.read("layers/report.toml");
    // As large as one may be that is read; what the rebase adds is too much.
    let room = (4 << 20) - good.len() - "[extra]\nx = \"\"\n".len();
    replace_report(&world, Some(&format!("{good}[extra]\nx = \"{}\"\n", "x".repeat(room))));
    world.run_image("run", |image| image.config_mut().set_env("FROM_BASE", "new"));
    let done = world.run("rebaser", &["-report", "report.toml", "app"]);
    let log = done.ok();
    assert!(log.contains("There are no origins to report: failed to write the report"), "{log}");
    assert!(log.contains("larger than 4 MiB"), "{log}");
    let image = world.image("app");
    assert_ne!(image.manifest_digest, built);
    let short = world.read("report.toml");
    assert!(short.contains("manifest-size = ") && !short.contains("schema-version"), "{short}");
    assert_eq!(layout(&world).referrers(&image.manifest_digest, None).unwrap(), []);
}

#[test]
fn without_a_report_a_rebased_image_has_none() {
    let mut world = world();
    world.unset("CNB_REPORT_ORIGINS");
    world.until("exporter");
    let log = world.run("rebaser", &["-report-origins", "-report", "report.toml", "app"]);
    assert!(log.ok().contains("There are no origins to report: no report lies beside"), "{}", log.out);
    assert!(!world.read("report.toml").contains("schema-version"));
    assert_eq!(layout(&world).referrers(&world.image("app").manifest_digest, None).unwrap(), []);
}

/// Makes the cache forget what it knew of origins.
fn forget(world: &World) {
    let path = "cache/committed/io.buildpacks.lifecycle.cache.metadata";
    let mut metadata: serde_json::Value = serde_json::from_str(&world.read(path)).unwrap();
    assert!(metadata.as_object_mut().unwrap().remove("origins").is_some());
    world.write(path, metadata.to_string());
}

/// Puts something else in the place of the report beside the image.
fn replace_report(world: &World, text: Option<&str>) {
    let (layout, image) = (layout(world), world.image("app"));
    let path = layout.dir().join("index.json");
    let mut index: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let entries = index["manifests"].as_array_mut().unwrap();
    entries.retain(|entry| entry["artifactType"].is_null());
    assert_eq!(entries.len(), 1);
    fs::write(&path, index.to_string()).unwrap();
    if let Some(text) = text {
        let subject = image.encoded().manifest_descriptor();
        layout.attach(&subject, MEDIA_TYPE, MEDIA_TYPE, text.as_bytes(), &BTreeMap::new()).unwrap();
    }
}

#[test]
fn ten_builds_later_a_layer_still_names_the_first() {
    let mut world = world();
    commit(&world, "0");
    world.until("exporter");
    let first = report(&world);
    for number in 1..10 {
        world.next_build();
        commit(&world, &number.to_string());
        if number == 5 {
            // Side by side, the cache learns of the image, too.
            world.set("CNB_PARALLEL_EXPORT", "true");
            // A report that is gone: the cache knows all the same.
            replace_report(&world, None);
        }
        world.until("exporter");
        let report = beside(&world);
        for id in ["some/yabba:deps", "some/yabba:run"] {
            let found = layer(&report, id);
            assert_eq!(found.origin.generation, number, "{id}");
            let maker = report.build_of(found).unwrap();
            assert_eq!((&maker.id, &maker.image_digest), (&first.build.id, &first.image.digest), "{id}");
            assert_eq!(found.application_source, first.build.application_source);
        }
        assert_eq!(report.builds.len(), 1);
    }
    // On another machine there is no cache, and the buildpack makes its layer again; the image's report still tells of
    // what is taken from the image.
    world.next_build();
    commit(&world, "10");
    fs::remove_dir_all(world.path("cache")).unwrap();
    fs::create_dir(world.path("cache")).unwrap();
    world.until("exporter");
    let report = beside(&world);
    assert_eq!(layer(&report, "some/yabba:run").origin.generation, 10);
    let deps = layer(&report, "some/yabba:deps");
    assert_eq!((deps.origin.from, deps.on_export), (Evidence::ThisBuild, OnExport::Cached));
}

#[test]
fn reports_that_lie_are_refused_and_harm_nothing() {
    let world = world();
    commit(&world, "a");
    world.until("exporter");
    let good = world.read("layers/report.toml");
    let digest = report(&world).image.digest;
    let other = format!("sha256:{}", "e".repeat(64));
    let looping = good.replace("from = \"this-build\"", "from = \"previous-image\"");
    for (bad, why) in [
        ("".to_owned(), "says nothing of origins"),
        ("\0\u{1b}[31m".to_owned(), "no report"),
        (good.replace("schema-version = 1", "schema-version = 2"), "schema version is 2"),
        (good.replace(&digest, &other), "about the image"),
        (good.replace("kind = \"launcher\"", "kind = \"stolen\""), "no report"),
        (good.replacen("diff-id = \"sha256:", "diff-id = \"sha256:0", 1), "a digest that is none"),
        (good.replace("on-export = \"inherited\"", "on-export = \"?\""), "no report"),
        (format!("{good}\n# {}", "x".repeat(5 << 20)), "larger than 4 MiB"),
        (looping.replace("build = \"", "build = \"0"), "an origin that the report does not have"),
    ] {
        replace_report(&world, Some(&bad));
        world.next_build();
        commit(&world, "a");
        forget(&world);
        let log = world.until("exporter");
        assert!(log.contains("is refused") && log.contains(why), "{why}: {log}");
        let found = report(&world);
        let run = layer(&found, "some/yabba:run");
        assert_eq!(
            (run.origin.from, run.origin.cause),
            (Evidence::Unknown, Some(Cause::ReportRefused)),
            "{why}"
        );
        assert!(run.application_source.is_none() && run.modification_date.is_empty());
    }
    are_valid(&world);
}

/// A report that is believed, and says more than there is room for in the next one.
#[test]
fn reports_that_say_too_much_cost_no_build() {
    let world = world();
    world.only(&Buildpack::new("some/many", BUILDPACK).build(
        r#"
        for n in $(seq 24); do
            [ -e "$L/l$n.toml" ] || { mkdir "$L/l$n"; echo "$n" >"$L/l$n/file"; }
            printf '[types]\nlaunch = true\n' >"$L/l$n.toml"
        done
        "#,
    ));
    commit(&world, "a");
    world.until("exporter");
    let good = world.read("layers/report.toml");
    let book = format!(
        "[build.application-source]\n[build.application-source.metadata]\nurl = \"{}\"\n",
        "x".repeat(250_000)
    );
    let long = good.replacen("[build.application-source]\n", &book, 1);
    assert_ne!(long, good);
    let first = report(&world).build.id;
    replace_report(&world, Some(&long));
    world.next_build();
    commit(&world, "b");
    fs::remove_dir_all(world.path("cache")).unwrap();
    fs::create_dir(world.path("cache")).unwrap();
    let log = world.until("exporter");
    assert!(log.contains("the report leaves out the metadata of all layers; all that sources have besides a version: otherwise it is larger than 4 MiB"), "{log}");
    let found = beside(&world);
    for number in [1, 24] {
        let layer = layer(&found, &format!("some/many:l{number}"));
        assert_eq!((layer.origin.from, &layer.origin.build), (Evidence::PreviousImage, &first));
        assert_eq!(layer.application_source.as_ref().unwrap().version["commit"].as_str(), Some("a"));
    }
    are_valid(&world);
}

#[test]
fn origins_can_be_required() {
    let mut world = world();
    commit(&world, "a");
    world.until("exporter");
    world.set("CNB_REQUIRE_ORIGINS", "true");
    world.next_build();
    commit(&world, "b");
    world.until("exporter");
    forget(&world);
    replace_report(&world, None);
    world.next_build();
    commit(&world, "c");
    world.run("analyzer", &["app"]).ok();
    world.run("detector", &[]).ok();
    world
        .run("restorer", &[])
        .fails(42, &["the origin of layers is unknown", "some/yabba:deps", "some/yabba:run"]);
    // A restorer that was not told brings them back; the exporter then refuses.
    world.unset("CNB_REQUIRE_ORIGINS");
    world.run("restorer", &[]).ok();
    world.run("builder", &[]).ok();
    let before = world.image("app").manifest_digest;
    world.export(&["-require-origins", "app"]).fails(62, &["the origin of layers is unknown", "no record"]);
    assert_eq!(world.image("app").manifest_digest, before);
    // Or such layers are made anew.
    world.set("CNB_REQUIRE_ORIGINS", "discard");
    world.next_build();
    commit(&world, "c");
    world.until("exporter");
    let found = report(&world);
    for id in ["some/yabba:deps", "some/yabba:run"] {
        assert_eq!(layer(&found, id).origin.from, Evidence::ThisBuild, "{id}");
    }
    let reason = &layer(&found, "some/yabba:deps").reason;
    assert_eq!(
        (reason.code, reason.also.as_slice()),
        (ReasonCode::Reproduced, [ReasonCode::OriginRequired].as_slice())
    );
    are_valid(&world);
}

#[test]
fn secrets_stay_out_of_all_that_is_written() {
    const SECRET: &str = "hunter2secret";
    let mut world = world();
    world.set("CNB_REPORT_INPUTS_KEY", "the operator's key");
    world.write("platform/env/TOKEN", SECRET);
    world.write("platform/bindings/db/password", SECRET);
    let url = format!("https://me:{SECRET}@example.com/x?v=1&token={SECRET}");
    let document = format!(
        "[types]\nlaunch = true\nbuild = true\ncache = true\n[metadata]\nfrom = \"{url}\"\n\"{url}\" = 1\n\
         [[bom]]\nname = \"l\"\n[bom.metadata]\nuri = \"{url}\"\n"
    );
    let script = format!("mkdir -p $L/l; cat >$L/l.toml <<'END'\n{document}END\n");
    world.only(&Buildpack::new("some/leaky", BUILDPACK).build(&script));
    let source = format!("[source]\ntype = \"git\"\n[source.metadata]\nrepository = \"{url}\"\n");
    world.write("layers/project-metadata.toml", &source);
    world.until("exporter");
    let found = report(&world);
    let inputs: Vec<&str> = found.build.inputs.iter().map(|input| input.name.as_str()).collect();
    assert_eq!(inputs, ["bindings/db/password", "env/TOKEN"]);
    assert!(found.build.inputs.iter().all(|input| input.digest.starts_with("hmac-sha256:")));
    assert_eq!(found.build.inputs[0].digest, found.build.inputs[1].digest);
    for path in ["layers/report.toml", "layers/@strata/build.json"] {
        assert!(!world.read(path).contains(SECRET), "{path}");
    }
    let metadata = world.read("cache/committed/io.buildpacks.lifecycle.cache.metadata");
    let metadata: serde_json::Value = serde_json::from_str(&metadata).unwrap();
    assert!(!metadata["origins"].to_string().contains(SECRET));
    let clean = Some("https://example.com/x?v=1&token=");
    assert_eq!(layer(&found, "some/leaky:l").metadata["from"].as_str(), clean);
    assert_eq!(found.build.bom[0].metadata.as_ref().unwrap()["uri"].as_str(), clean);
    are_valid(&world);
}

#[test]
fn what_a_buildpack_does_to_the_builders_record_costs_that_alone() {
    let world = world();
    for spoil in ["rm -rf $L/../@strata; ln -s /etc $L/../@strata", "mkdir -p $L/../@strata/build.json/x"] {
        world.only(&Buildpack::new("some/evil", BUILDPACK).build(spoil));
        world.next_build();
        world.until("exporter");
        assert!(!Path::new("/etc/build.json").exists());
        let found = report(&world);
        assert!(!found.build.observed, "{spoil}");
    }
}

#[test]
fn provenance_lies_beside_the_image_too() {
    let world = world();
    commit(&world, "aaa000");
    world.until("exporter");
    let image = world.image("app");
    let [report, file] = documents(&world);
    let good = fs::read_to_string(&file).unwrap();
    let statement: serde_json::Value = serde_json::from_str(&good).unwrap();
    assert_eq!(statement["subject"][0]["digest"]["sha256"], image.manifest_digest.hex());
    let digest = Digest::of(&fs::read(&report).unwrap());
    assert_eq!(statement["predicate"]["runDetails"]["byproducts"][0]["digest"]["sha256"], digest.hex());
    are_valid(&world);
    // The validators see what is wrong.
    for (bad, why) in [
        (good.replace("Statement/v1", "Statement/v2"), "Wrong statement type"),
        (good.replace("resolvedDependencies", "dependencies"), "no field named"),
        (good.replace("\"buildType\"", "\"build_type\"").replace("\"id\"", "\"ID\""), "no field named"),
    ] {
        fs::write(&file, bad).unwrap();
        let said = faults("validate-report", std::slice::from_ref(&file));
        assert!(said.contains(why), "{said}");
    }
    let good = fs::read_to_string(&report).unwrap();
    for bad in [
        good.replace("schema-version = 1", "schema-version = 2"),
        good.replace("on-export = \"inherited\"", "on-export = \"?\""),
        good.replace("diff-id", "dif-id"),
    ] {
        fs::write(&report, bad).unwrap();
        assert_ne!(faults("validate-report", std::slice::from_ref(&report)), "");
    }
}

#[test]
fn without_origins_nothing_is_otherwise_than_before() {
    let mut with = world();
    commit(&with, "aaa000");
    with.until("exporter");
    let digest = with.image("app").manifest_digest;
    let long = with.read("layers/report.toml");
    with.unset("CNB_REPORT_ORIGINS");
    with.next_build();
    commit(&with, "aaa000");
    fs::remove_dir_all(with.path("cache")).unwrap();
    fs::create_dir(with.path("cache")).unwrap();
    with.remove("images/index.docker.io");
    with.run_image("run", |_| {});
    with.until("exporter");
    assert_eq!(with.image("app").manifest_digest, digest, "the image is the same");
    let short = with.read("layers/report.toml");
    assert!(!short.contains("layers") && long.len() > short.len(), "{short}");
    assert!(!with.has("layers/@strata/build.json"));
    assert!(!with.read("cache/committed/io.buildpacks.lifecycle.cache.metadata").contains("origins"));
    assert_eq!(beside::all(&layout(&with), &with.image("app")).unwrap().0, []);
}
