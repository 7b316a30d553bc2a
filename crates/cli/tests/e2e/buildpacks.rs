//! What buildpacks are told, and how they work together.

use crate::bench::{Bench, Buildpack, Done, is_root};
use std::path::PathBuf;

/// A buildpack that says that it was there.
fn speaker(id: &str) -> Buildpack {
    Buildpack::new(id).build(&format!("echo built by {id}"))
}

fn order(groups: &[&[(&str, bool)]]) -> String {
    let mut text = String::new();
    for group in groups {
        text.push_str("[[order]]\n");
        for (id, optional) in *group {
            text.push_str(&format!(
                "[[order.group]]\nid = \"{id}\"\nversion = \"1.0.0\"\noptional = {optional}\n"
            ));
        }
    }
    text
}

/// The ids of those that took part, as the image says.
fn took_part(bench: &Bench) -> Vec<String> {
    let image = bench.inspect();
    let all = image["buildpacks"].as_array().unwrap().iter();
    all.map(|buildpack| buildpack["id"].as_str().unwrap().to_owned()).collect()
}

fn build(bench: &Bench, buildpacks: &[PathBuf], groups: &[&[(&str, bool)]]) -> crate::bench::Done {
    let builder = bench.builder(buildpacks, &order(groups));
    bench.build(&["--builder", builder.to_str().unwrap()], &[])
}

#[test]
fn the_first_group_that_passes_builds() {
    let bench = Bench::new();
    let all = [
        bench.add(&speaker("e2e/no").detect("exit 100")),
        bench.add(&speaker("e2e/a")),
        bench.add(&speaker("e2e/b")),
    ];
    let groups: &[&[(&str, bool)]] = &[
        &[("e2e/a", false), ("e2e/no", false)],
        &[("e2e/no", true), ("e2e/b", false), ("e2e/a", false)],
        &[("e2e/a", false)],
    ];
    let done = build(&bench, &all, groups).ok();
    assert_eq!(took_part(&bench), ["e2e/b", "e2e/a"]);
    assert!(!done.stdout.contains("built by e2e/no"), "{done:#?}");
}

#[test]
fn a_group_of_optional_ones_that_all_say_no_does_not_pass() {
    let bench = Bench::new();
    let no = bench.add(&speaker("e2e/no").detect("exit 100"));
    assert_eq!(build(&bench, &[no], &[&[("e2e/no", true)]]).code, 20);
}

#[test]
fn a_composite_stands_for_its_groups() {
    let bench = Bench::new();
    let inner = order(&[&[("e2e/no", false)], &[("e2e/a", false), ("e2e/b", true)]]);
    let meta = "api = \"0.11\"\n[buildpack]\nid = \"e2e/meta\"\nversion = \"1.0.0\"\n";
    let all = [
        bench.add_meta("meta", &format!("{meta}{inner}")),
        bench.add(&speaker("e2e/no").detect("exit 100")),
        bench.add(&speaker("e2e/a")),
        bench.add(&speaker("e2e/b")),
        bench.add(&speaker("e2e/last")),
    ];
    build(&bench, &all, &[&[("e2e/meta", false), ("e2e/last", false)]]).ok();
    assert_eq!(took_part(&bench), ["e2e/a", "e2e/b", "e2e/last"]);
}

