//! Images in a Docker daemon as people have them: given to it, run by it, made by it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use strata_layer::{
    Compression, Content, GeneratedEntry, LayerError, Owner, Source, TarWriter, pack, pack_with, visit_files,
};
use strata_oci::{Descriptor, Digest, Encoded, History, Image, Layer, media_type};
use strata_store::daemon::{Client, Error, Settings};
use strata_store::{Copied, Layout, Progress, Records, Store, StoreError, host_architecture, scratch};
use support::docker::{Docker, Proxy, probe, settings};
use support::podman::Podman;
use support::server::{Reply, Server};
use support::{chain, noise, put_blob, read_blob, zstd};

const CREATED: &str = "1980-01-01T00:00:01Z";

/// The archive of a layer with one file.
fn tar_of(name: &str, mode: u32, content: &[u8]) -> Vec<u8> {
    let entry = GeneratedEntry {
        name: name.to_owned(),
        mode,
        owner: Owner::ROOT,
        content: Content::Bytes(content.to_vec()),
    };
    let mut tar = Vec::new();
    pack(&Source::Generated(vec![entry]), Compression::None, 1, &mut tar).unwrap();
    tar
}

fn text(name: &str, content: &str) -> Vec<u8> {
    tar_of(name, 0o644, content.as_bytes())
}

fn program() -> Vec<u8> {
    tar_of("/probe", 0o755, probe())
}

/// An image of plain layers; nothing is stored.
fn image_of(layers: &[&[u8]]) -> Image {
    let mut image = Image::empty("linux", host_architecture());
    for tar in layers {
        let descriptor = Descriptor::of(media_type::OCI_LAYER, tar);
        let history = History { created_by: Some("a test".to_owned()), ..History::default() };
        image.append(Layer { diff_id: descriptor.digest, descriptor, history: Some(history) });
    }
    image.normalise_history(CREATED);
    image.config_mut().set_entrypoint(["/probe"]);
    image
}

/// Writes the layers and stores the image.
fn put(store: &dyn Store, layers: &[&[u8]], names: &[&str]) -> Encoded {
    layers.iter().for_each(|tar| drop(put_blob(store, tar)));
    let encoded = image_of(layers).encode().unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    store.put_image(&encoded, &names).unwrap();
    encoded
}

fn diff_id(tar: &[u8]) -> Descriptor {
    Descriptor::new(media_type::DOCKER_LAYER, Digest::of(tar), 0)
}

fn daemon_error(error: StoreError) -> Error {
    match error {
        StoreError::Daemon(error) => *error,
        other => panic!("{}", chain(&other)),
    }
}

#[test]
fn an_image_runs_and_reads_back_under_the_id_of_its_configuration() {
    let docker = Docker::shared();
    let client = docker.client();
    let image = client.open("reads/back:v1").unwrap();
    assert_eq!(image.read_image().unwrap(), None);
    let layers = [program(), text("/a", "first\n"), text("/a", "second\n")];
    let encoded = put(&image, &[&layers[0], &layers[1], &layers[2]], &[]);
    let id = docker.id("reads/back:v1");
    assert_eq!(id, encoded.config_digest.to_string());
    assert_eq!(docker.run(&["run", "--rm", "--network=none", "reads/back:v1", "/a"]), "second");

    for name in ["reads/back:v1", &id, &id["sha256:".len()..], "docker.io/reads/back:v1"] {
        let handle = client.open(name).unwrap();
        let found = handle.read_image().unwrap().unwrap();
        assert_eq!(found.manifest_digest.to_string(), id, "{name}");
        assert_eq!(handle.identifier(&found), id["sha256:".len()..]);
        // The history fits, so the daemon has told everything there is.
        assert_eq!(
            String::from_utf8(found.config).unwrap(),
            String::from_utf8(encoded.config.clone()).unwrap()
        );
        let ids: Vec<Digest> = found.image.layers().iter().map(|layer| layer.diff_id).collect();
        assert_eq!(ids, layers.each_ref().map(|tar| Digest::of(tar)));
        assert_eq!(found.image.layers()[0].descriptor, diff_id(&layers[0]));
    }
    let fresh = docker.client().open("reads/back:v1").unwrap();
    for tar in &layers {
        assert!(fresh.has_blob(&Digest::of(tar), 0).unwrap());
        assert_eq!(read_blob(&fresh, &diff_id(tar)), *tar);
    }
    assert!(!fresh.has_blob(&Digest::of(b"absent"), 0).unwrap());
    assert!(fresh.open_blob(&diff_id(b"absent")).unwrap().is_none());
}

#[test]
fn what_is_to_be_stored_has_the_id_that_it_will_have() {
    let docker = Docker::shared();
    let client = docker.client();
    let image = client.open("expected-id").unwrap();
    let tar = program();
    put_blob(&image, &tar);
    let value = image_of(&[&tar]);
    let encoded = value.encode().unwrap();
    let stored = strata_store::StoredImage {
        image: value,
        manifest_digest: encoded.manifest_digest,
        manifest: encoded.manifest.clone(),
        config: encoded.config.clone(),
    };
    let expected = image.identifier(&stored);
    image.put_image(&encoded, &[]).unwrap();
    assert_eq!(format!("sha256:{expected}"), docker.id("expected-id:latest"));
    assert_eq!(image.identifier(&stored), expected);
}

