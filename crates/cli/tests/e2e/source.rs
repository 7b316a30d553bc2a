//! The app's source: what the image says of it, and what a repository cannot make the program do.

use crate::bench::{Bench, Buildpack, Done, tool};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;

const SECRET: &str = "planted-secret";

/// `git`, whoever runs the test and whenever.
fn git_command(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("git");
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", "/nonexistent");
    for role in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{role}_NAME"), "Test").env(format!("GIT_{role}_EMAIL"), "test@example.com");
        command.env(format!("GIT_{role}_DATE"), "1700000000 +0000");
    }
    command.args(["-c", "init.defaultBranch=main", "-c", "protocol.file.allow=always"]);
    command.arg("-C").arg(dir).args(args);
    command
}

pub(crate) fn git(dir: &Path, args: &[&str]) -> String {
    Done::of(git_command(dir, args)).ok().stdout.trim().to_owned()
}

/// Makes a folder a repository with one commit of all that is in it, and returns the commit's id.
pub(crate) fn commit(dir: &Path) -> String {
    if !dir.join(".git").exists() {
        git(dir, &["init", "-q"]);
        let url = format!("https://me:{SECRET}@example.com/team/web.git?token={SECRET}");
        git(dir, &["remote", "add", "origin", &url]);
    }
    git(dir, &["add", "-A"]);
    git(dir, &["commit", "-q", "-m", "all"]);
    git(dir, &["rev-parse", "HEAD"])
}

fn source(bench: &Bench) -> Value {
    let source = bench.label("io.buildpacks.app.source");
    assert_eq!(bench.label("io.buildpacks.project.metadata"), json!({"source": source}));
    source
}

fn labels(bench: &Bench) -> [Option<String>; 4] {
    let config = bench.config();
    ["source", "revision", "version", "created"].map(|key| {
        let key = format!("org.opencontainers.image.{key}");
        let label = config["config"]["Labels"][&key].as_str().map(str::to_owned);
        assert_eq!(bench.inspect()["annotations"][&key].as_str(), label.as_deref());
        label
    })
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

/// Two benches with the same app.
fn bench() -> (Bench, PathBuf) {
    let bench = Bench::new();
    bench.write("app/marker", "the same everywhere");
    let buildpack = bench.add(&Buildpack::new("e2e/none"));
    (bench, buildpack)
}

#[test]
fn the_image_names_the_commit_and_no_secret() {
    let (bench, buildpack) = bench();
    bench.write("app/.gitignore", "ignored\n");
    bench.write("app/ignored", "x");
    bench.write(
        "app/project.toml",
        &format!("[_]\nschema-version = \"0.2\"\nid = \"com.example.web\"\nsource-url = \"https://u:{SECRET}@example.com/web\"\n"),
    );
    let id = commit(&bench.path("app"));
    git(&bench.path("app"), &["tag", "v1.2"]);
    let done = bench.build(&[], std::slice::from_ref(&buildpack)).ok();
    done.says(&format!("Source: commit {id}\n"));
    let project = json!({"id": "com.example.web", "source-url": "https://example.com/web"});
    let metadata = json!({"project": project, "url": "https://example.com/team/web"});
    assert_eq!(source(&bench), json!({"type": "git", "version": {"commit": id}, "metadata": metadata}));
    let date = some("2023-11-14T22:13:20Z");
    assert_eq!(labels(&bench), [some("https://example.com/web"), some(&id), some("v1.2"), date]);
    assert!(!format!("{done:?}{}", bench.config()).contains(SECRET));
    let found = Command::new("grep").args(["-rl", SECRET]).arg(bench.path("images")).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&found.stdout), "", "a secret is in the image's folder");
}

#[test]
fn clones_of_a_commit_make_one_image() {
    let (first, buildpack) = bench();
    commit(&first.path("app"));
    let digest = first.build(&[], &[buildpack]).ok().digest();
    let (second, buildpack) = bench();
    std::fs::remove_dir_all(second.path("app")).unwrap();
    let from = first.path("app").display().to_string();
    git(&second.path(""), &["clone", "-q", "--depth=1", &format!("file://{from}"), "app"]);
    let app = second.path("app");
    git(&app, &["checkout", "-q", "-b", "other"]);
    git(&app, &["remote", "set-url", "origin", "git@example.com:team/web.git"]);
    assert_eq!(second.build(&[], std::slice::from_ref(&buildpack)).ok().digest(), digest);
    // A work tree of its own has a file for a repository.
    git(&app, &["worktree", "add", "-q", "../tree", "HEAD"]);
    std::fs::rename(second.path("app"), second.path("kept")).unwrap();
    git(&second.path("kept"), &["worktree", "repair", "../tree"]);
    std::fs::rename(second.path("tree"), second.path("app")).unwrap();
    git(&second.path("kept"), &["worktree", "repair", "../app"]);
    assert_eq!(second.build(&[], &[buildpack]).ok().digest(), digest);
}

