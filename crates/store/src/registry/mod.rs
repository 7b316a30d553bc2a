//! Images in registries: the OCI distribution specification, over HTTP.
//!
//! A [`Client`] knows how to reach registries and keeps connections and tokens; an [`Image`] of it is one name. Nothing
//! here reads the environment: see [`Settings`].
//!
//! Registries are not trusted. Whatever comes from one is bounded and verified against its digest, and credentials go
//! to the registry they are for and to the token server it names, over HTTPS unless the registry itself does without.
//! No blob is ever held in memory or on disk.

mod address;
mod attestation;
mod auth;
pub mod credentials;
mod download;
mod endpoint;
mod error;
mod file;
mod http;
mod proxy;
mod referrers;
mod retry;
mod settings;
mod transport;
mod upload;

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use strata_oci::config::MAX_CONFIG_SIZE;
use strata_oci::manifest::MAX_MANIFEST_SIZE;
use strata_oci::{
    Descriptor, Digest, Document, Encoded, Image as OciImage, ManifestError, Platform, Reference, media_type,
};
use ureq::http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE};
use ureq::http::{HeaderName, Method};

use crate::select::{self, Documents};
use crate::{BlobSink, Copied, Medium, Store, StoreError, StoredImage, Tree, host_architecture};
pub use attestation::{Offered, Statement};
use auth::{Access, Scope};
use endpoint::Endpoint;
pub use error::{Error, Exchange, Problem, Refusal};
pub use file::{Download, Validators};
use http::{Answer, Http, Identity, Payload, Request};
use retry::persist;
pub use settings::{Proxies, Retry, Settings, Trust};

/// The digest of what an answer is about.
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
/// All documents that are understood.
const ACCEPTED: [&str; 4] =
    [media_type::OCI_MANIFEST, media_type::OCI_INDEX, media_type::DOCKER_MANIFEST, media_type::DOCKER_INDEX];

/// Knows how to reach registries. Clones share connections and tokens.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    http: Arc<Http>,
    found: Mutex<HashMap<String, credentials::Found>>,
    endpoints: Mutex<HashMap<(String, Identity), Arc<Endpoint>>>,
}

impl Client {
    /// Nothing is read or connected to yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let http = Arc::new(Http::new(settings));
        Self { shared: Arc::new(Shared { http, found: Mutex::default(), endpoints: Mutex::default() }) }
    }

    /// The image of this name, which need not exist.
    ///
    /// # Errors
    ///
    /// When the text is not the name of an image.
    pub fn open(&self, name: &str) -> Result<Image, Error> {
        Ok(self.image(name.parse()?, name))
    }

    /// The image of this name; whether its registry is insecure is decided by `written`, how a person wrote the name.
    #[must_use]
    pub fn image(&self, reference: Reference, written: &str) -> Image {
        let insecure = &self.shared.http.settings().insecure;
        let is_insecure =
            insecure.iter().any(|start| !start.is_empty() && written.starts_with(start.as_str()));
        let identity = if is_insecure { Identity::Assumed } else { Identity::Proven };
        let platform = Platform::new("linux", host_architecture());
        Image { client: self.clone(), reference, identity, platform, endpoint: Arc::default() }
    }

    /// Finds out the credentials for a registry now, rather than at the first request: later, this process may not be
    /// allowed to read them.
    ///
    /// # Errors
    ///
    /// When they are given in a form that is not understood.
    pub fn look_up_credentials(&self, registry: &str) -> Result<(), Error> {
        self.found(registry).map(drop)
    }

    fn found(&self, registry: &str) -> Result<credentials::Found, Error> {
        let settings = self.shared.http.settings();
        let mut known = self.shared.found.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known.get(registry) {
            return Ok(found.clone());
        }
        let found = settings.keychain.look_up(registry, &settings.stop)?;
        known.insert(registry.to_owned(), found.clone());
        Ok(found)
    }

    fn endpoint(&self, registry: &str, identity: Identity) -> Result<Arc<Endpoint>, Error> {
        let endpoints = || self.shared.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (registry.to_owned(), identity);
        if let Some(endpoint) = endpoints().get(&key) {
            return Ok(Arc::clone(endpoint));
        }
        // Not locked meanwhile: another registry need not wait for this one. Found out twice, it is the same.
        let http = Arc::clone(&self.shared.http);
        let endpoint = Arc::new(Endpoint::discover(http, registry, identity, self.found(registry)?)?);
        endpoints().insert(key, Arc::clone(&endpoint));
        Ok(endpoint)
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Client").field("settings", self.shared.http.settings()).finish()
    }
}