#[test]
fn several_names_are_given_at_once_and_others_later() {
    let docker = Docker::shared();
    let client = docker.client();
    let image = client.open("names/app").unwrap();
    let tar = program();
    let encoded = put(&image, &[&tar], &["one", "two"]);
    let id = encoded.config_digest.to_string();
    assert_eq!([docker.id("names/app:one"), docker.id("names/app:two")], [id.clone(), id.clone()]);
    assert!(!docker.try_run(&["inspect", "names/app:latest"]).status.success());
    // As an image is stored under another name of another repository: its layers come from the first.
    let other = client.open("registry.example:5000/other:v2").unwrap();
    assert_eq!(other.copy_blob_from(&image, &encoded.layers[0]).unwrap(), Copied::Present);
    other.put_image(&encoded, &[]).unwrap();
    assert_eq!(docker.id("registry.example:5000/other:v2"), id);
    // Idempotent.
    other.put_image(&encoded, &[]).unwrap();

    for (name, tags) in [(&*id, &[][..]), (&*format!("a@{id}"), &[]), ("a", &["not a tag".to_owned()])] {
        let error = client.open(name).unwrap().put_image(&encoded, tags).unwrap_err();
        assert!(matches!(daemon_error(error), Error::NotATag(_) | Error::Reference(_)), "{name}");
    }
    assert!(matches!(client.open("UPPER"), Err(Error::Reference(_))));
}

#[test]
fn layers_that_the_daemon_has_are_not_sent() {
    let docker = Docker::shared();
    let proxy = Proxy::before(&docker);
    let big = 400_000;
    let layers = [program(), tar_of("/base", 0o644, &noise(big)), tar_of("/app", 0o644, &noise(big + 1))];
    let [base, low, high] = &layers;
    let client = proxy.client();
    put(&client.open("reuse/base").unwrap(), &[base, low], &[]);
    assert!(proxy.sent() > (base.len() + low.len()) as u64);

    // On the base image of the same daemon, a new layer is all that is sent.
    let (run, app) = (client.open("reuse/base").unwrap(), client.open("reuse/app").unwrap());
    let run_image = run.read_image().unwrap().unwrap();
    for layer in run_image.image.layers() {
        assert_eq!(app.copy_blob_from(&run, &layer.descriptor).unwrap(), Copied::Present);
    }
    put_blob(&app, high);
    proxy.sent();
    let encoded = image_of(&[base, low, high]).encode().unwrap();
    app.put_image(&encoded, &[]).unwrap();
    let sent = proxy.sent();
    assert!((high.len() as u64..high.len() as u64 + 20_000).contains(&sent), "{sent}");
    assert_eq!(docker.run(&["run", "--rm", "--network=none", "reuse/app"]), "it runs");

    // The next build has made the same layer again.
    let next = proxy.client().open("reuse/app").unwrap();
    put(&next, &[base, low, high], &[]);
    let sent = proxy.sent();
    assert!(sent < 20_000, "{sent}");
    // And the same image, known under no name that is asked for.
    put(&proxy.client().open("reuse/elsewhere").unwrap(), &[base, low, high], &[]);
    let sent = proxy.sent();
    assert!(sent < 20_000, "{sent}");
}

#[test]
fn a_layer_that_moves_comes_out_of_the_daemon_and_goes_in_again() {
    let docker = Docker::shared();
    let client = docker.client();
    let (base, old, app) = (program(), text("/buildpack", "old"), text("/app", "kept\n"));
    put(&client.open("moves/app").unwrap(), &[&base, &old, &app], &[]);
    let previous = client.open("moves/app").unwrap();
    previous.read_image().unwrap().unwrap();
    let output = docker.client().open("moves/app").unwrap();
    let output_here = client.open("moves/other").unwrap();
    // From another client, its bytes come over, whatever their number.
    assert_eq!(output.copy_blob_from(&previous, &diff_id(&app)).unwrap(), Copied::Present);
    assert_eq!(output_here.copy_blob_from(&previous, &diff_id(&app)).unwrap(), Copied::Present);
    assert_eq!(output_here.copy_blob_from(&previous, &diff_id(b"absent")).unwrap(), Copied::Absent);
    let new = text("/buildpack", "new");
    for output in [&output, &output_here] {
        output.copy_blob_from(&previous, &diff_id(&base)).unwrap();
        put_blob(output, &new);
        output.put_image(&image_of(&[&base, &new, &app]).encode().unwrap(), &[]).unwrap();
    }
    for name in ["moves/app", "moves/other"] {
        let shown = |path: &str| docker.run(&["run", "--rm", "--network=none", name, path]);
        assert_eq!([shown("/app"), shown("/buildpack")], ["kept", "new"]);
    }
}

#[test]
fn an_image_that_went_meanwhile_is_made_up_for_if_its_layers_are_here() {
    let docker = Docker::shared();
    let client = docker.client();
    // No other image begins with this layer.
    let (base, run, app) = (text("/lowest", "gone"), program(), text("/gone", "gone"));
    put(&client.open("gone/app").unwrap(), &[&base, &run], &[]);
    let handle = client.open("gone/app").unwrap();
    handle.read_image().unwrap().unwrap();
    docker.run(&["rmi", "gone/app"]);
    put_blob(&handle, &app);
    let encoded = image_of(&[&base, &run, &app]).encode().unwrap();
    let error = handle.put_image(&encoded, &[]).unwrap_err();
    assert!(chain(&error).contains(&Digest::of(&base).to_string()), "{}", chain(&error));
    assert!(client.open("gone/app").unwrap().read_image().unwrap().is_none());
    put(&handle, &[&base, &run, &app], &[]);
    assert_eq!(docker.run(&["run", "--rm", "--network=none", "gone/app", "/gone"]), "gone");
}

