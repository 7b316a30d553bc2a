//! Where the SBOM files of buildpacks belong (buildpack specification, "Software-Bill-of-Materials").

use std::collections::BTreeMap;
use strata_spec::layer::Types;

/// The formats there are: the end of a file's name, and its media type.
pub const FORMATS: &[(&str, &str)] = &[
    ("sbom.cdx.json", "application/vnd.cyclonedx+json"),
    ("sbom.spdx.json", "application/spdx+json"),
    ("sbom.syft.json", "application/vnd.syft+json"),
];

/// What an SBOM is about: the folder below `<layers>/sbom`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum About {
    /// What is in the image.
    Launch,
    /// What was used to build it.
    Build,
    /// What is in the cache.
    Cache,
}

impl About {
    /// The folder's name.
    pub fn folder(self) -> &'static str {
        match self {
            Self::Launch => "launch",
            Self::Build => "build",
            Self::Cache => "cache",
        }
    }
}

/// Where one file is copied to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// What it is about.
    pub about: About,
    /// Its layer; `None` when it is about all that the buildpack did.
    pub layer: Option<String>,
    /// Its name there.
    pub name: &'static str,
}

/// Whether a file in a buildpack's folder is named like an SBOM.
pub fn is_sbom(file: &str) -> bool {
    split(file).is_some()
}

/// `<subject>` and `sbom.<format>.json`.
fn split(file: &str) -> Option<(&str, &str)> {
    let at = file.strip_suffix(".json")?.rfind(".sbom.").filter(|at| *at > 0)?;
    Some((file.get(..at)?, file.get(at + 1..)?))
}

/// Where a file belongs; nowhere when no layer has its name.
///
/// # Errors
/// When its format is unknown, or the buildpack did not declare it.
pub fn places(
    file: &str,
    layers: &BTreeMap<String, Types>,
    declared: &[String],
) -> Result<Vec<Place>, String> {
    let Some((subject, ending)) = split(file) else { return Ok(Vec::new()) };
    let (layer, abouts) = match (subject, layers.get(subject)) {
        ("launch", _) => (None, vec![About::Launch]),
        ("build", _) => (None, vec![About::Build]),
        (_, None) => return Ok(Vec::new()),
        (_, Some(types)) => {
            let first = if types.launch { About::Launch } else { About::Build };
            let cached = types.cache.then_some(About::Cache);
            (Some(subject.to_owned()), std::iter::once(first).chain(cached).collect())
        }
    };
    let Some((name, media_type)) = FORMATS.iter().find(|(name, _)| *name == ending) else {
        return Err(format!("unsupported SBOM file format: '{file}'"));
    };
    // Parameters such as a version are of no interest.
    let is_declared = |text: &String| {
        text.split(';').next().is_some_and(|plain| plain.trim().eq_ignore_ascii_case(media_type))
    };
    if !declared.iter().any(is_declared) {
        return Err(format!(
            "undeclared SBOM media type: '{media_type}' of '{file}' is not in the buildpack's sbom-formats"
        ));
    }
    Ok(abouts.into_iter().map(|about| Place { about, layer: layer.clone(), name }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_belongs_where_its_name_and_its_layers_types_say() {
        let types = |launch, build, cache| Types { launch, build, cache };
        let layers: BTreeMap<String, Types> = [
            ("l", types(true, false, false)),
            ("b", types(false, true, false)),
            ("c", types(false, false, true)),
            ("a.b", types(true, true, true)),
        ]
        .map(|(name, types)| (name.to_owned(), types))
        .into();
        let declared = ["application/vnd.cyclonedx+json;version=1.4".to_owned()];
        use About::{Build, Cache, Launch};
        for (file, expected) in [
            ("launch.sbom.cdx.json", &[(Launch, None)][..]),
            ("build.sbom.cdx.json", &[(Build, None)]),
            ("l.sbom.cdx.json", &[(Launch, Some("l"))]),
            ("b.sbom.cdx.json", &[(Build, Some("b"))]),
            ("c.sbom.cdx.json", &[(Build, Some("c")), (Cache, Some("c"))]),
            ("a.b.sbom.cdx.json", &[(Launch, Some("a.b")), (Cache, Some("a.b"))]),
            ("unknown.sbom.cdx.json", &[]),
            ("unknown.sbom.other.json", &[]),
            ("l.toml", &[]),
            (".sbom.cdx.json", &[]),
        ] {
            let places = places(file, &layers, &declared).unwrap();
            let found: Vec<_> = places.iter().map(|p| (p.about, p.layer.as_deref())).collect();
            assert_eq!(found, expected, "{file}");
        }
    }

    #[test]
    fn what_is_unknown_or_undeclared_is_refused() {
        let none = BTreeMap::new();
        assert!(places("launch.sbom.x.json", &none, &[]).unwrap_err().contains("unsupported"));
        assert!(places("launch.sbom.cdx.json", &none, &[]).unwrap_err().contains("undeclared"));
    }
}
