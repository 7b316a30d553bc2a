//! Dockerfiles, which image extensions write, and the variables in their words.
#![no_main]

use libfuzzer_sys::fuzz_target;
use strata_spec::dockerfile::{Command, Dockerfile, expand};

fuzz_target!(|text: &str| {
    let lookup = |name: &str| name.starts_with('a').then(|| name.repeat(2));
    drop(expand::word(text, '\\', &lookup));
    drop(expand::words(text, '`', &lookup));
    drop(expand::here_document(text, &lookup));
    let Ok(file) = Dockerfile::parse(text) else { return };
    let lines = text.split('\n').count();
    let mut last = 0;
    for stage in &file.stages {
        assert!(last < stage.line && stage.line <= lines && !stage.image.is_empty());
        last = stage.line;
        for instruction in &stage.instructions {
            assert!(last < instruction.line && instruction.line <= lines);
            last = instruction.line;
            if let Command::Env(pairs) = &instruction.command {
                assert!(!pairs.is_empty());
            }
        }
    }
});
