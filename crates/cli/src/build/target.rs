//! Where the image goes that is built, under which names.

use crate::args;
use crate::output::{Output, check_writable};
use crate::places::Places;
use std::path::{Path, PathBuf};
use strata_oci::Reference;
use strata_phases::Failure;
use strata_spec::exit::Exit;
use strata_store::Layout;
use strata_store::source::Surroundings;

/// Where the image goes.
pub(crate) struct Target {
    /// The embedded store.
    pub(crate) images: PathBuf,
    /// Where it is made.
    pub(crate) layout: Layout,
    /// What it is called first of all.
    pub(crate) name: Option<Reference>,
    /// Whether it is kept under this name.
    is_kept: bool,
    /// Where else it goes.
    pub(crate) outputs: Vec<Output>,
    /// Folders that are not part of the app, should they be inside of it.
    pub(crate) own: Vec<PathBuf>,
}

impl Target {
    /// Finds out where the image goes, and whether it can be written there, before anything is built.
    pub(crate) fn find(
        args: &args::Build,
        places: &Places,
        output: Option<Output>,
        work: &Path,
        surroundings: &Surroundings<'_>,
    ) -> Result<Self, Failure> {
        let images = places.images(args.store.layout_dir.as_deref());
        let names = args.tag.iter().map(|tag| name(tag)).collect::<Result<Vec<_>, _>>()?;
        if args.publish && names.is_empty() {
            let message = "--publish has no name to publish the image under";
            return Err(Failure::new(Exit::InvalidArguments, message)
                .hint("name it with -t, as in -t example.com/web:1.0"));
        }
        let is_kept = !args.publish && !names.is_empty();
        let more = names.iter().zip(&args.tag).skip(usize::from(is_kept));
        let mut outputs = Vec::new();
        for (name, written) in more {
            outputs.push(match args.publish {
                true => Output::registry(written)?,
                false => Output::Kept { dir: images.join(name.layout_path()), name: name.clone() },
            });
        }
        outputs.extend(output);
        let mut seen = Vec::new();
        outputs.retain(|output| {
            let name = output.name();
            let is_new =
                !seen.contains(&name) && output.kept_as().is_none_or(|kept| Some(kept) != names.first());
            seen.push(name);
            is_new
        });
        outputs.iter().try_for_each(|output| output.check(surroundings))?;
        let dir = match (names.first(), outputs.as_slice()) {
            (Some(name), _) if is_kept => {
                let dir = images.join(name.layout_path());
                check_writable(&dir)?;
                dir
            }
            // It is made where it is to be.
            (_, [.., Output::Layout(dir)]) => dir.clone(),
            (None, []) => {
                let message = "neither --tag nor --output is given";
                return Err(Failure::new(Exit::InvalidArguments, message)
                    .hint("name the image with -t, as in `strata build ./app -t web`"));
            }
            _ => work.join("image"),
        };
        let paths = outputs.iter().filter_map(Output::path).map(Path::to_owned);
        let own = [images.clone()].into_iter().chain(paths).filter_map(|path| path.canonicalize().ok());
        let own = own.collect();
        Ok(Self { images, layout: Layout::open(dir), name: names.into_iter().next(), is_kept, outputs, own })
    }

    /// Of a build that makes no image.
    pub(crate) fn nowhere(args: &args::Build, places: &Places, work: &Path) -> Self {
        let images = places.images(args.store.layout_dir.as_deref());
        let own = images.canonicalize().into_iter().collect();
        let layout = Layout::open(work.join("image"));
        Self { images, layout, name: None, is_kept: false, outputs: Vec::new(), own }
    }

    /// The name that it is kept under.
    pub(crate) fn kept(&self) -> Option<&Reference> {
        self.name.as_ref().filter(|_| self.is_kept)
    }

    /// Where it is published first, if it is not kept.
    pub(crate) fn published(&self) -> Option<&Output> {
        self.outputs.first().filter(|output| !self.is_kept && output.is_registry())
    }

    /// Everything the image is called, whole.
    pub(crate) fn names(&self) -> Vec<String> {
        let mut names: Vec<Reference> = self.kept().cloned().into_iter().collect();
        for name in self.outputs.iter().filter_map(Output::reference) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names.iter().map(Reference::to_string).collect()
    }
}

/// The name of the image that is built.
fn name(tag: &str) -> Result<Reference, Failure> {
    let reference: Reference = tag.parse().map_err(|error| {
        Failure::caused(Exit::InvalidArguments, format!("'{tag}' is no image name"), &error)
    })?;
    if reference.digest().is_some() {
        let message = format!("'{tag}' names a digest, which a new image cannot be given");
        return Err(Failure::new(Exit::InvalidArguments, message).hint("use a tag, as in web:1.0"));
    }
    Ok(reference)
}
