//! The packages of a distribution, as the databases of its package manager list them.
//!
//! Each layer of an image is looked at by itself, so that what was found in one can be kept by the layer's digest;
//! [`combine`] then says what is there when one lies upon the other.

mod apk;
mod dpkg;
mod os;
mod rpm;

use crate::component::{Component, Kind, Origin};
use crate::purl::Purl;
use crate::read::{Format, Listing};
pub use os::Os;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The largest database that is read, in bytes.
pub const MAX_DATABASE: u64 = 128 << 20;
/// How many packages of one database are read.
const MAX_PACKAGES: usize = 100_000;

/// A file of an image that says something about packages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Database {
    /// `os-release`: which distribution it is.
    Os,
    /// All packages of dpkg.
    Dpkg,
    /// One package, as images without dpkg have it.
    DpkgPart,
    /// All packages of apk.
    Apk,
    /// All packages of rpm, in its database of today.
    RpmSqlite,
    /// The same, as SUSE has it.
    RpmNdb,
    /// The same, as it was before 2020: nothing here can read it.
    RpmBerkeley,
    /// A bill of materials that the maker of the image put there.
    Listing(Format),
}

impl Database {
    /// What a file is, by its path from the root without a leading slash.
    pub fn at(path: &str) -> Option<Self> {
        match path {
            "etc/os-release" | "usr/lib/os-release" => return Some(Self::Os),
            "var/lib/dpkg/status" => return Some(Self::Dpkg),
            "lib/apk/db/installed" | "usr/lib/apk/db/installed" => return Some(Self::Apk),
            _ => {}
        }
        if let Some(name) = path.strip_prefix("var/lib/dpkg/status.d/") {
            return (!name.contains('/') && !name.ends_with(".md5sums")).then_some(Self::DpkgPart);
        }
        if let Some(name) = path.strip_prefix("cnb/sbom/") {
            let ends = |format: &&Format| {
                name.strip_suffix(format.ending().trim_start_matches("sbom"))
                    .is_some_and(|id| !id.contains('/'))
            };
            return Format::ALL.iter().find(ends).map(|format| Self::Listing(*format));
        }
        let rpm = ["var/lib/rpm/", "usr/lib/sysimage/rpm/", "usr/share/rpm/"];
        match rpm.iter().find_map(|dir| path.strip_prefix(dir))? {
            "rpmdb.sqlite" => Some(Self::RpmSqlite),
            "Packages.db" => Some(Self::RpmNdb),
            "Packages" => Some(Self::RpmBerkeley),
            _ => None,
        }
    }

    /// Whether the folder holds such files, or folders with such files.
    pub fn is_above(path: &str) -> bool {
        const PLACES: &[&str] = &[
            "etc",
            "usr/lib/apk/db",
            "usr/lib/sysimage/rpm",
            "usr/share/rpm",
            "var/lib/dpkg/status.d",
            "lib/apk/db",
            "var/lib/rpm",
            "cnb/sbom",
        ];
        let is_at = |place: &&str| {
            place.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        path.is_empty() || PLACES.iter().any(is_at)
    }
}

/// A package of a distribution.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Package {
    /// Its name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its version with its revision.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// The epoch of its version, where that is no part of it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub epoch: String,
    /// Its architecture.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub arch: String,
    /// The source package, if it has another name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// Its license, as the distribution writes it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub license: String,
    /// Who maintains it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub supplier: String,
    /// One line about it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// What it can stand for, besides its own name.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub provides: BTreeSet<String>,
    /// What it needs: of each list, one.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub needs: BTreeSet<Vec<String>>,
}

/// Which package manager has a package: the type of its package URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Manager {
    Deb,
    Apk,
    Rpm,
}

impl Manager {
    fn word(self) -> &'static str {
        match self {
            Self::Deb => "deb",
            Self::Apk => "apk",
            Self::Rpm => "rpm",
        }
    }
}

/// What one file says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Contents {
    Os(Os),
    Packages(Manager, Vec<Package>),
    Components(Vec<Component>),
    /// Why it says nothing.
    Unread(String),
}

/// What one layer says about packages.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LayerPackages {
    files: BTreeMap<String, Contents>,
    /// Files and folders of the layers below that are gone.
    removed: BTreeSet<String>,
    /// Folders of the layers below whose contents are gone.
    emptied: BTreeSet<String>,
}