#[test]
fn what_is_not_committed_is_told_by_a_digest() {
    let (bench, buildpack) = bench();
    let id = commit(&bench.path("app"));
    let mut seen = Vec::new();
    let change = |what: &str| match what {
        "changed" => drop(bench.write("app/marker", "changed")),
        "new" => drop(bench.write("app/new", "new")),
        "gone" => std::fs::remove_file(bench.path("app/marker")).unwrap(),
        _ => {}
    };
    for (what, files) in [("changed", 1), ("new", 2), ("gone", 2), ("as before", 2)] {
        change(what);
        let done = bench.build(&[], std::slice::from_ref(&buildpack)).ok();
        let files = if files == 1 { "1 file that is" } else { "2 files that are" };
        done.says(&format!("Source: commit {id}, and {files} not committed"));
        let source = source(&bench);
        assert_eq!(source["version"]["commit"], id);
        seen.push(source["version"]["changes"].as_str().unwrap().to_owned());
        let dirty = some(&format!("{id}-dirty"));
        assert_eq!(labels(&bench), [some("https://example.com/team/web"), dirty, None, None]);
    }
    assert_eq!(seen[2], seen[3]);
    seen.pop();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 3);
}

#[test]
fn a_folder_of_a_repository_knows_its_place_and_its_submodules() {
    let (bench, buildpack) = bench();
    bench.write("lib/file", "lib");
    commit(&bench.path("lib"));
    std::fs::rename(bench.path("app"), bench.path("inner")).unwrap();
    bench.write("app/outside", "x");
    std::fs::rename(bench.path("inner"), bench.path("app/inner")).unwrap();
    commit(&bench.path("app"));
    git(
        &bench.path("app"),
        &["submodule", "--quiet", "add", bench.path("lib").to_str().unwrap(), "inner/lib"],
    );
    let id = commit(&bench.path("app"));
    // What is outside of the app is nothing to it.
    bench.write("app/outside", "changed");
    let build = || {
        let mut command = bench.strata(["build", "app/inner", "-t", "web", "--layout-dir", "images"]);
        command.arg("--buildpack").arg(&buildpack);
        Done::of(command).ok()
    };
    build().says(&format!("Source: commit {id}\n"));
    assert_eq!(source(&bench)["metadata"]["path"], "inner");
    bench.write("app/inner/lib/file", "changed");
    build().says("1 file that is not committed");
    git(&bench.path("app/inner/lib"), &["commit", "-q", "-a", "-m", "more"]);
    build().says("1 file that is not committed");
}

#[test]
fn a_repository_runs_no_program() {
    let (bench, buildpack) = bench();
    let app = bench.path("app");
    bench.write("app/.gitattributes", "* filter=evil diff=evil merge=evil\n");
    let id = commit(&app);
    let evil = bench.write("evil", &format!("#!/bin/sh\ntouch {}\ncat\n", bench.path("ran").display()));
    tool("chmod", &["+x", evil.to_str().unwrap()]);
    let evil = evil.to_str().unwrap();
    for (key, value) in [
        ("core.fsmonitor", evil),
        ("core.hooksPath", bench.path("hooks").to_str().unwrap()),
        ("core.sshCommand", evil),
        ("core.pager", evil),
        ("core.editor", evil),
        ("core.alternateRefsCommand", evil),
        ("filter.evil.clean", evil),
        ("filter.evil.smudge", evil),
        ("filter.evil.process", evil),
        ("filter.evil.required", "true"),
        ("diff.external", evil),
        ("diff.evil.command", evil),
        ("diff.evil.textconv", evil),
        ("gpg.program", evil),
        ("credential.helper", evil),
        ("alias.status", &format!("!{evil}")),
        ("extensions.partialClone", "origin"),
        ("remote.origin.promisor", "true"),
        ("remote.origin.uploadpack", evil),
    ] {
        git(&app, &["config", "--local", key, value]);
    }
    // The trap is one; whether Git likes what the program says is nothing to us.
    bench.write("app/marker", "changed");
    Done::of(git_command(&app, &["status", "--short"]));
    std::fs::remove_file(bench.path("ran")).unwrap();
    for (key, value) in [("core.worktree", "/"), ("include.path", evil)] {
        git(&app, &["config", "--local", key, value]);
    }
    for hook in ["post-index-change", "post-checkout", "fsmonitor-watchman", "reference-transaction"] {
        for dir in ["app/.git/hooks", "hooks"] {
            let hook = bench.write(&format!("{dir}/{hook}"), &std::fs::read_to_string(evil).unwrap());
            tool("chmod", &["+x", hook.to_str().unwrap()]);
        }
    }
    // Touched, so that the contents have to be looked at.
    bench.write("app/marker", "the same everywhere");
    bench.build(&[], &[buildpack]).ok().says(&format!("Source: commit {id}\n"));
    assert!(!bench.path("ran").exists(), "a program of the repository's choice was run");
}

