//! What the Dockerfiles of image extensions do to an image, step by step (image extension specification).
//!
//! Each Dockerfile becomes a [`Part`]: what is run and copied, which makes one layer, and the configuration that the image
//! has afterwards. Variables are replaced here, so a part says all that its layer depends on but the image below it and
//! the contents of its context.

mod stage;

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use strata_oci::ImageConfig;
use strata_spec::dockerfile::Dockerfile;
use strata_spec::extend::{Arg, Kind};
use strata_spec::labels::REBASABLE;

/// What runs commands in shell form, unless an image or `SHELL` says otherwise.
const SHELL: [&str; 2] = ["/bin/sh", "-c"];
/// The search path of programs, unless the image has one.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The argument whose value is new in each build.
const BUILD_ID: &str = "build_id";

/// A Dockerfile of an extension.
#[derive(Clone, Copy, Debug)]
pub struct Given<'a> {
    /// The extension's id.
    pub id: &'a str,
    /// Its version.
    pub version: &'a str,
    /// What it generated.
    pub dockerfile: &'a Dockerfile,
    /// The arguments that it wants.
    pub args: &'a [Arg],
}

/// The image that is extended.
#[derive(Clone, Copy, Debug)]
pub struct Base<'a> {
    /// Its configuration.
    pub config: &'a ImageConfig,
    /// What Dockerfiles are told that it is: a name with a digest.
    pub name: &'a str,
    /// What this build is called, for those who do not want the layer of an earlier one.
    pub build_id: &'a str,
}

/// What all Dockerfiles of a kind do, one after the other.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// One part for each Dockerfile.
    pub parts: Vec<Part>,
    /// The configuration of the extended image.
    pub config: ImageConfig,
    /// What is probably not meant.
    pub warnings: Vec<String>,
}

/// What one Dockerfile does.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// The extension's id.
    pub id: String,
    /// Its version.
    pub version: String,
    /// What changes files. A Dockerfile that changes the configuration only makes no layer.
    pub steps: Vec<Step>,
    /// Whether the layer is that of this build only: this Dockerfile or one before it uses `build_id`.
    pub uses_build_id: bool,
    /// What the history of the image says of the layer.
    pub created_by: String,
}

/// One instruction that changes files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Its line in the Dockerfile, from 1.
    pub line: usize,
    /// What it says there.
    pub text: String,
    /// What is done.
    pub action: Action,
}

/// What is done to the files of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// A program runs.
    Run {
        /// The program and its arguments.
        argv: Vec<String>,
        /// What the program is to read, if it is an argument of itself: a file that is there as long as it runs, and whose
        /// path follows the arguments.
        script: Option<String>,
        /// Its environment, each variable once.
        env: Vec<(String, String)>,
        /// As in the image's configuration: names or numbers, with a group or not; empty for root.
        user: String,
        /// Absolute.
        dir: String,
    },
    /// Files come from the context.
    Copy {
        /// What is copied, at least one.
        sources: Vec<Content>,
        /// Absolute. With a slash at its end it is a directory.
        to: String,
        /// `--chown`
        owner: Option<String>,
        /// `--chmod`
        mode: Option<u32>,
        /// Whether archives are unpacked.
        unpacks: bool,
    },
    /// A directory is made, with those above it, unless it is there.
    Directory {
        /// Absolute.
        path: String,
        /// To whom it belongs, as in the image's configuration.
        user: String,
    },
}

/// What is copied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Content {
    /// What is in the context at this path, in which there may be patterns.
    Path(String),
    /// A file.
    Text {
        /// Its name.
        name: String,
        /// What is in it.
        content: String,
    },
}

/// A Dockerfile that cannot be applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file} of {extension}, line {line}: {message}")]
pub struct Problem {
    /// `id@version`
    pub extension: String,
    /// The Dockerfile.
    pub file: &'static str,
    /// The line, from 1.
    pub line: usize,
    /// What is wrong.
    pub message: String,
    /// What is possible.
    pub hint: Option<&'static str>,
}

/// Plans the Dockerfiles of a kind, in the order in which they are applied.
///
/// # Errors
/// When one has more than one stage or an instruction that is not possible, or when a run image would end up as root's.
pub fn plan(kind: Kind, base: &Base<'_>, given: &[Given<'_>]) -> Result<Plan, Problem> {
    let mut plan = Plan { parts: Vec::new(), config: base.config.clone(), warnings: Vec::new() };
    let before = user_of(base.config).0.to_owned();
    let mut is_rebasable = true;
    for one in given {
        let user = user_of(&plan.config).0.to_owned();
        let mut part = stage::apply(kind, base, one, &mut plan.config)?;
        // What is upon a layer of this build only is of this build only.
        part.uses_build_id |= plan.parts.last().is_some_and(|below| below.uses_build_id);
        plan.parts.push(part);
        is_rebasable &= plan.config.label(REBASABLE).is_some_and(is_true);
        plan.config.set_label(REBASABLE, &is_rebasable.to_string());
        let now = user_of(&plan.config).0;
        if is_root(now) {
            plan.warnings.push(format!(
                "{} of {}@{} changed the user from '{user}' to '{now}'; that must not be the final user (an extension that \
                 follows must reset it)",
                kind.dockerfile(),
                one.id,
                one.version
            ));
        }
    }
    let (now, last) = (user_of(&plan.config).0, given.last());
    if let Some(last) = last.filter(|_| kind == Kind::Run && is_root(now)) {
        return Err(Problem {
            extension: format!("{}@{}", last.id, last.version),
            file: kind.dockerfile(),
            line: last.dockerfile.stages.last().map_or(1, |stage| stage.line),
            message: format!("the final user is '{now}', which is root"),
            hint: Some(
                "end it with USER ${user_id}, or add an extension that resets the user to one that is not root",
            ),
        });
    }
    if now != before && !given.is_empty() {
        plan.warnings
            .push(format!("the user of the image was '{before}', and the extensions left it as '{now}'"));
    }
    Ok(plan)
}

impl Part {
    /// `id@version`
    #[must_use]
    pub fn label(&self) -> String {
        format!("{}@{}", self.id, self.version)
    }

    /// What its layer depends on besides the image below it and its context; `None` when it must be made anew.
    #[must_use]
    pub fn key(&self) -> Option<String> {
        // Steps are text and numbers only.
        if self.uses_build_id { None } else { serde_json::to_string(&self.steps).ok() }
    }

    /// Whether files of the context get into the layer.
    #[must_use]
    pub fn uses_context(&self) -> bool {
        self.steps.iter().any(|step| match &step.action {
            Action::Copy { sources, .. } => sources.iter().any(|source| matches!(source, Content::Path(_))),
            Action::Run { .. } | Action::Directory { .. } => false,
        })
    }
}

/// User and group of a configuration, as they are written; the group may be empty.
#[must_use]
pub fn user_of(config: &ImageConfig) -> (&str, &str) {
    config.user().split_once(':').unwrap_or((config.user(), ""))
}

fn is_root(user: &str) -> bool {
    matches!(user, "0" | "root")
}

/// As Go's `strconv.ParseBool` has it.
fn is_true(text: &str) -> bool {
    matches!(text, "1" | "t" | "T" | "true" | "TRUE" | "True")
}
