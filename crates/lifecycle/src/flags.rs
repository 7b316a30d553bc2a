//! Arguments as Go's `flag` package reads them, for platforms that were written against it.
//!
//! `-x` and `--x` are one; a value follows after `=` or as the next argument, for a truth value only after `=`;
//! reading stops at the first argument that is no flag, or after `--`.

use std::fmt::Write;
use strata_decide::inputs::value::Value;
use strata_decide::inputs::{Given, Sources};
use strata_spec::PlatformApi;
use strata_spec::inputs::{Input, Kind, flags_of};
use strata_spec::phase::Phase;

static VERSION: Input =
    Input { flag: "version", env: &[], default: "", kind: Kind::Bool, help: "print the version", flags: &[] };

/// Arguments, read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Parsed {
    /// The flags.
    pub(crate) given: Given,
    /// Whether the version is asked for.
    pub(crate) version: bool,
    /// What stands after the flags.
    pub(crate) positional: Vec<String>,
}

/// Why reading ended early.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Help is asked for.
    Help,
    /// The arguments are wrong; the text is Go's.
    Wrong(String),
}

/// The flags of a phase at a version, in the order of their names.
pub(crate) fn known(phase: Phase, api: PlatformApi) -> Vec<&'static Input> {
    let mut known = flags_of(phase, api);
    known.push(&VERSION);
    known.sort_by_key(|input| input.flag);
    known
}

/// Reads arguments.
///
/// # Errors
/// When help is asked for, or a flag is unknown or has no or a wrong value.
pub(crate) fn parse(known: &[&Input], arguments: &[String]) -> Result<Parsed, Stop> {
    let mut parsed = Parsed::default();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.as_slice().first() {
        let Some(flag) = flag_of(argument)? else { break };
        rest.next();
        let Some((name, value)) = flag else { break };
        let input = find(known, name)?;
        let value = match (input.kind, value) {
            (Kind::Bool | Kind::Demand, value) => value.unwrap_or("true"),
            (_, Some(value)) => value,
            (_, None) => rest
                .next()
                .map(String::as_str)
                .ok_or_else(|| Stop::Wrong(format!("flag needs an argument: -{name}")))?,
        };
        let value = Value::parse(input.kind, value).map_err(|error| wrong_value(input, value, error))?;
        match value {
            Value::Bool(asked) if input.flag == VERSION.flag => parsed.version = asked,
            value => parsed.given.push(input, value),
        }
    }
    parsed.positional = rest.cloned().collect();
    Ok(parsed)
}

/// Name and value of a flag; within, nothing for `--`, which ends them. Nothing at all for what is no flag.
#[expect(clippy::type_complexity, reason = "two kinds of nothing")]
fn flag_of(argument: &str) -> Result<Option<Option<(&str, Option<&str>)>>, Stop> {
    let Some(name) = argument.strip_prefix('-').filter(|name| !name.is_empty()) else { return Ok(None) };
    if name == "-" {
        return Ok(Some(None));
    }
    let name = name.strip_prefix('-').unwrap_or(name);
    if name.starts_with(['-', '=']) {
        return Err(Stop::Wrong(format!("bad flag syntax: {argument}")));
    }
    Ok(Some(Some(name.split_once('=').map_or((name, None), |(name, value)| (name, Some(value))))))
}

fn find<'a>(known: &[&'a Input], name: &str) -> Result<&'a Input, Stop> {
    let found = known.iter().copied().find(|input| input.flag == name);
    found.ok_or_else(|| match name {
        "h" | "help" => Stop::Help,
        _ => Stop::Wrong(format!("flag provided but not defined: -{name}")),
    })
}

fn wrong_value(input: &Input, value: &str, error: impl std::fmt::Display) -> Stop {
    let (value, name) = (quoted(value), input.flag);
    Stop::Wrong(match input.kind {
        Kind::Bool => format!("invalid boolean value {value} for -{name}: {error}"),
        _ => format!("invalid value {value} for flag -{name}: {error}"),
    })
}

/// The usage text, with the values that hold when a flag is not given.
pub(crate) fn usage(known: &[&Input], env: &std::collections::BTreeMap<String, String>) -> String {
    let sources = Sources { flags: &Given::default(), env };
    let mut text = String::from("Usage of lifecycle:\n");
    for input in known {
        let argument = match input.kind {
            Kind::Text => " string",
            Kind::Bool | Kind::Demand => "",
            Kind::Id => " int",
            Kind::Duration => " duration",
            Kind::List => " value",
        };
        let default =
            default_of(input, sources).map(|value| format!(" (default {value})")).unwrap_or_default();
        // Writing to a text cannot fail.
        writeln!(text, "  -{}{argument}\n    \t{}{default}", input.flag, input.help).unwrap_or_default();
    }
    text
}

