//! Reads TOML: the metadata of the image, and what `exec.d` programs say.

use strata_launch::api::{BuildpackApi, Version};
use strata_launch::metadata::{Buildpack, Metadata, Process};
use toml_span::Value;
use toml_span::value::{Table, ValueInner};

use crate::failure::Failure;

/// Parses `metadata.toml`; what does not matter at launch is not looked at.
pub(crate) fn metadata(text: &str) -> Result<Metadata, Failure> {
    let (processes, buildpacks) = raw_metadata(text).map_err(Failure::Metadata)?;
    let buildpacks = buildpacks.into_iter().map(|(id, api)| {
        let Some(version) = Version::parse(&api) else { return Err(Failure::BuildpackApiText(id)) };
        match BuildpackApi::new(version) {
            Some(api) => Ok(Buildpack { id, api }),
            None => Err(Failure::BuildpackApi { id, api }),
        }
    });
    Ok(Metadata { processes, buildpacks: buildpacks.collect::<Result<_, _>>()? })
}

type RawMetadata = (Vec<Process>, Vec<(String, String)>);

fn raw_metadata(text: &str) -> Result<RawMetadata, String> {
    let without_bom;
    let root = match toml_span::parse(text) {
        Ok(root) => root,
        // The parser knows no dates. Only the bill of materials of old APIs, which buildpacks fill, can hold them.
        Err(error) => {
            without_bom = cut_bom(text);
            toml_span::parse(&without_bom).map_err(|_still_wrong| located(text, &error))?
        }
    };
    let root = root.as_table().ok_or("not a table")?;
    let processes = tables(root, "processes")?.into_iter().map(process).collect::<Result<_, _>>()?;
    let buildpacks = tables(root, "buildpacks")?.into_iter().map(buildpack).collect::<Result<_, _>>()?;
    Ok((processes, buildpacks))
}

/// The text without its `[[bom]]` tables and the tables below them.
fn cut_bom(text: &str) -> String {
    let mut in_bom = false;
    let keep = |line: &&str| {
        if let Some(header) = line.trim_start().strip_prefix('[') {
            let key = header.trim_start_matches(['[', ' ', '\t']).strip_prefix("bom");
            in_bom = key.is_some_and(|rest| rest.trim_start().starts_with(['.', ']']));
        }
        !in_bom
    };
    text.split_inclusive('\n').filter(keep).collect()
}

fn process(table: &Table<'_>) -> Result<Process, String> {
    let command = match table.get("command").map(Value::as_ref) {
        Some(ValueInner::String(command)) => vec![command.to_string()],
        _ => strings(table, "command")?,
    };
    let direct = match table.get("direct") {
        None => false,
        Some(direct) => direct.as_bool().ok_or_else(|| wrong("direct", "a boolean"))?,
    };
    let working_dir = string(table, "working-dir")?;
    Ok(Process {
        r#type: string(table, "type")?,
        command,
        args: strings(table, "args")?,
        direct,
        buildpack_id: string(table, "buildpack-id")?,
        working_dir: (!working_dir.is_empty()).then_some(working_dir),
        exec_env: strings(table, "exec-env")?,
    })
}

fn buildpack(table: &Table<'_>) -> Result<(String, String), String> {
    Ok((string(table, "id")?, string(table, "api")?))
}

/// Parses a table of strings, in the order of its keys.
pub(crate) fn variables(text: &str) -> Result<Vec<(String, String)>, String> {
    let root = toml_span::parse(text).map_err(|error| located(text, &error))?;
    let root = root.as_table().ok_or("not a table")?;
    root.iter()
        .map(|(name, value)| {
            let value = value.as_str().ok_or_else(|| wrong(&name.name, "a string"))?;
            Ok((name.name.to_string(), value.to_owned()))
        })
        .collect()
}

fn tables<'a, 'de>(table: &'a Table<'de>, key: &str) -> Result<Vec<&'a Table<'de>>, String> {
    let Some(value) = table.get(key) else { return Ok(Vec::new()) };
    let items = value.as_array().ok_or_else(|| wrong(key, "an array of tables"))?;
    items.iter().map(|item| item.as_table().ok_or_else(|| wrong(key, "an array of tables"))).collect()
}

fn string(table: &Table<'_>, key: &str) -> Result<String, String> {
    let Some(value) = table.get(key) else { return Ok(String::new()) };
    value.as_str().map(str::to_owned).ok_or_else(|| wrong(key, "a string"))
}

