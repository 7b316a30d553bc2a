//! What tests of stores share: images, a registry of the system, and a server that misbehaves as told.
#![allow(dead_code, unreachable_pub, reason = "each test program uses a part")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

pub mod docker;
pub mod docker_registry;
pub mod podman;
pub mod server;

use std::io::{Read, Write};
use std::process::Command;
use std::time::Duration;

use strata_oci::{Descriptor, Digest, Image, Layer, media_type};
use strata_store::Store;
use strata_store::registry::{Client, Retry, Settings};

/// Bytes that do not repeat soon.
pub fn noise(size: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

pub fn layer_of(bytes: &[u8]) -> Descriptor {
    Descriptor::of(media_type::OCI_LAYER, bytes)
}

pub fn put_blob(store: &dyn Store, bytes: &[u8]) -> Descriptor {
    let mut sink = store.begin_blob().unwrap();
    sink.write_all(bytes).unwrap();
    sink.commit(&Digest::of(bytes), bytes.len() as u64).unwrap();
    layer_of(bytes)
}

pub fn read_blob(store: &dyn Store, descriptor: &Descriptor) -> Vec<u8> {
    let mut bytes = Vec::new();
    store.open_blob(descriptor).unwrap().expect("the blob is there").read_to_end(&mut bytes).unwrap();
    bytes
}

pub fn image_of(layers: &[&[u8]], architecture: &str) -> Image {
    let mut image = Image::empty("linux", architecture);
    for bytes in layers {
        let descriptor = layer_of(bytes);
        image.append(Layer { diff_id: descriptor.digest, descriptor, history: None });
    }
    // As it reads back: with the members that are always written.
    let encoded = image.encode().unwrap();
    Image::from_parts(&encoded.manifest, &encoded.config).unwrap()
}

/// Stores layers and the image that has them.
pub fn put(store: &dyn Store, layers: &[&[u8]], names: &[&str]) -> Image {
    layers.iter().for_each(|bytes| drop(put_blob(store, bytes)));
    let image = image_of(layers, "amd64");
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    store.put_image(&image.encode().unwrap(), &names).unwrap();
    image
}

/// Settings that do not wait long.
pub fn hasty() -> Settings {
    let pause = Duration::from_millis(10);
    Settings {
        retry: Retry { attempts: 3, first_pause: pause, longest_pause: pause },
        connect_timeout: Duration::from_secs(10),
        idle_timeout: Duration::from_secs(20),
        upload_timeout: Duration::from_secs(20),
        ..Settings::default()
    }
}

pub fn hasty_client() -> Client {
    Client::new(hasty())
}

/// An error and its causes in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// The output of a tool, which must be installed.
pub fn run(program: &str, args: &[&str]) -> String {
    let output =
        Command::new(program).args(args).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Compressed by zstd's own program.
pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    let output = Command::new("zstd").args(["--quiet", "--stdout"]).arg(file.path()).output();
    let output = output.unwrap_or_else(|error| panic!("this test needs zstd: {error}"));
    assert!(output.status.success());
    output.stdout
}
