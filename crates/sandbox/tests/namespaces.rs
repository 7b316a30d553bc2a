//! Runs real sandboxes: as the user who runs the tests and, if that is root, as an ordinary user too.
//!
//! It has a main of its own, because a sandbox starts its program anew and that program must notice first thing.

#![expect(clippy::disallowed_methods, reason = "the test starts itself again inside")]
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a test program reports and panics")]

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use strata_sandbox::{
    Call, Child, Exit, Ids, Io, Job, Limits, Met, Mount, Network, Rights, Root, Sandbox, SandboxError, Spec,
    WorkDir, call_with, enter_if_asked, kill_leftovers, probe,
};

/// How long is waited at most for what is bound to happen.
const PATIENCE: Duration = Duration::from_secs(60);

type Case = (&'static str, fn(&Path));

const CASES: &[Case] = &[
    ("the machine allows sandboxes", |_| probe().unwrap()),
    ("exit codes and signals pass through", exit_codes_pass),
    ("a program that is missing is an error of the setup", a_missing_program_is_an_error),
    ("changes to the files of the host stay inside", host_is_unchanged),
    ("the job has the ids asked for and no power", the_job_has_no_power),
    ("the kernel's settings are read-only", kernel_settings_are_read_only),
    ("a job that reads from no terminal has a session of its own", a_job_has_a_session),
    ("what the job leaves running dies with it", leftovers_die),
    ("a call runs as process 1, kills leftovers and writes events", a_call_runs_as_process_1),
    ("mounts are writable only when asked", mounts_are_writable_only_when_asked),
    ("hidden paths are empty or absent", hidden_paths_are_empty),
    ("temporary directories and devices work", temporary_directories_and_devices_work),
    ("devices cannot be changed", devices_cannot_be_changed),
    ("without a network there is only the job itself", a_network_of_its_own),
    ("odd names are projected", odd_names_are_projected),
    ("killing the child kills everything", killing_the_child_kills_everything),
    ("the death of the parent kills everything", the_death_of_the_parent_kills_everything),
    ("layers are stacked and whiteouts respected", layers_are_stacked),
    ("a symlink in an image cannot lead a mount out of it", symlinks_stay_inside),
    ("work directories vanish whatever their modes", work_directories_vanish),
    ("what takes long to remove is removed by one who stays behind", a_removal_goes_on),
    ("who removes for long has nothing of the build", a_remover_has_nothing_of_the_build),
    ("a sweep removes the dead only", a_sweep_removes_the_dead_only),
    ("a sandbox can hold another", a_sandbox_can_hold_another),
    ("changes are kept in memory where the disk is an overlay", an_overlay_is_no_disk),
    ("others are who the image says, and have what is theirs", others_have_what_is_theirs),
    ("whoever changes an image is its root, and has no power over the machine", root_changes_an_image),
    ("what others own is removed, also after a kill", what_others_own_is_removed),
    ("limits hold and say that they were met", limits_hold),
    ("nothing is left mounted", nothing_is_left_mounted),
];

fn main() {
    enter_if_asked(run_call);
    if std::env::args().nth(1).as_deref() == Some("--sleeper") {
        sleeper(&PathBuf::from(std::env::args().nth(2).unwrap()));
    }
    if std::env::args().nth(1).as_deref() == Some("--in") {
        let dir = PathBuf::from(std::env::args().nth(2).unwrap());
        println!("{}", run(&host(&dir, "echo kept > /etc/strata && cat /etc/strata")).0);
        return;
    }
    let base = WorkDir::new(Path::new(WorkDir::DEFAULT_PARENT)).unwrap();
    let filter = std::env::args().nth(1).filter(|arg| !arg.starts_with('-')).unwrap_or_default();
    let user = rustix::process::geteuid().as_raw();
    let mut failed = 0;
    let cases: Vec<_> = CASES.iter().filter(|(name, _)| name.contains(&filter)).collect();
    for (index, (name, case)) in cases.iter().enumerate() {
        let dir = base.path().join(index.to_string());
        fs::create_dir(&dir).unwrap();
        let ok = std::panic::catch_unwind(|| case(&dir)).is_ok();
        println!("uid {user}: {name}: {}", if ok { "ok" } else { "FAILED" });
        failed += usize::from(!ok);
    }
    println!("uid {user}: {} passed, {failed} failed", cases.len() - failed);
    let ordinary = user != 0 || {
        let modes = [Ranges::None, Ranges::Some];
        modes.into_iter().all(|ranges| run_as_ordinary_user(base.path(), &filter, ranges))
    };
    base.close().unwrap();
    std::process::exit(i32::from(failed > 0 || !ordinary));
}

/// Whether a user may have the ids of others.
#[derive(Clone, Copy, PartialEq)]
enum Ranges {
    None,
    Some,
}

fn run_as_ordinary_user(base: &Path, filter: &str, ranges: Ranges) -> bool {
    fs::set_permissions(base, fs::Permissions::from_mode(0o755)).unwrap();
    let copy = base.join("copy");
    fs::copy("/proc/self/exe", &copy).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
    // Not in /var/tmp, which a sandbox does not show.
    let home = tempfile::Builder::new().prefix("strata-test-").tempdir_in("/home").unwrap();
    std::os::unix::fs::chown(home.path(), Some(4242), Some(4242)).unwrap();
    // Of the machine's own files nothing changes: the user exists in a mount namespace only.
    let mut script = "set -e\n".to_owned();
    if ranges == Ranges::Some {
        println!("with ranges of ids:");
        let passwd = fs::read_to_string("/etc/passwd").unwrap();
        for (name, text) in [
            (
                "passwd",
                format!("{}\nstrata-test:x:4242:4242::{}:/bin/sh\n", passwd.trim(), home.path().display()),
            ),
            ("subuid", "strata-test:500000:65536\n".to_owned()),
            ("subgid", "4242:700000:65536\n".to_owned()),
        ] {
            let file = base.join(name);
            fs::write(&file, text).unwrap();
            script.push_str(&format!("mount --bind {} /etc/{name}\n", file.display()));
        }
    }
    script.push_str("exec setpriv --reuid 4242 --regid 4242 --clear-groups \"$@\"");
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &script, "sh"]).arg(copy).env("HOME", home.path()).current_dir("/");
    if !filter.is_empty() {
        command.arg(filter);
    }
    command.status().unwrap().success()
}

