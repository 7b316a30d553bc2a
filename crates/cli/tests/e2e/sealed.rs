//! Sealed layers, with the program that made them necessary: Python, which writes beside the modules that it loads.

use crate::bench::{Bench, Buildpack, Done, tool};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

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

/// Nobody runs after the last buildpack who could change its layers, or read them while somebody else works.
#[test]
fn what_the_last_buildpack_makes_anew_is_read_once_and_written_once() {
    const LAYER: u64 = 64 * 1024 * 1024;
    let bench = Bench::new();
    let all = [bench.add(&Buildpack::new("e2e/anew").build(
        r#"
        mkdir -p "$layers/big"; rm -f "$layers/big/"[0-9]*
        for n in {1..16}; do head -c 4M /dev/zero >"$layers/big/$n"; echo "$n" >>"$layers/big/$n"; done
        echo once more >>"$layers/big/times"
        layer big cache
        "#,
    ))];
    counted(&bench, &all, &[]);
    let [read, written] = counted(&bench, &all, &[]);
    // The buildpack has read and written as much itself.
    assert!(read < 2 * LAYER + LAYER / 2, "{read}");
    assert!(written < 2 * LAYER + LAYER / 2, "{written}");
}

/// How the sandbox finds out what buildpacks do to sealed layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    /// Layers are set apart, and what was written is elsewhere.
    Uppers,
    /// By comparing: work folders are on an overlay, which cannot have another one's upper directories.
    Comparing,
}

/// Builds the image `web`; the events.
fn build_by(by: By, bench: &Bench, arguments: &[&str], all: &[PathBuf]) -> Done {
    let arguments = [&["-t", "web", "--json"], arguments].concat();
    let command = bench.build_command(&arguments, all);
    if by == By::Uppers {
        return Done::of(command);
    }
    let overlay = r#"
        mkdir -p overlay/lower overlay/upper overlay/work
        # The program may be below what is covered.
        touch overlay/program; mount --bind "$1" overlay/program; shift
        mount -t overlay -o userxattr,lowerdir=overlay/lower,upperdir=overlay/upper,workdir=overlay/work overlay /var/tmp
        exec "$PWD/overlay/program" "$@"
    "#;
    let mut wrapped = Command::new("unshare");
    wrapped.args(["--user", "--map-root-user", "--mount", "sh", "-ec", overlay, "sh"]);
    wrapped.arg(command.get_program()).args(command.get_args());
    wrapped.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    wrapped.current_dir(bench.path(".")).stdin(Stdio::null());
    Done::of(wrapped)
}

/// What the first buildpack makes.
const MAKE: &str = r#"
layer tool build launch cache; layer other launch
mkdir -p $layers/tool/bin $layers/tool/lib/sub; echo tool >$layers/tool/bin/tool; echo lib >$layers/tool/lib/lib
echo sub >$layers/tool/lib/sub/sub; ln -s bin/tool $layers/tool/link; echo other >$layers/other/file
echo '{"bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1}' >$layers/tool.sbom.cdx.json
"#;

const SBOMS: &str = "sbom-formats = [\"application/vnd.cyclonedx+json\", \"application/spdx+json\"]\n";

