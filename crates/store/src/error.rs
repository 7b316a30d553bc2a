//! What can go wrong with stored images.

use std::io;
use std::path::{Path, PathBuf};

use strata_oci::{Digest, ImageError, ManifestError};

/// Why an image or a blob could not be read or stored.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The system refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A symbolic link or a device stands where a file or a directory of the layout should.
    #[error("cannot use {}: it is neither a regular file nor a directory of the layout", path.display())]
    Kind {
        /// What.
        path: PathBuf,
    },
    /// The file does not have the bytes its name promises.
    #[error("cannot use {}: expected {expected} with {expected_size} bytes, found {found} with {found_size} bytes", path.display())]
    Corrupt {
        /// The blob.
        path: PathBuf,
        /// Its digest.
        expected: Digest,
        /// Its size.
        expected_size: u64,
        /// Digest of what was read.
        found: Digest,
        /// Size of what was read.
        found_size: u64,
    },
    /// The file has another size than the one asked for.
    #[error("cannot use {}: expected {expected} bytes, found {found}", path.display())]
    Size {
        /// The file.
        path: PathBuf,
        /// Its size.
        expected: u64,
        /// What it is.
        found: u64,
    },
    /// More bytes than a document of this kind may have.
    #[error("cannot read {}: it is larger than {limit} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// How many are allowed.
        limit: u64,
    },
    /// A blob that must be there is not.
    #[error("cannot find blob {digest} in {}", path.display())]
    Missing {
        /// The layout.
        path: PathBuf,
        /// The blob.
        digest: Digest,
    },
    /// The index, or a manifest, cannot be understood.
    #[error("cannot understand {}", path.display())]
    Manifest {
        /// Where.
        path: PathBuf,
        /// Why.
        source: ManifestError,
    },
    /// The documents do not make an image.
    #[error("cannot understand the image in {}", path.display())]
    Image {
        /// Where.
        path: PathBuf,
        /// Why.
        source: ImageError,
    },
    /// `oci-layout` names a version that is not supported.
    #[error("cannot use {}: layout version {version:?} is not supported, only 1.0.0", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// What it says.
        version: String,
    },
    /// No image in the index is for the platform.
    #[error("cannot find an image for {wanted} in {}: there are {found:?}", path.display())]
    Platform {
        /// The layout.
        path: PathBuf,
        /// What is asked for.
        wanted: String,
        /// What there is.
        found: Vec<String>,
    },
    /// Several images fit.
    #[error("cannot choose an image in {}: name one of the tags {names:?}", path.display())]
    Ambiguous {
        /// The layout.
        path: PathBuf,
        /// Their tags.
        names: Vec<String>,
    },
    /// Indexes within indexes, too deep or too many.
    #[error("cannot read {}: its indexes are nested too deep or too wide", path.display())]
    Nesting {
        /// The layout.
        path: PathBuf,
    },
    /// An archive cannot be read.
    #[error("cannot read the archive {}", path.display())]
    Archive {
        /// The archive.
        path: PathBuf,
        /// Why not.
        source: strata_layer::LayerError,
    },
    /// An archive cannot be written.
    #[error("cannot write the archive {}", path.display())]
    ArchiveWrite {
        /// The archive.
        path: PathBuf,
        /// Why not.
        source: strata_layer::LayerError,
    },
    /// An archive is named that is no regular file.
    #[error("cannot read the archive {}: it is not a regular file", path.display())]
    NotAFile {
        /// What is named.
        path: PathBuf,
    },
    /// An archive as a whole is compressed.
    #[error("cannot read the archive {}: it is compressed as a whole", path.display())]
    Compressed {
        /// The archive.
        path: PathBuf,
    },
    /// A member of an archive is absent, or is not what it should be.
    #[error("cannot use {name} in the archive {}: {problem}", path.display())]
    Member {
        /// The archive.
        path: PathBuf,
        /// The member.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The archive has other images than the one asked for.
    #[error("cannot find an image of the name {wanted:?} in {}: there are {names:?}", path.display())]
    NoSuchName {
        /// The archive.
        path: PathBuf,
        /// What is asked for.
        wanted: String,
        /// What there is.
        names: Vec<String>,
    },
    /// An archive is either read or written.
    #[error("cannot write to {}: it was opened to be read", path.display())]
    ReadOnly {
        /// The archive.
        path: PathBuf,
    },
    /// An archive is either read or written.
    #[error("cannot read from {}: it is being written", path.display())]
    WriteOnly {
        /// The archive.
        path: PathBuf,
    },
    /// An archive could not be written before, so that it is useless now.
    #[error("cannot go on writing {}: an earlier part of it failed", path.display())]
    Broken {
        /// The archive.
        path: PathBuf,
    },
    /// This kind of place has images for one platform only.
    #[error("cannot store an index here: this kind of place has images for one platform only")]
    NoIndexes,
    /// This kind of place has images only.
    #[error("cannot keep anything beside an image here: only OCI layouts and registries can")]
    NoReferrers,
    /// What says what lies beside an image cannot be believed.
    #[error("cannot use what lies beside an image in {}: {reason}", path.display())]
    Companion {
        /// Where.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A document is to be listed among what refers to an image, and refers to nothing.
    #[error("cannot keep a document beside an image in {}: it refers to none", path.display())]
    NoSubject {
        /// Where.
        path: PathBuf,
    },
    /// The list of what refers to an image could not be changed.
    #[error("cannot list {digest} under the tag {tag} of {}: somebody else keeps changing the list", path.display())]
    Unlisted {
        /// The image.
        path: PathBuf,
        /// What was to be listed.
        digest: Digest,
        /// The list.
        tag: String,
    },
    /// Not the name of a place where images are.
    #[error(
        "cannot open image {0:?}: expected the name of an image, oci:<directory>[:<tag>], \
         oci-archive:<file>[:<tag>], docker-archive:<file>[:<name>], registry:<name> or docker:<name>"
    )]
    Source(String),
    /// Not a tag.
    #[error("cannot store an image under the name {0:?}: it is not a tag")]
    Name(String),
    /// A document could not be written.
    #[error("cannot write {}", path.display())]
    Encode {
        /// Where to.
        path: PathBuf,
        /// Why not.
        source: serde_json::Error,
    },
    /// An app is where a cache is to be written.
    #[error("cannot write a cache to {name}: there is an app image")]
    NotACache {
        /// The image.
        name: String,
    },
    /// A layer could not be made.
    #[error("cannot make the layer of the base image")]
    Layer(#[from] strata_layer::LayerError),
    /// A layer could not be written in another form.
    #[error("cannot convert layer {diff_id}")]
    Convert {
        /// Its diffID.
        diff_id: Digest,
        /// Why not.
        source: strata_layer::LayerError,
    },
    /// A layer could not be unpacked.
    #[error("cannot unpack layer {layer}")]
    Unpack {
        /// Its diffID.
        layer: Digest,
        /// Why not.
        source: strata_layer::LayerError,
    },
    /// The contents of a layer are not those that the image's configuration promises.
    #[error("cannot use layer {expected}: its contents are {found}")]
    DiffId {
        /// Its diffID, as the image says.
        expected: Digest,
        /// The digest of what was unpacked.
        found: Digest,
    },
    /// A layer of a cache could not be packed or unpacked.
    #[error("cannot {action} a layer of the cache {cache}")]
    CacheLayer {
        /// What was being done, as an infinitive.
        action: &'static str,
        /// The cache.
        cache: String,
        /// Why not.
        source: strata_layer::LayerError,
    },
    /// A registry could not be reached, or did not do what was asked.
    #[error(transparent)]
    Registry(Box<crate::registry::Error>),
    /// A Docker daemon could not be reached, or did not do what was asked.
    #[error(transparent)]
    Daemon(Box<crate::daemon::Error>),
}

