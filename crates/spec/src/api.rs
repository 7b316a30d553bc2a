//! API versions, and what each of them has. The only file besides the input table that names a version.

use std::fmt;

/// A text that is no API version, or one that is not supported.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// The text does not have the form `<major>.<minor>`.
    #[error("'{0}' is not an API version; expected <major>.<minor>, for example \"0.10\"")]
    Malformed(String),
    /// The version is well-formed and not supported.
    #[error("API version '{found}' is not supported; supported are {supported}")]
    Unsupported {
        /// The version as asked for.
        found: String,
        /// The supported versions, for the message.
        supported: String,
    },
}

/// Splits `0.10`, `v0.10` or `1` into numbers. The grammar is the reference lifecycle's: `^v?(\d+)\.?(\d*)$`.
fn parse_version(text: &str) -> Option<(u32, u32)> {
    let text = text.strip_prefix('v').unwrap_or(text);
    let (major, minor) = text.split_once('.').unwrap_or((text, ""));
    let number = |part: &str| -> Option<u32> {
        part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse().ok()).flatten()
    };
    let minor = if minor.is_empty() { Some(0) } else { number(minor) };
    Some((number(major)?, minor?))
}

macro_rules! api {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $minor:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $(#[doc = concat!("Version 0.", $minor, ".")] $variant),+ }

        impl $name {
            /// All supported versions, ascending.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            fn minor(self) -> u32 {
                match self { $(Self::$variant => $minor),+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "0.{}", self.minor())
            }
        }

        impl std::str::FromStr for $name {
            type Err = ApiError;
            fn from_str(text: &str) -> Result<Self, ApiError> {
                let (major, minor) =
                    parse_version(text).ok_or_else(|| ApiError::Malformed(text.to_owned()))?;
                Self::ALL.iter().copied().find(|v| major == 0 && v.minor() == minor).ok_or_else(|| {
                    let all: Vec<String> = Self::ALL.iter().map(ToString::to_string).collect();
                    ApiError::Unsupported { found: text.to_owned(), supported: all.join(", ") }
                })
            }
        }
    };
}

api! {
    /// A supported Buildpack API version.
    BuildpackApi { V0_7 = 7, V0_8 = 8, V0_9 = 9, V0_10 = 10, V0_11 = 11, V0_12 = 12 }
}
api! {
    /// A supported Platform API version.
    PlatformApi {
        V0_7 = 7, V0_8 = 8, V0_9 = 9, V0_10 = 10, V0_11 = 11, V0_12 = 12, V0_13 = 13, V0_14 = 14, V0_15 = 15
    }
}

impl BuildpackApi {
    /// Whether detect and build get `CNB_PLATFORM_DIR`, `CNB_LAYERS_DIR` and the plan paths as variables.
    pub fn has_path_variables(self) -> bool {
        self >= Self::V0_8
    }

    /// Whether a process may have a `working-dir`.
    pub fn has_working_dir(self) -> bool {
        self >= Self::V0_8
    }

    /// Whether `command` is an array, `direct` is gone and user arguments replace the process's own.
    pub fn has_command_arrays(self) -> bool {
        self >= Self::V0_9
    }

    /// Whether detect and build get `CNB_TARGET_*`.
    pub fn has_targets(self) -> bool {
        self >= Self::V0_10
    }

    /// Whether detect and build get `CNB_EXEC_ENV`.
    pub fn has_exec_env(self) -> bool {
        self >= Self::V0_12
    }
}

impl PlatformApi {
    /// The newest supported version; the one that `strata` itself builds with.
    pub const NEWEST: Self = Self::V0_15;

    /// Whether buildpacks' SBOM files go into a layer of the image.
    pub fn has_sbom_layer(self) -> bool {
        self >= Self::V0_8
    }

    /// Whether the unstructured bill of materials left the labels for `sbom.legacy.json`.
    pub fn has_legacy_sbom_files(self) -> bool {
        self >= Self::V0_9
    }

