//! Applies Dockerfiles to the root of this very process, as in a container of the image that is extended
//! (platform specification, "extender"). What was written is found by looking at everything before and after.

use super::{Found, Ground, Kept, Key, apply, context_digest, refused};
use crate::event::Observer;
use crate::export::Extra;
use crate::failure::Failure;
use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use strata_decide::extend::{Action, Base, Part, plan};
use strata_layer::{
    Compression, Delta, LayerError, Ownership, Packer, Survey, Times, UnpackOptions, Whiteouts, open_layer,
    unpack,
};
use strata_oci::{Descriptor, Digest, History, Image, ImageConfig, Layer};
use strata_spec::exit::Exit;
use strata_spec::extend::Kind;
use strata_store::{Store, StoreError, StoredImage};

/// What it takes.
pub struct Here<'a> {
    /// Which image this is.
    pub kind: Kind,
    /// The image as it was.
    pub base: &'a StoredImage,
    /// The Dockerfiles.
    pub found: &'a [Found],
    /// What this build is called.
    pub build_id: &'a str,
    /// Paths that are no part of the image, absolute; what is mounted is none either.
    pub skip: &'a BTreeSet<PathBuf>,
    /// Layers of earlier builds.
    pub kept: &'a Kept,
    /// Where blobs of layers go.
    pub store: &'a dyn Store,
    /// What packs them.
    pub packer: &'a Packer,
    /// Variables for programs that are not of the image.
    pub variables: &'a [(String, String)],
    /// Ends what a program left running.
    pub end_leftovers: &'a (dyn Fn() -> usize + Sync),
}

/// An extended image.
#[derive(Debug)]
pub struct Extended {
    /// Its configuration.
    pub config: ImageConfig,
    /// Its layers on top of those that it had.
    pub layers: Vec<Extra>,
}