/// One name in a registry.
#[derive(Clone)]
pub struct Image {
    client: Client,
    reference: Reference,
    identity: Identity,
    platform: Platform,
    endpoint: Arc<OnceLock<Arc<Endpoint>>>,
}

impl Image {
    /// The name.
    #[must_use]
    pub fn reference(&self) -> &Reference {
        &self.reference
    }

    /// The same image, of an index the part for this platform. Default: Linux on this machine.
    #[must_use]
    pub fn for_platform(mut self, platform: Platform) -> Self {
        self.platform = platform;
        self
    }

    /// Makes sure that the image may be read; whether it is there is another question.
    ///
    /// # Errors
    ///
    /// When the registry cannot be reached, or does not let one in.
    pub fn check_read(&self) -> Result<(), StoreError> {
        match self.head_manifest(&self.reference.identifier(), &self.scope(Access::Pull)) {
            Ok(answer) if matches!(answer.status(), 401 | 403) => Err(self.refused(answer)),
            Ok(_) => Ok(()),
            // A registry that is out of order keeps nobody out.
            Err(Error::Status(refusal)) if refusal.status != 403 => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes sure that the image may be written, by beginning to write and giving it up.
    ///
    /// # Errors
    ///
    /// When the registry cannot be reached, or does not let one in.
    pub fn check_write(&self) -> Result<(), StoreError> {
        let scope = self.scope(Access::Push);
        let answer = self.head_manifest(&self.reference.identifier(), &scope)?;
        if matches!(answer.status(), 401 | 403) {
            return Err(self.refused(answer));
        }
        let upload = self.start_upload()?;
        self.cancel_upload(upload);
        Ok(())
    }

    /// Removes a manifest and with it all names it has. Idempotent.
    ///
    /// # Errors
    ///
    /// When the registry does not allow it.
    pub fn delete_manifest(&self, digest: &Digest) -> Result<(), StoreError> {
        let address = self.manifest_address(&digest.to_string())?;
        let mut request = Request::new(Method::DELETE, address);
        let answer = self.endpoint()?.send(&mut request, &self.scope(Access::Delete))?;
        match answer.status() {
            200..300 | 404 => Ok(()),
            _ => Err(self.refused(answer)),
        }
    }

    fn endpoint(&self) -> Result<&Endpoint, Error> {
        if let Some(endpoint) = self.endpoint.get() {
            return Ok(endpoint);
        }
        let endpoint = self.client.endpoint(self.reference.registry(), self.identity)?;
        Ok(self.endpoint.get_or_init(|| endpoint))
    }

    fn scope(&self, access: Access) -> Scope {
        Scope::new(self.reference.repository(), access)
    }

    /// For messages.
    fn place(&self) -> PathBuf {
        PathBuf::from(self.reference.to_string())
    }

    fn refused(&self, answer: Answer) -> StoreError {
        self.refusal(answer).into()
    }

    fn refusal(&self, answer: Answer) -> Error {
        answer.into_refusal(self.endpoint().map(Endpoint::looked_in).unwrap_or_default())
    }

    fn manifest_address(&self, identifier: &str) -> Result<ureq::http::Uri, Error> {
        let repository = self.reference.repository();
        self.endpoint()?.address(&format!("/v2/{repository}/manifests/{identifier}"))
    }

    fn blob_address(&self, digest: &Digest) -> Result<ureq::http::Uri, Error> {
        self.endpoint()?.address(&format!("/v2/{}/blobs/{digest}", self.reference.repository()))
    }

    fn head_manifest(&self, identifier: &str, scope: &Scope) -> Result<Answer, Error> {
        let request = Request::new(Method::HEAD, self.manifest_address(identifier)?);
        self.endpoint()?.send(&mut request.header(ACCEPT, ACCEPTED.join(", ")), scope)
    }

    /// A manifest or an index, verified; `None` when there is none.
    fn get_manifest(&self, identifier: &str) -> Result<Option<Fetched>, StoreError> {
        // An answer that breaks off is asked for again as a whole.
        let settings = self.endpoint()?.http().settings();
        let Some(fetched) = persist(settings, || self.try_get_manifest(identifier))? else { return Ok(None) };
        for expected in fetched.announced.into_iter().chain(identifier.parse()) {
            self.check(&fetched.bytes, &expected)?;
        }
        Ok(Some(fetched))
    }

    fn try_get_manifest(&self, identifier: &str) -> Result<Option<Fetched>, Error> {
        let request = Request::new(Method::GET, self.manifest_address(identifier)?);
        let mut request = request.header(ACCEPT, ACCEPTED.join(", "));
        let answer = self.endpoint()?.send_once(&mut request, &self.scope(Access::Pull))?;
        match answer.status() {
            200 => {}
            404 => return absent(answer),
            _ => return Err(self.refusal(answer)),
        }
        let announced = answer.header(CONTENT_DIGEST).and_then(|text| text.parse().ok());
        let kind =
            answer.header(CONTENT_TYPE).map(|kind| kind.split(';').next().unwrap_or("").trim().to_owned());
        Ok(Some(Fetched { bytes: answer.into_bytes(MAX_MANIFEST_SIZE)?, kind, announced }))
    }

    fn check(&self, bytes: &[u8], expected: &Digest) -> Result<(), StoreError> {
        let (found, size) = (Digest::of(bytes), bytes.len() as u64);
        if found == *expected {
            return Ok(());
        }
        let path = self.place();
        Err(StoreError::Corrupt { path, expected: *expected, expected_size: size, found, found_size: size })
    }

    fn check_size(&self, bytes: &[u8], expected: &Descriptor) -> Result<(), StoreError> {
        let found = bytes.len() as u64;
        if found == expected.size {
            return Ok(());
        }
        Err(StoreError::Size { path: self.place(), expected: expected.size, found })
    }

    /// The manifest of the one image that is asked for.
    fn select(&self, Fetched { bytes, kind, .. }: Fetched) -> Result<Vec<u8>, StoreError> {
        let document = Document::parse(&bytes, kind.as_deref());
        let document = document.map_err(|source| self.not_understood(source))?;
        let Document::Index(index) = document else { return Ok(bytes) };
        let mut found = select::Found::default();
        for entry in &index.manifests {
            select::expand(self, entry, None, 0, &mut found)?;
        }
        let fitting = select::for_platform(self, found.images, &self.platform)?;
        let Some((entry, _)) = fitting.into_iter().next() else { return Ok(bytes) };
        let chosen = self.manifest(&entry)?;
        chosen.ok_or_else(|| StoreError::Missing { path: self.place(), digest: entry.digest })
    }

    fn not_understood(&self, source: ManifestError) -> StoreError {
        StoreError::Manifest { path: self.place(), source }
    }

    /// A blob that is a document, whole and verified.
    fn read_document(&self, descriptor: &Descriptor, limit: u64) -> Result<Vec<u8>, StoreError> {
        if descriptor.size > limit {
            return Err(StoreError::TooLarge { path: self.place(), limit });
        }
        let reader = self.open_blob(descriptor)?;
        let mut reader =
            reader.ok_or_else(|| StoreError::Missing { path: self.place(), digest: descriptor.digest })?;
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).map_err(StoreError::io("read", &self.place()))?;
        Ok(bytes)
    }

    fn has_blob_within(&self, digest: &Digest, size: u64, scope: &Scope) -> Result<bool, StoreError> {
        let mut request = Request::new(Method::HEAD, self.blob_address(digest)?);
        let answer = self.endpoint()?.send(&mut request, scope)?;
        match answer.status() {
            200 => {
                let found = answer.header(CONTENT_LENGTH).and_then(|size| size.parse::<u64>().ok());
                Ok(found.is_none_or(|found| found == size))
            }
            404 => Ok(false),
            _ => Err(self.refused(answer)),
        }
    }

    /// What an image is put under: these tags, or what the name of this one says.
    fn identifiers(&self, names: &[String]) -> Result<Vec<String>, StoreError> {
        if names.is_empty() {
            return Ok(vec![self.reference.identifier()]);
        }
        let identifier = |name: &String| Ok(self.reference.with_tag(name).map_err(Error::from)?.identifier());
        names.iter().map(identifier).collect()
    }

    /// Stores a manifest or an index under a tag or its digest.
    fn put_manifest(
        &self,
        kind: &str,
        bytes: &[u8],
        digest: &Digest,
        identifier: &str,
    ) -> Result<(), StoreError> {
        let scope = self.scope(Access::Push);
        let there = self.head_manifest(identifier, &scope)?;
        let there = there.header(CONTENT_DIGEST).filter(|_| there.status() == 200);
        // A tag that may not be changed may still be given the image it has.
        if there == Some(digest.to_string().as_str()) {
            return Ok(());
        }
        self.send_manifest(kind, bytes, digest, identifier).map(drop)
    }

    /// The same, whatever is there already.
    fn send_manifest(
        &self,
        kind: &str,
        bytes: &[u8],
        digest: &Digest,
        identifier: &str,
    ) -> Result<Answer, StoreError> {
        let mut request = Request::new(Method::PUT, self.manifest_address(identifier)?)
            .header(CONTENT_TYPE, kind)
            .payload(Payload::Bytes(bytes));
        let answer = self.endpoint()?.send(&mut request, &self.scope(Access::Push))?;
        if !matches!(answer.status(), 200..300) {
            return Err(self.refused(answer));
        }
        check_stored(&answer, digest)?;
        Ok(answer)
    }
}

/// A manifest or an index, and the type it came as.
struct Fetched {
    bytes: Vec<u8>,
    kind: Option<String>,
    /// The digest that the registry says it has.
    announced: Option<Digest>,
}

impl std::fmt::Debug for Image {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { reference, platform, .. } = self;
        out.debug_struct("Image")
            .field("reference", reference)
            .field("platform", platform)
            .finish_non_exhaustive()
    }
}

