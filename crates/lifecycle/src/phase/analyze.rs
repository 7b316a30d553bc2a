//! The phase `analyze`.

use super::Context;
use crate::documents;
use strata_phases::analyze::{self, Analyze, Named};
use strata_phases::{Failure, Observer};
use strata_spec::analyzed::{Analyzed, ImageIdentifier};
use strata_spec::doc::MAX_DOCUMENT;
use strata_spec::exit::Exit;
use strata_spec::labels::LifecycleMetadata;
use strata_store::StoreError;
use strata_store::cache::Cache;

pub(super) fn run(context: &Context<'_>) -> Result<(), Failure> {
    analyze(context).map(drop)
}

/// Analyzes and writes `analyzed.toml`.
pub(super) fn analyze(context: &Context<'_>) -> Result<Analyzed, Failure> {
    let Context { inputs, log, .. } = context;
    let images = context.images()?;
    check_access(context)?;
    let timer = log.timer("Analyzer");
    let open =
        |name: &Option<String>| name.as_ref().map(|name| images.output(name, Exit::Analyze)).transpose();
    let previous = open(&inputs.previous_image)?;
    let run_image = open(&inputs.run_image)?;
    let launch_cache = images.launch_cache(inputs)?;
    let input = Analyze {
        previous: previous.as_ref().map(|(name, store)| Named { name, store: store.as_ref() }),
        run_image: run_image.as_ref().map(|(name, store)| Named { name, store: store.as_ref() }),
        layers_dir: &inputs.layers_dir,
        launch_cache: launch_cache.as_ref().map(|cache| cache as &dyn Cache),
        skip_layers: inputs.skip_layers,
        api: context.api,
    };
    let analyzed = analyze::run(&input, *log)?;
    drop(timer);
    if let (true, Some((path, _)), Some(found)) = (images.are_layouts(), &run_image, &analyzed.run_image)
        && found.reference.is_empty()
    {
        // No later phase can fetch it.
        let message = format!("failed to analyze: the run image could not be found at path: {path}");
        return Err(Failure::new(Exit::Analyze, message));
    }
    let mut analyzed = analyzed;
    let mut text = analyzed.to_toml();
    if text.len() > MAX_DOCUMENT {
        log.warn("ignoring the previous image: what its label says is larger than any real document".into());
        analyzed = Analyzed {
            metadata: LifecycleMetadata::default(),
            image: Some(ImageIdentifier::default()),
            ..analyzed
        };
        text = analyzed.to_toml();
    }
    documents::write(inputs, &inputs.analyzed, "analyzed", &text, Exit::Other)?;
    Ok(analyzed)
}

/// Makes sure that what a build will read and write can be read and written, before anybody spends time on it.
fn check_access(context: &Context<'_>) -> Result<(), Failure> {
    let Context { inputs, .. } = context;
    let images = context.images()?;
    let failed = |kind: &str, access: &str, name: &str, error: &StoreError| {
        let message = format!(
            "failed to initialize analyzer: validating registry {kind} access: failed to ensure registry {access} access to {name}"
        );
        let failure = Failure::caused(Exit::Analyze, message, error);
        match error.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    };
    if images.are_in_registries() {
        for name in [&inputs.previous_image, &inputs.run_image].into_iter().flatten() {
            let image = images.in_registry(name, Exit::Analyze)?;
            image.check_read().map_err(|error| failed("read", "read", name, &error))?;
        }
    }
    let made = inputs.destinations().into_iter().filter(|_| images.are_in_registries());
    for name in inputs.cache_image.as_deref().into_iter().chain(made) {
        let image = images.in_registry(name, Exit::Analyze)?;
        image.check_write().map_err(|error| failed("write", "read/write", name, &error))?;
    }
    Ok(())
}
