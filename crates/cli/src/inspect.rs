//! `strata inspect`: what is in an image.

use crate::Outcome;
use crate::args;
use crate::artifact::{self, Artifact, PrintError};
use crate::images::{self, Names, failure, surroundings};
use crate::places::Places;
use crate::show::{bytes, print, print_err};
use serde_json::{Value, json};
use strata_phases::Failure;
use strata_spec::exit::Exit;
use strata_spec::labels::{BUILD_METADATA, BuildMetadata, LIFECYCLE_METADATA, LifecycleMetadata};
use strata_store::validate::chain;
use strata_store::{StoreError, StoredImage};

/// Runs the command.
pub(crate) fn run(args: &args::Inspect, places: &Places) -> Outcome {
    let surroundings = surroundings(places, &args.store);
    let (store, stored) = images::open(&args.name, &surroundings, args.platform.as_ref(), Names::Anywhere)?;
    let artifacts = match artifact::list(&*store, stored.manifest_digest) {
        Err(StoreError::NoReferrers) if args.artifact.is_none() => Vec::new(),
        Err(error) if args.artifact.is_none() => {
            // What the image is can be said all the same.
            print_err(&format!("Warning: what refers to the image cannot be listed: {}", chain(&error)));
            Vec::new()
        }
        listed => listed.map_err(|error| failure(Exit::Other, &unprinted(args), &error))?,
    };
    if let Some(asked) = &args.artifact {
        return artifact::print(&*store, &artifacts, asked).map(|()| 0).map_err(|error| match error {
            PrintError::Choice(problem) => {
                Failure::new(Exit::InvalidArguments, format!("{}: {problem}", unprinted(args)))
            }
            PrintError::Store(error) => failure(Exit::Other, &unprinted(args), &error),
            PrintError::Io(error) => Failure::caused(Exit::Other, unprinted(args), &error),
        });
    }
    let report = report(&args.name, &stored, images::id(&*store, &stored), &artifacts);
    if args.json {
        let text = serde_json::to_string_pretty(&report)
            .map_err(|error| Failure::caused(Exit::Other, "cannot print the image as JSON", &error))?;
        print(&text);
    } else {
        people(&stored, &report, &artifacts);
    }
    Ok(0)
}

fn unprinted(args: &args::Inspect) -> String {
    let asked = args.artifact.as_deref().unwrap_or_default();
    format!("cannot print the artifact '{asked}' of the image '{}'", args.name)
}

/// What a label says, if the image has it and it can be read.
fn label<T: serde::de::DeserializeOwned + Default>(stored: &StoredImage, name: &str) -> T {
    // An image from elsewhere need not have the label, and may have something else under its name.
    stored.image.config().label(name).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

fn report(name: &str, stored: &StoredImage, id: Option<String>, artifacts: &[Artifact]) -> Value {
    let config = stored.image.config();
    let lifecycle: LifecycleMetadata = label(stored, LIFECYCLE_METADATA);
    let build: BuildMetadata = label(stored, BUILD_METADATA);
    let layers: Vec<Value> = stored
        .image
        .layers()
        .iter()
        .map(|layer| {
            let by = layer.history.as_ref().and_then(|history| history.created_by.clone());
            json!({
                "digest": layer.descriptor.digest.to_string(),
                "diffID": layer.diff_id.to_string(),
                "size": layer.descriptor.size,
                "createdBy": by,
            })
        })
        .collect();
    json!({
        "name": name,
        "digest": stored.manifest_digest.to_string(),
        "imageId": id,
        "os": config.os(),
        "architecture": config.architecture(),
        "created": config.created(),
        "user": config.user(),
        "entrypoint": config.entrypoint(),
        "workingDir": config.working_dir(),
        "env": config.env().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>(),
        "runImage": lifecycle.run_image,
        "buildpacks": build.buildpacks,
        "processes": build.processes,
        "defaultProcess": build.default_process,
        "annotations": stored.image.annotations(),
        "layers": layers,
        "artifacts": artifacts,
    })
}

/// A run image, its digest in a line of its own: with its name, a terminal would break it.
fn based_on(reference: &str) -> String {
    match reference.rsplit_once('@') {
        Some((name, digest)) => format!("{name}\n         {digest}"),
        None => reference.to_owned(),
    }
}

fn people(stored: &StoredImage, report: &Value, artifacts: &[Artifact]) {
    let text = |key: &str| report.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let build: BuildMetadata = label(stored, BUILD_METADATA);
    let lifecycle: LifecycleMetadata = label(stored, LIFECYCLE_METADATA);
    print(&text("name"));
    match report.get("imageId").and_then(Value::as_str) {
        // With what is before it, no digest is more than 80 columns.
        Some(id) => print(&format!("image id {id}")),
        None => print(&format!("digest   {}", text("digest"))),
    }
    print(&format!("platform {}/{}", text("os"), text("architecture")));
    print(&format!("user     {}", text("user")));
    print(&format!("base     {}", based_on(&lifecycle.run_image.reference)));
    print("\nBuildpacks");
    for buildpack in &build.buildpacks {
        print(&format!("  {} {}", buildpack.id, buildpack.version));
    }
    print("\nProcesses");
    for process in &build.processes {
        let mark = if process.kind == build.default_process { " (default)" } else { "" };
        let words = process.command.as_array().into_iter().flatten().filter_map(Value::as_str);
        let args = process.args.iter().flatten().map(String::as_str);
        let command: Vec<&str> = words.chain(args).collect();
        print(&format!("  {}{mark}: {}", process.kind, command.join(" ")));
    }
    if !stored.image.annotations().is_empty() {
        print("\nAnnotations");
    }
    for (key, value) in stored.image.annotations() {
        // Of another image, they may be anything.
        print(&format!("  {key}: {value}").replace(char::is_control, " "));
    }
    print("\nLayers");
    for layer in stored.image.layers() {
        let by =
            layer.history.as_ref().and_then(|history| history.created_by.as_deref()).unwrap_or("(unknown)");
        print(&format!("  {:>10}  {by}", bytes(layer.descriptor.size)));
    }
    if !artifacts.is_empty() {
        print("\nArtifacts");
    }
    for artifact in artifacts {
        let (kind, digest) = artifact.words();
        print(&format!("  {:>10}  {kind}\n         {digest}", bytes(artifact.size())));
    }
}