impl Documents for Image {
    fn place(&self) -> PathBuf {
        self.place()
    }

    fn manifest(&self, entry: &Descriptor) -> Result<Option<Vec<u8>>, StoreError> {
        let found = self.get_manifest(&entry.digest.to_string())?;
        let check = |found: Fetched| self.check_size(&found.bytes, entry).map(|()| found.bytes);
        found.map(check).transpose()
    }

    fn config(&self, descriptor: &Descriptor) -> Result<Vec<u8>, StoreError> {
        self.read_document(descriptor, MAX_CONFIG_SIZE)
    }
}

impl Store for Image {
    fn read_image(&self) -> Result<Option<StoredImage>, StoreError> {
        let Some(fetched) = self.get_manifest(&self.reference.identifier())? else { return Ok(None) };
        let manifest = self.select(fetched)?;
        let parsed =
            strata_oci::Manifest::parse(&manifest, None).map_err(|source| self.not_understood(source))?;
        let config = self.read_document(&parsed.config, MAX_CONFIG_SIZE)?;
        let image = OciImage::from_parts(&manifest, &config)
            .map_err(|source| StoreError::Image { path: self.place(), source })?;
        Ok(Some(StoredImage { image, manifest_digest: Digest::of(&manifest), manifest, config }))
    }

