//! A command line that is not understood, and requests for help.

use crate::show;
use std::ffi::{OsStr, OsString};
use std::process::ExitCode;
use strata_phases::{Event, Failure};
use strata_spec::exit::Exit;

/// Says what is wrong with the command line, for whoever reads events as one more; or prints the help that is asked for.
pub(crate) fn refuse(error: &clap::Error) -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    if error.use_stderr()
        && wants_events(&args)
        && let Ok(event) = serde_json::to_string(&Event::Failed(failure(&error.render().to_string())))
    {
        if goes_to_pipe(&args) { show::print_err(&event) } else { show::print(&event) }
    }
    // Where it cannot be printed, nobody can be told.
    error.print().unwrap_or_default();
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(Exit::Flags.code()))
}

/// Whether a command is called that tells what it does as events, and is asked to.
fn wants_events(args: &[OsString]) -> bool {
    let has_events = |command: &OsString| ["build", "copy", "rebase"].iter().any(|name| command == name);
    args.first().is_some_and(has_events)
        && args.iter().take_while(|arg| *arg != "--").any(|arg| arg == "--json")
}

/// Whether an image goes to standard output, and events elsewhere.
fn goes_to_pipe(args: &[OsString]) -> bool {
    let is_pipe = |arg: &OsStr| {
        arg == "-" || ["=-", ":-", "-o-"].iter().any(|end| arg.to_string_lossy().ends_with(end))
    };
    args.iter().any(|arg| is_pipe(arg))
}

/// The problem in one line, and what may have been meant.
fn failure(rendered: &str) -> Failure {
    let mut lines = rendered.lines().map(str::trim);
    let message = lines.next().unwrap_or_default();
    let message = message.strip_prefix("error: ").unwrap_or(message);
    let rest: Vec<&str> =
        lines.take_while(|line| !line.starts_with("Usage:")).filter(|line| !line.is_empty()).collect();
    let (tips, details): (Vec<&str>, Vec<&str>) =
        rest.into_iter().partition(|line| line.starts_with("tip: "));
    let message = [&[message], &details[..]].concat().join(" ");
    let failure = Failure::new(Exit::Flags, message);
    match tips.first() {
        Some(tip) => failure.hint(tip.trim_start_matches("tip: ")),
        None => failure.hint("--help lists what there is"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn who_asks_for_events_is_told_in_one() {
        for (line, expected) in [
            ("build . --json --nope", true),
            ("copy a b --json --nope", true),
            ("build . --nope", false),
            ("build . --nope -- --json", false),
            // It prints a document, or nothing.
            ("trace web --json --nope", false),
        ] {
            assert_eq!(wants_events(&words(line)), expected, "{line}");
        }
        for (line, expected) in [
            ("build -o -", true),
            ("copy web oci-archive:-", true),
            ("build --output=-", true),
            ("build -t a-", false),
        ] {
            assert_eq!(goes_to_pipe(&words(line)), expected, "{line}");
        }
    }

    #[test]
    fn the_problem_is_one_line() {
        let rendered = "error: unexpected argument '--tga' found\n\n  tip: a similar argument exists: '--tag'\n\nUsage: strata …\n";
        let found = failure(rendered);
        assert_eq!(found.message, "unexpected argument '--tga' found");
        assert_eq!(found.hint.as_deref(), Some("a similar argument exists: '--tag'"));
        let missing =
            "error: the following required arguments were not provided:\n  <FROM>\n  <TO>\n\nUsage: x\n";
        assert_eq!(
            failure(missing).message,
            "the following required arguments were not provided: <FROM> <TO>"
        );
    }
}
