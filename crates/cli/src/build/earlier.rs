//! What earlier builds of an app left for this one: a cache and the previous image.

use super::report;
use crate::args::{self, CachePlace};
use crate::cache::of_image;
use crate::images;
use crate::output::Output;
use crate::places::Places;
use crate::workplace::threads;
use std::cell::OnceCell;
use std::error::Error;
use std::path::{Path, PathBuf};
use strata_decide::origins::Require;
use strata_oci::Reference;
use strata_phases::analyze::{self, Analyze, Named};
use strata_phases::cache::{self, Keep};
use strata_phases::export::{Previous, Trees};
use strata_phases::origins::Required;
use strata_phases::ready::{Leaving, Ready};
use strata_phases::restore::{self, Restore};
use strata_phases::{Failure, Observer};
use strata_spec::PlatformApi;
use strata_spec::cache::CacheMetadata;
use strata_spec::exit::Exit;
use strata_spec::group::GroupElement;
use strata_spec::labels::LifecycleMetadata;
use strata_store::cache::{Cache, ImageCache, Shelf, VolumeCache};
use strata_store::source::{Source, Surroundings};
use strata_store::{Layout, Stop, Store, StoreError, StoredImage};

/// Where the cache is.
enum Place {
    /// Among those that Strata keeps, under the name of the app.
    Shelf(Shelf, String),
    /// In a folder that the person named.
    Folder(PathBuf),
    /// In an image.
    Image(Source, String),
}

/// What earlier builds left.
pub(crate) struct Earlier<'a> {
    place: Option<Place>,
    surroundings: &'a Surroundings<'a>,
    is_cleared: bool,
    previous: Option<Image>,
    metadata: LifecycleMetadata,
    /// What is to be seen to for a report; `None` when there will be none.
    require: Option<Require>,
    /// Trees of the cache's layers; what is not asked for is not looked for.
    ready: OnceCell<Option<Ready>>,
}

/// An image by its name, or what may be one.
type Found = (String, Box<dyn Store>);

struct Image {
    store: Box<dyn Store>,
    stored: StoredImage,
}

/// What it takes to find it.
pub(crate) struct Finder<'a> {
    pub(crate) args: &'a args::Build,
    pub(crate) places: &'a Places,
    pub(crate) surroundings: &'a Surroundings<'a>,
    /// The name of the image that is made.
    pub(crate) name: Option<&'a Reference>,
    /// Where it is made, and an earlier one may be.
    pub(crate) layout: &'a Layout,
    /// Where it is published, if it is not kept.
    pub(crate) published: Option<&'a Output>,
    /// Where SBOM files of the previous image go.
    pub(crate) layers_dir: &'a Path,
}

