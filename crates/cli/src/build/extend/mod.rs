//! Image extensions: their Dockerfiles are applied to the image that buildpacks run in, and to the run image.
//!
//! Each Dockerfile makes one layer, in a sandbox over the layers below it. A layer of an earlier build is taken where all
//! that it depends on is the same.

mod maker;

use super::base;
use super::said::Scope;
use super::sandboxed::{Inputs, Work, in_sandbox};
use crate::builder::BuildImage;
use crate::hands;
use crate::interrupt::Interrupt;
use crate::places::Places;
use crate::show::Show;
use crate::show::transfer::hold;
use crate::workplace::threads;
use crate::{args, images};
use maker::Maker;
pub(crate) use maker::{Steps, run_here};
use std::path::PathBuf;
use strata_decide::extend::{Base, Part, plan};
use strata_layer::{Compression, Owner, Packer};
use strata_oci::{Digest, Image, ImageConfig};
use strata_phases::export::{self, Extra};
use strata_phases::extend::{Found, Kept, Key, build_id, context_digest, dockerfiles, refused};
use strata_phases::{Failure, Observer, files};
use strata_sandbox::Ids;
use strata_spec::PlatformApi;
use strata_spec::exit::Exit;
use strata_spec::extend::Kind;
use strata_spec::group::Group;
use strata_spec::group::GroupElement;
use strata_store::unpacked::Held;
use strata_store::{Layout, StoreError, Unpacked};

/// What it takes to extend images.
pub(super) struct Engine<'a> {
    pub(super) args: &'a args::Build,
    pub(super) places: &'a Places,
    pub(super) work: &'a Work,
    pub(super) show: &'a Show,
    pub(super) interrupt: &'a Interrupt,
    /// Where layers are made.
    pub(super) layout: Layout,
    pub(super) packer: Packer,
}

/// An image that is to be extended.
pub(super) struct Given<'a> {
    pub(super) kind: Kind,
    /// The checksum of its manifest.
    pub(super) digest: Digest,
    pub(super) image: &'a Image,
    /// Unpacks its layers, unless they are.
    pub(super) lowers: &'a dyn Fn(&Unpacked) -> Result<Below, Failure>,
    /// Whose ids the caller has in sandboxes of the image.
    pub(super) owner: Owner,
}

/// An image with the layers of extensions.
pub(super) struct Extended {
    pub(super) config: ImageConfig,
    /// The layers on top of those that the image had.
    pub(super) layers: Vec<Extra>,
    /// Where their blobs are.
    pub(super) layout: Layout,
}

impl<'a> Engine<'a> {
    fn new(inputs: &Inputs<'a>, show: &'a Show, interrupt: &'a Interrupt) -> Result<Self, Failure> {
        let Inputs { args, places, work, .. } = *inputs;
        let layout = Layout::open_or_create(work.extended())
            .map_err(|error| failed("cannot make a place for the layers of extensions", &error))?;
        Ok(Self { args, places, work, show, interrupt, layout, packer: Packer::new(threads()) })
    }

    /// The Dockerfiles of a kind that these extensions generated.
    pub(super) fn dockerfiles(&self, group: &[GroupElement], kind: Kind) -> Result<Vec<Found>, Failure> {
        let generated = self.work.layers.join("generated");
        dockerfiles(&generated, &self.work.app, group, kind, PlatformApi::NEWEST)
    }

    /// Applies Dockerfiles to an image.
    pub(super) fn extend(&self, given: &Given<'_>, found: &[Found]) -> Result<Extended, Failure> {
        let base = Base {
            config: given.image.config(),
            name: &format!("base@{}", given.digest),
            build_id: &build_id()?,
        };
        let all: Vec<_> = found.iter().map(Found::given).collect();
        let planned = plan(given.kind, &base, &all).map_err(|problem| refused(given.kind, problem))?;
        planned.warnings.iter().for_each(|warning| self.show.warn(warning.clone()));
        let mut below: Vec<Digest> = given.image.layers().iter().map(|layer| layer.diff_id).collect();
        let mut extended =
            Extended { config: planned.config, layers: Vec::new(), layout: self.layout.clone() };
        let mut ground = None;
        for (part, found) in planned.parts.iter().zip(found).filter(|(part, _)| !part.steps.is_empty()) {
            if let Some(extra) = self.layer(given, part, found, &below, &extended.layers, &mut ground)? {
                below.push(extra.layer.diff_id);
                extended.layers.push(extra);
            }
        }
        Ok(extended)
    }

