//! A build for which the system has no more processes and threads.

use crate::bench::{Bench, Buildpack, Done, is_root, tool};
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// Who builds: nobody else, so that nobody else's processes count. In containers there are often 65536 users and no more.
fn user() -> u32 {
    if is_root() { 20_000 + std::process::id() % 40_000 } else { rustix::process::getuid().as_raw() }
}

/// How many processes and threads a user has already.
fn others(user: u32) -> usize {
    let text = Command::new("ps").args(["-L", "-o", "lwp=", "-U", &user.to_string()]).output().unwrap();
    text.stdout.split(|byte| *byte == b'\n').count()
}

#[test]
fn a_build_with_few_processes_succeeds_or_says_so() {
    let bench = Bench::new();
    // A shell that cannot fork tries again for long, so this one does not fork.
    let script = "exec cp -r $CNB_BUILDPACK_DIR/tree/. $layers/";
    let buildpacks = ["e2e/a", "e2e/b"].map(|id| {
        let dir = bench.add(&Buildpack::new(id).build(script));
        for name in ["one", "two", "three"] {
            fs::create_dir_all(dir.join("tree").join(name)).unwrap();
            fs::write(dir.join("tree").join(name).join("file"), id).unwrap();
            let toml = dir.join("tree").join(format!("{name}.toml"));
            fs::write(toml, "[types]\nlaunch = true\ncache = true\n").unwrap();
        }
        dir
    });
    let program = bench.path("strata");
    fs::copy(env!("CARGO_BIN_EXE_strata"), &program).unwrap();
    let user = user();
    if is_root() {
        tool("chown", &["-R", &format!("{user}:{user}"), bench.path(".").to_str().unwrap()]);
    }
    let mut failed = 0;
    for more in [1, 2, 3, 4, 6, 8, 10, 12, 14, 16, 18, 1000] {
        let asked = bench.build_command(&["-t", "web"], &buildpacks);
        let mut command = Command::new("bash");
        let limit = format!("ulimit -u {} && exec \"$@\"", others(user) + more);
        command.args(["-c", &limit, "limited"]).arg(&program).args(asked.get_args());
        command.env_clear().envs(asked.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.current_dir(bench.path(".")).uid(user).gid(if is_root() { user } else { getgid() });
        let done = Done::of(command);
        let all = format!("{}{}", done.stdout, done.stderr);
        assert!(!all.contains("panicked"), "{more}: {done:#?}");
        assert_eq!(done.code == 0, bench.has_image(), "{more}: {done:#?}");
        if done.code == 0 {
            let valid = bench.strata(["validate", "web", "--layout-dir", "images"]);
            Done::of(valid).ok();
            fs::remove_dir_all(bench.path("images")).unwrap();
        } else {
            let is_told = all.contains("Resource temporarily unavailable") || all.contains("fork");
            assert!(all.contains("ERROR: ") && is_told, "{more}: {done:#?}");
            assert!([1, 20, 21, 51, 62].contains(&done.code), "{more}: {done:#?}");
            failed += 1;
        }
        // A process that stays behind removes the rest, and counts until it has.
        bench.is_clean_soon();
        assert!(more < 1000 || done.code == 0, "{done:#?}");
    }
    assert!(failed > 3, "the limits have no effect");
}

fn getgid() -> u32 {
    rustix::process::getgid().as_raw()
}
