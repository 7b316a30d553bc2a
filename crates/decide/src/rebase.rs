//! Whether an app image may get another base, which one, and what its labels say then (platform specification,
//! "rebaser").
//!
//! Pure: both images are at hand. Texts are the reference's, as platforms look for them.

use std::collections::BTreeSet;

use serde::Serialize;
use strata_oci::{ImageConfig, go_json};
use strata_spec::analyzed::{Distro, Target};
use strata_spec::api::{self, ApiError};
use strata_spec::labels::{self, LIFECYCLE_METADATA, LifecycleMetadata, StackRunImage};
use strata_spec::raw_object::RawObject;
use strata_spec::run::RunImage;
use strata_spec::{DocError, PlatformApi};

use crate::analyze;

/// What a person can do about a refusal.
const FORCE: &str = "please provide -force to override";

/// Why an image does not get another base.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RebaseError {
    /// The app image's `CNB_PLATFORM_API` is no version.
    #[error("failed to get app image platform API: {0}")]
    AppApi(ApiError),
    /// One of the two images has no stack.
    #[error("stack not defined on {0}")]
    NoStack(Side),
    /// The stacks differ.
    #[error("incompatible stack: '{new_base}' is not compatible with '{app}'")]
    Stack {
        /// Of the new base.
        new_base: String,
        /// Of the app.
        app: String,
    },
    /// A label is not what it should be.
    #[error("{action}: failed to unmarshal context of label '{label}': {problem}")]
    Label {
        /// What was being done.
        action: &'static str,
        /// The label.
        label: &'static str,
        /// What is wrong.
        problem: DocError,
    },
    /// The app image would take the place of its base.
    #[error("image '{0}' would overwrite its run image")]
    Overwrites(String),
    /// The new base lacks mixins that the app has.
    #[error("missing required mixin(s): {0}")]
    Mixins(String),
    /// The app image's label says no, or the targets differ, or the new base is not known to the app image.
    #[error("{0}; {FORCE}")]
    Refused(Refusal),
}

/// One of two images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The app image.
    App,
    /// The new base.
    NewBase,
}

impl std::fmt::Display for Side {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::App => "app image",
            Self::NewBase => "new base image",
        })
    }
}

/// What speaks against a rebase, unless it is forced; then it is a warning.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The label says so.
    #[error("app image is not marked as rebasable")]
    NotRebasable,
    /// The new base is for something else. Both as JSON.
    #[error("unable to satisfy target os/arch constraints; new run image: {new_base}, old run image: {app}")]
    Target {
        /// What the new base is for.
        new_base: String,
        /// What the app was built for.
        app: String,
    },
    /// The app image's labels do not name the new base.
    #[error("rebase app image: new base image '{name}' not found in existing run image metadata: {known}")]
    UnknownBase {
        /// The new base.
        name: String,
        /// What they name, as JSON.
        known: String,
    },
}

/// Whether what speaks against a rebase is passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Force {
    /// It ends the rebase.
    No,
    /// It is a warning.
    Yes,
}

impl Force {
    fn judge(self, refusal: Refusal, warnings: &mut Vec<Refusal>) -> Result<(), RebaseError> {
        match self {
            Self::No => Err(RebaseError::Refused(refusal)),
            Self::Yes => {
                warnings.push(refusal);
                Ok(())
            }
        }
    }
}

/// Makes sure that no app image takes the place of the run image it is put on.
///
/// # Errors
/// When one of the names is that of the new base.
pub fn check_names<'a>(
    mut outputs: impl Iterator<Item = &'a str>,
    base_name: &str,
) -> Result<(), RebaseError> {
    // A name with a digest is never written to.
    let is_base = |name: &&str| !base_name.contains('@') && complete(name) == complete(base_name);
    outputs.find(is_base).map_or(Ok(()), |name| Err(RebaseError::Overwrites(name.to_owned())))
}

/// The run image that an app image names, with its mirrors; `None` when it names none.
pub fn run_image(metadata: &LifecycleMetadata, api: PlatformApi) -> Option<RunImage> {
    let (new, old) = (&metadata.run_image, &metadata.stack.run_image);
    if api.has_targets() && !new.image.is_empty() {
        return Some(RunImage { image: new.image.clone(), mirrors: new.mirrors.clone() });
    }
    let has_old = !old.image.is_empty();
    has_old.then(|| RunImage { image: old.image.clone(), mirrors: old.mirrors.clone() })
}

