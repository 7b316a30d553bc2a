//! The phases of a build and the programs that carry them out (platform specification, "Phases").

/// One phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Finds the previous image and the run image.
    Analyze,
    /// Finds the group of buildpacks.
    Detect,
    /// Brings layers back from the cache and the previous image.
    Restore,
    /// Runs the buildpacks.
    Build,
    /// Applies the Dockerfiles of extensions.
    Extend,
    /// Makes the image.
    Export,
    /// All of a build, in one program.
    Create,
    /// Puts an image on another base.
    Rebase,
}

impl Phase {
    /// All phases, in the order in which the reference lists them to a user who named none.
    pub const ALL: [Self; 8] = [
        Self::Detect,
        Self::Analyze,
        Self::Restore,
        Self::Build,
        Self::Export,
        Self::Rebase,
        Self::Create,
        Self::Extend,
    ];

    /// The program's name: `analyzer` and so on.
    pub fn program(self) -> &'static str {
        match self {
            Self::Analyze => "analyzer",
            Self::Detect => "detector",
            Self::Restore => "restorer",
            Self::Build => "builder",
            Self::Extend => "extender",
            Self::Export => "exporter",
            Self::Create => "creator",
            Self::Rebase => "rebaser",
        }
    }

    /// The name as a subcommand of `lifecycle`: `analyze` and so on.
    pub fn subcommand(self) -> &'static str {
        match self {
            Self::Analyze => "analyze",
            Self::Detect => "detect",
            Self::Restore => "restore",
            Self::Build => "build",
            Self::Extend => "extend",
            Self::Export => "export",
            Self::Create => "create",
            Self::Rebase => "rebase",
        }
    }

    /// The phase that a program of this name carries out.
    pub fn of_program(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|phase| phase.program() == name)
    }

    /// The phase that a subcommand of this name carries out.
    pub fn of_subcommand(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|phase| phase.subcommand() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_phase_is_found_by_both_its_names_and_by_no_other() {
        for phase in Phase::ALL {
            assert_eq!(Phase::of_program(phase.program()), Some(phase));
            assert_eq!(Phase::of_subcommand(phase.subcommand()), Some(phase));
            assert_eq!(Phase::of_program(phase.subcommand()), None);
        }
        assert_eq!(Phase::of_program("launcher"), None);
    }
}
