//! Reports that say where layers come from, when the platform asks for that.

use super::Context;
use super::export::Given;
use crate::documents;
use crate::version;
use strata_phases::Failure;
use strata_phases::export::Exported;
use strata_phases::origins::{self, Gather, Origins};
use strata_phases::saving::Output;
use strata_spec::analyzed::Analyzed;
use strata_spec::cache::CacheMetadata;
use strata_spec::exit::Exit;
use strata_spec::origins::{ImageRef, Lifecycle};
use strata_store::cache::Cache;

/// What is to be reported; `None` when the platform does not ask for origins.
///
/// # Errors
/// When the operator's table, or what the buildpacks left, cannot be read.
pub(super) fn gather(
    context: &Context<'_>,
    given: &Given<'_>,
    cache: Option<&dyn Cache>,
) -> Result<Option<Origins>, Failure> {
    let Context { inputs, log, .. } = context;
    if !inputs.report_origins {
        return Ok(None);
    }
    let input = Gather {
        layers_dir: &inputs.layers_dir,
        group: &given.group.group,
        project: given.project,
        lifecycle: lifecycle(context, given.analyzed),
        previous: given.previous,
        cache,
        inputs: None,
        extra: origins::extra(inputs.report_extra.as_deref())?,
        require: inputs.require_origins,
    };
    Origins::gather(input, *log).map(Some)
}

fn lifecycle(context: &Context<'_>, analyzed: &Analyzed) -> Lifecycle {
    let run_image = analyzed.run_image.as_ref().map(|image| image_ref(&image.image, &image.reference));
    let build_image = analyzed.build_image.as_ref().map(|image| image_ref("", &image.reference));
    let named = context.inputs.build_image.as_deref().map(|name| image_ref(name, name));
    Lifecycle {
        name: "strata".into(),
        version: version::text(),
        run_image,
        build_image: build_image.or(named),
    }
}

/// This program and a run image that it has put an image on.
pub(super) fn program(name: &str, identifier: &str) -> Lifecycle {
    let run_image = Some(image_ref(name, identifier));
    Lifecycle { name: "strata".into(), version: version::text(), run_image, build_image: None }
}

/// An image by the name that was given and by its identifier.
fn image_ref(name: &str, identifier: &str) -> ImageRef {
    let (at, digest) = identifier.rsplit_once('@').unwrap_or((identifier, ""));
    let is_id = at.len() == 64 && digest.is_empty() && at.bytes().all(|byte| byte.is_ascii_hexdigit());
    let name = if name.is_empty() && !is_id { at } else { name };
    let digest = Some(digest.to_owned()).filter(|digest| strata_spec::origins::is_digest(digest));
    ImageRef {
        tags: Some(name.split('@').next().unwrap_or_default().to_owned())
            .filter(|name| !name.is_empty())
            .into_iter()
            .collect(),
        digest: digest.unwrap_or_default(),
        image_id: if is_id { at.to_owned() } else { String::new() },
        ..ImageRef::default()
    }
}

/// Writes the report, and puts it beside the image.
///
/// # Errors
/// When it cannot be written, or origins are required and it cannot be put beside the image.
pub(super) fn report(
    context: &Context<'_>,
    origins: &Origins,
    exported: &Exported,
    outputs: &[Output],
    kept: Option<&CacheMetadata>,
) -> Result<(), Failure> {
    let Context { inputs, log, .. } = context;
    let _timer = log.timer("Report");
    let report = origins.report(exported, kept);
    let text = origins.document(report, *log)?;
    let short = || exported.report.to_toml();
    let written = text.clone().unwrap_or_else(short);
    documents::write(inputs, &inputs.report, "export report", &written, Exit::Export)?;
    text.map_or(Ok(()), |text| origins.attach(&text, exported, outputs, *log))
}
