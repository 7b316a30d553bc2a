//! Turns the names of images into the places where they are, by what the platform asked for.

use crate::env::Environment;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;
use strata_decide::inputs::Inputs;
use strata_oci::{Digest, Reference};
use strata_phases::Failure;
use strata_phases::saving::Output;
use strata_spec::exit::Exit;
use strata_store::cache::{Cache, ImageCache, Patience, VolumeCache};
use strata_store::daemon;
use strata_store::registry::{Client, Settings};
use strata_store::{Embedded, Layout, Store, StoredImage};

/// How this program calls itself.
const USER_AGENT: &str = concat!("strata-lifecycle/", env!("CARGO_PKG_VERSION"));

/// Where images are.
#[derive(Debug)]
enum Place {
    /// In OCI layouts below a directory.
    Layouts(PathBuf),
    /// In a Docker daemon.
    Daemon(daemon::Client),
    /// In registries.
    Registries,
}

/// An image, and where it is.
pub(crate) type Found = (Box<dyn Store>, StoredImage);

/// Finds images.
#[derive(Debug)]
pub(crate) struct Images {
    place: Place,
    client: Client,
    /// How long exports wait for the cache's disk.
    patience: Patience,
}

impl Images {
    /// Prepares to find images.
    ///
    /// # Errors
    /// When the platform asks for a place that is not fully named or does not answer, or its credentials are malformed.
    pub(crate) fn of(inputs: &Inputs, environment: &Environment) -> Result<Self, Failure> {
        let place = match (&inputs.layout_dir, inputs.use_layout, inputs.use_daemon) {
            (_, true, true) => {
                let message = "failed to resolve inputs: exporting to multiple targets is unsupported";
                return Err(Failure::new(Exit::InvalidArguments, message)
                    .hint("images are in a daemon or in OCI layouts: set one of -daemon and -layout"));
            }
            (Some(dir), true, _) => Place::Layouts(dir.clone()),
            (None, true, _) => {
                let message = "failed to resolve inputs: defining a layout directory is required when images are OCI layouts";
                return Err(Failure::new(Exit::InvalidArguments, message)
                    .hint("name it with -layout-dir or CNB_LAYOUT_DIR"));
            }
            (_, false, true) => Place::Daemon(connect(environment)?),
            (_, false, false) => Place::Registries,
        };
        let client = Client::new(settings(inputs, environment)?);
        Ok(Self { place, client, patience: patience(environment)? })
    }

    /// Looks up the credentials for all registries that are known by now: later, this process may not be allowed to
    /// read them.
    ///
    /// # Errors
    /// When they are malformed.
    pub(crate) fn look_up_credentials(&self, inputs: &Inputs) -> Result<(), Failure> {
        let names = match self.place {
            Place::Layouts(_) | Place::Daemon(_) => inputs.cache_image.as_deref().into_iter().collect(),
            Place::Registries => inputs.registry_images(),
        };
        for name in names {
            // Others than names are of no registry, and refused where they are used.
            if let Ok(reference) = name.parse::<Reference>() {
                self.client.look_up_credentials(reference.registry()).map_err(|error| keychain(&error))?;
            }
        }
        Ok(())
    }

    /// Whether an image can be read. Of layouts and daemons nobody is asked: the first name is taken.
    pub(crate) fn are_readable(&self, name: &str) -> bool {
        match self.place {
            Place::Layouts(_) | Place::Daemon(_) => true,
            Place::Registries => self.client.open(name).is_ok_and(|image| image.check_read().is_ok()),
        }
    }

    /// Whether images are in registries.
    pub(crate) fn are_in_registries(&self) -> bool {
        matches!(self.place, Place::Registries)
    }

    /// Whether images are OCI layouts on disk.
    pub(crate) fn are_layouts(&self) -> bool {
        matches!(self.place, Place::Layouts(_))
    }

    /// Where an image is: by its name, or by an identifier that an earlier phase wrote.
    ///
    /// # Errors
    /// When the text is neither.
    pub(crate) fn open(&self, name: &str, exit: Exit) -> Result<Box<dyn Store>, Failure> {
        match &self.place {
            Place::Layouts(dir) => Ok(Box::new(layout(dir, name, exit)?)),
            Place::Daemon(client) => {
                let image = client.open(name);
                Ok(Box::new(image.map_err(|error| {
                    Failure::caused(exit, format!("failed to open image {name}"), &error)
                })?))
            }
            Place::Registries => Ok(Box::new(self.in_registry(name, exit)?)),
        }
    }

    /// The name of an image as documents and the log have it: of a layout, where it is.
    ///
    /// # Errors
    /// When it is not the name of an image.
    pub(crate) fn shown(&self, name: &str, exit: Exit) -> Result<String, Failure> {
        match &self.place {
            Place::Layouts(dir) => Ok(layout(dir, name, exit)?.dir().display().to_string()),
            Place::Daemon(_) | Place::Registries => Ok(name.to_owned()),
        }
    }

    /// An image in a registry, wherever others are.
    ///
    /// # Errors
    /// When it is not the name of one.
    pub(crate) fn in_registry(
        &self,
        name: &str,
        exit: Exit,
    ) -> Result<strata_store::registry::Image, Failure> {
        self.client
            .open(name)
            .map_err(|error| Failure::caused(exit, format!("failed to open image {name}"), &error))
    }

