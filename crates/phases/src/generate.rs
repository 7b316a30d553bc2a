//! Generation: runs `bin/generate` of the group's image extensions, and finds out what their Dockerfiles want
//! (image extension specification, "Generation"; platform specification, "detector").

use crate::detect::{module_api, wants_clear_env};
use crate::environment::{self, Own, Surroundings};
use crate::event::{Event, Observer};
use crate::failure::Failure;
use crate::files::{self, FileError, Links};
use crate::heard::Heard;
use crate::process::Invocation;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;
use strata_decide::detect::Kind as Of;
use strata_decide::generate::{self, Judged};
use strata_decide::plan;
use strata_spec::BuildpackApi;
use strata_spec::analyzed::RunImage;
use strata_spec::buildpack::escape_id;
use strata_spec::dockerfile::Dockerfile;
use strata_spec::exit::Exit;
use strata_spec::extend::{self, ExtendConfig, IGNORED, Kind, SHARED_CONTEXT};
use strata_spec::group::{Group, GroupElement};
use strata_spec::plan::{BuildpackPlan, Plan};

/// What the phase works on.
pub struct Input<'a> {
    /// What passed detection.
    pub group: &'a Group,
    /// Who provides what for whom.
    pub plan: &'a Plan,
    /// What extensions have around them.
    pub around: &'a Surroundings<'a>,
    /// Where what they generate goes.
    pub generated_dir: &'a Path,
    /// The run image, as analysis found it.
    pub run_image: Option<&'a RunImage>,
    /// Whether the builder knows a run image of that name. Any other name is one of a registry.
    pub is_known: &'a dyn Fn(&str) -> bool,
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Generated {
    /// What is left for the buildpacks to provide.
    pub plan: Plan,
    /// The run image now; whether it is to be extended is in it.
    pub run_image: Option<RunImage>,
    /// The image that has taken the place of the run image, if one has.
    pub new_run_image: Option<String>,
    /// The Dockerfiles that are to be applied, in order.
    pub dockerfiles: Vec<Made>,
}

/// A Dockerfile that is to be applied.
#[derive(Debug, Clone, PartialEq)]
pub struct Made {
    /// The extension that made it.
    pub extension: GroupElement,
    /// What it extends.
    pub kind: Kind,
    /// Where it is.
    pub path: PathBuf,
    /// What it says.
    pub text: String,
}

impl Generated {
    /// Whether an image of that kind is to be extended.
    pub fn extends(&self, kind: Kind) -> bool {
        self.dockerfiles.iter().any(|made| made.kind == kind)
    }
}

fn failed(extension: &GroupElement, what: &str, cause: &dyn std::error::Error) -> Failure {
    let message = format!("failed to build: {what} of extension {}", extension.label());
    Failure::caused(Exit::Generate, message, cause)
}

/// Runs the phase.
///
/// # Errors
/// [`Exit::ExtensionGenerate`] when a `bin/generate` fails, [`Exit::Generate`] when what it leaves is not valid or cannot be kept,
/// [`Exit::BuildpackApi`] when an extension has an API that is not supported.
pub fn run(input: &Input<'_>, observer: &dyn Observer) -> Result<Generated, Failure> {
    let api = input.around.api;
    let mut plan = input.plan.clone();
    let mut outputs = Vec::new();
    if !api.has_extension_contexts() {
        for kind in Kind::ALL {
            let forgotten =
                files::below(input.generated_dir, kind.as_str()).and_then(|dir| files::remove(&dir));
            forgotten.map_err(|error| {
                Failure::caused(Exit::Generate, "failed to build: cannot forget what was generated", &error)
            })?;
        }
    }
    for extension in &input.group.group_extensions {
        let began = Instant::now();
        observer.event(Event::ExtensionStarted { extension: extension.label() });
        let module = module_api(Of::Extension, &extension.label(), &extension.api)?;
        let given = plan::of(&plan, Of::Extension, &extension.id);
        outputs.push(Output::make(extension, module, &given, input, observer)?);
        // Nothing is left unmet, so nothing can be wrong with it.
        plan = plan::after(&plan, &given, &[]).unwrap_or(plan);
        let millis = began.elapsed().as_millis().try_into().unwrap_or(u64::MAX);
        observer.event(Event::ExtensionFinished { extension: extension.label(), millis });
    }
    let run_files: Vec<Judged> = outputs.iter().filter_map(|output| output.of(Kind::Run)).cloned().collect();
    let choice = generate::run_image(&run_files);
    let (run_image, new_run_image) = generate::chosen(input.run_image, &choice, api.has_targets());
    if let Some(image) = new_run_image.as_ref().filter(|image| !(input.is_known)(image)) {
        observer.warn(format!("new runtime base image '{image}' not found in run metadata"));
    }
    let mut dockerfiles = Vec::new();
    let mut number = 0;
    for output in outputs {
        let is_ignored = output.of(Kind::Run).is_some() && {
            number += 1;
            choice.ignored.contains(&(number - 1))
        };
        dockerfiles.extend(output.keep(is_ignored, input)?);
    }
    Ok(Generated { plan, run_image, new_run_image, dockerfiles })
}

