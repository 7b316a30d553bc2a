//! Limits on what buildpacks use.

use crate::bench::{Bench, Buildpack, is_root};

#[test]
fn a_buildpack_that_wants_more_memory_than_it_may_have_is_ended_and_named() {
    assert!(is_root(), "only root can make control groups here: run this test as root");
    let bench = Bench::new();
    let hog = bench.add(&Buildpack::new("e2e/hog").build("head -c 400m /dev/zero | tail -c 300m >/dev/null"));
    let done = bench.build(&["--memory", "96m"], &[hog]);
    assert_eq!(done.code, 51, "{done:#?}");
    assert!(done.stderr.contains("bin/build of buildpack e2e/hog@"), "{done:#?}");
    assert!(done.stderr.contains("more memory than the 96 MiB of --memory, and"), "{done:#?}");
    bench.is_clean_soon();
}

#[test]
fn a_fork_bomb_ends_at_the_limit() {
    assert!(is_root(), "only root can make control groups here: run this test as root");
    let bench = Bench::new();
    let bomb =
        bench.add(&Buildpack::new("e2e/bomb").build("bomb() { bomb | bomb & }; bomb; sleep 1; exit 7"));
    let done = bench.build(&["--pids-limit", "64", "--cpus", "1"], &[bomb]);
    assert_eq!(done.code, 51, "{done:#?}");
    assert!(done.stderr.contains("more processes than the 64 of --pids-limit"), "{done:#?}");
    bench.is_clean_soon();
    let fine = bench.add(&Buildpack::new("e2e/fine").build("echo fine"));
    let limits = ["--memory", "1g", "--pids-limit", "200", "--cpus", "1.5"];
    bench.build(&limits, std::slice::from_ref(&fine)).ok().says("fine");
    for (flag, value, word) in [
        ("--memory", "lots", "512m"),
        ("--memory", "1m", "nothing runs in less"),
        ("--cpus", "0", "processors"),
        ("--pids-limit", "63", "less than 64 processes"),
    ] {
        let done = bench.build(&[flag, value], std::slice::from_ref(&fine));
        assert!(done.code == 2 && done.stderr.contains(word), "{done:#?}");
    }
}
