//! What begins with a version of the Buildpack API. Every test looks at all versions: those before, too.

use crate::world::{BUILDPACK, Buildpack, PLATFORM, World};
use strata_spec::{BuildpackApi, PlatformApi};

/// What each buildpack of one group saw of the lifecycle's variables.
struct Seen {
    detect: String,
    build: String,
}

impl Seen {
    /// Runs a group with a buildpack for each API; their ids are `some/<api>`.
    fn of(world: &World) -> Self {
        let ids: Vec<String> = BUILDPACK.iter().map(|api| format!("some/{api}")).collect();
        for (id, api) in ids.iter().zip(BUILDPACK) {
            let show = format!("env | sed -n 's/^\\(CNB_[A-Z_]*\\)=/{api} \\1=/p'");
            world.add(&Buildpack::new(id, api).detect(&show).build(&show));
        }
        world.order(&[&ids.iter().map(String::as_str).collect::<Vec<_>>()]);
        Self {
            detect: world.run("detector", &["-log-level", "debug"]).ok().to_owned(),
            build: world.run("builder", &[]).ok().to_owned(),
        }
    }

    /// The values of a variable in detect and build.
    fn both(&self, api: BuildpackApi, name: &str) -> [Option<&str>; 2] {
        let prefix = format!("{api} {name}=");
        [&self.detect, &self.build].map(|log| log.lines().find_map(|line| line.strip_prefix(&prefix)))
    }
}

#[test]
fn buildpack_0_8_paths_are_variables() {
    let world = World::new(PlatformApi::NEWEST);
    let seen = Seen::of(&world);
    for api in BUILDPACK {
        let has = *api >= BuildpackApi::V0_8;
        let path = |path: String| Some(world.path(&path).display().to_string());
        let platform = path("platform".to_owned()).filter(|_| has);
        let layers = path(format!("layers/some_{api}")).filter(|_| has);
        let dir = path(format!("buildpacks/some_{api}/1"));
        assert_eq!(seen.both(*api, "CNB_PLATFORM_DIR"), [platform.as_deref(); 2], "{api}");
        assert_eq!(seen.both(*api, "CNB_LAYERS_DIR"), [None, layers.as_deref()], "{api}");
        assert_eq!(seen.both(*api, "CNB_BUILDPACK_DIR"), [dir.as_deref(); 2], "{api}");
        let is_there = |name| seen.both(*api, name).map(|value| value.is_some());
        assert_eq!(is_there("CNB_BUILD_PLAN_PATH"), [has, false], "{api}");
        assert_eq!(is_there("CNB_BP_PLAN_PATH"), [false, has], "{api}");
    }
}

#[test]
fn buildpack_0_8_a_process_has_a_working_directory() {
    for api in BUILDPACK {
        let world = World::new(PlatformApi::NEWEST);
        let command = if *api >= BuildpackApi::V0_9 { "[\"x\"]" } else { "\"x\"" };
        world.only(&Buildpack::new("a", api).build(&format!(
            "printf '[[processes]]\\ntype = \"web\"\\ncommand = {command}\\nworking-dir = \"/dir\"\\n' > $L/launch.toml"
        )));
        let log = world.build();
        let warned = log.ok().contains("Warning: process working directory isn't supported");
        assert_eq!(warned, *api < BuildpackApi::V0_8, "{api}: {}", log.out);
        let process = world.toml("layers/config/metadata.toml")["processes"][0].clone();
        let expected = (*api >= BuildpackApi::V0_8).then_some("/dir");
        assert_eq!(process.get("working-dir").and_then(|dir| dir.as_str()), expected, "{api}");
    }
}

#[test]
fn buildpack_0_9_processes_are_direct_and_their_commands_arrays() {
    for api in BUILDPACK {
        let is_array = *api >= BuildpackApi::V0_9;
        for (process, fits, direct) in [
            ("command = [\"x\", \"y\"]", is_array, true),
            ("command = \"x y\"", !is_array, false),
            ("command = \"x\"\\ndirect = true", !is_array, true),
            ("command = \"x\"\\ndirect = false", !is_array, false),
            ("command = [\"x\"]\\ndirect = true", false, true),
            ("command = [\"x\"]\\ndirect = false", false, true),
            ("command = 3", false, false),
            ("command = [3]", false, false),
        ] {
            let world = World::new(PlatformApi::NEWEST);
            world.only(
                &Buildpack::new("a", api).build(&format!(
                    "printf '[[processes]]\\ntype = \"web\"\\n{process}\\n' > $L/launch.toml"
                )),
            );
            let outcome = world.build();
            if fits {
                outcome.ok();
                let process = world.toml("layers/config/metadata.toml")["processes"][0].clone();
                assert_eq!(process["direct"].as_bool(), Some(direct), "{api}: {process}");
            } else {
                outcome.fails(52, &["launch.toml"]);
            }
        }
    }
}