impl Here<'_> {
    /// Applies the Dockerfiles. Layers that are kept are unpacked instead of being made again.
    ///
    /// # Errors
    /// [`Exit::Extend`]; the root is then as it was left.
    pub fn run(&self, observer: &dyn Observer) -> Result<Extended, Failure> {
        let name = format!("base@{}", self.base.manifest_digest);
        let base = Base { config: self.base.image.config(), name: &name, build_id: self.build_id };
        let given: Vec<_> = self.found.iter().map(Found::given).collect();
        let planned = plan(self.kind, &base, &given).map_err(|problem| refused(self.kind, problem))?;
        planned.warnings.iter().for_each(|warning| observer.warn(warning.clone()));
        let mut below: Vec<Digest> = self.base.image.layers().iter().map(|layer| layer.diff_id).collect();
        let mut extended = Extended { config: planned.config, layers: Vec::new() };
        for (part, found) in planned.parts.iter().zip(self.found).filter(|(part, _)| !part.steps.is_empty()) {
            if let Some((layer, is_reused)) = self.layer(part, found, &below, observer)? {
                below.push(layer.diff_id);
                extended.layers.push(Extra {
                    id: part.id.clone(),
                    version: part.version.clone(),
                    layer,
                    created_by: part.created_by.clone(),
                    is_reused,
                });
            }
        }
        Ok(extended)
    }

    fn layer(
        &self,
        part: &Part,
        found: &Found,
        below: &[Digest],
        observer: &dyn Observer,
    ) -> Result<Option<(Layer, bool)>, Failure> {
        let family = self.base.image.family();
        let key = match part.key() {
            Some(steps) => Some(Key {
                steps,
                below: below.to_vec(),
                context: part.uses_context().then(|| context_digest(&found.context)).transpose()?,
                has_others: true,
                around: self.skip.iter().map(|path| path.display().to_string()).collect(),
                compression: Compression::Gzip.to_string(),
            }),
            None => None,
        };
        if let Some(kept) = key.as_ref().and_then(|key| self.kept.take(key, self.store, family)) {
            observer.info(format!("Using cached layer of {} of {}", self.kind.dockerfile(), part.label()));
            kept.iter().try_for_each(|layer| self.unpack(layer, part))?;
            return Ok(kept.map(|layer| (layer, true)));
        }
        for step in part.steps.iter().filter(|step| matches!(step.action, Action::Run { .. })) {
            observer.info(format!("No cached layer found for cmd {}", step.text));
        }
        let layer = self.make(part, found, observer)?;
        if let Some(key) = &key {
            self.kept.put(key, layer.as_ref(), self.store, observer);
        }
        Ok(layer.map(|layer| (layer, false)))
    }

    /// Does the steps, and packs what they wrote.
    fn make(&self, part: &Part, found: &Found, observer: &dyn Observer) -> Result<Option<Layer>, Failure> {
        let root = Path::new("/");
        let failed = |error: LayerError| self.failed("make the layer", part, &error);
        let before = Survey::of(root, self.skip).map_err(failed)?;
        let label = part.label();
        let ground = Ground {
            extension: &label,
            kind: self.kind,
            context: Some(&found.context),
            variables: self.variables,
            alone: None,
            end_leftovers: self.end_leftovers,
        };
        apply(&part.steps, &ground, observer)?;
        let now = Survey::of(root, self.skip).map_err(failed)?;
        let delta = Delta::between(&before, &now).map_err(failed)?;
        for path in delta.capable(root) {
            observer.warn(format!(
                "{label}: /{} has capabilities (security.capability), which the layer does not keep",
                path.display()
            ));
        }
        if delta.is_empty() {
            return Ok(None);
        }
        let store_failed = |error: StoreError| self.failed("keep the layer", part, &error);
        let mut sink = self.store.begin_blob().map_err(store_failed)?;
        let fill = |out: &mut dyn Write| delta.write(root, out);
        let packed = self.packer.pack_with(fill, Compression::Gzip, &mut sink).map_err(failed)?;
        sink.flush().map_err(|source| failed(LayerError::Write { source }))?;
        sink.commit(&packed.digest, packed.size).map_err(store_failed)?;
        let media_type = self.base.image.family().layer_gzip();
        let descriptor = Descriptor::new(media_type, packed.digest, packed.size);
        Ok(Some(Layer { descriptor, diff_id: packed.diff_id, history: None }))
    }

    fn unpack(&self, layer: &Layer, part: &Part) -> Result<(), Failure> {
        let blob = self.store.open_blob(&layer.descriptor);
        let blob = blob.map_err(|error| self.failed("read the kept layer", part, &error))?;
        let failed = |error: LayerError| self.failed("unpack the kept layer", part, &error);
        let Some(blob) = blob else { return Err(failed(LayerError::Stopped)) };
        let options = UnpackOptions {
            whiteouts: Whiteouts::Apply,
            ownership: Ownership::Keep,
            times: Times::Now,
            ..UnpackOptions::default()
        };
        let mut tar = open_layer(blob).map_err(failed)?;
        unpack(&mut tar, Path::new("/"), &options).map(drop).map_err(failed)
    }

    fn failed(&self, what: &str, part: &Part, error: &dyn std::error::Error) -> Failure {
        let message =
            format!("failed to extend {} image: cannot {what} of {}", self.kind.as_str(), part.label());
        Failure::caused(Exit::Extend, message, error)
    }
}

impl Extended {
    /// The image with these layers. Like all that has no date, it is of the year 1.
    #[must_use]
    pub fn image(&self, base: &Image) -> Image {
        const NO_DATE: &str = "0001-01-01T00:00:00Z";
        let mut image = base.clone();
        image.normalise_history(NO_DATE);
        for extra in &self.layers {
            let created_by = Some(extra.created_by.clone());
            let history = History { created: Some(NO_DATE.to_owned()), created_by, ..History::default() };
            image.append(Layer { history: Some(history), ..extra.layer.clone() });
        }
        image.config_mut().set_run_config(&self.config);
        image.config_mut().set_created(NO_DATE);
        image
    }
}
