//! One thing that an image is made of.

use crate::purl::Purl;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use strata_spec::origins::without_credentials;

/// What a component is, in the words of CycloneDX.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A program.
    Application,
    /// A framework.
    Framework,
    /// Anything that others use, and all that is not known better.
    #[default]
    Library,
    /// An image.
    Container,
    /// A distribution.
    OperatingSystem,
    /// Software of a device.
    Firmware,
    /// A single file.
    File,
    /// Data.
    Data,
}

impl Kind {
    /// All of them.
    pub const ALL: &'static [Self] = &[
        Self::Application,
        Self::Framework,
        Self::Library,
        Self::Container,
        Self::OperatingSystem,
        Self::Firmware,
        Self::File,
        Self::Data,
    ];

    /// The word of CycloneDX.
    pub fn word(self) -> &'static str {
        match self {
            Self::Application => "application",
            Self::Framework => "framework",
            Self::Library => "library",
            Self::Container => "container",
            Self::OperatingSystem => "operating-system",
            Self::Firmware => "firmware",
            Self::File => "file",
            Self::Data => "data",
        }
    }

    /// The kind of a word, whether CycloneDX or SPDX wrote it.
    pub fn of(word: &str) -> Self {
        let word = word.to_ascii_lowercase().replace('_', "-");
        Self::ALL.iter().copied().find(|kind| kind.word() == word).unwrap_or_default()
    }
}

/// Where a component was found. With neither buildpack nor layer: in the run image.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Origin {
    /// The id of the buildpack.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub buildpack: Option<String>,
    /// Its version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The name of the layer; without one, the buildpack said it of all that it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer: Option<String>,
    /// The layer's diffID, where it is known.
    #[serde(rename = "diffID", skip_serializing_if = "Option::is_none")]
    pub diff_id: Option<String>,
}

impl Origin {
    /// The run image, in the layer with this diffID.
    pub fn run_image(diff_id: Option<&str>) -> Self {
        Self { diff_id: diff_id.map(str::to_owned), ..Self::default() }
    }

    /// All that a buildpack did.
    pub fn buildpack(id: &str, version: &str) -> Self {
        Self { buildpack: Some(id.to_owned()), version: Some(version.to_owned()), ..Self::default() }
    }

    /// One layer of a buildpack.
    pub fn layer(id: &str, version: &str, layer: &str, diff_id: Option<&str>) -> Self {
        let diff_id = diff_id.filter(|text| !text.is_empty()).map(str::to_owned);
        Self { layer: Some(layer.to_owned()), diff_id, ..Self::buildpack(id, version) }
    }

    /// Whether it is the run image.
    pub fn is_run_image(&self) -> bool {
        self.buildpack.is_none()
    }

    /// `<buildpack>@<version>`.
    pub fn buildpack_label(&self) -> Option<String> {
        let id = self.buildpack.as_ref()?;
        Some(match self.version.as_deref().filter(|version| !version.is_empty()) {
            Some(version) => format!("{id}@{version}"),
            None => id.clone(),
        })
    }

    /// As short as it can be told: the layer, else the buildpack, else the run image.
    pub fn short(&self) -> String {
        self.layer_label().or_else(|| self.buildpack_label()).unwrap_or_else(|| "run image".to_owned())
    }

    /// `<buildpack>:<layer>`, as the log of a build names layers.
    pub fn layer_label(&self) -> Option<String> {
        Some(format!("{}:{}", self.buildpack.as_ref()?, self.layer.as_ref()?))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.buildpack_label(), &self.layer) {
            (Some(buildpack), Some(layer)) => write!(out, "layer {layer} of buildpack {buildpack}"),
            (Some(buildpack), None) => write!(out, "buildpack {buildpack}"),
            (None, _) => out.write_str("run image"),
        }
    }
}

/// A checksum of a component.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Hash {
    /// As CycloneDX writes it: `SHA-256`.
    pub algorithm: String,
    /// Lower-case hex digits.
    pub hex: String,
}

/// Algorithms that both formats have: the word of CycloneDX, that of SPDX, and how many hex digits there are.
pub(crate) const ALGORITHMS: &[(&str, &str, usize)] = &[
    ("MD5", "MD5", 32),
    ("SHA-1", "SHA1", 40),
    ("SHA-256", "SHA256", 64),
    ("SHA-384", "SHA384", 96),
    ("SHA-512", "SHA512", 128),
    ("SHA3-256", "SHA3-256", 64),
    ("SHA3-384", "SHA3-384", 96),
    ("SHA3-512", "SHA3-512", 128),
];

