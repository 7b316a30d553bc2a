//! Builds that follow the app's files.

use crate::bench::{Bench, Buildpack, Running, tool};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// A buildpack that fails if the app says so, and keeps what the app says.
fn saying(bench: &Bench) -> PathBuf {
    let script = "layer said launch; cp word $layers/said/word; ! grep -q fail word";
    bench.add(&Buildpack::new("e2e/says").build(script))
}

#[test]
fn a_build_follows_the_apps_files_until_it_is_interrupted() {
    let bench = Bench::new();
    let buildpack = [saying(&bench)];
    bench.write("app/word", "first");
    bench.write(
        "app/project.toml",
        "[_]\nschema-version = \"0.2\"\n[io.buildpacks]\nexclude = [\"notes/\"]\n",
    );
    let report = bench.path("app/report.json").display().to_string();
    let args = ["-t", "web", "--watch", "--report", &report];
    let mut watch = Running::start(bench.build_command(&args, &buildpack));
    watch.wait_for_line("Watching ");
    let first = bench.inspect()["digest"].clone();
    bench.write("app/word", "second");
    watch.wait_for_line("word changed: built index.docker.io/library/web:latest in ");
    let second = bench.inspect()["digest"].clone();
    assert_ne!(first, second);
    // What no build sees, and what builds write, is nothing to build for: only the next change is told.
    bench.write("app/notes/today", "nothing");
    bench.write("app/.git/index", "nothing");
    bench.write("app/src/deep/new", "something");
    let line = watch.line_with(" changed: ");
    assert!(line.starts_with("src") && !line.contains("more"), "{line}");
    // One that fails is told, and the next one is tried all the same.
    bench.write("app/word", "fail");
    watch.wait_for_line("word changed: not built");
    assert_ne!(bench.inspect()["digest"], second);
    bench.write("app/word", "first");
    watch.wait_for_line("word changed: built");
    std::fs::remove_dir_all(bench.path("app/src")).unwrap();
    watch.wait_for_line(" changed: built");
    watch.signal(Signal::INT);
    assert_eq!(watch.end(), 0);
    bench.is_clean_soon();
}

/// Puts a new file in the place of one, at once: one change, however slow this machine is.
fn replace(bench: &Bench, path: &Path, text: &str) {
    let new = bench.write("new", text);
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::rename(new, path).unwrap();
}

#[test]
fn a_build_follows_what_the_command_line_names_and_tells_programs() {
    let bench = Bench::new();
    let buildpack =
        bench.add(&Buildpack::new("e2e/says").build("layer said launch; echo \"$WORD\" >$layers/said/word"));
    let env = bench.write("settings/app.env", "WORD=one\n");
    bench.write("elsewhere/project.toml", "[_]\nschema-version = \"0.2\"\n");
    let args =
        ["-t", "web", "--watch", "--json", "--env-file", "settings/app.env", "-d", "elsewhere/project.toml"];
    let mut watch = Running::start(bench.build_command(&args, std::slice::from_ref(&buildpack)));
    let mut line = |text: &str| -> Value { serde_json::from_str(&watch.line_with(text)).unwrap() };
    let watching = line("\"watching\"");
    assert_eq!(watching["also"].as_array().unwrap().len(), 3, "{watching}");
    let mut digests = vec![bench.inspect()["digest"].clone()];
    let real = |path: &Path| path.canonicalize().unwrap().display().to_string();
    for (path, text) in [
        (bench.path("app/word"), "new"),
        (env, "WORD=two\n"),
        (buildpack.join("bin/build"), "#!/bin/bash\nexit 0\n"),
        (bench.path("elsewhere/project.toml"), "[_]\nschema-version = \"0.2\"\nid = \"com.example\"\n"),
    ] {
        // Beside what is followed, nothing is.
        bench.write("settings/other.env", text);
        replace(&bench, &path, text);
        let rebuild = line("\"rebuild\"");
        let name = if path.starts_with(bench.path("app")) { "word".to_owned() } else { real(&path) };
        assert_eq!(rebuild["paths"], json!([name]));
        line("\"event\":\"summary\"");
        digests.push(bench.inspect()["digest"].clone());
    }
    assert_ne!(digests[0], digests[1]);
    assert_ne!(digests[1], digests[2]);
    replace(&bench, &buildpack.join("bin/build"), "#!/bin/bash\nexit 1\n");
    let failed = line("\"event\":\"failed\"");
    assert_eq!(failed["exit"], "buildpack-build");
    // Each build has a log of its own.
    assert!(Path::new(failed["log"].as_str().unwrap()).is_file(), "{failed}");
    let logs = std::fs::read_dir(bench.path("home/.local/state/strata/logs")).unwrap().count();
    assert_eq!(logs, 6);
    watch.signal(Signal::INT);
    assert_eq!(watch.end(), 0);
    bench.is_clean_soon();
}

