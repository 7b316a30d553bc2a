//! Image extensions in detector and restorer: which take part, what they generate, and what becomes of the run image.

use crate::world::{BUILDPACK, Buildpack, Extension, PLATFORM, World, order_with};
use strata_spec::{BuildpackApi, PlatformApi};

const NEWEST: BuildpackApi = BuildpackApi::V0_12;
const PROVIDES: &str = "printf '[[provides]]\\nname = \"x\"\\n' > $2";
const REQUIRES: &str = "printf '[[requires]]\\nname = \"x\"\\n[requires.metadata]\\nkey = \"value\"\\n' > $2";

/// The ids of `group.toml`: extensions, `;`, buildpacks.
fn group(world: &World) -> String {
    let group = world.toml("layers/group.toml");
    let ids = |key: &str| {
        let none = Vec::new();
        let all = group.get(key).map_or(&none, |value| value.as_array().unwrap());
        for element in all {
            assert!(element.get("optional").is_none() && element.get("extension").is_none(), "{element}");
            assert!(element["api"].is_str() && element["version"].as_str() == Some("1"), "{element}");
        }
        all.iter().map(|element| element["id"].as_str().unwrap()).collect::<Vec<_>>().join(" ")
    };
    format!("{};{}", ids("group-extensions"), ids("group"))
}

/// A world whose only group is the buildpack `a` behind these extensions.
fn world(api: impl ToString, extensions: &[Extension]) -> World {
    let world = World::new(api);
    world.add(&Buildpack::new("a", NEWEST));
    let ids: Vec<String> = (0..extensions.len()).map(|i| format!("e{i}")).collect();
    extensions.iter().for_each(|extension| world.extend(extension));
    let group: Vec<&str> = ids.iter().map(String::as_str).collect();
    world.write("order.toml", order_with(&[&["a"]], &[&group]));
    world
}

fn extension(id: &str) -> Extension {
    Extension::new(id, NEWEST)
}

fn run_dockerfile(text: &str) -> String {
    format!("printf '{text}' > $O/run.Dockerfile")
}

#[test]
fn extensions_that_fit_stand_before_the_group() {
    for api in PLATFORM {
        let world = World::new(api);
        for (id, script) in [("yes", ""), ("no", "exit 100"), ("error", "exit 3"), ("gives", PROVIDES)] {
            world.extend(&extension(id).detect(script));
        }
        world.extend(&extension("silent"));
        world.extend(&extension("told").file("detect/plan.toml", "[[provides]]\nname = \"x\"\n"));
        world.extend(&extension("wants").detect(REQUIRES));
        let alternative = format!("{PROVIDES}; printf '[[or]]\\n[[or.requires]]\\nname = \"x\"\\n' >> $2");
        world.extend(&extension("also-wants").detect(&alternative));
        world.extend(&extension("other").toml("[[targets]]\nos = \"windows\""));
        world.extend(&extension("a"));
        for (id, script) in [("a", ""), ("b", "exit 100"), ("needs", REQUIRES)] {
            world.add(&Buildpack::new(id, NEWEST).detect(script));
        }
        world.add(&Buildpack::new("both", NEWEST).of(&[&["b"], &["a", "needs"]]));
        let targets = *api >= PlatformApi::V0_12;
        for (order, extensions, expected) in [
            (&[&["a"][..]][..], &[&["yes"][..]][..], Ok("yes;a")),
            (&[&["a"]], &[&["no", "yes", "error", "silent"]], Ok("yes silent;a")),
            (&[&["a"]], &[&["a"]], Ok("a;a")),
            (&[&["a"]], &[&["told", "gives"]], Ok(";a")),
            (&[&["needs"]], &[&["told", "gives"]], Ok("told gives;needs")),
            (&[&["needs"]], &[&["no"], &["yes"], &["told"]], Ok("told;needs")),
            (&[&["both"]], &[&["yes"], &["gives", "silent"]], Ok("gives silent;a needs")),
            (&[&["needs"]], &[&["wants", "also-wants", "gives"]], Ok("gives;needs")),
            (&[&["b"], &["a"]], &[&["yes"]], Ok("yes;a")),
            (&[&["a"]], &[&["other"]], Ok(if targets { ";a" } else { "other;a" })),
            (&[&["b"]], &[&["yes"]], Err(20)),
            (&[&["b?"]], &[&["yes"]], Err(20)),
            (&[&["needs?"]], &[&["yes"]], Err(20)),
            (&[], &[&["yes"]], Err(20)),
        ] {
            world.write("order.toml", order_with(order, extensions));
            let outcome = world.run("detector", &[]);
            match expected {
                Ok(expected) => {
                    outcome.ok();
                    assert_eq!(group(&world), expected, "{api}, {order:?}, {extensions:?}: {}", outcome.out);
                }
                Err(code) => drop(outcome.fails(code, &["no buildpacks participating"]).to_owned()),
            }
        }
        world.write("order.toml", order_with(&[&["a"]], &[&["wants"]]));
        let log = world.run("detector", &["-log-level", "debug"]).ok().to_owned();
        assert!(log.contains("extension wants outputs \"requires\" which is not allowed\n"), "{log}");
        assert!(log.contains("1 of 2 buildpacks participating\na 1\n"), "{log}");
    }
}

