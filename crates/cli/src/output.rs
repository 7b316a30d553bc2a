//! Where `strata build --output` puts a copy of the image.

use crate::args::{self, OutputFormat};
use crate::images::failure;
use crate::places::Places;
use crate::show::Stream;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use strata_oci::{Encoded, Reference};
use strata_phases::Failure;
use strata_spec::exit::Exit;
use strata_store::source::{Source, Surroundings};
use strata_store::{Layout, copy_image};

/// A copy of the image, besides the one that is kept.
#[derive(Debug)]
pub(crate) enum Output {
    /// A folder with an OCI layout.
    Layout(PathBuf),
    /// An archive in a file, or on standard output.
    Archive(Source),
}

impl Output {
    /// What the arguments ask for: an archive on `-`, in a file `….tar`, or wherever a format is asked for.
    pub(crate) fn of(args: &args::Build, places: &Places) -> Option<Self> {
        let output = args.output.as_ref()?;
        let is_pipe = output == Path::new("-");
        let file = if is_pipe { output.clone() } else { places.current.join(output) };
        let is_tar = file.extension().is_some_and(|extension| extension == "tar") && !file.is_dir();
        Some(match args.output_format {
            Some(OutputFormat::Docker) => Self::Archive(Source::DockerArchive { file, name: None }),
            Some(OutputFormat::Oci) => Self::Archive(Source::OciArchive { file, tag: None }),
            None if is_pipe || is_tar => Self::Archive(Source::OciArchive { file, tag: None }),
            None => Self::Layout(file),
        })
    }

    /// The folder or the file; none for standard output.
    pub(crate) fn path(&self) -> Option<&Path> {
        let path = match self {
            Self::Layout(path) => path,
            Self::Archive(Source::OciArchive { file, .. } | Source::DockerArchive { file, .. }) => file,
            Self::Archive(_) => return None,
        };
        Some(path.as_path()).filter(|path| *path != Path::new("-"))
    }

    /// Where is shown what happens.
    pub(crate) fn stream(this: Option<&Self>) -> Stream {
        if this.is_some_and(|output| output.path().is_none()) { Stream::Err } else { Stream::Out }
    }

    /// The name of the copy, for people.
    pub(crate) fn name(&self) -> Option<String> {
        let path = self.path()?.display().to_string();
        Some(match self {
            Self::Archive(Source::DockerArchive { .. }) => format!("docker-archive:{path}"),
            Self::Archive(_) => format!("oci-archive:{path}"),
            Self::Layout(_) => format!("oci:{path}"),
        })
    }

    /// Finds out whether it can be written, before anything is built.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        match (self, self.path()) {
            (_, None) => check_pipe(),
            (Self::Layout(_), Some(dir)) => crate::build::check_writable(dir),
            (Self::Archive(_), Some(file)) => check_file(file),
        }
    }

    /// Writes it.
    pub(crate) fn write(
        &self,
        from: &Layout,
        image: &Encoded,
        name: Option<&Reference>,
        surroundings: &Surroundings<'_>,
    ) -> Result<(), Failure> {
        let written = match self {
            Self::Layout(dir) => Layout::open_or_create(dir).and_then(|to| copy_image(&to, from, image, &[])),
            Self::Archive(source) => source.create(surroundings, name).and_then(|target| {
                copy_image(target.store(), from, image, &[])?;
                target.finish()
            }),
        };
        written.map_err(|error| failure(Exit::Export, "cannot write the image to the output", &error))
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

fn check_file(file: &Path) -> Result<(), Failure> {
    let refuse = |problem: String| {
        Failure::new(Exit::Export, format!("cannot write the image: {}: {problem}", file.display()))
    };
    if file.is_dir() {
        return Err(refuse("it is a folder".to_owned()));
    }
    let dir = file.parent().unwrap_or(Path::new("/"));
    rustix::fs::access(dir, rustix::fs::Access::WRITE_OK)
        .map_err(|error| refuse(std::io::Error::from(error).to_string()))
}