#[test]
fn without_a_repository_there_is_a_digest_of_the_content() {
    let digest = || {
        let (bench, buildpack) = bench();
        bench.build(&[], &[buildpack]).ok().says("Source: content sha256:");
        let source = source(&bench);
        assert_eq!(source["type"], "content");
        assert_eq!(labels(&bench), [None, None, None, None]);
        source["version"]["digest"].as_str().unwrap().to_owned()
    };
    assert_eq!(digest(), digest());
}

#[test]
fn nobody_waits_for_pipes_in_a_repository() {
    for pipe in ["HEAD", "index", "config", "packed-refs", "info/exclude"] {
        let (bench, buildpack) = bench();
        commit(&bench.path("app"));
        let path = bench.path("app/.git").join(pipe);
        // Not all of them are there.
        drop(std::fs::remove_file(&path));
        tool("mkfifo", &[path.to_str().unwrap()]);
        bench.build(&[], &[buildpack]).ok().says("Source: content sha256:");
    }
}

#[test]
fn broken_repositories_fail_no_build() {
    for (file, text) in [
        (".git", "gitdir: ../nowhere"),
        (".git", "no"),
        (".git/HEAD", ""),
        (".git/HEAD", "ref: refs/heads/main\n"),
        (".git/config", "[[["),
    ] {
        let (bench, buildpack) = bench();
        bench.write(&format!("app/{file}"), text);
        let done = bench.build(&[], &[buildpack]).ok();
        done.says("Source: content sha256:");
        let said = format!("{}{}", done.stdout, done.stderr);
        assert!(said.contains("the source is known by its content only"), "{done:#?}");
    }
}

/// A folder with all programs of this machine but one; the buildpack needs none.
fn programs_but(bench: &Bench, buildpack: &Path, program: &str) -> PathBuf {
    // Found without a PATH.
    for name in ["detect", "build"] {
        std::fs::write(buildpack.join("bin").join(name), "#!/bin/sh\n").unwrap();
    }
    let bin = bench.path("bin");
    std::fs::create_dir(&bin).unwrap();
    for dir in std::env::split_paths(&std::env::var_os("PATH").unwrap()) {
        for entry in std::fs::read_dir(dir).into_iter().flatten().map_while(Result::ok) {
            if entry.file_name() != program {
                // Of two programs of one name, the first is there already.
                drop(std::os::unix::fs::symlink(entry.path(), bin.join(entry.file_name())));
            }
        }
    }
    bin
}

#[test]
fn without_git_the_commit_is_known_all_the_same() {
    let (bench, buildpack) = bench();
    let app = bench.path("app");
    let id = commit(&app);
    let programs = programs_but(&bench, &buildpack, "git");
    let build = || {
        let mut command = bench.build_command(&["-t", "web"], std::slice::from_ref(&buildpack));
        command.env("PATH", &programs);
        Done::of(command).ok()
    };
    build().says(&format!("Source: commit {id}, and whatever was changed since: sha256:"));
    let loose = source(&bench);
    assert_eq!((&loose["type"], &loose["version"]["commit"]), (&json!("git"), &json!(id)));
    assert_eq!(loose["metadata"]["url"], "https://example.com/team/web");
    assert_eq!(labels(&bench), [some("https://example.com/team/web"), None, None, None]);
    git(&app, &["pack-refs", "--all"]);
    build();
    assert_eq!(source(&bench), loose);
    bench.write("app/marker", "changed");
    build();
    assert_eq!(source(&bench)["version"]["commit"], id);
    assert_ne!(source(&bench)["version"]["digest"], loose["version"]["digest"]);
    assert!(!bench.config().to_string().contains(SECRET));
}

#[test]
fn mercurials_commit_is_known() {
    let (bench, buildpack) = bench();
    std::fs::create_dir(bench.path("app/.hg")).unwrap();
    std::fs::write(bench.path("app/.hg/dirstate"), [&[0xab; 20][..], &[0; 20]].concat()).unwrap();
    bench.write("app/.hg/hgrc", &format!("[paths]\ndefault = https://me:{SECRET}@example.com/hg/web\n"));
    bench.build(&[], &[buildpack]).ok();
    let source = source(&bench);
    assert_eq!((&source["type"], &source["version"]["commit"]), (&json!("hg"), &json!("ab".repeat(20))));
    assert_eq!(source["metadata"]["url"], "https://example.com/hg/web");
}

