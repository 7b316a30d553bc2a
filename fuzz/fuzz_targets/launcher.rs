//! What the launcher reads: the metadata of the image, and what programs of `exec.d` say. Whatever the launcher takes for
//! metadata, the phases take for metadata as well, with the same processes.
#![no_main]

// The parser belongs to a program, which is no library.
#[allow(dead_code, unreachable_pub, reason = "only a part of it is called")]
#[path = "../../crates/launcher/src/failure.rs"]
mod failure;
#[allow(dead_code, unreachable_pub, reason = "only a part of it is called")]
#[path = "../../crates/launcher/src/parse.rs"]
mod parse;

use libfuzzer_sys::fuzz_target;
use strata_spec::metadata::Metadata;

fuzz_target!(|text: &str| {
    drop(parse::variables(text));
    if let (Ok(seen), Ok(written)) = (parse::metadata(text), Metadata::parse(text)) {
        let seen: Vec<&str> = seen.processes.iter().map(|process| process.r#type.as_str()).collect();
        let written: Vec<&str> =
            written.processes.iter().map(|process| process.process.kind.as_str()).collect();
        assert_eq!(seen, written);
    }
});
