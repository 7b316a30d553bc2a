//! Sealed layers: Strata's own; see `docs/sealed-layers.md`.

use crate::world::{Buildpack, Outcome, World};
use std::fs;
use std::process::Command;
use strata_spec::{BuildpackApi, PlatformApi};

const API: PlatformApi = PlatformApi::V0_15;
const BUILDPACK: BuildpackApi = BuildpackApi::V0_12;

/// What the first buildpack makes: a layer for all purposes.
const MAKE: &str = r#"
mkdir -p $L/tool/bin $L/tool/lib/sub; echo tool > $L/tool/bin/tool; echo lib > $L/tool/lib/lib; echo sub > $L/tool/lib/sub/sub
ln -sfn bin/tool $L/tool/link
printf '[types]\nbuild = true\nlaunch = true\ncache = true\n' > $L/tool.toml
mkdir -p $L/other; echo other > $L/other/file
printf '[types]\nlaunch = true\n' > $L/other.toml
sleep 0.02
"#;

/// A place with `a`, which makes layers, and `b`, which does something to them; `$T` is the layer `a:tool`.
fn world(script: &str) -> World {
    let world = World::new(API);
    world.add(&Buildpack::new("a", BUILDPACK).build(MAKE));
    world.add(&Buildpack::new("b", BUILDPACK).build(&format!("A=${{L%/*}}/a T=${{L%/*}}/a/tool\n{script}")));
    world.order(&[&["a", "b"]]);
    world
}

/// Builds and exports under a policy; the log of the builder.
#[track_caller]
fn build(world: &World, policy: &str) -> String {
    world.run("analyzer", &["app"]).ok();
    world.run("detector", &[]).ok();
    world.run("restorer", &[]).ok();
    let log = world.run("builder", &["-sealed-layers", policy]).ok().to_owned();
    world.export(&["app"]).ok();
    log
}

/// What the report says: `by of outcome: kind path, …`.
fn told(world: &World) -> Vec<String> {
    let report = world.toml("layers/report.toml");
    let Some(changes) = report.get("changes") else { return Vec::new() };
    let text = |value: &toml::Value, key: &str| value[key].as_str().unwrap().to_owned();
    let file = |file: &toml::Value| format!("{} {}", text(file, "kind"), text(file, "path"));
    let line = |change: &toml::Value| {
        let files: Vec<_> = change["files"].as_array().unwrap().iter().map(file).collect();
        format!(
            "{} {} {}: {}",
            text(change, "by"),
            text(change, "of"),
            text(change, "outcome"),
            files.join(", ")
        )
    };
    changes.as_array().unwrap().iter().map(line).collect()
}

/// Nothing can be exported after it, unless the layer is sealed.
const GONE: &str = "rm -r $T";

/// What a buildpack can do to the layers of another, and what is told of it.
const DEEDS: &[(&str, &[&str])] = &[
    ("", &[]),
    ("cat $T/bin/tool; ls -R $T", &[]),
    ("echo more >> $T/bin/tool", &["a:tool: changed bin/tool"]),
    ("mkdir $T/cache; echo x > $T/cache/x", &["a:tool: created cache, created cache/x"]),
    ("rm $T/lib/lib", &["a:tool: deleted lib/lib"]),
    ("chmod 755 $T/bin/tool", &["a:tool: chmod bin/tool"]),
    (GONE, &["a:tool: deleted "]),
    ("rm -r $T $T.toml", &["a:tool: deleted tool.toml, deleted "]),
    ("echo x > $T/x; rm $T/x", &[]),
    // Through a link of one's own that leads into the layer, and through one of the layer's.
    ("ln -s $T $L/into; echo more >> $L/into/lib/lib", &["a:tool: changed lib/lib"]),
    ("echo more >> $T/link", &["a:tool: changed bin/tool"]),
    ("ln -sfn lib $T/link", &["a:tool: changed link"]),
    // A link to a file of the layer is nothing; to write through it is.
    ("mkdir $L/own; ln $T/lib/lib $L/own/lib", &[]),
    ("mkdir $L/own; ln $T/lib/lib $L/own/lib; echo more >> $L/own/lib", &["a:tool: changed lib/lib"]),
    ("mv $T/lib/lib $A/other/lib", &["a:other: created lib", "a:tool: deleted lib/lib"]),
    ("mkdir $L/own; mv $T/lib $L/own/lib", &["a:tool: deleted lib"]),
    ("printf '[types]\\nlaunch = true\\n' > $T.toml", &["a:tool: changed tool.toml"]),
    (
        "mkdir $A/new; printf '[types]\\nlaunch = true\\n' > $A/new.toml",
        &["a:new: created new.toml, created "],
    ),
    (
        "touch -r $T/lib/lib t; echo bil > $T/lib/lib; touch -r t $T/lib/lib; rm t",
        &["a:tool: touched lib/lib"],
    ),
];

