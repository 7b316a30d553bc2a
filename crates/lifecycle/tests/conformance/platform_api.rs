//! What begins with a version of the Platform API. Every test looks at all versions: those before, too.

use crate::world::{Buildpack, CREATED, Extension, PLATFORM, World, order_with, user};
use strata_spec::{BuildpackApi, PlatformApi};

const NEWEST_BUILDPACK: BuildpackApi = BuildpackApi::V0_12;

/// Checks which versions have which flags of which programs.
fn flags(since: PlatformApi, table: &[(&str, &str)]) {
    for api in PLATFORM {
        let world = World::new(api);
        for (program, flags) in table {
            let usage = world.run(program, &["-h"]).err;
            for flag in flags.split_whitespace() {
                let has = usage.lines().any(|line| line.trim_start().split(' ').next() == Some(flag));
                assert_eq!(has, *api >= since, "{program} {flag} at {api}");
            }
        }
    }
}

/// A buildpack with a layer that is launched and cached, and SBOM files of every kind.
fn with_sboms() -> Buildpack {
    Buildpack::new("some/sboms", NEWEST_BUILDPACK)
        .key("sbom-formats = [\"application/vnd.cyclonedx+json\"]")
        .build(
            "mkdir -p $L/dep; echo 1 > $L/dep/file
             printf '[types]\\nlaunch = true\\ncache = true\\n' > $L/dep.toml
             for about in dep launch build; do echo \"\\\"$about\\\"\" > $L/$about.sbom.cdx.json; done",
        )
}

#[test]
fn platform_0_8_sbom_files_become_layers_of_image_and_cache() {
    for api in PLATFORM {
        let world = World::new(api);
        world.only(&with_sboms());
        world.until("exporter");
        let has_layers = *api >= PlatformApi::V0_8;
        let folder = "layers/sbom/launch/some_sboms";
        for path in [&format!("{folder}/sbom.cdx.json"), &format!("{folder}/dep/sbom.cdx.json")] {
            assert_eq!(world.has(path), has_layers, "{api}: {path}");
        }
        assert_eq!(world.has("layers/sbom/build/some_sboms/sbom.cdx.json"), has_layers, "{api}");
        assert_eq!(world.has("layers/sbom/cache/some_sboms/dep/sbom.cdx.json"), has_layers, "{api}");
        let metadata = world.metadata();
        assert_eq!(metadata.get("sbom").is_some(), has_layers, "{api}");
        if has_layers {
            let files = world.files(metadata["sbom"]["sha"].as_str().unwrap());
            assert_eq!(files[&format!("{folder}/sbom.cdx.json")], "\"launch\"\n");
            assert_eq!(files[&format!("{folder}/dep/sbom.cdx.json")], "\"dep\"\n");
        }
        let cache = world.read("cache/committed/io.buildpacks.lifecycle.cache.metadata");
        assert_eq!(cache.contains("\"sbom\":{\"sha\":\"sha256:"), has_layers, "{api}: {cache}");
    }
}

#[test]
fn platform_0_8_sbom_files_are_restored() {
    for api in PLATFORM {
        let has_layers = *api >= PlatformApi::V0_8;
        for skip in ["false", "true"] {
            let mut world = World::new(api);
            world.only(&with_sboms());
            world.until("exporter");
            world.next_build();
            world.set("CNB_SKIP_LAYERS", skip);
            let expected = has_layers && skip == "false";
            let log = world.until("analyzer");
            let said = log.contains("Restoring data for SBOM from previous image\n");
            assert_eq!(said, expected, "{api}, skip {skip}: {log}");
            assert_eq!(world.has("layers/sbom/launch/some_sboms/sbom.cdx.json"), expected, "{api}");
            world.run("detector", &[]).ok();
            let log = world.run("restorer", &[]);
            assert_eq!(log.ok().contains("Restoring data for SBOM from cache\n"), expected, "{api}");
            assert_eq!(world.has("layers/some_sboms/dep.sbom.cdx.json"), expected, "{api}, skip {skip}");
            assert!(!world.has("layers/sbom"), "{api}");
        }
    }
}

#[test]
fn platform_0_9_flags() {
    flags(PlatformApi::V0_9, &[("analyzer", "-skip-layers -launch-cache")]);
}