impl LayerPackages {
    /// Adds a file that [`Database::at`] knows.
    pub fn add(&mut self, path: &str, database: Database, bytes: &[u8]) {
        let packages = |manager, read: Result<Vec<Package>, String>| match read {
            Ok(packages) => Contents::Packages(manager, packages),
            Err(reason) => Contents::Unread(reason),
        };
        let contents = match database {
            Database::Os => Contents::Os(Os::parse(&String::from_utf8_lossy(bytes))),
            Database::Dpkg => packages(Manager::Deb, dpkg::read(bytes, dpkg::Status::Told)),
            Database::DpkgPart => packages(Manager::Deb, dpkg::read(bytes, dpkg::Status::Known)),
            Database::Apk => packages(Manager::Apk, apk::read(bytes)),
            Database::RpmSqlite => packages(Manager::Rpm, rpm::sqlite(bytes)),
            Database::RpmNdb => packages(Manager::Rpm, rpm::ndb(bytes)),
            Database::RpmBerkeley => Contents::Unread("databases of Berkeley DB cannot be read".to_owned()),
            Database::Listing(format) => match crate::read::read(format, bytes) {
                Ok(listing) => Contents::Components(listing.components.into_values().collect()),
                Err(error) => Contents::Unread(error.to_string()),
            },
        };
        self.files.insert(path.to_owned(), contents);
    }

    /// Adds why a file was not read.
    pub fn add_unread(&mut self, path: &str, reason: String) {
        self.files.insert(path.to_owned(), Contents::Unread(reason));
    }

    /// A file or folder of the layers below is gone.
    pub fn remove(&mut self, path: &str) {
        self.removed.insert(path.to_owned());
    }

    /// All that the layers below have in a folder is gone.
    pub fn empty(&mut self, folder: &str) {
        self.emptied.insert(folder.to_owned());
    }

    /// Forgets bills of materials that the maker of the image put there.
    pub fn drop_listings(&mut self) {
        self.files.retain(|_, contents| !matches!(contents, Contents::Components(_)));
    }

    /// Whether a file of the layers below is hidden by this one.
    fn hides(&self, path: &str) -> bool {
        let is_below = |folder: &String| {
            folder.is_empty() || path.strip_prefix(folder.as_str()).is_some_and(|rest| rest.starts_with('/'))
        };
        self.removed.contains(path) || self.removed.iter().chain(&self.emptied).any(is_below)
    }
}

/// What is there when the layers lie upon each other, each with its diffID, the lowest first. A package is found in the
/// layer in which it first had its version.
#[must_use]
pub fn combine(layers: &[(String, LayerPackages)]) -> Listing {
    let mut files: BTreeMap<&str, &Contents> = BTreeMap::new();
    let mut first: BTreeMap<(&str, &str, &str), &str> = BTreeMap::new();
    let mut listed_by: BTreeMap<&str, &str> = BTreeMap::new();
    for (diff_id, layer) in layers {
        files.retain(|path, _| !layer.hides(path));
        for (path, contents) in &layer.files {
            files.insert(path, contents);
            listed_by.insert(path, diff_id);
            if let Contents::Packages(_, packages) = contents {
                for package in packages {
                    first.entry((&package.name, &package.version, &package.arch)).or_insert(diff_id);
                }
            }
        }
    }
    let os = ["etc/os-release", "usr/lib/os-release"].iter().find_map(|path| match files.get(path) {
        Some(Contents::Os(os)) => Some((*path, os)),
        _ => None,
    });
    let mut listing = Listing::default();
    if let Some((path, os)) = os {
        let mut component = os.component();
        component.found_in.insert(Origin::run_image(listed_by.get(path).copied()));
        listing.insert("os", component);
    }
    let unknown = Os::default();
    let os = os.map_or(&unknown, |(_, os)| os);
    for (path, contents) in &files {
        match contents {
            Contents::Packages(manager, packages) => {
                let origin = |package: &Package| {
                    let key = (package.name.as_str(), package.version.as_str(), package.arch.as_str());
                    Origin::run_image(first.get(&key).copied())
                };
                add(&mut listing, *manager, packages, os, origin);
            }
            Contents::Unread(reason) => listing.warn(format!("/{path} is not read: {reason}")),
            Contents::Os(_) | Contents::Components(_) => {}
        }
    }
    needs(&mut listing, &files);
    // What the maker of the image says comes last: a database knows better, and may lack things.
    for (path, contents) in &files {
        if let Contents::Components(components) = contents {
            for (number, component) in components.iter().enumerate() {
                let mut component = component.clone();
                component.found_in.insert(Origin::run_image(listed_by.get(path).copied()));
                listing.insert(&format!("{path} {number}"), component);
            }
        }
    }
    listing.settle()
}

