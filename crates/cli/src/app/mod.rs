//! The app: where it is, what its `project.toml` asks for, which of its files are wanted, what its source is.
//!
//! This file finds one that is given as an archive or an image rather than as a folder.

mod copy;
mod project;
mod selection;
pub(crate) mod source;

pub(crate) use copy::{Copy, folder, is_left_out};
pub(crate) use project::{Named, Wanted};
use selection::Selection;

use crate::args;
use crate::images;
use crate::places::Places;
use std::fs::{self, File};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Component, Path, PathBuf};
use strata_decide::source::Given;
use strata_layer::{
    LayerError, Trust, UnpackOptions, VerifiedReader, Whiteouts, digest_of, open_layer, unpack,
};
use strata_phases::Failure;
use strata_spec::exit::Exit;
use strata_store::source::{Source, Surroundings};

/// Where the app is.
pub(crate) struct App {
    /// Its folder.
    pub(crate) dir: PathBuf,
    /// What it was taken from, if not from a folder.
    pub(crate) given: Option<Given>,
}

/// Finds the app; one that is in an archive or an image is extracted below `scratch`.
pub(crate) fn find(
    args: &args::Build,
    places: &Places,
    scratch: &Path,
    surroundings: &Surroundings<'_>,
) -> Result<App, Failure> {
    let path = places.current.join(&args.app);
    let image = args.app.to_str().filter(|_| !path.exists()).and_then(image);
    let what = format!("cannot take the app from {}", args.app.display());
    let refused = |message: String| Failure::new(Exit::InvalidArguments, format!("{what}: {message}"));
    if !path.is_file() && image.is_none() {
        if args.source_path.is_some() {
            return Err(refused("--source-path is for archives and images".into())
                .hint("name the folder in it instead"));
        }
        return Ok(App { dir: args.app.clone(), given: None });
    }
    let dir = scratch.join("source");
    // What is extracted may be secret, and its modes are others' choice.
    fs::DirBuilder::new()
        .mode(0o700)
        .create(&dir)
        .map_err(|error| Failure::caused(Exit::Other, format!("cannot create {}", dir.display()), &error))?;
    let given = match image {
        Some(source) => from_image(&source, &dir, surroundings, &what)?,
        None => from_archive(&path, &dir).map_err(|error| {
            Failure::caused(Exit::InvalidArguments, &*what, &error).hint(
                "it has to be a folder, a tar archive, or an image by its place: oci:DIR, registry:NAME, …",
            )
        })?,
    };
    let inside = args.source_path.as_deref().unwrap_or(Path::new("/"));
    let found = below(&dir, inside).ok_or_else(|| {
        refused(format!("there is no folder {} in it, or a link leads to it", inside.display()))
    })?;
    let path = Path::new("/").join(inside);
    let shown = (path != Path::new("/")).then(|| path.display().to_string());
    Ok(App { dir: found, given: Some(Given { path: shown, ..given }) })
}

/// An image that is named by its place.
fn image(text: &str) -> Option<Source> {
    Source::parse(text).ok().filter(|source| !matches!(source, Source::Named { .. }))
}

/// The folder of this path below a root, if no link is on the way.
fn below(root: &Path, path: &Path) -> Option<PathBuf> {
    let mut found = root.to_owned();
    for part in path.components() {
        match part {
            Component::RootDir | Component::CurDir => continue,
            Component::Normal(name) => found.push(name),
            Component::ParentDir | Component::Prefix(_) => return None,
        }
        if !found.symlink_metadata().ok()?.is_dir() {
            return None;
        }
    }
    Some(found)
}

fn options(whiteouts: Whiteouts) -> UnpackOptions {
    UnpackOptions { whiteouts, trust: Trust::Data, ..UnpackOptions::default() }
}

fn from_archive(path: &Path, dir: &Path) -> Result<Given, LayerError> {
    let reading = |source| LayerError::Io { action: "read", path: path.to_owned(), source };
    let (digest, size) = digest_of(&mut File::open(path).map_err(reading)?).map_err(reading)?;
    // Whoever changes it meanwhile is found out.
    let file = VerifiedReader::new(File::open(path).map_err(reading)?, digest, size);
    let mut tar = open_layer(file)?;
    unpack(&mut tar, dir, &options(Whiteouts::Literal))?;
    let file = path.file_name().map(|name| name.to_string_lossy().into_owned());
    Ok(Given { kind: "archive", digest, file, repository: None, refs: Vec::new(), path: None })
}

fn from_image(
    source: &Source,
    dir: &Path,
    surroundings: &Surroundings<'_>,
    what: &str,
) -> Result<Given, Failure> {
    let failed = |error| images::failure(Exit::InvalidArguments, what, &error);
    let store = source.open(surroundings, None).map_err(failed)?;
    let stored = store.read_image().map_err(failed)?;
    let none = || Failure::new(Exit::InvalidArguments, format!("{what}: there is no such image"));
    let stored = stored.ok_or_else(none)?;
    for layer in stored.image.layers() {
        let blob = store.open_blob(&layer.descriptor).map_err(failed)?;
        let blob = blob.ok_or_else(|| {
            Failure::new(
                Exit::InvalidArguments,
                format!("{what}: its layer {} is missing", layer.descriptor.digest),
            )
        })?;
        open_layer(blob)
            .and_then(|mut tar| unpack(&mut tar, dir, &options(Whiteouts::Apply)))
            .map_err(|error| Failure::caused(Exit::InvalidArguments, what, &error))?;
    }
    let name = source.name();
    let tag = name.as_ref().and_then(|name| Some(format!("{}:{}", name.repository(), name.tag()?)));
    Ok(Given {
        kind: "image",
        digest: stored.manifest_digest,
        file: None,
        repository: name.as_ref().map(|name| format!("{}/{}", name.registry(), name.repository())),
        refs: tag.into_iter().collect(),
        path: None,
    })
}
