//! Where `strata build --output` puts a copy of the image.

use crate::args::{self, Beside, OutputFormat};
use crate::images::failure;
use crate::places::Places;
use crate::show::transfer::{Load, Way, watch};
use crate::show::{Show, Stream};
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use strata_oci::{Encoded, Reference};
use strata_phases::origins::beside::offer_copied;
use strata_phases::{Failure, Observer as _};
use strata_spec::exit::Exit;
use strata_store::source::{Source, Surroundings};
use strata_store::{Layout, Medium, Store, StoreError, Transfer, Tree};

/// The image that was built.
pub(crate) struct Finished<'a> {
    /// Where it is.
    pub(crate) layout: &'a Layout,
    /// Its documents.
    pub(crate) image: &'a Encoded,
    /// What goes along with it.
    pub(crate) beside: &'a [Tree],
    /// Whether a daemon is given that, too.
    pub(crate) origins: Beside,
}

/// A copy of the image, besides the one that is kept.
#[derive(Debug)]
pub(crate) enum Output {
    /// A folder with an OCI layout.
    Layout(PathBuf),
    /// Kept by Strata under another name.
    Kept {
        /// Its folder.
        dir: PathBuf,
        /// The name.
        name: Reference,
    },
    /// An archive in a file, or on standard output.
    Archive(Source),
    /// A registry, a daemon, or a tag of a layout that may have other images.
    Place {
        /// The place.
        source: Source,
        /// As it was given.
        written: String,
    },
}

impl Output {
    /// What the arguments ask for: a place by its prefix; an archive on `-`, in a file `….tar`, or wherever a format is
    /// asked for; else a folder.
    pub(crate) fn of(args: &args::Build, places: &Places) -> Result<Option<Self>, Failure> {
        let Some(output) = &args.output else { return Ok(None) };
        let is_pipe = output == Path::new("-");
        let file = if is_pipe { output.clone() } else { places.current.join(output) };
        let is_tar = file.extension().is_some_and(|extension| extension == "tar") && !file.is_dir();
        if let Some(written) = output.to_str().filter(|text| Source::has_prefix(text)) {
            return Self::place(written, args.output_format.is_some()).map(Some);
        }
        Ok(Some(match args.output_format {
            Some(OutputFormat::Docker) => Self::Archive(Source::DockerArchive { file, name: None }),
            Some(OutputFormat::Oci) => Self::Archive(Source::OciArchive { file, tag: None }),
            None if is_pipe || is_tar => Self::Archive(Source::OciArchive { file, tag: None }),
            None => Self::Layout(file),
        }))
    }

    /// A registry, by the name of the image.
    pub(crate) fn registry(name: &str) -> Result<Self, Failure> {
        Self::place(&format!("registry:{name}"), false)
    }

    fn place(written: &str, has_format: bool) -> Result<Self, Failure> {
        let what = format!("cannot write the image to '{written}'");
        if has_format {
            let message = format!("{what}: its prefix says what it is, and --output-format says it again");
            return Err(Failure::new(Exit::InvalidArguments, message));
        }
        let source =
            Source::parse(written).map_err(|error| failure(Exit::InvalidArguments, &what, &error))?;
        Ok(match source {
            Source::OciArchive { .. } | Source::DockerArchive { .. } => Self::Archive(source),
            source => Self::Place { source, written: written.to_owned() },
        })
    }

    /// The folder or the file; none for standard output and what is no file.
    pub(crate) fn path(&self) -> Option<&Path> {
        let path = match self {
            Self::Layout(path) | Self::Kept { dir: path, .. } => path,
            Self::Archive(Source::OciArchive { file, .. } | Source::DockerArchive { file, .. }) => file,
            Self::Place { source: Source::Layout { dir, .. }, .. } => dir,
            Self::Archive(_) | Self::Place { .. } => return None,
        };
        Some(path.as_path()).filter(|path| *path != Path::new("-"))
    }

    /// Where is shown what happens.
    pub(crate) fn stream(this: Option<&Self>) -> Stream {
        let is_pipe = |output: &Self| matches!(output, Self::Archive(_)) && output.path().is_none();
        if this.is_some_and(is_pipe) { Stream::Err } else { Stream::Out }
    }

    /// The name of the copy, for people.
    pub(crate) fn name(&self) -> Option<String> {
        if let Self::Place { written, .. } = self {
            return Some(written.clone());
        }
        if let Self::Kept { name, .. } = self {
            return Some(name.to_string());
        }
        let path = self.path()?.display().to_string();
        Some(match self {
            Self::Archive(Source::DockerArchive { .. }) => format!("docker-archive:{path}"),
            Self::Archive(_) => format!("oci-archive:{path}"),
            Self::Layout(_) | Self::Kept { .. } | Self::Place { .. } => format!("oci:{path}"),
        })
    }

