//! The builder.

use crate::world::{Buildpack, PLATFORM, World};
use strata_spec::{BuildpackApi, PlatformApi};

const BUILDPACK: BuildpackApi = BuildpackApi::V0_12;

#[test]
fn a_build_that_fails_ends_the_phase() {
    for api in PLATFORM {
        for script in ["exit 7", "exit 100", "kill -9 $$"] {
            let world = World::new(api);
            world.add(&Buildpack::new("a", BUILDPACK).build(&format!("echo last words >&2; {script}")));
            world.add(&Buildpack::new("b", BUILDPACK).build("echo never run"));
            world.order(&[&["a", "b"]]);
            let outcome = world.build();
            let log = outcome.fails(51, &["failed to build: "]);
            assert!(log.contains("last words\n") && !log.contains("never run"), "{api}: {log}");
            assert!(!world.has("layers/config/metadata.toml"), "{api}");
        }
    }
}

#[test]
fn layers_are_in_the_environment_of_those_that_follow() {
    let world = World::new(PlatformApi::NEWEST);
    world.write("platform/env/FROM_USER", "value");
    world.add(&Buildpack::new("first/one", BUILDPACK).build(
        "for layer in used other; do
             mkdir -p $L/$layer/bin $L/$layer/lib $L/$layer/include $L/$layer/pkgconfig $L/$layer/env $L/$layer/env.build
             printf $layer > $L/$layer/env/SET
             printf /tail > $L/$layer/env/LIST.append; printf : > $L/$layer/env/LIST.delim
             printf first > $L/$layer/env.build/BUILD.default
         done
         printf '[types]\\nbuild = true\\n' > $L/used.toml
         printf '[types]\\nlaunch = true\\n' > $L/other.toml",
    ));
    world.add(&Buildpack::new("second", BUILDPACK).build(
        "for name in PATH LIBRARY_PATH LD_LIBRARY_PATH CPATH PKG_CONFIG_PATH SET LIST BUILD FROM_USER; do
                 eval echo \"$name is \\${$name-none}\"
             done",
    ));
    world.order(&[&["first/one", "second"]]);
    let log = world.build().ok().to_owned();
    let layer = world.path("layers/first_one/used");
    let layer = layer.display();
    for line in [
        format!("PATH is {layer}/bin:/usr/local/bin:/usr/bin:/bin\n"),
        format!("LIBRARY_PATH is {layer}/lib\nLD_LIBRARY_PATH is {layer}/lib\n"),
        format!("CPATH is {layer}/include\nPKG_CONFIG_PATH is {layer}/pkgconfig\n"),
        "SET is used\nLIST is /tail\nBUILD is first\nFROM_USER is value\n".to_owned(),
    ] {
        assert!(log.contains(&line), "{line:?} is not in {log}");
    }
}

#[test]
fn a_layer_without_types_is_put_aside() {
    for api in PLATFORM {
        let world = World::new(api);
        world.only(&Buildpack::new("a", BUILDPACK).build(
            "mkdir $L/none $L/bare $L/kept
             touch $L/none.toml; printf '[types]\\ncache = true\\n' > $L/kept.toml",
        ));
        world.build().ok();
        for (path, expected) in [("none", false), ("none.ignore", true), ("bare", true), ("kept", true)] {
            assert_eq!(world.has(&format!("layers/a/{path}")), expected, "{api}: {path}");
        }
    }
}

