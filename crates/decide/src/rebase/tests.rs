//! The rules of a rebase, as tables.

use super::*;

fn image(variables: &[(&str, &str)], pairs: &[(&str, &str)]) -> ImageConfig {
    let mut config = ImageConfig::new("linux", "amd64");
    variables.iter().for_each(|(name, value)| config.set_env(name, value));
    pairs.iter().for_each(|(name, value)| config.set_label(name, value));
    config
}

const NEW: &[(&str, &str)] = &[("CNB_PLATFORM_API", "0.12")];

/// The texts of what was passed over, or of the error.
fn texts(result: Result<Vec<Refusal>, RebaseError>) -> Result<Vec<String>, String> {
    result
        .map(|warnings| warnings.iter().map(ToString::to_string).collect())
        .map_err(|error| error.to_string())
}

#[test]
fn stacks_and_mixins_decide_for_old_images() {
    const ID: &str = labels::STACK_ID;
    const MIXINS: &str = labels::STACK_MIXINS;
    type Labels = &'static [(&'static str, &'static str)];
    let cases: [(Labels, Labels, Option<&str>); 10] = [
        (&[(ID, "a")], &[(ID, "a")], None),
        (&[], &[(ID, "a")], Some("stack not defined on app image")),
        (&[(ID, "a")], &[], Some("stack not defined on new base image")),
        (&[(ID, "a")], &[(ID, "b")], Some("incompatible stack: 'b' is not compatible with 'a'")),
        (&[(ID, "a"), (MIXINS, r#"["x","run:y"]"#)], &[(ID, "a"), (MIXINS, r#"["y","run:x","z"]"#)], None),
        (
            &[(ID, "a"), (MIXINS, r#"["run:z","y","x"]"#)],
            &[(ID, "a"), (MIXINS, r#"["x"]"#)],
            Some("missing required mixin(s): y, z"),
        ),
        (&[(ID, "a"), (MIXINS, r#"["x"]"#)], &[(ID, "a")], Some("missing required mixin(s): x")),
        (&[(ID, "a"), (MIXINS, "null")], &[(ID, "a"), (MIXINS, "")], None),
        (&[(ID, "a"), (MIXINS, "[1]")], &[(ID, "a")], Some("get app image mixins: failed to unmarshal")),
        (&[(ID, "a")], &[(ID, "a"), (MIXINS, "{}")], Some("get run image mixins: failed to unmarshal")),
    ];
    for (app, base, expected) in cases {
        for variables in [&[][..], &[("CNB_PLATFORM_API", "0.11")], &[("CNB_PLATFORM_API", "0.3")]] {
            // Force does not help against these.
            for force in [Force::No, Force::Yes] {
                let result = texts(validate(&image(variables, app), &image(&[], base), force));
                match expected {
                    None => assert_eq!(result, Ok(vec![])),
                    Some(text) => assert!(result.as_ref().is_err_and(|e| e.starts_with(text)), "{result:?}"),
                }
            }
        }
    }
}

#[test]
fn targets_decide_for_new_images() {
    const NAME: &str = labels::BASE_DISTRO_NAME;
    const VERSION: &str = labels::BASE_DISTRO_VERSION;
    type Target = (&'static str, &'static str, &'static [(&'static str, &'static str)]);
    let ubuntu: &[_] = &[(NAME, "ubuntu"), (VERSION, "24.04")];
    let cases: [(Target, Target, bool); 11] = [
        (("amd64", "", ubuntu), ("amd64", "", ubuntu), true),
        (("amd64", "", ubuntu), ("amd64", "", &[]), true),
        (("amd64", "", ubuntu), ("amd64", "", &[(NAME, "ubuntu")]), true),
        (("amd64", "", ubuntu), ("amd64", "", &[(NAME, "debian"), (VERSION, "24.04")]), false),
        (("amd64", "", ubuntu), ("amd64", "", &[(NAME, "ubuntu"), (VERSION, "22.04")]), false),
        (("amd64", "", &[]), ("amd64", "", ubuntu), false),
        (("amd64", "", &[]), ("arm64", "", &[]), false),
        (("arm64", "v8", &[]), ("arm64", "", &[]), true),
        (("arm64", "", &[]), ("arm64", "v8", &[]), true),
        (("arm64", "v8", &[]), ("arm64", "v8", &[]), true),
        (("arm64", "v7", &[]), ("arm64", "v8", &[]), false),
    ];
    let make = |(arch, variant, pairs): Target| {
        let mut config = image(NEW, pairs);
        config.set_architecture(arch);
        config.set_variant(Some(variant));
        config
    };
    for (app, base, fits) in cases {
        let result = |force| texts(validate(&make(app), &make(base), force));
        assert_eq!(result(Force::No).is_ok(), fits, "{app:?} {base:?}");
        assert_eq!(result(Force::Yes).unwrap().is_empty(), fits, "{app:?} {base:?}");
    }
}

#[test]
fn what_speaks_against_it_is_said_in_the_words_of_the_reference() {
    let app = image(NEW, &[(labels::REBASABLE, "false"), (labels::BASE_ID, "i<")]);
    let mut base = image(&[], &[(labels::BASE_DISTRO_NAME, "d"), (labels::STACK_ID, "other")]);
    base.set_variant(Some("v1"));
    let marked = "app image is not marked as rebasable";
    assert_eq!(
        texts(validate(&app, &base, Force::No)),
        Err(format!("{marked}; please provide -force to override"))
    );
    let target = "unable to satisfy target os/arch constraints; new run image: {\"os\":\"linux\",\"arch\":\"amd64\",\
                  \"arch-variant\":\"v1\",\"distro\":{\"name\":\"d\",\"version\":\"\"}}, old run image: \
                  {\"id\":\"i\\u003c\",\"os\":\"linux\",\"arch\":\"amd64\"}";
    assert_eq!(texts(validate(&app, &base, Force::Yes)), Ok(vec![marked.to_owned(), target.to_owned()]));
    let willing = image(NEW, &[(labels::REBASABLE, "true"), (labels::BASE_ID, "i<")]);
    assert_eq!(
        texts(validate(&willing, &base, Force::No)),
        Err(format!("{target}; please provide -force to override"))
    );
    let odd = image(&[("CNB_PLATFORM_API", "newest")], &[]);
    assert!(texts(validate(&odd, &base, Force::Yes)).unwrap_err().contains("platform API: 'newest'"));
}

const LABEL: &str = r#"{"app":[{"sha":"a"},{"sha":"b"}],"buildpacks":[{"key":"k","version":"1","layers":{"x":{"sha":"c","data":{"n":1.0,"h":"\u003c"},"build":false,"launch":true,"cache":false}}}],"config":{"sha":"d"},"launcher":{"sha":"e"},"process-types":{"sha":""},"future":[1e2],"runImage":{"topLayer":"t","reference":"r","image":"run","mirrors":["m.io/run:1"],"also":null},"stack":{"runImage":{"image":"old/run"}}}"#;
const OTHER: &str = "new/<run>:1";

fn new_base(name: &str) -> NewBase<'_> {
    NewBase { name, reference: "ref@sha256:1", top_layer: "sha256:2" }
}

fn relabelled(
    label: &str,
    name: &str,
    api: PlatformApi,
    force: Force,
) -> Result<(String, Vec<String>), String> {
    let mut app = image(NEW, &[(LIFECYCLE_METADATA, label)]);
    let warnings = texts(relabel(&mut app, &image(&[], &[]), new_base(name), api, force))?;
    Ok((app.label(LIFECYCLE_METADATA).unwrap().to_owned(), warnings))
}

#[test]
fn only_the_base_changes_in_the_label() {
    let expected = LABEL
        .replace(r#""topLayer":"t","reference":"r""#, r#""topLayer":"sha256:2","reference":"ref@sha256:1""#);
    for name in [
        "run",
        "docker.io/library/run",
        "run:latest",
        "run@sha256:0",
        "m.io/run:1",
        "old/run",
        "m.io/run:1@sha256:0",
    ] {
        let result = relabelled(LABEL, name, PlatformApi::V0_12, Force::No);
        assert_eq!(result, Ok((expected.clone(), vec![])), "{name}");
    }
    // Before Platform API 0.12 any name is taken.
    assert_eq!(relabelled(LABEL, OTHER, PlatformApi::V0_11, Force::No), Ok((expected, vec![])));
    let bare = r#"{"runImage":{"topLayer":"sha256:2","reference":"ref@sha256:1"}}"#.to_owned();
    for label in ["", "{}", r#"{"runImage":null}"#] {
        assert_eq!(
            relabelled(label, "x", PlatformApi::V0_11, Force::No),
            Ok((bare.clone(), vec![])),
            "{label}"
        );
    }
}

#[test]
fn an_unknown_base_is_refused_or_written_down() {
    let (name, api) = ("other.io/run", PlatformApi::V0_12);
    let text = |known: &str| {
        format!("rebase app image: new base image '{name}' not found in existing run image metadata: {known}")
    };
    let run = r#"{"topLayer":"sha256:2","reference":"ref@sha256:1","image":"run","mirrors":["m.io/run:1"]}"#;
    for (label, known) in [
        (LABEL, run),
        (
            r#"{"stack":{"runImage":{"image":"old","mirrors":["<"]}}}"#,
            r#"{"image":"old","mirrors":["\u003c"]}"#,
        ),
        (r#"{"stack":{}}"#, "{}"),
        (r#"{"stack":null}"#, "not found"),
        ("{}", "not found"),
        ("", "not found"),
    ] {
        let refused = relabelled(label, name, api, Force::No);
        assert_eq!(refused, Err(format!("{}; please provide -force to override", text(known))), "{label}");
        let (_, warnings) = relabelled(label, name, api, Force::Yes).unwrap();
        assert_eq!(warnings, [text(known)], "{label}");
    }
    let (label, _) = relabelled(LABEL, name, api, Force::Yes).unwrap();
    let expected = LABEL
        .replace(r#""topLayer":"t","reference":"r""#, r#""topLayer":"sha256:2","reference":"ref@sha256:1""#)
        .replace(r#""image":"run","mirrors":["m.io/run:1"]"#, r#""image":"other.io/run""#)
        .replace("old/run", name);
    assert_eq!(label, expected);
}

#[test]
fn a_label_that_cannot_be_understood_ends_it() {
    for bad in ["[1]", "{", r#"{"runImage":3}"#] {
        let error = relabelled(bad, "x", PlatformApi::V0_12, Force::Yes).unwrap_err();
        let start =
            "get image metadata: failed to unmarshal context of label 'io.buildpacks.lifecycle.metadata': ";
        assert!(error.starts_with(start), "{bad}: {error}");
    }
}

#[test]
fn labels_of_the_base_follow_it() {
    for (api, expected) in [
        (
            PlatformApi::V0_11,
            vec![("io.buildpacks.base.a", "app"), ("io.buildpacks.stack.new", "base"), ("mine", "app")],
        ),
        (
            PlatformApi::V0_12,
            vec![("io.buildpacks.base.b", "base"), ("io.buildpacks.stack.new", "base"), ("mine", "app")],
        ),
    ] {
        let mut app = image(
            &[],
            &[("mine", "app"), ("io.buildpacks.stack.old", "app"), ("io.buildpacks.base.a", "app")],
        );
        let base = image(
            &[],
            &[("theirs", "base"), ("io.buildpacks.stack.new", "base"), ("io.buildpacks.base.b", "base")],
        );
        sync_labels(&mut app, &base, api);
        assert_eq!(app.labels().into_iter().collect::<Vec<_>>(), expected, "{api}");
    }
}

#[test]
fn the_label_names_the_run_image_and_counts_layers() {
    let metadata = LifecycleMetadata::parse(LABEL).unwrap();
    assert_eq!(own_layers(&metadata), 5);
    let name =
        |label: &str, api| run_image(&LifecycleMetadata::parse(label).unwrap(), api).map(|run| run.image);
    for (label, api, expected) in [
        (LABEL, PlatformApi::V0_12, Some("run")),
        (LABEL, PlatformApi::V0_11, Some("old/run")),
        (r#"{"stack":{"runImage":{"image":"s"}}}"#, PlatformApi::V0_15, Some("s")),
        (r#"{"runImage":{"image":"r"}}"#, PlatformApi::V0_11, None),
        ("", PlatformApi::V0_12, None),
    ] {
        assert_eq!(name(label, api).as_deref(), expected, "{label} {api}");
    }
    assert_eq!(run_image(&metadata, PlatformApi::V0_12).unwrap().mirrors, ["m.io/run:1"]);
}

#[test]
fn no_image_overwrites_its_own_base() {
    for (outputs, base, expected) in [
        (["app", "run"], "run", Err("run")),
        (["app", "docker.io/library/run:latest"], "run", Err("docker.io/library/run:latest")),
        (["app", "run:2"], "run", Ok(())),
        (["app", "run"], "r.io/run", Ok(())),
        (["app", "run"], "run@sha256:0", Ok(())),
    ] {
        let expected = expected.map_err(|name: &str| RebaseError::Overwrites(name.to_owned()));
        assert_eq!(check_names(outputs.into_iter(), base), expected, "{outputs:?} {base}");
    }
}
