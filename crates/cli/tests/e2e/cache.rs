//! What a build takes from those before it.

use crate::bench::{Bench, Buildpack, Done};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// Says what it finds; each kind of layer is made when it is not there, and known by its description.
fn remembering(bench: &Bench) -> PathBuf {
    bench.add(&Buildpack::new("e2e/remembering").build(
        r#"
        for name in cached both launched; do
            if [ -e "$layers/$name/file" ]; then echo "$name is there"; fi
            if [ -e "$layers/$name.toml" ]; then echo "$name is known"; fi
        done
        if [ -e "$layers/store.toml" ]; then echo "store is there"; fi
        for name in cached both launched; do
            if [ ! -e "$layers/$name.toml" ]; then mkdir "$layers/$name"; echo MARKER >"$layers/$name/file"; fi
        done
        printf '[types]\ncache = true\n' >"$layers/cached.toml"
        printf '[types]\ncache = true\nlaunch = true\nbuild = true\n' >"$layers/both.toml"
        printf '[types]\nlaunch = true\n' >"$layers/launched.toml"
        printf '[metadata]\nkept = "yes"\n' >"$layers/store.toml"
        "#,
    ))
}

const ALL: [&str; 6] = [
    "cached is there",
    "cached is known",
    "both is there",
    "both is known",
    "launched is known",
    "store is there",
];

/// Which lines the buildpack said.
fn found(done: &Done) -> Vec<&'static str> {
    ALL.into_iter().filter(|line| done.stdout.contains(line)).collect()
}

#[test]
fn the_second_build_finds_what_the_first_left() {
    let bench = Bench::new();
    let buildpack = [remembering(&bench)];
    let first = bench.build(&[], &buildpack).ok();
    assert_eq!(found(&first), [""; 0]);
    let second = bench.build(&["-v"], &buildpack).ok();
    assert_eq!(found(&second), ALL, "{second:#?}");
    assert_eq!(first.digest(), second.digest());
    second.says("Reusing layer 'e2e/remembering:both'");
    second.says("Reusing cache layer 'e2e/remembering:both'");
    assert!(!second.stderr.contains("Warning"), "{second:#?}");
    // A version of its own shares the cache, and has no image to take a layer from.
    let other = Done::of(bench.build_command(&["-t", "web:2"], &buildpack)).ok();
    assert_eq!(found(&other), ALL[..4]);
    let named = Done::of(bench.build_command(&["-t", "web:3", "--previous-image", "web"], &buildpack)).ok();
    assert_eq!(found(&named), ALL);
    assert_eq!(named.digest(), first.digest());
    // Another app has a cache of its own.
    assert_eq!(found(&Done::of(bench.build_command(&["-t", "other"], &buildpack)).ok()), [""; 0]);

    let cleared = bench.build(&["--clear-cache"], &buildpack).ok();
    assert_eq!(found(&cleared), ["store is there"]);
    assert_eq!(cleared.digest(), first.digest());
    let without = bench.build(&["--no-cache"], &buildpack).ok();
    assert_eq!(found(&without), ALL[4..]);
    assert_eq!(without.digest(), first.digest());
    assert_eq!(found(&bench.build(&[], &buildpack).ok()), ALL);
    bench.is_clean_soon();
}

#[test]
fn the_cache_is_where_it_was_asked_for() {
    let bench = Bench::new();
    let buildpack = [remembering(&bench)];
    for (args, made) in [
        (["--cache", "app/.cache"], "app/.cache/committed/io.buildpacks.lifecycle.cache.metadata"),
        (["--cache-image", "oci:images/cache:x"], "images/cache/index.json"),
    ] {
        let first = bench.build(&[&args[..], &["--clear-cache"]].concat(), &buildpack).ok();
        assert_eq!(found(&first), ["store is there"; 6][..usize::from(args[0] != "--cache")], "{args:?}");
        assert!(bench.path(made).exists(), "{args:?}");
        let second = bench.build(&args, &buildpack).ok();
        assert_eq!(found(&second), ALL, "{args:?}");
        // A cache in the app's folder is no part of the app.
        assert_eq!(first.digest(), second.digest());
        assert!(!bench.path("home/.cache/strata/apps").exists());
    }
    for (args, problem) in [
        (["--cache-image", "docker:cache"], "a cache image is in a registry, or in a folder"),
        (["--cache-image", "oci:images/index.docker.io/library/web/latest"], "the cache is not filled"),
        (["--cache", "app/marker"], "doing without the cache"),
        (["--previous-image", "oci:nothing"], "cannot open the image 'oci:nothing': there is none"),
    ] {
        let done = bench.build(&args, &buildpack);
        let said = format!("{}{}", done.stdout, done.stderr);
        assert!(said.contains(problem), "{args:?}: {done:#?}");
    }
}

