//! Names of images: what is accepted is written as it is understood, and its path in a store leads nowhere else.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::path::Component;
use strata_oci::Reference;
use strata_store::source::Source;

fuzz_target!(|text: &str| {
    if let Ok(name) = text.parse::<Reference>() {
        assert_eq!(name.to_string().parse().as_ref(), Ok(&name));
        assert!(name.layout_path().components().all(|part| matches!(part, Component::Normal(_))));
    }
    drop(Source::parse(text));
});