#[test]
fn what_an_order_names_has_to_be_there_and_understood() {
    for api in PLATFORM {
        let world = world(api, &[Extension::new("e0", "0.2")]);
        world.run("detector", &[]).fails(12, &["failed to set API for Extension 'e0@1'", "version '0.2'"]);
        world.write("extensions/e0/1/extension.toml", "api = 3");
        world.run("detector", &[]).fails(1, &["failed to initialize detector: cannot use extension 'e0@1'"]);
        world.remove("extensions/e0");
        world.run("detector", &[]).fails(1, &["failed to initialize detector: there is no extension 'e0@1'"]);
        // It may be elsewhere, as of the version that has the flag.
        let moved = world.path("elsewhere");
        std::fs::rename(world.path("extensions"), &moved).unwrap();
        world.extend(&Extension::new("e0", NEWEST));
        std::fs::rename(world.path("extensions"), moved.join("real")).unwrap();
        let outcome = world.run("detector", &["-extensions", "elsewhere/real"]);
        match *api >= PlatformApi::V0_10 {
            true => drop(outcome.ok().to_owned()),
            false => assert_eq!(outcome.code, 2, "{api}"),
        }
    }
}

#[test]
fn an_extension_provides_what_buildpacks_require() {
    for api in PLATFORM {
        let world = world(
            api,
            &[extension("e0").detect(PROVIDES).generate("echo plan:; cat $B; cat $CNB_BP_PLAN_PATH")],
        );
        world.add(&Buildpack::new("a", NEWEST).detect(REQUIRES).build("echo its plan: $(cat $B)"));
        let log = world.run("detector", &[]).ok().to_owned();
        let plan = "[[entries]]\n  name = \"x\"\n  [entries.metadata]\n    key = \"value\"\n";
        assert!(log.contains(&format!("plan:\n{plan}{plan}")), "{api}: {log}");
        // Nothing is left of it for buildpacks.
        assert_eq!(world.read("layers/plan.toml"), "", "{api}");
        assert!(world.run("builder", &[]).ok().contains("its plan:\n"), "{api}");
        let metadata = world.read("layers/config/metadata.toml");
        assert!(metadata.contains("[[extensions]]"), "{api}: {metadata}");
    }
}

/// What is in `plan.toml` before anything is generated cannot be seen from outside but where generation fails.
#[test]
fn the_plan_names_extensions_as_such() {
    let world = world(PlatformApi::NEWEST, &[extension("e0").detect(PROVIDES).generate("exit 9")]);
    world.add(&Buildpack::new("a", NEWEST).detect(REQUIRES));
    world
        .run("detector", &[])
        .fails(91, &["failed to build: bin/generate of extension e0@1 ended with exit status 9"]);
    let provider = "[[entries.providers]]\n    id = \"e0\"\n    version = \"1\"\n    extension = true\n";
    assert!(world.read("layers/plan.toml").contains(provider), "{}", world.read("layers/plan.toml"));
}