    /// Reads an image. One that is named by an identifier is that very image, not one that came in its place.
    ///
    /// # Errors
    /// When there is none, it cannot be read, or it is another one by now.
    pub(crate) fn read(&self, name: &str, what: &str, exit: Exit) -> Result<Found, Failure> {
        let store = self.open(name, exit)?;
        let message = format!("failed to {what} {name}");
        let stored = store.read_image().map_err(|error| {
            let failure = Failure::caused(exit, &message, &error);
            match error.hint() {
                Some(hint) => failure.hint(hint),
                None => failure,
            }
        })?;
        let stored =
            stored.ok_or_else(|| Failure::new(exit, format!("{message}: there is no such image")))?;
        match digest_of(name) {
            Some(expected) if expected != stored.manifest_digest => {
                let found = stored.manifest_digest;
                Err(Failure::new(exit, format!("{message}: it is another image by now, {found}"))
                    .hint("was it replaced during the build? Build again"))
            }
            _ => Ok((store, stored)),
        }
    }

    /// The place of an image that is made, and the name that the report has for it.
    ///
    /// # Errors
    /// When it is not the name of an image.
    pub(crate) fn output(&self, name: &str, exit: Exit) -> Result<Output, Failure> {
        Ok((self.shown(name, exit)?, self.open(name, exit)?))
    }

    /// Gives a sign of life to the daemon, if there is one: it closes connections on which nothing is said.
    ///
    /// # Errors
    /// When it does not answer.
    pub(crate) fn keep_alive(&self) -> Result<(), daemon::Error> {
        match &self.place {
            Place::Daemon(client) => client.ping(),
            Place::Layouts(_) | Place::Registries => Ok(()),
        }
    }

    /// The launch cache, which is of use with a daemon only.
    ///
    /// # Errors
    /// When it cannot be used.
    pub(crate) fn launch_cache(&self, inputs: &Inputs) -> Result<Option<VolumeCache>, Failure> {
        let Some(dir) = inputs.launch_cache_dir.as_ref().filter(|_| matches!(self.place, Place::Daemon(_)))
        else {
            return Ok(None);
        };
        let cache = VolumeCache::open(dir)
            .map_err(|error| Failure::caused(Exit::Other, "failed to create launch cache", &error))?;
        Ok(Some(cache))
    }

    /// The cache that the platform names, if any; an image wins over a folder.
    ///
    /// # Errors
    /// When it cannot be used.
    pub(crate) fn cache(&self, inputs: &Inputs) -> Result<Option<Box<dyn Cache>>, Failure> {
        if let Some(name) = &inputs.cache_image {
            let failed =
                |error: &dyn Error| Failure::caused(Exit::Other, "failed to create image cache", error);
            let image = self.client.open(name).map_err(|error| failed(&error))?;
            let cache = ImageCache::open(name, Box::new(image)).map_err(|error| failed(&error))?;
            return Ok(Some(Box::new(cache)));
        }
        let Some(dir) = &inputs.cache_dir else { return Ok(None) };
        let cache = VolumeCache::open(dir)
            .map_err(|error| Failure::caused(Exit::Other, "failed to create volume cache", &error))?;
        Ok(Some(Box::new(cache.with_patience(self.patience))))
    }
}

/// What the platform says of it, in milliseconds.
fn patience(environment: &Environment) -> Result<Patience, Failure> {
    const NAME: &str = "STRATA_CACHE_PATIENCE";
    let Some(text) = environment.variable(NAME) else { return Ok(Patience::default()) };
    let bad =
        |error| Failure::caused(Exit::InvalidArguments, format!("failed to read {NAME} '{text}'"), &error);
    let grace =
        Duration::from_millis(text.parse::<u64>().map_err(|error: std::num::ParseIntError| bad(error))?);
    Ok(Patience { grace, ..Patience::default() })
}

/// Connects to the daemon while this process may: its socket is root's.
fn connect(environment: &Environment) -> Result<daemon::Client, Failure> {
    let text = |name: &str| environment.variable(name).map(str::to_owned);
    let temp_dir = environment.variable("TMPDIR").unwrap_or("/tmp");
    let settings = daemon::Settings {
        user_agent: USER_AGENT.to_owned(),
        ..daemon::Settings::from_variables(&text, temp_dir.into())
    };
    let failed = |error: daemon::Error| {
        let failure = Failure::caused(Exit::Other, "failed to initialize docker client", &error);
        match error.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    };
    let client = daemon::Client::new(settings).map_err(failed)?;
    client.connect().map_err(failed)?;
    Ok(client)
}

fn keychain(error: &dyn Error) -> Failure {
    Failure::caused(Exit::Other, "failed to resolve keychain", error)
}

/// The layout of an image: `<path>@<digest>` as the analyzer writes it, or the path that a name stands for.
fn layout(dir: &Path, name: &str, exit: Exit) -> Result<Layout, Failure> {
    if Path::new(name).starts_with(dir) {
        let path = name.rsplit_once("@sha256:").map_or(name, |(path, _)| path);
        return Ok(Layout::open(path).sparse());
    }
    let reference: Reference =
        name.parse().map_err(|error| Failure::caused(exit, "failed to parse an image reference", &error))?;
    let tag = reference.tag().map_or_else(|| reference.identifier(), str::to_owned);
    let tag = reference.digest().map_or(tag, |digest| digest.to_string());
    Ok(Embedded::new(dir).layout_for(&reference).sparse().for_one_image(tag))
}

/// The digest at the end of an identifier.
fn digest_of(identifier: &str) -> Option<Digest> {
    identifier.rsplit_once('@')?.1.parse().ok()
}

fn settings(inputs: &Inputs, environment: &Environment) -> Result<Settings, Failure> {
    let variable = |name: &str| environment.variable(name).map(str::to_owned);
    Ok(Settings {
        insecure: inputs.insecure_registries.clone(),
        user_agent: USER_AGENT.to_owned(),
        ..Settings::from_variables(&variable).map_err(|error| keychain(&error))?
    })
}