#[test]
fn what_is_changed_is_told_and_kept_under_warn() {
    for (deed, expected) in DEEDS.iter().filter(|(deed, _)| *deed != GONE) {
        let world = world(deed);
        let log = build(&world, "warn");
        let expected: Vec<_> = expected.iter().map(|line| line.replacen(": ", " kept: ", 1)).collect();
        let expected: Vec<_> = expected.iter().map(|line| format!("b@1 {line}")).collect();
        assert_eq!(told(&world), expected, "{deed}");
        assert_eq!(
            log.matches("Warning: buildpack b@1 changed layer").count(),
            expected.len(),
            "{deed}: {log}"
        );
    }
}

#[test]
fn a_layer_that_is_gone_is_gone_unless_it_is_sealed() {
    for policy in ["off", "warn"] {
        let world = world(GONE);
        world.run("analyzer", &["app"]).ok();
        world.run("detector", &[]).ok();
        world.run("builder", &["-sealed-layers", policy]).ok();
        world.export(&["app"]).fails(62, &["'a:tool'", "has no contents"]);
    }
}

#[test]
fn nobody_looks_under_off() {
    for (deed, _) in DEEDS.iter().filter(|(deed, _)| *deed != GONE) {
        let world = world(deed);
        let log = build(&world, "off");
        assert!(told(&world).is_empty() && !log.contains("changed"), "{deed}: {log}");
    }
}

#[test]
fn what_is_changed_ends_the_build_under_error() {
    for (deed, expected) in DEEDS {
        let world = world(deed);
        world.run("detector", &[]).ok();
        let outcome = world.run("builder", &["-sealed-layers", "error"]);
        let Some(first) = expected.first() else {
            outcome.ok();
            continue;
        };
        let (layer, files) = first.split_once(": ").unwrap();
        let files =
            if files == "deleted " { "deleted its folder" } else { files.trim_end_matches(", deleted ") };
        outcome.fails(
            52,
            &[
                "failed to build",
                "buildpack b@1 changed",
                &format!("'{layer}'"),
                files,
                "Hint: layers are sealed",
            ],
        );
        assert!(!world.has("layers/config"), "{deed}");
    }
}

/// The layers of the image and of the cache, by their names.
fn layers(world: &World) -> Vec<String> {
    let cache: serde_json::Value =
        serde_json::from_str(&world.read("cache/committed/io.buildpacks.lifecycle.cache.metadata")).unwrap();
    let mut layers = Vec::new();
    for (place, metadata) in [("image", world.metadata()), ("cache", cache)] {
        for buildpack in metadata["buildpacks"].as_array().unwrap() {
            for (name, layer) in buildpack["layers"].as_object().unwrap() {
                let (sha, types) = (&layer["sha"], [&layer["build"], &layer["launch"], &layer["cache"]]);
                layers.push(format!("{place} {}:{name} {sha} {types:?}", buildpack["key"]));
            }
        }
    }
    layers
}