#[test]
fn platform_0_10_flags() {
    flags(
        PlatformApi::V0_10,
        &[("detector", "-analyzed -extensions -generated"), ("restorer", "-build-image")],
    );
}

#[test]
fn platform_0_11_flags() {
    flags(
        PlatformApi::V0_11,
        &[
            ("detector", "-build-config"),
            ("builder", "-build-config"),
            ("exporter", "-launcher-sbom"),
            ("creator", "-build-config -launcher-sbom"),
            ("rebaser", "-previous-image"),
        ],
    );
}

#[test]
fn platform_0_12_flags() {
    flags(
        PlatformApi::V0_12,
        &[
            ("analyzer", "-layout -layout-dir -run"),
            ("detector", "-run"),
            ("restorer", "-daemon -generated -layout -layout-dir"),
            ("builder", "-analyzed"),
            ("extender", "-kind -extended"),
            ("exporter", "-extended -layout -layout-dir -run"),
            ("creator", "-layout -layout-dir -run"),
            ("rebaser", "-force"),
        ],
    );
    // `-stack` went; the creator has kept it.
    for api in PLATFORM {
        let world = World::new(api);
        for (program, has) in [
            ("analyzer", *api < PlatformApi::V0_12),
            ("exporter", *api < PlatformApi::V0_12),
            ("creator", true),
        ] {
            assert_eq!(world.run(program, &["-h"]).err.contains("  -stack "), has, "{program} at {api}");
        }
    }
}

#[test]
fn platform_0_13_flags() {
    let all = ["analyzer", "restorer", "exporter", "creator", "rebaser"];
    flags(PlatformApi::V0_13, &all.map(|program| (program, "-insecure-registry")));
}

#[test]
fn platform_0_14_flags() {
    flags(PlatformApi::V0_14, &[("restorer", "-run")]);
}

#[test]
fn platform_0_15_flags() {
    flags(PlatformApi::V0_15, &[("detector", "-system"), ("creator", "-system")]);
}

#[test]
fn platform_0_9_source_date_epoch_dates_the_image() {
    for api in PLATFORM {
        let mut world = World::new(api);
        world.only(&Buildpack::new("a", NEWEST_BUILDPACK));
        world.until("builder");
        for (epoch, date) in [
            ("1700000000", "2023-11-14T22:13:20Z"),
            ("0", "1970-01-01T00:00:00Z"),
            ("-5", "1969-12-31T23:59:55Z"),
            ("tomorrow", CREATED),
            ("1.5", CREATED),
            ("", CREATED),
        ] {
            world.set("SOURCE_DATE_EPOCH", epoch);
            let outcome = world.export(&["app"]);
            let counts = *api >= PlatformApi::V0_9;
            let warned = outcome.ok().contains("Warning: Ignoring invalid SOURCE_DATE_EPOCH\n");
            assert_eq!(warned, counts && ["tomorrow", "1.5"].contains(&epoch), "{api}, {epoch}");
            let image = world.image("app").image;
            let date = if counts { date } else { CREATED };
            assert_eq!(image.config().created(), Some(date), "{api}, {epoch}");
            assert!(image.config().history().iter().all(|h| h.created.as_deref() == Some(date)));
        }
    }
}

#[test]
fn platform_0_9_the_old_bill_of_materials_is_a_file() {
    for api in PLATFORM {
        let world = World::new(api);
        let bom = "[[bom]]\\nname = \"%s\"\\n[bom.metadata]\\nn = 1\\n";
        world.only(&Buildpack::new("a/b", BuildpackApi::V0_8).build(&format!(
            "printf '{bom}' launched > $L/launch.toml; printf '{bom}' used > $L/build.toml"
        )));
        world.until("exporter");
        let is_file = *api >= PlatformApi::V0_9;
        let entry = |name: &str| serde_json::json!([{"name": name, "metadata": {"n": 1}, "buildpack": {"id": "a/b", "version": "1"}}]);
        for (folder, name) in [("launch", "launched"), ("build", "used")] {
            let path = format!("layers/sbom/{folder}/sbom.legacy.json");
            assert_eq!(world.has(&path), is_file, "{api}");
            if is_file {
                let json: serde_json::Value = serde_json::from_str(&world.read(&path)).unwrap();
                assert_eq!(json, entry(name));
            }
        }
        let label = world.build_metadata();
        let expected = (!is_file).then(|| entry("launched"));
        assert_eq!(label.get("bom"), expected.as_ref(), "{api}");
        assert_eq!(world.toml("layers/config/metadata.toml").contains_key("bom"), !is_file, "{api}");
        assert_eq!(world.toml("layers/report.toml").contains_key("build"), !is_file, "{api}");
    }
}

