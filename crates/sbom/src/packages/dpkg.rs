//! Packages of Debian and its relatives: `/var/lib/dpkg/status`, and the files of distroless images, which have one for
//! each package (<https://www.debian.org/doc/debian-policy/ch-controlfields.html>).

use super::{MAX_PACKAGES, Package};
use std::collections::BTreeMap;

/// Whether entries say that they are installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    /// Only those count that do.
    Told,
    /// All are.
    Known,
}

pub(super) fn read(bytes: &[u8], status: Status) -> Result<Vec<Package>, String> {
    let text = String::from_utf8_lossy(bytes);
    let mut packages = Vec::new();
    for stanza in stanzas(&text) {
        let field = |name: &str| stanza.get(name).copied().unwrap_or_default();
        let is_installed =
            field("status").split_whitespace().nth(2).map_or(status == Status::Known, |state| {
                // Half-configured and triggered ones have their files.
                !matches!(state, "not-installed" | "config-files" | "half-installed")
            });
        if !is_installed || field("package").is_empty() {
            continue;
        }
        if packages.len() == MAX_PACKAGES {
            return Err(format!("it has more than {MAX_PACKAGES} packages"));
        }
        packages.push(package(&field));
    }
    if packages.is_empty() && status == Status::Known {
        return Err("no package is described in it".to_owned());
    }
    Ok(packages)
}

/// Fields by their names in lower case; of those with several lines, the first one.
fn stanzas(text: &str) -> impl Iterator<Item = BTreeMap<String, &str>> {
    let mut lines = text.lines();
    std::iter::from_fn(move || {
        let mut fields = BTreeMap::new();
        for line in lines.by_ref() {
            if line.trim().is_empty() {
                if fields.is_empty() {
                    continue;
                }
                return Some(fields);
            }
            if let Some((name, value)) = line.split_once(':').filter(|_| !line.starts_with([' ', '\t'])) {
                fields.insert(name.to_ascii_lowercase(), value.trim());
            }
        }
        (!fields.is_empty()).then_some(fields)
    })
}

fn package<'a>(field: &impl Fn(&str) -> &'a str) -> Package {
    // `name (version)`, if the version is another.
    let source = field("source").split(" (").next().unwrap_or_default();
    let source_version = field("source").split_once(" (").map(|(_, rest)| rest.trim_end_matches(')'));
    let name = field("package");
    let provides = field("provides").split(',').map(bare).filter(|name| !name.is_empty());
    let needs = [field("pre-depends"), field("depends")];
    let needs = needs.iter().flat_map(|list| list.split(','));
    Package {
        name: name.to_owned(),
        version: field("version").to_owned(),
        arch: field("architecture").to_owned(),
        source: match (source, source_version) {
            ("", _) => String::new(),
            (source, None) if source == name => String::new(),
            (source, None) => source.to_owned(),
            (source, Some(version)) => format!("{source}@{version}"),
        },
        supplier: field("maintainer").to_owned(),
        description: field("description").to_owned(),
        provides: provides.map(str::to_owned).collect(),
        needs: needs
            .map(|choice| choice.split('|').map(|name| bare(name).to_owned()).collect::<Vec<_>>())
            .filter(|choice| choice.iter().any(|name| !name.is_empty()))
            .collect(),
        ..Package::default()
    }
}

/// A name without version and architecture.
fn bare(text: &str) -> &str {
    text.split(['(', '[', '<']).next().unwrap_or_default().trim().split(':').next().unwrap_or_default().trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_installed_counts() {
        let text = "Package: a\nStatus: install ok installed\nVersion: 1:2-3\nArchitecture: amd64\nSource: src (9)\n\
            Depends: libc6 (>= 2.36), b | c:any\nPre-Depends: d\nProvides: x (= 1), y\nDescription: first\n more\n .\n\
            Maintainer: M <m@x>\n\n\nPackage: gone\nStatus: deinstall ok config-files\nVersion: 1\n\n\
            Package: half\nStatus: install ok unpacked\nVersion: 2\n\nStatus: install ok installed\n";
        let found = read(text.as_bytes(), Status::Told).unwrap();
        assert_eq!(found.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(), ["a", "half"]);
        let a = &found[0];
        assert_eq!((a.version.as_str(), a.arch.as_str(), a.source.as_str()), ("1:2-3", "amd64", "src@9"));
        assert_eq!((a.description.as_str(), a.supplier.as_str()), ("first", "M <m@x>"));
        assert_eq!(a.provides.iter().map(String::as_str).collect::<Vec<_>>(), ["x", "y"]);
        let needs: Vec<String> = a.needs.iter().map(|choice| choice.join("|")).collect();
        assert_eq!(needs, ["b|c", "d", "libc6"]);
    }

    #[test]
    fn a_part_needs_no_status() {
        assert_eq!(
            read(b"Package: tzdata\nVersion: 1\nSource: tzdata\n", Status::Known).unwrap()[0].source,
            ""
        );
        assert_eq!(read(b"Package: tzdata\nVersion: 1\n", Status::Told).unwrap(), []);
        assert!(read(b"\xff\xfe nonsense", Status::Known).is_err());
    }
}
