//! Sealed layers, with the program that made them necessary: Python, which writes beside the modules that it loads.

use crate::bench::{Bench, Buildpack, Done};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use serde_json::Value;
use std::fs;
use std::process::Stdio;

/// Provides this machine's Python and the modules that [`pip`] uses, not yet compiled, as a distribution does.
fn python() -> Buildpack {
    Buildpack::new("e2e/python").build(
        r#"
        layer cpython build launch
        lib=$(python3 -c 'import json, os; print(os.path.dirname(os.path.dirname(json.__file__)))')
        to=$layers/cpython/lib/${lib##*/}
        mkdir -p "$layers/cpython/bin" "$to" "$layers/cpython/env.build"
        cp "$(readlink -f "$(command -v python3)")" "$layers/cpython/bin/python3"
        python3 -S -c 'import json, sys; [print(m.__file__) for m in sys.modules.values() if getattr(m, "__file__", None)]' |
            sed -n "s|^$lib/||p" | tar -C "$lib" -T - -cf - | tar -C "$to" -mxf -
        cp "$lib"/encodings/*.py "$to/encodings"
        # Another time in every build, as an installation has it: it is in what Python compiles.
        find "$to" -name '*.py' -exec touch -d "@$(( $(date +%s%N) / 1000 % 1000000000 ))" {} +
        echo -n "$layers/cpython" >"$layers/cpython/env.build/PYTHONHOME"
        "#,
    )
}

/// Uses it.
fn pip() -> Buildpack {
    Buildpack::new("e2e/pip").build(
        r#"
        layer site launch
        [[ $(command -v python3) == /layers/e2e_python/cpython/bin/python3 ]]
        python3 -S -c 'import json, sys; open(sys.argv[1], "w").write(json.dumps({"made": "by pip"}))' "$layers/site/module.json"
        "#,
    )
}

/// The events of a build under a policy.
fn build(bench: &Bench, arguments: &[&str]) -> Done {
    let all = [bench.add(&python()), bench.add(&pip())];
    bench.build(arguments, &all)
}

fn events(done: &Done) -> Vec<Value> {
    done.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The diffID of the interpreter's layer, and how many files pip changed in it.
fn interpreter(events: &[Value]) -> (String, u64) {
    let is_layer = |event: &&Value| event["event"] == "layer" && event["id"] == "e2e/python:cpython";
    let layer = events.iter().find(is_layer).unwrap();
    let changed = events.iter().filter(|event| event["event"] == "changed");
    let changed: Vec<&Value> =
        changed.map(|event| &event["changes"]).filter(|changes| changes["of"] != "app").collect();
    for changes in &changed {
        assert_eq!((&changes["by"], &changes["of"]), (&"e2e/pip@1.0.0".into(), &"e2e/python:cpython".into()));
        let files = changes["files"].as_array().unwrap();
        assert!(files.iter().any(|file| file["path"].as_str().unwrap().contains("__pycache__")), "{files:?}");
    }
    let count = changed.iter().map(|changes| changes["created"].as_u64().unwrap()).sum();
    (layer["diff_id"].as_str().unwrap().to_owned(), count)
}

#[test]
fn pythons_caches_do_not_change_the_layer_of_the_interpreter() {
    let bench = Bench::new();
    let of = |policy: &str| interpreter(&events(&build(&bench, &["--json", "--sealed-layers", policy]).ok()));
    let (first, told) = of("discard");
    assert!(told > 10, "{told}");
    assert_eq!(of("discard"), (first.clone(), told));
    let (kept, _) = of("warn");
    let (unseen, none) = of("off");
    assert!(kept != first && unseen != first && kept != unseen, "{first} {kept} {unseen}");
    assert_eq!(none, 0);
    let (default, _) = interpreter(&events(&build(&bench, &["--json"]).ok()));
    assert_eq!(default, first);
    let (zstd, _) = interpreter(&events(&build(&bench, &["--json", "--compression", "zstd:1"]).ok()));
    assert_eq!(zstd, first);
}

#[test]
fn a_person_is_told_who_changed_what() {
    let bench = Bench::new();
    let words = "buildpack e2e/pip@1.0.0 changed layer 'e2e/python:cpython': created lib/python";
    let done = build(&bench, &[]).ok();
    assert!(
        done.stdout.contains(words) && done.stdout.contains("the image will not have it so"),
        "{done:#?}"
    );
    let done = build(&bench, &["--sealed-layers", "warn"]).ok();
    assert!(format!("{}{}", done.stdout, done.stderr).contains(words), "{done:#?}");
    let done = build(&bench, &["--sealed-layers", "error"]);
    assert_eq!(done.code, 52, "{done:#?}");
    assert!(done.stderr.contains(words) && done.stderr.contains("__pycache__"), "{done:#?}");
    let done = build(&bench, &["--sealed-layers", "on"]);
    assert!(done.code != 0 && done.stderr.contains("off, warn, discard and error"), "{done:#?}");
}

#[test]
fn a_trace_tells_what_was_changed_and_what_became_of_it() {
    let bench = Bench::new();
    for (policy, became) in [("discard", "(discarded)"), ("warn", "(the layer has it so)")] {
        build(&bench, &["--sealed-layers", policy]).ok();
        let trace = |arguments: &[&str]| {
            let all = [&["trace", "web", "--layout-dir", "images"], arguments].concat();
            Done::of(bench.strata(all)).ok()
        };
        let words = "buildpack e2e/pip@1.0.0 changed layer 'e2e/python:cpython': created lib/python";
        for arguments in [&["--why"][..], &["--layer", "cpython"]] {
            let done = trace(arguments);
            let line = done.stdout.lines().find(|line| line.contains(words));
            assert!(line.is_some_and(|line| line.ends_with(became)), "{policy}: {done:#?}");
        }
        let json: Value = serde_json::from_str(&trace(&["--layer", "cpython", "--json"]).stdout).unwrap();
        assert_eq!(json["layer"]["changes"][0]["by"], "e2e/pip@1.0.0", "{json}");
        let done = trace(&["--layer", "site"]);
        assert!(!done.stdout.contains(words), "{done:#?}");
    }
}

#[test]
fn the_operator_of_a_builder_has_a_word() {
    let bench = Bench::new();
    let all = [bench.add(&python()), bench.add(&pip())];
    let order = "[[order]]\n[[order.group]]\nid = \"e2e/python\"\nversion = \"1.0.0\"\n[[order.group]]\nid = \"e2e/pip\"\nversion = \"1.0.0\"\n";
    for (table, code) in [
        ("[sealed-layers]\npolicy = \"error\"\n", 52),
        (
            "[sealed-layers]\npolicy = \"error\"\n[[sealed-layers.buildpacks]]\nid = \"e2e/python\"\npolicy = \"off\"\n",
            0,
        ),
    ] {
        let builder = bench.builder(&all, &format!("{order}{table}"));
        let done = bench.build(&["--builder", builder.to_str().unwrap()], &[]);
        assert_eq!(done.code, code, "{table}: {done:#?}");
    }
}

/// How many bytes a build and all its processes read and wrote.
#[track_caller]
fn counted(bench: &Bench, buildpacks: &[std::path::PathBuf], arguments: &[&str]) -> [u64; 2] {
    let mut child = bench
        .build_command(&[&["-t", "web"], arguments].concat(), buildpacks)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    // Counters are there until somebody has asked how the process ended.
    let pid = Pid::from_child(&child);
    waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).unwrap();
    let io = fs::read_to_string(format!("/proc/{}/io", pid.as_raw_nonzero())).unwrap();
    assert!(child.wait().unwrap().success());
    ["rchar: ", "wchar: "]
        .map(|key| io.lines().find_map(|line| line.strip_prefix(key)).unwrap().parse().unwrap())
}

#[test]
fn a_restored_layer_that_nobody_changed_is_not_read_to_be_sealed() {
    const LAYER: u64 = 100 * 1024 * 1024;
    let bench = Bench::new();
    let all = [
        bench.add(&Buildpack::new("e2e/big").build(
            r#"
            [[ -d $layers/big ]] && echo restored || { mkdir "$layers/big"; for n in {1..25}; do head -c 4M /dev/zero >"$layers/big/$n"; done; }
            layer big build launch cache
            "#,
        )),
        bench.add(&Buildpack::new("e2e/small").build("layer small launch; cat /layers/e2e_big/big/1 >/dev/null")),
    ];
    let first = counted(&bench, &all, &[]);
    // To restore a layer is to read and to write it.
    let [read, written] = counted(&bench, &all, &["--sealed-layers", "off"]);
    for policy in ["discard", "warn", "error"] {
        let counted = counted(&bench, &all, &["--sealed-layers", policy]);
        assert!(first[0] > counted[0] + LAYER && first[1] > counted[1], "{policy}: {first:?} {counted:?}");
        assert!(
            counted[0] < read + LAYER / 20 && counted[1] < written + LAYER / 20,
            "{policy}: {counted:?}, without sealing [{read}, {written}]"
        );
    }
}