    /// The name that the image has there and everywhere.
    pub(crate) fn reference(&self) -> Option<Reference> {
        match self {
            Self::Archive(source) | Self::Place { source, .. } => source.name(),
            Self::Kept { name, .. } => Some(name.clone()),
            Self::Layout(_) => None,
        }
    }

    /// The name that Strata keeps it under.
    pub(crate) fn kept_as(&self) -> Option<&Reference> {
        match self {
            Self::Kept { name, .. } => Some(name),
            _ => None,
        }
    }

    /// Whether it is in a registry.
    pub(crate) fn is_registry(&self) -> bool {
        matches!(self, Self::Place { source: Source::Registry(_), .. })
    }

    /// Opens the place, if it is one that an image can be read from as well.
    pub(crate) fn open(&self, surroundings: &Surroundings<'_>) -> Result<Option<Box<dyn Store>>, StoreError> {
        match self {
            Self::Place { source, .. } => source.open(surroundings, None).map(Some),
            _ => Ok(None),
        }
    }

    /// Finds out whether it can be written, before anything is built.
    pub(crate) fn check(&self, surroundings: &Surroundings<'_>) -> Result<(), Failure> {
        match (self, self.path()) {
            (Self::Archive(_), None) => check_pipe(),
            (Self::Archive(_), Some(file)) => check_file(file, "the image"),
            (Self::Layout(_) | Self::Kept { .. } | Self::Place { .. }, Some(dir)) => check_writable(dir),
            (Self::Place { source, written }, None) => {
                let target = source.create(surroundings, None);
                let checked = target.and_then(|target| match target.store().medium() {
                    Medium::Registry(image) => image.check_write(),
                    // Whether it answers at all.
                    _ => target.store().read_image().map(drop),
                });
                let what = format!("cannot write the image to '{written}'");
                checked.map_err(|error| failure(Exit::Export, &what, &error))
            }
            (Self::Layout(_) | Self::Kept { .. }, None) => Ok(()),
        }
    }

    /// Whether reports of builds go along.
    pub(crate) fn takes_reports(&self, when: Beside) -> bool {
        match self {
            Self::Archive(source) | Self::Place { source, .. } => takes_reports(source, when),
            Self::Layout(_) | Self::Kept { .. } => self.takes(when),
        }
    }

    /// Whether what lies beside the image goes along.
    pub(crate) fn takes(&self, when: Beside) -> bool {
        match self {
            // Like a layout without a tag.
            Self::Layout(_) => when == Beside::Always,
            Self::Kept { .. } => when != Beside::Never,
            Self::Archive(source) | Self::Place { source, .. } => takes(source, when),
        }
    }

    /// Writes it, and shows how that goes on. What a registry was sent before, it is not sent again; the registry that has it
    /// now comes back.
    pub(crate) fn write(
        &self,
        image: &Finished<'_>,
        name: Option<&Reference>,
        written: &[Box<dyn Store>],
        surroundings: &Surroundings<'_>,
        show: &Show,
    ) -> Result<Option<Box<dyn Store>>, Failure> {
        let target = match self {
            Self::Layout(dir) => Source::Layout { dir: dir.clone(), tag: None }.create(surroundings, None),
            Self::Kept { dir, name } => {
                let tag = name.tag().map(str::to_owned);
                Source::Layout { dir: dir.clone(), tag }.create(surroundings, None)
            }
            Self::Archive(source) | Self::Place { source, .. } => source.create(surroundings, name),
        };
        let shown = self.name().unwrap_or_else(|| "standard output".to_owned());
        let written = target.and_then(|target| {
            let Finished { layout, image, beside: referrers, origins } = *image;
            let near = written.iter().find(|other| is_near(&***other, target.store()));
            let from = near.map_or(layout as &dyn Store, |near| &**near);
            let beside = referrers.iter().flat_map(|tree| &tree.blobs);
            let load = Load::of(image.layers.iter().chain(beside));
            let moved = watch(show, Way { from: None, to: &shown }, &load, |progress| {
                let transfer = Transfer::new(target.store(), from).watched(progress);
                transfer.image(image, &[])?;
                put_beside(&transfer, target.store(), referrers, (&shown, origins), show)
            });
            match moved {
                Ok(_) => {
                    offer_copied((layout, target.store()), &shown, referrers, show);
                    target.finish()
                }
                Err(error) => target.give_up().and(Err(error)),
            }
        });
        written
            .and_then(|()| if self.is_registry() { self.open(surroundings) } else { Ok(None) })
            .map_err(|error| failure(Exit::Export, &format!("cannot write the image to {shown}"), &error))
    }
}

