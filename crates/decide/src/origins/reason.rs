//! Why a layer was made again, or was not: findings, the most telling one first.

use super::{Blob, Extra, Facts, Left, different_keys, entry, id, is_of};
use strata_spec::cache::CacheMetadata;
use strata_spec::labels::LayerEntry;
use strata_spec::origins::{EarlierBuild, Evidence, Kind, Origin, Reason, ReasonCode};
use strata_spec::values;

impl Facts<'_> {
    pub(super) fn reason(
        &self,
        left: &Left,
        diff_id: &str,
        origin: &Origin,
        build: Option<&EarlierBuild>,
    ) -> Reason {
        let cached = self.past.cache.as_ref().and_then(|cache| cache.layer(&left.buildpack, &left.name));
        let before = entry(&self.past.label, &left.buildpack, &left.name).or(cached);
        if origin.from != Evidence::ThisBuild {
            let text = build.map(|build| format!("made by build {} of {}", build.id, build.time));
            let mut keys = Vec::new();
            let also = before.map(|before| described_otherwise(left, before, &mut keys)).unwrap_or_default();
            return Reason { code: ReasonCode::Unchanged, also, keys, text: text.unwrap_or_default() };
        }
        let Some(before) = before else {
            let code = match (self.has_past(), self.was_reported(left)) {
                (false, _) => ReasonCode::FirstBuild,
                (true, Some(false)) => ReasonCode::NewLayer,
                (true, _) => self.not_restored(left, None).unwrap_or(ReasonCode::NewLayer),
            };
            return Reason { code, ..Reason::default() };
        };
        let mut keys = Vec::new();
        let mut codes: Vec<ReasonCode> = self.not_restored(left, cached).into_iter().collect();
        codes.extend(self.differences(left, before, &mut keys));
        if before.sha == diff_id && !diff_id.is_empty() {
            codes.insert(0, ReasonCode::Reproduced);
        } else if codes.is_empty() && !diff_id.is_empty() {
            codes.push(ReasonCode::ContentsChanged);
        }
        let text = if keys.is_empty() { String::new() } else { format!("metadata: {}", keys.join(", ")) };
        let mut codes = codes.into_iter();
        Reason { code: codes.next().unwrap_or_default(), also: codes.collect(), keys, text }
    }

    /// Why the layer of an image extension was made again, or was not.
    pub(super) fn reason_of_extension(
        &self,
        blob: &Blob,
        extra: &Extra,
        build: Option<&EarlierBuild>,
    ) -> Reason {
        if extra.is_reused {
            let text = build.map(|build| format!("made by build {} of {}", build.id, build.time));
            let text = text.unwrap_or_default();
            return Reason { code: ReasonCode::Unchanged, text, ..Reason::default() };
        }
        let code = match &self.past.report {
            Some(Ok(report)) => match report.layers.iter().find(|layer| is_of(layer, extra)) {
                Some(before) if before.diff_id == blob.diff_id => ReasonCode::Reproduced,
                Some(_) => ReasonCode::ContentsChanged,
                None => ReasonCode::NewLayer,
            },
            _ if self.has_past() => ReasonCode::default(),
            _ => ReasonCode::FirstBuild,
        };
        Reason { code, ..Reason::default() }
    }

    /// Whether the build before had the layer, too; `None` when nobody knows.
    fn was_reported(&self, left: &Left) -> Option<bool> {
        let report = self.past.report.as_ref()?.as_ref().ok()?;
        Some(report.layers.iter().any(|layer| layer.buildpack == left.buildpack && layer.name == left.name))
    }

    fn has_past(&self) -> bool {
        self.past.cache.as_ref().is_some_and(has_layers)
            || !self.past.label.buildpacks.is_empty()
            || !self.past.label.app.is_empty()
    }

    /// Why there was nothing to go on with.
    fn not_restored(&self, left: &Left, cached: Option<&LayerEntry>) -> Option<ReasonCode> {
        let types = left.toml.types;
        let lost = self.past.lost.get(&id(left)).copied();
        match (&self.past.cache, cached) {
            // Layers that only the image had may have been left there, too.
            _ if matches!(lost, Some(ReasonCode::NotRestored | ReasonCode::OriginRequired)) => lost,
            _ if !types.cache && types.build => Some(ReasonCode::NotCached),
            _ if !types.cache => None,
            (None, _) => Some(ReasonCode::NoCache),
            (Some(cache), None) if !has_layers(cache) => Some(ReasonCode::NoCache),
            (Some(_), None) => Some(ReasonCode::NotInCache),
            (Some(_), Some(_)) => lost,
        }
    }

    /// What is otherwise than in the build before.
    fn differences(&self, left: &Left, before: &LayerEntry, keys: &mut Vec<String>) -> Vec<ReasonCode> {
        let version = Some(ReasonCode::BuildpackVersionChanged).filter(|_| self.is_of_another_version(left));
        let described = described_otherwise(left, before, keys);
        let found = [
            (self.has_another_base(left), ReasonCode::BaseChanged),
            (self.has_another_source(left), ReasonCode::SourceChanged),
        ];
        let around = found.into_iter().filter(|(is_so, _)| *is_so).map(|(_, code)| code);
        version.into_iter().chain(described).chain(around).collect()
    }

    fn is_of_another_version(&self, left: &Left) -> bool {
        let now = self.group.iter().find(|element| element.id == left.buildpack).map(|e| e.version.as_str());
        let cached = self.past.cache.iter().flat_map(|cache| &cache.buildpacks);
        let mut before = self.past.label.buildpacks.iter().chain(cached).filter(|b| b.key == left.buildpack);
        before.next().is_some_and(|before| Some(before.version.as_str()) != now)
    }

    /// The build before, as far as it is known: from the report beside the image, else from the cache.
    fn build_before(&self, left: Option<&Left>) -> Option<EarlierBuild> {
        if let Some(Ok(report)) = &self.past.report {
            return Some(report.this_build());
        }
        let left = left?;
        let records = &self.past.records;
        let record = records.layers.iter().find(|r| r.buildpack == left.buildpack && r.name == left.name)?;
        records.builds.iter().find(|build| build.id == record.build).cloned()
    }

    fn has_another_base(&self, left: &Left) -> bool {
        let (now, before) = (&self.made.label.run_image.top_layer, &self.past.label.run_image.top_layer);
        if !before.is_empty() {
            return now != before;
        }
        let digest = |build: &EarlierBuild| Some(build.lifecycle.run_image.as_ref()?.digest.clone());
        let before = self.build_before(Some(left)).and_then(|build| digest(&build));
        before.is_some_and(|before| !before.is_empty() && Some(before) != digest(self.build))
    }

    fn has_another_source(&self, left: &Left) -> bool {
        let before = self.build_before(Some(left)).and_then(|build| build.application_source);
        before.is_some_and(|before| Some(&before) != self.build.application_source.as_ref())
    }

    /// Why a layer that no buildpack made is as it is.
    pub(super) fn own_reason(&self, kind: Kind, is_same: bool, had_one: bool) -> ReasonCode {
        let before = self.build_before(None).and_then(|build| build.application_source);
        match (kind, before) {
            _ if is_same => ReasonCode::Unchanged,
            _ if !had_one && self.has_past() => ReasonCode::NewLayer,
            _ if !had_one => ReasonCode::FirstBuild,
            (Kind::App, Some(before)) if Some(&before) != self.build.application_source.as_ref() => {
                ReasonCode::SourceChanged
            }
            _ => ReasonCode::ContentsChanged,
        }
    }
}

fn has_layers(cache: &CacheMetadata) -> bool {
    cache.buildpacks.iter().any(|known| !known.layers.is_empty())
}

/// What its buildpack says of it otherwise than in the build before.
fn described_otherwise(left: &Left, before: &LayerEntry, keys: &mut Vec<String>) -> Vec<ReasonCode> {
    let types = left.toml.types;
    let data = left.toml.metadata.as_ref().map(values::table_to_json).unwrap_or_default();
    *keys = different_keys(&data, &before.data);
    let has_other_types =
        (types.launch, types.build, types.cache) != (before.launch, before.build, before.cache);
    let found =
        [(has_other_types, ReasonCode::TypesChanged), (!keys.is_empty(), ReasonCode::MetadataChanged)];
    found.into_iter().filter(|(is_so, _)| *is_so).map(|(_, code)| code).collect()
}
