//! What an image says of itself that a build needs to know (platform specification, "analyzer").

use strata_oci::ImageConfig;
use strata_spec::analyzed::{Analyzed, Distro, Target};
use strata_spec::labels;

use crate::detect::BuildTarget;

/// What a run image is for.
pub fn target(config: &ImageConfig) -> Target {
    let label = |name| config.label(name).map(str::to_owned);
    let distro = match (label(labels::BASE_DISTRO_NAME), label(labels::BASE_DISTRO_VERSION)) {
        (None, None) => None,
        (name, version) => {
            Some(Distro { name: name.unwrap_or_default(), version: version.unwrap_or_default() })
        }
    };
    Target {
        id: label(labels::BASE_ID).unwrap_or_default(),
        os: config.os().to_owned(),
        arch: config.architecture().to_owned(),
        variant: config.variant().unwrap_or_default().to_owned(),
        distro,
    }
}

/// What buildpacks build for: the run image's target, completed from the build environment. `os_release` is asked for
/// the distribution when the run image names none; `host` is this machine's architecture.
pub fn build_target(
    analyzed: &Analyzed,
    exec_env: &str,
    host: &str,
    os_release: &mut dyn FnMut() -> Option<(String, String)>,
) -> BuildTarget {
    let target =
        analyzed.run_image.as_ref().and_then(|run_image| run_image.target.clone()).unwrap_or_default();
    let or = |text: String, default: &str| if text.is_empty() { default.to_owned() } else { text };
    BuildTarget {
        os: or(target.os, "linux"),
        arch: or(target.arch, host),
        variant: target.variant,
        distro: match target.distro {
            Some(Distro { name, version }) => Some((name, version)),
            None => os_release(),
        },
        exec_env: exec_env.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use strata_spec::analyzed::RunImage;

    #[test]
    fn a_target_is_read_from_configuration_and_labels() {
        let mut config = ImageConfig::new("linux", "arm64");
        config.set_variant(Some("v8"));
        assert_eq!(target(&config).distro, None);
        config.set_label(labels::BASE_DISTRO_NAME, "debian");
        config.set_label(labels::BASE_ID, "base");
        let found = target(&config);
        assert_eq!(
            (found.os.as_str(), found.arch.as_str(), found.variant.as_str()),
            ("linux", "arm64", "v8")
        );
        assert_eq!(found.id, "base");
        assert_eq!(found.distro, Some(Distro { name: "debian".into(), version: String::new() }));
    }

    #[test]
    fn the_build_environment_stands_in_for_a_run_image_that_says_nothing() {
        let mut asked = 0;
        let mut os_release = || {
            asked += 1;
            Some(("debian".to_owned(), "12".to_owned()))
        };
        let silent = build_target(&Analyzed::default(), "test", "amd64", &mut os_release);
        assert_eq!((silent.os.as_str(), silent.arch.as_str()), ("linux", "amd64"));
        assert_eq!(silent.distro, Some(("debian".into(), "12".into())));
        let distro = Some(Distro { name: "alpine".into(), version: "3".into() });
        let target = Some(Target { os: "linux".into(), arch: "arm64".into(), distro, ..Target::default() });
        let run_image = Some(RunImage { target, ..RunImage::default() });
        let analyzed = Analyzed { run_image, ..Analyzed::default() };
        let known = build_target(&analyzed, "test", "amd64", &mut os_release);
        assert_eq!(known.distro, Some(("alpine".into(), "3".into())));
        assert_eq!((known.arch.as_str(), asked), ("arm64", 1));
    }
}