/// What a buildpack can do to the layers of another, and what is told of it: alike however it is found out.
const DEEDS: &[(&str, &[&str])] = &[
    ("cat $T/bin/tool; ls -R $T", &[]),
    ("echo more >>$T/bin/tool", &["a:tool: changed bin/tool"]),
    ("mkdir $T/cache; echo x >$T/cache/x", &["a:tool: created cache, created cache/x"]),
    ("rm $T/lib/lib", &["a:tool: deleted lib/lib"]),
    ("chmod 600 $T/bin/tool", &["a:tool: chmod bin/tool"]),
    ("chmod 700 $T/lib/sub", &["a:tool: chmod lib/sub"]),
    ("chmod 700 $T", &["a:tool: chmod "]),
    ("rm -r $T", &["a:tool: deleted "]),
    ("rm -r $T $T.toml", &["a:tool: deleted tool.toml, deleted "]),
    (
        "rm -r $A",
        &[
            "a:other: deleted other.toml, deleted ",
            "a:tool: deleted tool.sbom.cdx.json, deleted tool.toml, deleted ",
        ],
    ),
    ("echo x >$T/x; rm $T/x", &[]),
    // Opened to be written to, and not written to.
    (": >>$T/bin/tool", &[]),
    (
        "rm -r $T/lib; mkdir $T/lib; echo x >$T/lib/x",
        &["a:tool: deleted lib/lib, deleted lib/sub, created lib/x"],
    ),
    ("rm -r $T/lib; echo x >$T/lib", &["a:tool: changed lib, deleted lib/lib, deleted lib/sub"]),
    (
        "rm $T/lib/lib; mkdir $T/lib/lib; echo x >$T/lib/lib/x",
        &["a:tool: changed lib/lib, created lib/lib/x"],
    ),
    (
        "echo x >$T/.wh.bin; echo x >$T/lib/.wh..wh..opq",
        &["a:tool: created .wh.bin, created lib/.wh..wh..opq"],
    ),
    // Through a link of one's own that leads into the layer, and through one of the layer's.
    ("ln -s $T $layers/into; echo more >>$layers/into/lib/lib", &["a:tool: changed lib/lib"]),
    ("echo more >>$T/link", &["a:tool: changed bin/tool"]),
    ("ln -sfn lib $T/link", &["a:tool: changed link"]),
    ("mkdir $layers/own; ln $T/lib/lib $layers/own/lib || cp $T/lib/lib $layers/own/lib", &[]),
    ("ln $T/lib/lib $T/again", &["a:tool: created again"]),
    (
        "ln $T/lib/lib $A/other/lib && echo more >>$A/other/lib",
        &["a:other: created lib", "a:tool: changed lib/lib"],
    ),
    ("mv $T/lib/lib $A/other/lib", &["a:other: created lib", "a:tool: deleted lib/lib"]),
    ("mv $T/lib/sub $A/other/sub", &["a:other: created sub, created sub/sub", "a:tool: deleted lib/sub"]),
    ("mkdir $layers/own; mv $T/lib $layers/own/lib", &["a:tool: deleted lib"]),
    ("printf '[types]\\nlaunch = true\\n' >$T.toml", &["a:tool: changed tool.toml"]),
    ("cat $T.toml >toml; cat toml >$T.toml; rm toml", &[]),
    (
        "mkdir $A/new; printf '[types]\\nlaunch = true\\n' >$A/new.toml",
        &["a:new: created new.toml, created "],
    ),
    ("echo {} >$T.sbom.cdx.json", &["a:tool: changed tool.sbom.cdx.json"]),
    ("rm $T.sbom.cdx.json", &["a:tool: deleted tool.sbom.cdx.json"]),
    ("echo {} >$T.sbom.spdx.json", &["a:tool: created tool.sbom.spdx.json"]),
    ("echo '[[processes]]' >$A/launch.toml", &["a:launch: created launch.toml"]),
    (
        "touch -r $T/lib/lib t; echo bil >$T/lib/lib; touch -r t $T/lib/lib; rm t",
        &["a:tool: touched lib/lib"],
    ),
    ("(while :; do echo x >>$T/late; sleep 0.01; done) & sleep 0.1", &["a:tool: created late"]),
];

/// What only who has what was written can tell from a change: the same bytes, times and permissions again.
const UNDONE: &str = "chmod 600 $T/bin/tool; chmod 644 $T/bin/tool; mv $T/bin/tool $T/x; mv $T/x $T/bin/tool";

/// Nothing is left of the layer.
const GONE: &str = "rm -r $T";

/// What nobody can export, unless it is sealed.
const FATAL: &[&str] = &[GONE, "rm -r $A", "rm $T.sbom"];

