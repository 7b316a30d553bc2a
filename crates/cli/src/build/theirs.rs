//! The builder image's own lifecycle: its detector and its builder run in the sandbox in place of Strata's phases. What
//! they leave is exported as what Strata's leave.

use super::said::{APP, BUILDPACKS, Described, LAYERS, PLATFORM};
use crate::args;
use crate::builder::Kit;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Instant;
use strata_decide::detect::BuildTarget;
use strata_oci::ImageConfig;
use strata_phases::detect::Explained;
use strata_phases::process::{Ended, Invocation, Lines, run};
use strata_phases::{Event, Failure, Observer, files};
use strata_spec::PlatformApi;
use strata_spec::analyzed::{Analyzed, Distro, RunImage, Target};
use strata_spec::exit::Exit;
use strata_spec::group::{Group, GroupElement};
use strata_spec::labels;
use strata_spec::lifecycle::{Apis, Lifecycle};
use strata_spec::order::Order;
use strata_spec::plan::Plan;

/// Where a builder image has its lifecycle.
const HOME: &str = "/cnb/lifecycle";

/// What is known of the lifecycle that the command line asks for, if it is the builder's own.
pub(super) fn asked(args: &args::Build, kit: &Kit) -> Option<Described> {
    let is_asked = args.lifecycle == args::LifecycleArg::Builder;
    kit.build_image.as_ref().filter(|_| is_asked).map(|image| Described::by_label(&image.config))
}

impl Described {
    /// What the label of the builder says; nothing when it does not.
    fn by_label(config: &ImageConfig) -> Self {
        let label = config.label(labels::BUILDER_METADATA).unwrap_or_default();
        let label: serde_json::Value = serde_json::from_str(label).unwrap_or_default();
        let lifecycle = &label["lifecycle"];
        let platform = &lifecycle["apis"]["platform"];
        let lists = ["supported", "deprecated"].iter().filter_map(|name| platform[*name].as_array());
        let apis = lists.flatten().filter_map(|api| api.as_str().map(str::to_owned)).collect();
        Self { version: lifecycle["version"].as_str().unwrap_or("of no version").to_owned(), apis }
    }

    /// What a file of the image says, which labels may leave out.
    fn by_file() -> Result<Option<Self>, files::FileError> {
        let found = files::read_given(&Path::new(HOME).join("lifecycle.toml"), Lifecycle::parse)?;
        Ok(found.map(|found| {
            let Apis { supported, deprecated } = found.apis.platform;
            Self { version: found.lifecycle.version, apis: supported.into_iter().chain(deprecated).collect() }
        }))
    }
}

/// The lifecycle of the builder image, with what its phases are given.
pub(crate) struct Theirs<'a> {
    api: PlatformApi,
    variables: &'a [(OsString, OsString)],
    exec_env: &'a str,
    /// Documents for its phases, and nothing else.
    given: tempfile::TempDir,
}

impl<'a> Theirs<'a> {
    pub(crate) fn find(
        described: &Described,
        order: &Order,
        target: &'a BuildTarget,
        variables: &'a [(OsString, OsString)],
        observer: &dyn Observer,
    ) -> Result<Self, Failure> {
        let what = "cannot use the builder's own lifecycle";
        let refused = |problem: String| {
            Failure::new(Exit::InvalidArguments, format!("{what}: {problem}"))
                .hint("leave out --lifecycle, to build with Strata's own phases")
        };
        let failed = |error: &dyn std::error::Error| Failure::caused(Exit::Other, what, error);
        let by_file = if described.apis.is_empty() { Described::by_file() } else { Ok(None) };
        let by_file = by_file.map_err(|error| failed(&error))?;
        let Described { version, apis } = by_file.as_ref().unwrap_or(described);
        let has = |api: &&PlatformApi| apis.contains(&api.to_string());
        let api = *PlatformApi::ALL.iter().filter(has).max().ok_or_else(|| match apis.as_slice() {
            [] => refused("neither a label nor a lifecycle.toml describes one".to_owned()),
            apis => refused(format!("it knows the platform APIs {}, none of them ours", apis.join(", "))),
        })?;
        let is_absent = |name: &&str| !Path::new(HOME).join(name).is_file();
        if let Some(name) = ["detector", "builder"].into_iter().find(is_absent) {
            return Err(refused(format!("there is no {HOME}/{name}")));
        }
        let given = tempfile::Builder::new().prefix("given.").tempdir_in("/tmp").map_err(|e| failed(&e))?;
        files::write(&given.path().join("order.toml"), &order_toml(order))
            .and_then(|()| files::write(&given.path().join("analyzed.toml"), &analyzed(target).to_toml()))
            .map_err(|error| failed(&error))?;
        observer.info(format!("Lifecycle of the builder: {version}, with platform API {api}"));
        Ok(Self { api, variables, exec_env: &target.exec_env, given })
    }

    /// Runs its detector; the group that builds.
    pub(crate) fn detect(&self, observer: &dyn Observer) -> Result<Vec<GroupElement>, Failure> {
        self.phase("detect", "detector", observer, |code| match code {
            11 => Exit::PlatformApi,
            12 => Exit::BuildpackApi,
            20 => Exit::DetectFailed,
            21 => Exit::DetectError,
            _ => Exit::Detect,
        })?;
        let path = Path::new(LAYERS).join("group.toml");
        let what = "the builder's detector left no group";
        let group = files::read(&path, Group::parse)
            .map_err(|error| Failure::caused(Exit::Detect, what, &error))?
            .ok_or_else(|| Failure::new(Exit::Detect, format!("{what}: there is no {}", path.display())))?;
        Ok(group.group)
    }

