use super::*;
use strata_spec::extend::Kind;

/// A context and the folder that files are copied to.
struct World {
    dir: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let world = Self { dir: tempfile::tempdir().unwrap() };
        for path in ["context/sub/deep", "to"] {
            fs::create_dir_all(world.dir.path().join(path)).unwrap();
        }
        fs::write(world.dir.path().join("secret"), "of the machine").unwrap();
        for (path, mode) in [("a.txt", 0o644), ("b.txt", 0o755), ("sub/c", 0o600), ("sub/deep/d", 0o644)] {
            let path = world.dir.path().join("context").join(path);
            fs::write(&path, path.file_name().unwrap().as_bytes()).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        }
        world
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    /// Copies sources to a path below `to`, and says what is there afterwards or what went wrong.
    fn copy(&self, sources: &[&str], to: &str, how: &How) -> Result<Vec<String>, String> {
        let target = self.path("to");
        let context = self.path("context");
        let ground = Ground {
            extension: "test@1",
            kind: Kind::Run,
            context: Some(&context),
            variables: &[],
            alone: None,
            end_leftovers: &|| 0,
        };
        let to = format!("{}/{to}", target.display());
        for source in sources {
            let content = Content::Path((*source).to_owned());
            copy(&content, &to, sources.len(), how, &ground).map_err(|fault| fault.causes.join(": "))?;
        }
        let mut all = Vec::new();
        list(&target, &target, &mut all);
        all.sort();
        Ok(all)
    }
}

fn list(top: &Path, dir: &Path, all: &mut Vec<String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let metadata = path.symlink_metadata().unwrap();
        let name = path.strip_prefix(top).unwrap().display().to_string();
        if metadata.is_dir() {
            list(top, &path, all);
        } else if metadata.is_symlink() {
            all.push(format!("{name} -> {}", fs::read_link(&path).unwrap().display()));
        } else {
            let mode = metadata.permissions().mode() & 0o7777;
            all.push(format!("{name} {mode:o} {}", fs::read_to_string(&path).unwrap()));
        }
    }
}

const PLAIN: How = How { owner: (0, 0), mode: None, unpacks: false };

/// Nobody else can give files away.
fn plain() -> How {
    PLAIN
}

#[test]
fn files_and_folders_go_where_they_are_wanted() {
    for (sources, to, expected) in [
        (&["a.txt"][..], "x", vec!["x 644 a.txt"]),
        (&["a.txt"], "x/", vec!["x/a.txt 644 a.txt"]),
        (&["./b.txt"], "", vec!["b.txt 755 b.txt"]),
        (&["a.txt", "b.txt"], "y/", vec!["y/a.txt 644 a.txt", "y/b.txt 755 b.txt"]),
        (&["*.txt"], "z/", vec!["z/a.txt 644 a.txt", "z/b.txt 755 b.txt"]),
        (&["sub"], "s", vec!["s/c 600 c", "s/deep/d 644 d"]),
        (&["s?b/[c]"], "t", vec!["t 600 c"]),
        (&["/sub/deep/"], "u", vec!["u/d 644 d"]),
        (&["../../sub/c"], "v", vec!["v 600 c"]),
    ] {
        let world = World::new();
        assert_eq!(world.copy(sources, to, &plain()).unwrap(), expected, "{sources:?} {to}");
    }
    let how = How { mode: Some(0o4711), ..plain() };
    assert_eq!(World::new().copy(&["sub/c"], "x", &how).unwrap(), ["x 4711 c"]);
}

#[test]
fn links_lead_to_places_in_the_context_and_stay_links_in_folders() {
    let world = World::new();
    let link = |to: &str, at: &str| symlink(to, world.path("context").join(at)).unwrap();
    link("../../secret", "sub/out");
    link("../a.txt", "sub/in");
    link("/sub", "folder");
    link("/proc/self/root", "magic");
    assert_eq!(world.copy(&["sub/in"], "in", &plain()).unwrap(), ["in 644 a.txt"]);
    for (path, word) in [
        // Seen from the context's own root there is no such file.
        ("sub/out", "cannot open"),
        ("magic/etc/passwd", "nothing in the context"),
        ("../secret", "nothing in the context"),
        (&*world.path("secret").display().to_string(), "nothing in the context"),
    ] {
        let error = world.copy(&[path], "out", &plain()).unwrap_err();
        assert!(error.contains(word), "{path}: {error}");
    }
    let expected =
        ["in 644 a.txt", "t/c 600 c", "t/deep/d 644 d", "t/in -> ../a.txt", "t/out -> ../../secret"];
    assert_eq!(world.copy(&["folder"], "t", &plain()).unwrap(), expected);
}