/// What process 1 does for a call.
fn run_call(call: Call) -> i32 {
    if let Some(owned) = call.payload.get("own").and_then(|own| own.as_array()) {
        for one in owned {
            let id = |name: &str| Some(u32::try_from(one[name].as_u64().unwrap()).unwrap());
            std::os::unix::fs::lchown(one["path"].as_str().unwrap(), id("uid"), id("gid")).unwrap();
        }
        return 0;
    }
    assert_eq!(std::process::id(), 1);
    if let Some(script) = call.payload.get("script").and_then(|script| script.as_str()) {
        let overlay = call.overlay.unwrap();
        assert!(Command::new("/bin/sh").args(["-c", script]).status().unwrap().success());
        let conf = fs::metadata(overlay.upper().join("etc/conf")).unwrap();
        let below = overlay.lowers().iter().filter(|lower| lower.join("etc/secret").exists()).count();
        println!("{} {below}", std::os::unix::fs::MetadataExt::uid(&conf));
        return 0;
    }
    // Its process group is its own: signals to "all of mine" stay inside, and there is no terminal to type into.
    let own = Some(rustix::process::Pid::INIT);
    assert_eq!((rustix::process::getpgid(None).ok(), rustix::process::getsid(None).ok()), (own, own));
    assert!(File::open("/dev/tty").is_err());
    for _ in 0..3 {
        drop(Command::new("/bin/sleep").arg("1000").spawn().unwrap());
    }
    let killed = kill_leftovers();
    writeln!(call.events.unwrap(), "{} {killed}", call.payload["word"].as_str().unwrap()).unwrap();
    7
}

/// A program that waits for a sandbox until it is killed itself.
fn sleeper(dir: &Path) -> ! {
    let mut child =
        Sandbox::spawn(&host(dir, &format!("sleep 1000.{}", std::process::id())), Io::inherit()).unwrap();
    println!("ready");
    child.wait().unwrap();
    unreachable!("the job sleeps for long");
}

fn scratch(dir: &Path) -> PathBuf {
    tempfile::Builder::new().prefix("scratch-").tempdir_in(dir).unwrap().keep()
}

fn spec(root: Root, script: &str) -> Spec {
    let argv = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
    let env = vec![("PATH".to_owned(), "/usr/bin:/bin".to_owned())];
    Spec {
        uid: 1000,
        gid: 1001,
        ids: None,
        rights: Rights::User,
        network: Network::Host,
        hostname: "strata".to_owned(),
        root,
        mounts: vec![],
        groups: vec![],
        job: Job::Exec { argv, env, cwd: "/".into() },
    }
}

fn host(dir: &Path, script: &str) -> Spec {
    spec(Root::Host { hide: vec![], scratch: scratch(dir) }, script)
}

fn run(spec: &Spec) -> (String, i32) {
    let mut child = Sandbox::spawn(spec, Io { stdout: Stdio::piped(), ..Io::inherit() }).unwrap();
    let mut text = String::new();
    child.take_stdout().unwrap().read_to_string(&mut text).unwrap();
    let Exit { code } = child.wait().unwrap();
    (text.trim().to_owned(), code)
}

fn exit_codes_pass(dir: &Path) {
    for (script, code) in [("exit 0", 0), ("exit 42", 42), ("kill -TERM $$", 143), ("exit 125", 125)] {
        assert_eq!(run(&host(dir, script)).1, code, "{script}");
    }
}

