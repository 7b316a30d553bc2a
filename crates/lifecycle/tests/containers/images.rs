//! Builder and run images, made of nothing but busybox and the programs of a release.

use crate::release::release;
use crate::site::{Done, Site, write};
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What phases are run in.
pub(crate) const BUILDER: &str = "builder:latest";
/// Nothing but the programs.
pub(crate) const BARE: &str = "bare:latest";
/// The user of the build, as images and platforms name it.
pub(crate) const USER: &str = "1001:1000";
/// What scripts of the buildpacks call.
const APPLETS: &[&str] = &["sh", "cat", "chmod", "id", "mkdir"];

/// The run image's name.
pub(crate) fn run_image(site: &Site) -> String {
    site.registry.name("base/run:latest")
}

/// Makes a run image, recognisable by a word, and pushes it under the name that all of them have.
pub(crate) fn push_run_image(site: &Site, word: &str) {
    let tree = site.path(format!("run-{word}"));
    busybox(&tree);
    write(&tree.join("etc/base-release"), &format!("{word}\n"));
    let name = run_image(site);
    site.docker.import(&tree, &labels(), &name);
    fs::remove_dir_all(tree).unwrap();
    site.docker.run(&["push", "--quiet", &name]).ok();
}

/// Makes the builder and the image with nothing but the programs.
pub(crate) fn import_builder(site: &Site) {
    let programs = |tree: &Path| {
        let cnb = tree.join("cnb");
        fs::create_dir_all(&cnb).unwrap();
        // Read by everybody, whatever the umask of the test is.
        fs::set_permissions(tree, Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(&cnb, Permissions::from_mode(0o755)).unwrap();
        Done::of(Command::new("tar").arg("-C").arg(&cnb).arg("-xzf").arg(release())).ok();
    };
    let config =
        [&labels()[..], &["ENV CNB_USER_ID=1001 CNB_GROUP_ID=1000 CNB_STACK_ID=test.busybox".into()]]
            .concat();
    let tree = site.path("bare");
    programs(&tree);
    site.docker.import(&tree, &config, BARE);

    let tree = site.path("builder");
    busybox(&tree);
    programs(&tree);
    write(&tree.join("cnb/order.toml"), ORDER);
    let name = run_image(site);
    write(&tree.join("cnb/run.toml"), &format!("[[images]]\nimage = \"{name}\"\n"));
    write(&tree.join("cnb/stack.toml"), &format!("[run-image]\nimage = \"{name}\"\n"));
    for (id, descriptor, detect, build) in [
        ("test_tools", TOOLS, DETECT_TOOLS, BUILD_TOOLS),
        ("test_server", SERVER, DETECT_SERVER, BUILD_SERVER),
    ] {
        let dir = tree.join("cnb/buildpacks").join(id).join("1.0.0");
        write(&dir.join("buildpack.toml"), descriptor);
        for (name, text) in [("detect", detect), ("build", build)] {
            let program = dir.join("bin").join(name);
            write(&program, text);
            fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
        }
    }
    site.docker.import(&tree, &config, BUILDER);
}

/// How all of the images are configured.
fn labels() -> Vec<String> {
    vec![
        format!("USER {USER}"),
        "ENV PATH=/usr/local/bin:/bin".into(),
        "LABEL io.buildpacks.stack.id=test.busybox".into(),
        "LABEL io.buildpacks.base.distro.name=busybox io.buildpacks.base.distro.version=1".into(),
    ]
}

/// Writes a small system.
fn busybox(tree: &Path) {
    fs::create_dir_all(tree.join("bin")).unwrap();
    fs::create_dir_all(tree.join("tmp")).unwrap();
    fs::set_permissions(tree, Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(tree.join("tmp"), Permissions::from_mode(0o1777)).unwrap();
    fs::copy(installed_busybox(), tree.join("bin/busybox")).unwrap();
    for applet in APPLETS {
        symlink("busybox", tree.join("bin").join(applet)).unwrap();
    }
    write(&tree.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\ncnb:x:1001:1000::/home/cnb:/bin/sh\n");
    write(&tree.join("etc/group"), "root:x:0:\ncnb:x:1000:\n");
}

fn installed_busybox() -> PathBuf {
    let places = ["/usr/bin/busybox", "/bin/busybox"].map(PathBuf::from);
    let found = places.into_iter().find(|path| path.exists());
    found.expect("this test needs /usr/bin/busybox, of the package busybox-static")
}

const ORDER: &str = r#"
[[order]]
group = [{ id = "test/tools", version = "1.0.0" }, { id = "test/server", version = "1.0.0" }]
"#;

const TOOLS: &str = r#"
api = "0.8"
[buildpack]
id = "test/tools"
version = "1.0.0"
[[stacks]]
id = "*"
"#;
const DETECT_TOOLS: &str = r#"#!/bin/sh
echo '[[provides]]
name = "tools"' >"$2"
"#;
/// A layer for other buildpacks, that is kept in the cache.
const BUILD_TOOLS: &str = r#"#!/bin/sh
set -eu
if [ -f "$1/tools/bin/compile" ]; then
	echo "tools: from the cache"
else
	echo "tools: made anew"
	mkdir -p "$1/tools/bin"
	echo '#!/bin/sh
echo "compiled $(cat "$1")"' >"$1/tools/bin/compile"
	chmod 755 "$1/tools/bin/compile"
fi
echo '[types]
build = true
cache = true' >"$1/tools.toml"
"#;

const SERVER: &str = r#"
api = "0.12"
[buildpack]
id = "test/server"
version = "1.0.0"
sbom-formats = ["application/vnd.cyclonedx+json"]
[[targets]]
os = "linux"
"#;
const DETECT_SERVER: &str = r#"#!/bin/sh
[ -f greeting.txt ] || exit 100
echo '[[requires]]
name = "tools"' >"$2"
"#;
/// A layer that only the image has, one that the cache has, too, and one that is new each time.
const BUILD_SERVER: &str = r#"#!/bin/sh
set -eu
if [ -f "$1/program.toml" ]; then
	echo "server: in the previous image"
else
	echo "server: made anew"
	mkdir -p "$1/program/bin" "$1/program/env.launch"
	printf again >"$1/program/env.launch/WORD.default"
	echo '#!/bin/sh
echo "$(cat "$ASSETS/greeting"), $WORD; base $(cat /etc/base-release), user $(id -u)"' >"$1/program/bin/serve"
	chmod 755 "$1/program/bin/serve"
	echo '{"bomFormat": "CycloneDX"}' >"$1/program.sbom.cdx.json"
fi
echo '[types]
launch = true' >"$1/program.toml"
[ -f "$1/both/file" ] && echo "server: from the cache"
mkdir -p "$1/both" "$1/assets/env.launch"
echo both >"$1/both/file"
echo '[types]
launch = true
cache = true' >"$1/both.toml"
compile greeting.txt >"$1/assets/greeting"
printf %s "$1/assets" >"$1/assets/env.launch/ASSETS.override"
echo "from the platform: ${FROM_PLATFORM-nothing}"
echo '[types]
launch = true' >"$1/assets.toml"
echo '[[processes]]
type = "web"
command = ["serve"]
default = true' >"$1/launch.toml"
"#;
