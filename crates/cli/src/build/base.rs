//! The run image: what the app is built on.

use crate::args;
use crate::builder::Kit;
use crate::converted;
use crate::images;
use crate::places::Places;
use crate::seen::Seen;
use crate::show::Show;
use crate::show::transfer::{Load, Way, watch};
use crate::user;
use std::fs;
use std::path::Path;
use strata_decide::inputs::check::{registry_of, select_run_image};
use strata_layer::Owner;
use strata_oci::{Descriptor, ImageConfig, Reference};
use strata_phases::{Failure, Observer as _};
use strata_spec::exit::Exit;
use strata_spec::labels::{self, RunImage};
use strata_spec::run;
use strata_store::source::{Source, Surroundings};
use strata_store::{Layout, Lock, Medium, Store, StoreError, StoredImage, Transfer, scratch};

/// The user of the scratch base.
pub(crate) const SCRATCH_USER: u32 = 1000;

/// The run image that is made here.
const SCRATCH: &str = "scratch";

/// The run image.
pub(crate) struct Base {
    pub(crate) store: Box<dyn Store>,
    pub(crate) stored: StoredImage,
    pub(crate) run_image: RunImage,
    /// Who owns what is built.
    pub(crate) owner: Owner,
    /// The lock of a folder that the image is in, as long as it is needed.
    _held: Option<Lock>,
}

/// What it takes to find one.
pub(crate) struct Finder<'a> {
    /// Where the scratch base is made.
    pub(crate) dir: &'a Path,
    pub(crate) places: &'a Places,
    pub(crate) created: &'a str,
    pub(crate) surroundings: &'a Surroundings<'a>,
    pub(crate) seen: &'a Seen,
    pub(crate) show: &'a Show,
}

impl Base {
    /// Finds the run image that the person or the builder names.
    pub(crate) fn find(args: &args::Build, kit: &Kit, finder: &Finder<'_>) -> Result<Self, Failure> {
        let candidates = match (&args.run_image, kit.run_images.first()) {
            (Some(name), _) => run::RunImage { image: name.clone(), mirrors: Vec::new() },
            (None, Some(named)) => named.clone(),
            (None, None) if kit.build_image.is_none() => {
                run::RunImage { image: SCRATCH.to_owned(), mirrors: Vec::new() }
            }
            (None, None) => {
                return Err(Failure::new(Exit::InvalidArguments, "the builder names no run image")
                    .hint("name one with --run-image"));
            }
        };
        let mut base = finder.open(&finder.choose(&candidates, args.tag.first().map(String::as_str)))?;
        // A platform that rebases looks for the mirrors in the label.
        if !candidates.mirrors.is_empty() && args.run_image.is_none() {
            base.run_image.image = candidates.image;
            base.run_image.mirrors = candidates.mirrors;
        }
        let Some(build_image) = &kit.build_image else { return Ok(base) };
        fits(&build_image.config, base.stored.image.config())
            .map_err(|problem| Failure::new(Exit::InvalidArguments, problem))?;
        base.owner = build_image.owner;
        Ok(base)
    }
}

impl Base {
    /// Finds the run image, and fetches one of a registry, unless an earlier build has: who builds is not to learn at the end that a layer cannot
    /// be had, and builds that follow need no network for it. `layout` is where the new image goes, which may have layers.
    pub(crate) fn fetch(
        args: &args::Build,
        kit: &Kit,
        finder: &Finder<'_>,
        layout: &Layout,
    ) -> Result<Self, Failure> {
        Self::find(args, kit, finder)?.fetched(layout, finder)
    }

    /// The run image that image extensions have chosen, fetched. One that the builder or the person names is where they
    /// say. Any other is of a registry: extensions have no business with the images of this machine.
    pub(super) fn chosen(
        name: &str,
        args: &args::Build,
        kit: &Kit,
        finder: &Finder<'_>,
        layout: &Layout,
    ) -> Result<Self, Failure> {
        let known = known(args, kit);
        let mut base = match known_as(&known, name) {
            Some((_, written)) => finder.open(written)?,
            None => finder.open_at(name, &in_registry(name)?)?,
        };
        if let Some((image, _)) = known_as(&known, name).filter(|(image, _)| !image.mirrors.is_empty()) {
            base.run_image.image.clone_from(&image.image);
            base.run_image.mirrors.clone_from(&image.mirrors);
        }
        if let Some(build_image) = &kit.build_image {
            fits(&build_image.config, base.stored.image.config())
                .map_err(|problem| Failure::new(Exit::InvalidArguments, problem))?;
            base.owner = build_image.owner;
        }
        base.fetched(layout, finder)
    }

