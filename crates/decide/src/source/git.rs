//! What Git says, as it says it to programs.

use std::cmp::Ordering;

/// A path that `git status` names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    /// From the top of the repository. With a slash at the end it is a whole folder.
    pub path: Vec<u8>,
    /// Whether Git is told to ignore it.
    pub is_ignored: bool,
}

/// The output of `git status --porcelain=v1 -z --no-renames`.
pub fn status(output: &[u8]) -> Vec<Change> {
    let entries = output.split(|byte| *byte == 0).filter_map(|entry| {
        let (mark, path) = (entry.get(..2)?, entry.get(3..)?);
        let is_ignored = mark == b"!!";
        (!path.is_empty()).then(|| Change { path: path.to_owned(), is_ignored })
    });
    let mut changes: Vec<Change> = entries.collect();
    // Staged as gone and there again: one path with two marks.
    changes.sort();
    changes.dedup_by(|a, b| a.path == b.path);
    changes
}

/// An entry of the output of `git ls-tree -z`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeEntry<'a> {
    /// Whether it is a commit of another repository.
    pub is_submodule: bool,
    /// The id of the object, in hex digits.
    pub id: &'a str,
    /// From the top of the repository.
    pub path: &'a [u8],
}

/// The output of `git ls-tree -z`.
pub fn tree(output: &[u8]) -> impl Iterator<Item = TreeEntry<'_>> {
    output.split(|byte| *byte == 0).filter_map(|entry| {
        let tab = entry.iter().position(|byte| *byte == b'\t')?;
        let (head, path) = (std::str::from_utf8(entry.get(..tab)?).ok()?, entry.get(tab + 1..)?);
        let mut words = head.split(' ');
        let (mode, _, id) = (words.next()?, words.next()?, words.next()?);
        Some(TreeEntry { is_submodule: mode == "160000", id, path })
    })
}

/// Whether a text is the id of an object, by either of Git's hashes.
pub fn is_id(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// When a commit was committed, from its text as `git cat-file` has it: seconds since 1970.
pub fn commit_time(commit: &str) -> Option<i64> {
    let line = commit
        .lines()
        .take_while(|line| !line.is_empty())
        .find_map(|line| line.strip_prefix("committer "))?;
    line.rsplit(' ').nth(1)?.parse().ok()
}

/// The tag among the names of references; of several, the one that comes last when numbers in it count as numbers.
pub fn tag(refs: &[String]) -> Option<String> {
    let tags = refs.iter().filter_map(|name| name.strip_prefix("refs/tags/"));
    tags.max_by(|a, b| natural(a, b)).map(str::to_owned)
}

fn natural(a: &str, b: &str) -> Ordering {
    fn parts(text: &str) -> Vec<(u128, &str)> {
        let mut parts = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            let (number, tail) = rest.split_at(digits);
            let letters = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
            let (word, tail) = tail.split_at(letters);
            parts.push((number.parse().unwrap_or(0), word));
            rest = tail;
        }
        parts
    }
    parts(a).cmp(&parts(b)).then_with(|| a.cmp(b))
}

/// The name and value pairs of `git config --null --list`. Names are in lower case but for their middle.
pub fn config(output: &[u8]) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let entries = output.split(|byte| *byte == 0).filter(|entry| !entry.is_empty());
    let pair = |entry: &[u8]| match entry.iter().position(|byte| *byte == b'\n') {
        Some(end) => (text(&entry[..end]), text(&entry[end + 1..])),
        // A name alone is a yes.
        None => (text(entry), "true".to_owned()),
    };
    entries.map(pair).collect()
}

/// Where a repository was cloned from: `origin`, or else the only remote that there is.
pub fn remote(config: &[(String, String)]) -> Option<&str> {
    let url = |name: &str| -> Option<&str> {
        let key = format!("remote.{name}.url");
        config.iter().find(|(found, _)| *found == key).map(|(_, value)| value.as_str())
    };
    if let Some(origin) = url("origin") {
        return Some(origin);
    }
    let mut names: Vec<&str> =
        config.iter().filter_map(|(key, _)| key.strip_prefix("remote.")?.strip_suffix(".url")).collect();
    names.dedup();
    match names.as_slice() {
        [only] => url(only),
        _ => None,
    }
}