#[test]
fn what_is_changed_is_told_and_not_exported_under_discard() {
    for (deed, expected) in DEEDS {
        let world = world("");
        build(&world, "off");
        let before = layers(&world);
        assert_eq!(before.len(), 3, "{before:?}");
        world
            .add(&Buildpack::new("b", BUILDPACK).build(&format!("A=${{L%/*}}/a T=${{L%/*}}/a/tool\n{deed}")));
        // Nothing is there that could be reused instead.
        for path in ["cache/committed", "images/index.docker.io/library/app"] {
            world.remove(path);
        }
        world.next_build();
        let log = build(&world, "discard");
        assert_eq!(layers(&world), before, "{deed}");
        let expected: Vec<_> =
            expected.iter().map(|line| format!("b@1 {}", line.replacen(": ", " discarded: ", 1))).collect();
        assert_eq!(told(&world), expected, "{deed}");
        assert!(!log.contains("Warning: buildpack"), "{deed}: {log}");
        // And again, with all that could be reused.
        world.next_build();
        build(&world, "discard");
        assert_eq!(layers(&world), before, "{deed}");
    }
}

#[test]
fn what_follows_sees_the_changes_even_when_they_are_discarded() {
    let world = world("echo more >> $T/bin/tool; printf 'x = 1\\n' >> $A/store.toml");
    world.add(&Buildpack::new("c", BUILDPACK).build("cat ${L%/*}/a/tool/bin/tool"));
    world.order(&[&["a", "b", "c"]]);
    let log = build(&world, "discard");
    assert!(log.contains("tool\nmore\n"), "{log}");
    assert_eq!(
        told(&world),
        ["b@1 a:store discarded: created store.toml", "b@1 a:tool discarded: changed bin/tool"]
    );
    assert!(!world.has("layers/a/store.toml"));
}