fn a_missing_program_is_an_error(dir: &Path) {
    let mut spec = host(dir, "");
    spec.job = Job::Exec { argv: vec!["/no/such".to_owned()], env: vec![], cwd: "/".into() };
    let error = Sandbox::spawn(&spec, Io::inherit()).unwrap_err();
    assert!(matches!(error, SandboxError::Setup { .. }));
    assert!(error.to_string().contains("cannot run /no/such"), "{error}");
    spec.mounts.push(Mount { source: "/no/source".into(), target: "/x".into(), writable: false });
    spec.root = Root::Host { hide: vec![], scratch: scratch(dir) };
    let error = Sandbox::spawn(&spec, Io::inherit()).unwrap_err();
    assert!(error.to_string().contains("cannot find /no/source"), "{error}");
}

fn host_is_unchanged(dir: &Path) {
    let mut spec = host(dir, "");
    let home = PathBuf::from(std::env::var("HOME").unwrap());
    let name = format!("strata-test-{}", std::process::id());
    let script = format!(
        "set -e; echo x > /etc/{name}; echo x > {0}/{name}; cat /etc/{name} {0}/{name}; rm -f /etc/hostname || true",
        home.display()
    );
    if let Job::Exec { argv, .. } = &mut spec.job {
        argv[2] = script;
    }
    assert_eq!(run(&spec), ("x\nx".to_owned(), 0));
    assert!(!Path::new("/etc").join(&name).exists());
    assert!(!home.join(&name).exists());
}

fn the_job_has_no_power(dir: &Path) {
    let (text, code) = run(&host(
        dir,
        "id -u; id -g; hostname; umask; grep -E '^(Cap|NoNewPrivs)' /proc/self/status | tr '\\t' ' '",
    ));
    let none = "0000000000000000";
    let caps = ["Inh", "Prm", "Eff", "Bnd", "Amb"].map(|set| format!("Cap{set}: {none}")).join("\n");
    assert_eq!(text, format!("1000\n1001\nstrata\n0022\n{caps}\nNoNewPrivs: 1"));
    assert_eq!(code, 0);
    let mut as_root = host(
        dir,
        "id -u; grep CapEff /proc/self/status | tr '\\t' ' '; umount /tmp 2>/dev/null || echo kept",
    );
    (as_root.uid, as_root.gid) = (0, 0);
    assert_eq!(run(&as_root).0, format!("0\nCapEff: {none}\nkept"));
}

fn kernel_settings_are_read_only(dir: &Path) {
    let script = "for f in /proc/sys/kernel/core_pattern /proc/sysrq-trigger /sys/kernel/uevent_seqnum; do \
                  (: >> $f) 2>/dev/null && echo open $f; done; head -c1 /proc/kcore 2>/dev/null | wc -c; ls /proc | grep -c '^[0-9]'";
    let (text, _) = run(&host(dir, script));
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[0], "0", "{text}");
    assert!(lines[1].parse::<u32>().unwrap() < 6, "{text}");
}

/// How many processes of this machine have `needle` in their command line.
fn processes(needle: &str) -> usize {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter(|entry| {
            fs::read(entry.path().join("cmdline"))
                .is_ok_and(|line| String::from_utf8_lossy(&line).contains(needle))
        })
        .count()
}

fn leftovers_die(dir: &Path) {
    let mark = format!("2000.{}", std::process::id());
    let (_, code) = run(&host(dir, &format!("setsid sleep {mark} >/dev/null & exit 3")));
    assert_eq!(code, 3);
    assert_eq!(processes(&mark), 0);
}

fn a_call_runs_as_process_1(dir: &Path) {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut spec = host(dir, "");
    spec.job = Job::Call { payload: serde_json::json!({"word": "hello"}) };
    let mut child = Sandbox::spawn(&spec, Io { events: Some(writer.into()), ..Io::inherit() }).unwrap();
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!((text.as_str(), child.wait().unwrap().code), ("hello 3\n", 7));
}

fn mounts_are_writable_only_when_asked(dir: &Path) {
    let (open, shut) = (dir.join("open"), dir.join("shut"));
    fs::create_dir_all(&open).unwrap();
    fs::create_dir_all(&shut).unwrap();
    fs::write(dir.join("file"), "text").unwrap();
    let script = "echo a > /workspace/a && ! (echo b > /usr/local/deep/shut/b) 2>/dev/null && cat /cnb/file && ! (echo c > /cnb/file) 2>/dev/null";
    let mut spec = host(dir, script);
    spec.mounts = vec![
        Mount { source: open.clone(), target: "/workspace".into(), writable: true },
        Mount { source: shut.clone(), target: "/usr/local/deep/shut".into(), writable: false },
        Mount { source: dir.join("file"), target: "/cnb/file".into(), writable: false },
    ];
    assert_eq!(run(&spec), ("text".to_owned(), 0));
    assert_eq!(fs::read_to_string(open.join("a")).unwrap(), "a\n");
    assert_eq!(fs::read_dir(&shut).unwrap().count(), 0);
}

fn hidden_paths_are_empty(dir: &Path) {
    let secret = dir.join("secret");
    fs::create_dir(&secret).unwrap();
    fs::write(secret.join("key"), "k").unwrap();
    // /var/tmp is always hidden, so something of the system stands in for a file and a directory.
    let script = format!(
        "ls -A /usr/share /var/tmp; cat /etc/passwd 2>/dev/null || echo absent; cat {}/key 2>/dev/null || echo hidden",
        secret.display()
    );
    let hide = vec!["/usr/share".into(), "/etc/passwd".into(), secret];
    let (text, _) = run(&spec(Root::Host { hide, scratch: scratch(dir) }, &script));
    assert_eq!(text, "/usr/share:\n\n/var/tmp:\nabsent\nhidden");
}

