//! `launch.toml` (buildpack specification, "launch.toml").

use crate::api::BuildpackApi;
use crate::bom::{self, BomEntry};
use crate::doc::{DocError, from_toml};
use serde::{Deserialize, Serialize};

/// `launch.toml`, with what depends on the Buildpack API already resolved.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LaunchToml {
    /// Process types.
    pub processes: Vec<Process>,
    /// Labels for the image.
    pub labels: Vec<Label>,
    /// Annotations for the image's manifest; not of the specification.
    pub annotations: Vec<Label>,
    /// Slices of the app directory.
    pub slices: Vec<Slice>,
    /// The unstructured bill of materials of what is launched.
    pub bom: Vec<BomEntry>,
    /// Process types whose working directory the Buildpack API does not know, so that it was dropped.
    pub dropped_working_dirs: Vec<String>,
}

/// One process type.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Process {
    /// The type, for example `web`.
    pub kind: String,
    /// Program and fixed arguments.
    pub command: Vec<String>,
    /// Arguments that a user may override. None at all and an empty list are told apart in documents, and nowhere
    /// else.
    pub args: Option<Vec<String>>,
    /// Whether the program is executed without a shell.
    pub direct: bool,
    /// Whether it is the image's default process.
    pub default: bool,
    /// Working directory; empty for the app directory.
    pub working_dir: String,
    /// Execution environments; empty for all.
    pub exec_env: Vec<String>,
}

/// One `[[labels]]` or `[[annotations]]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Label {
    /// Key.
    pub key: String,
    /// Value.
    #[serde(default)]
    pub value: String,
}

/// One `[[slices]]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slice {
    /// Glob patterns relative to the app directory.
    #[serde(default)]
    pub paths: Vec<String>,
}