/// Reasons that are told, one by one, why something does not go along.
const TOLD: usize = 5;

/// Puts what goes along beside an image. Docker's daemons and archives have little room, and anybody may have attached to
/// the image what does not fit: that does not keep the image from them, nor anything else.
pub(crate) fn put_beside(
    transfer: &Transfer<'_>,
    to: &dyn Store,
    referrers: &[Tree],
    (shown, when): (&str, Beside),
    show: &Show,
) -> Result<(), StoreError> {
    let medium = to.medium();
    if !matches!(medium, Medium::Daemon(_) | Medium::DockerArchive) {
        return transfer.referrers(referrers);
    }
    let put = |tree| transfer.referrers(std::slice::from_ref(tree));
    let mut failed: Vec<StoreError> = referrers.iter().filter_map(|tree| put(tree).err()).collect();
    if let (Medium::Daemon(daemon), Beside::Always, false) = (medium, when, referrers.is_empty()) {
        failed.extend(daemon.accompany().err());
    }
    let what = format!("the report is not kept for {shown}");
    let mut reasons: Vec<_> =
        failed.iter().map(|error| Failure::caused(Exit::Other, &*what, error).chain()).collect();
    reasons.dedup();
    let more = reasons.len().saturating_sub(TOLD);
    reasons.into_iter().take(TOLD).for_each(|reason| show.warn(reason));
    if more > 0 {
        show.warn(format!("{what}: {more} more do not go along"));
    }
    Ok(())
}

/// Whether two places are repositories of one registry, which can share blobs.
fn is_near(one: &dyn Store, other: &dyn Store) -> bool {
    match (one.medium(), other.medium()) {
        (Medium::Registry(one), Medium::Registry(other)) => {
            one.reference().registry() == other.reference().registry()
        }
        _ => false,
    }
}

/// Whether a bill of materials goes to a place. Programs that are given an archive or a folder and no tag take the only
/// thing that is in it, or nothing.
pub(crate) fn takes(to: &Source, when: Beside) -> bool {
    let is_alone = matches!(to, Source::OciArchive { .. } | Source::Layout { tag: None, .. });
    match when {
        Beside::Auto => to.has_referrers() && !is_alone,
        Beside::Always => to.has_referrers(),
        Beside::Never => false,
    }
}

/// Whether reports of builds go to a place. Docker's daemons and archives have room for nothing else, and no other program
/// comes across them there.
pub(crate) fn takes_reports(to: &Source, when: Beside) -> bool {
    match to {
        Source::Daemon(_) | Source::DockerArchive { .. } => when != Beside::Never,
        to => takes(to, when),
    }
}

/// Nobody wants to see an archive.
pub(crate) fn check_pipe() -> Result<(), Failure> {
    if !std::io::stdout().is_terminal() {
        return Ok(());
    }
    Err(Failure::new(Exit::InvalidArguments, "cannot write an archive to a terminal")
        .hint("pipe it into another program, as in `strata build … -o - | docker load`"))
}

/// Finds out whether a file can be written.
pub(crate) fn check_file(file: &Path, what: &str) -> Result<(), Failure> {
    let refuse = |problem: String| {
        Failure::new(Exit::Export, format!("cannot write {what}: {}: {problem}", file.display()))
    };
    if file.is_dir() {
        return Err(refuse("it is a folder".to_owned()));
    }
    let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    rustix::fs::access(dir, rustix::fs::Access::WRITE_OK)
        .map_err(|error| refuse(std::io::Error::from(error).to_string()))
}

/// A folder that is no image is never written into, and one that cannot be written fails before the build.
pub(crate) fn check_writable(dir: &Path) -> Result<(), Failure> {
    let refuse = |message: String| Failure::new(Exit::Export, format!("cannot write the image: {message}"));
    // What cannot be listed cannot be written either.
    let is_unmade = || Layout::open(dir).is_unmade().is_ok_and(|is_unmade| is_unmade);
    // In this order: another program may make the layout meanwhile, and none unmakes one.
    if dir.is_dir() && !is_unmade() && !dir.join("oci-layout").exists() {
        return Err(refuse(format!("{} is neither empty nor an OCI layout", dir.display()))
            .hint("name another folder, or empty this one"));
    }
    let existing = dir.ancestors().find(|path| path.symlink_metadata().is_ok()).unwrap_or(Path::new("/"));
    if !existing.is_dir() {
        return Err(refuse(format!("{} is not a folder", existing.display())));
    }
    rustix::fs::access(existing, rustix::fs::Access::WRITE_OK)
        .map_err(|error| refuse(format!("{}: {}", existing.display(), std::io::Error::from(error))))
}
