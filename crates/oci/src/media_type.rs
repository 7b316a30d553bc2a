//! The media types of images, in the two families that exist, and questions about them.

/// OCI image manifest.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// OCI image index.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// OCI image configuration.
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// OCI layer, tar compressed with gzip.
pub const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// OCI layer, plain tar.
pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// OCI layer, tar compressed with zstd.
pub const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
/// Docker image manifest, version 2, schema 2.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Docker manifest list.
pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Docker image configuration.
pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
/// Docker layer, tar compressed with gzip.
pub const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
/// Docker layer, plain tar.
pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
/// Docker layer, tar compressed with zstd.
pub const DOCKER_LAYER_ZSTD: &str = "application/vnd.docker.image.rootfs.diff.tar.zstd";

/// Layers that registries may refuse to store: not distributable, or kept elsewhere.
const FOREIGN_LAYERS: [&str; 4] = [
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
];

/// One of the two sets of media types an image is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// `application/vnd.oci.image.…`
    Oci,
    /// `application/vnd.docker.…`
    Docker,
}

impl Family {
    /// The family of a manifest, index or configuration type.
    #[must_use]
    pub fn of(media_type: &str) -> Option<Self> {
        match media_type {
            OCI_MANIFEST | OCI_INDEX | OCI_CONFIG => Some(Self::Oci),
            DOCKER_MANIFEST | DOCKER_INDEX | DOCKER_CONFIG => Some(Self::Docker),
            _ => None,
        }
    }

    /// The manifest type.
    #[must_use]
    pub const fn manifest(self) -> &'static str {
        match self {
            Self::Oci => OCI_MANIFEST,
            Self::Docker => DOCKER_MANIFEST,
        }
    }

    /// The configuration type.
    #[must_use]
    pub const fn config(self) -> &'static str {
        match self {
            Self::Oci => OCI_CONFIG,
            Self::Docker => DOCKER_CONFIG,
        }
    }

    /// The type of a layer that is a plain tar archive.
    #[must_use]
    pub const fn layer(self) -> &'static str {
        match self {
            Self::Oci => OCI_LAYER,
            Self::Docker => DOCKER_LAYER,
        }
    }

    /// The type of a layer compressed with zstd.
    #[must_use]
    pub const fn layer_zstd(self) -> &'static str {
        match self {
            Self::Oci => OCI_LAYER_ZSTD,
            Self::Docker => DOCKER_LAYER_ZSTD,
        }
    }

    /// The type of a layer compressed with gzip.
    #[must_use]
    pub const fn layer_gzip(self) -> &'static str {
        match self {
            Self::Oci => OCI_LAYER_GZIP,
            Self::Docker => DOCKER_LAYER_GZIP,
        }
    }
}

/// Whether a document of this type lists manifests.
#[must_use]
pub fn is_index(media_type: &str) -> bool {
    matches!(media_type, OCI_INDEX | DOCKER_INDEX)
}

/// Whether a document of this type is the manifest of one image.
#[must_use]
pub fn is_manifest(media_type: &str) -> bool {
    matches!(media_type, OCI_MANIFEST | DOCKER_MANIFEST)
}

/// Whether a document of this type is the configuration of an image.
#[must_use]
pub fn is_config(media_type: &str) -> bool {
    matches!(media_type, OCI_CONFIG | DOCKER_CONFIG)
}

/// Whether a blob of this type is a layer of a file system, foreign ones included.
#[must_use]
pub fn is_layer(media_type: &str) -> bool {
    matches!(
        media_type,
        OCI_LAYER | OCI_LAYER_GZIP | OCI_LAYER_ZSTD | DOCKER_LAYER | DOCKER_LAYER_GZIP | DOCKER_LAYER_ZSTD
    ) || is_foreign_layer(media_type)
}

/// Whether a blob of this type is a layer that is kept elsewhere.
#[must_use]
pub fn is_foreign_layer(media_type: &str) -> bool {
    FOREIGN_LAYERS.contains(&media_type)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_is_of_one_kind() {
        for family in [Family::Oci, Family::Docker] {
            assert!(is_manifest(family.manifest()) && !is_index(family.manifest()));
            assert!(is_config(family.config()) && !is_layer(family.config()));
            for layer in [family.layer(), family.layer_gzip()] {
                assert!(is_layer(layer) && !is_manifest(layer));
            }
            assert_eq!(Family::of(family.manifest()), Some(family));
            assert_eq!(Family::of(family.config()), Some(family));
        }
        assert!(is_index(OCI_INDEX) && is_index(DOCKER_INDEX));
        assert_eq!(Family::of("text/plain"), None);
    }
}