/// What one extension has for us.
struct Output<'a> {
    extension: &'a GroupElement,
    /// Where it is.
    dir: PathBuf,
    /// Whether links in it are the operator's.
    links: Links,
    /// Its Dockerfiles: the kind, what it does, and its text.
    dockerfiles: Vec<(Kind, Judged, String)>,
    /// What is gone in the end.
    temp: tempfile::TempDir,
}

impl<'a> Output<'a> {
    fn make(
        extension: &'a GroupElement,
        api: BuildpackApi,
        given: &BuildpackPlan,
        input: &Input<'_>,
        observer: &dyn Observer,
    ) -> Result<Self, Failure> {
        let temp = tempfile::Builder::new()
            .prefix("generate.")
            .tempdir_in(input.around.temp_dir)
            .map_err(|error| failed(extension, "cannot make a temporary folder for generation", &error))?;
        let module = input.around.module_dir(Of::Extension, &extension.id, &extension.version);
        let has_program = module
            .join("bin/generate")
            .try_exists()
            .map_err(|error| failed(extension, "cannot look for bin/generate", &error))?;
        let own = own_folder(extension, input)?;
        let (dir, links) = if has_program {
            (own.unwrap_or_else(|| temp.path().join(escape_id(&extension.id))), Links::Refuse)
        } else {
            (module.join("generate"), Links::Follow)
        };
        let mut output = Self { extension, dir, links, dockerfiles: Vec::new(), temp };
        if has_program {
            output.generate(api, given, &module, input.around, observer)?;
        }
        output.read(input, observer)?;
        Ok(output)
    }

    /// Runs `bin/generate`.
    fn generate(
        &self,
        api: BuildpackApi,
        given: &BuildpackPlan,
        module: &Path,
        around: &Surroundings<'_>,
        observer: &dyn Observer,
    ) -> Result<(), Failure> {
        let failed = |what: &str, cause: &dyn std::error::Error| failed(self.extension, what, cause);
        files::make_dir(&self.dir).map_err(|error| failed("cannot make the output folder", &error))?;
        let plan_path = self.temp.path().join("plan.toml");
        files::write(&plan_path, &given.to_toml())
            .map_err(|error| failed("cannot write the plan", &error))?;
        let clear = wants_clear_env(Of::Extension, module)
            .map_err(|error| failed("cannot read extension.toml", &error))?;
        let mut env = environment::base(around.variables);
        environment::add_given(&mut env, around, clear)
            .map_err(|error| failed("cannot read the given environment", &error))?;
        let target = around.target;
        let own = Own { kind: Of::Extension, api, dir: module, target, exec_env: None, paths: Vec::new() };
        environment::add_own(&mut env, &own);
        // Whatever its API.
        for (name, path) in [
            ("CNB_BP_PLAN_PATH", plan_path.as_path()),
            ("CNB_OUTPUT_DIR", &self.dir),
            ("CNB_PLATFORM_DIR", around.platform_dir),
        ] {
            env.set(name, path.as_os_str());
        }
        let invocation = Invocation {
            program: module.join("bin/generate"),
            args: vec![self.dir.clone().into(), around.platform_dir.into(), plan_path.into()],
            env: environment::to_vec(&env),
            dir: around.app_dir.to_owned(),
        };
        let (label, exit) = (&self.extension.label(), Exit::ExtensionGenerate);
        Heard { kind: Of::Extension, label, name: "bin/generate", invocation: &invocation, exit }
            .run(observer)
    }

    /// What its Dockerfile of a kind does, if it has one.
    fn of(&self, kind: Kind) -> Option<&Judged> {
        self.dockerfiles.iter().find(|(own, ..)| *own == kind).map(|(_, judged, _)| judged)
    }