/// For each deed a buildpack `a` with layers and a buildpack `b` that does it to them, in one build.
fn doing(bench: &Bench, deeds: &[&str]) -> Vec<PathBuf> {
    let make = |number| bench.add(&Buildpack::new(&format!("a{number}")).toml(SBOMS).build(MAKE));
    let deed = |(number, deed): (usize, &&str)| {
        let script = format!("A=/layers/a{number} T=$A/tool\n{deed}");
        bench.add(&Buildpack::new(&format!("b{number}")).build(&script))
    };
    (0..deeds.len())
        .map(make)
        .collect::<Vec<_>>()
        .into_iter()
        .chain(deeds.iter().enumerate().map(deed))
        .collect()
}

/// What is told of layers: `by of outcome: kind path, …`.
fn told(events: &[Value]) -> Vec<String> {
    let changed = events.iter().filter(|event| event["event"] == "changed").map(|event| &event["changes"]);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let line = |changes: &Value| {
        let files = changes["files"].as_array().unwrap().iter();
        let files: Vec<_> =
            files.map(|file| format!("{} {}", text(&file["kind"]), text(&file["path"]))).collect();
        let [by, of, outcome] = ["by", "of", "outcome"].map(|key| text(&changes[key]));
        format!("{by} {of} {outcome}: {}", files.join(", "))
    };
    changed.filter(|changes| changes["of"] != "app").map(line).collect()
}

/// What should be told of the deeds.
fn expected(deeds: &[(&str, &[&str])], outcome: &str) -> Vec<String> {
    let of_deed = |(number, (_, lines)): (usize, &(&str, &[&str]))| {
        let line = |line: &&str| {
            let (layer, files) = line.split_once(": ").unwrap();
            format!("b{number}@1.0.0 {} {outcome}: {files}", layer.replacen('a', &format!("a{number}"), 1))
        };
        lines.iter().map(line).collect::<Vec<_>>()
    };
    deeds.iter().enumerate().flat_map(of_deed).collect()
}

/// The layers that the first buildpacks have in the image, and the one with the SBOM files.
fn sealed(events: &[Value]) -> Vec<(String, String)> {
    let text = |event: &Value, key: &str| event[key].as_str().unwrap().to_owned();
    let layers = events.iter().filter(|event| event["event"] == "layer");
    let layers = layers.map(|event| (text(event, "id"), text(event, "diff_id")));
    layers.filter(|(id, _)| id.starts_with('a') || id.contains("sbom")).collect()
}

fn deeds_are_told(by: By) {
    let mut deeds: Vec<(&str, &[&str])> = DEEDS.to_vec();
    if by == By::Uppers {
        deeds.push((UNDONE, &[]));
    }
    let scripts: Vec<&str> = deeds.iter().map(|(script, _)| *script).collect();
    let run = |policy: &str, scripts: &[&str]| {
        let bench = Bench::new();
        let all = doing(&bench, scripts);
        let done = build_by(by, &bench, &["--sealed-layers", policy], &all);
        let apart = done.stdout.contains("cannot be set apart");
        assert_eq!(apart, by == By::Comparing && ["discard", "error"].contains(&policy), "{done:#?}");
        bench.is_clean_soon();
        done
    };
    let untouched = sealed(&events(&run("discard", &vec![""; deeds.len()]).ok()));
    assert_eq!(untouched.len(), 2 * deeds.len() + 1, "{untouched:?}");
    let done = events(&run("discard", &scripts).ok());
    assert_eq!(told(&done), expected(&deeds, "discarded"), "{by:?}");
    assert_eq!(sealed(&done), untouched, "{by:?}");
    for (deed, words) in [
        (GONE, "'a0:tool': deleted its folder"),
        ("echo x >$A/new; printf '[types]\nlaunch = true\n' >$T.toml", "'a0:tool': changed tool.toml"),
        ("mv $T/lib/lib $A/other/lib", "'a0:other': created lib"),
    ] {
        let done = run("error", &[deed]);
        assert_eq!(done.code, 52, "{done:#?}");
        assert!(done.stdout.contains("\"refused\""), "{done:#?}");
        assert!(done.stderr.contains(&format!("buildpack b0@1.0.0 changed layer {words}")), "{done:#?}");
    }
    run("error", &["cat $T/bin/tool; echo x >>$T/x; rm $T/x; echo x >own"]).ok();
    if by == By::Uppers {
        return;
    }
    // Nothing is set apart that is to be kept.
    let kept: Vec<_> = deeds
        .into_iter()
        .filter(|(script, _)| !FATAL.iter().any(|fatal| script.starts_with(fatal)))
        .collect();
    let scripts: Vec<&str> = kept.iter().map(|(script, _)| *script).collect();
    let done = events(&run("warn", &scripts).ok());
    assert_eq!(told(&done), expected(&kept, "kept"));
    assert!(told(&events(&run("off", &scripts).ok())).is_empty());
}

