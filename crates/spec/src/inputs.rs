//! The table of inputs: every flag and variable by which a platform tells a phase something (platform
//! specification, "Inputs" of each phase).
//!
//! Parsing, usage texts and resolution walk it. Besides `api` it is the only file that names a version.

use crate::PlatformApi::{self, V0_7, V0_9, V0_10, V0_11, V0_12, V0_13, V0_14, V0_15};
use crate::phase::Phase::{self, Analyze, Build, Create, Detect, Export, Extend, Rebase, Restore};

/// Stands in defaults for the layers directory, which is known only when flags are.
pub const LAYERS_PLACEHOLDER: &str = "<layers>";

/// What kind of value an input has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    Text,
    /// Yes or no.
    Bool,
    /// The number of a user or a group.
    Id,
    /// A length of time, as Go writes it: `336h`.
    Duration,
    /// Yes, no, or `discard`.
    Demand,
    /// Texts: each use of the flag adds one, the variable has them separated by commas.
    List,
}

/// The phase and the versions in which an input's flag exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flag {
    phase: Phase,
    since: PlatformApi,
    /// The first version without it.
    until: Option<PlatformApi>,
}

/// One input.
#[derive(Debug, PartialEq, Eq)]
pub struct Input {
    /// The flag's name without dashes; empty when there is none.
    pub flag: &'static str,
    /// Its variables. They count at every version. Of several, the first that is set wins; of several truth values,
    /// any that is true.
    pub env: &'static [&'static str],
    /// What holds when neither is given; empty for nothing.
    pub default: &'static str,
    /// The kind of its value.
    pub kind: Kind,
    /// What it is for, in usage texts.
    pub help: &'static str,
    /// Where the flag exists.
    pub flags: &'static [Flag],
}

impl Input {
    /// Whether the flag exists for a phase at a version.
    pub fn has_flag(&self, phase: Phase, api: PlatformApi) -> bool {
        self.flags.iter().any(|flag| {
            flag.phase == phase && api >= flag.since && flag.until.is_none_or(|until| api < until)
        })
    }
}

/// The inputs with a flag for a phase at a version, in the order of their names.
pub fn flags_of(phase: Phase, api: PlatformApi) -> Vec<&'static Input> {
    let mut inputs: Vec<_> = INPUTS.iter().copied().filter(|input| input.has_flag(phase, api)).collect();
    inputs.sort_by_key(|input| input.flag);
    inputs
}

const fn from(phase: Phase, since: PlatformApi) -> Flag {
    Flag { phase, since, until: None }
}

const fn always(phase: Phase) -> Flag {
    from(phase, V0_7)
}

const fn before(phase: Phase, until: PlatformApi) -> Flag {
    Flag { phase, since: V0_7, until: Some(until) }
}

macro_rules! inputs {
    ($($name:ident: $kind:ident $flag:literal, $env:expr, $default:literal, $help:literal, $flags:expr;)+) => {
        $(
            #[doc = concat!("Input: ", $help, ".")]
            pub static $name: Input =
                Input { flag: $flag, env: &$env, default: $default, kind: Kind::$kind, help: $help, flags: &$flags };
        )+

        /// All inputs.
        pub static INPUTS: &[&Input] = &[$(&$name),+];
    };
}

