//! The buildpack registry: an index of buildpackages by name and version, one file of JSON lines for each buildpack.

use crate::images::failure;
use serde::Deserialize;
use strata_oci::Reference;
use strata_phases::Failure;
use strata_spec::exit::Exit;
use strata_store::source::Surroundings;

/// Where the index is.
const INDEX: &str = "https://raw.githubusercontent.com/buildpacks/registry-index/main";
/// The variable that names another one.
const VARIABLE: &str = "STRATA_BUILDPACK_REGISTRY";
/// The largest file of the index that is read, in bytes.
const LIMIT: u64 = 16 << 20;

/// One version of a buildpack.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Entry {
    ns: String,
    name: String,
    version: String,
    #[serde(default)]
    yanked: bool,
    addr: String,
}

/// The image that the registry lists for a buildpack, by its digest.
pub(super) fn find(id: &str, version: &str, surroundings: &Surroundings<'_>) -> Result<String, Failure> {
    let what = format!("cannot find {id} in the buildpack registry");
    let refused = |problem: &str| Failure::new(Exit::InvalidArguments, format!("{what}: {problem}"));
    let path = path(id).ok_or_else(|| {
        refused("it is no name").hint("urn:cnb:registry:NAMESPACE/NAME, perhaps with @VERSION")
    })?;
    let index = (surroundings.variable)(VARIABLE).unwrap_or_else(|| INDEX.to_owned());
    let mut bytes = Vec::new();
    surroundings
        .fetch(&format!("{}/{path}", index.trim_end_matches('/')), LIMIT, &mut bytes)
        .map_err(|error| failure(Exit::InvalidArguments, &what, &error))?;
    let entry = choose(&String::from_utf8_lossy(&bytes), id, version).map_err(|problem| refused(&problem))?;
    let is_fixed = entry.addr.parse::<Reference>().is_ok_and(|name| name.digest().is_some());
    if is_fixed { Ok(entry.addr) } else { Err(refused("it lists no image by its digest")) }
}

/// The file of a buildpack in the index: in folders by the letters that its name begins with.
fn path(id: &str) -> Option<String> {
    let (namespace, name) = id.split_once('/')?;
    let is_plain = |text: &str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        !text.is_empty() && text.chars().all(plain) && !text.starts_with('.')
    };
    if !is_plain(namespace) || !is_plain(name) {
        return None;
    }
    let folders = match name.len() {
        count @ (1 | 2) => count.to_string(),
        3 => format!("3/{}", name.get(..2)?),
        _ => format!("{}/{}", name.get(..2)?, name.get(2..4)?),
    };
    Some(format!("{folders}/{namespace}_{name}"))
}

/// The version that is asked for, or else the newest that was not taken back.
fn choose(lines: &str, id: &str, version: &str) -> Result<Entry, String> {
    let all = lines.lines().filter(|line| !line.trim().is_empty());
    let all = all.map(serde_json::from_str::<Entry>).collect::<Result<Vec<_>, _>>();
    let mut all = all.map_err(|error| format!("the index is broken: {error}"))?;
    all.retain(|entry| format!("{}/{}", entry.ns, entry.name) == id);
    let versions: Vec<String> =
        all.iter().filter(|entry| !entry.yanked).map(|entry| entry.version.clone()).collect();
    let has_any = !all.is_empty();
    let found = match version {
        "" => all.into_iter().filter(|entry| !entry.yanked).max_by_key(|entry| order(&entry.version)),
        version => all.into_iter().find(|entry| entry.version == version),
    };
    match found {
        Some(entry) if entry.yanked => Err(format!("its version {version} was taken back")),
        Some(entry) => Ok(entry),
        None if versions.is_empty() && has_any => Err("all its versions were taken back".to_owned()),
        None if versions.is_empty() => Err("the index lists no version of it".to_owned()),
        None => Err(format!("there is no version {version}; there are {}", versions.join(", "))),
    }
}

/// Versions in their order: by numbers, and those without a suffix after those with one.
fn order(version: &str) -> (Vec<u64>, bool, String) {
    let plain = version.split('+').next().unwrap_or_default();
    let (numbers, suffix) = plain.split_once('-').unwrap_or((plain, ""));
    let numbers = numbers.split('.').map(|part| part.parse().unwrap_or(0)).collect();
    (numbers, suffix.is_empty(), suffix.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_the_index_are_found_by_the_name() {
        for (id, expected) in [
            ("a/b", Some("1/a_b")),
            ("a/bc", Some("2/a_bc")),
            ("a/bcd", Some("3/bc/a_bcd")),
            ("heroku/nodejs-engine", Some("no/de/heroku_nodejs-engine")),
            ("nodejs", None),
            ("../x", None),
            ("a/../../b", None),
            ("a/é", None),
        ] {
            assert_eq!(path(id).as_deref(), expected, "{id}");
        }
    }

    #[test]
    fn the_newest_version_is_taken_unless_one_is_named() {
        let line = |version: &str, yanked: bool| {
            format!(
                "{{\"ns\":\"a\",\"name\":\"b\",\"version\":\"{version}\",\"yanked\":{yanked},\"addr\":\"x@{version}\"}}\n"
            )
        };
        let all =
            [line("1.9.0", false), line("1.10.0", false), line("1.10.0-rc1", false), line("2.0.0", true)]
                .concat();
        for (version, expected) in [
            ("", Ok("1.10.0")),
            ("1.9.0", Ok("1.9.0")),
            ("2.0.0", Err("taken back")),
            ("3", Err("there are 1.9.0, 1.10.0")),
        ] {
            match (choose(&all, "a/b", version), expected) {
                (Ok(entry), Ok(expected)) => assert_eq!(entry.version, expected),
                (Err(problem), Err(expected)) => assert!(problem.contains(expected), "{problem}"),
                (found, _) => panic!("{version}: {found:?}"),
            }
        }
        let yanked = [line("1.0.0", true), line("2.0.0", true)].concat();
        for (lines, version, expected) in [
            (&*yanked, "", "all its versions were taken back"),
            (&yanked, "3", "all its versions were taken back"),
            (&yanked, "1.0.0", "its version 1.0.0 was taken back"),
            (&all.replace("\"b\"", "\"c\""), "", "the index lists no version of it"),
        ] {
            assert_eq!(choose(lines, "a/b", version).unwrap_err(), expected);
        }
        assert!(choose("{", "a/b", "").is_err());
    }
}
