//! A build that is stopped leaves nothing.

use crate::bench::{Bench, Buildpack, Running};
use crate::builders::{Builder, run_image, unpacked};
use rustix::process::Signal;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::mpsc::channel;
use std::time::Duration;

/// A build that says "sleeping", and sleeps.
fn sleeping(bench: &Bench) -> Running {
    // A child of its own, in a session of its own, with its output open.
    let script = "setsid bash -c 'exec -a MARKER sleep 1000' & trap '' INT TERM; echo sleeping; wait";
    let dir = bench.add(&Buildpack::new("e2e/sleeper").build(script));
    let mut build = Running::start(bench.build_command(&["-t", "web"], &[dir]));
    build.wait_for_line("sleeping");
    assert!(!bench.left_over().is_empty(), "the test looks for the wrong things");
    build
}

#[test]
fn an_interrupted_build_leaves_nothing() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let bench = Bench::new();
        let build = sleeping(&bench);
        build.signal(signal);
        assert_eq!(build.end(), 130);
        bench.is_clean_soon();
        assert!(!bench.has_image());
    }
}

#[test]
fn a_buildpack_that_never_ends_is_not_waited_for() {
    let bench = Bench::new();
    let web = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/endless.tgz", web.local_addr().unwrap());
    let (begun, begins) = channel();
    let server = std::thread::spawn(move || {
        for _ in 0..2 {
            let (mut stream, _) = web.accept().unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4000000000\r\n\r\n").unwrap();
            // Until nobody listens.
            while stream.write_all(&[b'x'; 4096]).is_ok() {
                begun.send(()).unwrap();
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    });
    for args in [&["-t", "web", "-b", &url][..], &["--dry-run", "-b", &url]] {
        let build = Running::start(bench.build_command(args, &[]));
        begins.iter().nth(20).unwrap();
        build.signal(Signal::INT);
        assert_eq!(build.end(), 130, "{args:?}");
    }
    server.join().unwrap();
    bench.is_clean_soon();
}

#[test]
fn a_server_that_is_silent_is_not_waited_for() {
    let bench = Bench::new();
    let good = bench.add(&Buildpack::new("e2e/good"));
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let (asked, asks) = channel();
    // All are heard, and nobody is answered.
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        for stream in silent.incoming().map_while(Result::ok) {
            // One that ends before it has asked anything does not count.
            let is_asked = (&stream).read(&mut [0]).is_ok_and(|count| count > 0);
            kept.push(stream);
            if is_asked && asked.send(()).is_err() {
                return;
            }
        }
    });
    let (image, tarball) = (format!("{address}/e2e/builder"), format!("http://{address}/e2e.tgz"));
    let good = good.to_str().unwrap();
    let cases: [&[&str]; 6] = [
        &["-t", "web", "--builder", &image],
        &["-t", "web", "-b", &tarball],
        &["-t", "web", "-b", good, "--run-image", &image],
        &["-t", &image, "-b", good, "--publish"],
        &["-t", "web", "--builder", "docker:e2e/builder"],
        &["--dry-run", "--builder", &image],
    ];
    let signals = [Signal::INT, Signal::TERM, Signal::HUP];
    for (args, signal) in cases.into_iter().zip(signals.into_iter().cycle()) {
        let mut command = bench.build_command(args, &[]);
        let build = Running::start({
            command.env("DOCKER_HOST", format!("tcp://{address}"));
            command
        });
        asks.recv().unwrap();
        build.signal(signal);
        // It would go on for minutes.
        assert_eq!(build.end(), 130, "{args:?}");
        // Others may have asked, too.
        while asks.try_recv().is_ok() {}
        bench.is_clean_soon();
        assert!(!bench.has_image());
    }
}

/// Folders that somebody else has for themselves.
fn locked(dirs: &[PathBuf]) -> Vec<File> {
    let lock = |dir: &PathBuf| {
        let file = File::open(dir).unwrap();
        rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).unwrap();
        file
    };
    dirs.iter().map(lock).collect()
}

/// Waits until a build has one of these folders open, to lock it.
fn wait_for_lock(build: &Running, dirs: &[PathBuf]) {
    let open = PathBuf::from(format!("/proc/{}/fd", build.id()));
    crate::bench::wait_for(|| {
        let links = fs::read_dir(&open).unwrap().flatten().flat_map(|entry| fs::read_link(entry.path()));
        let links: Vec<PathBuf> = links.collect();
        if links.iter().any(|link| dirs.contains(link)) { Ok(()) } else { Err(format!("{links:?}")) }
    });
}

fn entries(dir: PathBuf) -> Vec<PathBuf> {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path().canonicalize().unwrap()).collect()
}

#[test]
fn a_lock_of_another_build_is_not_waited_for() {
    let bench = Bench::new();
    let dir = bench.add(&Buildpack::new("e2e/good").build("layer one cache; echo 1 >$layers/one/file"));
    Builder::new(&bench, "builder", &[dir]).write();
    let args = ["-t", "web", "--builder", "oci:builder", "--run-image", run_image(&bench)];
    let command = || bench.build_command(&args, &[]);
    crate::bench::Done::of(command()).ok();
    fs::remove_dir_all(bench.path("images")).unwrap();
    let cache = entries(bench.path("home/.cache/strata/apps"));
    for (dirs, is_built) in [(entries(unpacked(&bench)), false), (cache, true)] {
        let others = locked(&dirs);
        let mut build = Running::start(command());
        if is_built {
            build.wait_for_line("===> CACHING");
        }
        wait_for_lock(&build, &dirs);
        build.signal(Signal::INT);
        assert_eq!(build.end(), 130, "{dirs:?}");
        bench.is_clean_soon();
        // An image is not given up because its cache is not filled.
        assert_eq!(bench.has_image(), is_built, "{dirs:?}");
        drop(others);
    }
    crate::bench::Done::of(command()).ok();
}

#[test]
fn a_credential_helper_is_not_waited_for() {
    let bench = Bench::new();
    let good = bench.add(&Buildpack::new("e2e/good"));
    let helper = bench.write(
        "programs/docker-credential-slow",
        &format!(
            "#!/bin/bash\ntouch {}\nexec -a {} sleep 1000\n",
            bench.path("asked").display(),
            bench.marker()
        ),
    );
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
    bench.write("home/.docker/config.json", "{\"credsStore\": \"slow\"}");
    let mut command = bench.build_command(&["-t", "web", "--run-image", "registry:127.0.0.1:1/run"], &[good]);
    command.env("PATH", format!("{}:/usr/bin:/bin", bench.path("programs").display()));
    let build = Running::start(command);
    crate::bench::wait_for(
        || if bench.path("asked").exists() { Ok(()) } else { Err("nobody asks the helper") },
    );
    build.signal(Signal::INT);
    assert_eq!(build.end(), 130);
    bench.is_clean_soon();
    assert!(!bench.has_image());
}

#[test]
fn a_killed_build_leaves_no_process_and_the_next_one_tidies_up() {
    let bench = Bench::new();
    let build = sleeping(&bench);
    build.signal(Signal::KILL);
    assert_eq!(build.end(), 137);
    let processes = || {
        let mut left = bench.left_over();
        left.retain(|what| what.starts_with("/proc/"));
        left
    };
    crate::bench::wait_for(|| if processes().is_empty() { Ok(()) } else { Err(processes().join("\n")) });
    assert!(!bench.has_image());
    // The next build may be another test's, and may have done it already.
    let good = bench.add(&Buildpack::new("e2e/good"));
    bench.build(&[], &[good]).ok();
    bench.is_clean_soon();
}