impl<'a> Finder<'a> {
    /// Finds out what there is.
    ///
    /// # Errors
    /// When something cannot be used that was named; what is found without being named is left out with a warning.
    pub(crate) fn find(&self, observer: &dyn Observer) -> Result<Earlier<'a>, Failure> {
        let mut earlier = Earlier {
            place: self.place()?,
            surroundings: self.surroundings,
            is_cleared: self.args.cache.clear_cache,
            previous: None,
            metadata: LifecycleMetadata::default(),
            require: self.args.report.is_wanted().then(|| report::require(&self.args.report)),
            ready: OnceCell::new(),
        };
        if earlier.is_cleared
            && let Some(place @ (Place::Shelf(..) | Place::Folder(_))) = &earlier.place
        {
            volume(place, self.surroundings.stop())
                .and_then(|cache| cache.map_or(Ok(()), |cache| cache.clear()))
                .map_err(|error| {
                    Failure::caused(Exit::Other, format!("cannot clear the cache {}", place.name()), &error)
                })?;
        }
        if let Some((name, store)) = self.previous()? {
            let named = Named { name: &name, store: &*store };
            let analyzed = analyze::run(&self.analysis(named), observer)?;
            earlier.metadata = analyzed.metadata;
            // One that is damaged is as good as none.
            earlier.previous = store.read_image().ok().flatten().map(|stored| Image { store, stored });
        }
        Ok(earlier)
    }

    fn analysis<'b>(&'b self, previous: Named<'b>) -> Analyze<'b> {
        Analyze {
            previous: Some(previous),
            run_image: None,
            layers_dir: self.layers_dir,
            launch_cache: None,
            skip_layers: self.args.cache.clear_cache,
            api: PlatformApi::NEWEST,
        }
    }

    fn place(&self) -> Result<Option<Place>, Failure> {
        let args = &self.args.cache;
        if args.no_cache {
            return Ok(None);
        }
        if let Some(text) = &args.cache_image {
            let what = format!("cannot use the cache image '{text}'");
            let source = Source::parse(text)
                .map_err(|error| images::failure(Exit::InvalidArguments, &what, &error))?;
            return match source {
                Source::Layout { .. } | Source::Registry(_) => Ok(Some(Place::Image(source, text.clone()))),
                // Whoever writes to a registry at each build wants it to be there for other machines.
                Source::Named { written, .. } => {
                    Ok(Some(Place::Image(Source::Registry(written), text.clone())))
                }
                _ => Err(Failure::new(Exit::InvalidArguments, what)
                    .hint("a cache image is in a registry, or in a folder as oci:DIR")),
            };
        }
        match &args.cache {
            Some(CachePlace::Folder(dir)) => return Ok(Some(Place::Folder(self.places.current.join(dir)))),
            Some(CachePlace::Volume(name)) => {
                return Ok(Some(Place::Shelf(Shelf::new(self.places.caches()), name.clone())));
            }
            Some(CachePlace::Image(_) | CachePlace::Usual) | None => {}
        }
        Ok(Some(Place::Shelf(Shelf::new(self.places.caches()), self.app()?)))
    }

    /// What the cache is called: all versions of an image share one.
    fn app(&self) -> Result<String, Failure> {
        if let Some(name) = self.name {
            return Ok(of_image(name));
        }
        let app = self.args.app.canonicalize().map_err(|error| {
            let message = format!("cannot read the app's folder {}", self.args.app.display());
            Failure::caused(Exit::InvalidArguments, message, &error)
        })?;
        Ok(app.display().to_string())
    }

    /// The image that was asked for, or else the one that is about to be replaced.
    fn previous(&self) -> Result<Option<Found>, Failure> {
        if let Some(text) = &self.args.cache.previous_image {
            let (store, _) = images::open(text, self.surroundings, None, images::Names::Anywhere)?;
            return Ok(Some((text.clone(), store)));
        }
        if let (Some(published), Some(name)) = (self.published, self.name) {
            let opened = published.open(self.surroundings);
            let what = format!("cannot read the previous image {name}");
            let opened = opened.map_err(|error| images::failure(Exit::InvalidArguments, &what, &error))?;
            return Ok(opened.map(|store| (name.to_string(), store)));
        }
        if self.layout.dir().symlink_metadata().is_err() {
            return Ok(None);
        }
        let tag = self.name.and_then(Reference::tag);
        let layout = tag.map_or_else(|| self.layout.clone(), |tag| self.layout.clone().tagged(tag));
        let name = self.name.map_or_else(|| layout.dir().display().to_string(), Reference::to_string);
        Ok(Some((name, Box::new(layout))))
    }
}

impl<'a> Earlier<'a> {
    /// Nothing, for a build that makes no image.
    pub(crate) fn nothing(surroundings: &'a Surroundings<'a>) -> Self {
        Self {
            place: None,
            surroundings,
            is_cleared: false,
            previous: None,
            metadata: LifecycleMetadata::default(),
            require: None,
            ready: OnceCell::new(),
        }
    }
}

