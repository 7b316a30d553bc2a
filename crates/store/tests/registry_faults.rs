//! Registries that are overloaded, broken or hostile: what is tried again, what is refused, what is never sent.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::{Read as _, Write as _};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use strata_oci::{Descriptor, Digest, Encoded, media_type};
use strata_store::registry::credentials::{Headers, Keychain, Source};
use strata_store::registry::{Client, Error, Image, Proxies, Settings, Trust};
use strata_store::{Copied, Layout, Store, StoreError};
use support::docker_registry::{DockerRegistry, Options};
use support::server::{Received, Reply, Server};
use support::{chain, hasty, hasty_client, image_of, layer_of, noise, put_blob, read_blob};

/// `Basic builder:secret`.
const BASIC: &str = "Basic YnVpbGRlcjpzZWNyZXQ=";

fn open(server: &Server, rest: &str) -> Image {
    hasty_client().open(&server.name(rest)).unwrap()
}

/// The image, opened by somebody who has this for the registry's host.
fn open_with(server: &Server, rest: &str, header: &str) -> Image {
    let text = serde_json::json!({ server.host(): header }).to_string();
    let keychain = Keychain::new(vec![Source::Headers(Headers::parse(&text).unwrap())]);
    Client::new(Settings { keychain, ..hasty() }).open(&server.name(rest)).unwrap()
}

/// A handler that counts how often it was called.
fn counting(
    handler: impl Fn(usize, &Received) -> Reply + Send + Sync + 'static,
) -> impl Fn(&Received) -> Reply + Send + Sync + 'static {
    let count = AtomicUsize::new(0);
    move |request| {
        if request.path == "/v2/" {
            return Reply::status(200);
        }
        handler(count.fetch_add(1, Ordering::SeqCst), request)
    }
}

/// The rest of `bytes` that a request asks for, as an honest server answers.
fn part(bytes: &[u8], request: &Received) -> Reply {
    let Some(range) = request.header("range") else { return Reply::ok(bytes) };
    let start: usize = range.strip_prefix("bytes=").unwrap().strip_suffix('-').unwrap().parse().unwrap();
    let told = format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len());
    Reply::status(206).header("Content-Range", &told).body(&bytes[start..])
}

fn read_error(image: &Image, blob: &Descriptor) -> std::io::Error {
    image.open_blob(blob).unwrap().unwrap().read_to_end(&mut Vec::new()).unwrap_err()
}

fn registry_error(error: StoreError) -> Error {
    match error {
        StoreError::Registry(error) => *error,
        error => panic!("{error:?}"),
    }
}

#[test]
fn a_download_goes_on_where_the_connection_broke() {
    let bytes = noise(200_000);
    for honours_ranges in [true, false] {
        let content = bytes.clone();
        let server = Server::start(counting(move |count, request| match (count, honours_ranges) {
            (0, _) => Reply::ok(&content).cut_after(70_000),
            (1, true) => {
                let reply = part(&content, request);
                reply.cut_after(50_000)
            }
            (1, false) => Reply::ok(&content).cut_after(150_000),
            (_, true) => part(&content, request),
            (_, false) => Reply::ok(&content),
        }));
        assert_eq!(read_blob(&open(&server, "a"), &layer_of(&bytes)), bytes);
        let ranges: Vec<bool> = server.received().iter().map(|r| r.header("range").is_some()).collect();
        assert_eq!(ranges, [false, true, true]);
    }
}

#[test]
fn a_connection_that_always_breaks_is_an_error_in_the_end() {
    let bytes = noise(10_000);
    let content = bytes.clone();
    let server = Server::start(counting(move |_, request| part(&content, request).cut_after(10)));
    let error = read_error(&open(&server, "a"), &layer_of(&bytes));
    assert_ne!(error.kind(), std::io::ErrorKind::InvalidData, "{error}");
    assert_eq!(server.received().len(), 3);
}

#[test]
fn a_range_that_was_not_asked_for_is_refused() {
    let bytes = noise(10_000);
    let content = bytes.clone();
    let server = Server::start(counting(move |count, _| match count {
        0 => Reply::ok(&content).cut_after(5000),
        _ => Reply::status(206).header("Content-Range", "bytes 0-9999/10000").body(&content),
    }));
    let error = read_error(&open(&server, "a"), &layer_of(&bytes));
    assert!(chain(&error).contains("206"), "{}", chain(&error));
}