#[derive(Deserialize)]
struct Raw {
    #[serde(default)]
    processes: Vec<RawProcess>,
    #[serde(default)]
    labels: Vec<Label>,
    #[serde(default)]
    annotations: Vec<Label>,
    #[serde(default)]
    slices: Vec<Slice>,
    #[serde(default)]
    bom: Vec<BomEntry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct RawProcess {
    #[serde(rename = "type", default)]
    kind: String,
    command: Option<toml::Value>,
    args: Option<Vec<String>>,
    direct: Option<bool>,
    #[serde(default)]
    default: bool,
    #[serde(default)]
    working_dir: String,
    #[serde(default)]
    exec_env: Vec<String>,
}

impl LaunchToml {
    /// Parses `launch.toml` by the rules of the buildpack's API.
    ///
    /// # Errors
    /// When the text is not TOML, a key has the wrong type for the API, a process has no type or one that cannot be
    /// a file name, or two processes are marked as default.
    pub fn parse(text: &str, api: BuildpackApi) -> Result<Self, DocError> {
        let raw: Raw = from_toml(text)?;
        bom::check(&raw.bom)?;
        let has_dropped = |p: &&RawProcess| !api.has_working_dir() && !p.working_dir.is_empty();
        let dropped_working_dirs = raw.processes.iter().filter(has_dropped).map(|p| p.kind.clone()).collect();
        let processes =
            raw.processes.into_iter().map(|p| resolve(p, api)).collect::<Result<Vec<_>, DocError>>()?;
        if processes.iter().filter(|p| p.default).count() > 1 {
            return Err(DocError::whole("multiple default process types aren't allowed"));
        }
        Ok(Self {
            processes,
            labels: raw.labels,
            annotations: raw.annotations,
            slices: raw.slices,
            bom: raw.bom,
            dropped_working_dirs,
        })
    }
}

/// Characters that a process type may not have: it becomes a file name in `/cnb/process`.
const FORBIDDEN_IN_TYPE: &[char] = &['/', '>', '<', ':', '|', '&', '\\'];

/// Refuses a process type that cannot be a file name.
///
/// # Errors
/// When it is empty, a dot name, or has a forbidden character.
pub fn check_process_type(kind: &str) -> Result<(), DocError> {
    if kind.is_empty() {
        return Err(DocError::whole("type is required for all processes"));
    }
    if kind.contains(FORBIDDEN_IN_TYPE) || kind.contains('\0') || kind == "." || kind == ".." {
        return Err(DocError::whole(format!(
            "process type '{kind}' may not contain characters '/><:|&\\' or be a dot name"
        )));
    }
    Ok(())
}

fn resolve(raw: RawProcess, api: BuildpackApi) -> Result<Process, DocError> {
    let kind = raw.kind;
    check_process_type(&kind)?;
    let command = match (raw.command, api.has_command_arrays()) {
        (None, _) => Vec::new(),
        (Some(toml::Value::String(command)), false) => vec![command],
        (Some(toml::Value::Array(items)), true) => items
            .into_iter()
            .map(|item| match item {
                toml::Value::String(text) => Ok(text),
                other => Err(DocError::whole(format!(
                    "process '{kind}': command must hold strings, found {}",
                    other.type_str()
                ))),
            })
            .collect::<Result<_, _>>()?,
        (Some(other), true) => {
            return Err(DocError::whole(format!(
                "process '{kind}': command must be an array of strings at Buildpack API {api}, found {}",
                other.type_str()
            )));
        }
        (Some(other), false) => {
            return Err(DocError::whole(format!(
                "process '{kind}': command must be a string at Buildpack API {api}, found {}",
                other.type_str()
            )));
        }
    };
    if api.has_command_arrays() && raw.direct.is_some() {
        return Err(DocError::whole("process.direct is not supported on this buildpack version"));
    }
    Ok(Process {
        kind,
        command,
        args: raw.args,
        direct: api.has_command_arrays() || raw.direct.unwrap_or(false),
        default: raw.default,
        working_dir: if api.has_working_dir() { raw.working_dir } else { String::new() },
        exec_env: raw.exec_env,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, api: BuildpackApi) -> Result<LaunchToml, String> {
        LaunchToml::parse(text, api).map_err(|error| error.message)
    }

    #[test]
    fn the_form_of_command_follows_the_buildpack_api() {
        let string = "[[processes]]\ntype = \"web\"\ncommand = \"serve\"\n";
        let array = "[[processes]]\ntype = \"web\"\ncommand = [\"serve\", \"-p\"]\n";
        for api in BuildpackApi::ALL {
            let arrays = *api >= BuildpackApi::V0_9;
            assert_eq!(parse(string, *api).is_ok(), !arrays, "{api}");
            assert_eq!(parse(array, *api).is_ok(), arrays, "{api}");
        }
        let direct = "[[processes]]\ntype = \"web\"\ncommand = [\"serve\"]\ndirect = true\n";
        assert!(parse(direct, BuildpackApi::V0_9).unwrap_err().contains("process.direct"));
        assert!(parse(array, BuildpackApi::V0_9).unwrap().processes[0].direct);
        assert!(!parse(string, BuildpackApi::V0_8).unwrap().processes[0].direct);
    }

    #[test]
    fn labels_and_annotations_are_told_apart() {
        let text = "[[labels]]\nkey = \"a\"\n[[annotations]]\nkey = \"b\"\nvalue = \"c\"\n";
        let launch = parse(text, BuildpackApi::V0_10).unwrap();
        assert_eq!(launch.labels, [Label { key: "a".into(), value: String::new() }]);
        assert_eq!(launch.annotations, [Label { key: "b".into(), value: "c".into() }]);
        assert!(parse("[[annotations]]\nvalue = \"c\"\n", BuildpackApi::V0_10).is_err());
    }

    #[test]
    fn what_cannot_be_an_image_is_refused() {
        let two = "[[processes]]\ntype=\"a\"\ndefault=true\n[[processes]]\ntype=\"b\"\ndefault=true\n";
        assert!(parse(two, BuildpackApi::V0_10).unwrap_err().contains("multiple default"));
        for kind in ["", "a/b", "..", "a|b"] {
            let text = format!("[[processes]]\ntype = \"{kind}\"\n");
            assert!(parse(&text, BuildpackApi::V0_10).is_err(), "{kind}");
        }
    }
}
