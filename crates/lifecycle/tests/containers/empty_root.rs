//! The programs in an image that has nothing else: no libc, no users, no certificates, no `/tmp`.

use crate::docker::search_path;
use crate::images::{BARE, BUILDER, USER, import_builder, push_run_image};
use crate::site::{Done, Site};
use std::process::Command;

/// A name for this machine that only containers know.
const HOST: &str = "registry.test";

struct Root {
    site: Site,
}

impl Root {
    fn new() -> Self {
        let site = Site::new();
        import_builder(&site);
        push_run_image(&site, "one");
        for name in ["layers", "workspace", "cache"] {
            site.fresh_volume(name);
        }
        crate::site::write(&site.volume("workspace/greeting.txt"), "hello");
        Self { site }
    }

    fn name(&self, rest: &str) -> String {
        self.site.registry.name_on(HOST, rest)
    }

    fn run(&self, image: &str, program: &str, args: &[&str]) -> Done {
        let (host, entry) = (format!("{HOST}:127.0.0.1"), format!("/cnb/lifecycle/{program}"));
        let (auth, insecure) =
            (self.site.registry.auth(HOST), format!("CNB_INSECURE_REGISTRIES={},", self.name("")));
        let insecure = insecure.replace("/,", ",");
        let mut options = vec!["--user", USER, "--cap-drop", "ALL", "--env", "CNB_NO_COLOR=true"];
        if image == BARE {
            options.push("--read-only");
        }
        options.extend(["--add-host", &host, "--entrypoint", &entry]);
        options.extend(["--env", "CNB_PLATFORM_API=0.15", "--env", &auth, "--env", &insecure]);
        let volumes = ["layers", "workspace", "cache"]
            .map(|name| format!("{}:/{name}", self.site.volume(name).display()));
        options.extend(volumes.iter().flat_map(|volume| ["--volume", volume]));
        self.site.docker.run_image(&options, image, args)
    }
}

#[test]
fn what_deals_with_registries_needs_nothing_of_the_image_it_runs_in() {
    let root = Root::new();
    let (app, base) = (root.name("apps/bare:latest"), root.name("base/run:latest"));
    root.run(BARE, "analyzer", &["-run-image", &base, &app]).ok();
    // Buildpacks are scripts, and scripts need a place for temporary files.
    for program in ["detector", "builder"] {
        let program = root.run(BUILDER, program, &[]);
        assert_eq!(program.code, 0, "{program:#?}");
    }
    root.run(BARE, "restorer", &["-cache-dir", "/cache"]).ok();
    root.run(BARE, "exporter", &["-cache-dir", "/cache", &app])
        .ok()
        .says(&["Adding cache layer 'test/tools:tools'"]);
    push_run_image(&root.site, "two");
    root.run(BARE, "rebaser", &["-force", "-run-image", &base, &app]).ok();
    let here = root.site.registry.name("apps/bare:latest");
    root.site.docker.run(&["pull", "--quiet", &here]).ok();
    let answer = root.site.docker.run_image(&[], &here, &[]).ok().stdout;
    assert_eq!(answer, "compiled hello, again; base two, user 1001\n");
}

#[test]
fn the_creator_says_that_it_needs_a_user() {
    let root = Root::new();
    let done = root.run(
        BARE,
        "creator",
        &["-run-image", &root.name("base/run:latest"), &root.name("apps/bare:latest")],
    );
    assert_eq!(done.code, 1, "{done:#?}");
    done.says(&["ERROR: failed to set environment for user 1001: no user 1001 in /etc/passwd\n"]);
}

/// Docker adds a list of hosts to every container; here there is not even that.
#[test]
fn a_host_that_nobody_knows_is_named() {
    let root = Root::new();
    let tree = root.site.path("bare");
    let analyze = |name: &str| {
        let auth = root.site.registry.auth("127.0.0.1");
        let (_, auth) = auth.split_once('=').unwrap();
        Done::of(
            Command::new("chroot")
                .env_clear()
                .env("PATH", search_path())
                .envs([("CNB_PLATFORM_API", "0.15"), ("CNB_USER_ID", "1001"), ("CNB_GROUP_ID", "1000")])
                .env("CNB_REGISTRY_AUTH", auth)
                .args(["--userspec", USER])
                .arg(&tree)
                .args(["/cnb/lifecycle/analyzer", "-layers", "/layers", "-run-image"])
                .args([&root.site.registry.name("base/run:latest"), name]),
        )
    };
    root.site.fresh_volume("layers");
    std::fs::rename(root.site.volume("layers"), tree.join("layers")).unwrap();
    analyze(&root.site.registry.name("apps/bare:latest")).ok();
    assert!(tree.join("layers/analyzed.toml").exists());
    let done = analyze("nobody.test/apps/bare:latest");
    assert_eq!(done.code, 32, "{done:#?}");
    done.says(&["cannot GET https://nobody.test/v2/: failed to lookup address information"]);
}