#[test]
fn blobs_with_other_bytes_fail() {
    let (bytes, blob) = (b"good bytes", layer_of(b"good bytes"));
    let server = Server::start(counting(|_, _| Reply::ok(b"b@d bytes!")));
    assert_eq!(read_error(&open(&server, "a"), &blob).kind(), std::io::ErrorKind::InvalidData);

    let server = Server::start(counting(|_, _| Reply::ok(b"short")));
    let outcome = open(&server, "a").open_blob(&blob).map(drop);
    assert!(matches!(outcome, Err(StoreError::Size { expected: 10, found: 5, .. })), "{outcome:?}");
    assert!(!open(&server, "a").has_blob(&blob.digest, blob.size).unwrap());

    for status in [416, 200] {
        let server = Server::start(counting(move |count, _| match count {
            0 => Reply::ok(&bytes[..5]).unannounced(),
            _ => Reply::status(status).body(&bytes[..5]).unannounced(),
        }));
        let error = read_error(&open(&server, "a"), &blob);
        assert!(error.to_string().contains("only 5 of 10 bytes"), "{status}: {error}");
    }
    let server = Server::start(counting(|_, _| Reply::status(200).endless()));
    let error = read_error(&open(&server, "a"), &blob);
    assert!(error.to_string().contains("more than 10 bytes"), "{error}");
}

#[test]
fn an_overloaded_registry_is_asked_again() {
    for (status, attempts, is_good) in [
        (429, 3, true),
        (500, 3, true),
        (502, 3, true),
        (503, 3, true),
        (504, 3, true),
        (408, 3, true),
        (400, 1, false),
        (501, 1, false),
    ] {
        let server = Server::start(counting(move |count, _| match count {
            0 | 1 => Reply::error(status, "TOOMANYREQUESTS").header("Retry-After", "0"),
            _ => Reply::ok(b"bytes"),
        }));
        assert_eq!(open(&server, "a").has_blob(&Digest::of(b"bytes"), 5).is_ok(), is_good, "{status}");
        assert_eq!(server.received().len(), attempts, "{status}");
    }
}

#[test]
fn a_registry_that_stays_overloaded_is_told_with_its_own_words() {
    let server = Server::start(counting(|_, _| Reply::error(503, "UNAVAILABLE")));
    let error = registry_error(open(&server, "a/b:v1").read_image().unwrap_err());
    assert_eq!(error.status(), Some(503));
    let url = server.url("/v2/a/b/manifests/v1");
    assert_eq!(
        error.to_string(),
        format!("cannot GET {url}: the answer is 503 Service Unavailable: UNAVAILABLE: told so")
    );
    assert_eq!(server.received().len(), 3);
}

#[test]
fn an_answer_that_is_cut_off_is_asked_for_again() {
    let image = image_of(&[], "amd64").encode().unwrap();
    let expected = image.manifest_digest;
    let server = Server::start(counting(move |count, request| {
        let reply = serve_image(&image, request);
        if count == 0 && request.path.contains("/manifests/") { reply.cut_after(20) } else { reply }
    }));
    let outcome = open(&server, "a").read_image();
    assert_eq!(outcome.unwrap().unwrap().manifest_digest, expected);
}

/// One image, at any tag and at its digest.
fn serve_image(image: &Encoded, request: &Received) -> Reply {
    if request.path == format!("/v2/a/blobs/{}", image.config_digest) {
        return Reply::ok(&image.config);
    }
    if request.path.starts_with("/v2/a/manifests/") {
        return Reply::ok(&image.manifest).header("Content-Type", &image.media_type);
    }
    Reply::error(404, "BLOB_UNKNOWN")
}

