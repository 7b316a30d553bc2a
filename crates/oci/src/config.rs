//! The configuration of an image: the JSON document itself, with typed access to what is read and changed.
//!
//! Members nobody asks for here (`Healthcheck`, `OnBuild`, `moby.…`) stay in the document and are written again.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Digest, Platform, go_json};

/// Larger configurations are refused.
pub const MAX_CONFIG_SIZE: u64 = 16 * 1024 * 1024;

/// Order of the document's members when written.
const ROOT_ORDER: [&str; 12] = [
    "architecture",
    "author",
    "container",
    "created",
    "docker_version",
    "history",
    "os",
    "rootfs",
    "config",
    "os.version",
    "variant",
    "os.features",
];
/// Order of the members of `config` when written.
const RUN_ORDER: [&str; 23] = [
    "AttachStderr",
    "AttachStdin",
    "AttachStdout",
    "Cmd",
    "Healthcheck",
    "Domainname",
    "Entrypoint",
    "Env",
    "Hostname",
    "Image",
    "Labels",
    "OnBuild",
    "OpenStdin",
    "StdinOnce",
    "Tty",
    "User",
    "Volumes",
    "WorkingDir",
    "ExposedPorts",
    "ArgsEscaped",
    "NetworkDisabled",
    "MacAddress",
    "StopSignal",
];
/// Members that are maps in Go, hence sorted.
const SORTED: [&str; 3] = ["Labels", "Volumes", "ExposedPorts"];
/// Members written even when empty.
const REQUIRED: [&str; 5] = ["architecture", "created", "os", "rootfs", "config"];

/// Why bytes are not the configuration of an image.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// More bytes than [`MAX_CONFIG_SIZE`].
    #[error("cannot parse image configuration: {0} bytes are more than the {MAX_CONFIG_SIZE} allowed")]
    TooLarge(u64),
    /// Not JSON.
    #[error("cannot parse image configuration")]
    Json(#[source] serde_json::Error),
    /// A member that is used here has the wrong type.
    #[error("cannot parse image configuration: {member} is not {expected}")]
    Shape {
        /// Name of the member.
        member: &'static str,
        /// What it should be.
        expected: &'static str,
    },
    /// A member with structure of its own cannot be read.
    #[error("cannot parse image configuration: {member} is malformed")]
    Member {
        /// Name of the member.
        member: &'static str,
        /// Why.
        source: serde_json::Error,
    },
}

/// How one layer came to be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// Who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// When, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// By which command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// Anything else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Whether there is no layer for this entry.
    #[serde(
        default,
        skip_serializing_if = "std::ops::Not::not",
        deserialize_with = "crate::descriptor::null_is_default"
    )]
    pub empty_layer: bool,
    /// Members this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// The configuration of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageConfig {
    root: Map<String, Value>,
}

impl ImageConfig {
    /// A configuration without layers or settings.
    #[must_use]
    pub fn new(os: &str, architecture: &str) -> Self {
        let mut config = Self { root: Map::new() };
        config.set_text("architecture", architecture);
        config.set_text("os", os);
        config.set_diff_ids(&[]);
        config
    }

    /// Parses a configuration; every member read here must have its type, all others are kept unread.
    ///
    /// # Errors
    ///
    /// When the bytes are too many, not a JSON object, or a member has the wrong type.
    pub fn parse(bytes: &[u8]) -> Result<Self, ConfigError> {
        if bytes.len() as u64 > MAX_CONFIG_SIZE {
            return Err(ConfigError::TooLarge(bytes.len() as u64));
        }
        match serde_json::from_slice(bytes).map_err(ConfigError::Json)? {
            Value::Object(root) => {
                check(&root)?;
                Ok(Self { root })
            }
            _ => Err(ConfigError::Shape { member: "the document", expected: "an object" }),
        }
    }

