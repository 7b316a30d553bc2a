//! What would be built, without building.

use crate::bench::{Bench, Buildpack, Done};
use crate::builders::{Builder, run_image};
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;

fn plan(bench: &Bench, args: &[&str]) -> Done {
    let mut command = bench.strata(["plan", "app", "--layout-dir", "images"]);
    command.args(args);
    Done::of(command)
}

/// A provider, one that requires, and those that say no, cannot be run, err, and require what nobody provides.
fn buildpacks(bench: &Bench) -> Vec<PathBuf> {
    let build = "echo BUILT; touch /workspace/built";
    let add = |buildpack: Buildpack| bench.add(&buildpack.build(build));
    vec![
        add(Buildpack::new("e2e/node").detect(
            r#"echo '[[provides]]
name = "node"' >"$plan""#,
        )),
        add(Buildpack::new("e2e/app").detect(
            r#"test -e marker && echo '[[requires]]
name = "node"
[requires.metadata]
version = "22"' >"$plan""#,
        )),
        add(Buildpack::new("e2e/no").detect("echo not mine; exit 100")),
        add(Buildpack::new("e2e/errs").detect("echo oh dear; exit 3")),
        add(Buildpack::new("e2e/wants").detect(
            r#"echo '[[requires]]
name = "gold"' >"$plan""#,
        )),
        add(Buildpack::new("e2e/broken").detect(r#"echo 'requires = 3' >"$plan""#)),
    ]
}

fn order(groups: &[&str]) -> String {
    let mut text = String::new();
    for group in groups {
        text.push_str("[[order]]\n");
        for id in group.split(' ') {
            let optional = id.ends_with('?');
            let id = id.trim_end_matches('?');
            text.push_str(&format!("[[order.group]]\nid = \"e2e/{id}\"\noptional = {optional}\n"));
        }
    }
    text
}

#[test]
fn a_plan_says_who_takes_part_and_why() {
    let bench = Bench::new();
    let builder =
        bench.builder(&buildpacks(&bench), &order(&["wants app", "no app", "node app wants? no?", "app"]));
    let done = plan(&bench, &["--builder", builder.to_str().unwrap()]).ok();
    let squeezed = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let lines: Vec<String> = done.stdout.lines().map(squeezed).collect();
    for expected in [
        "Group 1 does not pass",
        "pass e2e/wants@1.0.0 yes gold",
        "e2e/wants@1.0.0 requires gold, which no buildpack before it provides",
        "Group 2 does not pass",
        "fail e2e/no@1.0.0 no (100)",
        "Group 3 passes",
        "pass e2e/node@1.0.0 yes node",
        "skip e2e/no@1.0.0 (optional) no (100)",
        "e2e/wants@1.0.0 requires gold, which no buildpack before it provides; the group goes on without it",
        "Takes part",
        "e2e/app@1.0.0",
        "node e2e/node@1.0.0 version = \"22\"",
    ] {
        assert!(lines.iter().any(|line| line == expected), "{expected}: {done:#?}");
    }
    assert!(!done.stdout.contains("BUILT") && !done.stdout.contains("Group 4"), "{done:#?}");
    // Nothing was built, and nothing is kept.
    assert!(!bench.has_image() && !bench.path("app/built").exists());
    assert!(
        !bench.path("home/.cache/strata/apps").exists(),
        "{:?}",
        fs::read_dir(bench.path("home/.cache/strata"))
    );
    bench.is_clean_soon();
}

#[test]
fn programs_read_the_plan_as_json() {
    let bench = Bench::new();
    let builder = bench.builder(&buildpacks(&bench), &order(&["errs broken?", "node app"]));
    let builder = builder.to_str().unwrap();
    let done = Done::of(bench.build_command(&["--builder", builder, "--dry-run", "--json"], &[])).ok();
    let found: Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(found["group"].as_array().unwrap().len(), 2);
    assert_eq!(found["group"][0]["id"], "e2e/node");
    assert_eq!(found["runImage"]["name"], "scratch");
    assert_eq!(
        found["plan"]["entries"][0]["requires"][0],
        json!({"name": "node", "metadata": {"version": "22"}})
    );
    let tried = &found["tried"];
    assert_eq!((&tried[0]["hasPassed"], &tried[1]["hasPassed"]), (&json!(false), &json!(true)));
    let errs = &tried[0]["buildpacks"][0];
    assert_eq!((&errs["code"], &errs["output"]), (&json!(3), &json!("oh dear\n")));
    let broken = &tried[0]["buildpacks"][1];
    assert!(broken["error"].as_str().unwrap().contains("build plan"), "{broken}");
    assert_eq!(tried[1]["buildpacks"][0]["plans"][0]["provides"], json!(["node"]));
    assert!(!bench.has_image());
}

#[test]
fn a_quiet_plan_is_who_takes_part() {
    let bench = Bench::new();
    let builder = bench.builder(&buildpacks(&bench), &order(&["no app", "node app", "app"]));
    let builder = builder.to_str().unwrap();
    let done = plan(&bench, &["--builder", builder, "--quiet"]).ok();
    assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("e2e/node@1.0.0\ne2e/app@1.0.0\n", ""));
    let builder = bench.builder(&buildpacks(&bench), &order(&["no"]));
    let done = plan(&bench, &["--builder", builder.to_str().unwrap(), "--quiet"]);
    assert_eq!((done.code, done.stdout.as_str()), (20, ""));
    assert!(done.stderr.contains("no group of buildpacks passes"), "{done:#?}");
}

#[test]
fn a_plan_without_a_group_fails_as_a_build_does() {
    let bench = Bench::new();
    let all = buildpacks(&bench);
    for (group, code, text) in [
        ("no", 20, "not mine"),
        ("errs", 21, "oh dear"),
        ("broken", 21, "build plan"),
        ("wants", 20, "requires gold"),
    ] {
        let builder = bench.builder(&all, &order(&[group]));
        let done = plan(&bench, &["--builder", builder.to_str().unwrap(), "--verbose"]);
        assert_eq!(done.code, code, "{done:#?}");
        assert!(
            done.stdout.contains(text) && done.stderr.contains("no group of buildpacks passes"),
            "{done:#?}"
        );
    }
    let builder = bench.builder(&all, "[[order]]\n[[order.group]]\nid = \"e2e/absent\"\n");
    let done = plan(&bench, &["--builder", builder.to_str().unwrap()]);
    assert!(done.code != 0 && done.stderr.contains("e2e/absent"), "{done:#?}");
    bench.is_clean_soon();
}

#[test]
fn a_plan_heeds_builder_images_and_the_project() {
    let bench = Bench::new();
    run_image(&bench);
    let all = buildpacks(&bench);
    Builder::new(&bench, "builder", &all[..2]).write();
    let text =
        "[_]\nschema-version = \"0.2\"\n[io.buildpacks]\nbuilder = \"oci:builder\"\ninclude = [\"none\"]\n";
    bench.write("app/project.toml", text);
    let done = plan(&bench, &["--run-image", "oci:run"]);
    // What detection looks for is left out.
    assert!(done.code == 21 && done.stdout.contains("builder    oci:builder  sha256:"), "{done:#?}");
    bench.write("app/project.toml", &text.replace("none", "marker"));
    plan(&bench, &["--run-image", "oci:run", "-t", "web", "--publish", "--report-output-dir", "out"])
        .ok()
        .says("Group 1 passes");
    assert!(!bench.path("out").exists() && !bench.has_image());
}
