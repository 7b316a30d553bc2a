//! Tests of the resolution of inputs. The cases are those of the reference lifecycle's `platform` package.

use super::check::{ArgumentError, InputError, RunImageSource, select_run_image};
use super::*;
use strata_spec::PlatformApi;
use strata_spec::phase::Phase;
use strata_spec::run::RunImage;

/// Flags as `name=value`, variables as `NAME=value`.
fn resolve_in(phase: Phase, flags: &[&str], env: &[&str], existing: &[&str]) -> Result<Inputs, IdError> {
    let mut given = Given::default();
    for flag in flags {
        let (name, value) = flag.split_once('=').unwrap();
        let input = table::INPUTS.iter().find(|input| input.flag == name).unwrap();
        given.push(input, Value::parse(input.kind, value).unwrap());
    }
    let pairs = env.iter().map(|pair| pair.split_once('=').unwrap());
    let env = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let makes_image = Names::of(phase, &[]).is_err();
    let arguments = if makes_image { vec!["some/image".to_owned()] } else { Vec::new() };
    let names = Names::of(phase, &arguments).unwrap();
    let exists = |path: &Path| existing.iter().any(|known| Path::new(known) == path);
    Inputs::resolve(Sources { flags: &given, env: &env }, names, Path::new("/here"), &exists)
}

fn resolve(flags: &[&str], env: &[&str]) -> Inputs {
    resolve_in(Phase::Create, flags, env, &[]).unwrap()
}

#[test]
fn a_flag_wins_over_a_variable_and_that_over_the_default() {
    assert_eq!(resolve(&[], &[]).app_dir, Path::new("/workspace"));
    assert_eq!(resolve(&[], &["CNB_APP_DIR=/env"]).app_dir, Path::new("/env"));
    assert_eq!(resolve(&["app=/flag"], &["CNB_APP_DIR=/env"]).app_dir, Path::new("/flag"));
    assert_eq!(resolve(&["app=/a", "app=/b"], &[]).app_dir, Path::new("/b"));
}

#[test]
fn empty_means_unset() {
    assert_eq!(resolve(&[], &["CNB_APP_DIR="]).app_dir, Path::new("/workspace"));
    assert_eq!(resolve(&["cache-image="], &[]).cache_image, None);
    assert_eq!(resolve(&["cache-dir="], &[]).cache_dir, None);
    assert_eq!(resolve(&["run-image="], &["CNB_RUN_IMAGE=some/run"]).run_image, None);
    assert_eq!(resolve(&[], &["CNB_USER_ID="]).uid, 0);
}

#[test]
fn files_lie_below_the_layers_directory_unless_they_are_given() {
    let inputs = resolve(&["layers=some/layers"], &["CNB_PLAN_PATH=<layers>/x/plan.toml"]);
    assert_eq!(inputs.layers_dir, Path::new("/here/some/layers"));
    assert_eq!(inputs.group, Path::new("some/layers/group.toml"));
    assert_eq!(inputs.plan, Path::new("some/layers/x/plan.toml"));
    assert_eq!(inputs.generated_dir, Path::new("/here/some/layers/generated"));
    assert_eq!(inputs.extended_dir, Path::new("some/layers/extended"));
    assert_eq!(resolve(&[], &["CNB_GROUP_PATH=./custom.toml"]).group, Path::new("./custom.toml"));
    assert_eq!(resolve(&["layers="], &[]).group, Path::new("group.toml"));
}

#[test]
fn directories_become_absolute_and_clean() {
    for (given, expected) in [
        ("a/../b/./c", "/here/b/c"),
        ("../up", "/up"),
        ("../../../up", "/up"),
        ("/x//y/", "/x/y"),
        (".", "/here"),
    ] {
        assert_eq!(resolve(&[&format!("app={given}")], &[]).app_dir, Path::new(expected), "{given}");
    }
}