    /// The document: Go's order, then the members Go does not know, in the order they had.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut root = self.root.clone();
        let mut run = match root.shift_remove("config") {
            Some(Value::Object(run)) => run,
            _ => Map::new(),
        };
        for member in SORTED {
            if let Some(Value::Object(map)) = run.get_mut(member) {
                *map = go_json::sorted(std::mem::take(map));
            }
        }
        let run_order: Vec<&str> = RUN_ORDER.into_iter().chain(["Shell"]).collect();
        root.insert("config".to_owned(), Value::Object(ordered(run, &run_order, &[])));
        root.entry("created").or_insert_with(|| Value::from("0001-01-01T00:00:00Z"));
        if let Some(Value::Object(rootfs)) = root.get_mut("rootfs") {
            *rootfs = ordered(std::mem::take(rootfs), &["type", "diff_ids"], &["type", "diff_ids"]);
        }
        go_json::to_string(&Value::Object(ordered(root, &ROOT_ORDER, &REQUIRED))).into_bytes()
    }

    /// `os`: `linux`, …
    #[must_use]
    pub fn os(&self) -> &str {
        self.text("os")
    }

    /// `architecture`: `amd64`, …
    #[must_use]
    pub fn architecture(&self) -> &str {
        self.text("architecture")
    }

    /// `variant` of the architecture, if set.
    #[must_use]
    pub fn variant(&self) -> Option<&str> {
        Some(self.text("variant")).filter(|text| !text.is_empty())
    }

    /// `os.version`, if set.
    #[must_use]
    pub fn os_version(&self) -> Option<&str> {
        Some(self.text("os.version")).filter(|text| !text.is_empty())
    }

    /// The machine and system the image is for.
    #[must_use]
    pub fn platform(&self) -> Platform {
        Platform {
            variant: self.variant().map(str::to_owned),
            os_version: self.os_version().map(str::to_owned),
            ..Platform::new(self.os(), self.architecture())
        }
    }

    /// Sets `os`.
    pub fn set_os(&mut self, os: &str) {
        self.set_text("os", os);
    }

    /// Sets `architecture`.
    pub fn set_architecture(&mut self, architecture: &str) {
        self.set_text("architecture", architecture);
    }

    /// Sets or removes `variant`.
    pub fn set_variant(&mut self, variant: Option<&str>) {
        self.set_text("variant", variant.unwrap_or_default());
    }

    /// Sets or removes `os.version`.
    pub fn set_os_version(&mut self, version: Option<&str>) {
        self.set_text("os.version", version.unwrap_or_default());
    }

    /// Takes over what machine and system another configuration is for, `os.features` included.
    pub(crate) fn set_platform_of(&mut self, other: &Self) {
        for member in ["architecture", "os", "os.version", "os.features", "variant"] {
            match other.root.get(member) {
                Some(value) => self.root.insert(member.to_owned(), value.clone()),
                None => self.root.shift_remove(member),
            };
        }
    }

    /// When the image was made, RFC 3339.
    #[must_use]
    pub fn created(&self) -> Option<&str> {
        Some(self.text("created")).filter(|text| !text.is_empty())
    }

    /// Sets when the image was made, RFC 3339.
    pub fn set_created(&mut self, created: &str) {
        self.set_text("created", created);
    }

    /// The environment, in order, each entry split at its first `=`.
    pub fn env(&self) -> impl Iterator<Item = (&str, &str)> {
        self.run_list("Env").map(|entry| entry.split_once('=').unwrap_or((entry, "")))
    }

    /// The value of a variable; of the first entry, when there are several.
    #[must_use]
    pub fn env_var(&self, name: &str) -> Option<&str> {
        self.env().find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    /// Sets a variable where it stands, or at the end.
    pub fn set_env(&mut self, name: &str, value: &str) {
        let entry = format!("{name}={value}");
        let mut entries: Vec<String> = self.run_list("Env").map(str::to_owned).collect();
        match entries.iter_mut().find(|old| old.split('=').next() == Some(name)) {
            Some(old) => *old = entry,
            None => entries.push(entry),
        }
        self.set_run("Env", entries.into());
    }

    /// The labels, sorted by key.
    #[must_use]
    pub fn labels(&self) -> BTreeMap<&str, &str> {
        let labels = self.run("Labels").and_then(Value::as_object);
        labels
            .into_iter()
            .flatten()
            .map(|(key, value)| (key.as_str(), value.as_str().unwrap_or_default()))
            .collect()
    }

    /// The value of a label.
    #[must_use]
    pub fn label(&self, key: &str) -> Option<&str> {
        self.run("Labels")?.get(key)?.as_str()
    }

    /// Sets a label.
    pub fn set_label(&mut self, key: &str, value: &str) {
        if let Value::Object(labels) = self.run_entry("Labels", Value::Object(Map::new())) {
            labels.insert(key.to_owned(), value.into());
        }
    }

    /// Removes a label; nothing happens when there is none.
    pub fn remove_label(&mut self, key: &str) {
        if let Value::Object(labels) = self.run_entry("Labels", Value::Object(Map::new())) {
            labels.shift_remove(key);
        }
    }

    /// The working directory; empty when unset.
    #[must_use]
    pub fn working_dir(&self) -> &str {
        self.run("WorkingDir").and_then(Value::as_str).unwrap_or_default()
    }

    /// Sets the working directory.
    pub fn set_working_dir(&mut self, dir: &str) {
        self.set_run("WorkingDir", dir.into());
    }

    /// The user processes run as; empty when unset.
    #[must_use]
    pub fn user(&self) -> &str {
        self.run("User").and_then(Value::as_str).unwrap_or_default()
    }

    /// Sets the user processes run as.
    pub fn set_user(&mut self, user: &str) {
        self.set_run("User", user.into());
    }

    /// The entry point; empty when unset.
    #[must_use]
    pub fn entrypoint(&self) -> Vec<&str> {
        self.run_list("Entrypoint").collect()
    }

    /// Sets the entry point.
    pub fn set_entrypoint<T: Into<String>>(&mut self, words: impl IntoIterator<Item = T>) {
        self.set_run("Entrypoint", words.into_iter().map(Into::into).collect::<Vec<String>>().into());
    }

    /// The default command; empty when unset.
    #[must_use]
    pub fn cmd(&self) -> Vec<&str> {
        self.run_list("Cmd").collect()
    }

    /// Sets the default command.
    pub fn set_cmd<T: Into<String>>(&mut self, words: impl IntoIterator<Item = T>) {
        self.set_run("Cmd", words.into_iter().map(Into::into).collect::<Vec<String>>().into());
    }

    /// What runs commands in shell form, a member of Docker's; empty when unset.
    #[must_use]
    pub fn shell(&self) -> Vec<&str> {
        self.run_list("Shell").collect()
    }

    /// Sets what runs commands in shell form.
    pub fn set_shell<T: Into<String>>(&mut self, words: impl IntoIterator<Item = T>) {
        self.set_run("Shell", words.into_iter().map(Into::into).collect::<Vec<String>>().into());
    }

    /// Adds a port that the app listens on, for example `80/tcp`.
    pub fn add_exposed_port(&mut self, port: &str) {
        self.add_key("ExposedPorts", port);
    }

    /// Adds a directory that is not part of the image.
    pub fn add_volume(&mut self, dir: &str) {
        self.add_key("Volumes", dir);
    }

    /// Sets the signal that asks the app to end.
    pub fn set_stop_signal(&mut self, signal: &str) {
        self.set_run("StopSignal", signal.into());
    }

    /// Takes over what another configuration says of how the image is run: all of its member `config`.
    pub fn set_run_config(&mut self, other: &Self) {
        match other.root.get("config") {
            Some(run) => self.root.insert("config".into(), run.clone()),
            None => self.root.shift_remove("config"),
        };
    }

    fn add_key(&mut self, member: &str, key: &str) {
        if let Value::Object(keys) = self.run_entry(member, Value::Object(Map::new())) {
            keys.insert(key.to_owned(), Value::Object(Map::new()));
        }
    }

    /// Removes the default command.
    pub fn remove_cmd(&mut self) {
        if let Some(Value::Object(run)) = self.root.get_mut("config") {
            run.shift_remove("Cmd");
        }
    }

    /// Forgets the container the image was committed from: `container` and Docker's `container_config`.
    pub fn clear_container(&mut self) {
        self.root.shift_remove("container");
        self.root.shift_remove("container_config");
    }

    /// The digests of the unpacked layers, lowest first.
    #[must_use]
    pub fn diff_ids(&self) -> Vec<Digest> {
        let ids = self.root.get("rootfs").and_then(|rootfs| rootfs.get("diff_ids"));
        // Checked when parsed.
        let parsed = ids.and_then(Value::as_array).into_iter().flatten();
        parsed.filter_map(|id| id.as_str()?.parse().ok()).collect()
    }

    /// How the layers came to be, entries without a layer included.
    #[must_use]
    pub fn history(&self) -> Vec<History> {
        let entries = self.root.get("history").and_then(Value::as_array);
        // Checked when parsed.
        entries.into_iter().flatten().filter_map(|entry| History::deserialize(entry).ok()).collect()
    }

    pub(crate) fn set_diff_ids(&mut self, ids: &[Digest]) {
        let ids: Vec<Value> = ids.iter().map(|id| id.to_string().into()).collect();
        let rootfs = self.root.entry("rootfs").or_insert_with(|| Value::Object(Map::new()));
        if !rootfs.is_object() {
            *rootfs = Value::Object(Map::new());
        }
        rootfs["type"] = "layers".into();
        rootfs["diff_ids"] = ids.into();
    }

    pub(crate) fn set_history(&mut self, history: &[History]) {
        let entries: Vec<Value> =
            history.iter().filter_map(|entry| serde_json::to_value(entry).ok()).collect();
        if entries.is_empty() {
            self.root.shift_remove("history");
        } else {
            self.root.insert("history".to_owned(), entries.into());
        }
    }

    fn text(&self, member: &str) -> &str {
        self.root.get(member).and_then(Value::as_str).unwrap_or_default()
    }

    fn set_text(&mut self, member: &str, text: &str) {
        self.root.insert(member.to_owned(), text.into());
    }

    fn run(&self, member: &str) -> Option<&Value> {
        self.root.get("config")?.get(member)
    }

    fn run_list(&self, member: &str) -> impl Iterator<Item = &str> {
        self.run(member).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
    }

    fn set_run(&mut self, member: &str, value: Value) {
        *self.run_entry(member, Value::Null) = value;
    }

    /// The member of `config`, put there as `default` when it is absent or null.
    fn run_entry(&mut self, member: &str, default: Value) -> &mut Value {
        let run = self.root.entry("config").or_insert_with(|| Value::Object(Map::new()));
        if !run.is_object() {
            *run = Value::Object(Map::new());
        }
        let entry = &mut run[member];
        if entry.is_null() {
            *entry = default;
        }
        entry
    }
}