/// `hg`, whoever runs the test, without any configuration but the repository's.
fn hg(dir: &Path, args: &[&str]) -> String {
    let mut command = Command::new("hg");
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("HGRCPATH", "")
        .env("HGUSER", "test");
    command.env("LC_ALL", "C.UTF-8").current_dir(dir).args(args);
    Done::of(command).ok().stdout.trim().to_owned()
}

/// Makes a folder a Mercurial repository with one commit of all that is in it, and returns the commit's id.
fn hg_commit(dir: &Path) -> String {
    if !dir.join(".hg").exists() {
        hg(dir, &["init"]);
        let url = format!("https://me:{SECRET}@example.com/hg/web?token={SECRET}");
        std::fs::write(dir.join(".hg/hgrc"), format!("[paths]\ndefault = {url}\n")).unwrap();
    }
    hg(dir, &["commit", "-q", "-A", "-m", "all", "-d", "1700000000 0"]);
    hg(dir, &["log", "-r", ".", "-T", "{node}"])
}

/// Changes the app's files, and looks for what is said of it.
fn changes_are_told(bench: &Bench, build: &dyn Fn() -> Done, version: &str, revision: &str, new: &str) {
    let [url, ..] = labels(bench);
    let mut seen = Vec::new();
    for (what, files) in [("changed", 1), ("new", 2), ("gone", 2), ("as before", 2)] {
        match what {
            "changed" => drop(bench.write("app/marker", "changed")),
            "new" => drop(bench.write(&format!("app/{new}"), "new")),
            "gone" => std::fs::remove_file(bench.path("app/marker")).unwrap(),
            _ => {}
        }
        let files = if files == 1 { "1 file that is" } else { "2 files that are" };
        build().says(&format!("Source: {version}, and {files} not committed"));
        seen.push(source(bench)["version"]["changes"].as_str().unwrap().to_owned());
        assert_eq!(labels(bench), [url.clone(), some(&format!("{revision}-dirty")), None, None]);
    }
    assert_eq!(seen[2], seen[3]);
    seen.pop();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 3);
}

#[test]
fn a_mercurial_repository_says_what_git_says() {
    let (bench, buildpack) = bench();
    let app = bench.path("app");
    bench.write("app/.hgignore", "syntax: glob\nignored\n");
    bench.write("app/ignored", "x");
    let id = hg_commit(&app);
    let build = || bench.build(&[], std::slice::from_ref(&buildpack)).ok();
    let done = build();
    done.says(&format!("Source: commit {id}\n"));
    let metadata = json!({"branch": "default", "url": "https://example.com/hg/web"});
    assert_eq!(source(&bench), json!({"type": "hg", "version": {"commit": id}, "metadata": metadata}));
    let url = some("https://example.com/hg/web");
    let date = some("2023-11-14T22:13:20Z");
    assert_eq!(labels(&bench), [url.clone(), some(&id), None, date.clone()]);
    assert!(!format!("{done:?}{}", bench.config()).contains(SECRET));
    // A clone of the same commit is the same source.
    std::fs::rename(&app, bench.path("kept")).unwrap();
    hg(&bench.path(""), &["clone", "-q", "kept", "app"]);
    std::fs::write(bench.path("app/.hg/hgrc"), "[paths]\ndefault = ssh://hg@example.com/hg/web\n").unwrap();
    bench.write("app/ignored", "x");
    assert_eq!(build().digest(), done.digest());
    hg(&app, &["tag", "--local", "v1.2"]);
    build();
    assert_eq!(labels(&bench), [url.clone(), some(&id), some("v1.2"), date]);
    changes_are_told(&bench, &build, &format!("commit {id}"), &id, "a new\nfile");
}

