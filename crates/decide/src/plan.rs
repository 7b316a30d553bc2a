//! Resolving build plans: who provides what for whom (buildpack specification, "Phase #1: Detection").

use crate::detect::{Element, Kind, Level, Line};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashMap};
use strata_spec::plan::{BuildPlan, BuildpackPlan, Plan, PlanEntry, Provider, Require};

/// The largest number of combinations of `[[or]]` alternatives that are tried.
const MAX_TRIALS: usize = 10_000;

/// A buildpack that passed, and what it asks and offers.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// The buildpack.
    pub element: Element,
    /// Its build plan.
    pub plan: BuildPlan,
}

/// One buildpack or extension with one of its alternatives.
#[derive(Clone)]
struct Choice<'a> {
    element: &'a Element,
    optional: bool,
    provides: Vec<&'a str>,
    requires: &'a [Require],
}

#[derive(Default)]
struct Dependency<'a> {
    name: &'a str,
    providers: Vec<&'a Element>,
    requires: Vec<&'a Require>,
    /// Buildpacks that require it before anybody provides it.
    unmet: Vec<&'a Element>,
    /// Buildpacks that provide it after the last one that requires it.
    unused: Vec<&'a Element>,
}

/// Why a buildpack cannot take part in a plan.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Complaint {
    /// `id@version`.
    pub buildpack: String,
    /// What is wrong with the dependency.
    pub kind: Unsettled,
    /// The dependency's name.
    pub name: String,
    /// Whether the group goes on without the buildpack.
    pub optional: bool,
}

/// What is wrong with a dependency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unsettled {
    /// Nobody provides it before it is required.
    Unmet,
    /// Nobody requires it after it is provided.
    Unused,
}

/// Finds the first combination of alternatives in which every requirement is met and every offer is used. `complaints` get
/// what is wrong with it, if it passes without a buildpack, or else with all that were tried.
pub fn resolve(
    candidates: &[Candidate],
    log: &mut Vec<Line>,
    complaints: &mut BTreeSet<Complaint>,
) -> Option<(Vec<Element>, Plan)> {
    let alternatives: Vec<Vec<Choice<'_>>> = candidates.iter().map(choices).collect();
    let mut picked = vec![0; alternatives.len()];
    for number in 1..=MAX_TRIALS {
        log.push((Level::Debug, format!("Resolving plan... (try #{number})")));
        let trial: Vec<Choice<'_>> =
            alternatives.iter().zip(&picked).filter_map(|(all, i)| all.get(*i).cloned()).collect();
        let mut own = BTreeSet::new();
        if let Some(resolved) = try_choices(trial, log, &mut own) {
            *complaints = own;
            return Some(resolved);
        }
        complaints.append(&mut own);
        if !advance(&mut picked, &alternatives) {
            return None;
        }
    }
    log.push((Level::Info, format!("gave up after {MAX_TRIALS} combinations of alternatives")));
    None
}

/// The next combination; the last buildpack's alternatives vary fastest.
fn advance(picked: &mut [usize], alternatives: &[Vec<Choice<'_>>]) -> bool {
    for (digit, all) in picked.iter_mut().zip(alternatives).rev() {
        *digit += 1;
        if *digit < all.len() {
            return true;
        }
        *digit = 0;
    }
    false
}

/// The alternatives of one buildpack. Only the last of them may be left out when the buildpack is optional.
fn choices(candidate: &Candidate) -> Vec<Choice<'_>> {
    let Candidate { element, plan } = candidate;
    let mut all = vec![Choice {
        element,
        optional: false,
        provides: plan.provides.iter().map(|p| p.name.as_str()).collect(),
        requires: &plan.requires,
    }];
    all.extend(plan.or.iter().map(|or| Choice {
        element,
        optional: false,
        provides: or.provides.iter().map(|p| p.name.as_str()).collect(),
        requires: &or.requires,
    }));
    if let Some(last) = all.last_mut() {
        last.optional = element.optional;
    }
    all
}

