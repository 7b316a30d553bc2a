//! Which groups of buildpacks are tried, in which order, and which of them pass
//! (platform specification, "detector").

use crate::plan::{self, Candidate};
use std::collections::{BTreeMap, BTreeSet};
use strata_spec::buildpack::{Descriptor, Distro, Stack, Target, escape_id};
use strata_spec::extension;
use strata_spec::group::{Group, GroupElement};
use strata_spec::order::{Order, OrderElement, OrderFile, OrderGroup};
use strata_spec::plan::{BuildPlan, Plan};
use strata_spec::system::{System, SystemBuildpack};
use strata_spec::{BuildpackApi, PlatformApi};

/// Modules at hand, by escaped id and version as their folders have them; for a broken one, what is wrong with it. Nobody minds a broken
/// one that no group asks for.
pub type Modules<D> = BTreeMap<(String, String), Result<D, String>>;

/// What groups can be made of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Catalog {
    /// The buildpacks.
    pub buildpacks: Modules<Descriptor>,
    /// The image extensions.
    pub extensions: Modules<extension::Descriptor>,
}

/// What can be in a group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A buildpack.
    #[default]
    Buildpack,
    /// An image extension.
    Extension,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Buildpack => "buildpack",
            Self::Extension => "extension",
        })
    }
}

/// What the image is built for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BuildTarget {
    /// Operating system, for example `linux`.
    pub os: String,
    /// Architecture in OCI's words, for example `amd64`.
    pub arch: String,
    /// Architecture variant; empty when there is none.
    pub variant: String,
    /// Distribution name and version of the run image; `None` when it has none.
    pub distro: Option<(String, String)>,
    /// The execution environment: `production`, `test`, …
    pub exec_env: String,
}

/// Name and version of the distribution that an `/etc/os-release` names: the stand-in for a run image that names none.
pub fn os_release(text: &str) -> Option<(String, String)> {
    let value = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.map(|value| value.trim_matches(['"', '\'', ' ']).to_owned())
    };
    Some((value("ID")?, value("VERSION_ID").unwrap_or_default()))
}

/// The home of a user, by an `/etc/passwd`; container engines take `/` for one who is not in it.
pub fn home_of(passwd: &str, uid: u32) -> String {
    let fields = |line: &str| line.split(':').map(str::to_owned).collect::<Vec<_>>();
    let of_user = |fields: &Vec<String>| fields.get(2).is_some_and(|id| id.parse() == Ok(uid));
    let home = passwd.lines().map(fields).find(of_user).and_then(|fields| fields.get(5).cloned());
    home.filter(|home| home.starts_with('/')).unwrap_or_else(|| "/".to_owned())
}

/// A component buildpack or an image extension on trial.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Element {
    /// What it is.
    pub kind: Kind,
    /// Id, version, API and home page, as they will stand in `group.toml`.
    pub buildpack: GroupElement,
    /// Whether the group may pass without it.
    pub optional: bool,
    /// Why it cannot take part whatever its `bin/detect` says.
    pub unfit: Option<String>,
}

/// How trying one group ended.
#[derive(Debug)]
pub enum Trial<T> {
    /// It passed; nothing else is tried.
    Passed(T),
    /// It did not pass.
    Failed,
    /// It did not pass, and a buildpack erred.
    Errored,
}

/// Why the walk could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum WalkError<E> {
    /// The order names a buildpack or an extension that is not there.
    #[error("the order names {0} '{1}', which is not at hand")]
    Missing(Kind, String),
    /// The order names a buildpack or an extension that cannot be used.
    #[error("cannot use {0} '{1}': {2}")]
    Broken(Kind, String, String),
    /// A composite buildpack contains itself.
    #[error("composite buildpacks contain each other: {0}")]
    Cycle(String),
    /// The caller's own error while it tried a group.
    #[error(transparent)]
    Try(E),
}