#[test]
fn what_is_in_the_way_is_replaced_unless_it_is_a_folder() {
    let world = World::new();
    fs::write(world.path("to/x"), "old").unwrap();
    symlink("/dev/null", world.path("to/l")).unwrap();
    assert_eq!(world.copy(&["a.txt"], "x", &plain()).unwrap(), ["l -> /dev/null", "x 644 a.txt"]);
    assert_eq!(world.copy(&["a.txt"], "l", &plain()).unwrap(), ["l 644 a.txt", "x 644 a.txt"]);
    // Into it.
    fs::create_dir(world.path("to/d")).unwrap();
    assert!(world.copy(&["a.txt"], "d", &plain()).unwrap().contains(&"d/a.txt 644 a.txt".to_owned()));
    fs::create_dir_all(world.path("to/e/c")).unwrap();
    let error = world.copy(&["sub"], "e", &plain()).unwrap_err();
    assert!(error.contains("is a directory"), "{error}");
    let error = world.copy(&["sub"], "x", &plain()).unwrap_err();
    assert!(error.contains("no directory"), "{error}");
}

#[test]
fn odd_files_are_refused() {
    let world = World::new();
    let pipe = world.path("context/sub/pipe");
    rustix::fs::mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR, 0).unwrap();
    for source in ["sub", "sub/pipe"] {
        let error = world.copy(&[source], "x", &plain()).unwrap_err();
        assert!(error.contains("a pipe"), "{error}");
    }
    let error = world.copy(&["[a"], "x", &plain()).unwrap_err();
    assert!(error.contains("no pattern"), "{error}");
    let error = world.copy(&["*.txt"], "x", &plain()).unwrap_err();
    assert!(error.contains("several files"), "{error}");
}

#[test]
fn archives_are_unpacked_where_add_finds_them() {
    let world = World::new();
    let tar = std::process::Command::new("tar");
    let make = |mut tar: std::process::Command, flags: &str, name: &str| {
        let status = tar
            .args([flags, &world.path("context").join(name).display().to_string(), "-C"])
            .arg(world.path("context"))
            .arg("sub");
        assert!(status.status().unwrap().success());
    };
    make(tar, "czf", "x.tgz");
    make(std::process::Command::new("tar"), "cf", "y.tar");
    fs::write(world.path("context/z.bz2"), "BZh91AY").unwrap();
    let add = How { unpacks: true, ..plain() };
    let expected = ["t/sub/c 600 c", "t/sub/deep/d 644 d"];
    assert_eq!(world.copy(&["x.tgz"], "t", &add).unwrap(), expected);
    assert_eq!(world.copy(&["y.tar"], "t/", &add).unwrap(), expected);
    // A file that is none is copied.
    assert!(world.copy(&["a.txt"], "t/", &add).unwrap().contains(&"t/a.txt 644 a.txt".to_owned()));
    assert!(world.copy(&["z.bz2"], "t/", &add).unwrap_err().contains("bzip2"));
    // The folder that is there stays as it is, whatever the archive says of its own.
    let private = Permissions::from_mode(0o700);
    fs::set_permissions(world.path("context/sub"), private).unwrap();
    let status = std::process::Command::new("tar")
        .args(["czf", "../dot.tgz", "."])
        .current_dir(world.path("context/sub"))
        .status();
    assert!(status.unwrap().success());
    for to in ["t", "new"] {
        assert!(world.copy(&["dot.tgz"], to, &add).unwrap().contains(&format!("{to}/c 600 c")));
        let mode = fs::metadata(world.path("to").join(to)).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode, 0o755, "{to}");
    }
    let error = world.copy(&["x.tgz"], "u/", &How { owner: (5, 5), ..add }).unwrap_err();
    assert!(error.contains("not possible"), "{error}");
}

#[test]
fn what_is_there_and_leads_nowhere_is_told() {
    let world = World::new();
    fs::create_dir(world.path("context/links")).unwrap();
    std::os::unix::fs::symlink("gone", world.path("context/links/dangling")).unwrap();
    std::os::unix::fs::symlink("loop", world.path("context/loop")).unwrap();
    for (source, word) in [
        ("links/*", "links/dangling"),
        ("links/dangling", "links/dangling"),
        ("loop/x", "loop/x"),
        ("loop/*", "loop"),
        ("links/gone", "nothing in the context is called"),
        ("a.txt/x", "nothing in the context is called"),
        ("a.txt/*", "nothing in the context is called"),
    ] {
        let error = world.copy(&[source], "x/", &plain()).unwrap_err();
        assert!(error.contains(word), "{source}: {error}");
    }
    assert_eq!(world.copy(&["links"], "y/", &plain()).unwrap(), ["y/dangling -> gone"]);
}
