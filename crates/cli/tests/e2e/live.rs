//! What a person sees of a build on a terminal.

use crate::bench::{Bench, Buildpack, wait_for};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, TryRecvError, channel};

/// Output that would ruin a terminal, lines too long for it, and a bar that is drawn again and again.
const WILD: &str = r#"
    printf '\033]0;TITLE\007\033[?25l\033[2J\033[H\033[8mwild one\033[0m\n'
    for i in $(seq 30); do printf '\r\033[32m漢字 %3d%%\033[0m' "$i"; sleep 0.01; done; echo
    for i in $(seq 40); do echo "🎉 wide $(printf '長い %.0s' $(seq "$i"))"; sleep 0.01; done
"#;

/// How many bytes are not drawn at once.
const SEVERAL_FRAMES: usize = 4000;

/// A program on a terminal of its own.
struct Live {
    child: Child,
    master: File,
    said: Receiver<Vec<u8>>,
    bytes: Vec<u8>,
    screen: vt100::Parser,
}

fn winsize(columns: u16, rows: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

impl Live {
    /// Starts `strata build` in a terminal of so many columns.
    fn build(
        bench: &Bench,
        columns: u16,
        buildpacks: &[PathBuf],
        args: &[&str],
        variables: &[(&str, &str)],
    ) -> Self {
        const ROWS: u16 = 24;
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master: OwnedFd = openpt(flags).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let slave = || File::options().read(true).write(true).open(&name).unwrap();
        tcsetwinsize(&master, winsize(columns, ROWS)).unwrap();
        let share = format!("{}:/share", bench.path("share").display());
        let share: &[&str] = if bench.path("share").exists() { &["--volume", &share] } else { &[] };
        let build = bench.build_command(&[&["-t", "web"], args, share].concat(), buildpacks);
        // Makes the terminal the one whose keys are signals.
        let mut command = Command::new("setsid");
        command.args(["--ctty", "--wait"]).arg(build.get_program()).args(build.get_args());
        command.env_clear().envs(build.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.env("TERM", "xterm-256color").envs(variables.iter().copied());
        command.current_dir(bench.path("")).stdin(slave()).stdout(slave()).stderr(slave());
        let child = command.spawn().unwrap_or_else(|error| panic!("this test needs setsid: {error}"));
        drop(command);
        let master = File::from(master);
        let mut reader = master.try_clone().unwrap();
        let (sender, said) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // The end of a terminal is an error.
            while let Ok(count @ 1..) = reader.read(&mut buffer) {
                if sender.send(buffer[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { child, master, said, bytes: Vec::new(), screen: vt100::Parser::new(ROWS, columns, 0) }
    }

    /// Shows what was said by now; `false` when nothing will follow.
    fn look(&mut self) -> bool {
        loop {
            match self.said.try_recv() {
                Ok(bytes) => {
                    self.bytes.extend(&bytes);
                    self.screen.process(&bytes);
                    self.check();
                }
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
    }

    /// What holds at any time.
    #[track_caller]
    fn check(&self) {
        let screen = self.screen.screen();
        assert!(!screen.hide_cursor(), "the cursor is hidden");
        let text = screen.contents();
        assert!(!text.contains("TITLE"), "{text}");
        for (row, line) in (0..).zip(screen.rows(0, screen.size().1)) {
            let is_drawn = line
                .trim_start()
                .starts_with(['│', '✓', '✗', '⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏']);
            assert!(!(is_drawn && screen.row_wrapped(row)), "a line is too wide: {line:?} in\n{text}");
        }
    }

    #[track_caller]
    fn wait_for(&mut self, text: &str) {
        wait_for(|| {
            let goes_on = self.look();
            let seen = self.screen.screen().contents();
            assert!(
                goes_on || seen.contains(text),
                "no '{text}' in {}",
                String::from_utf8_lossy(&self.bytes)
            );
            if seen.contains(text) { Ok(()) } else { Err(format!("no '{text}' in\n{seen}")) }
        });
    }

    fn types(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).unwrap();
    }

    /// Waits for the end; the exit code, and what is on the screen then.
    #[track_caller]
    fn end(&mut self) -> (i32, String) {
        let status = wait_for(|| {
            self.look();
            self.child.try_wait().unwrap().ok_or("it still runs")
        });
        // What was said last may be on its way.
        wait_for(|| if self.look() { Err("it is still open") } else { Ok(()) });
        let (row, column) = self.screen.screen().cursor_position();
        let text = self.screen.screen().contents();
        assert_eq!(column, 0, "{text}");
        let below = text.lines().skip(row.into()).all(|line| line.trim().is_empty());
        assert!(below, "something is drawn below the cursor in row {row}:\n{text}");
        (status.code().unwrap(), text)
    }

    /// Makes the terminal narrower or wider, and looks at what is drawn once that is known.
    fn resize(&mut self, columns: u16) {
        let rows = self.screen.screen().size().0;
        tcsetwinsize(&self.master, winsize(columns, rows)).unwrap();
        // What is drawn over what was drawn before is each terminal's own matter.
        let mut unseen = 0;
        wait_for(|| {
            unseen += self.said.try_iter().map(|bytes| bytes.len()).sum::<usize>();
            if unseen > SEVERAL_FRAMES { Ok(()) } else { Err("nothing is drawn") }
        });
        self.screen = vt100::Parser::new(rows, columns, 0);
        let seen = self.bytes.len();
        wait_for(|| {
            self.look();
            if self.bytes.len() > seen + SEVERAL_FRAMES { Ok(()) } else { Err("nothing is drawn") }
        });
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        // It has ended, unless the test failed.
        self.child.kill().unwrap_or_default();
        drop(self.child.wait());
    }
}

/// Two buildpacks; the second one goes on when there is a file `share/go`.
fn buildpacks(bench: &Bench) -> [PathBuf; 2] {
    std::fs::create_dir(bench.path("share")).unwrap();
    let wait = "while ! test -e /share/go; do echo still 長い; sleep 0.05; done";
    let script = format!("{WILD}\n{wait}\nlayer deps launch cache; echo bye");
    let wild = Buildpack::new("e2e/wild").build(&script);
    [bench.add(&crate::run::probing()), bench.add(&wild)]
}

#[test]
fn a_build_fits_its_terminal() {
    for columns in [200, 80, 40] {
        let bench = Bench::new();
        let buildpacks = buildpacks(&bench);
        let mut live = Live::build(&bench, columns, &buildpacks, &[], &[]);
        live.wait_for("still 長い");
        let seen = live.screen.screen().contents();
        assert!(
            seen.contains("e2e/wild 1.0.0") && seen.contains("2 of 2") && seen.contains("✓ e2e/"),
            "{seen}"
        );
        bench.write("share/go", "");
        let (code, seen) = live.end();
        assert_eq!(code, 0, "{seen}");
        let all = String::from_utf8_lossy(&live.bytes).into_owned();
        let plain = anstream::adapter::strip_str(&all).to_string();
        for text in ["✓ detect", "  ✓ e2e/wild 1.0.0", "✓ build", "✓ export", "SUMMARY", "strata run web"]
        {
            assert!(plain.contains(text), "no '{text}' in {plain}");
        }
        if columns == 80 {
            assert!(plain.contains("log     ~/.local/state/strata/logs/"), "{plain}");
            let source = plain.lines().find(|line| line.contains("Source: content sha256:")).unwrap();
            assert!(source.trim().len() < 60, "{source:?}");
        }
        // What buildpacks said is gone, and was never obeyed.
        assert!(!seen.contains('🎉') && !seen.contains("bye"), "{seen}");
        assert!(!all.contains("\u{1b}]") && !all.contains("\u{1b}[?") && !all.contains("\u{1b}[2J"), "{all}");
        assert!(all.contains("\u{1b}[32m"), "{all}");
    }
}

#[test]
fn a_terminal_may_become_narrower_and_wider() {
    let bench = Bench::new();
    let buildpacks = buildpacks(&bench);
    let mut live = Live::build(&bench, 80, &buildpacks, &[], &[]);
    live.wait_for("wide");
    for columns in [41, 120, 20, 80] {
        live.resize(columns);
    }
    bench.write("share/go", "");
    assert_eq!(live.end().0, 0);
}

#[test]
fn what_a_failed_buildpack_said_stays() {
    let bench = Bench::new();
    let dir = bench.add(&Buildpack::new("e2e/bad").build(
        "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do echo \"step $i\"; done; printf '\\033[31mwhy\\033[0m\\033[2J'; exit 3",
    ));
    let (code, seen) = Live::build(&bench, 80, &[dir], &[], &[]).end();
    assert_eq!(code, 51);
    for text in [
        "✗ e2e/bad 1.0.0",
        "  step 1\n",
        "  step 12\n",
        "  why\n",
        "exit status 3",
        "cause: its last words: why",
    ] {
        assert!(seen.contains(text), "no '{text}' in\n{seen}");
    }
    let log = seen.lines().skip_while(|line| !line.starts_with("Log: ")).collect::<String>();
    let log = log.trim_start_matches("Log: ~/").trim().to_owned();
    let text =
        std::fs::read_to_string(bench.path("home").join(&log)).unwrap_or_else(|e| panic!("{log}: {e}"));
    assert!(text.contains("] [e2e/bad@1.0.0] step 12\n") && text.contains("exit status 3"), "{text}");
}

#[test]
fn a_build_that_is_stopped_leaves_the_terminal_as_it_was() {
    let bench = Bench::new();
    let buildpacks = buildpacks(&bench);
    let mut live = Live::build(&bench, 80, &buildpacks, &[], &[]);
    live.wait_for("wide");
    live.master.write_all(b"\x03").unwrap();
    let (code, seen) = live.end();
    assert_eq!(code, 130, "{seen}");
    assert!(seen.contains("ERROR: interrupted") && seen.contains("✗ e2e/wild 1.0.0"), "{seen}");
    assert!(!seen.contains("then") && !seen.contains(" · "), "something is still drawn:\n{seen}");
    bench.is_clean_soon();
}

#[test]
fn a_terminal_without_colours_or_without_a_cursor_is_respected() {
    let bench = Bench::new();
    let dirs = [bench.add(&Buildpack::new("e2e/red").build("printf '\\033[31mred\\033[0m\\n'; sleep 0.3"))];
    for (args, variables, is_drawn) in [
        (&["--no-color"][..], &[][..], true),
        (&[], &[("NO_COLOR", "1")], true),
        (&["--verbose", "--no-color"], &[], false),
        (&[], &[("TERM", "dumb")], false),
        (&["--quiet"], &[], false),
        (&["--json"], &[], false),
    ] {
        let mut live = Live::build(&bench, 80, &dirs, args, variables);
        assert_eq!(live.end().0, 0);
        let all = String::from_utf8_lossy(&live.bytes).into_owned();
        let has_color = all
            .split("\u{1b}[")
            .skip(1)
            .any(|rest| rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';').starts_with('m'));
        assert!(!has_color, "{args:?}: {all:?}");
        assert_eq!(all.contains("\u{1b}[K"), is_drawn, "{args:?}: {all:?}");
        assert_eq!(
            all.contains("[e2e/red@1.0.0] red"),
            !is_drawn && args != ["--quiet"] && args != ["--json"],
            "{all}"
        );
    }
}

#[test]
fn a_build_that_fails_ends_in_a_shell_where_it_failed() {
    let bench = Bench::new();
    let script = r#"export LOST=x; touch "$layers/left"; echo why it broke; exit 7"#;
    let fails = bench.add(&Buildpack::new("e2e/fails").build(script));
    let args = ["--debug-shell", "--env", "GIVEN=given to all"];
    let mut live = Live::build(&bench, 100, std::slice::from_ref(&fails), &args, &[]);
    live.wait_for("this shell is in its place");
    live.wait_for("again   /cnb/buildpacks/e2e_fails/1.0.0/bin/build /layers/e2e_fails /platform /tmp/");
    live.wait_for("why it broke");
    live.types("PS1='ready> '\r");
    live.wait_for("\nready> ");
    live.types("echo \"[$GIVEN|$LOST|$PWD|$TERM|$(ls $CNB_LAYERS_DIR)|$(id -u)|$(stty size)]\"\r");
    live.wait_for("[given to all||/workspace|xterm-256color|left|1000|24 100]");
    live.types("clear; test -f $CNB_BP_PLAN_PATH && tty && grep CapEff /proc/self/status\r");
    live.wait_for("/dev/pts/0");
    live.wait_for("CapEff: 0000000000000000");
    tcsetwinsize(&live.master, winsize(110, 30)).unwrap();
    live.types("clear; until stty size | grep '^30 110$'; do sleep 0.1; done; echo wid''er\r");
    live.wait_for("wider");
    // Keys are the shell's, and do not end the build.
    live.types("clear; echo sle''eps; sleep 100\r");
    live.wait_for("sleeps");
    live.types("\u{3}");
    live.types("echo \"was $?\"\r");
    live.wait_for("was 130");
    live.types("sleep 1000 & exit 3\r");
    let (code, seen) = live.end();
    assert_eq!(code, 51, "{seen}");
    assert!(seen.contains("bin/build of buildpack e2e/fails@1.0.0 ended with exit status 7"), "{seen}");
    bench.is_clean_soon();
    let done = bench.build(&["--debug-shell"], &[fails]);
    assert!(done.code == 3 && done.stderr.contains("--debug-shell needs a terminal"), "{done:#?}");
}

#[test]
fn a_shell_that_takes_no_keys_can_be_ended_and_the_terminal_is_as_before() {
    let all = end_a_shell_that_takes_no_keys(&[Signal::TERM]);
    assert!(all.contains("interrupted"), "{all}");
    // The second may come when the terminal is put right already, and ends the program at once.
    end_a_shell_that_takes_no_keys(&[Signal::TERM, Signal::HUP]);
}

/// Everything that is shown.
fn end_a_shell_that_takes_no_keys(signals: &[Signal]) -> String {
    let bench = Bench::new();
    let fails = bench.add(&Buildpack::new("e2e/fails").build("exit 7"));
    let mut live = Live::build(&bench, 100, &[fails], &["--debug-shell"], &[]);
    let modes = |live: &Live| tcgetattr(&live.master).unwrap().local_modes;
    let before = modes(&live);
    live.wait_for("again ");
    live.types("echo sle''eps; exec sleep 1000\r");
    live.wait_for("sleeps");
    assert!(!modes(&live).contains(LocalModes::ICANON));
    let mut typing = live.master.try_clone().unwrap();
    // More than fits on the way. Detached, since nobody wakes who waits for a terminal that was closed.
    std::thread::spawn(move || typing.write_all(&b"nobody reads this\n".repeat(20_000)));
    live.wait_for("nobody reads this");
    let strata = Pid::from_child(&live.child);
    for signal in signals {
        kill_process(strata, *signal).unwrap();
    }
    let status = wait_for(|| {
        live.look();
        live.child.try_wait().unwrap().ok_or("it still runs")
    });
    wait_for(|| if live.look() { Err("it is still open") } else { Ok(()) });
    let all = String::from_utf8_lossy(&live.bytes).into_owned();
    assert_eq!(status.code(), Some(130), "{all}");
    assert_eq!(modes(&live), before);
    bench.is_clean_soon();
    all
}
