//! Bills of materials that live with their layer: `[[bom]]` in `<layer>.toml`.

use crate::world::{BUILDPACK, Buildpack, PLATFORM, World};
use serde_json::Value;
use std::collections::BTreeMap;
use strata_spec::{BuildpackApi, PlatformApi};

const NEWEST: BuildpackApi = BuildpackApi::V0_12;

/// The layers of the tests: one for each combination of types, named by their first letters; `n` has none.
const LAYERS: &[&str] = &["n", "l", "b", "c", "lb", "lc", "bc", "lbc"];

/// Makes or takes over layers: `make NAME VERSION`, `plain NAME` without a bill of materials, `reuse NAME`, which writes
/// the types and nothing else.
const FUNCTIONS: &str = r#"
types() {
    echo '[types]'
    case $1 in *l*) echo 'launch = true';; esac
    case $1 in *b*) echo 'build = true';; esac
    case $1 in *c*) echo 'cache = true';; esac
}
plain() { mkdir -p $L/$1; echo plain > $L/$1/file; types $1 > $L/$1.toml; }
make() {
    mkdir -p $L/$1; echo $2 > $L/$1/file
    { types $1; printf '[metadata]\nv = "%s"\n[[bom]]\nname = "in %s"\nlayer = "lie"\n[bom.metadata]\nversion = "%s"\nn = 1\n' $2 $1 $2; } > $L/$1.toml
}
reuse() { if [ -f $L/$1.toml ]; then { types $1; cat $L/$1.toml; } > $L/new; mv $L/new $L/$1.toml; fi; }
"#;

fn buildpack(api: BuildpackApi, script: &str) -> Buildpack {
    Buildpack::new("some/bom", api).build(&format!("{FUNCTIONS}\n{script}"))
}

/// `layer version` of each entry of a list that is JSON, sorted; all that an entry has to have is asserted.
#[track_caller]
fn entries(bom: Option<&Value>) -> Vec<String> {
    let mut found = Vec::new();
    for entry in bom.and_then(Value::as_array).into_iter().flatten() {
        let layer = entry["layer"].as_str().unwrap();
        assert_eq!(entry["name"], format!("in {layer}"), "{entry}");
        assert_eq!(entry["metadata"]["n"], 1, "{entry}");
        let by = serde_json::json!({"id": "some/bom", "version": "1"});
        assert_eq!(entry["buildpack"], by, "{entry}");
        found.push(format!("{layer} {}", entry["metadata"]["version"].as_str().unwrap()));
    }
    found.sort();
    found
}

/// The entries of a TOML document, at `[build]` if that is asked for.
#[track_caller]
fn in_toml(world: &World, path: &str, table: Option<&str>) -> Vec<String> {
    let mut json: Value = serde_json::to_value(world.toml(path)).unwrap();
    if let Some(table) = table {
        json = json.get(table).cloned().unwrap_or_default();
    }
    entries(json.get("bom"))
}

/// What label, `metadata.toml` and report say of the last build.
#[track_caller]
fn told(world: &World) -> (Vec<String>, Vec<String>) {
    let label = entries(world.build_metadata().get("bom"));
    assert_eq!(in_toml(world, "layers/config/metadata.toml", None), label);
    let report = in_toml(world, "layers/report.toml", Some("build"));
    for (folder, expected) in [("launch", &label), ("build", &report)] {
        let legacy = format!("layers/sbom/{folder}/sbom.legacy.json");
        if world.has(&legacy) {
            let json: Value = serde_json::from_str(&world.read(&legacy)).unwrap();
            assert_eq!(entries(Some(&json)), *expected, "{folder}");
        }
    }
    (label, report)
}

/// The layers with these types, at a version.
fn with(version: &str, choose: impl Fn(&str) -> bool) -> Vec<String> {
    let mut all: Vec<String> =
        LAYERS.iter().filter(|name| choose(name)).map(|name| format!("{name} {version}")).collect();
    all.sort();
    all
}

fn is_launch(name: &str) -> bool {
    name.contains('l')
}

/// Whether the report has it: what is built with, and what is neither built with nor launched.
fn is_reported(name: &str) -> bool {
    name.contains('b') || !is_launch(name)
}

#[test]
fn types_and_fate_of_a_layer_decide_where_its_entries_are() {
    let each = |verb: &str, version: &str| {
        LAYERS.iter().map(|name| format!("{verb} {name} {version}\n")).collect::<String>()
    };
    for api in PLATFORM {
        for is_kept in [true, false] {
            let world = World::new(api);
            world.only(&buildpack(NEWEST, &each("make", "1")));
            world.until("exporter");
            assert_eq!(told(&world), (with("1", is_launch), with("1", is_reported)), "{api}");
            // The next build takes over what came back, and nothing else.
            let comes_back = |name: &str| match (is_kept, name) {
                (_, "l") => true,
                (true, name) => name.contains('c'),
                (false, _) => false,
            };
            for (verb, version, has) in
                [("reuse", "1", &comes_back as &dyn Fn(&str) -> bool), ("make", "2", &|_: &str| true)]
            {
                world.next_build();
                if !is_kept {
                    world.remove("cache/committed");
                }
                world.only(&buildpack(NEWEST, &each(verb, version)));
                world.until("exporter");
                let expected = (
                    with(version, |name| is_launch(name) && has(name)),
                    with(version, |name| is_reported(name) && has(name)),
                );
                assert_eq!(told(&world), expected, "{api}: {verb}, cache kept: {is_kept}");
            }
            // The last word is the rebuilt layer's, also when that is nothing.
            world.next_build();
            world.only(&buildpack(NEWEST, &each("plain", "")));
            world.until("exporter");
            assert_eq!(told(&world), (Vec::new(), Vec::new()), "{api}");
            // Nor does the next build find any in what the image says.
            world.next_build();
            world.until("exporter");
            no_key(&world, *api);
        }
    }
}

