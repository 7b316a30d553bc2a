//! Layers, compressed or not: looked through, and extracted into a folder that nothing leaves.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::fs;
use std::io::Cursor;
use strata_layer::{Trust, UnpackOptions, examine, open_layer, unpack};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(mut tar) = open_layer(Cursor::new(bytes.to_vec())) {
        drop(examine(&mut tar, &mut |_, _| {}));
    }
    let root = tempfile::tempdir_in("/dev/shm").expect("a folder in memory");
    let inside = root.path().join("inside");
    fs::create_dir(&inside).expect("an empty folder");
    let options = UnpackOptions {
        trust: Trust::Data,
        max_entries: 1000,
        max_bytes: 1 << 20,
        ..UnpackOptions::default()
    };
    if let Ok(mut tar) = open_layer(Cursor::new(bytes.to_vec())) {
        drop(unpack(&mut tar, &inside, &options));
    }
    assert_eq!(fs::read_dir(root.path()).expect("it is still there").count(), 1);
});