#[test]
fn a_folder_of_a_mercurial_repository_knows_its_place_and_the_repositories_within() {
    let (bench, buildpack) = bench();
    std::fs::rename(bench.path("app"), bench.path("inner")).unwrap();
    bench.write("app/outside", "x");
    bench.write("app/inner2/file", "x");
    std::fs::rename(bench.path("inner"), bench.path("app/inner")).unwrap();
    let id = hg_commit(&bench.path("app"));
    bench.write("app/outside", "changed");
    bench.write("app/inner2/file", "changed");
    let build = || {
        let mut command = bench.strata(["build", "app/inner", "-t", "web", "--layout-dir", "images"]);
        command.arg("--buildpack").arg(&buildpack);
        Done::of(command).ok()
    };
    build().says(&format!("Source: commit {id}\n"));
    assert_eq!(source(&bench)["metadata"]["path"], "inner");
    // Mercurial does not say what is in another repository.
    bench.write("app/inner/lib/deep/file", "lib");
    hg_commit(&bench.path("app/inner/lib/deep"));
    build().says("1 file that is not committed");
    let before = source(&bench);
    bench.write("app/inner/lib/deep/file", "changed");
    build();
    assert_ne!(source(&bench), before);
    bench.write("app/inner/.hgsub", "lib/deep = lib/deep\n");
    std::fs::rename(bench.path("app/inner/.hgsub"), bench.path("app/.hgsub")).unwrap();
    std::fs::write(bench.path("app/.hgsub"), "inner/lib/deep = inner/lib/deep\n").unwrap();
    hg(&bench.path("app"), &["commit", "-q", "-A", "-S", "-m", "sub"]);
    build().says("1 file that is not committed");
}

#[test]
fn a_mercurial_repository_runs_no_program() {
    let (bench, buildpack) = bench();
    let app = bench.path("app");
    let id = hg_commit(&app);
    let ran = bench.path("ran");
    let touch = format!("touch {}", ran.display());
    let extension = bench.write("evil.py", &format!("open({:?}, 'w')\n", ran.display().to_string()));
    let evil = format!(
        "[extensions]\nevil = {extension}\n[hooks]\npre-status = {touch}\npre-log = {touch}\npost-log = {touch}\n\
         [alias]\nlog = !{touch}\nstatus = !{touch}\nversion = !{touch}\n[defaults]\nlog = --config ui.pager=x\n\
         [pager]\npager = {touch}\nattend-log = true\n[ui]\neditor = {touch}\nssh = {touch}\n[fsmonitor]\nmode = on\n",
        extension = extension.display(),
    );
    std::fs::write(app.join(".hg/hgrc"), &evil).unwrap();
    bench.write("app/marker", "changed");
    // The trap is one.
    hg(&app, &["status"]);
    std::fs::remove_file(&ran).unwrap();
    std::fs::write(app.join(".hg/hgrc-not-shared"), &evil).unwrap();
    for named in ["share-safe\n", ""] {
        let requires = std::fs::read_to_string(app.join(".hg/requires")).unwrap();
        std::fs::write(app.join(".hg/requires"), format!("{requires}{named}")).unwrap();
        // Of the user, too: the command has this home.
        bench.write("home/.hgrc", &evil);
        bench.write(".hgrc", &evil);
        let mut command = bench.build_command(&["-t", "web"], std::slice::from_ref(&buildpack));
        command.env("HGRCPATH", bench.path(".hgrc")).env("HGPLAIN", "");
        Done::of(command).ok().says(&format!("Source: commit {id}, and 1 file that is not committed"));
        assert!(!ran.exists(), "a program of the repository's choice was run");
    }
    // What asks for extensions is not read by the program, and still known by its files.
    let requires = std::fs::read_to_string(app.join(".hg/requires")).unwrap();
    std::fs::write(app.join(".hg/requires"), format!("{requires}lfs\n")).unwrap();
    bench.build(&[], &[buildpack]).ok().says(&format!("Source: commit {id}, and whatever was changed since"));
}

#[test]
fn without_hg_the_commit_is_known_all_the_same() {
    let (bench, buildpack) = bench();
    let id = hg_commit(&bench.path("app"));
    let mut command = bench.build_command(&["-t", "web"], std::slice::from_ref(&buildpack));
    command.env("PATH", programs_but(&bench, &buildpack, "hg"));
    let done = Done::of(command).ok();
    done.says("there is a Mercurial repository, but no program hg");
    done.says(&format!("Source: commit {id}, and whatever was changed since: sha256:"));
    assert_eq!(source(&bench)["metadata"]["url"], "https://example.com/hg/web");
}

fn svn(dir: &Path, args: &[&str]) -> String {
    let mut command = Command::new("svn");
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("LC_ALL", "C.UTF-8");
    command
        .current_dir(dir)
        .args(["--non-interactive", "--username", "test", "--config-dir"])
        // Subversion makes this folder.
        .arg(Path::new(env!("CARGO_TARGET_TMPDIR")).join("subversion"))
        .args(args);
    Done::of(command).ok().stdout.trim().to_owned()
}

