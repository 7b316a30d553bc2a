//! The TOML documents of buildpacks and platforms, each text read as every one of them. Those that are also written are
//! understood again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use strata_spec::{
    BuildpackApi, analyzed, build, builder, buildpack, group, launch, layer, metadata, order, plan,
};
use strata_spec::{project, run, system};

fuzz_target!(|text: &str| {
    for api in BuildpackApi::ALL {
        drop(launch::LaunchToml::parse(text, *api));
    }
    drop(buildpack::Descriptor::parse(text));
    drop(build::BuildToml::parse(text));
    drop(builder::Builder::parse(text));
    drop(order::OrderFile::parse(text));
    drop(plan::BuildPlan::parse(text));
    drop(project::ProjectMetadata::parse(text));
    drop(run::RunFile::parse(text));
    drop(system::SystemToml::parse(text));
    drop(metadata::Metadata::parse(text));
    drop(layer::LayerToml::parse(text));
    if let Ok(found) = layer::Store::parse(text) {
        layer::Store::parse(&found.to_toml()).expect("what was read can be written and read");
    }
    if let Ok(found) = analyzed::Analyzed::parse(text) {
        assert_eq!(analyzed::Analyzed::parse(&found.to_toml()).expect("written and read"), found);
    }
    if let Ok(found) = group::Group::parse(text) {
        group::Group::parse(&found.to_toml()).expect("what was read can be written and read");
    }
});