/// Reads the label that says which layers are whose.
///
/// # Errors
/// When it cannot be understood.
pub fn metadata(app: &ImageConfig) -> Result<LifecycleMetadata, RebaseError> {
    LifecycleMetadata::parse(app.label(LIFECYCLE_METADATA).unwrap_or_default()).map_err(|problem| {
        RebaseError::Label { action: "get image metadata", label: LIFECYCLE_METADATA, problem }
    })
}

/// How many layers the label lists: so many at least are above the base.
pub fn own_layers(metadata: &LifecycleMetadata) -> usize {
    let LifecycleMetadata { sbom, config, launcher, process_types, .. } = metadata;
    let single = [config, launcher, process_types].into_iter().chain(sbom);
    let launch = metadata.buildpacks.iter().map(|buildpack| buildpack.layers.len()).sum::<usize>();
    metadata.app.len() + launch + single.filter(|layer| !layer.sha.is_empty()).count()
}

/// Checks that the app can run on the new base, as the platform API it was built with says; gives what was passed
/// over.
///
/// # Errors
/// When it cannot.
pub fn validate(
    app: &ImageConfig,
    new_base: &ImageConfig,
    force: Force,
) -> Result<Vec<Refusal>, RebaseError> {
    let version = app.env_var("CNB_PLATFORM_API").unwrap_or_default();
    let mut warnings = Vec::new();
    if api::image_has_target(version).map_err(RebaseError::AppApi)? {
        if app.label(labels::REBASABLE) == Some("false") {
            force.judge(Refusal::NotRebasable, &mut warnings)?;
        }
        let (app, new_base) = (analyze::target(app), analyze::target(new_base));
        if !satisfies(&new_base, &app) {
            let refusal = Refusal::Target { new_base: json(&new_base), app: json(&app) };
            force.judge(refusal, &mut warnings)?;
        }
    } else {
        validate_stack(app, new_base)?;
    }
    Ok(warnings)
}

fn validate_stack(app: &ImageConfig, new_base: &ImageConfig) -> Result<(), RebaseError> {
    let id = |image: &ImageConfig, side| match image.label(labels::STACK_ID).unwrap_or_default() {
        "" => Err(RebaseError::NoStack(side)),
        id => Ok(id.to_owned()),
    };
    let (app_id, base_id) = (id(app, Side::App)?, id(new_base, Side::NewBase)?);
    if app_id != base_id {
        return Err(RebaseError::Stack { new_base: base_id, app: app_id });
    }
    let needed = mixins(app, "get app image mixins")?;
    let present = mixins(new_base, "get run image mixins")?;
    let missing: Vec<String> = needed.difference(&present).cloned().collect();
    if missing.is_empty() { Ok(()) } else { Err(RebaseError::Mixins(missing.join(", "))) }
}

/// The mixins of an image, without the stage (`run:`) that one may be for.
fn mixins(image: &ImageConfig, action: &'static str) -> Result<BTreeSet<String>, RebaseError> {
    let text = image.label(labels::STACK_MIXINS).filter(|text| !text.is_empty()).unwrap_or("null");
    let names: Option<Vec<String>> = labels::from_json(text).map_err(|problem| RebaseError::Label {
        action,
        label: labels::STACK_MIXINS,
        problem,
    })?;
    let without_stage = |name: String| match name.split_once(':') {
        Some((_, name)) => name.to_owned(),
        None => name,
    };
    Ok(names.unwrap_or_default().into_iter().map(without_stage).collect())
}

/// Whether a base is for what the app was built for. A variant that is not known fits any; a distribution that the
/// base names must be the app's.
fn satisfies(new_base: &Target, app: &Target) -> bool {
    let fits = |new: &str, old: &str| new.is_empty() || new == old;
    let distro = match (&new_base.distro, &app.distro) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(Distro { name, version }), Some(old)) => fits(name, &old.name) && fits(version, &old.version),
    };
    new_base.os == app.os
        && new_base.arch == app.arch
        && (app.variant.is_empty() || fits(&new_base.variant, &app.variant))
        && distro
}

/// The new base, as labels are to name it.
#[derive(Debug, Clone, Copy)]
pub struct NewBase<'a> {
    /// Its name as given.
    pub name: &'a str,
    /// Its exact identity.
    pub reference: &'a str,
    /// The diffID of its last layer.
    pub top_layer: &'a str,
}

