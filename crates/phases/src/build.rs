//! The build phase: runs `bin/build` of each buildpack in order and gathers what they leave.

use crate::detect::{Detected, Surroundings, buildpack_api};
use crate::environment::{self, Own};
use crate::event::{Event, Observer};
use crate::failure::Failure;
use crate::files::{self, FileError};
use crate::found::{FoundLayer, find_layers, set_aside};
use crate::ground::Ground;
use crate::heard::Heard;
use crate::origins::Given;
use crate::origins::witness::{self, Witness};
use crate::process::Invocation;
use crate::sbom;
use crate::seal::{self, Pending, Sealing, Watch};
use std::path::Path;
use std::time::Instant;
use strata_decide::build::merge_launch;
use strata_decide::detect::Kind;
use strata_decide::sbom::About;
use strata_decide::seal::Choice;
use strata_decide::{annotation, bom, plan};
use strata_launch::env::Env;
use strata_spec::BuildpackApi;
use strata_spec::bom::BomEntry;
use strata_spec::build::BuildToml;
use strata_spec::buildpack::{Descriptor, escape_id};
use strata_spec::exit::Exit;
use strata_spec::group::GroupElement;
use strata_spec::launch::LaunchToml;
use strata_spec::metadata::Metadata;
use strata_spec::plan::{BuildpackPlan, Plan};
use strata_spec::sealed::SHARED;

/// What the buildpacks made, before anything of it is written for the phases that follow.
pub struct Built<'a> {
    outcome: Outcome,
    around: &'a Surroundings<'a>,
    seal: Option<Pending<'a>>,
    witness: Option<Witness<'a>>,
    started: Instant,
}

impl Built<'_> {
    /// Seals the layers for good and writes `config/metadata.toml` and `sbom/`. To be called once no process of a buildpack
    /// is left: it could change what is looked at and what is left.
    ///
    /// # Errors
    /// [`Exit::Build`] when that is not possible, or a process that was left over changed what it must not change.
    pub fn finish(mut self, observer: &dyn Observer) -> Result<Metadata, Failure> {
        let layers_dir = self.around.layers_dir;
        // What others did to SBOM files of sealed layers, or put where only those belong that are gathered now.
        self.seal.as_mut().map_or(Ok(()), |pending| pending.settle(observer))?;
        files::remove(&layers_dir.join("sbom")).map_err(|error| failed("clean the SBOM folder", &error))?;
        if self.around.api.has_sbom_layer() {
            let gone = sbom::collect(&self.outcome.sboms, layers_dir)
                .map_err(|error| failed("gather SBOM files", &error))?;
            for path in gone {
                let path = path.display();
                observer.warn(format!("{path} is gone: a later buildpack removed it, and no image has it"));
            }
        }
        let metadata = self.outcome.metadata;
        if self.around.api.has_legacy_sbom_files() {
            sbom::write_legacy(layers_dir, About::Launch, &metadata.bom)
                .and_then(|()| sbom::write_legacy(layers_dir, About::Build, &self.outcome.build_bom))
                .map_err(|error| failed("write the bill of materials", &error))?;
        }
        // `config` becomes a layer of its own: nothing that a buildpack put there may get into it.
        let config = layers_dir.join("config");
        files::remove(&config)
            .and_then(|()| files::write(&config.join("metadata.toml"), &metadata.to_toml(self.around.api)))
            .map_err(|error| failed("write the build's outcome", &error))?;
        self.witness.iter().for_each(|witness| witness.write(observer));
        self.seal.map_or(Ok(()), |pending| pending.finish(observer))?;
        let millis = self.started.elapsed().as_millis().try_into().unwrap_or(u64::MAX);
        observer.event(Event::PhaseFinished { phase: "build".into(), millis });
        Ok(metadata)
    }
}

fn failed(what: &str, error: &FileError) -> Failure {
    Failure::caused(Exit::Build, format!("failed to build: cannot {what}"), error)
}