#[test]
fn what_is_written_to_layers_that_are_set_apart_is_told() {
    deeds_are_told(By::Uppers);
}

#[test]
fn what_is_written_is_told_where_layers_cannot_be_set_apart() {
    deeds_are_told(By::Comparing);
}

#[test]
fn no_buildpack_gets_at_what_is_set_apart_from_around_it() {
    // Each with what the second buildpack does, what the third one does, and what is told of that.
    for (first, second, third, expected) in [
        // What is written to the folder of one that is yet to run is there when it runs.
        (
            "",
            "mkdir -p /layers/c; echo x >/layers/c/x; echo more >>$T/lib/lib",
            "[[ $(cat /layers/c/x) == x ]]",
            "b@1.0.0 a:tool discarded: changed lib/lib",
        ),
        // The place where it is kept what is written.
        (
            "! mkdir /dev/.strata/{base,0,1,2,3}",
            "! mkdir /dev/.strata/{0,1,2,3}; ! ls /dev/.strata; ! chmod 700 /dev/.strata; echo more >>$T/lib/lib",
            "! umount /dev/.strata; ! unshare -rm umount /dev/.strata",
            "b@1.0.0 a:tool discarded: changed lib/lib",
        ),
        // A name for a file of a layer in a folder that is never set apart.
        (
            "ln $layers/tool/lib/lib $CNB_SHARED_LAYERS_DIR/lib",
            "echo more >>$CNB_SHARED_LAYERS_DIR/lib",
            "[[ $(tail -n 1 $T/lib/lib) == more ]]",
            "b@1.0.0 a:tool discarded: changed lib/lib",
        ),
        // To write to a file with two names makes a copy with one, and its time can be set.
        (
            "ln $layers/other/file $layers/other/link",
            "touch -r $T/../other/file t; echo rehto >$T/../other/file; touch -r t $T/../other/file; rm t",
            "[[ $(cat $T/../other/file) == rehto ]]",
            "b@1.0.0 a:other discarded: touched file",
        ),
    ] {
        let run = |second: &str, third: &str| {
            let bench = Bench::new();
            let all = [("a", format!("{MAKE}\n{first}")), ("b", second.to_owned()), ("c", third.to_owned())];
            let all = all.map(|(id, script)| {
                let detect = "mkdir /dev/.strata/base 2>/dev/null || true";
                let buildpack = Buildpack::new(id).toml(SBOMS).detect(detect);
                bench.add(&buildpack.build(&format!("T=/layers/a/tool\n{script}")))
            });
            let done = build_by(By::Uppers, &bench, &["--sealed-layers", "discard"], &all).ok();
            assert!(!done.stdout.contains("cannot be set apart"), "{done:#?}");
            bench.is_clean_soon();
            events(&done)
        };
        let untouched = sealed(&run("", ""));
        let done = run(second, third);
        assert_eq!(told(&done), [expected], "{second}");
        assert_eq!(sealed(&done), untouched, "{second}");
    }
}