/// Nothing shows that entries of layers exist.
#[track_caller]
fn no_key(world: &World, api: PlatformApi) {
    let label = world.build_metadata();
    let expected = (api < PlatformApi::V0_9).then_some(&Value::Null);
    assert_eq!(label.get("bom"), expected, "{api}");
    let cache = "cache/committed/io.buildpacks.lifecycle.cache.metadata";
    for text in [
        world.read("layers/config/metadata.toml"),
        world.read("layers/report.toml"),
        world.read("layers/analyzed.toml"),
        world.read(cache),
        world.metadata().to_string(),
    ] {
        let has_key = ["\"bom\"", "[bom", ".bom]"].iter().any(|key| text.contains(key));
        assert!(!has_key, "{api}: {text}");
    }
}

/// Made; cached and reused; the cache lost, but the launch layer reused; rebuilt with other contents.
#[test]
fn the_bill_of_materials_is_true_for_every_build() {
    for api in [BUILDPACK, &[NEWEST]].concat() {
        let world = World::new(PlatformApi::NEWEST);
        // As buildpacks do it: what is there in the wanted version is taken over, else it is made.
        world.only(&buildpack(
            api,
            r#"version=$(cat $P/env/VERSION)
            for layer in l bc lbc; do
                if grep -q "v = \"$version\"" $L/$layer.toml; then echo "reusing $layer"; reuse $layer; else make $layer $version; fi
            done"#,
        ));
        for (version, is_cache_lost, reused) in
            [("1", false, ""), ("1", false, "l bc lbc"), ("1", true, "l"), ("2", false, "")]
        {
            world.write("platform/env/VERSION", version);
            if is_cache_lost {
                world.remove("cache/committed");
            }
            world.until("restorer");
            let log = world.run("builder", &[]).ok().to_owned();
            let found: Vec<_> = log.lines().filter_map(|line| line.strip_prefix("reusing ")).collect();
            assert_eq!(found.join(" "), reused, "{api}: {log}");
            world.export(&["app"]).ok();
            let expected = (
                with(version, |name| ["l", "lbc"].contains(&name)),
                with(version, |name| ["bc", "lbc"].contains(&name)),
            );
            assert_eq!(told(&world), expected, "{api}: version {version}, cache lost: {is_cache_lost}");
            world.next_build();
        }
    }
}

#[test]
fn entries_of_a_layer_stand_with_those_of_the_build() {
    let bom = "printf '[[bom]]\\nname = \"%s\"\\n'";
    for api in PLATFORM {
        let world = World::new(api);
        world.only(&buildpack(
            NEWEST,
            &format!("make lb 1; {bom} launched > $L/launch.toml; {bom} used > $L/build.toml"),
        ));
        world.until("exporter");
        let names = |list: &Value| -> BTreeMap<String, Option<String>> {
            let text = |value: &Value| value.as_str().map(str::to_owned);
            let each = |entry: &Value| (text(&entry["name"]).unwrap(), text(&entry["layer"]));
            list.as_array().unwrap().iter().map(each).collect()
        };
        let expected = |own: &str| BTreeMap::from([(own.into(), None), ("in lb".into(), Some("lb".into()))]);
        assert_eq!(names(&world.build_metadata()["bom"]), expected("launched"), "{api}");
        let report: Value = serde_json::to_value(world.toml("layers/report.toml")).unwrap();
        assert_eq!(names(&report["build"]["bom"]), expected("used"), "{api}");
    }
}

#[test]
fn an_entry_that_is_not_right_is_told_with_file_and_buildpack() {
    for (bom, expected) in [
        ("[[bom]]\\n[bom.metadata]\\nx = 1", "bom entry 1 has no name"),
        ("[[bom]]\\nname = \"x\"\\nversion = \"1\"", "metadata.version"),
        ("[[bom]]\\nname = 3", "line 2, column"),
        ("bom = \"x\"", "line 1, column"),
    ] {
        let world = World::new(PlatformApi::NEWEST);
        world.only(&Buildpack::new("some/bom", NEWEST).build(&format!("printf '{bom}\\n' > $L/x.toml")));
        world.build().fails(52, &["some/bom@1", "x.toml", expected]);
    }
    // Those of old have always been let pass.
    let world = World::new(PlatformApi::NEWEST);
    world.only(&Buildpack::new("some/bom", NEWEST).build("printf '[[bom]]\\n' > $L/launch.toml"));
    let log = world.build().ok().to_owned();
    let warning = "Warning: buildpack some/bom@1 wrote a [[bom]] entry without a name to launch.toml";
    assert!(log.contains(warning), "{log}");
}
