//! The detector: groups, composites, plans, and what is said of them.

use crate::world::{Buildpack, PLATFORM, World};
use strata_spec::{BuildpackApi, PlatformApi};

const BUILDPACK: BuildpackApi = BuildpackApi::V0_12;

/// Ids and versions in `group.toml`.
fn group(world: &World) -> Vec<String> {
    let group = world.toml("layers/group.toml");
    let text = |buildpack: &toml::Value, key: &str| buildpack[key].as_str().unwrap().to_owned();
    let all = group["group"].as_array().unwrap().iter();
    all.map(|buildpack| format!("{}@{}", text(buildpack, "id"), text(buildpack, "version"))).collect()
}

fn plan(requires: &[&str], provides: &[&str]) -> String {
    let list = |table: &str, names: &[&str]| -> String {
        names.iter().map(|name| format!("[[{table}]]\\nname = \"{name}\"\\n")).collect()
    };
    format!("printf '{}{}' > $2", list("requires", requires), list("provides", provides))
}

#[test]
fn the_first_group_that_passes_is_chosen() {
    // Each buildpack's script is what its id says.
    const SCRIPTS: &[(&str, &str)] =
        &[("yes", ""), ("also", ""), ("no", "exit 100"), ("error", "exit 7"), ("killed", "kill -9 $$")];
    for api in PLATFORM {
        let world = World::new(api);
        for (id, script) in SCRIPTS {
            world.add(&Buildpack::new(id, BUILDPACK).detect(script));
        }
        world.add(&Buildpack::new("yes", BUILDPACK).version("2"));
        world.add(&Buildpack::new("both", BUILDPACK).of(&[&["yes", "also"]]));
        world.add(&Buildpack::new("one", BUILDPACK).of(&[&["no"], &["also"]]));
        world.add(&Buildpack::new("none", BUILDPACK).of(&[&["no"], &["error"]]));
        world.add(&Buildpack::new("deep", BUILDPACK).of(&[&["one", "yes@2"]]));
        for (order, expected) in [
            (&[&["yes"][..]][..], Ok("yes@1")),
            (&[&["no"], &["yes"]], Ok("yes@1")),
            (&[&["no", "yes"], &["also"]], Ok("also@1")),
            (&[&["no?", "yes"]], Ok("yes@1")),
            (&[&["error?", "yes"]], Ok("yes@1")),
            (&[&["killed?", "yes"]], Ok("yes@1")),
            (&[&["error", "yes"], &["also"]], Ok("also@1")),
            (&[&["yes", "yes@2"]], Ok("yes@1")),
            (&[&["both"]], Ok("yes@1 also@1")),
            (&[&["one", "yes"]], Ok("also@1 yes@1")),
            (&[&["deep"]], Ok("also@1 yes@2")),
            (&[&["none?", "yes"]], Ok("yes@1")),
            (&[&["no"]], Err(20)),
            (&[&["no?"]], Err(20)),
            (&[&["error"]], Err(21)),
            (&[&["killed"]], Err(21)),
            (&[&["error"], &["no"]], Err(21)),
            (&[&["none", "yes"]], Err(21)),
            (&[], Err(20)),
        ] {
            world.order(order);
            let outcome = world.run("detector", &[]);
            match expected {
                Ok(ids) => {
                    outcome.ok();
                    assert_eq!(group(&world).join(" "), ids, "{api}, {order:?}");
                    world.remove("layers/group.toml");
                }
                Err(code) => {
                    let cause = if code == 20 {
                        "no buildpacks participating"
                    } else {
                        "buildpack(s) failed with err"
                    };
                    outcome.fails(code, &["failed to detect: ", cause]);
                    assert!(outcome.out.contains("ERROR: No buildpack groups passed detection.\n"), "{api}");
                    let hint = "ERROR: Please check that you are running against the correct path.\n";
                    assert_eq!(outcome.out.contains(hint), code == 20, "{api}, {order:?}");
                    assert!(!world.has("layers/group.toml"), "{api}, {order:?}");
                }
            }
        }
    }
}

#[test]
fn plans_have_to_fit_together() {
    let world = World::new(PlatformApi::NEWEST);
    for (id, script) in [
        ("gives", plan(&[], &["x"])),
        ("wants", plan(&["x"], &[])),
        ("both", plan(&["x"], &["x"])),
        ("or", format!("{}; printf '[[or]]\\n' >> $2", plan(&["nothing"], &[]))),
        ("plain", String::new()),
    ] {
        world.add(&Buildpack::new(id, BUILDPACK).detect(&script));
    }
    for (group_of, expected) in [
        (&["gives", "wants"][..], Ok("gives wants")),
        (&["wants", "gives"], Err("fail: wants@1 requires x")),
        (&["wants"], Err("fail: wants@1 requires x")),
        (&["gives"], Err("fail: gives@1 provides unused x")),
        (&["wants?", "plain"], Ok("plain")),
        (&["gives?", "plain"], Ok("plain")),
        (&["both"], Ok("both")),
        (&["gives", "both"], Ok("gives both")),
        (&["or", "plain"], Ok("or plain")),
    ] {
        world.order(&[group_of]);
        let outcome = world.run("detector", &[]);
        match expected {
            Ok(ids) => {
                outcome.ok();
                assert_eq!(group(&world).join(" "), ids.replace(' ', "@1 ") + "@1", "{group_of:?}");
            }
            Err(line) => {
                outcome.fails(20, &["no buildpacks participating"]);
                assert!(outcome.out.contains(&format!("{line}\n")), "{group_of:?}: {}", outcome.out);
            }
        }
    }
    world.order(&[&["gives", "both"]]);
    world.run("detector", &[]).ok();
    let plan = world.toml("layers/plan.toml");
    let entry = &plan["entries"][0];
    let ids: Vec<_> =
        entry["providers"].as_array().unwrap().iter().map(|p| p["id"].as_str().unwrap()).collect();
    assert_eq!((plan["entries"].as_array().unwrap().len(), ids), (1, vec!["gives", "both"]));
    assert_eq!(entry["requires"][0]["name"].as_str(), Some("x"));
}