    /// Whether `SOURCE_DATE_EPOCH` dates the image.
    pub fn has_source_date_epoch(self) -> bool {
        self >= Self::V0_9
    }

    /// Whether a process's `command` is an array in `metadata.toml` and in the label.
    pub fn has_command_arrays(self) -> bool {
        self >= Self::V0_10
    }

    /// Whether orders may name image extensions and the restorer takes a build image.
    pub fn has_extensions(self) -> bool {
        self >= Self::V0_10
    }

    /// Whether the creator restores stores even when it is told to skip restoring.
    pub fn restores_when_skipping(self) -> bool {
        self >= Self::V0_10
    }

    /// Whether the SBOMs of lifecycle and launcher go with the image.
    pub fn has_own_sboms(self) -> bool {
        self >= Self::V0_11
    }

    /// Whether the run image's history is kept, `run.toml` replaces `stack.toml`, and targets replace stacks.
    pub fn has_targets(self) -> bool {
        self >= Self::V0_12
    }

    /// Whether image extensions need no consent to experiments.
    pub fn has_stable_extensions(self) -> bool {
        self >= Self::V0_13
    }

    /// Whether what an extension generates is in one folder, with files for its Dockerfiles.
    pub fn has_extension_contexts(self) -> bool {
        self >= Self::V0_13
    }

    /// Whether an old cache image stays in the registry when a new one replaces it.
    pub fn keeps_old_cache_image(self) -> bool {
        self >= Self::V0_13
    }

    /// Whether the restorer makes sure that the run image can still be had.
    pub fn checks_run_image(self) -> bool {
        self >= Self::V0_14
    }

    /// Whether a launch layer that the previous image lacks is restored from the cache alone.
    pub fn restores_launch_from_cache(self) -> bool {
        self >= Self::V0_14
    }

    /// Whether `system.toml` adds buildpacks to every group.
    pub fn has_system_buildpacks(self) -> bool {
        self >= Self::V0_15
    }

    /// Whether the execution environment filters buildpacks and processes.
    pub fn has_exec_env(self) -> bool {
        self >= Self::V0_15
    }
}

/// Whether an image that was built with the Platform API `version` says by a target what base it needs, rather than by a
/// stack. It may be older or newer than all versions that are supported; an image that does not say is an old one.
///
/// # Errors
/// When the text is no version.
pub fn image_has_target(version: &str) -> Result<bool, ApiError> {
    if version.is_empty() {
        return Ok(false);
    }
    match parse_version(version) {
        Some(version) => Ok(version >= (0, PlatformApi::V0_12.minor())),
        None => Err(ApiError::Malformed(version.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_parse_as_the_reference_parses_them() {
        for (text, expected) in [
            ("0.10", Some(BuildpackApi::V0_10)),
            ("v0.9", Some(BuildpackApi::V0_9)),
            ("0.09", Some(BuildpackApi::V0_9)),
            ("0.9.1", None),
            ("1.0", None),
            ("1", None),
            ("0.6", None),
            ("", None),
            ("0.+9", None),
            ("<nil>", None),
            ("99999999999999.9", None),
        ] {
            assert_eq!(text.parse::<BuildpackApi>().ok(), expected, "{text}");
        }
    }

    #[test]
    fn an_unsupported_version_is_told_from_a_malformed_one() {
        assert!(matches!("0.1".parse::<BuildpackApi>(), Err(ApiError::Unsupported { .. })));
        assert!(matches!("x".parse::<BuildpackApi>(), Err(ApiError::Malformed(_))));
    }

    #[test]
    fn images_of_any_version_have_a_stack_or_a_target() {
        for (version, expected) in [
            ("", Some(false)),
            ("0.3", Some(false)),
            ("0.11", Some(false)),
            ("0.12", Some(true)),
            ("0.99", Some(true)),
            ("1.0", Some(true)),
            ("x", None),
        ] {
            assert_eq!(image_has_target(version).ok(), expected, "{version}");
        }
    }
}
