//! Help for shells and manuals.

use crate::bench::{Bench, Done, tool};

#[test]
fn shells_complete_commands_and_flags() {
    let bench = Bench::new();
    let script = bench.write("strata.bash", &Done::of(bench.strata(["completions", "bash"])).ok().stdout);
    let complete = |line: &str| {
        let words = format!("COMP_WORDS=({line}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))");
        let call = "_strata strata \"${COMP_WORDS[COMP_CWORD]}\" \"${COMP_WORDS[COMP_CWORD-1]}\"; echo ${COMPREPLY[@]}";
        tool("bash", &["-c", &format!("source {}; {words}; {call}", script.display())]).trim().to_owned()
    };
    assert_eq!(complete("strata insp"), "inspect");
    assert_eq!(complete("strata build --pre-b"), "--pre-buildpack");
    assert_eq!(complete("strata build --desc"), "--descriptor");
    assert_eq!(complete("strata plan --pub"), "--publish");
    assert_eq!(complete("strata builder cr"), "create");
    for shell in ["zsh", "fish", "elvish", "powershell"] {
        Done::of(bench.strata(["completions", shell])).ok().says("pre-buildpack");
    }
}

#[test]
fn each_command_has_a_manual_page() {
    let bench = Bench::new();
    Done::of(bench.strata(["man", "pages/man1"])).ok();
    for (page, text) in [
        ("strata", "strata"),
        ("strata-build", "pre-buildpack"),
        ("strata-plan", "descriptor"),
        ("strata-builder-create", "config"),
    ] {
        let page = std::fs::read_to_string(bench.path(format!("pages/man1/{page}.1"))).unwrap();
        assert!(page.replace("\\-", "-").contains(text), "{page}");
    }
    let done = Done::of(bench.strata(["man", "app/marker"]));
    assert!(done.code != 0 && done.stderr.contains("cannot write manual pages to app/marker"), "{done:#?}");
}
