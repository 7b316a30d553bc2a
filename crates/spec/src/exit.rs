//! Exit codes of the phases (platform specification, "Phases").

/// What a failed phase tells its platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Exit {
    /// Anything that is not classified.
    Other,
    /// A flag that does not exist, or whose value has the wrong form.
    Flags,
    /// A question about images that could not be answered, where 1 is an answer; as of `diff` and `grep`.
    NoAnswer,
    /// Bad arguments or inputs that do not fit together.
    InvalidArguments,
    /// The platform API is unset, malformed or unsupported.
    PlatformApi,
    /// A buildpack asks for an API that is malformed or unsupported.
    BuildpackApi,
    /// No group passed detection.
    DetectFailed,
    /// No group passed detection and at least one buildpack errored.
    DetectError,
    /// Detection could not be carried out.
    Detect,
    /// The previous image and the run image could not be analyzed.
    Analyze,
    /// Layers could not be restored.
    Restore,
    /// A buildpack's `bin/build` failed.
    BuildpackBuild,
    /// The build phase failed otherwise.
    Build,
    /// Export failed.
    Export,
    /// Rebase failed.
    Rebase,
    /// The launcher, or `strata run`, could not start the process.
    Launch,
    /// An extension's `bin/generate` failed.
    ExtensionGenerate,
    /// Extensions could not generate otherwise.
    Generate,
    /// An image could not be extended.
    Extend,
    /// The user interrupted the program.
    Interrupted,
}

impl Exit {
    /// The number given to the operating system.
    pub fn code(self) -> u8 {
        match self {
            Self::Other => 1,
            Self::Flags | Self::NoAnswer => 2,
            Self::InvalidArguments => 3,
            Self::PlatformApi => 11,
            Self::BuildpackApi => 12,
            Self::DetectFailed => 20,
            Self::DetectError => 21,
            Self::Detect => 22,
            Self::Analyze => 32,
            Self::Restore => 42,
            Self::BuildpackBuild => 51,
            Self::Build => 52,
            Self::Export => 62,
            Self::Rebase => 72,
            Self::Launch => 82,
            Self::ExtensionGenerate => 91,
            Self::Generate => 92,
            Self::Extend => 102,
            Self::Interrupted => 130,
        }
    }
}
