//! All that an image is made of, out of many lists.

use crate::component::{Component, Kind, Origin};
use crate::read::Listing;
use std::collections::{BTreeMap, BTreeSet};

/// All that an image is made of, each thing once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bill {
    components: BTreeMap<String, Component>,
}

/// What is asked for of a bill.
#[derive(Debug, Clone, Copy, Default)]
pub struct Filter<'a> {
    /// A layer, as `<buildpack>:<layer>` or by its name alone.
    pub layer: Option<&'a str>,
    /// A buildpack, with or without `@<version>`.
    pub buildpack: Option<&'a str>,
}

impl Filter<'_> {
    fn wants(self, origin: &Origin) -> bool {
        let is_layer = |wanted: &str| {
            origin.layer.as_deref() == Some(wanted) || origin.layer_label().as_deref() == Some(wanted)
        };
        let is_buildpack = |wanted: &str| {
            origin.buildpack.as_deref() == Some(wanted) || origin.buildpack_label().as_deref() == Some(wanted)
        };
        self.layer.is_none_or(is_layer) && self.buildpack.is_none_or(is_buildpack)
    }
}

impl Bill {
    /// Adds what a list holds, found at `origin`, unless the list says where it was found. Things with the same package URL
    /// are one thing.
    pub fn add(&mut self, mut listing: Listing, origin: &Origin) {
        for component in listing.components.values_mut().filter(|component| component.found_in.is_empty()) {
            component.found_in.insert(origin.clone());
        }
        self.add_merged(listing);
    }

    /// Adds what a list holds that says again, in another format, what was added before. What has no package URL is left
    /// out: formats name such things in their own ways.
    pub fn add_again(&mut self, mut listing: Listing, origin: &Origin) {
        listing.components.retain(|_, component| component.purl.is_some());
        self.add(listing, origin);
    }

    /// Adds what a list holds that says where each thing was found, or does not know.
    pub fn add_merged(&mut self, listing: Listing) {
        let Listing { components, uses, .. } = listing;
        let keys: BTreeMap<&String, String> = components.iter().map(|(id, c)| (id, c.key())).collect();
        let edges: Vec<(String, BTreeSet<String>)> = uses
            .iter()
            .filter_map(|(id, used)| {
                let key = keys.get(id)?;
                // What needs itself, under another name, needs nothing.
                let used = used.iter().filter_map(|id| keys.get(id)).filter(|used| *used != key);
                Some((key.clone(), used.cloned().collect()))
            })
            .collect();
        drop(keys);
        components.into_values().for_each(|component| self.push(component));
        for (key, used) in edges {
            if let Some(component) = self.components.get_mut(&key) {
                component.uses.extend(used);
            }
        }
    }

    /// Adds entries of `[[bom]]`, each of which says where it was found. One that a buildpack wrote of what it lists in a
    /// file, too, adds to that.
    pub fn add_entries(&mut self, listing: Listing) {
        let names = |of: &Component| -> Vec<(String, String, Option<String>)> {
            let name = of.name.to_ascii_lowercase();
            let buildpacks = of.found_in.iter().map(|origin| origin.buildpack.clone());
            buildpacks.map(|buildpack| (name.clone(), of.version.clone(), buildpack)).collect()
        };
        let mut listed: BTreeMap<_, String> = BTreeMap::new();
        for (key, component) in &self.components {
            for name in names(component) {
                listed.entry(name).or_insert_with(|| key.clone());
            }
        }
        for entry in listing.components.into_values() {
            let same =
                names(&entry).iter().find_map(|name| listed.get(name)).filter(|_| entry.purl.is_none());
            match same.and_then(|key| self.components.get_mut(key)) {
                Some(known) => known.absorb(entry),
                None => self.push(entry),
            }
        }
    }

    /// Adds a thing, if there is one.
    pub fn push_some(&mut self, component: Option<Component>) {
        component.into_iter().for_each(|component| self.push(component));
    }

    /// Adds one thing, or what is new of it.
    pub fn push(&mut self, component: Component) {
        match self.components.entry(component.key()) {
            std::collections::btree_map::Entry::Vacant(place) => {
                place.insert(component);
            }
            std::collections::btree_map::Entry::Occupied(mut there) => there.get_mut().absorb(component),
        }
    }

    /// All components in the order of their keys.
    pub fn components(&self) -> impl Iterator<Item = (&str, &Component)> {
        self.components.iter().map(|(key, component)| (key.as_str(), component))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.components.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.components.is_empty()
    }

    /// Whether a component of this kind is in it.
    pub fn has_kind(&self, kind: Kind) -> bool {
        self.components.values().any(|component| component.kind == kind)
    }

