//! What goes into the image besides bytes: labels, environment, entry point (platform specification, "exporter").

use serde_json::Value;
use strata_spec::PlatformApi;
use strata_spec::bom::BomEntry;
use strata_spec::group::GroupElement;
use strata_spec::labels::{BuildMetadata, BuildpackEntry, Launcher, ProcessEntry};
use strata_spec::metadata::{Metadata, OwnedProcess, command_and_args};
use strata_spec::values;

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
    let bom = match metadata.listed_bom(api) {
        [] if api.has_legacy_sbom_files() => None,
        [] => Some(Value::Null),
        entries => Some(entries.iter().map(BomEntry::to_json).collect()),
    };
    BuildMetadata {
        bom,
        buildpacks: metadata.buildpacks.iter().map(group_entry).collect(),
        extensions: metadata.extensions.iter().map(group_entry).collect(),
        launcher,
        processes: metadata.processes.iter().map(|p| process_entry(p, api)).collect(),
        default_process: metadata.default_process.clone().unwrap_or_default(),
    }
}

fn group_entry(element: &GroupElement) -> BuildpackEntry {
    BuildpackEntry {
        id: element.id.clone(),
        version: element.version.clone(),
        homepage: element.homepage.clone(),
    }
}

fn process_entry(owned: &OwnedProcess, api: PlatformApi) -> ProcessEntry {
    let (command, args) = command_and_args(&owned.process, api);
    ProcessEntry {
        kind: owned.process.kind.clone(),
        command: values::to_json(&command),
        args,
        direct: owned.process.direct,
        buildpack_id: owned.buildpack_id.clone(),
        working_dir: owned.process.working_dir.clone(),
        exec_env: owned.process.exec_env.clone(),
    }
}

/// When images are made that do not say otherwise: always the same, so that equal images are equal.
pub const CREATED: &str = "1980-01-01T00:00:01Z";

/// The time that `SOURCE_DATE_EPOCH` names, as RFC 3339; `None` when it is no number of seconds, or of a year that
/// RFC 3339 cannot write.
pub fn created(epoch: &str) -> Option<String> {
    const DAY: i64 = 86_400;
    let seconds: i64 = epoch.parse().ok()?;
    let (days, rest) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
    // Years that begin in March put the leap day last (days since 0000-03-01).
    let days = days.checked_add(719_468)?;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era.checked_mul(400)? + year_of_era + i64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    (0..=9999)
        .contains(&year)
        .then(|| format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z"))
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
    fn an_epoch_becomes_a_time_that_rfc_3339_can_write() {
        for (epoch, expected) in [
            ("0", Some("1970-01-01T00:00:00Z")),
            ("315532801", Some(CREATED)),
            ("951782400", Some("2000-02-29T00:00:00Z")),
            ("1709251199", Some("2024-02-29T23:59:59Z")),
            ("-1", Some("1969-12-31T23:59:59Z")),
            ("-62135596800", Some("0001-01-01T00:00:00Z")),
            ("253402300799", Some("9999-12-31T23:59:59Z")),
            ("253402300800", None),
            ("-62167219201", None),
            ("9223372036854775807", None),
            ("-9223372036854775808", None),
            ("", None),
            ("1.5", None),
            ("1e9", None),
        ] {
            assert_eq!(created(epoch).as_deref(), expected, "{epoch}");
        }
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
}
