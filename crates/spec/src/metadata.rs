//! `<layers>/config/metadata.toml`: what the launcher needs, and what export turns into labels.

use crate::api::PlatformApi;
use crate::bom::{self, BomEntry};
use crate::doc::{DocError, from_toml};
use crate::group::GroupElement;
use crate::launch::{Label, Process, Slice, check_process_type};
use crate::toml_writer;
use serde::{Deserialize, Serialize};

/// The build's outcome.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metadata {
    /// The default process type, if any.
    pub default_process: Option<String>,
    /// The group.
    pub buildpacks: Vec<GroupElement>,
    /// Image labels, in buildpack order.
    pub labels: Vec<Label>,
    /// Annotations of the image's manifest, each key once; not of the specification.
    pub annotations: Vec<Label>,
    /// Process types, sorted by type, each with the buildpack that defined it.
    pub processes: Vec<OwnedProcess>,
    /// App slices, in buildpack order.
    pub slices: Vec<Slice>,
    /// The image extensions of the group.
    pub extensions: Vec<GroupElement>,
    /// The unstructured bill of materials; see [`Self::listed_bom`].
    pub bom: Vec<BomEntry>,
}

/// A process and the buildpack that defined it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnedProcess {
    /// The process.
    pub process: Process,
    /// The id of the buildpack.
    pub buildpack_id: String,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case", default)]
struct Raw {
    #[serde(skip_serializing_if = "String::is_empty")]
    buildpack_default_process_type: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    bom: Vec<BomEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    buildpacks: Vec<GroupElement>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    extensions: Vec<GroupElement>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    labels: Vec<Label>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    annotations: Vec<Label>,
    processes: Vec<RawProcess>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    slices: Vec<Slice>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct RawProcess {
    #[serde(rename = "type")]
    kind: String,
    command: toml::Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    args: Option<Vec<String>>,
    direct: bool,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    buildpack_id: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    working_dir: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    exec_env: Vec<String>,
}

impl Metadata {
    /// Parses `metadata.toml`; a `command` may be a string or an array.
    ///
    /// # Errors
    /// When the text is not TOML or a key has the wrong type.
    pub fn parse(text: &str) -> Result<Self, DocError> {
        let raw: Raw = from_toml(text)?;
        let processes = raw.processes.into_iter().map(owned).collect::<Result<_, _>>()?;
        let default_process = Some(raw.buildpack_default_process_type).filter(|kind| !kind.is_empty());
        Ok(Self {
            default_process,
            buildpacks: raw.buildpacks,
            labels: raw.labels,
            annotations: raw.annotations,
            processes,
            slices: raw.slices,
            extensions: raw.extensions,
            bom: raw.bom,
        })
    }

    /// The entries of the bill of materials that this document and the label have: all of them, or those that came with
    /// layers and the rest along with them once the others have files of their own.
    pub fn listed_bom(&self, api: PlatformApi) -> &[BomEntry] {
        if api.has_legacy_sbom_files() { bom::with_layers(&self.bom) } else { &self.bom }
    }

