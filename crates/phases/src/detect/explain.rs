//! Detection for those who want to know why: what each buildpack said, group by group.

use super::{Attempt, Surroundings, try_order};
use crate::event::{Event, Level, Observer};
use crate::failure::Failure;
use crate::generate::{self, Input};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Mutex;
use strata_decide::detect::{Catalog, DetectRun, Element, Kind as Of, Trial};
use strata_decide::plan::Complaint;
use strata_spec::exit::Exit;
use strata_spec::extend::Kind;
use strata_spec::group::{Group, GroupElement};
use strata_spec::order::OrderFile;
use strata_spec::plan::{BuildPlan, Plan, Provide, Require};

/// What came of an order.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Explained {
    /// The groups that were tried, in their order; the last one passed, if one did.
    pub tried: Vec<Tried>,
    /// The buildpacks that take part; none if no group passed.
    pub group: Vec<GroupElement>,
    /// The image extensions that take part.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extensions: Vec<GroupElement>,
    /// Who provides what for whom.
    pub plan: Plan,
    /// What the extensions generate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generated: Option<Drafted>,
    /// Whether a buildpack erred, rather than not being meant for the app, where no group passed.
    pub has_error: bool,
}

/// What image extensions generate.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Drafted {
    /// The run image that they choose, if they do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_image: Option<String>,
    /// The Dockerfiles that would be applied, in order.
    pub dockerfiles: Vec<Draft>,
    /// What their authors should know.
    pub warnings: Vec<String>,
}

/// A Dockerfile that would be applied.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Draft {
    /// `id@version` of the extension.
    pub extension: String,
    /// Which image it extends; one without instructions chooses an image, and does nothing to it.
    pub kind: Kind,
    /// What is in it.
    pub text: String,
}

/// A group that was tried, composite buildpacks taken apart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tried {
    /// Whether it passed.
    pub has_passed: bool,
    /// What each of its buildpacks said.
    pub buildpacks: Vec<Told>,
    /// What is wrong with their plans: in a group that passed, why a buildpack was left out.
    pub complaints: BTreeSet<Complaint>,
}

/// What a `bin/detect` said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Told {
    /// The buildpack.
    pub buildpack: GroupElement,
    /// Whether it is an image extension.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub extension: bool,
    /// Whether the group may pass without it.
    pub optional: bool,
    /// Exit status: 0 for yes, 100 for no; -1 when it could not be run, was killed, or wrote a plan that is wrong.
    pub code: i32,
    /// What went wrong when `code` is -1.
    pub error: Option<String>,
    /// What it wrote to standard output and standard error; bytes that are no text are replaced.
    pub output: String,
    /// The alternatives of its build plan, in the order in which they are tried. One is used.
    pub plans: Vec<Alternative>,
}

/// What a buildpack provides and requires.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Alternative {
    /// Names.
    pub provides: Vec<String>,
    /// Names, and free data for the provider.
    pub requires: Vec<Require>,
}

/// Runs detection as [`super::run`] does, and tells of all groups that were tried, and of what extensions generate.
///
/// # Errors
/// As of [`super::run`], but not when no group passes; and as of [`generate::run`].
pub fn explain(
    order: &OrderFile,
    catalog: &Catalog,
    around: &Surroundings<'_>,
) -> Result<Explained, Failure> {
    let mut tried = Vec::new();
    let trial = try_order(order, catalog, around, None, &mut |attempt| tried.push(group(attempt)))?;
    let has_error = matches!(trial, Trial::Errored);
    let (group, plan) = match trial {
        Trial::Passed(passed) => passed,
        Trial::Failed | Trial::Errored => Default::default(),
    };
    let generated = drafted(&group, &plan, around)?;
    let (group, extensions) = (group.group, group.group_extensions);
    Ok(Explained { tried, group, extensions, plan, generated, has_error })
}

/// Lets the extensions of a group generate, for nobody but who reads of it.
fn drafted(group: &Group, plan: &Plan, around: &Surroundings<'_>) -> Result<Option<Drafted>, Failure> {
    if group.group_extensions.is_empty() {
        return Ok(None);
    }
    let temp = tempfile::Builder::new().prefix("generated.").tempdir_in(around.temp_dir);
    let temp = temp.map_err(|error| {
        Failure::caused(Exit::Generate, "failed to build: cannot make a folder for what is generated", &error)
    })?;
    let heard = Warnings::default();
    let generated_dir = temp.path();
    let input = Input { group, plan, around, generated_dir, run_image: None, is_known: &|_| true };
    let generated = generate::run(&input, &heard)?;
    let draft =
        |made: generate::Made| Draft { extension: made.extension.label(), kind: made.kind, text: made.text };
    Ok(Some(Drafted {
        run_image: generated.new_run_image,
        dockerfiles: generated.dockerfiles.into_iter().map(draft).collect(),
        warnings: heard.0.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner),
    }))
}

/// Keeps warnings, and nothing else.
#[derive(Default)]
struct Warnings(Mutex<Vec<String>>);

impl Observer for Warnings {
    fn event(&self, event: Event) {
        if let Event::Message { level: Level::Warn, text } = event {
            self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(text);
        }
    }
}

fn group(attempt: Attempt<'_>) -> Tried {
    let all = attempt.elements.iter().zip(attempt.runs);
    Tried {
        has_passed: attempt.has_passed,
        buildpacks: all.map(|(element, run)| told(element, run)).collect(),
        complaints: attempt.complaints,
    }
}

fn told(element: &Element, run: &DetectRun) -> Told {
    Told {
        buildpack: element.buildpack.clone(),
        extension: element.kind == Of::Extension,
        optional: element.optional,
        code: run.code,
        error: run.error.clone(),
        output: String::from_utf8_lossy(&run.output).into_owned(),
        plans: alternatives(&run.plan),
    }
}

fn alternatives(plan: &BuildPlan) -> Vec<Alternative> {
    let one = |provides: &[Provide], requires: &[Require]| Alternative {
        provides: provides.iter().map(|provide| provide.name.clone()).collect(),
        requires: requires.to_vec(),
    };
    let first = one(&plan.provides, &plan.requires);
    let others = plan.or.iter().map(|or| one(&or.provides, &or.requires));
    let all: Vec<Alternative> = std::iter::once(first).chain(others).collect();
    // Without a plan there is nothing to choose.
    if all.iter().all(|one| *one == Alternative::default()) { Vec::new() } else { all }
}