    /// The layer that a Dockerfile makes; `None` if it changes no files.
    fn layer(
        &self,
        given: &Given<'_>,
        part: &Part,
        found: &Found,
        below: &[Digest],
        extra: &[Extra],
        ground: &mut Option<Ground>,
    ) -> Result<Option<Extra>, Failure> {
        let (what, label) = (given.kind.as_str(), part.label());
        let cache = &self.args.cache;
        let kept = Kept {
            dir: self.places.extensions(),
            reads: !cache.no_cache && !cache.clear_cache,
            writes: !cache.no_cache,
            newer_than: None,
        };
        let (unpacked, ids) = hands::layers(self.places, given.owner);
        let compression = self.args.compression.unwrap_or(Compression::Gzip);
        let key = match part.key().filter(|_| kept.is_wanted()) {
            Some(steps) => Some(Key {
                steps,
                below: below.to_vec(),
                context: part.uses_context().then(|| context_digest(&found.context)).transpose()?,
                has_others: ids.is_ok(),
                around: vec![format!("network: {:?}", self.args.network)],
                compression: compression.to_string(),
            }),
            None => None,
        };
        let earlier = key.as_ref().and_then(|key| kept.take(key, &self.layout, given.image.family()));
        let is_reused = earlier.is_some();
        let layer = match earlier {
            Some(layer) => layer,
            None => {
                let ground = match ground {
                    Some(ground) => ground,
                    None => ground.insert(Ground {
                        below: (given.lowers)(&unpacked)?,
                        unpacked,
                        ids,
                        extra: None,
                    }),
                };
                let lowers = self.lowers(ground, given, extra)?;
                let maker = Maker { engine: self, given, ids: &ground.ids, lowers, compression };
                let layer = maker.make(part, found)?;
                if let Some(key) = &key {
                    kept.put(key, layer.as_ref(), &self.layout, self.show);
                }
                layer
            }
        };
        let how = match (&layer, is_reused) {
            (None, _) => "changes no files".to_owned(),
            (Some(layer), true) => format!("reuses layer {}", layer.diff_id),
            (Some(layer), false) => format!("made layer {}", layer.diff_id),
        };
        self.show.info(format!("{} of {label} {how} of the {what} image", given.kind.dockerfile()));
        Ok(layer.map(|layer| Extra {
            id: part.id.clone(),
            version: part.version.clone(),
            layer,
            is_reused,
            created_by: part.created_by.clone(),
        }))
    }

    /// The directories of all layers so far, the topmost first, each once.
    fn lowers(
        &self,
        ground: &mut Ground,
        given: &Given<'_>,
        extra: &[Extra],
    ) -> Result<Vec<PathBuf>, Failure> {
        let held = self.hold(&ground.unpacked, given, extra)?;
        let all = stacked(held.dirs(), &ground.below.0);
        ground.extra = Some(held);
        Ok(all)
    }
}

/// The directories of an image's layers, the topmost first, and what keeps them.
pub(super) type Below = (Vec<PathBuf>, Option<Held>);

/// What steps run upon.
struct Ground {
    below: Below,
    unpacked: Unpacked,
    ids: Result<Ids, String>,
    /// Keeps the layers of extensions.
    extra: Option<Held>,
}

/// What buildpacks run in, if extensions have extended it.
pub(crate) struct BuildGround {
    pub(super) config: ImageConfig,
    dirs: Vec<PathBuf>,
    /// Keeps the layers of extensions.
    _held: Held,
}

impl BuildGround {
    /// The directories of its layers, the topmost first.
    pub(super) fn dirs(&self) -> &[PathBuf] {
        &self.dirs
    }
}

/// What extensions make of a build.
#[derive(Default)]
pub(super) struct Prepared {
    /// The run image that they have chosen.
    pub(super) base: Option<base::Base>,
    pub(super) build: Option<BuildGround>,
    pub(super) run: Option<Extended>,
}

impl Prepared {
    /// What is left to do, with what extensions have made.
    pub(super) fn inputs<'a>(&'a self, inputs: Inputs<'a>) -> Inputs<'a> {
        let base = self.base.as_ref().unwrap_or(inputs.base);
        Inputs { base, scope: Scope::Build, extended: self.build.as_ref(), ..inputs }
    }
}

impl Extended {
    /// As the exporter has it.
    pub(super) fn for_export(&self) -> export::Extended<'_> {
        export::Extended { config: Some(&self.config), layers: &self.layers, store: &self.layout }
    }
}

/// Detects, and lets the extensions of the group do what they do to both images; `None` where there can be none.
pub(super) fn prepare(
    inputs: &Inputs<'_>,
    run_images: &base::Finder<'_>,
    interrupt: &Interrupt,
) -> Result<Option<Prepared>, Failure> {
    let show = run_images.show;
    if !has_extensions(inputs, show) {
        return Ok(None);
    }
    show.part("extensions", || extend_both(inputs, run_images, interrupt)).map(Some)
}

