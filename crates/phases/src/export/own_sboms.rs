//! The SBOMs of lifecycle and launcher, which go with every image (platform specification, "exporter").

use super::failed;
use crate::event::Observer;
use crate::failure::Failure;
use crate::files::{self, Links};
use std::path::Path;
use strata_decide::sbom::FORMATS;

/// Where the SBOMs of Strata's own programs are.
#[derive(Debug, Clone, Copy)]
pub struct OwnSboms<'a> {
    /// The folder of the lifecycle.
    pub lifecycle_dir: &'a Path,
    /// A folder that a platform named for the launcher's; all SBOM files in it are taken, under their own names.
    pub launcher_dir: Option<&'a Path>,
}

impl OwnSboms<'_> {
    /// Copies them to where export and the report take SBOM files from. Missing ones are worth a warning.
    pub(super) fn copy(&self, layers_dir: &Path, observer: &dyn Observer) -> Result<(), Failure> {
        let below = |tail| {
            files::below(layers_dir, tail)
                .map_err(|error| failed("cannot put an SBOM into its place", &error))
        };
        let build = below("sbom/build/buildpacksio_lifecycle")?;
        let launch = below("sbom/launch/buildpacksio_lifecycle/launcher")?;
        self.copy_known("lifecycle", &build, observer)?;
        match self.launcher_dir {
            None => self.copy_known("launcher", &launch, observer),
            Some(dir) => copy_all(dir, &launch),
        }
    }

    fn copy_known(&self, program: &str, to: &Path, observer: &dyn Observer) -> Result<(), Failure> {
        for (name, _) in FORMATS {
            let file = format!("{program}.{name}");
            let from = self.lifecycle_dir.join(&file);
            if !from.is_file() {
                let dir = self.lifecycle_dir.display();
                observer.warn(format!("Did not find SBOM {file} in {dir}"));
                continue;
            }
            observer.debug(format!("Copying SBOM {file} to {}", to.join(name).display()));
            files::copy(&from, Links::Follow, &to.join(name))
                .map_err(|error| failed("cannot copy an SBOM", &error))?;
        }
        Ok(())
    }
}

fn copy_all(from: &Path, to: &Path) -> Result<(), Failure> {
    for path in files::list(from).map_err(|error| failed("cannot list the launcher's SBOMs", &error))? {
        let Some(file) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if FORMATS.iter().any(|(ending, _)| file.ends_with(ending)) {
            files::copy(&path, Links::Follow, &to.join(file))
                .map_err(|error| failed("cannot copy an SBOM", &error))?;
        }
    }
    Ok(())
}
