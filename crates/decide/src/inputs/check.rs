//! What must hold among the inputs of a phase, and which run image is meant.
//!
//! The order of the checks is part of what platforms see: the first one that fails is the one that is told.

use super::{IdError, Inputs, Names};
use strata_oci::{BadCompression, Compression, Reference, ReferenceError};
use strata_spec::PlatformApi;
use strata_spec::phase::Phase;
use strata_spec::run::RunImage;
use strata_spec::sealed::{BadPolicy, Policy};

/// The names after the flags are too many or too few.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ArgumentError {
    /// A phase that makes one image takes one name.
    #[error("received {0} arguments, but expected 1")]
    NotOne(usize),
    /// A phase that makes images takes at least one name.
    #[error("at least one image argument is required")]
    None,
    /// A phase that makes no image takes no names.
    #[error("received unexpected arguments")]
    Unexpected,
    /// The same, as the restorer says it.
    #[error("received unexpected Args")]
    UnexpectedByRestorer,
}

/// Inputs that do not fit together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InputError {
    /// The user or the group is not a number.
    #[error(transparent)]
    Id(#[from] IdError),
    /// The name of the image is empty.
    #[error("image argument is required")]
    NoImage,
    /// A name is not the name of an image.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// The names of the image are on several registries.
    #[error("writing to multiple registries is unsupported")]
    SeveralRegistries,
    /// The image would replace another one that the build needs.
    #[error("the image cannot have the name of its {what}, {name}: it would replace it")]
    NameTaken {
        /// `run image` or `cache image`.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// The image is to be written under a digest.
    #[error("the image cannot be written as {0}: its digest is known only when it is made; name it by a tag")]
    WrittenByDigest(String),
    /// The run image is given twice.
    #[error("supply only one of -run-image or (deprecated) -image")]
    TwoRunImages,
    /// The exporter takes the run image that was analyzed.
    #[error("-run-image is unsupported")]
    RunImageFlag,
    /// The same, by the deprecated flag.
    #[error("-image is unsupported")]
    ImageFlag,
    /// The draft's exporter is told another run image than the analyzer was.
    #[error("-run-image is {given}, and {analyzed} was analyzed")]
    OtherRunImage {
        /// The flag.
        given: String,
        /// What `analyzed.toml` has.
        analyzed: String,
    },
    /// `run.toml` has no images.
    #[error("-run-image is required when there is no run metadata available")]
    NoRunImages,
    /// The document names no run image.
    #[error("missing run image metadata (-run-image)")]
    EmptyRunImage,
    /// No candidate can be read.
    #[error("failed to find accessible run image")]
    NoAccessibleRunImage,
    /// The policy for sealed layers is none.
    #[error(transparent)]
    Policy(#[from] BadPolicy),
    /// The layers cannot be compressed so.
    #[error(transparent)]
    Compression(#[from] BadCompression),
    /// `analyzed.toml` does not say which run image there is.
    #[error("run image not found in analyzed metadata")]
    NotAnalyzed,
}

impl Names {
    /// Takes the names after the flags.
    ///
    /// # Errors
    /// When there are too many or too few for the phase.
    pub fn of(phase: Phase, arguments: &[String]) -> Result<Self, ArgumentError> {
        let takes_one = matches!(phase, Phase::Analyze | Phase::Create);
        let takes_many = matches!(phase, Phase::Export | Phase::Rebase);
        match arguments {
            [image] if takes_one => Ok(Self { image: image.clone(), tags: Vec::new() }),
            _ if takes_one => Err(ArgumentError::NotOne(arguments.len())),
            [image, tags @ ..] if takes_many => Ok(Self { image: image.clone(), tags: tags.to_vec() }),
            [] if takes_many => Err(ArgumentError::None),
            [] => Ok(Self::default()),
            _ if phase == Phase::Restore => Err(ArgumentError::UnexpectedByRestorer),
            _ => Err(ArgumentError::Unexpected),
        }
    }
}

/// Where the run image is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunImageSource {
    /// By the platform, or not needed.
    Settled,
    /// In `run.toml`.
    RunFile,
    /// In `stack.toml`.
    StackFile,
    /// In `analyzed.toml`.
    Analyzed,
}

impl Inputs {
    /// The policy for sealed layers that was asked for.
    ///
    /// # Errors
    /// When it is none.
    pub fn sealed_policy(&self) -> Result<Option<Policy>, BadPolicy> {
        self.sealed_layers.as_deref().map(str::parse).transpose()
    }

    /// The compression that was asked for.
    ///
    /// # Errors
    /// When it is none.
    pub fn layer_compression(&self) -> Result<Option<Compression>, BadCompression> {
        self.compression.as_deref().map(str::parse).transpose()
    }

    /// Fills in what follows from other inputs, and says where the run image is to be looked up.
    ///
    /// # Errors
    /// When the image has no name, or the run image is given in a way that the phase does not take.
    pub fn complete(&mut self, phase: Phase, api: PlatformApi) -> Result<RunImageSource, InputError> {
        if matches!(phase, Phase::Build | Phase::Create) {
            self.sealed_policy()?;
        }
        if matches!(phase, Phase::Export | Phase::Create) {
            self.layer_compression()?;
        }
        let makes_image = matches!(phase, Phase::Analyze | Phase::Create | Phase::Export | Phase::Rebase);
        if makes_image && self.output_image.is_none() {
            return Err(InputError::NoImage);
        }
        if matches!(phase, Phase::Analyze | Phase::Create) && self.previous_image.is_none() {
            self.previous_image.clone_from(&self.output_image);
        }
        let run_image_by_flag = self.run_image != self.run_image_of_env;
        match phase {
            Phase::Create | Phase::Rebase if self.deprecated_run_image.is_some() => {
                if run_image_by_flag {
                    return Err(InputError::TwoRunImages);
                }
                self.run_image.clone_from(&self.deprecated_run_image);
                Ok(RunImageSource::Settled)
            }
            Phase::Export if self.run_image.is_some() && run_image_by_flag && !self.use_draft => {
                Err(InputError::RunImageFlag)
            }
            Phase::Export if self.deprecated_run_image.is_some() => Err(InputError::ImageFlag),
            Phase::Export => Ok(RunImageSource::Analyzed),
            Phase::Analyze | Phase::Create if self.run_image.is_none() => {
                Ok(if api.has_targets() { RunImageSource::RunFile } else { RunImageSource::StackFile })
            }
            _ => Ok(RunImageSource::Settled),
        }
    }

    /// Sets the run image that was analyzed.
    ///
    /// # Errors
    /// When there is none.
    pub fn set_analyzed_run_image(&mut self, reference: Option<&str>) -> Result<(), InputError> {
        let reference = reference.filter(|reference| !reference.is_empty()).ok_or(InputError::NotAnalyzed)?;
        self.run_image = Some(reference.to_owned());
        Ok(())
    }

    /// Checks what must hold for a phase; `warn` gets what is probably not meant.
    ///
    /// # Errors
    /// When a name is malformed, or the image is to be written to several registries.
    pub fn check(&self, phase: Phase, warn: &mut dyn FnMut(&str)) -> Result<(), InputError> {
        let has_cache = self.cache_dir.is_some() || self.cache_image.is_some();
        if matches!(phase, Phase::Create | Phase::Export | Phase::Restore) && !has_cache {
            warn("No cached data will be used, no cache specified.");
        }
        let is_full_check = matches!(phase, Phase::Analyze | Phase::Create | Phase::Export);
        if is_full_check && !self.use_daemon && self.launch_cache_dir.is_some() {
            warn("Ignoring -launch-cache, only intended for use with -daemon");
        }
        if is_full_check || phase == Phase::Rebase {
            self.check_references(phase)?;
            self.check_destinations()?;
            if !self.use_daemon {
                one_registry(&self.destinations())?;
            }
        }
        if matches!(phase, Phase::Analyze | Phase::Create) && self.parallel_export && !has_cache {
            warn(
                "Parallel export has been enabled, but it has not taken effect because no cache has been specified.",
            );
        }
        Ok(())
    }

    /// An image must not replace what it is made of, or be replaced by its own cache.
    fn check_destinations(&self) -> Result<(), InputError> {
        let taken = [("run image", &self.run_image), ("cache image", &self.cache_image)];
        for name in self.destinations() {
            let reference: Reference = name.parse()?;
            if reference.digest().is_some() {
                return Err(InputError::WrittenByDigest(name.to_owned()));
            }
            for (what, other) in taken {
                // What the analyzer wrote of a run image need not be a name.
                let other = other.as_ref().and_then(|other| other.parse::<Reference>().ok());
                if other.is_some_and(|other| other == reference) {
                    return Err(InputError::NameTaken { what, name: name.to_owned() });
                }
            }
        }
        Ok(())
    }

    /// The names under which the image is written, without repetition.
    pub fn destinations(&self) -> Vec<&str> {
        distinct(self.output_image.iter().chain(&self.tags))
    }

    /// All images that are named, without repetition.
    pub fn images(&self) -> Vec<&str> {
        let named = [&self.previous_image, &self.build_image, &self.run_image, &self.cache_image];
        distinct(self.output_image.iter().chain(&self.tags).chain(named.into_iter().flatten()))
    }

    /// The images that are in registries, without repetition: a cache image always is.
    pub fn registry_images(&self) -> Vec<&str> {
        if self.use_daemon { distinct(&self.cache_image) } else { self.images() }
    }

    /// The identifier that the analyzer wrote may be a path on disk or the id of an image in a daemon.
    fn check_references(&self, phase: Phase) -> Result<(), InputError> {
        let is_written_by_analyzer =
            |name: &str| phase == Phase::Export && self.run_image.as_deref() == Some(name);
        for name in self.images().into_iter().filter(|name| !is_written_by_analyzer(name)) {
            name.parse::<Reference>()?;
        }
        Ok(())
    }
}

fn distinct<'a>(names: impl IntoIterator<Item = &'a String>) -> Vec<&'a str> {
    let mut distinct: Vec<&str> = Vec::new();
    for name in names {
        if !name.is_empty() && !distinct.contains(&name.as_str()) {
            distinct.push(name);
        }
    }
    distinct
}

