//! What is to be done, by the name of the program or by a subcommand.

use strata_phases::Failure;
use strata_spec::exit::Exit;
use strata_spec::phase::Phase;

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command<'a> {
    /// Print the version, whatever the platform.
    Version,
    /// Carry out the phase that the program is named after.
    Program(Phase, &'a [String]),
    /// Carry out the phase of this name. Only when the platform's API is known is an unknown name an error.
    Subcommand(&'a str, &'a [String]),
}

impl<'a> Command<'a> {
    /// Finds out what is to be done.
    ///
    /// # Errors
    /// When neither the program's name nor an argument says so.
    pub(crate) fn of(program: &str, arguments: &'a [String]) -> Result<Self, Failure> {
        let name = base_name(program);
        let name = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
        match (Phase::of_program(name), arguments) {
            (Some(phase), arguments) => Ok(Self::Program(phase, arguments)),
            (None, []) => Err(Failure::new(Exit::InvalidArguments, "failed to parse arguments")),
            (None, [first, ..]) if first == "-version" => Ok(Self::Version),
            (None, [first, rest @ ..]) => Ok(Self::Subcommand(base_name(first), rest)),
        }
    }
}

/// Finds the phase of a subcommand.
///
/// # Errors
/// When there is none of that name.
pub(crate) fn subcommand(name: &str) -> Result<Phase, Failure> {
    Phase::of_subcommand(name).ok_or_else(|| {
        let valid = Phase::ALL.map(Phase::subcommand).join(", ");
        let message = format!("failed to recognize phase: {name} \nValid phases: {valid}");
        Failure::new(Exit::InvalidArguments, message)
    })
}

fn base_name(path: &str) -> &str {
    let path = path.trim_end_matches('/');
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}