fn try_choices(
    mut trial: Vec<Choice<'_>>,
    log: &mut Vec<Line>,
    told: &mut BTreeSet<Complaint>,
) -> Option<(Vec<Element>, Plan)> {
    loop {
        let dependencies = gather(&trial);
        let mut dropped: Vec<&Element> = Vec::new();
        for dependency in &dependencies {
            let complaints = dependency.unmet.iter().map(|b| (*b, "requires", Unsettled::Unmet));
            let unused = dependency.unused.iter().map(|b| (*b, "provides unused", Unsettled::Unused));
            for (element, verb, kind) in complaints.chain(unused) {
                let optional = trial.iter().any(|c| std::ptr::eq(c.element, element) && c.optional);
                let word = if optional { "skip" } else { "fail" };
                let buildpack = element.buildpack.label();
                log.push((Level::Debug, format!("{word}: {buildpack} {verb} {}", dependency.name)));
                told.insert(Complaint { buildpack, kind, name: dependency.name.to_owned(), optional });
                if !optional {
                    return None;
                }
                dropped.push(element);
            }
        }
        if dropped.is_empty() {
            if trial.iter().all(|choice| choice.element.kind == Kind::Extension) {
                log.push((Level::Debug, "fail: no viable buildpacks in group".into()));
                return None;
            }
            let group = trial.iter().map(|choice| choice.element.clone()).collect();
            return Some((group, Plan { entries: dependencies.iter().map(entry).collect() }));
        }
        trial.retain(|choice| !dropped.iter().any(|gone| std::ptr::eq(*gone, choice.element)));
    }
}

/// Offers of a buildpack are registered before its own requirements.
fn gather<'a>(trial: &[Choice<'a>]) -> Vec<Dependency<'a>> {
    let mut all: Vec<Dependency<'a>> = Vec::new();
    let mut index: HashMap<&'a str, usize> = HashMap::new();
    let mut at = |all: &mut Vec<Dependency<'a>>, name: &'a str| {
        *index.entry(name).or_insert_with(|| {
            all.push(Dependency { name, ..Dependency::default() });
            all.len() - 1
        })
    };
    for choice in trial {
        for name in &choice.provides {
            let i = at(&mut all, name);
            all[i].unused.push(choice.element);
        }
        for require in choice.requires {
            let i = at(&mut all, &require.name);
            let dependency = &mut all[i];
            let fresh = std::mem::take(&mut dependency.unused);
            dependency.providers.extend(fresh);
            if dependency.providers.is_empty() {
                dependency.unmet.push(choice.element);
            } else {
                dependency.requires.push(require);
            }
        }
    }
    all
}

fn entry(dependency: &Dependency<'_>) -> PlanEntry {
    let provider = |element: &&Element| Provider {
        id: element.buildpack.id.clone(),
        version: element.buildpack.version.clone(),
        extension: element.kind == Kind::Extension,
    };
    PlanEntry {
        providers: dependency.providers.iter().map(provider).collect(),
        requires: dependency.requires.iter().map(|r| (*r).clone()).collect(),
    }
}

/// What one buildpack or extension is asked to provide.
pub fn of(plan: &Plan, kind: Kind, id: &str) -> BuildpackPlan {
    let is_extension = kind == Kind::Extension;
    let is_mine = |p: &Provider| p.id == id && p.extension == is_extension;
    let mine = plan.entries.iter().filter(|entry| entry.providers.iter().any(is_mine));
    BuildpackPlan { entries: mine.flat_map(|entry| entry.requires.iter().cloned()).collect() }
}

/// The plan that is left for later buildpacks: without what this one provided.
///
/// # Errors
/// When the buildpack leaves something unmet that it was not asked for; the error is the name.
pub fn after(plan: &Plan, given: &BuildpackPlan, unmet: &[String]) -> Result<Plan, String> {
    if let Some(stranger) = unmet.iter().find(|name| !given.entries.iter().any(|e| e.name == **name)) {
        return Err(stranger.clone());
    }
    let met = |require: &Require| {
        given.entries.iter().any(|e| e.name == require.name) && !unmet.contains(&require.name)
    };
    let entries = plan.entries.iter().filter(|entry| !entry.requires.iter().any(met)).cloned().collect();
    Ok(Plan { entries })
}

