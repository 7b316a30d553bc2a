//! Patterns and slices against what Go's `filepath` and the reference lifecycle do.

#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::fs;

use strata_layer::{LayerError, Owner, Parent, Source, clean, diff_id, matches, slices};

#[test]
fn patterns_match_as_in_go() {
    let cases = [
        ("abc", "abc", "true"),
        ("*", "abc", "true"),
        ("*c", "abc", "true"),
        ("a*", "a", "true"),
        ("a*", "abc", "true"),
        ("a*", "ab/c", "false"),
        ("a*/b", "abc/b", "true"),
        ("a*/b", "a/c/b", "false"),
        ("a*b*c*d*e*/f", "axbxcxdxe/f", "true"),
        ("a*b?c*x", "abxbbxdbxebxczzx", "true"),
        ("a*b?c*x", "abxbbxdbxebxczzy", "false"),
        ("ab[c]", "abc", "true"),
        ("ab[b-d]", "abc", "true"),
        ("ab[e-g]", "abc", "false"),
        ("ab[^c]", "abc", "false"),
        ("ab[^e-g]", "abc", "true"),
        ("[^a]b", "cb", "true"),
        ("[^a]b", "ab", "false"),
        ("[!a]b", "ab", "true"),
        ("[!a]b", "!b", "true"),
        ("[!a]b", "cb", "false"),
        ("a\\*", "a*", "true"),
        ("a\\*", "ab", "false"),
        ("a**b", "ab", "true"),
        ("a**b", "axxb", "true"),
        ("a**b", "a/b", "false"),
        ("[]a]", "]", "err"),
        ("[-]", "-", "err"),
        ("[x-]", "x", "err"),
        ("[-x]", "x", "err"),
        ("[\\]a]", "]", "true"),
        ("[\\-x]", "-", "true"),
        ("[x\\-]", "-", "true"),
        ("[\\-x]", "a", "false"),
        ("a?b", "a☺b", "true"),
        ("a[^a]b", "a☺b", "true"),
        ("a???b", "a☺b", "false"),
        ("[a-ζ]*", "α", "true"),
        ("*[a-ζ]", "A", "false"),
        ("a?b", "a/b", "false"),
        ("a*b", "a/b", "false"),
        ("[a-b-c]", "a", "err"),
        ("[", "a", "err"),
        ("[^", "a", "err"),
        ("[^bc", "a", "err"),
        ("a[", "a", "err"),
        ("a[", "ab", "err"),
        ("a[", "x", "err"),
        ("a/b[", "x", "err"),
        ("*x", "xxx", "true"),
        ("\\", "a", "err"),
        ("", "", "true"),
        ("", "a", "false"),
        ("*", "", "true"),
    ];
    for (pattern, name, expected) in cases {
        let got = match matches(pattern, name) {
            Ok(true) => "true",
            Ok(false) => "false",
            Err(_) => "err",
        };
        assert_eq!(got, expected, "{pattern} against {name}");
    }
}

#[test]
fn paths_are_cleaned_as_in_go() {
    let cases = [
        ("", "."),
        ("a/", "a"),
        ("./a//b/.", "a/b"),
        ("a/../..", ".."),
        ("../../a", "../../a"),
        ("/..", "/"),
        ("/a/../../b", "/b"),
        ("a/b/../../..//c", "../c"),
    ];
    for (path, expected) in cases {
        assert_eq!(clean(path), expected, "{path}");
    }
}

const OWNER: Owner = Owner { uid: 1000, gid: 1000 };

fn names(source: &Source) -> Vec<String> {
    let Source::Entries { items, .. } = source else { panic!("not a slice: {source:?}") };
    items.iter().map(|item| format!("/{}", item.relative.to_str().unwrap())).collect()
}

#[test]
fn slices_take_what_matches_and_leave_the_rest() {
    let app = tempfile::tempdir().unwrap();
    for file in ["a/x", "a-b", "a/y/z", "static/one.css", "static/two.css", "static/js/x.js", "top"] {
        let path = app.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, file).unwrap();
    }
    type Lists = &'static [&'static [&'static str]];
    let cases: &[(Lists, Lists)] = &[
        (
            &[],
            &[&[
                "/",
                "/a",
                "/a-b",
                "/a/x",
                "/a/y",
                "/a/y/z",
                "/static",
                "/static/js",
                "/static/js/x.js",
                "/static/one.css",
                "/static/two.css",
                "/top",
            ]],
        ),
        (
            &[&["./static/*.css"], &["a", "none"], &["nothing"]],
            &[
                &["/", "/static", "/static/one.css", "/static/two.css"],
                &["/", "/a", "/a/x", "/a/y", "/a/y/z"],
                &[],
                &["/", "/a-b", "/static", "/static/js", "/static/js/x.js", "/top"],
            ],
        ),
        // A directory with nothing left is not in the remainder.
        (
            &[&["a/x", "a/y"], &["a*"]],
            &[
                &["/", "/a", "/a/x", "/a/y", "/a/y/z"],
                &["/", "/a-b"],
                &[
                    "/",
                    "/static",
                    "/static/js",
                    "/static/js/x.js",
                    "/static/one.css",
                    "/static/two.css",
                    "/top",
                ],
            ],
        ),
        (
            &[&["*"]],
            &[
                &[
                    "/",
                    "/a",
                    "/a-b",
                    "/a/x",
                    "/a/y",
                    "/a/y/z",
                    "/static",
                    "/static/js",
                    "/static/js/x.js",
                    "/static/one.css",
                    "/static/two.css",
                    "/top",
                ],
                &[],
            ],
        ),
        (
            &[&["."], &["top"]],
            &[
                &[
                    "/",
                    "/a",
                    "/a-b",
                    "/a/x",
                    "/a/y",
                    "/a/y/z",
                    "/static",
                    "/static/js",
                    "/static/js/x.js",
                    "/static/one.css",
                    "/static/two.css",
                    "/top",
                ],
                &[],
                &[],
            ],
        ),
        (
            &[&["../etc", "/a"]],
            &[
                &[],
                &[
                    "/",
                    "/a",
                    "/a-b",
                    "/a/x",
                    "/a/y",
                    "/a/y/z",
                    "/static",
                    "/static/js",
                    "/static/js/x.js",
                    "/static/one.css",
                    "/static/two.css",
                    "/top",
                ],
            ],
        ),
    ];
    for (patterns, expected) in cases {
        let patterns: Vec<Vec<String>> =
            patterns.iter().map(|slice| slice.iter().map(|text| (*text).to_owned()).collect()).collect();
        let parents = [Parent { path: "/parent".to_owned(), owner: OWNER, mode: 0o755 }];
        let sources = slices(app.path(), "/workspace", &parents, OWNER, &patterns).unwrap();
        let got: Vec<Vec<String>> = sources.iter().map(names).collect();
        assert_eq!(got, *expected, "{patterns:?}");
        for source in sources.iter().filter(|source| names(source).is_empty()) {
            let empty = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef";
            assert_eq!(diff_id(source).unwrap().0.to_string(), empty);
        }
    }
}

#[test]
fn bad_pattern_is_an_error_that_quotes_it() {
    let app = tempfile::tempdir().unwrap();
    fs::write(app.path().join("a"), "").unwrap();
    let error = slices(app.path(), "/workspace", &[], OWNER, &[vec!["[".to_owned()]]).unwrap_err();
    assert!(matches!(error, LayerError::Pattern { .. }), "{error}");
    assert_eq!(error.to_string(), "cannot match the slice pattern \"[\"");
}
