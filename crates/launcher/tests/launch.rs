//! Runs the launcher on small images laid out in a temporary directory.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Held while a program is written or started: a child that another test is about to start would otherwise have the
/// program open for writing for a moment, and a file open for writing cannot be executed.
static FORK: Mutex<()> = Mutex::new(());

/// An app image: `app`, `layers` and a sealed environment.
struct Image {
    root: tempfile::TempDir,
    env: Vec<(OsString, OsString)>,
}

impl Image {
    /// An image with one buildpack, `a/bp`, of Buildpack API 0.9, and these processes.
    fn new(processes: &str) -> Self {
        let image = Self::bare();
        let buildpack = "[[buildpacks]]\nid = 'a/bp'\nversion = '1'\napi = '0.9'\n";
        image.file("layers/config/metadata.toml", &format!("{buildpack}{processes}"));
        image
    }

    fn bare() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("app")).unwrap();
        let env = vec![("PATH".into(), PATH.into()), ("CNB_PLATFORM_API".into(), "0.12".into())];
        let image = Self { root, env };
        let (app, layers) = (image.path("app"), image.path("layers"));
        image.env("CNB_APP_DIR", app).env("CNB_LAYERS_DIR", layers)
    }

    fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.root.path().join(path)
    }

    fn file(&self, path: impl AsRef<Path>, contents: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, contents).unwrap();
    }

    fn program(&self, path: impl AsRef<Path>, contents: &str) {
        let _no_fork = FORK.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        self.file(&path, contents);
        fs::set_permissions(self.path(path), fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn command(&self, argv0: &str, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_launcher"));
        command.arg0(argv0).args(args).env_clear().current_dir(self.root.path());
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    fn run(&self, argv0: &str, args: &[&str]) -> Output {
        output(&mut self.command(argv0, args))
    }

    /// The output of a launch that must succeed.
    fn launch(&self, argv0: &str, args: &[&str]) -> String {
        let output = self.run(argv0, args);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The exit code and the output of a launch that must fail; `$ROOT` stands for the directory of the image.
    fn fail(&self, argv0: &str, args: &[&str]) -> (i32, String) {
        let output = self.run(argv0, args);
        assert!(output.stderr.is_empty(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        (output.status.code().unwrap(), text.replace(self.root.path().to_str().unwrap(), "$ROOT"))
    }
}

fn output(command: &mut Command) -> Output {
    let child = {
        let _no_fork = FORK.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    child.wait_with_output().unwrap()
}

fn direct(command: &str) -> String {
    format!("[[processes]]\ntype = 'web'\ncommand = {command}\ndirect = true\nbuildpack-id = 'a/bp'\n")
}

fn shell(command: &str) -> String {
    direct(command).replace("true", "false")
}

#[test]
fn a_direct_process_gets_its_arguments_and_a_clean_environment() {
    let image =
        Image::new(&direct("['printenv']")).env("CNB_EXEC_ENV", "test").env("CNB_DEPRECATION_MODE", "x");
    assert_eq!(image.launch("/cnb/process/web", &[]), format!("CNB_EXEC_ENV=test\nPATH={PATH}\n"));

    let image = Image::new(&format!("{}args = ['own']", direct("['printf', '[%s]', 'a b']")));
    assert_eq!(image.launch("web", &[]), "[a b][own]");
    assert_eq!(image.launch("web", &["$HOME", "'"]), "[a b][$HOME][']");
}

#[test]
fn the_program_is_called_as_the_command_says() {
    let image = Image::new(&direct("['sh', '-c', 'tr \"\\0\" \" \" < /proc/$$/cmdline']"));
    assert!(image.launch("web", &[]).starts_with("sh -c"));
}

#[test]
fn a_user_command_is_direct_or_of_the_shell() {
    let image = Image::new("").env("WORD", "a  b");
    assert_eq!(image.launch("launcher", &["--", "printf", "[%s]", "$WORD"]), "[$WORD]");
    assert_eq!(image.launch("launcher", &["printf '<%s>' \"$WORD\" | cat"]), "<a  b>");
    assert_eq!(image.launch("launcher", &["printf", "[%s]", "$WORD", "it's \"q\""]), "[a  b][it's q]");
}

#[test]
fn layers_modify_the_environment() {
    let image =
        Image::new(&direct("['printenv', 'PATH', 'LD_LIBRARY_PATH', 'ORDER', 'WEB', 'LINE', 'LIST']"));
    for (file, contents) in [
        ("l1/bin/tool", ""),
        ("l2/bin/tool", ""),
        ("l2/lib/lib.so", ""),
        ("l1/env/ORDER.append", "1"),
        ("l1/env.launch/ORDER.append", "2"),
        ("l1/env.launch/web/ORDER.append", "3"),
        ("l1/env.launch/worker/ORDER.append", "!"),
        ("l1/env.build/ORDER.append", "!"),
        ("l2/env/ORDER.append", "4"),
        ("l1/env.launch/web/WEB", "yes"),
        ("l1/env/LINE", "kept\n"),
        ("l1/env/LIST.delim", ";"),
        ("l1/env/LIST.append", "new"),
    ] {
        image.file(Path::new("layers/a_bp").join(file), contents);
    }
    let layers = image.path("layers/a_bp");
    let layers = layers.display();
    let image = image.env("LIST", "old").env("PATH", format!("/cnb/process:/cnb/lifecycle:{PATH}"));
    let expected =
        format!("{layers}/l2/bin:{layers}/l1/bin:{PATH}\n{layers}/l2/lib\n1234\nyes\nkept\n\nold;new\n");
    assert_eq!(image.launch("web", &[]), expected);
}

#[test]
fn an_image_without_path_has_no_trailing_colon() {
    let image =
        Image::new(&direct("['/usr/bin/printenv', 'PATH']")).env("PATH", "/cnb/process:/cnb/lifecycle:");
    image.file("layers/a_bp/l/bin/tool", "");
    assert_eq!(image.launch("web", &[]), format!("{}\n", image.path("layers/a_bp/l/bin").display()));
}

#[test]
fn profiles_run_in_order_and_see_their_arguments() {
    let image = Image::new(&format!("{}args = ['$P', 'x']", shell("['printf', '%s|']")));
    let add = |file: &str, word: &str| image.file(file, &format!("export P=\"$P {word} $0 $#\"\n"));
    add("app/.profile", "app");
    add("layers/a_bp/l2/profile.d/c.sh", "c");
    add("layers/a_bp/l1/profile.d/b.sh", "b");
    add("layers/a_bp/l1/profile.d/web/a.sh", "a");
    add("layers/a_bp/l1/profile.d/other/x.sh", "never");
    assert_eq!(image.launch("/x/web", &[]), " b /x/web 4 a /x/web 4 c /x/web 4 app /x/web 4|x|");
}

#[test]
fn paths_of_any_spelling_are_safe_in_the_script() {
    let odd = "it's $(touch hit) \"`touch hit`\" \\ $HOME";
    let process = format!("{}working-dir = '''W'''", shell("['pwd']"));
    let image = Image::new("").env("HOME", "/x");
    let dir = image.path("app").join(odd);
    fs::create_dir(&dir).unwrap();
    let process = process.replace('W', dir.to_str().unwrap());
    image
        .file("layers/config/metadata.toml", &format!("[[buildpacks]]\nid = 'a/bp'\napi = '0.9'\n{process}"));
    image.file(format!("layers/a_bp/{odd}/profile.d/{odd}"), "echo sourced\n");
    let bytes = image.path("layers/a_bp").join(OsStr::from_bytes(b"z\xff/profile.d"));
    fs::create_dir_all(&bytes).unwrap();
    fs::write(bytes.join("p"), "echo bytes\n").unwrap();
    assert_eq!(image.launch("web", &[]), format!("sourced\nbytes\n{}\n", dir.display()));
    assert!(!image.path("app/hit").exists());
}

#[test]
fn exec_d_programs_see_and_change_the_environment() {
    let image = Image::new(&direct("['printenv', 'A', 'B', 'LAST']"));
    let program = "#!/bin/sh\nread line && exit 9\n[ $# = 0 ] || exit 8\n";
    image.program("layers/a_bp/l/exec.d/1", &format!("{program}echo \"A = 'from $FILE'\" >&3"));
    image
        .program("layers/a_bp/l/exec.d/2", &format!("{program}printf 'B = \"%s\"\nLAST = \"2\"' \"$A\" >&3"));
    image
        .program("layers/a_bp/l/exec.d/web/1", &format!("{program}echo 'LAST = \"web\"' >&3; echo out; pwd"));
    image.program("layers/a_bp/l/exec.d/other/1", "#!/bin/sh\nexit 7");
    image.file("layers/a_bp/l/env.launch/FILE", "file");
    let app = image.path("app");
    let expected = format!("out\n{}\nfrom file\nfrom file\nweb\n", app.display());
    assert_eq!(image.launch("web", &[]), expected);
}

#[test]
fn exec_d_output_may_be_long() {
    let image = Image::new(&direct("['sh', '-c', 'echo ${#A}']"));
    let program = "#!/bin/sh\n(printf 'A = \"'; head -c 100000 /dev/zero | tr '\\0' x; echo '\"') >&3";
    image.program("layers/a_bp/l/exec.d/1", program);
    assert_eq!(image.launch("web", &[]), "100000\n");
}

#[test]
fn a_background_process_of_exec_d_does_not_hold_up_the_launch() {
    let image = Image::new(&direct("['printenv', 'A']"));
    // It ends when it is told to; or else by itself, soon enough for the test to fail.
    let wait = "timeout 60 sh -c 'until [ -e told ]; do sleep 0.05; done' && : > heard";
    let program = format!("#!/bin/sh\necho 'A = \"b\"' >&3\n({wait}) >/dev/null 2>&1 &\n");
    let program = program.replace(" told", &format!(" {}", image.path("told").display()));
    let program = program.replace(" heard", &format!(" {}", image.path("heard").display()));
    image.program("layers/a_bp/l/exec.d/1", &program);
    assert_eq!(image.launch("web", &[]), "b\n");
    image.file("told", "");
    let start = Instant::now();
    while !image.path("heard").exists() {
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "the launch has waited for the background process"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_descriptor_the_launcher_inherits_reaches_the_process() {
    let image = Image::new(&direct("['sh', '-c', 'cat <&3; printenv A']"));
    image.file("inherited", "socket\n");
    image.program("layers/a_bp/l/exec.d/1", "#!/bin/sh\necho 'A = \"b\"' >&3");
    let mut command = Command::new("bash");
    command.args(["-c", "exec 3< inherited; exec -a web \"$0\""]).arg(env!("CARGO_BIN_EXE_launcher"));
    command.env_clear().envs(image.env.iter().cloned()).current_dir(image.root.path());
    let output = output(&mut command);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "socket\nb\n", "{output:?}");
}

#[test]
fn a_failing_exec_d_program_stops_the_launch() {
    let at = "ERROR: failed to launch: exec.d: failed to";
    let file = "exec.d file at path '$ROOT/layers/a_bp/l/exec.d/1'";
    for (program, expected) in [
        ("#!/bin/sh\nexit 3", format!("{at} execute {file}: exit status 3\n")),
        ("#!/bin/sh\nkill -9 $$", format!("{at} execute {file}: signal: 9 (SIGKILL)\n")),
        ("#!/bin/sh\necho A = 1 >&3", format!("{at} decode output from {file}: toml: 'A' is not a string\n")),
        (
            "#!/nowhere",
            format!(
                "{at} execute {file}: fork/exec $ROOT/layers/a_bp/l/exec.d/1: no such file or directory\n"
            ),
        ),
    ] {
        let image = Image::new(&direct("['true']"));
        image.program("layers/a_bp/l/exec.d/1", program);
        assert_eq!(image.fail("web", &[]), (82, expected), "{program}");
    }
}

#[test]
fn the_working_dir_is_where_the_process_runs() {
    for process in [direct("['./where']"), shell("['./where']"), shell("['./where', '']")] {
        let image = Image::new(&format!("{process}working-dir = 'sub'\n"));
        image.program("app/sub/where", "#!/bin/sh\npwd");
        assert_eq!(image.launch("web", &[]), format!("{}\n", image.path("app/sub").display()), "{process}");
    }
}

#[test]
fn what_cannot_be_launched_exits_82() {
    let launch = |cause: &str| (82, format!("ERROR: failed to launch: {cause}\n"));
    let lookup = |cause: &str| launch(&format!("path lookup: exec: {cause}"));
    let image = Image::new(&format!("{}working-dir = '/nowhere'", direct("['true']")));
    image.file("app/file", "");
    for (argv0, args, expected) in [
        (
            "launcher",
            &[][..],
            launch("determine start command: when there is no default process a command is required"),
        ),
        ("launcher", &["--", "nope"], lookup("\"nope\": executable file not found in $PATH")),
        ("launcher", &["--", "./nope"], lookup("\"./nope\": stat ./nope: no such file or directory")),
        ("launcher", &["--", "./file"], lookup("\"./file\": permission denied")),
        ("launcher", &["--", "/"], lookup("\"/\": is a directory")),
        ("web", &[], launch("change directory: chdir /nowhere: no such file or directory")),
    ] {
        assert_eq!(image.fail(argv0, args), expected, "{argv0} {args:?}");
    }
    let image = image.env("CNB_APP_DIR", "/nowhere");
    assert_eq!(
        image.fail("web", &[]),
        launch("change to app directory: chdir /nowhere: no such file or directory")
    );
}

#[test]
fn unsupported_platform_apis_exit_11() {
    for (api, expected) in [
        (
            "",
            "get platform API version; please set 'CNB_PLATFORM_API' to specify the desired platform API version",
        ),
        (
            " ",
            "get platform API version; please set 'CNB_PLATFORM_API' to specify the desired platform API version",
        ),
        ("x", "parse platform API 'x'"),
        ("0.6", "set platform API: platform API version '0.6' is incompatible with the lifecycle"),
        ("1.0", "set platform API: platform API version '1.0' is incompatible with the lifecycle"),
    ] {
        let image = Image::bare().env("CNB_PLATFORM_API", api);
        assert_eq!(image.fail("web", &[]), (11, format!("ERROR: failed to {expected}\n")), "{api:?}");
    }
}

#[test]
fn unsupported_buildpack_apis_exit_12() {
    for (api, expected) in [
        ("x", "parse buildpack API '<nil>' for buildpack 'a'"),
        ("0.6", "set API for buildpack 'a': buildpack API version '0.6' is incompatible with the lifecycle"),
    ] {
        let image = Image::bare();
        image.file("layers/config/metadata.toml", &format!("[[buildpacks]]\nid = 'a'\napi = '{api}'"));
        assert_eq!(image.fail("web", &[]), (12, format!("ERROR: failed to {expected}\n")), "{api:?}");
    }
}

#[test]
fn metadata_that_cannot_be_read_exits_1() {
    let image = Image::bare();
    let missing = "open $ROOT/layers/config/metadata.toml: no such file or directory";
    assert_eq!(image.fail("web", &[]), (1, format!("ERROR: failed to read metadata: {missing}\n")));
    image.file("layers/config/metadata.toml", "\n[[processes");
    let (code, text) = image.fail("web", &[]);
    assert!(code == 1 && text.starts_with("ERROR: failed to read metadata: toml: line 2: "), "{code} {text}");
}

#[test]
fn a_process_type_in_the_environment_is_only_warned_about() {
    let image = Image::new(&direct("['printenv', 'PATH']")).env("CNB_PROCESS_TYPE", "worker");
    let expected = format!(
        "Warning: CNB_PROCESS_TYPE is not supported in Platform API 0.12\n\
         Warning: Run with ENTRYPOINT 'worker' to invoke the 'worker' process type\n{PATH}\n"
    );
    assert_eq!(image.launch("web", &[]), expected);
}