/// Runs the buildpacks; [`Built::finish`] writes what they made.
///
/// `choice` says what becomes of changes to the layers of other buildpacks, `sealing` how layers are packed. `ground`
/// ends what each buildpack left running. With `witnessed`, it is taken down for the report which layers each buildpack
/// found.
///
/// # Errors
/// [`Exit::BuildpackBuild`] when a `bin/build` fails, [`Exit::Build`] when what it leaves is not valid, or it changed
/// what it must not change.
pub fn run<'a>(
    detected: &'a Detected,
    around: &'a Surroundings<'a>,
    choice: &'a Choice,
    sealing: &'a Sealing<'a>,
    witnessed: Option<&'a Given>,
    ground: &dyn Ground,
    observer: &dyn Observer,
) -> Result<Built<'a>, Failure> {
    let started = Instant::now();
    observer.event(Event::PhaseStarted { phase: "build".into() });
    let layers_dir = around.layers_dir;
    files::remove(&layers_dir.join("sbom")).map_err(|error| failed("clean the SBOM folder", &error))?;
    files::below(layers_dir, SHARED)
        .and_then(|shared| files::make_dir(&shared))
        .map_err(|error| failed("make the folder that buildpacks share", &error))?;
    seal::forget(layers_dir).map_err(|error| failed("forget what an earlier build sealed", &error))?;
    witness::forget(layers_dir).map_err(|error| failed("forget the build before", &error))?;
    let mut witness = witnessed.map(|given| Witness::new(layers_dir, &detected.group.group, given));
    let (outcome, seal) =
        seal::watch(&detected.group.group, choice, sealing, around.app_dir, ground, observer, |watch| {
            buildpacks(detected, around, watch, witness.as_mut(), ground, observer)
        })?;
    Ok(Built { outcome, around, seal, witness, started })
}

/// Runs the buildpacks one after the other.
fn buildpacks(
    detected: &Detected,
    around: &Surroundings<'_>,
    mut watch: Option<&mut Watch<'_>>,
    mut witness: Option<&mut Witness<'_>>,
    ground: &dyn Ground,
    observer: &dyn Observer,
) -> Result<Outcome, Failure> {
    let mut outcome = Outcome {
        metadata: Metadata {
            buildpacks: detected.group.group.clone(),
            extensions: detected.group.group_extensions.clone(),
            ..Metadata::default()
        },
        env: environment::base(around.variables),
        plan: detected.plan.clone(),
        sboms: Vec::new(),
        build_bom: Vec::new(),
    };
    for buildpack in &detected.group.group {
        let began = Instant::now();
        observer.event(Event::BuildpackStarted { buildpack: buildpack.label() });
        witness.iter_mut().for_each(|witness| witness.begin(buildpack));
        watch.as_mut().map_or(Ok(()), |watch| watch.before(buildpack))?;
        let layers = outcome.add(buildpack, around, ground, observer)?;
        if let Some(watch) = &mut watch {
            watch.after(buildpack, &layers, observer)?;
        }
        witness.iter_mut().for_each(|witness| witness.end(buildpack));
        let millis = began.elapsed().as_millis().try_into().unwrap_or(u64::MAX);
        let layers = layers.into_iter().map(|layer| layer.name).collect();
        observer.event(Event::BuildpackFinished { buildpack: buildpack.label(), millis, layers });
    }
    Ok(outcome)
}

/// What the buildpacks so far have made.
struct Outcome {
    metadata: Metadata,
    env: Env,
    plan: Plan,
    sboms: Vec<sbom::Found>,
    build_bom: Vec<BomEntry>,
}