/// Writes the new base into the labels of the app image; gives what was passed over. All else that the label with the
/// layers says stays byte for byte.
///
/// # Errors
/// When the label cannot be understood, or does not know the new base.
pub fn relabel(
    app: &mut ImageConfig,
    config: &ImageConfig,
    new_base: NewBase<'_>,
    api: PlatformApi,
    force: Force,
) -> Result<Vec<Refusal>, RebaseError> {
    let known = metadata(app)?;
    let text = app.label(LIFECYCLE_METADATA).filter(|text| !text.is_empty()).unwrap_or("{}").to_owned();
    let mut warnings = Vec::new();
    let is_unknown = api.has_targets() && !is_known(&known, new_base.name);
    if is_unknown {
        let has_stack = RawObject::parse(&text).is_ok_and(|label| label.get("stack").is_some());
        let known = describe(&known, has_stack, new_base);
        force.judge(Refusal::UnknownBase { name: new_base.name.to_owned(), known }, &mut warnings)?;
    }
    let label = rewrite(&text, new_base, is_unknown).map_err(|problem| RebaseError::Label {
        action: "set app image metadata label",
        label: LIFECYCLE_METADATA,
        problem,
    })?;
    app.set_label(LIFECYCLE_METADATA, &label);
    sync_labels(app, config, api);
    Ok(warnings)
}

/// Whether one of the names that the label gives is this one. Digests do not count, and a missing tag is `latest`.
fn is_known(metadata: &LifecycleMetadata, name: &str) -> bool {
    let run = &metadata.run_image;
    let StackRunImage { image, mirrors } = &metadata.stack.run_image;
    let mut names = [&run.image, image].into_iter().chain(&run.mirrors).chain(mirrors);
    names.any(|known| complete(known) == complete(name))
}

/// The name with registry and tag, without digest; what is no name stays as it is.
fn complete(name: &str) -> String {
    let without_digest = name.split_once("@sha256:").map_or(name, |(name, _)| name);
    without_digest.parse::<strata_oci::Reference>().map_or_else(|_| name.to_owned(), |name| name.to_string())
}

/// What the label names, as JSON, for the message.
fn describe(known: &LifecycleMetadata, has_stack: bool, new_base: NewBase<'_>) -> String {
    if !known.run_image.image.is_empty() {
        // The reference has put these two in already when it looks for the name.
        let (top_layer, reference) = (new_base.top_layer.to_owned(), new_base.reference.to_owned());
        return json(&labels::RunImage { top_layer, reference, ..known.run_image.clone() });
    }
    if has_stack { json(&known.stack.run_image) } else { "not found".to_owned() }
}

fn rewrite(text: &str, new_base: NewBase<'_>, has_new_name: bool) -> Result<String, DocError> {
    let mut label = RawObject::parse(text)?;
    let mut run_image = RawObject::parse(label.get("runImage").unwrap_or("{}"))?;
    run_image.set("topLayer", json(&new_base.top_layer))?;
    run_image.set("reference", json(&new_base.reference))?;
    if has_new_name {
        run_image.set("image", json(&new_base.name))?;
        run_image.remove("mirrors");
        let run_image = StackRunImage { image: new_base.name.to_owned(), mirrors: Vec::new() };
        label.set("stack", json(&labels::Stack { run_image }))?;
    }
    label.set("runImage", run_image.to_string())?;
    Ok(label.to_string())
}

/// Labels that describe the base become those of the new one.
fn sync_labels(app: &mut ImageConfig, new_base: &ImageConfig, api: PlatformApi) {
    let is_of_base = |name: &str| {
        name.starts_with(labels::STACK_PREFIX) || api.has_targets() && name.starts_with(labels::BASE_PREFIX)
    };
    let old: Vec<String> =
        app.labels().into_keys().filter(|name| is_of_base(name)).map(str::to_owned).collect();
    old.iter().for_each(|name| app.remove_label(name));
    for (name, value) in new_base.labels().into_iter().filter(|(name, _)| is_of_base(name)) {
        app.set_label(name, value);
    }
}

/// JSON as the reference writes it; empty for what has no JSON form, which nothing here is.
fn json(value: &impl Serialize) -> String {
    serde_json::to_value(value).map(|value| go_json::to_string(&value)).unwrap_or_default()
}

#[cfg(test)]
mod tests;
