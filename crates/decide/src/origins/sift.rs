//! What may be restored when origins must be known.

use super::{Unknown, no_record, unreported};
use strata_spec::cache::CacheMetadata;
use strata_spec::labels::{BuildpackLayers, LifecycleMetadata};
use strata_spec::origins::Report;
use strata_spec::origins::records::Records;

/// A layer that is left where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sifted {
    /// Id of the buildpack.
    pub buildpack: String,
    /// Its name.
    pub name: String,
    /// Why its origin is unknown.
    pub unknown: Unknown,
}

/// Takes layers out of a cache and out of the previous image's label whose origin is unknown. `report` lies beside that
/// image.
pub fn sift(
    label: &mut LifecycleMetadata,
    cache: &mut CacheMetadata,
    records: &Records,
    report: Option<&Result<Report, Unknown>>,
) -> Vec<Sifted> {
    let mut found: Vec<Sifted> = Vec::new();
    let mut sift = |buildpacks: &mut Vec<BuildpackLayers>, in_cache: bool| {
        for buildpack in buildpacks {
            let key = buildpack.key.clone();
            buildpack.layers.retain(|name, layer| {
                let is_known = records.find(&key, name, &layer.sha).is_some()
                    || reported(report, &key, name, &layer.sha).is_some();
                if !is_known && !found.iter().any(|other| other.buildpack == key && other.name == *name) {
                    let unknown = if in_cache { no_record() } else { unreported(report) };
                    found.push(Sifted { buildpack: key.clone(), name: name.clone(), unknown });
                }
                is_known
            });
        }
    };
    sift(&mut cache.buildpacks, true);
    sift(&mut label.buildpacks, false);
    found
}

fn reported(report: Option<&Result<Report, Unknown>>, buildpack: &str, name: &str, sha: &str) -> Option<()> {
    let report = report?.as_ref().ok()?;
    let layer = report
        .layers
        .iter()
        .find(|layer| layer.buildpack == buildpack && layer.name == name && layer.diff_id == sha)?;
    report.build_of(layer).map(drop)
}