#[test]
fn programs_of_extensions_know_where_they_are() {
    const SHOW: &str = "env | sort > $OUT; echo cwd=$(pwd) >> $OUT";
    for platform in [PlatformApi::V0_7, PlatformApi::V0_12, PlatformApi::V0_13, PlatformApi::NEWEST] {
        for api in BUILDPACK {
            let mut world = World::new(platform);
            world.write("platform/env/OUT", world.path("app/out").to_str().unwrap());
            world.set("CNB_EXEC_ENV", "production");
            world.add(&Buildpack::new("a", NEWEST));
            let show = format!("{SHOW}; mv $OUT $OUT.$(basename $0)");
            world.extend(&Extension::new("some/ext", api).detect(&show).generate(&show));
            world.write("order.toml", order_with(&[&["a"]], &[&["some/ext"]]));
            world.run("detector", &[]).ok();
            let dir = world.path("extensions/some_ext/1");
            for program in ["detect", "generate"] {
                let shown = world.read(&format!("app/out.{program}"));
                let has = |name: &str| shown.lines().any(|line| line.starts_with(&format!("{name}=")));
                let is = |name: &str, value: &str| shown.contains(&format!("{name}={value}\n"));
                let about = format!("{platform}, {api}, {program}: {shown}");
                let generates = program == "generate";
                assert!(
                    is("CNB_EXTENSION_DIR", dir.to_str().unwrap()) && !has("CNB_BUILDPACK_DIR"),
                    "{about}"
                );
                assert!(is("cwd", world.path("app").to_str().unwrap()), "{about}");
                assert_eq!(has("CNB_BUILD_PLAN_PATH"), !generates && *api >= BuildpackApi::V0_8, "{about}");
                assert_eq!(has("CNB_PLATFORM_DIR"), generates || *api >= BuildpackApi::V0_8, "{about}");
                assert_eq!(
                    (has("CNB_BP_PLAN_PATH"), has("CNB_OUTPUT_DIR")),
                    (generates, generates),
                    "{about}"
                );
                assert_eq!(has("CNB_TARGET_OS"), *api >= BuildpackApi::V0_10, "{about}");
                assert_eq!(has("CNB_EXEC_ENV"), !generates && *api >= BuildpackApi::V0_12, "{about}");
                assert!(!has("CNB_LAYERS_DIR"), "{about}");
                let generated = world.path("layers/generated/some_ext");
                let is_in_place = is("CNB_OUTPUT_DIR", generated.to_str().unwrap());
                assert_eq!(is_in_place, generates && platform >= PlatformApi::V0_13, "{about}");
            }
        }
    }
}

#[test]
fn a_clear_environment_has_nothing_of_the_user() {
    let show = "echo \"user: ${FROM_USER-nothing}, operator: ${FROM_OPERATOR-nothing}\"";
    let world = world(PlatformApi::NEWEST, &[extension("e0").toml("clear-env = true").generate(show)]);
    world.write("platform/env/FROM_USER", "yes");
    world.write("build-config/env/FROM_OPERATOR", "yes");
    assert!(world.run("detector", &[]).ok().contains("user: nothing, operator: yes\n"));
}