#[test]
fn documents_are_verified_before_they_are_believed() {
    let good = image_of(&[], "amd64").encode().unwrap();
    let other = Digest::of(b"other").to_string();
    let by_digest = format!("a@{other}");
    let (manifest, config) = (good.manifest.clone(), good.config.clone());
    let cases: Vec<(&str, Reply, Reply, &str)> = vec![
        (&by_digest, Reply::ok(&manifest), Reply::ok(&config), "expected"),
        ("a:1", Reply::ok(&manifest).header("Docker-Content-Digest", &other), Reply::ok(&config), "expected"),
        ("a:1", Reply::ok(b"{}"), Reply::ok(&config), "schemaVersion"),
        ("a:1", Reply::ok(b"<html>"), Reply::ok(&config), "cannot parse"),
        (
            "a:1",
            Reply::ok(&manifest).header("Content-Type", media_type::OCI_INDEX),
            Reply::ok(&config),
            "calls itself",
        ),
        ("a:1", Reply::status(200).endless(), Reply::ok(&config), "longer than"),
        ("a:1", Reply::ok(&manifest), Reply::ok(&noise(config.len())), "have the digest"),
        ("a:1", Reply::ok(&manifest), Reply::error(404, "BLOB_UNKNOWN"), "cannot find blob"),
        ("a:1", Reply::status(403).body(b"go away"), Reply::ok(&config), "403 Forbidden"),
        ("a:1", Reply::status(404).body(b"<html>not a registry"), Reply::ok(&config), "404 Not Found"),
    ];
    for (name, manifest, config, part) in cases {
        let server = Server::start(counting(move |_, request| {
            if request.path.contains("/manifests/") { manifest.clone() } else { config.clone() }
        }));
        let error = open(&server, name).read_image().unwrap_err();
        assert!(chain(&error).contains(part), "{} has no {part}", chain(&error));
    }
    let server = Server::start(counting(|_, _| Reply::error(404, "MANIFEST_UNKNOWN")));
    assert!(open(&server, "a:1").read_image().unwrap().is_none());
}

#[test]
fn a_configuration_that_calls_itself_huge_is_not_asked_for() {
    let config = format!(
        r#"{{"mediaType":"{}","size":99999999999,"digest":"{}"}}"#,
        media_type::OCI_CONFIG,
        Digest::of(b"")
    );
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{config},"layers":[]}}"#,
        media_type::OCI_MANIFEST
    );
    let server = Server::start(counting(move |_, _| Reply::ok(manifest.as_bytes())));
    let error = open(&server, "a:1").read_image().unwrap_err();
    assert!(matches!(error, StoreError::TooLarge { .. }), "{error}");
    assert_eq!(server.lines(), ["GET /v2/a/manifests/1"]);
}

#[test]
fn an_index_that_holds_itself_ends() {
    // By their digests, indexes cannot hold themselves; by their answers, they can seem to.
    let entry = |digest: &Digest, size: usize| {
        let kind = media_type::OCI_INDEX;
        format!(
            r#"{{"schemaVersion":2,"mediaType":"{kind}","manifests":[{{"mediaType":"{kind}","size":{size},"digest":"{digest}"}}]}}"#
        )
    };
    let mut indexes = vec![entry(&Digest::of(b"last"), 4)];
    for _ in 0..20 {
        let last = indexes.last().unwrap();
        indexes.push(entry(&Digest::of(last.as_bytes()), last.len()));
    }
    let server = Server::start(counting(move |_, request| {
        let wanted = request.path.rsplit('/').next().unwrap();
        let found = indexes.iter().find(|index| Digest::of(index.as_bytes()).to_string() == wanted);
        Reply::ok(found.or(indexes.last()).unwrap().as_bytes())
    }));
    let error = open(&server, "a:1").read_image().unwrap_err();
    assert!(matches!(error, StoreError::Nesting { .. }), "{error}");
}

#[test]
fn an_endless_complaint_is_cut_short() {
    let server = Server::start(counting(|_, _| Reply::status(400).endless()));
    let error = registry_error(open(&server, "a").read_image().unwrap_err());
    assert_eq!(error.status(), Some(400));
}

#[test]
fn what_a_registry_says_cannot_take_over_a_terminal() {
    let body = br#"{"errors":[{"code":"X\u001b[2J","message":"line\nline\u0007"}]}"#;
    let server = Server::start(counting(move |_, _| Reply::status(400).body(body)));
    let text = open(&server, "a").read_image().unwrap_err().to_string();
    assert!(text.ends_with("X[2J: lineline"), "{text:?}");
}

#[test]
fn redirects_that_do_not_end_are_given_up() {
    let server = Server::start(counting(|_, request| Reply::redirect(307, &request.path)));
    let error = registry_error(open(&server, "a").read_image().unwrap_err());
    assert!(matches!(error, Error::Redirect { .. }), "{error}");
    assert!(server.received().len() < 20);
}