#[test]
fn compressed_layers_of_other_places_are_taken() {
    let docker = Docker::shared();
    let client = docker.client();
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::open_or_create(dir.path()).unwrap();
    let base = scratch::base(host_architecture(), 1000, 1001, CREATED).unwrap();
    base.put_in(&layout, &[]).unwrap();
    let found = layout.read_image().unwrap().unwrap();
    let image = client.open("taken/base").unwrap();
    let layer = &found.image.layers()[0];
    assert_eq!(image.copy_blob_from(&layout, &layer.descriptor).unwrap(), Copied::Linked);
    assert_eq!(image.copy_blob_from(&layout, &layer.descriptor).unwrap(), Copied::Present);
    assert_eq!(read_blob(&image, &layer.descriptor), base.layer);
    image.put_image(&found.encoded(), &[]).unwrap();
    let known = image.read_image().unwrap().unwrap();
    assert_eq!(known.image.layers()[0].diff_id, layer.diff_id);
    assert_eq!(known.image.config().user(), "1000:1001");
    // Without a detour.
    base.put_in(&client.open("taken/other").unwrap(), &[]).unwrap();
    assert_eq!(docker.id("taken/base"), docker.id("taken/other"));
    // Once it is in the daemon, a layer is its plain archive.
    let mut plain = Vec::new();
    let mut reader = strata_layer::open_layer(std::io::Cursor::new(base.layer.clone())).unwrap();
    reader.read_to_end(&mut plain).unwrap();
    assert_eq!(read_blob(&image, &diff_id(&plain)), plain);

    // The same, whatever it was compressed with.
    let packed = zstd(&plain);
    put_blob(&layout, &packed);
    let blob = Descriptor::of(media_type::OCI_LAYER_ZSTD, &packed);
    let zstd_image = client.open("taken/zstd").unwrap();
    assert_eq!(zstd_image.copy_blob_from(&layout, &blob).unwrap(), Copied::Linked);
    let mut of_zstd = Image::from_parts(&found.manifest, &found.config).unwrap();
    of_zstd.set_layers(vec![Layer { descriptor: blob, ..layer.clone() }]);
    zstd_image.put_image(&of_zstd.encode().unwrap(), &[]).unwrap();
    assert_eq!(docker.id("taken/zstd"), docker.id("taken/base"));

    std::fs::write(layout.blob_path(&layer.descriptor.digest), noise(base.layer.len())).unwrap();
    let victim = client.open("taken/victim").unwrap();
    let error = victim.copy_blob_from(&layout, &layer.descriptor).unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{}", chain(&error));
    assert!(!victim.has_blob(&layer.descriptor.digest, layer.descriptor.size).unwrap());
}

#[test]
fn images_that_docker_made_are_read() {
    let docker = Docker::shared();
    let client = docker.client();
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    std::fs::write(path("layer.tar"), text("/hello", "hello")).unwrap();
    docker.run(&["import", "--change", "ENV A=b", "--change", "USER 7:8", &path("layer.tar"), "made/import"]);
    let image = client.open("made/import").unwrap();
    let found = image.read_image().unwrap().unwrap();
    let config = found.image.config();
    assert_eq!((config.env_var("A"), config.user(), config.os()), (Some("b"), "7:8", "linux"));
    assert_eq!(config.architecture(), host_architecture());
    assert_eq!(format!("sha256:{}", image.identifier(&found)), docker.id("made/import"));
    assert_eq!(found.image.layers()[0].history.as_ref().unwrap().comment.as_deref(), Some("Imported from -"));
    let layer = read_blob(&image, &found.image.layers()[0].descriptor);
    assert_eq!(Digest::of(&layer), found.image.layers()[0].diff_id);

    std::fs::write(path("probe"), probe()).unwrap();
    std::fs::write(
        path("Dockerfile"),
        "FROM scratch\nCOPY layer.tar /one\nENV P=/a:/b Q=\"x y\"\nLABEL l=<&>\nCOPY probe /probe\nWORKDIR /w\n\
         EXPOSE 80\nVOLUME /v\nSTOPSIGNAL 9\nSHELL [\"/probe\"]\nHEALTHCHECK --interval=7s CMD [\"/probe\"]\n\
         ONBUILD ENV z=1\nENTRYPOINT [\"/probe\"]\nCMD [\"/one\"]\n",
    )
    .unwrap();
    docker.run(&["build", "--quiet", "--tag", "made/build", &path("")]);
    let built = client.open("made/build").unwrap().read_image().unwrap().unwrap();
    let config: serde_json::Value = serde_json::from_slice(&built.config).unwrap();
    let expected = serde_json::json!({
        "Cmd": ["/one"], "Entrypoint": ["/probe"], "Env": config["config"]["Env"], "ExposedPorts": { "80/tcp": {} },
        "Healthcheck": { "Test": ["CMD", "/probe"], "Interval": 7_000_000_000_u64 }, "Labels": { "l": "<&>" },
        "OnBuild": ["ENV z=1"], "Shell": ["/probe"], "StopSignal": "9", "Volumes": { "/v": {} }, "WorkingDir": "/w"
    });
    assert_eq!(config["config"], expected);
    assert_eq!(
        (built.image.config().env_var("P"), built.image.config().env_var("Q")),
        (Some("/a:/b"), Some("x y"))
    );
    // It does not say which of its steps made the layers.
    assert!(built.image.layers().iter().all(|layer| layer.history.is_none()));
}

/// Puts a report beside an image that was put, or read.
fn attach(image: &strata_store::daemon::Image, encoded: &Encoded, text: &str) {
    let subject = encoded.manifest_descriptor();
    image.attach(&subject, "text/kind", "text/kind", text.as_bytes(), &BTreeMap::new()).unwrap();
}

/// What lies beside an image of the daemon as somebody finds it who looks for the first time.
fn beside(docker: &Docker, name: &str, records: &Path) -> Vec<String> {
    let image = docker.client().open(name).unwrap().recorded(Records::new(records));
    let id = image.read_image().unwrap().unwrap().manifest_digest;
    let entries = image.referrers(&id, None).unwrap();
    let file = |entry: &Descriptor| {
        let tree = image.read_referrer(entry).unwrap().unwrap();
        let file = tree.blobs.into_iter().find(|blob| blob.media_type == "text/kind").unwrap();
        String::from_utf8(read_blob(&image, &file)).unwrap()
    };
    let mut found: Vec<String> = entries.iter().map(file).collect();
    found.sort();
    found
}