#[derive(Clone)]
enum Step {
    Buildpack {
        element: OrderElement,
        /// The composites that led here, outermost first.
        inside: Vec<(String, String)>,
    },
    Extension(OrderElement),
    /// All extension groups: the first of them that passes with what follows; none, if it passes with none.
    Extensions,
}

/// Tries one group.
pub type Attempt<'a, T, E> = dyn FnMut(&[Element]) -> Result<Trial<T>, E> + 'a;

struct Walk<'a, T, E> {
    extensions: &'a Order,
    catalog: &'a Catalog,
    target: &'a BuildTarget,
    api: PlatformApi,
    attempt: &'a mut Attempt<'a, T, E>,
}

/// Walks an order: expands composite buildpacks, puts each group of extensions in front of each group of buildpacks, and
/// hands every resulting group to `attempt` until one passes. The platform API says whether targets and execution
/// environments count.
///
/// # Errors
/// When the order names what is not there or never ends, and whatever `attempt` fails with.
pub fn walk<'a, T, E>(
    order: &'a OrderFile,
    catalog: &'a Catalog,
    target: &'a BuildTarget,
    api: PlatformApi,
    attempt: &'a mut Attempt<'a, T, E>,
) -> Result<Trial<T>, WalkError<E>> {
    let buildpack = |element: &OrderElement| Step::Buildpack { element: element.clone(), inside: Vec::new() };
    let mut walk = Walk { extensions: &order.order_extensions, catalog, target, api, attempt };
    let before = (!order.order_extensions.is_empty()).then_some(Step::Extensions);
    let groups = order
        .order
        .iter()
        .map(|group| before.iter().cloned().chain(group.group.iter().map(buildpack)).collect());
    walk.groups(groups.collect(), &[], &[], None)
}

impl<'a, T, E> Walk<'a, T, E> {
    /// Tries groups, each with `next` behind it; and that alone, where there can be none of them.
    fn groups(
        &mut self,
        groups: Vec<Vec<Step>>,
        done: &[Element],
        next: &[Step],
        or_none: Option<()>,
    ) -> Result<Trial<T>, WalkError<E>> {
        let mut erred = false;
        for mut steps in groups {
            steps.extend(next.iter().cloned());
            match self.group(&steps, done)? {
                Trial::Failed => {}
                Trial::Errored => erred = true,
                passed => return Ok(passed),
            }
        }
        match or_none {
            Some(()) => self.group(next, done),
            None => Ok(if erred { Trial::Errored } else { Trial::Failed }),
        }
    }

    fn group(&mut self, steps: &[Step], done: &[Element]) -> Result<Trial<T>, WalkError<E>> {
        let mut done = done.to_vec();
        // The first of an id wins, whatever its version.
        let is_done =
            |done: &[Element], kind, id: &str| done.iter().any(|d| d.kind == kind && d.buildpack.id == id);
        for (i, step) in steps.iter().enumerate() {
            let rest = steps.get(i + 1..).unwrap_or_default();
            match step {
                Step::Buildpack { element, .. } if is_done(&done, Kind::Buildpack, &element.id) => {}
                Step::Extension(element) if is_done(&done, Kind::Extension, &element.id) => {}
                Step::Extensions => {
                    let group =
                        |group: &OrderGroup| group.group.iter().cloned().map(Step::Extension).collect();
                    let groups = self.extensions.iter().map(group).collect();
                    return self.groups(groups, &done, rest, Some(()));
                }
                Step::Extension(element) => done.extend(self.extension(element)?),
                Step::Buildpack { element, inside } => {
                    let (key, descriptor) = find(&self.catalog.buildpacks, Kind::Buildpack, element)?;
                    if descriptor.is_composite() {
                        let groups = nested(&descriptor.order, inside, key)?;
                        return self.groups(groups, &done, rest, element.optional.then_some(()));
                    }
                    done.extend(self.buildpack(element, key.1, descriptor));
                }
            }
        }
        (self.attempt)(&done).map_err(WalkError::Try)
    }