fn temporary_directories_and_devices_work(dir: &Path) {
    let script = "set -e; for d in /tmp /var/tmp /dev/shm; do stat -c %a $d; echo x > $d/x; done; echo x > /dev/null; head -c 4 /dev/urandom | wc -c; \
                  readlink /dev/stdin; ls /dev/pts; test -s /etc/resolv.conf && echo resolves; ls /run | wc -l >/dev/null; test -d /sys/kernel && echo sys";
    assert_eq!(
        run(&host(dir, script)),
        ("1777\n1777\n1777\n4\n/proc/self/fd/0\nptmx\nresolves\nsys".to_owned(), 0)
    );
}

fn devices_cannot_be_changed(dir: &Path) {
    use std::os::unix::fs::MetadataExt;
    let before = fs::metadata("/dev/null").unwrap().mode();
    let (text, _) = run(&host(dir, "chmod 600 /dev/null 2>/dev/null && echo changed || echo refused"));
    assert_eq!(text, "refused");
    assert_eq!(fs::metadata("/dev/null").unwrap().mode(), before);
}

fn a_network_of_its_own(dir: &Path) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    // Without a loopback that is up, not even the socket of the last one would be had.
    let script = format!(
        "exec bash -c '(echo >/dev/tcp/127.0.0.1/{port}) 2>/dev/null && echo reached
         exec 3<>/dev/udp/127.0.0.1/9 && grep -c : /proc/net/dev'"
    );
    let alone = Spec { network: Network::None, ..host(dir, &script) };
    assert_eq!(run(&alone), ("1".to_owned(), 0));
    assert!(run(&host(dir, &script)).0.starts_with("reached"));
}

fn odd_names_are_projected(dir: &Path) {
    // Overlay options give meaning to these characters.
    let odd = dir.join("a:b,c\\d e");
    for layer in ["1", "2"] {
        fs::create_dir_all(odd.join(layer)).unwrap();
        fs::write(odd.join(layer).join(format!("from-{layer}")), "").unwrap();
    }
    let mut spec = host(dir, "ls /odd/1 /odd/2");
    spec.mounts.push(Mount { source: odd, target: "/odd".into(), writable: false });
    assert_eq!(run(&spec), ("/odd/1:\nfrom-1\n\n/odd/2:\nfrom-2".to_owned(), 0));
}