#[test]
fn the_builders_order_is_taken_when_the_default_is_not_there() {
    for (flags, env, existing, expected) in [
        (vec![], vec![], vec![], "/cnb/order.toml"),
        (vec![], vec![], vec!["/layers/order.toml"], "/layers/order.toml"),
        (vec!["layers=/l"], vec![], vec!["/l/order.toml"], "/l/order.toml"),
        (vec!["order=mine.toml"], vec![], vec![], "mine.toml"),
        (vec![], vec!["CNB_ORDER_PATH=/env.toml"], vec![], "/env.toml"),
    ] {
        let inputs = resolve_in(Phase::Detect, &flags, &env, &existing).unwrap();
        assert_eq!(inputs.order, Path::new(expected));
    }
}

#[test]
fn values_of_variables_that_are_malformed_are_as_if_not_given_except_users() {
    let inputs = resolve(&[], &["CNB_USE_DAEMON=yes", "CNB_KANIKO_CACHE_TTL=x"]);
    assert!(!inputs.use_daemon);
    assert_eq!(inputs.kaniko_cache_ttl.to_string(), "336h0m0s");
    for value in ["root", "4294967296", "-1", "0x10"] {
        let error = resolve_in(Phase::Create, &[], &[&format!("CNB_USER_ID={value}")], &[]).unwrap_err();
        assert_eq!((error.variable.as_str(), error.value.as_str()), ("CNB_USER_ID", value));
    }
    assert_eq!(resolve(&["gid=3"], &["CNB_GROUP_ID=x"]).gid, 3);
}

#[test]
fn skipping_layers_has_two_variables_and_a_flag() {
    assert!(!resolve(&[], &[]).skip_layers);
    assert!(resolve(&[], &["CNB_SKIP_LAYERS=true"]).skip_layers);
    assert!(resolve(&[], &["CNB_SKIP_LAYERS=false", "CNB_SKIP_RESTORE=1"]).skip_layers);
    assert!(!resolve(&["skip-restore=false"], &["CNB_SKIP_RESTORE=1"]).skip_layers);
    assert!(resolve(&["skip-layers=true"], &[]).skip_layers);
}

#[test]
fn lists_have_the_variables_elements_first_and_no_empty_ones() {
    let inputs =
        resolve(&["insecure-registry=c", "insecure-registry=d"], &["CNB_INSECURE_REGISTRIES=a, b,,"]);
    assert_eq!(inputs.insecure_registries, ["a", " b", "c", "d"]);
    assert_eq!(resolve(&["tag=a", "tag=b"], &[]).tags, ["a", "b"]);
}

#[test]
fn layouts_can_be_asked_for_as_early_drafts_did() {
    for (flags, env, expected) in [
        (vec![], vec![], (false, None)),
        (vec!["layout=true"], vec![], (true, None)),
        (vec!["layout=true", "layout-dir=/x"], vec![], (true, Some("/x"))),
        (vec![], vec!["CNB_USE_LAYOUT=true", "CNB_LAYOUT_DIR=/x"], (true, Some("/x"))),
        (vec!["oci=true"], vec![], (true, Some("/oci"))),
        (vec![], vec!["CNB_USE_OCI=true"], (true, Some("/oci"))),
        (vec![], vec!["CNB_USE_OCI=true", "CNB_OCI_PATH=/y"], (true, Some("/y"))),
        (vec!["oci=true"], vec!["CNB_LAYOUT_DIR=/x", "CNB_OCI_PATH=/y"], (true, Some("/x"))),
        (vec!["oci-dir=/y"], vec!["CNB_USE_LAYOUT=1", "CNB_LAYOUT_DIR=/x"], (true, Some("/y"))),
        (vec!["layout=false"], vec!["CNB_USE_OCI=true"], (false, Some("/oci"))),
    ] {
        let inputs = resolve(&flags, &env);
        let found = (inputs.use_layout, inputs.layout_dir.as_deref());
        assert_eq!(found, (expected.0, expected.1.map(Path::new)), "{flags:?} {env:?}");
    }
}