/// Whether image extensions can take part.
fn has_extensions(inputs: &Inputs<'_>, show: &Show) -> bool {
    let has_some = !inputs.kit.order_extensions.is_empty();
    let is_own = inputs.args.lifecycle == args::LifecycleArg::Strata;
    if has_some && !is_own {
        show.warn("the builder's image extensions take no part where its own lifecycle builds".into());
    }
    has_some && is_own
}

fn extend_both(
    inputs: &Inputs<'_>,
    run_images: &base::Finder<'_>,
    interrupt: &Interrupt,
) -> Result<Prepared, Failure> {
    let show = run_images.show;
    let Inputs { kit, work, target, .. } = *inputs;
    let detected = in_sandbox(&Inputs { scope: Scope::Detection, ..*inputs }, show, interrupt)?;
    let group = files::read(&work.layers.join("group.toml"), Group::parse).map_err(|error| {
        Failure::caused(Exit::Extend, "failed to extend images: cannot read the group", &error)
    })?;
    let group = group.unwrap_or_default().group_extensions;
    let mut prepared = Prepared::default();
    if let Some(name) = &detected.generated.run_image {
        prepared.base = Some(base::Base::chosen(name, inputs.args, kit, run_images, &target.layout)?);
    }
    let engine = Engine::new(inputs, show, interrupt)?;
    if let Some(image) = &kit.build_image {
        prepared.build = engine.extend_build(image, &engine.dockerfiles(&group, Kind::Build)?)?;
    }
    // Those that only choose a run image leave it as it is.
    if detected.generated.extends_run {
        let found = engine.dockerfiles(&group, Kind::Run)?;
        let base = prepared.base.as_ref().unwrap_or(inputs.base);
        prepared.run = Some(engine.extend_run(base, &found)?);
    }
    Ok(prepared)
}

impl Engine<'_> {
    fn extend_build(&self, image: &BuildImage, found: &[Found]) -> Result<Option<BuildGround>, Failure> {
        if found.is_empty() {
            return Ok(None);
        }
        let given = Given {
            kind: Kind::Build,
            digest: image.digest,
            image: &image.image,
            lowers: &|_| Ok((image.layers.dirs().to_vec(), None)),
            owner: image.owner,
        };
        let extended = self.extend(&given, found)?;
        let (unpacked, _) = hands::layers(self.places, image.owner);
        let held = self.hold(&unpacked, &given, &extended.layers)?;
        let dirs = stacked(held.dirs(), image.layers.dirs());
        Ok(Some(BuildGround { config: extended.config, dirs, _held: held }))
    }

    fn extend_run(&self, base: &base::Base, found: &[Found]) -> Result<Extended, Failure> {
        let image = &base.stored.image;
        let lowers = |unpacked: &Unpacked| {
            let name = base.run_image.image.as_str();
            let name = if name.is_empty() { "the run image" } else { name };
            let held = hold(self.show, name, unpacked, &*base.store, image, threads().min(4));
            let held = held.map_err(|error| {
                hands::failure(Exit::Extend, "failed to extend run image: cannot unpack its layers", &error)
            })?;
            Ok((held.dirs().to_vec(), Some(held)))
        };
        // Root of the image is never the caller.
        let id = |id: u64| if id == 0 { base::SCRATCH_USER.into() } else { id };
        let Owner { uid, gid } = base.owner;
        let given = Given {
            kind: Kind::Run,
            digest: base.stored.manifest_digest,
            image,
            lowers: &lowers,
            owner: Owner { uid: id(uid), gid: id(gid) },
        };
        self.extend(&given, found)
    }

    fn hold(&self, unpacked: &Unpacked, given: &Given<'_>, layers: &[Extra]) -> Result<Held, Failure> {
        let mut image = Image::empty(given.image.config().os(), given.image.config().architecture());
        layers.iter().for_each(|extra| image.append(extra.layer.clone()));
        unpacked.hold(&self.layout, &image, threads().min(4)).map_err(|error| {
            let what = given.kind.as_str();
            let what = format!("failed to extend {what} image: cannot unpack layers of extensions");
            hands::failure(Exit::Extend, &what, &error)
        })
    }
}

/// Directories over others, each once: the upper one says all that both say.
fn stacked(over: &[PathBuf], under: &[PathBuf]) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = Vec::new();
    for dir in over.iter().chain(under) {
        if !all.contains(dir) {
            all.push(dir.clone());
        }
    }
    all
}

fn failed(what: &str, error: &StoreError) -> Failure {
    images::failure(Exit::Extend, &format!("failed to extend an image: {what}"), error)
}
