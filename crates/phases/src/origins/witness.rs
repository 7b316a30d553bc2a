//! What the builder sees while buildpacks run: `@strata/build.json` in the layers directory.

use crate::event::Observer;
use crate::failure::Failure;
use crate::files::{self, FileError, Links};
use crate::found::find_layers;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use strata_decide::detect::os_release;
use strata_spec::DocError;
use strata_spec::buildpack::escape_id;
use strata_spec::exit::Exit;
use strata_spec::group::GroupElement;
use strata_spec::origins::claims::{Claims, MAX_CLAIMS, PATH, Ran, Seen};
use strata_spec::origins::{Input, ReasonCode};

/// Takes down which layers are there, buildpack by buildpack.
#[derive(Debug)]
pub(crate) struct Witness<'a> {
    layers_dir: &'a Path,
    group: &'a [GroupElement],
    claims: Claims,
}

/// What the builder knows besides the layers.
#[derive(Debug, Clone, Default)]
pub struct Given {
    /// What the platform gave.
    pub inputs: Vec<Input>,
    /// The distribution of the build environment, as name and version.
    pub distro: String,
}

impl Given {
    /// With the distribution that this process runs in.
    pub fn here(inputs: Vec<Input>) -> Self {
        const MAX_OS_RELEASE: usize = 64 * 1024;
        let bytes = files::read_bytes(Path::new("/etc/os-release"), Links::Follow, MAX_OS_RELEASE);
        // Who cannot tell where it is says nothing of it.
        let bytes = bytes.ok().flatten().unwrap_or_default();
        let distro = os_release(&String::from_utf8_lossy(&bytes));
        let distro = distro.map(|(name, version)| format!("{name} {version}").trim().to_owned());
        Self { inputs, distro: distro.unwrap_or_default() }
    }
}

impl<'a> Witness<'a> {
    pub(crate) fn new(layers_dir: &'a Path, group: &'a [GroupElement], given: &Given) -> Self {
        let Given { inputs, distro } = given.clone();
        Self { layers_dir, group, claims: Claims { version: 1, distro, inputs, ..Claims::default() } }
    }

    /// Before a buildpack runs.
    pub(crate) fn begin(&mut self, buildpack: &GroupElement) {
        let before = self.group.iter().flat_map(|element| self.seen(element)).collect();
        self.claims.buildpacks.push(Ran { id: buildpack.id.clone(), before, after: Vec::new() });
    }

    /// When it is done.
    pub(crate) fn end(&mut self, buildpack: &GroupElement) {
        let after = self.seen(buildpack);
        if let Some(ran) = self.claims.buildpacks.last_mut() {
            ran.after = after;
        }
    }

    /// The layers of a buildpack that have contents. What cannot be read is told by whoever needs it.
    fn seen(&self, buildpack: &GroupElement) -> Vec<Seen> {
        let dir = self.layers_dir.join(escape_id(&buildpack.id));
        let found = find_layers(&dir).unwrap_or_default();
        let contents = found.into_iter().filter_map(|layer| {
            let metadata = layer.dir.symlink_metadata().ok().filter(std::fs::Metadata::is_dir)?;
            Some(Seen { id: format!("{}:{}", buildpack.id, layer.name), inode: metadata.ino() })
        });
        contents.collect()
    }

    /// Writes it down. A buildpack that prevents that costs its build the record, and nothing else.
    pub(crate) fn write(&self, observer: &dyn Observer) {
        if let Err(error) = self.try_write() {
            let what = "the report will not say which layers were present: cannot take them down";
            observer.warn(Failure::caused(Exit::Build, what, &error).chain());
        }
    }

    fn try_write(&self) -> Result<(), FileError> {
        let path = files::below(self.layers_dir, PATH)?;
        let json = self.claims.to_json().map_err(|error| FileError::Invalid {
            path: path.clone(),
            source: DocError::whole(error.to_string()),
        })?;
        files::write(&path, &json)
    }
}

/// Removes what an earlier build saw; a link in place of the folder goes as a whole.
pub(crate) fn forget(layers_dir: &Path) -> Result<(), FileError> {
    let path = layers_dir.join(PATH);
    let folder = path.parent().unwrap_or(layers_dir);
    let is_folder = folder.symlink_metadata().is_ok_and(|metadata| metadata.is_dir());
    files::remove(if is_folder { &path } else { folder })
}

/// What the builder saw; `None` when it took nothing down, or nothing that can be used.
pub(crate) fn read(layers_dir: &Path, observer: &dyn Observer) -> Option<Claims> {
    match try_read(layers_dir) {
        Ok(claims) => claims,
        Err(error) => {
            let cause = Failure::caused(Exit::Export, "ignoring what the builder saw", &error);
            observer.warn(cause.chain());
            None
        }
    }
}

fn try_read(layers_dir: &Path) -> Result<Option<Claims>, FileError> {
    let path = files::below(layers_dir, PATH)?;
    let Some(bytes) = files::read_bytes(&path, Links::Refuse, MAX_CLAIMS)? else { return Ok(None) };
    let invalid = |source| FileError::Invalid { path: path.clone(), source };
    let text = String::from_utf8(bytes).map_err(|error| invalid(DocError::whole(error.to_string())))?;
    Claims::parse(&text).map(Some).map_err(invalid)
}

/// The file in which the restorer says what it did not bring back, below the layers directory.
const LOST: &str = "@strata/lost.json";

/// Cached layers that are not restored, by `<buildpack>:<layer>`, and why.
pub(crate) type Lost = BTreeMap<String, ReasonCode>;

/// Leaves for the exporter what was not restored.
pub(crate) fn write_lost(layers_dir: &Path, lost: &Lost) -> Result<(), FileError> {
    let path = files::below(layers_dir, LOST)?;
    if lost.is_empty() {
        return files::remove(&path);
    }
    let json = serde_json::to_string(lost).map_err(|error| FileError::Invalid {
        path: path.clone(),
        source: DocError::whole(error.to_string()),
    })?;
    files::write(&path, &json)
}

/// What was not restored. A buildpack that spoils this costs its own build the reason.
pub(crate) fn read_lost(layers_dir: &Path) -> Lost {
    let path = files::below(layers_dir, LOST);
    let bytes = path.and_then(|path| files::read_bytes(&path, Links::Refuse, MAX_CLAIMS));
    let bytes = bytes.ok().flatten().unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}