#[cfg(test)]
mod tests {
    use super::*;
    use strata_spec::group::GroupElement;

    fn candidate(id: &str, optional: bool, plan: &str) -> Candidate {
        Candidate {
            element: Element {
                buildpack: GroupElement { id: id.into(), version: "1".into(), ..Default::default() },
                optional,
                ..Element::default()
            },
            plan: BuildPlan::parse(plan).unwrap(),
        }
    }

    fn ids(candidates: &[Candidate]) -> Option<Vec<String>> {
        resolve(candidates, &mut Vec::new(), &mut BTreeSet::new())
            .map(|(group, _)| group.into_iter().map(|e| e.buildpack.id).collect())
    }

    const P: &str = "[[provides]]\nname=\"x\"\n";
    const R: &str = "[[requires]]\nname=\"x\"\n";

    #[test]
    fn plans_resolve_as_the_specification_says() {
        let self_provided = format!("{P}{R}");
        let either = format!("{R}[[or]]\n");
        for (name, candidates, expected) in [
            ("no plans", vec![candidate("a", false, "")], Some(vec!["a"])),
            ("met", vec![candidate("a", false, P), candidate("b", false, R)], Some(vec!["a", "b"])),
            ("too early", vec![candidate("a", false, R), candidate("b", false, P)], None),
            ("itself", vec![candidate("a", false, &self_provided)], Some(vec!["a"])),
            ("unused", vec![candidate("a", false, P)], None),
            ("unused, optional", vec![candidate("a", true, P), candidate("b", false, "")], Some(vec!["b"])),
            ("unmet, optional", vec![candidate("a", true, R), candidate("b", false, "")], Some(vec!["b"])),
            (
                "chain of optionals",
                vec![
                    candidate("a", true, P),
                    candidate("b", true, "[[requires]]\nname=\"x\"\n[[requires]]\nname=\"y\"\n"),
                    candidate("c", false, ""),
                ],
                Some(vec!["c"]),
            ),
            ("all optional and gone", vec![candidate("a", true, P)], None),
            ("alternative", vec![candidate("a", false, &either)], Some(vec!["a"])),
            (
                "two providers",
                vec![candidate("a", false, P), candidate("b", false, P), candidate("c", false, R)],
                Some(vec!["a", "b", "c"]),
            ),
        ] {
            let expected = expected.map(|v: Vec<&str>| v.into_iter().map(str::to_owned).collect::<Vec<_>>());
            assert_eq!(ids(&candidates), expected, "{name}");
        }
    }

    #[test]
    fn an_optional_buildpack_is_left_out_only_in_its_last_alternative() {
        // `a` fails in its first form, which is not optional; in the second form it fits.
        let plan = "[[requires]]\nname=\"gone\"\n[[or]]\n";
        assert_eq!(ids(&[candidate("a", true, plan)]), Some(vec!["a".into()]));
    }

    #[test]
    fn what_a_buildpack_provides_leaves_the_plan() {
        let candidates = [
            candidate("a", false, "[[provides]]\nname=\"x\"\n[[provides]]\nname=\"y\"\n"),
            candidate("b", false, "[[provides]]\nname=\"x\"\n"),
            candidate("c", false, "[[requires]]\nname=\"x\"\n[[requires]]\nname=\"y\"\n"),
        ];
        let (_, plan) = resolve(&candidates, &mut Vec::new(), &mut BTreeSet::new()).unwrap();
        let given = of(&plan, Kind::Buildpack, "a");
        assert_eq!(given.entries.len(), 2);
        assert!(after(&plan, &given, &[]).unwrap().entries.is_empty());
        let left = after(&plan, &given, &["x".into()]).unwrap();
        assert_eq!(of(&left, Kind::Buildpack, "b").entries[0].name, "x");
        assert_eq!(after(&plan, &given, &["z".into()]), Err("z".into()));
        assert!(of(&plan, Kind::Extension, "a").entries.is_empty());
    }
}