    fn read_tree(&self) -> Result<Option<Tree>, StoreError> {
        match self.root()?.filter(|root| media_type::is_index(&root.media_type)) {
            Some(root) => select::tree(self, root).map(Some),
            None => Ok(None),
        }
    }

    fn root(&self) -> Result<Option<Descriptor>, StoreError> {
        let Some(fetched) = self.get_manifest(&self.reference.identifier())? else { return Ok(None) };
        let document = Document::parse(&fetched.bytes, fetched.kind.as_deref());
        let kind = match document.map_err(|source| self.not_understood(source))? {
            Document::Manifest(manifest) => manifest.media_type,
            // An index need not name its type itself; then the answer did.
            Document::Index(index) if index.media_type.is_empty() => {
                fetched.kind.unwrap_or_else(|| media_type::OCI_INDEX.to_owned())
            }
            Document::Index(index) => index.media_type,
        };
        Ok(Some(Descriptor::of(kind, &fetched.bytes)))
    }

    fn put_tree(&self, tree: &Tree, names: &[String]) -> Result<(), StoreError> {
        let identifiers = self.identifiers(names)?;
        let Some((root, below)) = tree.documents.split_last() else { return Ok(()) };
        let put = |(descriptor, bytes): &(Descriptor, Vec<u8>), identifier: &str| {
            self.put_manifest(&descriptor.media_type, bytes, &descriptor.digest, identifier)
        };
        below.iter().try_for_each(|document| put(document, &document.0.digest.to_string()))?;
        identifiers.iter().try_for_each(|identifier| put(root, identifier))
    }

