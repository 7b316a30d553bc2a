//! Throughput of packing a tree of many small and a few large files.

#![allow(clippy::unwrap_used, reason = "a benchmark stops at what it did not expect")]

use std::fs;
use std::hint::black_box;
use std::io;
use std::path::Path;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use strata_layer::{Compression, Owner, Source, diff_id, pack};

/// Text-like bytes: a generator's output mapped to few letters.
fn text(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let next = |state: &mut u64| {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *state >> 40
    };
    (0..length).map(|_| b"etaoinshrdlu \n(){};="[(next(&mut state) % 20) as usize]).collect()
}

fn tree(root: &Path) {
    for dir in 0..40_u64 {
        let path = root.join(format!("node_modules/package-{dir}"));
        fs::create_dir_all(&path).unwrap();
        for file in 0..50_u64 {
            let seed = dir * 50 + file;
            fs::write(path.join(format!("index-{file}.js")), text(seed, (seed * 37 % 16_384) as usize))
                .unwrap();
        }
    }
    for file in 0..4 {
        fs::write(root.join(format!("blob-{file}")), text(file, 8 << 20)).unwrap();
    }
}

fn packing(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().unwrap();
    tree(dir.path());
    let owner = Owner { uid: 1000, gid: 1000 };
    let source = Source::Dir {
        dir: dir.path().to_owned(),
        as_path: "/layers/bp/layer".to_owned(),
        parents: Vec::new(),
        owner,
    };
    let (_, size) = diff_id(&source).unwrap();
    let mut group = criterion.benchmark_group("pack");
    group.throughput(Throughput::Bytes(size)).sample_size(10);
    group.bench_function("diff id", |bench| bench.iter(|| black_box(diff_id(&source).unwrap())));
    for threads in [1, 2, 4] {
        group.bench_function(format!("gzip, {threads} threads"), |bench| {
            bench.iter(|| pack(&source, Compression::Gzip, threads, &mut io::sink()).unwrap());
        });
    }
    group.finish();
}

criterion_group!(benches, packing);
criterion_main!(benches);
