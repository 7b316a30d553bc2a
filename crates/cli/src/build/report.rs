//! The report of a build: gathered before the image is made, and kept beside it.

use super::base::Base;
use super::said;
use crate::args::{ReportArgs, RequireOrigins, Volume};
use crate::builder::{BuildImage, Kit};
use crate::images;
use crate::output::check_file;
use crate::places::Places;
use std::path::Path;
use strata_decide::origins::Require;
use strata_oci::Digest;
use strata_phases::export::{Exported, Previous};
use strata_phases::origins::beside::is_report;
use strata_phases::origins::{self, Gather, Origins};
use strata_phases::saving::Output;
use strata_phases::{Failure, Observer, files};
use strata_spec::cache::CacheMetadata;
use strata_spec::exit::Exit;
use strata_spec::metadata::Metadata;
use strata_spec::origins::{ImageRef, Lifecycle};
use strata_spec::project::ProjectMetadata;
use strata_store::cache::Cache;
use strata_store::source::Source;
use strata_store::{Layout, Tree, read_referrers};

/// What the report is made of.
pub(crate) struct Build<'a> {
    pub(crate) args: &'a ReportArgs,
    pub(crate) places: &'a Places,
    pub(crate) layers_dir: &'a Path,
    pub(crate) platform_dir: &'a Path,
    /// What buildpacks saw besides, bindings among it.
    pub(crate) volumes: &'a [Volume],
    pub(crate) metadata: &'a Metadata,
    pub(crate) project: &'a ProjectMetadata,
    /// Builder and build image.
    pub(crate) kit: &'a Kit,
    /// The run image.
    pub(crate) base: &'a Base,
    pub(crate) previous: Previous<'a>,
    pub(crate) cache: Option<&'a dyn Cache>,
    /// What the image is called, whole; paths are no names.
    pub(crate) names: Vec<String>,
}

/// Whether origins must be known.
pub(crate) fn require(args: &ReportArgs) -> Require {
    match args.require_origins {
        None => Require::Nothing,
        Some(RequireOrigins::Fail) => Require::Known,
        Some(RequireOrigins::Discard) => Require::Discard,
    }
}

/// Finds out whether the table for the report can be read and the report be written, before anything is built.
pub(crate) fn check(args: &ReportArgs, current: &Path) -> Result<(), Failure> {
    let extra = args.report_extra.as_ref().map(|path| current.join(path));
    origins::extra(extra.as_deref())
        .map_err(|failure| Failure { exit: Exit::InvalidArguments, ..failure })?;
    args.report.as_ref().map_or(Ok(()), |path| {
        check_file(&current.join(path), "the report")
            .map_err(|failure| Failure { exit: Exit::InvalidArguments, ..failure })
    })
}

/// Gathers what can be known before the image is made.
pub(crate) fn gather(build: &Build<'_>, observer: &dyn Observer) -> Result<Origins, Failure> {
    let key = build.places.variable("CNB_REPORT_INPUTS_KEY");
    let mounted = build.volumes.iter().filter_map(|volume| {
        Some((volume.to.strip_prefix(said::PLATFORM).ok()?, build.places.current.join(&volume.from)))
    });
    let inputs = origins::inputs::of_mounted(build.platform_dir, mounted, key)
        .map_err(|error| Failure::caused(Exit::Export, "cannot name what the platform gives", &error))?;
    let Base { stored, run_image, .. } = build.base;
    let build_image = build.kit.build_image.as_ref().map(build_image);
    let lifecycle = Lifecycle {
        name: "strata".into(),
        version: env!("CARGO_PKG_VERSION").into(),
        run_image: Some(origins::run_image(run_image, &stored.manifest_digest.to_string())),
        build_image,
    };
    let extra = build.args.report_extra.as_ref().map(|path| build.places.current.join(path));
    let gather = Gather {
        layers_dir: build.layers_dir,
        group: &build.metadata.buildpacks,
        project: build.project,
        lifecycle,
        previous: build.previous,
        cache: build.cache,
        inputs: Some(inputs),
        extra: origins::extra(extra.as_deref())?,
        require: require(build.args),
    };
    Origins::gather(gather, observer)
}

/// Keeps the report beside the image, and in a file if one is asked for.
pub(crate) fn finish(
    build: &Build<'_>,
    origins: &Origins,
    exported: &Exported,
    kept: Option<&CacheMetadata>,
    (outputs, is_kept): (&[Output], bool),
    observer: &dyn Observer,
) -> Result<(), Failure> {
    let mut report = origins.report(exported, kept);
    report.image.tags.clone_from(&build.names);
    let Some(text) = origins.document(report, observer)? else { return Ok(()) };
    if let Some(path) = &build.args.report {
        files::write_given(&build.places.current.join(path), &text)
            .map_err(|error| Failure::caused(Exit::Export, "cannot write the report", &error))?;
    }
    if !is_kept {
        return Ok(());
    }
    origins.attach(&text, exported, outputs, observer)
}

/// What goes along with the image to another place: bills of materials, reports, or both.
pub(crate) fn beside(from: &Layout, image: Digest, sboms: bool, reports: bool) -> Result<Vec<Tree>, Failure> {
    if !sboms && !reports {
        return Ok(Vec::new());
    }
    let failed = |error| images::failure(Exit::Export, "cannot read what lies beside the image", &error);
    let mut found = read_referrers(from, [image]).map_err(failed)?;
    found.retain(|tree| if is_report(tree) { reports } else { sboms });
    Ok(found)
}

/// The build image: by name only where that means something on other machines, too.
fn build_image(image: &BuildImage) -> ImageRef {
    let name = Source::parse(&image.name).ok().and_then(|source| source.name());
    ImageRef {
        tags: name.iter().map(ToString::to_string).collect(),
        digest: image.digest.to_string(),
        ..ImageRef::default()
    }
}
