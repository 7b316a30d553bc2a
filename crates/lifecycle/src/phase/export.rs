//! The phase `export`.

use super::Context;
use strata_phases::Failure;
use strata_spec::exit::Exit;

pub(super) fn run(_context: &Context<'_>) -> Result<(), Failure> {
    Err(Failure::new(Exit::Export, "failed to export: not yet wired"))
}