    /// A component buildpack, unless it is for another execution environment.
    fn buildpack(&self, element: &OrderElement, version: String, of: &Descriptor) -> Option<Element> {
        let is_for_env = is_for_env(&of.api, &of.buildpack.exec_env, &self.target.exec_env);
        (is_for_env || !self.api.has_exec_env()).then(|| Element {
            kind: Kind::Buildpack,
            buildpack: GroupElement {
                id: element.id.clone(),
                version,
                api: of.api.clone(),
                homepage: of.buildpack.homepage.clone(),
            },
            optional: element.optional,
            unfit: self.unfit(&effective_targets(of)),
        })
    }

    /// The same of an extension; a group never needs one.
    fn extension(&self, element: &OrderElement) -> Result<Option<Element>, WalkError<E>> {
        let ((_, version), of) = find(&self.catalog.extensions, Kind::Extension, element)?;
        let is_for_env = is_for_env(&of.api, &of.extension.exec_env, &self.target.exec_env);
        Ok((is_for_env || !self.api.has_exec_env()).then(|| Element {
            kind: Kind::Extension,
            buildpack: GroupElement {
                id: element.id.clone(),
                version,
                api: of.api.clone(),
                homepage: of.extension.homepage.clone(),
            },
            optional: true,
            unfit: self.unfit(&of.targets),
        }))
    }

    fn unfit(&self, targets: &[Target]) -> Option<String> {
        if self.api.has_targets() { unfit(targets, self.target) } else { None }
    }
}

/// The groups of a composite buildpack.
fn nested<E>(
    order: &Order,
    inside: &[(String, String)],
    key: (String, String),
) -> Result<Vec<Vec<Step>>, WalkError<E>> {
    if inside.contains(&key) {
        let names: Vec<&str> = inside.iter().chain([&key]).map(|(id, _)| id.as_str()).collect();
        return Err(WalkError::Cycle(names.join(" → ")));
    }
    let inside = [inside, &[key]].concat();
    let step = |element: &OrderElement| Step::Buildpack { element: element.clone(), inside: inside.clone() };
    Ok(order.iter().map(|group| group.group.iter().map(step).collect()).collect())
}

/// An empty version stands for the only one at hand, as in `builder.toml`.
fn find<'a, D, E>(
    modules: &'a Modules<D>,
    kind: Kind,
    element: &OrderElement,
) -> Result<((String, String), &'a D), WalkError<E>> {
    let missing = || {
        let at = if element.version.is_empty() { "" } else { "@" };
        WalkError::Missing(kind, format!("{}{at}{}", element.id, element.version))
    };
    let folder = escape_id(&element.id);
    let mut found = modules.iter().filter(|((id, version), _)| {
        *id == folder && (element.version.is_empty() || *version == element.version)
    });
    let first = found.next().ok_or_else(missing)?;
    if element.version.is_empty() && found.next().is_some() {
        let id = &element.id;
        let which = format!(
            "{id}' without a version, although there are several; name one of them, for example '{id}@{}",
            first.0.1
        );
        return Err(WalkError::Missing(kind, which));
    }
    match first.1 {
        Ok(descriptor) => Ok(((element.id.clone(), first.0.1.clone()), descriptor)),
        Err(reason) => Err(WalkError::Broken(kind, format!("{}@{}", element.id, first.0.1), reason.clone())),
    }
}

/// Whether a buildpack is for an execution environment. One of an API without them is for all, whatever it says.
fn is_for_env(api: &str, envs: &[String], exec_env: &str) -> bool {
    let counts = api.parse().is_ok_and(BuildpackApi::has_exec_env);
    !counts || envs.is_empty() || envs.iter().any(|env| env == "*" || env == exec_env)
}

