//! What the launcher adds to the start of a process: the same program, started by it and without it.
#![expect(clippy::unwrap_used, reason = "a bench that cannot go on fails")]

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use criterion::{Criterion, criterion_group, criterion_main};

const TARGET: &str = "/bin/true";

fn start(criterion: &mut Criterion) {
    let root = tempfile::tempdir().unwrap();
    let metadata = format!(
        "[[buildpacks]]\nid = 'bp'\napi = '0.12'\n\
         [[processes]]\ntype = 'web'\ncommand = ['{TARGET}']\ndirect = true\nbuildpack-id = 'bp'\n"
    );
    fs::create_dir_all(root.path().join("config")).unwrap();
    fs::write(root.path().join("config/metadata.toml"), metadata).unwrap();
    fs::create_dir_all(root.path().join("bp/layer/env.launch")).unwrap();
    fs::write(root.path().join("bp/layer/env.launch/A.append"), "a").unwrap();

    let launcher = Path::new(env!("CARGO_BIN_EXE_launcher"));
    for (name, program) in [("without", Path::new(TARGET)), ("with", launcher)] {
        criterion.bench_function(&format!("start/{name}"), |bencher| {
            bencher.iter(|| {
                let mut command = Command::new(program);
                command.arg0("web").env_clear().env("PATH", "/usr/bin:/bin").env("CNB_PLATFORM_API", "0.12");
                command.env("CNB_LAYERS_DIR", root.path()).env("CNB_APP_DIR", root.path());
                assert!(command.status().unwrap().success());
            });
        });
    }
}

criterion_group!(benches, start);
criterion_main!(benches);
