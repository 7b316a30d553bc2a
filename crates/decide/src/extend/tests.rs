use super::*;

const ALPINE: &[(&str, &str)] = &[("A", "1"), ("GREETING", "hi")];

fn config(user: &str) -> ImageConfig {
    let mut config = ImageConfig::new("linux", "amd64");
    ALPINE.iter().for_each(|(name, value)| config.set_env(name, value));
    config.set_user(user);
    config
}

/// Plans Dockerfiles of `test/1@1`, `test/2@1`, …, each with its arguments.
fn planned(kind: Kind, user: &str, texts: &[(&str, &[(&str, &str)])]) -> Result<Plan, Problem> {
    let config = config(user);
    let parsed: Vec<_> = texts.iter().map(|(text, _)| Dockerfile::parse(text).unwrap()).collect();
    let arg = |(name, value): &(&str, &str)| Arg { name: (*name).to_owned(), value: (*value).to_owned() };
    let args: Vec<Vec<Arg>> = texts.iter().map(|(_, args)| args.iter().map(arg).collect()).collect();
    let ids: Vec<String> = (1..=texts.len()).map(|number| format!("test/{number}")).collect();
    let given: Vec<Given<'_>> = ids
        .iter()
        .zip(parsed.iter().zip(&args))
        .map(|(id, (dockerfile, args))| Given { id, version: "1", dockerfile, args })
        .collect();
    plan(kind, &Base { config: &config, name: "base@sha256:1", build_id: "random" }, &given)
}

fn one(text: &str) -> Result<Plan, Problem> {
    planned(Kind::Build, "1000:1001", &[(&format!("ARG base_image\nFROM ${{base_image}}\n{text}"), &[])])
}

fn only(text: &str) -> Part {
    one(text).unwrap().parts.remove(0)
}

fn env(step: &Step) -> Vec<(&str, &str)> {
    let Action::Run { env, .. } = &step.action else { panic!("{step:?}") };
    env.iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .filter(|(name, _)| *name != "PATH")
        .collect()
}

#[test]
fn programs_run_with_what_was_said_before() {
    let part = only(
        "USER root\nRUN one\nENV B=${A}2 C=\"x y\"\nWORKDIR /w\nWORKDIR sub\nSHELL [\"/bin/bash\", \"-ec\"]\n\
         USER ${NOBODY:-app}:0\nRUN two \\\n  and three\nRUN [\"prog\", \"$A\"]\n",
    );
    let runs: Vec<_> = part
        .steps
        .iter()
        .filter_map(|step| match &step.action {
            Action::Run { argv, user, dir, .. } => {
                Some((step.line, argv.join("|"), user.as_str(), dir.as_str()))
            }
            _ => None,
        })
        .collect();
    let expected = [
        (4, "/bin/sh|-c|one", "root", "/"),
        (10, "/bin/bash|-ec|two   and three", "app:0", "/w/sub"),
        (12, "prog|$A", "app:0", "/w/sub"),
    ];
    let expected: Vec<_> =
        expected.iter().map(|(line, argv, user, dir)| (*line, (*argv).to_owned(), *user, *dir)).collect();
    assert_eq!(runs, expected);
    assert_eq!(env(&part.steps[0]), [("A", "1"), ("GREETING", "hi")]);
    assert_eq!(env(&part.steps[3]), [("A", "1"), ("B", "12"), ("C", "x y"), ("GREETING", "hi")]);
    let directories: Vec<_> = part
        .steps
        .iter()
        .filter_map(|step| match &step.action {
            Action::Directory { path, user } => Some((path.as_str(), user.as_str())),
            _ => None,
        })
        .collect();
    assert_eq!(directories, [("/w", "root"), ("/w/sub", "root")]);
    assert_eq!(
        part.created_by,
        "Layer: 'RUN one; WORKDIR /w; WORKDIR sub; RUN two   and three; RUN [\"prog\", \"$A\"]', Created by extension: test/1"
    );
}

#[test]
fn arguments_are_what_is_given_or_their_default_and_the_image_comes_first() {
    let text = "ARG base_image\nARG outer=o\nFROM ${base_image}\nARG user_id\nARG group_id\nARG base_image\nARG wanted=no\n\
                ARG own=${A}\nARG outer\nARG unknown\nARG GREETING=bye\nRUN x\n";
    let plan = planned(Kind::Build, "1000:1001", &[(text, &[("wanted", "yes")])]).unwrap();
    let expected = [
        ("A", "1"),
        ("GREETING", "hi"),
        ("base_image", "base@sha256:1"),
        ("group_id", "1001"),
        ("outer", "o"),
        ("own", "1"),
        ("user_id", "1000"),
        ("wanted", "yes"),
    ];
    assert_eq!(env(&plan.parts[0].steps[0]), expected);
}