fn killing_the_child_kills_everything(dir: &Path) {
    let mark = format!("3000.{}", std::process::id());
    let mut child: Child =
        Sandbox::spawn(&host(dir, &format!("sleep {mark} & sleep {mark}")), Io::inherit()).unwrap();
    while processes(&mark) < 2 {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(child.kill().unwrap().code, 137);
    assert_eq!(processes(&mark), 0);
}

fn the_death_of_the_parent_kills_everything(dir: &Path) {
    let mut parent =
        Command::new("/proc/self/exe").arg("--sleeper").arg(dir).stdout(Stdio::piped()).spawn().unwrap();
    let mark = format!("1000.{}", parent.id());
    parent.stdout.take().unwrap().read_exact(&mut [0; 5]).unwrap();
    let start = Instant::now();
    while processes(&mark) == 0 {
        assert!(start.elapsed() < PATIENCE);
    }
    parent.kill().unwrap();
    parent.wait().unwrap();
    let start = Instant::now();
    while processes(&mark) > 0 {
        assert!(start.elapsed() < PATIENCE, "the sandbox outlives its parent");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// An image of this machine's /bin, /lib and so on, below two made-up layers.
fn layers(dir: &Path) -> (PathBuf, PathBuf, Vec<Mount>) {
    let (top, bottom) = (dir.join("top"), dir.join("bottom"));
    for directory in [top.join("data"), bottom.join("data"), bottom.join("usr"), bottom.join("etc")] {
        fs::create_dir_all(directory).unwrap();
    }
    for name in ["bin", "lib", "lib64"] {
        symlink(format!("usr/{name}"), bottom.join(name)).unwrap();
    }
    (top, bottom, vec![Mount { source: "/usr".into(), target: "/usr".into(), writable: false }])
}

fn layers_are_stacked(dir: &Path) {
    let (top, bottom, mounts) = layers(dir);
    fs::write(bottom.join("data/gone"), "").unwrap();
    fs::write(bottom.join("data/both"), "bottom").unwrap();
    fs::write(top.join("data/both"), "top").unwrap();
    let whiteout = rustix::fs::makedev(0, 0);
    rustix::fs::mknodat(
        rustix::fs::CWD,
        top.join("data/gone"),
        rustix::fs::FileType::CharacterDevice,
        rustix::fs::Mode::empty(),
        whiteout,
    )
    .unwrap();
    let root = Root::Layers { lowers: vec![top, bottom.clone()], scratch: scratch(dir) };
    let mut spec = spec(
        root,
        "ls /data; cat /data/both; echo new > /data/both; echo new > /etc/new; cat /data/both; wc -c < /etc/resolv.conf; touch /tmp/x",
    );
    spec.mounts = mounts;
    let size = fs::metadata("/etc/resolv.conf").unwrap().len();
    assert_eq!(run(&spec), (format!("both\ntopnew\n{size}"), 0));
    assert_eq!(fs::read_to_string(bottom.join("data/both")).unwrap(), "bottom");
    assert!(!bottom.join("etc/new").exists());
}

/// As /etc/subuid has it.
fn name_of_caller() -> String {
    let id = std::process::Command::new("id").arg("-un").output().unwrap();
    format!("{}:", String::from_utf8(id.stdout).unwrap().trim())
}

/// The ids of a caller who may have those of others. Otherwise the reason is in words.
fn ids() -> Option<Ids> {
    let may = rustix::process::geteuid().is_root()
        || fs::read_to_string("/etc/subuid").is_ok_and(|text| text.contains(&name_of_caller()));
    match Ids::with_ranges(1000, 1001) {
        Ok(ids) => {
            assert!(may, "there is no range");
            Some(ids)
        }
        Err(why) => {
            assert!(!may && why.contains("/etc/subuid gives user"), "{why}");
            None
        }
    }
}

/// Gives files to users as they are inside.
fn give(ids: &Ids, all: &[(PathBuf, u32, u32)]) {
    let own: Vec<_> = all
        .iter()
        .map(|(path, uid, gid)| serde_json::json!({"path": path, "uid": uid, "gid": gid}))
        .collect();
    let mut child = call_with(ids, serde_json::json!({ "own": own }), Io::inherit()).unwrap();
    assert!(child.wait().unwrap().is_success());
}

/// A sandbox over an image of which most belongs to root.
fn owned(dir: &Path, ids: &Ids, scratch: PathBuf, script: &str) -> Spec {
    let (top, bottom, mounts) = layers(dir);
    fs::create_dir_all(bottom.join("home/cnb")).unwrap();
    for (name, mode) in
        [("etc/conf", 0o644), ("etc/secret", 0o600), ("etc/shared", 0o660), ("data/of-33", 0o755)]
    {
        fs::write(bottom.join(name), "text\n").unwrap();
        fs::set_permissions(bottom.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    let root = ["", "etc", "etc/conf", "etc/secret", "home", "data"].map(|name| (bottom.join(name), 0, 0));
    let others = [
        (top.clone(), 0, 0),
        (top.join("data"), 0, 0),
        (bottom.join("home/cnb"), 1000, 1001),
        (bottom.join("etc/shared"), 0, 1001),
        (bottom.join("data/of-33"), 33, 34),
    ];
    give(ids, &root.into_iter().chain(others).collect::<Vec<_>>());
    let mut spec = spec(Root::Layers { lowers: vec![top, bottom], scratch }, script);
    spec.mounts = mounts;
    spec.ids = Some(ids.clone());
    spec
}

fn others_have_what_is_theirs(dir: &Path) {
    let Some(ids) = ids() else { return };
    let script = "id -u; id -g; id -G
        stat -c '%n %u:%g %a' / /etc /etc/conf /home/cnb /data/of-33 /tmp /dev /workspace
        exec 2>/dev/null
        (echo x >> /etc/conf) || echo 'not written'; rm -f /etc/conf || echo 'not removed'
        mv /etc /etc2 || echo 'not renamed'; cat /etc/secret || echo 'not read'; mkdir /new || echo 'not made'
        chmod 777 /etc/conf || echo 'mode kept'; ln /etc/conf /home/cnb/link || echo 'not linked'
        echo y >> /etc/shared && cat /etc/shared
        echo z > /home/cnb/file && stat -c %u:%g /home/cnb/file; chown 33 /home/cnb/file || echo 'not given away'
        echo w > /workspace/file && stat -c %u:%g /workspace/file
        setpriv --reuid 0 id -u || echo 'not root'; setpriv --clear-groups true || echo 'groups kept'
        unshare -Ur id -u; unshare -U --map-root-user sh -c 'echo x >> /etc/conf' || echo 'not written from below'
        unshare -U --map-auto --map-root-user true || echo 'no ranges below'";
    let workspace = dir.join("workspace");
    fs::create_dir(&workspace).unwrap();
    let mut spec = owned(dir, &ids, scratch(dir), script);
    spec.mounts.push(Mount { source: workspace.clone(), target: "/workspace".into(), writable: true });
    let expected = "1000\n1001\n1001\n/ 0:0 755\n/etc 0:0 755\n/etc/conf 0:0 644\n/home/cnb 1000:1001 755\n\
        /data/of-33 33:34 755\n/tmp 0:0 1777\n/dev 0:0 755\n/workspace 1000:1001 755\nnot written\nnot removed\n\
        not renamed\nnot read\nnot made\nmode kept\nnot linked\ntext\ny\n1000:1001\nnot given away\n1000:1001\n\
        not root\ngroups kept\n0\nnot written from below\nno ranges below";
    let (text, _) = run(&spec);
    for (found, expected) in text.lines().zip(expected.lines()) {
        assert_eq!(found, expected, "{text}");
    }
    assert_eq!(text.lines().count(), expected.lines().count(), "{text}");
    // What the job made is the caller's.
    fs::read(workspace.join("file")).unwrap();
    let metadata = fs::metadata(workspace.join("file")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&metadata), rustix::process::geteuid().as_raw());
}

fn root_changes_an_image(dir: &Path) {
    let Some(ids) = ids() else { return };
    let script =
        "id -u; id -g; id -G; chown 33:34 /etc/conf; stat -c %u:%g /etc/conf; rm /etc/secret; mkdir /new
        ls -d /tmp/of-here; setpriv --reuid 33 --clear-groups id -u; exec 2>/dev/null
        mount -t tmpfs none /new || echo 'not mounted'; ls /proc/1/fd/3/ || echo 'nothing of process 1'
        mknod /new/x b 8 0 || echo 'no device'; echo x > /proc/sys/vm/swappiness || echo 'no setting'
        chroot / true && setpriv --reuid 33 cat /etc/shared || echo 'others have their own'";
    fs::create_dir_all(dir.join("bottom/tmp/of-here")).unwrap();
    let mut spec = owned(dir, &ids, scratch(dir), "");
    spec.rights = Rights::Root;
    spec.job = Job::Call { payload: serde_json::json!({ "script": script }) };
    let expected = "0\n0\n0\n33:34\n/tmp/of-here\n33\nnot mounted\nnothing of process 1\nno device\nno setting\n\
        others have their own\n33 1";
    assert_eq!(run(&spec), (expected.to_owned(), 0));
}

fn what_others_own_is_removed(dir: &Path) {
    let Some(ids) = ids() else { return };
    let work = WorkDir::new(dir).unwrap();
    let script = "mkdir -p /home/cnb/x/y; echo x > /home/cnb/x/y/z; chmod 0 /home/cnb/x; touch /tmp/x";
    let home = work.path().join("image");
    fs::create_dir(&home).unwrap();
    assert_eq!(run(&owned(&home, &ids, scratch(work.path()), script)).1, 0);
    let path = work.path().to_owned();
    if !rustix::process::geteuid().is_root() {
        assert!(fs::remove_dir_all(&path).is_err(), "others own nothing");
    }
    work.close().unwrap();
    assert!(!path.exists());
    // As a build that was killed leaves it.
    let dead = dir.join(format!("strata-{}-abcdef", rustix::process::geteuid().as_raw()));
    fs::create_dir_all(&dead).unwrap();
    assert_eq!(run(&owned(&dead, &ids, scratch(&dead), script)).1, 0);
    assert_eq!(WorkDir::sweep(dir).unwrap().removed, 1);
    assert!(!dead.exists());
}

fn a_job_has_a_session(dir: &Path) {
    // A session outside has the number 0 inside.
    let script = "cut -d' ' -f6 /proc/self/stat; (: </dev/tty) 2>/dev/null || echo 'no terminal'";
    let io = Io { stdin: Stdio::null(), stdout: Stdio::piped(), ..Io::inherit() };
    let mut child = Sandbox::spawn(&host(dir, script), io).unwrap();
    assert_eq!(std::io::read_to_string(child.take_stdout().unwrap()).unwrap(), "1\nno terminal\n");
    assert!(child.wait().unwrap().is_success());
}

fn limits_hold(dir: &Path) {
    let limits = Limits { memory: Some(64 << 20), cpus: Some(500), pids: Some(20) };
    if !rustix::process::geteuid().is_root()
        && let Err(error) = limits.group()
    {
        // In a session whose groups are its own, it may; whoever may not is told.
        assert!(error.to_string().contains("control group"), "{error}");
        assert!(error.hint().unwrap().contains("--user --scope"), "{error:?}");
        return;
    }
    // Each by itself: kernels treat some of them otherwise when they are alone.
    for one in [
        Limits { memory: limits.memory, ..Limits::default() },
        Limits { cpus: limits.cpus, ..Limits::default() },
        Limits { pids: limits.pids, ..Limits::default() },
    ] {
        let group = one.group().unwrap().unwrap();
        assert_eq!(run(&Spec { groups: group.dirs(), ..host(dir, "exit 3") }).1, 3);
    }
    let limited = |script: &str| {
        let group = limits.group().unwrap().unwrap();
        let outcome = run(&Spec { groups: group.dirs(), ..host(dir, script) });
        (outcome, group.met(), group.dirs())
    };
    let ((_, code), met, dirs) = limited("exit 3");
    assert_eq!((code, met), (3, vec![]));
    assert!(dirs.iter().all(|dir| !dir.exists() && !dir.parent().unwrap().exists()), "{dirs:?}");
    let ((text, _), met, _) =
        limited("head -c 300m /dev/zero | tail -c 200m >/dev/null 2>&1; echo $?; echo lives");
    assert_eq!(text, "137\nlives");
    assert!(matches!(met[..], [Met::Memory(1..)]), "{met:?}");
    let ((text, _), met, _) =
        limited("i=0; while [ $i -lt 40 ]; do sleep 9 & i=$((i+1)); done 2>/dev/null; echo out");
    assert_ne!(text, "out");
    assert!(matches!(met[..], [Met::Pids(1..)]), "{met:?}");
    a_tenth_of_a_processor_is_all(dir);
    what_a_job_made_is_removed(dir, limits);
    // As a build leaves it that was killed.
    let group = limits.group().unwrap().unwrap();
    let left = group.dirs()[0].parent().unwrap().parent().unwrap().join("strata-4194305-abcdef");
    fs::create_dir_all(left.join("inner")).unwrap();
    drop(limits.group().unwrap());
    assert!(!left.exists());
}

/// Two that would never stop meet the limit sooner or later, however busy the machine is.
fn a_tenth_of_a_processor_is_all(dir: &Path) {
    let group = Limits { cpus: Some(100), ..Limits::default() }.group().unwrap().unwrap();
    let script = "while :; do :; done & while :; do :; done";
    let mut child =
        Sandbox::spawn(&Spec { groups: group.dirs(), ..host(dir, script) }, Io::inherit()).unwrap();
    let read = |name: &str| {
        let mut all = group.dirs().into_iter().map(|dir| dir.parent().unwrap().join(name));
        all.find_map(|path| fs::read_to_string(path).ok())
    };
    match read("cpu.max") {
        Some(max) => assert_eq!(max.trim(), "10000 100000"),
        None => {
            assert_eq!(read("cpu.cfs_period_us").unwrap().trim(), "100000");
            assert_eq!(read("cpu.cfs_quota_us").unwrap().trim(), "10000");
        }
    }
    let started = Instant::now();
    loop {
        let stat = read("cpu.stat").unwrap();
        let throttled = stat.lines().find_map(|line| line.strip_prefix("nr_throttled ")).unwrap();
        if throttled.parse::<u64>().unwrap() > 0 {
            break;
        }
        assert!(started.elapsed() < PATIENCE, "{stat}");
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().unwrap();
}

/// Groups below those that the job is in.
fn what_a_job_made_is_removed(dir: &Path, limits: Limits) {
    let group = limits.group().unwrap().unwrap();
    let dirs = group.dirs();
    dirs.iter().for_each(|dir| fs::create_dir_all(dir.join("a/b")).unwrap());
    assert_eq!(run(&Spec { groups: dirs.clone(), ..host(dir, "true") }).1, 0);
    drop(group);
    assert!(dirs.iter().all(|dir| !dir.parent().unwrap().exists()), "{dirs:?}");
}

fn symlinks_stay_inside(dir: &Path) {
    let (top, bottom, mounts) = layers(dir);
    let outside = dir.join("outside");
    fs::create_dir(&outside).unwrap();
    symlink(&outside, bottom.join("workspace")).unwrap();
    let mut spec = spec(Root::Layers { lowers: vec![top, bottom], scratch: scratch(dir) }, "exit 0");
    spec.mounts = mounts;
    spec.mounts.push(Mount { source: dir.to_owned(), target: "/workspace/sub".into(), writable: true });
    // The symlink dangles inside, which is an error; that it exists outside must not help.
    let outcome = Sandbox::spawn(&spec, Io::inherit());
    assert!(outcome.is_err());
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

fn work_directories_vanish(dir: &Path) {
    let work = WorkDir::new(dir).unwrap();
    let path = work.path().to_owned();
    let deep = path.join("a/b/c");
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("file"), "").unwrap();
    let outside = dir.join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("kept"), "").unwrap();
    symlink(&outside, deep.join("link")).unwrap();
    for (name, mode) in [("a/b/c", 0o555), ("a/b", 0), ("a", 0o111)] {
        fs::set_permissions(path.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    let mut spec = host(dir, "mkdir -p /tmp/x/y; chmod 0 /tmp/x");
    let scratch = path.join("scratch");
    fs::create_dir(&scratch).unwrap();
    spec.root = Root::Host { hide: vec![], scratch };
    assert_eq!(run(&spec).1, 0);
    work.close().unwrap();
    assert!(!path.exists());
    assert!(outside.join("kept").exists());
}

fn a_removal_goes_on(dir: &Path) {
    let gone = |path: &Path| {
        let started = Instant::now();
        while path.symlink_metadata().is_ok() {
            assert!(started.elapsed() < PATIENCE, "{} is still there", path.display());
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    // Little is removed at once, whatever its modes.
    let little = WorkDir::new(dir).unwrap().handed_over();
    let path = little.path().to_owned();
    fs::create_dir_all(path.join("a/b")).unwrap();
    little.close().unwrap();
    gone(&path);
    let much = WorkDir::new(dir).unwrap().handed_over();
    let path = much.path().to_owned();
    for number in 0..300 {
        let below = path.join(number.to_string());
        fs::create_dir(&below).unwrap();
        (0..100).for_each(|file| fs::write(below.join(file.to_string()), "x").unwrap());
        fs::set_permissions(&below, fs::Permissions::from_mode(0o000)).unwrap();
    }
    drop(much);
    // It has the lock of the one who is gone.
    assert_eq!(WorkDir::sweep(dir).unwrap().left.len(), 0);
    gone(&path);
    // What is no directory of a build, or not the one that is locked, is nobody's to remove.
    let kept = WorkDir::new(dir).unwrap();
    fs::create_dir(dir.join("other")).unwrap();
    let other = dir.join("other");
    for (path, what) in [(&other, "start"), (&other, "remove"), (&kept.path().to_owned(), "remove")] {
        let mut remover = Command::new("/proc/self/exe");
        remover.arg("__strata-remove").arg(path).arg(what).stdin(File::open(&other).unwrap());
        assert_eq!(remover.status().unwrap().code(), Some(1));
        assert!(path.is_dir());
    }
}

fn a_remover_has_nothing_of_the_build(dir: &Path) {
    let (_reader, pipe) = std::io::pipe().unwrap();
    rustix::io::fcntl_setfd(&pipe, rustix::io::FdFlags::empty()).unwrap();
    let pipe = fs::read_link(format!("/proc/self/fd/{}", pipe.as_raw_fd())).map(|link| (link, pipe)).unwrap();
    // How much it takes until somebody sees a remover depends on the machine.
    for files in (8..18).map(|power| 1 << power) {
        let work = WorkDir::new(dir).unwrap().handed_over();
        let path = work.path().to_owned();
        for number in 0..files / 64 {
            let below = path.join(number.to_string());
            fs::create_dir(&below).unwrap();
            (0..64).for_each(|file| fs::write(below.join(file.to_string()), "").unwrap());
        }
        drop(work);
        assert_eq!(children(), 0, "a build that goes on has a zombie");
        while path.exists() {
            let Some((environment, files)) = remover_of(&path) else { continue };
            assert_eq!(environment, "");
            assert!(!files.contains(&pipe.0), "{files:?}");
            return;
        }
    }
    panic!("nobody was seen to remove anything");
}

/// How many children this process has, living or not waited for.
fn children() -> usize {
    let parent = format!("PPid:\t{}\n", std::process::id());
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let status = |entry: fs::DirEntry| fs::read_to_string(entry.path().join("status")).ok();
    entries.filter_map(status).filter(|status| status.contains(&parent)).count()
}

/// The environment and the open files of the process that removes this directory, if there is one.
fn remover_of(path: &Path) -> Option<(String, Vec<PathBuf>)> {
    let own = format!("\0{}\0remove\0", path.display());
    let is_it = |process: &PathBuf| {
        fs::read(process.join("cmdline")).is_ok_and(|line| String::from_utf8_lossy(&line).ends_with(&own))
    };
    let process = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path()).find(is_it)?;
    let environment = fs::read_to_string(process.join("environ")).ok()?;
    let files = fs::read_dir(process.join("fd")).ok()?.flatten();
    let files: Vec<_> = files.filter_map(|file| fs::read_link(file.path()).ok()).collect();
    // Without its lock it is about to end.
    files.iter().any(|file| file == path).then_some((environment, files))
}

fn a_sweep_removes_the_dead_only(dir: &Path) {
    let alive = WorkDir::new(dir).unwrap();
    let uid = rustix::process::geteuid().as_raw();
    let dead = dir.join(format!("strata-{uid}-abcdef"));
    fs::create_dir_all(dead.join("x")).unwrap();
    let other = dir.join(format!("strata-{}-abcdef", uid + 1));
    fs::create_dir_all(&other).unwrap();
    assert_eq!(WorkDir::sweep(dir).unwrap().removed, 1);
    assert!(alive.path().exists() && other.exists() && !dead.exists());
}

/// The inner one meets what a container has: a covered /proc, and overlays below.
fn a_sandbox_can_hold_another(dir: &Path) {
    let exe = fs::read_link("/proc/self/exe").unwrap();
    let copy = dir.join("exe");
    fs::copy(exe, &copy).unwrap();
    let mut spec = host(dir, "HOME=/etc /probe 'exit codes' && HOME=/etc /probe 'has the ids'");
    spec.mounts.push(Mount { source: copy, target: "/probe".into(), writable: false });
    let (text, code) = run(&spec);
    assert_eq!(code, 0, "{text}");
}

fn an_overlay_is_no_disk(dir: &Path) {
    let exe = fs::read_link("/proc/self/exe").unwrap();
    let copy = dir.join("exe");
    fs::copy(exe, &copy).unwrap();
    // /opt is an overlay inside, and the inner sandbox has its scratch directory there.
    let mut spec = host(dir, "mkdir /opt/s && /probe --in /opt/s");
    spec.mounts.push(Mount { source: copy, target: "/probe".into(), writable: false });
    let (text, code) = run(&spec);
    assert_eq!((text.as_str(), code), ("kept", 0));
}

fn nothing_is_left_mounted(dir: &Path) {
    let before = fs::read_to_string("/proc/self/mountinfo").unwrap();
    run(&host(dir, "true"));
    assert_eq!(before, fs::read_to_string("/proc/self/mountinfo").unwrap());
}