#[test]
fn plans_bring_buildpacks_together() {
    let bench = Bench::new();
    let provider = Buildpack::new("e2e/provider")
        .detect(r#"printf '[[provides]]\nname = "node"\n' >"$plan""#)
        .build(r#"cat "$plan"; printf '[[unmet]]\nname = "node"\n' >"$layers/build.toml""#);
    let second = Buildpack::new("e2e/second")
        .detect(r#"printf '[[provides]]\nname = "node"\n' >"$plan""#)
        .build(r#"sed 's/^/second: /' "$plan""#);
    // The first alternative needs what nobody has.
    let user = Buildpack::new("e2e/user").detect(
        r#"printf '[[requires]]\nname = "cheese"\n[[or]]\n[[or.requires]]\nname = "node"\n[or.requires.metadata]\nversion = "20"\n' >"$plan""#,
    );
    let all = [bench.add(&provider), bench.add(&second), bench.add(&user)];
    let groups: &[&[(&str, bool)]] =
        &[&[("e2e/provider", false), ("e2e/second", false), ("e2e/user", false)]];
    let done = build(&bench, &all, groups).ok();
    done.says("[e2e/provider@1.0.0]   name = \"node\"");
    done.says("[e2e/second@1.0.0] second:   name = \"node\"");
    assert!(done.stdout.lines().any(|l| l.contains("second: ") && l.contains("20")), "{done:#?}");
    assert_eq!(took_part(&bench), ["e2e/provider", "e2e/second", "e2e/user"]);
}

#[test]
fn a_requirement_that_nobody_provides_stops_the_group() {
    let bench = Bench::new();
    let user =
        bench.add(&Buildpack::new("e2e/user").detect(r#"printf '[[requires]]\nname = "node"\n' >"$plan""#));
    let done = bench.build(&[], &[user]);
    assert_eq!(done.code, 20, "{done:#?}");
    let all = format!("{}{}", done.stdout, done.stderr);
    assert!(all.contains("e2e/user") && all.contains("node"), "{done:#?}");
}

#[test]
fn build_layers_change_the_environment_of_those_that_follow() {
    let bench = Bench::new();
    let giver = Buildpack::new("e2e/giver").build(
        r#"
        layer tools build
        mkdir -p "$layers/tools/bin" "$layers/tools/lib" "$layers/tools/env" "$layers/tools/env.build" "$layers/tools/env.launch"
        printf '#!/bin/sh\necho a tool\n' >"$layers/tools/bin/e2e-tool"
        chmod +x "$layers/tools/bin/e2e-tool"
        echo -n plain >"$layers/tools/env/PLAIN"
        echo -n one >"$layers/tools/env.build/LIST"
        echo -n two >"$layers/tools/env.build/LIST2.prepend"
        echo -n , >"$layers/tools/env.build/LIST2.delim"
        echo -n end >"$layers/tools/env.build/LIST3.append"
        echo -n never >"$layers/tools/env.launch/LAUNCHED"
        layer hidden launch
        mkdir -p "$layers/hidden/env"
        echo -n never >"$layers/hidden/env/HIDDEN"
        "#,
    );
    let second = Buildpack::new("e2e/again").build(
        r#"
        layer more build
        mkdir -p "$layers/more/env.build"
        echo -n first >"$layers/more/env.build/LIST2.prepend"
        echo -n , >"$layers/more/env.build/LIST2.delim"
        echo -n late >"$layers/more/env.build/PLAIN.default"
        "#,
    );
    let taker = Buildpack::new("e2e/taker").build(
        r#"e2e-tool; echo "$PLAIN $LIST $LIST2 $LIST3 ${LAUNCHED-} ${HIDDEN-}."; echo "lib $LD_LIBRARY_PATH""#,
    );
    let all = [bench.add(&giver), bench.add(&second), bench.add(&taker)];
    let done = bench.build(&[], &all).ok();
    done.says("[e2e/taker@1.0.0] a tool");
    done.says("[e2e/taker@1.0.0] plain one first,two end  .");
    done.says("lib /layers/e2e_giver/tools/lib");
}

#[test]
fn buildpacks_get_the_platforms_variables_and_no_others() {
    let bench = Bench::new();
    let file = bench.write("vars", "# comment\n\nFROM_FILE=a=b c\nBOTH=file\nTAKEN\n");
    let open = Buildpack::new("e2e/open")
        .detect(r#"[[ $FROM_FLAG == flag ]]"#)
        .build(r#"echo "$FROM_FILE|$FROM_FLAG|$BOTH|$TAKEN|${SECRET-unset}|$(cat "$platform/env/BOTH")""#);
    let clear = Buildpack::new("e2e/clear")
        .toml("clear-env = true\n")
        .build(r#"echo "${FROM_FLAG-unset}|$(cat "$platform/env/FROM_FLAG")""#);
    let all = [bench.add(&open), bench.add(&clear)];
    let args =
        ["-t", "web", "--env-file", file.to_str().unwrap(), "--env", "FROM_FLAG=flag", "--env", "BOTH=flag"];
    let mut command = bench.build_command(&args, &all);
    command.env("TAKEN", "from here").env("SECRET", "secret");
    let done = crate::bench::Done::of(command).ok();
    done.says("[e2e/open@1.0.0] a=b c|flag|flag|from here|unset|flag");
    done.says("[e2e/clear@1.0.0] unset|flag");
}

#[test]
fn buildpacks_get_the_specifications_variables() {
    let bench = Bench::new();
    let script = r#"
        [[ $PWD == /workspace && $0 == "$CNB_BUILDPACK_DIR/bin/build" ]]
        [[ $CNB_LAYERS_DIR == "$layers" && $CNB_PLATFORM_DIR == "$platform" && $CNB_BP_PLAN_PATH == "$plan" ]]
        [[ $CNB_TARGET_OS == linux && $CNB_TARGET_ARCH =~ ^(amd64|arm64)$ ]]
        [[ $layers == /layers/e2e_vars && $CNB_BUILDPACK_DIR == /cnb/buildpacks/e2e_vars/1.0.0 ]]
        [[ $(id -u) == 1000 && $(id -g) == 1000 ]]
        echo all is well"#;
    let detect = r#"
        [[ $PWD == /workspace && $CNB_PLATFORM_DIR == "$platform" && $CNB_BUILD_PLAN_PATH == "$plan" ]]
        [[ $CNB_TARGET_OS == linux && -z ${CNB_LAYERS_DIR-} ]]"#;
    let dir = bench.add(&Buildpack::new("e2e/vars").detect(detect).build(script));
    bench.build(&[], &[dir]).ok().says("all is well");
}

#[test]
fn a_buildpack_changes_its_own_copy_of_the_app_and_nothing_else() {
    let bench = Bench::new();
    // `! command` alone never ends a script, whatever `set -e` says.
    let script = r#"
        refused() { if "$@" 2>/dev/null; then echo "not refused: $*"; exit 1; fi; }
        echo changed >marker
        refused touch "$CNB_BUILDPACK_DIR/x"
        refused touch "$platform/x"
        # Whether or not this is allowed, it must not arrive outside.
        touch /usr/MARKER 2>/dev/null || true
        [[ ! -e .git ]]"#;
    bench.write("app/.git/config", "a secret");
    let script = format!("{script}\necho done");
    let dir = bench.add(&Buildpack::new("e2e/writer").build(&script));
    bench.build(&[], &[dir]).ok().says("] done");
    assert_eq!(std::fs::read_to_string(bench.path("app/marker")).unwrap(), bench.marker());
    assert!(!std::path::Path::new("/usr").join(bench.marker()).exists());
}

#[test]
fn of_the_callers_home_a_buildpack_sees_tools_only() {
    let bench = Bench::new();
    // Not below /tmp, of which nothing is seen in any case.
    let place = if is_root() { PathBuf::from("/home") } else { std::env::home_dir().unwrap() };
    let home = tempfile::Builder::new().prefix("e2e-home-").tempdir_in(place).unwrap();
    let secret =
        [".ssh/id", ".config/rclone/rclone.conf", "private/diary", ".env", ".cargo/credentials.toml"];
    for file in secret.iter().chain(&[".cargo/bin/tool"]) {
        let path = home.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, format!("of {file}")).unwrap();
    }
    let script = format!("cd {}; find . ! -type d | sort; cat .cargo/bin/tool", home.path().display());
    let mut command =
        bench.build_command(&["-t", "web"], &[bench.add(&Buildpack::new("e2e/looker").build(&script))]);
    command.env("HOME", home.path());
    let done = Done::of(command).ok();
    let seen: Vec<_> =
        done.stdout.lines().filter_map(|line| line.strip_prefix("[e2e/looker@1.0.0] ")).collect();
    assert_eq!(seen, ["./.cargo/bin/tool", "of .cargo/bin/tool"]);
}

#[test]
fn a_layer_without_a_type_is_set_aside() {
    let bench = Bench::new();
    let maker = Buildpack::new("e2e/maker").build("layer idle; touch \"$layers/idle/file\"");
    let looker = Buildpack::new("e2e/looker").build("ls /layers/e2e_maker");
    let done = bench.build(&[], &[bench.add(&maker), bench.add(&looker)]).ok();
    done.says("] idle.ignore");
}