impl Hash {
    /// A checksum whose algorithm either format names; `None` for one that both cannot write.
    pub fn new(algorithm: &str, hex: &str) -> Option<Self> {
        let (word, _, digits) = ALGORITHMS
            .iter()
            .find(|(cyclonedx, spdx, _)| algorithm.eq_ignore_ascii_case(cyclonedx) || algorithm == *spdx)?;
        let is_hex = hex.len() == *digits && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_hex.then(|| Self { algorithm: (*word).to_owned(), hex: hex.to_ascii_lowercase() })
    }

    /// The algorithm as SPDX writes it.
    pub(crate) fn in_spdx(&self) -> &str {
        ALGORITHMS.iter().find(|(word, ..)| *word == self.algorithm).map_or("OTHER", |(_, spdx, _)| spdx)
    }
}

/// One thing that an image is made of. Two with the same [`key`](Self::key) are one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Component {
    /// What it is.
    pub kind: Kind,
    /// The group of its name: an organization, a scope; may be empty.
    pub group: String,
    /// Its name; never empty.
    pub name: String,
    /// Its version; may be empty.
    pub version: String,
    /// Its package URL.
    pub purl: Option<Purl>,
    /// Names in the Common Platform Enumeration, version 2.3.
    pub cpes: BTreeSet<String>,
    /// Licenses, as they were written.
    pub licenses: BTreeSet<String>,
    /// Checksums.
    pub hashes: BTreeSet<Hash>,
    /// What it is, for people.
    pub description: String,
    /// Who it comes from.
    pub supplier: String,
    /// Where it was found.
    pub found_in: BTreeSet<Origin>,
    /// Keys of the components that it needs.
    pub uses: BTreeSet<String>,
}

impl Component {
    /// What it is told apart by: its package URL, else its name and version.
    pub fn key(&self) -> String {
        match &self.purl {
            Some(purl) => purl.key(),
            None => format!("component:{}@{}", self.full_name(), self.version),
        }
    }

    /// Group and name.
    pub fn full_name(&self) -> String {
        match self.group.as_str() {
            "" => self.name.clone(),
            group => format!("{group}/{}", self.name),
        }
    }

    /// What stays the same when only the version changes.
    pub fn identity(&self) -> String {
        match &self.purl {
            Some(purl) => purl.without_version(),
            None => format!("component:{}", self.full_name()),
        }
    }

    /// Takes credentials out of URLs: buildpacks list what they were told to fetch, and from where.
    pub(crate) fn redact(&mut self) {
        let texts =
            [&mut self.group, &mut self.name, &mut self.version, &mut self.description, &mut self.supplier];
        for text in texts {
            if let Cow::Owned(clean) = without_credentials(text) {
                *text = clean;
            }
        }
        self.licenses =
            std::mem::take(&mut self.licenses).iter().map(|l| without_credentials(l).into_owned()).collect();
        if let Some(purl) = &mut self.purl {
            purl.redact();
        }
    }

    /// Adds what another says of the same thing.
    pub(crate) fn absorb(&mut self, other: Self) {
        let fill = |own: &mut String, others: String| {
            if own.is_empty() {
                *own = others;
            }
        };
        fill(&mut self.group, other.group);
        fill(&mut self.description, other.description);
        fill(&mut self.supplier, other.supplier);
        if self.kind == Kind::Library {
            self.kind = other.kind;
        }
        // The longest says most; of equals, either does.
        let length =
            |purl: &Option<Purl>| purl.as_ref().map(ToString::to_string).map(|text| (text.len(), text));
        if length(&other.purl) > length(&self.purl) {
            self.purl = other.purl;
        }
        self.cpes.extend(other.cpes);
        self.licenses.extend(other.licenses);
        self.hashes.extend(other.hashes);
        self.found_in.extend(other.found_in);
        self.uses.extend(other.uses);
    }

    /// Adds a license, unless the text says that none is known.
    pub(crate) fn add_license(&mut self, text: &str) {
        let text = text.trim();
        if !matches!(text, "" | "NOASSERTION" | "NONE") {
            self.licenses.insert(text.to_owned());
        }
    }

    /// Adds a name of the Common Platform Enumeration, if it is one of version 2.3.
    pub(crate) fn add_cpe(&mut self, text: &str) {
        if is_cpe(text) {
            self.cpes.insert(text.to_owned());
        }
    }
}

