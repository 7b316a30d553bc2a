//! CycloneDX 1.5 (<https://cyclonedx.org/docs/1.5/json/>): what the programs in use read.

use super::{SUBJECT, Subject, TOOL, property};
use crate::bill::Bill;
use crate::component::{Component, Kind};
use crate::license;
use serde_json::{Map, Value, json};

pub(super) fn document(bill: &Bill, subject: &Subject<'_>) -> Value {
    let components: Vec<Value> = bill.components().map(|(key, of)| component(key, of)).collect();
    json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": format!("urn:uuid:{}", subject.uuid(bill)),
        "version": 1,
        "metadata": {
            "timestamp": super::whole_seconds(subject.created),
            "tools": {"components": [{"type": "application", "name": TOOL.0, "version": TOOL.1}]},
            "component": image(subject),
        },
        "components": components,
        "dependencies": dependencies(bill),
    })
}

fn image(subject: &Subject<'_>) -> Value {
    json!({
        "type": Kind::Container.word(),
        "bom-ref": SUBJECT,
        "name": if subject.name.is_empty() { SUBJECT } else { subject.name },
        "version": subject.digest.to_string(),
        "purl": subject.purl().to_string(),
    })
}

fn component(key: &str, of: &Component) -> Value {
    let mut out = Map::new();
    let mut put = |name: &str, value: Value| {
        let is_empty =
            value.as_str().is_some_and(str::is_empty) || value.as_array().is_some_and(Vec::is_empty);
        if !(is_empty || value.is_null()) {
            out.insert(name.to_owned(), value);
        }
    };
    put("type", of.kind.word().into());
    put("bom-ref", key.into());
    if !of.supplier.is_empty() {
        put("supplier", json!({"name": of.supplier}));
    }
    put("group", of.group.as_str().into());
    put("name", of.name.as_str().into());
    put("version", of.version.as_str().into());
    put("description", of.description.as_str().into());
    put("hashes", of.hashes.iter().map(|hash| json!({"alg": hash.algorithm, "content": hash.hex})).collect());
    put("licenses", licenses(of));
    let mut cpes = of.cpes.iter();
    put("cpe", cpes.next().map(String::as_str).into());
    put("purl", of.purl.as_ref().map(ToString::to_string).into());
    let cpes = cpes.map(|cpe| (property::CPE, cpe.clone()));
    let properties = property::all(of.found_in.iter()).chain(cpes);
    put("properties", properties.map(|(name, value)| json!({"name": name, "value": value})).collect());
    out.into()
}

/// One expression, or names. Never the `id` of a license: the schema lists those that were known when it was made.
fn licenses(of: &Component) -> Value {
    let texts: Vec<&str> = of.licenses.iter().map(String::as_str).collect();
    match texts.as_slice() {
        [one] if license::is_expression(one) => json!([{"expression": one}]),
        texts => texts.iter().map(|text| json!({"license": {"name": text}})).collect(),
    }
}

/// The image needs what nothing else does.
fn dependencies(bill: &Bill) -> Vec<Value> {
    let relation = |of: &str, used: Vec<&str>| json!({"ref": of, "dependsOn": used});
    let rest = bill.components().map(|(key, of)| relation(key, bill.used_by(of).collect()));
    std::iter::once(relation(SUBJECT, bill.roots().collect())).chain(rest).collect()
}