fn one_registry(names: &[&str]) -> Result<(), InputError> {
    let registries = names.iter().map(|name| registry_of(name)).collect::<Result<Vec<_>, _>>()?;
    if registries.windows(2).all(|pair| pair.first() == pair.last()) {
        Ok(())
    } else {
        Err(InputError::SeveralRegistries)
    }
}

/// The registry of a name.
///
/// # Errors
/// When it is not the name of an image.
pub fn registry_of(name: &str) -> Result<String, InputError> {
    Ok(name.parse::<Reference>()?.registry().to_owned())
}

/// Selects a run image among its names: the first on the registry of the image that is made, else the first, of those
/// that can be read. A name that cannot be parsed is not on that registry.
///
/// # Errors
/// When there are no names, or none that can be read.
pub fn select_run_image(
    candidates: &RunImage,
    target_registry: &str,
    accessible: &mut dyn FnMut(&str) -> bool,
) -> Result<String, InputError> {
    if candidates.image.is_empty() {
        return Err(InputError::EmptyRunImage);
    }
    let is_near = |name: &&str| registry_of(name).is_ok_and(|registry| registry == target_registry);
    let near = candidates.names().filter(is_near).find(|name| accessible(name));
    near.or_else(|| candidates.names().find(|name| accessible(name)))
        .map(str::to_owned)
        .ok_or(InputError::NoAccessibleRunImage)
}