/// Puts `members` in `order`, leaving out empty ones of the order that are not `required`; the rest follows as it is.
fn ordered(mut members: Map<String, Value>, order: &[&str], required: &[&str]) -> Map<String, Value> {
    let mut result = Map::new();
    for member in order {
        if let Some(value) = members.shift_remove(*member)
            && (required.contains(member) || !is_empty(&value))
        {
            result.insert((*member).to_owned(), value);
        }
    }
    result.extend(members);
    result
}

/// What Go's `omitempty` leaves out.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(true) | Value::Number(_) => false,
    }
}

/// Makes sure the typed getters find what they expect.
fn check(root: &Map<String, Value>) -> Result<(), ConfigError> {
    for member in ["architecture", "os", "variant", "os.version", "created"] {
        expect(root.get(member), member, "a string", Value::is_string)?;
    }
    expect(root.get("rootfs"), "rootfs", "an object", Value::is_object)?;
    if let Some(rootfs) = root.get("rootfs") {
        expect(rootfs.get("type"), "rootfs.type", "\"layers\"", |kind| kind == "layers" || kind == "")?;
        if let Some(ids) = rootfs.get("diff_ids").filter(|ids| !ids.is_null()) {
            Vec::<Digest>::deserialize(ids)
                .map_err(|source| ConfigError::Member { member: "rootfs.diff_ids", source })?;
        }
    }
    if let Some(history) = root.get("history").filter(|history| !history.is_null()) {
        Vec::<History>::deserialize(history)
            .map_err(|source| ConfigError::Member { member: "history", source })?;
    }
    expect(root.get("config"), "config", "an object", Value::is_object)?;
    let Some(run) = root.get("config") else { return Ok(()) };
    for member in ["WorkingDir", "User"] {
        expect(run.get(member), member, "a string", Value::is_string)?;
    }
    for member in ["Env", "Entrypoint", "Cmd"] {
        expect(run.get(member), member, "a list of strings", |value| {
            value.as_array().is_some_and(|items| items.iter().all(Value::is_string))
        })?;
    }
    expect(run.get("Labels"), "Labels", "an object of strings", |value| {
        value.as_object().is_some_and(|map| map.values().all(Value::is_string))
    })
}

