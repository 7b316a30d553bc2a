//! What the image says of itself: labels, annotations, environment, working directory and entry point.

use super::{Export, failed};
use crate::event::Observer;
use crate::failure::Failure;
use strata_decide::{annotation, export as decide, source};
use strata_oci::{Family, Image};
use strata_spec::exit::Exit;
use strata_spec::labels::{self, LifecycleMetadata};
use strata_spec::project::ProjectMetadata;
use strata_spec::values;

/// Labels, environment, working directory and entry point.
pub(super) fn configure(
    mut image: Image,
    export: &Export<'_>,
    lifecycle: &LifecycleMetadata,
    process: Option<&str>,
    observer: &dyn Observer,
) -> Result<Image, Failure> {
    let json = |value: Result<serde_json::Value, serde_json::Error>| {
        value
            .map(|value| strata_oci::go_json::to_string(&value))
            .map_err(|error| failed("cannot write a label", &error))
    };
    let build = decide::build_metadata(export.metadata, export.launcher_info.clone(), export.api);
    let config = image.config_mut();
    if export.standard.is_some() {
        // Of the app, not of what it stands on.
        source::STANDARD.iter().for_each(|key| config.remove_label(key));
    }
    let mut set_label = |name: &str, value: &str| {
        observer.detail(format!("Adding label '{name}'"));
        config.set_label(name, value);
    };
    set_label(labels::LIFECYCLE_METADATA, &json(serde_json::to_value(lifecycle))?);
    set_label(labels::BUILD_METADATA, &json(serde_json::to_value(&build))?);
    let project = project(export.project);
    set_label(labels::PROJECT_METADATA, &json(Ok(project.clone()))?);
    if let Some(source) = project.get("source").filter(|_| export.app_source_label) {
        set_label(labels::APP_SOURCE, &json(Ok(source.clone()))?);
    }
    for label in export.standard.unwrap_or_default() {
        set_label(&label.key, &label.value);
    }
    for label in &export.metadata.labels {
        set_label(&label.key, &label.value);
    }
    if export.api.has_exec_env() && !export.exec_env.is_empty() {
        set_label(labels::EXEC_ENV, export.exec_env);
    }
    config.set_env("CNB_LAYERS_DIR", export.trees.layers.seen);
    config.set_env("CNB_APP_DIR", export.app.seen);
    config.set_env("CNB_PLATFORM_API", &export.api.to_string());
    config.set_env("CNB_DEPRECATION_MODE", "quiet");
    let path = decide::path(config.env_var("PATH"));
    config.set_env("PATH", &path);
    config.set_working_dir(export.app.seen);
    config.set_entrypoint([decide::entrypoint(process)]);
    config.remove_cmd();
    config.clear_container();
    config.set_created(export.created);
    Ok(image)
}

/// Annotations of the manifest. Docker's kind of manifest has no place for them.
pub(super) fn annotate(
    mut image: Image,
    export: &Export<'_>,
    observer: &dyn Observer,
) -> Result<Image, Failure> {
    let standard = export.standard.unwrap_or_default();
    let annotations = annotation::of_image(standard, export.metadata, export.annotations)
        .map_err(|problem| Failure::new(Exit::Export, format!("failed to export: {problem}")))?;
    if export.standard.is_some() {
        source::STANDARD.iter().for_each(|key| drop(image.annotations_mut().remove(*key)));
    }
    match image.family() {
        Family::Oci => image.annotations_mut().extend(annotations),
        Family::Docker if export.annotations.is_empty() && export.metadata.annotations.is_empty() => {}
        Family::Docker => {
            let text =
                "the image gets no annotations: its run image, and so its manifest, is of Docker's kind";
            // Buildpacks cannot know the run image; whoever asks for annotations can choose it.
            if export.annotations.is_empty() {
                observer.debug(text.to_owned());
            } else {
                observer.warn(text.to_owned());
            }
        }
    }
    Ok(image)
}

/// The label with the source of the app: TOML types are kept as far as JSON has them.
fn project(metadata: &ProjectMetadata) -> serde_json::Value {
    let mut project = serde_json::Map::new();
    if let Some(source) = &metadata.source {
        let mut entry = serde_json::Map::new();
        if !source.kind.is_empty() {
            entry.insert("type".into(), source.kind.clone().into());
        }
        for (key, table) in [("version", &source.version), ("metadata", &source.metadata)] {
            if !table.is_empty() {
                entry.insert(key.into(), values::table_to_json(table));
            }
        }
        project.insert("source".into(), entry.into());
    }
    project.into()
}
