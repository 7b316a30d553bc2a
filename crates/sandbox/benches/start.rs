//! What a sandbox adds to the start of a process: a shell that does nothing, in one over the host and without.
#![expect(clippy::unwrap_used, reason = "a bench that cannot go on fails")]

use std::process::Command;

use criterion::Criterion;
use strata_sandbox::{Io, Job, Network, Rights, Root, Sandbox, Spec, enter_if_asked};

fn main() {
    // A sandbox is this program, started again.
    enter_if_asked(|_| 1);
    let mut criterion = Criterion::default().configure_from_args();
    let scratch = tempfile::tempdir_in("/var/tmp").unwrap();
    criterion.bench_function("start/without", |bencher| {
        bencher.iter(|| assert!(Command::new("/bin/sh").args(["-c", ""]).status().unwrap().success()));
    });
    criterion.bench_function("start/in a sandbox", |bencher| {
        bencher.iter(|| {
            let spec = Spec {
                uid: 1000,
                gid: 1001,
                ids: None,
                rights: Rights::User,
                network: Network::Host,
                hostname: "strata".to_owned(),
                root: Root::Host {
                    hide: vec![],
                    scratch: tempfile::tempdir_in(scratch.path()).unwrap().keep(),
                },
                mounts: vec![],
                groups: vec![],
                job: Job::Exec {
                    argv: ["/bin/sh", "-c", ""].map(str::to_owned).to_vec(),
                    env: vec![],
                    cwd: "/".into(),
                },
            };
            assert!(Sandbox::spawn(&spec, Io::inherit()).unwrap().wait().unwrap().is_success());
        });
    });
    criterion.final_summary();
}