    fn read(&mut self, input: &Input<'_>, observer: &dyn Observer) -> Result<(), Failure> {
        let Self { extension, links, .. } = *self;
        let config = self.document(extend::CONFIG, ExtendConfig::parse);
        let config = config.map_err(|error| failed(extension, "validating extend config", &error))?;
        let config = config.unwrap_or_default();
        for kind in [Kind::Run, Kind::Build] {
            let name = kind.dockerfile();
            let failed =
                |error: &dyn std::error::Error| failed(extension, &format!("failed to parse {name}"), error);
            let text =
                self.document(name, |text| Dockerfile::parse(text).map(|file| (file, text.to_owned())));
            let Some((file, text)) = text.map_err(|error| failed(&error))? else { continue };
            let judged = generate::judge(kind, &file, config.args(kind), input.is_known)
                .map_err(|error| failed(&error))?;
            for warning in &judged.warnings {
                observer.warn(warning.clone());
            }
            self.dockerfiles.push((kind, judged, text));
        }
        let is_dir = |name: &str| {
            let path = self.dir.join(name);
            if links == Links::Follow {
                path.is_dir()
            } else {
                path.symlink_metadata().is_ok_and(|m| m.is_dir())
            }
        };
        if is_dir(SHARED_CONTEXT) && Kind::ALL.iter().any(|kind| is_dir(kind.context())) {
            let cause = "image-specific context dir is provided together with a shared context";
            return Err(failed(extension, "cannot tell the context", &io::Error::other(cause)));
        }
        Ok(())
    }

    fn document<T>(
        &self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, strata_spec::DocError>,
    ) -> Result<Option<T>, FileError> {
        let path = self.dir.join(name);
        if self.links == Links::Follow { files::read_given(&path, parse) } else { files::read(&path, parse) }
    }

    /// Leaves what was generated where the extender looks for it. A `run.Dockerfile` without effect is put aside.
    fn keep(self, is_ignored: bool, input: &Input<'_>) -> Result<Vec<Made>, Failure> {
        let extension = self.extension;
        let mut made = Vec::new();
        let failed = |error: FileError| failed(extension, "cannot keep what was generated", &error);
        for (kind, _, text) in &self.dockerfiles {
            let is_ignored = is_ignored && *kind == Kind::Run;
            let places = extend::Generated::of(&extension.id, *kind, input.around.api);
            let place = |path: &Path| files::below(input.generated_dir, path).map_err(failed);
            let path = place(&places.dockerfile)?;
            let aside = path.with_added_extension(IGNORED);
            files::write(if is_ignored { &aside } else { &path }, text).map_err(failed)?;
            if is_ignored {
                files::remove(&path).map_err(failed)?;
            }
            let (from, to) = (self.dir.join(extend::CONFIG), place(&places.config)?);
            let is_there =
                if self.links == Links::Follow { from.exists() } else { from.symlink_metadata().is_ok() };
            if from != to && is_there {
                files::copy(&from, self.links, &to).map_err(failed)?;
            }
            if !is_ignored {
                made.push(Made { extension: extension.clone(), kind: *kind, path, text: text.clone() });
            }
        }
        if self.links == Links::Follow && input.around.api.has_extension_contexts() {
            let own = files::below(input.generated_dir, escape_id(&extension.id)).map_err(failed)?;
            for name in [SHARED_CONTEXT, Kind::Build.context(), Kind::Run.context()] {
                let from = self.dir.join(name);
                if from.is_dir() {
                    copy_tree(&from, &own.join(name))
                        .map_err(|source| failed(FileError::Io { action: "copy", path: from, source }))?;
                }
            }
        }
        Ok(made)
    }
}

/// The folder of an extension in the generated directory, with nothing of an earlier build in it; none before Platform
/// API 0.13.
fn own_folder(extension: &GroupElement, input: &Input<'_>) -> Result<Option<PathBuf>, Failure> {
    if !input.around.api.has_extension_contexts() {
        return Ok(None);
    }
    let dir = files::below(input.generated_dir, escape_id(&extension.id));
    let dir = dir.and_then(|dir| files::remove(&dir).map(|()| dir));
    dir.map(Some).map_err(|error| failed(extension, "cannot forget what was generated", &error))
}

/// Copies a folder: folders, files and links, with their modes.
fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type()?;
        if kind.is_dir() {
            copy_tree(&source, &target)?;
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(std::fs::read_link(&source)?, &target)?;
        } else if kind.is_file() {
            std::fs::copy(&source, &target)?;
        } else {
            return Err(io::Error::other(format!("{} is no file, folder or link", source.display())));
        }
    }
    std::fs::set_permissions(to, from.metadata()?.permissions())
}