#[test]
fn a_layer_is_of_one_build_only_if_that_is_asked_for() {
    for (text, expected) in [
        ("RUN echo $build_id", false),
        // A script may read it.
        ("ARG build_id=0\nRUN ./script", true),
        ("ARG build_id=0\nENV build_id=1\nRUN echo $build_id", false),
        ("ARG build_id=0\nCOPY a /", false),
        ("RUN x\nARG build_id=0", false),
        ("ARG build_id=0\nRUN echo $build_id", true),
        ("RUN echo $build_id\nARG build_id=0", false),
        ("ARG build_id\nENV ID=${build_id}", true),
        ("ARG build_id\nCOPY a${build_id} /", true),
        ("ARG build_id\nRUN <<EOF\n#!/bin/sh\necho $build_id\nEOF\n", true),
    ] {
        let part = only(text);
        assert_eq!((part.uses_build_id, part.key().is_none()), (expected, expected), "{text}");
    }
    // What is not the argument counts.
    let of = |text: &str| only(text).key().unwrap();
    assert_ne!(of("ENV build_id=1\nRUN ./script"), of("ENV build_id=2\nRUN ./script"));
    let (user, plain) = ("FROM x\nARG build_id\nRUN y", "FROM x\nRUN y");
    for (texts, expected) in [
        ([plain, plain, plain], [false, false, false]),
        ([plain, user, plain], [false, true, true]),
        ([user, plain, plain], [true, true, true]),
    ] {
        let plan = planned(Kind::Run, "1000", &texts.map(|text| (text, &[][..]))).unwrap();
        let found: Vec<bool> = plan.parts.iter().map(|part| part.key().is_none()).collect();
        assert_eq!(found, expected, "{texts:?}");
    }
    assert_ne!(only("RUN a").key(), only("RUN b").key());
    assert_ne!(only("ENV X=1\nRUN a").key(), only("ENV X=2\nRUN a").key());
}

#[test]
fn what_grows_without_bound_is_refused() {
    let doubled = format!("ENV A=xxxxxxxx\n{}", "ENV A=$A$A\n".repeat(31));
    let kept = format!(
        "ENV A={}\n{}",
        "x".repeat(1 << 19),
        (0..40).fold(String::new(), |all, n| all + &format!("ENV A{n}=$A\n"))
    );
    let run = format!("ENV A={}\n{}", "x".repeat(1 << 19), "RUN y\n".repeat(40));
    let texts = format!("ENV A={}\n{}", "x".repeat(1 << 19), "COPY <<E /x\n$A\nE\n".repeat(40));
    for text in [doubled, kept, run, texts] {
        let problem = one(&text).unwrap_err();
        assert!(problem.message.contains("longer than"), "{problem}");
    }
}

#[test]
fn files_are_copied_from_the_context() {
    let part = only(
        "WORKDIR /app\nCOPY a b* dir/\nCOPY --chown=1:2 --chmod=4755 --link x ${A}/y\nADD t.tgz .\n\
         COPY <<EOF <<\"RAW\" /etc/\n$A\nEOF\n$A\nRAW\n",
    );
    let path = |path: &str| Content::Path(path.to_owned());
    let copy = |sources: Vec<Content>, to: &str| Action::Copy {
        sources,
        to: to.to_owned(),
        owner: None,
        mode: None,
        unpacks: false,
    };
    let text =
        |name: &str, content: &str| Content::Text { name: name.to_owned(), content: content.to_owned() };
    let actions: Vec<Action> = part.steps.iter().skip(1).map(|step| step.action.clone()).collect();
    assert_eq!(actions[0], copy(vec![path("a"), path("b*")], "/app/dir/"));
    let Action::Copy { to, owner, mode, .. } = &actions[1] else { panic!() };
    assert_eq!((to.as_str(), owner.as_deref(), *mode), ("/app/1/y", Some("1:2"), Some(0o4755)));
    let Action::Copy { to, unpacks: true, .. } = &actions[2] else { panic!() };
    assert_eq!(to, "/app/");
    assert_eq!(actions[3], copy(vec![text("EOF", "1\n"), text("RAW", "$A\n")], "/etc/"));
    assert!(part.uses_context());
    assert!(!only("COPY <<EOF /x\nEOF\nRUN y").uses_context());
}