impl From<crate::registry::Error> for StoreError {
    fn from(error: crate::registry::Error) -> Self {
        Self::Registry(Box::new(error))
    }
}

impl From<crate::daemon::Error> for StoreError {
    fn from(error: crate::daemon::Error) -> Self {
        Self::Daemon(Box::new(error))
    }
}

impl StoreError {
    /// What one can do about it, when somebody knows.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Registry(error) => error.hint(),
            Self::Daemon(error) => error.hint(),
            Self::Compressed { path } => Some(format!("decompress it first: gunzip {}", path.display())),
            Self::Unlisted { .. } => Some("try again".to_owned()),
            Self::NoReferrers => Some("copy the image to an OCI layout or a registry first".to_owned()),
            Self::NoIndexes => Some("choose one image with --platform".to_owned()),
            Self::Unpack { source: strata_layer::LayerError::Io { source, .. }, .. }
                if source.kind() == io::ErrorKind::PermissionDenied =>
            {
                Some(
                    "unpacked layers need a disk that overlayfs takes, which another overlay is not: \
                 name a folder on one with XDG_CACHE_HOME"
                        .to_owned(),
                )
            }
            _ => None,
        }
    }

    /// Whether what is stored is not what it should be, rather than out of reach.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        matches!(
            self,
            Self::Kind { .. }
                | Self::Corrupt { .. }
                | Self::Size { .. }
                | Self::TooLarge { .. }
                | Self::Missing { .. }
                | Self::Manifest { .. }
                | Self::Image { .. }
                | Self::Archive { .. }
                | Self::Member { .. }
                | Self::DiffId { .. }
        )
    }

    /// For `map_err`: what was being done to what.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}