fn default_of(input: &Input, sources: Sources<'_>) -> Option<String> {
    match input.kind {
        Kind::Text | Kind::Demand => {
            Some(sources.text(input)).filter(|text| !text.is_empty()).map(|text| quoted(&text))
        }
        Kind::Bool => sources.bool(input).then(|| "true".to_owned()),
        // A variable that is no number is told when the phase runs.
        Kind::Id => sources.id(input).ok().filter(|id| *id != 0).map(|id| id.to_string()),
        Kind::Duration => Some(sources.duration(input).to_string()),
        Kind::List => {
            Some(sources.list(input)).filter(|l| !l.is_empty()).map(|l| format!("[{}]", l.join(" ")))
        }
    }
}

/// A text in quotes, as Go's `%q` has it.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\x07' => quoted.push_str("\\a"),
            '\x08' => quoted.push_str("\\b"),
            '\x0c' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\x0b' => quoted.push_str("\\v"),
            c if c.is_ascii_control() => quoted.push_str(&format!("\\x{:02x}", u32::from(c))),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn parse_all(arguments: &[&str]) -> Result<Parsed, Stop> {
        let arguments: Vec<String> = arguments.iter().map(|text| (*text).to_owned()).collect();
        parse(&known(Phase::Analyze, PlatformApi::NEWEST), &arguments)
    }

    #[test]
    fn flags_end_where_go_ends_them() {
        for (arguments, positional) in [
            (&["-uid", "1", "image"][..], &["image"][..]),
            (&["--uid=1", "image", "-gid", "2"], &["image", "-gid", "2"]),
            (&["-daemon", "false", "image"], &["false", "image"]),
            (&["-daemon=false", "image"], &["image"]),
            (&["--", "-uid"], &["-uid"]),
            (&["-uid", "1", "--", "--"], &["--"]),
            (&["-", "-uid"], &["-", "-uid"]),
            (&["", "-uid"], &["", "-uid"]),
            (&["-layers", "--"], &[]),
            (&["-layers=a=b", "x"], &["x"]),
            (&[], &[]),
        ] {
            assert_eq!(parse_all(arguments).unwrap().positional, positional, "{arguments:?}");
        }
    }

    #[test]
    fn wrong_arguments_are_told_in_gos_words() {
        for (arguments, expected) in [
            (&["-nope=3"][..], "flag provided but not defined: -nope"),
            (&["--uid"], "flag needs an argument: -uid"),
            (&["-uid=x"], "invalid value \"x\" for flag -uid: parse error"),
            (&["-uid="], "invalid value \"\" for flag -uid: parse error"),
            (&["-uid", "4294967296"], "invalid value \"4294967296\" for flag -uid: value out of range"),
            (&["-daemon=q\n"], "invalid boolean value \"q\\n\" for -daemon: parse error"),
            (&["-daemon="], "invalid boolean value \"\" for -daemon: parse error"),
            (&["-=x"], "bad flag syntax: -=x"),
            (&["---x"], "bad flag syntax: ---x"),
            (&["--=x"], "bad flag syntax: --=x"),
            (&["-stack", "x"], "flag provided but not defined: -stack"),
        ] {
            assert_eq!(parse_all(arguments), Err(Stop::Wrong(expected.to_owned())), "{arguments:?}");
        }
        for help in ["-h", "--help", "-help=x"] {
            assert_eq!(parse_all(&["-uid=1", help]), Err(Stop::Help));
        }
    }

    #[test]
    fn the_version_is_a_flag_of_every_phase() {
        for phase in Phase::ALL {
            let arguments = ["--version".to_owned()];
            assert!(parse(&known(phase, PlatformApi::NEWEST), &arguments).unwrap().version);
        }
        assert!(!parse_all(&["-version", "-version=false"]).unwrap().version);
    }

    #[test]
    fn usage_shows_what_holds_without_a_flag() {
        let env = BTreeMap::from([
            ("CNB_INSECURE_REGISTRIES".to_owned(), "a,b".to_owned()),
            ("CNB_USER_ID".to_owned(), "7".to_owned()),
        ]);
        let text = usage(&known(Phase::Analyze, PlatformApi::NEWEST), &env);
        assert!(text.starts_with("Usage of lifecycle:\n  -analyzed string\n    \tfile "), "{text}");
        assert!(text.contains("(default \"<layers>/analyzed.toml\")\n  -cache-image string\n    \timage "));
        assert!(text.contains("can be repeated (default [a b])\n"));
        assert!(text.contains("  -uid int\n    \tnumber of the user to run as (default 7)\n"));
        assert!(text.ends_with("  -version\n    \tprint the version\n"));
    }

    proptest! {
        #[test]
        fn no_argument_makes_it_panic(
            arguments in prop::collection::vec("-{0,3}(uid|daemon|tag|kaniko-cache-ttl|.{0,4})(=)?.{0,8}", 0..6),
        ) {
            for phase in [Phase::Analyze, Phase::Extend] {
                let known = known(phase, PlatformApi::NEWEST);
                if let Ok(parsed) = parse(&known, &arguments) {
                    prop_assert!(arguments.ends_with(&parsed.positional));
                }
            }
        }
    }
}
