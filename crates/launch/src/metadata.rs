//! The part of `<layers>/config/metadata.toml` that matters at launch.

use crate::api::BuildpackApi;

/// Processes that can be started and the buildpacks whose layers belong to the app.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// In the order of the file.
    pub processes: Vec<Process>,
    /// In the order of the build.
    pub buildpacks: Vec<Buildpack>,
}

impl Metadata {
    /// The buildpack of this id, if it took part in the build.
    #[must_use]
    pub fn buildpack(&self, id: &str) -> Option<&Buildpack> {
        self.buildpacks.iter().find(|buildpack| buildpack.id == id)
    }
}

/// A process as a buildpack declared it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// Its name, also the name of its entrypoint.
    pub r#type: String,
    /// The program and the arguments that are always given.
    pub command: Vec<String>,
    /// The arguments a user may replace, or, for older APIs, all arguments.
    pub args: Vec<String>,
    /// Whether it is started without a shell.
    pub direct: bool,
    /// The buildpack that declared it.
    pub buildpack_id: String,
    /// Where it runs; the app directory if `None`.
    pub working_dir: Option<String>,
    /// The execution environments it is for; all if empty.
    pub exec_env: Vec<String>,
}

/// A buildpack that took part in the build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Buildpack {
    /// Its id, slashes included.
    pub id: String,
    /// The API it was written for.
    pub api: BuildpackApi,
}