#[test]
fn a_plan_that_cannot_be_used_is_an_error_of_its_buildpack() {
    for api in PLATFORM {
        for (script, word) in [
            ("echo '[[provides' > $2", "plan.toml is not valid: line 1, column"),
            ("printf '[[requires]]\\nname = 3\\n' > $2", "line 2, column 8"),
            ("printf '[[requires]]\\nname = \"x\"\\nversion = \"1\"\\n' > $2", "version"),
            ("printf '\\377' > $2", "UTF-8"),
        ] {
            let world = World::new(api);
            world.only(&Buildpack::new("a", BUILDPACK).detect(script));
            let outcome = world.run("detector", &[]);
            outcome.fails(21, &["buildpack(s) failed with err"]);
            assert!(outcome.out.contains("======== Error: a@1 ========\n"), "{script}: {}", outcome.out);
            assert!(outcome.out.contains(word), "{script}: {}", outcome.out);
        }
    }
}

#[test]
fn what_buildpacks_said_is_shown_when_it_matters() {
    let world = World::new(PlatformApi::NEWEST);
    world.add(&Buildpack::new("loud/yes", BUILDPACK).detect("echo 100% heard; echo too >&2"));
    world.add(&Buildpack::new("no", BUILDPACK).detect("echo not for me; exit 100"));
    world.add(&Buildpack::new("error", BUILDPACK).detect("echo broken; exit 7"));
    world.order(&[&["error"], &["loud/yes", "no?"]]);
    let log = world.run("detector", &[]).ok().to_owned();
    assert!(log.contains("======== Output: error@1 ========\nbroken\n"), "{log}");
    assert!(log.contains("err:  error@1 (7)\n"), "{log}");
    assert!(!log.contains("heard") && !log.contains("Results"), "{log}");
    assert!(log.ends_with("1 of 2 buildpacks participating\nloud/yes 1\n"), "{log}");
    let log = world.run("detector", &["-log-level", "debug"]).ok().to_owned();
    for line in [
        "======== Output: loud/yes@1 ========\n100% heard\ntoo\n",
        "======== Results ========\nerr:  error@1 (7)\n",
        "pass: loud/yes@1\nskip: no@1\n",
    ] {
        assert!(log.contains(line), "{line:?} is not in {log}");
    }
    // A failure shows everything.
    world.order(&[&["loud/yes", "no"]]);
    let outcome = world.run("detector", &[]);
    let log = outcome.fails(20, &[]);
    assert!(log.contains("======== Results ========\npass: loud/yes@1\nfail: no@1\n"), "{log}");
    assert!(log.contains("not for me\n"), "{log}");
}

#[test]
fn group_toml_says_who_takes_part() {
    for api in PLATFORM {
        let world = World::new(api);
        world.add(&Buildpack::new("a/b", "0.9").version("1.2").key("homepage = \"https://example.com\""));
        world.add(&Buildpack::new("c", BUILDPACK));
        world.order(&[&["a/b@1.2", "c?"]]);
        world.run("detector", &[]).ok();
        let expected = toml::toml! {
            [[group]]
            id = "a/b"
            version = "1.2"
            api = "0.9"
            homepage = "https://example.com"
            [[group]]
            id = "c"
            version = "1"
            api = "0.12"
        };
        assert_eq!(world.toml("layers/group.toml"), expected, "{api}");
        assert_eq!(world.read("layers/plan.toml"), "", "{api}");
    }
}

#[test]
fn detect_sees_the_platforms_environment_unless_it_asks_not_to() {
    let world = World::new(PlatformApi::NEWEST);
    world.write("platform/env/FROM_USER", "value");
    world.write("platform/env/PATH", "/from/user");
    world.write("build-config/env/FROM_OPERATOR", "value");
    let show =
        "echo user ${FROM_USER-none}; echo operator ${FROM_OPERATOR-none}; echo path $PATH; pwd; echo $1 $2";
    for (key, user, path) in [("", "value", "/from/user:/usr/"), ("clear-env = true", "none", "/usr/")] {
        world.only(&Buildpack::new("a", BUILDPACK).key(key).detect(show));
        let log = world.run("detector", &["-log-level", "debug"]).ok().to_owned();
        let (app, platform) = (world.path("app"), world.path("platform"));
        for line in [
            format!("user {user}\n"),
            "operator value\n".to_owned(),
            format!("path {path}"),
            format!("{}\n", app.display()),
            format!("{} {}/", platform.display(), world.path("tmp").display()),
        ] {
            assert!(log.contains(&line), "{line:?} is not in {log}");
        }
    }
    assert_eq!(std::fs::read_dir(world.path("tmp")).unwrap().count(), 0, "temporary files are left");
}
