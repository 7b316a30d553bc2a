//! Images in a Docker daemon: the Docker Engine API, over a socket or TCP.
//!
//! A [`Client`] is one daemon and one connection to it; an [`Image`] of it is one name. Nothing here reads the
//! environment: see [`Settings`].
//!
//! A daemon knows the layers of an image by the digests of their plain archives, and tells neither the configuration
//! byte for byte nor a manifest. So what [`Store::read_image`](crate::Store::read_image) gives are documents that say
//! the same: their digests are not the daemon's, `manifest_digest` is the id that the daemon has for the image, and the
//! descriptor of a layer has the digest of the plain archive and the size 0, for unknown.
//!
//! A daemon has no place for what lies beside images. It is remembered on this machine, where that is wanted, and can be given
//! to the daemon in a small image of its own, whose tag is the image's with `.origins` at its end.
//!
//! Layers are uncompressed on their way to the daemon, and not sent when it has them. They wait in files without names.

mod api;
mod archive;
mod beside;
mod connection;
mod describe;
mod error;
mod http;
mod image;
mod settings;
mod spool;

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use strata_oci::{Digest, Reference};

use connection::Tls;
pub use error::{Error, Exchange};
pub use image::Image;
use image::Name;
use settings::Host;
pub use settings::Settings;

/// A daemon. Clones share the one connection, over which goes one request after the other.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    settings: Settings,
    host: Host,
    tls: OnceLock<Option<Tls>>,
    connection: Mutex<Option<http::Connection>>,
    /// Whether there has been a connection.
    was_connected: AtomicBool,
    known_version: OnceLock<String>,
    uses_containerd: OnceLock<bool>,
    /// Ids of images that were stored, by the digests of their configurations; those that differ.
    ids: Mutex<HashMap<Digest, Digest>>,
}

impl Client {
    /// Nothing is connected to yet: see [`connect`](Self::connect).
    ///
    /// # Errors
    ///
    /// When the host cannot be understood.
    pub fn new(settings: Settings) -> Result<Self, Error> {
        let host = settings.host.as_deref().filter(|host| !host.is_empty());
        let host = host.map_or_else(|| Ok(Host::default()), Host::parse)?;
        let shared = Shared {
            settings,
            host,
            tls: OnceLock::new(),
            connection: Mutex::default(),
            was_connected: AtomicBool::default(),
            known_version: OnceLock::new(),
            uses_containerd: OnceLock::new(),
            ids: Mutex::default(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The image of this name or id, which need not exist. An id has 64 hexadecimal digits, with or without `sha256:`.
    ///
    /// # Errors
    ///
    /// When the text is neither.
    pub fn open(&self, name: &str) -> Result<Image, Error> {
        let hex = name.strip_prefix("sha256:").unwrap_or(name);
        let name = match Digest::from_hex(hex) {
            Ok(id) => Name::Id(id),
            Err(_not_an_id) => Name::Tag { reference: name.parse::<Reference>()?, written: name.to_owned() },
        };
        Ok(Image::new(self.clone(), name))
    }

    fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// Certificates and key, read when first needed.
    fn tls(&self) -> Result<Option<Tls>, Error> {
        if let Some(tls) = self.shared.tls.get() {
            return Ok(tls.clone());
        }
        let tls = connection::read_tls(&self.shared.host, &self.shared.settings)?;
        Ok(self.shared.tls.get_or_init(|| tls).clone())
    }

    fn ids(&self) -> std::sync::MutexGuard<'_, HashMap<Digest, Digest>> {
        self.shared.ids.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Client").field("host", &self.shared.host).finish_non_exhaustive()
    }
}