/// Makes the app a working copy of a new repository, at its revision 2.
fn svn_commit(bench: &Bench) {
    let url = format!("file://{}", bench.path("repository").display());
    tool("svnadmin", &["create", bench.path("repository").to_str().unwrap()]);
    let trunk = format!("{url}/web/trunk");
    svn(&bench.path(""), &["mkdir", "-q", "--parents", "-m", "folders", &trunk]);
    svn(&bench.path(""), &["checkout", "-q", "--force", &trunk, "app"]);
    svn(&bench.path("app"), &["add", "-q", "--force", "."]);
    svn(&bench.path("app"), &["commit", "-q", "-m", "all"]);
    svn(&bench.path("app"), &["update", "-q"]);
}

/// Says that a working copy is of another server.
fn relocate(bench: &Bench, url: &str) {
    let script = "import sqlite3, sys\nc = sqlite3.connect(sys.argv[1])\n\
                  c.execute('update repository set root = ?', [sys.argv[2]])\nc.commit()\n";
    tool("python3", &["-c", script, bench.path("app/.svn/wc.db").to_str().unwrap(), url]);
}

#[test]
fn a_subversion_working_copy_says_what_git_says() {
    let (bench, buildpack) = bench();
    svn_commit(&bench);
    relocate(&bench, &format!("https://me:{SECRET}@example.com/svn"));
    bench.write("app/ignored.o", "x");
    let build = || bench.build(&[], std::slice::from_ref(&buildpack)).ok();
    let done = build();
    done.says("Source: revision 2\n");
    let found = source(&bench);
    assert_eq!((&found["type"], &found["version"]), (&json!("svn"), &json!({"revision": "2"})));
    let metadata = &found["metadata"];
    assert_eq!(
        (&metadata["url"], &metadata["path"]),
        (&json!("https://example.com/svn"), &json!("web/trunk"))
    );
    assert_eq!((&metadata["branch"], metadata["uuid"].as_str().unwrap().len()), (&json!("trunk"), 36));
    let [url, revision, version, created] = labels(&bench);
    assert_eq!((url, revision, version), (some("https://example.com/svn"), some("2"), None));
    assert!(created.is_some_and(|date| date.len() == 20 && date.starts_with("20")));
    assert!(!format!("{done:?}{}", bench.config()).contains(SECRET));
    changes_are_told(&bench, &build, "revision 2", "2", "folder/a new\nfile");
    let trace = Done::of(bench.strata(["trace", "web", "--layout-dir", "images"])).ok();
    trace.says(
        "source     svn 2, https://example.com/svn, in web/trunk, with files that are not committed (2)",
    );
}

#[test]
fn revisions_that_differ_and_what_comes_from_elsewhere_are_told() {
    let (bench, buildpack) = bench();
    let app = bench.path("app");
    svn_commit(&bench);
    let build = || bench.build(&[], std::slice::from_ref(&buildpack)).ok();
    bench.write("app/marker", "changed");
    svn(&app, &["commit", "-q", "-m", "one file"]);
    build().says("Source: revision 2:3\n");
    assert_eq!(source(&bench)["metadata"].get("url"), None);
    assert_eq!(labels(&bench), [None, some("2:3"), None, None]);
    svn(&app, &["update", "-q"]);
    // A folder's own properties are no part of what is built, and those of a file are.
    svn(&app, &["propset", "-q", "svn:ignore", "x", "."]);
    build().says("Source: revision 3\n");
    svn(&app, &["propset", "-q", "svn:executable", "yes", "marker"]);
    build().says("Source: revision 3, and 1 file that is not committed");
    svn(&app, &["revert", "-q", "-R", "."]);
    svn(&app, &["propset", "-q", "svn:externals", "^/web/trunk@2 lib", "."]);
    svn(&app, &["commit", "-q", "-m", "externals"]);
    svn(&app, &["update", "-q"]);
    build().says("Source: revision 4, and 1 file that is not committed");
    // Beside the repository, in a folder that is not in it.
    bench.write("app/marker2/file", "x");
    let mut command = bench.strata(["build", "app/marker2", "-t", "web", "--layout-dir", "images"]);
    command.arg("--buildpack").arg(&buildpack);
    Done::of(command).ok().says("Source: content sha256:");
}

#[test]
fn without_svn_the_content_is_known() {
    let (bench, buildpack) = bench();
    svn_commit(&bench);
    let mut command = bench.build_command(&["-t", "web"], std::slice::from_ref(&buildpack));
    command.env("PATH", programs_but(&bench, &buildpack, "svn"));
    let done = Done::of(command).ok();
    done.says("there is a Subversion working copy, but no program svn");
    done.says("Source: content sha256:");
    // Nor does anybody wait for a broken one.
    std::fs::remove_file(bench.path("app/.svn/wc.db")).unwrap();
    tool("mkfifo", &[bench.path("app/.svn/wc.db").to_str().unwrap()]);
    bench.build(&[], &[buildpack]).ok().says("Source: content sha256:");
}