#[test]
fn a_redirect_to_another_host_does_not_take_the_credentials_along() {
    let bytes = b"the bytes";
    let elsewhere = Arc::new(Server::start(|_| Reply::ok(bytes)));
    let target = elsewhere.url("/stored?signature=hush");
    let server = Server::start(move |request| match request.header("authorization") {
        Some(_) => Reply::redirect(307, &target),
        None => Reply::error(401, "UNAUTHORIZED").header("WWW-Authenticate", "Basic realm=\"x\""),
    });
    let image = open_with(&server, "a", BASIC);
    assert_eq!(read_blob(&image, &layer_of(bytes)), bytes);
    assert!(image.has_blob(&Digest::of(bytes), 9).unwrap());
    assert!(server.received().iter().all(|request| request.header("authorization") == Some(BASIC)));
    let seen = elsewhere.received();
    assert_eq!(seen.len(), 2);
    assert!(seen.iter().all(|request| request.header("authorization").is_none()), "{seen:?}");
}

#[test]
fn secrets_in_addresses_are_not_in_errors() {
    let server = Server::start(counting(|count, _| match count {
        0 => Reply::redirect(307, "/elsewhere?signature=hush"),
        _ => Reply::error(400, "BAD"),
    }));
    let error = open(&server, "a").open_blob(&layer_of(b"x")).map(drop).unwrap_err();
    let text = chain(&error);
    assert!(text.contains("/elsewhere") && !text.contains("hush"), "{text}");
}

#[test]
fn an_upload_that_goes_on_at_another_host_does_not_take_the_credentials_along() {
    let elsewhere = Server::start(|request| match request.method.as_str() {
        "PATCH" => Reply::status(202).header("Location", "/upload/1?state=2"),
        _ => Reply::status(201),
    });
    let target = elsewhere.url("/upload/1?state=1");
    let server = Server::start(move |request| match request.header("authorization") {
        Some(_) => Reply::status(202).header("Location", &target),
        None => Reply::status(401).header("WWW-Authenticate", "Basic"),
    });
    let image = open_with(&server, "a", BASIC);
    let blob = put_blob(&image, b"bytes");
    let seen = elsewhere.received();
    let digest = blob.digest.to_string().replace(':', "%3A");
    let lines: Vec<String> = seen.iter().map(Received::line).collect();
    let last = format!("PUT /upload/1?state=2&digest={digest}");
    assert_eq!(lines, ["PATCH /upload/1?state=1", &last]);
    assert_eq!(seen[0].body, b"bytes");
    assert!(seen.iter().all(|request| request.header("authorization").is_none()), "{seen:?}");
}

