//! The unstructured bills of materials of what was used to build, for the report.

use super::{Export, failed};
use crate::failure::Failure;
use crate::files;
use crate::found::find_layers;
use strata_decide::bom as decide;
use strata_spec::bom::{BomEntry, with_layers};
use strata_spec::build::BuildToml;
use strata_spec::buildpack::escape_id;
use strata_spec::report;

/// `[build]` of the report: before Platform API 0.9 the entries of all `build.toml` and of layers, since then only when
/// a layer has some.
pub(super) fn build_report(export: &Export<'_>) -> Result<Option<report::Build>, Failure> {
    let all = build_bom(export).map_err(|error| failed("cannot write the report", &error))?;
    let bom = if export.api.has_legacy_sbom_files() { with_layers(&all).to_vec() } else { all };
    Ok(Some(report::Build { bom }).filter(|build| !build.bom.is_empty()))
}

fn build_bom(export: &Export<'_>) -> Result<Vec<BomEntry>, files::FileError> {
    let mut bom = Vec::new();
    for buildpack in export.group {
        let dir = files::below(export.trees.layers.real, escape_id(&buildpack.id))?;
        let build = files::read(&dir.join("build.toml"), BuildToml::parse)?.unwrap_or_default();
        bom.extend(build.bom.into_iter().map(|entry| entry.by(&buildpack.id, &buildpack.version)));
        for layer in find_layers(&dir)?.iter().filter(|layer| !layer.toml.bom.is_empty()) {
            if decide::destinations(layer.toml.types, layer.is_present()).build {
                bom.extend(decide::of_layer(buildpack, &layer.name, &layer.toml));
            }
        }
    }
    Ok(bom)
}