fn expect(
    value: Option<&Value>,
    member: &'static str,
    expected: &'static str,
    is_good: impl Fn(&Value) -> bool,
) -> Result<(), ConfigError> {
    match value {
        None | Some(Value::Null) => Ok(()),
        Some(value) if is_good(value) => Ok(()),
        Some(_) => Err(ConfigError::Shape { member, expected }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAIL: &str = r#""os":"linux","rootfs":{"type":"layers","diff_ids":[]}"#;

    fn through(text: &str) -> String {
        String::from_utf8(ImageConfig::parse(text.as_bytes()).unwrap().encode()).unwrap()
    }

    #[test]
    fn members_that_go_does_not_know_keep_their_order() {
        let text = through(&format!(
            r#"{{"architecture":"amd64","config":{{}},"zeta":1,"alpha":2,{TAIL},"mid":3}}"#
        ));
        assert!(text.ends_with(r#""zeta":1,"alpha":2,"mid":3}"#), "{text}");
        assert_eq!(through(&text), text);
    }

    #[test]
    fn what_goes_in_comes_out_in_gos_order() {
        for (run, expected) in [
            (r#"{"Hostname":"h","Cmd":null}"#, r#"{"Hostname":"h"}"#),
            (
                r#"{"Healthcheck":{"Test":["CMD","x"],"Interval":30000000000,"StartInterval":5}}"#,
                r#"{"Healthcheck":{"Test":["CMD","x"],"Interval":30000000000,"StartInterval":5}}"#,
            ),
            (r#"{"OnBuild":["RUN <x>"]}"#, r#"{"OnBuild":["RUN \u003cx\u003e"]}"#),
            (r#"{"OnBuild":null,"Tty":false,"Env":[],"Labels":{}}"#, "{}"),
            (
                r#"{"zeta":null,"Shell":["sh"],"alpha":{"b":1,"a":2},"User":"u"}"#,
                r#"{"User":"u","Shell":["sh"],"zeta":null,"alpha":{"b":1,"a":2}}"#,
            ),
            (
                r#"{"WorkingDir":"/w","Volumes":{"/b":{},"/a":{}},"Cmd":["c"]}"#,
                r#"{"Cmd":["c"],"Volumes":{"/a":{},"/b":{}},"WorkingDir":"/w"}"#,
            ),
            (
                r#"{"ExposedPorts":{"80/tcp":{}},"StopSignal":"TERM"}"#,
                r#"{"ExposedPorts":{"80/tcp":{}},"StopSignal":"TERM"}"#,
            ),
        ] {
            let text = format!(
                r#"{{"moby.x":[1],{TAIL},"config":{run},"created":"2020-01-01T00:00:00Z","architecture":"amd64"}}"#
            );
            assert_eq!(
                through(&text),
                format!(
                    r#"{{"architecture":"amd64","created":"2020-01-01T00:00:00Z",{TAIL},"config":{expected},"moby.x":[1]}}"#
                )
            );
        }
    }

    #[test]
    fn required_members_are_always_written() {
        let config = ImageConfig::new("linux", "arm64");
        let text =
            format!(r#"{{"architecture":"arm64","created":"0001-01-01T00:00:00Z",{TAIL},"config":{{}}}}"#);
        assert_eq!(String::from_utf8(config.encode()).unwrap(), text);
        assert_eq!(through(&text), text);
    }

    #[test]
    fn wrong_types_are_refused_by_name() {
        for (text, member) in [
            ("[]", "the document"),
            (r#"{"os":1}"#, "os"),
            (r#"{"config":[]}"#, "config"),
            (r#"{"config":{"Env":"A=b"}}"#, "Env"),
            (r#"{"config":{"Env":[1]}}"#, "Env"),
            (r#"{"config":{"Labels":{"a":1}}}"#, "Labels"),
            (r#"{"config":{"Entrypoint":"sh"}}"#, "Entrypoint"),
            (r#"{"rootfs":{"type":"other"}}"#, "rootfs.type"),
            (r#"{"rootfs":{"diff_ids":["x"]}}"#, "rootfs.diff_ids"),
            (r#"{"history":[1]}"#, "history"),
        ] {
            let error = ImageConfig::parse(text.as_bytes()).expect_err(text);
            assert!(error.to_string().contains(member), "{error}");
        }
    }

    #[test]
    fn variables_are_replaced_in_place_or_appended() {
        let text = br#"{"config":{"Env":["A=1=2","PATH=/a=b:/c","A=3","LONE"]}}"#;
        let mut config = ImageConfig::parse(text).unwrap();
        assert_eq!(config.env_var("PATH"), Some("/a=b:/c"));
        assert_eq!(config.env_var("LONE"), Some(""));
        config.set_env("A", "x");
        config.set_env("B", "y=z");
        config.set_env("LONE", "");
        assert_eq!(
            config.env().collect::<Vec<_>>(),
            [("A", "x"), ("PATH", "/a=b:/c"), ("A", "3"), ("LONE", ""), ("B", "y=z")]
        );
    }

    #[test]
    fn setters_work_on_null_and_absent_members() {
        for text in ["{}", r#"{"config":null}"#, r#"{"config":{"Labels":null,"Env":null}}"#] {
            let mut config = ImageConfig::parse(text.as_bytes()).unwrap();
            config.remove_cmd();
            config.set_label("b", "1");
            config.set_label("a", "<");
            config.remove_label("b");
            config.set_env("K", "v");
            config.set_working_dir("/w");
            config.set_user("u");
            config.set_entrypoint(["/e"]);
            config.set_variant(Some("v8"));
            config.set_os_version(None);
            config.set_created("t");
            assert_eq!(config.labels().into_iter().collect::<Vec<_>>(), [("a", "<")]);
            assert_eq!(config.label("a"), Some("<"));
            assert_eq!((config.working_dir(), config.user()), ("/w", "u"));
            assert_eq!((config.entrypoint(), config.cmd()), (vec!["/e"], vec![]));
            assert_eq!((config.variant(), config.os_version()), (Some("v8"), None));
            assert!(String::from_utf8(config.encode()).unwrap().contains(r#""a":"\u003c""#));
        }
    }

    #[test]
    fn the_container_is_forgotten() {
        let text = br#"{"container":"c","container_config":{"Cmd":["x"]}}"#;
        let mut config = ImageConfig::parse(text).unwrap();
        config.clear_container();
        assert!(!String::from_utf8(config.encode()).unwrap().contains("container"));
    }

    proptest::proptest! {
        #[test]
        fn no_document_panics(text in r#"[\[\]{}":,a-zA-Z0-9 ]{0,60}"#) {
            if let Ok(config) = ImageConfig::parse(text.as_bytes()) {
                let once = config.encode();
                proptest::prop_assert_eq!(&ImageConfig::parse(&once).unwrap().encode(), &once);
            }
        }
    }
}