#[test]
fn a_report_is_of_the_image_that_was_put_wherever_its_name_goes() {
    let docker = Docker::shared();
    let (client, dir) = (docker.client(), tempfile::tempdir().unwrap());
    let open = |name: &str| client.open(name).unwrap().recorded(Records::new(dir.path()));
    let [first, second] = [text("/which", "moved 1"), text("/which", "moved 2")];
    let image = open("moved:1");
    let encoded = put(&image, &[&first], &[]);
    attach(&image, &encoded, "a");
    // Another build of the same image, and one that takes the name.
    let again = open("moved:1");
    put(&again, &[&first], &[]);
    docker.run(&["tag", "moved:1", "moved:kept"]);
    let other = open("moved:1");
    let others = put(&other, &[&second], &[]);
    attach(&again, &encoded, "b");
    let text = chain(&again.accompany().unwrap_err());
    assert!(text.contains("it is of image"), "{text}");
    assert!(!docker.try_run(&["inspect", "moved:1.origins"]).status.success());
    assert_eq!(beside(&docker, "moved:1", dir.path()), [""; 0]);
    assert_eq!(beside(&docker, "moved:kept", dir.path()), ["a", "b"]);
    // The image may be gone by now: what was known of it is not.
    let third = open("moved:kept");
    put(&third, &[&first], &[]);
    docker.run(&["rmi", "moved:kept"]);
    attach(&third, &encoded, "c");
    assert!(chain(&third.accompany().unwrap_err()).contains("it is gone"));
    put(&open("moved:kept"), &[&first], &[]);
    assert_eq!(beside(&docker, "moved:kept", dir.path()), ["a", "b", "c"]);
    attach(&other, &others, "d");
    other.accompany().unwrap();
    let empty = tempfile::tempdir().unwrap();
    assert_eq!(beside(&docker, "moved:1", empty.path()), ["d"]);
}