/// Whether both formats take a text as a name of version 2.3: they give the same pattern for it.
fn is_cpe(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("cpe:2.3:") else { return false };
    let mut parts = vec![String::new()];
    let mut escaped = false;
    for c in rest.chars() {
        if c == ':' && !escaped {
            parts.push(String::new());
        } else if let Some(last) = parts.last_mut() {
            last.push(c);
        }
        escaped = c == '\\' && !escaped;
    }
    let [kind, rest @ ..] = parts.as_slice() else { return false };
    let is_part = |(at, part): (usize, &String)| match at {
        // Vendor, product, version, update, edition, language, …
        5 => is_language(part),
        _ => is_value(part),
    };
    rest.len() == 10
        && matches!(kind.as_str(), "a" | "h" | "o" | "*" | "-")
        && rest.iter().enumerate().all(is_part)
}

fn is_value(part: &str) -> bool {
    if matches!(part, "*" | "-") {
        return true;
    }
    // Placeholders stand at the ends only.
    let is_end = |c: char| matches!(c, '*' | '?');
    let start = part.trim_start_matches(is_end);
    let mut inner = start.chars().peekable();
    let mut is_some = false;
    while let Some(c) = inner.next() {
        match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '.' | '_' => is_some = true,
            '\\' if inner.next().is_some_and(|c| c.is_ascii_punctuation() && !"-._".contains(c)) => {
                is_some = true
            }
            c if is_end(c) => return is_some && inner.all(is_end),
            _ => return false,
        }
    }
    is_some
}

fn is_language(part: &str) -> bool {
    let (language, region) = part.split_once('-').unwrap_or((part, ""));
    let is_region = match region.len() {
        0 => !part.contains('-'),
        2 => region.bytes().all(|b| b.is_ascii_alphabetic()),
        3 => region.bytes().all(|b| b.is_ascii_digit()),
        _ => false,
    };
    let is_word = matches!(language.len(), 2 | 3) && language.bytes().all(|b| b.is_ascii_alphabetic());
    matches!(part, "*" | "-") || is_word && is_region
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_known_by_both_names_and_by_their_length() {
        let hex = "A".repeat(64);
        let hash = Hash::new("SHA256", &hex).unwrap();
        assert_eq!((hash.algorithm.as_str(), hash.in_spdx()), ("SHA-256", "SHA256"));
        assert_eq!(hash.hex, "a".repeat(64));
        assert_eq!(Hash::new("sha-256", &hex), Some(hash));
        assert!(Hash::new("SHA-1", &hex).is_none() && Hash::new("CRC", "00").is_none());
    }

    #[test]
    fn what_was_fetched_with_a_password_is_listed_without_it() {
        let url = "https://me:planted-secret@example.com/n?token=planted-secret";
        let mut component = Component {
            name: "n".into(),
            version: format!("git+{url}"),
            description: format!("fetched from {url}"),
            purl: format!("pkg:npm/n@1?vcs_url={}", url.replace('?', "%3F")).parse().ok(),
            licenses: [format!("see {url}")].into(),
            ..Component::default()
        };
        component.redact();
        assert!(!serde_json::to_string(&component).unwrap().contains("planted-secret"), "{component:?}");
        assert_eq!(component.version, "git+https://example.com/n?token=");
        assert_eq!(component.key(), "pkg:npm/n@1?vcs_url=https://example.com/n%3Ftoken%3D");
    }

    #[test]
    fn only_whole_names_of_platforms_are_kept() {
        let mut component = Component::default();
        for text in [
            "cpe:2.3:a:gnu:bash:5.2:*:*:*:*:*:*:*",
            "cpe:2.3:a:x:c\\:d:1:*:*:en-us:*:*:*:*",
            "cpe:2.3:a:x:lib\\+\\+*:1:*:*:*:*:*:*:*",
            "cpe:2.3:a:gnu:lib++:5.2:*:*:*:*:*:*:*",
            "cpe:2.3:a:gnu:a*b:5.2:*:*:*:*:*:*:*",
            "cpe:2.3:a:gnu:a b:5.2:*:*:*:*:*:*:*",
            "cpe:2.3:a:gnu::5.2:*:*:*:*:*:*:*",
            "cpe:2.3:a:gnu:a:5.2:*:*:english:*:*:*:*",
            "cpe:/a:gnu:bash",
            "cpe:2.3:a:b",
            "cpe:2.3:z:gnu:bash:5.2:*:*:*:*:*:*:*",
            "",
        ] {
            component.add_cpe(text);
        }
        assert_eq!(component.cpes.len(), 3, "{:?}", component.cpes);
    }

    #[test]
    fn kinds_have_a_word_in_both_formats() {
        for kind in Kind::ALL {
            assert_eq!(Kind::of(kind.word()), *kind);
        }
        assert_eq!(Kind::of("OPERATING_SYSTEM"), Kind::OperatingSystem);
        assert_eq!(Kind::of("whatever"), Kind::Library);
    }
}
