//! The crates a program is made of, from what `cargo tree` prints and what `Cargo.lock` holds.
//!
//! `cargo metadata` would be easier to read, but it switches features on for the whole workspace at once, and so names
//! crates that a single program does not have.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

/// Name and version: unique, as there is one registry.
pub(crate) type Id = (String, String);

/// Why the crates are not known.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GraphError {
    #[error("Cargo.lock cannot be parsed")]
    Lock(#[from] toml::de::Error),
    #[error(
        "line {number} of the list of crates, {line:?}, is not <depth><name> v<version>⇥<licence>⇥<repository>⇥"
    )]
    Line { number: usize, line: String },
    #[error("the list of crates is empty")]
    Empty,
}

/// A crate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Crate {
    /// An SPDX expression; empty if the crate names none.
    pub(crate) license: String,
    /// Where its source is kept; may be empty.
    pub(crate) repository: String,
    /// sha256 of its archive in the registry; `None` for crates of this workspace.
    pub(crate) checksum: Option<String>,
    /// What it uses.
    pub(crate) uses: BTreeSet<Id>,
}

/// A program's crates.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Graph {
    /// The crate of the program itself.
    pub(crate) root: Id,
    /// All, the root included.
    pub(crate) crates: BTreeMap<Id, Crate>,
}

#[derive(Deserialize)]
struct Lock {
    package: Vec<Locked>,
}

#[derive(Deserialize)]
struct Locked {
    name: String,
    version: String,
    checksum: Option<String>,
}

impl Graph {
    /// Reads the output of `cargo tree --prefix depth --format '{p}⇥{l}⇥{r}⇥'`, where ⇥ is a tab.
    pub(crate) fn parse(tree: &str, lock: &str) -> Result<Self, GraphError> {
        let lock: Lock = toml::from_str(lock)?;
        let checksums: BTreeMap<Id, Option<String>> =
            lock.package.into_iter().map(|locked| ((locked.name, locked.version), locked.checksum)).collect();
        let mut crates: BTreeMap<Id, Crate> = BTreeMap::new();
        // The crates above the current line, outermost first.
        let mut above: Vec<Id> = Vec::new();
        let mut root = None;
        for (index, line) in tree.lines().enumerate() {
            let (depth, id, [license, repository]) = parse_line(line)
                .filter(|(depth, ..)| *depth <= above.len() && (*depth > 0) == (index > 0))
                .ok_or_else(|| GraphError::Line { number: index + 1, line: line.to_owned() })?;
            above.truncate(depth);
            if let Some(user) = above.last() {
                crates.entry(user.clone()).or_default().uses.insert(id.clone());
            }
            let entry = crates.entry(id.clone()).or_default();
            // Cargo took a slash for "or" before it took expressions.
            entry.license = license.replace('/', " OR ");
            entry.repository = repository.to_owned();
            entry.checksum = checksums.get(&id).cloned().flatten();
            root.get_or_insert_with(|| id.clone());
            above.push(id);
        }
        Ok(Self { root: root.ok_or(GraphError::Empty)?, crates })
    }
}

/// Depth, identity, licence and repository.
fn parse_line(line: &str) -> Option<(usize, Id, [&str; 2])> {
    let mut fields = line.split('\t');
    let package = fields.next()?;
    let texts = [fields.next()?, fields.next()?];
    // What follows is empty, or `(*)` where a crate comes again and its own lines are left out.
    fields.next()?;
    let digits = package.find(|c: char| !c.is_ascii_digit())?;
    let (depth, package) = package.split_at(digits);
    // After the version comes the folder of a crate of the workspace, which is nobody's business.
    let mut words = package.split(' ');
    let (name, version) = (words.next()?, words.next()?.strip_prefix('v')?);
    Some((depth.parse().ok()?, (name.to_owned(), version.to_owned()), texts))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCK: &str = r#"
version = 4
[[package]]
name = "app"
version = "0.1.0"
dependencies = ["a", "b"]
[[package]]
name = "a"
version = "1.0.0+x"
source = "registry+https://example.com"
checksum = "aa"
"#;

    fn id(name: &str, version: &str) -> Id {
        (name.to_owned(), version.to_owned())
    }

    #[test]
    fn the_tree_becomes_a_graph_in_which_every_crate_is_once() {
        let tree = "0app v0.1.0 (/some/where)\tApache-2.0\thttps://example.com\t\n\
                    1a v1.0.0+x\tMIT/Zlib\t\t\n2b v2.0.0\t\t\t\n1b v2.0.0\t\t\t (*)\n";
        let graph = Graph::parse(tree, LOCK).unwrap();
        let (app, a, b) = (id("app", "0.1.0"), id("a", "1.0.0+x"), id("b", "2.0.0"));
        assert_eq!(graph.root, app);
        assert_eq!(graph.crates.len(), 3);
        assert_eq!(graph.crates[&app].uses, BTreeSet::from([a.clone(), b.clone()]));
        assert_eq!(graph.crates[&app].checksum, None);
        assert_eq!(graph.crates[&a].uses, BTreeSet::from([b]));
        assert_eq!(graph.crates[&a].license, "MIT OR Zlib");
        assert_eq!(graph.crates[&a].checksum.as_deref(), Some("aa"));
    }

    #[test]
    fn what_is_no_tree_is_refused() {
        for (tree, problem) in [
            ("", "empty"),
            ("app v1\t\t\t\n", "line 1"),
            ("0app 1.0\t\t\t\n", "line 1"),
            ("0app v1.0\t\t\n", "line 1"),
            ("1app v1.0\t\t\t\n", "line 1"),
            ("0app v1.0\t\t\t\n2a v1.0\t\t\t\n", "line 2"),
            ("0app v1.0\t\t\t\n0a v1.0\t\t\t\n", "line 2"),
        ] {
            let error = Graph::parse(tree, LOCK).unwrap_err().to_string();
            assert!(error.contains(problem), "{tree:?}: {error}");
        }
        assert!(matches!(Graph::parse("", "x"), Err(GraphError::Lock(_))));
    }
}