#[test]
fn platform_0_9_an_sbom_layer_is_there_without_any_sbom() {
    for api in PLATFORM {
        let world = World::new(api);
        world.only(&Buildpack::new("a", NEWEST_BUILDPACK));
        world.until("exporter");
        let sbom = world.metadata().get("sbom").cloned();
        assert_eq!(sbom.is_some(), *api >= PlatformApi::V0_9, "{api}");
        if let Some(sbom) = sbom {
            let files = world.files(sbom["sha"].as_str().unwrap());
            assert_eq!(files["layers/sbom/launch/sbom.legacy.json"], "null\n");
        }
    }
}

#[test]
fn platform_0_10_commands_are_arrays() {
    for api in PLATFORM {
        let world = World::new(api);
        let process = |kind: &str| {
            format!(
                "[[processes]]\\ntype = \"{kind}\"\\ncommand = [\"run\", \"fixed\"]\\nargs = [\"more\"]\\n"
            )
        };
        world.only(
            &Buildpack::new("a", NEWEST_BUILDPACK)
                .build(&format!("printf '{}' > $L/launch.toml", process("web"))),
        );
        world.until("exporter");
        let (command, args) = if *api >= PlatformApi::V0_10 {
            (serde_json::json!(["run", "fixed"]), serde_json::json!(["more"]))
        } else {
            (serde_json::json!("run"), serde_json::json!(["fixed", "more"]))
        };
        let process = &world.build_metadata()["processes"][0];
        assert_eq!((&process["command"], &process["args"]), (&command, &args), "{api}");
        let document = world.toml("layers/config/metadata.toml");
        let process = serde_json::to_value(&document["processes"][0]).unwrap();
        assert_eq!((&process["command"], &process["args"]), (&command, &args), "{api}");
    }
}

#[test]
fn platform_0_10_the_creator_restores_stores_even_when_it_skips_restoring() {
    for api in PLATFORM {
        let mut world = World::new(api);
        world.only(&Buildpack::new("a", NEWEST_BUILDPACK).build(
            "if [ -e $L/store.toml ]; then echo the store is there; fi
             printf '[metadata]\\nn = 1\\n' > $L/store.toml",
        ));
        world.set("CNB_SKIP_RESTORE", "true");
        let create = || world.run("creator", &["-launcher", "launcher", "app"]).ok().to_owned();
        assert!(!create().contains("the store is there\n"), "{api}");
        world.next_build();
        let log = create();
        let restores = *api >= PlatformApi::V0_10;
        assert_eq!(log.contains("the store is there\n"), restores, "{api}: {log}");
        assert_eq!(log.contains("===> RESTORING\n"), restores, "{api}: {log}");
    }
}

#[test]
fn platform_0_10_the_restorer_takes_a_build_image() {
    for api in PLATFORM {
        let world = World::new(api);
        world.only(&Buildpack::new("a", NEWEST_BUILDPACK));
        world.until("detector");
        let code = world.run("restorer", &["-build-image", "some/image"]).code;
        assert_eq!(code, if *api >= PlatformApi::V0_10 { 0 } else { 2 }, "{api}");
    }
}

#[test]
fn platform_0_13_extensions_need_no_consent() {
    for api in PLATFORM {
        for (mode, warns) in [("error", false), ("warn", true), ("quiet", false)] {
            let mut world = World::new(api);
            world.add(&Buildpack::new("a", NEWEST_BUILDPACK));
            world.extend(&Extension::new("b", NEWEST_BUILDPACK));
            world.write("order.toml", order_with(&[&["a"]], &[&["b"]]));
            world.set("CNB_EXPERIMENTAL_MODE", mode);
            let is_experimental = *api < PlatformApi::V0_13;
            let outcome = world.run("detector", &[]);
            let log = if is_experimental && mode == "error" {
                outcome.fails(1, &["experimental features are disabled by CNB_EXPERIMENTAL_MODE=error"])
            } else {
                outcome.ok()
            };
            let warning = "Warning: Platform requested experimental feature 'Dockerfiles'\n";
            assert_eq!(log.contains(warning), is_experimental && warns, "{api}, {mode}: {log}");
        }
    }
}