/// Why what is for some targets is not for this one, if it is not. What names none is for all.
fn unfit(targets: &[Target], target: &BuildTarget) -> Option<String> {
    if targets.is_empty() || targets.iter().any(|t| matches(t, target)) {
        return None;
    }
    let wanted: Vec<String> = targets.iter().map(describe).collect();
    let BuildTarget { os, arch, .. } = target;
    let distro = target.distro.as_ref().map(|(n, v)| format!(" on {n} {v}")).unwrap_or_default();
    let wanted = wanted.join(", ");
    Some(format!(
        "unable to satisfy target os/arch constraints: it builds for {wanted}, and the run image is for {os}/{arch}{distro}"
    ))
}

fn describe(target: &Target) -> String {
    let or_any = |text: &str| if text.is_empty() { "any".to_owned() } else { text.to_owned() };
    let distros: Vec<String> =
        target.distros.iter().map(|d| format!("{} {}", d.name, d.version).trim().to_owned()).collect();
    let on = if distros.is_empty() { String::new() } else { format!(" on {}", distros.join(" or ")) };
    format!("{}/{}{on}", or_any(&target.os), or_any(&target.arch))
}

/// Targets as written, or those that older `[[stacks]]` stand for. An empty list fits everything.
fn effective_targets(descriptor: &Descriptor) -> Vec<Target> {
    if !descriptor.targets.is_empty() {
        return descriptor.targets.clone();
    }
    let has_targets = descriptor.api.parse().is_ok_and(BuildpackApi::has_targets);
    let of_stack = |stack: &Stack| match stack.id.as_str() {
        "*" => Some(Target::default()),
        "io.buildpacks.stacks.bionic" if has_targets || descriptor.stacks.len() == 1 => Some(Target {
            os: "linux".into(),
            arch: "amd64".into(),
            distros: vec![Distro { name: "ubuntu".into(), version: "18.04".into() }],
            ..Target::default()
        }),
        _ => None,
    };
    descriptor.stacks.iter().filter_map(of_stack).collect()
}

/// Adds the operator's buildpacks to every group, but for those whose id the group has already (platform
/// specification, "system.toml").
pub fn add_system(order: &Order, system: &System) -> Order {
    let wanted = |group: &OrderGroup, extra: &[SystemBuildpack]| -> Vec<OrderElement> {
        let is_new = |b: &&SystemBuildpack| !group.group.iter().any(|element| element.id == b.id);
        let element = |b: &SystemBuildpack| OrderElement {
            id: b.id.clone(),
            version: b.version.clone(),
            optional: false,
        };
        extra.iter().filter(is_new).map(element).collect()
    };
    let merged = |group: &OrderGroup| {
        let mut all = wanted(group, &system.pre.buildpacks);
        all.extend(group.group.iter().cloned());
        all.extend(wanted(group, &system.post.buildpacks));
        OrderGroup { group: all }
    };
    order.iter().map(merged).collect()
}

fn matches(target: &Target, base: &BuildTarget) -> bool {
    let fits = |a: &str, b: &str| a.is_empty() || b.is_empty() || a == b;
    let distro = target.distros.is_empty()
        || base.distro.as_ref().is_some_and(|(name, version)| {
            target.distros.iter().any(|d| fits(&d.name, name) && fits(&d.version, version))
        });
    fits(&target.os, &base.os)
        && fits(&target.arch, &base.arch)
        && fits(&target.variant, &base.variant)
        && distro
}

/// What one `bin/detect` did.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DetectRun {
    /// Exit status; -1 when it could not be run, was killed, or wrote an invalid plan.
    pub code: i32,
    /// Its output.
    pub output: Vec<u8>,
    /// Its plan, when it passed.
    pub plan: BuildPlan,
    /// What went wrong when `code` is -1.
    pub error: Option<String>,
}

/// How much a line of the log matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Shown when asked for, and always when detection fails.
    Debug,
    /// The same for what a buildpack said, which some have heard while it was said.
    Output,
    /// Always shown.
    Info,
}

/// A line of the detector's log.
pub type Line = (Level, String);

