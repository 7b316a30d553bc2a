//! What is in an image, as this program and as others read it.

use crate::bench::{Bench, Buildpack, Done, is_root, tool};
use serde_json::{Value, json};
use std::os::unix::fs::MetadataExt;

/// Layers of all types, with everything that the launcher looks at.
pub(crate) fn layers() -> Buildpack {
    Buildpack::new("e2e/layers").build(
        r#"
        probe
        layer launched launch
        mkdir -p "$layers/launched/env" "$layers/launched/env.launch/web" "$layers/launched/exec.d"
        echo -n both >"$layers/launched/env/FROM_ENV"
        echo -n launch >"$layers/launched/env.launch/FROM_LAUNCH"
        echo -n fallback >"$layers/launched/env.launch/FALLBACK.default"
        echo -n web >"$layers/launched/env.launch/web/FROM_WEB"
        cp "$CNB_BUILDPACK_DIR/probe" "$layers/launched/exec.d/probe"
        printf '[metadata]\nb = 1\na = ["x", { y = true }]\n' >>"$layers/launched.toml"
        layer built build
        layer cached cache
        layer all launch build cache
        layer none
        mkdir -p "$layers/undescribed"
        echo made >made-by-build
        printf '[metadata]\nkept = "yes"\n' >"$layers/store.toml"
        cat >"$layers/launch.toml" <<-TOML
		[[processes]]
		type = "web"
		command = ["probe", "env"]
		default = true
		[[processes]]
		type = "other"
		command = ["probe"]
		args = ["where"]
		working-dir = "/layers"
		[[labels]]
		key = "e2e.label"
		value = "a <value>"
		[[slices]]
		paths = ["assets/**", "made-*"]
		[[slices]]
		paths = ["nothing/*"]
		TOML
        "#,
    )
}

fn built() -> Bench {
    let bench = Bench::new();
    bench.write("app/assets/deep/logo", "logo");
    let buildpack = bench.add(&layers());
    bench.build(&[], &[buildpack]).ok();
    bench
}

#[test]
fn only_launch_layers_are_in_the_image() {
    let bench = built();
    let image = bench.inspect();
    let by: Vec<&str> =
        image["layers"].as_array().unwrap().iter().map(|l| l["createdBy"].as_str().unwrap()).collect();
    let layer = |name: &str| format!("Layer: '{name}', Created by buildpack: e2e/layers@1.0.0");
    assert_eq!(by[1..4], [layer("all"), layer("launched"), layer("probe")]);
    assert_eq!(by[4..6], ["Software Bill-of-Materials", "Application Slice: 1"]);
    assert_eq!(
        by[by.len() - 3..],
        ["Buildpacks Application Launcher", "Buildpacks Launcher Config", "Buildpacks Process Types"]
    );
    assert_eq!(image["defaultProcess"], "web");
    assert_eq!(image["entrypoint"], json!(["/cnb/process/web"]));
    assert_eq!(image["workingDir"], "/workspace");
    assert_eq!(image["user"], "1000:1000");
    assert_eq!(image["created"], "1980-01-01T00:00:01Z");
}

#[test]
fn labels_say_what_is_in_the_image() {
    let bench = built();
    let config = bench.config();
    assert_eq!(config["config"]["Labels"]["e2e.label"], "a <value>");
    let label = bench.label("io.buildpacks.lifecycle.metadata");
    let buildpack = &label["buildpacks"][0];
    assert_eq!((&buildpack["key"], &buildpack["version"]), (&json!("e2e/layers"), &json!("1.0.0")));
    assert_eq!(buildpack["store"], json!({"metadata": {"kept": "yes"}}));
    let layers = buildpack["layers"].as_object().unwrap();
    assert_eq!(layers.keys().collect::<Vec<_>>(), ["all", "launched", "probe"]);
    assert_eq!(layers["launched"]["data"], json!({"a": ["x", {"y": true}], "b": 1}));
    let types = |name: &str| {
        [&layers[name]["launch"], &layers[name]["build"], &layers[name]["cache"]].map(Clone::clone)
    };
    assert_eq!(types("all"), [json!(true), json!(true), json!(true)]);
    assert_eq!(types("launched"), [json!(true), json!(false), json!(false)]);
    // Two slices and what is in neither.
    assert_eq!(label["app"].as_array().map(Vec::len), Some(3));
    let diff_ids = config["rootfs"]["diff_ids"].as_array().unwrap();
    let named = [&label["launcher"]["sha"], &label["config"]["sha"], &label["process-types"]["sha"]];
    for sha in named.into_iter().chain(layers.values().map(|layer| &layer["sha"])) {
        assert!(diff_ids.contains(sha), "{sha}");
    }
    let build = bench.label("io.buildpacks.build.metadata");
    let kinds: Vec<&Value> = build["processes"].as_array().unwrap().iter().map(|p| &p["type"]).collect();
    assert_eq!(kinds, ["other", "web"]);
    assert_eq!(build["processes"][0]["working-dir"], "/layers");
    assert_eq!(build["buildpacks"][0]["id"], "e2e/layers");
}

/// Gives the image annotations.
pub(crate) fn annotating(id: &str, pairs: &[(&str, &str)]) -> Buildpack {
    let table = |(key, value): &(&str, &str)| {
        format!("echo '[[annotations]]\nkey = \"{key}\"\nvalue = \"{value}\"' >>$layers/launch.toml\n")
    };
    Buildpack::new(id).build(&pairs.iter().map(table).collect::<String>())
}

