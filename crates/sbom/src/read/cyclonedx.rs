//! CycloneDX (<https://cyclonedx.org/docs/1.6/json/>).

use super::limited::{Limited, text};
use super::{Format, Listing, ReadError, parse};
use crate::component::{Component, Hash, Kind, Origin};
use crate::write::property;
use serde::Deserialize;

const KNOWN: &[&str] = &["1.2", "1.3", "1.4", "1.5", "1.6", "1.7"];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    #[serde(default, deserialize_with = "text")]
    bom_format: String,
    #[serde(default, deserialize_with = "text")]
    spec_version: String,
    metadata: Option<Metadata>,
    #[serde(default)]
    components: Limited<Entry>,
    #[serde(default)]
    dependencies: Limited<Dependency>,
}

#[derive(Deserialize)]
struct Metadata {
    component: Option<Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Entry {
    #[serde(default, rename = "type", deserialize_with = "text")]
    kind: String,
    #[serde(default, deserialize_with = "text")]
    bom_ref: String,
    #[serde(default, deserialize_with = "text")]
    group: String,
    #[serde(default, deserialize_with = "text")]
    name: String,
    #[serde(default, deserialize_with = "text")]
    version: String,
    purl: Option<String>,
    cpe: Option<String>,
    #[serde(default, deserialize_with = "text")]
    description: String,
    supplier: Option<Named>,
    #[serde(default)]
    licenses: Limited<Choice>,
    #[serde(default)]
    hashes: Limited<Checksum>,
    #[serde(default)]
    properties: Limited<Property>,
    #[serde(default)]
    components: Limited<Entry>,
}

#[derive(Deserialize)]
struct Named {
    #[serde(default, deserialize_with = "text")]
    name: String,
}

#[derive(Deserialize)]
struct Choice {
    license: Option<License>,
    expression: Option<String>,
}

#[derive(Deserialize)]
struct License {
    id: Option<String>,
    name: Option<String>,
}

#[derive(Deserialize)]
struct Checksum {
    #[serde(default, deserialize_with = "text")]
    alg: String,
    #[serde(default, deserialize_with = "text")]
    content: String,
}

#[derive(Deserialize)]
struct Property {
    #[serde(default, deserialize_with = "text")]
    name: String,
    #[serde(default, deserialize_with = "text")]
    value: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Dependency {
    #[serde(default, rename = "ref", deserialize_with = "text")]
    of: String,
    #[serde(default)]
    depends_on: Limited<String>,
}

pub(super) fn read(bytes: &[u8]) -> Result<Listing, ReadError> {
    let format = Format::CycloneDx;
    let document: Document = parse(format, bytes)?;
    if document.bom_format != "CycloneDX" {
        let reason = "its bomFormat is not CycloneDX".to_owned();
        return Err(ReadError::Malformed { format, reason });
    }
    if !KNOWN.contains(&document.spec_version.as_str()) {
        let version = super::short(&document.spec_version);
        return Err(ReadError::Version { format, version, known: "1.2 to 1.7" });
    }
    let mut listing = Listing::default();
    // What the document is about: a package, or no more than the folder that was looked at.
    let subject = document.metadata.and_then(|metadata| metadata.component);
    let is_package = |entry: &Entry| entry.purl.is_some() && Kind::of(&entry.kind) != Kind::Container;
    for entry in subject.into_iter().filter(is_package).chain(document.components) {
        add(&mut listing, entry);
    }
    for Dependency { of, depends_on } in document.dependencies {
        // It may be of what the document is about, which need not be a component.
        if listing.components.contains_key(&of) {
            depends_on.into_iter().for_each(|used| listing.needs(&of, &used));
        }
    }
    Ok(listing.settle())
}

/// Adds a component and those within it. How deep they are nested is limited by the JSON parser.
fn add(listing: &mut Listing, entry: Entry) {
    let mut component = Component {
        kind: Kind::of(&entry.kind),
        group: entry.group,
        name: entry.name,
        version: entry.version,
        purl: listing.purl(entry.purl.as_deref()),
        description: entry.description,
        supplier: entry.supplier.map(|supplier| supplier.name).unwrap_or_default(),
        hashes: entry.hashes.into_iter().filter_map(|sum| Hash::new(&sum.alg, &sum.content)).collect(),
        ..Component::default()
    };
    if let Some(cpe) = &entry.cpe {
        component.add_cpe(cpe);
    }
    for choice in entry.licenses {
        let License { id, name } = choice.license.unwrap_or(License { id: None, name: None });
        if let Some(text) = choice.expression.or(id).or(name) {
            component.add_license(&text);
        }
    }
    let properties: Vec<Property> = entry.properties.into_iter().collect();
    for Property { value, .. } in properties.iter().filter(|p| p.name.ends_with(":cpe23")) {
        component.add_cpe(value);
    }
    component.found_in = origins(&properties).collect();
    listing.insert(&entry.bom_ref, component);
    for inner in entry.components {
        add(listing, inner);
    }
}

/// Where a component was found, as a merged document says it.
fn origins(properties: &[Property]) -> impl Iterator<Item = Origin> {
    properties.iter().filter(|p| p.name == property::ORIGIN).filter_map(|p| property::origin(&p.value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Listing, String> {
        super::read(text.as_bytes()).map_err(|error| error.to_string())
    }

    const DOCUMENT: &str = r#"{"bomFormat":"CycloneDX","specVersion":"1.4","metadata":{"component":
        {"type":"file","bom-ref":"dir","name":"/layers/x"}},"components":[
        {"type":"library","bom-ref":"a","group":"g","name":"a","version":"1","purl":"pkg:maven/g/a@1","cpe":"cpe:/a:b",
         "licenses":[{"license":{"id":"MIT"}},{"license":{"name":"Other"}},{"expression":"MIT OR ISC"}],
         "hashes":[{"alg":"SHA-1","content":"0123456789012345678901234567890123456789"},{"alg":"X","content":"1"}],
         "components":[{"type":"library","bom-ref":"b","name":"b","version":null,"licenses":null}]},
        {"type":"operating-system","name":"debian","version":"12","supplier":{"name":"Debian"}}],
        "dependencies":[{"ref":"a","dependsOn":["b","a","lost"]},{"ref":"b","dependsOn":["a"]},{"ref":"dir","dependsOn":["a"]}]}"#;

    #[test]
    fn components_are_found_within_others_and_cycles_are_no_trouble() {
        let listing = read(DOCUMENT).unwrap();
        assert_eq!(listing.components.len(), 3);
        let a = &listing.components["a"];
        assert_eq!((a.full_name().as_str(), a.key().as_str()), ("g/a", "pkg:maven/g/a@1"));
        assert_eq!(a.licenses.iter().map(String::as_str).collect::<Vec<_>>(), ["MIT", "MIT OR ISC", "Other"]);
        assert_eq!((a.hashes.len(), a.cpes.len()), (1, 0));
        assert!(listing.uses["a"].contains("b") && listing.uses["b"].contains("a"));
        assert_eq!(listing.warnings, ["a dependency on 'lost' leads nowhere"]);
        assert!(
            listing.components.values().any(|c| c.kind == Kind::OperatingSystem && c.supplier == "Debian")
        );
    }

    #[test]
    fn faults_of_single_components_cost_these_only() {
        let text = r#"{"bomFormat":"CycloneDX","specVersion":"1.5","components":[{"bom-ref":"x"},{"bom-ref":"y","name":"a"},
            {"bom-ref":"y","name":"b"},{"name":"c","purl":"nonsense"},{"name":"c","version":1.5}]}"#;
        let listing = read(text).unwrap();
        let expected = [
            "component 1 ('x') has no name",
            "'y' stands for two components; 'b' is left out",
            "'nonsense' is no package URL; expected pkg:<type>/<name>@<version>",
        ];
        assert_eq!(listing.warnings, expected);
        assert_eq!(listing.components.len(), 3);
    }

    #[test]
    fn what_is_no_document_is_told_apart() {
        let deep = format!(
            "{{\"bomFormat\":\"CycloneDX\",\"specVersion\":\"1.5\",\"components\":{}",
            "[{\"components\":".repeat(200)
        );
        let many = format!(
            "{{\"bomFormat\":\"CycloneDX\",\"specVersion\":\"1.5\",\"components\":[{}{{}}]}}",
            "{},".repeat(super::super::MAX_ELEMENTS)
        );
        let objects = format!("[{}]", "{},".repeat(super::super::MAX_OBJECTS + 1));
        for (text, expected) in [
            (objects.as_str(), "more than 1000000 objects"),
            ("", "EOF"),
            ("{", "line 1 column 1"),
            ("[]", "invalid"),
            ("{}", "bomFormat is not CycloneDX"),
            (r#"{"bomFormat":"CycloneDX","specVersion":"9.9"}"#, "CycloneDX 9.9 is not known here"),
            (r#"{"bomFormat":"CycloneDX","specVersion":"1.5","components":3}"#, "expected a list"),
            (deep.as_str(), "recursion limit"),
            (many.as_str(), "more than 200000 elements"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