/// Judges one group by what its buildpacks said. `complaints` get what is wrong with their plans.
pub fn judge(
    elements: &[Element],
    runs: &[DetectRun],
    log: &mut Vec<Line>,
    complaints: &mut BTreeSet<plan::Complaint>,
) -> Trial<(Group, Plan)> {
    let mut erred = false;
    let mut failed = false;
    for (element, run) in elements.iter().zip(runs) {
        log_output(element, run, log);
    }
    log.push((Level::Debug, "======== Results ========".into()));
    let mut passing = Vec::new();
    let mut has_buildpack = false;
    for (element, run) in elements.iter().zip(runs) {
        let label = element.buildpack.label();
        match run.code {
            0 => {
                log.push((Level::Debug, format!("pass: {label}")));
                has_buildpack |= element.kind == Kind::Buildpack;
                passing.push(Candidate { element: element.clone(), plan: run.plan.clone() });
                continue;
            }
            100 if element.optional => log.push((Level::Debug, format!("skip: {label}"))),
            100 => log.push((Level::Debug, format!("fail: {label}"))),
            -1 => log.push((Level::Info, format!("err:  {label}"))),
            code => log.push((Level::Info, format!("err:  {label} ({code})"))),
        }
        if !element.optional {
            failed |= run.code == 100;
            erred |= run.code != 100;
        }
    }
    if erred {
        return Trial::Errored;
    }
    if failed {
        return Trial::Failed;
    }
    if !has_buildpack {
        log.push((Level::Debug, "fail: no viable buildpacks in group".into()));
        return Trial::Failed;
    }
    match plan::resolve(&passing, log, complaints) {
        Some((chosen, plan)) => {
            let of_kind =
                |kind| chosen.iter().filter(|e| e.kind == kind).map(|e| e.buildpack.clone()).collect();
            let (group, group_extensions) = (of_kind(Kind::Buildpack), of_kind(Kind::Extension));
            Trial::Passed((Group { group, group_extensions }, plan))
        }
        None => Trial::Failed,
    }
}

