//! Makes the documents of an image from what a daemon says of it.
//!
//! A daemon does not give away the configuration as it has it, and has no manifest. What is made here says the same, but
//! its digests are its own. Pure.

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use strata_oci::{Descriptor, Digest, Image, ImageConfig, Manifest, media_type};

/// Members of `Config` that make up an image. `docker inspect` also has some that only containers have.
const RUN_MEMBERS: [&str; 12] = [
    "Cmd",
    "Entrypoint",
    "Env",
    "ExposedPorts",
    "Healthcheck",
    "Labels",
    "OnBuild",
    "Shell",
    "StopSignal",
    "User",
    "Volumes",
    "WorkingDir",
];

/// Why what a daemon says cannot be understood.
#[derive(Debug)]
pub(super) enum Unclear {
    /// This member is not there, or has another form.
    Member(&'static str),
    /// It does not make an image.
    Image(strata_oci::ImageError),
}

/// The id of an image and the digests of its layers, lowest first.
pub(super) fn identity(inspect: &Value) -> Result<(Digest, Vec<Digest>), Unclear> {
    let id = inspect.get("Id").and_then(digest).ok_or(Unclear::Member("Id"))?;
    let layers = match inspect.get("RootFS").and_then(|root| root.get("Layers")) {
        None | Some(Value::Null) => Some(Vec::new()),
        Some(layers) => layers.as_array().and_then(|layers| layers.iter().map(digest).collect()),
    };
    Ok((id, layers.ok_or(Unclear::Member("RootFS.Layers"))?))
}

fn digest(value: &Value) -> Option<Digest> {
    value.as_str()?.parse().ok()
}

/// The image. Its layers are plain archives, whose sizes nobody knows: they are 0.
pub(super) fn image(inspect: &Value, history: &Value, diff_ids: &[Digest]) -> Result<Image, Unclear> {
    let config = config(inspect, history, diff_ids).to_string().into_bytes();
    let config = ImageConfig::parse(&config).map_err(|error| Unclear::Image(error.into()))?.encode();
    let mut manifest =
        Manifest::new(media_type::DOCKER_MANIFEST, Descriptor::of(media_type::DOCKER_CONFIG, &config));
    manifest.layers = diff_ids.iter().map(|id| Descriptor::new(media_type::DOCKER_LAYER, *id, 0)).collect();
    let manifest =
        manifest.encode().map_err(|error| Unclear::Image(strata_oci::ImageError::Encode(error)))?;
    Image::from_parts(&manifest, &config).map_err(Unclear::Image)
}

fn config(inspect: &Value, history: &Value, diff_ids: &[Digest]) -> Value {
    let mut root = Map::new();
    for (member, theirs) in [
        ("architecture", "Architecture"),
        ("author", "Author"),
        ("created", "Created"),
        ("os", "Os"),
        ("os.version", "OsVersion"),
        ("variant", "Variant"),
    ] {
        if let Some(Value::String(text)) = inspect.get(theirs).filter(|text| *text != "") {
            root.insert(member.to_owned(), text.as_str().into());
        }
    }
    let ids: Vec<String> = diff_ids.iter().map(Digest::to_string).collect();
    root.insert("rootfs".to_owned(), json!({ "type": "layers", "diff_ids": ids }));
    root.insert("history".to_owned(), entries(history));
    root.insert("config".to_owned(), Value::Object(run(inspect)));
    Value::Object(root)
}

fn run(inspect: &Value) -> Map<String, Value> {
    // Set by old builders everywhere, and understood on Windows only.
    let more = Some("ArgsEscaped").filter(|_| inspect.get("Os").is_some_and(|os| os == "windows"));
    let config = inspect.get("Config");
    let member = |name: &str| {
        let value = config?.get(name).filter(|value| !value.is_null())?;
        Some((name.to_owned(), value.clone()))
    };
    RUN_MEMBERS.into_iter().chain(more).filter_map(member).collect()
}

/// The history, oldest first. Nothing in it says which entries have no layer.
fn entries(history: &Value) -> Value {
    let entry = |entry: &Value| {
        let mut members = Map::new();
        let created = entry.get("Created").and_then(Value::as_i64);
        if let Some(created) = created.and_then(|seconds| Timestamp::from_second(seconds).ok()) {
            members.insert("created".to_owned(), created.to_string().into());
        }
        for (member, theirs) in [("created_by", "CreatedBy"), ("comment", "Comment")] {
            if let Some(Value::String(text)) = entry.get(theirs).filter(|text| *text != "") {
                members.insert(member.to_owned(), text.as_str().into());
            }
        }
        Value::Object(members)
    };
    history.as_array().into_iter().flatten().rev().map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inspected(os: &str) -> Value {
        json!({
            "Id": Digest::of(b"id"), "Comment": "", "Created": "2025-01-01T00:00:00Z", "Author": "me",
            "DockerVersion": "20.10", "Container": "f00", "Architecture": "arm64", "Variant": "v8", "Os": os,
            "OsVersion": "10.0", "RootFS": { "Type": "layers", "Layers": [Digest::of(b"1"), Digest::of(b"2")] },
            "Config": {
                "Hostname": "h", "Domainname": "", "User": "1:2", "AttachStdin": true, "Tty": true, "Image": "i",
                "Env": ["A=b"], "Cmd": ["c"], "ArgsEscaped": true, "Entrypoint": null, "OnBuild": ["RUN x"],
                "Volumes": { "/v": {} }, "WorkingDir": "/w", "Labels": { "l": "<" }, "Shell": ["/bin/sh"],
                "ExposedPorts": { "80/tcp": {} }, "StopSignal": "TERM",
                "Healthcheck": { "Test": ["NONE"], "Interval": 7 }
            }
        })
    }

    fn history(count: usize) -> Value {
        (0..count)
            .map(|i| json!({ "Created": 60 * i, "CreatedBy": format!("by {i}"), "Comment": "" }))
            .collect()
    }

    fn encoded(inspect: &Value, history: &Value) -> String {
        let (_, diff_ids) = identity(inspect).unwrap();
        let image = image(inspect, history, &diff_ids).unwrap();
        String::from_utf8(image.encode().unwrap().config).unwrap()
    }

    #[test]
    fn what_is_of_the_image_is_kept_in_the_order_of_go() {
        let run = r#""config":{"Cmd":["c"],"Healthcheck":{"Test":["NONE"],"Interval":7},"Env":["A=b"],"Labels":{"l":"\u003c"},"OnBuild":["RUN x"],"User":"1:2","Volumes":{"/v":{}},"WorkingDir":"/w","ExposedPorts":{"80/tcp":{}},"StopSignal":"TERM","Shell":["/bin/sh"]}"#;
        let ids = [Digest::of(b"1"), Digest::of(b"2")].map(|id| id.to_string());
        let expected = format!(
            r#"{{"architecture":"arm64","author":"me","created":"2025-01-01T00:00:00Z","history":[{{"created":"1970-01-01T00:01:00Z","created_by":"by 1"}},{{"created":"1970-01-01T00:00:00Z","created_by":"by 0"}}],"os":"linux","rootfs":{{"type":"layers","diff_ids":["{}","{}"]}},{run},"os.version":"10.0","variant":"v8"}}"#,
            ids[0], ids[1]
        );
        assert_eq!(encoded(&inspected("linux"), &history(2)), expected);
        assert!(encoded(&inspected("windows"), &history(2)).contains(r#""ArgsEscaped":true"#));
    }

    #[test]
    fn a_history_that_does_not_fit_the_layers_is_forgotten() {
        for count in [0, 1, 3] {
            assert!(!encoded(&inspected("linux"), &history(count)).contains("history"), "{count}");
        }
    }

    #[test]
    fn layers_are_plain_and_of_unknown_size() {
        let inspect = inspected("linux");
        let (id, diff_ids) = identity(&inspect).unwrap();
        assert_eq!((id, &diff_ids[..]), (Digest::of(b"id"), &[Digest::of(b"1"), Digest::of(b"2")][..]));
        let image = image(&inspect, &history(2), &diff_ids).unwrap();
        let layer = &image.layers()[1];
        assert_eq!(
            (layer.diff_id, layer.descriptor.digest, layer.descriptor.size),
            (diff_ids[1], diff_ids[1], 0)
        );
        assert_eq!(layer.descriptor.media_type, media_type::DOCKER_LAYER);
        assert_eq!(image.media_type(), media_type::DOCKER_MANIFEST);
    }

    #[test]
    fn what_is_no_image_is_refused() {
        for (member, value) in [
            ("Id", json!("abc")),
            ("Id", Value::Null),
            ("RootFS", json!({ "Layers": ["x"] })),
            ("RootFS", json!({ "Layers": 7 })),
            ("Config", json!({ "Env": "A=b" })),
        ] {
            let mut inspect = inspected("linux");
            inspect[member] = value;
            let outcome = identity(&inspect).and_then(|(_, ids)| image(&inspect, &history(2), &ids));
            assert!(outcome.is_err(), "{member}");
        }
    }
}