/// Builds from something that is no folder.
fn build_from(bench: &Bench, from: &str, more: &[&str]) -> Done {
    let buildpack = bench.add(&Buildpack::new("e2e/cat").build("cat marker; ls -a"));
    let mut command = bench.strata(["build", from, "-t", "web", "--layout-dir", "images", "--buildpack"]);
    command.arg(buildpack).args(more);
    Done::of(command)
}

#[test]
fn an_archive_can_be_the_source() {
    let bench = Bench::new();
    let app = bench.path("app");
    commit(&app);
    let path = |name: &str| bench.path(name).display().to_string();
    tool("tar", &["-C", &path("app"), "-czf", &path("flat.tar.gz"), "."]);
    tool("tar", &["-C", &path(""), "-cf", &path("deep.tar"), "app"]);
    let done = build_from(&bench, "flat.tar.gz", &[]).ok();
    done.says(bench.marker());
    assert!(!done.stdout.contains("] .git"), "{done:#?}");
    let sum = tool("sha256sum", &[&path("flat.tar.gz")]);
    let digest = format!("sha256:{}", sum.split_whitespace().next().unwrap());
    let expected = json!({"type": "archive", "version": {"digest": digest}});
    assert_eq!(source(&bench), expected);
    build_from(&bench, "deep.tar", &["--source-path", "app"]).ok().says(bench.marker());
    assert_eq!(source(&bench)["metadata"], json!({"path": "/app"}));
    for (from, more, why) in [
        ("deep.tar", &["--source-path", "none"][..], "no folder none in it"),
        ("deep.tar", &["--source-path", "../.."], "no folder ../.. in it"),
        ("app/marker", &[], "cannot take the app from app/marker"),
        ("app", &["--source-path", "x"], "is for archives and images"),
    ] {
        let done = build_from(&bench, from, more);
        assert!(done.code == 3 && done.stderr.contains(why), "{from}: {done:#?}");
    }
    // Links and names that lead out lead nowhere.
    let evil = "import io, sys, tarfile\nt = tarfile.open(sys.argv[1], 'w')\ni = tarfile.TarInfo('out')\ni.type = tarfile.SYMTYPE\n\
                i.linkname = sys.argv[2]\nt.addfile(i)\ni = tarfile.TarInfo('out/written')\ni.size = 1\n\
                t.addfile(i, io.BytesIO(b'x'))\nt.close()\n";
    std::fs::create_dir(bench.path("outside")).unwrap();
    tool("python3", &["-c", evil, &path("evil.tar"), &path("outside")]);
    drop(build_from(&bench, "evil.tar", &[]));
    assert!(!bench.path("outside/written").exists());
}

#[test]
fn an_image_can_be_the_source() {
    let bench = Bench::new();
    let first = bench.build(&[], &[bench.add(&Buildpack::new("e2e/none"))]).ok().digest();
    Done::of(bench.strata(["copy", "web", "oci:from:v1", "--layout-dir", "images"])).ok();
    let done = build_from(&bench, "oci:from:v1", &["--source-path", "/workspace"]).ok();
    done.says(bench.marker());
    let expected = json!({"type": "image", "version": {"digest": first}, "metadata": {"path": "/workspace"}});
    assert_eq!(source(&bench), expected);
    let done = build_from(&bench, "oci:nowhere:x", &[]);
    assert!(done.code == 3 && done.stderr.contains("there is no such image"), "{done:#?}");
}

