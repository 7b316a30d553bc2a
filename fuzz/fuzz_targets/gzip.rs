//! What layers are compressed to: every reader gives it back, and its bytes depend on no thread.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::io::{Cursor, Read, Write};
use std::sync::OnceLock;
use strata_layer::{Compression, LayerError, Packer, open_layer};

/// The bytes, and again what was some way back: repeats, so that chunks and their windows are filled.
fn grown(bytes: &[u8]) -> Vec<u8> {
    let mut grown = bytes.to_vec();
    for pair in bytes.chunks_exact(2) {
        let back = (usize::from(pair[0]) << 7 | 1).min(grown.len());
        let length = usize::from(pair[1]) << 4;
        grown.extend((grown.len() - back..).take(length.min(back)).map(|at| grown[at]).collect::<Vec<u8>>());
    }
    grown
}

fn packed(packer: &Packer, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let fill = |tar: &mut dyn Write| tar.write_all(bytes).map_err(|source| LayerError::Write { source });
    packer.pack_with(fill, Compression::Gzip, &mut out).expect("memory takes everything");
    out
}

fuzz_target!(|bytes: &[u8]| {
    static THREADS: OnceLock<Packer> = OnceLock::new();
    let bytes = grown(bytes);
    let blob = packed(&Packer::new(1), &bytes);
    assert!(blob == packed(THREADS.get_or_init(|| Packer::new(2)), &bytes));
    let mut back = Vec::new();
    open_layer(Cursor::new(blob)).expect("it is gzip").read_to_end(&mut back).expect("it is whole");
    assert!(back == bytes);
});