fn strings(table: &Table<'_>, key: &str) -> Result<Vec<String>, String> {
    let Some(value) = table.get(key) else { return Ok(Vec::new()) };
    let items = value.as_array().ok_or_else(|| wrong(key, "an array of strings"))?;
    items
        .iter()
        .map(|item| item.as_str().map(str::to_owned).ok_or_else(|| wrong(key, "an array of strings")))
        .collect()
}

fn wrong(key: &str, expected: &str) -> String {
    format!("toml: '{key}' is not {expected}")
}

fn located(text: &str, error: &toml_span::Error) -> String {
    let before = text.get(..error.span.start).unwrap_or(text);
    format!("toml: line {}: {error}", before.matches('\n').count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_a_string_or_an_array() {
        let text = r#"
            buildpack-default-process-type = "web"
            [[buildpacks]]
            id = "a/b"
            version = "1.2"
            api = "0.9"
            [[processes]]
            type = "web"
            command = ["run", "it \u003c"]
            args = ["x"]
            direct = true
            buildpack-id = "a/b"
            working-dir = "/w"
            exec-env = ["test"]
            [[processes]]
            type = "old"
            command = "run it"
            working-dir = ""
        "#;
        let metadata = metadata(text).unwrap();
        let [web, old] = &metadata.processes[..] else { panic!("{metadata:?}") };
        assert_eq!((&web.command[..], web.direct), (&["run".to_owned(), "it <".to_owned()][..], true));
        assert_eq!((&web.args[0][..], &web.buildpack_id[..], &web.exec_env[0][..]), ("x", "a/b", "test"));
        assert_eq!(web.working_dir.as_deref(), Some("/w"));
        assert_eq!(
            (&old.command[..], old.direct, &old.working_dir),
            (&["run it".to_owned()][..], false, &None)
        );
        assert_eq!(metadata.buildpacks[0].id, "a/b");
    }

    #[test]
    fn a_date_in_the_bill_of_materials_does_not_matter() {
        let text = "[[bom]]\nname = 'x'\n  [bom.metadata]\n  date = 2020-01-01T00:00:00Z\n[[buildpacks]]\nid = 'a'\napi = '0.7'\n";
        assert_eq!(metadata(text).unwrap().buildpacks[0].id, "a");
        assert_eq!(cut_bom("[bomb]\n[ bom . x ]\ny\n[[bom]]\n[z]"), "[bomb]\n[z]");
        let error = metadata("[[bom]]\nd = 2020-01-01\n[x]\ny = ").unwrap_err().to_string();
        assert!(error.contains("line 2"), "{error}");
    }

    #[test]
    fn a_wrong_file_is_refused_with_its_reason() {
        for (text, expected) in [
            ("x = ", "failed to read metadata: toml: line 1: "),
            ("\n[[processes]]\ntype = 1", "failed to read metadata: toml: 'type' is not a string"),
            (
                "[[processes]]\ncommand = 1",
                "failed to read metadata: toml: 'command' is not an array of strings",
            ),
            ("[[processes]]\nargs = 'x'", "failed to read metadata: toml: 'args' is not an array of strings"),
            ("[[processes]]\ndirect = 'x'", "failed to read metadata: toml: 'direct' is not a boolean"),
            ("processes = 'x'", "failed to read metadata: toml: 'processes' is not an array of tables"),
            (
                "[[buildpacks]]\nid = 'a'\napi = 'x'",
                "failed to parse buildpack API '<nil>' for buildpack 'a'",
            ),
            ("[[buildpacks]]\nid = 'a'", "failed to parse buildpack API '<nil>' for buildpack 'a'"),
            ("[[buildpacks]]\nid = 'a'\napi = '0.6'", "failed to set API for buildpack 'a': "),
        ] {
            let actual = metadata(text).unwrap_err().to_string();
            assert!(actual.starts_with(expected), "{text:?}: {actual}");
        }
    }

    #[test]
    fn programs_may_set_strings_only() {
        let expected = vec![("A".to_owned(), "b\nc".to_owned()), ("X Y".to_owned(), String::new())];
        assert_eq!(variables("\"X Y\" = ''\nA = \"b\\nc\"").unwrap(), expected);
        assert_eq!(variables("").unwrap(), vec![]);
        assert_eq!(variables("A = 1").unwrap_err(), "toml: 'A' is not a string");
        assert_eq!(variables("[a]\nb = 'c'").unwrap_err(), "toml: 'a' is not a string");
    }
}