// name: kind flag, variables, default, help, where the flag exists.
inputs! {
    ANALYZED: Text "analyzed", ["CNB_ANALYZED_PATH"], "<layers>/analyzed.toml", "file with what the analyzer found",
        [always(Analyze), from(Detect, V0_10), always(Restore), from(Build, V0_12), always(Extend), always(Export)];
    APP: Text "app", ["CNB_APP_DIR"], "/workspace", "directory of the application",
        [always(Detect), always(Build), always(Extend), always(Export), always(Create)];
    // Strata's own: the draft's label is not in the specification.
    APP_SOURCE_LABEL: Bool "", ["CNB_APP_SOURCE_LABEL"], "", "write the label io.buildpacks.app.source", [];
    BUILD_CONFIG: Text "build-config", ["CNB_BUILD_CONFIG_DIR"], "/cnb/build-config",
        "directory of the builder's own settings",
        [from(Detect, V0_11), from(Build, V0_11), from(Create, V0_11)];
    BUILD_IMAGE: Text "build-image", ["CNB_BUILD_IMAGE"], "", "image in which buildpacks run", [from(Restore, V0_10)];
    BUILDPACKS: Text "buildpacks", ["CNB_BUILDPACKS_DIR"], "/cnb/buildpacks", "directory of buildpacks",
        [always(Detect), always(Build), always(Extend), always(Create)];
    CACHE_DIR: Text "cache-dir", ["CNB_CACHE_DIR"], "", "directory of the cache",
        [always(Restore), always(Export), always(Create)];
    CACHE_IMAGE: Text "cache-image", ["CNB_CACHE_IMAGE"], "", "image that is the cache",
        [always(Analyze), always(Restore), always(Export), always(Create)];
    // Strata's own.
    COMPRESSION: Text "compression", ["CNB_LAYER_COMPRESSION"], "",
        "how new layers are compressed: gzip or zstd, with a level from 1 to 9 as in zstd:3, or none",
        [always(Export), always(Create)];
    DAEMON: Bool "daemon", ["CNB_USE_DAEMON"], "", "take images from and give them to a docker daemon",
        [always(Analyze), from(Restore, V0_12), always(Export), always(Create), always(Rebase)];
    EXEC_ENV: Text "", ["CNB_EXEC_ENV"], "production", "execution environment", [];
    EXTENDED: Text "extended", ["CNB_EXTENDED_DIR"], "<layers>/extended", "directory of layers made by extensions",
        [from(Extend, V0_12), from(Export, V0_12)];
    EXTENSIONS: Text "extensions", ["CNB_EXTENSIONS_DIR"], "/cnb/extensions", "directory of extensions",
        [from(Detect, V0_10)];
    FORCE: Bool "force", ["CNB_FORCE_REBASE"], "", "rebase even when it may break the image", [from(Rebase, V0_12)];
    GENERATED: Text "generated", ["CNB_GENERATED_DIR"], "<layers>/generated", "directory of what extensions generate",
        [from(Detect, V0_10), from(Restore, V0_12), always(Extend)];
    GID: Id "gid", ["CNB_GROUP_ID"], "", "number of the group to run as",
        [always(Analyze), always(Restore), always(Extend), always(Export), always(Create), always(Rebase)];
    GROUP: Text "group", ["CNB_GROUP_PATH"], "<layers>/group.toml", "file with the buildpacks that take part",
        [always(Detect), always(Restore), always(Build), always(Extend), always(Export)];
    IMAGE: Text "image", [], "", "name of the run image (deprecated)", [always(Export), always(Rebase)];
    INSECURE_REGISTRY: List "insecure-registry", ["CNB_INSECURE_REGISTRIES"], "",
        "registry that may be reached without TLS; can be repeated",
        [from(Analyze, V0_13), from(Restore, V0_13), from(Export, V0_13), from(Create, V0_13), from(Rebase, V0_13)];
    KANIKO_CACHE_TTL: Duration "kaniko-cache-ttl", ["CNB_KANIKO_CACHE_TTL"], "336h",
        "how long layers made by extensions are kept", [always(Extend)];
    KIND: Text "kind", ["CNB_EXTEND_KIND"], "build", "which image is extended: build or run", [from(Extend, V0_12)];
    LAUNCH_CACHE: Text "launch-cache", ["CNB_LAUNCH_CACHE_DIR"], "", "directory of the launch layers' cache",
        [from(Analyze, V0_9), always(Export), always(Create)];
    LAUNCHER: Text "launcher", [], "/cnb/lifecycle/launcher", "launcher program that goes into the image",
        [always(Export), always(Create)];
    LAUNCHER_SBOM: Text "launcher-sbom", [], "/cnb/lifecycle", "directory of the launcher's SBOM files",
        [from(Export, V0_11), from(Create, V0_11)];
    LAYERS: Text "layers", ["CNB_LAYERS_DIR"], "/layers", "directory of layers",
        [always(Analyze), always(Detect), always(Restore), always(Build), always(Extend), always(Export),
         always(Create)];
    LAYOUT: Bool "layout", ["CNB_USE_LAYOUT"], "", "take images from and write them to OCI layouts on disk",
        [from(Analyze, V0_12), from(Restore, V0_12), from(Export, V0_12), from(Create, V0_12), from(Rebase, V0_12)];
    LAYOUT_DIR: Text "layout-dir", ["CNB_LAYOUT_DIR"], "", "directory of OCI layouts",
        [from(Analyze, V0_12), from(Restore, V0_12), from(Export, V0_12), from(Create, V0_12), from(Rebase, V0_12)];
    LOG_LEVEL: Text "log-level", ["CNB_LOG_LEVEL"], "info", "how much is said: debug, info, warn, error or fatal",
        [always(Analyze), always(Detect), always(Restore), always(Build), always(Extend), always(Export),
         always(Create), always(Rebase)];
    NO_COLOR: Bool "no-color", ["CNB_NO_COLOR"], "", "write no colors",
        [always(Analyze), always(Detect), always(Restore), always(Build), always(Extend), always(Export),
         always(Create), always(Rebase)];
    // The layout flags as early drafts of that feature spelled them.
    OCI: Bool "oci", ["CNB_USE_OCI"], "", "the same as -layout",
        [always(Analyze), always(Restore), always(Export), always(Create), always(Rebase)];
    OCI_DIR: Text "oci-dir", ["CNB_OCI_PATH"], "/oci", "the same as -layout-dir",
        [always(Analyze), always(Restore), always(Export), always(Create), always(Rebase)];
    ORDER: Text "order", ["CNB_ORDER_PATH"], "<layers>/order.toml", "file with the groups to try",
        [always(Detect), always(Create)];
    PARALLEL: Bool "parallel", ["CNB_PARALLEL_EXPORT"], "", "export the image and the cache at the same time",
        [always(Export), always(Create)];
    PLAN: Text "plan", ["CNB_PLAN_PATH"], "<layers>/plan.toml", "file with the build plan",
        [always(Detect), always(Build), always(Extend)];
    PLATFORM: Text "platform", ["CNB_PLATFORM_DIR"], "/platform", "directory of what the platform gives to buildpacks",
        [always(Detect), always(Build), always(Extend), always(Create)];
    PREVIOUS_IMAGE: Text "previous-image", ["CNB_PREVIOUS_IMAGE"], "", "image to take layers from",
        [always(Analyze), always(Create), from(Rebase, V0_11)];
    PROCESS_TYPE: Text "process-type", ["CNB_PROCESS_TYPE"], "", "process that the image starts by default",
        [always(Export), always(Create)];
    PROJECT_METADATA: Text "project-metadata", ["CNB_PROJECT_METADATA_PATH"], "<layers>/project-metadata.toml",
        "file with the origin of the application", [always(Export), always(Create)];
    REPORT: Text "report", ["CNB_REPORT_PATH"], "<layers>/report.toml", "file for what was exported",
        [always(Export), always(Create), always(Rebase)];
    // Strata's own: reports are parsed with grep, and cut off, by platforms that do not ask for more.
    REPORT_EXTRA: Text "", ["CNB_REPORT_EXTRA"], "", "file with the operator's own table for the report", [];
    REPORT_ORIGINS: Bool "report-origins", ["CNB_REPORT_ORIGINS"], "", "report where each layer comes from",
        [always(Export), always(Create), always(Rebase)];
    REQUIRE_ORIGINS: Demand "require-origins", ["CNB_REQUIRE_ORIGINS"], "",
        "fail when a layer comes back whose origin is unknown, or with =discard make it anew",
        [always(Restore), always(Export), always(Create)];
    RUN: Text "run", ["CNB_RUN_PATH"], "/cnb/run.toml", "file with the run images",
        [from(Analyze, V0_12), from(Detect, V0_12), from(Restore, V0_14), from(Export, V0_12), from(Create, V0_12)];
    RUN_IMAGE: Text "run-image", ["CNB_RUN_IMAGE"], "", "name of the run image",
        [always(Analyze), always(Export), always(Create), always(Rebase)];
    // Strata's own.
    SEALED_LAYERS: Text "sealed-layers", ["CNB_SEALED_LAYERS"], "",
        "what becomes of changes to the layers of other buildpacks: off, warn, discard or error",
        [always(Build), always(Create)];
    SKIP_LAYERS: Bool "skip-layers", ["CNB_SKIP_LAYERS", "CNB_SKIP_RESTORE"], "",
        "do not bring back layers of an earlier build", [from(Analyze, V0_9), always(Restore)];
    SKIP_RESTORE: Bool "skip-restore", ["CNB_SKIP_LAYERS", "CNB_SKIP_RESTORE"], "",
        "do not bring back layers of an earlier build", [always(Create)];
    STACK: Text "stack", ["CNB_STACK_PATH"], "/cnb/stack.toml", "file with the run image of a stack",
        [before(Analyze, V0_12), before(Export, V0_12), always(Create)];
    SYSTEM: Text "system", ["CNB_SYSTEM_PATH"], "/cnb/system.toml", "file with buildpacks that always take part",
        [from(Detect, V0_15), from(Create, V0_15)];
    TAG: List "tag", [], "", "further name for the image; can be repeated", [always(Analyze), always(Create)];
    UID: Id "uid", ["CNB_USER_ID"], "", "number of the user to run as",
        [always(Analyze), always(Restore), always(Extend), always(Export), always(Create), always(Rebase)];
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// What a version adds and takes away.
    type Change = (PlatformApi, &'static str);

    /// The flags of each phase: always, and what a version adds (`+`) or takes away (`-`). `layout` and
    /// `layout-dir` of the rebaser, and `oci`, `oci-dir`, `report-origins`, `require-origins` and `sealed-layers`
    /// everywhere, are Strata's own.
    const EXPECTED: &[(Phase, &str, &[Change])] = &[
        (
            Analyze,
            "analyzed cache-image daemon gid layers log-level no-color oci oci-dir previous-image run-image stack \
             tag uid",
            &[
                (V0_9, "launch-cache skip-layers"),
                (V0_12, "layout layout-dir run -stack"),
                (V0_13, "insecure-registry"),
            ],
        ),
        (
            Detect,
            "app buildpacks group layers log-level no-color order plan platform",
            &[
                (V0_10, "analyzed extensions generated"),
                (V0_11, "build-config"),
                (V0_12, "run"),
                (V0_15, "system"),
            ],
        ),
        (
            Restore,
            "analyzed cache-dir cache-image gid group layers log-level no-color oci oci-dir require-origins skip-layers uid",
            &[
                (V0_10, "build-image"),
                (V0_12, "daemon generated layout layout-dir"),
                (V0_13, "insecure-registry"),
                (V0_14, "run"),
            ],
        ),
        (
            Build,
            "app buildpacks group layers log-level no-color plan platform sealed-layers",
            &[(V0_11, "build-config"), (V0_12, "analyzed")],
        ),
        (
            Extend,
            "analyzed app buildpacks generated gid group kaniko-cache-ttl layers log-level no-color plan platform uid",
            &[(V0_12, "kind extended")],
        ),
        (
            Export,
            "analyzed app cache-dir cache-image compression daemon gid group image launch-cache launcher layers log-level \
             no-color oci oci-dir parallel process-type project-metadata report report-origins require-origins run-image \
             stack uid",
            &[
                (V0_11, "launcher-sbom"),
                (V0_12, "extended layout layout-dir run -stack"),
                (V0_13, "insecure-registry"),
            ],
        ),
        (
            Create,
            "app buildpacks cache-dir cache-image compression daemon gid launch-cache launcher layers log-level no-color oci \
             oci-dir order parallel platform previous-image process-type project-metadata report report-origins \
             require-origins run-image sealed-layers skip-restore stack tag uid",
            &[
                (V0_11, "build-config launcher-sbom"),
                (V0_12, "layout layout-dir run"),
                (V0_13, "insecure-registry"),
                (V0_15, "system"),
            ],
        ),
        (
            Rebase,
            "daemon gid image log-level no-color oci oci-dir report report-origins run-image uid",
            &[(V0_11, "previous-image"), (V0_12, "force layout layout-dir"), (V0_13, "insecure-registry")],
        ),
    ];

    #[test]
    fn every_phase_has_the_flags_of_its_version_and_no_others() {
        for (phase, base, changes) in EXPECTED {
            let mut expected: BTreeSet<&str> = base.split_whitespace().collect();
            for api in PlatformApi::ALL {
                for word in changes.iter().filter(|(v, _)| v == api).flat_map(|(_, w)| w.split_whitespace()) {
                    match word.strip_prefix('-') {
                        Some(gone) => assert!(expected.remove(gone), "{gone}"),
                        None => assert!(expected.insert(word), "{word}"),
                    }
                }
                let found: Vec<&str> = flags_of(*phase, *api).iter().map(|input| input.flag).collect();
                assert_eq!(found, expected.iter().copied().collect::<Vec<_>>(), "{phase:?} at {api}");
            }
        }
    }

    #[test]
    fn no_flag_is_in_the_table_twice() {
        let mut seen = BTreeSet::new();
        for input in INPUTS {
            assert!(input.flag.is_empty() || seen.insert(input.flag), "{}", input.flag);
            assert!(!(input.flag.is_empty() && input.env.is_empty()), "{}", input.help);
            assert_eq!(input.flag.is_empty(), input.flags.is_empty(), "{}", input.flag);
        }
    }
}