#[test]
fn what_builds_write_into_the_app_is_nothing_to_build_for() {
    let bench = Bench::new();
    let buildpack = [saying(&bench)];
    bench.write("app/word", "first");
    let common =
        ["-t", "web", "--watch", "--report", "app/one:report.json", "--cache-image", "oci:app/cached"];
    for output in [
        &["-o", "oci:app/tagged:v1"][..],
        &["-o", "docker-archive:app/file.tar:web:v1"],
        &["-o", "app/with:colon"],
        &["-o", "app/deep/er/plain", "--sbom-output-dir", "app/sboms", "--report-output-dir", "app/reports"],
    ] {
        let mut command = bench.build_command(&[&common[..], output].concat(), &buildpack);
        for name in ["XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"] {
            command.env(name, bench.path("app/home").join(name));
        }
        let mut watch = Running::start(command);
        watch.wait_for_line("Watching ");
        let mut lines = Vec::new();
        for word in ["second", "third", "fourth"] {
            bench.write("app/word", word);
            lines.push(watch.line_with(" changed"));
        }
        watch.signal(Signal::INT);
        assert_eq!(watch.end(), 0);
        assert!(lines.iter().all(|line| line.starts_with("word changed: built")), "{output:?}: {lines:#?}");
    }
    bench.is_clean_soon();
}

#[test]
fn what_builds_write_where_a_builder_is_is_nothing_to_build_for() {
    let bench = Bench::new();
    let buildpack = saying(&bench);
    let listed = buildpack.display();
    let text = format!("[[buildpacks]]\nuri = \"{listed}\"\n[[order]]\n[[order.group]]\nid = \"e2e/says\"\n");
    let in_buildpack = format!("{listed}/made");
    // In the app, and in a folder with the app, the images and the home.
    for (builder, given, reports) in [
        ("app/builder.toml", "app/builder.toml", "app/out"),
        ("builder.toml", ".", "out"),
        ("builder.toml", "builder.toml", &in_buildpack),
    ] {
        bench.write("app/word", "first");
        let exclude = "[_]\nschema-version = \"0.2\"\n[io.buildpacks]\nexclude = [\"notes/\"]\n";
        bench.write("app/project.toml", exclude);
        bench.write(builder, &text);
        let args = ["-t", "web", "--watch", "--builder", given, "--cache", "app/cache"];
        let beside = ["--report-output-dir", reports, "--sbom-output-dir", "app/sboms"];
        let mut watch = Running::start(bench.build_command(&[&args[..], &beside].concat(), &[]));
        watch.wait_for_line("Watching ");
        let mut lines = Vec::new();
        for word in ["second", "third", "fourth"] {
            bench.write("app/notes/today", word);
            bench.write("app/word", word);
            lines.push(watch.line_with(" changed"));
        }
        // The builder itself is followed, in the app and elsewhere.
        replace(&bench, &bench.path(builder), &format!("{text}optional = true\n"));
        lines.push(watch.line_with("builder.toml changed"));
        replace(&bench, &buildpack.join("note"), given);
        lines.push(watch.line_with("note changed"));
        watch.signal(Signal::INT);
        assert_eq!(watch.end(), 0);
        let (own, others) = lines.split_at(3);
        assert!(own.iter().all(|line| line.starts_with("word changed: built")), "{given}: {lines:#?}");
        assert!(others.iter().all(|line| line.contains(" changed: built")), "{given}: {lines:#?}");
    }
    bench.is_clean_soon();
}

#[test]
fn a_build_that_follows_is_interrupted_like_any_other() {
    let bench = Bench::new();
    let slow =
        [bench.add(&Buildpack::new("e2e/slow").build("[ ! -e slow ] || { echo MARKER; sleep 1000; }"))];
    let args = ["-t", "web", "--watch", "--verbose"];
    let mut watch = Running::start(bench.build_command(&args, &slow));
    watch.wait_for_line("Watching ");
    bench.write("app/slow", "");
    watch.wait_for_line(bench.marker());
    watch.signal(Signal::TERM);
    assert_eq!(watch.end(), 130);
    bench.is_clean_soon();
}

#[test]
fn what_cannot_be_followed_is_refused() {
    let bench = Bench::new();
    let good = [bench.add(&Buildpack::new("e2e/good"))];
    tool(
        "tar",
        &["-cf", bench.path("app.tar").to_str().unwrap(), "-C", bench.path("app").to_str().unwrap(), "."],
    );
    for (args, words) in [
        (&["build", "app.tar", "-t", "web", "--watch"][..], "--watch is for an app in a folder"),
        (&["build", "app", "-o", "-", "--watch"], "an archive on standard output is one"),
        (&["plan", "app", "--watch"], "--watch is for builds"),
        (&["build", "absent", "-t", "web", "--watch"], "cannot read the app's folder"),
    ] {
        let mut command = bench.strata(args);
        let done = crate::bench::Done::of({
            command.arg("-b").arg(&good[0]);
            command
        });
        assert!(done.code == 3 && done.stderr.contains(words), "{done:#?}");
    }
}
