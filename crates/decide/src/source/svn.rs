//! What Subversion says, as it says it to programs.

use super::git::Change;
use super::{Commit, System};
use roxmltree::{Document, Node};

/// What `svn info --xml` says of a folder: everything but its revision. `None` when it is in no working copy, or of none
/// that has a repository yet.
pub fn info(xml: &str) -> Option<Commit> {
    let document = Document::parse(xml).ok()?;
    let entry = document.descendants().find(|node| node.has_tag_name("entry"))?;
    let text = |name: &str| {
        let found = entry.descendants().find(|node| node.has_tag_name(name));
        found.and_then(|node| node.text()).map(str::to_owned)
    };
    let path = text("relative-url")?.strip_prefix("^/")?.to_owned();
    let branch = branch(&path);
    let tag = branch.as_deref().and_then(|branch| branch.strip_prefix("tags/"));
    Some(Commit {
        system: System::Subversion,
        created: text("date").and_then(|date| seconds(&date)),
        url: text("root"),
        uuid: text("uuid"),
        refs: tag.into_iter().map(|tag| format!("refs/tags/{tag}")).collect(),
        branch,
        path,
        ..Commit::default()
    })
}

/// The branch by the names of folders that Subversion's manual proposes.
fn branch(path: &str) -> Option<String> {
    let mut parts = path.split('/');
    match parts.find(|part| matches!(*part, "trunk" | "branches" | "tags"))? {
        "trunk" => Some("trunk".to_owned()),
        kind => parts.next().map(|name| format!("{kind}/{name}")),
    }
}

/// A date without what is below a second.
fn seconds(date: &str) -> Option<String> {
    let (whole, rest) = date.split_at_checked("2000-02-29T00:00:00".len())?;
    let is_date = whole.bytes().zip("dddd-dd-ddTdd:dd:dd".bytes()).all(|(found, wanted)| match wanted {
        b'd' => found.is_ascii_digit(),
        wanted => found == wanted,
    });
    (is_date && rest.ends_with('Z')).then(|| format!("{whole}Z"))
}

/// The revision that a folder is of, from the output of `svnversion`, and whether that is one for all that is in it. Parts of
/// several, of other branches or missing ones are told as it has them (`4123:4168SP`). What was changed is told otherwise.
pub fn revision(output: &str) -> Option<(String, bool)> {
    let all: String = output.trim().chars().filter(|c| *c != 'M').collect();
    let numbers = all.trim_end_matches(['S', 'P']);
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_one = is_number(&all);
    let is_known = numbers.split(':').count() <= 2 && numbers.split(':').all(is_number);
    is_known.then_some((all, is_one))
}

/// What `svn status` says of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Where it is, below the folder that was asked for, and whether it is ignored.
    pub change: Change,
    /// Nothing but properties was changed. Those of a folder are no part of what is built.
    pub is_properties: bool,
}

/// The output of `svn status --xml` of the folder `.`; `None` when it has another form.
pub fn status(xml: &str) -> Option<Vec<Status>> {
    let document = Document::parse(xml).ok()?;
    document.descendants().any(|node| node.has_tag_name("target")).then_some(())?;
    let entries = document.descendants().filter(|node| node.has_tag_name("entry"));
    Some(entries.filter_map(|entry| entry_status(&entry)).collect())
}

