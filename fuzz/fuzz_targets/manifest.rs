//! Manifests and indexes: what is understood is understood again, the same, after it was written.
#![no_main]

use libfuzzer_sys::fuzz_target;
use strata_oci::{Document, Index, Manifest};

fuzz_target!(|bytes: &[u8]| {
    drop(Document::parse(bytes, None));
    if let Ok(manifest) = Manifest::parse(bytes, None) {
        let again = manifest.encode().expect("what was read can be written");
        assert_eq!(Manifest::parse(&again, None).expect("and read"), manifest);
    }
    if let Ok(index) = Index::parse(bytes, None) {
        let again = index.encode().expect("what was read can be written");
        assert_eq!(Index::parse(&again, None).expect("and read"), index);
    }
});