    /// The document as the lifecycle writes it for a platform API.
    pub fn to_toml(&self, api: PlatformApi) -> String {
        toml_writer::to_string(&Raw {
            buildpack_default_process_type: self.default_process.clone().unwrap_or_default(),
            buildpacks: self.buildpacks.clone(),
            labels: self.labels.clone(),
            annotations: self.annotations.clone(),
            processes: self.processes.iter().map(|p| raw_process(p, api)).collect(),
            slices: self.slices.clone(),
            extensions: self.extensions.clone(),
            bom: self.listed_bom(api).to_vec(),
        })
    }
}

fn owned(raw: RawProcess) -> Result<OwnedProcess, DocError> {
    check_process_type(&raw.kind)?;
    let wrong = || DocError::whole(format!("process '{}': command must hold strings", raw.kind));
    let command = match &raw.command {
        toml::Value::String(command) => vec![command.clone()],
        toml::Value::Array(items) => items
            .iter()
            .map(|item| item.as_str().map(str::to_owned).ok_or_else(wrong))
            .collect::<Result<_, _>>()?,
        _ => return Err(wrong()),
    };
    Ok(OwnedProcess {
        process: Process {
            kind: raw.kind,
            command,
            args: raw.args,
            direct: raw.direct,
            default: false,
            working_dir: raw.working_dir,
            exec_env: raw.exec_env,
        },
        buildpack_id: raw.buildpack_id,
    })
}

/// The form of `command` by platform API: an array, or before 0.10 one string with the rest moved to `args`.
pub fn command_and_args(process: &Process, api: PlatformApi) -> (toml::Value, Option<Vec<String>>) {
    if api.has_command_arrays() {
        let command = process.command.iter().cloned().map(toml::Value::String).collect();
        return (toml::Value::Array(command), process.args.clone());
    }
    let mut words = process.command.iter().cloned();
    let Some(program) = words.next() else {
        return (toml::Value::String(String::new()), process.args.clone());
    };
    // Never absent, as the reference has it: the document is part of a layer.
    let args = words.chain(process.args.iter().flatten().cloned()).collect();
    (toml::Value::String(program), Some(args))
}

fn raw_process(owned: &OwnedProcess, api: PlatformApi) -> RawProcess {
    let process = &owned.process;
    let (command, args) = command_and_args(process, api);
    RawProcess {
        kind: process.kind.clone(),
        command,
        args,
        direct: process.direct,
        buildpack_id: owned.buildpack_id.clone(),
        working_dir: process.working_dir.clone(),
        exec_env: process.exec_env.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Metadata {
        let process = Process {
            kind: "web".into(),
            command: vec!["serve".into(), "--port".into()],
            args: Some(vec!["80".into()]),
            direct: true,
            ..Process::default()
        };
        Metadata {
            default_process: Some("web".into()),
            buildpacks: vec![GroupElement {
                id: "a/b".into(),
                version: "1".into(),
                api: "0.9".into(),
                ..Default::default()
            }],
            processes: vec![OwnedProcess { process, buildpack_id: "a/b".into() }],
            ..Metadata::default()
        }
    }

    #[test]
    fn the_command_takes_the_form_of_the_platform_api() {
        let text = sample().to_toml(PlatformApi::V0_10);
        assert!(text.contains("command = [\"serve\", \"--port\"]\n  args = [\"80\"]"), "{text}");
        let text = sample().to_toml(PlatformApi::V0_9);
        assert!(text.contains("command = \"serve\"\n  args = [\"--port\", \"80\"]"), "{text}");
    }

    #[test]
    fn a_command_is_escaped_as_json_is() {
        let mut metadata = sample();
        metadata.processes[0].process.command = vec!["a && <b>".into()];
        metadata.processes[0].process.args = Some(vec!["&".into()]);
        let text = metadata.to_toml(PlatformApi::V0_10);
        assert!(text.contains(r#"command = ["a \u0026\u0026 \u003cb\u003e"]"#), "{text}");
        assert!(text.contains(r#"args = ["&"]"#), "{text}");
        let old = metadata.to_toml(PlatformApi::V0_9);
        assert!(old.contains(r#"command = "a \u0026\u0026 \u003cb\u003e""#), "{old}");
        assert_eq!(Metadata::parse(&text).unwrap(), metadata);
    }

    #[test]
    fn the_bill_of_materials_is_written_sorted() {
        let data: toml::Table = "n = 1\nlist = [{ b = 1, a = 2 }]\n[inner]\nz = 1\ny = 2\n".parse().unwrap();
        let entry = BomEntry { name: "x".into(), metadata: Some(data), ..BomEntry::default() };
        let text = Metadata { bom: vec![entry], ..sample() }.to_toml(PlatformApi::V0_8);
        let order: Vec<_> = text.lines().filter_map(|line| line.trim().split(" = ").next()).collect();
        let keys: Vec<_> = order.iter().filter(|key| ["a", "b", "n", "y", "z"].contains(key)).collect();
        assert_eq!(keys, [&"n", &"y", &"z", &"a", &"b"], "{text}");
    }

    #[test]
    fn no_arguments_and_an_empty_list_are_told_apart() {
        for (command, args, api, has_key) in [
            (vec!["x".into()], None, PlatformApi::V0_10, false),
            (vec!["x".into()], Some(vec![]), PlatformApi::V0_10, true),
            (vec!["x".into()], None, PlatformApi::V0_9, true),
            (vec!["x".into()], Some(vec![]), PlatformApi::V0_9, true),
            (vec![], None, PlatformApi::V0_9, false),
        ] {
            let mut metadata = sample();
            metadata.processes[0].process =
                Process { command, args, ..sample().processes[0].process.clone() };
            assert_eq!(metadata.to_toml(api).contains("args = []"), has_key, "{api}");
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let written = sample().to_toml(PlatformApi::NEWEST);
        assert_eq!(Metadata::parse(&written).unwrap(), sample());
    }

    #[test]
    fn annotations_are_written_only_when_there_are_some() {
        assert!(!sample().to_toml(PlatformApi::NEWEST).contains("annotations"));
        let annotations = vec![Label { key: "a.b".into(), value: "c".into() }];
        let annotated = Metadata { annotations, ..sample() };
        assert_eq!(Metadata::parse(&annotated.to_toml(PlatformApi::NEWEST)).unwrap(), annotated);
    }

    #[test]
    fn without_processes_there_is_an_empty_list_and_no_default() {
        assert_eq!(Metadata::default().to_toml(PlatformApi::NEWEST), "processes = []\n");
    }
}