fn entry_status(entry: &Node<'_, '_>) -> Option<Status> {
    let path = entry.attribute("path")?;
    let status = entry.children().find(|node| node.has_tag_name("wc-status"))?;
    let (item, props) = (status.attribute("item")?, status.attribute("props").unwrap_or("none"));
    let is_same = matches!(item, "normal" | "none");
    let is_properties = is_same && !matches!(props, "normal" | "none");
    // What comes from elsewhere (`external`) is a change: the revision says nothing of it.
    if is_same && !is_properties {
        return None;
    }
    let path = if path == "." { "" } else { path };
    Some(Status {
        change: Change { path: path.as_bytes().to_owned(), is_ignored: item == "ignored" },
        is_properties,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<info><entry revision="2" kind="dir" path="."><url>https://me:planted@example.com/repo/trunk/app</url>
<relative-url>^/web/tags/1.0/app</relative-url>
<repository><root>https://me:planted@example.com/repo</root><uuid>92bff013</uuid></repository>
<commit revision="2"><author>me</author><date>2026-11-22T01:53:22.449934Z</date></commit></entry></info>"#;

    #[test]
    fn a_folder_has_a_repository_and_a_branch() {
        let found = info(INFO).unwrap();
        assert_eq!(found.path, "web/tags/1.0/app");
        assert_eq!(found.branch.as_deref(), Some("tags/1.0"));
        assert_eq!(found.refs, ["refs/tags/1.0"]);
        assert_eq!(found.created.as_deref(), Some("2026-11-22T01:53:22Z"));
        assert_eq!(found.uuid.as_deref(), Some("92bff013"));
        assert_eq!(found.url.as_deref(), Some("https://me:planted@example.com/repo"));
        let bomb = "<!DOCTYPE x [<!ENTITY a \"aaaa\">]><info><entry>&a;</entry></info>";
        for bad in ["", "<info></info>", "<info><entry/></info>", "<info>", bomb] {
            assert_eq!(info(bad), None, "{bad}");
        }
        for (path, expected) in [
            ("trunk", Some("trunk")),
            ("web/trunk/app", Some("trunk")),
            ("branches/x/trunk", Some("branches/x")),
            ("branches", None),
            ("", None),
            ("app", None),
        ] {
            assert_eq!(branch(path).as_deref(), expected, "{path}");
        }
        for bad in ["", "2026-11-22", "2026-11-22T01:53:22", "2026-11-22 01:53:22Z", "é026-11-22T01:53:22Z"]
        {
            assert_eq!(seconds(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_revision_may_be_several() {
        for (output, expected) in [
            ("42", Some(("42", true))),
            ("42M\n", Some(("42", true))),
            ("41:42", Some(("41:42", false))),
            ("41:42MSP", Some(("41:42SP", false))),
            ("42P", Some(("42P", false))),
            ("Unversioned directory", None),
            ("exported", None),
            ("1:2:3", None),
            ("", None),
            ("M", None),
        ] {
            let expected = expected.map(|(text, is_one): (&str, _)| (text.to_owned(), is_one));
            assert_eq!(revision(output), expected, "{output}");
        }
    }

    #[test]
    fn what_is_as_it_was_committed_is_no_change() {
        let xml = r#"<status><target path=".">
            <entry path="."><wc-status item="normal" props="modified" revision="2"/></entry>
            <entry path="a"><wc-status item="modified" props="none" revision="2"/></entry>
            <entry path="b"><wc-status item="normal" props="none" switched="true"/></entry>
            <entry path="new&#10;line"><wc-status item="unversioned" props="none"/></entry>
            <entry path="x.o"><wc-status item="ignored" props="none"/></entry>
            <entry path="lib"><wc-status item="external" props="none"/></entry>
            <entry path="odd"><nothing/></entry>
        </target></status>"#;
        let found = status(xml).unwrap();
        let found: Vec<_> = found
            .iter()
            .map(|found| {
                let path = std::str::from_utf8(&found.change.path).unwrap();
                (path, found.change.is_ignored, found.is_properties)
            })
            .collect();
        let expected = [
            ("", false, true),
            ("a", false, false),
            ("new\nline", false, false),
            ("x.o", true, false),
            ("lib", false, false),
        ];
        assert_eq!(found, expected);
        assert_eq!(status("<status><target path='.'/></status>"), Some(vec![]));
        assert_eq!(status("<status></status>"), None);
        assert_eq!(status("no"), None);
    }
}
