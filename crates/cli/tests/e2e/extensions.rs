//! Image extensions: builders whose extensions change the image that buildpacks run in, and the run image.

use crate::bench::{Bench, Buildpack, Done};
use crate::builders::Builder;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

const FROM: &str = "ARG base_image\nFROM ${base_image}\nUSER root\nSHELL [\"/usr/bin/bash\", \"-c\"]\n";
const RESET: &str = "ARG user_id\nARG group_id\nUSER ${user_id}:${group_id}\n";

const RUN_IMAGES: &str =
    "[[images]]\nimage = \"oci:run\"\n[[images]]\nimage = \"oci:other\"\nmirrors = [\"example.com/other\"]\n";

/// An extension that provides `x` and generates what its script writes to the working directory.
fn extension(bench: &Bench, script: &str) -> PathBuf {
    let dir = bench.path("extension");
    fs::create_dir_all(dir.join("bin")).unwrap();
    let toml = "api = \"0.10\"\n[extension]\nid = \"e2e/ext\"\nversion = \"1.0.0\"\n";
    fs::write(dir.join("extension.toml"), toml).unwrap();
    let detect = "#!/usr/bin/env bash\nprintf '[[provides]]\\nname = \"x\"\\n' > \"$CNB_BUILD_PLAN_PATH\"\n";
    for (name, text) in [
        ("detect", detect),
        ("generate", &format!("#!/usr/bin/env bash\nset -e\ncd \"$CNB_OUTPUT_DIR\"\n{script}")),
    ] {
        let path = dir.join("bin").join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    dir
}

/// A builder with that extension, and a run image with a shell.
fn images(bench: &Bench, script: &str) {
    let buildpack = Buildpack::new("e2e/bp")
        .detect("printf '[[requires]]\\nname = \"x\"\\n' > \"$plan\"")
        .build("echo \"it sees $(cat /etc/tool), of $(stat -c %u:%g /etc/tool)\"; layer l launch; echo x > $layers/l/x");
    let buildpack = bench.add(&buildpack);
    let order = "[[order]]\n[[order.group]]\nid = \"e2e/bp\"\nversion = \"1.0.0\"\n\
                 [[order-extensions]]\n[[order-extensions.group]]\nid = \"e2e/ext\"\nversion = \"1.0.0\"\n";
    Builder::new(bench, "builder", &[buildpack])
        .dir(&extension(bench, script), "/cnb/extensions/e2e_ext/1.0.0")
        .file("/cnb/order.toml", order)
        .file("/cnb/run.toml", RUN_IMAGES)
        .write();
    Builder::new(bench, "run", &[]).user("1234:1235").file("/etc/gone", "").write();
}

fn build(bench: &Bench, args: &[&str]) -> Done {
    bench.build(&[&["--builder", "oci:builder", "--run-image", "oci:run"], args].concat(), &[])
}

fn dockerfile(kind: &str, instructions: &str) -> String {
    format!("cat > {kind}.Dockerfile <<'END'\n{FROM}{instructions}\n{RESET}END\n")
}

#[test]
fn extensions_change_both_images_and_run_once() {
    let bench = Bench::new();
    let script = dockerfile("build", "RUN echo a tool > /etc/tool")
        + &dockerfile(
            "run",
            "COPY file /etc/copied\nRUN echo running; mkdir /made; rm /etc/gone\nENV MADE=yes\nLABEL io.buildpacks.rebasable=true",
        )
        + "mkdir context.run; echo copied > context.run/file\n";
    images(&bench, &script);
    let first = build(&bench, &[]).ok();
    first.says("it sees a tool, of 0:0");
    first.says("running");
    first.says("e2e/ext:extended-layer-4");
    let config = bench.config();
    assert_eq!(config["config"]["User"], "1234:1235");
    assert_eq!(config["config"]["Labels"]["io.buildpacks.rebasable"], "true");
    assert!(config["config"]["Env"].as_array().unwrap().iter().any(|entry| entry == "MADE=yes"), "{config}");
    let by = config["history"][4]["created_by"].as_str().unwrap();
    assert!(
        by.starts_with("Layer: 'COPY file /etc/copied; RUN") && by.ends_with("by extension: e2e/ext"),
        "{by}"
    );
    let metadata = bench.label("io.buildpacks.lifecycle.metadata");
    assert_eq!(metadata["runImage"]["topLayer"], config["rootfs"]["diff_ids"][3]);
    assert_eq!(bench.label("io.buildpacks.build.metadata")["extensions"][0]["id"], "e2e/ext");
    let found = bench.run(&["--", "--", "/usr/bin/bash", "-c", "cat /etc/copied; ls -d /made /etc/gone"]);
    assert_eq!(found.stdout.trim(), "copied\n/made", "{found:#?}");
    let traced = Done::of(bench.strata(["trace", "web", "--layout-dir", "images"])).ok();
    traced.says("e2e/ext@1.0.0");
    // Nothing runs a second time, unless it is asked for; it is the same in any case.
    let second = build(&bench, &[]).ok();
    assert!(!second.stdout.contains("running"), "{second:#?}");
    second.says("it sees a tool");
    let third = build(&bench, &["--clear-cache"]).ok();
    third.says("running");
    assert_eq!((second.digest(), third.digest()), (first.digest(), first.digest()));
    bench.is_clean_soon();
}

#[test]
fn what_fails_names_extension_line_and_last_words() {
    for (kind, instructions, words) in [
        (
            "run",
            "RUN echo first\nRUN echo about to fail; exit 7",
            "run.Dockerfile of e2e/ext@1.0.0, line 6: RUN",
        ),
        ("run", "RUN echo first; exit 7", "exit status 7"),
        ("build", "RUN echo last words; exit 3", "last words"),
        ("build", "COPY nothing /x", "nothing in the context is called 'nothing'"),
        ("run", "COPY --from=other /a /b", "line 5: COPY --from is not possible"),
        ("run", "USER nobody-here\nRUN true", "the image has no user 'nobody-here'"),
        ("run", "RUN [\"/no/such/program\"]", "cannot run /no/such/program"),
    ] {
        let bench = Bench::new();
        images(&bench, &dockerfile(kind, instructions));
        let done = build(&bench, &[]);
        assert!(done.code == 102 && done.stderr.contains(words), "{instructions}: {done:#?}");
        assert!(!bench.has_image(), "{instructions}");
        bench.is_clean_soon();
    }
}

#[test]
fn extensions_choose_run_images_that_are_known_and_reach_no_other_of_this_machine() {
    let bench = Bench::new();
    images(&bench, "echo FROM $WHICH > run.Dockerfile");
    // Its user is root, as no extended one may be.
    Builder::new(&bench, "other", &[]).user("0:0").file("/other", "").write();
    let build = |which: &str| build(&bench, &["--env", &format!("WHICH={which}")]);
    let folder = format!("oci:{}", bench.path("other").display());
    for which in [
        &folder,
        "oci:../other",
        "oci-archive:other",
        "docker-archive:other",
        "docker-archive:/other.tar",
        "docker-daemon:private:1",
        "docker-daemon:private",
        "docker:private",
        "docker://127.0.0.1:1/private",
        "registry:private",
        "scratch",
        "/other",
    ] {
        let done = build(which);
        assert!(done.code == 92 && done.stderr.contains(which), "{which}: {done:#?}");
        assert!(!bench.has_image(), "{which}");
    }
    let done = build("oci:other").ok();
    assert!(!done.stdout.contains("not found in run metadata"), "{done:#?}");
    assert!(bench.config()["config"]["Labels"].get("io.buildpacks.rebasable").is_none(), "{done:#?}");
    let run_image = &bench.label("io.buildpacks.lifecycle.metadata")["runImage"];
    assert_eq!(run_image["mirrors"], serde_json::json!(["example.com/other"]));
    let found = bench.run(&["--", "--", "/usr/bin/bash", "-c", "ls /other"]);
    assert_eq!(found.stdout.trim(), "/other", "{found:#?}");
    bench.is_clean_soon();
}