#[test]
fn nobody_waits_for_the_cache() {
    let bench = Bench::new();
    let buildpack = [remembering(&bench)];
    let done = bench.build(&["--json"], &buildpack).ok();
    let events: Vec<Value> = done.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let at = |name: &str, phase: &str| {
        let is_it = |event: &Value| event["event"] == name && (phase.is_empty() || event["phase"] == phase);
        events.iter().position(is_it).unwrap_or_else(|| panic!("no {name} {phase}: {events:#?}"))
    };
    let order = [
        at("phase-started", "detect"),
        at("phase-started", "restore"),
        at("phase-started", "build"),
        at("phase-started", "export"),
        at("image", ""),
        at("phase-started", "cache"),
    ];
    assert!(order.is_sorted(), "{order:?}");
    // One that cannot be written costs a warning.
    let shelf = bench.path("home/.cache/strata/apps");
    let cache = fs::read_dir(&shelf).unwrap().next().unwrap().unwrap().path();
    fs::remove_dir_all(cache.join("committed")).unwrap();
    fs::create_dir(cache.join("staging")).unwrap();
    fs::write(cache.join("committed-backup"), "").unwrap();
    bench.build(&[], &buildpack).ok();
    fs::remove_dir_all(&shelf).unwrap();
    fs::write(&shelf, "").unwrap();
    let done = bench.build(&[], &buildpack).ok();
    done.says("doing without the cache of index.docker.io/library/web");
    done.digest();
}

/// `strata cache` with these arguments.
fn cache(bench: &Bench, args: &[&str]) -> Done {
    Done::of(bench.strata([&["cache"], args].concat()))
}

