//! The image as it grows layer by layer.

use super::maker::{Made, Maker};
use super::wanted::{self, Slot, Wanted};
use super::{Export, failed};
use crate::event::{Event, Observer};
use crate::failure::Failure;
use strata_oci::media_type::{DOCKER_LAYER_GZIP, DOCKER_LAYER_ZSTD, OCI_LAYER_GZIP, OCI_LAYER_ZSTD};
use strata_oci::{Descriptor, History, Image, Layer};
use strata_spec::exit::Exit;
use strata_spec::labels::{LifecycleMetadata, Sha};
use strata_store::{Copied, Store, StoreError};

/// An image that grows layer by layer.
pub(super) struct Assembly<'a> {
    pub(super) export: &'a Export<'a>,
    pub(super) output: &'a dyn Store,
    pub(super) observer: &'a dyn Observer,
    pub(super) image: Image,
}

impl<'a> Assembly<'a> {
    pub(super) fn new(
        export: &'a Export<'a>,
        output: &'a dyn Store,
        observer: &'a dyn Observer,
    ) -> Result<Self, Failure> {
        let mut image = export.base.image.clone();
        if export.api.has_targets() {
            image.normalise_history(export.created);
        } else {
            image.blank_history(export.created);
        }
        for layer in image.layers() {
            let copied = output.copy_blob_from(export.base_store, &layer.descriptor);
            let is_there = copied.map_err(|error: StoreError| failed("cannot copy the run image", &error))?;
            if is_there == Copied::Absent && !export.may_be_sparse {
                let what = format!("layer {} of the run image is not there", layer.descriptor.digest);
                return Err(Failure::new(Exit::Export, format!("failed to export: {what}"))
                    .hint("the run image is incomplete; fetch it again with all of its layers"));
            }
        }
        if image.layers().is_empty() {
            return Err(Failure::new(Exit::Export, "failed to export: the run image has no layers"));
        }
        Ok(Self { export, output, observer, image })
    }

    /// Puts all layers on top, and names them in the label.
    pub(super) fn add_layers(&mut self, label: &mut LifecycleMetadata) -> Result<(), Failure> {
        let (wanted, buildpacks) = wanted::all(self.export, self.observer)?;
        label.buildpacks = buildpacks;
        let maker = Maker::new(self.export, self.output, self.image.family());
        let mut slices =
            Slices { all: wanted.iter().filter(|one| one.slot == Slot::Slice).count(), reused: 0 };
        maker.make_all(&wanted, |one, made| {
            let sha = Sha { sha: made.diff_id.to_string() };
            let is_reused = made.is_reused;
            self.push(one, made);
            self.tell(one, &sha, is_reused);
            one.slot.fill(label, sha);
            if one.slot == Slot::Slice {
                slices.reused += usize::from(is_reused);
                if label.app.len() == slices.all {
                    slices.tell(self.observer);
                }
            }
        })
    }

    fn tell(&self, one: &Wanted<'_>, sha: &Sha, is_reused: bool) {
        let id = &one.id;
        // Slices are told of together.
        if one.slot != Slot::Slice {
            self.observer.detail(format!("{} layer '{id}'", if is_reused { "Reusing" } else { "Adding" }));
        }
        self.observer.debug(format!("Layer '{id}' SHA: {}", sha.sha));
    }

    fn push(&mut self, one: &Wanted<'_>, made: Made) {
        let Made { descriptor, diff_id, uncompressed_size, is_reused } = made;
        self.observer.event(Event::Layer {
            id: one.id.clone(),
            diff_id: diff_id.to_string(),
            digest: descriptor.digest.to_string(),
            size: descriptor.size,
            uncompressed_size,
            is_reused,
        });
        // Before Platform API 0.12 nothing but the date was kept of how a layer was made.
        let created_by = Some(one.created_by.clone()).filter(|_| self.export.api.has_targets());
        let history =
            History { created: Some(self.export.created.to_owned()), created_by, ..History::default() };
        let descriptor = self.in_family(descriptor);
        self.image.append(Layer { descriptor, diff_id, history: Some(history) });
    }

    /// Both families compress alike: the type follows the image that the layer is in now.
    pub(super) fn in_family(&self, descriptor: Descriptor) -> Descriptor {
        let family = self.image.family();
        let media_type = match &*descriptor.media_type {
            OCI_LAYER_GZIP | DOCKER_LAYER_GZIP => family.layer_gzip().to_owned(),
            OCI_LAYER_ZSTD | DOCKER_LAYER_ZSTD => family.layer_zstd().to_owned(),
            other => other.to_owned(),
        };
        Descriptor { media_type, ..descriptor }
    }
}

/// How many layers the app has.
struct Slices {
    all: usize,
    reused: usize,
}

impl Slices {
    fn tell(&self, observer: &dyn Observer) {
        for (verb, count) in [("Reused", self.reused), ("Added", self.all - self.reused)] {
            if count > 0 {
                observer.detail(format!("{verb} {count}/{} app layer(s)", self.all));
            }
        }
    }
}
