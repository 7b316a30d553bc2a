//! SPDX 2 (<https://spdx.github.io/spdx-spec/v2.3/>).

use super::limited::{Limited, text};
use super::{Format, Listing, ReadError, parse};
use crate::component::{Component, Hash, Kind};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    #[serde(default, deserialize_with = "text")]
    spdx_version: String,
    #[serde(default)]
    packages: Limited<Package>,
    #[serde(default)]
    relationships: Limited<Relationship>,
    #[serde(default)]
    document_describes: Limited<String>,
    #[serde(default)]
    has_extracted_licensing_infos: Limited<Extracted>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Package {
    #[serde(default, rename = "SPDXID", deserialize_with = "text")]
    id: String,
    #[serde(default, deserialize_with = "text")]
    name: String,
    #[serde(default, deserialize_with = "text")]
    version_info: String,
    #[serde(default, deserialize_with = "text")]
    license_declared: String,
    #[serde(default, deserialize_with = "text")]
    license_concluded: String,
    #[serde(default, deserialize_with = "text")]
    primary_package_purpose: String,
    #[serde(default, deserialize_with = "text")]
    supplier: String,
    #[serde(default, deserialize_with = "text")]
    description: String,
    #[serde(default)]
    external_refs: Limited<External>,
    #[serde(default)]
    checksums: Limited<Checksum>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct External {
    #[serde(default, deserialize_with = "text")]
    reference_type: String,
    #[serde(default, deserialize_with = "text")]
    reference_locator: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Checksum {
    #[serde(default, deserialize_with = "text")]
    algorithm: String,
    #[serde(default, deserialize_with = "text")]
    checksum_value: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Relationship {
    #[serde(default, deserialize_with = "text")]
    spdx_element_id: String,
    #[serde(default, deserialize_with = "text")]
    relationship_type: String,
    #[serde(default, deserialize_with = "text")]
    related_spdx_element: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Extracted {
    #[serde(default, deserialize_with = "text")]
    license_id: String,
    #[serde(default, deserialize_with = "text")]
    name: String,
    #[serde(default, deserialize_with = "text")]
    extracted_text: String,
}

pub(super) fn read(bytes: &[u8]) -> Result<Listing, ReadError> {
    let format = Format::Spdx;
    let document: Document = parse(format, bytes)?;
    match document.spdx_version.as_str() {
        "SPDX-2.2" | "SPDX-2.3" => {}
        "" => {
            let reason = "it has no spdxVersion".to_owned();
            return Err(ReadError::Malformed { format, reason });
        }
        version => {
            let version = super::short(version.trim_start_matches("SPDX-"));
            return Err(ReadError::Version { format, version, known: "2.2 and 2.3" });
        }
    }
    let mut listing = Listing::default();
    let subject = subject(&document);
    let names: BTreeMap<String, String> =
        document.has_extracted_licensing_infos.into_iter().map(Extracted::named).collect();
    for package in document.packages {
        if subject.as_deref() == Some(package.id.as_str()) {
            continue;
        }
        add(&mut listing, package, &names);
    }
    for Relationship { spdx_element_id: from, relationship_type: kind, related_spdx_element: to } in
        document.relationships
    {
        let (from, to) = match kind.as_str() {
            "DEPENDS_ON" => (from, to),
            "DEPENDENCY_OF" | "RUNTIME_DEPENDENCY_OF" => (to, from),
            _ => continue,
        };
        if Some(&from) != subject.as_ref() && listing.components.contains_key(&from) {
            listing.needs(&from, &to);
        }
    }
    Ok(listing.settle())
}

/// What the document is about, when that is no package itself but a folder or an image.
fn subject(document: &Document) -> Option<String> {
    let described = document.relationships.0.iter().filter_map(|relationship| {
        let is_whole = relationship.spdx_element_id == "SPDXRef-DOCUMENT";
        (is_whole && relationship.relationship_type == "DESCRIBES")
            .then_some(&relationship.related_spdx_element)
    });
    let described: BTreeSet<&String> = described.chain(&document.document_describes.0).collect();
    let only = described.first().filter(|_| described.len() == 1)?;
    let package = document.packages.0.iter().find(|package| package.id == **only)?;
    let is_package = package.external_refs.0.iter().any(|external| external.reference_type == "purl")
        && Kind::of(&package.primary_package_purpose) != Kind::Container;
    (!is_package && document.packages.0.len() > 1).then(|| (*only).clone())
}

impl Extracted {
    /// What the document calls a license, and what others do.
    fn named(self) -> (String, String) {
        let own = [self.name, self.extracted_text].into_iter().find(|text| {
            let is_short = !text.contains('\n') && text.len() < 200;
            is_short && !matches!(text.as_str(), "" | "NOASSERTION" | "NONE")
        });
        let name = own.unwrap_or_else(|| self.license_id.trim_start_matches("LicenseRef-").to_owned());
        (self.license_id, name)
    }
}

fn add(listing: &mut Listing, package: Package, license_names: &BTreeMap<String, String>) {
    let locator = |kind: &str| {
        let found = package.external_refs.0.iter().find(|external| external.reference_type == kind);
        found.map(|external| external.reference_locator.as_str())
    };
    let supplier = package.supplier.trim_start_matches("Organization: ").trim_start_matches("Person: ");
    let mut component = Component {
        kind: Kind::of(&package.primary_package_purpose),
        name: package.name,
        version: package.version_info,
        purl: listing.purl(locator("purl")),
        description: package.description,
        supplier: if supplier == "NOASSERTION" { String::new() } else { supplier.to_owned() },
        ..Component::default()
    };
    component.hashes = package
        .checksums
        .into_iter()
        .filter_map(|sum| Hash::new(&sum.algorithm, &sum.checksum_value))
        .collect();
    for external in package.external_refs.0.iter().filter(|e| e.reference_type == "cpe23Type") {
        component.add_cpe(&external.reference_locator);
    }
    let declared = Some(package.license_declared).filter(|text| !matches!(text.as_str(), "" | "NOASSERTION"));
    let license = declared.unwrap_or(package.license_concluded);
    // `LicenseRef-…` means something in its own document only.
    if license.contains("LicenseRef-") {
        for word in license.split(|c: char| c.is_whitespace() || "()".contains(c)) {
            match license_names.get(word) {
                Some(name) => component.add_license(name),
                None if matches!(word, "AND" | "OR" | "WITH" | "") => {}
                None => component.add_license(word.trim_start_matches("LicenseRef-")),
            }
        }
    } else {
        component.add_license(&license);
    }
    listing.insert(&package.id, component);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_and_what_they_need_are_found() {
        let text = r#"{"spdxVersion":"SPDX-2.3","packages":[
            {"SPDXID":"SPDXRef-root","name":"/layers/x","primaryPackagePurpose":"FILE"},
            {"SPDXID":"SPDXRef-a","name":"a","versionInfo":"1","licenseDeclared":"LicenseRef-1 AND MIT","supplier":"Organization: O",
             "externalRefs":[{"referenceType":"purl","referenceLocator":"pkg:npm/a@1"},
                {"referenceType":"cpe23Type","referenceLocator":"cpe:2.3:a:a:a:1:*:*:*:*:*:*:*"}],
             "checksums":[{"algorithm":"SHA1","checksumValue":"0123456789012345678901234567890123456789"}]},
            {"SPDXID":"SPDXRef-b","name":"b","licenseDeclared":"NOASSERTION","licenseConcluded":"ISC"}],
            "relationships":[{"spdxElementId":"SPDXRef-DOCUMENT","relationshipType":"DESCRIBES","relatedSpdxElement":"SPDXRef-root"},
            {"spdxElementId":"SPDXRef-root","relationshipType":"DEPENDS_ON","relatedSpdxElement":"SPDXRef-a"},
            {"spdxElementId":"SPDXRef-b","relationshipType":"DEPENDENCY_OF","relatedSpdxElement":"SPDXRef-a"}],
            "hasExtractedLicensingInfos":[{"licenseId":"LicenseRef-1","name":"One","extractedText":"x\ny"}]}"#;
        let listing = read(text.as_bytes()).unwrap();
        assert_eq!((listing.components.len(), listing.warnings.len()), (2, 0), "{listing:?}");
        let a = &listing.components["SPDXRef-a"];
        assert_eq!((a.key().as_str(), a.supplier.as_str()), ("pkg:npm/a@1", "O"));
        assert_eq!((a.hashes.len(), a.cpes.len()), (1, 1));
        assert_eq!(a.licenses.iter().map(String::as_str).collect::<Vec<_>>(), ["MIT", "One"]);
        assert!(listing.uses["SPDXRef-a"].contains("SPDXRef-b"));
        assert!(listing.components["SPDXRef-b"].licenses.contains("ISC"));
    }

    #[test]
    fn other_documents_are_refused() {
        for (text, expected) in [
            ("{}", "no spdxVersion"),
            (r#"{"spdxVersion":"SPDX-3.0"}"#, "SPDX 3.0 is not known here; known is 2.2 and 2.3"),
            (r#"{"spdxVersion":"SPDX-2.3","packages":{}}"#, "expected a list"),
        ] {
            let error = read(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