#[test]
fn platform_0_11_the_build_config_has_a_flag_and_is_used_at_every_version() {
    for api in PLATFORM {
        let world = World::new(api);
        world.write("build-config/env/FROM_OPERATOR", "yes");
        world.write("other/env/FROM_OPERATOR", "other");
        world.only(&Buildpack::new("a", NEWEST_BUILDPACK).build("echo operator: ${FROM_OPERATOR-nothing}"));
        world.run("detector", &[]).ok();
        assert!(world.run("builder", &[]).ok().contains("operator: yes\n"), "{api}");
        let outcome = world.run("builder", &["-build-config", "other"]);
        if *api >= PlatformApi::V0_11 {
            assert!(outcome.ok().contains("operator: other\n"), "{api}");
        } else {
            assert_eq!(outcome.code, 2, "{api}");
        }
    }
}

#[test]
fn platform_0_11_the_launchers_sboms_go_with_the_image() {
    for api in PLATFORM {
        let world = World::new(api);
        world.write("sboms/launcher.sbom.cdx.json", "\"launcher\"");
        world.write("sboms/README", "no SBOM");
        world.only(&Buildpack::new("a", NEWEST_BUILDPACK));
        world.until("builder");
        let outcome = world.export(&["-launcher-sbom", "sboms", "app"]);
        if *api < PlatformApi::V0_11 {
            assert_eq!(outcome.code, 2, "{api}");
            let out = world.export(&["app"]);
            assert!(!out.ok().contains("Did not find SBOM"), "{api}");
            continue;
        }
        outcome.ok();
        let files = world.files(world.metadata()["sbom"]["sha"].as_str().unwrap());
        let found: Vec<_> =
            files.iter().filter(|(path, _)| path.contains("buildpacksio_lifecycle")).collect();
        assert!(matches!(found.as_slice(), [(_, text)] if *text == "\"launcher\""), "{api}: {files:?}");
    }
}

#[test]
fn platform_0_11_a_rebase_takes_its_image_from_elsewhere() {
    for api in PLATFORM {
        let mut world = World::new(api);
        world.only(&Buildpack::new("a", NEWEST_BUILDPACK));
        world.until("exporter");
        // Before 0.12 there is no flag for layouts either.
        world.set("CNB_RUN_IMAGE", "run");
        let outcome = world.run("rebaser", &["-previous-image", "app", "other"]);
        if *api >= PlatformApi::V0_11 {
            outcome.ok();
            assert_eq!(world.diff_ids("other"), world.diff_ids("app"), "{api}");
        } else {
            assert_eq!(outcome.code, 2, "{api}");
        }
    }
}

#[test]
fn platform_0_12_run_toml_replaces_stack_toml() {
    for api in PLATFORM {
        let world = World::new(api);
        let has_run_toml = *api >= PlatformApi::V0_12;
        world.write(
            "stack.toml",
            "[run-image]\nimage = \"from-stack\"\nmirrors = [\"m.example.com/stack\"]\n",
        );
        world.write("run.toml", "[[images]]\nimage = \"from-run\"\nmirrors = [\"m.example.com/run\"]\n");
        world.run_image("from-stack", |_| {});
        world.run_image("from-run", |_| {});
        world.only(&Buildpack::new("a", NEWEST_BUILDPACK));
        world.until("exporter");
        let (wanted, mirror) = if has_run_toml { ("from-run", "run") } else { ("from-stack", "stack") };
        let expected = serde_json::json!({"image": wanted, "mirrors": [format!("m.example.com/{mirror}")]});
        assert_eq!(world.metadata()["stack"]["runImage"], expected, "{api}");
        assert_eq!(world.diff_ids("app")[..2], world.diff_ids(wanted), "{api}");
        world.run("creator", &["-launcher", "launcher", "created"]).ok();
        assert_eq!(world.diff_ids("created")[..2], world.diff_ids(wanted), "{api}");
    }
}