#[test]
fn each_phase_takes_its_number_of_names() {
    let names = |count: usize| vec!["a".to_owned(); count];
    for (phase, count, expected) in [
        (Phase::Analyze, 0, Some(ArgumentError::NotOne(0))),
        (Phase::Analyze, 1, None),
        (Phase::Create, 2, Some(ArgumentError::NotOne(2))),
        (Phase::Export, 0, Some(ArgumentError::None)),
        (Phase::Export, 3, None),
        (Phase::Rebase, 0, Some(ArgumentError::None)),
        (Phase::Detect, 0, None),
        (Phase::Detect, 1, Some(ArgumentError::Unexpected)),
        (Phase::Build, 1, Some(ArgumentError::Unexpected)),
        (Phase::Extend, 1, Some(ArgumentError::Unexpected)),
        (Phase::Restore, 1, Some(ArgumentError::UnexpectedByRestorer)),
    ] {
        assert_eq!(Names::of(phase, &names(count)).err(), expected, "{phase:?} {count}");
    }
}

#[test]
fn the_run_image_is_looked_up_where_the_phase_and_the_version_say() {
    use PlatformApi::{V0_11, V0_12};
    for (phase, api, flags, env, expected) in [
        (Phase::Analyze, V0_11, vec![], vec![], Ok(RunImageSource::StackFile)),
        (Phase::Analyze, V0_12, vec![], vec![], Ok(RunImageSource::RunFile)),
        (Phase::Analyze, V0_12, vec!["run-image=r"], vec![], Ok(RunImageSource::Settled)),
        (Phase::Create, V0_11, vec![], vec![], Ok(RunImageSource::StackFile)),
        (Phase::Create, V0_12, vec![], vec!["CNB_RUN_IMAGE=r"], Ok(RunImageSource::Settled)),
        (Phase::Export, V0_12, vec![], vec!["CNB_RUN_IMAGE=r"], Ok(RunImageSource::Analyzed)),
        (Phase::Export, V0_12, vec!["run-image=r"], vec!["CNB_RUN_IMAGE=r"], Ok(RunImageSource::Analyzed)),
        (Phase::Export, V0_12, vec!["run-image=r"], vec![], Err(InputError::RunImageFlag)),
        (Phase::Export, V0_12, vec!["run-image="], vec!["CNB_RUN_IMAGE=r"], Ok(RunImageSource::Analyzed)),
        (Phase::Export, V0_12, vec!["image=r"], vec![], Err(InputError::ImageFlag)),
        (Phase::Rebase, V0_12, vec![], vec![], Ok(RunImageSource::Settled)),
        (Phase::Rebase, V0_12, vec!["image=r"], vec![], Ok(RunImageSource::Settled)),
        (Phase::Rebase, V0_12, vec!["image=r", "run-image=s"], vec![], Err(InputError::TwoRunImages)),
        (Phase::Detect, V0_12, vec![], vec![], Ok(RunImageSource::Settled)),
    ] {
        let mut inputs = resolve_in(phase, &flags, &env, &[]).unwrap();
        assert_eq!(inputs.complete(phase, api), expected, "{phase:?} {api} {flags:?}");
        if flags == ["image=r"] && phase == Phase::Rebase {
            assert_eq!(inputs.run_image.as_deref(), Some("r"));
        }
    }
}

#[test]
fn the_previous_image_is_the_image_itself_unless_given() {
    let mut inputs = resolve(&[], &[]);
    inputs.complete(Phase::Create, PlatformApi::NEWEST).unwrap();
    assert_eq!(inputs.previous_image.as_deref(), Some("some/image"));
    let mut inputs = resolve(&["previous-image=other"], &[]);
    inputs.complete(Phase::Create, PlatformApi::NEWEST).unwrap();
    assert_eq!(inputs.previous_image.as_deref(), Some("other"));
    inputs.output_image = None;
    assert_eq!(inputs.complete(Phase::Create, PlatformApi::NEWEST), Err(InputError::NoImage));
}