#[test]
fn a_trace_tells_who_made_a_file_of_the_app() {
    let bench = Bench::new();
    bench.write("app/src/main", "main");
    bench.write("app/old", "old");
    let all = [
        bench.add(&Buildpack::new("e2e/install").build(
            "mkdir -p modules/a; echo a >modules/a/a; echo more >>src/main; rm old; layer deps launch; echo x >$layers/deps/x",
        )),
        bench.add(&Buildpack::new("e2e/compile").build(
            r#"
            echo b >modules/a/b; chmod 600 src/main; echo y >/layers/e2e_install/deps/y
            printf '[[slices]]\npaths = ["modules/**"]\n' >$layers/launch.toml
            "#,
        )),
    ];
    bench.build(&[], &all).ok();
    let trace = |path: &str| Done::of(bench.strata(["trace", "web", path, "--layout-dir", "images"])).stdout;
    let said = |path: &str| -> Vec<String> {
        let trace = trace(path);
        trace.lines().filter_map(|line| Some(line.strip_prefix("  buildpack")?.trim().to_owned())).collect()
    };
    for (path, expected) in [
        ("/workspace/modules/a/a", &["e2e/install@1.0.0 created it with modules"][..]),
        ("/workspace/modules/a/b", &["e2e/compile@1.0.0 created it"]),
        ("/workspace/src/main", &["e2e/install@1.0.0 changed it", "e2e/compile@1.0.0 changed its mode"]),
        ("/workspace/old", &["e2e/install@1.0.0 deleted it"]),
        ("/workspace/marker", &[]),
        ("/layers/e2e_install/deps/x", &[]),
        ("/layers/e2e_install/deps/y", &["e2e/compile@1.0.0 created it (discarded)"]),
    ] {
        assert_eq!(said(path), expected, "{path}: {}", trace(path));
    }
}

/// Provides a Python that [`python.sh`](python.sh) made, with other times in each build, as an installation has it: they
/// are in what Python compiles.
const CPYTHON: &str = r#"
layer cpython build launch
cp -r "$CNB_BUILDPACK_DIR/tree/." $layers/cpython
find $layers/cpython/lib -name '*.py' -exec touch -d "@$(( $(date +%s%N) / 1000 % 1000000000 ))" {} +
mkdir $layers/cpython/env.build
echo -n $layers/cpython >$layers/cpython/env.build/PYTHONHOME
"#;

/// Installs a wheel of the app with it.
const INSTALL: &str = r#"
layer site launch
[[ $(command -v python3) == /layers/e2e_cpython/cpython/bin/python3 ]]
python3 -m pip install --no-index --no-cache-dir --disable-pip-version-check --find-links wheels --target $layers/site hello
PYTHONPATH=$layers/site python3 -c 'import hello; hello.greet()'
"#;

#[test]
fn the_layer_of_a_whole_python_is_the_same_after_pip_has_run() {
    let bench = Bench::new();
    let (cpython, install) = (Buildpack::new("e2e/cpython"), Buildpack::new("e2e/install"));
    let all = [bench.add(&cpython.build(CPYTHON)), bench.add(&install.build(INSTALL))];
    let (tree, wheels) = (all[0].join("tree"), bench.path("app/wheels"));
    tool(
        "bash",
        &["-c", include_str!("python.sh"), "python.sh", tree.to_str().unwrap(), wheels.to_str().unwrap()],
    );
    let build = |policy: &str| {
        let events = events(&bench.build(&["--json", "--sealed-layers", policy], &all).ok());
        assert!(events.iter().any(|event| event["line"] == "hello from a wheel"), "{events:#?}");
        let layer =
            events.iter().find(|event| event["event"] == "layer" && event["id"] == "e2e/cpython:cpython");
        let diff_id = layer.unwrap()["diff_id"].as_str().unwrap().to_owned();
        let changed =
            events.iter().filter(|event| event["event"] == "changed").map(|event| &event["changes"]);
        let of_python = changed.filter(|changes| changes["of"] == "e2e/cpython:cpython").cloned();
        (diff_id, of_python.collect::<Vec<_>>())
    };
    let (first, changes) = build("discard");
    let [changes] = &changes[..] else { panic!("{changes:#?}") };
    assert_eq!((&changes["by"], &changes["outcome"]), (&"e2e/install@1.0.0".into(), &"discarded".into()));
    assert!(changes["created"].as_u64().unwrap() > 100, "{changes:#?}");
    let paths: Vec<_> =
        changes["files"].as_array().unwrap().iter().map(|file| file["path"].as_str().unwrap()).collect();
    assert!(paths.iter().all(|path| path.contains("__pycache__")), "{paths:?}");
    assert_eq!(build("discard").0, first);
    let (one, other) = (build("off"), build("off"));
    assert!(one.0 != other.0 && one.0 != first && one.1.is_empty(), "{one:?} {other:?}");
}

