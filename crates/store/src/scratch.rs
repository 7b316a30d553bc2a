//! A base image made from nothing: enough for a static program that speaks TLS.

use std::io::Write as _;

use data_encoding::BASE64;
use strata_layer::{Compression, Content, GeneratedEntry, Owner, pack};
use strata_oci::{Descriptor, History, Image, Layer};

use crate::{Store, StoreError};

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// An image and its one layer.
#[derive(Clone, Debug)]
pub struct Scratch {
    /// The image.
    pub image: Image,
    /// The blob of its layer.
    pub layer: Vec<u8>,
}

impl Scratch {
    /// Stores layer and image.
    ///
    /// # Errors
    ///
    /// When the store refuses.
    pub fn put_in(&self, store: &dyn Store, names: &[String]) -> Result<(), StoreError> {
        for layer in self.image.layers() {
            let Descriptor { digest, size, .. } = &layer.descriptor;
            let mut sink = store.begin_blob()?;
            sink.write_all(&self.layer)
                .map_err(StoreError::io("write the base image to", std::path::Path::new(&digest.hex())))?;
            sink.commit(digest, *size)?;
        }
        let encoded = self
            .image
            .encode()
            .map_err(|source| StoreError::Image { path: "the base image".into(), source })?;
        store.put_image(&encoded, names)
    }
}

/// The base image for Linux on `architecture`, whose processes run as `uid:gid`, dated `created` (RFC 3339). The same
/// arguments give the same bytes.
///
/// # Errors
///
/// When the layer cannot be packed.
pub fn base(architecture: &str, uid: u32, gid: u32, created: &str) -> Result<Scratch, StoreError> {
    let mut blob = Vec::new();
    let source = strata_layer::Source::Generated(entries(uid, gid));
    let packed = pack(&source, Compression::Gzip, 1, &mut blob)?;
    let mut image = Image::empty("linux", architecture);
    image.append(Layer {
        descriptor: Descriptor::new(image.layer_media_type(), packed.digest, packed.size),
        diff_id: packed.diff_id,
        history: Some(History { created_by: Some("strata".to_owned()), ..History::default() }),
    });
    image.normalise_history(created);
    let config = image.config_mut();
    config.set_user(&format!("{uid}:{gid}"));
    config.set_env("PATH", PATH);
    config.set_env("SSL_CERT_FILE", CERTIFICATES);
    config.set_env("CNB_USER_ID", &uid.to_string());
    config.set_env("CNB_GROUP_ID", &gid.to_string());
    for (label, value) in [
        ("io.buildpacks.base.id", "build.strata.scratch"),
        ("io.buildpacks.base.distro.name", "strata-scratch"),
        ("io.buildpacks.base.distro.version", "1"),
        ("io.buildpacks.base.description", "Users, certificates and nothing else"),
        ("io.buildpacks.rebasable", "true"),
    ] {
        config.set_label(label, value);
    }
    Ok(Scratch { image, layer: blob })
}

fn entries(uid: u32, gid: u32) -> Vec<GeneratedEntry> {
    let dir = |name: &str, mode| (name.to_owned(), mode, Content::Dir);
    let file = |name: &str, text: String| (name.to_owned(), 0o644, Content::Bytes(text.into_bytes()));
    let root = Owner { uid: 0, gid: 0 };
    let user = Owner { uid: uid.into(), gid: gid.into() };
    let passwd = format!("root:x:0:0:root:/root:/sbin/nologin\ncnb:x:{uid}:{gid}::/home/cnb:/sbin/nologin\n");
    let os_release =
        "ID=strata-scratch\nVERSION_ID=1\nNAME=\"Strata scratch\"\nPRETTY_NAME=\"Strata scratch 1\"\n";
    let entries = [
        dir("/etc", 0o755),
        file("/etc/group", format!("root:x:0:\ncnb:x:{gid}:\n")),
        file("/etc/nsswitch.conf", "hosts: files dns\n".to_owned()),
        file("/etc/os-release", os_release.to_owned()),
        file("/etc/passwd", passwd),
        dir("/etc/ssl", 0o755),
        dir("/etc/ssl/certs", 0o755),
        file(CERTIFICATES, certificates()),
        dir("/home", 0o755),
        dir("/home/cnb", 0o755),
        dir("/tmp", 0o1777),
    ];
    entries
        .into_iter()
        .map(|(name, mode, content)| {
            let owner = if name == "/home/cnb" { user } else { root };
            GeneratedEntry { name, mode, owner, content }
        })
        .collect()
}

/// The roots of trust in PEM, sorted, each once.
fn certificates() -> String {
    let mut encoded: Vec<String> =
        webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().map(|der| BASE64.encode(der)).collect();
    encoded.sort();
    encoded.dedup();
    let mut pem = String::new();
    for certificate in encoded {
        pem.push_str("-----BEGIN CERTIFICATE-----\n");
        for (i, c) in certificate.chars().enumerate() {
            if i > 0 && i % 64 == 0 {
                pem.push('\n');
            }
            pem.push(c);
        }
        pem.push_str("\n-----END CERTIFICATE-----\n");
    }
    pem
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_arguments_give_the_same_image() {
        let make = || base("amd64", 1000, 1001, "1980-01-01T00:00:01Z").unwrap();
        let (one, two) = (make(), make());
        assert_eq!(one.layer, two.layer);
        assert_eq!(one.image.encode().unwrap(), two.image.encode().unwrap());
        strata_oci::validate(&one.image).unwrap();
        assert!(one.image.layers()[0].descriptor.matches(&one.layer));
        assert_eq!(one.image.config().user(), "1000:1001");
        assert!(certificates().matches("BEGIN CERTIFICATE").count() > 50);
        assert!(certificates().lines().all(|line| line.len() <= 64));
    }
}