/// A registry that wants tokens, with its own token server. Tokens are good for `uses` requests.
fn token_registry(uses: usize) -> Server {
    let host = Arc::new(Mutex::new(String::new()));
    let (told, given) = (Arc::clone(&host), AtomicUsize::new(0));
    let used = AtomicUsize::new(0);
    let server = Server::start(move |request| {
        if request.path.starts_with("/token") {
            used.store(0, Ordering::SeqCst);
            let token =
                format!(r#"{{"token":"t{}","expires_in":3600}}"#, given.fetch_add(1, Ordering::SeqCst));
            return Reply::ok(token.as_bytes());
        }
        let current = given.load(Ordering::SeqCst).checked_sub(1).map(|last| format!("Bearer t{last}"));
        let is_good = current.is_some() && request.header("authorization") == current.as_deref();
        if is_good && used.fetch_add(1, Ordering::SeqCst) < uses {
            return Reply::ok(b"bytes");
        }
        let challenge = format!(r#"Bearer realm="http://{}/token",service="test""#, told.lock().unwrap());
        Reply::error(401, "UNAUTHORIZED").header("WWW-Authenticate", &challenge)
    });
    *host.lock().unwrap() = server.host();
    server
}

#[test]
fn a_token_is_used_until_it_is_refused_and_then_renewed_once() {
    let server = token_registry(2);
    let image = open_with(&server, "a/b", BASIC);
    for _ in 0..5 {
        assert!(image.has_blob(&Digest::of(b"bytes"), 5).unwrap());
    }
    let requests = server.received();
    let tokens: Vec<_> = requests.iter().filter(|request| request.path.starts_with("/token")).collect();
    assert_eq!(tokens.len(), 3);
    for token in tokens {
        assert_eq!(token.line(), "GET /token?service=test&scope=repository%3Aa%2Fb%3Apull");
        assert_eq!(token.header("authorization"), Some(BASIC));
    }
    // Five that went well, two that found their token worn out, three for tokens.
    assert_eq!(requests.len(), 5 + 2 + 3);
}

#[test]
fn a_registry_that_refuses_every_token_is_not_asked_forever() {
    let server = token_registry(0);
    let image = open_with(&server, "a", BASIC);
    let error = registry_error(image.has_blob(&Digest::of(b"bytes"), 5).map(drop).unwrap_err());
    assert!(matches!(error, Error::Unauthorized(_)), "{error}");
    assert_eq!(server.received().len(), 4);
}

#[test]
fn an_identity_token_buys_tokens_and_is_sent_nowhere_else() {
    let server = token_registry(9);
    let image = open_with(&server, "a", "X-Identity very&secret");
    assert!(image.has_blob(&Digest::of(b"bytes"), 5).unwrap());
    let seen = server.received();
    let form = String::from_utf8(seen[0].body.clone()).unwrap();
    assert_eq!(seen[0].line(), "POST /token");
    assert!(
        form.contains("grant_type=refresh_token&") && form.contains("refresh_token=very%26secret"),
        "{form}"
    );
    assert_eq!(seen[1].header("authorization"), Some("Bearer t0"));
}

#[test]
fn a_token_of_the_platform_goes_to_the_registry_as_it_is() {
    let server = Server::start(|request| match request.header("authorization") {
        Some("Bearer given") => Reply::ok(b"bytes"),
        _ => Reply::status(401).header("WWW-Authenticate", r#"Bearer realm="http://127.0.0.1:1/token""#),
    });
    let good = open_with(&server, "a", "Bearer given");
    assert!(good.has_blob(&Digest::of(b"bytes"), 5).unwrap());
    let bad = open_with(&server, "a", "Bearer other");
    let error = registry_error(bad.has_blob(&Digest::of(b"bytes"), 5).map(drop).unwrap_err());
    assert!(matches!(error, Error::Unauthorized(_)), "{error}");
}

#[test]
fn a_token_server_that_redirects_does_not_pass_the_credentials_on() {
    for (header, status) in
        [(BASIC, 302), (BASIC, 307), ("X-Identity secret", 307), ("X-Identity secret", 302)]
    {
        let thief = Server::start(|_| Reply::ok(br#"{"token":"t"}"#));
        let target = thief.url("/steal");
        let token_server = Server::start(move |_| Reply::redirect(status, &target));
        let realm = format!("Bearer realm=\"{}\"", token_server.url("/token"));
        let server = Server::start(move |request| match request.header("authorization") {
            Some("Bearer t") => Reply::ok(b"bytes"),
            _ => Reply::status(401).header("WWW-Authenticate", &realm),
        });
        // It may work or not; what counts is what the thief sees.
        drop(open_with(&server, "a", header).has_blob(&Digest::of(b"bytes"), 5));
        assert_eq!(token_server.received().len(), 1);
        for request in thief.received() {
            assert!(request.header("authorization").is_none() && request.body.is_empty(), "{request:?}");
        }
    }
}

#[test]
fn a_registry_with_tls_cannot_send_passwords_to_a_token_server_without() {
    let token_server = Server::start(|_| Reply::ok(br#"{"token":"t"}"#));
    let options =
        Options { with_tls: true, token_server: Some(token_server.url("/token?x=y")), ..Options::default() };
    let registry = DockerRegistry::start(options);
    let text = serde_json::json!({ registry.host(): BASIC }).to_string();
    let keychain = Keychain::new(vec![Source::Headers(Headers::parse(&text).unwrap())]);
    let trust = Trust { file: Some(registry.authority()), dirs: None };
    let client = Client::new(Settings { keychain, trust, ..hasty() });
    let error = registry_error(client.open(&registry.name("a")).unwrap().read_image().unwrap_err());
    assert!(matches!(error, Error::Realm { .. }), "{error}");
    assert!(error.to_string().contains(&token_server.url("/token")), "{error}");
    assert_eq!(token_server.lines(), Vec::<String>::new());
}

#[test]
fn a_challenge_of_another_kind_is_told() {
    let server = Server::start(|_| Reply::status(401).header("WWW-Authenticate", "Negotiate"));
    let text = open(&server, "a").read_image().unwrap_err().to_string();
    assert!(text.contains("Negotiate"), "{text}");
}

#[test]
fn an_upload_that_fails_under_way_says_so_and_is_given_up() {
    let server = Server::start(counting(|_, request| match request.method.as_str() {
        "POST" => Reply::status(202).header("Location", "/upload/1"),
        "PATCH" => Reply::error(500, "DISK_FULL"),
        _ => Reply::status(204),
    }));
    let mut sink = open(&server, "a").begin_blob().unwrap();
    sink.write_all(&noise(1000)).unwrap();
    let error = sink.commit(&Digest::of(&noise(1000)), 1000).unwrap_err();
    assert!(error.to_string().contains("DISK_FULL"), "{error}");
    assert_eq!(server.lines(), ["POST /v2/a/blobs/uploads/", "PATCH /upload/1", "DELETE /upload/1"]);
}

#[test]
fn a_server_that_hangs_up_on_an_upload_is_an_error_of_the_writer() {
    let server = Server::start(counting(|_, request| match request.method.as_str() {
        // Where nobody listens.
        "POST" => Reply::status(202).header("Location", "http://127.0.0.1:1/upload"),
        _ => Reply::status(204),
    }));
    let mut sink = open(&server, "a").begin_blob().unwrap();
    let chunk = noise(300_000);
    let error = (0..100).find_map(|_| sink.write_all(&chunk).err()).expect("a write fails");
    assert!(chain(&error).contains("PATCH http://127.0.0.1:1/upload"), "{}", chain(&error));
}

#[test]
fn an_answer_that_is_lost_does_not_lose_the_blob() {
    // The first end is lost; what the second is answered; whether the blob is there; whether all is well.
    for (second, is_there, is_good) in
        [(201, false, true), (404, true, true), (502, true, true), (502, false, false)]
    {
        let puts = AtomicUsize::new(0);
        let server = Server::start(counting(move |_, request| match request.method.as_str() {
            "POST" | "PATCH" => Reply::status(202).header("Location", "/upload/1"),
            "PUT" if puts.fetch_add(1, Ordering::SeqCst) == 0 => Reply::status(502),
            "PUT" => Reply::status(second),
            "HEAD" if is_there => Reply::ok(b"bytes"),
            _ => Reply::status(404),
        }));
        let mut sink = open(&server, "a").begin_blob().unwrap();
        sink.write_all(b"bytes").unwrap();
        assert_eq!(sink.commit(&Digest::of(b"bytes"), 5).is_ok(), is_good);
    }
}

#[test]
fn a_whole_upload_is_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::open_or_create(dir.path()).unwrap();
    let bytes = noise(500_000);
    let blob = put_blob(&layout, &bytes);
    let puts = AtomicUsize::new(0);
    let server = Server::start(counting(move |_, request| match request.method.as_str() {
        "POST" => Reply::status(202).header("Location", "/upload/1"),
        "PUT" if puts.fetch_add(1, Ordering::SeqCst) < 2 => Reply::error(503, "BUSY"),
        "PUT" => Reply::status(201),
        "DELETE" => Reply::status(204),
        _ => Reply::status(404),
    }));
    assert_eq!(open(&server, "a").copy_blob_from(&layout, &blob).unwrap(), Copied::Copied);
    let received = server.received();
    let whole: Vec<_> = received.iter().filter(|request| request.method == "PUT").collect();
    assert_eq!(whole.len(), 3);
    assert!(whole.iter().all(|put| put.body == bytes && put.header("content-length") == Some("500000")));
}

#[test]
fn a_mount_that_is_refused_becomes_an_upload() {
    for status in [202, 401, 403, 404, 405] {
        let server = Server::start(counting(move |_, request| match request.method.as_str() {
            "POST" if request.path.contains("mount=") => {
                Reply::error(status, "DENIED").header("Location", "/upload/mount")
            }
            "POST" => Reply::status(202).header("Location", "/upload/1"),
            "PUT" => Reply::status(201),
            "GET" => Reply::ok(b"bytes"),
            "DELETE" => Reply::status(204),
            _ => Reply::status(404),
        }));
        let client = hasty_client();
        let (from, to) =
            (client.open(&server.name("from")).unwrap(), client.open(&server.name("to")).unwrap());
        assert_eq!(to.copy_blob_from(&from, &layer_of(b"bytes")).unwrap(), Copied::Copied, "{status}");
        let mount = format!("POST /v2/to/blobs/uploads/?mount={}&from=from", layer_of(b"bytes").digest)
            .replace("sha256:", "sha256%3A");
        assert!(server.lines().contains(&mount), "{:?}", server.lines());
    }
}

#[test]
fn a_registry_that_stores_something_else_is_found_out() {
    let other = Digest::of(b"other").to_string();
    let server = Server::start(counting(move |_, request| match request.method.as_str() {
        "POST" => Reply::status(202).header("Location", "/upload/1"),
        "PUT" => Reply::status(201).header("Docker-Content-Digest", &other),
        _ => Reply::status(404),
    }));
    let image = image_of(&[], "amd64").encode().unwrap();
    let error = registry_error(open(&server, "a").put_image(&image, &[]).unwrap_err());
    assert!(matches!(error, Error::Stored { .. }), "{error}");
}

#[test]
fn a_tag_that_has_the_image_already_is_not_written_again() {
    let image = image_of(&[], "amd64").encode().unwrap();
    let (digest, config) = (image.manifest_digest.to_string(), image.config.clone());
    let server = Server::start(counting(move |_, request| match request.line().as_str() {
        "HEAD /v2/a/manifests/same" => Reply::status(200).header("Docker-Content-Digest", &digest),
        line if line.starts_with("HEAD /v2/a/blobs/") => Reply::ok(&config),
        line if line.starts_with("PUT ") => Reply::error(400, "TAG_IMMUTABLE"),
        _ => Reply::status(404),
    }));
    open(&server, "a").put_image(&image, &["same".to_owned()]).unwrap();
    assert!(open(&server, "a").put_image(&image, &["same".to_owned(), "new".to_owned()]).is_err());
    assert!(open(&server, "a").put_image(&image, &["../x".to_owned()]).is_err());
}

#[test]
fn access_is_checked_by_what_keeps_people_out() {
    for (status, may_read) in [(200, true), (404, true), (405, true), (500, true), (401, false), (403, false)]
    {
        let server = Server::start(counting(move |_, _| Reply::status(status)));
        assert_eq!(open(&server, "a").check_read().is_ok(), may_read, "{status}");
    }
    for (head, post, may_write) in
        [(404, 202, true), (404, 401, false), (404, 403, false), (403, 202, false), (200, 405, false)]
    {
        let server = Server::start(counting(move |_, request| match request.method.as_str() {
            "HEAD" => Reply::status(head),
            "POST" => Reply::status(post).header("Location", "/upload/1"),
            _ => Reply::status(204),
        }));
        assert_eq!(open(&server, "a").check_write().is_ok(), may_write, "{head} {post}");
        assert_eq!(server.lines().contains(&"DELETE /upload/1".to_owned()), may_write, "{head} {post}");
    }
}

#[test]
fn a_registry_elsewhere_is_reached_through_the_proxy_and_only_over_https() {
    let proxy = Server::start(|_| Reply::status(403));
    let proxies = Proxies { https: Some(proxy.url("")), ..Proxies::default() };
    let client = Client::new(Settings { proxies, ..hasty() });
    let error = client.open("registry.invalid/a").unwrap().read_image().unwrap_err();
    assert!(chain(&error).contains("https://registry.invalid/v2/"), "{}", chain(&error));
    assert_eq!(proxy.lines(), ["CONNECT registry.invalid:443"]);
}

#[test]
fn requests_say_who_asks_and_what_is_understood() {
    let server = Server::start(counting(|_, _| Reply::error(404, "MANIFEST_UNKNOWN")));
    let client = Client::new(Settings { user_agent: "tester/1".to_owned(), ..hasty() });
    client.open(&server.name("a")).unwrap().read_image().unwrap();
    let request = &server.received()[0];
    assert_eq!(request.header("user-agent"), Some("tester/1"));
    for kind in [
        media_type::OCI_MANIFEST,
        media_type::OCI_INDEX,
        media_type::DOCKER_MANIFEST,
        media_type::DOCKER_INDEX,
    ] {
        assert!(request.header("accept").unwrap().contains(kind), "{request:?}");
    }
}