#[test]
fn platform_0_12_targets_decide_who_takes_part() {
    for api in PLATFORM {
        let world = World::new(api);
        world.run("analyzer", &["app"]).ok();
        for (target, fits) in [
            ("", true),
            ("[[targets]]\n", true),
            ("[[targets]]\nos = \"linux\"\n", true),
            ("[[targets]]\nos = \"plan9\"\n", false),
            ("[[targets]]\nos = \"plan9\"\n[[targets]]\nos = \"linux\"\n", true),
            ("[[targets]]\narch = \"mips\"\n", false),
            ("[[targets]]\n[[targets.distros]]\nname = \"debian\"\nversion = \"12\"\n", true),
            ("[[targets]]\n[[targets.distros]]\nname = \"debian\"\n", true),
            ("[[targets]]\n[[targets.distros]]\nname = \"debian\"\nversion = \"11\"\n", false),
            ("[[stacks]]\nid = \"io.buildpacks.stacks.bionic\"\n", false),
            ("[[stacks]]\nid = \"*\"\n", true),
        ] {
            world.only(&Buildpack::new("a", NEWEST_BUILDPACK).table(target));
            let outcome = world.run("detector", &[]);
            if fits || *api < PlatformApi::V0_12 {
                outcome.ok();
            } else {
                let log = outcome.fails(21, &["buildpack(s) failed with err"]);
                assert!(log.contains("unable to satisfy target os/arch constraints"), "{api}: {log}");
            }
        }
    }
}

#[test]
fn platform_0_12_analyzed_toml_says_what_the_run_image_is_for() {
    for api in PLATFORM {
        let world = World::new(api);
        world.run("analyzer", &["app"]).ok();
        let analyzed = world.toml("layers/analyzed.toml");
        let run_image = analyzed["run-image"].as_table().unwrap();
        let digest = world.image("run").manifest_digest;
        let path = world.path("images/index.docker.io/library/run/latest");
        assert_eq!(run_image["reference"].as_str(), Some(format!("{}@{digest}", path.display()).as_str()));
        let target = toml::toml! {
            id = "example/debian"
            os = "linux"
            arch = "PLACEHOLDER"
            [distro]
            name = "debian"
            version = "12"
        };
        let mut target = toml::Value::Table(target);
        target["arch"] = strata_store::host_architecture().into();
        if *api >= PlatformApi::V0_12 {
            // In a layout an image goes by its path.
            assert_eq!(run_image["image"].as_str(), path.to_str(), "{api}");
            assert_eq!(run_image["target"], target, "{api}");
        } else {
            assert_eq!(run_image.len(), 1, "{api}: {run_image:?}");
        }
    }
}

#[test]
fn platform_0_12_history_is_kept() {
    for api in PLATFORM {
        let world = World::new(api);
        world.only(&Buildpack::new("a", NEWEST_BUILDPACK));
        world.until("exporter");
        let history = world.image("app").image.config().history();
        let said: Vec<_> = history.iter().map(|h| h.created_by.as_deref().unwrap_or_default()).collect();
        if *api >= PlatformApi::V0_12 {
            assert_eq!(
                said[..3],
                ["made run lower", "made run upper", "Software Bill-of-Materials"],
                "{api}"
            );
            let own = ["Application Layer", "Buildpacks Application Launcher", "Buildpacks Launcher Config"];
            assert_eq!(said[3..], own, "{api}");
        } else {
            assert!(said.iter().all(|text| text.is_empty()), "{api}: {said:?}");
        }
        assert_eq!(said.len(), world.image("app").image.layers().len(), "{api}");
    }
}

#[test]
fn platform_0_12_the_label_names_the_run_image() {
    for api in PLATFORM {
        let world = World::new(api);
        world.only(&Buildpack::new("a", NEWEST_BUILDPACK));
        world.until("exporter");
        let metadata = world.metadata();
        let names = serde_json::json!({"image": "run", "mirrors": ["mirror.example.com/run"]});
        assert_eq!(metadata["stack"]["runImage"], names, "{api}");
        let run = world.image("run");
        let mut expected = serde_json::json!({
            "topLayer": run.image.layers().last().unwrap().diff_id.to_string(),
            "reference": world.toml("layers/analyzed.toml")["run-image"]["reference"].as_str().unwrap(),
        });
        if *api >= PlatformApi::V0_12 {
            expected["image"] = names["image"].clone();
            expected["mirrors"] = names["mirrors"].clone();
        }
        assert_eq!(metadata["runImage"], expected, "{api}");
    }
}

