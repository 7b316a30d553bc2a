//! What Mercurial says, and what its files do.

use super::git::{Change, is_id};
use super::{Commit, Submodule, System};
use serde::Deserialize;
use std::path::Path;

/// How a newer list of files begins.
const V2: &[u8] = b"dirstate-v2\n";
/// Bytes of a commit's id.
const ID: usize = 20;
/// The first version that is known to leave a repository's own configuration unread when it is asked to.
const FIRST: u32 = 6;

/// The commit that is checked out, from `.hg/dirstate`; `None` when there is none yet.
pub fn parent(dirstate: &[u8]) -> Option<String> {
    let id = dirstate.strip_prefix(V2).unwrap_or(dirstate).get(..ID)?;
    let hex = id.iter().map(|byte| format!("{byte:02x}")).collect();
    id.iter().any(|byte| *byte != 0).then_some(hex)
}

/// Whether the output of `hg version` is of one that does not have to obey a repository.
pub fn is_recent(output: &str) -> bool {
    let major = output.split("(version ").nth(1).and_then(|rest| rest.split('.').next());
    major
        .and_then(|major| major.trim_end_matches(')').trim().parse().ok())
        .is_some_and(|found: u32| found >= FIRST)
}

/// What `hg log` is asked for.
pub const TEMPLATE: &str = "json(node,branch,date,tags,bookmarks,latesttag,latesttagdistance)";

#[derive(Deserialize)]
struct Logged {
    node: String,
    branch: String,
    date: (f64, i64),
    tags: Vec<String>,
    bookmarks: Vec<String>,
    latesttag: Vec<String>,
    latesttagdistance: u64,
}

/// The commit in the output of `hg log` of one commit; `None` when there is none, or another form.
pub fn logged(output: &[u8]) -> Option<Commit> {
    let mut all: Vec<Logged> = serde_json::from_slice(output).ok()?;
    let found = all.pop().filter(|found| all.is_empty() && is_id(&found.node))?;
    // `tip` moves with every commit, and `null` stands for no tag.
    let tags = found.tags.iter().filter(|tag| *tag != "tip").map(|tag| format!("refs/tags/{tag}"));
    let bookmarks = found.bookmarks.iter().map(|name| format!("refs/bookmarks/{name}"));
    let short = found.node.get(..12).unwrap_or_default();
    let describe =
        found.latesttag.first().filter(|tag| *tag != "null").map(|tag| match found.latesttagdistance {
            0 => tag.clone(),
            distance => format!("{tag}-{distance}-h{short}"),
        });
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a date that is too large becomes the largest, which is none"
    )]
    let seconds = found.date.0 as i64;
    Some(Commit {
        system: System::Mercurial,
        created: crate::export::created(&seconds.to_string()),
        branch: Some(found.branch),
        refs: tags.chain(bookmarks).collect(),
        describe,
        commit: found.node,
        ..Commit::default()
    })
}

/// The output of `hg status --print0`: what is not as it was committed, and what is ignored.
pub fn status(output: &[u8]) -> impl Iterator<Item = Change> {
    output.split(|byte| *byte == 0).filter_map(|entry| {
        let (mark, path) = (*entry.first()?, entry.get(2..)?);
        (!path.is_empty()).then(|| Change { path: path.to_owned(), is_ignored: mark == b'I' })
    })
}

/// The repositories within, from `.hgsubstate`. Mercurial's status says nothing of what is in them.
pub fn subrepositories(text: &str) -> Vec<Submodule> {
    let entries = text.lines().filter_map(|line| line.split_once(' '));
    let is_plain = |path: &str| {
        !path.is_empty()
            && Path::new(path).components().all(|part| matches!(part, std::path::Component::Normal(_)))
    };
    let entry = |(commit, path): (&str, &str)| Submodule {
        path: path.to_owned(),
        commit: commit.to_owned(),
        is_checked_out: false,
    };
    entries
        .filter(|(commit, path)| commit.bytes().all(|b| b.is_ascii_hexdigit()) && is_plain(path))
        .map(entry)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parent_comes_first() {
        let state = [&[0xab; 20][..], &[0; 20], b"rest"].concat();
        let expected = Some("ab".repeat(20));
        assert_eq!(parent(&state), expected);
        assert_eq!(parent(&[V2, &state].concat()), expected);
        assert_eq!(parent(&[0; 40]), None);
        assert_eq!(parent(b"short"), None);
    }

    #[test]
    fn only_versions_that_leave_configurations_unread_are_asked() {
        for (output, expected) in [
            ("Mercurial Distributed SCM (version 6.3.2)\n", true),
            ("Mercurial Distributed SCM (version 10.0)\n", true),
            ("Mercurial Distributed SCM (version 7.1rc0+20-abc)\n", true),
            ("Mercurial Distributed SCM (version 5.9.3)\n", false),
            ("Mercurial Distributed SCM (version unknown)\n", false),
            ("something else", false),
        ] {
            assert_eq!(is_recent(output), expected, "{output}");
        }
    }

    #[test]
    fn a_commit_has_its_branch_and_its_tags() {
        let node = "6a".repeat(20);
        let log = |tags: &str, latest: &str, distance: u8| {
            format!(
                r#"[{{"bookmarks": ["b"], "branch": "default", "date": [951782400, -3600], "latesttag": ["{latest}"],
                "latesttagdistance": {distance}, "node": "{node}", "tags": [{tags}]}}]"#
            )
        };
        let found = logged(log(r#""v1", "tip""#, "v1", 0).as_bytes()).unwrap();
        assert_eq!((found.system, &found.commit), (System::Mercurial, &node));
        assert_eq!(found.branch.as_deref(), Some("default"));
        assert_eq!(found.created.as_deref(), Some("2000-02-29T00:00:00Z"));
        assert_eq!(found.refs, ["refs/tags/v1", "refs/bookmarks/b"]);
        assert_eq!(found.describe.as_deref(), Some("v1"));
        let describe = |latest, distance| logged(log("", latest, distance).as_bytes()).unwrap().describe;
        assert_eq!(describe("v1", 3), Some("v1-3-h6a6a6a6a6a6a".to_owned()));
        assert_eq!(describe("null", 3), None);
        for bad in [
            "",
            "[]",
            "{}",
            &log("", "x", 1).replace("6a6a", "../x"),
            &log("", "x", 1).replace("\"date\"", "\"when\""),
        ] {
            assert!(logged(bad.as_bytes()).is_none(), "{bad}");
        }
    }

    #[test]
    fn names_in_a_status_may_be_anything() {
        let found: Vec<_> = status(b"M a b\0? new\nline\0I x.o\0! \xff\0").collect();
        let found: Vec<_> = found.iter().map(|change| (change.path.as_slice(), change.is_ignored)).collect();
        let expected: [(&[u8], bool); 4] =
            [(b"a b", false), (b"new\nline", false), (b"x.o", true), (b"\xff", false)];
        assert_eq!(found, expected);
        assert_eq!(status(b"").count() + status(b"M\0M \0").count(), 0);
    }

    #[test]
    fn repositories_within_are_below() {
        let id = "ab".repeat(20);
        let text = format!("{id} lib\n{id} a/b c\n{id} ../out\n{id} /etc\nnothing x\n\n");
        let found: Vec<_> = subrepositories(&text).into_iter().map(|found| found.path).collect();
        assert_eq!(found, ["lib", "a/b c"]);
    }
}