impl Earlier<'_> {
    /// What buildpacks must not see, and what is no part of the app.
    pub(crate) fn folder(&self) -> Option<&Path> {
        match &self.place {
            Some(Place::Folder(dir)) => Some(dir),
            _ => None,
        }
    }

    /// Brings back what the buildpacks of the group left.
    ///
    /// # Errors
    /// When layers cannot be written. What cannot be had from the cache is lost with a warning.
    pub(crate) fn restore(
        &self,
        group: &[GroupElement],
        trees: Trees<'_>,
        observer: &dyn Observer,
    ) -> Result<(), Failure> {
        let cache = self.open(observer);
        let input = Restore {
            group,
            trees,
            metadata: &self.metadata,
            cache: cache.as_deref(),
            skip: self.is_cleared,
            api: PlatformApi::NEWEST,
            threads: threads(),
            ready: self.ready(trees, observer),
            required: self.require.map(|require| Required { require, previous: self.previous() }),
        };
        restore::run(&input, observer)
    }

    /// Lets the trees of cached layers stay for the next build. To be called last: they are taken out of the layers directory.
    pub(crate) fn leave(&self, leaving: &Leaving<'_>, observer: &dyn Observer) {
        if let Some(ready) = self.ready(leaving.trees, observer) {
            ready.keep(leaving, observer);
        }
    }

    /// Trees that builds of this app leave each other; only beside caches that Strata keeps.
    fn ready(&self, trees: Trees<'_>, observer: &dyn Observer) -> Option<&Ready> {
        let open = || {
            let Some(Place::Shelf(shelf, app)) = &self.place else { return None };
            // Why it cannot be opened was said when it was.
            let dir = shelf.open(app).ok()?.trees();
            Ready::open(&dir, trees.layers.real).unwrap_or_else(|error| {
                observer.debug(format!("{}: no trees stay: {error}", dir.display()));
                None
            })
        };
        self.ready.get_or_init(open).as_ref()
    }

    /// What export takes layers from.
    pub(crate) fn previous(&self) -> Previous<'_> {
        Previous {
            metadata: self.previous.as_ref().map(|_| &self.metadata),
            image: self.previous.as_ref().map(|image| (&image.stored, &*image.store)),
        }
    }

    /// The cache; one that cannot be had is done without.
    pub(crate) fn open(&self, observer: &dyn Observer) -> Option<Box<dyn Cache>> {
        let place = self.place.as_ref()?;
        let opened = match place {
            Place::Image(source, name) => image(source, name, self.surroundings, self.is_cleared),
            place => volume(place, self.surroundings.stop())
                .map(|cache| cache.map(|cache| Box::new(cache) as Box<dyn Cache>)),
        };
        opened.unwrap_or_else(|error| {
            let error: &dyn Error = &error;
            let failure =
                Failure::caused(Exit::Other, format!("doing without the cache {}", place.name()), error);
            observer.warn(failure.chain());
            None
        })
    }
}

/// Fills the cache for the next build. The image is complete already, so nothing that fails here matters to it.
pub(crate) fn keep(keep: &Keep<'_>, cache: &dyn Cache, observer: &dyn Observer) -> Option<CacheMetadata> {
    let kept = cache::run(keep, cache, observer);
    kept.map_err(|failure| observer.warn(format!("the cache is not filled: {}", failure.chain()))).ok()
}

impl Place {
    fn name(&self) -> String {
        match self {
            Self::Shelf(_, app) => format!("of {app}"),
            Self::Folder(dir) => dir.display().to_string(),
            Self::Image(_, name) => name.clone(),
        }
    }
}

fn volume(place: &Place, stop: &Stop) -> Result<Option<VolumeCache>, StoreError> {
    let cache = match place {
        Place::Shelf(shelf, app) => shelf.open(app).map(Some),
        Place::Folder(dir) => VolumeCache::create(dir).map(Some),
        Place::Image(..) => Ok(None),
    };
    Ok(cache?.map(|cache| cache.stopping(stop.clone())))
}

fn image(
    source: &Source,
    name: &str,
    surroundings: &Surroundings<'_>,
    is_cleared: bool,
) -> Result<Option<Box<dyn Cache>>, StoreError> {
    let store: Box<dyn Store> = match source {
        Source::Layout { dir, tag } => {
            let layout = Layout::open_or_create(dir)?;
            Box::new(match tag {
                Some(tag) => layout.tagged(tag),
                None => layout,
            })
        }
        other => other.open(surroundings, None)?,
    };
    let cache = ImageCache::open(name, store)?;
    Ok(Some(Box::new(if is_cleared { cache.forgotten() } else { cache })))
}
