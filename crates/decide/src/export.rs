//! What goes into the image besides bytes: labels, environment, entry point (platform specification, "exporter").

use serde_json::{Value, json};
use strata_spec::PlatformApi;
use strata_spec::labels::{BuildMetadata, BuildpackEntry, Launcher, ProcessEntry};
use strata_spec::metadata::{Metadata, OwnedProcess, command_and_args};

/// `created_by` of a buildpack's layer.
pub fn layer_history(layer: &str, buildpack: &str, version: &str) -> String {
    format!("Layer: '{layer}', Created by buildpack: {buildpack}@{version}")
}

/// `created_by` of an app layer; `number` counts slices from 1 and is `None` when the app is one layer.
pub fn app_history(number: Option<usize>) -> String {
    number.map_or_else(|| "Application Layer".to_owned(), |n| format!("Application Slice: {n}"))
}

/// The `io.buildpacks.build.metadata` label.
pub fn build_metadata(metadata: &Metadata, launcher: Launcher, api: PlatformApi) -> BuildMetadata {
    BuildMetadata {
        buildpacks: metadata
            .buildpacks
            .iter()
            .map(|b| BuildpackEntry {
                id: b.id.clone(),
                version: b.version.clone(),
                homepage: b.homepage.clone(),
            })
            .collect(),
        launcher,
        processes: metadata.processes.iter().map(|p| process_entry(p, api)).collect(),
        default_process: metadata.default_process.clone().unwrap_or_default(),
    }
}

fn process_entry(owned: &OwnedProcess, api: PlatformApi) -> ProcessEntry {
    let (command, args) = command_and_args(&owned.process, api);
    ProcessEntry {
        kind: owned.process.kind.clone(),
        command: to_json(&command),
        args,
        direct: owned.process.direct,
        buildpack_id: owned.buildpack_id.clone(),
        working_dir: owned.process.working_dir.clone(),
        exec_env: owned.process.exec_env.clone(),
    }
}

/// The image's entry point for a process type.
pub fn entrypoint(process_type: Option<&str>) -> String {
    process_type.map_or_else(|| "/cnb/lifecycle/launcher".to_owned(), |kind| format!("/cnb/process/{kind}"))
}

/// The image's `PATH`: the folders of processes and launcher before the base's own. A base without one gets the
/// usual folders, because a value that ends in a colon would mean the current folder.
pub fn path(base: Option<&str>) -> String {
    let base = base
        .filter(|path| !path.is_empty())
        .unwrap_or("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    format!("/cnb/process:/cnb/lifecycle:{base}")
}

/// Which process an image starts by default.
///
/// # Errors
/// When a process type was asked for that no buildpack defined; the error lists those that there are.
pub fn default_process(metadata: &Metadata, asked: Option<&str>) -> Result<Option<String>, String> {
    let types: Vec<&str> = metadata.processes.iter().map(|p| p.process.kind.as_str()).collect();
    match asked.filter(|kind| !kind.is_empty()) {
        Some(kind) if types.contains(&kind) => Ok(Some(kind.to_owned())),
        Some(kind) if types.is_empty() => Err(format!(
            "tried to set '{kind}' to default but it doesn't exist: no buildpack defined a process"
        )),
        Some(kind) => Err(format!(
            "tried to set '{kind}' to default but it doesn't exist; there are: {}",
            types.join(", ")
        )),
        None => Ok(metadata.default_process.clone().filter(|kind| types.contains(&kind.as_str()))),
    }
}

/// A TOML value as JSON: dates become RFC 3339 strings, integers stay integers.
pub fn to_json(value: &toml::Value) -> Value {
    match value {
        toml::Value::String(text) => json!(text),
        toml::Value::Integer(number) => json!(number),
        toml::Value::Float(number) => json!(number),
        toml::Value::Boolean(flag) => json!(flag),
        toml::Value::Datetime(date) => json!(date.to_string()),
        toml::Value::Array(items) => items.iter().map(to_json).collect(),
        toml::Value::Table(table) => table_to_json(table),
    }
}

/// A TOML table as a JSON object with sorted keys, as Go writes maps.
pub fn table_to_json(table: &toml::Table) -> Value {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by(|a, b| a.0.cmp(b.0));
    Value::Object(entries.into_iter().map(|(key, value)| (key.clone(), to_json(value))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use strata_spec::launch::Process;

    #[test]
    fn a_base_without_path_does_not_put_the_current_folder_on_it() {
        assert_eq!(path(Some("/bin")), "/cnb/process:/cnb/lifecycle:/bin");
        assert!(!path(None).ends_with(':'));
        assert!(!path(Some("")).ends_with(':'));
    }

    #[test]
    fn an_asked_process_must_exist() {
        let process = Process { kind: "web".into(), ..Process::default() };
        let metadata = Metadata {
            processes: vec![OwnedProcess { process, buildpack_id: String::new() }],
            ..Metadata::default()
        };
        assert_eq!(default_process(&metadata, Some("web")), Ok(Some("web".into())));
        assert_eq!(default_process(&metadata, None), Ok(None));
        assert!(default_process(&metadata, Some("cron")).unwrap_err().contains("there are: web"));
    }

    #[test]
    fn toml_becomes_json_with_sorted_keys_and_types_kept() {
        let table: toml::Table =
            toml::from_str("b = 1\na = 1979-05-27T07:32:00Z\n[c]\nx = [1.5, true]\n").unwrap();
        let json = table_to_json(&table).to_string();
        assert_eq!(json, r#"{"a":"1979-05-27T07:32:00Z","b":1,"c":{"x":[1.5,true]}}"#);
    }
}