#[test]
fn the_exporter_needs_an_analyzed_run_image() {
    let mut inputs = resolve_in(Phase::Export, &[], &[], &[]).unwrap();
    for absent in [None, Some("")] {
        assert_eq!(inputs.set_analyzed_run_image(absent), Err(InputError::NotAnalyzed));
    }
    inputs.set_analyzed_run_image(Some("/layouts/a@sha256:0")).unwrap();
    assert_eq!(inputs.check(Phase::Export, &mut |_| ()), Ok(()));
}

#[test]
fn what_is_probably_not_meant_is_said_in_order() {
    const NO_CACHE: &str = "No cached data";
    const LAUNCH: &str = "Ignoring -launch-cache";
    const PARALLEL: &str = "Parallel export";
    for (phase, flags, expected) in [
        (Phase::Create, vec!["launch-cache=/c", "parallel=true"], vec![NO_CACHE, LAUNCH, PARALLEL]),
        (Phase::Create, vec!["launch-cache=/c", "daemon=true", "cache-dir=/d", "parallel=true"], vec![]),
        (Phase::Analyze, vec!["launch-cache=/c", "parallel=true"], vec![LAUNCH, PARALLEL]),
        (Phase::Export, vec!["parallel=true"], vec![NO_CACHE]),
        (Phase::Restore, vec![], vec![NO_CACHE]),
        (Phase::Restore, vec!["cache-image=c"], vec![]),
        (Phase::Rebase, vec![], vec![]),
        (Phase::Detect, vec![], vec![]),
    ] {
        let mut said = Vec::new();
        let inputs = resolve_in(phase, &flags, &[], &[]).unwrap();
        inputs.check(phase, &mut |text| said.push(text.to_owned())).unwrap();
        assert_eq!(said.len(), expected.len(), "{phase:?} {said:?}");
        assert!(said.iter().zip(expected).all(|(said, start)| said.starts_with(start)), "{said:?}");
    }
}

#[test]
fn names_are_well_formed_and_on_one_registry() {
    let check = |flags: &[&str]| resolve(flags, &[]).check(Phase::Create, &mut |_| ());
    assert_eq!(check(&["tag=docker.io/other/image"]), Ok(()));
    assert_eq!(check(&["tag=example.com/other"]), Err(InputError::SeveralRegistries));
    assert_eq!(check(&["tag=example.com/other", "daemon=true"]), Ok(()));
    assert!(matches!(check(&["cache-image=UPPER/Case:?"]), Err(InputError::Reference(_))));
    assert!(matches!(check(&["previous-image=a b"]), Err(InputError::Reference(_))));
}

#[test]
fn registry_images_are_all_images_or_the_cache_beside_a_daemon() {
    let flags = ["tag=t", "tag=t", "previous-image=p", "cache-image=c", "run-image=t"];
    assert_eq!(resolve(&flags, &[]).registry_images(), ["some/image", "t", "p", "c"]);
    let inputs = resolve(&[&flags[..], &["daemon=true"]].concat(), &[]);
    assert_eq!(inputs.registry_images(), ["c"]);
}

#[test]
fn a_run_image_is_selected_near_the_image_that_is_made() {
    let candidates = RunImage {
        image: "one.example/run".into(),
        mirrors: vec!["BAD NAME".into(), "two.example/run".into(), "two.example/other".into()],
    };
    for (target, inaccessible, expected) in [
        ("two.example", vec![], Ok("two.example/run")),
        ("two.example", vec!["two.example/run"], Ok("two.example/other")),
        ("three.example", vec![], Ok("one.example/run")),
        ("three.example", vec!["one.example/run", "BAD NAME"], Ok("two.example/run")),
        (
            "one.example",
            vec!["one.example/run", "BAD NAME", "two.example/run", "two.example/other"],
            Err(InputError::NoAccessibleRunImage),
        ),
    ] {
        let found = select_run_image(&candidates, target, &mut |name| !inaccessible.contains(&name));
        assert_eq!(found, expected.map(str::to_owned), "{target}");
    }
    let none = RunImage { image: String::new(), mirrors: vec!["a".into()] };
    assert_eq!(select_run_image(&none, "x", &mut |_| true), Err(InputError::EmptyRunImage));
}
