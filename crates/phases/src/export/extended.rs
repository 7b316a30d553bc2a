//! The layers of image extensions, between those of the run image and those of buildpacks.

use super::assembly::Assembly;
use super::failed;
use crate::event::Event;
use crate::failure::Failure;
use strata_decide::origins;
use strata_oci::{History, ImageConfig, Layer};
use strata_spec::exit::Exit;
use strata_store::{Copied, Store};

/// A run image that extensions have extended.
#[derive(Clone, Copy)]
pub struct Extended<'a> {
    /// What it says of how it is run, in place of what the run image says.
    pub config: Option<&'a ImageConfig>,
    /// The layers above those of the run image.
    pub layers: &'a [Extra],
    /// Where their blobs are.
    pub store: &'a dyn Store,
}

/// A layer of an extension.
#[derive(Debug, Clone)]
pub struct Extra {
    /// The extension's id.
    pub id: String,
    /// Its version; empty when it is not known.
    pub version: String,
    /// The layer.
    pub layer: Layer,
    /// What history says of it.
    pub created_by: String,
    /// Whether an earlier build made it.
    pub is_reused: bool,
}

impl Extended<'_> {
    /// What reports say of its layers. The lowest is on top of so many others.
    pub(super) fn told(&self, inherited: usize) -> Vec<origins::Extra> {
        let told = |(at, extra): (usize, &Extra)| origins::Extra {
            id: extra.id.clone(),
            version: extra.version.clone(),
            name: name(inherited + at),
            is_reused: extra.is_reused,
        };
        self.layers.iter().enumerate().map(told).collect()
    }
}

/// What a layer is called that has so many below it.
fn name(below: usize) -> String {
    format!("extended-layer-{below}")
}

impl Assembly<'_> {
    /// Puts the layers of extensions on top, as they are, and takes over the configuration.
    pub(super) fn add_extended(&mut self, extended: &Extended<'_>) -> Result<(), Failure> {
        let what = "cannot copy the layers of image extensions";
        for extra in extended.layers {
            let id = format!("{}:{}", extra.id, name(self.image.layers().len()));
            let descriptor = &extra.layer.descriptor;
            let copied = self.output.copy_blob_from(extended.store, descriptor);
            if copied.map_err(|error| failed(what, &error))? == Copied::Absent {
                let message = format!("failed to export: layer '{id}' is not there");
                return Err(Failure::new(Exit::Export, message)
                    .hint("the extender writes it; did it run on the same extended directory?"));
            }
            self.observer.detail(format!("Adding layer '{id}'"));
            self.observer.event(Event::Layer {
                id,
                diff_id: extra.layer.diff_id.to_string(),
                digest: descriptor.digest.to_string(),
                size: descriptor.size,
                uncompressed_size: None,
                is_reused: extra.is_reused,
            });
            let created_by = Some(extra.created_by.clone()).filter(|text| !text.is_empty());
            let history =
                History { created: Some(self.export.created.to_owned()), created_by, ..History::default() };
            let descriptor = self.in_family(descriptor.clone());
            let diff_id = extra.layer.diff_id;
            self.image.append(Layer { descriptor, diff_id, history: Some(history) });
        }
        if let Some(config) = extended.config {
            self.image.config_mut().set_run_config(config);
        }
        Ok(())
    }
}