/// The apps of all caches.
fn apps(bench: &Bench) -> Vec<String> {
    let listed: Value = serde_json::from_str(&cache(bench, &["ls", "--json"]).ok().stdout).unwrap();
    listed.as_array().unwrap().iter().map(|cache| cache["app"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn caches_are_listed_measured_and_removed() {
    let bench = Bench::new();
    assert_eq!(cache(&bench, &["ls"]).ok().stdout, "");
    let buildpack = [bench.add(&Buildpack::new("e2e/large").build(
        "for name in small large; do layer $name cache; done
         head -c 3000000 /dev/zero >$layers/large/file",
    ))];
    let folder = bench.path("app").canonicalize().unwrap().display().to_string();
    for args in [&["-t", "web:1"], &["-t", "example.com/team/other"], &["-o", "out"]] {
        Done::of(bench.build_command(args, &buildpack)).ok();
    }
    let all = [folder.as_str(), "example.com/team/other", "index.docker.io/library/web"];
    assert_eq!(apps(&bench), all);
    cache(&bench, &["ls"]).says("used just now");
    let usage = cache(&bench, &["du", "web:2"]).ok();
    usage.says("   3.0 MB    e2e/large:large\n");
    usage.says("in 1 cache\n");
    let usage: Value = serde_json::from_str(&cache(&bench, &["du", "--json"]).ok().stdout).unwrap();
    assert_eq!(usage[2]["layers"][0]["layer"], "e2e/large:large", "{usage}");
    assert_eq!(usage[2]["layers"].as_array().unwrap().len(), 2);

    for refused in [&["prune", "nobody"][..], &["prune", "--older-than", "30"], &["du", "nobody"]] {
        assert_ne!(cache(&bench, refused).code, 0, "{refused:?}");
    }
    let none = cache(&bench, &["prune"]).ok();
    none.says("in 0 caches removed");
    none.says("3 caches used in the last 30 days; --all removes all");
    cache(&bench, &["prune", "--all", "--dry-run"]).ok().says("in 3 caches would be removed");
    cache(&bench, &["prune", "--older-than", "1d"]).ok().says("in 0 caches removed");
    assert_eq!(apps(&bench), all);
    // A month ago.
    let listed: Value = serde_json::from_str(&cache(&bench, &["ls", "--json"]).ok().stdout).unwrap();
    let used = PathBuf::from(listed[1]["path"].as_str().unwrap()).join("app");
    let month = std::time::SystemTime::now() - std::time::Duration::from_secs(30 * 86400);
    fs::File::options().write(true).open(used).unwrap().set_modified(month).unwrap();
    cache(&bench, &["ls"]).says("used 30 days ago");
    // Room for all but a byte; trees are kept besides where the disk allows it.
    let room =
        listed.as_array().unwrap().iter().map(|cache| cache["size"].as_u64().unwrap()).sum::<u64>() - 1;
    cache(&bench, &["prune", "--max-size", &room.to_string()]).ok().says("example.com/team/other\n");
    assert_eq!(apps(&bench), [all[0], all[2]]);
    cache(&bench, &["prune", "web", "--older-than", "0d"]).ok();
    assert_eq!(apps(&bench), [all[0]]);
    // By its folder, as it was named.
    cache(&bench, &["prune", &folder]).ok().says("in 1 cache removed");
    assert_eq!(apps(&bench), [""; 0]);
    assert_eq!(fs::read_dir(bench.path("home/.cache/strata/apps")).unwrap().count(), 0);
}

/// Fails with what is missing where trees cannot stay.
fn needs_room_for_trees(dir: &Path) {
    const KINDS: [(&str, u64); 3] = [("ext4", 0xef53), ("XFS", 0x5846_5342), ("Btrfs", 0x9123_683e)];
    const ROOM: u64 = 1 << 30;
    let kind = u64::try_from(rustix::fs::statfs(dir).unwrap().f_type).unwrap();
    let names = KINDS.map(|(name, _)| name).join(", ");
    let is_good = KINDS.iter().any(|(_, good)| *good == kind);
    assert!(
        is_good,
        "{} must be on one of {names}, and is on a file system of type {kind:#x}",
        dir.display()
    );
    let found = rustix::fs::statvfs(dir).unwrap();
    let free = found.f_bavail * found.f_frsize;
    assert!(free >= ROOM, "1 GiB must be free in {}, and {} MiB are", dir.display(), free >> 20);
}

#[test]
fn trees_of_cached_layers_are_there_again_unless_something_happened_to_them() {
    let bench = Bench::new();
    let cache = tempfile::Builder::new().prefix("e2e-trees-").tempdir_in("/var/tmp").unwrap();
    needs_room_for_trees(cache.path());
    let buildpack = [bench.add(&Buildpack::new("e2e/trees").build(
        r#"
        file=$layers/deps/file
        if [ -e $file ]; then echo "found $(cat $file)"; fi
        layer deps cache
        [ -e $file ] || echo one >$file
        [ ! -e change ] || { touch -r $file then; cat change >$file; touch -r then $file; }
        echo "inode $(stat -c %i $file)"
        [ ! -e fail ] || { echo bad >$file; exit 1; }
        "#,
    ))];
    let build = || {
        let mut command = bench.build_command(&["-t", "web"], &buildpack);
        command.env("XDG_CACHE_HOME", cache.path());
        let done = Done::of(command);
        let said = |word: &str| {
            let line = done.stdout.lines().find_map(|line| line.split_once(word));
            line.map(|(_, rest)| rest.to_owned()).unwrap_or_default()
        };
        (done.code, said("found "), said("inode "))
    };
    let (_, nothing, first) = build();
    assert_eq!(nothing, "");
    for _ in 0..2 {
        assert_eq!(build(), (0, "one".into(), first.clone()));
    }
    // What the buildpack itself changes is what the cache has from then on.
    bench.write("app/change", "two\n");
    assert_eq!(build(), (0, "one".into(), first.clone()));
    fs::remove_file(bench.path("app/change")).unwrap();
    assert_eq!(build(), (0, "two".into(), first.clone()));
    // Nothing of a build that failed comes back.
    bench.write("app/fail", "");
    let (code, found, _) = build();
    assert_eq!((code, found.as_str()), (51, "two"));
    fs::remove_file(bench.path("app/fail")).unwrap();
    assert_eq!(build().1, "two");
    // Nor does what others have written to a tree, however they hide it.
    let app = fs::read_dir(cache.path().join("strata/apps")).unwrap().next().unwrap().unwrap().path();
    let tree = |of: &str| {
        let entries = fs::read_dir(app.join("trees")).unwrap().map(|entry| entry.unwrap().path());
        let tree = entries.filter(|path| path.is_dir()).max();
        tree.unwrap_or_else(|| panic!("no tree {of}")).join("file")
    };
    let before = tree("stayed").metadata().unwrap().modified().unwrap();
    fs::write(tree("is left"), "bad\n").unwrap();
    fs::File::options().write(true).open(tree("is left")).unwrap().set_modified(before).unwrap();
    assert_eq!(build().1, "two");
    assert_eq!(build().1, "two");
    // A cache that is cleared has none.
    let mut cleared = bench.build_command(&["-t", "web", "--clear-cache"], &buildpack);
    cleared.env("XDG_CACHE_HOME", cache.path());
    assert!(!Done::of(cleared).ok().stdout.contains("found"));
}