    fn fetched(self, layout: &Layout, finder: &Finder<'_>) -> Result<Self, Failure> {
        if !matches!(self.store.medium(), Medium::Registry(_)) {
            return Ok(self);
        }
        let run_images = finder.places.run_images();
        if let Err(error) = fs::create_dir_all(&run_images) {
            finder.show.detail(format!("the run image is not kept in {}: {error}", run_images.display()));
            return Ok(self);
        }
        let name = self.run_image.image.as_str();
        let make = |image: &Path| {
            // What an earlier one fetched that did not come to its end is not fetched again.
            let kept = &Layout::open_or_create(image)?;
            take_from(kept, layout, &self.stored);
            others(&run_images).iter().for_each(|other| take_from(kept, other, &self.stored));
            self.put_in(kept, finder.show)?;
            kept.put_image(&self.stored.encoded(), &[])
        };
        let dir = run_images.join(self.stored.manifest_digest.hex());
        let mut waits = || finder.show.info(format!("waiting for another build that fetches {name}"));
        let kept = converted::keep(&dir, &make, finder.surroundings.stop(), &mut waits);
        let (layout, lock) = kept.map_err(|error| {
            let what = format!("cannot use the run image '{name}': not all of its layers are here");
            images::failure(Exit::InvalidArguments, &what, &error)
        })?;
        Ok(Self { store: Box::new(layout), _held: Some(lock), ..self })
    }

    /// Fetches the layers that a folder does not have, and shows that. What is on this disk takes no time.
    pub(crate) fn put_in(&self, layout: &Layout, show: &Show) -> Result<(), StoreError> {
        if matches!(self.store.medium(), Medium::Layout(_)) {
            return Ok(());
        }
        let missing = missing(layout, &self.stored)?;
        if missing.is_empty() {
            return Ok(());
        }
        let name = self.run_image.image.as_str();
        let from = if name.is_empty() { "the run image" } else { name };
        let way = Way { from: Some(from), to: "the image" };
        watch(show, way, &Load::of(missing.iter().copied()), |progress| {
            let transfer = Transfer::new(layout, &*self.store).watched(progress);
            // Layers that are nowhere are the exporter's to tell.
            transfer.blobs(missing.iter().copied(), |_, _| Ok(()))
        })
        .map(drop)
    }
}

/// The layers of an image that a folder does not have.
fn missing<'a>(layout: &Layout, image: &'a StoredImage) -> Result<Vec<&'a Descriptor>, StoreError> {
    let mut missing = Vec::new();
    for layer in image.image.layers() {
        if !layout.has_blob(&layer.descriptor.digest, layer.descriptor.size)? {
            missing.push(&layer.descriptor);
        }
    }
    Ok(missing)
}

/// Takes what another folder has of an image's layers. What cannot be taken is fetched.
fn take_from(kept: &Layout, other: &Layout, image: &StoredImage) {
    let has = |layer: &&Descriptor| other.has_blob(&layer.digest, layer.size).unwrap_or_default();
    for layer in missing(kept, image).unwrap_or_default().into_iter().filter(has) {
        kept.copy_blob_from(other, layer).map(drop).unwrap_or_default();
    }
}

/// Run images that were fetched before: those of one name often share layers.
fn others(run_images: &Path) -> Vec<Layout> {
    let entries = fs::read_dir(run_images).into_iter().flatten().flatten();
    entries.map(|entry| Layout::open(entry.path().join("image"))).collect()
}

/// The run images that the builder or the person names.
pub(super) fn known(args: &args::Build, kit: &Kit) -> Vec<run::RunImage> {
    let own = args.run_image.iter().map(|name| run::RunImage { image: name.clone(), mirrors: Vec::new() });
    kit.run_images.iter().cloned().chain(own).collect()
}