/// Puts in the place of the sealed bytes of a layer what a platform or a process could have put there.
#[test]
fn sealed_bytes_that_were_touched_are_refused_and_those_that_are_gone_are_done_without() {
    type Deed = (&'static str, fn(&World), Result<&'static str, &'static str>);
    let blob = "layers/@exported/a/tool.blob";
    let deeds: [Deed; 6] = [
        ("none", |_| {}, Ok("")),
        ("all are gone", |world| world.remove("layers/@exported"), Ok("")),
        ("the blob is gone", |world| world.remove("layers/@exported/a/tool.blob"), Ok("are gone")),
        (
            "other bytes",
            |world| {
                let blob = "layers/@exported/a/tool.blob";
                let mut bytes = fs::read(world.path(blob)).unwrap();
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                world.write(blob, bytes);
            },
            Err("have the digest"),
        ),
        ("fewer bytes", |world| world.write("layers/@exported/a/tool.blob", "x"), Err("bytes came")),
        ("no record", |world| world.write("layers/@exported/a/tool.json", "{"), Err("cannot understand")),
    ];
    for (name, deed, expected) in deeds {
        let world = world("echo more >> $T/bin/tool");
        world.run("analyzer", &["app"]).ok();
        world.run("detector", &[]).ok();
        world.run("builder", &["-sealed-layers", "discard"]).ok();
        assert!(world.has(blob));
        deed(&world);
        let outcome = world.export(&["app"]);
        match expected {
            Ok(words) => assert!(outcome.ok().contains(words), "{name}: {}", outcome.out),
            Err(words) => drop(outcome.fails(62, &["failed to export", "a:tool", words])),
        }
    }
}

#[test]
fn what_is_done_after_the_last_look_is_found_once_nobody_is_left() {
    // The layer of the last buildpack is packed after that look, and takes its time.
    let script = r#"
        mkdir $L/own; head -c 30000000 /dev/urandom > $L/own/big; printf '[types]\nlaunch = true\n' > $L/own.toml
        (
            until [ "$(find ${L%/*}/@exported -type f | wc -l)" -ge 3 ]; do :; done
            echo more >> $T/bin/tool; echo '[metadata]' >> $T.toml; echo '{}' > $T.sbom.cdx.json
        ) >&- 2>&- &
    "#;
    for policy in ["warn", "discard", "error"] {
        let world = world(script);
        world.run("analyzer", &["app"]).ok();
        world.run("detector", &[]).ok();
        let outcome = world.run("builder", &["-sealed-layers", policy]);
        if policy == "error" {
            outcome.fails(52, &["buildpack b@1 changed layer 'a:tool'", "changed bin/tool"]);
            assert!(!world.has("layers/config") && !world.has("layers/@exported/a/tool.json"));
            continue;
        }
        assert!(outcome.ok().contains("b@1 changed layer 'a:tool'"), "{}", outcome.out);
        let is_discarded = policy == "discard";
        assert_eq!(world.read("layers/a/tool.toml").contains("metadata"), !is_discarded);
        assert_eq!(world.has("layers/a/tool.sbom.cdx.json"), !is_discarded);
        world.export(&["app"]).ok();
        let became = if is_discarded { "discarded" } else { "kept" };
        let files = "created tool.sbom.cdx.json, changed tool.toml, changed bin/tool";
        assert_eq!(told(&world), [format!("b@1 a:tool {became}: {files}")]);
        let sha = world.metadata()["buildpacks"][0]["layers"]["tool"]["sha"].as_str().unwrap().to_owned();
        let tool = if is_discarded { "tool\n" } else { "tool\nmore\n" };
        assert!(world.files(&sha).values().any(|text| text == tool), "{policy}");
    }
}

#[test]
fn what_was_sealed_counts_as_long_as_the_document_of_the_build_has_its_time() {
    const KEPT: &str = "cp -a . ../copy";
    for (copy, is_known) in [
        (KEPT, true),
        // As archives have times.
        ("cp -a . ../copy; touch -d @$(stat -c %Y config/metadata.toml) ../copy/config/metadata.toml", true),
        ("cp -r . ../copy", false),
        ("cp -a . ../copy; touch -d 2001-02-03 ../copy/config/metadata.toml", false),
        ("cp -a . ../copy; touch -d tomorrow ../copy/config/metadata.toml", false),
    ] {
        for (policy, deed) in [("discard", "echo more >> $T/bin/tool"), ("error", "")] {
            let world = world(deed);
            world.run("analyzer", &["app"]).ok();
            world.run("detector", &[]).ok();
            world.run("builder", &["-sealed-layers", policy]).ok();
            let copied = Command::new("sh").args(["-ec", copy]).current_dir(world.path("layers")).status();
            assert!(copied.unwrap().success());
            world.remove("layers");
            fs::rename(world.path("copy"), world.path("layers")).unwrap();
            let outcome = world.export(&["app"]);
            let log = outcome.ok();
            assert_eq!(log.contains("'a/tool' are of another build"), !is_known, "{policy} {copy}: {log}");
            let words = "with whatever later buildpacks changed in it";
            assert_eq!(log.contains(words), !is_known && policy == "discard", "{policy} {copy}: {log}");
            let sha = world.metadata()["buildpacks"][0]["layers"]["tool"]["sha"].as_str().unwrap().to_owned();
            let tool = if is_known || deed.is_empty() { "tool\n" } else { "tool\nmore\n" };
            assert!(world.files(&sha).values().any(|text| text == tool), "{policy} {copy}");
        }
    }
}

#[test]
fn what_another_build_sealed_does_not_count() {
    // As builders leave it that do not know of sealed layers: another document, or the same one.
    for more in ["\n", ""] {
        let world = world("echo more >> $T/bin/tool");
        world.run("analyzer", &["app"]).ok();
        world.run("detector", &[]).ok();
        world.run("builder", &["-sealed-layers", "discard"]).ok();
        std::thread::sleep(std::time::Duration::from_millis(20));
        let metadata = world.read("layers/config/metadata.toml");
        world.write("layers/config/metadata.toml", format!("{metadata}{more}"));
        let outcome = world.export(&["app"]);
        outcome.ok();
        let warning = "Warning: the sealed bytes of layer 'a/tool' are of another build";
        assert!(outcome.out.contains(warning), "{more:?} {}", outcome.out);
        let sha = world.metadata()["buildpacks"][0]["layers"]["tool"]["sha"].as_str().unwrap().to_owned();
        assert!(world.files(&sha).values().any(|text| text == "tool\nmore\n"));
        assert!(told(&world).is_empty());
        // Nor does it wait for a builder that makes the same document.
        assert!(world.has("layers/@exported/a/tool.json") && world.has("layers/@strata/changes.json"));
        world.run("restorer", &[]).ok();
        assert!(!world.has("layers/@exported") && !world.has("layers/@strata/changes.json"));
    }
}

#[test]
fn what_a_buildpack_writes_in_the_place_of_sealed_bytes_does_not_count() {
    let record = "mkdir -p ${L%/*}/@exported/a; echo '{}' > ${L%/*}/@exported/a/tool.json; echo x > ${L%/*}/@exported/a/tool.blob";
    for deed in [
        record,
        // The builder may be about to make the folder again.
        "until rm -rf ${L%/*}/@exported && ln -sT /nowhere ${L%/*}/@exported; do sleep 0.01; done",
        "mkdir -p ${L%/*}/@exported; ln -s .. ${L%/*}/@exported/a",
    ] {
        let world = world(deed);
        world.run("analyzer", &["app"]).ok();
        world.run("detector", &[]).ok();
        let outcome = world.run("builder", &["-sealed-layers", "discard"]);
        if deed == record {
            outcome.ok();
            world.export(&["app"]).ok();
            let sha = world.metadata()["buildpacks"][0]["layers"]["tool"]["sha"].as_str().unwrap().to_owned();
            let files = world.files(&sha);
            assert!(
                files.iter().any(|(path, text)| path.ends_with("/tool/bin/tool") && text == "tool\n"),
                "{files:?}"
            );
        } else {
            outcome.fails(52, &["cannot seal layer"]);
        }
        // Under warn nothing is sealed, and whoever looks for it follows no link.
        world.run("builder", &["-sealed-layers", "warn"]).ok();
        let outcome = world.export(&["app"]);
        if deed == record {
            outcome.ok();
        } else {
            outcome.fails(62, &["cannot use layer", "symbolic link"]);
        }
    }
}

#[test]
fn sealed_bytes_are_used_as_long_as_the_tree_is_what_they_were_made_of() {
    for (deed, is_used) in [("", true), ("echo more >> $T/bin/tool", false)] {
        let world = world(deed);
        world.run("analyzer", &["app"]).ok();
        world.run("detector", &[]).ok();
        world.run("builder", &["-sealed-layers", "warn"]).ok();
        world.remove("layers/a/other/file");
        // Whoever reads the blob of the tool finds it broken; whoever reads the tree does not look.
        world.write("layers/@exported/a/tool.blob", "x");
        let outcome = world.export(&["app"]);
        if is_used {
            outcome.fails(62, &["a:tool", "bytes came"]);
        } else {
            outcome.ok();
        }
    }
}

/// A second build of a layer that was restored and that its own buildpack left alone, before its export.
fn second_build(deed: &str) -> World {
    let world = world(deed);
    let types = "printf '[types]\\nbuild = true\\nlaunch = true\\ncache = true\\n' > $L/tool.toml";
    world.add(
        &Buildpack::new("a", BUILDPACK).build(&format!("if [ -d $L/tool ]; then {types}; exit; fi\n{MAKE}")),
    );
    build(&world, "discard");
    assert!(world.has("layers/@exported/a/tool.blob"));
    world.next_build();
    for program in ["analyzer", "detector", "restorer"] {
        world.run(program, if program == "analyzer" { &["app"] } else { &[] }).ok();
    }
    world.run("builder", &["-sealed-layers", "discard"]).ok();
    world
}

#[test]
fn a_layer_that_image_and_cache_have_is_not_copied() {
    for deed in ["", "echo more >> $T/bin/tool", GONE] {
        let world = second_build(deed);
        let before: Vec<_> = layers(&world).into_iter().filter(|line| line.contains("tool")).collect();
        assert_eq!(before.len(), 2, "{before:?}");
        assert!(world.has("layers/@exported/a/tool.json"), "the tests need ext4, XFS or Btrfs");
        assert!(!world.has("layers/@exported/a/tool.blob"), "{deed}");
        let outcome = world.export(&["app"]);
        let log = outcome.ok();
        for line in ["Reusing layer 'a:tool'", "Reusing cache layer 'a:tool'"] {
            assert!(log.contains(line), "{deed}: {log}");
        }
        let after: Vec<_> = layers(&world).into_iter().filter(|line| line.contains("tool")).collect();
        assert_eq!(after, before, "{deed}");
        assert_eq!(told(&world).len(), usize::from(!deed.is_empty()));
    }
}

#[test]
fn a_layer_that_image_and_cache_have_lost_is_packed_unless_it_was_changed() {
    let image = "images/index.docker.io/library/app";
    let world = second_build("");
    let before = layers(&world);
    world.remove(image);
    world.remove("cache/committed");
    let outcome = world.export(&["app"]);
    assert!(!outcome.ok().contains("Reusing"), "{}", outcome.out);
    assert_eq!(layers(&world).len() + 1, before.len());
    assert!(layers(&world).iter().all(|line| before.contains(line)), "{:?} {before:?}", layers(&world));

    let world = second_build("echo more >> $T/bin/tool");
    world.remove("cache/committed");
    let outcome = world.export(&["app"]);
    let log = outcome.ok();
    assert!(log.contains("Failed to cache layer 'a:tool': a later buildpack changed it"), "{log}");
    let world = second_build("echo more >> $T/bin/tool");
    world.remove(image);
    world.export(&["app"]).fails(62, &["a later buildpack changed layer 'a:tool'", "Hint: build again"]);
    // What is not in the image when the build begins is packed.
    world.next_build();
    build(&world, "discard");
    assert!(world.has("layers/@exported/a/tool.blob"));
}

#[test]
fn the_last_word_is_the_one_of_whoever_knows_most() {
    // The platform's variable, the operator's document, what stands in the description; whether the build goes on.
    for (variable, document, description, is_ok) in [
        ("", "", "", true),
        ("error", "", "", false),
        ("", "policy = \"error\"", "", false),
        ("off", "policy = \"error\"", "", true),
        ("error", "", "sealed = false", true),
        ("error", "", "sealed = true", false),
        ("off", "", "sealed = true", true),
        ("error", "[[buildpacks]]\nid = \"a\"\npolicy = \"warn\"", "", true),
        ("error", "[[buildpacks]]\nid = \"b\"\npolicy = \"off\"", "", false),
        ("off", "[[buildpacks]]\nid = \"a\"\npolicy = \"error\"", "sealed = false", false),
    ] {
        let mut world = world("echo more >> $T/bin/tool");
        world.add(
            &Buildpack::new("a", BUILDPACK).build(&format!("{MAKE}\necho '{description}' >> $L/tool.toml")),
        );
        world.set("CNB_SEALED_LAYERS", variable);
        world.write("build-config/sealed-layers.toml", document);
        world.run("detector", &[]).ok();
        let outcome = world.run("builder", &[]);
        assert_eq!(
            outcome.code,
            if is_ok { 0 } else { 52 },
            "{variable} {document} {description}: {}",
            outcome.out
        );
    }
}

#[test]
fn a_word_that_is_no_policy_is_refused_by_the_phases_that_take_it() {
    let mut world = world("");
    world.run("detector", &[]).ok();
    world.run("builder", &["-sealed-layers", "on"]).fails(3, &["'on' is no policy for sealed layers"]);
    world.write("build-config/sealed-layers.toml", "polcy = \"off\"\n");
    world.run("builder", &[]).fails(52, &["cannot read the policy for sealed layers", "polcy"]);
    world.set("CNB_SEALED_LAYERS", "on");
    world.run("detector", &[]).ok();
    world.run("creator", &["-launcher", "launcher", "app"]).fails(3, &["'on' is no policy"]);
}

#[test]
fn a_layer_that_its_own_buildpack_changes_in_a_later_build_is_no_change() {
    let world = world("");
    world.add(&Buildpack::new("a", BUILDPACK).build(
        "mkdir -p $L/x; date +%N >> $L/x/file; printf '[types]\\nlaunch = true\\ncache = true\\n' > $L/x.toml",
    ));
    for _ in 0..2 {
        build(&world, "error");
        assert!(told(&world).is_empty());
    }
    assert_eq!(world.read("layers/a/x/file").lines().count(), 2);
}

#[test]
fn changes_to_the_app_are_told_and_never_refused() {
    let world = world("echo more >> file; echo x > new");
    build(&world, "error");
    assert_eq!(told(&world), ["b@1 app kept: changed file, created new"]);
}

#[test]
fn each_change_is_the_one_of_the_buildpack_that_made_it() {
    let world = world("echo b >> $T/b");
    let c = "A=${L%/*}/a\necho c >> $A/tool/b; echo c >> $A/other/file";
    world.add(&Buildpack::new("c", BUILDPACK).build(c));
    world.order(&[&["a", "b", "c"]]);
    build(&world, "warn");
    let expected =
        ["b@1 a:tool kept: created b", "c@1 a:other kept: changed file", "c@1 a:tool kept: changed b"];
    assert_eq!(told(&world), expected);
}

#[test]
fn what_a_buildpack_leaves_in_the_place_of_the_record_is_not_followed() {
    let world = world("ln -s ../outside ${L%/*}/@strata; echo more >> $T/bin/tool");
    world.write("outside/changes.json", "kept");
    world.run("detector", &[]).ok();
    let outcome: Outcome = world.run("builder", &[]);
    outcome.fails(52, &["cannot write the changes to layers", "symbolic link"]);
    assert_eq!(fs::read_to_string(world.path("outside/changes.json")).unwrap(), "kept");
}

#[test]
fn all_buildpacks_share_folders_which_are_kept_when_one_asks_for_it() {
    for policy in ["off", "error"] {
        let world = World::new(API);
        let maker = "S=$CNB_SHARED_LAYERS_DIR
            mkdir -p $S/compiler $S/temp; if [ -e $S/compiler/b ]; then echo b was here; fi; echo a > $S/compiler/a
            printf '[types]\\ncache = true\\nlaunch = true\\n' > $S/compiler.toml";
        world.add(&Buildpack::new("a", BUILDPACK).build(maker));
        world.add(&Buildpack::new("b", BUILDPACK).build(
            "cat $CNB_SHARED_LAYERS_DIR/compiler/a; echo b > $CNB_SHARED_LAYERS_DIR/compiler/a
             touch $CNB_SHARED_LAYERS_DIR/compiler/b $CNB_SHARED_LAYERS_DIR/temp/b",
        ));
        world.order(&[&["a", "b"]]);
        assert!(!build(&world, policy).contains("b was here"));
        let count = world.diff_ids("app").len();
        world.next_build();
        let log = build(&world, policy);
        assert!(log.contains("b was here\n"), "{log}");
        assert!(!world.has("layers/@shared/other") && told(&world).is_empty());
        // It is in no image.
        assert_eq!(world.diff_ids("app").len(), count);
        let label = world.metadata().to_string();
        assert!(!label.contains("shared") && !label.contains("compiler"), "{label}");
        // Only what somebody asked for came back, and it goes when nobody asks any more.
        world.add(&Buildpack::new("a", BUILDPACK).build("ls -R $CNB_SHARED_LAYERS_DIR; echo a > $CNB_SHARED_LAYERS_DIR/compiler/a; mkdir $CNB_SHARED_LAYERS_DIR/temp"));
        world.next_build();
        let log = build(&world, policy);
        assert!(log.contains("compiler") && !log.contains("temp:"), "{log}");
        world.next_build();
        world.add(&Buildpack::new("a", BUILDPACK).build("ls $CNB_SHARED_LAYERS_DIR | wc -l"));
        world.add(&Buildpack::new("b", BUILDPACK));
        assert!(build(&world, policy).contains("0\n"));
    }
}

#[test]
fn a_shared_folder_that_is_a_link_is_not_followed() {
    let world = World::new(API);
    world.only(&Buildpack::new("a", BUILDPACK));
    world.run("detector", &[]).ok();
    std::os::unix::fs::symlink("../app", world.path("layers/@shared")).unwrap();
    world.run("builder", &[]).fails(52, &["the folder that buildpacks share", "symbolic link"]);
}

/// Provides a whole Python, with other times in each build, as an installation has it: they are in what Python compiles.
const CPYTHON: &str = r#"
cp -r PYTHON $L/cpython
find $L/cpython/lib -name '*.py' -exec touch -d "@$(( $(date +%s%N) / 1000 % 1000000000 ))" {} +
mkdir $L/cpython/env.build; printf %s $L/cpython >$L/cpython/env.build/PYTHONHOME
printf '[types]\nbuild = true\nlaunch = true\n' >$L/cpython.toml
"#;

/// Installs a wheel of the app with it.
const INSTALL: &str = r#"
set -e
python3 -m pip install --no-index --no-cache-dir --disable-pip-version-check --find-links wheels --target $L/site hello
printf '[types]\nlaunch = true\n' >$L/site.toml
PYTHONPATH=$L/site python3 -c 'import hello; hello.greet()'
"#;

#[test]
fn the_layer_of_a_whole_python_is_the_same_after_pip_has_run() {
    let world = World::new(API);
    let (tree, wheels) = (world.path("python"), world.path("app/wheels"));
    let made = Command::new("bash")
        .args(["-c", include_str!("../../../cli/tests/e2e/python.sh"), "python.sh"])
        .args([&tree, &wheels])
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    world.add(
        &Buildpack::new("python", BUILDPACK)
            .build(&CPYTHON.replace("PYTHON ", &format!("{} ", tree.display()))),
    );
    world.add(&Buildpack::new("pip", BUILDPACK).build(INSTALL));
    world.order(&[&["python", "pip"]]);
    let layer = |policy: &str| {
        let log = build(&world, policy);
        assert!(log.contains("hello from a wheel"), "{log}");
        let metadata = world.metadata();
        let python =
            metadata["buildpacks"].as_array().unwrap().iter().find(|of| of["key"] == "python").unwrap();
        let sha = python["layers"]["cpython"]["sha"].as_str().unwrap().to_owned();
        let told = told(&world);
        world.next_build();
        (sha, told)
    };
    let (first, told) = layer("discard");
    let of_python: Vec<_> = told.iter().filter(|line| !line.contains(" app ")).collect();
    assert_eq!(of_python.len(), 1, "{told:#?}");
    let (who, files) = of_python[0].split_once(": ").unwrap();
    assert_eq!(who, "pip@1 python:cpython discarded");
    assert!(files.split(", ").all(|file| file.contains("__pycache__")), "{files}");
    assert_eq!(layer("discard").0, first);
    let (one, other) = (layer("off"), layer("off"));
    assert!(one.0 != other.0 && one.0 != first && one.1.is_empty(), "{first} {one:?} {other:?}");
}

#[test]
fn an_sbom_file_that_a_later_buildpack_removes_is_gone_or_put_back() {
    let bom = r#"echo '{"bomFormat": "CycloneDX"}' | tee $L/tool.sbom.cdx.json > $L/launch.sbom.cdx.json"#;
    for policy in ["off", "warn", "discard"] {
        let world = World::new(API);
        let maker = Buildpack::new("a", BUILDPACK).key("sbom-formats = ['application/vnd.cyclonedx+json']");
        world.add(&maker.build(&format!("{MAKE}{bom}")));
        world.add(&Buildpack::new("b", BUILDPACK).build("rm ${L%/*}/a/tool.sbom.cdx.json"));
        world.order(&[&["a", "b"]]);
        let log = build(&world, policy);
        let is_back = policy == "discard";
        assert_eq!(log.contains("tool.sbom.cdx.json is gone"), !is_back, "{policy}: {log}");
        assert_eq!(world.has("layers/sbom/launch/a/tool/sbom.cdx.json"), is_back, "{policy}");
        assert!(world.has("layers/sbom/launch/a/sbom.cdx.json"), "{policy}");
    }
}
