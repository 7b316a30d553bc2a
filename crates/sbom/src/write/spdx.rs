//! SPDX 2.3 (<https://spdx.github.io/spdx-spec/v2.3/>).

use super::{Subject, TOOL};
use crate::bill::Bill;
use crate::component::{Component, Kind};
use crate::license;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use strata_oci::Digest;

/// Where the name of a document begins; nothing needs to be there.
const NAMESPACE: &str = concat!(env!("CARGO_PKG_REPOSITORY"), "/spdx/");
const IMAGE: &str = "SPDXRef-Image";

pub(super) fn document(bill: &Bill, subject: &Subject<'_>) -> Value {
    let mut own_licenses = BTreeMap::new();
    let mut packages = vec![image(subject)];
    packages.extend(bill.components().map(|(key, of)| package(key, of, &mut own_licenses)));
    let mut document = json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": if subject.name.is_empty() { super::SUBJECT } else { subject.name },
        "documentNamespace": format!("{NAMESPACE}{}", subject.uuid(bill)),
        "creationInfo": {
            "created": super::whole_seconds(subject.created),
            "creators": [format!("Tool: {}-{}", TOOL.0, TOOL.1)],
        },
        "packages": packages,
        "relationships": relationships(bill),
    });
    if !own_licenses.is_empty() {
        document["hasExtractedLicensingInfos"] = own_licenses
            .iter()
            .map(|(id, text)| json!({"licenseId": id, "name": text, "extractedText": text}))
            .collect();
    }
    document
}

fn image(subject: &Subject<'_>) -> Value {
    json!({
        "SPDXID": IMAGE,
        "name": if subject.name.is_empty() { super::SUBJECT } else { subject.name },
        "versionInfo": subject.digest.to_string(),
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": false,
        "checksums": [{"algorithm": "SHA256", "checksumValue": subject.digest.hex()}],
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": "NOASSERTION",
        "copyrightText": "NOASSERTION",
        "primaryPackagePurpose": "CONTAINER",
        "externalRefs": [external("PACKAGE-MANAGER", "purl", &subject.purl().to_string())],
    })
}

fn external(category: &str, kind: &str, locator: &str) -> Value {
    json!({"referenceCategory": category, "referenceType": kind, "referenceLocator": locator})
}

fn package(key: &str, of: &Component, own_licenses: &mut BTreeMap<String, String>) -> Value {
    let mut out = Map::from_iter([
        ("SPDXID".to_owned(), json!(reference(key, &of.name))),
        ("name".to_owned(), json!(of.full_name())),
    ]);
    let mut put = |name: &str, value: Value| {
        let is_empty =
            value.as_str().is_some_and(str::is_empty) || value.as_array().is_some_and(Vec::is_empty);
        if !is_empty {
            out.insert(name.to_owned(), value);
        }
    };
    put("versionInfo", of.version.as_str().into());
    if !of.supplier.is_empty() {
        put("supplier", format!("Organization: {}", of.supplier).into());
    }
    put("downloadLocation", "NOASSERTION".into());
    put("filesAnalyzed", false.into());
    let sums = of.hashes.iter();
    put(
        "checksums",
        sums.map(|hash| json!({"algorithm": hash.in_spdx(), "checksumValue": hash.hex})).collect(),
    );
    put("sourceInfo", source(of).into());
    put("licenseConcluded", "NOASSERTION".into());
    put("licenseDeclared", declared(of, own_licenses).into());
    put("copyrightText", "NOASSERTION".into());
    put("description", of.description.as_str().into());
    let cpes = of.cpes.iter().map(|cpe| external("SECURITY", "cpe23Type", cpe));
    let purl = of.purl.iter().map(|purl| external("PACKAGE-MANAGER", "purl", &purl.to_string()));
    put("externalRefs", cpes.chain(purl).collect());
    put("primaryPackagePurpose", purpose(of.kind).into());
    out.into()
}

/// Where the package was found, in words.
fn source(of: &Component) -> String {
    let places: Vec<String> = of
        .found_in
        .iter()
        .map(|origin| match &origin.diff_id {
            Some(diff_id) => format!("{origin} ({diff_id})"),
            None => origin.to_string(),
        })
        .collect();
    places.join("; ")
}

fn purpose(kind: Kind) -> &'static str {
    match kind {
        Kind::Application => "APPLICATION",
        Kind::Framework => "FRAMEWORK",
        Kind::Library => "LIBRARY",
        Kind::Container => "CONTAINER",
        Kind::OperatingSystem => "OPERATING-SYSTEM",
        Kind::Firmware => "FIRMWARE",
        Kind::File => "FILE",
        Kind::Data => "OTHER",
    }
}

/// All licenses; what is on no list is explained in the document.
fn declared(of: &Component, own: &mut BTreeMap<String, String>) -> String {
    if of.licenses.is_empty() {
        return "NOASSERTION".to_owned();
    }
    let expressions: Vec<String> = of
        .licenses
        .iter()
        .map(|text| {
            if license::is_expression(text) {
                return text.clone();
            }
            let id = format!("LicenseRef-{}", unique(text, text));
            own.insert(id.clone(), text.clone());
            id
        })
        .collect();
    license::all_of(expressions.iter().map(String::as_str))
}

/// What such names may consist of, and a checksum: other texts have other names.
fn unique(text: &str, shown: &str) -> String {
    let plain: String =
        shown.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).take(40).collect();
    let sum = Digest::of(text.as_bytes()).hex();
    format!("{}-{}", plain.trim_matches('-'), &sum[..12]).trim_start_matches('-').to_owned()
}

fn reference(key: &str, name: &str) -> String {
    format!("SPDXRef-{}", unique(key, name))
}

fn relationships(bill: &Bill) -> Vec<Value> {
    let relate = |from: &str, kind: &str, to: &str| json!({"spdxElementId": from, "relationshipType": kind, "relatedSpdxElement": to});
    let ids: BTreeMap<&str, String> =
        bill.components().map(|(key, of)| (key, reference(key, &of.name))).collect();
    let mut all = vec![relate("SPDXRef-DOCUMENT", "DESCRIBES", IMAGE)];
    for (key, of) in bill.components() {
        all.push(relate(IMAGE, "CONTAINS", &ids[key]));
        all.extend(bill.used_by(of).map(|used| relate(&ids[key], "DEPENDS_ON", &ids[used])));
    }
    all
}