#[test]
fn an_extension_may_choose_another_run_image() {
    for api in PLATFORM {
        let world = world(api, &[extension("e0").generate(&run_dockerfile("FROM other\\n"))]);
        world.run_image("other", |image| image.config_mut().set_label("is", "other"));
        world.run("analyzer", &["app"]).ok();
        let log = world.run("detector", &[]).ok().to_owned();
        let warning = "Warning: new runtime base image 'other' not found in run metadata\n";
        assert!(log.contains(warning), "{api}: {log}");
        let analyzed = world.toml("layers/analyzed.toml");
        let image = analyzed["run-image"].as_table().unwrap();
        assert_eq!(
            (image["reference"].as_str(), image["image"].as_str()),
            (Some("other"), Some("other")),
            "{api}"
        );
        assert!(image.get("target").is_none() && image.get("extend").is_none(), "{api}");
        if *api < PlatformApi::V0_10 {
            // The platform would have to know the image itself.
            continue;
        }
        world.run("restorer", &[]).ok();
        let analyzed = world.toml("layers/analyzed.toml");
        let image = analyzed["run-image"].as_table().unwrap();
        assert!(image["reference"].as_str().unwrap().contains("@sha256:"), "{api}: {image:?}");
        assert_eq!(image.get("target").is_some(), *api >= PlatformApi::V0_12, "{api}: {image:?}");
        world.run("builder", &[]).ok();
        world.export(&["app"]).ok();
        let app = world.image("app").image;
        assert_eq!(app.config().label("is"), Some("other"), "{api}");
        assert_eq!(world.diff_ids("app")[..2], world.diff_ids("other")[..], "{api}");
        assert_eq!(world.build_metadata()["extensions"][0]["id"], "e0", "{api}");
        if *api >= PlatformApi::V0_12 {
            assert_eq!(world.metadata()["runImage"]["image"], "other", "{api}");
            assert!(world.metadata()["runImage"].get("mirrors").is_none(), "{api}");
        }
    }
}

#[test]
fn a_run_image_that_is_not_there_ends_the_build_before_it_begins() {
    let world = world(PlatformApi::NEWEST, &[extension("e0").generate(&run_dockerfile("FROM gone\\n"))]);
    world.run("analyzer", &["app"]).ok();
    world.run("detector", &[]).ok();
    world.run("restorer", &[]).fails(1, &["failed to get run image gone"]);
}

#[test]
fn a_run_image_that_the_builder_knows_is_chosen_without_a_warning() {
    for (image, is_known) in [
        ("run", true),
        ("run:latest", true),
        (
            "mirror.example.com/run@sha256:0000000000000000000000000000000000000000000000000000000000000000",
            true,
        ),
        ("run:other", false),
    ] {
        let world = world(
            PlatformApi::NEWEST,
            &[extension("e0").file("generate/run.Dockerfile", &format!("ARG tag=x\nFROM {image}"))],
        );
        world.run("analyzer", &["app"]).ok();
        let log = world.run("detector", &[]).ok().to_owned();
        assert_eq!(log.contains("not found in run metadata"), !is_known, "{image}: {log}");
        assert_eq!(world.toml("layers/analyzed.toml")["run-image"]["image"].as_str(), Some(image));
    }
}

#[test]
fn the_last_image_counts_and_dockerfiles_before_it_are_put_aside() {
    for api in PLATFORM {
        let world = world(
            api,
            &[
                extension("e0").generate(&run_dockerfile("FROM run\\nRUN a")),
                extension("e1").file("generate/run.Dockerfile", "FROM first\n"),
                extension("e2").generate(&run_dockerfile("ARG base_image\\nFROM ${base_image}\\nRUN b")),
                extension("e3").generate(&run_dockerfile("FROM second")),
                extension("e4").generate(&run_dockerfile("ARG base_image\\nFROM ${base_image}\\n")),
                extension("e5").generate(""),
            ],
        );
        // Whatever an earlier build left there.
        world.write("layers/generated/run/e4/Dockerfile.ignore", "stale");
        world.write("layers/generated/build/e5/Dockerfile", "stale");
        world.write("layers/generated/e5/build.Dockerfile", "stale");
        world.run("analyzer", &["app"]).ok();
        world.run("detector", &[]).ok();
        let image = &world.toml("layers/analyzed.toml")["run-image"];
        assert_eq!((image["image"].as_str(), image.get("extend")), (Some("second"), None), "{api}");
        let is_new = *api >= PlatformApi::V0_13;
        for (id, is_ignored) in [("e0", true), ("e1", true), ("e2", true), ("e3", false), ("e4", false)] {
            let path = match is_new {
                true => format!("layers/generated/{id}/run.Dockerfile"),
                false => format!("layers/generated/run/{id}/Dockerfile"),
            };
            assert_eq!(world.has(&path), !is_ignored, "{api}, {id}");
            assert_eq!(world.has(&format!("{path}.ignore")), is_ignored, "{api}, {id}");
        }
        assert!(!world.has("layers/generated/e5/build.Dockerfile") || !is_new, "{api}");
        assert!(!world.has("layers/generated/build") || is_new, "{api}");
    }
}