    /// Only what was found where the filter says.
    #[must_use]
    pub fn only(&self, filter: Filter<'_>) -> Self {
        let is_wanted = |component: &&Component| component.found_in.iter().any(|origin| filter.wants(origin));
        let kept: BTreeMap<String, Component> = self
            .components
            .iter()
            .filter(|(_, component)| is_wanted(component))
            .map(|(key, component)| (key.clone(), component.clone()))
            .collect();
        let keys: BTreeSet<String> = kept.keys().cloned().collect();
        let mut only = Self { components: kept };
        for component in only.components.values_mut() {
            component.uses.retain(|used| keys.contains(used));
        }
        only
    }

    /// Needs of a component that are in the bill themselves.
    pub(crate) fn used_by<'a>(&'a self, component: &'a Component) -> impl Iterator<Item = &'a str> {
        component.uses.iter().map(String::as_str).filter(|used| self.components.contains_key(*used))
    }

    /// What no other component needs.
    pub(crate) fn roots(&self) -> impl Iterator<Item = &str> {
        let used: BTreeSet<&str> = self.components.values().flat_map(|c| self.used_by(c)).collect();
        self.components.keys().map(String::as_str).filter(move |key| !used.contains(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(components: &[(&str, &str, &str)], uses: &[(&str, &str)]) -> Listing {
        let mut listing = Listing::default();
        for (id, name, purl) in components {
            let component =
                Component { name: (*name).to_owned(), purl: purl.parse().ok(), ..Component::default() };
            listing.components.insert((*id).to_owned(), component);
        }
        for (id, used) in uses {
            listing.uses.entry((*id).to_owned()).or_default().insert((*used).to_owned());
        }
        listing
    }

    fn shown(bill: &Bill) -> Vec<String> {
        let one = |(key, component): (&str, &Component)| {
            let origins: Vec<String> = component.found_in.iter().map(ToString::to_string).collect();
            let uses: Vec<&str> = bill.used_by(component).collect();
            format!("{key} in [{}] uses [{}]", origins.join(", "), uses.join(", "))
        };
        bill.components().map(one).collect()
    }

    #[test]
    fn one_package_of_several_lists_is_one_component() {
        let mut bill = Bill::default();
        let (first, second) = (Origin::layer("a/b", "1", "x", None), Origin::buildpack("c", ""));
        bill.add(listing(&[("1", "n", "pkg:npm/@s/n@1"), ("2", "m", "")], &[("1", "2"), ("2", "1")]), &first);
        bill.add(listing(&[("x", "n", "pkg:npm/%40s/n@1")], &[("x", "x"), ("x", "nowhere")]), &second);
        let expected = [
            "component:m@ in [layer x of buildpack a/b@1] uses [pkg:npm/%40s/n@1]",
            "pkg:npm/%40s/n@1 in [layer x of buildpack a/b@1, buildpack c] uses [component:m@]",
        ];
        assert_eq!(shown(&bill), expected);
        assert_eq!(bill.roots().count(), 0);
        let only = bill.only(Filter { buildpack: Some("c"), ..Filter::default() });
        assert_eq!(shown(&only), ["pkg:npm/%40s/n@1 in [layer x of buildpack a/b@1, buildpack c] uses []"]);
    }

    #[test]
    fn an_entry_of_a_buildpack_that_has_a_file_too_is_the_same_thing() {
        let mut bill = Bill::default();
        bill.add(listing(&[("1", "jdk", "pkg:generic/jdk@17")], &[]), &Origin::layer("a", "1", "x", None));
        let entry = |buildpack: &str, name: &str| {
            let mut entries = listing(&[("0", name, "")], &[]);
            let found_in = [Origin::buildpack(buildpack, "1")].into();
            entries.components.values_mut().for_each(|entry| entry.found_in.clone_from(&found_in));
            entries
        };
        bill.add_entries(entry("a", "JDK"));
        bill.add_entries(entry("b", "jdk"));
        let expected = [
            "component:jdk@ in [buildpack b@1] uses []",
            "pkg:generic/jdk@17 in [buildpack a@1, layer x of buildpack a@1] uses []",
        ];
        assert_eq!(shown(&bill), expected);
    }

    #[test]
    fn filters_know_layers_and_buildpacks_by_short_and_long_names() {
        let mut bill = Bill::default();
        bill.add(listing(&[("1", "n", "")], &[]), &Origin::layer("a/b", "1", "x", None));
        for (layer, buildpack, expected) in [
            (Some("x"), None, 1),
            (Some("a/b:x"), None, 1),
            (None, Some("a/b"), 1),
            (None, Some("a/b@1"), 1),
            (Some("x"), Some("a/b"), 1),
            (Some("y"), None, 0),
            (None, Some("a/b@2"), 0),
            (Some("x"), Some("c"), 0),
        ] {
            assert_eq!(bill.only(Filter { layer, buildpack }).len(), expected, "{layer:?} {buildpack:?}");
        }
    }
}