#[test]
fn what_buildpacks_make_of_overlays_and_mounts_does_not_matter() {
    let bench = Bench::new();
    let all = [
        // Whatever overlays keep in extended attributes, and a whiteout.
        bench.add(&Buildpack::new("e2e/odd").build(
            r#"
            layer odd build launch; mkdir -p $layers/odd/a/b $layers/odd/c; echo a | tee $layers/odd/a/a $layers/odd/a/b/b >$layers/odd/plain
            python3 - $layers/odd <<'P'
import os, sys
top = sys.argv[1]
for path, name, value in [("/a", "opaque", b"y"), ("/a/b", "opaque", b"x"), ("/a/b/b", "whiteout", b"y"),
                          ("/c", "redirect", b"/../../etc"), ("/a/a", "metacopy", b""), ("", "origin", b"none")]:
    os.setxattr(top + path, "user.overlay." + name, value)
os.mknod(top + "/c/gone", 0o020644, os.makedev(0, 0))
P
            "#,
        )),
        bench.add(&Buildpack::new("e2e/foul").build(
            r#"
            cd /layers/e2e_odd/odd
            ls -laR . || true; cat plain
            echo new >a/new; mkdir c/new
            for deed in 'ls /dev/.strata' 'chmod 777 /dev/.strata' 'rmdir /dev/.strata' 'mv /dev/.strata /dev/other' \
                'umount /layers' 'mount --bind /etc /layers' 'mknod c/whiteout c 0 0'; do
                if $deed; then exit 1; fi
            done
            # Root in namespaces of its own.
            unshare --user --map-root-user --mount sh -c '
                umount /layers; umount /dev/.strata; umount --lazy /dev/.strata
                ls /dev/.strata/base && exit 1; ls /proc/1/root/layers && exit 1
                mount --bind /tmp /layers && echo hidden >/layers/hidden'
            [[ ! -e /layers/hidden ]]
            mv /layers/@strata /layers/moved 2>/dev/null || true
            (setsid bash -c 'while :; do echo x >>late; done' &)
            sleep 0.1
            "#,
        )),
        bench.add(&Buildpack::new("e2e/next").build(
            "cd /layers/e2e_odd/odd; [[ $(cat a/new) == new && -s late ]]; rm late; echo more >>plain; layer own launch",
        )),
    ];
    let layer = |all: &[PathBuf]| {
        let done = bench.build(&["--json"], all).ok();
        let events = events(&done);
        let layer = events.iter().find(|event| event["event"] == "layer" && event["id"] == "e2e/odd:odd");
        (layer.unwrap()["diff_id"].as_str().unwrap().to_owned(), told(&events), done.stdout)
    };
    let (alone, nothing, _) = layer(&all[..1]);
    assert!(nothing.is_empty());
    let (diff_id, told, stdout) = layer(&all);
    assert_eq!(diff_id, alone);
    assert_eq!(
        told,
        [
            "e2e/foul@1.0.0 e2e/odd:odd discarded: created a/new, created c/new, created late",
            "e2e/next@1.0.0 e2e/odd:odd discarded: deleted late, changed plain",
        ]
    );
    assert!(stdout.contains("left 1 process(es) running"), "{stdout}");
    bench.is_clean_soon();
}