impl Outcome {
    /// Runs one buildpack and takes over what it leaves. Gives its layers.
    fn add(
        &mut self,
        buildpack: &GroupElement,
        around: &Surroundings<'_>,
        ground: &dyn Ground,
        observer: &dyn Observer,
    ) -> Result<Vec<FoundLayer>, Failure> {
        let label = buildpack.label();
        let api = buildpack_api(&label, &buildpack.api)?;
        let dir = around.layers_dir.join(escape_id(&buildpack.id));
        let given = plan::of(&self.plan, Kind::Buildpack, &buildpack.id);
        let declared = run_buildpack(buildpack, api, around, &self.env, &given, &dir, observer)?;
        let left_over = ground.end_leftovers();
        if left_over > 0 {
            observer.warn(format!("buildpack {label} left {left_over} process(es) running; they were ended"));
        }
        let left = |what: &str, error: &FileError| {
            Failure::caused(Exit::Build, format!("failed to build: buildpack {label} left {what}"), error)
                .hint("the buildpack is at fault, not the app: mend it, or take another version of it")
        };
        let layers = find_layers(&dir).map_err(|error| left("a broken layer", &error))?;
        let layer_bom = layer_bom(buildpack, &layers);
        self.take_layers(&layers).map_err(|error| left("a layer that cannot be used", &error))?;
        let build = files::read(&dir.join("build.toml"), BuildToml::parse)
            .map_err(|error| left("a broken build.toml", &error))?
            .unwrap_or_default();
        let unmet: Vec<String> = build.unmet.iter().map(|unmet| unmet.name.clone()).collect();
        self.plan = plan::after(&self.plan, &given, &unmet).map_err(|name| {
            let message = format!("failed to build: buildpack {label}: unmet.name '{name}' in build.toml must match a requested dependency");
            Failure::new(Exit::Build, message)
        })?;
        let sboms = sbom::find(buildpack, &dir, &layers, &declared)
            .map_err(|error| left("an SBOM that cannot be used", &error))?;
        let launch = files::read(&dir.join("launch.toml"), |text| LaunchToml::parse(text, api))
            .map_err(|error| left("a broken launch.toml", &error))?
            .unwrap_or_default();
        launch.annotations.iter().try_for_each(|wanted| annotation::check(&wanted.key)).map_err(
            |problem| {
                let message = format!(
                    "failed to build: buildpack {label} left a launch.toml that cannot be used: {problem}"
                );
                Failure::new(Exit::Build, message)
                    .hint("the buildpack is at fault, not the app: mend it, or take another version of it")
            },
        )?;
        files::read(&dir.join("store.toml"), strata_spec::layer::Store::parse)
            .map_err(|error| left("a broken store.toml", &error))?;
        warn_of_old_ways(&label, &build, &launch, sboms.is_empty(), observer);
        self.sboms.extend(sboms);
        let by = |entry: BomEntry| entry.by(&buildpack.id, &buildpack.version);
        self.build_bom.extend(build.bom.into_iter().map(by));
        if let Some(kind) = merge_launch(&mut self.metadata, buildpack, launch) {
            observer.warn(format!(
                "redefining the following default process type with a process not marked as default: {kind}"
            ));
        }
        self.metadata.bom.extend(layer_bom.launch);
        self.build_bom.extend(layer_bom.build);
        Ok(layers)
    }

    /// Puts layers without a type aside, and build layers into the environment of the buildpacks that follow.
    fn take_layers(&mut self, layers: &[FoundLayer]) -> Result<(), FileError> {
        for layer in layers {
            if layer.toml.types.is_none() {
                set_aside(layer)?;
            } else if layer.toml.types.build && layer.dir.is_dir() {
                environment::add_build_layer(&mut self.env, &layer.dir)?;
            }
        }
        Ok(())
    }
}

/// The bills of materials of one buildpack's layers, by where they go.
struct LayerBom {
    launch: Vec<BomEntry>,
    build: Vec<BomEntry>,
}

fn layer_bom(buildpack: &GroupElement, layers: &[FoundLayer]) -> LayerBom {
    let mut all = LayerBom { launch: Vec::new(), build: Vec::new() };
    for layer in layers.iter().filter(|layer| !layer.toml.bom.is_empty()) {
        let to = bom::destinations(layer.toml.types, layer.is_present());
        let entries = bom::of_layer(buildpack, &layer.name, &layer.toml);
        all.launch.extend(entries.iter().filter(|_| to.launch).cloned());
        all.build.extend(entries.into_iter().filter(|_| to.build));
    }
    all
}