#[test]
fn buildpack_0_10_targets_are_variables() {
    for platform in PLATFORM {
        let world = World::new(platform);
        world.run("analyzer", &["app"]).ok();
        let seen = Seen::of(&world);
        for api in BUILDPACK {
            let both = |value| [Some(value).filter(|_| *api >= BuildpackApi::V0_10); 2];
            let arch = strata_store::host_architecture();
            assert_eq!(seen.both(*api, "CNB_TARGET_OS"), both("linux"), "{api} on {platform}");
            assert_eq!(seen.both(*api, "CNB_TARGET_ARCH"), both(arch), "{api} on {platform}");
            assert_eq!(seen.both(*api, "CNB_TARGET_ARCH_VARIANT"), [None; 2], "{api} on {platform}");
            // Before, nobody looked what the run image is for, and the build image is asked.
            if *platform >= PlatformApi::V0_12 {
                assert_eq!(seen.both(*api, "CNB_TARGET_DISTRO_NAME"), both("debian"), "{api} on {platform}");
                assert_eq!(seen.both(*api, "CNB_TARGET_DISTRO_VERSION"), both("12"), "{api} on {platform}");
            }
        }
    }
}

/// One of several stacks stands for a target since 0.10 only; a single one always does.
#[test]
fn buildpack_0_10_a_known_stack_stands_for_a_target() {
    const BIONIC: &str = "[[stacks]]\nid = \"io.buildpacks.stacks.bionic\"\n";
    const OTHER: &str = "[[stacks]]\nid = \"example.stack\"\n";
    for api in BUILDPACK {
        for (distro, version, matches) in [("ubuntu", "18.04", true), ("debian", "12", false)] {
            for (stacks, counts) in [
                (BIONIC.to_owned(), true),
                (format!("{BIONIC}{OTHER}"), *api >= BuildpackApi::V0_10),
                (OTHER.to_owned(), false),
            ] {
                let world = World::new(PlatformApi::NEWEST);
                world.write(
                    "layers/analyzed.toml",
                    format!(
                        "[run-image]\nreference = \"x\"\n[run-image.target]\nos = \"linux\"\narch = \"amd64\"\n\
                         [run-image.target.distro]\nname = \"{distro}\"\nversion = \"{version}\"\n"
                    ),
                );
                world.only(&Buildpack::new("a", api).table(&stacks));
                let expected = if matches || !counts { 0 } else { 21 };
                let outcome = world.run("detector", &[]);
                assert_eq!(outcome.code, expected, "{api}, {distro}, {stacks}: {}", outcome.out);
            }
        }
    }
}

#[test]
fn buildpack_0_12_the_execution_environment_is_a_variable_on_every_platform() {
    for platform in PLATFORM {
        for (given, expected) in [("", "production"), ("test", "test")] {
            let mut world = World::new(platform);
            world.set("CNB_EXEC_ENV", given);
            let seen = Seen::of(&world);
            for api in BUILDPACK {
                let expected = [Some(expected).filter(|_| *api >= BuildpackApi::V0_12); 2];
                assert_eq!(seen.both(*api, "CNB_EXEC_ENV"), expected, "{api} on {platform}");
            }
        }
    }
}

#[test]
fn buildpack_0_12_a_descriptor_says_its_execution_environments() {
    for api in BUILDPACK {
        for platform in [PlatformApi::V0_14, PlatformApi::V0_15] {
            let world = World::new(platform);
            world.only(&Buildpack::new("a", api).key("exec-env = [\"test\"]"));
            let outcome = world.run("detector", &[]);
            let is_out = *api >= BuildpackApi::V0_12 && platform >= PlatformApi::V0_15;
            assert_eq!(outcome.code, if is_out { 20 } else { 0 }, "{api} on {platform}: {}", outcome.out);
        }
    }
}
