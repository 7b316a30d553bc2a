//! `strata run`, and the samples as a whole.

use crate::bench::{Bench, Buildpack, Done, Running, wait_for};
use rustix::process::Signal;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;

/// A port that nobody listens on.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn get(port: u16, path: &str) -> String {
    let mut stream = wait_for(|| TcpStream::connect(("127.0.0.1", port)));
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Processes for everything that the probe can do.
pub(crate) fn probing() -> Buildpack {
    Buildpack::new("e2e/probe").build(
        r#"
        probe
        for what in env args where serve; do
            printf '[[processes]]\ntype = "%s"\ncommand = ["probe", "%s"]\n' $what $what
        done >"$layers/launch.toml"
        cat >>"$layers/launch.toml" <<-TOML
		[[processes]]
		type = "web"
		command = ["probe", "exit"]
		args = ["7"]
		default = true
		TOML
        "#,
    )
}

#[test]
fn the_samples_become_a_server() {
    let bench = Bench::new();
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../samples");
    let mut command = bench.strata(["build", "-t", "web", "--layout-dir", "images", "--builder"]);
    command.arg(samples.join("builder")).arg(samples.join("apps/web"));
    // The sample's buildpack calls cargo, which looks for the toolchain and crates in the home.
    for (name, default) in [("CARGO_HOME", ".cargo"), ("RUSTUP_HOME", ".rustup")] {
        let home = std::env::var_os("HOME").unwrap_or_default();
        let dir = std::env::var_os(name).unwrap_or_else(|| Path::new(&home).join(default).into());
        let mut pair = std::ffi::OsString::from(format!("{name}="));
        // The buildpack cannot write to this machine's folders, so cargo keeps its crates in the build's own.
        pair.push(if name == "CARGO_HOME" { "/tmp/cargo".into() } else { dir });
        command.arg("--env").arg(pair);
    }
    Done::of(command).ok().says("starts  web");

    let port = free_port();
    let mut run = bench.strata(["run", "web", "--layout-dir", "images"]);
    run.args(["--env", &format!("PORT={port}"), "--env", "GREETING=from the test"]);
    let mut run = Running::start(run);
    run.wait_for_line("listening");
    assert!(get(port, "/").contains("from the test"));
    run.signal(Signal::TERM);
    let code = run.end();
    assert!(code == 0 || code == 143, "{code}");
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "it still listens");
}

#[test]
fn a_server_answers_and_ends_with_the_program() {
    let bench = Bench::new();
    let buildpack = bench.add(&probing());
    bench.build(&[], &[buildpack]).ok();
    for signal in [Signal::TERM, Signal::INT] {
        let port = free_port();
        let mut run = bench.strata(["run", "web", "--layout-dir", "images", "--process-type", "serve"]);
        run.args(["--env", &format!("PORT={port}")]);
        let mut run = Running::start(run);
        run.wait_for_line("listening");
        assert!(get(port, "/").ends_with("hello\n"));
        run.signal(signal);
        assert_eq!(run.end(), 128 + signal.as_raw());
        assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "it still listens");
    }
}

#[test]
fn the_exit_code_is_the_processs_own() {
    let bench = Bench::new();
    let buildpack = bench.add(&probing());
    bench.build(&[], &[buildpack]).ok();
    assert_eq!(bench.run(&[]).code, 7);
    assert_eq!(bench.run(&["--", "9"]).code, 9);
    let args = bench.run(&["--process-type", "args", "--", "a b", "", "$HOME"]).ok();
    assert_eq!(args.stdout, "a b\n\n$HOME\n");
    let none = bench.run(&["--process-type", "zz"]);
    assert!(none.code != 0 && none.stderr.contains("has no process type 'zz'"), "{none:#?}");
    assert!(none.stderr.contains("there are: ") && none.stderr.contains("where"), "{none:#?}");
}

#[test]
fn an_image_without_a_default_process_says_what_can_be_started() {
    let bench = Bench::new();
    let script =
        "printf '[[processes]]\\ntype = \"%s\"\\ncommand = [\"true\"]\\n' one two >$layers/launch.toml";
    bench.build(&[], &[bench.add(&Buildpack::new("e2e/two").build(script))]).ok();
    let done = bench.run(&[]);
    let hint = "Hint: there are: one, two; start one with --process-type one, or name a program after --";
    assert!(done.code != 0 && done.stderr.contains("has no default process"), "{done:#?}");
    assert!(done.stderr.contains(hint), "{done:#?}");
}

#[test]
fn what_cannot_be_run_without_a_program_is_not_recommended() {
    let bench = Bench::new();
    let done = bench.build(&[], &[bench.add(&Buildpack::new("e2e/none"))]).ok();
    done.says("strata trace");
    assert!(!done.stdout.contains("strata run"), "{done:#?}");
}

#[test]
fn the_process_sees_the_images_environment_and_user() {
    let bench = Bench::new();
    let buildpack = bench.add(&probing());
    bench.build(&[], &[buildpack]).ok();
    let place = bench.run(&["--process-type", "where"]).ok();
    let words: Vec<&str> = place.stdout.split_whitespace().collect();
    assert_eq!(
        words,
        ["/workspace", "Uid:", "1000", "1000", "1000", "1000", "Gid:", "1000", "1000", "1000", "1000"]
    );
    let file = bench.write("more.env", "# a comment\nFROM_FILE=1\nBOTH=file\n");
    let file = file.to_str().unwrap();
    let env = bench.run(&["--process-type", "env", "--env-file", file, "--env", "BOTH=flag"]).ok();
    let lines: Vec<&str> = env.stdout.lines().collect();
    for expected in ["FROM_FILE=1", "BOTH=flag", "CNB_USER_ID=1000"] {
        assert!(lines.contains(&expected), "{expected}: {env:#?}");
    }
    assert!(!env.stdout.contains(bench.marker()), "this machine's home is known inside: {env:#?}");
}

#[test]
fn what_is_not_there_cannot_be_run() {
    let bench = Bench::new();
    let done = bench.run(&[]);
    assert_eq!(done.code, 3, "{done:#?}");
    assert!(done.stderr.contains("ERROR: "), "{done:#?}");
    let buildpack = bench.add(&probing());
    bench.build(&[], &[buildpack]).ok();
    let done = bench.run(&["--process-type", "nothing"]);
    assert_eq!(done.code, 82, "{done:#?}");
    assert!(done.stderr.contains("ERROR: "), "{done:#?}");
}
