//! A builder that is an image: its files become the root of the build.

use super::Kit;
use crate::hands;
use crate::images;
use crate::places::Places;
use crate::seen::Seen;
use crate::show::Show;
use crate::show::transfer::hold;
use crate::user;
use std::error::Error;
use std::path::Path;
use std::thread::available_parallelism;
use strata_decide::detect::add_system;
use strata_layer::Owner;
use strata_oci::{Digest, Image, ImageConfig};
use strata_phases::{Failure, Observer};
use strata_sandbox::Ids;
use strata_spec::DocError;
use strata_spec::builder::{BuilderMetadata, parse_order_label};
use strata_spec::exit::Exit;
use strata_spec::labels;
use strata_spec::order::{Order, OrderFile};
use strata_spec::run::{RunFile, RunImage, StackFile};
use strata_spec::system::SystemToml;
use strata_store::source::Surroundings;
use strata_store::unpacked::Held;
use strata_store::{StoreError, host_architecture};

/// The largest document of a builder in bytes.
const MAX_DOCUMENT: u64 = 4 << 20;

/// The image that buildpacks run in.
#[derive(Debug)]
pub(crate) struct BuildImage {
    /// As the person named it.
    pub(crate) name: String,
    /// The checksum of its manifest.
    pub(crate) digest: Digest,
    pub(crate) layers: Held,
    pub(crate) config: ImageConfig,
    /// As it is in its store.
    pub(crate) image: Image,
    /// Who builds, and owns what is built.
    pub(crate) owner: Owner,
    /// Who else there is, where this machine lets the caller have others.
    pub(crate) ids: Option<Ids>,
}

impl BuildImage {
    /// Opens the image and unpacks the layers that are not unpacked yet.
    pub(crate) fn open(
        name: &str,
        places: &Places,
        surroundings: &Surroundings<'_>,
        seen: &Seen,
        show: &Show,
    ) -> Result<Self, Failure> {
        let (store, stored) = images::open_seen(name, surroundings, seen)?;
        let config = stored.image.config().clone();
        let what = format!("cannot build in the image '{name}'");
        let refused = |problem: String| Failure::new(Exit::InvalidArguments, format!("{what}: {problem}"));
        let host = host_architecture();
        if config.os() != "linux" || config.architecture() != host {
            let platform = format!("{}/{}", config.os(), config.architecture());
            return Err(refused(format!("it is for {platform}, and this machine is linux/{host}"))
                .hint("use a builder for this machine; programs of others cannot run here"));
        }
        let owner = user::of_build(&config).map_err(|problem| {
            refused(problem).hint(
                "an image to build in names its user in CNB_USER_ID and CNB_GROUP_ID; is it a run image?",
            )
        })?;
        let (unpacked, ids) = hands::layers(places, owner);
        if let Err(why) = &ids {
            show.detail(format!("All files of the builder belong to its user inside: {why}"));
        }
        let threads = available_parallelism().map_or(1, usize::from);
        let unpacked = unpacked.stopping(surroundings.stop().clone());
        let layers = hold(show, name, &unpacked, &*store, &stored.image, threads.min(4))
            .map_err(|error| hands::failure(Exit::InvalidArguments, &what, &error))?;
        Ok(Self {
            name: name.to_owned(),
            digest: stored.manifest_digest,
            layers,
            config,
            image: stored.image,
            owner,
            ids: ids.ok(),
        })
    }
}

/// What a builder image holds besides the files that buildpacks run in.
pub(super) fn kit(image: BuildImage, without_system: bool) -> Result<Kit, Failure> {
    let documents = Documents { image: &image };
    let order_file: Option<OrderFile> = documents.file("cnb/order.toml", OrderFile::parse)?;
    let (order, order_extensions) = match order_file {
        Some(file) => (file.order, file.order_extensions),
        None => {
            let order = documents.label(labels::BUILDER_ORDER, parse_order_label)?;
            (order.unwrap_or_default(), Order::default())
        }
    };
    let system = documents.file("cnb/system.toml", SystemToml::parse)?.unwrap_or_default();
    let order: Order = if without_system { order } else { add_system(&order, &system.system) };
    let run_images = documents.run_images()?;
    Ok(Kit { order, order_extensions, run_images, build_image: Some(image), ..Kit::default() })
}

/// The documents of a builder image. Those in files are what a lifecycle in it would read; labels stand in for them.
struct Documents<'a> {
    image: &'a BuildImage,
}

impl Documents<'_> {
    fn run_images(&self) -> Result<Vec<RunImage>, Failure> {
        if let Some(file) = self.file("cnb/run.toml", RunFile::parse)? {
            return Ok(file.images);
        }
        let stack = self.file("cnb/stack.toml", StackFile::parse)?.map(|file| file.run_image);
        if let Some(run_image) = stack.filter(|run_image| !run_image.image.is_empty()) {
            return Ok(vec![run_image]);
        }
        let label = self.label(labels::BUILDER_METADATA, BuilderMetadata::parse)?;
        Ok(label.map(BuilderMetadata::run_images).unwrap_or_default())
    }

    fn file<T>(
        &self,
        path: &str,
        parse: impl FnOnce(&str) -> Result<T, DocError>,
    ) -> Result<Option<T>, Failure> {
        let failed = |error: &dyn Error| self.failed(&format!("/{path}"), error);
        let bytes = self.image.layers.read(Path::new(path), MAX_DOCUMENT);
        let bytes = bytes.map_err(|error: StoreError| failed(&error))?;
        let text = bytes.map(String::from_utf8).transpose().map_err(|error| failed(&error))?;
        text.map(|text| parse(&text)).transpose().map_err(|error| failed(&error))
    }

    fn label<T>(
        &self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, DocError>,
    ) -> Result<Option<T>, Failure> {
        let text = self.image.config.label(name);
        text.map(parse).transpose().map_err(|error| self.failed(&format!("its label {name}"), &error))
    }

    fn failed(&self, document: &str, error: &dyn Error) -> Failure {
        let message = format!("cannot use the builder {}: {document}", self.image.name);
        Failure::caused(Exit::InvalidArguments, message, error)
    }
}
