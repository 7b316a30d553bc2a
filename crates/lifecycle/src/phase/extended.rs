//! What restorer and extender leave for those that follow: images that are to be extended, and the extended run image.

use super::Context;
use crate::privileges::KANIKO_DIR;
use std::path::Path;
use strata_decide::analyze as decide;
use strata_oci::{Image, ImageConfig};
use strata_phases::export::{self, Extra};
use strata_phases::{Failure, Observer, files};
use strata_spec::analyzed::{Analyzed, ImageIdentifier, RunImage};
use strata_spec::exit::Exit;
use strata_spec::group::Group;
use strata_store::{Layout, Store, StoredImage};

/// Fetches the documents of the images that are to be extended to where the extender looks for them, and names the images
/// by digest. Their layers are not needed: the extender runs in containers of these images.
pub(super) fn fetch(
    context: &Context<'_>,
    group: &Group,
    mut analyzed: Analyzed,
) -> Result<Analyzed, Failure> {
    let Context { inputs, api, log, .. } = context;
    if group.group_extensions.is_empty() || !api.has_extensions() {
        if inputs.build_image.is_some() {
            log.debug("the build image is not needed: it is not extended".into());
        }
        return Ok(analyzed);
    }
    if let Some(name) = &inputs.build_image {
        let (reference, _) = documents(context, name)?;
        analyzed.build_image = Some(ImageIdentifier { reference });
    }
    let Some(run_image) = analyzed.run_image.as_ref().filter(|image| image.extend && api.has_targets())
    else {
        return Ok(analyzed);
    };
    if context.images()?.are_layouts() {
        log.debug(format!("run image {} is an OCI layout, which is not extended", run_image.image));
        return Ok(analyzed);
    }
    let (reference, stored) = documents(context, &run_image.image)?;
    let target = Some(decide::target(stored.image.config()));
    analyzed.run_image = Some(RunImage { reference, target, ..run_image.clone() });
    Ok(analyzed)
}

/// Manifest and configuration of an image in a registry, with its name by digest.
fn documents(context: &Context<'_>, name: &str) -> Result<(String, StoredImage), Failure> {
    context.log.debug(format!("Pulling image metadata for {name}..."));
    let failed = |error: &dyn std::error::Error| {
        Failure::caused(Exit::Other, format!("failed to pull image {name} for extensions"), error)
    };
    let image = context.images()?.in_registry(name, Exit::Other)?;
    let stored = image.read_image().map_err(|error| failed(&error))?;
    let stored = stored.ok_or_else(|| {
        Failure::new(Exit::Other, format!("failed to pull image {name} for extensions: it is not there"))
    })?;
    let dir = Path::new(KANIKO_DIR).join("cache/base").join(stored.manifest_digest.to_string());
    let layout = Layout::open_or_create(&dir).map_err(|error| {
        failed(&error)
            .hint(format!("mount a folder at {KANIKO_DIR} that restorer and extender have in common"))
    })?;
    layout.sparse().put_image(&stored.encoded(), &[]).map_err(|error| failed(&error))?;
    Ok((image.identifier(&stored), stored))
}

/// Makes sure that the platform consents to an extended run image, where there is one and that is an experiment.
///
/// # Errors
/// When it does not, or it cannot be seen whether there is one.
pub(super) fn consent(context: &Context<'_>) -> Result<(), Failure> {
    if context.api.has_stable_extensions() {
        return Ok(());
    }
    let dir = context.environment.current_dir.join(&context.inputs.extended_dir);
    let found = files::below(&dir, "run").and_then(|run| files::list(&run));
    let found = found.map_err(|error| {
        Failure::caused(Exit::Export, "failed to export: cannot look for an extended run image", &error)
    })?;
    if found.is_empty() { Ok(()) } else { context.modes.experimental(super::EXTENSIONS, context.log) }
}

/// The extended run image, as the extender left it.
pub(super) struct Extended {
    layout: Layout,
    config: ImageConfig,
    layers: Vec<Extra>,
}

impl Extended {
    /// Reads it; `None` if the run image is not to be extended.
    pub(super) fn read(
        context: &Context<'_>,
        analyzed: &Analyzed,
        base: &Image,
    ) -> Result<Option<Self>, Failure> {
        let is_wanted = analyzed.run_image.as_ref().is_some_and(|image| image.extend);
        // A layout is not extended, see `fetch`.
        if !is_wanted || !context.api.has_targets() || context.images()?.are_layouts() {
            return Ok(None);
        }
        let dir = context.environment.current_dir.join(&context.inputs.extended_dir);
        let failed = |what: &str| Failure::new(Exit::Export, format!("failed to export: {what}"));
        let unreadable = |error: &dyn std::error::Error| {
            Failure::caused(Exit::Export, "failed to export: cannot read the extended run image", error)
        };
        let run = files::below(&dir, "run").map_err(|error| unreadable(&error))?;
        let found = files::list_dirs(&run).map_err(|error| unreadable(&error))?;
        let [place] = found.as_slice() else {
            let message = format!("there are {} extended run images in {}", found.len(), run.display());
            return Err(failed(&message).hint(
                "the extender makes one; did it run, with -kind run and the same extended directory?",
            ));
        };
        let layout = Layout::open(place).sparse();
        let stored = layout.read_image().map_err(|error| unreadable(&error))?;
        let stored = stored.ok_or_else(|| failed(&format!("there is no image in {}", place.display())))?;
        let name = place.file_name().unwrap_or_default().to_string_lossy();
        if stored.manifest_digest.to_string() != name {
            return Err(failed(&format!("the image in {} is {}", place.display(), stored.manifest_digest)));
        }
        let layers = above(&stored.image, base).ok_or_else(|| {
            failed("the extended run image is not made upon the run image").hint("run the extender again")
        })?;
        Ok(Some(Self { layout, config: stored.image.config().clone(), layers }))
    }

    /// As the exporter has it.
    pub(super) fn for_export(&self) -> export::Extended<'_> {
        export::Extended { config: Some(&self.config), layers: &self.layers, store: &self.layout }
    }
}

/// The layers of an image above those of another; `None` if it does not begin with them.
fn above(image: &Image, base: &Image) -> Option<Vec<Extra>> {
    let (below, above) = image.layers().split_at_checked(base.layers().len())?;
    let is_same = below.iter().zip(base.layers()).all(|(one, other)| one.diff_id == other.diff_id);
    let extra = |layer: &strata_oci::Layer| {
        let created_by =
            layer.history.as_ref().and_then(|history| history.created_by.clone()).unwrap_or_default();
        let id = created_by.rsplit_once("Created by extension: ").map(|(_, id)| id.to_owned());
        Extra {
            id: id.unwrap_or_default(),
            version: String::new(),
            layer: layer.clone(),
            created_by,
            is_reused: false,
        }
    };
    is_same.then(|| above.iter().map(extra).collect())
}
