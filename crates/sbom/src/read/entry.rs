//! The unstructured bill of materials, `[[bom]]`: a name, and whatever a buildpack puts beside it. What is used of that are
//! the keys that the buildpacks of Paketo and Heroku have agreed on.

use super::Listing;
use crate::component::{Component, Hash, Origin};
use serde_json::Value;

/// The entries of a list as labels and `sbom.legacy.json` have it; null is an empty one. Each says itself which buildpack
/// and layer it is of; `diff_id` knows the layer's.
pub fn entries(list: &Value, diff_id: impl Fn(&str, &str) -> Option<String>) -> Listing {
    let mut listing = Listing::default();
    for (number, entry) in list.as_array().into_iter().flatten().enumerate() {
        let component = component(&mut listing, entry, &diff_id);
        listing.insert(&number.to_string(), component);
    }
    listing
}

fn component(
    listing: &mut Listing,
    entry: &Value,
    diff_id: &impl Fn(&str, &str) -> Option<String>,
) -> Component {
    let data = &entry["metadata"];
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => String::new(),
    };
    let first = |keys: &[&str]| keys.iter().map(|key| text(&data[*key])).find(|text| !text.is_empty());
    let mut component = Component {
        name: text(&entry["name"]),
        version: first(&["version"]).unwrap_or_default(),
        purl: listing.purl(first(&["purl"]).as_deref()),
        description: first(&["description", "name"]).unwrap_or_default(),
        ..Component::default()
    };
    for (algorithm, key) in [("SHA-256", "sha256"), ("SHA-512", "sha512"), ("SHA-1", "sha1")] {
        component.hashes.extend(Hash::new(algorithm, &text(&data[key])));
    }
    let sum = &data["checksum"];
    component.hashes.extend(Hash::new(&text(&sum["algorithm"]).to_uppercase(), &text(&sum["hash"])));
    let cpes = data["cpes"].as_array().into_iter().flatten().chain([&data["cpe"]]);
    cpes.for_each(|cpe| component.add_cpe(&text(cpe)));
    for license in data["licenses"].as_array().into_iter().flatten().chain([&data["license"]]) {
        // A text, or an object with its type or id and where it can be read.
        let texts = [text(license), text(&license["type"]), text(&license["id"]), text(&license["name"])];
        if let Some(license) = texts.iter().find(|text| !text.is_empty()) {
            component.add_license(license);
        }
    }
    let (id, version) = (text(&entry["buildpack"]["id"]), text(&entry["buildpack"]["version"]));
    let origin = match entry["layer"].as_str() {
        _ if id.is_empty() => return component,
        Some(layer) => Origin::layer(&id, &version, layer, diff_id(&id, layer).as_deref()),
        None => Origin::buildpack(&id, &version),
    };
    component.found_in.insert(origin);
    component
}
