//! The extender applies Dockerfiles, which Strata does not do.

use super::Context;
use strata_phases::Failure;
use strata_spec::exit::Exit;

pub(super) fn run(context: &Context<'_>) -> Result<(), Failure> {
    let kind = &context.inputs.extend_kind;
    if !["build", "run"].contains(&kind.as_str()) {
        return Err(Failure::new(
            Exit::InvalidArguments,
            format!("failed to extend: '{kind}' is no kind of image; expected build or run"),
        ));
    }
    let message = format!("failed to extend {kind} image: image extensions are not supported yet");
    Err(Failure::new(Exit::Extend, message).hint("use an order without [[order-extensions]]"))
}