/// Writes a journal that has SQLite delete a file of a name of the journal's choice, beside the database `argv[1]`.
const JOURNAL: &str = "import os, struct, sys
db, name = sys.argv[1], sys.argv[2].encode()
size = struct.unpack('>H', open(db, 'rb').read(100)[16:18])[0]
magic = bytes.fromhex('d9d505f920a163d7')
head = magic + struct.pack('>IIIII', 0, 0, os.path.getsize(db) // size, 512, size)
sum = sum(b if b < 128 else b - 256 for b in name) & 0xffffffff
tail = struct.pack('>I', 0x40000000 // size + 1) + name + struct.pack('>II', len(name), sum) + magic
open(db + '-journal', 'wb').write(head.ljust(512, b'\\0') + tail)
";
/// Adds files to the list of those that are in a Mercurial repository.
const DIRSTATE: &str = "import struct, sys
names = [name.encode() for name in sys.argv[2:]]
open(sys.argv[1], 'ab').write(b''.join(struct.pack('>cllll', b'a', 0, -1, -1, len(name)) + name for name in names))
";

#[test]
fn a_repository_changes_reads_and_waits_for_nothing_outside_of_it() {
    const PRIVATE: &str = "canary of a private file";
    type Plant = fn(&Bench, &Path);
    let plants: [(&str, Plant); 6] = [
        ("a journal", |bench, canary| {
            svn_commit(bench);
            let db = bench.path("app/.svn/wc.db");
            tool("python3", &["-c", JOURNAL, db.to_str().unwrap(), canary.to_str().unwrap()]);
        }),
        ("a linked cache file", |bench, canary| {
            let app = bench.path("app");
            let id = hg_commit(&app);
            bench.write("app/.hgtags", &format!("{id} v1\n"));
            hg_commit(&app);
            let file = app.join(".hg/cache/hgtagsfnodes1");
            drop(std::fs::remove_file(&file));
            std::os::unix::fs::symlink(canary, file).unwrap();
        }),
        ("linked caches", |bench, canary| {
            hg_commit(&bench.path("app"));
            for name in ["cache", "wcache"] {
                drop(std::fs::remove_dir_all(bench.path("app/.hg").join(name)));
                let folder = canary.parent().unwrap();
                std::os::unix::fs::symlink(folder, bench.path("app/.hg").join(name)).unwrap();
            }
        }),
        ("names", |bench, canary| {
            hg_commit(&bench.path("app"));
            std::os::unix::fs::symlink(canary.parent().unwrap(), bench.path("app/link")).unwrap();
            let list = bench.path("app/.hg/dirstate");
            let canary = canary.to_str().unwrap();
            let names = [canary, "../home/canary", "../private/canary", "link/canary", "/dev/zero"];
            tool("python3", &[&["-c", DIRSTATE, list.to_str().unwrap()], &names[..]].concat());
        }),
        ("an endless file", |bench, _| {
            hg_commit(&bench.path("app"));
            bench.write("app/.hgignore", "include:/dev/zero\n");
        }),
        ("a private file", |bench, canary| {
            hg_commit(&bench.path("app"));
            bench.write("app/.hgignore", &format!("syntax: regexp\ninclude:{}\n", canary.display()));
        }),
    ];
    let planted =
        plants.iter().flat_map(|(what, plant)| ["home", "private"].map(|place| (what, plant, place)));
    for (what, plant, place) in planted {
        let bench = Bench::within_sight();
        bench.write("app/marker", "the same everywhere");
        let script = "[ ! -r \"$CANARY\" ] || echo the canary can be read";
        let buildpack = bench.add(&Buildpack::new("e2e/reads").build(script));
        // No pattern: a program would complain of it, with the line.
        let canary = bench.write(&format!("{place}/canary"), &format!("({PRIVATE}\n"));
        plant(&bench, &canary);
        let app = bench.path("app").display().to_string();
        let hash =
            || tool("sh", &["-c", "cd \"$0\" && find . -type f | sort | xargs -d '\\n' sha256sum", &app]);
        let before = hash();
        let listed = list(&canary);
        let report = bench.path("report.json");
        let variable = format!("CANARY={}", canary.display());
        let more = ["--report", report.to_str().unwrap(), "--env", &variable];
        let done = bench.build(&more, &[buildpack]).ok();
        // Else nothing below would say anything: the sandbox has a /tmp of its own, and no home.
        let can_read = done.stdout.contains("the canary can be read");
        assert_eq!(can_read, place == "private", "{what}: {done:#?}");
        assert_eq!(std::fs::read_to_string(&canary).unwrap(), format!("({PRIVATE}\n"), "{what}");
        assert_eq!(hash(), before, "{what}: {done:#?}");
        assert_eq!(list(&canary), listed, "{what}");
        let told = format!("{done:?}{}", std::fs::read_to_string(&report).unwrap());
        assert!(!told.contains(PRIVATE), "{what}: {told}");
        let digest = tool("sha256sum", &[canary.to_str().unwrap()]);
        assert!(!told.contains(digest.split(' ').next().unwrap()), "{what}: {told}");
    }
}

/// The names beside a file, but for those of Strata's own folders.
fn list(file: &Path) -> Vec<std::ffi::OsString> {
    let entries = std::fs::read_dir(file.parent().unwrap()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = names.filter(|name| !name.to_string_lossy().starts_with('.')).collect();
    names.sort();
    names
}

#[test]
fn a_repository_of_somebody_else_says_nothing() {
    for folder in [".hg", ".svn"] {
        let (bench, buildpack) = bench();
        if folder == ".hg" {
            drop(hg_commit(&bench.path("app")))
        } else {
            svn_commit(&bench)
        }
        tool("chown", &["-R", "65534", bench.path("app").join(folder).to_str().unwrap()]);
        let done = bench.build(&[], &[buildpack]).ok();
        done.says(&format!("{folder} belongs to another user"));
        done.says("Source: content sha256:");
    }
}