#[test]
fn every_buildpack_gets_its_part_of_the_plan() {
    let world = World::new(PlatformApi::NEWEST);
    let provide = "printf '[[provides]]\\nname = \"x\"\\n[[provides]]\\nname = \"y\"\\n' > $2";
    let require = "for name in x y; do printf \"[[requires]]\\nname = \\\"$name\\\"\\n[requires.metadata]\\nn = 1\\n\"; done > $2";
    // The first leaves `y` to the second, which gets it alone.
    world.add(
        &Buildpack::new("first", BUILDPACK)
            .detect(provide)
            .build("sed 's/^/first: /' $B; printf '[[unmet]]\\nname = \"y\"\\n' > $L/build.toml"),
    );
    world.add(&Buildpack::new("second", BUILDPACK).detect(provide).build("sed 's/^/second: /' $B"));
    world.add(&Buildpack::new("third", BUILDPACK).detect(require).build("sed 's/^/third: /' $B"));
    world.order(&[&["first", "second", "third"]]);
    let log = world.build().ok().to_owned();
    let names = |who: &str| -> Vec<String> {
        let prefix = format!("{who}: ");
        let text: String =
            log.lines().filter_map(|line| line.strip_prefix(&prefix)).flat_map(|line| [line, "\n"]).collect();
        let plan: toml::Table = text.parse().unwrap();
        let entries = plan.get("entries").and_then(|entries| entries.as_array()).cloned().unwrap_or_default();
        assert!(entries.iter().all(|entry| entry["metadata"]["n"].as_integer() == Some(1)), "{log}");
        entries.iter().map(|entry| entry["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(
        (names("first"), names("second"), names("third")),
        (vec!["x".into(), "y".into()], vec!["y".into()], vec![])
    );
}

#[test]
fn processes_of_several_buildpacks_are_merged() {
    let process = |kind: &str, command: &str, default: bool| {
        format!("[[processes]]\\ntype = \"{kind}\"\\ncommand = [\"{command}\"]\\ndefault = {default}\\n")
    };
    for (first_default, second_default, expected, warns) in
        [(true, false, None, true), (true, true, Some("web"), false), (false, false, None, false)]
    {
        let world = World::new(PlatformApi::NEWEST);
        let first = process("web", "one", first_default) + &process("other", "one", false);
        world.add(&Buildpack::new("a", BUILDPACK).build(&format!("printf '{first}' > $L/launch.toml")));
        let second = process("web", "two", second_default);
        world.add(&Buildpack::new("b", BUILDPACK).build(&format!("printf '{second}' > $L/launch.toml")));
        world.order(&[&["a", "b"]]);
        let log = world.build().ok().to_owned();
        let warning =
            "redefining the following default process type with a process not marked as default: web";
        assert_eq!(log.contains(warning), warns, "{log}");
        let metadata = world.toml("layers/config/metadata.toml");
        let found: Vec<_> = metadata["processes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|process| format!("{} {} {}", process["type"], process["command"], process["buildpack-id"]))
            .collect();
        let processes = [r#""other" ["one"] "a""#, r#""web" ["two"] "b""#];
        assert_eq!(found, processes);
        let default = metadata.get("buildpack-default-process-type").and_then(|kind| kind.as_str());
        assert_eq!(default, expected, "{first_default} {second_default}");
    }
}

/// What a buildpack leaves that cannot be used: which file, what is in it, what the error says of it.
#[test]
fn what_a_buildpack_leaves_must_be_right() {
    const CASES: &[(&str, &str, &str)] = &[
        ("x.toml", "[types", "line 1, column"),
        ("x.toml", "[types]\\nlaunch = 3", "line 2, column"),
        ("x.toml", "launch = true", "flags should be in the types table"),
        ("x.toml", "metadata = 3", "line 1, column"),
        ("launch.toml", "[[processes", "line 1, column"),
        ("launch.toml", "[[processes]]\\ntype = 3", "line 2, column"),
        ("launch.toml", "[[processes]]\\ncommand = [\"x\"]", "type"),
        ("launch.toml", "[[processes]]\\ntype = \"a/b\"\\ncommand = [\"x\"]", "may not contain"),
        ("launch.toml", "labels = 3", "line 1, column"),
        ("launch.toml", "[[slices]]\\npaths = 3", "line 2, column"),
        ("launch.toml", "[[bom]]\\nname = \"x\"\\nversion = \"1\"", "version"),
        (
            "launch.toml",
            "[[processes]]\\ntype = \"a\"\\ncommand = [\"x\"]\\ndefault = true\\n[[processes]]\\ntype = \"b\"\\ncommand = [\"x\"]\\ndefault = true",
            "default",
        ),
        ("build.toml", "[[unmet", "line 1, column"),
        ("build.toml", "[[unmet]]\\nname = 3", "line 2, column"),
        ("build.toml", "[[unmet]]", "name"),
        ("build.toml", "[[unmet]]\\nname = \"x\"", "must match a requested dependency"),
        ("store.toml", "metadata = 3", "line 1, column"),
        ("launch.sbom.cdx.json", "{}", "application/vnd.cyclonedx+json"),
        ("launch.sbom.other.json", "{}", "format"),
    ];
    for api in [PlatformApi::V0_7, PlatformApi::NEWEST] {
        let world = World::new(api);
        world.only(&Buildpack::new("a", BUILDPACK));
        world.run("detector", &[]).ok();
        for (file, text, expected) in CASES {
            world.add(&Buildpack::new("a", BUILDPACK).build(&format!("printf '{text}\\n' > $L/{file}")));
            world.run("builder", &[]).fails(52, &[file, expected]);
            world.remove("layers/a");
        }
    }
}

#[test]
fn leftovers_of_an_earlier_build_are_removed() {
    let world = World::new(PlatformApi::NEWEST);
    world.only(&Buildpack::new("a", BUILDPACK));
    world.write("layers/sbom/launch/a/sbom.cdx.json", "{}");
    world.build().ok();
    assert!(!world.has("layers/sbom/launch/a"));
}

#[test]
fn detector_and_builder_refuse_root() {
    if !crate::world::is_root() {
        eprintln!("nobody is root here, who could be refused");
        return;
    }
    for api in PLATFORM {
        let world = World::new(api);
        for (program, action) in [("detector", "detect"), ("builder", "build")] {
            let outcome = world.run_as_root(program);
            outcome.fails(1, &[&format!("failed to {action}: refusing to run as root")]);
        }
    }
}
