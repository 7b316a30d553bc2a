//! Documents of a build that go into folders of their own: SBOM files of buildpacks, and `report.toml`.

use crate::args;
use crate::places::Places;
use std::fs;
use std::path::Path;
use strata_phases::Failure;
use strata_phases::export::Exported;
use strata_phases::files::{self, Links};
use strata_spec::exit::Exit;
use strata_spec::report::Report;

/// The largest SBOM file that is taken, in bytes.
const MAX_SBOM: usize = 256 << 20;

/// Makes the folders that documents go to, before anything is built.
pub(crate) fn make_folders(args: &args::Build, places: &Places) -> Result<(), Failure> {
    for dir in [&args.sbom_output_dir, &args.report_output_dir].into_iter().flatten() {
        let dir = places.current.join(dir);
        fs::create_dir_all(&dir).map_err(|error| {
            let message = format!("cannot make the folder {}", dir.display());
            Failure::caused(Exit::InvalidArguments, message, &error)
        })?;
    }
    Ok(())
}

/// Copies what buildpacks say that layers are made of: `launch/<buildpack>/<layer>/sbom.*` and `build/…`. What is there
/// was written inside the sandbox, so links are refused.
pub(crate) fn put_sboms(layers_dir: &Path, to: &Path) -> Result<(), Failure> {
    let failed = |error| Failure::caused(Exit::Export, "cannot copy the SBOM files of buildpacks", &error);
    for kind in ["build", "launch"] {
        let from = files::below(layers_dir, Path::new("sbom").join(kind)).map_err(failed)?;
        if from.is_dir() {
            copy(&from, &to.join(kind)).map_err(failed)?;
        }
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<(), files::FileError> {
    let failed = |action, path: &Path| {
        let path = path.to_owned();
        move |source| files::FileError::Io { action, path, source }
    };
    fs::create_dir_all(to).map_err(failed("make", to))?;
    for entry in fs::read_dir(from).map_err(failed("read", from))? {
        let entry = entry.map_err(failed("read", from))?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type().map_err(failed("read", &source))?.is_dir() {
            copy(&source, &target)?;
        } else if let Some(bytes) = files::read_bytes(&source, Links::Refuse, MAX_SBOM)? {
            fs::write(&target, bytes).map_err(failed("write", &target))?;
        }
    }
    Ok(())
}

/// What was made, under the names that people know.
pub(crate) fn report(exported: &Exported, names: Vec<String>) -> Report {
    let mut report = exported.report.clone();
    report.image.tags = names;
    report.image.digest = exported.encoded.manifest_digest.to_string();
    report
}

/// Writes `report.toml`.
pub(crate) fn put_report(report: &Report, dir: &Path) -> Result<(), Failure> {
    files::write_given(&dir.join("report.toml"), &report.to_toml())
        .map_err(|error| Failure::caused(Exit::Export, "cannot write report.toml", &error))
}