    /// Runs its detector for those who only want to know who takes part. What became of each group it does not tell.
    pub(crate) fn explain(&self, observer: &dyn Observer) -> Result<Explained, Failure> {
        let group = match self.detect(observer) {
            Err(failure) if matches!(failure.exit, Exit::DetectFailed | Exit::DetectError) => {
                let has_error = failure.exit == Exit::DetectError;
                return Ok(Explained { has_error, ..Explained::default() });
            }
            group => group?,
        };
        let what = "the plan of the builder's detector is wrong";
        let plan = files::read(&Path::new(LAYERS).join("plan.toml"), Plan::parse)
            .map_err(|error| Failure::caused(Exit::Detect, what, &error))?;
        Ok(Explained { group, plan: plan.unwrap_or_default(), ..Explained::default() })
    }

    /// Runs its builder.
    pub(crate) fn build(&self, observer: &dyn Observer) -> Result<(), Failure> {
        self.phase("build", "builder", observer, |code| match code {
            11 => Exit::PlatformApi,
            12 => Exit::BuildpackApi,
            51 => Exit::BuildpackBuild,
            _ => Exit::Build,
        })
    }

    fn phase(
        &self,
        phase: &str,
        program: &str,
        observer: &dyn Observer,
        exit: fn(i32) -> Exit,
    ) -> Result<(), Failure> {
        let began = Instant::now();
        observer.event(Event::PhaseStarted { phase: phase.to_owned() });
        let mut lines = Lines::default();
        let mut on_line =
            |line: String| observer.event(Event::Output { buildpack: program.to_owned(), line });
        let ended = run(&self.invocation(program), &mut |bytes| lines.feed(bytes, &mut on_line));
        lines.finish(&mut on_line);
        strata_sandbox::kill_leftovers();
        let message = format!("failed to {phase}: the builder's own {HOME}/{program}");
        match ended.map(|run| run.ended) {
            Ok(Ended::Code(0)) => {
                let millis = began.elapsed().as_millis().try_into().unwrap_or(u64::MAX);
                observer.event(Event::PhaseFinished { phase: phase.to_owned(), millis });
                Ok(())
            }
            Ok(ended) => {
                let code = if let Ended::Code(code) = ended { code } else { 1 };
                Err(Failure::new(exit(code), format!("{message} ended with {ended}")))
            }
            Err(error) => Err(Failure::caused(exit(1), message + " cannot be run", &error)),
        }
    }

    fn invocation(&self, program: &str) -> Invocation {
        let in_layers = |name: &str| Path::new(LAYERS).join(name);
        let in_given = |name: &str| self.given.path().join(name);
        let mut flags: Vec<(&str, PathBuf)> = vec![
            ("-app", APP.into()),
            ("-layers", LAYERS.into()),
            ("-platform", PLATFORM.into()),
            ("-buildpacks", BUILDPACKS.into()),
            ("-group", in_layers("group.toml")),
            ("-plan", in_layers("plan.toml")),
        ];
        if program == "detector" {
            flags.push(("-order", in_given("order.toml")));
        }
        if self.api.has_targets() {
            flags.push(("-analyzed", in_given("analyzed.toml")));
        }
        let mut env = self.variables.to_vec();
        env.push(("CNB_PLATFORM_API".into(), self.api.to_string().into()));
        if self.api.has_exec_env() {
            env.push(("CNB_EXEC_ENV".into(), self.exec_env.into()));
        }
        Invocation {
            program: Path::new(HOME).join(program),
            args: flags.into_iter().flat_map(|(name, path)| [name.into(), path.into_os_string()]).collect(),
            env,
            dir: APP.into(),
        }
    }
}

/// The order that was decided on, as the platform specification has it.
fn order_toml(order: &Order) -> String {
    // What JSON calls a string is one in TOML.
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let mut text = String::new();
    for group in order {
        text.push_str("[[order]]\n");
        for one in &group.group {
            text.push_str(&format!("[[order.group]]\nid = {}\n", quoted(&one.id)));
            if !one.version.is_empty() {
                text.push_str(&format!("version = {}\n", quoted(&one.version)));
            }
            text.push_str(&format!("optional = {}\n", one.optional));
        }
    }
    text
}

/// What an analyzer would have found out of the run image's target.
fn analyzed(target: &BuildTarget) -> Analyzed {
    let distro = target.distro.clone().map(|(name, version)| Distro { name, version });
    let target = Target {
        os: target.os.clone(),
        arch: target.arch.clone(),
        variant: target.variant.clone(),
        distro,
        ..Target::default()
    };
    Analyzed {
        run_image: Some(RunImage { target: Some(target), ..RunImage::default() }),
        ..Analyzed::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use strata_spec::order::{OrderElement, OrderFile, OrderGroup};

    #[test]
    fn an_order_is_read_as_it_was_written() {
        let element = |id: &str, version: &str, optional| OrderElement {
            id: id.to_owned(),
            version: version.to_owned(),
            optional,
        };
        let group = vec![element("a/b", "1.0", true), element("quo\"te", "", false)];
        let order: Order = vec![OrderGroup { group }, OrderGroup { group: vec![element("c", "2", false)] }];
        assert_eq!(OrderFile::parse(&order_toml(&order)).unwrap().order, order);
    }
}