/// The image that goes by a name, and how that is written there.
fn known_as<'a>(known: &'a [run::RunImage], name: &str) -> Option<(&'a run::RunImage, &'a str)> {
    let named = |image: &'a run::RunImage| {
        image.names().find(|written| is_name_of(written, name)).map(|written| (image, written))
    };
    known.iter().find_map(named)
}

/// Whether a name is that of an image which is known by another: `run` and `run:latest` are the same.
pub(super) fn is_name_of(known: &str, name: &str) -> bool {
    let parsed = |text: &str| text.parse::<Reference>().ok().filter(|_| !is_elsewhere(text));
    known == name || parsed(known).is_some_and(|known| Some(known) == parsed(name))
}

/// Whether a text is more than the name of an image.
fn is_elsewhere(text: &str) -> bool {
    text == SCRATCH || Source::has_prefix(text)
}

/// Where an image is that an extension names.
fn in_registry(name: &str) -> Result<Source, Failure> {
    let refused = |why: String| {
        let what = format!("cannot use the run image '{name}' that an image extension has chosen");
        Failure::new(Exit::Generate, format!("{what}: {why}"))
            .hint("an extension can choose an image of a registry, or a run image that the builder names")
    };
    if is_elsewhere(name) {
        return Err(refused("it is not the name of an image in a registry".to_owned()));
    }
    name.parse::<Reference>().map_err(|error| refused(error.to_string()))?;
    Ok(Source::Registry(name.to_owned()))
}

/// Whether apps that are built in an image can be built on another one.
fn fits(build: &ImageConfig, run: &ImageConfig) -> Result<(), String> {
    let platform = |config: &ImageConfig| format!("{}/{}", config.os(), config.architecture());
    if platform(build) != platform(run) {
        return Err(format!(
            "the builder is for {}, and the run image for {}",
            platform(build),
            platform(run)
        ));
    }
    match (build.label(labels::STACK_ID), run.label(labels::STACK_ID)) {
        (Some(build), Some(run)) if build != run => {
            Err(format!("the builder is of the stack '{build}', and the run image of '{run}'"))
        }
        _ => Ok(()),
    }
}

impl Finder<'_> {
    /// The name near the image that is made, if it can be read there. Why none can be read is told by opening the first.
    fn choose(&self, candidates: &run::RunImage, tag: Option<&str>) -> String {
        if candidates.mirrors.is_empty() {
            return candidates.image.clone();
        }
        // An image without a name is near to none.
        let registry = tag.and_then(|tag| registry_of(tag).ok()).unwrap_or_default();
        let selected = select_run_image(candidates, &registry, &mut |name| self.open(name).is_ok());
        selected.unwrap_or_else(|_| candidates.image.clone())
    }

    fn open(&self, name: &str) -> Result<Base, Failure> {
        if name == SCRATCH {
            let layout = scratch_layout(self.dir, self.created).map_err(|error| unusable(name, &error))?;
            return self.read(name, Box::new(layout), None, None);
        }
        self.open_at(name, &Source::parse(name).map_err(|error| unusable(name, &error))?)
    }

    /// Opens the image that has a name at a place.
    fn open_at(&self, name: &str, source: &Source) -> Result<Base, Failure> {
        let failed = |error: StoreError| unusable(name, &error);
        let reference = match source {
            Source::Registry(_) | Source::Named { .. } => source.name(),
            _ => None,
        };
        let store = source.open(self.surroundings, None).map_err(failed)?;
        if let Source::Daemon(_) = source {
            let mut waits = || self.show.info(format!("waiting for another build that prepares {name}"));
            let (images, stop) = (self.places.daemon_images(), self.surroundings.stop());
            if let Some((layout, lock)) =
                converted::open(&images, &*store, stop, &mut waits).map_err(failed)?
            {
                return self.read(name, Box::new(layout), None, Some(lock));
            }
        }
        self.read(name, store, reference.as_ref(), None)
    }

    fn read(
        &self,
        name: &str,
        store: Box<dyn Store>,
        reference: Option<&Reference>,
        held: Option<Lock>,
    ) -> Result<Base, Failure> {
        let what = cannot_use(name);
        let stored = self.seen.read(name, &*store).map_err(|error| unusable(name, &error))?;
        let stored =
            stored.ok_or_else(|| Failure::new(Exit::InvalidArguments, format!("{what}: there is none")))?;
        let run_image = run_image(name, reference, &stored);
        if stored.image.layers().is_empty() {
            return Err(Failure::new(Exit::InvalidArguments, format!("{what}: it has no layers")));
        }
        let owner = user::of(stored.image.config())?;
        Ok(Base { store, stored, run_image, owner, _held: held })
    }
}

