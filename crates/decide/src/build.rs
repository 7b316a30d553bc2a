//! What the build phase makes of its buildpacks' files (buildpack specification, "Phase #3: Build").

use strata_spec::group::GroupElement;
use strata_spec::launch::{LaunchToml, Process};
use strata_spec::metadata::{Metadata, OwnedProcess};

/// Variables that buildpacks get from the lifecycle's own environment; all others are kept from them.
pub const PASSED_ON: &[&str] = &[
    "CNB_STACK_ID",
    "HOSTNAME",
    "HOME",
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "NO_PROXY",
    "no_proxy",
    "PATH",
    "LD_LIBRARY_PATH",
    "LIBRARY_PATH",
    "CPATH",
    "PKG_CONFIG_PATH",
];

/// Folders of a build layer, and the variables they are prepended to.
pub const BUILD_FOLDERS: &[(&str, &[&str])] = &[
    ("bin", &["PATH"]),
    ("lib", &["LD_LIBRARY_PATH", "LIBRARY_PATH"]),
    ("include", &["CPATH"]),
    ("pkgconfig", &["PKG_CONFIG_PATH"]),
];

/// Adds one buildpack's `launch.toml` to the outcome. Returns the default process type that it took away, if any.
///
/// Processes of one type replace each other; the last one marked as default wins; redefining the default type
/// without the mark leaves the image without a default. Annotations of one key replace each other as well.
pub fn merge_launch(metadata: &mut Metadata, buildpack: &GroupElement, launch: LaunchToml) -> Option<String> {
    let mut lost = None;
    for process in launch.processes {
        let kind = process.kind.clone();
        if process.default {
            metadata.default_process = Some(kind.clone());
            lost = None;
        } else if metadata.default_process.as_deref() == Some(&kind) {
            metadata.default_process = None;
            lost = Some(kind.clone());
        }
        metadata.processes.retain(|p| p.process.kind != kind);
        let process = Process { default: false, ..process };
        metadata.processes.push(OwnedProcess { process, buildpack_id: buildpack.id.clone() });
    }
    metadata.processes.sort_by(|a, b| a.process.kind.cmp(&b.process.kind));
    metadata.labels.extend(launch.labels);
    for annotation in launch.annotations {
        metadata.annotations.retain(|earlier| earlier.key != annotation.key);
        metadata.annotations.push(annotation);
    }
    metadata.slices.extend(launch.slices);
    metadata.bom.extend(launch.bom.into_iter().map(|entry| entry.by(&buildpack.id, &buildpack.version)));
    lost
}

#[cfg(test)]
mod tests {
    use super::*;
    use strata_spec::launch::Label;

    fn buildpack(id: &str) -> GroupElement {
        GroupElement { id: id.into(), ..GroupElement::default() }
    }

    fn launch(processes: &[(&str, bool)]) -> LaunchToml {
        let process = |(kind, default): &(&str, bool)| Process {
            kind: (*kind).into(),
            default: *default,
            ..Process::default()
        };
        LaunchToml { processes: processes.iter().map(process).collect(), ..LaunchToml::default() }
    }

    #[test]
    fn the_default_process_follows_the_last_mark() {
        for (buildpacks, default, lost) in [
            (vec![launch(&[("web", true)])], Some("web"), None),
            (vec![launch(&[("web", true)]), launch(&[("worker", true)])], Some("worker"), None),
            (vec![launch(&[("web", true)]), launch(&[("web", false)])], None, Some("web")),
            (vec![launch(&[("web", true)]), launch(&[("worker", false)])], Some("web"), None),
            (vec![launch(&[("web", false)])], None, None),
        ] {
            let mut metadata = Metadata::default();
            let mut last = None;
            for (i, launch) in buildpacks.into_iter().enumerate() {
                last = merge_launch(&mut metadata, &buildpack(&format!("b{i}")), launch);
            }
            assert_eq!(metadata.default_process.as_deref(), default);
            assert_eq!(last.as_deref(), lost);
        }
    }

    #[test]
    fn processes_are_sorted_and_later_ones_replace_earlier_ones() {
        let mut metadata = Metadata::default();
        merge_launch(&mut metadata, &buildpack("one"), launch(&[("web", false), ("cron", false)]));
        merge_launch(&mut metadata, &buildpack("two"), launch(&[("web", false)]));
        let all: Vec<_> =
            metadata.processes.iter().map(|p| (p.process.kind.as_str(), p.buildpack_id.as_str())).collect();
        assert_eq!(all, [("cron", "one"), ("web", "two")]);
    }

    #[test]
    fn of_annotations_with_one_key_the_last_is_kept() {
        let annotated = |pairs: &[(&str, &str)]| {
            let label = |(key, value): &(&str, &str)| Label { key: (*key).into(), value: (*value).into() };
            LaunchToml { annotations: pairs.iter().map(label).collect(), ..LaunchToml::default() }
        };
        let mut metadata = Metadata::default();
        merge_launch(&mut metadata, &buildpack("one"), annotated(&[("a", "1"), ("b", "1"), ("b", "2")]));
        merge_launch(&mut metadata, &buildpack("two"), annotated(&[("a", "3")]));
        assert_eq!(metadata.annotations, annotated(&[("b", "2"), ("a", "3")]).annotations);
    }
}
