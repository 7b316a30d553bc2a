//! The phase `rebase`.

use super::Context;
use strata_phases::Failure;
use strata_spec::exit::Exit;

pub(super) fn run(_context: &Context<'_>) -> Result<(), Failure> {
    Err(Failure::new(Exit::Rebase, "failed to rebase: not yet wired"))
}
