use super::*;
use serde_json::json;
use strata_spec::values::table_to_json;

fn git() -> Commit {
    Commit {
        commit: "c".repeat(40),
        created: Some("2000-02-29T00:00:00Z".into()),
        path: "apps/web".into(),
        url: Some("https://me:planted-secret@example.com/web.git".into()),
        refs: vec!["refs/heads/main".into(), "refs/tags/v1.2".into()],
        describe: Some("v1.2".into()),
        ..Commit::default()
    }
}

fn dirty() -> Commit {
    let changes = Changes { digest: Digest::of(b"x"), files: vec!["new\nline".into()] };
    let submodules = vec![Submodule { path: "lib".into(), commit: "d".repeat(40), is_checked_out: false }];
    Commit { changes: Some(changes), ignored: vec!["target/".into()], submodules, is_shallow: true, ..git() }
}

fn declared() -> Declared {
    Declared {
        version: Some("3.0".into()),
        source_url: Some("https://me:planted-secret@example.com/declared?key=planted-secret".into()),
        name: Some("bad\u{1b}[31m".into()),
        ..Declared::default()
    }
}

fn described() -> Declared {
    let owned = |all: &[&str]| all.iter().map(ToString::to_string).collect();
    Declared {
        name: Some("Web".into()),
        authors: owned(&["A", "B"]),
        licenses: owned(&["MIT OR Apache-2.0", "ISC"]),
        documentation_url: Some("https://me:planted@example.com/doc#part".into()),
        ..Declared::default()
    }
}

#[test]
fn the_label_says_what_every_clone_of_a_commit_says() {
    let source = label(&Origin::Commit(Box::new(git())), &Declared::default());
    assert_eq!(source.kind, "git");
    assert_eq!(table_to_json(&source.version), json!({"commit": "c".repeat(40)}));
    assert_eq!(
        table_to_json(&source.metadata),
        json!({"path": "apps/web", "url": "https://example.com/web"})
    );
    let other = Commit {
        refs: vec!["refs/heads/other".into()],
        describe: None,
        url: Some("git@example.com:web".into()),
        ..git()
    };
    assert_eq!(label(&Origin::Commit(Box::new(other)), &Declared::default()), source);
    let source = label(&Origin::Commit(Box::new(dirty())), &declared());
    assert_eq!(source.version["changes"].as_str(), Some(Digest::of(b"x").to_string().as_str()));
    let project = json!({"source-url": "https://example.com/declared", "version": "3.0"});
    assert_eq!(table_to_json(&source.metadata)["project"], project);
}

#[test]
fn the_report_says_more() {
    let source = detailed(&Origin::Commit(Box::new(dirty())), &Declared::default());
    let expected = json!({
        "path": "apps/web", "url": "https://example.com/web", "describe": "v1.2", "shallow": true,
        "refs": ["refs/heads/main", "refs/tags/v1.2"],
        "changed-count": 1, "changed-files": ["new\nline"], "ignored-count": 1, "ignored-files": ["target/"],
        "submodules": [{"path": "lib", "commit": "d".repeat(40), "checked-out": false}],
    });
    let mut expected = expected;
    strata_oci::go_json::sort_keys(&mut expected);
    assert_eq!(table_to_json(&source.metadata).to_string(), expected.to_string());
    let many = Changes { files: (0..1000).map(|n| n.to_string()).collect(), ..dirty().changes.unwrap() };
    let source =
        detailed(&Origin::Commit(Box::new(Commit { changes: Some(many), ..git() })), &Declared::default());
    assert_eq!(source.metadata["changed-count"].as_integer(), Some(1000));
    assert_eq!(source.metadata["changed-files"].as_array().map(Vec::len), Some(100));
}

#[test]
fn standard_keys_say_no_more_than_is_true() {
    let clean = Origin::Commit(Box::new(git()));
    let dirty = Origin::Commit(Box::new(dirty()));
    let content = Origin::Content(Digest::of(b"x"));
    let commit = "c".repeat(40);
    let changed = format!("{commit}-dirty");
    let date = "2000-02-29T00:00:00Z";
    for (origin, declared, created, expected) in [
        (&clean, Declared::default(), None, vec!["https://example.com/web", &commit, "v1.2", date]),
        (&clean, declared(), Some("asked"), vec!["https://example.com/declared", &commit, "3.0", "asked"]),
        (&dirty, Declared::default(), None, vec!["https://example.com/web", &changed]),
        (&dirty, declared(), Some("asked"), vec!["https://example.com/declared", &changed, "3.0", "asked"]),
        (&content, Declared::default(), None, vec![]),
        (&content, declared(), None, vec!["https://example.com/declared", "3.0"]),
        (
            &content,
            described(),
            None,
            vec!["Web", "(MIT OR Apache-2.0) AND ISC", "A, B", "https://example.com/doc"],
        ),
    ] {
        let found = standard(origin, &declared, created.map(str::to_owned));
        let values: Vec<_> = found.iter().map(|label| label.value.as_str()).collect();
        assert_eq!(values, expected, "{origin:?}");
        assert!(found.iter().all(|label| STANDARD.contains(&label.key.as_str())));
    }
}

#[test]
fn no_secret_is_said() {
    for origin in [Origin::Commit(Box::new(dirty())), Origin::Content(Digest::of(b"x"))] {
        let said = format!("{:?}{:?}", detailed(&origin, &declared()), standard(&origin, &declared(), None));
        assert!(!said.contains("planted"), "{said}");
    }
}

#[test]
fn the_digest_of_content_is_that_of_a_list() {
    let content = Digest::of(b"hello");
    let mut digest = ContentDigest::default();
    digest.add(Kind::File, b"a", Some(&content));
    digest.add(Kind::EmptyDir, b"b", None);
    assert_eq!(digest.finish(), Digest::of(format!("100644 {content} a\0040000 - b\0").as_bytes()));
}

#[test]
fn what_was_given_and_what_was_checked_out_is_said() {
    let given = Given {
        kind: "image",
        digest: Digest::of(b"x"),
        file: None,
        repository: Some("example.com/web".into()),
        refs: vec!["web:1".into()],
        path: Some("/source".into()),
    };
    let origin = Origin::Given(given);
    let source = label(&origin, &Declared::default());
    assert_eq!(
        (source.kind.as_str(), table_to_json(&source.version)),
        ("image", json!({"digest": Digest::of(b"x")}))
    );
    let metadata = json!({"path": "/source", "repository": "example.com/web"});
    assert_eq!(table_to_json(&source.metadata), metadata);
    assert!(detailed(&origin, &Declared::default()).metadata.contains_key("refs"));
    assert!(standard(&origin, &Declared::default(), None).is_empty());
    let checkout = Checkout {
        system: System::Mercurial,
        commit: "c".repeat(40),
        url: Some("https://me:planted@example.com/web".into()),
        ..Checkout::default()
    };
    let origin = Origin::Checkout(checkout);
    let source = label(&origin, &Declared::default());
    assert_eq!(table_to_json(&source.version), json!({"commit": "c".repeat(40), "digest": Digest::of(b"")}));
    // What was changed since is not known, so no revision is claimed.
    let values: Vec<_> =
        standard(&origin, &Declared::default(), None).into_iter().map(|label| label.value).collect();
    assert_eq!(values, ["https://example.com/web"]);
}
