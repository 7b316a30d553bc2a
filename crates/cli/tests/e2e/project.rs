//! What an app says in its `project.toml` of how it is built.

use crate::bench::{Bench, Buildpack, Done};
use crate::builders::{Builder, run_image};
use std::fs;
use std::os::unix::fs::symlink;

/// Lists the app, and says what is given.
fn lister(bench: &Bench) -> std::path::PathBuf {
    bench.add(&Buildpack::new("e2e/lists").build(
        r#"find . -mindepth 1 | sort | while read -r path; do echo "has ${path#./}"; done; echo "A is ${A-none}, B is ${B-none}""#,
    ))
}

/// What the lister has seen.
fn seen(done: &Done) -> Vec<&str> {
    done.stdout.lines().filter_map(|line| Some(line.split_once("] has ")?.1)).collect()
}

const HEAD: &str = "[_]\nschema-version = \"0.2\"\n";

#[test]
fn everything_in_a_project_is_heeded() {
    let bench = Bench::new();
    run_image(&bench);
    let own = |id: &str| bench.add(&Buildpack::new(id).build(&format!("echo built by {id}")));
    let (inner, mine, pre) = (own("e2e/inner"), own("e2e/mine"), own("e2e/pre"));
    let mut builder = Builder::new(&bench, "builder", &[inner]);
    builder.label("io.buildpacks.buildpack.layers", r#"{"e2e/inner":{"1.0.0":{}}}"#);
    builder.label("io.buildpacks.builder.metadata", r#"{"images":[{"image":"oci:run"}]}"#).write();
    // Relative to the file.
    fs::rename(&mine, bench.path("app/mine")).unwrap();
    let text = format!(
        "[_]\nschema-version = \"0.2\"\nid = \"com.example.web\"\nname = \"Web\"\nversion = \"1.2\"\nauthors = [\"A\", \"B\"]\n\
         documentation-url = \"https://example.com/doc\"\nsource-url = \"https://example.com/web\"\n\
         [[_.licenses]]\ntype = \"MIT OR Apache-2.0\"\n[[_.licenses]]\ntype = \"ISC\"\n[[_.licenses]]\nuri = \"LICENSE\"\n\
         [_.metadata]\nanything = 1\n[com.example]\nother = 1\n\
         [io.buildpacks]\nbuilder = \"oci:builder\"\nexclude = [\"secret\", \"mine/\"]\n\
         [[io.buildpacks.group]]\nid = \"e2e/inner\"\nversion = \"1.0.0\"\n[[io.buildpacks.group]]\nuri = \"mine\"\n\
         [[io.buildpacks.group]]\nid = \"e2e/script\"\n[io.buildpacks.group.script]\napi = \"0.10\"\nshell = \"/usr/bin/bash -e\"\n\
         inline = '''\necho built by a script in $PWD with $A and $B\nls -a\nmkdir -p $1/kept; echo -n made >$1/kept/file\n\
         printf '[types]\\nlaunch = true\\n' >$1/kept.toml\n'''\n\
         [[io.buildpacks.pre.group]]\nuri = \"{}\"\n\
         [[io.buildpacks.build.env]]\nname = \"A\"\nvalue = \"of the project\"\n\
         [[io.buildpacks.build.env]]\nname = \"B\"\nvalue = \"of the project\"\n",
        pre.display()
    );
    bench.write("app/project.toml", &text);
    bench.write("app/secret", "x");
    let done = bench.build(&["--env", "B=asked for"], &[]).ok();
    let built: Vec<_> =
        done.stdout.lines().filter_map(|line| Some(line.split_once("built by ")?.1)).collect();
    let script = "a script in /workspace with of the project and asked for";
    assert_eq!(built, ["e2e/pre", "e2e/inner", "e2e/mine", script], "{done:#?}");
    assert!(!done.stdout.contains("] secret") && done.stdout.contains("] project.toml"), "{done:#?}");
    assert!(!done.stdout.contains("Warning"), "{done:#?}");
    let labels = &bench.config()["config"]["Labels"];
    for (key, value) in [
        ("title", "Web"),
        ("version", "1.2"),
        ("authors", "A, B"),
        ("licenses", "(MIT OR Apache-2.0) AND ISC"),
        ("documentation", "https://example.com/doc"),
        ("source", "https://example.com/web"),
    ] {
        assert_eq!(labels[format!("org.opencontainers.image.{key}")], value, "{key}");
    }
    assert_eq!(bench.label("io.buildpacks.build.metadata")["buildpacks"][3]["id"], "e2e/script");
    // The same again is the same, wherever scripts are written.
    assert_eq!(bench.build(&["--env", "B=asked for"], &[]).ok().digest(), done.digest());
    // The command line wins, list by list.
    let asked = own("e2e/asked");
    let done = bench.build(&["--run-image", "oci:run", "--pre-buildpack", "app/mine"], &[asked]).ok();
    let built: Vec<_> =
        done.stdout.lines().filter_map(|line| Some(line.split_once("built by ")?.1)).collect();
    assert_eq!(built, ["e2e/mine", "e2e/asked"], "{done:#?}");
    bench.is_clean_soon();
}

#[test]
fn only_what_is_chosen_is_built() {
    let bench = Bench::new();
    let lister = lister(&bench);
    for file in ["docs/a.md", "docs/keep.md", "docs/deep/b.md", "src/main.go", "src/note.md", "go.mod"] {
        bench.write(&format!("app/{file}"), "x");
    }
    fs::create_dir(bench.path("app/empty")).unwrap();
    let all = [
        "docs",
        "docs/a.md",
        "docs/deep",
        "docs/deep/b.md",
        "docs/keep.md",
        "empty",
        "go.mod",
        "marker",
        "project.toml",
        "src",
        "src/main.go",
        "src/note.md",
    ];
    for (patterns, expected) in [
        ("", &all[..]),
        (
            "exclude = [\"docs/\", \"!docs/keep.md\", \"*.toml\", \"empty\"]",
            &["docs", "docs/keep.md", "go.mod", "marker", "src", "src/main.go", "src/note.md"],
        ),
        ("exclude = [\"*\", \"!src/\", \"/src/*.md\"]", &["src", "src/main.go"]),
        ("include = [\"*.go\", \"/go.*\"]", &["go.mod", "src", "src/main.go"]),
        ("include = [\"src/\", \"!*.md\"]", &["src", "src/main.go"]),
    ] {
        bench.write("app/project.toml", &format!("{HEAD}[io.buildpacks]\n{patterns}\n"));
        let done = bench.build(&[], std::slice::from_ref(&lister)).ok();
        assert_eq!(seen(&done), expected, "{patterns}: {done:#?}");
    }
    bench.write("app/project.toml", &format!("{HEAD}[io.buildpacks]\ninclude = [\"none\"]\n"));
    let done = bench.build(&[], &[lister]).ok();
    assert!(seen(&done).is_empty() && done.stdout.contains("no file of the app is among"), "{done:#?}");
}

#[test]
fn a_descriptor_may_be_elsewhere_and_older() {
    let bench = Bench::new();
    let lister = lister(&bench);
    bench.write("app/project.toml", "this is = not [ read");
    bench.write(
        "other/p.toml",
        "[project]\nname = \"Old\"\n[build]\ninclude = [\"marker\"]\n[[build.buildpacks]]\nuri = \"lists\"\n\
         [[build.env]]\nname = \"A\"\nvalue = \"1\"\n",
    );
    fs::rename(lister, bench.path("other/lists")).unwrap();
    let done = bench.build(&["-d", "other/p.toml"], &[]).ok();
    assert_eq!(seen(&done), ["marker"]);
    done.says("A is 1, B is none");
    // A link to it is as good, as long as the app is a folder of this machine.
    fs::remove_file(bench.path("app/project.toml")).unwrap();
    symlink("../other/p.toml", bench.path("app/project.toml")).unwrap();
    fs::rename(bench.path("other/lists"), bench.path("app/lists")).unwrap();
    assert_eq!(seen(&bench.build(&[], &[]).ok()), ["marker"]);
    let app = bench.path("app.tar");
    crate::bench::tool(
        "tar",
        &["-cf", app.to_str().unwrap(), "-C", bench.path("app").to_str().unwrap(), "."],
    );
    let mut command = bench.strata(["build", "app.tar", "-t", "web", "--layout-dir", "images"]);
    command.args(["--buildpack", "app/lists"]);
    fs::write(bench.path("p.toml"), "").unwrap();
    let done = Done::of(command);
    assert!(done.code != 0 && done.stderr.contains("project.toml"), "{done:#?}");
}

#[test]
fn an_app_from_elsewhere_does_not_choose_this_machine_to_be_built_on() {
    let bench = Bench::new();
    run_image(&bench);
    Builder::new(&bench, "builder", &[]).write();
    let lister = lister(&bench);
    let script = "id = \"e2e/script\"\nscript = { api = \"0.10\", shell = \"/usr/bin/bash\", inline = \"echo was chosen by the app\" }\n";
    let tar = |text: &str| {
        bench.write("app/project.toml", text);
        let (app, dir) = (bench.path("app.tar"), bench.path("app"));
        crate::bench::tool("tar", &["-cf", app.to_str().unwrap(), "-C", dir.to_str().unwrap(), "."]);
    };
    let build = |args: &[&str]| {
        let mut command = bench.strata(["build", "app.tar", "-t", "web", "--layout-dir", "images"]);
        command.args(args);
        Done::of(command)
    };
    bench.write("app/folder/builder.toml", "[[order]]\n[[order.group]]\nid = \"e2e/lists\"\n");
    for kind in ["group", "pre.group", "post.group", ""] {
        tar(&match kind {
            "" => format!("{HEAD}[io.buildpacks]\nbuilder = \"./folder\"\n"),
            kind => format!("{HEAD}[[io.buildpacks.{kind}]]\n{script}"),
        });
        let done = build(&[]);
        assert!(done.code == 3 && done.stderr.contains("would run on this machine's files"), "{done:#?}");
        assert!(done.stderr.contains("--builder") && !done.stdout.contains("was chosen"), "{done:#?}");
    }
    // One's own choice, or one's own file.
    tar(&format!("{HEAD}[[io.buildpacks.group]]\n{script}"));
    build(&["--buildpack", lister.to_str().unwrap()]).ok().says("has marker");
    build(&["--builder", "oci:builder", "--run-image", "oci:run"]).ok().says("was chosen by the app");
    build(&["-d", "app/project.toml"]).ok().says("was chosen by the app");
    // An image of the app's choice is no file of this machine.
    tar(&format!("{HEAD}[io.buildpacks]\nbuilder = \"oci:builder\"\n[[io.buildpacks.group]]\n{script}"));
    build(&["--run-image", "oci:run"]).ok().says("was chosen by the app");
    assert!(!bench.build(&[], &[]).stderr.contains("this machine's files"));
}

#[test]
fn variables_come_from_the_project_from_files_and_from_the_command_line() {
    let bench = Bench::new();
    let lister = lister(&bench);
    bench.write(
        "app/project.toml",
        &format!("{HEAD}[[io.buildpacks.build.env]]\nname = \"A\"\nvalue = \"project\"\n[[io.buildpacks.build.env]]\nname = \"B\"\nvalue = \"project\"\n"),
    );
    bench.write(".env", "# a comment\nA=file\n\nB\n");
    for (args, expected) in [
        (&[][..], "A is project, B is project"),
        (&["--env-file", ".env"], "A is file, B is outside"),
        (&["--env-file", ".env", "-e", "A=flag=1"], "A is flag=1, B is outside"),
        (&["-e", "A"], "A is project, B is project"),
        (&["-e", "B"], "A is project, B is outside"),
    ] {
        let mut command =
            bench.build_command(&[&["-t", "web"], args].concat(), std::slice::from_ref(&lister));
        Done::of({
            command.env("B", "outside");
            command
        })
        .ok()
        .says(expected);
    }
}

#[test]
fn a_script_that_fails_fails_the_build() {
    let bench = Bench::new();
    for (shell, code) in [("/bin/bash -e", Some(7)), ("/bin/sh", None)] {
        let script =
            format!("api = \"0.11\"\nshell = \"{shell}\"\ninline = \"echo going; (exit 7); echo gone on\"\n");
        bench.write(
            "app/project.toml",
            &format!(
                "{HEAD}[[io.buildpacks.group]]\nid = \"e2e/script\"\n[io.buildpacks.group.script]\n{script}"
            ),
        );
        let done = bench.build(&[], &[]);
        done.says("going");
        assert_eq!(done.code == 0, code.is_none(), "{done:#?}");
        assert!(code.is_none() || done.code == 51 && done.stderr.contains("e2e/script@0.0.0"), "{done:#?}");
    }
}

#[test]
fn what_is_wrong_in_a_project_is_said_before_anything_is_built() {
    let bench = Bench::new();
    let lister = lister(&bench);
    let group = |rest: &str| format!("{HEAD}[[io.buildpacks.group]]\n{rest}\n");
    for (text, message) in [
        ("[_]\nschema-version = 7".to_owned(), "line 2, column 18: invalid type: integer `7`"),
        ("[_]\nschema-version = \"0.9\"".to_owned(), "line 2, column 18: the schema version is '0.9'"),
        ("[[".to_owned(), "line 1"),
        (format!("{HEAD}[io.buildpacks]\ninclude = [\"a\"]\nexclude = [\"b\"]"), "both include and exclude"),
        (format!("{HEAD}[io.buildpacks]\nexclude = [\"a[z-a]\"]"), "the pattern 'a[z-a]'"),
        (format!("{HEAD}[io.buildpacks]\nexclude = \"a\""), "line 4, column 11"),
        (
            group("id = \"a\"\nuri = \"b\"\nversion = \"1\""),
            "line 3, column 1: a buildpack has a uri or a version",
        ),
        (group("id = \"a\"\n[io.buildpacks.group.script]\ninline = \"x\""), "a script needs api and inline"),
        (group("id = \"a\"\n[io.buildpacks.group.script]\napi = \"9.9\"\ninline = \"x\""), "'9.9'"),
        (group("uri = \"./none\""), "there is no app/none"),
        (
            format!(
                "{HEAD}[[io.buildpacks.group]]\nid = \"a\"\nscript = {{ api = \"0.10\", inline = \"echo\" }}\n\
                 [[io.buildpacks.group]]\nid = \"a\"\nscript = {{ api = \"0.11\", inline = \"echo\" }}\n"
            ),
            "there are two buildpacks a@0.0.0",
        ),
        (
            format!("{HEAD}[io.buildpacks]\nbuilder = \"127.0.0.1:1/none\""),
            "app/project.toml names this builder. --builder names another",
        ),
        // A path is never the name of an image.
        (format!("{HEAD}[io.buildpacks]\nbuilder = \"./none\""), "there is no ./app/none/builder.toml"),
        (format!("# {}\n", "x".repeat(17 << 20)), "larger than"),
    ] {
        bench.write("app/project.toml", &text);
        // What it asks for is not overridden.
        let done = bench.build(&[], &[]);
        assert!(done.code == 3 || done.code == 12 || done.code == 62, "{message}: {done:#?}");
        assert!(done.stderr.contains(message), "{message}: {done:#?}");
        assert!(!bench.has_image());
    }
    // What is not known is told, and not refused.
    bench.write("app/project.toml", &format!("{HEAD}[io.buildpacks]\nbuilders = 1\n[com.other]\nx = 1\n"));
    let done = bench.build(&[], &[lister]).ok();
    done.says("app/project.toml: schema 0.2 has no io.buildpacks.builders; ignored");
    fs::remove_file(bench.path("app/project.toml")).unwrap();
    let done = bench.build(&[], &[]);
    assert!(done.code == 3 && done.stderr.contains("neither a builder nor a buildpack"), "{done:#?}");
    let done = bench.build(&["--descriptor", "none.toml"], &[]);
    assert!(done.code == 3 && done.stderr.contains("none.toml"), "{done:#?}");
}
