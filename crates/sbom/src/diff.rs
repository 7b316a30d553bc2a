//! What is different between two bills.

use crate::bill::Bill;
use crate::component::{Component, Origin};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// What happened to a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// It was not there before.
    Added,
    /// It is not there any more.
    Removed,
    /// It is there in other versions.
    Changed,
}

impl What {
    /// For people.
    pub fn word(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Changed => "changed",
        }
    }
}

/// One package that is not the same in both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// What happened.
    pub what: What,
    /// The package, for people.
    pub name: String,
    /// Its package URL without a version, when it has one.
    pub purl: Option<String>,
    /// Versions before; empty when it was added.
    pub before: Vec<String>,
    /// Versions after; empty when it was removed.
    pub after: Vec<String>,
    /// Where the difference is: of what was removed where it was, else where it is.
    pub found_in: BTreeSet<Origin>,
}

/// Versions of one package, and what is known of them.
type Versions<'a> = BTreeMap<&'a str, Vec<&'a Component>>;

/// What changed from one bill to another, sorted by what happened and by name. That a package is in another layer than
/// before is no change of it.
#[must_use]
pub fn diff(before: &Bill, after: &Bill) -> Vec<Change> {
    let (before, after) = (packages(before), packages(after));
    let all: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let nothing = Versions::new();
    let mut changes: Vec<Change> = all
        .into_iter()
        .filter_map(|id| change(id, before.get(id).unwrap_or(&nothing), after.get(id).unwrap_or(&nothing)))
        .collect();
    changes.sort_by(|a, b| (a.what, &a.name, &a.purl).cmp(&(b.what, &b.name, &b.purl)));
    changes
}

fn packages(bill: &Bill) -> BTreeMap<String, Versions<'_>> {
    let mut packages: BTreeMap<String, Versions<'_>> = BTreeMap::new();
    for (_, component) in bill.components() {
        let versions = packages.entry(component.identity()).or_default();
        versions.entry(&component.version).or_default().push(component);
    }
    packages
}

fn change(id: &str, before: &Versions<'_>, after: &Versions<'_>) -> Option<Change> {
    let (gone, new): (Vec<&str>, Vec<&str>) = (missing(before, after), missing(after, before));
    let (what, told) = match (before.is_empty(), after.is_empty()) {
        _ if gone.is_empty() && new.is_empty() => return None,
        (true, _) => (What::Added, (after, &new)),
        (_, true) => (What::Removed, (before, &gone)),
        // Of several versions, one may have gone and none have come.
        _ if new.is_empty() => (What::Changed, (before, &gone)),
        _ => (What::Changed, (after, &new)),
    };
    let of: Vec<&Component> = told.1.iter().flat_map(|version| &told.0[version]).copied().collect();
    let texts = |versions: Vec<&str>| versions.into_iter().map(str::to_owned).collect();
    Some(Change {
        what,
        name: of.first()?.full_name(),
        purl: id.starts_with("pkg:").then(|| id.to_owned()),
        before: texts(gone),
        after: texts(new),
        found_in: of.iter().flat_map(|component| &component.found_in).cloned().collect(),
    })
}

/// Versions that only one side has.
fn missing<'a>(from: &Versions<'a>, than: &Versions<'_>) -> Vec<&'a str> {
    from.keys().filter(|version| !than.contains_key(*version)).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bill(packages: &[(&str, &str, &str)]) -> Bill {
        let mut bill = Bill::default();
        for (name, version, layer) in packages {
            bill.push(Component {
                name: (*name).to_owned(),
                version: (*version).to_owned(),
                purl: format!("pkg:npm/{name}@{version}").parse().ok(),
                found_in: [Origin::layer("a", "1", layer, None)].into(),
                ..Component::default()
            });
        }
        bill
    }

    #[test]
    fn changes_say_which_layer_made_them() {
        let before =
            [("gone", "1", "x"), ("kept", "1", "x"), ("new", "1", "x"), ("two", "1", "x"), ("two", "2", "y")];
        let after = [("added", "1", "y"), ("kept", "1", "y"), ("new", "2", "y"), ("two", "2", "y")];
        let shown: Vec<String> = diff(&bill(&before), &bill(&after))
            .iter()
            .map(|change| {
                let at: Vec<String> = change.found_in.iter().filter_map(Origin::layer_label).collect();
                let (before, after) = (change.before.join(","), change.after.join(","));
                format!("{} {} {before}>{after} {}", change.what.word(), change.name, at.join(","))
            })
            .collect();
        let expected =
            ["added added >1 a:y", "removed gone 1> a:x", "changed new 1>2 a:y", "changed two 1> a:x"];
        assert_eq!(shown, expected);
        assert!(diff(&bill(&after), &bill(&after)).is_empty());
    }
}
