//! Detection for those who want to know why: what each buildpack said, group by group.

use super::{Attempt, Surroundings, try_order};
use crate::failure::Failure;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use strata_decide::detect::{Catalog, DetectRun, Element, Kind, Trial};
use strata_decide::plan::Complaint;
use strata_spec::group::GroupElement;
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
    /// Whether a buildpack erred, rather than not being meant for the app, where no group passed.
    pub has_error: bool,
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

/// Runs detection as [`super::run`] does, and tells of all groups that were tried.
///
/// # Errors
/// As of [`super::run`], but not when no group passes.
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
    Ok(Explained { tried, group: group.group, extensions: group.group_extensions, plan, has_error })
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
        extension: element.kind == Kind::Extension,
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
