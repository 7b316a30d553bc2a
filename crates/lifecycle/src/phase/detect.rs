//! The phase `detect`.

use super::Context;
use super::export::has_name;
use crate::documents;
use std::path::Path;
use strata_decide::analyze::build_target;
use strata_decide::detect::{BuildTarget, add_system, os_release};
use strata_phases::detect::{self, Detected, Surroundings};
use strata_phases::files::{self, Links};
use strata_phases::generate::{self, Input};
use strata_phases::{Failure, Observer};
use strata_spec::analyzed::Analyzed;
use strata_spec::exit::Exit;
use strata_spec::order::OrderFile;
use strata_spec::system::SystemToml;

/// The largest `/etc/os-release` that is read, in bytes.
const MAX_OS_RELEASE: usize = 64 * 1024;

pub(super) fn run(context: &Context<'_>) -> Result<(), Failure> {
    let Context { inputs, log, api, modes, .. } = context;
    let analyzed = documents::analyzed(inputs, log).map_err(initialize)?;
    let order = order(context)?;
    if !order.order_extensions.is_empty() && !api.has_stable_extensions() {
        modes.experimental(super::EXTENSIONS, log)?;
    }
    let detected = detect_order(context, &order, &analyzed)?;
    if detected.group.group_extensions.is_empty() {
        return Ok(());
    }
    generate(context, &detected, analyzed)
}

fn initialize(failure: Failure) -> Failure {
    let message =
        format!("failed to initialize detector: {}", failure.message.trim_start_matches("failed to "));
    Failure { message, ..failure }
}

/// Detects, and writes `group.toml` and `plan.toml`. Nothing is generated.
pub(super) fn detect(context: &Context<'_>, analyzed: &Analyzed) -> Result<Detected, Failure> {
    detect_order(context, &order(context)?, analyzed)
}

fn detect_order(context: &Context<'_>, order: &OrderFile, analyzed: &Analyzed) -> Result<Detected, Failure> {
    let Context { inputs, log, .. } = context;
    let has_extensions = !order.order_extensions.is_empty();
    let extensions_dir = has_extensions.then_some(inputs.extensions_dir.as_path());
    let catalog = detect::catalog(&inputs.buildpacks_dir, extensions_dir)?;
    detect::check_apis(order, &catalog)?;
    let target = target(context, analyzed);
    let variables = context.variables();
    let around = surroundings(context, &target, &variables);
    let timer = log.timer("Detector");
    let detected = detect::run(order, &catalog, &around, *log)?;
    drop(timer);
    documents::write(inputs, &inputs.group, "group", &detected.group.to_toml(), Exit::Other)?;
    documents::write(inputs, &inputs.plan, "plan", &detected.plan.to_toml(), Exit::Other)?;
    Ok(detected)
}

/// Lets image extensions generate, and writes what is new in `analyzed.toml` and `plan.toml`.
fn generate(context: &Context<'_>, detected: &Detected, analyzed: Analyzed) -> Result<(), Failure> {
    let Context { inputs, log, .. } = context;
    let known = documents::run(inputs, log).map_err(|failure| {
        let what = failure.message.trim_start_matches("failed to ");
        Failure { message: format!("failed to initialize generator: {what}"), ..failure }
    })?;
    let target = target(context, &analyzed);
    let variables = context.variables();
    let around = surroundings(context, &target, &variables);
    let timer = log.timer("Generator");
    let input = Input {
        group: &detected.group,
        plan: &detected.plan,
        around: &around,
        generated_dir: &inputs.generated_dir,
        run_image: analyzed.run_image.as_ref(),
        is_known: &|name| known.images.iter().any(|image| has_name(image, name)),
    };
    let generated = generate::run(&input, *log)?;
    drop(timer);
    let analyzed = Analyzed { run_image: generated.run_image, ..analyzed };
    documents::write(inputs, &inputs.analyzed, "analyzed", &analyzed.to_toml(), Exit::Other)?;
    documents::write(inputs, &inputs.plan, "plan", &generated.plan.to_toml(), Exit::Other)
}

/// The order, with the operator's buildpacks in every group.
fn order(context: &Context<'_>) -> Result<OrderFile, Failure> {
    let Context { inputs, log, api, .. } = context;
    let file = documents::read(inputs, &inputs.order, "order", OrderFile::parse).map_err(|failure| {
        let message = failure.message.replacen(
            "failed to read",
            "failed to initialize detector: reading order: failed to read",
            1,
        );
        Failure { message, ..failure }
    })?;
    if !api.has_system_buildpacks() {
        return Ok(file);
    }
    let system = files::read_given(&inputs.system, SystemToml::parse).map_err(|error| {
        Failure::caused(Exit::Other, "failed to initialize detector: reading system", &error)
    })?;
    let Some(SystemToml { system }) = system else {
        log.debug(format!("No system buildpacks at path {:?}", inputs.system));
        return Ok(file);
    };
    Ok(OrderFile { order: add_system(&file.order, &system), ..file })
}

/// What buildpacks build for. A run image that names no distribution has that of the build image.
pub(super) fn target(context: &Context<'_>, analyzed: &Analyzed) -> BuildTarget {
    let log = context.log;
    let mut from_file = || {
        log.detail("target distro name/version labels not found, reading /etc/os-release file".into());
        match files::read_bytes(Path::new("/etc/os-release"), Links::Follow, MAX_OS_RELEASE) {
            Ok(bytes) => os_release(&String::from_utf8_lossy(&bytes.unwrap_or_default())),
            Err(error) => {
                let cause = Failure::caused(Exit::Other, "cannot find out the distribution", &error);
                log.warn(cause.chain());
                None
            }
        }
    };
    build_target(analyzed, &context.inputs.exec_env, strata_store::host_architecture(), &mut from_file)
}

/// What detect and build run in.
pub(super) fn surroundings<'a>(
    context: &'a Context<'_>,
    target: &'a BuildTarget,
    variables: &'a [(std::ffi::OsString, std::ffi::OsString)],
) -> Surroundings<'a> {
    let inputs = &context.inputs;
    Surroundings {
        buildpacks_dir: &inputs.buildpacks_dir,
        extensions_dir: &inputs.extensions_dir,
        app_dir: &inputs.app_dir,
        platform_dir: &inputs.platform_dir,
        build_config_dir: &inputs.build_config_dir,
        layers_dir: &inputs.layers_dir,
        temp_dir: Path::new(context.environment.variable("TMPDIR").unwrap_or("/tmp")),
        variables,
        target,
        api: context.api,
    }
}
