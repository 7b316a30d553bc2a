//! The format of Syft (<https://github.com/anchore/syft/tree/main/schema/json>).

use serde_json::{Value, json};
use strata_oci::Digest;

use super::{Bill, TOOL};
use crate::graph::{Crate, Id};

const SCHEMA: &str = "16.1.0";

pub(super) fn write(bill: &Bill<'_>) -> Value {
    let crates = &bill.program.graph.crates;
    let artifacts: Vec<Value> = crates.iter().map(|(id, of)| artifact(bill, id, of)).collect();
    json!({
        "artifacts": artifacts,
        "artifactRelationships": relationships(bill),
        "source": {
            "id": bill.program.digest.hex(),
            "name": bill.program.name,
            "version": bill.release.version,
            "type": "file",
            "metadata": {
                "path": bill.program.name,
                "digests": [{"algorithm": "sha256", "value": bill.program.digest.hex()}],
            },
        },
        "distro": {},
        "descriptor": {"name": TOOL.0, "version": TOOL.1},
        "schema": {
            "version": SCHEMA,
            "url": format!(
                "https://raw.githubusercontent.com/anchore/syft/main/schema/json/schema-{SCHEMA}.json"
            ),
        },
    })
}

fn artifact(bill: &Bill<'_>, id: &Id, of: &Crate) -> Value {
    let is_program = *id == bill.program.graph.root;
    let licenses: Vec<Value> = Some(&of.license)
        .filter(|license| !license.is_empty())
        .into_iter()
        .map(|license| {
            json!({"value": license, "spdxExpression": license, "type": "declared", "urls": [], "locations": []})
        })
        .collect();
    let source = match of.checksum {
        Some(_) => "registry+https://github.com/rust-lang/crates.io-index".to_owned(),
        None => bill.source(),
    };
    let uses: Vec<String> = of.uses.iter().map(|(name, version)| format!("{name} {version}")).collect();
    json!({
        "id": reference(bill, id, of),
        "name": id.0,
        "version": if is_program { &bill.release.version } else { &id.1 },
        "type": "rust-crate",
        "foundBy": TOOL.0,
        "locations": [],
        "licenses": licenses,
        "language": "rust",
        "cpes": [],
        "purl": bill.purl(id, of),
        "metadataType": "rust-cargo-lock-entry",
        "metadata": {
            "name": id.0,
            "version": id.1,
            "source": source,
            "checksum": of.checksum.as_deref().unwrap_or_default(),
            "dependencies": uses,
        },
    })
}

fn relationships(bill: &Bill<'_>) -> Vec<Value> {
    let crates = &bill.program.graph.crates;
    let mut all = Vec::new();
    for (id, of) in crates {
        let child = reference(bill, id, of);
        all.push(json!({"parent": bill.program.digest.hex(), "child": child, "type": "contains"}));
        for used in &of.uses {
            let parent = reference(bill, used, &crates[used]);
            all.push(json!({"parent": parent, "child": child, "type": "dependency-of"}));
        }
    }
    all
}

/// As long as Syft's own.
fn reference(bill: &Bill<'_>, id: &Id, of: &Crate) -> String {
    Digest::of(bill.purl(id, of).as_bytes()).hex()[..16].to_owned()
}
