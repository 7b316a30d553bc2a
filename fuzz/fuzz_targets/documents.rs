//! The documents of buildpacks, platforms, apps and operators, and the labels of images, each text read as every one of them. Those that are also written are
//! understood again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use strata_spec::{
    BuildpackApi, analyzed, bom, build, builder, buildpack, buildpackage, cache, extend, extension, group,
    labels, launch, layer,
};
use strata_spec::{lifecycle, metadata, order, plan, project, report, run, sealed, system};

fuzz_target!(|text: &str| {
    for api in BuildpackApi::ALL {
        drop(launch::LaunchToml::parse(text, *api));
    }
    drop(buildpack::Descriptor::parse(text));
    drop(build::BuildToml::parse(text));
    drop(builder::Builder::parse(text));
    drop(extension::Descriptor::parse(text));
    drop(extend::ExtendConfig::parse(text));
    drop(order::OrderFile::parse(text));
    drop(plan::BuildPlan::parse(text));
    drop(project::ProjectMetadata::parse(text));
    drop(project::Project::parse(text, "production"));
    drop(buildpackage::parse_modules(text));
    drop(lifecycle::Lifecycle::parse(text));
    drop(sealed::SealedLayers::parse(text));
    drop(report::Report::parse(text));
    drop(labels::LifecycleMetadata::parse(text));
    drop(labels::from_json::<labels::BuildMetadata>(text));
    drop(labels::from_json::<Vec<bom::KeptEntry>>(text));
    if let Ok(found) = cache::CacheMetadata::parse(text) {
        found.to_json().expect("what was read can be written");
    }
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
