//! CycloneDX 1.5 (<https://cyclonedx.org/docs/1.5/json/>).

use serde_json::{Map, Value, json};

use super::{Bill, TOOL};
use crate::graph::{Crate, Id};

pub(super) fn write(bill: &Bill<'_>) -> Value {
    let components: Vec<Value> = bill.libraries().map(|(id, library)| component(bill, id, library)).collect();
    json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": format!("urn:uuid:{}", bill.uuid()),
        "version": 1,
        "metadata": {
            "timestamp": bill.release.created,
            "tools": {"components": [{"type": "application", "name": TOOL.0, "version": TOOL.1}]},
            "component": program(bill),
        },
        "components": components,
        "dependencies": dependencies(bill),
    })
}

fn program(bill: &Bill<'_>) -> Value {
    let mut out = Map::from_iter([
        ("type".to_owned(), json!("application")),
        ("bom-ref".to_owned(), json!(bill.program_purl())),
        ("name".to_owned(), json!(bill.program.name)),
        ("version".to_owned(), json!(bill.release.version)),
        ("hashes".to_owned(), hashes(&bill.program.digest.hex())),
    ]);
    describe(&mut out, &bill.program_purl(), bill.root());
    out.into()
}

fn component(bill: &Bill<'_>, id: &Id, library: &Crate) -> Value {
    let purl = bill.purl(id, library);
    let mut out = Map::from_iter([
        ("type".to_owned(), json!("library")),
        ("bom-ref".to_owned(), json!(purl)),
        ("name".to_owned(), json!(id.0)),
        ("version".to_owned(), json!(id.1)),
        ("scope".to_owned(), json!("required")),
    ]);
    if let Some(checksum) = &library.checksum {
        out.insert("hashes".to_owned(), hashes(checksum));
    }
    describe(&mut out, &purl, library);
    out.into()
}

fn hashes(sha256: &str) -> Value {
    json!([{"alg": "SHA-256", "content": sha256}])
}

/// What a crate says of itself.
fn describe(out: &mut Map<String, Value>, purl: &str, of: &Crate) {
    if !of.license.is_empty() {
        out.insert("licenses".to_owned(), json!([{"expression": of.license}]));
    }
    out.insert("purl".to_owned(), json!(purl));
    if !of.repository.is_empty() {
        out.insert("externalReferences".to_owned(), json!([{"type": "vcs", "url": of.repository}]));
    }
}

fn dependencies(bill: &Bill<'_>) -> Vec<Value> {
    let crates = &bill.program.graph.crates;
    crates
        .iter()
        .map(|(id, of)| {
            let uses: Vec<String> = of.uses.iter().map(|used| bill.purl(used, &crates[used])).collect();
            json!({"ref": bill.purl(id, of), "dependsOn": uses})
        })
        .collect()
}