/// What is checked out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Head {
    /// A commit by its id.
    Commit(String),
    /// What a reference names.
    Name(String),
}

/// The file `HEAD`; `None` when it is none, or when its reference could be a file elsewhere.
pub fn head(text: &str) -> Option<Head> {
    let text = text.trim();
    let Some(name) = text.strip_prefix("ref:") else {
        return is_id(text).then(|| Head::Commit(text.to_owned()));
    };
    let name = name.trim();
    let is_plain = |part: &str| !part.is_empty() && part != "." && part != "..";
    (name.starts_with("refs/") && name.split('/').all(is_plain)).then(|| Head::Name(name.to_owned()))
}

/// The commit of a reference in `packed-refs`.
pub fn packed(text: &str, name: &str) -> Option<String> {
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.find(|(id, found)| *found == name && is_id(id)).map(|(id, _)| id.to_owned())
}

/// The name and value pairs of a configuration file, of which only lines as programs write them are understood.
pub fn parse_config(text: &str) -> Vec<(String, String)> {
    let mut section = String::new();
    let mut pairs = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = match name.split_once('"') {
                Some((name, inner)) => {
                    format!("{}.{}", name.trim().to_ascii_lowercase(), inner.trim_end_matches('"'))
                }
                None => name.trim().to_ascii_lowercase(),
            };
        } else if let Some((key, value)) = line.split_once('=').filter(|_| !line.starts_with(['#', ';'])) {
            let value = value.trim().trim_matches('"').to_owned();
            pairs.push((format!("{section}.{}", key.trim().to_ascii_lowercase()), value));
        }
    }
    pairs
}

/// Settings that say how files of a work tree compare to those of a commit. Nothing else of a repository's own
/// configuration is obeyed: much of it names programs.
const COPIED: [&str; 9] = [
    "core.filemode",
    "core.symlinks",
    "core.ignorecase",
    "core.autocrlf",
    "core.eol",
    "core.precomposeunicode",
    "core.sparsecheckout",
    "core.sparsecheckoutcone",
    "index.sparse",
];
/// Settings without which a repository's files cannot be read.
const FORMAT: [&str; 2] = ["extensions.objectformat", "extensions.refstorage"];

