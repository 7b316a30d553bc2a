//! Images in one file: a tar archive of an OCI layout, or the one that `docker save` writes.
//!
//! An archive is read where it lies: its members are listed once, nothing is extracted. It is written from front to
//! end, with what makes the image visible last, so that it can go down a pipe. Equal images make equal archives.

mod docker;
mod members;
mod oci;
mod replace;
mod write;

pub use docker::DockerArchive;
pub use oci::OciArchive;
pub use write::{Format, Writer};

/// Where blobs wait that are on their way into a pipe.
pub(crate) const WAITING_ROOM: &str = "/var/tmp";
/// Lists the images of an archive that Docker reads.
const MANIFEST: &str = "manifest.json";
/// The whole name of an image, in the index of a layout; containerd's.
const IMAGE_NAME: &str = "io.containerd.image.name";

/// What lies beside an image is here in an archive of Docker's, of which no other program looks at it.
fn companion_name(id: &strata_oci::Digest) -> String {
    format!("strata/{}.tar", id.hex())
}

/// Where a blob is in an archive of a layout.
fn blob_name(digest: &strata_oci::Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}