/// Tells buildpack authors what they should do otherwise today.
fn warn_of_old_ways(
    label: &str,
    build: &BuildToml,
    launch: &LaunchToml,
    has_no_sbom: bool,
    observer: &dyn Observer,
) {
    // With both, the author is on the way from one to the other.
    if has_no_sbom && !(build.bom.is_empty() && launch.bom.is_empty()) {
        observer.warn(format!(
            "buildpack {label} wrote a [[bom]] table, which is deprecated; \
             <layer>.sbom.<format>.json, launch.sbom.<format>.json and build.sbom.<format>.json replace it"
        ));
    }
    for (file, bom) in [("build.toml", &build.bom), ("launch.toml", &launch.bom)] {
        if bom.iter().any(|entry| entry.name.is_empty()) {
            observer.warn(format!("buildpack {label} wrote a [[bom]] entry without a name to {file}"));
        }
    }
    for kind in &launch.dropped_working_dirs {
        observer.warn(format!(
            "process working directory isn't supported in the API version of buildpack {label}; \
             ignoring it for process '{kind}'"
        ));
    }
}

/// Runs `bin/build` and passes its output on. Returns the SBOM formats that the buildpack declares.
fn run_buildpack(
    buildpack: &GroupElement,
    api: BuildpackApi,
    around: &Surroundings<'_>,
    env: &Env,
    given: &BuildpackPlan,
    layers: &Path,
    observer: &dyn Observer,
) -> Result<Vec<String>, Failure> {
    let label = buildpack.label();
    let other = |what: &str, cause: &dyn std::error::Error| {
        Failure::caused(Exit::Build, format!("failed to build: {what} for buildpack {label}"), cause)
    };
    let dir = around.buildpack_dir(&buildpack.id, &buildpack.version);
    std::fs::create_dir_all(layers).map_err(|error| other("cannot make the layers folder", &error))?;
    let temp = tempfile::Builder::new()
        .prefix("plan.")
        .tempdir_in(around.temp_dir)
        .map_err(|error| other("cannot make a temporary folder", &error))?;
    let plan_path = temp.path().join("plan.toml");
    files::write(&plan_path, &given.to_toml()).map_err(|error| other("cannot write the plan", &error))?;

    let shared = around.layers_dir.join(SHARED);
    let mut own_env = env.clone();
    let descriptor = files::read_given(&dir.join("buildpack.toml"), Descriptor::parse)
        .map_err(|error| other("cannot read buildpack.toml", &error))?
        .unwrap_or_default();
    environment::add_given(&mut own_env, around, descriptor.buildpack.clear_env)
        .map_err(|error| other("cannot read the given environment", &error))?;
    let own = Own {
        api,
        kind: Kind::Buildpack,
        dir: &dir,
        target: around.target,
        exec_env: Some(&around.target.exec_env),
        paths: vec![
            ("CNB_PLATFORM_DIR", around.platform_dir),
            ("CNB_BP_PLAN_PATH", &plan_path),
            ("CNB_LAYERS_DIR", layers),
            ("CNB_SHARED_LAYERS_DIR", &shared),
        ],
    };
    environment::add_own(&mut own_env, &own);
    let invocation = Invocation {
        program: dir.join("bin/build"),
        args: vec![layers.into(), around.platform_dir.into(), plan_path.clone().into()],
        env: environment::to_vec(&own_env),
        dir: around.app_dir.to_owned(),
    };
    let exit = Exit::BuildpackBuild;
    let program =
        Heard { kind: Kind::Buildpack, label: &label, name: "bin/build", invocation: &invocation, exit };
    program.run(observer)?;
    Ok(descriptor.buildpack.sbom_formats)
}
