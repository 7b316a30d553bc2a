//! Splits an application directory into slices by pattern.
//!
//! The tree is looked at once; what is written later is what was there then.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::error::LayerError;
use crate::pattern::{BadPattern, clean, matches};
use crate::source::{Parent, SliceItem, Source, item_meta, walk};
use crate::tar_writer::Owner;

/// One source per slice, then one for all that no slice took.
///
/// Each slice is a list of patterns, matched against paths below `app_dir`. A matched directory is taken whole; what an
/// earlier slice took is not taken again. Directories above a taken file are written in every slice that needs them.
pub fn slices(
    app_dir: &Path,
    as_path: &str,
    parents: &[Parent],
    owner: Owner,
    patterns: &[Vec<String>],
) -> Result<Vec<Source>, LayerError> {
    let mut tree = Tree::read(app_dir)?;
    let source = |items| Source::Entries {
        dir: app_dir.to_owned(),
        as_path: as_path.to_owned(),
        parents: parents.to_vec(),
        owner,
        items,
    };
    let mut sources = Vec::new();
    for slice in patterns {
        let chosen = tree.take(slice)?;
        sources.push(source(tree.items(chosen)));
    }
    let rest = (0..tree.nodes.len()).filter(|&node| !tree.nodes[node].taken).collect();
    sources.push(source(tree.items(rest)));
    Ok(sources)
}

/// The tree in walking order: the descendants of a node follow it without a gap.
struct Tree {
    nodes: Vec<Node>,
}

struct Node {
    item: SliceItem,
    /// The directory that holds it; the root holds itself.
    parent: usize,
    /// First node that is not below this one.
    end: usize,
    taken: bool,
}

impl Tree {
    fn read(app_dir: &Path) -> Result<Self, LayerError> {
        let mut nodes: Vec<Node> = Vec::new();
        let mut open: Vec<usize> = Vec::new();
        walk(app_dir, |relative, meta| {
            let at = nodes.len();
            while let Some(&last) = open.last()
                && !is_below(relative, &nodes[last].item.relative)
            {
                nodes[last].end = at;
                open.pop();
            }
            let item = SliceItem { relative: relative.to_owned(), ..item_meta(meta) };
            let parent = open.last().copied().unwrap_or(0);
            nodes.push(Node { item, parent, end: at + 1, taken: false });
            if meta.is_dir() {
                open.push(at);
            }
            Ok(())
        })?;
        let end = nodes.len();
        for last in open {
            nodes[last].end = end;
        }
        Ok(Self { nodes })
    }

    /// Takes what the patterns match and gives it with the directories above it.
    fn take(&mut self, patterns: &[String]) -> Result<BTreeSet<usize>, LayerError> {
        let mut chosen = BTreeSet::new();
        for pattern in patterns {
            let cleaned = clean(pattern);
            let bad = |source: BadPattern| LayerError::Pattern { pattern: pattern.clone(), source };
            for node in 0..self.nodes.len() {
                let name = relative_name(&self.nodes[node].item.relative);
                if matches(&cleaned, name).map_err(bad)? && !self.nodes[node].taken {
                    self.take_below(node, &mut chosen);
                }
            }
        }
        self.add_missing_parents(&mut chosen);
        Ok(chosen)
    }

    fn take_below(&mut self, top: usize, chosen: &mut BTreeSet<usize>) {
        let mut node = top;
        while node < self.nodes[top].end {
            if self.nodes[node].taken {
                // All below it was taken with it, or before it.
                node = self.nodes[node].end;
                continue;
            }
            self.nodes[node].taken = true;
            chosen.insert(node);
            node += 1;
        }
    }

    /// Adds the directories above what is chosen; one that has nothing left to take counts as taken.
    fn add_missing_parents(&mut self, chosen: &mut BTreeSet<usize>) {
        let mut missing = BTreeSet::new();
        for &node in chosen.iter() {
            let mut parent = self.nodes[node].parent;
            while !chosen.contains(&parent) && missing.insert(parent) {
                parent = self.nodes[parent].parent;
            }
        }
        // Descending: children come before their parents.
        for &dir in missing.iter().rev() {
            let mut child = dir + 1;
            let mut all_taken = true;
            while child < self.nodes[dir].end && all_taken {
                all_taken = self.nodes[child].taken;
                child = self.nodes[child].end;
            }
            self.nodes[dir].taken = all_taken;
        }
        chosen.extend(missing);
    }

    fn items(&self, chosen: BTreeSet<usize>) -> Vec<SliceItem> {
        let mut items: Vec<SliceItem> =
            chosen.into_iter().map(|node| self.nodes[node].item.clone()).collect();
        items.sort_unstable_by(|a, b| a.relative.cmp(&b.relative));
        items
    }
}

fn is_below(path: &OsStr, dir: &OsStr) -> bool {
    let (path, dir) = (path.as_bytes(), dir.as_bytes());
    dir.is_empty() || (path.starts_with(dir) && path.get(dir.len()) == Some(&b'/'))
}

/// What Go's `filepath.Rel` says: the directory itself is `.`.
fn relative_name(relative: &OsStr) -> OsString {
    if relative.is_empty() { OsString::from(".") } else { relative.to_owned() }
}
