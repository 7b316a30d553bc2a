//! SPDX 2.3 (<https://spdx.github.io/spdx-spec/v2.3/>).

use serde_json::{Value, json};

use super::{Bill, REPOSITORY, TOOL};
use crate::graph::{Crate, Id};

pub(super) fn write(bill: &Bill<'_>) -> Value {
    let crates = &bill.program.graph.crates;
    let packages: Vec<Value> = crates.iter().map(|(id, of)| package(bill, id, of)).collect();
    json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": format!("{}-{}", bill.program.name, bill.release.version),
        "documentNamespace": format!("{REPOSITORY}/spdx/{}-{}", bill.program.name, bill.uuid()),
        "creationInfo": {
            "created": bill.release.created,
            "creators": [format!("Tool: {}-{}", TOOL.0, TOOL.1)],
        },
        "packages": packages,
        "relationships": relationships(bill),
    })
}

fn package(bill: &Bill<'_>, id: &Id, of: &Crate) -> Value {
    let is_program = *id == bill.program.graph.root;
    let (name, version) =
        if is_program { (bill.program.name, &bill.release.version) } else { (&*id.0, &id.1) };
    let download = match of.checksum {
        Some(_) => format!("https://static.crates.io/crates/{0}/{0}-{1}.crate", id.0, id.1),
        None => bill.source(),
    };
    let sha256 = if is_program { Some(bill.program.digest.hex()) } else { of.checksum.clone() };
    let checksums: Vec<Value> =
        sha256.into_iter().map(|sha256| json!({"algorithm": "SHA256", "checksumValue": sha256})).collect();
    json!({
        "SPDXID": reference(id),
        "name": name,
        "versionInfo": version,
        "downloadLocation": download,
        "filesAnalyzed": false,
        "checksums": checksums,
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": if of.license.is_empty() { "NOASSERTION" } else { &of.license },
        "copyrightText": "NOASSERTION",
        "primaryPackagePurpose": if is_program { "APPLICATION" } else { "LIBRARY" },
        "externalRefs": [{
            "referenceCategory": "PACKAGE-MANAGER",
            "referenceType": "purl",
            "referenceLocator": bill.purl(id, of),
        }],
    })
}

fn relationships(bill: &Bill<'_>) -> Vec<Value> {
    let relate = |from: &str, kind: &str, to: &str| json!({"spdxElementId": from, "relationshipType": kind, "relatedSpdxElement": to});
    let graph = &bill.program.graph;
    let mut all = vec![relate("SPDXRef-DOCUMENT", "DESCRIBES", &reference(&graph.root))];
    for (id, of) in &graph.crates {
        all.extend(of.uses.iter().map(|used| relate(&reference(id), "DEPENDS_ON", &reference(used))));
    }
    all
}

/// Letters, digits, dots and hyphens are all that such a name may have.
fn reference((name, version): &Id) -> String {
    let plain = |text: &str| text.replace(|c: char| !c.is_ascii_alphanumeric() && c != '.', "-");
    format!("SPDXRef-Package-{}-{}", plain(name), plain(version))
}