fn add(
    listing: &mut Listing,
    manager: Manager,
    packages: &[Package],
    os: &Os,
    origin: impl Fn(&Package) -> Origin,
) {
    for package in packages {
        let namespace = os.namespace(manager);
        let purl = Purl::new(manager.word(), &[&namespace], &package.name, &package.version)
            .with("arch", &package.arch)
            .with("epoch", &package.epoch)
            .with("upstream", &package.source)
            .with("distro", &os.qualifier());
        let mut component = Component {
            kind: Kind::Library,
            name: package.name.clone(),
            version: match package.epoch.as_str() {
                "" => package.version.clone(),
                epoch => format!("{epoch}:{}", package.version),
            },
            // Nobody could read it otherwise.
            purl: Some(purl).filter(|_| !package.name.contains(char::is_control)),
            description: package.description.clone(),
            supplier: package.supplier.clone(),
            ..Component::default()
        };
        component.add_license(&package.license);
        component.found_in.insert(origin(package));
        listing.insert(&id(manager, package), component);
    }
}

fn id(manager: Manager, package: &Package) -> String {
    format!("{}:{}:{}:{}", manager.word(), package.name, package.arch, package.version)
}

/// Resolves what packages need to what is there.
fn needs(listing: &mut Listing, files: &BTreeMap<&str, &Contents>) {
    let all: Vec<(Manager, &Package)> = files
        .values()
        .filter_map(|contents| match contents {
            Contents::Packages(manager, packages) => Some((*manager, packages)),
            _ => None,
        })
        .flat_map(|(manager, packages)| packages.iter().map(move |package| (manager, package)))
        .collect();
    let mut there: BTreeMap<(&str, &str), &Package> = BTreeMap::new();
    for (manager, package) in &all {
        for name in &package.provides {
            there.entry((manager.word(), name)).or_insert(package);
        }
    }
    // Whoever has the name itself is meant before who provides it.
    for (manager, package) in &all {
        there.insert((manager.word(), &package.name), package);
    }
    for (manager, package) in &all {
        for choice in &package.needs {
            let found = choice.iter().find_map(|name| there.get(&(manager.word(), name.as_str())));
            if let Some(found) = found {
                listing.needs(&id(*manager, package), &id(*manager, found));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(files: &[(&str, &str)]) -> LayerPackages {
        let mut layer = LayerPackages::default();
        for (path, text) in files {
            layer.add(path, Database::at(path).unwrap(), text.as_bytes());
        }
        layer
    }

    fn shown(layers: &[LayerPackages]) -> Vec<String> {
        let layers: Vec<_> =
            layers.iter().enumerate().map(|(i, layer)| (i.to_string(), layer.clone())).collect();
        let listing = combine(&layers);
        let one = |c: &Component| {
            let origins: Vec<_> = c.found_in.iter().filter_map(|origin| origin.diff_id.clone()).collect();
            format!("{} in {}", c.key(), origins.join(","))
        };
        listing.components.values().map(one).chain(listing.warnings.clone()).collect()
    }

    const DEBIAN: (&str, &str) = ("usr/lib/os-release", "ID=debian\nVERSION_ID=\"12\"\n");

    fn status(packages: &[(&str, &str)]) -> String {
        let one = |(name, version): &(&str, &str)| {
            format!(
                "Package: {name}\nStatus: install ok installed\nArchitecture: amd64\nVersion: {version}\n\n"
            )
        };
        packages.iter().map(one).collect()
    }

    #[test]
    fn the_last_database_counts_and_each_package_is_of_the_layer_it_came_with() {
        let lower = layer(&[DEBIAN, ("var/lib/dpkg/status", &status(&[("a", "1"), ("b", "1")]))]);
        let upper = layer(&[("var/lib/dpkg/status", &status(&[("b", "1"), ("c", "2")]))]);
        let expected = [
            "pkg:deb/debian/b@1?arch=amd64 in 0",
            "pkg:deb/debian/c@2?arch=amd64 in 1",
            "component:debian@12 in 0",
        ];
        assert_eq!(shown(&[lower, upper]), expected);
    }

    #[test]
    fn what_a_layer_removes_is_gone() {
        let part =
            |name: &str| (format!("var/lib/dpkg/status.d/{name}"), format!("Package: {name}\nVersion: 1\n"));
        let (a, b) = (part("a"), part("b"));
        let lower = layer(&[(&a.0, &a.1), (&b.0, &b.1)]);
        let mut file = LayerPackages::default();
        file.remove(&a.0);
        assert_eq!(shown(&[lower.clone(), file]), ["pkg:deb/debian/b@1 in 0"]);
        for folder in ["var/lib/dpkg/status.d", "var", ""] {
            let mut emptied = layer(&[(&a.0, &a.1)]);
            emptied.empty(folder);
            assert_eq!(shown(&[lower.clone(), emptied]), ["pkg:deb/debian/a@1 in 0"], "{folder}");
        }
        let mut other = LayerPackages::default();
        other.remove("var/lib/dpkg/status.d2");
        assert_eq!(shown(&[lower, other]).len(), 2);
    }

    #[test]
    fn what_cannot_be_read_is_told() {
        let layer = layer(&[("var/lib/rpm/Packages", "x"), ("cnb/sbom/1.cdx.json", "{")]);
        let told = shown(&[layer]).join("\n");
        assert!(told.contains("/var/lib/rpm/Packages is not read: databases of Berkeley DB"), "{told}");
        assert!(told.contains("/cnb/sbom/1.cdx.json is not read: it is no CycloneDX document"), "{told}");
    }

    /// Found by fuzzing: nobody reads a package URL with a control character in it.
    #[test]
    fn a_name_that_no_url_can_have_is_a_name_all_the_same() {
        let listing = combine(&[(
            String::new(),
            layer(&[DEBIAN, ("var/lib/dpkg/status", &status(&[("e\0 b", "1"), ("c", "1")]))]),
        )]);
        let mut bill = crate::Bill::default();
        bill.add_merged(listing);
        let keys: Vec<&str> = bill.components().map(|(key, _)| key).collect();
        assert_eq!(keys, ["component:debian@12", "component:e\0 b@1", "pkg:deb/debian/c@1?arch=amd64"]);
    }

    #[test]
    fn a_bill_of_the_images_maker_adds_what_no_database_has() {
        let text = r#"{"artifacts":[{"id":"1","name":"a","version":"1","purl":"pkg:deb/debian/a@1?arch=amd64&x=y"},
            {"id":"2","name":"z","version":"1","purl":"pkg:golang/z@1"}]}"#;
        let layer =
            layer(&[DEBIAN, ("var/lib/dpkg/status", &status(&[("a", "1")])), ("cnb/sbom/0.syft.json", text)]);
        let listing = combine(&[("0".to_owned(), layer)]);
        let mut bill = crate::Bill::default();
        bill.add_merged(listing);
        let keys: Vec<&str> = bill.components().map(|(key, _)| key).collect();
        assert_eq!(keys, ["component:debian@12", "pkg:deb/debian/a@1?arch=amd64", "pkg:golang/z@1"]);
    }

    #[test]
    fn needs_lead_to_packages_that_are_there() {
        let text = "P:a\nV:1\nD:so:libc.so.6 b>=2 !c nowhere\n\nP:b\nV:2\n\nP:musl\nV:3\np:so:libc.so.6=1\n";
        let listing = combine(&[("0".to_owned(), layer(&[("lib/apk/db/installed", text)]))]);
        let used: Vec<&String> = listing.uses["apk:a::1"].iter().collect();
        assert_eq!(used, ["apk:b::2", "apk:musl::3"]);
        assert_eq!(listing.warnings, Vec::<String>::new());
    }

    #[test]
    fn files_are_known_by_their_place() {
        for (path, expected) in [
            ("var/lib/dpkg/status.d/a", Some(Database::DpkgPart)),
            ("var/lib/dpkg/status.d/a.md5sums", None),
            ("var/lib/dpkg/status.d/a/b", None),
            ("var/lib/dpkg/status-old", None),
            ("usr/lib/sysimage/rpm/Packages.db", Some(Database::RpmNdb)),
            ("cnb/sbom/bd14.syft.json", Some(Database::Listing(Format::Syft))),
            ("cnb/sbom/x/bd14.syft.json", None),
        ] {
            assert_eq!(Database::at(path), expected, "{path}");
        }
        assert!(["", "var", "var/lib/dpkg", "usr"].iter().all(|path| Database::is_above(path)));
        assert!(!["va", "var/lib/dpk", "opt"].iter().any(|path| Database::is_above(path)));
    }

    #[test]
    fn what_was_found_survives_being_kept() {
        let found =
            layer(&[DEBIAN, ("var/lib/dpkg/status", &status(&[("a", "1")])), ("var/lib/rpm/Packages", "")]);
        let text = serde_json::to_string(&found).unwrap();
        assert_eq!(serde_json::from_str::<LayerPackages>(&text).unwrap(), found);
    }
}