/// A configuration for a repository with nothing in it that could run a program.
pub fn harmless_config(config: &[(String, String)]) -> String {
    let is_plain = |value: &str| !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let last = |name: &&'static str| {
        let found = config.iter().rev().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str()).filter(|value| is_plain(value)).map(|value| (*name, value))
    };
    let formats: Vec<_> = FORMAT.iter().filter_map(&last).collect();
    let version = u8::from(!formats.is_empty());
    let mut text = format!("[core]\n\trepositoryformatversion = {version}\n\tbare = false\n");
    for (name, value) in formats.into_iter().chain(COPIED.iter().filter_map(last)) {
        let (section, key) = name.split_once('.').unwrap_or(("core", name));
        text.push_str(&format!("[{section}]\n\t{key} = {value}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_a_status_may_be_anything() {
        let found = status(b" M a b\0?? new\nline\0!! target/\0D  x\0?? x\0UU \xff\0");
        let found: Vec<_> = found.iter().map(|change| (change.path.as_slice(), change.is_ignored)).collect();
        let expected: [(&[u8], bool); 5] =
            [(b"a b", false), (b"new\nline", false), (b"target/", true), (b"x", false), (b"\xff", false)];
        assert_eq!(found, expected);
        assert_eq!(status(b""), []);
        assert_eq!(status(b"?\0"), []);
    }

    #[test]
    fn a_tree_has_files_and_submodules() {
        let output = b"100644 blob aa\ta\tb\x00160000 commit bb\tlib\0nonsense\0";
        let found: Vec<_> = tree(output).collect();
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].is_submodule, found[0].path), (false, &b"a\tb"[..]));
        assert_eq!((found[1].is_submodule, found[1].id, found[1].path), (true, "bb", &b"lib"[..]));
    }

    #[test]
    fn the_time_of_a_commit_is_the_committers() {
        for (text, expected) in [
            (
                "tree t\nauthor A <a> 1 +0000\ncommitter C D <c> 1700000000 +0200\n\nmessage",
                Some(1_700_000_000),
            ),
            ("tree t\n\ncommitter in the message <c> 5 +0000\n", None),
            ("committer broken", None),
            ("", None),
        ] {
            assert_eq!(commit_time(text), expected, "{text}");
        }
    }

    #[test]
    fn of_several_tags_the_greatest_counts() {
        let refs = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        for (names, expected) in [
            (&["refs/heads/main"][..], None),
            (&["refs/tags/v1.9", "refs/heads/v2", "refs/tags/v1.10"], Some("v1.10")),
            (&["refs/tags/a/b"], Some("a/b")),
            (&["refs/tags/v1", "refs/tags/v01"], Some("v1")),
        ] {
            assert_eq!(tag(&refs(names)).as_deref(), expected, "{names:?}");
        }
    }

    #[test]
    fn the_remote_is_origin_or_the_only_one() {
        for (output, expected) in [
            (&b"remote.up.url\nhttps://u\0remote.origin.url\nhttps://o\0"[..], Some("https://o")),
            (b"remote.up.url\nhttps://u\0remote.up.url\nhttps://v\0remote.up.fetch\nx\0", Some("https://u")),
            (b"remote.a.url\nhttps://a\0remote.b.url\nhttps://b\0", None),
            (b"core.bare\0", None),
        ] {
            let config = config(output);
            assert_eq!(remote(&config), expected, "{config:?}");
        }
    }

    #[test]
    fn what_is_checked_out_can_be_read_without_git() {
        let id = "0123456789".repeat(4);
        for (text, expected) in [
            (format!("{id}\n"), Some(Head::Commit(id.clone()))),
            ("ref: refs/heads/a/b\n".to_owned(), Some(Head::Name("refs/heads/a/b".into()))),
            ("ref: refs/../../../etc/passwd".to_owned(), None),
            ("ref: /etc/passwd".to_owned(), None),
            ("ref: refs//x".to_owned(), None),
            (String::new(), None),
        ] {
            assert_eq!(head(&text), expected, "{text}");
        }
        let refs = format!("# pack-refs with: peeled\n{id} refs/heads/main\n^{id}\nbad refs/heads/x\n");
        assert_eq!(packed(&refs, "refs/heads/main"), Some(id));
        assert_eq!(packed(&refs, "refs/heads/x"), None);
        let text = "[core]\n\tbare = false\n# [remote \"x\"]\n[remote \"origin\"]\n\turl = https://h/x\n\tfetch = +a:b\n";
        assert_eq!(remote(&parse_config(text)), Some("https://h/x"));
        assert_eq!(
            parse_config("[paths]\ndefault = https://h/y"),
            [("paths.default".into(), "https://h/y".into())]
        );
    }

    #[test]
    fn nothing_that_runs_a_program_is_copied() {
        let hostile = b"core.fsmonitor\n/tmp/evil\0core.hookspath\nevil\0filter.x.clean\nevil\0core.worktree\n/\0\
            core.filemode\nfalse\0core.autocrlf\ninput\0core.eol\nlf\n[core]\nfsmonitor = evil\0\
            extensions.objectformat\nsha256\0include.path\nevil\0alias.status\n!evil\0core.sshcommand\nevil\0";
        let text = harmless_config(&config(hostile));
        let expected = "[core]\n\trepositoryformatversion = 1\n\tbare = false\n[extensions]\n\tobjectformat = sha256\n\
                        [core]\n\tfilemode = false\n[core]\n\tautocrlf = input\n";
        assert_eq!(text, expected);
        assert!(harmless_config(&[]).contains("version = 0"));
    }

    #[test]
    fn ids_are_of_either_hash() {
        assert!(is_id(&"a".repeat(40)) && is_id(&"0".repeat(64)));
        assert!(!is_id(&"A".repeat(40)) && !is_id("abc") && !is_id(""));
    }
}
