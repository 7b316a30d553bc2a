//! The only reader of the environment, the arguments and the working directory.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use strata_phases::Failure;
use strata_spec::exit::Exit;

/// What the process was started with.
#[derive(Debug)]
pub(crate) struct Environment {
    /// `argv[0]`.
    pub(crate) program: String,
    /// The arguments after it.
    pub(crate) arguments: Vec<String>,
    /// The variables that are UTF-8.
    pub(crate) variables: BTreeMap<String, String>,
    /// All variables, for buildpacks.
    pub(crate) all_variables: Vec<(OsString, OsString)>,
    /// Absolute.
    pub(crate) current_dir: PathBuf,
}

impl Environment {
    /// Reads it.
    ///
    /// # Errors
    /// When an argument or a variable of the lifecycle's own is not UTF-8, or the working directory is gone.
    #[expect(clippy::disallowed_methods, reason = "this is the one reader of the environment")]
    pub(crate) fn read() -> Result<Self, Failure> {
        let mut arguments = Vec::new();
        for (index, argument) in env::args_os().enumerate() {
            let not_utf8 = |_| invalid(&format!("argument {index} is not UTF-8"));
            arguments.push(argument.into_string().map_err(not_utf8)?);
        }
        let program = if arguments.is_empty() { String::new() } else { arguments.remove(0) };
        let all_variables: Vec<_> = env::vars_os().collect();
        let mut variables = BTreeMap::new();
        for (name, value) in &all_variables {
            match (name.to_str(), value.to_str()) {
                (Some(name), Some(value)) => {
                    variables.insert(name.to_owned(), value.to_owned());
                }
                (Some(name), None) if name.starts_with("CNB_") => {
                    return Err(invalid(&format!("the variable {name} is not UTF-8")));
                }
                // Foreign variables are nobody's business here.
                _ => {}
            }
        }
        let current_dir = env::current_dir()
            .map_err(|error| Failure::caused(Exit::Other, "failed to find the working directory", &error))?;
        Ok(Self { program, arguments, variables, all_variables, current_dir })
    }

    /// A variable; an empty one is not set.
    pub(crate) fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

fn invalid(cause: &str) -> Failure {
    Failure::new(Exit::InvalidArguments, format!("failed to parse arguments: {cause}"))
}