fn cannot_use(name: &str) -> String {
    format!("cannot use the run image '{name}'")
}

fn unusable(name: &str, error: &StoreError) -> Failure {
    images::failure(Exit::InvalidArguments, &cannot_use(name), error)
}

/// What the image says of the run image. A path of this machine says nothing elsewhere, and would change the digest from
/// folder to folder.
fn run_image(name: &str, reference: Option<&Reference>, stored: &StoredImage) -> RunImage {
    let digest = stored.manifest_digest;
    let (reference, image) = match reference {
        Some(reference) => (reference.with_digest(digest).to_string(), reference.to_string()),
        None if name == SCRATCH => (format!("{name}@{digest}"), name.to_owned()),
        None => (digest.to_string(), String::new()),
    };
    let top_layer = stored.image.layers().last().map(|layer| layer.diff_id.to_string()).unwrap_or_default();
    RunImage { top_layer, reference, image, mirrors: Vec::new() }
}

fn scratch_layout(dir: &Path, created: &str) -> Result<Layout, StoreError> {
    let arch = strata_store::host_architecture();
    let layout = Layout::open_or_create(dir)?;
    scratch::base(arch, SCRATCH_USER, SCRATCH_USER, created)?.put_in(&layout, &[])?;
    Ok(layout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_extension_chooses_what_is_known_or_in_a_registry() {
        let known = [
            run::RunImage { image: "run".into(), mirrors: vec!["example.com/run:1".into()] },
            run::RunImage { image: "oci:folder".into(), mirrors: Vec::new() },
            run::RunImage { image: "docker:here".into(), mirrors: Vec::new() },
        ];
        for (name, expected) in [
            ("run", Ok(Some("run"))),
            ("run:latest", Ok(Some("run"))),
            ("index.docker.io/library/run", Ok(Some("run"))),
            ("example.com/run:1", Ok(Some("example.com/run:1"))),
            ("oci:folder", Ok(Some("oci:folder"))),
            ("docker:here", Ok(Some("docker:here"))),
            ("example.com/other@sha256:0", Err(())),
            ("example.com/run:2", Ok(None)),
            // What is known is of the daemon, and this of a registry.
            ("index.docker.io/library/docker:here", Ok(None)),
            ("scratch", Err(())),
            ("oci:/home/ann/x", Err(())),
            ("oci:x", Err(())),
            ("oci-archive:x", Err(())),
            ("docker-archive:x", Err(())),
            ("docker-archive:/home/ann/x.tar", Err(())),
            ("docker://x", Err(())),
            ("registry:x", Err(())),
            ("docker-daemon:x", Err(())),
            ("docker-daemon:private:1", Err(())),
            ("docker:x", Err(())),
            ("/home/ann/x", Err(())),
            ("", Err(())),
        ] {
            let found = match known_as(&known, name) {
                Some((_, written)) => Ok(Some(written)),
                None => in_registry(name).map(|source| {
                    assert_eq!(source, Source::Registry(name.to_owned()));
                    None
                }),
            };
            assert_eq!(found.map_err(|failure| assert_eq!(failure.exit, Exit::Generate)), expected, "{name}");
        }
    }

    #[test]
    fn builder_and_run_image_are_of_one_platform_and_one_stack() {
        let config = |arch: &str, stack: Option<&str>| {
            let mut config = ImageConfig::new("linux", arch);
            if let Some(stack) = stack {
                config.set_label(labels::STACK_ID, stack);
            }
            config
        };
        let build = config("amd64", Some("a"));
        for (run, problem) in [
            (config("amd64", Some("a")), None),
            (config("amd64", None), None),
            (config("amd64", Some("b")), Some("stack 'a'")),
            (config("arm64", Some("a")), Some("linux/arm64")),
        ] {
            match (fits(&build, &run), problem) {
                (Ok(()), None) => {}
                (Err(found), Some(word)) => assert!(found.contains(word), "{found}"),
                (found, _) => panic!("{found:?}"),
            }
        }
    }
}