#[test]
fn platform_0_12_a_rebase_checks_the_name_of_the_base_and_takes_its_labels() {
    for api in PLATFORM {
        let mut world = World::new(api);
        world.run_image("run", |image| image.config_mut().set_label("io.buildpacks.base.note", "old"));
        world.run_image("new", |image| {
            image.config_mut().set_label("io.buildpacks.base.note", "new");
            image.config_mut().set_label("io.buildpacks.stack.note", "new");
        });
        world.only(&Buildpack::new("a", NEWEST_BUILDPACK));
        world.until("exporter");
        world.set("CNB_RUN_IMAGE", "new");
        let knows_names = *api >= PlatformApi::V0_12;
        let outcome = world.run("rebaser", &["app"]);
        if knows_names {
            outcome.fails(72, &["new base image 'new' not found in existing run image metadata", "-force"]);
            let log = world.run("rebaser", &["-force", "app"]);
            assert!(log.ok().contains("Warning: rebase app image: new base image 'new' not found"), "{api}");
        } else {
            outcome.ok();
            assert_eq!(world.run("rebaser", &["-force", "app"]).code, 2, "{api}");
        }
        let app = world.image("app").image;
        assert_eq!(world.diff_ids("app")[..2], world.diff_ids("new"), "{api}");
        assert_eq!(app.config().label("io.buildpacks.stack.note"), Some("new"), "{api}");
        let note = if knows_names { "new" } else { "old" };
        assert_eq!(app.config().label("io.buildpacks.base.note"), Some(note), "{api}");
        let run_image = &world.metadata()["runImage"];
        assert_eq!(run_image["image"].as_str(), knows_names.then_some("new"), "{api}");
    }
}

/// The version that an app was built with says by what its base is judged, whatever the rebaser speaks.
#[test]
fn platform_0_12_an_app_image_is_judged_by_the_version_it_was_built_with() {
    for api in PLATFORM {
        let mut world = World::new(api);
        world.only(&Buildpack::new("a", NEWEST_BUILDPACK));
        world.until("exporter");
        world.set("CNB_PREVIOUS_IMAGE", "app");
        let has_target = *api >= PlatformApi::V0_12;
        for rebaser in [PlatformApi::V0_7, PlatformApi::V0_15] {
            world.set("CNB_PLATFORM_API", rebaser.to_string());
            world.run_image("run", |i| i.config_mut().set_label("io.buildpacks.stack.id", "other"));
            let outcome = world.run("rebaser", &["rebased"]);
            if has_target {
                outcome.ok();
            } else {
                outcome.fails(72, &["incompatible stack: 'other' is not compatible with 'example.stack'"]);
            }
            world.run_image("run", |i| i.config_mut().set_label("io.buildpacks.base.distro.version", "13"));
            let outcome = world.run("rebaser", &["rebased"]);
            if has_target {
                outcome.fails(72, &["unable to satisfy target os/arch constraints", "-force"]);
            } else {
                outcome.ok();
            }
        }
    }
}

/// No registry is there, so that whoever asks one fails.
#[test]
fn platform_0_14_the_restorer_makes_sure_of_the_run_image() {
    for api in PLATFORM {
        for (known, checks) in [("127.0.0.1:1/run", *api >= PlatformApi::V0_14), ("127.0.0.1:1/other", false)]
        {
            let mut world = World::new(api);
            world.unset("CNB_USE_LAYOUT");
            world.unset("CNB_LAYOUT_DIR");
            world.write("layers/group.toml", "[[group]]\nid = \"a\"\nversion = \"1\"\napi = \"0.10\"\n");
            world.write(
                "layers/analyzed.toml",
                "[run-image]\nreference = \"127.0.0.1:1/run\"\nimage = \"127.0.0.1:1/run\"\n",
            );
            world.write("run.toml", format!("[[images]]\nimage = \"{known}\"\n"));
            let outcome = world.run("restorer", &[]);
            if checks {
                outcome.fails(1, &["selected run image '127.0.0.1:1/run' is not accessible"]);
            } else {
                outcome.ok();
            }
        }
    }
}

