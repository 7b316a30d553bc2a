//! The creator: all phases of a build in one process.

use super::{Context, analyze, build, detect, export, restore};
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;
use strata_layer::threads::refused;
use strata_phases::{Failure, Observer};
use strata_spec::exit::Exit;

/// How often the daemon hears of a creator that builds.
const SIGN_OF_LIFE: Duration = Duration::from_secs(30);

pub(super) fn run(context: &Context<'_>) -> Result<(), Failure> {
    let Context { inputs, log, api, .. } = context;
    let images = context.images()?;
    let cache = images.cache(inputs)?;
    log.phase("ANALYZING");
    let analyzed = analyze::analyze(context)?;
    log.phase("DETECTING");
    let detected = detect::detect(context, &analyzed)?;
    if !detected.group.group_extensions.is_empty() {
        let message =
            "failed to detect: detected order contains extensions which is not supported by the creator";
        return Err(Failure::new(Exit::Detect, message).hint(
            "run the phases one by one, with the extender, or use an order without [[order-extensions]]",
        ));
    }
    if !inputs.skip_layers || api.restores_when_skipping() {
        log.phase("RESTORING");
        restore::restore(context, &detected.group, &analyzed, cache.as_deref())?;
    }
    log.phase("BUILDING");
    keeping_alive(context, || build::build(context, &detected, &analyzed))?;
    log.phase("EXPORTING");
    export::export(context, &detected.group, &analyzed, cache.as_deref())
}

/// Does what may take long without a word to the daemon, and says one now and then.
fn keeping_alive<T>(context: &Context<'_>, work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    let images = context.images()?;
    let (done, wait) = std::sync::mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let ping = move || {
            while let Err(RecvTimeoutError::Timeout) = wait.recv_timeout(SIGN_OF_LIFE) {
                if let Err(error) = images.keep_alive() {
                    let cause = Failure::caused(Exit::Other, "ping error", &error);
                    context.log.warn(cause.chain());
                }
            }
        };
        if let Err(error) = std::thread::Builder::new().spawn_scoped(scope, ping) {
            context.log.warn(format!("the daemon is not told that the build goes on: {}", refused(&error)));
        }
        let outcome = work();
        drop(done);
        outcome
    })
}