#[test]
fn the_configuration_is_what_the_dockerfiles_leave() {
    let plan = one(
        "LABEL a=${A} b=\"c d\"\nCMD run me\nENTRYPOINT [\"/e\"]\nEXPOSE 80 53/udp\nVOLUME /data\nSTOPSIGNAL SIGINT\nUSER 7\n",
    )
    .unwrap();
    let config = &plan.config;
    assert_eq!((config.label("a"), config.label("b")), (Some("1"), Some("c d")));
    assert_eq!((config.cmd(), config.entrypoint()), (vec!["/bin/sh", "-c", "run me"], vec!["/e"]));
    let text = String::from_utf8(config.encode()).unwrap();
    for part in [r#""53/udp":{},"80/tcp":{}"#, r#""Volumes":{"/data":{}}"#, r#""StopSignal":"SIGINT""#] {
        assert!(text.contains(part), "{text}");
    }
    assert!(plan.parts[0].steps.is_empty());
    assert_eq!(plan.warnings, ["the user of the image was '1000', and the extensions left it as '7'"]);
}

#[test]
fn an_image_stays_rebasable_only_if_every_dockerfile_says_so() {
    let yes = "FROM x\nLABEL io.buildpacks.rebasable=true";
    let no = "FROM x\nRUN y";
    for (texts, expected) in [
        (vec![yes], "true"),
        (vec![no], "false"),
        (vec![yes, no], "true"),
        (vec![no, yes], "false"),
        (vec!["FROM x\nLABEL io.buildpacks.rebasable=yes"], "false"),
    ] {
        let texts: Vec<(&str, &[(&str, &str)])> = texts.into_iter().map(|text| (text, &[][..])).collect();
        let plan = planned(Kind::Run, "1000", &texts).unwrap();
        assert_eq!(plan.config.label(REBASABLE), Some(expected), "{texts:?}");
    }
    assert_eq!(planned(Kind::Run, "1000", &[]).unwrap().config.label(REBASABLE), None);
}

#[test]
fn a_run_image_is_not_left_as_root() {
    let root: &[(&str, &[(&str, &str)])] = &[("FROM x\nUSER root\nRUN y", &[])];
    let reset: &[(&str, &[(&str, &str)])] = &[root[0], ("FROM x\nARG user_id\nUSER 1000:${user_id}", &[])];
    let error = planned(Kind::Run, "1000", root).unwrap_err();
    assert_eq!(
        error.to_string(),
        "run.Dockerfile of test/1@1, line 1: the final user is 'root', which is root"
    );
    assert!(error.hint.is_some());
    assert_eq!(planned(Kind::Build, "1000", root).unwrap().warnings.len(), 2);
    let plan = planned(Kind::Run, "1000", reset).unwrap();
    // The arguments of an extension are of the image that those before it left.
    assert_eq!((plan.config.user(), plan.warnings.len()), ("1000:root", 1));
}

#[test]
fn what_is_not_possible_is_told_with_its_place() {
    for (text, line, word) in [
        ("FROM a\nRUN x\nFROM b\n", 3, "more than one FROM"),
        ("FROM a\n\nCOPY --from=b /x /y\n", 3, "COPY --from"),
        ("FROM a\nRUN --mount=type=cache,target=/x y\n", 2, "RUN --mount"),
        ("FROM a\nADD https://example.com/x /\n", 2, "ADD of an address"),
        ("FROM a\nADD git@example.com:x.git /\n", 2, "ADD of an address"),
        ("FROM a\nHEALTHCHECK CMD x\n", 2, "HEALTHCHECK is not possible"),
        ("FROM a\nONBUILD RUN x\n", 2, "ONBUILD is not possible"),
        ("FROM a\nCOPY a b c\n", 2, "no directory"),
        ("FROM a\nCOPY --chmod=u+x a /\n", 2, "--chmod=u+x"),
        ("FROM a\nCOPY --chmod=99 a /\n", 2, "--chmod=99"),
        ("FROM a\nENV X=${Y?needed}\n", 2, "needed"),
    ] {
        let problem = planned(Kind::Build, "", &[(text, &[])]).unwrap_err();
        assert_eq!((problem.line, problem.message.contains(word)), (line, true), "{text}: {problem}");
        assert_eq!((problem.extension.as_str(), problem.file), ("test/1@1", "build.Dockerfile"));
    }
}

#[test]
fn paths_are_seen_from_the_working_directory_and_stay_below_the_root() {
    for (text, expected) in [
        ("COPY a b", "/w/b"),
        ("COPY a .", "/w/"),
        ("COPY a ./", "/w/"),
        ("COPY a ../../../x", "/x"),
        ("COPY a /", "/"),
        ("COPY a /x//y/../z/", "/x/z/"),
    ] {
        let part = only(&format!("WORKDIR /w\n{text}"));
        let Action::Copy { to, .. } = &part.steps[1].action else { panic!() };
        assert_eq!(to, expected, "{text}");
    }
}
