//! Image extensions as platforms run them: the extender is root in a container of the image that it extends.

use crate::images::{BUILDER, import_builder, push_run_image, run_image};
use crate::site::{Done, Site, write};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

const ORDER: &str = r#"
[[order]]
group = [{ id = "test/tools", version = "1.0.0" }, { id = "test/server", version = "1.0.0" }]
[[order-extensions]]
group = [{ id = "test/ext", version = "1.0.0" }]
"#;
const DETECT: &str = "#!/bin/sh\nexit 0\n";
const GENERATE: &str = r#"#!/bin/sh
set -eu
for kind in build run; do
	echo 'ARG base_image
FROM ${base_image}
USER root
RUN echo extended >>/etc/base-release
ARG user_id
ARG group_id
USER ${user_id}:${group_id}' >"$CNB_OUTPUT_DIR/$kind.Dockerfile"
done
"#;

/// A builder with an extension, in the registry, too.
fn extending_builder(site: &Site) -> String {
    let tree = site.path("extension");
    let dir = tree.join("extensions/test_ext/1.0.0");
    write(
        &dir.join("extension.toml"),
        "api = \"0.10\"\n[extension]\nid = \"test/ext\"\nversion = \"1.0.0\"\n",
    );
    for (name, text) in [("detect", DETECT), ("generate", GENERATE)] {
        write(&dir.join("bin").join(name), text);
        fs::set_permissions(dir.join("bin").join(name), Permissions::from_mode(0o755)).unwrap();
    }
    write(&tree.join("order.toml"), ORDER);
    let run = |args: &[&str]| site.docker.run(args).ok().stdout.trim().to_owned();
    let id = run(&["create", BUILDER, "/bin/sh"]);
    run(&["cp", &format!("{}/.", tree.display()), &format!("{id}:/cnb")]);
    let name = site.registry.name("extending/builder:latest");
    run(&["commit", &id, &name]);
    run(&["rm", &id]);
    run(&["push", "--quiet", &name]);
    name
}

/// Runs a phase in a container of an image, as a user.
fn phase(site: &Site, image: &str, user: &str, program: &str, args: &[&str]) -> Done {
    let mut options = vec!["--user".to_owned(), user.to_owned()];
    let volumes = [
        ("layers", "/layers"),
        ("workspace", "/workspace"),
        ("platform", "/platform"),
        ("cache", "/cache"),
        ("kaniko", "/kaniko"),
        ("lifecycle", "/lifecycle"),
    ];
    for (name, place) in volumes {
        options.extend(["--volume".into(), format!("{}:{place}", site.volume(name).display())]);
    }
    let auth = site.registry.auth("127.0.0.1");
    for variable in ["CNB_PLATFORM_API=0.13", "CNB_USER_ID=1001", "CNB_GROUP_ID=1000", &auth] {
        options.extend(["--env".into(), variable.to_owned()]);
    }
    options.extend(["--entrypoint".into(), format!("/lifecycle/{program}")]);
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    site.docker.run_image(&options, image, args)
}

/// Builds; what the extender said of the run image.
fn build(site: &Site, builder: &str, app: &str) -> String {
    for name in ["layers", "workspace", "platform"] {
        site.fresh_volume(name);
    }
    write(&site.volume("workspace/greeting.txt"), "hello");
    write(&site.volume("platform/env/FROM_PLATFORM"), "yes");
    let run = run_image(site);
    phase(site, builder, "0", "analyzer", &["-run-image", &run, app]).ok();
    phase(site, builder, "1001:1000", "detector", &[]).ok();
    phase(site, builder, "0", "restorer", &["-build-image", builder, "-cache-dir", "/cache"]).ok();
    let extended = phase(site, &run, "0", "extender", &["-kind", "run"]).ok();
    phase(site, builder, "0", "extender", &["-kind", "build"]).ok().says(&["from the platform: yes"]);
    phase(site, builder, "0", "exporter", &["-cache-dir", "/cache", app])
        .ok()
        .says(&["Adding layer 'test/ext:extended-layer-1'\n"]);
    extended.stdout
}

#[test]
fn both_images_are_extended_in_containers_of_them() {
    let site = Site::new();
    import_builder(&site);
    push_run_image(&site, "one");
    let builder = extending_builder(&site);
    for name in ["cache", "kaniko", "lifecycle"] {
        site.fresh_volume(name);
    }
    // As platforms bring it into containers of run images.
    let id = site.docker.run(&["create", BUILDER, "/bin/sh"]).ok().stdout.trim().to_owned();
    let to = site.volume("lifecycle").display().to_string();
    site.docker.run(&["cp", &format!("{id}:/cnb/lifecycle/."), &to]).ok();
    site.docker.run(&["rm", &id]).ok();
    let app = site.registry.name("app/extended:latest");
    let first = build(&site, &builder, &app);
    assert!(first.contains("No cached layer found for cmd RUN echo extended"), "{first}");
    let answer = || {
        site.docker.run(&["pull", "--quiet", &app]).ok();
        site.docker.run_image(&["--user", "4242:4242"], &app, &[]).ok().stdout
    };
    let said = answer();
    assert!(said.contains("base one\nextended, user 4242"), "{said}");
    let digest = || site.docker.run(&["inspect", "--format", "{{.Id}}", &app]).ok().stdout;
    let made = digest();
    let second = build(&site, &builder, &app);
    assert!(!second.contains("No cached layer"), "{second}");
    assert_eq!((answer(), digest()), (said, made));
}
