use super::*;

fn parse(text: &str) -> Result<Project, DocError> {
    Project::parse(text, "production")
}

#[test]
fn both_schemas_of_a_project_are_read() {
    let fields = "id = \"com.example.web\"\nname = \"Web\"\nversion = \"1.2\"\nauthors = [\"me\"]\n\
                  source-url = \"https://example.com/web\"\ndocumentation-url = \"https://example.com/doc\"\n";
    let expected = Declared {
        id: Some("com.example.web".into()),
        name: Some("Web".into()),
        version: Some("1.2".into()),
        authors: vec!["me".into()],
        source_url: Some("https://example.com/web".into()),
        documentation_url: Some("https://example.com/doc".into()),
        licenses: vec!["MIT".into()],
    };
    for (head, rest) in [
        ("[project]\n", "[[project.licenses]]\ntype = \"MIT\"\n[metadata]\nx = 1\n[com.other]\ny = 1\n"),
        (
            "[_]\nschema-version = \"0.2\"\n",
            "[[_.licenses]]\ntype = \"MIT\"\n[[_.licenses]]\nuri = \"x\"\n[_.metadata.x]\ny = 1\n[com.other]\ny = 1\n",
        ),
    ] {
        let text = format!("{head}{fields}{rest}");
        let project = parse(&text).unwrap();
        assert_eq!((project.declared, project.build), (expected.clone(), Build::default()), "{text}");
        assert_eq!(project.warnings, Vec::<String>::new(), "{text}");
    }
    for nothing in ["", "[build]\ninclude = []\n", "[_]\nschema-version = \"0.2\"\nid = \"\"\n"] {
        assert_eq!(parse(nothing).unwrap(), Project::default(), "{nothing}");
    }
}

#[test]
fn how_it_is_built_is_the_same_in_all_schemas() {
    let script = Script {
        id: "own".into(),
        version: "0.0.0".into(),
        api: "0.10".into(),
        shell: "/bin/sh".into(),
        inline: "make".into(),
    };
    let named = |text: &str| Buildpack::Named(text.into());
    let expected = Build {
        include: Vec::new(),
        exclude: vec!["*.md".into(), "!README.md".into()],
        builder: Some("some/builder".into()),
        group: vec![named("a/b@1"), named("a/c"), named("./d"), Buildpack::Script(script)],
        pre: vec![named("before")],
        post: vec![named("after")],
        env: vec![Variable { name: "A".into(), value: "1".into() }],
    };
    let both = "exclude = [\"*.md\", \"!README.md\"]\nbuilder = \"some/builder\"\n";
    let groups = |table: &str, of: &str| {
        format!(
            "[[{table}.{of}]]\nid = \"a/b\"\nversion = \"1\"\n[[{table}.{of}]]\nid = \"a/c\"\n[[{table}.{of}]]\nuri = \"./d\"\n\
             [[{table}.{of}]]\nid = \"own\"\n[{table}.{of}.script]\napi = \"0.10\"\ninline = \"make\"\n\
             [[{table}.pre.group]]\nid = \"before\"\n[[{table}.post.group]]\nid = \"after\"\n"
        )
    };
    let variable = "name = \"A\"\nvalue = \"1\"\n";
    let old = format!("[build]\n{both}{}[[build.env]]\n{variable}", groups("build", "buildpacks"));
    assert_eq!(parse(&old).unwrap().build, expected);
    for (version, env) in [("0.2", "build.env"), ("0.2", "env.build"), ("0.3", "build.env")] {
        let head = format!("[_]\nschema-version = \"{version}\"\n[io.buildpacks]\n{both}");
        let text = format!("{head}{}[[io.buildpacks.{env}]]\n{variable}", groups("io.buildpacks", "group"));
        let project = parse(&text).unwrap();
        assert_eq!((project.build, project.warnings), (expected.clone(), Vec::new()), "{text}");
    }
}

#[test]
fn entries_of_other_execution_environments_are_left_out() {
    let text = "[_]\nschema-version = \"0.3\"\n[[io.buildpacks.group]]\nid = \"a\"\nexec-env = [\"test\"]\n\
                [[io.buildpacks.group]]\nid = \"b\"\nexec-env = [\"test\", \"production\"]\n\
                [[io.buildpacks.build.env]]\nname = \"X\"\nvalue = \"\"\nexec-env = [\"*\"]\n";
    let build = parse(text).unwrap().build;
    assert_eq!(build.group, [Buildpack::Named("b".into())]);
    assert_eq!(build.env.len(), 1);
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let new = |rest: &str| format!("[_]\nschema-version = \"0.2\"\n{rest}");
    for (text, line, message) in [
        ("[_]\nschema-version = \"9.0\"\n".to_owned(), 2, "schema version is '9.0'"),
        ("[_]\nschema-version = 7\n".to_owned(), 2, "expected a string"),
        ("[project]\nid = 3\n".to_owned(), 2, "expected a string"),
        ("[[".to_owned(), 1, ""),
        ("_ = 1\n".to_owned(), 1, ""),
        (new("[io.buildpacks]\n\ninclude = \"a\"\n"), 5, "expected a sequence"),
        (new("[io.buildpacks]\ninclude = []\nexclude = []\n"), 4, "both include and exclude"),
        (new("[[_.licenses]]\n"), 3, "a license needs"),
        (new("[[io.buildpacks.group]]\n"), 3, "needs an id or a uri"),
        (
            new(
                "[[io.buildpacks.group]]\nid = \"a\"\n\n[[io.buildpacks.group]]\nuri = \"x\"\nversion = \"1\"\n",
            ),
            6,
            "not both",
        ),
        (
            new("[[io.buildpacks.pre.group]]\nid = \"a\"\n[io.buildpacks.pre.group.script]\n"),
            3,
            "api and inline",
        ),
        (new("[[io.buildpacks.group]]\n[io.buildpacks.group.script]\n"), 3, "needs an id"),
        (new("[[io.buildpacks.group]]\nuri = \"a\"\n[io.buildpacks.group.script]\n"), 3, "not both"),
        (new("[[io.buildpacks.build.env]]\nname = \"A/B\"\n"), 3, "'A/B' is no name"),
        (new("[[io.buildpacks.build.env]]\nname = \"A\"\nvalue = 1\n"), 5, "expected a string"),
    ] {
        let error = parse(&text).unwrap_err();
        assert!(error.message.contains(message), "{text}: {error}");
        assert_eq!(error.place.map(|place| place.line), Some(line), "{text}: {error}");
    }
}

#[test]
fn what_is_not_read_is_told_unless_it_is_somebody_elses() {
    for (text, expected) in [
        (
            "[_]\nschema-version = \"0.2\"\ncolour = 1\n[io.buildpacks]\nbuilders = 1\n[[io.buildpacks.group]]\nid = \"a\"\noptional = true\n[io.other]\nx = 1\n",
            "schema 0.2 has no _.colour, io.buildpacks.builders, io.buildpacks.group.0.optional; ignored",
        ),
        ("[build]\nimage = \"x\"\n", "schema 0.1 has no build.image; ignored"),
        ("[io.buildpacks]\nbuilder = \"x\"\n", "there is no schema-version in [_]"),
    ] {
        let project = parse(text).unwrap();
        assert!(
            project.warnings.iter().any(|warning| warning.starts_with(expected)),
            "{:?}",
            project.warnings
        );
        assert_eq!(project.build.builder, None);
    }
}