#[test]
fn platform_0_14_launch_layers_come_back_from_the_cache_alone() {
    for api in PLATFORM {
        let world = World::new(api);
        world.only(&Buildpack::new("a", NEWEST_BUILDPACK).build(
            "mkdir -p $L/both; echo 1 > $L/both/file
             printf '[types]\\nlaunch = true\\ncache = true\\n[metadata]\\nn = 1\\n' > $L/both.toml",
        ));
        world.until("exporter");
        world.next_build();
        world.remove("images/index.docker.io/library/app");
        let log = world.until("restorer");
        let comes_back = *api >= PlatformApi::V0_14;
        assert_eq!(
            log.contains("Restoring metadata for \"a:both\" from cache\n"),
            comes_back,
            "{api}: {log}"
        );
        assert_eq!(world.has("layers/a/both/file"), comes_back, "{api}");
        assert_eq!(world.has("layers/a/both.toml"), comes_back, "{api}");
    }
}

#[test]
fn platform_0_15_system_toml_adds_buildpacks_to_every_group() {
    for api in PLATFORM {
        let world = World::new(api);
        for id in ["before", "own", "after"] {
            world.add(&Buildpack::new(id, NEWEST_BUILDPACK));
        }
        world.add(&Buildpack::new("own", NEWEST_BUILDPACK).version("2"));
        world.order(&[&["own"]]);
        let list = |ids: &[&str]| -> String {
            ids.iter().map(|id| format!("{{ id = \"{id}\", version = \"1\" }},")).collect()
        };
        world.write(
            "system.toml",
            format!(
                "[system.pre]\nbuildpacks = [{}]\n[system.post]\nbuildpacks = [{}]\n",
                list(&["before"]),
                list(&["own", "after"])
            ),
        );
        world.run("detector", &[]).ok();
        let group = world.toml("layers/group.toml");
        let ids: Vec<_> =
            group["group"].as_array().unwrap().iter().map(|b| b["id"].as_str().unwrap()).collect();
        let expected: &[&str] =
            if *api >= PlatformApi::V0_15 { &["before", "own", "after"] } else { &["own"] };
        assert_eq!(ids, expected, "{api}");
    }
}

#[test]
fn platform_0_15_the_execution_environment_chooses_buildpacks() {
    for api in PLATFORM {
        for (exec_env, for_tests) in [("test", true), ("", false), ("production", false)] {
            let mut world = World::new(api);
            world.add(&Buildpack::new("tests", NEWEST_BUILDPACK).key("exec-env = [\"test\"]"));
            world.add(&Buildpack::new("all", NEWEST_BUILDPACK).key("exec-env = [\"*\"]"));
            world.add(&Buildpack::new("any", NEWEST_BUILDPACK));
            world.order(&[&["tests", "all", "any"]]);
            world.set("CNB_EXEC_ENV", exec_env);
            world.run("detector", &[]).ok();
            let takes_part = world.read("layers/group.toml").contains("id = \"tests\"");
            assert_eq!(takes_part, for_tests || *api < PlatformApi::V0_15, "{api}, {exec_env}");
        }
    }
}

#[test]
fn platform_0_15_the_image_says_its_execution_environment() {
    for api in PLATFORM {
        for (exec_env, label) in [("", "production"), ("test", "test")] {
            let mut world = World::new(api);
            world.set("CNB_EXEC_ENV", exec_env);
            world.only(&Buildpack::new("a", NEWEST_BUILDPACK));
            world.until("exporter");
            let image = world.image("app").image;
            let expected = (*api >= PlatformApi::V0_15).then_some(label);
            assert_eq!(image.config().label("io.buildpacks.exec-env"), expected, "{api}");
        }
    }
}

/// What all versions have in common, and the version itself.
#[test]
fn platform_0_7_to_0_15_the_five_phases_and_the_creator_make_the_same_image() {
    for api in PLATFORM {
        let world = World::new(api);
        world.only(&with_sboms());
        world.until("exporter");
        let (uid, gid) = user();
        let app = world.image("app");
        assert_eq!(app.image.config().env_var("CNB_PLATFORM_API"), Some(api.to_string().as_str()));
        world.next_build();
        let (uid, gid) = (uid.to_string(), gid.to_string());
        let flags = ["-launcher", "launcher", "-uid", &uid, "-gid", &gid, "-no-color", "created"];
        let log = world.run("creator", &flags);
        for phase in ["ANALYZING", "DETECTING", "RESTORING", "BUILDING", "EXPORTING"] {
            assert!(log.ok().contains(&format!("===> {phase}\n")), "{api}: {}", log.out);
        }
        let created = world.image("created");
        assert_eq!(String::from_utf8(created.config), String::from_utf8(app.config), "{api}");
        assert_eq!(created.image.layers(), app.image.layers(), "{api}");
    }
}
