use super::expand::{ExpandError, here_document, word, words};
use super::{Argument, Command, CommandLine, Dockerfile, Source};

fn commands(text: &str) -> Vec<Command> {
    let file =
        Dockerfile::parse(&format!("FROM x\n{text}")).unwrap_or_else(|error| panic!("{text}: {error}"));
    file.stages.into_iter().next_back().unwrap().instructions.into_iter().map(|i| i.command).collect()
}

fn one(text: &str) -> Command {
    let mut all = commands(text);
    assert_eq!(all.len(), 1, "{text}: {all:?}");
    all.remove(0)
}

fn shell(text: &str) -> Command {
    Command::Run(CommandLine::Shell(text.into()))
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn pairs(of: &[(&str, &str)]) -> Vec<(String, String)> {
    of.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn arguments_come_before_stages_and_instructions_after() {
    let text = "\u{feff}# escape=`\n# syntax = any\n\nARG base_image\narg a=1 b=\"x y\"\n\
                from --platform=linux/amd64 ${base_image} AS Base\nRUN a `\n\n  # comment\n  b\nFROM base\nUSER 1\n";
    let file = Dockerfile::parse(text).unwrap();
    assert_eq!(file.escape, '`');
    let names: Vec<(&str, Option<&str>)> =
        file.arguments.iter().map(|a| (a.name.as_str(), a.default.as_deref())).collect();
    assert_eq!(names, [("base_image", None), ("a", Some("1")), ("b", Some("\"x y\""))]);
    let [first, second] = file.stages.as_slice() else { panic!("{file:?}") };
    assert_eq!((first.image.as_str(), first.name.as_deref()), ("${base_image}", Some("base")));
    assert_eq!((first.line, first.platform.as_deref()), (6, Some("linux/amd64")));
    assert_eq!((first.instructions[0].line, first.instructions[0].text.as_str()), (7, "RUN a   b"));
    assert_eq!((second.image.as_str(), second.instructions[0].line), ("base", 12));
}

#[test]
fn commands_are_for_a_shell_or_not() {
    for (text, expected) in [
        ("RUN a && b", shell("a && b")),
        ("run\ta  'b", shell("a  'b")),
        ("RUN [\"a\", \"b c\"]", Command::Run(CommandLine::Exec(strings(&["a", "b c"])))),
        ("RUN [ -e /a ] || b", shell("[ -e /a ] || b")),
        ("RUN a \\\n# comment\n && b \\ \n\n  && c", shell("a  && b   && c")),
        ("RUN a \\\\\nUSER 1", shell("a \\\\")),
        ("CMD []", Command::Cmd(CommandLine::Exec(vec![]))),
        ("ENTRYPOINT a b", Command::Entrypoint(CommandLine::Shell("a b".into()))),
        ("SHELL [\"bash\", \"-c\"]", Command::Shell(strings(&["bash", "-c"]))),
        ("HEALTHCHECK none", Command::Healthcheck(None)),
        ("HEALTHCHECK --interval=1s CMD a b", Command::Healthcheck(Some(CommandLine::Shell("a b".into())))),
        ("ONBUILD RUN --mount=x a", Command::Onbuild("RUN --mount=x a".into())),
        ("VOLUME a b", Command::Volume(strings(&["a", "b"]))),
        ("VOLUME [\"a b\"]", Command::Volume(strings(&["a b"]))),
        ("EXPOSE 80 $P/udp", Command::Expose(strings(&["80", "$P/udp"]))),
        ("WORKDIR /a b", Command::Workdir("/a b".into())),
        ("STOPSIGNAL 9", Command::StopSignal("9".into())),
        ("MAINTAINER a b", Command::Maintainer("a b".into())),
    ] {
        assert_eq!(commands(text)[0], expected, "{text}");
    }
}

#[test]
fn here_documents_are_where_lines_announce_them() {
    let script = CommandLine::Script { name: "EOF".into(), content: "#!/bin/x\na\n".into() };
    for (text, expected) in [
        ("RUN <<EOF\na\n  b\nEOF\n", shell("a\n  b\n")),
        ("RUN <<-\"EOF\"\n\ta\n\t\tEOF\n", shell("a\n")),
        ("RUN <<EOF\n#!/bin/x\na\nEOF", Command::Run(script)),
        ("RUN cat <<A > /x && cat <<-'B'\na\nA\n\tb\n\tB", shell("cat <<A > /x && cat <<-'B'\na\nA\n\tb\nB")),
        ("RUN cat <<< x", shell("cat <<< x")),
        ("RUN echo \"<<EOF\" '<<EOF' a<<EOF", shell("echo \"<<EOF\" '<<EOF' a<<EOF")),
        ("RUN bash 3<< EOF\na # b\nEOF", shell("bash 3<< EOF\na # b\nEOF")),
        ("RUN a << -\"E\"\nb\n-E", shell("a << -\"E\"\nb\n-E")),
        ("ONBUILD RUN <<EOF\na\nEOF", Command::Onbuild("RUN <<EOF\na\nEOF".into())),
    ] {
        assert_eq!(one(text), expected, "{text}");
    }
    let Command::Copy(copied) = one("COPY --chmod=755 <<a <<'b' c /d/\n$x\na\n$y\nb\n") else { panic!() };
    let inline = |name: &str, content: &str, expands| Source::Inline {
        name: name.into(),
        content: content.into(),
        expands,
    };
    let expected = [inline("a", "$x\n", true), inline("b", "$y\n", false), Source::Path("c".into())];
    assert_eq!((copied.sources.as_slice(), copied.destination.as_str()), (expected.as_slice(), "/d/"));
}

#[test]
fn pairs_and_flags_keep_their_words() {
    for (text, expected) in [
        ("ENV a=b", &[("a", "b")][..]),
        ("ENV a=\"b c\" d='e f' g=h\\ i", &[("a", "\"b c\""), ("d", "'e f'"), ("g", "h\\ i")]),
        ("ENV a  b=c  d", &[("a", "b=c  d")]),
        ("ENV a=b \\\n  c=", &[("a", "b"), ("c", "")]),
    ] {
        assert_eq!(one(text), Command::Env(pairs(expected)), "{text}");
    }
    assert_eq!(one("LABEL \"a b\"=c"), Command::Label(pairs(&[("\"a b\"", "c")])));
    let argument = |name: &str, default: Option<&str>| Argument {
        name: name.into(),
        default: default.map(str::to_owned),
    };
    assert_eq!(one("ARG a b= c=d=e"), {
        Command::Arg(vec![argument("a", None), argument("b", Some("")), argument("c", Some("d=e"))])
    });
    let text = "FROM x\nRUN --mount=type=cache,target=/a --mount='type=bind,target=/b c' --network=none a --b\n\
                COPY --link --parents=FALSE --chown=\"a b\":1 --from=y -- --z /d\n";
    let file = Dockerfile::parse(text).unwrap();
    let [run, copy] = file.stages[0].instructions.as_slice() else { panic!("{file:?}") };
    assert_eq!(run.flags.len(), 3);
    assert_eq!(run.flag("mount"), Some("type=bind,target=/b c"));
    assert_eq!(run.command, shell("a --b"));
    assert_eq!((copy.is_set("link"), copy.is_set("parents"), copy.is_set("x")), (true, false, false));
    assert_eq!((copy.flag("chown"), copy.flag("from"), copy.flag("link")), (Some("a b:1"), Some("y"), None));
    let Command::Copy(copied) = &copy.command else { panic!() };
    assert_eq!(copied.sources, [Source::Path("--z".into())]);
}

#[test]
fn what_is_wrong_is_said_with_its_line() {
    for (text, expected) in [
        ("", "there is no FROM"),
        ("# a\nARG x", "there is no FROM"),
        ("RUN a\nFROM x", "line 1, column 1: RUN before the first FROM; only ARG can be"),
        ("FROM x\n\nRUM a", "line 3, column 1: 'RUM' is no instruction"),
        ("FROM x\nRUN", "RUN has no argument"),
        ("FROM x\nRUN []", "RUN has no argument"),
        ("FROM x\nRUN [1]", "1 in an array of strings"),
        ("FROM x y", "FROM takes an image"),
        ("FROM", "FROM takes an image"),
        ("FROM x AS 1", "'1' cannot be the name of a stage"),
        ("FROM x\nCOPY a", "COPY takes sources and a destination"),
        ("FROM x\nCOPY a <<b\nb", "cannot be a here-document"),
        ("FROM x\nENV a", "ENV takes names and values"),
        ("FROM x\nENV a=b c", "'c' has no ="),
        ("FROM x\nENV =b", "ENV without a name"),
        ("FROM x\nARG =b", "ARG without a name"),
        ("FROM x\nSHELL a", "SHELL takes an array"),
        ("FROM x\nSHELL []", "SHELL has no argument"),
        ("FROM x\nHEALTHCHECK a", "HEALTHCHECK takes"),
        ("FROM x\nONBUILD ONBUILD RUN a", "ONBUILD cannot be behind ONBUILD"),
        ("FROM x\nUSER --a=b c", "USER has no flag --a"),
        ("FROM x\nCOPY --chown a b", "the flag --chown has no value"),
        ("FROM x\nCOPY --chown=1 --chown=2 a b", "the flag --chown is given twice"),
        ("FROM x\nCOPY --link=maybe a b", "--link can be true or false"),
        ("FROM x\nRUN a <<EOF\nb", "line 2, column 1: the here-document 'EOF' does not end"),
        ("# escape=x\nFROM x", "line 1, column 1: 'x' cannot be the escape character"),
        ("# escape=`\n# Escape=\\\nFROM x", "line 2, column 1: there is more than one directive 'escape'"),
        ("FROM x\n\\", "'' is no instruction"),
    ] {
        let error = Dockerfile::parse(text).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

fn lookup(name: &str) -> Option<String> {
    match name {
        "a" => Some("1 2".into()),
        "empty" => Some(String::new()),
        "path" => Some("/x/y.tar.gz".into()),
        _ => None,
    }
}

#[test]
fn words_lose_their_quotes_and_variables() {
    for (text, expected) in [
        ("$a-${a}", "1 2-1 2"),
        ("'$a' \"$a'\" \\$a", "$a 1 2' $a"),
        ("\"\\\"\\$a\\b\\\\\"", "\"$a\\b\\"),
        ("$none|$|$1a|", "|$|a|"),
        ("${none:-x}${none-y}${a:-z}${empty:-e}${empty-f}", "xy1 2e"),
        ("${a:+x}${none:+y}${empty:+z}${empty+w}", "xw"),
        ("${none:-${a:-x}}-${none:-\"}\"}", "1 2-}"),
        ("${path#*/}|${path##*/}|${path%.*}|${path%%.*}", "x/y.tar.gz|y.tar.gz|/x/y.tar|/x/y"),
        ("${path#/?/}|${path#\\*}|${none%x}", "y.tar.gz|/x/y.tar.gz|"),
        ("a\\", "a"),
    ] {
        assert_eq!(word(text, '\\', &lookup).as_deref(), Ok(expected), "{text}");
    }
    assert_eq!(word("C:\\`$a", '`', &lookup).as_deref(), Ok("C:\\$a"));
    for (text, expected) in [
        ("'a", ExpandError::Quote('\'')),
        ("\"a", ExpandError::Quote('"')),
        ("${a", ExpandError::Brace),
        ("${none:-x", ExpandError::Brace),
        ("${none:?gone}", ExpandError::Required("none".into(), "gone".into())),
        ("${empty:?}", ExpandError::Required("empty".into(), "is not allowed to be empty".into())),
    ] {
        assert_eq!(word(text, '\\', &lookup), Err(expected), "{text}");
    }
    for text in ["${}", "${:a}", "${a:x}", "${a/b/c}", "${{a}}", "${a:#b}"] {
        assert!(matches!(word(text, '\\', &lookup), Err(ExpandError::Form(_))), "{text}");
    }
    let deep = "${n:-".repeat(100_000);
    assert!(word(&deep, '\\', &lookup).is_err());
}

#[test]
fn values_part_words_and_here_documents_keep_quotes() {
    assert_eq!(words("$a \"$a\" b\\ c ''", '\\', &lookup).unwrap(), ["1", "2", "1 2", "b c"]);
    assert_eq!(here_document("'$a' \"\\$a\"\n", &lookup).unwrap(), "'1 2' \"$a\"\n");
}

#[test]
fn what_grows_too_long_is_refused() {
    let long = "x".repeat(1 << 19);
    let lookup = |name: &str| match name {
        "LONG" => Some(long.clone()),
        "PATH" => Some("/usr/bin:/bin:".repeat(40)),
        _ => None,
    };
    let word = |text: &str| super::expand::word(text, '\\', &lookup).map(|word| word.len());
    assert_eq!(word("$LONG${LONG}y"), Ok((1 << 20) + 1));
    for text in
        ["$LONG$LONG$LONG", "\"$LONG$LONG$LONG\"", "${LONG+}${LONG+}${LONG+}", "${Y:-$LONG$LONG$LONG}"]
    {
        assert_eq!(word(text), Err(super::expand::ExpandError::Long(super::expand::MAX_LENGTH)), "{text}");
    }
    let here = super::expand::here_document("$LONG $LONG $LONG", &lookup);
    assert_eq!(here, Err(super::expand::ExpandError::Long(super::expand::MAX_LENGTH)));
    // Neither the value nor the pattern may take forever.
    assert_eq!(word("${LONG##*a*a*a*a*b}"), Err(super::expand::ExpandError::Pattern));
    assert_eq!(word("${LONG%%*y}"), Ok(1 << 19));
    assert_eq!(word(&format!("${{PATH##{}y}}", "*a".repeat(1000))), Ok(560));
    assert_eq!(word("${PATH##*:/}${PATH#*:}${PATH%:*}${PATH%%:*}"), Ok(4 + 551 + 559 + 8));
}