#[test]
fn small_images_of_other_names_and_of_people_are_left_alone() {
    let docker = Docker::shared();
    let (client, dir, empty) = (docker.client(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let build = |name: &str, content: &str| {
        let image = client.open(name).unwrap().recorded(Records::new(dir.path()));
        let encoded = put(&image, &[&text("/which", content)], &[]);
        attach(&image, &encoded, content);
        image.accompany()
    };
    let count = || docker.run(&["images", "--all", "--quiet", "--filter", "reference=left*"]).lines().count();
    // One image with two names has one small image with two names.
    build("left:1", "left 1").unwrap();
    build("left:2", "left 1").unwrap();
    assert_eq!(docker.id("left:1.origins"), docker.id("left:2.origins"));
    let before = docker.id("left:2.origins");
    build("left:1", "left 2").unwrap();
    assert_eq!(docker.id("left:2.origins"), before);
    assert_eq!(beside(&docker, "left:2", empty.path()), ["left 1"]);
    assert_eq!(beside(&docker, "left:1", empty.path()), ["left 2"]);
    // Without a name it goes.
    build("left:2", "left 2").unwrap();
    assert!(!docker.try_run(&["inspect", &before]).status.success());
    assert_eq!(count(), 4);

    put(&client.open("left:3.origins").unwrap(), &[&text("/mine", "mine")], &[]);
    let mine = docker.id("left:3.origins");
    let refused = chain(&build("left:3", "left 3").unwrap_err());
    assert!(refused.contains("another image has this name"), "{refused}");
    assert_eq!(docker.id("left:3.origins"), mine);
    assert_eq!(beside(&docker, "left:3", dir.path()), ["left 3"]);
}

#[test]
fn what_is_not_there_is_none() {
    let docker = Docker::shared();
    let client = docker.client();
    for name in
        ["absent/image", "absent:v1", &Digest::of(b"absent").to_string(), &Digest::of(b"absent").hex()]
    {
        let image = client.open(name).unwrap();
        assert_eq!(image.read_image().unwrap(), None, "{name}");
        assert!(!image.has_blob(&Digest::of(b"layer"), 0).unwrap());
        assert!(image.open_blob(&diff_id(b"layer")).unwrap().is_none());
    }
    let error = client.open("absent/image").unwrap();
    let error = error.put_image(&image_of(&[&text("/no", "where")]).encode().unwrap(), &[]).unwrap_err();
    assert!(matches!(error, StoreError::Missing { .. }), "{}", chain(&error));
}

#[test]
fn an_image_that_the_daemon_refuses_leaves_the_old_one() {
    let docker = Docker::shared();
    let client = docker.client();
    let base = program();
    let old = put(&client.open("refused/app").unwrap(), &[&base], &[]).config_digest.to_string();
    let image = client.open("refused/app").unwrap();
    for blob in [&b"this is no archive, but it has more bytes than a block of one"[..], &noise(5000)] {
        put_blob(&image, blob);
        let error = image.put_image(&image_of(&[&base, blob]).encode().unwrap(), &[]).unwrap_err();
        let text = chain(&error);
        assert!(matches!(daemon_error(error), Error::Load { .. } | Error::Status { .. }), "{text}");
        assert_eq!(docker.id("refused/app"), old);
    }
    let windows = image_of(&[&base]).with_config(|config| config.set_os("windows"));
    put_blob(&image, &base);
    let text = chain(&image.put_image(&windows.encode().unwrap(), &[]).unwrap_err());
    assert!(text.contains("windows"), "{text}");
    assert_eq!(docker.id("refused/app"), old);
    // The connection is as good as before.
    assert!(image.read_image().unwrap().is_some());
}

#[test]
fn one_connection_is_used_and_a_new_one_when_it_was_closed() {
    let docker = Docker::shared();
    let proxy = Proxy::before(&docker);
    let client = proxy.client();
    client.connect().unwrap();
    let image = client.open("connection/app").unwrap();
    let (base, app) = (program(), text("/x", "x"));
    put(&image, &[&base, &app], &[]);
    read_blob(&client.open("connection/app").unwrap(), &diff_id(&base));
    assert_eq!(client.open("absent").unwrap().read_image().unwrap(), None);
    client.ping().unwrap();
    assert_eq!(proxy.opened(), 1);
    proxy.hang_up();
    client.ping().unwrap();
    assert_eq!(proxy.opened(), 2);
    // Also when the first that is said is an image.
    proxy.hang_up();
    put(&image, &[&base, &app, &base], &[]);
    assert_eq!(proxy.opened(), 3);

    // A socket that was opened early serves on when it can no longer be opened.
    proxy.shut_door();
    put(&image, &[&app, &base], &[]);
    assert!(image.read_image().unwrap().is_some());
    assert_eq!(proxy.opened(), 3);
    proxy.hang_up();
    let error = client.ping().unwrap_err();
    assert!(error.to_string().contains("connect again to"), "{error}");
}

#[test]
fn questions_of_many_threads_go_one_after_the_other() {
    let docker = Docker::shared();
    let proxy = Proxy::before(&docker);
    let client = proxy.client();
    let layers: Vec<Vec<u8>> = (0..4).map(|i| text("/n", &i.to_string())).collect();
    std::thread::scope(|scope| {
        for (i, tar) in layers.iter().enumerate() {
            let client = &client;
            scope.spawn(move || {
                let image = client.open(&format!("threads/n{i}")).unwrap();
                put(&image, &[tar], &[]);
                assert_eq!(read_blob(&client.open(&format!("threads/n{i}")).unwrap(), &diff_id(tar)), *tar);
            });
        }
    });
    assert_eq!(proxy.opened(), 1);
}

#[test]
fn nothing_is_left_in_the_temporary_directory() {
    let docker = Docker::shared();
    let dir = tempfile::tempdir().unwrap();
    let client = Client::new(Settings { temp_dir: dir.path().to_owned(), ..docker.settings() }).unwrap();
    let is_empty = || std::fs::read_dir(dir.path()).unwrap().next().is_none();
    let image = client.open("temporary").unwrap();
    let tar = program();
    put_blob(&image, &tar);
    let mut sink = image.begin_blob().unwrap();
    sink.write_all(b"unfinished").unwrap();
    assert!(is_empty());
    put(&image, &[&tar], &[]);
    read_blob(&image, &diff_id(&tar));
    assert!(is_empty());
    let gone = dir.path().join("gone");
    let client = Client::new(Settings { temp_dir: gone.clone(), ..docker.settings() }).unwrap();
    let error = client.open("temporary").unwrap().begin_blob().map(drop).unwrap_err();
    assert!(chain(&error).contains(&gone.display().to_string()), "{}", chain(&error));
}

#[test]
fn a_daemon_behind_tls_is_reached_with_certificates() {
    let dir = tempfile::tempdir().unwrap();
    make_certificates(dir.path());
    let path = |name: &str| dir.path().join(name).display().to_string();
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let host = format!("tcp://127.0.0.1:{port}");
    let docker = Docker::start(&[
        "--host",
        &host,
        "--tlsverify",
        "--tlscacert",
        &path("ca.pem"),
        "--tlscert",
        &path("server.pem"),
        "--tlskey",
        &path("server-key.pem"),
    ]);
    let settings = Settings { host: Some(host), ..Settings::default() };
    let good = Settings { cert_path: Some(dir.path().to_owned()), tls_verify: true, ..settings.clone() };
    let client = Client::new(good.clone()).unwrap();
    let tar = program();
    let encoded = put(&client.open("tls/app").unwrap(), &[&tar], &[]);
    assert_eq!(docker.id("tls/app"), encoded.config_digest.to_string());

    let failure = |settings: Settings| chain(&Client::new(settings).unwrap().connect().unwrap_err());
    let plain = failure(settings.clone());
    assert!(plain.contains("HTTPS") || plain.contains("cannot GET"), "{plain}");
    let unverified = failure(Settings { tls_verify: false, ..good.clone() });
    assert!(unverified.contains("set DOCKER_TLS_VERIFY=1"), "{unverified}");
    let nobody = failure(Settings { cert_path: None, ..good.clone() });
    assert!(nobody.contains("DOCKER_CERT_PATH is not"), "{nobody}");
    std::fs::remove_file(path("key.pem")).unwrap();
    assert!(failure(good.clone()).contains(&path("key.pem")));
    // Somebody else's certificates.
    make_certificates(dir.path());
    let stranger = failure(good);
    assert!(stranger.contains("certificate"), "{stranger}");
}

fn make_certificates(dir: &Path) {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    std::fs::write(dir.join("ca.pem"), authority.pem()).unwrap();
    for (cert, secret) in [("cert.pem", "key.pem"), ("server.pem", "server-key.pem")] {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.extended_key_usages =
            vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth, rcgen::ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&key, &authority).unwrap();
        std::fs::write(dir.join(cert), certificate.pem()).unwrap();
        std::fs::write(dir.join(secret), key.serialize_pem()).unwrap();
    }
}

/// A client of a server that does as it is told, after it has said that it speaks version 1.41.
fn told(reply: impl Fn(&str) -> Reply + Send + Sync + 'static) -> (Server, Client) {
    let server = Server::start(move |request| match &*request.line() {
        "GET /_ping" => Reply::ok(b"OK").header("Api-Version", "1.41"),
        "GET /v1.41/info" => Reply::ok(br#"{"DriverStatus":[["Backing Filesystem","extfs"]]}"#),
        line => reply(line),
    });
    let host = Some(format!("tcp://{}", server.host()));
    let client = Client::new(Settings { host, ..Settings::default() }).unwrap();
    (server, client)
}

#[test]
fn answers_that_are_none_are_failures_and_not_absent_images() {
    for (reply, expected) in [
        (Reply::status(500).body(br#"{"message":"disk on fire"}"#), "the answer is 500: disk on fire"),
        (Reply::status(404).body(br#"{"message":"page not found"}"#), "the answer is 404: page not found"),
        (Reply::ok(b"<html>"), "cannot understand the answer"),
        (Reply::ok(b"{}"), "it has no Id"),
        (Reply::ok(b"{}").cut_after(1), "unexpected end of file"),
        (Reply::ok(b"{}\r\n").header("Transfer-Encoding", "chunked"), "the size of a chunk is no number"),
        (Reply::ok(b"2\r\n{}\r\n").header("Transfer-Encoding", "chunked"), "unexpected end of file"),
        (Reply::ok(b"").endless(), "larger than 16777216 bytes"),
    ] {
        let (_server, client) = told(move |_| reply.clone());
        let text = chain(&client.open("a").unwrap().read_image().unwrap_err());
        assert!(text.contains(expected) && text.contains("tcp://127.0.0.1:"), "{expected}: {text}");
    }
    let (_server, client) = told(|_| Reply::status(404).body(br#"{"message":"No such image: a:latest"}"#));
    assert_eq!(client.open("a").unwrap().read_image().unwrap(), None);
}

#[test]
fn a_failure_within_the_answer_to_an_image_is_one() {
    let (server, client) = told(|line| {
        match line {
        "POST /v1.41/images/load?quiet=1" => Reply::ok(
            b"{\"stream\":\"Loading\"}\n{\"errorDetail\":{\"message\":\"no space left\"},\"error\":\"no space left\"}\n",
        ),
        _ => Reply::status(404).body(br#"{"message":"No such image"}"#),
    }
    });
    let image = client.open("a").unwrap();
    let tar = text("/a", "a");
    put_blob(&image, &tar);
    let encoded = image_of(&[&tar]).encode().unwrap();
    let text = chain(&image.put_image(&encoded, &[]).unwrap_err());
    assert!(text.contains("cannot load the image") && text.contains("no space left"), "{text}");
    let sent = server.received().into_iter().find(|request| request.method == "POST").unwrap().body;
    assert!(sent.len() > tar.len() && sent.windows(13).any(|window| window == b"manifest.json"));
}

#[test]
fn a_daemon_that_hangs_up_amid_an_image_has_said_why() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("sock");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut reader = BufReader::new(stream.unwrap());
            let mut line = String::new();
            while reader.read_line(&mut line).is_ok_and(|count| count > 0) {
                let mut rest = String::new();
                while !rest.ends_with("\r\n\r\n") && rest != "\r\n" {
                    reader.read_line(&mut rest).unwrap();
                }
                let (status, body) = match line.split_whitespace().nth(1).unwrap() {
                    "/v1.41/info" => (200, "{}"),
                    "/v1.41/images/load?quiet=1" => (507, r#"{"message":"the disk is full"}"#),
                    _ => (404, r#"{"message":"No such image"}"#),
                };
                let length = body.len();
                let reply = format!("HTTP/1.1 {status} Told\r\nContent-Length: {length}\r\n\r\n{body}");
                reader.get_mut().write_all(reply.as_bytes()).unwrap();
                if status == 507 {
                    break;
                }
                line.clear();
            }
        }
    });
    let client = Client::new(Settings { api_version: Some("1.41".to_owned()), ..settings(&socket) }).unwrap();
    let image = client.open("a").unwrap();
    let tar = tar_of("/a", 0o644, &noise(2_000_000));
    put_blob(&image, &tar);
    let error = image.put_image(&image_of(&[&tar]).encode().unwrap(), &[]).unwrap_err();
    assert!(chain(&error).contains("the answer is 507: the disk is full"), "{}", chain(&error));
    assert_eq!(image.read_image().unwrap(), None);
}

#[test]
fn a_daemon_that_says_nothing_of_an_image_it_took_is_not_believed() {
    let (_server, client) = told(|line| match line {
        "POST /v1.41/images/load?quiet=1" => Reply::ok(br#"{"stream":"Loaded image: a"}"#),
        _ => Reply::status(404).body(br#"{"message":"No such image"}"#),
    });
    let image = client.open("a").unwrap();
    let tar = text("/a", "a");
    put_blob(&image, &tar);
    let error = image.put_image(&image_of(&[&tar]).encode().unwrap(), &[]).unwrap_err();
    assert!(matches!(daemon_error(error), Error::OtherImage { .. }));
}

/// What `docker save` gives of an image that containerd keeps: blobs by their digests, layers as they were pulled.
fn saved_layout(layers: &[&[u8]]) -> Vec<u8> {
    let mut tar = TarWriter::new(Vec::new());
    tar.dir("blobs/sha256", 0o755, Owner::ROOT).unwrap();
    for plain in layers {
        let mut blob = Vec::new();
        let fill = |out: &mut dyn std::io::Write| {
            out.write_all(plain).map_err(|source| LayerError::Write { source })
        };
        let packed = pack_with(fill, Compression::Gzip, 1, &mut blob).unwrap();
        assert_eq!(packed.diff_id, Digest::of(plain));
        let name = format!("blobs/sha256/{}", packed.digest.hex());
        tar.file(name, 0o644, Owner::ROOT, packed.size, &mut &blob[..]).unwrap();
    }
    tar.file("index.json", 0o644, Owner::ROOT, 2, &mut &b"{}"[..]).unwrap();
    tar.finish().unwrap()
}

#[test]
fn where_containerd_keeps_images_all_layers_are_sent_and_the_id_is_the_daemons() {
    let (base, app) = (text("/base", "base"), text("/app", "app"));
    let encoded = image_of(&[&base, &app]).encode().unwrap();
    let (run_id, app_id) = (Digest::of(b"run manifest"), Digest::of(b"app manifest"));
    let described = |id: Digest, layers: &[&[u8]]| {
        let ids: Vec<String> = layers.iter().map(|tar| Digest::of(tar).to_string()).collect();
        let platform = ["linux", host_architecture()];
        let document = serde_json::json!({
            "Id": id, "Os": platform[0], "Architecture": platform[1], "RootFS": { "Type": "layers", "Layers": ids }
        });
        Reply::ok(document.to_string().as_bytes())
    };
    let (run, made) = (described(run_id, &[&base]), described(app_id, &[&base, &app]));
    let archive = saved_layout(&[&base]);
    let is_loaded = AtomicBool::new(false);
    let server = Server::start(move |request| match request.path.split('?').next().unwrap() {
        "/_ping" => Reply::ok(b"OK").header("Api-Version", "1.51"),
        "/v1.51/info" => Reply::ok(br#"{"DriverStatus":[["driver-type","io.containerd.snapshotter.v1"]]}"#),
        "/v1.51/images/run/json" => run.clone(),
        "/v1.51/images/run/history" => Reply::ok(b"[]"),
        path if path == format!("/v1.51/images/{run_id}/get") => Reply::ok(&archive),
        "/v1.51/images/load" => {
            is_loaded.store(true, Ordering::SeqCst);
            Reply::ok(br#"{"stream":"Loaded image: app"}"#)
        }
        path if path.ends_with("app:latest/json") && is_loaded.load(Ordering::SeqCst) => made.clone(),
        _ => Reply::status(404).body(br#"{"message":"No such image"}"#),
    });
    let host = Some(format!("tcp://{}", server.host()));
    let client = Client::new(Settings { host, ..Settings::default() }).unwrap();
    let (run, image) = (client.open("run").unwrap(), client.open("app").unwrap());
    let run_image = run.read_image().unwrap().unwrap();
    assert_eq!(run.identifier(&run_image), run_id.hex());
    assert_eq!(image.copy_blob_from(&run, &diff_id(&base)).unwrap(), Copied::Present);
    put_blob(&image, &app);
    image.put_image(&encoded, &[]).unwrap();

    let received = server.received();
    let of_platform = |part: &str| {
        let asked = format!("{part}?platform=%7B%22os%22%3A%22linux%22%2C%22architecture%22%3A%22");
        received.iter().any(|request| request.path.contains(&asked))
    };
    assert!(of_platform("/run/json") && of_platform("/run/history") && of_platform("/get"), "{received:?}");
    let sent = &received.iter().find(|request| request.method == "POST").unwrap().body;
    let mut files = Vec::new();
    visit_files(&sent[..], |_, data| -> Result<(), LayerError> {
        let mut bytes = Vec::new();
        data.read_to_end(&mut bytes).map_err(|source| LayerError::Read { source })?;
        files.push(bytes);
        Ok(())
    })
    .unwrap();
    assert_eq!(files[..3], [encoded.config.clone(), base, app]);
    let manifest: serde_json::Value = serde_json::from_slice(&files[3]).unwrap();
    assert_eq!(manifest[0]["RepoTags"], serde_json::json!(["index.docker.io/library/app:latest"]));
    let stored = strata_store::StoredImage {
        image: Image::from_parts(&encoded.manifest, &encoded.config).unwrap(),
        manifest_digest: encoded.manifest_digest,
        manifest: encoded.manifest,
        config: encoded.config,
    };
    assert_eq!(image.identifier(&stored), app_id.hex());
}

#[test]
fn a_saved_layer_that_cannot_be_unpacked_is_told_apart_from_one_that_is_missing() {
    let layer = text("/a", "a");
    for (blob, expected) in [(&b"\xfd7zXZ\0 rest"[..], "xz compression is not supported"), (b"other", "")] {
        let mut tar = TarWriter::new(Vec::new());
        tar.file("blob", 0o644, Owner::ROOT, blob.len() as u64, &mut &*blob).unwrap();
        let archive = tar.finish().unwrap();
        let inspect =
            serde_json::json!({ "Id": Digest::of(b"id"), "RootFS": { "Layers": [Digest::of(&layer)] } });
        let (_server, client) = told(move |line| match line {
            "GET /v1.41/images/a/json" => Reply::ok(inspect.to_string().as_bytes()),
            line if line.ends_with("/get") => Reply::ok(&archive),
            _ => Reply::status(404),
        });
        let outcome = client.open("a").unwrap().open_blob(&diff_id(&layer));
        match outcome.map(|blob| blob.map(drop)) {
            Ok(found) => assert_eq!((found, expected), (None, "")),
            Err(error) => {
                assert!(!expected.is_empty() && chain(&error).contains(expected), "{}", chain(&error))
            }
        }
    }
}

#[test]
fn the_version_is_agreed_on_or_given() {
    for (daemon, given, expected) in [
        (Some("1.24"), None, Ok("/v1.24/")),
        (Some("1.48"), None, Ok("/v1.48/")),
        (Some("1.99"), None, Ok("/v1.51/")),
        (Some("1.48"), Some("1.40"), Ok("/v1.40/")),
        (None, None, Ok("/v1.24/")),
        (Some("1.12"), None, Err("it speaks version \"1.12\" of the API, expected 1.24")),
        (Some("new"), None, Err("it speaks version \"new\"")),
        (Some("1.48"), Some("latest"), Err("\"latest\"")),
    ] {
        let server = Server::start(move |request| match (&*request.line(), daemon) {
            ("GET /_ping", Some(daemon)) => Reply::ok(b"OK").header("Api-Version", daemon),
            ("GET /_ping", None) => Reply::ok(b"OK"),
            _ => Reply::status(404).body(br#"{"message":"No such image"}"#),
        });
        let host = Some(format!("tcp://{}", server.host()));
        let settings = Settings { host, api_version: given.map(str::to_owned), ..Settings::default() };
        let outcome = Client::new(settings).unwrap().open("a").unwrap().read_image();
        match (outcome, expected) {
            (Ok(None), Ok(start)) => {
                assert_eq!(server.lines().last().unwrap(), &format!("GET {start}images/a/json"))
            }
            (Err(error), Err(part)) => assert!(chain(&error).contains(part), "{}", chain(&error)),
            (outcome, _) => panic!("{daemon:?} {given:?}: {outcome:?}"),
        }
    }
}

#[test]
fn where_no_daemon_is_one_learns_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("docker.sock");
    let failure = || Client::new(settings(&socket)).unwrap().connect().unwrap_err();
    let error = failure();
    assert!(error.to_string().contains(&socket.display().to_string()), "{error}");
    assert!(error.hint().unwrap().contains("mount its socket"));
    // A daemon that ended leaves its socket.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    assert!(failure().hint().unwrap().contains("is the daemon running?"));
    let source = std::io::ErrorKind::PermissionDenied.into();
    let error = Error::Connect { host: "unix:///s".to_owned(), again: false, source };
    assert!(error.hint().unwrap().contains("`docker`"));
}

/// What was told of a transfer.
#[derive(Default)]
struct Told {
    announced: AtomicU64,
    sent: AtomicU64,
}

impl Progress for Told {
    fn moved(&self, _bytes: u64) {}

    fn undone(&self, _bytes: u64) {}

    fn settled(&self, _blob: &Descriptor, how: Copied) {
        assert_eq!(how, Copied::Linked);
    }

    fn sending(&self, size: u64) {
        self.announced.store(size, Ordering::SeqCst);
        self.sent.store(0, Ordering::SeqCst);
    }

    fn sent(&self, bytes: u64) {
        self.sent.fetch_add(bytes, Ordering::SeqCst);
    }
}

#[test]
fn what_is_sent_is_told_while_it_is_sent() {
    let docker = Docker::shared();
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::open_or_create(dir.path()).unwrap();
    let big = tar_of("/big", 0o644, &noise(3_000_000));
    let encoded = put(&layout, &[&program(), &big], &[]);
    let size: u64 = encoded.layers.iter().map(|layer| layer.size).sum();
    let told = Arc::new(Told::default());
    let progress: Arc<dyn Progress> = Arc::<Told>::clone(&told);
    let numbers = || (told.announced.load(Ordering::SeqCst), told.sent.load(Ordering::SeqCst));
    for (name, expected) in [("told/one", size), ("told/two", 0)] {
        let image = docker.client().open(name).unwrap();
        strata_store::Transfer::new(&image, &layout).watched(&progress).image(&encoded, &[]).unwrap();
        let (announced, sent) = numbers();
        // The second time the daemon has all layers.
        assert_eq!(announced, expected, "{name}");
        assert!((expected..expected + 100_000).contains(&sent), "{name}: {sent}");
    }
}

#[test]
fn podmans_socket_is_as_good_as_dockers() {
    let podman = Podman::shared();
    let client = podman.client();
    let layers = [program(), text("/config", "one")];
    let image = client.open("docker.io/podman/app:v1").unwrap();
    let encoded = put(&image, &[&layers[0], &layers[1]], &[]);
    assert_eq!(
        podman.run(&["image", "inspect", "--format", "{{.Id}}", "podman/app:v1"]),
        encoded.config_digest.hex()
    );
    let found = image.read_image().unwrap().unwrap();
    assert_eq!(found.encoded().config_digest, encoded.config_digest);
    assert_eq!(found.image.layers().len(), layers.len());
    for (layer, bytes) in found.image.layers().iter().zip(&layers) {
        assert_eq!(layer.diff_id, Digest::of(bytes));
        assert_eq!(read_blob(&image, &diff_id(bytes)), *bytes);
    }
    // By its id, and by what another tool pulled in.
    assert!(client.open(&encoded.config_digest.hex()).unwrap().read_image().unwrap().is_some());
    let dir = tempfile::tempdir().unwrap();
    let (archive, layout) = (dir.path().join("a.tar"), dir.path().join("layout"));
    podman.run(&["save", "--format", "oci-archive", "--output", archive.to_str().unwrap(), "podman/app:v1"]);
    let saved = strata_store::archive::OciArchive::open(&archive).unwrap();
    // It writes the configuration anew; the layers are the same.
    let ids = |image: &Image| image.layers().iter().map(|layer| layer.diff_id).collect::<Vec<_>>();
    assert_eq!(ids(&saved.read_image().unwrap().unwrap().image), ids(&found.image));
    let layout = Layout::open_or_create(layout).unwrap();
    let converted = strata_store::convert_image(&layout, &image, &found, &[], 2).unwrap();
    assert_eq!(converted.config_digest, encoded.config_digest);
    // And the other way round: what Podman loads is what is written here.
    let next = client.open("docker.io/podman/app:v2").unwrap();
    strata_store::copy_image(&next, &layout, &converted, &[]).unwrap();
    assert_eq!(
        podman.run(&["image", "inspect", "--format", "{{.Id}}", "podman/app:v2"]),
        encoded.config_digest.hex()
    );
    assert!(client.open("podman/none").unwrap().read_image().unwrap().is_none());
}