#[test]
fn what_is_generated_is_kept_where_extenders_look() {
    const CONFIG: &str = "[[run.args]]\nname = \"tag\"\nvalue = \"given\"\n";
    const DOCKERFILE: &str = "ARG tag\nFROM image:$tag\n";
    for api in PLATFORM {
        for is_program in [true, false] {
            let files = [
                ("run.Dockerfile", DOCKERFILE),
                ("extend-config.toml", CONFIG),
                ("context.run/deep/file", "a file"),
                ("free", "what else there is"),
            ];
            let generates = files.iter().fold(extension("e0"), |all, (path, text)| {
                all.file(&format!("{}/{path}", if is_program { "made" } else { "generate" }), text)
            });
            let generates =
                if is_program { generates.generate("cp -r $CNB_EXTENSION_DIR/made/. $O") } else { generates };
            let world = world(api, &[generates]);
            world.run("analyzer", &["app"]).ok();
            world.run("detector", &[]).ok();
            assert_eq!(
                world.toml("layers/analyzed.toml")["run-image"]["image"].as_str(),
                Some("image:given"),
                "{api}"
            );
            let folder = match *api >= PlatformApi::V0_13 {
                true => "layers/generated/e0",
                false => "layers/generated/run/e0",
            };
            let name = if *api >= PlatformApi::V0_13 { "run.Dockerfile" } else { "Dockerfile" };
            assert_eq!(world.read(&format!("{folder}/{name}")), DOCKERFILE, "{api}");
            assert_eq!(world.read(&format!("{folder}/extend-config.toml")), CONFIG, "{api}");
            let context = format!("{folder}/context.run/deep/file");
            assert_eq!(world.has(&context), *api >= PlatformApi::V0_13, "{api}");
        }
    }
}

#[test]
fn what_is_generated_has_to_be_allowed() {
    for api in [PlatformApi::V0_12, PlatformApi::NEWEST] {
        for (script, code, words) in [
            ("exit 7", 91, &["bin/generate of extension e0@1 ended with exit status 7"][..]),
            ("echo the reason; kill -9 $$", 91, &["was killed by signal 9"]),
            (
                "echo FROM a > $O/build.Dockerfile",
                92,
                &["failed to parse build.Dockerfile", "required ARG command"],
            ),
            (
                "printf 'ARG base_image\\nFROM a' > $O/build.Dockerfile",
                92,
                &["build.Dockerfile did not contain required FROM ${base_image} command"],
            ),
            (
                "printf 'FROM a\\nFROM b' > $O/run.Dockerfile",
                92,
                &["run.Dockerfile is not permitted to use multistage"],
            ),
            (
                "printf 'FROM a\\nRUM b' > $O/run.Dockerfile",
                92,
                &["line 2, column 1: 'RUM' is no instruction"],
            ),
            (
                "touch $O/run.Dockerfile",
                92,
                &["failed to parse run.Dockerfile of extension e0@1", "there is no FROM"],
            ),
            (
                "printf '[[build.args]]\\nname = \"user_id\"\\n' > $O/extend-config.toml",
                92,
                &["validating extend config", "arg with name \"user_id\" is not allowed"],
            ),
            ("echo x > $O/extend-config.toml", 92, &["validating extend config", "line 1"]),
            (
                "mkdir $O/context $O/context.build",
                92,
                &["image-specific context dir is provided together with a shared context"],
            ),
            (
                "ln -s /etc/hostname $O/run.Dockerfile",
                92,
                &["it is a symbolic link, which is not allowed here"],
            ),
        ] {
            let world = world(api, &[extension("e0").generate(script)]);
            world.run("detector", &[]).fails(code, &[&["failed to build: "], words].concat());
        }
        let world = world(api, &[extension("e0").generate("")]);
        world.write("extensions/e0/1/bin/generate", "no program");
        world
            .run("detector", &[])
            .fails(91, &["failed to build: cannot run bin/generate for extension e0@1"]);
    }
    let world = world(
        PlatformApi::NEWEST,
        &[extension("e0").generate(&run_dockerfile("FROM a\\n\\nCMD b\\nEXPOSE 1"))],
    );
    let log = world.run("detector", &[]).out;
    assert!(log.contains("Warning: run.Dockerfile command CMD on line 3 is not recommended\n"), "{log}");
    assert!(log.contains("Warning: run.Dockerfile command EXPOSE on line 4 is not recommended\n"), "{log}");
}