#[test]
fn annotations_are_on_the_manifest_and_in_the_index() {
    let bench = Bench::new();
    let first = bench.add(&annotating("e2e/first", &[("a", "first"), ("b", "first"), ("c", "first")]));
    let second = bench.add(&annotating("e2e/second", &[("b", "second"), ("c", "second")]));
    bench.build(&["--annotation", "c=mine", "--annotation", "d=x=y"], &[first, second]).ok();
    let expected = json!({"a": "first", "b": "second", "c": "mine", "d": "x=y"});
    assert_eq!(bench.inspect()["annotations"], expected);
    let raw: Value =
        serde_json::from_str(&tool("skopeo", &["inspect", "--raw", &format!("oci:{}", bench.web())]))
            .unwrap();
    assert_eq!(raw["annotations"], expected);
    let (layout, _) =
        bench.web().rsplit_once(':').map(|(dir, tag)| (dir.to_owned(), tag.to_owned())).unwrap();
    let index = std::fs::read_to_string(format!("{layout}/index.json")).unwrap();
    let index: Value = serde_json::from_str(&index).unwrap();
    let entry = &index["manifests"][0]["annotations"];
    assert_eq!(entry["org.opencontainers.image.ref.name"], "latest");
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(&entry[key], value);
    }
    let shown = Done::of(bench.strata(["inspect", "web", "--layout-dir", "images"])).ok();
    shown.says("Annotations\n  a: first\n  b: second\n");
}

#[test]
fn the_name_in_the_index_is_for_nobody_to_annotate() {
    let bench = Bench::new();
    let key = "org.opencontainers.image.ref.name";
    let naming = bench.add(&annotating("e2e/naming", &[(key, "other")]));
    let done = bench.build(&[], std::slice::from_ref(&naming));
    let said =
        format!("buildpack e2e/naming@1.0.0 left a launch.toml that cannot be used: annotation '{key}'");
    assert!(done.code == 52 && done.stderr.contains(&said), "{done:#?}");
    let done = bench.build(&["--annotation", &format!("{key}=other")], &[naming]);
    assert!(done.code != 0 && done.stderr.contains("is not for an image to have"), "{done:#?}");
    assert!(!bench.has_image());
}

#[test]
fn the_launcher_takes_variables_from_layers() {
    let bench = built();
    let env = bench.run(&[]).ok();
    let lines: Vec<&str> = env.stdout.lines().collect();
    let path = lines.iter().find(|line| line.starts_with("PATH=")).unwrap();
    assert!(path.contains("/layers/e2e_layers/probe/bin:"), "{path}");
    for expected in
        ["FROM_ENV=both", "FROM_LAUNCH=launch", "FALLBACK=fallback", "FROM_WEB=web", "FROM_EXEC_D=yes"]
    {
        assert!(lines.contains(&expected), "{expected}: {env:#?}");
    }
    let env = bench.run(&["--env", "FALLBACK=mine"]).ok();
    assert!(env.stdout.lines().any(|line| line == "FALLBACK=mine"), "{env:#?}");
    let place = bench.run(&["--process-type", "other"]).ok();
    assert!(place.stdout.starts_with("/layers\n"), "{place:#?}");
}

#[test]
fn other_tools_read_and_unpack_the_image() {
    let bench = built();
    let image = bench.inspect();
    let seen: Value =
        serde_json::from_str(&tool("skopeo", &["inspect", &format!("oci:{}", bench.web())])).unwrap();
    assert_eq!(seen["Digest"], image["digest"]);
    let bundle = bench.path("bundle");
    let mut args = vec!["unpack", "--image"];
    let web = bench.web();
    args.push(&web);
    if !is_root() {
        args.push("--rootless");
    }
    args.push(bundle.to_str().unwrap());
    tool("umoci", &args);
    let root = bundle.join("rootfs");
    let read =
        |path: &str| std::fs::read_to_string(root.join(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
    assert_eq!(read("workspace/marker"), bench.marker());
    assert_eq!(read("workspace/assets/deep/logo"), "logo");
    assert_eq!(read("workspace/made-by-build"), "made\n");
    assert_eq!(read("layers/e2e_layers/launched/env.launch/web/FROM_WEB"), "web");
    assert!(read("layers/config/metadata.toml").contains("e2e/layers"));
    for absent in ["built", "cached", "none", "undescribed"] {
        assert!(!root.join("layers/e2e_layers").join(absent).exists(), "{absent}");
    }
    let link = std::fs::read_link(root.join("cnb/process/web")).unwrap();
    assert_eq!(link.to_str(), Some("/cnb/lifecycle/launcher"));
    if is_root() {
        let owner =
            |path: &str| root.join(path).metadata().map(|m| (m.uid(), m.gid(), m.mode() & 0o7777)).unwrap();
        assert_eq!(owner("workspace/marker"), (1000, 1000, 0o644));
        assert_eq!(owner("layers/e2e_layers/probe/bin/probe"), (1000, 1000, 0o755));
        assert_eq!(owner("cnb/lifecycle/launcher"), (0, 0, 0o755));
    }
    assert_eq!(root.join("workspace/marker").metadata().unwrap().mtime(), 315_532_801);
}