    fn open_blob(&self, descriptor: &Descriptor) -> Result<Option<Box<dyn Read + Send>>, StoreError> {
        let Some(download) = self.download(descriptor)? else { return Ok(None) };
        let reader = strata_layer::VerifiedReader::new(download, descriptor.digest, descriptor.size);
        Ok(Some(Box::new(reader)))
    }

    fn has_blob(&self, digest: &Digest, size: u64) -> Result<bool, StoreError> {
        self.has_blob_within(digest, size, &self.scope(Access::Pull))
    }

    fn begin_blob(&self) -> Result<Box<dyn BlobSink>, StoreError> {
        Ok(Box::new(self.stream_upload()?))
    }

    fn put_image(&self, encoded: &Encoded, names: &[String]) -> Result<(), StoreError> {
        let identifiers = self.identifiers(names)?;
        self.upload_bytes(&encoded.config, &encoded.config_digest)?;
        let Encoded { media_type, manifest, manifest_digest, .. } = encoded;
        let mut identifiers = identifiers.iter();
        identifiers.try_for_each(|name| self.put_manifest(media_type, manifest, manifest_digest, name))
    }

    /// Those of the repository that the registry lists, or else those under the tag that is made of the digest.
    fn referrers(
        &self,
        subject: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>, StoreError> {
        self.find_referrers(subject, artifact_type)
    }

    fn read_referrer(&self, entry: &Descriptor) -> Result<Option<Tree>, StoreError> {
        select::lone_tree(self, entry)
    }

    /// What it refers to need not be there yet.
    fn put_referrer(&self, referrer: &Tree) -> Result<(), StoreError> {
        self.put_listed(referrer)
    }

    /// The subject need not be there yet.
    fn attach(
        &self,
        subject: &Descriptor,
        artifact_type: &str,
        media_type: &str,
        bytes: &[u8],
        annotations: &BTreeMap<String, String>,
    ) -> Result<Digest, StoreError> {
        let file = Descriptor::of(media_type, bytes);
        self.attach_file(subject, artifact_type, file, bytes, annotations)
    }

    fn identifier(&self, image: &StoredImage) -> String {
        self.reference.with_digest(image.manifest_digest).to_string()
    }

    fn medium(&self) -> Medium<'_> {
        Medium::Registry(self)
    }

    fn copy_blob_from(&self, other: &dyn Store, descriptor: &Descriptor) -> Result<Copied, StoreError> {
        self.upload_from(other, descriptor)
    }
}

/// A 404 of a registry means that there is nothing; another server's says nothing about images.
fn absent<T>(answer: Answer) -> Result<Option<T>, Error> {
    match answer.into_refusal(&[]) {
        Error::Status(refusal) if !refusal.problems.is_empty() => Ok(None),
        error => Err(error),
    }
}

/// Makes sure that the registry has understood what it was sent, as far as it says.
fn check_stored(answer: &Answer, expected: &Digest) -> Result<(), Error> {
    // A digest of another kind proves nothing.
    match answer.header(CONTENT_DIGEST).and_then(|text| text.parse().ok()) {
        Some(found) if found != *expected => {
            Err(Error::Stored { exchange: answer.exchange.clone(), expected: *expected, found })
        }
        _ => Ok(()),
    }
}