#[test]
fn the_generated_folder_is_where_the_platform_says() {
    for api in PLATFORM.iter().filter(|api| **api >= PlatformApi::V0_10) {
        let world = world(api, &[extension("e0").generate(&run_dockerfile("FROM other"))]);
        world.run("detector", &["-generated", "made"]).ok();
        let path =
            if *api >= PlatformApi::V0_13 { "made/e0/run.Dockerfile" } else { "made/run/e0/Dockerfile" };
        assert!(world.has(path) && !world.has("layers/generated"), "{api}");
    }
}

/// No link that somebody put there leads out of the generated directory.
#[test]
fn links_are_not_followed_out_of_the_generated_folder() {
    for (api, link) in [(PlatformApi::V0_12, "run"), (PlatformApi::NEWEST, "e0")] {
        let world = world(api, &[extension("e0").generate(&run_dockerfile("FROM other"))]);
        world.write("victim/run.Dockerfile", "untouched");
        world.write("layers/generated/kept", "");
        std::os::unix::fs::symlink(world.path("victim"), world.path("layers/generated").join(link)).unwrap();
        world.run("detector", &[]).fails(92, &["cannot forget what was generated", "it is a symbolic link"]);
        assert_eq!(world.read("victim/run.Dockerfile"), "untouched", "{api}");
    }
}

#[test]
fn a_run_image_that_is_to_be_extended_is_marked_as_such() {
    let file = "ARG base_image\nFROM ${base_image}\nRUN true\n";
    for api in PLATFORM {
        for kind in ["build", "run"] {
            let world = world(api, &[extension("e0").file(&format!("generate/{kind}.Dockerfile"), file)]);
            world.run("analyzer", &["app"]).ok();
            world.run("detector", &[]).ok();
            let analyzed: toml::Table = world.read("layers/analyzed.toml").parse().unwrap();
            let is_extended = analyzed["run-image"].get("extend").is_some();
            assert_eq!(is_extended, kind == "run", "{api}");
        }
    }
}

/// That layouts are an experiment too, and refused first, leaves the warning to be seen here.
#[test]
fn an_extended_run_image_needs_consent_before_0_13() {
    for api in PLATFORM {
        let mut world = World::new(api);
        world.only(&Buildpack::new("a", NEWEST));
        world.until("builder");
        world.set("CNB_EXPERIMENTAL_MODE", "warn");
        let warning = "Warning: Platform requested experimental feature 'Dockerfiles'\n";
        let warns = |world: &World| world.export(&["app"]).ok().contains(warning);
        assert!(!warns(&world), "{api}");
        // An empty folder asks for nothing.
        std::fs::create_dir_all(world.path("layers/extended/run")).unwrap();
        assert!(!warns(&world), "{api}");
        world.write("layers/extended/run/left", "");
        assert_eq!(warns(&world), *api < PlatformApi::V0_13, "{api}");
        world.set("CNB_EXPERIMENTAL_MODE", "quiet");
        assert!(!warns(&world), "{api}");
    }
}

#[test]
fn a_run_image_that_is_a_layout_is_not_extended() {
    for api in PLATFORM {
        let file = "ARG base_image\nFROM ${base_image}\nRUN true\n";
        let world = world(api, &[extension("e0").file("generate/run.Dockerfile", file)]);
        world.until("exporter");
        let analyzed = world.toml("layers/analyzed.toml");
        assert_eq!(analyzed["run-image"]["extend"].as_bool(), Some(true), "{api}");
        let below = world.diff_ids("run");
        assert_eq!(world.diff_ids("app")[..below.len()], below[..], "{api}");
    }
}
