//! Reports that say where layers come from.

use crate::world::{Buildpack, World};
use std::fs;
use strata_phases::origins::beside;
use strata_spec::origins::{Evidence, Kind, Layer, OnExport, ReasonCode, Report};
use strata_spec::{BuildpackApi, PlatformApi};
use strata_store::{Embedded, Layout};

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
    let kinds: Vec<Kind> = second.layers.iter().map(|layer| layer.kind).collect();
    for kind in [Kind::RunImage, Kind::App, Kind::Launcher, Kind::Config] {
        assert!(kinds.contains(&kind), "{kinds:?}");
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