fn log_output(element: &Element, run: &DetectRun, log: &mut Vec<Line>) {
    let level = if run.code == 0 || run.code == 100 { Level::Output } else { Level::Info };
    let label = element.buildpack.label();
    if !run.output.is_empty() {
        log.push((level, format!("======== Output: {label} ========")));
        log.push((level, String::from_utf8_lossy(&run.output).trim_end().to_owned()));
    }
    if let Some(error) = &run.error {
        log.push((level, format!("======== Error: {label} ========")));
        log.push((level, error.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use strata_spec::order::OrderFile;

    fn catalog(entries: &[(&str, &str)]) -> Catalog {
        let buildpack = |(id, extra): &(&str, &str)| {
            let text = format!("api = \"0.10\"\n[buildpack]\nid = \"{id}\"\nversion = \"1\"\n{extra}");
            ((id.to_string(), "1".to_owned()), Ok(Descriptor::parse(&text).unwrap()))
        };
        Catalog { buildpacks: entries.iter().map(buildpack).collect(), ..Catalog::default() }
    }

    fn with_extensions(mut catalog: Catalog, entries: &[(&str, &str)]) -> Catalog {
        let extension = |(id, extra): &(&str, &str)| {
            let text = format!("api = \"0.12\"\n[extension]\nid = \"{id}\"\nversion = \"1\"\n{extra}");
            ((id.to_string(), "1".to_owned()), Ok(extension::Descriptor::parse(&text).unwrap()))
        };
        catalog.extensions = entries.iter().map(extension).collect();
        catalog
    }

    /// All groups that a walk tries when none passes, as `a b?` strings.
    fn groups(order: &str, catalog: &Catalog) -> Result<Vec<String>, String> {
        groups_at(order, catalog, PlatformApi::NEWEST)
    }

    fn groups_at(order: &str, catalog: &Catalog, api: PlatformApi) -> Result<Vec<String>, String> {
        let order = OrderFile::parse(order).unwrap();
        let mut seen = Vec::new();
        let mut attempt = |elements: &[Element]| -> Result<Trial<()>, std::convert::Infallible> {
            let mark = |e: &Element| {
                let kind = if e.kind == Kind::Extension { "+" } else { "" };
                format!("{kind}{}{}", e.buildpack.id, if e.optional { "?" } else { "" })
            };
            seen.push(elements.iter().map(mark).collect::<Vec<_>>().join(" "));
            Ok(Trial::Failed)
        };
        let target = BuildTarget { os: "linux".into(), arch: "amd64".into(), ..Default::default() };
        match walk(&order, catalog, &target, api, &mut attempt) {
            Ok(_) => Ok(seen),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn composites_are_expanded_depth_first_with_what_follows_them() {
        let meta = "[[order]]\n[[order.group]]\nid=\"a\"\n[[order]]\n[[order.group]]\nid=\"b\"\n[[order.group]]\nid=\"c\"\noptional=true\n";
        let catalog = catalog(&[("a", ""), ("b", ""), ("c", ""), ("d", ""), ("m", meta)]);
        let order = "[[order]]\n[[order.group]]\nid=\"m\"\n[[order.group]]\nid=\"d\"\n[[order]]\n[[order.group]]\nid=\"c\"\n";
        assert_eq!(groups(order, &catalog).unwrap(), ["a d", "b c? d", "c"]);
        let optional = order.replacen("id=\"m\"", "id=\"m\"\noptional=true", 1);
        assert_eq!(groups(&optional, &catalog).unwrap(), ["a d", "b c? d", "d", "c"]);
    }

    #[test]
    fn groups_of_extensions_stand_before_groups_of_buildpacks_and_may_be_left_out() {
        let meta = "[[order]]\ngroup=[{id=\"a\"}]\n[[order]]\ngroup=[{id=\"b\"}]\n";
        let catalog = catalog(&[("a", ""), ("b", ""), ("m", meta)]);
        let other = "exec-env=[\"test\"]\n";
        let catalog = with_extensions(catalog, &[("x", ""), ("y", ""), ("a", ""), ("env", other)]);
        let extensions =
            "[[order-extensions]]\ngroup=[{id=\"x\"},{id=\"y\"}]\n[[order-extensions]]\ngroup=[{id=\"y\"}]\n";
        for (text, expected) in [
            ("[[order]]\ngroup=[{id=\"a\"}]\n", &["+x? +y? a", "+y? a", "a"][..]),
            (
                "[[order]]\ngroup=[{id=\"m\"},{id=\"b\",optional=true}]\n",
                &["+x? +y? a b?", "+x? +y? b", "+y? a b?", "+y? b", "a b?", "b"],
            ),
            ("", &[]),
        ] {
            assert_eq!(groups(&format!("{text}{extensions}"), &catalog).unwrap(), expected, "{text}");
        }
        let one = |id: &str| {
            format!("[[order]]\ngroup=[{{id=\"a\"}}]\n[[order-extensions]]\ngroup=[{{id=\"{id}\"}}]\n")
        };
        assert_eq!(groups(&one("a"), &catalog).unwrap(), ["+a? a", "a"]);
        assert_eq!(groups(&one("env"), &catalog).unwrap(), ["a", "a"]);
        assert_eq!(groups_at(&one("env"), &catalog, PlatformApi::V0_14).unwrap(), ["+env? a", "a"]);
        assert_eq!(
            groups(&one("b"), &catalog).unwrap_err(),
            "the order names extension 'b', which is not at hand"
        );
    }

    #[test]
    fn extensions_alone_are_no_group() {
        let element = |kind, id: &str| Element {
            kind,
            buildpack: GroupElement { id: id.into(), version: "1".into(), ..GroupElement::default() },
            optional: kind == Kind::Extension,
            unfit: None,
        };
        let elements = [element(Kind::Extension, "a"), element(Kind::Buildpack, "a")];
        let judged = |codes: [i32; 2], requires: &str| {
            let provides = BuildPlan::parse("[[provides]]\nname = \"x\"\n").unwrap();
            let plans = [provides, BuildPlan::parse(requires).unwrap()];
            let run = |(code, plan)| DetectRun { code, plan, ..DetectRun::default() };
            let runs: Vec<DetectRun> = codes.into_iter().zip(plans).map(run).collect();
            match judge(&elements, &runs, &mut Vec::new(), &mut BTreeSet::new()) {
                Trial::Passed((group, plan)) => Some((group.group_extensions.len(), group.group.len(), plan)),
                Trial::Failed | Trial::Errored => None,
            }
        };
        assert_eq!(judged([0, 100], ""), None);
        let (extensions, buildpacks, plan) = judged([0, 0], "[[requires]]\nname = \"x\"\n").unwrap();
        assert_eq!((extensions, buildpacks), (1, 1));
        assert!(plan.entries[0].providers[0].extension);
        // What nobody requires is left out.
        assert_eq!(judged([0, 0], "").map(|(extensions, ..)| extensions), Some(0));
        assert_eq!(judged([100, 0], "").map(|(extensions, ..)| extensions), Some(0));
        assert_eq!(judged([1, 0], "").map(|(extensions, ..)| extensions), Some(0));
    }

    #[test]
    fn the_first_of_an_id_wins() {
        let catalog = catalog(&[("a", ""), ("b", "")]);
        let order = "[[order]]\n[[order.group]]\nid=\"a\"\n[[order.group]]\nid=\"b\"\n[[order.group]]\nid=\"a\"\noptional=true\n";
        assert_eq!(groups(order, &catalog).unwrap(), ["a b"]);
    }

    #[test]
    fn a_buildpack_for_another_execution_environment_is_left_out() {
        let mut catalog = catalog(&[("a", ""), ("b", ""), ("old", "")]);
        for (id, api, env) in [("a", "0.12", "test"), ("b", "0.12", "*"), ("old", "0.11", "test")] {
            let descriptor =
                catalog.buildpacks.get_mut(&(id.to_owned(), "1".to_owned())).unwrap().as_mut().unwrap();
            descriptor.api = api.into();
            descriptor.buildpack.exec_env = vec![env.into()];
        }
        let order = "[[order]]\ngroup = [{ id = \"a\" }, { id = \"b\" }, { id = \"old\" }]\n";
        assert_eq!(groups(order, &catalog).unwrap(), ["b old"]);
        assert_eq!(groups_at(order, &catalog, PlatformApi::V0_14).unwrap(), ["a b old"]);
    }

    #[test]
    fn the_home_is_that_of_the_user() {
        let passwd =
            "root:x:0:0:root:/root:/bin/sh\nbroken\ncnb:x:1001:1000::/home/cnb:/bin/sh\nodd:x:7:7::rel:\n";
        for (uid, home) in [(0, "/root"), (1001, "/home/cnb"), (7, "/"), (8, "/")] {
            assert_eq!(home_of(passwd, uid), home, "{uid}");
        }
    }

    #[test]
    fn the_distribution_is_read_from_os_release() {
        let text = "NAME=\"Debian\"\nVERSION_ID=\"12\"\nID=debian\nID\n";
        assert_eq!(os_release(text), Some(("debian".into(), "12".into())));
        assert_eq!(os_release("ID\n"), None);
    }

    #[test]
    fn a_cycle_and_a_missing_buildpack_are_errors() {
        let to = |id: &str| format!("[[order]]\n[[order.group]]\nid=\"{id}\"\n");
        let catalog = catalog(&[("m", &to("n")), ("n", &to("m"))]);
        assert!(groups(&to("m"), &catalog).unwrap_err().contains("m → n → m"));
        assert!(groups(&to("x"), &catalog).unwrap_err().contains("'x'"));
    }

    #[test]
    fn a_buildpack_for_another_target_is_unfit() {
        let target = BuildTarget {
            os: "linux".into(),
            arch: "amd64".into(),
            variant: String::new(),
            distro: Some(("debian".into(), "12".into())),
            exec_env: "production".into(),
        };
        for (text, fits) in [
            ("", true),
            ("[[targets]]\nos=\"linux\"\n", true),
            ("[[targets]]\nos=\"windows\"\n", false),
            ("[[targets]]\narch=\"arm64\"\n[[targets]]\narch=\"amd64\"\n", true),
            ("[[targets]]\n[[targets.distros]]\nname=\"debian\"\n", true),
            ("[[targets]]\n[[targets.distros]]\nname=\"ubuntu\"\n", false),
            ("[[targets]]\nos=\"linux\"\nvariant=\"v8\"\n", true),
            ("[[stacks]]\nid=\"*\"\n", true),
            ("[[stacks]]\nid=\"io.buildpacks.stacks.bionic\"\n", false),
            ("[[stacks]]\nid=\"x\"\n[[stacks]]\nid=\"io.buildpacks.stacks.bionic\"\n", false),
            ("[[stacks]]\nid=\"io.buildpacks.stacks.bionic\"\n[[stacks]]\nid=\"*\"\n", true),
        ] {
            let catalog = catalog(&[("a", text)]);
            let descriptor = catalog.buildpacks.values().next().unwrap().as_ref().unwrap();
            assert_eq!(unfit(&effective_targets(descriptor), &target).is_none(), fits, "{text}");
        }
    }

    #[test]
    fn a_broken_buildpack_matters_only_where_a_group_asks_for_it() {
        let mut catalog = catalog(&[("a", ""), ("b", "")]);
        catalog.buildpacks.insert(("b".into(), "1".into()), Err("line 1".into()));
        let order = |id: &str| format!("[[order]]\n[[order.group]]\nid=\"{id}\"\n");
        assert_eq!(groups(&order("a"), &catalog).unwrap(), ["a"]);
        assert!(groups(&order("b"), &catalog).unwrap_err().contains("'b@1': line 1"));
    }

    #[test]
    fn system_buildpacks_surround_every_group_that_lacks_them() {
        let order =
            OrderFile::parse("[[order]]\n[[order.group]]\nid=\"a\"\nversion=\"1\"\n[[order]]\n").unwrap();
        let text = "[[system.pre.buildpacks]]\nid=\"p\"\n[[system.pre.buildpacks]]\nid=\"a\"\nversion=\"2\"\n\
                    [[system.post.buildpacks]]\nid=\"q\"\n";
        let system = strata_spec::system::SystemToml::parse(text).unwrap().system;
        let ids: Vec<Vec<String>> = add_system(&order.order, &system)
            .into_iter()
            .map(|group| group.group.into_iter().map(|element| element.id).collect())
            .collect();
        assert_eq!(ids, [vec!["p", "a", "q"], vec!["p", "a", "q"]]);
    }

    #[test]
    fn a_group_is_judged_by_its_required_members() {
        let element = |id: &str, optional| Element {
            buildpack: GroupElement {
                id: id.into(),
                version: "1".into(),
                api: "0.10".into(),
                ..Default::default()
            },
            optional,
            ..Element::default()
        };
        for (codes, expected) in [
            (&[(0, false)][..], "pass"),
            (&[(100, false)], "fail"),
            (&[(100, true)], "fail"),
            (&[(0, false), (100, true)], "pass"),
            (&[(0, false), (-1, true)], "pass"),
            (&[(0, false), (1, false)], "err"),
            (&[(100, false), (1, false)], "err"),
        ] {
            let elements: Vec<Element> = codes
                .iter()
                .enumerate()
                .map(|(i, (_, optional))| element(&format!("b{i}"), *optional))
                .collect();
            let runs: Vec<DetectRun> =
                codes.iter().map(|(code, _)| DetectRun { code: *code, ..Default::default() }).collect();
            let verdict = match judge(&elements, &runs, &mut Vec::new(), &mut BTreeSet::new()) {
                Trial::Passed(_) => "pass",
                Trial::Failed => "fail",
                Trial::Errored => "err",
            };
            assert_eq!(verdict, expected, "{codes:?}");
        }
    }
}
